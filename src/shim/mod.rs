//! `ash-shim`: the trusted process beside a sandbox.
//!
//! It is the first process of the sandbox's unit, outside of bubblewrap, with the sandbox's user.
//! It brings up the sandbox, speaks with the runtime, keeps what happened until the daemon has
//! stored it, and is the sandbox's one way out. It outlives restarts of the daemon.
//!
//! ```text
//!            ashd                           inside the sandbox
//!              │ Unix socket (stdin listens)      │
//!   connection::{accept, read, write}             │
//!              │                                  │
//!              ▼            inner::Talk ◀── socket pair ──▶ ash-init
//!   inbox ─▶ driver ─────────┘                    │
//!              │  ▲── process::read  ◀── stdout ──┤ runtime
//!              │  └── log::lines     ◀── stderr ──┤
//!              └───── process::write ──▶ stdin ───┤
//!                     gateway ◀── loopback port ──┤ ──▶ model API
//!              ▲────── egress ◀── loopback port ──┘ ──▶ what the policy allows
//! ```
//!
//! One thread, one owner: the driver owns all state; the other tasks carry bytes and tell it what
//! came, through bounded channels. When the daemon does not read, events stay in the spool, which is
//! on disk and outlives the shim; when it is full, the driver stops taking lines, `process::read`
//! stops reading, and the runtime waits on its pipe. Nothing is dropped on the way.
//!
//! Secrets (the model API's key, the session's environment) come over the daemon's socket, live in
//! memory only, and are never printed. The process is not dumpable, leaves no core, can gain no rights, and
//! is under a filter of system calls itself (`seccomp`).

mod accept;
mod args;
mod bill;
mod bwrap;
mod confined;
mod connection;
mod disk;
mod driver;
mod egress;
mod env;
mod gateway;
mod inner;
mod link;
mod log;
mod logbook;
mod memory;
mod oom;
mod pack;
mod process;
mod room;
mod run;
mod seccomp;
mod spool;
mod tab;
mod terminal;
mod turns;
mod unpack;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::UnixListener;

pub use self::args::{Args, ArgsError};
use self::driver::Driver;
use self::oom::OomScore;
use self::seccomp::SeccompError;
use crate::wire::VERSION;

/// Why a shim ended.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The command line is wrong.
    #[error("arguments")]
    Args(#[from] ArgsError),
    /// Nothing can be logged.
    #[error("log")]
    Log(#[from] crate::telemetry::log::LogError),
    /// A system call failed.
    #[error("{step}")]
    Sys {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// What the shim and bubblewrap may do can not be limited.
    #[error("confine itself")]
    Seccomp(#[from] SeccompError),
    /// Standard input is not what the launcher gives.
    #[error("standard input is not a listening Unix socket")]
    Socket,
}

impl ShimError {
    fn sys<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Sys { step, source: source.into() }
    }
}

/// Runs the shim with its arguments (without its name), to its end.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<(), ShimError> {
    // While the file can be opened: that of a process which is not dumpable is root's.
    let oom = OomScore::open().map_err(ShimError::sys("open /proc/self/oom_score_adj"))?;
    // Before any secret comes: other processes of the same user can not read its memory, and a
    // crash leaves none behind.
    nix::sys::prctl::set_dumpable(false).map_err(ShimError::sys("prctl(PR_SET_DUMPABLE)"))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(ShimError::sys("setrlimit(RLIMIT_CORE)"))?;
    // Init starts all else with less of the processor than the shim has. None of it may take that back.
    setrlimit(Resource::RLIMIT_NICE, 0, 0).map_err(ShimError::sys("setrlimit(RLIMIT_NICE)"))?;
    setrlimit(Resource::RLIMIT_RTPRIO, 0, 0).map_err(ShimError::sys("setrlimit(RLIMIT_RTPRIO)"))?;
    let args = Args::parse(args)?;
    crate::telemetry::log::init("ash-shim")?;
    confine()?;
    let listener = listener()?;
    // Bubblewrap dies with the thread that started it, so that has to be the main one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ShimError::sys("start the event loop"))?.block_on(async {
        let listener = UnixListener::from_std(listener).map_err(ShimError::sys("listen"))?;
        tracing::info!(sandbox_id = %args.sandbox, version = VERSION, "shim started");
        let driver = Driver::new(args, oom, listener).map_err(ShimError::sys("handle signals"))?;
        driver.run().await;
        tracing::info!("shim ended");
        Ok(())
    })
}

/// Puts the shim itself under a filter. A kernel that has none gets no sandbox either, unless it was
/// accepted without, and that is told where it is opened.
fn confine() -> Result<(), SeccompError> {
    match seccomp::confine_self() {
        Err(error) if error.is_missing() => {
            tracing::warn!(error = %crate::report::chain(&error), "this kernel has no filters for system calls, going on without");
            Ok(())
        }
        other => other,
    }
}

/// The socket that the launcher passed as standard input, whose place is then taken by `/dev/null`.
fn listener() -> Result<std::os::unix::net::UnixListener, ShimError> {
    let stdin = io::stdin();
    if !getsockopt(&stdin.as_fd(), sockopt::AcceptConn).unwrap_or(false) {
        return Err(ShimError::Socket);
    }
    let socket = stdin.as_fd().try_clone_to_owned().map_err(ShimError::sys("take the socket"))?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    // A socket of another family listens, too.
    if listener.local_addr().is_err() {
        return Err(ShimError::Socket);
    }
    listener.set_nonblocking(true).map_err(ShimError::sys("listen"))?;
    let null = std::fs::File::open("/dev/null").map_err(ShimError::sys("open /dev/null"))?;
    nix::unistd::dup2_stdin(null).map_err(ShimError::sys("dup2"))?;
    Ok(listener)
}
