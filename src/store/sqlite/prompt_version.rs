//! Versions of agents' prompts.

use rusqlite::{Connection, Row, params};

use super::rows::{column, optional_json_column, to_json};
use super::{Sqlite, execute, get_agent, rows, rows_within, sqlite_error};
use crate::store::prompt_version::{NewPromptVersion, PromptVersionChange, PromptVersionRow, PromptVersions};
use crate::store::{Pending, StoreError, now, sql};
use crate::wire::prompt_version::VersionRef;
use crate::wire::{PromptVersionId, Timestamp};

/// The column of a row that may be long.
const SYSTEM_PROMPT: usize = 5;

fn version_row(row: &Row<'_>) -> rusqlite::Result<PromptVersionRow> {
    Ok(PromptVersionRow {
        id: column(row, 0)?,
        tenant: row.get(1)?,
        agent: row.get(2)?,
        number: row.get(3)?,
        name: row.get(4)?,
        system_prompt: row.get(SYSTEM_PROMPT)?,
        release_notes: row.get(6)?,
        knowledge_files: optional_json_column(row, 7)?,
        is_active: row.get(8)?,
        created_by: row.get(9)?,
        created_at: Timestamp(row.get(10)?),
        updated_at: Timestamp(row.get(11)?),
    })
}

fn selected(which: &str) -> String {
    format!("select {} from prompt_versions where {which}", sql::PROMPT_VERSION_COLUMNS)
}

/// Of an agent that there is.
fn get(connection: &Connection, tenant: &str, agent: &str, version: VersionRef) -> Result<PromptVersionRow, StoreError> {
    get_agent(connection, tenant, agent)?;
    let mut found = match version {
        VersionRef::Number(number) => {
            rows(connection, &selected(sql::PROMPT_VERSION_WITH_NUMBER), params![tenant, agent, number], version_row)?
        }
        VersionRef::Id(id) => {
            rows(connection, &selected(sql::PROMPT_VERSION_WITH_ID), params![tenant, agent, id.to_string()], version_row)?
        }
    };
    found.pop().ok_or(StoreError::NotFound("version"))
}

fn active(connection: &Connection, tenant: &str, agent: &str) -> Result<Option<PromptVersionRow>, StoreError> {
    Ok(rows(connection, &selected(sql::PROMPT_VERSION_IN_USE), params![tenant, agent], version_row)?.pop())
}

fn execute_on(connection: &Connection, text: &str, version: &PromptVersionRow) -> Result<(), StoreError> {
    execute(connection, text, params![version.tenant, version.id.to_string()]).map(drop)
}

/// An empty text is none.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn name(name: String, number: i64) -> String {
    if name.is_empty() { format!("v{number}") } else { name }
}

impl PromptVersions for Sqlite {
    fn create_prompt_version(&self, new: NewPromptVersion) -> Pending<'_, PromptVersionRow> {
        self.write(move |connection| {
            get_agent(connection, &new.tenant, &new.agent)?;
            let source = new.source.map(|source| get(connection, &new.tenant, &new.agent, source)).transpose()?;
            let (prompt, files) = source.map(|source| (source.system_prompt, source.knowledge_files)).unwrap_or_default();
            let (number, count): (i64, i64) = connection
                .query_row(sql::NEXT_PROMPT_VERSION, params![new.tenant, new.agent], |row| Ok((row.get(0)?, row.get(1)?)))
                .map_err(sqlite_error)?;
            if count >= new.limit {
                return Err(StoreError::Conflict(format!("an agent has at most {} versions", new.limit)));
            }
            let id = PromptVersionId::new();
            let files = new.knowledge_files.or(files).as_ref().map(to_json).transpose()?;
            let values = params![
                id.to_string(),
                new.tenant,
                new.agent,
                number,
                name(new.name, number),
                given(new.system_prompt.or(prompt)),
                given(new.release_notes),
                files,
                new.created_by,
                now().millis(),
            ];
            execute(connection, sql::CREATE_PROMPT_VERSION, values)?;
            get(connection, &new.tenant, &new.agent, VersionRef::Id(id))
        })
    }

    fn prompt_versions<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        below: i64,
        limit: usize,
        bytes: usize,
    ) -> Pending<'a, Vec<PromptVersionRow>> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&selected(sql::PROMPT_VERSIONS)).map_err(sqlite_error)?;
            let found = statement.query(params![tenant, agent, below, limit as i64]);
            found.and_then(|found| rows_within(found, SYSTEM_PROMPT, bytes, version_row)).map_err(sqlite_error)
        })
    }

    fn get_prompt_version<'a>(&'a self, tenant: &'a str, agent: &'a str, version: VersionRef) -> Pending<'a, PromptVersionRow> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.read(move |connection| get(connection, &tenant, &agent, version))
    }

    fn active_prompt_version<'a>(&'a self, tenant: &'a str, agent: &'a str) -> Pending<'a, Option<PromptVersionRow>> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.read(move |connection| active(connection, &tenant, &agent))
    }

    fn change_prompt_version<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        version: VersionRef,
        change: PromptVersionChange,
    ) -> Pending<'a, PromptVersionRow> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.write(move |connection| {
            let before = get(connection, &tenant, &agent, version)?;
            let files = change.knowledge_files.or(before.knowledge_files).as_ref().map(to_json).transpose()?;
            let values = params![
                change.name.map_or(before.name, |new| name(new, before.number)),
                given(change.system_prompt.or(before.system_prompt)),
                given(change.release_notes.or(before.release_notes)),
                files,
                now().millis(),
                tenant,
                before.id.to_string(),
            ];
            execute(connection, sql::CHANGE_PROMPT_VERSION, values)?;
            get(connection, &tenant, &agent, version)
        })
    }

    fn activate_prompt_version<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        version: VersionRef,
        is_active: bool,
    ) -> Pending<'a, PromptVersionRow> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.write(move |connection| {
            let version = get(connection, &tenant, &agent, version)?;
            let other = if is_active { active(connection, &tenant, &agent)? } else { None };
            // First, as there are never two.
            if let Some(ended) = other.as_ref().or((!is_active).then_some(&version)) {
                execute_on(connection, sql::DEACTIVATE_PROMPT_VERSION, ended)?;
            }
            if is_active {
                execute_on(connection, sql::ACTIVATE_PROMPT_VERSION, &version)?;
            }
            Ok(PromptVersionRow { is_active, ..version })
        })
    }

    fn delete_prompt_version<'a>(&'a self, tenant: &'a str, agent: &'a str, version: VersionRef) -> Pending<'a, ()> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.write(move |connection| {
            let version = get(connection, &tenant, &agent, version)?;
            execute_on(connection, sql::DELETE_PROMPT_VERSION, &version)
        })
    }
}
