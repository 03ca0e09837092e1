//! Traces, with the real runtime and a collector that reads OTLP: what is told, where it hangs, what is never told, and
//! that nobody minds a collector which is gone.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Said;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message as _;
use serde_json::json;
use support::http::{self, Response};
use support::{Daemon, MODEL_KEY, Model, claude, life, wait_for};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
/// Stands in everything that must not be told.
const CANARY: &str = "canary-7f3a";

fn parent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{SPAN}-{flags}")
}

/// Another trace for each number.
fn trace(number: u8) -> String {
    format!("{number:032x}")
}

/// A span as it came.
#[derive(Debug, Clone)]
struct Span {
    name: String,
    trace: String,
    span: String,
    parent: String,
    state: String,
    kind: i32,
    is_failed: bool,
    attributes: BTreeMap<String, String>,
    events: Vec<String>,
    nanos: u64,
    /// In nanoseconds since 1970.
    ended: u64,
}

impl Span {
    fn says(&self, name: &str) -> &str {
        self.attributes.get(name).map(String::as_str).unwrap_or_else(|| panic!("{name} is in {self:?}"))
    }
}

/// What a collector was sent, and what it answers.
#[derive(Debug, Default)]
struct Told {
    heads: Vec<String>,
    bodies: Vec<Vec<u8>>,
    /// How the next requests are answered; after them, all is taken.
    answers: Vec<(u16, Vec<u8>)>,
}

/// A collector that takes OTLP over HTTP.
struct Collector {
    url: String,
    told: Arc<Mutex<Told>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let told = Arc::<Mutex<Told>>::default();
        let shared = told.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let told = shared.clone();
                std::thread::spawn(move || serve(stream, &told));
            }
        });
        Self { url, told }
    }

    fn config(&self) -> String {
        format!("[telemetry]\nendpoint = \"{}\"\n", self.url)
    }

    fn answer_next(&self, answers: &[(u16, Vec<u8>)]) {
        self.told.lock().expect("whole").answers.extend(answers.iter().rev().cloned());
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let told = self.told.lock().expect("whole");
        told.bodies.iter().map(|body| ExportTraceServiceRequest::decode(&body[..]).expect("OTLP")).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let all = self.requests().into_iter().flat_map(|request| request.resource_spans);
        all.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).map(read).collect()
    }

    /// Waits for a span of a trace, and returns it.
    fn span(&self, trace: &str, name: &str) -> Span {
        wait_for(&format!("{name} of {trace}"), || self.spans().into_iter().find(|span| span.trace == trace && span.name == name))
    }

    fn resource(&self) -> BTreeMap<String, String> {
        let requests = wait_for("spans came", || Some(self.requests()).filter(|requests| !requests.is_empty()));
        attributes(requests[0].resource_spans[0].resource.clone().expect("a resource").attributes)
    }
}

fn serve(stream: TcpStream, told: &Mutex<Told>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let (status, answer) = {
            let mut told = told.lock().expect("whole");
            let (status, answer) = told.answers.pop().unwrap_or((200, Vec::new()));
            if status == 200 {
                told.heads.push(head);
                told.bodies.push(body);
            }
            (status, answer)
        };
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", answer.len());
        if reader.get_mut().write_all(&[head.as_bytes(), &answer].concat()).is_err() {
            return;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(all: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Said::StringValue(text)) => text,
        Some(Said::IntValue(count)) => count.to_string(),
        Some(Said::DoubleValue(measure)) => measure.to_string(),
        other => panic!("{other:?}"),
    };
    all.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn read(span: opentelemetry_proto::tonic::trace::v1::Span) -> Span {
    assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
    Span {
        name: span.name,
        trace: hex(&span.trace_id),
        span: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        state: span.trace_state,
        kind: span.kind,
        is_failed: span.status.is_some_and(|status| status.code == 2),
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(|event| event.name).collect(),
        nanos: span.end_time_unix_nano - span.start_time_unix_nano,
        ended: span.end_time_unix_nano,
    }
}

/// A daemon with the real runtime and more configuration; `None` without a runtime.
fn start(extra: &str) -> Option<(Model, Daemon)> {
    life::start(extra)
}

fn send(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)], body: &serde_json::Value) -> Response {
    let headers: Vec<_> = [("content-type", "application/json")].into_iter().chain(headers.iter().copied()).collect();
    http::request(&daemon.control(), method, path, &headers, Some(body.to_string().as_bytes()))
}

/// Says something in a session, and waits for the end of the turn.
fn say(daemon: &Daemon, session: &str, text: &str, headers: &[(&str, &str)]) {
    let said = send(daemon, "POST", &format!("/api/sessions/{session}/messages"), headers, &json!({"content": text}));
    assert!(said.status == 200 && said.text().contains("event: done"), "{}", said.text());
}

/// Now, since 1970.
fn nanos() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    u64::try_from(now.as_nanos()).expect("before 2554")
}

fn metric(daemon: &Daemon, name: &str) -> u64 {
    let text = daemon.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is in\n{text}")).parse().expect("a count")
}

#[test]
fn one_trace_leads_from_a_request_through_its_turn_and_tools_to_the_end() {
    let collector = Collector::start();
    let Some((_model, daemon)) = start(&collector.config()) else { return };
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    let made = trace(1);
    let created = send(&daemon, "POST", "/api/sessions", &[("traceparent", &parent(&made, "01"))], &json!({"agent": "test"}));
    assert_eq!(created.status, 201, "{}", created.text());
    let session = created.json()["session"]["id"].as_str().expect("an id").to_owned();
    let state = "vendor=opaque,other@x=1";
    let headers = [("traceparent", &*parent(TRACE, "01")), ("tracestate", state)];
    say(&daemon, &session, &format!("bash: echo {CANARY} > /work/file"), &headers);

    let turn = collector.span(TRACE, "ash.agent.turn");
    let server = collector.span(TRACE, "POST /api/sessions/{id}/messages");
    let message = collector.span(TRACE, "ash.session.message");
    let tool = collector.span(TRACE, "ash.tool.use");
    for (below, above) in
        [(&server.parent, SPAN), (&message.parent, &server.span), (&turn.parent, &message.span), (&tool.parent, &turn.span)]
    {
        assert_eq!(below, above);
    }
    assert_eq!((server.kind, turn.kind), (2, 1), "a server, and work inside");
    for span in [&server, &message, &turn, &tool] {
        assert_eq!((span.state.as_str(), span.is_failed), (state, false), "{span:?}");
    }
    assert_eq!((server.says("http.request.method"), server.says("http.response.status_code")), ("POST", "200"));
    assert_eq!(server.says("http.route"), "/api/sessions/{id}/messages");
    assert!(server.says("ash.request.id").len() >= 32);
    let turns = daemon.get(&format!("/api/sessions/{session}/turns")).json();
    assert_eq!(turn.says("ash.turn.id"), turns["turns"][0]["id"].as_str().expect("an id"));
    assert_eq!((turn.says("ash.turn.outcome"), turn.says("gen_ai.agent.name")), ("completed", "test"));
    assert_eq!((turn.says("ash.session.id"), turn.says("ash.turn.tool_calls")), (session.as_str(), "1"));
    assert!(turn.says("gen_ai.usage.output_tokens").parse::<u64>().expect("a count") > 0);
    assert_eq!(turn.events, ["ash.turn.queued", "ash.turn.started", "ash.turn.first_event"]);
    assert!(turn.nanos > tool.nanos, "the tool is a part of it");
    assert_eq!((tool.says("gen_ai.tool.name"), tool.says("ash.tool.outcome")), ("Bash", "completed"));

    // The sandbox came up for the session's creation.
    let create = collector.span(&made, "ash.session.create");
    assert_eq!(create.parent, collector.span(&made, "POST /api/sessions").span);
    let up = collector.span(&made, "ash.sandbox.start");
    assert_eq!((&up.parent, up.says("ash.sandbox.source")), (&create.span, "fresh"));
    for part in ["ash.sandbox.launch", "ash.sandbox.connect", "ash.sandbox.restore", "ash.sandbox.setup", "ash.sandbox.unpack"] {
        assert_eq!(collector.span(&made, part).parent, up.span, "{part}");
    }

    for (number, verb) in [(2, "pause"), (3, "resume"), (4, "stop"), (5, "resume")] {
        let done = send(
            &daemon,
            "POST",
            &format!("/api/sessions/{session}/{verb}"),
            &[("traceparent", &parent(&trace(number), "01"))],
            &json!({}),
        );
        assert_eq!(done.status, 200, "{}", done.text());
        let span = collector.span(&trace(number), &format!("ash.session.{verb}"));
        assert_eq!(span.parent, collector.span(&trace(number), &format!("POST /api/sessions/{{id}}/{verb}")).span);
        if number == 5 {
            assert_eq!(collector.span(&trace(5), "ash.sandbox.start").parent, span.span);
        }
    }
    let log = daemon.log();
    let joined = |what: &str, trace: &str| log.lines().any(|line| line.contains(what) && line.contains(trace));
    assert!(joined("session created", &made) && joined("turn ended", TRACE), "{log}");
    assert!(metric(&daemon, "ash_trace_spans_exported_total") > 10);
    assert_eq!(metric(&daemon, "ash_trace_spans_dropped_total{reason=\"collector\"}"), 0);
}

#[test]
fn nothing_that_somebody_said_wrote_or_keeps_secret_is_exported() {
    let collector = Collector::start();
    let Some((_model, mut daemon)) = start(&collector.config()) else { return };
    // What the collector wants to see is a secret as well.
    std::fs::write(daemon.master_keys().with_file_name("otlp_headers"), format!("x-api-key = {CANARY}%20x\nx-team=t\n"))
        .expect("writes");
    daemon.stop();
    daemon.run();
    daemon.deploy("test", &[("CLAUDE.md", &format!("{CANARY}\n"))]);
    let made = send(
        &daemon,
        "POST",
        "/api/sessions",
        &[],
        &json!({"agent": "test", "systemPrompt": CANARY, "extraEnv": {"SECRET": CANARY}}),
    );
    let session = made.json()["session"]["id"].as_str().expect("an id").to_owned();
    say(&daemon, &session, &format!("bash: echo {CANARY}; echo {CANARY} > /work/{CANARY}; false"), &[]);
    say(&daemon, &session, &format!("tool: Unknown {{\"a\": \"{CANARY}\"}}"), &[]);
    say(&daemon, &session, &format!("read: /work/{CANARY}"), &[]);
    for (method, path, body) in [
        ("GET", format!("/api/sessions/{session}/files/{CANARY}?as={CANARY}"), json!({})),
        ("GET", format!("/api/{CANARY}?x={CANARY}"), json!({})),
        (CANARY, format!("/api/{CANARY}"), json!({})),
        ("POST", format!("/api/sessions/{session}/exec"), json!({"command": format!("echo {CANARY}")})),
        ("POST", "/api/queue".to_owned(), json!({"agentName": "none", "prompt": CANARY, "sessionId": CANARY})),
        ("POST", "/api/credentials".to_owned(), json!({"name": CANARY, "value": CANARY})),
    ] {
        send(&daemon, method, &path, &[("authorization", &format!("Bearer {CANARY}"))], &body);
    }
    let last = trace(9);
    say(&daemon, &session, "say: done", &[("traceparent", &parent(&last, "01"))]);
    collector.span(&last, "ash.agent.turn");
    daemon.stop();
    // It was all sent, as a daemon that stops sends what it still has.
    let names: BTreeSet<_> = collector.spans().into_iter().map(|span| span.name).collect();
    for name in [
        "GET",
        "HTTP",
        "GET /api/sessions/{id}/files/{*path}",
        "POST /api/agents",
        "POST /api/credentials",
        "POST /api/queue",
        "POST /api/sessions/{id}/exec",
        "ash.session.create",
        "ash.session.message",
        "ash.agent.turn",
        "ash.tool.use",
    ] {
        assert!(names.contains(name), "{name} is in {names:?}");
    }
    let told = collector.told.lock().expect("whole");
    for body in &told.bodies {
        let text = String::from_utf8_lossy(body);
        for secret in [CANARY, MODEL_KEY, support::MASTER_KEY] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    let head = told.heads[told.heads.len() - 1].to_ascii_lowercase();
    assert!(head.contains(&format!("x-api-key: {CANARY} x\r\n")) && head.contains("x-team: t\r\n"), "{head}");
    assert!(head.starts_with("post /v1/traces ") && head.contains("content-type: application/x-protobuf"), "{head}");
    assert!(!daemon.log().contains(&format!("{CANARY} x")), "it is not logged");
}

#[test]
fn a_turn_keeps_its_trace_when_the_daemon_is_killed() {
    let collector = Collector::start();
    let Some((_model, mut daemon)) = start(&collector.config()) else { return };
    let session = daemon.session();
    let path = format!("/api/sessions/{session}/messages");
    let post = |trace: &str, text: &str, until: &str| {
        let headers = [("content-type", "application/json"), ("traceparent", &*parent(trace, "01")), ("tracestate", "a=1")];
        let body = json!({"content": text}).to_string();
        let mut stream = http::open(&daemon.control(), "POST", &path, &headers, Some(body.as_bytes())).expect("opens");
        stream.until(until);
    };
    post(TRACE, "bash: until [ -e /work/go ]; do sleep 0.1; done", "event: tool_use");
    let waits = trace(2);
    post(&waits, "say: next", "event: session_start");
    let [first, second] = [TRACE, &waits].map(|trace| collector.span(trace, "ash.session.message"));
    let killed = nanos();
    daemon.kill();
    daemon.run();
    let gone = daemon.send("POST", &format!("/api/sessions/{session}/exec"), &json!({"command": "touch /work/go"}));
    assert!(gone.ok_status(), "{}", gone.text());
    for (trace, message) in [(TRACE, &first), (&*waits, &second)] {
        let turn = collector.span(trace, "ash.agent.turn");
        assert_eq!((&turn.parent, turn.says("ash.turn.outcome"), turn.state.as_str()), (&message.span, "completed", "a=1"));
    }
    let turn = collector.span(TRACE, "ash.agent.turn");
    let tool = collector.span(TRACE, "ash.tool.use");
    assert_eq!((&tool.parent, tool.says("gen_ai.tool.name")), (&turn.span, "Bash"), "it began before");
    assert!(tool.ended - tool.nanos < killed && killed < tool.ended, "{killed}: {tool:?}");
    let again = collector.spans().iter().filter(|span| span.name == "ash.agent.turn").count();
    assert_eq!(again, 2, "each is told of once");
}

#[test]
fn a_queued_message_is_answered_in_the_trace_of_who_queued_it() {
    let collector = Collector::start();
    let Some((_model, daemon)) = start(&collector.config()) else { return };
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    let body = json!({"agentName": "test", "prompt": "say: done"});
    let queued = send(&daemon, "POST", "/api/queue", &[("traceparent", &parent(TRACE, "01"))], &body);
    assert_eq!(queued.status, 201, "{}", queued.text());
    let server = collector.span(TRACE, "POST /api/queue");
    for name in ["ash.session.create", "ash.session.message"] {
        assert_eq!(collector.span(TRACE, name).parent, server.span, "{name}");
    }
    assert_eq!(collector.span(TRACE, "ash.agent.turn").parent, collector.span(TRACE, "ash.session.message").span);

    // So is what somebody has a schedule queue at once.
    let body = json!({"name": "s", "agentName": "test", "prompt": "say: done", "calendar": "0 0 1 1 *"});
    let made = daemon.send("POST", "/api/schedules", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    let path = format!("/api/schedules/{}/run", made.json()["schedule"]["id"].as_str().expect("an id"));
    let run = send(&daemon, "POST", &path, &[("traceparent", &parent(&trace(2), "01"))], &json!({}));
    assert_eq!(run.status, 201, "{}", run.text());
    let server = collector.span(&trace(2), "POST /api/schedules/{id}/run");
    assert_eq!(collector.span(&trace(2), "ash.session.message").parent, server.span);
    collector.span(&trace(2), "ash.agent.turn");
}

#[test]
fn strangers_are_not_in_traces() {
    let collector = Collector::start();
    let Some((_model, daemon)) = start(&collector.config()) else { return };
    let bearer = daemon.bearer(&json!({"label": "test"}));
    let ask = |number: u8, key: &str| {
        let headers = [("authorization", key), ("traceparent", &*parent(&trace(number), "01"))];
        http::request(&daemon.tcp(), "GET", "/api/sessions", &headers, None).status
    };
    assert_eq!((ask(1, "Bearer no-key"), ask(2, &bearer)), (401, 200));
    assert_eq!(collector.span(&trace(2), "GET /api/sessions").says("network.transport"), "tcp");
    assert!(collector.spans().iter().all(|span| span.trace != trace(1)), "whoever has no key is in none");
}

#[test]
fn callers_decide_what_is_kept_and_bad_headers_are_passed_over() {
    let collector = Collector::start();
    let Some((_model, mut daemon)) = start(&collector.config()) else { return };
    let session = daemon.session();
    let list = |daemon: &Daemon, headers: &[(&str, &str)]| {
        let listed = send(daemon, "GET", "/api/sessions", headers, &json!({}));
        assert_eq!(listed.status, 200, "{}", listed.text());
    };
    let mut seen = 0;
    // What the last of these brings has come when its trace has.
    let mut fence = |daemon: &Daemon, number: u8| {
        say(daemon, &session, "say: x", &[("traceparent", &parent(&trace(number), "01"))]);
        // The turn can be over before the request is, which has shown it to its end.
        for name in ["ash.agent.turn", "POST /api/sessions/{id}/messages"] {
            collector.span(&trace(number), name);
        }
        let spans: Vec<_> = collector.spans().into_iter().skip(seen).filter(|span| span.trace != trace(number)).collect();
        seen = collector.spans().len();
        spans
    };
    fence(&daemon, 1);
    say(&daemon, &session, "bash: true", &[("traceparent", &parent(TRACE, "00"))]);
    assert_eq!(fence(&daemon, 2).iter().map(|span| &span.name).collect::<Vec<_>>(), [""; 0], "its caller keeps nothing");

    let good = parent(TRACE, "01");
    let long = format!("{good}-more");
    let upper = good.to_uppercase();
    let zeros = parent(&"0".repeat(32), "01");
    let bad: [&[(&str, &str)]; 6] = [
        &[("traceparent", &long)],
        &[("traceparent", &upper)],
        &[("traceparent", &zeros)],
        &[("traceparent", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")],
        &[("traceparent", ""), ("tracestate", "a=1")],
        &[("traceparent", &good), ("traceparent", &good)],
    ];
    for headers in bad {
        list(&daemon, headers);
    }
    let spans = fence(&daemon, 3);
    assert_eq!(spans.len(), bad.len(), "{spans:?}");
    for span in &spans {
        assert!(span.trace != TRACE && span.parent.is_empty() && span.state.is_empty(), "a new trace: {span:?}");
    }
    list(&daemon, &[("traceparent", &good), ("tracestate", "A=bad")]);
    let spans = fence(&daemon, 4);
    assert!(matches!(&spans[..], [one] if one.trace == TRACE && one.state.is_empty()), "{spans:?}");

    // Without a caller who decides, the configuration does. Nobody asks for the metrics of the metrics.
    daemon.add_config(&format!("{}sample_ratio = 0\n", collector.config()));
    daemon.stop();
    daemon.run();
    list(&daemon, &[]);
    daemon.get("/metrics");
    http::request(&daemon.control(), "GET", "/health", &[("traceparent", &good)], None);
    let spans = fence(&daemon, 5);
    assert!(spans.is_empty(), "{spans:?}");
}

#[test]
fn a_collector_that_is_gone_disturbs_nobody_and_one_that_comes_back_is_told() {
    let collector = Collector::start();
    let Some((_model, mut daemon)) = start(&collector.config()) else { return };
    let session = daemon.session();
    let drained = |daemon: &Daemon, reason: &str, least: u64| {
        let name = format!("ash_trace_spans_dropped_total{{reason=\"{reason}\"}}");
        wait_for(&name, || Some(metric(daemon, &name)).filter(|count| *count >= least));
    };
    wait_for("what was before is told", || collector.spans().iter().any(|span| span.name == "POST /api/sessions").then_some(()));
    // What it refuses is gone, and what it can not take now comes later. The request and its message are told together.
    collector.answer_next(&[(400, Vec::new())]);
    say(&daemon, &session, "say: refused", &[]);
    drained(&daemon, "collector", 2);
    collector.answer_next(&[(503, Vec::new()), (429, Vec::new())]);
    say(&daemon, &session, "say: later", &[("traceparent", &parent(TRACE, "01"))]);
    collector.span(TRACE, "ash.agent.turn");
    let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message: format!("too old{}", "!".repeat(1000)) };
    let partial = (200, ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec());
    for (number, refused) in [2, 4].into_iter().enumerate() {
        collector.answer_next(std::slice::from_ref(&partial));
        say(&daemon, &session, &format!("say: in part {number}"), &[]);
        drained(&daemon, "rejected", refused);
    }
    let log = daemon.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("the collector refused spans")).collect();
    assert!(matches!(told[..], [line] if line.contains("too old!") && line.len() < 500), "once, and not all of it: {told:?}");

    // A port on which nobody listens, and one on which nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    for port in [1, silent.local_addr().expect("an address").port()] {
        daemon.add_config(&format!("[telemetry]\nendpoint = \"http://127.0.0.1:{port}\"\n"));
        daemon.set_env(vec![("OTEL_EXPORTER_OTLP_TIMEOUT", "200".to_owned())]);
        daemon.stop();
        daemon.run();
        say(&daemon, &session, "bash: true", &[]);
        drained(&daemon, "collector", 4);
        // More than there is room for, while the first of them are still being tried.
        for _ in 0..3000 {
            if metric(&daemon, "ash_trace_spans_dropped_total{reason=\"queue\"}") > 0 {
                break;
            }
            for _ in 0..200 {
                daemon.get("/api/sessions?limit=1");
            }
        }
        assert!(metric(&daemon, "ash_trace_spans_dropped_total{reason=\"queue\"}") > 0);
        say(&daemon, &session, "say: still there", &[]);
    }
    assert!(daemon.log().contains("spans can not be sent to the collector"));
}

#[test]
fn the_environment_of_opentelemetry_counts_where_the_configuration_says_nothing() {
    let Some(claude) = claude() else { return };
    let (model, collector, other) = (Model::start(), Collector::start(), Collector::start());
    let mut daemon = Daemon::start(&claude, &model.url);
    let env = |collector: &Collector| {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{}/", collector.url)),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b".to_owned()),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test".to_owned()),
            ("OTEL_SERVICE_NAME", "from-env".to_owned()),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off".to_owned()),
        ]
    };
    let ask = |daemon: &Daemon| {
        let kept = [("traceparent", &*parent(TRACE, "01"))];
        for headers in [&[][..], &kept] {
            send(daemon, "GET", "/api/sessions", headers, &json!({}));
        }
    };
    daemon.stop();
    daemon.set_env(env(&collector));
    daemon.run();
    ask(&daemon);
    let resource = collector.resource();
    assert_eq!((resource["service.name"].as_str(), resource["deployment.environment.name"].as_str()), ("from-env", "test"));
    assert!(resource.contains_key("service.instance.id") && resource.contains_key("service.version"), "{resource:?}");
    assert!(collector.told.lock().expect("whole").heads[0].to_ascii_lowercase().contains("api-key: a b\r\n"));
    assert_eq!(collector.spans().iter().map(|span| span.trace.as_str()).collect::<Vec<_>>(), [TRACE]);

    daemon.stop();
    daemon.add_config(&format!("{}service_name = \"from-config\"\nsample_ratio = 1\n", other.config()));
    daemon.run();
    ask(&daemon);
    assert_eq!(other.resource()["service.name"], "from-config");
    wait_for("both are kept", || (other.spans().len() >= 2).then_some(()));
    daemon.stop();
    daemon.add_config("[telemetry]\nendpoint = \"\"\n");
    daemon.run();
    ask(&daemon);
    assert_eq!(metric(&daemon, "ash_trace_spans_exported_total"), 0, "none are made");
    daemon.stop();
    assert_eq!(collector.spans().len(), 1, "it was told nothing more");
}

#[test]
fn headers_that_can_not_be_sent_keep_the_daemon_from_starting_and_are_not_shown() {
    let Some(claude) = claude() else { return };
    let (model, collector) = (Model::start(), Collector::start());
    let mut daemon = Daemon::start_with(&claude, &model.url, &collector.config());
    daemon.stop();
    let path = daemon.master_keys().with_file_name("otlp_headers");
    for (text, named) in [
        (format!("{CANARY}\n"), "otlp_headers is not a list of headers"),
        (format!("x y={CANARY}\n"), "otlp_headers is not a list of headers"),
        (format!("x={}\n", CANARY.repeat(500)), "otlp_headers has more than 4096 bytes"),
    ] {
        std::fs::write(&path, text).expect("writes");
        let output = daemon.command().output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(named) && !said.contains(CANARY), "{said}");
    }
    std::fs::remove_file(&path).expect("removes");
}
