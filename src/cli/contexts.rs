//! Contexts: daemons that a person knows by name, each with where its API key is.
//!
//! ```toml
//! current = "prod"
//!
//! [contexts.prod]
//! server = "https://ash.example.com"
//! key_command = "pass show ash/prod"
//! ```
//!
//! Each change writes the whole file anew beside the old one, under a lock on its folder.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::client::Server;
use crate::wire::secret::Secret;

/// Names the file in place of the usual one.
pub const FILE_VARIABLE: &str = "ASHCTL_CONFIG";
/// Longest name of a context.
const NAME_LETTERS: usize = 64;
/// Most contexts in a file.
const CONTEXTS_MAX: usize = 1000;
const HEADER: &str = "# Written by \"ashctl context\". Other comments are lost with the next change.\n\n";

/// The file of contexts is of no use, or a context is.
#[derive(Debug, thiserror::Error)]
pub enum ContextsError {
    /// The file can not be read or written.
    #[error("can not {step} {path}", path = .path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file says what has no meaning.
    #[error("{path}{line}: {reason}", path = .path.display(), line = .line.map(|line| format!(":{line}")).unwrap_or_default())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: Option<usize>,
        /// Why.
        reason: String,
    },
    /// The file holds a key, and others may read it.
    #[error("{path} holds an API key, and others may read it", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// No file is known, as there is no home folder.
    #[error("there is no file for contexts: neither {FILE_VARIABLE}, XDG_CONFIG_HOME nor HOME is set")]
    Homeless,
    /// There is no context of this name.
    #[error("there is no context {0:?}")]
    Unknown(String),
    /// A text that is no name of a context.
    #[error("{0:?} is no name of a context: it takes 1 to {NAME_LETTERS} letters, digits, \"-\", \"_\" and \".\"")]
    Name(String),
    /// There is a context of this name already.
    #[error("there is a context {0:?} already")]
    Taken(String),
    /// There are as many contexts as there may be.
    #[error("there are {CONTEXTS_MAX} contexts, which is the most")]
    Full,
    /// The command that prints the key can not be run.
    #[error("can not run the key_command of context {context:?}")]
    Run {
        /// The context.
        context: String,
        /// Why not.
        source: io::Error,
    },
    /// The command that prints the key failed, and has said why.
    #[error("the key_command of context {context:?} failed ({status})")]
    Command {
        /// The context.
        context: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// There is nothing where the key should be.
    #[error("the key of context {0:?} is empty")]
    NoKey(String),
}

impl ContextsError {
    /// The next step, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open { path } => Some(format!("chmod 600 {}", path.display())),
            Self::Unknown(_) => Some("see what there is: ashctl context list".into()),
            Self::Taken(name) => Some(format!("to write it anew: ashctl context add {name} --replace …")),
            _ => None,
        }
    }
}

/// A daemon with a name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Entry {
    /// Where it is.
    pub server: Server,
    /// Where its key is. Without, it needs none, or one from the environment.
    pub key: Option<Key>,
}

/// Where an API key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// In the file of contexts.
    Stored(Secret),
    /// In a file; a relative path is seen from the folder of the file of contexts.
    File(PathBuf),
    /// What this prints, run by a shell.
    Command(String),
}

/// An entry as it is written.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    server: String,
    key: Option<Secret>,
    key_file: Option<PathBuf>,
    key_command: Option<String>,
}

impl TryFrom<Fields> for Entry {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let server = fields.server.parse().map_err(|error| format!("server: {error}"))?;
        let key = match (fields.key, fields.key_file, fields.key_command) {
            (None, None, None) => None,
            (Some(key), None, None) => Some(Key::Stored(key)),
            (None, Some(path), None) => Some(Key::File(path)),
            (None, None, Some(command)) => Some(Key::Command(command)),
            _ => return Err("takes one of key, key_file and key_command".to_owned()),
        };
        Ok(Self { server, key })
    }
}

impl From<Entry> for Fields {
    fn from(entry: Entry) -> Self {
        let mut fields = Self { server: entry.server.to_string(), ..Self::default() };
        match entry.key {
            None => {}
            Some(Key::Stored(key)) => fields.key = Some(key),
            Some(Key::File(path)) => fields.key_file = Some(path),
            Some(Key::Command(command)) => fields.key_command = Some(command),
        }
        fields
    }
}

/// All that is in the file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content {
    current: Option<Spanned<String>>,
    #[serde(default)]
    contexts: BTreeMap<String, Entry>,
}

/// The file of contexts, as it was when it was read.
#[derive(Debug)]
pub struct Contexts {
    path: PathBuf,
    content: Content,
}

impl Contexts {
    /// Reads the user's file. One that is not there has no contexts.
    ///
    /// # Errors
    /// [`ContextsError::Homeless`], [`ContextsError::File`], [`ContextsError::Malformed`],
    /// [`ContextsError::Open`].
    pub fn read() -> Result<Self, ContextsError> {
        Self::of(file(|name| env::var_os(name)).ok_or(ContextsError::Homeless)?)
    }

    /// As [`Self::read`], but without contexts where there can be no file.
    ///
    /// # Errors
    /// [`ContextsError::File`], [`ContextsError::Malformed`], [`ContextsError::Open`].
    pub fn read_if_any() -> Result<Option<Self>, ContextsError> {
        file(|name| env::var_os(name)).map(Self::of).transpose()
    }

    fn of(path: PathBuf) -> Result<Self, ContextsError> {
        let failed = |source| ContextsError::File { step: "read", path: path.clone(), source };
        let text = match fs::read_to_string(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => String::new(),
            text => text.map_err(failed)?,
        };
        let content = parse(&text).map_err(|(line, reason)| ContextsError::Malformed { path: path.clone(), line, reason })?;
        let holds_key = content.contexts.values().any(|entry| matches!(entry.key, Some(Key::Stored(_))));
        if holds_key && fs::metadata(&path).map_err(failed)?.mode() & 0o077 != 0 {
            return Err(ContextsError::Open { path });
        }
        Ok(Self { path, content })
    }

    /// The name of the one in use.
    pub fn current(&self) -> Option<&str> {
        self.content.current.as_ref().map(|name| name.as_ref().as_str())
    }

    /// All, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.content.contexts.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The one of this name.
    ///
    /// # Errors
    /// [`ContextsError::Unknown`].
    pub fn get(&self, name: &str) -> Result<&Entry, ContextsError> {
        self.content.contexts.get(name).ok_or_else(|| ContextsError::Unknown(name.to_owned()))
    }

    /// Whether a command has to be run for the key of the one of this name.
    pub fn has_key_command(&self, name: &str) -> bool {
        matches!(self.content.contexts.get(name), Some(Entry { key: Some(Key::Command(_)), .. }))
    }

    /// The API key of the one of this name, if it says where that is.
    ///
    /// # Errors
    /// [`ContextsError::Unknown`]; [`ContextsError::File`], [`ContextsError::Run`] and
    /// [`ContextsError::Command`] if the key can not be had; [`ContextsError::NoKey`].
    pub fn key(&self, name: &str) -> Result<Option<Secret>, ContextsError> {
        let text = match &self.get(name)?.key {
            None => return Ok(None),
            Some(Key::Stored(key)) => key.reveal().to_owned(),
            Some(Key::File(file)) => {
                let path = self.path.parent().unwrap_or(Path::new("")).join(file);
                fs::read_to_string(&path).map_err(|source| ContextsError::File { step: "read", path, source })?
            }
            Some(Key::Command(command)) => {
                let mut shell = Command::new("sh");
                // It may ask for a passphrase, and says on standard error what is wrong.
                shell.args(["-c", command]).stderr(Stdio::inherit()).stdin(Stdio::inherit());
                let output = shell.output().map_err(|source| ContextsError::Run { context: name.to_owned(), source })?;
                if !output.status.success() {
                    return Err(ContextsError::Command { context: name.to_owned(), status: output.status });
                }
                String::from_utf8_lossy(&output.stdout).into_owned()
            }
        };
        let key = text.trim();
        if key.is_empty() { Err(ContextsError::NoKey(name.to_owned())) } else { Ok(Some(Secret::new(key))) }
    }

    /// Adds a context to the user's file.
    ///
    /// # Errors
    /// [`ContextsError::Name`], [`ContextsError::Taken`] unless `replace`, [`ContextsError::Full`], and
    /// as [`Self::read`].
    pub fn add(name: &str, entry: Entry, replace: bool, is_current: bool) -> Result<(), ContextsError> {
        check_name(name)?;
        change(|content| {
            if content.contexts.contains_key(name) && !replace {
                return Err(ContextsError::Taken(name.to_owned()));
            }
            if content.contexts.len() >= CONTEXTS_MAX && !content.contexts.contains_key(name) {
                return Err(ContextsError::Full);
            }
            content.contexts.insert(name.to_owned(), entry);
            if is_current {
                content.current = Some(Spanned::new(0..0, name.to_owned()));
            }
            Ok(())
        })
    }

    /// Makes this the context in use, or none.
    ///
    /// # Errors
    /// [`ContextsError::Unknown`], and as [`Self::read`].
    pub fn select(name: Option<&str>) -> Result<(), ContextsError> {
        change(|content| {
            if let Some(name) = name.filter(|name| !content.contexts.contains_key(*name)) {
                return Err(ContextsError::Unknown(name.to_owned()));
            }
            content.current = name.map(|name| Spanned::new(0..0, name.to_owned()));
            Ok(())
        })
    }

    /// Takes a context, with a key that is stored, out of the user's file. The one in use is none
    /// then, if it was this.
    ///
    /// # Errors
    /// [`ContextsError::Unknown`], and as [`Self::read`].
    pub fn remove(name: &str) -> Result<(), ContextsError> {
        change(|content| {
            content.contexts.remove(name).ok_or_else(|| ContextsError::Unknown(name.to_owned()))?;
            content.current.take_if(|current| current.as_ref() == name);
            Ok(())
        })
    }
}

/// Where the contexts of a user with these variables are.
fn file(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // XDG Base Directory Specification 0.8: relative paths are to be ignored.
    let config = given("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    given(FILE_VARIABLE).or_else(|| Some(config.or_else(|| Some(given("HOME")?.join(".config")))?.join("ash/contexts.toml")))
}

fn parse(text: &str) -> Result<Content, (Option<usize>, String)> {
    let line = |at: usize| Some(text[..at.min(text.len())].matches('\n').count() + 1);
    let content: Content =
        toml::from_str(text).map_err(|error| (error.span().and_then(|span| line(span.start)), error.message().to_owned()))?;
    for name in content.contexts.keys() {
        check_name(name).map_err(|error| (None, error.to_string()))?;
    }
    if let Some(current) = content.current.as_ref().filter(|name| !content.contexts.contains_key(name.as_ref())) {
        return Err((line(current.span().start), format!("current: there is no context {:?}", current.as_ref())));
    }
    Ok(content)
}

fn check_name(name: &str) -> Result<(), ContextsError> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = (1..=NAME_LETTERS).contains(&name.len()) && name.chars().all(is_good) && !name.starts_with('-');
    good.then_some(()).ok_or_else(|| ContextsError::Name(name.to_owned()))
}

/// Changes the user's file as a whole, or not at all.
fn change(edit: impl FnOnce(&mut Content) -> Result<(), ContextsError>) -> Result<(), ContextsError> {
    let path = file(|name| env::var_os(name)).ok_or(ContextsError::Homeless)?;
    // A link stays one: people keep such files elsewhere.
    let path = path.canonicalize().unwrap_or(path);
    let failed = |source: io::Error| ContextsError::File { step: "write", path: path.clone(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let lock = File::open(folder).map_err(failed)?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| failed(errno.into()))?;
    let mut contexts = Contexts::of(path.clone())?;
    edit(&mut contexts.content)?;
    let text = toml::to_string(&contexts.content).map_err(|error| failed(io::Error::other(error)))?;
    let beside = folder.join(format!(".contexts-{}", uuid::Uuid::now_v7()));
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(HEADER.as_bytes())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    written().map_err(|error| {
        // What failed is told; that this stays as well is seen.
        drop(fs::remove_file(&beside));
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (Option<usize>, String) {
        parse(text).expect_err(text)
    }

    #[test]
    fn mistakes_are_told_by_line_and_name() {
        for (text, line, words) in [
            ("current = \"a\"\n", 1, "no context \"a\""),
            ("\n[contexts.a]\nserver = \"https://a\"\nsever = 1\n", 4, "unknown field `sever`"),
            ("[contexts.a]\n\n[contexts.b]\nserver = \"https://b\"\n", 1, "missing field `server`"),
            ("# a\n[contexts.a]\nserver = \"a:1\"\n", 2, "server: \"a:1\" names no server"),
            ("[contexts.a]\nserver = \"https://a\"\nkey_file = \"k\"\nkey_command = \"c\"\n", 1, "one of key"),
            ("[contexts.a]\nserver = \n", 2, ""),
            ("[context.a]\nserver = \"https://a\"\n", 1, "unknown field `context`"),
        ] {
            let (found, reason) = refused(text);
            assert!(found == Some(line) && reason.contains(words), "{text}: {found:?} {reason}");
        }
        assert!(refused("[contexts.\"a b\"]\nserver = \"https://a\"\n").1.contains("no name of a context"));
    }

    #[test]
    fn a_mistake_beside_a_key_does_not_show_it() {
        for text in [
            "[contexts.a]\nserver = \"https://a\"\nkey = \"ash_secret\nkey_file = \"x\"\n",
            "[contexts.a]\nserver = \"https://a\"\nkey = [\"ash_secret\"]\n",
            "[contexts.a]\nserver = \"a\"\nkey = \"ash_secret\"\n",
        ] {
            assert!(!refused(text).1.contains("ash_secret"), "{:?}", refused(text));
        }
    }

    #[test]
    fn the_file_is_where_the_environment_says() {
        let of = |variables: &[(&str, &str)]| {
            let found = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
            file(found).map(|path| path.display().to_string())
        };
        assert_eq!(of(&[]), None);
        let home = ("HOME", "/home/a");
        assert_eq!(of(&[home]).as_deref(), Some("/home/a/.config/ash/contexts.toml"));
        assert_eq!(of(&[home, ("XDG_CONFIG_HOME", "/x")]).as_deref(), Some("/x/ash/contexts.toml"));
        assert_eq!(of(&[home, ("XDG_CONFIG_HOME", "x")]).as_deref(), Some("/home/a/.config/ash/contexts.toml"));
        assert_eq!(of(&[home, ("ASHCTL_CONFIG", "c.toml")]).as_deref(), Some("c.toml"));
    }
}
