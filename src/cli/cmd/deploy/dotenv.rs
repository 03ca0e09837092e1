//! Files of environment variables, and variables on the command line.
//!
//! A line is `NAME=value`, with `export` before it if you like. A value may stand in single quotes,
//! where everything means itself, or in double quotes, where `\n`, `\r`, `\t`, `\"`, `\\` and `\$`
//! are escapes; quotes may span lines. Outside of quotes a ` #` begins a comment. Nothing is
//! expanded.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::error::CliError;

/// A file of variables that can not be used.
#[derive(Debug, thiserror::Error)]
pub enum DotenvError {
    /// It can not be read.
    #[error("can not read {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line of it says nothing.
    #[error("{path}:{line}: {problem}", path = .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The variables of the file at `path`; `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<BTreeMap<String, String>>, DotenvError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).map(Some).map_err(|(line, problem)| DotenvError::Line { path: path.to_owned(), line, problem }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DotenvError::Read { path: path.to_owned(), source }),
    }
}

/// A variable of the command line: `NAME=value`, or `NAME` for the value it has here.
pub(super) fn argument(text: &str) -> Result<(String, String), CliError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, std::env::var(text).ok()),
    };
    if !is_name(name) {
        return Err(CliError::usage(format!("{text:?} names no variable"), "write --env NAME=VALUE"));
    }
    let value = value.ok_or_else(|| {
        CliError::usage(format!("the variable {name} is not set here"), format!("export it, or write --env {name}=VALUE"))
    })?;
    Ok((name.to_owned(), value))
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, (usize, &'static str)> {
    let mut variables = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rest = text;
    while !rest.is_empty() {
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let first = first.trim();
        if first.is_empty() || first.starts_with('#') {
            rest = after;
            continue;
        }
        let (name, value) = rest.split_once('=').filter(|(name, _)| !name.contains('\n')).ok_or((line, "write NAME=value"))?;
        let name = name.trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        if !is_name(name) {
            return Err((line, "a variable's name has only letters, digits and _, and begins with no digit"));
        }
        let (value, after) = value_of(value).map_err(|problem| (line, problem))?;
        variables.insert(name.to_owned(), value);
        rest = after;
    }
    Ok(variables)
}

/// Reads a value, and returns it with the text after its line.
fn value_of(text: &str) -> Result<(String, &str), &'static str> {
    let text = text.trim_start_matches([' ', '\t']);
    let quoted = match text.chars().next() {
        Some('\'') => text[1..].split_once('\'').map(|(value, rest)| (value.to_owned(), rest)).ok_or("the quote has no end")?,
        Some('"') => double_quoted(&text[1..])?,
        _ => {
            let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
            let comment = if line.starts_with('#') { Some(0) } else { line.find(" #").or_else(|| line.find("\t#")) };
            return Ok((line[..comment.unwrap_or(line.len())].trim_end().to_owned(), rest));
        }
    };
    let (value, rest) = quoted;
    let (tail, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    let tail = tail.trim();
    if tail.is_empty() || tail.starts_with('#') { Ok((value, rest)) } else { Err("there is text after the closing quote") }
}

fn double_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                Some(c @ ('"' | '\\' | '$')) => value.push(c),
                Some(c) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("the quote has no end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_as_people_write_them() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("# comment\n\n  \n", &[]),
            ("A=1\nB=two words \n", &[("A", "1"), ("B", "two words")]),
            ("export A=1", &[("A", "1")]),
            ("A = 1", &[("A", "1")]),
            ("A=1 # one\nB=a#b", &[("A", "1"), ("B", "a#b")]),
            ("A=\nB=# none", &[("A", ""), ("B", "")]),
            ("A='$x \\n # y' # z", &[("A", "$x \\n # y")]),
            ("A=\"a\\n\\\"b\\\" \\$c \\d\"", &[("A", "a\n\"b\" $c \\d")]),
            ("A=\"one\ntwo\"\nB=3", &[("A", "one\ntwo"), ("B", "3")]),
            ("A=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")]),
            ("A=x=y", &[("A", "x=y")]),
            ("A=1\nA=2", &[("A", "2")]),
            ("\u{feff}A=1", &[("A", "1")]),
        ];
        for (text, expected) in cases {
            let expected = expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            assert_eq!(parse(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn mistakes_have_their_line() {
        for (text, line) in
            [("A", 1), ("A=1\n\nB C=2", 3), ("1A=x", 1), ("=x", 1), ("A=1\nB='x", 2), ("A=\"x\" y", 1), ("A=\"x\ny\"\nB\nC=1", 3)]
        {
            assert_eq!(parse(text).err().map(|(line, _)| line), Some(line), "{text:?}");
        }
    }

    #[test]
    fn arguments_are_pairs() {
        assert_eq!(argument("A=b=c").ok(), Some(("A".into(), "b=c".into())));
        for text in ["", "=x", "1=x", "A B=x", "ASH_SURELY_NOT_SET_HERE"] {
            assert!(argument(text).is_err(), "{text}");
        }
    }
}
