//! A shim as its launcher starts it, a daemon that speaks to it, and a model.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ash::link::frame::{self, Frame};
use ash::link::shim::{
    Egress, FromShim, Gateway, PROTOCOL, Room, SessionOptions, Setup, ShimEvent, ShimState, ToShim, Turn, TurnEnd,
};
use ash::wire::event::Kind;
use ash::wire::message::TurnOptions;
use ash::wire::{PermissionId, SandboxId, SessionId, TurnId};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

/// Longest wait for anything.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// The key that must never be seen inside.
pub const KEY: &str = "sk-real-key-0123456789";
/// Finds the key without being it: who searches for it inside must not bring it there.
pub const KEY_PATTERN: &str = "'sk-real-key-012345678[9]'";
/// User of the shim where the test runs as root, since a sandbox's user never is.
pub const UID: u32 = 20_000;

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A child process that dies with its owner.
#[derive(Debug)]
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Waits until `check` has something to give.
pub async fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A folder with a sandbox's state, and shims on it.
#[derive(Debug)]
pub struct Host {
    pub dir: tempfile::TempDir,
    pub runtime: PathBuf,
    pub session: SessionId,
}

impl Host {
    /// With the stand-in for the runtime.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let runtime = dir.path().join("runtime");
        fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim/runtime.sh"), &runtime).expect("copied");
        let host = Self { dir, runtime, session: SessionId::new() };
        for folder in ["", "state", "state/workspace", "state/home", "state/spool"] {
            let path = host.path(folder);
            if !path.exists() {
                fs::create_dir(&path).expect("made");
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
            if is_root() && folder.starts_with("state") {
                chown(&path, Some(UID), Some(UID)).expect("owned");
            }
        }
        host
    }

    /// With the real runtime, if `ASH_CLAUDE` names it; CI has to name it.
    pub fn with_claude() -> Option<Self> {
        match std::env::var_os("ASH_CLAUDE") {
            Some(path) => Some(Self { runtime: path.into(), ..Self::new() }),
            None => {
                let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
                assert!(!in_ci, "ASH_CLAUDE has to name the claude program in CI");
                #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
                {
                    eprintln!("skipped: ASH_CLAUDE does not name the claude program");
                }
                None
            }
        }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        if below.is_empty() { self.dir.path().to_owned() } else { self.dir.path().join(below) }
    }

    /// What the stand-in was told to put out.
    pub fn out(&self) -> String {
        fs::read_to_string(self.path("state/workspace/out")).expect("the stand-in wrote it")
    }

    pub fn room(&self) -> Room {
        Room { runtime: self.runtime.to_str().expect("text").to_owned(), tmp_bytes: 64 << 20, weaknesses: Vec::new() }
    }

    pub fn setup(&self, model: &str) -> Setup {
        Setup {
            session: self.session,
            agent: "test".to_owned(),
            env: [("MINE".to_owned(), "yes".to_owned())].into(),
            gateway: Gateway { base_url: model.to_owned(), api_key: Some(KEY.to_owned()), ..Gateway::default() },
            options: SessionOptions { permission_mode: "bypassPermissions".to_owned(), ..SessionOptions::default() },
            resume: false,
            egress: Egress::default(),
        }
    }

    /// A copy of the made-up `/etc`, as the tree may lie where only root may go.
    fn etc(&self) -> PathBuf {
        let folder = self.path("etc");
        if !folder.exists() {
            fs::create_dir(&folder).expect("made");
            for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/sandbox-etc")).expect("read") {
                let entry = entry.expect("read");
                fs::copy(entry.path(), folder.join(entry.file_name())).expect("copied");
            }
        }
        folder
    }

    pub fn shim(&self) -> Shim {
        self.shim_with(|_| {})
    }

    pub fn shim_with(&self, change: impl FnOnce(&mut Command)) -> Shim {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let socket = self.path(&format!("shim-{number}.sock"));
        let listener = UnixListener::bind(&socket).expect("bound");
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).expect("set");
        let log = self.path(&format!("shim-{number}.log"));
        let sandbox = SandboxId::new();
        let mut command = Command::new(self.reachable(env!("CARGO_BIN_EXE_ash-shim")));
        command.env_clear().env("ASH_LOG", "debug");
        command.args(["--sandbox", &sandbox.to_string(), "--daemon-uid", &nix::unistd::geteuid().to_string()]);
        command.arg("--state").arg(self.path("state"));
        command.arg("--init").arg(self.reachable(env!("CARGO_BIN_EXE_ash-init")));
        command.arg("--etc").arg(self.etc());
        command.stdin(Stdio::from(OwnedFd::from(listener)));
        command.stdout(Stdio::null()).stderr(File::create(&log).expect("made"));
        if is_root() {
            command.uid(UID).gid(UID);
        }
        change(&mut command);
        let child = Guard(command.spawn().expect("ash-shim starts"));
        Shim { child, socket, log, sandbox }
    }

    /// The program at a place that the shim's user can reach.
    fn reachable(&self, program: &str) -> PathBuf {
        let program = Path::new(program);
        let is_open = |path: &Path| fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o001 != 0);
        if !is_root() || program.ancestors().all(is_open) {
            return program.to_owned();
        }
        let copy = self.path(program.file_name().and_then(|name| name.to_str()).expect("a name"));
        if !copy.exists() {
            // By another process: one that a fork of this one holds open for writing can not be run.
            let copied = Command::new("cp").args([program, &copy]).status();
            assert!(copied.is_ok_and(|copied| copied.success()), "copied");
        }
        copy
    }
}

/// A running shim. Its log is printed if the test fails.
#[derive(Debug)]
pub struct Shim {
    pub child: Guard,
    pub socket: PathBuf,
    pub log: PathBuf,
    pub sandbox: SandboxId,
}

impl Drop for Shim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "helps to see why a test failed")]
            {
                eprintln!("--- {}\n{}", self.log.display(), self.log());
            }
        }
    }
}

impl Shim {
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub async fn connect(&self) -> Daemon {
        let stream = UnixStream::connect(&self.socket).await.expect("connected");
        let (mut from, to) = stream.into_split();
        let (frames, inbox) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Ok(Some(frame)) = frame::read(&mut from).await {
                if frames.send(frame).await.is_err() {
                    return;
                }
            }
        });
        let mut daemon =
            Daemon { to, inbox, last: 0, op: 0, events: Vec::new(), acks: true, archive: Vec::new(), chunks: 0, takes: true };
        daemon.send(&ToShim::Hello { protocol: PROTOCOL, daemon: "test".to_owned() }).await;
        daemon
    }

    /// A connection, greeted, to an open sandbox that is set up.
    pub async fn ready(&self, host: &Host, model: &str) -> Daemon {
        let mut daemon = self.connect().await;
        daemon.hello().await;
        daemon.open(host).await.expect("opened");
        daemon.setup(host.setup(model)).await.expect("set up");
        daemon
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let child = &mut self.child.0;
        until("the shim ends", || child.try_wait().expect("a child")).await
    }
}

/// The daemon's end of a connection.
#[derive(Debug)]
pub struct Daemon {
    to: OwnedWriteHalf,
    inbox: mpsc::Receiver<Frame>,
    /// The number of the newest request, and of the one whose answer is waited for.
    last: u64,
    op: u64,
    pub events: Vec<ShimEvent>,
    /// Whether events are acknowledged as they come.
    pub acks: bool,
    /// What came of the archive that was asked for last.
    pub archive: Vec<u8>,
    /// In how many chunks.
    pub chunks: u32,
    /// Whether for each chunk that comes another one is asked for.
    pub takes: bool,
}

impl Daemon {
    pub async fn send(&mut self, message: &ToShim) {
        frame::write(&mut self.to, message).await.expect("sent");
    }

    pub async fn send_chunk(&mut self, chunk: &[u8]) {
        use tokio::io::AsyncWriteExt;
        self.to.write_all(&frame::encode_chunk(chunk).expect("fits")).await.expect("sent");
    }

    /// The next message; events and chunks are put aside. `None` when the connection is closed.
    pub async fn next(&mut self) -> Option<FromShim> {
        let body = loop {
            let frame = tokio::time::timeout(DEADLINE, self.inbox.recv()).await;
            match frame.unwrap_or_else(|_| panic!("nothing came; so far: {:#?}", self.kinds()))? {
                Frame::Json(body) => break body,
                Frame::Chunk(chunk) => self.chunk(&chunk).await,
                Frame::Part(op, _) => panic!("a part of request {op}, and nobody exports here"),
            }
        };
        let message = serde_json::from_slice(&body).expect("a message");
        if let FromShim::Events { events } = &message {
            for (event, before) in events.iter().zip(self.events.last().into_iter().chain(events)) {
                assert!(event.n == before.n + 1 || self.events.is_empty() || event.n == before.n, "a gap before {}", event.n);
            }
            self.events.extend(events.iter().cloned());
            if self.acks {
                let through = self.events.last().expect("some").n;
                self.send(&ToShim::Ack { through }).await;
            }
        }
        Some(message)
    }

    pub async fn hello(&mut self) -> ShimState {
        loop {
            match self.next().await.expect("an answer") {
                FromShim::Hello(state) => return state,
                FromShim::Events { .. } => panic!("Hello comes first"),
                _ => {}
            }
        }
    }

    /// Waits for the answer to the newest request.
    pub async fn answer(&mut self) -> Result<(), String> {
        loop {
            match self.next().await.expect("an answer") {
                FromShim::Done { op } if op == self.op => return Ok(()),
                FromShim::Failed { op, error } if op == self.op => return Err(error),
                _ => {}
            }
        }
    }

    pub async fn open(&mut self, host: &Host) -> Result<(), String> {
        self.open_with(host.room()).await
    }

    pub async fn open_with(&mut self, room: Room) -> Result<(), String> {
        self.number();
        self.send(&ToShim::Open { op: self.op, room }).await;
        self.answer().await
    }

    pub async fn setup(&mut self, setup: Setup) -> Result<(), String> {
        self.number();
        self.send(&ToShim::Setup { op: self.op, setup: Box::new(setup) }).await;
        self.answer().await
    }

    /// Changes what of the network may be reached.
    pub async fn egress(&mut self, egress: Egress) -> Result<(), String> {
        self.op += 1;
        self.send(&ToShim::Egress { op: self.op, egress: Box::new(egress) }).await;
        self.answer().await
    }

    /// Changes where model calls go, and what is bound to hosts.
    pub async fn gateway(&mut self, gateway: Gateway) -> Result<(), String> {
        self.number();
        self.send(&ToShim::Gateway { op: self.op, gateway }).await;
        self.answer().await
    }

    /// Answers a request for permission.
    pub async fn permit(&mut self, id: PermissionId, answer: Value) -> Result<(), String> {
        self.number();
        let answer = serde_json::from_value(answer).expect("an answer");
        self.send(&ToShim::Answer { op: self.op, id, answer }).await;
        self.answer().await
    }

    async fn chunk(&mut self, chunk: &[u8]) {
        assert!(chunk.len() <= frame::CHUNK, "{} bytes", chunk.len());
        self.archive.extend_from_slice(chunk);
        if !chunk.is_empty() {
            self.chunks += 1;
            if self.takes {
                self.take(1).await;
            }
        }
    }

    /// The newest request.
    pub const fn op(&self) -> u64 {
        self.op
    }

    /// Goes on with an earlier request.
    pub const fn set_op(&mut self, op: u64) {
        self.op = op;
    }

    const fn number(&mut self) {
        self.last += 1;
        self.op = self.last;
    }

    /// Asks for so many more chunks of what is being packed.
    pub async fn take(&mut self, chunks: u32) {
        self.send(&ToShim::PackMore { op: self.op, chunks }).await;
    }

    /// Asks for an archive, whose chunks follow.
    pub async fn begin_pack(&mut self, excludes: &[&str]) {
        self.number();
        (self.archive, self.chunks) = (Vec::new(), 0);
        let excludes = excludes.iter().map(|pattern| (*pattern).to_owned()).collect();
        self.send(&ToShim::Pack { op: self.op, excludes }).await;
    }

    /// Waits for the whole archive that was asked for last.
    pub async fn packed(&mut self) -> Result<Vec<u8>, String> {
        loop {
            match self.next().await.expect("an answer") {
                FromShim::Packed { op, .. } if op == self.op => return Ok(std::mem::take(&mut self.archive)),
                FromShim::Failed { op, error } if op == self.op => return Err(error),
                _ => {}
            }
        }
    }

    pub async fn pack(&mut self, excludes: &[&str]) -> Result<Vec<u8>, String> {
        self.begin_pack(excludes).await;
        self.packed().await
    }

    /// Asks for a restore whose chunks follow.
    pub async fn begin_restore(&mut self) {
        self.number();
        self.send(&ToShim::Restore { op: self.op, conversation: None, more: false }).await;
    }

    /// Restores what is not whole before something is laid over it.
    pub async fn restore_part(&mut self, archive: &[u8]) -> Result<(), String> {
        self.number();
        self.send(&ToShim::Restore { op: self.op, conversation: None, more: true }).await;
        self.send_archive(archive).await
    }

    /// Lays an archive over a workspace, with a conversation that makes no workspace whole.
    pub async fn lay_conversation(&mut self, archive: &[u8]) -> Result<(), String> {
        self.number();
        self.send(&ToShim::Lay { op: self.op, replace: false, state: true }).await;
        self.send_archive(archive).await
    }

    pub async fn restore(&mut self, archive: &[u8]) -> Result<(), String> {
        self.begin_restore().await;
        self.send_archive(archive).await
    }

    /// Sends what was announced, and waits for the answer.
    pub async fn send_archive(&mut self, archive: &[u8]) -> Result<(), String> {
        for chunk in archive.chunks(frame::CHUNK) {
            self.send_chunk(chunk).await;
        }
        self.send_chunk(b"").await;
        self.answer().await
    }

    /// Asks for an unpack whose chunks follow.
    pub async fn begin_unpack(&mut self) {
        self.number();
        self.send(&ToShim::Unpack { op: self.op }).await;
    }

    pub async fn unpack(&mut self, archive: &[u8]) -> Result<(), String> {
        self.begin_unpack().await;
        self.send_archive(archive).await
    }

    pub async fn begin(&mut self, text: &str) -> TurnId {
        self.begin_with(text, TurnOptions::default()).await
    }

    pub async fn begin_with(&mut self, text: &str, options: TurnOptions) -> TurnId {
        let id = TurnId::new();
        let content = serde_json::value::to_raw_value(text).expect("raw");
        self.send(&ToShim::Turn(Turn { id, content, options })).await;
        id
    }

    /// Waits for an event, also among those that came before.
    pub async fn event(&mut self, what: &str, is_it: impl Fn(&ShimEvent) -> bool) -> ShimEvent {
        let mut from = 0;
        loop {
            if let Some(event) = self.events[from..].iter().find(|event| is_it(event)) {
                return event.clone();
            }
            from = self.events.len();
            assert!(self.next().await.is_some(), "connection closed while waiting for {what}: {:#?}", self.kinds());
        }
    }

    pub async fn end(&mut self, turn: TurnId) -> TurnEnd {
        let event = self.event("the end of the turn", |event| event.turn == Some(turn) && event.kind == Kind::TurnEnded).await;
        serde_json::from_str(event.data.get()).expect("an end")
    }

    /// Runs a turn to its end.
    pub async fn turn(&mut self, text: &str) -> (TurnId, TurnEnd) {
        let id = self.begin(text).await;
        let end = self.end(id).await;
        (id, end)
    }

    /// What the turn's result said.
    pub fn result(&self, turn: TurnId) -> String {
        self.data(turn, &Kind::TurnComplete).first().and_then(|data| data["result"].as_str()).unwrap_or_default().to_owned()
    }

    pub fn data(&self, turn: TurnId, kind: &Kind) -> Vec<Value> {
        let found = self.events.iter().filter(|event| event.turn == Some(turn) && event.kind == *kind);
        found.map(|event| serde_json::from_str(event.data.get()).expect("JSON")).collect()
    }

    /// Starts of the runtime.
    pub fn starts(&self) -> usize {
        self.events.iter().filter(|event| event.kind == Kind::Lifecycle).count()
    }

    fn kinds(&self) -> Vec<String> {
        let text =
            |event: &ShimEvent| format!("{} {} {}", event.n, event.kind, event.data.get().chars().take(200).collect::<String>());
        self.events.iter().rev().take(20).rev().map(text).collect()
    }
}

/// The scripted model.
#[derive(Debug)]
pub struct Model {
    _child: Guard,
    pub url: String,
}

impl Model {
    pub fn start(args: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripted_model.py");
        let mut command = Command::new("python3");
        command.arg(script).args(["--port", "0"]).args(args).stdout(Stdio::piped());
        let mut child = Guard(command.spawn().expect("python3 runs the scripted model"));
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().expect("piped")).read_line(&mut line).expect("read");
        let url = line.trim().strip_prefix("listening on ").expect("says where it listens").to_owned();
        Self { _child: child, url }
    }
}

/// Host processes whose command line has this text.
pub fn processes(text: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").expect("proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let mut line = Vec::new();
        let read = File::open(format!("/proc/{pid}/cmdline")).and_then(|mut file| file.read_to_end(&mut line));
        read.is_ok() && String::from_utf8_lossy(&line).contains(text)
    })
    .collect()
}

/// The only process with this in its command line. What it starts is another with the same one for a moment.
pub async fn only_process(text: &str) -> i32 {
    until("there is one process", || match processes(text)[..] {
        [pid] => Some(pid),
        _ => None,
    })
    .await
}

/// A process's children.
pub fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// All processes below this one, itself not included.
pub fn descendants(pid: i32) -> Vec<i32> {
    let direct = children(pid);
    direct.iter().copied().chain(direct.iter().flat_map(|pid| descendants(*pid))).collect()
}

/// Whether a process has a text in its memory, in pages that are there. Only root may look.
pub fn memory_has(pid: i32, text: &str) -> bool {
    const PAGE: u64 = 4096;
    if !is_root() {
        return false;
    }
    let (Ok(maps), Ok(memory), Ok(pages)) = (
        fs::read_to_string(format!("/proc/{pid}/maps")),
        File::open(format!("/proc/{pid}/mem")),
        File::open(format!("/proc/{pid}/pagemap")),
    ) else {
        // It has just ended.
        return false;
    };
    let number = |hex: &str| u64::from_str_radix(hex, 16).expect("an address");
    maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))).any(|line| {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let (start, end) = (number(start), number(end));
        let mut entries = vec![0; usize::try_from((end - start) / PAGE * 8).expect("fits")];
        let known = pages.read_at(&mut entries, start / PAGE * 8).unwrap_or(0);
        let mut found = Vec::new();
        for (n, entry) in entries[..known].chunks_exact(8).enumerate() {
            // Bits 62 and 63: swapped, present (proc_pid_pagemap(5)).
            if entry[7] & 0xc0 != 0 {
                let mut page = [0; PAGE as usize];
                let read = memory.read_at(&mut page, start + n as u64 * PAGE).unwrap_or(0);
                found.extend_from_slice(&page[..read]);
            }
        }
        found.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
