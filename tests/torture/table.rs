//! The tables: of a run, and of the README.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::cases::{CASES, Case};
use crate::stage::say;

/// The head of the table of a run.
pub const HEAD: &str = "\n| case | tried | refused with | neighbour's turn |\n| --- | --- | --- | --- |";
const BEGIN: &str = "<!-- the torture suite: ASH_UPDATE=1 cargo test --test torture the_readme -->\n";
const END: &str = "<!-- the end of it -->\n";

/// How a case went.
pub struct Row {
    /// The case.
    pub case: &'static Case,
    /// What it was refused with.
    pub refused: String,
    /// The longest turn of the neighbour meanwhile.
    pub neighbour: Duration,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { group, name, tried, .. } = self.case;
        write!(f, "| {group}: {name} | {tried} | {} | {} ms |", self.refused.replace('\n', " "), self.neighbour.as_millis())
    }
}

/// Prints the count, and writes the table to the file that the environment names.
pub fn finish(rows: &[Row]) {
    let as_expected = rows.iter().filter(|row| row.refused == row.case.refused).count();
    let count = format!("{as_expected} of {} cases as expected", rows.len());
    say(&format!("\n{count}"));
    if let Some(path) = std::env::var_os("ASH_TORTURE_TABLE") {
        let rows: Vec<_> = rows.iter().map(ToString::to_string).collect();
        std::fs::write(path, format!("{}\n{}\n\n{count}\n", HEAD.trim_start(), rows.join("\n"))).expect("written");
    }
}

/// A line for each group: its cases, each with what it is refused with.
fn for_readme() -> String {
    let mut text = format!("{BEGIN}| group | tried, and refused with |\n| --- | --- |\n");
    let mut groups: Vec<&str> = CASES.iter().map(|case| case.group).collect();
    groups.dedup();
    for group in groups {
        let cases: Vec<_> = CASES.iter().filter(|case| case.group == group).collect();
        let told: Vec<_> = cases.iter().map(|case| format!("{} (*{}*)", case.name, case.refused)).collect();
        text += &format!("| {group}: {} | {} |\n", cases.len(), told.join("; "));
    }
    text + &format!("\n{} cases.\n{END}", CASES.len())
}

/// Compares the table of the README with the list, or writes it.
pub fn compare_readme() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).expect("read");
    let (before, rest) = readme.split_once(BEGIN).expect("the table has its place in the README");
    let (_, after) = rest.split_once(END).expect("the table has an end");
    let current = format!("{before}{}{after}", for_readme());
    if std::env::var_os("ASH_UPDATE").is_some() {
        std::fs::write(&path, current).expect("written");
    } else {
        assert!(readme == current, "README.md has another list; run: ASH_UPDATE=1 cargo test --test torture the_readme");
    }
}
