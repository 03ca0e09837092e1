//! The queue: messages that are to be answered some time, each in a session of its own or in one that is named.
//!
//! ```text
//!  http ──▶ Queue ──▶ Store: an item is there before its caller hears of it
//!                       │
//!  run ── heads ──next──┴─ claim ──▶ a worker each: session, turn, its end, result ──▶ Store
//! ```
//!
//! One task ([`Queue::run`]) gives items to workers, of which there are few, so that sessions of people are not held up.
//! Which is next is a pure function (`next`), and so is what becomes of an item whose turn is over ([`errand`](crate::session::errand)).
//!
//! A message runs once, whoever dies. What a worker is about to do is stored before it does it: the item is
//! `processing` in a session whose id is stored before that session is made; the message has the item's id as its
//! key there, so that the next daemon joins its turn; the result is stored before the session is ended, and
//! that this is still to be done is stored with it. A try that failed is stored as such before there is another one, which
//! has another key.

mod next;
mod work;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::next::{Served, next};
use crate::fault::{self, Point};
use crate::session::errand::{Wait, patiently};
use crate::session::{SessionError, Sessions};
use crate::store::queue::{Added, ItemRow, NewItem, Room};
use crate::store::{Store, StoreError, TurnKey, now};
use crate::telemetry::trace;
use crate::wire::queue::{Enqueue, QueueStats, QueueStatus};
use crate::wire::session::Status;
use crate::wire::{QueueId, SessionId};

/// Bytes of prompts that may wait of one tenant.
const PENDING_BYTES: u64 = 64 << 20;
/// Retries of an item that says nothing, as the wire contract has it, and the most that one can ask for.
pub const RETRIES: i64 = 3;
const RETRIES_MAX: i64 = 100;
/// The highest priority.
const PRIORITY_MAX: i64 = i32::MAX as i64;
/// Longest prompt in characters, as that of a message.
const PROMPT_MAX: usize = 500_000;
/// Longest name of an agent in characters.
const NAME_MAX: usize = 255;
/// How long until the database is asked again that could not be.
const PAUSE: Duration = Duration::from_secs(1);

/// What the operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRules {
    /// Items that are processed at the same time.
    pub workers: usize,
    /// Items that may wait of one tenant.
    pub pending: u32,
}

/// Why a request about the queue was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// There is no such item for this tenant.
    #[error("Queue item not found")]
    NotFound,
    /// A field asks for what can not be.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Another item came with this key before.
    #[error("Idempotency-Key: another item came with this key")]
    KeyReused,
    /// Too much waits of this tenant.
    #[error("As many items wait in the queue as may: {0}, with {mib} MiB of prompts at most", mib = PENDING_BYTES >> 20)]
    Full(u32),
    /// It is too late.
    #[error("Cannot cancel item with status \"{}\"", .0.as_str())]
    CanNot(QueueStatus),
    /// It is too early.
    #[error("The item is {}, so there is no result yet", .0.as_str())]
    NotOver(QueueStatus),
    /// It has no session yet, or never had one.
    #[error("The item has no session")]
    NoSession,
    /// What is asked of its session can not be done.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
}

/// The queue of all tenants.
#[derive(Debug)]
pub struct Queue {
    store: Arc<dyn Store>,
    sessions: Sessions,
    rules: QueueRules,
    /// There may be something to do.
    wake: Notify,
    /// An item may be over.
    over: watch::Sender<()>,
    /// Cancelled when the daemon stops.
    stop: CancellationToken,
}

impl Queue {
    /// Goes by these rules until it is told to stop. Nothing is processed before [`Self::run`].
    pub fn new(store: Arc<dyn Store>, sessions: Sessions, rules: QueueRules, stop: CancellationToken) -> Self {
        Self { store, sessions, rules, wake: Notify::new(), over: watch::Sender::new(()), stop }
    }

    /// Adds an item. One that comes again with the same key is the first.
    pub async fn add(&self, tenant: &str, body: Enqueue, key: Option<TurnKey>) -> Result<ItemRow, QueueError> {
        if let Some(key) = &key
            && let Some(found) = self.store.find_item(tenant, key.clone()).await?
        {
            // What can not be asked for any more may have been the first time.
            return self.added(found);
        }
        check(&body)?;
        if let Some(session) = body.session_id {
            self.check_session(tenant, &body.agent_name, session).await?;
        }
        let added = self.store.add_item(NewItem { key, trace: self.place(), ..new_item(tenant, body) }, self.room()).await?;
        fault::at(Point::QueueStored);
        self.added(added)
    }

    fn added(&self, added: Added) -> Result<ItemRow, QueueError> {
        match added {
            Added::New(item) => {
                self.wake();
                Ok(item)
            }
            Added::Again(item) => Ok(item),
            Added::KeyReused => Err(QueueError::KeyReused),
            Added::Full => Err(self.full()),
        }
    }

    /// What is said to who adds more than may wait.
    pub fn full(&self) -> QueueError {
        QueueError::Full(self.rules.pending)
    }

    /// What may wait of one tenant.
    pub fn room(&self) -> Room {
        Room { items: self.rules.pending, bytes: PENDING_BYTES }
    }

    /// There is something to do that was not there before.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether messages for this agent can go into a session.
    ///
    /// # Errors
    ///
    /// [`QueueError`] if there is none such, it is another agent's, or it is over.
    pub async fn check_session(&self, tenant: &str, agent: &str, session: SessionId) -> Result<(), QueueError> {
        let row = self.sessions.get(tenant, session).await?;
        if row.agent != agent {
            let reason = format!("is a session of agent {:?}", row.agent);
            return Err(QueueError::Invalid { field: "sessionId", reason });
        }
        if row.status == Status::Ended {
            return Err(SessionError::Status(row.status).into());
        }
        Ok(())
    }

    /// Where what is queued now belongs in a trace, if that is kept.
    pub fn place(&self) -> Option<String> {
        let place = trace::current().filter(|place| place.is_sampled && self.sessions.tracer().is_on());
        place.map(|place| place.to_text())
    }

    /// An item, as soon as it is over, or after `patience`, or when the daemon stops, as it is then.
    pub async fn get(&self, tenant: &str, id: QueueId, patience: Duration) -> Result<ItemRow, QueueError> {
        let mut wait = Wait::new(&self.over, &self.stop, patience);
        loop {
            let item = match self.store.get_item(tenant, id).await {
                Err(StoreError::NotFound(_)) => return Err(QueueError::NotFound),
                found => found?,
            };
            if item.status.is_over() || !wait.goes_on().await {
                return Ok(item);
            }
        }
    }

    /// What became of an item.
    pub async fn result(&self, tenant: &str, id: QueueId, patience: Duration) -> Result<ItemRow, QueueError> {
        let item = self.get(tenant, id, patience).await?;
        if item.status.is_over() { Ok(item) } else { Err(QueueError::NotOver(item.status)) }
    }

    /// The session that an item is for, or that was made for it.
    pub async fn session(&self, tenant: &str, id: QueueId) -> Result<SessionId, QueueError> {
        self.get(tenant, id, Duration::ZERO).await?.session.ok_or(QueueError::NoSession)
    }

    /// How many items there are with each status.
    pub async fn stats(&self, tenant: &str) -> Result<QueueStats, QueueError> {
        let mut stats = QueueStats::default();
        for (status, count) in self.store.count_items(tenant).await? {
            match status {
                QueueStatus::Pending => stats.pending = count,
                QueueStatus::Processing => stats.processing = count,
                QueueStatus::Completed => stats.completed = count,
                QueueStatus::Failed => stats.failed = count,
                QueueStatus::Cancelled => stats.cancelled = count,
                QueueStatus::Unknown => {}
            }
        }
        Ok(stats)
    }

    /// Cancels an item that waits. With `force`, interrupts one that is being processed; it is cancelled when its turn has
    /// ended, unless that completes before.
    pub async fn cancel(&self, tenant: &str, id: QueueId, force: bool) -> Result<ItemRow, QueueError> {
        let (item, is_changed) = match self.store.cancel_item(tenant, id, force, now()).await {
            Err(StoreError::NotFound(_)) => return Err(QueueError::NotFound),
            cancelled => cancelled?,
        };
        if !is_changed {
            return Err(QueueError::CanNot(item.status));
        }
        self.over.send_replace(());
        self.interrupt(&item).await?;
        Ok(item)
    }

    /// Ends the turn of an item that is to be cancelled, if it has one. Otherwise its worker sees it before it begins one.
    async fn interrupt(&self, item: &ItemRow) -> Result<(), SessionError> {
        let (true, Some(session), Some(turn)) = (item.is_cancelling, item.session, item.turn) else { return Ok(()) };
        self.sessions.end_turn(&item.tenant, session, turn).await
    }

    /// Processes items until it is told to stop. What is being processed then, the next daemon goes on with.
    pub async fn run(self: Arc<Self>) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            // Workers end with it, wherever they are: what they are at is stored.
            () = self.process() => {}
        }
    }

    async fn process(self: &Arc<Self>) {
        let mut staff = Staff::default();
        for item in patiently("queue", || self.store.open_items()).await.unwrap_or_default() {
            staff.begin(self.clone(), item);
        }
        loop {
            let filled = self.fill(&mut staff).await;
            let pause = filled.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "the queue can not be read now, retrying in {} s", PAUSE.as_secs());
                Some(PAUSE)
            });
            tokio::select! {
                () = staff.free() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    /// Gives items to all workers that are free. Returns how long the first of those waits that are tried again.
    async fn fill(self: &Arc<Self>, staff: &mut Staff) -> Result<Option<Duration>, StoreError> {
        loop {
            let at = now();
            let (heads, later) = self.store.heads(at).await?;
            staff.served.forget_all_but(&heads);
            let Some(head) = next(&heads, &staff.served, self.rules.workers) else {
                return Ok(later.map(|later| Duration::from_millis(later.millis().abs_diff(at.millis()))));
            };
            // Somebody may have cancelled it.
            if let Some(item) = self.store.claim_item(head.id, SessionId::new(), at).await? {
                fault::at(Point::QueueClaimed);
                if item.retries == 0 {
                    let waited = at.millis().saturating_sub(item.created_at.millis()).max(0).unsigned_abs();
                    self.sessions.metrics().queue_wait_seconds.observe(Duration::from_millis(waited).as_secs_f64());
                }
                tracing::info!(item = %item.id, agent = item.agent, retries = item.retries, "queue item is processed");
                staff.begin(self.clone(), item);
            }
        }
    }
}

/// Whether an item can be as it is wanted.
///
/// # Errors
///
/// [`QueueError::Invalid`] with the field and the reason.
pub fn check(body: &Enqueue) -> Result<(), QueueError> {
    let invalid = |field, reason: String| Err(QueueError::Invalid { field, reason });
    if !(1..=NAME_MAX).contains(&body.agent_name.chars().count()) {
        return invalid("agentName", format!("has to be the name of an agent, 1 to {NAME_MAX} characters"));
    }
    if !(1..=PROMPT_MAX).contains(&body.prompt.chars().count()) {
        return invalid("prompt", format!("has to be a text of 1 to {PROMPT_MAX} characters"));
    }
    for (field, value, most) in [("priority", body.priority, PRIORITY_MAX), ("maxRetries", body.max_retries, RETRIES_MAX)] {
        if value.is_some_and(|value| !(0..=most).contains(&value)) {
            return invalid(field, format!("has to be from 0 to {most}"));
        }
    }
    Ok(())
}

/// An item as it is wanted, with what it does not say.
pub fn new_item(tenant: &str, body: Enqueue) -> NewItem {
    NewItem {
        id: QueueId::new(),
        tenant: tenant.to_owned(),
        agent: body.agent_name,
        prompt: body.prompt,
        given: body.session_id,
        priority: body.priority.unwrap_or(0),
        max_retries: body.max_retries.unwrap_or(RETRIES),
        keeps: body.keep_session,
        created_at: now(),
        schedule: None,
        scheduled_for: None,
        key: None,
        trace: None,
    }
}

/// The workers, and for whom they work. They end with it.
#[derive(Debug, Default)]
struct Staff {
    workers: JoinSet<()>,
    /// The tenant of each, and whether its item names a session.
    tenants: HashMap<tokio::task::Id, (String, bool)>,
    served: Served,
}

impl Staff {
    fn begin(&mut self, queue: Arc<Queue>, item: ItemRow) {
        let (tenant, is_given) = (item.tenant.clone(), item.given.is_some());
        self.served.begin(&tenant, is_given);
        let worker = self.workers.spawn(work::process(queue, item));
        self.tenants.insert(worker.id(), (tenant, is_given));
    }

    /// Waits until a worker is free that was not; for ever if none works.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a worker that is not waited for to the end is the next time.
    async fn free(&mut self) {
        let Some(done) = self.workers.join_next_with_id().await else { return std::future::pending().await };
        let id = done.map_or_else(
            |error| {
                tracing::error!(error = %error, "a worker of the queue broke, leaving its item to the next daemon");
                error.id()
            },
            |(id, ())| id,
        );
        if let Some((tenant, is_given)) = self.tenants.remove(&id) {
            self.served.end(&tenant, is_given);
        }
    }
}
