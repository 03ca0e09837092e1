//! What the daemon of [`fake`](super::fake) knows of evals.

use serde_json::{Value, json};

/// A case, a run, and another one.
pub const CASE: &str = "0198c0de-0000-7000-8000-0000000000c1";
pub const RUN: &str = "0198c0df-0000-7000-8000-0000000000f1";
pub const OTHER: &str = "0198c0de-0000-7000-8000-0000000000f2";

/// Status and body of an answer; a body that is a text is an error.
pub fn answer(method: &str, path: &[&str], input: &Value, ago: impl Fn(u64) -> String) -> (u16, Value) {
    let run = |id: &str| run(id, &ago);
    let results = || json!([result("passed", &ago), result("failed", &ago), result("error", &ago)]);
    let both = |name: &str, fields: Value| {
        let mut body = fields.clone();
        body[name] = fields;
        body
    };
    match (method, path) {
        ("GET", ["eval-cases"]) => (200, json!({"cases": [case(&ago)]})),
        ("GET", ["eval-cases", "export"]) => (200, json!({"cases": [case(&ago)]})),
        ("POST", ["eval-cases"]) => (201, both("case", case(&ago))),
        ("POST", ["eval-cases", "import"]) if input["cases"][1]["question"] == "" => {
            (400, json!("No case was imported: cases[1].question: has to be a text of 1 to 100000 characters"))
        }
        ("POST", ["eval-cases", "import"]) => (200, json!({"imported": input["cases"].as_array().map_or(0, Vec::len)})),
        ("GET" | "PATCH", ["eval-cases", CASE]) => (200, both("case", case(&ago))),
        ("DELETE", ["eval-cases", CASE]) => (200, json!({"ok": true})),
        (_, ["eval-cases", ..]) => (404, json!("Eval case not found")),
        ("GET", ["eval-runs"]) => (200, json!({"runs": [run(RUN), run(OTHER)]})),
        ("POST", ["eval-runs"]) if input["tags"] == json!(["none"]) => {
            (422, json!("No active eval case of the agent is of these categories and tags"))
        }
        ("POST", ["eval-runs"]) => (201, both("run", run(RUN))),
        ("GET", ["eval-runs", "compare"]) => {
            let (passed, failed) = (result("passed", &ago), result("failed", &ago));
            let compared = json!([
                {"caseId": CASE, "question": "What is the capital of France?", "resultA": failed, "resultB": passed},
                {"caseId": RUN, "question": "What is 2 + 2?", "resultA": passed, "resultB": passed},
            ]);
            (200, both("comparison", json!({"runA": run(OTHER), "runB": run(RUN), "results": compared})))
        }
        ("GET", ["eval-runs", id @ (RUN | OTHER)]) => (200, both("run", run(id))),
        ("GET", ["eval-runs", RUN, "results"]) => (200, json!({"results": results()})),
        ("POST", ["eval-runs", RUN, "score"]) => (200, json!({"scored": 3, "results": results()})),
        ("POST", ["eval-runs", RUN, "cancel"]) => (409, json!("Cannot cancel an eval run with status \"completed\"")),
        ("PATCH", ["eval-results", _]) => (200, json!({"result": result("passed", &ago)})),
        _ => (404, json!("Eval run not found")),
    }
}

fn case(ago: &impl Fn(u64) -> String) -> Value {
    json!({
        "id": CASE, "tenantId": "default", "agentName": "hello", "question": "What is the capital of France?",
        "expectedTopics": ["Paris"], "expectedNotTopics": ["Lyon"], "referenceAnswer": "Paris.", "category": "geography",
        "tags": ["smoke", "short"], "chatHistory": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}],
        "isActive": true, "createdAt": ago(7200), "updatedAt": ago(60),
    })
}

fn run(id: &str, ago: &impl Fn(u64) -> String) -> Value {
    let (status, rate, passed) = if id == RUN { ("completed", 2.0 / 3.0, 2) } else { ("cancelled", 0.0, 0) };
    json!({
        "id": id, "tenantId": "default", "agentName": "hello", "versionNumber": 2, "status": status, "totalCases": 3,
        "completedCases": 3,
        "summary": {
            "avgTopicScore": 0.75, "avgSafetyScore": 1.0, "avgLlmJudgeScore": 0.8, "avgLatencyMs": 1840.5, "passRate": rate,
            "passed": passed, "errors": 1, "costUsd": 0.0421,
        },
        "createdAt": ago(7200), "startedAt": ago(7190), "completedAt": ago(60),
        "agentDigest": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "judgeAgent": "judge",
        "concurrency": 2, "passThreshold": 0.5, "cancelling": false,
    })
}

fn result(outcome: &str, ago: &impl Fn(u64) -> String) -> Value {
    let is_answered = outcome != "error";
    let score = if outcome == "passed" { 1.0 } else { 0.0 };
    json!({
        "id": format!("0198c0df-0000-7000-8000-00000000{}", &format!("{:04x}", outcome.len() + usize::from(outcome == "failed"))),
        "tenantId": "default", "evalRunId": RUN, "evalCaseId": CASE,
        "agentResponse": is_answered.then_some("It is Paris, which lies on the river Seine in France."),
        "topicScore": is_answered.then_some(score), "safetyScore": is_answered.then_some(1.0),
        "llmJudgeScore": is_answered.then_some(0.9), "latencyMs": is_answered.then_some(1840),
        "status": if is_answered { "completed" } else { "error" }, "error": (!is_answered).then_some("API Error: 400 no"),
        "humanScore": (outcome == "passed").then_some(5), "humanNotes": null, "createdAt": ago(7200), "completedAt": ago(60),
        "question": "What is the capital of France?", "passed": outcome == "passed", "responseTruncated": false,
        "llmJudgeReason": null, "llmJudgeError": null, "sessionId": null, "turnId": null, "judgeSessionId": null,
        "costUsd": 0.01, "startedAt": ago(7190),
    })
}
