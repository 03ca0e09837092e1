//! Sending one request to an address that was checked.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_rustls::ConfigBuilderExt as _;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::due::{Answer, BOUNDS};
use super::url::Url;
use crate::resolve::{LookUps, is_own};
use crate::wire::VERSION;
use crate::wire::egress::{Host, Range, address};

/// How long all of it may take: looking up, connecting, and the head of the answer.
const DEADLINE: Duration = Duration::from_secs(15);
/// Addresses of one name that are tried.
const TRIES: usize = 4;

/// What is sent.
#[derive(Debug, Clone)]
pub struct Message {
    /// `webhook-id`: the same for each attempt.
    pub id: String,
    /// `webhook-timestamp`.
    pub seconds: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// JSON.
    pub body: Bytes,
}

/// Sends messages.
#[derive(Debug)]
pub struct Sender {
    allow_private: Vec<Range>,
    look_ups: LookUps,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Sender {
    /// Sends to addresses of the public network and to those in these ranges.
    pub fn new(allow_private: Vec<Range>) -> Self {
        Self { allow_private, look_ups: LookUps::new(2 * BOUNDS.all), tls: OnceLock::new() }
    }

    /// The status that was answered, or why none was. A redirect is an answer like any other.
    pub async fn send(&self, url: &Url, message: Message) -> Answer {
        let sent = tokio::time::timeout(DEADLINE, self.try_send(url, message)).await;
        sent.unwrap_or_else(|_| Err(format!("there was no answer in {} s", DEADLINE.as_secs())))
    }

    /// The addresses of a URL that may be told.
    ///
    /// # Errors
    ///
    /// Why there is none: a name that leads nowhere ([`Unreachable::Unknown`]), or where nobody is to be told.
    pub async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, Unreachable> {
        let found = match &url.target.host {
            Host::Ip(address) => vec![*address],
            Host::Name(name) => {
                let found = self.look_ups.look_up(name.clone()).await;
                let found = found.map_err(|error| Unreachable::Unknown(format!("{name} can not be looked up: {error}")))?;
                found.into_iter().map(|address| address.ip()).collect()
            }
        };
        let mut refused = None;
        let mut admitted = Vec::new();
        for address in found {
            match self.refusal(address) {
                None => admitted.push(SocketAddr::new(address, url.target.port)),
                Some(kind) => {
                    refused.get_or_insert_with(|| format!("leads to {address}, {kind}, which the operator does not allow"));
                }
            }
        }
        admitted.truncate(TRIES);
        match refused {
            Some(why) if admitted.is_empty() => Err(Unreachable::Refused(why)),
            None if admitted.is_empty() => Err(Unreachable::Unknown(format!("{} has no address", url.target.host))),
            _ => Ok(admitted),
        }
    }

    /// What kind of address it is, if nobody is to be told there.
    fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        let own = address::is_loopback(address) || is_own(address);
        let kind = address::refusal(address).or(own.then_some("an address of this host"))?;
        (!address::is_opened(&self.allow_private, address, own)).then_some(kind)
    }

    async fn try_send(&self, url: &Url, message: Message) -> Answer {
        let addresses = self.addresses(url).await.map_err(|unreachable| unreachable.to_string())?;
        let mut failed = String::new();
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) if url.is_https => return self.speak_tls(stream, url, message).await,
                Ok(stream) => return speak(stream, url, message).await,
                Err(error) => failed = format!("connect to {address}: {error}"),
            }
        }
        Err(failed)
    }

    async fn speak_tls(&self, stream: TcpStream, url: &Url, message: Message) -> Answer {
        let name = match &url.target.host {
            Host::Ip(address) => ServerName::from(*address),
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| format!("TLS: {error}"))?,
        };
        let connector = TlsConnector::from(self.tls().map_err(|error| format!("TLS: {error}"))?);
        let stream = connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        speak(stream, url, message).await
    }

    /// Trusts who the host trusts. Where that can not be read, the next attempt tries again.
    fn tls(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let config = Arc::new(builder.with_native_roots()?.with_no_client_auth());
        Ok(self.tls.get_or_init(|| config).clone())
    }
}

/// Why a URL leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It may lead somewhere later.
    #[error("{0}")]
    Unknown(String),
    /// It leads where nobody is to be told.
    #[error("{0}")]
    Refused(String),
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, url: &Url, message: Message) -> Answer {
    let request = request(url, message).map_err(|error| format!("the request can not be made: {error}"))?;
    let http = |error: hyper::Error| format!("HTTP: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let answer = async {
        let answered = sender.send_request(request).await.map_err(http);
        answered.map(|response| response.status().as_u16())
    };
    tokio::pin!(answer);
    // The body of the answer is nobody's business; the connection ends with this call.
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(http(error)),
        },
    }
}

fn request(url: &Url, message: Message) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let text = |text: &str| HeaderValue::from_str(text);
    Request::builder()
        .method(Method::POST)
        .uri(Uri::from(url.path.clone()))
        .header(header::HOST, text(&url.authority)?)
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(header::USER_AGENT, text(&format!("Ash/{VERSION}"))?)
        .header(HeaderName::from_static("webhook-id"), text(&message.id)?)
        .header(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(message.seconds))
        .header(HeaderName::from_static("webhook-signature"), text(&message.signature)?)
        .body(Full::new(message.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_public_addresses_and_opened_ones_are_told() {
        let sender = |ranges: &[&str]| Sender::new(ranges.iter().map(|range| range.parse().expect(range)).collect());
        let told = async |sender: &Sender, url: &str| {
            sender.addresses(&Url::parse(url, true).expect(url)).await.map_err(|unreachable| unreachable.to_string())
        };
        let none = sender(&[]);
        for url in [
            "https://127.0.0.1/",
            "https://localhost/",
            "https://10.1.2.3/",
            "https://192.168.0.1/",
            "https://169.254.169.254/",
            "https://[::1]/",
            "https://[fe80::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://0.0.0.0/",
            "https://100.64.0.1/",
        ] {
            assert!(told(&none, url).await.is_err_and(|why| why.contains("does not allow")), "{url}");
        }
        assert_eq!(told(&none, "https://1.1.1.1/").await, Ok(vec![SocketAddr::from(([1, 1, 1, 1], 443))]));
        let some = sender(&["127.0.0.1/32", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16"]);
        assert_eq!(told(&some, "http://127.0.0.1:9/").await, Ok(vec![SocketAddr::from(([127, 0, 0, 1], 9))]));
        assert!(told(&some, "https://10.1.2.3/").await.is_ok());
        assert!(told(&some, "https://127.0.0.2/").await.is_err(), "one of the host's own is opened by itself alone");
        assert!(told(&some, "https://169.254.169.254/").await.is_err(), "metadata, whatever is opened");
    }
}
