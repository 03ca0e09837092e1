//! Files in a snapshot: an archive, read from its beginning until the one that is wanted comes by.

use std::collections::BTreeMap;
use std::io::{self, BufReader};

use bytes::Bytes;
use tar::EntryType;
use tokio::sync::{mpsc, oneshot};

use super::{FileError, LIST_MAX, Listed};
use crate::archive::WORK;
use crate::archive::stream::{Dialect, Entry, Stream};
use crate::link::files::Refusal;
use crate::link::shim::WORKSPACE_INSIDE;
use crate::report::chain;
use crate::session::SessionError;
use crate::session::bundle::Chunks;
use crate::wire::Timestamp;

const BUFFER: usize = 128 << 10;
/// Bytes of the paths that are remembered, with [`NODE_BYTES`] for each entry.
const INDEX_BYTES_MAX: usize = 64 << 20;
/// About what an entry takes in memory, without its path and where it points.
const NODE_BYTES: usize = 100;
/// Steps of all links of one list, or of one path: a name is one, with one for each 64 bytes of the path to it, and
/// so is a byte of where a link points. Takes some seconds.
const STEPS_MAX: usize = 10_000_000;
/// Links that are followed for one path, as by Linux, path_resolution(7).
const LINKS_MAX: usize = 40;

/// What is looked for.
#[derive(Debug)]
pub enum Wanted {
    /// A file of this path.
    File {
        /// Its path.
        path: Vec<u8>,
        /// The bytes that it may have.
        max: u64,
    },
    /// All files but those of these names, and what is below them.
    List(Vec<&'static str>),
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// The file, which has so many bytes; they follow, if they are not too many.
    File(u64),
    /// No file of this path, which leads through links to this one, where there may be a file.
    Other(Vec<u8>),
    /// The files that there are, at most [`LIST_MAX`], and whether there are more.
    List(Vec<Listed>, bool),
}

/// What is in a workspace, by its path.
#[derive(Debug)]
struct Index {
    nodes: BTreeMap<Vec<u8>, Node>,
    /// Bytes for which there is room.
    room: usize,
}

#[derive(Debug)]
enum Node {
    Folder,
    File {
        size: u64,
        modified_at: Timestamp,
    },
    /// Another name of the file of this path.
    Same(Vec<u8>),
    /// A symbolic link.
    Link(Vec<u8>),
}

/// Reads an archive until there is what is `wanted`, or nobody waits for it. The bytes of a file are sent, until
/// `send` says that nobody wants them. `place` is given back when all that was remembered is forgotten. Blocks.
pub fn scan<P>(
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    wanted: Wanted,
    found: oneshot::Sender<Result<Found, SessionError>>,
    mut send: impl FnMut(Result<Bytes, SessionError>) -> bool,
    place: P,
) {
    let mut stream = Stream::new(BufReader::with_capacity(BUFFER, Chunks::new(chunks)), Dialect::Own);
    let mut index = Index::new(INDEX_BYTES_MAX);
    let failed = |error: &(dyn std::error::Error + 'static)| SessionError::Download(chain(error));
    let result = loop {
        if found.is_closed() {
            return;
        }
        let entry = match stream.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break index.answer(&wanted),
            Err(error) => break Err(failed(&error)),
        };
        let Some(path) = below(entry.path.as_encoded_bytes()) else { continue };
        if let Wanted::File { path: wanted, max } = &wanted
            && matches!(entry.kind, EntryType::Regular | EntryType::GNUSparse)
        {
            // Links lead to a path. Whether there is a file is seen when that is looked for.
            if wanted != path {
                continue;
            }
            drop((index, place));
            // Who does not wait for it does not take it either.
            if found.send(Ok(Found::File(entry.size))).is_ok()
                && entry.size <= *max
                && let Err(error) = content(&mut stream, &entry, &mut send)
            {
                send(Err(failed(&error)));
            }
            return;
        }
        if !index.add(path, &entry) {
            break Err(SessionError::Download(format!("the names in its snapshot have more than {INDEX_BYTES_MAX} bytes")));
        }
    };
    drop((index, place));
    // As above.
    let _ = found.send(result);
}

/// What of a path in a snapshot lies below the workspace. That of a folder ends in a slash.
fn below(path: &[u8]) -> Option<&[u8]> {
    let path = path.strip_prefix(WORK.as_bytes())?.strip_prefix(b"/")?;
    Some(path.strip_suffix(b"/").unwrap_or(path)).filter(|path| !path.is_empty())
}

/// Sends the bytes of a file, with zeros where it has holes.
fn content(
    stream: &mut Stream<impl io::Read>,
    entry: &Entry,
    send: &mut impl FnMut(Result<Bytes, SessionError>) -> bool,
) -> Result<(), crate::archive::stream::StreamError> {
    let mut at = 0;
    for (start, length) in entry.pieces.iter().copied().chain([(entry.size, 0)]) {
        while at < start {
            let zeros = usize::try_from(start - at).unwrap_or(BUFFER).min(BUFFER);
            at += zeros as u64;
            if !send(Ok(vec![0; zeros].into())) {
                return Ok(());
            }
        }
        while at < start + length {
            let mut piece = vec![0; usize::try_from(start + length - at).unwrap_or(BUFFER).min(BUFFER)];
            stream.read(&mut piece)?;
            at += piece.len() as u64;
            if !send(Ok(piece.into())) {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Index {
    const fn new(room: usize) -> Self {
        Self { nodes: BTreeMap::new(), room }
    }

    /// Whether there was room for it.
    fn add(&mut self, path: &[u8], entry: &Entry) -> bool {
        let millis = i64::try_from(entry.mtime.div_euclid(1_000_000)).unwrap_or_default();
        let node = match entry.kind {
            EntryType::Directory => Node::Folder,
            EntryType::Regular | EntryType::GNUSparse => Node::File { size: entry.size, modified_at: Timestamp(millis) },
            EntryType::Link => Node::Same(below(&entry.target).unwrap_or_default().to_owned()),
            EntryType::Symlink => Node::Link(entry.target.clone()),
            _ => return true,
        };
        let Some(room) = self.room.checked_sub(path.len() + entry.target.len() + NODE_BYTES) else { return false };
        self.room = room;
        self.nodes.insert(path.to_owned(), node);
        true
    }

    /// What is said when the archive is over.
    fn answer(&self, wanted: &Wanted) -> Result<Found, SessionError> {
        match wanted {
            Wanted::File { path, .. } => {
                let mut steps = STEPS_MAX;
                let other = self.find(path, &mut steps)?;
                // That would have been found.
                if other == *path { Err(FileError::Refused(Refusal::Missing).into()) } else { Ok(Found::Other(other)) }
            }
            Wanted::List(excludes) => {
                let (files, is_cut) = self.list(excludes, LIST_MAX, STEPS_MAX);
                Ok(Found::List(files, is_cut))
            }
        }
    }

    /// The files, also those that links lead to, without names that are left out and what is below them. At most
    /// `max`, and so many as links lead to in these steps; whether there may be more.
    fn list(&self, excludes: &[&str], max: usize, mut steps: usize) -> (Vec<Listed>, bool) {
        let is_left_out =
            |path: &[u8]| path.split(|byte| *byte == b'/').any(|name| excludes.iter().any(|one| one.as_bytes() == name));
        let mut files = Vec::new();
        for (path, node) in self.nodes.iter().filter(|(path, _)| !is_left_out(path)) {
            let node = match node {
                Node::Link(_) => self.find(path, &mut steps).ok().and_then(|found| self.nodes.get(&found)),
                Node::Same(other) => self.nodes.get(other),
                node => Some(node),
            };
            if steps == 0 || files.len() > max {
                break;
            }
            if let Some(Node::File { size, modified_at }) = node {
                files.push(Listed { path: path.clone(), size: *size, modified_at: *modified_at });
            }
        }
        let is_cut = steps == 0 || files.len() > max;
        files.truncate(max);
        (files, is_cut)
    }

    /// The path to which this one leads, through links that stay in the workspace. There may be a file, or nothing.
    /// It is missing when `steps` are used up.
    fn find<'a>(&'a self, path: &'a [u8], steps: &mut usize) -> Result<Vec<u8>, FileError> {
        let refused = |refusal| Err(FileError::Refused(refusal));
        let names = |path: &'a [u8]| path.split(|byte| *byte == b'/').rev();
        let (mut left, mut at, mut links) = (names(path).collect::<Vec<_>>(), Vec::new(), 0);
        while let Some(name) = left.pop() {
            *steps = steps.saturating_sub(1 + at.len() / 64);
            if *steps == 0 {
                return refused(Refusal::Missing);
            }
            match name {
                b"" | b"." => continue,
                b".." if at.is_empty() => return refused(Refusal::Outside),
                b".." => {
                    at.truncate(parent(&at).len());
                    continue;
                }
                _ if at.is_empty() => at.extend_from_slice(name),
                _ => at.extend([b"/", name].concat()),
            }
            match self.nodes.get(&at) {
                Some(Node::Link(target)) => {
                    links += 1;
                    *steps = steps.saturating_sub(target.len());
                    if links > LINKS_MAX {
                        return refused(Refusal::Missing);
                    }
                    at.truncate(parent(&at).len());
                    let inside = target.strip_prefix(WORKSPACE_INSIDE.as_bytes());
                    match inside.filter(|rest| rest.first().is_none_or(|byte| *byte == b'/')) {
                        Some(rest) => {
                            at.clear();
                            left.extend(names(rest));
                        }
                        None if target.starts_with(b"/") => return refused(Refusal::Outside),
                        None => left.extend(names(target)),
                    }
                }
                Some(Node::Folder) => {}
                Some(Node::File { .. } | Node::Same(_)) | None if left.is_empty() => {}
                Some(Node::File { .. } | Node::Same(_)) | None => return refused(Refusal::Missing),
            }
        }
        match self.nodes.get(&at) {
            Some(Node::Same(other)) => Ok(other.clone()),
            Some(Node::File { .. }) => Ok(at),
            None if !at.is_empty() => Ok(at),
            _ => refused(Refusal::NotFile),
        }
    }
}

/// The path of the folder that this one lies in.
fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let file = |size| Node::File { size, modified_at: Timestamp(0) };
        let link = |target: &str| Node::Link(target.as_bytes().to_vec());
        let nodes = [
            ("a", Node::Folder),
            ("a/b", Node::Folder),
            ("a/b/file", file(7)),
            ("a/node_modules", Node::Folder),
            ("a/node_modules/x", file(1)),
            ("absolute", link("/work/a/b/file")),
            ("dangling", link("a/nothing")),
            ("hard", Node::Same(b"a/b/file".to_vec())),
            ("inward", link("./a//b/../b/file")),
            ("loop", link("loop")),
            ("nearly", link("/workshop/x")),
            ("outward", link("../secret")),
            ("passwd", link("/etc/passwd")),
            ("way", link("a/b")),
            ("work", link("/work")),
        ];
        Index { nodes: nodes.map(|(path, node)| (path.as_bytes().to_vec(), node)).into(), room: 0 }
    }

    #[test]
    fn paths_lead_through_links_that_stay_inside() {
        let index = index();
        let find = |path: &str| {
            let mut steps = STEPS_MAX;
            let found = index.find(path.as_bytes(), &mut steps);
            found.map(|found| String::from_utf8(found).expect("text"))
        };
        for path in ["a/b/file", "absolute", "hard", "inward", "way/file", "work/way/file", "way/../b/file"] {
            assert_eq!(find(path).as_deref(), Ok("a/b/file"), "{path}");
        }
        for (path, refusal) in [
            ("missing/x", Refusal::Missing),
            ("a/b/file/x", Refusal::Missing),
            ("hard/x", Refusal::Missing),
            ("loop", Refusal::Missing),
            ("a", Refusal::NotFile),
            ("way", Refusal::NotFile),
            ("work", Refusal::NotFile),
            ("outward", Refusal::Outside),
            ("nearly", Refusal::Outside),
            ("passwd", Refusal::Outside),
        ] {
            assert_eq!(find(path), Err(FileError::Refused(refusal)), "{path}");
        }
        // Whether there is a file is not known before it is looked for.
        assert_eq!(find("dangling").as_deref(), Ok("a/nothing"));
        assert_eq!(find("missing").as_deref(), Ok("missing"));
    }

    #[test]
    fn a_list_has_files_and_what_links_lead_to() {
        let (listed, is_cut) = index().list(&["node_modules"], 4, STEPS_MAX);
        let paths: Vec<_> = listed.iter().map(|one| (String::from_utf8_lossy(&one.path).into_owned(), one.size)).collect();
        let wanted = ["a/b/file", "absolute", "hard", "inward"].map(|path| (path.to_owned(), 7));
        assert_eq!((&paths[..], is_cut), (&wanted[..], false));
        let (listed, is_cut) = index().list(&["node_modules"], 3, STEPS_MAX);
        assert_eq!((listed.len(), is_cut), (3, true));
    }

    #[test]
    fn links_of_a_list_are_followed_for_so_many_steps_in_all() {
        let deep = "x/".repeat(100);
        let folders = (1..=100).map(|depth| ("x/".repeat(depth).trim_end_matches('/').to_owned(), Node::Folder));
        let links = (0..1000).map(|at| (format!("link{at:04}"), Node::Link(format!("{deep}nothing").into_bytes())));
        let file = ("a".to_owned(), Node::File { size: 1, modified_at: Timestamp(0) });
        let nodes = folders.chain(links).chain([file]).map(|(path, node)| (path.into_bytes(), node)).collect();
        let index = Index { nodes, room: 0 };
        let (listed, is_cut) = index.list(&[], LIST_MAX, 10_000);
        assert_eq!((listed.len(), is_cut), (1, true));
        // A link takes 102 names, some of them twice or more as the paths to them are long, and 207 bytes of a target.
        let mut steps = 1000;
        assert_eq!(index.find(b"link0000", &mut steps).map(|found| found.len()), Ok(deep.len() + 7));
        assert!((500..700).contains(&steps), "{steps}");
        assert_eq!(index.find(b"link0000", &mut 300), Err(FileError::Refused(Refusal::Missing)));
    }

    fn header(kind: EntryType, name: &str) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_path(format!("{WORK}/{name}")).expect("a path");
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn entries(bytes: &[u8]) -> Vec<Entry> {
        let mut stream = Stream::new(bytes, Dialect::Own);
        std::iter::from_fn(|| stream.next().expect("reads")).collect()
    }

    #[test]
    fn an_index_has_so_many_bytes_of_names() {
        let entry = &entries(&[header(EntryType::Regular, "a"), vec![0; 1024]].concat())[0];
        let mut index = Index::new(2 * NODE_BYTES + 10);
        assert!(index.add(b"short", entry));
        assert!(!index.add(b"longer", entry));
        assert!(index.add(b"other", entry));
        assert!(!index.add(b"", entry));
        assert_eq!(index.nodes.len(), 2);
    }

    /// How many of very many files an archive can get rid of while it is scanned.
    fn scanned(wanted: Wanted, found: oneshot::Sender<Result<Found, SessionError>>) -> usize {
        let (to, chunks) = mpsc::channel(1);
        let archive = std::thread::spawn(move || {
            let file = header(EntryType::Regular, "file");
            let taken = (0..1000).take_while(|_| to.blocking_send(Ok(file.clone())).is_ok()).count();
            // Is not heard any more where the scan has ended.
            let _ = to.blocking_send(Ok(vec![0; 1024]));
            taken
        });
        scan(chunks, wanted, found, |_| true, ());
        archive.join().expect("no panic")
    }

    #[test]
    fn a_scan_ends_when_nobody_waits_for_it() {
        let (found, is_found) = oneshot::channel();
        drop(is_found);
        assert!(scanned(Wanted::List(Vec::new()), found) < 1000);
        let (found, mut is_found) = oneshot::channel();
        assert_eq!(scanned(Wanted::List(Vec::new()), found), 1000);
        assert!(matches!(is_found.try_recv(), Ok(Ok(Found::List(files, false))) if files.len() == 1));
    }

    #[test]
    fn the_place_of_a_scan_is_held_until_nothing_is_remembered() {
        let place = std::sync::Arc::new(());
        let archive = [header(EntryType::Regular, "file"), vec![0; 1024]].concat();
        for name in ["file", "missing"] {
            let (to, chunks) = mpsc::channel(1);
            to.try_send(Ok(archive.clone())).expect("room");
            drop(to);
            let (found, mut is_found) = oneshot::channel();
            let held = std::sync::Arc::clone(&place);
            scan(chunks, Wanted::File { path: name.into(), max: 9 }, found, |_| true, held);
            assert_eq!(std::sync::Arc::strong_count(&place), 1);
            let is_file = matches!(is_found.try_recv(), Ok(Ok(Found::File(0))));
            assert_eq!(is_file, name == "file");
        }
    }
}
