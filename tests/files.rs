//! Single files of a session's workspace, with the real sandbox and the real runtime: out of the sandbox,
//! out of a snapshot, and into both.

mod support;

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::http::{self, Response, result};
use support::life::{UNDISTURBED, act, bash, end, good, start};
use support::{Daemon, base64, wait_for};

fn path(session: &str, rest: &str) -> String {
    format!("/api/sessions/{session}/files{rest}")
}

/// Paths and sizes, and where they are.
fn list(daemon: &Daemon, session: &str, query: &str) -> (Vec<(String, u64)>, String) {
    let answer = daemon.get(&path(session, query));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    let files = json["files"].as_array().expect("files").iter().map(|file| {
        assert!(file["modifiedAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{file}");
        (file["path"].as_str().expect("a path").to_owned(), file["size"].as_u64().expect("a size"))
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    (files, json["source"].as_str().expect("a source").to_owned())
}

fn get(daemon: &Daemon, session: &str, rest: &str) -> Response {
    daemon.get(&path(session, &format!("/{rest}")))
}

fn write(daemon: &Daemon, session: &str, body: &Value) -> Vec<Value> {
    let answer = daemon.send("POST", &path(session, ""), body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["files"].as_array().expect("files").clone()
}

fn put(daemon: &Daemon, session: &str, path: &str, content: &[u8]) -> Value {
    write(daemon, session, &json!({"files": [{"path": path, "content": base64(content)}]})).remove(0)
}

fn delete(daemon: &Daemon, session: &str, rest: &str) -> Response {
    daemon.send("DELETE", &path(session, &format!("/{rest}")), &json!({}))
}

fn refused(answer: &Response, status: u16, error: &str) {
    assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)), "{}", answer.text());
}

/// What is there for all tests that read.
fn furnish(daemon: &Daemon, session: &str) {
    bash(
        daemon,
        session,
        "mkdir -p a/b .venv node_modules && echo one > a/b/one.md && echo x > .venv/x && echo y > node_modules/y && echo z > .hidden \
         && echo lock > Cargo.lock && ln -s a/b way && ln -s a/b/one.md link && ln -s /work/a/b/one.md absolute && ln -s /etc/passwd out \
         && ln -s ../home/agent up && ln a/b/one.md hard && mkfifo pipe && printf x > \"$(printf 'b\\377d')\" && printf 'a\\377' > bytes \
         && truncate -s 3M holes && printf end >> holes && mkdir full && chmod 600 Cargo.lock && printf 'sp ace' > 'sp ace?#%.TXT'",
    );
}

const ALL: &[(&str, u64)] = &[
    (".hidden", 2),
    (".venv/x", 2),
    ("CLAUDE.md", 22),
    ("Cargo.lock", 5),
    ("a/b/one.md", 4),
    ("absolute", 4),
    ("bytes", 2),
    ("b\u{fffd}d", 1),
    ("hard", 4),
    ("holes", (3 << 20) + 3),
    ("link", 4),
    ("sp ace?#%.TXT", 6),
];

/// What reading gives, wherever it is read.
fn reads(daemon: &Daemon, session: &str, source: &str) {
    let all: Vec<_> = ALL.iter().map(|(path, size)| ((*path).to_owned(), *size)).collect();
    assert_eq!(list(daemon, session, ""), (all.clone(), source.to_owned()));
    let shown: Vec<_> = all.into_iter().filter(|(path, _)| path != ".venv/x").collect();
    assert_eq!(list(daemon, session, "?includeHidden=false"), (shown, source.to_owned()));

    let answer = get(daemon, session, "a/b/one.md");
    let head = answer.head.to_ascii_lowercase();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"one\n"[..]));
    for header in [
        "content-type: text/markdown",
        "content-length: 4",
        "content-disposition: attachment; filename*=utf-8''one.md",
        &format!("x-ash-source: {source}"),
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
    for way in ["way/one.md", "link", "absolute", "hard", "./a/b/one.md"] {
        assert_eq!(get(daemon, session, way).text(), "one\n", "{way}");
    }
    let answer = get(daemon, session, "sp%20ace%3F%23%25.TXT");
    assert_eq!(answer.text(), "sp ace");
    assert!(answer.head.contains("filename*=UTF-8''sp%20ace%3F%23%25.TXT"), "{}", answer.head);
    let answer = get(daemon, session, "holes");
    assert!(answer.body.len() == (3 << 20) + 3 && answer.body.ends_with(b"\0end"));
    let answer = get(daemon, session, "bytes?format=json");
    assert_eq!(answer.json(), json!({"path": "bytes", "content": "a\u{fffd}", "size": 2, "source": source}));
    refused(&get(daemon, session, "holes?format=json"), 400, "File too large (3145731 bytes, max 1048576)");

    for (rest, status, error) in [
        ("missing", 404, "File not found"),
        ("a/b/one.md/x", 404, "File not found"),
        ("a", 400, "Path is not a file"),
        ("way", 400, "Path is not a file"),
        ("out", 400, "Path leads out of the workspace"),
        ("a/../../etc/passwd", 400, "Invalid file path"),
        ("%2Fetc%2Fpasswd", 400, "Invalid file path"),
        ("a%00b", 400, "Invalid file path"),
        ("", 400, "File path required"),
    ] {
        refused(&get(daemon, session, rest), status, error);
    }
    let answer = get(daemon, session, "b%FFd");
    assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some("path: is not UTF-8")));
}

#[test]
fn files_are_read_out_of_the_sandbox_and_out_of_a_snapshot_alike() {
    let Some((_model, daemon)) = start(UNDISTURBED) else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    reads(&daemon, &session, "sandbox");
    // A pipe does not hold up whoever reads it, and no link leads anywhere else.
    refused(&get(&daemon, &session, "pipe"), 400, "Path is not a file");
    refused(&get(&daemon, &session, "up/missing"), 404, "File not found");
    good(&act(&daemon, &session, "pause"));
    reads(&daemon, &session, "sandbox");
    good(&act(&daemon, &session, "resume"));
    good(&act(&daemon, &session, "stop"));
    reads(&daemon, &session, "snapshot");
    end(&daemon, &session);
    reads(&daemon, &session, "snapshot");
    let missing = daemon.get(&path("0190a0b0-0000-7000-8000-000000000001", ""));
    refused(&missing, 404, "Session not found");
}

#[test]
fn files_are_written_and_deleted_while_a_turn_runs() {
    let Some((_model, daemon)) = start(UNDISTURBED) else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    let waiting =
        daemon.post(&session, "bash: touch waits; until test -e new/go; do sleep 0.05; done; stat -c %a:%s new/go Cargo.lock");
    wait_for("the turn runs", || list(&daemon, &session, "").0.iter().any(|(path, _)| path == "waits").then_some(()));
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let body = json!({"files": [
        {"path": "large", "content": base64(&large), "mimeType": "application/octet-stream"},
        {"path": "../out", "content": ""},
        {"path": "sub/.DS_Store", "content": ""},
        {"path": "bad", "content": "%"},
    ], "targetPath": "new/folder"});
    let written = write(&daemon, &session, &body);
    assert_eq!(written[0], json!({"path": "large", "written": true, "size": 3_000_000}));
    assert_eq!(written[1], json!({"path": "../out", "written": false, "error": "Invalid file path"}));
    assert_eq!(written[2], json!({"path": "sub/.DS_Store", "written": false, "error": "Skipped: .DS_Store"}));
    assert_eq!(written[3], json!({"path": "bad", "written": false, "error": "Content is not base64"}));
    assert!(get(&daemon, &session, "new/folder/large").body == large);
    assert_eq!(put(&daemon, &session, "Cargo.lock", b"other")["written"], true);
    let error = |path: &str| put(&daemon, &session, path, b"x")["error"].as_str().expect("an error").to_owned();
    assert_eq!(error("a"), "Path is not a file");
    assert_eq!(error("up/x"), "Path leads out of the workspace");
    assert_eq!(error("Cargo.lock/x"), "A folder on the way to the path is a file");
    assert_eq!(put(&daemon, &session, "out", b"mine")["written"], true, "a link is replaced, not followed");
    assert_eq!(get(&daemon, &session, "out").text(), "mine");

    assert_eq!(delete(&daemon, &session, "link").json(), json!({"path": "link", "deleted": true}));
    assert_eq!(get(&daemon, &session, "a/b/one.md").text(), "one\n", "a link goes, and not what it leads to");
    for (rest, status, error) in [
        ("link", 404, "File not found"),
        ("a", 400, "Path is not a file"),
        ("up/x", 400, "Path leads out of the workspace"),
        ("a/../x", 400, "Invalid file path"),
        ("", 400, "File path required"),
    ] {
        refused(&delete(&daemon, &session, rest), status, error);
    }
    assert_eq!(put(&daemon, &session, "new/go", b"")["written"], true);
    let said = result(&http::events(&waiting.finish().text()));
    assert!(said.contains("644:0\n600:5"), "{said}");
    let events = daemon.get(&format!("/api/sessions/{session}/events?type=lifecycle")).json();
    let events: Vec<Value> = events["events"].as_array().expect("events").clone();
    let data: Vec<Value> =
        events.iter().map(|event| serde_json::from_str(event["data"].as_str().expect("data")).expect("JSON")).collect();
    let of = |action: &str| data.iter().filter(|data| data["action"] == action).cloned().collect::<Vec<_>>();
    assert_eq!((&of("files_written")[0]["files"], &of("files_written")[0]["bytes"]), (&json!(1), &json!(3_000_000)));
    assert_eq!(of("file_deleted")[0]["path"], "link");

    for (body, error) in [
        (json!({"files": []}), "files: has to be a list of 1 to 500 files"),
        (json!({"files": [{"path": "x", "content": ""}], "targetPath": "/etc"}), "targetPath: Invalid file path"),
    ] {
        refused(&daemon.send("POST", &path(&session, ""), &body), 400, error);
    }
}

#[test]
fn what_is_written_to_a_session_without_processes_is_in_a_snapshot() {
    let Some((_model, daemon)) = start(UNDISTURBED) else { return };
    let session = daemon.session();
    bash(&daemon, &session, "echo old > old; echo gone > gone");
    good(&act(&daemon, &session, "stop"));
    let sandboxes = || std::fs::read_dir(daemon.data().join("sandboxes")).expect("reads").count();
    wait_for("the folder is gone", || (sandboxes() == 0).then_some(()));
    assert_eq!(put(&daemon, &session, "new", b"new")["written"], true);
    assert_eq!(delete(&daemon, &session, "gone").status, 200);
    wait_for("the folder is gone again", || (sandboxes() == 0).then_some(()));
    let (files, source) = list(&daemon, &session, "");
    let names: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!((names, source.as_str()), (vec!["CLAUDE.md", "new", "old"], "snapshot"));
    let shown = daemon.get(&format!("/api/sessions/{session}")).json();
    assert_eq!(shown["session"]["status"], "stopped");
    good(&act(&daemon, &session, "resume"));
    assert_eq!(bash(&daemon, &session, "cat new old; ls").trim(), "newold\nCLAUDE.md\nnew\nold");
    end(&daemon, &session);
    let answer = daemon.send("POST", &path(&session, ""), &json!({"files": [{"path": "x", "content": ""}]}));
    refused(&answer, 410, "Session has ended — create a new session");
    refused(&delete(&daemon, &session, "new"), 410, "Session has ended — create a new session");
}

#[test]
fn large_files_and_folders_have_their_bounds() {
    let Some((_model, daemon)) = start(UNDISTURBED) else { return };
    let session = daemon.session();
    bash(
        &daemon,
        &session,
        "truncate -s 104857601 over && truncate -s 104857600 most && mkdir many && cd many && seq 100001 | xargs touch && cd .. \
         && for n in $(seq 300); do mkdir -p deep && cd deep; done; echo x > bottom",
    );
    refused(&get(&daemon, &session, "over"), 400, "File too large (104857601 bytes, max 104857600)");
    assert_eq!(get(&daemon, &session, "most").body.len(), 104_857_600);
    let answer = daemon.get(&path(&session, "")).json();
    assert_eq!((answer["files"].as_array().map(Vec::len), &answer["truncated"]), (Some(100_000), &json!(true)));
    let deep = format!("{}bottom", "deep/".repeat(300));
    assert_eq!(get(&daemon, &session, &deep).text(), "x\n");
    assert!(answer["files"].as_array().expect("files").iter().any(|file| file["path"] == deep));
    let long = get(&daemon, &session, &"x/".repeat(2100));
    refused(&long, 400, "Invalid file path");
}

fn ashctl(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ashctl"));
    command.env("ASH_SERVER_URL", format!("unix:{}", daemon.data().join("ash.sock").display())).args(arguments);
    command.stdin(Stdio::null()).output().expect("ashctl starts")
}

#[test]
fn ashctl_lists_gets_puts_and_removes_files() {
    let Some((_model, daemon)) = start(UNDISTURBED) else { return };
    let session = daemon.session();
    let here = tempfile::tempdir().expect("a folder");
    let (one, two) = (here.path().join("one"), here.path().join("two ü"));
    std::fs::write(&one, b"\xff1").expect("writes");
    std::fs::write(&two, "2").expect("writes");
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let put = ashctl(&daemon, &["files", "put", &session, &text(&one), &text(&two), "--to", "in/here"]);
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    assert_eq!(String::from_utf8_lossy(&put.stdout), "in/here/one\nin/here/two ü\n");
    let listed = ashctl(&daemon, &["files", "ls", &session]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("in/here/two ü") && listed.contains("CLAUDE.md"), "{listed}");
    assert_eq!(ashctl(&daemon, &["files", "get", &session, "in/here/one"]).stdout, b"\xff1");
    let saved = here.path().join("saved");
    assert!(ashctl(&daemon, &["files", "get", &session, "in/here/two ü", &text(&saved)]).status.success());
    assert_eq!(std::fs::read_to_string(&saved).expect("reads"), "2");
    let failed = ashctl(&daemon, &["files", "put", &session, &text(&one), "--as", "in"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("in: Path is not a file"));
    let removed = ashctl(&daemon, &["files", "rm", &session, "in/here/one"]);
    assert_eq!(String::from_utf8_lossy(&removed.stdout), "Deleted in/here/one\n");
    assert_eq!(ashctl(&daemon, &["files", "get", &session, "in/here/one"]).status.code(), Some(4));
}
