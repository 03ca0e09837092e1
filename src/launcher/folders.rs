//! The folders of sandboxes, and their uids.
//!
//! `<root>/<id>/` holds `workspace`, `home` and `spool`, all 0700 and owned by a uid of the
//! reserved range that no other sandbox has. The owners of the folders *are* the registry of
//! uids: a number is taken as long as a folder has it, also across restarts. A folder is made
//! under another name and renamed when it is whole, and renamed again before it is removed: what
//! is half there is never taken for a sandbox, whenever the host loses its power.
//!
//! Where the file system has quotas by project, workspace and HOME are held to the limit of the disk
//! ([`quota`]). A folder that was made before it had some is left without: its files would have to
//! be walked through, and named one by one, and what is not of one project can not be moved from one
//! folder into another.
//!
//! The root itself may lie below a folder of somebody less trusted (`/var/lib/ash` belongs to
//! `ash`), who could put a link in its place. So it is opened once without following, has to be
//! ours alone, and everything is done relative to that open folder.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, fchownat, geteuid};

use super::quota::{self, QuotaError};
use super::tree;
use crate::report;
use crate::wire::SandboxId;
use crate::wire::quantity::ByteCount;

/// What a sandbox's folder holds.
const PARTS: [&str; 3] = ["workspace", "home", "spool"];
/// Those of it that are held to the limit of the disk.
const HELD: [&str; 2] = ["workspace", "home"];
/// Begins the name of a folder that is not whole yet. No id begins like that.
const UNFINISHED: &str = ".new-";
/// Begins the name of one that is not whole any more.
const LEAVING: &str = ".old-";

/// Why the folders can not be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A call failed.
    #[error("{step} {path}")]
    Call {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: Errno,
    },
    /// Somebody else could change the folder that all sandboxes lie in.
    #[error("{0} does not belong to this user alone: its owner must be uid {uid} and its mode 0711", uid = geteuid())]
    Untrusted(PathBuf),
    /// What lies in the place of a sandbox's folder was not made here.
    #[error("{0} is not the folder of a sandbox")]
    Foreign(PathBuf),
    /// What it may take of the disk could not be set.
    #[error("hold {path} to its limit")]
    Quota {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: QuotaError,
    },
    /// Every uid of the range has a folder.
    #[error("all {0} uids for sandboxes are in use")]
    Full(usize),
}

/// A folder that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folder {
    /// The uid (and gid) of the sandbox.
    pub uid: u32,
    /// Whether this call made it.
    pub fresh: bool,
}

/// All folders of sandboxes.
#[derive(Debug)]
pub struct Folders {
    path: PathBuf,
    root: OwnedFd,
    range: Range<u32>,
    /// Whether the file system holds projects to limits.
    has_quotas: bool,
    uids: Mutex<Uids>,
}

/// Numbers that are taken. Kept in memory beside the folders only to save reading all of them at
/// each start.
#[derive(Debug, Default)]
struct Uids {
    taken: BTreeSet<u32>,
}

impl Uids {
    /// Takes the least that is free. Numbers are used again soon on purpose: journald keeps a file
    /// of 8 MiB for each uid that ever logged (`SplitMode=`, journald.conf(5)).
    fn take(&mut self, range: &Range<u32>) -> Option<u32> {
        let uid = range.clone().find(|uid| !self.taken.contains(uid))?;
        self.taken.insert(uid);
        Some(uid)
    }
}

impl Folders {
    /// Opens the root, making it if it is missing, and removes folders that were not finished, or
    /// whose removal was not.
    ///
    /// # Errors
    ///
    /// [`FolderError::Untrusted`] when somebody else could change it, [`FolderError::Call`].
    pub fn open(path: &Path, range: Range<u32>) -> Result<Self, FolderError> {
        let root = open_trusted(path)?;
        let has_quotas = quota::is_enforced(&root, range.start);
        let folders = Self { path: path.to_owned(), root, range, has_quotas, uids: Mutex::default() };
        for name in folders.names()? {
            if name.starts_with(UNFINISHED) || name.starts_with(LEAVING) {
                folders.remove_entry(&name)?;
            }
        }
        folders.read_uids(&mut folders.uids())?;
        Ok(folders)
    }

    /// Whether the file system holds sandboxes to the limit of their disk.
    pub const fn has_quotas(&self) -> bool {
        self.has_quotas
    }

    /// Whether it does so with this sandbox, or will when its folder is made.
    ///
    /// # Errors
    ///
    /// [`FolderError::Call`].
    pub fn is_held(&self, sandbox: SandboxId) -> Result<bool, FolderError> {
        Ok(self.has_quotas && self.find(&sandbox.to_string())?.is_none_or(|uid| self.is_project(sandbox, uid)))
    }

    /// Holds the folder of a sandbox to another limit; one that no quota holds stays as it is.
    ///
    /// # Errors
    ///
    /// [`FolderError::Call`], [`FolderError::Quota`].
    pub fn hold(&self, sandbox: SandboxId, disk: ByteCount) -> Result<(), FolderError> {
        let name = sandbox.to_string();
        match self.find(&name)? {
            Some(uid) if self.has_quotas && self.is_project(sandbox, uid) => {
                quota::hold(&self.root, uid, disk).map_err(|source| FolderError::Quota { path: self.path.join(name), source })
            }
            _ => Ok(()),
        }
    }

    /// Whether all that is held belongs to the sandbox's project.
    fn is_project(&self, sandbox: SandboxId, uid: u32) -> bool {
        let belongs = |folder: &OwnedFd, part: &str| quota::belongs(tree::open_folder(folder.as_fd(), part)?, uid);
        let folder = tree::open_folder(self.root.as_fd(), &sandbox.to_string());
        folder.is_ok_and(|folder| HELD.iter().all(|part| belongs(&folder, part).unwrap_or(false)))
    }

    /// The uid of a folder, if there is one.
    fn find(&self, name: &str) -> Result<Option<u32>, FolderError> {
        match fstatat(&self.root, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => self.owner(&stat).map(Some).ok_or_else(|| FolderError::Foreign(self.path.join(name))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(self.call("examine", name)(error)),
        }
    }

    /// Finds the folder of a sandbox, or makes it, and holds it to the limit of its disk, where the file
    /// system can.
    ///
    /// # Errors
    ///
    /// See [`FolderError`]. A folder that could not be made whole is removed again.
    pub fn ensure(&self, sandbox: SandboxId, disk: ByteCount) -> Result<Folder, FolderError> {
        let name = sandbox.to_string();
        match self.find(&name)? {
            Some(uid) => {
                self.hold(sandbox, disk)?;
                Ok(Folder { uid, fresh: false })
            }
            None => {
                let uid = self.take_uid()?;
                let made = self.make(&name, uid, disk);
                if made.is_err() {
                    self.release(uid);
                    self.uids().taken.remove(&uid);
                }
                made.map(|()| Folder { uid, fresh: true })
            }
        }
    }

    fn make(&self, name: &str, uid: u32, disk: ByteCount) -> Result<(), FolderError> {
        let unfinished = format!("{UNFINISHED}{name}");
        let held = if self.has_quotas { quota::hold(&self.root, uid, disk) } else { Ok(()) };
        held.map_err(|source| FolderError::Quota { path: self.path.join(name), source })?;
        let steps = || -> nix::Result<()> {
            tree::remove(self.root.as_fd(), &unfinished)?;
            mkdirat(&self.root, unfinished.as_str(), Mode::S_IRWXU)?;
            let folder = tree::open_folder(self.root.as_fd(), &unfinished)?;
            let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(self.group(uid))));
            for part in PARTS {
                mkdirat(&folder, part, Mode::S_IRWXU)?;
                if self.has_quotas && HELD.contains(&part) {
                    quota::assign(tree::open_folder(folder.as_fd(), part)?, uid)?;
                }
                fchownat(&folder, part, owner, group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            fchown(&folder, owner, group)?;
            renameat(&self.root, unfinished.as_str(), &self.root, name)
        };
        steps().map_err(|error| {
            if let Err(error) = tree::remove(self.root.as_fd(), &unfinished) {
                tracing::warn!(folder = unfinished, error = %error, "unfinished folder can not be removed, ignoring");
            }
            self.call("make", name)(error)
        })
    }

    /// The group with the number of the uid; nobody else is in it.
    fn group(&self, uid: u32) -> u32 {
        // Tests without privileges give themselves as the range, and may have another group.
        if Uid::from_raw(uid) == geteuid() { nix::unistd::getegid().as_raw() } else { uid }
    }

    /// Removes the folder of a sandbox and frees its uid. May take long: to be called where that
    /// is no harm. No folder is no error.
    ///
    /// # Errors
    ///
    /// [`FolderError::Call`]; what is left can be removed by a later call.
    pub fn remove(&self, sandbox: SandboxId) -> Result<(), FolderError> {
        let (name, leaving) = (sandbox.to_string(), format!("{LEAVING}{sandbox}"));
        // That of an earlier call that failed.
        self.remove_entry(&leaving)?;
        match renameat(&self.root, name.as_str(), &self.root, leaving.as_str()) {
            Ok(()) => self.remove_entry(&leaving),
            Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(self.call("rename", &name)(error)),
        }
    }

    fn remove_entry(&self, name: &str) -> Result<(), FolderError> {
        let owner = match fstatat(&self.root, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => self.owner(&stat),
            Err(Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(self.call("examine", name)(error)),
        };
        tree::remove(self.root.as_fd(), name).map_err(self.call("remove", name))?;
        if let Some(uid) = owner {
            self.release(uid);
            self.uids().taken.remove(&uid);
        }
        Ok(())
    }

    /// Forgets the limits of a project that has no files any more. What stays is replaced when the number is
    /// used again.
    fn release(&self, uid: u32) {
        if self.has_quotas
            && let Err(error) = quota::release(&self.root, uid)
        {
            tracing::warn!(uid, error = report::chain(&error), "the quota of a sandbox that is gone stays, ignoring");
        }
    }

    /// Every sandbox that has a folder.
    ///
    /// # Errors
    ///
    /// [`FolderError::Call`].
    pub fn list(&self) -> Result<Vec<SandboxId>, FolderError> {
        Ok(self.names()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn take_uid(&self) -> Result<u32, FolderError> {
        let mut uids = self.uids();
        if let Some(uid) = uids.take(&self.range) {
            return Ok(uid);
        }
        // An administrator may have removed folders by hand.
        self.read_uids(&mut uids)?;
        uids.take(&self.range).ok_or(FolderError::Full(self.range.len()))
    }

    fn read_uids(&self, uids: &mut Uids) -> Result<(), FolderError> {
        uids.taken.clear();
        for name in self.names()? {
            match fstatat(&self.root, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                // Whatever it is: a number that owns something here is not given to another.
                Ok(stat) => uids.taken.insert(stat.st_uid),
                Err(Errno::ENOENT) => continue,
                Err(error) => return Err(self.call("examine", &name)(error)),
            };
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, FolderError> {
        let read = || -> nix::Result<Vec<String>> {
            let mut dir = Dir::openat(&self.root, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            let mut names = Vec::new();
            for entry in dir.iter() {
                // All that is made here has an ASCII name.
                if let Ok(name) = entry?.file_name().to_str() {
                    names.push(name.to_owned());
                }
            }
            names.retain(|name| name != "." && name != "..");
            Ok(names)
        };
        read().map_err(self.call("read", "."))
    }

    /// The uid of a sandbox's folder, if it is one.
    fn owner(&self, stat: &FileStat) -> Option<u32> {
        (is_folder(stat) && self.range.contains(&stat.st_uid)).then_some(stat.st_uid)
    }

    fn uids(&self) -> std::sync::MutexGuard<'_, Uids> {
        self.uids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, step: &'static str, name: &str) -> impl FnOnce(Errno) -> FolderError {
        let path = if name == "." { self.path.clone() } else { self.path.join(name) };
        move |source| FolderError::Call { step, path, source }
    }
}

fn is_folder(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

/// Opens a folder that nobody but this user can change, making it with mode 0711 if it is
/// missing. Its last part is not followed when it is a link.
///
/// # Errors
///
/// [`FolderError::Untrusted`], [`FolderError::Call`].
pub fn open_trusted(path: &Path) -> Result<OwnedFd, FolderError> {
    let call = |step| move |source| FolderError::Call { step, path: path.to_owned(), source };
    match nix::unistd::mkdir(path, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => (),
        Err(error) => return Err(call("make")(error)),
    }
    let folder = tree::open_path(path).map_err(call("open"))?;
    let stat = fstat(&folder).map_err(call("examine"))?;
    if stat.st_uid != geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
        return Err(FolderError::Untrusted(path.to_owned()));
    }
    // Each sandbox finds its own folder by its id, and none can list the others.
    nix::sys::stat::fchmod(&folder, Mode::from_bits_truncate(0o711)).map_err(call("change the mode of"))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    const DISK: ByteCount = ByteCount(1 << 30);

    /// Without privileges files can be given to oneself only.
    fn own_range() -> Range<u32> {
        let uid = geteuid().as_raw();
        uid..uid + 1
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("is there").permissions().mode() & 0o7777
    }

    #[test]
    fn a_folder_is_whole_private_and_found_again() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let root = dir.path().join("sandboxes");
        let folders = Folders::open(&root, own_range()).expect("opens");
        assert_eq!(mode(&root), 0o711);
        let sandbox = SandboxId::new();
        let uid = geteuid().as_raw();
        assert_eq!(folders.ensure(sandbox, DISK).expect("makes"), Folder { uid, fresh: true });
        let folder = root.join(sandbox.to_string());
        for path in [folder.clone(), folder.join("workspace"), folder.join("home"), folder.join("spool")] {
            assert_eq!(mode(&path), 0o700, "{}", path.display());
            assert_eq!(fs::metadata(&path).expect("is there").uid(), uid);
        }
        assert_eq!(folders.ensure(sandbox, DISK).expect("finds"), Folder { uid, fresh: false });
        assert_eq!(folders.list().expect("lists"), [sandbox]);

        // The only uid of the range is taken, also after a restart.
        assert!(matches!(folders.ensure(SandboxId::new(), DISK), Err(FolderError::Full(1))));
        let again = Folders::open(&root, own_range()).expect("opens");
        assert!(matches!(again.ensure(SandboxId::new(), DISK), Err(FolderError::Full(1))));
        again.remove(sandbox).expect("removes");
        again.remove(sandbox).expect("is gone already");
        assert!(again.list().expect("lists").is_empty());
        assert!(again.ensure(SandboxId::new(), DISK).expect("is free again").fresh);
    }

    #[test]
    fn uids_are_used_again_and_never_shared() {
        let mut uids = Uids::default();
        assert_eq!([uids.take(&(10..13)), uids.take(&(10..13))], [Some(10), Some(11)]);
        uids.taken.remove(&10);
        assert_eq!(uids.take(&(10..13)), Some(10));
        assert_eq!(uids.take(&(10..13)), Some(12));
        assert_eq!(uids.take(&(10..13)), None);
    }

    #[test]
    fn what_a_crash_left_is_removed_and_strangers_are_refused() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let root = dir.path().join("sandboxes");
        let sandbox = SandboxId::new();
        drop(Folders::open(&root, own_range()).expect("opens"));
        for half in [".new-", ".old-"] {
            fs::create_dir_all(root.join(format!("{half}{sandbox}/workspace"))).expect("makes");
        }
        let folders = Folders::open(&root, own_range()).expect("opens");
        assert_eq!(fs::read_dir(&root).expect("reads").count(), 0);

        // A removal that failed is taken up by the next one, and its uid is free then.
        folders.ensure(sandbox, DISK).expect("makes");
        fs::rename(root.join(sandbox.to_string()), root.join(format!(".old-{sandbox}"))).expect("renames");
        assert_eq!(folders.list().expect("lists"), [], "half of a folder is none");
        assert!(matches!(folders.ensure(sandbox, DISK), Err(FolderError::Full(1))));
        folders.remove(sandbox).expect("removes");
        assert!(folders.ensure(sandbox, DISK).expect("makes").fresh);
        folders.remove(sandbox).expect("removes");
        assert_eq!(fs::read_dir(&root).expect("reads").count(), 0);

        symlink(dir.path(), root.join(sandbox.to_string())).expect("links");
        assert!(matches!(folders.ensure(sandbox, DISK), Err(FolderError::Foreign(_))));
        folders.remove(sandbox).expect("removes the link");
        assert!(dir.path().exists());
    }

    #[test]
    fn a_root_that_others_can_change_is_refused() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let open = dir.path().join("open");
        fs::create_dir(&open).expect("makes");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("sets");
        assert!(matches!(open_trusted(&open), Err(FolderError::Untrusted(_))));

        let link = dir.path().join("link");
        symlink(dir.path(), &link).expect("links");
        assert!(matches!(open_trusted(&link), Err(FolderError::Call { step: "open", .. })));
    }
}
