//! TOML into a type, with errors that say where and how to mend it.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

use crate::wire::quantity::ByteCount;

/// What is wrong with a text, without the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A key that has no meaning.
    #[error("unknown key \"{key}\"{}", guess.as_ref().map(|key| format!(", did you mean \"{key}\"?")).unwrap_or_default())]
    UnknownKey {
        /// The key with its tables, such as `http.lisen`.
        key: String,
        /// The key that was probably meant: without its tables where those were right.
        guess: Option<String>,
    },
    /// A value of the wrong type or outside of what is allowed.
    #[error("\"{key}\": {reason}")]
    BadValue {
        /// The key with its tables.
        key: String,
        /// What is wrong with the value.
        reason: String,
    },
}

/// A fault and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// Reads TOML. `keys` names all keys that `T` knows, with their tables and dots between; a table
/// whose keys are free is named itself. Unknown keys are recognised by this list and corrected
/// from it, while `T` has to refuse them (`deny_unknown_fields`).
pub fn parse<T: DeserializeOwned>(text: &str, keys: &[&str]) -> Result<T, Located> {
    let syntax = |error: toml::de::Error| Located {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        fault: Fault::Syntax(error.message().to_owned()),
    };
    let deserializer = toml::Deserializer::parse(text).map_err(syntax)?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let key = path_of(error.path());
        let inner = error.into_inner();
        let line = line_of(text, inner.span().map_or(0, |span| span.start));
        if keys.iter().any(|known| covers(known, &key) || covers(&key, known)) {
            Located { line, fault: Fault::BadValue { key, reason: inner.message().to_owned() } }
        } else {
            let guess = guess(&key, keys);
            Located { line, fault: Fault::UnknownKey { key, guess } }
        }
    })
}

/// The line, from 1, in which a byte of a text lies.
pub fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// Whether `key` is `outer` or lies in it.
fn covers(outer: &str, key: &str) -> bool {
    key.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
}

/// The path of a value, without the fields by which `toml::Spanned` passes through serde.
fn path_of(path: &serde_path_to_error::Path) -> String {
    let mut text = String::new();
    for segment in path.iter() {
        match segment {
            serde_path_to_error::Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            serde_path_to_error::Segment::Map { key } if !key.starts_with("$__") => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            _ => {}
        }
    }
    text
}

/// The known key that a wrong one most likely stands for.
fn guess(wrong: &str, keys: &[&str]) -> Option<String> {
    let (tables, name) = split(wrong);
    // Each table is a candidate too: `[htpp]` stands before any key of it.
    let mut candidates: Vec<&str> = keys.to_vec();
    for key in keys {
        candidates.extend(key.match_indices('.').map(|(dot, _)| &key[..dot]));
    }
    let best = |list: &mut dyn Iterator<Item = &str>| {
        list.map(|candidate| (distance(name, split(candidate).1), candidate.to_owned()))
            .filter(|(distance, _)| *distance <= name.chars().count().div_ceil(3).clamp(1, 3))
            .min()
    };
    if let Some((_, key)) = best(&mut candidates.iter().copied().filter(|key| split(key).0 == tables)) {
        return Some(split(&key).1.to_owned());
    }
    best(&mut candidates.iter().copied().filter(|key| split(key).1 == name)).map(|(_, key)| key)
}

/// The tables of a key, and its own name.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// How many letters have to be put in, taken out or changed to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// A table of TOML. Without this a list would pass for one, as derived types take their fields
/// from a list too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Table<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MapOnly { what: "a table", target: PhantomData }).map(Self)
    }
}

/// Takes a map and nothing else; `what` it is called where it is missing.
pub(crate) struct MapOnly<T> {
    pub(crate) what: &'static str,
    pub(crate) target: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for MapOnly<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// A whole number from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole(pub u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 on")
            }
            fn visit_u64<E>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Whole, E> {
                let refuse = || E::invalid_value(serde::de::Unexpected::Signed(number), &self);
                u64::try_from(number).map(Whole).map_err(|_| refuse())
            }
        }
        deserializer.deserialize_u64(Number)
    }
}

/// The value if it is within a range, else the reason for refusing it.
pub(crate) fn within<T: PartialOrd + fmt::Display>(value: T, range: RangeInclusive<T>) -> Result<T, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(format!("{value} is not between {} and {}", range.start(), range.end()))
}

/// [`within`], for sizes.
pub(crate) fn size_in(size: ByteCount, range: RangeInclusive<u64>) -> Result<ByteCount, String> {
    within(size, ByteCount(*range.start())..=ByteCount(*range.end()))
}

/// [`within`], for whole numbers.
pub(crate) fn count_in(count: Whole, range: RangeInclusive<u32>) -> Result<u32, String> {
    let refuse = || format!("{} is not between {} and {}", count.0, range.start(), range.end());
    u32::try_from(count.0).ok().filter(|count| range.contains(count)).ok_or_else(refuse)
}

/// The keys that a manual page describes, as `section.key`, sorted; a section without keys stands for
/// itself. Those of a page stand as `*key*` at the beginning of a line below `## [section]`.
#[cfg(test)]
pub(crate) fn documented(page: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let (_, page) = page.split_once("\n# KEYS\n").expect("a page has keys");
    let (page, _) = page.split_once("\n# ").expect("and ends in something else");
    for section in page.split("\n## [").skip(1) {
        let (section, text) = section.split_once(']').expect("the name of a section ends");
        let heads = text.lines().filter(|line| line.starts_with('*')).map(|line| line.split(" = ").next().unwrap_or(line));
        let named = heads.flat_map(|head| head.split(", ")).map(|key| format!("{section}.{}", key.trim_matches('*')));
        let before = keys.len();
        keys.extend(named);
        if keys.len() == before {
            keys.push(section.to_owned());
        }
    }
    keys.sort();
    keys
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::wire::quantity::bounds;

    const KEYS: &[&str] = &["room.size", "room.doors", "room.colour", "env", "note", "house.room.floor"];

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Plan {
        room: Table<Room>,
        env: BTreeMap<String, String>,
        note: Option<toml::Spanned<String>>,
        house: Table<House>,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct House {
        room: Table<Floor>,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Floor {
        floor: Option<toml::Spanned<Whole>>,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Room {
        size: Option<toml::Spanned<Whole>>,
        doors: Option<toml::Spanned<Vec<String>>>,
        colour: Option<String>,
    }

    fn error(text: &str) -> String {
        let Located { line, fault } = parse::<Plan>(text, KEYS).expect_err(text);
        format!("{line}: {fault}")
    }

    #[test]
    fn faults_name_line_key_and_the_likely_spelling() {
        for (text, said) in [
            ("[room]\nsize = 1\nsise = 2\n", "3: unknown key \"room.sise\", did you mean \"size\"?"),
            ("\n\n[rom]\nsize = 1\n", "3: unknown key \"rom\", did you mean \"room\"?"),
            ("colour = \"red\"", "1: unknown key \"colour\", did you mean \"room.colour\"?"),
            ("[room]\nwindows = 3", "2: unknown key \"room.windows\""),
            ("house.room.flor = 1", "1: unknown key \"house.room.flor\", did you mean \"floor\"?"),
            (
                "house.room.floor = \"x\"",
                "1: \"house.room.floor\": invalid type: string \"x\", expected a whole number from 0 on",
            ),
            ("[room]\nsize = \"big\"", "2: \"room.size\": invalid type: string \"big\", expected a whole number from 0 on"),
            ("[room]\nsize = -1", "2: \"room.size\": invalid value: integer `-1`, expected a whole number from 0 on"),
            ("[room]\ndoors = [\n\"a\",\n2]", "4: \"room.doors[1]\": invalid type: integer `2`, expected a string"),
            ("room = 3", "1: \"room\": invalid type: integer `3`, expected a table"),
            ("room = []", "1: \"room\": invalid type: sequence, expected a table"),
            ("[env]\nA = 1", "2: \"env.A\": invalid type: integer `1`, expected a string"),
        ] {
            assert_eq!(error(text), said, "{text}");
        }
    }

    #[test]
    fn what_is_not_toml_is_told_by_line() {
        for (text, line) in [("[room\n", 1), ("a = 1\nb = \n", 2), ("note = \"a\"\nnote = \"b\"\n", 2)] {
            let fault = parse::<Plan>(text, KEYS).expect_err(text);
            assert!(matches!(fault, Located { line: at, fault: Fault::Syntax(_) } if at == line), "{text}: {fault:?}");
        }
    }

    #[test]
    fn good_texts_read() {
        let plan: Plan = parse("note = \"n\"\n[room]\nsize = 4\n[env]\nANY = \"thing\"", KEYS).expect("reads");
        assert_eq!(plan.room.0.size.map(|size| size.into_inner()), Some(Whole(4)));
        assert_eq!(plan.env.len(), 1);
        assert_eq!(parse::<Plan>("", KEYS), Ok(Plan::default()));
    }

    #[test]
    fn distances_count_letters() {
        for (a, b, count) in [("", "", 0), ("a", "", 1), ("lisen", "listen", 1), ("kitten", "sitting", 3), ("abc", "abc", 0)] {
            assert_eq!(distance(a, b), count, "{a} {b}");
            assert_eq!(distance(b, a), count, "{b} {a}");
        }
    }

    #[test]
    fn numbers_outside_of_their_range_are_told_with_it() {
        assert_eq!(count_in(Whole(24), bounds::TASKS), Ok(24));
        assert_eq!(count_in(Whole(3), bounds::TASKS), Err("3 is not between 24 and 4000000".to_owned()));
        assert_eq!(count_in(Whole(u64::MAX), 1..=2), Err(format!("{} is not between 1 and 2", u64::MAX)));
        assert_eq!(size_in(ByteCount(1 << 20), bounds::DISK), Err("1M is not between 16M and 32768T".to_owned()));
    }
}
