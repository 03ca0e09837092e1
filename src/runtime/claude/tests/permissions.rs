//! Requests for permission: what comes of each, and that something always does.

use super::*;
use crate::wire::permission::{Behavior, PermissionRequest, PermissionResolved, Resolver, Scope};

const DENY: Ask = Ask { timeout_ms: Some(1000), on_timeout: Behavior::Deny };
const ALLOW: Ask = Ask { timeout_ms: Some(1000), on_timeout: Behavior::Allow };

fn asking(ask: Ask) -> SessionOptions {
    SessionOptions { permission_mode: "default".into(), ask: Some(ask), ..SessionOptions::default() }
}

fn answer(value: Value) -> PermissionAnswer {
    serde_json::from_value(value).expect("an answer")
}

fn requests(heard: &Heard) -> Vec<PermissionRequest> {
    // Not from a value: it can not give raw JSON.
    heard.data(&Kind::PermissionRequest).iter().map(|data| serde_json::from_str(&data.to_string()).expect("a request")).collect()
}

fn resolved(heard: &Heard) -> Vec<PermissionResolved> {
    let data = heard.data(&Kind::PermissionResolved).into_iter().cloned();
    data.map(|data| serde_json::from_value(data).expect("what came of it")).collect()
}

/// Plays a recording, and answers its requests with these in turn; one that finds none is left to
/// the recording.
fn play_with(case: &str, answers: &[Value]) -> (Claude, Vec<TurnId>, Heard) {
    let lines = recorded(case);
    let turns = messages(&lines);
    let mut claude = Claude::new(SessionId::new(), None, false);
    claude.launch(&asking(DENY), &TurnOptions::default());
    let (mut heard, mut answers) = (Heard::default(), answers.iter());
    for line in lines {
        let read: Value = serde_json::from_str(&line).expect("JSON");
        if read["type"] == "command_lifecycle" && read["state"] == "queued" {
            let id = read["command_uuid"].as_str().expect("a uuid").parse().expect("a uuid");
            claude.begin(&asking(DENY), &turn(id, false));
        }
        heard.take(claude.read(line.into_bytes()).expect("a line of claude"));
        if read["type"] == "control_request"
            && let Some(value) = answers.next()
        {
            let id = requests(&heard).last().expect("asked").id;
            let outputs = claude.answer(id, &answer(value.clone())).expect("taken");
            assert!(
                matches!(&outputs[..], [Output::Event(_), Output::Settled(of), Output::Write(_)] if *of == id),
                "{outputs:?}"
            );
            heard.take(outputs);
        }
    }
    (claude, turns, heard)
}

/// An adapter in a turn that runs.
fn running(ask: Ask) -> (Claude, TurnId) {
    let mut claude = Claude::new(SessionId::new(), None, false);
    claude.launch(&asking(ask), &TurnOptions::default());
    let id = TurnId::new();
    claude.begin(&asking(ask), &turn(id, false));
    for line in [
        json!({"type": "control_response", "response": {"subtype": "success", "request_id": "initialize", "response": {"claude_code_version": "2.1.330"}}}),
        json!({"type": "command_lifecycle", "command_uuid": id, "state": "started"}),
    ] {
        claude.read(line.to_string().into_bytes()).expect("read");
    }
    (claude, id)
}

fn ask_with(claude: &mut Claude, request_id: &str, request: Value) -> Heard {
    let mut request = request;
    request["subtype"] = json!("can_use_tool");
    let line = json!({"type": "control_request", "request_id": request_id, "request": request});
    let mut heard = Heard::default();
    heard.take(claude.read(line.to_string().into_bytes()).expect("read"));
    heard
}

fn touch() -> Value {
    let rules = json!([{"toolName": "Bash", "ruleContent": "touch *"}]);
    json!({
        "tool_name": "Bash",
        "input": {"command": "touch x"},
        "permission_suggestions": [{"type": "addRules", "rules": rules, "behavior": "allow", "destination": "localSettings"}],
    })
}

fn question() -> Value {
    let questions = json!([{"question": "Which?", "options": []}, {"question": "Why?", "options": []}]);
    json!({"tool_name": "AskUserQuestion", "input": {"questions": questions}, "requires_user_interaction": true})
}

/// The one request that a line made.
fn asked(claude: &mut Claude, request: Value) -> PermissionRequest {
    let heard = ask_with(claude, "r-1", request);
    let [request] = &requests(&heard)[..] else { panic!("one request: {heard:?}") };
    assert!(heard.writes.is_empty(), "{:?}", heard.writes);
    request.clone()
}

fn heard(outputs: Vec<Output>) -> Heard {
    let mut heard = Heard::default();
    heard.take(outputs);
    heard
}

#[test]
fn what_the_program_asks_is_told_and_what_is_answered_reaches_it() {
    let answers = [
        json!({"behavior": "allow"}),
        json!({"behavior": "allow", "scope": "session", "updatedInput": {"command": "touch c.txt"}}),
        json!({"behavior": "deny", "message": "not today"}),
    ];
    let (claude, turns, heard) = play_with("permission", &answers);
    let requests = requests(&heard);
    let names: Vec<_> = requests.iter().map(|request| request.tool_name.as_str()).collect();
    assert_eq!(names, ["Bash", "Bash", "Write", "Bash"]);
    assert_eq!(
        requests.iter().map(|request| request.turn_id).collect::<Vec<_>>(),
        turns.iter().copied().map(Some).collect::<Vec<_>>()
    );
    let first = &requests[0];
    assert_eq!((first.kind, first.timeout_ms), (crate::wire::permission::PermissionKind::Tool, Some(1000)));
    assert_eq!(first.input.get(), r#"{"command":"touch a.txt","description":"Run a scripted command"}"#);
    assert_eq!(first.tool_use_id.as_deref(), heard.data(&Kind::ToolUse)[0]["id"].as_str());
    assert_eq!(
        (first.description.as_deref(), first.blocked_path.as_deref()),
        (Some("Run a scripted command"), Some("/work/a.txt"))
    );
    let rules: Vec<_> = requests.iter().map(|request| request.rules.clone()).collect();
    assert_eq!(rules, [vec!["Bash(touch a.txt)"], vec![r"Bash(touch 'b\(1\).txt')"], vec![], vec!["Bash(touch d.txt)"]]);

    let grant = json!([{"type": "addRules", "rules": [{"toolName": "Bash", "ruleContent": "touch 'b(1).txt'"}], "behavior": "allow", "destination": "session"}]);
    let written: Vec<_> = heard.writes.iter().map(|line| line["response"]["response"].clone()).collect();
    assert_eq!(
        written,
        [
            json!({"behavior": "allow"}),
            json!({"behavior": "allow", "updatedInput": {"command": "touch c.txt"}, "updatedPermissions": grant}),
            json!({"behavior": "deny", "message": "not today"}),
        ]
    );
    let came: Vec<_> =
        resolved(&heard).into_iter().map(|one| (one.id, one.behavior, one.scope, one.by, one.rules.len())).collect();
    assert_eq!(
        came,
        [
            (requests[0].id, Behavior::Allow, Scope::Once, Resolver::Caller, 0),
            (requests[1].id, Behavior::Allow, Scope::Session, Resolver::Caller, 1),
            (requests[2].id, Behavior::Deny, Scope::Once, Resolver::Caller, 0),
            (requests[3].id, Behavior::Deny, Scope::Once, Resolver::TurnEnd, 0),
        ],
        "the last was interrupted"
    );
    assert_eq!(end_of(&heard).pop(), Some((EndState::Interrupted, Some("interrupted".to_owned()))));
    let shape = heard.shape(turns[3]);
    let at = |kind: &str| shape.iter().position(|of| of == kind).expect("there");
    assert!(
        at("+permission_request") < at("+permission_resolved") && at("+permission_resolved") < at("+turn_ended"),
        "{shape:?}"
    );
    assert_eq!(claude.running(), None);
}

#[test]
fn a_question_gets_its_answers() {
    let (_, _, heard) = play_with("question", &[json!({"behavior": "allow", "answers": {"Which colour?": "blue"}})]);
    let [request] = &requests(&heard)[..] else { panic!("one request") };
    assert_eq!(
        (request.kind, request.tool_name.as_str()),
        (crate::wire::permission::PermissionKind::Question, "AskUserQuestion")
    );
    assert!(request.rules.is_empty());
    let mut wanted: Value = serde_json::from_str(request.input.get()).expect("JSON");
    wanted["answers"] = json!({"Which colour?": "blue"});
    assert_eq!(heard.writes[0]["response"]["response"], json!({"behavior": "allow", "updatedInput": wanted}));
    assert_eq!(end_of(&heard), [(EndState::Completed, None)]);
}

#[test]
fn an_answer_without_sense_is_refused_and_the_request_waits_on() {
    let cases = [
        (touch(), json!({"behavior": "allow", "answers": {"Which?": "a"}}), "answers: no question was asked"),
        (touch(), json!({"behavior": "allow", "updatedInput": [1]}), "updatedInput: it is not an object"),
        (touch(), json!({"behavior": "allow", "message": "go"}), "message: the model is told only of a refusal"),
        (touch(), json!({"behavior": "allow", "interrupt": true}), "interrupt: only a refusal can end the turn"),
        (touch(), json!({"behavior": "deny", "scope": "session"}), "scope: a refusal holds once"),
        (touch(), json!({"behavior": "deny", "updatedInput": {}}), "updatedInput: the tool is refused"),
        (touch(), json!({"behavior": "deny", "message": "x".repeat(70_000)}), "message: it has more than 65536 bytes"),
        (
            json!({"tool_name": "Write", "input": {}}),
            json!({"behavior": "allow", "scope": "session"}),
            "scope: the request has no rule that could hold for the session",
        ),
        (question(), json!({"behavior": "allow"}), "answers: a question is allowed with answers to it"),
        (question(), json!({"behavior": "allow", "answers": {}}), "answers: a question is allowed with answers to it"),
        (question(), json!({"behavior": "allow", "updatedInput": {}}), "updatedInput: a question is answered with answers"),
        (question(), json!({"behavior": "allow", "answers": {"Who?": "a"}}), "answers: nobody asked \"Who?\""),
        (
            question(),
            json!({"behavior": "allow", "answers": {"Why?": 5}}),
            "answers: the one to \"Why?\" is neither a text nor a list of texts",
        ),
        (question(), json!({"behavior": "deny", "answers": {}}), "answers: the question is refused"),
    ];
    for (request, senseless, reason) in cases {
        let (mut claude, _) = running(DENY);
        let id = asked(&mut claude, request).id;
        let error = claude.answer(id, &answer(senseless.clone())).expect_err("refused");
        assert_eq!(error.to_string(), reason, "{senseless}");
        let other = claude.answer(PermissionId::new(), &answer(json!({"behavior": "deny"}))).expect_err("refused");
        assert_eq!((&other, other.to_string().as_str()), (&AnswerError::NotWaiting, "nothing of this name waits for an answer"));
        claude.answer(id, &answer(json!({"behavior": "deny"}))).expect("waits on");
        assert_eq!(claude.answer(id, &answer(json!({"behavior": "deny"}))).expect_err("answered"), AnswerError::NotWaiting);
    }
}

#[test]
fn a_refusal_has_words_and_may_end_the_turn() {
    let (mut claude, _) = running(DENY);
    for (request, part) in [(touch(), "refused this use of Bash"), (question(), "does not answer")] {
        let id = asked(&mut claude, request).id;
        let heard = heard(claude.answer(id, &answer(json!({"behavior": "deny", "interrupt": true}))).expect("taken"));
        let told = &heard.writes[0]["response"]["response"];
        assert!(told["message"].as_str().is_some_and(|message| message.contains(part)), "{told}");
        assert_eq!((&told["interrupt"], resolved(&heard)[0].message.as_deref()), (&json!(true), told["message"].as_str()));
    }
}

#[test]
fn nobody_in_time_is_answered_as_configured_but_a_person_is_not_replaced() {
    let plan = json!({"tool_name": "ExitPlanMode", "input": {}, "requires_user_interaction": true});
    let cases = [
        (DENY, touch(), Behavior::Deny),
        (ALLOW, touch(), Behavior::Allow),
        (ALLOW, question(), Behavior::Deny),
        (ALLOW, plan, Behavior::Deny),
    ];
    for (ask, request, behavior) in cases {
        let (mut claude, _) = running(ask);
        let id = asked(&mut claude, request).id;
        let heard = heard(claude.timed_out(id));
        let [one] = &resolved(&heard)[..] else { panic!("one") };
        assert_eq!((one.id, one.behavior, one.by, one.scope), (id, behavior, Resolver::Timeout, Scope::Once));
        let told = &heard.writes[0]["response"]["response"];
        assert_eq!(told["behavior"], serde_json::to_value(behavior).expect("JSON"));
        assert_eq!(one.message.as_deref(), told["message"].as_str());
        assert!(behavior == Behavior::Allow || told["message"].as_str().is_some_and(|text| text.starts_with("Nobody answered")));
        assert!(claude.timed_out(id).is_empty(), "once");
    }
}

#[test]
fn each_request_ends_once_whatever_ends_it() {
    let withdrawal = |id: &str| json!({"type": "control_cancel_request", "request_id": id}).to_string().into_bytes();
    let result = json!({"type": "result", "subtype": "success", "num_turns": 1, "result": "x"}).to_string().into_bytes();
    let settled = |outputs: &[Output]| -> Vec<String> {
        let name = |output: &Output| match output {
            Output::Event(event) => Some(event.kind.to_string()),
            Output::Write(_) => Some("write".to_owned()),
            Output::TurnOver(_) => Some("turn_ended".to_owned()),
            _ => None,
        };
        outputs.iter().filter_map(name).filter(|name| name != "message" && name != "turn_complete").collect()
    };
    let (mut claude, _) = running(DENY);
    let id = asked(&mut claude, touch()).id;
    assert!(claude.read(withdrawal("r-2")).expect("read").is_empty());
    assert_eq!(settled(&claude.read(withdrawal("r-1")).expect("read")), ["permission_resolved"]);
    assert!(claude.answer(id, &answer(json!({"behavior": "allow"}))).is_err() && claude.timed_out(id).is_empty());
    assert!(claude.read(withdrawal("r-1")).expect("read").is_empty());
    assert_eq!(settled(&claude.read(result).expect("read")), ["turn_ended"]);

    // The turn ends, and the program still waits.
    let (mut claude, _) = running(DENY);
    asked(&mut claude, touch());
    let idle = json!({"type": "system", "subtype": "session_state_changed", "state": "idle"}).to_string().into_bytes();
    assert_eq!(settled(&claude.read(idle).expect("read")), ["permission_resolved", "write", "turn_ended"]);

    // The process ends.
    let (mut claude, _) = running(DENY);
    let id = asked(&mut claude, touch()).id;
    let Ended::Over(outputs) = claude.ended(&died("killed")) else { panic!("over") };
    assert_eq!(settled(&outputs), ["permission_resolved", "error", "turn_ended"]);
    let one = &resolved(&heard(outputs))[0];
    assert_eq!((one.id, one.behavior, one.by), (id, Behavior::Deny, Resolver::TurnEnd));

    // It ends with a request that belongs to no turn, and one of its own, before it read a message.
    let (mut claude, first) = running(DENY);
    let done = json!({"type": "command_lifecycle", "command_uuid": first, "state": "completed"});
    claude.read(done.to_string().into_bytes()).expect("read");
    assert_eq!(asked(&mut claude, touch()).turn_id, None);
    claude
        .read(json!({"type": "command_lifecycle", "command_uuid": "x", "state": "started"}).to_string().into_bytes())
        .expect("read");
    claude.read(json!({"type": "system", "subtype": "init"}).to_string().into_bytes()).expect("read");
    let own = claude.running().expect("a turn of its own");
    claude.begin(&asking(DENY), &turn(TurnId::new(), false));
    let Ended::Again { outputs, .. } = claude.ended(&died("killed")) else { panic!("the message was not read yet") };
    assert_eq!(settled(&outputs), ["permission_resolved", "error", "turn_ended"]);
    assert_eq!((heard(outputs).over, claude.running()), (vec![own], None));
}

#[test]
fn what_waits_is_bounded() {
    let (mut claude, _) = running(DENY);
    for n in 0..64 {
        assert_eq!(requests(&ask_with(&mut claude, &n.to_string(), touch())).len(), 1);
    }
    let refused = ask_with(&mut claude, "64", touch());
    assert!(refused.events.is_empty(), "{refused:?}");
    assert_eq!(refused.writes[0]["response"]["response"]["behavior"], "deny");
    let outputs = claude.read(json!({"type": "control_cancel_request", "request_id": "7"}).to_string().into_bytes());
    assert_eq!(resolved(&heard(outputs.expect("read"))).len(), 1);
    assert_eq!(requests(&ask_with(&mut claude, "65", touch())).len(), 1, "there is room again");

    let (mut claude, _) = running(DENY);
    let long = "x".repeat(1 << 20);
    let huge = ask_with(&mut claude, &long, touch());
    assert!(huge.events.is_empty() && huge.writes.is_empty(), "an answer would be as long");
    let mut request = question();
    request["input"]["questions"][0]["options"] = json!([{"label": long}]);
    let refused = ask_with(&mut claude, "q", request);
    assert_eq!((refused.events.len(), refused.writes.len()), (0, 1));
    let rules: Vec<_> = (0..100).map(|n| json!({"toolName": "Bash", "ruleContent": format!("{n}")})).collect();
    let request = json!({
        "tool_name": long, "tool_use_id": long, "description": long, "blocked_path": long, "input": {"command": long},
        "permission_suggestions": [{"type": "addRules", "behavior": "allow", "rules": rules}],
    });
    let request = asked(&mut claude, request);
    assert_eq!(request.input.get().len(), long.len() + 14, "the input is whole");
    assert_eq!((request.tool_name.len(), request.tool_use_id, request.blocked_path), (256, None, None));
    assert_eq!((request.description.expect("cut").len(), request.rules.len()), (4000, 16));
}

#[test]
fn parts_of_another_shape_do_not_leave_a_request_without_an_answer() {
    let (mut claude, _) = running(DENY);
    for part in [r#""cut \ud83d""#, "1e999", "[[1]]", "null"] {
        let line = format!(
            r#"{{"type":"control_request","request_id":"r","request":{{"subtype":"can_use_tool","tool_name":"Bash","input":{part},"tool_use_id":{part},"description":{part},"blocked_path":{part},"permission_suggestions":{part},"requires_user_interaction":{part}}}}}"#
        );
        let outputs = claude.read(line.into_bytes()).expect("read");
        let [Output::Event(event), Output::Asked { .. }] = &outputs[..] else { panic!("{outputs:?}") };
        let data: PermissionRequest = serde_json::from_str(event.data.get()).expect("a request");
        assert_eq!(data.input.get(), part);
        let refused = ask_with(&mut claude, "q", json!({"tool_name": "AskUserQuestion", "input": part}));
        assert_eq!((refused.events.len(), refused.writes.len()), (0, 1));
    }
}

#[test]
fn only_rules_that_allow_are_granted_and_only_for_the_session() {
    let (mut claude, _) = running(DENY);
    let rule = |tool: &str, content: &str| json!({"toolName": tool, "ruleContent": content});
    let suggestions = json!([
        {"type": "setMode", "mode": "bypassPermissions", "destination": "session"},
        {"type": "addDirectories", "directories": ["/"], "destination": "session"},
        {"type": "addRules", "behavior": "deny", "rules": [rule("Read", "x")], "destination": "session"},
        {"type": "addRules", "behavior": "allow", "rules": [{"toolName": "Glob"}], "destination": "userSettings"},
        {"type": "addRules", "behavior": "allow", "rules": [rule("Bash", r"a\(b)"), rule("Bash),Bash(rm *", "x"), rule("", "x")], "destination": "projectSettings"},
        "nonsense",
    ]);
    let request = asked(&mut claude, json!({"tool_name": "Bash", "input": {}, "permission_suggestions": suggestions}));
    assert_eq!(request.rules, ["Glob", r"Bash(a\\\(b\))"]);
    let heard = heard(claude.answer(request.id, &answer(json!({"behavior": "allow", "scope": "session"}))).expect("taken"));
    assert_eq!(resolved(&heard)[0].rules, request.rules);
    let updates = &heard.writes[0]["response"]["response"]["updatedPermissions"];
    let rules = json!([{"toolName": "Glob"}, rule("Bash", r"a\(b)")]);
    assert_eq!(*updates, json!([{"type": "addRules", "rules": rules, "behavior": "allow", "destination": "session"}]));
}

/// The rules that a process is started with.
fn granted_to(launch: &Launch) -> Vec<String> {
    let settings = launch.argv.iter().find_map(|arg| arg.strip_prefix("--settings="));
    let settings: Value = settings.map_or(Value::Null, |settings| serde_json::from_str(settings).expect("JSON"));
    serde_json::from_value(settings["permissions"]["allow"].clone()).unwrap_or_default()
}

#[test]
fn what_was_granted_holds_in_later_processes_and_needs_none() {
    let (mut claude, _) = running(DENY);
    let id = asked(&mut claude, touch()).id;
    claude.answer(id, &answer(json!({"behavior": "allow", "scope": "session"}))).expect("taken");
    let told = SessionOptions { granted: vec!["Read".into(), "Bash(touch *)".into()], ..asking(DENY) };
    assert!(claude.serves(&told, &TurnOptions::default()), "the process knows its own rules");
    assert_eq!(granted_to(&claude.launch(&asking(DENY), &TurnOptions::default())), ["Bash(touch *)"]);
    assert_eq!(granted_to(&claude.launch(&told, &TurnOptions::default())), ["Read", "Bash(touch *)"]);
    assert!(granted_to(&Claude::new(SessionId::new(), None, false).launch(&asking(DENY), &TurnOptions::default())).is_empty());

    let many = (0..1000).map(|n| format!("Bash({n}{})", "\"".repeat(200))).collect();
    let launch = claude.launch(&SessionOptions { granted: many, ..asking(DENY) }, &TurnOptions::default());
    let rules = granted_to(&launch);
    assert!(rules.len() > 30 && rules.ends_with(&["Bash(touch *)".to_owned()]), "the newest stay: {}", rules.len());
    assert!(launch.argv.iter().all(|arg| arg.len() < 20 << 10));
}

#[test]
fn who_can_be_asked_needs_another_process_but_not_for_how_long() {
    let (mut claude, _) = running(DENY);
    let plain = TurnOptions::default();
    assert!(!claude.serves(&SessionOptions { ask: None, ..asking(DENY) }, &plain));
    let patient = asking(Ask { timeout_ms: None, on_timeout: Behavior::Allow });
    assert!(claude.serves(&patient, &plain));
    claude.begin(&patient, &turn(TurnId::new(), false));
    assert_eq!(asked(&mut claude, touch()).timeout_ms, None);
    let launch = claude.launch(&SessionOptions { ask: None, ..asking(DENY) }, &plain);
    assert!(!launch.argv.iter().any(|arg| arg.contains("permission-prompt-tool")));
    let refused = ask_with(&mut claude, "r", touch());
    assert_eq!((refused.events.len(), &refused.writes[0]["response"]["response"]["behavior"]), (0, &json!("deny")));
}

#[test]
fn an_answer_is_one_line_whatever_its_content() {
    let (mut claude, _) = running(DENY);
    let id = asked(&mut claude, touch()).id;
    let text = "{\"behavior\":\"allow\",\"updatedInput\":{\n\t\"command\":\r\n\"a\\nb\",\"x\":\"\\ud83d\",\"y\":1e999}}";
    let outputs = claude.answer(id, &serde_json::from_str(text).expect("an answer")).expect("taken");
    let Some(Output::Write(bytes)) = outputs.last() else { panic!("{outputs:?}") };
    let line = String::from_utf8(bytes.clone()).expect("text");
    assert!(line.ends_with('\n') && line.trim_end().chars().all(|c| !matches!(c, '\n' | '\r')), "{line:?}");
    assert!(line.contains(r#""a\nb","x":"\ud83d","y":1e999}"#), "as it came: {line}");
}
