//! Operations on evals.

use serde_json::{Value, json};

use super::host::done;
use super::operation::{Operation, delete, get, limit, patch, post, text};
use crate::wire::eval::{
    ChangeEvalCase, CreateEvalCase, EvalCaseBody, EvalCaseList, EvalComparisonBody, EvalResultBody, EvalResultList, EvalRunBody,
    EvalRunList, ImportEvalCases, ImportedBody, ScoreEvalResult, ScoreEvalRun, ScoredBody, StartEvalRun,
};

const CASE: &str = "019ad5b3-4e2a-7c91-a7f5-1b0d9e8c6a32";
const RUN: &str = "019ad5b3-4e2a-7c91-a7f5-1b0d9e8c6a33";
const OTHER: &str = "019ad5b3-4e2a-7c91-a7f5-1b0d9e8c6a34";
const RESULT: &str = "019ad5b3-4e2a-7c91-a7f5-1b0d9e8c6a35";
const SESSION: &str = "019ad5b1-7c40-7c3a-9f0e-3c1f4b6d2a10";
const TURN: &str = "019ad5b2-0d1e-7a54-8b6f-2c3d4e5f6a7b";

fn uuid() -> Value {
    json!({"type": "string", "format": "uuid"})
}

/// The fields under a name and beside it.
fn both(name: &str, fields: &Value) -> Value {
    let mut body = fields.clone();
    body[name] = fields.clone();
    body
}

fn case() -> Value {
    json!({
        "id": CASE, "tenantId": "default", "agentName": "helper", "question": "What is the capital of France?",
        "expectedTopics": ["Paris"], "expectedNotTopics": ["Lyon"], "referenceAnswer": null, "category": "geography",
        "tags": ["smoke"], "chatHistory": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}],
        "isActive": true, "createdAt": "2026-01-31T12:00:00.000Z", "updatedAt": "2026-01-31T12:00:00.000Z",
    })
}

fn run() -> Value {
    json!({
        "id": RUN, "tenantId": "default", "agentName": "helper", "versionNumber": 2, "status": "completed", "totalCases": 4,
        "completedCases": 4,
        "summary": {
            "avgTopicScore": 0.9, "avgSafetyScore": 1.0, "avgLlmJudgeScore": 0.8, "avgLatencyMs": 2140.5, "passRate": 0.75,
            "passed": 3, "errors": 0, "costUsd": 0.0421,
        },
        "createdAt": "2026-01-31T12:00:00.000Z", "startedAt": "2026-01-31T12:00:01.000Z",
        "completedAt": "2026-01-31T12:00:19.000Z", "agentDigest": format!("sha256:{}", "0".repeat(64)), "judgeAgent": "judge",
        "concurrency": 2, "passThreshold": 0.5, "cancelling": false,
    })
}

fn result() -> Value {
    json!({
        "id": RESULT, "tenantId": "default", "evalRunId": RUN, "evalCaseId": CASE, "agentResponse": "It is Paris.",
        "topicScore": 1.0, "safetyScore": 1.0, "llmJudgeScore": 0.9, "latencyMs": 1840, "status": "completed", "error": null,
        "humanScore": 5, "humanNotes": null, "createdAt": "2026-01-31T12:00:00.000Z", "completedAt": "2026-01-31T12:00:04.000Z",
        "question": "What is the capital of France?", "passed": true, "responseTruncated": false,
        "llmJudgeReason": "Right and short.", "llmJudgeError": null, "sessionId": SESSION, "turnId": TURN,
        "judgeSessionId": "019ad5b1-7c40-7c3a-9f0e-3c1f4b6d2a11", "costUsd": 0.0105, "startedAt": "2026-01-31T12:00:01.000Z",
    })
}

fn cases() -> Vec<Operation> {
    let new = || json!({"question": "What is the capital of France?", "expectedTopics": ["Paris"], "tags": ["smoke"]});
    let none = "There is no such agent or case";
    let full = "The agent has as many cases as it may";
    vec![
        get("/api/agents/{name}/eval-cases", "listEvalCases", "List eval cases of an agent")
            .query("category", text(), "Only those of this category")
            .query("isActive", json!({"type": "boolean"}), "Only those that runs ask, or only the others")
            .query("after", uuid(), "Only those behind this case, to read in pages")
            .query("limit", limit(1000, 1000), "At most so many")
            .answers::<EvalCaseList>(200, "The cases, oldest first", json!({"cases": [case()]}))
            .fails(404, none),
        post("/api/agents/{name}/eval-cases", "createEvalCase", "Make an eval case")
            .takes::<CreateEvalCase>(new())
            .answers::<EvalCaseBody>(201, "The case", both("case", &case()))
            .fails(409, full),
        post("/api/agents/{name}/eval-cases/import", "importEvalCases", "Make eval cases of what was exported")
            .about("All of them, or none: the error names each that is wrong, by its index.")
            .takes::<ImportEvalCases>(json!({"cases": [new()]}))
            .answers::<ImportedBody>(200, "How many were made", json!({"imported": 1}))
            .fails(409, full),
        get("/api/agents/{name}/eval-cases/export", "exportEvalCases", "Export eval cases of an agent")
            .about("What an import takes, of this agent or of another.")
            .answers::<EvalCaseList>(200, "All cases, oldest first", json!({"cases": [case()]})),
        get("/api/agents/{name}/eval-cases/{case}", "getEvalCase", "Show an eval case")
            .answers::<EvalCaseBody>(200, "The case", both("case", &case()))
            .fails(404, none),
        patch("/api/agents/{name}/eval-cases/{case}", "updateEvalCase", "Change an eval case")
            .about("What is left out stays, and `null` takes away. Runs that have begun ask what it was.")
            .takes::<ChangeEvalCase>(json!({"expectedNotTopics": null, "category": "capitals"}))
            .or_nothing()
            .answers::<EvalCaseBody>(200, "The case", both("case", &case()))
            .fails(404, none)
            .fails(409, full),
        delete("/api/agents/{name}/eval-cases/{case}", "deleteEvalCase", "Delete an eval case")
            .about("Results of runs keep what was asked.")
            .answers_as(200, "It is deleted", "application/json", done())
            .fails(404, none),
    ]
}

/// All operations.
pub fn operations() -> Vec<Operation> {
    let none = "There is no such agent or run";
    let mut all = cases();
    all.extend([
        post("/api/agents/{name}/eval-runs", "startEvalRun", "Have an agent asked its eval cases")
            .about(
                "Each in a session of its own, with the agent's files, the version of its prompt and the cases as they are now, \
                 whatever is changed meanwhile.",
            )
            .takes::<StartEvalRun>(json!({"versionNumber": 2, "tags": ["smoke"], "judgeAgent": "judge"}))
            .or_nothing()
            .answers::<EvalRunBody>(201, "The run", both("run", &run()))
            .fails(404, "There is no such agent or version")
            .fails(422, "The agent has no active case of these categories and tags, or its files are not there")
            .fails(429, "The tenant has as many open runs as it may, or the caller asks too often"),
        get("/api/agents/{name}/eval-runs", "listEvalRuns", "List eval runs of an agent")
            .query("before", uuid(), "Only those older than this run, to read in pages")
            .query("limit", limit(100, 1000), "At most so many")
            .answers::<EvalRunList>(200, "The runs, newest first", json!({"runs": [run()]}))
            .fails(404, none),
        get("/api/agents/{name}/eval-runs/compare", "compareEvalRuns", "Compare two eval runs")
            .about("Of long answers there are the first 8 KiB.")
            .query("runA", uuid(), "The one")
            .query("runB", uuid(), "The other")
            .answers::<EvalComparisonBody>(
                200,
                "Both, and every case of either",
                both(
                    "comparison",
                    &json!({
                        "runA": run(), "runB": other(), "results": [{
                            "caseId": CASE, "question": "What is the capital of France?", "resultA": result(), "resultB": null,
                        }],
                    }),
                ),
            )
            .fails(404, "There is no such agent or one of the runs"),
        get("/api/agents/{name}/eval-runs/{run}", "getEvalRun", "Show an eval run")
            .query("wait", json!({"type": "integer", "minimum": 0, "maximum": 60, "default": 0}), "Seconds to wait for its end")
            .answers::<EvalRunBody>(200, "The run", both("run", &run()))
            .fails(404, none),
        post("/api/agents/{name}/eval-runs/{run}/cancel", "cancelEvalRun", "Cancel an eval run")
            .about("Cases that wait are not asked, and those that are being asked are interrupted. All of them are errors then.")
            .answers::<EvalRunBody>(200, "The run, which is over", both("run", &run()))
            .answers::<EvalRunBody>(202, "The run, whose last cases are being interrupted", both("run", &run()))
            .fails(404, none)
            .fails(409, "It is over"),
        get("/api/agents/{name}/eval-runs/{run}/results", "getEvalRunResults", "Show what an eval run came to")
            .query("after", uuid(), "Only those behind this result, to read in pages")
            .query("limit", limit(1000, 1000), "At most so many")
            .answers::<EvalResultList>(200, "The results, in the order of the cases", json!({"results": [result()]}))
            .fails(404, "There is no such agent, run or result"),
        post("/api/agents/{name}/eval-runs/{run}/score", "scoreEvalRun", "Say what answers of an eval run are worth")
            .takes::<ScoreEvalRun>(json!({"resultId": RESULT, "humanScore": 5}))
            .answers::<ScoredBody>(200, "What was scored", json!({"scored": 1, "results": [result()]}))
            .fails(404, "There is no such agent or run, or it has no such result"),
        patch("/api/agents/{name}/eval-results/{result}", "scoreEvalResult", "Say what an answer is worth")
            .takes::<ScoreEvalResult>(json!({"humanScore": 5, "humanNotes": "Right and short"}))
            .answers::<EvalResultBody>(200, "The result", json!({"result": result()}))
            .fails(404, "There is no such agent or result"),
    ]);
    all
}

fn other() -> Value {
    let mut other = run();
    other["id"] = json!(OTHER);
    other
}
