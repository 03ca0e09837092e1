//! A model API that fails, in every way it can: the turn ends with one clear error and `done`, and
//! the session stays usable.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};
use support::http::{Event, names, result};
use support::{Daemon, Model, claude};

/// The one error of a failed turn, right before its `done`.
fn the_error(events: &[Event]) -> String {
    let found = names(events);
    let errors: Vec<_> = events.iter().filter(|event| event.name == "error").collect();
    assert_eq!(errors.len(), 1, "{found:?}");
    assert_eq!(found[found.len() - 2..], ["error", "done"], "{found:?}");
    assert_eq!(events.last().map(|done| done.data["state"].clone()), Some(json!("failed")), "{events:?}");
    errors[0].data["error"].as_str().expect("a sentence").to_owned()
}

#[test]
fn errors_of_the_model_api_end_the_turn_and_name_the_status() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    for status in ["401", "429", "500", "529", "400"] {
        let error = the_error(&daemon.say(&session, &format!("fail: {status}")));
        assert!(error.contains(status), "{error}");
    }
    assert_eq!(result(&daemon.say(&session, "say: still usable")), "still usable");
    let metrics = daemon.get("/metrics").text();
    let count = |reason: &str| {
        let series = format!("ash_model_failures_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok())
    };
    // What is tried again is counted once, as what came of it.
    assert!(count("rejected") >= Some(3) && count("failed") >= Some(2), "{metrics}");
    assert_eq!(count("refused"), Some(0));
}

/// Data of the events that tell of model calls which waited.
fn waits(daemon: &Daemon, session: &str) -> Vec<Value> {
    let events = daemon.get(&format!("/api/sessions/{session}/events?type=lifecycle&limit=1000")).json();
    let events = events["events"].as_array().expect("a list").iter().map(|event| event["data"].as_str().expect("JSON"));
    let data = events.map(|data| serde_json::from_str::<Value>(data).expect("JSON"));
    data.filter(|data| data["action"] == "model_retry").collect()
}

#[test]
fn a_fault_that_passes_is_ridden_out_and_each_wait_is_in_the_log() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start_with(&claude, &model.url, "[model]\nretry_for = \"60s\"");
    let session = daemon.session();
    // One more than the runtime tries by itself.
    assert_eq!(result(&daemon.say(&session, "fail: 529 3")), "recovered after 3 failures");
    let waits = waits(&daemon, &session);
    let failed: Vec<_> = waits.iter().map(|wait| (&wait["failed"], &wait["status"])).collect();
    assert_eq!(failed, [(&json!(1), &json!(529)), (&json!(2), &json!(529)), (&json!(3), &json!(529))], "{waits:?}");
    assert!(daemon.get("/metrics").text().contains("ash_model_retries_total 3\n"));
    assert!(waits.iter().all(|wait| wait["waitMs"].as_u64() > Some(0) && wait["reason"] == "the model API answered 529"));
}

#[test]
fn what_the_gateway_has_given_up_the_runtime_does_not_try_again() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start_with(&claude, &model.url, "[model]\nretry_for = \"5s\"");
    let session = daemon.session();
    the_error(&daemon.say(&session, "fail: 529"));
    // If the runtime did not heed it, there would be three times one that waited for nothing.
    let attempts = model.requests().iter().filter(|request| request["user"] == "fail: 529").count();
    let waits = waits(&daemon, &session);
    assert_eq!(attempts, 1 + waits.len(), "{waits:?}");
    assert!(attempts > 1);
}

#[test]
fn a_wrong_key_is_an_error_that_says_so() {
    let Some(claude) = claude() else { return };
    let model = Model::start_with(&["--require-key", "another"]);
    let daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    let error = the_error(&daemon.say(&session, "say: x"));
    assert!(error.contains("401"), "{error}");
}

#[test]
fn a_stream_that_is_cut_or_breaks_ends_the_turn() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    for script in ["cut:", "sse-error: overloaded_error"] {
        // The runtime asks again without streaming, which the scripted model answers in full.
        let events = daemon.say(&session, script);
        assert_eq!(events.last().map(|done| done.name.as_str()), Some("done"), "{script}: {events:?}");
    }
    assert_eq!(result(&daemon.say(&session, "say: still usable")), "still usable");
}

#[test]
fn a_model_that_is_not_there_is_an_error_that_names_the_address() {
    let Some(claude) = claude() else { return };
    // Bound and dropped: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
    let daemon = Daemon::start(&claude, &format!("http://{address}"));
    let session = daemon.session();
    let error = the_error(&daemon.say(&session, "say: x"));
    assert!(error.contains(&address.to_string()), "{error}");
}

#[test]
fn a_model_that_closes_every_connection_is_an_error() {
    let Some(claude) = claude() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            // Part of a head, then the end.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"type\"");
        }
    });
    let daemon = Daemon::start(&claude, &format!("http://{address}"));
    let session = daemon.session();
    let error = the_error(&daemon.say(&session, "say: x"));
    assert!(!error.is_empty());
}

#[test]
fn a_slow_model_is_waited_for() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    assert_eq!(result(&daemon.say(&session, "stall: 3")), "awake after 3 s");
}

#[test]
fn a_runtime_that_can_not_run_is_an_error_that_names_it() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let folder = tempfile::Builder::new().prefix("ash").tempdir_in("/tmp").expect("folder");
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("opens");
    };
    open(folder.path(), 0o755);
    let program = folder.path().join("claude");
    // By another process: one that a fork of this one holds open for writing can not be run. It stays the same file, which a
    // sandbox sees as it is.
    let copy = |from: &std::path::Path| {
        let copied = std::process::Command::new("cp").args([from, &program]).status();
        assert!(copied.is_ok_and(|copied| copied.success()), "cp starts");
    };
    let source = folder.path().join("source");
    let mut daemon = Daemon::start(&program, &model.url);
    daemon.deploy("test", &[("CLAUDE.md", "x\n")]);
    let refused = |daemon: &Daemon| {
        let answer = daemon.send("POST", "/api/sessions", &json!({"agent": "test"}));
        assert_eq!(answer.status, 500, "{}", answer.text());
        answer.json()["error"].as_str().expect("a sentence").to_owned()
    };
    let missing = refused(&daemon);
    assert!(missing.contains("does not exist") && missing.contains("npm install"), "{missing}");
    std::fs::write(&source, "#!/bin/sh\nexit 3\n").expect("writes");
    copy(&source);
    open(&program, 0o644);
    assert!(refused(&daemon).contains("chmod o+rx"));

    open(&program, 0o755);
    assert!(refused(&daemon).contains("is not Claude Code"));
    let answers = |version: &str, then: &str| {
        let script = format!("#!/bin/sh\nif [ \"$1\" = --version ]; then echo '{version}'; exit; fi\n{then}\n");
        std::fs::write(&source, script).expect("writes");
        copy(&source);
    };
    answers("1.0.0 (Claude Code)", "exit 0");
    let old = refused(&daemon);
    assert!(old.contains("1.0.0") && old.contains("2.1.197") && old.contains("npm install"), "{old}");

    answers("2.1.330 (Claude Code)", "exit 3");
    let session = daemon.create(&json!({"agent": "test"}));
    let error = the_error(&daemon.say(&session, "say: x"));
    assert!(error.contains("exit"), "{error}");
    answers("2.1.330 (Claude Code)", "echo '2.0.1 (Something Else)'; cat");
    let error = the_error(&daemon.say(&session, "say: x"));
    assert!(error.contains("2.0.1 (Something Else)"), "what is not the runtime's language is shown: {error}");

    std::fs::remove_file(&program).expect("removes");
    copy(&claude);
    open(&program, 0o755);
    daemon.kill();
    daemon.run();
    let session = daemon.create(&json!({"agent": "test"}));
    assert_eq!(result(&daemon.say(&session, "say: mended")), "mended", "what was installed is found");
}
