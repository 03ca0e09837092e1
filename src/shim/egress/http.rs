//! The proxy in HTTP/1.1: `CONNECT`, requests in absolute form, and requests within a tunnel.
//!
//! Each request is taken apart and put together anew, so what hides in the way it was written (two
//! lengths, a second request in a body) does not pass. A refusal is a 403 whose body is the sentence;
//! its status line has it, too, as many tools show nothing else of an answer to `CONNECT`.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::stream::Guarded;
use super::{Egress, Failure, HEAD_DEADLINE, Outside, Way, bound, lock, tunnel};
use crate::egress::policy::Refusal;
use crate::shim::gateway::end_to_end;
use crate::wire::egress::Target;

/// Bytes of one request's head, and number of its headers.
const HEAD_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
/// The port of `http://` where none is named.
const HTTP_PORT: u16 = 80;
/// And that of `https://`.
const HTTPS_PORT: u16 = 443;

type Content = BoxBody<Bytes, hyper::Error>;

/// One connection from inside.
#[derive(Debug)]
struct Connection {
    egress: Egress,
    /// Where all requests go, within a tunnel.
    tunnelled: Option<Target>,
    /// The connection that was used last, for the next request to the same target.
    upstream: Mutex<Option<Upstream>>,
    /// What becomes of the connection after a `CONNECT`.
    connected: Mutex<Option<(OnUpgrade, Outside)>>,
}

#[derive(Debug)]
pub(super) struct Upstream {
    target: Target,
    way: Way,
    sender: SendRequest<Content>,
}

/// Why a request is not passed on.
enum Unanswered {
    Failure(Failure),
    /// It is no request to a proxy.
    Malformed(String),
    /// There is no credential for it any more.
    Gone(String),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Serves somebody who speaks to the proxy.
pub async fn serve(egress: &Egress, stream: Guarded<TcpStream>) -> io::Result<()> {
    let connection =
        Arc::new(Connection { egress: egress.clone(), tunnelled: None, upstream: Mutex::default(), connected: Mutex::default() });
    serve_requests(&connection, stream).await?;
    let connected = lock(&connection.connected).take();
    if let Some((upgrade, outside)) = connected {
        let client = TokioIo::new(upgrade.await.map_err(io::Error::other)?);
        tunnel::run(egress, client, outside).await?;
    }
    Ok(())
}

/// Serves somebody who speaks HTTP through a tunnel, to one target.
pub async fn serve_tunnelled<S>(egress: &Egress, stream: S, outside: Outside) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let target = outside.target.clone();
    let upstream = open(outside).await.map_err(io::Error::other)?;
    let connection = Arc::new(Connection {
        egress: egress.clone(),
        tunnelled: Some(target),
        upstream: Mutex::new(Some(upstream)),
        connected: Mutex::default(),
    });
    serve_requests(&connection, stream).await
}

async fn serve_requests<S>(connection: &Arc<Connection>, stream: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let serving = Arc::clone(connection);
    let service = hyper::service::service_fn(move |request| {
        let connection = Arc::clone(&serving);
        async move { Ok::<_, std::convert::Infallible>(connection.answer(request).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
    server.serve_connection(TokioIo::new(stream), service).with_upgrades().await.map_err(io::Error::other)
}

async fn open(outside: Outside) -> Result<Upstream, hyper::Error> {
    let Outside { target, way, stream } = outside;
    open_on(target, way, TokioIo::new(stream)).await
}

/// Speaks HTTP on a connection.
pub(super) async fn open_on<S>(target: Target, way: Way, stream: S) -> Result<Upstream, hyper::Error>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(stream).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the outside broke");
        }
    });
    Ok(Upstream { target, way, sender })
}

impl Connection {
    async fn answer(&self, request: Request<Incoming>) -> Response<Content> {
        let is_connect = request.method() == Method::CONNECT && self.tunnelled.is_none();
        let answer = match self.bound_call(&request) {
            Some(call) => self.pass_bound(request, call).await,
            None if is_connect => self.connect(request).await,
            None => self.pass_on(request).await,
        };
        answer.unwrap_or_else(|unanswered| match unanswered {
            Unanswered::Failure(Failure::Denied(refusal)) => sentence(StatusCode::FORBIDDEN, &refusal.to_string()),
            Unanswered::Failure(Failure::Unreachable(why)) => sentence(StatusCode::BAD_GATEWAY, &format!("Ash: {why}")),
            Unanswered::Malformed(why) => sentence(StatusCode::BAD_REQUEST, &format!("Ash: {why}")),
            Unanswered::Gone(why) => sentence(StatusCode::UNAUTHORIZED, &format!("Ash: {why}")),
        })
    }

    async fn connect(&self, mut request: Request<Incoming>) -> Result<Response<Content>, Unanswered> {
        let asked = request.uri().authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        let target = match Target::parse(&asked, None) {
            Ok(target) => target,
            Err(error) => return Err(self.egress.deny_text(&asked, error).await.into()),
        };
        let outside = self.egress.connect(&target, Way::Listed).await?;
        *lock(&self.connected) = Some((hyper::upgrade::on(&mut request), outside));
        Ok(Response::new(Empty::new().map_err(|never| match never {}).boxed()))
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Content>, Unanswered> {
        let target = self.target(&request).await?;
        self.check_host(request.headers(), &target).await?;
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let outgoing = outgoing(request, path, &target, HTTP_PORT)?;
        Ok(incoming(self.send(&target, Way::Listed, outgoing).await?))
    }

    /// What a request is for that names a bound credential by its path.
    fn bound_call(&self, request: &Request<Incoming>) -> Option<bound::Call> {
        let is_for_us = self.tunnelled.is_none() && request.method() != Method::CONNECT;
        let uri = Some(request.uri()).filter(|uri| is_for_us && uri.authority().is_none())?;
        let bindings = Arc::clone(&lock(&self.egress.shared.bindings));
        bound::call(&bindings, uri)
    }

    /// Passes a request on to the host that a credential is bound to, with the credential.
    async fn pass_bound(&self, request: Request<Incoming>, call: bound::Call) -> Result<Response<Content>, Unanswered> {
        let bound::Call { name, path, target, header, value } = call;
        if request.method() == Method::TRACE {
            return Err(Unanswered::Malformed("TRACE would show the credential".to_owned()));
        }
        if !bound::is_for_loopback(request.headers()) {
            self.check_host(request.headers(), &target).await?;
        }
        let Some(value) = value else {
            return Err(Unanswered::Gone(format!("the credential {name} was deleted, so no call leaves with it")));
        };
        let mut outgoing = outgoing(request, path, &target, HTTPS_PORT)?;
        // In the place of all that the caller sent under this name.
        outgoing.headers_mut().insert(header, value);
        Ok(incoming(self.send(&target, Way::Bound, outgoing).await?))
    }

    /// Where a request goes.
    async fn target(&self, request: &Request<Incoming>) -> Result<Target, Unanswered> {
        let uri = request.uri();
        let malformed = |why: &str| Err(Unanswered::Malformed(why.to_owned()));
        let Some(authority) = uri.authority().filter(|_| request.method() != Method::CONNECT) else {
            return match &self.tunnelled {
                Some(target) if request.method() != Method::CONNECT => Ok(target.clone()),
                Some(_) => malformed("there is no tunnel within a tunnel"),
                None => malformed("this is a proxy: ask for http://host/path, or CONNECT host:port"),
            };
        };
        if uri.scheme() != Some(&Scheme::HTTP) {
            return malformed("ask for https:// by CONNECT host:443");
        }
        let asked = authority.as_str();
        let target = match Target::parse(asked, Some(HTTP_PORT)) {
            Ok(target) => target,
            Err(error) => return Err(self.egress.deny_text(asked, error).await.into()),
        };
        match &self.tunnelled {
            Some(tunnelled) if *tunnelled != target => {
                let refusal = Refusal::new(tunnelled, format!("the request within is for {target}"));
                Err(self.egress.deny(tunnelled, refusal).await.into())
            }
            _ => Ok(target),
        }
    }

    /// The server goes by the `Host`, so it is the same as what was allowed.
    async fn check_host(&self, headers: &HeaderMap, target: &Target) -> Result<(), Unanswered> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (host, another) = (hosts.next(), hosts.next());
        if another.is_some() {
            return Err(Unanswered::Malformed("a request has one Host".to_owned()));
        }
        let Some(host) = host else { return Ok(()) };
        let host = String::from_utf8_lossy(host.as_bytes());
        if Target::parse(&host, Some(target.port)).as_ref() == Ok(target) {
            return Ok(());
        }
        let refusal = Refusal::new(target, format!("the request's Host is {:?}", host.chars().take(80).collect::<String>()));
        Err(self.egress.deny(target, refusal).await.into())
    }

    async fn send(&self, target: &Target, way: Way, mut request: Request<Content>) -> Result<Response<Incoming>, Unanswered> {
        if let Err(refusal) = self.egress.policy_of(target, way).admit(target) {
            return Err(self.egress.deny(target, refusal).await.into());
        }
        let unreachable = |error: hyper::Error| Failure::Unreachable(format!("{target} did not answer: {error}"));
        let last = lock(&self.upstream).take().filter(|upstream| upstream.target == *target && upstream.way == way);
        if let Some(mut upstream) = last
            && upstream.sender.ready().await.is_ok()
        {
            match upstream.sender.try_send_request(request).await {
                Ok(response) => {
                    *lock(&self.upstream) = Some(upstream);
                    return Ok(response);
                }
                // It was closed before the request was sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(unreachable(error.into_error()).into()),
                },
            }
        }
        let outside = self.egress.connect(target, way).await?;
        let mut upstream = match way {
            Way::Listed => open(outside).await.map_err(unreachable)?,
            Way::Bound => bound::open(&self.egress, outside).await?,
        };
        let response = upstream.sender.send_request(request).await.map_err(unreachable)?;
        *lock(&self.upstream) = Some(upstream);
        Ok(response)
    }
}

/// A request as it leaves; `usual` is the port that its Host leaves out.
fn outgoing(request: Request<Incoming>, path: PathAndQuery, target: &Target, usual: u16) -> Result<Request<Content>, Unanswered> {
    let (parts, body) = request.into_parts();
    let mut outgoing = Request::new(body.boxed());
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = Uri::from(path);
    let mut headers = end_to_end(parts.headers);
    // The one that counts is made from the body.
    headers.remove(header::CONTENT_LENGTH);
    let host = if target.port == usual { target.host.to_string() } else { target.to_string() };
    let host = HeaderValue::try_from(host).map_err(|error| Unanswered::Malformed(error.to_string()))?;
    headers.insert(header::HOST, host);
    *outgoing.headers_mut() = headers;
    Ok(outgoing)
}

/// An answer as it goes to the caller, a redirect like any other.
fn incoming(response: Response<Incoming>) -> Response<Content> {
    let (parts, body) = response.into_parts();
    let mut response = Response::new(body.boxed());
    *response.status_mut() = parts.status;
    *response.headers_mut() = end_to_end(parts.headers);
    response
}

/// An answer of the proxy itself.
fn sentence(status: StatusCode, text: &str) -> Response<Content> {
    let mut response = Response::new(Full::from(format!("{text}\n")).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // What is left of the request is not read.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    // Where the text can be none, the usual one is there.
    if let Ok(reason) = ReasonPhrase::try_from(text.as_bytes()) {
        response.extensions_mut().insert(reason);
    }
    response
}
