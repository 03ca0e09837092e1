//! The host goes down in good order, loses its power, or loses one of Ash's processes after the
//! other. Sessions go on where they were, their logs say what was interrupted, and the host holds
//! nothing that no session owns.

mod support;

use serde_json::Value;
use support::boxes::{MODEL_PORT, Machine, needs, uml};
use support::{MODEL_KEY, wait_for};

const CONTROL: &str = "/run/ash/ash.sock";

/// The model has to be there again after a boot, and on the way down as long as turns run.
const MODEL_UNIT: &str = "\
[Unit]
Before=ash.service
[Service]
ExecStart=python3 /srv/tests/scripted_model.py --port MODEL_PORT --require-key MODEL_KEY
[Install]
WantedBy=multi-user.target
";

struct Host {
    machine: Machine,
}

/// A sandbox as the host shows it: its id, and the uid that owns its folder.
type Owned = (String, u32);

impl Host {
    fn up(release: &str) -> Option<Self> {
        let (deb, claude) = needs()?;
        let machine = Machine::up(release, &deb, &claude);
        machine.install();
        let unit = MODEL_UNIT.replace("MODEL_PORT", &MODEL_PORT.to_string()).replace("MODEL_KEY", MODEL_KEY);
        machine.write("/etc/systemd/system/scripted-model.service", &unit);
        machine.write("/etc/ash/ash.toml.d/model.toml", &format!("[model]\nbase_url = \"http://127.0.0.1:{MODEL_PORT}\"\n"));
        machine.write("/etc/ash/ash.toml.d/sessions.toml", "[sessions]\nfreeze_after = \"1h\"\nshutdown_grace = \"15s\"\n");
        machine.sh(&format!("umask 077; printf %s {MODEL_KEY} >/etc/ash/credentials/anthropic_api_key"));
        machine.sh("systemctl enable --quiet --now scripted-model && systemctl restart ash");
        for (name, settings) in [("waits", ""), ("freezes", "[sessions]\nfreeze_after = \"1s\"\n")] {
            machine.write(&format!("/root/{name}/CLAUDE.md"), "You are a test agent.\n");
            machine.write(&format!("/root/{name}/ash.toml"), settings);
            machine.run(&["ashctl", "deploy", &format!("/root/{name}")]);
        }
        Some(Self { machine })
    }

    fn get(&self, path: &str) -> Value {
        let url = format!("http://localhost/api/{path}");
        let text = self.machine.run(&["curl", "--silent", "--unix-socket", CONTROL, &url]);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// A session with a note in its workspace that names it.
    fn session(&self, agent: &str, note: &str) -> String {
        let made = self.machine.run(&["ashctl", "--output", "json", "session", "create", agent]);
        let made: Value = serde_json::from_str(&made).expect("JSON");
        let id = made["id"].as_str().expect("an id").to_owned();
        self.say(&id, &format!("write: /work/note|{note}"));
        id
    }

    fn say(&self, session: &str, text: &str) -> String {
        self.machine.run(&["ashctl", "session", "send", session, text])
    }

    /// Sends a message whose answer nobody waits for.
    fn post(&self, session: &str, text: &str) {
        self.machine.run(&["systemd-run", "--quiet", "--collect", "ashctl", "session", "send", session, text]);
    }

    fn turns(&self, session: &str) -> Vec<Value> {
        self.get(&format!("sessions/{session}/turns"))["turns"].as_array().expect("a list").clone()
    }

    /// Waits until the newest turns of a session are in these states, the oldest first.
    fn wait_for_turns(&self, session: &str, states: &[&str]) -> Vec<Value> {
        wait_for(&format!("the newest turns of {session} are {states:?}"), || {
            let turns = self.turns(session);
            let newest = turns.get(turns.len().checked_sub(states.len())?..)?;
            newest
                .iter()
                .map(|turn| turn["state"].as_str().unwrap_or_default())
                .eq(states.iter().copied())
                .then(|| newest.to_vec())
        })
    }

    /// The causes of all ends of a session's sandboxes.
    fn ends(&self, session: &str) -> Vec<String> {
        let events = self.get(&format!("sessions/{session}/events?type=lifecycle&limit=1000"));
        let events = events["events"].as_array().unwrap_or_else(|| panic!("{events}")).clone();
        let data = events.iter().map(|event| match &event["data"] {
            Value::String(text) => serde_json::from_str(text).expect("JSON"),
            data => data.clone(),
        });
        let ends = data.filter(|data| data["action"] == "sandbox_ended");
        ends.map(|data| data["cause"].as_str().expect("a cause").to_owned()).collect()
    }

    fn sandbox(&self, session: &str) -> String {
        self.get(&format!("sessions/{session}"))["session"]["sandboxId"].as_str().expect("an id").to_owned()
    }

    fn show(&self, unit: &str, property: &str) -> String {
        self.machine.run(&["systemctl", "show", "--value", &format!("--property={property}"), unit]).trim().to_owned()
    }

    fn units(&self) -> Vec<String> {
        let text = self.machine.sh("systemctl list-units --all --plain --no-legend 'ash-sandbox-*.service' | cut -d' ' -f1");
        let id = |unit: &str| unit.strip_prefix("ash-sandbox-")?.strip_suffix(".service").map(str::to_owned);
        let mut ids: Vec<_> = text.lines().map(|unit| id(unit).expect("the unit of a sandbox")).collect();
        ids.sort();
        ids
    }

    fn folders(&self) -> Vec<Owned> {
        let text = self.machine.sh("cd /var/lib/ash/sandboxes && find . -mindepth 1 -maxdepth 1 -printf '%f %U\\n' | sort");
        let owned = |line: &str| line.split_once(' ').map(|(id, uid)| (id.to_owned(), uid.parse().expect("a uid")));
        text.lines().map(|line| owned(line).expect("a folder")).collect()
    }

    /// What the host holds is what sessions own, exactly: units, folders, uids, sockets, mounts and
    /// processes.
    fn agrees(&self) {
        let sessions = self.get("sessions")["sessions"].as_array().expect("a list").clone();
        let alive = |session: &&Value| session["status"] != "ended";
        let owned: Vec<_> = sessions.iter().filter(alive).map(|session| session["sandboxId"].as_str().expect("an id")).collect();
        // What is being removed is gone within one sweep.
        let (units, folders) = wait_for("units and folders agree, and belong to sessions", || {
            let (units, folders) = (self.units(), self.folders());
            let agree = units.iter().eq(folders.iter().map(|(id, _)| id));
            (agree && units.iter().all(|unit| owned.contains(&unit.as_str()))).then_some((units, folders))
        });
        for unit in &units {
            assert_eq!(self.show(&format!("ash-sandbox-{unit}.service"), "ActiveState"), "active");
        }
        let mut uids: Vec<_> = folders.iter().map(|(_, uid)| *uid).collect();
        uids.sort_unstable();
        uids.dedup();
        assert_eq!(uids.len(), folders.len(), "each folder has a uid of its own: {folders:?}");
        let running: Vec<_> = folders.iter().filter(|(id, _)| units.contains(id)).map(|(_, uid)| *uid).collect();
        let processes = self.machine.sh("ps -eo uid= | awk '$1 >= 1900000000 && $1 < 1900065536' | sort -un");
        for uid in processes.lines().map(|uid| uid.trim().parse::<u32>().expect("a uid")) {
            assert!(running.contains(&uid), "{uid} has processes and no unit");
        }
        wait_for("sockets belong to sessions", || {
            let sockets = self.machine.sh("cd /run/ash/sandboxes && find . -name '*.sock' -printf '%f\\n' | sort");
            let id = |socket: &str| socket.strip_suffix(".sock").map(str::to_owned).expect("a socket");
            sockets.lines().all(|socket| owned.contains(&id(socket).as_str())).then_some(())
        });
        let mounts = self.machine.sh("grep -cE '/(var/lib|run)/ash' /proc/self/mountinfo || true");
        assert_eq!(mounts.trim(), "0", "no sandbox is mounted on the host");
        let names: Vec<_> = units.iter().map(|id| format!("ash-sandbox-{id}.service")).collect();
        wait_for("no control group is left", || {
            let groups = self.machine.sh("find /sys/fs/cgroup -type d -name 'ash-sandbox-*.service' -printf '%f\\n' | sort");
            groups.lines().eq(names.iter().map(String::as_str)).then_some(())
        });
    }

    /// What a session was told so far and what is in its workspace.
    fn is_whole(&self, session: &str, note: &str, told: &[&str]) {
        let said = self.say(session, "remember?");
        let first = format!("write: /work/note|{note}");
        for text in [&[first.as_str()], told].concat() {
            assert!(said.contains(text), "{text:?} is forgotten: {said}");
        }
        assert!(self.say(session, "read: /work/note").contains(note), "the note of {session} is lost");
    }
}

/// One session of each kind, while the host still runs.
struct Sessions {
    idle: String,
    frozen: String,
    paused: String,
    /// Whose turn would take longer than anybody waits.
    long: String,
    /// The same, and a message waits behind it.
    queued: String,
}

impl Sessions {
    fn make(host: &Host) -> Self {
        let sessions = Self {
            idle: host.session("waits", "of the idle one"),
            frozen: host.session("freezes", "of the frozen one"),
            paused: host.session("waits", "of the paused one"),
            long: host.session("waits", "of the busy one"),
            queued: host.session("waits", "of the busiest one"),
        };
        host.machine.run(&["ashctl", "session", "pause", &sessions.paused]);
        for session in [&sessions.long, &sessions.queued] {
            host.post(session, "slow: 600");
            host.wait_for_turns(session, &["running"]);
            wait_for("the runtime works", || {
                let url = format!("http://localhost/api/sessions/{session}/stream");
                let read = ["curl", "--silent", "--no-buffer", "--max-time", "2", "--unix-socket", CONTROL, &url];
                String::from_utf8_lossy(&host.machine.try_run(&read).stdout).contains("tick").then_some(())
            });
        }
        host.post(&sessions.queued, "say: after the boot");
        host.wait_for_turns(&sessions.queued, &["running", "queued"]);
        let unit = format!("ash-sandbox-{}.service", host.sandbox(&sessions.frozen));
        wait_for("the idle one is frozen", || (host.show(&unit, "FreezerState") == "frozen").then_some(()));
        sessions
    }

    fn all(&self) -> [&String; 5] {
        [&self.idle, &self.frozen, &self.paused, &self.long, &self.queued]
    }

    /// After a boot: everything goes on, and what was interrupted is said.
    fn go_on(&self, host: &Host) {
        let turns = host.wait_for_turns(&self.queued, &["interrupted", "completed"]);
        let turns = [turns, host.wait_for_turns(&self.long, &["interrupted"])].concat();
        for turn in turns.iter().filter(|turn| turn["state"] == "interrupted") {
            assert!(turn["cause"].as_str().is_some_and(|cause| cause.contains("host: ")), "{turn}");
        }
        host.machine.run(&["ashctl", "session", "resume", &self.paused]);
        host.is_whole(&self.idle, "of the idle one", &[]);
        host.is_whole(&self.frozen, "of the frozen one", &[]);
        host.is_whole(&self.paused, "of the paused one", &[]);
        host.is_whole(&self.long, "of the busy one", &["slow: 600"]);
        host.is_whole(&self.queued, "of the busiest one", &["slow: 600", "say: after the boot"]);
        for session in self.all() {
            assert_eq!(host.ends(session), ["host"], "the end of each sandbox is told once");
        }
        host.agrees();
    }

    /// Nothing of them stays on the host when they are over.
    fn end(&self, host: &Host) {
        for session in self.all() {
            host.machine.run(&["ashctl", "session", "end", session]);
        }
        host.agrees();
        assert_eq!((host.units(), host.folders()), (Vec::new(), Vec::new()));
    }
}

fn a_host_goes_down(release: &str) {
    let Some(host) = Host::up(release) else { return };
    let sessions = Sessions::make(&host);
    let ends_itself = host.session("waits", "of the quick one");

    // The daemon alone may go, and no sandbox notices.
    let pids = || host.units().iter().map(|id| host.show(&format!("ash-sandbox-{id}.service"), "MainPID")).collect::<Vec<_>>();
    let before = pids();
    host.machine.run(&["systemctl", "restart", "ash"]);
    host.machine.run(&["systemctl", "stop", "ash.socket", "ash"]);
    assert_eq!((pids(), before.len()), (before, 6), "a stop of the daemon leaves sandboxes alone");
    host.machine.run(&["systemctl", "start", "ash"]);
    host.wait_for_turns(&sessions.queued, &["running", "queued"]);

    host.post(&ends_itself, "slow: 3");
    host.wait_for_turns(&ends_itself, &["running"]);
    host.machine.reboot("--off");

    // Before anybody says a word: all is put away, but for what waited.
    host.wait_for_turns(&ends_itself, &["completed"]);
    host.wait_for_turns(&sessions.queued, &["interrupted", "completed"]);
    assert_eq!(host.units(), [host.sandbox(&sessions.queued)], "what waited runs, and nothing else");
    host.agrees();
    for session in sessions.all() {
        let snapshots = host.get(&format!("sessions/{session}/snapshots"));
        let newest = snapshots["snapshots"].as_array().and_then(|all| all.last()).expect("a snapshot");
        assert_eq!(newest["reason"], "shutdown", "{newest}");
    }
    host.machine.run(&["ashctl", "session", "end", &ends_itself]);
    sessions.go_on(&host);
    sessions.end(&host);
}

#[test]
fn a_host_that_goes_down_parks_what_runs_and_says_what_it_interrupted_on_debian_12() {
    a_host_goes_down("bookworm");
}

#[test]
fn a_host_that_goes_down_parks_what_runs_and_says_what_it_interrupted_on_debian_13() {
    a_host_goes_down("trixie");
}

#[test]
fn a_host_that_loses_its_power_goes_on_from_the_folders() {
    let Some(host) = Host::up("trixie") else { return };
    let sessions = Sessions::make(&host);
    let over = host.session("waits", "of the one that is over");
    host.machine.run(&["ashctl", "session", "end", &over]);
    host.machine.reboot("--cut");
    sessions.go_on(&host);
    assert_eq!(host.ends(&over), ["finished"]);
    sessions.end(&host);
}

#[test]
fn whichever_process_is_killed_the_next_message_works_and_nothing_is_left_over() {
    let Some(host) = Host::up("trixie") else { return };
    let (session, other) = (host.session("waits", "of the one"), host.session("waits", "of the other"));
    let unit = format!("ash-sandbox-{}.service", host.sandbox(&session));
    let main = |unit: &str| host.show(unit, "MainPID");
    // The processes of the sandbox with this name, by the sandbox's control group.
    let inside = |name: &str| {
        let group = host.show(&unit, "ControlGroup");
        let script = format!(
            "cd /sys/fs/cgroup{group} && for p in $(cat cgroup.procs); do [ \"$(cat /proc/$p/comm)\" != {name} ] || echo $p; done"
        );
        let pids: Vec<String> = host.machine.sh(&script).lines().map(str::to_owned).collect();
        assert!(!pids.is_empty(), "there is no {name}");
        pids
    };
    let mut told = vec!["write: /work/note|of the one".to_owned()];
    for round in 0..2 {
        for victim in ["ashd", "ash-launcher", "ash-shim", "claude", "bwrap"] {
            let pids = match victim {
                "ashd" => vec![main("ash.service")],
                "ash-launcher" => vec![main("ash-launcher.service")],
                "ash-shim" => vec![main(&unit)],
                inner => inside(inner),
            };
            // With bubblewrap goes all that is inside, some time later. Who is on the way out still takes a message,
            // which is not given again, as it may have begun.
            let going = if victim == "bwrap" { [pids.clone(), inside("claude")].concat() } else { pids.clone() };
            // One that was about to end may have.
            host.machine.sh(&format!("for p in {}; do kill -9 $p || [ ! -e /proc/$p ]; done", pids.join(" ")));
            let gone = format!("for p in {}; do while kill -0 $p 2>/dev/null; do sleep 0.01; done; done", going.join(" "));
            host.machine.sh(&gone);
            let text = format!("say: {victim} {round}");
            let said = host.say(&session, &text);
            assert_eq!(said.trim(), format!("{victim} {round}"), "the message after the end of {victim}");
            told.push(text);
            // The runtime writes its transcript a little later than it answers: what was said last
            // may be forgotten, what came before is not.
            host.say(&session, "say: and on");
        }
    }
    let said = host.say(&session, "remember?");
    for text in &told {
        assert!(said.contains(text), "{text:?} is forgotten: {said}");
    }
    host.is_whole(&other, "of the other", &[]);
    host.agrees();
    for session in [session, other] {
        host.machine.run(&["ashctl", "session", "end", &session]);
    }
    host.agrees();
    assert_eq!((host.units(), host.folders()), (Vec::new(), Vec::new()));
}

#[test]
fn what_a_stream_has_shown_survives_the_death_of_a_kernel() {
    let Some((deb, claude)) = needs() else { return };
    let (passed, text) = uml("bookworm", &deb, &claude, "power-cut.sh");
    assert!(passed && text.contains("a power cut is survived"), "{text}");
}
