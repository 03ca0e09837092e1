//! Versions of an agent's prompt. The wire contract calls them versions of the agent; they are not the
//! content that is deployed, which a digest names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PromptVersionId, Timestamp};

/// A version, as `GET /api/agents/{name}/versions/{version}` shows it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentVersion {
    /// The version.
    pub id: PromptVersionId,
    /// Its agent.
    pub agent_name: String,
    /// The highest of its agent when it was made, plus one.
    pub version_number: i64,
    /// What its maker called it; `v<number>` where it was not called anything.
    pub name: String,
    /// Whether new sessions are made with it. One of an agent at most is.
    pub is_active: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// Takes the place of `CLAUDE.md`; `null`: that stays.
    pub system_prompt: Option<String>,
    /// What is new in it.
    pub release_notes: Option<String>,
    /// Names of files that belong to it; Ash does nothing with them.
    pub knowledge_files: Option<Vec<String>>,
    /// Who made it: `uid:1000` or `key:<id>`.
    pub created_by: Option<String>,
}

/// Body of `POST /api/agents/{name}/versions`. Unknown fields are ignored, as existing clients send some.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct CreateAgentVersion {
    /// At most 255 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// At most 1 000 000 bytes; empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// At most 10 000 characters; empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_notes: Option<String>,
    /// At most 1000 names of 1 to 1024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knowledge_files: Option<Vec<String>>,
    /// The version from which `systemPrompt` and `knowledgeFiles` are taken where they are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_from: Option<VersionRef>,
}

/// Body of `PATCH /api/agents/{name}/versions/{version}`. What is left out or `null` stays; an empty text
/// takes one away.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChangeAgentVersion {
    /// As in [`CreateAgentVersion`]; empty: `v<number>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As in [`CreateAgentVersion`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// As in [`CreateAgentVersion`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_notes: Option<String>,
    /// As in [`CreateAgentVersion`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knowledge_files: Option<Vec<String>>,
}

/// `{"version": …}`, and its fields beside it: clients of the contract read one or the other.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AgentVersionBody {
    /// The version.
    pub version: AgentVersion,
    /// The same.
    #[serde(flatten)]
    pub fields: AgentVersion,
}

impl From<AgentVersion> for AgentVersionBody {
    fn from(version: AgentVersion) -> Self {
        Self { fields: version.clone(), version }
    }
}

/// `{"versions": […]}`, the newest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AgentVersionList {
    /// The versions.
    pub versions: Vec<AgentVersion>,
}

/// Answer of `POST /api/agents/{name}/versions/{version}/activate`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ActivatedBody {
    /// Always true.
    pub activated: bool,
    /// Its number.
    pub version_number: i64,
}

/// Answer of `POST /api/agents/{name}/versions/{version}/deactivate`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DeactivatedBody {
    /// Always true, also where it was not active.
    pub deactivated: bool,
    /// Its number.
    pub version_number: i64,
}

/// Names a version of an agent, by its number or its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Name", into = "Name")]
pub enum VersionRef {
    /// Its number.
    Number(i64),
    /// Its id.
    Id(PromptVersionId),
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Name {
    Number(i64),
    Text(String),
}

impl TryFrom<Name> for VersionRef {
    type Error = String;

    fn try_from(name: Name) -> Result<Self, String> {
        match name {
            Name::Number(number) => Ok(Self::Number(number)),
            Name::Text(text) => text.parse(),
        }
    }
}

impl From<VersionRef> for Name {
    fn from(version: VersionRef) -> Self {
        match version {
            VersionRef::Number(number) => Self::Number(number),
            VersionRef::Id(id) => Self::Text(id.to_string()),
        }
    }
}

impl FromStr for VersionRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        let id = Uuid::try_parse(text).map(PromptVersionId::from_uuid).map(Self::Id);
        id.map_err(|_| "has to be the number or the id of a version".to_owned())
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_is_named_by_number_or_id() {
        let id = PromptVersionId::new();
        for (json, named) in [
            (json!(3), VersionRef::Number(3)),
            (json!("3"), VersionRef::Number(3)),
            (json!(id), VersionRef::Id(id)),
            (json!(id.to_string().to_uppercase()), VersionRef::Id(id)),
        ] {
            assert_eq!(serde_json::from_value::<VersionRef>(json).expect("names one"), named);
        }
        assert_eq!(serde_json::to_value(VersionRef::Number(3)).expect("writes"), json!(3));
        for json in [json!("three"), json!(1.5), json!(""), json!(null)] {
            assert!(serde_json::from_value::<VersionRef>(json.clone()).is_err(), "{json}");
        }
    }
}
