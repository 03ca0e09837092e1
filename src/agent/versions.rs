//! The versions of this host: each a folder named by its digest, written once, never changed.
//!
//! A version is written to `<data>/agents/.staging/<random>`, synced, and renamed to
//! `<data>/agents/<hex digits of its digest>`. So a version is whole or not there, whenever the
//! power fails, and what a crash left in `.staging` is removed at the next start.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use uuid::Uuid;

use super::digest::Digest;
use super::entry::clean_file_path;
use super::error::ContentError;
use super::export::{self, FileInfo, Overlay};
use super::manifest::{self, Definition, MCP_SERVERS};
use super::staging::{PROMPT, Staging};
use super::{archive, folder};
use crate::wire::agent::FileBody;
use crate::wire::quantity::ByteCount;

const STAGING: &str = ".staging";

/// Padding is often left out, and says nothing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a version may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentLimits {
    /// Bytes of all files together.
    pub max_bytes: ByteCount,
    /// Files, folders and links together.
    pub max_files: u32,
}

/// The versions of this host.
#[derive(Debug)]
pub struct Versions {
    folder: PathBuf,
    limits: ContentLimits,
    /// Held while a version takes its name, and while one is taken away from it: a deploy of what is
    /// being removed finds it as young, or not at all.
    names: Mutex<()>,
}

/// A version in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub digest: Digest,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was deployed, for the last time.
    pub deployed_at: SystemTime,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    root: PathBuf,
    digest: Digest,
}

impl Versions {
    /// Opens `<data>/agents`, makes it if it is not there, and removes what a crash left. No other
    /// process may use the data folder: its unfinished deploys would be taken for left-overs.
    ///
    /// # Errors
    ///
    /// [`ContentError::Host`].
    pub fn open(data: &Path, limits: ContentLimits) -> Result<Self, ContentError> {
        let folder = data.join("agents");
        let staging = folder.join(STAGING);
        match fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(ContentError::host("remove", &staging)(error)),
            _ => fs::create_dir_all(&staging).map_err(ContentError::host("make", &staging))?,
        }
        Ok(Self { folder, limits, names: Mutex::new(()) })
    }

    /// Makes a version of a tar archive. Reads the stream to its end, unless it is refused.
    pub fn deploy_tar(&self, reader: impl Read) -> Result<Version, ContentError> {
        self.deploy(|staging| archive::unpack(reader, staging, self.limits.max_files))
    }

    /// Makes a version of these files. JSON has no mode bits, so a file that begins with `#!` is
    /// taken for a script and made executable.
    pub fn deploy_files(&self, files: Vec<(String, Vec<u8>)>) -> Result<Version, ContentError> {
        self.deploy(|staging| {
            files.iter().enumerate().try_for_each(|(index, (path, content))| {
                put(staging, path, content).map_err(|error| with_field(error, || format!("files[{index}].path")))
            })
        })
    }

    /// Makes a version of a folder on this host that lies in one of `roots` or is one of them.
    pub fn deploy_folder(&self, path: &Path, roots: &[PathBuf]) -> Result<Version, ContentError> {
        self.deploy(|staging| folder::copy(path, roots, staging))
    }

    /// Makes a version of an earlier one's files, or of none, with another `CLAUDE.md`.
    pub fn deploy_prompt(&self, previous: Option<&Digest>, prompt: &str) -> Result<Version, ContentError> {
        let previous = previous.map(|digest| self.get(digest).ok_or(ContentError::NoVersion(*digest))).transpose()?;
        self.deploy(|staging| {
            put(staging, PROMPT, prompt.as_bytes())?;
            previous.map_or(Ok(()), |version| export::copy(&version.root, staging, &[PROMPT]))
        })
    }

    /// Makes a version of an earlier one's files, with these put in or over them, and without those that
    /// are removed.
    pub fn deploy_changed(
        &self,
        previous: &Digest,
        files: &[(String, Vec<u8>)],
        removed: &[String],
    ) -> Result<Version, ContentError> {
        let previous = self.get(previous).ok_or(ContentError::NoVersion(*previous))?;
        self.deploy(|staging| {
            let mut but: Vec<&str> = removed.iter().map(String::as_str).collect();
            for (index, (path, content)) in files.iter().enumerate() {
                put(staging, path, content).map_err(|error| with_field(error, || format!("files[{index}].path")))?;
                but.push(path);
            }
            export::copy(&previous.root, staging, &but)
        })
    }

    /// The version of this digest, if it is here.
    pub fn get(&self, digest: &Digest) -> Option<Version> {
        let root = self.path_of(digest);
        root.is_dir().then_some(Version { root, digest: *digest })
    }

    /// The folder of this version, whether or not it is here.
    pub fn path_of(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// All versions, in no order.
    pub fn list(&self) -> Result<Vec<Found>, ContentError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(ContentError::host("list", &self.folder))? {
            let name = entry.map_err(ContentError::host("list", &self.folder))?.file_name();
            // Others are not ours.
            let Some(digest) = name.to_str().and_then(|name| format!("sha256:{name}").parse::<Digest>().ok()) else { continue };
            let root = self.path_of(&digest);
            // One that can not be read takes nothing from the others.
            let bytes = Version { root: root.clone(), digest }.list().map_or(0, |files| files.iter().map(|file| file.size).sum());
            let modified = fs::metadata(&root).and_then(|metadata| metadata.modified());
            found.push(Found { digest, bytes, deployed_at: modified.map_err(ContentError::host("read", &root))? });
        }
        Ok(found)
    }

    /// Removes a version that was deployed before this time. The caller makes sure that nothing needs
    /// it, but for what was deployed since. Says whether it is gone.
    pub fn remove_older(&self, digest: &Digest, age: Duration) -> Result<bool, ContentError> {
        let root = self.path_of(digest);
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::metadata(&root).and_then(|metadata| metadata.modified()) {
            // A clock that went back makes it young.
            Ok(modified) if modified.elapsed().is_ok_and(|elapsed| elapsed >= age) => self.remove(digest).map(|()| true),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(ContentError::host("read", root)(error)),
        }
    }

    /// Removes a version, if it is here. The caller makes sure that nothing needs it.
    pub fn remove(&self, digest: &Digest) -> Result<(), ContentError> {
        // Moved away first, as a half removed folder must not pass for a version.
        let (from, to) = (self.path_of(digest), self.folder.join(STAGING).join(format!("removed-{}", Uuid::now_v7().simple())));
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(ContentError::host("remove", from)(error)),
        }
        fs::remove_dir_all(&to).map_err(ContentError::host("remove", to))
    }

    fn deploy(&self, fill: impl FnOnce(&mut Staging) -> Result<(), ContentError>) -> Result<Version, ContentError> {
        let mut staging = Staging::new(&self.folder.join(STAGING), self.limits)?;
        fill(&mut staging)?;
        let digest = staging.seal()?;
        let root = self.path_of(&digest);
        {
            let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            staging.publish(&root)?;
            // One that was there already is as young as a new one.
            let touched = fs::File::open(&root).and_then(|folder| folder.set_modified(SystemTime::now()));
            touched.map_err(ContentError::host("read", &root))?;
        }
        Ok(Version { root, digest })
    }
}

impl Version {
    /// Its name.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// What its `ash.toml` says.
    pub fn definition(&self) -> Result<Definition, ContentError> {
        Definition::load(&self.root)
    }

    /// The text of its `.mcp.json`, which was checked when it was deployed; `None` if it has none.
    pub fn mcp_servers(&self) -> Result<Option<Vec<u8>>, ContentError> {
        manifest::read(&self.root, MCP_SERVERS)
    }

    /// Whether it has a file of this name, or a link that leads to one.
    pub fn has_file(&self, name: &'static str) -> bool {
        self.root.join(name).is_file()
    }

    /// Its regular files, by path.
    pub fn list(&self) -> Result<Vec<FileInfo>, ContentError> {
        export::list(&self.root)
    }

    /// Opens a file of it, without following links, and returns its size too. `None` if there is
    /// nothing at this path; a folder, a link or a path that no entry may have is an error.
    pub fn open(&self, path: &str) -> Result<Option<(fs::File, u64)>, ContentError> {
        export::open(&self.root, path)
    }

    /// The content of a file, as [`Self::open`] finds it.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ContentError> {
        let Some((mut file, _)) = self.open(path)? else { return Ok(None) };
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(ContentError::host("read", self.root.join(path)))?;
        Ok(Some(content))
    }

    /// Packs it as a tar archive, always to the same bytes, with files put in or over its own.
    pub fn write_tar(&self, writer: impl Write, overlays: &[Overlay<'_>]) -> Result<(), ContentError> {
        export::write_tar(&self.root, writer, overlays)
    }

    /// Reads all of it and compares with its name: `false` if somebody changed it.
    pub fn verify(&self) -> Result<bool, ContentError> {
        Ok(export::digest(&self.root)? == self.digest)
    }
}

/// Decodes the files of a JSON body.
///
/// # Errors
///
/// [`ContentError::Base64`] with the field.
pub fn decode_files(files: &[FileBody]) -> Result<Vec<(String, Vec<u8>)>, ContentError> {
    let decode = |(index, file): (usize, &FileBody)| match BASE64.decode(&file.content) {
        Ok(content) => Ok((file.path.clone(), content)),
        Err(_) => Err(ContentError::Base64 { field: format!("files[{index}].content") }),
    };
    files.iter().enumerate().map(decode).collect()
}

fn put(staging: &mut Staging, raw: &str, content: &[u8]) -> Result<(), ContentError> {
    let path = clean_file_path(raw.as_bytes()).map_err(|fault| ContentError::entry(raw, fault))?;
    let mut rest = content;
    // Reading from a slice does not fail.
    staging.file(&path, content.starts_with(b"#!"), content.len() as u64, &mut |chunk| Ok(rest.read(chunk).unwrap_or(0)))
}

fn with_field(error: ContentError, name: impl FnOnce() -> String) -> ContentError {
    match error {
        ContentError::Entry { path, fault, .. } => ContentError::Entry { field: Some(name()), path, fault },
        other => other,
    }
}
