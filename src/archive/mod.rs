//! Tar archives of workspaces: how they are written, how they are read, what they leave out.
//!
//! | module | holds |
//! | --- | --- |
//! | [`entry`] | what is written: the one dialect of Ash's own archives |
//! | [`stream`] | entries as they are read, of Ash's own archives or of anybody's |
//! | [`exclude`] | patterns for what is left out |
//!
//! Nothing here touches a file system: names are bytes, and whoever writes them to one has to hold
//! them against it.

pub mod entry;
pub mod exclude;
pub mod stream;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// The workspace in an archive of a snapshot.
pub const WORK: &str = "work";
/// HOME in an archive of a snapshot.
pub const HOME: &str = "home";
/// Size of the blocks that an archive is made of.
pub const BLOCK: u64 = 512;
/// Longest path in an archive. Paths below folders that lie deep may be longer than the kernel's.
pub const PATH_MAX: usize = 64 << 10;
/// Names and values of the attributes of one file, in bytes; what is more is left out.
pub const ATTRIBUTES_MAX: usize = 64 << 10;
/// Pieces of a file with holes. In a file with more, the smallest holes are filled.
pub const PIECES_MAX: usize = 1 << 20;

/// A path for people: of a very long one its ends.
pub fn shown(path: &[u8]) -> PathBuf {
    const PART: usize = 100;
    let bytes = match path.len() {
        0..=300 => path.to_vec(),
        length => [&path[..PART], b"[...]", &path[length - PART..]].concat(),
    };
    OsString::from_vec(bytes).into()
}

/// The names of a path in an archive, if it stays inside.
pub fn components(path: &Path) -> Result<Vec<&OsStr>, &'static str> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if name.as_bytes().contains(&0) => return Err("has a NUL in its name"),
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("climbs out with '..'"),
            Component::RootDir | Component::Prefix(_) => return Err("is absolute"),
        }
    }
    Ok(names)
}
