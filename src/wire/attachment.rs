//! Files that callers give to a session.

use serde::{Deserialize, Serialize};

use super::{AttachmentId, FileId, SessionId, Timestamp};

/// What [`Attachment::message_id`] says of one that belongs to no message.
pub const UNLINKED: &str = "unlinked";
/// The folder of the workspace that has them.
pub const FOLDER: &str = "attachments";

/// An attachment, as `GET /api/sessions/{id}/attachments` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The attachment.
    pub id: AttachmentId,
    /// Its session.
    pub session_id: SessionId,
    /// Its name, without folders.
    pub filename: String,
    /// What its caller said it is. Default: `application/octet-stream`.
    pub mime_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it came.
    pub created_at: Timestamp,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// What its caller said it belongs to, or `unlinked`.
    pub message_id: String,
    /// Where it lies in the workspace: `attachments/<filename>`, or `attachments/<name> (2).<ext>` where there
    /// is one of this name already.
    pub path: String,
    /// Whether it lies there already. It does before the next turn, but for want of space on the session's
    /// disk.
    pub placed: bool,
}

/// Body of `POST /api/sessions/{id}/attachments`. Unknown fields are ignored, as existing clients send some.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AttachBody<'a> {
    /// Its name, of which the last part of a path counts. Needed, unless `fileId` names a file that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// What is in it, in base64. Needed, unless `fileId` says it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub content: Option<std::borrow::Cow<'a, str>>,
    /// A file of the tenant (`POST /api/files`) of which it is a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_id: Option<FileId>,
    /// What it is. Default: `application/octet-stream`, or what the file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// A UUID that it is shown with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<String>, format = "uuid"))]
    pub message_id: Option<uuid::Uuid>,
}

/// `{"attachment": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AttachmentBody {
    /// The attachment.
    pub attachment: Attachment,
}

/// `{"attachments": […]}`, oldest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AttachmentList {
    /// The attachments.
    pub attachments: Vec<Attachment>,
}
