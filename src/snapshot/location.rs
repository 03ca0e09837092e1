//! The port behind which snapshots lie.
//!
//! All of it blocks and is called where that is allowed; a backend that is asynchronous waits on
//! the runtime's handle. A snapshot comes into being as a [`Draft`], which nobody sees, and is
//! there as a whole once that is published. So a folder can rename, and an object store can put
//! the manifest last, and callers see no difference.

use std::fmt;
use std::io::{Read, Seek, Write};

use super::error::SnapshotError;
use super::format::SnapshotId;
use crate::wire::SessionId;

/// A place where snapshots are kept.
pub trait Location: Send + Sync + fmt::Debug {
    /// Begins a snapshot of a session, with no data yet.
    fn begin(&self, session: SessionId) -> Result<Box<dyn Draft>, SnapshotError>;

    /// Begins a snapshot of a session with the data of another snapshot, whose manifest is
    /// returned. Data and manifest belong together, also while that snapshot is being replaced.
    fn begin_copy(&self, from: SnapshotId, session: SessionId) -> Result<(Vec<u8>, Box<dyn Draft>), SnapshotError>;

    /// Opens a snapshot. What was opened stays readable when the snapshot is replaced or removed.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::NotFound`], and [`SnapshotError::Damaged`] if it has not both parts.
    fn open(&self, id: SnapshotId) -> Result<Parts, SnapshotError>;

    /// The events of a session's snapshots, oldest first.
    fn list(&self, session: SessionId) -> Result<Vec<i64>, SnapshotError>;

    /// The sessions that have something here.
    fn sessions(&self) -> Result<Vec<SessionId>, SnapshotError>;

    /// Bytes of a session's snapshots. Data that several snapshots share counts for each.
    fn usage(&self, session: SessionId) -> Result<u64, SnapshotError>;

    /// Removes a snapshot, if it is there.
    fn remove(&self, id: SnapshotId) -> Result<(), SnapshotError>;

    /// Removes all snapshots of a session.
    fn remove_all(&self, session: SessionId) -> Result<(), SnapshotError>;

    /// Removes what nobody works at any more and is no snapshot: drafts, and what could not be
    /// removed before.
    fn sweep(&self) -> Result<(), SnapshotError>;
}

/// A snapshot that is there.
pub struct Parts {
    /// At most [`MANIFEST_MAX`](super::format::MANIFEST_MAX) bytes and one more; not checked.
    pub manifest: Vec<u8>,
    /// The data, from its beginning.
    pub data: Box<dyn Object>,
}

/// Data that can be read, and read again.
pub trait Object: Read + Seek + Send {}

impl<T: Read + Seek + Send> Object for T {}

/// A snapshot that is being written: what is written to it is its data. It is removed when
/// dropped.
pub trait Draft: Write + Send + Sync {
    /// Where it is, for messages.
    fn place(&self) -> String;

    /// Brings the data to the disk, and opens what is there. Nothing is written to it any more.
    fn read_back(&mut self) -> Result<Box<dyn Object>, SnapshotError>;

    /// Adds the manifest, and makes it the snapshot of this event, in the place of another one of
    /// the same name. When this returns, a power cut changes nothing; if it fails, the other one
    /// is still there.
    fn publish(self: Box<Self>, event: i64, manifest: &[u8]) -> Result<(), SnapshotError>;
}
