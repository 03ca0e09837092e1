//! What the runtime of a session says on standard error, as callers see it.

mod support;

use serde_json::{Value, json};
use support::{Daemon, Model, StandIn, wait_for};

fn logs(daemon: &Daemon, session: &str, query: &str) -> Vec<Value> {
    let answer = daemon.get(&format!("/api/sessions/{session}/logs{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["source"], "sandbox");
    answer.json()["logs"].as_array().expect("logs").clone()
}

#[test]
fn what_a_runtime_says_is_there_as_long_as_its_sandbox_and_keeps_it_for_nobody() {
    let model = Model::start();
    let runtime = StandIn::new();
    let daemon = Daemon::start_with(&runtime.path(), &model.url, "[sessions]\nfreeze_after = \"1h\"\npark_after = \"1h\"");
    let session = daemon.session();
    daemon.say(&session, "stderr: a word");
    let all = wait_for("the word is there", || {
        let all = logs(&daemon, &session, "?after=-1");
        all.iter().any(|line| line["text"] == "a word").then_some(all)
    });
    let levels: Vec<_> = all.iter().map(|line| (line["level"].as_str(), line["text"].as_str())).collect();
    let wanted = [("system", "sandbox is open"), ("system", "runtime started"), ("stderr", "a word")];
    assert_eq!(levels, wanted.map(|(level, text)| (Some(level), Some(text))));
    let indices: Vec<_> = all.iter().map(|line| line["index"].as_u64().expect("a number")).collect();
    let first = indices[0];
    assert_eq!(indices, [first, first + 1, first + 2]);
    assert!(all.iter().all(|line| line["ts"].as_str().is_some_and(|ts| ts.ends_with('Z'))));
    let behind = |index: u64, more: &str| logs(&daemon, &session, &format!("?after={index}{more}"));
    assert_eq!(behind(first + 1, ""), all[2..]);
    assert_eq!(behind(first + 1, "&wake=true"), all[2..]);
    assert!(behind(first + 2, "").is_empty());

    let idle = |seconds: Value| {
        let patched = daemon.send("PATCH", &format!("/api/sessions/{session}/limits"), &json!({"idleSeconds": seconds}));
        assert!(patched.ok_status(), "{}", patched.text());
    };
    idle(json!(1));
    // Who looks again and again does not keep the sandbox, and it is no error that it is gone.
    wait_for("it is parked", || logs(&daemon, &session, "").is_empty().then_some(()));
    let shown = daemon.get(&format!("/api/sessions/{session}")).json();
    assert_eq!((&shown["session"]["status"], &shown["session"]["sandboxState"]), (&json!("active"), &json!("cold")));
    // Who knows the lines of that sandbox gets all of the next.
    idle(Value::Null);
    daemon.say(&session, "stderr: another");
    let next = wait_for("another word is there", || {
        let next = behind(first + 2, "");
        next.iter().any(|line| line["text"] == "another").then_some(next)
    });
    assert_eq!(next[0]["text"], "sandbox is open");
    assert!(daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({})).ok_status());
    assert!(logs(&daemon, &session, "").is_empty());

    let answer = daemon.get(&format!("/api/sessions/{session}/logs?after=-2"));
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("after: has to be at least -1")));
    assert_eq!(daemon.get("/api/sessions/0190a0b0-0000-7000-8000-000000000001/logs").status, 404);
}
