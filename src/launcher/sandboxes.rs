//! Carries out requests: folder, socket and unit of each sandbox together.
//!
//! Nothing is remembered between requests. What exists is read from the folders and from
//! systemd's list of units, so a launcher that was restarted knows as much as before.
//!
//! `start` and `remove` of one sandbox exclude each other, as both change its folder and socket;
//! everything else only asks systemd, which orders the jobs of a unit itself. So a `kill`
//! overtakes a `stop` that waits.
//!
//! systemd keeps the unit of a sandbox that ended badly, and `list` tells how that was. The next
//! `start`, `stop`, `kill` or `remove` makes systemd forget it, so none is left of a sandbox that
//! is gone, and a start that finds no leftover asks nothing more for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;
use zbus::OwnedObjectPath;
use zbus::proxy::CacheProperties;

use super::end;
use super::folders::{FolderError, Folders};
use super::sockets::{SocketError, Sockets};
use super::unit;
use crate::link::launch::{Answer, Ended, Limits, Request, Spec};
use crate::report;
use crate::systemd::job::{JobError, Jobs, Watch};
use crate::systemd::property::Property;
use crate::systemd::proxy::{Complaint, ManagerProxy, ServiceProxy, UnitEntry};
use crate::wire::SandboxId;

/// How long systemd may take to execute the shim. Reached on a host that is swamped, not before.
const START_DEADLINE: Duration = Duration::from_secs(50);
/// How long freezing and thawing may take. Usual is a millisecond, and up to 20 when it follows
/// another one: the kernel tells systemd about a cgroup at most once in 10 ms.
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);
/// How long to wait for a thaw before a stop, which systemd refuses while it is under way.
const THAW_DEADLINE: Duration = Duration::from_secs(1);
/// How long killed processes may take to be gone: a process in a system call that can not be
/// interrupted, such as of a broken disk, takes any time.
const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The sandbox has processes, so its folder stays.
    #[error("sandbox {0} has processes")]
    Running(SandboxId),
    /// The sandbox has none.
    #[error("sandbox {0} is not running")]
    NotRunning(SandboxId),
    /// It runs, but nobody can reach its shim any more.
    #[error("sandbox {0} runs, but its socket is gone")]
    Unreachable(SandboxId),
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// systemd does not say how it stands with the host.
    #[error("read the state of the host")]
    Host(#[source] zbus::Error),
    /// systemd refused a call.
    #[error("{step} {unit}")]
    Call {
        /// What was tried.
        step: &'static str,
        /// On which unit.
        unit: String,
        /// What systemd says.
        source: zbus::Error,
    },
    /// systemd did not do what it was asked.
    #[error("{step} {unit} (see journalctl -u {unit})")]
    Job {
        /// What was tried.
        step: &'static str,
        /// On which unit.
        unit: String,
        /// What became of it.
        source: JobError,
    },
    /// systemd took too long.
    #[error("{step} {unit}: not done within {}s", within.as_secs())]
    Slow {
        /// What was tried.
        step: &'static str,
        /// On which unit.
        unit: String,
        /// How long it had.
        within: Duration,
    },
}

impl RequestError {
    /// As an answer: refused when asking again would not help.
    pub fn to_answer(&self) -> Answer {
        let why = report::chain(self);
        match self {
            Self::Running(_) | Self::NotRunning(_) => Answer::Refused(why),
            _ => Answer::Failed(why),
        }
    }
}

/// All sandboxes of the host.
#[derive(Debug)]
pub struct Sandboxes {
    manager: ManagerProxy<'static>,
    jobs: Jobs,
    folders: Folders,
    sockets: Sockets,
    daemon_uid: u32,
    busy: Mutex<HashMap<SandboxId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Sandboxes {
    /// Takes over what exists.
    pub fn new(manager: ManagerProxy<'static>, jobs: Jobs, folders: Folders, sockets: Sockets, daemon_uid: u32) -> Self {
        Self { manager, jobs, folders, sockets, daemon_uid, busy: Mutex::default() }
    }

    /// Returns when systemd can not be asked any more.
    pub async fn lost(&self) {
        self.jobs.lost().await;
    }

    /// Carries out a request; gives the answers in their order, the last of which ends it.
    ///
    /// # Errors
    ///
    /// See [`RequestError`].
    pub async fn perform(self: &Arc<Self>, request: Request) -> Result<Vec<Answer>, RequestError> {
        match request {
            Request::Start(spec) => return Ok(vec![self.start(&spec).await?]),
            Request::Stop { sandbox, grace_ms } => self.stop(sandbox, Duration::from_millis(grace_ms.into())).await?,
            Request::Kill(sandbox) => self.kill(sandbox).await?,
            Request::Freeze(sandbox) => self.freeze(sandbox).await?,
            Request::Thaw(sandbox) => self.thaw(sandbox).await?,
            Request::Limit(sandbox, limits) => self.limit(sandbox, &limits).await?,
            Request::List => return self.list().await,
            Request::Remove(sandbox) => self.remove(sandbox).await?,
            Request::Quota(sandbox) => {
                let enforced = sandbox.map_or(Ok(self.folders.has_quotas()), |sandbox| self.folders.is_held(sandbox))?;
                return Ok(vec![Answer::Quota { enforced }]);
            }
            Request::Host => return Ok(vec![Answer::Host { stopping: self.host_stops().await.map_err(RequestError::Host)? }]),
        }
        Ok(vec![Answer::Done])
    }

    async fn start(&self, spec: &Spec) -> Result<Answer, RequestError> {
        let sandbox = spec.sandbox;
        let _guard = self.lock(sandbox).await;
        // The socket of a running sandbox must not be replaced. Without one nothing needs to be
        // asked, which is the usual case.
        if self.sockets.exists(sandbox) {
            if self.settled(sandbox).await? {
                // It may have been given more, for a daemon that is gone.
                self.folders.hold(sandbox, spec.limits.disk)?;
                return Ok(Answer::Started { fresh: false, running: true });
            }
            self.sockets.remove(sandbox)?;
        }
        let folder = self.folders.ensure(sandbox, spec.limits.disk)?;
        let started = self.start_unit(spec, folder.uid).await;
        if started.is_err() {
            if let Err(error) = self.forget(&unit::name(sandbox)).await {
                tracing::warn!(sandbox_id = %sandbox, error = report::chain(&error), "unit of a failed start stays, ignoring");
            }
            if let Err(error) = self.sockets.remove(sandbox) {
                tracing::warn!(sandbox_id = %sandbox, error = report::chain(&error), "socket of a failed start stays, ignoring");
            }
            // Nothing was put into it, and a folder without processes would keep its uid.
            if folder.fresh
                && let Err(error) = self.folders.remove(sandbox)
            {
                tracing::warn!(sandbox_id = %sandbox, error = report::chain(&error), "folder of a failed start stays, ignoring");
            }
        }
        started?;
        Ok(Answer::Started { fresh: folder.fresh, running: false })
    }

    async fn start_unit(&self, spec: &Spec, uid: u32) -> Result<(), RequestError> {
        const STEP: &str = "start";
        let name = unit::name(spec.sandbox);
        let listener = self.sockets.bind(spec.sandbox)?;
        let properties = unit::properties(spec, uid, self.daemon_uid, listener.into());
        let properties: Vec<_> = properties.iter().map(Property::to_dbus).collect();
        let mut watch = self.jobs.watch(&name);
        let mut queued = self.manager.start_transient_unit(&name, "fail", &properties, &[]).await;
        if let Err(error) = &queued
            && Complaint::of(error) == Some(Complaint::UnitExists)
        {
            // It runs, or it is what was left of an end.
            if self.settled(spec.sandbox).await? {
                return Err(RequestError::Unreachable(spec.sandbox));
            }
            queued = self.manager.start_transient_unit(&name, "fail", &properties, &[]).await;
        }
        let job = queued.map_err(|source| RequestError::Call { step: STEP, unit: name.clone(), source })?;
        self.finished(STEP, &name, &mut watch, &job, START_DEADLINE).await
    }

    /// Whether the unit runs; if it is ending, waits for that. If it does not run, nothing is left
    /// of it.
    async fn settled(&self, sandbox: SandboxId) -> Result<bool, RequestError> {
        match self.find(sandbox).await? {
            Some(entry) if entry.is_ending() => self.stop(sandbox, KILL_DEADLINE).await.map(|()| false),
            Some(entry) if entry.is_running() => Ok(true),
            Some(entry) => self.forget(&entry.name).await.map(|()| false),
            None => Ok(false),
        }
    }

    async fn stop(&self, sandbox: SandboxId, grace: Duration) -> Result<(), RequestError> {
        const STEP: &str = "stop";
        let name = unit::name(sandbox);
        // Frozen processes do not hear that they should end.
        self.thaw_if_frozen(&name).await;
        let mut watch = self.jobs.watch(&name);
        let Some(job) = self.queue_stop(&name).await? else { return Ok(()) };
        // The job alone would do, but while ash.service ends, as on the way down of the host, those
        // of sandboxes wait for its own. Who is asked twice ends once.
        if let Err(error) = self.send_signal(&name, "main", nix::libc::SIGTERM).await {
            tracing::debug!(sandbox_id = %sandbox, error = report::chain(&error), "not asked twice to end");
        }
        match timeout(grace, watch.finished(&job)).await {
            Ok(Ok(())) => (),
            Ok(Err(source)) => return Err(RequestError::Job { step: STEP, unit: name, source }),
            Err(_) => {
                tracing::debug!(sandbox_id = %sandbox, "did not end by itself, killing");
                self.send_kill(&name).await?;
                self.finished(STEP, &name, &mut watch, &job, KILL_DEADLINE).await?;
            }
        }
        self.forget(&name).await
    }

    async fn kill(&self, sandbox: SandboxId) -> Result<(), RequestError> {
        let name = unit::name(sandbox);
        // Frozen processes can be killed, but systemd 257 would not take them off its books then.
        self.thaw_if_frozen(&name).await;
        self.send_kill(&name).await?;
        let mut watch = self.jobs.watch(&name);
        let Some(job) = self.queue_stop(&name).await? else { return Ok(()) };
        self.finished("kill", &name, &mut watch, &job, KILL_DEADLINE).await?;
        self.forget(&name).await
    }

    async fn freeze(&self, sandbox: SandboxId) -> Result<(), RequestError> {
        let name = unit::name(sandbox);
        match timeout(FREEZE_DEADLINE, self.manager.freeze_unit(&name)).await {
            Ok(frozen) => frozen.map_err(|source| not_running("freeze", sandbox, name, source)),
            Err(_) => {
                // Nothing may stay half frozen.
                self.thaw_if_frozen(&name).await;
                Err(RequestError::Slow { step: "freeze", unit: name, within: FREEZE_DEADLINE })
            }
        }
    }

    async fn thaw(&self, sandbox: SandboxId) -> Result<(), RequestError> {
        let name = unit::name(sandbox);
        match timeout(FREEZE_DEADLINE, self.thaw_unit(&name)).await {
            Ok(thawed) => thawed.map_err(|source| not_running("thaw", sandbox, name, source)),
            Err(_) => Err(RequestError::Slow { step: "thaw", unit: name, within: FREEZE_DEADLINE }),
        }
    }

    /// Thaws a unit, also one whose stop is queued: systemd refuses that for any job (252, 257), and
    /// from the beginning of its way down the host has one queued for every unit.
    async fn thaw_unit(&self, name: &str) -> zbus::Result<()> {
        let thawed = self.manager.thaw_unit(name).await;
        if !thawed.as_ref().is_err_and(|error| Complaint::of(error) == Some(Complaint::UnitBusy)) || !self.host_stops().await? {
            return thawed;
        }
        let listed = self.manager.list_units_by_patterns(&[], &[name]).await?;
        if let Some(job) = listed.into_iter().find_map(|unit| UnitEntry::from(unit).job) {
            self.manager.cancel_job(job).await?;
        }
        let thawed = self.manager.thaw_unit(name).await;
        // If it is not ended otherwise, the host still ends it.
        self.manager.stop_unit(name, "replace").await?;
        thawed
    }

    async fn host_stops(&self) -> zbus::Result<bool> {
        Ok(self.manager.system_state().await? == "stopping")
    }

    async fn limit(&self, sandbox: SandboxId, limits: &Limits) -> Result<(), RequestError> {
        // systemd would keep the properties of a unit that is not loaded for its next start.
        if !self.find(sandbox).await?.is_some_and(|entry| entry.is_running()) {
            return Err(RequestError::NotRunning(sandbox));
        }
        self.folders.hold(sandbox, limits.disk)?;
        let name = unit::name(sandbox);
        let properties = unit::limit_properties(limits);
        let properties: Vec<_> = properties.iter().map(Property::to_dbus).collect();
        let set = self.manager.set_unit_properties(&name, true, &properties).await;
        set.map_err(|source| not_running("set limits of", sandbox, name, source))
    }

    async fn list(&self) -> Result<Vec<Answer>, RequestError> {
        // A socket without a folder is a left-over, which is to be removed as a folder would be.
        let known = self.folders.list()?.into_iter().chain(self.sockets.list()?);
        let mut all: BTreeMap<_, _> = known.map(|sandbox| (sandbox, (false, None))).collect();
        for entry in self.units(unit::PATTERN).await? {
            if let Some(sandbox) = unit::sandbox(&entry.name) {
                // What is being ended is over for whoever asks, and a new start would make systemd
                // forget how it came to it, which is known by now.
                let is_over = entry.has_failed() || entry.is_ending();
                let ended = if is_over { self.ended(&entry).await? } else { None };
                all.insert(sandbox, (entry.is_running() && !is_over, ended));
            }
        }
        let items = all.into_iter().map(|(sandbox, (running, ended))| Answer::Item { sandbox, running, ended });
        Ok(items.chain([Answer::Done]).collect())
    }

    async fn remove(self: &Arc<Self>, sandbox: SandboxId) -> Result<(), RequestError> {
        let _guard = self.lock(sandbox).await;
        if let Some(entry) = self.find(sandbox).await? {
            if entry.is_running() {
                return Err(RequestError::Running(sandbox));
            }
            self.forget(&entry.name).await?;
        }
        self.sockets.remove(sandbox)?;
        let this = Arc::clone(self);
        let removal = tokio::task::spawn_blocking(move || this.folders.remove(sandbox));
        // It fails to join only if it panicked, or when the whole process ends.
        Ok(removal.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?)
    }

    /// The unit of a sandbox, if systemd has it.
    async fn find(&self, sandbox: SandboxId) -> Result<Option<UnitEntry>, RequestError> {
        Ok(self.units(&unit::name(sandbox)).await?.pop())
    }

    async fn units(&self, pattern: &str) -> Result<Vec<UnitEntry>, RequestError> {
        let listed = self.manager.list_units_by_patterns(&[], &[pattern]).await;
        let listed = listed.map_err(|source| RequestError::Call { step: "list", unit: pattern.to_owned(), source })?;
        Ok(listed.into_iter().map(UnitEntry::from).collect())
    }

    /// How a unit that failed came to it. `None` when it was forgotten meanwhile.
    async fn ended(&self, entry: &UnitEntry) -> Result<Option<Ended>, RequestError> {
        let read = async {
            let bus = self.manager.inner().connection();
            let service = ServiceProxy::builder(bus).path(&entry.path).cache_properties(CacheProperties::No).build().await?;
            Ok(end::read(&service.result().await?, service.exec_main_code().await?, service.exec_main_status().await?))
        };
        match read.await {
            Ok(ended) => Ok(ended),
            Err(error) if Complaint::of(&error) == Some(Complaint::NoSuchUnit) => Ok(None),
            Err(source) => Err(RequestError::Call { step: "read the end of", unit: entry.name.clone(), source }),
        }
    }

    /// Makes systemd forget a unit that ended badly. None is no error.
    async fn forget(&self, name: &str) -> Result<(), RequestError> {
        match self.manager.reset_failed_unit(name).await {
            Ok(()) => Ok(()),
            Err(error) if Complaint::of(&error) == Some(Complaint::NoSuchUnit) => Ok(()),
            Err(source) => Err(RequestError::Call { step: "reset", unit: name.to_owned(), source }),
        }
    }

    /// Queues a stop; `None` when there is no unit to stop.
    async fn queue_stop(&self, name: &str) -> Result<Option<OwnedObjectPath>, RequestError> {
        match self.manager.stop_unit(name, "replace").await {
            Ok(job) => Ok(Some(job)),
            Err(error) if Complaint::of(&error) == Some(Complaint::NoSuchUnit) => Ok(None),
            Err(source) => Err(RequestError::Call { step: "stop", unit: name.to_owned(), source }),
        }
    }

    async fn send_kill(&self, name: &str) -> Result<(), RequestError> {
        self.send_signal(name, "all", nix::libc::SIGKILL).await
    }

    /// Sends a signal to processes of a unit; none is no error.
    async fn send_signal(&self, name: &str, whom: &str, signal: i32) -> Result<(), RequestError> {
        match self.manager.kill_unit(name, whom, signal).await {
            Ok(()) => Ok(()),
            Err(error) if matches!(Complaint::of(&error), Some(Complaint::NoSuchUnit | Complaint::NoSuchProcess)) => Ok(()),
            Err(source) => Err(RequestError::Call { step: "send a signal to", unit: name.to_owned(), source }),
        }
    }

    /// Thaws without caring whether there was anything to thaw: what matters is the stop after it.
    async fn thaw_if_frozen(&self, name: &str) {
        match timeout(THAW_DEADLINE, self.thaw_unit(name)).await {
            Ok(Ok(())) => (),
            Ok(Err(error)) => tracing::debug!(unit = name, error = report::chain(&error), "not thawed before its end"),
            Err(_) => tracing::debug!(unit = name, "not thawed in time before its end"),
        }
    }

    async fn finished(
        &self,
        step: &'static str,
        name: &str,
        watch: &mut Watch,
        job: &OwnedObjectPath,
        within: Duration,
    ) -> Result<(), RequestError> {
        match timeout(within, watch.finished(job)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(RequestError::Job { step, unit: name.to_owned(), source }),
            Err(_) => Err(RequestError::Slow { step, unit: name.to_owned(), within }),
        }
    }

    /// Excludes other requests that change folder or socket of this sandbox.
    async fn lock(&self, sandbox: SandboxId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            // Locks that nobody holds or waits for are dropped on the way.
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(busy.entry(sandbox).or_default())
        };
        lock.lock_owned().await
    }
}

/// A failed call, told apart when the reason is that there is nothing to act on.
fn not_running(step: &'static str, sandbox: SandboxId, unit: String, source: zbus::Error) -> RequestError {
    match Complaint::of(&source) {
        Some(Complaint::NoSuchUnit | Complaint::UnitInactive) => RequestError::NotRunning(sandbox),
        _ => RequestError::Call { step, unit, source },
    }
}
