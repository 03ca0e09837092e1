//! Texts in the editor of the user's choice.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// Lets the user change a text.
///
/// # Errors
/// See [`Scratch::edit`].
pub(super) async fn edit(text: &str) -> io::Result<String> {
    let edited = Scratch::new(text.as_bytes(), "json")?.edit().await?;
    String::from_utf8(edited).map_err(io::Error::other)
}

/// A file for nobody else's eyes, which goes away unless it is kept.
pub(super) struct Scratch(Option<PathBuf>);

impl Scratch {
    /// Makes one with this in it. The ending of its name tells editors what it is.
    ///
    /// # Errors
    /// If it can not be written.
    pub(super) fn new(content: &[u8], ending: &str) -> io::Result<Self> {
        let folder = env::var_os("XDG_RUNTIME_DIR").map_or_else(env::temp_dir, PathBuf::from);
        let path = folder.join(format!("ashctl-{}.{ending}", uuid::Uuid::now_v7()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let scratch = Self(Some(path));
        file.write_all(content)?;
        Ok(scratch)
    }

    /// Waits for the editor, and returns what is in the file then. Blocks the task until the editor ends,
    /// as the terminal is the editor's meanwhile.
    ///
    /// # Errors
    /// If the file can not be read, or the editor does not run or fails.
    pub(super) async fn edit(&self) -> io::Result<Vec<u8>> {
        let path = self.0.as_ref().expect("it was not kept yet");
        let given = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        // `editor` is Debian's name for the one that the administrator chose.
        let editor = given("VISUAL").or_else(|| given("EDITOR")).unwrap_or_else(|| "editor".into());
        // As git does: the variable may hold options, so a shell takes it apart.
        let script = format!("{editor} \"$1\"");
        let status = tokio::process::Command::new("sh").args(["-c", &script, "ashctl"]).arg(path).status().await?;
        if !status.success() {
            return Err(io::Error::other(format!("{editor} failed ({status})")));
        }
        fs::read(path)
    }

    /// Leaves it where it is.
    pub(super) fn keep(mut self) -> PathBuf {
        self.0.take().expect("it was not kept yet")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It is in a folder that is emptied with the login, or at the next boot.
        self.0.take().map(fs::remove_file).transpose().unwrap_or_default();
    }
}
