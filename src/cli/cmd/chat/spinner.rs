//! A sign of life on the terminal while nothing comes.
//!
//! The line is drawn no longer than its text: the terminal echoes `^C` behind it, and behind a
//! line as wide as the screen that would begin another, which could not be taken away.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::cli::output::one_line;

/// Time from one picture to the next.
pub(super) const TICK: Duration = Duration::from_millis(100);

const PICTURES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// CR and "erase in line" of ECMA-48.
const ERASE: &str = "\r\x1b[2K";

/// A line that moves. It needs a terminal.
pub(super) struct Spinner<W> {
    terminal: W,
    columns: usize,
    shown: Option<Shown>,
}

struct Shown {
    what: String,
    since: Instant,
}

impl<W: Write> Spinner<W> {
    pub(super) fn new(terminal: W, columns: u16) -> Self {
        Self { terminal, columns: columns.into(), shown: None }
    }

    pub(super) fn is_shown(&self) -> bool {
        self.shown.is_some()
    }

    /// Shows that `what` goes on since now.
    pub(super) fn show(&mut self, what: &str) {
        self.shown = Some(Shown { what: what.to_owned(), since: Instant::now() });
        self.draw();
    }

    /// Draws the picture of this moment, if anything is shown.
    pub(super) fn draw(&mut self) {
        let Some(Shown { what, since }) = &self.shown else { return };
        let elapsed = since.elapsed();
        let picture = PICTURES[usize::try_from(elapsed.as_millis() / TICK.as_millis()).unwrap_or(0) % PICTURES.len()];
        let secs = elapsed.as_secs();
        let text = if secs == 0 { what.clone() } else { format!("{what} {secs}s") };
        // Room for the picture, a space, and the echo of Ctrl-C.
        let text = one_line(&text, self.columns.saturating_sub(5));
        // Nobody misses a sign of life on a terminal that is gone.
        drop(write!(self.terminal, "{ERASE}{picture} {text}").and_then(|()| self.terminal.flush()));
    }

    /// Takes it away.
    pub(super) fn hide(&mut self) {
        if self.shown.take().is_some() {
            drop(write!(self.terminal, "{ERASE}").and_then(|()| self.terminal.flush()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_leaves_nothing_behind_and_room_for_an_echo() {
        let mut terminal = Vec::new();
        let mut spinner = Spinner::new(&mut terminal, 20);
        spinner.draw();
        spinner.hide();
        spinner.show("running a tool with a long name");
        spinner.draw();
        spinner.hide();
        spinner.hide();
        drop(spinner);
        let text = String::from_utf8(terminal).expect("text");
        let lines: Vec<&str> = text.split(ERASE).collect();
        assert_eq!(lines.len(), 4, "{text:?}");
        assert!(lines[1..3].iter().all(|line| line.chars().count() <= 18 && line.ends_with('…')), "{text:?}");
        assert_eq!((lines[0], lines[3]), ("", ""));
    }
}
