//! Programs that the daemon has run inside: what they are, and how they end.

use serde::{Deserialize, Serialize};

use crate::wire::limits::Reached;
use crate::wire::terminal::Terminal;

/// A program to run inside.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Run {
    /// What it does.
    pub job: Job,
    /// Whether it gets input. Without it, there is none to read.
    #[serde(default)]
    pub input: bool,
    /// Milliseconds after which it is killed; `None`: never.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Bytes of each stream of its output that are sent; the rest is read and thrown away. `None`: all.
    #[serde(default)]
    pub output_max: Option<u64>,
    /// Whether the sandbox counts as started when it has ended by itself or in time, see [`ShimState::started`](super::ShimState::started).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starts: bool,
    /// It has such a terminal, on which its input is typed; all that it writes is [`Stream::Output`]. From
    /// protocol 5 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
}

/// What a program that is run inside does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Job {
    /// A command of a shell, with the environment of the session's tools.
    Shell {
        /// The command.
        command: String,
    },
    /// Lists the files of the workspace, as [`files`](crate::link::files) says.
    List {
        /// What is left out, as for `Pack`; of each path only the last name counts.
        excludes: Vec<String>,
        /// Most files; one more is told of if there are more.
        max: u64,
    },
    /// Reads a file of the workspace.
    Read {
        /// Its path in the workspace.
        path: String,
        /// Most bytes that are sent.
        max: u64,
    },
    /// Writes its input to a file of the workspace.
    Write {
        /// Its path in the workspace.
        path: String,
    },
    /// Deletes a file of the workspace.
    Delete {
        /// Its path in the workspace.
        path: String,
    },
}

/// A stream of the output of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Its standard output.
    Output = 1,
    /// Its standard error.
    Error = 2,
}

impl Stream {
    /// The stream that a byte before a part names.
    pub const fn named(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Output),
            2 => Some(Self::Error),
            _ => None,
        }
    }
}

/// How a program ended that was run inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct RunEnd {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// Number of the signal, if one ended it.
    pub signal: Option<i32>,
    /// Whether it was killed since its time was over.
    #[serde(default)]
    pub timed_out: bool,
    /// Whether some of its output was thrown away.
    #[serde(default)]
    pub cut: bool,
    /// The limit of the session for which it was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Reached>,
}
