//! Finds the runtime's program and checks that a sandbox can run it.
//!
//! Ash does not ship the program, as its licence does not allow it. Sandboxes have uids of their
//! own, so the program has to be readable and executable, and every folder above it passable, for
//! users who are neither owner nor group.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

/// The oldest version whose options and messages are known to fit.
pub const OLDEST_VERSION: Version = Version { major: 2, minor: 1, patch: 197 };
/// How long `claude --version` may take. It is a quarter of a second from a warm cache; a cold disk
/// has 360 MiB to bring.
pub const VERSION_DEADLINE: Duration = Duration::from_secs(30);

/// Read from a program that is asked for its version.
const OUTPUT_MAX: u64 = 4096;
/// Shown of what another program says.
const SAID_MAX: usize = 80;
/// Read and execute for others.
const OTHERS_RUN: u32 = 0o005;
/// Pass through a folder for others.
const OTHERS_PASS: u32 = 0o001;

/// A version of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Changes where nothing fits any more.
    pub major: u64,
    /// Changes with larger features.
    pub minor: u64,
    /// Counts releases.
    pub patch: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Why there is no runtime to run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// It is in none of the usual places.
    #[error("the claude program is not installed; install it as root with: {}", install_command())]
    NotInstalled,
    /// It is not where the configuration says.
    #[error("{} does not exist; install claude as root with: {}", path.display(), install_command())]
    NotFound {
        /// The path as it was given.
        path: PathBuf,
    },
    /// It, or a folder above it, can not be looked at.
    #[error("{} can not be looked at", path.display())]
    Inspect {
        /// What could not be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path, links resolved.
        path: PathBuf,
    },
    /// Sandboxes may not execute it.
    #[error("{} can not be read and executed by all users; mend it with: chmod o+rx {}", path.display(), path.display())]
    NotExecutable {
        /// The path, links resolved.
        path: PathBuf,
    },
    /// Sandboxes can not get to it.
    #[error(
        "{} can not be reached by all users, as {} is closed to them; move it, or open the folder with: chmod o+x {}",
        path.display(), folder.display(), folder.display()
    )]
    NotReachable {
        /// The path, links resolved.
        path: PathBuf,
        /// The folder above it which is closed.
        folder: PathBuf,
    },
    /// It could not be started.
    #[error("{} can not be started", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It did not say its version in time.
    #[error("{} --version took longer than {} s", path.display(), deadline.as_secs())]
    Slow {
        /// The program.
        path: PathBuf,
        /// How long it had.
        deadline: Duration,
    },
    /// It is another program.
    #[error("{} is not Claude Code: asked for its version, it said {said:?}", path.display())]
    WrongProgram {
        /// The program.
        path: PathBuf,
        /// The beginning of what it said.
        said: String,
    },
    /// It is too old.
    #[error("{} is version {found}, at least {OLDEST_VERSION} is needed; install the newest as root with: {}", path.display(), install_command())]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        found: Version,
    },
}

/// The one command that installs the runtime where [`find`] finds it.
///
/// It takes the package of this platform alone. That package has the native program and no link in
/// a folder of `PATH`; it is the better choice, since the package `claude-code` asks for a newer
/// Node.js than Debian has, upon which npm silently installs an old release.
pub fn install_command() -> String {
    let npm = format!("npm install --global {}", package());
    if ["/usr/bin/npm", "/usr/local/bin/npm"].iter().any(|path| Path::new(path).exists()) {
        return npm;
    }
    format!("apt-get install --yes npm && {npm}")
}

fn package() -> String {
    let processor = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("@anthropic-ai/claude-code-linux-{processor}")
}

/// Where the program is looked for, best first.
pub fn usual_places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = ["/usr/local/bin", "/usr/bin", "/opt/claude/bin", "/opt/claude"]
        .iter()
        .map(|folder| Path::new(folder).join("claude"))
        .collect();
    // npm of Debian installs below /usr/local, npm of other sources below /usr.
    places.extend(
        ["/usr/local", "/usr"].iter().map(|prefix| Path::new(prefix).join("lib/node_modules").join(package()).join("claude")),
    );
    places
}

/// Finds the program, at `configured` or in the [`usual_places`], and resolves links.
///
/// # Errors
///
/// [`RuntimeError::NotInstalled`] or [`RuntimeError::NotFound`], or why what is there can not be
/// run in a sandbox. Whether it is the right program only [`version`] tells.
pub fn find(configured: Option<&Path>) -> Result<PathBuf, RuntimeError> {
    match configured {
        Some(path) => check(path),
        None => find_among(&usual_places()),
    }
}

/// The first place that has a program fit for sandboxes; else what is wrong with the first that is
/// there at all.
fn find_among(places: &[PathBuf]) -> Result<PathBuf, RuntimeError> {
    let mut first = None;
    for place in places {
        match check(place) {
            Ok(path) => return Ok(path),
            Err(RuntimeError::NotFound { .. }) => {}
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or(RuntimeError::NotInstalled))
}

fn check(given: &Path) -> Result<PathBuf, RuntimeError> {
    let inspect = |path: &Path, source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => RuntimeError::NotFound { path: given.to_owned() },
        _ => RuntimeError::Inspect { path: path.to_owned(), source },
    };
    let path = std::fs::canonicalize(given).map_err(|source| inspect(given, source))?;
    let metadata = std::fs::metadata(&path).map_err(|source| inspect(&path, source))?;
    if !metadata.is_file() {
        return Err(RuntimeError::NotAFile { path });
    }
    if metadata.permissions().mode() & OTHERS_RUN != OTHERS_RUN {
        return Err(RuntimeError::NotExecutable { path });
    }
    for folder in path.ancestors().skip(1) {
        let mode = std::fs::metadata(folder).map_err(|source| inspect(folder, source))?.permissions().mode();
        if mode & OTHERS_PASS == 0 {
            let folder = folder.to_owned();
            return Err(RuntimeError::NotReachable { path, folder });
        }
    }
    Ok(path)
}

/// Asks a program for its version.
///
/// # Errors
///
/// [`RuntimeError::Start`], [`RuntimeError::Slow`], [`RuntimeError::WrongProgram`],
/// [`RuntimeError::TooOld`].
///
/// # Cancel safety
///
/// The program is killed when the future is dropped.
pub async fn version(path: &Path, deadline: Duration) -> Result<Version, RuntimeError> {
    let start = |source| RuntimeError::Start { path: path.to_owned(), source };
    let mut child = tokio::process::Command::new(path)
        .arg("--version")
        // Nothing of the daemon's environment is the program's business, its credentials least.
        .env_clear()
        .env("HOME", "/nonexistent")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let mut output = Vec::new();
    let stdout = child.stdout.take();
    let answer = async {
        if let Some(stdout) = stdout {
            stdout.take(OUTPUT_MAX).read_to_end(&mut output).await?;
        }
        child.wait().await
    };
    match tokio::time::timeout(deadline, answer).await {
        Ok(ended) => ended.map_err(start)?,
        Err(_) => return Err(RuntimeError::Slow { path: path.to_owned(), deadline }),
    };
    let said = String::from_utf8_lossy(&output);
    match parse_version(&said) {
        Some(found) if found < OLDEST_VERSION => Err(RuntimeError::TooOld { path: path.to_owned(), found }),
        Some(found) => Ok(found),
        None => Err(RuntimeError::WrongProgram { path: path.to_owned(), said: said.trim().chars().take(SAID_MAX).collect() }),
    }
}

/// Reads `2.1.330 (Claude Code)`.
fn parse_version(said: &str) -> Option<Version> {
    let number = said.trim().strip_suffix("(Claude Code)")?.trim_end();
    let mut parts = number.splitn(3, '.');
    let mut next = || parts.next()?.parse().ok();
    let (major, minor) = (next()?, next()?);
    // A release may carry a mark after its number, as in 2.1.330-beta.1.
    let last = parts.next()?;
    let digits = last.split(['-', '+']).next()?;
    Some(Version { major, minor, patch: digits.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_and_compare() {
        for (said, version) in [
            ("2.1.330 (Claude Code)\n", Some((2, 1, 330))),
            ("2.1.330-beta.1 (Claude Code)", Some((2, 1, 330))),
            ("10.0.0 (Claude Code)", Some((10, 0, 0))),
            ("", None),
            ("2.1.330", None),
            ("claude 2.1.330", None),
            ("2.1 (Claude Code)", None),
            ("2.x.1 (Claude Code)", None),
            ("(Claude Code)", None),
        ] {
            let version = version.map(|(major, minor, patch)| Version { major, minor, patch });
            assert_eq!(parse_version(said), version, "{said:?}");
        }
        assert!(Version { major: 2, minor: 1, patch: 99 } < OLDEST_VERSION);
        assert!(Version { major: 2, minor: 2, patch: 0 } > OLDEST_VERSION);
    }

    #[test]
    fn the_installed_package_is_where_it_is_looked_for() {
        let command = install_command();
        let package = command.rsplit(' ').next().expect("a word");
        let end = Path::new(package).join("claude");
        assert!(usual_places().iter().any(|place| place.ends_with(&end)), "{command}");
    }

    fn place(folder: &Path, name: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("folder");
        std::fs::write(&path, "").expect("file");
        set(&path, mode);
        path
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
    }

    #[test]
    fn what_a_sandbox_could_not_run_is_refused_by_name() {
        let temporary = tempfile::tempdir().expect("folder");
        let folder = std::fs::canonicalize(temporary.path()).expect("folder");
        set(&folder, 0o755);

        let good = place(&folder, "good/claude", 0o755);
        let link = folder.join("link");
        std::os::unix::fs::symlink(&good, &link).expect("link");
        assert_eq!(check(&link).expect("good"), good);

        let missing = folder.join("good/nothing");
        assert!(matches!(check(&missing), Err(RuntimeError::NotFound { path }) if path == missing));
        assert!(matches!(check(&good.join("below")), Err(RuntimeError::NotFound { .. })));
        assert!(matches!(check(&folder), Err(RuntimeError::NotAFile { .. })));
        for mode in [0o644, 0o750, 0o754, 0o751] {
            let path = place(&folder, "modes/claude", mode);
            assert!(matches!(check(&path), Err(RuntimeError::NotExecutable { .. })), "{mode:o}");
        }
        let closed = place(&folder, "closed/open/claude", 0o755);
        set(&folder.join("closed"), 0o750);
        let error = check(&closed).expect_err("closed");
        assert!(matches!(&error, RuntimeError::NotReachable { folder: at, .. } if *at == folder.join("closed")), "{error}");

        assert_eq!(find_among(&[missing.clone(), closed.clone(), link]).expect("found"), good);
        assert!(matches!(find_among(&[missing.clone(), closed]), Err(RuntimeError::NotReachable { .. })));
        let none = find_among(&[missing]).expect_err("none");
        assert!(none.to_string().contains(&install_command()), "{none}");
    }
}
