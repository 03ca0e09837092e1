//! Removes a folder whose content is hostile.
//!
//! Root removes what the processes of a sandbox made, so this never follows a link: each step is
//! relative to an open folder (openat(2) with `O_NOFOLLOW`, unlinkat(2)), and no path is resolved
//! from the top. [`std::fs::remove_dir_all`] does that too, but it recurses with one descriptor
//! for each level, and somebody inside can nest folders deeper than there are descriptors or
//! stack. Here depth is bounded: a folder found below [`DEPTH_MAX`] levels is moved up to the top
//! and comes again later.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::{Dir, OwningIter, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Levels that are open at a time; each holds two descriptors.
const DEPTH_MAX: usize = 32;

const OPEN_FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Opens a folder below another, refusing a link in its place.
pub fn open_folder(parent: BorrowedFd<'_>, name: &str) -> nix::Result<OwnedFd> {
    openat(parent, name, OPEN_FOLDER, Mode::empty())
}

/// Opens a folder by its path, refusing a link as its last part.
pub fn open_path(path: &std::path::Path) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, OPEN_FOLDER, Mode::empty())
}

/// Removes a name with all that is below it. Nothing there is no error.
///
/// # Errors
///
/// The first that a call reports, such as `EBUSY` for a mount point. What was removed stays so,
/// and the call may be repeated.
pub fn remove(parent: BorrowedFd<'_>, name: &str) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR) => (),
        Err(error) => return Err(error),
    }
    empty(open_folder(parent, name)?)?;
    unlinkat(parent, name, UnlinkatFlags::RemoveDir)
}

/// A folder that is being emptied.
struct Level {
    /// In its parent. Unused for the top.
    name: CString,
    folder: OwnedFd,
    entries: OwningIter,
    /// Whether this pass over the folder found anything. POSIX leaves open what readdir(3) says
    /// about a folder that changes, so only a pass that finds nothing proves that it is empty.
    found: bool,
}

impl Level {
    fn enter(name: CString, folder: OwnedFd) -> nix::Result<Self> {
        let entries = read(&folder)?;
        Ok(Self { name, folder, entries, found: false })
    }
}

/// Reads a folder from its beginning, with a descriptor and so a position of its own.
fn read(folder: &OwnedFd) -> nix::Result<OwningIter> {
    Ok(Dir::openat(folder, ".", OPEN_FOLDER, Mode::empty())?.into_iter())
}

fn empty(top: OwnedFd) -> nix::Result<()> {
    let top_folder = top.try_clone().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    let mut levels = vec![Level::enter(CString::default(), top)?];
    let mut moved: u64 = 0;
    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { return Ok(()) };
        let Some(entry) = level.entries.next() else {
            if level.found {
                level.entries = read(&level.folder)?;
                level.found = false;
                continue;
            }
            // Empty. Its parent is the level below, unless this is the top.
            if let Some(done) = levels.pop()
                && let Some(parent) = levels.last()
            {
                unlinkat(&parent.folder, done.name.as_c_str(), UnlinkatFlags::RemoveDir)?;
            }
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        level.found = true;
        // The type is a hint only: not all file systems tell it, and it may have changed.
        if entry.file_type() != Some(Type::Directory) {
            match unlinkat(&level.folder, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => continue,
                Err(Errno::EISDIR) => (),
                Err(error) => return Err(error),
            }
        }
        let name = name.to_owned();
        if depth >= DEPTH_MAX {
            move_up(level.folder.as_fd(), &name, top_folder.as_fd(), &mut moved)?;
            continue;
        }
        match openat(&level.folder, name.as_c_str(), OPEN_FOLDER, Mode::empty()) {
            Ok(folder) => levels.push(Level::enter(name, folder)?),
            // Gone, or no folder any more: the next pass sees.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => (),
            Err(error) => return Err(error),
        }
    }
}

/// Moves a folder to the top under a name that is free there.
fn move_up(parent: BorrowedFd<'_>, name: &CString, top: BorrowedFd<'_>, moved: &mut u64) -> nix::Result<()> {
    loop {
        *moved += 1;
        match renameat2(parent, name.as_c_str(), top, format!("deep-{moved}").as_str(), RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EEXIST) => (),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn remove_in(parent: &Path, name: &str) -> nix::Result<()> {
        remove(open_path(parent).expect("opens").as_fd(), name)
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).expect("makes");
        fs::write(outside.join("precious"), "x").expect("writes");
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).expect("makes");
        symlink(&outside, tree.join("a/b/folder")).expect("links");
        symlink(outside.join("precious"), tree.join("file")).expect("links");
        symlink("nowhere", tree.join("dangling")).expect("links");
        fs::hard_link(outside.join("precious"), tree.join("hard")).expect("links");
        nix::unistd::mkfifo(&tree.join("fifo"), Mode::S_IRWXU).expect("makes");
        drop(std::os::unix::net::UnixListener::bind(tree.join("socket")).expect("binds"));

        remove_in(dir.path(), "tree").expect("removes");
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(outside.join("precious")).expect("is there"), "x");
        remove_in(dir.path(), "tree").expect("is gone already");

        symlink(&outside, &tree).expect("links");
        remove_in(dir.path(), "tree").expect("removes the link");
        assert!(fs::symlink_metadata(&tree).is_err());
        assert!(outside.join("precious").exists());
    }

    #[test]
    fn a_tree_deeper_than_path_max_is_removed() {
        // More levels than a process usually has descriptors (1024), and with its names of four
        // bytes and their slashes a path longer than PATH_MAX (4096).
        const DEPTH: usize = 1100;
        let dir = tempfile::tempdir().expect("makes a folder");
        let top = dir.path().join("tree");
        fs::create_dir(&top).expect("makes");
        // A name that the removal would like to use is taken, by a file and by a folder.
        fs::write(top.join("deep-1"), "").expect("writes");
        fs::create_dir_all(top.join("deep-2/x")).expect("makes");
        let mut at = open_path(&top).expect("opens");
        for _ in 0..DEPTH {
            nix::sys::stat::mkdirat(&at, "down", Mode::S_IRWXU).expect("makes");
            at = open_folder(at.as_fd(), "down").expect("opens");
        }
        drop(at);
        remove_in(dir.path(), "tree").expect("removes");
        assert!(!top.exists());
    }

    #[test]
    fn many_entries_are_removed() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let top = dir.path().join("tree");
        for folder in 0..20 {
            let folder = top.join(folder.to_string());
            fs::create_dir_all(&folder).expect("makes");
            for file in 0..200 {
                fs::write(folder.join(file.to_string()), "").expect("writes");
            }
        }
        remove_in(dir.path(), "tree").expect("removes");
        assert!(!top.exists());
    }
}
