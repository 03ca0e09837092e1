//! Checked values, with the defaults of what no file says.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::fragment::{Entry, Fragment};
use super::merge::{Layers, fault};
use super::text::{Fault, count_in, size_in, within};
use super::{ConfigError, Sources};
use crate::wire::quantity::{ByteCount, Percent, bounds};

/// What the daemon goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The listener for programs.
    pub http: Http,
    /// Where model calls go.
    pub model: Model,
    /// The programs that are agents.
    pub runtime: Runtime,
    /// Where sessions and agents are recorded.
    pub store: StoreUrl,
    /// Where snapshots are kept: `file:///…`, `s3://…` or `gs://…`.
    /// Default: `file:///var/lib/ash/snapshots`.
    pub snapshots: String,
    /// Limits of a sandbox whose agent and session ask for no less.
    pub limits: Limits,
    /// What may be deployed.
    pub agents: Agents,
    /// How sandboxes are made.
    pub sandbox: Sandbox,
    /// Where each value came from that is not a default, by key.
    pub origins: Vec<Origin>,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Addresses of the listener for programs; none for an empty list.
    /// Default: `127.0.0.1:4100` alone.
    pub listen: Vec<SocketAddr>,
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Address of the model API, `http://…` or `https://…`, without a slash at the end and without
    /// `/v1`. Default: `https://api.anthropic.com`.
    pub base_url: String,
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

/// `[limits]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of all processes of a sandbox with their page cache. Default: 1G.
    pub memory: ByteCount,
    /// Processor time; 100% is one processor. Default: 200%.
    pub cpu: Percent,
    /// Processes and threads. Default: 256.
    pub tasks: u32,
    /// Workspace and HOME together. Default: 5G.
    pub disk: ByteCount,
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

/// `[sandbox]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Size of `/tmp`, which is in memory and counts against `limits.memory` as far as it is
    /// filled. Default: 512M.
    pub tmp: ByteCount,
    /// Where `ash-launcher` listens. Default: `/run/ash/launcher.sock`.
    pub launcher: PathBuf,
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

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}

/// Bytes of a version: at least one small file has to fit.
const AGENT_BYTES: RangeInclusive<u64> = (1 << 10)..=(1 << 40);
const AGENT_FILES: RangeInclusive<u32> = 1..=1_000_000;
const CPU: RangeInclusive<Percent> = Percent(*bounds::CPU.start())..=Percent(*bounds::CPU.end());
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
            http: Http { listen: vec![SocketAddr::from(([127, 0, 0, 1], 4100))] },
            model: Model { base_url: "https://api.anthropic.com".to_owned() },
            runtime: Runtime { claude: None },
            store: StoreUrl::Sqlite("/var/lib/ash/ash.db".into()),
            snapshots: "file:///var/lib/ash/snapshots".to_owned(),
            limits: Limits { memory: ByteCount(1 << 30), cpu: Percent(200), tasks: 256, disk: ByteCount(5 << 30) },
            agents: Agents { path_roots: Vec::new(), remote_paths: false, max_bytes: ByteCount(256 << 20), max_files: 20_000 },
            sandbox: Sandbox { tmp: ByteCount(512 << 20), launcher: "/run/ash/launcher.sock".into() },
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
        self.pick("model.base_url", |f| &f.model.0.base_url, &mut to.model.base_url, |text| base_url(text))?;
        self.pick(
            "runtime.claude.path",
            |f| &f.runtime.0.claude.0.path,
            &mut to.runtime.claude,
            |text| absolute(text).map(Some),
        )?;
        self.pick("store.url", |f| &f.store.0.url, &mut to.store, |text| store_url(text))?;
        self.pick("snapshots.url", |f| &f.snapshots.0.url, &mut to.snapshots, |text| snapshots_url(text))?;

        self.pick("limits.memory", |f| &f.limits.0.memory, &mut to.limits.memory, |size| size_in(*size, bounds::MEMORY))?;
        self.pick("limits.cpu", |f| &f.limits.0.cpu, &mut to.limits.cpu, |share| within(*share, CPU))?;
        self.pick("limits.tasks", |f| &f.limits.0.tasks, &mut to.limits.tasks, |count| count_in(*count, bounds::TASKS))?;
        self.pick("limits.disk", |f| &f.limits.0.disk, &mut to.limits.disk, |size| size_in(*size, bounds::DISK))?;

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

        self.pick("sandbox.tmp", |f| &f.sandbox.0.tmp, &mut to.sandbox.tmp, |size| size_in(*size, TMP_BYTES))?;
        self.pick("sandbox.launcher", |f| &f.sandbox.0.launcher, &mut to.sandbox.launcher, |text| absolute(text))?;
        to.origins = self.origins;
        Ok(to)
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

fn base_url(text: &str) -> Result<String, String> {
    let refuse = || format!("{text:?} is not an address such as \"https://api.anthropic.com\"");
    let url: hyper::Uri = text.parse().map_err(|_| refuse())?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
        return Err(refuse());
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) || url.query().is_some() || text.contains('#') {
        return Err(format!("{text:?} has more than scheme, host, port and path"));
    }
    let bare = text.trim_end_matches('/');
    if bare.ends_with("/v1") {
        return Err("leave out \"/v1\", the runtime adds it".to_owned());
    }
    Ok(bare.to_owned())
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
        assert_eq!(base_url("http://127.0.0.1:8080/"), Ok("http://127.0.0.1:8080".to_owned()));
        assert_eq!(base_url("https://gate.example/models"), Ok("https://gate.example/models".to_owned()));
        for bad in [
            "",
            "api.anthropic.com",
            "ftp://x",
            "https://",
            "https://u:p@x",
            "https://x/?a=1",
            "https://x/v1",
            "https://x/v1/",
            "/x",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
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
        for bad in ["", "x", "./x", "/a/../b", "/a\0"] {
            assert!(absolute(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "4100", "localhost:4100", "127.0.0.1", "127.0.0.1:99999", "::1:4100x"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let url = store_url("postgres://u:secret@h/d").expect("good");
        assert!(!format!("{url:?}").contains("secret"));
        assert!(!store_url("postgre://u:secret@h/d").expect_err("bad").contains("secret"));
    }
}
