//! Who may call: the control socket by peer credentials, TCP by API key; and what bad requests get.

mod support;

use serde_json::{Value, json};
use support::http::{self, Response};
use support::{Daemon, Model, claude};

fn start() -> Option<(Model, Daemon)> {
    let claude = claude()?;
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    Some((model, daemon))
}

fn over_tcp(daemon: &Daemon, method: &str, path: &str, authorization: Option<&str>) -> Response {
    let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
    http::request(&daemon.tcp(), method, path, &headers, None)
}

#[test]
fn tcp_needs_a_key_and_says_so_in_the_contracts_words() {
    let Some((_model, daemon)) = start() else { return };
    let error = |authorization| {
        let answer = over_tcp(&daemon, "GET", "/api/sessions", authorization);
        (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(error(None), (401, "Missing Authorization header".to_owned()));
    for malformed in ["Bearer", "bearer ash_x", "Basic x", "Bearer a b", "ash_x"] {
        assert_eq!(error(Some(malformed)), (401, "Invalid Authorization header format".to_owned()), "{malformed}");
    }
    assert_eq!(error(Some("Bearer ash_wrong")), (401, "Invalid API key".to_owned()));
    assert_eq!(over_tcp(&daemon, "GET", "/health", None).status, 200, "health is open");
    assert_eq!(over_tcp(&daemon, "GET", "/metrics", None).status, 401, "unknown paths are not told apart from known ones");

    let created = daemon.send("POST", "/api/api-keys", &json!({"label": "test"})).json();
    let (id, key) = (created["id"].as_str().expect("an id"), created["key"].as_str().expect("a key"));
    assert!(key.starts_with("ash_") && key.len() == 47, "{key}");
    let bearer = format!("Bearer {key}");
    assert_eq!(over_tcp(&daemon, "GET", "/api/sessions", Some(&bearer)).status, 200);
    let listed = over_tcp(&daemon, "GET", "/api/api-keys", Some(&bearer)).text();
    assert!(listed.contains("test") && !listed.contains(key), "the secret is shown once: {listed}");
    assert_eq!(over_tcp(&daemon, "DELETE", &format!("/api/api-keys/{id}"), Some(&bearer)).json(), json!({"ok": true}));
    assert_eq!(over_tcp(&daemon, "GET", "/api/sessions", Some(&bearer)).status, 401, "a revoked key is no key at once");
    assert!(!daemon.log().contains(key), "keys are not logged");
}

#[test]
fn the_control_socket_takes_no_web_pages() {
    let Some((_model, daemon)) = start() else { return };
    let answer = http::request(&daemon.control(), "GET", "/api/sessions", &[("origin", "http://evil.example")], None);
    assert_eq!(answer.status, 403, "{}", answer.text());
}

#[test]
fn the_control_socket_is_closed_to_strangers() {
    let Some((_model, daemon)) = start() else { return };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become a stranger");
        return;
    }
    let socket = daemon.data().join("ash.sock");
    // Opened to all, so that the daemon's own decision is seen and not only the file's mode.
    for path in [daemon.data(), socket.clone()] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("opens");
    }
    let script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                  s.sendall(b'GET /api/sessions HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n'); print(s.makefile().read())";
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=64999", "--regid=64999", "--clear-groups", "/usr/bin/python3", "-c", script])
        .arg(&socket)
        .output()
        .expect("setpriv starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("403") && text.contains("usermod -aG ash"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn bad_requests_name_field_and_reason_in_the_one_body() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    let messages = format!("/api/sessions/{session}/messages");
    let long_name = "n".repeat(300);
    let cases: &[(&str, &str, Value, u16, &str)] = &[
        ("POST", "/api/agents", json!({}), 400, "name"),
        ("POST", "/api/agents", json!({"name": "a/b"}), 400, "name"),
        ("POST", "/api/agents", json!({"name": long_name}), 400, "name"),
        ("POST", "/api/agents", json!({"name": "a", "files": [{"path": "../x", "content": ""}]}), 400, "files[0].path"),
        ("POST", "/api/agents", json!({"name": "a", "files": [{"path": "/etc/x", "content": ""}]}), 400, "files[0].path"),
        ("POST", "/api/agents", json!({"name": "a", "files": [{"path": "x", "content": "%"}]}), 400, "files[0].content"),
        ("POST", "/api/agents", json!({"name": "a", "files": "x"}), 400, "files"),
        ("POST", "/api/agents", json!({"name": "a", "path": "/etc"}), 403, "agents.path_roots"),
        ("POST", "/api/agents", json!({"name": "a", "env": {"A B": "x"}}), 400, "env.A B"),
        ("POST", "/api/sessions", json!({}), 400, "agent"),
        ("POST", "/api/sessions", json!({"agent": "test", "model": "a b"}), 400, "model"),
        ("POST", "/api/sessions", json!({"agent": "test", "permissionMode": "x"}), 400, "permissionMode"),
        ("POST", "/api/sessions", json!({"agent": "test", "credentialId": "x"}), 400, "Invalid or inaccessible credential"),
        ("POST", "/api/sessions", json!({"agent": "test", "mcpServers": {"m": {}}}), 400, "mcpServers.m"),
        ("POST", &messages, json!({}), 400, "content"),
        ("POST", &messages, json!({"content": []}), 400, "content"),
        ("POST", &messages, json!({"content": "x", "maxTurns": 0}), 400, "maxTurns"),
        ("POST", &messages, json!({"content": "x", "effort": "huge"}), 400, "effort"),
        ("GET", "/api/sessions?limit=x", json!({}), 400, "limit"),
        ("GET", "/nope", json!({}), 404, "Route GET:/nope not found"),
        ("PUT", "/api/sessions", json!({}), 405, "PUT"),
        ("PUT", "/api/agents/x/archive", json!({}), 415, "application/x-tar"),
    ];
    for (method, path, body, status, wanted) in cases {
        let answer = daemon.send(method, path, body);
        let problem = answer.json();
        assert_eq!(answer.status, *status, "{method} {path} {body}: {problem}");
        assert_eq!(problem["statusCode"], json!(status), "{problem}");
        let said = format!("{} {}", problem["error"], problem["details"]);
        assert!(said.contains(wanted), "{method} {path} {body}: {problem}");
        assert!(problem["code"].is_string() && problem["requestId"].is_string(), "{problem}");
    }
    let raw =
        |body: &[u8], kind| http::request(&daemon.control(), "POST", "/api/sessions", &[("content-type", kind)], Some(body));
    assert_eq!(raw(b"{\"agent\":", "application/json").status, 400);
    assert_eq!(raw(b"agent=x", "application/x-www-form-urlencoded").status, 415);
    assert_eq!(raw(deep_array().as_bytes(), "application/json").status, 400);
    assert_eq!(raw(&vec![b' '; 5 << 20], "application/json").status, 413);
    assert_eq!(http::result(&daemon.say(&session, "say: nothing was lost")), "nothing was lost");
}

#[test]
fn web_pages_may_call_over_tcp_and_read_every_answer() {
    let Some((_model, daemon)) = start() else { return };
    let bearer = daemon.bearer(&json!({"label": "page"}));
    let ask = |method, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>| {
        let headers = [&[("origin", "https://app.example")], headers].concat();
        http::request(&daemon.tcp(), method, path, &headers, body)
    };
    let wanted = [("access-control-request-method", "POST"), ("access-control-request-headers", "authorization")];
    let preflight = ask("OPTIONS", "/api/sessions", &wanted, None);
    assert_eq!(preflight.status, 200, "{}", preflight.head);
    let session = daemon.session();
    let messages = format!("/api/sessions/{session}/messages");
    let message = json!({"content": "say: hello"}).to_string();
    let json = ("content-type", "application/json");
    let stream = ask("POST", &messages, &[json, ("authorization", &bearer)], Some(message.as_bytes()));
    assert!(stream.text().contains("event: done"), "{}", stream.text());
    let refused = ask("GET", "/api/sessions", &[], None);
    assert_eq!(refused.status, 401);
    for answer in [preflight, stream, refused, ask("GET", "/health", &[], None)] {
        assert!(answer.head.to_ascii_lowercase().contains("access-control-allow-origin: *"), "{}", answer.head);
    }
}

#[test]
fn a_refusal_arrives_whole_although_its_request_was_not_read() {
    let Some((_model, daemon)) = start() else { return };
    let bearer = daemon.bearer(&json!({"label": "test"}));
    let body = vec![b' '; 32 << 20];
    for (target, authorization, status) in
        [(daemon.control(), "", 413), (daemon.tcp(), bearer.as_str(), 413), (daemon.tcp(), "Bearer ash_wrong", 401)]
    {
        for _ in 0..10 {
            let headers = [("content-type", "application/json"), ("authorization", authorization)];
            let answer = http::request(&target, "POST", "/api/sessions", &headers, Some(&body));
            assert_eq!(answer.status, status, "{target:?}: {}", answer.head);
            assert_eq!(answer.json()["statusCode"], json!(status));
        }
    }
}

fn deep_array() -> String {
    format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))
}
