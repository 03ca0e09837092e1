//! The bound of the disk, with the real sandbox and the real runtime: what takes too much of it is ended by
//! name, the session stays, and somebody can make room. Bombs are bounded: they would end by waiting.

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::http::{Event, result};
use support::life::{act, bash, fork, good, start};
use support::{Daemon, Model, base64, wait_for};

const PROMPT: &str = "You are a test agent.\n";
/// Writes a gigabyte, and waits to be ended. Of no zeros, which would not come back from a snapshot.
const BOMB: &str = "yes | head -c 1G >bomb; tail -f /dev/null";
const CAUSE: &str = "disk: workspace and HOME take more than the 64 MiB that the session may have";

fn small() -> Option<(Model, Daemon, String)> {
    let (model, daemon) = start("")?;
    daemon.deploy("test", &[("CLAUDE.md", PROMPT)]);
    let session = daemon.create(&json!({"agent": "test", "limits": {"diskMb": 64}}));
    Some((model, daemon, session))
}

fn exec(daemon: &Daemon, session: &str, command: &str) -> Value {
    let answer = daemon.send("POST", &format!("/api/sessions/{session}/exec"), &json!({"command": command, "timeout": 120_000}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn limit(daemon: &Daemon, session: &str, mib: u64) {
    let answer = daemon.send("PATCH", &format!("/api/sessions/{session}/limits"), &json!({"diskMb": mib}));
    assert_eq!((answer.status, &answer.json()["pending"]), (200, &json!([])), "{}", answer.text());
}

/// Whether the turn ended for the disk, and with what state and cause.
fn ended_full(events: &[Event]) -> (String, String) {
    let done = events.last().expect("an end");
    assert_eq!((done.name.as_str(), &done.data["limit"]), ("done", &json!("disk")), "{events:?}");
    let text = |name: &str| done.data[name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("cause"))
}

fn ends(daemon: &Daemon, session: &str, command: &str) -> String {
    let (state, cause) = ended_full(&daemon.say(session, &format!("bash: {command}")));
    assert_eq!(state, "interrupted", "{cause}");
    cause
}

fn refused(daemon: &Daemon, session: &str) -> String {
    let (state, cause) = ended_full(&daemon.say(session, "say: never"));
    assert_eq!(state, "failed", "{cause}");
    cause
}

/// Limits that were reached, as the log has them.
fn reached(daemon: &Daemon, session: &str) -> Vec<Value> {
    let listed = daemon.get(&format!("/api/sessions/{session}/events?type=lifecycle&limit=1000")).json();
    let rows = listed["events"].as_array().expect("events").clone();
    let data = rows.iter().map(|row| serde_json::from_str::<Value>(row["data"].as_str().expect("data")).expect("JSON"));
    data.filter(|data| data["action"] == "limit").collect()
}

#[test]
fn a_tool_that_fills_the_disk_is_ended_by_name_and_the_session_goes_on_when_there_is_room() {
    let Some((_model, daemon, session)) = small() else { return };
    assert_eq!(bash(&daemon, &session, "echo room"), "room");
    let cause = ends(&daemon, &session, BOMB);
    assert_eq!(cause, CAUSE);
    let told = json!({"action": "limit", "limit": "disk", "detail": CAUSE.strip_prefix("disk: ")});
    assert_eq!(reached(&daemon, &session), std::slice::from_ref(&told));
    let turns = daemon.get(&format!("/api/sessions/{session}/turns")).json();
    assert_eq!(turns["turns"].as_array().expect("turns").iter().filter(|turn| turn["limit"] == "disk").count(), 1, "{turns}");

    assert_eq!(refused(&daemon, &session), CAUSE);
    // Files can be seen and removed, and commands run as long as they take no more.
    let files = daemon.get(&format!("/api/sessions/{session}/files")).json();
    assert!(files["files"].to_string().contains("bomb"), "{files}");
    assert_eq!(exec(&daemon, &session, "stat -c %s bomb >/dev/null && echo seen")["stdout"], "seen\n");
    let gone = daemon.send("DELETE", &format!("/api/sessions/{session}/files/bomb"), &json!({}));
    assert!(gone.ok_status(), "{}", gone.text());
    assert!(result(&daemon.say(&session, "remember?")).contains("bomb"), "the conversation goes on");
    assert_eq!(reached(&daemon, &session), [told], "it is told once, also when it was measured on");
}

#[test]
fn a_file_without_a_name_and_a_folder_that_is_closed_hide_nothing() {
    let Some((_model, daemon, session)) = small() else { return };
    let unnamed = "exec 3>bomb; rm bomb; head -c 1G /dev/zero >&3; tail -f /dev/null";
    assert_eq!(ends(&daemon, &session, unnamed), CAUSE);
    assert_eq!(bash(&daemon, &session, "ls; echo gone"), "CLAUDE.md\ngone", "with its process the file went, too");
    let closed = "mkdir closed; exec 3>closed/bomb; chmod 0 closed; head -c 1G /dev/zero >&3; tail -f /dev/null";
    assert_eq!(ends(&daemon, &session, closed), CAUSE);
    assert_eq!(exec(&daemon, &session, "stat -c %a closed; chmod 700 closed; rm -r closed")["stdout"], "0\n");
    assert_eq!(bash(&daemon, &session, "echo room"), "room");
}

#[test]
fn very_many_files_are_ended_like_a_full_disk() {
    let Some((_model, daemon, session)) = small() else { return };
    let many = "mkdir many; cd many; seq 100000 | xargs touch; tail -f /dev/null";
    let cause = ends(&daemon, &session, many);
    assert_eq!(cause, "disk: workspace and HOME have more than the 16384 files that the session may have");
    assert_eq!(refused(&daemon, &session), cause);
    assert_eq!(exec(&daemon, &session, "rm -r many")["exitCode"], 0);
    assert_eq!(bash(&daemon, &session, "echo room"), "room");
}

#[test]
fn a_command_of_a_caller_that_fills_the_disk_is_ended_by_its_own_name() {
    let Some((_model, daemon, session)) = small() else { return };
    for filled in ["", "over and over"] {
        let ended =
            exec(&daemon, &session, &format!("echo {filled} >said; cat /dev/zero | head -c 1G >>bomb; tail -f /dev/null"));
        assert_eq!((&ended["signal"], &ended["limit"]), (&json!("SIGKILL"), &json!("disk")), "{ended}");
    }
    wait_for("both are noted", || (reached(&daemon, &session).len() == 2).then_some(()));
    let noted = daemon.get(&format!("/api/sessions/{session}/events?type=lifecycle&limit=1000")).json();
    assert!(noted.to_string().contains(r#"\"limit\":\"disk\",\"signal\""#), "{noted}");
    // What a file takes that is written through the API counts as well.
    let content = base64(&vec![7; 8 << 20]);
    let body = json!({"files": [{"path": "more", "content": content}]});
    let written = daemon.send("POST", &format!("/api/sessions/{session}/files"), &body);
    assert_eq!(written.status, 200, "{}", written.text());
    assert_eq!(refused(&daemon, &session), CAUSE);
    assert_eq!(exec(&daemon, &session, "rm bomb; echo smaller")["stdout"], "smaller\n");
    assert_eq!(bash(&daemon, &session, "echo room"), "room");
}

#[test]
fn what_a_turn_left_running_is_ended_too() {
    let Some((_model, daemon, session)) = small() else { return };
    let call = json!({"command": "while [ ! -e /work/go ]; do :; done; head -c 1G /dev/zero >bomb; tail -f /dev/null",
        "description": "waits", "run_in_background": true});
    let events = daemon.say(&session, &format!("tool: Bash {call}"));
    assert_eq!(events.last().map(|event| event.data["state"].clone()), Some(json!("completed")), "{events:?}");
    assert_eq!(exec(&daemon, &session, "touch go")["exitCode"], 0);
    wait_for("the limit is told", || (!reached(&daemon, &session).is_empty()).then_some(()));
    assert_eq!(refused(&daemon, &session), CAUSE);
}

#[test]
fn a_limit_that_is_raised_or_lowered_counts_at_once() {
    let Some((_model, daemon, session)) = small() else { return };
    ends(&daemon, &session, BOMB);
    limit(&daemon, &session, 5120);
    assert_eq!(bash(&daemon, &session, "head -c 100M /dev/zero >more; echo room"), "room");
    limit(&daemon, &session, 32);
    let (_, cause) = ended_full(&daemon.say(&session, "bash: tail -f /dev/null"));
    assert_eq!(cause, CAUSE.replace("64", "32"));
    assert_eq!(exec(&daemon, &session, "rm bomb more")["exitCode"], 0);
    assert_eq!(bash(&daemon, &session, "echo room"), "room");
}

#[test]
fn a_session_over_its_limit_is_put_away_taken_out_and_copied_as_it_is() {
    let Some((_model, mut daemon, session)) = small() else { return };
    ends(&daemon, &session, BOMB);
    let size = exec(&daemon, &session, "stat -c %s bomb")["stdout"].as_str().expect("text").to_owned();
    let copy = fork(&daemon, &session);
    good(&act(&daemon, &session, "stop"));
    for session in [&session, &copy] {
        good(&act(&daemon, session, "resume"));
    }
    daemon.kill();
    daemon.run();
    for session in [&session, &copy] {
        // By another shim, which has to find it out by itself.
        let (_, cause) = ended_full(&daemon.say(session, "bash: tail -f /dev/null"));
        assert_eq!(cause, CAUSE);
        assert_eq!(exec(&daemon, session, "stat -c %s bomb")["stdout"], size);
        assert_eq!(exec(&daemon, session, "rm bomb")["exitCode"], 0);
        assert_eq!(bash(&daemon, session, "echo room"), "room");
    }
}

#[test]
fn a_bundle_is_not_laid_over_a_workspace_that_is_full_already() {
    let Some((_model, daemon, session)) = small() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("more"), "more").expect("writes");
    let packed = Command::new("tar").args(["-cz", "-C"]).arg(folder.path()).arg("more").output().expect("tar runs");
    let upload = || {
        let kind = [("content-type", "application/gzip")];
        let path = format!("/api/sessions/{session}/workspace");
        support::http::request(&daemon.control(), "POST", &path, &kind, Some(&packed.stdout))
    };
    ends(&daemon, &session, BOMB);
    // A look behind the end of what ran tells that it is too much.
    refused(&daemon, &session);
    let answer = upload();
    let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!((answer.status, error.contains("disk: workspace and HOME take more")), (409, true), "{}", answer.text());
    assert_eq!(exec(&daemon, &session, "test -e bomb && test ! -e more && rm bomb")["exitCode"], 0, "it is as it was");
    // The next turn looks again.
    assert_eq!(bash(&daemon, &session, "echo room"), "room");
    assert_eq!(upload().status, 200);
    assert_eq!(bash(&daemon, &session, "cat more"), "more");
}
