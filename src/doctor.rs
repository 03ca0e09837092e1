//! What the daemon sees of what it needs; the rest of `ashctl doctor` looks from outside.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::statfs::{EXT4_SUPER_MAGIC, FsType, XFS_SUPER_MAGIC, statfs};
use tokio::net::TcpStream;

use crate::config::runtime::RuntimeError;
use crate::config::{Settings, runtime};
use crate::report::chain;
use crate::sandbox::Launcher;
use crate::sandbox::walls::Walls;
use crate::store::Store;
use crate::wire::health::{Check, CheckStatus, Checks};

/// How long the model endpoint may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Below this much room on the disk of the state folder, sessions will soon fail.
const DISK_LOW: u64 = 1 << 30;

/// Looks at everything the daemon needs.
#[derive(Debug)]
pub struct Doctor {
    runtime: Option<PathBuf>,
    base_url: String,
    data: PathBuf,
    /// Where plain HTTP is listened for beyond this host.
    exposed: Vec<SocketAddr>,
    secrets: Secrets,
    launcher: Arc<dyn Launcher>,
    walls: Arc<Walls>,
}

/// Which of the operator's secrets the daemon has.
#[derive(Debug, Clone, Copy)]
pub struct Secrets {
    /// The key of the model API.
    pub model_key: bool,
    /// The master key, under which credentials are sealed.
    pub master_key: bool,
}

impl Doctor {
    /// Will look at what these settings name.
    pub fn new(settings: &Settings, data: &Path, secrets: Secrets, launcher: Arc<dyn Launcher>, walls: Arc<Walls>) -> Self {
        let (runtime, base_url) = (settings.runtime.claude.clone(), settings.model.base_url.clone());
        let exposed = exposed(settings);
        Self { runtime, base_url, data: data.to_owned(), exposed, secrets, launcher, walls }
    }

    /// Looks now.
    pub async fn examine(&self, store: &Arc<dyn Store>) -> Checks {
        let checks = vec![
            self.launcher().await,
            self.confinement().await,
            self.runtime(),
            self.endpoint().await,
            self.key(),
            self.master_key(),
            listener(&self.exposed),
            database(store).await,
            self.disk(),
            self.disk_limit().await,
        ];
        Checks { checks }
    }

    async fn launcher(&self) -> Check {
        match self.launcher.list().await {
            Ok(listed) => {
                let running = listed.iter().filter(|one| one.running).count();
                let lacks = self.launcher.lacks();
                let sandboxes = if running == 1 { "sandbox has" } else { "sandboxes have" };
                let detail = format!("answers; {running} {sandboxes} processes");
                if lacks.is_empty() {
                    check("launcher", CheckStatus::Ok, detail)
                } else {
                    check("launcher", CheckStatus::Warning, format!("{detail}, but {}", lacks.join("; ")))
                }
            }
            Err(error) => failed("launcher", chain(&error), "systemctl start ash-launcher.socket"),
        }
    }

    async fn confinement(&self) -> Check {
        const NAME: &str = "confinement";
        match self.walls.examine().await {
            Ok(weaknesses) if weaknesses.is_empty() => {
                check(NAME, CheckStatus::Ok, "system calls are filtered, every namespace is a sandbox's own".to_owned())
            }
            Ok(weaknesses) => {
                let names: Vec<_> = weaknesses.iter().map(|weakness| weakness.as_str()).collect();
                check(NAME, CheckStatus::Warning, format!("sandboxes are weaker, as accepted: {}", names.join(", ")))
            }
            Err(error) => failed(NAME, error.to_string(), "man ash.toml, section [sandbox]; ashctl doctor, as root"),
        }
    }

    fn runtime(&self) -> Check {
        match runtime::find(self.runtime.as_deref()) {
            Ok(path) => check("runtime", CheckStatus::Ok, path.display().to_string()),
            Err(error) => {
                // Some errors name the command, for those who see nothing else. Here it has a line of its own.
                let (detail, fix) = (chain(&error), runtime::install_command());
                let detail = match error {
                    RuntimeError::NotInstalled => "the claude program is not installed".to_owned(),
                    RuntimeError::NotFound { path } => format!("{} does not exist", path.display()),
                    _ => detail,
                };
                failed("runtime", detail, &fix)
            }
        }
    }

    async fn endpoint(&self) -> Check {
        const NAME: &str = "model endpoint";
        let fix = "let this host reach it (name service, firewall), or set base_url in section [model] of /etc/ash/ash.toml";
        let uri: Option<hyper::Uri> = self.base_url.parse().ok();
        let Some((host, uri)) = uri.as_ref().and_then(|uri| Some((uri.host()?, uri))) else {
            return failed(NAME, format!("{:?} is not an address", self.base_url), fix);
        };
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        match tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => check(NAME, CheckStatus::Ok, format!("{} accepts connections", self.base_url)),
            Ok(Err(error)) => failed(NAME, format!("{}: {error}", self.base_url), fix),
            Err(_) => failed(NAME, format!("{} did not answer within {} s", self.base_url, CONNECT_DEADLINE.as_secs()), fix),
        }
    }

    fn key(&self) -> Check {
        if self.secrets.model_key {
            return check("model key", CheckStatus::Ok, "set".to_owned());
        }
        let fix = "install -m 0600 /dev/stdin /etc/ash/credentials/anthropic_api_key && systemctl restart ash   \
                   # paste the key, Enter, Ctrl-D";
        let detail = "none; sessions work only with a key of their own (ANTHROPIC_API_KEY in their environment)".to_owned();
        Check { fix: Some(fix.to_owned()), ..check("model key", CheckStatus::Warning, detail) }
    }

    fn master_key(&self) -> Check {
        const NAME: &str = "master key";
        if self.secrets.master_key {
            return check(NAME, CheckStatus::Ok, "set".to_owned());
        }
        let detail = "none; credentials can be neither kept nor used".to_owned();
        Check { fix: Some("ashctl credential rotate-master".to_owned()), ..check(NAME, CheckStatus::Warning, detail) }
    }

    fn disk(&self) -> Check {
        let found = nix::sys::statvfs::statvfs(&self.data);
        match found {
            Ok(disk) => {
                let free = disk.blocks_available() * disk.fragment_size();
                let room = if free >= DISK_LOW { format!("{} GiB", free >> 30) } else { format!("{} MiB", free >> 20) };
                let detail = format!("{room} free in {}", self.data.display());
                if free >= DISK_LOW {
                    return check("disk", CheckStatus::Ok, detail);
                }
                Check {
                    fix: Some("end sessions that are over: ashctl session list".to_owned()),
                    ..check("disk", CheckStatus::Warning, detail)
                }
            }
            Err(error) => failed("disk", format!("{}: {error}", self.data.display()), "ls -ld /var/lib/ash"),
        }
    }

    async fn disk_limit(&self) -> Check {
        const NAME: &str = "disk limit";
        match self.launcher.quota(None).await {
            Ok(true) => {
                let detail = "by accounting with a hard stop, and by a project quota somewhat above".to_owned();
                check(NAME, CheckStatus::Ok, detail)
            }
            Ok(false) => {
                let folder = self.data.join("sandboxes");
                // Before the first sandbox of a daemon without a launcher there is none.
                let found = [folder.as_path(), &self.data].into_iter().find_map(|folder| statfs(folder).ok());
                let hint = quota_hint(found.map(|found| found.filesystem_type()), &folder);
                check(NAME, CheckStatus::Ok, format!("by accounting with a hard stop; {hint}"))
            }
            Err(error) => failed(NAME, chain(&error), "systemctl start ash-launcher.socket"),
        }
    }
}

/// How a file system comes to quotas by project, by its number in linux/magic.h.
fn quota_hint(kind: Option<FsType>, folder: &Path) -> String {
    let folder = folder.display();
    match kind {
        Some(EXT4_SUPER_MAGIC) => format!(
            "for a project quota as well, have tune2fs -O project,quota done to the unmounted file system of {folder}, \
             mount it with prjquota, and restart ash-launcher"
        ),
        Some(XFS_SUPER_MAGIC) => format!(
            "for a project quota as well, mount the file system of {folder} with prjquota (a root file system: \
             rootflags=prjquota of the kernel), and restart ash-launcher"
        ),
        _ => format!("for a project quota as well, {folder} has to be on ext4 or XFS, mounted with prjquota"),
    }
}

/// Where plain HTTP is listened for beyond this host.
fn exposed(settings: &Settings) -> Vec<SocketAddr> {
    settings.http.listen.iter().filter(|address| !address.ip().is_loopback()).copied().collect()
}

/// Who listens in on the way reads what is not under TLS.
fn listener(exposed: &[SocketAddr]) -> Check {
    const NAME: &str = "listener";
    if exposed.is_empty() {
        return check(NAME, CheckStatus::Ok, "plain HTTP on this host alone".to_owned());
    }
    let addresses: Vec<_> = exposed.iter().map(ToString::to_string).collect();
    let detail = format!("plain HTTP on {}: API keys and sessions can be read on the way", addresses.join(", "));
    let fix = "set tls_listen in section [http] of /etc/ash/ash.toml in the place of listen (man ash.toml)";
    Check { fix: Some(fix.to_owned()), ..check(NAME, CheckStatus::Warning, detail) }
}

async fn database(store: &Arc<dyn Store>) -> Check {
    match store.check().await {
        Ok(()) => check("database", CheckStatus::Ok, "takes writes".to_owned()),
        Err(error) => failed("database", error.to_string(), "df -h /var/lib/ash; journalctl -u ash -n 50"),
    }
}

fn check(name: &str, status: CheckStatus, detail: String) -> Check {
    Check { name: name.to_owned(), status, detail, fix: None }
}

fn failed(name: &str, detail: String, fix: &str) -> Check {
    Check { fix: Some(fix.to_owned()), ..check(name, CheckStatus::Failed, detail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_beyond_this_host_is_a_warning() {
        let mut settings = Settings::default();
        assert_eq!(listener(&exposed(&settings)).status, CheckStatus::Ok);
        let addresses = ["[::1]:4100", "192.0.2.1:4100", "[::]:80"];
        settings.http.listen = addresses.map(|text| text.parse().expect(text)).to_vec();
        let check = listener(&exposed(&settings));
        assert_eq!(check.status, CheckStatus::Warning);
        assert!(check.detail.contains("192.0.2.1:4100, [::]:80") && !check.detail.contains("::1"), "{check:?}");
        assert!(check.fix.is_some_and(|fix| fix.contains("tls_listen")));
    }

    #[test]
    fn each_file_system_is_told_its_own_way_to_a_quota() {
        let folder = Path::new("/var/lib/ash/sandboxes");
        for (kind, said) in [
            (Some(EXT4_SUPER_MAGIC), "tune2fs -O project,quota"),
            (Some(XFS_SUPER_MAGIC), "rootflags=prjquota"),
            (Some(nix::sys::statfs::BTRFS_SUPER_MAGIC), "has to be on ext4 or XFS"),
            (None, "has to be on ext4 or XFS"),
        ] {
            let hint = quota_hint(kind, folder);
            assert!(hint.contains(said) && hint.contains("prjquota") && hint.contains("/var/lib/ash/sandboxes"), "{hint}");
        }
    }
}
