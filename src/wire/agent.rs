//! Agents: folders that can be run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// An agent, as `GET /api/agents/{name}` shows it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// UUID, the same over all deploys.
    #[cfg_attr(feature = "daemon", schema(format = "uuid"))]
    pub id: String,
    /// 1 to 255 of `a-zA-Z0-9_-`.
    pub name: String,
    /// Counts deploys from 1, also deploys of the same bytes.
    pub version: i64,
    /// The folder on the server that holds the newest version.
    pub path: String,
    /// Names the newest version by its content: `sha256:` and 64 hex digits. The same bytes have
    /// the same digest.
    pub digest: String,
    /// First deploy.
    pub created_at: Timestamp,
    /// Newest deploy or change.
    pub updated_at: Timestamp,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// Names of the environment variables; the values are always `***`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Body of `POST /api/agents`. Unknown fields are ignored, as existing clients send some.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DeployBody {
    /// The agent's name.
    #[cfg_attr(feature = "daemon", schema(min_length = 1, max_length = 255, pattern = "^[A-Za-z0-9_-]+$"))]
    pub name: String,
    /// A folder on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(max_length = 4096))]
    pub path: Option<String>,
    /// Text for `CLAUDE.md`, unless `files` has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(max_length = 1_000_000))]
    pub system_prompt: Option<String>,
    /// The whole content of the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<FileBody>>,
    /// Environment for its sessions; kept from the deploy before when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
}

/// A file within a JSON body.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "daemon", schema(as = NewFile))]
pub struct FileBody {
    /// Relative to the folder.
    #[cfg_attr(feature = "daemon", schema(min_length = 1, max_length = 1024))]
    pub path: String,
    /// Base64.
    #[cfg_attr(feature = "daemon", schema(content_encoding = "base64"))]
    pub content: String,
}

/// Body of `PATCH /api/agents/{name}`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AgentPatch {
    /// The new environment; `{}` clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Merged into the agent's free-form configuration, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
}

/// `{"agent": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AgentBody {
    /// The agent.
    pub agent: Agent,
}

/// `{"agents": […]}`, sorted by name.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AgentList {
    /// The agents.
    pub agents: Vec<Agent>,
}

/// A file of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentFile {
    /// Relative to the folder.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// When this version of it came to the server.
    pub modified_at: Timestamp,
}

/// Answer of `GET /api/agents/{name}/files`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AgentFileList {
    /// The files, by path.
    pub files: Vec<AgentFile>,
}

/// Body of `POST /api/agents/{name}/files`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AgentFilesBody {
    /// Files that are put in or over those that are there.
    pub files: Vec<FileBody>,
}
