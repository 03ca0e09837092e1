//! Limits of the configuration are on the unit and hold, on a kernel with every cgroup controller.

mod support;

use support::boxes::{needs, uml};

#[test]
fn memory_tasks_and_processor_limits_are_on_the_unit_and_hold() {
    let Some((deb, claude)) = needs() else { return };
    let (passed, text) = uml("bookworm", &deb, &claude, "limits.sh");
    assert!(passed && text.contains("limits hold"), "{text}");
    for line in text.lines().filter(|line| line.starts_with("limit: ")) {
        println!("{line}");
    }
}
