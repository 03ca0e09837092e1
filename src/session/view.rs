//! What clients see of an event: its frame on a stream, its row in the timeline, its message.
//!
//! The log keeps more than the wire contract shows, so each view takes its fields from it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::snapshot::{Listed, Manifest};
use crate::store::{EventRow, MessageRow, PermissionRow, TurnRow, TurnState};
use crate::wire::event::{Kind, SessionEvent};
use crate::wire::limits::Reached;
use crate::wire::message::Message;
use crate::wire::permission::Permission;
use crate::wire::snapshot::{Snapshot, SnapshotOrigin};
use crate::wire::turn::Turn;
use crate::wire::{SessionId, Timestamp, TurnId};

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
    event.kind.timeline().is_some().then(|| shown(session, tenant, event))
}

/// An event as the timeline shows it; the type of one that has no row there is its kind.
pub fn shown(session: SessionId, tenant: &str, event: &EventRow) -> SessionEvent {
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
    SessionEvent {
        id: derived_id(session, "event", event.id).to_string(),
        session_id: session,
        r#type: event.kind.timeline().map_or_else(|| event.kind.to_string(), str::to_owned),
        data: Some(data),
        sequence: event.id,
        created_at: event.at,
        tenant_id: tenant.to_owned(),
    }
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

/// A turn as clients see it. `queue` are those of its session that are not over, in their order.
pub fn turn(session: SessionId, row: TurnRow, queue: &[TurnId]) -> Turn {
    let position = queue.iter().position(|one| *one == row.id).filter(|_| row.state == TurnState::Queued);
    Turn {
        id: row.id,
        session_id: session,
        state: row.state.to_string(),
        kind: row.kind,
        queue_position: position.map(|position| position as i64),
        limit: row.cause.as_deref().and_then(Reached::of_cause),
        cause: row.cause,
        first_event: row.first_event,
        last_event: row.last_event,
        created_at: row.created_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        usage: row.usage,
        idempotency_key: row.idempotency_key,
    }
}

/// A request for permission as clients see it.
pub fn permission(row: &PermissionRow) -> Permission {
    let request = members(&row.request);
    let timeout = request.get("timeoutMs").and_then(Value::as_i64);
    Permission {
        request,
        event_id: row.event,
        created_at: row.at,
        expires_at: timeout.map(|timeout| Timestamp(row.at.millis().saturating_add(timeout))),
        resolved: row.resolved.as_deref().and_then(|resolved| serde_json::from_str(resolved).ok()),
    }
}

/// A snapshot as clients see it.
pub fn snapshot(listed: &Listed) -> Snapshot {
    match &listed.state {
        Ok(found) => manifest(found),
        Err(error) => Snapshot {
            event_id: listed.id.event,
            created_at: None,
            reason: None,
            bytes: None,
            stored_bytes: None,
            agent_version: None,
            runtime_version: None,
            copied_from: None,
            damage: Some(crate::report::chain(error)),
        },
    }
}

/// A whole snapshot as clients see it.
pub fn manifest(manifest: &Manifest) -> Snapshot {
    Snapshot {
        event_id: manifest.event,
        created_at: Some(manifest.created_at),
        reason: Some(manifest.reason.as_str().to_owned()),
        bytes: Some(manifest.tar_bytes),
        stored_bytes: Some(manifest.stored_bytes),
        agent_version: Some(manifest.agent_version.clone()),
        runtime_version: Some(manifest.runtime_version.clone()),
        copied_from: manifest.forked_from.map(|from| SnapshotOrigin { session_id: from.session, event_id: from.event }),
        damage: None,
    }
}

/// A UUID for what the log counts by number: always the same for the same thing.
fn derived_id(session: SessionId, what: &str, number: i64) -> Uuid {
    Uuid::new_v5(&session.as_uuid(), format!("{what}/{number}").as_bytes())
}

/// Data of an event that Ash wrote itself: an object; anything else shows as an empty one.
fn parse(data: &str) -> Value {
    Value::Object(members(data))
}

/// The members of an object. What the runtime said is in it as it came, and may be nothing that a
/// [`Value`] can hold: half of a surrogate pair, or lists in lists in lists. Such a member shows as
/// the text of its JSON, and the others as they are.
fn members(data: &str) -> Map<String, Value> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(data).unwrap_or_default();
    let value = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().into());
    members.into_iter().map(|(name, raw)| (name, value(raw))).collect()
}

fn field(data: &str, name: &str) -> Value {
    parse(data)[name].take()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_no_value_can_hold_shows_as_text_and_hides_nothing_else() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for input in [r#"{"command":"ls \ud800"}"#, &deep] {
            let id = crate::wire::PermissionId::new();
            let request = format!(r#"{{"id":"{id}","kind":"tool","toolName":"Bash","input":{input},"timeoutMs":5}}"#);
            let row = PermissionRow { id, event: 7, turn: None, at: Timestamp(1), request, resolved: None };
            let shown = serde_json::to_value(permission(&row)).expect("JSON");
            assert_eq!((&shown["id"], &shown["toolName"], &shown["input"]), (&json!(id), &json!("Bash"), &json!(input)));
            assert_eq!(shown["expiresAt"], json!(Timestamp(6)));

            let data = format!(r#"{{"id":"t","name":"Bash","input":{input}}}"#);
            let call = EventRow { data, ..event(Kind::ToolUse, Value::Null) };
            let row = timeline(SessionId::new(), "default", &call).expect("has a row");
            assert_eq!(parse(&row.data.expect("data")), json!({"toolName": "Bash", "toolId": "t", "input": input}));
        }
    }
}
