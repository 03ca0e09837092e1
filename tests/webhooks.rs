//! Webhooks: what a receiver gets, in which order, and what becomes of it when it or the daemon fails.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::http::Response;
use support::tls::{Certificate, Server};
use support::{Daemon, Model, life, wait_for};

const ALLOWED: &str = "[webhooks]\nallow_private = [\"127.0.0.1/32\"]\nallow_http = true\nmax = 3\n";
const TURNS: [&str; 3] = ["turn.queued", "turn.started", "turn.ended"];

/// A request that came.
#[derive(Debug, Clone)]
struct Got {
    head: String,
    body: Vec<u8>,
    answered: u16,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{name} is in\n{}", self.head))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn kind(&self) -> String {
        self.json()["type"].as_str().expect("a type").to_owned()
    }

    fn session(&self) -> String {
        self.json()["data"]["sessionId"].as_str().unwrap_or_default().to_owned()
    }

    fn sequence(&self) -> i64 {
        self.json()["data"]["event"]["sequence"].as_i64().expect("a number")
    }

    /// HMAC-SHA256 (RFC 2104) as Standard Webhooks want it, written down once more.
    fn is_signed_with(&self, secret: &str) -> bool {
        let mut key = STANDARD.decode(secret.strip_prefix("whsec_").expect("marked")).expect("base64");
        key.resize(64, 0);
        let pad = |with: u8| key.iter().map(|byte| byte ^ with).collect::<Vec<_>>();
        let signed = format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp"));
        let inner = Sha256::digest([&pad(0x36)[..], signed.as_bytes(), &self.body].concat());
        let sum = Sha256::digest([&pad(0x5c)[..], &inner].concat());
        self.header("webhook-signature") == format!("v1,{}", STANDARD.encode(sum))
    }
}

type Answer = Box<dyn FnMut(&Got, &[Got]) -> u16 + Send>;

/// A receiver, which answers as a test says.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let url = format!("http://{}/hook?a=b", listener.local_addr().expect("an address"));
        let got = Arc::new(Mutex::new(Vec::new()));
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(|_, _| 204)));
        let (all, how) = (got.clone(), answer.clone());
        // It ends with the test program, as its listener does.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (all, how) = (all.clone(), how.clone());
                std::thread::spawn(move || serve(stream, &all, &how));
            }
        });
        Self { url, got, answer }
    }

    fn answers(&self, answer: impl FnMut(&Got, &[Got]) -> u16 + Send + 'static) {
        *self.answer.lock().expect("whole") = Box::new(answer);
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().expect("whole").clone()
    }

    /// Waits until so many of a kind were taken.
    fn wait(&self, kind: &str, count: usize) -> Vec<Got> {
        wait_for(&format!("{count} × {kind} came"), || {
            let got = self.got();
            let taken = got.iter().filter(|one| one.kind() == kind && one.answered < 300).count();
            (taken >= count).then_some(got)
        })
    }
}

fn serve(stream: TcpStream, all: &Mutex<Vec<Got>>, how: &Mutex<Answer>) -> Option<()> {
    let (mut reader, mut stream) = (BufReader::new(stream.try_clone().ok()?), stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.replace("\r\n", "\n");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut got = Got { head, body, answered: 0 };
    let status = {
        let mut all = all.lock().expect("whole");
        got.answered = how.lock().expect("whole")(&got, &all);
        all.push(got.clone());
        got.answered
    };
    let location = if status == 302 { "location: /elsewhere\r\n" } else { "" };
    write!(stream, "HTTP/1.1 {status} Any\r\n{location}content-length: 0\r\n\r\n").ok()
}

fn make(daemon: &Daemon, url: &str, events: &[&str]) -> (String, String) {
    let answer = daemon.send("POST", "/api/webhooks", &json!({"url": url, "events": events}));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (text(&answer.json()["webhook"]["id"]), text(&answer.json()["secret"]))
}

fn show(daemon: &Daemon, id: &str) -> Value {
    daemon.get(&format!("/api/webhooks/{id}")).json()["webhook"].clone()
}

fn deliveries(daemon: &Daemon, id: &str) -> Vec<Value> {
    daemon.get(&format!("/api/webhooks/{id}/deliveries?limit=1000")).json()["deliveries"].as_array().expect("a list").clone()
}

/// What was taken of a session, each event once: kinds in the order in which they came first.
fn told(got: &[Got], session: &str) -> Vec<String> {
    let (mut kinds, mut newest) = (Vec::new(), 0);
    for one in got.iter().filter(|one| one.session() == session && one.answered < 300) {
        if one.sequence() > newest {
            (newest, _) = (one.sequence(), kinds.push(one.kind()));
        }
    }
    kinds
}

#[test]
fn events_come_signed_and_in_the_order_of_the_log() {
    let Some((_model, daemon)) = life::start(ALLOWED) else { return };
    let receiver = Receiver::start();
    let before = daemon.session();
    daemon.say(&before, "hello");
    let (id, secret) = make(&daemon, &receiver.url, &TURNS);
    daemon.say(&before, "hello");
    daemon.say(&before, "hello");
    let got = receiver.wait("turn.ended", 2);
    assert_eq!(told(&got, &before), [TURNS, TURNS].concat(), "from its making on");
    assert!(got.windows(2).all(|two| two[0].sequence() < two[1].sequence()), "each once");
    for one in &got {
        assert!(one.is_signed_with(&secret), "{}", one.head);
        assert!(one.head.starts_with("POST /hook?a=b HTTP/1.1\n"), "{}", one.head);
        assert!(one.header("user-agent").starts_with("Ash/"));
        let (body, at) = (one.json(), one.header("webhook-timestamp").parse::<i64>().expect("seconds"));
        assert_eq!((&body["data"]["agentName"], &body["data"]["event"]["sessionId"]), (&json!("test"), &json!(before)));
        assert_eq!(body["timestamp"], body["data"]["event"]["createdAt"]);
        assert!(at > 1_700_000_000, "{at}");
    }
    let ended: Value = serde_json::from_str(got.last().expect("some").json()["data"]["event"]["data"].as_str().expect("text"))
        .expect("the event's data is JSON text");
    assert_eq!(ended["state"], "completed");
    let rows = wait_for("all is noted", || Some(deliveries(&daemon, &id)).filter(|rows| rows.len() == 6));
    let numbers: Vec<_> = rows.iter().map(|row| row["id"].as_i64().expect("a number")).collect();
    assert!(numbers.is_sorted_by(|a, b| a > b), "newest first: {numbers:?}");
    assert!(rows.iter().all(|row| row["state"] == "delivered" && row["attempts"] == 1 && row["status"] == 204), "{rows:?}");
    let page = daemon.get(&format!("/api/webhooks/{id}/deliveries?limit=2&before={}", numbers[1])).json();
    assert_eq!(page["deliveries"], json!(rows[2..4]));

    let again = daemon.send("POST", &format!("/api/webhooks/{id}/deliveries/{}/redeliver", numbers[5]), &json!({}));
    assert_eq!(again.json()["delivery"]["attempts"], 2, "{}", again.text());
    let got = receiver.got();
    assert_eq!(got[6].header("webhook-id"), got[0].header("webhook-id"), "the same message");

    life::end(&daemon, &before);
    let (all, _) = make(&daemon, &receiver.url, &["session.status"]);
    let other = daemon.session();
    life::end(&daemon, &other);
    let got = receiver.wait("session.status", 2);
    assert_eq!(told(&got, &other).iter().filter(|kind| *kind == "session.status").count(), 2, "created and ended");
    let other_agent = json!({"agent": "another"});
    assert_eq!(daemon.send("PATCH", &format!("/api/webhooks/{all}"), &other_agent).json()["webhook"]["agent"], "another");
}

#[test]
fn an_event_that_went_with_its_session_is_not_sent_again_and_requests_are_counted() {
    let Some((_model, daemon)) = life::start(&format!("{ALLOWED}[retention]\nended_after = \"0s\"\n")) else { return };
    let receiver = Receiver::start();
    let (id, _) = make(&daemon, &receiver.url, &["turn.ended"]);
    let session = daemon.session();
    daemon.say(&session, "hello");
    receiver.wait("turn.ended", 1);
    let number = wait_for("it is noted", || deliveries(&daemon, &id).first().and_then(|row| row["id"].as_i64()));
    life::end(&daemon, &session);
    wait_for("the session is removed", || {
        daemon.send("POST", "/api/gc", &json!({}));
        (daemon.get(&format!("/api/sessions/{session}")).status == 404).then_some(())
    });
    let again = daemon.send("POST", &format!("/api/webhooks/{id}/deliveries/{number}/redeliver"), &json!({}));
    refused(&again, 404, "");
    assert_eq!(receiver.got().len(), 1, "nothing was sent");
    let text = daemon.get("/metrics").text();
    for line in ["ash_webhook_attempts_total{outcome=\"delivered\"} 1", "ash_webhook_attempt_seconds_count 1"] {
        assert!(text.lines().any(|is| is == line), "{line}\n{text}");
    }
}

#[test]
fn what_fails_is_sent_again_before_what_comes_after_it_and_holds_up_no_other_session() {
    let Some((_model, daemon)) = life::start(ALLOWED) else { return };
    let receiver = Receiver::start();
    let (fails, works) = (daemon.session(), daemon.session());
    let (id, _) = make(&daemon, &receiver.url, &TURNS);
    // The one fails until the other is through.
    let (first, second) = (fails.clone(), works.clone());
    receiver.answers(move |one, all| {
        let is_through = all.iter().any(|one| one.session() == second && one.kind() == "turn.ended");
        if one.session() == first && !is_through { if all.len() % 2 == 0 { 500 } else { 302 } } else { 200 }
    });
    daemon.say(&fails, "hello");
    wait_for("it failed", || receiver.got().iter().any(|one| one.answered >= 300).then_some(()));
    daemon.say(&works, "hello");
    let got = receiver.wait("turn.ended", 2);
    assert_eq!((told(&got, &fails), told(&got, &works)), (TURNS.map(str::to_owned).to_vec(), TURNS.map(str::to_owned).to_vec()));
    let tries: Vec<_> = got.iter().filter(|one| one.session() == fails && one.kind() == "turn.queued").collect();
    assert!(tries.len() > 1, "{}", tries.len());
    assert!(tries.iter().all(|one| one.header("webhook-id") == tries[0].header("webhook-id")), "the same message");
    assert!(!got.iter().any(|one| one.head.contains("/elsewhere")), "a redirect is not followed");
    let row = wait_for("all is noted", || {
        let rows = deliveries(&daemon, &id);
        let row = rows.iter().find(|row| row["sessionId"] == *fails && row["type"] == "turn.queued").cloned();
        row.filter(|row| row["state"] == "delivered")
    });
    assert_eq!((row["attempts"].as_u64(), &row["error"]), (Some(tries.len() as u64), &Value::Null));
    assert_eq!(show(&daemon, &id)["failingSince"], Value::Null);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_daemon_that_dies_between_loses_nothing_and_keeps_the_order() {
    let Some((_model, mut daemon)) = life::start(ALLOWED) else { return };
    let receiver = Receiver::start();
    let session = daemon.session();
    let (id, _) = make(&daemon, &receiver.url, &TURNS);
    for (turn, point) in ["webhook.sent", "webhook.noted"].into_iter().enumerate() {
        daemon.kill();
        daemon.set_env(vec![(ash::fault::VARIABLE, point.to_owned())]);
        daemon.run();
        // It may die before it answers.
        let _answer = daemon.send("POST", &format!("/api/sessions/{session}/messages"), &json!({"content": "hello"}));
        wait_for("the daemon dies", || daemon.has_ended().then_some(()));
        daemon.set_env(Vec::new());
        daemon.run();
        let got = wait_for("the turn's end came", || {
            let got = receiver.got();
            (told(&got, &session).iter().filter(|kind| *kind == "turn.ended").count() > turn).then_some(got)
        });
        assert_eq!(told(&got, &session), TURNS.repeat(turn + 1), "{point}");
        let ids = |one: &Got| (one.sequence(), one.header("webhook-id").to_owned());
        let mut sent: Vec<_> = got.iter().map(ids).collect();
        assert!(sent.is_sorted_by_key(|(sequence, _)| *sequence), "{point}: {sent:?}");
        sent.dedup();
        assert_eq!(sent.len(), 3 * (turn + 1), "{point}: what is sent again has its id");
        let is_noted = || deliveries(&daemon, &id).iter().filter(|row| row["state"] == "delivered").count() == sent.len();
        wait_for("all is noted", || is_noted().then_some(()));
    }
}

#[test]
fn a_receiver_that_is_gone_is_told_nothing_more_until_it_is_enabled() {
    let Some((_model, daemon)) = life::start(ALLOWED) else { return };
    let receiver = Receiver::start();
    let session = daemon.session();
    let (id, _) = make(&daemon, &receiver.url, &["turn.queued", "turn.ended"]);
    receiver.answers(|_, _| 410);
    daemon.say(&session, "hello");
    let hook = wait_for("it is disabled", || Some(show(&daemon, &id)).filter(|hook| hook["enabled"] == false));
    assert!(hook["disabledReason"].as_str().is_some_and(|reason| reason.contains("410")), "{hook}");
    receiver.answers(|_, _| 200);
    let change = |body: &Value| daemon.send("PATCH", &format!("/api/webhooks/{id}"), body).json()["webhook"].clone();
    let hook = change(&json!({"enabled": true}));
    assert_eq!((&hook["enabled"], &hook["disabledReason"]), (&json!(true), &Value::Null));
    daemon.say(&session, "hello");
    let got = receiver.wait("turn.ended", 1);
    assert_eq!(got.len(), 3, "one that was refused, and those of the second turn");
    assert_eq!(told(&got, &session), ["turn.queued", "turn.ended"]);

    // What can not be reached is tried anew, at once, when the address is another.
    assert_eq!(change(&json!({"url": "http://127.0.0.1:1/"}))["enabled"], true);
    daemon.say(&session, "hello");
    let pending =
        wait_for("it is pending", || deliveries(&daemon, &id).into_iter().find(|row| row["state"] == "pending"))["id"].clone();
    refused(&daemon.send("POST", &format!("/api/webhooks/{id}/deliveries/{pending}/redeliver"), &json!({})), 409, "");
    assert_eq!(change(&json!({"url": receiver.url}))["url"], receiver.url);
    assert_eq!(told(&receiver.wait("turn.ended", 2), &session), ["turn.queued", "turn.ended", "turn.queued", "turn.ended"]);
}

fn refused(answer: &Response, status: u16, field: &str) {
    let body = answer.json();
    assert_eq!(answer.status, status, "{body}");
    if !field.is_empty() {
        assert_eq!(body["details"][0]["field"], field, "{body}");
    }
}

#[test]
fn addresses_that_are_not_public_and_bad_fields_are_refused() {
    let model = Model::start();
    let daemon = Daemon::start(Path::new("/bin/true"), &model.url);
    let create = |url: &str| daemon.send("POST", "/api/webhooks", &json!({"url": url, "events": ["*"]}));
    for url in [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://localhost:8080/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest",
        "https://[::1]/",
        "https://[fd00:ec2::254]/",
        "https://user:secret@example.com/",
        "https://2130706433/",
        "file:///etc/passwd",
        "",
    ] {
        refused(&create(url), 400, "url");
    }
    let good = json!({"url": "https://192.0.2.1.example.invalid/", "events": ["turn.ended"]});
    for (field, wrong) in [
        ("events", json!([])),
        ("events[0]", json!(["turn.stolen"])),
        ("agent", json!("../x")),
        ("description", json!("a\nb")),
        ("uri", json!("x")),
    ] {
        let mut body = good.clone();
        body[field.split('[').next().expect("a name")] = wrong;
        refused(&daemon.send("POST", "/api/webhooks", &body), 400, if field == "uri" { "" } else { field });
    }
    let (id, _) = make(&daemon, "https://hook.example.invalid/", &["turn.ended"]);
    let path = format!("/api/webhooks/{id}");
    refused(&daemon.send("PATCH", &path, &json!({"url": "https://127.0.0.1/"})), 400, "url");
    refused(&daemon.get(&format!("{path}/deliveries?limit=0")), 400, "limit");
    assert_eq!(show(&daemon, &id)["url"], "https://hook.example.invalid/", "it is as it was");
    let test = daemon.send("POST", &format!("{path}/test"), &json!({})).json()["delivery"].clone();
    assert_eq!((&test["state"], &test["status"]), (&json!("failed"), &Value::Null));
    assert!(test["error"].as_str().is_some_and(|error| error.contains("looked up")), "{test}");
}

#[test]
fn tls_needs_a_certificate_for_the_name_that_the_host_trusts() {
    let (model, folder) = (Model::start(), tempfile::tempdir().expect("folder"));
    let certificate = |label, name| Certificate::make(folder.path(), label, name);
    let (good, other, unknown) =
        (certificate("good", "localhost"), certificate("other", "example.com"), certificate("unknown", "localhost"));
    let trusted = Certificate::trust(folder.path(), &[&good, &other]);
    let mut daemon = Daemon::start_with(Path::new("/bin/true"), &model.url, ALLOWED);
    daemon.stop();
    daemon.set_env(vec![("SSL_CERT_FILE", trusted.display().to_string())]);
    daemon.run();
    for (certificate, state) in [(&good, "delivered"), (&other, "failed"), (&unknown, "failed")] {
        let server = Server::start(certificate);
        let (id, _) = make(&daemon, &format!("https://localhost:{}/", server.port), &["turn.ended"]);
        let test = daemon.send("POST", &format!("/api/webhooks/{id}/test"), &json!({})).json()["delivery"].clone();
        assert_eq!(test["state"], state, "{test}");
        assert_eq!(server.heard().contains("webhook-signature: v1,"), state == "delivered", "{}", server.heard());
        assert!(state == "delivered" || test["error"].as_str().is_some_and(|error| error.contains("TLS")), "{test}");
    }
}

#[test]
fn a_webhook_is_of_its_tenant_bounded_in_number_and_its_secret_is_shown_once() {
    let model = Model::start();
    let mut daemon = Daemon::start_with(Path::new("/bin/true"), &model.url, ALLOWED);
    let receiver = Receiver::start();
    let (id, secret) = make(&daemon, &receiver.url, &["turn.ended"]);
    let path = format!("/api/webhooks/{id}");
    for text in [daemon.get(&path).text(), daemon.get("/api/webhooks").text()] {
        assert!(text.contains(&id) && !text.contains("whsec_") && !text.contains("\"secret\""), "{text}");
    }
    let test = daemon.send("POST", &format!("{path}/test"), &json!({})).json()["delivery"].clone();
    assert_eq!((&test["state"], &test["type"], &test["sessionId"]), (&json!("delivered"), &json!("webhook.test"), &Value::Null));
    let rotated = daemon.send("PATCH", &path, &json!({"rotateSecret": true})).json();
    let new = rotated["secret"].as_str().expect("a secret").to_owned();
    let again = format!("{path}/deliveries/{}/redeliver", test["id"]);
    assert_eq!(daemon.send("POST", &again, &json!({})).json()["delivery"]["state"], "delivered");
    let got = receiver.got();
    assert!(got[0].is_signed_with(&secret) && !got[0].is_signed_with(&new));
    assert!(got[1].is_signed_with(&new) && !got[1].is_signed_with(&secret));

    let bearer = daemon.bearer(&json!({"tenant": "other"}));
    let ask = |method: &str, path: &str| daemon.send_as(&bearer, method, path, (method != "GET").then_some(&json!({})));
    for (method, path) in [
        ("GET", path.clone()),
        ("PATCH", path.clone()),
        ("DELETE", path.clone()),
        ("POST", format!("{path}/test")),
        ("GET", format!("{path}/deliveries")),
        ("POST", again),
    ] {
        refused(&ask(method, &path), 404, "");
    }
    assert_eq!(ask("GET", "/api/webhooks").json(), json!({"webhooks": []}));

    make(&daemon, &receiver.url, &["*"]);
    make(&daemon, &receiver.url, &["*"]);
    refused(&daemon.send("POST", "/api/webhooks", &json!({"url": receiver.url, "events": ["*"]})), 409, "");
    assert_eq!(daemon.send("DELETE", &path, &json!({})).json(), json!({"ok": true}));
    refused(&daemon.get(&path), 404, "");
    let audit = daemon.get("/api/audit").text();
    for action in ["webhook.create", "webhook.change", "webhook.delete", "webhook.send"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
    daemon.stop();
    let kept = std::fs::read(daemon.data().join("ash.db")).expect("reads");
    for secret in [&secret, &new] {
        let secret = secret.strip_prefix("whsec_").expect("marked").as_bytes();
        assert!(!kept.windows(secret.len()).any(|window| window == secret), "it is sealed");
    }
    assert!(!daemon.log().contains("whsec_"), "nor is it in the journal");
}

#[test]
fn another_master_key_takes_over_the_secrets_of_webhooks() {
    let model = Model::start();
    let mut daemon = Daemon::start_with(Path::new("/bin/true"), &model.url, ALLOWED);
    let receiver = Receiver::start();
    let (id, secret) = make(&daemon, &receiver.url, &["turn.ended"]);
    let keys = daemon.master_keys();
    let (old, new) = (std::fs::read_to_string(&keys).expect("reads"), "A".repeat(42) + "E");
    for (text, resealed) in [(format!("{new}\n{old}"), 1), (new, 0)] {
        daemon.stop();
        std::fs::write(&keys, text).expect("writes");
        daemon.run();
        assert_eq!(daemon.send("POST", "/api/credentials/reseal", &json!({})).json()["webhooks"], resealed);
        let test = daemon.send("POST", &format!("/api/webhooks/{id}/test"), &json!({})).json();
        assert_eq!(test["delivery"]["state"], "delivered", "{test}");
    }
    assert!(receiver.got().iter().all(|one| one.is_signed_with(&secret)), "the secret is what it was");
}
