//! The proxy with real sockets on loopback, which a test opens as an operator would, and with names
//! of a table.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::hello::tests::{hello, real};
use super::*;
use crate::link::shim::EgressLimits;

mod hostile;

/// Reached only by a failing test.
const DEADLINE: Duration = Duration::from_secs(20);

/// Answers by name, one after the other; the last one stays.
#[derive(Debug, Clone, Default)]
struct Table(Arc<TableState>);

#[derive(Debug, Default)]
struct TableState {
    answers: Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>,
    asked: AtomicUsize,
}

impl Table {
    fn of(answers: &[(&str, &[&str])]) -> Self {
        let table = Self::default();
        for (name, addresses) in answers {
            let addresses = addresses.iter().map(|address| vec![address.parse().expect("an address")]);
            lock(&table.0.answers).insert((*name).to_owned(), addresses.collect());
        }
        table
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::Relaxed)
    }
}

impl Resolve for Table {
    fn look_up(&self, name: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let mut answers = lock(&self.0.answers);
        let answer = answers.get_mut(name).and_then(|answers| match answers.len() {
            0 | 1 => answers.front().cloned(),
            _ => answers.pop_front(),
        });
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }

    fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || address == IpAddr::from([9, 9, 9, 9])
    }
}

fn settings(allow: &[&str]) -> Settings {
    Settings {
        allow: allow.iter().map(|text| (*text).to_owned()).collect(),
        bound: vec!["*:*".to_owned()],
        said: allow.join(", "),
        private: vec!["127.0.0.1/32".to_owned()],
        limits: EgressLimits::default(),
    }
}

struct Proxy {
    egress: Egress,
    address: SocketAddr,
    notes: Arc<Mutex<Vec<Note>>>,
    table: Table,
}

/// A proxy for which `good.test` is 127.0.0.1.
async fn proxy(settings: &Settings) -> Proxy {
    proxy_with(settings, Table::of(&[("good.test", &["127.0.0.1"]), ("inner.test", &["127.0.0.2"])])).await
}

async fn proxy_with(settings: &Settings, table: Table) -> Proxy {
    let (egress, mut noted) = Egress::with_resolver(Box::new(table.clone()));
    egress.apply(settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(egress.clone().serve(listener));
    let notes = Arc::<Mutex<Vec<Note>>>::default();
    let kept = notes.clone();
    tokio::spawn(async move {
        while let Some(note) = noted.recv().await {
            lock(&kept).push(note);
        }
    });
    Proxy { egress, address, notes, table }
}

impl Proxy {
    async fn client(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// Asks for a tunnel; what the answer was.
    async fn tunnel(&self, target: &str) -> (TcpStream, String) {
        let mut client = self.client().await;
        client.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(DEADLINE, client.read_u8()).await.expect("in time");
            head.push(byte.unwrap_or_else(|_| panic!("cut: {}", String::from_utf8_lossy(&head))));
        }
        (client, String::from_utf8(head).expect("text"))
    }

    async fn open_tunnel(&self, target: &str) -> TcpStream {
        let (client, head) = self.tunnel(target).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        client
    }

    /// Sends a request as it is, and reads all that comes.
    async fn ask(&self, request: &str) -> String {
        let mut client = self.client().await;
        client.write_all(request.as_bytes()).await.expect("sent");
        String::from_utf8_lossy(&rest(&mut client).await).into_owned()
    }

    fn denied(&self) -> Vec<String> {
        lock(&self.notes).iter().filter_map(|note| note.reason.clone()).collect()
    }
}

/// All that comes until the end, in whatever way it ends.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    // A connection that is cut is at its end, too.
    let _cut = read.expect("it ends");
    bytes
}

/// A server that sends back what comes, and keeps it.
async fn echo() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heard = Arc::<Mutex<Vec<u8>>>::default();
    let kept = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    lock(&kept).extend_from_slice(&buffer[..count]);
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, heard)
}

/// A server of HTTP that answers with the request line and the Host of each request.
async fn web() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                let host = request.headers().get("host").map(|host| host.to_str().expect("text").to_owned());
                let text = format!("[{} {} {}]", request.method(), request.uri(), host.unwrap_or_default());
                Ok::<_, std::convert::Infallible>(hyper::Response::new(http_body_util::Full::<bytes::Bytes>::from(text)))
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    port
}

async fn assert_echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("sent");
    let mut back = vec![0; bytes.len()];
    timeout(DEADLINE, stream.read_exact(&mut back)).await.expect("in time").expect("echoed");
    assert_eq!(back, bytes);
}

#[tokio::test]
async fn what_is_allowed_passes_and_all_else_is_refused_with_the_sentence() {
    let (port, heard) = echo().await;
    let proxy = proxy(&settings(&["good.test:*", "inner.test", "127.0.0.1:1"])).await;
    let mut open = proxy.open_tunnel(&format!("GOOD.test.:{port}")).await;
    assert_echo(&mut open, b"\x00anything").await;
    let allowed = Note { verdict: Verdict::Allowed, host: "good.test".to_owned(), port: Some(port), reason: None };
    assert_eq!(*lock(&proxy.notes), [allowed]);
    drop(open);
    lock(&heard).clear();
    for (target, why) in [
        ("evil.test:443".to_owned(), "is not allowed by this agent's policy (allowed: good.test:*, inner.test, 127.0.0.1:1)"),
        (format!("127.0.0.1:{port}"), "is not allowed by this agent's policy"),
        (format!("[::1]:{port}"), "is not allowed by this agent's policy"),
        (format!("[::ffff:127.0.0.1]:{port}"), "is not allowed by this agent's policy"),
        (format!("2130706433:{port}"), "ends in a number"),
        (format!("0x7f.1:{port}"), "ends in a number"),
        (format!("127.0.0.1.:{port}"), "ends in a number"),
        (format!("good.test.evil.test:{port}"), "is not allowed by this agent's policy"),
        ("good.test:0".to_owned(), "is no port"),
        ("inner.test:443".to_owned(), "it leads to 127.0.0.2, a loopback address"),
    ] {
        let (mut client, head) = proxy.tunnel(&target).await;
        let status = head.lines().next().expect("a status line");
        assert!(status.starts_with("HTTP/1.1 403 Ash: egress to ") && status.contains(why), "{target}: {status}");
        let body = String::from_utf8(rest(&mut client).await).expect("text");
        assert!(status.ends_with(body.trim_end()), "{target}: {body}");
        assert_eq!(proxy.denied().last().map(String::as_str), Some(body.trim_end()), "{target}");
    }
    assert!(lock(&heard).is_empty());
    let (_, head) = proxy.tunnel(&format!("good.test:{}", closed_port().await)).await;
    assert!(head.starts_with("HTTP/1.1 502 Ash: good.test:"), "{head}");
}

async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port()
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_its_checked_address_is_the_one_that_counts() {
    let (port, _) = echo().await;
    let table = Table::of(&[("good.test", &["127.0.0.1", "127.0.0.2"])]);
    let proxy = proxy_with(&settings(&["good.test:*"]), table).await;
    let target = format!("good.test:{port}");
    let mut open = proxy.open_tunnel(&target).await;
    assert_eq!(proxy.table.asked(), 1);
    let (_, head) = proxy.tunnel(&target).await;
    assert!(head.contains("403") && head.contains("127.0.0.2, a loopback address"), "{head}");
    assert_echo(&mut open, b"\x00still").await;
    assert_eq!(proxy.table.asked(), 2);
}

#[tokio::test]
async fn an_address_of_this_host_is_not_reached_even_if_it_is_public() {
    let proxy = proxy_with(&settings(&["own.test"]), Table::of(&[("own.test", &["9.9.9.9"])])).await;
    let (_, head) = proxy.tunnel("own.test:443").await;
    assert!(head.contains("403") && head.contains("it leads to 9.9.9.9, an address of this host"), "{head}");
    assert!(lock(&proxy.notes).iter().all(|note| note.verdict == Verdict::Denied));
    // Also not by a range that has it, but by its address.
    for (private, is_refused) in [("9.9.0.0/16", true), ("9.9.9.9/32", false)] {
        proxy.egress.apply(&Settings { private: vec![private.to_owned()], ..settings(&["own.test"]) });
        let policy = proxy.egress.policy();
        let target = Target::parse("own.test:443", None).expect("a target");
        assert_eq!(proxy.egress.is_allowed(&policy, &target, "9.9.9.9".parse().expect("an address")), !is_refused, "{private}");
    }
    let host = OfHost(LookUps::new(1));
    assert!(host.is_own("127.0.0.1".parse().expect("an address")));
    assert!(host.is_own("127.9.9.9".parse().expect("an address")));
    assert!(!host.is_own("192.0.2.1".parse().expect("an address")));
}

#[tokio::test]
async fn tls_for_another_name_never_reaches_the_server() {
    let (port, heard) = echo().await;
    let proxy = proxy(&settings(&["good.test:*"])).await;
    let target = format!("good.test:{port}");
    for bytes in [real("evil.test"), hello(&[]), vec![22, 3, 1, 0, 0, 0]] {
        let mut client = proxy.open_tunnel(&target).await;
        client.write_all(&bytes).await.expect("sent");
        assert_eq!(rest(&mut client).await, [21, 3, 3, 0, 2, 2, 49], "an alert");
    }
    assert!(lock(&heard).is_empty());
    let said = proxy.denied();
    assert!(said[0].ends_with("is not allowed: its TLS is for \"evil.test\""), "{said:?}");
    assert!(said[1].ends_with("is not allowed: its TLS names no host"), "{said:?}");
    let bytes = real("good.test");
    let mut client = proxy.open_tunnel(&target).await;
    for piece in bytes.chunks(50) {
        client.write_all(piece).await.expect("sent");
        tokio::task::yield_now().await;
    }
    let mut back = vec![0; bytes.len()];
    timeout(DEADLINE, client.read_exact(&mut back)).await.expect("in time").expect("echoed");
    assert_eq!(back, bytes);
}

#[tokio::test]
async fn each_request_of_plain_http_is_for_the_target() {
    let port = web().await;
    let proxy = proxy(&settings(&["good.test:*"])).await;
    let good = format!("good.test:{port}");
    let get = |url: &str, host: &str| format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n");
    let close = "Connection: close\r\n\r\n";
    let answer = proxy.ask(&format!("{}{close}", get(&format!("http://{good}/a?b"), &good))).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with(&format!("[GET /a?b {good}]")), "{answer}");
    for (request, status) in [
        (get(&format!("http://{good}/"), "evil.test"), "HTTP/1.1 403 Ash: egress to good.test"),
        (get(&format!("http://{good}/"), &format!("{good}\r\nHost: {good}")), "HTTP/1.1 400 Ash: a request has one Host"),
        (get("http://evil.test/", "evil.test"), "HTTP/1.1 403 Ash: egress to evil.test:80 is not allowed by this agent's policy"),
        (get(&format!("http://evil@{good}/"), &good), "HTTP/1.1 403 Ash: egress to evil@good.test"),
        (get("http://2130706433/", "2130706433"), "HTTP/1.1 403 Ash: egress to 2130706433 is not allowed: it ends in a number"),
        (get(&format!("https://{good}/"), &good), "HTTP/1.1 400 Ash: ask for https:// by CONNECT"),
        (get("/", &good), "HTTP/1.1 400 Ash: this is a proxy"),
    ] {
        let answer = proxy.ask(&format!("{request}{close}")).await;
        assert!(answer.starts_with(status), "{request}: {answer}");
    }
    // Two at once: the second one is looked at like the first.
    let two = format!("{}\r\n{}{close}", get(&format!("http://{good}/1"), &good), get(&format!("http://{good}/2"), "evil.test"));
    let answer = proxy.ask(&two).await;
    assert!(answer.contains("[GET /1 ") && answer.contains("HTTP/1.1 403 Ash: "), "{answer}");
    assert!(!answer.contains("[GET /2"), "{answer}");
    // And within a tunnel.
    let mut tunnel = proxy.open_tunnel(&good).await;
    let two = format!("{}\r\n{}{close}", get("/1", &good), get("/2", "evil.test"));
    tunnel.write_all(two.as_bytes()).await.expect("sent");
    let answer = String::from_utf8(rest(&mut tunnel).await).expect("text");
    assert!(answer.contains(&format!("[GET /1 {good}]")) && answer.contains("HTTP/1.1 403 Ash: "), "{answer}");
    assert!(!answer.contains("[GET /2"), "{answer}");
    // What a server could take for a second request is the body of the first.
    let smuggled = format!(
        "POST http://{good}/ HTTP/1.1\r\nHost: {good}\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n{close}"
    );
    let answer = proxy.ask(&smuggled).await;
    assert!(!answer.contains("[GET "), "{answer}");
}

#[tokio::test]
async fn what_is_not_allowed_any_more_is_cut_and_the_rest_stays() {
    let (port, _) = echo().await;
    let before = settings(&["good.test:*", "127.0.0.1:*"]);
    let proxy = proxy(&before).await;
    let mut removed = proxy.open_tunnel(&format!("good.test:{port}")).await;
    let mut stays = proxy.open_tunnel(&format!("127.0.0.1:{port}")).await;
    assert_echo(&mut removed, b"\x00a").await;
    assert_echo(&mut stays, b"\x00b").await;
    proxy.egress.apply(&settings(&["127.0.0.1:*"]));
    assert_eq!(rest(&mut removed).await, b"");
    assert_echo(&mut stays, b"c").await;
    assert_eq!(lock(&proxy.egress.shared.open).connections.len(), 1);
    proxy.egress.apply(&Settings { private: Vec::new(), ..settings(&["127.0.0.1:*"]) });
    assert_eq!(rest(&mut stays).await, b"", "its address was closed");
}

#[tokio::test]
async fn a_budget_cuts_and_refuses() {
    let (port, _) = echo().await;
    let mut settings = settings(&["good.test:*"]);
    settings.limits.bytes = 1000;
    let proxy = proxy(&settings).await;
    let target = format!("good.test:{port}");
    let mut open = proxy.open_tunnel(&target).await;
    let _cut = open.write_all(&[0; 5000]).await;
    assert!(rest(&mut open).await.len() <= 5000);
    let (_, head) = proxy.tunnel(&target).await;
    assert!(head.contains("403") && head.contains("this sandbox has used up its 1000 bytes"), "{head}");
}

#[tokio::test]
async fn who_says_nothing_or_reads_nothing_is_let_go() {
    let (port, _) = echo().await;
    let mut settings = settings(&["good.test:*"]);
    settings.limits.idle_ms = 200;
    let proxy = proxy(&settings).await;
    let mut silent = proxy.open_tunnel(&format!("good.test:{port}")).await;
    assert_eq!(rest(&mut silent).await, b"");
    let mut deaf = proxy.open_tunnel(&format!("good.test:{port}")).await;
    // More than all buffers on the way hold; at some point nothing passes any more.
    let pushed = async {
        loop {
            if let Err(error) = deaf.write_all(&[0; 64 << 10]).await {
                return error;
            }
        }
    };
    timeout(DEADLINE, pushed).await.expect("it is cut");
    assert_eq!(lock(&proxy.egress.shared.open).connections.len(), 0);
}

#[tokio::test]
async fn connections_beyond_the_bound_wait() {
    let (port, _) = echo().await;
    let mut settings = settings(&["good.test:*"]);
    settings.limits.connections = 2;
    let proxy = proxy(&settings).await;
    let target = format!("good.test:{port}");
    let (mut first, _second) = (proxy.open_tunnel(&target).await, proxy.open_tunnel(&target).await);
    let third = proxy.open_tunnel(&target);
    tokio::pin!(third);
    tokio::select! {
        biased;
        _ = &mut third => panic!("there was no room"),
        () = assert_echo(&mut first, b"\x00a") => {}
    }
    drop(first);
    assert_echo(&mut third.await, b"\x00b").await;
}

#[tokio::test]
async fn socks_goes_the_same_way() {
    let (port, heard) = echo().await;
    let proxy = proxy(&settings(&["good.test:*", "127.0.0.1:*"])).await;
    let name = |name: &str| [&[3, name.len() as u8][..], name.as_bytes()].concat();
    let ask = async |command: u8, address: Vec<u8>| {
        let mut client = proxy.client().await;
        client.write_all(&[5, 2, 2, 0]).await.expect("sent");
        let mut method = [0; 2];
        client.read_exact(&mut method).await.expect("answered");
        assert_eq!(method, [5, 0]);
        client.write_all(&[&[5, command, 0][..], &address, &port.to_be_bytes()].concat()).await.expect("sent");
        let mut reply = [0; 10];
        timeout(DEADLINE, client.read_exact(&mut reply)).await.expect("in time").expect("answered");
        (client, reply[1])
    };
    for address in [name("good.test"), name("127.0.0.1"), vec![1, 127, 0, 0, 1]] {
        let (mut client, reply) = ask(1, address).await;
        assert_eq!(reply, 0);
        assert_echo(&mut client, b"\x00x").await;
    }
    lock(&heard).clear();
    for (command, address, expected) in [
        (1, name("evil.test"), 2),
        (1, name("2130706433"), 2),
        (1, name("good.test\0.evil.test"), 2),
        (1, vec![1, 127, 0, 0, 2], 2),
        (1, [&[4][..], &[0; 15], &[1]].concat(), 2),
        (2, name("good.test"), 7),
        (3, name("good.test"), 7),
    ] {
        assert_eq!(ask(command, address.clone()).await.1, expected, "{command} {address:?}");
    }
    assert!(lock(&heard).is_empty());
    let (mut client, _) = ask(1, name("good.test")).await;
    client.write_all(&real("evil.test")).await.expect("sent");
    assert_eq!(rest(&mut client).await.first(), Some(&21), "an alert");
    let mut wrong = proxy.client().await;
    wrong.write_all(&[5, 1, 2]).await.expect("sent");
    assert_eq!(rest(&mut wrong).await, [5, 0xff]);
}
