//! Versions of an agent's prompt: which one a session is made with, and what callers do with them.

mod support;

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::Daemon;
use support::http::{Response, result};
use support::life::{UNDISTURBED, act, fork, good, show, start};

const VERSIONS: &str = "/api/agents/agent/versions";

fn create(daemon: &Daemon, body: &Value) -> Value {
    let answer = daemon.send("POST", VERSIONS, body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["version"].clone()
}

fn version(daemon: &Daemon, which: impl std::fmt::Display) -> Response {
    daemon.get(&format!("{VERSIONS}/{which}"))
}

fn listed(daemon: &Daemon) -> Vec<Value> {
    daemon.get(VERSIONS).json()["versions"].as_array().expect("a list").clone()
}

fn switch(daemon: &Daemon, number: i64, verb: &str) -> Value {
    let answer = daemon.send("POST", &format!("{VERSIONS}/{number}/{verb}"), &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Which of these words are in the prompt that the model is given.
fn prompt<'a>(daemon: &Daemon, session: &str, words: &[&'a str]) -> Vec<&'a str> {
    words.iter().copied().filter(|word| result(&daemon.say(session, &format!("sysgrep: {word}"))).contains("True")).collect()
}

#[test]
fn a_session_has_the_prompt_of_its_caller_or_of_the_active_version_or_of_the_folder_for_good() {
    let Some((_model, daemon)) = start(UNDISTURBED) else { return };
    let words = ["xylophone", "marmalade", "quicksand", "periwinkle"];
    daemon.deploy("agent", &[("CLAUDE.md", "Speak of the xylophone.")]);
    let made = |body: Value| {
        let session = daemon.create(&body);
        (show(&daemon, &session)["promptVersion"].clone(), prompt(&daemon, &session, &words), session)
    };
    let plain = json!({"agent": "agent"});

    create(&daemon, &json!({"systemPrompt": "Speak of marmalade."}));
    assert_eq!(made(plain.clone()).1, ["xylophone"], "it is not active yet");
    assert_eq!(switch(&daemon, 1, "activate"), json!({"activated": true, "versionNumber": 1}));
    let (number, said, session) = made(plain.clone());
    assert_eq!((number, said), (json!(1), vec!["marmalade"]));
    let (number, said, _) = made(json!({"agent": "agent", "systemPrompt": "Speak of quicksand."}));
    assert_eq!((number, said), (Value::Null, vec!["quicksand"]), "the caller's wins");

    // None of this touches a session that there is.
    let changed = daemon.send("PATCH", &format!("{VERSIONS}/1"), &json!({"systemPrompt": "Speak of the periwinkle."}));
    assert_eq!(changed.json()["version"]["systemPrompt"], "Speak of the periwinkle.");
    create(&daemon, &json!({"name": "without a prompt"}));
    switch(&daemon, 2, "activate");
    good(&act(&daemon, &session, "stop"));
    good(&act(&daemon, &session, "resume"));
    assert_eq!(prompt(&daemon, &session, &words), ["marmalade"]);
    let child = fork(&daemon, &session);
    good(&act(&daemon, &child, "resume"));
    assert_eq!((show(&daemon, &child)["promptVersion"].clone(), prompt(&daemon, &child, &words)), (json!(1), vec!["marmalade"]));

    let (number, said, _) = made(plain.clone());
    assert_eq!((number, said), (json!(2), vec!["xylophone"]), "a version without a prompt leaves the folder's");
    switch(&daemon, 1, "activate");
    assert_eq!(made(plain.clone()).1, ["periwinkle"]);
    assert_eq!(switch(&daemon, 1, "deactivate"), json!({"deactivated": true, "versionNumber": 1}));
    let (number, said, _) = made(plain);
    assert_eq!((number, said), (Value::Null, vec!["xylophone"]));
}

#[test]
fn versions_are_numbered_listed_cloned_changed_and_deleted() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("agent", &[("CLAUDE.md", "A test agent.")]);
    assert_eq!(listed(&daemon), Vec::<Value>::new());

    let first =
        json!({"name": "the first", "systemPrompt": "One.", "releaseNotes": "All new.", "knowledgeFiles": ["a.md", "b.md"]});
    let answer = daemon.send("POST", VERSIONS, &first).json();
    let made = answer["version"].clone();
    assert_eq!(answer["versionNumber"], 1, "the fields stand beside the envelope, too");
    assert_eq!(answer["systemPrompt"], "One.");
    for (field, value) in first.as_object().expect("an object") {
        assert_eq!(&made[field], value, "{field}");
    }
    assert_eq!((&made["agentName"], &made["tenantId"], &made["isActive"]), (&json!("agent"), &json!("default"), &json!(false)));
    assert!(made["createdBy"].as_str().is_some_and(|by| by.starts_with("uid:")), "{made}");
    let id = made["id"].as_str().expect("an id").to_owned();
    for name in ["1", &id, &id.to_uppercase()] {
        assert_eq!(version(&daemon, name).json()["version"], made, "{name}");
    }

    let clone = create(&daemon, &json!({"cloneFrom": 1, "releaseNotes": "The same."}));
    assert_eq!((&clone["versionNumber"], &clone["name"]), (&json!(2), &json!("v2")));
    assert_eq!((&clone["systemPrompt"], &clone["knowledgeFiles"]), (&made["systemPrompt"], &made["knowledgeFiles"]));
    let other = create(&daemon, &json!({"cloneFrom": id, "systemPrompt": "Three.", "knowledgeFiles": []}));
    assert_eq!((&other["systemPrompt"], &other["knowledgeFiles"]), (&json!("Three."), &json!([])), "what is given is not taken");
    let numbers = |versions: Vec<Value>| versions.iter().map(|version| version["versionNumber"].as_i64()).collect::<Vec<_>>();
    assert_eq!(numbers(listed(&daemon)), [Some(3), Some(2), Some(1)]);
    let page = daemon.get(&format!("{VERSIONS}?before=3&limit=1")).json();
    assert_eq!(numbers(page["versions"].as_array().expect("a list").clone()), [Some(2)]);

    let change = json!({"name": "", "systemPrompt": "", "releaseNotes": null});
    let changed = daemon.send("PATCH", &format!("{VERSIONS}/1"), &change).json()["version"].clone();
    assert_eq!((&changed["name"], &changed["systemPrompt"]), (&json!("v1"), &Value::Null), "an empty text takes one away");
    assert_eq!((&changed["releaseNotes"], &changed["knowledgeFiles"]), (&made["releaseNotes"], &made["knowledgeFiles"]));

    switch(&daemon, 3, "activate");
    switch(&daemon, 2, "activate");
    let active: Vec<_> =
        listed(&daemon).iter().filter(|one| one["isActive"] == true).map(|one| one["versionNumber"].clone()).collect();
    assert_eq!(active, [2]);
    assert_eq!(daemon.send("DELETE", &format!("{VERSIONS}/2"), &json!({})).json(), json!({"ok": true}));
    assert!(listed(&daemon).iter().all(|one| one["isActive"] == false), "none takes its place");
    assert_eq!(create(&daemon, &json!({}))["versionNumber"], 4);
    assert_eq!(numbers(listed(&daemon)), [Some(4), Some(3), Some(1)]);

    assert_eq!(daemon.send("DELETE", "/api/agents/agent", &json!({})).status, 200);
    daemon.deploy("agent", &[("CLAUDE.md", "Another one of this name.")]);
    assert_eq!(listed(&daemon), Vec::<Value>::new(), "they go with their agent");
}

#[test]
fn what_is_no_version_or_may_be_none_is_refused_by_name() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("agent", &[("CLAUDE.md", "A test agent.")]);
    create(&daemon, &json!({}));
    let told = |answer: Response| (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned());
    let stranger = uuid::Uuid::now_v7().to_string();
    for name in ["2", "0", "-1", "one", "1.0", &stranger] {
        let (path, missing) = (format!("{VERSIONS}/{name}"), (404, "Version not found".to_owned()));
        assert_eq!(told(daemon.get(&path)), missing, "{name}");
        for (method, path) in [
            ("PATCH", path.clone()),
            ("DELETE", path.clone()),
            ("POST", format!("{path}/activate")),
            ("POST", format!("{path}/deactivate")),
        ] {
            assert_eq!(told(daemon.send(method, &path, &json!({}))), missing, "{method} {path}");
        }
    }
    for path in ["/api/agents/nobody/versions", "/api/agents/nobody/versions/1"] {
        assert_eq!(told(daemon.get(path)), (404, "Agent not found".to_owned()), "{path}");
    }
    assert_eq!(told(daemon.send("POST", "/api/agents/nobody/versions", &json!({}))).0, 404);
    assert_eq!(told(daemon.send("POST", VERSIONS, &json!({"cloneFrom": 7}))), (400, "Source version 7 not found".to_owned()));

    let many: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
    for (field, body) in [
        ("name", json!({"name": "x".repeat(256)})),
        ("name", json!({"name": "a\nb"})),
        ("name", json!({"name": 1})),
        ("systemPrompt", json!({"systemPrompt": "x".repeat(1_000_001)})),
        ("releaseNotes", json!({"releaseNotes": "x".repeat(10_001)})),
        ("knowledgeFiles", json!({"knowledgeFiles": many})),
        ("knowledgeFiles[1]", json!({"knowledgeFiles": ["a", ""]})),
        ("knowledgeFiles[0]", json!({"knowledgeFiles": ["x".repeat(1025)]})),
    ] {
        for (method, path) in [("POST", VERSIONS.to_owned()), ("PATCH", format!("{VERSIONS}/1"))] {
            let answer = daemon.send(method, &path, &body);
            assert_eq!(answer.status, 400, "{method} {field}: {}", answer.text());
            assert_eq!(answer.json()["details"][0]["field"], field, "{}", answer.text());
        }
    }
    let answer = daemon.send("POST", VERSIONS, &json!({"cloneFrom": "one"}));
    assert_eq!((answer.status, &answer.json()["details"][0]["field"]), (400, &json!("cloneFrom")));
    assert_eq!(listed(&daemon).len(), 1, "nothing was made");
    let largest = json!({"name": "ä".repeat(255), "systemPrompt": "\"".repeat(1_000_000), "releaseNotes": "ä".repeat(10_000)});
    assert_eq!(create(&daemon, &largest)["systemPrompt"], largest["systemPrompt"]);
}

#[test]
fn versions_that_come_at_once_have_different_numbers_and_one_at_most_is_active() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("agent", &[("CLAUDE.md", "A test agent.")]);
    let daemon = &daemon;
    let mut numbers: Vec<i64> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..12)
            .map(|_| {
                scope.spawn(move || create(daemon, &json!({"systemPrompt": "x"}))["versionNumber"].as_i64().expect("a number"))
            })
            .collect();
        makers.into_iter().map(|maker| maker.join().expect("made")).collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for number in numbers {
            scope.spawn(move || switch(daemon, number, "activate"));
        }
    });
    assert_eq!(listed(daemon).iter().filter(|version| version["isActive"] == true).count(), 1);
}

fn ashctl(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ashctl"));
    command.env("ASH_SERVER_URL", format!("unix:{}", daemon.data().join("ash.sock").display())).args(arguments);
    command.stdin(Stdio::null()).output().expect("ashctl starts")
}

#[test]
fn ashctl_makes_shows_edits_activates_and_deletes_versions() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("agent", &[("CLAUDE.md", "A test agent.")]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prompt.md");
    std::fs::write(&file, "Speak of marmalade.\n").expect("writes");
    let run = |arguments: &[&str]| {
        let output = ashctl(&daemon, &[&["agent", "version"], arguments].concat());
        let [out, talk] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
        assert!(output.status.success(), "{arguments:?}: {talk}");
        out
    };
    assert_eq!(run(&["list", "agent"]), "");
    let prompt = format!("@{}", file.display());
    assert_eq!(run(&["create", "agent", "--prompt", &prompt, "--notes", "Sweeter", "--file", "a.md", "--activate"]), "1\n");
    assert_eq!(run(&["create", "agent", "--from", "1", "--name", "copy"]), "2\n");
    let shown = run(&["show", "agent", "1"]);
    for part in ["Active:  yes", "Files:   a.md", "Notes:   Sweeter", "\nSpeak of marmalade.\n"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let table = run(&["list", "agent"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..2], ["2", "copy"], "{table}");
    assert_eq!(rows[2][..3], ["1", "v1", "yes"], "{table}");
    run(&["edit", "agent", "2", "--prompt", "", "--name", "plain"]);
    assert!(run(&["show", "agent", "2"]).contains("that of CLAUDE.md"));
    run(&["activate", "agent", "2"]);
    assert_eq!(version(&daemon, 1).json()["isActive"], false);
    run(&["deactivate", "agent", "2"]);
    assert_eq!(version(&daemon, 2).json()["isActive"], false);
    run(&["delete", "agent", "1", "2"]);
    assert_eq!(listed(&daemon), Vec::<Value>::new());
    assert_eq!(ashctl(&daemon, &["agent", "version", "show", "agent", "1"]).status.code(), Some(4));
}
