//! Which files make the configuration, and which of them is stronger.
//!
//! As in systemd's own configuration: `ash.toml` is read first, and drop-ins override it in the
//! order of their file names, whichever folder they lie in. Where folders hold drop-ins of the
//! same name, the one in `/etc` hides that in `/run`, and both hide that in `/usr/lib`; a link to
//! `/dev/null` so takes a drop-in of the package away. A later file replaces single keys, lists
//! as a whole.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::fragment::{Entry, Fragment, KEYS};
use super::text::{Fault, line_of, parse};
use super::{ConfigError, Sources};

/// Largest file that is read.
const FILE_MAX: u64 = 1 << 20;
const MAIN_FILE: &str = "etc/ash/ash.toml";
/// Weakest first.
const DROP_IN_FOLDERS: [&str; 3] = ["usr/lib/ash/ash.toml.d", "run/ash/ash.toml.d", "etc/ash/ash.toml.d"];

/// What one file says.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) fragment: Fragment,
}

/// All files, strongest first.
#[derive(Debug, Default)]
pub(super) struct Layers(pub(super) Vec<Layer>);

/// The value that counts, and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a, T> {
    pub(super) value: &'a T,
    pub(super) path: &'a Path,
    pub(super) line: usize,
}

impl Layers {
    pub(super) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let mut layers = Vec::new();
        match sources {
            Sources::File(path) => layers.push(Layer::read(path)?),
            Sources::Root(root) => {
                let main = root.join(MAIN_FILE);
                if exists(&main)? {
                    layers.push(Layer::read(&main)?);
                }
                for path in drop_ins(root)? {
                    layers.push(Layer::read(&path)?);
                }
            }
        }
        layers.reverse();
        Ok(Self(layers))
    }

    /// The strongest file's value of a key.
    pub(super) fn find<'a, T: 'a>(&'a self, get: impl Fn(&'a Fragment) -> &'a Entry<T>) -> Option<Found<'a, T>> {
        self.0.iter().find_map(|layer| {
            let entry = get(&layer.fragment).as_ref()?;
            Some(Found { value: entry.get_ref(), path: &layer.path, line: line_of(&layer.text, entry.span().start) })
        })
    }
}

impl Layer {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path)?;
        let fragment = parse(&text, KEYS).map_err(|located| fault(path, located.line, located.fault))?;
        Ok(Self { path: path.to_owned(), text, fragment })
    }
}

pub(super) fn fault(path: &Path, line: usize, fault: Fault) -> ConfigError {
    ConfigError::Fault { path: path.to_owned(), line, fault }
}

/// The drop-ins that count, weakest first.
fn drop_ins(root: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut by_name: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for folder in DROP_IN_FOLDERS {
        let folder = root.join(folder);
        let failed = |source| ConfigError::Read { path: folder.clone(), source };
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            if let Some(name) = path.file_name().filter(|_| !hidden && path.extension().is_some_and(|end| end == "toml")) {
                by_name.insert(name.to_owned(), path);
            }
        }
    }
    Ok(by_name.into_values().collect())
}

fn exists(path: &Path) -> Result<bool, ConfigError> {
    // A link that leads nowhere is a mistake to be told, not an absent file.
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
    }
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let resolved = std::fs::canonicalize(path).map_err(failed)?;
    if resolved == Path::new("/dev/null") {
        return Ok(String::new());
    }
    // Asked before opening, since opening a pipe would wait for its other end.
    if !std::fs::metadata(&resolved).map_err(failed)?.is_file() {
        return Err(ConfigError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    std::fs::File::open(&resolved).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned(), max: FILE_MAX });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count();
        ConfigError::NotUtf8 { path: path.to_owned(), line }
    })
}
