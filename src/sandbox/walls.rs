//! What this host confines sandboxes with, and what of it is missing.
//!
//! What is missing is an error that names it, before a sandbox is started, and no weaker sandbox. An
//! operator may accept some of it by name; then sandboxes are made without, and every session says so.
//! What is accepted and not missing is used.
//!
//! A host that has everything is looked at once. One that has not is looked at each time, so that it
//! heals without a restart. Limits are another matter: [`Launcher::lacks`](super::Launcher::lacks).

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::wire::weakness::Weakness;

/// Where the shim expects bubblewrap.
pub const BWRAP: &str = "/usr/bin/bwrap";
/// The oldest bubblewrap that knows all of the options: `--disable-userns` came last.
const WANTED: Version = Version(0, 8, 0);
/// The oldest that knows all others; of them, `--size` came last.
const OLDEST: Version = Version(0, 7, 0);
/// What a filter of system calls answers with (seccomp(2)).
const ACTIONS: [&str; 3] = ["allow", "errno", "kill_process"];
/// How long `bwrap --version` may take; it is milliseconds.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// A version of bubblewrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32, u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Something that a host lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Nothing can be started without.
    #[error("bubblewrap: {} can not be run ({reason}); install it with: apt-get install bubblewrap", path.display())]
    Bubblewrap {
        /// Where it was expected.
        path: PathBuf,
        /// Why it can not be.
        reason: String,
    },
    /// It does not know options without which no sandbox is made.
    #[error("bubblewrap {OLDEST}: this one is {found}")]
    OldBubblewrap {
        /// Its version.
        found: Version,
    },
    /// It does not know how to forbid further user namespaces.
    #[error("bubblewrap {WANTED}, for --disable-userns: this one is {found}")]
    UsernsLimit {
        /// Its version.
        found: Version,
    },
    /// Users without rights can not make one.
    #[error("user namespaces: {0}")]
    UserNamespaces(&'static str),
    /// The kernel has none.
    #[error("cgroup namespaces: the kernel has none (CONFIG_CGROUPS)")]
    CgroupNamespaces,
    /// The kernel has none.
    #[error("filters of system calls: the kernel has none (CONFIG_SECCOMP_FILTER)")]
    Seccomp,
}

impl Missing {
    /// The name under which it can be accepted.
    pub const fn weakness(&self) -> Option<Weakness> {
        match self {
            Self::Seccomp => Some(Weakness::NoSeccomp),
            Self::CgroupNamespaces => Some(Weakness::NoCgroupNamespace),
            Self::UsernsLimit { .. } => Some(Weakness::NoUsernsLimit),
            Self::Bubblewrap { .. } | Self::OldBubblewrap { .. } | Self::UserNamespaces(_) => None,
        }
    }
}

/// Why no sandbox is started on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WallError {
    /// What it lacks and nobody accepted.
    pub missing: Vec<Missing>,
}

impl std::error::Error for WallError {}

impl fmt::Display for WallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this host lacks what sandboxes are confined with: ")?;
        for (at, missing) in self.missing.iter().enumerate() {
            write!(f, "{}{missing}", if at == 0 { "" } else { "; " })?;
            if let Some(weakness) = missing.weakness() {
                write!(f, " (sandbox.accept can name it: \"{weakness}\")")?;
            }
        }
        Ok(())
    }
}

/// What to look at, and what is accepted.
#[derive(Debug, Clone)]
pub struct WallSettings {
    /// The root of the host's files, `/`.
    pub root: PathBuf,
    /// Bubblewrap.
    pub bwrap: PathBuf,
    /// What may be missing.
    pub accept: Vec<Weakness>,
    /// Whether debuggers are to work inside.
    pub ptrace: bool,
}

/// The walls of this host's sandboxes.
#[derive(Debug)]
pub struct Walls {
    settings: WallSettings,
    /// What sandboxes are without, where that was looked at and is accepted.
    found: Mutex<Option<Vec<Weakness>>>,
}

impl Walls {
    /// Walls that nobody has looked at.
    pub const fn new(settings: WallSettings) -> Self {
        Self { settings, found: Mutex::new(None) }
    }

    /// Those of a host that lacks nothing.
    #[cfg(test)]
    pub const fn whole() -> Self {
        let settings = WallSettings { root: PathBuf::new(), bwrap: PathBuf::new(), accept: Vec::new(), ptrace: false };
        Self { settings, found: Mutex::new(Some(Vec::new())) }
    }

    fn found(&self) -> MutexGuard<'_, Option<Vec<Weakness>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a sandbox that is made now is without. Looks at the host if it has not been found good.
    ///
    /// # Errors
    ///
    /// [`WallError`] names what is missing and not accepted.
    pub async fn weaknesses(&self) -> Result<Vec<Weakness>, WallError> {
        match self.known() {
            Some(known) => Ok(known),
            None => self.examine().await,
        }
    }

    /// The same without looking; `None` where no sandbox can be made.
    pub fn known(&self) -> Option<Vec<Weakness>> {
        self.found().clone()
    }

    /// Looks at the host.
    ///
    /// # Errors
    ///
    /// As [`weaknesses`](Self::weaknesses).
    pub async fn examine(&self) -> Result<Vec<Weakness>, WallError> {
        let mut missing = self.missing_of_kernel();
        missing.extend(self.missing_of_bwrap().await);
        let found = accepted(missing, &self.settings.accept, self.settings.ptrace);
        self.found().clone_from(&found.as_ref().ok().cloned());
        found
    }

    fn missing_of_kernel(&self) -> Vec<Missing> {
        let path = |path: &str| self.settings.root.join(path);
        let number = |name: &str| fs::read_to_string(path(name)).ok().map(|text| text.trim().to_owned());
        let has_namespace = |kind: &str| path("proc/self/ns").join(kind).symlink_metadata().is_ok();
        let mut missing = Vec::new();
        let actions = fs::read_to_string(path("proc/sys/kernel/seccomp/actions_avail")).unwrap_or_default();
        if !ACTIONS.iter().all(|wanted| actions.split_whitespace().any(|action| action == *wanted)) {
            missing.push(Missing::Seccomp);
        }
        if !has_namespace("cgroup") {
            missing.push(Missing::CgroupNamespaces);
        }
        if !has_namespace("user") {
            missing.push(Missing::UserNamespaces("the kernel has none (CONFIG_USER_NS)"));
        } else if number("proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
            missing.push(Missing::UserNamespaces("sysctl user.max_user_namespaces is 0"));
        } else if number("proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
            // Debian's own patch, off since Debian 11.
            missing.push(Missing::UserNamespaces("sysctl kernel.unprivileged_userns_clone is 0"));
        }
        missing
    }

    async fn missing_of_bwrap(&self) -> Option<Missing> {
        let mut command = tokio::process::Command::new(&self.settings.bwrap);
        command.arg("--version").env_clear().current_dir("/").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let unusable = |reason: String| Some(Missing::Bubblewrap { path: self.settings.bwrap.clone(), reason });
        let said = match tokio::time::timeout(VERSION_DEADLINE, command.output()).await {
            Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Ok(Err(error)) => return unusable(error.to_string()),
            Err(_) => return unusable(format!("no answer within {} s", VERSION_DEADLINE.as_secs())),
        };
        match parse_version(&said) {
            Some(found) if found < OLDEST => Some(Missing::OldBubblewrap { found }),
            Some(found) if found < WANTED => Some(Missing::UsernsLimit { found }),
            Some(_) => None,
            None => unusable(format!("it says {:?}", said.trim().chars().take(80).collect::<String>())),
        }
    }
}

/// What sandboxes are without, if all that is missing may be.
fn accepted(missing: Vec<Missing>, accept: &[Weakness], ptrace: bool) -> Result<Vec<Weakness>, WallError> {
    let may_be = |missing: &Missing| missing.weakness().is_some_and(|weakness| accept.contains(&weakness));
    let (good, bad): (Vec<_>, Vec<_>) = missing.into_iter().partition(may_be);
    if !bad.is_empty() {
        return Err(WallError { missing: bad });
    }
    let mut weaknesses: Vec<_> = good.iter().filter_map(Missing::weakness).collect();
    weaknesses.extend(ptrace.then_some(Weakness::Ptrace));
    weaknesses.sort();
    Ok(weaknesses)
}

/// Reads `bubblewrap 0.8.0`.
fn parse_version(said: &str) -> Option<Version> {
    let mut parts = said.trim().strip_prefix("bubblewrap ")?.split('.').map(|part| part.parse().ok());
    Some(Version(parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A host whose kernel has these files, and nothing but a bubblewrap of this version.
    fn host(files: &[(&str, &str)], bwrap: &str, accept: &[Weakness]) -> (tempfile::TempDir, Walls) {
        let root = tempfile::tempdir().expect("folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("inside")).expect("folder");
            fs::write(path, text).expect("file");
        }
        let program = root.path().join("bwrap");
        crate::sandbox::conformance::install(&program, &format!("#!/bin/sh\necho bubblewrap {bwrap}\n"));
        let settings = WallSettings { root: root.path().to_owned(), bwrap: program, accept: accept.to_vec(), ptrace: false };
        (root, Walls::new(settings))
    }

    const WHOLE: &[(&str, &str)] = &[
        ("proc/sys/kernel/seccomp/actions_avail", "kill_process kill_thread trap errno user_notif trace log allow\n"),
        ("proc/sys/user/max_user_namespaces", "15000\n"),
        ("proc/self/ns/cgroup", ""),
        ("proc/self/ns/user", ""),
    ];

    fn without(path: &str) -> Vec<(&'static str, &'static str)> {
        WHOLE.iter().copied().filter(|(of, _)| *of != path).collect()
    }

    #[tokio::test]
    async fn a_host_that_lacks_nothing_is_looked_at_once() {
        let (root, walls) = host(WHOLE, "0.11.0", &[Weakness::NoSeccomp]);
        assert_eq!((walls.known(), walls.weaknesses().await), (None, Ok(Vec::new())), "what is accepted and there is used");
        fs::remove_dir_all(root.path().join("proc")).expect("removes");
        assert_eq!((walls.weaknesses().await, walls.known()), (Ok(Vec::new()), Some(Vec::new())));
        assert!(walls.examine().await.is_err() && walls.known().is_none());
    }

    #[tokio::test]
    async fn what_is_missing_is_named_and_only_some_of_it_can_be_accepted() {
        let all = [Weakness::NoSeccomp, Weakness::NoCgroupNamespace, Weakness::NoUsernsLimit];
        let filters = "proc/sys/kernel/seccomp/actions_avail";
        let max = [without("proc/sys/user/max_user_namespaces"), vec![("proc/sys/user/max_user_namespaces", "0\n")]].concat();
        let clone = [WHOLE.to_vec(), vec![("proc/sys/kernel/unprivileged_userns_clone", "0\n")]].concat();
        for (files, bwrap, said, weakness) in [
            (without(filters), "0.8.0", "filters of system calls: ", Some(Weakness::NoSeccomp)),
            ([without(filters), vec![(filters, "allow trap")]].concat(), "0.8.0", "filters of ", Some(Weakness::NoSeccomp)),
            (without("proc/self/ns/cgroup"), "0.8.0", "cgroup namespaces: ", Some(Weakness::NoCgroupNamespace)),
            (WHOLE.to_vec(), "0.7.1", "bubblewrap 0.8.0, for --disable-userns: this one is 0.7.1", Some(Weakness::NoUsernsLimit)),
            (WHOLE.to_vec(), "0.4.1", "bubblewrap 0.7.0: this one is 0.4.1", None),
            (WHOLE.to_vec(), "of another kind", "can not be run (it says \"bubblewrap of another kind\")", None),
            (without("proc/self/ns/user"), "0.8.0", "user namespaces: the kernel has none", None),
            (max, "0.8.0", "user namespaces: sysctl user.max_user_namespaces is 0", None),
            (clone, "0.8.0", "user namespaces: sysctl kernel.unprivileged_userns_clone is 0", None),
        ] {
            let (_root, walls) = host(&files, bwrap, &[]);
            let error = walls.weaknesses().await.expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
            let name = weakness.map(|weakness| format!("(sandbox.accept can name it: \"{weakness}\")"));
            assert_eq!(error.contains("sandbox.accept"), name.is_some(), "{error}");
            assert!(name.is_none_or(|name| error.ends_with(&name)), "{error}");
            let (_root, walls) = host(&files, bwrap, &all);
            assert_eq!(walls.weaknesses().await.ok(), weakness.map(|weakness| vec![weakness]), "{said}");
        }
    }

    #[tokio::test]
    async fn a_host_without_bubblewrap_heals_when_it_comes() {
        let (root, walls) = host(WHOLE, "0.8.0", &[]);
        let (here, away) = (root.path().join("bwrap"), root.path().join("away"));
        fs::rename(&here, &away).expect("renames");
        let error = walls.weaknesses().await.expect_err("it is away").to_string();
        assert!(error.contains("apt-get install bubblewrap"), "{error}");
        fs::rename(&away, &here).expect("renames");
        assert_eq!(walls.weaknesses().await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn this_host_is_looked_at_as_it_is() {
        let settings = WallSettings { root: "/".into(), bwrap: BWRAP.into(), accept: Vec::new(), ptrace: true };
        if Path::new(BWRAP).exists() {
            assert_eq!(Walls::new(settings).weaknesses().await, Ok(vec![Weakness::Ptrace]));
        }
    }
}
