//! A bundle that comes in: checked, and brought into the form that init takes.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use tar::EntryType;

use super::outward;
use crate::archive::entry::{self, Entry as Header};
use crate::archive::stream::{Dialect, Entry, Stream, StreamError};
use crate::archive::{ATTRIBUTES_MAX, WORK, components, shown};
use crate::wire::quantity::ByteCount;

/// Files, folders and links of a bundle, those that are only on the way to others too.
pub const ENTRIES_MAX: usize = 400_000;
/// Bytes of all their names: they are in memory while the bundle is checked.
const NAMES_MAX: usize = 32 << 20;
/// Longest path, as in Linux (`PATH_MAX`).
const PATH_MAX: usize = 4096;
/// Longest name, as in Linux's file systems (`NAME_MAX`).
const NAME_MAX: usize = 255;
/// What may come out of one byte of a bundle, beyond the first [`RATIO_FREE`]. Text of which every
/// line is alike comes to some 100; gzip can do 1032, which only zeros reach.
const RATIO_MAX: u64 = 250;
const RATIO_FREE: u64 = 256 << 20;
/// What may come out of a bundle beside the contents of files: headers, which can be longer than what
/// they describe.
const HEADERS_FREE: u64 = 1 << 30;
/// Zeros after the end: archives are padded to a record, 10 KiB by default and 1 MiB at most.
const TRAILING_MAX: u64 = 1 << 20;
const BUFFER: usize = 128 << 10;

/// Why a bundle does not come in. The texts are whole sentences without a full stop.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is nothing.
    #[error("Empty bundle")]
    Empty,
    /// It is no gzip.
    #[error("The bundle is not a tar archive compressed by gzip")]
    NotGzip,
    /// It is gzip, and no tar inside.
    #[error("The bundle holds no tar archive")]
    NotTar,
    /// It ends before its end.
    #[error("The bundle ends too early")]
    Cut,
    /// Its bytes are not those that were packed.
    #[error("The bundle is damaged: {0}")]
    Damaged(String),
    /// Something follows its end.
    #[error("The bundle has more data after its end")]
    Trailing,
    /// An entry may not come in.
    #[error("Entry {path:?} {reason}")]
    Entry {
        /// Its path.
        path: PathBuf,
        /// Why, as the rest of a sentence.
        reason: &'static str,
    },
    /// It would unpack to too much.
    #[error("The bundle unpacks to more than {0}, which is all that the session may have on the disk")]
    TooLarge(ByteCount),
    /// It has too many entries, or too long names.
    #[error("The bundle has more than {ENTRIES_MAX} files, folders and links, or more than 32 MiB of names")]
    TooMany,
    /// It is a bomb.
    #[error("The bundle unpacks to more than {RATIO_MAX} times its size")]
    Bomb,
    /// What was kept of it can not be read, or nobody takes what is made of it.
    #[error("The bundle can not be passed on")]
    Host(#[source] io::Error),
}

/// What is in a bundle.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Files, links among them.
    pub files: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Reads a bundle of so many bytes, and writes an archive with the root `work/`.
///
/// # Errors
///
/// See [`BundleError`]. What was written before is then no archive.
pub fn lay(from: impl Read, stored: u64, bytes_max: u64, to: impl Write) -> Result<Contents, BundleError> {
    if stored == 0 {
        return Err(BundleError::Empty);
    }
    let mut from = BufReader::with_capacity(BUFFER, from);
    if !from.fill_buf().map_err(BundleError::Host)?.starts_with(&[0x1f, 0x8b]) {
        return Err(BundleError::NotGzip);
    }
    let over = Cell::new(false);
    let most = RATIO_FREE.saturating_add(stored.saturating_mul(RATIO_MAX));
    let from = Bounded { from: MultiGzDecoder::new(from), left: most, over: &over };
    let mut layer = Layer {
        stream: Stream::new(BufReader::with_capacity(BUFFER, from), Dialect::Any),
        to: BufWriter::with_capacity(BUFFER, to),
        nodes: HashMap::new(),
        names: 0,
        last: 0,
        bytes_max,
        headers_left: HEADERS_FREE,
        contents: Contents::default(),
        buffer: vec![0; BUFFER],
    };
    layer.run().map_err(|error| if over.get() { BundleError::Bomb } else { error })
}

/// Passes on so many bytes and no more.
struct Bounded<'a, R> {
    from: R,
    left: u64,
    over: &'a Cell<bool>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                self.over.set(true);
                return Err(io::Error::other("too much"));
            }
        }
        Ok(count)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Link,
}

/// Number of a folder; 0 is the workspace.
type Node = u32;

/// A name in a folder.
type Named = (Node, Box<[u8]>);

struct Layer<R, W: Write> {
    stream: Stream<R>,
    to: BufWriter<W>,
    /// What came, by the folder it lies in and its name.
    nodes: HashMap<Named, (Node, Kind)>,
    /// Bytes of all names.
    names: usize,
    last: Node,
    bytes_max: u64,
    headers_left: u64,
    contents: Contents,
    buffer: Vec<u8>,
}

impl<R: Read, W: Write> Layer<R, W> {
    fn run(&mut self) -> Result<Contents, BundleError> {
        let mut is_first = true;
        while let Some(entry) = self.stream.next().map_err(|error| of_stream(error, is_first))? {
            is_first = false;
            self.entry(&entry)?;
        }
        if !self.stream.is_over(TRAILING_MAX).map_err(|error| of_stream(error, false))? {
            return Err(BundleError::Trailing);
        }
        entry::end(&mut self.to).and_then(|()| self.to.flush()).map_err(BundleError::Host)?;
        Ok(self.contents)
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), BundleError> {
        let bytes = entry.path.as_bytes();
        let refused = |reason| BundleError::Entry { path: shown(bytes), reason };
        if bytes.len() > PATH_MAX {
            return Err(refused("has a path of more than 4096 bytes"));
        }
        let names = components(Path::new(&entry.path)).map_err(refused)?;
        if names.iter().any(|name| name.len() > NAME_MAX) {
            return Err(refused("has a name of more than 255 bytes in its path"));
        }
        let attributes: usize = entry.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        if attributes > ATTRIBUTES_MAX {
            return Err(refused("has too many attributes"));
        }
        let said = (attributes + 4 * PATH_MAX) as u64;
        self.headers_left = self.headers_left.checked_sub(said).ok_or(BundleError::TooMany)?;
        let kind = match entry.kind {
            EntryType::Directory => Kind::Folder,
            EntryType::Regular | EntryType::GNUSparse | EntryType::Link => Kind::File,
            EntryType::Symlink => Kind::Link,
            EntryType::Char | EntryType::Block => return Err(refused("is a device")),
            EntryType::Fifo => return Err(refused("is a named pipe")),
            _ => return Err(refused("is of a kind that a workspace can not have")),
        };
        let Some((leaf, parents)) = names.split_last() else {
            // The workspace itself, which its owner has to be able to use.
            let mode = entry.mode | 0o700;
            return if kind == Kind::Folder { self.header(entry, b"work/", mode, b"") } else { Err(refused("has no name")) };
        };
        // Looked at before this entry can be its own target.
        let target = match entry.kind {
            EntryType::Link => Some(self.hard_target(&entry.target).map_err(refused)?),
            EntryType::Symlink if entry.target.is_empty() || entry.target.len() > PATH_MAX => {
                return Err(refused("is a link whose target is empty or has more than 4096 bytes"));
            }
            EntryType::Symlink if entry.target.contains(&0) => return Err(refused("is a link with a NUL in its target")),
            EntryType::Symlink => {
                outward(parents.len(), &entry.target).map_or(Ok(()), |reason| Err(refused(reason)))?;
                Some(entry.target.clone())
            }
            _ => None,
        };
        self.note(parents, leaf, kind, &refused)?;
        let mut path = joined(&names);
        if kind == Kind::Folder {
            path.push(b'/');
        } else {
            self.contents.files += 1;
        }
        let bytes = self.contents.bytes.saturating_add(entry.size);
        if bytes > self.bytes_max {
            return Err(BundleError::TooLarge(ByteCount(self.bytes_max)));
        }
        self.contents.bytes = bytes;
        self.header(entry, &path, entry.mode, target.as_deref().unwrap_or_default())?;
        self.copy(entry.pieces.iter().map(|(_, length)| length).sum())
    }

    fn header(&mut self, entry: &Entry, path: &[u8], mode: u32, target: &[u8]) -> Result<(), BundleError> {
        write_header(entry, path, mode, target, &mut self.to).map_err(BundleError::Host)
    }

    /// Notes an entry, which nothing may have the place of, and the folders on the way to it.
    fn note(
        &mut self,
        parents: &[&OsStr],
        leaf: &OsStr,
        kind: Kind,
        refused: &dyn Fn(&'static str) -> BundleError,
    ) -> Result<(), BundleError> {
        let mut at = 0;
        for name in parents {
            let (node, kind) = self.add(at, name, Kind::Folder)?;
            if kind != Kind::Folder {
                return Err(refused("lies below something that is no folder"));
            }
            at = node;
        }
        let before = self.nodes.len();
        let (_, found) = self.add(at, leaf, kind)?;
        let is_new = self.nodes.len() > before;
        if is_new || (kind, found) == (Kind::Folder, Kind::Folder) { Ok(()) } else { Err(refused("comes twice")) }
    }

    /// What has this name in a folder; if nothing has, this is it.
    fn add(&mut self, folder: Node, name: &OsStr, kind: Kind) -> Result<(Node, Kind), BundleError> {
        let key = (folder, name.as_bytes().into());
        if let Some(found) = self.nodes.get(&key) {
            return Ok(*found);
        }
        self.names += name.len();
        if self.nodes.len() >= ENTRIES_MAX || self.names > NAMES_MAX {
            return Err(BundleError::TooMany);
        }
        self.last += 1;
        self.nodes.insert(key, (self.last, kind));
        Ok((self.last, kind))
    }

    /// The target of a hard link, which has to be a file that came before.
    fn hard_target(&self, target: &[u8]) -> Result<Vec<u8>, &'static str> {
        let outside = "is a hard link to something outside of the bundle";
        let names = components(Path::new(OsStr::from_bytes(target))).map_err(|_| outside)?;
        let mut at = (0, Kind::Folder);
        for name in &names {
            at = *self.nodes.get(&(at.0, name.as_bytes().into())).ok_or("is a hard link to no file before it")?;
        }
        if at.1 == Kind::File { Ok(joined(&names)) } else { Err("is a hard link to no file before it") }
    }

    fn copy(&mut self, length: u64) -> Result<(), BundleError> {
        let Self { stream, to, buffer, .. } = self;
        copy(stream, length, buffer, |bytes| to.write_all(bytes).map_err(BundleError::Host), |error| of_stream(error, false))?;
        entry::pad(to, length).map_err(BundleError::Host)
    }
}

/// Hands on so many bytes of the entry at hand.
pub(super) fn copy<R: Read, E>(
    stream: &mut Stream<R>,
    length: u64,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
    failed: impl Fn(StreamError) -> E,
) -> Result<(), E> {
    let mut left = length;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
        stream.read(&mut buffer[..part]).map_err(&failed)?;
        take(&buffer[..part])?;
        left -= part as u64;
    }
    Ok(())
}

/// Writes the headers of an entry under another path.
pub(super) fn write_header(entry: &Entry, path: &[u8], mode: u32, target: &[u8], to: &mut impl Write) -> io::Result<()> {
    let header = Header { kind: entry.kind, path, target, mode, mtime: entry.mtime, attributes: &entry.attributes, size: 0 };
    let size = entry.pieces.iter().map(|(_, length)| length).sum();
    match entry.kind {
        EntryType::GNUSparse => Header { size, ..header }.write_sparse(to, entry.size, &entry.pieces),
        _ => Header { size, ..header }.write(to),
    }
}

fn joined(names: &[&OsStr]) -> Vec<u8> {
    let mut path = WORK.as_bytes().to_vec();
    for name in names {
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
    }
    path
}

fn of_stream(error: StreamError, is_first: bool) -> BundleError {
    match error {
        StreamError::Entry { path, reason } => BundleError::Entry { path, reason },
        StreamError::Cut if is_first => BundleError::NotTar,
        StreamError::Malformed if is_first => BundleError::NotTar,
        StreamError::Cut => BundleError::Cut,
        StreamError::Malformed => BundleError::Damaged("a header of its archive can not be read".to_owned()),
        StreamError::Read(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => BundleError::Cut,
            // What follows a member of gzip has to be another one.
            io::ErrorKind::InvalidInput if !is_first && error.to_string().contains("header") => BundleError::Trailing,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => BundleError::Damaged(error.to_string()),
            _ => BundleError::Host(error),
        },
    }
}
