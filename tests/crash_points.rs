//! A daemon that dies between what it stores and what it does about it: at each such point, the
//! next daemon finds sandboxes, folders, sockets, snapshots and sessions that belong together, and
//! every session goes on with its files and its conversation.
//!
//! The points are those of `ash::fault`; a new one does not compile here before it is said which
//! operation crosses it.

#![expect(clippy::print_stderr, reason = "a failure needs to say at which point it was")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ash::fault::{HOST_STOPS, NAMES, Point, VARIABLE};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use support::http::{self, Response};
use support::life::{act, digest, fork, furnish, good, lifecycle, remembered, show, snapshots};
use support::{DEADLINE, Daemon, Model, claude, pause, wait_for};

/// Longer than any test takes.
const NEVER: &str = "1h";

/// What crosses points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Create,
    Message,
    Snapshot,
    Pause,
    Stop,
    Park,
    Resume,
    Fork,
    ForkOfStopped,
    Rewind,
    RewindOfStopped,
    End,
    Delete,
    Shutdown,
    Gc,
    GcOfSnapshots,
    Queue,
    QueueOfSession,
    Schedule,
    Eval,
}

/// Which operations die at a point.
const fn operations(point: Point) -> &'static [Operation] {
    use Operation::{
        Create, Delete, End, Eval, Fork, ForkOfStopped, Gc, GcOfSnapshots, Message, Park, Pause, Queue, QueueOfSession, Resume,
        Rewind, RewindOfStopped, Schedule, Shutdown, Snapshot, Stop,
    };
    match point {
        Point::CreateBegun | Point::CreateStored | Point::CreateActive => &[Create],
        Point::OpenStarted | Point::OpenRoom | Point::OpenDone => &[Create, Resume],
        Point::OpenSetUp => &[Create, Resume, Eval],
        Point::OpenLaid => &[Eval],
        Point::OpenRestoring | Point::OpenRestored | Point::OpenLogged | Point::ResumeStored => &[Resume],
        Point::TurnStored | Point::EventsStored => &[Message],
        Point::SnapshotBegun | Point::SnapshotPacked => &[Snapshot],
        Point::SnapshotPacking => &[Snapshot, Shutdown],
        Point::SnapshotWritten => &[Snapshot, ForkOfStopped, RewindOfStopped],
        Point::SnapshotPublished => &[Snapshot, ForkOfStopped, Rewind, RewindOfStopped, Shutdown],
        Point::SnapshotFinished => &[Snapshot, Stop],
        Point::SnapshotLogged => &[Snapshot, Stop, Rewind, Shutdown],
        Point::StatusBegun | Point::StatusStored => &[Pause, Stop],
        Point::LeaveBegun | Point::LeaveDone => &[Pause, Stop, Park],
        Point::LeaveLogged => &[Pause, Stop, Park, Rewind, Shutdown],
        Point::LeaveStopped => &[Pause, Stop, Park, Shutdown],
        Point::ForkCopied | Point::ForkStored => &[Fork],
        Point::EndBegun | Point::ClearBegun | Point::ClearStopped => &[End],
        Point::EndStored => &[End, Delete],
        Point::DeleteEnded | Point::DeleteStored => &[Delete],
        Point::RewindStopped | Point::RewindRemoved => &[Rewind],
        Point::RewindCopied | Point::RewindStored => &[Rewind, RewindOfStopped],
        Point::HostStops | Point::HostPutAway => &[Shutdown],
        Point::GcDisowned | Point::GcEmptied | Point::GcPart | Point::GcGone => &[Gc],
        Point::GcSnapshot => &[GcOfSnapshots],
        Point::QueueStored | Point::QueueClaimed | Point::QueuePosted => &[Queue, QueueOfSession],
        Point::QueueJoined | Point::QueueTried => &[Queue, QueueOfSession],
        Point::QueueMade | Point::QueueLeft => &[Queue],
        Point::ScheduleDue | Point::ScheduleFired => &[Schedule],
        Point::EvalStored | Point::EvalClaimed | Point::EvalMade | Point::EvalPosted => &[Eval],
        Point::EvalJoined | Point::EvalAsked | Point::EvalJudged | Point::EvalLeft => &[Eval],
        // tests/webhooks.rs
        Point::WebhookSent | Point::WebhookNoted => &[],
    }
}

/// A session as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    status: String,
    sandbox: String,
    is_up: bool,
}

/// A daemon and what it works with.
struct World {
    _model: Model,
    daemon: Daemon,
}

/// A session with files and something to remember.
struct Subject {
    id: String,
    said: usize,
    digest: String,
}

impl World {
    /// Goes through all points of an operation, with `pass` for each.
    /// A session that nobody talks to for `park_after` is parked; nothing else comes by itself.
    fn each(operation: Operation, park_after: &str, pass: impl FnMut(&mut Self, Point)) {
        Self::each_with(operation, park_after, "", pass);
    }

    /// The same with rules of retention.
    fn each_with(operation: Operation, park_after: &str, retention: &str, mut pass: impl FnMut(&mut Self, Point)) {
        let Some(claude) = claude() else { return };
        let model = Model::start();
        let times = format!("[sessions]\nfreeze_after = \"{park_after}\"\npark_after = \"{park_after}\"");
        let rules = format!(
            "{times}\n[snapshots]\nkeep = 10\npolicy = \"pause-only\"\n[schedules]\nmin_interval = \"1s\"\n[retention]\n{retention}"
        );
        let daemon = Daemon::start_with(&claude, &model.url, &rules);
        daemon.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
        let mut world = Self { _model: model, daemon };
        let mut passed = 0;
        for (_, point) in NAMES.iter().filter(|(_, point)| operations(*point).contains(&operation)) {
            eprintln!("{operation:?} dies at {point:?}");
            pass(&mut world, *point);
            world.agrees();
            passed += 1;
        }
        assert!(passed > 0, "{operation:?} crosses no point");
    }

    /// Has the daemon die at a point of what `operation` asks of it, and starts another one. Returns
    /// the answer, if there was one.
    fn dies_at(&mut self, point: Point, operation: impl FnOnce(&Daemon) -> Option<Response>) -> Option<Response> {
        self.dies_with(point, Vec::new(), operation)
    }

    /// The same, with more in the daemon's environment.
    fn dies_with(
        &mut self,
        point: Point,
        mut env: Vec<(&'static str, String)>,
        operation: impl FnOnce(&Daemon) -> Option<Response>,
    ) -> Option<Response> {
        let (name, _) = NAMES.iter().find(|(_, known)| *known == point).expect("it has a name");
        self.daemon.kill();
        env.push((VARIABLE, (*name).to_owned()));
        self.daemon.set_env(env);
        self.daemon.run();
        let answer = operation(&self.daemon);
        let daemon = &mut self.daemon;
        wait_for(&format!("the daemon dies at {name}"), || daemon.has_ended().then_some(()));
        // What it wrote last is on its way through a pipe.
        let died_here = || daemon.log().contains(&format!("point={point:?}")).then_some(());
        wait_for("its log says where it died", died_here);
        daemon.set_env(Vec::new());
        daemon.run();
        answer.filter(|answer| answer.status != 0)
    }

    /// A session to try things on.
    fn subject(&self) -> Subject {
        let id = self.daemon.create(&json!({"agent": "test"}));
        furnish(&self.daemon, &id);
        let digest = digest(&self.daemon, &id);
        Subject { id, said: 2, digest }
    }

    /// The session takes messages, and has its files and its conversation.
    fn goes_on(&self, subject: &mut Subject) {
        let status = show(&self.daemon, &subject.id)["status"].clone();
        if status != "active" {
            good(&act(&self.daemon, &subject.id, "resume"));
        }
        assert_eq!(digest(&self.daemon, &subject.id), subject.digest, "its files are what they were");
        subject.said += 2;
        assert_eq!(remembered(&self.daemon, &subject.id), subject.said, "it remembers what was said");
    }

    /// Its last snapshot is of its end, and has all of it.
    fn is_kept(&self, subject: &Subject) {
        let taken = snapshots(&self.daemon, &subject.id);
        let of_end: Vec<_> = taken.iter().filter(|one| one["reason"] == "end").collect();
        let log = self.daemon.get(&format!("/api/sessions/{}/events?limit=1000", subject.id)).json();
        let last = log["events"].as_array().and_then(|events| events.last()).expect("an event")["sequence"].clone();
        assert_eq!((of_end.len(), &taken.last().expect("a snapshot")["eventId"]), (1, &last), "{taken:?}");
        let id = fork(&self.daemon, &subject.id);
        let mut child = Subject { id, said: subject.said, digest: subject.digest.clone() };
        self.goes_on(&mut child);
        self.end(&child.id);
    }

    /// Nothing of any sandbox is left.
    fn is_empty(&self) {
        wait_for("nothing is left", || (self.names("sandboxes").is_empty() && self.names("run").is_empty()).then_some(()));
    }

    fn end(&self, session: &str) {
        let ended = self.daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({}));
        assert!(ended.ok_status(), "{}", ended.text());
    }

    fn rows(&self) -> BTreeMap<String, Row> {
        let path = self.daemon.data().join("ash.db");
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opens");
        let mut statement =
            database.prepare("select id, status, sandbox, sandbox_boot is not null from sessions").expect("a statement");
        let row =
            |row: &rusqlite::Row<'_>| Ok((row.get(0)?, Row { status: row.get(1)?, sandbox: row.get(2)?, is_up: row.get(3)? }));
        statement.query_map([], row).expect("reads").collect::<Result<_, _>>().expect("reads")
    }

    /// Names in a folder of the daemon's state.
    fn names(&self, folder: &str) -> BTreeSet<String> {
        let Ok(entries) = std::fs::read_dir(self.daemon.data().join(folder)) else { return BTreeSet::new() };
        entries.map(|entry| entry.expect("reads").file_name().into_string().expect("UTF-8")).collect()
    }

    /// Sandboxes whose shim lives.
    fn living(&self) -> BTreeSet<String> {
        let argument = |pid: i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.split('\0').skip_while(|word| *word != "--sandbox").nth(1).map(str::to_owned)
        };
        support::shims(&self.daemon).into_iter().filter_map(argument).collect()
    }

    /// What on this host is not as the database has it.
    fn differences(&self) -> Vec<String> {
        let rows = self.rows();
        let mut wrong = Vec::new();
        let mut check = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        let up: BTreeSet<_> = rows.values().filter(|row| row.is_up).map(|row| row.sandbox.clone()).collect();
        let kept: BTreeSet<_> = rows.values().filter(|row| row.status != "ended").map(|row| row.sandbox.clone()).collect();
        let (living, folders) = (self.living(), self.names("sandboxes"));
        check(living == up, format!("live sandboxes {living:?}, and those of the log {up:?}"));
        check(folders.is_superset(&up), format!("folders {folders:?}, and sandboxes that are up {up:?}"));
        check(folders.is_subset(&kept), format!("folders {folders:?}, and sandboxes of sessions {kept:?}"));
        for name in self.names("run") {
            let sandbox = name.split('.').next().unwrap_or_default();
            check(folders.contains(sandbox), format!("run/{name} belongs to no sandbox"));
        }
        for sandbox in &up {
            let socket = self.daemon.data().join(format!("run/{sandbox}.sock"));
            check(std::os::unix::net::UnixStream::connect(&socket).is_ok(), format!("nobody listens at {}", socket.display()));
        }
        for (id, row) in &rows {
            let is_settled = matches!(row.status.as_str(), "active" | "paused" | "stopped" | "ended");
            check(is_settled && !(row.is_up && matches!(row.status.as_str(), "stopped" | "ended")), format!("{id}: {row:?}"));
        }
        for session in self.names("snapshots").iter().filter(|name| *name != "database") {
            check(rows.contains_key(session), format!("snapshots/{session} belongs to no session"));
            for event in self.names(&format!("snapshots/{session}")) {
                let parts = self.names(&format!("snapshots/{session}/{event}"));
                let is_whole = event.bytes().all(|byte| byte.is_ascii_digit()) && parts.len() == 2;
                check(is_whole, format!("snapshots/{session}/{event}: {parts:?}"));
            }
        }
        let left: Vec<_> = self.names("agents/.staging").into_iter().collect();
        check(left.is_empty(), format!("agents/.staging: {left:?}"));
        wrong
    }

    /// After a while, everything on this host is as the database has it.
    fn agrees(&self) {
        let end = Instant::now() + DEADLINE;
        loop {
            let wrong = self.differences();
            if wrong.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "{}\n{:#?}\n{}", wrong.join("\n"), self.rows(), self.daemon.log());
            pause();
        }
    }

    /// Sessions that are not over.
    fn open_sessions(&self) -> Vec<String> {
        self.rows().into_iter().filter(|(_, row)| row.status != "ended").map(|(id, _)| id).collect()
    }
}

#[test]
fn a_session_that_was_being_made_is_there_as_a_whole_or_not_at_all() {
    World::each(Operation::Create, NEVER, |world, point| {
        let answer = world.dies_at(point, |daemon| Some(daemon.send("POST", "/api/sessions", &json!({"agent": "test"}))));
        assert!(answer.is_none(), "nobody was told of it");
        world.agrees();
        let open = world.open_sessions();
        if point == Point::CreateActive {
            assert_eq!(open.len(), 1);
            assert_eq!(remembered(&world.daemon, &open[0]), 1);
            world.end(&open[0]);
        } else {
            assert!(open.is_empty(), "{open:?}");
        }
    });
}

#[test]
fn a_message_that_was_taken_is_answered_once() {
    World::each(Operation::Message, NEVER, |world, point| {
        let mut subject = world.subject();
        good(&act(&world.daemon, &subject.id, "stop"));
        world.dies_at(point, |daemon| {
            good(&act(daemon, &subject.id, "resume"));
            Some(daemon.send("POST", &format!("/api/sessions/{}/messages", subject.id), &json!({"content": "say: once"})))
        });
        let turns = || {
            let turns = world.daemon.get(&format!("/api/sessions/{}/turns", subject.id)).json();
            turns["turns"].as_array().expect("a list").clone()
        };
        wait_for("every turn is over", || turns().iter().all(|turn| turn["state"] == "completed").then_some(()));
        assert_eq!(turns().len(), 3, "{:?}", turns());
        let last = turns().pop().expect("a turn");
        let log = world.daemon.get(&format!("/api/sessions/{}/stream?turn={}", subject.id, last["id"].as_str().expect("an id")));
        let log = http::events(&log.text());
        assert_eq!(http::result(&log), "once");
        assert_eq!(log.iter().filter(|event| event.name == "done").count(), 1);
        subject.said += 1;
        world.goes_on(&mut subject);
        world.end(&subject.id);
    });
}

#[test]
fn a_snapshot_that_was_being_taken_is_whole_or_does_not_exist() {
    World::each(Operation::Snapshot, NEVER, |world, point| {
        let mut subject = world.subject();
        let path = format!("/api/sessions/{}/snapshots", subject.id);
        world.dies_at(point, |daemon| Some(daemon.send("POST", &path, &json!({}))));
        world.agrees();
        let exists = matches!(point, Point::SnapshotPublished | Point::SnapshotFinished | Point::SnapshotLogged);
        assert_eq!(snapshots(&world.daemon, &subject.id).len(), usize::from(exists));
        assert_eq!(show(&world.daemon, &subject.id)["status"], "active");
        world.goes_on(&mut subject);
        world.end(&subject.id);
    });
}

/// A session that is paused or stopped is so once that was answered, and before either way.
fn rests(operation: Operation, verb: &str, status: &str) {
    World::each(operation, NEVER, |world, point| {
        let mut subject = world.subject();
        let answer = world.dies_at(point, |daemon| Some(act(daemon, &subject.id, verb)));
        assert!(answer.is_none(), "who asks is told last");
        world.agrees();
        let is_stored = !matches!(point, Point::StatusBegun | Point::SnapshotFinished | Point::SnapshotLogged);
        let found = show(&world.daemon, &subject.id)["status"].clone();
        assert_eq!(found, if is_stored { status } else { "active" });
        if matches!(point, Point::LeaveStopped | Point::LeaveDone) && status == "stopped" {
            // A whole snapshot takes its place.
            wait_for("the folder is gone", || world.names("sandboxes").is_empty().then_some(()));
        }
        world.goes_on(&mut subject);
        world.end(&subject.id);
    });
}

#[test]
fn a_session_that_was_being_paused_goes_on() {
    rests(Operation::Pause, "pause", "paused");
}

#[test]
fn a_session_that_was_being_stopped_goes_on() {
    rests(Operation::Stop, "stop", "stopped");
}

#[test]
fn a_session_that_was_being_parked_goes_on() {
    World::each(Operation::Park, "3s", |world, point| {
        let mut subject = world.subject();
        world.dies_at(point, |_| None);
        let data = world.daemon.data();
        wait_for("it is parked", || (!data.join("sandboxes").read_dir().expect("reads").any(|_| true)).then_some(()));
        assert_eq!(show(&world.daemon, &subject.id)["status"], "active");
        world.goes_on(&mut subject);
        world.end(&subject.id);
    });
}

#[test]
fn a_session_that_was_being_resumed_goes_on() {
    World::each(Operation::Resume, NEVER, |world, point| {
        let mut subject = world.subject();
        good(&act(&world.daemon, &subject.id, "stop"));
        world.dies_at(point, |daemon| Some(act(daemon, &subject.id, "resume")));
        assert_eq!(show(&world.daemon, &subject.id)["status"], "active", "that much was stored");
        world.goes_on(&mut subject);
        world.end(&subject.id);
    });
}

/// A fork is there with its snapshot, or neither is; its parent is as it was.
fn forks(operation: Operation, is_stopped: bool) {
    World::each(operation, NEVER, |world, point| {
        let mut subject = world.subject();
        if is_stopped {
            good(&act(&world.daemon, &subject.id, "stop"));
        }
        world.dies_at(point, |daemon| Some(act(daemon, &subject.id, "fork")));
        world.agrees();
        let children: Vec<_> = world.open_sessions().into_iter().filter(|id| *id != subject.id).collect();
        assert_eq!(children.len(), usize::from(point == Point::ForkStored), "{children:?}");
        for child in children {
            let mut child = Subject { id: child, said: subject.said, digest: subject.digest.clone() };
            world.goes_on(&mut child);
            world.end(&child.id);
        }
        world.goes_on(&mut subject);
        world.end(&subject.id);
    });
}

#[test]
fn a_fork_that_was_being_made_has_a_snapshot_and_a_row_or_neither() {
    forks(Operation::Fork, false);
}

#[test]
fn a_fork_of_a_stopped_session_leaves_no_copy_behind() {
    forks(Operation::ForkOfStopped, true);
}

#[test]
fn a_session_that_was_being_ended_leaves_its_last_snapshot_and_nothing_else() {
    World::each(Operation::End, NEVER, |world, point| {
        let mut subject = world.subject();
        let path = format!("/api/sessions/{}", subject.id);
        let answer = world.dies_at(point, |daemon| Some(daemon.send("DELETE", &path, &json!({}))));
        let status = show(&world.daemon, &subject.id)["status"].clone();
        if point == Point::EndBegun {
            assert!(answer.is_none());
            assert_eq!(status, "active");
            world.goes_on(&mut subject);
            world.end(&subject.id);
        } else {
            assert_eq!(status, "ended", "answered {:?}", answer.map(|answer| answer.status));
        }
        world.agrees();
        world.is_empty();
        world.is_kept(&subject);
    });
}

/// A session that was going back has done so, or is as it was.
fn goes_back(operation: Operation, is_stopped: bool) {
    World::each(operation, NEVER, |world, point| {
        let mut then = world.subject();
        let id = then.id.clone();
        let taken = world.daemon.send("POST", &format!("/api/sessions/{id}/snapshots"), &json!({})).json();
        let to = taken["snapshot"]["eventId"].clone();
        world.daemon.say(&id, "bash: echo later > later && rm hard");
        let mut now = Subject { digest: digest(&world.daemon, &id), said: then.said + 2, id: id.clone() };
        if is_stopped {
            good(&act(&world.daemon, &id, "stop"));
        }
        let path = format!("/api/sessions/{id}/rewind");
        let answer = world.dies_at(point, |daemon| Some(daemon.send("POST", &path, &json!({"eventId": to}))));
        assert!(answer.is_none(), "who asks is told last");
        world.agrees();
        let is_named = is_stopped && point == Point::SnapshotPublished;
        let is_back = is_named || matches!(point, Point::RewindCopied | Point::RewindStored);
        assert_eq!(show(&world.daemon, &id)["status"], if is_stopped { "stopped" } else { "active" });
        world.goes_on(if is_back { &mut then } else { &mut now });
        let told: Vec<Value> = lifecycle(&world.daemon, &id, "rewound").into_iter().map(|data| data["eventId"].clone()).collect();
        assert_eq!(told, if is_back { vec![to] } else { Vec::new() });
        world.end(&id);
    });
}

#[test]
fn a_session_that_was_going_back_has_done_so_or_is_as_it_was() {
    goes_back(Operation::Rewind, false);
}

#[test]
fn a_stopped_session_that_was_going_back_has_done_so_or_is_as_it_was() {
    goes_back(Operation::RewindOfStopped, true);
}

#[test]
fn a_session_that_was_being_put_away_goes_on_after_the_boot() {
    World::each(Operation::Shutdown, NEVER, |world, point| {
        let mut subject = world.subject();
        world.dies_with(point, vec![(HOST_STOPS, "1".to_owned())], |daemon| {
            let pid = nix::unistd::Pid::from_raw(daemon.pid().cast_signed());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signals");
            None
        });
        world.agrees();
        let is_whole = matches!(point, Point::SnapshotPublished | Point::SnapshotLogged | Point::LeaveLogged);
        let is_whole = is_whole || matches!(point, Point::LeaveStopped | Point::HostPutAway);
        assert_eq!(snapshots(&world.daemon, &subject.id).len(), usize::from(is_whole));
        if matches!(point, Point::LeaveStopped | Point::HostPutAway) {
            // A whole snapshot takes its place.
            world.is_empty();
        }
        world.goes_on(&mut subject);
        world.end(&subject.id);
    });
}

#[test]
fn an_ended_session_that_was_being_removed_is_removed_by_the_next_daemon_and_others_stay() {
    World::each_with(Operation::Gc, NEVER, "ended_after = \"0s\"", |world, point| {
        let mut kept = world.subject();
        let gone = world.daemon.create(&json!({"agent": "test"}));
        let data = world.daemon.data();
        let database = || Connection::open(data.join("ash.db")).expect("opens");
        world.daemon.kill();
        // More than is removed at a time.
        let more = "with recursive number(n) as (select 1000 union all select n + 1 from number where n < 1600) \
            insert into events (session, id, kind, at, data) select ?1, n, 'lifecycle', 0, '{}' from number";
        assert_eq!(database().execute(more, [&gone]).expect("writes"), 601);
        world.dies_at(point, |daemon| {
            daemon.send("DELETE", &format!("/api/sessions/{gone}"), &json!({}));
            // The run at the daemon's start can be the one that removes it, and dies.
            let can_go = || {
                let dry = daemon.send("POST", "/api/gc", &json!({"dryRun": true}));
                (dry.status == 0 || dry.text().contains(&gone)).then_some(())
            };
            wait_for("its last snapshot is taken", can_go);
            Some(daemon.send("POST", "/api/gc", &json!({})))
        });
        let left = || {
            let count = |table: &str, column: &str| -> i64 {
                let text = format!("select count(*) from {table} where {column} = ?1");
                database().query_row(&text, [&gone], |row| row.get(0)).expect("reads")
            };
            count("sessions", "id") + count("events", "session") + count("messages", "session") + count("turns", "session")
        };
        wait_for("no row is left of it", || (left() == 0).then_some(()));
        assert!(!data.join("snapshots").join(&gone).exists());
        assert_eq!(world.daemon.get(&format!("/api/sessions/{gone}")).status, 404);
        world.goes_on(&mut kept);
        world.end(&kept.id);
        wait_for("it is gone too", || {
            world.daemon.send("POST", "/api/gc", &json!({}));
            world.rows().is_empty().then_some(())
        });
    });
}

#[test]
fn snapshots_that_were_being_removed_go_and_the_one_that_is_needed_stays() {
    World::each_with(Operation::GcOfSnapshots, NEVER, "snapshot_bytes = \"1M\"", |world, point| {
        let mut subject = world.subject();
        let path = format!("/api/sessions/{}/snapshots", subject.id);
        world.dies_at(point, |daemon| {
            for number in 0..6 {
                daemon.say(&subject.id, &format!("bash: touch -d @{number} hard"));
                assert_eq!(daemon.send("POST", &path, &json!({})).status, 201);
            }
            Some(daemon.send("POST", "/api/gc", &json!({})))
        });
        subject.said += 6;
        wait_for("they fit", || {
            let bytes = |one: &Value| one["storedBytes"].as_u64().expect("a number");
            let taken = snapshots(&world.daemon, &subject.id);
            (!taken.is_empty() && taken.iter().map(bytes).sum::<u64>() <= 1 << 20).then_some(())
        });
        good(&act(&world.daemon, &subject.id, "stop"));
        world.goes_on(&mut subject);
        world.end(&subject.id);
    });
}

#[test]
fn an_agent_that_was_being_deleted_can_be_deleted() {
    World::each(Operation::Delete, NEVER, |world, point| {
        world.daemon.deploy("other", &[("CLAUDE.md", "You are another agent.\n")]);
        let session = world.daemon.create(&json!({"agent": "other"}));
        let kept = world.daemon.create(&json!({"agent": "test"}));
        world.dies_at(point, |daemon| Some(daemon.send("DELETE", "/api/agents/other", &json!({}))));
        assert_eq!(show(&world.daemon, &session)["status"], "ended");
        let agent = world.daemon.get("/api/agents/other");
        assert_eq!(agent.status, if point == Point::DeleteStored { 404 } else { 200 });
        if agent.ok_status() {
            assert!(world.daemon.send("DELETE", "/api/agents/other", &json!({})).ok_status());
        }
        world.agrees();
        assert_eq!(remembered(&world.daemon, &kept), 1, "others go on");
        world.end(&kept);
    });
}

/// The one item of the queue, when it is over.
fn queued(world: &World) -> Value {
    wait_for("the item is over", || {
        let items = world.daemon.get("/api/queue?limit=1").json()["items"].clone();
        assert_eq!(items.as_array().map(Vec::len), Some(1), "{items}");
        Some(items[0].clone()).filter(|item| item["status"] == "completed")
    })
}

#[test]
fn a_queued_message_is_answered_once_and_its_session_is_ended() {
    World::each(Operation::Queue, NEVER, |world, point| {
        let before = world.rows().len();
        let body = json!({"agentName": "test", "prompt": "say: once"});
        let answer = world.dies_at(point, |daemon| Some(daemon.send("POST", "/api/queue", &body)));
        assert!(answer.is_none() || point != Point::QueueStored, "who asks is told last");
        let item = queued(world);
        let id = item["id"].as_str().expect("an id");
        assert_eq!(world.daemon.get(&format!("/api/queue/{id}")).json()["item"]["result"], "once");
        let session = item["sessionId"].as_str().expect("a session");
        wait_for("its session is ended", || (show(&world.daemon, session)["status"] == "ended").then_some(()));
        let turns = world.daemon.get(&format!("/api/sessions/{session}/turns")).json()["turns"].clone();
        assert_eq!((turns.as_array().map(Vec::len), &item["retryCount"]), (Some(1), &json!(0)), "{turns}");
        assert_eq!(world.rows().len(), before + 1, "it had one session");
        world.is_empty();
    });
}

#[test]
fn a_message_that_was_queued_for_a_session_is_in_it_once() {
    World::each(Operation::QueueOfSession, NEVER, |world, point| {
        let mut subject = world.subject();
        let body = json!({"agentName": "test", "prompt": "say: once", "sessionId": subject.id});
        world.dies_at(point, |daemon| Some(daemon.send("POST", "/api/queue", &body)));
        assert_eq!(queued(world)["sessionId"], subject.id.as_str());
        subject.said += 1;
        world.goes_on(&mut subject);
        world.end(&subject.id);
    });
}

#[test]
fn a_time_of_a_schedule_is_queued_once() {
    World::each(Operation::Schedule, NEVER, |world, point| {
        let body = json!({
            "name": "tick", "agentName": "nobody", "prompt": "x", "calendar": "*:*:0/2", "catchUp": "all", "overlap": "queue",
        });
        // It may die before it answers, if the first time has come by then.
        world.dies_at(point, |daemon| Some(daemon.send("POST", "/api/schedules", &body)));
        let listed = world.daemon.get("/api/schedules").json();
        let [made] = &listed["schedules"].as_array().expect("a list")[..] else { panic!("{listed}") };
        let path = format!("/api/schedules/{}", made["id"].as_str().expect("an id"));
        let runs = wait_for("it has fired some times", || {
            let runs = world.daemon.get(&format!("{path}/runs")).json()["items"].as_array().expect("a list").clone();
            (runs.len() >= 3).then_some(runs)
        });
        let schedule = world.daemon.get(&path).json()["schedule"].clone();
        world.daemon.send("DELETE", &path, &json!({}));
        let time =
            |value: &Value| value.as_str().and_then(|text| text.parse::<ash::wire::Timestamp>().ok()).expect("a time").millis();
        let times: Vec<_> = runs.iter().rev().map(|item| time(&item["scheduledFor"])).collect();
        assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 2000), "each time once, none left out: {times:?}");
        assert!(times[0] - time(&schedule["createdAt"]) <= 2000, "the first is that at which it died");
        assert_eq!(schedule["counts"]["skipped"], 0, "{schedule}");
    });
}

#[test]
fn a_case_of_an_eval_counts_once_and_its_sessions_are_ended() {
    World::each(Operation::Eval, NEVER, |world, point| {
        // An agent whose files are unpacked, and one of which a copy is there with the version of its prompt over it.
        let of_files: (&str, &[(&str, &str)]) = ("test", &[]);
        let installed: (&str, &[(&str, &str)]) = ("installed", &[("CLAUDE.md", "x"), ("install.sh", "echo there > installed\n")]);
        let is_opened = matches!(point, Point::OpenLaid | Point::OpenSetUp);
        for (agent, files) in if is_opened { vec![of_files, installed] } else { vec![of_files] } {
            if !files.is_empty() {
                world.daemon.deploy(agent, files);
                let version = json!({"systemPrompt": "You are a test agent."});
                world.daemon.send("POST", &format!("/api/agents/{agent}/versions"), &version);
                world.daemon.send("POST", &format!("/api/agents/{agent}/versions/1/activate"), &json!({}));
            }
            a_case_counts_once(world, point, agent);
        }
    });
}

fn a_case_counts_once(world: &mut World, point: Point, agent: &str) {
    let path = format!("/api/agents/{agent}");
    for (question, topic) in [("remember?", "user messages: 2"), ("sysgrep: You are a test agent.", "messages: True")] {
        let case = json!({
            "question": question, "expectedTopics": [topic], "referenceAnswer": "judge: {\"score\": 1}",
            "chatHistory": [{"role": "user", "content": "before"}, {"role": "assistant", "content": "it"}],
            "category": format!("{point:?}"),
        });
        world.daemon.send("POST", &format!("{path}/eval-cases"), &case);
    }
    let before = world.rows().len();
    let body = json!({"judgeAgent": "test", "categories": [format!("{point:?}")]});
    let answer = world.dies_at(point, |daemon| Some(daemon.send("POST", &format!("{path}/eval-runs"), &body)));
    assert!(answer.is_none() || point != Point::EvalStored, "who asks is told last");
    let run = wait_for("the run is over", || {
        let run = world.daemon.get(&format!("{path}/eval-runs?limit=1")).json()["runs"][0].clone();
        (run["status"] == "completed").then_some(run)
    });
    let id = run["id"].as_str().expect("an id");
    let results = world.daemon.get(&format!("{path}/eval-runs/{id}/results")).json()["results"].clone();
    assert_eq!((&run["totalCases"], &run["summary"]["passRate"]), (&json!(2), &json!(1.0)), "{agent}: {results}");
    for (result, name) in [(0, "sessionId"), (0, "judgeSessionId"), (1, "sessionId"), (1, "judgeSessionId")] {
        let session = results[result][name].as_str().expect("a session");
        wait_for("its session is ended", || (show(&world.daemon, session)["status"] == "ended").then_some(()));
        let turns = world.daemon.get(&format!("/api/sessions/{session}/turns")).json()["turns"].clone();
        assert_eq!(turns.as_array().map(Vec::len), Some(1), "{name}: {turns}");
    }
    assert_eq!(world.rows().len(), before + 4, "of each, one session was asked, and one judged");
    world.is_empty();
}
