//! From SQLite's rows to the store's.

use rusqlite::Row;
use serde_json::Value;

use crate::crypt::env::{EnvOwner, KeptEnv};
use crate::crypt::master::Sealed;
use crate::store::row::{
    AgentRow, CredentialRow, DeployRow, EventRow, KeyRow, LivingRow, MessageRow, PermissionRow, SessionRow, SessionUse, TurnRow,
};
use crate::store::sqlite::StoreError;
use crate::wire::Timestamp;
use crate::wire::session::Status;

/// Reads a column whose text has a type of its own.
pub fn column<T: std::str::FromStr>(row: &Row<'_>, index: usize) -> rusqlite::Result<T>
where
    T::Err: std::fmt::Display,
{
    let text = row.get_ref(index)?.as_str()?;
    text.parse()
        .map_err(|e: T::Err| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, e.to_string().into()))
}

pub fn optional_column<T: std::str::FromStr>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>>
where
    T::Err: std::fmt::Display,
{
    if row.get_ref(index)? == rusqlite::types::ValueRef::Null { Ok(None) } else { column(row, index).map(Some) }
}

pub fn json_column<T: serde::de::DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, e.into()))
}

pub fn optional_json_column<T: serde::de::DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>> {
    if row.get_ref(index)? == rusqlite::types::ValueRef::Null { Ok(None) } else { json_column(row, index).map(Some) }
}

pub fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt(e.to_string()))
}

pub fn agent_row(row: &Row<'_>) -> rusqlite::Result<AgentRow> {
    Ok(AgentRow {
        tenant: row.get(0)?,
        name: row.get(1)?,
        id: column(row, 2)?,
        deploys: row.get(3)?,
        digest: row.get(4)?,
        env: json_column(row, 5)?,
        config: json_column(row, 6)?,
        created_at: Timestamp(row.get(7)?),
        updated_at: Timestamp(row.get(8)?),
    })
}

/// Whose an environment is, and what is kept of it.
pub fn env_row(row: &Row<'_>) -> rusqlite::Result<(EnvOwner, KeptEnv)> {
    let tenant = row.get(1)?;
    let owner = match row.get_ref(0)?.as_str()? {
        "agent" => EnvOwner::Agent { tenant, name: row.get(2)? },
        _ => EnvOwner::Session { tenant, id: column(row, 2)? },
    };
    Ok((owner, json_column(row, 3)?))
}

pub fn deploy_row(row: &Row<'_>) -> rusqlite::Result<DeployRow> {
    Ok(DeployRow { tenant: row.get(0)?, agent: row.get(1)?, digest: row.get(2)?, at: Timestamp(row.get(3)?) })
}

pub fn session_use(row: &Row<'_>) -> rusqlite::Result<SessionUse> {
    Ok(SessionUse {
        id: column(row, 0)?,
        digest: row.get(1)?,
        status: status(row, 2)?,
        is_disowned: row.get(3)?,
        last_active_at: Timestamp(row.get(4)?),
    })
}

pub fn status(row: &Row<'_>, index: usize) -> rusqlite::Result<Status> {
    let status: String = row.get(index)?;
    Ok(serde_json::from_value(Value::String(status)).unwrap_or(Status::Unknown))
}

pub fn session_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        id: column(row, 0)?,
        tenant: row.get(1)?,
        agent: row.get(2)?,
        digest: row.get(3)?,
        status: status(row, 4)?,
        sandbox: column(row, 5)?,
        model: row.get(6)?,
        system_prompt: row.get(7)?,
        extra_env: json_column(row, 8)?,
        config: json_column(row, 9)?,
        parent: optional_column(row, 10)?,
        conversed: row.get(11)?,
        tail: row.get(12)?,
        created_at: Timestamp(row.get(13)?),
        last_active_at: Timestamp(row.get(14)?),
        granted: json_column(row, 15)?,
        sandbox_boot: row.get(16)?,
        heard: optional_column(row, 17)?.map(|incarnation| row.get(18).map(|through| (incarnation, through))).transpose()?,
        prompt_version: row.get(19)?,
    })
}

pub fn living_row(row: &Row<'_>) -> rusqlite::Result<LivingRow> {
    Ok(LivingRow {
        id: column(row, 0)?,
        tenant: row.get(1)?,
        status: status(row, 2)?,
        sandbox: column(row, 3)?,
        tail: row.get(4)?,
        is_up: row.get(5)?,
    })
}

pub fn turn_row(row: &Row<'_>) -> rusqlite::Result<TurnRow> {
    Ok(TurnRow {
        id: column(row, 0)?,
        state: column(row, 1)?,
        kind: row.get(2)?,
        content: row.get(3)?,
        options: json_column(row, 4)?,
        cause: row.get(5)?,
        first_event: row.get(6)?,
        last_event: row.get(7)?,
        created_at: Timestamp(row.get(8)?),
        started_at: row.get::<_, Option<i64>>(9)?.map(Timestamp),
        ended_at: row.get::<_, Option<i64>>(10)?.map(Timestamp),
        idempotency_key: row.get(11)?,
        message_hash: row.get(12)?,
        usage: optional_json_column(row, 13)?,
        jumps: row.get(14)?,
        trace: row.get(15)?,
    })
}

pub fn event_row(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        id: row.get(0)?,
        at: Timestamp(row.get(1)?),
        turn: optional_column(row, 2)?,
        kind: column(row, 3)?,
        data: row.get(4)?,
    })
}

pub fn message_row(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    Ok(MessageRow {
        sequence: row.get(0)?,
        role: row.get(1)?,
        at: Timestamp(row.get(2)?),
        data: row.get(3)?,
        kind: column(row, 4)?,
    })
}

pub fn permission_row(row: &Row<'_>) -> rusqlite::Result<PermissionRow> {
    Ok(PermissionRow {
        id: column(row, 0)?,
        event: row.get(1)?,
        turn: optional_column(row, 2)?,
        at: Timestamp(row.get(3)?),
        request: row.get(4)?,
        resolved: row.get(5)?,
    })
}

pub fn credential_row(row: &Row<'_>) -> rusqlite::Result<CredentialRow> {
    Ok(CredentialRow {
        id: column(row, 0)?,
        tenant: row.get(1)?,
        kind: column(row, 2)?,
        label: row.get(3)?,
        sealed: Sealed { master: row.get(4)?, bytes: row.get(5)? },
        created_at: Timestamp(row.get(6)?),
        last_used_at: row.get::<_, Option<i64>>(7)?.map(Timestamp),
    })
}

pub fn key_row(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        id: column(row, 0)?,
        tenant: row.get(1)?,
        label: row.get(2)?,
        prefix: row.get(3)?,
        hash: row.get(4)?,
        created_at: Timestamp(row.get(5)?),
        scopes: column(row, 6)?,
        agent: row.get(7)?,
        expires_at: row.get::<_, Option<i64>>(8)?.map(Timestamp),
        last_used_at: row.get::<_, Option<i64>>(9)?.map(Timestamp),
    })
}
