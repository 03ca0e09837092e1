//! What a shim leaves in the sandbox's `spool` folder for the next one on the same folder, beside
//! the events ([`spool`](super::spool)).
//!
//! The folder is outside of what the sandbox sees.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Whether the workspace is unpacked.
const UNPACKED: &str = "unpacked";
/// The runtime's own id of the conversation, where that is not the session's.
const CONVERSATION: &str = "conversation";

/// The folder.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
}

impl Memory {
    /// Uses the `spool` folder in the sandbox's.
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join("spool") }
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the workspace is unpacked.
    pub fn unpacked(&self) -> bool {
        self.folder.join(UNPACKED).exists()
    }

    /// Remembers whether the workspace is unpacked.
    pub fn set_unpacked(&self, unpacked: bool) -> io::Result<()> {
        if unpacked { self.write(UNPACKED, "") } else { self.remove(UNPACKED) }
    }

    /// The runtime's own id of the conversation.
    pub fn conversation(&self) -> Option<String> {
        fs::read_to_string(self.folder.join(CONVERSATION)).ok().filter(|id| !id.is_empty())
    }

    /// Remembers the runtime's own id of the conversation.
    pub fn set_conversation(&self, id: &str) -> io::Result<()> {
        self.write(CONVERSATION, id)
    }

    /// Forgets the runtime's own id of the conversation.
    pub fn forget_conversation(&self) -> io::Result<()> {
        self.remove(CONVERSATION)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let beside = self.folder.join(format!("{name}.new"));
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, self.folder.join(name))?;
        File::open(&self.folder)?.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            // After a power cut, too: what comes next relies on it.
            Ok(()) => File::open(&self.folder)?.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found_again() {
        let dir = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(dir.path().join("spool")).expect("made");
        let memory = Memory::new(dir.path());
        assert_eq!((memory.unpacked(), memory.conversation()), (false, None));
        memory.set_unpacked(true).expect("written");
        memory.set_conversation("c-2").expect("written");
        let memory = Memory::new(dir.path());
        assert_eq!((memory.unpacked(), memory.conversation().as_deref()), (true, Some("c-2")));
        memory.set_unpacked(false).expect("removed");
        memory.set_unpacked(false).expect("removed before");
        memory.forget_conversation().expect("removed");
        assert_eq!((memory.unpacked(), memory.conversation()), (false, None));
    }
}
