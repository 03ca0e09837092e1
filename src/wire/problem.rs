//! The one error body.

use serde::{Deserialize, Serialize};

/// Every answer with a status of 400 and above has this body.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A sentence for people.
    pub error: String,
    /// The HTTP status again.
    pub status_code: u16,
    /// A word for programs.
    #[serde(default)]
    pub code: Code,
    /// The request, as the daemon's journal names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Which fields are at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
}

/// A field at fault.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "daemon", schema(as = ProblemDetail))]
pub struct Detail {
    /// The field, such as `files[3].path`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What kind of problem it is. The list is closed: programs may match on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "daemon", schema(as = ProblemCode))]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request can not be read, or a field of it is wrong (400).
    InvalidRequest,
    /// No key, or not a good one (401).
    Unauthorized,
    /// Known, but not allowed (403).
    Forbidden,
    /// There is no such thing, or it is not the caller's to know (404).
    NotFound,
    /// The path is good, the method is not (405).
    MethodNotAllowed,
    /// The state of the thing forbids it (409, and 400 where the contract says so).
    Conflict,
    /// It is over for good (410).
    Gone,
    /// Too large (413).
    TooLarge,
    /// Not a content type that this route takes (415).
    UnsupportedMediaType,
    /// Well formed, but it can not be done (422).
    Unprocessable,
    /// Too many requests (429).
    RateLimited,
    /// No room or no dependency right now; try again (503).
    Unavailable,
    /// A fault in Ash or on its host; the journal has the details under the request id (500).
    #[default]
    Internal,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}
