//! What the host sees of a case, where the word of those inside is not enough.

use serde_json::{Value, json};

use crate::cases::{By, Case};
use crate::stage::{MARKER, Stage};
use crate::support::http::{Event, Target, request, result};
use crate::support::life::{act, good};
use crate::support::{MODEL_KEY, wait_for};

/// How a case went.
pub struct Went {
    /// What every attempt was refused with, or what got through.
    pub refused: String,
    /// Whether the session can be used for the next case.
    pub usable: bool,
}

fn through(what: impl std::fmt::Display) -> String {
    format!("GOT THROUGH: {what}")
}

/// What is done before a case, so that it can end.
pub fn prepare(stage: &Stage, session: &str, case: &Case) {
    if matches!(case.by, By::Tool("bombs.py asleep" | "beside.py runtime_stopped")) {
        set_limits(stage, session, &json!({"turnSeconds": 4}));
    }
    if ["a full disk", "very many files"].contains(&case.name) {
        set_limits(stage, session, &json!({"diskMb": 64}));
    }
}

fn set_limits(stage: &Stage, session: &str, limits: &Value) {
    let answer = stage.daemon.send("PATCH", &format!("/api/sessions/{session}/limits"), limits);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Judges what was seen of a turn.
pub fn judge(stage: &Stage, session: &str, case: &Case, events: &[Event]) -> Went {
    let said = result(events);
    let said = said.strip_prefix("result: ").unwrap_or(&said).trim().to_owned();
    let By::Tool(probe) = case.by else { return Went { refused: on_the_host(stage, session), usable: true } };
    let name = probe.split(' ').nth(1).unwrap_or_default();
    let refused = match name {
        "links_for_the_host" => links(stage, session),
        "kept_after_the_turn" => return Went { refused: left_behind(stage, session), usable: false },
        "asleep" | "runtime_stopped" => {
            let limit = events.last().map(|event| event.data["limit"].as_str().unwrap_or("no limit").to_owned());
            set_limits(stage, session, &json!({"turnSeconds": null}));
            goes_on(stage, session, &limit.unwrap_or_default())
        }
        "full_disk" | "many_files" => {
            let reached = events.last().map(|event| event.data["limit"].as_str().unwrap_or("no limit").to_owned());
            // A person makes room.
            let remove = json!({"command": "rm -r bomb"});
            let removed = stage.daemon.send("POST", &format!("/api/sessions/{session}/exec"), &remove);
            assert_eq!(removed.json()["exitCode"], 0, "{}", removed.text());
            set_limits(stage, session, &json!({"diskMb": null}));
            goes_on(stage, session, &reached.unwrap_or_default())
        }
        "runtime_ended" | "all_of_them" => {
            let state = events.last().map(|event| event.data["state"].clone());
            let how = if state == Some(json!("failed")) { "the turn fails".to_owned() } else { format!("{state:?}") };
            goes_on(stage, session, &how)
        }
        "words" => {
            let (length, state) = (said.len(), events.last().map(|event| event.data["state"].clone()));
            let is_cut = length < 1 << 20 && state == Some(json!("completed"));
            if is_cut { "cut short, and the turn completes".to_owned() } else { through(format!("{length} bytes, {state:?}")) }
        }
        "its_voice" => {
            not_forged(stage, session, said.lines().find(|line| !line.starts_with('{')).unwrap_or_default().to_owned())
        }
        "its_transcript" => {
            let before = log(stage, session).len();
            // Another runtime reads what it is to remember.
            good(&act(&stage.daemon, session, "stop"));
            good(&act(&stage.daemon, session, "resume"));
            assert_eq!(said, "1 transcripts were added to");
            let still = goes_on(stage, session, "");
            if !still.ends_with("goes on") || log(stage, session).len() < before {
                through(still)
            } else {
                not_forged(stage, session, "the log has none of it".to_owned())
            }
        }
        "other_calls" | "smuggled_to_the_model" => {
            let target = Target::Tcp(stage.model.url.trim_start_matches("http://").trim_end_matches('/').to_owned());
            let asked = request(&target, "GET", "/__mock/requests", &[], None).json();
            let asked = asked.as_array().or(asked["requests"].as_array()).cloned().expect("a list");
            assert!(asked.len() > 10, "the model was asked by the runtimes");
            let paths = asked.iter().filter_map(|request| request["path"].as_str());
            let mut other =
                paths.filter(|path| !path.starts_with("/v1/messages?") && *path != "/v1/messages" && !path.contains("__mock"));
            other.next().map_or(said, through)
        }
        _ => said,
    };
    let reached = stage.heard().into_iter().find(|line| is_reached(line, name));
    Went { refused: reached.map_or(refused, through), usable: true }
}

/// Whether somebody outside heard what nobody was to hear.
fn is_reached(line: &str, name: &str) -> bool {
    let is_loopback = line.starts_with("heard 127.") || line.starts_with("heard 11.0.0.66");
    let is_upgrade = name == "websocket" && line.to_ascii_lowercase().contains("upgrade: ");
    is_loopback || is_upgrade || (line.starts_with("asked ") && line.contains("evil")) || line.contains("Host: evil")
}

/// Whether the session takes another message, after what is said of it.
fn goes_on(stage: &Stage, session: &str, how: &str) -> String {
    let answer = result(&stage.daemon.say(session, "say: here"));
    if answer == "here" { format!("{how}, and the session goes on") } else { through(format!("{how}, and then {answer:?}")) }
}

/// All events of a session.
fn log(stage: &Stage, session: &str) -> Vec<Value> {
    let events = stage.daemon.get(&format!("/api/sessions/{session}/events?limit=1000")).json();
    events["events"].as_array().cloned().expect("a list")
}

/// Nothing in the log says as its own what was forged; what a tool printed is told as what a tool printed.
fn not_forged(stage: &Stage, session: &str, refused: String) -> String {
    fn has(value: &Value) -> bool {
        match value {
            Value::String(text) => text == "forged",
            Value::Array(values) => values.iter().any(has),
            Value::Object(fields) => fields.values().any(has),
            _ => false,
        }
    }
    let log = log(stage, session);
    assert!(log.len() > 5, "the log is read");
    let data = log.iter().filter_map(|event| serde_json::from_str::<Value>(event["data"].as_str()?).ok());
    let forged = data.into_iter().find(has);
    forged.map_or(refused, through)
}

/// The file routes of the API, over what was planted: live, and in the snapshot of a session that rests.
fn links(stage: &Stage, session: &str) -> String {
    let mut statuses = std::collections::BTreeSet::new();
    let path = |rest: &str| format!("/api/sessions/{session}/files/planted/{rest}");
    let names = [
        "shadow",
        "key",
        "database",
        "other",
        "root",
        "up",
        "proc",
        "chain",
        "home",
        "loop",
        "pipe",
        "socket",
        "root/etc/shadow",
        "up/etc/shadow",
        "chain/etc/passwd",
        "home/.claude.json",
        "up/etc/passwd",
    ];
    let mut got = Vec::new();
    for is_live in [true, false] {
        if !is_live {
            good(&act(&stage.daemon, session, "stop"));
        }
        for name in names {
            let read = stage.daemon.get(&path(name));
            let write = json!({"files": [{"path": format!("planted/{name}/written"), "content": "eA=="}]});
            let wrote = stage.daemon.send("POST", &format!("/api/sessions/{session}/files"), &write);
            let deleted = stage.daemon.send("DELETE", &path(&format!("{name}/etc/passwd")), &json!({}));
            // A snapshot has neither pipes nor sockets, so these names are free.
            let is_free = !is_live && ["pipe", "socket"].contains(&name);
            for (what, answer) in [("read", read), ("written", wrote), ("deleted", deleted)] {
                if is_free && what == "written" {
                    continue;
                }
                statuses.insert(answer.status);
                // Files are written each for itself, and told of each for itself.
                if answer.ok_status() && (what != "written" || answer.json()["files"][0]["written"] != false) {
                    got.push(format!("{name} {what}: {}", answer.text().chars().take(80).collect::<String>()));
                }
            }
        }
    }
    good(&act(&stage.daemon, session, "resume"));
    if !got.is_empty() {
        return through(got.join("; "));
    }
    let statuses: Vec<_> = statuses.iter().filter(|status| **status != 200).map(ToString::to_string).collect();
    statuses.join(", ")
}

/// Processes of the host whose arguments end in the marker, and that are no `sleep` of the one who is attacked.
fn marked() -> usize {
    let entries = std::fs::read_dir("/proc").expect("read").filter_map(Result::ok);
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.ends_with(format!("\0{MARKER}\0").as_bytes()) && !line.starts_with(b"sleep")).count()
}

fn left_behind(stage: &Stage, session: &str) -> String {
    if marked() < 3 {
        return format!("{} of 3 were left running", marked());
    }
    assert!(stage.daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({})).ok_status());
    wait_for("what was left behind is gone", || (marked() == 0).then_some(()));
    "gone with the session".to_owned()
}

/// The model's key in all that the daemon keeps or says. Memory of daemon and shims has it, and is left out.
fn on_the_host(stage: &Stage, session: &str) -> String {
    good(&act(&stage.daemon, session, "stop"));
    let mut found = Vec::new();
    let looked_at = holding(&stage.daemon.data(), &mut found);
    for path in ["/api/sessions", "/api/credentials", "/api/doctor", "/api/agents", "/metrics"] {
        found.extend(stage.daemon.get(path).text().contains(MODEL_KEY).then(|| path.to_owned()));
    }
    for path in ["", "/events?limit=1000", "/messages", "/logs", "/security"] {
        let path = format!("/api/sessions/{session}{path}");
        found.extend(stage.daemon.get(&path).text().contains(MODEL_KEY).then_some(path));
    }
    found.extend(stage.daemon.log().contains(MODEL_KEY).then(|| "the journal".to_owned()));
    good(&act(&stage.daemon, session, "resume"));
    match (found.is_empty(), looked_at) {
        (false, _) => through(found.join(", ")),
        (true, (files, snapshots)) if files > 20 && snapshots > 0 => "not there".to_owned(),
        (true, looked_at) => format!("too little was looked at: {looked_at:?}"),
    }
}

/// Looks for the key in files and, unpacked, in snapshots; how many of both there were.
fn holding(folder: &std::path::Path, found: &mut Vec<String>) -> (usize, usize) {
    let mut looked_at = (0, 0);
    for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            let (files, snapshots) = holding(&path, found);
            looked_at = (looked_at.0 + files, looked_at.1 + snapshots);
        } else if kind.is_file() {
            let mut content = std::fs::read(&path).unwrap_or_default();
            looked_at.0 += 1;
            if path.extension().is_some_and(|ending| ending == "zst") {
                content = zstd::decode_all(content.as_slice()).expect("unpacks");
                looked_at.1 += 1;
            }
            if content.windows(MODEL_KEY.len()).any(|window| window == MODEL_KEY.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    looked_at
}
