//! Pause, idle and resume on a real machine, where the kernel freezes sandboxes.

mod support;

use serde_json::Value;
use support::boxes::{Machine, needs};
use support::wait_for;

#[test]
fn a_paused_or_idle_sandbox_is_frozen_and_thawed_also_over_a_restart() {
    let Some((deb, claude)) = needs() else { return };
    let machine = Machine::up_with("trixie", &deb, &claude, &[]);
    machine.install();
    machine.start_model();
    machine.write("/etc/ash/ash.toml.d/idle.toml", "[sessions]\nfreeze_after = \"2s\"\n");
    machine.run(&["systemctl", "restart", "ash"]);
    machine.write("/root/agent/CLAUDE.md", "You are a test agent.\n");
    machine.run(&["ashctl", "deploy", "/root/agent"]);
    let made: Value =
        serde_json::from_str(&machine.run(&["ashctl", "--output", "json", "session", "create", "agent"])).expect("JSON");
    let session = made["id"].as_str().expect("an id").to_owned();
    let unit = format!("ash-sandbox-{}.service", made["sandboxId"].as_str().expect("an id"));
    let freezer = || machine.run(&["systemctl", "show", "--property=FreezerState", "--value", &unit]).trim().to_owned();
    let say = |text: &str| machine.run(&["ashctl", "session", "send", &session, text]);

    assert!(say("write: /work/note|kept").contains("note"));
    wait_for("an idle sandbox is frozen", || (freezer() == "frozen").then_some(()));
    assert!(say("read: /work/note").contains("kept"), "a message thaws it");
    wait_for("it is frozen again", || (freezer() == "frozen").then_some(()));
    // What follows is frozen only when it is asked for.
    machine.write("/etc/ash/ash.toml.d/idle.toml", "[sessions]\nfreeze_after = \"1h\"\n");
    machine.run(&["systemctl", "restart", "ash"]);
    assert!(say("read: /work/note").contains("kept"), "also one to the next daemon");

    machine.run(&["ashctl", "session", "pause", &session]);
    assert_eq!(freezer(), "frozen");
    let pid = machine.run(&["systemctl", "show", "--property=MainPID", "--value", &unit]);
    machine.run(&["ashctl", "session", "resume", &session]);
    assert_eq!(freezer(), "running");
    assert!(say("remember?").starts_with("user messages: 4"), "nothing is forgotten");
    assert_eq!(machine.run(&["systemctl", "show", "--property=MainPID", "--value", &unit]), pid, "it is the same process");

    machine.run(&["ashctl", "session", "stop", &session]);
    assert_eq!(machine.run(&["systemctl", "list-units", "--plain", "--no-legend", "ash-sandbox-*.service"]), "");
    assert_eq!(machine.sh("ls /var/lib/ash/sandboxes | wc -l").trim(), "0", "a snapshot takes the place of the folder");
    machine.run(&["ashctl", "session", "resume", &session]);
    assert!(say("read: /work/note").contains("kept"));
    assert!(say("remember?").starts_with("user messages: 6"), "the conversation goes on");
}
