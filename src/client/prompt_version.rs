//! Versions of an agent's prompt.

use hyper::Method;

use super::{Answer, Client, ClientError, Done, Path, segment};
use crate::wire::prompt_version::{
    ActivatedBody, AgentVersionBody, AgentVersionList, ChangeAgentVersion, CreateAgentVersion, DeactivatedBody, VersionRef,
};

fn all(agent: &str) -> String {
    format!("/api/agents/{}/versions", segment(agent))
}

fn one(agent: &str, version: VersionRef) -> String {
    format!("{}/{version}", all(agent))
}

impl Client {
    /// `GET /api/agents/{name}/versions`: the newest first, at most `limit`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn agent_versions(&self, agent: &str, limit: Option<u32>) -> Result<Answer<AgentVersionList>, ClientError> {
        self.get(&Path::new(all(agent)).with("limit", limit).0).await
    }

    /// `POST /api/agents/{name}/versions`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn create_agent_version(
        &self,
        agent: &str,
        body: &CreateAgentVersion,
    ) -> Result<Answer<AgentVersionBody>, ClientError> {
        self.send(Method::POST, &all(agent), body).await
    }

    /// `GET /api/agents/{name}/versions/{version}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn agent_version(&self, agent: &str, version: VersionRef) -> Result<Answer<AgentVersionBody>, ClientError> {
        self.get(&one(agent, version)).await
    }

    /// `PATCH /api/agents/{name}/versions/{version}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn change_agent_version(
        &self,
        agent: &str,
        version: VersionRef,
        body: &ChangeAgentVersion,
    ) -> Result<Answer<AgentVersionBody>, ClientError> {
        self.send(Method::PATCH, &one(agent, version), body).await
    }

    /// `DELETE /api/agents/{name}/versions/{version}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn delete_agent_version(&self, agent: &str, version: VersionRef) -> Result<Answer<Done>, ClientError> {
        self.call(Method::DELETE, &one(agent, version), None).await
    }

    /// `POST /api/agents/{name}/versions/{version}/activate`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn activate_agent_version(&self, agent: &str, version: VersionRef) -> Result<Answer<ActivatedBody>, ClientError> {
        self.call(Method::POST, &format!("{}/activate", one(agent, version)), None).await
    }

    /// `POST /api/agents/{name}/versions/{version}/deactivate`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn deactivate_agent_version(
        &self,
        agent: &str,
        version: VersionRef,
    ) -> Result<Answer<DeactivatedBody>, ClientError> {
        self.call(Method::POST, &format!("{}/deactivate", one(agent, version)), None).await
    }
}
