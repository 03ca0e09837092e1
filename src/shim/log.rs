//! What programs inside say on standard error: to the journal, bounded, and kept for error texts.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::time::Instant;

use super::logbook::Logbook;
use crate::link::shim::LogLevel;

/// Longest part of a line that is logged.
const LINE_MAX: usize = 1024;
/// Lines that are logged in one [`WINDOW`]; more are only counted.
const LINES_PER_WINDOW: u32 = 200;
const WINDOW: Duration = Duration::from_secs(10);
/// Lines that are kept, and characters of each.
const TAIL_LINES: usize = 6;
const TAIL_LINE_MAX: usize = 300;

/// Reads lines to the end and logs them; returns the last ones.
///
/// `source` names who speaks, as a field of the log line.
pub async fn lines(from: impl AsyncRead + Unpin, source: &'static str) -> String {
    noted_lines(from, source, None).await
}

/// As [`lines`], and writes them into a book.
pub async fn noted_lines(from: impl AsyncRead + Unpin, source: &'static str, book: Option<Logbook>) -> String {
    let mut from = BufReader::with_capacity(8 << 10, from);
    let mut tail = VecDeque::new();
    let mut rate = Rate::new(Instant::now());
    let mut line = Vec::new();
    while let Ok(true) = read_line(&mut from, &mut line).await {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            continue;
        }
        if let Some(book) = &book {
            book.add(LogLevel::Stderr, text);
        }
        match rate.admit(Instant::now()) {
            Some(0) => tracing::info!(source, "{}", escaped(text)),
            Some(suppressed) => tracing::info!(source, suppressed, "{}", escaped(text)),
            None => {}
        }
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(text.chars().take(TAIL_LINE_MAX).collect::<String>());
    }
    Vec::from(tail).join("\n")
}

/// Control characters of strangers do not belong on an operator's terminal.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() && c != '\t' { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Reads one line, of which no more than [`LINE_MAX`] bytes are kept. False at the end.
async fn read_line<R: AsyncRead + Unpin>(from: &mut BufReader<R>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = chunk.iter().position(|b| *b == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        line.extend(part.iter().take(LINE_MAX - line.len().min(LINE_MAX)));
        let used = end.map_or(chunk.len(), |end| end + 1);
        from.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Admits a number of lines in each window.
#[derive(Debug)]
struct Rate {
    since: Instant,
    admitted: u32,
    suppressed: u32,
}

impl Rate {
    const fn new(now: Instant) -> Self {
        Self { since: now, admitted: 0, suppressed: 0 }
    }

    /// How many lines were suppressed before this one; `None` if this one is, too.
    fn admit(&mut self, now: Instant) -> Option<u32> {
        if now.duration_since(self.since) >= WINDOW {
            self.since = now;
            self.admitted = 0;
        }
        if self.admitted == LINES_PER_WINDOW {
            self.suppressed += 1;
            return None;
        }
        self.admitted += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_and_long_ones_cut() {
        let mut text = (0..20).map(|n| format!("line {n}\n")).collect::<String>();
        text.push_str(&"x".repeat(1 << 20));
        text.push_str("\n\nlast");
        let tail = lines(text.as_bytes(), "test").await;
        let tail: Vec<_> = tail.split('\n').collect();
        assert_eq!(tail.len(), TAIL_LINES);
        assert_eq!((tail[0], tail[3], tail[5]), ("line 16", "line 19", "last"));
        assert_eq!(tail[4], "x".repeat(TAIL_LINE_MAX));
    }

    #[test]
    fn a_flood_is_counted_and_not_logged() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let admitted = (0..1000).filter(|_| rate.admit(start).is_some()).count();
        assert_eq!(admitted, LINES_PER_WINDOW as usize);
        assert_eq!(rate.admit(start + WINDOW), Some(800));
        assert_eq!(rate.admit(start + WINDOW), Some(0));
    }

    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(escaped("a\u{1b}[31mb\tc"), "a\\u{1b}[31mb\tc");
    }
}
