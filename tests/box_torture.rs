//! The bombs of the torture suite without a bound, in a machine whose kernel enforces every limit.

mod support;

#[path = "torture/cases.rs"]
mod cases;

use cases::{By, CASES};
use support::boxes::{needs, uml_with};

/// The script first, and what it needs beside it.
const FILES: &[&str] = &["torture/machine.sh", "torture/machine.py", "torture/probes/trying.py", "torture/probes/bombs.py"];

#[test]
fn bombs_without_a_bound_are_held_by_the_kernel_while_the_neighbour_answers() {
    let Some((deb, claude)) = needs() else { return };
    let (passed, text) = uml_with("bookworm", &deb, &claude, FILES);
    let told: Vec<Vec<&str>> =
        text.lines().filter_map(|line| line.strip_prefix("torture: ")).map(|line| line.split(" | ").collect()).collect();
    println!("\n| case | tried | refused with | neighbour's turn |\n| --- | --- | --- | --- |");
    let mut wrong = Vec::new();
    for case in CASES {
        let By::Machine(name) = case.by else { continue };
        let line = told.iter().find(|line| line[0] == name);
        let (refused, took) = line.map_or(("not told", "?"), |line| (line[1], line[2]));
        println!("| {}: {} | {} | {refused} | {took} ms |", case.group, case.name, case.tried);
        if refused != case.refused {
            wrong.push(format!("{}: {refused:?}, expected {:?}", case.name, case.refused));
        }
    }
    assert!(passed && wrong.is_empty() && text.contains("all bombs exploded"), "{wrong:#?}\n{text}");
}
