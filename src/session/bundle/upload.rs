//! A bundle on its way into a session.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::lay::{BundleError, Contents, lay};
use crate::link::daemon::{LinkError, ShimHandle};
use crate::session::driver::Request;
use crate::session::limits;
use crate::session::open::{PIECES, PieceWriter};
use crate::session::{SessionError, Sessions};
use crate::wire::SessionId;
use crate::wire::quantity::ByteCount;
use crate::wire::session::Status;

/// Where the bytes of a bundle wait: a file without a name, which goes with whoever holds it, so that a
/// crash leaves nothing. It takes so many bytes and no more.
#[derive(Debug)]
pub struct Spool {
    file: File,
    max: ByteCount,
    left: u64,
}

impl Spool {
    /// Makes one in this folder.
    pub fn new(folder: &Path, max: ByteCount) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(Uuid::now_v7().to_string());
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self { file, max, left: max.0 })
    }

    /// What it takes in all.
    pub fn max(&self) -> ByteCount {
        self.max
    }
}

impl Write for Spool {
    /// Fails with [`io::ErrorKind::FileTooLarge`] when it has all that it takes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let fits = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let written = self.file.write(&bytes[..fits])?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A bundle that may come in.
#[derive(Debug)]
pub struct Bundle {
    spool: Spool,
    stored: u64,
    bytes_max: u64,
    /// Whether the workspace is emptied before.
    pub replace: bool,
    /// What is in it.
    pub contents: Contents,
}

/// Where the files are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// In a sandbox with processes.
    Live,
    /// In a snapshot.
    Saved,
}

impl Bundle {
    /// Looks at all of a bundle. Blocks.
    ///
    /// # Errors
    ///
    /// See [`BundleError`].
    pub fn check(spool: Spool, bytes_max: u64, replace: bool) -> Result<Self, BundleError> {
        let stored = spool.file.metadata().map_err(BundleError::Host)?.len();
        let mut bundle = Self { spool, stored, bytes_max, replace, contents: Contents::default() };
        bundle.contents = bundle.write(io::sink())?;
        Ok(bundle)
    }

    /// Writes it as an archive with the root `work/`. Blocks.
    fn write(&self, to: impl Write) -> Result<Contents, BundleError> {
        lay(FromStart { file: &self.spool.file, at: 0 }, self.stored, self.bytes_max, to)
    }
}

/// Reads a file from its beginning, wherever others are in it.
struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Sessions {
    /// Where an upload waits until it is whole.
    pub fn spool(&self) -> Result<Spool, SessionError> {
        let settings = &self.context.settings;
        Spool::new(&settings.uploads, settings.upload_bytes).map_err(|error| BundleError::Host(error).into())
    }

    /// Whether something can be put into the workspace of a session, as far as its status tells.
    pub async fn takes_uploads(&self, tenant: &str, id: SessionId) -> Result<(), SessionError> {
        let row = self.get(tenant, id).await?;
        if row.status == Status::Ended { Err(SessionError::Over) } else { Ok(()) }
    }

    /// Puts the files of a bundle into the workspace, in place of what is there under the same names,
    /// or with `replace` in place of everything. All of it is looked at before anything is touched.
    /// Waits until no turn runs. If it fails or the host does, the workspace is what it was before.
    pub async fn upload(&self, tenant: &str, id: SessionId, spool: Spool, replace: bool) -> Result<Placed, SessionError> {
        let row = self.get(tenant, id).await?;
        let bytes_max = limits::of_unit(&limits::of(&self.context, &row)).disk.0;
        let checking = tokio::task::spawn_blocking(move || Bundle::check(spool, bytes_max, replace));
        let bundle = Arc::new(checking.await.map_err(|_| SessionError::Closing)??);
        match self.ask(&row, |reply| Request::Upload { bundle, reply }).await {
            Err(SessionError::Status(Status::Ended)) => Err(SessionError::Over),
            outcome => outcome,
        }
    }
}

/// Sends a bundle into a sandbox.
pub async fn lay_over(shim: &ShimHandle, bundle: Arc<Bundle>) -> Result<(), LinkError> {
    let (pieces, received) = mpsc::channel(PIECES);
    let replace = bundle.replace;
    let sending = tokio::task::spawn_blocking(move || {
        let mut writer = PieceWriter::new(pieces.clone());
        let written = bundle.write(&mut writer).map_err(io::Error::other).and_then(|_| writer.flush());
        if let Err(error) = written {
            // The other end is told in place of the rest; if it is gone, nobody needs to know.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let laid = shim.lay(replace, received).await;
    // It ends with its channel, and reports through it.
    let _ = sending.await;
    laid
}
