//! What a folder takes of the disk, with all that is in it.
//!
//! Whoever filled it may want to hide something, so nothing in it is believed but what the kernel says
//! of it. No link is followed. A folder is entered by its name below the one before and left by `..`, so it may lie
//! thousands of folders deep; of the way only names are kept. One whose mode keeps its owner out
//! is opened for as long as it is looked at. What goes or moves meanwhile is counted or not.

use std::ffi::{CString, OsStr};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};

/// Bytes of a block as stat(2) counts them, whatever the file system has.
const BLOCK: u64 = 512;
/// Mode that a folder needs to be looked at.
const READ: Mode = Mode::S_IRUSR.union(Mode::S_IXUSR);
const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// How long one look may take. Whoever moves folders about can make it long.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// Bytes of names that are kept on the way: a folder may hold very many others, and lie below very many.
const NAMES_MAX: usize = 32 << 20;

/// What is taken of the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Bytes of blocks. A file with several names counts once.
    pub bytes: u64,
    /// Names of files and folders. A file with several names counts as often, as it is as much work.
    pub files: u64,
}

impl Taken {
    /// Whether one of both is more.
    pub const fn is_beyond(self, most: Self) -> bool {
        self.bytes > most.bytes || self.files > most.files
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, more: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(more.bytes), files: self.files.saturating_add(more.files) }
    }

    const fn add(&mut self, stat: &FileStat) {
        let bytes = (stat.st_blocks as u64).saturating_mul(BLOCK);
        // All names of a file are below the roots, as it can not be linked to elsewhere: each counts for its part.
        let names = if stat.st_mode & libc::S_IFMT == libc::S_IFDIR || stat.st_nlink == 0 { 1 } else { stat.st_nlink };
        *self = self.and(Self { bytes: bytes.div_ceil(names), files: 1 });
    }
}

/// Adds what the folder of this name takes, and ends early where all is more than `most`.
pub fn add(parent: &Path, name: &str, most: Option<Taken>, taken: &mut Taken) -> io::Result<()> {
    let parent = openat(AT_FDCWD, parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let device = fstat(&parent)?.st_dev;
    let name = CString::new(name)?;
    let Entered { folder, stat, mode } = enter(&parent, OsStr::from_bytes(name.as_bytes()), None)?;
    taken.add(&stat);
    let root = folder.try_clone()?;
    let frames = vec![Frame::new(OsStr::new(""), &stat, mode)];
    let until = Instant::now() + LOOK_MAX;
    let mut walk = Walk { root, at: folder, device, most, taken, frames, until, names: 0, given_up: None };
    walk.run();
    walk.given_up.map_or(Ok(()), Err)
}

/// A folder on the way.
struct Frame {
    /// Its name; empty for the root.
    name: Vec<u8>,
    id: (libc::dev_t, libc::ino_t),
    /// The mode that it gets back.
    mode: Option<Loosened>,
    /// Names of the folders in it that are to be looked at, each with a NUL behind it: there may be very many.
    folders: Vec<u8>,
}

impl Frame {
    fn new(name: &OsStr, stat: &FileStat, mode: Option<Loosened>) -> Self {
        Self { name: name.as_bytes().to_vec(), id: (stat.st_dev, stat.st_ino), mode, folders: Vec::new() }
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        self.folders.pop()?;
        let start = self.folders.iter().rposition(|byte| *byte == 0).map_or(0, |nul| nul + 1);
        Some(self.folders.split_off(start))
    }
}

struct Walk<'a> {
    root: OwnedFd,
    at: OwnedFd,
    device: libc::dev_t,
    most: Option<Taken>,
    taken: &'a mut Taken,
    frames: Vec<Frame>,
    until: Instant,
    /// Bytes of names in the frames, about.
    names: usize,
    /// Why not all was looked at.
    given_up: Option<io::Error>,
}

impl Walk<'_> {
    fn run(&mut self) {
        self.read();
        loop {
            if Instant::now() >= self.until {
                self.give_up(io::ErrorKind::TimedOut.into());
            } else if self.names > NAMES_MAX {
                self.give_up(io::Error::other("more folders in folders than can be looked through"));
            }
            let is_enough = self.is_enough() || self.given_up.is_some();
            let Some(frame) = self.frames.last_mut() else { return };
            match frame.next().filter(|_| !is_enough) {
                Some(name) => self.down(OsStr::from_bytes(&name)),
                None => self.up(),
            }
        }
    }

    /// Notes that something was not looked at. The first reason counts.
    fn give_up(&mut self, error: io::Error) {
        self.given_up.get_or_insert(error);
    }

    fn is_enough(&self) -> bool {
        self.most.is_some_and(|most| self.taken.is_beyond(most))
    }

    /// Counts what is in the folder at hand.
    fn read(&mut self) {
        // A description of its own, as the place in a listing belongs to that.
        let listed = openat(&self.at, ".", FOLDER, Mode::empty()).and_then(Dir::from_fd);
        let mut listed = match listed {
            Ok(listed) => listed,
            // Somebody closed it again.
            Err(error) => return self.give_up(error.into()),
        };
        let Some(mut frame) = self.frames.pop() else { return };
        for entry in listed.iter().map_while(Result::ok) {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match fstatat(&self.at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) if stat.st_dev == self.device => {
                    self.taken.add(&stat);
                    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                        frame.folders.extend_from_slice(name.to_bytes_with_nul());
                        self.names += name.to_bytes_with_nul().len();
                    }
                }
                // Elsewhere, or gone.
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(_) if entry.file_type() == Some(Type::Directory) => frame.folders.extend_from_slice(name.to_bytes_with_nul()),
                Err(error) => {
                    self.taken.files += 1;
                    self.give_up(error.into());
                }
            }
            if self.is_enough() || self.names > NAMES_MAX {
                break;
            }
        }
        self.frames.push(frame);
    }

    fn down(&mut self, name: &OsStr) {
        self.names = self.names.saturating_sub(name.len() + 1);
        let Entered { folder, stat, mode } = match enter(&self.at, name, Some(self.device)) {
            Ok(entered) => entered,
            // Gone, something else by now, or elsewhere.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => return,
            Err(error) => return self.give_up(error.into()),
        };
        self.at = folder;
        self.names += name.len() + size_of::<Frame>();
        self.frames.push(Frame::new(name, &stat, mode));
        self.read();
    }

    /// Goes back to the folder before; where that was moved, to the last one that is where it was.
    fn up(&mut self) {
        let Some(left) = self.frames.pop() else { return };
        self.leave(&left);
        let parent = openat(&self.at, "..", FOLDER, Mode::empty());
        tighten(&self.at, left.mode);
        if let Ok(parent) = parent
            && self.is_last(&parent)
        {
            self.at = parent;
            return;
        }
        if !self.frames.is_empty() {
            self.reach();
        }
    }

    /// A folder is not on the way any more, with what in it was still to be looked at.
    fn leave(&mut self, frame: &Frame) {
        let names = frame.name.len() + frame.folders.len() + size_of::<Frame>();
        self.names = self.names.saturating_sub(names);
    }

    fn is_last(&self, folder: &OwnedFd) -> bool {
        let last = self.frames.last().map(|frame| frame.id);
        fstat(folder).is_ok_and(|stat| last == Some((stat.st_dev, stat.st_ino)))
    }

    /// Goes to the last folder on the way that is where it was, from the root; forgets those behind it.
    fn reach(&mut self) {
        let mut folder = match self.root.try_clone() {
            Ok(root) => root,
            Err(error) => {
                self.frames.clear();
                return self.give_up(error);
            }
        };
        let mut there = 1;
        for frame in self.frames.iter().skip(1) {
            let Ok(next) = openat(&folder, OsStr::from_bytes(&frame.name), FOLDER, Mode::empty()) else { break };
            if !fstat(&next).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == frame.id) {
                break;
            }
            (folder, there) = (next, there + 1);
        }
        for frame in self.frames.split_off(there) {
            self.leave(&frame);
        }
        self.at = folder;
    }
}

/// A mode that was changed so that a folder can be looked at.
#[derive(Debug, Clone, Copy)]
struct Loosened {
    from: Mode,
    to: Mode,
}

/// Gives a folder back the mode that it had, if it has the one that it was given: somebody else may have set another.
fn tighten(folder: impl AsFd, mode: Option<Loosened>) {
    let Some(Loosened { from, to }) = mode else { return };
    let is_as_left = fstat(&folder).is_ok_and(|stat| Mode::from_bits_truncate(stat.st_mode & 0o7777) == to);
    if is_as_left {
        // Only its owner changes it, so this fails for a folder that is not there any more.
        let _gone = fchmod(&folder, from);
    }
}

struct Entered {
    folder: OwnedFd,
    stat: FileStat,
    /// The mode that it has to get back.
    mode: Option<Loosened>,
}

fn enter(from: impl AsFd, name: &OsStr, device: Option<libc::dev_t>) -> Result<Entered, Errno> {
    let (folder, before) = match openat(&from, name, FOLDER, Mode::empty()) {
        Err(Errno::EACCES) => {
            let before = loosen(&from, name)?;
            (openat(&from, name, FOLDER, Mode::empty())?, Some(before))
        }
        opened => (opened?, None),
    };
    let stat = fstat(&folder)?;
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    let loosened = |from: Mode| Loosened { from, to: from | READ };
    let mode = match before {
        None if !mode.contains(READ) && fchmod(&folder, mode | READ).is_ok() => Some(loosened(mode)),
        before => before.map(loosened),
    };
    if device.is_some_and(|device| device != stat.st_dev) {
        return Err(Errno::EXDEV);
    }
    Ok(Entered { folder, stat, mode })
}

/// Lets the owner into a folder, and gives the mode that it had.
fn loosen(from: impl AsFd, name: &OsStr) -> Result<Mode, Errno> {
    let found = openat(from, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let stat = fstat(&found)?;
    if SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) != SFlag::S_IFDIR {
        return Err(Errno::ENOTDIR);
    }
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    // By its descriptor, as the name could be a link by now.
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let set = fs::set_permissions(path, Permissions::from_mode((mode | READ).bits()));
    set.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    Ok(mode)
}
