//! Checks of the host that need no daemon.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use indicatif::HumanBytes;
use nix::sys::statvfs::statvfs;

use super::{failed, ok, warning};
use crate::wire::health::Check;

/// Debian 12's; older ones lack properties that sandboxes are started with.
const SYSTEMD_MIN: u32 = 252;

/// What limits of a sandbox need.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// The AppArmor profile that the package brings.
pub(super) const PROFILE: &str = "ash-shim";
const STATE_DIR: &str = "/var/lib/ash";
const DISK_WARN_BYTES: u64 = 5 << 30;
const DISK_FAIL_BYTES: u64 = 512 << 20;

/// Where the runtime's installers put it; the daemon looks there too, and closer.
const RUNTIME_PLACES: [&str; 4] = ["/usr/local/bin/claude", "/usr/bin/claude", "/opt/claude/bin/claude", "/opt/claude/claude"];
/// Where npm of Debian, and npm of other sources, put the package of this processor.
const NPM_PLACES: [&str; 2] = ["/usr/local/lib/node_modules", "/usr/lib/node_modules"];

pub(super) fn checks(control: &Path) -> Vec<Check> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let mut checks = vec![
        systemd(output("systemctl", &["--version"]).as_deref(), read("/proc/1/comm").as_deref()),
        cgroups(read("/sys/fs/cgroup/cgroup.controllers").as_deref()),
        user_namespaces(&Sysctls {
            max: read("/proc/sys/user/max_user_namespaces"),
            clone: read("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            bwrap_profile: bwrap_profile(read("/sys/kernel/security/apparmor/profiles").as_deref()),
        }),
        apparmor(
            read("/sys/module/apparmor/parameters/enabled").as_deref(),
            fs::read_to_string("/sys/kernel/security/apparmor/profiles").map_err(|error| error.kind()).as_deref(),
            read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref(),
        ),
        runtime(&runtime_places()),
        socket(control),
    ];
    checks.extend(disk(Path::new(STATE_DIR)));
    checks
}

/// Standard output of a program that ends well.
pub(super) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let run = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    run.status.success().then(|| String::from_utf8_lossy(&run.stdout).into_owned())
}

fn systemd(version: Option<&str>, first: Option<&str>) -> Check {
    const NAME: &str = "systemd";
    let number = version.and_then(|text| text.split_whitespace().nth(1)?.parse::<u32>().ok());
    match (number, first.map(str::trim)) {
        (None, _) => failed(NAME, "not found", "Ash needs a host that systemd runs: Debian 12 or 13, Ubuntu 24.04".to_owned()),
        (Some(number), _) if number < SYSTEMD_MIN => {
            failed(NAME, format!("{number} is too old"), format!("Ash needs {SYSTEMD_MIN}: upgrade to Debian 12 or Ubuntu 24.04"))
        }
        (Some(number), Some("systemd")) => ok(NAME, format!("{number}, process 1")),
        (Some(number), first) => {
            let first = first.unwrap_or("unknown");
            let fix = "use a host or a container that systemd runs, such as systemd-nspawn --boot".to_owned();
            failed(NAME, format!("{number} is installed, but process 1 is {first}"), fix)
        }
    }
}

fn cgroups(controllers: Option<&str>) -> Check {
    const NAME: &str = "cgroups";
    let Some(controllers) = controllers else {
        let fix =
            "boot with systemd.unified_cgroup_hierarchy=1: in GRUB_CMDLINE_LINUX of /etc/default/grub, then sudo update-grub";
        return failed(NAME, "version 2 is not mounted on /sys/fs/cgroup", fix.to_owned());
    };
    let there: Vec<&str> = controllers.split_whitespace().collect();
    let missing: Vec<&str> = CONTROLLERS.into_iter().filter(|name| !there.contains(name)).collect();
    if missing.is_empty() {
        return ok(NAME, format!("version 2 with {}", CONTROLLERS.join(" ")));
    }
    let fix = if missing.contains(&"memory") {
        "boot with cgroup_enable=memory; in a container, delegate the controllers to it".to_owned()
    } else {
        "delegate the controllers to this machine, or use a kernel that has them".to_owned()
    };
    failed(NAME, format!("version 2, but without {}", missing.join(" ")), fix)
}

/// Kernel settings that decide who may make a user namespace; `None` where the kernel has none.
struct Sysctls {
    max: Option<String>,
    clone: Option<String>,
    apparmor: Option<String>,
    bwrap_profile: bool,
}

fn user_namespaces(sysctls: &Sysctls) -> Check {
    const NAME: &str = "user namespaces";
    let is = |value: &Option<String>, text: &str| value.as_deref().is_some_and(|value| value.trim() == text);
    let set = |name: &str, value: &str| {
        Some(format!("echo {name}={value} | sudo tee /etc/sysctl.d/50-ash-userns.conf && sudo sysctl --system"))
    };
    if sysctls.max.is_none() || is(&sysctls.max, "0") {
        let detail = if sysctls.max.is_none() { "the kernel has none" } else { "user.max_user_namespaces is 0" };
        return failed(NAME, detail, set("user.max_user_namespaces", "15000"));
    }
    // Debian's own patch.
    if is(&sysctls.clone, "0") {
        return failed(NAME, "kernel.unprivileged_userns_clone is 0", set("kernel.unprivileged_userns_clone", "1"));
    }
    // Ubuntu 23.10 and later.
    if is(&sysctls.apparmor, "1") && !sysctls.bwrap_profile {
        let detail = "AppArmor allows them to known programs only, and bubblewrap is not one";
        return failed(NAME, detail, set("kernel.apparmor_restrict_unprivileged_userns", "0"));
    }
    ok(NAME, format!("allowed, at most {}", sysctls.max.as_deref().unwrap_or_default().trim()))
}

/// Which profile sandboxes get, as their units ask for it.
fn apparmor(enabled: Option<&str>, profiles: Result<&str, &std::io::ErrorKind>, restricts: Option<&str>) -> Check {
    const NAME: &str = "apparmor";
    if enabled.map(str::trim) != Some("Y") {
        return ok(NAME, "off; no wall of a sandbox depends on it");
    }
    let is_loaded = |text: &str| text.lines().any(|line| line.split_whitespace().next() == Some(PROFILE));
    match profiles {
        Ok(text) if is_loaded(text) => {
            ok(NAME, format!("sandboxes have the profile {PROFILE}, which gives them user namespaces"))
        }
        _ if restricts.map(str::trim) != Some("1") => {
            ok(NAME, format!("on; this host gives user namespaces also without the profile {PROFILE}"))
        }
        // Bubblewrap may have one of its own; the check of user namespaces tells.
        Ok(_) => {
            let fix = format!("sudo apparmor_parser --replace /etc/apparmor.d/{PROFILE}");
            warning(NAME, format!("the profile {PROFILE}, which gives sandboxes user namespaces, is not loaded"), fix)
        }
        Err(_) => {
            warning(NAME, format!("whether the profile {PROFILE} is loaded is for root to see"), "sudo ashctl doctor".to_owned())
        }
    }
}

/// Whether AppArmor has a profile for bubblewrap, or Ash's own for what the shim starts; without root the list can not be read, and the
/// trial start of bubblewrap tells.
fn bwrap_profile(profiles: Option<&str>) -> bool {
    let lets_through = |name: &str| name.contains("bwrap") || name == PROFILE;
    profiles.is_none_or(|text| text.lines().any(|line| line.split_whitespace().next().is_some_and(lets_through)))
}

fn runtime_places() -> Vec<PathBuf> {
    let npm = NPM_PLACES.map(|folder| Path::new(folder).join(runtime_package()).join("claude"));
    RUNTIME_PLACES.map(PathBuf::from).into_iter().chain(npm).collect()
}

/// The package with the native program alone; the one that is named `claude-code` needs a newer
/// Node.js than Debian has.
fn runtime_package() -> String {
    let processor = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("@anthropic-ai/claude-code-linux-{processor}")
}

fn runtime(places: &[PathBuf]) -> Check {
    const NAME: &str = "runtime";
    let runs = |path: &&PathBuf| fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    match places.iter().find(runs) {
        Some(path) => ok(NAME, path.display().to_string()),
        None => {
            let fix = format!("sudo apt install npm && sudo npm install --global {}", runtime_package());
            warning(NAME, "claude is in none of the usual places; only the daemon knows its configuration", fix)
        }
    }
}

fn socket(path: &Path) -> Check {
    const NAME: &str = "socket";
    let at = path.display();
    match fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => ok(NAME, format!("{at}, mode {:o}", found.permissions().mode() & 0o777)),
        Ok(_) => failed(NAME, format!("{at} is no socket"), format!("sudo rm {at} && sudo systemctl restart ash.socket ash")),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let fix = "sudo usermod -aG ash $USER, then log in again".to_owned();
            failed(NAME, format!("{at} is not for you: your user is not in group ash"), fix)
        }
        Err(_) => failed(NAME, format!("{at} does not exist"), "sudo systemctl start ash.socket ash".to_owned()),
    }
}

/// Room for what sandboxes write; nothing if Ash is not installed, which other checks say.
fn disk(folder: &Path) -> Option<Check> {
    let found = statvfs(folder).ok()?;
    let free = found.blocks_available() * found.fragment_size();
    Some(room(folder, free))
}

fn room(folder: &Path, free: u64) -> Check {
    const NAME: &str = "disk";
    let detail = format!("{} free on {}", HumanBytes(free), folder.display());
    let fix = || format!("make room, or move {} to a larger file system", folder.display());
    match free {
        ..DISK_FAIL_BYTES => failed(NAME, detail, fix()),
        DISK_FAIL_BYTES..DISK_WARN_BYTES => warning(NAME, detail, fix()),
        DISK_WARN_BYTES.. => ok(NAME, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::health::CheckStatus;

    fn is(check: &Check, status: CheckStatus, words: &str) {
        assert_eq!(check.status, status, "{check:?}");
        let text = format!("{} {}", check.detail, check.fix.as_deref().unwrap_or_default());
        assert!(text.contains(words), "{check:?}");
        assert_eq!(check.fix.is_some(), status != CheckStatus::Ok, "{check:?}");
    }

    #[test]
    fn systemd_has_to_be_new_and_process_1() {
        let debian_12 = "systemd 252 (252.39-1~deb12u1)\n+PAM +AUDIT\n";
        is(&systemd(Some(debian_12), Some("systemd\n")), CheckStatus::Ok, "252, process 1");
        is(&systemd(Some("systemd 257 (257.9-1~deb13u1)"), Some("systemd")), CheckStatus::Ok, "257");
        is(&systemd(Some("systemd 249 (249.11)"), Some("systemd")), CheckStatus::Failed, "too old");
        is(&systemd(Some(debian_12), Some("bash")), CheckStatus::Failed, "process 1 is bash");
        is(&systemd(None, Some("init")), CheckStatus::Failed, "not found");
    }

    #[test]
    fn controllers_are_named_when_they_miss() {
        is(&cgroups(Some("cpuset cpu io memory hugetlb pids rdma misc\n")), CheckStatus::Ok, "version 2");
        is(&cgroups(Some("cpuset cpu io pids\n")), CheckStatus::Failed, "without memory");
        is(&cgroups(Some("\n")), CheckStatus::Failed, "without cpu io memory pids");
        is(&cgroups(None), CheckStatus::Failed, "unified_cgroup_hierarchy");
    }

    #[test]
    fn user_namespaces_need_every_setting() {
        let sysctls = |max: Option<&str>, clone: Option<&str>, apparmor: Option<&str>, bwrap_profile| Sysctls {
            max: max.map(Into::into),
            clone: clone.map(Into::into),
            apparmor: apparmor.map(Into::into),
            bwrap_profile,
        };
        is(&user_namespaces(&sysctls(Some("15000\n"), None, None, false)), CheckStatus::Ok, "15000");
        is(&user_namespaces(&sysctls(Some("15000\n"), Some("1\n"), Some("1\n"), true)), CheckStatus::Ok, "15000");
        is(&user_namespaces(&sysctls(Some("0\n"), None, None, true)), CheckStatus::Failed, "max_user_namespaces");
        is(&user_namespaces(&sysctls(None, None, None, true)), CheckStatus::Failed, "has none");
        is(&user_namespaces(&sysctls(Some("1"), Some("0\n"), None, true)), CheckStatus::Failed, "unprivileged_userns_clone=1");
        is(&user_namespaces(&sysctls(Some("1"), None, Some("1\n"), false)), CheckStatus::Failed, "apparmor_restrict");
    }

    #[test]
    fn the_profile_of_sandboxes_is_needed_where_apparmor_restricts_namespaces() {
        let (with, without) = (Ok("bwrap (enforce)\nash-shim (unconfined)\n"), Ok("bwrap (enforce)\nash-shim-2 (enforce)\n"));
        is(&apparmor(None, with, None), CheckStatus::Ok, "off");
        is(&apparmor(Some("N\n"), with, None), CheckStatus::Ok, "off");
        is(&apparmor(Some("Y\n"), with, Some("1\n")), CheckStatus::Ok, "have the profile");
        is(&apparmor(Some("Y\n"), without, Some("1\n")), CheckStatus::Warning, "apparmor_parser");
        is(&apparmor(Some("Y\n"), without, Some("0\n")), CheckStatus::Ok, "also without");
        let closed = Err(&std::io::ErrorKind::PermissionDenied);
        is(&apparmor(Some("Y\n"), closed, None), CheckStatus::Ok, "also without");
        is(&apparmor(Some("Y\n"), closed, Some("1\n")), CheckStatus::Warning, "for root to see");
    }

    #[test]
    fn the_runtime_has_to_be_executable() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("claude");
        is(&runtime(std::slice::from_ref(&path)), CheckStatus::Warning, "npm install");
        fs::write(&path, "").expect("written");
        is(&runtime(std::slice::from_ref(&path)), CheckStatus::Warning, "npm install");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
        is(&runtime(&[path]), CheckStatus::Ok, "claude");
    }

    #[test]
    fn the_socket_has_to_be_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ash.sock");
        is(&socket(&path), CheckStatus::Failed, "systemctl start");
        fs::write(&path, "").expect("written");
        is(&socket(&path), CheckStatus::Failed, "is no socket");
        fs::remove_file(&path).expect("removed");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        is(&socket(&path), CheckStatus::Ok, "mode");
    }

    #[test]
    fn little_room_is_a_warning_and_none_a_failure() {
        let folder = Path::new("/var/lib/ash");
        is(&room(folder, 100 << 30), CheckStatus::Ok, "100.00 GiB free");
        is(&room(folder, 1 << 30), CheckStatus::Warning, "make room");
        is(&room(folder, 1 << 20), CheckStatus::Failed, "make room");
    }
}
