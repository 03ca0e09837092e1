//! What is in the audit log, who may read it, and when it goes.

mod support;

use ash::http::routes;
use ash::wire::scope::Scope;
use serde_json::{Value, json};
use support::http::{self, Response};
use support::{Daemon, Model, claude, wait_for};

fn start(extra: &str) -> Option<(Model, Daemon)> {
    let claude = claude()?;
    let model = Model::start();
    let daemon = Daemon::start_with(&claude, &model.url, extra);
    Some((model, daemon))
}

fn key(daemon: &Daemon, body: &Value) -> (String, String) {
    let answer = daemon.send("POST", "/api/api-keys", body).json();
    (text(&answer, "id").to_owned(), text(&answer, "key").to_owned())
}

fn ask(daemon: &Daemon, key: &str, method: &str, path: &str, body: &Value) -> Response {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = (method != "GET").then(|| body.to_string());
    http::request(&daemon.tcp(), method, path, &headers, body.as_ref().map(String::as_bytes))
}

fn entries(daemon: &Daemon, query: &str) -> Vec<Value> {
    let answer = daemon.get(&format!("/api/audit{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["entries"].as_array().expect("entries").clone()
}

fn text<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name].as_str().unwrap_or_default()
}

fn acts(entries: &[Value]) -> Vec<(&str, &str, &str)> {
    entries.iter().map(|entry| (text(entry, "action"), text(entry, "object"), text(entry, "outcome"))).collect()
}

#[test]
fn who_administers_and_which_sandbox_got_a_credential_is_written_down() {
    let Some((_model, daemon)) = start("") else { return };
    let secret = "the-secret-of-this-test";
    let credential = daemon.send("POST", "/api/credentials", &json!({"type": "custom", "key": secret, "label": "c"})).json();
    let credential = credential["credential"]["id"].as_str().expect("an id").to_owned();
    let (id, key) = key(&daemon, &json!({"label": "k"}));
    daemon.deploy("test", &[("CLAUDE.md", "x")]);
    let made = ask(&daemon, &key, "POST", "/api/sessions", &json!({"agent": "test", "credentialId": credential}));
    assert_eq!(made.status, 201, "{}", made.text());
    let session = made.json()["session"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(ask(&daemon, &key, "PATCH", "/api/agents/test", &json!({"env": {"A": "a-value-of-this-test"}})).status, 200);
    assert_eq!(ask(&daemon, &key, "DELETE", &format!("/api/sessions/{session}"), &json!({})).status, 200);
    assert_eq!(ask(&daemon, &key, "DELETE", "/api/agents/nobody", &json!({})).status, 404);
    assert_eq!(daemon.send("DELETE", &format!("/api/api-keys/{id}"), &json!({})).status, 200);

    let all = entries(&daemon, "");
    let wanted = [
        ("key.revoke", id.as_str(), "ok"),
        ("agent.delete", "nobody", "refused"),
        ("session.end", &session, "ok"),
        ("agent.change", "test", "ok"),
        ("session.create", &session, "ok"),
        ("credential.use", &credential, "ok"),
        ("agent.deploy", "test", "ok"),
        ("key.create", &id, "ok"),
        ("credential.create", &credential, "ok"),
    ];
    assert_eq!(acts(&all), wanted, "newest first");
    let of = |action: &str| all.iter().find(|entry| entry["action"] == action).expect(action);
    let created = of("session.create");
    assert_eq!(created["principal"], json!(format!("key:{id}")));
    assert_eq!(created["peer"], "127.0.0.1");
    assert_eq!(created["tenant"], "default");
    let header = made.head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).expect("an id");
    assert_eq!(created["requestId"], header, "the answer has the same");
    let used = of("credential.use");
    assert_eq!(used["principal"], json!(format!("session:{session}")));
    assert!(used["peer"].is_null() && used["requestId"].is_null(), "{used}");
    let local = of("key.create");
    assert!(local["principal"].as_str().is_some_and(|who| who.starts_with("uid:")) && local["peer"].is_null(), "{local}");
    let shown = daemon.get("/api/audit").text();
    for hidden in [secret, &key, "a-value-of-this-test"] {
        assert!(!shown.contains(hidden), "{shown}");
    }

    assert_eq!(acts(&entries(&daemon, &format!("?object={session}"))), [wanted[2], wanted[4]]);
    assert_eq!(acts(&entries(&daemon, "?action=agent.delete")), [wanted[1]]);
    assert_eq!(acts(&entries(&daemon, &format!("?principal=session:{session}"))), [wanted[5]]);
    let first = entries(&daemon, "?limit=4");
    let rest = entries(&daemon, &format!("?before={}", first[3]["id"]));
    assert_eq!(acts(&[first, rest].concat()), wanted, "pages join");
    let at = created["at"].as_str().expect("a time");
    assert!(entries(&daemon, &format!("?until={at}")).iter().all(|entry| entry["at"].as_str() < Some(at)));
    assert!(entries(&daemon, &format!("?since={at}")).contains(created));
    for bad in ["?action=key.steal", "?since=today", "?limit=0", "?before=0", "?color=red"] {
        let name = bad[1..].split('=').next().expect("a name");
        let answer = daemon.get(&format!("/api/audit{bad}"));
        assert!(answer.status == 400 && answer.text().contains(name), "{bad}: {}", answer.text());
    }
}

#[test]
fn what_is_refused_is_written_down_too_and_only_admins_of_the_tenant_read_it() {
    let Some((_model, daemon)) = start("") else { return };
    let (id, run) = key(&daemon, &json!({"scopes": ["read", "run"]}));
    let refused = ask(&daemon, &run, "POST", "/api/api-keys", &json!({"scopes": ["admin"]}));
    assert_eq!(refused.status, 403);
    let entry = entries(&daemon, &format!("?principal=key:{id}")).remove(0);
    assert_eq!((entry["action"].as_str(), entry["outcome"].as_str()), (Some("key.create"), Some("refused")));
    assert_eq!(entry["requestId"], refused.json()["requestId"]);
    assert_eq!(ask(&daemon, &run, "GET", "/api/audit", &json!({})).status, 403);

    let (id, theirs) = key(&daemon, &json!({"tenant": "other"}));
    assert_eq!(ask(&daemon, &theirs, "POST", "/api/agents", &json!({"name": "mine", "systemPrompt": "x"})).status, 201);
    let seen = ask(&daemon, &theirs, "GET", "/api/audit", &json!({})).json();
    let wanted = [("agent.deploy", "mine", "ok"), ("key.create", &*id, "ok")];
    assert_eq!(acts(seen["entries"].as_array().expect("entries")), wanted, "also what the operator did there");
    assert_eq!(entries(&daemon, "?tenant=other").len(), 2, "the operator reads that of each tenant");
    assert_eq!(ask(&daemon, &theirs, "GET", "/api/audit?tenant=default", &json!({})).status, 403);
}

#[test]
fn a_key_that_is_refused_again_and_again_does_not_fill_the_log_and_is_counted() {
    let Some((_model, daemon)) = start("") else { return };
    let (id, run) = key(&daemon, &json!({"scopes": ["read", "run"]}));
    let refuse = || assert_eq!(ask(&daemon, &run, "POST", "/api/api-keys", &json!({})).status, 403);
    (0..300).for_each(|_| refuse());
    let written = || entries(&daemon, &format!("?principal=key:{id}&limit=1000"));
    let first = written().len();
    assert!((50..150).contains(&first), "{first}");
    // What others do is written down meanwhile, and the next one that is tells how many are not.
    key(&daemon, &json!({}));
    assert_eq!(entries(&daemon, "?action=key.create&principal=uid:0").len(), 2);
    let told = wait_for("another one is written down", || {
        refuse();
        written().first().and_then(|entry| entry["unwritten"].as_u64())
    });
    assert!(told > 0);
}

#[test]
fn every_route_that_administers_has_a_name_in_the_log() {
    for route in routes() {
        for method in route.methods.iter().filter(|method| **method != "GET") {
            let administers = matches!(route.scope(method), Scope::Deploy | Scope::Admin);
            // A path that ends there names nothing.
            if administers && !route.path.ends_with('/') {
                assert!(route.action(method).is_some(), "{method} {}", route.path);
            }
        }
    }
}

#[test]
fn old_entries_go_with_the_next_removal_as_a_dry_run_says() {
    let Some((_model, daemon)) = start("[retention]\naudit_after = \"0s\"\n") else { return };
    let run = |dry| daemon.send("POST", "/api/gc", &json!({"dryRun": dry})).json()["removals"].clone();
    let removal = |entries| {
        let name = format!("{entries} entries");
        json!([{"kind": "audit_entries", "name": name, "reason": "older than retention.audit_after, 0s", "bytes": 0}])
    };
    let ran = || daemon.get("/metrics").text().contains("ash_gc_runs_total{outcome=\"ok\"} 1\n").then_some(());
    wait_for("the one that the daemon begins with is over", ran);
    run(false);
    for label in ["a", "b"] {
        key(&daemon, &json!({"label": label}));
    }
    // Each run is an act, too.
    assert_eq!(run(true), removal(3));
    assert_eq!(run(false), removal(4));
    assert_eq!(acts(&entries(&daemon, "")), [("gc.run", "", "ok")], "what came after");
}
