//! Turns: one message to its final answer.

use serde::{Deserialize, Serialize};

use super::limits::Reached;
use super::usage::Usage;
use super::{SessionId, Timestamp, TurnId};

/// A turn, as `GET /api/sessions/{id}/turns/{turnId}` shows it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Turn {
    /// The turn.
    pub id: TurnId,
    /// The session it belongs to.
    pub session_id: SessionId,
    /// `queued`, `running`, `completed`, `failed`, `interrupted` or `cancelled`.
    pub state: String,
    /// `user`, or `runtime` for one that the runtime began by itself.
    pub kind: String,
    /// Turns of the session that run before it; `null` unless it is queued.
    pub queue_position: Option<i64>,
    /// Why it did not complete.
    pub cause: Option<String>,
    /// The limit that ended it, if one did: `out_of_memory`, `turn_time`, `lifetime`, `budget` or
    /// `disk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Reached>,
    /// Id of its first event: `GET …/stream?turn=` begins with it.
    pub first_event: i64,
    /// Id of its last event, once it is over.
    pub last_event: Option<i64>,
    /// When its message was taken.
    pub created_at: Timestamp,
    /// When it was given to the runtime.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// What it took, once it is over and if its sandbox lived to tell.
    pub usage: Option<Usage>,
    /// The `Idempotency-Key` that its message came with.
    pub idempotency_key: Option<String>,
}

/// `{"turn": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct TurnBody {
    /// The turn.
    pub turn: Turn,
}

/// `{"turns": […]}`, oldest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct TurnList {
    /// The turns.
    pub turns: Vec<Turn>,
}
