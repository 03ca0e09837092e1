//! The log: events and the state they imply.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::rows::{optional_column, optional_json_column, to_json};
use super::usage::{bill_leftover, bill_turn};
use super::{execute, rows, sqlite_error};
use crate::link::shim::{EndState, TurnEnd};
use crate::store::row::{NewEvent, SessionRow, message_role};
use crate::store::{Advance, Advanced, StoreError, sql};
use crate::wire::event::Kind;
use crate::wire::usage::{Leftover, Usage};
use crate::wire::webhook::WebhookEvent;
use crate::wire::{PermissionId, SessionId, Timestamp, TurnId};

/// What a look at a turn costs, in deltas that are removed: many turns have none.
const TURN: usize = 10;

/// The tenant of sessions that are being removed.
const NOBODY: &str = "";

/// A session's row as [`advance`] needs it.
struct Head {
    status: String,
    tail: i64,
    messages: i64,
    incarnation: Option<Uuid>,
    stored_through: i64,
}

fn head(row: &Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head {
        status: row.get(0)?,
        tail: row.get(1)?,
        messages: row.get(2)?,
        incarnation: optional_column(row, 3)?,
        stored_through: row.get(4)?,
    })
}

/// Whether the turn was not over before.
fn end_turn(connection: &Connection, session: &str, turn: TurnId, event: &NewEvent, id: i64) -> Result<bool, StoreError> {
    let end: TurnEnd = serde_json::from_str(&event.data).map_err(|e| StoreError::Conflict(format!("end of turn {turn}: {e}")))?;
    let state = match end.state {
        EndState::Completed => "completed",
        EndState::Failed => "failed",
        EndState::Interrupted => "interrupted",
        EndState::Cancelled => "cancelled",
    };
    let usage = end.usage.as_ref().map(to_json).transpose()?;
    let values = params![state, end.cause, id, event.at.millis(), usage, turn.to_string(), session];
    Ok(execute(connection, sql::END_TURN, values)? > 0)
}

/// Makes a session.
pub fn create_session(connection: &Connection, session: &SessionRow) -> Result<(), StoreError> {
    let (extra_env, config) = (to_json(&session.extra_env)?, to_json(&session.config)?);
    let values = params![
        session.id.to_string(),
        session.tenant,
        session.agent,
        session.digest,
        session.status.as_str(),
        session.sandbox.to_string(),
        session.model,
        session.system_prompt,
        extra_env,
        config,
        session.parent.map(|parent| parent.to_string()),
        session.created_at.millis(),
        session.prompt_version,
    ];
    execute(connection, sql::CREATE_SESSION, values).map(drop)
}

/// Makes a session that goes on where another one was.
pub fn fork_session(connection: &Connection, child: &SessionRow, parent: SessionId, event: i64) -> Result<(), StoreError> {
    let (id, parent) = (child.id.to_string(), parent.to_string());
    is_of(connection, &parent, &child.tenant)?;
    create_session(connection, child)?;
    execute(connection, sql::FORK_EVENTS, params![id, parent, event])?;
    execute(connection, sql::FORK_MESSAGES, params![id, parent, event])?;
    execute(connection, sql::FORK_WEBHOOKS, params![id, event, child.tenant])?;
    execute(connection, sql::FORK_HEAD, params![event, child.conversed, to_json(&child.granted)?, id]).map(drop)
}

/// Makes sure that there is a session, and that it belongs to this tenant.
fn is_of(connection: &Connection, session: &str, tenant: &str) -> Result<(), StoreError> {
    let is_so = |row: &Row<'_>| row.get::<_, bool>(0);
    let found = rows(connection, sql::SESSION_IS_OF, params![session, tenant], is_so)?;
    if found == [true] { Ok(()) } else { Err(StoreError::NotFound("session")) }
}

/// Removes at most about `limit` rows of a session that belongs to nobody, and `bytes` of what they say,
/// which one row may exceed. Says whether there are more.
pub fn remove_session(connection: &Connection, id: SessionId, limit: usize, bytes: u64) -> Result<bool, StoreError> {
    let (session, mut room, mut bytes) = (id.to_string(), limit, bytes);
    is_of(connection, &session, NOBODY)?;
    let mut removed = 0;
    for (sizes, remove) in sql::REMOVE_SOME {
        let limit = i64::try_from(room).unwrap_or(i64::MAX);
        let size = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
        let found = rows(connection, sizes, params![session, limit], size)?;
        let mut last = None;
        for (place, size) in &found {
            if *size > bytes && removed > 0 {
                break;
            }
            bytes = bytes.saturating_sub(*size);
            (last, removed, room) = (Some(*place), removed + 1, room - 1);
        }
        if let Some(last) = last {
            execute(connection, remove, params![session, last])?;
        }
        if room == 0 || last != found.last().map(|(place, _)| *place) {
            return Ok(true);
        }
    }
    execute(connection, sql::FORGET_WEBHOOK_CURSORS, params![session])?;
    execute(connection, sql::FORGET_WEBHOOK_DELIVERIES, params![session])?;
    execute(connection, sql::REMOVE_DISOWNED, params![session]).map(|_| false)
}

/// The request that an event is about.
fn permission_id(event: &NewEvent) -> Result<String, StoreError> {
    #[derive(serde::Deserialize)]
    struct Named {
        id: PermissionId,
    }
    let named: Named = serde_json::from_str(&event.data).map_err(|e| StoreError::Conflict(format!("{}: {e}", event.kind)))?;
    Ok(named.id.to_string())
}

/// Those turns of these events that were over before.
fn over(connection: &Connection, session: &str, events: &[NewEvent]) -> Result<HashSet<TurnId>, StoreError> {
    let mut over = HashSet::new();
    let turns: HashSet<TurnId> = events.iter().filter_map(|event| event.turn).collect();
    for turn in turns {
        let is_over = |row: &Row<'_>| row.get::<_, bool>(0);
        if rows(connection, sql::TURN_IS_OVER, params![session, turn.to_string()], is_over)? == [true] {
            over.insert(turn);
        }
    }
    Ok(over)
}

/// Whether there is anything to append. What is over already ends once.
fn takes_effect(connection: &Connection, session: &str, event: &NewEvent, id: i64) -> Result<bool, StoreError> {
    match (&event.kind, event.turn) {
        (Kind::TurnEnded, Some(turn)) => end_turn(connection, session, turn, event, id),
        (Kind::PermissionResolved, _) => {
            let values = params![event.data, session, permission_id(event)?];
            Ok(execute(connection, sql::RESOLVE_PERMISSION, values)? > 0)
        }
        _ => Ok(true),
    }
}

/// Puts calls of models that are on no bill on that of the last turn which is over and has one, or
/// else of the last that is over.
fn add_leftover(connection: &Connection, session: &str, data: &str) -> Result<(), StoreError> {
    let Ok(leftover) = serde_json::from_str::<Leftover>(data) else { return Ok(()) };
    let bill = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, optional_json_column::<Usage>(row, 1)?));
    let Some((turn, usage)) = rows(connection, sql::LAST_BILL, params![session], bill)?.pop() else {
        // What the session has spent counts it from the event itself (`sql::UNBILLED`).
        return Ok(());
    };
    let mut usage = usage.unwrap_or_default();
    usage.add(leftover);
    execute(connection, sql::SET_BILL, params![to_json(&usage)?, turn, session]).map(drop)
}

/// Appends events and stores the state that they imply.
pub fn advance(connection: &Connection, id: SessionId, advance: Advance) -> Result<Advanced, StoreError> {
    let session = id.to_string();
    let mut statement = connection.prepare_cached(sql::HEAD_OF_SESSION).map_err(sqlite_error)?;
    let mut head =
        statement.query_row(params![session], head).optional().map_err(sqlite_error)?.ok_or(StoreError::NotFound("session"))?;
    let before = head.tail;

    if let Some((incarnation, through)) = advance.skipped {
        let known = if head.incarnation == Some(incarnation) { head.stored_through } else { 0 };
        (head.incarnation, head.stored_through) = (Some(incarnation), known.max(through));
    }
    let mut events = Vec::new();
    if let Some(batch) = advance.shim {
        if head.incarnation != Some(batch.incarnation) {
            (head.incarnation, head.stored_through) = (Some(batch.incarnation), 0);
        }
        let first = batch.first as i64;
        if first > head.stored_through + 1 {
            let gap = format!("events {} to {} of the sandbox are missing", head.stored_through + 1, first - 1);
            return Err(StoreError::Conflict(gap));
        }
        let known = head.stored_through + 1 - first;
        head.stored_through = head.stored_through.max(first + batch.events.len() as i64 - 1);
        events.extend(batch.events.into_iter().skip(known as usize));
    }
    events.extend(advance.events);

    let over = over(connection, &session, &events)?;
    let (mut newest, mut is_told) = (0, false);
    for event in &events {
        newest = newest.max(event.at.millis());
        if !takes_effect(connection, &session, event, head.tail + 1)? {
            continue;
        }
        head.tail += 1;
        is_told |= WebhookEvent::of(&event.kind, &event.data).is_some();
        // What comes after the end of its turn (from the spool of a shim that died, when no other
        // came up in time) is of the session, and of that turn no more.
        let ended = event.turn.filter(|_| event.kind != Kind::TurnEnded).filter(|turn| over.contains(turn));
        let turn = event.turn.filter(|_| ended.is_none()).map(|turn| turn.to_string());
        execute(
            connection,
            sql::APPEND_EVENT,
            params![session, head.tail, turn, event.kind.to_string(), event.at.millis(), event.data],
        )?;
        if let Some(role) = message_role(&event.kind, &event.data) {
            head.messages += 1;
            execute(connection, sql::APPEND_MESSAGE, params![session, head.messages, head.tail, role])?;
        }
        match (&event.kind, event.turn) {
            (Kind::TurnQueued, Some(turn)) => {
                let new = advance.queued.iter().find(|new| new.id == turn);
                let new = new.ok_or_else(|| StoreError::Conflict(format!("turn {turn} is queued without its message")))?;
                let options = to_json(&new.options)?;
                let (key, hash) = new.key.as_ref().map(|key| (&key.key, &key.message[..])).unzip();
                let jumps = if new.jumps { head.tail } else { 0 };
                let id = turn.to_string();
                let values =
                    params![id, session, new.content, options, head.tail, event.at.millis(), key, hash, jumps, new.trace];
                execute(connection, sql::QUEUE_TURN, values)?;
            }
            (Kind::TurnStarted, Some(turn)) => {
                let started = execute(connection, sql::START_TURN, params![event.at.millis(), turn.to_string(), session])?;
                if started == 0 {
                    execute(connection, sql::ADD_RUNTIME_TURN, params![turn.to_string(), session, head.tail, event.at.millis()])?;
                }
            }
            (Kind::PermissionRequest, turn) => {
                let turn = turn.map(|turn| turn.to_string());
                let values = params![session, permission_id(event)?, head.tail, turn, event.at.millis(), event.data];
                execute(connection, sql::ADD_PERMISSION, values)?;
            }
            (Kind::TurnEnded, Some(turn)) => bill_turn(connection, &session, turn, event, head.tail)?,
            (Kind::Lifecycle, None) => {
                add_leftover(connection, &session, &event.data)?;
                bill_leftover(connection, &session, event, head.tail)?;
            }
            _ => {}
        }
    }
    if let Some(status) = advance.status {
        head.status = status.as_str().to_owned();
    }
    if let Some((model, config)) = advance.settings {
        execute(connection, sql::CONFIGURE_SESSION, params![model, to_json(&config)?, session])?;
    }
    if let Some(granted) = advance.granted {
        execute(connection, sql::GRANT, params![to_json(&granted)?, session])?;
    }
    if let Some(boot) = advance.sandbox {
        execute(connection, sql::SET_SANDBOX, params![boot, session])?;
    }
    let incarnation = head.incarnation.map(|incarnation| incarnation.to_string());
    execute(
        connection,
        sql::ADVANCE_SESSION,
        params![head.status, head.tail, head.messages, incarnation, head.stored_through, advance.conversed, newest, session],
    )?;
    Ok(Advanced { tail: head.tail, first: (head.tail > before).then_some(before + 1), is_told })
}

/// Removes deltas of turns that were over before `cutoff`, at most about `limit` of them. Returns how
/// many, and whether there are more.
pub fn compact(connection: &Connection, cutoff: Timestamp, limit: usize) -> Result<(usize, bool), StoreError> {
    let (mut removed, mut looked_at) = (0, 0);
    while removed + looked_at < limit {
        let turn = |row: &Row<'_>| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
        };
        let Some((turn, session, first, last)) = rows(connection, sql::TURN_TO_COMPACT, params![cutoff.millis()], turn)?.pop()
        else {
            return Ok((removed, false));
        };
        let room = limit - removed - looked_at;
        let deltas = execute(connection, sql::REMOVE_DELTAS, params![session, first, last, turn, room as i64])?;
        removed += deltas;
        if deltas < room {
            execute(connection, sql::COMPACTED, params![turn])?;
        }
        looked_at += TURN;
    }
    Ok((removed, true))
}
