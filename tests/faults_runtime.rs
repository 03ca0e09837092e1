//! A runtime that misbehaves, in every way it can: the turn ends with one clear error and one
//! `done`, and the session is usable afterwards. How the shim does it is shown in `tests/shim`; here
//! it is seen through the API, with a stand-in for the runtime.

#![allow(clippy::print_stderr, reason = "it says how much memory was used")]

mod support;

use serde_json::json;
use support::follow::{Follower, is_ended};
use support::http::{Event, names, result};
use support::{Daemon, StandIn, memory, shims, wait_for};

/// Most that a shim may take for a line that never ends: what a line may have, in a buffer that
/// doubles, and itself.
const SHIM_MAX: u64 = 200 << 20;

fn start() -> (StandIn, Daemon, String) {
    let runtime = StandIn::new();
    let daemon = Daemon::start(&runtime.path(), "http://127.0.0.1:1");
    let session = daemon.session();
    (runtime, daemon, session)
}

/// The one error of a turn, right before its only `done`.
fn the_error(events: &[Event]) -> String {
    let found = names(events);
    for once in ["session_start", "error", "done"] {
        assert_eq!(found.iter().filter(|name| **name == once).count(), 1, "{found:?}");
    }
    assert_eq!(found[found.len() - 2..], ["error", "done"], "{found:?}");
    assert_eq!(events.last().map(|done| done.data["state"].clone()), Some(json!("failed")), "{events:?}");
    events[events.len() - 2].data["error"].as_str().expect("a sentence").to_owned()
}

/// The log, after the session was ended: every turn has one first and one last event.
fn log(daemon: &Daemon, session: &str) -> Vec<Event> {
    daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({}));
    let log = Follower::new(daemon.control(), session).all(is_ended).expect("the log can be read");
    assert!(log.iter().zip(1..).all(|(event, id)| event.id == id), "the log has no gap");
    let turns_of = |name| log.iter().filter(|event| event.name == name).map(|event| &event.data["turnId"]).collect::<Vec<_>>();
    assert_eq!(turns_of("session_start"), turns_of("done"), "each turn ends once, and before the next one begins");
    log
}

#[test]
fn a_runtime_that_dies_at_any_step_ends_its_turn_and_the_next_one_works() {
    let (_runtime, daemon, session) = start();
    assert_eq!(result(&daemon.say(&session, "first")), "first");
    for step in ["taken", "queued", "middle"] {
        let error = the_error(&daemon.say(&session, &format!("die: {step}")));
        assert!(error.contains("runtime ended") && error.contains('3'), "{step}: {error}");
        assert_eq!(result(&daemon.say(&session, "on")), "on", "after {step}");
    }
    for step in ["result", "over"] {
        let answered = daemon.say(&session, &format!("die: {step}"));
        assert_eq!(answered.last().map(|done| done.data["state"].clone()), Some(json!("completed")), "{step}");
        assert!(!names(&answered).contains(&"error"), "{step}: it was over before: {answered:?}");
        assert_eq!(result(&daemon.say(&session, "on")), "on", "after {step}");
    }
    for step in ["early", "late"] {
        assert_eq!(result(&daemon.say(&session, &format!("start: {step}"))), format!("start: {step}"));
        let error = the_error(&daemon.say(&session, "not heard"));
        assert!(error.contains("runtime") && error.contains('3'), "{step}: {error}");
        assert_eq!(result(&daemon.say(&session, "on")), "on", "after {step}");
    }
    log(&daemon, &session);
}

#[test]
fn what_is_not_the_runtimes_language_ends_the_turn_and_is_shown() {
    let (_runtime, daemon, session) = start();
    for (message, wanted) in [("garbage:", "Segmentation fault"), ("binary:", "not its protocol"), ("half:", "runtime ended")] {
        let error = the_error(&daemon.say(&session, message));
        assert!(error.contains(wanted), "{message} {error}");
        assert_eq!(result(&daemon.say(&session, "on")), "on", "after {message}");
    }
    log(&daemon, &session);
}

#[test]
fn a_gigabyte_without_the_end_of_a_line_costs_a_bounded_amount_of_memory() {
    let (_runtime, daemon, session) = start();
    assert_eq!(result(&daemon.say(&session, "first")), "first");
    let shim = shims(&daemon)[0];
    let error = the_error(&daemon.say(&session, "endless: 1024"));
    assert!(error.contains("a line of more than 63 MiB"), "{error}");
    let highest = memory(shim, "VmHWM");
    eprintln!("the shim took at most {} KiB", highest >> 10);
    assert!(highest < SHIM_MAX, "{highest} bytes");
    assert_eq!(result(&daemon.say(&session, "on")), "on");
    assert_eq!(shims(&daemon), [shim], "the same shim goes on");
    log(&daemon, &session);
}

#[test]
fn a_runtime_that_closes_its_input_is_replaced() {
    let (_runtime, daemon, session) = start();
    assert_eq!(result(&daemon.say(&session, "deaf:")), "deaf:");
    // Either it is noticed in time, or the message that was not heard says so.
    let next = daemon.say(&session, "on");
    if result(&next) != "on" {
        let error = the_error(&next);
        assert!(error.contains("input"), "{error}");
        assert_eq!(result(&daemon.say(&session, "on")), "on");
    }
    log(&daemon, &session);
}

#[test]
fn a_tool_result_of_20_megabytes_is_stored_and_streamed_whole() {
    let (_runtime, daemon, session) = start();
    let events = daemon.say(&session, "tool: 20");
    assert_eq!(result(&events), "got it");
    let found = events.iter().find(|event| event.name == "tool_result").expect("a result");
    let content = found.data["content"].as_str().expect("text");
    assert_eq!(content.len(), 20 << 20);
    assert!(content.as_bytes().chunks(16).all(|line| line == b"0123456789abcde\n"));
    assert_eq!(result(&daemon.say(&session, "on")), "on");
    let log = log(&daemon, &session);
    assert!(log.contains(found), "the log has it too");
}

#[test]
fn a_turn_of_many_events_is_what_one_reader_and_a_later_one_see() {
    let (_runtime, daemon, session) = start();
    let seen = daemon.turn(&session, &json!({"content": "many: 5000", "includePartialMessages": true}));
    let text: String = seen.iter().filter(|e| e.name == "text_delta").filter_map(|e| e.data["delta"].as_str()).collect();
    assert_eq!(text, (1..=5000).map(|n| format!("piece {n}\n")).collect::<String>());
    let log = log(&daemon, &session);
    assert!(seen.iter().all(|event| log.get(event.id as usize - 1) == Some(event)));
    wait_for("the sandbox is gone", || shims(&daemon).is_empty().then_some(()));
}
