//! The queue: messages that wait for a session, and what became of them.

use serde::{Deserialize, Serialize};

use super::{QueueId, ScheduleId, SessionId, Timestamp, TurnId};

/// Body of `POST /api/queue`.
///
/// Unknown fields are ignored, as existing clients send some.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Enqueue {
    /// The agent.
    pub agent_name: String,
    /// What it is told: a text.
    pub prompt: String,
    /// The session that the message goes into, behind what waits there. Default: one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The highest goes first. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// How often it is tried again after a failure that may pass. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<i64>,
    /// Whether a session of its own stays when it is over. Default: no, it is ended.
    #[serde(default)]
    pub keep_session: bool,
}

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum QueueStatus {
    /// It waits.
    Pending,
    /// It has a worker.
    Processing,
    /// The agent has answered.
    Completed,
    /// It could not be done; `error` says why.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// A status that this version does not know.
    #[serde(other)]
    Unknown,
}

impl QueueStatus {
    /// Those that there are.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Processing, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it can change no more.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// A text that names no [`QueueStatus`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("has to be pending, processing, completed, failed or cancelled")]
pub struct QueueStatusError;

impl std::str::FromStr for QueueStatus {
    type Err = QueueStatusError;

    fn from_str(text: &str) -> Result<Self, QueueStatusError> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(QueueStatusError)
    }
}

/// An item.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct QueueItem {
    /// The item.
    pub id: QueueId,
    /// Its agent.
    pub agent_name: String,
    /// What the agent is told.
    pub prompt: String,
    /// Where it stands.
    pub status: QueueStatus,
    /// The highest goes first.
    pub priority: i64,
    /// How often it was tried again.
    pub retry_count: i64,
    /// How often it may be.
    pub max_retries: i64,
    /// When it came.
    pub created_at: Timestamp,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// The session that it is for, or that it was given.
    pub session_id: Option<SessionId>,
    /// Why it failed, or why it is tried again.
    pub error: Option<String>,
    /// When it was first tried.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
    /// The turn of its message in that session.
    #[serde(default)]
    pub turn_id: Option<TurnId>,
    /// Not before this time it is tried again.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
    /// What the agent answered; not in lists.
    #[serde(default)]
    pub result: Option<String>,
    /// Whether the answer was longer than what is kept of it, 1 MiB.
    #[serde(default)]
    pub result_truncated: bool,
    /// US dollars of all its tries that are over; `null` if it is not known.
    #[serde(default)]
    pub cost_usd: Option<f64>,
    /// Whether a session of its own stays.
    #[serde(default)]
    pub keep_session: bool,
    /// Whether it is being cancelled.
    #[serde(default)]
    pub cancelling: bool,
    /// The schedule that it is of; `null`: of none.
    #[serde(default)]
    pub schedule_id: Option<ScheduleId>,
    /// The time of the schedule's calendar that it is for; `null` for one that somebody had run.
    #[serde(default)]
    pub scheduled_for: Option<Timestamp>,
}

/// `{"item": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct QueueItemBody {
    /// The item.
    pub item: QueueItem,
}

/// `{"items": […]}`, newest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct QueueList {
    /// The items.
    pub items: Vec<QueueItem>,
}

/// What became of an item that is over: answer of `GET /api/queue/{id}/result`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct QueueResult {
    /// `completed`, `failed` or `cancelled`.
    pub status: QueueStatus,
    /// What the agent answered.
    pub result: Option<String>,
    /// Whether the answer was longer.
    pub result_truncated: bool,
    /// Why there is none.
    pub error: Option<String>,
    /// The session, which may be over or removed.
    pub session_id: Option<SessionId>,
    /// Its turn.
    pub turn_id: Option<TurnId>,
    /// US dollars; `null` if it is not known.
    pub cost_usd: Option<f64>,
}

/// How many items there are with each status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[expect(missing_docs, reason = "the names are those of the statuses")]
pub struct QueueStats {
    pub pending: u64,
    pub processing: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
}

/// `{"stats": …}`.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct QueueStatsBody {
    /// The numbers.
    pub stats: QueueStats,
}
