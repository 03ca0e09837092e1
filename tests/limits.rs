//! Limits over the API, with the real runtime: whose word counts, changed while the session lives, and what
//! becomes of turns that reach one. What systemd enforces is tested in `box_limits.rs`.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::http::{Event, result};
use support::life::start;
use support::{Daemon, wait_for};

const PROMPT: &str = "You are a test agent.\n";

fn path(session: &str) -> String {
    format!("/api/sessions/{session}/limits")
}

fn change(daemon: &Daemon, session: &str, change: &Value) -> Value {
    let answer = daemon.send("PATCH", &path(session), change);
    assert_eq!(answer.status, 200, "{change}: {}", answer.text());
    answer.json()
}

/// State, cause and limit at the end of a turn.
fn end(events: &[Event]) -> (String, String, Value) {
    let done = events.last().expect("an end");
    let text = |name: &str| done.data[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(done.name, "done", "{events:?}");
    (text("state"), text("cause"), done.data["limit"].clone())
}

fn lifecycle(daemon: &Daemon, session: &str) -> Vec<Value> {
    let listed = daemon.get(&format!("/api/sessions/{session}/events?type=lifecycle&limit=1000")).json();
    let rows = listed["events"].as_array().unwrap_or_else(|| panic!("{listed}")).clone();
    rows.iter().map(|row| serde_json::from_str(row["data"].as_str().expect("data")).expect("JSON")).collect()
}

#[test]
fn the_sessions_word_counts_then_the_agents_then_the_hosts_and_the_operator_bounds_all() {
    let extra = "[limits]\nmemory = \"600M\"\nturn = \"1h\"\n[max_limits]\nmemory = \"2G\"\ntasks = 512\ntokens = 1000000\n";
    let Some((_model, mut daemon)) = start(extra) else { return };
    daemon.deploy("own", &[("CLAUDE.md", PROMPT), ("ash.toml", "[limits]\nmemory = \"800M\"\ntasks = 4000\ncpu = \"50%\"\n")]);
    let session = daemon.create(&json!({"agent": "own", "limits": {"cpuPercent": 60, "maxTokens": 5000}}));
    let shown = daemon.get(&path(&session)).json();
    for (field, wanted) in [
        ("memoryMb", json!(800)),
        ("maxProcesses", json!(512)),
        ("cpuPercent", json!(60)),
        ("turnSeconds", json!(3600)),
        ("maxTokens", json!(5000)),
        ("diskMb", json!(5120)),
        ("swapMb", json!(0)),
        ("maxCostUsd", Value::Null),
    ] {
        assert_eq!(shown["limits"][field], wanted, "{field}: {shown}");
    }
    assert_eq!(shown["session"], json!({"cpuPercent": 60, "maxTokens": 5000}));
    assert_eq!((&shown["max"]["memoryMb"], &shown["max"]["cpuPercent"]), (&json!(2048), &json!(200)));
    assert_eq!(shown["spent"], json!({"tokens": 0, "costUsd": 0.0}));
    let object = daemon.get(&format!("/api/sessions/{session}")).json();
    assert_eq!((&object["session"]["limits"], &object["session"]["spent"]), (&shown["limits"], &shown["spent"]));

    let changed = change(&daemon, &session, &json!({"memoryMb": 2048, "cpuPercent": null, "maxOpenFiles": 1000}));
    assert_eq!(changed["session"], json!({"memoryMb": 2048, "maxTokens": 5000, "maxOpenFiles": 1000}));
    assert_eq!((&changed["limits"]["cpuPercent"], &changed["pending"]), (&json!(50), &json!(["maxOpenFiles"])));
    let told = json!({"action": "limits", "limits": changed["session"]});
    assert!(lifecycle(&daemon, &session).contains(&told));

    daemon.kill();
    daemon.run();
    assert_eq!(daemon.get(&path(&session)).json()["session"], changed["session"], "after a restart");
    for verb in ["stop", "resume"] {
        assert_eq!(daemon.send("POST", &format!("/api/sessions/{session}/{verb}"), &json!({})).status, 200);
    }
    assert_eq!(daemon.get(&path(&session)).json()["limits"], changed["limits"], "in another sandbox");
    let fork = daemon.send("POST", &format!("/api/sessions/{session}/fork"), &json!({}));
    assert_eq!(fork.status, 201, "{}", fork.text());
    let fork = fork.json()["session"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(daemon.get(&path(&fork)).json()["session"], changed["session"], "a fork has them, too");
}

#[test]
fn a_limit_that_can_not_be_is_refused_by_field_and_bound() {
    let Some((_model, daemon)) = start("[max_limits]\ntasks = 300\nturn = \"10m\"") else { return };
    let session = daemon.session();
    let before = daemon.get(&path(&session)).json();
    assert_eq!(before["limits"]["turnSeconds"], 600, "what the operator bounds is not unlimited");
    for (limits, field, reason) in [
        (json!({"memoryMb": 4096}), "memoryMb", "4096 is more than 1024, the most that the operator of this host allows"),
        (json!({"maxProcesses": 301}), "maxProcesses", "301 is more than 300"),
        (json!({"turnSeconds": 601}), "turnSeconds", "601 is more than 600"),
        (json!({"swapMb": 1}), "swapMb", "1 is more than 0"),
        (json!({"idleSeconds": 1801}), "idleSeconds", "1801 is more than 1800"),
        (json!({"maxProcesses": 1}), "maxProcesses", "1 is not between 24 and 4000000"),
        (json!({"memoryMb": "1G"}), "memoryMb", "invalid type"),
        (json!({"memoryMb": 512, "memoryHighMb": 513}), "memoryHighMb", "513 is more than memoryMb, 512"),
        (json!({"memory": 512}), "memory", "unknown field"),
    ] {
        for (method, path, body, field) in [
            ("PATCH", path(&session), limits.clone(), field.to_owned()),
            ("POST", "/api/sessions".to_owned(), json!({"agent": "test", "limits": limits}), format!("limits.{field}")),
        ] {
            let answer = daemon.send(method, &path, &body);
            let details = &answer.json()["details"][0];
            assert_eq!((answer.status, details["field"].as_str()), (400, Some(field.as_str())), "{body}: {}", answer.text());
            assert!(details["reason"].as_str().is_some_and(|said| said.contains(reason)), "{body}: {}", answer.text());
        }
    }
    let answer = daemon.send("PATCH", &format!("/api/sessions/{session}/config"), &json!({"limits": {}}));
    assert_eq!((answer.status, answer.json()["details"][0]["field"].as_str()), (400, Some("limits")), "{}", answer.text());
    assert_eq!(daemon.get(&path(&session)).json(), before, "nothing was changed");
}

#[test]
fn a_turn_that_takes_too_long_is_interrupted_by_name_and_the_session_goes_on() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("test", &[("CLAUDE.md", PROMPT)]);
    let session = daemon.create(&json!({"agent": "test", "limits": {"turnSeconds": 2}}));
    let (state, cause, limit) = end(&daemon.say(&session, "bash: tail -f /dev/null"));
    assert_eq!((state.as_str(), &limit), ("interrupted", &json!("turn_time")), "{cause}");
    assert_eq!(cause, "turn_time: the turn has run for 2 s, as long as it may");
    let turns = daemon.get(&format!("/api/sessions/{session}/turns")).json();
    assert_eq!(turns["turns"][0]["limit"], "turn_time", "{turns}");
    change(&daemon, &session, &json!({"turnSeconds": null}));
    assert_eq!(result(&daemon.say(&session, "bash: sleep 3; echo in peace")), "result: in peace");
}

#[test]
fn tokens_that_are_spent_end_turns_by_name_until_there_are_more() {
    let Some((_model, mut daemon)) = start("") else { return };
    daemon.deploy("test", &[("CLAUDE.md", PROMPT)]);
    let session = daemon.create(&json!({"agent": "test", "limits": {"maxTokens": 1000}}));
    // A call that began within the budget is finished.
    daemon.say(&session, "usage: 900 200");
    let spent = daemon.get(&path(&session)).json()["spent"]["tokens"].as_u64().expect("a number");
    assert!(spent >= 1100, "{spent}");
    let refused = |daemon: &Daemon| {
        let events = daemon.say(&session, "say: once more");
        let (state, cause, limit) = end(&events);
        assert_eq!((state.as_str(), &limit), ("failed", &json!("budget")), "{events:?}");
        assert_eq!(cause, format!("budget: the session has 1000 tokens, and {spent} are spent"));
        let error = events.iter().find(|event| event.name == "error").expect("an error");
        assert!(error.data["error"].as_str().is_some_and(|said| said.contains(&cause)), "{error:?}");
    };
    refused(&daemon);
    daemon.kill();
    daemon.run();
    refused(&daemon);
    for verb in ["stop", "resume"] {
        assert_eq!(daemon.send("POST", &format!("/api/sessions/{session}/{verb}"), &json!({})).status, 200);
    }
    // By another shim.
    refused(&daemon);
    change(&daemon, &session, &json!({"maxTokens": 10_000_000}).clone());
}

#[test]
fn a_turn_whose_shim_is_killed_has_spent_what_it_took() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("test", &[("CLAUDE.md", PROMPT)]);
    let session = daemon.create(&json!({"agent": "test", "limits": {"maxTokens": 1_000_000}}));
    daemon.say(&session, "usage: 10 20");
    let spent = || daemon.get(&path(&session)).json()["spent"]["tokens"].as_u64().expect("a number");
    let before = spent();
    let sandboxes = daemon.data().join("sandboxes");
    let tab = || {
        let folders = std::fs::read_dir(&sandboxes).expect("reads").map(|entry| entry.expect("reads").path());
        let text = folders.filter_map(|folder| std::fs::read(folder.join("spool/tab")).ok()).next()?;
        let page: Value = serde_json::from_slice(&text).ok()?;
        let models = page["models"].as_object().filter(|models| !models.is_empty() && page["billed_by"].is_null())?;
        let tokens =
            |usage: &Value| ["inputTokens", "outputTokens"].map(|name| usage[name].as_u64().unwrap_or(0)).iter().sum::<u64>();
        Some(models.values().map(tokens).sum::<u64>()).filter(|tokens| *tokens > 0)
    };
    let took = std::thread::scope(|scope| {
        let turn = scope.spawn(|| end(&daemon.say(&session, "bash: while [ ! -e go ]; do :; done")));
        let took = wait_for("what the turn takes to be written down", tab);
        support::kill_shims(&daemon);
        assert_eq!(turn.join().expect("it ends").0, "interrupted");
        took
    });
    assert_eq!(spent(), before + took, "once, and all that was told");
    change(&daemon, &session, &json!({"maxTokens": before + took}));
    let (state, _, limit) = end(&daemon.say(&session, "say: once more"));
    assert_eq!((state.as_str(), limit), ("failed", json!("budget")));
    assert_eq!(spent(), before + took);
}

#[test]
fn what_is_called_after_the_last_turn_of_a_sandbox_is_spent_too() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("test", &[("CLAUDE.md", PROMPT)]);
    let session = daemon.create(&json!({"agent": "test", "limits": {"maxTokens": 100_000}}));
    daemon.say(&session, "usage: 10 20");
    let spent = |session: &str| daemon.get(&path(session)).json()["spent"].clone();
    let tokens = |spent: &Value| spent["tokens"].as_u64().expect("a number");
    let before = spent(&session);
    let call = r#"bash -c 'exec 3<>/dev/tcp/127.0.0.1/4000
b='"'"'{"model":"claude-opus-5-5","max_tokens":99,"messages":[{"role":"user","content":"usage: 90000 10000"}]}'"'"'
printf "POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %s\r\n\r\n%s" ${#b} "$b" >&3
cat <&3'"#;
    let call_model = || {
        let called = daemon.send("POST", &format!("/api/sessions/{session}/exec"), &json!({"command": call})).json();
        assert!(called["stdout"].as_str().is_some_and(|said| said.contains("usage set to 90000 in")), "{called}");
    };
    call_model();
    assert_eq!(spent(&session), before, "no turn is over since");
    assert_eq!(daemon.send("POST", &format!("/api/sessions/{session}/stop"), &json!({})).status, 200);
    let after = spent(&session);
    assert_eq!(tokens(&after), tokens(&before) + 100_000);
    let told = lifecycle(&daemon, &session).into_iter().find(|data| data["action"] == "usage").expect("told");
    assert_eq!(told["models"]["claude-opus-5-5"]["inputTokens"], 90_000);
    let dollars = |value: &Value| value["costUsd"].as_f64().expect("known");
    assert!(
        (dollars(&after) - dollars(&before) - dollars(&told)).abs() < 1e-9 && dollars(&told) > 0.1,
        "{before} {after} {told}"
    );
    let turns = daemon.get(&format!("/api/sessions/{session}/turns")).json();
    assert_eq!(turns["turns"][0]["usage"]["costUsd"], after["costUsd"], "on the bill of its last turn");

    let fork = daemon.send("POST", &format!("/api/sessions/{session}/fork"), &json!({})).json();
    assert_eq!(tokens(&spent(fork["session"]["id"].as_str().expect("an id"))), 0);
    assert_eq!(daemon.send("POST", &format!("/api/sessions/{session}/resume"), &json!({})).status, 200);
    let (state, cause, limit) = end(&daemon.say(&session, "say: once more"));
    assert_eq!((state.as_str(), &limit), ("failed", &json!("budget")), "{cause}");
    assert_eq!(tokens(&spent(&session)), tokens(&after), "counted once");

    // Where no snapshot takes its place, its shim tells.
    change(&daemon, &session, &json!({"maxTokens": 1_000_000}));
    call_model();
    for shim in support::shims(&daemon) {
        kill(Pid::from_raw(shim), Signal::SIGTERM).expect("asked to stop");
    }
    wait_for("it is told", || (tokens(&spent(&session)) >= tokens(&after) + 100_000).then_some(()));
    let state = || daemon.get(&format!("/api/sessions/{session}")).json()["session"]["sandboxState"].clone();
    wait_for("it is gone", || (state() == "cold").then_some(()));
    daemon.say(&session, "say: by another shim");
    assert!(tokens(&spent(&session)) < tokens(&after) + 200_000, "counted once");
}

#[test]
fn money_that_is_spent_ends_turns_by_name_until_there_is_more() {
    let prices = "[prices]\nclaude = { input = 1, output = 1, cache_read = 1, cache_write = 1, cache_write_1h = 1 }\n\
        [max_limits]\ncost = 5\n";
    let Some((_model, daemon)) = start(prices) else { return };
    daemon.deploy("test", &[("CLAUDE.md", PROMPT)]);
    let session = daemon.create(&json!({"agent": "test", "limits": {"maxCostUsd": 0.5}}));
    daemon.say(&session, "usage: 600000 1");
    let (state, cause, limit) = end(&daemon.say(&session, "say: once more"));
    assert_eq!((state.as_str(), &limit), ("failed", &json!("budget")), "{cause}");
    assert!(cause.starts_with("budget: the session has 0.5 US dollars, and ") && cause.ends_with(" are spent"), "{cause}");
    assert_eq!(daemon.send("PATCH", &path(&session), &json!({"maxCostUsd": 6})).status, 400);
    change(&daemon, &session, &json!({"maxCostUsd": 5}));
    assert_eq!(result(&daemon.say(&session, "say: there is more")), "there is more");
}

#[test]
fn a_sandbox_that_lived_long_enough_ends_by_name_and_the_conversation_goes_on() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("test", &[("CLAUDE.md", PROMPT)]);
    let session = daemon.create(&json!({"agent": "test"}));
    daemon.say(&session, "say: remember me");
    change(&daemon, &session, &json!({"lifetimeSeconds": 1}));
    let ended = wait_for("the sandbox has ended", || {
        lifecycle(&daemon, &session).into_iter().find(|data| data["action"] == "sandbox_ended")
    });
    assert_eq!((&ended["cause"], &ended["detail"]), (&json!("time"), &json!("the sandbox has lived as long as it may")));
    // The next message starts another one, whose life is long enough for this.
    change(&daemon, &session, &json!({"lifetimeSeconds": 10}));
    let events = daemon.say(&session, "slow: 100");
    let (state, cause, limit) = end(&events);
    assert_eq!((state.as_str(), &limit), ("interrupted", &json!("lifetime")), "{cause}: {events:?}");
    change(&daemon, &session, &json!({"lifetimeSeconds": null}));
    assert!(result(&daemon.say(&session, "remember?")).contains("remember me"));
}

#[test]
fn a_sandbox_ends_in_time_also_while_a_snapshot_waits_for_its_turn() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("test", &[("CLAUDE.md", PROMPT)]);
    let session = daemon.create(&json!({"agent": "test", "limits": {"lifetimeSeconds": 10}}));
    let snapshot = std::thread::scope(|scope| {
        let turn = scope.spawn(|| daemon.say(&session, "slow: 100"));
        wait_for("the turn runs", || {
            let shown = daemon.get(&format!("/api/sessions/{session}")).json();
            (shown["session"]["sandboxState"] == "running").then_some(())
        });
        let snapshot = daemon.send("POST", &format!("/api/sessions/{session}/snapshots"), &json!({}));
        let (state, cause, limit) = end(&turn.join().expect("ends"));
        assert_eq!((state.as_str(), &limit), ("interrupted", &json!("lifetime")), "{cause}");
        snapshot
    });
    assert_eq!(snapshot.status, 201, "{}", snapshot.text());
    wait_for("the sandbox has ended", || {
        lifecycle(&daemon, &session).into_iter().find(|data| data["action"] == "sandbox_ended" && data["cause"] == "time")
    });
}

#[test]
fn open_files_and_the_size_of_files_are_limited_from_the_next_turn_on() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("test", &[("CLAUDE.md", PROMPT)]);
    let session = daemon.create(&json!({"agent": "test", "limits": {"maxOpenFiles": 500, "maxFileMb": 16}}));
    let limits = "bash: ulimit -Hn; ulimit -Hf; ulimit -n 501 2>/dev/null || echo no more";
    assert_eq!(result(&daemon.say(&session, limits)), "result: 500\n16384\nno more");
    let written = "bash: head -c 20M /dev/zero >big 2>/dev/null || stat -c %s big";
    let said = result(&daemon.say(&session, written));
    assert!(said.ends_with(&(16 << 20).to_string()), "{said}");
    let changed = change(&daemon, &session, &json!({"maxOpenFiles": 600, "maxFileMb": null}));
    assert_eq!(changed["pending"], json!(["maxOpenFiles", "maxFileMb"]));
    assert_eq!(result(&daemon.say(&session, "bash: ulimit -Hn; ulimit -Hf")), "result: 600\nunlimited");
    assert!(result(&daemon.say(&session, "remember?")).contains("ulimit"), "the conversation goes on");
}

#[test]
fn what_a_session_takes_now_is_shown_while_it_has_processes() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    daemon.say(&session, "usage: 5 6");
    let path = format!("/api/sessions/{session}/resources");
    let shown = daemon.get(&path).json()["resources"].clone();
    for field in ["cpuMs", "memoryBytes", "tasks"] {
        assert!(shown[field].as_u64().is_some_and(|figure| figure > 0), "{field}: {shown}");
    }
    assert!(shown["spent"]["tokens"].as_u64().is_some_and(|tokens| tokens >= 11), "{shown}");
    assert_eq!((&shown["sessionId"], &shown["agentName"]), (&json!(session), &json!("test")));
    assert_eq!(shown["limits"]["memoryMb"], 1024);
    let all = daemon.get("/api/resources").json()["resources"].clone();
    assert_eq!((all.as_array().map(Vec::len), &all[0]["sessionId"]), (Some(1), &json!(session)));
    assert_eq!(daemon.send("POST", &format!("/api/sessions/{session}/stop"), &json!({})).status, 200);
    let stopped = daemon.get(&path).json()["resources"].clone();
    assert_eq!((&stopped["cpuMs"], &stopped["spent"]), (&Value::Null, &shown["spent"]));
    assert_eq!(daemon.get("/api/resources").json(), json!({"resources": []}));
}
