//! Options of `ashctl usage`.

use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::SessionRef;
use crate::cli::complete;
use crate::wire::Timestamp;
use crate::wire::quantity::TimeSpan;

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Usage {
    /// Of this agent only
    #[arg(long, value_name = "AGENT", add = complete::agents())]
    pub agent: Option<String>,
    /// Of this session only
    #[arg(long, value_name = "ID", add = complete::sessions())]
    pub session: Option<SessionRef>,
    /// Turns that were over then or later: a time, or how long ago, such as 7d
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// Turns that were over then or earlier, likewise
    #[arg(long, value_name = "TIME")]
    pub until: Option<Since>,
    /// What a line is of [default: agent, or session if one of the two is named]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub by: Option<UsageBy>,
}

/// What a line of `ashctl usage` is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum UsageBy {
    Agent,
    Session,
}

/// A time, as people give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The time itself.
    At(Timestamp),
    /// So long ago.
    Ago(TimeSpan),
}

impl Since {
    /// The time, if it is `now`.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => Timestamp(now.millis().saturating_sub_unsigned(span.0.saturating_mul(1000))),
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span = text.parse().map(Self::Ago);
        let day = format!("{text}T00:00:00Z");
        let at = text.parse().or_else(|_| day.parse()).map(Self::At);
        span.ok().or(at.ok()).ok_or_else(|| {
            format!("{text:?} is neither a time, such as 2026-01-31 or 2026-01-31T12:00:00Z, nor a length of time, such as 7d")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_as_such_or_as_how_long_ago() {
        let now = Timestamp(1_767_225_600_000);
        for (text, millis) in [
            ("2025-12-31", 1_767_139_200_000),
            ("2025-12-31T23:59:59Z", 1_767_225_599_000),
            ("7d", 1_767_225_600_000 - 7 * 86_400_000),
        ] {
            assert_eq!(text.parse::<Since>().map(|since| since.at(now)), Ok(Timestamp(millis)), "{text}");
        }
        for text in ["", "yesterday", "2025-13-01", "7"] {
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
    }
}
