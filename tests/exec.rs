//! Commands in the sandbox of a session, with the real sandbox and the real runtime: what they may do,
//! how they end, and that none outlives whoever wanted it.

mod support;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::http::{self, Response, result};
use support::life::{act, good, runs, start};
use support::{Daemon, MODEL_KEY, wait_for};

fn path(session: &str) -> String {
    format!("/api/sessions/{session}/exec")
}

fn try_exec(daemon: &Daemon, session: &str, body: &Value) -> Response {
    daemon.send("POST", &path(session), body)
}

fn exec(daemon: &Daemon, session: &str, body: &Value) -> Value {
    let answer = try_exec(daemon, session, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// What a command prints, without white space around it.
fn prints(daemon: &Daemon, session: &str, command: &str) -> String {
    let answer = exec(daemon, session, &json!({"command": command}));
    assert_eq!(answer["exitCode"], 0, "{answer}");
    answer["stdout"].as_str().expect("text").trim().to_owned()
}

/// What the log says about commands, oldest first.
fn noted(daemon: &Daemon, session: &str) -> Vec<Value> {
    let events = daemon.get(&format!("/api/sessions/{session}/events?type=lifecycle&limit=1000")).json();
    let events = events["events"].as_array().expect("events").clone();
    let data = events.iter().map(|event| serde_json::from_str::<Value>(event["data"].as_str().expect("data")).expect("JSON"));
    data.filter(|data| data["action"] == "exec").collect()
}

fn ashctl(daemon: &Daemon, arguments: &[&str], stdin: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ashctl"));
    command.env("ASH_SERVER_URL", format!("unix:{}", daemon.data().join("ash.sock").display())).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("ashctl starts");
    let mut to = child.stdin.take().expect("piped");
    let bytes = stdin.to_vec();
    // A command that does not read leaves it to itself.
    let writer = std::thread::spawn(move || drop(to.write_all(&bytes)));
    let output = child.wait_with_output().expect("ends");
    writer.join().expect("writes");
    output
}

#[test]
fn a_command_has_what_the_tools_of_its_session_have_and_no_more() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    let session = daemon.create(&json!({"agent": "test", "extraEnv": {"MINE": "of the session"}}));
    let command =
        "pwd; id -u; echo $MINE $HOME $HTTPS_PROXY; cat CLAUDE.md; grep -c : /proc/net/dev; grep Seccomp: /proc/self/status";
    let printed = prints(&daemon, &session, command);
    let lines: Vec<_> = printed.lines().map(str::trim).collect();
    let wanted =
        ["/work", "1000", "of the session /home/agent http://127.0.0.1:4001", "You are a test agent.", "1", "Seccomp:\t2"];
    assert_eq!(lines, wanted);
    let inside = prints(&daemon, &session, "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'");
    assert!(!inside.contains(MODEL_KEY), "{inside}");
    let tools = result(&daemon.say(&session, "bash: env | cut -d= -f1 | grep -v CLAUDE | sort"));
    let tools: Vec<_> = tools.lines().collect();
    for name in prints(&daemon, &session, "env | cut -d= -f1").lines() {
        assert!(tools.iter().any(|tool| tool.trim_start_matches("result: ") == name), "{name} is not in {tools:?}");
    }
    let refused = exec(&daemon, &session, &json!({"command": "unshare --user true || mount -t tmpfs x /mnt"}));
    assert_ne!(refused["exitCode"], 0, "{refused}");
    let nowhere = "import socket; socket.create_connection(('192.0.2.1', 80), 3)";
    let escape = exec(&daemon, &session, &json!({"command": format!("python3 -c \"{nowhere}\"")}));
    assert!(escape["stderr"].as_str().expect("text").contains("Network is unreachable"), "{escape}");
}

#[test]
fn exits_signals_and_time_that_is_over_are_told_apart() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let ended = |command: &str, timeout: u64| exec(&daemon, &session, &json!({"command": command, "timeout": timeout}));
    let answer = ended("echo out; echo err >&2; exit 7", 30_000);
    let wanted =
        json!({"exitCode": 7, "signal": null, "timedOut": false, "stdout": "out\n", "stderr": "err\n", "truncated": false});
    assert_eq!(answer, wanted);
    let answer = ended("kill -SEGV $$", 30_000);
    assert_eq!((&answer["exitCode"], &answer["signal"], &answer["timedOut"]), (&json!(1), &json!("SIGSEGV"), &json!(false)));
    let answer = ended("echo before; sleep 4711071 & sleep 4711072", 5000);
    assert_eq!((&answer["exitCode"], &answer["signal"], &answer["timedOut"]), (&json!(1), &json!("SIGKILL"), &json!(true)));
    assert_eq!(answer["stdout"], "before\n");
    wait_for("the whole group is gone", || (!runs("4711071") && !runs("4711072")).then_some(()));
    // What a command leaves in the background is not waited for, and goes on.
    let answer = ended("sleep 4711073 & echo left", 30_000);
    assert_eq!((&answer["exitCode"], &answer["stdout"]), (&json!(0), &json!("left\n")));
    wait_for("what it left goes on", || runs("4711073").then_some(()));

    let noted = noted(&daemon, &session);
    let ends: Vec<_> = noted.iter().map(|data| (data["exitCode"].as_i64(), data["signal"].as_str())).collect();
    assert_eq!(ends, [(Some(7), None), (None, Some("SIGSEGV")), (None, Some("SIGKILL")), (Some(0), None)]);
    assert_eq!(noted[2]["timedOut"], true);
    assert_eq!(noted[0]["command"], "echo out; echo err >&2; exit 7");
    assert!(noted[0]["by"].as_str().is_some_and(|by| !by.is_empty()), "{}", noted[0]);
}

#[test]
fn input_and_output_are_bytes_within_their_bounds() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let answer = exec(&daemon, &session, &json!({"command": "tr a-z A-Z", "stdin": "grün\n"}));
    assert_eq!(answer["stdout"], "GRüN\n");
    let answer = exec(&daemon, &session, &json!({"command": "cat; echo end"}));
    assert_eq!(answer["stdout"], "end\n", "without input there is nothing to read");
    let answer = exec(&daemon, &session, &json!({"command": "printf 'a\\377b'; head -c 11M /dev/zero >&2; exit 3"}));
    assert_eq!((&answer["stdout"], &answer["exitCode"], &answer["truncated"]), (&json!("a\u{fffd}b"), &json!(3), &json!(true)));
    assert_eq!(answer["stderr"].as_str().map(str::len), Some(10 << 20));
    let answer = exec(&daemon, &session, &json!({"command": "true", "stdin": "x".repeat(900_000)}));
    assert_eq!(answer["exitCode"], 0, "what is not read holds nothing up");
}

#[test]
fn requests_that_can_not_be_are_refused_by_name() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let refused = |body: Value, field: &str| {
        let answer = try_exec(&daemon, &session, &body);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.json()["error"].as_str().is_some_and(|error| error.contains(field)), "{}", answer.text());
    };
    refused(json!({}), "command");
    refused(json!({"command": ""}), "command: has to be 1 to 100000 bytes");
    refused(json!({"command": "a\0b"}), "command: has to be");
    refused(json!({"command": "x".repeat(100_001)}), "command: has to be");
    refused(json!({"command": "true", "timeout": 0}), "timeout: has to be from 1 to 300000");
    refused(json!({"command": "true", "timeout": 300_001}), "timeout: has to be from 1 to 300000");
    refused(json!({"command": "true", "stdin": 1}), "stdin");
    let missing = try_exec(&daemon, "0190a0b0-0000-7000-8000-000000000001", &json!({"command": "true"}));
    assert_eq!((missing.status, &missing.json()["error"]), (404, &json!("Session not found")));
    for (verb, status) in [("pause", "paused"), ("stop", "stopped")] {
        good(&act(&daemon, &session, verb));
        let answer = try_exec(&daemon, &session, &json!({"command": "true"}));
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!(format!("Session is {status}"))));
        good(&act(&daemon, &session, "resume"));
    }
    assert!(daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({})).ok_status());
    let answer = try_exec(&daemon, &session, &json!({"command": "true"}));
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("Session is ended")));
}

#[test]
fn many_run_at_once_beside_a_turn_and_one_too_many_is_refused() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    std::thread::scope(|scope| {
        let (daemon, session) = (&daemon, &session);
        let turn = scope.spawn(|| result(&daemon.say(session, "bash: until test -e /work/go; do sleep 0.05; done; echo went")));
        let wait = "echo x >> /work/waiting; until test -e /work/go; do sleep 0.05; done; echo went";
        let commands: Vec<_> = (0..7).map(|_| scope.spawn(|| prints(daemon, session, wait))).collect();
        wait_for("all seven wait", || (prints(daemon, session, "cat /work/waiting | wc -l") == "7").then_some(()));
        // The place that the last of those who looked had may still be taken, and is taken by who looks below.
        let eighth = scope.spawn(move || {
            let answer = wait_for("a place for the eighth", || {
                let answer = try_exec(daemon, session, &json!({"command": wait}));
                (answer.status != 429).then_some(answer)
            });
            answer.json()["stdout"].as_str().expect("text").trim().to_owned()
        });
        wait_for("the eighth waits", || {
            let answer = try_exec(daemon, session, &json!({"command": "true"}));
            (answer.status == 429).then(|| {
                assert!(answer.text().contains("8 programs are running"), "{}", answer.text());
                assert!(answer.head.to_ascii_lowercase().contains("retry-after"), "{}", answer.head);
            })
        });
        // Another session has places of its own.
        let other = daemon.session();
        assert_eq!(prints(daemon, &other, "echo here"), "here");
        go(daemon, session);
        assert!(turn.join().expect("a turn").contains("went"));
        for command in commands.into_iter().chain([eighth]) {
            assert_eq!(command.join().expect("a command"), "went");
        }
    });
}

#[test]
fn what_a_killed_command_leaves_running_keeps_neither_its_caller_nor_its_place() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    // One writes for ever, in a session of its own; the other more than is kept.
    for left in ["while :; do echo x; sleep 0.05; done", "cat /dev/zero"] {
        let command = format!("setsid sh -c '{left}' & sleep 999");
        for _ in 0..9 {
            let answer = exec(&daemon, &session, &json!({"command": command, "timeout": 300}));
            assert_eq!((&answer["timedOut"], &answer["signal"]), (&json!(true), &json!("SIGKILL")), "{}", answer["timedOut"]);
        }
        prints(&daemon, &session, "pkill -KILL -f '[c]ho x|dev/[z]ero' || true");
    }
    assert_eq!(prints(&daemon, &session, "echo usable"), "usable");
}

/// Lets those go on that wait for a file, though no command has a place to make it.
fn go(daemon: &Daemon, session: &str) {
    let sandbox = daemon.get(&format!("/api/sessions/{session}")).json()["session"]["sandboxId"].clone();
    let work = daemon.data().join("sandboxes").join(sandbox.as_str().expect("an id")).join("workspace");
    std::fs::write(work.join("go"), "").expect("writes");
}

#[test]
fn a_session_that_is_parked_is_brought_back_for_a_command() {
    let Some((_model, daemon)) = start("[sessions]\nfreeze_after = \"1h\"\npark_after = \"1s\"") else { return };
    let session = daemon.session();
    prints(&daemon, &session, "echo kept > /work/kept");
    wait_for("it is parked", || {
        let shown = daemon.get(&format!("/api/sessions/{session}")).json();
        (shown["session"]["sandboxState"] == "cold" && shown["session"]["status"] == "active").then_some(())
    });
    // As long as a command runs, its session is not idle.
    assert_eq!(prints(&daemon, &session, "cat /work/kept; sleep 2; echo still here"), "kept\nstill here");
}

#[test]
fn a_command_ends_when_nobody_wants_it_any_more() {
    let Some((_model, mut daemon)) = start("") else { return };
    let session = daemon.session();
    let kind = [("content-type", "application/json")];
    let begin = |daemon: &Daemon, mark: &str, stream: bool| {
        let body = json!({"command": format!("sleep {mark} & wait"), "stream": stream, "timeout": 300_000}).to_string();
        let (target, path) = (daemon.control(), path(&session));
        let mut connection = http::connect(&target).expect("connects");
        let (name, value) = kind[0];
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{name}: {value}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        connection.write_all(head.as_bytes()).expect("writes");
        wait_for("it runs", || runs(mark).then_some(()));
        connection
    };
    for (mark, stream) in [("4711081", true), ("4711082", false)] {
        begin(&daemon, mark, stream).cut();
        wait_for("its group is gone", || (!runs(mark)).then_some(()));
    }
    wait_for("both are in the log", || (noted(&daemon, &session).len() == 2).then_some(()));
    assert!(noted(&daemon, &session).iter().all(|data| data["signal"] == "SIGKILL"));

    let connection = begin(&daemon, "4711083", true);
    daemon.kill();
    wait_for("its group is gone", || (!runs("4711083")).then_some(()));
    drop(connection);
    daemon.run();
    assert_eq!(prints(&daemon, &session, "echo again"), "again");

    // Nor does one outlive its session.
    let connection = begin(&daemon, "4711084", true);
    good(&act(&daemon, &session, "stop"));
    assert!(!runs("4711084"));
    drop(connection);
}

#[test]
fn a_runtime_that_ends_takes_what_it_started_with_it_and_no_command() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    daemon.say(&session, "bash: (setsid sleep 4711101 >/dev/null 2>&1 &)");
    wait_for("it runs", || runs("4711101").then_some(()));
    std::thread::scope(|scope| {
        let command = "sleep 4711102 & touch waits; until test -e go; do sleep 0.05; done; kill $!; echo went";
        let waits = scope.spawn(|| prints(&daemon, &session, command));
        wait_for("the command waits", || (prints(&daemon, &session, "ls") != "CLAUDE.md").then_some(()));
        // Other rules take another process.
        let patch = json!({"allowedTools": ["Bash(echo *)"]});
        assert!(daemon.send("PATCH", &format!("/api/sessions/{session}/config"), &patch).ok_status());
        daemon.say(&session, "bash: echo again");
        wait_for("what the first runtime left is gone", || (!runs("4711101")).then_some(()));
        assert!(runs("4711102"));
        prints(&daemon, &session, "touch go");
        assert_eq!(waits.join().expect("a command"), "went");
    });
}

#[test]
fn a_stream_brings_output_as_it_comes() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let command = "printf 'a\\303'; until test -e go; do sleep 0.05; done; printf '\\244\\377'; echo oops >&2; exit 5";
    let body = json!({"command": command, "stream": true}).to_string();
    let kind = [("content-type", "application/json")];
    let mut open = http::open(&daemon.control(), "POST", &path(&session), &kind, Some(body.as_bytes())).expect("answers");
    assert!(open.head.contains("text/event-stream"), "{}", open.head);
    let first = open.until("\n\n");
    assert_eq!(first, "event: stdout\ndata: {\"text\":\"a\"}\n\n");
    prints(&daemon, &session, "touch go");
    let rest = open.finish().text();
    let frames: Vec<_> = rest.split_terminator("\n\n").filter(|frame| !frame.starts_with(':')).collect();
    assert_eq!(frames.last(), Some(&"event: exit\ndata: {\"exitCode\":5,\"signal\":null,\"timedOut\":false}"), "{rest}");
    assert!(frames.contains(&"event: stderr\ndata: {\"text\":\"oops\\n\"}"), "{rest}");
    assert!(frames.contains(&"event: stdout\ndata: {\"base64\":\"w6T/\"}"), "{rest}");
}

#[test]
fn ashctl_passes_input_output_and_exit_codes_on() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let run = |arguments: &[&str], stdin: &[u8]| ashctl(&daemon, &[&["exec", &session], arguments].concat(), stdin);
    let output = run(&["--", "sh", "-c", "cat; echo \"it's $1\" >&2; exit 9", "x", "a  b"], b"\xff in\n");
    assert_eq!((output.status.code(), &output.stdout[..], &output.stderr[..]), (Some(9), &b"\xff in\n"[..], &b"it's a  b\n"[..]));
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let output = run(&["--", "cat"], &large);
    assert!(output.status.success() && output.stdout == large, "{} bytes", output.stdout.len());
    let output = run(&["--", "head -c 3"], &large);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &large[..3]), "{}", String::from_utf8_lossy(&output.stderr));
    let output = run(&["--", "kill -TERM $$"], b"");
    assert_eq!(output.status.code(), Some(128 + 15));
    let output = run(&["--timeout", "1", "--", "sleep 4711091"], b"");
    assert_eq!(output.status.code(), Some(124));
    assert!(String::from_utf8_lossy(&output.stderr).contains("killed after 1 s"));
    let output = run(&["--output", "json", "--", "echo x"], b"");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["stdout"], &json["exitCode"]), (&json!("x\n"), &json!(0)));
    good(&act(&daemon, &session, "pause"));
    let output = run(&["--", "true"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Session is paused"));
}
