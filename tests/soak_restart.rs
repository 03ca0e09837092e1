//! For as long as one likes: the daemon is killed at random instants while several sessions
//! stream, and every client that resumes by its cursor ends up with exactly what was said.
//!
//! Runs with `ASH_SOAK=1` only. `ASH_SOAK_ROUNDS` says how many kills (30), `ASH_SOAK_SEED` repeats
//! the random choices of a run; which instruction a kill hits is up to the scheduler.

#![allow(clippy::print_stderr, reason = "it says how far it is")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::http::{self, Event, Open, Target, events};
use support::{Daemon, Model, claude};

const SESSIONS: u64 = 4;
const ROUNDS: u64 = 30;
/// Longest time between a start and the next kill.
const UP_MAX: Duration = Duration::from_secs(3);
/// Longest answer; it comes in four pieces a second.
const ANSWER_MAX_SECS: u64 = 6;
/// A turn that takes longer than this, with all restarts in it, has lost something. Long, since on
/// a busy machine the daemon may be killed again before it has served anybody.
const TURN_DEADLINE: Duration = Duration::from_secs(180);

/// A small generator of numbers that only have to differ: SplitMix64.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// A client with one session, which it follows over all restarts.
struct Client {
    target: Target,
    session: String,
    /// The last event that it has seen.
    cursor: i64,
    turns: u64,
    resumed: u64,
    lost: Vec<String>,
}

impl Client {
    /// Talks until it is told to stop.
    fn talk(&mut self, mut random: Random, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let (secs, before) = (1 + random.below(ANSWER_MAX_SECS), self.cursor);
            self.turns += 1;
            // The digits behind the seconds make the message the only one of its text.
            let message = format!("slow: {secs}.0{:06}", self.turns);
            let outcome = self.turn(&message).and_then(|seen| self.check(before, secs, &seen));
            if let Err(reason) = outcome {
                eprintln!("session {} lost turn {} ({message}): {reason}", self.session, self.turns);
                self.lost.push(reason);
            }
        }
    }

    /// Says one thing and follows its answer to the end, over any number of restarts.
    fn turn(&mut self, message: &str) -> Result<Vec<Event>, String> {
        let (end, mut seen) = (Instant::now() + TURN_DEADLINE, Vec::new());
        let body = json!({"content": message, "includePartialMessages": true}).to_string();
        let post = format!("/api/sessions/{}/messages", self.session);
        let json_type = [("content-type", "application/json")];
        let mut turn: Option<String> = None;
        loop {
            let opened = if let Some(turn) = &turn {
                self.resumed += 1;
                self.open(self.cursor, turn)
            } else {
                http::open(&self.target, "POST", &post, &json_type, Some(body.as_bytes()))
            };
            if let Ok(mut stream) = opened
                && !stream.head.is_empty()
            {
                if !stream.head.starts_with("HTTP/1.1 200") {
                    return Err(format!("refused: {}", stream.finish().text()));
                }
                let is_over = read(&mut stream, &mut seen, "done");
                self.cursor = seen.last().map_or(self.cursor, |event| event.id);
                if is_over {
                    return Ok(seen);
                }
            }
            if Instant::now() > end {
                return Err(format!("no end within {} s, the last event is {:?}", TURN_DEADLINE.as_secs(), seen.last()));
            }
            pause();
            turn = match seen.first() {
                Some(first) => Some(turn_of(first)?),
                // A message whose answer was cut before its first frame may have been taken.
                None => self.find_turn(message, end)?,
            };
        }
    }

    fn open(&self, after: i64, turn: &str) -> std::io::Result<Open> {
        http::open(&self.target, "GET", &format!("/api/sessions/{}/stream?after={after}&turn={turn}", self.session), &[], None)
    }

    /// The turn of a message, if it was taken.
    fn find_turn(&self, message: &str, end: Instant) -> Result<Option<String>, String> {
        while Instant::now() < end {
            let path = format!("/api/sessions/{}/messages?limit=1000", self.session);
            let listed = http::request(&self.target, "GET", &path, &[], None);
            // An answer that was cut does not count.
            if listed.ok_status() && listed.body.ends_with(b"}") {
                if !listed.text().contains(message) {
                    return Ok(None);
                }
                let path = format!("/api/sessions/{}/stream?after={}", self.session, self.cursor);
                let mut frames = Vec::new();
                if let Ok(mut stream) = http::open(&self.target, "GET", &path, &[], None)
                    && read(&mut stream, &mut frames, "session_start")
                    && let Some(start) = frames.last()
                {
                    return turn_of(start).map(Some);
                }
            }
            pause();
        }
        Err("nobody said whether the message was taken".to_owned())
    }

    /// Compares what was seen with what was said, and with what the log says now.
    fn check(&self, before: i64, secs: u64, seen: &[Event]) -> Result<(), String> {
        if let Some(pair) = seen.windows(2).find(|pair| pair[0].id >= pair[1].id) {
            return Err(format!("event {} came after {}", pair[1].id, pair[0].id));
        }
        let done = seen.last().map(|event| event.data["state"].clone());
        if done != Some(json!("completed")) {
            let error = seen.iter().find(|event| event.name == "error");
            return Err(format!("it ended {done:?}: {error:?}"));
        }
        let said: String = (1..=secs * 4).map(|n| format!("tick {n}\n")).collect();
        let streamed: String = seen.iter().filter(|e| e.name == "text_delta").filter_map(|e| e.data["delta"].as_str()).collect();
        if streamed != said {
            return Err(format!("the pieces are {streamed:?}"));
        }
        if http::result(seen).trim_end() != said.trim_end() {
            return Err(format!("the result is {:?}", http::result(seen)));
        }
        let turn = seen.first().map(turn_of).transpose()?.unwrap_or_default();
        let kept = self.reread(before, &turn)?;
        let first = kept.iter().zip(seen).position(|(kept, seen)| kept != seen);
        if first.is_some() || kept.len() != seen.len() {
            let at = first.unwrap_or(kept.len().min(seen.len()));
            return Err(format!("the log has {:?} where {:?} came", kept.get(at), seen.get(at)));
        }
        Ok(())
    }

    /// The turn after `before`, read in one go.
    fn reread(&self, before: i64, turn: &str) -> Result<Vec<Event>, String> {
        let end = Instant::now() + TURN_DEADLINE;
        while Instant::now() < end {
            let mut kept = Vec::new();
            if let Ok(mut stream) = self.open(before, turn)
                && read(&mut stream, &mut kept, "done")
            {
                return Ok(kept);
            }
            pause();
        }
        Err("the log can not be read again".to_owned())
    }
}

/// Reads whole frames up to the first one of this name; false if the stream is cut before.
fn read(stream: &mut Open, seen: &mut Vec<Event>, last: &str) -> bool {
    let mut rest = Vec::new();
    while let Ok(chunk) = stream.chunk() {
        if chunk.is_empty() {
            return false;
        }
        rest.extend(chunk);
        // What is cut in mid frame is asked for again.
        let whole = rest.windows(2).rposition(|end| end == b"\n\n").map_or(0, |end| end + 2);
        let frames: Vec<u8> = rest.drain(..whole).collect();
        for event in events(&String::from_utf8_lossy(&frames)) {
            seen.push(event);
            if seen.last().is_some_and(|event| event.name == last) {
                return true;
            }
        }
    }
    false
}

/// The turn that the first event of an answer names.
fn turn_of(start: &Event) -> Result<String, String> {
    start.data["turnId"].as_str().map(str::to_owned).ok_or_else(|| format!("it began with {start:?}"))
}

/// Lets a daemon that is down come back.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(20));
}

#[test]
fn kills_at_random_instants_lose_no_event_and_no_turn() {
    if std::env::var_os("ASH_SOAK").is_none() {
        eprintln!("skipped: a soak test, which ASH_SOAK=1 asks for");
        return;
    }
    let Some(claude) = claude() else { return };
    let rounds = number("ASH_SOAK_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("ASH_SOAK_SEED").unwrap_or_else(|| std::process::id().into());
    eprintln!("seed {seed}, {rounds} rounds, {SESSIONS} sessions");
    let model = Model::start();
    let mut daemon = Daemon::start(&claude, &model.url);
    daemon.session();
    let target = daemon.control();
    let client = |_| Client {
        target: target.clone(),
        session: daemon.create(&json!({"agent": "test"})),
        cursor: 0,
        turns: 0,
        resumed: 0,
        lost: Vec::new(),
    };
    let mut clients: Vec<Client> = (0..SESSIONS).map(client).collect();
    let (stop, mut random) = (AtomicBool::new(false), Random(seed));
    std::thread::scope(|scope| {
        for (number, client) in (1..).zip(&mut clients) {
            let (random, stop) = (Random(seed.wrapping_add(number)), &stop);
            scope.spawn(move || client.talk(random, stop));
        }
        for round in 1..=rounds {
            let next = Instant::now() + Duration::from_millis(random.below(UP_MAX.as_millis() as u64));
            while let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            daemon.kill();
            daemon.run();
            if round % 10 == 0 {
                eprintln!("round {round}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let sum = |of: fn(&Client) -> u64| clients.iter().map(of).sum::<u64>();
    let lost = sum(|client| client.lost.len() as u64);
    let (turns, resumed) = (sum(|client| client.turns), sum(|client| client.resumed));
    eprintln!("{rounds} rounds, {turns} turns, {resumed} resumed streams, {lost} turns lost, seed {seed}");
    assert!(turns > 0 && resumed > 0, "nothing was tried");
    assert_eq!(lost, 0, "seed {seed}\n{}", daemon.log());
}
