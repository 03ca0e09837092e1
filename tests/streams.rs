//! A stream never lies: whoever follows it, however often it is cut and wherever, ends up with the
//! log, without a gap, without anything twice, in order.
//!
//! Several sessions run turns of many events. Each is followed by clients of every kind, most of
//! them through a proxy that cuts connections at random bytes. At the end the list of every client
//! is compared with the log as it is read in one go.
//!
//! `ASH_SOAK=1` goes on until `ASH_SOAK_EVENTS` (1 000 000) events were compared. `ASH_SOAK_SEED`
//! repeats the random choices of a run.

#![allow(clippy::print_stderr, reason = "it says its seed and how far it is")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use serde_json::json;
use support::follow::{Follower, Resume, difference, is_done, is_ended, is_partial, read, turn_of};
use support::http::{self, Event, Target};
use support::proxy::{Cuts, Proxy};
use support::{DEADLINE, Daemon, Model, Random, claude, number, pause, seed};

const SESSIONS: u64 = 3;
/// Clients that follow a session's whole life.
const FOLLOWERS: u64 = 6;
const SOAK_EVENTS: u64 = 1_000_000;

/// Size of a run.
#[derive(Debug, Clone, Copy)]
struct Size {
    turns: u64,
    /// Pieces of text in a turn; each makes two events.
    pieces: u64,
}

/// What a client has seen, and what it should have.
struct Seen {
    who: String,
    /// One turn, or the whole life.
    turn: Option<String>,
    partials: bool,
    events: Vec<Event>,
}

/// Everything that the clients of one session share.
struct Stage<'a> {
    daemon: &'a Daemon,
    proxies: &'a [(Proxy, Vec<(String, String)>)],
    session: String,
    size: Size,
    turns_over: AtomicU64,
    resumed: &'a AtomicU64,
}

/// How a client reads.
#[derive(Debug, Clone, Copy)]
enum Pace {
    Fast,
    /// Now and then lets others go first.
    Slow,
    /// Now and then reads nothing until another turn is over.
    Stopping,
}

impl Stage<'_> {
    fn follower(&self, number: u64) -> Follower {
        let (proxy, headers) = &self.proxies[number as usize % self.proxies.len()];
        Follower {
            headers: headers.clone(),
            resume: if number.is_multiple_of(2) { Resume::Header } else { Resume::Query },
            // Every sixth without partials.
            partials: number % 6 != 5,
            ..Follower::new(proxy.target.clone(), &self.session)
        }
    }

    fn pace(&self, pace: Pace, mut random: Random) -> impl FnMut() {
        move || match pace {
            Pace::Slow if random.below(8) == 0 => pause(),
            Pace::Stopping if random.below(40) == 0 => {
                let (over, end) = (self.turns_over.load(Ordering::Relaxed), Instant::now() + DEADLINE);
                while over < self.size.turns && self.turns_over.load(Ordering::Relaxed) == over && Instant::now() < end {
                    pause();
                }
            }
            Pace::Fast | Pace::Slow | Pace::Stopping => {}
        }
    }

    /// Follows the whole life of the session.
    fn live(&self, number: u64, random: Random) -> Result<Seen, String> {
        let mut follower = self.follower(number);
        let pace = [Pace::Fast, Pace::Slow, Pace::Stopping][(number / 2) as usize % 3];
        if matches!(pace, Pace::Stopping) {
            // Through nobody else's buffers, so that the daemon is kept waiting.
            (follower.target, follower.headers) = (self.daemon.control(), Vec::new());
        }
        let mut events = Vec::new();
        let opened = follower.follow(0, &mut events, self.pace(pace, random), is_ended)?;
        self.resumed.fetch_add(opened - 1, Ordering::Relaxed);
        let who = format!("client {number} ({pace:?}, {:?})", follower.resume);
        Ok(Seen { who, turn: None, partials: follower.partials, events })
    }

    /// Follows one turn.
    fn one_turn(&self, turn: &str, number: u64, random: Random) -> Result<Seen, String> {
        let follower = self.follower(number).turn(turn);
        let mut events = Vec::new();
        let opened = follower.follow(0, &mut events, self.pace(Pace::Slow, random), is_done)?;
        self.resumed.fetch_add(opened - 1, Ordering::Relaxed);
        let who = format!("client {number} of a turn ({:?})", follower.resume);
        Ok(Seen { who, turn: Some(turn.to_owned()), partials: follower.partials, events })
    }

    /// Sends all messages, one after the other, over connections whose answers are cut, and names
    /// each turn as soon as it is known. In the end it ends the session.
    fn post(&self, turns: &Sender<String>, mut random: Random) -> Result<Vec<Seen>, String> {
        let proxy = Proxy::start(self.daemon.control(), Cuts::Answers, random.below(u64::MAX));
        let whole = Follower::new(self.daemon.control(), &self.session);
        let (mut posted, mut cursor) = (Vec::new(), 0);
        for number in 1..=self.size.turns {
            let partials = number != self.size.turns;
            let body = json!({"content": format!("many: {}", self.size.pieces), "includePartialMessages": partials}).to_string();
            let path = format!("/api/sessions/{}/messages", self.session);
            let kind = [("content-type", "application/json")];
            let mut events = Vec::new();
            if let Ok(mut stream) = http::open(&proxy.target, "POST", &path, &kind, Some(body.as_bytes()))
                && stream.head.contains("\r\n\r\n")
            {
                if !stream.head.starts_with("HTTP/1.1 200") {
                    return Err(format!("refused: {}", stream.finish().text()));
                }
                read(&mut stream, &mut events, || (), is_done);
            }
            let turn = match events.first() {
                Some(start) => turn_of(start)?,
                None => {
                    // It was taken, since requests arrive whole.
                    let mut before = Vec::new();
                    whole.follow(cursor, &mut before, || (), |event| event.name == "session_start")?;
                    turn_of(before.last().ok_or("nothing came")?)?
                }
            };
            turns.send(turn.clone()).map_err(|_| "nobody takes turns")?;
            if !events.last().is_some_and(is_done) {
                let follower = Follower { partials, ..Follower::new(proxy.target.clone(), &self.session).turn(&turn) };
                let opened = follower.follow(cursor, &mut events, || (), is_done)?;
                self.resumed.fetch_add(opened, Ordering::Relaxed);
            }
            cursor = events.last().map_or(cursor, |event| event.id);
            self.turns_over.fetch_add(1, Ordering::Relaxed);
            posted.push(Seen { who: "the sender".to_owned(), turn: Some(turn), partials, events });
        }
        let ended = self.daemon.send("DELETE", &format!("/api/sessions/{}", self.session), &json!({}));
        if ended.ok_status() { Ok(posted) } else { Err(format!("can not be ended: {}", ended.text())) }
    }

    /// Runs all clients of the session. Returns how many events were compared.
    fn run(&self, seed: u64) -> u64 {
        let (turns, started) = channel();
        let mut random = Random(seed);
        let mut next = move || Random(random.below(u64::MAX));
        let seen = std::thread::scope(|scope| {
            let poster = next();
            let poster = scope.spawn(move || self.post(&turns, poster));
            let mut clients = Vec::new();
            for number in 0..FOLLOWERS {
                let random = next();
                clients.push(scope.spawn(move || self.live(number, random)));
            }
            for (turn, number) in started.iter().zip((0..).step_by(2)) {
                for number in [number, number + 1] {
                    let (turn, random) = (turn.clone(), next());
                    clients.push(scope.spawn(move || self.one_turn(&turn, number, random)));
                }
            }
            let mut seen = poster.join().expect("no panic").unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            for client in clients {
                seen.push(client.join().expect("no panic").unwrap_or_else(|e| panic!("seed {seed}: {e}")));
            }
            seen
        });
        self.compare(&seen, seed)
    }

    fn compare(&self, seen: &[Seen], seed: u64) -> u64 {
        let direct = Follower { patience: DEADLINE, ..Follower::new(self.daemon.control(), &self.session) };
        let log = direct.all(is_ended).expect("the log can be read");
        let ids: Vec<_> = log.iter().map(|event| event.id).collect();
        assert_eq!(ids, (1..=log.len() as i64).collect::<Vec<_>>(), "seed {seed}: the log has no gap");
        let mut compared = 0;
        for seen in seen {
            let kept = match &seen.turn {
                None => log.iter().filter(|event| seen.partials || !is_partial(event)).cloned().collect(),
                Some(turn) => {
                    let kept = Follower { partials: seen.partials, ..direct.clone().turn(turn) }.all(is_done).expect("reads");
                    let is_logged = |event: &Event| log.get(event.id as usize - 1) == Some(event);
                    assert!(kept.iter().all(is_logged), "seed {seed}: a turn is a part of the log");
                    kept
                }
            };
            assert!(!kept.is_empty());
            if let Some(difference) = difference(&kept, &seen.events) {
                panic!("seed {seed}, session {}, {}: {difference}", self.session, seen.who);
            }
            compared += kept.len() as u64;
        }
        compared
    }
}

/// One run of all sessions. Returns how many events were compared.
fn run(daemon: &Daemon, size: Size, seed: u64, resumed: &AtomicU64) -> u64 {
    let bearer = daemon.bearer(&json!({"label": "streams"}));
    let proxies =
        |target: &Target, headers: &[(String, String)], seed| (Proxy::start(target.clone(), Cuts::Both, seed), headers.to_vec());
    let with_key = [("authorization".to_owned(), bearer)];
    let proxies = [proxies(&daemon.control(), &[], seed), proxies(&daemon.tcp(), &with_key, !seed)];
    let compared = std::thread::scope(|scope| {
        let sessions: Vec<_> = (1..=SESSIONS)
            .map(|number| {
                let session = daemon.create(&json!({"agent": "test"}));
                let stage = Stage { daemon, proxies: &proxies, session, size, turns_over: AtomicU64::new(0), resumed };
                scope.spawn(move || stage.run(seed.wrapping_add(number)))
            })
            .collect();
        sessions.into_iter().map(|session| session.join().expect("no panic")).sum()
    });
    assert!(proxies.iter().all(|(proxy, _)| proxy.cut() > 0), "nothing was cut");
    compared
}

#[test]
fn every_client_sees_the_log_whatever_is_cut() {
    let Some(claude) = claude() else { return };
    let (seed, soak) = (seed(), std::env::var_os("ASH_SOAK").is_some());
    let wanted = if soak { number("ASH_SOAK_EVENTS").unwrap_or(SOAK_EVENTS) } else { 1 };
    let size = if soak { Size { turns: 5, pieces: 800 } } else { Size { turns: 4, pieces: 160 } };
    eprintln!("seed {seed}");
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
    let (mut compared, resumed) = (0, AtomicU64::new(0));
    for round in 0.. {
        compared += run(&daemon, size, seed.wrapping_add(round * 1000), &resumed);
        eprintln!("{compared} events compared, {} streams resumed", resumed.load(Ordering::Relaxed));
        if compared >= wanted {
            break;
        }
    }
    assert!(resumed.load(Ordering::Relaxed) > 0, "nothing was resumed");
}
