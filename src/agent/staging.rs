//! A version that is being written: checked entry by entry, named, synced.

use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::digest::{Digest, Node, Tree};
use super::entry::{EntryFault, clean_target, show};
use super::error::ContentError;
use super::manifest;
use super::versions::ContentLimits;

/// The prompt, which every version has.
pub(super) const PROMPT: &str = "CLAUDE.md";
/// Bytes that are copied at a time.
const CHUNK: usize = 64 << 10;
/// Entries up to which each is synced by itself. Above, one call for the whole file system is
/// quicker, though it waits for what others wrote too.
const SYNC_EACH_MAX: usize = 256;

/// Gives bytes to a buffer, like [`Read::read`], with an error that says whose fault it is.
pub(super) type Source<'a> = dyn FnMut(&mut [u8]) -> Result<usize, ContentError> + 'a;

/// A folder which becomes a version, or is removed when dropped.
#[derive(Debug)]
pub(super) struct Staging {
    root: PathBuf,
    tree: Tree,
    limits: ContentLimits,
    bytes: u64,
}

impl Staging {
    /// Makes a fresh folder in `parent`.
    pub(super) fn new(parent: &Path, limits: ContentLimits) -> Result<Self, ContentError> {
        let root = parent.join(Uuid::now_v7().simple().to_string());
        fs::create_dir(&root).map_err(ContentError::host("make", &root))?;
        Ok(Self { root, tree: Tree::default(), limits, bytes: 0 })
    }

    /// A folder at a clean path; there may be one already.
    pub(super) fn folder(&mut self, path: &str) -> Result<(), ContentError> {
        if path.is_empty() || self.tree.get(path) == Some(&Node::Folder) {
            return Ok(());
        }
        self.make_room(path)?;
        self.make_folder(path.to_owned())
    }

    /// A file at a clean path. `size` is what is known of its size before it is read; at most what
    /// the version may still hold is written, whatever the source gives.
    pub(super) fn file(&mut self, path: &str, executable: bool, size: u64, source: &mut Source<'_>) -> Result<(), ContentError> {
        self.make_room(path)?;
        self.check_size(path, size)?;
        let at = self.root.join(path);
        let failed = |source| ContentError::Host { step: "write", path: at.clone(), source };
        let mode = if executable { 0o755 } else { 0o644 };
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&at).map_err(failed)?;
        let (mut sum, mut written) = (Sha256::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = source(&mut chunk)?;
            if count == 0 {
                break;
            }
            written += count as u64;
            self.check_size(path, written)?;
            sum.update(&chunk[..count]);
            file.write_all(&chunk[..count]).map_err(failed)?;
        }
        self.bytes += written;
        self.tree.put(path.to_owned(), Node::File { executable, size: written, sha256: sum.finalize().into() });
        Ok(())
    }

    /// A symbolic link at a clean path. It is made at the end only.
    pub(super) fn link(&mut self, path: &str, target: &[u8]) -> Result<(), ContentError> {
        let target = clean_target(path, target).map_err(|fault| ContentError::entry(path, fault))?;
        self.make_room(path)?;
        self.tree.put(path.to_owned(), Node::Link { target });
        Ok(())
    }

    /// A copy of a file that is already here, which is what becomes of a hard link: in a version
    /// that never changes, the two can not be told apart.
    pub(super) fn copy(&mut self, path: &str, from: &str) -> Result<(), ContentError> {
        let Some(&Node::File { executable, size, .. }) = self.tree.get(from) else {
            return Err(ContentError::entry(path, EntryFault::HardLink { target: show(from.as_bytes()) }));
        };
        let at = self.root.join(from);
        let mut file = fs::File::open(&at).map_err(ContentError::host("read", &at))?;
        self.file(path, executable, size, &mut |chunk| file.read(chunk).map_err(ContentError::host("read", &at)))
    }

    /// Whether something is at a clean path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.tree.get(path).is_some()
    }

    /// Whether one more entry, beside those counted already, is one too many.
    pub(super) fn room_for(&self, more: usize) -> Result<(), ContentError> {
        if self.tree.len() + more > self.limits.max_files as usize {
            return Err(ContentError::TooMany { max: self.limits.max_files });
        }
        Ok(())
    }

    /// Checks the whole, makes the links and brings everything to the disk.
    pub(super) fn seal(&self) -> Result<Digest, ContentError> {
        if !matches!(self.tree.resolve(PROMPT), Some((_, Node::File { .. }))) {
            return Err(ContentError::NoPrompt);
        }
        manifest::check(&self.tree, &self.root)?;
        for (path, node) in self.tree.iter() {
            if let Node::Link { target } = node {
                let at = self.root.join(path);
                std::os::unix::fs::symlink(target, &at).map_err(ContentError::host("make", &at))?;
            }
        }
        self.sync()?;
        Ok(self.tree.digest())
    }

    /// Moves the sealed folder to its place. Finding a version of that name there is as good.
    pub(super) fn publish(self, to: &Path) -> Result<(), ContentError> {
        match fs::rename(&self.root, to) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(ContentError::host("make", to)(error)),
        }
        // Also where another deploy renamed: its sync may not have come yet.
        let parent = to.parent().unwrap_or(to);
        sync_path(parent)
    }

    fn make_folder(&mut self, path: String) -> Result<(), ContentError> {
        let at = self.root.join(&path);
        fs::create_dir(&at).map_err(ContentError::host("make", &at))?;
        self.tree.put(path, Node::Folder);
        Ok(())
    }

    /// Makes sure that `path` is free, may be used, and has folders above it.
    fn make_room(&mut self, path: &str) -> Result<(), ContentError> {
        if self.has(path) {
            return Err(ContentError::entry(path, EntryFault::Duplicate));
        }
        let parents = self.tree.missing_parents(path).map_err(|fault| ContentError::entry(path, fault))?;
        self.room_for(parents.len() + 1)?;
        parents.into_iter().try_for_each(|parent| self.make_folder(parent))
    }

    fn check_size(&self, path: &str, size: u64) -> Result<(), ContentError> {
        let max = self.limits.max_bytes;
        if size > max.0 {
            return Err(ContentError::FileTooLarge { path: show(path.as_bytes()), size, max });
        }
        if size > max.0 - self.bytes {
            return Err(ContentError::TooLarge { path: show(path.as_bytes()), max });
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), ContentError> {
        if self.tree.len() > SYNC_EACH_MAX {
            let folder = fs::File::open(&self.root).map_err(ContentError::host("sync", &self.root))?;
            return nix::unistd::syncfs(&folder).map_err(|errno| ContentError::host("sync", &self.root)(errno.into()));
        }
        for (path, node) in self.tree.iter() {
            if !matches!(node, Node::Link { .. }) {
                sync_path(&self.root.join(path))?;
            }
        }
        sync_path(&self.root)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.root.display(), %error, "staging folder is not removed, leaving it to the next start");
            }
            _ => {}
        }
    }
}

fn sync_path(path: &Path) -> Result<(), ContentError> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(ContentError::host("sync", path))
}
