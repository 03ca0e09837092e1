//! The adapter on lines that claude 2.1.330 wrote while it talked to the scripted model. The lines
//! are trimmed: lists of tools, commands and prices are shortened, paths are those of a sandbox.

use serde_json::Value;
use serde_json::value::to_raw_value;

use super::*;

mod noise;
mod permissions;

fn recorded(case: &str) -> Vec<String> {
    let path = format!("{}/tests/fixtures/claude-2.1.330-{case}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines().map(str::to_owned).collect()
}

/// The uuids of the messages that a recording is about.
fn messages(lines: &[String]) -> Vec<TurnId> {
    let queued = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let queued = queued.filter(|line| line["type"] == "command_lifecycle" && line["state"] == "queued");
    queued.map(|line| line["command_uuid"].as_str().expect("a uuid").parse().expect("a uuid")).collect()
}

fn turn(id: TurnId, partials: bool) -> Turn {
    let options = TurnOptions { include_partial_messages: partials, ..TurnOptions::default() };
    Turn { id, content: to_raw_value("hello").expect("raw"), options }
}

fn session() -> SessionOptions {
    SessionOptions { permission_mode: "bypassPermissions".into(), ..SessionOptions::default() }
}

fn given() -> (Claude, TurnId) {
    let mut claude = Claude::new(SessionId::new(), None, false);
    claude.launch(&session(), &TurnOptions::default());
    let id = TurnId::new();
    claude.begin(&session(), &turn(id, true));
    let ready = r#"{"type":"control_response","response":{"subtype":"success","request_id":"initialize"}}"#;
    claude.read(ready.into()).expect("reads");
    (claude, id)
}

#[test]
fn half_a_surrogate_pair_and_deep_nesting_pass_through() {
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    for value in [r#""cut \ud83d""#, "1e999", &deep] {
        let block =
            |kind: &str| format!(r#"{{"type":"{kind}","text":{value},"thinking":{value},"input":{value},"id":"i","name":"n"}}"#);
        let blocks = ["text", "thinking", "tool_use", "other"].map(block).join(",");
        let lines = [
            format!(r#"{{"type":"assistant","message":{{"content":[{blocks}]}}}}"#),
            format!(
                r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"i","content":{value}}}]}},"tool_use_result":{{"stdout":{value}}}}}"#
            ),
            format!(
                r#"{{"type":"stream_event","event":{{"type":"content_block_delta","delta":{{"type":"text_delta","text":{value}}}}}}}"#
            ),
            format!(
                r#"{{"type":"system","subtype":"init","mcp_servers":[{{"name":"s","status":"failed","error":"e"}}],"x":{value}}}"#
            ),
            format!(r#"{{"type":"result","result":{value},"is_error":true}}"#),
        ];
        for line in lines {
            let (mut claude, _) = given();
            let outputs = claude.read(line.clone().into_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(outputs.iter().any(|output| matches!(output, Output::Event(_))), "{line}");
        }
    }
}

#[test]
fn a_message_is_one_line_of_a_stream() {
    let (mut claude, _) = given();
    let line =
        b"{\"type\":\"assistant\",\r\r\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"a\",\r\"x\":1}]}}\r".to_vec();
    for output in claude.read(line).expect("reads") {
        let Output::Event(event) = output else { continue };
        assert!(!event.data.get().contains(['\r', '\n']), "{}", event.data);
    }
}

#[test]
fn what_a_runtime_says_endlessly_is_not_kept_endlessly() {
    let (mut claude, _) = given();
    for n in 0..5000 {
        let call =
            format!(r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"{n}","name":"n","input":1}}]}}}}"#);
        claude.read(call.into_bytes()).expect("reads");
        let name = "\u{300}".repeat(300);
        let init = format!(
            r#"{{"type":"system","subtype":"init","mcp_servers":[{{"name":"{n}{name}","status":"failed","error":"{name}{name}{name}{name}{name}{name}{name}{name}"}}]}}"#
        );
        for output in claude.read(init.into_bytes()).expect("reads") {
            let Output::Event(event) = output else { continue };
            assert!(event.kind != Kind::McpStatus || event.data.get().len() < 16 << 10, "{} bytes", event.data.get().len());
        }
    }
    assert!(claude.process.tools.len() <= 1000 && claude.process.failed_servers.len() <= SERVERS_MAX);

    let ask = |id: &str| format!(r#"{{"type":"control_request","request_id":"{id}","request":{{"subtype":"can_use_tool"}}}}"#);
    let writes = |claude: &mut Claude, line: String| claude.read(line.into_bytes()).expect("reads").len();
    assert_eq!(writes(&mut claude, ask("1")), 1);
    assert_eq!(writes(&mut claude, ask(&"1".repeat(1 << 20))), 0, "an answer would be as long");
}

#[test]
fn one_line_becomes_so_many_events_and_no_list_in_it_takes_more_memory_than_the_line() {
    let (mut claude, _) = given();
    let message = |count: usize| {
        let blocks = vec![r#"{"type":"a"}"#; count].join(",");
        format!(r#"{{"type":"assistant","message":{{"content":[{blocks}]}}}}"#)
    };
    assert_eq!(claude.read(message(line::BLOCKS_MAX).into_bytes()).expect("reads").len(), line::BLOCKS_MAX + 1);
    let many = message(line::BLOCKS_MAX + 1);
    let outputs = claude.read(many.clone().into_bytes()).expect("reads");
    let [Output::Event(event)] = &outputs[..] else { panic!("{} outputs", outputs.len()) };
    assert_eq!((&event.kind, event.data.get()), (&Kind::Message, &*many), "the message itself is whole");

    let texts = vec!["\"\""; 100_000].join(",");
    let system = format!(r#"{{"type":"system","user_message_uuids":["x",{texts}]}}"#);
    let system: System<'_> = serde_json::from_str(&system).expect("reads");
    assert_eq!((system.user_message_uuids.len(), &*system.user_message_uuids[0]), (1000, "x"));
    let result = format!(r#"{{"type":"result","errors":[{texts}],"user_message_uuids":[{texts}]}}"#);
    let result: TurnResult<'_> = serde_json::from_str(&result).expect("reads");
    assert_eq!((result.errors.len(), result.user_message_uuids.len()), (1000, 1000));
}

#[test]
fn a_tool_with_a_name_that_no_tool_has_is_told_and_not_remembered() {
    let (mut claude, _) = given();
    let call = |id: &str, name: &str| {
        format!(r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"{id}","name":"{name}","input":1}}]}}}}"#)
    };
    let (long, escaped) = ("x".repeat(257), "\\u0061".repeat(256));
    for (id, name) in [("1", &*long), (&*long, "n"), (&"x".repeat(10 << 20), "n")] {
        let outputs = claude.read(call(id, name).into_bytes()).expect("reads");
        let Some(Output::Event(event)) = outputs.first() else { panic!("no event") };
        assert!(event.kind == Kind::ToolUse && event.data.get().contains(id) && event.data.get().contains(name));
    }
    assert!(claude.process.tools.is_empty());
    claude.read(call("1", &escaped).into_bytes()).expect("reads");
    assert_eq!(claude.process.tools.get("1"), Some(&"a".repeat(256)));
}

/// What came out, shortened to be compared.
#[derive(Debug, Default)]
struct Heard {
    events: Vec<(Option<TurnId>, Kind, Value)>,
    over: Vec<TurnId>,
    writes: Vec<Value>,
}

impl Heard {
    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Event(event) => {
                    let data: Value = serde_json::from_str(event.data.get()).expect("JSON");
                    assert!(!event.data.get().contains('\n'), "data is one line");
                    self.events.push((event.turn, event.kind, data));
                }
                Output::TurnOver(end) => {
                    self.over.push(end.turn_id);
                    let data = serde_json::to_value(&end).expect("JSON");
                    self.events.push((Some(end.turn_id), Kind::TurnEnded, data));
                }
                Output::Write(bytes) => self.writes.push(serde_json::from_slice(&bytes).expect("JSON")),
                Output::Ready { version } => assert_eq!(version, "2.1.330"),
                Output::Conversation(_) | Output::Asked { .. } | Output::Settled(_) => {}
            }
        }
    }

    /// Names of the kinds of one turn's events; a message is named by its type.
    fn shape(&self, turn: TurnId) -> Vec<String> {
        let of_turn = self.events.iter().filter(|(of, ..)| *of == Some(turn));
        of_turn
            .map(|(_, kind, data)| match kind {
                Kind::Message | Kind::PartialMessage => data["type"].as_str().expect("a type").to_owned(),
                kind => format!("+{kind}"),
            })
            .collect()
    }

    fn data(&self, kind: &Kind) -> Vec<&Value> {
        self.events.iter().filter(|(_, of, _)| of == kind).map(|(.., data)| data).collect()
    }
}

/// Plays a recording. Each message is given as soon as the one before is over, or where the
/// recording has it queued.
fn play(case: &str, partials: bool) -> (Vec<TurnId>, Heard) {
    let lines = recorded(case);
    let turns = messages(&lines);
    let mut claude = Claude::new(SessionId::new(), None, false);
    claude.launch(&session(), &TurnOptions::default());
    let mut heard = Heard::default();
    for line in lines {
        let read: Value = serde_json::from_str(&line).expect("JSON");
        if read["type"] == "command_lifecycle" && read["state"] == "queued" {
            let id = read["command_uuid"].as_str().expect("a uuid").parse().expect("a uuid");
            claude.begin(&session(), &turn(id, partials));
        }
        let tasks = read["tasks"].as_array().filter(|_| read["subtype"] == "background_tasks_changed").map(Vec::len);
        heard.take(claude.read(line.into_bytes()).expect("a line of claude"));
        if let Some(tasks) = tasks {
            assert_eq!(claude.background() as usize, tasks, "{case}: what goes on in the background is known");
        }
    }
    assert_eq!(claude.running(), None, "{case}: nothing runs in the end");
    (turns, heard)
}

fn end_of(heard: &Heard) -> Vec<(EndState, Option<String>)> {
    let ends = heard.data(&Kind::TurnEnded);
    let ends = ends.into_iter().map(|data| serde_json::from_value::<TurnEnd>(data.clone()).expect("an end"));
    ends.map(|end| (end.state, end.cause)).collect()
}

#[test]
fn a_text_turn_comes_in_the_order_of_the_contract() {
    let (turns, heard) = play("text", true);
    let wanted = [
        "system",
        "system",
        "stream_event",
        "stream_event",
        "+text_delta",
        "stream_event",
        "+text_delta",
        "stream_event",
        "+text_delta",
        "stream_event",
        "+text",
        "assistant",
        "stream_event",
        "stream_event",
        "stream_event",
        "+turn_complete",
        "result",
        "+turn_ended",
    ];
    assert_eq!(heard.shape(turns[0]), wanted);
    let deltas: String = heard.data(&Kind::TextDelta).iter().map(|data| data["delta"].as_str().expect("text")).collect();
    assert_eq!(deltas, "hello there my friend");
    assert_eq!(heard.data(&Kind::Text), [&json!({"text": "hello there my friend"})]);
    assert_eq!(heard.data(&Kind::TurnComplete), [&json!({"numTurns": 1, "result": "hello there my friend"})]);
    assert_eq!(heard.data(&Kind::Lifecycle), [&json!({"action": "runtime_started", "runtime": "claude", "version": "2.1.330"})]);
    assert_eq!((end_of(&heard), heard.over), (vec![(EndState::Completed, None)], turns));
}

#[test]
fn without_partials_no_delta_comes() {
    let (turns, heard) = play("text", false);
    let wanted = ["system", "system", "+text", "assistant", "+turn_complete", "result", "+turn_ended"];
    assert_eq!(heard.shape(turns[0]), wanted);
}

#[test]
fn messages_are_passed_on_as_they_came() {
    let lines = recorded("text");
    let (_, heard) = play("text", true);
    let passed = [Kind::Message, Kind::PartialMessage].map(|kind| heard.data(&kind)).concat().len();
    let hidden = ["control_response", "command_lifecycle"];
    let is_hidden = |line: &&String| {
        hidden.iter().any(|kind| line.contains(&format!(r#""type":"{kind}""#))) || line.contains("session_state_changed")
    };
    assert_eq!(passed, lines.len() - lines.iter().filter(is_hidden).count());
    let assistant = lines.iter().find(|line| line.starts_with(r#"{"type":"assistant""#)).expect("an answer").clone();
    let mut claude = Claude::new(SessionId::new(), None, false);
    let out = claude.read(assistant.clone().into_bytes()).expect("read");
    let Some(Output::Event(event)) = out.last() else { panic!("{out:?}") };
    assert_eq!(event.data.get(), assistant);
}

#[test]
fn tools_are_told_with_name_and_output() {
    let (_, heard) = play("tools", false);
    let called: Vec<_> = heard.data(&Kind::ToolUse).iter().map(|data| data["name"].clone()).collect();
    assert_eq!(called, ["Bash", "Write", "Read", "Read", "Bash"]);
    let results = heard.data(&Kind::ToolResult);
    let seen: Vec<_> =
        results.iter().map(|data| (data["toolName"].clone(), data["content"].clone(), data["is_error"].clone())).collect();
    let wanted = [
        ("Bash", "hi\nerr", false),
        (
            "Write",
            "File created successfully at: /dev/shm/x.txt (file state is current in your context — no need to Read it back)",
            false,
        ),
        ("Read", "1\thello", false),
        ("Read", "File does not exist. Note: your current working directory is /work.", true),
        ("Bash", "Exit code 3\nout", true),
    ];
    assert_eq!(seen, wanted.map(|(name, content, error)| (json!(name), json!(content), json!(error))));
    assert_eq!((&results[0]["stdout"], &results[0]["stderr"]), (&json!("hi\nerr"), &json!("")));
    assert_eq!(results[2].get("stdout"), None);
    assert_eq!(results[0]["tool_use_id"], heard.data(&Kind::ToolUse)[0]["id"]);
}

#[test]
fn thoughts_are_told_apart_from_text() {
    let (turns, heard) = play("thinking", true);
    assert_eq!(heard.data(&Kind::Reasoning), [&json!({"thinking": "let me look"})]);
    let deltas: String = heard.data(&Kind::ThinkingDelta).iter().map(|data| data["delta"].as_str().expect("text")).collect();
    assert_eq!(deltas, "let me look");
    assert!(heard.shape(turns[0]).contains(&"+delta/signature_delta".to_owned()), "{:?}", heard.shape(turns[0]));
}

#[test]
fn failures_end_the_turn_with_one_error() {
    let cases = [
        ("error-529", "API Error: Repeated 529 Overloaded errors."),
        ("error-401", "Failed to authenticate. API Error: 401 scripted failure 401"),
        ("max-turns", "Reached maximum number of turns (2)"),
    ];
    for (case, start) in cases {
        let (turns, heard) = play(case, false);
        let shape = heard.shape(turns[0]);
        assert_eq!(shape[shape.len() - 4..], ["+turn_complete", "result", "+error", "+turn_ended"], "{case}");
        let [error] = heard.data(&Kind::Error)[..] else { panic!("{case}: one error") };
        let error = error["error"].as_str().expect("text");
        assert!(error.starts_with(start), "{case}: {error}");
        assert_eq!(end_of(&heard), [(EndState::Failed, Some(error.to_owned()))], "{case}");
    }
}

#[test]
fn an_interrupted_turn_is_no_failure() {
    for (case, ends) in [("interrupt", 1), ("interrupt-queued", 2)] {
        let (turns, heard) = play(case, false);
        assert!(heard.data(&Kind::Error).is_empty(), "{case}");
        assert_eq!((end_of(&heard).len(), &heard.over), (ends, &turns), "{case}");
        assert_eq!(end_of(&heard).pop(), Some((EndState::Interrupted, Some("interrupted".to_owned()))), "{case}");
    }
}

#[test]
fn skills_and_mcp_servers_show() {
    let (_, heard) = play("skill", false);
    assert_eq!(heard.data(&Kind::ToolResult)[0]["toolName"], "Skill");
    let (_, heard) = play("mcp", false);
    let [status] = heard.data(&Kind::McpStatus)[..] else { panic!("one status") };
    let error = "MCP server \"broken\" failed: it could not be started or reached";
    assert_eq!(status, &json!({"action": "error", "server": "broken", "error": error}));
    assert_eq!(heard.data(&Kind::ToolResult)[0]["content"], json!([{"type": "text", "text": "3"}]));
}

#[test]
fn a_turn_nobody_asked_for_is_one_of_its_own() {
    let (turns, heard) = play("background", false);
    assert_eq!((turns.len(), heard.over.len()), (1, 2));
    let own = heard.over[1];
    assert_ne!(own, turns[0]);
    let wanted = ["+turn_started", "system", "system", "+text", "assistant", "+turn_complete", "result", "+turn_ended"];
    assert_eq!(heard.shape(own), wanted);
    assert_eq!(heard.data(&Kind::TurnStarted), [&json!({"turnId": own, "kind": "runtime"})]);
    // What was told between the two belongs to no turn.
    let between: Vec<_> = heard.events.iter().filter(|(turn, kind, _)| turn.is_none() && *kind == Kind::Message).collect();
    assert_eq!(between.len(), 3, "{between:?}");
}

#[test]
fn a_message_sent_into_an_unasked_turn_keeps_its_own_end() {
    let (turns, heard) = play("fold", false);
    let [first, own, second] = heard.over[..] else { panic!("{:?}", heard.over) };
    assert_eq!(vec![first, second], turns);
    assert_eq!(heard.shape(own).last().map(String::as_str), Some("+turn_ended"));
    let of_second: Vec<_> = heard.events.iter().filter(|(turn, ..)| *turn == Some(second)).collect();
    assert!(of_second.iter().any(|(_, kind, data)| *kind == Kind::Text && data["text"] == "folded"));
}

#[test]
fn a_message_taken_up_within_an_unasked_turn_ends_that() {
    let mut claude = Claude::new(SessionId::new(), None, false);
    let mut heard = Heard::default();
    let id = TurnId::new();
    let mut say = |claude: &mut Claude, line: Value| heard.take(claude.read(line.to_string().into_bytes()).expect("read"));
    say(
        &mut claude,
        json!({"type": "control_response", "response": {"subtype": "success", "request_id": "initialize", "response": {"claude_code_version": "2.1.330"}}}),
    );
    say(&mut claude, json!({"type": "system", "subtype": "init", "session_id": "s"}));
    claude.begin(&session(), &turn(id, false));
    say(&mut claude, json!({"type": "command_lifecycle", "command_uuid": id, "state": "queued"}));
    say(&mut claude, json!({"type": "command_lifecycle", "command_uuid": id, "state": "started"}));
    say(&mut claude, json!({"type": "result", "subtype": "success", "num_turns": 1, "result": "both"}));
    say(&mut claude, json!({"type": "command_lifecycle", "command_uuid": id, "state": "completed"}));
    assert_eq!((heard.over.len(), heard.over.last()), (2, Some(&id)));
    assert_eq!(heard.shape(id), ["+turn_complete", "result", "+turn_ended"]);
}

#[test]
fn control_requests_are_answered_from_the_first_byte() {
    let cases = [
        (json!({"subtype": "can_use_tool", "tool_name": "Bash", "input": {}}), "success", "deny"),
        (json!({"subtype": "hook_callback", "callback_id": "h", "input": {}}), "success", "{}"),
        (json!({"subtype": "mcp_message", "server_name": "x", "message": {"jsonrpc": "2.0", "id": 7}}), "success", "-32601"),
        (json!({"subtype": "something_new"}), "error", "not supported"),
    ];
    for (request, outcome, part) in cases {
        let mut claude = Claude::new(SessionId::new(), None, false);
        claude.launch(&session(), &TurnOptions::default());
        let mut heard = Heard::default();
        let line = json!({"type": "control_request", "request_id": "r-1", "request": request});
        heard.take(claude.read(line.to_string().into_bytes()).expect("read"));
        let [written] = &heard.writes[..] else { panic!("one answer to {request}") };
        assert_eq!((&written["response"]["request_id"], &written["response"]["subtype"]), (&json!("r-1"), &json!(outcome)));
        assert!(written["response"].to_string().contains(part), "{written}");
    }
}

#[test]
fn what_is_no_protocol_is_refused_and_what_is_unknown_is_passed_on() {
    let mut claude = Claude::new(SessionId::new(), None, false);
    for garbage in [&b"garbage"[..], b"42", b"{\"type\":1}", b"{\"type\":\"x\"", b"\xff\xfe"] {
        assert!(claude.read(garbage.to_vec()).is_err(), "{garbage:?}");
    }
    assert!(claude.read(b" \r".to_vec()).expect("blank").is_empty());
    for other in
        [json!({"type": "something_new"}), json!({"type": "assistant", "message": 5}), json!({"type": "system", "subtype": 3})]
    {
        let read = claude.read(other.to_string().into_bytes());
        assert!(
            matches!(read.as_deref(), Ok([Output::Event(Event { kind: Kind::Message, .. })])) || other["subtype"] == 3,
            "{other}"
        );
    }
}

#[test]
fn a_message_is_one_line_whatever_its_content() {
    let mut claude = Claude::new(SessionId::new(), None, false);
    claude.launch(&session(), &TurnOptions::default());
    let content = RawValue::from_string("[\n  {\"type\": \"text\",\r\n \"text\": \"a\\nb\"}\n]".to_owned()).expect("JSON");
    let bytes = claude.begin(&session(), &Turn { id: TurnId::new(), content, options: TurnOptions::default() });
    assert_eq!(bytes.iter().filter(|b| **b == b'\n').count(), 1);
    let line: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(line["message"]["content"], json!([{"type": "text", "text": "a\nb"}]));
}

#[test]
fn options_of_a_turn_reach_the_process_or_need_another() {
    let mut claude = Claude::new(SessionId::new(), None, false);
    let plain = TurnOptions::default();
    claude.launch(&session(), &plain);
    let lines = |bytes: Vec<u8>| -> Vec<Value> {
        bytes
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect()
    };
    let thinking = serde_json::from_value(json!({"type": "enabled", "budgetTokens": 2048})).expect("thinking");
    let options = TurnOptions { model: Some("m".into()), thinking: Some(thinking), ..TurnOptions::default() };
    let first = lines(claude.begin(&session(), &Turn { options, ..turn(TurnId::new(), false) }));
    let asked: Vec<_> =
        first.iter().filter(|line| line["type"] == "control_request").map(|line| line["request"].clone()).collect();
    assert_eq!(
        asked,
        [
            json!({"subtype": "set_model", "model": "m"}),
            json!({"subtype": "set_max_thinking_tokens", "max_thinking_tokens": 2048}),
        ]
    );
    let second = lines(claude.begin(&session(), &turn(TurnId::new(), false)));
    let asked: Vec<_> =
        second.iter().filter(|line| line["type"] == "control_request").map(|line| line["request"].clone()).collect();
    assert_eq!(
        asked,
        [json!({"subtype": "set_model"}), json!({"subtype": "set_max_thinking_tokens", "max_thinking_tokens": null})]
    );

    assert!(claude.serves(&session(), &plain));
    assert!(!claude.serves(&session(), &TurnOptions { max_turns: Some(1), ..plain.clone() }));
    assert!(!claude.serves(&SessionOptions { permission_mode: "default".into(), ..session() }, &plain));
    let budget = TurnOptions { max_budget_usd: Some(1.0), ..plain };
    claude.launch(&session(), &budget);
    assert!(claude.serves(&session(), &budget));
    claude.begin(&session(), &Turn { options: budget.clone(), ..turn(TurnId::new(), false) });
    assert!(!claude.serves(&session(), &budget), "the program counts its budget over its whole life");
}

fn died(stderr: &str) -> ProcessEnd {
    ProcessEnd { code: Some(1), stderr: stderr.to_owned(), ..ProcessEnd::default() }
}

#[test]
fn a_conversation_is_found_whichever_way_it_is() {
    let mut claude = Claude::new(SessionId::new(), None, true);
    let resume = |launch: &Launch| launch.argv.iter().any(|arg| arg.starts_with("--resume="));
    assert!(resume(&claude.launch(&session(), &TurnOptions::default())));
    claude.begin(&session(), &turn(TurnId::new(), false));
    assert!(matches!(claude.ended(&died("No conversation found with session ID: x\n")), Ended::Again { repair: None, .. }));
    assert!(!resume(&claude.launch(&session(), &TurnOptions::default())));
    let id = TurnId::new();
    claude.begin(&session(), &turn(id, false));
    assert!(matches!(claude.ended(&died("Error: Session ID x is already in use.\n")), Ended::Again { repair: None, .. }));
    assert!(resume(&claude.launch(&session(), &TurnOptions::default())));
    claude.begin(&session(), &turn(id, false));
    let torn = "Claude configuration file at /home/agent/.claude.json is corrupted: JSON Parse error";
    let Ended::Again { repair: Some(repair), .. } = claude.ended(&died(torn)) else { panic!("can be repaired") };
    assert_eq!(repair, ["/usr/bin/rm", "-f", "/home/agent/.claude.json"]);
}

#[test]
fn a_turn_that_can_not_begin_is_not_tried_for_ever() {
    let mut claude = Claude::new(SessionId::new(), None, false);
    let id = TurnId::new();
    let mut tries = 0;
    loop {
        claude.launch(&session(), &TurnOptions::default());
        claude.begin(&session(), &turn(id, false));
        tries += 1;
        match claude.ended(&died("Error: Session ID x is already in use.\n")) {
            Ended::Again { .. } => assert!(tries < TRIES),
            Ended::Over(_) => break,
        }
    }
    assert_eq!(tries, TRIES);
}

#[test]
fn a_dead_process_ends_its_turn_and_says_why() {
    let cases = [
        (
            died("error: unknown option '--x'\n"),
            false,
            "runtime could not be started: exit status 1: error: unknown option '--x'",
        ),
        (ProcessEnd { signal: Some(9), ..ProcessEnd::default() }, true, "runtime ended: signal 9"),
        (
            ProcessEnd { reason: Some("/opt/claude/claude: Permission denied".into()), ..ProcessEnd::default() },
            false,
            "runtime could not be started: /opt/claude/claude: Permission denied",
        ),
    ];
    for (end, started, cause) in cases {
        let mut claude = Claude::new(SessionId::new(), None, false);
        claude.launch(&session(), &TurnOptions::default());
        let id = TurnId::new();
        claude.begin(&session(), &turn(id, false));
        let mut heard = Heard::default();
        if started {
            let ready = json!({"type": "control_response", "response": {"subtype": "success", "request_id": "initialize", "response": {"claude_code_version": "2.1.330"}}});
            heard.take(claude.read(ready.to_string().into_bytes()).expect("read"));
            heard.take(
                claude
                    .read(json!({"type": "command_lifecycle", "command_uuid": id, "state": "started"}).to_string().into_bytes())
                    .expect("read"),
            );
        }
        let Ended::Over(out) = claude.ended(&end) else { panic!("{cause}") };
        heard.take(out);
        assert_eq!(heard.data(&Kind::Error), [&json!({"error": cause})]);
        assert_eq!((end_of(&heard), heard.over), (vec![(EndState::Failed, Some(cause.to_owned()))], vec![id]));
    }
}

#[test]
fn an_idle_process_that_died_is_replaced_without_a_word() {
    let mut claude = Claude::new(SessionId::new(), None, false);
    claude.launch(&session(), &TurnOptions::default());
    let ready =
        json!({"type": "control_response", "response": {"subtype": "success", "request_id": "initialize", "response": {}}});
    claude.read(ready.to_string().into_bytes()).expect("read");
    claude.begin(&session(), &turn(TurnId::new(), false));
    let killed = ProcessEnd { signal: Some(9), ..ProcessEnd::default() };
    assert!(matches!(claude.ended(&killed), Ended::Again { repair: None, .. }), "the message was not read yet");
    let Ended::Over(out) = Claude::new(SessionId::new(), None, true).ended(&killed) else { panic!("nothing to try again") };
    assert!(out.is_empty(), "{out:?}");
}

#[test]
fn a_turn_ended_by_the_deadline_of_its_interrupt_is_interrupted() {
    let mut claude = Claude::new(SessionId::new(), None, false);
    claude.launch(&session(), &TurnOptions::default());
    claude.begin(&session(), &turn(TurnId::new(), false));
    claude.interrupt();
    let Ended::Over(out) = claude.ended(&ProcessEnd { signal: Some(9), ..ProcessEnd::default() }) else { panic!("over") };
    let mut heard = Heard::default();
    heard.take(out);
    assert_eq!(end_of(&heard), [(EndState::Interrupted, Some("interrupted".to_owned()))]);
    assert!(heard.data(&Kind::Error).is_empty());
}
