//! The bytes of files: `<data>/files/<file>`. No name of a caller is in any path. All of it blocks.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::folder;
use crate::wire::{FileId, Timestamp};

/// The folder below the state folder.
const FOLDER: &str = "files";

/// Where a file is, below the state folder.
pub fn storage_path(id: FileId) -> String {
    format!("{FOLDER}/{id}")
}

/// Where the bytes are.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
}

/// A file that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The file that it names.
    pub id: FileId,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was written.
    pub at: Timestamp,
}

impl Disk {
    /// Those below this state folder.
    pub fn new(data: &Path) -> Self {
        Self { folder: data.join(FOLDER) }
    }

    fn path(&self, id: FileId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// Writes a file, which is there for good then.
    pub fn write(&self, id: FileId, bytes: &[u8]) -> io::Result<()> {
        folder::make(&self.folder)?;
        folder::write_new(&self.folder, &id.to_string(), bytes)
    }

    /// The bytes of a file.
    pub fn read(&self, id: FileId) -> io::Result<Vec<u8>> {
        fs::read(self.path(id))
    }

    /// A file, open to be read.
    pub fn open(&self, id: FileId) -> io::Result<fs::File> {
        fs::File::open(self.path(id))
    }

    /// Removes a file. One that is not there is removed already.
    pub fn remove(&self, id: FileId) -> io::Result<()> {
        folder::gone(fs::remove_file(self.path(id)))
    }

    /// All files that there are. What has no name of this kind is passed over.
    pub fn list(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in folder::entries(&self.folder)? {
            let Some(id) = folder::named(&entry) else { continue };
            let metadata = match entry.metadata() {
                // It has gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            found.push(Found { id, bytes: metadata.len(), at: Timestamp::from_system(metadata.modified()?) });
        }
        Ok(found)
    }
}
