//! Versions of an agent's prompt: kept in the database alone, beside the versions of its content. New sessions
//! are made with the one that is active.

use super::service::{AgentError, Agents, not_found};
use crate::auth::Principal;
use crate::store::{NewPromptVersion, PromptVersionChange, PromptVersionRow, StoreError};
use crate::wire::prompt_version::{ChangeAgentVersion, CreateAgentVersion, VersionRef};

/// Versions of one agent.
const VERSIONS_MAX: i64 = 1000;
/// In characters.
const NAME_MAX: usize = 255;
/// In bytes, as that of a session.
const PROMPT_MAX: usize = 1_000_000;
/// In characters.
const NOTES_MAX: usize = 10_000;
/// Names of files.
const FILES_MAX: usize = 1000;
/// Bytes of such a name.
const FILE_NAME_MAX: usize = 1024;

impl Agents {
    /// Makes a version of an agent's prompt. It is not active.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotFound`], [`AgentError::Invalid`], [`AgentError::NoSource`],
    /// [`AgentError::PromptVersionsFull`].
    pub async fn create_prompt_version(
        &self,
        caller: &Principal,
        agent: &str,
        new: CreateAgentVersion,
    ) -> Result<PromptVersionRow, AgentError> {
        let source = new.clone_from;
        let PromptVersionChange { name, system_prompt, release_notes, knowledge_files } = checked(ChangeAgentVersion {
            name: new.name,
            system_prompt: new.system_prompt,
            release_notes: new.release_notes,
            knowledge_files: new.knowledge_files,
        })?;
        let new = NewPromptVersion {
            tenant: caller.tenant.clone(),
            agent: agent.to_owned(),
            name: name.unwrap_or_default(),
            system_prompt,
            release_notes,
            knowledge_files,
            source,
            created_by: caller.name.clone(),
            limit: VERSIONS_MAX,
        };
        self.store.create_prompt_version(new).await.map_err(|error| match (error, source) {
            (StoreError::NotFound("version"), Some(source)) => AgentError::NoSource(source),
            (StoreError::Conflict(_), _) => AgentError::PromptVersionsFull(VERSIONS_MAX),
            (error, _) => not_found(error),
        })
    }

    /// A version of an agent's prompt.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotFound`], [`AgentError::NoPromptVersion`].
    pub async fn prompt_version(&self, tenant: &str, agent: &str, version: VersionRef) -> Result<PromptVersionRow, AgentError> {
        self.store.get_prompt_version(tenant, agent, version).await.map_err(no_version)
    }

    /// Changes a version of an agent's prompt. Sessions that were made with it keep what it was.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotFound`], [`AgentError::NoPromptVersion`], [`AgentError::Invalid`].
    pub async fn change_prompt_version(
        &self,
        tenant: &str,
        agent: &str,
        version: VersionRef,
        change: ChangeAgentVersion,
    ) -> Result<PromptVersionRow, AgentError> {
        self.store.change_prompt_version(tenant, agent, version, checked(change)?).await.map_err(no_version)
    }

    /// Has new sessions of an agent made with a version, or with it no more.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotFound`], [`AgentError::NoPromptVersion`].
    pub async fn activate_prompt_version(
        &self,
        tenant: &str,
        agent: &str,
        version: VersionRef,
        active: bool,
    ) -> Result<PromptVersionRow, AgentError> {
        self.store.activate_prompt_version(tenant, agent, version, active).await.map_err(no_version)
    }

    /// Forgets a version of an agent's prompt.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotFound`], [`AgentError::NoPromptVersion`].
    pub async fn delete_prompt_version(&self, tenant: &str, agent: &str, version: VersionRef) -> Result<(), AgentError> {
        self.store.delete_prompt_version(tenant, agent, version).await.map_err(no_version)
    }
}

fn no_version(error: StoreError) -> AgentError {
    match error {
        StoreError::NotFound("version") => AgentError::NoPromptVersion,
        error => not_found(error),
    }
}

fn checked(change: ChangeAgentVersion) -> Result<PromptVersionChange, AgentError> {
    let ChangeAgentVersion { name, system_prompt, release_notes, knowledge_files } = change;
    let is_plain = |text: &str| !text.chars().any(char::is_control);
    let holds = |field: &str, holds: bool, reason: String| match holds {
        true => Ok(()),
        false => Err(AgentError::Invalid { field: field.to_owned(), reason }),
    };
    holds(
        "name",
        name.as_ref().is_none_or(|name| name.chars().count() <= NAME_MAX && is_plain(name)),
        format!("has to be at most {NAME_MAX} characters, none of them a control character"),
    )?;
    holds(
        "systemPrompt",
        system_prompt.as_ref().is_none_or(|prompt| prompt.len() <= PROMPT_MAX),
        format!("has to be at most {PROMPT_MAX} bytes"),
    )?;
    holds(
        "releaseNotes",
        release_notes.as_ref().is_none_or(|notes| notes.chars().count() <= NOTES_MAX),
        format!("has to be at most {NOTES_MAX} characters"),
    )?;
    holds(
        "knowledgeFiles",
        knowledge_files.as_ref().is_none_or(|files| files.len() <= FILES_MAX),
        format!("has to be at most {FILES_MAX} names"),
    )?;
    for (index, file) in knowledge_files.iter().flatten().enumerate() {
        holds(
            &format!("knowledgeFiles[{index}]"),
            (1..=FILE_NAME_MAX).contains(&file.len()) && is_plain(file),
            format!("has to be 1 to {FILE_NAME_MAX} bytes, without control characters"),
        )?;
    }
    Ok(PromptVersionChange { name, system_prompt, release_notes, knowledge_files })
}
