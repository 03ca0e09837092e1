//! Ash as a client sees it, with a clock in hand.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::http::{self, Response, Target};

/// The agent that is measured with.
const AGENT: &str = "bench";
/// `You are a test agent.` and the end of the line, in base64.
const INSTRUCTIONS: &str = "WW91IGFyZSBhIHRlc3QgYWdlbnQuCg==";

/// The control socket of the daemon on this machine.
#[derive(Debug)]
pub struct Ash {
    target: Target,
}

/// A session that was made.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Its sandbox.
    pub sandbox: String,
}

/// When parts of a turn's stream came, counted from before the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn {
    /// The first frame that is an event.
    pub first_event: Duration,
    /// The first piece of the answer's text.
    pub first_delta: Duration,
    /// The result.
    pub result: Duration,
    /// The end of the turn.
    pub done: Duration,
    /// Events up to the result.
    pub events: usize,
}

impl Ash {
    /// A daemon whose control socket is there.
    pub fn at(socket: &str) -> Self {
        Self { target: Target::Unix(socket.into()) }
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let body = body.map(|body| body.to_string().into_bytes());
        http::request(&self.target, method, path, &[("content-type", "application/json")], body.as_deref())
    }

    /// An answer that has to be of this status.
    fn expect(&self, status: u16, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let answer = self.send(method, path, body);
        if answer.status != status {
            bail!("{method} {path}: {} {}{}", answer.status, answer.head, answer.text());
        }
        Ok(answer.json())
    }

    /// Deploys the agent.
    pub fn deploy(&self) -> anyhow::Result<()> {
        let files = json!([{"path": "CLAUDE.md", "content": INSTRUCTIONS}]);
        self.expect(201, "POST", "/api/agents", Some(&json!({"name": AGENT, "files": files}))).map(drop)
    }

    /// Makes a session; says how long that took.
    pub fn create(&self) -> anyhow::Result<(Duration, Session)> {
        let before = Instant::now();
        let answer = self.expect(201, "POST", "/api/sessions", Some(&json!({"agent": AGENT})))?;
        let took = before.elapsed();
        let text = |name: &str| answer["session"][name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
        Ok((took, Session { id: text("id")?, sandbox: text("sandboxId")? }))
    }

    /// Ends a session.
    pub fn end(&self, session: &Session) -> anyhow::Result<()> {
        self.expect(200, "DELETE", &format!("/api/sessions/{}", session.id), None).map(drop)
    }

    /// Sends a message and follows its stream to the end.
    pub fn turn(&self, session: &Session, content: &str) -> anyhow::Result<Turn> {
        let body = json!({"content": content, "includePartialMessages": true}).to_string();
        let path = format!("/api/sessions/{}/messages", session.id);
        let mut turn = Turn::default();
        let before = Instant::now();
        let headers = [("content-type", "application/json")];
        let mut stream = http::open(&self.target, "POST", &path, &headers, Some(body.as_bytes()))?;
        ensure!(stream.head.starts_with("HTTP/1.1 200"), "POST {path}: {}", stream.head);
        loop {
            let chunk = stream.chunk()?;
            let now = before.elapsed();
            ensure!(!chunk.is_empty(), "the stream of {path} ended before its turn");
            let text = String::from_utf8_lossy(&chunk);
            let mark = |mark: &mut Duration, event: &str| {
                if mark.is_zero() && text.contains(event) {
                    *mark = now;
                }
            };
            mark(&mut turn.first_event, "event: ");
            mark(&mut turn.first_delta, "event: text_delta\n");
            if turn.result.is_zero() {
                turn.events += text.matches("\nevent: ").count();
            }
            mark(&mut turn.result, "event: turn_complete\n");
            mark(&mut turn.done, "event: done\n");
            ensure!(!text.contains("event: error\n"), "the turn of {path} failed: {text}");
            if !turn.done.is_zero() {
                return Ok(turn);
            }
        }
    }

    /// Reads all of a session's log again; gives the number of its events and how long it took.
    pub fn replay(&self, session: &Session, turn_events: usize) -> anyhow::Result<(usize, Duration)> {
        let before = Instant::now();
        let path = format!("/api/sessions/{}/stream?after=0", session.id);
        let mut stream = http::open(&self.target, "GET", &path, &[], None)?;
        let mut events = 0;
        while events < turn_events {
            let chunk = stream.chunk()?;
            ensure!(!chunk.is_empty(), "the stream of {path} ended after {events} events");
            events += String::from_utf8_lossy(&chunk).matches("\nevent: ").count();
        }
        Ok((events, before.elapsed()))
    }

    /// How often the runtime of a session was started.
    pub fn runtime_starts(&self, session: &Session) -> anyhow::Result<usize> {
        let answer = self.expect(200, "GET", &format!("/api/sessions/{}/events?type=lifecycle&limit=1000", session.id), None)?;
        let events = answer["events"].as_array().context("no events")?;
        Ok(events.iter().filter(|event| event["data"].to_string().contains("runtime_started")).count())
    }

    /// How many sandboxes it is connected with; `None` when it does not answer.
    pub fn connected_sandboxes(&self) -> Option<i64> {
        let answer = self.send("GET", "/health", None);
        if !answer.ok_status() {
            return None;
        }
        answer.json()["pool"]["waiting"].as_i64()
    }
}
