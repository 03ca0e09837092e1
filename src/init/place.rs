//! A place in a tree of folders, left and entered one folder at a time.
//!
//! A folder is entered by its name below the one before, never through a symbolic link, and left
//! by `..`, which has to lead back to the folder that it was entered from. So a tree may be
//! thousands of folders deep: only the folder at hand and the root are open, and no path that the
//! kernel sees is longer than a name.
//!
//! A folder whose mode keeps its owner out is opened to the owner when it is entered. Whoever
//! leaves it says what becomes of its mode then.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Mode that a folder needs to be read.
pub const READ: Mode = Mode::S_IRUSR.union(Mode::S_IXUSR);
/// Mode that a folder needs to be changed.
pub const CHANGE: Mode = Mode::S_IRWXU;

const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// See the module's documentation. `T` is what is kept for each folder on the way.
#[derive(Debug)]
pub struct Place<T> {
    root: OwnedFd,
    at: OwnedFd,
    first: Frame<T>,
    /// The folders below the root, on the way to the one at hand.
    frames: Vec<Frame<T>>,
}

/// A folder on the way.
#[derive(Debug)]
pub struct Frame<T> {
    /// Its name; empty for the root.
    pub name: OsString,
    /// What it was like when it was entered.
    pub stat: FileStat,
    /// Whether its mode was changed so that it could be entered.
    pub is_loosened: bool,
    /// What else is kept for it.
    pub kept: T,
}

/// A folder that was entered.
#[derive(Debug)]
pub struct Entered {
    folder: OwnedFd,
    stat: FileStat,
    is_loosened: bool,
}

impl Entered {
    /// Enters a folder below another one; `need` is what its owner has to be able to do in it.
    pub fn below(from: impl AsFd, name: &OsStr, need: Mode) -> Result<Self, Errno> {
        let (folder, is_loosened) = match openat(&from, name, FOLDER, Mode::empty()) {
            Ok(folder) => (folder, None),
            Err(Errno::EACCES) => {
                let stat = loosen(&from, name, SFlag::S_IFDIR, need)?;
                (openat(&from, name, FOLDER, Mode::empty())?, Some(stat))
            }
            Err(errno) => return Err(errno),
        };
        Self::new(folder, is_loosened, need)
    }

    fn new(folder: OwnedFd, loosened: Option<FileStat>, need: Mode) -> Result<Self, Errno> {
        let stat = fstat(&folder)?;
        let mode = mode(&stat);
        if let Some(before) = loosened {
            return Ok(Self { folder, stat: before, is_loosened: true });
        }
        // Another's folder may be open to everybody all the same.
        let is_loosened = !mode.contains(need) && fchmod(&folder, mode | need).is_ok();
        Ok(Self { folder, stat, is_loosened })
    }

    /// What it was like before it was entered.
    pub const fn stat(&self) -> &FileStat {
        &self.stat
    }

    /// The folder.
    pub const fn folder(&self) -> &OwnedFd {
        &self.folder
    }
}

impl<T> Place<T> {
    /// Begins at a root.
    pub fn new(root: OwnedFd, need: Mode, kept: T) -> Result<Self, Errno> {
        let at = root.try_clone().map_err(|_| Errno::EMFILE)?;
        let Entered { folder: at, stat, is_loosened } = Entered::new(at, None, need)?;
        let first = Frame { name: OsString::new(), stat, is_loosened, kept };
        Ok(Self { root, at, first, frames: Vec::new() })
    }

    /// The folder at hand.
    pub const fn at(&self) -> &OwnedFd {
        &self.at
    }

    /// The root.
    pub const fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// What is kept for the folder at hand.
    pub fn kept(&mut self) -> &mut T {
        &mut self.frames.last_mut().unwrap_or(&mut self.first).kept
    }

    /// What the folder at hand was like when it was entered.
    pub fn stat(&self) -> FileStat {
        self.last().stat
    }

    fn last(&self) -> &Frame<T> {
        self.frames.last().unwrap_or(&self.first)
    }

    /// How many folders below the root the one at hand is.
    pub const fn depth(&self) -> usize {
        self.frames.len()
    }

    /// The names on the way from the root to the folder at hand.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.frames.iter().map(|frame| frame.name.as_os_str())
    }

    /// Goes into a folder that was entered below the one at hand.
    pub fn down(&mut self, name: &OsStr, Entered { folder, stat, is_loosened }: Entered, kept: T) {
        self.at = folder;
        self.frames.push(Frame { name: name.to_owned(), stat, is_loosened, kept });
    }

    /// Goes back to the folder before, and gives the one that was left. `None` at the root.
    ///
    /// Should somebody have moved folders meanwhile, those that are not where they were are left
    /// as well.
    pub fn up(&mut self) -> Result<Option<(OwnedFd, Frame<T>)>, Errno> {
        let Some(left) = self.frames.pop() else { return Ok(None) };
        let mut parent = openat(&self.at, "..", FOLDER, Mode::empty()).and_then(|parent| self.check(parent));
        while parent.is_err() {
            parent = self.reach();
            if parent.is_err() && self.frames.pop().is_none() {
                break;
            }
        }
        let at = std::mem::replace(&mut self.at, parent?);
        Ok(Some((at, left)))
    }

    /// Goes back to the root, and ends with all folders in the mode that they had.
    pub fn leave(mut self) {
        while let Ok(Some((folder, frame))) = self.up() {
            frame.tighten(&folder);
        }
        if self.depth() == 0 {
            self.first.tighten(&self.at);
        }
    }

    /// The folder, if it is the last on the way.
    fn check(&self, folder: OwnedFd) -> Result<OwnedFd, Errno> {
        let stat = fstat(&folder)?;
        let wanted = self.last().stat;
        let is_it = (wanted.st_dev, wanted.st_ino) == (stat.st_dev, stat.st_ino);
        if is_it { Ok(folder) } else { Err(Errno::ENOENT) }
    }

    /// The last folder on the way, from the root.
    fn reach(&self) -> Result<OwnedFd, Errno> {
        let mut folder = self.root.try_clone().map_err(|_| Errno::EMFILE)?;
        for name in self.names() {
            folder = openat(&folder, name, FOLDER, Mode::empty())?;
        }
        self.check(folder)
    }
}

impl<T> Frame<T> {
    /// Gives the folder, which was left, its mode back if entering it took another one.
    pub fn tighten(&self, folder: &OwnedFd) {
        if self.is_loosened {
            // Only its owner changes it, so this fails for a folder that is not there any more.
            let _gone = fchmod(folder, mode(&self.stat));
        }
    }
}

/// The nine permission bits.
pub fn mode(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o777)
}

/// The type of a file.
pub fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Gives the owner rights on a file or folder that can not be opened without them, and tells what
/// it was like before. Needs `/proc`.
pub fn loosen(from: impl AsFd, name: &OsStr, wanted: SFlag, need: Mode) -> Result<FileStat, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let found = openat(from, name, flags, Mode::empty())?;
    let stat = fstat(&found)?;
    if kind(&stat) != wanted {
        return Err(Errno::ENOENT);
    }
    // By its descriptor, as the name could be a link by now.
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let set = fs::set_permissions(path, Permissions::from_mode((mode(&stat) | need).bits()));
    set.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    Ok(stat)
}

/// The names in a folder, sorted by their bytes. Close together, as there may be millions.
#[derive(Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    entries: Vec<(u32, u16, Option<Type>)>,
    next: usize,
}

impl Names {
    /// Lists a folder.
    pub fn list(folder: &OwnedFd) -> Result<Self, Errno> {
        let mut names = Self::default();
        // A description of its own, as the place in a listing belongs to that.
        let mut folder = Dir::from_fd(openat(folder, ".", FOLDER, Mode::empty())?)?;
        for entry in folder.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let start = u32::try_from(names.bytes.len()).map_err(|_| Errno::EOVERFLOW)?;
            let length = u16::try_from(name.len()).map_err(|_| Errno::ENAMETOOLONG)?;
            names.bytes.extend_from_slice(name);
            names.entries.push((start, length, entry.file_type()));
        }
        let Self { bytes, entries, .. } = &mut names;
        entries.sort_unstable_by(|a, b| of(bytes, a).cmp(of(bytes, b)));
        // What is removed and made again while it is listed can come twice.
        entries.dedup_by(|a, b| of(bytes, a) == of(bytes, b));
        Ok(names)
    }

    /// The next name, and what it names where the file system tells.
    pub fn next(&mut self) -> Option<(OsString, Option<Type>)> {
        let entry = self.entries.get(self.next)?;
        self.next += 1;
        Some((OsStr::from_bytes(of(&self.bytes, entry)).to_owned(), entry.2))
    }
}

fn of<'a>(bytes: &'a [u8], (start, length, _): &(u32, u16, Option<Type>)) -> &'a [u8] {
    &bytes[*start as usize..*start as usize + usize::from(*length)]
}

/// Removes all that is in the folder.
pub fn clear(folder: &OwnedFd) -> io::Result<()> {
    let root = folder.try_clone()?;
    let mut place = Place::new(root, CHANGE, ())?;
    // Beside the place, since it is the names of a folder that is left which tell what to remove.
    let mut names = vec![Names::list(place.at())?];
    loop {
        match names.last_mut().and_then(Names::next) {
            Some((name, Some(Type::Directory) | None)) if remove_folder(&place, &name).is_err() => {
                match Entered::below(place.at(), &name, CHANGE) {
                    Ok(entered) => {
                        names.push(Names::list(entered.folder())?);
                        place.down(&name, entered, ());
                    }
                    Err(Errno::ENOTDIR | Errno::ELOOP) => remove(&place, &name)?,
                    Err(errno) => return Err(errno.into()),
                }
            }
            Some((_, Some(Type::Directory) | None)) => {}
            Some((name, Some(_))) => remove(&place, &name)?,
            None => {
                names.pop();
                match place.up()? {
                    Some((_, frame)) => remove_folder(&place, &frame.name)?,
                    None => return Ok(()),
                }
            }
        }
    }
}

fn remove<T>(place: &Place<T>, name: &OsStr) -> Result<(), Errno> {
    match unlinkat(place.at(), name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

fn remove_folder<T>(place: &Place<T>, name: &OsStr) -> Result<(), Errno> {
    unlinkat(place.at(), name, UnlinkatFlags::RemoveDir)
}

/// Time of the last change in nanoseconds since 1970.
pub const fn mtime(stat: &FileStat) -> i128 {
    stat.st_mtime as i128 * 1_000_000_000 + stat.st_mtime_nsec as i128
}

/// The same as the kernel takes it. `None` if no clock shows such a time.
pub fn timespec(nanos: i128) -> Option<nix::sys::time::TimeSpec> {
    let seconds = libc::time_t::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    let rest = libc::c_long::try_from(nanos.rem_euclid(1_000_000_000)).ok()?;
    Some(nix::sys::time::TimeSpec::new(seconds, rest))
}
