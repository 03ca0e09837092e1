//! Credentials: secrets that are kept for sessions, and never shown again.

use serde::{Deserialize, Serialize};

use super::secret::Secret;
use super::{CredentialId, Timestamp};

/// What a credential is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CredentialType {
    /// A key of the model API. It goes to the session's gateway and never into its sandbox.
    Anthropic,
    /// Is in the environment of the session's tools as `OPENAI_API_KEY`.
    Openai,
    /// Access to Amazon Bedrock, as a JSON object. It can be kept, but no session can use it yet.
    Bedrock,
    /// Is in the environment of the session's tools as `ASH_CUSTOM_API_KEY`.
    Custom,
}

impl CredentialType {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Anthropic, Self::Openai, Self::Bedrock, Self::Custom];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
            Self::Bedrock => "bedrock",
            Self::Custom => "custom",
        }
    }
}

impl std::str::FromStr for CredentialType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| "has to be anthropic, openai, bedrock or custom".to_owned())
    }
}

/// A credential without its secret.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// The credential.
    pub id: CredentialId,
    /// What it is for.
    pub r#type: CredentialType,
    /// What its maker called it; may be empty.
    pub label: String,
    /// Always true: one that is not wanted any more is deleted.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a sandbox was last given it; `null` before that.
    pub last_used_at: Option<Timestamp>,
}

/// Body of `POST /api/credentials`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CreateCredential {
    /// What it is for.
    pub r#type: CredentialType,
    /// The secret; for `bedrock` the text of a JSON object.
    pub key: Secret,
    /// At most 255 characters; default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(max_length = 255))]
    pub label: Option<String>,
}

/// Body of `PATCH /api/credentials/{id}`. What is left out stays.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ChangeCredential {
    /// The new secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// The new label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(max_length = 255))]
    pub label: Option<String>,
}

/// `{"credential": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CredentialBody {
    /// The credential.
    pub credential: Credential,
}

/// `{"credentials": […]}`, oldest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CredentialList {
    /// The credentials.
    pub credentials: Vec<Credential>,
}

/// Answer of `POST /api/credentials/reseal`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Resealed {
    /// Names the master key under which all credentials and environments are now, without telling it.
    pub master_key: String,
    /// How many credentials were under another one before.
    pub resealed: usize,
    /// How many environments of agents and sessions were under another one or none; 0 from older servers.
    #[serde(default)]
    pub environments: usize,
    /// How many secrets of webhooks were under another one; 0 from older servers.
    #[serde(default)]
    pub webhooks: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_one_name() {
        for kind in CredentialType::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).expect("writes"), kind.as_str());
        }
        assert!("Anthropic".parse::<CredentialType>().is_err());
    }
}
