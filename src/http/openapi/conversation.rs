//! Operations on messages, events, turns and requests for permission.

use serde_json::{Value, json};

use super::examples;
use super::operation::{Operation, flag, get, limit, post, reference, text, whole, word};
use crate::wire::message::MessageBody;
use crate::wire::permission::{PermissionAnswer, PermissionBody, PermissionList};
use crate::wire::session::{EventList, InterruptBody, MessageList};
use crate::wire::turn::{TurnBody, TurnList};

const STATUS: &str = "The session is not `active` (code `conflict`), or the request is wrong";
const STREAM: &str = "text/event-stream";

fn stream() -> Value {
    json!({"schema": reference("StreamFrame"), "example": examples::frames()})
}

/// The header `Idempotency-Key`.
pub fn key() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"})
}

pub fn operations() -> Vec<Operation> {
    let types = [
        "text",
        "tool_start",
        "tool_result",
        "reasoning",
        "permission_request",
        "permission_resolved",
        "turn_complete",
        "error",
        "lifecycle",
        "mcp_status",
        "egress",
    ];
    let states = word(&["queued", "running", "completed", "failed", "interrupted", "cancelled"]);
    let (turn, permission) = (|| json!({"turn": examples::turn()}), || json!({"permission": examples::permission()}));
    vec![
        post("/api/sessions/{id}/messages", "sendMessage", "Send a message and stream its turn")
            .about(
                "Stores the turn, then streams it from its first event to its `done`. A client that goes away changes nothing: the turn goes \
                 on, and `streamSession` brings what was missed.",
            )
            .header(
                "Idempotency-Key",
                key(),
                "A message that comes again with the key of an earlier one joins its turn. Keys belong to their session",
            )
            .takes::<MessageBody>(json!({"content": "What is in the workspace?", "includePartialMessages": true}))
            .answers_as(200, "The turn", STREAM, stream())
            .fails(400, STATUS)
            .fails(409, "A turn is running and `ifBusy` is `reject`, or the disk is full")
            .fails(422, "`Idempotency-Key` came with another message before, or the turn can not be run as asked")
            .fails(429, "More than 100 messages wait already"),
        get("/api/sessions/{id}/messages", "listMessages", "List messages of a session")
            .query("after", whole(0), "Only those behind this `sequence`")
            .query("limit", limit(100, 1000), "At most so many")
            .answers::<MessageList>(200, "The messages, oldest first", json!({"messages": [examples::message()]})),
        get("/api/sessions/{id}/events", "listEvents", "List events of a session")
            .query("after", whole(0), "Only those behind this `sequence`")
            .query("limit", limit(200, 1000), "At most so many")
            .query("type", word(&types), "Only those of this type")
            .answers::<EventList>(200, "The events, oldest first", json!({"events": [examples::event()]})),
        get("/api/sessions/{id}/stream", "streamSession", "Stream events of a session")
            .about(
                "Brings every event behind `after`, then those that happen. Reconnect with the id of the last frame that came whole, as \
                 `after` or as the header `Last-Event-ID`, which wins.",
            )
            .query("after", whole(0), "Only events behind this id; not beyond the newest one. Default: 0")
            .query("turn", reference("TurnId"), "Only this turn; the stream ends with its `done`")
            .query("partials", flag(true), "Token deltas and partial messages, too")
            .query("types", text(), "Only frames of these names, separated by commas; of one turn also its `done`")
            .header("Last-Event-ID", whole(0), "As `after`; browsers send it when they reconnect")
            .answers_as(200, "The events", STREAM, stream()),
        post("/api/sessions/{id}/interrupt", "interruptSession", "Interrupt the turn that runs")
            .answers::<InterruptBody>(200, "The turn that now ends, if one was running", json!({"turnId": examples::turn_id()}))
            .fails(400, STATUS),
        get("/api/sessions/{id}/turns", "listTurns", "List turns of a session")
            .query("after", whole(0), "Only those behind the one with this `firstEvent`")
            .query("limit", limit(100, 1000), "At most so many")
            .query("state", states, "Only those in this state")
            .answers::<TurnList>(200, "The turns, oldest first", json!({"turns": [examples::turn()]})),
        get("/api/sessions/{id}/turns/{turn}", "getTurn", "Show a turn").answers::<TurnBody>(200, "The turn", turn()),
        post("/api/sessions/{id}/turns/{turn}/cancel", "cancelTurn", "Cancel a turn")
            .about("Takes it from the queue, or interrupts it.")
            .answers::<TurnBody>(200, "The turn", turn())
            .fails(400, STATUS)
            .fails(409, "It is over already"),
        get("/api/sessions/{id}/permissions", "listPermissions", "List requests for permission")
            .query("after", whole(0), "Only those behind the one with this `eventId`")
            .query("limit", limit(100, 1000), "At most so many")
            .query("state", word(&["pending"]), "Only those that wait for an answer")
            .answers::<PermissionList>(200, "The requests, oldest first", json!({"permissions": [examples::permission()]})),
        get("/api/sessions/{id}/permissions/{permission}", "getPermission", "Show a request for permission")
            .answers::<PermissionBody>(200, "The request", permission()),
        post("/api/sessions/{id}/permissions/{permission}", "answerPermission", "Answer a request for permission")
            .about("The first answer counts.")
            .takes::<PermissionAnswer>(json!({"behavior": "allow", "scope": "session"}))
            .answers::<PermissionBody>(200, "The request with what came of it", permission())
            .fails(400, STATUS)
            .fails(409, "It is resolved already")
            .fails(422, "The answer makes no sense for this request, which waits on"),
    ]
}
