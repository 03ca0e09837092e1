//! What was said in a sandbox: `GET /api/sessions/{id}/logs`.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct LogEntry {
    /// Counts up, by one in a sandbox, and those of a session's next sandbox are higher.
    pub index: u64,
    /// Who said it: the runtime on `stdout` or `stderr`, or `system`.
    pub level: String,
    /// What was said.
    pub text: String,
    /// When.
    pub ts: Timestamp,
}

/// Answer of `GET /api/sessions/{id}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct LogList {
    /// The last lines, oldest first.
    pub logs: Vec<LogEntry>,
    /// Always `sandbox`.
    pub source: String,
}
