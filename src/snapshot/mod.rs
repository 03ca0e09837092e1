//! Snapshots: workspace and conversation of a session, packed, checked, and kept.
//!
//! ```text
//!              ┌───────────── blocking thread ─────────────┐
//! Writer ─────▶│ SHA-256 ─▶ zstd ─▶ SHA-256 ─▶ draft       │─▶ sync ─▶ read back, compare ─▶ publish
//!  tar, chunks └───────────────────────────────────────────┘
//!              ┌───────────── blocking thread ─────────────┐
//! Reader ◀─────│ SHA-256 ◀─ unzstd ◀── second reading      │◀─ SHA-256 over all of it ◀─ manifest
//!  tar, chunks └───────────────────────────────────────────┘
//! ```
//!
//! A snapshot is there as a whole or not at all. It gets its name only when it was read back from
//! the disk and found to be what was packed; a writer that is dropped, or a process that dies,
//! leaves nothing that counts. Nothing of a damaged snapshot is handed out: its manifest has a
//! checksum, and that of all the data is compared before the first chunk leaves. What is then
//! unpacked is bounded by the manifest.
//!
//! | module | holds |
//! | --- | --- |
//! | [`mod@format`] | the manifest |
//! | [`error`] | what can be wrong |
//! | `pack` | from chunks to data and back |
//! | [`location`] | the port: where snapshots lie |
//! | [`mod@file`] | snapshots in a folder |
//!
//! There is no lock to hold and no state in memory. Two writers of one name may be at work: the
//! one that finishes last replaces the other, in one step, and a reader of the other reads on. The
//! bytes of the archive are not looked into, but for its end.

pub mod error;
pub mod file;
pub mod format;
pub mod location;
mod pack;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

pub use error::{Damage, SnapshotError};
pub use format::{About, Manifest, Origin, Reason, SnapshotId};

use crate::wire::{SessionId, Timestamp};
use location::{Draft, Location, Parts};
use pack::Packer;

/// Chunks that wait between a thread and a caller: enough that neither waits for every single one
/// of the other, and with chunks of 128 KiB half a megabyte.
const WAITING_CHUNKS: usize = 4;

/// The snapshots of all sessions.
#[derive(Debug, Clone)]
pub struct Snapshots {
    location: Arc<dyn Location>,
}

/// What there is to go on from.
#[derive(Debug)]
pub struct Newest {
    /// The newest snapshot that is whole; `None` if none is.
    pub reader: Option<Reader>,
    /// Events of those after it, which are damaged, newest first.
    pub skipped: Vec<i64>,
}

/// A snapshot in a list.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub id: SnapshotId,
    /// What its manifest says, with which the size of its data agrees; or what is wrong with it.
    pub state: Result<Manifest, SnapshotError>,
}

impl Snapshots {
    /// Opens the place that `snapshots.url` of the configuration names, and removes what a crash
    /// left there. Only `file:///…` is known.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Location`], [`SnapshotError::Unavailable`], [`SnapshotError::Full`].
    pub async fn open(url: &str) -> Result<Self, SnapshotError> {
        let path = url.strip_prefix("file://").map(Path::new).filter(|path| path.is_absolute());
        let path = path.ok_or_else(|| SnapshotError::Location(url.to_owned()))?.to_owned();
        let folder = blocking(move || file::Folder::open(path)).await?;
        Ok(Self::at(folder))
    }

    /// Keeps snapshots in this place.
    pub fn at(location: impl Location + 'static) -> Self {
        Self { location: Arc::new(location) }
    }

    /// Begins a snapshot. It exists when [`Writer::finish`] has returned, and replaces one of the
    /// same name then.
    pub async fn begin(&self, about: About) -> Result<Writer, SnapshotError> {
        if about.id.event < 0 {
            return Err(SnapshotError::Event(about.id));
        }
        let mut packer = self.run(move |location| Packer::new(about.clone(), location.begin(about.id.session)?)).await?;
        let (sender, mut receiver) = mpsc::channel(WAITING_CHUNKS);
        let task = spawn_blocking(move || {
            loop {
                match receiver.blocking_recv() {
                    Some(Input::Chunk(chunk)) => packer.take(&chunk)?,
                    Some(Input::End { conversation }) => return packer.finish(conversation),
                    None => return Err(SnapshotError::GivenUp),
                }
            }
        });
        Ok(Writer { sender, task: Some(task), spoilt: false })
    }

    /// Opens a snapshot, after all of its stored bytes were checked.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::NotFound`], [`SnapshotError::Damaged`], [`SnapshotError::Newer`],
    /// [`SnapshotError::Unavailable`].
    pub async fn read(&self, id: SnapshotId) -> Result<Reader, SnapshotError> {
        self.read_telling(id, || ()).await
    }

    /// The same, and tells `moves` of each piece that was checked.
    ///
    /// # Errors
    ///
    /// As of [`Self::read`].
    pub async fn read_telling(&self, id: SnapshotId, moves: impl Fn() + Send + 'static) -> Result<Reader, SnapshotError> {
        self.run(move |location| open_whole(location, id, &moves)).await.map(|(manifest, parts)| Reader::new(manifest, parts))
    }

    /// Reads all stored bytes of a snapshot, as [`Self::read`] does first; returns what is known of it.
    ///
    /// # Errors
    ///
    /// As of [`Self::read`].
    pub async fn check(&self, id: SnapshotId) -> Result<Manifest, SnapshotError> {
        self.run(move |location| open_whole(location, id, &|| ())).await.map(|(manifest, _)| manifest)
    }

    /// Opens the newest snapshot of a session that is whole. Those that were damaged after it are
    /// passed over, which is logged and told.
    ///
    /// # Errors
    ///
    /// What may be whole is not passed over: [`SnapshotError::Newer`] and
    /// [`SnapshotError::Unavailable`] are errors.
    pub async fn read_newest(&self, session: SessionId) -> Result<Newest, SnapshotError> {
        self.read_newest_telling(session, || ()).await
    }

    /// The same, and tells `moves` of each piece that was looked through: all of it is before this
    /// returns, which takes long for a large one.
    ///
    /// # Errors
    ///
    /// As of [`Self::read_newest`].
    pub async fn read_newest_telling(
        &self,
        session: SessionId,
        moves: impl Fn() + Send + 'static,
    ) -> Result<Newest, SnapshotError> {
        let (found, skipped) = self.run(move |location| find_newest(location, session, &moves)).await?;
        Ok(Newest { reader: found.map(|(manifest, parts)| Reader::new(manifest, parts)), skipped })
    }

    /// What [`Self::read_newest`] would open.
    pub async fn newest(&self, session: SessionId) -> Result<Option<Manifest>, SnapshotError> {
        let (found, _) = self.run(move |location| find_newest(location, session, &|| ())).await?;
        Ok(found.map(|(manifest, _)| manifest))
    }

    /// The event of the newest snapshot of a session, of which nothing is read but its name.
    pub async fn newest_event(&self, session: SessionId) -> Result<Option<i64>, SnapshotError> {
        self.run(move |location| Ok(location.list(session)?.pop())).await
    }

    /// The snapshots of a session, oldest first. Their data is not read, except for its size.
    pub async fn list(&self, session: SessionId) -> Result<Vec<Listed>, SnapshotError> {
        self.run(move |location| list(location, session)).await
    }

    /// Removes a snapshot. That there is none is no error.
    pub async fn remove(&self, id: SnapshotId) -> Result<(), SnapshotError> {
        self.run(move |location| location.remove(id)).await
    }

    /// Removes all snapshots of a session, also those that are being written.
    pub async fn remove_all(&self, session: SessionId) -> Result<(), SnapshotError> {
        self.run(move |location| location.remove_all(session)).await
    }

    /// Removes the snapshots of a session that are older than its `keep` newest ones, except for
    /// those of these events; returns the events of what it removed. The newest one whose data is
    /// whole stays in any case, and so does everything while there is none. Damaged ones do not
    /// count among the kept, and go with those of their age.
    ///
    /// # Errors
    ///
    /// As of [`Self::read_newest`], and as of [`Self::remove`].
    pub async fn prune(&self, session: SessionId, keep: usize, but_never: &[i64]) -> Result<Vec<i64>, SnapshotError> {
        let but_never = but_never.to_vec();
        self.run(move |location| prune(location, session, keep, &but_never)).await
    }

    /// Copies a snapshot, for a fork, or for the same session to go back to it. The copy does not
    /// depend on the original, though both may share their bytes on the disk. It replaces one of the
    /// same name.
    ///
    /// # Errors
    ///
    /// As of [`Self::begin_copy`], and as of [`PendingCopy::publish`].
    pub async fn copy(&self, from: SnapshotId, to: SnapshotId) -> Result<Manifest, SnapshotError> {
        if to.event < 0 {
            return Err(SnapshotError::Event(to));
        }
        self.begin_copy(from, to.session).await?.publish(to.event).await
    }

    /// Begins a copy of a snapshot for a session: all of its stored bytes are checked, and the copy has
    /// them, whatever becomes of the original. What is left is to give it its name.
    ///
    /// # Errors
    ///
    /// As of [`Self::read`]: nothing damaged is copied. And as of writing.
    pub async fn begin_copy(&self, from: SnapshotId, session: SessionId) -> Result<PendingCopy, SnapshotError> {
        self.run(move |location| {
            let (manifest, mut draft) = location.begin_copy(from, session)?;
            let manifest = Manifest::decode(&manifest, from)?;
            pack::check(&mut *draft.read_back()?, from, &manifest.measure(), &|| ())?;
            Ok(PendingCopy { manifest, session, draft })
        })
        .await
    }

    /// The sessions that have something here, whole or not.
    pub async fn sessions(&self) -> Result<Vec<SessionId>, SnapshotError> {
        self.run(|location| location.sessions()).await
    }

    /// Removes what nobody works at any more and is no snapshot. [`Self::open`] did so, too; this
    /// is for what could not be removed since.
    pub async fn sweep(&self) -> Result<(), SnapshotError> {
        self.run(|location| location.sweep()).await
    }

    /// Bytes of a session's snapshots, damaged ones too. What copies share counts for each.
    pub async fn usage(&self, session: SessionId) -> Result<u64, SnapshotError> {
        self.run(move |location| location.usage(session)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Location) -> Result<T, SnapshotError> + Send + 'static,
    ) -> Result<T, SnapshotError> {
        let location = self.location.clone();
        blocking(move || work(&*location)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    joined(spawn_blocking(work)).await
}

async fn joined<T>(task: JoinHandle<Result<T, SnapshotError>>) -> Result<T, SnapshotError> {
    task.await.unwrap_or(Err(SnapshotError::GivenUp))
}

fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

/// Opens a snapshot and checks its manifest and the size of its data.
fn open(location: &dyn Location, id: SnapshotId) -> Result<(Manifest, Parts), SnapshotError> {
    let mut parts = location.open(id)?;
    let manifest = Manifest::decode(&parts.manifest, id)?;
    pack::check_size(&mut *parts.data, id, &manifest.measure())?;
    Ok((manifest, parts))
}

/// Opens a snapshot and checks all of its stored bytes.
fn open_whole(location: &dyn Location, id: SnapshotId, moves: &dyn Fn()) -> Result<(Manifest, Parts), SnapshotError> {
    let (manifest, mut parts) = open(location, id)?;
    pack::check(&mut *parts.data, id, &manifest.measure(), moves)?;
    Ok((manifest, parts))
}

/// The newest whole snapshot, and the events of the damaged ones after it.
type Found = (Option<(Manifest, Parts)>, Vec<i64>);

fn find_newest(location: &dyn Location, session: SessionId, moves: &dyn Fn()) -> Result<Found, SnapshotError> {
    let mut skipped = Vec::new();
    for event in location.list(session)?.into_iter().rev() {
        match open_whole(location, SnapshotId { session, event }, moves) {
            Ok(found) => return Ok((Some(found), skipped)),
            Err(SnapshotError::NotFound(_)) => {}
            Err(SnapshotError::Damaged { damage, .. }) => {
                tracing::warn!(session_id = %session, event, %damage, "snapshot is damaged, ignoring");
                skipped.push(event);
            }
            Err(error) => return Err(error),
        }
    }
    Ok((None, skipped))
}

fn list(location: &dyn Location, session: SessionId) -> Result<Vec<Listed>, SnapshotError> {
    let mut found = Vec::new();
    for event in location.list(session)? {
        let id = SnapshotId { session, event };
        match open(location, id) {
            Err(SnapshotError::NotFound(_)) => {}
            state => found.push(Listed { id, state: state.map(|(manifest, _)| manifest) }),
        }
    }
    Ok(found)
}

fn prune(location: &dyn Location, session: SessionId, keep: usize, but_never: &[i64]) -> Result<Vec<i64>, SnapshotError> {
    let listed = list(location, session)?;
    if listed.len() <= keep {
        return Ok(Vec::new());
    }
    let (Some((newest, _)), _) = find_newest(location, session, &|| ())? else { return Ok(Vec::new()) };
    let (mut kept, mut removed) = (0, Vec::new());
    for Listed { id, state } in listed.into_iter().rev().filter(|listed| listed.id.event <= newest.event) {
        if id.event == newest.event || (kept < keep && state.is_ok()) {
            kept += 1;
        } else if kept >= keep && !but_never.contains(&id.event) {
            location.remove(id)?;
            removed.push(id.event);
        }
    }
    removed.reverse();
    Ok(removed)
}

/// A copy that was checked and does not exist yet. Dropped before [`Self::publish`], it leaves
/// nothing.
#[must_use = "a copy without a name does not exist"]
pub struct PendingCopy {
    /// Of the original.
    manifest: Manifest,
    session: SessionId,
    draft: Box<dyn Draft>,
}

impl PendingCopy {
    /// Makes it the snapshot of this event of its session. No data is read or written for it.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Event`], [`SnapshotError::Full`], [`SnapshotError::Unavailable`]. Nothing is
    /// left then.
    pub async fn publish(self, event: i64) -> Result<Manifest, SnapshotError> {
        let to = SnapshotId { session: self.session, event };
        if event < 0 {
            return Err(SnapshotError::Event(to));
        }
        blocking(move || {
            let manifest = self.manifest.forked(to, now());
            self.draft.publish(event, &manifest.encode()?)?;
            Ok(manifest)
        })
        .await
    }
}

impl fmt::Debug for PendingCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCopy").field("of", &self.manifest.id()).field("session", &self.session).finish_non_exhaustive()
    }
}

enum Input {
    Chunk(Vec<u8>),
    End { conversation: Option<String> },
}

/// A snapshot that is being written. Dropped before [`Self::finish`], it leaves nothing; the thread
/// that works on it removes it then.
#[derive(Debug)]
#[must_use = "a snapshot that is not finished does not exist"]
pub struct Writer {
    sender: mpsc::Sender<Input>,
    task: Option<JoinHandle<Result<Manifest, SnapshotError>>>,
    /// Whether a chunk may be missing.
    spoilt: bool,
}

impl Writer {
    /// Adds the next bytes of the archive, of any number; `WAITING_CHUNKS` such chunks may be in
    /// memory at a time. Waits while the disk is slower.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Full`] and [`SnapshotError::Unavailable`]. The writer is of no use then,
    /// and what it wrote is removed already.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, its chunk may be lost, and every later call fails.
    pub async fn chunk(&mut self, chunk: Vec<u8>) -> Result<(), SnapshotError> {
        if self.spoilt {
            return Err(SnapshotError::GivenUp);
        }
        self.spoilt = true;
        if self.sender.send(Input::Chunk(chunk)).await.is_err() {
            return Err(self.failure().await);
        }
        self.spoilt = false;
        Ok(())
    }

    /// Ends the archive, which came as a whole. `conversation` is the runtime's name of the
    /// conversation that is in it.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Incomplete`] if it did not come as a whole after all;
    /// [`SnapshotError::Damaged`] if the disk did not give back what was written;
    /// [`SnapshotError::ManifestTooLarge`]; and those of [`Self::chunk`]. Nothing is left then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the snapshot may come to exist.
    pub async fn finish(mut self, conversation: Option<String>) -> Result<Manifest, SnapshotError> {
        if self.spoilt {
            return Err(SnapshotError::GivenUp);
        }
        if self.sender.send(Input::End { conversation }).await.is_err() {
            return Err(self.failure().await);
        }
        match self.task.take() {
            Some(task) => joined(task).await,
            None => Err(SnapshotError::GivenUp),
        }
    }

    /// Why the thread takes nothing more.
    async fn failure(&mut self) -> SnapshotError {
        match self.task.take() {
            Some(task) => joined(task).await.err().unwrap_or(SnapshotError::GivenUp),
            None => SnapshotError::GivenUp,
        }
    }
}

/// A snapshot that is being read. It stays readable while it is replaced or removed.
#[derive(Debug)]
pub struct Reader {
    manifest: Manifest,
    chunks: mpsc::Receiver<Result<Option<Vec<u8>>, SnapshotError>>,
    is_over: bool,
}

impl Reader {
    fn new(manifest: Manifest, parts: Parts) -> Self {
        let (sender, chunks) = mpsc::channel(WAITING_CHUNKS);
        let (id, measure) = (manifest.id(), manifest.measure());
        // Ends by itself when the reader is dropped.
        spawn_blocking(move || {
            let give = |chunk: &[u8]| sender.blocking_send(Ok(Some(chunk.to_vec()))).is_ok();
            let end = pack::unpack(parts.data, id, &id.to_string(), &measure, give).map(|()| None);
            // Nobody may be there to hear it.
            let _ = sender.blocking_send(end);
        });
        Self { manifest, chunks, is_over: false }
    }

    /// What is known of the snapshot.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The next bytes of the archive, at most 128 KiB; `None` after the last, when size and digest
    /// of the whole were found right. Never more than [`Manifest::tar_bytes`] come.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Damaged`] if the manifest did not tell the truth,
    /// [`SnapshotError::Unavailable`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, SnapshotError> {
        match self.chunks.recv().await {
            Some(Ok(None)) => {
                self.is_over = true;
                Ok(None)
            }
            Some(result) => result,
            None if self.is_over => Ok(None),
            None => Err(SnapshotError::GivenUp),
        }
    }
}

#[cfg(test)]
mod tests;
