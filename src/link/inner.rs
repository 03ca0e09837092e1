//! What a shim and the init of its sandbox say to each other.
//!
//! They share a socket pair of type `SOCK_SEQPACKET`, made before bubblewrap starts. Each datagram
//! is one message as JSON, and may carry descriptors. Init trusts the shim. The shim does not
//! trust init: what comes from inside is limited in size and can only name processes by number.

use serde::{Deserialize, Serialize};

use crate::wire::terminal::TerminalSize;

/// Largest datagram. Arguments and environment of one program have to fit; Linux itself allows
/// 128 KiB for a single argument (`MAX_ARG_STRLEN`, execve(2)).
pub const DATAGRAM_MAX: usize = 160 << 10;
/// Most descriptors in one datagram.
pub const DESCRIPTORS_MAX: usize = 4;

/// Names a request or a process. Chosen by the shim, unique in the life of the sandbox.
pub type Handle = u32;

/// From the shim to init.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToInit {
    /// Starts a program as leader of a session of its own. With it come three descriptors: its
    /// standard input, output and error; none with `terminal`.
    Spawn {
        /// Names the process in later messages.
        handle: Handle,
        /// Program (looked up in `PATH` of `env` when it has no slash) and arguments.
        argv: Vec<String>,
        /// The whole environment.
        env: Vec<(String, String)>,
        /// Working directory.
        cwd: String,
        /// All three are a new terminal of this size, which controls the session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terminal: Option<TerminalSize>,
    },
    /// Sends a signal to a started program, or to all of its session with `group`.
    Signal {
        /// The process.
        handle: Handle,
        /// Number of the signal.
        signal: i32,
        /// Whether all processes of its process group get it.
        group: bool,
    },
    /// Kills every process inside except init, the programs that are spared, and what is in their sessions.
    KillAll {
        /// Answered under this number when all of them are gone. Without one, as from a shim that was there before an
        /// upgrade, there is no answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        handle: Option<Handle>,
        /// Programs that are spared.
        #[serde(default)]
        spare: Vec<Handle>,
    },
    /// Opens a TCP listener on the inner loopback and hands it out.
    Listen {
        /// Answered under this number.
        handle: Handle,
        /// The port; 0 picks a free one.
        port: u16,
    },
}

/// From init to the shim.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromInit {
    /// Init runs and listens. First.
    Ready,
    /// The program was started. With a terminal, the descriptor of its master comes with it.
    Spawned {
        /// The process.
        handle: Handle,
        /// Its number inside.
        pid: i32,
    },
    /// The listener was opened; one descriptor comes with it.
    Listening {
        /// The request.
        handle: Handle,
        /// Its port.
        port: u16,
    },
    /// What was killed is gone.
    Killed {
        /// The request.
        handle: Handle,
    },
    /// A request failed.
    Failed {
        /// The request.
        handle: Handle,
        /// Why.
        error: String,
    },
    /// A started program ended.
    Exited {
        /// The process.
        handle: Handle,
        /// Its exit code, if it exited.
        code: Option<i32>,
        /// The signal, if one ended it.
        signal: Option<i32>,
    },
}
