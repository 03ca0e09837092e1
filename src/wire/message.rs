//! A message to an agent: `POST /api/sessions/{id}/messages`, and the options of one turn.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Body of `POST /api/sessions/{id}/messages`.
///
/// Unknown fields are ignored, as existing clients send some.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct MessageBody {
    /// A text, or 1 to 20 content blocks of the model API (`text`, `image`, `document`). Goes to
    /// the runtime exactly as it came, but for blocks `{"type":"attachment","attachmentId":…}`, of which
    /// the runtime is given the content.
    #[cfg_attr(feature = "daemon", schema(schema_with = super::schema::content))]
    pub content: Box<RawValue>,
    /// What this turn asks for beside its text.
    #[serde(flatten)]
    pub options: TurnOptions,
    /// What happens if a turn is running. Default: `queue`.
    #[serde(default)]
    pub if_busy: IfBusy,
}

/// What a message does that finds a turn running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum IfBusy {
    /// Wait for the turns before it.
    #[default]
    Queue,
    /// Be refused with 409.
    Reject,
    /// End the running turn and go next.
    Interrupt,
}

/// Options of one turn.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TurnOptions {
    /// Whether the stream brings token deltas. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub include_partial_messages: bool,
    /// Model for this turn; default: the session's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(min_length = 1, max_length = 100))]
    pub model: Option<String>,
    /// Most model calls in this turn, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(minimum = 1))]
    pub max_turns: Option<u32>,
    /// Most money this turn may cost by the runtime's estimate, in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(minimum = 0))]
    pub max_budget_usd: Option<f64>,
    /// How hard the model thinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// Extended thinking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// A JSON schema that the final answer has to meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_format: Option<OutputFormat>,
}

/// How hard the model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum Effort {
    Low,
    Medium,
    High,
    Max,
}

impl Effort {
    /// The word on the wire and on the runtime's command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Max => "max",
        }
    }
}

/// Extended thinking of one turn.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Thinking {
    /// `enabled`, `disabled` or `adaptive`.
    pub r#type: String,
    /// Most tokens of thought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_tokens: Option<u32>,
}

/// A wanted shape of the final answer.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct OutputFormat {
    /// `json_schema`.
    pub r#type: String,
    /// The JSON schema.
    pub schema: serde_json::Value,
}

/// A stored message of a session, as `GET /api/sessions/{id}/messages` lists it.
#[cfg(any(feature = "daemon", feature = "cli"))]
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// UUID of the message.
    #[cfg_attr(feature = "daemon", schema(format = "uuid"))]
    pub id: String,
    /// The session it belongs to.
    pub session_id: super::SessionId,
    /// `user` or `assistant`.
    pub role: String,
    /// The message as JSON text.
    pub content: String,
    /// Counts the session's messages from 1, without gaps.
    pub sequence: i64,
    /// When it was stored.
    pub created_at: super::Timestamp,
    /// The tenant it belongs to.
    pub tenant_id: String,
}
