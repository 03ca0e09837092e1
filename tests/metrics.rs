//! What is counted: by a daemon at work, for whom, and in the dashboard, the alerts and the manual.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ash::telemetry::metrics::{Family, Metrics};
use serde_json::{Value, json};
use support::http::request;
use support::{Daemon, Model, claude, wait_for};

const DASHBOARD: &str = "packaging/grafana/ash.json";
const ALERTS: &str = "packaging/prometheus/ash.rules.yml";
const MANUAL: &str = "docs/operating.md";
const BEGIN: &str = "<!-- every metric: ASH_UPDATE=1 cargo test --test metrics the_manual -->\n";
const END: &str = "<!-- the end of it -->\n";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The value of a series.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_turn_is_counted_from_the_request_to_the_disk() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start(&claude, &model.url);
    let session = daemon.session();
    daemon.say(&session, "hello");
    assert_eq!(daemon.get(&format!("/api/nowhere/{session}")).status, 404);
    let given = json!({"agentName": "nobody", "prompt": "say: hello"});
    assert_eq!(daemon.send("POST", "/api/queue", &given).status, 201);
    wait_for("what is queued for nobody has failed", || {
        let stats = daemon.get("/api/queue/stats").json();
        (stats["stats"]["failed"] == 1).then_some(())
    });
    let text = wait_for("both are counted", || {
        let text = daemon.get("/metrics").text();
        let counted = ["ash_turns_total{outcome=\"completed\"}", "ash_queue_tries_total{outcome=\"failed\"}"];
        counted.iter().all(|series| value(&text, series) == Some(1.0)).then_some(text)
    });
    let own = "{agent=\"test\",tenant=\"default\"}";
    for (series, wanted) in [
        ("ash_turn_seconds_count{outcome=\"completed\"}".to_owned(), 1.0),
        ("ash_turn_first_event_seconds_count".to_owned(), 1.0),
        ("ash_sandbox_start_seconds_count{source=\"fresh\"}".to_owned(), 1.0),
        ("ash_sandbox_start_failures_total".to_owned(), 0.0),
        ("ash_launcher_request_seconds_count{request=\"start\"}".to_owned(), 1.0),
        ("ash_store_failures_total".to_owned(), 0.0),
        ("ash_queue_items{status=\"pending\"}".to_owned(), 0.0),
        ("ash_queue_wait_seconds_count".to_owned(), 1.0),
        ("ash_tls_certificate_expiry_timestamp_seconds".to_owned(), 0.0),
        (format!("ash_agent_sessions_total{own}"), 1.0),
        (format!("ash_agent_turns_total{own}"), 1.0),
        ("ash_agent_turns_total{agent=\"other\",tenant=\"other\"}".to_owned(), 0.0),
        ("ash_http_request_seconds_count{method=\"POST\",route=\"/api/sessions\",status=\"2xx\"}".to_owned(), 1.0),
        ("ash_http_request_seconds_count{method=\"GET\",route=\"other\",status=\"4xx\"}".to_owned(), 1.0),
    ] {
        assert_eq!(value(&text, &series), Some(wanted), "{series}\n{text}");
    }
    for series in [
        "ash_store_commit_seconds_count".to_owned(),
        "ash_store_commit_operations_sum".to_owned(),
        "ash_events_total".to_owned(),
        "ash_stream_events_total".to_owned(),
        "ash_model_calls_total".to_owned(),
        "ash_model_tokens_total{kind=\"output\"}".to_owned(),
        "ash_disk_bytes".to_owned(),
        "ash_disk_free_bytes".to_owned(),
        format!("ash_agent_tokens_total{own}"),
    ] {
        assert!(value(&text, &series) > Some(0.0), "{series}\n{text}");
    }
    let tokens: f64 = text.lines().filter(|line| line.starts_with("ash_model_tokens_total{")).map(last).sum();
    assert_eq!(value(&text, &format!("ash_agent_tokens_total{own}")), Some(tokens));
    assert!(!text.contains(&session), "ids make series without end\n{text}");
}

fn last(line: &str) -> f64 {
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn operators_see_all_and_others_their_own_tenant() {
    let Some(claude) = claude() else { return };
    let model = Model::start();
    let daemon = Daemon::start_with(&claude, &model.url, "[metrics]\nagents = 1\ntenants = 2\n");
    daemon.session();
    let bearer = |body: Value| daemon.bearer(&body);
    let ask = |bearer: &str, method: &str, path: &str, body: Option<Value>| {
        let headers = [("authorization", bearer), ("content-type", "application/json")];
        let body = body.map(|body| body.to_string());
        request(&daemon.tcp(), method, path, &headers, body.as_ref().map(String::as_bytes))
    };
    let mut made = Vec::new();
    for tenant in ["second", "third"] {
        let theirs = bearer(json!({"tenant": tenant}));
        let agent = json!({"name": format!("of-{tenant}"), "systemPrompt": "x"});
        assert_eq!(ask(&theirs, "POST", "/api/agents", Some(agent)).status, 201);
        let session = json!({"agent": format!("of-{tenant}")});
        let answer = ask(&theirs, "POST", "/api/sessions", Some(session));
        assert_eq!(answer.status, 201, "{}", answer.text());
        made.push((theirs, format!("/api/sessions/{}", answer.json()["session"]["id"].as_str().expect("an id"))));
    }
    let sees = |bearer: &str| {
        let answer = ask(bearer, "GET", "/metrics", None);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    };
    support::kill_shims(&daemon);
    let pool = || daemon.get("/health").json()["pool"].clone();
    wait_for("the sessions of all tenants to be cold", || (pool()["cold"] == 3 && pool()["total"] == 0).then_some(()));
    let sessions = |agent: &str, tenant: &str| format!("ash_agent_sessions_total{{agent=\"{agent}\",tenant=\"{tenant}\"}} 1\n");
    let all = [sessions("test", "default"), sessions("other", "second"), sessions("other", "other")];
    for text in [daemon.get("/metrics").text(), sees(&bearer(json!({"scopes": ["admin"]})))] {
        assert!(all.iter().all(|line| text.contains(line)) && text.contains("ash_store_commit_seconds_sum"), "{text}");
        assert!(!text.contains("third") && !text.contains("of-second"), "there is no place for them\n{text}");
    }
    for (key, own) in [
        (json!({"scopes": ["read"]}), Some(&all[0])),
        (json!({"tenant": "second"}), Some(&all[1])),
        (json!({"tenant": "second", "scopes": ["read"]}), Some(&all[1])),
        (json!({"tenant": "third"}), None),
        (json!({"tenant": "other"}), None),
    ] {
        let text = sees(&bearer(key.clone()));
        let seen: Vec<_> = all.iter().filter(|line| text.contains(line.as_str())).collect();
        assert_eq!(seen, Vec::from_iter(own), "{key}: {text}");
        let names: BTreeSet<_> = text.lines().filter(|line| !line.starts_with('#')).map(base).collect();
        let is_open = |name: &str| name.starts_with("ash_agent_") || ["ash_up", "ash_uptime_seconds"].contains(&name);
        assert!(names.contains("ash_up") && names.iter().all(|name| is_open(name)), "{key}: {names:?}");
    }
    assert_eq!(ask(&bearer(json!({"scopes": ["run"]})), "GET", "/metrics", None).status, 403);
    for (theirs, path) in made {
        assert_eq!(ask(&theirs, "DELETE", &path, None).status, 200);
    }
}

fn base(line: &str) -> &str {
    line.split(['{', ' ']).next().unwrap_or(line)
}

/// The expressions of the dashboard and of the alerts.
fn expressions() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_str(&read(DASHBOARD)).expect("JSON"), &mut found);
    found.extend(read(ALERTS).lines().filter_map(|line| line.trim().strip_prefix("expr: ").map(str::to_owned)));
    found
}

/// A metric of an expression, with the labels that it chooses by.
type Used = (String, Vec<String>);

/// What an expression of PromQL reads: each name that is neither a function nor an operator. Lists of labels
/// behind `by` and such are not metrics.
fn metrics_of(expression: &str) -> Vec<Used> {
    const WORDS: &[&str] = &["and", "or", "unless", "bool", "offset"];
    const LISTS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
    let mut used: Vec<Used> = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if first.is_ascii_digit() {
            rest = rest.trim_start_matches(|c| is_name(c) || c == '.');
            continue;
        }
        if !is_name(first) {
            let closed = match first {
                '[' => rest.find(']').expect("closed") + 1,
                _ => first.len_utf8(),
            };
            rest = &rest[closed..];
            continue;
        }
        let (name, behind) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        rest = behind.trim_start();
        let is_called = ["(", "by (", "without ("].iter().any(|begin| rest.starts_with(begin));
        if LISTS.contains(&name) {
            rest = rest.split_once(')').map_or("", |(_, behind)| behind);
        } else if let Some(inside) = rest.strip_prefix('{') {
            let (chosen, behind) = inside.split_once('}').expect("closed");
            let label = |part: &str| part.split(['=', '!', '~']).next().unwrap_or(part).trim().to_owned();
            used.push((name.to_owned(), chosen.split("\",").filter(|part| !part.is_empty()).map(label).collect()));
            rest = behind;
        } else if !is_called && !WORDS.contains(&name) {
            used.push((name.to_owned(), Vec::new()));
        }
    }
    used
}

#[test]
fn what_an_expression_reads_is_found() {
    let used = metrics_of(
        "histogram_quantile(0.9, sum by (le, x) (rate(a_bucket{b=\"c\",d=~\"e|f\"}[$__rate_interval]))) > 1e3 and ignoring(z) g:h == 0 or absent(i)",
    );
    let names: Vec<_> = used.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a_bucket", "g:h", "i"]);
    assert_eq!(used[0].1, ["b", "d"]);
}

/// Whether a family has series of this name.
fn has_series(family: &Family, name: &str) -> bool {
    match family.kind {
        "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(&*family.name)),
        _ => family.name == name,
    }
}

#[test]
fn dashboard_and_alerts_read_what_there_is() {
    let metrics = Metrics::default();
    // What Prometheus itself knows of what it asks.
    let scraped = ["job", "instance"];
    let expressions = expressions();
    assert!(expressions.len() > 30, "{}", expressions.len());
    let mut unread: BTreeSet<_> = metrics.families().iter().map(|family| family.name.as_str()).collect();
    for expression in &expressions {
        let used = metrics_of(expression);
        assert!(!used.is_empty(), "{expression} reads nothing");
        for (name, chosen) in used.into_iter().filter(|(name, _)| name != "up") {
            let family = metrics.families().iter().find(|family| has_series(family, &name));
            let family = family.unwrap_or_else(|| panic!("{expression} reads {name}, which there is not"));
            let is_label = |label: &String| family.labels.contains(label) || scraped.contains(&label.as_str());
            assert!(chosen.iter().all(is_label), "{expression}: {name} has the labels {:?}", family.labels);
            unread.remove(family.name.as_str());
        }
    }
    assert_eq!(unread, BTreeSet::from(["ash_pool_max_capacity"]), "which is always 0, is the only one that nobody looks at");
}

#[test]
fn each_alert_says_what_to_do() {
    let rules = read(ALERTS);
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        let name = alert.lines().next().expect("a name");
        for key in ["expr", "for", "severity", "summary", "runbook"] {
            let lines = alert.lines().filter(|line| line.trim_start().starts_with(&format!("{key}: ")));
            assert_eq!(lines.count(), 1, "{name}: {key}");
        }
        assert!(read(MANUAL).contains(&format!("| `{name}` |")), "{MANUAL} does not name {name}");
    }
}

#[test]
fn the_manual_has_a_line_for_each_metric() {
    let metrics = Metrics::default();
    let mut families: Vec<_> = metrics.families().to_vec();
    families.sort_by(|a, b| a.name.cmp(&b.name));
    let mut table = String::from("| metric | kind | labels | what |\n| --- | --- | --- | --- |\n");
    for Family { name, kind, labels, help } in families {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        table.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", ")));
    }
    let manual = read(MANUAL);
    let (before, rest) = manual.split_once(BEGIN).expect("the table begins");
    let (found, after) = rest.split_once(END).expect("and ends");
    if std::env::var_os("ASH_UPDATE").is_some() {
        return std::fs::write(path(MANUAL), [before, BEGIN, &table, END, after].concat()).expect("writes");
    }
    assert_eq!(found, table, "{BEGIN}");
}
