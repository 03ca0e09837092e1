//! The launcher against a systemd that is played on a socket pair: no bus, no root.

use std::collections::HashMap;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zbus::object_server::SignalEmitter;
use zbus::{DBusError, OwnedObjectPath, OwnedVariant, Variant, interface};

use super::*;
use crate::wire::{SandboxId, SessionId};

/// Long enough for a loaded machine; reached only by a failing test.
const DEADLINE: Duration = Duration::from_secs(20);
const LIMITS: &str = "memory=1073741824 cpu=150 tasks=256 disk=5368709120";

#[derive(Debug, DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum Refusal {
    #[zbus(error)]
    ZBus(zbus::Error),
    NoSuchUnit(String),
    UnitExists(String),
    UnitInactive(String),
    UnitBusy(String),
    NoSuchProcess(String),
}

#[derive(Debug)]
struct FakeUnit {
    state: &'static str,
    frozen: bool,
    properties: HashMap<String, OwnedVariant>,
    /// The job of a stop that waits for the processes, or with them for the daemon.
    stopping: Option<OwnedObjectPath>,
    /// Its object.
    path: OwnedObjectPath,
}

/// The properties of a unit that failed.
struct FakeService {
    result: &'static str,
    code: i32,
    status: i32,
}

#[interface(name = "org.freedesktop.systemd1.Service")]
impl FakeService {
    #[zbus(property)]
    fn result(&self) -> String {
        self.result.to_owned()
    }

    #[zbus(property)]
    fn exec_main_code(&self) -> i32 {
        self.code
    }

    #[zbus(property)]
    fn exec_main_status(&self) -> i32 {
        self.status
    }
}

/// What the fake systemd has and how it behaves.
#[derive(Debug, Default)]
struct FakeState {
    units: HashMap<String, FakeUnit>,
    calls: Vec<String>,
    jobs: u32,
    /// Result of the next start job.
    start_result: Option<&'static str>,
    /// Whether processes ignore being asked to end.
    stubborn: bool,
    /// Whether the host goes down: stops wait for the daemon.
    down: bool,
}

impl FakeState {
    fn job(&mut self) -> OwnedObjectPath {
        self.jobs += 1;
        OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{}", self.jobs)).expect("is a path")
    }

    fn unit(&mut self, name: &str) -> Result<&mut FakeUnit, Refusal> {
        self.units.get_mut(name).ok_or_else(|| Refusal::NoSuchUnit(format!("Unit {name} not loaded.")))
    }
}

#[derive(Clone, Default)]
struct FakeManager(Arc<Mutex<FakeState>>);

impl FakeManager {
    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.0.lock().expect("nobody panicked with it")
    }
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl FakeManager {
    async fn start_transient_unit(
        &self,
        name: String,
        mode: String,
        properties: Vec<(String, OwnedVariant)>,
        _aux: Vec<(String, Vec<(String, OwnedVariant)>)>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Refusal> {
        let (job, result) = {
            let mut state = self.state();
            state.calls.push(format!("start {mode}"));
            if state.units.contains_key(&name) {
                return Err(Refusal::UnitExists(format!("Unit {name} was already loaded or has a fragment file.")));
            }
            let result = state.start_result.take().unwrap_or("done");
            let unit = FakeUnit {
                state: if result == "done" { "active" } else { "failed" },
                frozen: false,
                properties: properties.into_iter().collect(),
                stopping: None,
                path: unit_path(&name),
            };
            state.units.insert(name.clone(), unit);
            (state.job(), result)
        };
        // The signal overtakes the reply: nothing forbids that.
        Self::job_removed(&emitter, 1, job.clone(), &name, result).await?;
        Ok(job)
    }

    async fn stop_unit(
        &self,
        name: String,
        mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Refusal> {
        let (job, ended) = {
            let mut state = self.state();
            state.calls.push(format!("stop {mode}"));
            let (stubborn, down, job) = (state.stubborn, state.down, state.job());
            let unit = state.unit(&name)?;
            let waits = stubborn || down || unit.frozen;
            // What failed stays as it is.
            let failed = unit.state == "failed";
            // One that is queued already is the same.
            let job = unit.stopping.clone().unwrap_or(job);
            if waits && !failed {
                unit.state = if down { unit.state } else { "deactivating" };
                unit.stopping = Some(job.clone());
            } else if !failed {
                state.units.remove(&name);
            }
            (job, failed || !waits)
        };
        if ended {
            Self::job_removed(&emitter, 1, job.clone(), &name, "done").await?;
        }
        Ok(job)
    }

    async fn kill_unit(
        &self,
        name: String,
        whom: String,
        signal: i32,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<(), Refusal> {
        let job = {
            let mut state = self.state();
            state.calls.push(format!("kill {whom} {signal}"));
            let is_deaf = state.stubborn && signal != nix::libc::SIGKILL;
            let unit = state.unit(&name)?;
            if unit.state == "failed" && whom == "main" {
                return Err(Refusal::NoSuchProcess("No main process to kill".to_owned()));
            }
            if is_deaf || (unit.frozen && signal != nix::libc::SIGKILL) {
                return Ok(());
            }
            unit.state = "failed";
            let job = unit.stopping.take();
            if signal == nix::libc::SIGTERM {
                state.units.remove(&name);
            }
            job
        };
        if let Some(job) = job {
            Self::job_removed(&emitter, 1, job, &name, "done").await?;
        }
        Ok(())
    }

    fn freeze_unit(&self, name: String) -> Result<(), Refusal> {
        let mut state = self.state();
        state.calls.push("freeze".to_owned());
        let unit = state.unit(&name)?;
        if unit.state != "active" {
            return Err(Refusal::UnitInactive("Unit is not active.".to_owned()));
        }
        unit.frozen = true;
        Ok(())
    }

    fn thaw_unit(&self, name: String) -> Result<(), Refusal> {
        let mut state = self.state();
        state.calls.push("thaw".to_owned());
        let unit = state.unit(&name)?;
        if unit.stopping.is_some() {
            return Err(Refusal::UnitBusy("Unit has a pending job".to_owned()));
        }
        unit.frozen = false;
        Ok(())
    }

    fn cancel_job(&self, id: u32) {
        let mut state = self.state();
        state.calls.push("cancel".to_owned());
        state.units.values_mut().for_each(|unit| unit.stopping = unit.stopping.take().filter(|job| job_id(job) != id));
    }

    #[zbus(property)]
    fn system_state(&self) -> String {
        if self.state().down { "stopping" } else { "running" }.to_owned()
    }

    fn set_unit_properties(&self, name: String, runtime: bool, properties: Vec<(String, OwnedVariant)>) -> Result<(), Refusal> {
        let mut state = self.state();
        state.calls.push(format!("set {runtime}"));
        state.unit(&name)?.properties.extend(properties);
        Ok(())
    }

    fn reset_failed_unit(&self, name: String) -> Result<(), Refusal> {
        let mut state = self.state();
        state.calls.push("reset".to_owned());
        if state.unit(&name)?.state == "failed" {
            state.units.remove(&name);
        }
        Ok(())
    }

    fn list_units_by_patterns(&self, _states: Vec<String>, patterns: Vec<String>) -> Vec<crate::systemd::proxy::RawUnitEntry> {
        let path = || OwnedObjectPath::try_from("/").expect("is a path");
        let of = |unit: &FakeUnit| unit.path.clone();
        let pattern = patterns.concat();
        let matches = |name: &&String| match pattern.split_once('*') {
            Some((head, tail)) => name.starts_with(head) && name.ends_with(tail),
            None => **name == pattern,
        };
        let entry = |(name, unit): (&String, &FakeUnit)| {
            let text = String::new;
            let job = unit.stopping.as_ref().map_or(0, job_id);
            (name.clone(), text(), text(), unit.state.to_owned(), text(), text(), of(unit), job, text(), path())
        };
        self.state().units.iter().filter(|(name, _)| matches(name)).map(entry).collect()
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

/// The object of a unit, by the letters and digits of its name.
fn unit_path(name: &str) -> OwnedObjectPath {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/unit/{plain}")).expect("is a path")
}

fn job_id(job: &OwnedObjectPath) -> u32 {
    job.as_str().rsplit('/').next().and_then(|id| id.parse().ok()).expect("ends in its id")
}

/// A launcher that serves, and the systemd that it asks.
struct Host {
    dir: tempfile::TempDir,
    systemd: FakeManager,
    bus: zbus::Connection,
    stop: watch::Sender<bool>,
    server: JoinHandle<std::io::Result<()>>,
}

/// A connection to a launcher.
struct Asker {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl Host {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("makes a folder");
        let systemd = FakeManager::default();
        let (ours, theirs) = StdStream::pair().expect("makes a pair");
        let server = zbus::connection::Builder::unix_stream(theirs)
            .server(zbus::Guid::generate())
            .p2p()
            .serve_at("/org/freedesktop/systemd1", systemd.clone());
        let client = zbus::connection::Builder::unix_stream(ours).p2p();
        let (bus, asking) = tokio::try_join!(server.build(), client.build()).expect("connects");

        let manager = ManagerProxy::new(&asking).await.expect("makes a proxy");
        let jobs = Jobs::listen(&manager).await.expect("listens");
        let uid = geteuid().as_raw();
        // Without privileges folders can be given to oneself only.
        let folders = Folders::open(&dir.path().join("state"), uid..uid + 1).expect("opens");
        let sockets = Sockets::open(&dir.path().join("run"), uid).expect("opens");
        let sandboxes = Arc::new(Sandboxes::new(manager, jobs, folders, sockets, uid));
        let listener = StdListener::bind(dir.path().join("launcher.sock")).expect("binds");
        let (stop, mut stopped) = watch::channel(false);
        let server = tokio::spawn(server::serve(listener, sandboxes, uid, async move {
            stopped.wait_for(|stop| *stop).await.expect("the sender lives as long");
        }));
        Self { dir, systemd, bus, stop, server }
    }

    async fn connect(&self) -> Asker {
        let stream = UnixStream::connect(self.dir.path().join("launcher.sock")).await.expect("connects");
        let (from, to) = stream.into_split();
        Asker { from: BufReader::new(from), to }
    }

    fn folder(&self, sandbox: SandboxId) -> PathBuf {
        self.dir.path().join("state").join(sandbox.to_string())
    }

    fn socket(&self, sandbox: SandboxId) -> PathBuf {
        self.dir.path().join("run").join(format!("{sandbox}.sock"))
    }

    /// Lets the processes of a sandbox end by themselves, and badly.
    async fn fail(&self, sandbox: SandboxId, result: &'static str, code: i32, status: i32) {
        self.end(sandbox, "failed", FakeService { result, code, status }).await;
    }

    async fn end(&self, sandbox: SandboxId, state: &'static str, service: FakeService) {
        let name = unit::name(sandbox);
        self.bus.object_server().at(unit_path(&name), service).await.expect("is served");
        self.systemd.state().units.get_mut(&name).expect("is loaded").state = state;
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.systemd.state().calls)
    }
}

impl Asker {
    async fn send(&mut self, line: &str) {
        self.to.write_all(format!("{line}\n").as_bytes()).await.expect("sends");
    }

    async fn list(&mut self) -> Vec<String> {
        self.send("99 list").await;
        let mut items = Vec::new();
        while let Some(item) = self.answer().await.strip_prefix("99 item ") {
            items.push(item.to_owned());
        }
        items
    }

    /// The next answer; empty at the end of the connection.
    async fn answer(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(DEADLINE, self.from.read_line(&mut line)).await.expect("answers in time").expect("reads");
        line.trim_end().to_owned()
    }

    async fn ask(&mut self, line: &str) -> String {
        self.send(line).await;
        self.answer().await
    }
}

fn start(tag: u32, sandbox: SandboxId, session: SessionId) -> String {
    format!("{tag} start {sandbox} session={session} agent=hello {LIMITS}")
}

#[tokio::test]
async fn a_start_makes_folder_socket_and_unit() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let (sandbox, session) = (SandboxId::new(), SessionId::new());
    assert_eq!(asker.ask(&start(1, sandbox, session)).await, "1 ok fresh=yes running=no");
    assert!(host.folder(sandbox).join("workspace").is_dir());

    // What connects now is taken by whoever has the unit's standard input.
    StdStream::connect(host.socket(sandbox)).expect("is queued");
    let unit = host.systemd.state().units.remove(&unit::name(sandbox)).expect("was started");
    let text = |name: &str| String::try_from(unit.properties[name].try_clone().expect("clones")).expect("is a string");
    let number = |name: &str| u64::try_from(&unit.properties[name]).expect("is a number");
    assert_eq!(text("Slice"), "ash-sandbox.slice");
    let before = Vec::<String>::try_from(unit.properties["Before"].try_clone().expect("clones")).expect("are strings");
    assert_eq!(before, ["ash.service"], "the host ends it after the daemon");
    assert!(!unit.properties.contains_key("CollectMode"), "one that fails is kept");
    assert_eq!(text("Description"), format!("Ash sandbox of agent hello, session {session}"));
    assert_eq!([number("MemoryMax"), number("MemorySwapMax")], [1 << 30, 0]);
    assert_eq!([number("CPUQuotaPerSecUSec"), number("TasksMax")], [1_500_000, 256]);
    assert_eq!(number("CapabilityBoundingSet"), 0b1_1100_0000);
    assert_eq!(unit.properties["NoNewPrivileges"], OwnedVariant::from(true));
    let profile = Variant::from((true, "ash-shim")).try_to_owned().expect("clones");
    assert_eq!(unit.properties["AppArmorProfile"], profile, "a host without it starts the unit, too");
    let fields = [format!("ASH_SESSION_ID={session}"), format!("ASH_SANDBOX_ID={sandbox}"), "ASH_AGENT=hello".to_owned()];
    let fields: Vec<Vec<u8>> = fields.into_iter().map(String::into_bytes).collect();
    assert_eq!(unit.properties["LogExtraFields"], Variant::from(fields).try_to_owned().expect("clones"));
    let uid = geteuid().as_raw();
    let argv = format!(
        "/usr/bin/setpriv --reuid={uid} --regid={uid} --clear-groups --bounding-set=-setgid,-setuid,-setpcap \
         --inh-caps=-setgid,-setuid,-setpcap -- /usr/libexec/ash/ash-shim --sandbox {sandbox} --daemon-uid {uid}"
    );
    let exec = vec![("/usr/bin/setpriv".to_owned(), argv.split(' ').map(str::to_owned).collect::<Vec<_>>(), false)];
    assert_eq!(unit.properties["ExecStart"], Variant::from(exec).try_to_owned().expect("clones"));
    assert!(!unit.properties.contains_key("WatchdogUSec"));
    let zbus::Fd::Owned(stdin) =
        zbus::Fd::try_from(unit.properties["StandardInputFileDescriptor"].try_clone().expect("clones")).expect("is one")
    else {
        panic!("the descriptor is not owned")
    };
    StdListener::from(stdin).accept().expect("has the queued connection");
}

#[tokio::test]
async fn a_second_start_finds_it_running_and_keeps_its_socket() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let (sandbox, session) = (SandboxId::new(), SessionId::new());
    asker.ask(&start(1, sandbox, session)).await;
    assert_eq!(host.calls(), ["start fail"]);
    assert_eq!(asker.ask(&start(2, sandbox, session)).await, "2 ok fresh=no running=yes");
    assert_eq!(host.calls(), [""; 0]);
    StdStream::connect(host.socket(sandbox)).expect("the listener lives");

    assert_eq!(asker.ask(&format!("3 stop {sandbox} grace_ms=1000")).await, "3 ok");
    assert_eq!(asker.ask(&start(4, sandbox, session)).await, "4 ok fresh=no running=no");
    StdStream::connect(host.socket(sandbox)).expect("a new one listens");

    // It is there, but nobody could speak to it.
    std::fs::remove_file(host.socket(sandbox)).expect("removes");
    assert_eq!(
        asker.ask(&start(5, sandbox, session)).await,
        format!("5 err failed sandbox {sandbox} runs, but its socket is gone")
    );
    assert!(host.folder(sandbox).exists());
}

#[tokio::test]
async fn two_starts_at_a_time_start_once() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let (sandbox, session) = (SandboxId::new(), SessionId::new());
    asker.send(&format!("{}\n{}", start(1, sandbox, session), start(2, sandbox, session))).await;
    let mut answers = [asker.answer().await, asker.answer().await];
    answers.sort();
    assert_eq!(answers, ["1 ok fresh=yes running=no", "2 ok fresh=no running=yes"]);
}

#[tokio::test]
async fn a_failed_start_leaves_nothing() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let (sandbox, session) = (SandboxId::new(), SessionId::new());
    host.systemd.state().start_result = Some("failed");
    let unit = unit::name(sandbox);
    assert_eq!(
        asker.ask(&start(1, sandbox, session)).await,
        format!("1 err failed start {unit} (see journalctl -u {unit}): its job failed")
    );
    assert!(!host.folder(sandbox).exists());
    assert!(!host.socket(sandbox).exists());
    assert!(host.systemd.state().units.is_empty());
    assert_eq!(asker.ask(&start(2, sandbox, session)).await, "2 ok fresh=yes running=no");
}

#[tokio::test]
async fn a_stop_thaws_asks_and_then_kills() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let (sandbox, session) = (SandboxId::new(), SessionId::new());
    asker.ask(&start(1, sandbox, session)).await;
    assert_eq!(asker.ask(&format!("2 freeze {sandbox}")).await, "2 ok");
    host.calls();
    assert_eq!(asker.ask(&format!("3 stop {sandbox} grace_ms=60000")).await, "3 ok");
    assert_eq!(host.calls(), ["thaw", "stop replace", "kill main 15", "reset"]);

    asker.ask(&start(4, sandbox, session)).await;
    host.systemd.state().stubborn = true;
    host.calls();
    assert_eq!(asker.ask(&format!("5 stop {sandbox} grace_ms=1")).await, "5 ok");
    assert_eq!(host.calls(), ["thaw", "stop replace", "kill main 15", "kill all 9", "reset"]);
    assert!(host.systemd.state().units.is_empty(), "nothing is left of what was killed");
    assert_eq!(asker.ask(&format!("6 stop {sandbox} grace_ms=1")).await, "6 ok", "nothing to stop is no error");
}

#[tokio::test]
async fn a_kill_overtakes_a_stop_that_waits() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let sandbox = SandboxId::new();
    asker.ask(&start(1, sandbox, SessionId::new())).await;
    host.systemd.state().stubborn = true;
    asker.send(&format!("2 stop {sandbox} grace_ms=60000")).await;
    while !host.systemd.state().calls.contains(&"stop replace".to_owned()) {
        tokio::task::yield_now().await;
    }
    asker.send(&format!("4 kill {sandbox}")).await;
    let mut answers = [asker.answer().await, asker.answer().await];
    answers.sort();
    assert_eq!(answers, ["2 ok", "4 ok"]);
    assert_eq!(asker.ask(&format!("5 kill {sandbox}")).await, "5 ok", "nothing to kill is no error");
}

#[tokio::test]
async fn a_bad_end_is_listed_until_something_is_done_with_the_sandbox() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let (sandbox, session) = (SandboxId::new(), SessionId::new());
    asker.ask(&start(1, sandbox, session)).await;
    host.fail(sandbox, "signal", 2, 9).await;
    for _ in 0..2 {
        assert_eq!(asker.list().await, [format!("{sandbox} running=no ended=signal:9")]);
    }
    for request in [format!("stop {sandbox} grace_ms=1000"), format!("kill {sandbox}")] {
        assert_eq!(asker.ask(&format!("2 {request}")).await, "2 ok");
        assert_eq!(asker.list().await, [format!("{sandbox} running=no")]);
        assert_eq!(asker.ask(&start(3, sandbox, session)).await, "3 ok fresh=no running=no");
        host.fail(sandbox, "oom-kill", 2, 9).await;
    }
    host.calls();
    assert_eq!(asker.ask(&start(4, sandbox, session)).await, "4 ok fresh=no running=no");
    assert_eq!(host.calls(), ["reset", "start fail"], "it is started over what is left");
    host.fail(sandbox, "exit-code", 1, 3).await;
    std::fs::remove_file(host.socket(sandbox)).expect("removes");
    assert_eq!(asker.ask(&start(5, sandbox, session)).await, "5 ok fresh=no running=no");
    assert_eq!(host.calls(), ["start fail", "reset", "start fail"], "also where its socket is gone");
    host.fail(sandbox, "timeout", 2, 9).await;
    assert_eq!(asker.ask(&format!("6 remove {sandbox}")).await, "6 ok");
    assert_eq!(asker.list().await, [""; 0]);
    assert!(host.systemd.state().units.is_empty());
}

#[tokio::test]
async fn a_sandbox_that_is_being_ended_is_listed_with_its_end() {
    for (result, wanted) in [("oom-kill", " ended=out-of-memory"), ("success", "")] {
        let host = Host::new().await;
        let mut asker = host.connect().await;
        let sandbox = SandboxId::new();
        asker.ask(&start(1, sandbox, SessionId::new())).await;
        host.end(sandbox, "deactivating", FakeService { result, code: 0, status: 0 }).await;
        assert_eq!(asker.list().await, [format!("{sandbox} running=no{wanted}")]);
        let kept = asker.ask(&format!("2 remove {sandbox}")).await;
        assert_eq!(kept, format!("2 err refused sandbox {sandbox} has processes"), "and all the same it has some");
    }
}

#[tokio::test]
async fn a_folder_stays_while_processes_live() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let sandbox = SandboxId::new();
    asker.ask(&start(1, sandbox, SessionId::new())).await;
    assert_eq!(asker.ask(&format!("2 remove {sandbox}")).await, format!("2 err refused sandbox {sandbox} has processes"));
    assert!(host.folder(sandbox).exists());
    asker.ask(&format!("3 kill {sandbox}")).await;
    assert_eq!(asker.list().await, [format!("{sandbox} running=no")]);
    for tag in [5, 6] {
        assert_eq!(asker.ask(&format!("{tag} remove {sandbox}")).await, format!("{tag} ok"));
        assert!(!host.folder(sandbox).exists());
        assert!(!host.socket(sandbox).exists());
    }
    assert_eq!(asker.list().await, [""; 0]);
}

#[tokio::test]
async fn what_does_not_run_can_not_be_frozen_thawed_or_limited() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let sandbox = SandboxId::new();
    for request in [format!("freeze {sandbox}"), format!("thaw {sandbox}"), format!("limit {sandbox} {LIMITS}")] {
        assert_eq!(
            asker.ask(&format!("1 {request}")).await,
            format!("1 err refused sandbox {sandbox} is not running"),
            "{request}"
        );
    }
    asker.ask(&start(2, sandbox, SessionId::new())).await;
    host.calls();
    assert_eq!(asker.ask(&format!("3 limit {sandbox} memory=134217728 cpu=50 tasks=24 disk=16777216")).await, "3 ok");
    assert_eq!(host.calls(), ["set true"]);
    let properties = host.systemd.state().units[&unit::name(sandbox)].properties.clone();
    assert_eq!(properties["MemoryMax"], OwnedVariant::from(128_u64 << 20));
    assert_eq!(properties["CPUQuotaPerSecUSec"], OwnedVariant::from(500_000_u64));
    assert_eq!(properties["TasksMax"], OwnedVariant::from(24_u64));
    assert_eq!(properties["MemoryHigh"], OwnedVariant::from(u64::MAX), "what is not said is taken away");
    let more = "high=67108864 swap=1048576 io_weight=50 io_read=2097152 io_write=1048576";
    let line = format!("4 limit {sandbox} memory=134217728 cpu=50 tasks=24 disk=16777216 {more}");
    assert_eq!(asker.ask(&line).await, "4 ok");
    let state = host.systemd.state();
    let properties = &state.units[&unit::name(sandbox)].properties;
    assert_eq!(properties["MemoryHigh"], OwnedVariant::from(64_u64 << 20));
    assert_eq!(properties["MemorySwapMax"], OwnedVariant::from(1_u64 << 20));
    assert_eq!(properties["IOWeight"], OwnedVariant::from(50_u64));
    let rate = Variant::from(vec![("/var/lib/ash/sandboxes".to_owned(), 2_u64 << 20)]);
    assert_eq!(properties["IOReadBandwidthMax"], rate.try_to_owned().expect("clones"));
}

/// Where it has quotas, `tests/box_quota.rs` asks.
#[tokio::test]
async fn a_file_system_without_quotas_is_told_of() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let (sandbox, session) = (SandboxId::new(), SessionId::new());
    asker.ask(&start(1, sandbox, session)).await;
    for request in ["2 quota".to_owned(), format!("2 quota {sandbox}"), format!("2 quota {}", SandboxId::new())] {
        assert_eq!(asker.ask(&request).await, "2 ok quota=no", "{request}");
    }
}

#[tokio::test]
async fn a_bad_request_is_refused_and_a_bad_line_ends_the_connection() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    assert_eq!(asker.ask("1 exec /bin/sh").await, "1 err refused malformed request: unknown word");
    assert_eq!(asker.ask("2 kill ../../etc").await, "2 err refused malformed request: sandbox is malformed");
    assert_eq!(asker.ask("3 list").await, "3 ok", "the connection goes on");
    assert_eq!(asker.ask("list").await, "");

    let mut endless = host.connect().await;
    endless.to.write_all(&[b'1'; 4096]).await.expect("sends");
    let mut rest = Vec::new();
    let end = tokio::time::timeout(DEADLINE, endless.from.read_until(b'\n', &mut rest)).await.expect("ends in time");
    assert!(matches!(end, Ok(0) | Err(_)), "{rest:?}");
    assert_eq!(host.connect().await.ask("4 list").await, "4 ok", "others do not notice");
}

#[tokio::test]
async fn who_asks_and_never_reads_costs_a_bounded_amount() {
    const ASKED: usize = 2000;
    let host = Host::new().await;
    let mut deaf = host.connect().await;
    // In one piece, which the socket takes whole.
    deaf.send(&["1 kill 0190a0b0-0000-7000-8000-000000000001"; ASKED].join("\n")).await;
    // Requests are carried out side by side, so these leave the others time enough.
    let mut asker = host.connect().await;
    for _ in 0..ASKED / 4 {
        assert_eq!(asker.ask("2 thaw 0190a0b0-0000-7000-8000-000000000001").await.get(..13), Some("2 err refused"));
    }
    let done = host.calls().iter().filter(|call| call.starts_with("stop")).count();
    assert!(done < ASKED * 3 / 4, "{done} requests were carried out though nobody hears of it");
    for _ in 0..ASKED {
        assert_eq!(deaf.answer().await, "1 ok", "none is lost");
    }
}

#[tokio::test]
async fn a_request_is_carried_out_when_its_asker_is_gone() {
    let host = Host::new().await;
    let sandbox = SandboxId::new();
    let mut asker = host.connect().await;
    asker.send(&start(1, sandbox, SessionId::new())).await;
    drop(asker);
    let mut asker = host.connect().await;
    let started = async { while asker.list().await != [format!("{sandbox} running=yes")] {} };
    tokio::time::timeout(DEADLINE, started).await.expect("is started in time");
}

#[tokio::test]
async fn a_lost_systemd_ends_the_launcher_and_what_waits() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let sandbox = SandboxId::new();
    asker.ask(&start(1, sandbox, SessionId::new())).await;
    host.systemd.state().stubborn = true;
    host.calls();
    asker.send(&format!("2 stop {sandbox} grace_ms=60000")).await;
    while !host.systemd.state().calls.contains(&"stop replace".to_owned()) {
        tokio::task::yield_now().await;
    }
    host.bus.close().await.expect("closes");
    let unit = unit::name(sandbox);
    let answer = asker.answer().await;
    assert!(answer.starts_with(&format!("2 err failed stop {unit}")), "{answer}");
    tokio::time::timeout(DEADLINE, host.server).await.expect("ends in time").expect("does not panic").expect("ends well");
    assert!(!*host.stop.borrow(), "nobody asked it to");
}

#[tokio::test]
async fn a_stopped_launcher_finishes_what_it_began() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let sandbox = SandboxId::new();
    asker.ask(&start(1, sandbox, SessionId::new())).await;
    host.systemd.state().stubborn = true;
    asker.send(&format!("2 stop {sandbox} grace_ms=1")).await;
    while !host.systemd.state().calls.contains(&"stop replace".to_owned()) {
        tokio::task::yield_now().await;
    }
    host.stop.send_replace(true);
    assert_eq!(asker.answer().await, "2 ok");
    tokio::time::timeout(DEADLINE, host.server).await.expect("ends in time").expect("does not panic").expect("ends well");
}

#[tokio::test]
async fn on_the_way_down_of_the_host_sandboxes_are_thawed_and_stopped_before_their_turn() {
    let host = Host::new().await;
    let mut asker = host.connect().await;
    let (sandbox, session) = (SandboxId::new(), SessionId::new());
    asker.ask(&start(1, sandbox, session)).await;
    assert_eq!(asker.ask("2 host").await, "2 ok stopping=no");
    asker.ask(&format!("3 freeze {sandbox}")).await;
    {
        let mut state = host.systemd.state();
        state.down = true;
        let job = state.job();
        state.units.values_mut().for_each(|unit| unit.stopping = Some(job.clone()));
    }
    host.calls();
    assert_eq!(asker.ask("4 host").await, "4 ok stopping=yes");
    assert_eq!(asker.ask(&format!("5 thaw {sandbox}")).await, "5 ok");
    assert_eq!(host.calls(), ["thaw", "cancel", "thaw", "stop replace"]);
    {
        let state = host.systemd.state();
        let unit = &state.units[&unit::name(sandbox)];
        assert!(!unit.frozen && unit.stopping.is_some(), "the host ends it in any case");
    }
    assert_eq!(asker.ask(&format!("6 stop {sandbox} grace_ms=60000")).await, "6 ok");
    assert!(host.systemd.state().units.is_empty(), "the job that waits for the daemon is not waited for");
}
