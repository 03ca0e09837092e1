//! Credentials that are bound to hosts, with real programs inside and TLS servers on this host's loopback,
//! which is opened as an operator would.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ash::link::shim::{Binding, Egress, EgressLimits, EndState, Gateway, Setup};
use ash::wire::egress::{EgressEvent, Verdict};
use ash::wire::event::Kind;

use crate::support::{Daemon, Host, Shim, until};
use crate::tls::{Certificate, Server};

/// What must never be seen inside.
const VALUE: &str = "sk-bound-canary-0123456789";
/// Finds it without being it.
const PATTERN: &str = "'sk-bound-canary-012345678[9]'";

fn binding(name: &str, port: u16, header: &str, value: Option<&str>) -> Binding {
    let value = value.map(|value| if header == "authorization" { format!("Bearer {value}") } else { value.to_owned() });
    Binding { name: name.to_owned(), host: format!("localhost:{port}"), header: header.to_owned(), value }
}

fn egress(private: &[&str], bound: &[&str]) -> Egress {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Egress {
        allow: Vec::new(),
        bound: texts(bound),
        said: String::new(),
        private: texts(private),
        limits: EgressLimits::default(),
    }
}

/// A shim that trusts these certificates.
fn shim(host: &Host, trusted: &[&Certificate]) -> Shim {
    let file = Certificate::trust(host.dir.path(), trusted);
    host.shim_with(|command| _ = command.env("SSL_CERT_FILE", file))
}

async fn ready(host: &Host, shim: &Shim, egress: Egress, bindings: Vec<Binding>) -> Daemon {
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    daemon.open(host).await.expect("opened");
    let setup = host.setup("http://127.0.0.1:1");
    let gateway = Gateway { bindings, ..setup.gateway };
    daemon.setup(Setup { egress, gateway, ..setup }).await.expect("set up");
    daemon
}

/// Runs commands inside and gives back what they put out.
async fn inside(host: &Host, daemon: &mut Daemon, commands: &str) -> String {
    std::fs::write(host.path("state/workspace/commands"), commands).expect("written");
    let (_, end) = daemon.turn("run: bash /work/commands").await;
    assert_eq!(end.state, EndState::Completed, "{commands}: {end:?}");
    host.out()
}

/// A server without TLS, and what it was told.
fn plain_server() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let told = Arc::<Mutex<Vec<u8>>>::default();
    let kept = told.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut buffer = [0; 4096];
            // A client that goes away is no failure of the server.
            let count = stream.read(&mut buffer).unwrap_or(0);
            kept.lock().expect("whole").extend_from_slice(&buffer[..count]);
            let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (port, told)
}

fn holds(folder: &Path, text: &str) -> Vec<String> {
    let output = std::process::Command::new("grep").args(["-rlaF", "--", text]).arg(folder).output().expect("grep starts");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_bound_credential_goes_to_its_host_over_tls_and_is_nowhere_inside() {
    let host = Host::new();
    let make = |label: &str, name: &str| Certificate::make(host.dir.path(), label, name);
    let (good, wrong, unknown) = (make("good", "localhost"), make("wrong", "other.test"), make("unknown", "localhost"));
    let (server, misnamed, untrusted) = (Server::start(&good), Server::start(&wrong), Server::start(&unknown));
    let (plain_port, plain) = plain_server();
    let shim = shim(&host, &[&good, &wrong]);
    let bindings = vec![
        binding("API", server.port, "authorization", Some(VALUE)),
        binding("KEYED", server.port, "x-key", Some(VALUE)),
        binding("MISNAMED", misnamed.port, "authorization", Some(VALUE)),
        binding("UNTRUSTED", untrusted.port, "authorization", Some(VALUE)),
        binding("PLAIN", plain_port, "authorization", Some(VALUE)),
    ];
    let mut daemon = ready(&host, &shim, egress(&["127.0.0.1/32"], &["*:*"]), bindings).await;
    let out = inside(
        &host,
        &mut daemon,
        &format!(
            "echo \"$API $API_URL\"
             curl -sS -H 'Authorization: Bearer mine' -H 'AUTHORIZATION: also' \"$API_URL/v1/x?y=1\"
             curl -sS -H 'Connection: authorization, x-key' -H 'X-Key: mine' -d body $KEYED_URL
             curl -sS --path-as-is $API_URL/../KEYED//evil.test/x
             curl -sS -L -o /dev/null -w '%{{http_code}} %{{url_effective}}\\n' $API_URL/redirect/127.0.0.1:{plain_port}/caught"
        ),
    )
    .await;
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "placeholder-the-real-key-stays-outside http://127.0.0.1:4001/API");
    assert_eq!(lines[1..4], ["here is /v1/x?y=1", "here is /", "here is /../KEYED//evil.test/x"], "{out}");
    // The caller follows the redirect itself, by the proxy, which has no such host on its list.
    assert!(lines.last().is_some_and(|line| line.ends_with("/caught")), "{out}");
    let heard = server.take();
    assert_eq!(heard.matches(&format!("\r\nauthorization: Bearer {VALUE}\r\n")).count(), 3, "{heard}");
    assert_eq!(heard.matches(&format!("\r\nx-key: {VALUE}\r\n")).count(), 1, "{heard}");
    assert_eq!(heard.matches(&format!("\r\nhost: localhost:{}\r\n", server.port)).count(), 4, "{heard}");
    assert!(!heard.contains("mine") && !heard.contains("also"), "of the caller's own nothing is left: {heard}");

    let out = inside(
        &host,
        &mut daemon,
        &format!(
            "curl -sS $MISNAMED_URL/x
             curl -sS $UNTRUSTED_URL/x
             curl -sS $PLAIN_URL/x
             curl -sS -X TRACE $API_URL/x
             curl -sS -H 'Host: evil.test' $API_URL/x
             curl -sS --request-target http://evil.test/API/x $API_URL
             curl -sS --request-target http://127.0.0.1:4001/API/x $API_URL
             curl -sS --noproxy '' http://localhost:{0}/API/x
             curl -sS --noproxy '' https://localhost:{0}/x 2>&1
             curl -sS http://127.0.0.1:4001/NOBODY/x
             exec 3<>/dev/tcp/127.0.0.1/4001
             printf 'POST /API/one HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nContent-Length: 60\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\nGET /smuggled HTTP/1.1\\r\\nHost: evil.test\\r\\nConnection: close\\r\\n\\r\\n' >&3
             timeout 20 cat <&3",
            server.port
        ),
    )
    .await;
    let lines: Vec<_> = out.lines().collect();
    for (line, said) in [
        (0, "gets no credential: "),
        (1, "gets no credential: "),
        (2, "gets no credential: "),
        (3, "TRACE would show the credential"),
        (4, "the request's Host is \"evil.test\""),
        (5, "egress to evil.test:80 is not allowed"),
        (6, "egress to 127.0.0.1:4001 is not allowed"),
        (7, "is not allowed by this agent's policy"),
        (8, "curl: "),
        (9, "this is a proxy"),
    ] {
        assert!(lines[line].contains(said), "{line}: {said}: {out}");
    }
    assert!(!out.contains("here is /smuggled"), "{out}");
    let heard = server.take();
    let asked: Vec<_> = heard.lines().filter(|line| line.contains(" HTTP/1.1")).collect();
    assert!(asked.iter().all(|line| *line == "POST /one HTTP/1.1"), "{heard}");
    assert!(!heard.contains("smuggled") && !heard.contains("evil.test"), "{heard}");
    assert_eq!(misnamed.heard() + &untrusted.heard(), "");
    let told = String::from_utf8_lossy(&plain.lock().expect("whole")).into_owned();
    assert!(!told.is_empty() && !told.contains("canary") && !told.contains("HTTP"), "a ClientHello alone: {told:?}");

    let found = inside(
        &host,
        &mut daemon,
        &format!(
            "for p in /proc/[0-9]*; do grep -aq {PATTERN} $p/environ $p/cmdline && echo found in $p; done 2>/dev/null
             grep -rqa {PATTERN} /etc /run /home /tmp /work /dev/shm 2>/dev/null && echo found in a file
             echo searched"
        ),
    )
    .await;
    assert_eq!(found, "searched\n");
    assert!(!shim.log().contains(VALUE), "in the log");
    assert!(!format!("{:?}", daemon.events).contains(VALUE), "in the events");
    assert_eq!(holds(&host.path("state"), VALUE), Vec::<String>::new());
    let told = daemon.events.iter().filter(|event| event.kind == Kind::Egress);
    let told: Vec<EgressEvent> = told.map(|event| serde_json::from_str(event.data.get()).expect("an egress event")).collect();
    assert!(told.iter().any(|event| event.verdict == Verdict::Allowed && event.port == Some(server.port)), "{told:?}");
}

#[tokio::test]
async fn another_value_counts_with_the_next_call_and_none_refuses_it() {
    let host = Host::new();
    let good = Certificate::make(host.dir.path(), "good", "localhost");
    let server = Server::start(&good);
    let shim = shim(&host, &[&good]);
    let of = |value| vec![binding("API", server.port, "x-key", value)];
    let mut daemon = ready(&host, &shim, egress(&["127.0.0.1/32"], &["*:*"]), of(Some("first"))).await;
    let gateway = |bindings| Gateway { bindings, ..host.setup("http://127.0.0.1:1").gateway };
    // One connection inside, by which all is asked.
    std::fs::write(
        host.path("state/workspace/ask.py"),
        "import http.client, os, time
c = http.client.HTTPConnection('127.0.0.1', 4001)
for n in range(3):
    while not os.path.exists(f'/work/go{n}'): time.sleep(0.01)
    c.request('GET', f'/API/{n}')
    answer = c.getresponse()
    print(answer.status, answer.read().decode().strip(), flush=True)
    open(f'/work/done{n}', 'w').close()
",
    )
    .expect("written");
    std::fs::write(host.path("state/workspace/commands"), "python3 /work/ask.py").expect("written");
    let turn = daemon.begin("run: bash /work/commands").await;
    let step = async |n: u32| {
        std::fs::write(host.path(&format!("state/workspace/go{n}")), "").expect("written");
        until("it is answered", || host.path(&format!("state/workspace/done{n}")).exists().then_some(())).await;
    };
    step(0).await;
    daemon.gateway(gateway(of(Some("second")))).await.expect("taken");
    step(1).await;
    daemon.gateway(gateway(of(None))).await.expect("taken");
    step(2).await;
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
    let out = host.out();
    let wanted = "200 here is /0\n200 here is /1\n401 Ash: the credential API was deleted, so no call leaves with it\n";
    assert_eq!(out, wanted);
    let heard = server.take();
    let values: Vec<_> = heard.lines().filter_map(|line| line.strip_prefix("x-key: ")).collect();
    assert_eq!(values, ["first", "second"], "{heard}");

    // What is open by a binding that goes is cut.
    daemon.gateway(gateway(of(Some("third")))).await.expect("taken");
    std::fs::write(
        host.path("state/workspace/commands"),
        "curl -sSf -o /dev/null $API_URL/hold 2>&1 || echo cut\ncurl -sS $API_URL/x",
    )
    .expect("written");
    let turn = daemon.begin("run: bash /work/commands").await;
    until("the server is asked", || server.heard().contains("/hold").then_some(())).await;
    daemon.egress(egress(&["127.0.0.1/32"], &["*:*"])).await.expect("another list leaves it");
    daemon.gateway(gateway(Vec::new())).await.expect("taken");
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
    let out = host.out();
    assert!(out.contains("cut\n") && out.ends_with("this is a proxy: ask for http://host/path, or CONNECT host:port\n"), "{out}");
}

#[tokio::test]
async fn the_operators_bounds_hold_for_bound_credentials_too() {
    let host = Host::new();
    let good = Certificate::make(host.dir.path(), "good", "localhost");
    let server = Server::start(&good);
    let shim = shim(&host, &[&good]);
    let bindings = vec![binding("API", server.port, "authorization", Some(VALUE))];
    let mut daemon = ready(&host, &shim, egress(&[], &["*:*"]), bindings).await;
    let out = inside(&host, &mut daemon, "curl -sS $API_URL/x").await;
    assert!(out.contains("leads to 127.0.0.1, a loopback address") || out.contains("leads to ::1"), "{out}");
    daemon.egress(egress(&["127.0.0.1/32"], &["*.example.com"])).await.expect("changed");
    let out = inside(&host, &mut daemon, "curl -sS $API_URL/x").await;
    assert!(out.contains("it is beyond what the operator of this host allows"), "{out}");
    daemon.egress(egress(&["127.0.0.1/32"], &["*:*"])).await.expect("changed");
    assert_eq!(inside(&host, &mut daemon, "curl -sS $API_URL/x").await, "here is /x\n");
}
