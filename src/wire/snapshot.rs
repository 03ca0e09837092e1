//! Snapshots: a session's workspace and conversation as they were after an event.

use serde::{Deserialize, Serialize};

use super::{SessionId, Timestamp};

/// A snapshot, as `GET /api/sessions/{id}/snapshots` lists it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The last event that it contains: its name within the session.
    pub event_id: i64,
    /// When it was taken.
    pub created_at: Option<Timestamp>,
    /// Why: `pause`, `stop`, `end`, `turn`, `idle`, `fork`, `rewind`, `shutdown` or `request`.
    pub reason: Option<String>,
    /// Bytes of workspace and conversation.
    pub bytes: Option<u64>,
    /// Bytes that it takes on the disk.
    pub stored_bytes: Option<u64>,
    /// Digest of the agent's version.
    pub agent_version: Option<String>,
    /// Version of the runtime.
    pub runtime_version: Option<String>,
    /// Of a copy: the snapshot that it was copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_from: Option<SnapshotOrigin>,
    /// What is wrong with it; then it can not be read, and the rest is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// What a snapshot was copied from.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SnapshotOrigin {
    /// The session.
    pub session_id: SessionId,
    /// The event of that session.
    pub event_id: i64,
}

/// `{"snapshots": […]}`, oldest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct SnapshotList {
    /// The snapshots.
    pub snapshots: Vec<Snapshot>,
}

/// `{"snapshot": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct SnapshotBody {
    /// The snapshot.
    pub snapshot: Snapshot,
}

/// Body of `POST /api/sessions/{id}/fork`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ForkSession {
    /// The event of the snapshot to go on from. Default: the session as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(minimum = 0))]
    pub event_id: Option<i64>,
}

/// Body of `POST /api/sessions/{id}/rewind`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RewindSession {
    /// The event of the snapshot to go back to.
    #[cfg_attr(feature = "daemon", schema(minimum = 0))]
    pub event_id: i64,
    /// What becomes of a turn that runs. Default: it is left alone, and the request is refused.
    #[serde(default)]
    pub if_busy: RewindIfBusy,
}

/// What becomes of a turn that runs when its session is to go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RewindIfBusy {
    /// It runs on, and the request is refused.
    #[default]
    Reject,
    /// It is interrupted.
    Interrupt,
}

/// Answer of `POST /api/sessions/{id}/workspace`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct UploadedBody {
    /// Where the files are now, in a sentence.
    pub message: String,
}
