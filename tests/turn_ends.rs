//! However a turn ends, it ends once: with one `done`, and with at most one `error` before it. And
//! what a stream has shown is there for whoever asks then.

mod support;

use serde_json::{Value, json};
use support::follow::{Follower, is_done, is_ended, turn_of};
use support::http::{self, Event, Open, names};
use support::{Daemon, Model, claude, kill_shims, wait_for};

fn start() -> Option<(Model, Daemon)> {
    let claude = claude()?;
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    Some((model, daemon))
}

/// The turn of a stream that has begun.
fn turn_in(text: &str) -> String {
    turn_of(&http::events(&text[..text.rfind("\n\n").expect("frames") + 2])[0]).expect("a turn")
}

/// Ends the session, and gives how each of its turns ended: its state, and its errors. In the log
/// of the session nothing is cut off behind a `done`, as it is in the stream of a turn.
fn endings(daemon: &Daemon, session: &str) -> Vec<(String, usize)> {
    daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({}));
    let log = Follower::new(daemon.control(), session).all(is_ended).expect("the log can be read");
    assert!(log.iter().zip(1..).all(|(event, id)| event.id == id), "the log has no gap");
    let turns: Vec<&Value> = log.iter().filter(|e| e.name == "session_start").map(|e| &e.data["turnId"]).collect();
    let ending = |turn: &&Value| {
        let ends: Vec<_> = log.iter().filter(|event| is_done(event) && event.data["turnId"] == **turn).collect();
        assert_eq!(ends.len(), 1, "{turn} ends once: {ends:?}");
        let text = turn.as_str().expect("an id");
        let events = Follower::new(daemon.control(), session).turn(text).all(is_done).expect("reads");
        let errors = events.iter().filter(|event| event.name == "error").count();
        assert!(errors <= 1, "{:?}", names(&events));
        (ends[0].data["state"].as_str().expect("a state").to_owned(), errors)
    };
    let endings: Vec<_> = turns.iter().map(ending).collect();
    // None belongs to no turn, or came after its end.
    let all: usize = log.iter().filter(|event| event.name == "error").count();
    assert_eq!(all, endings.iter().map(|(_, errors)| errors).sum::<usize>(), "{:?}", names(&log));
    assert_eq!(log.iter().filter(|event| is_done(event)).count(), turns.len());
    endings
}

fn is(state: &str, errors: usize) -> (String, usize) {
    (state.to_owned(), errors)
}

#[test]
fn whatever_the_cause_a_turn_has_one_end() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.create(&json!({"agent": "test"}));
    daemon.say(&session, "say: completed");
    daemon.say(&session, "fail: 400");
    daemon.turn(&session, &json!({"content": "loop: 5", "maxTurns": 2}));
    let mut slow = daemon.post(&session, "slow: 60");
    slow.until("tick 1");
    daemon.send("POST", &format!("/api/sessions/{session}/interrupt"), &json!({}));
    // Again, while the first is under way or has just been done.
    daemon.send("POST", &format!("/api/sessions/{session}/interrupt"), &json!({}));
    slow.until("event: done");
    daemon.say(&session, "cut:");
    let mut slow = daemon.post(&session, "slow: 60");
    slow.until("tick 1");
    daemon.turn(&session, &json!({"content": "say: at once", "ifBusy": "interrupt"}));
    slow.until("event: done");
    let (mut running, mut waiting) = (daemon.post(&session, "slow: 60"), daemon.post(&session, "say: waits"));
    running.until("tick 1");
    waiting.until("session_start");
    let mut ends = endings(&daemon, &session);
    // The runtime may get over a model's answer that is cut.
    let cut = ends.remove(4);
    assert!([is("completed", 0), is("failed", 1)].contains(&cut), "{cut:?}");
    let wanted = [
        is("completed", 0),
        is("failed", 1),
        is("failed", 1),
        is("interrupted", 0),
        is("interrupted", 0),
        is("completed", 0),
        is("interrupted", 0),
        is("cancelled", 0),
    ];
    assert_eq!(ends, wanted);
    running.until("event: done");
    waiting.until("event: done");
}

#[test]
fn a_shim_that_is_killed_in_mid_turn_leaves_one_error_and_one_end() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.create(&json!({"agent": "test"}));
    for _ in 0..3 {
        let mut slow = daemon.post(&session, "slow: 60");
        let mut waiting = daemon.post(&session, "say: waits");
        slow.until("tick 1");
        kill_shims(&daemon);
        let end = slow.until("event: done");
        assert!(end.contains("event: error") && end.contains("\"state\":\"interrupted\""), "{end}");
        assert!(waiting.until("event: done").contains("waits"), "what waited runs in a new sandbox");
    }
    let (killed, waited) = (is("interrupted", 1), is("completed", 0));
    assert_eq!(endings(&daemon, &session), [killed.clone(), waited.clone(), killed.clone(), waited.clone(), killed, waited]);
}

#[test]
fn a_shim_that_dies_while_the_daemon_is_away_leaves_one_error_and_one_end() {
    let Some((_model, mut daemon)) = start() else { return };
    let session = daemon.create(&json!({"agent": "test"}));
    for round in 0..2 {
        let mut slow = daemon.post(&session, "slow: 60");
        let turn = turn_in(&slow.until("tick 1"));
        if round == 0 {
            daemon.kill()
        } else {
            daemon.stop()
        }
        kill_shims(&daemon);
        daemon.run();
        let events = Follower::new(daemon.control(), &session).turn(&turn).all(is_done).expect("reads");
        assert_eq!(names(&events)[events.len() - 2..], ["error", "done"]);
    }
    assert_eq!(endings(&daemon, &session), [is("interrupted", 1), is("interrupted", 1)]);
}

/// What the lists say of a session, as far as it can be compared with events.
struct Told {
    status: String,
    sandbox: String,
    timeline: Vec<i64>,
    messages: Vec<Value>,
}

fn told(daemon: &Daemon, session: &str) -> Told {
    let list = |what: &str| -> Vec<Value> {
        let answer = daemon.get(&format!("/api/sessions/{session}/{what}?limit=1000")).json();
        answer[what].as_array().expect("a list").clone()
    };
    let shown = daemon.get(&format!("/api/sessions/{session}")).json();
    let text = |name: &str| shown["session"][name].as_str().expect(name).to_owned();
    Told {
        status: text("status"),
        sandbox: text("sandboxState"),
        timeline: list("events").iter().map(|event| event["sequence"].as_i64().expect("a number")).collect(),
        messages: list("messages"),
    }
}

/// Reads the next events of a stream.
fn next(stream: &mut Open, frames: &mut http::Frames) -> Vec<Event> {
    loop {
        let events = frames.take(&stream.piece().expect("comes"));
        if !events.is_empty() {
            return events;
        }
    }
}

#[test]
fn what_a_stream_has_shown_is_there_for_whoever_asks_then() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.create(&json!({"agent": "test"}));
    let follower = Follower::new(daemon.control(), &session);
    // Kinds of event that the timeline has a row for.
    let has_row = ["lifecycle", "text", "tool_use", "tool_result", "turn_complete", "error"];
    let mut after = told(&daemon, &session).timeline.last().copied().unwrap_or(0);
    for round in 0..5 {
        let mut stream = follower.open(after, after).expect("answers");
        let mut turn = daemon.post(&session, &format!("bash: echo {round}"));
        let (mut frames, mut over) = (http::Frames::default(), false);
        while !over {
            let events = next(&mut stream, &mut frames);
            let told = told(&daemon, &session);
            for event in &events {
                assert!(
                    !has_row.contains(&event.name.as_str()) || told.timeline.contains(&event.id),
                    "{event:?} is not in {:?}",
                    told.timeline
                );
                if event.name == "message" && event.data["type"] == "assistant" {
                    let listed = |row: &Value| serde_json::from_str::<Value>(row["content"].as_str()?).ok();
                    assert!(told.messages.iter().filter_map(listed).any(|row| row == event.data), "{event:?} is not listed");
                }
            }
            over = events.iter().any(is_done);
            if over {
                assert_eq!((told.status.as_str(), told.sandbox.as_str()), ("active", "waiting"), "after done nothing runs");
                let last = told.messages.last().and_then(|row| row["content"].as_str()).expect("a message");
                assert!(last.contains("\"type\":\"result\""), "{last}");
                // Nor is the session busy.
                let at_once = daemon.send(
                    "POST",
                    &format!("/api/sessions/{session}/messages"),
                    &json!({"content": "say: next", "ifBusy": "reject"}),
                );
                assert_eq!(at_once.status, 200, "{}", at_once.text());
                after = http::events(&at_once.text()).last().expect("an answer").id;
            }
        }
        turn.until("event: done");
    }
    let mut stream = follower.open(after, after).expect("answers");
    let mut slow = daemon.post(&session, "slow: 60");
    slow.until("tick 1");
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({})));
        let mut frames = http::Frames::default();
        while !next(&mut stream, &mut frames).iter().any(is_ended) {}
        let told = told(&daemon, &session);
        assert_eq!((told.status.as_str(), told.sandbox.as_str()), ("ended", "cold"));
        let listed = daemon.get("/api/sessions?status=active").json();
        assert_eq!(listed["sessions"], json!([]));
        assert_eq!(daemon.send("POST", &format!("/api/sessions/{session}/messages"), &json!({"content": "x"})).status, 400);
        assert_eq!(ending.join().expect("no panic").status, 200);
    });
    assert!(stream.piece().expect("ends in good order").is_empty(), "the log has ended");
    wait_for("the sandbox is gone", || support::shims(&daemon).is_empty().then_some(()));
}
