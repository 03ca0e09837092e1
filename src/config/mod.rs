//! The daemon's configuration: from files to [`Settings`].
//!
//! ```text
//! files ──text──▶ Fragment (what one file says) ──merge──▶ layers, strongest first ──▶ Settings
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`text`] | TOML with errors that name line, key and the likely spelling; agents use it too |
//! | `fragment` | the keys of one file, exactly as an administrator writes them |
//! | `limits` | the limits of sandboxes in it; agents use it too |
//! | `merge` | which files there are, and which is stronger |
//! | [`settings`] | checked values with their defaults and origins |
//! | [`credential`] | the key of the model API |
//! | [`model`] | where model calls go |
//! | [`prices`] | what model calls cost |
//! | [`runtime`] | where the runtime's program is, and whether sandboxes can run it |
//! | [`files`] | files of tenants that are of no session |
//! | [`schedules`] | how many schedules, and how often |
//! | [`telemetry`] | where traces are sent |
//! | [`webhooks`] | who can be told of events |

pub mod credential;
pub mod files;
mod fragment;
pub(crate) mod limits;
mod merge;
pub mod model;
mod pick;
pub mod prices;
pub mod rate;
pub mod runtime;
pub mod schedules;
pub mod settings;
pub mod telemetry;
pub mod text;
pub mod webhooks;

use std::path::PathBuf;

pub use settings::{Settings, SnapshotPolicy};

/// Where the configuration is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    /// `etc/ash/ash.toml` and the drop-in folders below this root, `/` on a host. None has to exist.
    Root(PathBuf),
    /// This file and no other. It has to exist.
    File(PathBuf),
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or folder can not be read.
    #[error("{} can not be read", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What is in the file's place.
        path: PathBuf,
    },
    /// It is too large to be a configuration.
    #[error("{} has more than {max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        max: u64,
    },
    /// It holds bytes that are no text.
    #[error("{}:{line}: not UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line of the first such byte, from 1.
        line: usize,
    },
    /// What it says can not be used.
    #[error("{}:{line}: {fault}", path.display())]
    Fault {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        fault: text::Fault,
    },
}
