//! Limits of the configuration are on the unit and hold, on a kernel with every cgroup controller.

mod support;

use support::boxes::{needs, uml};

#[test]
fn memory_tasks_and_processor_limits_are_on_the_unit_and_hold() {
    let Some((deb, claude)) = needs() else { return };
    let share = tempfile::tempdir().expect("folder");
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    for (from, to) in [
        (deb.as_path(), "ash.deb"),
        (claude.as_path(), "claude"),
        (format!("{fixtures}/limits.sh").as_ref(), "limits.sh"),
        (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripted_model.py").as_ref(), "scripted_model.py"),
    ] {
        std::fs::copy(from, share.path().join(to)).expect("copies");
    }
    let (passed, text) = uml("bookworm", share.path(), "limits.sh");
    assert!(passed && text.contains("limits hold"), "{text}");
    for line in text.lines().filter(|line| line.starts_with("limit: ")) {
        println!("{line}");
    }
}
