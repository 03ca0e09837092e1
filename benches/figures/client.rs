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

impl Session {
    fn of(answer: &Value) -> anyhow::Result<Self> {
        let text = |name: &str| answer["session"][name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
        Ok(Self { id: text("id")?, sandbox: text("sandboxId")? })
    }
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
        Ok((took, Session::of(&answer)?))
    }

    /// Ends a session.
    pub fn end(&self, session: &Session) -> anyhow::Result<()> {
        self.expect(200, "DELETE", &format!("/api/sessions/{}", session.id), None).map(drop)
    }

    /// Asks for a change of a session as a whole, such as `pause`; says how long that took.
    pub fn change(&self, session: &Session, verb: &str) -> anyhow::Result<Duration> {
        let before = Instant::now();
        self.expect(200, "POST", &format!("/api/sessions/{}/{verb}", session.id), None)?;
        Ok(before.elapsed())
    }

    /// Makes another session of this one; says how long that took.
    pub fn fork(&self, session: &Session) -> anyhow::Result<(Duration, Session)> {
        let before = Instant::now();
        let answer = self.expect(201, "POST", &format!("/api/sessions/{}/fork", session.id), None)?;
        Ok((before.elapsed(), Session::of(&answer)?))
    }

    /// What the log of a session tells of what was done with it, oldest first.
    pub fn told(&self, session: &Session, action: &str) -> anyhow::Result<Vec<Value>> {
        let answer = self.expect(200, "GET", &format!("/api/sessions/{}/events?type=lifecycle&limit=1000", session.id), None)?;
        let events = answer["events"].as_array().context("no events")?;
        let data = events.iter().filter_map(|event| serde_json::from_str(event["data"].as_str()?).ok());
        Ok(data.filter(|data: &Value| data["action"] == action).collect())
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

    /// Opens the stream of a session at its end, and waits for what it begins with.
    pub fn listen(&self, session: &Session) -> anyhow::Result<http::Open> {
        let path = format!("/api/sessions/{}/stream?types=done", session.id);
        let mut stream = http::open(&self.target, "GET", &path, &[], None)?;
        ensure!(String::from_utf8_lossy(&stream.chunk()?).contains("retry:"), "no stream at {path}");
        Ok(stream)
    }

    /// Id of the last event of the newest turn that is over.
    pub fn tail(&self, session: &Session) -> anyhow::Result<i64> {
        let path = format!("/api/sessions/{}/turns?state=completed&limit=1000", session.id);
        let answer = self.expect(200, "GET", &path, None)?;
        let turns = answer["turns"].as_array().context("no turns")?;
        turns.iter().filter_map(|turn| turn["lastEvent"].as_i64()).max().context("no turn is over")
    }

    /// Follows a session from after this event to the end of a turn; gives the number of events seen.
    pub fn follow(&self, session: &Session, after: i64) -> anyhow::Result<usize> {
        let path = format!("/api/sessions/{}/stream?after={after}", session.id);
        let mut stream = http::open(&self.target, "GET", &path, &[], None)?;
        let mut events = 0;
        loop {
            let chunk = stream.chunk()?;
            ensure!(!chunk.is_empty(), "the stream of {path} ended after {events} events");
            let text = String::from_utf8_lossy(&chunk);
            events += text.matches("\nevent: ").count();
            if text.contains("\nevent: done\n") {
                return Ok(events);
            }
        }
    }

    /// How often the runtime of a session was started.
    pub fn runtime_starts(&self, session: &Session) -> anyhow::Result<usize> {
        Ok(self.told(session, "runtime_started")?.len())
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
