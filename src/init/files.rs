//! Single files of the workspace: lists, reads, writes and deletes them, inside, with the sandbox's rights.
//!
//! Links are followed as long as they stay in the workspace. What works in it meanwhile can lead this
//! astray, but no further than to what it can reach itself. A file that is written is whole under its name
//! or not there: it gets the name last.

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlink, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, unlinkat};

use super::place::{self, Entered, Names, Place};
use crate::archive::exclude::Excludes;
use crate::archive::{PATH_MAX, components};
use crate::link::files::Refusal;

/// A folder on the way, of which nothing but its place is needed.
const WAY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
/// A file to read; what blocks when it is opened is none.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);
const WRITE: OFlag = OFlag::O_WRONLY.union(OFlag::O_CLOEXEC);
/// Mode of what is made, before the mask.
const FILE_MODE: Mode = Mode::from_bits_truncate(0o644);
const FOLDER_MODE: Mode = Mode::from_bits_truncate(0o755);

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// For a reason that a caller can act on.
    #[error("{}", .0.as_str())]
    Refused(Refusal),
    /// The path climbs or is absolute.
    #[error("the path {0}")]
    Path(&'static str),
    /// A system call failed.
    #[error("{step}")]
    Sys {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Nobody takes the output, or the input can not be read.
    #[error("input or output")]
    Pipe(#[source] io::Error),
}

impl FilesError {
    /// The exit code that says it.
    pub const fn code(&self) -> u8 {
        if let Self::Refused(refusal) = self { *refusal as u8 } else { 1 }
    }

    fn sys<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Sys { step, source: source.into() }
    }

    /// What is said of a path that can not be opened.
    fn open(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => Self::Refused(Refusal::Missing),
            Errno::EACCES => Self::Refused(Refusal::Closed),
            errno => Self::sys("open it")(errno),
        }
    }
}

/// Writes records of the files, sorted by the names in each folder: all but what the patterns name and
/// what is below it, and no more than `max` and one.
pub fn list(work: &Path, excludes: &Excludes, max: u64, to: impl Write) -> Result<(), FilesError> {
    let root = open(work, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
    let root = root.map_err(FilesError::open)?;
    let names = Names::list(&root).map_err(FilesError::sys("list a folder"))?;
    let mut place = Place::new(root, place::READ, names).map_err(FilesError::open)?;
    let mut lister = Lister { work, to: BufWriter::new(to), left: max.saturating_add(1) };
    let done = lister.walk(&mut place, excludes);
    place.leave();
    done?;
    lister.to.flush().map_err(FilesError::Pipe)
}

struct Lister<'a, W: Write> {
    work: &'a Path,
    to: BufWriter<W>,
    left: u64,
}

impl<W: Write> Lister<'_, W> {
    fn walk(&mut self, place: &mut Place<Names>, excludes: &Excludes) -> Result<(), FilesError> {
        while self.left > 0 {
            let Some((name, kind)) = place.kept().next() else {
                match place.up().map_err(FilesError::sys("leave a folder"))? {
                    Some((folder, frame)) => frame.tighten(&folder),
                    None => return Ok(()),
                }
                continue;
            };
            if excludes.matches(&[name.as_bytes()], kind == Some(Type::Directory)) {
                continue;
            }
            if matches!(kind, Some(Type::Directory) | None) {
                // What vanished or can not be entered is passed over, like what is no folder.
                if let Ok(entered) = Entered::below(place.at(), &name, place::READ) {
                    if let Ok(names) = Names::list(entered.folder()) {
                        place.down(&name, entered, names);
                    }
                    continue;
                }
            }
            if matches!(kind, Some(Type::File | Type::Symlink) | None) {
                self.file(place, &name)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, place: &Place<Names>, name: &OsStr) -> Result<(), FilesError> {
        let Ok(mut stat) = fstatat(place.at(), name, AtFlags::AT_SYMLINK_NOFOLLOW) else { return Ok(()) };
        if place::kind(&stat) == SFlag::S_IFLNK {
            let found = openat(place.at(), name, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
            let Some(found) = found.ok().filter(|found| check_inside(self.work, found).is_ok()) else { return Ok(()) };
            stat = fstat(&found).map_err(FilesError::sys("look at a file"))?;
        }
        if place::kind(&stat) != SFlag::S_IFREG {
            return Ok(());
        }
        let mut record = format!("{} {} ", stat.st_size, place::mtime(&stat)).into_bytes();
        let names = record.len();
        for part in place.names().chain([name]) {
            record.extend_from_slice(part.as_bytes());
            record.push(b'/');
        }
        // In place of the last slash.
        record.pop();
        if record.len() - names > PATH_MAX {
            return Ok(());
        }
        record.push(0);
        self.left -= 1;
        self.to.write_all(&record).map_err(FilesError::Pipe)
    }
}

/// Writes what a file is and what is in it, if that is no more than `max` bytes.
pub fn read(work: &Path, path: &Path, max: u64, mut to: impl Write) -> Result<(), FilesError> {
    components(path).map_err(FilesError::Path)?;
    let found = open(&work.join(path), READ, Mode::empty()).map_err(|errno| match errno {
        // Of a socket, and of a pipe that is only written to.
        Errno::ENXIO => FilesError::Refused(Refusal::NotFile),
        errno => FilesError::open(errno),
    })?;
    check_inside(work, &found)?;
    let stat = fstat(&found).map_err(FilesError::sys("look at it"))?;
    if place::kind(&stat) != SFlag::S_IFREG {
        return Err(FilesError::Refused(Refusal::NotFile));
    }
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    writeln!(to, "{size} {}", place::mtime(&stat)).map_err(FilesError::Pipe)?;
    if size > max {
        return Err(FilesError::Refused(Refusal::TooLarge));
    }
    let sent = io::copy(&mut File::from(found).take(size), &mut to).map_err(FilesError::sys("read it"))?;
    if sent < size {
        return Err(FilesError::sys("read it")(io::Error::from(io::ErrorKind::UnexpectedEof)));
    }
    to.flush().map_err(FilesError::Pipe)
}

/// Writes a file, with the folders on the way to it, in the place of one that is there, whose mode it
/// takes. A link in its place goes.
pub fn write(work: &Path, path: &Path, mut from: impl Read) -> Result<(), FilesError> {
    let (folder, name) = parent(work, path, true)?;
    let before = fstatat(&folder, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok();
    if before.as_ref().is_some_and(|stat| place::kind(stat) == SFlag::S_IFDIR) {
        return Err(FilesError::Refused(Refusal::NotFile));
    }
    let beside = OsString::from(format!(".ash-{}.part", std::process::id()));
    // Without a name, so that nothing stays of one that breaks off, where the file system can.
    let (file, is_named) = match openat(&folder, ".", WRITE | OFlag::O_TMPFILE, FILE_MODE) {
        Ok(file) => (file, false),
        Err(_) => {
            let flags = WRITE | OFlag::O_CREAT | OFlag::O_EXCL;
            (openat(&folder, beside.as_os_str(), flags, FILE_MODE).map_err(FilesError::sys("make it"))?, true)
        }
    };
    let mut file = File::from(file);
    let written = io::copy(&mut from, &mut file).map_err(FilesError::sys("write it")).and_then(|_| {
        if let Some(stat) = before.filter(|stat: &FileStat| place::kind(stat) == SFlag::S_IFREG) {
            fchmod(&file, place::mode(&stat)).map_err(FilesError::sys("give it its mode"))?;
        }
        if !is_named {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let flags = LinkatFlags::AT_SYMLINK_FOLLOW;
            linkat(nix::fcntl::AT_FDCWD, path.as_str(), &folder, beside.as_os_str(), flags)
                .map_err(FilesError::sys("name it"))?;
        }
        renameat(&folder, beside.as_os_str(), &folder, name.as_os_str()).map_err(FilesError::sys("name it"))
    });
    if written.is_err() {
        // There may be none.
        let _gone = unlinkat(&folder, beside.as_os_str(), UnlinkatFlags::NoRemoveDir);
    }
    written
}

/// Deletes a file, or a link.
pub fn delete(work: &Path, path: &Path) -> Result<(), FilesError> {
    let (folder, name) = parent(work, path, false)?;
    let stat = fstatat(&folder, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(FilesError::open)?;
    if place::kind(&stat) == SFlag::S_IFDIR {
        return Err(FilesError::Refused(Refusal::NotFile));
    }
    unlinkat(&folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir).map_err(FilesError::open)
}

/// The folder that a path ends in, and the last name; with `make`, folders that are missing are made.
fn parent(work: &Path, path: &Path, make: bool) -> Result<(OwnedFd, OsString), FilesError> {
    let mut names = components(path).map_err(FilesError::Path)?;
    let last = names.pop().ok_or(FilesError::Refused(Refusal::NotFile))?.to_owned();
    let mut folder = open(work, WAY, Mode::empty()).map_err(FilesError::open)?;
    for name in names {
        let mut next = openat(&folder, name, WAY, Mode::empty());
        if make && matches!(next, Err(Errno::ENOENT)) {
            next = match mkdirat(&folder, name, FOLDER_MODE) {
                // Somebody else made it, or it is a link to nothing.
                Ok(()) | Err(Errno::EEXIST) => openat(&folder, name, WAY, Mode::empty()),
                Err(errno) => Err(errno),
            };
        }
        folder = match next {
            Err(Errno::ENOTDIR) if make => return Err(FilesError::Refused(Refusal::NotFolder)),
            next => next.map_err(FilesError::open)?,
        };
        check_inside(work, &folder)?;
    }
    Ok((folder, last))
}

/// Whether what was opened lies in the workspace, wherever links led. Needs `/proc`.
fn check_inside(work: &Path, found: impl AsFd) -> Result<(), FilesError> {
    let path = readlink(format!("/proc/self/fd/{}", found.as_fd().as_raw_fd()).as_str()).map_err(FilesError::sys("find it"))?;
    if Path::new(&path).starts_with(work) { Ok(()) } else { Err(FilesError::Refused(Refusal::Outside)) }
}
