//! `GET /health`.

use serde::{Deserialize, Serialize};

/// Answer of `GET /health`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `ok`; `degraded` while the file of the database is not where it was opened, of which
    /// `GET /api/doctor` says more.
    pub status: String,
    /// Sessions that take messages.
    pub active_sessions: i64,
    /// Sandboxes whose processes live.
    pub active_sandboxes: i64,
    /// Seconds since the daemon started.
    pub uptime: i64,
    /// Sandboxes by state.
    pub pool: PoolStats,
    /// Version of the daemon.
    pub version: String,
    /// Names this daemon: `<hostname>-<pid>`.
    pub coordinator_id: String,
    /// Other hosts that run sandboxes for it.
    pub remote_runners: i64,
}

/// Sandboxes by state, and how sessions came to theirs.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are the contract's")]
pub struct PoolStats {
    pub total: i64,
    pub cold: i64,
    pub warming: i64,
    pub warm: i64,
    pub waiting: i64,
    pub running: i64,
    /// Kept in memory, without processor time.
    #[serde(default)]
    pub frozen: i64,
    pub max_capacity: i64,
    pub resume_warm_hits: i64,
    pub resume_cold_hits: i64,
    pub pre_warm_hits: i64,
}

/// Answer of `GET /api/doctor`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Checks {
    /// One for each thing that was looked at.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Check {
    /// What it is.
    pub name: String,
    /// How it stands.
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// What to do about it, as a command where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// It works, but something is less than it should be.
    Warning,
    /// Sessions can not run.
    Failed,
    /// A status that this version does not know.
    #[serde(other)]
    Unknown,
}
