//! What becomes of an item whose turn is over, or whose session said no.

use crate::credential::CredentialError;
use crate::session::SessionError;
use crate::store::{StoreError, TurnState};
use crate::wire::limits::Reached;
use crate::wire::session::Status;

/// What becomes of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The agent has answered.
    Completed,
    /// Somebody cancelled it.
    Cancelled,
    /// Another try would fail as this one did.
    Failed(String),
    /// Another try may do better.
    Again(String),
    /// This says nothing about the item: it is looked at again in a moment, or by the next daemon.
    Unknown,
}

/// Of the end of its turn, which was taken back where its session `rests`.
pub fn of_turn(state: TurnState, cause: Option<&str>, is_cancelling: bool, rests: Option<Status>) -> Verdict {
    let why = cause.unwrap_or("the turn ended without a cause").to_owned();
    match state {
        TurnState::Completed => Verdict::Completed,
        TurnState::Interrupted | TurnState::Cancelled if is_cancelling => Verdict::Cancelled,
        TurnState::Interrupted | TurnState::Cancelled if let Some(status) = rests => {
            Verdict::Again(format!("the session was {} while the message waited in it", status.as_str()))
        }
        // Who did that did not mean it to run after all.
        TurnState::Cancelled => Verdict::Failed(format!("the turn was cancelled: {why}")),
        TurnState::Interrupted if is_wanted(&why) => Verdict::Failed(format!("the turn was interrupted: {why}")),
        TurnState::Interrupted | TurnState::Failed if is_for_good(&why) => Verdict::Failed(why),
        TurnState::Interrupted | TurnState::Failed => Verdict::Again(why),
        TurnState::Queued | TurnState::Running => Verdict::Unknown,
    }
}

/// Whether somebody wanted the turn to end: by its name, or by what was done to its session or unit.
fn is_wanted(cause: &str) -> bool {
    matches!(cause, "interrupted" | "the session was ended") || cause.contains("(finished: ") || cause.contains("(operator: ")
}

/// Whether it was a limit, or a call that the model API will not take at another time either.
fn is_for_good(cause: &str) -> bool {
    if Reached::of_cause(cause).is_some() || cause.contains("(out_of_memory: ") || cause.contains("(time: ") {
        return true;
    }
    let Some((_, rest)) = cause.split_once("API Error: ") else { return false };
    let status: Option<u16> = rest.get(..3).and_then(|status| status.parse().ok());
    // Timeout, conflict and rate limit pass (RFC 9110 §15.5.9, §15.5.10; RFC 6585 §4).
    status.is_some_and(|status| matches!(status, 400..=499) && !matches!(status, 408 | 409 | 429))
}

/// Of an error before there was a turn, or while it ran.
pub fn of_error(error: &SessionError) -> Verdict {
    let why = error.to_string();
    match error {
        SessionError::Closing
        | SessionError::Store(StoreError::Unavailable(_))
        | SessionError::Credential(CredentialError::Store(_)) => Verdict::Unknown,
        SessionError::NotFound
        | SessionError::NoAgent(_)
        | SessionError::NoVersion { .. }
        | SessionError::Weak(_)
        | SessionError::Status(_)
        | SessionError::CanNot { .. }
        | SessionError::Over
        | SessionError::Invalid { .. }
        | SessionError::Credential(_)
        | SessionError::KeyReused
        | SessionError::NoTurn => Verdict::Failed(why),
        _ => Verdict::Again(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        use TurnState::{Cancelled, Completed, Failed, Interrupted, Running};
        let failed = |why: &str| Verdict::Failed(why.to_owned());
        let again = |why: &str| Verdict::Again(why.to_owned());
        for (state, cause, is_cancelling, wanted) in [
            (Completed, None, false, Verdict::Completed),
            (Completed, None, true, Verdict::Completed),
            (Interrupted, Some("interrupted"), true, Verdict::Cancelled),
            (Cancelled, Some("cancelled before it began"), true, Verdict::Cancelled),
            (Cancelled, Some("x"), false, failed("the turn was cancelled: x")),
            (Interrupted, Some("interrupted"), false, failed("the turn was interrupted: interrupted")),
            (
                Interrupted,
                Some("the sandbox ended while the turn ran (finished: it was stopped)"),
                false,
                failed("the turn was interrupted: the sandbox ended while the turn ran (finished: it was stopped)"),
            ),
            (Running, None, false, Verdict::Unknown),
            (Failed, None, false, again("the turn ended without a cause")),
        ] {
            assert_eq!(of_turn(state, cause, is_cancelling, None), wanted, "{state} {cause:?}");
        }
        for (state, is_cancelling, wanted) in [
            (Completed, false, Verdict::Completed),
            (Cancelled, true, Verdict::Cancelled),
            (Cancelled, false, again("the session was paused while the message waited in it")),
            (Interrupted, false, again("the session was paused while the message waited in it")),
            (Failed, false, again("x")),
        ] {
            assert_eq!(of_turn(state, Some("x"), is_cancelling, Some(Status::Paused)), wanted, "{state} in a paused session");
        }
        for cause in [
            "the sandbox ended while the turn ran (crash: its shim was ended by signal 9)",
            "the sandbox ended while the turn ran (host: the host went down)",
            "the turn was interrupted (host: the host goes down)",
            "API Error: Repeated 529 Overloaded errors.",
            "API Error: 500 x",
            "API Error: 429 too many",
            "the runtime exited with status 1",
        ] {
            for state in [Failed, Interrupted] {
                assert_eq!(of_turn(state, Some(cause), false, None), again(cause));
            }
        }
        for cause in [
            "budget: the session has 10 tokens, and 20 are spent",
            "API Error: 400; budget: 10 of 5 tokens are spent",
            "turn_time: the turn has run for 2 s, as long as it may",
            "the sandbox ended while the turn ran (out_of_memory: it was killed for its memory)",
            "Failed to authenticate. API Error: 401 invalid x-api-key",
            "API Error: 404 no such model",
        ] {
            assert_eq!(of_turn(Failed, Some(cause), false, None), failed(cause));
        }
    }

    #[test]
    fn an_agent_that_is_refused_is_not_tried_again_and_a_database_that_is_away_counts_for_nothing() {
        let away = StoreError::Unavailable("x".to_owned());
        for error in [SessionError::Closing, SessionError::Store(away.clone()), CredentialError::Store(away).into()] {
            assert_eq!(of_error(&error), Verdict::Unknown, "{error}");
        }
        let refused = [
            SessionError::NoAgent("x".to_owned()),
            SessionError::Status(Status::Paused),
            SessionError::Over,
            SessionError::NotFound,
        ];
        for error in refused {
            assert_eq!(of_error(&error), Verdict::Failed(error.to_string()));
        }
        for error in [SessionError::Open("x".to_owned()), SessionError::QueueFull(100)] {
            assert_eq!(of_error(&error), Verdict::Again(error.to_string()));
        }
    }
}
