//! Servers of HTTP over TLS, and certificates for them, which the `openssl` program makes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A certificate for one name, signed by itself, and its key.
#[derive(Debug)]
pub struct Certificate {
    pub file: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Makes one in a folder; `label` names its files.
    pub fn make(folder: &Path, label: &str, name: &str) -> Self {
        let (file, key) = (folder.join(format!("{label}.pem")), folder.join(format!("{label}.key")));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
        command.args(["-subj", &format!("/CN={label}"), "-addext", &format!("subjectAltName=DNS:{name}")]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"]).arg(&key).arg("-out").arg(&file);
        let status = command.stderr(Stdio::null()).status().expect("openssl starts (Debian: apt-get install openssl)");
        assert!(status.success(), "openssl req");
        Self { file, key }
    }

    /// A file of certificates to trust.
    pub fn trust(folder: &Path, certificates: &[&Self]) -> PathBuf {
        let file = folder.join("trusted.pem");
        let texts = certificates.iter().map(|certificate| std::fs::read_to_string(&certificate.file).expect("read"));
        std::fs::write(&file, texts.collect::<String>()).expect("written");
        file
    }
}

/// A server at 127.0.0.1 that says what it was asked for. `/redirect/URL` leads to `http://URL`, `/hold` does not end.
#[derive(Debug)]
pub struct Server {
    pub port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    pub fn start(certificate: &Certificate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let chain = vec![CertificateDer::from_pem_file(&certificate.file).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let config = Arc::new(config.with_single_cert(chain, key).expect("they fit"));
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let kept = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, config) = (kept.clone(), config.clone());
                // A client that goes away, or trusts it not, is no failure of the server.
                std::thread::spawn(move || {
                    let connection = ServerConnection::new(config).expect("a configuration");
                    answer_all(StreamOwned::new(connection, stream), &kept).is_ok()
                });
            }
        });
        Self { port, heard }
    }

    /// All that it was told, after TLS.
    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().expect("whole")).into_owned()
    }

    /// The same since this was asked last.
    pub fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.heard.lock().expect("whole"))).into_owned()
    }
}

fn answer_all(mut stream: StreamOwned<ServerConnection, TcpStream>, kept: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            kept.lock().expect("whole").extend_from_slice(&buffer[..count]);
            head.extend_from_slice(&buffer[..count]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        if let Some(to) = path.strip_prefix("/redirect/") {
            write!(stream, "HTTP/1.1 302 Found\r\nLocation: http://{to}\r\nContent-Length: 0\r\n\r\n")?;
        } else {
            let body = format!("here is {path}\n");
            let length = if path == "/hold" { 1 << 20 } else { body.len() };
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")?;
        }
        stream.flush()?;
    }
}
