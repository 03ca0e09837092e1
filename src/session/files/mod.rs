//! Single files of a workspace: listed, read, written and deleted.
//!
//! ```text
//! sandbox:   Run ─▶ ash-init files …, inside, with the sandbox's rights ─▶ parts ─┐
//! snapshot:  Reader ─▶ snapshot::{scan, send} ───────────────────────────────────┴▶ caller
//! ```
//!
//! What is read comes out of the sandbox if there is one, which is thawed for it, and otherwise out of the
//! newest snapshot. What is written goes into the sandbox, which is brought up for it; of a session that is
//! not active a snapshot is taken after it, so that it is as if its processes had never been there.

mod snapshot;
pub(super) mod tool;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::snapshot::{Found, Wanted};
use self::tool::Tool;
use super::bundle::{Source, from_snapshot};
use super::driver::{Purpose, Request, Visit};
use super::{SessionError, Sessions, snapshot_error};
use crate::archive::components;
use crate::link::files::Refusal;
use crate::link::shim::Job;
use crate::store::SessionRow;
use crate::wire::session::Status;
use crate::wire::{SessionId, Timestamp};

/// Files of one list.
pub const LIST_MAX: usize = 100_000;
/// Longest path, path_resolution(7).
const PATH_MAX: usize = 4095;
/// Pieces that wait to be taken.
const PIECES: usize = 4;
/// How long a caller may take nothing. Until it goes on, a sandbox is kept awake for it.
const STALL_DEADLINE: Duration = Duration::from_secs(60);
/// Snapshots that are looked through at a time, each of which holds a thread and remembers the names in it. The others
/// wait; who reads a file that was found has left.
static SCANS: Semaphore = Semaphore::const_new(8);

/// Names that no list has, and what is below them.
const NEVER: [&str; 4] = ["node_modules", ".git", "__pycache__", ".DS_Store"];
/// Names that a list without hidden files does not have either.
const HIDDEN: [&str; 8] = [".cache", ".npm", ".pnpm-store", ".yarn", ".venv", "venv", ".tmp", "tmp"];

/// Why a file can not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// No path was named.
    #[error("File path required")]
    NoPath,
    /// The path climbs, is absolute, too long or none.
    #[error("Invalid file path")]
    Path,
    /// What [`Refusal`] says.
    #[error("{}", .0.as_str())]
    Refused(Refusal),
    /// It is larger than allowed.
    #[error("File too large ({size} bytes, max {max})")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// There is no room for a list as long as this one.
    #[error("Too many files are being listed; try again")]
    NoRoom,
}

/// Makes room in memory for so many bytes of a list in all; says whether it could.
pub type MakeRoom<'a> = &'a (dyn Fn(usize) -> bool + Send + Sync);

/// A file of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its path in the workspace, which may be any bytes.
    pub path: Vec<u8>,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed.
    pub modified_at: Timestamp,
}

/// The files of a workspace.
#[derive(Debug)]
pub struct List {
    /// At most [`LIST_MAX`].
    pub files: Vec<Listed>,
    /// Whether there are more.
    pub truncated: bool,
    /// Where they are.
    pub source: Source,
}

/// A file that is being read.
#[derive(Debug)]
pub struct Content {
    /// Its size in bytes.
    pub size: u64,
    /// Where it is.
    pub source: Source,
    pieces: mpsc::Receiver<Result<Bytes, SessionError>>,
    left: u64,
}

impl Content {
    /// The next bytes; `None` when all of it was read. After an error it is not whole.
    pub async fn next(&mut self) -> Option<Result<Bytes, SessionError>> {
        if self.left == 0 {
            return None;
        }
        let piece = self.pieces.recv().await.unwrap_or_else(|| Err(SessionError::Download("the file broke off".to_owned())));
        match &piece {
            // A file has as many bytes as were announced.
            Ok(bytes) => self.left = self.left.saturating_sub(bytes.len() as u64),
            Err(_) => self.left = 0,
        }
        Some(piece)
    }
}

/// A path in a workspace.
///
/// # Errors
///
/// [`FileError::NoPath`], [`FileError::Path`].
pub fn checked(path: &str) -> Result<String, FileError> {
    if path.is_empty() {
        return Err(FileError::NoPath);
    }
    let names = components(Path::new(path)).map_err(|_| FileError::Path)?;
    let names: Vec<_> = names.into_iter().map(OsStr::as_bytes).collect();
    let path = String::from_utf8(names.join(&b'/')).map_err(|_| FileError::Path)?;
    if path.is_empty() || path.len() > PATH_MAX { Err(FileError::Path) } else { Ok(path) }
}

impl Sessions {
    /// The files of a workspace, all but those that no list has; without `hidden`, also without caches and
    /// the like.
    ///
    /// # Errors
    ///
    /// [`SessionError::NoWorkspace`], [`SessionError::Download`], [`FileError::NoRoom`].
    pub async fn list_files(&self, tenant: &str, id: SessionId, hidden: bool, room: MakeRoom<'_>) -> Result<List, SessionError> {
        let row = self.get(tenant, id).await?;
        let excludes: Vec<&str> = NEVER.iter().chain(HIDDEN.iter().filter(|_| !hidden)).copied().collect();
        if self.has_sandbox(&row).await? {
            let visit = self.visit(&row, Purpose::Read).await?;
            let excludes = excludes.into_iter().map(str::to_owned).collect();
            let mut files = tool::list(&visit, excludes, LIST_MAX as u64, room).await?;
            let truncated = files.len() > LIST_MAX;
            files.truncate(LIST_MAX);
            return Ok(List { files, truncated, source: Source::Sandbox });
        }
        let (files, truncated) = match self.scan(&row, Wanted::List(excludes)).await?.0 {
            Found::List(files, truncated) => (files, truncated),
            Found::File(_) | Found::Other(_) => (Vec::new(), false),
        };
        // How many are made at a time is bounded already; this one may wait long to be taken.
        let bytes = files.iter().map(|file| file.path.len() + size_of::<Listed>()).sum();
        if !room(bytes) {
            return Err(FileError::NoRoom.into());
        }
        Ok(List { files, truncated, source: Source::Snapshot })
    }

    /// A file of a workspace of at most `max` bytes.
    ///
    /// # Errors
    ///
    /// [`SessionError::File`], [`SessionError::NoWorkspace`], [`SessionError::Download`].
    pub async fn read_file(&self, tenant: &str, id: SessionId, path: &str, max: u64) -> Result<Content, SessionError> {
        let row = self.get(tenant, id).await?;
        let path = checked(path)?;
        let (size, source, pieces) = if self.has_sandbox(&row).await? {
            let visit = self.visit(&row, Purpose::Read).await?;
            let (size, pieces) = tool::read(&visit, path, max).await?;
            (size, Source::Sandbox, pieces)
        } else {
            let file = |path| Wanted::File { path, max };
            let (size, pieces) = match self.scan(&row, file(path.into_bytes())).await? {
                (Found::File(size), pieces) => (size, pieces),
                // It is no file of its own: a link leads to one, or to nothing.
                (Found::Other(path), _) => match self.scan(&row, file(path)).await? {
                    (Found::File(size), pieces) => (size, pieces),
                    _ => return Err(FileError::Refused(Refusal::Missing).into()),
                },
                (Found::List(..), _) => return Err(FileError::Refused(Refusal::Missing).into()),
            };
            (size, Source::Snapshot, pieces)
        };
        if size > max { Err(FileError::TooLarge { size, max }.into()) } else { Ok(Content { size, source, pieces, left: size }) }
    }

    /// Writes files, one after the other; tells of each what became of it, with a sentence if it was not
    /// written. `by` is who asked.
    ///
    /// # Errors
    ///
    /// [`SessionError::Over`], [`SessionError::Upload`] if the sandbox did not come up.
    pub async fn write_files(
        &self,
        tenant: &str,
        id: SessionId,
        by: &str,
        files: impl Iterator<Item = Result<(String, Vec<u8>), String>> + Send,
    ) -> Result<Vec<Result<u64, String>>, SessionError> {
        let row = self.changeable(tenant, id).await?;
        let mut visit = self.visit(&row, Purpose::Write).await?;
        let (mut done, mut count, mut bytes) = (Vec::new(), 0_u64, 0);
        for file in files {
            let written = match file {
                Ok((path, content)) => match tool::write(&visit, path, &content).await {
                    Ok(()) => Ok(content.len() as u64),
                    Err(SessionError::Upload(reason)) => Err(reason),
                    Err(error) => Err(error.to_string()),
                },
                Err(reason) => Err(reason),
            };
            if let Ok(size) = written {
                (count, bytes) = (count + 1, bytes + size);
            }
            done.push(written);
        }
        visit.is_done_writing();
        if count > 0 {
            let data = serde_json::json!({"action": "files_written", "files": count, "bytes": bytes, "by": by});
            self.changed(&row, data).await?;
        }
        drop(visit);
        Ok(done)
    }

    /// Deletes a file, or a link.
    ///
    /// # Errors
    ///
    /// [`SessionError::Over`], [`SessionError::File`], [`SessionError::Upload`].
    pub async fn delete_file(&self, tenant: &str, id: SessionId, by: &str, path: &str) -> Result<(), SessionError> {
        let row = self.changeable(tenant, id).await?;
        let path = checked(path)?;
        let mut visit = self.visit(&row, Purpose::Write).await?;
        let (tool, _) = Tool::start(&visit, Job::Delete { path: path.clone() }, false, SessionError::Upload).await?;
        tool.end().await?;
        visit.is_done_writing();
        let data = serde_json::json!({"action": "file_deleted", "path": path, "by": by});
        self.changed(&row, data).await?;
        drop(visit);
        Ok(())
    }

    pub(super) async fn changeable(&self, tenant: &str, id: SessionId) -> Result<SessionRow, SessionError> {
        let row = self.get(tenant, id).await?;
        if row.status == Status::Ended { Err(SessionError::Over) } else { Ok(row) }
    }

    pub(super) async fn visit(&self, row: &SessionRow, purpose: Purpose) -> Result<Visit, SessionError> {
        match self.ask(row, |reply| Request::Visit { purpose, reply }).await {
            Err(SessionError::Status(Status::Ended)) => Err(SessionError::Over),
            visit => visit,
        }
    }

    /// Writes down a change. What a session without processes has is in a snapshot then.
    pub(super) async fn changed(&self, row: &SessionRow, data: serde_json::Value) -> Result<(), SessionError> {
        let data = data.to_string();
        self.ask(row, |reply| Request::Note { data, reply }).await?;
        if self.get(&row.tenant, row.id).await?.status != Status::Active {
            self.ask(row, |reply| Request::Snapshot { reply }).await?;
        }
        Ok(())
    }

    /// Looks through the newest snapshot.
    async fn scan(
        &self,
        row: &SessionRow,
        wanted: Wanted,
    ) -> Result<(Found, mpsc::Receiver<Result<Bytes, SessionError>>), SessionError> {
        self.context.last_snapshot(row).await?;
        self.context.has_all_kept(row).await?;
        let newest = self.context.snapshots.read_newest(row.id).await.map_err(snapshot_error)?;
        let reader = newest.reader.ok_or(SessionError::NoWorkspace)?;
        let place = SCANS.acquire().await.map_err(|_| SessionError::Closing)?;
        let (to_thread, chunks) = mpsc::channel(PIECES);
        tokio::spawn(from_snapshot(reader, to_thread));
        let ((found, is_found), (to, pieces)) = (oneshot::channel(), mpsc::channel(PIECES));
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let send = |piece| matches!(runtime.block_on(tokio::time::timeout(STALL_DEADLINE, to.send(piece))), Ok(Ok(())));
            snapshot::scan(chunks, wanted, found, send, place);
        });
        Ok((is_found.await.map_err(|_| SessionError::Closing)??, pieces))
    }
}
