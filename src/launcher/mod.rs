//! `ash-launcher`: the privileged half of Ash.
//!
//! It runs as root with three capabilities, and a fourth that is in effect only while a [`quota`] is set; listens on a socket that only `ashd` may connect to,
//! and does what [`link::launch`](crate::link::launch) can say: it gives each sandbox a uid, a
//! folder ([`folders`]), a socket ([`sockets`]) and a transient unit ([`unit`](mod@unit)), and ends and
//! removes them again. It reads nothing but those short lines and what systemd answers. It keeps
//! no state, has no timer, and sleeps when nobody asks.
//!
//! ```text
//!            lines                           D-Bus
//!   ashd ────────────▶ server ─▶ sandboxes ────────▶ systemd ─▶ ash-sandbox-<id>.service
//!                                   ├─▶ folders    /var/lib/ash/sandboxes/<id>/
//!                                   └─▶ sockets    /run/ash/sandboxes/<id>.sock
//! ```

mod end;
pub mod folders;
pub mod privilege;
pub mod quota;
pub mod sandboxes;
pub mod server;
pub mod sockets;
#[cfg(test)]
mod tests;
mod tree;
pub mod unit;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::User;
use tokio::signal::unix::{SignalKind, signal};

use self::folders::{FolderError, Folders};
use self::privilege::PrivilegeError;
use self::sandboxes::Sandboxes;
use self::sockets::Sockets;
use crate::link::launch::{SANDBOX_FOLDERS, SANDBOX_SOCKETS};
use crate::systemd::activate;
use crate::systemd::job::Jobs;
use crate::systemd::proxy::ManagerProxy;

/// The user that `ashd` runs as.
const DAEMON_USER: &str = "ash";
/// Uids of sandboxes. Beside every range that systemd and Debian give a meaning to: below 2^31,
/// above those of containers (524288 to 1879048191, systemd's UIDS-GIDS document).
const UIDS: Range<u32> = 1_900_000_000..1_900_065_536;
/// How long systemd may take to answer a call. Freezing answers when all processes are frozen.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Signals that may wait to be read: a burst of sandboxes ends as many jobs at once.
const SIGNALS_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("is not zero");

/// Why the launcher can not serve.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// There is no daemon that could ask.
    #[error("there is no user {DAEMON_USER:?} (the package makes it, see systemd-sysusers)")]
    NoUser,
    /// The user database can not be read.
    #[error("look up the user {DAEMON_USER:?}")]
    User(#[source] nix::Error),
    /// The sockets given by systemd can not be taken.
    #[error("take the socket from systemd")]
    Activation(#[source] std::io::Error),
    /// There is nothing to listen on.
    #[error("started without a socket: start ash-launcher.socket, or give --socket PATH")]
    NoSocket,
    /// The socket can not be made.
    #[error("listen on {path}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folders of sandboxes can not be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What is not needed can not be given up.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// systemd can not be asked.
    #[error("connect to systemd over the system bus")]
    Bus(#[source] zbus::Error),
    /// The connection to systemd ended. Started anew, the launcher connects again.
    #[error("the connection to systemd was lost")]
    BusLost,
    /// Serving failed.
    #[error("serve")]
    Serve(#[source] std::io::Error),
}

/// Serves until it is asked to stop. With a path it listens there, else on the socket that systemd
/// gave.
///
/// # Errors
///
/// See [`LauncherError`].
pub async fn run(socket: Option<&Path>) -> Result<(), LauncherError> {
    let daemon_uid = User::from_name(DAEMON_USER).map_err(LauncherError::User)?.ok_or(LauncherError::NoUser)?.uid.as_raw();
    // What is made here is for nobody else until it says so.
    nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    let listener = listen(socket, daemon_uid)?;
    let folders = Folders::open(Path::new(SANDBOX_FOLDERS), UIDS)?;
    let has_quotas = folders.has_quotas();
    if !has_quotas {
        privilege::drop_admin()?;
    }
    let sockets = Sockets::open(Path::new(SANDBOX_SOCKETS), daemon_uid)?;
    let (manager, jobs) = connect().await.map_err(LauncherError::Bus)?;
    let sandboxes = Arc::new(Sandboxes::new(manager, jobs, folders, sockets, daemon_uid));

    let mut terminate = signal(SignalKind::terminate()).map_err(LauncherError::Serve)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(LauncherError::Serve)?;
    let mut asked = false;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
        asked = true;
    };
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(error = %error, "systemd was not told that the launcher is ready, ignoring");
    }
    tracing::info!(daemon_uid, has_quotas, "serving");
    server::serve(listener, sandboxes, daemon_uid, stop).await.map_err(LauncherError::Serve)?;
    if asked { Ok(()) } else { Err(LauncherError::BusLost) }
}

fn listen(socket: Option<&Path>, daemon_uid: u32) -> Result<UnixListener, LauncherError> {
    let Some(path) = socket else {
        let mut sockets = activate::take_sockets().map_err(LauncherError::Activation)?;
        return sockets.pop().map(|(_, socket)| UnixListener::from(socket)).ok_or(LauncherError::NoSocket);
    };
    let bind = || {
        let listener = UnixListener::bind(path)?;
        std::os::unix::fs::chown(path, Some(daemon_uid), None)?;
        Ok(listener)
    };
    bind().map_err(|source| LauncherError::Listen { path: path.to_owned(), source })
}

async fn connect() -> zbus::Result<(ManagerProxy<'static>, Jobs)> {
    let bus = zbus::connection::Builder::system().method_timeout(CALL_DEADLINE).max_queued(SIGNALS_MAX).build().await?;
    let manager = ManagerProxy::new(&bus).await?;
    let jobs = Jobs::listen(&manager).await?;
    Ok((manager, jobs))
}
