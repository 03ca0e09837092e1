//! What there is on the daemon of [`super`], as it is said on the wire.

use std::time::{Duration, SystemTime};

use ash::wire::Timestamp;
use serde_json::{Value, json};

use super::{DIGEST, ITEM, REQUEST, SESSION, TURN};

/// A request for permission: to use a tool, or a question.
pub(super) fn request(content: &str) -> Value {
    let (kind, tool, input) = match content {
        "ask me" => {
            let options = json!([{"label": "blue", "description": "as the sky"}, {"label": "red", "description": ""}]);
            let question = json!({"question": "Which colour?", "header": "Colour", "options": options, "multiSelect": false});
            ("question", "AskUserQuestion", json!({ "questions": [question] }))
        }
        "may I long" => ("tool", "Bash", json!({"command": "true\n".repeat(40)})),
        _ => ("tool", "Bash", json!({"command": "touch x", "description": "Make a file"})),
    };
    json!({
        "id": REQUEST, "turnId": TURN, "kind": kind, "toolName": tool, "input": input, "rules": ["Bash(touch *)"],
        "timeoutMs": 600_000,
    })
}

pub(super) fn permission(resolved: Option<Value>) -> Value {
    let mut permission = request("may I");
    permission["eventId"] = json!(2);
    permission["createdAt"] = json!(ago(60));
    permission["expiresAt"] = Value::Null;
    permission["resolved"] = json!(resolved);
    permission
}

pub(super) fn turn_row(state: &str) -> Value {
    let usage = json!({
        "wallMs": 1234, "cpuMs": 87, "memoryPeakBytes": 300 << 20, "ioReadBytes": 4096, "ioWriteBytes": 8192, "toolCalls": 1,
        "models": {"opus": {"calls": 1, "inputTokens": 12_300, "outputTokens": 456}}, "costUsd": 0.0123,
    });
    let begun = state != "queued";
    let over = state == "completed";
    let ago = before_now();
    json!({
        "id": TURN, "sessionId": SESSION, "state": state, "kind": "user",
        "queuePosition": if begun { Value::Null } else { json!(1) }, "cause": null,
        "firstEvent": 1, "lastEvent": if over { json!(4) } else { Value::Null },
        "createdAt": ago(7200), "startedAt": if begun { json!(ago(7190)) } else { Value::Null },
        "endedAt": if over { json!(ago(3600)) } else { Value::Null },
        "usage": if over { usage } else { Value::Null }, "idempotencyKey": null,
    })
}

pub(super) fn ago(secs: u64) -> String {
    before_now()(secs)
}

/// Times before the same now, for what is shown by what lies between two of them.
pub(super) fn before_now() -> impl Fn(u64) -> String {
    let now = SystemTime::now();
    move |secs| Timestamp::from_system(now - Duration::from_secs(secs)).to_string()
}

pub(super) fn health() -> Value {
    json!({
        "status": "ok", "activeSessions": 1, "activeSandboxes": 1, "uptime": 7265, "version": "0.1.0",
        "coordinatorId": "host-1", "remoteRunners": 0,
        "pool": {
            "total": 2, "cold": 1, "warming": 0, "warm": 0, "waiting": 0, "running": 1, "maxCapacity": 100,
            "resumeWarmHits": 0, "resumeColdHits": 0, "preWarmHits": 0,
        },
    })
}

pub(super) fn doctor() -> Value {
    json!({"checks": [
        {"name": "runtime", "status": "ok", "detail": "claude 2.1.330"},
        {"name": "disk", "status": "warning", "detail": "2.00 GiB free on /var/lib/ash", "fix": "make room"},
        {"name": "model endpoint", "status": "failed", "detail": "no API key", "fix": "sudo systemctl edit ash"},
    ]})
}

pub(super) fn agent(name: &str, version: i64, env: Value) -> Value {
    json!({
        "id": SESSION, "name": name, "version": version, "path": format!("/var/lib/ash/agents/{name}"), "digest": DIGEST,
        "createdAt": ago(5 * 86_400), "updatedAt": ago(7200), "tenantId": "default", "env": env,
    })
}

pub(super) fn session(id: &str, status: &str) -> Value {
    json!({
        "id": id, "agentName": "hello", "agentVersion": DIGEST, "sandboxId": id, "status": status,
        "sandboxState": if status == "active" { "waiting" } else { "cold" },
        "createdAt": ago(2 * 86_400), "lastActiveAt": ago(3600), "tenantId": "default",
        "spent": {"tokens": 1200, "costUsd": 0.25},
        "runnerId": null, "parentSessionId": null, "model": null, "config": {}, "aFieldOfTomorrow": 1,
    })
}

pub(super) fn key(label: &str) -> Value {
    json!({
        "id": SESSION, "label": label, "keyPrefix": "ash_kkkk••••", "createdAt": ago(86_400), "tenant": "default",
        "scopes": ["read", "run"], "agent": "qa-bot", "expiresAt": "2001-01-01T00:00:00.000Z", "lastUsedAt": ago(3600),
    })
}

pub(super) fn audited(action: &str, age: u64) -> Value {
    json!({
        "id": age, "at": ago(age), "tenant": "default", "principal": format!("key:{SESSION}"), "action": action,
        "object": "qa-bot", "requestId": "r-1", "peer": "192.0.2.7", "outcome": "ok",
    })
}

pub(super) fn credential() -> Value {
    json!({
        "id": SESSION, "tenantId": "default", "type": "openai", "label": "the team's", "active": true,
        "createdAt": ago(86_400), "lastUsedAt": null,
    })
}

pub(super) fn messages() -> Value {
    let row = |sequence: i64, role: &str, content: Value| {
        json!({
            "id": TURN, "sessionId": SESSION, "role": role, "content": content.to_string(), "sequence": sequence,
            "createdAt": ago(7200), "tenantId": "default",
        })
    };
    let answer = json!({"type": "assistant", "message": {"content": [{"type": "text", "text": "Hello there."}]}});
    json!([
        row(1, "user", json!({"type": "user", "content": "hi"})),
        row(2, "assistant", answer),
        row(3, "assistant", json!({"type": "result", "result": "Hello there."})),
    ])
}

pub(super) fn events() -> Value {
    let row = |sequence: i64, kind: &str, data: Value| {
        json!({
            "id": TURN, "sessionId": SESSION, "type": kind, "data": data.to_string(), "sequence": sequence,
            "createdAt": "2026-01-31T12:00:00.000Z", "tenantId": "default",
        })
    };
    json!([row(1, "lifecycle", json!({"action": "created"})), row(4, "text", json!({"text": "Hello there."}))])
}

/// What counts for a session that says this.
pub(super) fn limits(session: &Value, pending: &Value) -> Value {
    let mut limits = json!({"memoryMb": 1024, "swapMb": 0, "cpuPercent": 200, "maxProcesses": 256, "idleSeconds": 1800});
    for (name, value) in session.as_object().into_iter().flatten() {
        limits[name] = value.clone();
    }
    let max = json!({"memoryMb": 4096, "cpuPercent": 200, "maxCostUsd": 2.5});
    json!({"limits": limits, "session": session, "max": max, "spent": {"tokens": 12, "costUsd": 0.5}, "pending": pending})
}

/// What a session takes that holds so many MiB and cost so much; a frozen one, which takes no time.
pub(super) fn resources(id: &str, mib: u64, cost: f64) -> Value {
    json!({
        "sessionId": id, "agentName": "hello", "sandboxState": "frozen", "at": "2026-01-31T12:00:00.000Z", "cpuMs": 1500,
        "memoryBytes": mib << 20, "memoryPeakBytes": null, "tasks": 12, "ioReadBytes": 4 << 20, "ioWriteBytes": null,
        "spent": {"tokens": 1200, "costUsd": cost}, "limits": {"memoryMb": 1024},
    })
}

/// Sums of two agents, or of the session of one; nothing before 2026.
pub(super) fn usage(query: &str) -> Value {
    let sums = |times: u64, unpriced: u64| {
        json!({
            "totalInputTokens": 1200 * times, "totalOutputTokens": 45 * times, "totalCacheCreationTokens": 0,
            "totalCacheReadTokens": 11_000 * times, "totalToolCalls": times, "totalMessages": 2 * times,
            "totalComputeSeconds": 1.5 * times as f64, "totalCostUsd": 0.25 * times as f64, "totalUnpriced": unpriced,
        })
    };
    let group = |agent: &str, session: Option<&str>, mut sums: Value| {
        sums["agentName"] = agent.into();
        session.into_iter().for_each(|id| sums["sessionId"] = id.into());
        sums
    };
    match query {
        _ if query.contains("before=") => json!({"stats": sums(0, 0), "groups": []}),
        _ if query.contains("by=session") => {
            json!({"stats": sums(2, 0), "groups": [group("hello", Some(SESSION), sums(2, 0))]})
        }
        _ => json!({"stats": sums(3, 1), "groups": [group("hello", None, sums(2, 0)), group("qa-bot", None, sums(1, 1))]}),
    }
}

/// An item of the queue.
pub(super) fn item(status: &str) -> Value {
    let (is_over, is_failed) = (matches!(status, "completed" | "failed"), status == "failed");
    json!({
        "id": ITEM, "agentName": "hello", "prompt": "Summarise the news of this week, with the sources of all", "status": status,
        "priority": if is_failed { 5 } else { 0 }, "retryCount": if is_failed { 3 } else { 0 }, "maxRetries": 3,
        "createdAt": ago(7200), "tenantId": "default", "sessionId": if is_over { json!(SESSION) } else { Value::Null },
        "error": if is_failed { json!("API Error: 529") } else { Value::Null },
        "startedAt": if is_over { json!(ago(3600)) } else { Value::Null },
        "completedAt": if is_over { json!(ago(60)) } else { Value::Null },
        "turnId": if is_over { json!(TURN) } else { Value::Null }, "retryAt": null,
        "result": if status == "completed" { json!("There were none.") } else { Value::Null },
        "resultTruncated": false, "costUsd": 0.0123, "keepSession": false, "cancelling": status == "processing",
    })
}

/// A schedule; one that is not enabled was never, the other fails.
pub(super) fn schedule(id: &str, enabled: bool) -> Value {
    let error = if enabled { json!("API Error: 529") } else { Value::Null };
    json!({
        "id": id, "name": if enabled { "morning report" } else { "clean up" }, "agentName": "hello", "prompt": "Summarise the night",
        "calendar": if enabled { "Mon..Fri 09:00" } else { "monthly" }, "timezone": "Europe/Berlin", "sessionId": null, "keepSession": false,
        "priority": 0, "maxRetries": 3, "catchUp": "once", "jitterSeconds": if enabled { 30 } else { 0 }, "overlap": "skip",
        "enabled": enabled, "createdAt": ago(7200), "updatedAt": ago(3600),
        "nextAt": if enabled { json!("2030-03-29T08:00:00.000Z") } else { Value::Null }, "lastAt": if enabled { json!(ago(60)) } else { Value::Null },
        "lastItemId": if enabled { json!(ITEM) } else { Value::Null }, "lastError": error, "failuresInRow": i64::from(enabled),
        "counts": {"queued": i64::from(enabled) * 7, "skipped": 1, "completed": i64::from(enabled) * 6, "failed": i64::from(enabled)},
    })
}
