//! Checked values, with the defaults of what no file says.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::files::Files;
use super::merge::Layers;
use super::model::Auth;
use super::prices::Prices;
use super::rate::Rate;
use super::schedules::Schedules;
use super::telemetry::Telemetry;
use super::webhooks::Webhooks;
use super::{ConfigError, Sources, pick};
use crate::wire::egress::{List, Range};
use crate::wire::limits::Limits;
use crate::wire::permission::Behavior;
use crate::wire::quantity::{ByteCount, Percent, TimeSpan, bounds};
use crate::wire::weakness::Weakness;

/// What the daemon goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The listener for programs.
    pub http: Http,
    /// Where model calls go.
    pub model: Model,
    /// What model calls cost.
    pub prices: Prices,
    /// The programs that are agents.
    pub runtime: Runtime,
    /// Where sessions and agents are recorded.
    pub store: StoreUrl,
    /// Snapshots of sessions.
    pub snapshots: Snapshots,
    /// Messages that wait for a session.
    pub queue: Queue,
    /// `[files]`
    pub files: Files,
    /// Runs of evals.
    pub evals: Evals,
    /// What is removed by itself.
    pub retention: Retention,
    /// What becomes of sessions that nobody talks to.
    pub sessions: Sessions,
    /// Limits of sessions that ask for nothing else.
    pub limits: Limits,
    /// The most that agents and sessions can ask for. Default: what [`Self::limits`] says.
    pub max_limits: Limits,
    /// What may be deployed.
    pub agents: Agents,
    /// What of the network sandboxes may reach beside the model.
    pub egress: Egress,
    /// How sandboxes are made.
    pub sandbox: Sandbox,
    /// Requests for permission.
    pub permissions: Permissions,
    /// What is kept of sessions' logs.
    pub log: Log,
    /// Whose names are in metrics.
    pub metrics: Metrics,
    /// Where traces are sent.
    pub telemetry: Telemetry,
    /// Who can be told of events.
    pub webhooks: Webhooks,
    /// Messages that are queued at the times of a calendar.
    pub schedules: Schedules,
    /// Where each value came from that is not a default, by key. For `prices`: the strongest file
    /// that has any.
    pub origins: Vec<Origin>,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Addresses of the listener for programs; none for an empty list.
    /// Default: `127.0.0.1:4100` alone.
    pub listen: Vec<SocketAddr>,
    /// Addresses of the same listener that speak TLS. Default: none.
    pub tls_listen: Vec<SocketAddr>,
    /// The certificate, and what is between it and a root, in PEM. Default `None`: the credential
    /// `tls_cert`, as [`super::credential::tls_file`] finds it.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, in PEM. Default `None`: the credential `tls_key`.
    pub tls_key: Option<PathBuf>,
    /// Web pages that may call the API from a browser. Default: those of any origin.
    pub cors_origins: CorsOrigins,
    /// Whether `/docs` shows the API, to everybody who reaches a listener. Default: yes.
    pub docs: bool,
    /// How long a client may read nothing of what there is for it before its connection is closed,
    /// also on the control socket. Default: 5m.
    pub write_timeout: TimeSpan,
    /// Largest bundle that is put into a workspace, as it is sent. Default: 2 GiB.
    pub upload_bytes: ByteCount,
    /// Where others reach the listener, without a slash at the end, for links to it. Default `None`: as whoever
    /// asks for a link has called it.
    pub public_url: Option<String>,
    /// Largest attachment of a session, and largest file of a tenant. Default: 10 MiB.
    pub attachment_bytes: ByteCount,
    /// How often an API key may ask; `None`: as often as it likes. Default: 6000/min.
    pub rate_limit: Option<Rate>,
    /// How much of that at once. Default: 1000.
    pub rate_burst: u32,
    /// How often of that it may make a session or deploy an agent. Default: 600/min.
    pub create_limit: Option<Rate>,
    /// How much of that at once. Default: 200.
    pub create_burst: u32,
    /// How often requests of one address may fail to authenticate before they are told to wait.
    /// Default: 60/min.
    pub failure_limit: Option<Rate>,
    /// How long a client may take for the head of its first request. Default: 30s.
    pub head_timeout: TimeSpan,
    /// How long after an answer until the head of the next request is there. Default: 75s.
    pub idle_timeout: TimeSpan,
    /// Connections that each listener serves at a time; more wait. Default: 16384.
    pub connections: u32,
}

/// `[http] cors_origins`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Pages of any origin, without the browser's credentials. A page needs an API key all the same.
    Any,
    /// Pages of these origins, each as a browser writes it: scheme, host, and port if it is not the
    /// scheme's. None for an empty list.
    These(Vec<String>),
}

/// `[model]`
#[derive(Clone, PartialEq, Eq)]
pub struct Model {
    /// Address of the model API, `http://…` or `https://…`, without a slash at the end and without
    /// `/v1`. Default: `https://api.anthropic.com`.
    pub base_url: String,
    /// How a call says whose it is. Default: as at Anthropic, with the header `x-api-key`.
    pub auth: Auth,
    /// Headers that every call has, in lower case, over those of the caller. Default: none.
    pub headers: BTreeMap<String, String>,
    /// Path of the call that costs something, below the address. Default: `/v1/messages`.
    pub messages_path: String,
    /// Path of the call that counts tokens; empty where there is none. Default: `/v1/messages/count_tokens`.
    pub count_tokens_path: String,
    /// How long a call is tried again while the model API fails in a way that passes; 0 does not.
    /// Default: 5m.
    pub retry_for: TimeSpan,
}

/// `[runtime]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// `[runtime.claude] path`: the `claude` program. Default `None`: it is looked for in
    /// [`super::runtime::usual_places`].
    pub claude: Option<PathBuf>,
}

/// `[store] url`
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A database file. Default: `/var/lib/ash/ash.db`.
    Sqlite(PathBuf),
    /// A `postgres://` address, which may hold a password and so is not printed.
    Postgres(String),
}

/// `[snapshots]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshots {
    /// Where they are kept: `file:///…`, `s3://…` or `gs://…`.
    /// Default: `file:///var/lib/ash/snapshots`.
    pub url: String,
    /// How many of each session. Default: 3.
    pub keep: u32,
    /// When they are taken of sessions whose agent does not say. Default: idle.
    pub policy: SnapshotPolicy,
}

/// When snapshots are taken that nobody asks for. Whatever it says, there is one before the
/// processes of a session are ended on purpose, as when it is paused, stopped or parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotPolicy {
    /// After every turn.
    EveryTurn,
    /// When the session is frozen for being idle.
    Idle,
    /// At no other time.
    PauseOnly,
}

/// `[queue]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Items that are processed at the same time, of all tenants together. Default: 2.
    pub workers: u32,
    /// Items that may wait of one tenant. Default: 1000.
    pub pending: u32,
}

/// `[evals]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evals {
    /// Cases that are asked at the same time, of all tenants together. Default: 2.
    pub workers: u32,
    /// Runs of one tenant that may be open. Default: 100.
    pub runs: u32,
}

/// `[retention]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long a session is kept after its end, with its log and its snapshots; `None`: for ever,
    /// which is the default.
    pub ended_after: Option<TimeSpan>,
    /// Bytes that all snapshots may have together, beyond which those go that are needed least.
    /// Default `None`: as many as the disk.
    pub snapshot_bytes: Option<ByteCount>,
    /// How many of the newest versions of each agent are kept, beside those that a session is of.
    /// Default: 5.
    pub agent_versions: u32,
    /// How long entries of the audit log are kept; `None`: for ever. Default: 90d.
    pub audit_after: Option<TimeSpan>,
}

/// `[sessions]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    /// How long an idle sandbox keeps running before it is frozen; 0 freezes it at once.
    /// Default: 10s.
    pub freeze_after: TimeSpan,
    /// How long a sandbox is idle before the session is parked: its processes end, and its
    /// snapshot stays. 0 parks it at once. Default: 30m.
    pub park_after: TimeSpan,
    /// How long turns that run may take to end by themselves when the host goes down, before they
    /// are interrupted. Default: 20s.
    pub shutdown_grace: TimeSpan,
    /// How often what is on the host is compared with what the database knows. Default: 5m.
    pub sweep_every: TimeSpan,
}

/// `[agents]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agents {
    /// Folders below which a folder of this host may be deployed by its path. Default: none.
    pub path_roots: Vec<PathBuf>,
    /// Whether callers over TCP may deploy by path too. Default: no.
    pub remote_paths: bool,
    /// Bytes of all files of a version together. Default: 256M.
    pub max_bytes: ByteCount,
    /// Files, folders and links of a version together. Default: 20000.
    pub max_files: u32,
}

/// `[egress]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// What the lists of agents and sessions can allow at most. Default: everything that is public.
    pub allow: List,
    /// Ranges that may be reached although they are not public. Default: none.
    pub allow_private: Vec<Range>,
    /// Connections of one sandbox at the same time; more wait. Default: 128.
    pub connections: u32,
    /// How long a connection may be without a byte. Default: 5m.
    pub idle: TimeSpan,
    /// Bytes in a second of one sandbox, both directions together. Default: 64M.
    pub rate: ByteCount,
    /// Bytes in the life of one sandbox, likewise. Default: 100G.
    pub total: ByteCount,
}

/// `[sandbox]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Size of `/tmp`, which is in memory and counts against `limits.memory` as far as it is
    /// filled. Default: 512M.
    pub tmp: ByteCount,
    /// Where `ash-launcher` listens. Default: `/run/ash/launcher.sock`.
    pub launcher: PathBuf,
    /// What of the walls of sandboxes this host may lack. Default: nothing.
    pub accept: Vec<Weakness>,
    /// Whether debuggers work inside, with which a tool can change what the runtime says. Default:
    /// no.
    pub ptrace: bool,
    /// How much a sandbox has to be confined before it is made. Default: accepted.
    pub require: Require,
}

/// `[sandbox] require`
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Require {
    /// All walls but those that the operator accepts to lack.
    Accepted,
    /// Every wall of which `GET /api/sessions/{id}/security` tells.
    Strict,
}

/// `[permissions]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    /// How long a request for permission waits for an answer. Default: 10m.
    pub timeout: TimeSpan,
    /// The answer when none came. A question to the user is then always refused. Default: deny.
    pub on_timeout: Behavior,
}

/// `[log]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// How long the deltas of a turn are kept after its end; its whole messages stay. Default: 1h.
    pub keep_deltas: TimeSpan,
}

/// `[metrics]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// Agents that are told apart, of all tenants together; from 0 to 1000. Default: 50.
    pub agents: u32,
    /// Tenants that are told apart; from 0 to 1000. Default: 50.
    pub tenants: u32,
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The key with its tables, such as `http.listen`.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the headers say may be a secret.
        let headers: Vec<_> = self.headers.keys().collect();
        let mut shown = f.debug_struct("Model");
        shown.field("base_url", &self.base_url).field("auth", &self.auth).field("headers", &headers);
        shown.field("messages_path", &self.messages_path).field("count_tokens_path", &self.count_tokens_path);
        shown.field("retry_for", &self.retry_for).finish()
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}

/// What a session has of a host whose administrator says nothing. Swap is none, and what is not there is
/// not limited.
const DEFAULT_LIMITS: Limits = Limits {
    memory: Some(ByteCount(1 << 30)),
    memory_high: None,
    swap: Some(ByteCount(0)),
    cpu: Some(Percent(200)),
    tasks: Some(256),
    disk: Some(ByteCount(5 << 30)),
    io_weight: Some(100),
    io_read: None,
    io_write: None,
    open_files: Some(*bounds::OPEN_FILES.end()),
    file_size: None,
    output_rate: None,
    lifetime: None,
    idle: None,
    turn: None,
    tokens: None,
    cost: None,
};

impl Settings {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    ///
    /// The first fault found, by file, line and key.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        pick::settings(&Layers::read(sources)?)
    }

    /// Where the value of a key came from; `None` if it is the default.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.iter().find(|origin| origin.key == key)
    }
}

impl Default for Settings {
    /// What counts where no file says anything.
    fn default() -> Self {
        Self {
            http: Http {
                listen: vec![SocketAddr::from(([127, 0, 0, 1], 4100))],
                tls_listen: Vec::new(),
                tls_cert: None,
                tls_key: None,
                cors_origins: CorsOrigins::Any,
                docs: true,
                write_timeout: TimeSpan(300),
                upload_bytes: ByteCount(2 << 30),
                public_url: None,
                attachment_bytes: ByteCount(10 << 20),
                rate_limit: Some(Rate { times: 6000, seconds: 60 }),
                rate_burst: 1000,
                create_limit: Some(Rate { times: 600, seconds: 60 }),
                create_burst: 200,
                failure_limit: Some(Rate { times: 60, seconds: 60 }),
                head_timeout: TimeSpan(30),
                idle_timeout: TimeSpan(75),
                connections: 16_384,
            },
            model: Model {
                base_url: "https://api.anthropic.com".to_owned(),
                auth: Auth::XApiKey,
                headers: BTreeMap::new(),
                messages_path: "/v1/messages".to_owned(),
                count_tokens_path: "/v1/messages/count_tokens".to_owned(),
                retry_for: TimeSpan(300),
            },
            prices: Prices::default(),
            runtime: Runtime { claude: None },
            store: StoreUrl::Sqlite("/var/lib/ash/ash.db".into()),
            snapshots: Snapshots { url: "file:///var/lib/ash/snapshots".to_owned(), keep: 3, policy: SnapshotPolicy::Idle },
            queue: Queue { workers: 2, pending: 1000 },
            files: Files::default(),
            evals: Evals { workers: 2, runs: 100 },
            retention: Retention {
                ended_after: None,
                snapshot_bytes: None,
                agent_versions: 5,
                audit_after: Some(TimeSpan(90 * 86_400)),
            },
            sessions: Sessions {
                freeze_after: TimeSpan(10),
                park_after: TimeSpan(1800),
                shutdown_grace: TimeSpan(20),
                sweep_every: TimeSpan(300),
            },
            limits: DEFAULT_LIMITS,
            max_limits: DEFAULT_LIMITS,
            agents: Agents { path_roots: Vec::new(), remote_paths: false, max_bytes: ByteCount(256 << 20), max_files: 20_000 },
            egress: Egress {
                allow: List::everything(),
                allow_private: Vec::new(),
                connections: 128,
                idle: TimeSpan(300),
                rate: ByteCount(64 << 20),
                total: ByteCount(100 << 30),
            },
            sandbox: Sandbox {
                tmp: ByteCount(512 << 20),
                launcher: "/run/ash/launcher.sock".into(),
                accept: Vec::new(),
                ptrace: false,
                require: Require::Accepted,
            },
            permissions: Permissions { timeout: TimeSpan(600), on_timeout: Behavior::Deny },
            log: Log { keep_deltas: TimeSpan(3600) },
            metrics: Metrics { agents: 50, tenants: 50 },
            telemetry: Telemetry::default(),
            webhooks: Webhooks::default(),
            schedules: Schedules::default(),
            origins: Vec::new(),
        }
    }
}
