//! Permission: a runtime asks before it uses a tool, or asks the user a question, and somebody
//! answers.
//!
//! ```text
//! runtime asks ──▶ event `permission_request` ──▶ POST …/permissions/{id} ──▶ event `permission_resolved`
//!                                             └── nobody in time, or the turn ended ──┘
//! ```

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{PermissionId, TurnId};

/// Data of a `permission_request` event.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PermissionRequest {
    /// Names the request in the answer.
    pub id: PermissionId,
    /// The turn that waits for the answer.
    pub turn_id: Option<TurnId>,
    /// What is asked.
    pub kind: PermissionKind,
    /// The tool, as the runtime calls it; `AskUserQuestion` for a question of `claude`.
    pub tool_name: String,
    /// Input of the tool; for a question `{"questions": [{"question", "options", …}]}`.
    #[cfg_attr(feature = "daemon", schema(value_type = serde_json::Value))]
    pub input: Box<RawValue>,
    /// The call, as in the `tool_use` event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_use_id: Option<String>,
    /// What the call is for, in the runtime's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The path that made the runtime ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_path: Option<String>,
    /// Rules that an answer with scope `session` grants, in the runtime's language:
    /// `Bash(touch *)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Milliseconds after which the configured answer is given; `null`: it waits for ever.
    pub timeout_ms: Option<u64>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum PermissionKind {
    /// To use a tool.
    Tool,
    /// An answer to a question.
    Question,
}

/// Body of `POST /api/sessions/{id}/permissions/{permissionId}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PermissionAnswer {
    /// Whether the tool may run. A question is answered with `allow`.
    pub behavior: Behavior,
    /// For how long. Default: `once`.
    #[serde(default)]
    pub scope: Scope,
    /// With `allow`: the input that the tool gets in place of what it asked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub updated_input: Option<Box<RawValue>>,
    /// With `allow` of a question: the answers by the text of each question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<serde_json::Map<String, serde_json::Value>>,
    /// With `deny`: what the model is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// With `deny`: whether the turn ends too. Default: false, the model goes on without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupt: bool,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "daemon", schema(as = PermissionBehavior))]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// The tool may run.
    Allow,
    /// It may not.
    Deny,
}

/// How long an answer holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "daemon", schema(as = PermissionScope))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// For this request.
    #[default]
    Once,
    /// For every later request of the session that the request's `rules` cover.
    Session,
}

/// Data of a `permission_resolved` event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PermissionResolved {
    /// The request.
    pub id: PermissionId,
    /// What came of it.
    pub behavior: Behavior,
    /// For how long.
    #[serde(default)]
    pub scope: Scope,
    /// Who decided.
    pub by: Resolver,
    /// What the model was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Rules that hold from here on, with scope `session`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

/// Who decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "daemon", schema(as = PermissionResolver))]
#[serde(rename_all = "snake_case")]
pub enum Resolver {
    /// Somebody, through the API.
    Caller,
    /// Nobody answered in time.
    Timeout,
    /// The runtime took the request back, or its turn ended.
    TurnEnd,
}

/// A request for permission, as `GET /api/sessions/{id}/permissions` lists it.
#[cfg(any(feature = "daemon", feature = "cli"))]
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Permission {
    /// What is asked.
    #[serde(flatten)]
    #[cfg_attr(feature = "daemon", schema(value_type = PermissionRequest))]
    pub request: serde_json::Map<String, serde_json::Value>,
    /// Id of its event.
    pub event_id: i64,
    /// When it was asked.
    pub created_at: super::Timestamp,
    /// When the configured answer is given.
    pub expires_at: Option<super::Timestamp>,
    /// What came of it; `null` while it waits.
    pub resolved: Option<PermissionResolved>,
}

/// `{"permissions": […]}`, oldest first.
#[cfg(any(feature = "daemon", feature = "cli"))]
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct PermissionList {
    /// The requests.
    pub permissions: Vec<Permission>,
}

/// `{"permission": …}`.
#[cfg(any(feature = "daemon", feature = "cli"))]
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct PermissionBody {
    /// The request.
    pub permission: Permission,
}
