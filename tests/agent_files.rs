//! Single files of an agent: what is read is its newest version, and every change is another one.

mod support;

use serde_json::{Value, json};
use support::http::{Response, result};
use support::{Daemon, Model, base64, claude};

fn put(daemon: &Daemon, files: &[(&str, &str)]) -> Response {
    let files: Vec<_> = files.iter().map(|(path, text)| json!({"path": path, "content": base64(text.as_bytes())})).collect();
    daemon.send("POST", "/api/agents/test/files", &json!({"files": files}))
}

fn refused(answer: &Response, status: u16, error: &str) {
    assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)), "{}", answer.text());
}

fn paths(daemon: &Daemon) -> Vec<String> {
    let listed = daemon.get("/api/agents/test/files").json();
    let files = listed["files"].as_array().expect("files").clone();
    assert!(files.iter().all(|file| file["modifiedAt"].as_str().is_some_and(|at| at.ends_with('Z'))));
    files.iter().map(|file| file["path"].as_str().expect("a path").to_owned()).collect()
}

#[test]
fn files_of_an_agent_are_read_and_each_change_is_a_version() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    let agent =
        daemon.deploy("test", &[("CLAUDE.md", "one\n"), ("docs/a.md", "a"), ("node_modules/x", "x"), ("Cargo.lock", "l")]);
    let session = daemon.create(&json!({"agent": "test"}));
    assert_eq!(paths(&daemon), ["CLAUDE.md", "Cargo.lock", "docs/a.md"]);
    let get = |rest: &str| daemon.get(&format!("/api/agents/test/files/{rest}"));
    assert_eq!(get("docs/a.md").json(), json!({"path": "docs/a.md", "content": "a", "size": 1}));
    let raw = get("docs/a.md?format=raw");
    let head = raw.head.to_ascii_lowercase();
    assert!(
        raw.text() == "a" && head.contains("content-type: text/markdown") && head.contains("filename*=utf-8''a.md"),
        "{head}"
    );
    for (rest, status, error) in [
        ("missing", 404, "File not found"),
        ("docs", 400, "Path is not a file"),
        ("docs/../x", 400, "Invalid file path"),
        ("%2Fetc%2Fpasswd", 400, "Invalid file path"),
        ("", 400, "File path required"),
    ] {
        refused(&get(rest), status, error);
    }
    refused(&daemon.get("/api/agents/nobody/files"), 404, "Agent not found");

    let answer = put(&daemon, &[("CLAUDE.md", "two\n"), ("new/b.sh", "#!/bin/sh\n")]);
    assert_eq!((answer.status, &answer.json()["written"], &answer.json()["version"]), (200, &json!(2), &json!(2)));
    let shown = daemon.get("/api/agents/test").json()["agent"].clone();
    assert_eq!((&shown["version"], &shown["digest"]), (&json!(2), &answer.json()["digest"]));
    assert_ne!(shown["digest"], agent["digest"]);
    assert_eq!(paths(&daemon), ["CLAUDE.md", "Cargo.lock", "docs/a.md", "new/b.sh"]);
    assert_eq!(get("CLAUDE.md").json()["content"], "two\n");
    assert_eq!(
        result(&daemon.say(&session, "bash: cat CLAUDE.md; test ! -e new && echo none")).lines().next(),
        Some("result: one"),
        "a session keeps its version"
    );
    let second = daemon.create(&json!({"agent": "test"}));
    assert!(
        result(&daemon.say(&second, "bash: cat CLAUDE.md node_modules/x; test -x new/b.sh && echo runs")).contains("two\nxruns")
    );

    let delete = |rest: &str| daemon.send("DELETE", &format!("/api/agents/test/files/{rest}"), &json!({}));
    let answer = delete("docs/a.md").json();
    assert_eq!((&answer["deleted"], &answer["version"]), (&json!(true), &json!(3)));
    refused(&delete("docs/a.md"), 404, "File not found");
    refused(&delete("docs/../a"), 400, "Path escapes agent directory");
    refused(&delete("CLAUDE.md"), 400, "Agent directory must contain CLAUDE.md");
    refused(&put(&daemon, &[("../x", "")]), 400, "Path \"../x\" escapes agent directory");
    refused(&put(&daemon, &[("/x", "")]), 400, "Path \"/x\" escapes agent directory");
    assert_eq!(put(&daemon, &[("CLAUDE.md/x", "")]).status, 400);
    assert_eq!(daemon.get("/api/agents/test").json()["agent"]["version"], 3, "what is refused is no version");

    // Of changes at the same time none is lost.
    std::thread::scope(|scope| {
        for n in 0..8 {
            let daemon = &daemon;
            scope.spawn(move || assert_eq!(put(daemon, &[(&format!("many/{n}"), "x")]).status, 200));
        }
    });
    assert_eq!(paths(&daemon).iter().filter(|path| path.starts_with("many/")).count(), 8);
}

#[test]
fn the_configuration_of_an_agent_is_merged_field_by_field() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    daemon.deploy("test", &[("CLAUDE.md", "one\n")]);
    let path = "/api/agents/test/config";
    let change = |body: &Value| daemon.send("PATCH", path, body).json()["config"].clone();
    assert_eq!(daemon.get(path).json(), json!({"config": {}}));
    assert_eq!(change(&json!({"model": "opus", "max_turns": 3})), json!({"model": "opus", "max_turns": 3}));
    assert_eq!(change(&json!({"model": {"a": 1}})), json!({"model": {"a": 1}, "max_turns": 3}));
    assert_eq!(change(&json!({})), json!({"model": {"a": 1}, "max_turns": 3}));
    assert_eq!(daemon.get(path).json()["config"]["max_turns"], 3);
    assert!(daemon.send("PATCH", path, &json!({"a": "x".repeat(600_000)})).ok_status());
    let too_large = daemon.send("PATCH", path, &json!({"b": "x".repeat(600_000)}));
    assert_eq!((too_large.status, too_large.json()["details"][0]["field"].as_str()), (400, Some("config")));
    assert!(daemon.get(path).json()["config"]["b"].is_null());
    refused(&daemon.send("PATCH", "/api/agents/nobody/config", &json!({})), 404, "Agent not found");
}
