//! The model gateway: the way of the runtime to its model, which is no part of the egress policy.
//!
//! It serves HTTP/1.1 on a listener that was opened on the inner loopback, and forwards two calls
//! of the model API to the configured endpoint, with the real key in the place of whatever
//! credential came. Bodies stream through both ways; `anthropic-beta`, headers and fields that it does not
//! know pass. All else is answered 404, in the model API's shape of an error.
//!
//! What a request asks the model API to fetch is read as it passes, see [`asked`], and has to be allowed by
//! the egress policy before the end of the request leaves.
//!
//! The caller is not trusted: connections, header size and body size are bounded, and how often it calls.
//!
//! The tokens of each call are counted as its answer passes, see [`count`]. A call that the session's
//! [`budget`] leaves nothing for is answered by the gateway, with an error that is not tried again. While
//! there is a budget, calls [`reserve`] what they may take, and go on without their caller.
//!
//! Failures of the endpoint that pass are ridden out: a call is tried again for as long as the settings
//! say, see [`retry`]. The caller waits meanwhile, and the session's log is told.

mod budget;
mod count;
mod pace;
mod reserve;
mod retry;
mod tally;
mod target;

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
use hyper::http::uri::Scheme;
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tower::Service;

use self::budget::Budget;
use self::count::{Counted, Ledger};
use self::pace::Pace;
use self::reserve::{Admission, Admitted, Held, Place, Refused, Reserved, Reserves, Taken, Whole};
use self::retry::{Attempts, Fault, Replay};
use self::tally::{Own, Tally};
pub use self::target::GatewayError;
use self::target::Target;
use crate::egress::asked::Asked;
use crate::link::shim::{Budget as BudgetSettings, Gateway as Settings};
use crate::report;
use crate::resolve::LookUps;
use crate::shim::accept::accept;
use crate::shim::egress::Egress;
use crate::wire::limits::Reached;
use crate::wire::usage::{ModelCalls, ModelUsage};

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
/// Waits that are not told yet. The driver takes them within microseconds.
const WAITS: usize = 32;
/// Waits of several calls within such a time are told once. It is less than one call waits at least.
const TOLD_GAP: Duration = Duration::from_millis(200);

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
/// Nothing comes; it is closed when the caller goes.
type Gone = watch::Receiver<()>;

/// A call waits, as the endpoint failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Wait {
    /// How many attempts have failed.
    pub failed: u32,
    /// How long it waits.
    pub wait: Duration,
    /// The status that the endpoint answered with, if it did.
    pub status: Option<u16>,
    /// What happened.
    pub reason: String,
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
    tally: Tally,
    budget: Mutex<Budget>,
    reserves: Arc<Reserves>,
    /// Why the last call was refused that the budget had nothing left for.
    refused: Mutex<Option<String>>,
    kept: Arc<retry::Room>,
    waits: mpsc::Sender<Wait>,
    pace: Pace,
    /// Whose policy counts for what the model API is asked to fetch.
    egress: Egress,
    /// When a wait was told last.
    told: Mutex<Option<Instant>>,
}

impl Gateway {
    /// A gateway that does not know where to forward to yet, and where it tells of calls that wait. What the model
    /// API is asked to fetch has to be allowed by `egress`.
    pub fn new(egress: Egress) -> (Self, mpsc::Receiver<Wait>) {
        let plain = client(connector());
        let (waits, told_waits) = mpsc::channel(WAITS);
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (ledger, reserves) = (Arc::default(), Arc::default());
        let (target, secure) = (Mutex::new(None), OnceLock::new());
        let (budget, refused) = (Mutex::default(), Mutex::default());
        let (kept, told) = (Arc::default(), Mutex::default());
        let (tally, pace) = (Tally::default(), Pace::default());
        let shared =
            Shared { target, plain, secure, room, ledger, tally, budget, reserves, refused, kept, waits, pace, egress, told };
        (Self { shared: Arc::new(shared) }, told_waits)
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
    async fn admit(self, asked: Asked, mut gone: Gone) -> Result<Reserved, String> {
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
                _ = gone.changed() => return Err("the caller has gone".to_owned()),
            }
        }
    }

    /// Takes a call if the model API may fetch all that it is asked to, and once there is room in the budget.
    async fn take_call(self, mut asked: Asked, gone: Option<Gone>) -> Result<Taken, Refused> {
        let fetches = Arc::new(std::mem::take(&mut asked.fetches));
        self.shared.egress.admit_fetches(&fetches).await.map_err(Refused::Egress)?;
        asked.model = self.shared.budget.lock().unwrap_or_else(std::sync::PoisonError::into_inner).priced(asked.model);
        let reserved = match gone {
            Some(gone) => Some(self.admit(asked, gone).await.map_err(Refused::Budget)?),
            None => None,
        };
        Ok(Taken { reserved, fetches, since: Instant::now() })
    }

    /// Takes what model calls took and what was not taken before, see [`Ledger::take`].
    pub fn take(&self, cut: bool) -> BTreeMap<String, ModelUsage> {
        self.shared.ledger.take(cut)
    }

    /// Takes what became of model calls and was not taken before.
    pub fn take_calls(&self) -> ModelCalls {
        self.shared.tally.take()
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
            let Some(stream) = accept(&listener, "model gateway").await else { return };
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
        let (is_call, begun) = (request.method() == Method::POST && request.uri().path() == MESSAGES, Instant::now());
        let answer = self.respond(request, slot).await;
        if is_call {
            self.shared.tally.note(&answer, begun.elapsed());
        }
        answer
    }

    async fn respond(&self, request: Request<Incoming>, slot: Arc<OwnedSemaphorePermit>) -> Response<Outgoing> {
        let path = request.uri().path().to_owned();
        if request.method() != Method::POST || !PATHS.contains(&path.as_str()) {
            let message = format!("{} {path} does not leave the sandbox", request.method());
            return refusal(StatusCode::NOT_FOUND, "not_found_error", &message);
        }
        if request.body().size_hint().lower() > BODY_MAX as u64 {
            return too_large();
        }
        if let Some(why) = (path == MESSAGES).then(|| self.over_budget()).flatten() {
            read_to_end(request.into_body()).await;
            return spent(&why);
        }
        let Some(target) = self.target() else {
            return refusal(StatusCode::BAD_GATEWAY, "api_error", "no session is set up, so there is no model endpoint");
        };
        if target.path(&path).is_none() {
            read_to_end(request.into_body()).await;
            let message = format!("the model endpoint that is configured has no {path}");
            return refusal(StatusCode::NOT_FOUND, "not_found_error", &message);
        }
        if let Some(why) = &target.refusal {
            read_to_end(request.into_body()).await;
            return keyless(why);
        }
        if let Some(why) = packed(request.headers()) {
            read_to_end(request.into_body()).await;
            return refusal(StatusCode::BAD_REQUEST, "invalid_request_error", &why);
        }
        if let Err(wait) = self.shared.pace.keep().await {
            read_to_end(request.into_body()).await;
            return too_many(wait);
        }
        let place = Place::default();
        let (_caller, gone) = watch::channel(());
        let is_held = path == MESSAGES && self.has_budget();
        let held = is_held.then(|| (Held::new(Arc::clone(&place), slot), gone));
        let call = self.clone().forward(path.clone(), request, Arc::clone(&place), held);
        // One that has to be counted to its end does not end with its caller.
        let outcome = if is_held { tokio::spawn(call).await.unwrap_or_else(|error| Err(error.into())) } else { call.await };
        let refused = place.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take_if(|place| place.is_err());
        if let Some(Err(refused)) = refused {
            return not_taken(&refused);
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
                let mut response = refusal(StatusCode::BAD_GATEWAY, "api_error", &message);
                if !target.patience.is_zero() {
                    give_up(response.headers_mut());
                }
                response
            }
        }
    }

    /// Forwards a call, again and again while the endpoint fails and there is time.
    async fn forward(
        self,
        path: String,
        request: Request<Incoming>,
        place: Place,
        held: Option<(Held, Gone)>,
    ) -> Result<Response<Outgoing>, Error> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, BODY_MAX);
        let (held, gone) = held.unzip();
        let (gateway, caller) = (self.clone(), gone.clone());
        let admit = move |asked| Box::pin(gateway.take_call(asked, caller)) as Admission;
        let body = Admitted::new(body, Arc::clone(&place), admit).boxed_unsync();
        let patience = self.target().map_or(Duration::ZERO, |target| target.patience);
        let replay = Replay::new(body, (!patience.is_zero()).then(|| Arc::clone(&self.shared.kept)));
        let mut attempts = Attempts::new(patience);
        let response = loop {
            // Each attempt with what counts now: the key may be another one since the last.
            let (Some(target), Some(body)) = (self.target(), replay.attempt()) else {
                return Err("the call can not be tried again".into());
            };
            if let Some(why) = &target.refusal {
                return Ok(keyless(why));
            }
            let mut outgoing = Request::new(body.boxed_unsync());
            *outgoing.method_mut() = Method::POST;
            *outgoing.uri_mut() = target.uri(&path, parts.uri.query())?;
            *outgoing.headers_mut() = target.outgoing(parts.headers.clone());
            let outcome = self.send(&target, outgoing).await;
            if let Some(Ok(taken)) = &*place.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
                attempts.began(taken.since);
            }
            let fault = match &outcome {
                Ok(response) => Fault::of_answer(response.status(), response.headers()),
                Err(error) => Fault::of_error(error.as_ref()),
            };
            let wait = fault.filter(|_| replay.is_there() && !patience.is_zero());
            let Some((fault, wait)) = wait.map(|fault| {
                let wait = attempts.wait(&fault, retry::random());
                (fault, wait)
            }) else {
                break outcome?;
            };
            let Some(wait) = wait else {
                let mut response = outcome?;
                give_up(response.headers_mut());
                break response;
            };
            drop(outcome);
            self.tell(&attempts, wait, fault);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = closed(gone.clone()) => return Err("the caller has gone".into()),
            }
            if let Some(why) = (path == MESSAGES).then(|| self.over_budget()).flatten() {
                return Ok(spent(&why));
            }
            // The policy may be another one by now.
            let fetches = match &*place.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
                Some(Ok(taken)) => Some(Arc::clone(&taken.fetches)),
                _ => None,
            };
            if let Some(fetches) = fetches
                && let Err(why) = self.shared.egress.admit_fetches(&fetches).await
            {
                return Ok(not_taken(&Refused::Egress(why)));
            }
        };
        let (parts, body) = response.into_parts();
        let is_paid = path == MESSAGES && parts.status.is_success();
        let estimate = held.as_ref().and_then(Held::estimate);
        let call = is_paid.then(|| self.shared.ledger.call(&parts.headers, estimate)).flatten();
        let body = Counted::new(body, call);
        let mut response = Response::new(match held {
            Some(held) => Whole::new(body, held).map_err(Error::from).boxed_unsync(),
            None => body.map_err(Error::from).boxed_unsync(),
        });
        *response.status_mut() = parts.status;
        *response.headers_mut() = end_to_end(parts.headers);
        Ok(response)
    }

    async fn send(&self, target: &Target, request: Request<Outgoing>) -> Result<Response<Incoming>, Error> {
        if target.scheme == Scheme::HTTP {
            return Ok(self.shared.plain.request(request).await?);
        }
        Ok(self.secure()?.request(request).await?)
    }

    /// Tells of a call that waits.
    fn tell(&self, attempts: &Attempts, wait: Duration, fault: Fault) {
        let (failed, status, reason) = (attempts.failed, fault.status.map(|status| status.as_u16()), fault.reason);
        tracing::info!(reason, failed, wait_ms = wait.as_millis() as u64, "model call waits, trying again");
        let mut told = self.shared.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TOLD_GAP) {
            *told = Some(Instant::now());
            // Beyond what may wait, the log has enough of them.
            let _full = self.shared.waits.try_send(Wait { failed, wait, status, reason });
        }
    }

    fn target(&self) -> Option<Arc<Target>> {
        self.shared.target.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
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

/// Says to the runtime that all was tried.
fn give_up(headers: &mut HeaderMap) {
    headers.insert(retry::SHOULD_RETRY, HeaderValue::from_static("false"));
}

/// Waits until the caller has gone; for ever if that does not matter.
async fn closed(gone: Option<Gone>) {
    match gone {
        Some(mut gone) => while gone.changed().await.is_ok() {},
        None => std::future::pending().await,
    }
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

fn too_many(wait: Duration) -> Response<Outgoing> {
    let seconds = wait.as_secs() + 1;
    let message = format!("Ash: the session calls the model API too often; the next call is taken in {seconds} s");
    tracing::debug!(message, "model call refused");
    let mut response = refusal(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", &message);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn spent(why: &str) -> Response<Outgoing> {
    tracing::info!(why, "model call refused, the budget is spent");
    // A status that runtimes do not try again.
    refusal(StatusCode::BAD_REQUEST, "invalid_request_error", &format!("Ash: {}", Reached::Budget.cause(why)))
}

fn not_taken(refused: &Refused) -> Response<Outgoing> {
    let message = match refused {
        Refused::Budget(why) => return spent(why),
        Refused::Egress(why) => format!("{why}. What the model API is asked to fetch counts as egress"),
        Refused::Unread(why) => format!("Ash: the request is refused, as its body can not be read: {why}"),
    };
    tracing::debug!(message, "model call refused");
    // A status that runtimes do not try again.
    refusal(StatusCode::BAD_REQUEST, "invalid_request_error", &message)
}

/// Why a body is not read, if its bytes stand for others.
fn packed(headers: &HeaderMap) -> Option<String> {
    let is_plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    let packed = headers.get_all(header::CONTENT_ENCODING).iter().find(|value| !is_plain(value))?;
    Some(format!("Ash: the request is refused, as its body is packed: content-encoding {packed:?} is not read"))
}

fn keyless(why: &str) -> Response<Outgoing> {
    tracing::info!(why, "model call refused, there is no key for it");
    let mut response = refusal(StatusCode::UNAUTHORIZED, "authentication_error", &format!("Ash: {why}"));
    give_up(response.headers_mut());
    response
}

/// A caller that is cut off while it sends would take that for a fault of the connection.
async fn read_to_end(body: Incoming) {
    let mut rest = Limited::new(body, BODY_MAX);
    while let Some(Ok(_)) = rest.frame().await {}
}

/// An error as the model API tells it.
fn refusal(status: StatusCode, kind: &str, message: &str) -> Response<Outgoing> {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}}).to_string();
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response.extensions_mut().insert(Own);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
