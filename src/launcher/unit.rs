//! The transient unit of a sandbox. All of it is compiled in but ids, the agent's name and limits.
//!
//! The processes get their uid from setpriv(1), not from `User=`: that takes only users which are in
//! the user database (systemd/systemd#19781, open), and 65 536 entries there serve nobody. So the
//! unit begins as root with the three capabilities that this step needs and loses with it.
//!
//! Where AppArmor gives user namespaces to programs with a profile only (Ubuntu), the unit names the
//! one that the package brings. It is attached to no program: what local users start has none of it.
//!
//! The list is short on purpose: each hardening property of a unit costs systemd milliseconds at
//! start, and bubblewrap gives the processes inside more than they could. There is no
//! `WatchdogSec=`, as a frozen unit could not be woken from it (systemd/systemd#38517).
//!
//! A sandbox is ordered before the daemon. This asks for nothing but the order in which a host that
//! goes down ends both: the daemon first, which puts sessions away, and then what is left of the
//! sandboxes.
//!
//! systemd forgets a unit that ended in good order at once, and keeps one that failed
//! (`CollectMode=inactive`, the default), so that it can be asked for the cause. Whatever is done
//! with the sandbox next makes systemd forget it, see [`super::sandboxes`].

use std::os::fd::OwnedFd;

use crate::link::launch::{Limits, SANDBOX_FOLDERS, Spec};
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
/// The AppArmor profile of sandboxes, `packaging/apparmor/ash-shim`.
const PROFILE: &str = "ash-shim";
/// The unit of the daemon.
const DAEMON: &str = "ash.service";
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
        Property::Before(DAEMON),
        Property::ExecType,
        Property::ExecStart(argv.to_vec()),
        Property::UMask(0o077),
        Property::NoNewPrivileges,
        Property::AppArmorProfile(PROFILE),
        Property::CapabilityBoundingSet(SETPRIV_CAPABILITIES),
        Property::LimitNoFile(OPEN_FILES),
        Property::KillMode("control-group"),
        // The kernel ends one process, and the runtime or the shim tells what happened. If it is
        // the shim itself, the unit's result is "signal", and not "oom-kill".
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
    properties.extend(usual_limits(limits));
    // A unit that was just made has none of these.
    properties.extend(rare_limits(limits).into_iter().filter(|(is_set, _)| *is_set).map(|(_, property)| property));
    properties
}

/// What a unit that runs is to have in the place of the limits that it has.
pub fn limit_properties(limits: &Limits) -> Vec<Property> {
    usual_limits(limits).into_iter().chain(rare_limits(limits).map(|(_, property)| property)).collect()
}

/// The limits of every sandbox that systemd enforces. That of the disk is kept by the shim, and by a
/// [`quota`](super::quota).
fn usual_limits(limits: &Limits) -> [Property; 4] {
    [
        Property::MemoryMax(limits.memory.0),
        Property::MemorySwapMax(limits.swap.0),
        Property::CpuQuota(limits.cpu.0),
        Property::TasksMax(limits.tasks),
    ]
}

/// Those that few have, and whether this one does.
fn rare_limits(limits: &Limits) -> [(bool, Property); 4] {
    let Limits { memory_high, io_weight, io_read, io_write, .. } = limits;
    let bytes = |size: &crate::wire::quantity::ByteCount| size.0;
    [
        (memory_high.is_some(), Property::MemoryHigh(memory_high.as_ref().map(bytes))),
        (io_weight.is_some(), Property::IoWeight(*io_weight)),
        (io_read.is_some(), Property::IoReadBandwidthMax(SANDBOX_FOLDERS, io_read.as_ref().map(bytes))),
        (io_write.is_some(), Property::IoWriteBandwidthMax(SANDBOX_FOLDERS, io_write.as_ref().map(bytes))),
    ]
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
