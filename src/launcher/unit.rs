//! The transient unit of a sandbox. All of it is compiled in but ids, the agent's name and limits.
//!
//! The processes get their uid from setpriv(1), not from `User=`: that takes only users which are in
//! the user database (systemd/systemd#19781, open), and 65 536 entries there serve nobody. So the
//! unit begins as root with the three capabilities that this step needs and loses with it.
//!
//! The list is short on purpose: each hardening property of a unit costs systemd milliseconds at
//! start, and bubblewrap gives the processes inside more than they could. There is no
//! `WatchdogSec=`, as a frozen unit could not be woken from it (systemd/systemd#38517).

use std::os::fd::OwnedFd;

use crate::link::launch::{Limits, Spec};
use crate::systemd::property::Property;
use crate::wire::SandboxId;

/// The program that every sandbox starts with.
pub const SHIM: &str = "/usr/libexec/ash/ash-shim";
/// Takes uid and gid, then executes the shim. Part of util-linux, which is essential in Debian.
const SETPRIV: &str = "/usr/bin/setpriv";
/// `CAP_SETGID`, `CAP_SETUID` and `CAP_SETPCAP` by their numbers in capability.h.
const SETPRIV_CAPABILITIES: u64 = 1 << 6 | 1 << 7 | 1 << 8;
/// Takes them out of the bounding set again, and of the inheritable one, into which systemd 257
/// puts them. Named one by one: `-all` fails on a kernel that knows capabilities which setpriv
/// does not.
const SETPRIV_DROPS: [&str; 2] = ["--bounding-set=-setgid,-setuid,-setpcap", "--inh-caps=-setgid,-setuid,-setpcap"];
/// Where all sandboxes are below. Part of `ash.slice` by its name.
const SLICE: &str = "ash-sandbox.slice";
/// Open files of one process inside. A runtime with all its servers and watchers has some hundred.
const OPEN_FILES: u64 = 16_384;

const PREFIX: &str = "ash-sandbox-";
const SUFFIX: &str = ".service";
/// Matches the units of all sandboxes.
pub const PATTERN: &str = "ash-sandbox-*.service";

/// The unit of a sandbox.
pub fn name(sandbox: SandboxId) -> String {
    format!("{PREFIX}{sandbox}{SUFFIX}")
}

/// The sandbox of a unit.
pub fn sandbox(unit: &str) -> Option<SandboxId> {
    unit.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

/// What the unit of a sandbox is made of. The listener becomes its standard input.
pub fn properties(spec: &Spec, uid: u32, daemon_uid: u32, listener: OwnedFd) -> Vec<Property> {
    let Spec { sandbox, session, agent, limits } = spec;
    let argv = [
        SETPRIV.to_owned(),
        format!("--reuid={uid}"),
        format!("--regid={uid}"),
        "--clear-groups".to_owned(),
        SETPRIV_DROPS[0].to_owned(),
        SETPRIV_DROPS[1].to_owned(),
        "--".to_owned(),
        SHIM.to_owned(),
        "--sandbox".to_owned(),
        sandbox.to_string(),
        "--daemon-uid".to_owned(),
        daemon_uid.to_string(),
    ];
    let mut properties = vec![
        Property::Description(format!("Ash sandbox of agent {agent}, session {session}")),
        Property::Slice(SLICE),
        Property::CollectAlways,
        Property::ExecType,
        Property::ExecStart(argv.to_vec()),
        Property::UMask(0o077),
        Property::NoNewPrivileges,
        Property::CapabilityBoundingSet(SETPRIV_CAPABILITIES),
        Property::MemorySwapMax(0),
        Property::LimitNoFile(OPEN_FILES),
        Property::KillMode("control-group"),
        // The kernel ends one process, and the runtime or the shim tells what happened.
        Property::OomPolicy("continue"),
        Property::StandardInput(listener),
        Property::StandardOutputToJournal,
        Property::StandardErrorToJournal,
        Property::SyslogIdentifier("ash-sandbox"),
        Property::LogExtraFields(vec![
            format!("ASH_SESSION_ID={session}"),
            format!("ASH_SANDBOX_ID={sandbox}"),
            format!("ASH_AGENT={agent}"),
        ]),
    ];
    properties.extend(limit_properties(limits));
    properties
}

/// The limits that systemd enforces. That of the disk is not among them.
pub fn limit_properties(limits: &Limits) -> [Property; 3] {
    [Property::MemoryMax(limits.memory.0), Property::CpuQuota(limits.cpu.0), Property::TasksMax(limits.tasks)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_sandboxes_name_each_other() {
        let id = SandboxId::new();
        assert_eq!(sandbox(&name(id)), Some(id));
        for unit in ["ash.service", "ash-sandbox-x.service", "ash-sandbox-.service", &format!("ash-sandbox-{id}.scope")] {
            assert_eq!(sandbox(unit), None, "{unit}");
        }
    }
}
