//! Lines that no runtime writes, or writes at another time.

use proptest::prelude::*;

use super::*;

/// Lines of all recordings, one after the other.
fn lines() -> Vec<String> {
    ["text", "tools", "permission", "question", "background", "interrupt", "thinking"]
        .iter()
        .flat_map(|case| recorded(case))
        .collect()
}

proptest! {
    #[test]
    fn no_bytes_are_too_much_for_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut claude, _) = given();
        let _outputs = claude.read(bytes);
    }

    /// What was recorded, in another order, cut, and with bytes that were changed.
    #[test]
    fn no_bytes_of_the_language_are_too_much_for_it(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..40),
    ) {
        let all = lines();
        let (mut claude, _) = given();
        for (line, at, byte, how) in picks {
            let mut line = line.get(&all).clone().into_bytes();
            let at = at.index(line.len());
            match how {
                0 => line[at] = byte,
                1 => line.truncate(at),
                _ => {}
            }
            if let Ok(outputs) = claude.read(line) {
                prop_assert!(outputs.len() < 1000);
            }
        }
        let _over_or_again = claude.ended(&ProcessEnd::default());
    }
}
