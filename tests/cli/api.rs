//! `ashctl api`: requests by hand.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};

use super::fake::{Fake, KEY, SESSION};
use super::{ashctl, run, text};

#[test]
fn fields_are_a_query_or_a_body() {
    let fake = Fake::start();
    let server = fake.server();
    let output = run(&server, &["api", "get", "api/sessions", "-f", "limit:=2", "--field", "agent=a b&c"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    fake.wait_for("GET /api/sessions?limit=2&agent=a%20b%26c");
    let arguments = ["api", "POST", "/api/echo", "-f", "content=1", "-f", "n:=1", "-f", "config:={\"a\":[null]}"];
    let output = run(&server, &arguments);
    let body: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(body, json!({"content": "1", "n": 1, "config": {"a": [null]}}));
}

#[test]
fn a_body_comes_from_a_file_or_standard_input() {
    let fake = Fake::start();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "{\"a\":1}").expect("written");
    let path = file.path().to_str().expect("text");
    for (input, typed, body) in [(path, "", "{\"a\":1}"), ("-", "{\"b\":2}", "{\"b\":2}")] {
        let mut command = ashctl(&fake.server());
        command.args(["api", "POST", "/api/echo", "--input", input]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        child.stdin.take().expect("a pipe").write_all(typed.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("ended");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), body));
    }
    let output = run(&fake.server(), &["api", "POST", "/api/echo", "--input", "/nonexistent"]);
    assert!(text(&output.stderr).contains("can not read /nonexistent"), "{}", text(&output.stderr));
}

#[test]
fn the_exit_code_is_that_of_the_status_and_the_body_is_printed() {
    let fake = Fake::start();
    for (server, arguments, code, body) in [
        (fake.server(), &["/api/agents/nobody"][..], 4, "Agent not found"),
        (fake.url.clone(), &["/api/agents"], 5, "Missing Authorization header"),
        (fake.url.clone(), &["/api/agents", "--api-key", KEY], 0, "\"agents\""),
        (fake.url.clone(), &["/api/agents", "-H", "Authorization: Bearer ash_good"], 0, "\"agents\""),
    ] {
        let output = run(&server, &[&["api", "GET"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(body), "{arguments:?}: {}", text(&output.stdout));
    }
    let output = run(&fake.server(), &["api", "GET", "/api/agents/nobody", "--include"]);
    let shown = text(&output.stdout);
    assert!(shown.starts_with("HTTP/1.1 404 Not Found\r\n") && shown.contains("content-type: application/json\r\n"), "{shown}");
    assert!(shown.contains("\r\n\r\n{"), "{shown}");
    assert!(text(&output.stderr).contains("the server answered 404 Not Found"), "{}", text(&output.stderr));
}

#[test]
fn a_stream_is_printed_as_it_comes() {
    let fake = Fake::start();
    let path = format!("/api/sessions/{SESSION}/stream?after=0");
    let mut child = ashctl(&fake.server()).args(["api", "GET", &path]).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    // It has no end: the session lives.
    for expected in ["id: 1", "event: session_start"] {
        assert_eq!(lines.next().expect("a line").expect("text"), expected);
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
}

#[test]
fn what_is_no_request_is_refused_before_anything_is_sent() {
    let fake = Fake::start();
    for (arguments, words) in [
        (&["fetch", "/health"][..], "has to be GET, POST"),
        (&["GET", "/health", "-f", "a"], "has to be NAME=TEXT"),
        (&["POST", "/api/echo", "-f", "a:={"], "a is no JSON"),
        (&["GET", "/health", "-H", "a b: c"], "no name of a header"),
        (&["POST", "/api/echo", "-f", "a=b", "--input", "-"], "cannot be used with"),
    ] {
        let output = ashctl(&fake.server()).arg("api").args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(words), "{arguments:?}: {}", text(&output.stderr));
    }
    assert!(fake.seen().is_empty());
}
