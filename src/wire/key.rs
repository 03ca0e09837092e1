//! API keys: secrets with which programs call Ash.

use serde::{Deserialize, Serialize};

use super::scope::Scopes;
use super::{KeyId, Timestamp};

/// A key, as `GET /api/api-keys` lists it. The secret is never shown again.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// The key.
    pub id: KeyId,
    /// What its maker called it.
    pub label: String,
    /// The first characters of the secret, then bullets.
    pub key_prefix: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The tenant it speaks for.
    #[serde(default)]
    pub tenant: String,
    /// What it allows.
    #[serde(default)]
    pub scopes: Scopes,
    /// The one agent that it knows; `None`: all of its tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// When it becomes useless by itself; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to the minute; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

/// Body of `POST /api/api-keys`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CreateKey {
    /// At most 255 characters; default `dashboard-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(max_length = 255, default = "dashboard-key"))]
    pub label: Option<String>,
    /// What it allows, not more than the caller may; default: all that the caller may, without
    /// `admin` where [`Self::agent`] is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
    /// The one agent that it knows, which need not exist yet. Not with `admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// When it becomes useless by itself; not after the caller's own key, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The same from now on, such as `30d`; in the place of [`Self::expires_at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// The tenant that it speaks for; over the control socket only. Default: the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// Answer of `POST /api/api-keys`: the only time that the secret is shown.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CreatedKey {
    /// The key.
    pub id: KeyId,
    /// The secret: `ash_` and 43 characters of base64url.
    pub key: String,
}

/// `{"keys": […]}`, oldest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct KeyList {
    /// The keys.
    pub keys: Vec<ApiKey>,
}
