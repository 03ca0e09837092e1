//! The frames of event streams: what stands in `data:` behind each name in `event:`.
//!
//! OpenAPI 3.1 has no words for a stream. A schema here is that of one frame, in the words that
//! OpenAPI 3.2 has for it: an object of texts, of which `data` holds JSON.

use serde_json::{Map, Value, json};

use super::operation::{object, reference, text};

/// Any JSON.
fn anything() -> Value {
    json!({})
}

fn optional(mut object: Value, name: &str, schema: Value) -> Value {
    object["properties"][name] = schema;
    object
}

/// Names of frames, what each tells, and its data: those of a turn first.
fn frames() -> Vec<(&'static str, &'static str, Value)> {
    let session = || reference("SessionId");
    let turn = || reference("TurnId");
    let whole = || json!({"type": "integer", "minimum": 0});
    let change = || json!({"type": "object", "required": ["action"], "properties": {"action": {"type": "string"}}});
    let states = json!({"type": "string", "enum": ["completed", "failed", "interrupted", "cancelled"]});
    let done = object([("sessionId", session()), ("turnId", turn()), ("state", states)]);
    let done = optional(done, "cause", text());
    let done = optional(optional(done, "limit", reference("LimitReached")), "usage", reference("Usage"));
    vec![
        (
            "session_start",
            "The message was taken and waits for its turn: the first frame of a turn",
            object([("sessionId", session()), ("version", text()), ("turnId", turn())]),
        ),
        ("message", "A message of the runtime, exactly as it said it", json!({"type": "object"})),
        ("text_delta", "A piece of text; a preview of a message that comes whole", object([("delta", text())])),
        ("thinking_delta", "A piece of thought, or a whole block of it", object([("delta", anything())])),
        ("tool_use", "A tool was called", object([("id", anything()), ("name", anything()), ("input", anything())])),
        (
            "tool_result",
            "A tool answered",
            object([("tool_use_id", anything()), ("content", anything()), ("is_error", json!({"type": "boolean"}))]),
        ),
        ("permission_request", "The runtime asks for permission, or asks a question", reference("PermissionRequest")),
        ("permission_resolved", "A request was answered, or needs no answer any more", reference("PermissionResolved")),
        ("turn_complete", "The runtime's result", object([("numTurns", whole()), ("result", anything())])),
        ("error", "Something failed; at most one in a turn", object([("error", text())])),
        ("done", "The turn is over: the last frame of a turn, whatever happened", done),
        (
            "turn_started",
            "The message was given to the runtime; on the stream of a whole session only",
            optional(
                object([("turnId", turn()), ("kind", json!({"type": "string", "enum": ["user", "runtime"]}))]),
                "content",
                anything(),
            ),
        ),
        ("text", "A whole block of text; on the stream of a whole session only", object([("text", anything())])),
        ("lifecycle", "The session or its sandbox changed; on the stream of a whole session only", change()),
        ("mcp_status", "MCP servers were configured, or failed; on the stream of a whole session only", change()),
        ("egress", "Something inside reached out, or tried to; on the stream of a whole session only", reference("EgressEvent")),
    ]
}

/// What a command of `exec` streams.
fn exec_frames() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("stdout", "What the command wrote to its standard output", reference("ExecPiece")),
        ("stderr", "What the command wrote to its standard error", reference("ExecPiece")),
        ("exit", "How it ended: the last frame", reference("ExecEnd")),
        ("error", "It could not be brought to its end: the last frame", object([("error", text())])),
    ]
}

fn name(prefix: &str, event: &str) -> String {
    let capitals = event.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    format!("{prefix}{}Frame", capitals.collect::<String>())
}

/// A frame with this name, whose data is JSON as described.
fn frame(event: Value, data: &Value, tells: &str) -> Value {
    let data = json!({"type": "string", "contentMediaType": "application/json", "contentSchema": data});
    let mut frame = object([("event", event), ("data", data)]);
    frame["description"] = json!(tells);
    frame
}

/// A frame of a session's log.
fn logged(mut frame: Value) -> Value {
    let tells = "The event in the session's log: the cursor to go on from";
    frame["properties"]["id"] = json!({"type": "string", "pattern": "^[1-9][0-9]*$", "description": tells});
    frame["required"] = json!(["id", "event", "data"]);
    frame
}

/// The schemas of all frames, and of the two kinds of stream.
pub fn components() -> Map<String, Value> {
    let mut schemas = Map::new();
    for (event, tells, data) in frames() {
        schemas.insert(name("", event), logged(frame(json!({"const": event}), &data, tells)));
    }
    let tells = "A delta or block of a type that this version does not know, under its own name: pass over it.";
    let other = json!({"type": "string", "pattern": "^[a-z0-9_]{1,64}$"});
    schemas.insert("OtherFrame".to_owned(), logged(frame(other, &anything(), tells)));
    let all: Vec<_> = schemas.keys().map(|name| reference(name)).collect();
    let tells = "One frame of a session's stream. A stream begins with `retry: 1000`, and brings comments while nothing happens.";
    schemas.insert("StreamFrame".to_owned(), json!({"description": tells, "anyOf": all}));

    let mut all = Vec::new();
    for (event, tells, data) in exec_frames() {
        all.push(reference(&name("Exec", event)));
        schemas.insert(name("Exec", event), frame(json!({"const": event}), &data, tells));
    }
    schemas.insert("ExecFrame".to_owned(), json!({"description": "One frame of a command's stream.", "oneOf": all}));
    schemas
}
