//! The backend without systemd: each shim is a child process.
//!
//! For tests of the layers above and for `ashd --dev`. [`lacks`](Launcher::lacks) says what is
//! missing. The shim leads a session of its own, so it outlives the daemon; a later daemon finds
//! it by `<run>/<id>.pid`, which the child itself writes before it becomes the shim, and by its
//! command line, as numbers of processes are used again. What a shim prints is in `<run>/<id>.log`.
//! How a shim ended is known to the daemon that started it, and to no later one.

mod detach;
mod process;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::Instant;

use self::process::Process;
use super::{Ended, LaunchError, Launcher, Limits, Listed, Pending, Spec, Started};
use crate::cgroup::Figures;
use crate::fault;
use crate::report;
use crate::wire::SandboxId;

/// How long killed processes may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(20);
/// How long a shim that was started may take to be found among the processes.
const FIND_DEADLINE: Duration = Duration::from_secs(10);
/// How often to look whether processes that may not be our children are gone.
const POLL: Duration = Duration::from_millis(5);

/// Where things are.
#[derive(Debug, Clone)]
pub struct DirectSettings {
    /// Folder of the sandboxes' folders.
    pub state_dir: PathBuf,
    /// Folder of their sockets.
    pub run_dir: PathBuf,
    /// The shim.
    pub shim: PathBuf,
    /// The init that the shim puts into the sandbox.
    pub init: PathBuf,
    /// Folder of the files that become `/etc` inside.
    pub etc: PathBuf,
    /// Bubblewrap.
    pub bwrap: PathBuf,
}

/// Runs shims as child processes.
#[derive(Debug)]
pub struct Direct {
    settings: DirectSettings,
    /// Held while a folder or socket changes.
    changing: tokio::sync::Mutex<()>,
    /// Of each shim that we started and were not asked to end.
    ends: Mutex<HashMap<SandboxId, End>>,
}

/// The end of a shim: `None` until it was waited for, `Some(None)` if it was a good one.
type End = watch::Receiver<Option<Option<Ended>>>;

impl Direct {
    /// Makes its folders with the first start.
    pub fn new(settings: DirectSettings) -> Self {
        Self { settings, changing: tokio::sync::Mutex::new(()), ends: Mutex::default() }
    }

    fn ends(&self) -> MutexGuard<'_, HashMap<SandboxId, End>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, sandbox: SandboxId) -> PathBuf {
        self.settings.state_dir.join(sandbox.to_string())
    }

    fn file(&self, sandbox: SandboxId, kind: &str) -> PathBuf {
        self.settings.run_dir.join(format!("{sandbox}.{kind}"))
    }

    /// The shim of a sandbox, if it lives.
    fn find(&self, sandbox: SandboxId) -> Option<Process> {
        let number = fs::read_to_string(self.file(sandbox, "pid")).ok()?;
        Process::find(number.parse().ok()?).filter(|process| process.has_arguments(&["--sandbox", &sandbox.to_string()]))
    }

    async fn start_shim(&self, spec: &Spec) -> Result<Started, LaunchError> {
        spec.check().map_err(|error| LaunchError::Refused(error.to_string()))?;
        let _guard = self.changing.lock().await;
        let sandbox = spec.sandbox;
        let socket = self.file(sandbox, "sock");
        if self.find(sandbox).is_some() {
            return Ok(Started { socket, fresh: false, running: true });
        }
        let fresh = self.ensure_folder(sandbox)?;
        if let Err(error) = self.spawn(sandbox).await {
            self.remove_files(sandbox)?;
            if fresh {
                fs::remove_dir_all(self.folder(sandbox)).map_err(failed("remove", self.folder(sandbox)))?;
            }
            return Err(error);
        }
        Ok(Started { socket, fresh, running: false })
    }

    /// Makes the folder of a sandbox; says whether it was missing.
    fn ensure_folder(&self, sandbox: SandboxId) -> Result<bool, LaunchError> {
        let folder = self.folder(sandbox);
        let fresh = !folder.exists();
        let mut private = DirBuilder::new();
        private.mode(0o700).recursive(true);
        for path in [self.settings.run_dir.clone(), folder.join("workspace"), folder.join("home"), folder.join("spool")] {
            private.create(&path).map_err(failed("make", path))?;
        }
        Ok(fresh)
    }

    /// Starts a shim, and waits until it is found.
    async fn spawn(&self, sandbox: SandboxId) -> Result<(), LaunchError> {
        self.ends().remove(&sandbox);
        self.remove_files(sandbox)?;
        let socket = self.file(sandbox, "sock");
        let listener = UnixListener::bind(&socket).map_err(failed("listen on", socket))?;
        let write = |kind| {
            let path = self.file(sandbox, kind);
            OpenOptions::new().create(true).append(true).open(&path).map_err(failed("write", path))
        };
        let mut command = Command::new(&self.settings.shim);
        command.arg("--sandbox").arg(sandbox.to_string());
        command.arg("--daemon-uid").arg(nix::unistd::geteuid().to_string());
        command.arg("--state").arg(self.folder(sandbox));
        command.arg("--init").arg(&self.settings.init);
        command.arg("--etc").arg(&self.settings.etc).arg("--bwrap").arg(&self.settings.bwrap);
        command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(write("log")?);
        detach::lead_session(&mut command, write("pid")?);
        let mut child = command.spawn().map_err(failed("start", self.settings.shim.clone()))?;
        // The kernel says that it runs a moment before its arguments can be read.
        let deadline = Instant::now() + FIND_DEADLINE;
        while self.find(sandbox).is_none() && matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ended = child.kill().await;
                return Err(LaunchError::Failed(format!("the shim of sandbox {sandbox} runs and can not be found in /proc")));
            }
            tokio::time::sleep(POLL).await;
        }
        let (tell, end) = watch::channel(None);
        self.ends().insert(sandbox, end);
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) => {
                    tracing::debug!(sandbox_id = %sandbox, %status, "shim ended");
                    tell.send_replace(Some(ended(status)));
                }
                Err(error) => tracing::warn!(sandbox_id = %sandbox, error = %error, "shim can not be waited for, ignoring"),
            }
        });
        Ok(())
    }

    /// Sends a signal to the shim (and with `all` to what it started), and waits until none of
    /// them is left.
    async fn end(&self, shim: Process, signal: Signal, all: bool, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut living: HashSet<Process> = HashSet::from([shim]);
        let mut told = HashSet::new();
        loop {
            // Looked for again each time: they may start others until they are gone.
            living.extend(process::family(&living, shim));
            living.retain(Process::is_alive);
            if living.is_empty() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            for process in &living {
                if (all || *process == shim) && told.insert(*process) {
                    process.signal(signal);
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn kill_shim(&self, sandbox: SandboxId) -> Result<(), LaunchError> {
        self.ends().remove(&sandbox);
        let Some(shim) = self.find(sandbox) else { return Ok(()) };
        if self.end(shim, Signal::SIGKILL, true, KILL_DEADLINE).await {
            return Ok(());
        }
        Err(LaunchError::Failed(format!("processes of sandbox {sandbox} do not die")))
    }

    fn remove_files(&self, sandbox: SandboxId) -> Result<(), LaunchError> {
        for path in ["sock", "pid", "log"].map(|kind| self.file(sandbox, kind)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", path)(error)),
                _ => (),
            }
        }
        Ok(())
    }

    async fn list_all(&self) -> Result<Vec<Listed>, LaunchError> {
        let mut all = BTreeMap::new();
        // A file that is left of a sandbox without a folder is to be removed as that would be.
        for folder in [&self.settings.state_dir, &self.settings.run_dir] {
            let entries = match fs::read_dir(folder) {
                Ok(entries) => entries,
                // Nothing was started yet.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("read", folder.clone())(error)),
            };
            for entry in entries {
                let name = entry.map_err(failed("read", folder.clone()))?.file_name();
                let sandbox = name.to_str().and_then(|name| name.split('.').next()?.parse().ok());
                if let Some(sandbox) = sandbox {
                    // The end is taken first: that of a shim which is started meanwhile may be a long time coming.
                    all.entry(sandbox).or_insert_with(|| {
                        let end = self.ends().get(&sandbox).cloned();
                        (self.find(sandbox).is_some(), end)
                    });
                }
            }
        }
        let mut listed = Vec::with_capacity(all.len());
        for (sandbox, (running, end)) in all {
            let ended = match end {
                // A process that is over has not been waited for at once. An error means that nobody waits for it any more.
                Some(mut end) if !running => end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone().flatten()),
                _ => None,
            };
            listed.push(Listed { sandbox, running, socket: self.file(sandbox, "sock"), ended });
        }
        Ok(listed)
    }

    async fn remove_all(&self, sandbox: SandboxId) -> Result<(), LaunchError> {
        let _guard = self.changing.lock().await;
        if self.find(sandbox).is_some() {
            return Err(LaunchError::Refused(format!("sandbox {sandbox} has processes")));
        }
        self.ends().remove(&sandbox);
        self.remove_files(sandbox)?;
        let folder = self.folder(sandbox);
        let removal = tokio::task::spawn_blocking({
            let folder = folder.clone();
            move || fs::remove_dir_all(folder)
        });
        match removal.await.unwrap_or_else(|error| Err(Error::other(error))) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", folder)(error)),
            _ => Ok(()),
        }
    }

    fn running(&self, sandbox: SandboxId) -> Result<(), LaunchError> {
        self.find(sandbox).map(|_| ()).ok_or_else(|| LaunchError::Refused(format!("sandbox {sandbox} is not running")))
    }
}

/// How a shim ended; `None` in good order, which includes the signals that ask for it, as systemd
/// has it (`SuccessExitStatus=` in systemd.service(5)).
fn ended(status: ExitStatus) -> Option<Ended> {
    let asks = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGPIPE, Signal::SIGTERM];
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).ok().filter(|code| *code > 0).map(|code| Ended::Exited { code }),
        (None, Some(signal)) if asks.iter().any(|ask| *ask as i32 == signal) => None,
        (None, signal) => signal.and_then(|number| u8::try_from(number).ok()).map(|number| Ended::Signal { number }),
    }
}

fn failed(step: &'static str, path: PathBuf) -> impl FnOnce(Error) -> LaunchError {
    move |error| LaunchError::Failed(format!("{step} {}: {}", path.display(), report::chain(&error)))
}

impl Launcher for Direct {
    fn start<'a>(&'a self, spec: &'a Spec) -> Pending<'a, Started> {
        Box::pin(self.start_shim(spec))
    }

    fn stop(&self, sandbox: SandboxId, grace: Duration) -> Pending<'_, ()> {
        Box::pin(async move {
            self.ends().remove(&sandbox);
            let Some(shim) = self.find(sandbox) else { return Ok(()) };
            if self.end(shim, Signal::SIGTERM, false, grace).await {
                return Ok(());
            }
            // The shim may be gone and have left something.
            if self.end(shim, Signal::SIGKILL, true, KILL_DEADLINE).await {
                return Ok(());
            }
            Err(LaunchError::Failed(format!("processes of sandbox {sandbox} do not die")))
        })
    }

    fn kill(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        Box::pin(self.kill_shim(sandbox))
    }

    fn freeze(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        Box::pin(async move {
            self.running(sandbox)?;
            Err(LaunchError::Refused("sandboxes without systemd can not be frozen".to_owned()))
        })
    }

    fn thaw(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        Box::pin(async move { self.running(sandbox) })
    }

    fn limit<'a>(&'a self, sandbox: SandboxId, limits: &'a Limits) -> Pending<'a, ()> {
        Box::pin(async move {
            limits.check().map_err(|error| LaunchError::Refused(error.to_string()))?;
            self.running(sandbox)
        })
    }

    fn list(&self) -> Pending<'_, Vec<Listed>> {
        Box::pin(self.list_all())
    }

    fn remove(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        Box::pin(self.remove_all(sandbox))
    }

    /// Nobody is asked: what is put away when the host goes down are units.
    fn host_stops(&self) -> Pending<'_, bool> {
        Box::pin(async { Ok(fault::host_stops()) })
    }

    /// Who may set one is root.
    fn quota(&self, _sandbox: Option<SandboxId>) -> Pending<'_, bool> {
        Box::pin(async { Ok(false) })
    }

    /// Without a control group what ended is not counted, and neither is the page cache.
    fn usage(&self, sandbox: SandboxId) -> Pending<'_, Option<Figures>> {
        Box::pin(async move { Ok(self.find(sandbox).map(process::figures)) })
    }

    fn lacks(&self) -> Vec<String> {
        [
            "limits of memory, processor and tasks are not enforced",
            "all sandboxes have the uid of the daemon",
            "sandboxes can not be frozen",
            "what sandboxes print is in files, not in the journal",
            "sessions are not put away when the host goes down",
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sandbox::conformance::{self, Abilities};

    /// Ends when asked: waits for a line that nobody writes, without a process beside it.
    const OBEDIENT: &str = "read -r line <>\"$0.fifo\"\n";
    /// Does not, and neither does its child.
    const STUBBORN: &str = "trap '' TERM\nsh -c 'while :; do sleep 600; done' &\nwhile :; do sleep 600; done\n";

    fn direct(dir: &Path, shim: &str) -> Direct {
        let fifo = dir.join("shim.fifo");
        if !fifo.exists() {
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("makes");
        }
        conformance::install(&dir.join("shim"), &format!("#!/bin/sh\necho \"$@\" >&2\n{shim}"));
        Direct::new(settings(dir))
    }

    fn settings(dir: &Path) -> DirectSettings {
        let at = |name| dir.join(name);
        DirectSettings {
            state_dir: at("state"),
            run_dir: at("run"),
            shim: at("shim"),
            init: at("init"),
            etc: at("etc"),
            bwrap: at("bwrap"),
        }
    }

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().expect("makes a folder")
    }

    #[tokio::test]
    async fn conforms() {
        let dir = dir();
        let abilities = Abilities { freezes: false, shim: &dir.path().join("shim") };
        conformance::suite(&direct(dir.path(), OBEDIENT), abilities).await;
        assert_eq!(fs::read_dir(dir.path().join("run")).expect("is there").count(), 0, "nothing is left");
    }

    #[tokio::test]
    async fn a_shim_outlives_its_daemon_and_is_found_again() {
        let dir = dir();
        let spec = conformance::spec();
        direct(dir.path(), OBEDIENT).start(&spec).await.expect("starts");
        let next = Direct::new(settings(dir.path()));
        let found = next.start(&spec).await.expect("is found");
        assert!(found.running && !found.fresh, "{found:?}");
        let shim = next.find(spec.sandbox).expect("lives");
        assert_eq!(nix::unistd::getsid(Some(shim.pid())), Ok(shim.pid()), "it leads a session");
        next.stop(spec.sandbox, Duration::from_secs(20)).await.expect("stops");
        assert!(next.find(spec.sandbox).is_none());
    }

    #[tokio::test]
    async fn what_does_not_end_is_killed_with_all_it_started() {
        let dir = dir();
        let direct = direct(dir.path(), STUBBORN);
        for kill in [false, true] {
            let spec = conformance::spec();
            direct.start(&spec).await.expect("starts");
            let shim = direct.find(spec.sandbox).expect("lives");
            // Its trap is set when its children are there.
            let deadline = Instant::now() + Duration::from_secs(20);
            let mut all = Vec::new();
            while all.len() < 4 {
                assert!(Instant::now() < deadline, "children did not start");
                all = process::family(&HashSet::from([shim]), shim);
                tokio::time::sleep(POLL).await;
            }
            if kill {
                direct.kill(spec.sandbox).await.expect("kills");
            } else {
                direct.stop(spec.sandbox, Duration::from_millis(50)).await.expect("kills after a while");
            }
            assert!(!all.iter().any(Process::is_alive), "{all:?}");
        }
    }

    #[tokio::test]
    async fn a_shim_that_can_not_start_leaves_nothing() {
        let dir = dir();
        let direct = Direct::new(settings(dir.path()));
        let spec = conformance::spec();
        let error = direct.start(&spec).await.expect_err("there is no shim");
        assert!(error.to_string().contains(&dir.path().join("shim").display().to_string()), "{error}");
        assert!(direct.list().await.expect("lists").is_empty());
        assert_eq!(fs::read_dir(dir.path().join("run")).expect("is there").count(), 0);
    }

    #[tokio::test]
    async fn a_number_that_was_used_again_is_nobodys_shim() {
        let dir = dir();
        let direct = direct(dir.path(), OBEDIENT);
        let spec = conformance::spec();
        direct.start(&spec).await.expect("starts");
        direct.kill(spec.sandbox).await.expect("kills");
        fs::write(direct.file(spec.sandbox, "pid"), std::process::id().to_string()).expect("writes");
        direct.kill(spec.sandbox).await.expect("does not kill the one who asks");
        assert!(!direct.list().await.expect("lists")[0].running);
        direct.remove(spec.sandbox).await.expect("removes");
    }

    #[tokio::test]
    async fn the_shim_gets_its_arguments() {
        let dir = dir();
        let direct = direct(dir.path(), OBEDIENT);
        let spec = conformance::spec();
        direct.start(&spec).await.expect("starts");
        let shim = direct.find(spec.sandbox).expect("lives");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let state = path(&format!("state/{}", spec.sandbox));
        let uid = nix::unistd::geteuid().to_string();
        assert!(shim.has_arguments(&["--daemon-uid", &uid, "--state", &state, "--init", &path("init"), "--etc", &path("etc")]));
        direct.kill(spec.sandbox).await.expect("kills");
    }
}
