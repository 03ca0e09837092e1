//! What can be wrong with a snapshot, or with the place where snapshots are kept.

use std::io;
use std::path::Path;

use nix::errno::Errno;

use super::format::{Checksum, FORMAT, MANIFEST_MAX, SnapshotId};

/// Why an operation was not carried out. What existed before is as it was, and of what was to be
/// written nothing exists.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is no such snapshot.
    #[error("{0} is not there")]
    NotFound(SnapshotId),
    /// It is there, and is not what was written. It will not mend.
    #[error("{id} is damaged: {damage}")]
    Damaged {
        /// The snapshot.
        id: SnapshotId,
        /// What is wrong with it.
        damage: Damage,
    },
    /// A newer release of Ash wrote it. Nothing is wrong with it, that release reads it.
    #[error("{id} has format {format}, which needs a newer release of Ash: this one reads up to format {FORMAT}")]
    Newer {
        /// The snapshot.
        id: SnapshotId,
        /// Its format.
        format: u64,
    },
    /// There is no room for it: the disk or somebody's quota of it is full.
    #[error("no room left to {step} {place}")]
    Full {
        /// What was tried.
        step: &'static str,
        /// On what.
        place: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The place where snapshots are kept can not be used now: it is read-only, may not be
    /// entered, or fails. It may work again later.
    #[error("can not {step} {place}")]
    Unavailable {
        /// What was tried.
        step: &'static str,
        /// On what.
        place: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The place where snapshots are kept is of a kind that this release does not know.
    #[error("snapshots can not be kept in {0:?}, only in a folder such as \"file:///var/lib/ash/snapshots\"")]
    Location(String),
    /// What came to be packed is no whole tar archive, which ends in two blocks of zeros: whoever
    /// sent it stopped early.
    #[error("the archive for {id} breaks off after {bytes} bytes")]
    Incomplete {
        /// The snapshot that was to be.
        id: SnapshotId,
        /// How much came.
        bytes: u64,
    },
    /// The id of an event counts from 0.
    #[error("{0} can not be, as no event has a negative id")]
    Event(SnapshotId),
    /// What is to be said about it is too much.
    #[error("the manifest of {0} has more than {MANIFEST_MAX} bytes")]
    ManifestTooLarge(SnapshotId),
    /// The thread that worked on it was ended, because the daemon stops.
    #[error("work on the snapshot was given up")]
    GivenUp,
}

/// What is wrong with a snapshot that is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// One of its two parts is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// One of its parts is not a regular file.
    #[error("its {0} is not a file")]
    NotAFile(&'static str),
    /// Its manifest was changed, or was never finished.
    #[error("its manifest does not match its own checksum")]
    ManifestChecksum,
    /// Its manifest is whole, but says what can not be.
    #[error("its manifest can not be read: {0}")]
    Manifest(String),
    /// It was moved here from elsewhere.
    #[error("its manifest is that of {0}")]
    Moved(SnapshotId),
    /// Its data has another size than when it was written.
    #[error("its data has {found} bytes instead of {said}")]
    Size {
        /// What the manifest says.
        said: u64,
        /// What there is.
        found: u64,
    },
    /// Its data is not what was written.
    #[error("its data has the checksum {found} instead of {said}")]
    Data {
        /// What the manifest says.
        said: Checksum,
        /// What there is.
        found: Checksum,
    },
    /// Its data can not be decompressed.
    #[error("its data can not be decompressed: {0}")]
    Compression(String),
    /// Its data decompresses to more than was packed.
    #[error("it holds more than the {0} bytes that its manifest says")]
    TooLong(u64),
    /// Its data decompresses to less than was packed.
    #[error("it holds {found} bytes instead of {said}")]
    TooShort {
        /// What the manifest says.
        said: u64,
        /// What there is.
        found: u64,
    },
    /// Its data decompresses to something else than was packed.
    #[error("its content has the checksum {found} instead of {said}")]
    Content {
        /// What the manifest says.
        said: Checksum,
        /// What there is.
        found: Checksum,
    },
}

impl SnapshotError {
    /// A failure of the host, for `map_err`.
    pub(super) fn host(step: &'static str, place: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let place = place.as_ref().display().to_string();
            match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOSPC | Errno::EDQUOT) => Self::Full { step, place, source },
                _ => Self::Unavailable { step, place, source },
            }
        }
    }

    /// Something is wrong with a snapshot, for `map_err`.
    pub(super) fn damaged(id: SnapshotId) -> impl FnOnce(Damage) -> Self {
        move |damage| Self::Damaged { id, damage }
    }
}
