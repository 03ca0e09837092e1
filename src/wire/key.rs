//! API keys: secrets with which programs call Ash.

use serde::{Deserialize, Serialize};

use super::{KeyId, Timestamp};

/// A key, as `GET /api/api-keys` lists it. The secret is never shown again.
#[derive(Debug, Clone, Deserialize, Serialize)]
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
}

/// Body of `POST /api/api-keys`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct CreateKey {
    /// At most 255 characters; default `dashboard-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// Answer of `POST /api/api-keys`: the only time that the secret is shown.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct CreatedKey {
    /// The key.
    pub id: KeyId,
    /// The secret: `ash_` and 43 characters of base64url.
    pub key: String,
}

/// `{"keys": […]}`, oldest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct KeyList {
    /// The keys.
    pub keys: Vec<ApiKey>,
}
