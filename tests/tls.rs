//! TLS of the listener: certificates that are read again while streams live, and what strangers to it are told.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use support::http::{self, Target};
use support::{DEADLINE, Daemon, Model, claude, wait_for};

/// An authority, and the files that a daemon reads.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("written");
        let root = certificate.der().clone();
        let authority = Self { folder, issuer: Issuer::new(params, key), root };
        authority.renew();
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts another certificate in the place of the one before, and gives it back.
    fn renew(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(self.path("key.pem"), key.serialize_pem()).expect("written");
        std::fs::write(self.path("cert.pem"), certificate.pem()).expect("written");
        certificate.der().clone()
    }

    fn config(&self) -> String {
        let files = |name| self.path(name).display().to_string();
        let (certificate, key) = (files("cert.pem"), files("key.pem"));
        format!("[http]\ntls_listen = \"127.0.0.1:0\"\ntls_cert = {certificate:?}\ntls_key = {key:?}\n")
    }
}

struct World {
    authority: Authority,
    daemon: Daemon,
    _model: Model,
    address: String,
    bearer: String,
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

impl World {
    fn start() -> Option<Self> {
        let claude = claude()?;
        let (authority, model) = (Authority::new(), Model::start());
        let daemon = Daemon::start_with(&claude, &model.url, &authority.config());
        let address = wait_for("it says where it speaks TLS", || {
            let address = daemon.log().split_once("https://")?.1.to_owned();
            address.contains('\n').then(|| address.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect())
        });
        let bearer = daemon.bearer(&json!({}));
        Some(Self { authority, daemon, _model: model, address, bearer })
    }

    /// Connects as somebody who trusts this authority.
    fn connect(&self, trusted: &Authority) -> std::io::Result<Secured> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.root.clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut connection = ClientConnection::new(Arc::new(config), "localhost".try_into().expect("a name")).expect("connects");
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(connection, stream))
    }

    /// Asks on a connection, which ends with the answer.
    fn ask(&self, mut stream: Secured, path: &str) -> String {
        self.send(&mut stream, path);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("is closed as TLS wants it");
        answer
    }

    fn send(&self, stream: &mut Secured, path: &str) {
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: {}\r\n\r\n", self.bearer);
        stream.write_all(head.as_bytes()).expect("sends");
    }

    /// The certificate that a new connection is shown.
    fn shown(&self) -> CertificateDer<'static> {
        let stream = self.connect(&self.authority).expect("connects");
        stream.conn.peer_certificates().expect("certificates")[0].clone()
    }

    fn reload(&self) {
        let pid = nix::unistd::Pid::from_raw(self.daemon.pid().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("signals");
    }

    fn ashctl(&self, server: &str, ca: Option<&Path>) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ashctl"));
        command.args(["--server", server, "session", "list"]).env_remove("ASH_CA_FILE");
        command.env("ASH_API_KEY", self.bearer.trim_start_matches("Bearer "));
        if let Some(ca) = ca {
            command.arg("--ca").arg(ca);
        }
        let output = command.output().expect("ashctl starts");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn the_api_is_there_over_tls_for_whoever_trusts_its_authority() {
    let Some(world) = World::start() else { return };
    let stream = world.connect(&world.authority).expect("connects");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]), "what it speaks of what was offered");
    let answer = world.ask(stream, "/api/sessions");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("{\"sessions\":[]}"), "{answer}");
    let stranger = world.connect(&Authority::new()).expect_err("another authority");
    assert!(stranger.to_string().contains("invalid peer certificate"), "{stranger}");
    assert_eq!(http::request(&world.daemon.tcp(), "GET", "/health", &[], None).status, 200, "plain HTTP has its own port");

    let url = format!("https://{}", world.address.replace("127.0.0.1", "localhost"));
    let (works, said) = world.ashctl(&url, Some(&world.authority.path("ca.pem")));
    assert!(works, "{said}");
    for (ca, wanted) in [
        (None, "invalid peer certificate"),
        (Some(PathBuf::from("/nonexistent/ca.pem")), "can not trust the certificates in /nonexistent/ca.pem"),
        (Some(world.authority.path("key.pem")), "no certificate is in it"),
    ] {
        let (works, said) = world.ashctl(&url, ca.as_deref());
        assert!(!works && said.contains(wanted), "{said}");
    }
}

#[test]
fn plain_http_to_the_port_of_tls_is_told_so() {
    let Some(world) = World::start() else { return };
    let target = Target::Tcp(world.address.clone());
    let answer = http::request(&target, "GET", "/api/sessions", &[("authorization", &world.bearer)], None);
    assert_eq!(
        (answer.status, answer.json()["error"].as_str()),
        (400, Some("This port speaks TLS; use https")),
        "{}",
        answer.head
    );
    let (works, said) = world.ashctl(&format!("http://{}", world.address), None);
    assert!(!works && said.contains("This port speaks TLS; use https"), "{said}");
    let mut other = TcpStream::connect(&world.address).expect("connects");
    other.write_all(b"\x05\x01\x00").expect("sends");
    let mut unread = Vec::new();
    // Nothing, or a reset: it was not read.
    let _ = other.read_to_end(&mut unread);
    assert!(unread.is_empty(), "{unread:?}");
    assert!(world.ask(world.connect(&world.authority).expect("connects"), "/health").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_new_certificate_counts_from_a_signal_on_and_ends_no_stream() {
    let Some(world) = World::start() else { return };
    let session = world.daemon.session();
    let mut stream = world.connect(&world.authority).expect("connects");
    world.send(&mut stream, &format!("/api/sessions/{session}/stream"));
    let mut lines = BufReader::new(stream).lines();
    let status = lines.next().expect("a line").expect("reads");
    assert!(status.starts_with("HTTP/1.1 200 "), "{status}");

    let renewed = world.authority.renew();
    assert_ne!(world.shown(), renewed, "nobody said so yet");
    world.reload();
    wait_for("the new certificate is shown", || (world.shown() == renewed).then_some(()));

    std::fs::write(world.authority.path("key.pem"), "what was half copied").expect("written");
    world.reload();
    wait_for("it is told", || world.daemon.log().contains("the certificate stays as it was").then_some(()));
    let log = world.daemon.log();
    assert!(log.contains("key.pem is no private key in PEM"), "{log}");
    assert_eq!(world.shown(), renewed);

    world.daemon.say(&session, "say: still here");
    let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("still here")) || line.is_err());
    line.expect("it goes on").expect("it is whole");
}

#[test]
fn a_daemon_without_a_certificate_names_the_file() {
    let Some(claude) = claude() else { return };
    let (authority, model) = (Authority::new(), Model::start());
    let mut daemon = Daemon::start(&claude, &model.url);
    daemon.stop();
    std::fs::remove_file(authority.path("key.pem")).expect("removed");
    daemon.add_config(&authority.config());
    let output = daemon.command().output().expect("starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "only a change of the configuration helps: {text}");
    assert!(text.contains("key.pem can not be read: No such file"), "{text}");
    daemon.add_config("");
}
