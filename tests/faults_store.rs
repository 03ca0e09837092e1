//! A database that can not be written for a while: nothing of a turn is lost, nothing comes twice,
//! and whoever asks is told.

mod support;

use serde_json::json;
use support::disk::{fill, mount, own_mounts, unmount};
use support::follow::{Follower, difference, is_ended, turn_of};
use support::http::{self, Event, Open, events};
use support::{Daemon, Model, claude, shims, wait_for};

/// Begins a long answer and waits until it has begun.
fn begin(daemon: &Daemon, session: &str, seconds: u64) -> (Open, String) {
    let mut stream = daemon.post(session, &format!("slow: {seconds}"));
    let before = stream.until("tick 2\\n");
    (stream, before)
}

/// Reads the answer to its end, and compares it with what was said and what is stored.
fn check_whole(daemon: &Daemon, session: &str, (mut stream, before): (Open, String), seconds: u64) {
    let seen: Vec<Event> = events(&(before + &stream.until("event: done")));
    let text: String = seen.iter().filter(|e| e.name == "text_delta").filter_map(|e| e.data["delta"].as_str()).collect();
    assert_eq!(text, (1..=seconds * 4).map(|n| format!("tick {n}\n")).collect::<String>());
    assert_eq!(seen.last().map(|done| done.data["state"].clone()), Some(json!("completed")));
    assert!(!seen.iter().any(|event| event.name == "error"), "{seen:?}");
    let turn = turn_of(&seen[0]).expect("a turn");
    let kept = events(&daemon.get(&format!("/api/sessions/{session}/stream?turn={turn}")).text());
    assert_eq!(difference(&kept, &seen), None);
    assert_eq!(http::result(&daemon.say(session, "say: on")), "on");
    daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({}));
    let log = Follower::new(daemon.control(), session).all(is_ended).expect("the log can be read");
    assert!(log.iter().zip(1..).all(|(event, id)| event.id == id), "the log has no gap");
}

/// Asks for a new turn, which can not be stored, and for what can be read all the same.
fn check_refusals(daemon: &Daemon, session: &str) {
    let refused = daemon.send("POST", &format!("/api/sessions/{session}/messages"), &json!({"content": "say: no"}));
    let problem = refused.json();
    assert_eq!((refused.status, problem["code"].as_str()), (503, Some("unavailable")), "{problem}");
    assert!(problem["error"].as_str().is_some_and(|sentence| sentence.contains("database")), "{problem}");
    assert!(refused.head.to_ascii_lowercase().contains("retry-after"), "{}", refused.head);
    for path in ["", "/messages", "/events"] {
        assert_eq!(daemon.get(&format!("/api/sessions/{session}{path}")).status, 200, "{path}");
    }
    let checks = daemon.get("/api/doctor").text();
    assert!(checks.contains("database"), "{checks}");
}

#[test]
fn a_database_that_another_process_holds_delays_a_turn_and_loses_nothing() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    let begun = begin(&daemon, &session, 4);
    let other = rusqlite::Connection::open(daemon.data().join("ash.db")).expect("opens");
    other.execute_batch("begin immediate").expect("locks");
    // Each write waits for ten seconds before it gives up, so this is held for longer.
    check_refusals(&daemon, &session);
    other.execute_batch("rollback").expect("unlocks");
    check_whole(&daemon, &session, begun, 4);
}

#[test]
fn a_full_disk_under_the_database_delays_a_turn_and_loses_nothing() {
    let Some(claude) = claude() else { return };
    if !own_mounts() {
        return;
    }
    let model = Model::start();
    let mut daemon = Daemon::start(&claude, &model.url);
    daemon.stop();
    mount(&daemon.data(), "size=16m,mode=0755");
    // What the sandboxes write has room.
    mount(&daemon.data().join("sandboxes"), "size=1g,mode=0755");
    daemon.run();
    let session = daemon.session();
    let begun = begin(&daemon, &session, 6);
    let ballast = daemon.data().join("ballast");
    fill(&ballast);
    wait_for("a write fails", || daemon.log().contains("can not be stored now").then_some(()));
    check_refusals(&daemon, &session);
    let checks = daemon.get("/api/doctor").json();
    let database = checks["checks"].as_array().into_iter().flatten().find(|check| check["name"] == "database").cloned();
    assert!(database.as_ref().is_some_and(|check| check.to_string().contains("full")), "{checks}");
    std::fs::remove_file(&ballast).expect("removes");
    check_whole(&daemon, &session, begun, 6);
    wait_for("the sandbox is gone", || shims(&daemon).is_empty().then_some(()));
    unmount(&daemon.data());
}
