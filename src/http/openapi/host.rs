//! Operations on the daemon itself.

use serde_json::{Value, json};

use super::operation::{Operation, get, object, post, text};
use crate::telemetry::metrics::CONTENT_TYPE;
use crate::wire::gc::{GcBody, GcReport};
use crate::wire::health::{Checks, Health};
use crate::wire::problem::Problem;

/// The body that says no more than that it is done.
pub fn done() -> Value {
    json!({"schema": object([("ok", json!({"const": true}))]), "example": {"ok": true}})
}

pub fn open() -> Vec<Operation> {
    let pool = json!({
        "total": 2, "cold": 5, "warming": 0, "warm": 0, "waiting": 1, "running": 1, "frozen": 0, "maxCapacity": 0,
        "resumeWarmHits": 4, "resumeColdHits": 2, "preWarmHits": 0,
    });
    let health = json!({
        "status": "ok", "activeSessions": 7, "activeSandboxes": 2, "uptime": 3600, "pool": pool, "version": "0.1.0",
        "coordinatorId": "host-1234", "remoteRunners": 0,
    });
    vec![get("/health", "getHealth", "Show how the daemon is doing").needs::<Problem>().open().answers::<Health>(
        200,
        "It answers",
        health,
    )]
}

pub fn operations() -> Vec<Operation> {
    let check = json!({"name": "cgroup v2", "status": "ok", "detail": "mounted at /sys/fs/cgroup"});
    let removal = json!({"kind": "snapshot", "name": "019ad5b1-7c40-7c3a-9f0e-3c1f4b6d2a10/42", "reason": "over retention.snapshot_bytes", "bytes": 262_144});
    vec![
        get("/metrics", "getMetrics", "Show metrics").about("In the text format of Prometheus.").answers_as(
            200,
            "The metrics",
            CONTENT_TYPE,
            json!({"schema": text()}),
        ),
        get("/api/doctor", "getChecks", "Check what the daemon needs").answers::<Checks>(
            200,
            "What was looked at",
            json!({"checks": [check]}),
        ),
        post("/api/gc", "collectGarbage", "Remove what is not needed any more")
            .about("By `[retention]`, of all tenants. For callers on the control socket.")
            .takes::<GcBody>(json!({"dryRun": true}))
            .or_nothing()
            .answers::<GcReport>(
                200,
                "What was removed, or would be",
                json!({"dryRun": true, "removals": [removal], "bytes": 262_144, "overBytes": 0}),
            ),
    ]
}
