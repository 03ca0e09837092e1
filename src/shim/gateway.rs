//! The model gateway: the way of the runtime to its model, which is no part of the egress policy.
//!
//! It serves HTTP/1.1 on a listener that was opened on the inner loopback, and forwards two calls
//! of the model API to the configured endpoint, with the real key in the place of whatever
//! credential came. Bodies stream through both ways; `anthropic-beta` and headers it does not know
//! pass. All else is answered 404, in the model API's shape of an error.
//!
//! The caller is not trusted: connections, header size and body size are bounded.
//!
//! The tokens of each call are counted as its answer passes, see [`count`]. A call that the session's
//! [`budget`] leaves nothing for is answered by the gateway, with an error that is not tried again. While
//! there is a budget, calls [`reserve`] what they may take, and go on without their caller.

mod budget;
mod count;
mod reserve;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tower::Service;

use self::budget::Budget;
use self::count::{Counted, Ledger};
use self::reserve::{Admission, Admitted, Asked, Held, Place, Reserved, Reserves, Whole};
use super::resolve::LookUps;
use crate::link::shim::{Budget as BudgetSettings, Gateway as Settings};
use crate::report;
use crate::wire::limits::Reached;
use crate::wire::usage::ModelUsage;

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
/// Looks for the endpoint at the same time, each in a thread, which is one of the sandbox's tasks.
const LOOK_UPS: usize = 4;
/// How long an unused connection to the endpoint is kept.
const IDLE: Duration = Duration::from_secs(60);

/// The calls that are forwarded, and the one among them that costs something.
const PATHS: &[&str] = &[MESSAGES, "/v1/messages/count_tokens"];
const MESSAGES: &str = "/v1/messages";

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
type Outgoing = UnsyncBoxBody<Bytes, Error>;

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
    ledger: Arc<Ledger>,
    budget: Mutex<Budget>,
    reserves: Arc<Reserves>,
    /// Why the last call was refused that the budget had nothing left for.
    refused: Mutex<Option<String>>,
}

impl Gateway {
    /// A gateway that does not know where to forward to yet.
    pub fn new() -> Self {
        let plain = client(connector());
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (ledger, reserves) = (Arc::default(), Arc::default());
        let (target, secure) = (Mutex::new(None), OnceLock::new());
        let (budget, refused) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { target, plain, secure, room, ledger, budget, reserves, refused }) }
    }

    /// Sets what all turns of the session may take from now on.
    pub fn budget(&self, settings: &BudgetSettings) {
        self.shared.budget.lock().unwrap_or_else(std::sync::PoisonError::into_inner).set(settings);
        self.shared.reserves.look_again();
    }

    /// Why a call was refused for the budget since this was asked last.
    pub fn take_refusal(&self) -> Option<String> {
        self.shared.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    fn over_budget(&self) -> Option<String> {
        let budget = self.shared.budget.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let refusal = budget.refusal(&self.shared.ledger.all())?;
        *self.shared.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(refusal.clone());
        Some(refusal)
    }

    fn has_budget(&self) -> bool {
        self.shared.budget.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_set()
    }

    /// Whether something is left if others take all that they reserved.
    fn is_left_beside(&self, mut all: BTreeMap<String, ModelUsage>) -> bool {
        for (model, usage) in self.shared.ledger.all() {
            all.entry(model).or_default().add(&usage);
        }
        self.shared.budget.lock().unwrap_or_else(std::sync::PoisonError::into_inner).refusal(&all).is_none()
    }

    /// Reserves for a call, as soon as those under way leave something for it. Says why if nothing is left,
    /// or if the caller has `gone` before.
    async fn admit(self, asked: Asked, mut gone: oneshot::Receiver<Infallible>) -> Result<Reserved, String> {
        loop {
            let mut freed = std::pin::pin!(self.shared.reserves.freed());
            freed.as_mut().enable();
            if let Some(why) = self.over_budget() {
                return Err(why);
            }
            if let Some(reserved) = self.shared.reserves.take(&asked, |others| self.is_left_beside(others.clone())) {
                return Ok(reserved);
            }
            tracing::debug!("model call waits, since those under way may take what is left of the budget");
            tokio::select! {
                () = freed => {}
                _ = &mut gone => return Err("the caller has gone".to_owned()),
            }
        }
    }

    /// Takes what model calls took and what was not taken before, see [`Ledger::take`].
    pub fn take(&self, cut: bool) -> BTreeMap<String, ModelUsage> {
        self.shared.ledger.take(cut)
    }

    /// What is on no bill yet, see [`Ledger::leftover`].
    pub fn leftover(&self) -> BTreeMap<String, ModelUsage> {
        self.shared.ledger.leftover()
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
                gateway.connection(stream, Arc::new(slot)).await;
            });
        }
    }

    async fn connection(self, stream: TcpStream, slot: Arc<OwnedSemaphorePermit>) {
        // Small pieces of a stream have to leave at once.
        let _best_effort = stream.set_nodelay(true);
        let service = hyper::service::service_fn(move |request| {
            let (gateway, slot) = (self.clone(), Arc::clone(&slot));
            async move { Ok::<_, Infallible>(gateway.answer(request, slot).await) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
        if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(error = report::chain(&error), "connection to the model gateway broke");
        }
    }

    async fn answer(&self, request: Request<Incoming>, slot: Arc<OwnedSemaphorePermit>) -> Response<Outgoing> {
        let path = request.uri().path().to_owned();
        if request.method() != Method::POST || !PATHS.contains(&path.as_str()) {
            let message = format!("{} {path} does not leave the sandbox", request.method());
            return refusal(StatusCode::NOT_FOUND, "not_found_error", &message);
        }
        if request.body().size_hint().lower() > BODY_MAX as u64 {
            return too_large();
        }
        if let Some(why) = (path == MESSAGES).then(|| self.over_budget()).flatten() {
            // A caller that is cut off while it sends would take that for a fault of the connection.
            let mut rest = Limited::new(request.into_body(), BODY_MAX);
            while let Some(Ok(_)) = rest.frame().await {}
            return spent(&why);
        }
        let target = self.shared.target.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let Some(target) = target else {
            return refusal(StatusCode::BAD_GATEWAY, "api_error", "no session is set up, so there is no model endpoint");
        };
        let place = (path == MESSAGES && self.has_budget()).then(Place::default);
        let (_caller, gone) = oneshot::channel();
        let held = place.clone().map(|place| (Held::new(place, slot), gone));
        let is_held = held.is_some();
        let call = self.clone().forward(Arc::clone(&target), path.clone(), request, held);
        // One that has to be counted to its end does not end with its caller.
        let outcome = if is_held { tokio::spawn(call).await.unwrap_or_else(|error| Err(error.into())) } else { call.await };
        let refused = place
            .and_then(|place| place.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take_if(|place| place.is_err()));
        if let Some(Err(why)) = refused {
            return spent(&why);
        }
        match outcome {
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

    async fn forward(
        self,
        target: Arc<Target>,
        path: String,
        request: Request<Incoming>,
        held: Option<(Held, oneshot::Receiver<Infallible>)>,
    ) -> Result<Response<Outgoing>, Error> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, BODY_MAX);
        let (body, held) = match held {
            Some((held, gone)) => {
                let gateway = self.clone();
                let admit = move |asked| Box::pin(gateway.admit(asked, gone)) as Admission;
                (Admitted::new(body, held.place(), admit).boxed_unsync(), Some(held))
            }
            None => (body.boxed_unsync(), None),
        };
        let mut outgoing = Request::new(body);
        *outgoing.method_mut() = Method::POST;
        *outgoing.uri_mut() = target.uri(&path, parts.uri.query())?;
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
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        *outgoing.headers_mut() = headers;
        let response = if target.scheme == Scheme::HTTP {
            self.shared.plain.request(outgoing).await?
        } else {
            self.secure()?.request(outgoing).await?
        };
        let (parts, body) = response.into_parts();
        let is_paid = path == MESSAGES && parts.status.is_success();
        let call = is_paid.then(|| self.shared.ledger.call(&parts.headers)).flatten();
        let body = Counted::new(body, call);
        let mut response = Response::new(match held {
            Some(held) => Whole::new(body, held).map_err(Error::from).boxed_unsync(),
            None => body.map_err(Error::from).boxed_unsync(),
        });
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

type Connector = HttpConnector<Resolver>;

/// The host's resolver, for a connector that knows the port.
#[derive(Debug, Clone)]
struct Resolver(LookUps);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let addresses = self.0.look_up(name.as_str().to_owned());
        Box::pin(async move { Ok(addresses.await?.into_iter()) })
    }
}

fn connector() -> Connector {
    let mut connector = HttpConnector::new_with_resolver(Resolver(LookUps::new(LOOK_UPS)));
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
pub(super) fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
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

fn spent(why: &str) -> Response<Outgoing> {
    tracing::info!(why, "model call refused, the budget is spent");
    // A status that runtimes do not try again.
    refusal(StatusCode::BAD_REQUEST, "invalid_request_error", &format!("Ash: {}", Reached::Budget.cause(why)))
}

/// An error as the model API tells it.
fn refusal(status: StatusCode, kind: &str, message: &str) -> Response<Outgoing> {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}}).to_string();
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
