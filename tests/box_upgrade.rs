//! The daemon is upgraded, restarted and killed in the middle of a turn, on real machines: nothing
//! of the turn is lost, its sandbox does not notice, and nobody is refused a connection.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::boxes::{Machine, needs};
use support::http::{Event, events};
use support::wait_for;

/// Where a machine counts what became of its connections to Ash.
const COUNTS: &str = "/run/connecting.json";
/// Where a machine shows the next version of the package.
const NEXT: &str = "/srv/next.deb";

/// Packs the same package again with a higher version.
fn next_version(deb: &Path, folder: &Path) -> PathBuf {
    let (root, next) = (folder.join("root"), folder.join("next.deb"));
    let dpkg_deb = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new("dpkg-deb").args(arguments).output().expect("dpkg-deb starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    dpkg_deb(&["--raw-extract".as_ref(), deb.as_ref(), root.as_ref()]);
    let control = root.join("DEBIAN/control");
    let text = std::fs::read_to_string(&control).expect("reads");
    let newer = |line: &str| if line.starts_with("Version: ") { format!("{line}+next") } else { line.to_owned() };
    let text: Vec<_> = text.lines().map(newer).collect();
    std::fs::write(&control, text.join("\n") + "\n").expect("writes");
    dpkg_deb(&["--root-owner-group".as_ref(), "--build".as_ref(), root.as_ref(), next.as_ref()]);
    next
}

/// A machine with a session, and with a client that connects again and again.
struct Host {
    machine: Machine,
    authorization: String,
    session: String,
    _next: tempfile::TempDir,
}

impl Host {
    fn up(release: &str) -> Option<Self> {
        let (deb, claude) = needs()?;
        let folder = tempfile::tempdir().expect("folder");
        let bind = format!("{}:{NEXT}", next_version(&deb, folder.path()).display());
        let machine = Machine::up_with(release, &deb, &claude, &[bind]);
        machine.install();
        machine.start_model();
        machine.write("/root/agent/CLAUDE.md", "You are a test agent.\n");
        machine.run(&["ashctl", "deploy", "/root/agent"]);
        let authorization = format!("Authorization: Bearer {}", machine.run(&["ashctl", "key", "create"]).trim());
        let mut host = Self { machine, authorization, session: String::new(), _next: folder };
        let created = host.curl(&["--json", &json!({"agent": "agent"}).to_string()], "/api/sessions");
        let created: Value = serde_json::from_str(&created).expect("JSON");
        host.session = created["session"]["id"].as_str().expect("an id").to_owned();
        let connecting = ["python3", "/srv/tests/fixtures/connecting.py", "4100", COUNTS];
        host.machine.run(&[&["systemd-run", "--quiet", "--unit=connecting"], &connecting[..]].concat());
        Some(host)
    }

    fn curl<'a>(&'a self, arguments: &[&'a str], path: &str) -> String {
        self.machine.run(&[&self.curl_command()[..], arguments, &[&format!("http://127.0.0.1:4100{path}")]].concat())
    }

    fn curl_command(&self) -> [&str; 7] {
        ["/usr/bin/curl", "--silent", "--no-buffer", "--max-time", "300", "--header", &self.authorization]
    }

    fn show(&self, unit: &str, property: &str) -> String {
        let property = format!("--property={property}");
        self.machine.run(&["systemctl", "show", &property, "--value", unit]).trim().to_owned()
    }

    fn sandbox(&self) -> [String; 3] {
        let unit = self.machine.sh("systemctl list-units --plain --no-legend 'ash-sandbox-*.service' | cut -d' ' -f1");
        let unit = unit.trim();
        [unit.to_owned(), self.show(unit, "MainPID"), self.show(unit, "InvocationID")]
    }

    fn counts(&self) -> [u64; 3] {
        let counts = wait_for("connections are counted", || {
            let output = self.machine.try_run(&["cat", COUNTS]);
            serde_json::from_slice::<Value>(&output.stdout).ok()
        });
        ["answered", "refused", "broken"].map(|name| counts[name].as_u64().expect(name))
    }

    /// Runs a script in the middle of a turn of so many seconds. Afterwards the daemon is another
    /// process, and all else is as if nothing had been. Returns how many requests of others broke
    /// off.
    fn disturb(&self, name: &str, seconds: usize, script: &str) -> u64 {
        let (sandbox, daemon, before) = (self.sandbox(), self.show("ash", "MainPID"), self.counts());
        let (unit, file) = (format!("--unit=reader-{name}"), format!("/root/{name}"));
        let output = format!("--property=StandardOutput=file:{file}");
        let body = json!({"content": format!("slow: {seconds}"), "includePartialMessages": true}).to_string();
        let url = format!("http://127.0.0.1:4100/api/sessions/{}/messages", self.session);
        let read = ["systemd-run", "--quiet", &unit, &output];
        self.machine.run(&[&read[..], &self.curl_command()[..], &["--json", &body, &url]].concat());
        wait_for("the turn streams", || {
            // It is there when systemd has started the reader, which nobody waited for.
            let text = self.machine.try_run(&["cat", &file]).stdout;
            String::from_utf8_lossy(&text).contains("tick 3\\n").then_some(())
        });

        self.machine.sh(script);
        wait_for("the stream ended", || {
            let state = self.machine.try_run(&["systemctl", "is-active", &format!("reader-{name}")]);
            (!state.status.success()).then_some(())
        });
        let text = self.machine.run(&["cat", &file]);
        // What was cut off in mid frame is asked for again.
        let first = events(&text[..text.rfind("\n\n").expect("frames") + 2]);
        let last = first.last().expect("frames");
        assert_ne!(last.name, "done", "the daemon was gone before the turn ended");
        let turn = first[0].data["turnId"].as_str().expect("a turn");
        let rest = self.curl(&[], &format!("/api/sessions/{}/stream?after={}&turn={turn}", self.session, last.id));
        let rest = events(&rest);

        let done = rest.last().expect("frames");
        assert_eq!((done.name.as_str(), &done.data["state"]), ("done", &json!("completed")), "{done:?}");
        let all: Vec<&Event> = first.iter().chain(&rest).collect();
        assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id), "each event comes once");
        let text: String = all.iter().filter(|e| e.name == "text_delta").filter_map(|e| e.data["delta"].as_str()).collect();
        let ticks: String = (1..=seconds * 4).map(|n| format!("tick {n}\n")).collect();
        assert_eq!(text, ticks, "no delta is lost");
        assert_ne!(self.show("ash", "MainPID"), daemon, "it was restarted");
        assert_eq!(self.sandbox(), sandbox, "its sandbox was not");

        let now = wait_for("others are answered again", || Some(self.counts()).filter(|now| now[0] > before[0]));
        assert_eq!(now[1], 0, "nobody was refused");
        now[2] - before[2]
    }

    /// Addresses that something listens on under this port.
    fn listening(&self) -> Vec<String> {
        let lines = self.machine.sh("ss --no-header --listening --tcp --numeric 'sport = :4100'");
        let mut addresses: Vec<_> = lines.lines().filter_map(|line| line.split_whitespace().nth(3).map(str::to_owned)).collect();
        addresses.sort();
        addresses
    }

    fn listen(&self, addresses: &str) -> Vec<String> {
        self.machine.write("/etc/ash/ash.toml.d/listen.toml", &format!("[http]\nlisten = {addresses}\n"));
        self.machine.run(&["systemctl", "restart", "ash"]);
        let listening = self.listening();
        // How many the service manager holds.
        assert_eq!(self.show("ash", "NFileDescriptorStore"), listening.len().to_string());
        listening
    }
}

fn turns_survive(release: &str) {
    let Some(host) = Host::up(release) else { return };
    let version = || host.machine.run(&["dpkg-query", "--show", "--showformat=${Version}", "ash"]);
    let before = version();
    let upgrade = format!("DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes {NEXT}");
    assert_eq!(host.disturb("upgrade", 40, &upgrade), 0, "what was accepted was answered");
    assert_eq!(version(), format!("{before}+next"));
    assert_eq!(host.disturb("restart", 15, "systemctl restart ash"), 0, "what was accepted was answered");
    // What the daemon had accepted breaks off with it; what comes later waits.
    host.disturb("crash", 15, "systemctl kill --kill-whom=main --signal=KILL ash");
}

#[test]
fn a_turn_and_connections_survive_upgrade_restart_and_crash_on_debian_12() {
    turns_survive("bookworm");
}

#[test]
fn a_turn_and_connections_survive_upgrade_restart_and_crash_on_debian_13() {
    turns_survive("trixie");
}

fn listeners_follow(release: &str) {
    let Some(host) = Host::up(release) else { return };
    let units =
        "cd /usr/lib/systemd/system && systemd-analyze verify --man=no ash.service ash.socket ash-launcher.* ash*.slice 2>&1";
    let complaints = host.machine.sh(units);
    assert!(!complaints.contains("ash"), "{complaints}");

    assert_eq!(host.listening(), ["127.0.0.1:4100"]);
    assert_eq!(host.listen(r#""0.0.0.0:4100""#), ["0.0.0.0:4100"], "the old one is not in the way");
    assert_eq!(host.listen(r#"["127.0.0.1:4100", "[::1]:4100"]"#), ["127.0.0.1:4100", "[::1]:4100"]);
    assert_eq!(host.listen("[]"), [""; 0]);
    assert_eq!(host.listen(r#""127.0.0.1:4100""#), ["127.0.0.1:4100"]);

    host.machine.run(&["systemctl", "stop", "ash.socket", "ash"]);
    assert_eq!(host.listening(), [""; 0], "nobody waits for a daemon that was stopped");
    host.machine.run(&["systemctl", "start", "ash"]);
    assert_eq!(host.listening(), ["127.0.0.1:4100"]);
    let health = host.curl(&[], "/health");
    assert!(health.contains("status"), "{health}");
    host.machine.run(&["systemctl", "restart", "ash"]);
    assert_eq!(host.listening(), ["127.0.0.1:4100"]);
}

#[test]
fn listeners_follow_the_configuration_on_debian_12() {
    listeners_follow("bookworm");
}

#[test]
fn listeners_follow_the_configuration_on_debian_13() {
    listeners_follow("trixie");
}
