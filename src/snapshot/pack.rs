//! Between the bytes of an archive and the bytes that are stored.

use std::io::{self, BufReader, Read, SeekFrom, Write};

use sha2::{Digest as _, Sha256};
use zstd::stream::{read::Decoder, write::Encoder};

use super::error::{Damage, SnapshotError};
use super::format::{About, Checksum, Manifest, Measure, SnapshotId, WINDOW_LOG_MAX};
use super::location::{Draft, Object};
use crate::wire::Timestamp;

/// Bytes that are read, and handed out, at a time.
pub(super) const CHUNK: usize = 128 << 10;
/// The quickest level that still halves source code.
const LEVEL: i32 = 1;
/// What a tar archive ends in (POSIX.1-2017, pax, "ustar Interchange Format"): two blocks of zeros.
const TAR_END: usize = 1024;
const TAR_BLOCK: u64 = 512;

/// Takes an archive, and makes a snapshot of it.
pub(super) struct Packer {
    about: About,
    place: String,
    encoder: Encoder<'static, Measured<Box<dyn Draft>>>,
    sum: Sha256,
    bytes: u64,
    /// How many zeros came last.
    zeros: usize,
}

impl Packer {
    pub(super) fn new(about: About, draft: Box<dyn Draft>) -> Result<Self, SnapshotError> {
        let place = draft.place();
        let failed = |source| SnapshotError::host("write", &place)(source);
        let mut encoder = Encoder::new(Measured::new(draft), LEVEL).map_err(failed)?;
        encoder.include_checksum(true).map_err(failed)?;
        Ok(Self { about, place, encoder, sum: Sha256::new(), bytes: 0, zeros: 0 })
    }

    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        self.sum.update(chunk);
        self.bytes += chunk.len() as u64;
        let zeros = chunk.iter().rev().take(TAR_END).take_while(|byte| **byte == 0).count();
        self.zeros = if zeros == chunk.len() { TAR_END.min(self.zeros + zeros) } else { zeros };
        self.encoder.write_all(chunk).map_err(SnapshotError::host("write", &self.place))
    }

    /// Finishes the data, reads it back, and publishes it.
    pub(super) fn finish(self, conversation: Option<String>) -> Result<Manifest, SnapshotError> {
        let id = self.about.id;
        if self.zeros < TAR_END || !self.bytes.is_multiple_of(TAR_BLOCK) {
            return Err(SnapshotError::Incomplete { id, bytes: self.bytes });
        }
        let stored = self.encoder.finish().map_err(SnapshotError::host("write", &self.place))?;
        let (stored_bytes, stored_sha256) = (stored.bytes, Checksum::of(stored.sum));
        let measure = Measure { tar_bytes: self.bytes, tar_sha256: Checksum::of(self.sum), stored_bytes, stored_sha256 };
        let mut draft = stored.inner;
        let mut back = Measured::new(draft.read_back()?);
        unpack(&mut back, id, &self.place, &measure, |_| true)?;
        check_stored(id, &measure, back.bytes, back.sum)?;
        let manifest = Manifest::new(self.about, conversation, measure, Timestamp::from_system(std::time::SystemTime::now()));
        draft.publish(id.event, &manifest.encode()?)?;
        Ok(manifest)
    }
}

/// Checks the size of data as it is stored. It can be read from the beginning after.
pub(super) fn check_size(data: &mut dyn Object, id: SnapshotId, said: &Measure) -> Result<(), SnapshotError> {
    let size = data.seek(SeekFrom::End(0)).and_then(|size| data.seek(SeekFrom::Start(0)).map(|_| size));
    let found = size.map_err(SnapshotError::host("read", id.to_string()))?;
    if found != said.stored_bytes {
        let damage = Damage::Size { said: said.stored_bytes, found };
        return Err(SnapshotError::Damaged { id, damage });
    }
    Ok(())
}

/// Checks the size and the checksum of data as it is stored, and tells `moves` of each piece. It can be
/// read from the beginning after.
pub(super) fn check(data: &mut dyn Object, id: SnapshotId, said: &Measure, moves: &dyn Fn()) -> Result<(), SnapshotError> {
    check_size(data, id, said)?;
    let mut sum = Measured::new(Telling(moves));
    io::copy(&mut BufReader::with_capacity(CHUNK, &mut *data), &mut sum)
        .and_then(|_| data.seek(SeekFrom::Start(0)))
        .map_err(SnapshotError::host("read", id.to_string()))?;
    check_stored(id, said, sum.bytes, sum.sum)
}

/// Takes everything, and tells of it.
struct Telling<'a>(&'a dyn Fn());

impl Write for Telling<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        (self.0)();
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_stored(id: SnapshotId, said: &Measure, bytes: u64, sum: Sha256) -> Result<(), SnapshotError> {
    let found = Checksum::of(sum);
    let damage = if bytes != said.stored_bytes {
        Damage::Size { said: said.stored_bytes, found: bytes }
    } else if found != said.stored_sha256 {
        Damage::Data { said: said.stored_sha256, found }
    } else {
        return Ok(());
    };
    Err(SnapshotError::Damaged { id, damage })
}

/// Decompresses data and gives it to `take`, until that says that it wants no more, which is no
/// error. Never gives more than the manifest says, whatever the data holds. What was given is right
/// only when this returns.
pub(super) fn unpack(
    data: impl Read,
    id: SnapshotId,
    place: &str,
    said: &Measure,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<(), SnapshotError> {
    let damaged = |damage| SnapshotError::Damaged { id, damage };
    let failed = |source| SnapshotError::host("read", place)(source);
    let mut decoder =
        Decoder::with_buffer(BufReader::with_capacity(CHUNK, Watched { inner: data, failed: false })).map_err(failed)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(failed)?;
    let (mut sum, mut bytes, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        // One byte more than there should be tells that there is more.
        let room = usize::try_from((said.tar_bytes - bytes).saturating_add(1)).map_or(CHUNK, |room| room.min(CHUNK));
        let count = match decoder.read(&mut chunk[..room]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if decoder.get_ref().get_ref().failed => return Err(failed(error)),
            Err(error) => return Err(damaged(Damage::Compression(error.to_string()))),
        };
        if count == 0 {
            break;
        }
        if count as u64 > said.tar_bytes - bytes {
            return Err(damaged(Damage::TooLong(said.tar_bytes)));
        }
        bytes += count as u64;
        sum.update(&chunk[..count]);
        if !take(&chunk[..count]) {
            return Ok(());
        }
    }
    if bytes < said.tar_bytes {
        return Err(damaged(Damage::TooShort { said: said.tar_bytes, found: bytes }));
    }
    let found = Checksum::of(sum);
    if found != said.tar_sha256 {
        return Err(damaged(Damage::Content { said: said.tar_sha256, found }));
    }
    Ok(())
}

/// Counts and sums what passes.
struct Measured<T> {
    inner: T,
    sum: Sha256,
    bytes: u64,
}

impl<T> Measured<T> {
    fn new(inner: T) -> Self {
        Self { inner, sum: Sha256::new(), bytes: 0 }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl<T: Write> Write for Measured<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.count(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Measured<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count(&buffer[..count]);
        Ok(count)
    }
}

/// Notes that reading failed, which otherwise looks as if decompressing had.
struct Watched<T> {
    inner: T,
    failed: bool,
}

impl<T: Read> Read for Watched<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|_| self.failed = true)
    }
}
