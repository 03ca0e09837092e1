//! What confines a session, and what does not.

use serde::{Deserialize, Serialize};

use super::SessionId;

/// Answer of `GET /api/sessions/{id}/security`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SecurityBody {
    /// The session.
    pub session_id: SessionId,
    /// Which sandbox is told of.
    pub of: Of,
    /// Whether every wall stands: all are `ok`, but for those on which nothing depends.
    pub strict: bool,
    /// One for each wall.
    pub walls: Vec<Wall>,
}

/// Which sandbox is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "daemon", schema(as = SecurityOf))]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// The one that has processes now.
    Running,
    /// The one that would be made for the next message.
    Next,
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Something that confines a session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Wall {
    /// What it is.
    pub name: String,
    /// How it stands.
    pub state: WallState,
    /// What it keeps, or what it does not, as a sentence.
    pub detail: String,
}

/// How a wall stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum WallState {
    /// As it should.
    Ok,
    /// Lower than it should.
    Weak,
    /// Not at all.
    Off,
    /// In a way that this version does not know.
    #[serde(other)]
    Unknown,
}

impl WallState {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Weak => "weak",
            Self::Off => "off",
            Self::Unknown => "unknown",
        }
    }
}
