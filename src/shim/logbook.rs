//! The last lines that were said in a sandbox, for whoever asks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::link::shim::{LogLevel, LogLine};

/// Lines that are kept, as in the system whose clients are served.
const LINES_MAX: usize = 10_000;
/// Bytes of all of them. Most shims keep a few hundred.
const BYTES_MAX: usize = 2 << 20;
/// Longest line, in characters.
const LINE_MAX: usize = 1024;

/// Cheap to clone.
///
/// Its lines are numbered from the millisecond of the epoch in which it is begun. So those of a session's next sandbox have
/// higher numbers, and who follows a session by them misses nothing.
#[derive(Debug, Clone)]
pub struct Logbook(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// Of the next line.
    index: u64,
}

impl Logbook {
    /// An empty one, begun now.
    pub fn new() -> Self {
        Self::of(now().unsigned_abs())
    }

    fn of(index: u64) -> Self {
        Self(Arc::new(Mutex::new(Kept { lines: VecDeque::new(), bytes: 0, index })))
    }

    /// Writes a line down, and forgets the oldest if there are too many.
    pub fn add(&self, level: LogLevel, text: &str) {
        let text: String = text.chars().take(LINE_MAX).collect();
        // Its parts agree between any two lines.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += text.len();
        let line = LogLine { index: kept.index, level, text, at: now() };
        kept.lines.push_back(line);
        kept.index += 1;
        while kept.lines.len() > LINES_MAX || kept.bytes > BYTES_MAX {
            let Some(forgotten) = kept.lines.pop_front() else { return };
            kept.bytes -= forgotten.text.len();
        }
    }

    /// The lines behind one, or all that are kept, also if that one can only be of an earlier sandbox whose clock was ahead.
    pub fn after(&self, index: Option<u64>) -> Vec<LogLine> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = index.filter(|index| *index < kept.index);
        kept.lines.iter().filter(|line| index.is_none_or(|index| line.index > index)).cloned().collect()
    }
}

/// Milliseconds of the epoch.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_within_their_bounds_and_keep_their_numbers() {
        let book = Logbook::of(0);
        for n in 0..LINES_MAX + 5 {
            book.add(LogLevel::Stderr, &n.to_string());
        }
        let lines = book.after(None);
        assert_eq!((lines.len(), lines[0].index, &lines[0].text[..]), (LINES_MAX, 5, "5"));
        assert_eq!(book.after(Some(LINES_MAX as u64 + 3)).len(), 1);
        assert!(book.after(Some(LINES_MAX as u64 + 4)).is_empty());
        for _ in 0..BYTES_MAX / LINE_MAX + 5 {
            book.add(LogLevel::System, &"x".repeat(2 * LINE_MAX));
        }
        assert_eq!(book.after(None).len(), BYTES_MAX / LINE_MAX);
    }
    #[test]
    fn who_knows_lines_of_an_earlier_book_gets_all_of_the_next() {
        let (earlier, next, ahead) = (Logbook::of(1_000), Logbook::of(2_000), Logbook::of(3_000));
        let [known, _, unknown] = [&earlier, &next, &ahead].map(|book| {
            book.add(LogLevel::Stderr, "said");
            book.after(None)[0].index
        });
        for index in [known, unknown] {
            assert_eq!(next.after(Some(index)).len(), 1, "{index}");
        }
        let (begun, book) = (now().unsigned_abs(), Logbook::new());
        book.add(LogLevel::Stderr, "said");
        assert!(book.after(None)[0].index >= begun);
    }
}
