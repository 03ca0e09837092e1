//! What the path of an entry, and the target of a link, may look like.

/// Longest component of a path, as in Linux's file systems (`NAME_MAX`).
pub const COMPONENT_MAX: usize = 255;
/// Longest path of an entry. Linux allows 4096 (`PATH_MAX`) from the root; this leaves room for
/// where the folder lies, here and in a sandbox.
pub const PATH_MAX: usize = 1024;
/// Deepest entry.
pub const DEPTH_MAX: usize = 64;

/// Why an entry is refused. The texts fit after the entry's path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// Nothing is left of its path.
    #[error("has an empty path")]
    Empty,
    /// It begins with a slash.
    #[error("has an absolute path")]
    Absolute,
    /// It has `..` in it.
    #[error("has \"..\" in its path")]
    Climbs,
    /// It has NUL or another control character in it.
    #[error("has a control character in its path")]
    Control,
    /// It is not text.
    #[error("has a path that is not UTF-8")]
    NotUtf8,
    /// A component is too long.
    #[error("has a name of more than {COMPONENT_MAX} bytes in its path")]
    ComponentTooLong,
    /// It is too long.
    #[error("has a path of more than {PATH_MAX} bytes")]
    TooLong,
    /// It lies too deep.
    #[error("lies more than {DEPTH_MAX} folders deep")]
    TooDeep,
    /// It ends with a slash, but is no folder.
    #[error("ends with a slash, but is not a folder")]
    FolderName,
    /// Its path came before.
    #[error("is there twice")]
    Duplicate,
    /// Something on the way to it is no folder.
    #[error("lies below \"{parent}\", which is not a folder")]
    ParentNotFolder {
        /// What is in the way.
        parent: String,
    },
    /// It is a device.
    #[error("is a device")]
    Device,
    /// It is a named pipe.
    #[error("is a named pipe")]
    Pipe,
    /// It is a socket.
    #[error("is a socket")]
    Socket,
    /// It is a sparse file in one of tar's encodings.
    #[error("is packed as a sparse file; pack it without that (tar without --sparse)")]
    Sparse,
    /// It is something else that no version can hold.
    #[error("is of a kind that can not be deployed (tar type {kind:?})")]
    Kind {
        /// The type byte of its header.
        kind: char,
    },
    /// It has content where its kind has none.
    #[error("has content, but is not a file")]
    Content,
    /// A link leads to an absolute path.
    #[error("is a link to the absolute path \"{target}\"")]
    LinkAbsolute {
        /// Where it leads.
        target: String,
    },
    /// A link leads out of the folder.
    #[error("is a link to \"{target}\", which lies outside of the folder")]
    LinkOutside {
        /// Where it leads.
        target: String,
    },
    /// A link has `..` where that may lead out.
    #[error("is a link to \"{target}\": \"..\" is allowed only at its beginning")]
    LinkWinding {
        /// Where it leads.
        target: String,
    },
    /// A link's target is empty, too long, or not plain text.
    #[error("is a link whose target is empty, longer than {PATH_MAX} bytes or not plain UTF-8")]
    LinkText,
    /// It is asked for as a file, but is a folder or a link.
    #[error("is not a file")]
    NotAFile,
    /// A hard link is to nothing that came before it.
    #[error("is a hard link to \"{target}\", which is not a file before it in the archive")]
    HardLink {
        /// Where it leads.
        target: String,
    },
}

/// Checks the path of an entry and brings it to its one form: relative, without `.` and without
/// doubled slashes. The folder itself is the empty path.
pub fn clean_path(raw: &[u8]) -> Result<String, EntryFault> {
    if raw.len() > 2 * PATH_MAX {
        return Err(EntryFault::TooLong);
    }
    let text = std::str::from_utf8(raw).map_err(|_| EntryFault::NotUtf8)?;
    if text.is_empty() {
        return Err(EntryFault::Empty);
    }
    if text.chars().any(char::is_control) {
        return Err(EntryFault::Control);
    }
    if text.starts_with('/') {
        return Err(EntryFault::Absolute);
    }
    let mut path = String::with_capacity(text.len());
    let mut depth = 0;
    for component in text.split('/').filter(|component| !matches!(*component, "" | ".")) {
        if component == ".." {
            return Err(EntryFault::Climbs);
        }
        if component.len() > COMPONENT_MAX {
            return Err(EntryFault::ComponentTooLong);
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(component);
        depth += 1;
    }
    if path.len() > PATH_MAX {
        return Err(EntryFault::TooLong);
    }
    if depth > DEPTH_MAX {
        return Err(EntryFault::TooDeep);
    }
    Ok(path)
}

/// Like [`clean_path`], for what is not a folder.
pub fn clean_file_path(raw: &[u8]) -> Result<String, EntryFault> {
    let path = clean_path(raw)?;
    if raw.ends_with(b"/") {
        return Err(EntryFault::FolderName);
    }
    if path.is_empty() {
        return Err(EntryFault::Empty);
    }
    Ok(path)
}

/// Checks the target of the symbolic link at `path`, a clean path.
///
/// A target may climb at its beginning only, and not above the folder. That is enough, also where
/// links lead through links: what lies above a link are true folders, so each climb starts from a
/// known place, and from there on the way goes down, or over another link of the same kind.
pub fn clean_target(path: &str, raw: &[u8]) -> Result<String, EntryFault> {
    let text = std::str::from_utf8(raw).map_err(|_| EntryFault::LinkText)?;
    if text.is_empty() || text.len() > PATH_MAX || text.chars().any(char::is_control) {
        return Err(EntryFault::LinkText);
    }
    let target = text.to_owned();
    if text.starts_with('/') {
        return Err(EntryFault::LinkAbsolute { target });
    }
    let mut above = path.matches('/').count();
    let mut descended = false;
    for component in text.split('/') {
        match component {
            "" | "." => {}
            ".." if descended => return Err(EntryFault::LinkWinding { target }),
            ".." if above == 0 => return Err(EntryFault::LinkOutside { target }),
            ".." => above -= 1,
            name if name.len() > COMPONENT_MAX => return Err(EntryFault::LinkText),
            _ => descended = true,
        }
    }
    Ok(target)
}

/// A path as it is shown in messages: control characters escaped, its middle left out if long.
pub fn show(raw: &[u8]) -> String {
    const SHOWN: usize = 100;
    let text: Vec<char> = String::from_utf8_lossy(&raw[..raw.len().min(8 * PATH_MAX)]).escape_debug().collect();
    if text.len() <= 2 * SHOWN {
        return text.into_iter().collect();
    }
    let (head, tail) = (text[..SHOWN].iter(), text[text.len() - SHOWN..].iter());
    head.chain(&['…']).chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (raw, path) in
            [("a", "a"), ("./a", "a"), ("a//b/./c", "a/b/c"), (".", ""), ("./", ""), ("a/", "a"), (".a/..b/c..", ".a/..b/c..")]
        {
            assert_eq!(clean_path(raw.as_bytes()), Ok(path.to_owned()), "{raw}");
        }
    }

    #[test]
    fn bad_paths_are_refused_with_their_reason() {
        let deep = "d/".repeat(DEPTH_MAX + 1);
        let long = format!("{0}/{0}/{0}/{0}/{0}", "n".repeat(COMPONENT_MAX));
        for (raw, fault) in [
            (&b""[..], EntryFault::Empty),
            (b"/", EntryFault::Absolute),
            (b"/etc/passwd", EntryFault::Absolute),
            (b"..", EntryFault::Climbs),
            (b"../x", EntryFault::Climbs),
            (b"a/../b", EntryFault::Climbs),
            (b"a/..", EntryFault::Climbs),
            (b"a\0b", EntryFault::Control),
            (b"a\nb", EntryFault::Control),
            (b"a\x7f", EntryFault::Control),
            ("a\u{85}".as_bytes(), EntryFault::Control),
            (b"a\xff", EntryFault::NotUtf8),
            (&[b'n'; COMPONENT_MAX + 1], EntryFault::ComponentTooLong),
            (long.as_bytes(), EntryFault::TooLong),
            (&[b'n'; 1 << 20], EntryFault::TooLong),
            (deep.as_bytes(), EntryFault::TooDeep),
        ] {
            assert_eq!(clean_path(raw), Err(fault), "{}", show(raw));
        }
        assert_eq!(clean_file_path(b"a/"), Err(EntryFault::FolderName));
        assert_eq!(clean_file_path(b"."), Err(EntryFault::Empty));
        assert_eq!(clean_file_path(b"a/b"), Ok("a/b".to_owned()));
    }

    #[test]
    fn links_stay_inside() {
        for (path, target) in [
            ("l", "a"),
            ("l", "./a/b"),
            ("l", "."),
            ("d/l", ".."),
            ("d/l", "../a"),
            ("d/e/l", "../../a/"),
            ("l", "a//b"),
            ("l", "..."),
        ] {
            assert_eq!(clean_target(path, target.as_bytes()), Ok(target.to_owned()), "{path} {target}");
        }
        let to = |target: &str| target.to_owned();
        for (path, target, fault) in [
            ("l", "..", EntryFault::LinkOutside { target: to("..") }),
            ("l", "./../x", EntryFault::LinkOutside { target: to("./../x") }),
            ("d/l", "../../x", EntryFault::LinkOutside { target: to("../../x") }),
            ("l", "/etc", EntryFault::LinkAbsolute { target: to("/etc") }),
            // Lexically inside; but where `d/up` is a link to `..`, it is the folder above.
            ("l", "d/up/../x", EntryFault::LinkWinding { target: to("d/up/../x") }),
            ("l", "", EntryFault::LinkText),
            ("l", "a\nb", EntryFault::LinkText),
        ] {
            assert_eq!(clean_target(path, target.as_bytes()), Err(fault), "{path} {target}");
        }
        assert_eq!(clean_target("l", b"a\xff"), Err(EntryFault::LinkText));
        assert_eq!(clean_target("l", &[b'a'; 2000]), Err(EntryFault::LinkText));
    }

    #[test]
    fn what_is_shown_is_short_and_printable() {
        assert_eq!(show(b"a\n\x1b[31m\xff"), "a\\n\\u{1b}[31m\u{fffd}");
        assert!(show(&[b'x'; 1 << 20]).chars().count() <= 201);
    }

    proptest! {
        #[test]
        fn clean_paths_stay_as_they_are(raw in proptest::collection::vec(proptest::sample::select(b"a./\\.b\n".to_vec()), 0..40)) {
            if let Ok(path) = clean_path(&raw) {
                prop_assert!(!path.starts_with('/') && !path.ends_with('/') && !path.contains("//"));
                prop_assert!(path.split('/').all(|part| part != "." && part != ".."));
                if !path.is_empty() {
                    prop_assert_eq!(clean_path(path.as_bytes()), Ok(path));
                }
            }
        }
    }
}
