//! The OpenAPI document: it is that of the code, its examples are what it describes, and a daemon does
//! and refuses what it says. `ASH_UPDATE=1` writes it.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ash::http::openapi;
use serde_json::{Map, Value, json};
use support::http::{self, Open, Response, Target, events};
use support::{Daemon, life, wait_for};

const FILE: &str = "docs/openapi.json";

/// What is wrong with a value by a schema of the document; empty if it is as described.
fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    // References are to the components, so these go along.
    let schema = json!({"allOf": [schema], "components": document["components"]});
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn component<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(target) => document.pointer(&target[1..]).unwrap_or_else(|| panic!("{target}")),
        None => value,
    }
}

/// An operation of the document.
struct Operation<'a> {
    id: &'a str,
    method: String,
    path: &'a str,
    is_open: bool,
    value: &'a Value,
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, value) in item.as_object().expect("methods") {
            let id = value["operationId"].as_str().expect("an id");
            let is_open = value["security"].as_array().is_some_and(Vec::is_empty);
            operations.push(Operation { id, method: method.to_uppercase(), path, is_open, value });
        }
    }
    operations
}

impl Operation<'_> {
    fn parameters(&self, place: &str) -> impl Iterator<Item = &Value> {
        let all = self.value["parameters"].as_array();
        all.into_iter().flatten().filter(move |parameter| parameter["in"] == place)
    }

    /// The JSON that it takes, as schema and example.
    fn json(&self) -> Option<(&Value, &Value)> {
        let content = &self.value["requestBody"]["content"]["application/json"];
        content.get("schema").map(|schema| (schema, &content["example"]))
    }
}

#[test]
fn the_document_is_that_of_the_code() {
    let made = format!("{:#}\n", openapi::document());
    if std::env::var_os("ASH_UPDATE").is_some() {
        return std::fs::write(FILE, made).expect("written");
    }
    let update = "ASH_UPDATE=1 cargo test --features failpoints --test openapi";
    assert!(std::fs::read_to_string(FILE).is_ok_and(|found| found == made), "{FILE} is not what the code gives; run: {update}");
}

#[test]
fn every_example_is_what_its_schema_describes() {
    fn walk(document: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
        if let (Some(schema), Some(example)) = (value.get("schema"), value.get("example"))
            && !place.ends_with("event-stream")
        {
            found.extend(faults(document, schema, example).into_iter().map(|fault| format!("{place}: {fault}")));
        }
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| walk(document, value, &format!("{place}/{name}"), found))
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(at, value)| walk(document, value, &format!("{place}/{at}"), found))
            }
            _ => {}
        }
    }
    let document = openapi::document();
    let mut found = Vec::new();
    walk(&document, &document, "", &mut found);
    assert!(found.is_empty(), "{found:#?}");
    for operation in operations(&document) {
        if let Some((_, example)) = operation.json().filter(|_| operation.id != "uploadWorkspace") {
            assert!(!example.is_null(), "{} has no example of its body", operation.id);
        }
        for text in ["summary", "operationId"] {
            assert!(operation.value[text].as_str().is_some_and(|text| !text.is_empty()), "{}: {text}", operation.id);
        }
    }
}

#[test]
fn references_lead_somewhere() {
    fn walk(document: &Value, value: &Value) {
        if let Some(target) = value["$ref"].as_str() {
            assert!(document.pointer(&target[1..]).is_some(), "{target}");
        }
        match value {
            Value::Object(fields) => fields.values().for_each(|value| walk(document, value)),
            Value::Array(items) => items.iter().for_each(|value| walk(document, value)),
            _ => {}
        }
    }
    let document = openapi::document();
    walk(&document, &document);
}

#[test]
fn docs_are_open_and_load_nothing_from_elsewhere() {
    let Some((_model, daemon)) = life::start("") else { return };
    let get = |path: &str| http::request(&daemon.tcp(), "GET", path, &[], None);
    let header = |answer: &Response, name: &str| {
        let head = answer.head.to_ascii_lowercase();
        head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default().to_owned()
    };
    let moved = get("/docs");
    assert_eq!((moved.status, header(&moved, "location").as_str()), (308, "/docs/"));
    assert_eq!(get("/docs/json").json(), openapi::document());
    let yaml = get("/docs/yaml");
    assert_eq!((yaml.status, header(&yaml, "content-type").as_str()), (200, "application/yaml"));
    assert!(yaml.text().contains("\"openapi\": \"3.1.0\"\n"), "{}", &yaml.text()[..200]);

    let page = get("/docs/");
    assert_eq!((page.status, header(&page, "content-type").as_str()), (200, "text/html"));
    let policy = header(&page, "content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    let text = page.text();
    let names = text.split("src=\"").chain(text.split("href=\"")).skip(1).filter_map(|rest| rest.split('"').next());
    let names: BTreeSet<_> = names.filter(|name| !name.contains('<')).collect();
    assert!(names.len() > 3, "{names:?}");
    for name in names {
        let asset = get(&format!("/docs/{}", name.strip_prefix("./").unwrap_or(name)));
        let wanted = match name.rsplit('.').next() {
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            Some("png") => "image/png",
            other => panic!("{name} is of a kind that nobody looks at: {other:?}"),
        };
        assert_eq!((asset.status, header(&asset, "content-type").as_str()), (200, wanted), "{name}");
        assert!(header(&asset, "x-content-type-options") == "nosniff");
    }
    let start = get("/docs/swagger-initializer.js").text();
    assert!(start.contains("\"/docs/json\"") && start.contains("\"validatorUrl\": \"none\""), "{start}");
    assert_eq!((get("/docs/nope").status, get("/docs/../etc/passwd").status), (404, 404));
}

#[test]
fn docs_can_be_turned_off() {
    let Some((_model, daemon)) = life::start("[http]\ndocs = false") else { return };
    for path in ["/docs", "/docs/", "/docs/json", "/docs/yaml"] {
        assert_eq!(http::request(&daemon.tcp(), "GET", path, &[], None).status, 401, "{path}");
        assert_eq!(daemon.get(path).status, 404, "{path}");
    }
}

/// Holds what a daemon answers against the document.
struct Walker<'a> {
    document: &'a Value,
    daemon: &'a Daemon,
    /// Values for parameters of paths, by resource and name.
    ids: BTreeMap<&'static str, String>,
    /// Where a snapshot is.
    snapshot: Value,
    /// What was answered: operation and status.
    seen: BTreeSet<(String, u16)>,
    /// What was not as described.
    faults: Vec<String>,
}

impl Walker<'_> {
    /// Sends a request and holds its answer against what is declared.
    fn ask(
        &mut self,
        operation: &Operation<'_>,
        target: &Target,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Response {
        let answer = http::request(target, &operation.method, path, headers, body);
        self.judge(operation, path, &answer);
        answer
    }

    fn judge(&mut self, operation: &Operation<'_>, path: &str, answer: &Response) {
        let told = format!("{} {} {path}: {} {}", operation.id, operation.method, answer.status, excerpt(answer));
        let faults = self.faults_of(operation, answer);
        self.faults.extend(faults.into_iter().map(|fault| format!("{fault}: {told}")));
        self.seen.insert((operation.id.to_owned(), answer.status));
    }

    fn faults_of(&self, operation: &Operation<'_>, answer: &Response) -> Vec<String> {
        let declared = &operation.value["responses"][answer.status.to_string()];
        if !declared.is_object() {
            return vec!["the status is not declared".to_owned()];
        }
        let declared = component(self.document, declared);
        let head = answer.head.to_ascii_lowercase();
        let needed: &[&str] =
            if matches!(answer.status, 429 | 503) { &["x-request-id", "retry-after"] } else { &["x-request-id"] };
        let missing = needed.iter().filter(|name| !head.contains(&format!("\n{name}: ")));
        let mut faults: Vec<_> = missing.map(|name| format!("the header {name} is missing")).collect();
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
        let content = &declared["content"];
        let Some(described) = content.get(kind).or_else(|| content.get("*/*")) else {
            return vec![format!("{kind:?} is not declared")];
        };
        faults.extend(match kind {
            "application/json" => self::faults(self.document, &described["schema"], &answer.json()),
            "text/event-stream" if operation.id != "runCommand" => {
                events(&answer.text()).iter().flat_map(|event| self.frame_faults(event)).collect()
            }
            _ => Vec::new(),
        });
        faults
    }

    /// Sends a request that has to get one of these statuses.
    fn refused(
        &mut self,
        operation: &Operation<'_>,
        (target, path): (&Target, &str),
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        wanted: u16,
    ) -> Response {
        let answer = self.ask(operation, target, path, headers, body);
        if answer.status != wanted {
            let sent: String = String::from_utf8_lossy(body.unwrap_or_default()).chars().take(100).collect();
            let (id, status) = (operation.id, answer.status);
            self.faults.push(format!("{id} {path} {headers:?} {sent}: {status} and not {wanted}: {}", excerpt(&answer)));
        }
        answer
    }

    /// What is wrong with the data of a frame by the description of its name, and with the frame as a whole.
    fn frame_faults(&self, event: &http::Event) -> Vec<String> {
        let frame = json!({"id": event.id.to_string(), "event": event.name, "data": event.data.to_string()});
        let schemas = self.document["components"]["schemas"].as_object().expect("schemas");
        let is_named = |schema: &&Value| {
            let fields = &schema["properties"];
            fields["event"]["const"] == event.name.as_str() && fields["id"].is_object()
        };
        let named = schemas.values().find(is_named).unwrap_or(&schemas["OtherFrame"]);
        let data = faults(self.document, &named["properties"]["data"]["contentSchema"], &event.data);
        [data, faults(self.document, named, &frame)].concat()
    }

    /// The path of an operation with what there is.
    fn path(&self, operation: &Operation<'_>) -> String {
        let resource = operation.path.split('/').nth(2).unwrap_or_default();
        let fill = |part: &str| match part.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some("id") => self.ids[resource].clone(),
            Some(name) => self.ids[name].clone(),
            None => part.to_owned(),
        };
        operation.path.split('/').map(fill).collect::<Vec<_>>().join("/")
    }

    /// Does what the operation is for.
    fn succeed(&mut self, operation: &Operation<'_>) {
        // tests/terminal.rs opens one.
        if operation.id == "openTerminal" {
            return;
        }
        let pending = match operation.id {
            "listPermissions" | "getPermission" | "answerPermission" | "cancelTurn" | "interruptSession" => {
                Some(self.wait_for_permission())
            }
            _ => None,
        };
        let mut path = self.path(operation);
        let mut body = operation.json().map(|(_, example)| example.clone());
        let mut bytes = None;
        let mut kind = "application/json";
        match operation.id {
            "forkSession" | "rewindSession" => body = Some(json!({"eventId": self.snapshot})),
            "streamSession" => path.push_str(&format!("?turn={}", self.ids["turn"])),
            "createCredential" => body = Some(json!({"type": "custom", "key": "x", "label": "made by a test"})),
            "deployAgentArchive" => (kind, bytes) = ("application/x-tar", Some(archive())),
            "uploadWorkspace" => {
                let bundle = self.daemon.get(&path);
                assert!(bundle.ok_status(), "{}", bundle.text());
                (kind, bytes) = ("application/gzip", Some(bundle.body));
            }
            "collectGarbage" => body = Some(json!({"dryRun": true})),
            // Nothing is sent to a real host.
            "createWebhook" => body = Some(json!({"url": "https://hook.example.invalid/", "events": ["*"], "enabled": false})),
            "downloadFile" => path.clone_from(&self.ids["link"]),
            "previewSchedule" => path.push_str("?calendar=daily"),
            "startEvalRun" => body = Some(json!({"tags": ["smoke"], "judgeAgent": "helper"})),
            "scoreEvalRun" => body = Some(json!({"humanScore": 5})),
            "compareEvalRuns" => path.push_str(&format!("?runA={run}&runB={run}", run = self.ids["run"])),
            "cancelEvalRun" => {
                let run = self.daemon.send("POST", "/api/agents/helper/eval-runs", &json!({})).json();
                path = format!("/api/agents/helper/eval-runs/{}/cancel", run["id"].as_str().expect("an id"));
            }
            "getQueueItem" | "getQueueResult" => path.push_str("?wait=60"),
            "cancelQueueItem" => {
                // Those before it keep the workers busy.
                let item = json!({"agentName": "helper", "prompt": "Hello"});
                let items = [(); 8].map(|()| self.daemon.send("POST", "/api/queue", &item).json());
                path = format!("/api/queue/{}", items[7]["item"]["id"].as_str().expect("an id"));
            }
            _ => {}
        }
        let bytes = bytes.or_else(|| body.filter(|body| !body.is_null()).map(|body| body.to_string().into_bytes()));
        let headers = bytes.as_ref().map(|_| ("content-type", kind));
        let headers: Vec<_> = headers.into_iter().collect();
        let answer = self.ask(operation, &self.daemon.control(), &path, &headers, bytes.as_deref());
        assert!((200..300).contains(&answer.status), "{} {path}: {}\n{}", operation.id, answer.text(), self.daemon.log());
        self.keep(operation, &answer);
        if let Some(open) = pending {
            self.daemon.send("POST", &format!("/api/sessions/{}/interrupt", self.ids["sessions"]), &json!({}));
            open.finish();
        }
    }

    /// Keeps what later operations need.
    fn keep(&mut self, operation: &Operation<'_>, answer: &Response) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match operation.id {
            "createSession" => self.ids.extend(text(&answer.json()["session"]["id"]).map(|id| ("sessions", id))),
            "createCredential" => self.ids.extend(text(&answer.json()["credential"]["id"]).map(|id| ("credentials", id))),
            "createKey" => self.ids.extend(text(&answer.json()["id"]).map(|id| ("api-keys", id))),
            "createAgentVersion" => drop(self.ids.insert("version", answer.json()["versionNumber"].to_string())),
            "addAttachment" => self.ids.extend(text(&answer.json()["attachment"]["id"]).map(|id| ("attachments", id))),
            "uploadFile" => self.ids.extend(text(&answer.json()["file"]["id"]).map(|id| ("files", id))),
            "getFileUrl" => self.ids.extend(text(&answer.json()["url"]).map(|url| ("link", url))),
            "createEvalCase" => self.ids.extend(text(&answer.json()["id"]).map(|id| ("case", id))),
            "startEvalRun" => self.ids.extend(text(&answer.json()["id"]).map(|id| ("run", id))),
            "getEvalRunResults" => self.ids.extend(text(&answer.json()["results"][0]["id"]).map(|id| ("result", id))),
            "addQueueItem" => self.ids.extend(text(&answer.json()["item"]["id"]).map(|id| ("queue", id))),
            "createSchedule" => self.ids.extend(text(&answer.json()["schedule"]["id"]).map(|id| ("schedules", id))),
            "createWebhook" => self.ids.extend(text(&answer.json()["webhook"]["id"]).map(|id| ("webhooks", id))),
            "testWebhook" => drop(self.ids.insert("delivery", answer.json()["delivery"]["id"].to_string())),
            "takeSnapshot" => self.snapshot = answer.json()["snapshot"]["eventId"].clone(),
            "sendMessage" => {
                let done = events(&answer.text()).pop().expect("a frame");
                self.ids.extend(text(&done.data["turnId"]).map(|id| ("turn", id)));
            }
            _ => {}
        }
    }

    /// Brings the session to where it waits for permission.
    fn wait_for_permission(&mut self) -> Open {
        let session = self.ids["sessions"].clone();
        let open = self.daemon.post(&session, "bash: touch made");
        let request = wait_for("the runtime asks", || {
            let listed = self.daemon.get(&format!("/api/sessions/{session}/permissions?state=pending")).json();
            listed["permissions"].as_array().and_then(|requests| requests.last().cloned())
        });
        for (name, field) in [("permission", "id"), ("turn", "turnId")] {
            self.ids.insert(name, request[field].as_str().expect("an id").to_owned());
        }
        open
    }

    /// Does what the operation refuses.
    fn provoke(&mut self, operation: &Operation<'_>, key: &str) {
        let (control, tcp) = (self.daemon.control(), self.daemon.tcp());
        let path = self.path(operation);
        let json = [("content-type", "application/json")];
        let example = operation.json().filter(|(_, example)| !example.is_null()).map(|(_, example)| example.to_string());
        let body = example.as_ref().map(String::as_bytes);
        if !operation.is_open {
            for bad in [&[][..], &[("authorization", "Bearer ash_wrong")], &[("authorization", "Basic x")]] {
                self.refused(operation, (&tcp, &path), bad, None, 401);
            }
            self.refused(operation, (&control, &path), &[("origin", "https://evil.example")], None, 403);
        }
        if matches!(operation.id, "resealCredentials" | "collectGarbage") {
            self.refused(operation, (&tcp, &path), &[("authorization", key), json[0]], body, 403);
        }
        // That makes an agent where none is.
        let parameters = operation.parameters("path").filter(|_| operation.id != "deployAgentArchive");
        for parameter in parameters {
            let name = parameter["name"].as_str().expect("a name");
            let schema = component(self.document, &parameter["schema"]);
            let (is_id, is_number) = (schema["format"] == "uuid", schema["type"] == "integer");
            let missing = match (is_id, is_number) {
                (true, _) => "019ad5b1-0000-7000-8000-000000000000",
                (_, true) => "9000000000000000",
                _ => "nobody-has-this",
            };
            self.refused(operation, (&control, &self.path_with(operation, name, missing)), &json, body, 404);
            if is_id || is_number {
                self.refused(operation, (&control, &self.path_with(operation, name, "no-uuid")), &json, body, 400);
            }
        }
        for parameter in operation.parameters("query") {
            let name = parameter["name"].as_str().expect("a name");
            for bad in out_of(component(self.document, &parameter["schema"])) {
                self.refused(operation, (&control, &format!("{path}?{name}={bad}")), &[], None, 400);
            }
        }
        if operation.value["requestBody"].is_object() {
            self.refused(operation, (&control, &path), &[("content-type", "text/plain")], Some(b"{}"), 415);
        }
        let Some((schema, example)) = operation.json() else { return };
        if !LARGE.contains(&operation.id) {
            let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 20));
            self.refused(operation, (&control, &path), &json, Some(large.as_bytes()), 413);
        }
        for bad in ["{", "[]", "7", "{} x", "\u{0}", "{\"a\":}"] {
            self.refused(operation, (&control, &path), &json, Some(bad.as_bytes()), 400);
        }
        for (field, bad) in self.wrong_fields(schema) {
            let mut body = if example.is_object() { example.clone() } else { json!({}) };
            body[&field] = bad;
            // What a tool is given is JSON of any kind until it is known which tool asks.
            let wanted = if field == "updatedInput" { 422 } else { 400 };
            let answer = self.refused(operation, (&control, &path), &json, Some(body.to_string().as_bytes()), wanted);
            let details = answer.json()["details"].as_array().cloned().unwrap_or_default();
            let is_named = details.iter().any(|detail| detail["field"].as_str().is_some_and(|named| named.starts_with(&field)));
            if wanted == 400 && !is_named {
                self.faults.push(format!("{} with a wrong {field} names another field: {}", operation.id, excerpt(&answer)));
            }
        }
    }

    /// The path of an operation with another value in a place.
    fn path_with(&self, operation: &Operation<'_>, name: &str, value: &str) -> String {
        let path = operation.path.replace(&format!("{{{name}}}"), value);
        let filled = Operation { path: &path, method: operation.method.clone(), ..*operation };
        self.path(&filled)
    }

    /// For each field of a body a value that is of no type which the schema has for it.
    fn wrong_fields(&self, schema: &Value) -> Vec<(String, Value)> {
        let mut fields = Map::new();
        self.fields_of(schema, &mut fields);
        let wrong = |(name, schema): (String, Value)| {
            let candidates = [json!({"a": [1]}), json!([{"a": 1}]), json!(12.5), json!(true), json!("x")];
            let bad = candidates.into_iter().find(|bad| !faults(self.document, &schema, bad).is_empty());
            bad.map(|bad| (name, bad))
        };
        fields.into_iter().filter_map(wrong).collect()
    }

    fn fields_of(&self, schema: &Value, to: &mut Map<String, Value>) {
        let schema = component(self.document, schema);
        if let Some(fields) = schema["properties"].as_object() {
            to.extend(fields.clone());
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.fields_of(part, to);
        }
    }
}

/// As many requests, good and bad, as one likes.
const UNLIMITED: &str = "rate_limit = \"off\"\ncreate_limit = \"off\"\nfailure_limit = \"off\"";

/// Operations that take larger bodies than the others, which take 1 MiB.
const LARGE: [&str; 15] = [
    "deployAgent",
    "writeAgentFiles",
    "createAgentVersion",
    "updateAgentVersion",
    "createSession",
    "sendMessage",
    "answerPermission",
    "writeFiles",
    "uploadWorkspace",
    "addAttachment",
    "addQueueItem",
    "uploadFile",
    "createEvalCase",
    "updateEvalCase",
    "importEvalCases",
];

/// Values of the query that are not what a schema describes.
fn out_of(schema: &Value) -> Vec<String> {
    let mut bad = Vec::new();
    if schema["type"] != "string" || schema.get("enum").is_some() || schema.get("format").is_some() {
        bad.push("x-y".to_owned());
    }
    for (bound, step) in [("minimum", -1), ("maximum", 1)] {
        bad.extend(schema[bound].as_i64().map(|bound| (bound + step).to_string()));
    }
    bad
}

fn excerpt(answer: &Response) -> String {
    answer.text().chars().take(600).collect()
}

fn archive() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let text = b"You are a test agent.\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "CLAUDE.md", &text[..]).expect("appends");
    archive.into_inner().expect("an archive")
}

/// Operations that make what others need, in their order.
const FIRST: [&str; 18] = [
    "deployAgent",
    "writeAgentFiles",
    "createAgentVersion",
    "createEvalCase",
    "startEvalRun",
    "getEvalRunResults",
    "createCredential",
    "createKey",
    "createSchedule",
    "createWebhook",
    "testWebhook",
    "createSession",
    "sendMessage",
    "addAttachment",
    "uploadFile",
    "getFileUrl",
    "addQueueItem",
    "getQueueItem",
];

/// Operations in an order in which each finds what it needs: those that make things first, those that
/// take away last.
fn rank(id: &str) -> usize {
    // An answer may hold for the rest of the session, which then asks no more.
    const LAST: [&str; 23] = [
        "listPermissions",
        "getPermission",
        "interruptSession",
        "cancelTurn",
        "answerPermission",
        "writeFiles",
        "uploadWorkspace",
        "takeSnapshot",
        "forkSession",
        "rewindSession",
        "pauseSession",
        "resumeSession",
        "stopSession",
        "endSession",
        "revokeKey",
        "deleteCredential",
        "deleteAttachment",
        "deleteProjectFile",
        "deleteAgentVersion",
        "deleteSchedule",
        "deleteEvalCase",
        "deleteWebhook",
        "cancelQueueItem",
    ];
    match (FIRST.iter().position(|first| *first == id), LAST.iter().position(|last| *last == id)) {
        (Some(at), _) => at,
        (None, Some(at)) => FIRST.len() + 1 + at,
        (None, None) if id == "deleteAgent" => usize::MAX,
        (None, None) => FIRST.len(),
    }
}

#[test]
fn a_daemon_does_and_refuses_what_the_document_says() {
    let settings = format!("[http]\n{UNLIMITED}\n{}", life::UNDISTURBED);
    let Some((_model, daemon)) = life::start(&settings) else { return };
    let document = daemon.get("/docs/json").json();
    let mut operations = operations(&document);
    operations.sort_by_key(|operation| rank(operation.id));
    let key = daemon.send("POST", "/api/api-keys", &json!({})).json()["key"].as_str().expect("a key").to_owned();
    let bearer = format!("Bearer {key}");
    let ids = [("name", "helper"), ("path", "CLAUDE.md")].map(|(name, value)| (name, value.to_owned())).into();
    let mut walker =
        Walker { document: &document, daemon: &daemon, ids, snapshot: json!(0), seen: BTreeSet::new(), faults: Vec::new() };
    for operation in &operations {
        // Both agent and session have this one; what is deleted is another.
        let is_deleted = operation.method == "DELETE" && operation.path.ends_with("path}");
        let path = if is_deleted { "gone" } else { "CLAUDE.md" };
        walker.ids.insert("path", path.to_owned());
        if path == "gone" {
            let folder = walker.path(operation).replace("/gone", "");
            let written = daemon.send("POST", &folder, &json!({"files": [{"path": "gone", "content": ""}]}));
            assert!(written.ok_status(), "{}", written.text());
        }
        walker.succeed(operation);
    }
    let done: BTreeSet<_> = walker.seen.iter().filter(|(_, status)| *status < 300).map(|(id, _)| id.as_str()).collect();
    assert_eq!(done.len(), operations.len() - 1, "each was carried out, but for the WebSocket");
    // Again things to refuse something about, as the last operations took them away.
    for id in FIRST {
        let operation = operations.iter().find(|operation| operation.id == id).expect(id);
        walker.succeed(operation);
    }
    let _open = walker.wait_for_permission();
    for operation in &operations {
        walker.provoke(operation, &bearer);
    }
    assert!(walker.faults.is_empty(), "{:#?}\n{}", walker.faults, daemon.log());
    let statuses: BTreeMap<u16, usize> = walker.seen.iter().fold(BTreeMap::new(), |mut counts, (_, status)| {
        *counts.entry(*status).or_default() += 1;
        counts
    });
    eprintln!("{} operations; how many gave which status: {statuses:?}", operations.len());
}

#[test]
fn methods_that_a_path_has_not_are_405() {
    let Some((_model, daemon)) = life::start("") else { return };
    let document = openapi::document();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let mut wanted: BTreeSet<_> = item.as_object().expect("methods").keys().map(|method| method.to_uppercase()).collect();
        if wanted.contains("GET") {
            wanted.insert("HEAD".to_owned());
        }
        let filled = path.replace(['{', '}'], "");
        let answer = http::request(&daemon.control(), "OPTIONS", &filled, &[], None);
        assert_eq!(answer.status, 405, "{path}: {}", answer.text());
        let head = answer.head.to_ascii_lowercase();
        let allow = head.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap_or_else(|| panic!("{path}: {head}"));
        let allowed: BTreeSet<_> = allow.split(',').map(|method| method.trim().to_uppercase()).collect();
        assert_eq!(allowed, wanted, "{path}: left: the router; right: the document");
        let problem = json!({"$ref": "#/components/schemas/Problem"});
        assert_eq!(faults(&document, &problem, &answer.json()), [""; 0]);
    }
    assert!(Path::new(FILE).exists());
}
