//! Terminals of programs that run in a sandbox.

use serde::{Deserialize, Serialize};

/// Longest name of a kind of terminal; terminfo(5) has none of half of it.
pub const TERM_MAX: usize = 64;

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct TerminalSize {
    /// Lines, at least 1.
    pub rows: u16,
    /// Characters of a line, at least 1.
    pub cols: u16,
}

/// A terminal as its user has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Terminal {
    /// Its size.
    pub size: TerminalSize,
    /// Its kind, the variable `TERM` of what runs on it.
    pub term: String,
}

impl Default for TerminalSize {
    /// That of a VT100, which programs take where they know none.
    fn default() -> Self {
        Self { rows: 24, cols: 80 }
    }
}

impl TerminalSize {
    /// Whether anything can be shown on it.
    pub const fn is_some(self) -> bool {
        self.rows > 0 && self.cols > 0
    }
}

/// Whether this can name a kind of terminal: letters, digits and `+-._`.
pub fn is_term(text: &str) -> bool {
    (1..=TERM_MAX).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-._".contains(&c))
}
