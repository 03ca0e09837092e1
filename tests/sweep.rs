//! What belongs to nobody is removed while the daemon runs, and nothing else is; and a daemon whose
//! database is gone removes nothing.

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use support::http::{events, result};
use support::life::{act, digest, furnish, good, remembered, snapshots};
use support::{Daemon, Model, claude, wait_for};

fn start() -> Option<(Model, Daemon)> {
    let claude = claude()?;
    let model = Model::start();
    let daemon =
        Daemon::start_with(&claude, &model.url, "[sessions]\nsweep_every = \"1s\"\n[snapshots]\npolicy = \"pause-only\"");
    Some((model, daemon))
}

const NOBODY: &str = "01900000-0000-7000-8000-000000000000";

/// Makes a file below `top` at once: what is half made could be removed already.
fn make(top: &Path, path: &str) {
    let made = tempfile::tempdir_in(top).expect("a folder");
    let file = made.path().join(path);
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("makes");
    std::fs::write(file, "left").expect("writes");
    // What is there already is gone deeper into.
    let mut at = PathBuf::new();
    for name in Path::new(path) {
        at.push(name);
        if !top.join(&at).exists() {
            break;
        }
    }
    std::fs::rename(made.path().join(&at), top.join(&at)).expect("moves");
}

/// The three files of the database, elsewhere and back, or copied.
struct Files {
    data: PathBuf,
    away: tempfile::TempDir,
}

const FILES: [&str; 3] = ["ash.db", "ash.db-wal", "ash.db-shm"];

impl Files {
    fn of(daemon: &Daemon) -> Self {
        Self { data: daemon.data(), away: tempfile::tempdir_in(daemon.data()).expect("folder") }
    }

    fn each(from: &Path, to: &Path, change: impl Fn(PathBuf, PathBuf) -> std::io::Result<()>) {
        for name in FILES.iter().filter(|name| from.join(name).exists()) {
            change(from.join(name), to.join(name)).expect("changes");
        }
    }

    fn copy_away(&self) {
        Self::each(&self.data, self.away.path(), |from, to| std::fs::copy(from, to).map(drop));
    }

    fn move_away(&self) {
        Self::each(&self.data, self.away.path(), std::fs::rename);
    }

    fn put_back(&self) {
        for name in FILES {
            // Those of another state do not fit.
            let _ = std::fs::remove_file(self.data.join(name));
        }
        Self::each(self.away.path(), &self.data, |from, to| std::fs::copy(from, to).map(drop));
    }
}

#[test]
fn what_belongs_to_nobody_goes_and_the_rest_stays() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    let before = digest(&daemon, &session);
    assert!(daemon.send("POST", &format!("/api/sessions/{session}/snapshots"), &json!({})).status == 201);
    let data = daemon.data();
    let left = [
        format!("sandboxes/{NOBODY}/workspace/file"),
        "run/01900000-0000-7000-8000-000000000001.sock".to_owned(),
        format!("snapshots/{NOBODY}/0000000000000000007/manifest.json"),
        format!("snapshots/{session}/.new-0190/data.tar.zst"),
    ];
    left.iter().for_each(|path| make(&data, path));
    let left = left.map(|path| data.join(path));
    // What is being made meanwhile is nobody's left-over.
    let made: Vec<_> = (0..4).map(|_| daemon.create(&json!({"agent": "test"}))).collect();
    let forked = act(&daemon, &session, "fork");
    assert_eq!(forked.status, 201, "{}", forked.text());
    let fork = forked.json()["session"]["id"].as_str().expect("an id").to_owned();
    for path in &left {
        wait_for(&format!("{} is removed", path.display()), || (!path.exists()).then_some(()));
    }
    assert_eq!(digest(&daemon, &session), before);
    assert!(!snapshots(&daemon, &session).is_empty());
    good(&act(&daemon, &fork, "resume"));
    assert_eq!(digest(&daemon, &fork), before);
    for session in made {
        assert_eq!(remembered(&daemon, &session), 1);
    }
    assert!(!daemon.log().contains("nothing is swept"), "{}", daemon.log());
}

#[test]
fn sessions_that_come_and_go_while_sweeps_run_come_to_no_harm() {
    let Some((_model, daemon)) = start() else { return };
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    let end = Instant::now() + Duration::from_secs(8);
    let mut rounds = 0;
    while Instant::now() < end {
        let session = daemon.create(&json!({"agent": "test"}));
        assert_eq!(result(&daemon.say(&session, "say: on")), "on");
        good(&act(&daemon, &session, "stop"));
        good(&act(&daemon, &session, "resume"));
        assert_eq!(remembered(&daemon, &session), 2);
        daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({}));
        rounds += 1;
    }
    assert!(rounds > 0);
    // A session that just ended may be met while its own driver removes its sandbox, and nothing else.
    let log = daemon.log();
    assert!(!log.contains("removed what was left of a sandbox") && !log.contains("nothing is swept"), "{log}");
}

#[test]
fn a_database_that_is_deleted_costs_no_sandbox_and_is_told_of() {
    let Some((_model, mut daemon)) = start() else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    let before = digest(&daemon, &session);
    assert!(daemon.send("POST", &format!("/api/sessions/{session}/snapshots"), &json!({})).status == 201);
    assert_eq!(daemon.get("/health").json()["status"], "ok");
    let files = Files::of(&daemon);
    files.move_away();
    assert_eq!(daemon.get("/health").json()["status"], "degraded");
    let checks = daemon.get("/api/doctor").json();
    let database = checks["checks"].as_array().expect("a list").iter().find(|check| check["name"] == "database").cloned();
    let database = database.expect("it is looked at");
    let detail = database["detail"].as_str().expect("a text");
    assert!(database["status"] == "failed" && detail.contains("ash.db was deleted"), "{database}");
    wait_for("the journal says so", || daemon.log().contains("the database is lost").then_some(()));
    wait_for("and nothing is swept", || daemon.log().contains("nothing is swept").then_some(()));
    let shims = support::shims(&daemon);
    assert_eq!(shims.len(), 1);

    daemon.kill();
    let refused = daemon.command().output().expect("starts");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("1 sandboxes and the snapshots of 1 sessions on this host belong to another database"), "{said}");
    assert_eq!(support::shims(&daemon), shims, "its sandbox lives");

    files.put_back();
    daemon.run();
    assert_eq!(daemon.get("/health").json()["status"], "ok");
    assert_eq!(digest(&daemon, &session), before);
    assert_eq!(remembered(&daemon, &session), 4);
    assert_eq!(snapshots(&daemon, &session).len(), 1);
}

/// A session of which an older state of the database is put back, while its sandbox lives or not.
fn put_back(dies: bool) {
    let Some((_model, mut daemon)) = start() else { return };
    let session = daemon.session();
    assert_eq!(result(&daemon.say(&session, "say: first")), "first");
    daemon.kill();
    let files = Files::of(&daemon);
    files.copy_away();
    daemon.run();
    assert_eq!(result(&daemon.say(&session, "say: second")), "second");
    assert_eq!(result(&daemon.say(&session, "say: third")), "third");
    daemon.kill();
    if dies {
        support::kill_shims(&daemon);
    }
    files.put_back();
    daemon.run();
    assert_eq!(result(&daemon.say(&session, "say: fourth")), "fourth", "it takes messages");
    assert_eq!(result(&daemon.say(&session, "say: fifth")), "fifth");
    let turns = daemon.get(&format!("/api/sessions/{session}/turns")).json();
    let turns: Vec<_> =
        turns["turns"].as_array().expect("a list").iter().filter_map(|turn| turn["id"].as_str()).map(str::to_owned).collect();
    let answer = |turn: &String| result(&events(&daemon.get(&format!("/api/sessions/{session}/stream?turn={turn}")).text()));
    let answers: Vec<_> = turns.iter().map(answer).collect();
    assert_eq!(answers, ["first", "fourth", "fifth"], "what the log has is there once, and what it lost is not made up");
    let timeline = daemon.get(&format!("/api/sessions/{session}/events?limit=1000")).text();
    assert_eq!(timeline.matches("events_lost").count(), 1, "{timeline}");
    let said = result(&daemon.say(&session, "remember?"));
    // What was said just before a kill may not have come into the conversation.
    assert!(said.contains("say: second") && (dies || said.starts_with("user messages: 6 ")), "{said}");
}

#[test]
fn a_living_sandbox_goes_on_under_an_older_database() {
    put_back(false);
}

#[test]
fn a_dead_sandbox_goes_on_under_an_older_database() {
    put_back(true);
}
