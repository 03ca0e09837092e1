//! The egress proxy with real programs inside: what the policy allows passes, and nothing else does.
//!
//! What stands for the network is on this host's loopback, opened as an operator would: 127.0.0.2 is
//! asked for by number, `localhost` by name, which the host's own resolver looks up.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use ash::link::shim::{Egress, EgressLimits, EndState, Setup, ToShim};
use ash::wire::egress::{EgressEvent, Verdict};
use ash::wire::event::Kind;

use crate::support::{Daemon, Host, Shim, until};

/// A server of HTTP that says what it was asked for. `/big` is a mebibyte, `/hold` never ends, and
/// what is no HTTP is only kept.
struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    fn start(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let kept = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = kept.clone();
                // A client that goes away is no failure of the server.
                std::thread::spawn(move || answer(stream, &kept).is_ok());
            }
        });
        Self { port, heard }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().expect("whole")).into_owned()
    }
}

fn answer(mut stream: TcpStream, kept: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut buffer)?;
        kept.lock().expect("whole").extend_from_slice(&buffer[..count]);
        if count == 0 {
            return Ok(());
        }
        head.extend_from_slice(&buffer[..count]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let body = match path {
        "/big" => "x".repeat(1 << 20),
        _ => format!("here is {path}\n"),
    };
    let length = if path == "/hold" { 1 << 20 } else { body.len() };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")?;
    if path == "/hold" {
        let _end = stream.read(&mut buffer)?;
    }
    Ok(())
}

fn egress(allow: &[String]) -> Egress {
    Egress {
        allow: allow.to_vec(),
        bound: vec!["*:*".to_owned()],
        said: allow.join(", "),
        private: vec!["127.0.0.1/32".to_owned(), "127.0.0.2/32".to_owned()],
        limits: EgressLimits::default(),
    }
}

async fn ready(host: &Host, shim: &Shim, egress: Egress) -> Daemon {
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    daemon.open(host).await.expect("opened");
    daemon.setup(Setup { egress, ..host.setup("http://127.0.0.1:1") }).await.expect("set up");
    daemon
}

/// Runs commands inside and gives back what they put out.
async fn inside(host: &Host, daemon: &mut Daemon, commands: &str) -> String {
    std::fs::write(host.path("state/workspace/commands"), commands).expect("written");
    let (_, end) = daemon.turn("run: bash /work/commands").await;
    assert_eq!(end.state, EndState::Completed, "{commands}: {end:?}");
    host.out()
}

fn told(daemon: &Daemon) -> Vec<EgressEvent> {
    let events = daemon.events.iter().filter(|event| event.kind == Kind::Egress);
    events.map(|event| serde_json::from_str(event.data.get()).expect("an egress event")).collect()
}

#[tokio::test]
async fn what_is_allowed_passes_by_any_way_and_the_rest_is_refused_with_the_sentence() {
    let (host, server, other) = (Host::new(), Server::start("127.0.0.2"), Server::start("127.0.0.1"));
    let shim = host.shim();
    let port = server.port;
    let allow = [format!("127.0.0.2:{port}"), format!("localhost:{}", other.port)];
    let mut daemon = ready(&host, &shim, egress(&allow)).await;
    let by_name = format!("http://localhost:{}", other.port);
    let commands = format!(
        "curl -sS http://127.0.0.2:{port}/plain
         curl -sS --proxytunnel http://127.0.0.2:{port}/tunnel
         curl -sS --noproxy '' {by_name}/name
         curl -sS --noproxy '' --socks5-hostname 127.0.0.1:4001 {by_name}/socks
         python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.2:{port}/python\").read().decode(), end=\"\")'"
    );
    let out = inside(&host, &mut daemon, &commands).await;
    let wanted = ["plain", "tunnel", "name", "socks", "python"].map(|path| format!("here is /{path}\n")).concat();
    assert_eq!(out, wanted);
    assert!(told(&daemon).iter().all(|event| event.verdict == Verdict::Allowed), "{:?}", told(&daemon));

    let commands = format!(
        "curl -sS http://example.com/
         curl -sSv https://example.com/ 2>&1 | grep -o '403 .*' | head -n 1 | tr -d '\\r'
         curl -sS http://127.0.0.1:{0}/ --noproxy ''
         curl -sS http://[::ffff:127.0.0.2]:{port}/
         curl -sS --request-target 'http://0x7f000002:{port}/' http://127.0.0.2:{port}/
         curl -sS -H 'Host: evil.example' http://127.0.0.2:{port}/
         curl -sS --noproxy '*' --max-time 10 http://127.0.0.2:{port}/ 2>&1
         getent hosts example.com || echo no resolver",
        other.port
    );
    let out = inside(&host, &mut daemon, &commands).await;
    let lines: Vec<_> = out.lines().collect();
    let allowed = allow.join(", ");
    assert_eq!(lines[0], format!("Ash: egress to example.com:80 is not allowed by this agent's policy (allowed: {allowed})"));
    assert_eq!(
        lines[1],
        format!("403 Ash: egress to example.com:443 is not allowed by this agent's policy (allowed: {allowed})")
    );
    assert!(lines[2].contains(&format!("egress to 127.0.0.1:{} is not allowed", other.port)), "{out}");
    assert!(lines[3].contains(&format!("egress to [::ffff:127.0.0.2]:{port} is not allowed")), "{out}");
    assert!(lines[4].contains("ends in a number"), "{out}");
    assert!(lines[5].contains("the request's Host is \"evil.example\""), "{out}");
    assert!(lines[6].starts_with("curl: (7)"), "without the proxy there is no network: {out}");
    assert_eq!(lines[7], "no resolver");
    assert!(!server.heard().contains("evil.example"));

    let denied = told(&daemon).into_iter().find(|event| event.host == "example.com" && event.port == Some(443)).expect("told");
    assert_eq!((denied.verdict, denied.count), (Verdict::Denied, 1));
    assert!(denied.reason.is_some_and(|reason| lines[1].ends_with(&reason)));
    let turn = daemon.events.iter().find(|event| event.kind == Kind::Egress).and_then(|event| event.turn);
    assert!(turn.is_some(), "of the turn that did it");
}

#[tokio::test]
async fn tls_for_another_name_ends_before_the_server_hears_of_it() {
    let (host, server) = (Host::new(), Server::start("127.0.0.1"));
    let shim = host.shim();
    let mut daemon = ready(&host, &shim, egress(&[format!("localhost:{}", server.port)])).await;
    let script = format!(
        "import socket, ssl, sys
def tls(name):
    s = socket.create_connection(('127.0.0.1', 4001))
    s.sendall(b'CONNECT localhost:{0} HTTP/1.1\\r\\nHost: localhost:{0}\\r\\n\\r\\n')
    assert s.recv(4096).startswith(b'HTTP/1.1 200 '), name
    context = ssl._create_unverified_context()
    s.settimeout(float(sys.argv[1]))
    try:
        context.wrap_socket(s, server_hostname=name)
    except Exception as error:
        print(name, type(error).__name__, 'access denied' in str(error).lower().replace('_', ' '))
",
        server.port
    );
    std::fs::write(host.path("state/workspace/tls.py"), format!("{script}tls('evil.example')\ntls(None)\n")).expect("written");
    let out = inside(&host, &mut daemon, "python3 /work/tls.py 30").await;
    assert_eq!(out.lines().filter(|line| line.ends_with("True")).count(), 2, "{out}");
    assert_eq!(server.heard(), "");
    let said = told(&daemon).into_iter().filter_map(|event| event.reason).collect::<Vec<_>>();
    assert!(said.iter().any(|said| said.ends_with("its TLS is for \"evil.example\"")), "{said:?}");
    // The server does not answer, so the client gives up; but its words went through.
    std::fs::write(host.path("state/workspace/tls.py"), format!("{script}tls('localhost')\n")).expect("written");
    inside(&host, &mut daemon, "python3 /work/tls.py 0.5").await;
    assert!(until("the server hears it", || Some(server.heard()).filter(|heard| !heard.is_empty())).await.contains("localhost"));
}

#[tokio::test]
async fn what_is_removed_is_cut_while_it_runs() {
    let (host, server) = (Host::new(), Server::start("127.0.0.2"));
    let shim = host.shim();
    let allow = [format!("127.0.0.2:{}", server.port)];
    let mut daemon = ready(&host, &shim, egress(&allow)).await;
    std::fs::write(
        host.path("state/workspace/commands"),
        format!(
            "curl -sSf -o /dev/null http://127.0.0.2:{0}/hold 2>&1 || echo cut
             curl -sS http://127.0.0.2:{0}/after",
            server.port
        ),
    )
    .expect("written");
    let turn = daemon.begin("run: bash /work/commands").await;
    until("the server is asked", || server.heard().contains("/hold").then_some(())).await;
    daemon.egress(egress(&[])).await.expect("changed");
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
    let out = host.out();
    assert!(out.contains("cut\n") && out.contains("is not allowed by this agent's policy (allowed: nothing)"), "{out}");
    daemon.egress(egress(&allow)).await.expect("changed");
    let out = inside(&host, &mut daemon, &format!("curl -sS http://127.0.0.2:{}/back", server.port)).await;
    assert_eq!(out, "here is /back\n");
}

#[tokio::test]
async fn a_hundred_connections_at_once_are_served_beside_one_that_says_nothing() {
    let (host, server) = (Host::new(), Server::start("127.0.0.2"));
    let shim = host.shim();
    let mut settings = egress(&[format!("127.0.0.2:{}", server.port)]);
    settings.limits.connections = 16;
    let mut daemon = ready(&host, &shim, settings).await;
    let commands = format!(
        "exec 3<>/dev/tcp/127.0.0.1/4001
         seq 100 | xargs -P 100 -I@ curl -sS -o /dev/null -w '%{{http_code}}\\n' http://127.0.0.2:{}/@ | sort | uniq -c",
        server.port
    );
    assert_eq!(inside(&host, &mut daemon, &commands).await.trim(), "100 200");
}

#[tokio::test]
async fn bytes_are_counted_and_what_is_tried_again_and_again_is_told_once() {
    let (host, server) = (Host::new(), Server::start("127.0.0.2"));
    let shim = host.shim();
    let mut settings = egress(&[format!("127.0.0.2:{}", server.port)]);
    settings.limits.bytes = 100_000;
    let mut daemon = ready(&host, &shim, settings).await;
    let commands = format!(
        "curl -sS -o /work/got http://127.0.0.2:{0}/big 2>&1
         wc -c < /work/got
         curl -sS http://127.0.0.2:{0}/more
         for n in $(seq 20); do curl -s -o /dev/null http://example.com/; done",
        server.port
    );
    let out = inside(&host, &mut daemon, &commands).await;
    let lines: Vec<_> = out.lines().collect();
    let got: u64 = lines[1].parse().expect("a number");
    assert!(got < 400_000, "what was on the way may have come, no more: {out}");
    assert!(lines[2].ends_with("this sandbox has used up its 100000 bytes"), "{out}");
    let of = |daemon: &Daemon| {
        told(daemon).iter().filter(|event| event.host == "example.com").map(|event| event.count).collect::<Vec<_>>()
    };
    assert_eq!(of(&daemon), [1]);
    // What was folded is told at the latest when the sandbox ends.
    daemon.send(&ToShim::Stop).await;
    daemon.event("the rest", |event| event.kind == Kind::Egress && event.data.get().contains(r#""count":19"#)).await;
    assert_eq!(of(&daemon), [1, 19]);
}
