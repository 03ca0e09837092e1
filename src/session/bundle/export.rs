//! A bundle that goes out: the workspace of an archive of Ash's own.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::EntryType;

use super::lay::{copy, write_header};
use super::outward;
use crate::archive::entry;
use crate::archive::exclude::Excludes;
use crate::archive::stream::{Dialect, Stream, StreamError};
use crate::archive::{WORK, components};

const BUFFER: usize = 128 << 10;

/// Why a bundle breaks off.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// What it is made of can not be read on.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// That goes on after its end.
    #[error("the archive goes on after its end")]
    Trailing,
    /// Nobody takes it.
    #[error("write the bundle")]
    Write(#[source] io::Error),
}

/// Makes a bundle of what `init pack` packed. Without `all` it has no links that lead out of the
/// workspace, since what comes out may be put in again.
pub fn export(from: impl Read, excludes: &Excludes, all: bool, to: impl Write) -> Result<(), ExportError> {
    let mut stream = Stream::new(BufReader::with_capacity(BUFFER, from), Dialect::Own);
    let gzip = GzEncoder::new(BufWriter::with_capacity(BUFFER, to), Compression::fast());
    let mut to = BufWriter::with_capacity(BUFFER, gzip);
    let mut buffer = vec![0; BUFFER];
    // The folder that is left out, whose contents follow it.
    let mut left_out: Option<Vec<u8>> = None;
    while let Some(entry) = stream.next()? {
        let path = entry.path.as_bytes();
        let Some(rest) = inside(path) else { continue };
        let is_folder = entry.kind == EntryType::Directory;
        let names: Vec<&[u8]> = rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        if left_out.as_ref().is_some_and(|folder| path.starts_with(folder)) {
            continue;
        }
        if !names.is_empty() && excludes.matches(&names, is_folder) {
            left_out = is_folder.then(|| path.to_vec());
            continue;
        }
        let target = match entry.kind {
            EntryType::Symlink if !all && outward(names.len() - 1, &entry.target).is_some() => continue,
            // To a file that is left out: it has no other contents here.
            EntryType::Link => match inside(&entry.target).filter(|target| !is_excluded(excludes, target)) {
                Some(target) => [b"./", target].concat(),
                None => continue,
            },
            _ => entry.target.clone(),
        };
        let length = entry.pieces.iter().map(|(_, length)| length).sum();
        write_header(&entry, &[b"./", rest].concat(), entry.mode, &target, &mut to).map_err(ExportError::Write)?;
        copy(&mut stream, length, &mut buffer, |bytes| to.write_all(bytes).map_err(ExportError::Write), ExportError::Stream)?;
        entry::pad(&mut to, length).map_err(ExportError::Write)?;
    }
    // Whoever sends it says only after the last byte whether it was all.
    if !stream.is_over(0)? {
        return Err(ExportError::Trailing);
    }
    entry::end(&mut to).map_err(ExportError::Write)?;
    let gzip = to.into_inner().map_err(|error| ExportError::Write(error.into_error()))?;
    gzip.finish().and_then(|mut to| to.flush()).map_err(ExportError::Write)
}

/// What of a path lies below the workspace, if it does and stays there.
fn inside(path: &[u8]) -> Option<&[u8]> {
    let rest = path.strip_prefix(WORK.as_bytes())?;
    components(Path::new(std::ffi::OsStr::from_bytes(path))).ok()?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

fn is_excluded(excludes: &Excludes, path: &[u8]) -> bool {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    (1..=names.len()).any(|count| excludes.matches(&names[..count], count < names.len()))
}
