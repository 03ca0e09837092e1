//! Each line of `docs/promises.md` names tests, and they are there.

use std::path::{Path, PathBuf};

/// What is named between backquotes and begins like a path of a test, with the function if one is named.
/// `…::name` is in the file that was named before.
fn named(text: &str) -> Vec<(usize, String, Option<String>)> {
    let (mut found, mut file) = (Vec::new(), String::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        for word in line.split('`').skip(1).step_by(2) {
            let (path, function) = word.split_once("::").map_or((word, None), |(path, function)| (path, Some(function)));
            match path {
                "…" => {}
                _ if path.starts_with("src/") || path.starts_with("tests/") => path.clone_into(&mut file),
                _ => continue,
            }
            found.push((index + 1, file.clone(), function.map(str::to_owned)));
        }
    }
    found
}

/// The source of a file, and that of its submodules.
fn source(path: &Path) -> String {
    let mut text = std::fs::read_to_string(path).unwrap_or_default();
    for entry in std::fs::read_dir(path.with_extension("")).into_iter().flatten().filter_map(Result::ok) {
        text += &source(&entry.path());
    }
    text
}

#[test]
fn every_promise_names_a_test_that_is_there() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/promises.md")).expect("reads");
    let (named, mut missing) = (named(&text), Vec::new());
    for (line, path, function) in &named {
        let is_there = match function {
            _ if !root.join(path).exists() => false,
            None => true,
            Some(function) => {
                let name = function.rsplit("::").next().unwrap_or(function);
                source(&root.join(path)).contains(&format!("fn {name}("))
            }
        };
        if !is_there {
            missing.push(format!("line {line}: {path} {}", function.as_deref().unwrap_or("")));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(named.len() > 50, "the table is read: {}", named.len());
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #") && !line.starts_with("| ---"));
    for row in rows {
        assert!(row.contains("`tests/") || row.contains("`src/"), "names no test: {row}");
    }
}
