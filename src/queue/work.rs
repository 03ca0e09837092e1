//! A worker: takes one item from where it stands to its end.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Queue;
use crate::fault::{self, Point};
use crate::session::SessionError;
use crate::session::errand::{self, Verdict, cut, patiently};
use crate::store::queue::{ItemRow, Then, Tried};
use crate::store::{StoreError, TurnKey, TurnRow, now};
use crate::telemetry::trace::{self, TraceContext};
use crate::wire::queue::QueueStatus;
use crate::wire::{SessionId, Timestamp};

/// First and longest wait before an item is tried again, twice as long each time, as in the wire contract.
const BACKOFF_FIRST: Duration = Duration::from_secs(5);
const BACKOFF_LONGEST: Duration = Duration::from_secs(300);
/// How long until an item is looked at again of whose turn nothing could be learnt.
const AGAIN: Duration = Duration::from_secs(1);

/// What came of a try.
struct Outcome {
    verdict: Verdict,
    turn: Option<TurnRow>,
    result: Option<String>,
}

impl From<SessionError> for Outcome {
    fn from(error: SessionError) -> Self {
        Self { verdict: errand::of_error(&error), turn: None, result: None }
    }
}

/// Takes an item to the end of its present try, and ends its session if nobody needs it.
pub(super) async fn process(queue: Arc<Queue>, item: ItemRow) {
    let leaves = match item.status {
        QueueStatus::Processing => queue.go_through(&item).await,
        _ => item.leaves,
    };
    if let Some(session) = leaves {
        queue.leave(&item, session).await;
    }
}

impl Queue {
    /// Takes an item to the end of its try, and stores what came of it. Returns a session that is to be ended.
    async fn go_through(&self, item: &ItemRow) -> Option<SessionId> {
        let outcome = loop {
            let place = item.trace.as_deref().and_then(TraceContext::from_text);
            let outcome = trace::within(place, self.attempt(item)).await.unwrap_or_else(Outcome::from);
            if outcome.verdict != Verdict::Unknown {
                break outcome;
            }
            tokio::time::sleep(AGAIN).await;
        };
        let at = now();
        let then = settle(outcome.verdict, outcome.result, item, at);
        let is_again = matches!(then, Then::Again { .. });
        let own = item.session.filter(|_| item.given.is_none());
        let leaves = own.filter(|_| is_again || !item.keeps);
        // A try whose turn did not begin cost nothing.
        let begun = outcome.turn.filter(|turn| turn.started_at.is_some());
        let cost_usd = begun.map_or(Some(0.0), |turn| turn.usage.and_then(|usage| usage.cost_usd));
        tracing::info!(item = %item.id, agent = item.agent, session_id = item.session.map(tracing::field::display), then = ?Named(&then), "queue item was tried");
        let outcome = Named(&then).as_str();
        let tried = Tried { at, then, cost_usd, leaves };
        patiently("queue", || self.store.item_tried(item.id, tried.clone())).await?;
        self.sessions.metrics().queue_tries.with_label_values(&[outcome]).inc();
        fault::at(Point::QueueTried);
        self.over.send_replace(());
        leaves
    }

    /// Goes as far with an item as it goes.
    async fn attempt(&self, item: &ItemRow) -> Result<Outcome, SessionError> {
        // The attempt before this one may have gone further than it could tell.
        let item = &self.store.get_item(&item.tenant, item.id).await?;
        let tenant = item.tenant.as_str();
        let session = item.session.ok_or(SessionError::NotFound)?;
        let key = key(item);
        // As may a daemon that died between the turn and its note.
        let is_posted = item.turn.is_some() || self.store.find_turn(session, key.key.clone()).await?.is_some();
        if !is_posted && !item.is_cancelling && item.given.is_none() {
            match self.sessions.get(tenant, session).await {
                Err(SessionError::NotFound) => {
                    self.sessions.create_as(tenant, session, errand::body(&item.agent)).await?;
                    fault::at(Point::QueueMade);
                }
                found => drop(found?),
            }
        }
        if !is_posted && self.is_cancelling(item).await? {
            return Ok(Outcome { verdict: Verdict::Cancelled, turn: None, result: None });
        }
        let posted = self.sessions.post(tenant, session, errand::message(&item.prompt)?, Some(key)).await?;
        fault::at(Point::QueuePosted);
        if self.store.item_posted(item.id, posted.turn).await? {
            // Whoever cancelled it did not know the turn yet.
            self.interrupt(&ItemRow { turn: Some(posted.turn), is_cancelling: true, ..item.clone() }).await?;
        }
        fault::at(Point::QueueJoined);
        let answer = self.sessions.see_through(tenant, session, &posted).await?;
        let turn = self.sessions.turn(tenant, session, posted.turn).await?;
        let verdict = errand::of_turn(turn.state, turn.cause.as_deref(), self.is_cancelling(item).await?, answer.rests);
        Ok(Outcome { verdict, turn: Some(turn), result: answer.result })
    }

    async fn is_cancelling(&self, item: &ItemRow) -> Result<bool, StoreError> {
        self.store.get_item(&item.tenant, item.id).await.map(|item| item.is_cancelling)
    }

    /// Ends the session of an item.
    async fn leave(&self, item: &ItemRow, session: SessionId) {
        self.sessions.end_surely(&item.tenant, session).await;
        fault::at(Point::QueueLeft);
        patiently("queue", || self.store.item_left(item.id)).await;
        self.wake.notify_one();
    }
}

/// What becomes of the item of an outcome.
fn settle(verdict: Verdict, result: Option<String>, item: &ItemRow, at: Timestamp) -> Then {
    match verdict {
        Verdict::Completed => {
            let (result, is_cut) = result.map_or((None, false), cut);
            Then::Completed { result, is_cut }
        }
        Verdict::Cancelled => Then::Cancelled,
        Verdict::Again(error) if item.retries < item.max_retries => {
            let wait = backoff(item.retries);
            Then::Again { error, at: Timestamp(at.millis().saturating_add(wait.as_millis() as i64)) }
        }
        Verdict::Failed(error) | Verdict::Again(error) => Then::Failed { error },
        Verdict::Unknown => Then::Failed { error: "the end of the turn is not known".to_owned() },
    }
}

/// How long to wait after so many retries.
fn backoff(retries: i64) -> Duration {
    let doublings = u32::try_from(retries).unwrap_or(u32::MAX);
    2_u32
        .checked_pow(doublings)
        .and_then(|factor| BACKOFF_FIRST.checked_mul(factor))
        .unwrap_or(BACKOFF_LONGEST)
        .min(BACKOFF_LONGEST)
}

/// By what the message of this try is known in its session.
fn key(item: &ItemRow) -> TurnKey {
    let id = item.id.to_string();
    let key = if item.retries == 0 { id } else { format!("{id}/{}", item.retries) };
    TurnKey { key, message: Sha256::digest(&item.prompt).into() }
}

/// A decision without what people said.
struct Named<'a>(&'a Then);

impl Named<'_> {
    const fn as_str(&self) -> &'static str {
        match self.0 {
            Then::Completed { .. } => "completed",
            Then::Failed { .. } => "failed",
            Then::Cancelled => "cancelled",
            Then::Again { .. } => "again",
        }
    }
}

impl std::fmt::Debug for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let waits: Vec<_> = [0, 1, 2, 5, 6, 40, i64::MAX].map(|retries| backoff(retries).as_secs()).into();
        assert_eq!(waits, [5, 10, 20, 160, 300, 300, 300]);
    }
}
