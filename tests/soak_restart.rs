//! The daemon is killed and restarted at random instants while turns run in twenty sessions: none
//! of them is lost, and every client that goes on from its cursor ends up with exactly what was
//! said.
//!
//! 50 rounds; with `ASH_SOAK=1` there are 1000. `ASH_SOAK_ROUNDS` says another number,
//! `ASH_SOAK_SEED` repeats the random choices of a run; which instruction a kill hits is up to the
//! scheduler.

#![allow(clippy::print_stderr, reason = "it says how far it is")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::follow::{Follower, difference, is_done, is_ended, read, turn_of};
use support::http::{self, Event, Target};
use support::{Daemon, Model, Random, claude, number, pause, seed};

const SESSIONS: u64 = 20;
const ROUNDS: u64 = 50;
const SOAK_ROUNDS: u64 = 1000;
/// Longest time between a start and the next kill.
const UP_MAX: Duration = Duration::from_secs(3);
/// Longest answer; it comes in four pieces a second.
const ANSWER_MAX_SECS: u64 = 6;
/// A turn that takes longer than this, with all restarts in it, has lost something. Long, since on
/// a busy machine the daemon may be killed again before it has served anybody.
const TURN_DEADLINE: Duration = Duration::from_secs(180);

/// A client with one session, which it follows over all restarts.
struct Client {
    target: Target,
    session: String,
    /// The last event that it has seen.
    cursor: i64,
    /// Messages that it has seen in the list.
    messages: i64,
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

    fn follower(&self) -> Follower {
        Follower { patience: TURN_DEADLINE, ..Follower::new(self.target.clone(), &self.session) }
    }

    /// Says one thing and follows its answer to the end, over any number of restarts.
    fn turn(&mut self, message: &str) -> Result<Vec<Event>, String> {
        let (end, mut seen) = (Instant::now() + TURN_DEADLINE, Vec::new());
        let body = json!({"content": message, "includePartialMessages": true}).to_string();
        let path = format!("/api/sessions/{}/messages", self.session);
        let kind = [("content-type", "application/json")];
        let turn = loop {
            if let Ok(mut stream) = http::open(&self.target, "POST", &path, &kind, Some(body.as_bytes()))
                && !stream.head.is_empty()
            {
                if !["HTTP/1.1 200", "HTTP/1.1 503"].iter().any(|status| stream.head.starts_with(status)) {
                    return Err(format!("refused: {}", stream.finish().text()));
                }
                read(&mut stream, &mut seen, || (), is_done);
            }
            // A message whose answer was cut before its first frame may have been taken.
            let turn = seen.first().map(turn_of).or_else(|| self.find_turn(message).transpose());
            if let Some(turn) = turn.transpose()? {
                break turn;
            }
            if Instant::now() > end {
                return Err("the message is not taken".to_owned());
            }
            pause();
        };
        if !seen.last().is_some_and(is_done) {
            self.resumed += self.follower().turn(&turn).follow(self.cursor, &mut seen, || (), is_done)?;
        }
        self.cursor = seen.last().map_or(self.cursor, |event| event.id);
        Ok(seen)
    }

    /// The turn of a message, if it was taken.
    fn find_turn(&mut self, message: &str) -> Result<Option<String>, String> {
        let (end, follower) = (Instant::now() + TURN_DEADLINE, self.follower());
        while Instant::now() < end {
            // Asked first: where nothing runs and nothing waits, every message is in the list.
            let state = follower.get(&format!("/api/sessions/{}", self.session))?.json();
            if self.is_listed(message)? {
                let mut before = Vec::new();
                follower.follow(self.cursor, &mut before, || (), |event| event.name == "session_start")?;
                return before.last().map(turn_of).transpose();
            }
            if state["session"]["sandboxState"] == "waiting" {
                return Ok(None);
            }
            pause();
        }
        Err("nobody said whether the message was taken".to_owned())
    }

    fn is_listed(&mut self, message: &str) -> Result<bool, String> {
        loop {
            let path = format!("/api/sessions/{}/messages?after={}&limit=1000", self.session, self.messages);
            let page = self.follower().get(&path)?;
            if page.text().contains(message) {
                return Ok(true);
            }
            match page.json()["messages"].as_array().and_then(|page| page.last()?["sequence"].as_i64()) {
                Some(last) => self.messages = last,
                None => return Ok(false),
            }
        }
    }

    /// Compares what was seen with what was said, and with what the log says now.
    fn check(&self, before: i64, secs: u64, seen: &[Event]) -> Result<(), String> {
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
        self.reread(before, &turn).and_then(|kept| difference(&kept, seen).map_or(Ok(()), Err))
    }

    /// The turn after `before`, read in one go.
    fn reread(&self, before: i64, turn: &str) -> Result<Vec<Event>, String> {
        let (end, follower) = (Instant::now() + TURN_DEADLINE, self.follower().turn(turn));
        while Instant::now() < end {
            let mut kept = Vec::new();
            if let Ok(mut stream) = follower.open(before, before)
                && read(&mut stream, &mut kept, || (), is_done)
            {
                return Ok(kept);
            }
            pause();
        }
        Err("the log can not be read again".to_owned())
    }
}

#[test]
fn kills_and_restarts_at_random_instants_lose_no_event_and_no_turn() {
    let Some(claude) = claude() else { return };
    let usual = if std::env::var_os("ASH_SOAK").is_some() { SOAK_ROUNDS } else { ROUNDS };
    let (rounds, seed) = (number("ASH_SOAK_ROUNDS").unwrap_or(usual), seed());
    eprintln!("seed {seed}, {rounds} rounds, {SESSIONS} sessions");
    let model = Model::start();
    let mut daemon = Daemon::start(&claude, &model.url);
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    let target = daemon.control();
    let client = |_| Client {
        target: target.clone(),
        session: daemon.create(&json!({"agent": "test"})),
        cursor: 0,
        messages: 0,
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
            if random.below(2) == 0 {
                daemon.kill();
            } else {
                daemon.stop();
            }
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
    for client in &clients {
        daemon.send("DELETE", &format!("/api/sessions/{}", client.session), &json!({}));
        let log = client.follower().all(is_ended).expect("the log can be read");
        assert!(log.iter().zip(1..).all(|(event, id)| event.id == id), "the log has no gap");
        let turns = log.iter().filter(|event| event.name == "session_start").count();
        assert_eq!((turns, log.iter().filter(|event| is_done(event)).count()), (client.turns as usize, client.turns as usize));
    }
}
