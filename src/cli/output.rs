//! What goes to the terminal: results on standard output, talk on standard error.

use std::io::{self, IsTerminal as _, Write};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

use super::args::Format;
use super::error::CliError;
use crate::wire::Timestamp;

/// Less important than what stands around it.
pub const DIM: Style = Style::new().dimmed();
/// What the eye should find.
pub const BOLD: Style = Style::new().bold();
/// Good.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// Not good, not bad.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
/// Bad.
pub const RED: Style = AnsiColor::Red.on_default();

/// Width of what is no terminal.
const DEFAULT_COLUMNS: u16 = 100;

/// The two streams, and how to print on them.
pub struct Output {
    /// What the user asked for.
    pub format: Format,
    /// Whether a person reads standard output as it is written.
    pub out_is_terminal: bool,
    /// Whether a person reads standard error as it is written.
    pub talk_is_terminal: bool,
    /// Results. Colours are dropped where they do not belong.
    pub out: AutoStream<io::Stdout>,
    /// Talk.
    pub talk: AutoStream<io::Stderr>,
}

impl Output {
    /// The process's own streams.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            out_is_terminal: io::stdout().is_terminal(),
            talk_is_terminal: io::stderr().is_terminal(),
            out: anstream::stdout(),
            talk: anstream::stderr(),
        }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints a line of the result.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn line(&mut self, line: impl std::fmt::Display) -> Result<(), CliError> {
        writeln!(self.out, "{line}").and_then(|()| self.out.flush()).map_err(CliError::Output)
    }

    /// Prints a JSON document, indented.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn json(&mut self, value: &Value) -> Result<(), CliError> {
        self.line(format_args!("{value:#}"))
    }

    /// Prints what a command on several things gave: the one, or all in an array. Nothing if the
    /// output is not JSON.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn documents(&mut self, mut values: Vec<Value>) -> Result<(), CliError> {
        match (self.is_json(), values.len()) {
            (false, _) => Ok(()),
            (true, 1) => self.json(&values.remove(0)),
            (true, _) => self.json(&Value::Array(values)),
        }
    }

    /// Says something beside the result. It does not matter if nobody hears.
    pub fn say(&mut self, line: impl std::fmt::Display) {
        drop(writeln!(self.talk, "{line}"));
    }

    /// Says something that is no news to a program.
    pub fn whisper(&mut self, line: impl std::fmt::Display) {
        if self.talk_is_terminal {
            self.say(format_args!("{DIM}{line}{DIM:#}"));
        }
    }

    /// Prints rows in columns, as wide as the terminal at most.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn table<const N: usize>(&mut self, head: [&str; N], rows: Vec<[String; N]>) -> Result<(), CliError> {
        let width = self.out_is_terminal.then(columns);
        let text = table(head, rows, width);
        self.line(text)
    }

    /// Prints names and values below each other.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn fields(&mut self, fields: &[(&str, String)]) -> Result<(), CliError> {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
        for (name, value) in fields {
            let name = format!("{name}:");
            self.line(format_args!("{DIM}{name:width$}{DIM:#} {}", clean(value)))?;
        }
        Ok(())
    }
}

/// The width of the terminal that talk goes to.
pub fn columns() -> u16 {
    let found = terminal_size::terminal_size_of(io::stdout()).or_else(|| terminal_size::terminal_size_of(io::stderr()));
    found.map_or(DEFAULT_COLUMNS, |(width, _)| width.0.max(20))
}

fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(head);
    for row in rows {
        table.add_row(row.map(|cell| clean(&cell)));
    }
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// A text without what would move the cursor or colour the screen: agents write what they like, and
/// a terminal obeys what it is sent.
pub fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// A text on one line of at most `width` letters.
pub fn one_line(text: &str, width: usize) -> String {
    let folded = clean(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if folded.chars().count() <= width {
        return folded;
    }
    folded.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// How long ago `then` was, as a person would say it; a date once that says more.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let secs = (now.millis() - then.millis()).div_euclid(1000);
    match secs {
        ..5 => "just now".into(),
        5..MINUTE => format!("{secs}s ago"),
        MINUTE..HOUR => format!("{}m ago", secs / MINUTE),
        HOUR..DAY => format!("{}h ago", secs / HOUR),
        DAY.. if secs < 30 * DAY => format!("{}d ago", secs / DAY),
        _ => then.to_string().chars().take(10).collect(),
    }
}

/// A length of time, as a person would say it.
pub fn duration(secs: i64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, _) => format!("{minutes}m {}s", secs % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// The present.
pub fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

/// The first twelve digits of a digest, as many as a person compares.
pub fn short_digest(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        let now = Timestamp(1_767_225_600_000);
        for (secs, text) in [
            (-3600, "just now"),
            (0, "just now"),
            (59, "59s ago"),
            (60, "1m ago"),
            (3599, "59m ago"),
            (7200, "2h ago"),
            (86_400, "1d ago"),
            (29 * 86_400, "29d ago"),
            (31 * 86_400, "2025-12-01"),
        ] {
            assert_eq!(ago(Timestamp(now.0 - secs * 1000), now), text);
        }
    }

    #[test]
    fn durations_have_two_parts_at_most() {
        for (secs, text) in [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3600, "1h 0m"), (90_000, "1d 1h")] {
            assert_eq!(duration(secs), text);
        }
    }

    #[test]
    fn terminals_get_no_orders_from_agents() {
        assert_eq!(clean("a\u{1b}[2J\u{7}b\tc\nd\u{9b}e"), "a[2Jb\tc\nde");
        assert_eq!(one_line("  two\n lines ", 20), "two lines");
        assert_eq!(one_line("ein Würfelspiel", 6), "ein W…");
    }

    #[test]
    fn tables_have_aligned_columns_and_no_blanks_at_the_end() {
        let rows = vec![["a".into(), "1".into()], ["long name".into(), String::new()]];
        assert_eq!(table(["NAME", "N"], rows, None), "NAME       N\na          1\nlong name");
    }

    #[test]
    fn tables_fit_the_terminal() {
        let rows = vec![["word ".repeat(30), "x".into()]];
        let text = table(["NAME", "N"], rows, Some(40));
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.chars().count() <= 40), "{text}");
    }
}
