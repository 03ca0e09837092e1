//! Checked values, with the defaults of what no file says.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::fragment::{Entry, Fragment, KEYS};
use super::limits::{Said, Written};
use super::merge::{Layers, fault};
use super::model::{self, Auth};
use super::prices::Prices;
use super::text::{Fault, count_in, line_of, size_in, within};
use super::{ConfigError, Sources};
use crate::wire::egress::{EntryError, List, Range, RangeError};
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
    /// Web pages that may call the API from a browser. Default: those of any origin.
    pub cors_origins: CorsOrigins,
    /// How long a client may read nothing of what there is for it before its connection is closed,
    /// also on the control socket. Default: 5m.
    pub write_timeout: TimeSpan,
    /// Largest bundle that is put into a workspace, as it is sent. Default: 2 GiB.
    pub upload_bytes: ByteCount,
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

/// Bytes of a version: at least one small file has to fit.
const UPLOAD_BYTES: RangeInclusive<u64> = (1 << 20)..=(1 << 40);
const AGENT_BYTES: RangeInclusive<u64> = (1 << 10)..=(1 << 40);
const AGENT_FILES: RangeInclusive<u32> = 1..=1_000_000;
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
/// What a host may lack.
const ACCEPTABLE: [Weakness; 3] = [Weakness::NoSeccomp, Weakness::NoCgroupNamespace, Weakness::NoUsernsLimit];
const WRITE_TIMEOUT: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(86_400);
/// Less than the ten minutes after which the runtime gives up a call that is not answered.
const RETRY_FOR: RangeInclusive<TimeSpan> = TimeSpan(0)..=TimeSpan(540);
const SWEEP: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(86_400);
/// Each connection takes some 50 KiB of the sandbox's memory.
const EGRESS_CONNECTIONS: RangeInclusive<u32> = 1..=4096;
const EGRESS_IDLE: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(86_400);
const EGRESS_RATE: RangeInclusive<u64> = (1 << 10)..=(1 << 40);
const EGRESS_TOTAL: RangeInclusive<u64> = 0..=(1 << 60);
const RANGES_MAX: usize = 100;
const PERMISSION_TIMEOUT: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(30 * 86_400);
/// At most so long that what comes after it fits into `TimeoutStopSec=` of ash.service, too.
const SHUTDOWN_GRACE: RangeInclusive<TimeSpan> = TimeSpan(0)..=TimeSpan(60);
const KEEP_SNAPSHOTS: RangeInclusive<u32> = 1..=1000;
const KEEP_VERSIONS: RangeInclusive<u32> = 1..=100_000;
const KEEP_ENDED: RangeInclusive<TimeSpan> = TimeSpan(0)..=TimeSpan(3650 * 86_400);
/// Below a megabyte not one snapshot of a used session fits.
const SNAPSHOT_BYTES: RangeInclusive<u64> = (1 << 20)..=(1 << 60);
const KEEP_DELTAS: RangeInclusive<TimeSpan> = TimeSpan(0)..=TimeSpan(3650 * 86_400);
/// Below a megabyte the runtime can not keep its own temporary files.
const TMP_BYTES: RangeInclusive<u64> = (1 << 20)..=(1 << 40);

impl Settings {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    ///
    /// The first fault found, by file, line and key.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        Picker { layers: &Layers::read(sources)?, origins: Vec::new() }.settings()
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
                cors_origins: CorsOrigins::Any,
                write_timeout: TimeSpan(300),
                upload_bytes: ByteCount(2 << 30),
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
            retention: Retention { ended_after: None, snapshot_bytes: None, agent_versions: 5 },
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
            origins: Vec::new(),
        }
    }
}

/// Takes values out of the files and notes where they stood.
struct Picker<'a> {
    layers: &'a Layers,
    origins: Vec<Origin>,
}

impl Picker<'_> {
    fn settings(mut self) -> Result<Settings, ConfigError> {
        let mut to = Settings::default();
        self.pick(
            "http.listen",
            |f| &f.http.0.listen,
            &mut to.http.listen,
            |texts| texts.0.iter().map(|t| address(t)).collect(),
        )?;
        let origins = &mut to.http.cors_origins;
        self.pick("http.cors_origins", |f| &f.http.0.cors_origins, origins, |texts| cors_origins(&texts.0))?;
        let write = &mut to.http.write_timeout;
        self.pick("http.write_timeout", |f| &f.http.0.write_timeout, write, |time| within(*time, WRITE_TIMEOUT))?;
        let uploads = &mut to.http.upload_bytes;
        self.pick("http.upload_bytes", |f| &f.http.0.upload_bytes, uploads, |size| size_in(*size, UPLOAD_BYTES))?;
        self.pick("model.base_url", |f| &f.model.0.base_url, &mut to.model.base_url, |text| model::base_url(text))?;
        self.pick("model.auth", |f| &f.model.0.auth, &mut to.model.auth, |auth| Ok(*auth))?;
        let (messages, count) = (&mut to.model.messages_path, &mut to.model.count_tokens_path);
        self.pick("model.messages_path", |f| &f.model.0.messages_path, messages, |text| model::path(text))?;
        self.pick("model.count_tokens_path", |f| &f.model.0.count_tokens_path, count, |text| model::path_or_none(text))?;
        self.pick("model.headers", |f| &f.model.0.headers, &mut to.model.headers, |table| model::headers(&table.0))?;
        let retry = &mut to.model.retry_for;
        self.pick("model.retry_for", |f| &f.model.0.retry_for, retry, |time| within(*time, RETRY_FOR))?;
        self.prices(&mut to.prices);
        self.pick(
            "runtime.claude.path",
            |f| &f.runtime.0.claude.0.path,
            &mut to.runtime.claude,
            |text| absolute(text).map(Some),
        )?;
        self.pick("store.url", |f| &f.store.0.url, &mut to.store, |text| store_url(text))?;
        self.pick("snapshots.url", |f| &f.snapshots.0.url, &mut to.snapshots.url, |text| snapshots_url(text))?;
        let (keep, policy) = (&mut to.snapshots.keep, &mut to.snapshots.policy);
        self.pick("snapshots.keep", |f| &f.snapshots.0.keep, keep, |count| count_in(*count, KEEP_SNAPSHOTS))?;
        self.pick("snapshots.policy", |f| &f.snapshots.0.policy, policy, |policy| Ok(*policy))?;
        let kept = &mut to.retention;
        self.pick("retention.ended_after", |f| &f.retention.0.ended_after, &mut kept.ended_after, |text| kept_for(text))?;
        self.pick("retention.snapshot_bytes", |f| &f.retention.0.snapshot_bytes, &mut kept.snapshot_bytes, |text| bound(text))?;
        self.pick(
            "retention.agent_versions",
            |f| &f.retention.0.agent_versions,
            &mut kept.agent_versions,
            |count| count_in(*count, KEEP_VERSIONS),
        )?;
        let (freeze, park) = (&mut to.sessions.freeze_after, &mut to.sessions.park_after);
        let sweep = &mut to.sessions.sweep_every;
        self.pick("sessions.sweep_every", |f| &f.sessions.0.sweep_every, sweep, |time| within(*time, SWEEP))?;
        self.pick("sessions.freeze_after", |f| &f.sessions.0.freeze_after, freeze, |time| within(*time, bounds::IDLE))?;
        self.pick("sessions.park_after", |f| &f.sessions.0.park_after, park, |time| within(*time, bounds::IDLE))?;
        let grace = &mut to.sessions.shutdown_grace;
        self.pick("sessions.shutdown_grace", |f| &f.sessions.0.shutdown_grace, grace, |time| within(*time, SHUTDOWN_GRACE))?;

        to.limits = self.limits("limits.", |fragment| &fragment.limits.0)?.or(to.limits);
        to.max_limits = self.limits("max_limits.", |fragment| &fragment.max_limits.0)?.or(to.limits);

        self.pick(
            "agents.path_roots",
            |f| &f.agents.0.path_roots,
            &mut to.agents.path_roots,
            |texts| texts.iter().map(|text| absolute(text)).collect(),
        )?;
        self.pick("agents.remote_paths", |f| &f.agents.0.remote_paths, &mut to.agents.remote_paths, |yes| Ok(*yes))?;
        self.pick("agents.max_bytes", |f| &f.agents.0.max_bytes, &mut to.agents.max_bytes, |size| size_in(*size, AGENT_BYTES))?;
        self.pick(
            "agents.max_files",
            |f| &f.agents.0.max_files,
            &mut to.agents.max_files,
            |count| count_in(*count, AGENT_FILES),
        )?;

        let (allow, private) = (&mut to.egress.allow, &mut to.egress.allow_private);
        self.pick("egress.allow", |f| &f.egress.0.allow, allow, |texts| egress_list(texts))?;
        self.pick("egress.allow_private", |f| &f.egress.0.allow_private, private, |texts| ranges(texts))?;
        let connections = &mut to.egress.connections;
        self.pick("egress.connections", |f| &f.egress.0.connections, connections, |count| count_in(*count, EGRESS_CONNECTIONS))?;
        self.pick("egress.idle", |f| &f.egress.0.idle, &mut to.egress.idle, |time| within(*time, EGRESS_IDLE))?;
        self.pick("egress.rate", |f| &f.egress.0.rate, &mut to.egress.rate, |size| size_in(*size, EGRESS_RATE))?;
        self.pick("egress.total", |f| &f.egress.0.total, &mut to.egress.total, |size| size_in(*size, EGRESS_TOTAL))?;
        self.pick("sandbox.tmp", |f| &f.sandbox.0.tmp, &mut to.sandbox.tmp, |size| size_in(*size, TMP_BYTES))?;
        self.pick("sandbox.launcher", |f| &f.sandbox.0.launcher, &mut to.sandbox.launcher, |text| absolute(text))?;
        let (accept, ptrace) = (&mut to.sandbox.accept, &mut to.sandbox.ptrace);
        self.pick("sandbox.accept", |f| &f.sandbox.0.accept, accept, |names| names.iter().map(|name| weakness(name)).collect())?;
        self.pick("sandbox.ptrace", |f| &f.sandbox.0.ptrace, ptrace, |yes| Ok(*yes))?;
        self.pick("sandbox.require", |f| &f.sandbox.0.require, &mut to.sandbox.require, |require| Ok(*require))?;
        self.pick(
            "permissions.timeout",
            |f| &f.permissions.0.timeout,
            &mut to.permissions.timeout,
            |time| within(*time, PERMISSION_TIMEOUT),
        )?;
        self.pick(
            "permissions.on_timeout",
            |f| &f.permissions.0.on_timeout,
            &mut to.permissions.on_timeout,
            |answer| Ok(*answer),
        )?;
        self.pick("log.keep_deltas", |f| &f.log.0.keep_deltas, &mut to.log.keep_deltas, |time| within(*time, KEEP_DELTAS))?;
        to.origins = self.origins;
        Ok(to)
    }

    /// Overrides single prices, where the strongest file that has one counts.
    fn prices(&mut self, to: &mut Prices) {
        for table in self.layers.0.iter().rev().filter_map(|layer| layer.fragment.prices.as_ref()) {
            to.override_by(table.get_ref());
        }
        if let Some(found) = self.layers.find(|f| &f.prices) {
            self.origins.push(Origin { key: "prices", path: found.path.to_owned(), line: found.line });
        }
    }

    /// A table of limits, of whose values the strongest file that has one counts.
    fn limits(&mut self, table: &str, of: impl Fn(&Fragment) -> &Written) -> Result<Limits, ConfigError> {
        let mut counts = Limits::default();
        for layer in &self.layers.0 {
            let (limits, said) = of(&layer.fragment).read();
            for Said { name, at, fault: reason } in said {
                // Each is one of them, which have to live as long as the program.
                let Some(key) = KEYS.iter().find(|key| key.strip_prefix(table) == Some(name)) else { continue };
                if self.origins.iter().any(|origin| origin.key == *key) {
                    continue;
                }
                let line = line_of(&layer.text, at);
                if let Some(reason) = reason {
                    return Err(fault(&layer.path, line, Fault::BadValue { key: (*key).to_owned(), reason }));
                }
                self.origins.push(Origin { key, path: layer.path.clone(), line });
            }
            counts = counts.or(limits);
        }
        Ok(counts)
    }

    /// Sets `to` if any file has the key, by `check`, whose error is the reason of the refusal.
    fn pick<'a, T: 'a, U>(
        &mut self,
        key: &'static str,
        get: impl Fn(&'a Fragment) -> &'a Entry<T>,
        to: &mut U,
        check: impl FnOnce(&T) -> Result<U, String>,
    ) -> Result<(), ConfigError>
    where
        Self: 'a,
    {
        let Some(found) = self.layers.find(get) else { return Ok(()) };
        *to = check(found.value)
            .map_err(|reason| fault(found.path, found.line, Fault::BadValue { key: key.to_owned(), reason }))?;
        self.origins.push(Origin { key, path: found.path.to_owned(), line: found.line });
        Ok(())
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address with a port, such as \"127.0.0.1:4100\" or \"[::1]:4100\""))
}

fn cors_origins(texts: &[String]) -> Result<CorsOrigins, String> {
    match texts {
        [any] if any == "*" => Ok(CorsOrigins::Any),
        texts => texts.iter().map(|text| cors_origin(text)).collect::<Result<_, _>>().map(CorsOrigins::These),
    }
}

/// An origin as browsers send it (RFC 6454 section 6.2); they compare it byte by byte.
fn cors_origin(text: &str) -> Result<String, String> {
    let refuse = || format!("{text:?} is not an origin such as \"https://app.example\", nor \"*\" alone");
    let url: hyper::Uri = text.parse().map_err(|_| refuse())?;
    let authority = url.authority().map(|authority| authority.as_str()).filter(|authority| !authority.contains('@'));
    match (url.scheme_str(), authority) {
        (Some(scheme), Some(authority)) if text == format!("{scheme}://{authority}") && text == text.to_lowercase() => {
            Ok(text.to_owned())
        }
        _ => Err(refuse()),
    }
}

fn kept_for(text: &str) -> Result<Option<TimeSpan>, String> {
    match text {
        "never" => Ok(None),
        text => {
            let span =
                text.parse().map_err(|_| format!("{text:?} is neither \"never\" nor a length of time, such as \"30d\""))?;
            within(span, KEEP_ENDED).map(Some)
        }
    }
}

fn bound(text: &str) -> Result<Option<ByteCount>, String> {
    match text {
        "unlimited" => Ok(None),
        text => {
            let size = text.parse().map_err(|_| format!("{text:?} is neither \"unlimited\" nor a size, such as \"50G\""))?;
            size_in(size, SNAPSHOT_BYTES).map(Some)
        }
    }
}

fn egress_list(texts: &[String]) -> Result<List, String> {
    let entries = texts.iter().map(|text| text.parse()).collect::<Result<_, EntryError>>();
    entries.map_err(|error| error.to_string()).and_then(|entries| List::new(entries).map_err(|error| error.to_string()))
}

fn ranges(texts: &[String]) -> Result<Vec<Range>, String> {
    if texts.len() > RANGES_MAX {
        return Err(format!("has more than {RANGES_MAX} ranges"));
    }
    texts.iter().map(|text| text.parse().map_err(|error: RangeError| error.to_string())).collect()
}

/// What a host may lack, by its name.
fn weakness(name: &str) -> Result<Weakness, String> {
    let names: Vec<_> = ACCEPTABLE.iter().map(|known| format!("{:?}", known.as_str())).collect();
    let known = ACCEPTABLE.iter().find(|known| known.as_str() == name);
    known.copied().ok_or_else(|| format!("{name:?} is none of {}", names.join(", ")))
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() || text.contains('\0') {
        return Err(format!("{text:?} is not an absolute path"));
    }
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(format!("{text:?} has \"..\" in it"));
    }
    Ok(path.to_owned())
}

fn store_url(text: &str) -> Result<StoreUrl, String> {
    if let Some(path) = text.strip_prefix("sqlite://") {
        return match absolute(path) {
            Ok(path) if path.file_name().is_some() => Ok(StoreUrl::Sqlite(path)),
            _ => Err(format!("{text:?} names no file by an absolute path, such as \"sqlite:///var/lib/ash/ash.db\"")),
        };
    }
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(StoreUrl::Postgres(text.to_owned()));
    }
    // The text is not repeated: it may be a PostgreSQL address with a password and a typing error.
    Err("it begins with neither \"sqlite://\" nor \"postgres://\"".to_owned())
}

fn snapshots_url(text: &str) -> Result<String, String> {
    if let Some(path) = text.strip_prefix("file://") {
        return absolute(path).map(|_| text.to_owned()).map_err(|reason| format!("after \"file://\", {reason}"));
    }
    let bucket = text.strip_prefix("s3://").or_else(|| text.strip_prefix("gs://"));
    match bucket {
        Some(name) if !name.is_empty() && !name.starts_with('/') => Ok(text.to_owned()),
        Some(_) => Err(format!("{text:?} names no bucket")),
        None => Err(format!("{text:?} begins with none of \"file://\", \"s3://\" and \"gs://\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_checked() {
        assert_eq!(store_url("sqlite:///a/b.db"), Ok(StoreUrl::Sqlite("/a/b.db".into())));
        assert!(matches!(store_url("postgres://u:secret@h/d"), Ok(StoreUrl::Postgres(_))));
        for bad in ["", "mysql://x", "sqlite://a.db", "sqlite:///", "sqlite:///a/../b", "/var/lib/ash.db"] {
            assert!(store_url(bad).is_err(), "{bad}");
        }
        for good in ["file:///var/x", "s3://bucket/prefix", "gs://bucket"] {
            assert_eq!(snapshots_url(good), Ok(good.to_owned()));
        }
        for bad in ["", "file://x", "s3://", "s3:///x", "http://x"] {
            assert!(snapshots_url(bad).is_err(), "{bad}");
        }
        assert_eq!((kept_for("never"), kept_for("30d")), (Ok(None), Ok(Some(TimeSpan(30 * 86_400)))));
        assert_eq!((bound("unlimited"), bound("50G")), (Ok(None), Ok(Some(ByteCount(50 << 30)))));
        for bad in ["", "30", "Never", "-1d", "99999d"] {
            assert!(kept_for(bad).is_err(), "{bad}");
        }
        for bad in ["", "0", "1K", "lots", "50GB"] {
            assert!(bound(bad).is_err(), "{bad}");
        }
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            egress_list(&texts(&["pypi", "*.example.com"])).map(|list| list.to_string()),
            Ok("pypi, *.example.com".to_owned())
        );
        assert!(egress_list(&texts(&["pypi", "a b"])).is_err_and(|reason| reason.contains("\"a b\"")));
        assert!(ranges(&texts(&["127.0.0.1/32"])).is_ok_and(|ranges| ranges.len() == 1));
        assert!(ranges(&texts(&["127.0.0.1"])).is_err_and(|reason| reason.contains("\"127.0.0.1\"")));
        for bad in ["", "x", "./x", "/a/../b", "/a\0"] {
            assert!(absolute(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "4100", "localhost:4100", "127.0.0.1", "127.0.0.1:99999", "::1:4100x"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_are_such_as_browsers_send() {
        let origins = |texts: &[&str]| cors_origins(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(origins(&["*"]), Ok(CorsOrigins::Any));
        assert_eq!(origins(&[]), Ok(CorsOrigins::These(Vec::new())));
        for good in ["https://app.example", "http://localhost:3000", "http://[::1]:3000", "app://desktop"] {
            assert_eq!(origins(&[good]), Ok(CorsOrigins::These(vec![good.to_owned()])));
        }
        for bad in ["", "app.example", "https://app.example/", "https://App.example", "https://u@x", "https://*.x/y", "null"] {
            assert!(origins(&[bad]).is_err(), "{bad}");
        }
        assert!(origins(&["*", "https://app.example"]).is_err(), "either any or these");
    }

    #[test]
    fn a_password_is_not_printed() {
        let url = store_url("postgres://u:secret@h/d").expect("good");
        assert!(!format!("{url:?}").contains("secret"));
        assert!(!store_url("postgre://u:secret@h/d").expect_err("bad").contains("secret"));
    }
}
