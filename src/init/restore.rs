//! Unpacks what [`pack`](super::pack) packed: the workspace and the runtime's own state.
//!
//! The archive is not trusted: it may have been made elsewhere. It has the two roots `work/` and
//! `home/`, and below `home/` only the named paths. Folders are entered one name at a time and
//! never through a symbolic link, so that no entry can lead a later one outside. A hard link has to
//! name a file of the same archive, below the same root. Only what `pack` writes is taken; all
//! else, and a second entry of one name, ends it with the name of the entry.
//!
//! Before anything is unpacked, the workspace and the named paths are emptied, unless the archive is
//! to lie over what is there: then what has the place of an entry goes, a folder with all that is in
//! it, except where both are folders. Modes and times of
//! folders are set when they are left, since entries that follow would change them, or could not
//! be written. What `user.` attributes the file system does not take is left out.
//!
//! Blocks of zeros are not written: a file has holes there. So what comes back never takes more of the disk than what the
//! archive has of other bytes, also where holes were packed as zeros.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, fstatat, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, syncfs, unlinkat};
use tar::EntryType;

use super::place::{self, CHANGE, Entered, Frame, Place};
use super::sys;
use crate::archive::stream::{Dialect, Entry, Stream, StreamError};
use crate::archive::{HOME, WORK, components, shown};

/// Bytes that are written at once.
const BUFFER: usize = 256 << 10;
/// Zeros of a file that are not written, where so many of them are together: a block of most file systems.
const BLOCK: usize = 4 << 10;
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Why an archive was not unpacked. What came before is unpacked then.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What was there could not be removed.
    #[error("empty {}", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no whole archive of this kind.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// An entry is refused.
    #[error("entry {path:?} {reason}")]
    Entry {
        /// Its path.
        path: PathBuf,
        /// Why, as the rest of a sentence.
        reason: &'static str,
    },
    /// An entry could not be written.
    #[error("write {path:?}")]
    Write {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Where to restore to.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The workspace.
    pub work: &'a Path,
    /// HOME.
    pub home: &'a Path,
    /// Paths below HOME.
    pub state: &'a [PathBuf],
    /// Whether what is there stays, where the archive has nothing else.
    pub over: bool,
}

/// Empties workspace and state, unless the archive lies over them, and unpacks it into them. What it unpacked is on the disk
/// when it returns, since the folder counts for more than the snapshot from then on. Gives the
/// number of attributes that were left out.
///
/// # Errors
///
/// See [`RestoreError`].
pub fn restore(plan: &Plan<'_>, archive: impl Read) -> Result<u64, RestoreError> {
    let empty = |folder: &OwnedFd| if plan.over { Ok(()) } else { place::clear(folder) };
    let work = Root::open(plan.work, plan.over, |work| empty(work.at()))?;
    let mut state = plan.state.iter().filter(|_| !plan.over);
    let home = Root::open(plan.home, plan.over, |home| state.try_for_each(|state| remove(home.at(), state)))?;
    let mut restorer = Restorer { work, home, state: plan.state, buffer: vec![0; BUFFER], left_out: 0 };
    let mut stream = Stream::new(archive, Dialect::Own);
    while let Some(entry) = stream.next()? {
        restorer.place(&entry, &mut stream)?;
    }
    let Restorer { work, home, left_out, .. } = restorer;
    work.leave(true)?;
    home.leave(false)?;
    Ok(left_out)
}

/// Removes what lies at a path.
fn remove(home: &OwnedFd, path: &Path) -> std::io::Result<()> {
    let mut names: Vec<_> = path.iter().collect();
    let Some(last) = names.pop() else { return Ok(()) };
    let mut folder = home.try_clone()?;
    for name in names {
        folder = match Entered::below(&folder, name, CHANGE) {
            Ok(entered) => entered.folder().try_clone()?,
            Err(Errno::ENOENT) => return Ok(()),
            // Something took its place through which nothing is to be written.
            Err(Errno::ELOOP | Errno::ENOTDIR) => return Ok(unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir)?),
            Err(errno) => return Err(errno.into()),
        };
    }
    match Entered::below(&folder, last, CHANGE) {
        Ok(entered) => {
            place::clear(entered.folder())?;
            Ok(unlinkat(&folder, last, UnlinkatFlags::RemoveDir)?)
        }
        Err(Errno::ENOENT) => Ok(()),
        Err(Errno::ELOOP | Errno::ENOTDIR) => Ok(unlinkat(&folder, last, UnlinkatFlags::NoRemoveDir)?),
        Err(errno) => Err(errno.into()),
    }
}

/// What a folder is to have when it is left.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    mode: Mode,
    mtime: i128,
}

#[derive(Debug)]
struct Root {
    folder: PathBuf,
    place: Place<Option<Wanted>>,
    /// Whether what is in the way of an entry goes.
    over: bool,
}

impl Root {
    fn open(
        folder: &Path,
        over: bool,
        empty: impl FnOnce(&Place<Option<Wanted>>) -> std::io::Result<()>,
    ) -> Result<Self, RestoreError> {
        let failed = |source| RestoreError::Empty { folder: folder.to_owned(), source };
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = open(folder, flags, Mode::empty()).and_then(|root| Place::new(root, CHANGE, None));
        let place = opened.map_err(|errno| failed(errno.into()))?;
        empty(&place).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), place, over })
    }

    /// Goes into the folder at these names, making what is missing.
    fn enter(&mut self, names: &[&OsStr]) -> Result<(), Errno> {
        let shared = self.place.names().zip(names).take_while(|(at, name)| at == *name).count();
        while self.place.depth() > shared {
            self.up()?;
        }
        for name in &names[shared..] {
            let at = self.place.at();
            let mut entered = Entered::below(at, name, CHANGE);
            if self.over && matches!(entered, Err(Errno::ENOTDIR | Errno::ELOOP)) {
                unlinkat(at, *name, UnlinkatFlags::NoRemoveDir)?;
                entered = Err(Errno::ENOENT);
            }
            let entered = match entered {
                Err(Errno::ENOENT) => {
                    mkdirat(at, *name, CHANGE)?;
                    let made = Entered::below(at, name, CHANGE)?;
                    fchmod(made.folder(), Mode::from_bits_truncate(0o755))?;
                    made
                }
                entered => entered?,
            };
            self.place.down(name, entered, None);
        }
        Ok(())
    }

    /// Makes room for an entry in the folder at hand.
    fn clear_place(&self, leaf: &OsStr) -> Result<(), Errno> {
        if !self.over {
            return Ok(());
        }
        remove(self.place.at(), Path::new(leaf)).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }

    fn up(&mut self) -> Result<(), Errno> {
        match self.place.up()? {
            Some((folder, Frame { kept: Some(wanted), .. })) => settle(&folder, wanted),
            // Entered once more after it was settled, it gets back what it had.
            Some((folder, frame)) if frame.is_loosened => {
                settle(&folder, Wanted { mode: place::mode(&frame.stat), mtime: place::mtime(&frame.stat) })
            }
            Some((folder, frame)) => times(&folder, place::mtime(&frame.stat)),
            None => Ok(()),
        }
    }

    fn leave(mut self, has_entry: bool) -> Result<(), RestoreError> {
        let settled = (|| {
            while self.place.depth() > 0 {
                self.up()?;
            }
            if let Some(wanted) = self.place.kept().filter(|_| has_entry) {
                settle(self.place.at(), wanted)?;
            }
            syncfs(self.place.at())
        })();
        settled.map_err(|errno: Errno| RestoreError::Write { path: self.folder.clone(), source: errno.into() })
    }
}

fn settle(folder: &OwnedFd, wanted: Wanted) -> Result<(), Errno> {
    fchmod(folder, wanted.mode)?;
    times(folder, wanted.mtime)
}

fn times(file: &OwnedFd, mtime: i128) -> Result<(), Errno> {
    futimens(file, &TimeSpec::UTIME_OMIT, &place::timespec(mtime).ok_or(Errno::EOVERFLOW)?)
}

struct Restorer<'a> {
    work: Root,
    home: Root,
    state: &'a [PathBuf],
    buffer: Vec<u8>,
    left_out: u64,
}

impl Restorer<'_> {
    /// Puts one entry in its place.
    fn place<R: Read>(&mut self, entry: &Entry, stream: &mut Stream<R>) -> Result<(), RestoreError> {
        let path = Path::new(&entry.path);
        let refused = |reason| RestoreError::Entry { path: shown(entry.path.as_bytes()), reason };
        let unwritten = |errno: Errno| match errno {
            Errno::EEXIST => refused("comes twice"),
            Errno::ENOTDIR | Errno::ELOOP => refused("lies below something that is no folder"),
            errno => RestoreError::Write { path: shown(entry.path.as_bytes()), source: errno.into() },
        };
        let (is_work, names) = self.inside(path).map_err(refused)?;
        let root = if is_work { &mut self.work } else { &mut self.home };
        if entry.kind == EntryType::Directory {
            root.enter(&names).map_err(unwritten)?;
            self.left_out += attributes(root.place.at(), entry);
            *root.place.kept() = Some(Wanted { mode: Mode::from_bits_truncate(entry.mode), mtime: entry.mtime });
            return Ok(());
        }
        let Some((leaf, parents)) = names.split_last() else { return Err(refused("is no folder")) };
        root.enter(parents).and_then(|()| root.clear_place(leaf)).map_err(unwritten)?;
        let at = root.place.at();
        match entry.kind {
            EntryType::Regular | EntryType::GNUSparse => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let file = openat(at, *leaf, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(unwritten)?;
                let file = self.fill(file, entry, stream)?;
                self.left_out += attributes(&file, entry);
                fchmod(&file, Mode::from_bits_truncate(entry.mode)).map_err(unwritten)?;
                times(&file, entry.mtime).map_err(unwritten)
            }
            EntryType::Symlink => {
                if entry.target.is_empty() {
                    return Err(refused("is a link to nothing"));
                }
                symlinkat(OsStr::from_bytes(&entry.target), at, *leaf).map_err(unwritten)?;
                let time = place::timespec(entry.mtime).ok_or(Errno::EOVERFLOW).map_err(unwritten)?;
                utimensat(at, *leaf, &TimeSpec::UTIME_OMIT, &time, UtimensatFlags::NoFollowSymlink).map_err(unwritten)
            }
            EntryType::Link => {
                let target = Path::new(OsStr::from_bytes(&entry.target));
                let of_same_root = self.inside(target).ok().filter(|(of_work, _)| *of_work == is_work).map(|(_, names)| names);
                let target = of_same_root.ok_or_else(|| refused("is a hard link to something outside"))?;
                let root = if is_work { &self.work } else { &self.home };
                link(root, &target, leaf).map_err(|errno| match errno {
                    Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => refused("is a hard link to no file before it"),
                    errno => unwritten(errno),
                })
            }
            EntryType::Block | EntryType::Char | EntryType::Fifo => Err(refused("is a device or a pipe")),
            _ => Err(refused("is of an unknown type")),
        }
    }

    /// Which root a path belongs to, workspace or not, and its names below that.
    fn inside<'p>(&self, path: &'p Path) -> Result<(bool, Vec<&'p OsStr>), &'static str> {
        let mut names = components(path)?;
        let outside = "lies neither in the workspace nor in the state of the runtime";
        if names.is_empty() {
            return Err(outside);
        }
        let root = names.remove(0);
        let is_work = root == WORK;
        let is_state = || {
            root == HOME
                && self.state.iter().any(|state| Path::new(path).strip_prefix(HOME).is_ok_and(|path| path.starts_with(state)))
        };
        if is_work || is_state() { Ok((is_work, names)) } else { Err(outside) }
    }

    /// Writes what is in a file. Where nothing is, or zeros, it has holes.
    fn fill<R: Read>(&mut self, file: OwnedFd, entry: &Entry, stream: &mut Stream<R>) -> Result<OwnedFd, RestoreError> {
        let unwritten = |source| RestoreError::Write { path: shown(entry.path.as_bytes()), source };
        let file = File::from(file);
        // Where what was written ends.
        let mut written = 0;
        for (offset, length) in &entry.pieces {
            let (mut at, end) = (*offset, offset + length);
            while at < end {
                // Up to where a block of the file ends, so that the next part begins with one.
                let room = BUFFER as u64 - at % BLOCK as u64;
                let part = usize::try_from((end - at).min(room)).unwrap_or(BUFFER);
                stream.read(&mut self.buffer[..part])?;
                written = write_but_zeros(&file, at, &self.buffer[..part]).map_err(unwritten)?.unwrap_or(written);
                at += part as u64;
            }
        }
        if written < entry.size {
            file.set_len(entry.size).map_err(unwritten)?;
        }
        Ok(file.into())
    }
}

/// Writes bytes at their place in a file that has nothing there yet, but for the blocks of it that are zeros. Gives where the
/// last of them ended that were written.
fn write_but_zeros(file: &File, mut at: u64, mut bytes: &[u8]) -> std::io::Result<Option<u64>> {
    let mut written = None;
    while !bytes.is_empty() {
        let zeros = blocks(at, bytes, true);
        (at, bytes) = (at + zeros as u64, &bytes[zeros..]);
        let others = blocks(at, bytes, false);
        file.write_all_at(&bytes[..others], at)?;
        (at, bytes) = (at + others as u64, &bytes[others..]);
        if others > 0 {
            written = Some(at);
        }
    }
    Ok(written)
}

/// How many of the bytes at a place come first that are in blocks of zeros, or in other ones.
fn blocks(at: u64, bytes: &[u8], are_zeros: bool) -> usize {
    let mut end = 0;
    while end < bytes.len() {
        let room = BLOCK - usize::try_from((at + end as u64) % BLOCK as u64).unwrap_or_default();
        let block = &bytes[end..bytes.len().min(end + room)];
        if (block == &ZEROS[..block.len()]) != are_zeros {
            break;
        }
        end += block.len();
    }
    end
}

/// Makes another name, in the folder at hand, of a file at these names.
fn link(root: &Root, target: &[&OsStr], leaf: &OsStr) -> Result<(), Errno> {
    let (last, parents) = target.split_last().ok_or(Errno::ENOENT)?;
    let mut way = Place::new(root.place.root().try_clone().map_err(|_| Errno::EMFILE)?, place::READ, ())?;
    let linked = (|| {
        for name in parents {
            let entered = Entered::below(way.at(), name, place::READ)?;
            way.down(name, entered, ());
        }
        let stat = fstatat(way.at(), *last, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if place::kind(&stat) != SFlag::S_IFREG {
            return Err(Errno::ENOENT);
        }
        linkat(way.at(), *last, root.place.at(), leaf, AtFlags::empty())
    })();
    way.leave();
    linked
}

/// Sets attributes; gives the number of those that the file system does not take.
fn attributes(file: &OwnedFd, entry: &Entry) -> u64 {
    let set = |(name, value): &&(Vec<u8>, Vec<u8>)| {
        CString::new(name.as_slice()).is_ok_and(|name| sys::set_attribute(file, &name, value).is_ok())
    };
    entry.attributes.len() as u64 - entry.attributes.iter().filter(set).count() as u64
}

#[cfg(test)]
mod tests;
