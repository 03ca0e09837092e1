//! Schemathesis asks a daemon for what the OpenAPI document allows and for what it does not: nothing is a
//! fault of the daemon, and every answer is as described.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{life, number};

/// What would take away that with which the others are tried, what it can not make a body for, what would send
/// something to whoever it makes up, and a WebSocket, which it does not speak.
const EXCLUDED: [&str; 7] =
    ["endSession", "deleteAgent", "revokeKey", "deployAgentArchive", "createWebhook", "updateWebhook", "openTerminal"];
/// Whether it may be refused depends on what was done before, which the document can not say.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,negative_data_rejection,ignored_auth,unsupported_method";

#[test]
fn whatever_is_asked_of_a_daemon_is_answered_as_described() {
    let settings =
        format!("[http]\nrate_limit = \"off\"\ncreate_limit = \"off\"\nfailure_limit = \"off\"\n{}", life::UNDISTURBED);
    let Some((_model, daemon)) = life::start(&settings) else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fetched = Command::new(root.join("scripts/get-schemathesis")).stderr(Stdio::inherit()).output().expect("runs");
    assert!(fetched.status.success(), "it can not be fetched");
    let session = daemon.session();
    // One that is put away and taken up, and one that is left with limits with which nothing can live.
    let [resting, limited] = [(); 2].map(|()| daemon.create(&json!({"agent": "test"})));
    let turns = daemon.say(&session, "Hello");
    let turn = turns.last().expect("a frame").data["turnId"].as_str().expect("an id").to_owned();
    let made = |path: &str, body| daemon.send("POST", path, &body).json();
    let key = made("/api/api-keys", json!({}))["key"].as_str().expect("a key").to_owned();
    let credential = made("/api/credentials", json!({"type": "custom", "key": "x"}))["credential"]["id"].clone();

    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("schemathesis.toml");
    let at = |path: &str, parameters: Value| {
        let parameters: Vec<_> =
            parameters.as_object().expect("names").iter().map(|(name, value)| format!("\"path.{name}\" = {value}")).collect();
        format!("[[operations]]\ninclude-path-regex = '^/api/{path}'\nparameters = {{ {} }}\n", parameters.join(", "))
    };
    let life = r"sessions/\{id\}/(pause|resume|stop|fork|rewind|snapshots|workspace|config)";
    let parts = r"sessions/\{id\}/(messages|events|stream|interrupt|turns|permissions|files|exec|logs|egress|resources|security)";
    let mut text = [
        at(parts, json!({"id": session, "turn": turn})),
        at(life, json!({"id": resting})),
        at(r"sessions/\{id\}/limits", json!({"id": limited})),
        at(r"agents/\{name\}", json!({"name": "test"})),
        at(r"credentials/\{id\}", json!({"id": credential})),
        at(r"sessions/\{id\}/attachments", json!({"id": resting})),
    ]
    .concat();
    // The stream of a whole session has no end.
    text.push_str("[[operations]]\ninclude-operation-id = 'streamSession'\nmax-stream-events = 3\n");
    std::fs::write(&config, text).expect("writes");
    let examples = number("ASH_SOAK_EXAMPLES").unwrap_or(10);
    let mut run = Command::new("python3");
    run.args(["-m", "schemathesis.cli", "--no-color", "--config-file"]).arg(&config);
    run.args(["run", &format!("http://{}/docs/json", daemon.http), "--phases", "examples,coverage,fuzzing", "--checks", CHECKS]);
    run.args(["--header", &format!("Authorization: Bearer {key}"), "--max-examples", &examples.to_string()]);
    run.args([
        "--seed",
        // The same requests each time; those of the long run are others.
        &number("ASH_SOAK_SEED").unwrap_or(1).to_string(),
        "--workers",
        "2",
        "--request-timeout",
        "60",
        "--no-shrink",
        "--continue-on-failure",
    ]);
    run.args(["--suppress-health-check", "all", "--warnings", "off"]);
    run.args(EXCLUDED.iter().flat_map(|id| ["--exclude-operation-id", id]));
    let run = run
        .env("PYTHONPATH", String::from_utf8(fetched.stdout).expect("text").trim())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(folder.path())
        .output()
        .expect("python3 runs");
    let (said, error) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    eprintln!("{said}");
    assert!(run.status.success(), "{error}\n{}", daemon.log());
}
