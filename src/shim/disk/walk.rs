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
    let mut walk = Walk { root, at: folder, device, most, taken, frames: vec![Frame::new(OsStr::new(""), &stat, mode)] };
    walk.run();
    Ok(())
}

/// A folder on the way.
struct Frame {
    /// Its name; empty for the root.
    name: Vec<u8>,
    id: (libc::dev_t, libc::ino_t),
    /// The mode that it gets back.
    mode: Option<Mode>,
    /// Names of the folders in it that are to be looked at, each with a NUL behind it: there may be very many.
    folders: Vec<u8>,
}

impl Frame {
    fn new(name: &OsStr, stat: &FileStat, mode: Option<Mode>) -> Self {
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
}

impl Walk<'_> {
    fn run(&mut self) {
        self.read();
        loop {
            let is_enough = self.is_enough();
            let Some(frame) = self.frames.last_mut() else { return };
            match frame.next().filter(|_| !is_enough) {
                Some(name) => self.down(OsStr::from_bytes(&name)),
                None => self.up(),
            }
        }
    }

    fn is_enough(&self) -> bool {
        self.most.is_some_and(|most| self.taken.is_beyond(most))
    }

    /// Counts what is in the folder at hand.
    fn read(&mut self) {
        // A description of its own, as the place in a listing belongs to that.
        let listed = openat(&self.at, ".", FOLDER, Mode::empty()).and_then(Dir::from_fd);
        let (Ok(mut listed), Some(mut frame)) = (listed, self.frames.pop()) else { return };
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
                    }
                }
                // Elsewhere, or gone.
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(_) if entry.file_type() == Some(Type::Directory) => frame.folders.extend_from_slice(name.to_bytes_with_nul()),
                Err(_) => self.taken.files += 1,
            }
            if self.is_enough() {
                break;
            }
        }
        self.frames.push(frame);
    }

    fn down(&mut self, name: &OsStr) {
        let Ok(Entered { folder, stat, mode }) = enter(&self.at, name, Some(self.device)) else { return };
        self.at = folder;
        self.frames.push(Frame::new(name, &stat, mode));
        self.read();
    }

    /// Goes back to the folder before; where that was moved, to the last one that is where it was.
    fn up(&mut self) {
        let Some(left) = self.frames.pop() else { return };
        let parent = openat(&self.at, "..", FOLDER, Mode::empty());
        if let Some(mode) = left.mode {
            // Only its owner changes it, so this fails for a folder that is not there any more.
            let _gone = fchmod(&self.at, mode);
        }
        if let Ok(parent) = parent
            && self.is_last(&parent)
        {
            self.at = parent;
            return;
        }
        while !self.frames.is_empty() {
            match self.reach() {
                Ok(folder) => {
                    self.at = folder;
                    return;
                }
                Err(_) => drop(self.frames.pop()),
            }
        }
    }

    fn is_last(&self, folder: &OwnedFd) -> bool {
        let last = self.frames.last().map(|frame| frame.id);
        fstat(folder).is_ok_and(|stat| last == Some((stat.st_dev, stat.st_ino)))
    }

    /// The last folder on the way, from the root.
    fn reach(&self) -> Result<OwnedFd, Errno> {
        let mut folder = self.root.try_clone().map_err(|_| Errno::EMFILE)?;
        for frame in self.frames.iter().skip(1) {
            folder = openat(&folder, OsStr::from_bytes(&frame.name), FOLDER, Mode::empty())?;
        }
        if self.is_last(&folder) { Ok(folder) } else { Err(Errno::ENOENT) }
    }
}

struct Entered {
    folder: OwnedFd,
    stat: FileStat,
    /// The mode that it has to get back.
    mode: Option<Mode>,
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
    let mode = match before {
        None if !mode.contains(READ) && fchmod(&folder, mode | READ).is_ok() => Some(mode),
        before => before,
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
