//! Unpacks a tar archive into a folder, and nowhere else.
//!
//! The archive is not trusted, though it could do no more than the sandbox itself: a mistake in it
//! has to end as an error that names the entry. Folders are entered one component at a time and
//! never through a symbolic link, so a link in the archive can not lead a later entry outside.
//! Symbolic links may point anywhere: what follows them later has the sandbox's rights only.
//!
//! Taken: files, folders, symbolic links; long names of GNU tar and of pax. Refused: everything
//! else, also hard links and sparse files, which Ash itself never packs. Of the mode the nine
//! permission bits count; owners and times do not.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::symlinkat;
use tar::{Archive, Entry, EntryType};

use super::place;
use crate::archive::components;

/// Longest path or link target, as in Linux (`PATH_MAX`).
const PATH_MAX: u64 = 4096;
/// Longest extended header.
const EXTENDED_MAX: u64 = 64 << 10;

/// Why an archive was not unpacked. What came before is unpacked then.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The folder could not be emptied.
    #[error("empty {}", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive can not be read.
    #[error("read the archive")]
    Read(#[source] io::Error),
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
        source: io::Error,
    },
}

/// Empties `folder` and unpacks the archive into it.
pub fn unpack(archive: impl Read, folder: &Path) -> Result<(), UnpackError> {
    let opened = nix::fcntl::open(folder, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let emptied = opened.map_err(io::Error::from).and_then(|root| place::clear(&root).map(|()| root));
    let root = emptied.map_err(|source| UnpackError::Empty { folder: folder.to_owned(), source })?;
    let mut archive = Archive::new(archive);
    // Raw, so that names of any length are read here, with a limit.
    let entries = archive.entries().map_err(UnpackError::Read)?.raw(true);
    let mut extended = Extended::default();
    for entry in entries {
        let mut entry = entry.map_err(UnpackError::Read)?;
        if extended.take(&mut entry)? {
            continue;
        }
        put(&root, &mut entry, std::mem::take(&mut extended))?;
    }
    Ok(())
}

/// Names that precede the entry they belong to.
#[derive(Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl Extended {
    /// Takes the entry if it only extends the next one.
    fn take<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<bool, UnpackError> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.path = Some(name(entry, PATH_MAX)?),
            EntryType::GNULongLink => self.target = Some(name(entry, PATH_MAX)?),
            EntryType::XHeader => {
                let records = name(entry, EXTENDED_MAX)?;
                self.records(&records).ok_or_else(|| refuse(entry, "is an extended header that can not be read"))?;
            }
            EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads records `<length> <key>=<value>\n` (POSIX pax). `None` if they are malformed, or say
    /// something that changes how the archive itself is to be read.
    fn records(&mut self, mut rest: &[u8]) -> Option<()> {
        while !rest.is_empty() {
            let space = rest.iter().position(|b| *b == b' ')?;
            let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
            let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|b| *b == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => return None,
                sparse if sparse.starts_with(b"GNU.sparse.") => return None,
                _ => {}
            }
            rest = &rest[length..];
        }
        Some(())
    }
}

fn name<R: Read>(entry: &mut Entry<'_, R>, limit: u64) -> Result<Vec<u8>, UnpackError> {
    if entry.size() > limit {
        return Err(refuse(entry, "has a name that is too long"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(UnpackError::Read)?;
    if bytes.len() as u64 != entry.size() {
        return Err(refuse(entry, "is cut short"));
    }
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

fn refuse<R: Read>(entry: &Entry<'_, R>, reason: &'static str) -> UnpackError {
    UnpackError::Entry { path: OsString::from_vec(entry.header().path_bytes().into_owned()).into(), reason }
}

/// Puts one entry in its place.
fn put<R: Read>(root: &OwnedFd, entry: &mut Entry<'_, R>, extended: Extended) -> Result<(), UnpackError> {
    let bytes = extended.path.unwrap_or_else(|| entry.header().path_bytes().into_owned());
    let path = PathBuf::from(OsString::from_vec(bytes));
    let refused = |reason| UnpackError::Entry { path: path.clone(), reason };
    let unwritten = |errno: Errno| match errno {
        Errno::EEXIST => refused("comes twice"),
        Errno::ENOTDIR | Errno::ELOOP => refused("lies below something that is no folder"),
        errno => UnpackError::Write { path: path.clone(), source: errno.into() },
    };
    // A symbolic link has no mode, and some archives then leave the field empty.
    let mode = entry.header().mode().map(|mode| Mode::from_bits_truncate(mode & 0o777)).map_err(UnpackError::Read);
    let components = components(&path).map_err(refused)?;
    let kind = match entry.header().entry_type() {
        // Old archives mark a folder by the slash alone.
        EntryType::Regular if path.as_os_str().as_bytes().ends_with(b"/") => EntryType::Directory,
        kind => kind,
    };
    let Some((leaf, parents)) = components.split_last() else {
        return if kind == EntryType::Directory { Ok(()) } else { Err(refused("has no name")) };
    };
    let folder = enter(root, parents).map_err(unwritten)?;
    match kind {
        EntryType::Directory => {
            let made = enter(&folder, &[leaf]).map_err(unwritten)?;
            fchmod(&made, mode? | Mode::S_IRWXU).map_err(unwritten)
        }
        EntryType::Regular => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = openat(&folder, *leaf, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(unwritten)?;
            fchmod(&file, mode?).map_err(unwritten)?;
            let mut file = fs::File::from(file);
            let written = io::copy(entry, &mut file).map_err(|source| UnpackError::Write { path: path.clone(), source })?;
            if written == entry.size() { Ok(()) } else { Err(refused("is cut short")) }
        }
        EntryType::Symlink => {
            let target = extended.target.or_else(|| entry.header().link_name_bytes().map(|name| name.into_owned()));
            let target = target.filter(|target| !target.is_empty()).ok_or_else(|| refused("is a link to nothing"))?;
            symlinkat(OsStr::from_bytes(&target), &folder, *leaf).map_err(unwritten)
        }
        EntryType::Link => Err(refused("is a hard link")),
        EntryType::Block | EntryType::Char | EntryType::Fifo => Err(refused("is a device or a pipe")),
        EntryType::GNUSparse => Err(refused("is a sparse file")),
        _ => Err(refused("is of an unknown type")),
    }
}

/// Opens a folder below another, making what is missing, through no symbolic link.
fn enter(from: &OwnedFd, names: &[&OsStr]) -> Result<OwnedFd, Errno> {
    let mut folder = from.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
    for name in names {
        match mkdirat(&folder, *name, Mode::S_IRWXU | Mode::from_bits_truncate(0o055)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        folder = openat(&folder, *name, flags, Mode::empty())?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests;
