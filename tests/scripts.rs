//! The scripts of an agent, in real sandboxes: `install.sh`, whose outcome is kept for all sessions of a
//! version, and `startup.sh`, which is run in each new sandbox of a session.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};
use support::http::Response;
use support::life::{UNDISTURBED, act, bash, end, fork, good, lifecycle, start};
use support::{Daemon, wait_for};

const PROMPT: (&str, &str) = ("CLAUDE.md", "You are a test agent.\n");

fn create(daemon: &Daemon, agent: &str) -> Response {
    daemon.send("POST", "/api/sessions", &json!({"agent": agent}))
}

/// Names of what is in a folder of the daemon's state.
fn names(daemon: &Daemon, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(daemon.data().join(folder)).into_iter().flatten();
    entries.map(|entry| entry.expect("reads").file_name().into_string().expect("UTF-8")).collect()
}

/// How often `install.sh` came to its end.
fn installed(daemon: &Daemon) -> usize {
    daemon.log().matches("agent installed").count()
}

/// Nothing of any sandbox is left.
fn is_empty(daemon: &Daemon) {
    wait_for("nothing is left", || (names(daemon, "sandboxes").is_empty() && names(daemon, "run").is_empty()).then_some(()));
}

#[test]
fn an_agent_is_installed_once_and_each_of_its_sessions_begins_with_that() {
    let Some((_model, mut daemon)) = start(UNDISTURBED) else { return };
    let script = "#!/bin/bash\nset -e\ncat /proc/sys/kernel/random/uuid > made\nmkdir node_modules\n\
        ln made node_modules/hard\nenv > env\necho mine > CLAUDE.md\nchmod 600 env\nls -a > there\n";
    let definition = "[env]\nOWN = \"version\"\n[install]\ntimeout = \"1m\"\n";
    let files = [PROMPT, ("install.sh", script), ("ash.toml", definition), ("data/one", "1")];
    daemon.deploy("fitted", &files);
    let body = json!({"agent": "fitted", "systemPrompt": "From the session.", "extraEnv": {"OF_THE_SESSION": "canary-7"}});
    let first = daemon.create(&body);
    let second = daemon.create(&json!({"agent": "fitted"}));
    assert_eq!(installed(&daemon), 1);
    let made = bash(&daemon, &first, "cat made");
    assert_eq!(made.trim().len(), 36, "{made}");
    assert_eq!(bash(&daemon, &second, "cat made"), made);
    let same =
        bash(&daemon, &second, "cat data/one; echo; stat -c '%a %h %u' made env; test made -ef node_modules/hard && echo linked");
    assert_eq!(same.split_whitespace().collect::<Vec<_>>(), ["1", "644", "2", "1000", "600", "1", "1000", "linked"]);
    let there = bash(&daemon, &first, "cat there");
    assert!(["CLAUDE.md", "ash.toml", "install.sh", "data"].iter().all(|name| there.contains(name)), "{there}");
    let env = bash(&daemon, &first, "cat env");
    assert!(env.contains("OWN=version") && !env.contains("canary"), "what belongs to a session is not in a layer: {env}");
    assert_eq!(bash(&daemon, &first, "cat CLAUDE.md"), "From the session.");
    assert_eq!(bash(&daemon, &second, "cat CLAUDE.md"), "mine");

    bash(&daemon, &first, "echo changed > made");
    daemon.kill();
    daemon.run();
    let third = daemon.create(&json!({"agent": "fitted"}));
    assert_eq!((bash(&daemon, &third, "cat made"), installed(&daemon)), (made.clone(), 1));
    // Its own snapshot has it all from then on.
    good(&act(&daemon, &first, "stop"));
    good(&act(&daemon, &first, "resume"));
    assert_eq!(bash(&daemon, &first, "cat made; ls node_modules"), "changed\nhard");
    let child = fork(&daemon, &second);
    good(&act(&daemon, &child, "resume"));
    assert_eq!((bash(&daemon, &child, "cat made"), installed(&daemon)), (made, 1));

    // Another version is another layer.
    daemon.deploy("fitted", &[PROMPT, ("install.sh", "echo new > made")]);
    let other = daemon.create(&json!({"agent": "fitted"}));
    assert_eq!((bash(&daemon, &other, "cat made"), installed(&daemon)), ("new".to_owned(), 2));
    for session in [first, second, third, child, other] {
        end(&daemon, &session);
    }
    is_empty(&daemon);
    assert_eq!(names(&daemon, "layers").len(), 2);
}

#[test]
fn a_layer_goes_with_its_version_and_is_made_again_when_it_is_damaged() {
    let Some((_model, daemon)) = start("[retention]\nended_after = \"0s\"\nagent_versions = 1") else { return };
    daemon.deploy("fitted", &[PROMPT, ("install.sh", "cat /proc/sys/kernel/random/uuid > made")]);
    let session = daemon.create(&json!({"agent": "fitted"}));
    let made = bash(&daemon, &session, "cat made");
    let layer = daemon.data().join("layers").join(names(&daemon, "layers").remove(0));
    let data = layer.join(format!("{:019}", 0)).join("data.tar.zst");
    let mut bytes = std::fs::read(&data).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&data, bytes).expect("writes");
    let next = daemon.create(&json!({"agent": "fitted"}));
    assert_ne!(bash(&daemon, &next, "cat made"), made, "nothing of a damaged layer is used");
    assert_eq!(installed(&daemon), 2);
    let gc = || daemon.send("POST", "/api/gc", &json!({})).text();
    assert!(!gc().is_empty() && layer.exists(), "it is needed");
    // Versions without an agent go some time after their deploy only; here it is taken away by hand.
    for version in names(&daemon, "agents").iter().filter(|name| !name.starts_with('.')) {
        std::fs::remove_dir_all(daemon.data().join("agents").join(version)).expect("removes");
    }
    wait_for("the layer is gone", || {
        gc();
        (!layer.exists()).then_some(())
    });
}

#[test]
fn an_agent_that_can_not_be_installed_has_no_session_and_it_is_said_why() {
    let Some((_model, daemon)) = start(UNDISTURBED) else { return };
    let refused = |script: &str, rules: &str, wanted: &str| {
        daemon.deploy("broken", &[PROMPT, ("install.sh", script), ("ash.toml", rules)]);
        let answer = create(&daemon, "broken");
        assert_eq!((answer.status, answer.json()["error"].as_str()), (500, Some(wanted)), "{}", answer.text());
    };
    let failed = "Failed to create session: install.sh";
    refused("echo one; echo two >&2; exit 3", "", &format!("{failed} ended with exit code 3; it wrote: one\ntwo"));
    refused("kill -9 $$", "", &format!("{failed} was ended by SIGKILL, and wrote nothing"));
    refused("sleep 1000", "[install]\ntimeout = \"1s\"", &format!("{failed} took longer than 1s, and wrote nothing"));
    assert!(daemon.get("/api/sessions").json()["sessions"].as_array().expect("a list").is_empty());
    is_empty(&daemon);
    daemon.deploy("broken", &[PROMPT, ("install.sh", "echo mended > made")]);
    let session = daemon.create(&json!({"agent": "broken"}));
    assert_eq!(bash(&daemon, &session, "cat made"), "mended");
}

#[test]
fn rules_of_scripts_that_can_not_be_are_refused_by_line_and_key() {
    let Some((_model, daemon)) = start("") else { return };
    for (rules, wanted) in [
        ("[install]\ntimeout = \"2h\"", "install.timeout"),
        ("[startup]\ntimeout = \"0s\"", "startup.timeout"),
        ("[startup]\nallow = [\"no host\"]", "startup.allow[0]"),
        ("[install]\nwhen = 1", "install.when"),
    ] {
        let files =
            json!([{"path": "CLAUDE.md", "content": ""}, {"path": "ash.toml", "content": support::base64(rules.as_bytes())}]);
        let answer = daemon.send("POST", "/api/agents", &json!({"name": "wrong", "files": files}));
        let error = answer.json()["error"].as_str().map(ToOwned::to_owned).unwrap_or_default();
        assert!(
            answer.status == 400 && error.contains(wanted) && error.starts_with("ash.toml:2: "),
            "{rules}: {}",
            answer.text()
        );
    }
}

#[test]
fn those_who_come_while_an_agent_is_installed_wait_for_it_and_a_daemon_that_dies_leaves_nothing() {
    let Some((_model, mut daemon)) = start("[egress]\nallow_private = [\"127.0.0.2/32\"]") else { return };
    let gate = Gate::new();
    let rules = format!("[install]\nallow = [\"127.0.0.2:{}\"]\n", gate.port);
    let script = format!("curl -sSf http://127.0.0.2:{}/ > made", gate.port);
    daemon.deploy("slow", &[PROMPT, ("install.sh", &script), ("ash.toml", &rules)]);
    let control = daemon.control();
    let ask = move || {
        let control = control.clone();
        std::thread::spawn(move || {
            let json = [("content-type", "application/json")];
            support::http::request(&control, "POST", "/api/sessions", &json, Some(br#"{"agent":"slow"}"#))
        })
    };
    let lost = ask();
    let caller = gate.wait();
    daemon.kill();
    assert!(!lost.join().expect("ends").ok_status());
    drop(caller);
    daemon.run();
    is_empty(&daemon);
    assert_eq!((installed(&daemon), names(&daemon, "layers").len()), (0, 0));

    let (first, second) = (ask(), ask());
    let caller = gate.wait();
    wait_for("both wait", || (names(&daemon, "sandboxes").len() == 3).then_some(()));
    // A sweep takes the sandbox of nobody's for what it is.
    assert!(names(&daemon, "layers").is_empty());
    caller.answer("through the gate");
    let ids: Vec<_> = [first, second].map(|asked| asked.join().expect("ends").json()["session"]["id"].clone()).into();
    for id in &ids {
        assert_eq!(bash(&daemon, id.as_str().expect("an id"), "cat made"), "through the gate");
        let out = bash(&daemon, id.as_str().expect("an id"), &format!("curl -sS http://127.0.0.2:{}/", gate.port));
        assert!(out.contains("is not allowed by this agent's policy"), "what the script may is not the session's: {out}");
    }
    assert_eq!(installed(&daemon), 1);
}

#[test]
fn a_script_starts_each_sandbox_of_a_session_and_what_it_leaves_running_goes_on() {
    let Some((_model, daemon)) = start(&format!("{UNDISTURBED}\n[egress]\nallow_private = [\"127.0.0.2/32\"]")) else { return };
    let gate = Gate::new();
    let rules = format!("[startup]\nallow = [\"127.0.0.2:{}\"]\n", gate.port);
    let script = format!(
        "#!/bin/sh\necho started as $WHO >> log\n(setsid sh -c 'while :; do date +%s%N > beat; sleep 0.05; done' >/dev/null 2>&1 &)\n\
         curl -sSf http://127.0.0.2:{}/ >> log\necho all is well\n",
        gate.port
    );
    daemon.deploy("served", &[PROMPT, ("startup.sh", &script), ("ash.toml", &rules)]);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..3).for_each(|_| gate.wait().answer("let in\n")));
        let session = daemon.create(&json!({"agent": "served", "extraEnv": {"WHO": "one"}}));
        let told = lifecycle(&daemon, &session, "startup");
        assert_eq!((told.len(), &told[0]["output"]), (1, &json!("all is well")), "{told:?}");
        let log = "started as one\nlet in";
        assert_eq!(bash(&daemon, &session, "cat log"), log);
        let moves = bash(
            &daemon,
            &session,
            "a=$(cat beat); for i in $(seq 200); do b=$(cat beat); [ \"$a\" != \"$b\" ] && break; sleep 0.1; done; [ \"$a\" != \"$b\" ] && echo alive",
        );
        assert_eq!(moves, "alive", "a service outlives the script");
        let out = bash(&daemon, &session, &format!("curl -sS http://127.0.0.2:{}/", gate.port));
        assert!(out.contains("is not allowed by this agent's policy"), "what the script may is not the session's: {out}");
        good(&act(&daemon, &session, "stop"));
        good(&act(&daemon, &session, "resume"));
        assert_eq!(bash(&daemon, &session, "cat log"), format!("{log}\n{log}"));
        let child = fork(&daemon, &session);
        good(&act(&daemon, &child, "resume"));
        assert_eq!(bash(&daemon, &child, "cat log").matches("started").count(), 3);
        assert_eq!(lifecycle(&daemon, &session, "startup").len(), 2);
    });
}

#[test]
fn a_session_is_not_made_without_its_start_and_one_that_is_there_goes_on_and_says_so() {
    let Some((_model, daemon)) = start(UNDISTURBED) else { return };
    let script = "test ! -e broken || { echo it is broken; exit 9; }; echo well";
    daemon.deploy("served", &[PROMPT, ("startup.sh", script)]);
    let session = daemon.create(&json!({"agent": "served"}));
    bash(&daemon, &session, "touch broken");
    good(&act(&daemon, &session, "stop"));
    good(&act(&daemon, &session, "resume"));
    assert_eq!(bash(&daemon, &session, "rm broken; echo mended"), "mended");
    let told: Vec<_> = lifecycle(&daemon, &session, "startup").iter().map(|data| data["error"].clone()).collect();
    assert_eq!(told, [Value::Null, json!("startup.sh ended with exit code 9; it wrote: it is broken")]);

    daemon.deploy("never", &[PROMPT, ("startup.sh", "exit 1")]);
    let answer = create(&daemon, "never");
    let error = answer.json()["error"].as_str().map(ToOwned::to_owned);
    assert_eq!(error.as_deref(), Some("Failed to create session: startup.sh ended with exit code 1, and wrote nothing"));
    end(&daemon, &session);
    is_empty(&daemon);
}

#[test]
fn a_start_that_a_dying_daemon_broke_off_is_done_again_by_the_next() {
    let Some((_model, mut daemon)) = start(&format!("{UNDISTURBED}\n[egress]\nallow_private = [\"127.0.0.2/32\"]")) else {
        return;
    };
    let gate = Gate::new();
    let script = format!("curl -sSf http://127.0.0.2:{}/ >> log", gate.port);
    let rules = format!("[startup]\nallow = [\"127.0.0.2:{}\"]\n", gate.port);
    daemon.deploy("served", &[PROMPT, ("startup.sh", &script), ("ash.toml", &rules)]);
    let session = std::thread::scope(|scope| {
        scope.spawn(|| gate.wait().answer("one\n"));
        daemon.create(&json!({"agent": "served"}))
    });
    good(&act(&daemon, &session, "stop"));
    let (control, path) = (daemon.control(), format!("/api/sessions/{session}/resume"));
    let lost = std::thread::spawn(move || support::http::request(&control, "POST", &path, &[], None));
    let caller = gate.wait();
    daemon.kill();
    assert!(!lost.join().expect("ends").ok_status());
    drop(caller);
    std::thread::scope(|scope| {
        scope.spawn(|| gate.wait().answer("two\n"));
        daemon.run();
        assert_eq!(bash(&daemon, &session, "cat log"), "one\ntwo");
    });
    let out = bash(&daemon, &session, &format!("curl -sS http://127.0.0.2:{}/", gate.port));
    assert!(out.contains("is not allowed by this agent's policy"), "{out}");
}

#[test]
fn scripts_that_ask_for_many_hosts_are_not_held_up_by_what_is_told_of_them() {
    let Some((_model, daemon)) = start(UNDISTURBED) else { return };
    // Each refusal is an event, and nobody takes events before the sandbox is up.
    let script = "for i in $(seq 60); do curl -s -o /dev/null http://no-$i.example/; done; echo through >> log";
    daemon.deploy("asking", &[PROMPT, ("install.sh", script), ("startup.sh", script)]);
    let session = daemon.create(&json!({"agent": "asking"}));
    assert_eq!(bash(&daemon, &session, "cat log"), "through\nthrough");
    wait_for("what was refused to startup.sh is in the log", || {
        let told = daemon.get(&format!("/api/sessions/{session}/events?type=egress&limit=1000")).text();
        (1..=60).all(|host| told.contains(&format!("no-{host}.example"))).then_some(())
    });
}

/// A server at 127.0.0.2, whose callers wait until they are answered.
struct Gate {
    listener: TcpListener,
    port: u16,
}

struct Caller(std::net::TcpStream);

impl Gate {
    fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.2", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        Self { listener, port }
    }

    /// The next who calls.
    fn wait(&self) -> Caller {
        self.listener.set_nonblocking(true).expect("is a socket");
        let (mut stream, _) = wait_for("somebody calls", || self.listener.accept().ok());
        stream.set_nonblocking(false).expect("is a socket");
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request");
        Caller(stream)
    }
}

impl Caller {
    fn answer(mut self, text: &str) {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
        self.0.write_all((head + text).as_bytes()).expect("writes");
        // What is left of the request is read, since a reset would overtake the answer.
        self.0.shutdown(std::net::Shutdown::Write).expect("ends");
        let _gone = self.0.read_to_end(&mut Vec::new());
    }
}
