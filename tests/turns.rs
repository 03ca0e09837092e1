//! Turns as a resource, keys that make a repeated message one turn, and what a log that was made
//! compact still gives: with the real runtime.

mod support;

use serde_json::{Value, json};
use support::http::{self, Event, events, names, result};
use support::{Daemon, Model, claude, wait_for};

fn start(extra: &str) -> Option<(Model, Daemon)> {
    let claude = claude()?;
    let model = Model::start();
    let daemon = Daemon::start_with(&claude, &model.url, extra);
    Some((model, daemon))
}

fn post(daemon: &Daemon, session: &str, key: &str, body: &Value) -> http::Response {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let path = format!("/api/sessions/{session}/messages");
    http::request(&daemon.control(), "POST", &path, &headers, Some(body.to_string().as_bytes()))
}

fn turns(daemon: &Daemon, session: &str, query: &str) -> Vec<Value> {
    let listed = daemon.get(&format!("/api/sessions/{session}/turns{query}"));
    assert!(listed.ok_status(), "{}", listed.text());
    listed.json()["turns"].as_array().expect("turns").clone()
}

fn stream(daemon: &Daemon, session: &str, query: &str) -> Vec<Event> {
    let answer = daemon.get(&format!("/api/sessions/{session}/stream?{query}"));
    assert!(answer.ok_status(), "{}", answer.text());
    events(&answer.text())
}

#[test]
fn a_message_that_comes_twice_with_one_key_is_one_turn() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let body = json!({"content": "bash: echo x >> /work/count"});
    let first = events(&post(&daemon, &session, "key-1", &body).text());
    let again = events(&post(&daemon, &session, "key-1", &body).text());
    assert_eq!(first, again, "the second joins the turn of the first");
    assert!(result(&daemon.say(&session, "bash: wc -l < /work/count")).contains('1'));

    let other = post(&daemon, &session, "key-1", &json!({"content": "say: another"}));
    assert_eq!((other.status, other.json()["code"].as_str()), (422, Some("unprocessable")), "{}", other.text());
    for key in ["", "ä", &"k".repeat(256)] {
        let refused = post(&daemon, &session, key, &body);
        assert_eq!(refused.status, 400, "{key}");
        assert_eq!(refused.json()["details"][0]["field"], "Idempotency-Key");
    }
    assert_eq!(turns(&daemon, &session, "").len(), 2);
}

#[test]
fn a_key_joins_a_turn_that_runs_also_after_a_restart() {
    let Some((_model, mut daemon)) = start("") else { return };
    let session = daemon.session();
    let body = json!({"content": "slow: 3"});
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    let path = format!("/api/sessions/{session}/messages");
    let text = body.to_string();
    let mut open = http::open(&daemon.control(), "POST", &path, &headers, Some(text.as_bytes())).expect("answers");
    open.until("session_start");
    drop(open);
    daemon.kill();
    daemon.run();
    let joined = events(&post(&daemon, &session, "k", &body).text());
    assert_eq!((names(&joined)[0], joined.last().map(|e| e.data["state"].clone())), ("session_start", Some(json!("completed"))));
    assert_eq!(turns(&daemon, &session, "").len(), 1);
}

#[test]
fn turns_are_listed_with_their_place_and_can_be_cancelled() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let path = format!("/api/sessions/{session}/messages");
    let json_type = [("content-type", "application/json")];
    let mut running =
        http::open(&daemon.control(), "POST", &path, &json_type, Some(br#"{"content":"slow: 60"}"#)).expect("answers");
    running.until("\"subtype\":\"init\"");
    let mut opened = Vec::new();
    for content in [&br#"{"content":"say: b"}"#[..], br#"{"content":"say: c"}"#] {
        let mut waiting = http::open(&daemon.control(), "POST", &path, &json_type, Some(content)).expect("answers");
        waiting.until("session_start");
        opened.push(waiting);
    }
    let all = turns(&daemon, &session, "");
    let shown: Vec<_> = all.iter().map(|turn| (turn["state"].as_str(), turn["queuePosition"].as_i64())).collect();
    assert_eq!(shown, [(Some("running"), None), (Some("queued"), Some(1)), (Some("queued"), Some(2))]);
    assert_eq!(turns(&daemon, &session, "?state=queued").len(), 2);
    let after = all[0]["firstEvent"].as_i64().expect("a number");
    assert_eq!(turns(&daemon, &session, &format!("?after={after}&limit=1"))[0]["id"], all[1]["id"]);

    let cancel = |turn: &Value| {
        let id = turn["id"].as_str().expect("an id");
        daemon.send("POST", &format!("/api/sessions/{session}/turns/{id}/cancel"), &json!({}))
    };
    let cancelled = cancel(&all[1]);
    assert_eq!(cancelled.json()["turn"]["state"], "cancelled", "{}", cancelled.text());
    let again = cancel(&all[1]);
    assert_eq!((again.status, again.json()["code"].as_str()), (409, Some("conflict")));
    assert!(cancel(&all[0]).ok_status());
    let ended = events(&running.finish().text());
    assert_eq!(ended.last().map(|e| e.data["state"].clone()), Some(json!("interrupted")));
    let last = events(&opened.pop().expect("opened").finish().text());
    assert_eq!(last.last().map(|e| e.data["state"].clone()), Some(json!("completed")));
    let shown = daemon.get(&format!("/api/sessions/{session}/turns/{}", all[2]["id"].as_str().expect("an id"))).json();
    for time in ["createdAt", "startedAt", "endedAt"] {
        assert!(shown["turn"][time].is_string(), "{time}: {shown}");
    }
}

#[test]
fn the_end_of_a_turn_has_its_bill_and_so_has_the_turn() {
    let Some((_model, daemon)) =
        start("[prices]\npriced-model = { input = 10, output = 100, cache_read = 1, cache_write = 12, cache_write_1h = 20 }")
    else {
        return;
    };
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    let session = daemon.create(&json!({"agent": "test", "model": "priced-model-1"}));
    let said = daemon.say(&session, "usage: 1000 200");
    let done = said.last().expect("an end");
    let usage = &done.data["usage"];
    let model = &usage["models"]["priced-model-1"];
    assert_eq!(
        (model["calls"].as_i64(), model["inputTokens"].as_i64(), model["outputTokens"].as_i64()),
        (Some(1), Some(1000), Some(200))
    );
    assert_eq!(usage["costUsd"].as_f64(), Some(0.03), "{usage}");
    let calls = &usage["modelCalls"];
    assert!(calls["answered"].as_i64() >= Some(1) && calls["failed"] == 0 && calls["refused"] == 0, "{usage}");
    let turn = done.data["turnId"].as_str().expect("a turn");
    assert_eq!(daemon.get(&format!("/api/sessions/{session}/turns/{turn}")).json()["turn"]["usage"], *usage);

    let said = daemon.turn(&session, &json!({"content": "bash: echo x", "model": "free-model"}));
    let usage = &said.last().expect("an end").data["usage"];
    assert_eq!((usage["toolCalls"].as_i64(), usage["costUsd"].is_null()), (Some(1), true), "no price is no guess: {usage}");
}

#[test]
fn what_is_asked_of_turns_wrongly_is_named() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let foreign = "01900000-0000-7000-8000-000000000000";
    for (path, status, field) in [
        (format!("{session}/turns?state=done"), 400, Some("state")),
        (format!("{session}/turns?limit=0"), 400, Some("limit")),
        (format!("{session}/turns/x"), 400, Some("turn")),
        (format!("{session}/turns/{foreign}"), 404, None),
        (format!("{foreign}/turns"), 404, None),
        (format!("{session}/stream?turn={foreign}"), 404, None),
        (format!("{session}/stream?types=done,nonsense!"), 400, Some("types")),
        (format!("{session}/stream?types="), 400, Some("types")),
        (format!("{session}/permissions/{foreign}"), 404, None),
        (format!("{session}/permissions?state=open"), 400, Some("state")),
    ] {
        let answer = daemon.get(&format!("/api/sessions/{path}"));
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.json()["details"][0]["field"].as_str(), field, "{path}");
    }
    let cancel = daemon.send("POST", &format!("/api/sessions/{session}/turns/{foreign}/cancel"), &json!({}));
    assert_eq!(cancel.status, 404, "{}", cancel.text());
}

#[test]
fn a_stream_brings_only_the_types_that_were_asked_for() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let said = daemon.say(&session, "bash: echo one");
    let turn = said[0].data["turnId"].as_str().expect("a turn");
    let some = stream(&daemon, &session, &format!("turn={turn}&types=tool_use"));
    assert_eq!(names(&some), ["tool_use", "done"], "and its end, since it is of one turn");
    let kept: Vec<_> = said.iter().filter(|e| ["tool_use", "done"].contains(&e.name.as_str())).cloned().collect();
    assert_eq!(some, kept);
}

#[test]
fn a_cursor_within_deltas_that_were_removed_goes_on_behind_them() {
    let Some((_model, daemon)) = start("[log]\nkeep_deltas = \"0s\"") else { return };
    let session = daemon.session();
    let live = daemon.turn(&session, &json!({"content": "slow: 1", "includePartialMessages": true}));
    let turn = live[0].data["turnId"].as_str().expect("a turn").to_owned();
    let deltas: Vec<_> = live.iter().filter(|e| e.name == "text_delta").collect();
    assert!(deltas.len() > 2, "{:?}", names(&live));
    let path = format!("turn={turn}&partials=true");
    wait_for("the deltas are removed", || stream(&daemon, &session, &path).iter().all(|e| e.name != "text_delta").then_some(()));
    let whole = |events: &[Event]| -> Vec<Event> {
        let is_partial = |e: &Event| e.name == "text_delta" || e.data["type"] == "stream_event";
        events.iter().filter(|e| !is_partial(e)).cloned().collect()
    };
    assert_eq!(stream(&daemon, &session, &path), whole(&live), "nothing else is gone, and ids are what they were");
    let within = deltas[1].id;
    let after = stream(&daemon, &session, &format!("{path}&after={within}"));
    let behind: Vec<_> = whole(&live).into_iter().filter(|e| e.id > within).collect();
    assert_eq!(after, behind);
}

#[test]
fn a_turn_that_the_runtime_begins_by_itself_is_one_of_its_own_kind() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let command = json!({"command": "until [ -e /work/go ]; do sleep 0.1; done; echo late", "run_in_background": true});
    daemon.say(&session, &format!("tool: Bash {command}"));
    let gone = daemon.send("POST", &format!("/api/sessions/{session}/exec"), &json!({"command": "touch /work/go"}));
    assert!(gone.ok_status(), "{}", gone.text());
    let own = wait_for("the runtime begins a turn and ends it", || {
        turns(&daemon, &session, "?state=completed").into_iter().find(|turn| turn["kind"] == "runtime")
    });
    assert!(own["startedAt"].is_string() && own["idempotencyKey"].is_null(), "{own}");
}
