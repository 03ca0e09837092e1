//! Everything that can be wrong with an upload, in sentences for the one who sent it.

use std::io;
use std::path::PathBuf;

use super::entry::EntryFault;
use super::name::FieldError;
use crate::wire::quantity::ByteCount;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// What was sent can not be deployed; sent again, it would be refused again.
    Content,
    /// It is larger than allowed.
    TooLarge,
    /// The sender stopped sending.
    Sender,
    /// This host could not do it. The cause is for the journal, not for the sender.
    Host,
}

/// Why there is no version. The texts are whole sentences without a full stop.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// There is no prompt to run.
    #[error("Agent directory must contain CLAUDE.md")]
    NoPrompt,
    /// One entry can not be part of a version.
    #[error("Entry \"{path}\" {fault}")]
    Entry {
        /// The field that names it, such as `files[3].path`.
        field: Option<String>,
        /// Its path, fit for printing.
        path: String,
        /// What is wrong with it.
        fault: EntryFault,
    },
    /// One file is larger than a version may be.
    #[error("File \"{path}\" has {size} bytes, an agent may have {max} in all")]
    FileTooLarge {
        /// Its path.
        path: String,
        /// How large it is, or says it is.
        size: u64,
        /// Bytes that a version may have.
        max: ByteCount,
    },
    /// The files together are too large.
    #[error("The files have more than {max} bytes together, which an agent may have; \"{path}\" does not fit any more")]
    TooLarge {
        /// The file at which the bound was met.
        path: String,
        /// Bytes that a version may have.
        max: ByteCount,
    },
    /// There are too many entries.
    #[error("There are more than {max} files, folders and links, which an agent may have")]
    TooMany {
        /// How many a version may have.
        max: u32,
    },
    /// The archive as such is wrong.
    #[error("The archive {0}")]
    Archive(ArchiveFault),
    /// A file that Ash or the runtime reads has an error in it.
    #[error("{file}:{line}{}: {reason}", column.map(|column| format!(":{column}")).unwrap_or_default())]
    File {
        /// Its path in the folder.
        file: &'static str,
        /// The line, from 1.
        line: usize,
        /// The column, from 1, where it is known.
        column: Option<usize>,
        /// What is wrong, with the key.
        reason: String,
    },
    /// A file that Ash or the runtime reads is none, or none that can be read.
    #[error("{file} {reason}")]
    Unreadable {
        /// Its path in the folder.
        file: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// Content in JSON is not base64.
    #[error("{field} is not base64")]
    Base64 {
        /// The field.
        field: String,
    },
    /// A field of the request is not as it should be.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Folders on the server may not be deployed from there.
    #[error("The folder \"{}\" does not lie in one that agents.path_roots of the server's configuration allows", path.display())]
    NotAllowed {
        /// The folder that was asked for.
        path: PathBuf,
    },
    /// The folder on the server can not be read.
    #[error("The folder \"{}\" can not be deployed: \"{entry}\" can not be read: {source}", path.display())]
    Folder {
        /// The folder that was asked for.
        path: PathBuf,
        /// What in it could not be read, fit for printing.
        entry: String,
        /// Why.
        source: io::Error,
    },
    /// There is no version of this name on this host.
    #[error("There is no agent version {0}")]
    NoVersion(super::Digest),
    /// An added file has the place of a folder, or lies below what is no folder.
    #[error("\"{path}\" can not be put into the agent's folder, as \"{obstacle}\" is in its way")]
    Overlay {
        /// The added file.
        path: String,
        /// What is there.
        obstacle: String,
    },
    /// The sender's stream broke.
    #[error("The upload ended with an error")]
    Upload(#[source] io::Error),
    /// The packed version could not be handed over.
    #[error("The packed agent could not be written")]
    Output(#[source] io::Error),
    /// This host failed.
    #[error("The server could not {step} {}", path.display())]
    Host {
        /// What failed.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is wrong with an archive. The texts fit after "The archive".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveFault {
    /// It has no bytes.
    #[error("is empty")]
    Empty,
    /// It is compressed.
    #[error("is compressed; send a plain tar archive")]
    Compressed,
    /// It is something else than tar.
    #[error("is not a tar archive")]
    NotTar,
    /// A header does not fit its checksum or holds something that is no number.
    #[error("has a broken header after entry {after}")]
    Header {
        /// How many headers came before.
        after: u64,
    },
    /// It ends within an entry, or without the mark of its end.
    #[error("ends too early, after entry {after}")]
    Truncated {
        /// How many headers came before.
        after: u64,
    },
    /// A header extension is too large, or not as POSIX has it.
    #[error("has a header extension that is too large or malformed, after entry {after}")]
    Extension {
        /// How many headers came before.
        after: u64,
    },
    /// An extension gives a file another size than its header. Readers that believe one or the
    /// other would see different entries.
    #[error("gives an entry two sizes, after entry {after}")]
    TwoSizes {
        /// How many headers came before.
        after: u64,
    },
    /// Something stands after its end.
    #[error("has more data after its end")]
    Trailing,
}

impl ContentError {
    /// The field of the request that is at fault, if it is one: `name`, `files[3].content`, `path`.
    pub fn field(&self) -> Option<String> {
        match self {
            Self::Entry { field, .. } => field.clone(),
            Self::Base64 { field } => Some(field.clone()),
            Self::Field(error) => Some(error.field.clone()),
            Self::NotAllowed { .. } | Self::Folder { .. } => Some("path".to_owned()),
            _ => None,
        }
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::FileTooLarge { .. } | Self::TooLarge { .. } | Self::TooMany { .. } => Blame::TooLarge,
            Self::Upload(_) => Blame::Sender,
            Self::NoVersion(_) | Self::Output(_) | Self::Host { .. } => Blame::Host,
            _ => Blame::Content,
        }
    }

    /// An entry that is refused, with no field of its own.
    pub(super) fn entry(path: impl AsRef<[u8]>, fault: EntryFault) -> Self {
        Self::Entry { field: None, path: super::entry::show(path.as_ref()), fault }
    }

    /// A failure of this host, for `map_err`.
    pub(super) fn host(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Host { step, path, source }
    }
}
