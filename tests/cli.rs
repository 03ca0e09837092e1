//! The command line against a daemon that answers by heart: what it prints, sends and exits with.
#![cfg(feature = "cli")]

#[path = "cli/api.rs"]
mod api;
#[path = "cli/complete.rs"]
mod complete;
#[path = "cli/confirm.rs"]
mod confirm;
#[path = "cli/contexts.rs"]
mod contexts;
#[path = "cli/edit.rs"]
mod edit;
#[path = "cli/evals.rs"]
mod evals;
#[path = "cli/fake.rs"]
mod fake;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/tmux.rs"]
mod tmux;
#[path = "cli/watch.rs"]
mod watch;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use fake::{AWAITED, ENDED, Fake, KEY, NO_SESSION, REQUEST, SESSION, TURN};
use terminal::Terminal;

fn ashctl(server: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ashctl"));
    command.env("ASH_SERVER_URL", server).env_remove("ASH_API_KEY").env_remove("ASH_CONTEXT").stdin(Stdio::null());
    command.env("ASHCTL_CONFIG", "/nonexistent/contexts.toml");
    command
}

fn run(server: &str, arguments: &[&str]) -> Output {
    ashctl(server).args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn sessions_at_the_terminal_look_as_documented() {
    let fake = Fake::start();
    let cases = trycmd::TestCases::new();
    cases.register_bin("ashctl", Path::new(env!("CARGO_BIN_EXE_ashctl")));
    cases.env("ASH_SERVER_URL", fake.server()).env("ASH_API_KEY", "").env("NO_COLOR", "1");
    // In the folder of a case that has one.
    cases.env("ASH_CONTEXT", "").env("ASHCTL_CONFIG", "contexts.toml");
    cases.insert_var("[URL]", fake.url.clone()).expect("a name");
    cases.insert_var("[SOCKET]", fake.server()).expect("a name");
    cases.case("tests/cli/*.trycmd").run();
}

#[test]
fn exit_codes_tell_what_failed() {
    let fake = Fake::start();
    let (server, url) = (fake.server(), fake.url.clone());
    let cases: &[(&str, &[&str], i32)] = &[
        (&server, &["agent", "list"], 0),
        (&server, &["chat", "hello", "hi"], 0),
        (&server, &["chat", "hello", "fail"], 1),
        (&server, &["chat", "--session", ENDED, "hi"], 1),
        (&server, &["doctor"], 1),
        (&server, &["frobnicate"], 2),
        (&server, &["deploy", "/nonexistent"], 2),
        (&server, &["chat"], 2),
        (&server, &["eval", "run", "show", "hello", "--min-pass-rate", "0.5"], 0),
        (&server, &["eval", "run", "show", "hello", "--min-pass-rate", "0.9"], 1),
        ("nonsense", &["status"], 2),
        ("unix:/nonexistent/ash.sock", &["status"], 3),
        ("http://127.0.0.1:1", &["status"], 3),
        (&server, &["chat", "hello", "cut early"], 0),
        (&server, &["agent", "show", "nobody"], 4),
        (&server, &["session", "show", NO_SESSION], 4),
        (&server, &["key", "revoke", NO_SESSION], 4),
        (&url, &["agent", "list"], 5),
        (&url, &["--api-key", "ash_bad", "agent", "list"], 5),
        (&url, &["--api-key", KEY, "agent", "list"], 0),
        (&server, &["session", "create", "full"], 6),
    ];
    for (server, arguments, code) in cases {
        let output = run(server, arguments);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {}", text(&output.stderr));
        let explained = text(&output.stderr).contains("error:");
        assert_eq!(explained, *code != 0, "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn the_answer_alone_is_on_standard_output() {
    let fake = Fake::start();
    let output = run(&fake.server(), &["chat", "hello", "tool"]);
    assert_eq!(text(&output.stdout), "Let me look.\n\nThere is one file.\n");
    let talk = text(&output.stderr);
    assert!(
        talk.contains("● Bash ls -la /work") && talk.contains("✗ Read: permission denied") && talk.contains(SESSION),
        "{talk}"
    );
}

#[test]
fn a_broken_stream_is_taken_up_where_it_broke() {
    let fake = Fake::start();
    let output = run(&fake.server(), &["chat", "hello", "cut"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "Hello there.\n"), "{}", text(&output.stderr));
    let lines = fake.seen().iter().filter(|seen| seen.line.contains("/stream?after=3&turn=")).count();
    assert_eq!(lines, 1);
}

#[test]
fn a_message_whose_answer_was_lost_is_sent_again_as_the_same() {
    let fake = Fake::start();
    for prompt in ["cut early", "hi"] {
        let output = run(&fake.server(), &["chat", "hello", prompt]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "Hello there.\n"), "{}", text(&output.stderr));
    }
    let keys: Vec<String> =
        fake.seen().into_iter().filter(|seen| seen.line.ends_with("/messages")).filter_map(|seen| seen.key).collect();
    assert_eq!(keys.len(), 3, "every message has a key: {keys:?}");
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
}

#[test]
fn a_log_is_taken_up_where_it_broke_and_ends_with_its_session() {
    let fake = Fake::start();
    let output = run(&fake.server(), &["session", "events", ENDED, "-f", "--types", "text_delta,message,lifecycle"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let ids: Vec<&str> = text(&output.stdout).lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ids, ["2", "3", "4"]);
    fake.wait_for(&format!("GET /api/sessions/{ENDED}/stream?after=0&partials=true&types=text_delta%2Cmessage%2Clifecycle"));
    fake.wait_for(&format!("GET /api/sessions/{ENDED}/stream?after=2&partials=true"));
}

#[test]
fn answers_from_the_command_line_reach_the_daemon() {
    use serde_json::json;
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), "{\"command\": \"ls\"}").expect("written");
    let from_file = format!("@{}", file.path().display());
    for (arguments, expected) in [
        (&["allow", SESSION, REQUEST][..], json!({"behavior": "allow", "scope": "once"})),
        (&["allow", SESSION, REQUEST, "--session"], json!({"behavior": "allow", "scope": "session"})),
        (
            &["allow", SESSION, REQUEST, "--input", "{\"command\": \"pwd\"}"],
            json!({"behavior": "allow", "scope": "once", "updatedInput": {"command": "pwd"}}),
        ),
        (
            &["allow", SESSION, REQUEST, "--input", &from_file],
            json!({"behavior": "allow", "scope": "once", "updatedInput": {"command": "ls"}}),
        ),
        (
            &["deny", SESSION, REQUEST, "--message", "no", "--interrupt"],
            json!({"behavior": "deny", "scope": "once", "message": "no", "interrupt": true}),
        ),
    ] {
        let fake = Fake::start();
        let output = ashctl(&fake.server()).arg("permission").args(arguments).output().expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(fake.answer(), expected, "{arguments:?}");
    }
}

#[test]
fn requests_are_asked_and_answered_at_the_terminal() {
    use serde_json::json;
    for (message, keys, expected) in [
        ("may I", &[("Allow?", "y\r")][..], json!({"behavior": "allow", "scope": "once"})),
        ("may I", &[("[a]lways", "a\r")], json!({"behavior": "allow", "scope": "session"})),
        (
            "may I",
            &[("Allow?", "N\r"), ("Why not?", "not on a Friday\r")],
            json!({"behavior": "deny", "scope": "once", "message": "not on a Friday"}),
        ),
        (
            "may I",
            &[("Allow?", "what?\r"), ("one of the letters", ""), ("Allow?", "e\r")],
            json!({"behavior": "allow", "scope": "once", "updatedInput": {"command": "cat x", "description": "Make a file"}}),
        ),
        ("may I long", &[("[v]iew all", "v\r"), ("Allow?", "n\r")], json!({"behavior": "deny", "scope": "once"})),
        (
            "ask me",
            &[("1. blue", ""), ("Number, or text", "2\r")],
            json!({"behavior": "allow", "scope": "once", "answers": {"Which colour?": "red"}}),
        ),
    ] {
        let fake = Fake::start();
        let mut terminal = Terminal::start(&fake.server(), &["chat", "hello"]);
        terminal.wait_for("you ›");
        terminal.type_keys(&format!("{message}\r"));
        for (shown, typed) in keys {
            terminal.wait_for(shown);
            terminal.type_keys(typed);
        }
        assert_eq!(fake.answer(), expected, "{message}: {keys:?}");
        terminal.wait_for(&format!("It was {}.", expected["behavior"].as_str().expect("text")));
        terminal.wait_for("1.2 s · 1 tool · 12.3k in, 456 out · $0.0123");
        terminal.wait_for("you ›");
        terminal.type_keys("\u{4}");
        assert_eq!(terminal.end(), Some(0), "{message}: {keys:?}");
    }
}

#[test]
fn an_answer_from_elsewhere_takes_the_prompt_away_and_leaves_the_next_line_alone() {
    let fake = Fake::start();
    let mut terminal = Terminal::start(&fake.server(), &["chat", "hello"]);
    terminal.wait_for("you ›");
    terminal.type_keys("may I\r");
    terminal.wait_for("Allow?");
    // Half an answer, which nobody wants any more soon.
    terminal.type_keys("ye");
    terminal.wait_for("ye");
    assert!(run(&fake.server(), &["permission", "deny", SESSION, REQUEST]).status.success());
    terminal.wait_for("Denied by somebody else.");
    terminal.wait_for("It was deny.");
    terminal.wait_for("you ›");
    terminal.type_keys("hi\r");
    terminal.wait_for("Hello there.");
    let last = fake.seen().into_iter().rfind(|seen| seen.line.ends_with("/messages")).expect("a message");
    let body: serde_json::Value = serde_json::from_slice(&last.body).expect("JSON");
    assert_eq!(body["content"], "hi");
    let answers = fake.seen().iter().filter(|seen| seen.line.starts_with("POST") && seen.line.contains("/permissions/")).count();
    assert_eq!(answers, 1, "what was typed is no answer");
    terminal.wait_for("you ›");
    terminal.type_keys("\u{4}");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn ctrl_c_at_a_request_interrupts_the_turn_and_ctrl_d_leaves_the_request_open() {
    let fake = Fake::start();
    let mut terminal = Terminal::start(&fake.server(), &["chat", "hello"]);
    terminal.wait_for("you ›");
    terminal.type_keys("may I\r");
    terminal.wait_for("Allow?");
    terminal.type_keys("\u{4}");
    terminal.wait_for("waits for permission: ashctl permission allow");
    terminal.type_keys("\u{3}");
    terminal.wait_for("Interrupted.");
    terminal.wait_for("you ›");
    terminal.type_keys("\u{4}");
    assert_eq!(terminal.end(), Some(0));

    let fake = Fake::start();
    let mut terminal = Terminal::start(&fake.server(), &["chat", "hello"]);
    terminal.wait_for("you ›");
    terminal.type_keys("may I\r");
    terminal.wait_for("Allow?");
    terminal.type_keys("\u{3}");
    fake.wait_for(&format!("POST /api/sessions/{SESSION}/turns/{TURN}/cancel"));
    terminal.wait_for("Interrupted.");
    terminal.wait_for("you ›");
    terminal.type_keys("\u{4}");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn the_journal_says_which_session_a_line_is_about() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("journalctl.sh");
    let entry = serde_json::json!({
        "__REALTIME_TIMESTAMP": "1769860800000000", "SYSLOG_IDENTIFIER": "ashd", "_PID": "123",
        "MESSAGE": "sandbox is up\u{1b}[2J", "ASH_SESSION_ID": SESSION,
    });
    fs::write(&source, format!("#!/bin/sh\necho '{entry}'\nexit $JOURNAL_EXIT\n")).expect("written");
    // By another process: a file that a fork of this one holds open for writing can not be run.
    let made = Command::new("install").arg("-m755").arg(&source).arg(folder.path().join("journalctl")).status();
    assert!(made.is_ok_and(|made| made.success()), "made a program");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a path"));
    let logs = |code: &str, arguments: &[&str]| {
        let mut command = ashctl("unix:/run/ash/ash.sock");
        command.env("PATH", &path).env("TZ", "UTC").env("JOURNAL_EXIT", code).args(arguments);
        command.output().expect("it runs")
    };
    let output = logs("0", &["logs"]);
    assert_eq!(text(&output.stdout), format!("Jan 31 12:00:00 ashd[123]: sandbox is up[2J session={SESSION}\n"));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&logs("0", &["logs", "-o", "json"]).stdout), format!("{entry}\n"));
    assert_eq!(logs("1", &["logs"]).status.code(), Some(1));
}

#[test]
fn the_prompt_comes_from_arguments_or_standard_input() {
    let fake = Fake::start();
    for (arguments, input, content) in [
        (&["chat", "hello", "two", "words"][..], "", "two words"),
        (&["chat", "hello"], "line one\nline two\n", "line one\nline two"),
        (&["chat", "hello", "-"], "from a pipe\n", "from a pipe"),
        (&["chat", "--last", "again"], "", "again"),
        (&["session", "send", SESSION], "sent\n", "sent"),
    ] {
        let mut child =
            ashctl(&fake.server()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
        assert!(child.wait().expect("ended").success(), "{arguments:?}");
        let last = fake.seen().into_iter().rfind(|seen| seen.line.ends_with("/messages")).expect("a message");
        let body: serde_json::Value = serde_json::from_slice(&last.body).expect("JSON");
        assert_eq!(body["content"], content, "{arguments:?}");
        assert_eq!(body["includePartialMessages"], true);
    }
}

#[test]
fn options_of_a_session_reach_the_daemon() {
    let fake = Fake::start();
    let output = run(
        &fake.server(),
        &[
            "session",
            "create",
            "hello",
            "-m",
            "opus",
            "-e",
            "A=1",
            "--system-prompt",
            "Be brief.",
            "--permission-mode",
            "accept-edits",
        ],
    );
    assert_eq!(text(&output.stdout), format!("{SESSION}\n"));
    let seen = fake.wait_for("POST /api/sessions");
    let body: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
    let expected = serde_json::json!({"agent": "hello", "model": "opus", "extraEnv": {"A": "1"}, "systemPrompt": "Be brief.", "permissionMode": "acceptEdits"});
    assert_eq!(body, expected);
    let output = run(&fake.server(), &["session", "list", "--agent", "qa-bot", "--status", "paused", "-n", "3", "--offset", "2"]);
    assert!(output.status.success());
    fake.wait_for("GET /api/sessions?agent=qa-bot&status=paused&limit=3&offset=2&includeTotal=true");
}

#[test]
fn the_key_is_for_the_network_only() {
    let fake = Fake::start();
    for (server, header) in [(fake.url.clone(), Some(format!("Bearer {KEY}"))), (fake.server(), None)] {
        let output = ashctl(&server).args(["agent", "list"]).env("ASH_API_KEY", KEY).output().expect("it runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(fake.seen().last().expect("a request").authorization, header);
    }
}

/// Starts a turn that waits to be interrupted, and returns it once its first text is there.
fn waiting(fake: &Fake, message: &str) -> Child {
    let arguments = ["chat", "--session", SESSION, message];
    let mut command = ashctl(&fake.server());
    let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut first = [0; 4];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("text");
    assert_eq!(&first, b"Well");
    child
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGINT).expect("sent");
}

#[test]
fn ctrl_c_interrupts_the_turn_of_the_message_on_the_server_and_no_other() {
    let fake = Fake::start();
    let mut child = waiting(&fake, "wait");
    interrupt(&child);
    fake.wait_for(&format!("POST /api/sessions/{SESSION}/turns/{TURN}/cancel"));
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    let mut talk = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut talk).expect("text");
    assert!(!talk.contains("error:"), "{talk}");
    assert!(!fake.seen().iter().any(|seen| seen.line.ends_with("/interrupt")), "another's turn may run before it");
}

#[test]
fn ctrl_c_reaches_a_daemon_that_restarts_when_it_is_back() {
    let fake = Fake::start();
    let mut child = waiting(&fake, "wait, away");
    interrupt(&child);
    // The stream brings nothing before the turn is interrupted.
    fake.wait_for_nth(1, &format!("POST /api/sessions/{SESSION}/turns/{TURN}/cancel"));
    assert_eq!(child.wait().expect("ended").code(), Some(130));
}

#[test]
fn a_daemon_that_restarts_does_not_end_the_wait_for_an_item() {
    let fake = Fake::start();
    let output = run(&fake.server(), &["queue", "result", "--wait", AWAITED]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn output_that_nobody_reads_is_no_error_message() {
    let fake = Fake::start();
    for arguments in [&["completion", "bash"][..], &["agent", "list"], &["chat", "hello", "hi"], &["-o", "json", "agent", "list"]]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = ashctl(&fake.server()).args(arguments).stdout(writer).output().expect("it runs");
        let talk = text(&output.stderr);
        assert_eq!(output.status.code(), Some(141), "{arguments:?}: {talk}");
        assert!(!talk.contains("panicked") && !talk.contains("error:"), "{arguments:?}: {talk}");
    }
}

#[test]
fn a_stream_as_json_is_one_object_a_line() {
    let fake = Fake::start();
    let output = run(&fake.server(), &["-o", "json", "chat", "hello", "hi"]);
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let events: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(events, ["session_start", "text_delta", "text_delta", "message", "turn_complete", "done"]);
    assert_eq!(lines[5]["id"], 6);
    assert_eq!(lines[5]["data"]["state"], "completed");
}

#[test]
fn fields_of_tomorrow_survive_json_output() {
    let fake = Fake::start();
    let output = run(&fake.server(), &["-o", "json", "session", "show", SESSION]);
    let session: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(session["aFieldOfTomorrow"], 1);
}

fn agent_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("my agent ").tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write("CLAUDE.md", "Be kind.");
    write(".env", "TOKEN=from-env\nPLACE=here\n");
    write(".env.local", "PLACE='there'\n");
    write("data.bin", &"x".repeat(300_000));
    fs::create_dir(folder.path().join(".git")).expect("made");
    write(".git/config", "secret");
    folder
}

#[test]
fn a_folder_arrives_whole_and_its_secrets_as_environment() {
    let fake = Fake::start();
    let folder = agent_folder();
    let dir = folder.path().to_str().expect("text");
    let output = run(&fake.server(), &["deploy", dir, "--name", "kind", "-e", "TOKEN=given"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("Deployed agent \"kind\" (v1)\n  digest: sha256:9f86"), "{}", text(&output.stdout));
    let talk = text(&output.stderr);
    for line in ["Left out: .git", "Loaded 2 env vars from .env\n", "Loaded 1 env var from .env.local"] {
        assert!(talk.contains(line), "{line}: {talk}");
    }

    let seen = fake.wait_for("PUT /api/agents/kind/archive");
    assert!(seen.whole);
    let mut archive = tar::Archive::new(&seen.body[..]);
    let sizes: Vec<(String, u64)> = archive
        .entries()
        .expect("entries")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| (entry.path().expect("a path").display().to_string(), entry.size()))
        .collect();
    assert_eq!(sizes, [("CLAUDE.md".to_owned(), 8), ("data.bin".to_owned(), 300_000)]);
    let patch: serde_json::Value = serde_json::from_slice(&fake.wait_for("PATCH /api/agents/kind").body).expect("JSON");
    assert_eq!(patch, serde_json::json!({"env": {"TOKEN": "given", "PLACE": "there"}}));
}

#[test]
fn the_same_folder_is_the_same_archive() {
    let fake = Fake::start();
    let (one, two) = (agent_folder(), agent_folder());
    for folder in [&one, &two] {
        assert!(run(&fake.server(), &["deploy", folder.path().to_str().expect("text"), "-n", "same"]).status.success());
    }
    let seen = fake.seen();
    let archives: Vec<&[u8]> = seen.iter().filter(|seen| seen.line.starts_with("PUT")).map(|seen| &seen.body[..]).collect();
    assert_eq!(archives.len(), 2);
    assert!(archives[0] == archives[1]);
}

#[test]
fn a_folder_that_can_not_be_read_whole_is_not_deployed() {
    let fake = Fake::start();
    let folder = agent_folder();
    // More than the connection holds back, so that the server sees the request begin.
    fs::write(folder.path().join("large"), vec![0; 8 << 20]).expect("written");
    // Longer in the plan than in truth: reading it fails in the middle of the upload.
    let big = fs::File::create(folder.path().join("zz-last")).expect("made");
    big.set_len(1 << 36).expect("sparse");
    let mut command = ashctl(&fake.server());
    let arguments = ["deploy", folder.path().to_str().expect("text"), "--name", "torn"];
    let mut child = command.args(arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
    // The first line says that the plan stands; the last file then takes a while.
    let mut talk = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut lines = String::new();
    while !lines.contains("Left out") {
        assert_ne!(talk.read_line(&mut lines).expect("text"), 0, "{lines}");
    }
    big.set_len(1).expect("cut");
    talk.read_to_string(&mut lines).expect("text");
    assert_eq!(child.wait().expect("ended").code(), Some(1), "{lines}");
    assert!(lines.contains("zz-last changed while it was read"), "{lines}");
    assert!(!fake.wait_for("PUT /api/agents/torn").whole, "a torn archive came to its end");
}
