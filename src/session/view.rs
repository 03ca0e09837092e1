//! What clients see of an event: its frame on a stream, its row in the timeline, its message.
//!
//! The log keeps more than the wire contract shows, so each view takes its fields from it.

use std::borrow::Cow;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::store::{EventRow, MessageRow};
use crate::wire::SessionId;
use crate::wire::event::{Kind, SessionEvent};
use crate::wire::message::Message;

/// A frame of a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The event's id.
    pub id: i64,
    /// Name of the frame.
    pub name: Cow<'a, str>,
    /// One line of JSON.
    pub data: Cow<'a, str>,
}

/// Which frames a stream brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameFilter {
    /// Token deltas too.
    pub partials: bool,
    /// Also what the stream of a single turn leaves out: changes of the session, whole blocks of
    /// text, and the messages that began turns.
    pub whole_log: bool,
}

/// The frame of an event, where the stream brings one.
pub fn frame(event: &EventRow, filter: FrameFilter) -> Option<Frame<'_>> {
    if event.kind.is_partial() && !filter.partials {
        return None;
    }
    let name = match event.kind.frame() {
        Some(name) => Cow::Borrowed(name),
        None if filter.whole_log => Cow::Owned(event.kind.to_string()),
        None => return None,
    };
    let data = match event.kind {
        Kind::Reasoning => Cow::Owned(json!({"delta": field(&event.data, "thinking")}).to_string()),
        Kind::ToolResult => {
            let result = parse(&event.data);
            let shown =
                json!({"tool_use_id": result["tool_use_id"], "content": result["content"], "is_error": result["is_error"]});
            Cow::Owned(shown.to_string())
        }
        _ => Cow::Borrowed(event.data.as_str()),
    };
    Some(Frame { id: event.id, name, data })
}

/// The timeline's row of an event, where it has one.
pub fn timeline(session: SessionId, tenant: &str, event: &EventRow) -> Option<SessionEvent> {
    let data = match event.kind {
        Kind::ToolUse => {
            let call = parse(&event.data);
            json!({"toolName": call["name"], "toolId": call["id"], "input": call["input"]}).to_string()
        }
        Kind::ToolResult => {
            let result = parse(&event.data);
            json!({
                "toolName": result["toolName"], "toolId": result["tool_use_id"],
                "stdout": result["stdout"], "stderr": result["stderr"],
            })
            .to_string()
        }
        _ => event.data.clone(),
    };
    Some(SessionEvent {
        id: derived_id(session, "event", event.id).to_string(),
        session_id: session,
        r#type: event.kind.timeline()?.to_owned(),
        data: Some(data),
        sequence: event.id,
        created_at: event.at,
        tenant_id: tenant.to_owned(),
    })
}

/// A message as clients list it.
pub fn message(session: SessionId, tenant: &str, row: &MessageRow) -> Message {
    let content = match row.kind {
        Kind::TurnStarted => json!({"type": "user", "content": parse(&row.data)["content"]}).to_string(),
        _ => row.data.clone(),
    };
    Message {
        id: derived_id(session, "message", row.sequence).to_string(),
        session_id: session,
        role: row.role.clone(),
        content,
        sequence: row.sequence,
        created_at: row.at,
        tenant_id: tenant.to_owned(),
    }
}

/// A UUID for what the log counts by number: always the same for the same thing.
fn derived_id(session: SessionId, what: &str, number: i64) -> Uuid {
    Uuid::new_v5(&session.as_uuid(), format!("{what}/{number}").as_bytes())
}

/// Data of an event that Ash wrote itself; anything else shows as null.
fn parse(data: &str) -> Value {
    serde_json::from_str(data).unwrap_or(Value::Null)
}

fn field(data: &str, name: &str) -> Value {
    parse(data)[name].take()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Timestamp;

    fn event(kind: Kind, data: Value) -> EventRow {
        EventRow { id: 7, at: Timestamp(0), turn: None, kind, data: data.to_string() }
    }

    const TURN: FrameFilter = FrameFilter { partials: false, whole_log: false };

    #[test]
    fn a_tool_result_shows_the_contracts_fields_and_no_more() {
        let stored =
            json!({"tool_use_id": "t", "content": "c", "is_error": false, "toolName": "Bash", "stdout": "c", "stderr": ""});
        let event = event(Kind::ToolResult, stored);
        let frame = frame(&event, TURN).expect("has a frame");
        assert_eq!((frame.id, &*frame.name), (7, "tool_result"));
        assert_eq!(parse(&frame.data), json!({"tool_use_id": "t", "content": "c", "is_error": false}));
        let row = timeline(SessionId::new(), "default", &event).expect("has a row");
        assert_eq!(parse(&row.data.expect("data")), json!({"toolName": "Bash", "toolId": "t", "stdout": "c", "stderr": ""}));
    }

    #[test]
    fn partials_come_only_when_asked_for() {
        let delta = event(Kind::TextDelta, json!({"delta": "x"}));
        assert_eq!(frame(&delta, TURN), None);
        assert!(frame(&delta, FrameFilter { partials: true, ..TURN }).is_some());
    }

    #[test]
    fn the_whole_log_also_shows_what_a_turn_leaves_out() {
        let change = event(Kind::Lifecycle, json!({"action": "ended"}));
        assert_eq!(frame(&change, TURN), None);
        let frame = frame(&change, FrameFilter { whole_log: true, ..TURN }).expect("has a frame");
        assert_eq!(&*frame.name, "lifecycle");
    }

    #[test]
    fn derived_ids_stay_the_same_and_differ_by_kind() {
        let session = SessionId::new();
        assert_eq!(derived_id(session, "event", 1), derived_id(session, "event", 1));
        assert_ne!(derived_id(session, "event", 1), derived_id(session, "message", 1));
    }
}
