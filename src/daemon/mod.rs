//! `ashd`, assembled: settings, lock, database, launcher, recovery, listeners, ready.
//!
//! The order is that of [`run`]: configuration is read before anything is opened, sandboxes that
//! outlived the last daemon are taken up before anybody can ask for them, and systemd hears
//! `READY=1` only when every listener takes connections.

mod listen;
mod lock;
mod notify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::Versions;
use crate::agent::service::{Agents, PathRules};
use crate::auth::key::Keys;
use crate::config::settings::StoreUrl;
use crate::config::{ConfigError, Settings, Sources, credential};
use crate::doctor::Doctor;
use crate::http::{About, App, router};
use crate::link::shim::Gateway;
use crate::sandbox::direct::{Direct, DirectSettings};
use crate::sandbox::remote::Remote;
use crate::sandbox::{Launcher, Limits};
use crate::session::{RecoverError, SessionSettings, Sessions};
use crate::store::sqlite::Sqlite;
use crate::store::{Store, StoreError};

/// How long requests under way may take to end after a stop was asked for. Streams end at once:
/// their clients go on from their cursor.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

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
    /// The key of the model API can not be used.
    #[error("model key")]
    Credential(#[from] credential::CredentialError),
    /// Another daemon uses the state folder.
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    /// The database can not be opened.
    #[error("database")]
    Store(#[from] StoreError),
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
        matches!(self, Self::Config(_) | Self::Unsupported { .. } | Self::Credential(_))
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

    let lock = lock::acquire(&options.data)?;
    let store = open_store(&settings, &options.data)?;
    let versions = Arc::new(open_versions(&settings, &options.data)?);
    let launcher = open_launcher(&settings, &options);
    for lack in launcher.lacks() {
        tracing::warn!(lack, "sandboxes are weaker than they should be");
    }
    let session_settings = SessionSettings {
        runtime: settings.runtime.claude.clone(),
        limits: limits(&settings),
        tmp_bytes: settings.sandbox.tmp.0,
        gateway: Gateway {
            base_url: settings.model.base_url.clone(),
            api_key: model_key.as_ref().map(|key| key.reveal().to_owned()),
        },
    };
    let doctor = Doctor::new(&settings, &options.data, model_key.is_some(), launcher.clone());
    let lacks = launcher.lacks();
    let sessions = Sessions::new(store.clone(), launcher, versions.clone(), session_settings);
    let recovered = sessions.recover().await?;
    tracing::info!(
        attached = recovered.attached,
        interrupted = recovered.interrupted,
        orphans = recovered.orphans,
        unfinished = recovered.unfinished,
        "sandboxes compared with sessions"
    );

    let rules =
        PathRules { roots: settings.agents.path_roots.clone(), remote: settings.agents.remote_paths, base: options.data.clone() };
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let app = App {
        sessions: sessions.clone(),
        agents: Agents::new(store.clone(), versions, rules),
        keys: Keys::new(store.clone()),
        store,
        about: Arc::new(About { started: std::time::SystemTime::now(), coordinator_id: coordinator_id(), lacks, doctor }),
        stop: stop.clone(),
    };
    let listeners = listen::open(&options.control, &settings.http.listen)?;
    for listener in listeners {
        tracing::info!(address = listener.address(), "listening");
        tasks.spawn(listener.serve(router(app.clone()), stop.clone(), tasks.clone()));
    }
    notify::ready(&sessions);
    let beat = tokio::spawn(notify::keep_up(sessions));
    wait_for_stop().await?;

    tracing::info!("stopping; sandboxes go on");
    notify::stopping();
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(DRAIN_DEADLINE, tasks.wait()).await.is_err() {
        tracing::info!("some requests were still under way");
    }
    beat.abort();
    drop(lock);
    Ok(())
}

fn open_store(settings: &Settings, data: &Path) -> Result<Arc<dyn Store>, DaemonError> {
    match &settings.store {
        StoreUrl::Sqlite(path) => Ok(Arc::new(Sqlite::open(&in_data(path, data, "ash.db"))?)),
        StoreUrl::Postgres(_) => {
            Err(DaemonError::Unsupported { key: "store.url", reason: "this version keeps its state in SQLite only".to_owned() })
        }
    }
}

/// A path below the default state folder moves with `--data`.
fn in_data(path: &Path, data: &Path, name: &str) -> PathBuf {
    if path == Path::new(DEFAULT_DATA).join(name) { data.join(name) } else { path.to_owned() }
}

/// The state folder of an installed Ash.
pub const DEFAULT_DATA: &str = "/var/lib/ash";
/// The control socket of an installed Ash.
pub const DEFAULT_CONTROL: &str = "/run/ash/ash.sock";

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
        })),
    }
}

fn limits(settings: &Settings) -> Limits {
    let limits = settings.limits;
    Limits { memory: limits.memory, cpu: limits.cpu, tasks: limits.tasks, disk: limits.disk }
}

fn coordinator_id() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("{}-{}", host.as_deref().unwrap_or("localhost"), std::process::id())
}

async fn wait_for_stop() -> Result<(), DaemonError> {
    let os = |source| DaemonError::Os { what: "wait for signals", source };
    let mut terminate = signal(SignalKind::terminate()).map_err(os)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(os)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
