//! Reads a version: lists it, opens files, packs it for a sandbox.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use sha2::{Digest as _, Sha256};

use super::digest::{Digest, Node, Tree};
use super::entry::{EntryFault, clean_file_path, show};
use super::error::ContentError;
use super::staging::Staging;
use crate::wire::Timestamp;

/// Owner and group of all entries: those of the agent's processes inside a sandbox.
const OWNER: u64 = 1000;
/// Time of all entries: 2000-01-01T00:00:00Z. Tools that pack files refuse times before 1980.
const TIME: u64 = 946_684_800;

/// A file that is put into a packed version, over what it has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlay<'a> {
    /// Relative to the folder.
    pub path: &'a str,
    /// The content.
    pub content: &'a [u8],
}

/// A file of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Relative to the folder.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// When it came to this host first.
    pub modified: Timestamp,
}

/// What is at a path of a version.
enum Item<'a> {
    Folder,
    File(fs::Metadata),
    Link(PathBuf),
    Overlay(&'a [u8]),
}

type Items<'a> = BTreeMap<String, Item<'a>>;

pub(super) fn list(root: &Path) -> Result<Vec<FileInfo>, ContentError> {
    let mut files = Vec::new();
    for (path, item) in scan(root)? {
        if let Item::File(metadata) = item {
            let modified =
                metadata.modified().map(Timestamp::from_system).map_err(ContentError::host("read", root.join(&path)))?;
            files.push(FileInfo { path, size: metadata.len(), modified });
        }
    }
    Ok(files)
}

pub(super) fn open(root: &Path, raw: &str) -> Result<Option<(fs::File, u64)>, ContentError> {
    let refuse = |fault| ContentError::entry(raw, fault);
    let path = clean_file_path(raw.as_bytes()).map_err(refuse)?;
    let failed = |error: io::Error| ContentError::Host { step: "read", path: root.join(&path), source: error };
    let mut at = fs::File::open(root).map_err(failed)?;
    for component in path.split('/') {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        at = match openat(&at, component, flags, Mode::empty()) {
            Ok(next) => fs::File::from(next),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(Errno::ELOOP) => return Err(refuse(EntryFault::NotAFile)),
            Err(errno) => return Err(failed(errno.into())),
        };
    }
    let metadata = at.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(refuse(EntryFault::NotAFile));
    }
    Ok(Some((at, metadata.len())))
}

/// Puts the entries of a version into a staging folder, but for those named.
pub(super) fn copy(root: &Path, staging: &mut Staging, but: &[&str]) -> Result<(), ContentError> {
    for (path, item) in scan(root)?.into_iter().filter(|(path, _)| !but.contains(&path.as_str())) {
        match item {
            Item::Folder => staging.folder(&path)?,
            Item::Link(target) => staging.link(&path, target.as_os_str().as_bytes())?,
            Item::File(metadata) => {
                let at = root.join(&path);
                let mut file = fs::File::open(&at).map_err(ContentError::host("read", &at))?;
                staging.file(&path, executable(&metadata), metadata.len(), &mut |chunk| {
                    file.read(chunk).map_err(ContentError::host("read", &at))
                })?;
            }
            Item::Overlay(_) => {}
        }
    }
    Ok(())
}

pub(super) fn digest(root: &Path) -> Result<Digest, ContentError> {
    let mut tree = Tree::default();
    for (path, item) in scan(root)? {
        let node = match item {
            Item::Folder => Node::Folder,
            Item::Link(target) => Node::Link { target: target.to_string_lossy().into_owned() },
            Item::File(metadata) => {
                let at = root.join(&path);
                let (size, sha256) = fs::File::open(&at).and_then(sum).map_err(ContentError::host("read", &at))?;
                Node::File { executable: executable(&metadata), size, sha256 }
            }
            Item::Overlay(_) => continue,
        };
        tree.put(path, node);
    }
    Ok(tree.digest())
}

pub(super) fn write_tar(root: &Path, writer: impl Write, overlays: &[Overlay<'_>]) -> Result<(), ContentError> {
    let mut items = scan(root)?;
    for overlay in overlays {
        lay_over(&mut items, overlay)?;
    }
    let mut builder = tar::Builder::new(writer);
    for (path, item) in &items {
        let mut header = tar::Header::new_gnu();
        header.set_uid(OWNER);
        header.set_gid(OWNER);
        header.set_mtime(TIME);
        header.set_size(0);
        match item {
            Item::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                builder.append_data(&mut header, path, io::empty())
            }
            Item::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                builder.append_link(&mut header, path, target)
            }
            Item::Overlay(content) => {
                header.set_mode(0o644);
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, *content)
            }
            Item::File(metadata) => {
                let at = root.join(path);
                let file = fs::File::open(&at).map_err(ContentError::host("read", &at))?;
                header.set_mode(if executable(metadata) { 0o755 } else { 0o644 });
                header.set_size(metadata.len());
                builder.append_data(&mut header, path, Exactly { file, left: metadata.len() })
            }
        }
        .map_err(ContentError::Output)?;
    }
    builder.into_inner().and_then(|mut writer| writer.flush()).map_err(ContentError::Output)
}

/// Puts a file over what a version has at its path, and the folders above it that it has not.
fn lay_over<'a>(items: &mut Items<'a>, overlay: &Overlay<'a>) -> Result<(), ContentError> {
    let path = clean_file_path(overlay.path.as_bytes()).map_err(|fault| ContentError::entry(overlay.path, fault))?;
    let in_the_way =
        |obstacle: &str| ContentError::Overlay { path: show(overlay.path.as_bytes()), obstacle: show(obstacle.as_bytes()) };
    for (slash, _) in path.match_indices('/') {
        let parent = &path[..slash];
        if !matches!(items.entry(parent.to_owned()).or_insert(Item::Folder), Item::Folder) {
            return Err(in_the_way(parent));
        }
    }
    if matches!(items.get(&path), Some(Item::Folder)) {
        return Err(in_the_way(&path));
    }
    items.insert(path, Item::Overlay(overlay.content));
    Ok(())
}

/// All entries of a version by path.
fn scan<'a>(root: &Path) -> Result<Items<'a>, ContentError> {
    let mut items = Items::new();
    let mut ahead = vec![String::new()];
    while let Some(folder) = ahead.pop() {
        let at = root.join(&folder);
        for entry in fs::read_dir(&at).map_err(ContentError::host("read", &at))? {
            let entry = entry.map_err(ContentError::host("read", &at))?;
            let name = entry.file_name();
            let path = if folder.is_empty() {
                name.to_string_lossy().into_owned()
            } else {
                format!("{folder}/{}", name.to_string_lossy())
            };
            let metadata = entry.metadata().map_err(ContentError::host("read", entry.path()))?;
            let item = if metadata.is_dir() {
                ahead.push(path.clone());
                Item::Folder
            } else if metadata.is_symlink() {
                Item::Link(fs::read_link(entry.path()).map_err(ContentError::host("read", entry.path()))?)
            } else {
                Item::File(metadata)
            };
            items.insert(path, item);
        }
    }
    Ok(items)
}

/// Size and SHA-256 of a file.
fn sum(mut file: fs::File) -> io::Result<(u64, [u8; 32])> {
    let (mut sum, mut size, mut chunk) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok((size, sum.finalize().into()));
        }
        size += count as u64;
        sum.update(&chunk[..count]);
    }
}

fn executable(metadata: &fs::Metadata) -> bool {
    metadata.permissions().mode() & 0o100 != 0
}

/// Reads as many bytes as a header promised; fewer in the file are an error, as what follows in
/// the archive would be taken for its content.
struct Exactly {
    file: fs::File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read(&mut buffer[..want])?;
        if count == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}
