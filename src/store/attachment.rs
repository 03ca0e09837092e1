//! Files that callers gave to sessions. Their bytes are not in the database.

use uuid::Uuid;

use super::Pending;
use crate::wire::{AttachmentId, SessionId, Timestamp};

/// An attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentRow {
    /// The attachment.
    pub id: AttachmentId,
    /// Its session.
    pub session: SessionId,
    /// Its name.
    pub filename: String,
    /// Its path in the workspace, which no other one of its session has.
    pub path: String,
    /// What its caller said it is.
    pub mime_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// What its caller said it belongs to.
    pub message: Option<Uuid>,
    /// The newest event of its session when it came.
    pub added: i64,
    /// Snapshots before this event do not have it; `None`: it was not put into the workspace yet.
    pub placed: Option<i64>,
    /// When it came.
    pub created_at: Timestamp,
}

/// An attachment that comes.
#[derive(Debug, Clone)]
pub struct NewAttachment {
    /// The attachment.
    pub id: AttachmentId,
    /// Its session.
    pub session: SessionId,
    /// Its name.
    pub filename: String,
    /// What its caller says it is.
    pub mime_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// What its caller says it belongs to.
    pub message: Option<Uuid>,
}

/// What the attachments of one session may be together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentLimits {
    /// So many.
    pub count: usize,
    /// Of so many bytes.
    pub bytes: u64,
}

/// Operations on attachments. They go with their session.
pub trait Attachments: Send + Sync {
    /// Adds one to a session of this tenant that has not ended, under a path of its own.
    /// [`NotFound`](super::StoreError::NotFound) without such a session,
    /// [`Conflict`](super::StoreError::Conflict) if it would be more than may be.
    fn add_attachment<'a>(&'a self, tenant: &'a str, new: NewAttachment, limits: AttachmentLimits) -> Pending<'a, AttachmentRow>;

    /// Those of a session, whoever's, oldest first.
    fn attachments(&self, session: SessionId) -> Pending<'_, Vec<AttachmentRow>>;

    /// One of a session of this tenant, or [`NotFound`](super::StoreError::NotFound).
    fn get_attachment<'a>(&'a self, tenant: &'a str, id: AttachmentId) -> Pending<'a, AttachmentRow>;

    /// Forgets one, whoever's. `false` if there is none.
    fn forget_attachment(&self, id: AttachmentId) -> Pending<'_, bool>;

    /// Notes that these lie in the workspace of their session, from its next event on.
    fn place_attachments(&self, session: SessionId, ids: Vec<AttachmentId>) -> Pending<'_, ()>;

    /// Adds those of a session that is to be made as a copy of another one. Nobody sees them before it is.
    fn copy_attachments(&self, copies: Vec<AttachmentRow>) -> Pending<'_, ()>;

    /// All of all sessions: each with its session.
    fn attachment_ids(&self) -> Pending<'_, Vec<(SessionId, AttachmentId)>>;
}
