//! Modules use those of lower layers only, and those of their own layer only where it is said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The layers of `src/lib.rs`.
const LAYERS: &[(&str, u8)] = &[
    ("wire", 0),
    ("lifecycle", 0),
    ("hostile", 0),
    ("report", 1),
    ("folder", 1),
    ("resolve", 1),
    ("archive", 1),
    ("cgroup", 1),
    ("config", 1),
    ("crypt", 1),
    ("egress", 1),
    ("fault", 1),
    ("telemetry", 1),
    ("systemd", 1),
    ("testing", 1),
    ("link", 1),
    ("store", 2),
    ("snapshot", 2),
    ("sandbox", 2),
    ("launcher", 2),
    ("runtime", 2),
    ("init", 2),
    ("shim", 2),
    ("client", 2),
    ("auth", 3),
    ("credential", 3),
    ("agent", 3),
    ("session", 3),
    ("queue", 3),
    ("project_file", 3),
    ("schedule", 3),
    ("eval", 3),
    ("webhook", 3),
    ("gc", 3),
    ("doctor", 3),
    ("http", 4),
    ("daemon", 4),
    ("cli", 4),
];

/// Edges within a layer, with their reason.
const WITHIN: &[(&str, &str)] = &[
    // The machine speaks in the statuses of the wire.
    ("lifecycle", "wire"),
    // Errors are printed by one function.
    ("config", "report"),
    ("link", "report"),
    ("telemetry", "report"),
    ("systemd", "report"),
    // What may be reached comes in the words of the link.
    ("egress", "link"),
    // The shim drives the adapter of its runtime.
    ("shim", "runtime"),
    // A session is of an agent version; both act for a principal.
    ("session", "agent"),
    ("agent", "auth"),
    // The environment of an agent is sealed like one.
    ("agent", "credential"),
    // Its sandboxes are given one.
    ("session", "credential"),
    // Their items and cases are turns of sessions, and fail as these do.
    ("queue", "session"),
    ("queue", "credential"),
    // What is due is put into it.
    ("schedule", "queue"),
    ("eval", "session"),
    // It tells of their events as they are shown.
    ("webhook", "session"),
    // It removes what sessions and agents do not need, and asks them.
    ("gc", "session"),
    ("gc", "agent"),
    ("gc", "project_file"),
    // The daemon assembles the router.
    ("daemon", "http"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("reads").map(|entry| entry.expect("reads").path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            found.push(entry);
        }
    }
}

#[test]
fn arrows_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut edges, mut wrong) = (0, Vec::new());
    for file in files {
        let relative = file.strip_prefix(&root).expect("inside");
        let first = relative.components().next().expect("a part").as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs");
        if matches!(module, "lib" | "bin") {
            continue;
        }
        let from = *layers.get(module).unwrap_or_else(|| panic!("{module} is in no layer"));
        let text = std::fs::read_to_string(&file).expect("reads");
        // What a module's tests use is their own affair.
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for used in text.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let Some(to) = layers.get(used.as_str()) else { continue };
            edges += 1;
            let allowed = *to < from || used == module || WITHIN.contains(&(module, used.as_str()));
            if !allowed {
                wrong.push(format!("{} uses {used}", relative.display()));
            }
        }
    }
    assert!(edges > 100, "the uses were found");
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
