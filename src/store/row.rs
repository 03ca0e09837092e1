//! What the store takes and gives: domain values, free of SQL.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::crypt::env::{EnvOwner, KeptEnv};
use crate::crypt::master::Sealed;
use crate::wire::credential::CredentialType;
use crate::wire::event::Kind;
use crate::wire::message::TurnOptions;
use crate::wire::scope::Scopes;
use crate::wire::session::{SessionConfig, Status};
use crate::wire::usage::Usage;
use crate::wire::{CredentialId, KeyId, PermissionId, SandboxId, SessionId, Timestamp, TurnId};

/// An agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentRow {
    /// The tenant it belongs to.
    pub tenant: String,
    /// Its name, unique in the tenant.
    pub name: String,
    /// The same over all deploys.
    pub id: Uuid,
    /// Counts deploys from 1.
    pub deploys: i64,
    /// Its newest version.
    pub digest: String,
    /// Environment of its sessions.
    pub env: KeptEnv,
    /// Free-form configuration.
    pub config: Map<String, Value>,
    /// First deploy.
    pub created_at: Timestamp,
    /// Newest deploy or change.
    pub updated_at: Timestamp,
}

/// A session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    /// The session.
    pub id: SessionId,
    /// The tenant it belongs to.
    pub tenant: String,
    /// Name of its agent.
    pub agent: String,
    /// Version of its agent.
    pub digest: String,
    /// Where it stands.
    pub status: Status,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// Model of turns that name none.
    pub model: Option<String>,
    /// Takes the place of `CLAUDE.md`.
    pub system_prompt: Option<String>,
    /// Number of the prompt version that it was made with.
    pub prompt_version: Option<i64>,
    /// Environment beside the agent's.
    pub extra_env: KeptEnv,
    /// What its turns may use.
    pub config: SessionConfig,
    /// The session it was forked from.
    pub parent: Option<SessionId>,
    /// Whether the runtime has begun a conversation that can be resumed.
    pub conversed: bool,
    /// Id of its newest event; 0 before the first.
    pub tail: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a turn last began or ended.
    pub last_active_at: Timestamp,
    /// Rules that were granted for the session when the runtime asked.
    pub granted: Vec<String>,
    /// The boot of the host in which its sandbox came up; `None` while it has none.
    pub sandbox_boot: Option<String>,
    /// The life of a shim whose events were stored last, and the number of the newest.
    pub heard: Option<(Uuid, i64)>,
}

impl SessionRow {
    /// What of it its sandbox is compared with.
    pub fn living(&self) -> LivingRow {
        let Self { id, status, sandbox, tail, .. } = *self;
        LivingRow { id, tenant: self.tenant.clone(), status, sandbox, tail, is_up: self.sandbox_boot.is_some() }
    }

    /// Whose its environment is.
    pub fn env_owner(&self) -> EnvOwner {
        EnvOwner::Session { tenant: self.tenant.clone(), id: self.id.as_uuid() }
    }
}

/// What of a session that is not over its sandbox is compared with. There may be very many of them, so this
/// has nothing whose size a caller decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivingRow {
    /// The session.
    pub id: SessionId,
    /// The tenant it belongs to.
    pub tenant: String,
    /// Where it stands.
    pub status: Status,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// Id of its newest event; 0 before the first.
    pub tail: i64,
    /// Whether its sandbox came up and its end was not told.
    pub is_up: bool,
}

/// Which sessions to list.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Of this agent only.
    pub agent: Option<String>,
    /// With this status only.
    pub status: Option<Status>,
}

/// Which part of a list of sessions is wanted.
#[derive(Debug, Clone, Copy)]
pub struct SessionPage {
    /// What follows the session that was made then and has this id.
    pub after: Option<(Timestamp, SessionId)>,
    /// At most so many.
    pub limit: i64,
    /// Leave out so many of them.
    pub offset: i64,
    /// No more than have this many bytes of configuration together, but one at least.
    pub bytes: usize,
}

/// How far a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of link::shim::EndState and of the design")]
pub enum TurnState {
    Queued,
    Running,
    Completed,
    Failed,
    Interrupted,
    Cancelled,
}

const TURN_STATES: [(TurnState, &str); 6] = [
    (TurnState::Queued, "queued"),
    (TurnState::Running, "running"),
    (TurnState::Completed, "completed"),
    (TurnState::Failed, "failed"),
    (TurnState::Interrupted, "interrupted"),
    (TurnState::Cancelled, "cancelled"),
];

impl TurnState {
    /// Whether it can change no more.
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl fmt::Display for TurnState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TURN_STATES.iter().find(|(state, _)| state == self).map_or("unknown", |(_, text)| text))
    }
}

impl FromStr for TurnState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = TURN_STATES.iter().find(|(_, stored)| *stored == text);
        found.map(|(state, _)| *state).ok_or_else(|| format!("{text:?} is not the state of a turn"))
    }
}

/// A turn.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnRow {
    /// The turn.
    pub id: TurnId,
    /// How far it is.
    pub state: TurnState,
    /// `user`, or `runtime` for one that the runtime began by itself.
    pub kind: String,
    /// The message as JSON, where it was asked for.
    pub content: Option<String>,
    /// Its options.
    pub options: TurnOptions,
    /// Why it did not complete.
    pub cause: Option<String>,
    /// Its first event.
    pub first_event: i64,
    /// Its last event, once it is over.
    pub last_event: Option<i64>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When it was given to the runtime.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// The key that its message came with.
    pub idempotency_key: Option<String>,
    /// SHA-256 of its message, if it has a key.
    pub message_hash: Option<Vec<u8>>,
    /// What it took.
    pub usage: Option<Usage>,
    /// Whether it went before all that waited when it came.
    pub jumps: bool,
    /// Its place in a trace, if that is kept.
    pub trace: Option<String>,
}

/// Which turns to list.
#[derive(Debug, Clone)]
pub struct TurnFilter {
    /// Those whose first event is after this one.
    pub after: i64,
    /// In this state only.
    pub state: Option<TurnState>,
    /// At most so many.
    pub limit: usize,
}

/// A request for permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionRow {
    /// The request.
    pub id: PermissionId,
    /// Its event.
    pub event: i64,
    /// The turn that waits for the answer.
    pub turn: Option<TurnId>,
    /// When it was asked.
    pub at: Timestamp,
    /// Data of its event.
    pub request: String,
    /// Data of the event that resolved it; `None` while it waits.
    pub resolved: Option<String>,
}

/// Which requests for permission to list.
#[derive(Debug, Clone)]
pub struct PermissionFilter {
    /// Those whose event is after this one.
    pub after: i64,
    /// Only those that wait.
    pub pending: bool,
    /// At most so many.
    pub limit: usize,
    /// And with no more than so many bytes of data together, but one in any case; `None`: as many as
    /// the number allows.
    pub bytes: Option<usize>,
}

/// An event to append.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// When it happened.
    pub at: Timestamp,
    /// The turn it belongs to.
    pub turn: Option<TurnId>,
    /// What it is.
    pub kind: Kind,
    /// Its data: one line of JSON.
    pub data: String,
}

/// A stored event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// Counts from 1 in its session, without gaps.
    pub id: i64,
    /// When it happened.
    pub at: Timestamp,
    /// The turn it belongs to.
    pub turn: Option<TurnId>,
    /// What it is.
    pub kind: Kind,
    /// Its data: one line of JSON.
    pub data: String,
}

/// A stored message.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageRow {
    /// Counts from 1 in its session, without gaps.
    pub sequence: i64,
    /// `user` or `assistant`.
    pub role: String,
    /// When it came.
    pub at: Timestamp,
    /// Data of its event.
    pub data: String,
    /// What its event is.
    pub kind: Kind,
}

/// What sessions and agents need, for all tenants.
#[derive(Debug, Clone, Default)]
pub struct Uses {
    /// Every session.
    pub sessions: Vec<SessionUse>,
    /// Digests of the versions that agents are at.
    pub current: Vec<String>,
    /// The versions that were deployed for the agents that there are.
    pub deploys: Vec<DeployRow>,
}

/// What a session needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionUse {
    /// The session.
    pub id: SessionId,
    /// Digest of its agent's version.
    pub digest: String,
    /// Its status.
    pub status: Status,
    /// Whether its removal was begun.
    pub is_disowned: bool,
    /// When something last happened in it: of one that has ended, its end.
    pub last_active_at: Timestamp,
}

/// That a version was deployed for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployRow {
    /// The agent's tenant.
    pub tenant: String,
    /// The agent's name.
    pub agent: String,
    /// The version.
    pub digest: String,
    /// When, for the last time.
    pub at: Timestamp,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyRow {
    /// The key.
    pub id: KeyId,
    /// The tenant it speaks for.
    pub tenant: String,
    /// What its maker called it.
    pub label: String,
    /// The first characters of its secret.
    pub prefix: String,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// What it allows.
    pub scopes: Scopes,
    /// The one agent that it knows.
    pub agent: Option<String>,
    /// When it becomes useless.
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// A credential, with its secret sealed.
#[derive(Debug, Clone, PartialEq)]
pub struct CredentialRow {
    /// The credential.
    pub id: CredentialId,
    /// The tenant whose sessions may use it.
    pub tenant: String,
    /// What it is for.
    pub kind: CredentialType,
    /// What its maker called it.
    pub label: String,
    /// Its secret.
    pub sealed: Sealed,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a sandbox was last given it.
    pub last_used_at: Option<Timestamp>,
}

/// The role under which an event is listed among the messages, if it is: the user's message when
/// its turn starts, and the runtime's `assistant` and `result` messages.
pub(super) fn message_role(kind: &Kind, data: &str) -> Option<&'static str> {
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        #[serde(borrow, default)]
        r#type: std::borrow::Cow<'a, str>,
        #[serde(borrow, default)]
        kind: std::borrow::Cow<'a, str>,
    }
    if !matches!(kind, Kind::Message | Kind::TurnStarted) {
        return None;
    }
    let head: Head<'_> = serde_json::from_str(data).ok()?;
    match kind {
        Kind::TurnStarted => (head.kind == "user").then_some("user"),
        _ => matches!(&*head.r#type, "assistant" | "result").then_some("assistant"),
    }
}
