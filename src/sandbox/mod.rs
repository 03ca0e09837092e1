//! Where sandboxes run: the port [`Launcher`] and its two backends.
//!
//! `remote` is the real one: it asks `ash-launcher`, which asks systemd. `direct` runs the shim as
//! a child process, for tests of the upper layers and for `ashd --dev`; it says which guarantees
//! it lacks. Both take the same [`Spec`] and pass the same conformance suite. [`walls`] says what this
//! host confines them with.

#[cfg(test)]
pub mod conformance;
pub mod direct;
pub mod measured;
pub mod remote;
pub mod spec;
pub mod walls;

use std::path::PathBuf;
use std::pin::Pin;

pub use spec::{Ended, Limits, Spec};

use crate::cgroup::Figures;
use crate::wire::SandboxId;

/// A future that a trait object returns.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, LaunchError>> + Send + 'a>>;

/// Starts, ends and lists sandboxes. All methods are idempotent.
pub trait Launcher: Send + Sync + std::fmt::Debug {
    /// Starts the processes of a sandbox, or finds them running. Returns as soon as its shim can
    /// be connected to, which may be before the shim runs: the socket queues the connection.
    fn start<'a>(&'a self, spec: &'a Spec) -> Pending<'a, Started>;

    /// Ends all processes of a sandbox: asks the shim, waits for `grace`, then kills. Returns when
    /// none is left; the folder stays.
    fn stop(&self, sandbox: SandboxId, grace: std::time::Duration) -> Pending<'_, ()>;

    /// Kills all processes of a sandbox at once. Returns when none is left; the folder stays.
    fn kill(&self, sandbox: SandboxId) -> Pending<'_, ()>;

    /// Stops scheduling the processes of a sandbox and keeps their memory.
    fn freeze(&self, sandbox: SandboxId) -> Pending<'_, ()>;

    /// Schedules them again.
    fn thaw(&self, sandbox: SandboxId) -> Pending<'_, ()>;

    /// Changes the limits of a running sandbox.
    fn limit<'a>(&'a self, sandbox: SandboxId, limits: &'a Limits) -> Pending<'a, ()>;

    /// Every sandbox that has processes, a folder or a socket. How its processes ended is told until it is
    /// started, stopped, killed or removed; those who ask for an end know why.
    fn list(&self) -> Pending<'_, Vec<Listed>>;

    /// Removes the folder of a sandbox; refused with [`LaunchError::Refused`] while it has
    /// processes. Frees its uid.
    fn remove(&self, sandbox: SandboxId) -> Pending<'_, ()>;

    /// Whether the host is going down, and with it whatever runs on it.
    fn host_stops(&self) -> Pending<'_, bool>;

    /// What the processes of a sandbox take of the host now; `None` if there are none.
    fn usage(&self, sandbox: SandboxId) -> Pending<'_, Option<Figures>>;

    /// Whether the file system itself keeps a sandbox from taking more of the disk than it may (project
    /// quota), somewhat above the limit that its shim accounts; or, without one, those that are to be
    /// made. Otherwise the accounting alone does.
    fn quota(&self, sandbox: Option<SandboxId>) -> Pending<'_, bool>;

    /// What this backend does not enforce, as sentences; empty for the real one.
    fn lacks(&self) -> Vec<String>;
}

/// A sandbox whose processes were started or found running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Where its shim listens.
    pub socket: PathBuf,
    /// Whether the folder was made by this start, so that nothing is in it yet.
    pub fresh: bool,
    /// Whether the processes ran already.
    pub running: bool,
}

/// A sandbox as the host knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The sandbox.
    pub sandbox: SandboxId,
    /// Whether it has processes, and they are not being ended.
    pub running: bool,
    /// Where its shim listens, while it has processes.
    pub socket: PathBuf,
    /// How its processes ended. `None` while it has some; when they ended in good order (status 0,
    /// or a signal that asks: SIGHUP, SIGINT, SIGPIPE, SIGTERM), of which the host keeps nothing;
    /// and when nobody knows any more, as after a reboot.
    pub ended: Option<Ended>,
}

/// Why a launcher did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The launcher can not be reached.
    #[error("{what} can not be reached")]
    Unreachable {
        /// Which one: `ash-launcher at /run/ash/launcher.sock`.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The request was refused, and would be again.
    #[error("{0}")]
    Refused(String),
    /// The host could not do it.
    #[error("{0}")]
    Failed(String),
}

/// Names this boot of the host (proc_sys_kernel(5)); empty where that is hidden.
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}
