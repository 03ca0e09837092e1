//! The tree of a version, and the digest that names it.
//!
//! The digest is SHA-256 over this text, in which every line ends with a newline and fields are
//! apart by one tab; neither is allowed in paths and targets:
//!
//! ```text
//! ash-agent-content 1
//! d  <path>                                   a folder, empty or not
//! f  <path>  <size>  <SHA-256 in hex>         a file
//! x  <path>  <size>  <SHA-256 in hex>         a file which its owner may execute
//! l  <path>  <target>                         a symbolic link
//! ```
//!
//! The first line is the version of this form. The entries follow in the order of the bytes of
//! their paths; the folder itself is not among them. Times, owners, all other mode bits, and the
//! order, encoding and number of headers in an archive do not count. A hard link is a file.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use super::entry::EntryFault;

const FORM: &str = "ash-agent-content 1\n";
const PREFIX: &str = "sha256:";
/// Links that are followed to find a file.
const HOPS_MAX: usize = 16;

/// Names a version by its content. Text form: `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is not a [`Digest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: \"sha256:\" and 64 lower-case hex digits")]
pub struct DigestError;

impl Digest {
    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hex digits alone, which also name the version's folder.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits = text.strip_prefix(PREFIX).ok_or(DigestError)?.as_bytes();
        if digits.len() != 64 {
            return Err(DigestError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn value(digit: u8) -> Result<u8, DigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestError),
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Folder,
    File { executable: bool, size: u64, sha256: [u8; 32] },
    Link { target: String },
}

/// All entries of a version by their clean path.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Puts a node in, over whatever was there. The caller has made sure of its place.
    pub(super) fn put(&mut self, path: String, node: Node) {
        self.nodes.insert(path, node);
    }

    /// The folders that have to be made, outermost first, before something can be put at `path`.
    pub(super) fn missing_parents(&self, path: &str) -> Result<Vec<String>, EntryFault> {
        let mut missing = Vec::new();
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            match self.nodes.get(parent) {
                Some(Node::Folder) => {}
                Some(_) => return Err(EntryFault::ParentNotFolder { parent: parent.to_owned() }),
                None => missing.push(parent.to_owned()),
            }
        }
        Ok(missing)
    }

    /// What a path leads to when links are followed, and the path it lies at. `None` if it leads
    /// nowhere or in circles.
    pub(super) fn resolve(&self, path: &str) -> Option<(String, &Node)> {
        let mut ahead: VecDeque<&str> = path.split('/').collect();
        let mut at: Vec<&str> = Vec::new();
        let mut hops = 0;
        while let Some(component) = ahead.pop_front() {
            match component {
                "" | "." => continue,
                ".." => {
                    at.pop()?;
                    continue;
                }
                name => at.push(name),
            }
            let here = at.join("/");
            match self.nodes.get(&here)? {
                Node::Link { target } => {
                    hops += 1;
                    if hops > HOPS_MAX {
                        return None;
                    }
                    at.pop();
                    target.split('/').rev().for_each(|part| ahead.push_front(part));
                }
                node if ahead.is_empty() => return Some((here, node)),
                Node::Folder => {}
                Node::File { .. } => return None,
            }
        }
        None
    }

    /// The digest of the whole.
    pub(super) fn digest(&self) -> Digest {
        let mut sum = Sha256::new();
        sum.update(FORM);
        for (path, node) in &self.nodes {
            sum.update(match node {
                Node::Folder => format!("d\t{path}\n"),
                Node::File { executable, size, sha256 } => {
                    format!("{}\t{path}\t{size}\t{}\n", if *executable { 'x' } else { 'f' }, hex(sha256))
                }
                Node::Link { target } => format!("l\t{path}\t{target}\n"),
            });
        }
        Digest(sum.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(nodes: &[(&str, Node)]) -> Tree {
        Tree { nodes: nodes.iter().map(|(path, node)| ((*path).to_owned(), node.clone())).collect() }
    }

    fn link(target: &str) -> Node {
        Node::Link { target: target.to_owned() }
    }

    const FILE: Node = Node::File { executable: false, size: 0, sha256: [0xe3; 32] };

    #[test]
    fn digests_have_one_spelling() {
        let digest = Tree::default().digest();
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for text in
            ["", "sha256:", &digest.hex(), &digest.to_string().to_uppercase(), &format!("{digest}0"), &digest.to_string()[..70]]
        {
            assert_eq!(text.parse::<Digest>(), Err(DigestError), "{text}");
        }
        assert_eq!(format!("sha256:{}", "g".repeat(64)).parse::<Digest>(), Err(DigestError));
    }

    /// The form may never change, as every stored digest would: the expected value was made with
    /// `printf … | sha256sum`.
    #[test]
    fn the_form_is_the_documented_one() {
        let script = Node::File { executable: true, size: 3, sha256: [0x0a; 32] };
        let tree = tree(&[("a", Node::Folder), ("a/run", script), ("b", FILE), ("l", link("a/run"))]);
        assert_eq!(tree.digest().hex(), "694b6698fcd5f58aa78257ee3114cf0f3e8417a195c7410b8eb23e861b542abf");
        assert_eq!(Tree::default().digest().hex(), "f9f5f75ee8bd90e93ed910c94e3a06019a661b4344ef2914e5e05c0a9bc9c827");
    }

    #[test]
    fn everything_that_counts_changes_it() {
        let file = |executable, size, byte| Node::File { executable, size, sha256: [byte; 32] };
        let all = [
            tree(&[]),
            tree(&[("a", Node::Folder)]),
            tree(&[("b", Node::Folder)]),
            tree(&[("a", file(false, 1, 1))]),
            tree(&[("a", file(true, 1, 1))]),
            tree(&[("a", file(false, 2, 1))]),
            tree(&[("a", file(false, 1, 2))]),
            tree(&[("a", link("b"))]),
            tree(&[("a", link("c"))]),
        ];
        let digests: std::collections::BTreeSet<Digest> = all.iter().map(Tree::digest).collect();
        assert_eq!(digests.len(), all.len());
    }

    #[test]
    fn links_are_followed_inside_the_tree() {
        let tree = tree(&[
            ("d", Node::Folder),
            ("d/f", FILE),
            ("d/up", link("../top")),
            ("top", link("d/f")),
            ("folder", link("d")),
            ("loop", link("loop")),
            ("nowhere", link("none")),
        ]);
        for (path, at) in [("d/f", Some("d/f")), ("d/up", Some("d/f")), ("folder/up", Some("d/f")), ("folder", Some("d"))] {
            assert_eq!(tree.resolve(path).map(|(at, _)| at).as_deref(), at, "{path}");
        }
        for path in ["loop", "nowhere", "none", "d/f/x", "", ".."] {
            assert_eq!(tree.resolve(path), None, "{path}");
        }
    }

    #[test]
    fn parents_are_folders() {
        let tree = tree(&[("d", Node::Folder), ("f", FILE), ("l", link("d"))]);
        assert_eq!(tree.missing_parents("d/x/y/z"), Ok(vec!["d/x".to_owned(), "d/x/y".to_owned()]));
        assert_eq!(tree.missing_parents("x"), Ok(Vec::new()));
        for parent in ["f", "l"] {
            let fault = EntryFault::ParentNotFolder { parent: parent.to_owned() };
            assert_eq!(tree.missing_parents(&format!("{parent}/x")), Err(fault));
        }
    }
}
