//! What was used, tenant by tenant, with the real runtime: while sessions live, after restarts, and when they are gone.

mod support;

use serde_json::{Value, json};
use support::life::{end, start};
use support::{Daemon, http, wait_for};

const PRICES: &str = "[prices]\npriced = { input = 10, output = 100, cache_read = 1, cache_write = 12, cache_write_1h = 20 }\n";

fn get(daemon: &Daemon, path: &str) -> Value {
    let answer = daemon.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

fn stats(daemon: &Daemon, query: &str) -> Value {
    get(daemon, &format!("/api/usage/stats?{query}"))["stats"].clone()
}

fn events(daemon: &Daemon, query: &str) -> Vec<Value> {
    get(daemon, &format!("/api/usage?{query}"))["events"].as_array().expect("a list").clone()
}

#[test]
fn what_turns_took_is_shown_by_event_and_sum_and_survives_their_session() {
    let Some((_model, mut daemon)) = start(&format!("{PRICES}[retention]\nended_after = \"0s\"")) else { return };
    for agent in ["one", "two"] {
        daemon.deploy(agent, &[("CLAUDE.md", "You are a test agent.\n")]);
    }
    let first = daemon.create(&json!({"agent": "one", "model": "priced"}));
    let second = daemon.create(&json!({"agent": "two", "model": "unknown"}));
    let done = daemon.say(&first, "usage: 1000 200").pop().expect("an end");
    daemon.say(&first, "bash: echo x");
    daemon.say(&second, "usage: 50 5");

    let all = events(&daemon, "");
    let newest = all.iter().map(|event| event["createdAt"].as_str().expect("a time"));
    assert!(newest.is_sorted_by(|a, b| a >= b), "newest first: {all:?}");
    let turn: Vec<_> = events(&daemon, &format!("sessionId={first}")).into_iter().rev().collect();
    let value = |of: &[Value], kind: &str| of.iter().find(|event| event["eventType"] == kind).map(|event| event["value"].clone());
    assert_eq!(value(&turn, "input_tokens"), Some(json!(1000)), "{turn:?}");
    assert_eq!(value(&turn, "output_tokens"), Some(json!(200)));
    assert_eq!(value(&turn, "message"), Some(json!(1)));
    assert_eq!(value(&turn, "cost_usd"), Some(json!(0.03)), "{done:?}");
    for event in &turn {
        assert_eq!((event["sessionId"].as_str(), &event["agentName"]), (Some(first.as_str()), &json!("one")));
        assert!(event["id"].as_str().is_some_and(|id| id.len() == 36) && event["tenantId"] == "default", "{event}");
        assert!(event["value"].as_f64().is_some_and(|value| value > 0.0), "what is nothing has no event: {event}");
    }
    assert_eq!(events(&daemon, "limit=1"), all[..1]);
    assert!(events(&daemon, "agentName=two").iter().all(|event| event["sessionId"] == second.as_str()));

    let sums = stats(&daemon, "agentName=one");
    assert_eq!((&sums["totalMessages"], &sums["totalToolCalls"]), (&json!(2), &json!(1)), "{sums}");
    let spent = get(&daemon, &format!("/api/sessions/{first}"))["session"]["spent"].clone();
    assert_eq!(sums["totalCostUsd"], spent["costUsd"], "the session says the same");
    let tokens = ["Input", "Output", "CacheCreation", "CacheRead"].map(|kind| sums[format!("total{kind}Tokens")].as_u64());
    assert_eq!(tokens.into_iter().flatten().sum::<u64>(), spent["tokens"].as_u64().expect("a number"), "{sums}");
    let unpriced = stats(&daemon, "agentName=two");
    assert_eq!((&unpriced["totalUnpriced"], &unpriced["totalCostUsd"]), (&json!(1), &json!(0.0)), "no price is no guess");
    let grouped = get(&daemon, "/api/usage/stats?by=agent");
    let names: Vec<_> = grouped["groups"].as_array().expect("a list").iter().map(|group| &group["agentName"]).collect();
    assert_eq!(names, ["one", "two"], "what costs most comes first");
    assert_eq!(get(&daemon, "/api/usage/stats?by=session&limit=1")["groups"][0]["sessionId"], first.as_str());

    let last = turn.first().expect("an event")["createdAt"].as_str().expect("a time").to_owned();
    assert_eq!(stats(&daemon, &format!("sessionId={first}&before={last}"))["totalMessages"], 1, "with that time itself");
    assert_eq!(stats(&daemon, &format!("sessionId={first}&after={last}"))["totalMessages"], 2);
    assert_eq!(stats(&daemon, "before=2020-01-01T00:00:00Z")["totalMessages"], 0);

    let before = (all, stats(&daemon, ""));
    let analytics = get(&daemon, "/api/analytics");
    assert_eq!(analytics["agents"], json!({"total": 2}));
    assert_eq!(analytics["sessions"], json!({"total": 2, "byStatus": {"active": 2}}));
    assert_eq!(analytics["usage"], before.1);
    assert_eq!(analytics["evals"], json!({"totalRuns": 0, "byStatus": {}}));

    daemon.kill();
    daemon.run();
    for session in [&first, &second] {
        end(&daemon, session);
    }
    wait_for("the sessions are removed", || {
        daemon.send("POST", "/api/gc", &json!({}));
        (daemon.get(&format!("/api/sessions/{first}")).status == 404).then_some(())
    });
    let kept = (events(&daemon, ""), stats(&daemon, ""));
    assert_eq!(kept, before, "who pays by it can still read it, and nothing is there twice");
}

#[test]
fn a_tenant_sees_its_own_usage_and_what_is_asked_wrongly_is_named() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    daemon.say(&session, "usage: 10 1");
    let key = daemon.bearer(&json!({"tenant": "other"}));
    let ask = |path: &str| {
        let answer = daemon.send_as(&key, "GET", path, None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    };
    assert_eq!(ask(&format!("/api/usage?sessionId={session}")), json!({"events": []}));
    assert_eq!(ask(&format!("/api/usage/stats?sessionId={session}&by=agent"))["groups"], json!([]));
    assert_eq!(ask("/api/analytics")["sessions"], json!({"total": 0, "byStatus": {}}));
    assert_eq!(get(&daemon, "/api/internal/runners"), json!({"runners": [], "count": 0, "hasLocal": true}));

    for (query, field) in [
        ("sessionId=x", "sessionId"),
        ("after=yesterday", "after"),
        ("before=2026-01-01", "before"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
    ] {
        for path in ["/api/usage", "/api/usage/stats"] {
            let answer = daemon.get(&format!("{path}?{query}"));
            assert_eq!((answer.status, answer.json()["details"][0]["field"].as_str()), (400, Some(field)), "{}", answer.text());
        }
    }
    let answer = daemon.get("/api/usage/stats?by=model");
    assert_eq!((answer.status, answer.json()["details"][0]["field"].as_str()), (400, Some("by")));
    assert_eq!(http::request(&daemon.tcp(), "GET", "/api/internal/runners", &[], None).status, 401, "not for everybody");
}
