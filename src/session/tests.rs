//! Drivers against a real database, a launcher that only keeps a list, and shims whose part the
//! test itself plays over the real connection.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::agent::ContentLimits;
use crate::link::frame::{self, Frame};
use crate::link::shim::{FromShim, PROTOCOL, Setup, ShimEvent, ShimState, ToShim, Turn};
use crate::sandbox::{LaunchError, Listed, Pending, Spec, Started};
use crate::store::sqlite::Sqlite;
use crate::store::{Advance, EventRow, NewEvent, NewTurn};
use crate::wire::event::Kind;
use crate::wire::message::{IfBusy, TurnOptions};
use crate::wire::quantity::{ByteCount, Percent};

/// How long anything may take before a test gives up on it.
const DEADLINE: Duration = Duration::from_secs(20);
const MODEL: &str = "model-of-the-agent";

async fn soon<T>(what: &str, wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, wanted).await.unwrap_or_else(|_| panic!("gave up waiting for {what}"))
}

/// A launcher whose sandboxes are sockets; who connects to one is handed to the test.
#[derive(Debug)]
struct Fake {
    folder: PathBuf,
    sandboxes: Mutex<HashMap<SandboxId, Option<JoinHandle<()>>>>,
    connections: mpsc::UnboundedSender<UnixStream>,
    /// Counts changes of the list.
    changes: watch::Sender<u64>,
    /// Nobody answers while this is set.
    down: AtomicBool,
    /// Starts wait while this is set.
    held: watch::Sender<bool>,
}

impl Fake {
    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<SandboxId, Option<JoinHandle<()>>>> {
        self.sandboxes.lock().expect("not poisoned")
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn check(&self) -> Result<(), LaunchError> {
        if self.down.load(Ordering::SeqCst) {
            let source = std::io::ErrorKind::ConnectionRefused.into();
            return Err(LaunchError::Unreachable { what: "the fake".to_owned(), source });
        }
        Ok(())
    }

    fn socket(&self, sandbox: SandboxId) -> PathBuf {
        self.folder.join(sandbox.to_string())
    }

    fn launch(&self, sandbox: SandboxId) {
        let mut all = self.all();
        if !matches!(all.get(&sandbox), Some(Some(_))) {
            let path = self.socket(sandbox);
            // One of an earlier life may be there.
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(path).expect("binds");
            let connections = self.connections.clone();
            let accepting = tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = connections.send(stream);
                }
            });
            all.insert(sandbox, Some(accepting));
        }
        drop(all);
        self.changed();
    }

    fn end(&self, sandbox: SandboxId) {
        if let Some(Some(accepting)) = self.all().get_mut(&sandbox).map(Option::take) {
            accepting.abort();
        }
        self.changed();
    }

    /// The processes of all sandboxes die.
    fn end_all(&self) {
        let all: Vec<_> = self.all().keys().copied().collect();
        all.into_iter().for_each(|sandbox| self.end(sandbox));
    }

    async fn is_empty(&self) {
        let mut changes = self.changes.subscribe();
        soon("no sandbox to be left", changes.wait_for(|_| self.all().is_empty())).await.expect("lives");
    }
}

impl Launcher for Fake {
    fn start<'a>(&'a self, spec: &'a Spec) -> Pending<'a, Started> {
        Box::pin(async move {
            self.check()?;
            self.held.subscribe().wait_for(|held| !held).await.expect("lives");
            self.launch(spec.sandbox);
            Ok(Started { socket: self.socket(spec.sandbox), fresh: true, running: false })
        })
    }

    fn stop(&self, sandbox: SandboxId, _: Duration) -> Pending<'_, ()> {
        self.kill(sandbox)
    }

    fn kill(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        Box::pin(async move {
            self.check()?;
            self.end(sandbox);
            Ok(())
        })
    }

    fn freeze(&self, _: SandboxId) -> Pending<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn thaw(&self, _: SandboxId) -> Pending<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn limit<'a>(&'a self, _: SandboxId, _: &'a Limits) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn list(&self) -> Pending<'_, Vec<Listed>> {
        Box::pin(async move {
            self.check()?;
            let listed = |(sandbox, accepting): (&SandboxId, &Option<_>)| Listed {
                sandbox: *sandbox,
                running: accepting.is_some(),
                socket: self.socket(*sandbox),
            };
            Ok(self.all().iter().map(listed).collect())
        })
    }

    fn remove(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        Box::pin(async move {
            self.check()?;
            self.all().remove(&sandbox);
            self.changed();
            Ok(())
        })
    }

    fn lacks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A daemon's sessions, and all that they stand on.
struct World {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    launcher: Arc<Fake>,
    sessions: Sessions,
    connections: mpsc::UnboundedReceiver<UnixStream>,
    digest: String,
}

/// A program that says the version which is wanted, and is never run for more.
fn runtime(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("claude");
    std::fs::write(&path, "#!/bin/sh\necho '2.1.330 (Claude Code)'\n").expect("writes");
    for open in [folder, &path] {
        std::fs::set_permissions(open, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("opens");
    }
    path
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("ash").tempdir_in("/tmp").expect("folder");
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&folder.path().join("ash.db")).expect("opens"));
        let limits = ContentLimits { max_bytes: ByteCount(1 << 20), max_files: 10 };
        let versions = Arc::new(Versions::open(folder.path(), limits).expect("opens"));
        let files = [("CLAUDE.md", "x\n".to_owned()), ("ash.toml", format!("[agent]\nmodel = \"{MODEL}\"\n"))];
        let files = files.into_iter().map(|(path, text)| (path.to_owned(), text.into_bytes())).collect();
        let digest = versions.deploy_files(files).expect("deploys").digest().to_string();
        store.deploy_agent("default", "test", &digest, None).await.expect("stores");
        let (handed, connections) = mpsc::unbounded_channel();
        let launcher = Arc::new(Fake {
            folder: folder.path().to_owned(),
            sandboxes: Mutex::default(),
            connections: handed,
            changes: watch::Sender::new(0),
            down: AtomicBool::new(false),
            held: watch::Sender::new(false),
        });
        let settings = SessionSettings {
            runtime: Some(runtime(folder.path())),
            limits: Limits { memory: ByteCount(1 << 30), cpu: Percent(100), tasks: 64, disk: ByteCount(1 << 30) },
            tmp_bytes: 1 << 20,
            gateway: Gateway { base_url: "http://127.0.0.1:1".to_owned(), api_key: None },
        };
        let sessions = Sessions::new(store.clone(), launcher.clone(), versions, settings);
        Self { folder, store, launcher, sessions, connections, digest }
    }

    /// A session that an earlier daemon left.
    async fn left(&self, status: Status) -> SessionRow {
        let row = SessionRow {
            id: SessionId::new(),
            tenant: "default".to_owned(),
            agent: "test".to_owned(),
            digest: self.digest.clone(),
            status,
            sandbox: SandboxId::new(),
            model: None,
            system_prompt: None,
            extra_env: BTreeMap::new(),
            config: SessionConfig::default(),
            parent: None,
            conversed: false,
            tail: 0,
            created_at: crate::store::now(),
            last_active_at: crate::store::now(),
        };
        self.store.create_session(row.clone()).await.expect("stores");
        row
    }

    /// A turn that an earlier daemon took, and gave away if it is `running`.
    async fn left_turn(&self, session: SessionId, running: bool) -> TurnId {
        let id = TurnId::new();
        let data = json!({"turnId": id, "kind": "user", "content": "left"}).to_string();
        let mut events = vec![row_event(Kind::TurnQueued, id, "{}".to_owned())];
        events.extend(running.then(|| row_event(Kind::TurnStarted, id, data)));
        let queued = vec![NewTurn { id, content: "\"left\"".to_owned(), options: TurnOptions::default() }];
        self.store.advance(session, Advance { events, queued, ..Advance::default() }).await.expect("stores");
        id
    }

    /// A session that was just made, and its shim.
    async fn session(&mut self) -> (SessionId, Shim) {
        let sessions = self.sessions.clone();
        let creating = tokio::spawn(async move { sessions.create("default", body()).await });
        let shim = self.fresh_shim().await;
        let row = soon("the session", creating).await.expect("no panic").expect("creates");
        assert_eq!(row.status, Status::Active);
        assert_eq!(self.sessions.phase(row.id), Phase::Waiting, "its state is that of its events");
        (row.id, shim)
    }

    /// The next connection, of which nothing was read.
    async fn connection(&mut self) -> UnixStream {
        soon("a connection", self.connections.recv()).await.expect("lives")
    }

    /// A shim that has nothing yet, through to its setup.
    async fn fresh_shim(&mut self) -> Shim {
        let mut shim = Shim::hello(self.connection().await, Uuid::now_v7(), None).await;
        shim.set_up().await;
        shim
    }

    async fn post(&self, session: SessionId, content: &str, if_busy: IfBusy) -> TurnId {
        self.try_post(session, content, if_busy).await.expect("takes it")
    }

    async fn try_post(&self, session: SessionId, content: &str, if_busy: IfBusy) -> Result<TurnId, SessionError> {
        let content = serde_json::value::to_raw_value(content).expect("JSON");
        let body = MessageBody { content, options: TurnOptions::default(), if_busy };
        soon("the message to be taken", self.sessions.post("default", session, body)).await.map(|posted| posted.turn)
    }

    /// The events of a turn, to its end.
    async fn turn(&self, session: SessionId, turn: TurnId) -> Vec<EventRow> {
        let filter = EventFilter { turn: Some(turn), ..EventFilter::default() };
        let mut cursor = self.sessions.cursor("default", session, 0, filter).await.expect("a cursor");
        let mut events: Vec<EventRow> = Vec::new();
        while events.last().is_none_or(|event| event.kind != Kind::TurnEnded) {
            let more = soon("the turn to end", cursor.next()).await.expect("reads");
            assert!(!more.is_empty(), "the log ends within the turn: {events:?}");
            events.extend(more);
        }
        events
    }

    /// How a turn ended, and the text of its events before.
    async fn ended(&self, session: SessionId, turn: TurnId) -> (String, Vec<String>) {
        let events = self.turn(session, turn).await;
        let parse = |event: &EventRow| serde_json::from_str::<Value>(&event.data).expect("JSON");
        let state = parse(events.last().expect("an end"))["state"].as_str().expect("a state").to_owned();
        let texts = events.iter().filter(|event| event.kind == Kind::Text);
        (state, texts.map(|event| parse(event)["text"].as_str().expect("a text").to_owned()).collect())
    }
}

fn body() -> CreateSession {
    CreateSession { agent: "test".to_owned(), ..CreateSession::default() }
}

fn row_event(kind: Kind, turn: TurnId, data: String) -> NewEvent {
    NewEvent { at: crate::store::now(), turn: Some(turn), kind, data }
}

/// A shim, played by the test.
struct Shim {
    stream: UnixStream,
    incarnation: Uuid,
    session: Option<SessionId>,
    setup: Option<Box<Setup>>,
}

impl Shim {
    async fn hello(stream: UnixStream, incarnation: Uuid, session: Option<SessionId>) -> Self {
        let mut shim = Self { stream, incarnation, session, setup: None };
        assert!(matches!(shim.hear().await, ToShim::Hello { .. }));
        let state = ShimState {
            protocol: PROTOCOL,
            version: "0".to_owned(),
            sandbox: SandboxId::new(),
            incarnation,
            session,
            unpacked: session.is_some(),
            turn: None,
            newest: 0,
        };
        shim.say(&FromShim::Hello(state)).await;
        shim
    }

    async fn say(&mut self, message: &FromShim) {
        self.stream.write_all(&frame::encode(message).expect("fits")).await.expect("writes");
    }

    async fn frame(&mut self) -> Option<Frame> {
        soon("a message of the daemon", frame::read(&mut self.stream)).await.expect("reads")
    }

    async fn hear(&mut self) -> ToShim {
        match self.frame().await {
            Some(Frame::Json(message)) => serde_json::from_slice(&message).expect("a message"),
            other => panic!("{other:?} in place of a message"),
        }
    }

    /// The next message that is neither an acknowledgement nor a setting.
    async fn order(&mut self) -> ToShim {
        loop {
            match self.hear().await {
                ToShim::Ack { .. } | ToShim::Configure { .. } => {}
                order => return order,
            }
        }
    }

    async fn given(&mut self) -> Turn {
        match self.order().await {
            ToShim::Turn(turn) => turn,
            other => panic!("{other:?} in place of a turn"),
        }
    }

    async fn acknowledged(&mut self, wanted: u64) {
        while !matches!(self.hear().await, ToShim::Ack { through } if through >= wanted) {}
    }

    async fn set_up(&mut self) {
        loop {
            let op = match self.order().await {
                ToShim::Open { op, .. } => op,
                ToShim::Setup { op, setup } => {
                    self.session = Some(setup.session);
                    self.setup = Some(setup);
                    op
                }
                ToShim::Unpack { op } => {
                    while !matches!(self.frame().await, Some(Frame::Chunk(chunk)) if chunk.is_empty()) {}
                    return self.say(&FromShim::Done { op }).await;
                }
                other => panic!("{other:?} before the setup"),
            };
            self.say(&FromShim::Done { op }).await;
        }
    }

    async fn tell(&mut self, first: u64, events: Vec<(TurnId, Kind, Value)>) {
        let event = |(n, (turn, kind, data)): (u64, (TurnId, Kind, Value))| ShimEvent {
            n,
            at: crate::store::now().millis(),
            turn: Some(turn),
            kind,
            data: RawValue::from_string(data.to_string()).expect("JSON"),
        };
        let events = (first..).zip(events).map(event).collect();
        self.say(&FromShim::Events { events }).await;
    }

    /// The turn's whole work, from event number `first` on.
    async fn work(&mut self, first: u64, turn: TurnId, text: &str) {
        self.tell(first, vec![said(turn, text), over(turn, "completed")]).await;
    }
}

fn said(turn: TurnId, text: &str) -> (TurnId, Kind, Value) {
    (turn, Kind::Text, json!({"text": text}))
}

fn over(turn: TurnId, state: &str) -> (TurnId, Kind, Value) {
    (turn, Kind::TurnEnded, json!({"turnId": turn, "state": state}))
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn a_shim_that_dies_in_open_fails_the_creation_and_leaves_nothing() {
    let mut world = World::new().await;
    let sessions = world.sessions.clone();
    let creating = tokio::spawn(async move { sessions.create("default", body()).await });
    let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), None).await;
    assert!(matches!(shim.order().await, ToShim::Open { .. }));
    drop(shim);
    let error = soon("the answer", creating).await.expect("no panic").expect_err("no sandbox");
    assert!(error.to_string().starts_with("Failed to create session: "), "{error}");
    world.launcher.is_empty().await;
    assert!(world.store.living_sessions().await.expect("reads").is_empty());
}

#[tokio::test]
async fn a_creation_whose_caller_went_away_leaves_nothing_when_it_fails() {
    let mut world = World::new().await;
    let sessions = world.sessions.clone();
    let creating = tokio::spawn(async move { sessions.create("default", body()).await });
    let shim = Shim::hello(world.connection().await, Uuid::now_v7(), None).await;
    creating.abort();
    assert!(creating.await.is_err_and(|error| error.is_cancelled()));
    drop(shim);
    world.launcher.is_empty().await;
    soon("the session to be forgotten", async {
        while !world.store.living_sessions().await.expect("reads").is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_shim_that_dies_in_a_turn_ends_it_once_and_the_next_message_works() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "first", IfBusy::Queue).await;
    assert_eq!(shim.given().await.id, turn);
    shim.tell(1, vec![said(turn, "begun")]).await;
    shim.acknowledged(1).await;
    world.launcher.end_all();
    drop(shim);
    assert_eq!(world.ended(session, turn).await, ("interrupted".to_owned(), texts(&["begun"])));
    let next = world.post(session, "second", IfBusy::Queue).await;
    let mut shim = world.fresh_shim().await;
    let given = shim.given().await;
    assert_eq!((given.id, given.content.get()), (next, "\"second\""));
    shim.work(1, next, "done").await;
    assert_eq!(world.ended(session, next).await, ("completed".to_owned(), texts(&["done"])));
}

#[tokio::test]
async fn what_is_delivered_again_after_a_reconnect_is_stored_once() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "first", IfBusy::Queue).await;
    shim.given().await;
    shim.tell(1, vec![said(turn, "one"), said(turn, "two")]).await;
    shim.acknowledged(2).await;
    let incarnation = shim.incarnation;
    drop(shim);
    let mut shim = Shim::hello(world.connection().await, incarnation, Some(session)).await;
    assert_eq!(shim.given().await.id, turn, "the shim ignores it, if it has it");
    shim.tell(1, vec![said(turn, "one"), said(turn, "two"), said(turn, "three"), over(turn, "completed")]).await;
    assert_eq!(world.ended(session, turn).await, ("completed".to_owned(), texts(&["one", "two", "three"])));
}

#[tokio::test]
async fn a_lost_connection_interrupts_nothing_while_the_launcher_is_away() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "first", IfBusy::Queue).await;
    shim.given().await;
    let incarnation = shim.incarnation;
    world.launcher.down.store(true, Ordering::SeqCst);
    drop(shim);
    soon("the loss to be seen", async {
        while world.sessions.phase(session) == Phase::Running {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.launcher.down.store(false, Ordering::SeqCst);
    let mut shim = Shim::hello(world.connection().await, incarnation, Some(session)).await;
    shim.given().await;
    shim.work(1, turn, "whole").await;
    assert_eq!(world.ended(session, turn).await, ("completed".to_owned(), texts(&["whole"])));
}

#[tokio::test]
async fn turns_run_in_the_order_of_their_messages() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let mut turns = Vec::new();
    for content in ["a", "b", "c"] {
        turns.push(world.post(session, content, IfBusy::Queue).await);
    }
    let busy = world.try_post(session, "d", IfBusy::Reject).await.expect_err("busy");
    assert!(matches!(busy, SessionError::Busy(turn) if turn == turns[0]), "{busy}");
    for (first, turn) in [1, 3, 5].into_iter().zip(&turns) {
        assert_eq!(shim.given().await.id, *turn);
        shim.work(first, *turn, "done").await;
    }
    for turn in turns {
        assert_eq!(world.ended(session, turn).await.0, "completed");
    }
}

#[tokio::test]
async fn a_message_that_interrupts_goes_before_those_that_wait() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let running = world.post(session, "a", IfBusy::Queue).await;
    let waiting = world.post(session, "b", IfBusy::Queue).await;
    shim.given().await;
    let urgent = world.post(session, "c", IfBusy::Interrupt).await;
    assert!(matches!(shim.order().await, ToShim::Interrupt { turn: Some(turn) } if turn == running));
    shim.tell(1, vec![over(running, "interrupted")]).await;
    assert_eq!(shim.given().await.id, urgent);
    shim.work(2, urgent, "at once").await;
    assert_eq!(shim.given().await.id, waiting);
    assert_eq!(world.ended(session, running).await.0, "interrupted");
}

#[tokio::test]
async fn an_interrupt_without_a_connection_is_delivered_with_the_next() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    shim.given().await;
    let incarnation = shim.incarnation;
    drop(shim);
    let connection = world.connection().await;
    let interrupted = soon("the answer", world.sessions.interrupt("default", session)).await.expect("takes it");
    assert_eq!(interrupted, Some(turn));
    let mut shim = Shim::hello(connection, incarnation, Some(session)).await;
    assert_eq!(shim.given().await.id, turn);
    assert!(matches!(shim.order().await, ToShim::Interrupt { turn: Some(meant) } if meant == turn));
}

#[tokio::test]
async fn a_session_that_ends_while_its_sandbox_opens_leaves_none() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    world.launcher.held.send_replace(true);
    let turn = world.post(row.id, "a", IfBusy::Queue).await;
    let ended = soon("the end", world.sessions.end("default", row.id)).await.expect("ends");
    assert_eq!(ended.status, Status::Ended);
    world.launcher.held.send_replace(false);
    // Whether or not it still came up, it goes.
    drop(world.connections.recv().await);
    world.launcher.is_empty().await;
    assert_eq!(world.ended(row.id, turn).await.0, "cancelled");
}

#[tokio::test]
async fn a_stale_look_at_an_ended_session_does_not_bring_it_back() {
    let mut world = World::new().await;
    let (session, shim) = world.session().await;
    let stale = world.sessions.get("default", session).await.expect("found");
    world.sessions.end("default", session).await.expect("ends");
    drop(shim);
    let body = |reply| {
        let content = serde_json::value::to_raw_value("x").expect("JSON");
        let body = MessageBody { content, options: TurnOptions::default(), if_busy: IfBusy::Queue };
        Request::Post { body: Box::new(body), reply }
    };
    let refused = soon("the answer", world.sessions.ask(&stale, body)).await.expect_err("ended");
    assert!(matches!(refused, SessionError::Status(Status::Ended)), "{refused}");
    world.launcher.is_empty().await;
}

#[tokio::test]
async fn settings_that_change_keep_the_agents_model() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let setup = shim.setup.take().expect("set up");
    assert_eq!(setup.options.model.as_deref(), Some(MODEL));
    let config = SessionConfig { allowed_tools: Some(vec!["Bash".to_owned()]), ..SessionConfig::default() };
    world.sessions.configure("default", session, None, config).await.expect("takes it");
    let options = loop {
        if let ToShim::Configure { options } = shim.hear().await
            && !options.allowed_tools.is_empty()
        {
            break options;
        }
    };
    assert_eq!(options.model.as_deref(), Some(MODEL));
}

#[tokio::test]
async fn settings_that_change_while_the_sandbox_opens_reach_it() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    world.post(row.id, "a", IfBusy::Queue).await;
    let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), None).await;
    let ToShim::Open { op, .. } = shim.order().await else { panic!("no open") };
    shim.say(&FromShim::Done { op }).await;
    let ToShim::Setup { op, .. } = shim.order().await else { panic!("no setup") };
    world.sessions.configure("default", row.id, Some("later".to_owned()), SessionConfig::default()).await.expect("takes it");
    shim.say(&FromShim::Done { op }).await;
    shim.set_up().await;
    let ToShim::Configure { options } = shim.hear().await else { panic!("the turn comes with old settings") };
    assert_eq!(options.model.as_deref(), Some("later"));
}

#[tokio::test]
async fn events_that_can_not_be_stored_end_the_turn_and_the_sandbox() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    shim.given().await;
    shim.tell(5, vec![said(turn, "four are missing")]).await;
    assert_eq!(world.ended(session, turn).await, ("interrupted".to_owned(), Vec::new()));
    assert!(world.launcher.list().await.expect("lists").iter().all(|one| !one.running));
    // What was started is not started again.
    let next = world.post(session, "b", IfBusy::Queue).await;
    let mut shim = world.fresh_shim().await;
    shim.given().await;
    shim.tell(1, vec![(next, Kind::TurnStarted, json!({"turnId": next, "kind": "runtime"}))]).await;
    assert_eq!(world.ended(session, next).await.0, "interrupted");
}

#[tokio::test]
async fn a_turn_of_the_runtimes_own_ends_with_its_sandbox() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let own = TurnId::new();
    shim.tell(1, vec![(own, Kind::TurnStarted, json!({"turnId": own, "kind": "runtime"})), said(own, "by myself")]).await;
    shim.acknowledged(2).await;
    assert_eq!(world.sessions.phase(session), Phase::Running);
    world.launcher.end_all();
    drop(shim);
    assert_eq!(world.ended(session, own).await, ("interrupted".to_owned(), texts(&["by myself"])));
}

#[tokio::test]
async fn recovery_gives_a_running_turn_again_to_a_sandbox_that_lives() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    let own = TurnId::new();
    let data = json!({"turnId": own, "kind": "runtime"}).to_string();
    let events = vec![row_event(Kind::TurnStarted, own, data)];
    world.store.advance(row.id, Advance { events, ..Advance::default() }).await.expect("stores");
    let running = world.left_turn(row.id, true).await;
    let waiting = world.left_turn(row.id, false).await;
    world.launcher.launch(row.sandbox);
    let recovered = world.sessions.recover().await.expect("recovers");
    assert_eq!(recovered, Recovered { attached: 1, ..Recovered::default() });
    let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), Some(row.id)).await;
    assert_eq!(shim.given().await.id, running, "and not the one that the runtime began itself");
    shim.tell(1, vec![over(own, "completed"), over(running, "completed")]).await;
    assert_eq!(shim.given().await.id, waiting);
    assert_eq!(world.ended(row.id, own).await.0, "completed");
}

#[tokio::test]
async fn recovery_interrupts_what_lost_its_sandbox_and_runs_what_waited() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    let running = world.left_turn(row.id, true).await;
    let waiting = world.left_turn(row.id, false).await;
    let recovered = world.sessions.recover().await.expect("recovers");
    assert_eq!(recovered, Recovered { interrupted: 1, ..Recovered::default() });
    assert_eq!(world.ended(row.id, running).await.0, "interrupted");
    let mut shim = world.fresh_shim().await;
    assert_eq!(shim.given().await.id, waiting);
    shim.work(1, waiting, "done").await;
    assert_eq!(world.ended(row.id, waiting).await.0, "completed");
}

#[tokio::test]
async fn recovery_removes_what_was_being_made_and_what_belongs_to_nobody() {
    let world = World::new().await;
    let row = world.left(Status::Starting).await;
    world.launcher.launch(row.sandbox);
    world.launcher.launch(SandboxId::new());
    let recovered = world.sessions.recover().await.expect("recovers");
    assert_eq!((recovered.unfinished, recovered.orphans), (1, 1));
    world.launcher.is_empty().await;
    assert!(world.store.living_sessions().await.expect("reads").is_empty());
}

#[tokio::test]
async fn a_cursor_beyond_the_end_is_refused() {
    let mut world = World::new().await;
    let (session, _shim) = world.session().await;
    let tail = world.sessions.get("default", session).await.expect("found").tail;
    world.sessions.cursor("default", session, tail, EventFilter::default()).await.expect("the last id seen is good");
    let refused = world.sessions.cursor("default", session, tail + 1, EventFilter::default()).await.expect_err("beyond");
    assert!(matches!(&refused, SessionError::Invalid { field, .. } if field == "after"), "{refused}");
}

#[tokio::test]
async fn requests_are_answered_while_the_database_is_locked_and_nothing_is_lost() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    shim.given().await;
    let other = rusqlite::Connection::open(world.folder.path().join("ash.db")).expect("opens");
    other.execute_batch("begin immediate").expect("locks");
    shim.work(1, turn, "kept").await;
    let refused = world.try_post(session, "b", IfBusy::Queue).await.expect_err("locked");
    assert!(matches!(refused, SessionError::Store(StoreError::Unavailable(_))), "{refused}");
    other.execute_batch("rollback").expect("unlocks");
    assert_eq!(world.ended(session, turn).await, ("completed".to_owned(), texts(&["kept"])));
}

#[tokio::test]
async fn a_cold_driver_goes_when_nobody_listens_and_comes_back() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    let cursor = world.sessions.cursor("default", row.id, 0, EventFilter::default()).await.expect("a cursor");
    let is_live = |world: &World| world.sessions.context.lock_hub().contains_key(&row.id);
    // The driver reads its session before time stands still for it.
    world.sessions.interrupt("default", row.id).await.expect("answers");
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(is_live(&world), "somebody listens");
    drop(cursor);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(!is_live(&world));
    tokio::time::resume();
    let turn = world.post(row.id, "a", IfBusy::Queue).await;
    assert_eq!(world.fresh_shim().await.given().await.id, turn);
}
