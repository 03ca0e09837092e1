//! Bubblewrap's command line: what a sandbox is made of. Pure.
//!
//! Inside there is a read-only system (`/usr` of the host, a made-up `/etc`), the workspace, HOME,
//! a sized `/tmp`, the runtime's program and init. All namespaces are new, the network has only a
//! loopback, no capability is left, no further user namespace can be made, and system calls are
//! filtered ([`super::seccomp`]).
//!
//! Flags are those of bubblewrap 0.8.0 (Debian 12), bwrap(1).

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::Path;

use crate::link::shim::{HOME_INSIDE, RUNTIME_INSIDE, WORKSPACE_INSIDE};
use crate::wire::weakness::Weakness;

/// Where init's program appears inside.
pub const INIT_INSIDE: &str = "/opt/ash/ash-init";
/// The user inside, in the sandbox's own user namespace.
pub const UID_INSIDE: u32 = 1000;

/// Files that are made up for all sandboxes.
const ETC_FILES: &[&str] = &["group", "hosts", "nsswitch.conf", "passwd"];
/// What Ash sets in the runtime's environment, in a file that its own settings in the workspace, which
/// every tool can write, do not override. Of the runtime `claude`, which is the only one yet.
const POLICY: &str = "managed-settings.json";
const POLICY_INSIDE: &str = "/etc/claude-code/managed-settings.json";
/// What of the host's `/etc` programs need in order to run, where it exists.
const ETC_OF_HOST: &[&str] = &["/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime", "/etc/ssl"];
/// Folders that are links into `/usr` on a merged system, which Debian is since 12.
const LINKS: &[(&str, &str)] = &[("usr/bin", "/bin"), ("usr/lib", "/lib"), ("usr/lib64", "/lib64"), ("usr/sbin", "/sbin")];

/// Files and folders of `/proc` that are about the host, or a way to it. `/proc/sys`, `/proc/irq`,
/// `/proc/bus` and `/proc/sysrq-trigger` can not be written, by bubblewrap itself; `/sys` is not there.
pub const HIDDEN: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
];
/// Those of them that are folders.
const HIDDEN_FOLDERS: &[&str] = &["/proc/acpi", "/proc/asound", "/proc/scsi"];

/// What differs between sandboxes. Paths are those of the host.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The sandbox's folder.
    pub state: &'a Path,
    /// Init's program.
    pub init: &'a Path,
    /// The folder with the made-up files of `/etc`.
    pub etc: &'a Path,
    /// The runtime's program.
    pub runtime: &'a Path,
    /// Size of `/tmp`.
    pub tmp_bytes: u64,
    /// What of [`HIDDEN`] this host has.
    pub hidden: &'a [&'a str],
    /// The compiled filters of system calls for what runs inside, as descriptors that bubblewrap
    /// inherits.
    pub seccomp: &'a [RawFd],
    /// What the operator accepts that it lacks.
    pub weaknesses: &'a [Weakness],
}

/// The arguments, without the name of the program.
pub fn arguments(plan: &Plan<'_>) -> Vec<OsString> {
    let mut args = Args(Vec::new());
    args.flags(&["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-net"]);
    if !plan.weaknesses.contains(&Weakness::NoCgroupNamespace) {
        args.flags(&["--unshare-cgroup"]);
    }
    if !plan.weaknesses.contains(&Weakness::NoUsernsLimit) {
        args.flags(&["--disable-userns"]);
    }
    args.flags(&["--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"]);
    args.flags(&["--cap-drop", "ALL", "--hostname", "agent"]);
    let uid = UID_INSIDE.to_string();
    args.flags(&["--uid", &uid, "--gid", &uid]);

    args.mount("--ro-bind", "/usr", "/usr");
    for (target, link) in LINKS {
        args.mount("--symlink", target, link);
    }
    for file in ETC_FILES {
        args.mount("--ro-bind", plan.etc.join(file), &format!("/etc/{file}"));
    }
    for path in ETC_OF_HOST {
        args.mount("--ro-bind-try", path, path);
    }
    args.mount("--ro-bind", plan.etc.join(POLICY), POLICY_INSIDE);
    args.flags(&["--proc", "/proc", "--dev", "/dev", "--dir", "/run"]);
    for path in plan.hidden {
        if HIDDEN_FOLDERS.contains(path) {
            args.flags(&["--tmpfs", path, "--remount-ro", path]);
        } else {
            // A device without the right to be one, so it can not be opened.
            args.mount("--ro-bind", "/dev/null", path);
        }
    }
    if !plan.weaknesses.contains(&Weakness::Ptrace) {
        // Else a tool could write into the memory of the runtime, which has the same user.
        args.flags(&["--remount-ro", "/proc"]);
    }
    // `/dev` itself is a tmpfs of half the host's memory.
    for folder in ["/tmp", "/dev/shm"] {
        if plan.tmp_bytes > 0 {
            args.flags(&["--size", &plan.tmp_bytes.to_string()]);
        }
        args.flags(&["--tmpfs", folder]);
    }
    args.mount("--bind", plan.state.join("home"), HOME_INSIDE);
    args.mount("--bind", plan.state.join("workspace"), WORKSPACE_INSIDE);
    args.mount("--ro-bind", plan.runtime, RUNTIME_INSIDE);
    args.mount("--ro-bind", plan.init, INIT_INSIDE);
    args.flags(&["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORKSPACE_INSIDE]);
    for filter in plan.seccomp {
        args.flags(&["--add-seccomp-fd", &filter.to_string()]);
    }
    args.flags(&["--", INIT_INSIDE, "serve"]);
    args.0
}

struct Args(Vec<OsString>);

impl Args {
    fn flags(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    fn mount(&mut self, how: &str, from: impl Into<OsString>, to: &str) {
        self.0.extend([how.into(), from.into(), to.into()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan<'static> {
        Plan {
            state: Path::new("/s"),
            init: Path::new("/i"),
            etc: Path::new("/e"),
            runtime: Path::new("/r"),
            tmp_bytes: 1 << 20,
            hidden: &["/proc/acpi", "/proc/keys"],
            seccomp: &[7, 8],
            weaknesses: &[],
        }
    }

    fn words(plan: &Plan<'_>) -> Vec<String> {
        arguments(plan).into_iter().map(|word| word.into_string().expect("text")).collect()
    }

    fn has(words: &[String], wanted: &[&str]) -> bool {
        words.windows(wanted.len()).any(|window| window == wanted)
    }

    #[test]
    fn every_namespace_is_new_and_no_right_is_left() {
        let words = words(&plan());
        let flags = [
            "--unshare-user",
            "--unshare-ipc",
            "--unshare-pid",
            "--unshare-uts",
            "--unshare-cgroup",
            "--unshare-net",
            "--disable-userns",
            "--die-with-parent",
            "--new-session",
            "--as-pid-1",
            "--clearenv",
        ];
        for flag in flags {
            assert!(has(&words, &[flag]), "{flag}");
        }
        assert!(has(&words, &["--cap-drop", "ALL"]));
        assert!(has(&words, &["--uid", "1000", "--gid", "1000"]));
        assert!(!words.iter().any(|word| word == "--share-net" || word == "--cap-add"));
    }

    #[test]
    fn only_workspace_home_and_tmp_can_be_written() {
        let words = words(&plan());
        let writable: Vec<_> = words.windows(3).filter(|w| w[0] == "--bind").map(|w| (w[1].as_str(), w[2].as_str())).collect();
        assert_eq!(writable, [("/s/home", "/home/agent"), ("/s/workspace", "/work")]);
        assert!(has(&words, &["--size", "1048576", "--tmpfs", "/tmp", "--size", "1048576", "--tmpfs", "/dev/shm"]));
        assert!(has(&words, &["--remount-ro", "/dev"]));
        let at = |word: &str| words.iter().rposition(|w| w == word).expect("there");
        assert!(at("--remount-ro") > at("--ro-bind"), "the root is closed last");
        assert_eq!(words[at("--")..], ["--", "/opt/ash/ash-init", "serve"]);
    }

    #[test]
    fn filters_are_passed_on_and_what_is_about_the_host_is_hidden() {
        let words = words(&plan());
        assert!(has(&words, &["--add-seccomp-fd", "7", "--add-seccomp-fd", "8", "--"]));
        assert!(has(&words, &["--ro-bind", "/dev/null", "/proc/keys"]));
        assert!(has(&words, &["--tmpfs", "/proc/acpi", "--remount-ro", "/proc/acpi"]));
        assert!(has(&words, &["--remount-ro", "/proc"]));
    }

    #[test]
    fn only_what_was_accepted_is_left_out() {
        let left_out = [
            (Weakness::NoCgroupNamespace, &["--unshare-cgroup"][..]),
            (Weakness::NoUsernsLimit, &["--disable-userns"]),
            (Weakness::Ptrace, &["--remount-ro", "/proc"]),
        ];
        let whole = words(&plan());
        for (weakness, flags) in left_out {
            let weaker = words(&Plan { weaknesses: &[weakness], ..plan() });
            assert!(has(&whole, flags) && !has(&weaker, flags), "{weakness}");
            assert_eq!(weaker.len() + flags.len(), whole.len(), "{weakness}");
        }
    }
}
