//! The model gateway: the one way out of a sandbox.
//!
//! It serves HTTP/1.1 on a listener that was opened on the inner loopback, and forwards two calls
//! of the model API to the configured endpoint, with the real key in the place of whatever
//! credential came. Bodies stream through both ways; `anthropic-beta` and headers it does not know
//! pass. All else is answered 404, in the model API's shape of an error.
//!
//! The caller is not trusted: connections, header size and body size are bounded.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tower::util::{ServiceFn, service_fn};

use crate::link::shim::Gateway as Settings;
use crate::report;

/// Connections at the same time; the runtime needs a few.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of one request's body; the model API itself takes 32 MB.
const BODY_MAX: usize = 64 << 20;
/// Bytes of one request's head, and number of its headers.
const HEAD_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
/// How long a head may take to arrive.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long an unused connection to the endpoint is kept.
const IDLE: Duration = Duration::from_secs(60);

/// The calls that are forwarded.
const PATHS: &[&str] = &["/v1/messages", "/v1/messages/count_tokens"];

/// Headers that belong to one connection (RFC 9110 section 7.6.1), or that the gateway sets itself.
const DROPPED: &[&str] = &[
    "connection",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Credentials that the caller may bring.
const CREDENTIALS: &[&str] = &["authorization", "cookie", X_API_KEY];
const X_API_KEY: &str = "x-api-key";

type Error = Box<dyn std::error::Error + Send + Sync>;
type Outgoing = BoxBody<Bytes, Error>;

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is none.
    #[error("model endpoint {0:?} is not an address such as https://api.anthropic.com")]
    Address(String),
    /// The key can not be sent.
    #[error("the model API's key has characters that no key has")]
    Key,
}

/// Where calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    scheme: Scheme,
    authority: Authority,
    /// Before the path of a call; empty, or with a slash at its start and none at its end.
    prefix: String,
    /// Marked sensitive, so that it is never printed.
    key: Option<HeaderValue>,
}

impl Target {
    fn new(settings: &Settings) -> Result<Self, GatewayError> {
        let refuse = || GatewayError::Address(settings.base_url.clone());
        let parts = settings.base_url.parse::<Uri>().map_err(|_| refuse())?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(refuse()) };
        let has_query = parts.path_and_query.as_ref().is_some_and(|path| path.query().is_some());
        if ![Scheme::HTTP, Scheme::HTTPS].contains(&scheme) || authority.as_str().contains('@') || has_query {
            return Err(refuse());
        }
        let prefix = parts.path_and_query.map(|path| path.path().trim_end_matches('/').to_owned()).unwrap_or_default();
        let key = settings.api_key.as_ref().map(|key| HeaderValue::from_str(key.trim())).transpose();
        let mut key = key.map_err(|_| GatewayError::Key)?;
        if let Some(key) = &mut key {
            key.set_sensitive(true);
        }
        Ok(Self { scheme, authority, prefix, key })
    }

    fn uri(&self, path: &str, query: Option<&str>) -> Result<Uri, hyper::http::Error> {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let path: PathAndQuery = format!("{}{path}{query}", self.prefix).parse()?;
        Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(path).build()
    }
}

/// The gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<Option<Arc<Target>>>,
    plain: Client<Connector, Outgoing>,
    /// Made at the first call that needs it, since the host's certificates take memory and time.
    secure: OnceLock<Client<HttpsConnector<Connector>, Outgoing>>,
    room: Arc<Semaphore>,
}

impl Gateway {
    /// A gateway that does not know where to forward to yet.
    pub fn new() -> Self {
        let plain = client(connector());
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { shared: Arc::new(Shared { target: Mutex::new(None), plain, secure: OnceLock::new(), room }) }
    }

    /// Sets where calls go from now on.
    pub fn aim(&self, settings: &Settings) -> Result<(), GatewayError> {
        let target = Target::new(settings)?;
        *self.shared.target.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::new(target));
        Ok(())
    }

    /// Serves the listener until it fails, which it does when the sandbox is gone.
    pub async fn serve(self, listener: TcpListener) {
        loop {
            // A slot first: connections beyond them wait in the listener's queue.
            let Ok(slot) = Arc::clone(&self.shared.room).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "model gateway can not accept, ending it");
                    return;
                }
            };
            let gateway = self.clone();
            tokio::spawn(async move {
                gateway.connection(stream).await;
                drop(slot);
            });
        }
    }

    async fn connection(self, stream: TcpStream) {
        // Small pieces of a stream have to leave at once.
        let _best_effort = stream.set_nodelay(true);
        let service = hyper::service::service_fn(move |request| {
            let gateway = self.clone();
            async move { Ok::<_, std::convert::Infallible>(gateway.answer(request).await) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
        if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(error = report::chain(&error), "connection to the model gateway broke");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Outgoing> {
        let path = request.uri().path().to_owned();
        if request.method() != Method::POST || !PATHS.contains(&path.as_str()) {
            let message = format!("{} {path} does not leave the sandbox", request.method());
            return refusal(StatusCode::NOT_FOUND, "not_found_error", &message);
        }
        if request.body().size_hint().lower() > BODY_MAX as u64 {
            return too_large();
        }
        let target = self.shared.target.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let Some(target) = target else {
            return refusal(StatusCode::BAD_GATEWAY, "api_error", "no session is set up, so there is no model endpoint");
        };
        match self.forward(&target, &path, request).await {
            Ok(response) => {
                tracing::debug!(%path, status = response.status().as_u16(), "model call answered");
                response
            }
            Err(error) if is_too_large(error.as_ref()) => too_large(),
            Err(error) => {
                let cause = report::chain(error.as_ref());
                let message = format!("model endpoint {}://{} can not be reached: {cause}", target.scheme, target.authority);
                tracing::warn!(error = message, "model call failed");
                refusal(StatusCode::BAD_GATEWAY, "api_error", &message)
            }
        }
    }

    async fn forward(&self, target: &Target, path: &str, request: Request<Incoming>) -> Result<Response<Outgoing>, Error> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, BODY_MAX);
        let mut outgoing = Request::new(BodyExt::boxed(body));
        *outgoing.method_mut() = Method::POST;
        *outgoing.uri_mut() = target.uri(path, parts.uri.query())?;
        let mut headers = end_to_end(parts.headers);
        // The one that counts is made from the body. A caller may have sent another, beside
        // chunks, for the endpoint to see an end where there is none.
        headers.remove(header::CONTENT_LENGTH);
        for name in CREDENTIALS {
            headers.remove(*name);
        }
        if let Some(key) = &target.key {
            headers.insert(X_API_KEY, key.clone());
        }
        *outgoing.headers_mut() = headers;
        let response = if target.scheme == Scheme::HTTP {
            self.shared.plain.request(outgoing).await?
        } else {
            self.secure()?.request(outgoing).await?
        };
        let (parts, body) = response.into_parts();
        let mut response = Response::new(BodyExt::boxed(body.map_err(Error::from)));
        *response.status_mut() = parts.status;
        *response.headers_mut() = end_to_end(parts.headers);
        Ok(response)
    }

    fn secure(&self) -> Result<&Client<HttpsConnector<Connector>, Outgoing>, Error> {
        if let Some(client) = self.shared.secure.get() {
            return Ok(client);
        }
        let mut http = connector();
        http.enforce_http(false);
        let provider = rustls::crypto::ring::default_provider();
        let https = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider)?.https_only().enable_http1();
        Ok(self.shared.secure.get_or_init(|| client(https.wrap_connector(http))))
    }
}

type Connector = HttpConnector<ServiceFn<fn(Name) -> Lookup>>;
type Lookup = Pin<Box<dyn Future<Output = io::Result<std::vec::IntoIter<SocketAddr>>> + Send>>;

/// Looks up a name in a thread of its own.
///
/// tokio's threads for blocking work, which the connector would use, are started with a panic where
/// none can be started. That is for those inside to bring about, by using up the sandbox's tasks,
/// and would be the end of the shim. Here it is a failed call, which the runtime tries again.
fn look_up(name: Name) -> Lookup {
    let (done, addresses) = oneshot::channel();
    let look_up = move || {
        // The caller may have gone away meanwhile.
        let _gone = done.send((name.as_str(), 0).to_socket_addrs());
    };
    let started = std::thread::Builder::new().name("look-up".to_owned()).spawn(look_up);
    Box::pin(async move {
        started?;
        addresses.await.map_err(io::Error::other)?
    })
}

fn connector() -> Connector {
    let mut connector = HttpConnector::new_with_resolver(service_fn(look_up as fn(Name) -> Lookup));
    connector.set_connect_timeout(Some(CONNECT_DEADLINE));
    connector.set_nodelay(true);
    connector
}

fn client<C>(connector: C) -> Client<C, Outgoing>
where
    C: hyper_util::client::legacy::connect::Connect + Clone,
{
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(connector)
}

/// The headers that are meant for the other end, not for this connection.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in DROPPED {
        headers.remove(*name);
    }
    for name in named {
        headers.remove(name);
    }
    headers
}

fn is_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<LengthLimitError>() {
            return true;
        }
        next = error.source();
    }
    false
}

fn too_large() -> Response<Outgoing> {
    let message = format!("request body is larger than {} MiB", BODY_MAX >> 20);
    let mut response = refusal(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", &message);
    // The rest of the body is not read, so the connection can not be used again.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// An error as the model API tells it.
fn refusal(status: StatusCode, kind: &str, message: &str) -> Response<Outgoing> {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}}).to_string();
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    let mut response = Response::new(BodyExt::boxed(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
