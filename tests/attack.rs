//! Hostile clients of the API, end to end. Hostile agents are in `tests/torture`.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use support::http::{self, Target, result};
use support::{DEADLINE, Daemon, Model, claude, wait_for};

/// Sends bytes as they are on the control socket. The connection stays open.
fn raw(daemon: &Daemon, bytes: &[u8]) -> UnixStream {
    let Target::Unix(path) = daemon.control() else { panic!("the control socket is a Unix socket") };
    let mut stream = UnixStream::connect(path).expect("connects");
    stream.set_read_timeout(Some(DEADLINE)).expect("sets");
    // It may be refused before all of it is sent.
    let _ = stream.write_all(bytes);
    stream
}

/// The first line that comes.
fn first_line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).expect("a line");
        line.extend(byte);
    }
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

/// All that comes until the other end closes.
fn rest(mut stream: UnixStream) -> String {
    let mut answer = Vec::new();
    // What was sent and not read makes the end of the connection a reset.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn archive(prompt: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(prompt.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "CLAUDE.md", prompt.as_bytes()).expect("packs");
    builder.into_inner().expect("packs")
}

fn agents(daemon: &Daemon) -> Vec<Value> {
    daemon.get("/api/agents").json()["agents"].as_array().cloned().expect("a list")
}

const PUT: &str = "PUT /api/agents/cut/archive HTTP/1.1\r\nhost: h\r\ncontent-type: application/x-tar\r\n";

#[test]
fn an_upload_that_breaks_off_is_no_version() {
    let Some(claude) = claude() else { return };
    let daemon = Daemon::start(&claude, "http://127.0.0.1:1");
    let tar = archive(&"x".repeat(3000));
    for cut in [0, 1, 511, 512, 600, 3500, 3584, 4000, tar.len() - 512, tar.len() - 1] {
        for (framing, before) in [
            (format!("content-length: {}", tar.len()), String::new()),
            ("transfer-encoding: chunked".to_owned(), format!("{cut:x}\r\n")),
        ] {
            let mut bytes = format!("{PUT}{framing}\r\n\r\n{before}").into_bytes();
            if cut > 0 || before.is_empty() {
                bytes.extend(&tar[..cut]);
            }
            let stream = raw(&daemon, &bytes);
            stream.shutdown(std::net::Shutdown::Write).expect("shuts down");
            let answer = rest(stream);
            assert!(!answer.starts_with("HTTP/1.1 2") || cut == 0 && !before.is_empty(), "cut at {cut}, {framing}: {answer}");
        }
    }
    assert_eq!(agents(&daemon), Vec::<Value>::new());
    let versions = daemon.data().join("agents");
    wait_for("nothing is left", || walk(&versions).iter().all(|path| !path.ends_with("CLAUDE.md")).then_some(()));
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("reads").path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn clients_that_send_nothing_or_nonsense_leave_room_for_others() {
    let Some(claude) = claude() else { return };
    let daemon = Daemon::start(&claude, "http://127.0.0.1:1");
    let slow: Vec<_> = (0..600).map(|_| raw(&daemon, format!("{PUT}content-length: 1000000\r\n\r\nx").as_bytes())).collect();
    let idle: Vec<_> = (0..500).map(|_| raw(&daemon, b"GET /heal")).collect();
    assert_eq!(agents(&daemon), Vec::<Value>::new());
    daemon.deploy("test", &[("CLAUDE.md", "x\n")]);
    drop((slow, idle));

    for (head, body) in [
        ("POST /api/sessions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n", "{\"agent\":\"\u{fffd}".as_bytes()),
        ("POST /api/sessions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n", b"{\"agent\":\"\xff\"}"),
        ("POST /api/sessions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n", b"{\"agent\":\"\\ud83d\"}"),
        ("POST /api/sessions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n", &[b'['; 100_000]),
        ("POST /api/sessions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n", b"{\"agent\":\"a\\r\\nx-forged: 1\"}"),
        ("GET /api/agents/%0d%0ax-forged:%201 HTTP/1.1\r\nhost: h\r\n", b""),
        ("GET /api/agents/%ff%00 HTTP/1.1\r\nhost: h\r\n", b""),
        ("GET /api/sessions/..%2f..%2fetc HTTP/1.1\r\nhost: h\r\n", b""),
        ("POST /api/agents HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ntransfer-encoding: x\r\n", b"x"),
    ] {
        let mut bytes = head.as_bytes().to_vec();
        bytes.extend(format!("connection: close\r\ncontent-length: {}\r\n\r\n", body.len()).bytes());
        bytes.extend(body);
        let answer = rest(raw(&daemon, &bytes));
        assert!(answer.starts_with("HTTP/1.1 4"), "{head}: {answer}");
        assert!(!answer.contains("\r\nx-forged"), "{answer}");
    }
    let large = format!("GET /health HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "x".repeat(4 << 20));
    assert!(rest(raw(&daemon, large.as_bytes())).starts_with("HTTP/1.1 431"));
    assert_eq!(daemon.get("/health").status, 200);
}

#[test]
fn large_messages_that_do_not_come_leave_room_for_small_ones_and_a_stream_holds_no_place() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    daemon.deploy("test", &[("CLAUDE.md", "x\n")]);
    let session = daemon.session();
    let path = format!("/api/sessions/{session}/messages");
    // Its stream stays open.
    let large = json!({"content": [{"type": "text", "text": "bash: while [ ! -e go ]; do :; done"}], "x": "x".repeat(40 << 20)})
        .to_string();
    let head = |path: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n")
    };
    let mut streaming = raw(&daemon, format!("{}\r\n{large}", head(&path, large.len())).as_bytes());
    assert_eq!(first_line(&mut streaming), "HTTP/1.1 200 OK");

    // A tenant has 384 MiB, and the first of each body is free. Who is told to go on has a place.
    let stall = |path: &str, mib: usize| {
        let mut stream = raw(&daemon, format!("{}expect: 100-continue\r\n\r\n", head(path, mib << 20)).as_bytes());
        let line = first_line(&mut stream);
        (stream, line)
    };
    let stalled: Vec<_> = (0..8).map(|_| stall(&path, 49)).collect();
    assert!(stalled.iter().all(|(_, line)| line == "HTTP/1.1 100 Continue"), "the stream has none: {stalled:?}");
    for (path, mib) in [(&*path, 2), ("/api/agents", 60), ("/api/agents/test/files", 2), ("/api/sessions", 2)] {
        let (stream, line) = stall(path, mib);
        let answer = rest(stream);
        assert!(line.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 2\r\n"), "{path}: {line} {answer}");
    }
    let small = daemon.send("POST", &path, &json!({"content": "x".repeat(400_000), "ifBusy": "reject"}));
    assert_eq!(small.status, 409, "it is looked at: {}", small.text());
    drop(stalled);
    wait_for("room again", || Some(stall("/api/agents", 60).1).filter(|line| line == "HTTP/1.1 100 Continue"));
}

#[test]
fn a_client_that_vanishes_leaves_its_turn_running() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    let path = format!("/api/sessions/{session}/messages");
    let kind = [("content-type", "application/json")];
    let body = br#"{"content":"slow: 3","includePartialMessages":true}"#;
    let mut stream = http::open(&daemon.control(), "POST", &path, &kind, Some(body)).expect("answers");
    stream.until("tick 1");
    drop(stream);
    wait_for("the turn ends all the same", || {
        let events = daemon.get(&format!("/api/sessions/{session}/events?limit=1000")).json();
        events["events"].as_array()?.iter().any(|event| event["type"] == "turn_complete").then_some(())
    });
    assert_eq!(result(&daemon.say(&session, "say: on")), "on");
}
