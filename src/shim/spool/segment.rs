//! One file of the spool.
//!
//! ```text
//! header   magic "ashspool" | version u32 | incarnation 16 bytes | boot 16 bytes | first u64 | crc u32
//! record   length u32 | n u64 | crc of these u32 | crc of the body u32 | body
//! record   …
//! ```
//!
//! Numbers are little endian, checksums CRC-32 (IEEE 802.3) of all that stands before them in the
//! header or in the head of the record. A body is one event as JSON, as it goes to the daemon.
//! `first` is the number of the first record, or of the next event if there is no record; after
//! it, numbers grow by one. Records below `first` are remains of a restart of the file that did
//! not come to its end.
//!
//! A process that dies in a write, or a disk that is full, leaves the beginning of a record at the
//! end of the newest file; a power cut may leave zeros, or a last record whose body is not there.
//! Such an end is cut off. Anything else that does not fit is damage.

use std::fs::File;
use std::io::{self, BufReader, IoSlice, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::uio::pwritev;
use uuid::Uuid;

const MAGIC: [u8; 8] = *b"ashspool";
const VERSION: u32 = 1;
/// Bytes of a header.
pub const HEADER: u64 = 56;
/// Bytes of a record before its body.
const HEAD: usize = 20;
/// Most records in one call (`IOV_MAX`, sysconf(3); 1024 on Linux).
const SLICES: usize = 1024;
/// What a check whether the disk takes something writes.
const PROBE: [u8; 4096] = [0; 4096];

/// Why a file is not a part of this spool.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// It can not be read.
    #[error("read")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is not a file of a spool")]
    Magic,
    /// A newer shim wrote it.
    #[error("version {0} is not known here")]
    Version(u32),
    /// Its header is damaged.
    #[error("damaged header")]
    Header,
    /// A record is damaged.
    #[error("damaged at byte {0}")]
    Record(u64),
    /// It does not go on where the file before it ends.
    #[error("it does not go on where the file before it ends")]
    Order,
}

/// An event as it stands in the file.
#[derive(Debug)]
pub struct Record {
    /// Its number.
    pub n: u64,
    bytes: Box<[u8]>,
}

impl Record {
    /// An event of this number, whose body `write` writes.
    pub fn new<E>(n: u64, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = vec![0; HEAD];
        write(&mut bytes)?;
        // No event comes near 4 GiB; a frame takes 64 MiB.
        let length = u32::try_from(bytes.len() - HEAD).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..12].copy_from_slice(&n.to_le_bytes());
        let (head, body) = (crc32fast::hash(&bytes[..12]), crc32fast::hash(&bytes[HEAD..]));
        bytes[12..16].copy_from_slice(&head.to_le_bytes());
        bytes[16..20].copy_from_slice(&body.to_le_bytes());
        Ok(Self { n, bytes: bytes.into_boxed_slice() })
    }

    /// The event as JSON.
    pub fn body(&self) -> &[u8] {
        &self.bytes[HEAD..]
    }

    /// Its size in the file.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// What stands before a body.
struct Head {
    length: usize,
    n: u64,
    crc: u32,
}

impl Head {
    fn parse(bytes: &[u8; HEAD]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let n = u64::from(word(4)) | u64::from(word(8)) << 32;
        (crc32fast::hash(&bytes[..12]) == word(12)).then(|| Self { length: word(0) as usize, n, crc: word(16) })
    }
}

/// What stands at the beginning of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose events these are.
    pub incarnation: Uuid,
    /// The boot of the host in which the file was begun (`/proc/sys/kernel/random/boot_id`).
    pub boot: Uuid,
    /// Number of the first record, or of the next event if there is none.
    pub first: u64,
}

impl Header {
    fn encode(&self) -> [u8; HEADER as usize] {
        let mut bytes = [0; HEADER as usize];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..28].copy_from_slice(self.incarnation.as_bytes());
        bytes[28..44].copy_from_slice(self.boot.as_bytes());
        bytes[44..52].copy_from_slice(&self.first.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..52]);
        bytes[52..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; HEADER as usize]) -> Result<Self, SegmentError> {
        fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
            std::array::from_fn(|i| bytes[at + i])
        }
        if bytes[..8] != MAGIC {
            return Err(SegmentError::Magic);
        }
        // Of a newer version nothing else is known, not even where its checksum stands.
        match u32::from_le_bytes(part(bytes, 8)) {
            VERSION => {}
            other => return Err(SegmentError::Version(other)),
        }
        if crc32fast::hash(&bytes[..52]) != u32::from_le_bytes(part(bytes, 52)) {
            return Err(SegmentError::Header);
        }
        Ok(Self {
            incarnation: Uuid::from_bytes(part(bytes, 12)),
            boot: Uuid::from_bytes(part(bytes, 28)),
            first: u64::from_le_bytes(part(bytes, 44)),
        })
    }
}

/// One file. See the module's documentation.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    file: File,
    header: Header,
    /// Bytes that count: the header and whole records.
    len: u64,
    /// Number after that of the last record.
    next: u64,
    /// Whether something that does not count may stand behind.
    is_torn: bool,
}

impl Segment {
    /// Makes an empty file.
    pub fn create(path: PathBuf, header: Header) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all_at(&header.encode(), 0)?;
        Ok(Self { path, file, header, len: HEADER, next: header.first, is_torn: false })
    }

    /// Opens a file and examines all of it; `None` if it was never finished. Only the newest may
    /// have an end that is cut off.
    pub fn open(path: &Path, is_newest: bool) -> Result<Option<Self>, SegmentError> {
        let file = File::options().read(true).write(true).open(path)?;
        let size = file.metadata()?.len();
        if size < HEADER && is_newest {
            return Ok(None);
        }
        let mut bytes = [0; HEADER as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let header = Header::parse(&bytes)?;
        let mut segment = Self { path: path.to_owned(), file, header, len: HEADER, next: header.first, is_torn: false };
        segment.examine(size)?;
        if segment.len < size {
            if !is_newest {
                return Err(SegmentError::Record(segment.len));
            }
            tracing::warn!(bytes = size - segment.len, "end of the event spool was never finished, cutting it off");
            // If it can not be cut now, it is before the next write.
            segment.is_torn = segment.file.set_len(segment.len).is_err();
        }
        Ok(Some(segment))
    }

    /// Finds the end of the whole records.
    fn examine(&mut self, size: u64) -> Result<(), SegmentError> {
        let mut file = BufReader::with_capacity(64 << 10, &self.file);
        file.seek(SeekFrom::Start(HEADER))?;
        let mut buffer = vec![0; 64 << 10];
        while size - self.len >= HEAD as u64 {
            let mut head = [0; HEAD];
            file.read_exact(&mut head)?;
            let Some(Head { length, n, crc }) = Head::parse(&head) else {
                let mut is_zero = head == [0; HEAD];
                while is_zero {
                    match file.read(&mut buffer)? {
                        0 => return Ok(()),
                        read => is_zero = buffer[..read].iter().all(|byte| *byte == 0),
                    }
                }
                return Err(SegmentError::Record(self.len));
            };
            if n != self.next {
                let is_rest = self.len == HEADER && n < self.header.first;
                return if is_rest { Ok(()) } else { Err(SegmentError::Record(self.len)) };
            }
            let end = self.len + HEAD as u64 + length as u64;
            if end > size {
                return Ok(());
            }
            let (mut sum, mut rest) = (crc32fast::Hasher::new(), length);
            while rest > 0 {
                let part = rest.min(buffer.len());
                file.read_exact(&mut buffer[..part])?;
                sum.update(&buffer[..part]);
                rest -= part;
            }
            if sum.finalize() != crc {
                return if end == size { Ok(()) } else { Err(SegmentError::Record(self.len)) };
            }
            (self.len, self.next) = (end, self.next + 1);
        }
        Ok(())
    }

    /// Its header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes that count.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no record.
    pub const fn is_empty(&self) -> bool {
        self.len == HEADER
    }

    /// Number after that of the last record.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Writes records to the end. Says how many are there now, and what kept the others out.
    pub fn append(&mut self, records: &[&Record]) -> (usize, io::Result<()>) {
        let mut done = 0;
        while done < records.len() {
            match self.append_some(&records[done..records.len().min(done + SLICES)]) {
                Ok(count) => done += count,
                Err(error) => {
                    // Room for what was written of a record is not taken from others meanwhile.
                    self.is_torn = self.file.set_len(self.len).is_err();
                    return (done, Err(error));
                }
            }
        }
        (done, Ok(()))
    }

    /// Writes at least one of the records, or fails.
    fn append_some(&mut self, records: &[&Record]) -> io::Result<usize> {
        self.mend()?;
        let slices: Vec<_> = records.iter().map(|record| IoSlice::new(&record.bytes)).collect();
        let at = i64::try_from(self.len).map_err(io::Error::other)?;
        let mut written = loop {
            match pwritev(&self.file, &slices, at) {
                Err(nix::Error::EINTR) => {}
                other => break other?,
            }
        };
        let mut count = 0;
        for record in records {
            if record.size() > written {
                if written == 0 && count > 0 {
                    break;
                }
                // The kernel stopped inside of this one: at the end of the room, or for a signal.
                self.file.write_all_at(&record.bytes[written..], self.len + written as u64)?;
                written = record.size();
            }
            written -= record.size();
            count += 1;
            (self.len, self.next) = (self.len + record.size() as u64, record.n + 1);
        }
        Ok(count)
    }

    /// Cuts off what does not count.
    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.len)?;
            self.is_torn = false;
        }
        Ok(())
    }

    /// Takes all records out, and begins again with this header. The file always says what the
    /// next number is, whenever the process dies in here.
    pub fn restart(&mut self, header: Header) -> io::Result<()> {
        if self.header != header {
            self.file.write_all_at(&header.encode(), 0)?;
            self.header = header;
        }
        self.is_torn |= self.len > HEADER;
        (self.len, self.next) = (HEADER, header.first);
        self.mend()
    }

    /// Tries whether the disk takes something, and leaves the file as it was.
    pub fn probe(&mut self) -> io::Result<()> {
        self.mend()?;
        self.is_torn = true;
        let written = self.file.write_all_at(&PROBE, self.len);
        self.mend()?;
        written
    }

    /// Reads records from this place on, of about `bytes` together, but at least one if there is
    /// one; and the place after them.
    pub fn read(&self, from: u64, bytes: usize) -> Result<(Vec<Record>, u64), SegmentError> {
        let left = usize::try_from(self.len - from).unwrap_or(usize::MAX);
        let mut buffer = vec![0; left.min(bytes.max(HEAD))];
        self.file.read_exact_at(&mut buffer, from)?;
        let (mut records, mut at) = (Vec::new(), 0);
        while let Some(head) = buffer[at..].first_chunk() {
            let place = from + at as u64;
            let Head { length, n, crc } = Head::parse(head).ok_or(SegmentError::Record(place))?;
            let size = HEAD + length;
            if size > left - at {
                return Err(SegmentError::Record(place));
            }
            if size > buffer.len() - at {
                if !records.is_empty() {
                    break;
                }
                buffer.resize(size, 0);
                self.file.read_exact_at(&mut buffer, from)?;
            }
            let bytes = &buffer[at..at + size];
            if crc32fast::hash(&bytes[HEAD..]) != crc {
                return Err(SegmentError::Record(place));
            }
            records.push(Record { n, bytes: bytes.into() });
            at += size;
        }
        Ok((records, from + at as u64))
    }

    /// Removes the file.
    pub fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
