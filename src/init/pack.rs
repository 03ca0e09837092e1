//! Packs a workspace and the runtime's own state into a tar archive.
//!
//! The archive has two roots: `work/` with all that is in the workspace, and `home/` with only the
//! paths of HOME that the runtime's adapter names. Nothing is left out because it is hidden, only
//! what the patterns of [`exclude`](crate::archive::exclude) say, and only of the workspace. Within a folder names are
//! sorted by their bytes, so that equal trees give equal archives.
//!
//! Kept: files with their contents, folders, symbolic links (which are never followed), hard links
//! within one root, the nine permission bits, times of the last change in nanoseconds, and `user.`
//! attributes as far as [`ATTRIBUTES_MAX`] goes. Names may be any bytes. Holes in files stay holes.
//! Sockets, pipes and devices are left out and counted.
//!
//! What works in the tree meanwhile can spoil its own file and nothing else: a file takes as many
//! bytes as its header says, filled up with zeros or cut, and what vanishes is left out. Links can
//! not lead outside, as every name is opened by itself and no link is followed. What its owner may
//! not read is made readable while it is read, and then gets its mode back. A file that can not be
//! read all the same ends the packing with its name.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{Whence, lseek};
use tar::EntryType;

use super::place::{self, Entered, Names, Place};
use super::sys;
use crate::archive::entry::{self, Entry};
use crate::archive::exclude::Excludes;
use crate::archive::{ATTRIBUTES_MAX, HOME, PATH_MAX, PIECES_MAX, WORK, shown};

/// Holes below this size are not worth a piece, and become zeros. Those of a file system's blocks are not among them, so
/// that an archive is about as large as what is packed takes of the disk.
const HOLE_MIN: u64 = 4 << 10;
/// Bytes that are read and written at once.
const BUFFER: usize = 256 << 10;

/// Name and value of an extended attribute.
type Attribute = (Vec<u8>, Vec<u8>);

/// Why nothing was packed. What came out before is no archive.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Something can not be read.
    #[error("read {path:?}")]
    Read {
        /// Its path in the archive.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something is not as it has to be.
    #[error("{path:?} {reason}")]
    Refused {
        /// Its path in the archive.
        path: PathBuf,
        /// Why, as the rest of a sentence.
        reason: &'static str,
    },
    /// Nobody takes the archive.
    #[error("write the archive")]
    Write(#[source] io::Error),
}

/// What to pack.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The workspace.
    pub work: &'a Path,
    /// HOME.
    pub home: &'a Path,
    /// Paths below HOME. What of them is not there is left out.
    pub state: &'a [PathBuf],
    /// What of the workspace is left out.
    pub excludes: &'a Excludes,
}

/// What was left out for what it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// Sockets, pipes and devices.
    pub special: u64,
    /// Attributes of files.
    pub attributes: u64,
}

/// Packs into `to`.
///
/// # Errors
///
/// See [`PackError`].
pub fn pack(plan: &Plan<'_>, to: impl Write) -> Result<LeftOut, PackError> {
    let mut packer = Packer {
        to: BufWriter::with_capacity(BUFFER, to),
        buffer: vec![0; BUFFER],
        path: WORK.into(),
        links: HashMap::new(),
        left_out: LeftOut::default(),
    };
    packer.root(plan.work, |packer, place| {
        let level = packer.enter(place.at(), &place.stat())?;
        *place.kept() = level;
        packer.walk(place, 0, plan.excludes)
    })?;
    for state in plan.state {
        // A workspace and a HOME can not share files, as they are mounted by themselves.
        packer.links.clear();
        packer.path = HOME.into();
        packer.root(plan.home, |packer, place| packer.state(place, state))?;
    }
    entry::end(&mut packer.to).and_then(|()| packer.to.flush()).map_err(PackError::Write)?;
    Ok(packer.left_out)
}

const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

struct Packer<W: Write> {
    to: BufWriter<W>,
    buffer: Vec<u8>,
    /// Where the work is, as a path in the archive.
    path: Vec<u8>,
    /// Files with further names that are still to come: how many, and the name that was packed.
    links: HashMap<(u64, u64), (u64, Vec<u8>)>,
    left_out: LeftOut,
}

/// What is kept for each folder on the way.
#[derive(Default)]
struct Level {
    names: Names,
    /// How long the path is here.
    path: usize,
}

type Way = Place<Level>;

impl<W: Write> Packer<W> {
    fn unread(&self, errno: Errno) -> PackError {
        PackError::Read { path: shown(&self.path), source: errno.into() }
    }

    fn refused(&self, reason: &'static str) -> PackError {
        PackError::Refused { path: shown(&self.path), reason }
    }

    /// Works below a folder, and gives every folder its mode back in the end.
    fn root(&mut self, root: &Path, work: impl FnOnce(&mut Self, &mut Way) -> Result<(), PackError>) -> Result<(), PackError> {
        let level = Level { names: Names::default(), path: self.path.len() };
        let opened = open(root, FOLDER, Mode::empty()).and_then(|root| Place::new(root, place::READ, level));
        let mut place = opened.map_err(|errno| self.unread(errno))?;
        let done = work(self, &mut place);
        place.leave();
        done
    }

    /// Packs a path below HOME.
    fn state(&mut self, place: &mut Way, state: &Path) -> Result<(), PackError> {
        let mut names: Vec<_> = state.iter().collect();
        let Some(last) = names.pop() else { return Ok(()) };
        for name in names {
            self.push(name);
            match Entered::below(place.at(), name, place::READ) {
                Ok(entered) => place.down(name, entered, Level { names: Names::default(), path: self.path.len() }),
                Err(Errno::ENOENT) => return Ok(()),
                // Without it the conversation would be lost, and nobody would say so.
                Err(Errno::ELOOP | Errno::ENOTDIR) => return Err(self.refused("is no folder")),
                Err(errno) => return Err(self.unread(errno)),
            }
        }
        self.push(last);
        let kind = match fstatat(place.at(), last, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => place::kind(&stat),
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(self.unread(errno)),
        };
        let kind = match kind {
            SFlag::S_IFDIR => Type::Directory,
            SFlag::S_IFREG => Type::File,
            _ => return Err(self.refused("is neither a file nor a folder")),
        };
        let base = place.depth();
        self.item(place, last, Some(kind), &Excludes::default())?;
        self.walk(place, base, &Excludes::default())
    }

    /// Packs what is left of the folder at hand and of those on the way to it, up to a depth.
    fn walk(&mut self, place: &mut Way, base: usize, excludes: &Excludes) -> Result<(), PackError> {
        loop {
            let level = place.kept();
            self.path.truncate(level.path);
            match level.names.next() {
                Some((name, kind)) => {
                    self.push(&name);
                    self.item(place, &name, kind, excludes)?;
                }
                None if place.depth() <= base => return Ok(()),
                None => {
                    if let Some((folder, frame)) = place.up().map_err(|errno| self.unread(errno))? {
                        frame.tighten(&folder);
                    }
                }
            }
        }
    }

    fn push(&mut self, name: &OsStr) {
        self.path.push(b'/');
        self.path.extend_from_slice(name.as_bytes());
    }

    /// Packs what has this name in the folder at hand; goes into it if it is a folder.
    fn item(&mut self, place: &mut Way, name: &OsStr, kind: Option<Type>, excludes: &Excludes) -> Result<(), PackError> {
        if excludes.matches(&self.names(excludes), kind == Some(Type::Directory)) {
            return Ok(());
        }
        if self.path.len() > PATH_MAX {
            return Err(self.refused("lies too deep"));
        }
        match kind {
            Some(Type::File) => self.file(place.at(), name),
            Some(Type::Directory) => match Entered::below(place.at(), name, place::READ) {
                Ok(entered) => {
                    let level = self.enter(entered.folder(), entered.stat())?;
                    place.down(name, entered, level);
                    Ok(())
                }
                Err(errno) => self.gone(errno),
            },
            Some(Type::Symlink) => self.link(place.at(), name),
            Some(Type::Fifo | Type::Socket | Type::CharacterDevice | Type::BlockDevice) => {
                self.left_out.special += 1;
                Ok(())
            }
            None => match fstatat(place.at(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => self.item(place, name, Some(type_of(&stat)), excludes),
                Err(errno) => self.gone(errno),
            },
        }
    }

    /// The names on the path below its root, or the last alone if that is all that matters.
    fn names(&self, excludes: &Excludes) -> Vec<&[u8]> {
        let mut names = self.path.split(|byte| *byte == b'/');
        if excludes.has_anchored() { names.skip(1).collect() } else { names.next_back().into_iter().collect() }
    }

    /// What is not there any more, or is something else by now, is left out.
    fn gone(&self, errno: Errno) -> Result<(), PackError> {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO => Ok(()),
            errno => Err(self.unread(errno)),
        }
    }

    /// Packs a folder itself and lists what is in it.
    fn enter(&mut self, folder: &OwnedFd, stat: &FileStat) -> Result<Level, PackError> {
        let names = Names::list(folder).map_err(|errno| self.unread(errno))?;
        let attributes = self.attributes(folder)?;
        let path = self.path.len();
        self.path.push(b'/');
        let entry = Entry { kind: EntryType::Directory, attributes: &attributes, ..of(&self.path, stat) };
        let written = entry.write(&mut self.to).map_err(PackError::Write);
        self.path.truncate(path);
        written.map(|()| Level { names, path })
    }

    fn link(&mut self, folder: &OwnedFd, name: &OsStr) -> Result<(), PackError> {
        let found = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let (stat, target) = match found.and_then(|stat| Ok((stat, readlinkat(folder, name)?))) {
            Ok(link) => link,
            // Something else has the name now.
            Err(Errno::EINVAL) => return Ok(()),
            Err(errno) => return self.gone(errno),
        };
        let entry = Entry { kind: EntryType::Symlink, target: target.as_bytes(), mode: 0o777, ..of(&self.path, &stat) };
        entry.write(&mut self.to).map_err(PackError::Write)
    }

    fn file(&mut self, folder: &OwnedFd, name: &OsStr) -> Result<(), PackError> {
        // Not waiting for anybody, should it be a pipe by now.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = match openat(folder, name, flags, Mode::empty()) {
            Err(Errno::EACCES) => place::loosen(folder, name, SFlag::S_IFREG, Mode::S_IRUSR).and_then(|before| {
                let file = openat(folder, name, flags, Mode::empty())?;
                fchmod(&file, place::mode(&before))?;
                Ok(file)
            }),
            opened => opened,
        };
        let (file, stat) = match opened.and_then(|file| fstat(&file).map(|stat| (file, stat))) {
            Ok((_, stat)) if place::kind(&stat) != SFlag::S_IFREG => return Ok(()),
            Ok(opened) => opened,
            Err(errno) => return self.gone(errno),
        };
        if stat.st_nlink > 1 && self.link_again(&stat)? {
            return Ok(());
        }
        let attributes = self.attributes(&file)?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let entry = Entry { attributes: &attributes, ..of(&self.path, &stat) };
        let pieces = pieces(&file, &stat).map_err(|errno| self.unread(errno))?;
        match &pieces {
            None => Entry { size, ..entry }.write(&mut self.to),
            Some(pieces) => {
                let sum = pieces.iter().map(|(_, length)| length).sum();
                Entry { kind: EntryType::GNUSparse, size: sum, ..entry }.write_sparse(&mut self.to, size, pieces)
            }
        }
        .map_err(PackError::Write)?;
        let mut file = File::from(file);
        match pieces {
            None => self.copy(&mut file, size)?,
            Some(pieces) => {
                for (offset, length) in pieces.iter().filter(|(_, length)| *length > 0) {
                    let sought = file.seek(SeekFrom::Start(*offset));
                    sought.map_err(|source| PackError::Read { path: shown(&self.path), source })?;
                    self.copy(&mut file, *length)?;
                }
                entry::pad(&mut self.to, pieces.iter().map(|(_, length)| length).sum()).map_err(PackError::Write)?;
                return Ok(());
            }
        }
        entry::pad(&mut self.to, size).map_err(PackError::Write)
    }

    /// Packs a further name of a file that was packed; false if it was not.
    fn link_again(&mut self, stat: &FileStat) -> Result<bool, PackError> {
        let id = (stat.st_dev, stat.st_ino);
        let Some((left, first)) = self.links.get_mut(&id) else {
            self.links.insert(id, (stat.st_nlink - 1, self.path.clone()));
            return Ok(false);
        };
        let entry = Entry { kind: EntryType::Link, target: first, ..of(&self.path, stat) };
        entry.write(&mut self.to).map_err(PackError::Write)?;
        *left -= 1;
        if *left == 0 {
            self.links.remove(&id);
        }
        Ok(true)
    }

    /// Writes exactly so many bytes, of the file as far as they go.
    fn copy(&mut self, file: &mut File, mut length: u64) -> Result<(), PackError> {
        while length > 0 {
            let wanted = usize::try_from(length).unwrap_or(BUFFER).min(BUFFER);
            let read = match file.read(&mut self.buffer[..wanted]) {
                Ok(0) => {
                    // It became shorter.
                    self.buffer[..wanted].fill(0);
                    wanted
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(PackError::Read { path: shown(&self.path), source }),
            };
            self.to.write_all(&self.buffer[..read]).map_err(PackError::Write)?;
            length -= read as u64;
        }
        Ok(())
    }

    /// The `user.` attributes of a file, sorted by name. They are kept where that is possible.
    fn attributes(&mut self, file: &OwnedFd) -> Result<Vec<Attribute>, PackError> {
        let mut found = Vec::new();
        let length = match sys::list_attributes(file, &mut self.buffer) {
            Ok(0) | Err(_) => return Ok(found),
            Ok(length) => length,
        };
        let names = self.buffer[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user."));
        let mut names: Vec<_> = names.filter_map(|name| CString::new(name).ok()).collect();
        names.sort();
        let mut left = ATTRIBUTES_MAX;
        for name in names {
            // The header that holds them ends names at this sign.
            let value = Some(&name).filter(|name| !name.as_bytes().contains(&b'='));
            let value = value.and_then(|name| sys::get_attribute(file, name, &mut self.buffer).ok());
            match value.and_then(|value| Some((value, left.checked_sub(value + name.as_bytes().len())?))) {
                Some((value, rest)) => {
                    left = rest;
                    found.push((name.into_bytes(), self.buffer[..value].to_vec()));
                }
                None => self.left_out.attributes += 1,
            }
        }
        Ok(found)
    }
}

fn of<'a>(path: &'a [u8], stat: &FileStat) -> Entry<'a> {
    Entry {
        kind: EntryType::Regular,
        path,
        target: b"",
        mode: place::mode(stat).bits(),
        mtime: place::mtime(stat),
        attributes: &[],
        size: 0,
    }
}

fn type_of(stat: &FileStat) -> Type {
    match place::kind(stat) {
        SFlag::S_IFREG => Type::File,
        SFlag::S_IFDIR => Type::Directory,
        SFlag::S_IFLNK => Type::Symlink,
        _ => Type::Fifo,
    }
}

/// Where the bytes of a file with holes are; `None` for one without, or whose file system does not
/// tell. The last piece ends where the file does.
fn pieces(file: &OwnedFd, stat: &FileStat) -> Result<Option<Vec<(u64, u64)>>, Errno> {
    let size = stat.st_size;
    let stored = stat.st_blocks.saturating_mul(512);
    if u64::try_from(size - stored).map_or(true, |missing| missing < HOLE_MIN) {
        return Ok(None);
    }
    let number = |offset| u64::try_from(offset).unwrap_or_default();
    let mut map = Map::of(PIECES_MAX);
    let mut at = 0;
    while at < size {
        let data = match lseek(file, at, Whence::SeekData) {
            Ok(data) => data.min(size),
            // Nothing but a hole follows.
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let hole = lseek(file, data, Whence::SeekHole).map_or(size, |hole| hole.min(size));
        if hole <= data {
            // It changes while it is looked at.
            break;
        }
        map.add(number(data), number(hole - data));
        at = hole;
    }
    lseek(file, 0, Whence::SeekSet)?;
    Ok(Some(map.end(number(size))))
}

/// Where the bytes of a file are.
struct Map {
    pieces: Vec<(u64, u64)>,
    /// Pieces between which there is less become one.
    smallest: u64,
    /// There are always fewer pieces.
    most: usize,
}

impl Map {
    const fn of(most: usize) -> Self {
        Self { pieces: Vec::new(), smallest: HOLE_MIN, most }
    }

    /// Adds a piece behind the others. Where they become too many, the smallest holes are packed as zeros, which take
    /// nothing when they come back ([`restore`](super::restore)). What that makes of the archive has its bound in the shim.
    fn add(&mut self, offset: u64, length: u64) {
        self.join(offset, length);
        while self.pieces.len() >= self.most {
            self.smallest = self.smallest.saturating_mul(2);
            let before = std::mem::take(&mut self.pieces);
            before.into_iter().for_each(|(offset, length)| self.join(offset, length));
        }
    }

    fn join(&mut self, offset: u64, length: u64) {
        match self.pieces.last_mut() {
            Some((from, before)) if offset - (*from + *before) < self.smallest => *before = offset + length - *from,
            _ => self.pieces.push((offset, length)),
        }
    }

    /// The pieces of a file of this size.
    fn end(mut self, size: u64) -> Vec<(u64, u64)> {
        if self.pieces.last().is_none_or(|(offset, length)| offset + length < size) {
            self.pieces.push((size, 0));
        }
        self.pieces
    }
}

#[cfg(test)]
pub(super) mod tests;
