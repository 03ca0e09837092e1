//! Agents by name: which version each one is at, and how it comes to a new one.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::name::check_env;
use super::{AgentName, ContentError, Digest, Version, Versions, decode_files};
use crate::auth::Principal;
use crate::credential::Credentials;
use crate::crypt::env::{EnvOwner, KeptEnv};
use crate::crypt::master::SealError;
use crate::store::{AgentRow, Store, StoreError};
use crate::wire::agent::{Agent, DeployBody};
use crate::wire::prompt_version::VersionRef;

/// The file that makes a folder an agent.
const PROMPT: &str = "CLAUDE.md";

/// Why an agent was not deployed or found.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is no such agent for this tenant.
    #[error("Agent not found")]
    NotFound,
    /// What was sent is no good agent, or could not be stored.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// Server paths are not open, or not to this caller.
    #[error("path: {0}; upload the files instead")]
    PathRefused(&'static str),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// Its version is not on this host.
    #[error("Agent directory not found on disk")]
    NoFolder,
    /// No file was named.
    #[error("File path required")]
    NoPath,
    /// No file can have this path.
    #[error("Invalid file path")]
    Path,
    /// A file to write has a path that leads out.
    #[error("Path \"{0}\" escapes agent directory")]
    Escapes(String),
    /// There is no such file.
    #[error("File not found")]
    NoFile,
    /// It is a folder or a link.
    #[error("Path is not a file")]
    NotFile,
    /// It is larger than is sent like this.
    #[error("File too large ({size} bytes, max {max})")]
    FileTooLarge {
        /// Its size.
        size: u64,
        /// The most that is sent.
        max: u64,
    },
    /// A field is wrong.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The agent has no such prompt version.
    #[error("Version not found")]
    NoPromptVersion,
    /// The agent has no such prompt version that another one could be made of.
    #[error("Source version {0} not found")]
    NoSource(VersionRef),
    /// The agent has as many prompt versions as it may have.
    #[error("The agent has {0} versions, the most that one may have; delete some")]
    PromptVersionsFull(i64),
    /// Its environment can not be kept.
    #[error("seal the agent's environment")]
    Seal(#[from] SealError),
    /// The work on the files was broken off.
    #[error("deploy")]
    Broken(#[from] tokio::task::JoinError),
}

/// Which folders of this host may be deployed by their path.
#[derive(Debug, Clone, Default)]
pub struct PathRules {
    /// Folders below which a path may lie.
    pub roots: Vec<PathBuf>,
    /// Whether callers over TCP may use them.
    pub remote: bool,
    /// Relative paths begin here.
    pub base: PathBuf,
}

/// All agents.
#[derive(Debug, Clone)]
pub struct Agents {
    pub(super) store: Arc<dyn Store>,
    pub(super) versions: Arc<Versions>,
    credentials: Credentials,
    rules: Arc<PathRules>,
    /// Who makes a version out of another one goes alone, so that none of two changes is lost.
    pub(super) changing: Arc<Semaphore>,
}

impl Agents {
    /// Agents with their rows in `store` and their files in `versions`, their environments sealed by `credentials`.
    pub fn new(store: Arc<dyn Store>, versions: Arc<Versions>, credentials: Credentials, rules: PathRules) -> Self {
        Self { store, versions, credentials, rules: Arc::new(rules), changing: Arc::new(Semaphore::new(1)) }
    }

    /// Deploys what a JSON body holds: a path of this host, files, or a prompt alone.
    pub async fn deploy(&self, caller: &Principal, body: DeployBody) -> Result<AgentRow, AgentError> {
        let name = checked(&body.name)?;
        body.env.as_ref().map_or(Ok(()), |env| check_env("env", env)).map_err(ContentError::from)?;
        let version = if let Some(path) = &body.path {
            let (folder, rules) = (self.allowed_folder(caller, path)?, self.rules.clone());
            self.blocking(move |versions| versions.deploy_folder(&folder, &rules.roots)).await?
        } else if let Some(files) = body.files {
            let prompt = body.system_prompt.unwrap_or_else(|| placeholder(&name));
            self.blocking(move |versions| versions.deploy_files(with_prompt(decode_files(&files)?, prompt))).await?
        } else {
            let previous = match self.store.get_agent(&caller.tenant, name.as_str()).await {
                Ok(agent) => agent.digest.parse().ok(),
                Err(StoreError::NotFound(_)) => None,
                Err(error) => return Err(error.into()),
            };
            let prompt = body.system_prompt.unwrap_or_else(|| placeholder(&name));
            self.blocking(move |versions| versions.deploy_prompt(previous.as_ref(), &prompt)).await?
        };
        let env = self.kept(&caller.tenant, name.as_str(), body.env)?;
        Ok(self.store.deploy_agent(&caller.tenant, name.as_str(), &version.digest().to_string(), env).await?)
    }

    /// Deploys a tar archive as it streams in.
    pub async fn deploy_archive(
        &self,
        caller: &Principal,
        name: &str,
        archive: impl Read + Send + 'static,
    ) -> Result<AgentRow, AgentError> {
        let name = checked(name)?;
        let version = self.blocking(move |versions| versions.deploy_tar(archive)).await?;
        Ok(self.store.deploy_agent(&caller.tenant, name.as_str(), &version.digest().to_string(), None).await?)
    }

    /// An agent.
    pub async fn get(&self, tenant: &str, name: &str) -> Result<AgentRow, AgentError> {
        self.store.get_agent(tenant, name).await.map_err(not_found)
    }

    /// Changes environment and free-form configuration.
    pub async fn patch(
        &self,
        tenant: &str,
        name: &str,
        env: Option<BTreeMap<String, String>>,
        config: Option<Map<String, Value>>,
    ) -> Result<AgentRow, AgentError> {
        let env = self.kept(tenant, name, env)?;
        match self.store.patch_agent(tenant, name, env, config).await {
            Err(StoreError::Conflict(reason)) => Err(AgentError::Invalid { field: "config".to_owned(), reason }),
            row => row.map_err(not_found),
        }
    }

    /// Forgets an agent.
    pub async fn delete(&self, tenant: &str, name: &str) -> Result<(), AgentError> {
        self.store.delete_agent(tenant, name).await.map_err(not_found)
    }

    /// An agent as clients see it.
    pub fn shown(&self, row: AgentRow) -> Agent {
        Agent {
            id: row.id.to_string(),
            name: row.name,
            version: row.deploys,
            path: row
                .digest
                .parse::<Digest>()
                .map_or_else(|_| String::new(), |digest| self.versions.path_of(&digest).display().to_string()),
            digest: row.digest,
            created_at: row.created_at,
            updated_at: row.updated_at,
            tenant_id: row.tenant,
            env: row.env.names().into_iter().map(|name| (name.to_owned(), "***".to_owned())).collect(),
        }
    }

    /// Variables as they are kept for an agent.
    fn kept(&self, tenant: &str, name: &str, env: Option<BTreeMap<String, String>>) -> Result<Option<KeptEnv>, SealError> {
        let owner = EnvOwner::Agent { tenant: tenant.to_owned(), name: name.to_owned() };
        env.map(|env| self.credentials.seal_env(&owner, env)).transpose()
    }

    async fn blocking(
        &self,
        run: impl FnOnce(&Versions) -> Result<Version, ContentError> + Send + 'static,
    ) -> Result<Version, AgentError> {
        let versions = self.versions.clone();
        Ok(tokio::task::spawn_blocking(move || run(&versions)).await??)
    }

    fn allowed_folder(&self, caller: &Principal, path: &str) -> Result<PathBuf, AgentError> {
        if !caller.local && !self.rules.remote {
            return Err(AgentError::PathRefused(
                "callers over the network may not name folders of the server (agents.remote_paths)",
            ));
        }
        if self.rules.roots.is_empty() {
            return Err(AgentError::PathRefused("no folder of the server is open to deploys (agents.path_roots)"));
        }
        Ok(self.rules.base.join(path))
    }
}

fn checked(name: &str) -> Result<AgentName, ContentError> {
    Ok(name.parse()?)
}

pub(super) fn not_found(error: StoreError) -> AgentError {
    match error {
        StoreError::NotFound(_) => AgentError::NotFound,
        error => error.into(),
    }
}

fn placeholder(name: &AgentName) -> String {
    format!("# {name}\n")
}

fn with_prompt(mut files: Vec<(String, Vec<u8>)>, prompt: String) -> Vec<(String, Vec<u8>)> {
    if !files.iter().any(|(path, _)| path.trim_start_matches("./") == PROMPT) {
        files.push((PROMPT.to_owned(), prompt.into_bytes()));
    }
    files
}
