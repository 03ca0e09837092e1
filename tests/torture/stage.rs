//! What the cases play on: a daemon with the attacker, a neighbour and somebody worth attacking, in a network
//! namespace of their own, so that nothing can be sent to a real host.

use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use crate::support::http::{Target, result};
use crate::support::life::{UNDISTURBED, bash};
use crate::support::{Daemon, Killed, MODEL_KEY, Model, claude, shims};

/// Names at which the attacker may try its luck; what they lead to is said by `outside.py`.
const ALLOW: &str = r#"["good.example", "*.wild.example", "*.inner.example", "rebind.example", "both.example"]"#;
/// Seen in the arguments of processes that belong to nobody else.
pub const MARKER: &str = "86413";
/// Who runs daemon and sandboxes: nobody that a host has.
const USER: u32 = 20_000;
const ABSTRACT: &str = "ash-torture-of-the-host";

/// The stage.
pub struct Stage {
    /// The daemon that is attacked.
    pub daemon: Daemon,
    /// The model's address.
    pub model: Model,
    /// What the resolver and the servers outside were asked.
    heard: Arc<Mutex<Vec<String>>>,
    /// Who is to notice nothing.
    pub neighbour: String,
    /// The folder of the sandbox that is worth attacking.
    other: PathBuf,
    _other: String,
    _outside: Killed,
    _abstract: UnixListener,
}

fn torture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture").join(path)
}

fn run(command: &[&str]) {
    let output = Command::new(command[0]).args(&command[1..]).output().unwrap_or_else(|e| panic!("{}: {e}", command[0]));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Puts this thread, and all that it starts, into a network namespace with nothing but a loopback. There, 11.0.0.0/24
/// stands for the public network: addresses that lead to this machine and that are not its own.
/// `false`, having said so, for whoever may not do that.
#[expect(clippy::print_stderr, reason = "a suite that is skipped says so")]
fn leave_the_network(folder: &Path) -> bool {
    if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).is_err() {
        assert!(std::env::var_os("CI").is_none(), "the suite has to run as root in CI");
        eprintln!("skipped: only root makes a network of its own");
        return false;
    }
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
    for (name, text) in [
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:5 attempts:2\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
        ("hosts", "127.0.0.1 localhost\n"),
    ] {
        let (ours, theirs) = (folder.join(name), Path::new("/etc").join(name));
        std::fs::write(&ours, text).expect("written");
        if let Ok(theirs) = theirs.canonicalize() {
            mount(Some(&ours), &theirs, none, MsFlags::MS_BIND, none).expect("bound");
        }
    }
    run(&["ip", "link", "set", "lo", "up"]);
    run(&["ip", "address", "add", "10.99.0.1/32", "dev", "lo"]);
    run(&["ip", "route", "add", "local", "11.0.0.0/24", "dev", "lo", "src", "10.99.0.1"]);
    // So that an address which leads here need not be one of the host's own (`shim/egress`).
    run(&["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind"]);
    true
}

impl Stage {
    /// Sets it; `None` where that is not possible.
    pub fn set(folder: &Path) -> Option<Self> {
        let claude = claude()?;
        if !leave_the_network(folder) {
            return None;
        }
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let outside = outside(heard.clone());
        let model = Model::start();
        // With its own user, sandboxes have none of root's rights, as on a host.
        let daemon = Daemon::start_as(Some(USER), &claude, &model.url, UNDISTURBED);
        // What gets through may hold up its turn for ever; that is told, too.
        let mut files = vec![
            ("CLAUDE.md".to_owned(), "You are a test agent.\n".to_owned()),
            (
                "ash.toml".to_owned(),
                format!("[egress]\nallow = {ALLOW}\n[limits]\nturn = \"90s\"\nopen_files = 4096\nfile_size = \"32M\"\n"),
            ),
        ];
        for entry in std::fs::read_dir(torture("probes")).expect("read") {
            let path = entry.expect("one").path();
            if path.extension().is_some_and(|ending| ending == "py") {
                let name = format!("probes/{}", path.file_name().expect("a name").to_string_lossy());
                files.push((name, std::fs::read_to_string(&path).expect("read")));
            }
        }
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        daemon.deploy("attacker", &files);
        let other = daemon.create(&json!({"agent": "attacker"}));
        let serve = format!(
            "echo of the other > secret; python3 probes/sockets.py serve_as_the_other 4242 of-the-other 4242; \
                             (setsid sleep {MARKER} >/dev/null 2>&1 &)"
        );
        let said = bash(&daemon, &other, &serve);
        assert_eq!(said, "serving");
        let sandboxes = std::fs::read_dir(daemon.data().join("sandboxes")).expect("read");
        let folder = sandboxes.map(|entry| entry.expect("one").path()).find(|path| path.join("workspace/secret").exists());
        let neighbour = daemon.create(&json!({"agent": "attacker"}));
        assert_eq!(result(&daemon.say(&neighbour, "say: here")), "here", "its runtime runs before anything is tried");
        let abstract_name = SocketAddr::from_abstract_name(ABSTRACT).expect("a name");
        Some(Self {
            heard,
            neighbour,
            other: folder.expect("it has a folder"),
            _other: other,
            _outside: outside,
            _abstract: UnixListener::bind_addr(&abstract_name).expect("listens"),
            daemon,
            model,
        })
    }

    /// A sandbox for the attacker.
    pub fn attacker(&self) -> String {
        self.daemon.create(&json!({"agent": "attacker"}))
    }

    /// The command of a probe, with words in braces filled in.
    pub fn command(&self, probe: &str) -> String {
        let data = self.daemon.data().display().to_string();
        let Target::Unix(control) = self.daemon.control() else { panic!("the control socket is a Unix socket") };
        let mut sockets = vec![control];
        sockets_below(&self.daemon.data(), &mut sockets);
        let sockets: Vec<_> = sockets.iter().map(|path| path.display().to_string()).collect();
        let mut pids = shims(&self.daemon);
        pids.push(self.daemon.pid().cast_signed());
        let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
        let port = |url: &str| url.rsplit(':').next().expect("a port").trim_end_matches('/').to_owned();
        let ports = [port(&self.daemon.http), port(&self.model.url), "8099".to_owned()];
        let (head, tail) = MODEL_KEY.split_at(20);
        let mut command = format!("/usr/bin/python3 /work/probes/{}", probe.trim_start_matches('\'').replacen("py'", "py", 1));
        for (word, value) in [
            ("{data}", data.as_str()),
            ("{other}", &self.other.display().to_string()),
            ("{marker}", MARKER),
            ("{sockets}", &sockets.join(" ")),
            ("{pids}", &pids.join(" ")),
            ("{ports}", &ports.join(" ")),
            ("{abstract}", ABSTRACT),
            ("{head}", head),
            ("{tail}", tail),
        ] {
            command = command.replace(word, value);
        }
        command
    }

    /// What those outside were asked since the last time.
    pub fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().expect("whole"))
    }
}

fn sockets_below(folder: &Path, found: &mut Vec<PathBuf>) {
    use std::os::unix::fs::FileTypeExt;
    for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => sockets_below(&entry.path(), found),
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            _ => {}
        }
    }
}

/// Starts the resolver and the servers, and keeps what they say.
fn outside(heard: Arc<Mutex<Vec<String>>>) -> Killed {
    let mut command = Command::new("python3");
    command.arg(torture("outside.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Killed(command.spawn().expect("python3 starts"));
    let mut lines = BufReader::new(process.0.stdout.take().expect("piped")).lines();
    let first = lines.next().and_then(Result::ok);
    assert_eq!(first.as_deref(), Some("ready"));
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            heard.lock().expect("whole").push(line);
        }
    });
    process
}

/// Says something where whoever runs the suite sees it at once.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Who does not look any more misses nothing.
    let _gone = writeln!(out, "{line}").and_then(|()| out.flush());
}
