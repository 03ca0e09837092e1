//! A session goes back to one of its snapshots, with its workspace and its conversation, and what
//! it was before is not lost.

mod support;

use serde_json::{Value, json};
use support::Daemon;
use support::http::{Response, result};
use support::life::{act, edit_manifest, good, lifecycle, newest_folder, remembered, show, snapshots, start};

fn rewind(daemon: &Daemon, session: &str, body: &Value) -> Response {
    daemon.send("POST", &format!("/api/sessions/{session}/rewind"), body)
}

/// Takes a snapshot; returns its event.
fn keep(daemon: &Daemon, session: &str) -> i64 {
    let taken = daemon.send("POST", &format!("/api/sessions/{session}/snapshots"), &json!({}));
    assert_eq!(taken.status, 201, "{}", taken.text());
    taken.json()["snapshot"]["eventId"].as_i64().expect("a number")
}

fn note(daemon: &Daemon, session: &str, text: &str) {
    daemon.say(session, &format!("bash: echo {text} >> /work/notes"));
}

fn notes(daemon: &Daemon, session: &str) -> String {
    let said = result(&daemon.say(session, "bash: cat /work/notes | tr '\\n' '+'"));
    said.split(['\n', ' ', '"']).find(|word| word.contains('+')).unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn a_session_goes_back_twice_and_forth_again() {
    let Some((_model, daemon)) = start("[snapshots]\nkeep = 10") else { return };
    let session = daemon.session();
    note(&daemon, &session, "one");
    let first = keep(&daemon, &session);
    note(&daemon, &session, "two");
    note(&daemon, &session, "three");
    for round in 1..=2 {
        good(&rewind(&daemon, &session, &json!({"eventId": first})));
        assert_eq!(show(&daemon, &session)["status"], "active");
        assert_eq!(remembered(&daemon, &session), 2, "what was said since does not count, round {round}");
        assert_eq!(notes(&daemon, &session), "one+");
        note(&daemon, &session, "other");
    }
    let told = lifecycle(&daemon, &session, "rewound");
    assert_eq!(told.iter().map(|data| data["eventId"].clone()).collect::<Vec<_>>(), [json!(first), json!(first)]);
    // How it was before the first time.
    let saved = told[0]["savedEventId"].as_i64().expect("a number");
    let listed = snapshots(&daemon, &session);
    let of = |event: i64| listed.iter().find(|one| one["eventId"] == event).unwrap_or_else(|| panic!("{listed:?}")).clone();
    assert_eq!((of(saved)["reason"].as_str(), of(saved)["copiedFrom"].is_null()), (Some("rewind"), true));
    assert!(listed.iter().any(|one| one["copiedFrom"] == json!({"sessionId": session, "eventId": first})), "{listed:?}");
    good(&rewind(&daemon, &session, &json!({"eventId": saved})));
    assert_eq!(notes(&daemon, &session), "one+two+three+");
    let messages = daemon.get(&format!("/api/sessions/{session}/messages?limit=1000")).json();
    assert!(messages.to_string().contains("other"), "the log keeps everything");
}

#[test]
fn a_fork_of_a_session_that_went_back_goes_on_from_there() {
    let Some((_model, mut daemon)) = start("") else { return };
    let session = daemon.session();
    note(&daemon, &session, "one");
    let first = keep(&daemon, &session);
    note(&daemon, &session, "two");
    good(&act(&daemon, &session, "stop"));
    good(&rewind(&daemon, &session, &json!({"eventId": first})));
    assert_eq!(show(&daemon, &session)["status"], "stopped", "its status is as it was");
    daemon.kill();
    daemon.run();
    let fork = act(&daemon, &session, "fork");
    assert_eq!(fork.status, 201, "{}", fork.text());
    let fork = fork.json()["session"]["id"].as_str().expect("an id").to_owned();
    // A fork of a fork that nobody talked to has the conversation of the first too.
    let again = act(&daemon, &fork, "fork").json()["session"]["id"].as_str().expect("an id").to_owned();
    for one in [&fork, &again, &session] {
        good(&act(&daemon, one, "resume"));
        assert_eq!(remembered(&daemon, one), 2, "{one}");
        assert_eq!(notes(&daemon, one), "one+");
    }
}

#[test]
fn a_turn_that_runs_is_left_alone_unless_it_is_to_be_interrupted() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    note(&daemon, &session, "one");
    let first = keep(&daemon, &session);
    let mut slow = daemon.post(&session, "slow: 60");
    slow.until("\"subtype\":\"init\"");
    let waits = daemon.post(&session, "remember?");
    for body in [json!({"eventId": first}), json!({"eventId": first, "ifBusy": "reject"})] {
        let busy = rewind(&daemon, &session, &body);
        assert_eq!((busy.status, busy.json()["code"].as_str()), (409, Some("conflict")), "{}", busy.text());
    }
    good(&rewind(&daemon, &session, &json!({"eventId": first, "ifBusy": "interrupt"})));
    assert!(slow.finish().text().contains(r#""state":"interrupted""#));
    let said = waits.finish().text();
    assert!(said.contains("user messages: 2 "), "a message that waited runs after it: {said}");
    assert_eq!(notes(&daemon, &session), "one+");
}

#[test]
fn a_session_goes_back_to_before_its_first_message() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let first = keep(&daemon, &session);
    note(&daemon, &session, "one");
    good(&rewind(&daemon, &session, &json!({"eventId": first})));
    assert_eq!(remembered(&daemon, &session), 1, "the conversation begins anew");
    assert!(!result(&daemon.say(&session, "bash: ls /work")).contains("notes"));
}

#[test]
fn a_paused_session_stays_paused_and_resumes_as_it_was_then() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    note(&daemon, &session, "one");
    let first = keep(&daemon, &session);
    note(&daemon, &session, "two");
    good(&act(&daemon, &session, "pause"));
    assert_eq!(good(&rewind(&daemon, &session, &json!({"eventId": first})))["status"], "paused");
    good(&act(&daemon, &session, "resume"));
    assert_eq!(notes(&daemon, &session), "one+");
}

#[test]
fn a_damaged_snapshot_is_refused_before_anything_is_touched() {
    let Some((_model, daemon)) = start("[snapshots]\nkeep = 10") else { return };
    let session = daemon.session();
    note(&daemon, &session, "one");
    let (flipped, newer) = (keep(&daemon, &session), {
        let folder = newest_folder(&daemon, &session);
        let mut data = std::fs::read(folder.join("data.tar.zst")).expect("reads");
        let middle = data.len() / 2;
        data[middle] ^= 1;
        std::fs::write(folder.join("data.tar.zst"), data).expect("writes");
        note(&daemon, &session, "two");
        keep(&daemon, &session)
    });
    edit_manifest(&newest_folder(&daemon, &session), |manifest| manifest["format"] = json!(2));
    let (shims, log) = (support::shims(&daemon), lifecycle(&daemon, &session, "snapshot").len());
    let mut slow = daemon.post(&session, "slow: 5");
    slow.until("\"subtype\":\"init\"");
    for (event, word) in [(flipped, "its data has the checksum"), (newer, "needs a newer release of Ash")] {
        let refused = rewind(&daemon, &session, &json!({"eventId": event, "ifBusy": "interrupt"}));
        let sentence = refused.json()["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!((refused.status, refused.json()["code"].as_str()), (422, Some("unprocessable")), "{sentence}");
        let start = format!("The snapshot at event {event} can not be used: ");
        assert!(sentence.starts_with(&start) && sentence.contains(word), "{sentence}");
    }
    assert!(slow.finish().text().contains(r#""state":"completed""#), "a turn that runs does not notice");
    assert_eq!(support::shims(&daemon), shims, "it is the same sandbox");
    assert_eq!(lifecycle(&daemon, &session, "snapshot").len(), log);
    assert_eq!(lifecycle(&daemon, &session, "rewind_failed"), [Value::Null; 0], "it was not begun");
    assert_eq!(notes(&daemon, &session), "one+two+");
    let names = std::fs::read_dir(daemon.data().join("snapshots").join(&session)).expect("reads");
    assert_eq!(names.count(), 2, "no copy is left");
}

#[test]
fn what_can_not_be_gone_back_to_is_named() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let none = rewind(&daemon, &session, &json!({"eventId": 7}));
    assert_eq!((none.status, none.json()["error"].as_str()), (404, Some("There is no snapshot at event 7; there is none yet")));
    let (first, second) = (keep(&daemon, &session), {
        note(&daemon, &session, "one");
        keep(&daemon, &session)
    });
    let none = rewind(&daemon, &session, &json!({"eventId": 0}));
    let sentence = format!("There is no snapshot at event 0; there are some at {first}, {second}");
    assert_eq!((none.status, none.json()["error"].as_str()), (404, Some(sentence.as_str())));
    for (body, field) in [
        (json!({}), "eventId"),
        (json!({"eventId": -1}), "eventId"),
        (json!({"eventId": "x"}), "eventId"),
        (json!({"eventId": 1, "ifBusy": "queue"}), "ifBusy"),
        (json!({"eventId": 1, "at": 2}), "at"),
    ] {
        let bad = rewind(&daemon, &session, &body);
        assert_eq!(bad.status, 400, "{body}: {}", bad.text());
        assert!(bad.text().contains(field), "{body}: {}", bad.text());
    }
    daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({}));
    assert_eq!(rewind(&daemon, &session, &json!({"eventId": first})).status, 410);
    assert_eq!(rewind(&daemon, "01900000-0000-7000-8000-000000000000", &json!({"eventId": 1})).status, 404);
}
