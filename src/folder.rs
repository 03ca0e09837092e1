//! Folders of files that callers gave, for the daemon alone: what is written is on disk when it is said to be, and nobody
//! else reads it. All of it blocks.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes a folder, with those that it is in. It is there after a power cut, if the one that it is in was.
pub fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    folder.parent().map_or(Ok(()), sync)
}

/// Waits until the names in a folder are on disk.
pub fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Writes a file, which is there for good then. None is written over.
pub fn write_new(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = folder.join(name);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| sync(folder));
    if written.is_err() {
        // What stays is found by the next removal of what nobody knows.
        let _ = fs::remove_file(path);
    }
    written
}

/// Takes what is gone already for removed.
pub fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// What is in a folder; nothing where there is none.
pub fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.collect(),
    }
}

/// The name of an entry, if it names such a thing.
pub fn named<T: std::str::FromStr>(entry: &fs::DirEntry) -> Option<T> {
    entry.file_name().to_str()?.parse().ok()
}
