//! What a key allows: of whichever tenant, scope and agent, on every route that there is. The routes are
//! those of the daemon's own table, so a new one is tested here without being named.

mod support;

use ash::http::{Route, routes};
use ash::wire::scope::Scope;
use serde_json::{Value, json};
use support::http::{self, Response};
use support::{Daemon, Model, claude, wait_for};

/// A daemon with one of each thing in the tenant `default`.
struct World {
    daemon: Daemon,
    _model: Model,
    session: String,
    credential: String,
    key: String,
    webhook: String,
    schedule: String,
    attachment: String,
    item: String,
    file: String,
    case: String,
    run: String,
    result: String,
}

/// Routes that make what is at their path, so that nothing there is foreign.
const MAKE: &[&str] = &["/api/agents/{name}/archive"];

impl World {
    fn start() -> Option<Self> {
        let claude = claude()?;
        let model = Model::start();
        let daemon = Daemon::start(&claude, &model.url);
        let session = daemon.session();
        let id = |answer: Value| answer["id"].as_str().expect("an id").to_owned();
        let credential = daemon.send("POST", "/api/credentials", &json!({"type": "custom", "key": "secret"})).json();
        let key = daemon.send("POST", "/api/api-keys", &json!({"label": "theirs"})).json();
        let webhook = json!({"url": "https://hook.example.invalid/", "events": ["*"], "enabled": false});
        let webhook = daemon.send("POST", "/api/webhooks", &webhook).json();
        let file = json!({"filename": "theirs", "content": "eA=="});
        let attachment = daemon.send("POST", &format!("/api/sessions/{session}/attachments"), &file).json();
        let attachment = id(attachment["attachment"].clone());
        let file = id(daemon.send("POST", "/api/files", &file).json()["file"].clone());
        daemon.send("POST", "/api/agents/test/versions", &json!({}));
        let schedule = json!({"name": "test", "agentName": "test", "prompt": "hello", "calendar": "yearly"});
        let schedule = id(daemon.send("POST", "/api/schedules", &schedule).json()["schedule"].clone());
        let item = daemon.send("POST", "/api/queue", &json!({"agentName": "test", "prompt": "hello"})).json();
        let item = id(item["item"].clone());
        let case = daemon.send("POST", "/api/agents/test/eval-cases", &json!({"question": "hello"})).json();
        let run = id(daemon.send("POST", "/api/agents/test/eval-runs", &json!({})).json());
        let results = daemon.get(&format!("/api/agents/test/eval-runs/{run}/results")).json();
        let (case, result) = (id(case), id(results["results"][0].clone()));
        let (credential, webhook) = (id(credential["credential"].clone()), id(webhook["webhook"].clone()));
        let (key, _model) = (id(key), model);
        Some(Self { session, credential, key, webhook, schedule, attachment, item, file, case, run, result, daemon, _model })
    }

    /// A key as the control socket makes it, for a header.
    fn bearer(&self, body: &Value) -> String {
        self.daemon.bearer(body)
    }

    fn ask(&self, bearer: &str, method: &str, path: &str, body: &Value) -> Response {
        let headers = [("authorization", bearer), ("content-type", "application/json")];
        let body = (method != "GET").then(|| body.to_string());
        http::request(&self.daemon.tcp(), method, path, &headers, body.as_ref().map(String::as_bytes))
    }

    /// A path with what there is in `default` in the place of its parameters, and a body that is read there.
    fn filled(&self, route: &Route) -> (String, Value) {
        let mut path = String::new();
        for part in route.path.split_inclusive('/') {
            let (name, slash) = part.strip_suffix('/').map_or((part, ""), |name| (name, "/"));
            path.push_str(match name {
                "{id}" if route.path.starts_with("/api/sessions/") => &self.session,
                "{id}" if route.path.starts_with("/api/credentials/") => &self.credential,
                "{id}" if route.path.starts_with("/api/api-keys/") => &self.key,
                "{id}" if route.path.starts_with("/api/webhooks/") => &self.webhook,
                "{id}" if route.path.starts_with("/api/attachments/") => &self.attachment,
                "{id}" if route.path.starts_with("/api/files/") => &self.file,
                "{id}" if route.path.starts_with("/api/schedules/") => &self.schedule,
                "{id}" if route.path.starts_with("/api/queue/") => &self.item,
                "{case}" => &self.case,
                "{run}" => &self.run,
                "{result}" => &self.result,
                "{delivery}" | "{version}" => "1",
                "{name}" => "test",
                "{turn}" | "{permission}" => "0198c0de-0000-7000-8000-000000000001",
                "{*path}" => "CLAUDE.md",
                name => {
                    assert!(!name.starts_with('{'), "say here what stands for {name} of {}", route.path);
                    name
                }
            });
            path.push_str(slash);
        }
        let file = json!({"path": "CLAUDE.md", "content": "eA=="});
        let body = match route.path.trim_start_matches("/api/sessions/{id}") {
            "/messages" => json!({"content": "hello"}),
            "/exec" => json!({"command": "true"}),
            "/egress" => json!({"allow": ["pypi"]}),
            "/rewind" => json!({"eventId": 1}),
            "/files" => json!({"files": [file]}),
            "/workspace" => json!({"bundle": "eA=="}),
            "/attachments" => json!({"filename": "x", "content": "eA=="}),
            "/api/queue" => json!({"agentName": "test", "prompt": "x"}),
            "/permissions/{permission}" => json!({"behavior": "allow"}),
            "/api/agents/{name}/files" => json!({"files": [file]}),
            "/api/agents/{name}/eval-cases" => json!({"question": "mine"}),
            "/api/agents/{name}/eval-cases/import" => json!({"cases": []}),
            "/api/agents/{name}/eval-runs/{run}/score" | "/api/agents/{name}/eval-results/{result}" => json!({"humanScore": 1}),
            "/api/credentials/{id}" => json!({"label": "mine"}),
            "/api/schedules/{id}" => json!({"name": "mine"}),
            "/api/webhooks/{id}" => json!({"description": "mine"}),
            _ => json!({}),
        };
        (path, body)
    }

    /// Whether a text tells of something of `default`.
    fn tells(&self, text: &str) -> bool {
        [
            &self.session,
            &self.credential,
            &self.key,
            &self.webhook,
            &self.schedule,
            &self.file,
            &self.attachment,
            &self.item,
            &self.case,
            &self.run,
            &self.result,
        ]
        .into_iter()
        .any(|id| text.contains(id.as_str()))
            || text.contains("\"test\"")
    }

    /// Each route and method, where something is that can be foreign. Before that, what reads and is at no
    /// thing is read: it tells of nothing foreign.
    fn each_thing(&self, bearer: &str, mut check: impl FnMut(&Route, &str, &str, Response)) {
        let (things, lists): (Vec<_>, Vec<_>) = routes().into_iter().partition(|route| route.path.contains('{'));
        for list in lists.iter().filter(|list| list.methods.iter().any(|method| method == "GET")) {
            let answer = self.ask(bearer, "GET", list.path, &json!({}));
            assert!(!self.tells(&answer.text()), "GET {}: {}", list.path, answer.text());
        }
        for thing in things.iter().filter(|thing| !MAKE.contains(&thing.path)) {
            let (path, body) = self.filled(thing);
            for method in &thing.methods {
                check(thing, method.as_str(), &path, self.ask(bearer, method.as_str(), &path, &body));
            }
        }
    }
}

#[test]
fn a_key_of_another_tenant_finds_nothing_on_any_route() {
    let Some(world) = World::start() else { return };
    let bearer = world.bearer(&json!({"tenant": "other"}));
    let (mut checked, mut wrong) = (0, Vec::new());
    world.each_thing(&bearer, |route, method, path, answer| {
        // A path that ends there names nothing of anybody's.
        let wanted = if route.path.ends_with('/') { 400 } else { 404 };
        if answer.status != wanted || world.tells(&answer.text()) {
            wrong.push(format!("{method} {path}: {} {}", answer.status, answer.text()));
        }
        checked += 1;
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 40, "{checked}");
    let made = world.ask(&bearer, "POST", "/api/sessions", &json!({"agent": "test"}));
    assert_eq!(made.status, 404, "{}", made.text());
    let daemon = &world.daemon;
    assert_eq!(daemon.get(&format!("/api/sessions/{}", world.session)).json()["session"]["status"], "active", "it is as it was");
    let theirs = daemon.get("/api/api-keys?tenant=other").json();
    assert_eq!(theirs["keys"].as_array().map(Vec::len), Some(1), "the operator sees the keys of each tenant: {theirs}");
    let id = theirs["keys"][0]["id"].as_str().expect("an id");
    assert_eq!(daemon.send("DELETE", &format!("/api/api-keys/{id}"), &json!({})).status, 404);
    assert_eq!(daemon.send("DELETE", &format!("/api/api-keys/{id}?tenant=other"), &json!({})).status, 200);
    assert_eq!(world.ask(&bearer, "GET", "/api/sessions", &json!({})).status, 401);
}

#[test]
fn each_route_needs_its_scope_and_names_it() {
    let Some(world) = World::start() else { return };
    let without = |scope: Scope| {
        let others = Scope::ALL.into_iter().filter(|other| *other != scope && *other != Scope::Admin).map(Scope::as_str);
        world.bearer(&json!({"scopes": others.collect::<Vec<_>>()}))
    };
    let lacking = Scope::ALL.map(|scope| (scope, without(scope)));
    let having = Scope::ALL.map(|scope| (scope, world.bearer(&json!({"scopes": [scope.as_str()]}))));
    let of = |keys: &[(Scope, String)], wanted| keys.iter().find(|(scope, _)| *scope == wanted).expect("a key").1.clone();
    for route in routes() {
        for method in &route.methods {
            let scope = route.scope(method);
            let (path, body) = world.filled(&route);
            let refused = world.ask(&of(&lacking, scope), method.as_str(), &path, &body);
            assert_eq!(refused.status, 403, "{method} {path}: {}", refused.text());
            let problem = refused.json();
            assert_eq!(problem["code"], "forbidden");
            assert_eq!(problem["error"], json!(format!("This API key lacks the scope {scope}")), "{method} {path}");
            // A stream has no end.
            if method == "GET" && !path.ends_with("/stream") {
                let allowed = world.ask(&of(&having, scope), "GET", &path, &body);
                assert!(!matches!(allowed.status, 0 | 401 | 403), "GET {path}: {}", allowed.text());
            }
        }
    }
    // What reads is read, and what people keep from each other is admin's.
    for (path, method, scope) in [
        ("/api/sessions", "GET", Scope::Read),
        ("/api/sessions", "POST", Scope::Run),
        ("/api/sessions/{id}/permissions/{permission}", "POST", Scope::Run),
        ("/api/agents", "POST", Scope::Deploy),
        ("/api/credentials", "GET", Scope::Admin),
        ("/api/api-keys", "GET", Scope::Admin),
        ("/api/doctor", "GET", Scope::Admin),
        ("/api/gc", "POST", Scope::Admin),
    ] {
        let route = routes().into_iter().find(|route| route.path == path).expect(path);
        assert_eq!(route.scope(&method.parse().expect("a method")), scope, "{method} {path}");
    }
}

#[test]
fn a_key_for_one_agent_sees_this_agent_and_its_sessions_alone() {
    let Some(world) = World::start() else { return };
    let bearer = world.bearer(&json!({"agent": "mine"}));
    world.each_thing(&bearer, |route, method, path, answer| {
        let wanted = if route.is_of_one() { 404 } else { 403 };
        assert_eq!(answer.status, wanted, "{method} {path}: {}", answer.text());
    });
    assert_eq!(world.ask(&bearer, "POST", "/api/sessions", &json!({"agent": "test"})).status, 404);
    assert_eq!(world.ask(&bearer, "POST", "/api/agents", &json!({"name": "test", "systemPrompt": "x"})).status, 404);
    let archive = world.ask(&bearer, "PUT", "/api/agents/test/archive", &json!({}));
    assert_eq!(archive.status, 404, "{}", archive.text());
    assert_eq!(world.ask(&bearer, "GET", "/metrics", &json!({})).status, 403, "which tells of all");
    let made = world.ask(&bearer, "POST", "/api/agents", &json!({"name": "mine", "systemPrompt": "x"}));
    assert_eq!(made.status, 201, "{}", made.text());
    let made = world.ask(&bearer, "POST", "/api/sessions", &json!({"agent": "mine"}));
    assert_eq!(made.status, 201, "{}", made.text());
    let session = made.json()["session"]["id"].as_str().expect("an id").to_owned();
    for path in ["/api/sessions", "/api/sessions?agent=mine", "/api/agents", "/api/resources"] {
        let listed = world.ask(&bearer, "GET", path, &json!({})).text();
        assert!(listed.contains("\"mine\"") && !world.tells(&listed), "{path}: {listed}");
    }
    let none = world.ask(&bearer, "GET", "/api/sessions?agent=test&includeTotal=true", &json!({})).json();
    assert_eq!(none, json!({"sessions": [], "total": 0}));
    assert_eq!(world.ask(&bearer, "GET", &format!("/api/sessions/{session}"), &json!({})).status, 200);
    assert_eq!(world.ask(&bearer, "GET", "/api/agents/mine", &json!({})).status, 200);
    assert_eq!(world.ask(&bearer, "GET", "/api/sessions/x", &json!({})).status, 400, "what is no id is told apart");
}

#[test]
fn a_key_is_never_more_than_its_maker_and_ends_when_it_says() {
    let Some(world) = World::start() else { return };
    let admin = world.bearer(&json!({"expiresIn": "1h", "label": "hourly"}));
    let make = |body: &Value| world.ask(&admin, "POST", "/api/api-keys", body);
    for (body, status, field) in [
        (json!({"scopes": ["write"]}), 400, "scopes[0]"),
        (json!({"scopes": []}), 400, "scopes"),
        (json!({"scopes": ["admin"], "agent": "x"}), 400, "scopes"),
        (json!({"agent": "a/b"}), 400, "agent"),
        (json!({"tenant": "other"}), 403, "tenant"),
        (json!({"expiresIn": "2h"}), 403, "expiresIn"),
        (json!({"expiresIn": "soon"}), 400, "expiresIn"),
        (json!({"expiresAt": "2001-01-01T00:00:00Z"}), 400, "expiresAt"),
        (json!({"expiresAt": "today"}), 400, "expiresAt"),
    ] {
        let answer = make(&body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.json()["error"].as_str().is_some_and(|error| error.starts_with(field)), "{body}: {}", answer.text());
    }
    let child = make(&json!({"scopes": ["read", "run"], "unknown": 1}));
    assert_eq!(child.status, 201, "fields that nobody knows are ignored on this route: {}", child.text());
    let listed = world.ask(&admin, "GET", "/api/api-keys", &json!({})).json();
    let shown = |label: &str| {
        let keys = listed["keys"].as_array().expect("keys").iter();
        keys.clone().find(|key| key["label"] == label).expect(label).clone()
    };
    assert_eq!(shown("dashboard-key")["scopes"], json!(["read", "run"]));
    assert_eq!(shown("dashboard-key")["expiresAt"], shown("hourly")["expiresAt"], "its maker's end is its own");
    assert_eq!(shown("dashboard-key")["tenant"], "default");
    assert!(shown("hourly")["lastUsedAt"].is_string() && shown("dashboard-key")["lastUsedAt"].is_null(), "{listed}");
    assert_eq!((shown("theirs")["scopes"].clone(), shown("theirs")["expiresAt"].clone()), (json!(["admin"]), Value::Null));

    let brief = world.bearer(&json!({"expiresIn": "1s"}));
    let over = wait_for("it is over", || {
        let answer = world.ask(&brief, "GET", "/api/sessions", &json!({}));
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((over.status, over.json()["error"].clone()), (401, json!("API key has expired")));
    assert_eq!(world.ask("Bearer ash_x", "GET", "/api/sessions", &json!({})).json()["error"], "Invalid API key");
}

/// Reads a stream to its end, which that of a session that lives has not by itself.
fn to_its_end(mut stream: http::Open) {
    while !stream.chunk().expect("it ends in good order").is_empty() {}
}

#[test]
fn what_a_key_has_open_ends_with_it() {
    let Some(world) = World::start() else { return };
    let made = world.daemon.send("POST", "/api/api-keys", &json!({"scopes": ["read"]})).json();
    let bearer = format!("Bearer {}", made["key"].as_str().expect("a key"));
    let path = format!("/api/sessions/{}/stream", world.session);
    let stream = http::open(&world.daemon.tcp(), "GET", &path, &[("authorization", &bearer)], None).expect("opens");
    assert!(stream.head.contains("text/event-stream"), "{}", stream.head);
    let id = made["id"].as_str().expect("an id");
    assert_eq!(world.daemon.send("DELETE", &format!("/api/api-keys/{id}"), &json!({})).status, 200);
    to_its_end(stream);

    let soon = json!({"scopes": ["read"], "expiresIn": "1s"});
    let bearer = world.bearer(&soon);
    to_its_end(http::open(&world.daemon.tcp(), "GET", &path, &[("authorization", &bearer)], None).expect("opens"));
}
