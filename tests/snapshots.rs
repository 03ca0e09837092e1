//! Pause, resume, stop and fork with the real runtime: workspace and conversation are what they
//! were, whatever happened in between.

mod support;

use serde_json::json;
use support::http::result;
use support::life::{act, digest, fork, furnish, good, lifecycle, newest_folder, remembered, show, snapshots, start};
use support::{Daemon, wait_for};

fn has_processes(daemon: &Daemon) -> bool {
    !support::shims(daemon).is_empty()
}

#[test]
fn a_paused_session_takes_no_messages_and_goes_on_where_it_was() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    let before = digest(&daemon, &session);
    let paused = good(&act(&daemon, &session, "pause"));
    // Without systemd nothing can be frozen, so its processes end; `tests/box_pause.rs` has the rest.
    assert_eq!((paused["status"].as_str(), paused["sandboxState"].as_str()), (Some("paused"), Some("cold")));
    assert_eq!(snapshots(&daemon, &session).len(), 1);
    let refused = daemon.send("POST", &format!("/api/sessions/{session}/messages"), &json!({"content": "say: x"}));
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("Session is paused")));
    let again = act(&daemon, &session, "pause");
    assert_eq!((again.status, again.json()["error"].as_str()), (400, Some("Cannot pause session with status \"paused\"")));
    let resumed = good(&act(&daemon, &session, "resume"));
    assert_eq!(resumed["status"], "active");
    assert_eq!(good(&act(&daemon, &session, "resume"))["status"], "active", "resuming again changes nothing");
    // Its folder is newer than any snapshot.
    assert_eq!(lifecycle(&daemon, &session, "resumed"), [json!({"action": "resumed", "path": "cold", "source": "local"})]);
    assert_eq!(remembered(&daemon, &session), 3);
    assert_eq!(digest(&daemon, &session), before);
}

#[test]
fn a_stopped_session_has_no_processes_and_comes_back_from_its_snapshot() {
    let Some((_model, mut daemon)) = start("") else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    let mut before = digest(&daemon, &session);
    for round in 0..5 {
        assert_eq!(good(&act(&daemon, &session, "stop"))["status"], "stopped");
        wait_for("its processes are gone", || (!has_processes(&daemon)).then_some(()));
        let left = std::fs::read_dir(daemon.data().join("sandboxes")).expect("reads").count();
        assert_eq!(left, 0, "a whole snapshot takes the place of the folder");
        match round {
            1 => {
                daemon.stop();
                daemon.run();
            }
            3 => {
                daemon.kill();
                daemon.run();
            }
            _ => {}
        }
        assert_eq!(good(&act(&daemon, &session, "resume"))["status"], "active");
        assert_eq!(digest(&daemon, &session), before, "round {round}");
        // Two messages before the first round, and four in each.
        assert_eq!(remembered(&daemon, &session), 4 + 4 * round, "round {round}");
        daemon.say(&session, &format!("bash: rm -f round-*; head -c 1000 /dev/urandom > round-{round}"));
        before = digest(&daemon, &session);
    }
    let resumed = lifecycle(&daemon, &session, "resumed");
    assert_eq!(resumed.len(), 5, "{resumed:?}");
    for (resumed, stopped) in resumed.iter().zip(lifecycle(&daemon, &session, "snapshot")) {
        let wanted = json!({"action": "resumed", "path": "cold", "source": "local", "event": stopped["event"]});
        assert_eq!(*resumed, wanted);
    }
    assert_eq!(snapshots(&daemon, &session).len(), 3, "older ones are let go");
    let stopped = act(&daemon, &session, "stop");
    assert!(stopped.ok_status());
    let again = act(&daemon, &session, "stop");
    assert_eq!((again.status, again.json()["error"].as_str()), (400, Some("Cannot stop session with status \"stopped\"")));
}

#[test]
fn an_idle_session_is_parked_and_the_next_message_brings_it_back() {
    let Some((_model, daemon)) = start("[sessions]\nfreeze_after = \"1s\"\npark_after = \"1s\"") else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    let before = digest(&daemon, &session);
    wait_for("it is parked", || (show(&daemon, &session)["sandboxState"] == "cold").then_some(()));
    wait_for("its processes are gone", || (!has_processes(&daemon)).then_some(()));
    assert_eq!(show(&daemon, &session)["status"], "active");
    assert_eq!(digest(&daemon, &session), before, "a message starts it again");
    let resumed = lifecycle(&daemon, &session, "resumed");
    assert!(resumed.iter().all(|one| one["path"] == "cold" && one["source"] == "local" && one["event"].is_u64()), "{resumed:?}");
    assert!(!resumed.is_empty());
    assert_eq!(remembered(&daemon, &session), 4);
}

#[test]
fn a_session_that_is_parked_again_and_again_over_restarts_is_what_it_was() {
    let Some((_model, mut daemon)) = start("[sessions]\nfreeze_after = \"1s\"\npark_after = \"1s\"") else { return };
    // An agent may ask for less than the host gives, never for more.
    let times = "[sessions]\nfreeze_after = \"1h\"\npark_after = \"2h\"\n";
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n"), ("ash.toml", times)]);
    let session = daemon.create(&json!({"agent": "test"}));
    furnish(&daemon, &session);
    let (mut before, mut said) = (digest(&daemon, &session), 2);
    for round in 0..5 {
        let sandboxes = daemon.data().join("sandboxes");
        wait_for("it is parked", || std::fs::read_dir(&sandboxes).expect("reads").next().is_none().then_some(()));
        if round % 2 == 0 {
            daemon.stop();
        } else {
            daemon.kill();
        }
        daemon.run();
        assert_eq!(show(&daemon, &session)["status"], "active");
        assert_eq!(digest(&daemon, &session), before, "round {round}");
        daemon.say(&session, &format!("bash: rm -f round-*; head -c 1000 /dev/urandom > round-{round}"));
        said += 3;
        assert_eq!(remembered(&daemon, &session), said, "round {round}");
        (before, said) = (digest(&daemon, &session), said + 1);
    }
    assert!(lifecycle(&daemon, &session, "resumed").len() >= 5);
}

#[test]
fn agents_say_when_snapshots_are_taken_and_when_processes_end() {
    let Some((_model, daemon)) = start("[sessions]\nfreeze_after = \"1s\"\npark_after = \"1h\"") else { return };
    let session = |name: &str, rules: &str| {
        daemon.deploy(name, &[("CLAUDE.md", "You are a test agent.\n"), ("ash.toml", rules)]);
        let session = daemon.create(&json!({"agent": name}));
        daemon.say(&session, "bash: touch x");
        session
    };
    let reasons = |session: &str| -> Vec<_> {
        let reason = |one: &serde_json::Value| one["reason"].as_str().expect("a reason").to_owned();
        snapshots(&daemon, session).iter().map(reason).collect()
    };
    let never = session("never", "[snapshots]\npolicy = \"pause-only\"\n");
    let parked = session("parked", "[sessions]\npark_after = \"1s\"\n");
    let idle = session("idle", "");
    wait_for("what is idle is kept", || (!reasons(&idle).is_empty()).then_some(()));
    wait_for("the one that asks for it is parked", || (show(&daemon, &parked)["sandboxState"] == "cold").then_some(()));
    // Both were idle for longer than that one.
    assert_eq!((reasons(&never), reasons(&idle)), (Vec::new(), vec!["idle".to_owned()]));
    for up in [&never, &idle] {
        assert_eq!(show(&daemon, up)["sandboxState"], "waiting", "those which do not are not");
    }
    good(&act(&daemon, &never, "pause"));
    assert_eq!(reasons(&never), ["pause"]);
    daemon.say(&idle, "bash: touch y");
    wait_for("a change is kept again", || (reasons(&idle).len() == 2).then_some(()));
}

#[test]
fn a_fork_has_the_secrets_of_now_and_its_snapshot_has_none() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    let secrets = |key: &str, word: &str| {
        let env = json!({"env": {"ANTHROPIC_API_KEY": key, "WORD": word}});
        assert!(daemon.send("PATCH", "/api/agents/test", &env).ok_status());
    };
    secrets(support::MODEL_KEY, "first");
    let parent = daemon.create(&json!({"agent": "test"}));
    assert!(result(&daemon.say(&parent, "bash: printenv WORD")).contains("first"));
    let child = fork(&daemon, &parent);
    let packed = std::fs::File::open(newest_folder(&daemon, &child).join("data.tar.zst")).expect("opens");
    let packed = zstd::stream::decode_all(packed).expect("unpacks");
    let holds = |word: &str| packed.windows(word.len()).any(|window| window == word.as_bytes());
    assert!(holds("printenv WORD") && !holds(support::MODEL_KEY));

    secrets("sk-ant-revoked", "second");
    good(&act(&daemon, &child, "resume"));
    let end = daemon.say(&child, "bash: printenv WORD").pop().expect("an end").data;
    assert_eq!(end["state"], "failed", "the key of its parent is not its own: {end}");
    assert!(result(&daemon.say(&parent, "bash: printenv WORD")).contains("first"), "its parent's sandbox is what it was");
    secrets(support::MODEL_KEY, "second");
    good(&act(&daemon, &child, "stop"));
    good(&act(&daemon, &child, "resume"));
    assert!(result(&daemon.say(&child, "bash: printenv WORD")).contains("second"));
}

#[test]
fn a_fork_goes_on_from_its_parent_and_both_go_their_ways() {
    let Some((_model, daemon)) = start("") else { return };
    let parent = daemon.session();
    furnish(&daemon, &parent);
    let forked = act(&daemon, &parent, "fork");
    assert_eq!(forked.status, 201, "{}", forked.text());
    let child = forked.json()["session"].clone();
    assert_eq!((child["status"].as_str(), child["parentSessionId"].as_str()), (Some("paused"), Some(parent.as_str())));
    let child = child["id"].as_str().expect("an id").to_owned();
    let messages =
        |session: &str| daemon.get(&format!("/api/sessions/{session}/messages")).json()["messages"].as_array().map(Vec::len);
    assert_eq!(messages(&child), messages(&parent));
    good(&act(&daemon, &child, "resume"));
    assert_eq!(digest(&daemon, &child), digest(&daemon, &parent));
    daemon.say(&child, "bash: echo child > /work/whose");
    daemon.say(&parent, "bash: echo parent > /work/whose");
    assert!(result(&daemon.say(&child, "read: /work/whose")).contains("child"));
    assert!(result(&daemon.say(&parent, "read: /work/whose")).contains("parent"));
    assert_eq!((remembered(&daemon, &child), remembered(&daemon, &parent)), (5, 5));

    let event = snapshots(&daemon, &parent)[0]["eventId"].as_i64().expect("a number");
    let early = daemon.send("POST", &format!("/api/sessions/{parent}/fork"), &json!({"eventId": event}));
    let early = early.json()["session"]["id"].as_str().expect("an id").to_owned();
    good(&act(&daemon, &early, "resume"));
    assert_eq!(remembered(&daemon, &early), 2, "from what it was then");
    let none = daemon.send("POST", &format!("/api/sessions/{parent}/fork"), &json!({"eventId": 1}));
    assert_eq!(none.status, 404, "{}", none.text());
}

#[test]
fn a_turn_that_runs_is_interrupted_by_a_pause_and_waited_for_by_a_snapshot() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let mut slow = daemon.post(&session, "slow: 2");
    slow.until("session_start");
    let taken = daemon.send("POST", &format!("/api/sessions/{session}/snapshots"), &json!({}));
    assert_eq!(taken.status, 201, "{}", taken.text());
    assert!(slow.finish().text().contains(r#""state":"completed""#));
    let mut slow = daemon.post(&session, "slow: 60");
    slow.until("\"subtype\":\"init\"");
    assert_eq!(good(&act(&daemon, &session, "pause"))["status"], "paused");
    assert!(slow.finish().text().contains(r#""state":"interrupted""#));
    good(&act(&daemon, &session, "resume"));
    assert_eq!(remembered(&daemon, &session), 3);
}

#[test]
fn an_agent_asks_for_a_snapshot_after_every_turn_and_leaves_things_out() {
    let Some((_model, daemon)) = start("[snapshots]\nkeep = 2") else { return };
    let rules = "[snapshots]\npolicy = \"every-turn\"\nexclude = [\"cache\"]\n";
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n"), ("ash.toml", rules)]);
    let session = daemon.create(&json!({"agent": "test"}));
    daemon.say(&session, "bash: mkdir cache kept && touch cache/x kept/x");
    let first = wait_for("a snapshot of the turn", || snapshots(&daemon, &session).pop());
    assert_eq!(first["reason"], "turn", "{first}");
    for turn in 0..3 {
        daemon.say(&session, &format!("say: {turn}"));
    }
    wait_for("old ones are let go", || {
        let left = snapshots(&daemon, &session);
        (left.len() == 2 && left[0]["eventId"].as_i64() > first["eventId"].as_i64()).then_some(())
    });
    good(&act(&daemon, &session, "stop"));
    good(&act(&daemon, &session, "resume"));
    let listed = result(&daemon.say(&session, "bash: ls"));
    assert!(listed.contains("kept") && !listed.contains("cache"), "{listed}");
}

#[test]
fn what_can_not_be_resumed_says_why() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({}));
    let over = act(&daemon, &session, "resume");
    let sentence = "Session has ended — create a new session";
    assert_eq!((over.status, over.json()["error"].as_str()), (410, Some(sentence)));
    for verb in ["pause", "stop", "resume", "fork", "snapshots"] {
        let unknown = act(&daemon, "01900000-0000-7000-8000-000000000000", verb);
        assert_eq!(unknown.status, 404, "{verb}: {}", unknown.text());
    }
    let session = daemon.create(&json!({"agent": "test"}));
    assert_eq!(good(&act(&daemon, &session, "stop"))["status"], "stopped");
    let digest = daemon.get("/api/agents/test").json()["agent"]["digest"].as_str().map(str::to_owned);
    let digest = digest.expect("a digest");
    std::fs::remove_dir_all(daemon.data().join("agents").join(digest.trim_start_matches("sha256:"))).expect("removes");
    for verb in ["resume", "fork"] {
        let missing = act(&daemon, &session, verb);
        let sentence = missing.json()["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(missing.status, 422, "{sentence}");
        let folder = daemon.data().join("agents");
        assert!(sentence.contains("The agent \"test\"") && sentence.contains(&*folder.to_string_lossy()), "{sentence}");
        assert!(sentence.contains(digest.trim_start_matches("sha256:")), "{sentence}");
    }
    assert_eq!(show(&daemon, &session)["status"], "stopped");
    // The same files are the same version.
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    assert_eq!(good(&act(&daemon, &session, "resume"))["status"], "active");
}

#[test]
fn a_sandbox_that_dies_goes_on_from_its_folder_and_not_from_an_older_snapshot() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    good(&act(&daemon, &session, "pause"));
    good(&act(&daemon, &session, "resume"));
    daemon.say(&session, "write: /work/newer|than the snapshot");
    support::kill_shims(&daemon);
    // A turn that is given to one that dies is not given again.
    wait_for("that is noticed", || (show(&daemon, &session)["sandboxState"] == "cold").then_some(()));
    assert!(result(&daemon.say(&session, "read: /work/newer")).contains("than the snapshot"));
}

/// What the session was made with, as its turns and whoever lists it see it.
fn settings(daemon: &Daemon, session: &str) -> [String; 5] {
    let said = |text: &str| result(&daemon.say(session, text));
    let model = said("whoami").split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    let row = show(daemon, session);
    [
        model,
        said("bash: printenv MINE THEIRS"),
        said(r#"mcp: add {"a": 2, "b": 3}"#),
        // Neither allowed nor granted, so it would be asked for, and nobody answers.
        said("write: /work/forbidden|x"),
        format!("{} {}", row["model"], row["config"]),
    ]
}

#[test]
fn what_a_session_was_made_with_is_the_same_after_a_cold_resume() {
    let Some((_model, mut daemon)) = start("[permissions]\ntimeout = \"1s\"") else { return };
    let server = include_str!("fixtures/full-agent/server.py");
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n"), ("server.py", server)]);
    let patched = daemon.send("PATCH", "/api/agents/test", &json!({"env": {"THEIRS": "of the agent"}}));
    assert!(patched.ok_status(), "{}", patched.text());
    let session = daemon.create(&json!({
        "agent": "test", "model": "claude-one", "extraEnv": {"MINE": "of the session"}, "permissionMode": "ask",
        "allowedTools": ["Bash(printenv:*)", "mcp__sums"], "systemPrompt": "You are another one.",
        "mcpServers": {"sums": {"command": "python3", "args": ["/work/server.py"]}},
    }));
    let changed = daemon.send("PATCH", &format!("/api/sessions/{session}/config"), &json!({"model": "claude-two"}));
    assert!(changed.ok_status(), "{}", changed.text());
    // What is granted once for the session needs no other answer.
    wait_for("it is granted before nobody has answered for a second", || {
        let _open = daemon.post(&session, "bash: touch /work/one");
        let pending = wait_for("it asks", || {
            let listed = daemon.get(&format!("/api/sessions/{session}/permissions?state=pending")).json();
            listed["permissions"].as_array().and_then(|all| all.first().cloned())
        });
        let path = format!("/api/sessions/{session}/permissions/{}", pending["id"].as_str().expect("an id"));
        daemon.send("POST", &path, &json!({"behavior": "allow", "scope": "session"})).ok_status().then_some(())
    });
    let before = settings(&daemon, &session);
    assert!(before[0].contains("claude-two") && before[1].contains("of the session\nof the agent"), "{before:?}");
    assert!(before[2].contains("5") && before[3].contains("error"), "{before:?}");
    for round in 0..2 {
        good(&act(&daemon, &session, "stop"));
        daemon.kill();
        daemon.run();
        good(&act(&daemon, &session, "resume"));
        assert_eq!(settings(&daemon, &session), before, "round {round}");
        assert!(result(&daemon.say(&session, "sysgrep: You are another one")).contains("True"));
        let touched = result(&daemon.say(&session, "bash: touch /work/one && echo touched"));
        assert!(touched.contains("touched"), "what was granted holds: {touched}");
    }
}

#[test]
fn two_resumes_at_once_are_one() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    good(&act(&daemon, &session, "stop"));
    let states: Vec<_> = std::thread::scope(|scope| {
        let resuming: Vec<_> = (0..4).map(|_| scope.spawn(|| good(&act(&daemon, &session, "resume")))).collect();
        resuming.into_iter().map(|one| one.join().expect("no panic")["sandboxState"].clone()).collect()
    });
    assert_eq!(states, vec![json!("waiting"); 4], "all are told when it is up");
    assert_eq!(lifecycle(&daemon, &session, "resumed").len(), 1);
    assert_eq!(support::shims(&daemon).len(), 1);
    assert_eq!(remembered(&daemon, &session), 2);
}

#[test]
fn a_fork_during_a_turn_has_the_whole_turn_and_forks_can_be_forked() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    let parent = daemon.create(&json!({"agent": "test", "extraEnv": {"MINE": "of the session"}}));
    daemon.say(&parent, "write: /work/log|first\\n");
    let mut slow = daemon.post(&parent, "slow: 2");
    slow.until("tick 1");
    let child = fork(&daemon, &parent);
    assert!(slow.finish().text().contains(r#""state":"completed""#), "it is waited for");
    // It was never resumed: its sandbox comes up for this alone.
    let grandchild = fork(&daemon, &child);
    assert_eq!(show(&daemon, &grandchild)["parentSessionId"].as_str(), Some(child.as_str()));
    assert_eq!(show(&daemon, &child)["status"], "paused");
    let patched = daemon.send("PATCH", "/api/agents/test", &json!({"env": {"THEIRS": "new"}}));
    assert!(patched.ok_status(), "{}", patched.text());
    for (session, name) in [(&child, "child"), (&grandchild, "grandchild")] {
        good(&act(&daemon, session, "resume"));
        assert_eq!(remembered(&daemon, session), 3, "{name}");
        daemon.say(session, &format!("bash: echo {name} >> log"));
        // A conversation that goes on in another session has that session's environment.
        let env = result(&daemon.say(session, "bash: printenv MINE THEIRS"));
        assert!(env.contains("of the session\nnew"), "{env}");
        assert!(result(&daemon.say(session, "auth?")).contains("x-api-key"), "the key is given anew");
    }
    daemon.say(&parent, "bash: echo parent >> log");
    for (session, said, count) in
        [(&parent, "first\nparent", 4), (&child, "first\nchild", 7), (&grandchild, "first\ngrandchild", 7)]
    {
        let log = result(&daemon.say(session, "bash: cat log"));
        assert_eq!(log, format!("result: {said}"));
        assert_eq!(remembered(&daemon, session), count + 1, "{said}");
    }
}

#[test]
fn what_a_fork_shares_on_the_disk_changes_for_neither() {
    use std::os::unix::fs::MetadataExt;
    let Some((_model, daemon)) = start("[snapshots]\nkeep = 1") else { return };
    let parent = daemon.session();
    furnish(&daemon, &parent);
    good(&act(&daemon, &parent, "stop"));
    let child = fork(&daemon, &parent);
    let data = newest_folder(&daemon, &child).join("data.tar.zst");
    let of_parent = newest_folder(&daemon, &parent).join("data.tar.zst");
    let inode = |path: &std::path::Path| std::fs::metadata(path).expect("there").ino();
    assert_eq!(inode(&data), inode(&of_parent), "the bytes are on the disk once");
    let before = std::fs::read(&data).expect("reads");
    // The parent goes on, its snapshot is let go, and then it ends.
    good(&act(&daemon, &parent, "resume"));
    daemon.say(&parent, "bash: rm -rf * .hidden && echo other > a");
    good(&act(&daemon, &parent, "stop"));
    wait_for("the old one is let go", || (!of_parent.exists()).then_some(()));
    daemon.send("DELETE", &format!("/api/sessions/{parent}"), &json!({}));
    assert_eq!(std::fs::read(&data).expect("reads"), before);
    good(&act(&daemon, &child, "resume"));
    let listed = result(&daemon.say(&child, "bash: cat a/b/one hard link; stat -c %s random"));
    assert_eq!(listed, "result: one\none\none\n300000");
    assert_eq!(remembered(&daemon, &child), 3);
}
