//! Drivers against a real database, a launcher that only keeps a list, and shims whose part the
//! test itself plays over the real connection.

mod drivers;
mod egress;
mod farewell;
mod host;
mod limits;
mod permissions;
mod rewind;
mod sandboxes;
mod traces;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::pin::pin;
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
use crate::config::Settings;
use crate::crypt::env::KeptEnv;
use crate::link::frame::{self, Frame};
use crate::link::shim::{EgressLimits, FromShim, Op, PROTOCOL, RunEnd, Setup, ShimEvent, ShimState, ToShim, Turn};
use crate::sandbox::walls::Walls;
use crate::sandbox::{Ended, LaunchError, Limits as UnitLimits, Listed, Pending, Spec, Started};
use crate::snapshot::{About, Reason};
use crate::store::sqlite::Sqlite;
use crate::store::{Advance, EventRow, NewEvent, NewTurn};
use crate::telemetry::trace::Tracer;
use crate::wire::Timestamp;
use crate::wire::egress::List;
use crate::wire::event::Kind;
use crate::wire::message::{IfBusy, TurnOptions};
use crate::wire::permission::Behavior;
use crate::wire::quantity::ByteCount;
use crate::wire::session::CreateSession;

/// Has something asked for that is not answered at once.
async fn waits<T>(asking: &mut (impl Future<Output = T> + Unpin)) {
    tokio::select! {
        biased;
        _ = asking => panic!("it is answered"),
        () = std::future::ready(()) => {}
    }
}

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
    /// What is frozen stays so while this is set.
    stuck: AtomicBool,
    /// Starts wait while this is set.
    held: watch::Sender<bool>,
    /// Removals wait while this is set.
    kept: watch::Sender<bool>,
    /// No folder can be removed while this is set.
    sticky: AtomicBool,
    /// How those that have no processes ended.
    ended: Mutex<Option<Ended>>,
    /// The file system holds sandboxes to their disk while this is set.
    quota: AtomicBool,
    /// The limits that sandboxes were started with or given later, in order.
    limited: Mutex<Vec<UnitLimits>>,
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

    /// Somebody waits for a removal that is kept.
    async fn is_removing(&self) {
        soon("a removal", async {
            while self.kept.receiver_count() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
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
            self.limited.lock().expect("not poisoned").push(spec.limits);
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
        let is_stuck = self.stuck.load(Ordering::SeqCst);
        Box::pin(async move { if is_stuck { Err(LaunchError::Failed("it is stuck".to_owned())) } else { Ok(()) } })
    }

    fn limit<'a>(&'a self, _: SandboxId, limits: &'a UnitLimits) -> Pending<'a, ()> {
        Box::pin(async move {
            self.check()?;
            self.limited.lock().expect("not poisoned").push(*limits);
            Ok(())
        })
    }

    fn list(&self) -> Pending<'_, Vec<Listed>> {
        Box::pin(async move {
            self.check()?;
            let listed = |(sandbox, accepting): (&SandboxId, &Option<_>)| Listed {
                sandbox: *sandbox,
                running: accepting.is_some(),
                socket: self.socket(*sandbox),
                ended: self.ended.lock().expect("not poisoned").clone().filter(|_| accepting.is_none()),
            };
            Ok(self.all().iter().map(listed).collect())
        })
    }

    fn remove(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        Box::pin(async move {
            self.check()?;
            self.kept.subscribe().wait_for(|kept| !kept).await.expect("lives");
            if self.sticky.load(Ordering::SeqCst) {
                return Err(LaunchError::Failed("it is sticky".to_owned()));
            }
            self.all().remove(&sandbox);
            self.changed();
            Ok(())
        })
    }

    fn usage(&self, _: SandboxId) -> Pending<'_, Option<crate::cgroup::Figures>> {
        Box::pin(async { Ok(None) })
    }

    fn host_stops(&self) -> Pending<'_, bool> {
        Box::pin(async { Ok(false) })
    }

    fn quota(&self, _: Option<SandboxId>) -> Pending<'_, bool> {
        Box::pin(async {
            self.check()?;
            Ok(self.quota.load(Ordering::SeqCst))
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
    crate::sandbox::conformance::install(&path, "#!/bin/sh\necho '2.1.330 (Claude Code)'\n");
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("opens");
    path
}

impl World {
    async fn new() -> Self {
        Self::with(Tracer::default()).await
    }

    /// One that tells of what it does.
    async fn with(tracer: Tracer) -> Self {
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
            quota: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            held: watch::Sender::new(false),
            kept: watch::Sender::new(false),
            sticky: AtomicBool::new(false),
            ended: Mutex::default(),
            limited: Mutex::default(),
        });
        let settings = SessionSettings {
            metrics: Metrics::default(),
            tracer,
            credentials: Credentials::new(store.clone(), None),
            runtime: Some(runtime(folder.path())),
            limits: LimitRules { default: Settings::default().limits, max: Settings::default().max_limits },
            tmp_bytes: 1 << 20,
            walls: Arc::new(Walls::whole()),
            require: Require::Accepted,
            gateway: Gateway { base_url: "http://127.0.0.1:1".to_owned(), ..Gateway::default() },
            prices: Prices::default(),
            times: Times { freeze_after: Duration::from_secs(3600), park_after: Duration::from_secs(7200) },
            snapshots: SnapshotRules { policy: SnapshotPolicy::Idle, keep: 3 },
            uploads: folder.path().join("uploads"),
            upload_bytes: ByteCount(1 << 20),
            attachments: attachments::Files::new(folder.path()),
            attachment_bytes: ByteCount(1 << 20),
            ask: Ask { timeout_ms: Some(1000), on_timeout: Behavior::Deny },
            egress: EgressRules { bound: List::everything(), private: Vec::new(), limits: EgressLimits::default() },
        };
        let url = format!("file://{}", folder.path().join("snapshots").display());
        let snapshots = Snapshots::open(&url).await.expect("opens");
        let layers = Snapshots::open(&format!("file://{}", folder.path().join("layers").display())).await.expect("opens");
        let sessions = Sessions::new(store.clone(), launcher.clone(), versions, snapshots, layers, settings);
        Self { folder, store, launcher, sessions, connections, digest }
    }

    /// A session that an earlier daemon left.
    async fn left(&self, status: Status) -> SessionRow {
        self.left_at(status, crate::store::now()).await
    }

    /// The same, in which nothing has happened since then.
    async fn left_at(&self, status: Status, at: Timestamp) -> SessionRow {
        let row = SessionRow {
            id: SessionId::new(),
            tenant: "default".to_owned(),
            agent: "test".to_owned(),
            digest: self.digest.clone(),
            status,
            sandbox: SandboxId::new(),
            model: None,
            system_prompt: None,
            prompt_version: None,
            extra_env: KeptEnv::default(),
            config: SessionConfig::default(),
            parent: None,
            conversed: false,
            tail: 0,
            created_at: at,
            last_active_at: at,
            granted: Vec::new(),
            sandbox_boot: None,
            heard: None,
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
        let queued = vec![NewTurn {
            id,
            content: "\"left\"".to_owned(),
            options: TurnOptions::default(),
            key: None,
            jumps: false,
            trace: None,
        }];
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

    /// Adds a snapshot of a session.
    async fn snapshot(&self, id: SnapshotId, reason: Reason) {
        self.snapshot_of(id, reason, 1).await;
    }

    /// The same, of so many KiB.
    async fn snapshot_of(&self, id: SnapshotId, reason: Reason, kib: usize) {
        let about = About {
            id,
            agent_name: "test".to_owned(),
            agent_version: self.digest.clone(),
            runtime: "claude".to_owned(),
            runtime_version: String::new(),
            excludes: Vec::new(),
            reason,
        };
        let mut writer = self.sessions.context.snapshots.begin(about).await.expect("begins");
        for _ in 0..kib {
            writer.chunk(vec![0; 1024]).await.expect("writes");
        }
        writer.finish(None).await.expect("is whole");
    }

    /// Adds events to a session's log: those of its life, by their data.
    async fn log(&self, session: SessionId, data: &[Value]) {
        let happened =
            |data: &Value| NewEvent { at: crate::store::now(), turn: None, kind: Kind::Lifecycle, data: data.to_string() };
        let events = data.iter().map(happened).collect();
        self.store.advance(session, Advance { events, ..Advance::default() }).await.expect("stores");
    }

    /// A folder of a sandbox, whose processes ended.
    fn folder_of(&self, sandbox: SandboxId) {
        self.launcher.launch(sandbox);
        self.launcher.end(sandbox);
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
        soon("the message to be taken", self.sessions.post("default", session, body, None)).await.map(|posted| posted.turn)
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
        Self::hello_with(stream, incarnation, session, 0).await
    }

    /// One that has events up to `newest`, of which some may not be stored yet.
    async fn hello_with(stream: UnixStream, incarnation: Uuid, session: Option<SessionId>, newest: u64) -> Self {
        Self::hello_after(stream, incarnation, session, newest, None).await
    }

    /// One that says up to where its events were acknowledged.
    async fn hello_after(
        stream: UnixStream,
        incarnation: Uuid,
        session: Option<SessionId>,
        newest: u64,
        acked: Option<u64>,
    ) -> Self {
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
            newest,
            acked,
            background: None,
            confined: None,
            age_ms: None,
            started: None,
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

    /// The next message that is neither an acknowledgement nor a setting, nor asks for more.
    async fn order(&mut self) -> ToShim {
        loop {
            match self.hear().await {
                ToShim::Ack { .. } | ToShim::Configure { .. } | ToShim::Egress { .. } | ToShim::PackMore { .. } => {}
                ToShim::Gateway { .. } => {}
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
        let mut is_filled = false;
        loop {
            let op = match self.order().await {
                ToShim::Open { op, .. } => op,
                ToShim::Restore { op, .. } => {
                    self.chunks().await;
                    is_filled = true;
                    op
                }
                ToShim::Setup { op, setup } => {
                    self.session = Some(setup.session);
                    self.setup = Some(setup);
                    if is_filled {
                        return self.say(&FromShim::Done { op }).await;
                    }
                    op
                }
                ToShim::Unpack { op } => {
                    self.chunks().await;
                    return self.say(&FromShim::Done { op }).await;
                }
                other => panic!("{other:?} before the setup"),
            };
            self.say(&FromShim::Done { op }).await;
        }
    }

    /// All chunks of an archive.
    async fn chunks(&mut self) {
        while !matches!(self.frame().await, Some(Frame::Chunk(chunk)) if chunk.is_empty()) {}
    }

    /// Is packed: an archive without entries.
    async fn pack(&mut self) {
        let op = self.packing().await;
        self.is_packed(op).await;
    }

    /// Waits until it is to pack.
    async fn packing(&mut self) -> Op {
        let ToShim::Pack { op, .. } = self.order().await else { panic!("no packing") };
        op
    }

    async fn is_packed(&mut self, op: Op) {
        for chunk in [&[0; 1024][..], &[]] {
            self.stream.write_all(&frame::encode_chunk(chunk).expect("fits")).await.expect("writes");
        }
        self.say(&FromShim::Packed { op, conversation: None, leftover: BTreeMap::new() }).await;
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
