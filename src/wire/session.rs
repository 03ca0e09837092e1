//! Sessions: conversations with an agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::binding::Binding;
use super::egress::Egress;
use super::limits::Limits;
use super::usage::Spent;
use super::weakness::Weakness;
use super::{SessionId, Timestamp, TurnId};

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "daemon", schema(as = SessionStatus))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its first sandbox is being made.
    Starting,
    /// Takes messages.
    Active,
    /// Kept; resume makes it active.
    Paused,
    /// Kept without processes; resume makes it active.
    Stopped,
    /// Over for good.
    Ended,
    /// Could not be brought up; resume tries again.
    Error,
    /// A status that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
            Self::Error => "error",
            Self::Unknown => "unknown",
        }
    }
}

/// A session, as `GET /api/sessions/{id}` shows it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The session.
    pub id: SessionId,
    /// Its agent.
    pub agent_name: String,
    /// Digest of its agent's version.
    pub agent_version: String,
    /// Number of the version of its agent's prompt (`…/versions`) that was active when it was made; `null` if
    /// none was, or its caller gave a prompt.
    #[serde(default)]
    pub prompt_version: Option<i64>,
    /// Its sandbox, whether or not processes run in it now.
    pub sandbox_id: String,
    /// Where it stands.
    pub status: Status,
    /// What its sandbox does: `cold`, `warming`, `waiting`, `running`, `frozen`.
    pub sandbox_state: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a turn last began or ended.
    pub last_active_at: Timestamp,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// The host that runs it; `null` while there is one host only.
    pub runner_id: Option<String>,
    /// The session it was forked from.
    pub parent_session_id: Option<String>,
    /// Model of its turns; `null` is the runtime's default.
    pub model: Option<String>,
    /// What its turns may use.
    pub config: SessionConfig,
    /// Walls that sandboxes of this host are without, by the operator's will.
    #[serde(default)]
    pub weaknesses: Vec<Weakness>,
    /// What it may use in the end; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What its turns took of the model; only of a session that is shown alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
}

/// What a session's turns may use. All of it may be left out.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SessionConfig {
    /// Tools that need no permission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_tools: Option<Vec<String>>,
    /// Tools that are taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disallowed_tools: Option<Vec<String>>,
    /// Beta features of the model API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub betas: Option<Vec<String>>,
    /// Definitions of subagents, as the runtime takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subagents: Option<Map<String, Value>>,
    /// The subagent that leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_agent: Option<String>,
    /// MCP servers beside those of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_servers: Option<BTreeMap<String, McpServer>>,
    /// Who is asked before tools run. Default: `bypassPermissions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission_mode: Option<PermissionMode>,
    /// What of the network may be reached beside the model. Default: what the agent says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// The credential of the tenant that its sandboxes are given when they start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(max_length = 255))]
    pub credential_id: Option<String>,
    /// Credentials of the tenant that are sent to one host each, by the name of the variable that stands for
    /// one inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings: Option<BTreeMap<String, Binding>>,
    /// What it may use. Default: what the agent says, and then the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// An MCP server of a session. Fields beyond these go to the runtime as they are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct McpServer {
    /// Address of a remote server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Program of a local server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Anything else.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// Who is asked before tools run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum PermissionMode {
    /// Nobody: the sandbox is the limit.
    BypassPermissions,
    /// The agent's own settings decide; what they leave open is refused.
    PermissionsByAgent,
    /// The runtime's default rules; what would be asked is refused.
    Default,
    /// The runtime's default rules; what they leave open is asked of the caller, as a
    /// `permission_request` event.
    Ask,
    /// Like `ask`, but files in the workspace are edited without asking.
    AcceptEdits,
    /// Like `ask`, but nothing is changed until the caller has accepted a plan.
    Plan,
}

/// Body of `POST /api/sessions`. Unknown fields are ignored, as existing clients send some.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct CreateSession {
    /// Name of the agent.
    #[cfg_attr(feature = "daemon", schema(min_length = 1, max_length = 255))]
    pub agent: String,
    /// Environment beside the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_env: Option<BTreeMap<String, String>>,
    /// Model of the turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(min_length = 1, max_length = 100))]
    pub model: Option<String>,
    /// Text that takes the place of `CLAUDE.md`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(max_length = 1_000_000))]
    pub system_prompt: Option<String>,
    /// What the turns may use.
    #[serde(flatten)]
    pub config: SessionConfig,
}

/// `{"session": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct SessionBody {
    /// The session.
    pub session: Session,
}

/// `{"sessions": […]}`, newest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct SessionList {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// How many there are in all; only with `includeTotal=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
}

/// `{"messages": […]}`, oldest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct MessageList {
    /// The messages.
    pub messages: Vec<super::message::Message>,
}

/// `{"events": […]}`, oldest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct EventList {
    /// The events.
    pub events: Vec<super::event::SessionEvent>,
}

/// Answer of `POST /api/sessions/{id}/interrupt`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct InterruptBody {
    /// The turn that was running and now ends; `null` when none was.
    pub turn_id: Option<TurnId>,
}
