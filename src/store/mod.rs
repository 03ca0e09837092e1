//! The database: a port [`Store`] and its backends.
//!
//! Methods are whole operations, each in one transaction; rows, SQL and connections stay inside.
//! What a method returns was durable before it returned. Callers hold `Arc<dyn Store>`.

#[cfg(test)]
mod conformance;
mod row;
mod sql;
pub mod sqlite;

use std::collections::BTreeMap;
use std::pin::Pin;

use serde_json::{Map, Value};
use uuid::Uuid;

pub use row::{AgentRow, EventRow, KeyRow, MessageRow, NewEvent, Page, SessionFilter, SessionRow, TurnRow, TurnState};

use crate::wire::event::Kind;
use crate::wire::message::TurnOptions;
use crate::wire::session::{SessionConfig, Status};
use crate::wire::{KeyId, SessionId, Timestamp, TurnId};

/// A future that a trait object returns.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why an operation was not carried out. Nothing of it was stored then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such row.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The row is not in the state that the operation needs.
    #[error("{0}")]
    Conflict(String),
    /// The database can not be used now; it may be later.
    #[error("database is not available: {0}")]
    Unavailable(String),
    /// What was read is not what was written.
    #[error("database is damaged: {0}")]
    Corrupt(String),
}

/// A change of one session, stored in one transaction: what happened, and the state it implies.
///
/// The kinds of event say what they imply: `TurnQueued`, `TurnStarted` and `TurnEnded` move their
/// turn, messages are counted.
#[derive(Debug, Default)]
pub struct Advance {
    /// Events from its shim; they come before [`Self::events`].
    pub shim: Option<ShimBatch>,
    /// Events to append, in order.
    pub events: Vec<NewEvent>,
    /// The messages of the turns that `events` queues.
    pub queued: Vec<NewTurn>,
    /// The session's new status.
    pub status: Option<Status>,
    /// The runtime has begun a conversation.
    pub conversed: bool,
    /// The session's new model and configuration.
    pub settings: Option<(Option<String>, SessionConfig)>,
}

/// Events of a shim, which delivers at least once and numbers without gaps: those that were stored
/// before are left out.
#[derive(Debug)]
pub struct ShimBatch {
    /// The shim's life.
    pub incarnation: Uuid,
    /// Number of the first of the events.
    pub first: u64,
    /// The events.
    pub events: Vec<NewEvent>,
}

/// A turn that comes into being with its [`Kind::TurnQueued`] event.
#[derive(Debug, Clone)]
pub struct NewTurn {
    /// The turn.
    pub id: TurnId,
    /// The message.
    pub content: String,
    /// Its options.
    pub options: TurnOptions,
}

/// What an [`Advance`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advanced {
    /// Id of the newest event.
    pub tail: i64,
    /// Id of the first event that was appended, if any was.
    pub first: Option<i64>,
}

/// Which events a reader wants.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of this turn only.
    pub turn: Option<TurnId>,
    /// Of these kinds only; empty: of all.
    pub kinds: Vec<Kind>,
}

/// The database.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Makes an agent or its next deploy. `env` of `None` keeps what it had.
    fn deploy_agent<'a>(
        &'a self,
        tenant: &'a str,
        name: &'a str,
        digest: &'a str,
        env: Option<BTreeMap<String, String>>,
    ) -> Pending<'a, AgentRow>;

    /// An agent, or [`StoreError::NotFound`].
    fn get_agent<'a>(&'a self, tenant: &'a str, name: &'a str) -> Pending<'a, AgentRow>;

    /// All agents of a tenant, by name.
    fn list_agents<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<AgentRow>>;

    /// Changes environment and merges configuration.
    fn patch_agent<'a>(
        &'a self,
        tenant: &'a str,
        name: &'a str,
        env: Option<BTreeMap<String, String>>,
        config: Option<Map<String, Value>>,
    ) -> Pending<'a, AgentRow>;

    /// Forgets an agent. Its sessions stay, and can be read.
    fn delete_agent<'a>(&'a self, tenant: &'a str, name: &'a str) -> Pending<'a, ()>;

    /// Whether any agent or session needs this version's files.
    fn version_in_use<'a>(&'a self, digest: &'a str) -> Pending<'a, bool>;

    /// Makes a session.
    fn create_session(&self, session: SessionRow) -> Pending<'_, ()>;

    /// Removes a session that never came to be, with all that belongs to it.
    fn forget_session(&self, id: SessionId) -> Pending<'_, ()>;

    /// A session of this tenant, or [`StoreError::NotFound`].
    fn get_session<'a>(&'a self, tenant: &'a str, id: SessionId) -> Pending<'a, SessionRow>;

    /// Sessions, newest first, and how many there are in all.
    fn list_sessions<'a>(&'a self, tenant: &'a str, filter: SessionFilter) -> Pending<'a, Page<SessionRow>>;

    /// The sessions of all tenants that are not over.
    fn living_sessions(&self) -> Pending<'_, Vec<SessionRow>>;

    /// Stores a change of a session.
    fn advance(&self, id: SessionId, advance: Advance) -> Pending<'_, Advanced>;

    /// Turns of a session that are queued or running, oldest first.
    fn open_turns(&self, id: SessionId) -> Pending<'_, Vec<TurnRow>>;

    /// A turn of a session, or [`StoreError::NotFound`].
    fn get_turn(&self, id: SessionId, turn: TurnId) -> Pending<'_, TurnRow>;

    /// Events after a cursor, oldest first, at most `limit`.
    fn events(&self, id: SessionId, after: i64, limit: usize, filter: EventFilter) -> Pending<'_, Vec<EventRow>>;

    /// Messages after a sequence, oldest first, at most `limit`.
    fn messages(&self, id: SessionId, after: i64, limit: usize) -> Pending<'_, Vec<MessageRow>>;

    /// Makes an API key.
    fn create_key(&self, key: KeyRow) -> Pending<'_, ()>;

    /// The keys of a tenant, oldest first.
    fn list_keys<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<KeyRow>>;

    /// Revokes a key of a tenant.
    fn delete_key<'a>(&'a self, tenant: &'a str, id: KeyId) -> Pending<'a, ()>;

    /// The key whose secret has this hash.
    fn find_key(&self, hash: [u8; 32]) -> Pending<'_, Option<KeyRow>>;

    /// Reads and writes once, to see that it works.
    fn check(&self) -> Pending<'_, ()>;
}

/// Now, for rows. The clock of the database is not asked, so that all times of a host agree.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}
