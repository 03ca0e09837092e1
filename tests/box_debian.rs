//! The package on real machines of both releases: install, use, upgrade, remove, purge.

mod support;

use serde_json::{Value, json};
use support::boxes::{Machine, needs, unit_tests};
use support::http::{Event, events, names, result};
use support::{MODEL_KEY, base64, wait_for};

/// An installed Ash over TCP, with a key.
struct Remote<'a> {
    machine: &'a Machine,
    key: String,
}

impl Remote<'_> {
    fn curl(&self, method: &str, path: &str, body: &Value) -> String {
        let (authorization, url) = (format!("Authorization: Bearer {}", self.key), format!("http://127.0.0.1:4100{path}"));
        let body = body.to_string();
        self.machine.run(&[
            "curl",
            "--silent",
            "--no-buffer",
            "--max-time",
            "120",
            "--request",
            method,
            "--header",
            &authorization,
            "--header",
            "Content-Type: application/json",
            "--data",
            &body,
            &url,
        ])
    }

    fn json(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = self.curl(method, path, body);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    fn say(&self, session: &str, text: &str) -> Vec<Event> {
        let stream = self.curl("POST", &format!("/api/sessions/{session}/messages"), &json!({"content": text}));
        events(&stream)
    }
}

fn installed(release: &str) -> Option<Machine> {
    let (deb, claude) = needs()?;
    let machine = Machine::up(release, &deb, &claude);
    machine.install();
    machine.start_model();
    Some(machine)
}

fn first_session(release: &str) {
    let Some(machine) = installed(release) else { return };
    machine.sh("! grep --quiet ASH_FAULT_POINT /usr/sbin/ashd /usr/bin/ashctl /usr/libexec/ash/*");
    let listening = machine.sh("ss --no-header --listening --tcp --udp --numeric --processes | grep ash || true");
    assert!(
        listening.contains("127.0.0.1:4100") && listening.lines().count() == 1,
        "nothing listens beyond loopback: {listening}"
    );

    let deployed = machine.run(&["ashctl", "--output", "json", "deploy", "/srv/tests/fixtures/full-agent", "--name", "full"]);
    let digest = |text: &str| serde_json::from_str::<Value>(text).expect("JSON")["digest"].clone();
    let again = machine.run(&["ashctl", "--output", "json", "deploy", "/srv/tests/fixtures/full-agent", "--name", "full"]);
    assert_eq!(serde_json::from_str::<Value>(&again).expect("JSON")["version"], 2, "{again}");
    assert_eq!(digest(&deployed), digest(&again), "the same bytes are the same version");

    let key = machine.run(&["ashctl", "key", "create", "--label", "test"]).trim().to_owned();
    assert!(key.starts_with("ash_"), "{key}");
    let remote = Remote { machine: &machine, key };
    let session =
        remote.json("POST", "/api/sessions", &json!({"agent": "full"}))["session"]["id"].as_str().expect("an id").to_owned();

    let text = remote.say(&session, "say: hello");
    assert_eq!((names(&text)[0], names(&text)[text.len() - 1], result(&text).as_str()), ("session_start", "done", "hello"));
    let bash = remote.say(&session, "bash: echo $FROM_SETTINGS-$FROM_ASH_TOML; id -u; cat /etc/hostname 2>&1 || true");
    assert!(result(&bash).contains("yes-yes") && result(&bash).contains("1000"), "{}", result(&bash));
    let call = bash.iter().position(|event| event.name == "tool_use").expect("a call");
    assert_eq!((bash[call].data["name"].as_str(), bash[call + 1].name.as_str()), (Some("Bash"), "message"));
    assert!(bash.iter().any(|event| event.name == "tool_result"));
    let file = remote.say(&session, "write: /work/note.txt|kept\nread: /work/note.txt");
    assert!(result(&file).contains("kept"), "{}", result(&file));
    assert!(result(&remote.say(&session, r#"mcp: add {"a": 19, "b": 23}"#)).contains("42"));
    let init = text.iter().find(|event| event.data["subtype"] == "init").expect("init");
    assert!(init.data["skills"].to_string().contains("greeter"));
    assert!(result(&remote.say(&session, "sysgrep: xylophone")).contains("messages: True"));
    assert!(result(&remote.say(&session, "auth?")).contains(&format!(
        "{}...{}",
        &MODEL_KEY[..4],
        &MODEL_KEY[MODEL_KEY.len() - 4..]
    )));

    let chat = machine.run(&["ashctl", "chat", "full", "say: the same through ashctl"]);
    assert_eq!(chat.trim(), "the same through ashctl");
    let status = machine.run(&["ashctl", "status"]);
    assert!(status.contains("full"), "{status}");

    let told: Value = serde_json::from_str(&machine.run(&["ashctl", "--output", "json", "security", &session])).expect("JSON");
    for name in ["user", "namespaces", "network", "system-calls", "proc", "files", "egress"] {
        let wall = told["walls"].as_array().and_then(|walls| walls.iter().find(|wall| wall["name"] == name));
        assert!(wall.is_some_and(|wall| wall["state"] == "ok"), "{name}: {told}");
    }
    let profiles = machine.sh("systemctl show --value --property=AppArmorProfile 'ash-sandbox-*.service' | grep . | sort -u");
    assert_eq!(profiles.trim(), "-ash-shim", "asked for by name, and started without it where it is not there");

    // A process that stays, so that more than the runtime is looked at.
    remote.say(&session, "bash: (setsid python3 -c 'import signal; signal.pause()' >/dev/null 2>&1 &) ; echo started");
    let found = machine.run(&["python3", "/srv/tests/fixtures/confinement.py", MODEL_KEY]);
    assert!(!found.contains("fault"), "{found}");
    let looked_at: u32 = found.split("looked at ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect(&found);
    assert!(looked_at >= 3, "init, the runtime and a tool were there to be looked at: {found}");
    let seen = machine.try_run(&["python3", "/srv/tests/fixtures/confinement.py", "CLAUDE_CODE_MAX_RETRIES"]);
    assert!(String::from_utf8_lossy(&seen.stdout).contains("is in its environ"), "the search finds what is there");

    let both = machine.run(&["journalctl", &format!("ASH_SESSION_ID={session}"), "--output=json", "--no-pager"]);
    let units: Vec<String> = both
        .lines()
        .filter_map(|line| {
            let entry: Value = serde_json::from_str(line).ok()?;
            entry["_SYSTEMD_UNIT"].as_str().map(str::to_owned)
        })
        .collect();
    assert!(units.iter().any(|unit| unit == "ash.service"), "{units:?}");
    assert!(units.iter().any(|unit| unit.starts_with("ash-sandbox-")), "{units:?}");
    assert!(!both.contains(MODEL_KEY));
    let doctor = machine.try_run(&["ashctl", "doctor"]);
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("bubblewrap") && doctor.contains("runtime"), "{doctor}");
}

#[test]
fn a_folder_becomes_an_api_on_debian_12() {
    first_session("bookworm");
}

#[test]
fn a_folder_becomes_an_api_on_debian_13() {
    first_session("trixie");
}

fn package_life(release: &str) {
    let Some(machine) = installed(release) else { return };
    machine.write("/root/agent/CLAUDE.md", "x\n");
    machine.run(&["ashctl", "deploy", "/root/agent"]);
    let created = machine.run(&["ashctl", "--output", "json", "session", "create", "agent"]);
    let created: Value = serde_json::from_str(&created).expect("JSON");
    let session = created["id"].as_str().expect("an id").to_owned();
    machine.run(&["ashctl", "session", "send", &session, "say: before"]);
    let unit = machine.sh("systemctl list-units --plain --no-legend 'ash-sandbox-*.service' | cut -d' ' -f1").trim().to_owned();
    let main_pid = |machine: &Machine| machine.run(&["systemctl", "show", "--property=MainPID", "--value", &unit]);
    let (shim, daemon) = (main_pid(&machine), machine.run(&["systemctl", "show", "--property=MainPID", "--value", "ash"]));

    machine.sh("DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --reinstall /srv/ash.deb");
    wait_for("the daemon was restarted", || {
        let now = machine.run(&["systemctl", "show", "--property=MainPID", "--value", "ash"]);
        (now != daemon && now.trim() != "0").then_some(())
    });
    assert_eq!(main_pid(&machine), shim, "an upgrade does not touch sandboxes");
    let remembered = machine.run(&["ashctl", "session", "send", &session, "remember?"]);
    assert!(remembered.contains("user messages: 2"), "{remembered}");

    machine.sh("test \"$(stat -c %a:%U /etc/ash/credentials/master_key)\" = 600:root");
    let credential =
        machine.sh(&format!("printf %s {MODEL_KEY} | ashctl credential create anthropic --label box")).trim().to_owned();
    let before = machine.sh("cat /etc/ash/credentials/master_key");
    let rotated = machine.run(&["ashctl", "credential", "rotate-master"]);
    assert!(rotated.contains("1 credential is sealed anew"), "{rotated}");
    assert_ne!(machine.sh("cat /etc/ash/credentials/master_key"), before);
    let own = machine.run(&["ashctl", "session", "create", "agent", "--credential", &credential]);
    let said = machine.run(&["ashctl", "session", "send", own.trim(), "say: with a key of its own"]);
    assert!(said.contains("with a key of its own"), "{said}");
    machine.sh(&format!("! grep --recursive --quiet {MODEL_KEY} /var/lib/ash"));

    machine.sh("DEBIAN_FRONTEND=noninteractive apt-get remove --quiet=2 --yes ash");
    let left = machine.sh("systemctl list-units --plain --no-legend 'ash*' || true; pgrep -a ash- || true");
    assert_eq!(left.trim(), "", "nothing runs after a removal");
    assert!(machine.try_run(&["test", "-e", "/var/lib/ash/ash.db"]).status.success(), "a removal keeps the data");

    machine.sh("DEBIAN_FRONTEND=noninteractive apt-get purge --quiet=2 --yes ash");
    let left = machine.sh("ls -d /var/lib/ash /etc/ash /run/ash /usr/libexec/ash 2>/dev/null || true");
    assert_eq!(left.trim(), "", "a purge leaves nothing");
}

#[test]
fn upgrade_remove_and_purge_work_on_debian_12() {
    package_life("bookworm");
}

#[test]
fn upgrade_remove_and_purge_work_on_debian_13() {
    package_life("trixie");
}

/// The suite that every launcher passes, against the real one. What is compiled here runs on this
/// release and newer ones, so the newest is taken.
#[test]
fn the_real_launcher_conforms_on_debian_13() {
    let Some((deb, claude)) = needs() else { return };
    let bind = format!("{}:/srv/unit-tests", unit_tests().display());
    let machine = Machine::up_with("trixie", &deb, &claude, &[bind]);
    machine.install();
    let said = machine.run(&["/srv/unit-tests", "--ignored", "--exact", "sandbox::remote::tests::the_real_launcher_conforms"]);
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn base64_of_the_tests_is_base64() {
    for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}
