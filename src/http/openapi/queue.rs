//! Operations on the queue.

use serde_json::{Value, json};

use super::conversation::key;
use super::examples;
use super::operation::{Operation, delete, flag, get, limit, post, word};
use crate::wire::queue::{Enqueue, QueueItemBody, QueueList, QueueResult, QueueStatsBody, QueueStatus};
use crate::wire::session::SessionBody;

const ITEM: &str = "019ad5b3-4e2a-7c91-a7f5-1b0d9e8c6a32";
const SESSION: &str = "019ad5b1-7c40-7c3a-9f0e-3c1f4b6d2a10";
const TURN: &str = "019ad5b2-0d1e-7a54-8b6f-2c3d4e5f6a7b";

/// An item.
pub fn item() -> Value {
    json!({"item": {
        "id": ITEM, "agentName": "helper", "prompt": "Summarise the notes", "status": "completed", "priority": 0, "retryCount": 0,
        "maxRetries": 3, "createdAt": "2026-01-31T12:00:00.000Z", "tenantId": "default", "sessionId": SESSION, "error": null,
        "startedAt": "2026-01-31T12:00:01.000Z", "completedAt": "2026-01-31T12:00:09.000Z", "turnId": TURN, "retryAt": null,
        "result": "Three points.", "resultTruncated": false, "costUsd": 0.0123, "keepSession": false, "cancelling": false,
        "scheduleId": null, "scheduledFor": null,
    }})
}

pub fn operations() -> Vec<Operation> {
    let statuses = QueueStatus::ALL.map(QueueStatus::as_str);
    let wait = || json!({"type": "integer", "minimum": 0, "maximum": 60, "default": 0});
    let waits = "Seconds to wait for its end";
    vec![
        post("/api/queue", "addQueueItem", "Have a message answered when there is time")
            .about("In a session of its own, which is ended after it, or in one that is named.")
            .header("Idempotency-Key", key(), "An item that comes again with the key of an earlier one of the tenant is that one")
            .takes::<Enqueue>(json!({"agentName": "helper", "prompt": "Summarise the notes", "priority": 5}))
            .answers::<QueueItemBody>(201, "The item", item())
            .fails(404, "There is no such session")
            .fails(422, "`Idempotency-Key` came with another item before")
            .fails(429, "The tenant has as many items waiting as it may, or the caller asks too often"),
        get("/api/queue", "listQueue", "List the queue")
            .query("status", word(&statuses), "Only those with this status")
            .query("limit", limit(50, 500), "At most so many")
            .answers::<QueueList>(200, "The items, newest first", json!({"items": [item()["item"]]})),
        get("/api/queue/stats", "getQueueStats", "Count the queue").answers::<QueueStatsBody>(
            200,
            "How many items there are of each status",
            json!({"stats": {"pending": 3, "processing": 2, "completed": 40, "failed": 1, "cancelled": 0}}),
        ),
        get("/api/queue/{id}", "getQueueItem", "Show an item of the queue")
            .query("wait", wait(), waits)
            .answers::<QueueItemBody>(200, "The item", item()),
        get("/api/queue/{id}/result", "getQueueResult", "Show the answer of an item of the queue")
            .query("wait", wait(), waits)
            .answers::<QueueResult>(
                200,
                "What became of it",
                json!({
                    "status": "completed", "result": "Three points.", "resultTruncated": false, "error": null, "sessionId": SESSION,
                    "turnId": TURN, "costUsd": 0.0123,
                }),
            )
            .fails(409, "It is not over"),
        get("/api/queue/{id}/session", "getQueueSession", "Show the session of an item of the queue")
            .answers::<SessionBody>(200, "The session", json!({"session": examples::session()}))
            .fails(404, "There is no such item, or it has no session yet"),
        delete("/api/queue/{id}", "cancelQueueItem", "Cancel an item of the queue")
            .query("force", flag(false), "Whether a turn that runs is interrupted")
            .answers::<QueueItemBody>(200, "The item, which is cancelled", item())
            .answers::<QueueItemBody>(202, "The item, whose turn is being interrupted", item())
            .fails(400, "It is not `pending` (code `conflict`), or the request is wrong"),
    ]
}
