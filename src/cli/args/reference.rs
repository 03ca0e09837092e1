//! How sessions and schedules are named on the command line.

use std::fmt;
use std::str::FromStr;

use crate::wire::{EvalCaseId, EvalResultId, EvalRunId, ScheduleId, SessionId};

/// The one that was active, made or started last.
const LAST: &str = "@last";
/// Shortest beginning of an id.
const PREFIX_LETTERS: usize = 4;
/// All of an id.
const ID_LETTERS: usize = 36;

/// A thing as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ref<T> {
    /// By its id.
    Id(T),
    /// By the beginning of its id.
    Prefix(String),
    /// As the last one: `@last`.
    Last,
}

/// A session; the last one is that which was active last, of those that take messages.
pub type SessionRef = Ref<SessionId>;
/// A case of an agent's evals; the last one is that which was made last.
pub type CaseRef = Ref<EvalCaseId>;
/// A run of an agent's evals; the last one is that which was started last.
pub type RunRef = Ref<EvalRunId>;
/// A result of such a run; the last one is that of its last case.
pub type ResultRef = Ref<EvalResultId>;

/// A schedule; the last one is that which was made last.
pub type ScheduleRef = Ref<ScheduleId>;

/// What can be named so.
pub trait Named {
    /// What it is, with its article.
    const WHAT: &str;
}

impl Named for SessionId {
    const WHAT: &str = "a session";
}

impl Named for ScheduleId {
    const WHAT: &str = "a schedule";
}

impl Named for EvalCaseId {
    const WHAT: &str = "a case";
}

impl Named for EvalRunId {
    const WHAT: &str = "a run";
}

impl Named for EvalResultId {
    const WHAT: &str = "a result";
}

/// A text that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no id of {0}, nor {PREFIX_LETTERS} letters or more of the beginning of one, nor {LAST}")]
pub struct RefError(&'static str);

impl<T: FromStr + Named> FromStr for Ref<T> {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        if text == LAST {
            return Ok(Self::Last);
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let is_prefix = (PREFIX_LETTERS..ID_LETTERS).contains(&text.len())
            && text.bytes().all(|letter| letter.is_ascii_hexdigit() || letter == b'-');
        is_prefix.then(|| Self::Prefix(text.to_ascii_lowercase())).ok_or(RefError(T::WHAT))
    }
}

impl<T: fmt::Display> fmt::Display for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Prefix(prefix) => f.write_str(prefix),
            Self::Last => f.write_str(LAST),
        }
    }
}
