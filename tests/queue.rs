//! The queue, with the real runtime: what is put into it is answered once, whoever dies, in order, and by nobody's
//! leave but its tenant's.

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::http::Response;
use support::life::{act, good, show, start};
use support::{Daemon, StandIn, http, kill_shims, wait_for};

fn add(daemon: &Daemon, body: &Value) -> Response {
    daemon.send("POST", "/api/queue", body)
}

/// Queues a message; returns the id of its item.
fn queue(daemon: &Daemon, body: &Value) -> String {
    let added = add(daemon, body);
    assert_eq!(added.status, 201, "{}", added.text());
    let item = &added.json()["item"];
    assert_eq!(item["status"], "pending", "{item}");
    item["id"].as_str().expect("an id").to_owned()
}

fn item(daemon: &Daemon, id: &str) -> Value {
    let answer = daemon.get(&format!("/api/queue/{id}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["item"].clone()
}

/// Waits until an item is over.
fn over(daemon: &Daemon, id: &str) -> Value {
    wait_for("the item is over", || {
        let answer = daemon.get(&format!("/api/queue/{id}?wait=10"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let item = answer.json()["item"].clone();
        matches!(item["status"].as_str(), Some("completed" | "failed" | "cancelled")).then_some(item)
    })
}

fn until(daemon: &Daemon, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || Some(item(daemon, id)).filter(&holds))
}

fn deploy(daemon: &Daemon) {
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
}

fn turns(daemon: &Daemon, session: &str) -> Vec<Value> {
    daemon.get(&format!("/api/sessions/{session}/turns")).json()["turns"].as_array().expect("a list").clone()
}

const PRICES: &str = "[prices]\npriced = { input = 10, output = 100, cache_read = 1, cache_write = 12, cache_write_1h = 20 }\n";

#[test]
fn an_item_is_answered_in_a_session_of_its_own_that_is_ended_then() {
    let Some((_model, daemon)) = start("") else { return };
    deploy(&daemon);
    let id = queue(&daemon, &json!({"agentName": "test", "prompt": "say: done"}));
    let done = over(&daemon, &id);
    assert_eq!((&done["status"], &done["result"], &done["error"]), (&json!("completed"), &json!("done"), &Value::Null), "{done}");
    assert_eq!((&done["retryCount"], &done["maxRetries"], &done["priority"]), (&json!(0), &json!(3), &json!(0)));
    assert!(done["startedAt"].is_string() && done["completedAt"].is_string(), "{done}");
    let session = done["sessionId"].as_str().expect("a session").to_owned();
    wait_for("its session is ended", || (show(&daemon, &session)["status"] == "ended").then_some(()));
    let turns = turns(&daemon, &session);
    assert_eq!((turns.len(), &turns[0]["id"], &turns[0]["idempotencyKey"]), (1, &done["turnId"], &json!(id)));
    let result = daemon.get(&format!("/api/queue/{id}/result"));
    assert_eq!(result.json()["result"], "done", "{}", result.text());
    assert_eq!(daemon.get(&format!("/api/queue/{id}/session")).json()["session"]["id"], session.as_str());
    let listed = daemon.get("/api/queue?status=completed&limit=1").json();
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["result"]), (&json!(id), &Value::Null));
    let stats = json!({"pending": 0, "processing": 0, "completed": 1, "failed": 0, "cancelled": 0});
    assert_eq!(daemon.get("/api/queue/stats").json()["stats"], stats);

    let kept = queue(&daemon, &json!({"agentName": "test", "prompt": "say: kept", "keepSession": true}));
    let kept = over(&daemon, &kept);
    let session = kept["sessionId"].as_str().expect("a session");
    assert_eq!((&kept["result"], &show(&daemon, session)["status"]), (&json!("kept"), &json!("active")));
}

#[test]
fn an_item_for_a_session_goes_behind_what_runs_there_and_says_what_it_cost() {
    let Some((_model, daemon)) = start(PRICES) else { return };
    deploy(&daemon);
    let session = daemon.create(&json!({"agent": "test", "model": "priced"}));
    let mut running = daemon.post(&session, "slow: 2");
    running.until("\"subtype\":\"init\"");
    let id = queue(&daemon, &json!({"agentName": "test", "prompt": "usage: 1000 200", "sessionId": session}));
    let done = over(&daemon, &id);
    assert_eq!(
        (&done["status"], &done["sessionId"], &done["costUsd"]),
        (&json!("completed"), &json!(session), &json!(0.03)),
        "{done}"
    );
    let turns = turns(&daemon, &session);
    assert_eq!(turns.iter().map(|turn| turn["state"].as_str()).collect::<Vec<_>>(), [Some("completed"); 2]);
    assert_eq!(turns[1]["id"], done["turnId"], "in the order in which they came");
    assert_eq!(show(&daemon, &session)["status"], "active", "it is not the item's own");
}

#[test]
fn what_is_processed_while_the_daemon_dies_is_joined_by_the_next_and_runs_once() {
    let Some((_model, mut daemon)) = start("") else { return };
    let session = daemon.session();
    let into =
        queue(&daemon, &json!({"agentName": "test", "prompt": "bash: echo x >> /work/count; sleep 3", "sessionId": session}));
    let own = queue(&daemon, &json!({"agentName": "test", "prompt": "slow: 3"}));
    let waits = queue(&daemon, &json!({"agentName": "test", "prompt": "say: later"}));
    for id in [&into, &own] {
        until(&daemon, id, "it has a turn", |item| item["turnId"].is_string());
    }
    let before = [&into, &own].map(|id| item(&daemon, id)["turnId"].clone());
    daemon.kill();
    daemon.run();
    let done = [&into, &own, &waits].map(|id| over(&daemon, id));
    for (item, turn) in done.iter().zip(&before) {
        assert_eq!((&item["status"], &item["turnId"], &item["retryCount"]), (&json!("completed"), turn, &json!(0)), "{item}");
    }
    assert_eq!(done[2]["result"], "later");
    assert!(http::result(&daemon.say(&session, "bash: wc -l < /work/count")).contains('1'), "it ran once");
    // Asked to stop, it leaves them to the next one as well.
    let last = queue(&daemon, &json!({"agentName": "test", "prompt": "slow: 2"}));
    until(&daemon, &last, "it has a turn", |item| item["turnId"].is_string());
    daemon.stop();
    daemon.run();
    assert_eq!(over(&daemon, &last)["status"], "completed");
}

#[test]
fn the_highest_priority_goes_first_then_the_oldest() {
    let Some((_model, daemon)) = start("[queue]\nworkers = 1\n") else { return };
    deploy(&daemon);
    let first = queue(&daemon, &json!({"agentName": "test", "prompt": "slow: 2"}));
    until(&daemon, &first, "it is processed", |item| item["status"] == "processing");
    let add = |priority: i64| queue(&daemon, &json!({"agentName": "test", "prompt": "say: x", "priority": priority}));
    let [low, high, later] = [add(0), add(9), add(9)];
    let started: BTreeMap<_, _> = [low.clone(), high.clone(), later.clone()]
        .into_iter()
        .map(|id| (over(&daemon, &id)["startedAt"].as_str().expect("a time").to_owned(), id))
        .collect();
    assert_eq!(started.into_values().collect::<Vec<_>>(), [high, later, low]);
}

#[test]
fn a_sandbox_that_crashes_is_tried_again_in_another_session_and_a_refused_agent_is_not() {
    let Some((_model, daemon)) = start("") else { return };
    deploy(&daemon);
    let id = queue(&daemon, &json!({"agentName": "test", "prompt": "slow: 4", "maxRetries": 2}));
    let first = until(&daemon, &id, "it has a turn", |item| item["turnId"].is_string());
    let session = first["sessionId"].as_str().expect("a session").to_owned();
    wait_for("it runs", || turns(&daemon, &session).iter().any(|turn| turn["state"] == "running").then_some(()));
    kill_shims(&daemon);
    let again = until(&daemon, &id, "it waits for its next try", |item| item["retryCount"] == 1);
    assert!(again["error"].as_str().is_some_and(|error| error.contains("crash")), "{again}");
    let done = over(&daemon, &id);
    assert_eq!((&done["status"], &done["retryCount"]), (&json!("completed"), &json!(1)), "{done}");
    assert_ne!(done["sessionId"], first["sessionId"], "nothing of the first try is in it");
    wait_for("both are ended", || (show(&daemon, &session)["status"] == "ended").then_some(()));

    let refused = queue(&daemon, &json!({"agentName": "nobody", "prompt": "x"}));
    let refused = over(&daemon, &refused);
    let wanted = (json!("failed"), json!(0), json!("Agent \"nobody\" not found"));
    assert_eq!((&refused["status"], &refused["retryCount"], &refused["error"]), (&wanted.0, &wanted.1, &wanted.2));
    assert_eq!(daemon.get(&format!("/api/queue/{}/result", refused["id"].as_str().expect("an id"))).json()["status"], "failed");
}

#[test]
fn a_model_api_that_fails_is_asked_again_and_a_budget_that_is_spent_is_not() {
    let Some((_model, daemon)) = start("") else { return };
    deploy(&daemon);
    let fails = queue(&daemon, &json!({"agentName": "test", "prompt": "fail: 529", "maxRetries": 1}));
    let failed = over(&daemon, &fails);
    assert_eq!((&failed["status"], &failed["retryCount"]), (&json!("failed"), &json!(1)), "{failed}");
    assert!(failed["error"].as_str().is_some_and(|error| error.contains("529")), "{failed}");
    let refused = queue(&daemon, &json!({"agentName": "test", "prompt": "fail: 400"}));
    let refused = over(&daemon, &refused);
    assert_eq!((&refused["status"], &refused["retryCount"]), (&json!("failed"), &json!(0)), "{refused}");

    let poor = daemon.create(&json!({"agent": "test", "limits": {"maxTokens": 1000}}));
    daemon.say(&poor, "usage: 900 200");
    let spent = queue(&daemon, &json!({"agentName": "test", "prompt": "say: x", "sessionId": poor}));
    let spent = over(&daemon, &spent);
    assert_eq!((&spent["status"], &spent["retryCount"]), (&json!("failed"), &json!(0)), "{spent}");
    assert!(spent["error"].as_str().is_some_and(|error| error.contains("budget: ")), "{spent}");
}

#[test]
fn what_waits_is_cancelled_and_what_is_processed_is_interrupted_by_force() {
    let Some((_model, daemon)) = start("[queue]\nworkers = 1\n") else { return };
    deploy(&daemon);
    let works = queue(&daemon, &json!({"agentName": "test", "prompt": "slow: 60"}));
    let waits = queue(&daemon, &json!({"agentName": "test", "prompt": "say: never"}));
    until(&daemon, &works, "it has a turn", |item| item["turnId"].is_string());
    let cancel = |id: &str, query: &str| daemon.send("DELETE", &format!("/api/queue/{id}{query}"), &json!({}));
    let cancelled = cancel(&waits, "");
    assert_eq!((cancelled.status, &cancelled.json()["item"]["status"]), (200, &json!("cancelled")), "{}", cancelled.text());
    let refused = cancel(&works, "");
    let sentence = json!("Cannot cancel item with status \"processing\"");
    assert_eq!((refused.status, &refused.json()["error"]), (400, &sentence), "{}", refused.text());
    let early = daemon.get(&format!("/api/queue/{works}/result"));
    assert_eq!((early.status, early.json()["code"].as_str()), (409, Some("conflict")), "{}", early.text());
    let forced = cancel(&works, "?force=true");
    assert_eq!((forced.status, &forced.json()["item"]["cancelling"]), (202, &json!(true)), "{}", forced.text());
    let over = over(&daemon, &works);
    assert_eq!((&over["status"], &over["result"], &over["retryCount"]), (&json!("cancelled"), &Value::Null, &json!(0)), "{over}");
    let session = over["sessionId"].as_str().expect("a session");
    wait_for("its session is ended", || (show(&daemon, session)["status"] == "ended").then_some(()));
    assert_eq!(cancel(&works, "?force=true").status, 400);

    // Whoever interrupts the turn himself does not want another one.
    let ended = queue(&daemon, &json!({"agentName": "test", "prompt": "slow: 60"}));
    let found = until(&daemon, &ended, "it has a turn", |item| item["turnId"].is_string());
    let path = format!("/api/sessions/{}/interrupt", found["sessionId"].as_str().expect("a session"));
    wait_for("its turn is interrupted", || {
        daemon.send("POST", &path, &json!({}));
        (item(&daemon, &ended)["status"] == "failed").then_some(())
    });
    assert_eq!(item(&daemon, &ended)["retryCount"], 0);
}

#[test]
fn an_item_whose_session_rests_gives_its_worker_back_and_one_tenant_never_has_all_of_them_for_sessions() {
    let Some((_model, daemon)) = start("[queue]\nworkers = 2\n") else { return };
    let (paused, stopped) = (daemon.session(), daemon.session());
    let _busy = [&paused, &stopped].map(|session| {
        let mut turn = daemon.post(session, "slow: 60");
        turn.until("\"subtype\":\"init\"");
        turn
    });
    let add = |session: &str, retries: i64| {
        queue(&daemon, &json!({"agentName": "test", "prompt": "say: x", "sessionId": session, "maxRetries": retries}))
    };
    let (first, second) = (add(&paused, 1), add(&stopped, 0));
    let waits = until(&daemon, &first, "it waits in its session", |item| item["turnId"].is_string());
    let own = queue(&daemon, &json!({"agentName": "test", "prompt": "say: free"}));
    assert_eq!(over(&daemon, &own)["result"], "free", "a worker is left for it");
    assert_eq!(item(&daemon, &second)["status"], "pending", "it is not for a second session that may be busy");

    good(&act(&daemon, &paused, "pause"));
    let again = until(&daemon, &first, "it waits for its next try", |item| item["retryCount"] == 1);
    let sentence = json!("the session was paused while the message waited in it");
    assert_eq!((&again["error"], &again["costUsd"]), (&sentence, &json!(0.0)), "{again}");
    let left = turns(&daemon, &paused).into_iter().find(|turn| turn["id"] == waits["turnId"]).expect("its turn");
    assert_eq!(left["state"], "cancelled", "it does not run beside the next try: {left}");
    good(&act(&daemon, &paused, "resume"));

    until(&daemon, &second, "it waits in its session", |item| item["turnId"].is_string());
    good(&act(&daemon, &stopped, "stop"));
    let failed = over(&daemon, &second);
    let sentence = json!("the session was stopped while the message waited in it");
    assert_eq!((&failed["status"], &failed["error"]), (&json!("failed"), &sentence), "{failed}");
    let done = over(&daemon, &first);
    assert_eq!((&done["status"], &done["result"]), (&json!("completed"), &json!("x")), "{done}");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_session_that_was_paused_when_the_daemon_died_holds_no_worker_of_the_next_one() {
    let Some((_model, mut daemon)) = start("[queue]\nworkers = 1\n") else { return };
    let session = daemon.session();
    daemon.kill();
    daemon.set_env(vec![(ash::fault::VARIABLE, "status.stored".to_owned())]);
    daemon.run();
    daemon.post(&session, "slow: 60").until("\"subtype\":\"init\"");
    let id = queue(&daemon, &json!({"agentName": "test", "prompt": "say: x", "sessionId": session, "maxRetries": 0}));
    until(&daemon, &id, "it waits in its session", |item| item["turnId"].is_string());
    // It dies before it answers.
    let _answer = act(&daemon, &session, "pause");
    wait_for("the daemon dies", || daemon.has_ended().then_some(()));
    daemon.set_env(Vec::new());
    daemon.run();
    let failed = over(&daemon, &id);
    let sentence = json!("the session was paused while the message waited in it");
    assert_eq!((&failed["status"], &failed["error"]), (&json!("failed"), &sentence), "{failed}");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_turn_that_was_posted_by_a_daemon_that_died_is_interrupted_by_whoever_cancels_its_item() {
    let Some((_model, mut daemon)) = start("") else { return };
    let session = daemon.session();
    daemon.kill();
    daemon.set_env(vec![(ash::fault::VARIABLE, "queue.posted".to_owned())]);
    daemon.run();
    // So that the turn begins at once when it is posted.
    let shown = || daemon.get(&format!("/api/sessions/{session}")).json()["session"]["sandboxState"].clone();
    wait_for("its sandbox is attached", || (shown() == "waiting").then_some(()));
    let id = queue(&daemon, &json!({"agentName": "test", "prompt": "slow: 60", "sessionId": session}));
    wait_for("the daemon dies", || daemon.has_ended().then_some(()));
    daemon.set_env(Vec::new());
    {
        // Whoever cancels it is faster than the worker of the next daemon.
        let database = rusqlite::Connection::open(daemon.data().join("ash.db")).expect("opens");
        let changed = database.execute("update queue set cancelling = 1 where turn is null and status = 'processing'", []);
        assert_eq!(changed.expect("cancels"), 1, "its turn is not noted");
    }
    daemon.run();
    let over = over(&daemon, &id);
    assert_eq!(over["status"], "cancelled", "{over}");
    let turns = turns(&daemon, &session);
    assert_eq!((turns.len(), &turns[0]["id"], &turns[0]["state"]), (1, &over["turnId"], &json!("interrupted")), "{turns:?}");
}

#[test]
fn the_queue_of_one_tenant_is_not_anothers_and_neither_waits_for_the_other() {
    let Some((_model, daemon)) = start("[queue]\nworkers = 2\n") else { return };
    deploy(&daemon);
    let key = daemon.bearer(&json!({"tenant": "other"}));
    let other = |method: &str, path: &str, body: Option<&Value>| daemon.send_as(&key, method, path, body);
    let files = json!([{"path": "CLAUDE.md", "content": support::base64(b"You are a test agent.\n")}]);
    assert_eq!(other("POST", "/api/agents", Some(&json!({"name": "test", "files": files}))).status, 201);

    let many: Vec<_> =
        (0..6).map(|_| queue(&daemon, &json!({"agentName": "test", "prompt": "slow: 60", "priority": 9}))).collect();
    until(&daemon, &many[0], "it is processed", |item| item["status"] == "processing");
    until(&daemon, &many[1], "all workers are taken", |item| item["status"] == "processing");
    let added = other("POST", "/api/queue", Some(&json!({"agentName": "test", "prompt": "say: here"})));
    assert_eq!(added.status, 201, "{}", added.text());
    let id = added.json()["item"]["id"].as_str().expect("an id").to_owned();
    daemon.send("DELETE", &format!("/api/queue/{}?force=true", many[0]), &json!({}));
    let done = wait_for("it is answered, whatever waits before it", || {
        let item = other("GET", &format!("/api/queue/{id}?wait=5"), None).json()["item"].clone();
        (item["status"] == "completed").then_some(item)
    });
    assert_eq!((&done["result"], &done["tenantId"]), (&json!("here"), &json!("other")));

    for (method, path) in [
        ("GET", format!("/api/queue/{}", many[1])),
        ("GET", format!("/api/queue/{}/result", many[1])),
        ("GET", format!("/api/queue/{}/session", many[1])),
        ("DELETE", format!("/api/queue/{}?force=true", many[1])),
    ] {
        let answer = other(method, &path, None);
        assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some("Queue item not found")), "{method} {path}");
    }
    assert_eq!(other("GET", "/api/queue", None).json()["items"].as_array().map(Vec::len), Some(1));
    let session = item(&daemon, &many[1])["sessionId"].clone();
    let into = other("POST", "/api/queue", Some(&json!({"agentName": "test", "prompt": "x", "sessionId": session})));
    assert_eq!(into.status, 404, "{}", into.text());
    for id in &many {
        daemon.send("DELETE", &format!("/api/queue/{id}?force=true"), &json!({}));
    }
    many.iter().for_each(|id| drop(over(&daemon, id)));
}

#[test]
fn bad_items_are_refused_by_field_and_more_than_may_wait_with_a_sentence() {
    let stand_in = StandIn::new();
    let daemon = Daemon::start_with(&stand_in.path(), "http://127.0.0.1:9", "[queue]\npending = 2\nworkers = 1\n");
    for (body, field) in [
        (json!({"prompt": "x"}), "agentName"),
        (json!({"agentName": "", "prompt": "x"}), "agentName"),
        (json!({"agentName": "a"}), "prompt"),
        (json!({"agentName": "a", "prompt": ""}), "prompt"),
        (json!({"agentName": "a", "prompt": "x".repeat(500_001)}), "prompt"),
        (json!({"agentName": "a", "prompt": "x", "priority": -1}), "priority"),
        (json!({"agentName": "a", "prompt": "x", "maxRetries": 101}), "maxRetries"),
        (json!({"agentName": "a", "prompt": "x", "sessionId": "x"}), "sessionId"),
    ] {
        let answer = add(&daemon, &body);
        assert_eq!((answer.status, answer.json()["details"][0]["field"].as_str()), (400, Some(field)), "{}", answer.text());
    }
    for (path, field) in [("?status=done", "status"), ("?limit=501", "limit"), ("/x", "id")] {
        let answer = daemon.get(&format!("/api/queue{path}"));
        assert_eq!((answer.status, answer.json()["details"][0]["field"].as_str()), (400, Some(field)), "{}", answer.text());
    }
    let nobody = "0198c0de-0000-7000-8000-00000000dead";
    assert_eq!(daemon.get(&format!("/api/queue/{nobody}")).status, 404);
    assert_eq!(daemon.get(&format!("/api/queue/{nobody}?wait=61")).json()["details"][0]["field"], "wait");
    assert_eq!(add(&daemon, &json!({"agentName": "a", "prompt": "x", "sessionId": nobody})).status, 404);

    // Those that wait for their next try wait, too.
    daemon.deploy("broken", &[("CLAUDE.md", "x"), ("startup.sh", "exit 1\n")]);
    let mut waits = Vec::new();
    let full = wait_for("no more may wait", || {
        let added = add(&daemon, &json!({"agentName": "broken", "prompt": "x", "maxRetries": 100}));
        if added.status != 201 {
            return Some(added);
        }
        waits.push(added.json()["item"]["id"].as_str().expect("an id").to_owned());
        None
    });
    assert_eq!((full.status, full.json()["code"].as_str()), (429, Some("rate_limited")), "{}", full.text());
    assert!(full.text().contains("As many items wait in the queue as may: 2"), "{}", full.text());
    for id in &waits {
        wait_for("it is cancelled", || {
            daemon.send("DELETE", &format!("/api/queue/{id}?force=true"), &json!({}));
            (item(&daemon, id)["status"] != "pending").then_some(())
        });
        over(&daemon, id);
    }
}

#[test]
fn items_that_are_over_go_with_sessions_that_are() {
    let Some((_model, daemon)) = start("[retention]\nended_after = \"0s\"\n") else { return };
    deploy(&daemon);
    let id = queue(&daemon, &json!({"agentName": "test", "prompt": "say: kept until then"}));
    let waits = queue(&daemon, &json!({"agentName": "nobody", "prompt": "x"}));
    over(&daemon, &id);
    over(&daemon, &waits);
    wait_for("they are gone", || {
        daemon.send("POST", "/api/gc", &json!({}));
        (daemon.get("/api/queue").json()["items"] == json!([])).then_some(())
    });
    assert_eq!(daemon.get(&format!("/api/queue/{id}")).status, 404);
}

#[test]
fn an_item_that_is_added_again_with_its_key_is_the_first_and_runs_once() {
    let Some((model, mut daemon)) = start("[queue]\nworkers = 1\n") else { return };
    let session = daemon.session();
    let body = json!({"agentName": "test", "prompt": "say: once", "sessionId": session});
    let add = |daemon: &Daemon, key: &str, body: &Value| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        http::request(&daemon.control(), "POST", "/api/queue", &headers, Some(body.to_string().as_bytes()))
    };
    let first = add(&daemon, "k 1", &body);
    assert_eq!(first.status, 201, "{}", first.text());
    let id = first.json()["item"]["id"].as_str().expect("an id").to_owned();
    let again = add(&daemon, "k 1", &body);
    assert_eq!((again.status, &again.json()["item"]["id"]), (201, &json!(id)), "{}", again.text());
    let other = add(&daemon, "k 1", &json!({"agentName": "test", "prompt": "say: other", "sessionId": session}));
    assert_eq!((other.status, other.json()["code"].as_str()), (422, Some("unprocessable")), "{}", other.text());
    assert_eq!(over(&daemon, &id)["result"], "once");
    // Also by the next daemon, and though the session that it names is over.
    daemon.kill();
    daemon.run();
    support::life::end(&daemon, &session);
    let late = add(&daemon, "k 1", &body);
    assert_eq!((late.status, &late.json()["item"]["status"]), (201, &json!("completed")), "{}", late.text());
    assert_eq!(add(&daemon, "k 2", &body).status, 400, "a new one can not go there any more");
    for wrong in ["", "ü", &"x".repeat(256)] {
        let refused = add(&daemon, wrong, &body);
        assert_eq!(
            (refused.status, &refused.json()["details"][0]["field"]),
            (400, &json!("Idempotency-Key")),
            "{}",
            refused.text()
        );
    }
    assert_eq!(daemon.get("/api/queue").json()["items"].as_array().map(Vec::len), Some(1));
    let said = model.requests().iter().filter(|request| request.to_string().contains("say: once")).count();
    assert!(said <= 2, "it was said once: {said}");
}
