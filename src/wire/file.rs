//! Single files of a workspace: `/api/sessions/{id}/files`.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A file of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceFile {
    /// Its path in the workspace. What is not UTF-8 in it is replaced.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed.
    pub modified_at: Timestamp,
    /// The bytes of a path that is not UTF-8, in base64. Such a file is had by the bundle of the workspace only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
}

/// Answer of `GET /api/sessions/{id}/files`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct FileList {
    /// The files, at most 100 000.
    pub files: Vec<WorkspaceFile>,
    /// Where they are: `sandbox` or `snapshot`.
    pub source: String,
    /// Whether there are more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// Answer of `GET /api/sessions/{id}/files/{path}?format=json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct FileBody {
    /// Its path in the workspace.
    pub path: String,
    /// What is in it. What is not UTF-8 is replaced.
    pub content: String,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is: `sandbox` or `snapshot`.
    pub source: String,
}

/// What became of a file that was to be written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct WrittenFile {
    /// Its path, as it was named.
    pub path: String,
    /// Whether it was written.
    pub written: bool,
    /// Its size in bytes, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Answer of `POST /api/sessions/{id}/files`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct WrittenList {
    /// The files, in the order of the request.
    pub files: Vec<WrittenFile>,
}

/// Answer of `DELETE /api/sessions/{id}/files/{path}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct DeletedFile {
    /// Its path.
    pub path: String,
    /// Always true.
    pub deleted: bool,
}
