//! Changes of valid messages.

use serde_json::{Map, Value};

/// Bytes of a case, at most: changes that make it longer stop there.
const SIZE_MAX: usize = 256 << 10;
/// How deep JSON is nested, as a change. More than the parser takes, which is 128.
const DEPTH: [usize; 3] = [10, 127, 3000];
/// Numbers at which something may turn over.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "00",
    "1",
    "127",
    "128",
    "255",
    "256",
    "4095",
    "32768",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "-0",
    "0x10",
    "1.5",
];
/// Bytes that mean something to somebody.
const BYTES: &[u8] = b"\0\x01\x04\x05\x16\t\n\x0b\x0c\r \"%'()*,-./0:;<=@[\\]_{|}~\x7f\x80\xc0\xff";
/// Texts for JSON.
const TEXTS: &[&str] = &["", "\0", "\u{feff}", "..", "/", "../../x", "a\nb", "\u{202e}", "true", "\u{d7ff}\u{10ffff}"];

/// A generator of numbers that only have to differ: SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The one of a case.
    pub const fn of(seed: u64, case: u64) -> Self {
        Self(seed.wrapping_mul(0xd605_1eb5_62d2_9d4f) ^ case.wrapping_mul(0xa076_1d64_78bd_642f))
    }

    /// A number from 0 to less than `bound`.
    pub const fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % (bound as u64)) as usize
    }

    /// One of several.
    pub fn choose<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A place in bytes, and one behind it that is not far.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let start = self.below(length + 1);
        let most = if self.below(4) == 0 { length } else { 16 };
        (start, (start + self.below(most.max(1)) + 1).min(length))
    }
}

/// Changes bytes at one place.
pub fn bytes(input: &mut Vec<u8>, random: &mut Random, others: &[Vec<u8>], words: &[&[u8]]) {
    let (start, end) = random.range(input.len());
    match random.below(11) {
        0 if start < input.len() => input[start] ^= 1 << random.below(8),
        1 if start < input.len() => input[start] = *random.choose(BYTES),
        2 if start < input.len() => input[start] = random.below(256) as u8,
        3 => input.truncate(start),
        4 => drop(input.drain(start..end.max(start))),
        // The same once more, or very often.
        5 if start < end => {
            let piece = input[start..end].to_vec();
            let times = if random.below(8) == 0 { 1000 } else { 1 + random.below(3) };
            drop(input.splice(start..start, piece.repeat(times)));
        }
        6 => drop(input.splice(start..start, [*random.choose(BYTES)])),
        7 if !words.is_empty() => drop(input.splice(start..start, random.choose(words).iter().copied())),
        // A part of another one.
        8 => {
            let other = random.choose(others);
            let (from, to) = random.range(other.len());
            drop(input.splice(start..end.max(start), other[from..to.max(from)].iter().copied()));
        }
        9 => number(input, start, random),
        _ => {
            let count = random.below(40);
            let noise: Vec<u8> = (0..count).map(|_| random.below(256) as u8).collect();
            drop(input.splice(start..start, noise));
        }
    }
    input.truncate(SIZE_MAX);
}

/// Replaces the next number that is written in digits.
fn number(input: &mut Vec<u8>, from: usize, random: &mut Random) {
    let Some(start) = input[from..].iter().position(u8::is_ascii_digit).map(|at| from + at) else { return };
    let end = input[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |at| start + at);
    drop(input.splice(start..end, random.choose(NUMBERS).bytes()));
}

/// Changes a value somewhere in JSON, or in one of its lines. What is none stays.
pub fn json(input: &mut Vec<u8>, random: &mut Random) {
    let mut lines: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let at = random.below(lines.len());
    let Ok(mut value) = serde_json::from_slice::<Value>(&lines[at]) else { return };
    change(&mut value, random);
    if let Ok(text) = serde_json::to_vec(&value) {
        lines[at] = text;
    }
    *input = lines.join(&b'\n');
    input.truncate(SIZE_MAX);
}

/// Goes down to some value, and makes another one of it.
fn change(value: &mut Value, random: &mut Random) {
    match value {
        Value::Object(fields) if !fields.is_empty() && random.below(5) > 0 => {
            let name = fields.keys().nth(random.below(fields.len())).cloned().unwrap_or_default();
            match random.below(8) {
                0 => drop(fields.remove(&name)),
                1 => {
                    let moved = fields.remove(&name).unwrap_or_default();
                    fields.insert((*random.choose(TEXTS)).to_owned(), moved);
                }
                2 => {
                    let other = fields.values().nth(random.below(fields.len())).cloned().unwrap_or_default();
                    fields.insert(name, other);
                }
                _ => change(fields.entry(name).or_insert(Value::Null), random),
            }
        }
        Value::Array(values) if !values.is_empty() && random.below(5) > 0 => {
            let at = random.below(values.len());
            match random.below(6) {
                0 => drop(values.remove(at)),
                1 => values.insert(at, values[at].clone()),
                _ => change(&mut values[at], random),
            }
        }
        _ => *value = another(value, random),
    }
}

fn another(value: &Value, random: &mut Random) -> Value {
    match random.below(9) {
        0 => Value::Null,
        1 => Value::Bool(random.below(2) == 0),
        2 => serde_json::from_str(random.choose::<&str>(NUMBERS)).unwrap_or_default(),
        3 => Value::from(*random.choose(TEXTS)),
        4 => Value::from("x".repeat(1 + random.below(20_000))),
        5 => Value::Array(vec![value.clone(); random.below(4)]),
        6 => Value::Object(Map::from_iter([("type".to_owned(), value.clone())])),
        7 => {
            let depth = *random.choose(&DEPTH);
            // Text, since no value may be so deep.
            Value::from(format!("{}{}", "[".repeat(depth), "]".repeat(depth)))
        }
        _ => Value::from(random.below(usize::MAX) as u64),
    }
}
