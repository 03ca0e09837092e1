//! Reads the entries of a folder on this host.
//!
//! The folder belongs to somebody who may change it meanwhile, so nothing is looked up twice by
//! its path: each folder and file is opened from the one above it without following links, and
//! what was opened is what is checked and copied. A link can so be recorded, but never followed.

use std::ffi::CString;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use super::entry::{EntryFault, clean_file_path, show};
use super::error::ContentError;
use super::staging::Staging;

const OPEN_FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// Not waiting for the other end, should a file have become a pipe.
const OPEN_FILE: OFlag = OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);

/// On the way to a folder nothing needs to be read.
const PASS_FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Puts all entries of the folder at `path` into a staging folder, if it lies in one of `roots`
/// or is one of them.
pub(super) fn copy(path: &Path, roots: &[PathBuf], staging: &mut Staging) -> Result<(), ContentError> {
    let folder = open_allowed(path, roots)?;
    Walk { path, staging }.folder(&folder, "")
}

fn open_allowed(path: &Path, roots: &[PathBuf]) -> Result<OwnedFd, ContentError> {
    let not_allowed = || ContentError::NotAllowed { path: path.to_owned() };
    let failed = |source: io::Error| ContentError::Folder { path: path.to_owned(), entry: ".".to_owned(), source };
    // A path that does not even look allowed is told nothing about what is there.
    if path.components().any(|part| part == Component::ParentDir) || !roots.iter().any(|root| path.starts_with(root)) {
        return Err(not_allowed());
    }
    let true_path = std::fs::canonicalize(path).map_err(failed)?;
    let true_roots = roots.iter().filter_map(|root| std::fs::canonicalize(root).ok());
    let way = true_path.strip_prefix("/").map_err(|_| not_allowed())?;
    if !true_roots.into_iter().any(|root| true_path.starts_with(root)) {
        return Err(not_allowed());
    }
    let open = || {
        let mut folder = nix::fcntl::open("/", PASS_FOLDER, Mode::empty())?;
        for component in way.components() {
            // Had a link come here since, this fails.
            folder = openat(&folder, component.as_os_str(), PASS_FOLDER, Mode::empty())?;
        }
        openat(&folder, ".", OPEN_FOLDER, Mode::empty())
    };
    open().map_err(|errno: Errno| failed(errno.into()))
}

struct Walk<'a> {
    path: &'a Path,
    staging: &'a mut Staging,
}

impl Walk<'_> {
    /// All entries of the open folder at `at`, by name. How deep this goes is bounded by what a
    /// path may be.
    fn folder(&mut self, folder: &OwnedFd, at: &str) -> Result<(), ContentError> {
        for name in self.names(folder, at)? {
            let raw = if at.is_empty() { name.as_bytes().to_vec() } else { [at.as_bytes(), b"/", name.as_bytes()].concat() };
            let path = clean_file_path(&raw).map_err(|fault| ContentError::entry(&raw, fault))?;
            let seen =
                fstatat(folder, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|errno| self.unreadable(&path, errno))?;
            match kind(&seen) {
                SFlag::S_IFDIR => {
                    let inner = self.open(folder, &name, OPEN_FOLDER, &path)?;
                    self.staging.folder(&path)?;
                    self.folder(&inner, &path)?;
                }
                SFlag::S_IFREG => {
                    let file = self.open(folder, &name, OPEN_FILE, &path)?;
                    self.file(file, &path)?;
                }
                SFlag::S_IFLNK => {
                    let target = readlinkat(folder, name.as_c_str()).map_err(|errno| self.unreadable(&path, errno))?;
                    self.staging.link(&path, target.as_bytes())?;
                }
                other => return Err(ContentError::entry(&path, special(other))),
            }
        }
        Ok(())
    }

    fn file(&mut self, file: OwnedFd, path: &str) -> Result<(), ContentError> {
        let opened = fstat(file.as_fd()).map_err(|errno| self.unreadable(path, errno))?;
        if kind(&opened) != SFlag::S_IFREG {
            return Err(ContentError::entry(path, special(kind(&opened))));
        }
        let mut file = std::fs::File::from(file);
        let (whole, shown) = (self.path, show(path.as_bytes()));
        self.staging.file(path, opened.st_mode & 0o100 != 0, u64::try_from(opened.st_size).unwrap_or(0), &mut |chunk| {
            file.read(chunk).map_err(|source| ContentError::Folder { path: whole.to_owned(), entry: shown.clone(), source })
        })
    }

    fn open(&self, folder: &OwnedFd, name: &CString, flags: OFlag, path: &str) -> Result<OwnedFd, ContentError> {
        openat(folder, name.as_c_str(), flags, Mode::empty()).map_err(|errno| self.unreadable(path, errno))
    }

    /// The names in a folder, sorted; no more than the version may still hold.
    fn names(&self, folder: &OwnedFd, at: &str) -> Result<Vec<CString>, ContentError> {
        let failed = |errno| self.unreadable(if at.is_empty() { "." } else { at }, errno);
        let mut reader = Dir::openat(folder, ".", OPEN_FOLDER, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in reader.iter() {
            let name = entry.map_err(failed)?.file_name().to_owned();
            if !matches!(name.as_bytes(), b"." | b"..") {
                names.push(name);
                self.staging.room_for(names.len())?;
            }
        }
        names.sort();
        Ok(names)
    }

    fn unreadable(&self, path: &str, errno: Errno) -> ContentError {
        ContentError::Folder { path: self.path.to_owned(), entry: show(path.as_bytes()), source: errno.into() }
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn special(kind: SFlag) -> EntryFault {
    match kind {
        SFlag::S_IFIFO => EntryFault::Pipe,
        SFlag::S_IFSOCK => EntryFault::Socket,
        // A file that became a folder or a link since it was looked at has no better name here.
        _ => EntryFault::Device,
    }
}
