//! The database: a port [`Store`] and its backends.
//!
//! Methods are whole operations, each in one transaction; rows, SQL and connections stay inside.
//! What a method returns was durable before it returned. Callers hold `Arc<dyn Store>`.

mod attachment;
pub mod audit;
#[cfg(test)]
mod conformance;
pub mod eval;
pub mod project_file;
mod prompt_version;
pub mod queue;
mod row;
pub mod schedules;
mod sql;
pub mod sqlite;
pub mod usage;
pub mod webhooks;

use std::collections::BTreeMap;
use std::pin::Pin;

use serde_json::{Map, Value};
use uuid::Uuid;

pub use attachment::{AttachmentLimits, AttachmentRow, Attachments, NewAttachment};
pub use audit::{Audit, AuditFilter, NewAudit};
pub use prompt_version::{NewPromptVersion, PromptVersionChange, PromptVersionRow, PromptVersions};
pub use row::{
    AgentRow, CredentialRow, DeployRow, EventRow, KeyRow, LivingRow, MessageRow, NewEvent, PermissionFilter, PermissionRow,
    SessionFilter, SessionPage, SessionRow, SessionUse, TurnFilter, TurnRow, TurnState, Uses,
};
pub use webhooks::{DeliveryNote, WebhookPlace, WebhookRow, Webhooks};

use self::eval::Evals;
use self::project_file::ProjectFiles;
use self::queue::Queues;
use self::schedules::Schedules;
use self::usage::Usages;
use crate::crypt::env::{EnvOwner, KeptEnv};
use crate::crypt::master::Sealed;
use crate::wire::event::Kind;
use crate::wire::message::TurnOptions;
use crate::wire::session::{SessionConfig, Status};
use crate::wire::usage::ModelUsage;
use crate::wire::{CredentialId, KeyId, PermissionId, SandboxId, SessionId, Timestamp, TurnId};

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
/// turn, messages are counted, requests for permission are listed. An event that ends what is over
/// already (`TurnEnded`, `PermissionResolved`) is left out.
#[derive(Debug, Clone, Default)]
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
    /// All rules that are granted for the session from here on.
    pub granted: Option<Vec<String>>,
    /// Its sandbox came up in this boot of the host, or (`None`) has ended.
    pub sandbox: Option<Option<String>>,
    /// Events of this life of a shim up to this number are taken for stored, though they are not:
    /// the shim has them no more, as another state of the database had acknowledged them.
    pub skipped: Option<(Uuid, i64)>,
}

/// Events of a shim, which delivers at least once and numbers without gaps: those that were stored
/// before are left out.
#[derive(Debug, Clone)]
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
    /// By what a second try of the same message is known.
    pub key: Option<TurnKey>,
    /// Whether it goes before all that wait.
    pub jumps: bool,
    /// Its place in a trace, if that is kept.
    pub trace: Option<String>,
}

/// By what a second try of the same message is known, in its session or in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnKey {
    /// The caller's `Idempotency-Key`.
    pub key: String,
    /// SHA-256 of the message, or of what was said of the item.
    pub message: [u8; 32],
}

/// What a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Its name, given when it was made: the same in all copies and later states of it.
    pub identity: String,
    /// Sessions in it, those that are over too.
    pub sessions: i64,
}

/// What an [`Advance`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advanced {
    /// Id of the newest event.
    pub tail: i64,
    /// Id of the first event that was appended, if any was.
    pub first: Option<i64>,
    /// Whether webhooks are told of one of those.
    pub is_told: bool,
}

/// Which events a reader wants.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of this turn only.
    pub turn: Option<TurnId>,
    /// Of these kinds only; empty: of all.
    pub kinds: Vec<Kind>,
    /// No more at a time than have this many bytes of data together, but one at least; `None`: as
    /// many as the number allows.
    pub bytes: Option<usize>,
}

/// API keys that a tenant may have; their list is one answer.
pub const KEYS_MAX: u32 = 1000;
/// Credentials that a tenant may have; their list is one answer.
pub const CREDENTIALS_MAX: u32 = 1000;
/// Bytes of JSON of an agent's configuration. Changes are merged into it, so that a bound of what comes
/// with one of them is none of the whole.
pub const AGENT_CONFIG_MAX: usize = 1 << 20;
/// Milliseconds from one note of a key's use to the next.
pub const KEY_USE_STEP_MS: i64 = 60_000;

/// The database.
pub trait Store:
    Attachments
    + Audit
    + Evals
    + ProjectFiles
    + PromptVersions
    + Queues
    + Schedules
    + Usages
    + Webhooks
    + Send
    + Sync
    + std::fmt::Debug
{
    /// Makes an agent or its next deploy. `env` of `None` keeps what it had.
    fn deploy_agent<'a>(&'a self, tenant: &'a str, name: &'a str, digest: &'a str, env: Option<KeptEnv>)
    -> Pending<'a, AgentRow>;

    /// An agent, or [`StoreError::NotFound`].
    fn get_agent<'a>(&'a self, tenant: &'a str, name: &'a str) -> Pending<'a, AgentRow>;

    /// Agents of a tenant by name, those behind `after`, without their configuration: at most `limit` of
    /// them, and `bytes` of environment, which one agent may exceed.
    fn list_agents<'a>(&'a self, tenant: &'a str, after: &'a str, limit: usize, bytes: usize) -> Pending<'a, Vec<AgentRow>>;

    /// Changes environment and merges configuration. [`StoreError::Conflict`] if the configuration would
    /// grow beyond [`AGENT_CONFIG_MAX`].
    fn patch_agent<'a>(
        &'a self,
        tenant: &'a str,
        name: &'a str,
        env: Option<KeptEnv>,
        config: Option<Map<String, Value>>,
    ) -> Pending<'a, AgentRow>;

    /// Forgets an agent, with the versions of its prompt and its evals. Its sessions stay, and can be read.
    fn delete_agent<'a>(&'a self, tenant: &'a str, name: &'a str) -> Pending<'a, ()>;

    /// Whether an agent is at this version, a session of any status is of it, or a run of evals that is not over.
    fn version_in_use<'a>(&'a self, digest: &'a str) -> Pending<'a, bool>;

    /// Makes a session.
    fn create_session(&self, session: SessionRow) -> Pending<'_, ()>;

    /// Makes a session whose log begins with that of another one up to an event: its events without
    /// deltas and without turns, and its messages.
    fn fork_session(&self, child: SessionRow, parent: SessionId, event: i64) -> Pending<'_, ()>;

    /// Removes a session that never came to be, with all that belongs to it.
    fn forget_session(&self, id: SessionId) -> Pending<'_, ()>;

    /// A session of this tenant, or [`StoreError::NotFound`].
    fn get_session<'a>(&'a self, tenant: &'a str, id: SessionId) -> Pending<'a, SessionRow>;

    /// Sessions, newest first, without prompts, environments and granted rules.
    fn list_sessions<'a>(&'a self, tenant: &'a str, filter: SessionFilter, page: SessionPage) -> Pending<'a, Vec<SessionRow>>;

    /// How many there are of them.
    fn count_sessions<'a>(&'a self, tenant: &'a str, filter: SessionFilter) -> Pending<'a, i64>;

    /// How many sessions of all tenants take messages.
    fn count_active(&self) -> Pending<'_, i64>;

    /// The sessions of all tenants that are not over.
    fn living_sessions(&self) -> Pending<'_, Vec<LivingRow>>;

    /// The session of any tenant whose sandbox this is or was.
    fn find_session_of(&self, sandbox: SandboxId) -> Pending<'_, Option<SessionRow>>;

    /// What sessions and agents need, for all tenants.
    fn uses(&self) -> Pending<'_, Uses>;

    /// Whether there is a row of this session, whoever's.
    fn knows_session(&self, id: SessionId) -> Pending<'_, bool>;

    /// Takes a session that has ended away from its tenant, so that nobody finds it any more. Its
    /// removal is to follow. [`StoreError::NotFound`] if it has not ended.
    fn disown_session(&self, id: SessionId) -> Pending<'_, ()>;

    /// Removes at most `limit` rows of a session that was disowned, with at most so many `bytes` of
    /// messages and events, which one row alone may exceed; and the session with the last of them. Says
    /// whether there are more.
    fn remove_session(&self, id: SessionId, limit: usize, bytes: u64) -> Pending<'_, bool>;

    /// Stores a change of a session.
    fn advance(&self, id: SessionId, advance: Advance) -> Pending<'_, Advanced>;

    /// Turns of a session that are queued or running, in the order in which they run.
    fn open_turns(&self, id: SessionId) -> Pending<'_, Vec<TurnRow>>;

    /// The turns of [`Self::open_turns`] alone.
    fn queue(&self, id: SessionId) -> Pending<'_, Vec<TurnId>>;

    /// A turn of a session without its message, or [`StoreError::NotFound`].
    fn get_turn(&self, id: SessionId, turn: TurnId) -> Pending<'_, TurnRow>;

    /// The turn of a session whose message came with this key, without the message.
    fn find_turn(&self, id: SessionId, key: String) -> Pending<'_, Option<TurnRow>>;

    /// Turns of a session without their messages, oldest first.
    fn turns(&self, id: SessionId, filter: TurnFilter) -> Pending<'_, Vec<TurnRow>>;

    /// What the turns of a session that are over took of each model.
    fn spent(&self, id: SessionId) -> Pending<'_, BTreeMap<String, ModelUsage>>;

    /// A request for permission, or [`StoreError::NotFound`].
    fn get_permission(&self, id: SessionId, permission: PermissionId) -> Pending<'_, PermissionRow>;

    /// Requests for permission of a session, oldest first.
    fn permissions(&self, id: SessionId, filter: PermissionFilter) -> Pending<'_, Vec<PermissionRow>>;

    /// Removes the deltas of turns that were over before `cutoff`: at most `limit` events, so that
    /// others may write in between. Returns how many it removed, and whether there are more.
    fn compact(&self, cutoff: Timestamp, limit: usize) -> Pending<'_, (usize, bool)>;

    /// Events after a cursor, oldest first, at most `limit`. Fewer than that are all there are,
    /// unless the filter bounds their bytes.
    fn events(&self, id: SessionId, after: i64, limit: usize, filter: EventFilter) -> Pending<'_, Vec<EventRow>>;

    /// Messages after a sequence, oldest first: at most `limit` of them, and `bytes` of data, which
    /// one message may exceed.
    fn messages(&self, id: SessionId, after: i64, limit: usize, bytes: usize) -> Pending<'_, Vec<MessageRow>>;

    /// Makes an API key. [`StoreError::Conflict`] if its tenant has [`KEYS_MAX`].
    fn create_key(&self, key: KeyRow) -> Pending<'_, ()>;

    /// The keys of a tenant, oldest first.
    fn list_keys<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<KeyRow>>;

    /// Revokes a key of a tenant.
    fn delete_key<'a>(&'a self, tenant: &'a str, id: KeyId) -> Pending<'a, ()>;

    /// Whether there is this key.
    fn has_key(&self, id: KeyId) -> Pending<'_, bool>;

    /// The key whose secret has this hash.
    fn find_key(&self, hash: [u8; 32]) -> Pending<'_, Option<KeyRow>>;

    /// Notes when a key was used, unless that was noted within [`KEY_USE_STEP_MS`] before.
    fn use_key(&self, id: KeyId, at: Timestamp) -> Pending<'_, ()>;

    /// Keeps a credential. [`StoreError::Conflict`] if its tenant has [`CREDENTIALS_MAX`].
    fn create_credential(&self, credential: CredentialRow) -> Pending<'_, ()>;

    /// The credentials of a tenant, oldest first.
    fn list_credentials<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<CredentialRow>>;

    /// A credential of a tenant, or [`StoreError::NotFound`].
    fn get_credential<'a>(&'a self, tenant: &'a str, id: CredentialId) -> Pending<'a, CredentialRow>;

    /// Changes label or secret of a credential of a tenant. `None` keeps what it had.
    fn change_credential<'a>(
        &'a self,
        tenant: &'a str,
        id: CredentialId,
        label: Option<String>,
        sealed: Option<Sealed>,
    ) -> Pending<'a, ()>;

    /// Forgets a credential of a tenant.
    fn delete_credential<'a>(&'a self, tenant: &'a str, id: CredentialId) -> Pending<'a, ()>;

    /// Notes when a credential was used.
    fn use_credential(&self, id: CredentialId, at: Timestamp) -> Pending<'_, ()>;

    /// At most `limit` credentials of all tenants that are not under this master key.
    fn credentials_of_other_masters<'a>(&'a self, master: &'a str, limit: usize) -> Pending<'a, Vec<CredentialRow>>;

    /// Seals a credential anew, unless its secret is not `old` any more.
    fn reseal_credential(&self, id: CredentialId, old: Sealed, new: Sealed) -> Pending<'_, ()>;

    /// At most `limit` environments of agents and sessions, of all tenants, that are not under this
    /// master key and have anything to seal, in order, without the first `skip`.
    fn envs_of_other_masters<'a>(&'a self, master: &'a str, limit: usize, skip: usize) -> Pending<'a, Vec<(EnvOwner, KeptEnv)>>;

    /// Keeps an environment in another form, unless it is not `old` any more. Says whether it did.
    fn reseal_env<'a>(&'a self, owner: &'a EnvOwner, old: &'a KeptEnv, new: &'a KeptEnv) -> Pending<'a, bool>;

    /// Those of these sessions that are not here, whatever their status.
    fn missing_sessions(&self, ids: Vec<SessionId>) -> Pending<'_, Vec<SessionId>>;

    /// What the database is.
    fn census(&self) -> Pending<'_, Census>;

    /// Why what is stored now will not be found by the next daemon, if that is so: the file of the
    /// database was deleted or replaced while it is open.
    fn misplaced(&self) -> Option<String>;

    /// Reads and writes once, to see that it works, and that the next daemon will find it.
    fn check(&self) -> Pending<'_, ()>;
}

/// Now, for rows. The clock of the database is not asked, so that all times of a host agree.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}
