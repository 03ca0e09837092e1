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

mod driver;
mod open;
mod read;
mod recover;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

pub use read::Cursor;
pub use recover::{RecoverError, Recovered};

use crate::agent::Versions;
use crate::link::shim::Gateway;
use crate::sandbox::{Launcher, Limits};
use crate::store::{EventFilter, SessionFilter, SessionRow, Store, StoreError};
use crate::wire::message::MessageBody;
use crate::wire::session::{CreateSession, SessionConfig, Status};
use crate::wire::{SandboxId, SessionId, TurnId};
use driver::{Driver, Request};

/// Requests that may wait for one driver. A caller beyond that waits for a place.
const REQUESTS: usize = 32;
/// Drivers that are asked one after the other, when one left before it took the request.
const ASK_TRIES: usize = 3;
/// First and longest wait before a sandbox that could not be removed is tried again, and how often
/// that is done: for some ten minutes.
const CLEAR_FIRST: Duration = Duration::from_secs(1);
const CLEAR_LONGEST: Duration = Duration::from_secs(60);
const CLEAR_TRIES: usize = 16;

/// Why a request about a session was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no such session for this tenant.
    #[error("Session not found")]
    NotFound,
    /// There is no such agent for this tenant.
    #[error("Agent \"{0}\" not found")]
    NoAgent(String),
    /// The agent's version is not on this host.
    #[error("Agent directory not found at \"{path}\". The agent \"{agent}\" may need to be re-deployed.")]
    NoVersion {
        /// The agent.
        agent: String,
        /// Where it should be.
        path: String,
    },
    /// The session's status does not allow it.
    #[error("Session is {}", .0.as_str())]
    Status(Status),
    /// A turn is running, and the caller did not want to wait.
    #[error("Session is busy with turn {0}")]
    Busy(TurnId),
    /// A field asks for what can not be.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The sandbox could not be brought up.
    #[error("Failed to create session: {0}")]
    Open(String),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// The daemon is shutting down.
    #[error("Ash is shutting down")]
    Closing,
}

/// What sessions are made with; the same for all.
#[derive(Debug)]
pub struct SessionSettings {
    /// The runtime's program on this host; `None`: in one of the usual places.
    pub runtime: Option<PathBuf>,
    /// What a sandbox may use.
    pub limits: Limits,
    /// Size of `/tmp` in bytes.
    pub tmp_bytes: u64,
    /// Where model calls go.
    pub gateway: Gateway,
}

/// Everything that drivers share.
#[derive(Debug)]
struct Context {
    store: Arc<dyn Store>,
    launcher: Arc<dyn Launcher>,
    versions: Arc<Versions>,
    settings: SessionSettings,
    runtime: open::Runtime,
    hub: Mutex<HashMap<SessionId, Live>>,
}

/// A session that was touched since the daemon started.
#[derive(Debug, Clone)]
struct Live {
    requests: mpsc::Sender<Request>,
    tail: watch::Receiver<i64>,
    phase: Arc<PhaseCell>,
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
}

impl Phase {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warming => "warming",
            Self::Waiting => "waiting",
            Self::Running => "running",
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
        [Phase::Cold, Phase::Warming, Phase::Waiting, Phase::Running][usize::from(self.0.load(Ordering::Relaxed) & 3)]
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
    pub fn new(store: Arc<dyn Store>, launcher: Arc<dyn Launcher>, versions: Arc<Versions>, settings: SessionSettings) -> Self {
        Self {
            context: Arc::new(Context {
                store,
                launcher,
                versions,
                settings,
                runtime: open::Runtime::default(),
                hub: Mutex::default(),
            }),
        }
    }

    /// Makes a session and brings up its sandbox.
    pub async fn create(&self, tenant: &str, body: CreateSession) -> Result<SessionRow, SessionError> {
        // In a task of its own: a caller that goes away must not leave half a session.
        let (sessions, tenant) = (self.clone(), tenant.to_owned());
        let creating = tokio::spawn(async move { sessions.create_whole(&tenant, body).await });
        creating.await.map_err(|_| SessionError::Closing)?
    }

    async fn create_whole(&self, tenant: &str, body: CreateSession) -> Result<SessionRow, SessionError> {
        let agent = match self.context.store.get_agent(tenant, &body.agent).await {
            Ok(agent) => agent,
            Err(StoreError::NotFound(_)) => return Err(SessionError::NoAgent(body.agent)),
            Err(error) => return Err(error.into()),
        };
        open::version(&self.context, &agent.name, &agent.digest)?;
        let now = crate::store::now();
        let row = SessionRow {
            id: SessionId::new(),
            tenant: tenant.to_owned(),
            agent: agent.name,
            digest: agent.digest,
            status: Status::Starting,
            sandbox: SandboxId::new(),
            model: body.model,
            system_prompt: body.system_prompt,
            extra_env: body.extra_env.unwrap_or_default(),
            config: body.config,
            parent: None,
            conversed: false,
            tail: 0,
            created_at: now,
            last_active_at: now,
        };
        self.context.store.create_session(row.clone()).await?;
        let opened = self.ask(&row, |reply| Request::Open { reply }).await;
        if let Err(error) = opened {
            // Nobody has been told of it, so it leaves nothing behind.
            self.forget(&row).await;
            return Err(error);
        }
        self.get(tenant, row.id).await
    }

    async fn forget(&self, row: &SessionRow) {
        self.context.drop_live(row.id);
        self.context.clear_later(row.sandbox);
        if let Err(error) = self.context.store.forget_session(row.id).await {
            tracing::warn!(session_id = %row.id, error = %error, "a session that failed to start stays in the database, ignoring");
        }
    }

    /// A session.
    pub async fn get(&self, tenant: &str, id: SessionId) -> Result<SessionRow, SessionError> {
        self.context.store.get_session(tenant, id).await.map_err(not_found)
    }

    /// Sessions, newest first, and how many there are in all.
    pub async fn list(&self, tenant: &str, filter: SessionFilter) -> Result<(Vec<SessionRow>, i64), SessionError> {
        let page = self.context.store.list_sessions(tenant, filter).await?;
        Ok((page.rows, page.total))
    }

    /// What the sandbox of a session does.
    pub fn phase(&self, id: SessionId) -> Phase {
        self.context.lock_hub().get(&id).map_or(Phase::Cold, |live| live.phase.get())
    }

    /// How many sandboxes are in each phase. Those without processes are not counted.
    pub fn phases(&self) -> BTreeMap<&'static str, i64> {
        let mut counts = BTreeMap::new();
        for live in self.context.lock_hub().values() {
            *counts.entry(live.phase.get().as_str()).or_insert(0) += 1;
        }
        counts
    }

    /// Takes a message. The turn runs when those before it are over, whoever listens.
    pub async fn post(&self, tenant: &str, id: SessionId, body: MessageBody) -> Result<Posted, SessionError> {
        let row = self.get(tenant, id).await?;
        self.ask(&row, |reply| Request::Post { body: Box::new(body), reply }).await
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

    /// A place in the session's log, from which events can be read as they come.
    pub async fn cursor(&self, tenant: &str, id: SessionId, after: i64, filter: EventFilter) -> Result<Cursor, SessionError> {
        let row = self.get(tenant, id).await?;
        if after > row.tail {
            // It would wait for events that the caller believes to have, and miss those before.
            let reason = format!("is beyond the newest event, {}", row.tail);
            return Err(SessionError::Invalid { field: "after".to_owned(), reason });
        }
        let tail = if row.status == Status::Ended { None } else { Some(self.context.live(&row).tail) };
        Ok(Cursor::new(self.context.store.clone(), id, after, filter, tail))
    }

    async fn ask<T>(&self, row: &SessionRow, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, SessionError> {
        if row.status == Status::Ended {
            return Err(SessionError::Status(Status::Ended));
        }
        let (reply, answer) = oneshot::channel();
        let mut request = request(reply);
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

fn not_found(error: StoreError) -> SessionError {
    match error {
        StoreError::NotFound(_) => SessionError::NotFound,
        error => error.into(),
    }
}

impl Context {
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
        let live = Live { requests, tail, phase: phase.clone() };
        hub.insert(row.id, live.clone());
        tokio::spawn(Driver::new(self.clone(), row.clone(), received, tail_sender, phase).run());
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
    /// in the end the next start of the daemon does.
    async fn clear_sandbox(&self, sandbox: SandboxId) {
        let mut wait = CLEAR_FIRST;
        for _ in 0..CLEAR_TRIES {
            let cleared = match self.launcher.stop(sandbox, open::STOP_GRACE).await {
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
        tracing::error!(sandbox_id = %sandbox, "a sandbox can not be removed, leaving it to the next start");
    }
}
