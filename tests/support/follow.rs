//! A client that follows a session's stream over any number of cuts, from the last whole frame on.

use std::time::{Duration, Instant};

use super::http::{self, Event, Frames, Open, Response, Target};
use super::{DEADLINE, pause};

/// How a client says where it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// `Last-Event-ID`, as browsers do. The query goes on saying where the first request began.
    Header,
    /// `after=`.
    Query,
}

/// What is followed, and how.
#[derive(Debug, Clone)]
pub struct Follower {
    /// Where.
    pub target: Target,
    /// What each request carries, such as a key.
    pub headers: Vec<(String, String)>,
    /// The session.
    pub session: String,
    /// One turn of it; `None` for its whole life.
    pub turn: Option<String>,
    /// Token deltas too.
    pub partials: bool,
    /// How it goes on after a cut.
    pub resume: Resume,
    /// How long nothing may come before it gives up.
    pub patience: Duration,
}

impl Follower {
    /// Follows the whole life of a session with partials.
    pub fn new(target: Target, session: &str) -> Self {
        Self {
            target,
            headers: Vec::new(),
            session: session.to_owned(),
            turn: None,
            partials: true,
            resume: Resume::Query,
            patience: DEADLINE,
        }
    }

    /// The same, of one turn.
    pub fn turn(self, turn: &str) -> Self {
        Self { turn: Some(turn.to_owned()), ..self }
    }

    /// Asks for the stream after an event. `first` is where this client began.
    pub fn open(&self, first: i64, after: i64) -> std::io::Result<Open> {
        let in_query = if self.resume == Resume::Query { after } else { first };
        let mut path = format!("/api/sessions/{}/stream?after={in_query}&partials={}", self.session, self.partials);
        path.extend(self.turn.iter().flat_map(|turn| ["&turn=", turn]));
        let last_seen = after.to_string();
        let mut headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if self.resume == Resume::Header && after > first {
            headers.push(("last-event-id", &last_seen));
        }
        http::open(&self.target, "GET", &path, &headers, None)
    }

    /// `GET` of something else of the session, until an answer comes whole.
    pub fn get(&self, path: &str) -> Result<Response, String> {
        let end = Instant::now() + self.patience;
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        while Instant::now() < end {
            let answer = http::request(&self.target, "GET", path, &headers, None);
            if answer.ok_status() && serde_json::from_slice::<serde_json::Value>(&answer.body).is_ok() {
                return Ok(answer);
            }
            pause();
        }
        Err(format!("{path} is not answered"))
    }

    /// Goes on after `after` until `is_last` of an event, appending to `seen`. `pace` runs whenever
    /// something came. Also returns how often the stream was asked for.
    pub fn follow(
        &self,
        after: i64,
        seen: &mut Vec<Event>,
        mut pace: impl FnMut(),
        is_last: impl Fn(&Event) -> bool,
    ) -> Result<u64, String> {
        let mut opened = 0;
        let mut last_news = Instant::now();
        loop {
            let known = seen.len();
            let from = seen.last().map_or(after, |event| event.id);
            opened += 1;
            if let Ok(mut stream) = self.open(after, from)
                && stream.head.contains("\r\n\r\n")
            {
                if !stream.head.starts_with("HTTP/1.1 200") && !is_passing(&stream.head) {
                    return Err(format!("refused after {from}: {}", stream.finish().text()));
                }
                if stream.head.starts_with("HTTP/1.1 200") && read(&mut stream, seen, &mut pace, &is_last) {
                    return Ok(opened);
                }
            }
            if seen.len() > known {
                last_news = Instant::now();
            }
            if last_news.elapsed() > self.patience {
                return Err(format!("nothing for {} s, the last event is {:?}", self.patience.as_secs(), seen.last()));
            }
            pause();
        }
    }

    /// All events up to `is_last`, in order.
    pub fn all(&self, is_last: impl Fn(&Event) -> bool) -> Result<Vec<Event>, String> {
        let mut seen = Vec::new();
        self.follow(0, &mut seen, || (), is_last).map(|_| seen)
    }
}

/// Whether a refusal says that another try may help.
fn is_passing(head: &str) -> bool {
    head.starts_with("HTTP/1.1 503")
}

/// Reads whole frames up to the last one; false if the stream is cut before.
pub fn read(stream: &mut Open, seen: &mut Vec<Event>, mut pace: impl FnMut(), is_last: impl Fn(&Event) -> bool) -> bool {
    let mut frames = Frames::default();
    while let Ok(piece) = stream.piece() {
        if piece.is_empty() {
            return false;
        }
        for event in frames.take(&piece) {
            seen.push(event);
            if seen.last().is_some_and(&is_last) {
                return true;
            }
        }
        pace();
    }
    false
}

/// The last event of a turn.
pub fn is_done(event: &Event) -> bool {
    event.name == "done"
}

/// The last event of a session.
pub fn is_ended(event: &Event) -> bool {
    event.name == "lifecycle" && event.data["action"] == "ended"
}

/// Whether a stream without partials leaves it out.
pub fn is_partial(event: &Event) -> bool {
    event.name.ends_with("_delta") || event.data["type"] == "stream_event"
}

/// The turn that its first event names.
pub fn turn_of(start: &Event) -> Result<String, String> {
    start.data["turnId"].as_str().map(str::to_owned).ok_or_else(|| format!("it began with {start:?}"))
}

/// What is not the same in two lists of events, if anything.
pub fn difference(kept: &[Event], seen: &[Event]) -> Option<String> {
    if let Some(pair) = seen.windows(2).find(|pair| pair[0].id >= pair[1].id) {
        return Some(format!("event {} came after {}", pair[1].id, pair[0].id));
    }
    let first = kept.iter().zip(seen).position(|(kept, seen)| kept != seen);
    let at = first.or_else(|| (kept.len() != seen.len()).then(|| kept.len().min(seen.len())))?;
    Some(format!("of {} events the log has {:?} where {:?} came", kept.len(), kept.get(at), seen.get(at)))
}
