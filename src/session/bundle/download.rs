//! A bundle on its way out of a session.

use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::EXCLUDES;
use super::export::export;
use crate::archive::exclude::Excludes;
use crate::report::chain;
use crate::session::driver::{Purpose, Request, Visit};
use crate::session::{Phase, SessionError, Sessions, snapshot_error};
use crate::snapshot::Reader;
use crate::store::SessionRow;
use crate::wire::SessionId;
use crate::wire::session::Status;

/// Pieces that wait on either side of the thread that compresses.
const PIECES: usize = 4;
/// How long a client may take nothing. Until it goes on, a sandbox is kept awake for it.
const STALL_DEADLINE: Duration = Duration::from_secs(60);

/// A bundle as it comes.
#[derive(Debug)]
pub struct Download {
    /// Where it is from.
    pub source: Source,
    first: Option<Bytes>,
    rest: mpsc::Receiver<Piece>,
    is_over: bool,
}

/// Bytes; `None` says that they were all.
type Piece = io::Result<Option<Bytes>>;

/// Where a workspace was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In its sandbox.
    Sandbox,
    /// In its newest snapshot.
    Snapshot,
}

impl Source {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Snapshot => "snapshot",
        }
    }
}

impl Download {
    /// The next bytes; `None` at the end of a whole bundle. After an error it is not whole.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        if self.is_over {
            return None;
        }
        let piece = self.rest.recv().await.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into())).transpose();
        self.is_over = !matches!(piece, Some(Ok(_)));
        piece
    }
}

impl Sessions {
    /// The workspace as a `tar.gz`, from its sandbox, or of a session without one from its newest
    /// snapshot. A sandbox that is frozen is thawed for it. A folder without processes may be newer
    /// than the snapshot, so its sandbox is started. With `all`, nothing is left out.
    ///
    /// # Errors
    ///
    /// [`SessionError::NoWorkspace`] if there is neither, [`SessionError::Download`] if it can not be
    /// read.
    pub async fn download(&self, tenant: &str, id: SessionId, all: bool) -> Result<Download, SessionError> {
        let row = self.get(tenant, id).await?;
        let (to_thread, chunks) = mpsc::channel(PIECES);
        let excludes: &'static [&'static str] = if all { &[] } else { &EXCLUDES };
        let source = if self.has_sandbox(&row).await? {
            let visit = self.ask(&row, |reply| Request::Visit { purpose: Purpose::Read, reply }).await?;
            let patterns = excludes.iter().map(|pattern| (*pattern).to_owned()).collect();
            let exporting = visit.shim.export(patterns).await;
            let (parts, whole) = exporting.map_err(|error| SessionError::Download(chain(&error)))?;
            tokio::spawn(from_sandbox(visit, parts, whole, to_thread));
            Source::Sandbox
        } else {
            self.context.last_snapshot(&row).await?;
            self.context.has_all_kept(&row).await?;
            let newest = self.context.snapshots.read_newest(id).await.map_err(snapshot_error)?;
            tokio::spawn(from_snapshot(newest.reader.ok_or(SessionError::NoWorkspace)?, to_thread));
            Source::Snapshot
        };
        let (pieces, mut rest) = mpsc::channel(PIECES);
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let excludes = Excludes::new(excludes.iter().map(|pattern| pattern.as_bytes()));
            let reader = Chunks::new(chunks);
            let mut to = Pieces { runtime, pieces: &pieces, is_broken: false };
            let end = export(reader, &excludes, all, &mut to).map(|()| None).map_err(io::Error::other);
            // What is not told to be over counts as broken off. A client that is gone needs no word.
            let _ = to.send(end);
        });
        // What fails at once can still be told in an answer.
        match rest.recv().await {
            Some(Ok(first)) => Ok(Download { source, is_over: first.is_none(), first, rest }),
            Some(Err(error)) => Err(SessionError::Download(chain(&error))),
            None => Err(SessionError::Closing),
        }
    }

    /// Whether there is a sandbox, or at least its folder.
    pub(in crate::session) async fn has_sandbox(&self, row: &SessionRow) -> Result<bool, SessionError> {
        if row.status == Status::Ended {
            return Ok(false);
        }
        if self.phase(row.id) != Phase::Cold {
            return Ok(true);
        }
        let listed = self.context.launcher.list().await.map_err(|error| SessionError::Download(chain(&error)))?;
        Ok(listed.iter().any(|one| one.sandbox == row.sandbox))
    }
}

async fn from_sandbox(
    visit: Visit,
    mut parts: mpsc::Receiver<Vec<u8>>,
    whole: impl Future<Output = Result<Option<String>, crate::link::daemon::LinkError>>,
    to: mpsc::Sender<io::Result<Vec<u8>>>,
) {
    while let Some(part) = parts.recv().await {
        if to.send(Ok(part)).await.is_err() {
            return;
        }
    }
    // The parts end in any case; only this says that they were all.
    if let Err(error) = whole.await {
        tracing::info!(error = chain(&error), "a workspace was not downloaded whole");
        // If the other end is gone, nobody needs to know.
        let _ = to.send(Err(io::Error::other(error))).await;
    }
    drop(visit);
}

/// Hands on what a snapshot has.
pub(in crate::session) async fn from_snapshot(mut reader: Reader, to: mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let chunk = match reader.chunk().await {
            Ok(Some(chunk)) => Ok(chunk),
            Ok(None) => return,
            Err(error) => Err(io::Error::other(error)),
        };
        let is_error = chunk.is_err();
        if to.send(chunk).await.is_err() || is_error {
            return;
        }
    }
}

/// Reads chunks out of a channel.
pub(in crate::session) struct Chunks {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Chunks {
    /// Reads from the beginning of the first.
    pub(in crate::session) const fn new(chunks: mpsc::Receiver<io::Result<Vec<u8>>>) -> Self {
        Self { chunks, chunk: Vec::new(), at: 0 }
    }
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.chunks.blocking_recv() {
                Some(chunk) => (self.chunk, self.at) = (chunk?, 0),
                None => return Ok(0),
            }
        }
        let count = into.len().min(self.chunk.len() - self.at);
        into[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Writes pieces into a channel, as long as somebody takes them.
struct Pieces<'a> {
    runtime: Handle,
    pieces: &'a mpsc::Sender<Piece>,
    is_broken: bool,
}

impl Pieces<'_> {
    fn send(&mut self, piece: Piece) -> io::Result<()> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let sent = self.runtime.block_on(tokio::time::timeout(STALL_DEADLINE, self.pieces.send(piece)));
        self.is_broken = !matches!(sent, Ok(Ok(())));
        match sent {
            Ok(sent) => sent.map_err(|_| io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(Ok(Some(Bytes::copy_from_slice(bytes)))).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
