//! Snapshots in a folder.
//!
//! ```text
//! <root>/<session>/<event, 19 digits>/manifest.json
//!                                    /data.tar.zst
//!                 /.new-<random>/      a draft
//!                 /.was-<event>-<random>/  what the snapshot of this event was, while it is replaced
//!                 /.old-<random>/      being removed
//!       /.old-<random>/                a session that is being removed
//! ```
//!
//! Drafts are synced file by file and renamed in one step. What a crash left under a name with a
//! dot is removed when the folder is opened and by every sweep, but for `.was`, which goes back to its
//! name if nothing took its place. A sweep knows the drafts that are being written in this process.
//! No other process may use the folder: its drafts would be taken for left-overs.
//!
//! Names of a session change, and are looked up in more than one step, under one of
//! `LOCKS` locks which the session's id chooses. No lock is held while data is read or written.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};
use uuid::Uuid;

use super::error::{Damage, SnapshotError};
use super::format::{MANIFEST_MAX, SnapshotId};
use super::location::{Draft, Location, Object, Parts};
use crate::fault::{self, Point};
use crate::wire::SessionId;

const MANIFEST: &str = "manifest.json";
const DATA: &str = "data.tar.zst";
const NEW: &str = ".new-";
const WAS: &str = ".was-";
const OLD: &str = ".old-";
/// Digits of an event's folder; no event has more.
const DIGITS: usize = 19;
/// So many that sessions which are parked at one time seldom wait for each other's syncs.
const LOCKS: usize = 64;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    locks: Arc<[Mutex<()>; LOCKS]>,
    /// Drafts that somebody works at.
    drafts: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Folder {
    /// Opens a folder, makes it if it is not there, closes it to other users, and removes what a
    /// crash left.
    pub fn open(root: PathBuf) -> Result<Self, SnapshotError> {
        let failed = |step, source| SnapshotError::host(step, &root)(source);
        DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(|source| failed("make", source))?;
        let mode = fs::metadata(&root).map_err(|source| failed("read", source))?.permissions().mode();
        if mode & 0o777 != 0o700 {
            fs::set_permissions(&root, Permissions::from_mode(0o700)).map_err(|source| failed("close to others", source))?;
        }
        let locks = Arc::new(std::array::from_fn(|_| Mutex::new(())));
        let folder = Self { root, locks, drafts: Arc::default() };
        folder.sweep()?;
        Ok(folder)
    }

    fn drafts(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.drafts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts right what a crash, or a disk that failed, left in the folder of a session.
    fn mend(&self, session: SessionId) -> Result<(), SnapshotError> {
        let folder = &self.of(session);
        let mut names = self.names(folder)?;
        // Of several that were replaced, the newest comes first.
        names.sort_by(|a, b| b.cmp(a));
        for name in names {
            let from = folder.join(&name);
            if let Some(event) = name.strip_prefix(WAS).and_then(|rest| rest.get(..DIGITS)) {
                let to = folder.join(event);
                // Within, somebody may be about to put it back himself.
                let _names = self.lock(session);
                if !exists(&from)? {
                    continue;
                }
                if exists(&to)? {
                    remove_left_over(&from);
                } else if let Err(error) = fs::rename(&from, &to) {
                    tracing::warn!(path = %from.display(), %error, "replaced snapshot is not put back, ignoring");
                }
            } else if name.starts_with(OLD) || (name.starts_with(NEW) && !self.drafts().contains(&from)) {
                remove_left_over(&from);
            }
        }
        Ok(())
    }

    /// The names in a folder; none if it is not there. Those that are not UTF-8 are not ours.
    fn names(&self, folder: &Path) -> Result<Vec<String>, SnapshotError> {
        let failed = |source| SnapshotError::host("list", folder)(source);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        Ok(names)
    }

    fn of(&self, session: SessionId) -> PathBuf {
        self.root.join(session.to_string())
    }

    fn path_of(&self, id: SnapshotId) -> PathBuf {
        self.of(id.session).join(event_name(id.event))
    }

    fn lock(&self, session: SessionId) -> MutexGuard<'_, ()> {
        let last = session.as_uuid().as_bytes()[15];
        self.locks[usize::from(last) % LOCKS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a folder for a draft, and what `fill` finds for its data.
    fn draft(
        &self,
        session: SessionId,
        fill: impl FnOnce(&Path) -> Result<File, SnapshotError>,
    ) -> Result<Box<FolderDraft>, SnapshotError> {
        let folder = self.of(session);
        let path = folder.join(format!("{NEW}{}", Uuid::now_v7().simple()));
        // From here on it has an owner, who removes it.
        let remains = Remains::new(self.clone(), session, path);
        let path = &remains.path;
        {
            let _names = self.lock(session);
            // Never the root: where that is gone, so is the disk that it was on.
            make(&folder).or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(SnapshotError::host("make", &folder)(error)),
            })?;
            make(path).map_err(SnapshotError::host("make", path))?;
        }
        let data = fill(&remains.path.join(DATA))?;
        Ok(Box::new(FolderDraft { remains, data }))
    }

    /// Opens both parts of a snapshot.
    fn open_both(&self, id: SnapshotId) -> Result<(File, File), SnapshotError> {
        let path = self.path_of(id);
        let _names = self.lock(id.session);
        if !exists(&path)? {
            return Err(SnapshotError::NotFound(id));
        }
        Ok((open_part(id, &path, MANIFEST)?, open_part(id, &path, DATA)?))
    }

    /// Removes the folder of a session in which nothing is left.
    fn tidy(&self, session: SessionId) {
        let _names = self.lock(session);
        // It is not empty or not there, as a rule.
        let _ = fs::remove_dir(self.of(session));
    }

    /// Gives something a name under which it is removed, and removes it.
    fn discard(&self, session: SessionId, from: &Path, folder: &Path) -> Result<(), SnapshotError> {
        let to = folder.join(format!("{OLD}{}", Uuid::now_v7().simple()));
        {
            let _names = self.lock(session);
            match fs::rename(from, &to) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                result => result.map_err(SnapshotError::host("remove", from))?,
            }
        }
        match fs::remove_dir_all(&to) {
            // Somebody removes all of the session.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(SnapshotError::host("remove", &to)),
        }
    }
}

impl Location for Folder {
    fn begin(&self, session: SessionId) -> Result<Box<dyn Draft>, SnapshotError> {
        let draft = self.draft(session, |path| create(path).map_err(SnapshotError::host("make", path)))?;
        Ok(draft)
    }

    fn begin_copy(&self, from: SnapshotId, session: SessionId) -> Result<(Vec<u8>, Box<dyn Draft>), SnapshotError> {
        let source = self.path_of(from).join(DATA);
        // The draft comes first: its session may have the same lock.
        let mut manifest = Vec::new();
        let draft = self.draft(session, |path| {
            // Opened first, so that the link is made of a regular file.
            let (text, data) = self.open_both(from)?;
            manifest = read_manifest(text).map_err(SnapshotError::host("read", &source))?;
            let linked = {
                let _names = self.lock(from.session);
                same_file(&data, &source) && fs::hard_link(&source, path).is_ok()
            };
            if !linked {
                copy(data, path).map_err(SnapshotError::host("copy", path))?;
            }
            File::open(path).map_err(SnapshotError::host("read", path))
        })?;
        Ok((manifest, draft))
    }

    fn open(&self, id: SnapshotId) -> Result<Parts, SnapshotError> {
        let (manifest, data) = self.open_both(id)?;
        let manifest = read_manifest(manifest).map_err(SnapshotError::host("read", self.path_of(id)))?;
        Ok(Parts { manifest, data: Box::new(data) })
    }

    fn list(&self, session: SessionId) -> Result<Vec<i64>, SnapshotError> {
        let mut events: Vec<_> = self.names(&self.of(session))?.iter().filter_map(|name| parse_event(name)).collect();
        events.sort_unstable();
        Ok(events)
    }

    fn sessions(&self) -> Result<Vec<SessionId>, SnapshotError> {
        let mut sessions: Vec<_> = self.names(&self.root)?.iter().filter_map(|name| name.parse().ok()).collect();
        sessions.sort_unstable();
        Ok(sessions)
    }

    fn usage(&self, session: SessionId) -> Result<u64, SnapshotError> {
        let mut bytes = 0;
        for event in self.list(session)? {
            for part in [MANIFEST, DATA] {
                let path = self.path_of(SnapshotId { session, event }).join(part);
                match fs::symlink_metadata(&path) {
                    Ok(metadata) => bytes += metadata.len(),
                    Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                    Err(error) => return Err(SnapshotError::host("read", &path)(error)),
                }
            }
        }
        Ok(bytes)
    }

    fn remove(&self, id: SnapshotId) -> Result<(), SnapshotError> {
        self.discard(id.session, &self.path_of(id), &self.of(id.session))?;
        self.tidy(id.session);
        Ok(())
    }

    fn remove_all(&self, session: SessionId) -> Result<(), SnapshotError> {
        self.discard(session, &self.of(session), &self.root)
    }

    fn sweep(&self) -> Result<(), SnapshotError> {
        for name in self.names(&self.root)?.iter().filter(|name| name.starts_with(OLD)) {
            remove_left_over(&self.root.join(name));
        }
        self.sessions()?.into_iter().try_for_each(|session| {
            self.mend(session)?;
            self.tidy(session);
            Ok(())
        })
    }
}

/// The folder of a draft, which is removed when dropped.
struct Remains {
    location: Folder,
    session: SessionId,
    path: PathBuf,
}

impl Remains {
    fn new(location: Folder, session: SessionId, path: PathBuf) -> Self {
        location.drafts().insert(path.clone());
        Self { location, session, path }
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        remove_left_over(&self.path);
        self.location.drafts().remove(&self.path);
        self.location.tidy(self.session);
    }
}

struct FolderDraft {
    remains: Remains,
    data: File,
}

impl Write for FolderDraft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.data.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FolderDraft {
    /// Gives the finished draft the name of its event. Says what the one was called which it
    /// replaced, if it did.
    fn take_name(&self, event: i64) -> io::Result<Option<PathBuf>> {
        let Remains { location, session, path } = &self.remains;
        let (folder, name) = (location.of(*session), event_name(event));
        let (to, was) = (folder.join(&name), folder.join(format!("{WAS}{name}-{}", Uuid::now_v7().simple())));
        let _names = location.lock(*session);
        let was = match fs::rename(&to, &was) {
            Ok(()) => Some(was),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let undo = || {
            if let Some(Err(error)) = was.as_ref().map(|was| fs::rename(was, &to)) {
                tracing::warn!(path = %to.display(), %error, "replaced snapshot is not put back, leaving it to the next start");
            }
        };
        fs::rename(path, &to).inspect_err(|_| undo())?;
        let synced = sync(&folder).and_then(|()| sync(&location.root));
        if let Err(error) = synced {
            // What may be gone after a power cut is not there now either.
            fs::rename(&to, path)?;
            undo();
            return Err(error);
        }
        Ok(was)
    }
}

impl Draft for FolderDraft {
    fn place(&self) -> String {
        self.remains.path.display().to_string()
    }

    fn read_back(&mut self) -> Result<Box<dyn Object>, SnapshotError> {
        let path = self.remains.path.join(DATA);
        self.data.sync_all().map_err(SnapshotError::host("sync", &path))?;
        // What is checked is then what the disk holds, and not what memory still has of it. This
        // is a wish that not every file system fulfils.
        let _ = posix_fadvise(&self.data, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        let data = File::open(&path).map_err(SnapshotError::host("read", &path))?;
        Ok(Box::new(data))
    }

    fn publish(self: Box<Self>, event: i64, manifest: &[u8]) -> Result<(), SnapshotError> {
        let path = &self.remains.path;
        let file = path.join(MANIFEST);
        create(&file)
            .and_then(|mut file| file.write_all(manifest).and_then(|()| file.sync_all()))
            .map_err(SnapshotError::host("write", &file))?;
        self.data.sync_all().and_then(|()| sync(path)).map_err(SnapshotError::host("sync", path))?;
        fault::at(Point::SnapshotWritten);
        let was = self.take_name(event).map_err(SnapshotError::host("publish", path))?;
        fault::at(Point::SnapshotPublished);
        if let Some(was) = was {
            remove_left_over(&was);
        }
        Ok(())
    }
}

fn event_name(event: i64) -> String {
    format!("{event:0DIGITS$}")
}

fn parse_event(name: &str) -> Option<i64> {
    let is_number = name.len() == DIGITS && name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name.parse().ok()).flatten()
}

fn exists(path: &Path) -> Result<bool, SnapshotError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(SnapshotError::host("read", path)(error)),
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Copies data; the kernel shares the blocks where the file system can.
fn copy(mut data: File, to: &Path) -> io::Result<()> {
    let mut file = create(to)?;
    io::copy(&mut data, &mut file)?;
    file.sync_all()
}

/// Whether a path still leads to a file that was opened by it.
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if place(&a) == place(&b))
}

/// Opens a part of a snapshot that is there. A pipe with its name would make others wait, and a
/// link would lead out.
fn open_part(id: SnapshotId, folder: &Path, part: &'static str) -> Result<File, SnapshotError> {
    let path = folder.join(part);
    let damaged = |damage| Err(SnapshotError::Damaged { id, damage });
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path) {
        Ok(file) => file,
        Err(error) => {
            return match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOENT | Errno::ENOTDIR) => damaged(Damage::Missing(part)),
                Some(Errno::ELOOP | Errno::ENXIO) => damaged(Damage::NotAFile(part)),
                _ => Err(SnapshotError::host("read", &path)(error)),
            };
        }
    };
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => damaged(Damage::NotAFile(part)),
        Err(error) => Err(SnapshotError::host("read", &path)(error)),
    }
}

fn read_manifest(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MANIFEST_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn remove_left_over(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "left-over of a snapshot is not removed, leaving it to the next sweep");
        }
        _ => {}
    }
}
