//! What is done to a session as a whole, and what it is known by before and after.

use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::http::{Response, result};
use super::{Daemon, Model, claude};

/// A daemon with the real runtime, if there is one, and its model.
pub fn start(extra: &str) -> Option<(Model, Daemon)> {
    let claude = claude()?;
    let model = Model::start();
    let daemon = Daemon::start_with(&claude, &model.url, extra);
    Some((model, daemon))
}

/// Asks for a change of a session.
pub fn act(daemon: &Daemon, session: &str, verb: &str) -> Response {
    daemon.send("POST", &format!("/api/sessions/{session}/{verb}"), &json!({}))
}

/// Sessions are left as they are: long times before they are frozen and parked.
pub const UNDISTURBED: &str = "[sessions]\nfreeze_after = \"1h\"\npark_after = \"2h\"";

/// Ends a session.
pub fn end(daemon: &Daemon, session: &str) {
    let ended = daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({}));
    assert!(ended.ok_status(), "{}", ended.text());
}

/// What a command prints that the agent runs.
pub fn bash(daemon: &Daemon, session: &str, command: &str) -> String {
    let said = result(&daemon.say(session, &format!("bash: {command}")));
    said.strip_prefix("result: ").unwrap_or(&said).to_owned()
}

/// The session that a good answer holds.
pub fn good(response: &Response) -> Value {
    assert!(response.ok_status(), "{}", response.text());
    response.json()["session"].clone()
}

/// Makes another session of this one; returns its id.
pub fn fork(daemon: &Daemon, session: &str) -> String {
    let forked = act(daemon, session, "fork");
    assert_eq!(forked.status, 201, "{}", forked.text());
    forked.json()["session"]["id"].as_str().expect("an id").to_owned()
}

/// The session as it is now.
pub fn show(daemon: &Daemon, session: &str) -> Value {
    daemon.get(&format!("/api/sessions/{session}")).json()["session"].clone()
}

/// Its snapshots, oldest first.
pub fn snapshots(daemon: &Daemon, session: &str) -> Vec<Value> {
    daemon.get(&format!("/api/sessions/{session}/snapshots")).json()["snapshots"].as_array().expect("a list").clone()
}

/// The folder of its newest snapshot.
pub fn newest_folder(daemon: &Daemon, session: &str) -> PathBuf {
    let event = snapshots(daemon, session).last().expect("a snapshot")["eventId"].as_i64().expect("a number");
    daemon.data().join("snapshots").join(session).join(format!("{event:019}"))
}

/// What its log says was done with it, oldest first.
pub fn lifecycle(daemon: &Daemon, session: &str, action: &str) -> Vec<Value> {
    let events = daemon.get(&format!("/api/sessions/{session}/events?type=lifecycle&limit=1000")).json();
    let data = events["events"].as_array().expect("a list").iter().map(|event| event["data"].as_str().expect("text"));
    let data = data.map(|data| serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}")));
    data.filter(|data: &Value| data["action"] == action).collect()
}

/// What the workspace is: names, modes, contents.
pub fn digest(daemon: &Daemon, session: &str) -> String {
    let command =
        "cd /work && find . -printf '%P %m %y %l\\n' | sort | sha256sum; find . -type f | sort | xargs sha256sum | sha256sum";
    let digest = result(&daemon.say(session, &format!("bash: {command}")));
    assert!(digest.starts_with("result: ") && digest.len() > 128, "{digest}");
    digest
}

/// Files of several kinds, and something to remember.
pub fn furnish(daemon: &Daemon, session: &str) {
    let command = "mkdir -p a/b .hidden && echo one > a/b/one && ln -s a/b/one link && chmod 640 a/b/one && ln a/b/one hard && head -c 300000 /dev/urandom > random && : > .hidden/empty";
    let made = daemon.say(session, &format!("bash: {command}"));
    assert_eq!(made.last().map(|event| event.data["state"].clone()), Some(json!("completed")));
}

/// How many messages of the user the model is shown.
pub fn remembered(daemon: &Daemon, session: &str) -> usize {
    let said = result(&daemon.say(session, "remember?"));
    let count = said.strip_prefix("user messages: ").and_then(|rest| rest.split(' ').next()).and_then(|count| count.parse().ok());
    count.unwrap_or_else(|| panic!("{said}"))
}

/// Changes what stands in a manifest, and seals it as its writer does: the last field is the
/// SHA-256 of all before it (`src/snapshot/format.rs`).
pub fn edit_manifest(folder: &std::path::Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).expect("reads")).expect("JSON");
    manifest.as_object_mut().expect("an object").remove("manifestSha256");
    edit(&mut manifest);
    let text = manifest.to_string();
    let text = text.strip_suffix('}').expect("an object");
    let sum: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&path, format!("{text},\"manifestSha256\":\"{sum}\"}}\n")).expect("writes");
}

/// Whether a process of the host, and so of any sandbox, has this in its arguments.
pub fn runs(mark: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("reads").filter_map(|entry| Some(entry.ok()?.path().join("cmdline")));
    let mut lines = processes.filter_map(|path| std::fs::read(path).ok());
    lines.any(|line| line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes()))
}
