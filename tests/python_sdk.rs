//! The published Python client, unmodified, through deploy, session, stream, pause, stop, fork and end.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use support::life::start;

#[test]
fn the_published_python_client_drives_a_session_from_deploy_to_end() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("CLAUDE.md"), "You are a test agent.\n").expect("writes");
    let rules = format!("[agents]\npath_roots = [\"{}\"]\nremote_paths = true", folder.path().display());
    let Some((_model, daemon)) = start(&rules) else { return };
    let fetched = Command::new(root.join("scripts/get-python-sdk")).stderr(Stdio::inherit()).output().expect("runs");
    assert!(fetched.status.success(), "the client can not be fetched");
    let key = daemon.send("POST", "/api/api-keys", &json!({"label": "sdk"})).json()["key"].as_str().expect("a key").to_owned();
    let driven = Command::new("python3")
        .arg(root.join("tests/clients/python_sdk.py"))
        .arg(format!("http://{}", daemon.http))
        .arg(key)
        .arg(folder.path())
        .env("PYTHONPATH", String::from_utf8(fetched.stdout).expect("text").trim())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python3 runs");
    let (said, error) = (String::from_utf8_lossy(&driven.stdout), String::from_utf8_lossy(&driven.stderr));
    assert!(driven.status.success() && said.trim() == "driven", "{said}\n{error}\n{}", daemon.log());
}
