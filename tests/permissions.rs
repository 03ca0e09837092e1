//! Requests for permission over the API, with the real runtime: asked, listed, answered, over
//! restarts of the daemon and of the sandbox.

mod support;

use serde_json::{Value, json};
use support::http::{self, Event, Open, events, result};
use support::{Daemon, Model, claude, wait_for};

fn start(extra: &str) -> Option<(Model, Daemon)> {
    let claude = claude()?;
    let model = Model::start();
    let daemon = Daemon::start_with(&claude, &model.url, extra);
    Some((model, daemon))
}

fn asking(daemon: &Daemon) -> String {
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    daemon.create(&json!({"agent": "test", "permissionMode": "ask"}))
}

fn post(daemon: &Daemon, session: &str, text: &str) -> Open {
    let path = format!("/api/sessions/{session}/messages");
    let body = json!({"content": text}).to_string();
    http::open(&daemon.control(), "POST", &path, &[("content-type", "application/json")], Some(body.as_bytes())).expect("answers")
}

fn pending(daemon: &Daemon, session: &str) -> Vec<Value> {
    let listed = daemon.get(&format!("/api/sessions/{session}/permissions?state=pending"));
    listed.json()["permissions"].as_array().unwrap_or_else(|| panic!("{}", listed.text())).clone()
}

fn wait_for_request(daemon: &Daemon, session: &str) -> Value {
    wait_for("the runtime asks", || pending(daemon, session).pop())
}

fn answer(daemon: &Daemon, session: &str, request: &Value, body: &Value) -> http::Response {
    let id = request["id"].as_str().expect("an id");
    daemon.send("POST", &format!("/api/sessions/{session}/permissions/{id}"), body)
}

/// The events of the session's newest turn, to its end.
fn finish(daemon: &Daemon, session: &str) -> Vec<Event> {
    let turns = daemon.get(&format!("/api/sessions/{session}/turns")).json();
    let turn =
        turns["turns"].as_array().and_then(|turns| turns.last()).expect("a turn")["id"].as_str().expect("an id").to_owned();
    events(&daemon.get(&format!("/api/sessions/{session}/stream?turn={turn}")).text())
}

fn named<'a>(events: &'a [Event], name: &str) -> Vec<&'a Event> {
    events.iter().filter(|event| event.name == name).collect()
}

#[test]
fn a_request_waits_over_a_restart_and_is_answered_once() {
    let Some((_model, mut daemon)) = start("") else { return };
    let session = asking(&daemon);
    let mut open = post(&daemon, &session, "bash: touch /work/made && echo made-it");
    let before = open.until("permission_request");
    assert!(before.contains("session_start"));
    let request = wait_for_request(&daemon, &session);
    assert_eq!((request["kind"].as_str(), request["toolName"].as_str()), (Some("tool"), Some("Bash")), "{request}");
    assert!(request["expiresAt"].is_string() && request["resolved"].is_null(), "{request}");
    daemon.kill();
    daemon.run();
    assert_eq!(pending(&daemon, &session).len(), 1, "it is still there");

    for (body, field) in [
        (json!({"behavior": "allow", "answers": {"a": "b"}}), "answers"),
        (json!({"behavior": "allow", "updatedInput": 1}), "updatedInput"),
        (json!({"behavior": "deny", "scope": "session"}), "scope"),
    ] {
        let refused = answer(&daemon, &session, &request, &body);
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert!(refused.json()["error"].as_str().is_some_and(|error| error.contains(field)), "{}", refused.text());
    }
    let wrong = answer(&daemon, &session, &request, &json!({"behavior": "maybe"}));
    assert_eq!((wrong.status, wrong.json()["details"][0]["field"].as_str()), (400, Some("behavior")), "{}", wrong.text());

    let answered = answer(&daemon, &session, &request, &json!({"behavior": "allow"}));
    assert!(answered.ok_status(), "{}", answered.text());
    assert_eq!(answered.json()["permission"]["resolved"]["by"], "caller");
    let again = answer(&daemon, &session, &request, &json!({"behavior": "deny"}));
    assert_eq!(again.status, 409, "{}", again.text());
    let ended = finish(&daemon, &session);
    assert!(result(&ended).contains("made-it"), "{}", result(&ended));
    assert_eq!((named(&ended, "permission_request").len(), named(&ended, "permission_resolved").len()), (1, 1));
    assert!(pending(&daemon, &session).is_empty());
}

#[test]
fn what_was_granted_for_the_session_holds_in_its_next_sandbox() {
    let Some((_model, daemon)) = start("") else { return };
    let session = asking(&daemon);
    let _open = post(&daemon, &session, "bash: touch /work/one");
    let request = wait_for_request(&daemon, &session);
    assert!(request["rules"].as_array().is_some_and(|rules| !rules.is_empty()), "{request}");
    let answered = answer(&daemon, &session, &request, &json!({"behavior": "allow", "scope": "session"}));
    assert!(answered.ok_status(), "{}", answered.text());
    finish(&daemon, &session);
    support::kill_shims(&daemon);
    // A turn that is given to one that dies is not given again.
    let state = || daemon.get(&format!("/api/sessions/{session}")).json()["session"]["sandboxState"].clone();
    wait_for("that is noticed", || (state() == "cold").then_some(()));
    let again = daemon.say(&session, "bash: touch /work/one");
    assert!(named(&again, "permission_request").is_empty(), "it is not asked again");
    assert_eq!(again.last().map(|e| e.data["state"].clone()), Some(json!("completed")));
}

#[test]
fn a_denial_reaches_the_model_and_a_question_gets_its_answer() {
    let Some((_model, daemon)) = start("") else { return };
    let session = asking(&daemon);
    let _open = post(&daemon, &session, "bash: touch /work/one");
    let request = wait_for_request(&daemon, &session);
    let denied = answer(&daemon, &session, &request, &json!({"behavior": "deny", "message": "not on a Friday"}));
    assert!(denied.ok_status(), "{}", denied.text());
    assert!(result(&finish(&daemon, &session)).contains("not on a Friday"));

    let _open = post(&daemon, &session, "ask: Which colour?|red|blue");
    let question = wait_for_request(&daemon, &session);
    assert_eq!(question["kind"], "question", "{question}");
    let answered = answer(&daemon, &session, &question, &json!({"behavior": "allow", "answers": {"Which colour?": "blue"}}));
    assert!(answered.ok_status(), "{}", answered.text());
    assert!(result(&finish(&daemon, &session)).contains("blue"));
}

#[test]
fn nobody_answers_and_the_configured_answer_is_given_also_while_the_daemon_is_away() {
    let Some((_model, mut daemon)) = start("[permissions]\ntimeout = \"2s\"\non_timeout = \"allow\"") else { return };
    let session = asking(&daemon);
    let mut open = post(&daemon, &session, "bash: touch /work/one && echo made-it");
    open.until("permission_request");
    daemon.kill();
    daemon.run();
    let ended = finish(&daemon, &session);
    assert_eq!(named(&ended, "permission_resolved")[0].data["by"], "timeout", "{ended:?}");
    assert!(result(&ended).contains("made-it"), "{}", result(&ended));
}

#[test]
fn a_request_ends_with_its_turn_and_with_its_sandbox() {
    let Some((_model, daemon)) = start("") else { return };
    let session = asking(&daemon);
    for end in ["interrupt", "kill"] {
        let _open = post(&daemon, &session, "bash: touch /work/one");
        wait_for_request(&daemon, &session);
        if end == "kill" {
            support::kill_shims(&daemon);
        } else {
            assert!(daemon.send("POST", &format!("/api/sessions/{session}/interrupt"), &json!({})).ok_status());
        }
        let ended = finish(&daemon, &session);
        let resolved = named(&ended, "permission_resolved");
        assert_eq!(resolved.len(), 1, "{end}");
        assert_eq!(resolved[0].data["by"], "turn_end");
        assert_eq!(ended.last().map(|e| e.data["state"].clone()), Some(json!("interrupted")), "{end}");
        assert!(pending(&daemon, &session).is_empty());
    }
    assert_eq!(result(&daemon.say(&session, "say: usable")), "usable");
}

#[test]
fn a_mode_that_asks_can_be_chosen_between_turns() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let made = daemon.say(&session, "bash: touch /work/one && echo made-it");
    assert!(result(&made).contains("made-it") && named(&made, "permission_request").is_empty());
    let changed = daemon.send("PATCH", &format!("/api/sessions/{session}/config"), &json!({"permissionMode": "ask"}));
    assert_eq!(changed.json()["session"]["config"]["permissionMode"], "ask", "{}", changed.text());
    let _open = post(&daemon, &session, "bash: touch /work/two");
    let request = wait_for_request(&daemon, &session);
    answer(&daemon, &session, &request, &json!({"behavior": "allow"}));
    let ended = finish(&daemon, &session);
    assert_eq!(ended.last().map(|e| e.data["state"].clone()), Some(json!("completed")));
    assert!(
        result(&daemon.say(&session, "remember?")).starts_with("user messages: 3"),
        "the new process goes on with the conversation"
    );
}
