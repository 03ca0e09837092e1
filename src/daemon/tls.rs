//! TLS of the listener for programs: certificate and key, read again without a restart.
//!
//! Both are files in PEM. They are read at the start, at each SIGHUP, and when one of them has changed, which is
//! looked for every [`WATCH_PAUSE`]. Connections that stand keep the certificate that they began with. A pair that
//! can not be used leaves the one before in place.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus::IntGauge;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::report::chain;

/// How often it is looked whether a file has changed.
pub const WATCH_PAUSE: Duration = Duration::from_secs(30);
/// Far above any certificate with its chain.
const FILE_MAX: u64 = 1 << 20;
/// First byte of a TLS record with a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// What who speaks plain HTTP here is told.
const NOT_TLS: &str = "{\"error\":\"This port speaks TLS; use https\",\"statusCode\":400,\"code\":\"invalid_request\"}";

/// Why certificate and key can not be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can not be read.
    #[error("{} can not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{} is no {what} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        source: pem::Error,
    },
    /// They can not be used, or not together.
    #[error("{} can not be used with {}", certificate.display(), key.display())]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate of this host, then those between it and a root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// By what it is seen that a file is another one: its device, number, size and time of change.
type Stamp = (u64, u64, u64, i64, i64);

impl Files {
    fn read(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let (certificates, key) = (read(&self.certificate)?, read(&self.key)?);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificates).collect();
        let chain = chain.and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) });
        let not = |path: &Path, what, source| TlsError::Pem { path: path.to_owned(), what, source };
        let chain = chain.map_err(|source| not(&self.certificate, "certificate", source))?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|source| not(&self.key, "private key", source))?;
        CertifiedKey::from_der(chain, key, provider).map_err(|source| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })
    }

    fn stamps(&self) -> [Option<Stamp>; 2] {
        [&self.certificate, &self.key].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            // Also a change of who may read it counts.
            Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, FILE_MAX), &mut bytes));
    read.map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// When the certificate of this host ends, in seconds since 1970; 0 if it does not say so in a way that is understood.
fn ends_at(pair: &CertifiedKey) -> i64 {
    let host = pair.cert.first().and_then(|certificate| x509_parser::parse_x509_certificate(certificate).ok());
    host.map_or(0, |(_, certificate)| certificate.validity().not_after.timestamp())
}

/// The present certificate, shared by all handshakes.
#[derive(Debug)]
struct Present(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Present {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Speaks TLS with clients.
#[derive(Clone)]
pub struct Tls {
    files: Files,
    /// When the certificate ends, for the metrics.
    expiry: IntGauge,
    provider: Arc<CryptoProvider>,
    present: Arc<Present>,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    ///
    /// [`TlsError`], which names the file.
    pub fn open(files: Files, expiry: IntGauge) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let pair = files.read(&provider)?;
        expiry.set(ends_at(&pair));
        let present = Arc::new(Present(RwLock::new(Arc::new(pair))));
        // TLS 1.2 and 1.3 are all that rustls speaks.
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has suites of both versions")
            .with_no_client_auth()
            .with_cert_resolver(present.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { files, expiry, provider, present, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Reads both again. What can not be used changes nothing, and is logged.
    pub fn reload(&self) {
        match self.files.read(&self.provider) {
            Ok(pair) => {
                self.expiry.set(ends_at(&pair));
                *self.present.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
                tracing::info!(certificate = %self.files.certificate.display(), "the certificate was read again");
            }
            Err(error) => tracing::warn!(error = chain(&error), "the certificate stays as it was, ignoring"),
        }
    }

    /// Reads both again whenever one of them has changed.
    pub async fn watch(self, pause: Duration) {
        let mut known = self.files.stamps();
        loop {
            tokio::time::sleep(pause).await;
            let found = self.files.stamps();
            if found != known {
                known = found;
                self.reload();
            }
        }
    }

    /// Does the handshake. Whoever speaks plain HTTP is told so, and gets no further.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub async fn accept(&self, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[0] != HANDSHAKE {
            if first[0].is_ascii_uppercase() {
                let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close";
                let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{NOT_TLS}", NOT_TLS.len());
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await?;
                // A socket that is closed with bytes unread takes its answer back.
                let mut unread = [0; 4096];
                while tokio::io::AsyncReadExt::read(&mut stream, &mut unread).await? > 0 {}
            }
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not begin with a TLS handshake"));
        }
        self.acceptor.accept(stream).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(folder: &Path, name: &str) -> Files {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let files = Files { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        std::fs::write(&files.certificate, made.cert.pem()).expect("written");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
        files
    }

    fn gauge() -> IntGauge {
        IntGauge::new("expiry", "of a certificate").expect("made")
    }

    fn present(tls: &Tls) -> Vec<CertificateDer<'static>> {
        tls.present.0.read().expect("whole").cert.clone()
    }

    #[test]
    fn what_can_not_be_used_is_named_with_its_file() {
        let folder = tempfile::tempdir().expect("folder");
        let (good, other) = (pair(folder.path(), "good"), pair(folder.path(), "other"));
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "").expect("written");
        for (certificate, key, wanted) in [
            (&folder.path().join("none"), &good.key, "none can not be read: No such file"),
            (&empty, &good.key, "empty is no certificate in PEM"),
            (&good.certificate, &good.certificate, "good.pem is no private key in PEM"),
            (&good.certificate, &other.key, "good.pem can not be used with"),
        ] {
            let files = Files { certificate: certificate.clone(), key: key.clone() };
            let error = chain(&Tls::open(files, gauge()).expect_err(wanted));
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_bad_pair_leaves_the_one_before() {
        let folder = tempfile::tempdir().expect("folder");
        let (files, other) = (pair(folder.path(), "good"), pair(folder.path(), "other"));
        let tls = Tls::open(files.clone(), gauge()).expect("opens");
        let before = present(&tls);
        // rcgen's certificates end with the year 4095 unless they are told another time.
        assert_eq!(tls.expiry.get(), 67_090_118_400);
        std::fs::copy(&other.certificate, &files.certificate).expect("copies");
        tls.reload();
        assert_eq!(present(&tls), before, "the key is still that of the first");
        std::fs::copy(&other.key, &files.key).expect("copies");
        tls.reload();
        assert_ne!(present(&tls), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_is_read_again_by_itself() {
        let folder = tempfile::tempdir().expect("folder");
        let (files, other) = (pair(folder.path(), "good"), pair(folder.path(), "other"));
        let tls = Tls::open(files.clone(), gauge()).expect("opens");
        let before = present(&tls);
        let watching = tokio::spawn(tls.clone().watch(WATCH_PAUSE));
        tokio::time::sleep(WATCH_PAUSE / 2).await;
        // Renamed over it, as programs that renew certificates do: the old file stays for who has it open.
        std::fs::rename(&other.key, &files.key).expect("renames");
        std::fs::rename(&other.certificate, &files.certificate).expect("renames");
        tokio::time::sleep(WATCH_PAUSE).await;
        tokio::task::yield_now().await;
        assert_ne!(present(&tls), before);
        watching.abort();
    }
}
