//! What is kept of sessions that have ended, and what goes, when and by whose word.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use support::http::{Response, request, result};
use support::life::{act, good, remembered, show, snapshots, start};
use support::{Daemon, wait_for};

fn end(daemon: &Daemon, session: &str) -> Response {
    daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({}))
}

/// Waits until nothing of any sandbox is left, and so the last snapshots are taken.
fn all_gone(daemon: &Daemon) {
    wait_for("no sandbox is left", || {
        let left = std::fs::read_dir(daemon.data().join("sandboxes")).expect("reads").count();
        (left == 0 && support::shims(daemon).is_empty()).then_some(())
    });
}

fn fork(daemon: &Daemon, session: &str) -> String {
    let answer = act(daemon, session, "fork");
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["session"]["id"].as_str().expect("an id").to_owned()
}

#[test]
fn an_ended_session_goes_on_in_a_fork_as_it_was_at_its_end() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    daemon.say(&session, "write: /work/kept|as it was");
    assert_eq!(good(&end(&daemon, &session))["status"], "ended");
    // Not waited for: a fork does that.
    let fork = fork(&daemon, &session);
    let taken = snapshots(&daemon, &session).pop().expect("a snapshot");
    assert_eq!(taken["reason"], "end", "{taken}");
    good(&act(&daemon, &fork, "resume"));
    assert!(result(&daemon.say(&fork, "read: /work/kept")).contains("as it was"));
    assert_eq!(remembered(&daemon, &fork), 3);
}

#[test]
fn an_end_is_answered_at_once_and_interrupts_a_turn() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    daemon.say(&session, "write: /work/kept|as it was");
    let mut slow = daemon.post(&session, "slow: 60");
    slow.until("\"subtype\":\"init\"");
    assert_eq!(good(&end(&daemon, &session))["status"], "ended");
    assert!(slow.finish().text().contains(r#""state":"interrupted""#));
    all_gone(&daemon);
    let taken = snapshots(&daemon, &session).pop().expect("a snapshot");
    let last = daemon.get(&format!("/api/sessions/{session}/events?limit=1000")).json();
    let last = last["events"].as_array().and_then(|events| events.last().cloned()).expect("an event");
    assert_eq!((taken["reason"].as_str(), &taken["eventId"]), (Some("end"), &last["sequence"]), "nothing came after: {last}");
}

#[test]
fn a_session_whose_processes_died_is_packed_from_its_folder() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    daemon.say(&session, "write: /work/kept|as it was");
    support::kill_shims(&daemon);
    wait_for("it is cold", || (show(&daemon, &session)["sandboxState"] == "cold").then_some(()));
    good(&end(&daemon, &session));
    let fork = fork(&daemon, &session);
    good(&act(&daemon, &fork, "resume"));
    assert!(result(&daemon.say(&fork, "read: /work/kept")).contains("as it was"));
}

#[test]
fn a_crash_while_the_last_snapshot_is_taken_loses_neither_it_nor_the_host_a_folder() {
    let Some((_model, mut daemon)) = start("") else { return };
    let session = daemon.session();
    daemon.say(&session, "bash: head -c 200000000 /dev/urandom > /work/large && echo as it was > /work/kept");
    good(&end(&daemon, &session));
    daemon.kill();
    let folder = daemon.data().join("snapshots").join(&session);
    let whole = |name: std::ffi::OsString| !name.to_string_lossy().starts_with('.');
    let early = std::fs::read_dir(&folder).into_iter().flatten().any(|entry| whole(entry.expect("reads").file_name()));
    assert!(!early, "the crash came before the snapshot was whole, or this shows nothing");
    daemon.run();
    all_gone(&daemon);
    assert_eq!(snapshots(&daemon, &session).len(), 1);
    let fork = fork(&daemon, &session);
    good(&act(&daemon, &fork, "resume"));
    assert!(result(&daemon.say(&fork, "read: /work/kept")).contains("as it was"));

    // And after it was taken, before the folder was removed.
    let sandbox = show(&daemon, &session)["sandboxId"].as_str().expect("an id").to_owned();
    daemon.kill();
    let left = daemon.data().join("sandboxes").join(&sandbox);
    std::fs::create_dir(&left).expect("makes");
    daemon.run();
    wait_for("the folder is removed", || (!left.exists()).then_some(()));
    assert_eq!(snapshots(&daemon, &session).len(), 1, "it is not taken twice");
}

fn collect(daemon: &Daemon, dry: bool) -> Value {
    let answer = daemon.send("POST", "/api/gc", &json!({"dryRun": dry}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Kinds and names of what a report has.
fn named(report: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let removals = report["removals"].as_array().expect("a list");
    assert!(removals.iter().all(|one| one["error"].is_null() && one["reason"].is_string()), "{report:#}");
    removals.iter().map(|one| (text(&one["kind"]), text(&one["name"]))).collect()
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeSet<std::path::PathBuf> {
    let mut found = BTreeSet::new();
    for path in std::fs::read_dir(folder).expect("reads").map(|entry| entry.expect("reads").path()) {
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.insert(path);
    }
    found
}

/// Makes a folder as old as if it had been there for two days.
fn age(folder: &Path) {
    let then = SystemTime::now() - Duration::from_secs(2 * 86_400);
    std::fs::File::open(folder).and_then(|folder| folder.set_modified(then)).expect("sets the time");
}

#[test]
fn a_dry_run_changes_nothing_and_tells_exactly_what_the_next_run_removes() {
    let Some((_model, daemon)) = start("[retention]\nended_after = \"0s\"\nagent_versions = 2") else { return };
    let version = |text: &str| daemon.deploy("test", &[("CLAUDE.md", text)])["digest"].as_str().expect("a digest").to_owned();
    let folder = |digest: &str| daemon.data().join("agents").join(digest.strip_prefix("sha256:").expect("a digest"));
    let used = version("You are a test agent.\n");
    let busy = daemon.create(&json!({"agent": "test"}));
    let unused = version("2");
    let ended = daemon.create(&json!({"agent": "test"}));
    let kept = [version("3"), version("4")];
    let young = version("5");
    let back = version("3");
    assert_eq!(back, kept[0], "deployed again, it is the newest");
    for digest in [&used, &unused, &kept[0], &kept[1]] {
        age(&folder(digest));
    }
    good(&end(&daemon, &ended));
    let is_listed = || named(&collect(&daemon, true)).contains(&("session".to_owned(), ended.clone())).then_some(());
    wait_for("its last snapshot is taken", is_listed);
    let orphan = "01900000-0000-7000-8000-000000000000";
    let lost = daemon.data().join("snapshots").join(orphan).join(format!("{:019}", 3));
    std::fs::create_dir_all(&lost).expect("makes");
    std::fs::write(lost.join("manifest.json"), "{}").expect("writes");

    let mut slow = daemon.post(&busy, "slow: 8");
    slow.until("\"subtype\":\"init\"");
    let before = files(&daemon.data().join("snapshots"));
    let dry = collect(&daemon, true);
    // The one that was deployed again is the agent's; of "4" and "5" the latter is newer.
    let wanted = [
        ("session", ended.as_str()),
        ("orphan_snapshots", orphan),
        ("agent_version", unused.as_str()),
        ("agent_version", kept[1].as_str()),
    ];
    assert_eq!(named(&dry), wanted.map(|(kind, name)| (kind.to_owned(), name.to_owned())).into(), "{dry:#}");
    assert_eq!((dry["dryRun"].as_bool(), files(&daemon.data().join("snapshots"))), (Some(true), before));
    assert!(daemon.get(&format!("/api/sessions/{ended}")).ok_status() && folder(&unused).exists());
    let mut ashctl = Command::new(env!("CARGO_BIN_EXE_ashctl"));
    let server = format!("unix:{}", daemon.data().join("ash.sock").display());
    let shown = ashctl.args(["--server", &server, "gc", "--dry-run"]).output().expect("runs");
    let (out, talk) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert!(shown.status.success() && out.contains("orphan snapshots") && out.contains(&ended), "{out}{talk}");
    assert!(talk.starts_with("Would remove 4 "), "{talk}");

    let real = collect(&daemon, false);
    assert_eq!((&real["removals"], &real["bytes"]), (&dry["removals"], &dry["bytes"]));
    assert!(real["bytes"].as_u64() > Some(0), "{real:#}");
    assert_eq!(daemon.get(&format!("/api/sessions/{ended}")).status, 404);
    assert_eq!(daemon.get(&format!("/api/sessions/{ended}/messages")).status, 404);
    let left: Vec<_> = [&used, &unused, &kept[0], &kept[1], &young].into_iter().map(|digest| folder(digest).exists()).collect();
    assert_eq!(left, [true, false, true, false, true]);
    assert!(!lost.exists() && !daemon.data().join("snapshots").join(&ended).exists());
    assert_eq!(named(&collect(&daemon, false)), BTreeSet::new(), "there is nothing more");
    assert!(slow.finish().text().contains(r#""state":"completed""#), "a turn that runs does not notice");
    assert_eq!(remembered(&daemon, &busy), 2);

    let key = daemon.send("POST", "/api/api-keys", &json!({})).json()["key"].as_str().expect("a key").to_owned();
    let scraped = request(&daemon.tcp(), "GET", "/metrics", &[("authorization", &format!("Bearer {key}"))], None);
    assert!(
        scraped.head.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{}",
        scraped.head
    );
    let text = scraped.text();
    for line in [
        "ash_gc_removed_total{kind=\"session\"} 1",
        "ash_gc_removed_total{kind=\"agent_version\"} 2",
        "ash_snapshots_total{reason=\"end\"} 1",
        "ash_snapshot_failures_total 0",
        "ash_active_sessions 1",
        "ash_active_sandboxes 1",
        "ash_pool_sandboxes{state=\"waiting\"} 1",
    ] {
        assert!(text.lines().any(|is| is == line), "{line}\n{text}");
    }
    assert_eq!(request(&daemon.tcp(), "GET", "/metrics", &[], None).status, 401);
    let refused = [("authorization", format!("Bearer {key}")), ("content-type", "application/json".to_owned())];
    let refused = refused.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(request(&daemon.tcp(), "POST", "/api/gc", &refused, Some(b"{}")).status, 403);
    let bad = daemon.send("POST", "/api/gc", &json!({"dry": true}));
    assert!(bad.status == 400 && bad.text().contains("dry"), "{}", bad.text());
}

#[test]
fn snapshots_beyond_their_bound_go_but_for_the_one_that_a_session_needs() {
    let Some((_model, daemon)) = start("[snapshots]\nkeep = 10\n[retention]\nsnapshot_bytes = \"1M\"") else { return };
    let session = daemon.session();
    for round in 0..3 {
        daemon.say(&session, &format!("bash: head -c 900000 /dev/urandom > /work/noise && echo {round} > /work/round"));
        assert_eq!(daemon.send("POST", &format!("/api/sessions/{session}/snapshots"), &json!({})).status, 201);
    }
    good(&act(&daemon, &session, "stop"));
    let before = snapshots(&daemon, &session);
    assert_eq!(before.len(), 4, "{before:?}");
    let report = collect(&daemon, false);
    assert_eq!(named(&report).len(), 3, "{report:#}");
    assert_eq!(report["overBytes"], 0);
    assert_eq!(snapshots(&daemon, &session).first().map(|one| &one["eventId"]), Some(&before[3]["eventId"]));
    good(&act(&daemon, &session, "resume"));
    assert!(result(&daemon.say(&session, "read: /work/round")).contains('2'));
}
