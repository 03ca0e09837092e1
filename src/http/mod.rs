//! The API: the same routes on the control socket and on TCP.
//!
//! Handlers take a request apart, call one service method and put the answer together; what may
//! be done in which state is decided below them. Every request has an id, which the answer's
//! `x-request-id`, the error body and the journal carry.

pub mod extract;
pub mod problem;
mod route;
mod sse;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post, put};
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::agent::service::Agents;
use crate::auth::Principal;
use crate::auth::key::Keys;
use crate::auth::peer::PeerRefused;
use crate::doctor::Doctor;
use crate::session::Sessions;
use crate::store::Store;
use crate::wire::problem::Code;
use problem::{Failure, REQUEST_ID};

/// Where a connection came from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The control socket; decided once for the connection.
    Local(Result<Principal, PeerRefused>),
    /// TCP.
    Remote(SocketAddr),
}

/// What the handlers share.
#[derive(Debug, Clone)]
pub struct App {
    /// Sessions.
    pub sessions: Sessions,
    /// Agents.
    pub agents: Agents,
    /// API keys.
    pub keys: Keys,
    /// The database, for checks.
    pub store: Arc<dyn Store>,
    /// What the daemon says of itself.
    pub about: Arc<About>,
    /// Ends the streams when the daemon stops.
    pub stop: CancellationToken,
}

/// What the daemon says of itself.
#[derive(Debug)]
pub struct About {
    /// When it started.
    pub started: std::time::SystemTime,
    /// `<hostname>-<pid>`.
    pub coordinator_id: String,
    /// What the launcher does not enforce.
    pub lacks: Vec<String>,
    /// The checks of `GET /api/doctor` that need the daemon's eyes.
    pub doctor: Doctor,
}

/// All routes.
pub fn router(app: App) -> Router {
    use route::{agents, doctor, health, keys, sessions};
    let api = Router::new()
        .route("/api/agents", get(agents::list).post(agents::deploy))
        .route("/api/agents/{name}", get(agents::show).patch(agents::patch).delete(agents::delete))
        .route("/api/agents/{name}/archive", put(agents::deploy_archive))
        .route("/api/sessions", get(sessions::list).post(sessions::create))
        .route("/api/sessions/{id}", get(sessions::show).delete(sessions::end))
        .route("/api/sessions/{id}/config", patch(sessions::configure))
        .route("/api/sessions/{id}/messages", get(sessions::messages).post(sessions::post_message))
        .route("/api/sessions/{id}/events", get(sessions::events))
        .route("/api/sessions/{id}/stream", get(sessions::stream))
        .route("/api/sessions/{id}/interrupt", post(sessions::interrupt))
        .route("/api/api-keys", get(keys::list).post(keys::create))
        .route("/api/api-keys/{id}", delete(keys::revoke))
        .route("/api/doctor", get(doctor::show))
        .fallback(no_route)
        .layer(from_fn_with_state(app.clone(), authenticate));
    Router::new()
        .route("/health", get(health::show))
        .merge(api)
        .method_not_allowed_fallback(no_method)
        // Bodies are limited where they are read, each route by its own measure.
        .layer(axum::extract::DefaultBodyLimit::disable())
        .layer(from_fn(identify))
        .with_state(app)
}

async fn no_route(request: Request) -> Failure {
    Failure::not_found(format!("Route {}:{} not found", request.method(), request.uri().path()))
}

async fn no_method(request: Request) -> Failure {
    let sentence = format!("{} does not take {}", request.uri().path(), request.method());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed, sentence)
}

/// Bodies up to this size are read before their request is handled. A server that closes a
/// connection with bytes unread resets it, upon which the client may lose the answer it had
/// already been sent; so small bodies are taken also by routes that have no use for them.
const SMALL_BODY: usize = 64 << 10;
/// How long such a body may take. It comes with its head, or its sender is up to something.
const SMALL_BODY_DEADLINE: Duration = Duration::from_secs(30);

async fn take_small_body(request: Request) -> Result<Request, Failure> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    match length {
        Some(1..=SMALL_BODY) => {
            let (parts, body) = request.into_parts();
            let body = tokio::time::timeout(SMALL_BODY_DEADLINE, body.collect()).await;
            let body = body.map_err(|_| Failure::invalid("The body did not come in time"))?;
            let body = body.map_err(|e| Failure::invalid(format!("The body could not be read: {e}")))?;
            Ok(Request::from_parts(parts, Body::from(body.to_bytes())))
        }
        _ => Ok(request),
    }
}

/// Gives the request an id, and the answer its header.
async fn identify(request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().to_string();
    let header = HeaderValue::from_str(&id);
    let handled = async {
        match take_small_body(request).await {
            Ok(request) => next.run(request).await,
            Err(failure) => failure.into_response(),
        }
    };
    let mut response = REQUEST_ID.scope(id, handled).await;
    if let Ok(header) = header {
        response.headers_mut().insert("x-request-id", header);
    }
    response
}

/// Finds out who is calling, or refuses.
async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let origin = request.extensions().get::<Origin>().cloned();
    match principal(&app, origin, request.headers().clone()).await {
        Ok(principal) => {
            tracing::debug!(principal = principal.name, method = %request.method(), path = request.uri().path(), "request");
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

async fn principal(app: &App, origin: Option<Origin>, headers: HeaderMap) -> Result<Principal, Failure> {
    match origin {
        Some(Origin::Local(admitted)) => {
            // Only a browser sends this, and no page has any business on the control socket.
            if headers.contains_key(header::ORIGIN) {
                return Err(Failure::forbidden("The control socket takes no requests of web pages (header Origin)"));
            }
            admitted.map_err(|refused| Failure::forbidden(refused.to_string()))
        }
        Some(Origin::Remote(_)) => {
            // A header that is not text can be no key.
            let presented = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or(""));
            Ok(app.keys.admit(presented).await?)
        }
        None => Err(Failure::forbidden("The connection's origin is not known")),
    }
}
