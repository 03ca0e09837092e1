//! A host's sessions go on on another machine: by what `docs/sessions.md` tells an operator to do.

mod support;

use std::path::Path;

use serde_json::Value;
use support::boxes::{Machine, needs};

/// Where the state of a host travels, in each machine.
const STATE: &str = "/root/ash-state.tar";

fn up(deb: &Path, claude: &Path) -> Machine {
    let machine = Machine::up("trixie", deb, claude);
    machine.install();
    machine.start_model();
    machine
}

fn session(machine: &Machine) -> String {
    let made = machine.run(&["ashctl", "--output", "json", "session", "create", "agent"]);
    serde_json::from_str::<Value>(&made).expect("JSON")["id"].as_str().expect("an id").to_owned()
}

fn say(machine: &Machine, session: &str, text: &str) -> String {
    machine.run(&["ashctl", "session", "send", session, text])
}

/// What the workspace is: names, modes, times, links, contents.
fn digest(machine: &Machine, session: &str) -> String {
    let command =
        "find . -printf '%P %m %y %l %n %T@\\n' | sort | sha256sum; find . -type f | sort | xargs sha256sum | sha256sum";
    let digest = say(machine, session, &format!("bash: {command}"));
    assert!(digest.matches("  -").count() >= 2, "{digest}");
    digest
}

#[test]
fn sessions_go_on_on_another_machine_with_workspace_and_conversation() {
    let Some((deb, claude)) = needs() else { return };
    let (first, second) = (up(&deb, &claude), up(&deb, &claude));
    first.write("/root/agent/CLAUDE.md", "You are a test agent.\n");
    first.run(&["ashctl", "deploy", "/root/agent"]);
    let (one, other) = (session(&first), session(&first));
    let furnish = "mkdir -p a/b shut && echo one > a/b/one && ln a/b/one hard && ln -s a/b/one link && chmod 640 hard && head -c 3000000 /dev/urandom > random && chmod 500 shut";
    for session in [&one, &other] {
        say(&first, session, &format!("bash: {furnish}"));
    }
    let before = [&one, &other].map(|session| digest(&first, session));

    // As the documentation says, from here on.
    first.run(&["ashctl", "session", "stop", &one, &other]);
    first.run(&["systemctl", "stop", "ash.socket", "ash.service", "ash-launcher.service"]);
    first.sh(&format!("tar -C /var/lib -cf {STATE} ash"));
    first.send_to(&second, STATE);
    second.run(&["systemctl", "stop", "ash.socket", "ash.service", "ash-launcher.service"]);
    second.sh(&format!("rm -rf /var/lib/ash && tar -C /var/lib -xf {STATE}"));
    second.run(&["systemctl", "start", "ash.socket", "ash.service"]);

    second.run(&["ashctl", "session", "resume", &one]);
    assert_eq!(digest(&second, &one), before[0]);
    assert!(say(&second, &one, "remember?").starts_with("user messages: 4"), "the conversation goes on");

    // A machine that has not the agent's files says which, and takes them again.
    second.sh("systemctl stop ash.socket ash.service && rm -rf /var/lib/ash/agents && systemctl start ash.socket ash.service");
    let refused = second.try_run(&["ashctl", "session", "resume", &other]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("/var/lib/ash/agents/") && said.contains("\"agent\""), "{said}");
    second.write("/root/agent/CLAUDE.md", "You are a test agent.\n");
    second.run(&["ashctl", "deploy", "/root/agent"]);
    second.run(&["ashctl", "session", "resume", &other]);
    assert_eq!(digest(&second, &other), before[1]);
    assert!(say(&second, &other, "remember?").starts_with("user messages: 4"));
}
