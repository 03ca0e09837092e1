//! Operations on what was used, and on how much there is.

use serde_json::json;

use super::operation::{Operation, get, limit, reference, text, word};
use crate::wire::analytics::{Analytics, RunnerList, UsageList, UsageStatsBody};

const SESSION: &str = "019ad5b1-7c40-7c3a-9f0e-3c1f4b6d2a10";

pub fn operations() -> Vec<Operation> {
    let stats = || {
        json!({
            "totalInputTokens": 120_000, "totalOutputTokens": 8_000, "totalCacheCreationTokens": 4_000, "totalCacheReadTokens": 90_000,
            "totalToolCalls": 31, "totalMessages": 12, "totalComputeSeconds": 48.2, "totalCostUsd": 0.71, "totalUnpriced": 0,
        })
    };
    let event = json!({
        "id": format!("{SESSION}/42/input_tokens"), "sessionId": SESSION, "agentName": "helper", "eventType": "input_tokens",
        "value": 1200, "createdAt": "2026-01-31T12:00:09.000Z", "tenantId": "default",
    });
    let filtered = |operation: Operation| {
        let time = || json!({"type": "string", "format": "date-time"});
        operation
            .query("sessionId", reference("SessionId"), "Of this session only")
            .query("agentName", text(), "Of this agent only")
            .query("after", time(), "Of turns that were over then or later")
            .query("before", time(), "Of turns that were over then or earlier")
            .query("limit", limit(100, 1000), "At most so many events, or groups")
    };
    vec![
        filtered(get("/api/usage", "listUsage", "List what was used")).answers::<UsageList>(
            200,
            "What each turn took, newest first",
            json!({"events": [event]}),
        ),
        filtered(get("/api/usage/stats", "getUsageStats", "Add up what was used"))
            .query("by", word(&["agent", "session"]), "Also for each of these")
            .answers::<UsageStatsBody>(200, "The sums", json!({"stats": stats()})),
        get("/api/analytics", "getAnalytics", "Count what there is, and add up what was used")
            .query("after", json!({"type": "string", "format": "date-time"}), "Usage of turns that were over then or later")
            .query("before", json!({"type": "string", "format": "date-time"}), "Usage of turns that were over then or earlier")
            .answers::<Analytics>(
                200,
                "The counts",
                json!({
                    "agents": {"total": 3}, "sessions": {"total": 20, "byStatus": {"active": 4, "ended": 16}}, "usage": stats(),
                    "evals": {"totalRuns": 0, "byStatus": {}},
                }),
            ),
        get("/api/internal/runners", "listRunners", "List the other hosts that run sessions").answers::<RunnerList>(
            200,
            "None: this host runs all sessions",
            json!({"runners": [], "count": 0, "hasLocal": true}),
        ),
    ]
}
