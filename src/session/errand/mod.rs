//! Errands: messages that are taken to their end in a session when nobody waits there, as those of the queue are.
//!
//! What is stored, and when, is the business of whoever sends one; what its end means is a pure function (`verdict`).

mod verdict;

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Posted, SessionError, Sessions};
use crate::store::eval::Frozen;
use crate::store::{EventFilter, Pending, SessionRow, StoreError, TurnState};
use crate::wire::event::Kind;
use crate::wire::message::{IfBusy, MessageBody, TurnOptions};
use crate::wire::prompt_version::VersionRef;
use crate::wire::session::{CreateSession, SessionConfig, Status};
use crate::wire::{SessionId, TurnId};
pub use verdict::{Verdict, of_error, of_turn};

/// First and longest wait before what has to be stored is tried again.
const STORE_FIRST: Duration = Duration::from_millis(50);
const STORE_LONGEST: Duration = Duration::from_secs(5);
/// How long until a session that could not be ended is ended again.
const AGAIN: Duration = Duration::from_secs(1);
/// Bytes that are kept of an answer. The longest that models write has some 500 000.
const RESULT_MAX: usize = 1 << 20;

/// What was heard of a turn until it ended.
#[derive(Debug, Default)]
pub struct Answer {
    /// What the agent answered.
    pub result: Option<String>,
    /// How its session stood, if the turn was taken back for that.
    pub rests: Option<Status>,
}

/// Somebody's wait for the end of something that is read again whenever it may have come.
#[derive(Debug)]
pub struct Wait {
    over: watch::Receiver<()>,
    stop: CancellationToken,
    end: Instant,
}

impl Wait {
    /// So long at most, and no longer than until `stop`. Made before the first reading, so that nothing is missed.
    pub fn new(over: &watch::Sender<()>, stop: &CancellationToken, patience: Duration) -> Self {
        Self { over: over.subscribe(), stop: stop.clone(), end: Instant::now() + patience }
    }

    /// Waits until something may be over; `false`: the wait has ended.
    pub async fn goes_on(&mut self) -> bool {
        tokio::select! {
            changed = tokio::time::timeout_at(self.end, self.over.changed()) => matches!(changed, Ok(Ok(()))),
            () = self.stop.cancelled() => false,
        }
    }
}

impl Sessions {
    /// What an agent is now, with this version of its prompt, or else the active one.
    pub async fn freeze(&self, tenant: &str, agent: &str, version: Option<i64>) -> Result<Frozen, SessionError> {
        let row = self.agent(tenant, agent).await?;
        super::open::version(&self.context, &row.name, &row.digest)?;
        let store = &self.context.store;
        let version = match version {
            Some(number) => Some(store.get_prompt_version(tenant, agent, VersionRef::Number(number)).await?),
            None => store.active_prompt_version(tenant, agent).await?,
        };
        let (version, prompt) = version.map(|version| (version.number, version.system_prompt)).unzip();
        Ok(Frozen { digest: row.digest, version, prompt: prompt.flatten() })
    }

    /// The same as [`Self::create_as`], of what an agent was.
    pub async fn create_frozen(
        &self,
        tenant: &str,
        id: SessionId,
        body: CreateSession,
        frozen: Frozen,
    ) -> Result<SessionRow, SessionError> {
        self.create_of(tenant, id, body, Some(frozen)).await
    }

    /// Waits for the end of a turn. Where its session rests before it begins, takes it back: it might wait for ever.
    pub async fn see_through(&self, tenant: &str, session: SessionId, posted: &Posted) -> Result<Answer, SessionError> {
        // What a session comes to is told by events of no turn.
        let kinds = vec![Kind::TurnComplete, Kind::TurnEnded, Kind::Lifecycle];
        let filter = EventFilter { turn: None, kinds, bytes: None };
        let mut cursor = self.cursor(tenant, session, posted.first_event - 1, filter).await?;
        let mut answer = Answer::default();
        loop {
            let events = cursor.next().await?;
            if events.is_empty() {
                return Ok(answer);
            }
            for event in events {
                match event.kind {
                    Kind::Lifecycle if answer.rests.is_none() => {
                        answer.rests = self.rests(tenant, session, posted.turn).await?;
                        if answer.rests.is_some() {
                            self.end_turn(tenant, session, posted.turn).await?;
                        }
                    }
                    _ if event.turn != Some(posted.turn) => {}
                    Kind::TurnEnded => return Ok(answer),
                    _ => answer.result = result_of(&event.data).or(answer.result),
                }
            }
        }
    }

    /// How a session stands that gives a turn no time, if it had not begun. One that is over has ended its turns.
    async fn rests(&self, tenant: &str, session: SessionId, turn: TurnId) -> Result<Option<Status>, SessionError> {
        let status = self.get(tenant, session).await?.status;
        if matches!(status, Status::Active | Status::Ended) {
            return Ok(None);
        }
        // A daemon that died may have taken it back already.
        let state = self.turn(tenant, session, turn).await?.state;
        Ok(matches!(state, TurnState::Queued | TurnState::Cancelled).then_some(status))
    }

    /// Ends a turn, unless it is over.
    pub async fn end_turn(&self, tenant: &str, session: SessionId, turn: TurnId) -> Result<(), SessionError> {
        match self.cancel(tenant, session, turn).await {
            Err(error @ (SessionError::Store(_) | SessionError::Closing)) => Err(error),
            // Otherwise it is over.
            _ => Ok(()),
        }
    }

    /// Ends a session, which may never have been made, however often that fails.
    pub async fn end_surely(&self, tenant: &str, session: SessionId) {
        loop {
            match self.end(tenant, session).await {
                // It was never made, or is gone already.
                Ok(_) | Err(SessionError::NotFound) => return,
                Err(error) if of_error(&error) == Verdict::Unknown => {}
                Err(error) => {
                    tracing::warn!(session_id = %session, error = crate::report::chain(&error), "the session of an errand can not be ended now, retrying in {} s", AGAIN.as_secs());
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Does what the database has to do for the work of a service, however long it is away. `None` if it never will.
pub async fn patiently<'a, T>(whose: &str, what: impl Fn() -> Pending<'a, T>) -> Option<T> {
    let mut wait = STORE_FIRST;
    loop {
        match what().await {
            Ok(done) => return Some(done),
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(error = %error, whose, "work can not be stored now, retrying in {} ms", wait.as_millis());
            }
            Err(error) => {
                tracing::error!(error = %error, whose, "work can not be stored");
                return None;
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(STORE_LONGEST);
    }
}

/// What is kept of an answer, and whether it was longer.
pub fn cut(mut result: String) -> (Option<String>, bool) {
    let is_cut = result.len() > RESULT_MAX;
    result.truncate(result.floor_char_boundary(RESULT_MAX));
    (Some(result), is_cut)
}

/// The answer that an event tells of.
fn result_of(data: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Complete {
        result: Option<String>,
    }
    serde_json::from_str::<Complete>(data).ok()?.result
}

/// What a session for one message is made of.
pub fn body(agent: &str) -> CreateSession {
    CreateSession { agent: agent.to_owned(), model: None, system_prompt: None, extra_env: None, config: SessionConfig::default() }
}

/// A message of this text, which waits where others run.
pub fn message(prompt: &str) -> Result<MessageBody, SessionError> {
    let content = serde_json::value::to_raw_value(prompt);
    let content: Box<RawValue> =
        content.map_err(|error| SessionError::Invalid { field: "prompt".to_owned(), reason: error.to_string() })?;
    Ok(MessageBody { content, options: TurnOptions::default(), if_busy: IfBusy::Queue })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_is_cut_between_letters() {
        assert_eq!(cut("short".to_owned()), (Some("short".to_owned()), false));
        let (kept, is_cut) = cut("ä".repeat(RESULT_MAX));
        assert!(is_cut && kept.is_some_and(|kept| kept.len() == RESULT_MAX));
        let (kept, _) = cut(format!("x{}", "ä".repeat(RESULT_MAX)));
        assert_eq!(kept.map(|kept| kept.len()), Some(RESULT_MAX - 1));
    }
}
