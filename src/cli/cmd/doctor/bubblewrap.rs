//! Bubblewrap: whether it is there, new enough, and can really build a sandbox.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::host::{PROFILE, output};
use super::{failed, ok, warning};
use crate::wire::health::Check;

/// Debian 12's: the first with `--disable-userns`.
const BWRAP_MIN: (u32, u32) = (0, 8);

const INSTALL: &str = "sudo apt install bubblewrap";

/// How long a trial may take before it counts as stuck; it takes milliseconds.
const TRIAL_DEADLINE_SECS: u64 = 10;
const TRIAL_POLL_MS: u64 = 5;

/// Whoever root becomes for the trial, as a sandbox never runs as root: `nobody` of Debian.
const NOBODY: u32 = 65_534;

pub(super) fn checks() -> Vec<Check> {
    let check = version(output("bwrap", &["--version"]).as_deref());
    let runs = check.status == crate::wire::health::CheckStatus::Ok;
    let mut checks = vec![check];
    checks.extend(runs.then(|| trial(started())));
    checks
}

fn version(text: Option<&str>) -> Check {
    const NAME: &str = "bubblewrap";
    let Some(text) = text else { return failed(NAME, "not found", INSTALL.to_owned()) };
    let version = text.split_whitespace().last().unwrap_or_default();
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= BWRAP_MIN => ok(NAME, version),
        (Some(Ok(_)), Some(Ok(_))) => {
            let detail = format!("{version} is too old: Ash needs {}.{}", BWRAP_MIN.0, BWRAP_MIN.1);
            failed(NAME, detail, format!("upgrade to Debian 12 or Ubuntu 24.04, then {INSTALL}"))
        }
        _ => failed(NAME, format!("can not read its version {text:?}"), INSTALL.to_owned()),
    }
}

/// What became of the trial: how it ended and what it said, or why there was none.
enum Trial {
    Ended(ExitStatus, String),
    Stuck,
    NotRun(std::io::Error),
}

/// Starts bubblewrap with every namespace, as a user without privileges.
fn started() -> Trial {
    let mut command = if is_restricted() {
        // As the shim starts it: others may have no user namespace here.
        let mut command = Command::new("aa-exec");
        command.args(["--profile", PROFILE, "--", "bwrap"]);
        command
    } else {
        Command::new("bwrap")
    };
    command.args(["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]);
    command.current_dir(PathBuf::from("/")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    match command.spawn() {
        Ok(child) => wait(child, Duration::from_secs(TRIAL_DEADLINE_SECS)),
        Err(error) => Trial::NotRun(error),
    }
}

/// Whether AppArmor gives user namespaces to known programs only (Ubuntu from 24.04 on).
fn is_restricted() -> bool {
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    sysctl.is_ok_and(|value| value.trim() == "1")
}

fn wait(mut child: Child, limit: Duration) -> Trial {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                let mut said = String::new();
                if let Some(mut stderr) = child.stderr.take() {
                    // What it said is a help, not needed.
                    drop(stderr.read_to_string(&mut said));
                }
                return Trial::Ended(status, said);
            }
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(TRIAL_POLL_MS)),
            Ok(None) => {
                drop(child.kill());
                drop(child.wait());
                return Trial::Stuck;
            }
            Err(error) => return Trial::NotRun(error),
        }
    }
}

fn trial(trial: Trial) -> Check {
    const NAME: &str = "sandbox";
    let look = "sudo dmesg | tail, and the check of user namespaces above".to_owned();
    match trial {
        Trial::Ended(status, _) if status.success() => ok(NAME, "bubblewrap starts one with every namespace, without privileges"),
        Trial::Ended(status, said) => {
            let said = said.trim().strip_prefix("bwrap: ").unwrap_or(said.trim()).to_owned();
            failed(
                NAME,
                format!("bubblewrap can not start one: {}", if said.is_empty() { status.to_string() } else { said }),
                look,
            )
        }
        Trial::Stuck => failed(NAME, format!("bubblewrap did not end within {TRIAL_DEADLINE_SECS} s"), look),
        Trial::NotRun(error) => {
            warning(NAME, format!("bubblewrap was not tried: {error}"), "run ashctl doctor as root".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::health::CheckStatus;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (text, status) in [
            (Some("bubblewrap 0.8.0\n"), CheckStatus::Ok),
            (Some("bubblewrap 0.11.0\n"), CheckStatus::Ok),
            (Some("bubblewrap 1.0\n"), CheckStatus::Ok),
            (Some("bubblewrap 0.6.1\n"), CheckStatus::Failed),
            (Some("nonsense"), CheckStatus::Failed),
            (None, CheckStatus::Failed),
        ] {
            let check = version(text);
            assert_eq!(check.status, status, "{check:?}");
            assert_eq!(check.fix.is_some(), status != CheckStatus::Ok);
        }
    }

    #[test]
    fn a_trial_that_fails_says_what_bubblewrap_said() {
        let said = "bwrap: setting up uid map: Permission denied\n".to_owned();
        let check = trial(Trial::Ended(ExitStatus::from_raw(256), said));
        assert_eq!(check.status, CheckStatus::Failed);
        assert!(check.detail.ends_with("setting up uid map: Permission denied"), "{check:?}");
        assert_eq!(trial(Trial::Ended(ExitStatus::from_raw(0), String::new())).status, CheckStatus::Ok);
        assert_eq!(trial(Trial::Stuck).status, CheckStatus::Failed);
    }

    #[test]
    fn a_trial_that_hangs_is_ended() {
        let start = |program: &str| Command::new(program).arg("1000").stderr(Stdio::piped()).spawn().expect("started");
        assert!(matches!(wait(start("sleep"), Duration::from_millis(1)), Trial::Stuck));
        assert!(matches!(wait(start("true"), Duration::from_secs(60)), Trial::Ended(status, _) if status.success()));
    }
}
