//! A daemon that knows a few answers by heart, for tests of the command line.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};

mod bodies;

use bodies::{
    agent, ago, audited, before_now, credential, doctor, events, health, item, key, limits, messages, permission, request,
    resources, schedule, session, turn_row, usage,
};

/// The session that there is.
pub const SESSION: &str = "0198c0de-0000-7000-8000-000000000001";
/// A session that has ended.
pub const ENDED: &str = "0198c0de-0000-7000-8000-000000000002";
/// A session that there is not.
pub const NO_SESSION: &str = "0198c0de-0000-7000-8000-00000000dead";
/// Every turn.
pub const TURN: &str = "0198c0de-0000-7000-8000-00000000007f";
/// The request for permission that there is.
pub const REQUEST: &str = "0198c0de-0000-7000-8000-0000000000a1";
/// The item of the queue that there is.
pub const ITEM: &str = "0198c0de-0000-7000-8000-0000000000e1";
/// The item of the queue that is over after the daemon was away.
pub const AWAITED: &str = "0198c0de-0000-7000-8000-0000000000e2";
/// The schedule that there is, and the one before it.
pub const SCHEDULE: &str = "0198c0de-0000-7000-8000-0000000000a2";
const SCHEDULE_BEFORE: &str = "0198c0de-0000-7000-8000-0000000000a1";
/// The key that there is, and the id of every key.
pub const KEY: &str = "ash_good";

const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET /path?query`.
    pub line: String,
    /// Its `Authorization`, if it had one.
    pub authorization: Option<String>,
    /// Its `Idempotency-Key`, if it had one.
    pub key: Option<String>,
    /// Its body, as far as it came.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub whole: bool,
}

/// The daemon. It ends with the test.
pub struct Fake {
    _folder: tempfile::TempDir,
    /// Its control socket.
    pub socket: PathBuf,
    /// Its address on the network, which needs [`KEY`].
    pub url: String,
    seen: watch::Receiver<Vec<Seen>>,
    hung_up: watch::Sender<u32>,
}

struct State {
    seen: watch::Sender<Vec<Seen>>,
    interrupted: watch::Sender<bool>,
    /// The answer to the request for permission.
    answered: watch::Sender<Option<Value>>,
    uploads: Mutex<i64>,
    /// What is in the file notes.md; in base64 once it was written.
    notes: Mutex<String>,
}

type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

impl Fake {
    /// Starts it on a thread of its own.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("ash.sock");
        let (seen, receiver) = watch::channel(Vec::new());
        let (ready, started) = std::sync::mpsc::channel();
        let (hung_up, hearing) = watch::channel(0);
        let path = socket.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let unix = UnixListener::bind(path).expect("a socket");
                let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                ready.send(tcp.local_addr().expect("an address")).expect("the test waits");
                let (interrupted, answered) = (watch::channel(false).0, watch::channel(None).0);
                let state =
                    Arc::new(State { seen, interrupted, answered, uploads: Mutex::new(0), notes: Mutex::new("hello\n".into()) });
                loop {
                    tokio::select! {
                        Ok((stream, _)) = unix.accept() => serve(stream, true, state.clone(), hearing.clone()),
                        Ok((stream, _)) = tcp.accept() => serve(stream, false, state.clone(), hearing.clone()),
                    }
                }
            });
        });
        let url = format!("http://{}", started.recv().expect("started"));
        Self { _folder: folder, socket, url, seen: receiver, hung_up }
    }

    /// Its control socket as an address.
    pub fn server(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// Ends all connections that there are.
    pub fn hang_up(&self) {
        self.hung_up.send_modify(|times| *times += 1);
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Waits for a request whose line begins so.
    pub fn wait_for(&self, line: &str) -> Seen {
        self.wait_for_nth(0, line)
    }

    /// The same, after so many that begin so.
    pub fn wait_for_nth(&self, before: usize, line: &str) -> Seen {
        let mut seen = self.seen.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let found = |all: &Vec<Seen>| all.iter().filter(|seen| seen.line.starts_with(line)).nth(before).cloned();
        runtime.block_on(async {
            let wait = seen.wait_for(|all| found(all).is_some());
            let all = tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it comes").expect("the daemon lives");
            found(&all).expect("it was found")
        })
    }
}

impl Fake {
    /// Waits for an answer to the request for permission.
    pub fn answer(&self) -> Value {
        let seen = self.wait_for(&format!("POST /api/sessions/{SESSION}/permissions/{REQUEST}"));
        serde_json::from_slice(&seen.body).expect("JSON")
    }
}

fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    local: bool,
    state: Arc<State>,
    mut hung_up: watch::Receiver<u32>,
) {
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(answer(request, local, state).await) }
    });
    tokio::spawn(async move {
        // A client that goes away is part of some tests.
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        hung_up.mark_unchanged();
        tokio::select! {
            served = connection => drop(served),
            _ = hung_up.changed() => {}
        }
    });
}

async fn answer(request: Request<Incoming>, local: bool, state: Arc<State>) -> Response<Body> {
    let (head, mut incoming) = request.into_parts();
    let header = |name: &str| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let (authorization, key) = (header("authorization"), header("idempotency-key"));
    let (mut body, mut whole) = (Vec::new(), true);
    while let Some(frame) = incoming.frame().await {
        match frame {
            Ok(frame) => body.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    let line = format!("{} {}", head.method, head.uri.path_and_query().map_or("", |path| path.as_str()));
    let seen = Seen { line: line.clone(), authorization: authorization.clone(), key: key.clone(), body: body.clone(), whole };
    // How often this message came before.
    let before = key.map_or(0, |key| state.seen.borrow().iter().filter(|seen| seen.key.as_ref() == Some(&key)).count());
    state.seen.send_modify(|all| all.push(seen));

    let path: Vec<&str> = head.uri.path().trim_start_matches('/').split('/').collect();
    if !local && path != ["health"] {
        match authorization.as_deref() {
            None => return problem(401, "unauthorized", "Missing Authorization header"),
            Some(value) if value != format!("Bearer {KEY}") => return problem(401, "unauthorized", "Invalid API key"),
            Some(_) => {}
        }
    }
    let query = head.uri.query().unwrap_or_default();
    route(&head.method, &path, query, &body, before, &state).await
}

async fn route(method: &Method, path: &[&str], query: &str, body: &[u8], before: usize, state: &Arc<State>) -> Response<Body> {
    let input: Value = serde_json::from_slice(body).unwrap_or_default();
    match (method.as_str(), path) {
        ("GET", ["health"]) => ok(200, health()),
        ("GET", ["api", "doctor"]) => ok(200, doctor()),
        ("GET", ["api", "resources"]) => {
            ok(200, json!({"resources": [resources(SESSION, 100, 0.25), resources(ENDED, 300, 1.5)]}))
        }
        ("POST", ["api", "queue"]) => {
            let mut item = item("pending");
            for field in ["agentName", "prompt"] {
                item[field] = input[field].clone();
            }
            ok(201, json!({"item": item}))
        }
        ("GET", ["api", "queue"]) if query.contains("status=cancelled") => ok(200, json!({"items": []})),
        ("GET", ["api", "queue"]) => ok(200, json!({"items": [item("pending"), item("failed"), item("completed")]})),
        ("GET", ["api", "queue", "stats"]) => {
            ok(200, json!({"stats": {"pending": 3, "processing": 2, "completed": 40, "failed": 1, "cancelled": 0}}))
        }
        ("GET", ["api", "queue", ITEM]) => ok(200, json!({"item": item("completed")})),
        ("GET", ["api", "queue", AWAITED]) => {
            match state.seen.borrow().iter().filter(|seen| seen.line.contains(AWAITED)).count() {
                1 => ok(200, json!({"item": item("processing")})),
                2 => problem(503, "unavailable", "The daemon restarts"),
                _ => ok(200, json!({"item": item("completed")})),
            }
        }
        ("GET", ["api", "queue", ITEM | AWAITED, "result"]) => ok(200, item("completed")),
        ("GET", ["api", "queue", SESSION, "result"]) => ok(200, item("failed")),
        ("GET", ["api", "queue", ..]) => problem(404, "not_found", "Queue item not found"),
        ("DELETE", ["api", "queue", ITEM]) if query.contains("force=true") => ok(202, json!({"item": item("processing")})),
        ("DELETE", ["api", "queue", ITEM]) => problem(400, "conflict", "Cannot cancel item with status \"processing\""),
        ("DELETE", ["api", "queue", _]) => ok(200, json!({"item": item("cancelled")})),
        ("POST", ["api", "schedules"]) if input["calendar"] == "*-02-30" => {
            problem(400, "invalid_request", "calendar: never comes again")
        }
        ("POST", ["api", "schedules"]) => {
            let mut made = schedule(SCHEDULE, true);
            for (field, value) in input.as_object().expect("an object") {
                made[field] = value.clone();
            }
            ok(201, json!({"schedule": made}))
        }
        ("GET", ["api", "schedules"]) if query.contains("limit=1&") || query.ends_with("limit=1") => {
            ok(200, json!({"schedules": [schedule(SCHEDULE, true)]}))
        }
        ("GET", ["api", "schedules"]) => {
            ok(200, json!({"schedules": [schedule(SCHEDULE, true), schedule(SCHEDULE_BEFORE, false)]}))
        }
        ("GET", ["api", "schedules", "preview"]) if query.contains("2020") => ok(200, json!({"times": []})),
        ("GET", ["api", "schedules", "preview"]) => {
            let times = ["2030-03-29T08:00:00.000Z", "2030-04-01T07:00:00.000Z", "2030-04-02T07:00:00.000Z"];
            ok(200, json!({"times": times}))
        }
        ("GET", ["api", "schedules", SCHEDULE]) => ok(200, json!({"schedule": schedule(SCHEDULE, true)})),
        ("PATCH", ["api", "schedules", id]) => {
            let enabled = input["enabled"].as_bool().unwrap_or(true);
            ok(200, json!({"schedule": schedule(id, enabled)}))
        }
        ("DELETE", ["api", "schedules", _]) => ok(200, json!({"ok": true})),
        ("POST", ["api", "schedules", _, "run"]) => ok(201, json!({"item": item("pending")})),
        ("GET", ["api", "schedules", SCHEDULE, "runs"]) => {
            let (mut failed, mut by_hand) = (item("failed"), item("completed"));
            failed["scheduledFor"] = json!("2030-03-28T08:00:00.000Z");
            by_hand["scheduledFor"] = Value::Null;
            ok(200, json!({"items": [by_hand, failed]}))
        }
        ("GET", ["api", "schedules", ..]) => problem(404, "not_found", "Schedule not found"),
        ("GET", ["api", "usage", "stats"]) => ok(200, usage(query)),
        ("GET", ["api", "agents"]) => ok(200, json!({"agents": [agent("hello", 3, json!({})), agent("qa-bot", 1, json!({}))]})),
        ("GET", ["api", "agents", "hello"]) => ok(200, json!({"agent": agent("hello", 3, json!({"TOKEN": "***"}))})),
        ("DELETE", ["api", "agents", "hello"]) => ok(200, json!({"ok": true})),
        ("PUT", ["api", "agents", "broken", "archive"]) => problem(400, "invalid_request", ".mcp.json:3: expected a value"),
        ("PUT", ["api", "agents", name, "archive"]) => {
            let mut uploads = state.uploads.lock().expect("no panic");
            *uploads += 1;
            ok(201, json!({"agent": agent(name, *uploads, json!({}))}))
        }
        ("PATCH", ["api", "agents", name]) => ok(200, json!({"agent": agent(name, 1, input["env"].clone())})),
        (method, ["api", "agents", "hello", rest @ ..]) if rest.first().is_some_and(|name| name.starts_with("eval-")) => {
            match super::evals::answer(method, rest, &input, before_now()) {
                (status, Value::String(sentence)) => problem(status, "conflict", &sentence),
                (status, body) => ok(status, body),
            }
        }
        (_, ["api", "agents", ..]) => problem(404, "not_found", "Agent not found"),
        ("POST", ["api", "sessions"]) if input["agent"] == "hello" => ok(201, json!({"session": session(SESSION, "active")})),
        ("POST", ["api", "sessions"]) if input["agent"] == "full" => problem(503, "unavailable", "capacity reached"),
        ("POST", ["api", "sessions"]) => problem(404, "not_found", &format!("Agent {} not found", input["agent"])),
        ("GET", ["api", "sessions"]) if query.contains("agent=none") => ok(200, json!({"sessions": [], "total": 0})),
        ("GET", ["api", "sessions"]) => {
            let mut sessions = vec![session(SESSION, "active")];
            if !query.contains("status=active") {
                sessions.push(session(ENDED, "ended"));
            }
            ok(200, json!({"sessions": sessions, "total": 7}))
        }
        ("POST", ["api", "sessions", ENDED, "messages"]) => problem(400, "conflict", "Session is ended"),
        (method, ["api", "sessions", SESSION | ENDED, rest @ ..]) => {
            of_session(method, path[2], rest, query, &input, before, state).await
        }
        (_, ["api", "sessions", ..]) => problem(404, "not_found", "Session not found"),
        ("GET", ["api", "audit"]) if query.contains("action=gc.run") => ok(200, json!({"entries": []})),
        ("GET", ["api", "audit"]) => ok(200, json!({"entries": [audited("key.create", 90), audited("agent.deploy", 9000)]})),
        ("DELETE", ["api", "credentials", SESSION]) => ok(200, json!({"ok": true})),
        ("POST", ["api", "gc"]) => {
            let removal = json!({"kind": "session", "name": ENDED, "reason": "ended long ago", "bytes": 4096});
            ok(200, json!({"dryRun": input["dryRun"], "removals": [removal], "bytes": 4096, "overBytes": 0}))
        }
        ("GET", ["api", "credentials"]) => ok(200, json!({"credentials": [credential()]})),
        ("POST", ["api", "echo"]) => ok(200, input),
        ("POST", ["api", "api-keys"]) => ok(201, json!({"id": SESSION, "key": format!("ash_{}", "k".repeat(43))})),
        ("GET", ["api", "api-keys"]) => ok(200, json!({"keys": [key("ci"), key("laptop")]})),
        ("DELETE", ["api", "api-keys", SESSION]) => ok(200, json!({"ok": true})),
        ("DELETE", ["api", "api-keys", _]) => problem(404, "not_found", "API key not found"),
        _ => problem(404, "not_found", "Not Found"),
    }
}

async fn of_session(
    method: &str,
    id: &str,
    rest: &[&str],
    query: &str,
    input: &Value,
    before: usize,
    state: &Arc<State>,
) -> Response<Body> {
    match (method, rest) {
        ("GET", []) => ok(200, json!({"session": session(id, if id == SESSION { "active" } else { "ended" })})),
        ("DELETE", []) => ok(200, json!({"session": session(id, "ended")})),
        ("POST", ["messages"]) => turn(input["content"].as_str().unwrap_or_default(), before, state.clone()),
        ("GET", ["stream"]) if query.contains("turn=") => resumed(query),
        ("GET", ["stream"]) => log(query, id),
        ("GET", ["turns"]) => {
            let all = match query {
                query if query.contains("state=running") => vec![turn_row("running")],
                query if query.contains("state=queued") => vec![turn_row("queued"), turn_row("queued")],
                query if query.contains("state=failed") => vec![],
                _ => vec![turn_row("completed"), turn_row("running"), turn_row("queued")],
            };
            ok(200, json!({ "turns": all }))
        }
        ("GET", ["turns", TURN]) => ok(200, json!({"turn": turn_row("completed")})),
        ("POST", ["turns", TURN, "cancel"]) => {
            let seen = |what: &dyn Fn(&Seen) -> bool| state.seen.borrow().iter().filter(|seen| what(seen)).count();
            let is_away = seen(&|seen| seen.line.contains("/cancel")) == 1;
            if is_away && seen(&|seen| String::from_utf8_lossy(&seen.body).contains("wait, away")) > 0 {
                return problem(503, "unavailable", "The daemon restarts");
            }
            state.interrupted.send_replace(true);
            ok(200, json!({"turn": turn_row("cancelled")}))
        }
        (_, ["turns", ..]) => problem(404, "not_found", "Turn not found"),
        ("GET", ["egress"]) => ok(200, json!({"allow": ["pypi"], "source": "agent", "operator": ["*:*"]})),
        ("PATCH", ["egress"]) => {
            let (status, applied) = if input["allow"] == json!(["slow.example"]) { (202, "pending") } else { (200, "now") };
            ok(status, json!({"allow": input["allow"], "source": "session", "operator": ["*:*"], "applied": applied}))
        }
        ("GET", ["security"]) => {
            let walls = json!([
                {"name": "user", "state": "ok", "detail": "uid 65537, without a capability, and no program can gain one"},
                {"name": "proc", "state": "weak", "detail": "debuggers work: a tool can change what the runtime says"},
                {"name": "apparmor", "state": "off", "detail": "no profile; no other wall depends on it"},
            ]);
            ok(200, json!({"sessionId": SESSION, "of": "next", "strict": false, "walls": walls}))
        }
        ("GET", ["limits"]) => ok(200, limits(&json!({}), &json!([]))),
        ("PATCH", ["limits"]) => ok(200, limits(input, &json!(["maxOpenFiles"]))),
        ("GET", ["permissions"]) => {
            let mut all = vec![permission(None)];
            if !query.contains("state=pending") {
                all.insert(
                    0,
                    permission(Some(json!({"id": REQUEST, "behavior": "deny", "by": "timeout", "message": "Nobody."}))),
                );
            }
            ok(200, json!({ "permissions": all }))
        }
        ("GET", ["permissions", REQUEST]) => ok(200, json!({"permission": permission(None)})),
        ("POST", ["permissions", REQUEST]) if input["message"] == "late" => {
            problem(409, "conflict", "The permission request is resolved already")
        }
        ("POST", ["permissions", REQUEST]) => {
            state.answered.send_replace(Some(input.clone()));
            let resolved = json!({"id": REQUEST, "behavior": input["behavior"], "scope": input["scope"], "by": "caller"});
            ok(200, json!({"permission": permission(Some(resolved))}))
        }
        (_, ["permissions", ..]) => problem(404, "not_found", "Permission request not found"),
        ("POST", ["workspace"]) => ok(200, json!({"message": "They are in the workspace."})),
        ("POST", ["fork"]) => ok(201, json!({"session": session(ENDED, "paused")})),
        ("POST", ["resume"]) => ok(200, json!({"session": session(id, "active")})),
        ("POST", ["rewind"]) => ok(200, json!({"session": session(id, "active")})),
        ("GET", ["snapshots"]) => ok(200, json!({"snapshots": []})),
        ("GET", ["files"]) => {
            let file = json!({"path": "notes.md", "size": 5, "modifiedAt": ago(7200)});
            ok(200, json!({"files": [file], "source": "sandbox", "truncated": false}))
        }
        ("GET", ["files", "notes.md"]) => {
            let notes = state.notes.lock().expect("no panic").clone();
            Response::builder().body(ash::client::connect::whole(notes)).expect("a response")
        }
        ("POST", ["files"]) => {
            let path = input["files"][0]["path"].clone();
            *state.notes.lock().expect("no panic") = input["files"][0]["content"].as_str().unwrap_or_default().to_owned();
            ok(200, json!({"files": [{"path": path, "written": true}]}))
        }
        (_, ["files", ..]) => problem(404, "not_found", "File not found"),
        ("POST", ["interrupt"]) => ok(200, json!({"turnId": TURN})),
        ("GET", ["messages"]) => ok(200, json!({"messages": messages()})),
        ("GET", ["events"]) => ok(200, json!({"events": events()})),
        _ => problem(404, "not_found", "Not Found"),
    }
}

/// The stream of a turn; what is asked decides how it goes.
fn turn(content: &str, before: usize, state: Arc<State>) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(64);
    let content = content.to_owned();
    let send = move |step: Step| sender.try_send(step).expect("room for every frame");
    send(Step::Send(": welcome\n\n".into()));
    send(Step::Send(frame(1, "session_start", json!({"sessionId": SESSION, "version": "0.0.0", "turnId": TURN}))));
    match content.as_str() {
        "tool" => {
            send(Step::Send(say(2, "Let me look.")));
            let input = json!({"command": "ls -la /work", "description": "List files"});
            send(Step::Send(frame(3, "tool_use", json!({"id": "t1", "name": "Bash", "input": input}))));
            send(Step::Send(frame(4, "tool_result", json!({"tool_use_id": "t1", "content": "CLAUDE.md\n", "is_error": false}))));
            send(Step::Send(frame(5, "tool_use", json!({"id": "t2", "name": "Read", "input": {"file_path": "/etc/shadow"}}))));
            send(Step::Send(frame(
                6,
                "tool_result",
                json!({"tool_use_id": "t2", "content": "permission denied", "is_error": true}),
            )));
            send(Step::Send(say(7, "There is one file.")));
            send(Step::Send(done(8, "completed")));
        }
        "fail" => {
            send(Step::Send(frame(2, "error", json!({"error": "the model endpoint answered 529: overloaded"}))));
            send(Step::Send(done(3, "failed")));
        }
        "escape" => {
            send(Step::Send(say(2, "a\u{1b}]0;owned\u{7}b")));
            send(Step::Send(done(3, "completed")));
        }
        "cut" => {
            send(Step::Send(delta(2, "Hello ")));
            send(Step::Send(delta(3, "the")));
            send(Step::Flush);
            send(Step::Cut);
        }
        // The first time nothing arrives.
        "cut early" if before == 0 => send(Step::Cut),
        "may I" | "may I long" | "ask me" | "too late" => {
            let wanted = content.clone();
            send(Step::Send(frame(2, "permission_request", request(&wanted))));
            tokio::spawn(async move {
                let mut answers = state.answered.subscribe();
                let mut interrupted = state.interrupted.subscribe();
                let (behavior, by) = if wanted == "too late" {
                    ("deny".to_owned(), "timeout")
                } else {
                    tokio::select! {
                        answer = answers.wait_for(Option::is_some) => {
                            let answer = answer.expect("the daemon lives").clone().unwrap_or_default();
                            (answer["behavior"].as_str().unwrap_or_default().to_owned(), "caller")
                        }
                        _ = interrupted.wait_for(|yes| *yes) => ("deny".to_owned(), "turn_end"),
                    }
                };
                send(Step::Send(frame(3, "permission_resolved", json!({"id": REQUEST, "behavior": behavior, "by": by}))));
                if by == "turn_end" {
                    send(Step::Send(done(4, "interrupted")));
                    return;
                }
                send(Step::Send(say(4, &format!("It was {behavior}."))));
                let usage = json!({"wallMs": 1234, "toolCalls": 1, "models": {"m": {"calls": 1, "inputTokens": 12_300, "outputTokens": 456}}, "costUsd": 0.0123});
                send(Step::Send(frame(
                    5,
                    "done",
                    json!({"sessionId": SESSION, "turnId": TURN, "state": "completed", "usage": usage}),
                )));
            });
        }
        "no key" => {
            send(Step::Send(frame(2, "error", json!({"error": "API Error: 401 invalid x-api-key"}))));
            send(Step::Send(done(3, "failed")));
        }
        "wait" | "wait, away" => {
            send(Step::Send(delta(2, "Well")));
            tokio::spawn(async move {
                let mut interrupted = state.interrupted.subscribe();
                // The sender lives as long as the daemon.
                drop(interrupted.wait_for(|yes| *yes).await);
                send(Step::Send(done(3, "interrupted")));
            });
        }
        _ => {
            send(Step::Send(delta(2, "Hello ")));
            send(Step::Send(delta(3, "there.")));
            send(Step::Send(say(4, "Hello there.")));
            send(Step::Send(frame(5, "turn_complete", json!({"numTurns": 1, "result": "Hello there."}))));
            send(Step::Send(done(6, "completed")));
        }
    }
    sse(receiver)
}

/// The rest of the turn that was cut, with a frame that is known already.
fn resumed(query: &str) -> Response<Body> {
    if query != format!("after=3&turn={TURN}&partials=true") {
        return problem(400, "invalid_request", &format!("unexpected query {query}"));
    }
    let (sender, receiver) = mpsc::channel(8);
    for frame in [delta(3, "the"), delta(4, "re."), say(5, "Hello there."), done(6, "completed")] {
        sender.try_send(Step::Send(frame)).expect("room");
    }
    sse(receiver)
}

/// The log of a session, which is cut once and has an end if the session has.
fn log(query: &str, id: &str) -> Response<Body> {
    let after: i64 = query.split('&').find_map(|part| part.strip_prefix("after=")?.parse().ok()).unwrap_or(0);
    let (sender, receiver) = mpsc::channel(8);
    let frames = [
        frame(1, "session_start", json!({"sessionId": SESSION, "version": "0.0.0", "turnId": TURN})),
        delta(2, "Hello "),
        say(3, "Hello there."),
        frame(4, "lifecycle", json!({"action": "sandbox_ended", "cause": "finished"})),
    ];
    for (id, text) in (1..).zip(frames) {
        if id > after {
            sender.try_send(Step::Send(text)).expect("room");
        }
        if after == 0 && id == 2 && query.contains("types=") {
            sender.try_send(Step::Flush).expect("room");
            sender.try_send(Step::Cut).expect("room");
            break;
        }
    }
    if id == SESSION {
        // It lives on.
        tokio::spawn(async move { sender.closed().await });
    }
    sse(receiver)
}

/// What happens next on a stream.
enum Step {
    Send(String),
    /// Everything so far leaves the daemon.
    Flush,
    /// The connection breaks; what has not left is lost.
    Cut,
}

fn sse(receiver: mpsc::Receiver<Step>) -> Response<Body> {
    let frames = stream::unfold(receiver, |mut receiver| async move {
        let bytes = loop {
            match receiver.recv().await? {
                Step::Send(text) => break Ok(Frame::data(Bytes::from(text))),
                // The connection flushes when its body has nothing to give.
                Step::Flush => tokio::task::yield_now().await,
                Step::Cut => break Err(std::io::Error::other("the daemon restarts")),
            }
        };
        Some((bytes, receiver))
    });
    let builder = Response::builder().header("content-type", "text/event-stream");
    builder.body(StreamBody::new(frames).boxed()).expect("a response")
}

fn frame(id: i64, event: &str, data: Value) -> String {
    format!("id: {id}\nevent: {event}\ndata: {data}\n\n")
}

fn delta(id: i64, text: &str) -> String {
    frame(id, "text_delta", json!({"delta": text}))
}

fn say(id: i64, text: &str) -> String {
    let message = json!({"role": "assistant", "content": [{"type": "text", "text": text}]});
    frame(id, "message", json!({"type": "assistant", "message": message, "parent_tool_use_id": null}))
}

fn done(id: i64, state: &str) -> String {
    frame(id, "done", json!({"sessionId": SESSION, "turnId": TURN, "state": state}))
}

fn ok(status: u16, value: Value) -> Response<Body> {
    let whole = ash::client::connect::whole(value.to_string());
    Response::builder().status(status).header("content-type", "application/json").body(whole).expect("a response")
}

fn problem(status: u16, code: &str, error: &str) -> Response<Body> {
    ok(status, json!({"error": error, "statusCode": status, "code": code, "requestId": "r-1"}))
}
