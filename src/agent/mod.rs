//! Agents: from what somebody uploads to an immutable version.
//!
//! ```text
//! tar archive ──archive──┐
//! files in JSON ─────────┤                 ┌ checks ┐
//! folder here ──folder───┼──▶ staging ─────┤ digest ├──▶ <data>/agents/<digest> ──export──▶ tar
//! prompt alone ──────────┘   (on disk)     └  sync  ┘        (never changed)
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`name`] | names of agents and of environment variables |
//! | [`error`] | everything that can be wrong with an upload |
//! | [`entry`] | paths and link targets: what one may look like |
//! | [`digest`] | the tree of a version, and its name |
//! | `staging` | a version that is being written |
//! | `archive`, `folder` | where the entries come from |
//! | [`manifest`] | `ash.toml`, `.claude/settings.json` and `.mcp.json` of an agent |
//! | [`versions`] | the versions of this host |
//! | `export` | reading a version, and packing it for a sandbox |
//! | [`service`] | agents by name: which version each one is at |
//! | `files` | single files of the newest version, read and changed |
//! | `prompt_version` | prompts that take the place of `CLAUDE.md` in new sessions |
//!
//! All but the last three are synchronous, and callers run it where blocking is allowed. None knows HTTP.
//! Nothing here trusts an upload: limits count while bytes arrive, nothing is written that was
//! not checked, and links are written last, so that no write can follow one.

mod archive;
pub mod digest;
pub mod entry;
pub mod error;
mod export;
mod files;
mod folder;
pub mod manifest;
pub mod name;
mod prompt_version;
pub mod service;
mod staging;
pub mod versions;

pub use digest::Digest;
pub use error::{Blame, ContentError};
pub use export::{FileInfo, Overlay};
pub use manifest::Definition;
pub use name::{AgentName, check_env};
pub use versions::{ContentLimits, Version, Versions, decode_files};
