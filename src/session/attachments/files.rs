//! The bytes of attachments: `<data>/attachments/<session>/<attachment>`, for the daemon alone. No name of a
//! caller is in any path. All of it blocks.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::folder;
use crate::wire::{AttachmentId, SessionId, Timestamp};

/// Where the bytes are.
#[derive(Debug, Clone)]
pub struct Files {
    folder: PathBuf,
}

/// A file that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The session that its folder names.
    pub session: SessionId,
    /// The attachment that it names.
    pub id: AttachmentId,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was written.
    pub at: Timestamp,
}

impl Files {
    /// Those below this state folder.
    pub fn new(data: &Path) -> Self {
        Self { folder: data.join("attachments") }
    }

    fn folder_of(&self, session: SessionId) -> PathBuf {
        self.folder.join(session.to_string())
    }

    fn path(&self, session: SessionId, id: AttachmentId) -> PathBuf {
        self.folder_of(session).join(id.to_string())
    }

    fn make_folder(&self, session: SessionId) -> io::Result<PathBuf> {
        let folder = self.folder_of(session);
        folder::make(&folder)?;
        Ok(folder)
    }

    /// Writes a file, which is there for good then.
    pub fn write(&self, session: SessionId, id: AttachmentId, bytes: &[u8]) -> io::Result<()> {
        folder::write_new(&self.make_folder(session)?, &id.to_string(), bytes)
    }

    /// Makes files of another session that have the bytes of these.
    pub fn copy(&self, from: SessionId, to: SessionId, ids: &[(AttachmentId, AttachmentId)]) -> io::Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let folder = self.make_folder(to)?;
        for (id, copy) in ids {
            match fs::hard_link(self.path(from, *id), self.path(to, *copy)) {
                // One whose bytes are gone has none here either.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                linked => linked?,
            }
        }
        folder::sync(&folder)
    }

    /// The bytes of a file.
    pub fn read(&self, session: SessionId, id: AttachmentId) -> io::Result<Vec<u8>> {
        fs::read(self.path(session, id))
    }

    /// Whether there is a file.
    pub fn has(&self, session: SessionId, id: AttachmentId) -> io::Result<bool> {
        self.path(session, id).try_exists()
    }

    /// Removes a file, and its folder with the last one. One that is not there is removed already.
    pub fn remove(&self, session: SessionId, id: AttachmentId) -> io::Result<()> {
        folder::gone(fs::remove_file(self.path(session, id)))?;
        match fs::remove_dir(self.folder_of(session)) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => folder::gone(removed),
        }
    }

    /// Removes the files of a session.
    pub fn remove_all(&self, session: SessionId) -> io::Result<()> {
        folder::gone(fs::remove_dir_all(self.folder_of(session)))
    }

    /// All files that there are. What has no name of this kind is passed over.
    pub fn list(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for of_session in folder::entries(&self.folder)? {
            let Some(session) = folder::named(&of_session) else { continue };
            for entry in folder::entries(&of_session.path())? {
                let Some(id) = folder::named(&entry) else { continue };
                // It may go meanwhile.
                let Ok(metadata) = entry.metadata() else { continue };
                found.push(Found { session, id, bytes: metadata.len(), at: Timestamp::from_system(metadata.modified()?) });
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_for_their_owner_alone_and_leave_no_folder_behind() {
        let data = tempfile::tempdir().expect("a folder");
        let files = Files::new(data.path());
        assert_eq!(files.list().expect("lists"), []);
        let (session, child, id, copy) = (SessionId::new(), SessionId::new(), AttachmentId::new(), AttachmentId::new());
        files.write(session, id, b"bytes").expect("writes");
        assert!(files.write(session, id, b"others").is_err(), "nothing is written over");
        for (path, mode) in [(files.folder_of(session), 0o700), (files.path(session, id), 0o600), (files.folder.clone(), 0o700)] {
            assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, mode, "{}", path.display());
        }
        files.copy(session, child, &[(id, copy), (AttachmentId::new(), AttachmentId::new())]).expect("copies");
        files.remove(session, id).expect("removes");
        assert!(!files.folder_of(session).exists());
        assert_eq!(files.read(child, copy).expect("reads"), b"bytes");
        let found: Vec<_> = files.list().expect("lists").iter().map(|one| (one.session, one.id, one.bytes)).collect();
        assert_eq!(found, [(child, copy, 5)]);
        files.remove_all(child).expect("removes");
        files.remove_all(child).expect("again");
        files.remove(child, copy).expect("again");
        assert_eq!(files.list().expect("lists"), []);
    }
}
