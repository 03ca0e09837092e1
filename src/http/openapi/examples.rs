//! What bodies look like.

use serde_json::{Value, json};

const SESSION: &str = "019ad5b1-7c40-7c3a-9f0e-3c1f4b6d2a10";
const TURN: &str = "019ad5b2-01b4-7d51-8a53-6f5e1c0b9d42";
const AT: &str = "2026-01-31T12:00:00.000Z";
const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

pub fn agent() -> Value {
    json!({
        "id": "019ad5b0-2f11-7a8e-b5d3-0a9c7e4f6b21", "name": "helper", "version": 3,
        "path": format!("/var/lib/ash/agents/{DIGEST}"), "digest": DIGEST,
        "createdAt": AT, "updatedAt": AT, "tenantId": "default", "env": {"LANG": "***"},
    })
}

pub fn session() -> Value {
    json!({
        "id": SESSION, "agentName": "helper", "agentVersion": DIGEST, "sandboxId": "019ad5b1-7c41-7e02-a1d0-5b8f3e7c9a64",
        "status": "active", "sandboxState": "waiting", "createdAt": AT, "lastActiveAt": AT, "tenantId": "default",
        "runnerId": null, "parentSessionId": null, "model": null, "config": {"permissionMode": "ask"}, "weaknesses": [],
    })
}

pub fn session_body() -> Value {
    let mut session = session();
    session["limits"] = limits();
    json!({"session": session})
}

pub fn snapshot() -> Value {
    json!({
        "eventId": 42, "createdAt": AT, "reason": "pause", "bytes": 1_048_576, "storedBytes": 262_144,
        "agentVersion": DIGEST, "runtimeVersion": "2.1.330",
    })
}

pub fn turn() -> Value {
    json!({
        "id": TURN, "sessionId": SESSION, "state": "completed", "kind": "user", "queuePosition": null, "cause": null,
        "firstEvent": 2, "lastEvent": 14, "createdAt": AT, "startedAt": AT, "endedAt": AT,
        "usage": usage(), "idempotencyKey": null,
    })
}

pub fn turn_id() -> Value {
    json!(TURN)
}

fn usage() -> Value {
    json!({
        "wallMs": 5300, "cpuMs": 1900, "memoryPeakBytes": 314_572_800, "ioReadBytes": 0, "ioWriteBytes": 40_960, "toolCalls": 1,
        "models": {"claude-sonnet-4-5": {
            "calls": 2, "inputTokens": 812, "outputTokens": 240, "cacheReadTokens": 9000, "cacheWriteTokens": 0, "cacheWrite1hTokens": 0,
        }},
        "costUsd": 0.0087,
    })
}

pub fn spent() -> Value {
    json!({"tokens": 10_052, "costUsd": 0.0087})
}

pub fn limits() -> Value {
    json!({"memoryMb": 1024, "swapMb": 0, "cpuPercent": 200, "maxProcesses": 256, "diskMb": 5120, "ioWeight": 100})
}

pub fn resources() -> Value {
    json!({
        "sessionId": SESSION, "agentName": "helper", "sandboxState": "waiting", "at": AT, "cpuMs": 5100,
        "memoryBytes": 209_715_200, "memoryPeakBytes": 314_572_800, "tasks": 31, "ioReadBytes": 0, "ioWriteBytes": 40_960,
        "spent": spent(), "limits": limits(),
    })
}

pub fn egress() -> Value {
    json!({"allow": ["api.example.com", "pypi"], "source": "session", "operator": ["*:*"]})
}

pub fn security() -> Value {
    let wall = json!({"name": "system calls", "state": "ok", "detail": "an allow-list of the kernel's calls"});
    json!({"sessionId": SESSION, "of": "running", "strict": true, "walls": [wall]})
}

pub fn message() -> Value {
    json!({
        "id": "3f6c1b8e-52a7-5d0f-9c4e-7a1b2d3e4f50", "sessionId": SESSION, "role": "user",
        "content": "{\"type\":\"user\",\"content\":\"Hello\"}", "sequence": 1, "createdAt": AT, "tenantId": "default",
    })
}

pub fn event() -> Value {
    json!({
        "id": "8d2e4c6a-1b3f-5a7d-8e9c-0f1a2b3c4d5e", "sessionId": SESSION, "type": "text", "data": "{\"text\":\"Hello\"}",
        "sequence": 7, "createdAt": AT, "tenantId": "default",
    })
}

pub fn permission() -> Value {
    json!({
        "id": "019ad5b2-1c7d-7b3e-8f20-4d6a8c0e2f41", "turnId": TURN, "kind": "tool", "toolName": "Bash",
        "input": {"command": "touch a"}, "rules": ["Bash(touch *)"], "timeoutMs": 600_000,
        "eventId": 9, "createdAt": AT, "expiresAt": "2026-01-31T12:10:00.000Z", "resolved": null,
    })
}

pub fn credential() -> Value {
    json!({
        "id": "019ad5b0-9a3c-7f12-b6e4-2d8c1a5f7e93", "type": "anthropic", "label": "production", "active": true,
        "createdAt": AT, "lastUsedAt": null,
    })
}

pub fn file() -> Value {
    json!({"path": "notes/today.md", "size": 120, "modifiedAt": AT})
}

pub fn frames() -> Value {
    json!(format!(
        "retry: 1000\n\nid: 2\nevent: session_start\ndata: {{\"sessionId\":\"{SESSION}\",\"turnId\":\"{TURN}\",\"version\":\"{}\"}}\n\n\
         id: 6\nevent: text_delta\ndata: {{\"delta\":\"Hello\"}}\n\n\
         id: 9\nevent: done\ndata: {{\"sessionId\":\"{SESSION}\",\"state\":\"completed\",\"turnId\":\"{TURN}\"}}\n\n",
        crate::wire::VERSION
    ))
}
