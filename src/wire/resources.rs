//! What sessions take of the host now.

use serde::{Deserialize, Serialize};

use super::limits::Limits;
use super::usage::Spent;
use super::{SessionId, Timestamp};

/// What a session takes of the host now. What this host can not measure is `null`, and so is all of it
/// but what was spent for a session without processes.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// The session.
    pub session_id: SessionId,
    /// Its agent.
    pub agent_name: String,
    /// What its sandbox does: `cold`, `warming`, `waiting`, `running`, `frozen`.
    pub sandbox_state: String,
    /// When it was measured.
    pub at: Timestamp,
    /// Milliseconds of processor time since the sandbox started, of all its processes.
    pub cpu_ms: Option<u64>,
    /// Bytes that it holds in memory, with its page cache.
    pub memory_bytes: Option<u64>,
    /// The most that it ever held.
    pub memory_peak_bytes: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Bytes read from block devices since the sandbox started.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to them.
    pub io_write_bytes: Option<u64>,
    /// What its turns that are over took of the model.
    pub spent: Spent,
    /// What it may use.
    pub limits: Limits,
}

/// `{"resources": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ResourcesBody {
    /// Those of one session.
    pub resources: Resources,
}

/// `{"resources": […]}`, of all sessions that have processes.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ResourcesList {
    /// Those of each.
    pub resources: Vec<Resources>,
}
