//! Lines that no runtime writes, or writes at another time.

use super::*;
use crate::hostile::{Random, Target};

/// Lines of one conversation that are read one after the other.
const LINES_MAX: usize = 60;

fn recordings() -> Vec<Vec<u8>> {
    let cases = [
        "text",
        "tools",
        "permission",
        "question",
        "background",
        "interrupt",
        "interrupt-queued",
        "thinking",
        "mcp",
        "skill",
        "max-turns",
        "error-401",
        "error-529",
        "fold",
    ];
    // Pieces of a recording, so that a change meets a short one.
    let lines = cases.map(recorded);
    lines.iter().flat_map(|lines| lines.chunks(8)).map(|lines| lines.join("\n").into_bytes()).collect()
}

/// Puts lines into another order.
fn shuffle(bytes: &mut Vec<u8>, random: &mut Random) {
    if random.below(3) == 0 {
        let mut lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
        let (one, other) = (random.below(lines.len()), random.below(lines.len()));
        lines.swap(one, other);
        *bytes = lines.join(&b'\n');
    }
}

#[test]
fn no_bytes_are_too_much_for_what_reads_the_runtime() {
    let target = Target {
        name: "lines of the runtime",
        seeds: recordings(),
        words: &[b"\n", b"{}", b"null", b"\"type\":", b"\"uuid\":", b"\\ud83d", b"\r", b"\xe2\x80\xa8"],
        is_json: true,
        mend: shuffle,
        memory: 4 << 20,
        ..Default::default()
    };
    target.attack(|bytes| {
        let (mut claude, _) = given();
        for line in bytes.split(|byte| *byte == b'\n').take(LINES_MAX) {
            let Ok(outputs) = claude.read(line.to_vec()) else { continue };
            assert!(outputs.len() < 1000, "{} outputs of one line", outputs.len());
            for output in outputs {
                // Each is sent as one line of a stream.
                if let Output::Event(event) = output {
                    assert!(!event.data.get().contains(['\r', '\n']), "{}", event.data);
                }
            }
        }
        let _over_or_again = claude.ended(&ProcessEnd::default());
    });
}
