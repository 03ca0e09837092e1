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

mod attachment;
mod audit;
mod eval;
mod log;
mod project_file;
mod prompt_version;
mod queue;
mod rows;
mod schedules;
#[cfg(test)]
mod tests;
mod usage;
mod webhooks;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use uuid::Uuid;

use self::rows::{
    agent_row, column, credential_row, deploy_row, env_row, event_row, json_column, key_row, living_row, message_row,
    permission_row, session_row, session_use, to_json, turn_row,
};
use super::row::{
    AgentRow, CredentialRow, EventRow, KeyRow, LivingRow, MessageRow, PermissionFilter, PermissionRow, SessionFilter,
    SessionPage, SessionRow, TurnFilter, TurnRow, Uses,
};
use super::{
    AGENT_CONFIG_MAX, Advance, Advanced, CREDENTIALS_MAX, Census, EventFilter, KEY_USE_STEP_MS, KEYS_MAX, Pending, Store,
    StoreError, now, sql,
};
use crate::crypt::env::{EnvOwner, KeptEnv};
use crate::crypt::master::Sealed;
use crate::telemetry::metrics::Metrics;
use crate::wire::session::Status;
use crate::wire::usage::{Leftover, ModelUsage, Usage};
use crate::wire::{CredentialId, KeyId, PermissionId, SandboxId, SessionId, Timestamp, TurnId};

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
    file: PlacedFile,
}

/// A file that is open, and where it was found.
#[derive(Debug)]
struct PlacedFile {
    path: PathBuf,
    /// Device and number of the file on it.
    place: (u64, u64),
}

impl PlacedFile {
    fn at(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.to_owned(), place: Self::place(path)? })
    }

    fn place(path: &Path) -> std::io::Result<(u64, u64)> {
        std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
    }

    /// Why it will not be found at its path, if so.
    fn misplaced(&self) -> Option<String> {
        let what = match Self::place(&self.path) {
            Ok(place) if place == self.place => return None,
            Ok(_) => "was replaced by another file".to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "was deleted".to_owned(),
            Err(error) => format!("can not be looked at: {error}"),
        };
        Some(format!("{} {what} while it is open; what is stored now will be lost with this daemon", self.path.display()))
    }
}

impl Sqlite {
    /// Opens or makes the file at `path`, brings its schema up to date, and starts the threads,
    /// which end when the last handle is dropped.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_measured(path, Metrics::default())
    }

    /// The same, and tells these metrics of what is stored.
    pub fn open_measured(path: &Path, metrics: Metrics) -> Result<Self, StoreError> {
        let unavailable =
            |what: &str, e: &dyn std::fmt::Display| StoreError::Unavailable(format!("{what} {}: {e}", path.display()));
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(|e| unavailable("open", &e))?;
        prepare(&connection).map_err(|e| unavailable("open", &e))?;
        migrations::migrations::runner().run(&mut connection).map_err(|e| unavailable("bring up to date", &e))?;

        let (writer, jobs) = sync_channel(QUEUE_LENGTH);
        spawn("store-write", move || write_all(&connection, &jobs, &metrics))?;
        let (readers, jobs) = sync_channel::<Job>(QUEUE_LENGTH);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..READERS {
            let connection = Connection::open_with_flags(path, flags).map_err(|e| unavailable("open", &e))?;
            prepare(&connection).map_err(|e| unavailable("open", &e))?;
            let jobs = jobs.clone();
            spawn("store-read", move || read_all(&connection, &jobs))?;
        }
        let file = PlacedFile::at(path).map_err(|e| unavailable("open", &e))?;
        Ok(Self { writer, readers, file })
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

fn write_all(connection: &Connection, jobs: &Receiver<Job>, metrics: &Metrics) {
    while let Ok(first) = jobs.recv() {
        let timer = metrics.store_commit_seconds.start_timer();
        if let Err(e) = connection.execute_batch("begin immediate") {
            timer.stop_and_discard();
            metrics.store_failures.inc();
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
        if committed.is_ok() {
            timer.observe_duration();
            metrics.store_commit_operations.observe(finishes.len() as f64);
        } else {
            timer.stop_and_discard();
            metrics.store_failures.inc();
        }
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

/// Reads rows whose data stands in column `data`, until they have more than so many bytes of it
/// together; one in any case, if there is one.
fn rows_within<T>(
    found: rusqlite::Rows<'_>,
    data: usize,
    bytes_max: usize,
    row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    rows_within_all(found, &[data], bytes_max, row)
}

/// The same, of data in several columns.
fn rows_within_all<T>(
    mut found: rusqlite::Rows<'_>,
    data: &[usize],
    bytes_max: usize,
    row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let (mut all, mut bytes) = (Vec::new(), 0);
    while let Some(next) = found.next()? {
        // Looked at before it is copied: it may be the large one.
        for data in data {
            bytes += next.get_ref(*data)?.as_str_or_null()?.map_or(0, str::len);
        }
        if bytes > bytes_max && !all.is_empty() {
            break;
        }
        all.push(row(next)?);
    }
    Ok(all)
}

fn execute(connection: &Connection, text: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
    connection.prepare_cached(text).and_then(|mut statement| statement.execute(params)).map_err(sqlite_error)
}

fn credentials(connection: &Connection, which: &str, values: impl rusqlite::Params) -> Result<Vec<CredentialRow>, StoreError> {
    let text = format!("select {} from credentials where {which}", sql::CREDENTIAL_COLUMNS);
    rows(connection, &text, values, credential_row)
}

impl Store for Sqlite {
    fn deploy_agent<'a>(
        &'a self,
        tenant: &'a str,
        name: &'a str,
        digest: &'a str,
        env: Option<KeptEnv>,
    ) -> Pending<'a, AgentRow> {
        let (tenant, name, digest) = (tenant.to_owned(), name.to_owned(), digest.to_owned());
        self.write(move |connection| {
            let env = env.as_ref().map(to_json).transpose()?;
            let id = Uuid::now_v7().to_string();
            let now = now().millis();
            execute(connection, sql::DEPLOY_AGENT, params![tenant, name, id, digest, env, now])?;
            execute(connection, sql::NOTE_DEPLOY, params![tenant, name, digest, now])?;
            get_agent(connection, &tenant, &name)
        })
    }

    fn get_agent<'a>(&'a self, tenant: &'a str, name: &'a str) -> Pending<'a, AgentRow> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.read(move |connection| get_agent(connection, &tenant, &name))
    }

    fn list_agents<'a>(&'a self, tenant: &'a str, after: &'a str, limit: usize, bytes: usize) -> Pending<'a, Vec<AgentRow>> {
        let (tenant, after) = (tenant.to_owned(), after.to_owned());
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(sql::LIST_AGENTS).map_err(sqlite_error)?;
            let found = statement.query(params![tenant, after, limit as i64]);
            found.and_then(|found| rows_within(found, 5, bytes, agent_row)).map_err(sqlite_error)
        })
    }

    fn patch_agent<'a>(
        &'a self,
        tenant: &'a str,
        name: &'a str,
        env: Option<KeptEnv>,
        config: Option<Map<String, Value>>,
    ) -> Pending<'a, AgentRow> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.write(move |connection| {
            let mut agent = get_agent(connection, &tenant, &name)?;
            agent.env = env.unwrap_or(agent.env);
            let before = if config.is_some() { to_json(&agent.config)?.len() } else { usize::MAX };
            agent.config.extend(config.unwrap_or_default());
            let (env, config) = (to_json(&agent.env)?, to_json(&agent.config)?);
            // One that was larger before there was a bound may shrink.
            if config.len() > before.max(AGENT_CONFIG_MAX) {
                return Err(StoreError::Conflict(format!(
                    "has to be at most {AGENT_CONFIG_MAX} bytes of JSON together with what it has already, and would have {}",
                    config.len()
                )));
            }
            execute(connection, sql::PATCH_AGENT, params![env, config, now().millis(), tenant, name])?;
            get_agent(connection, &tenant, &name)
        })
    }

    fn delete_agent<'a>(&'a self, tenant: &'a str, name: &'a str) -> Pending<'a, ()> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.write(move |connection| match execute(connection, sql::DELETE_AGENT, params![tenant, name])? {
            0 => Err(StoreError::NotFound("agent")),
            _ => {
                execute(connection, sql::FORGET_PROMPT_VERSIONS, params![tenant, name])?;
                eval::forget(connection, &tenant, &name)?;
                execute(connection, sql::FORGET_DEPLOYS, params![tenant, name]).map(drop)
            }
        })
    }

    fn version_in_use<'a>(&'a self, digest: &'a str) -> Pending<'a, bool> {
        let digest = digest.to_owned();
        self.read(move |connection| {
            connection.query_row(sql::VERSION_IN_USE, params![digest], |row| row.get(0)).map_err(sqlite_error)
        })
    }

    fn create_session(&self, session: SessionRow) -> Pending<'_, ()> {
        self.write(move |connection| log::create_session(connection, &session))
    }

    fn fork_session(&self, child: SessionRow, parent: SessionId, event: i64) -> Pending<'_, ()> {
        self.write(move |connection| log::fork_session(connection, &child, parent, event))
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

    fn list_sessions<'a>(&'a self, tenant: &'a str, filter: SessionFilter, page: SessionPage) -> Pending<'a, Vec<SessionRow>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let page_text = if page.after.is_some() { sql::SESSION_PAGE_AFTER } else { sql::SESSION_PAGE };
            let text = format!("select {} from sessions where {}{page_text}", sql::SESSION_IN_LIST, sql::SESSION_MATCHES);
            let mut statement = connection.prepare_cached(&text).map_err(sqlite_error)?;
            let status = filter.status.map(Status::as_str);
            let (made, id) = page.after.map(|(made, id)| (made.millis(), id.to_string())).unzip();
            let found = statement.query(params![tenant, filter.agent, status, made, id, page.limit, page.offset]);
            found.and_then(|found| rows_within(found, 9, page.bytes, session_row)).map_err(sqlite_error)
        })
    }

    fn count_sessions<'a>(&'a self, tenant: &'a str, filter: SessionFilter) -> Pending<'a, i64> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let count = format!("select count(*) from sessions where {}", sql::SESSION_MATCHES);
            let values = params![tenant, filter.agent, filter.status.map(Status::as_str)];
            connection.query_row(&count, values, |row| row.get(0)).map_err(sqlite_error)
        })
    }

    fn count_active(&self) -> Pending<'_, i64> {
        self.read(|connection| connection.query_row(sql::COUNT_ACTIVE, [], |row| row.get(0)).map_err(sqlite_error))
    }

    fn living_sessions(&self) -> Pending<'_, Vec<LivingRow>> {
        self.read(move |connection| rows(connection, sql::LIVING_SESSIONS, [], living_row))
    }

    fn find_session_of(&self, sandbox: SandboxId) -> Pending<'_, Option<SessionRow>> {
        self.read(move |connection| {
            let text = format!("select {} from sessions where {}", sql::SESSION_COLUMNS, sql::SESSION_OF_SANDBOX);
            Ok(rows(connection, &text, params![sandbox.to_string()], session_row)?.pop())
        })
    }

    fn uses(&self) -> Pending<'_, Uses> {
        self.read(|connection| {
            Ok(Uses {
                sessions: rows(connection, sql::SESSION_USES, [], session_use)?,
                current: rows(connection, sql::CURRENT_VERSIONS, [], |row| row.get(0))?,
                deploys: rows(connection, sql::DEPLOYS, [], deploy_row)?,
            })
        })
    }

    fn knows_session(&self, id: SessionId) -> Pending<'_, bool> {
        self.read(move |connection| {
            connection.query_row(sql::SESSION_IS_KNOWN, params![id.to_string()], |row| row.get(0)).map_err(sqlite_error)
        })
    }

    fn disown_session(&self, id: SessionId) -> Pending<'_, ()> {
        self.write(move |connection| match execute(connection, sql::DISOWN_SESSION, params![id.to_string()])? {
            0 => Err(StoreError::NotFound("session")),
            _ => Ok(()),
        })
    }

    fn remove_session(&self, id: SessionId, limit: usize, bytes: u64) -> Pending<'_, bool> {
        self.write(move |connection| log::remove_session(connection, id, limit, bytes))
    }

    fn advance(&self, id: SessionId, change: Advance) -> Pending<'_, Advanced> {
        self.write(move |connection| log::advance(connection, id, change))
    }

    fn open_turns(&self, id: SessionId) -> Pending<'_, Vec<TurnRow>> {
        self.read(move |connection| {
            let text = format!("select {} from turns where {}", sql::TURN_COLUMNS, sql::OPEN_TURNS);
            rows(connection, &text, params![id.to_string()], turn_row)
        })
    }

    fn get_turn(&self, id: SessionId, turn: TurnId) -> Pending<'_, TurnRow> {
        self.read(move |connection| {
            let text = format!("select {} from turns where {}", sql::TURN_WITHOUT_MESSAGE, sql::TURN_IS);
            rows(connection, &text, params![id.to_string(), turn.to_string()], turn_row)?
                .pop()
                .ok_or(StoreError::NotFound("turn"))
        })
    }

    fn queue(&self, id: SessionId) -> Pending<'_, Vec<TurnId>> {
        self.read(move |connection| rows(connection, sql::QUEUE, params![id.to_string()], |row| column(row, 0)))
    }

    fn find_turn(&self, id: SessionId, key: String) -> Pending<'_, Option<TurnRow>> {
        self.read(move |connection| {
            let text = format!("select {} from turns where {}", sql::TURN_WITHOUT_MESSAGE, sql::TURN_WITH_KEY);
            Ok(rows(connection, &text, params![id.to_string(), key], turn_row)?.pop())
        })
    }

    fn turns(&self, id: SessionId, filter: TurnFilter) -> Pending<'_, Vec<TurnRow>> {
        self.read(move |connection| {
            let text = format!("select {} from turns where {}", sql::TURN_WITHOUT_MESSAGE, sql::TURNS_OF_SESSION);
            let state = filter.state.map(|state| state.to_string());
            rows(connection, &text, params![id.to_string(), filter.after, state, filter.limit as i64], turn_row)
        })
    }

    fn spent(&self, id: SessionId) -> Pending<'_, BTreeMap<String, ModelUsage>> {
        self.read(move |connection| {
            let bills = rows(connection, sql::USAGE_OF_SESSION, params![id.to_string()], |row| json_column::<Usage>(row, 0))?;
            let unbilled = rows(connection, sql::UNBILLED, params![id.to_string()], |row| json_column::<Leftover>(row, 0))?;
            let unbilled = unbilled.into_iter().map(|Leftover::Usage { models, .. }| models);
            let mut spent = BTreeMap::<String, ModelUsage>::new();
            for (model, usage) in bills.into_iter().map(|bill| bill.models).chain(unbilled).flatten() {
                spent.entry(model).or_default().add(&usage);
            }
            Ok(spent)
        })
    }

    fn get_permission(&self, id: SessionId, permission: PermissionId) -> Pending<'_, PermissionRow> {
        self.read(move |connection| {
            let text = format!("select {} from permissions where {}", sql::PERMISSION_COLUMNS, sql::PERMISSION_IS);
            let found = rows(connection, &text, params![id.to_string(), permission.to_string()], permission_row)?.pop();
            found.ok_or(StoreError::NotFound("permission"))
        })
    }

    fn permissions(&self, id: SessionId, filter: PermissionFilter) -> Pending<'_, Vec<PermissionRow>> {
        self.read(move |connection| {
            let text = format!("select {} from permissions where {}", sql::PERMISSION_COLUMNS, sql::PERMISSIONS_OF_SESSION);
            let mut statement = connection.prepare_cached(&text).map_err(sqlite_error)?;
            let found = statement.query(params![id.to_string(), filter.after, filter.pending, filter.limit as i64]);
            let bytes = filter.bytes.unwrap_or(usize::MAX);
            found.and_then(|found| rows_within(found, 4, bytes, permission_row)).map_err(sqlite_error)
        })
    }

    fn compact(&self, cutoff: Timestamp, limit: usize) -> Pending<'_, (usize, bool)> {
        self.write(move |connection| log::compact(connection, cutoff, limit))
    }

    fn events(&self, id: SessionId, after: i64, limit: usize, filter: EventFilter) -> Pending<'_, Vec<EventRow>> {
        self.read(move |connection| {
            let kinds = if filter.kinds.is_empty() { None } else { Some(to_json(&filter.kinds)?) };
            let turn = filter.turn.map(|turn| turn.to_string());
            let mut statement = connection.prepare_cached(sql::EVENTS).map_err(sqlite_error)?;
            let found = statement.query(params![id.to_string(), after, turn, kinds, limit as i64]);
            let bytes = filter.bytes.unwrap_or(usize::MAX);
            found.and_then(|found| rows_within(found, 4, bytes, event_row)).map_err(sqlite_error)
        })
    }

    fn messages(&self, id: SessionId, after: i64, limit: usize, bytes: usize) -> Pending<'_, Vec<MessageRow>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(sql::MESSAGES).map_err(sqlite_error)?;
            let found = statement.query(params![id.to_string(), after, limit as i64]);
            found.and_then(|found| rows_within(found, 3, bytes, message_row)).map_err(sqlite_error)
        })
    }

    fn use_key(&self, id: KeyId, at: Timestamp) -> Pending<'_, ()> {
        self.write(move |connection| {
            let at = at.millis();
            execute(connection, sql::USE_KEY, params![at, id.to_string(), at - KEY_USE_STEP_MS]).map(drop)
        })
    }

    fn create_key(&self, key: KeyRow) -> Pending<'_, ()> {
        self.write(move |connection| {
            let (id, scopes) = (key.id.to_string(), key.scopes.to_string());
            let (made, expires) = (key.created_at.millis(), key.expires_at.map(Timestamp::millis));
            let values = params![id, key.tenant, key.label, key.prefix, key.hash, made, scopes, key.agent, expires, KEYS_MAX];
            match execute(connection, sql::CREATE_KEY, values)? {
                0 => Err(StoreError::Conflict(format!("the tenant has {KEYS_MAX} API keys"))),
                _ => Ok(()),
            }
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

    fn has_key(&self, id: KeyId) -> Pending<'_, bool> {
        self.read(move |connection| {
            connection.query_row(sql::KEY_IS_THERE, params![id.to_string()], |row| row.get(0)).map_err(sqlite_error)
        })
    }

    fn find_key(&self, hash: [u8; 32]) -> Pending<'_, Option<KeyRow>> {
        self.read(move |connection| {
            let text = format!("select {} from api_keys where {}", sql::KEY_COLUMNS, sql::KEY_WITH_HASH);
            Ok(rows(connection, &text, params![hash], key_row)?.pop())
        })
    }

    fn create_credential(&self, credential: CredentialRow) -> Pending<'_, ()> {
        self.write(move |connection| {
            let (kind, Sealed { master, bytes }) = (credential.kind.as_str(), credential.sealed);
            let id = credential.id.to_string();
            let (tenant, label, made) = (credential.tenant, credential.label, credential.created_at.millis());
            let values = params![id, tenant, kind, label, master, bytes, made, CREDENTIALS_MAX];
            match execute(connection, sql::CREATE_CREDENTIAL, values)? {
                0 => Err(StoreError::Conflict(format!("the tenant has {CREDENTIALS_MAX} credentials"))),
                _ => Ok(()),
            }
        })
    }

    fn list_credentials<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<CredentialRow>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| credentials(connection, sql::CREDENTIALS_OF_TENANT, params![tenant]))
    }

    fn get_credential<'a>(&'a self, tenant: &'a str, id: CredentialId) -> Pending<'a, CredentialRow> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let found = credentials(connection, sql::CREDENTIAL_IS, params![tenant, id.to_string()])?.pop();
            found.ok_or(StoreError::NotFound("credential"))
        })
    }

    fn change_credential<'a>(
        &'a self,
        tenant: &'a str,
        id: CredentialId,
        label: Option<String>,
        sealed: Option<Sealed>,
    ) -> Pending<'a, ()> {
        let tenant = tenant.to_owned();
        self.write(move |connection| {
            let (master, bytes) = sealed.map(|sealed| (sealed.master, sealed.bytes)).unzip();
            match execute(connection, sql::CHANGE_CREDENTIAL, params![label, master, bytes, tenant, id.to_string()])? {
                0 => Err(StoreError::NotFound("credential")),
                _ => Ok(()),
            }
        })
    }

    fn delete_credential<'a>(&'a self, tenant: &'a str, id: CredentialId) -> Pending<'a, ()> {
        let tenant = tenant.to_owned();
        self.write(move |connection| match execute(connection, sql::DELETE_CREDENTIAL, params![tenant, id.to_string()])? {
            0 => Err(StoreError::NotFound("credential")),
            _ => Ok(()),
        })
    }

    fn use_credential(&self, id: CredentialId, at: Timestamp) -> Pending<'_, ()> {
        self.write(move |connection| execute(connection, sql::USE_CREDENTIAL, params![at.millis(), id.to_string()]).map(drop))
    }

    fn credentials_of_other_masters<'a>(&'a self, master: &'a str, limit: usize) -> Pending<'a, Vec<CredentialRow>> {
        let master = master.to_owned();
        self.read(move |connection| credentials(connection, sql::CREDENTIALS_OF_OTHER_MASTERS, params![master, limit as i64]))
    }

    fn reseal_credential(&self, id: CredentialId, old: Sealed, new: Sealed) -> Pending<'_, ()> {
        self.write(move |connection| {
            let values = params![new.master, new.bytes, id.to_string(), old.bytes];
            execute(connection, sql::RESEAL_CREDENTIAL, values).map(drop)
        })
    }

    fn envs_of_other_masters<'a>(&'a self, master: &'a str, limit: usize, skip: usize) -> Pending<'a, Vec<(EnvOwner, KeptEnv)>> {
        let sealed = format!("[\"{master}\",");
        self.read(move |connection| {
            rows(connection, sql::ENVS_OF_OTHER_MASTERS, params![sealed, limit as i64, skip as i64], env_row)
        })
    }

    fn reseal_env<'a>(&'a self, owner: &'a EnvOwner, old: &'a KeptEnv, new: &'a KeptEnv) -> Pending<'a, bool> {
        let (owner, old, new) = (owner.clone(), to_json(old), to_json(new));
        self.write(move |connection| {
            let (statement, tenant, key) = match owner {
                EnvOwner::Agent { tenant, name } => (sql::RESEAL_AGENT_ENV, tenant, name),
                EnvOwner::Session { tenant, id } => (sql::RESEAL_SESSION_ENV, tenant, id.to_string()),
            };
            execute(connection, statement, params![new?, tenant, key, old?]).map(|changed| changed > 0)
        })
    }

    fn missing_sessions(&self, ids: Vec<SessionId>) -> Pending<'_, Vec<SessionId>> {
        self.read(move |connection| {
            let ids: Vec<_> = ids.iter().map(SessionId::to_string).collect();
            rows(connection, sql::MISSING_SESSIONS, params![to_json(&ids)?], |row| column(row, 0))
        })
    }

    fn census(&self) -> Pending<'_, Census> {
        self.read(|connection| {
            let identity = connection.query_row(sql::IDENTITY, [], |row| row.get(0)).map_err(sqlite_error)?;
            let sessions = connection.query_row(sql::COUNT_SESSIONS, [], |row| row.get(0)).map_err(sqlite_error)?;
            Ok(Census { identity, sessions })
        })
    }

    fn misplaced(&self) -> Option<String> {
        self.file.misplaced()
    }

    fn check(&self) -> Pending<'_, ()> {
        if let Some(why) = self.misplaced() {
            return Box::pin(async { Err(StoreError::Unavailable(why)) });
        }
        self.write(|connection| execute(connection, "pragma user_version = 0", []).map(drop))
    }
}
