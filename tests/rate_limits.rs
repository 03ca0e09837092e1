//! How often callers may ask, and how requests are named.

mod support;

use serde_json::json;
use support::http::{self, Response};
use support::{Daemon, Model, claude};

fn start(extra: &str) -> Option<(Model, Daemon)> {
    let claude = claude()?;
    let model = Model::start();
    let daemon = Daemon::start_with(&claude, &model.url, &format!("[http]\n{extra}"));
    Some((model, daemon))
}

fn ask(daemon: &Daemon, bearer: &str, method: &str, path: &str, body: Option<&str>) -> Response {
    let headers = [("authorization", bearer), ("content-type", "application/json")];
    http::request(&daemon.tcp(), method, path, &headers, body.map(str::as_bytes))
}

fn header(answer: &Response, name: &str) -> Option<u32> {
    let line = answer.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
    line.map(|value| value.trim().parse().expect("a number"))
}

#[test]
fn a_key_that_asks_too_often_is_told_when_to_go_on() {
    // So slow that nothing comes back while the test runs.
    let Some((_model, daemon)) = start("rate_limit = \"2/h\"\nrate_burst = 3\n") else { return };
    let (one, other) = (daemon.bearer(&json!({})), daemon.bearer(&json!({})));
    for left in [2, 1, 0] {
        let answer = ask(&daemon, &one, "GET", "/api/sessions", None);
        assert_eq!((answer.status, header(&answer, "x-ratelimit-remaining")), (200, Some(left)), "{}", answer.head);
        assert_eq!(header(&answer, "x-ratelimit-limit"), Some(3));
        assert!(header(&answer, "x-ratelimit-reset").is_some_and(|seconds| (1..=3 * 1800).contains(&seconds)));
        assert_eq!(header(&answer, "retry-after"), None);
    }
    // Also where there is nothing.
    for path in ["/api/sessions", "/nope"] {
        let answer = ask(&daemon, &one, "GET", path, None);
        let problem = answer.json();
        assert_eq!(
            (answer.status, problem["statusCode"].as_u64(), problem["code"].as_str()),
            (429, Some(429), Some("rate_limited"))
        );
        let seconds = header(&answer, "retry-after").expect("a time");
        assert!((1..=1800).contains(&seconds), "{}", answer.head);
        assert_eq!(problem["error"], json!(format!("Rate limit exceeded, retry in {seconds} seconds")));
        assert!(problem["requestId"].is_string() && header(&answer, "x-ratelimit-remaining") == Some(0));
    }
    assert_eq!(ask(&daemon, &other, "GET", "/api/sessions", None).status, 200, "each key has its own");
    let local = daemon.get("/api/sessions");
    assert_eq!((local.status, header(&local, "x-ratelimit-limit")), (200, None), "the control socket has none");
    assert_eq!(http::request(&daemon.tcp(), "GET", "/health", &[], None).status, 200);
}

#[test]
fn making_things_has_a_limit_of_its_own() {
    let Some((_model, daemon)) = start("create_limit = \"1/h\"\ncreate_burst = 2\n") else { return };
    let key = daemon.bearer(&json!({}));
    let deploy = || ask(&daemon, &key, "POST", "/api/agents", Some(r#"{"name": "a", "systemPrompt": "x"}"#));
    assert_eq!((deploy().status, deploy().status), (201, 201));
    let refused = deploy();
    assert_eq!((refused.status, header(&refused, "x-ratelimit-limit")), (429, Some(2)), "{}", refused.text());
    assert_eq!(ask(&daemon, &key, "POST", "/api/sessions", Some(r#"{"agent": "a"}"#)).status, 429);
    let listed = ask(&daemon, &key, "GET", "/api/sessions", None);
    assert_eq!((listed.status, listed.json()), (200, json!({"sessions": []})));
    assert!(
        header(&listed, "x-ratelimit-limit").is_some_and(|limit| limit >= 1000),
        "generous where nobody says: {}",
        listed.head
    );
}

#[test]
fn who_fails_too_often_is_told_and_holds_up_nobody_else() {
    let Some((_model, daemon)) = start("failure_limit = \"2/h\"\n") else { return };
    let key = daemon.bearer(&json!({}));
    let fail = || ask(&daemon, "Bearer ash_wrong", "GET", "/api/sessions", None);
    for _ in 0..2 {
        let refused = fail();
        assert_eq!((refused.status, header(&refused, "x-ratelimit-limit")), (401, None), "{}", refused.head);
    }
    let refused = fail();
    assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("rate_limited")));
    assert!(header(&refused, "retry-after").is_some());
    assert_eq!(http::request(&daemon.tcp(), "GET", "/api/sessions", &[], None).status, 429, "with no key at all, too");
    assert_eq!(ask(&daemon, &key, "GET", "/api/sessions", None).status, 200, "who has a good key shares the address only");
}

#[test]
fn limits_can_be_off_and_wrong_ones_are_refused_by_name() {
    let off = "rate_limit = \"off\"\ncreate_limit = \"off\"\nfailure_limit = \"off\"\n";
    let Some((_model, mut daemon)) = start(off) else { return };
    let key = daemon.bearer(&json!({}));
    assert_eq!(header(&ask(&daemon, &key, "GET", "/api/sessions", None), "x-ratelimit-limit"), None);
    daemon.stop();
    for (line, wanted) in [
        ("rate_limit = \"600\"", "http.rate_limit"),
        ("rate_limit = \"0/s\"", "http.rate_limit"),
        ("create_burst = 0", "http.create_burst"),
        ("failure_limit = \"many/s\"", "http.failure_limit"),
        ("idle_timeout = \"0s\"", "http.idle_timeout"),
        ("connections = 0", "http.connections"),
    ] {
        daemon.add_config(&format!("[http]\n{line}\n"));
        let output = daemon.command().output().expect("starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(wanted), "{line}: {text}");
    }
    daemon.add_config("");
}

#[test]
fn a_request_keeps_the_name_that_its_sender_gave_it() {
    let Some((_model, daemon)) = start("") else { return };
    let named = |id: &str| {
        let answer = http::request(&daemon.control(), "GET", "/nope", &[("x-request-id", id)], None);
        let said = answer.head.lines().find_map(|line| line.strip_prefix("x-request-id: ").map(str::to_owned));
        assert_eq!(said.as_deref(), answer.json()["requestId"].as_str(), "{}", answer.head);
        said.expect("an id")
    };
    let longest = "x".repeat(64);
    for id in ["a", "trace-01.B_c", &longest] {
        assert_eq!(named(id), id);
    }
    let too_long = "x".repeat(65);
    for id in ["", "a b", "a/b", "ä", "a\"b", &too_long] {
        let made = named(id);
        assert!(made != id && made.len() == 36, "{id:?}: {made}");
    }
}
