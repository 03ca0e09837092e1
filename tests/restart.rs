//! Restarting or killing the daemon loses no running turn and no event: sandboxes are not its
//! children.

mod support;

use serde_json::json;
use support::http::{self, events, result};
use support::{Daemon, Model, claude};

#[test]
fn a_turn_that_runs_while_the_daemon_is_killed_is_whole_afterwards() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let mut daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    let path = format!("/api/sessions/{session}/messages");
    let body = br#"{"content":"slow: 4","includePartialMessages":true}"#;
    let mut stream =
        http::open(&daemon.control(), "POST", &path, &[("content-type", "application/json")], Some(body)).expect("answers");
    let before = stream.until("tick 3");
    daemon.kill();
    daemon.run();
    // What was cut off in mid frame is asked for again.
    let whole = before.rfind("\n\n").map_or(0, |end| end + 2);
    let before = events(&before[..whole]);
    let last = before.last().expect("frames").id;
    let turn = before[0].data["turnId"].as_str().expect("a turn").to_owned();
    let after = daemon.get(&format!("/api/sessions/{session}/stream?after={last}&turn={turn}"));
    let after = events(&after.text());
    assert_eq!(after.last().map(|event| event.name.as_str()), Some("done"));
    let text: String =
        before.iter().chain(&after).filter(|e| e.name == "text_delta").filter_map(|e| e.data["delta"].as_str()).collect();
    let ticks: String = (1..=16).map(|n| format!("tick {n}\n")).collect();
    assert_eq!(text, ticks, "no delta is lost and none comes twice");
    assert_eq!(result(&daemon.say(&session, "remember?")), "user messages: 2 [slow: 4 | remember?]");
}

#[test]
fn a_sandbox_that_died_with_the_daemon_leaves_an_interrupted_turn_and_a_usable_session() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let mut daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    daemon.say(&session, "write: /work/note.txt|kept");
    let path = format!("/api/sessions/{session}/messages");
    let body = br#"{"content":"slow: 60","includePartialMessages":true}"#;
    let mut stream =
        http::open(&daemon.control(), "POST", &path, &[("content-type", "application/json")], Some(body)).expect("answers");
    let before = stream.until("tick 1");
    let turn =
        events(&before[..before.rfind("\n\n").expect("frames") + 2])[0].data["turnId"].as_str().expect("a turn").to_owned();
    daemon.kill();
    support::kill_shims(&daemon);
    daemon.run();
    let ended = daemon.get(&format!("/api/sessions/{session}/stream?turn={turn}"));
    let ended = events(&ended.text());
    let (error, done) = (&ended[ended.len() - 2], &ended[ended.len() - 1]);
    assert_eq!((error.name.as_str(), done.name.as_str()), ("error", "done"));
    assert_eq!(done.data["state"], json!("interrupted"), "{done:?}");
    assert!(result(&daemon.say(&session, "read: /work/note.txt")).contains("kept"), "the workspace is still there");
    let remembered = result(&daemon.say(&session, "remember?"));
    // The runtime writes its transcript a little later than it answers, so what was said in the
    // last moment before the kill may be missing from it; what came before is there.
    assert!(remembered.contains("write: /work/note.txt|kept"), "and so is the conversation: {remembered}");
}

#[test]
fn a_task_in_the_background_keeps_its_sandbox_up_over_a_restart() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let times = "[sessions]\nfreeze_after = \"1s\"\npark_after = \"1s\"";
    let mut daemon = Daemon::start_with(&claude, &model.url, times);
    let busy = daemon.session();
    let command = json!({"command": "while [ ! -e /work/go ]; do sleep 0.2; done; echo late", "run_in_background": true});
    daemon.say(&busy, &format!("tool: Bash {command}"));
    daemon.kill();
    daemon.run();
    let state = |session: &str| daemon.get(&format!("/api/sessions/{session}")).json()["session"]["sandboxState"].clone();
    support::wait_for("it is taken up", || (state(&busy) == "waiting").then_some(()));
    // Others that came to rest later than this one are parked, one after the other.
    for _ in 0..2 {
        let idle = daemon.create(&json!({"agent": "test"}));
        support::wait_for("an idle one is parked", || (state(&idle) == "cold").then_some(()));
        assert_eq!(state(&busy), "waiting");
    }
    daemon.say(&busy, "bash: touch /work/go");
    support::wait_for("when nothing goes on, it is parked too", || (state(&busy) == "cold").then_some(()));
}

#[test]
fn a_sandbox_that_dies_in_a_turn_ends_it_and_the_next_message_works() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    let path = format!("/api/sessions/{session}/messages");
    let body = br#"{"content":"slow: 60","includePartialMessages":true}"#;
    let mut stream =
        http::open(&daemon.control(), "POST", &path, &[("content-type", "application/json")], Some(body)).expect("answers");
    stream.until("tick 1");
    support::kill_shims(&daemon);
    let end = stream.until("event: done");
    assert!(end.contains("event: error") && end.contains("\"state\":\"interrupted\""), "{end}");
    assert_eq!(result(&daemon.say(&session, "say: again")), "again");
}

#[test]
fn a_daemon_that_is_asked_to_stop_ends_open_streams_at_once() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let mut daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    let path = format!("/api/sessions/{session}/messages");
    let body = br#"{"content":"slow: 8","includePartialMessages":true}"#;
    let mut stream =
        http::open(&daemon.control(), "POST", &path, &[("content-type", "application/json")], Some(body)).expect("answers");
    let before = stream.until("tick 1");
    let turn =
        events(&before[..before.rfind("\n\n").expect("frames") + 2])[0].data["turnId"].as_str().expect("a turn").to_owned();
    let pid = nix::unistd::Pid::from_raw(daemon.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signals");
    let mut rest = Vec::new();
    loop {
        let chunk = stream.chunk().expect("it is ended, and not cut off");
        if chunk.is_empty() {
            break;
        }
        rest.extend(chunk);
    }
    assert!(!String::from_utf8_lossy(&rest).contains("event: done"), "the turn goes on");
    support::wait_for("the daemon is gone", || daemon.has_ended().then_some(()));
    assert!(!daemon.log().contains("still under way"), "nothing had to be cut off");
    daemon.run();
    let whole = events(&daemon.get(&format!("/api/sessions/{session}/stream?turn={turn}")).text());
    assert_eq!(whole.last().map(|event| event.data["state"].clone()), Some(json!("completed")));
}

#[test]
fn a_second_daemon_on_the_same_folder_is_refused_by_name() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    let second = daemon.command().output().expect("starts");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("pid {}", daemon.pid())), "{said}");
    assert!(said.contains(&daemon.data().display().to_string()), "{said}");
    assert_eq!(daemon.get("/health").status, 200, "the first one does not notice");
}

#[test]
fn a_wrong_configuration_is_refused_by_file_line_and_key() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let mut daemon = Daemon::start(&claude, &model.url);
    daemon.kill();
    let mut refused = |extra: &str| {
        daemon.add_config(extra);
        let output = daemon.command().output().expect("starts");
        daemon.add_config("");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, said) = refused("[limits]\nmemori = \"1G\"");
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains("ash.toml:9") && said.contains("limits.memori") && said.contains("did you mean \"memory\""), "{said}");
    let (status, said) = refused("[limits]\nmemory = \"1 gig\"");
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains("ash.toml:9") && said.contains("memory"), "{said}");
}
