//! Bytes that nobody should send, for the tests of all that reads such: valid messages, changed.
//!
//! A target is a test whose name begins with `no_bytes_`, beside what it tries: `cargo test --lib no_bytes_` runs
//! all of them. It gives valid messages, words of the language, and a function that reads bytes and panics if
//! something is wrong that should not be. Each case is one of the messages after some changes, of bytes
//! ([`mutate::bytes`]), of JSON ([`mutate::json`]), or of a kind that the target alone knows, such as a checksum
//! that is made right again.
//!
//! Reading may take so much memory and no more ([`memory::peak`]). Time is told and not judged.
//!
//! | variable | what it says |
//! | --- | --- |
//! | `ASH_SOAK_CASES` | cases of each target; some hundred without it |
//! | `ASH_SOAK_SEED` | other cases than always the same ones; to repeat a run |
//! | `ASH_SOAK_CASE` | the one case to try |

pub mod memory;
pub mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

pub use self::mutate::Random;

/// Cases of a target where nobody says how many.
const CASES: u64 = 300;
/// Attempts to make a case that fails smaller.
const SHRINKS: usize = 400;
/// Bytes of a case that are shown.
const SHOWN: usize = 2000;

/// Something that reads what strangers send.
#[derive(Debug)]
pub struct Target<'a> {
    /// Names it where a case fails.
    pub name: &'a str,
    /// Valid messages.
    pub seeds: Vec<Vec<u8>>,
    /// Words that mean something in its language.
    pub words: &'a [&'a [u8]],
    /// Whether a message is JSON, or lines of it.
    pub is_json: bool,
    /// Makes something right again that a change broke, such as a checksum; or changes what only this target knows.
    pub mend: fn(&mut Vec<u8>, &mut Random),
    /// Bytes of memory that reading may take beside so many for each byte that is read.
    pub memory: usize,
    /// So many cases are one, where each is expensive.
    pub costs: u64,
}

/// Bytes of memory that reading may take for each byte that is read: JSON as values is the largest, where a comma
/// is a value.
const MEMORY_FOR_BYTE: usize = 400;

/// The number in an environment variable, if it is set.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

impl Default for Target<'_> {
    fn default() -> Self {
        Self { name: "", seeds: Vec::new(), words: &[], is_json: false, mend: |_, _| {}, memory: 1 << 20, costs: 1 }
    }
}

impl Target<'_> {
    /// Tries all seeds as they are, and then so many cases.
    ///
    /// # Panics
    ///
    /// If reading panics or takes too much memory: with the smallest such case that was found.
    pub fn attack(&self, mut read: impl FnMut(&[u8])) {
        let cases = number("ASH_SOAK_CASES").unwrap_or(CASES).div_ceil(self.costs);
        let seed = number("ASH_SOAK_SEED").unwrap_or(0);
        let mut slowest = (Duration::ZERO, 0);
        for seed in &self.seeds {
            self.try_one(seed, &mut read).unwrap_or_else(|why| panic!("{}: a valid message: {why}", self.name));
        }
        let all = number("ASH_SOAK_CASE").map_or(0..cases, |case| case..case + 1);
        for case in all {
            let input = self.case(&mut Random::of(seed, case));
            let begun = Instant::now();
            if let Err(why) = self.try_one(&input, &mut read) {
                let (input, why) = self.shrink(input, why, &mut read);
                let shown = input[..input.len().min(SHOWN)].escape_ascii();
                panic!("{}: {why}\ncase {case} of ASH_SOAK_SEED={seed}, {} bytes: b\"{shown}\"", self.name, input.len());
            }
            slowest = slowest.max((begun.elapsed(), case));
        }
        eprintln!("{}: {cases} cases of ASH_SOAK_SEED={seed}; the slowest, {}, took {:?}", self.name, slowest.1, slowest.0);
    }

    /// One of the messages, after some changes.
    fn case(&self, random: &mut Random) -> Vec<u8> {
        let mut input = random.choose(&self.seeds).clone();
        // Often one change alone, and often of JSON alone, so that most of it is still valid.
        let (changes, of_json) = (random.below(4), if self.is_json { random.below(3) } else { 0 });
        for _ in 0..=random.below(changes + 1) {
            if of_json == 2 || of_json == 1 && random.below(2) == 0 {
                mutate::json(&mut input, random);
            } else {
                mutate::bytes(&mut input, random, &self.seeds, self.words);
            }
        }
        (self.mend)(&mut input, random);
        input
    }

    fn try_one(&self, input: &[u8], read: &mut impl FnMut(&[u8])) -> Result<(), String> {
        let (done, peak) = memory::peak(|| catch_unwind(AssertUnwindSafe(|| read(input))));
        done.map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            text.unwrap_or("it panics").to_owned()
        })?;
        let most = self.memory + MEMORY_FOR_BYTE * input.len();
        if peak > most { Err(format!("it took {peak} bytes of memory, more than {most}")) } else { Ok(()) }
    }

    /// Leaves out what a case needs not to fail.
    fn shrink(&self, mut input: Vec<u8>, mut why: String, read: &mut impl FnMut(&[u8])) -> (Vec<u8>, String) {
        let (mut size, mut left) = (input.len() / 2, SHRINKS);
        while size > 0 && left > 0 {
            let mut at = 0;
            while at < input.len() && left > 0 {
                let smaller = [&input[..at], &input[(at + size).min(input.len())..]].concat();
                left -= 1;
                match self.try_one(&smaller, read) {
                    Err(reason) => (input, why) = (smaller, reason),
                    Ok(()) => at += size,
                }
            }
            size /= 2;
        }
        (input, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target<'static> {
        Target { name: "an example", seeds: vec![b"length=3 abc".to_vec()], words: &[b"boom"], ..Target::default() }
    }

    fn said(target: &Target<'_>, read: impl FnMut(&[u8])) -> String {
        let panic = catch_unwind(AssertUnwindSafe(|| target.attack(read))).expect_err("it is found");
        panic.downcast_ref::<String>().expect("a sentence").clone()
    }

    #[test]
    fn a_reader_that_panics_is_found_with_the_least_that_it_takes() {
        let said = said(&target(), |bytes| assert!(!bytes.windows(4).any(|four| four == b"boom"), "it exploded"));
        assert!(said.contains("it exploded") && said.ends_with("4 bytes: b\"boom\""), "{said}");
    }

    #[test]
    fn a_reader_that_believes_a_length_is_found() {
        let said = said(&target(), |bytes| {
            let digits: Vec<u8> =
                bytes.iter().copied().skip_while(|byte| !byte.is_ascii_digit()).take_while(u8::is_ascii_digit).collect();
            let length: usize = String::from_utf8_lossy(&digits).parse().unwrap_or(0);
            let _room: Vec<u8> = Vec::with_capacity(length.min(1 << 28));
        });
        assert!(said.contains("bytes of memory, more than"), "{said}");
    }

    #[test]
    fn the_same_seed_gives_the_same_cases_and_another_one_others() {
        let cases = |seed| (0..50).map(|case| target().case(&mut Random::of(seed, case))).collect::<Vec<_>>();
        assert_eq!(cases(1), cases(1));
        assert_ne!(cases(1), cases(2));
    }
}
