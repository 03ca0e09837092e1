//! Sessions: conversations that outlive processes.
//!
//! ```text
//!  http ──▶ Sessions ──Request──▶ Driver (one task for each session that was touched)
//!                                   │  sole writer of the session's log
//!                                   ├──▶ Store: events and the state they imply, one transaction
//!                                   ├──▶ tail: the newest event id, for readers
//!                                   └──▶ Launcher, shim: start, turns, acknowledgements
//!  http ◀── Cursor ◀── Store (reads up to the tail, then waits for it to move)
//! ```
//!
//! A driver is the only one who writes its session, so its order of work is the order of the log.
//! Readers have no queue: a cursor reads from the store, and a slow client costs a cursor.

pub mod attachments;
mod binding;
pub mod bundle;
mod compact;
mod config;
mod create;
mod driver;
mod egress;
pub mod errand;
mod error;
pub mod exec;
mod farewell;
pub mod files;
mod fork;
mod gateway;
pub mod layer;
mod limits;
mod logs;
mod moved;
mod open;
mod read;
mod recover;
mod resources;
mod scripts;
mod security;
mod sweep;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use egress::EgressRules;
pub use error::SessionError;
pub use limits::LimitRules;
pub use moved::{Grown, Moved};
pub use read::Cursor;
pub use recover::{Owners, RecoverError, Recovered};
pub use sweep::{SweepError, Swept};

use crate::agent::Versions;
use crate::config::prices::Prices;
use crate::config::settings::{Require, SnapshotPolicy};
use crate::credential::Credentials;
use crate::fault::{self, Point};
use crate::link::shim::{Ask, Gateway};
use crate::sandbox::Launcher;
use crate::sandbox::walls::Walls;
use crate::snapshot::{Listed, Manifest, SnapshotError, SnapshotId, Snapshots};
use crate::store::{EventFilter, PermissionRow, SessionFilter, SessionPage, SessionRow, Store, StoreError, TurnKey, TurnRow};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::{self, Span, Tracer};
use crate::wire::message::MessageBody;
use crate::wire::permission::PermissionAnswer;
use crate::wire::quantity::ByteCount;
use crate::wire::session::{SessionConfig, Status};
use crate::wire::weakness::Weakness;
use crate::wire::{PermissionId, SandboxId, SessionId, TurnId};
use driver::{Asked, Driver, Request, Rewind};

/// Requests that may wait for one driver. A caller beyond that waits for a place.
const REQUESTS: usize = 32;
/// Drivers that are asked one after the other, when one left before it took the request.
const ASK_TRIES: usize = 3;
/// How long drivers may take to come to rest. What they are at is stored or is done again.
const CLOSE_DEADLINE: Duration = Duration::from_secs(3);
/// Ended sessions whose sandboxes are packed at a time, so that those that work are not held up.
const FAREWELLS: usize = 4;
/// Sandboxes that are packed at a time while the host goes down: enough to keep disk and processors
/// busy, and few enough that the first are whole when time is up.
const PACKERS_MAX: usize = 4;
/// First and longest wait before a sandbox that could not be removed is tried again, and how often
/// that is done: for some ten minutes.
const CLEAR_FIRST: Duration = Duration::from_secs(1);
const CLEAR_LONGEST: Duration = Duration::from_secs(60);
const CLEAR_TRIES: usize = 16;

/// What sessions are made with; the same for all.
#[derive(Debug)]
pub struct SessionSettings {
    /// The runtime's program on this host; `None`: in one of the usual places.
    pub runtime: Option<PathBuf>,
    /// What sessions may use at most, and what those may that say nothing.
    pub limits: LimitRules,
    /// Size of `/tmp` in bytes.
    pub tmp_bytes: u64,
    /// What sandboxes are confined with.
    pub walls: Arc<Walls>,
    /// How much of it is required.
    pub require: Require,
    /// Where model calls go, and the key of those sessions that have none of their own.
    pub gateway: Gateway,
    /// How requests for permission are put to the caller, in sessions whose mode asks.
    pub ask: Ask,
    /// What model calls cost.
    pub prices: Prices,
    /// When a session in which nothing happens costs less.
    pub times: Times,
    /// Snapshots.
    pub snapshots: SnapshotRules,
    /// What of the network sandboxes may reach at most.
    pub egress: EgressRules,
    /// Secrets that tenants keep for their sessions.
    pub credentials: Credentials,
    /// The folder in which uploads wait.
    pub uploads: PathBuf,
    /// Largest bundle that is taken.
    pub upload_bytes: ByteCount,
    /// Where attachments are kept.
    pub attachments: attachments::Files,
    /// Largest attachment that is taken.
    pub attachment_bytes: ByteCount,
    /// What is counted.
    pub metrics: Metrics,
    /// What is told in traces.
    pub tracer: Tracer,
}

/// When a session in which nothing happens costs less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// After which time its sandbox is frozen.
    pub freeze_after: Duration,
    /// After which time from then on its processes end.
    pub park_after: Duration,
}

/// When snapshots are taken and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotRules {
    /// When, beside on request.
    pub policy: SnapshotPolicy,
    /// How many of one session are kept.
    pub keep: usize,
}

/// Everything that drivers share.
#[derive(Debug)]
struct Context {
    store: Arc<dyn Store>,
    launcher: Arc<dyn Launcher>,
    versions: Arc<Versions>,
    snapshots: Snapshots,
    layers: layer::Layers,
    settings: SessionSettings,
    runtime: open::Runtime,
    /// Names this boot of the host.
    boot: String,
    hub: Mutex<HashMap<SessionId, Live>>,
    moved: Arc<Moved>,
    /// What a sweep has to leave alone, and what it is told.
    sweeping: sweep::Sweeping,
    /// Cancelled when the daemon stops: what breaks from then on breaks for that.
    closing: CancellationToken,
    drivers: TaskTracker,
    /// Sessions that were ended, until their sandboxes are gone.
    leaving: watch::Sender<HashMap<SessionId, Leaving>>,
    metrics: Metrics,
    /// The key of the model API of sessions that have none of their own.
    host_key: Mutex<Option<String>>,
    /// Bounds how many of those are packed at a time.
    farewells: Semaphore,
    host: watch::Sender<Host>,
    /// Places for sandboxes that are packed while the host goes down.
    packers: Semaphore,
    /// The place for who reads again what turns did before a restart.
    rereads: Semaphore,
}

impl Context {
    /// Counts a session that was made.
    fn count_session(&self, row: &SessionRow) {
        self.metrics.agent_sessions.with_label_values(&self.metrics.agent(&row.tenant, &row.agent)).inc();
    }
}

/// A session that was ended, and has a sandbox.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    /// Whoever else removed it might lose the last snapshot.
    sandbox: SandboxId,
    /// Whether there is nothing more to come than its removal.
    is_kept: bool,
}

/// A session that was touched since the daemon started.
#[derive(Debug, Clone)]
struct Live {
    tenant: Arc<str>,
    requests: mpsc::Sender<Asked>,
    tail: watch::Receiver<i64>,
    phase: Arc<PhaseCell>,
}

/// Whether the host stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    /// As far as is known.
    Stays,
    /// It goes down; turns that run may end by themselves.
    Stops,
    /// There is no more time for turns.
    Presses,
}

/// What the sandbox of a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// No processes.
    Cold,
    /// Coming up.
    Warming,
    /// Up, and no turn runs.
    Waiting,
    /// A turn runs.
    Running,
    /// Kept in memory, without processor time.
    Frozen,
}

impl Phase {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warming => "warming",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Frozen => "frozen",
        }
    }
}

/// A [`Phase`] that its driver writes and anybody reads.
#[derive(Debug, Default)]
struct PhaseCell(AtomicU8);

impl PhaseCell {
    fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    fn get(&self) -> Phase {
        const ALL: [Phase; 5] = [Phase::Cold, Phase::Warming, Phase::Waiting, Phase::Running, Phase::Frozen];
        ALL.get(usize::from(self.0.load(Ordering::Relaxed))).copied().unwrap_or(Phase::Cold)
    }
}

/// A turn that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// The turn.
    pub turn: TurnId,
    /// Id of its first event.
    pub first_event: i64,
}

/// All sessions of this daemon.
#[derive(Debug, Clone)]
pub struct Sessions {
    context: Arc<Context>,
}

impl Sessions {
    /// Takes what sessions are made with. [`Self::recover`] has to run before anything else.
    pub fn new(
        store: Arc<dyn Store>,
        launcher: Arc<dyn Launcher>,
        versions: Arc<Versions>,
        snapshots: Snapshots,
        layers: Snapshots,
        mut settings: SessionSettings,
    ) -> Self {
        let host_key = settings.gateway.api_key.take();
        Self {
            context: Arc::new(Context {
                store,
                launcher,
                versions,
                snapshots,
                layers: layer::Layers::new(layers),
                metrics: settings.metrics.clone(),
                settings,
                runtime: open::Runtime::default(),
                boot: crate::sandbox::boot_id(),
                hub: Mutex::default(),
                moved: Arc::default(),
                sweeping: sweep::Sweeping::default(),
                closing: CancellationToken::new(),
                drivers: TaskTracker::new(),
                leaving: watch::Sender::new(HashMap::new()),
                host_key: Mutex::new(host_key),
                farewells: Semaphore::new(FAREWELLS),
                host: watch::Sender::new(Host::Stays),
                packers: Semaphore::new(PACKERS_MAX),
                rereads: Semaphore::new(1),
            }),
        }
    }

    /// Lets all sessions rest as they are. Their sandboxes go on. Without this, drivers would see
    /// the tasks around them end with the daemon, and take that for the end of sandboxes.
    pub async fn close(&self) {
        self.context.closing.cancel();
        self.context.drivers.close();
        if tokio::time::timeout(CLOSE_DEADLINE, self.context.drivers.wait()).await.is_err() {
            tracing::info!(left = self.context.drivers.len(), "some sessions were still at work");
        }
    }

    /// The host goes down: takes a snapshot of every session that has processes and ends them. No
    /// turn begins any more; those that run may end by themselves for `grace`, and are interrupted
    /// then. Returns when all is put away, or after `deadline` more. What is left then keeps its
    /// processes, which the host ends, and its folder, in which the next boot goes on.
    pub async fn put_away(&self, grace: Duration, deadline: Duration) {
        let drivers = &self.context.drivers;
        drivers.close();
        self.context.host.send_replace(Host::Stops);
        if tokio::time::timeout(grace, drivers.wait()).await.is_err() {
            tracing::info!(left = drivers.len(), "turns that still run are interrupted");
            self.context.host.send_replace(Host::Presses);
            if tokio::time::timeout(deadline, drivers.wait()).await.is_err() {
                tracing::warn!(left = drivers.len(), "time is up, the host ends what is left");
                return;
            }
        }
        tracing::info!("all sessions are put away");
    }

    /// A session.
    pub async fn get(&self, tenant: &str, id: SessionId) -> Result<SessionRow, SessionError> {
        self.context.store.get_session(tenant, id).await.map_err(not_found)
    }

    /// Sessions, newest first, without prompts and environments.
    pub async fn list(&self, tenant: &str, filter: SessionFilter, page: SessionPage) -> Result<Vec<SessionRow>, SessionError> {
        Ok(self.context.store.list_sessions(tenant, filter, page).await?)
    }

    /// What is told in traces.
    pub fn tracer(&self) -> &Tracer {
        &self.context.settings.tracer
    }

    /// Begins to tell of something that is done with a session.
    fn span(&self, name: &'static str, id: SessionId) -> Span {
        let mut span = self.tracer().here(name);
        if span.is_kept() {
            span.set("ash.session.id", id.to_string());
        }
        span
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.context.metrics
    }

    /// Sessions that have ended and whose sandbox is not gone yet.
    pub fn leaving(&self) -> Vec<SessionId> {
        self.context.leaving.borrow().keys().copied().collect()
    }

    /// What the sandbox of a session does.
    pub fn phase(&self, id: SessionId) -> Phase {
        self.context.lock_hub().get(&id).map_or(Phase::Cold, |live| live.phase.get())
    }

    /// What the sandboxes are without that are made now, by the operator's will.
    pub fn weaknesses(&self) -> Vec<Weakness> {
        self.context.settings.walls.known().unwrap_or_default()
    }

    /// Which sessions have something to tell webhooks, for the one service that looks.
    pub fn moved(&self) -> Arc<Moved> {
        self.context.moved.clone()
    }

    /// How many sandboxes are in each phase. Those without processes are not counted.
    pub fn phases(&self) -> BTreeMap<&'static str, i64> {
        let mut counts = BTreeMap::new();
        for live in self.context.lock_hub().values() {
            *counts.entry(live.phase.get().as_str()).or_insert(0) += 1;
        }
        counts
    }

    /// Takes a message. The turn runs when those before it are over, whoever listens. One that comes
    /// again with the same key joins the turn of the first.
    pub async fn post(
        &self,
        tenant: &str,
        id: SessionId,
        body: MessageBody,
        key: Option<TurnKey>,
    ) -> Result<Posted, SessionError> {
        self.span("ash.session.message", id).around(self.post_whole(tenant, id, body, key)).await
    }

    /// The same, also where its caller goes away meanwhile. What is `held` is dropped when it is done.
    pub async fn post_held(
        &self,
        tenant: &str,
        id: SessionId,
        body: MessageBody,
        key: Option<TurnKey>,
        held: impl Send + 'static,
    ) -> Result<Posted, SessionError> {
        let (sessions, tenant, span) = (self.clone(), tenant.to_owned(), self.span("ash.session.message", id));
        let posting = tokio::spawn(span.around(async move {
            let posted = sessions.post_whole(&tenant, id, body, key).await;
            drop(held);
            posted
        }));
        posting.await.map_err(|_| SessionError::Closing)?
    }

    async fn post_whole(
        &self,
        tenant: &str,
        id: SessionId,
        body: MessageBody,
        key: Option<TurnKey>,
    ) -> Result<Posted, SessionError> {
        let row = self.get(tenant, id).await?;
        let known = match &key {
            Some(key) => self.context.store.find_turn(id, key.key.clone()).await?,
            None => None,
        };
        match (&known, &key) {
            // The answer to the first try was lost, and then the session ended.
            (Some(turn), Some(key)) if row.status == Status::Ended => return driver::joined(turn, key),
            // What it names was there when it was taken.
            (Some(_), _) => {}
            (None, _) => attachments::check(&self.context, &row, &body.content).await?,
        }
        self.ask(&row, |reply| Request::Post { body: Box::new(body), key, reply }).await
    }

    /// A turn.
    pub async fn turn(&self, tenant: &str, id: SessionId, turn: TurnId) -> Result<TurnRow, SessionError> {
        self.get(tenant, id).await?;
        match self.context.store.get_turn(id, turn).await {
            Err(StoreError::NotFound(_)) => Err(SessionError::NoTurn),
            found => Ok(found?),
        }
    }

    /// A request for permission.
    pub async fn permission(&self, tenant: &str, id: SessionId, permission: PermissionId) -> Result<PermissionRow, SessionError> {
        self.get(tenant, id).await?;
        match self.context.store.get_permission(id, permission).await {
            Err(StoreError::NotFound(_)) => Err(SessionError::NoPermission),
            found => Ok(found?),
        }
    }

    /// Ends a turn: takes it from the queue, or interrupts it.
    pub async fn cancel(&self, tenant: &str, id: SessionId, turn: TurnId) -> Result<(), SessionError> {
        let row = self.get(tenant, id).await?;
        self.ask(&row, |reply| Request::Cancel { turn, reply }).await
    }

    /// Answers a request for permission; returns what came of it.
    pub async fn answer(
        &self,
        tenant: &str,
        id: SessionId,
        permission: PermissionId,
        answer: PermissionAnswer,
    ) -> Result<PermissionRow, SessionError> {
        let row = self.get(tenant, id).await?;
        self.ask(&row, |reply| Request::Answer { id: permission, answer: Box::new(answer), reply }).await
    }

    /// Ends the running turn. `None` if none runs.
    pub async fn interrupt(&self, tenant: &str, id: SessionId) -> Result<Option<TurnId>, SessionError> {
        let row = self.get(tenant, id).await?;
        self.ask(&row, |reply| Request::Interrupt { reply }).await
    }

    /// Changes what later turns use; fields that are `None` stay.
    pub async fn configure(
        &self,
        tenant: &str,
        id: SessionId,
        model: Option<String>,
        config: SessionConfig,
    ) -> Result<SessionRow, SessionError> {
        let row = self.get(tenant, id).await?;
        // An empty one takes it away.
        if let Some(credential) = config.credential_id.as_deref().filter(|id| !id.is_empty()) {
            self.context.settings.credentials.check(tenant, credential).await?;
        }
        if let Some(bindings) = &config.bindings {
            binding::check(&self.context, tenant, bindings).await?;
        }
        self.ask(&row, |reply| Request::Configure { model, config: Box::new(config), reply }).await?;
        self.get(tenant, id).await
    }

    /// Ends a session for good. Ending it again changes nothing.
    pub async fn end(&self, tenant: &str, id: SessionId) -> Result<SessionRow, SessionError> {
        let row = self.get(tenant, id).await?;
        if row.status != Status::Ended {
            match self.ask(&row, |reply| Request::End { reply }).await {
                // Somebody else ended it in between.
                Ok(()) | Err(SessionError::Status(Status::Ended)) => {}
                Err(error) => return Err(error),
            }
        }
        self.get(tenant, id).await
    }

    /// Keeps a session as it is, without processor time. Interrupts a running turn.
    pub async fn pause(&self, tenant: &str, id: SessionId) -> Result<SessionRow, SessionError> {
        let span = self.span("ash.session.pause", id);
        span.around(self.change(tenant, id, "pause", |reply| Request::Pause { reply })).await
    }

    /// Keeps a session without processes. Interrupts a running turn.
    pub async fn stop(&self, tenant: &str, id: SessionId) -> Result<SessionRow, SessionError> {
        let span = self.span("ash.session.stop", id);
        span.around(self.change(tenant, id, "stop", |reply| Request::Stop { reply })).await
    }

    /// Makes a session take messages again, with its sandbox up.
    pub async fn resume(&self, tenant: &str, id: SessionId) -> Result<SessionRow, SessionError> {
        self.span("ash.session.resume", id).around(self.resume_whole(tenant, id)).await
    }

    async fn resume_whole(&self, tenant: &str, id: SessionId) -> Result<SessionRow, SessionError> {
        let row = self.get(tenant, id).await?;
        if row.status == Status::Ended {
            return Err(SessionError::Over);
        }
        open::version(&self.context, &row.agent, &row.digest)?;
        self.ask(&row, |reply| Request::Resume { reply }).await?;
        self.get(tenant, id).await
    }

    async fn change(
        &self,
        tenant: &str,
        id: SessionId,
        verb: &'static str,
        request: impl FnOnce(Reply<()>) -> Request,
    ) -> Result<SessionRow, SessionError> {
        let row = self.get(tenant, id).await?;
        match self.ask(&row, request).await {
            Err(SessionError::Status(status)) => return Err(SessionError::CanNot { verb, status }),
            outcome => outcome?,
        }
        self.get(tenant, id).await
    }

    /// Takes a snapshot, when no turn runs.
    pub async fn snapshot(&self, tenant: &str, id: SessionId) -> Result<Manifest, SessionError> {
        let row = self.get(tenant, id).await?;
        self.ask(&row, |reply| Request::Snapshot { reply }).await
    }

    /// The snapshots of a session, oldest first.
    pub async fn snapshots(&self, tenant: &str, id: SessionId) -> Result<Vec<Listed>, SessionError> {
        self.get(tenant, id).await?;
        self.context.snapshots.list(id).await.map_err(snapshot_error)
    }

    /// Takes a session back to the snapshot at an event, with its workspace and its conversation. How
    /// it was before is kept in another snapshot. With `interrupt`, a running turn is interrupted.
    pub async fn rewind(&self, tenant: &str, id: SessionId, event: i64, interrupt: bool) -> Result<SessionRow, SessionError> {
        let row = self.get(tenant, id).await?;
        if row.status == Status::Ended {
            return Err(SessionError::Over);
        }
        // All of it is read here, where nobody waits for it and nothing was touched yet.
        let copy = Some(Box::new(self.context.begin_copy(SnapshotId { session: id, event }, id).await?));
        match self.ask(&row, |reply| Request::Rewind(Rewind { event, copy, interrupt, reply })).await {
            Err(SessionError::Status(Status::Ended)) => return Err(SessionError::Over),
            outcome => outcome?,
        }
        self.get(tenant, id).await
    }

    /// A place in the session's log, from which events can be read as they come.
    pub async fn cursor(&self, tenant: &str, id: SessionId, after: i64, filter: EventFilter) -> Result<Cursor, SessionError> {
        let row = self.get(tenant, id).await?;
        if after > row.tail {
            // It would wait for events that the caller believes to have, and miss those before.
            let reason = format!("is beyond the newest event, {}", row.tail);
            return Err(SessionError::Invalid { field: "after".to_owned(), reason });
        }
        let tail = if row.status == Status::Ended { None } else { Some(self.context.live(&row).tail) };
        let read = self.context.metrics.stream_events.clone();
        Ok(Cursor::new(self.context.store.clone(), id, after, filter, tail, read))
    }

    async fn ask<T>(&self, row: &SessionRow, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, SessionError> {
        if row.status == Status::Ended {
            return Err(SessionError::Status(Status::Ended));
        }
        let (reply, answer) = oneshot::channel();
        let mut request = Asked { request: request(reply), trace: trace::current() };
        for _ in 0..ASK_TRIES {
            let live = self.context.live(row);
            match live.requests.send(request).await {
                Ok(()) => {
                    drop(live);
                    return answer.await.map_err(|_| SessionError::Closing)?;
                }
                // That driver was leaving; the next one reads how the session stands.
                Err(mpsc::error::SendError(back)) => request = back,
            }
        }
        Err(SessionError::Closing)
    }
}

type Reply<T> = oneshot::Sender<Result<T, SessionError>>;

fn snapshot_error(error: SnapshotError) -> SessionError {
    SessionError::Snapshot(crate::report::chain(&error))
}

fn not_found(error: StoreError) -> SessionError {
    match error {
        StoreError::NotFound(_) => SessionError::NotFound,
        error => error.into(),
    }
}

impl Context {
    /// Whether there is something of a sandbox on the host. Where that can not be asked, there is.
    async fn has_folder(&self, sandbox: SandboxId) -> bool {
        self.launcher.list().await.map_or(true, |all| all.iter().any(|one| one.sandbox == sandbox))
    }

    fn lock_hub(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Live>> {
        // A panic in one of the short sections below leaves the map whole.
        self.hub.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The driver of a session, started if it is not running.
    fn live(self: &Arc<Self>, row: &SessionRow) -> Live {
        let mut hub = self.lock_hub();
        if let Some(live) = hub.get(&row.id)
            && !live.requests.is_closed()
        {
            return live.clone();
        }
        let (requests, received) = mpsc::channel(REQUESTS);
        let (tail_sender, tail) = watch::channel(row.tail);
        let phase = Arc::new(PhaseCell::default());
        let live = Live { tenant: row.tenant.as_str().into(), requests, tail, phase: phase.clone() };
        hub.insert(row.id, live.clone());
        self.drivers.spawn(Driver::new(self.clone(), row.clone(), received, tail_sender, phase).run());
        live
    }

    fn drop_live(&self, id: SessionId) {
        self.drop_live_if(id, || true);
    }

    /// Forgets the driver of a session if this holds while nobody can come to it.
    fn drop_live_if(&self, id: SessionId, holds: impl FnOnce() -> bool) -> bool {
        let mut hub = self.lock_hub();
        let holds = holds();
        if holds {
            hub.remove(&id);
        }
        holds
    }

    /// [`Self::clear_sandbox`] in a task of its own.
    fn clear_later(self: &Arc<Self>, sandbox: SandboxId) {
        let context = self.clone();
        tokio::spawn(async move { context.clear_sandbox(sandbox).await });
    }

    /// Ends what runs in a sandbox and removes its folder. Tries again when the launcher can not;
    /// in the end the next sweep does.
    async fn clear_sandbox(&self, sandbox: SandboxId) {
        let Some(_clearing) = self.sweeping.clear(sandbox) else { return };
        fault::at(Point::ClearBegun);
        let mut wait = CLEAR_FIRST;
        for _ in 0..CLEAR_TRIES {
            let stopped = self.launcher.stop(sandbox, open::STOP_GRACE).await;
            fault::at(Point::ClearStopped);
            let cleared = match stopped {
                Ok(()) => self.launcher.remove(sandbox).await,
                Err(error) => Err(error),
            };
            let Err(error) = cleared else { return };
            tracing::warn!(
                sandbox_id = %sandbox, error = crate::report::chain(&error),
                "a sandbox can not be removed now, retrying in {} s", wait.as_secs()
            );
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(CLEAR_LONGEST);
        }
        tracing::error!(sandbox_id = %sandbox, "a sandbox can not be removed, leaving it to the next sweep");
        self.sweeping.ask_for_one();
    }
}
