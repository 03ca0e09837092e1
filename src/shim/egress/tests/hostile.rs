//! What nobody should send to the proxy.

use super::super::tunnel::{First, judge};
use super::*;
use crate::hostile::Target as Hostile;
use crate::wire::egress::{Entry, Host, List};

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\0",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"://",
    b"@",
    b"evil.test",
    b"Host: evil.test\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 0\r\n",
    b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n",
    b"GET http://evil.test/ HTTP/1.1\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"%00",
    b"[::1]",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// However a client cuts what it sends, it is taken for the same.
#[test]
fn no_bytes_are_too_much_for_what_judges_the_first_of_a_tunnel() {
    let seeds = vec![
        real("good.test"),
        real("192.0.2.7"),
        hello(&[]),
        hello(&[(0, b"\0\x0c\0\0\x09good.test".to_vec()), (43, vec![2, 3, 4])]),
        b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n".to_vec(),
        b"\r\n\tPOST http://good.test/ HTTP/1.0\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x01\x00".to_vec(),
    ];
    let target = Hostile { name: "first bytes of a tunnel", seeds, words: WORDS, memory: 256 << 10, ..Hostile::default() };
    target.attack(|bytes| {
        let bytes = &bytes[..bytes.len().min(2000)];
        for port in [80, 443, 8080] {
            let target = Target { host: Host::parse("good.test").expect("a name"), port };
            let mut clear = None;
            for end in 1..=bytes.len() {
                let first = judge(&bytes[..end], &target);
                match &clear {
                    None if first == First::More => {}
                    None => clear = Some(first),
                    Some(before) => assert_eq!(*before, first, "after {end} bytes, port {port}"),
                }
            }
        }
    });
}

#[test]
fn no_bytes_are_too_much_for_what_reads_lists_and_targets() {
    let seeds = [
        "good.test",
        "*.good.test:8443",
        "*",
        "*:*",
        "good.test:*",
        "192.0.2.7",
        "[2001:db8::7]:22",
        "pypi",
        "xn--bcher-kva.example",
        "good.test.",
        "GOOD.test:443",
        "[::ffff:192.0.2.7]:1",
        r#"["good.test","pypi","*.example.com:1"]"#,
    ];
    let target = Hostile {
        name: "lists and targets",
        seeds: seeds.map(|seed| seed.as_bytes().to_vec()).to_vec(),
        words: &[
            b"*",
            b"*.",
            b":",
            b".",
            b"..",
            b"[",
            b"]",
            b"xn--",
            b"0x7f",
            b"%",
            b"@",
            b"\xe2\x80\xae",
            b"127.1",
            b"::",
            b":65536",
        ],
        is_json: true,
        memory: 256 << 10,
        ..Hostile::default()
    };
    target.attack(|bytes| {
        let _list = serde_json::from_slice::<List>(bytes);
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        // What is read is told in a form that reads the same.
        if let Ok(entry) = text.parse::<Entry>() {
            assert_eq!(entry.to_string().parse::<Entry>(), Ok(entry));
        }
        for port in [None, Some(80)] {
            if let Ok(target) = Target::parse(text, port) {
                assert_eq!(Target::parse(&target.to_string(), port), Ok(target));
            }
        }
    });
}

/// Sends bytes to a proxy that may reach `good.test` at one port, and says how often anything else was reached.
fn sent_to_a_proxy(name: &str, seeds: Vec<Vec<u8>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (proxy, good, reached) = runtime.block_on(async {
        let evil = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let evil_port = evil.local_addr().expect("an address").port();
        let reached = Arc::<AtomicUsize>::default();
        let count = reached.clone();
        tokio::spawn(async move {
            while evil.accept().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let good = web().await;
        let table = Table::of(&[("good.test", &["127.0.0.1"]), ("evil.test", &["127.0.0.1"])]);
        let proxy = proxy_with(&settings(&[&format!("good.test:{good}")]), table).await;
        // The way to the other server is open but for the list.
        assert!(proxy.tunnel(&format!("evil.test:{evil_port}")).await.1.contains(" 403 "));
        (proxy, (good, evil_port), reached)
    });
    // In the place of the ports, which differ, so that the cases do not.
    let (port, other) = (good.0.to_string(), good.1.to_string());
    let ports = [(&b"PORT"[..], port.as_bytes()), (b"OTHER", other.as_bytes()), (b"\x50\x50", &good.0.to_be_bytes())];
    let fill = |mut bytes: &[u8]| {
        let mut filled = Vec::with_capacity(2 * bytes.len());
        while let Some((first, rest)) = bytes.split_first() {
            match ports.iter().find(|(name, _)| bytes.starts_with(name)) {
                Some((name, port)) => {
                    filled.extend_from_slice(port);
                    bytes = &bytes[name.len()..];
                }
                None => {
                    filled.push(*first);
                    bytes = rest;
                }
            }
        }
        filled
    };
    let target = Hostile { name, seeds, words: WORDS, memory: 2 << 20, costs: 10, ..Hostile::default() };
    target.attack(|bytes| {
        runtime.block_on(async {
            let mut client = proxy.client().await;
            // It may be refused before all of it is sent.
            let _cut = client.write_all(&fill(bytes)).await;
            let _closed = client.shutdown().await;
            rest(&mut client).await;
        });
        assert_eq!(reached.load(Ordering::Relaxed), 0, "a server that is not on the list was reached");
    });
    let served = runtime.block_on(
        proxy.ask(&format!("GET http://good.test:{port}/ HTTP/1.1\r\nHost: good.test:{port}\r\nConnection: close\r\n\r\n")),
    );
    assert!(served.starts_with("HTTP/1.1 200 "), "and it still serves: {served}");
}

#[test]
fn no_bytes_are_too_much_for_the_proxy_of_http() {
    let seeds = [
        "GET http://good.test:PORT/a?b HTTP/1.1\r\nHost: good.test:PORT\r\nConnection: close\r\n\r\n",
        "POST http://good.test:PORT/ HTTP/1.1\r\nHost: good.test:PORT\r\nContent-Length: 4\r\n\r\nbody",
        "POST http://good.test:PORT/ HTTP/1.1\r\nHost: good.test:PORT\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "CONNECT good.test:PORT HTTP/1.1\r\nHost: good.test:PORT\r\n\r\nGET / HTTP/1.1\r\nHost: good.test:PORT\r\nConnection: close\r\n\r\n",
        "CONNECT evil.test:OTHER HTTP/1.1\r\nHost: evil.test:OTHER\r\n\r\n",
        "GET http://evil.test:OTHER/ HTTP/1.1\r\nHost: evil.test:OTHER\r\n\r\n",
        "GET http://good.test:PORT/1 HTTP/1.1\r\nHost: good.test:PORT\r\n\r\nGET http://evil.test:OTHER/ HTTP/1.1\r\nHost: evil.test:OTHER\r\n\r\n",
    ];
    sent_to_a_proxy("heads of HTTP", seeds.map(|seed| seed.as_bytes().to_vec()).to_vec());
}

#[test]
fn no_bytes_are_too_much_for_the_proxy_of_socks() {
    let seeds = [
        &b"\x05\x01\x00\x05\x01\x00\x03\x09good.test\x50\x50GET / HTTP/1.1\r\nHost: good.test:PORT\r\nConnection: close\r\n\r\n"
            [..],
        b"\x05\x02\x02\x00\x05\x01\x00\x03\x09evil.test\x50\x50",
        b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x50\x50",
        b"\x05\x01\x00\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x7f\x00\x00\x01\x50\x50",
        b"\x05\x01\x00\x05\x03\x00\x03\x09good.test\x50\x50",
    ];
    sent_to_a_proxy("SOCKS", seeds.map(<[u8]>::to_vec).to_vec());
}
