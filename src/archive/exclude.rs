//! Patterns for what of a workspace is left out of a snapshot.
//!
//! Like lines of a `.gitignore`, without its negations and classes:
//!
//! | pattern | leaves out |
//! | --- | --- |
//! | `node_modules`, `*.tmp` | whatever has this name, at any depth |
//! | `build/` | folders of this name, at any depth |
//! | `/data`, `data/cache` | only this path, from the workspace on |
//! | `**/cache/x`, `logs/**` | `**` stands for any number of folders; at the end, for all inside |
//!
//! `*` stands for any characters of one name, `?` for one byte of it, and `\` takes the next
//! character as it is. A folder that is left out takes all that is in it along.

/// Patterns. See the module's documentation.
#[derive(Debug, Default)]
pub struct Excludes(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    parts: Vec<Part>,
    is_anchored: bool,
    only_folders: bool,
}

#[derive(Debug)]
enum Part {
    /// `**`: any number of names.
    Any,
    Name(Vec<Piece>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    One,
    Any,
}

impl Excludes {
    /// Reads patterns. One without any name matches nothing.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(patterns.into_iter().map(Pattern::new).filter(|pattern| !pattern.parts.is_empty()).collect())
    }

    /// Whether any pattern needs more than a name.
    pub fn has_anchored(&self) -> bool {
        self.0.iter().any(|pattern| pattern.is_anchored)
    }

    /// Whether what lies at `path`, names from the workspace on, is left out. Of the names before
    /// the last, only patterns that are anchored take notice.
    pub fn matches(&self, path: &[&[u8]], is_folder: bool) -> bool {
        self.0.iter().any(|pattern| pattern.matches(path, is_folder))
    }
}

impl Pattern {
    fn new(text: &[u8]) -> Self {
        let only_folders = text.ends_with(b"/") && !text.ends_with(b"\\/");
        let trimmed = if only_folders { &text[..text.len() - 1] } else { text };
        let is_anchored = trimmed.contains(&b'/');
        let names = trimmed.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let parts = names.map(|name| if name == b"**" { Part::Any } else { Part::Name(pieces(name)) }).collect();
        Self { parts, is_anchored, only_folders }
    }

    fn matches(&self, path: &[&[u8]], is_folder: bool) -> bool {
        if self.only_folders && !is_folder {
            return false;
        }
        let path = if self.is_anchored { path } else { &path[path.len().saturating_sub(1)..] };
        let is_any = |part: &Part| matches!(part, Part::Any);
        let fits = |part: &Part, name: &&[u8]| match part {
            Part::Any => true,
            Part::Name(pieces) => {
                let fits = |piece: &Piece, byte: &u8| *piece == Piece::One || *piece == Piece::Byte(*byte);
                wild(pieces, name, |piece| *piece == Piece::Any, fits)
            }
        };
        match (self.parts.as_slice(), path) {
            // All that is inside: what is deeper goes with it.
            ([parts @ .., Part::Any], [path @ .., _]) if self.is_anchored => wild(parts, path, is_any, fits),
            (parts, path) => wild(parts, path, is_any, fits),
        }
    }
}

fn pieces(name: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' if pieces.last() == Some(&Piece::Any) => {}
            b'*' => pieces.push(Piece::Any),
            b'?' => pieces.push(Piece::One),
            b'\\' => pieces.push(Piece::Byte(*bytes.next().unwrap_or(&b'\\'))),
            byte => pieces.push(Piece::Byte(*byte)),
        }
    }
    pieces
}

/// Whether a pattern, some of whose parts stand for any number of items, fits all items. Takes no
/// more steps than parts times items: only the last such part is ever tried again.
fn wild<P, I>(parts: &[P], items: &[I], is_any: impl Fn(&P) -> bool, fits: impl Fn(&P, &I) -> bool) -> bool {
    let (mut part, mut item) = (0, 0);
    let mut again = None;
    while item < items.len() {
        match parts.get(part) {
            Some(any) if is_any(any) => {
                again = Some((part, item));
                part += 1;
            }
            Some(one) if fits(one, &items[item]) => {
                part += 1;
                item += 1;
            }
            _ => {
                let Some((any, from)) = again else { return false };
                again = Some((any, from + 1));
                part = any + 1;
                item = from + 1;
            }
        }
    }
    parts[part..].iter().all(is_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let is_folder = path.ends_with('/');
        let path: Vec<_> = path.trim_end_matches('/').split('/').map(str::as_bytes).collect();
        Excludes::new([pattern.as_bytes()]).matches(&path, is_folder)
    }

    #[test]
    fn patterns_mean_what_their_table_says() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("node_modules", &["node_modules/", "a/b/node_modules/", "node_modules"], &["node_modules2", "a/node"]),
            ("*.tmp", &["x.tmp", "a/.tmp", "a/b/c.tmp/"], &["x.tmp2", "tmp", "x.tmp/y"]),
            ("build/", &["build/", "a/build/"], &["build", "a/build", "builds/"]),
            ("/data", &["data", "data/"], &["a/data"]),
            ("data/cache", &["data/cache", "data/cache/"], &["a/data/cache", "data", "data/cache/x"]),
            ("/data/cache/", &["data/cache/"], &["data/cache"]),
            ("/*", &["a", "b/"], &["a/b"]),
            ("a/*/c", &["a/b/c"], &["a/b/b/c", "a/c"]),
            ("a/**/c", &["a/c", "a/b/c", "a/b/b/c"], &["b/a/c", "a/b"]),
            ("**/cache/x", &["cache/x", "a/b/cache/x"], &["cache", "x"]),
            ("logs/**", &["logs/a", "logs/a/"], &["logs/", "a/logs/b"]),
            ("**/logs/**", &["logs/a", "b/c/logs/a"], &["logs/", "a/logs/"]),
            ("a?c", &["abc", "x/axc"], &["ac", "abbc"]),
            ("a\\*c", &["a*c"], &["abc"]),
            ("x**y", &["xy", "xaay"], &["xa/y"]),
            ("", &[], &["a", "a/b"]),
            ("/", &[], &["a", "a/b"]),
            ("**", &["a", "a/b/"], &[]),
        ];
        for (pattern, yes, no) in cases {
            for path in *yes {
                assert!(matches(pattern, path), "{pattern} leaves out {path}");
            }
            for path in *no {
                assert!(!matches(pattern, path), "{pattern} leaves {path} in");
            }
        }
    }

    #[test]
    fn a_pattern_made_to_take_long_does_not() {
        let pattern = "*a".repeat(500) + "b";
        let name = "a".repeat(20_000);
        assert!(!matches(&pattern, &name));
        let pattern = "**/a/".repeat(200) + "b";
        assert!(!matches(&pattern, &vec!["a"; 4000].join("/")));
    }
}
