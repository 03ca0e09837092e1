//! Which database the sandboxes and snapshots of this host belong to, written down beside them.
//!
//! A database that was deleted is made anew by the next start, and knows nobody. Without a note of
//! what it was, everything on the host would then look as if it belonged to nobody.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file with the name of the database.
const FILE: &str = "database";

/// The note in a folder; `None` if there is none.
pub fn read(folder: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(folder.join(FILE)) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|name| !name.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the note. When this returns, a power cut changes nothing.
pub fn write(folder: &Path, name: &str) -> io::Result<()> {
    if read(folder)?.as_deref() == Some(name) {
        return Ok(());
    }
    let (path, draft): (PathBuf, PathBuf) = (folder.join(FILE), folder.join(format!(".{FILE}")));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{name}")?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_and_an_empty_one_is_none() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(read(folder.path()).expect("reads"), None);
        for name in ["2026-01-01T00:00:00.1Z", "another"] {
            write(folder.path(), name).expect("writes");
            write(folder.path(), name).expect("writes it again");
            assert_eq!(read(folder.path()).expect("reads").as_deref(), Some(name));
        }
        fs::write(folder.path().join(FILE), "").expect("writes");
        assert_eq!(read(folder.path()).expect("reads"), None);
        assert_eq!(fs::read_dir(folder.path()).expect("reads").count(), 1, "no draft is left");
    }
}
