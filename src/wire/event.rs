//! The kinds of event in a session's log, and what each shows to clients.
//!
//! The log is the session: messages, timeline, status and stream are views of it. An event's id
//! counts from 1 in its session, without gaps. Two views exist of an event: the frame on a stream
//! ([`Kind::frame`]) and the row of the timeline ([`Kind::timeline`]); either may be absent.

use std::fmt;
use std::str::FromStr;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A message came in and waits for its turn. Data: `{"sessionId","version","turnId"}`.
    TurnQueued,
    /// The message was given to the runtime. Data: `{"turnId","kind","content"}`; `kind` is
    /// `user`, or `runtime` for a turn which the runtime began by itself (then without content).
    TurnStarted,
    /// A raw message of the runtime. Data: that message.
    Message,
    /// A raw partial message of the runtime. Data: that message.
    PartialMessage,
    /// A piece of text. Data: `{"delta"}`.
    TextDelta,
    /// A piece of thought. Data: `{"delta"}`.
    ThinkingDelta,
    /// A delta of a type that this version does not know. Data: the delta.
    OtherDelta(Name),
    /// A whole block of text. Data: `{"text"}`.
    Text,
    /// A whole block of thought. Data: `{"thinking"}`.
    Reasoning,
    /// A tool was called. Data: `{"id","name","input"}`.
    ToolUse,
    /// A tool answered. Data: `{"tool_use_id","content","is_error","toolName","stdout","stderr"}`.
    ToolResult,
    /// A block of a type that this version does not know. Data: the block.
    OtherBlock(Name),
    /// The runtime asks for permission, or asks a question. Data:
    /// [`PermissionRequest`](super::permission::PermissionRequest).
    PermissionRequest,
    /// A request was answered, or needs no answer any more. Data:
    /// [`PermissionResolved`](super::permission::PermissionResolved).
    PermissionResolved,
    /// The runtime's result. Data: `{"numTurns","result"}`.
    TurnComplete,
    /// Something failed; at most one in a turn. Data: `{"error"}`.
    Error,
    /// The turn is over. Data: `{"sessionId","turnId","state"}`, state as in `TurnState`, and
    /// `"cause"` where it did not complete, `"usage"` ([`Usage`](super::usage::Usage)) where its
    /// sandbox told.
    TurnEnded,
    /// The session changed. Data: `{"action",…}`.
    Lifecycle,
    /// MCP servers were configured or failed. Data: `{"action",…}`.
    McpStatus,
    /// Something inside reached out, or tried to. Data: `egress::EgressEvent`.
    Egress,
}

/// A name that came from the runtime and is safe as the name of a frame: 1 to 64 of `a-z0-9_`,
/// and none of the names that Ash itself gives to frames, so that a runtime can not forge those.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    /// The name, or `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let safe = (1..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        let own = KINDS.iter().any(|(kind, stored)| *stored == text || kind.frame() == Some(text));
        (safe && !own && text != "session_end").then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const KINDS: &[(Kind, &str)] = &[
    (Kind::TurnQueued, "turn_queued"),
    (Kind::TurnStarted, "turn_started"),
    (Kind::Message, "message"),
    (Kind::PartialMessage, "partial_message"),
    (Kind::TextDelta, "text_delta"),
    (Kind::ThinkingDelta, "thinking_delta"),
    (Kind::Text, "text"),
    (Kind::Reasoning, "reasoning"),
    (Kind::ToolUse, "tool_use"),
    (Kind::ToolResult, "tool_result"),
    (Kind::PermissionRequest, "permission_request"),
    (Kind::PermissionResolved, "permission_resolved"),
    (Kind::TurnComplete, "turn_complete"),
    (Kind::Error, "error"),
    (Kind::TurnEnded, "turn_ended"),
    (Kind::Lifecycle, "lifecycle"),
    (Kind::McpStatus, "mcp_status"),
    (Kind::Egress, "egress"),
];

/// A text that names no kind of event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of event")]
pub struct KindError(String);

impl FromStr for Kind {
    type Err = KindError;

    /// Reads the stored form, which [`fmt::Display`] prints.
    fn from_str(text: &str) -> Result<Self, KindError> {
        let other = |name: &str| Name::parse(name).ok_or_else(|| KindError(text.to_owned()));
        if let Some(name) = text.strip_prefix("delta/") {
            return other(name).map(Self::OtherDelta);
        }
        if let Some(name) = text.strip_prefix("block/") {
            return other(name).map(Self::OtherBlock);
        }
        let found = KINDS.iter().find(|(_, stored)| *stored == text);
        found.map(|(kind, _)| kind.clone()).ok_or_else(|| KindError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherDelta(name) => write!(f, "delta/{}", name.0),
            Self::OtherBlock(name) => write!(f, "block/{}", name.0),
            kind => f.write_str(KINDS.iter().find(|(k, _)| k == kind).map_or("unknown", |(_, stored)| stored)),
        }
    }
}

impl serde::Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Kind {
    /// The name of its frame on the stream of one turn, where it has one.
    pub fn frame(&self) -> Option<&str> {
        Some(match self {
            Self::TurnQueued => "session_start",
            Self::Message | Self::PartialMessage => "message",
            Self::TextDelta => "text_delta",
            Self::ThinkingDelta | Self::Reasoning => "thinking_delta",
            Self::OtherDelta(name) | Self::OtherBlock(name) => &name.0,
            Self::ToolUse => "tool_use",
            Self::ToolResult => "tool_result",
            Self::PermissionRequest => "permission_request",
            Self::PermissionResolved => "permission_resolved",
            Self::TurnComplete => "turn_complete",
            Self::Error => "error",
            Self::TurnEnded => "done",
            Self::TurnStarted | Self::Text | Self::Lifecycle | Self::McpStatus | Self::Egress => return None,
        })
    }

    /// The kinds whose frame has this name, on the stream of a turn or of a whole session; empty if
    /// no frame has it.
    pub fn of_frame(name: &str) -> Vec<Self> {
        let named = |kind: &Self| kind.frame() == Some(name) || (kind.frame().is_none() && kind.to_string() == name);
        let mut kinds: Vec<_> = KINDS.iter().filter(|(kind, _)| named(kind)).map(|(kind, _)| kind.clone()).collect();
        if let Some(name) = Name::parse(name) {
            kinds.extend([Self::OtherDelta(name.clone()), Self::OtherBlock(name)]);
        }
        kinds
    }

    /// Whether it only previews a message that comes whole later.
    pub const fn is_partial(&self) -> bool {
        matches!(self, Self::PartialMessage | Self::TextDelta | Self::ThinkingDelta | Self::OtherDelta(_))
    }

    /// The type of its row in `GET …/events`, where it has one.
    pub const fn timeline(&self) -> Option<&'static str> {
        Some(match self {
            Self::Text => "text",
            Self::Reasoning => "reasoning",
            Self::ToolUse => "tool_start",
            Self::ToolResult => "tool_result",
            Self::PermissionRequest => "permission_request",
            Self::PermissionResolved => "permission_resolved",
            Self::TurnComplete => "turn_complete",
            Self::Error => "error",
            Self::Lifecycle => "lifecycle",
            Self::McpStatus => "mcp_status",
            Self::Egress => "egress",
            _ => return None,
        })
    }

    /// The kinds that have a row in the timeline.
    pub fn of_any_timeline() -> Vec<Self> {
        KINDS.iter().filter(|(kind, _)| kind.timeline().is_some()).map(|(kind, _)| kind.clone()).collect()
    }

    /// The kinds whose timeline row has the type `name`; empty if no row has it.
    pub fn of_timeline(name: &str) -> Vec<Self> {
        KINDS.iter().filter(|(kind, _)| kind.timeline() == Some(name)).map(|(kind, _)| kind.clone()).collect()
    }
}

/// A row of `GET /api/sessions/{id}/events`.
#[cfg(any(feature = "daemon", feature = "cli"))]
#[derive(Debug, Clone, serde::Deserialize, serde::Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SessionEvent {
    /// UUID of the event.
    #[cfg_attr(feature = "daemon", schema(format = "uuid"))]
    pub id: String,
    /// The session it belongs to.
    pub session_id: super::SessionId,
    /// See [`Kind::timeline`].
    pub r#type: String,
    /// JSON text.
    pub data: Option<String>,
    /// The event's id in the session's log: the cursor of lists and streams alike.
    pub sequence: i64,
    /// When it happened.
    pub created_at: super::Timestamp,
    /// The tenant it belongs to.
    pub tenant_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_forms_read_back() {
        let other = Name::parse("input_json_delta").expect("a name");
        for kind in KINDS.iter().map(|(kind, _)| kind.clone()).chain([Kind::OtherDelta(other.clone()), Kind::OtherBlock(other)]) {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        for text in ["", "unknown", "delta/", "delta/done", "block/A"] {
            assert!(text.parse::<Kind>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_runtime_can_not_forge_our_frames() {
        for text in ["done", "error", "session_start", "session_end", "message", "turn_ended", "lifecycle", "", "a\nb", "A", "ä"]
        {
            assert_eq!(Name::parse(text), None, "{text:?}");
        }
        assert!(Name::parse("server_tool_use").is_some());
    }
}
