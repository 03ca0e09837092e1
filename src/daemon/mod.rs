//! `ashd`, assembled: settings, lock, database, launcher, recovery, listeners, ready.
//!
//! The order is that of [`run`]: configuration is read before anything is opened, sandboxes that
//! outlived the last daemon are taken up before anybody can ask for them, and systemd hears
//! `READY=1` only when every listener takes connections.

mod keep;
mod listen;
mod lock;
mod notify;
mod owner;
mod stall;
mod tls;
mod traces;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::Versions;
use crate::agent::service::{Agents, PathRules};
use crate::auth::key::Keys;
use crate::config::model::Auth;
use crate::config::settings::StoreUrl;
use crate::config::{ConfigError, Settings, Sources, credential};
use crate::credential::{CredentialError, Credentials};
use crate::crypt::master::{MasterError, MasterKeys};
use crate::doctor::{Doctor, Secrets};
use crate::eval::{EvalRules, Evals};
use crate::fault::{self, Point};
use crate::gc::Gc;
use crate::gc::plan::Rules;
use crate::http::{About, App, cors, rate, router};
use crate::link::shim::{Ask, EgressLimits, Gateway, KeyAs};
use crate::project_file::ProjectFiles;
use crate::queue::{Queue, QueueRules};
use crate::sandbox::Launcher;
use crate::sandbox::direct::{Direct, DirectSettings};
use crate::sandbox::measured::Measured;
use crate::sandbox::remote::Remote;
use crate::sandbox::walls::{BWRAP, WallSettings, Walls};
use crate::schedule::Schedules;
use crate::session::attachments::Files;
use crate::session::{EgressRules, LimitRules, Owners, RecoverError, SessionSettings, Sessions, SnapshotRules, Times};
use crate::snapshot::{SnapshotError, Snapshots};
use crate::store::project_file::FileLimits;
use crate::store::sqlite::Sqlite;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::names::Names;
use crate::telemetry::trace::setup::BadHeaders;
use crate::telemetry::trace::{TraceError, Tracer};
use crate::webhook::Webhooks;
use tls::Tls;

/// How long requests under way may take to end after a stop was asked for. Streams end at once:
/// their clients go on from their cursor.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// How long the launcher may take to say whether the host goes down. It asks systemd one question.
const HOST_DEADLINE: Duration = Duration::from_secs(3);
/// How long putting sessions away may take when the host goes down, after what turns got to end by
/// themselves. Both, and the drain deadlines, fit into `TimeoutStopSec=` of the unit.
const PUT_AWAY_DEADLINE: Duration = Duration::from_secs(45);

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the configuration is.
    pub sources: Sources,
    /// The state folder; `/var/lib/ash` unless said otherwise.
    pub data: PathBuf,
    /// The control socket, if the service manager passes none.
    pub control: PathBuf,
    /// Run sandboxes as child processes, without systemd and its limits.
    pub direct: Option<DirectOptions>,
}

/// What the `direct` launcher needs.
#[derive(Debug, Clone)]
pub struct DirectOptions {
    /// The shim.
    pub shim: PathBuf,
    /// The init that shims put into sandboxes.
    pub init: PathBuf,
    /// Folder of the files that become `/etc` inside.
    pub etc: PathBuf,
    /// Bubblewrap.
    pub bwrap: PathBuf,
}

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is wrong.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// A configured value needs what this build or host does not have.
    #[error("configuration: {key}: {reason}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// Why not.
        reason: String,
    },
    /// A secret of the operator's can not be used.
    #[error("credentials")]
    Credential(#[from] credential::CredentialError),
    /// The master key is there, but can not be used.
    #[error(transparent)]
    Master(#[from] MasterError),
    /// The listener can not speak TLS.
    #[error("TLS of the listener (http.tls_listen)")]
    Tls(#[from] tls::TlsError),
    /// What a collector of traces wants to see can not be used.
    #[error("{} {source}", path.display())]
    TraceHeaders {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: BadHeaders,
    },
    /// No traces can be sent.
    #[error("traces")]
    Trace(#[from] TraceError),
    /// Another daemon uses the state folder.
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    /// The database can not be opened.
    #[error("database")]
    Store(#[from] StoreError),
    /// Snapshots can not be reached.
    #[error("snapshots")]
    Snapshots(#[from] SnapshotError),
    /// Agents' files can not be reached.
    #[error("agents in {}", path.display())]
    Agents {
        /// The state folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What runs can not be compared with what should.
    #[error("take up sandboxes")]
    Recover(#[from] RecoverError),
    /// A listener can not be opened.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// The operating system failed.
    #[error("{what}")]
    Os {
        /// At what.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl DaemonError {
    /// Whether only a change of the configuration helps, so that no restart should be tried.
    pub const fn is_config(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Unsupported { .. }
                | Self::Credential(_)
                | Self::TraceHeaders { .. }
                | Self::Master(_)
                | Self::Tls(_)
        )
    }
}

/// Runs the daemon until it is told to stop.
pub async fn run(options: Options) -> Result<(), DaemonError> {
    let settings = Settings::load(&options.sources)?;
    let root = match &options.sources {
        Sources::Root(root) => root.clone(),
        Sources::File(_) => PathBuf::from("/"),
    };
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let model_key = credential::model_key(credentials.as_deref(), &root)?;
    let traces = traces::find(&settings, credentials.as_deref(), &root, coordinator_id())?;
    let master = credential::master_keys(credentials.as_deref(), &root)?;
    let master = master.map_or(Ok(None), |(path, keys)| MasterKeys::parse(&path, &keys))?;

    let lock = lock::acquire(&options.data)?;
    let metrics = Metrics::new(Names::new(settings.metrics.agents, settings.metrics.tenants));
    let tls = open_tls(&settings, credentials.as_deref(), &root, &metrics)?;
    let tracer = traces.map_or(Ok(Tracer::default()), |rules| Tracer::open(rules, &metrics))?;
    let store = open_store(&settings, &options.data, &metrics)?;
    let versions = Arc::new(open_versions(&settings, &options.data)?);
    let credentials = Credentials::new(store.clone(), master.clone());
    let launcher: Arc<dyn Launcher> = Arc::new(Measured::new(open_launcher(&settings, &options), metrics.clone()));
    for lack in launcher.lacks() {
        tracing::warn!(lack, "sandboxes are weaker than they should be");
    }
    let walls = Arc::new(Walls::new(wall_settings(&settings, &options)));
    match walls.examine().await {
        Ok(weaknesses) => {
            for weakness in weaknesses {
                tracing::warn!(%weakness, "sandboxes are made without a wall, as the configuration accepts");
            }
        }
        // What was done before can be read all the same, and the host may heal.
        Err(error) => tracing::error!("no sandbox can be made: {error}"),
    }
    let session_settings = SessionSettings {
        metrics,
        tracer: tracer.clone(),
        credentials: credentials.clone(),
        runtime: settings.runtime.claude.clone(),
        limits: LimitRules { default: settings.limits, max: settings.max_limits },
        tmp_bytes: settings.sandbox.tmp.0,
        walls: walls.clone(),
        require: settings.sandbox.require,
        gateway: Gateway {
            base_url: settings.model.base_url.clone(),
            api_key: model_key.as_ref().map(|key| key.reveal().to_owned()),
            auth: match settings.model.auth {
                Auth::XApiKey => KeyAs::XApiKey,
                Auth::Bearer => KeyAs::Bearer,
            },
            headers: settings.model.headers.clone(),
            messages_path: Some(settings.model.messages_path.clone()),
            count_tokens_path: Some(settings.model.count_tokens_path.clone()),
            retry_ms: settings.model.retry_for.0 * 1000,
            refusal: None,
            bindings: Vec::new(),
        },
        prices: settings.prices.clone(),
        times: Times {
            freeze_after: Duration::from_secs(settings.sessions.freeze_after.0),
            park_after: Duration::from_secs(settings.sessions.park_after.0),
        },
        uploads: options.data.join("uploads"),
        upload_bytes: settings.http.upload_bytes,
        attachments: Files::new(&options.data),
        attachment_bytes: settings.http.attachment_bytes,
        snapshots: SnapshotRules { policy: settings.snapshots.policy, keep: settings.snapshots.keep as usize },
        egress: egress(&settings),
        ask: Ask { timeout_ms: Some(settings.permissions.timeout.0 * 1000), on_timeout: settings.permissions.on_timeout },
    };
    let snapshots_url = in_data_url(&settings.snapshots.url, &options.data);
    let snapshots = Snapshots::open(&snapshots_url).await?;
    let snapshots_folder = snapshots_url.strip_prefix("file://").map(PathBuf::from);
    let secrets = Secrets { model_key: model_key.is_some(), master_key: master.is_some() };
    let doctor = Doctor::new(&settings, &options.data, secrets, launcher.clone(), walls);
    let lacks = launcher.lacks();
    let layers = Snapshots::open(&format!("file://{}", options.data.join("layers").display())).await?;
    let sessions = Sessions::new(store.clone(), launcher.clone(), versions.clone(), snapshots.clone(), layers, session_settings);
    claim(&sessions, &options.data, snapshots_folder.as_deref()).await?;
    let recovered = sessions.recover().await?;
    tracing::info!(
        attached = recovered.attached,
        interrupted = recovered.interrupted,
        ended = recovered.ended,
        orphans = recovered.orphans,
        unfinished = recovered.unfinished,
        "sandboxes compared with sessions"
    );

    let rules =
        PathRules { roots: settings.agents.path_roots.clone(), remote: settings.agents.remote_paths, base: options.data.clone() };
    let file_limits = FileLimits { count: settings.files.max, bytes: settings.files.max_bytes.0 };
    let files = ProjectFiles::new(store.clone(), &options.data, file_limits);
    let gc = Gc::new(store.clone(), snapshots, versions.clone(), sessions.clone(), files.clone(), retention(&settings));
    let gc = Arc::new(gc);
    let queue_rules = QueueRules { workers: settings.queue.workers as usize, pending: settings.queue.pending };
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let queue = Arc::new(Queue::new(store.clone(), sessions.clone(), queue_rules, stop.clone()));
    let schedules = Schedules::new(store.clone(), queue.clone(), settings.schedules.clone());
    let webhooks = Webhooks::new(store.clone(), master, settings.webhooks.clone(), sessions.metrics().clone());
    let eval_rules = EvalRules { workers: settings.evals.workers, runs: settings.evals.runs };
    let evals = Arc::new(Evals::new(store.clone(), sessions.clone(), eval_rules, stop.clone()));
    let app = App {
        sessions: sessions.clone(),
        webhooks: webhooks.clone(),
        schedules: schedules.clone(),
        agents: Agents::new(store.clone(), versions, credentials.clone(), rules),
        keys: Keys::new(store.clone()),
        credentials: credentials.clone(),
        queue: queue.clone(),
        files,
        evals: evals.clone(),
        gc: gc.clone(),
        store,
        about: Arc::new(About {
            started: std::time::SystemTime::now(),
            coordinator_id: coordinator_id(),
            data: options.data.clone(),
            lacks,
            docs: settings.http.docs,
            public_url: settings.http.public_url.clone(),
            doctor,
        }),
        limits: Arc::new(rate::Limits::new(rate_rules(&settings))),
        stop: stop.clone(),
    };
    // Before anybody can know that it is there: until then a signal ends it at once.
    let signals = Signals::new()?;
    let listeners =
        listen::open(&options.control, &settings.http.listen, tls.as_ref().map(|tls| (&settings.http.tls_listen[..], tls)))?;
    let local = router(app);
    // No page has any business on the control socket.
    let remote = cors::layer(&settings.http.cors_origins).map_or_else(|| local.clone(), |cors| local.clone().layer(cors));
    for listener in listeners {
        tracing::info!(address = listener.address(), "listening");
        let router = if matches!(listener, listen::Listener::Control(..)) { &local } else { &remote };
        let service = listen::Service {
            router: router.clone(),
            bounds: bounds(&settings),
            open: sessions.metrics().connections.with_label_values(&[listener.kind()]),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(listener.serve(service));
    }
    tasks.spawn(queue.run());
    tasks.spawn(schedules.run(stop.clone()));
    tasks.spawn(evals.run());
    tasks.spawn(webhooks.run(sessions.moved(), stop.clone()));
    notify::ready(&sessions);
    let beat = tokio::spawn(notify::keep_up(sessions.clone()));
    let compacting = tokio::spawn(sessions.clone().keep_compact(Duration::from_secs(settings.log.keep_deltas.0)));
    let collecting = tokio::spawn(gc.keep_running());
    let sweeping = tokio::spawn(sessions.clone().keep_swept(Duration::from_secs(settings.sessions.sweep_every.0)));
    let watching = tokio::spawn(sessions.clone().watch_store());
    let sealing = tokio::spawn(seal_envs(credentials));
    let renewing = tls.clone().map(|tls| tokio::spawn(tls.watch(tls::WATCH_PAUSE)));
    signals
        .wait_for_stop(async || {
            read_model_key(&sessions, &root).await;
            if let Some(tls) = &tls {
                tls.reload();
            }
        })
        .await;

    notify::stopping();
    if host_stops(&*launcher).await {
        tracing::info!("the host goes down, putting sessions away");
        fault::at(Point::HostStops);
        // Whoever follows a turn sees its end, so requests are served meanwhile.
        sessions.put_away(Duration::from_secs(settings.sessions.shutdown_grace.0), PUT_AWAY_DEADLINE).await;
        fault::at(Point::HostPutAway);
    } else {
        tracing::info!("stopping; sandboxes go on");
    }
    stop.cancel();
    sweeping.abort();
    watching.abort();
    tasks.close();
    if tokio::time::timeout(DRAIN_DEADLINE, tasks.wait()).await.is_err() {
        tracing::info!("some requests were still under way");
    }
    sessions.close().await;
    tracer.close().await;
    beat.abort();
    compacting.abort();
    collecting.abort();
    sealing.abort();
    if let Some(renewing) = renewing {
        renewing.abort();
    }
    drop(lock);
    Ok(())
}

/// Seals what an older release, or a daemon without a master key, left in the clear.
async fn seal_envs(credentials: Credentials) {
    match credentials.reseal_envs().await {
        Ok(0) | Err(CredentialError::NoMaster) => {}
        Ok(count) => tracing::info!(count, "environments of agents and sessions are sealed"),
        Err(error) => tracing::warn!(
            error = crate::report::chain(&error),
            "environments of agents and sessions could not all be sealed, ignoring"
        ),
    }
}

/// Makes sure that what is on this host belongs to the database, and writes that down.
async fn claim(sessions: &Sessions, data: &Path, snapshots: Option<&Path>) -> Result<(), DaemonError> {
    let os = |source| DaemonError::Os { what: "note to which database sandboxes and snapshots belong", source };
    let of_snapshots = snapshots.map(owner::read).transpose().map_err(os)?.flatten();
    let owners = Owners { sandboxes: owner::read(data).map_err(os)?, snapshots: of_snapshots };
    let name = sessions.check_owners(&owners).await?;
    owner::write(data, &name).map_err(os)?;
    snapshots.map_or(Ok(()), |folder| owner::write(folder, &name)).map_err(os)
}

fn open_store(settings: &Settings, data: &Path, metrics: &Metrics) -> Result<Arc<dyn Store>, DaemonError> {
    match &settings.store {
        StoreUrl::Sqlite(path) => Ok(Arc::new(Sqlite::open_measured(&in_data(path, data, "ash.db"), metrics.clone())?)),
        StoreUrl::Postgres(_) => {
            Err(DaemonError::Unsupported { key: "store.url", reason: "this version keeps its state in SQLite only".to_owned() })
        }
    }
}

/// A path below the default state folder moves with `--data`.
fn in_data(path: &Path, data: &Path, name: &str) -> PathBuf {
    if path == Path::new(DEFAULT_DATA).join(name) { data.join(name) } else { path.to_owned() }
}

/// The same for a location.
fn in_data_url(url: &str, data: &Path) -> String {
    match url.strip_prefix("file://") {
        Some(path) => format!("file://{}", in_data(Path::new(path), data, "snapshots").display()),
        None => url.to_owned(),
    }
}

/// The state folder of an installed Ash.
pub const DEFAULT_DATA: &str = "/var/lib/ash";
/// The control socket of an installed Ash.
pub const DEFAULT_CONTROL: &str = "/run/ash/ash.sock";

fn open_tls(settings: &Settings, credentials: Option<&Path>, root: &Path, metrics: &Metrics) -> Result<Option<Tls>, DaemonError> {
    let http = &settings.http;
    if http.tls_listen.is_empty() {
        return Ok(None);
    }
    let file = |set: &Option<PathBuf>, name| set.clone().unwrap_or_else(|| credential::tls_file(name, credentials, root));
    let files = tls::Files { certificate: file(&http.tls_cert, "tls_cert"), key: file(&http.tls_key, "tls_key") };
    Ok(Some(Tls::open(files, metrics.tls_certificate_expiry.clone())?))
}

fn open_versions(settings: &Settings, data: &Path) -> Result<Versions, DaemonError> {
    let limits = crate::agent::ContentLimits { max_bytes: settings.agents.max_bytes, max_files: settings.agents.max_files };
    Versions::open(data, limits).map_err(|source| DaemonError::Agents { path: data.to_owned(), source: source.into() })
}

fn open_launcher(settings: &Settings, options: &Options) -> Arc<dyn Launcher> {
    match &options.direct {
        None => Arc::new(Remote::new(settings.sandbox.launcher.clone())),
        Some(direct) => Arc::new(Direct::new(DirectSettings {
            state_dir: options.data.join("sandboxes"),
            run_dir: options.data.join("run"),
            shim: direct.shim.clone(),
            init: direct.init.clone(),
            etc: direct.etc.clone(),
            bwrap: direct.bwrap.clone(),
        })),
    }
}

fn retention(settings: &Settings) -> Rules {
    let kept = settings.retention;
    Rules {
        ended_after: kept.ended_after.map(|time| Duration::from_secs(time.0)),
        snapshot_bytes: kept.snapshot_bytes.map(|size| size.0),
        agent_versions: kept.agent_versions as usize,
        audit_after: kept.audit_after.map(|time| Duration::from_secs(time.0)),
    }
}

fn rate_rules(settings: &Settings) -> rate::Rules {
    let http = &settings.http;
    rate::Rules {
        requests: http.rate_limit.map(|rate| (rate, http.rate_burst)),
        creations: http.create_limit.map(|rate| (rate, http.create_burst)),
        failures: http.failure_limit.map(|rate| (rate, rate.times)),
    }
}

fn bounds(settings: &Settings) -> listen::Bounds {
    let http = &settings.http;
    listen::Bounds {
        head: Duration::from_secs(http.head_timeout.0),
        idle: Duration::from_secs(http.idle_timeout.0),
        write: Duration::from_secs(http.write_timeout.0),
        connections: http.connections as usize,
    }
}

fn wall_settings(settings: &Settings, options: &Options) -> WallSettings {
    WallSettings {
        root: PathBuf::from("/"),
        bwrap: options.direct.as_ref().map_or_else(|| BWRAP.into(), |direct| direct.bwrap.clone()),
        accept: settings.sandbox.accept.clone(),
        ptrace: settings.sandbox.ptrace,
    }
}

fn egress(settings: &Settings) -> EgressRules {
    let egress = &settings.egress;
    EgressRules {
        bound: egress.allow.clone(),
        private: egress.allow_private.clone(),
        limits: EgressLimits {
            connections: egress.connections,
            idle_ms: egress.idle.0 * 1000,
            bytes_per_second: egress.rate.0,
            bytes: egress.total.0,
        },
    }
}

fn coordinator_id() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("{}-{}", host.as_deref().unwrap_or("localhost"), std::process::id())
}

/// Whether it is the host that goes down, and not this daemon alone. Whoever can not be asked says no.
async fn host_stops(launcher: &dyn Launcher) -> bool {
    match tokio::time::timeout(HOST_DEADLINE, launcher.host_stops()).await {
        Ok(Ok(stops)) => stops,
        Ok(Err(error)) => {
            tracing::warn!(error = crate::report::chain(&error), "whether the host goes down can not be asked, ignoring");
            false
        }
        Err(_) => {
            tracing::warn!("the launcher does not say in time whether the host goes down, ignoring");
            false
        }
    }
}

/// Reads the key of the model API again, for sandboxes that run as well.
async fn read_model_key(sessions: &Sessions, root: &Path) {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    match credential::model_key(credentials.as_deref(), root) {
        Ok(key) => {
            let has_key = key.is_some();
            let is_other = sessions.change_host_key(key.map(|key| key.reveal().to_owned())).await;
            tracing::info!(has_key, is_other, "the key of the model API was read again");
        }
        Err(error) => tracing::error!(error = crate::report::chain(&error), "the key of the model API stays as it was"),
    }
}

/// The signals that are heeded from when this is made.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, DaemonError> {
        let heed = |kind| signal(kind).map_err(|source| DaemonError::Os { what: "wait for signals", source });
        Ok(Self {
            terminate: heed(SignalKind::terminate())?,
            interrupt: heed(SignalKind::interrupt())?,
            hang_up: heed(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal to stop, and reloads at each SIGHUP.
    async fn wait_for_stop(mut self, reload: impl AsyncFn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                Some(()) = self.hang_up.recv() => reload().await,
            }
        }
    }
}
