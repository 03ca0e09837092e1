//! Files of a tenant that are of no session.

use serde::{Deserialize, Serialize};

use super::{FileId, Timestamp};

/// How long a file is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub enum Ttl {
    /// An hour.
    #[serde(rename = "1h")]
    Hour,
    /// A day.
    #[serde(rename = "24h")]
    Day,
    /// A week.
    #[serde(rename = "7d")]
    Week,
    /// Thirty days.
    #[serde(rename = "30d")]
    Month,
    /// Until it is deleted.
    #[default]
    #[serde(rename = "permanent")]
    Permanent,
}

impl Ttl {
    /// Those that there are.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Permanent];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
            Self::Permanent => "permanent",
        }
    }

    /// Seconds; `None`: without end.
    pub const fn seconds(self) -> Option<i64> {
        match self {
            Self::Hour => Some(3600),
            Self::Day => Some(86_400),
            Self::Week => Some(7 * 86_400),
            Self::Month => Some(30 * 86_400),
            Self::Permanent => None,
        }
    }
}

/// A text that names no [`Ttl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("has to be 1h, 24h, 7d, 30d or permanent")]
pub struct TtlError;

impl std::str::FromStr for Ttl {
    type Err = TtlError;

    fn from_str(text: &str) -> Result<Self, TtlError> {
        Self::ALL.into_iter().find(|ttl| ttl.as_str() == text).ok_or(TtlError)
    }
}

/// A file, as `GET /api/files` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProjectFile {
    /// The file.
    pub id: FileId,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// Its name, without folders.
    pub filename: String,
    /// Where it is kept, below the state folder.
    pub storage_path: String,
    /// What its caller said it is. Default: `application/octet-stream`.
    pub mime_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// How long it is kept.
    pub ttl: Ttl,
    /// Until when; `null`: until it is deleted.
    pub expires_at: Option<Timestamp>,
    /// When it came.
    pub created_at: Timestamp,
}

/// Body of `POST /api/files`. Unknown fields are ignored, as existing clients send some.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct UploadFile<'a> {
    /// Its name, of which the last part of a path counts.
    pub filename: String,
    /// What is in it, in base64.
    #[serde(borrow)]
    pub content: std::borrow::Cow<'a, str>,
    /// What it is. Default: `application/octet-stream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// How long it is kept. Default: `permanent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Ttl>,
}

/// `{"file": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ProjectFileBody {
    /// The file.
    pub file: ProjectFile,
}

/// `{"files": […]}`, newest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ProjectFileList {
    /// The files.
    pub files: Vec<ProjectFile>,
}

/// Where a file can be read without a key: answer of `GET /api/files/{id}/url`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct FileLink {
    /// The link.
    pub url: String,
    /// Until when it is good.
    pub expires_at: Timestamp,
}
