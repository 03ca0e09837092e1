//! A real daemon for tests: `ashd --dev` with real shims, real bubblewrap, the real runtime, and
//! the scripted model in place of the model API.
//!
//! Everything a test starts ends with it, also when it panics. Nothing here sleeps: all waiting is
//! for a condition, with [`DEADLINE`] as its end.

#![allow(dead_code, clippy::print_stderr, reason = "each test file uses a part, and says on standard error what it skips")]

pub mod boxes;
pub mod disk;
pub mod follow;
pub mod http;
pub mod life;
pub mod proxy;
pub mod tls;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use http::{Response, Target};
use serde_json::{Value, json};

/// How long anything may take before a test gives up on it.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// The key that the scripted model wants, and that must never be seen inside a sandbox.
pub const MODEL_KEY: &str = "sk-ant-real-key-of-the-test-0123456789";

/// A master key of 32 zeros, unless a test has another one.
pub const MASTER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The runtime to test with: `ASH_CLAUDE`, a path. Without it a test is skipped with a word on
/// standard error, and fails where `CI` is set.
pub fn claude() -> Option<PathBuf> {
    match std::env::var_os("ASH_CLAUDE") {
        Some(path) => Some(path.into()),
        None if std::env::var_os("CI").is_some() => panic!("ASH_CLAUDE has to name the claude program in CI"),
        None => {
            eprintln!("skipped: ASH_CLAUDE does not name the claude program");
            None
        }
    }
}

/// A small generator of numbers that only have to differ: SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// A number from 0 to less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// The number in an environment variable, if it is set.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// The seed of a run's random choices: `ASH_SOAK_SEED`, or one that differs.
pub fn seed() -> u64 {
    number("ASH_SOAK_SEED").unwrap_or_else(|| std::process::id().into())
}

/// Lets others do something before the next look.
pub fn pause() {
    std::thread::park_timeout(Duration::from_millis(20));
}

/// Waits until `condition` gives a value.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "gave up waiting until {what}");
        pause();
    }
}

/// A child process that is killed when dropped.
#[derive(Debug)]
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The scripted model.
#[derive(Debug)]
pub struct Model {
    _process: Killed,
    /// Its address.
    pub url: String,
}

impl Model {
    /// Starts it with [`MODEL_KEY`] as the key that it wants.
    pub fn start() -> Self {
        Self::start_with(&["--require-key", MODEL_KEY])
    }

    /// Starts it with these arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripted_model.py");
        let mut command = Command::new("python3");
        command.arg(script).args(["--port", "0"]).args(arguments).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut process = Killed(command.spawn().expect("python3 starts"));
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().expect("piped")).read_line(&mut line).expect("says where it listens");
        let url = line.trim().strip_prefix("listening on ").expect("says where it listens").to_owned();
        Self { _process: process, url }
    }

    /// What was asked of it.
    pub fn requests(&self) -> Vec<Value> {
        let address = self.url.strip_prefix("http://").expect("without TLS").to_owned();
        let answer = http::request(&Target::Tcp(address), "GET", "/__mock/requests", &[], None);
        answer.json().as_array().expect("a list").clone()
    }
}

/// A stand-in for the runtime that misbehaves as its messages ask (`tests/fixtures/runtime.py`).
#[derive(Debug)]
pub struct StandIn {
    folder: tempfile::TempDir,
}

impl StandIn {
    /// Puts it where a sandbox can read it, which the repository need not be.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("ash").tempdir_in("/tmp").expect("folder");
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("opens the folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/runtime.py");
        let stand_in = Self { folder };
        // By another process: a file that a fork of this one holds open for writing can not be run.
        let status = Command::new("install").arg("-m755").args([&script, &stand_in.path()]).status();
        assert!(status.is_ok_and(|status| status.success()), "install starts");
        stand_in
    }

    /// The program.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("claude")
    }
}

/// A daemon with a state folder of its own.
#[derive(Debug)]
pub struct Daemon {
    process: Option<Killed>,
    folder: tempfile::TempDir,
    claude: PathBuf,
    model_url: String,
    extra: String,
    model_key: String,
    env: Vec<(&'static str, String)>,
    arguments: Vec<std::ffi::OsString>,
    /// Who runs it, if not who runs the tests.
    user: Option<u32>,
    /// Where programs reach it, once it runs.
    pub http: String,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon whose model is at `model_url`.
    pub fn start(claude: &Path, model_url: &str) -> Self {
        Self::start_with(claude, model_url, "")
    }

    /// Starts a daemon with more configuration, which begins with the table `model` and an empty line if it has that,
    /// and then with the table `http`.
    pub fn start_with(claude: &Path, model_url: &str, extra: &str) -> Self {
        Self::start_as(None, claude, model_url, extra)
    }

    /// The same as another user, which only root can. Its sandboxes have that user, too, and so none of root's rights.
    pub fn start_as(user: Option<u32>, claude: &Path, model_url: &str, extra: &str) -> Self {
        // Short, since a socket's path may have 107 bytes (unix(7)).
        let folder = tempfile::Builder::new().prefix("ash").tempdir_in("/tmp").expect("folder");
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("opens the folder");
        let log = folder.path().join("log");
        let mut daemon = Self {
            process: None,
            folder,
            claude: claude.to_owned(),
            model_url: model_url.to_owned(),
            extra: extra.to_owned(),
            model_key: MODEL_KEY.to_owned(),
            env: Vec::new(),
            arguments: Vec::new(),
            user,
            http: String::new(),
            log,
        };
        daemon.run();
        daemon
    }

    /// The command that starts it on its state folder.
    pub fn command(&self) -> Command {
        let config = self.folder.path().join("ash.toml");
        // A table can be there once only.
        let (model, extra) = match self.extra.strip_prefix("[model]\n") {
            Some(extra) => extra.split_once("\n\n").unwrap_or((extra, "")),
            // Whoever lets the model fail does not want to wait for it.
            None => ("retry_for = \"1s\"", self.extra.as_str()),
        };
        let extra = extra.strip_prefix("[http]\n").unwrap_or(extra);
        let text = format!(
            "[model]\nbase_url = \"{}\"\n{model}\n[runtime.claude]\npath = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n{extra}\n",
            self.model_url,
            self.claude.display(),
        );
        std::fs::write(&config, text).expect("writes");
        let credentials = self.folder.path().join("credentials");
        std::fs::create_dir_all(&credentials).expect("folder");
        std::fs::write(credentials.join("anthropic_api_key"), &self.model_key).expect("writes");
        let master = self.master_keys();
        if !master.exists() {
            std::fs::write(master, MASTER_KEY).expect("writes");
        }
        let etc = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/sandbox-etc");
        let mut command = Command::new(self.reachable(env!("CARGO_BIN_EXE_ashd")));
        command.arg("--config").arg(config).arg("--data").arg(self.data()).arg("--dev");
        command.arg("--shim").arg(self.reachable(env!("CARGO_BIN_EXE_ash-shim")));
        command.arg("--init").arg(self.reachable(env!("CARGO_BIN_EXE_ash-init"))).arg("--etc").arg(self.reachable(etc));
        command.args(&self.arguments);
        if let Some(user) = self.user {
            std::fs::create_dir_all(self.data()).expect("folder");
            for path in [self.data(), credentials.clone(), self.master_keys(), credentials.join("anthropic_api_key")] {
                std::os::unix::fs::chown(path, Some(user), Some(user)).expect("owned");
            }
            std::os::unix::process::CommandExt::gid(std::os::unix::process::CommandExt::uid(&mut command, user), user);
        }
        command.env("CREDENTIALS_DIRECTORY", credentials).stdin(Stdio::null());
        command.envs(self.env.iter().cloned());
        command
    }

    /// A program or a folder where the daemon's user can reach it: the tree may lie where only root may go.
    fn reachable(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        if self.user.is_none() {
            return path.to_owned();
        }
        let copy = self.folder.path().join("programs").join(path.file_name().expect("a name"));
        if !copy.exists() {
            std::fs::create_dir_all(copy.parent().expect("a folder")).expect("folder");
            // By another process: a file that a fork of this one holds open for writing can not be run.
            let copied = Command::new("cp").args(["-R", "--"]).args([path, &copy]).status();
            assert!(copied.is_ok_and(|status| status.success()), "cp starts");
        }
        copy
    }

    /// The file of its master keys. A test may change it before it starts.
    pub fn master_keys(&self) -> PathBuf {
        self.folder.path().join("credentials/master_key")
    }

    /// Sets the key of the model with which it starts the next time.
    pub fn model_key(&mut self, key: &str) {
        key.clone_into(&mut self.model_key);
    }

    /// Starts it on its state folder, again if need be, and waits until it listens.
    pub fn run(&mut self) {
        let mut child = self.command().stderr(Stdio::piped()).spawn().expect("ashd starts");
        let lines = lines_of(child.stderr.take().expect("piped"), &self.log);
        self.process = Some(Killed(child));
        let listening = wait_for("ashd listens on TCP", || {
            let line = lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("ashd did not come up:\n{}", self.log()));
            line.contains("listening").then(|| line.split("http://").nth(1).map(str::to_owned)).flatten()
        });
        let address: String = listening.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
        self.http = address;
        wait_for("the control socket answers", || self.get("/health").ok_status().then_some(()));
    }

    /// Kills it with SIGKILL; its sandboxes go on.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Asks it to stop with SIGTERM, and waits until it is gone; its sandboxes go on.
    pub fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.pid().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signals");
        wait_for("the daemon is gone", || self.has_ended().then_some(()));
        drop(self.process.take());
    }

    /// Number of its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("runs").0.id()
    }

    /// Whether its process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.0.try_wait().expect("waits").is_some())
    }

    /// Its state folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("d")
    }

    /// Everything that it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its control socket.
    pub fn control(&self) -> Target {
        Target::Unix(self.data().join("ash.sock"))
    }

    /// Its listener for programs.
    pub fn tcp(&self) -> Target {
        Target::Tcp(self.http.clone())
    }

    /// `GET` on the control socket.
    pub fn get(&self, path: &str) -> Response {
        http::request(&self.control(), "GET", path, &[], None)
    }

    /// Sends JSON on the control socket.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Response {
        http::request(&self.control(), method, path, &[("content-type", "application/json")], Some(body.to_string().as_bytes()))
    }

    /// Makes an API key; returns the header by which a caller has it.
    pub fn bearer(&self, body: &Value) -> String {
        let answer = self.send("POST", "/api/api-keys", body);
        assert_eq!(answer.status, 201, "{body}: {}", answer.text());
        format!("Bearer {}", answer.json()["key"].as_str().expect("a key"))
    }

    /// Sends JSON over TCP, as whoever has this key.
    pub fn send_as(&self, bearer: &str, method: &str, path: &str, body: Option<&Value>) -> Response {
        let headers = [("authorization", bearer), ("content-type", "application/json")];
        http::request(&self.tcp(), method, path, &headers, body.map(Value::to_string).as_deref().map(str::as_bytes))
    }

    /// Deploys an agent of these files.
    pub fn deploy(&self, name: &str, files: &[(&str, &str)]) -> Value {
        let files: Vec<_> = files.iter().map(|(path, text)| json!({"path": path, "content": base64(text.as_bytes())})).collect();
        let answer = self.send("POST", "/api/agents", &json!({"name": name, "files": files}));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["agent"].clone()
    }

    /// Makes a session; returns its id.
    pub fn create(&self, body: &Value) -> String {
        let answer = self.send("POST", "/api/sessions", body);
        assert_eq!(answer.status, 201, "{}\n{}", answer.text(), self.log());
        answer.json()["session"]["id"].as_str().expect("an id").to_owned()
    }

    /// A session of an agent that was deployed for it.
    pub fn session(&self) -> String {
        self.deploy("test", &[("CLAUDE.md", "You are a test agent.\n")]);
        self.create(&json!({"agent": "test"}))
    }

    /// Sends a message, with partials, and leaves its stream to be read.
    pub fn post(&self, session: &str, content: &str) -> http::Open {
        let body = json!({"content": content, "includePartialMessages": true}).to_string();
        let path = format!("/api/sessions/{session}/messages");
        let kind = [("content-type", "application/json")];
        http::open(&self.control(), "POST", &path, &kind, Some(body.as_bytes())).expect("answers")
    }

    /// Sends a message and reads its stream to the end.
    pub fn say(&self, session: &str, text: &str) -> Vec<http::Event> {
        self.turn(session, &json!({"content": text}))
    }

    /// Sends a message body and reads its stream to the end.
    pub fn turn(&self, session: &str, body: &Value) -> Vec<http::Event> {
        let answer = self.send("POST", &format!("/api/sessions/{session}/messages"), body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        http::events(&answer.text())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let fails = std::thread::panicking();
        if fails {
            eprintln!("--- log of ashd ---\n{}", self.log());
        }
        // Ending the sessions ends their sandboxes, which would outlive the daemon otherwise.
        if self.process.is_none() {
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run())) {
                Ok(()) => {}
                // A second panic would end all tests of the program.
                Err(_) if fails => return,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        let sessions = self.get("/api/sessions?limit=1000");
        let sessions = if sessions.ok_status() { sessions.json() } else { Value::Null };
        for session in sessions["sessions"].as_array().cloned().unwrap_or_default() {
            self.send("DELETE", &format!("/api/sessions/{}", session["id"].as_str().unwrap_or_default()), &json!({}));
        }
        let sandboxes = self.data().join("sandboxes");
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end && std::fs::read_dir(&sandboxes).is_ok_and(|mut left| left.next().is_some()) {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// Hands on the lines of a stream, and keeps them in a file.
fn lines_of(stream: impl std::io::Read + Send + 'static, log: &Path) -> Receiver<String> {
    let (sender, lines) = channel();
    let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("opens");
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = std::io::Write::write_all(&mut log, format!("{line}\n").as_bytes());
            // After the start nobody listens any more, but the log goes on.
            let _ = sender.send(line);
        }
    });
    lines
}

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(n >> (18 - 6 * place)) as usize & 63] as char;
            text.push(if place <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

impl Daemon {
    /// Replaces what its next starts find in their environment.
    pub fn set_env(&mut self, env: Vec<(&'static str, String)>) {
        self.env = env;
    }

    /// Adds an option to its command line, with a value.
    pub fn add_argument(&mut self, name: &str, value: impl Into<std::ffi::OsString>) {
        self.arguments.extend([name.into(), value.into()]);
    }

    /// Replaces what [`Self::start_with`] added to the configuration.
    pub fn add_config(&mut self, extra: &str) {
        self.extra = extra.to_owned();
    }
}

/// Numbers of the shims of this daemon's sandboxes.
pub fn shims(daemon: &Daemon) -> Vec<i32> {
    let folder = daemon.data();
    let processes = std::fs::read_dir("/proc").expect("reads").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes
        .filter(|pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let program = line.split('\0').next().unwrap_or_default();
            program.ends_with("/ash-shim") && line.contains(&*folder.to_string_lossy())
        })
        .collect()
}

/// Kills every shim of this daemon's sandboxes with SIGKILL, and waits until they are gone.
pub fn kill_shims(daemon: &Daemon) {
    let found = shims(daemon);
    assert!(!found.is_empty(), "there is a shim to kill");
    for pid in &found {
        match nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL) {
            // One that was about to end has.
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => panic!("{pid} is not killed: {error}"),
        }
    }
    // Where a turn ran, others take their place.
    wait_for("the shims are gone", || shims(daemon).iter().all(|pid| !found.contains(pid)).then_some(()));
}

/// A figure of a process from `/proc/<pid>/status`, in bytes: `VmRSS` now, `VmHWM` at its highest.
pub fn memory(pid: impl std::fmt::Display, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).expect(name) << 10
}
