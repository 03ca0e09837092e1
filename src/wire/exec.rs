//! Commands in the workspace of a session: `POST /api/sessions/{id}/exec`.

use serde::{Deserialize, Serialize};

use super::limits::Reached;

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
#[serde(rename_all = "camelCase")]
pub struct ExecBody {
    /// What the shell runs, 1 to [`COMMAND_MAX`] bytes.
    pub command: String,
    /// Milliseconds after which it is killed, 1 to [`TIMEOUT_MAX_MS`]. Default: [`TIMEOUT_DEFAULT_MS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Its standard input. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Whether the answer is a stream of what it writes, as it comes. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
}

/// How a command ended. Data of the event `exit`, and a part of [`ExecResult`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
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
pub struct ExecPiece {
    /// What was written, if that is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What was written, if that is not, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}
