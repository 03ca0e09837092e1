//! Where the daemon is, and the connection to it.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_rustls::builderstates::WantsSchemes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyperlocal::UnixConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::error::{ClientError, ConnectCause};

/// The control socket of a daemon on this host.
pub const CONTROL_SOCKET: &str = "/run/ash/ash.sock";

/// How long a TCP connection may take to stand. A host that drops packets would otherwise hold
/// the caller for the kernel's two minutes.
const CONNECT_TIMEOUT_SECS: u64 = 10;

/// Any body that a request can have.
pub type Body = BoxBody<Bytes, io::Error>;

/// A body of bytes that are all there.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

/// Where the daemon is. Text form: `unix:/path`, `http://host[:port][/base]` or the same with
/// `https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// A control socket. The kernel tells the daemon who calls, so no key is needed.
    Unix(PathBuf),
    /// A listener on the network.
    Http {
        /// Whether TLS is spoken.
        tls: bool,
        /// Host and port.
        authority: String,
        /// What stands before every path, without a slash at its end; mostly empty.
        base: String,
    },
}

/// A text that names no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no server: {reason}")]
pub struct ServerError {
    text: String,
    reason: &'static str,
}

impl Default for Server {
    fn default() -> Self {
        Self::Unix(CONTROL_SOCKET.into())
    }
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let refuse = |reason| ServerError { text: text.chars().take(200).collect(), reason };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let absolute = Path::new(path).is_absolute();
            return absolute.then(|| Self::Unix(path.into())).ok_or_else(|| refuse("write unix:/path/to/socket"));
        }
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(refuse("write http://host:port, https://host or unix:/path/to/socket")),
        };
        let (authority, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(refuse("a key goes into --api-key or ASH_API_KEY, not into the address"));
        }
        if authority.is_empty() || authority.parse::<hyper::http::uri::Authority>().is_err() {
            return Err(refuse("the host is missing or malformed"));
        }
        if base.contains(['?', '#']) || base.parse::<hyper::http::uri::PathAndQuery>().is_err() && !base.is_empty() {
            return Err(refuse("the path is malformed"));
        }
        Ok(Self::Http { tls, authority: authority.into(), base: base.trim_end_matches('/').into() })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http { tls, authority, base } => write!(f, "http{}://{authority}{base}", if *tls { "s" } else { "" }),
        }
    }
}

impl Server {
    /// Whether it runs on this host, as far as its address tells.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Http { authority, .. } => {
                let host = authority.parse::<hyper::http::uri::Authority>().map(|a| a.host().to_owned()).unwrap_or_default();
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    fn uri(&self, path: &str) -> Result<hyper::Uri, ClientError> {
        match self {
            Self::Unix(socket) => Ok(hyperlocal::Uri::new(socket, path).into()),
            Self::Http { .. } => format!("{self}{path}").parse().map_err(ClientError::Path),
        }
    }
}

/// A pool of connections to one server. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    server: Server,
    pool: Pool,
}

#[derive(Clone)]
enum Pool {
    Unix(Client<UnixConnector, Body>),
    Tcp(Client<HttpConnector, Body>),
    Tls(Client<HttpsConnector<HttpConnector>, Body>),
}

impl Link {
    /// Prepares connections; none is made before the first request.
    ///
    /// # Errors
    /// [`ClientError::Roots`] or [`ClientError::Ca`] if TLS is wanted and the certificates that are to be
    /// trusted can not be read.
    pub(super) fn new(server: Server, ca: Option<&Path>) -> Result<Self, ClientError> {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new());
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(Duration::from_secs(CONNECT_TIMEOUT_SECS)));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let pool = match &server {
            Server::Unix(_) => Pool::Unix(builder.build(UnixConnector)),
            Server::Http { tls: false, .. } => Pool::Tcp(builder.build(tcp)),
            Server::Http { tls: true, .. } => {
                Pool::Tls(builder.build(trusting(ca)?.https_only().enable_http1().wrap_connector(tcp)))
            }
        };
        Ok(Self { server, pool })
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Sends a request for `path`, which starts with a slash; the rest of the request's URI is
    /// filled in here.
    pub(super) async fn send(&self, path: &str, mut request: Request<Body>) -> Result<Response<Incoming>, ClientError> {
        *request.uri_mut() = self.server.uri(path)?;
        let answer = match &self.pool {
            Pool::Unix(client) => {
                // Otherwise it would be the socket's path in hexadecimal.
                let host = hyper::header::HeaderValue::from_static("localhost");
                request.headers_mut().insert(hyper::header::HOST, host);
                client.request(request).await
            }
            Pool::Tcp(client) => client.request(request).await,
            Pool::Tls(client) => client.request(request).await,
        };
        answer.map_err(|error| {
            let server = self.server.clone();
            let cause = ConnectCause::of(&error);
            if error.is_connect() { ClientError::Connect { server, cause } } else { ClientError::Broken { server, cause } }
        })
    }
}

/// Trusts the certificates in `ca`, or those that this host trusts.
fn trusting(ca: Option<&Path>) -> Result<HttpsConnectorBuilder<WantsSchemes>, ClientError> {
    let (builder, provider) = (HttpsConnectorBuilder::new(), rustls::crypto::ring::default_provider());
    let Some(path) = ca else {
        return builder.with_provider_and_native_roots(provider).map_err(ClientError::Roots);
    };
    let refuse = |reason: String| ClientError::Ca { path: path.to_owned(), reason };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))? {
        let added = certificate.map_err(|error| error.to_string()).map(|one| roots.add(one).map_err(|error| error.to_string()));
        added.flatten().map_err(refuse)?;
    }
    if roots.is_empty() {
        return Err(refuse("no certificate is in it".to_owned()));
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider));
    let config = config.with_safe_default_protocol_versions().map_err(|error| refuse(error.to_string()))?;
    Ok(builder.with_tls_config(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_print() {
        for (text, printed) in [
            ("unix:/run/ash/ash.sock", "unix:/run/ash/ash.sock"),
            ("unix:///run/ash/ash.sock", "unix:/run/ash/ash.sock"),
            ("http://127.0.0.1:4100", "http://127.0.0.1:4100"),
            ("http://127.0.0.1:4100/", "http://127.0.0.1:4100"),
            ("https://ash.example.com/team/", "https://ash.example.com/team"),
            ("http://[::1]:4100", "http://[::1]:4100"),
        ] {
            let server: Server = text.parse().expect(text);
            assert_eq!(server.to_string(), printed, "{text}");
            assert_eq!(printed.parse(), Ok(server), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        for (text, reason) in [
            ("", "write http"),
            ("127.0.0.1:4100", "write http"),
            ("ftp://host", "write http"),
            ("unix:ash.sock", "write unix:"),
            ("http://", "the host"),
            ("http:///path", "the host"),
            ("http://a b", "the host"),
            ("https://ash_key@host", "a key goes"),
            ("http://host/?x=1", "the path"),
        ] {
            let error = text.parse::<Server>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn loopback_is_local() {
        for (text, local) in [
            ("unix:/x", true),
            ("http://127.0.0.1:4100", true),
            ("http://localhost", true),
            ("http://[::1]:1", true),
            ("http://10.0.0.1", false),
            ("https://localhost.example.com", false),
        ] {
            assert_eq!(text.parse::<Server>().expect(text).is_local(), local, "{text}");
        }
    }
}
