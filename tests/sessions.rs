//! From a folder to a stream: agents, sessions, messages, with the real runtime.

mod support;

use serde_json::{Value, json};
use support::http::{self, names, result};
use support::{Daemon, Model, StandIn, base64, claude, wait_for};

fn start() -> Option<(Model, Daemon)> {
    let claude = claude()?;
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    Some((model, daemon))
}

#[test]
fn a_text_turn_streams_the_contracts_events_in_order() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    let events = daemon.say(&session, "say: hello there");
    let names = names(&events);
    assert_eq!((names.first(), names.last()), (Some(&"session_start"), Some(&"done")), "{names:?}");
    assert_eq!(result(&events), "hello there");
    let complete = names.iter().position(|name| *name == "turn_complete").expect("a result");
    assert_eq!(names[complete + 1], "message", "derived events come before their message: {names:?}");
    assert_eq!(events[complete + 1].data["type"], "result");
    assert_eq!(events[0].data["sessionId"], json!(session));
    assert_eq!(events[0].data["version"], env!("CARGO_PKG_VERSION"));
    assert!(!names.contains(&"text_delta"), "partials were not asked for");
    assert!(events.iter().any(|e| e.name == "message" && e.data["subtype"] == "init"), "the runtime's own messages pass through");
    assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id), "ids grow");
}

#[test]
fn partials_come_as_deltas_each_before_its_message() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    let events = daemon.turn(&session, &json!({"content": "say: in small pieces", "includePartialMessages": true}));
    let text: String = events.iter().filter(|e| e.name == "text_delta").filter_map(|e| e.data["delta"].as_str()).collect();
    assert_eq!(text, "in small pieces");
    let delta = events.iter().position(|e| e.name == "text_delta").expect("a delta");
    assert_eq!(events[delta + 1].data["type"], "stream_event");
    assert_eq!(events[delta + 1].data["event"]["delta"]["text"], events[delta].data["delta"]);
}

#[test]
fn tools_work_and_files_last_from_turn_to_turn_in_one_process() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    let first = daemon.say(&session, "bash: echo from-bash; id -u");
    assert!(result(&first).contains("from-bash") && result(&first).contains("1000"), "{}", result(&first));
    let call = first.iter().find(|e| e.name == "tool_use").expect("a call");
    assert_eq!(call.data["name"], "Bash");
    let answer = first.iter().find(|e| e.name == "tool_result").expect("its answer");
    assert_eq!(answer.data["tool_use_id"], call.data["id"]);
    assert_eq!(answer.data["is_error"], json!(false));
    assert_eq!(answer.data.as_object().map(serde_json::Map::len), Some(3), "{}", answer.data);

    daemon.say(&session, "write: /work/note.txt|kept");
    assert!(result(&daemon.say(&session, "read: /work/note.txt")).contains("kept"));
    assert!(result(&daemon.say(&session, "remember?")).starts_with("user messages: 4"), "the conversation goes on");
    let init = |events: &[http::Event]| events.iter().find(|e| e.data["subtype"] == "init").map(|e| e.data["session_id"].clone());
    assert_eq!(init(&first), Some(json!(session)), "the conversation has the session's id");
    let started = daemon.get(&format!("/api/sessions/{session}/events?type=lifecycle")).json();
    let started = started["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter(|e| e["data"].to_string().contains("runtime_started"))
        .count();
    assert_eq!(started, 1, "four turns, one process");
}

#[test]
fn blocks_images_and_documents_reach_the_model() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    let png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let pdf = base64(b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj 3 0 obj<</Type/Page/MediaBox[0 0 9 9]/Parent 2 0 R>>endobj\ntrailer<</Root 1 0 R>>\n");
    let content = json!([
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": pdf}},
        {"type": "text", "text": "blocks?"},
    ]);
    let answer = result(&daemon.turn(&session, &json!({"content": content})));
    assert!(answer.contains("image(image/png)") && answer.contains("document(application/pdf)"), "{answer}");
    let one = json!([{"type": "text", "text": "say: a single block"}]);
    assert_eq!(result(&daemon.turn(&session, &json!({"content": one}))), "a single block");
    let listed = daemon.get(&format!("/api/sessions/{session}/messages")).json();
    let first: Value = serde_json::from_str(listed["messages"][0]["content"].as_str().expect("text")).expect("JSON");
    assert_eq!(first, json!({"type": "user", "content": content}), "content is kept as it was sent");
}

#[test]
fn messages_and_events_can_be_read_afterwards() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    daemon.say(&session, "think: let me see|bash: no");
    daemon.say(&session, "bash: echo out; echo err >&2");
    let messages = daemon.get(&format!("/api/sessions/{session}/messages")).json();
    let messages = messages["messages"].as_array().expect("messages").clone();
    let sequences: Vec<_> = messages.iter().map(|m| m["sequence"].as_i64().expect("a number")).collect();
    assert_eq!(sequences, (1..=messages.len() as i64).collect::<Vec<_>>());
    assert_eq!((messages[0]["role"].as_str(), messages[1]["role"].as_str()), (Some("user"), Some("assistant")));
    let types: Vec<String> = messages
        .iter()
        .filter(|m| m["role"] == "assistant")
        .map(|m| {
            let content: Value = serde_json::from_str(m["content"].as_str().expect("text")).expect("JSON");
            content["type"].as_str().expect("a type").to_owned()
        })
        .collect();
    assert!(types.iter().all(|t| t == "assistant" || t == "result"), "{types:?}");

    let events = daemon.get(&format!("/api/sessions/{session}/events")).json();
    let events = events["events"].as_array().expect("events").clone();
    let types: Vec<_> = events.iter().map(|e| e["type"].as_str().expect("a type")).collect();
    assert_eq!(types[0], "lifecycle");
    for wanted in ["reasoning", "text", "tool_start", "tool_result", "turn_complete"] {
        assert!(types.contains(&wanted), "{wanted} in {types:?}");
    }
    let tool = events.iter().find(|e| e["type"] == "tool_result").expect("a result");
    let data: Value = serde_json::from_str(tool["data"].as_str().expect("text")).expect("JSON");
    assert_eq!(
        (data["toolName"].as_str(), data["stdout"].as_str()),
        (Some("Bash"), Some("out\nerr")),
        "the runtime joins both: {data}"
    );
    let after = events[1]["sequence"].as_i64().expect("a number");
    let rest = daemon.get(&format!("/api/sessions/{session}/events?after={after}&limit=1")).json();
    assert_eq!(rest["events"][0]["sequence"], events[2]["sequence"], "strictly after, at most the limit");
}

#[test]
fn skills_settings_and_mcp_servers_of_the_folder_are_in_effect() {
    let Some((_model, daemon)) = start() else { return };
    let server = include_str!("fixtures/full-agent/server.py");
    daemon.deploy(
        "full",
        &[
            ("CLAUDE.md", "The secret word is xylophone.\n"),
            (".claude/settings.json", r#"{"env": {"FROM_SETTINGS": "yes"}, "permissions": {"deny": ["WebFetch"]}}"#),
            (".claude/skills/greeter/SKILL.md", "---\nname: greeter\ndescription: Greets people\n---\nGreet them warmly.\n"),
            (".mcp.json", r#"{"mcpServers": {"sums": {"command": "python3", "args": ["/work/server.py"]}}}"#),
            ("server.py", server),
            ("ash.toml", "[env]\nFROM_ASH_TOML = \"yes\"\n"),
        ],
    );
    let session = daemon.create(&json!({"agent": "full", "extraEnv": {"FROM_SESSION": "yes"}}));
    let first = daemon.say(&session, "sysgrep: xylophone");
    assert!(result(&first).contains("messages: True"), "CLAUDE.md is in effect: {}", result(&first));
    let init = first.iter().find(|e| e.data["subtype"] == "init").expect("init");
    assert!(init.data["skills"].to_string().contains("greeter"), "{}", init.data["skills"]);
    let env = result(&daemon.say(&session, "bash: echo $FROM_SETTINGS-$FROM_ASH_TOML-$FROM_SESSION"));
    assert!(env.contains("yes-yes-yes"), "{env}");
    let sum = result(&daemon.say(&session, r#"mcp: add {"a": 19, "b": 23}"#));
    assert!(sum.contains("42"), "{sum}");
    let tools = result(&daemon.say(&session, "tools?"));
    assert!(!tools.contains("WebFetch"), "settings deny it: {tools}");
}

#[test]
fn options_of_a_turn_and_of_the_session_reach_the_runtime() {
    let Some((_model, daemon)) = start() else { return };
    daemon.deploy("test", &[("CLAUDE.md", "x\n")]);
    let session = daemon.create(&json!({"agent": "test", "model": "claude-sonnet-4-5", "disallowedTools": ["Bash"], "systemPrompt": "The word is marmalade."}));
    let who = result(&daemon.say(&session, "whoami"));
    assert!(who.contains("model=claude-sonnet-4-5"), "{who}");
    let who = result(&daemon.turn(&session, &json!({"content": "whoami", "model": "claude-haiku-4-5"})));
    assert!(who.contains("model=claude-haiku-4-5"), "{who}");
    assert!(result(&daemon.say(&session, "whoami")).contains("model=claude-sonnet-4-5"), "one turn only");
    assert!(result(&daemon.say(&session, "sysgrep: marmalade")).contains("messages: True"));
    assert!(!result(&daemon.say(&session, "tools?")).contains("Bash"));
    let limited = daemon.turn(&session, &json!({"content": "loop: 5", "maxTurns": 2}));
    assert!(names(&limited).contains(&"error"), "{limited:?}");
    assert!(
        result(&daemon.say(&session, "remember?")).starts_with("user messages: 7"),
        "the conversation outlives a new process"
    );
    let changed = daemon.send("PATCH", &format!("/api/sessions/{session}/config"), &json!({"model": "claude-opus-4-5"}));
    assert_eq!(changed.json()["session"]["model"], "claude-opus-4-5", "{}", changed.text());
    assert!(result(&daemon.say(&session, "whoami")).contains("model=claude-opus-4-5"));
}

#[test]
fn a_message_in_a_running_turn_waits_is_refused_or_interrupts() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    let path = format!("/api/sessions/{session}/messages");
    let json_type = [("content-type", "application/json")];
    let mut slow = http::open(
        &daemon.control(),
        "POST",
        &path,
        &json_type,
        Some(br#"{"content":"slow: 60","includePartialMessages":true}"#),
    )
    .expect("answers");
    slow.until("tick 1");
    let busy = daemon.send("POST", &path, &json!({"content": "say: no", "ifBusy": "reject"}));
    assert_eq!((busy.status, busy.json()["code"].as_str()), (409, Some("conflict")), "{}", busy.text());
    let mut queued =
        http::open(&daemon.control(), "POST", &path, &json_type, Some(br#"{"content":"say: queued"}"#)).expect("answers");
    queued.until("session_start");
    let next = daemon.turn(&session, &json!({"content": "say: at once", "ifBusy": "interrupt"}));
    assert_eq!(result(&next), "at once");
    let cut = slow.until("event: done");
    assert!(cut.contains("\"state\":\"interrupted\"") && !cut.contains("event: error"), "{cut}");
    let queued = queued.until("event: done");
    assert!(queued.contains("queued") && !queued.contains("at once"), "streams do not mix: {queued}");
}

#[test]
fn an_interrupt_ends_the_turn_and_the_session_goes_on() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    let path = format!("/api/sessions/{session}/messages");
    let mut slow = http::open(
        &daemon.control(),
        "POST",
        &path,
        &[("content-type", "application/json")],
        Some(br#"{"content":"slow: 60","includePartialMessages":true}"#),
    )
    .expect("answers");
    slow.until("tick 1");
    let interrupted = daemon.send("POST", &format!("/api/sessions/{session}/interrupt"), &json!({}));
    assert!(interrupted.json()["turnId"].is_string(), "{}", interrupted.text());
    assert!(slow.until("event: done").contains("\"state\":\"interrupted\""));
    let idle = daemon.send("POST", &format!("/api/sessions/{session}/interrupt"), &json!({}));
    assert_eq!(idle.json()["turnId"], Value::Null);
    assert_eq!(result(&daemon.say(&session, "say: still here")), "still here");
}

#[test]
fn ended_unknown_and_foreign_sessions_answer_as_the_contract_says() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    let ended = daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({}));
    assert_eq!((ended.status, ended.json()["session"]["status"].as_str()), (200, Some("ended")));
    assert_eq!(daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({})).status, 200, "ending again is no error");
    let refused = daemon.send("POST", &format!("/api/sessions/{session}/messages"), &json!({"content": "x"}));
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("Session is ended")));
    let unknown = daemon.get("/api/sessions/00000000-0000-4000-8000-000000000000");
    assert_eq!((unknown.status, unknown.json()["error"].as_str()), (404, Some("Session not found")));
    assert_eq!(daemon.get("/api/sessions/nonsense").status, 400);
    let missing = daemon.send("POST", "/api/sessions", &json!({"agent": "nobody"}));
    assert_eq!((missing.status, missing.json()["error"].as_str()), (404, Some("Agent \"nobody\" not found")));
    let history = daemon.get(&format!("/api/sessions/{session}/events")).json();
    let last = history["events"].as_array().and_then(|events| events.last()).cloned().expect("events");
    assert_eq!(last["data"], r#"{"action":"ended"}"#, "its log stays readable");
}

#[test]
fn sessions_are_listed_by_agent_and_status_with_a_total() {
    let Some((_model, daemon)) = start() else { return };
    let first = daemon.session();
    let second = daemon.create(&json!({"agent": "test"}));
    daemon.send("DELETE", &format!("/api/sessions/{first}"), &json!({}));
    let ids = |path: &str| -> Vec<String> {
        let listed = daemon.get(path).json();
        listed["sessions"].as_array().expect("a list").iter().map(|s| s["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids("/api/sessions"), [second.clone(), first.clone()], "newest first");
    assert_eq!(ids("/api/sessions?status=active&agent=test"), [second]);
    assert_eq!(ids("/api/sessions?limit=1&offset=1"), [first]);
    assert_eq!(daemon.get("/api/sessions?limit=1&includeTotal=true").json()["total"], 2);
    assert_eq!(daemon.get("/api/sessions?limit=0").status, 400);
}

#[test]
fn no_session_goes_on_without_its_agent_whenever_it_was_made() {
    let model = Model::start();
    let runtime = StandIn::new();
    let daemon = Daemon::start_with(&runtime.path(), &model.url, "");
    for round in 0..3 {
        daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
        let deleted = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        while let answer = daemon.send("POST", "/api/sessions", &json!({"agent": "test"}))
                            && answer.status != 404
                        {
                            // One that comes up meanwhile is ended.
                            assert!(answer.status == 201 || answer.json()["error"] == "Session is ended", "{}", answer.text());
                        }
                    })
                })
                .collect();
            let made = || daemon.get("/api/sessions?status=active&limit=4").json()["sessions"].as_array().map_or(0, Vec::len);
            wait_for("some are there", || (made() >= 4).then_some(()));
            let deleted = daemon.send("DELETE", "/api/agents/test", &json!({}));
            makers.into_iter().for_each(|maker| maker.join().expect("made some"));
            deleted
        });
        assert!(deleted.ok_status(), "{}", deleted.text());
        let listed = daemon.get("/api/sessions?limit=1000").json();
        let living: Vec<_> =
            listed["sessions"].as_array().expect("a list").iter().filter(|one| one["status"] != "ended").collect();
        assert!(living.is_empty(), "round {round}: {living:?}");
        let ended = listed["sessions"][0]["id"].as_str().expect("an id");
        let fork = daemon.send("POST", &format!("/api/sessions/{ended}/fork"), &json!({}));
        assert_eq!((fork.status, &fork.json()["error"]), (404, &json!("Agent \"test\" not found")), "{}", fork.text());
    }
}

#[test]
fn a_configuration_that_is_too_large_is_refused_by_field_and_a_list_of_large_ones_comes_whole() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    let config = format!("/api/sessions/{session}/config");
    let agents = |bytes: usize| json!({"subagents": {"a": {"description": "x".repeat(bytes), "prompt": "p"}}});
    let refused = |answer: &http::Response| {
        let body = answer.json();
        assert_eq!((answer.status, body["details"][0]["field"].as_str()), (400, Some("subagents")), "{body}");
        assert!(body["error"].as_str().is_some_and(|error| error.contains("at most 1048576 bytes")), "{body}");
    };
    let mut body = agents(1_100_000);
    body["agent"] = json!("test");
    refused(&daemon.send("POST", "/api/sessions", &body));

    assert_eq!(daemon.send("PATCH", &config, &agents(1_000_000)).status, 200);
    refused(&daemon.send("PATCH", &config, &json!({"allowedTools": ["x".repeat(100_000)]})));
    let shown = daemon.get(&format!("/api/sessions/{session}")).json();
    assert_eq!(shown["session"]["config"]["allowedTools"], Value::Null, "nothing of it counts");
    let forks: Vec<_> = (0..6).map(|_| daemon.send("POST", &format!("/api/sessions/{session}/fork"), &json!({}))).collect();
    assert!(forks.iter().all(|fork| fork.status == 201), "{:?}", forks[0].json());
    let listed = daemon.get("/api/sessions?includeTotal=true").json();
    assert_eq!((listed["sessions"].as_array().map(Vec::len), listed["total"].as_i64()), (Some(7), Some(7)));
}
