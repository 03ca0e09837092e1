//! Removal of what is not needed any more.

use serde::{Deserialize, Serialize};

/// Body of `POST /api/gc`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GcBody {
    /// Whether nothing is removed, but told what would be.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /api/gc`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct GcReport {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// What was removed, or would be.
    pub removals: Vec<GcRemoval>,
    /// Bytes on the disk of all of it. Data that copies of a snapshot share counts for each; rows of
    /// the database do not count.
    pub bytes: u64,
    /// Bytes of snapshots that are left over the bound of `retention.snapshot_bytes`, as they are
    /// needed; 0 where they are within it, or where there is none.
    pub over_bytes: u64,
}

/// Something that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct GcRemoval {
    /// What it is.
    pub kind: GcKind,
    /// The session, the session and the event of the snapshot (`<session>/<event>`), the digest, how many entries,
    /// the session and the attachment, or the file.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Why it is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Kinds of what is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum GcKind {
    /// A session that has ended, with its log and its snapshots.
    Session,
    /// A snapshot.
    Snapshot,
    /// All snapshots of a session that nobody knows.
    OrphanSnapshots,
    /// The files of an agent's version.
    AgentVersion,
    /// Entries of the audit log, of all tenants together.
    AuditEntries,
    /// An attachment that has lost its file, or a file that is no attachment.
    Attachment,
    /// A file of a tenant that has expired, or bytes of none.
    ProjectFile,
    /// A kind that this release does not know.
    #[serde(other)]
    Unknown,
}

impl GcKind {
    /// All kinds that there are.
    pub const ALL: [Self; 7] = [
        Self::Session,
        Self::Snapshot,
        Self::OrphanSnapshots,
        Self::AgentVersion,
        Self::AuditEntries,
        Self::Attachment,
        Self::ProjectFile,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Snapshot => "snapshot",
            Self::OrphanSnapshots => "orphan_snapshots",
            Self::AgentVersion => "agent_version",
            Self::AuditEntries => "audit_entries",
            Self::Attachment => "attachment",
            Self::ProjectFile => "project_file",
            Self::Unknown => "unknown",
        }
    }
}
