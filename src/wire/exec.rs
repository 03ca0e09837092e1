//! Commands in the workspace of a session: `POST /api/sessions/{id}/exec`.

use serde::{Deserialize, Serialize};

use super::limits::Reached;
use super::terminal::TerminalSize;

/// The content type of a body that is one line of JSON, an [`ExecBody`], and after it the bytes of the
/// command's standard input.
pub const EXEC_TYPE: &str = "application/x-ash-exec";
/// How long a command may take where nothing is said, in milliseconds.
pub const TIMEOUT_DEFAULT_MS: u64 = 30_000;
/// How long it may take at most, in milliseconds.
pub const TIMEOUT_MAX_MS: u64 = 300_000;
/// Bytes of a command at most.
pub const COMMAND_MAX: usize = 100_000;

/// Body of `POST /api/sessions/{id}/exec`.
///
/// Unknown fields are ignored, as existing clients send some.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ExecBody {
    /// What the shell runs, 1 to [`COMMAND_MAX`] bytes.
    #[cfg_attr(feature = "daemon", schema(min_length = 1, max_length = 100_000))]
    pub command: String,
    /// Milliseconds after which it is killed, 1 to [`TIMEOUT_MAX_MS`]. Default: [`TIMEOUT_DEFAULT_MS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(minimum = 1, maximum = 300_000, default = 30_000))]
    pub timeout: Option<u64>,
    /// Its standard input. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Whether the answer is a stream of what it writes, as it comes. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
}

/// The subprotocol of a WebSocket on which a command runs.
///
/// Binary messages of the client are what the command reads. Those of the server are what it writes, behind a
/// byte that says where: 1 is its standard output or its terminal, 2 its standard error. Text messages are
/// [`ExecSaid`] of the client and [`ExecTold`] of the server, which closes the connection behind its only one.
pub const EXEC_SOCKET: &str = "ash.exec.v1";
/// The byte before standard output.
pub const STDOUT: u8 = 1;
/// The byte before standard error.
pub const STDERR: u8 = 2;
/// Bytes of one message of a client at most.
pub const SOCKET_MESSAGE_MAX: usize = 1 << 20;
/// How long a command on a WebSocket may take at most, in milliseconds: a day. Without a word it is this, too.
pub const SOCKET_TIMEOUT_MAX_MS: u64 = 86_400_000;
/// What is run where no command is named: a shell, the best that there is.
pub const SHELL: &str = "exec \"$(command -v bash || command -v sh)\"";

/// Bytes of a command in an address at most, where three bytes can stand for each.
pub const QUERY_COMMAND_MAX: usize = 8_000;

/// Query of `GET /api/sessions/{id}/exec`, which becomes a WebSocket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecQuery {
    /// What the shell runs, 1 to [`QUERY_COMMAND_MAX`] bytes. Default: [`SHELL`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Whether it gets a terminal. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
    /// Lines of the terminal, from 1. Default: 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u16>,
    /// Characters of a line, from 1. Default: 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cols: Option<u16>,
    /// Kind of the terminal. Default: `xterm-256color`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// Milliseconds after which it is killed, 1 to [`SOCKET_TIMEOUT_MAX_MS`], which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

/// A text message of the client on a WebSocket: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub enum ExecSaid {
    /// The terminal has another size now.
    Resize(TerminalSize),
    /// Nothing more comes for the command to read; `true`.
    End(bool),
}

/// The text message of the server on a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub enum ExecTold {
    /// How the command ended.
    Exit(ExecEnd),
    /// It could not be seen to its end, for this reason.
    Error(String),
}

/// How a command ended. Data of the event `exit`, and a part of [`ExecResult`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ExecEnd {
    /// Its exit code; 1 if it did not exit by itself.
    pub exit_code: i32,
    /// The signal that ended it, as `SIGKILL`.
    #[serde(default)]
    pub signal: Option<String>,
    /// Whether it was killed since its time was over.
    #[serde(default)]
    pub timed_out: bool,
    /// The limit of the session for which it was killed: `disk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Reached>,
}

/// Answer of `POST /api/sessions/{id}/exec` without `stream`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ExecResult {
    /// How it ended.
    #[serde(flatten)]
    pub end: ExecEnd,
    /// What it wrote to its standard output. What is not UTF-8 in it is replaced.
    pub stdout: String,
    /// What it wrote to its standard error, likewise.
    pub stderr: String,
    /// Whether one of the two was longer than 10 MiB, and the rest of it is missing.
    #[serde(default)]
    pub truncated: bool,
}

/// Data of the events `stdout` and `stderr`: one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ExecPiece {
    /// What was written, if that is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What was written, if that is not, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}
