//! The operator's secrets: the key of the model API, the master key, and what an OpenTelemetry collector wants to see.
//!
//! They come as systemd credentials (systemd.exec(5), `LoadCredential=`), else from files. None at all
//! is allowed: model calls then go out without a key and the model API refuses them, and credentials
//! of tenants can not be kept.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Name of the credential and of the file with the key of the model API.
const MODEL_KEY: &str = "anthropic_api_key";
/// Name of those with the master keys, one a line.
const MASTER_KEY: &str = "master_key";
/// Name of those with the headers for a collector.
const OTLP_HEADERS: &str = "otlp_headers";
/// Where the files are, below the root.
const FOLDER: &str = "etc/ash/credentials";
/// Far above any key, and above all master keys that anybody has at a time.
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
    /// It is longer than what is read.
    #[error("{} has more than {KEY_MAX} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the key of the model API: the systemd credential (in the folder `$CREDENTIALS_DIRECTORY`) if there is one,
/// else the file in `etc/ash/credentials` below `root`. Space around it does not count, and an
/// empty one is none: an empty credential says that there is none, and the file is not tried. A
/// file which only root may read is none either, as it is meant to reach the daemon as a
/// credential.
pub fn model_key(credentials: Option<&Path>, root: &Path) -> Result<Option<ModelKey>, CredentialError> {
    let Some((path, key)) = find(MODEL_KEY, credentials, root)? else { return Ok(None) };
    let is_key = key.len() as u64 <= KEY_MAX && key.bytes().all(|c| c.is_ascii_graphic());
    if is_key { Ok(Some(ModelKey(key))) } else { Err(CredentialError::Malformed { path }) }
}

/// Reads the master keys, from a place like that of [`model_key`]: where they are, and their text.
pub fn master_keys(credentials: Option<&Path>, root: &Path) -> Result<Option<(PathBuf, String)>, CredentialError> {
    find(MASTER_KEY, credentials, root)
}

/// Reads the headers for an OpenTelemetry collector, from a place like that of [`model_key`]: where they are, and their text.
pub fn otlp_headers(credentials: Option<&Path>, root: &Path) -> Result<Option<(PathBuf, String)>, CredentialError> {
    match find(OTLP_HEADERS, credentials, root)? {
        Some((path, text)) if text.len() as u64 > KEY_MAX => Err(CredentialError::TooLong { path }),
        found => Ok(found),
    }
}

/// Where the file of this name is, `tls_cert` or `tls_key`: the systemd credential if there is one, else the
/// file in `etc/ash/credentials` below `root`, whether or not there is one.
pub fn tls_file(name: &str, credentials: Option<&Path>, root: &Path) -> PathBuf {
    let credential = credentials.map(|folder| folder.join(name)).filter(|path| path.exists());
    credential.unwrap_or_else(|| root.join(FOLDER).join(name))
}

/// Reads a secret, as [`model_key`] says.
fn find(name: &str, credentials: Option<&Path>, root: &Path) -> Result<Option<(PathBuf, String)>, CredentialError> {
    if let Some(credential) = credentials.map(|folder| folder.join(name))
        && credential.exists()
    {
        return read(credential);
    }
    match read(root.join(FOLDER).join(name)) {
        Err(CredentialError::Read { path, source }) if source.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(path = %path.display(), "a secret is not readable, ignoring");
            Ok(None)
        }
        other => other,
    }
}

fn read(path: PathBuf) -> Result<Option<(PathBuf, String)>, CredentialError> {
    let mut bytes = Vec::new();
    match std::fs::File::open(&path).and_then(|file| file.take(KEY_MAX + 2).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialError::Read { path, source }),
    }
    match std::str::from_utf8(bytes.trim_ascii()) {
        Ok("") => Ok(None),
        Ok(text) => Ok(Some((path, text.to_owned()))),
        Err(_) => Err(CredentialError::Malformed { path }),
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
            for (place, text) in [("credentials", credential), (FOLDER, file)] {
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
