//! What the API says of the walls of sandboxes, with the real runtime inside of them. What tries the walls is in
//! `tests/torture`.

mod support;

use std::path::PathBuf;

use serde_json::{Value, json};
use support::http::result;
use support::{Daemon, Model, claude};

/// What `GET /api/doctor` says of the walls.
fn confinement(daemon: &Daemon) -> Value {
    let checks = daemon.get("/api/doctor").json()["checks"].as_array().cloned().expect("a list");
    checks.into_iter().find(|check| check["name"] == "confinement").expect("is checked")
}

#[test]
fn variables_that_are_ashs_own_are_refused_by_name() {
    let Some(claude) = claude() else { return };
    let daemon = Daemon::start(&claude, "http://127.0.0.1:9");
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    for name in
        ["LD_PRELOAD", "ANTHROPIC_BASE_URL", "HTTPS_PROXY", "no_proxy", "CLAUDE_CODE_MAX_RETRIES", "CLAUDE_CONFIG_DIR", "HOME"]
    {
        let env = json!({name: "x"});
        for (method, path, body, field) in [
            ("POST", "/api/sessions", json!({"agent": "test", "extraEnv": env}), "extraEnv"),
            ("POST", "/api/agents", json!({"name": "other", "systemPrompt": "x", "env": env}), "env"),
            ("PATCH", "/api/agents/test", json!({"env": env}), "env"),
        ] {
            let answer = daemon.send(method, path, &body);
            let said = answer.text();
            assert_eq!(answer.status, 400, "{said}");
            assert!(said.contains(&format!("{field}.{name}")) && said.contains("set by Ash"), "{said}");
        }
    }
    let files = json!([
        {"path": "CLAUDE.md", "content": support::base64(b"x")},
        {"path": "ash.toml", "content": support::base64(b"[env]\nLD_PRELOAD = \"/work/x.so\"\n")},
    ]);
    let answer = daemon.send("POST", "/api/agents", &json!({"name": "other", "files": files}));
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("env.LD_PRELOAD"), "{}", answer.text());
}

/// A bubblewrap that says an older version, and is the host's in all else.
fn old_bwrap(folder: &std::path::Path) -> PathBuf {
    let (script, program) = (folder.join("script"), folder.join("bwrap"));
    let text = "#!/bin/sh\n[ \"$1\" = --version ] && exec echo bubblewrap 0.7.0\nexec /usr/bin/bwrap \"$@\"\n";
    std::fs::write(&script, text).expect("writes");
    // By another process: a file that a fork of this one holds open for writing can not be run.
    let installed = std::process::Command::new("install").arg("-m755").args([&script, &program]).status();
    assert!(installed.is_ok_and(|status| status.success()), "install starts");
    program
}

#[test]
fn a_host_that_lacks_a_wall_starts_nothing_until_it_is_accepted_and_shown() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let folder = tempfile::Builder::new().prefix("ash").tempdir_in("/tmp").expect("folder");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("opens the folder");
    let mut daemon = Daemon::start(&claude, &model.url);
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    daemon.stop();
    daemon.add_argument("--bwrap", old_bwrap(folder.path()));
    daemon.run();
    let missing = "bubblewrap 0.8.0, for --disable-userns: this one is 0.7.0";
    assert!(daemon.log().contains(missing), "it is said at the start");
    let answer = daemon.send("POST", "/api/sessions", &json!({"agent": "test"}));
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.text().contains(missing) && answer.text().contains("no-userns-limit"), "{}", answer.text());
    let check = confinement(&daemon);
    assert!(check["status"] == "failed" && check["detail"].as_str().is_some_and(|detail| detail.contains(missing)), "{check}");

    daemon.stop();
    daemon.add_config("[sandbox]\naccept = [\"no-userns-limit\"]\nptrace = true\n");
    daemon.run();
    let session = daemon.create(&json!({"agent": "test"}));
    assert_eq!(result(&daemon.say(&session, "bash: unshare --user true 2>/dev/null || echo refused")), "result: refused");
    let weaknesses = json!(["no-userns-limit", "ptrace"]);
    assert_eq!(daemon.get(&format!("/api/sessions/{session}")).json()["session"]["weaknesses"], weaknesses);
    assert_eq!(daemon.get("/api/sessions").json()["sessions"][0]["weaknesses"], weaknesses);
    let check = confinement(&daemon);
    assert!(check["status"] == "warning" && check["detail"].as_str().is_some_and(|detail| detail.contains("ptrace")), "{check}");
}

fn walls(daemon: &Daemon, session: &str) -> Value {
    let answer = daemon.get(&format!("/api/sessions/{session}/security"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn state<'a>(walls: &'a Value, name: &str) -> &'a str {
    let all = walls["walls"].as_array().expect("walls");
    let wall = all.iter().find(|wall| wall["name"] == name).unwrap_or_else(|| panic!("no {name}: {walls}"));
    wall["state"].as_str().expect("a state")
}

#[test]
fn what_confines_a_session_is_told_and_where_all_of_it_is_required_no_weaker_one_is_made() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let mut daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    assert_eq!(result(&daemon.say(&session, "say: here")), "here");
    let told = walls(&daemon, &session);
    assert_eq!((&told["of"], &told["strict"]), (&json!("running"), &json!(false)), "{told}");
    for (name, wanted) in [
        // `--dev` has neither users nor limits.
        ("user", "weak"),
        ("host", "weak"),
        ("namespaces", "ok"),
        ("network", "ok"),
        ("system-calls", "ok"),
        ("proc", "ok"),
        ("files", "ok"),
        ("egress", "ok"),
        ("credentials", "ok"),
    ] {
        assert_eq!(state(&told, name), wanted, "{name}: {told}");
    }
    let open =
        daemon.create(&json!({"agent": "test", "egress": {"allow": ["*"]}, "extraEnv": {"SECRET_OF_MINE": "do-not-tell"}}));
    let told = walls(&daemon, &open).to_string();
    assert!(told.contains("every name of the public network") && told.contains("SECRET_OF_MINE"), "{told}");
    assert!(!told.contains("do-not-tell"), "{told}");

    // A sandbox that lives keeps the walls that it was made with; the next one has those of now.
    daemon.stop();
    daemon.add_config("[sandbox]\nptrace = true\nrequire = \"strict\"\n");
    daemon.run();
    assert_eq!(result(&daemon.say(&session, "say: still")), "still");
    let told = walls(&daemon, &session);
    assert_eq!((&told["of"], state(&told, "proc")), (&json!("running"), "ok"), "{told}");
    assert_eq!(daemon.send("POST", &format!("/api/sessions/{session}/stop"), &json!({})).status, 200);
    let told = walls(&daemon, &session);
    assert_eq!((&told["of"], state(&told, "proc")), (&json!("next"), "weak"), "{told}");

    let refused = "sandbox.require is \"strict\", and the sandbox would not be: proc: debuggers work";
    let answer = daemon.send("POST", "/api/sessions", &json!({"agent": "test"}));
    assert!(answer.status == 422 && answer.text().contains("proc: debuggers work"), "{}: {}", answer.status, answer.text());
    assert!(answer.json()["error"].as_str().is_some_and(|error| error.starts_with(refused)), "{}", answer.text());
    let answer = daemon.send("POST", &format!("/api/sessions/{session}/resume"), &json!({}));
    assert!(
        answer.status == 500 && answer.json()["error"].as_str().is_some_and(|error| error.contains(refused)),
        "{}",
        answer.text()
    );
    let all = daemon.get("/api/sessions").json();
    assert_eq!(all["sessions"].as_array().map(Vec::len), Some(2), "none was made: {all}");
}
