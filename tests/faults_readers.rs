//! Readers that ask for nonsense, do not read, or come by the thousand: they harm neither the turn
//! nor each other, and whoever goes on reading has lost nothing.

#![allow(clippy::print_stderr, reason = "it says how much memory was used")]

mod support;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use support::follow::{Follower, difference, is_done, is_ended, read, turn_of};
use support::http::{self, Event, Frames, Open, result};
use support::{Daemon, Model, claude, memory, wait_for};

const SUBSCRIBERS: usize = 1000;
/// Most memory for a reader that waits for events. The promise is 8 KiB, which the benchmark
/// measures on an optimized program.
const IDLE_MAX: u64 = 64 << 10;
/// Most memory for one that does not take what is there for it: a batch, and what the connection
/// has taken of it.
const STUCK_MAX: u64 = 512 << 10;

fn start() -> Option<(Model, Daemon, String)> {
    let claude = claude()?;
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    Some((model, daemon, session))
}

#[test]
fn a_cursor_that_names_no_event_is_refused_by_name() {
    let Some((_model, daemon, session)) = start() else { return };
    daemon.say(&session, "say: one");
    let turn = turn_of(&daemon.say(&session, "say: two")[0]).expect("a turn");
    let other = daemon.create(&json!({"agent": "test"}));
    let events = |session: &str| {
        let log = daemon.get(&format!("/api/sessions/{session}/events?limit=1000")).json();
        log["events"].as_array().expect("events").clone()
    };
    let tail = events(&session).last().and_then(|event| event["sequence"].as_i64()).expect("an id");
    let refused = |session: &str, query: &str, header: Option<&str>| {
        let headers: Vec<_> = header.iter().map(|id| ("last-event-id", *id)).collect();
        let answer = http::request(&daemon.control(), "GET", &format!("/api/sessions/{session}/stream?{query}"), &headers, None);
        let problem: Value = answer.json();
        assert_eq!(problem["statusCode"], json!(answer.status), "{problem}");
        (answer.status, problem["error"].as_str().expect("a sentence").to_owned())
    };
    for (query, header, wanted) in [
        ("after=1000000", None, "after: is beyond the newest event"),
        ("after=-1", None, "after: has to be at least 0"),
        ("after=x", None, "after"),
        ("after=1.5", None, "after"),
        ("after=", None, "after"),
        ("after=99999999999999999999", None, "after"),
        ("", Some("1000000"), "after: is beyond the newest event"),
        ("", Some("-1"), "Last-Event-ID: has to be at least 0"),
        ("after=1", Some("x"), "Last-Event-ID"),
        ("after=1", Some(""), "Last-Event-ID"),
        ("after=-1", Some("1"), "after"),
        ("turn=x", None, "turn"),
        ("partials=maybe", None, "partials"),
    ] {
        let (status, error) = refused(&session, query, header);
        assert!(status == 400 && error.contains(wanted), "{query} {header:?}: {status} {error}");
    }
    let (status, error) = refused(&other, &format!("after={tail}"), None);
    assert!(status == 400 && error.contains("beyond the newest event"), "the tail of another session: {error}");
    let (status, error) = refused(&other, &format!("turn={turn}"), None);
    assert_eq!((status, error.as_str()), (404, "Turn not found"), "the turn of another session");

    daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({}));
    let log = Follower::new(daemon.control(), &session).all(is_ended).expect("the log can be read");
    let last = log.last().expect("events").id;
    let after_it = daemon.get(&format!("/api/sessions/{session}/stream?after={last}"));
    assert_eq!((after_it.status, http::events(&after_it.text()).len()), (200, 0), "there is nothing after the last event");
}

#[test]
fn a_thousand_subscribers_of_whom_half_never_read_lose_nothing_and_cost_little() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
    if hard < 4 * SUBSCRIBERS as u64 {
        eprintln!("skipped: a process may have at most {hard} descriptors");
        return;
    }
    // The daemon inherits it.
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(4 * SUBSCRIBERS as u64).max(soft), hard).expect("sets");
    let Some((_model, daemon, session)) = start() else { return };
    let warm = daemon.say(&session, "say: warm");
    let tail = warm.last().expect("events").id;
    let follower = Follower::new(daemon.control(), &session);
    let before = memory(daemon.pid(), "VmRSS");
    let mut streams: Vec<Open> = (0..SUBSCRIBERS).map(|_| follower.open(tail, tail).expect("answers")).collect();
    for stream in &mut streams {
        assert!(stream.head.starts_with("HTTP/1.1 200"), "{}", stream.head);
        assert_eq!(String::from_utf8_lossy(&stream.chunk().expect("the first frame")), "retry: 1000\n\n");
    }
    let idle = memory(daemon.pid(), "VmRSS").saturating_sub(before) / SUBSCRIBERS as u64;
    eprintln!("{idle} bytes for each idle subscriber");

    let stuck = streams.split_off(SUBSCRIBERS / 2);
    let seen = std::thread::scope(|scope| {
        let readers: Vec<_> = streams
            .into_iter()
            .map(|mut stream| {
                let reading = move || {
                    let mut seen = Vec::new();
                    assert!(read(&mut stream, &mut seen, || (), is_done), "the stream was cut");
                    seen
                };
                std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, reading).expect("starts")
            })
            .collect();
        let turn = http::events(&daemon.post(&session, "many: 400").finish().text());
        assert_eq!(turn.last().map(|done| done.data["state"].clone()), Some(json!("completed")), "the turn is not held up");
        readers.into_iter().map(|reader| reader.join().expect("no panic")).collect::<Vec<_>>()
    });
    let held = memory(daemon.pid(), "VmRSS").saturating_sub(before) / SUBSCRIBERS as u64;
    eprintln!("{held} bytes for each subscriber after the turn, half of them stuck");

    let kept: Vec<Event> = follower.all(is_done_after(tail)).expect("reads").split_off(tail as usize);
    assert!(kept.len() > 800, "{} events", kept.len());
    for seen in &seen {
        assert_eq!(difference(&kept, seen), None);
    }
    for mut stream in stuck {
        let mut seen = Vec::new();
        assert!(read(&mut stream, &mut seen, || (), is_done), "the stream of one that did not read was cut");
        assert_eq!(difference(&kept, &seen), None);
    }
    assert!(idle < IDLE_MAX && held < STUCK_MAX, "{idle} {held}");
}

fn is_done_after(id: i64) -> impl Fn(&Event) -> bool {
    move |event| event.id > id && is_done(event)
}

#[test]
fn a_client_that_stops_reading_in_mid_stream_gets_all_the_rest() {
    let Some((_model, daemon, session)) = start() else { return };
    let mut stopped = daemon.post(&session, "many: 4000");
    let mut frames = Frames::default();
    let mut seen = Vec::new();
    while seen.len() < 100 {
        seen.extend(frames.take(&stopped.piece().expect("comes")));
    }
    // It reads nothing while the turn ends, and another runs.
    let turn = turn_of(&seen[0]).expect("a turn");
    let follower = Follower::new(daemon.control(), &session).turn(&turn);
    let kept = follower.all(is_done).expect("reads");
    assert_eq!(result(&daemon.say(&session, "say: meanwhile")), "meanwhile");
    while !seen.last().is_some_and(is_done) {
        seen.extend(frames.take(&stopped.piece().expect("goes on")));
    }
    assert_eq!(difference(&kept, &seen), None);
    assert!(stopped.piece().expect("ends in good order").is_empty(), "nothing comes after the end");
}

#[test]
fn a_client_that_reads_nothing_is_let_go_and_goes_on_from_its_last_event() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start_with(&claude, &model.url, "write_timeout = \"1s\"");
    let session = daemon.session();
    let open = || {
        let metrics = daemon.get("/metrics").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("ash_http_connections{listener=\"control\"} "));
        line.and_then(|count| count.parse::<u32>().ok()).expect("counts connections")
    };
    let mut deaf = daemon.post(&session, "many: 4000");
    let mut frames = Frames::default();
    let mut seen = Vec::new();
    while seen.is_empty() {
        seen.extend(frames.take(&deaf.piece().expect("comes")));
    }
    let follower = Follower::new(daemon.control(), &session).turn(&turn_of(&seen[0]).expect("a turn"));
    let kept = follower.all(is_done).expect("reads");
    // The one that is left is the one that asks.
    wait_for("it is let go", || (open() == 1).then_some(()));
    while let Ok(piece) = deaf.piece()
        && !piece.is_empty()
    {
        seen.extend(frames.take(&piece));
    }
    assert!(seen.len() < kept.len(), "more than the connection holds was to be read");
    follower.follow(0, &mut seen, || (), is_done).expect("goes on");
    assert_eq!(difference(&kept, &seen), None);
}

/// What a stream of many events was: how many, their ids, and a hash of all that they said.
#[derive(Debug, PartialEq, Eq)]
struct Digest {
    events: u64,
    first: i64,
    last: i64,
    hash: u64,
}

/// Reads to the end of a turn without keeping it. Also counts the pieces of text, which are the
/// ones that were said.
fn digest(mut stream: Open) -> (Digest, u64) {
    let (mut frames, mut hasher) = (Frames::default(), DefaultHasher::new());
    let (mut digest, mut pieces) = (Digest { events: 0, first: 0, last: 0, hash: 0 }, 0);
    loop {
        let piece = stream.piece().expect("the stream is not cut");
        assert!(!piece.is_empty(), "it ended without done");
        for event in frames.take(&piece) {
            assert!(event.id > digest.last, "in order");
            if digest.events == 0 {
                digest.first = event.id;
            }
            if event.name == "text_delta" {
                pieces += 1;
                assert_eq!(event.data["delta"], json!(format!("piece {pieces}\n")));
            }
            (event.id, &event.name, event.data.to_string()).hash(&mut hasher);
            (digest.events, digest.last) = (digest.events + 1, event.id);
            if is_done(&event) {
                assert_eq!(event.data["state"], json!("completed"), "{event:?}");
                digest.hash = hasher.finish();
                return (digest, pieces);
            }
        }
    }
}

#[test]
fn a_turn_of_200_000_events_is_stored_and_streamed_completely() {
    let Some((_model, daemon, session)) = start() else { return };
    let warm = daemon.say(&session, "say: warm");
    let mut stream = daemon.post(&session, "many: 100000");
    let mut first = Vec::new();
    let mut frames = Frames::default();
    while first.is_empty() {
        first.extend(frames.take(&stream.piece().expect("comes")));
    }
    let turn = turn_of(&first[0]).expect("a turn");
    drop(stream);
    let follower = Follower { patience: Duration::from_secs(120), ..Follower::new(daemon.control(), &session).turn(&turn) };
    let (seen, pieces) = digest(follower.open(0, 0).expect("answers"));
    assert_eq!(pieces, 100_000);
    assert!(seen.events > 200_000, "{seen:?}");
    let (stored, _) = digest(follower.open(0, 0).expect("answers"));
    assert_eq!(seen, stored, "while it came, and afterwards");
    let warm = warm.last().expect("events").id;
    assert!(seen.first > warm && (seen.last - warm) as u64 >= seen.events);
    wait_for("the session is usable", || (result(&daemon.say(&session, "say: on")) == "on").then_some(()));
}
