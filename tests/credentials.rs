//! Secrets that tenants keep for their sessions: where they go, and where they are never found.

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::http::{self, result};
use support::life::{act, fork, good};
use support::tls::{Certificate, Server};
use support::{Daemon, MODEL_KEY, Model, claude, wait_for};

fn start() -> Option<(Model, Daemon)> {
    start_with("")
}

fn start_with(extra: &str) -> Option<(Model, Daemon)> {
    let claude = claude()?;
    let model = Model::start_with(&[]);
    let daemon = Daemon::start_with(&claude, &model.url, extra);
    daemon.deploy("agent", &[("CLAUDE.md", "You are a test agent.")]);
    Some((model, daemon))
}

fn keep(daemon: &Daemon, kind: &str, key: &str) -> String {
    let answer = daemon.send("POST", "/api/credentials", &json!({"type": kind, "key": key, "label": "a test"}));
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert!(!answer.text().contains(key), "{}", answer.text());
    answer.json()["credential"]["id"].as_str().expect("an id").to_owned()
}

fn listed(daemon: &Daemon, id: &str) -> Value {
    let list = daemon.get("/api/credentials").json();
    let found = list["credentials"].as_array().expect("a list").iter().find(|one| one["id"] == id).cloned();
    found.unwrap_or(Value::Null)
}

/// A key that nobody else has.
fn secret() -> String {
    format!("sk-ant-canary-{}", uuid::Uuid::new_v4().simple())
}

/// What the model says of the key that came, in the form of the scripted model.
fn masked(key: &str) -> String {
    format!("x-api-key: {}...{} ({} chars)", &key[..4], &key[key.len() - 4..], key.len())
}

/// The files below a folder that hold a text.
fn holding(folder: &Path, text: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
        if kind.is_dir() {
            holding(&path, text, found);
        } else if kind.is_file() {
            let content = std::fs::read(&path).unwrap_or_default();
            if content.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
}

#[test]
fn the_key_of_the_model_reaches_the_model_and_is_found_nowhere_else() {
    let Some((_model, mut daemon)) = start() else { return };
    let key = secret();
    let id = keep(&daemon, "anthropic", &key);
    assert_eq!(listed(&daemon, &id)["lastUsedAt"], Value::Null);
    let session = daemon.create(&json!({"agent": "agent", "credentialId": id}));
    assert!(result(&daemon.say(&session, "auth?")).starts_with(&masked(&key)), "the session's own key");
    assert!(listed(&daemon, &id)["lastUsedAt"].is_string());
    let other = daemon.session();
    assert!(result(&daemon.say(&other, "auth?")).starts_with(&masked(MODEL_KEY)), "the host's key");

    // As two parts, so that the search does not find itself.
    let (head, tail) = key.split_at(20);
    let script = format!(
        r#"for p in /proc/[0-9]*; do grep -aq {head}"{tail}" $p/environ $p/cmdline && echo found in $p; done 2>/dev/null
grep -rqa {head}"{tail}" /etc /run /home /tmp /work /dev/shm 2>/dev/null && echo found in a file
echo searched"#
    );
    let script = support::base64(script.as_bytes());
    let said = result(&daemon.say(&session, &format!("bash: echo {script} | base64 -d | bash; echo over")));
    assert!(said.contains("searched\nover") && !said.contains("found in"), "{said}");

    for host in walk_processes() {
        assert!(!host.contains(&key), "in the environment or the arguments of a process");
    }
    good(&act(&daemon, &session, "stop"));
    for (what, answer) in [
        ("the session", daemon.get(&format!("/api/sessions/{session}"))),
        ("its events", daemon.get(&format!("/api/sessions/{session}/events"))),
        ("the list", daemon.get("/api/credentials")),
    ] {
        assert!(!answer.text().contains(&key), "in {what}");
    }
    daemon.stop();
    let mut found = Vec::new();
    holding(&daemon.data(), &key, &mut found);
    assert!(found.is_empty(), "in the state folder with database, spools and snapshots: {found:?}");
    assert!(!daemon.log().contains(&key), "in the journal");
    daemon.run();
    good(&act(&daemon, &session, "resume"));
    assert!(result(&daemon.say(&session, "auth?")).starts_with(&masked(&key)), "a resume gives it again");
    let fork = fork(&daemon, &session);
    good(&act(&daemon, &fork, "resume"));
    assert!(result(&daemon.say(&fork, "auth?")).starts_with(&masked(&key)), "and so does a fork");
}

/// Environment and arguments of each process of the host.
fn walk_processes() -> Vec<String> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("reads").filter_map(Result::ok) {
        for name in ["environ", "cmdline"] {
            texts.extend(std::fs::read(entry.path().join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    texts
}

/// What the model says of the key that comes with the next turn.
fn key_of(daemon: &Daemon, session: &str) -> String {
    let said = result(&daemon.say(session, "auth?"));
    said.split(" chars)").next().expect("a part").to_owned() + " chars)"
}

#[test]
fn the_key_of_a_running_sandbox_is_changed_and_taken_away_while_it_runs() {
    let Some((_model, mut daemon)) = start() else { return };
    let keys: Vec<_> = (0..4).map(|_| secret()).collect();
    let id = keep(&daemon, "anthropic", &keys[0]);
    let (session, other) = (daemon.create(&json!({"agent": "agent", "credentialId": id})), daemon.session());
    assert_eq!(key_of(&daemon, &session), masked(&keys[0]));
    assert_eq!(key_of(&daemon, &other), masked(MODEL_KEY));

    let path = format!("/api/credentials/{id}");
    let change = |key: &str| assert_eq!(daemon.send("PATCH", &path, &json!({"key": key})).status, 200);
    change(&keys[1]);
    assert_eq!(key_of(&daemon, &session), masked(&keys[1]));
    // Between two calls of one turn.
    let turn = daemon.post(&session, "bash: touch begun; until [ -e go ]; do read -t 0.05 < <(:) || :; done\nauth?");
    wait_for("the tool runs", || daemon.get(&format!("/api/sessions/{session}/files/begun")).ok_status().then_some(()));
    change(&keys[2]);
    good(&daemon.send("POST", &format!("/api/sessions/{session}/files"), &json!({"files": [{"path": "go", "content": ""}]})));
    assert!(result(&http::events(&turn.finish().text())).starts_with(&masked(&keys[2])));
    assert_eq!(key_of(&daemon, &other), masked(MODEL_KEY), "of nobody else");

    assert_eq!(daemon.send("DELETE", &path, &json!({})).json(), json!({"ok": true}));
    let refused = daemon.say(&session, "auth?");
    let said = refused.iter().find(|event| event.name == "error").expect("an error").data["error"].to_string();
    assert!(said.contains("401") && said.contains("the credential of this session was deleted"), "{said}");
    let last = keep(&daemon, "anthropic", &keys[3]);
    good(&daemon.send("PATCH", &format!("/api/sessions/{session}/config"), &json!({"credentialId": last})));
    assert_eq!(key_of(&daemon, &session), masked(&keys[3]));

    // The operator's, read again, and by the next daemon.
    let (first, second) = (secret(), secret());
    std::fs::write(daemon.master_keys().with_file_name("anthropic_api_key"), &first).expect("writes");
    let pid = nix::unistd::Pid::from_raw(daemon.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("signals");
    wait_for("it is read", || daemon.log().contains("the key of the model API was read again").then_some(()));
    assert_eq!(key_of(&daemon, &other), masked(&first));
    assert_eq!(key_of(&daemon, &session), masked(&keys[3]), "who has another one keeps it");
    daemon.stop();
    daemon.model_key(&second);
    daemon.run();
    assert_eq!(key_of(&daemon, &other), masked(&second));
    for session in [&session, &other] {
        let events = daemon.get(&format!("/api/sessions/{session}/events?type=lifecycle&limit=1000")).text();
        assert_eq!(events.matches("runtime_started").count(), 1, "all in one process: {events}");
    }
    daemon.stop();
    let mut found = Vec::new();
    keys.iter().chain([&first, &second]).for_each(|key| holding(&daemon.data(), key, &mut found));
    assert!(found.is_empty(), "in the state folder: {found:?}");
    assert!(keys.iter().chain([&first, &second]).all(|key| !daemon.log().contains(key)), "in the journal");
}

#[test]
fn a_gateway_of_the_operators_gets_the_key_as_it_wants_it() {
    let Some(claude) = claude() else { return };
    let model = Model::start_with(&[]);
    let daemon =
        Daemon::start_with(&claude, &model.url, "[model]\nauth = \"bearer\"\nheaders = {x-api-key = \"of-the-gateway\"}");
    let session = daemon.session();
    let (bearer, own) = (format!("Bearer {MODEL_KEY}"), masked("of-the-gateway"));
    let wanted = format!("{own}; {}", masked(&bearer).replace("x-api-key", "authorization"));
    assert_eq!(result(&daemon.say(&session, "auth?")), wanted);
}

#[test]
fn other_types_are_in_the_environment_and_change_with_the_next_start() {
    let Some((_model, daemon)) = start() else { return };
    let (openai, custom) = (keep(&daemon, "openai", "first"), keep(&daemon, "custom", "mine"));
    let session = daemon.create(&json!({"agent": "agent", "credentialId": openai}));
    let shown = |session: &str| result(&daemon.say(session, r#"bash: echo "$OPENAI_API_KEY/$ASH_CUSTOM_API_KEY""#));
    assert_eq!(shown(&session), "result: first/");

    let path = format!("/api/credentials/{openai}");
    assert_eq!(daemon.send("PATCH", &path, &json!({"key": "second", "label": "renamed"})).status, 200);
    assert_eq!(listed(&daemon, &openai)["label"], "renamed");
    assert_eq!(shown(&session), "result: first/", "what runs keeps what it was given");
    let again = || {
        good(&act(&daemon, &session, "stop"));
        act(&daemon, &session, "resume")
    };
    good(&again());
    assert_eq!(shown(&session), "result: second/");

    let configure = |id: &str| daemon.send("PATCH", &format!("/api/sessions/{session}/config"), &json!({"credentialId": id}));
    good(&configure(&custom));
    good(&again());
    assert_eq!(shown(&session), "result: /mine");
    assert_eq!(configure("nothing").json()["error"], "Invalid or inaccessible credential");

    assert_eq!(daemon.send("DELETE", &format!("/api/credentials/{custom}"), &json!({})).json(), json!({"ok": true}));
    assert_eq!(shown(&session), "result: /mine");
    let refused = again();
    let said = refused.json()["error"].as_str().unwrap_or_default().to_owned();
    assert!(!refused.ok_status() && said.contains("PATCH …/config") && said.contains("Credential not found"), "{said}");
    good(&configure(""));
    good(&act(&daemon, &session, "resume"));
    assert_eq!(shown(&session), "result: /");
}

#[test]
fn a_credential_that_is_bound_to_a_host_reaches_it_and_is_found_nowhere_else() {
    let Some((_model, mut daemon)) = start_with("[egress]\nallow_private = [\"127.0.0.1/32\"]") else { return };
    let folder = tempfile::tempdir().expect("folder");
    let certificate = Certificate::make(folder.path(), "good", "localhost");
    let server = Server::start(&certificate);
    daemon.stop();
    let trusted = Certificate::trust(folder.path(), &[&certificate]);
    daemon.set_env(vec![("SSL_CERT_FILE", trusted.display().to_string())]);
    daemon.run();

    let (first, second) = (secret(), secret());
    let (id, model_key) = (keep(&daemon, "custom", &first), keep(&daemon, "anthropic", &secret()));
    let host = format!("localhost:{}", server.port);
    let bindings = json!({"TOKEN": {"credentialId": id, "host": host, "header": "X-Key: key {}"}});
    let session = daemon.create(&json!({"agent": "agent", "credentialId": model_key, "bindings": bindings}));
    let path = format!("/api/sessions/{session}");
    assert_eq!(daemon.get(&path).json()["session"]["config"]["bindings"], bindings);
    let ask = |daemon: &Daemon, session: &str, what: &str| {
        result(&daemon.say(session, &format!("bash: echo $TOKEN; curl -sS $TOKEN_URL/{what}; env | base64 -w0")))
    };
    let sent = || {
        let heard = server.take();
        heard.lines().filter_map(|line| line.strip_prefix("x-key: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let said = ask(&daemon, &session, "one");
    assert!(said.contains("placeholder-the-real-key-stays-outside\nhere is /one\n"), "{said}");
    assert_eq!(sent(), [format!("key {first}")]);
    assert!(listed(&daemon, &id)["lastUsedAt"].is_string());

    let credential = format!("/api/credentials/{id}");
    assert_eq!(daemon.send("PATCH", &credential, &json!({"key": second})).status, 200);
    assert!(ask(&daemon, &session, "two").contains("here is /two\n"));
    assert_eq!(sent(), [format!("key {second}")], "with the next call");
    let walls = daemon.get(&format!("{path}/security")).text();
    assert!(walls.contains(&format!("so do 1 that are bound to a host: {host}")), "{walls}");
    for process in walk_processes() {
        assert!(!process.contains(&first) && !process.contains(&second), "in the environment or the arguments of a process");
    }

    // By the next daemon, and in another sandbox.
    daemon.kill();
    daemon.run();
    good_answer(&daemon, &session, "three", &ask);
    good(&act(&daemon, &session, "stop"));
    good(&act(&daemon, &session, "resume"));
    good_answer(&daemon, &session, "four", &ask);
    let fork = fork(&daemon, &session);
    good(&act(&daemon, &fork, "resume"));
    good_answer(&daemon, &fork, "five", &ask);
    assert_eq!(sent(), vec![format!("key {second}"); 3]);

    let configure =
        |daemon: &Daemon, bindings: Value| daemon.send("PATCH", &format!("{path}/config"), &json!({"bindings": bindings}));
    good(&configure(&daemon, json!({})));
    assert!(ask(&daemon, &session, "six").contains("this is a proxy"));
    assert_eq!(daemon.get(&path).json()["session"]["config"]["bindings"], Value::Null);
    good(&configure(&daemon, bindings));
    assert!(ask(&daemon, &session, "seven").contains("here is /seven\n"));
    assert_eq!(daemon.send("DELETE", &credential, &json!({})).json(), json!({"ok": true}));
    let refused = "Ash: the credential TOKEN was deleted, so no call leaves with it";
    for session in [&session, &fork] {
        assert!(ask(&daemon, session, "eight").contains(refused), "and model calls go on");
    }
    good(&act(&daemon, &session, "stop"));
    good(&act(&daemon, &session, "resume"));
    assert!(ask(&daemon, &session, "nine").contains(refused), "a new sandbox starts all the same");
    assert_eq!(sent(), [format!("key {second}")]);

    let events = daemon.get(&format!("{path}/events?limit=1000")).text();
    daemon.stop();
    let mut found = Vec::new();
    for key in [&first, &second] {
        assert!(!events.contains(key), "in the events");
        holding(&daemon.data(), key, &mut found);
        assert!(!daemon.log().contains(key), "in the journal");
    }
    assert!(found.is_empty(), "in the state folder with database, spools and snapshots: {found:?}");
}

fn good_answer(daemon: &Daemon, session: &str, what: &str, ask: &dyn Fn(&Daemon, &str, &str) -> String) {
    let said = ask(daemon, session, what);
    assert!(said.contains(&format!("here is /{what}\n")), "{said}");
}

#[test]
fn environments_are_kept_sealed_and_reach_each_sandbox_of_their_session() {
    let Some((_model, mut daemon)) = start() else { return };
    let (agents, own) = (secret(), secret());
    let deployed = daemon.send("PATCH", "/api/agents/agent", &json!({"env": {"OF_AGENT": agents, "BOTH": "agent"}}));
    assert_eq!(deployed.json()["agent"]["env"], json!({"OF_AGENT": "***", "BOTH": "***"}));
    let session = daemon.create(&json!({"agent": "agent", "extraEnv": {"OF_SESSION": own, "BOTH": "session"}}));
    let shown =
        |daemon: &Daemon, session: &str| result(&daemon.say(session, r#"bash: echo "$OF_AGENT/$OF_SESSION/$BOTH" | base64 -w0"#));
    let wanted = format!("result: {}", support::base64(format!("{agents}/{own}/session\n").as_bytes()));
    assert_eq!(shown(&daemon, &session), wanted);
    good(&act(&daemon, &session, "stop"));
    let fork = fork(&daemon, &session);
    let clear = || {
        let mut found = Vec::new();
        [&agents, &own].into_iter().for_each(|value| holding(&daemon.data(), value, &mut found));
        found
    };
    assert!(clear().is_empty(), "in the state folder: {:?}", clear());

    daemon.stop();
    let keys = daemon.master_keys();
    let old = std::fs::read_to_string(&keys).expect("reads");
    let new = "A".repeat(42) + "E";
    std::fs::write(&keys, format!("{new}\n{old}")).expect("writes");
    daemon.run();
    wait_for("the daemon seals them anew", || {
        daemon.log().contains("environments of agents and sessions are sealed").then_some(())
    });
    daemon.stop();
    std::fs::write(&keys, new).expect("writes");
    daemon.run();
    for session in [&session, &fork] {
        good(&act(&daemon, session, "resume"));
        assert_eq!(shown(&daemon, session), wanted, "under the new key alone");
    }
    assert!(![&agents, &own].into_iter().any(|value| daemon.log().contains(value)), "in the journal");
}

#[test]
fn bindings_that_can_not_be_had_are_refused_by_their_field() {
    let Some((_model, daemon)) = start_with("[egress]\nallow = [\"*.example.com\"]") else { return };
    let id = keep(&daemon, "custom", "k");
    let bedrock = keep(&daemon, "bedrock", r#"{"accessKeyId":"a","secretAccessKey":"b","region":"eu-west-1"}"#);
    let session = daemon.session();
    let nobody = uuid::Uuid::now_v7().to_string();
    let of = |id: &str, host: &str| json!({"credentialId": id, "host": host});
    for (bindings, field) in [
        (json!({"token": of(&id, "api.example.com")}), "bindings.token"),
        (json!({"HOME": of(&id, "api.example.com")}), "bindings.HOME"),
        (json!({"TOKEN": of(&id, "evil.test")}), "bindings.TOKEN.host"),
        (json!({"TOKEN": of(&id, "http://api.example.com")}), "bindings.TOKEN.host"),
        (json!({"TOKEN": of(&nobody, "api.example.com")}), "bindings.TOKEN.credentialId"),
        (json!({"TOKEN": of(&bedrock, "api.example.com")}), "bindings.TOKEN.credentialId"),
        (json!({"TOKEN": {"credentialId": id, "host": "api.example.com", "header": "x"}}), "bindings.TOKEN.header"),
        (json!({"TOKEN": {"credentialId": id}}), "bindings.TOKEN.host"),
        (json!({"TOKEN": {"credentialId": id, "host": "api.example.com", "value": "x"}}), "bindings.TOKEN.value"),
    ] {
        let requests = [
            daemon.send("POST", "/api/sessions", &json!({"agent": "agent", "bindings": bindings})),
            daemon.send("PATCH", &format!("/api/sessions/{session}/config"), &json!({"bindings": bindings})),
        ];
        for answer in requests {
            assert_eq!(answer.status, 400, "{bindings}: {}", answer.text());
            assert_eq!(answer.json()["details"][0]["field"], field, "{bindings}: {}", answer.text());
        }
    }
    // Nothing of it was stored.
    assert_eq!(daemon.get(&format!("/api/sessions/{session}")).json()["session"]["config"]["bindings"], Value::Null);
}

#[test]
fn bad_requests_name_field_and_reason_and_foreign_ones_find_nothing() {
    let Some((_model, daemon)) = start() else { return };
    for (body, field) in [
        (json!({"key": "k"}), "type"),
        (json!({"type": "telepathy", "key": "k"}), "type"),
        (json!({"type": "custom"}), "key"),
        (json!({"type": "custom", "key": ""}), "key"),
        (json!({"type": "custom", "key": "two words"}), "key"),
        (json!({"type": "bedrock", "key": "{}"}), "key"),
        (json!({"type": "custom", "key": "k", "label": "a\nb"}), "label"),
    ] {
        let answer = daemon.send("POST", "/api/credentials", &body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert_eq!(answer.json()["details"][0]["field"], field, "{body}: {}", answer.text());
    }
    let nobody = uuid::Uuid::now_v7();
    for (method, body) in [("PATCH", json!({"label": "x"})), ("DELETE", json!({}))] {
        let answer = daemon.send(method, &format!("/api/credentials/{nobody}"), &body);
        assert_eq!((answer.status, answer.json()["error"].clone()), (404, json!("Credential not found")));
    }
    for id in ["no id", &nobody.to_string()] {
        let answer = daemon.send("POST", "/api/sessions", &json!({"agent": "agent", "credentialId": id}));
        assert_eq!((answer.status, answer.json()["error"].clone()), (400, json!("Invalid or inaccessible credential")));
    }
    let bedrock = keep(&daemon, "bedrock", r#"{"accessKeyId":"a","secretAccessKey":"b","region":"eu-west-1"}"#);
    let answer = daemon.send("POST", "/api/sessions", &json!({"agent": "agent", "credentialId": bedrock}));
    assert_eq!(answer.status, 422, "{}", answer.text());
}

#[test]
fn another_master_key_takes_over_and_one_that_is_gone_is_named() {
    let Some((_model, mut daemon)) = start() else { return };
    let id = keep(&daemon, "anthropic", &secret());
    let old = std::fs::read_to_string(daemon.master_keys()).expect("reads");
    let new = "A".repeat(42) + "E";
    let again = |daemon: &mut Daemon, keys: &str| {
        daemon.stop();
        std::fs::write(daemon.master_keys(), keys).expect("writes");
        daemon.run();
    };
    let reseal = |daemon: &Daemon| daemon.send("POST", "/api/credentials/reseal", &json!({}));
    let name = reseal(&daemon).json()["masterKey"].clone();

    again(&mut daemon, &format!("{new}\n{old}\n"));
    let resealed = reseal(&daemon).json();
    assert_eq!(resealed["resealed"], 1);
    assert_ne!(resealed["masterKey"], name);
    let key = daemon.send("POST", "/api/api-keys", &json!({})).json()["key"].as_str().expect("a key").to_owned();
    let bearer = format!("Bearer {key}");
    let remote = http::request(&daemon.tcp(), "POST", "/api/credentials/reseal", &[("authorization", &bearer)], None);
    assert_eq!(remote.status, 403, "the operator's alone: {}", remote.text());

    again(&mut daemon, &new);
    assert_eq!(daemon.send("POST", "/api/sessions", &json!({"agent": "agent", "credentialId": id})).status, 201);
    again(&mut daemon, &old);
    let answer = daemon.send("POST", "/api/sessions", &json!({"agent": "agent", "credentialId": id}));
    assert_eq!(answer.status, 500, "{}", answer.text());
    wait_for("the journal names the reason", || daemon.log().contains("which is not in the file of master keys").then_some(()));

    again(&mut daemon, "");
    let answer = daemon.send("POST", "/api/credentials", &json!({"type": "custom", "key": "k"}));
    assert_eq!(answer.status, 500);
    assert!(answer.json()["error"].as_str().unwrap_or_default().starts_with("Credential storage not configured"));
    let doctor = daemon.get("/api/doctor").json();
    let check = doctor["checks"].as_array().expect("checks").iter().find(|check| check["name"] == "master key").cloned();
    assert_eq!(check.expect("there")["fix"], "ashctl credential rotate-master");
}
