//! Brings up bubblewrap and init.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::args::Args;
use super::bwrap::{self, Plan};
use super::inner::{self, Inner, InnerError};
use super::log;
use super::oom::OomScore;
use super::seccomp::{self, SeccompError};
use crate::link::shim::Room;
use crate::wire::weakness::Weakness;

/// Port of the model gateway on the inner loopback. No other process is there yet to take it.
pub const GATEWAY_PORT: u16 = 4000;
/// Port of the egress proxy, likewise.
pub const EGRESS_PORT: u16 = 4001;
/// How long bubblewrap and init may take; on an idle machine it is some 20 ms.
const OPEN_DEADLINE: Duration = Duration::from_secs(20);
/// How long the reason of a failure may be waited for once it failed.
const REASON_DEADLINE: Duration = Duration::from_secs(2);

/// A sandbox whose init runs.
#[derive(Debug)]
pub struct Opened {
    /// Asks init.
    pub inner: Inner,
    /// Where the runtime reaches the model.
    pub model: TcpListener,
    /// Where everything inside reaches the network.
    pub network: TcpListener,
    /// Bubblewrap. It ends when init does.
    pub bwrap: Bwrap,
}

/// Why a sandbox could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// A system call failed.
    #[error("{step}")]
    Sys {
        /// What was tried.
        step: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// What runs inside could not be kept from calls of the kernel.
    #[error("confine the sandbox")]
    Seccomp(#[from] SeccompError),
    /// Bubblewrap or init ended.
    #[error("sandbox could not be made: {0}")]
    Ended(String),
    /// Neither ended nor ready.
    #[error("sandbox was not ready within {} seconds", OPEN_DEADLINE.as_secs())]
    Slow,
    /// A listener could not be opened.
    #[error("open a listener inside")]
    Listen(#[from] InnerError),
}

/// Bubblewrap as a child process, killed when dropped.
#[derive(Debug)]
pub struct Bwrap {
    child: Child,
    stderr: JoinHandle<String>,
}

impl Bwrap {
    /// Waits for its end and says how it ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe until the process has ended.
    pub async fn ended(&mut self) -> String {
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let said = tokio::time::timeout(REASON_DEADLINE, &mut self.stderr).await;
        match said.ok().and_then(Result::ok).filter(|said| !said.is_empty()) {
            Some(said) => format!("{} ({status})", said.replace('\n', " / ")),
            None => status,
        }
    }
}

/// Brings up a sandbox.
pub async fn open(args: &Args, oom: &OomScore, room: &Room) -> Result<Opened, RoomError> {
    let sys = |step: &str| {
        let step = step.to_owned();
        move |source| RoomError::Sys { step, source }
    };
    let (ours, theirs) = inner::pair().map_err(sys("make a socket pair"))?;
    let filters = if room.weaknesses.contains(&Weakness::NoSeccomp) {
        Vec::new()
    } else {
        seccomp::inside(room.weaknesses.contains(&Weakness::Ptrace))?
    };
    let seccomp: Vec<_> = filters.iter().map(AsRawFd::as_raw_fd).collect();
    let hidden: Vec<_> = bwrap::HIDDEN.iter().copied().filter(|path| Path::new(path).exists()).collect();
    let plan = Plan {
        state: &args.state,
        init: &args.init,
        etc: &args.etc,
        runtime: Path::new(&room.runtime),
        tmp_bytes: room.tmp_bytes,
        hidden: &hidden,
        seccomp: &seccomp,
        weaknesses: &room.weaknesses,
    };
    let mut command = Command::new(&args.bwrap);
    command.args(bwrap::arguments(&plan)).env_clear().kill_on_drop(true);
    command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = oom.raised(|| command.spawn()).map_err(sys(&format!("start {}", args.bwrap.display())))?;
    // It holds init's end of the pair, which has to be open in no other process.
    drop(command);
    drop(filters);
    let stderr = child.stderr.take().ok_or_else(|| sys("read standard error")(std::io::Error::other("no pipe")))?;
    let mut bwrap = Bwrap { child, stderr: tokio::spawn(log::lines(stderr, "sandbox")) };
    let (inner, ready) = Inner::start(ours).map_err(sys("speak with init"))?;
    match tokio::time::timeout(OPEN_DEADLINE, ready).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Err(RoomError::Ended(bwrap.ended().await)),
        Err(_) => return Err(RoomError::Slow),
    }
    let listeners = [inner.listen(GATEWAY_PORT).await?, inner.listen(EGRESS_PORT).await?];
    let [model, network] = listeners.map(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    Ok(Opened { inner, model: model.map_err(sys("listen"))?, network: network.map_err(sys("listen"))?, bwrap })
}
