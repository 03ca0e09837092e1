//! The key of the model API.
//!
//! It comes as a systemd credential (systemd.exec(5), `LoadCredential=`), else from a file. None at
//! all is allowed: model calls then go out without one and the model API refuses them.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Name of the credential, and of the file.
pub const MODEL_KEY: &str = "anthropic_api_key";
const FILE_FOLDER: &str = "etc/ash/credentials";
/// Far above any key.
const KEY_MAX: u64 = 4096;

/// The key of the model API. Printing it for debugging does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ModelKey(String);

impl ModelKey {
    /// The secret itself, for the shim.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelKey(…)")
    }
}

/// Why a key that is there can not be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// It can not be read.
    #[error("{} can not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no key: too long, not one line, or with characters that no header may hold.
    #[error("{} is not one line of at most {KEY_MAX} visible ASCII characters", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the key: the systemd credential (in the folder `$CREDENTIALS_DIRECTORY`) if there is one,
/// else the file in `etc/ash/credentials` below `root`. Space around it does not count, and an
/// empty one is no key: an empty credential says that there is none, and the file is not tried. A
/// file which only root may read is no key either, as it is meant to reach the daemon as a
/// credential.
pub fn model_key(credentials: Option<&Path>, root: &Path) -> Result<Option<ModelKey>, CredentialError> {
    if let Some(credential) = credentials.map(|folder| folder.join(MODEL_KEY))
        && credential.exists()
    {
        return read(credential);
    }
    match read(root.join(FILE_FOLDER).join(MODEL_KEY)) {
        Err(CredentialError::Read { path, source }) if source.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(path = %path.display(), "model key is not readable, ignoring");
            Ok(None)
        }
        other => other,
    }
}

fn read(path: PathBuf) -> Result<Option<ModelKey>, CredentialError> {
    let mut bytes = Vec::new();
    match std::fs::File::open(&path).and_then(|file| file.take(KEY_MAX + 2).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialError::Read { path, source }),
    }
    let key = bytes.trim_ascii();
    if key.is_empty() {
        return Ok(None);
    }
    match std::str::from_utf8(key) {
        Ok(key) if key.len() as u64 <= KEY_MAX && key.bytes().all(|c| c.is_ascii_graphic()) => Ok(Some(ModelKey(key.to_owned()))),
        _ => Err(CredentialError::Malformed { path }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host {
        folder: tempfile::TempDir,
    }

    impl Host {
        fn new(credential: Option<&str>, file: Option<&str>) -> Self {
            let folder = tempfile::tempdir().expect("folder");
            for (place, text) in [("credentials", credential), (FILE_FOLDER, file)] {
                let place = folder.path().join(place);
                std::fs::create_dir_all(&place).expect("folder");
                if let Some(text) = text {
                    std::fs::write(place.join(MODEL_KEY), text).expect("file");
                }
            }
            Self { folder }
        }

        fn key(&self) -> Option<String> {
            let root = self.folder.path();
            model_key(Some(&root.join("credentials")), root).expect("good").map(|key| key.reveal().to_owned())
        }
    }

    #[test]
    fn the_credential_comes_first_and_none_is_allowed() {
        for (credential, file, key) in [
            (None, None, None),
            (Some("from-systemd"), Some("from-file"), Some("from-systemd")),
            (None, Some(" from-file\n"), Some("from-file")),
            (Some("\n"), Some("from-file"), None),
            (Some(""), Some("from-file"), None),
            (Some(""), Some(""), None),
        ] {
            assert_eq!(Host::new(credential, file).key().as_deref(), key, "{credential:?} {file:?}");
        }
    }

    #[test]
    fn what_could_not_be_sent_is_refused_without_showing_it() {
        for bad in ["two words", "two\nlines", "sch\u{fc}ssel", &"x".repeat(5000)] {
            let host = Host::new(None, Some(bad));
            let error = model_key(None, host.folder.path()).expect_err(bad);
            assert!(matches!(error, CredentialError::Malformed { .. }), "{error:?}");
            assert!(!format!("{error}{error:?}").contains(bad));
        }
    }

    #[test]
    fn debugging_does_not_show_it() {
        assert_eq!(format!("{:?}", ModelKey("sk-x".to_owned())), "ModelKey(…)");
    }
}
