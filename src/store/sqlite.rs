//! SQLite: one file, one writer thread, a few reading threads.
//!
//! SQLite has one writer at a time. A queue in our own process decides who it is, which beats
//! retries on `SQLITE_BUSY`. The writer takes what waits in the queue (a single operation when idle,
//! many under load), runs each in a savepoint, commits them together, and only then answers:
//! group commit. `synchronous=FULL`, so that what was answered survives a power cut.
//!
//! ```text
//! callers ──Job──▶ queue ──▶ writer thread: begin, savepoint…release, commit ──▶ answers
//! callers ──Job──▶ queue ──▶ reading threads: each with a connection of its own
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::row::{AgentRow, EventRow, KeyRow, MessageRow, Page, SessionFilter, SessionRow, TurnRow, message_role};
use super::{Advance, Advanced, EventFilter, NewEvent, Pending, Store, StoreError, now, sql};
use crate::link::shim::{EndState, TurnEnd};
use crate::wire::event::Kind;
use crate::wire::session::Status;
use crate::wire::{KeyId, SessionId, Timestamp, TurnId};

mod migrations {
    refinery::embed_migrations!("src/store/migrations/sqlite");
}

/// Operations that may wait for the writer, and for each reading thread. Callers beyond that wait
/// for a place; the number only keeps a stuck disk from filling memory.
const QUEUE_LENGTH: usize = 1024;
/// Most operations in one commit, so that the first of them is not kept waiting for long.
const GROUP_MAX: usize = 256;
/// Threads that read. Two keep a slow list from holding up the streams.
const READERS: usize = 2;
/// How long a statement waits for another process that holds the database, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries an outcome to the caller; made by a job, called after the commit with its result.
type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// An operation. Given an error in place of the connection it only reports that.
type Job = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Finish + Send>;

/// A database file.
#[derive(Debug)]
pub struct Sqlite {
    writer: SyncSender<Job>,
    readers: SyncSender<Job>,
}

impl Sqlite {
    /// Opens or makes the file at `path`, brings its schema up to date, and starts the threads,
    /// which end when the last handle is dropped.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let unavailable =
            |what: &str, e: &dyn std::fmt::Display| StoreError::Unavailable(format!("{what} {}: {e}", path.display()));
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(|e| unavailable("open", &e))?;
        prepare(&connection).map_err(|e| unavailable("open", &e))?;
        migrations::migrations::runner().run(&mut connection).map_err(|e| unavailable("bring up to date", &e))?;

        let (writer, jobs) = sync_channel(QUEUE_LENGTH);
        spawn("store-write", move || write_all(&connection, &jobs))?;
        let (readers, jobs) = sync_channel::<Job>(QUEUE_LENGTH);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..READERS {
            let connection = Connection::open_with_flags(path, flags).map_err(|e| unavailable("open", &e))?;
            prepare(&connection).map_err(|e| unavailable("open", &e))?;
            let jobs = jobs.clone();
            spawn("store-read", move || read_all(&connection, &jobs))?;
        }
        Ok(Self { writer, readers })
    }

    fn write<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Pending<'_, T> {
        submit(self.writer.clone(), move |connection| {
            connection.execute_batch("savepoint job").map_err(sqlite_error)?;
            let outcome = run(connection);
            let end = if outcome.is_ok() { "release job" } else { "rollback to job; release job" };
            connection.execute_batch(end).map_err(sqlite_error)?;
            outcome
        })
    }

    fn read<T: Send + 'static>(&self, run: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static) -> Pending<'_, T> {
        submit(self.readers.clone(), run)
    }
}

fn submit<'a, T: Send + 'static>(
    queue: SyncSender<Job>,
    run: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> Pending<'a, T> {
    Box::pin(async move {
        let (answer, answered) = oneshot::channel();
        let mut job: Job = Box::new(move |connection| {
            let outcome = connection.and_then(run);
            Box::new(move |committed| {
                // A caller that went away needs no answer.
                let _ = answer.send(committed.and(outcome));
            })
        });
        // The queue is a thread's, so a full one is waited for by trying again.
        loop {
            match queue.try_send(job) {
                Ok(()) => break,
                Err(std::sync::mpsc::TrySendError::Full(back)) => {
                    job = back;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => {
                    return Err(StoreError::Unavailable("its thread has ended".to_owned()));
                }
            }
        }
        answered.await.map_err(|_| StoreError::Unavailable("its thread has ended".to_owned()))?
    })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).map_err(|e| StoreError::Unavailable(format!("start its thread: {e}")))
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", "on")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn write_all(connection: &Connection, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        if let Err(e) = connection.execute_batch("begin immediate") {
            // Those behind it would each wait as long again, for the same answer.
            let error = sqlite_error(e);
            for job in std::iter::once(first).chain(jobs.try_iter().take(QUEUE_LENGTH)) {
                job(Err(error.clone()))(Err(error.clone()));
            }
            continue;
        }
        let mut finishes = vec![first(Ok(connection))];
        while finishes.len() < GROUP_MAX && !connection.is_autocommit() {
            let Ok(job) = jobs.try_recv() else { break };
            finishes.push(job(Ok(connection)));
        }
        // Some failures, such as a full disk, make SQLite roll the whole transaction back by
        // itself; then nothing of the group is stored (sqlite.org/lang_transaction.html, 3.1).
        let committed = if connection.is_autocommit() {
            Err(StoreError::Unavailable("an operation failed and took others with it".to_owned()))
        } else {
            connection.execute_batch("commit").map_err(sqlite_error)
        };
        if committed.is_err() && !connection.is_autocommit() {
            // Left open, the transaction would make every later one fail.
            if let Err(e) = connection.execute_batch("rollback") {
                tracing::error!(error = %e, "a failed transaction can not be rolled back");
            }
        }
        for finish in finishes {
            finish(committed.clone());
        }
    }
}

fn read_all(connection: &Connection, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = match jobs.lock() {
            Ok(jobs) => jobs.recv(),
            Err(_) => return,
        };
        let Ok(job) = next else { return };
        job(Ok(connection))(Ok(()));
    }
}

fn sqlite_error(e: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{ConstraintViolation, DatabaseCorrupt, NotADatabase};
    match &e {
        // Another try would break the same rule.
        rusqlite::Error::SqliteFailure(failure, _) if failure.code == ConstraintViolation => StoreError::Conflict(e.to_string()),
        rusqlite::Error::SqliteFailure(failure, _) if matches!(failure.code, DatabaseCorrupt | NotADatabase) => {
            StoreError::Corrupt(e.to_string())
        }
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
            StoreError::Corrupt(e.to_string())
        }
        _ => StoreError::Unavailable(e.to_string()),
    }
}

/// Reads a column whose text has a type of its own.
fn column<T: std::str::FromStr>(row: &Row<'_>, index: usize) -> rusqlite::Result<T>
where
    T::Err: std::fmt::Display,
{
    let text = row.get_ref(index)?.as_str()?;
    text.parse()
        .map_err(|e: T::Err| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, e.to_string().into()))
}

fn optional_column<T: std::str::FromStr>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>>
where
    T::Err: std::fmt::Display,
{
    if row.get_ref(index)? == rusqlite::types::ValueRef::Null { Ok(None) } else { column(row, index).map(Some) }
}

fn json_column<T: serde::de::DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, e.into()))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt(e.to_string()))
}

fn agent_row(row: &Row<'_>) -> rusqlite::Result<AgentRow> {
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

fn session_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let status: String = row.get(4)?;
    Ok(SessionRow {
        id: column(row, 0)?,
        tenant: row.get(1)?,
        agent: row.get(2)?,
        digest: row.get(3)?,
        status: serde_json::from_value(Value::String(status)).unwrap_or(Status::Unknown),
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
    })
}

fn turn_row(row: &Row<'_>) -> rusqlite::Result<TurnRow> {
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
    })
}

fn key_row(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        id: column(row, 0)?,
        tenant: row.get(1)?,
        label: row.get(2)?,
        prefix: row.get(3)?,
        hash: row.get(4)?,
        created_at: Timestamp(row.get(5)?),
    })
}

fn get_agent(connection: &Connection, tenant: &str, name: &str) -> Result<AgentRow, StoreError> {
    let mut statement = connection.prepare_cached(sql::GET_AGENT).map_err(sqlite_error)?;
    statement.query_row(params![tenant, name], agent_row).optional().map_err(sqlite_error)?.ok_or(StoreError::NotFound("agent"))
}

/// All rows of a statement.
fn rows<T>(
    connection: &Connection,
    text: &str,
    params: impl rusqlite::Params,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(text).map_err(sqlite_error)?;
    let found = statement.query_map(params, read).map_err(sqlite_error)?;
    found.collect::<rusqlite::Result<_>>().map_err(sqlite_error)
}

fn execute(connection: &Connection, text: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
    connection.prepare_cached(text).and_then(|mut statement| statement.execute(params)).map_err(sqlite_error)
}

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
    let values = params![state, end.cause, id, event.at.millis(), turn.to_string(), session];
    Ok(execute(connection, sql::END_TURN, values)? > 0)
}

/// Appends events and stores the state that they imply.
fn advance(connection: &Connection, id: SessionId, advance: Advance) -> Result<Advanced, StoreError> {
    let session = id.to_string();
    let mut statement = connection.prepare_cached(sql::HEAD_OF_SESSION).map_err(sqlite_error)?;
    let mut head =
        statement.query_row(params![session], head).optional().map_err(sqlite_error)?.ok_or(StoreError::NotFound("session"))?;
    let before = head.tail;

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

    let mut newest = 0;
    for event in &events {
        newest = newest.max(event.at.millis());
        if let (Kind::TurnEnded, Some(turn)) = (&event.kind, event.turn)
            && !end_turn(connection, &session, turn, event, head.tail + 1)?
        {
            // It is over already, and ends once.
            continue;
        }
        head.tail += 1;
        let turn = event.turn.map(|turn| turn.to_string());
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
                execute(
                    connection,
                    sql::QUEUE_TURN,
                    params![turn.to_string(), session, new.content, options, head.tail, event.at.millis()],
                )?;
            }
            (Kind::TurnStarted, Some(turn)) => {
                let started = execute(connection, sql::START_TURN, params![event.at.millis(), turn.to_string(), session])?;
                if started == 0 {
                    execute(connection, sql::ADD_RUNTIME_TURN, params![turn.to_string(), session, head.tail, event.at.millis()])?;
                }
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
    let incarnation = head.incarnation.map(|incarnation| incarnation.to_string());
    execute(
        connection,
        sql::ADVANCE_SESSION,
        params![head.status, head.tail, head.messages, incarnation, head.stored_through, advance.conversed, newest, session],
    )?;
    Ok(Advanced { tail: head.tail, first: (head.tail > before).then_some(before + 1) })
}

impl Store for Sqlite {
    fn deploy_agent<'a>(
        &'a self,
        tenant: &'a str,
        name: &'a str,
        digest: &'a str,
        env: Option<BTreeMap<String, String>>,
    ) -> Pending<'a, AgentRow> {
        let (tenant, name, digest) = (tenant.to_owned(), name.to_owned(), digest.to_owned());
        self.write(move |connection| {
            let env = env.as_ref().map(to_json).transpose()?;
            let id = Uuid::now_v7().to_string();
            execute(connection, sql::DEPLOY_AGENT, params![tenant, name, id, digest, env, now().millis()])?;
            get_agent(connection, &tenant, &name)
        })
    }

    fn get_agent<'a>(&'a self, tenant: &'a str, name: &'a str) -> Pending<'a, AgentRow> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.read(move |connection| get_agent(connection, &tenant, &name))
    }

    fn list_agents<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<AgentRow>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| rows(connection, sql::LIST_AGENTS, params![tenant], agent_row))
    }

    fn patch_agent<'a>(
        &'a self,
        tenant: &'a str,
        name: &'a str,
        env: Option<BTreeMap<String, String>>,
        config: Option<Map<String, Value>>,
    ) -> Pending<'a, AgentRow> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.write(move |connection| {
            let mut agent = get_agent(connection, &tenant, &name)?;
            agent.env = env.unwrap_or(agent.env);
            agent.config.extend(config.unwrap_or_default());
            let (env, config) = (to_json(&agent.env)?, to_json(&agent.config)?);
            execute(connection, sql::PATCH_AGENT, params![env, config, now().millis(), tenant, name])?;
            get_agent(connection, &tenant, &name)
        })
    }

    fn delete_agent<'a>(&'a self, tenant: &'a str, name: &'a str) -> Pending<'a, ()> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.write(move |connection| match execute(connection, sql::DELETE_AGENT, params![tenant, name])? {
            0 => Err(StoreError::NotFound("agent")),
            _ => Ok(()),
        })
    }

    fn version_in_use<'a>(&'a self, digest: &'a str) -> Pending<'a, bool> {
        let digest = digest.to_owned();
        self.read(move |connection| {
            connection.query_row(sql::VERSION_IN_USE, params![digest], |row| row.get(0)).map_err(sqlite_error)
        })
    }

    fn create_session(&self, session: SessionRow) -> Pending<'_, ()> {
        self.write(move |connection| {
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
            ];
            execute(connection, sql::CREATE_SESSION, values).map(drop)
        })
    }

    fn forget_session(&self, id: SessionId) -> Pending<'_, ()> {
        self.write(move |connection| {
            sql::FORGET_SESSION.iter().try_for_each(|text| execute(connection, text, params![id.to_string()]).map(drop))
        })
    }

    fn get_session<'a>(&'a self, tenant: &'a str, id: SessionId) -> Pending<'a, SessionRow> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let text = format!("select {} from sessions where {}", sql::SESSION_COLUMNS, sql::SESSION_IS);
            rows(connection, &text, params![id.to_string(), tenant], session_row)?.pop().ok_or(StoreError::NotFound("session"))
        })
    }

    fn list_sessions<'a>(&'a self, tenant: &'a str, filter: SessionFilter) -> Pending<'a, Page<SessionRow>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let status = filter.status.map(Status::as_str);
            let page =
                format!("select {} from sessions where {}{}", sql::SESSION_COLUMNS, sql::SESSION_MATCHES, sql::SESSION_PAGE);
            let rows = rows(connection, &page, params![tenant, filter.agent, status, filter.limit, filter.offset], session_row)?;
            let count = format!("select count(*) from sessions where {}", sql::SESSION_MATCHES);
            let total =
                connection.query_row(&count, params![tenant, filter.agent, status], |row| row.get(0)).map_err(sqlite_error)?;
            Ok(Page { rows, total })
        })
    }

    fn living_sessions(&self) -> Pending<'_, Vec<SessionRow>> {
        self.read(move |connection| {
            let text = format!("select {} from sessions where {}", sql::SESSION_COLUMNS, sql::SESSION_LIVES);
            rows(connection, &text, [], session_row)
        })
    }

    fn advance(&self, id: SessionId, change: Advance) -> Pending<'_, Advanced> {
        self.write(move |connection| advance(connection, id, change))
    }

    fn open_turns(&self, id: SessionId) -> Pending<'_, Vec<TurnRow>> {
        self.read(move |connection| {
            let text = format!("select {} from turns where {}", sql::TURN_COLUMNS, sql::OPEN_TURNS);
            rows(connection, &text, params![id.to_string()], turn_row)
        })
    }

    fn get_turn(&self, id: SessionId, turn: TurnId) -> Pending<'_, TurnRow> {
        self.read(move |connection| {
            let text = format!("select {} from turns where {}", sql::TURN_COLUMNS, sql::TURN_IS);
            rows(connection, &text, params![id.to_string(), turn.to_string()], turn_row)?
                .pop()
                .ok_or(StoreError::NotFound("turn"))
        })
    }

    fn events(&self, id: SessionId, after: i64, limit: usize, filter: EventFilter) -> Pending<'_, Vec<EventRow>> {
        self.read(move |connection| {
            let kinds = if filter.kinds.is_empty() { None } else { Some(to_json(&filter.kinds)?) };
            let turn = filter.turn.map(|turn| turn.to_string());
            rows(connection, sql::EVENTS, params![id.to_string(), after, turn, kinds, limit as i64], |row| {
                Ok(EventRow {
                    id: row.get(0)?,
                    at: Timestamp(row.get(1)?),
                    turn: optional_column(row, 2)?,
                    kind: column(row, 3)?,
                    data: row.get(4)?,
                })
            })
        })
    }

    fn messages(&self, id: SessionId, after: i64, limit: usize) -> Pending<'_, Vec<MessageRow>> {
        self.read(move |connection| {
            rows(connection, sql::MESSAGES, params![id.to_string(), after, limit as i64], |row| {
                Ok(MessageRow {
                    sequence: row.get(0)?,
                    role: row.get(1)?,
                    at: Timestamp(row.get(2)?),
                    data: row.get(3)?,
                    kind: column(row, 4)?,
                })
            })
        })
    }

    fn create_key(&self, key: KeyRow) -> Pending<'_, ()> {
        self.write(move |connection| {
            let values = params![key.id.to_string(), key.tenant, key.label, key.prefix, key.hash, key.created_at.millis()];
            execute(connection, sql::CREATE_KEY, values).map(drop)
        })
    }

    fn list_keys<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<KeyRow>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let text = format!("select {} from api_keys where {}", sql::KEY_COLUMNS, sql::KEYS_OF_TENANT);
            rows(connection, &text, params![tenant], key_row)
        })
    }

    fn delete_key<'a>(&'a self, tenant: &'a str, id: KeyId) -> Pending<'a, ()> {
        let tenant = tenant.to_owned();
        self.write(move |connection| match execute(connection, sql::DELETE_KEY, params![tenant, id.to_string()])? {
            0 => Err(StoreError::NotFound("API key")),
            _ => Ok(()),
        })
    }

    fn find_key(&self, hash: [u8; 32]) -> Pending<'_, Option<KeyRow>> {
        self.read(move |connection| {
            let text = format!("select {} from api_keys where {}", sql::KEY_COLUMNS, sql::KEY_WITH_HASH);
            Ok(rows(connection, &text, params![hash], key_row)?.pop())
        })
    }

    fn check(&self) -> Pending<'_, ()> {
        self.write(|connection| execute(connection, "pragma user_version = 0", []).map(drop))
    }
}
