//! Operations on sessions as a whole, and on their snapshots.

use serde_json::json;

use super::examples;
use super::operation::{Operation, delete, flag, get, limit, patch, post, text, whole, word};
use crate::http::route::sessions::ConfigBody;
use crate::wire::session::{CreateSession, SessionBody, SessionList};
use crate::wire::snapshot::{ForkSession, RewindSession, SnapshotBody, SnapshotList};

const STATUS: &str = "Its status does not allow it (code `conflict`), or the request is wrong";
const SNAPSHOT: &str = "No snapshot could be taken or read, or a fault in Ash or on its host";
const OVER: &str = "The session has ended";

pub fn operations() -> Vec<Operation> {
    let snapshot = || json!({"snapshot": examples::snapshot()});
    let statuses = word(&["starting", "active", "paused", "stopped", "ended", "error"]);
    vec![
        get("/api/sessions", "listSessions", "List sessions")
            .about("Newest first.")
            .query("agent", text(), "Only those of this agent")
            .query("status", statuses, "Only those with this status")
            .query("limit", limit(1000, 1000), "At most so many")
            .query("offset", whole(0), "How many to pass over")
            .query("includeTotal", flag(false), "Whether `total` says how many there are in all")
            .answers::<SessionList>(200, "The sessions", json!({"sessions": [examples::session()]})),
        post("/api/sessions", "createSession", "Create a session")
            .about("Brings up its sandbox and answers when it takes messages.")
            .takes::<CreateSession>(json!({"agent": "helper", "permissionMode": "ask", "limits": {"memoryMb": 512}}))
            .answers::<SessionBody>(201, "The session", examples::session_body())
            .fails(404, "There is no such agent")
            .fails(422, "The agent's version is not on this host, its credential can not be used, or the sandbox would be too weak")
            .fails(409, "The disk is full")
            .fails(500, "Its sandbox could not be brought up, or a fault in Ash or on its host"),
        get("/api/sessions/{id}", "getSession", "Show a session").answers::<SessionBody>(200, "The session", examples::session_body()),
        delete("/api/sessions/{id}", "endSession", "End a session")
            .about("Takes a last snapshot and ends its processes. It can still be read. Repeating it does no harm.")
            .answers::<SessionBody>(200, "The session", examples::session_body())
            .fails(500, SNAPSHOT),
        patch("/api/sessions/{id}/config", "updateSession", "Change what a session's turns may use")
            .about("What is left out stays. It counts from the next turn on.")
            .takes::<ConfigBody>(json!({"model": "claude-sonnet-4-5", "disallowedTools": ["WebFetch"]}))
            .or_nothing()
            .answers::<SessionBody>(200, "The session", examples::session_body())
            .fails(400, STATUS)
            .fails(422, "The credential can not be used"),
        post("/api/sessions/{id}/pause", "pauseSession", "Pause a session")
            .about("Takes a snapshot and freezes its processes. It has to be `active`.")
            .answers::<SessionBody>(200, "The session", examples::session_body())
            .fails(400, STATUS)
            .fails(409, "The disk is full")
            .fails(500, SNAPSHOT),
        post("/api/sessions/{id}/resume", "resumeSession", "Resume a session")
            .about("Thaws its processes, or starts them again from its newest snapshot.")
            .answers::<SessionBody>(200, "The session", examples::session_body())
            .fails(400, STATUS)
            .fails(409, "The disk is full")
            .fails(410, OVER)
            .fails(422, "The agent's version is not on this host, its credential or snapshot can not be used, or the sandbox would be too weak")
            .fails(500, "Its sandbox could not be brought back, or a fault in Ash or on its host"),
        post("/api/sessions/{id}/stop", "stopSession", "Stop a session")
            .about("Takes a snapshot and ends its processes. It has to be `active` or `starting`.")
            .answers::<SessionBody>(200, "The session", examples::session_body())
            .fails(400, STATUS)
            .fails(409, "The disk is full")
            .fails(500, SNAPSHOT),
        post("/api/sessions/{id}/fork", "forkSession", "Fork a session")
            .about("Makes another session with the workspace and the conversation of this one, as it is now or as it was at a snapshot.")
            .takes::<ForkSession>(json!({"eventId": 42}))
            .or_nothing()
            .answers::<SessionBody>(201, "The new session", examples::session_body())
            .fails(400, STATUS)
            .fails(404, "There is no such session, or no snapshot at this event")
            .fails(410, OVER)
            .fails(422, "The snapshot or the agent's version can not be used")
            .fails(500, SNAPSHOT)
            .fails(503, "The last snapshot of an ended session could not be taken yet, or there is no room right now"),
        post("/api/sessions/{id}/rewind", "rewindSession", "Rewind a session")
            .about("Puts workspace and conversation back to a snapshot. What they were before is kept as a snapshot.")
            .takes::<RewindSession>(json!({"eventId": 42, "ifBusy": "interrupt"}))
            .answers::<SessionBody>(200, "The session", examples::session_body())
            .fails(400, STATUS)
            .fails(404, "There is no such session, or no snapshot at this event")
            .fails(409, "A turn is running and was to be left alone, or the disk is full")
            .fails(410, OVER)
            .fails(422, "The snapshot or the agent's version can not be used")
            .fails(500, SNAPSHOT),
        get("/api/sessions/{id}/snapshots", "listSnapshots", "List snapshots of a session")
            .answers::<SnapshotList>(200, "The snapshots, oldest first", json!({"snapshots": [examples::snapshot()]}))
            .fails(500, SNAPSHOT),
        post("/api/sessions/{id}/snapshots", "takeSnapshot", "Take a snapshot of a session")
            .answers::<SnapshotBody>(201, "The snapshot", snapshot())
            .fails(400, STATUS)
            .fails(409, "The disk is full")
            .fails(410, OVER)
            .fails(500, SNAPSHOT),
    ]
}
