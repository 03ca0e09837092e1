//! The language of released shims and daemons, frozen.
//!
//! A shim is never replaced while it runs, so a daemon meets shims that are older than itself, and
//! after a step back also newer ones. `fixtures/protocol-N.jsonl` holds each message of protocol N
//! in the bytes in which it was written, and where it went. Such a file is never edited after a
//! release. What is added to the protocol comes into a new file beside it, and is read by this
//! test like those before.

use std::collections::BTreeSet;

use ash::link::shim::{
    Binding, Egress, EgressLimits, EndState, FromShim, Job, KeyAs, LogLevel, OLDEST_PROTOCOL, PROTOCOL, RunEnd, ShimEvent,
    ToShim, TurnEnd,
};
use ash::wire::egress::{EgressEvent, Verdict};
use ash::wire::event::Kind;
use ash::wire::permission::{Behavior, PermissionKind, PermissionRequest, PermissionResolved, Resolver, Scope};
use ash::wire::terminal::{Terminal, TerminalSize};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

const ID: &str = "0190a0b0-0000-7000-8000-00000000000";

#[derive(Deserialize)]
struct Line {
    to: String,
    message: Box<RawValue>,
}

fn lines(protocol: u32, to: &str) -> Vec<String> {
    let path = format!("{}/tests/fixtures/protocol-{protocol}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("every protocol that is understood has its file");
    let lines = text.lines().map(|line| serde_json::from_str::<Line>(line).expect("a line"));
    lines.filter(|line| line.to == to).map(|line| line.message.get().to_owned()).collect()
}

fn all<T: for<'a> Deserialize<'a>>(to: &str) -> Vec<(String, T)> {
    let lines = (OLDEST_PROTOCOL..=PROTOCOL).flat_map(|protocol| lines(protocol, to));
    let read = |line: String| match serde_json::from_str(&line) {
        Ok(message) => (line, message),
        Err(error) => panic!("{error}: {line}"),
    };
    lines.map(read).collect()
}

fn of<T: for<'a> Deserialize<'a>>(protocol: u32, to: &str) -> impl Iterator<Item = T> {
    lines(protocol, to).into_iter().map(|line| serde_json::from_str(&line).expect("read"))
}

fn id<T: ToString>(id: &T) -> String {
    id.to_string().strip_prefix(ID).unwrap_or("another").to_owned()
}

#[test]
fn a_daemon_of_protocol_1_is_understood() {
    let mut messages = of::<ToShim>(1, "shim");
    let mut next = || messages.next().expect("one more");
    assert!(matches!(next(), ToShim::Hello { protocol: 1, daemon } if daemon == "1.0.0"));
    let ToShim::Open { op: 1, room } = next() else { panic!("open") };
    assert_eq!((room.runtime.as_str(), room.tmp_bytes), ("/usr/local/bin/claude", 256 << 20));

    let ToShim::Setup { op: 2, setup } = next() else { panic!("setup") };
    assert_eq!((id(&setup.session).as_str(), setup.agent.as_str(), setup.resume), ("1", "helper", true));
    assert_eq!(setup.env, [("LANG".to_owned(), "C.UTF-8".to_owned())].into());
    let gateway = &setup.gateway;
    assert_eq!((gateway.base_url.as_str(), gateway.api_key.as_deref()), ("https://api.anthropic.com", Some("sk-test")));
    let options = &setup.options;
    assert_eq!((options.model.as_deref(), options.permission_mode.as_str()), (Some("opus"), "default"));
    assert_eq!(
        [&options.allowed_tools, &options.disallowed_tools, &options.betas].map(|list| list.concat()),
        ["Read", "WebSearch", "context-1m"]
    );
    let subagents = options.subagents.as_ref().map(|subagents| subagents.0.get());
    assert_eq!(subagents, Some(r#"{"reviewer":{"description":"reads","prompt":"Read."}}"#));
    assert_eq!(options.initial_agent.as_deref(), Some("reviewer"));
    assert_eq!(options.ask.map(|ask| (ask.timeout_ms, ask.on_timeout)), Some((Some(60_000), Behavior::Deny)));
    assert_eq!(options.granted, ["Bash(touch *)"]);
    let ToShim::Setup { op: 3, setup } = next() else { panic!("setup") };
    assert_eq!((setup.gateway.api_key, setup.options.ask, setup.options.model, setup.resume), (None, None, None, false));

    assert!(matches!(next(), ToShim::Unpack { op: 4 }));
    let ToShim::Configure { options } = next() else { panic!("configure") };
    assert_eq!(options.ask.map(|ask| (ask.timeout_ms, ask.on_timeout)), Some((None, Behavior::Allow)));
    let ToShim::Egress { op: 10, egress } = next() else { panic!("egress") };
    assert_eq!((egress.allow.concat().as_str(), egress.bound.concat().as_str()), ("pypi.org*.example.com:8443", "*:*"));
    assert_eq!((egress.said.as_str(), egress.private.concat().as_str()), ("pypi.org, *.example.com:8443", "10.1.0.0/16"));
    assert_eq!((egress.limits, setup.egress), (EgressLimits::default(), Egress::default()));
    assert!(matches!(next(), ToShim::Warm));

    let ToShim::Turn(turn) = next() else { panic!("turn") };
    assert_eq!((id(&turn.id).as_str(), turn.content.get()), ("2", r#"[{"type":"text","text":"h\u00e4llo","n":1e1000}]"#));
    let options = &turn.options;
    assert!(options.include_partial_messages);
    assert_eq!((options.model.as_deref(), options.max_turns, options.max_budget_usd), (Some("haiku"), Some(3), Some(0.5)));
    assert_eq!(options.effort.map(|effort| effort.as_str()), Some("high"));
    assert_eq!(options.thinking.as_ref().and_then(|thinking| thinking.budget_tokens), Some(2048));
    assert_eq!(options.output_format.as_ref().map(|format| format.r#type.as_str()), Some("json_schema"));
    let ToShim::Turn(turn) = next() else { panic!("turn") };
    assert_eq!((turn.content.get(), turn.options), (r#""hello""#, Default::default()));

    assert!(matches!(next(), ToShim::Interrupt { turn: Some(turn) } if id(&turn) == "2"));
    assert!(matches!(next(), ToShim::Interrupt { turn: None }));
    let ToShim::Answer { op: 5, id: request, answer } = next() else { panic!("answer") };
    assert_eq!((id(&request).as_str(), answer.behavior, answer.scope), ("4", Behavior::Allow, Scope::Session));
    assert_eq!(answer.updated_input.as_ref().map(|input| input.get()), Some(r#"{"command":"ls"}"#));
    assert_eq!(answer.answers.map(|answers| answers["Which?"].clone()), Some("both".into()));
    let ToShim::Answer { op: 6, answer, .. } = next() else { panic!("answer") };
    assert_eq!((answer.behavior, answer.scope, answer.interrupt), (Behavior::Deny, Scope::Once, true));
    assert_eq!(answer.message.as_deref(), Some("not now"));
    assert!(matches!(next(), ToShim::Ack { through: 17 }));
    let ToShim::Pack { op: 7, excludes } = next() else { panic!("pack") };
    assert_eq!(excludes, ["node_modules", "/data/cache"]);
    assert!(matches!(next(), ToShim::PackMore { op: 7, chunks: 3 }));
    assert!(matches!(next(), ToShim::PackStop { op: 7 }));
    assert!(matches!(next(), ToShim::Restore { op: 8, conversation: Some(id), more: false } if id == "c-1"));
    assert!(matches!(next(), ToShim::Restore { op: 9, conversation: None, more: false }));
    assert!(matches!(next(), ToShim::Stop));
    assert!(messages.next().is_none());
}

#[test]
fn what_a_daemon_of_protocol_2_added_is_understood() {
    let mut messages = of::<ToShim>(2, "shim");
    let mut next = || messages.next().expect("one more");
    assert!(matches!(next(), ToShim::Export { op: 1, excludes } if excludes == ["node_modules", ".env"]));
    assert!(matches!(next(), ToShim::Lay { op: 2, replace: false, state: false }));
    assert!(matches!(next(), ToShim::Lay { op: 3, replace: true, state: false }));
    assert!(messages.next().is_none());
}

#[test]
fn what_protocol_3_added_is_understood() {
    let mut messages = of::<ToShim>(3, "shim");
    let mut next = || messages.next().expect("one more");
    let ToShim::Run { op: 1, run } = next() else { panic!("run") };
    assert_eq!((run.input, run.timeout_ms, run.output_max), (true, Some(30_000), Some(10 << 20)));
    assert!(matches!(run.job, Job::Shell { command } if command == "make test"));
    let ToShim::Run { op: 2, run } = next() else { panic!("run") };
    assert_eq!((run.input, run.timeout_ms, run.output_max), (false, None, None));
    let mut job = || if let ToShim::Run { run, .. } = next() { run.job } else { panic!("run") };
    assert!(matches!(job(), Job::List { excludes, max: 1000 } if excludes == ["node_modules", ".git"]));
    assert!(matches!(job(), Job::Read { path, max: 1_048_576 } if path == "src/main.rs"));
    assert!(matches!(job(), Job::Write { path } if path == "src/main.rs"));
    assert!(matches!(job(), Job::Delete { path } if path == "src/main.rs"));
    assert!(matches!(next(), ToShim::Logs { op: 7, after: None }));
    assert!(matches!(next(), ToShim::Logs { op: 8, after: Some(41) }));
    assert!(messages.next().is_none());

    let mut messages = of::<FromShim>(3, "daemon");
    let mut next = || messages.next().expect("one more");
    assert!(matches!(next(), FromShim::Wants { op: 1, parts: 1 }));
    let FromShim::Ended { op: 1, end } = next() else { panic!("ended") };
    assert_eq!(end, RunEnd { code: Some(2), signal: None, timed_out: false, cut: true, limit: None });
    let FromShim::Ended { op: 2, end } = next() else { panic!("ended") };
    assert_eq!(end, RunEnd { code: None, signal: Some(9), timed_out: true, cut: false, limit: None });
    let FromShim::Logs { op: 7, lines } = next() else { panic!("logs") };
    let lines: Vec<_> = lines.iter().map(|line| (line.index, line.level, line.text.as_str(), line.at)).collect();
    assert_eq!(
        lines[..2],
        [(0, LogLevel::System, "sandbox is open", 1_700_000_000_001), (1, LogLevel::Stderr, "warning", 1_700_000_000_002),]
    );
    assert_eq!(lines[2], (2, LogLevel::Stdout, "x", 1_700_000_000_003));
    assert!(messages.next().is_none());
}

#[test]
fn what_protocol_4_added_is_understood() {
    let mut messages = of::<ToShim>(4, "shim");
    let mut next = || messages.next().expect("one more");
    let ToShim::Gateway { op: 1, gateway } = next() else { panic!("gateway") };
    assert_eq!((gateway.base_url.as_str(), gateway.api_key.as_deref()), ("https://api.anthropic.com", Some("sk-new")));
    assert_eq!((gateway.retry_ms, gateway.refusal, gateway.auth), (300_000, None, KeyAs::Bearer));
    assert_eq!(gateway.headers, [("x-team".to_owned(), "a".to_owned())].into());
    assert_eq!((gateway.messages_path.as_deref(), gateway.count_tokens_path.as_deref()), (Some("/m"), Some("")));
    let ToShim::Gateway { op: 2, gateway } = next() else { panic!("gateway") };
    assert_eq!((gateway.auth, gateway.headers.len(), gateway.messages_path), (KeyAs::XApiKey, 0, None));
    assert_eq!((gateway.api_key, gateway.refusal.as_deref()), (None, Some("the credential was deleted")));
    assert_eq!(gateway.bindings, []);
    let ToShim::Gateway { op: 3, gateway } = next() else { panic!("gateway") };
    let binding = |name: &str, value: Option<&str>| Binding {
        name: name.to_owned(),
        host: "api.example.com:443".to_owned(),
        header: "authorization".to_owned(),
        value: value.map(str::to_owned),
    };
    assert_eq!(gateway.bindings, [binding("TOKEN", Some("Bearer sk-bound")), binding("OLD", None)]);
    assert!(!format!("{gateway:?}").contains("sk-bound"));
    assert!(messages.next().is_none());
}

#[test]
fn what_protocol_5_added_is_understood() {
    let mut messages = of::<ToShim>(5, "shim");
    let mut next = || messages.next().expect("one more");
    let ToShim::Run { op: 1, run } = next() else { panic!("run") };
    let Terminal { size, term } = run.terminal.expect("a terminal");
    assert_eq!((size, term.as_str()), (TerminalSize { rows: 24, cols: 80 }, "xterm-256color"));
    assert!(matches!(next(), ToShim::Resize { op: 1, size: TerminalSize { rows: 50, cols: 120 } }));
    assert!(messages.next().is_none());
}

fn data<T: for<'a> Deserialize<'a>>(event: &ShimEvent) -> T {
    serde_json::from_str(event.data.get()).expect("its data")
}

#[test]
fn a_shim_of_protocol_1_is_understood() {
    let mut messages = of::<FromShim>(1, "daemon");
    let mut next = || messages.next().expect("one more");
    let FromShim::Hello(state) = next() else { panic!("hello") };
    assert_eq!((state.protocol, state.version.as_str(), state.unpacked, state.newest), (1, "1.0.0", true, 17));
    assert_eq!([id(&state.sandbox), id(&state.incarnation)], ["5", "6"]);
    assert_eq!(
        [state.session.map(|session| id(&session)), state.turn.map(|turn| id(&turn))],
        [Some("1".into()), Some("2".into())]
    );
    let FromShim::Hello(state) = next() else { panic!("hello") };
    assert_eq!((state.session, state.unpacked, state.turn, state.newest), (None, false, None, 0));
    assert!(matches!(next(), FromShim::Done { op: 1 }));
    assert!(matches!(next(), FromShim::Failed { op: 4, error } if error == "the sandbox is not open"));
    assert!(matches!(next(), FromShim::Packed { op: 7, conversation: Some(id), leftover } if leftover.is_empty() && id == "c-1"));
    assert!(matches!(next(), FromShim::Packed { op: 7, conversation: None, .. }));

    let FromShim::Events { events } = next() else { panic!("events") };
    let [started, delta, request] = &events[..] else { panic!("three events") };
    assert_eq!((started.n, started.at, started.turn, &started.kind), (1, 1_700_000_000_001, None, &Kind::Lifecycle));
    assert!(matches!(&delta.kind, Kind::OtherDelta(name) if name.as_str() == "input_json_delta"));
    assert_eq!(delta.data.get(), r#"{"partial_json":"\u007b","n":1e1000}"#, "byte by byte");
    assert_eq!(request.kind, Kind::PermissionRequest);
    let request: PermissionRequest = data(request);
    assert_eq!((id(&request.id).as_str(), request.kind, request.tool_name.as_str()), ("4", PermissionKind::Tool, "Bash"));
    assert_eq!((request.input.get(), request.rules.concat().as_str()), (r#"{"command":"touch x"}"#, "Bash(touch *)"));
    assert_eq!(request.timeout_ms, Some(60_000));

    let FromShim::Events { events } = next() else { panic!("events") };
    let [resolved, failed, cancelled] = &events[..] else { panic!("three events") };
    assert_eq!((&resolved.kind, &failed.kind), (&Kind::PermissionResolved, &Kind::TurnEnded));
    let resolved: PermissionResolved = data(resolved);
    assert_eq!((resolved.behavior, resolved.scope, resolved.by), (Behavior::Allow, Scope::Session, Resolver::Caller));
    let end: TurnEnd = data(failed);
    assert_eq!((id(&end.turn_id).as_str(), end.state), ("2", EndState::Failed));
    assert_eq!(end.cause.as_deref(), Some("runtime ended: exit status 3"));
    let usage = end.usage.expect("a bill");
    assert_eq!((usage.wall_ms, usage.cpu_ms, usage.io_write_bytes, usage.tool_calls), (1200, Some(300), None, 1));
    let model = usage.models["claude-opus"];
    assert_eq!([model.calls, model.input_tokens, model.output_tokens], [2, 10, 20]);
    assert_eq!([model.cache_read_tokens, model.cache_write_tokens, model.cache_write_1h_tokens], [30, 40, 50]);
    let end: TurnEnd = data(cancelled);
    assert_eq!((end.state, end.cause, end.usage), (EndState::Cancelled, None, None));

    let FromShim::Events { events } = next() else { panic!("events") };
    let [denied] = &events[..] else { panic!("one event") };
    let egress: EgressEvent = data(denied);
    assert_eq!((egress.verdict, egress.host.as_str(), egress.port, egress.count), (Verdict::Denied, "example.com", Some(443), 3));
    assert!(egress.reason.is_some_and(|reason| reason.ends_with("(allowed: nothing)")));
    assert!(messages.next().is_none());
}

#[test]
fn what_a_hello_says_beside_protocol_1_may_be_missing() {
    let line = lines(1, "daemon").swap_remove(0);
    let read = |line: &str| match serde_json::from_str(line) {
        Ok(FromShim::Hello(state)) => (state.newest, state.acked, state.background),
        other => panic!("{other:?}"),
    };
    assert_eq!(read(&line), (17, None, None), "a shim that is older than they are");
    let line = line.replace(r#""newest":17"#, r#""newest":17,"acked":9,"background":2"#);
    assert_eq!(read(&line), (17, Some(9), Some(2)));
}

/// The name of a message on the wire.
fn name(message: &impl Serialize) -> String {
    match value(&serde_json::to_string(message).expect("written")) {
        Value::String(name) => name,
        Value::Object(fields) => fields.keys().next().expect("a name").clone(),
        other => panic!("{other}"),
    }
}

#[test]
fn every_message_is_in_the_files() {
    // A message that is new here belongs into the file of a new protocol, too.
    let kind_to_shim = |message: &ToShim| match message {
        ToShim::Hello { .. } => "hello",
        ToShim::Open { .. } => "open",
        ToShim::Setup { .. } => "setup",
        ToShim::Unpack { .. } => "unpack",
        ToShim::Pack { .. } => "pack",
        ToShim::PackMore { .. } => "pack_more",
        ToShim::PackStop { .. } => "pack_stop",
        ToShim::Run { .. } => "run",
        ToShim::Resize { .. } => "resize",
        ToShim::Logs { .. } => "logs",
        ToShim::Restore { .. } => "restore",
        ToShim::Export { .. } => "export",
        ToShim::Lay { .. } => "lay",
        ToShim::Configure { .. } => "configure",
        ToShim::Egress { .. } => "egress",
        ToShim::Gateway { .. } => "gateway",
        ToShim::Warm => "warm",
        ToShim::Turn(_) => "turn",
        ToShim::Interrupt { .. } => "interrupt",
        ToShim::Answer { .. } => "answer",
        ToShim::Ack { .. } => "ack",
        ToShim::Stop => "stop",
    };
    let kind_from_shim = |message: &FromShim| match message {
        FromShim::Hello(_) => "hello",
        FromShim::Done { .. } => "done",
        FromShim::Failed { .. } => "failed",
        FromShim::Packed { .. } => "packed",
        FromShim::Ended { .. } => "ended",
        FromShim::Wants { .. } => "wants",
        FromShim::Logs { .. } => "logs",
        FromShim::Events { .. } => "events",
    };
    let mut seen = BTreeSet::new();
    for (_, message) in all::<ToShim>("shim") {
        assert_eq!(name(&message), kind_to_shim(&message));
        seen.insert(kind_to_shim(&message));
    }
    assert_eq!(seen.len(), 22, "{seen:?}");
    let mut seen = BTreeSet::new();
    for (_, message) in all::<FromShim>("daemon") {
        assert_eq!(name(&message), kind_from_shim(&message));
        seen.insert(kind_from_shim(&message));
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

/// That a reader who knows only what stands in `old` finds all of it in `new`.
fn assert_covers(new: &Value, old: &Value, line: &str) {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            for (name, value) in old {
                assert_covers(new.get(name).unwrap_or_else(|| panic!("{name} is not written any more: {line}")), value, line);
            }
        }
        (Value::Array(new), Value::Array(old)) => {
            assert_eq!(new.len(), old.len(), "{line}");
            new.iter().zip(old).for_each(|(new, old)| assert_covers(new, old, line));
        }
        _ => assert_eq!(new, old, "{line}"),
    }
}

/// A number of the fixture that no number type holds: it has to be passed on as text.
fn value(line: &str) -> Value {
    serde_json::from_str(&line.replace("1e1000", r#""1e1000""#)).expect("JSON")
}

#[test]
fn what_is_written_today_is_understood_by_those_before() {
    let written = |line: String, message: String| assert_covers(&value(&message), &value(&line), &line);
    for (line, message) in all::<ToShim>("shim") {
        written(line, serde_json::to_string(&message).expect("written"));
    }
    for (line, message) in all::<FromShim>("daemon") {
        written(line, serde_json::to_string(&message).expect("written"));
    }
}

/// Puts a field that nobody knows into each object of the protocol.
fn add_later_fields(value: &mut Value, is_open: bool) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match name.as_str() {
                    // Other people's JSON, and maps whose names are data.
                    "content" | "subagents" | "updatedInput" | "answers" | "schema" | "input" | "env" | "headers" => {}
                    "models" => add_later_fields(value, false),
                    _ => add_later_fields(value, true),
                }
            }
            if is_open {
                fields.insert("later".to_owned(), serde_json::json!({"a": [1, "b", null]}));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| add_later_fields(value, true)),
        _ => {}
    }
}

#[test]
fn fields_of_a_later_protocol_are_ignored() {
    let later = |line: &str| {
        let mut value = value(line);
        add_later_fields(&mut value, false);
        value.to_string()
    };
    for (line, _) in all::<ToShim>("shim") {
        let line = later(&line);
        serde_json::from_str::<ToShim>(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    let mut ends = 0;
    for (line, _) in all::<FromShim>("daemon") {
        let line = later(&line);
        let message = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let FromShim::Events { events } = message else { continue };
        for event in &events {
            match event.kind {
                Kind::TurnEnded => {
                    ends += 1;
                    data::<TurnEnd>(event);
                }
                Kind::PermissionRequest => drop(data::<PermissionRequest>(event)),
                Kind::PermissionResolved => drop(data::<PermissionResolved>(event)),
                Kind::Egress => drop(data::<EgressEvent>(event)),
                _ => {}
            }
        }
    }
    assert_eq!(ends, 2);
}
