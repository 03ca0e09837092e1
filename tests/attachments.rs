//! Files that callers give to sessions: where they are kept, where they appear, what the model is shown of them.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use support::http::{self, Response, result};
use support::life::{UNDISTURBED, act, bash, end, fork, good, show, snapshots, start};
use support::{Daemon, MODEL_KEY, Model, base64, claude};

/// A picture of one point.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn post(daemon: &Daemon, session: &str, body: &Value) -> Response {
    daemon.send("POST", &format!("/api/sessions/{session}/attachments"), body)
}

fn attach(daemon: &Daemon, session: &str, name: &str, content: &[u8]) -> Value {
    let answer = post(daemon, session, &json!({"filename": name, "content": base64(content)}));
    assert_eq!(answer.status, 201, "{}\n{}", answer.text(), daemon.log());
    answer.json()["attachment"].clone()
}

fn listed(daemon: &Daemon, session: &str) -> Vec<Value> {
    let answer = daemon.get(&format!("/api/sessions/{session}/attachments"));
    assert!(answer.ok_status(), "{}", answer.text());
    answer.json()["attachments"].as_array().expect("a list").clone()
}

fn paths(attachments: &[Value]) -> Vec<&str> {
    attachments.iter().map(|one| one["path"].as_str().expect("a path")).collect()
}

fn read(daemon: &Daemon, attachment: &Value) -> Response {
    daemon.get(&format!("/api/attachments/{}", attachment["id"].as_str().expect("an id")))
}

fn file_of(daemon: &Daemon, attachment: &Value) -> PathBuf {
    let [session, id] = ["sessionId", "id"].map(|field| attachment[field].as_str().expect("an id"));
    daemon.data().join("attachments").join(session).join(id)
}

#[test]
fn an_attachment_is_in_the_workspace_of_a_sandbox_that_runs_and_of_one_that_comes_up() {
    let Some((_model, mut daemon)) = start(UNDISTURBED) else { return };
    let session = daemon.session();
    let first = attach(&daemon, &session, "/somewhere/notes.txt", b"first");
    let message = uuid::Uuid::now_v7();
    let body = json!({"filename": "notes.txt", "content": base64(b"second"), "mimeType": "text/plain", "messageId": message});
    let second = post(&daemon, &session, &body).json()["attachment"].clone();
    assert_eq!(first["path"], "attachments/notes.txt");
    for (field, value) in [
        ("filename", json!("notes.txt")),
        ("path", json!("attachments/notes (2).txt")),
        ("mimeType", json!("text/plain")),
        ("size", json!(6)),
        ("messageId", json!(message)),
        ("sessionId", json!(session)),
        ("tenantId", json!("default")),
        ("placed", json!(true)),
    ] {
        assert_eq!(second[field], value, "{field}");
    }
    assert_eq!((&first["mimeType"], &first["messageId"]), (&json!("application/octet-stream"), &json!("unlinked")));
    assert_eq!(bash(&daemon, &session, "(cd attachments; cat *; stat -c ' %u %a' *)"), "secondfirst 1000 644\n 1000 644");

    // It is the agent's to change.
    assert_eq!(bash(&daemon, &session, "echo changed > attachments/notes.txt; cat attachments/notes.txt"), "changed");
    good(&act(&daemon, &session, "stop"));
    let third = attach(&daemon, &session, "late.txt", b"third");
    assert_eq!(third["placed"], false);
    daemon.kill();
    daemon.run();
    assert_eq!(paths(&listed(&daemon, &session)), ["attachments/notes.txt", "attachments/notes (2).txt", "attachments/late.txt"]);
    good(&act(&daemon, &session, "resume"));
    assert_eq!(bash(&daemon, &session, "(cd attachments; cat late.txt notes.txt)"), "thirdchanged");
    assert_eq!(listed(&daemon, &session)[2]["placed"], true);

    // Paused, it may have a sandbox that does not run.
    good(&act(&daemon, &session, "pause"));
    attach(&daemon, &session, "paused.txt", b"fourth");
    assert_eq!(show(&daemon, &session)["status"], "paused");
    good(&act(&daemon, &session, "resume"));
    assert_eq!(bash(&daemon, &session, "cat attachments/paused.txt"), "fourth");
}

#[test]
fn a_snapshot_that_is_older_than_an_attachment_does_not_lose_it() {
    let Some((_model, daemon)) = start(UNDISTURBED) else { return };
    let session = daemon.session();
    attach(&daemon, &session, "a.txt", b"one");
    daemon.say(&session, "bash: echo changed > attachments/a.txt");
    let taken = daemon.send("POST", &format!("/api/sessions/{session}/snapshots"), &json!({}));
    let event = taken.json()["snapshot"]["eventId"].clone();
    assert!(event.is_i64(), "{}", taken.text());
    attach(&daemon, &session, "b.txt", b"two");
    daemon.say(&session, "bash: echo changed > attachments/b.txt");
    for _ in 0..2 {
        let back = daemon.send("POST", &format!("/api/sessions/{session}/rewind"), &json!({"eventId": event}));
        assert!(back.ok_status(), "{}", back.text());
        assert_eq!(bash(&daemon, &session, "cat attachments/a.txt attachments/b.txt"), "changed\ntwo");
    }
}

#[test]
fn a_fork_has_attachments_of_its_own() {
    let Some((_model, daemon)) = start(UNDISTURBED) else { return };
    let session = daemon.session();
    let early = attach(&daemon, &session, "early.txt", b"early");
    daemon.say(&session, "bash: true");
    good(&act(&daemon, &session, "stop"));
    let event = snapshots(&daemon, &session).last().expect("a snapshot")["eventId"].clone();
    good(&act(&daemon, &session, "resume"));
    daemon.say(&session, "bash: true");
    attach(&daemon, &session, "late.txt", b"late");
    good(&act(&daemon, &session, "stop"));
    // Not in any workspace yet.
    attach(&daemon, &session, "waits.txt", b"waits");

    let child = fork(&daemon, &session);
    let at = daemon.send("POST", &format!("/api/sessions/{session}/fork"), &json!({"eventId": event}));
    let older = at.json()["session"]["id"].as_str().expect("an id").to_owned();
    let own = listed(&daemon, &child);
    assert_eq!(paths(&own), ["attachments/early.txt", "attachments/late.txt", "attachments/waits.txt"]);
    assert_eq!(paths(&listed(&daemon, &older)), ["attachments/early.txt"], "what came later is not there");
    assert_ne!(own[0]["id"], early["id"]);

    assert_eq!(
        daemon.send("DELETE", &format!("/api/attachments/{}", early["id"].as_str().expect("an id")), &json!({})).status,
        200
    );
    assert_eq!(read(&daemon, &own[0]).text(), "early");
    good(&act(&daemon, &child, "resume"));
    assert_eq!(bash(&daemon, &child, "cat attachments/*"), "earlylatewaits");
    good(&act(&daemon, &older, "resume"));
    assert_eq!(bash(&daemon, &older, "ls attachments"), "early.txt");
}

#[test]
fn an_attachment_comes_back_as_it_was_sent_and_is_never_shown_in_a_page() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let page = json!({"filename": "ä page.html", "content": base64(b"<script>"), "mimeType": "text/html"});
    let made = post(&daemon, &session, &page).json()["attachment"].clone();
    let answer = read(&daemon, &made);
    assert_eq!((answer.status, answer.text()), (200, "<script>".to_owned()));
    let head = answer.head.to_ascii_lowercase();
    for line in [
        "content-type: text/html",
        "content-length: 8",
        "x-content-type-options: nosniff",
        "content-disposition: attachment; filename*=utf-8''%c3%a4%20page.html",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    // Nothing that a caller named is in a path, and nobody else can look.
    let file = file_of(&daemon, &made);
    let mode = |path: &Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(
        (mode(&file), mode(file.parent().expect("a folder")), mode(&daemon.data().join("attachments"))),
        (0o600, 0o700, 0o700)
    );

    std::fs::remove_file(file).expect("removes");
    let lost = read(&daemon, &made);
    assert_eq!((lost.status, lost.json()["error"].clone()), (404, json!("Attachment file not found on disk")));
    let path = format!("/api/attachments/{}", made["id"].as_str().expect("an id"));
    assert_eq!(daemon.send("DELETE", &path, &json!({})).json(), json!({"ok": true}));
    for method in ["GET", "DELETE"] {
        let answer = daemon.send(method, &path, &json!({}));
        assert_eq!((answer.status, answer.json()["error"].clone()), (404, json!("Attachment not found")), "{method}");
    }
    assert_eq!(listed(&daemon, &session), Vec::<Value>::new());
}

#[test]
fn what_is_no_attachment_or_too_much_is_refused_and_leaves_nothing() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let max = 10 << 20;
    let largest = attach(&daemon, &session, "large.bin", &vec![0; max]);
    assert_eq!(largest["size"], max);
    let content = base64(b"x");
    for (body, status, told) in [
        (json!({"filename": "a", "content": ""}), 400, "Empty attachment content"),
        (json!({"filename": "a", "content": base64(&vec![0; max + 1])}), 413, "Attachment too large (max 10485760 bytes)"),
        (json!({"filename": "a", "content": base64(&vec![0; max + (1 << 20)])}), 413, "larger than"),
        (json!({"filename": "a", "content": "%"}), 400, "content: is not base64"),
        (json!({"filename": "", "content": content}), 400, "filename: has to be"),
        (json!({"filename": "..", "content": content}), 400, "filename: has to be"),
        (json!({"filename": "a\n", "content": content}), 400, "filename: has to be"),
        (json!({"content": content}), 400, "filename: is missing"),
        (json!({"filename": "a"}), 400, "content: is missing"),
        (json!({"filename": "a", "content": content, "mimeType": "a\r\nb: c"}), 400, "mimeType: has to be"),
        (json!({"filename": "a", "content": content, "messageId": "x"}), 400, "messageId: "),
    ] {
        let answer = post(&daemon, &session, &body);
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == status && error.contains(told), "{told}: {}", answer.text());
    }
    assert_eq!(listed(&daemon, &session).len(), 1);
    let folder = file_of(&daemon, &largest).parent().expect("a folder").to_owned();
    assert_eq!(std::fs::read_dir(&folder).expect("lists").count(), 1, "no file stays of what was refused");

    let stranger = uuid::Uuid::now_v7().to_string();
    assert_eq!(post(&daemon, &stranger, &json!({"filename": "a", "content": content})).status, 404);
    end(&daemon, &session);
    assert_eq!(post(&daemon, &session, &json!({"filename": "a", "content": content})).status, 410);
    assert_eq!(read(&daemon, &largest).body.len(), max, "it can be had as long as the session is kept");
}

#[test]
fn a_session_has_a_bounded_number_of_attachments_of_a_configured_size() {
    let Some((_model, daemon)) = start(&format!("[http]\nattachment_bytes = \"1K\"\n{UNDISTURBED}")) else { return };
    let session = daemon.session();
    good(&act(&daemon, &session, "stop"));
    let answer = post(&daemon, &session, &json!({"filename": "a", "content": base64(&[0; 1025])}));
    assert_eq!((answer.status, answer.json()["error"].clone()), (413, json!("Attachment too large (max 1024 bytes)")));
    for _ in 0..200 {
        attach(&daemon, &session, "a", b"x");
    }
    let answer = post(&daemon, &session, &json!({"filename": "a", "content": base64(b"x")}));
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert_eq!(listed(&daemon, &session).len(), 200);
}

#[test]
fn an_attachment_in_a_message_is_shown_to_the_model_and_the_message_stays_as_it_came() {
    let Some(claude) = claude() else { return };
    let model = Model::start_with(&["--require-key", MODEL_KEY, "--log-bodies"]);
    let daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    let picture = json!({"filename": "point.png", "content": PNG, "mimeType": "image/png"});
    let picture = post(&daemon, &session, &picture).json()["attachment"].clone();
    let table = json!({"filename": "table.csv", "content": base64(b"a;b\n"), "mimeType": "text/csv; charset=utf-8"});
    let table = post(&daemon, &session, &table).json()["attachment"].clone();
    let other = attach(&daemon, &session, "some.bin", b"\xff\x00");
    let block = |one: &Value| json!({"type": "attachment", "attachmentId": one["id"]});
    let content = json!([block(&picture), block(&table), block(&other), {"type": "text", "text": "say: seen"}]);
    assert_eq!(result(&daemon.turn(&session, &json!({"content": content}))), "seen");

    let requests = model.requests();
    let shown = requests.iter().rev().find(|request| request["user"] == "say: seen").expect("the message came");
    let messages = shown["body"]["messages"].as_array().expect("messages");
    let blocks: Vec<Value> =
        messages.iter().flat_map(|message| message["content"].as_array().cloned().unwrap_or_default()).collect();
    let image = blocks.iter().find(|block| block["type"] == "image").expect("the picture");
    assert_eq!((&image["source"]["media_type"], &image["source"]["data"]), (&json!("image/png"), &json!(PNG)));
    let text = |part: &str| blocks.iter().any(|block| block["text"].as_str().is_some_and(|text| text.contains(part)));
    assert!(text("The file \"table.csv\" (attachments/table.csv in the workspace):\n\na;b\n"), "{blocks:?}");
    assert!(
        text(
            "The file \"some.bin\" (application/octet-stream, 2 bytes) is attached. It lies in the workspace: attachments/some.bin"
        ),
        "{blocks:?}"
    );

    let stored = daemon.get(&format!("/api/sessions/{session}/messages")).json()["messages"][0]["content"].clone();
    let stored: Value = serde_json::from_str(stored.as_str().expect("text")).expect("JSON");
    assert_eq!(stored["content"], content);

    // Whose answer was lost asks again with its key, and what it names may have been removed by then.
    let again = || {
        let headers = [("content-type", "application/json"), ("idempotency-key", "once")];
        let body = json!({"content": [block(&other), {"type": "text", "text": "say: once"}]}).to_string();
        http::request(&daemon.control(), "POST", &format!("/api/sessions/{session}/messages"), &headers, Some(body.as_bytes()))
    };
    let first = again();
    let path = format!("/api/attachments/{}", other["id"].as_str().expect("an id"));
    assert!(daemon.send("DELETE", &path, &json!({})).ok_status());
    let second = again();
    assert_eq!((second.status, http::events(&second.text())), (200, http::events(&first.text())));

    let another = daemon.create(&json!({"agent": "test"}));
    let gone = json!({"type": "attachment", "attachmentId": uuid::Uuid::now_v7()});
    for (session, block) in [(&another, block(&picture)), (&session, gone), (&session, json!({"type": "attachment"}))] {
        let body = json!({"content": [{"type": "text", "text": "say: no"}, block]});
        let answer = daemon.send("POST", &format!("/api/sessions/{session}/messages"), &body);
        assert_eq!(
            (answer.status, &answer.json()["details"][0]["field"]),
            (400, &json!("content[1].attachmentId")),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn what_a_crash_left_without_its_other_half_is_removed() {
    let Some((_model, daemon)) = start(&format!("[retention]\nended_after = \"0s\"\n{UNDISTURBED}")) else { return };
    let (session, over) = (daemon.session(), daemon.session());
    let (kept, lost) = (attach(&daemon, &session, "kept", b"x"), attach(&daemon, &session, "lost", b"x"));
    let goes = attach(&daemon, &over, "goes", b"x");
    std::fs::remove_file(file_of(&daemon, &lost)).expect("removes");
    let orphans = [session.clone(), uuid::Uuid::now_v7().to_string()].map(|session| {
        let folder = daemon.data().join("attachments").join(session);
        std::fs::create_dir_all(&folder).expect("a folder");
        [false, true].map(|is_old| {
            let path = folder.join(uuid::Uuid::now_v7().to_string());
            std::fs::write(&path, b"orphan").expect("writes");
            if is_old {
                let file = std::fs::File::options().write(true).open(&path).expect("opens");
                file.set_modified(SystemTime::now() - Duration::from_secs(7200)).expect("ages");
            }
            (path, is_old)
        })
    });
    let gc = |dry: bool| {
        let report = daemon.send("POST", "/api/gc", &json!({"dryRun": dry})).json();
        let removals = report["removals"].as_array().expect("a list").clone();
        let count = removals.iter().filter(|one| one["kind"] == "attachment" && one["error"].is_null()).count();
        (count, report)
    };
    assert_eq!(gc(true).0, 3, "two old files and the row without one");
    assert_eq!(gc(false).0, 3);
    for (path, is_old) in orphans.iter().flatten() {
        assert_eq!(path.exists(), !is_old, "what is young may get its row yet: {}", path.display());
    }
    assert_eq!(listed(&daemon, &session), std::slice::from_ref(&kept));
    assert_eq!(read(&daemon, &kept).text(), "x");

    end(&daemon, &over);
    support::wait_for("the session is removed with its attachment", || {
        gc(false);
        (daemon.get(&format!("/api/sessions/{over}")).status == 404).then_some(())
    });
    assert!(!file_of(&daemon, &goes).exists());
    assert_eq!(read(&daemon, &goes).status, 404);
    assert_eq!(read(&daemon, &kept).status, 200);
}

fn ashctl(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ashctl"));
    command.env("ASH_SERVER_URL", format!("unix:{}", daemon.data().join("ash.sock").display())).args(arguments);
    command.stdin(Stdio::null()).output().expect("ashctl starts")
}

#[test]
fn ashctl_adds_lists_gets_and_removes_attachments() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let folder = tempfile::tempdir().expect("a folder");
    let (one, saved) = (folder.path().join("one.txt"), folder.path().join("saved"));
    std::fs::write(&one, b"\xff1").expect("writes");
    let run = |arguments: &[&str]| {
        let output = ashctl(&daemon, &[&["attachment"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let added = String::from_utf8(run(&["add", &session, &one.to_string_lossy()])).expect("text");
    let id = added.trim();
    assert_eq!(listed(&daemon, &session)[0]["id"], id);
    assert_eq!(listed(&daemon, &session)[0]["mimeType"], "text/plain");
    assert!(String::from_utf8(run(&["list", &session])).expect("text").contains("attachments/one.txt"));
    assert_eq!(run(&["get", id]), b"\xff1");
    run(&["get", id, &saved.to_string_lossy()]);
    assert_eq!(std::fs::read(saved).expect("reads"), b"\xff1");
    let said = ashctl(&daemon, &["session", "send", &session, "say: seen", "--attach", &one.to_string_lossy()]);
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "seen", "{}", String::from_utf8_lossy(&said.stderr));
    let stored = daemon.get(&format!("/api/sessions/{session}/messages")).json()["messages"][0]["content"].to_string();
    let second = listed(&daemon, &session)[1]["id"].as_str().expect("an id").to_owned();
    assert!(stored.contains(&second), "{stored}");
    run(&["rm", id, &second]);
    assert_eq!(listed(&daemon, &session), Vec::<Value>::new());
    assert_eq!(ashctl(&daemon, &["attachment", "get", id]).status.code(), Some(4));
}
