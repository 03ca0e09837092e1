//! Versions of agents' prompts.

use super::Pending;
use crate::wire::prompt_version::VersionRef;
use crate::wire::{PromptVersionId, Timestamp};

/// A version of an agent's prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptVersionRow {
    /// The version.
    pub id: PromptVersionId,
    /// The tenant of its agent.
    pub tenant: String,
    /// Its agent.
    pub agent: String,
    /// Counts from 1 in its agent.
    pub number: i64,
    /// What its maker called it.
    pub name: String,
    /// Takes the place of `CLAUDE.md`.
    pub system_prompt: Option<String>,
    /// What is new in it.
    pub release_notes: Option<String>,
    /// Names of files.
    pub knowledge_files: Option<Vec<String>>,
    /// Whether new sessions are made with it.
    pub is_active: bool,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A version that is to be made.
#[derive(Debug, Clone, Default)]
pub struct NewPromptVersion {
    /// The tenant of its agent.
    pub tenant: String,
    /// Its agent.
    pub agent: String,
    /// Its name; empty: `v<number>`.
    pub name: String,
    /// `None`: as that of `source`.
    pub system_prompt: Option<String>,
    /// What is new in it.
    pub release_notes: Option<String>,
    /// `None`: as those of `source`.
    pub knowledge_files: Option<Vec<String>>,
    /// The version from which it takes what it has not.
    pub source: Option<VersionRef>,
    /// Who makes it.
    pub created_by: String,
    /// So many of its agent there may be.
    pub limit: i64,
}

/// What changes of a version. `None` stays, and an empty text takes one away.
#[derive(Debug, Clone, Default)]
pub struct PromptVersionChange {
    /// Empty: `v<number>`.
    pub name: Option<String>,
    /// Takes the place of `CLAUDE.md`.
    pub system_prompt: Option<String>,
    /// What is new in it.
    pub release_notes: Option<String>,
    /// Names of files.
    pub knowledge_files: Option<Vec<String>>,
}

/// Operations on versions of agents' prompts. They go with their agent.
///
/// Where they do not find one, they say [`NotFound`](super::StoreError::NotFound) of the `agent` or the `version`.
pub trait PromptVersions: Send + Sync {
    /// Makes one, whose number is the highest of its agent plus one. It is not active.
    /// [`Conflict`](super::StoreError::Conflict) if there are as many as there may be.
    fn create_prompt_version(&self, new: NewPromptVersion) -> Pending<'_, PromptVersionRow>;

    /// Those of an agent with a number below this, from the highest: at most `limit` of them, and `bytes` of
    /// prompts, which one may exceed.
    fn prompt_versions<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        below: i64,
        limit: usize,
        bytes: usize,
    ) -> Pending<'a, Vec<PromptVersionRow>>;

    /// One of an agent.
    fn get_prompt_version<'a>(&'a self, tenant: &'a str, agent: &'a str, version: VersionRef) -> Pending<'a, PromptVersionRow>;

    /// That of an agent which is active, if one is.
    fn active_prompt_version<'a>(&'a self, tenant: &'a str, agent: &'a str) -> Pending<'a, Option<PromptVersionRow>>;

    /// Changes one.
    fn change_prompt_version<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        version: VersionRef,
        change: PromptVersionChange,
    ) -> Pending<'a, PromptVersionRow>;

    /// Makes one active and no other of its agent; or, without `active`, sees that it is not. Returns it as it
    /// is then.
    fn activate_prompt_version<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        version: VersionRef,
        active: bool,
    ) -> Pending<'a, PromptVersionRow>;

    /// Forgets one. If it was active, none is.
    fn delete_prompt_version<'a>(&'a self, tenant: &'a str, agent: &'a str, version: VersionRef) -> Pending<'a, ()>;
}
