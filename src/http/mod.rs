//! The API: the same routes on the control socket and on TCP.
//!
//! Handlers take a request apart, call one service method and put the answer together; what may
//! be done in which state is decided below them. Every request has an id, which the answer's
//! `x-request-id`, the error body and the journal carry.

pub mod cors;
pub mod extract;
mod field;
mod kept;
mod list;
mod media_type;
mod places;
pub mod problem;
mod route;
mod sse;
mod upload;

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
use crate::credential::Credentials;
use crate::doctor::Doctor;
use crate::gc::Gc;
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
    /// Removal of what is not needed any more.
    pub gc: Arc<Gc>,
    /// API keys.
    pub keys: Keys,
    /// Secrets that are kept for sessions.
    pub credentials: Credentials,
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
    use route::{
        agent_files, agents, credentials, doctor, egress, exec, files, gc, health, keys, limits, logs, metrics, permissions,
        resources, security, sessions, snapshots, turns, workspace,
    };
    let api = Router::new()
        .route("/api/agents", get(agents::list).post(agents::deploy))
        .route("/api/agents/{name}", get(agents::show).patch(agents::patch).delete(agents::delete))
        .route("/api/agents/{name}/archive", put(agents::deploy_archive))
        .route("/api/agents/{name}/config", get(agent_files::config).patch(agent_files::configure))
        .route("/api/agents/{name}/files", get(agent_files::list).post(agent_files::write))
        .route("/api/agents/{name}/files/", get(agent_files::no_path).delete(agent_files::no_path))
        .route("/api/agents/{name}/files/{*path}", get(agent_files::read).delete(agent_files::delete))
        .route("/api/sessions", get(sessions::list).post(sessions::create))
        .route("/api/sessions/{id}", get(sessions::show).delete(sessions::end))
        .route("/api/sessions/{id}/config", patch(sessions::configure))
        .route("/api/sessions/{id}/messages", get(sessions::messages).post(sessions::post_message))
        .route("/api/sessions/{id}/events", get(sessions::events))
        .route("/api/sessions/{id}/stream", get(sessions::stream))
        .route("/api/sessions/{id}/interrupt", post(sessions::interrupt))
        .route("/api/sessions/{id}/pause", post(snapshots::pause))
        .route("/api/sessions/{id}/resume", post(snapshots::resume))
        .route("/api/sessions/{id}/stop", post(snapshots::stop))
        .route("/api/sessions/{id}/fork", post(snapshots::fork))
        .route("/api/sessions/{id}/rewind", post(snapshots::rewind))
        .route("/api/sessions/{id}/workspace", get(workspace::download).post(workspace::upload))
        .route("/api/sessions/{id}/logs", get(logs::list))
        .route("/api/sessions/{id}/exec", post(exec::run))
        .route("/api/sessions/{id}/files", get(files::list).post(files::write))
        .route("/api/sessions/{id}/files/", get(files::no_path).delete(files::no_path))
        .route("/api/sessions/{id}/files/{*path}", get(files::read).delete(files::delete))
        .route("/api/sessions/{id}/snapshots", get(snapshots::list).post(snapshots::take))
        .route("/api/sessions/{id}/egress", get(egress::show).patch(egress::change))
        .route("/api/sessions/{id}/security", get(security::show))
        .route("/api/resources", get(resources::list))
        .route("/api/sessions/{id}/resources", get(resources::show))
        .route("/api/sessions/{id}/limits", get(limits::show).patch(limits::change))
        .route("/api/sessions/{id}/turns", get(turns::list))
        .route("/api/sessions/{id}/turns/{turn}", get(turns::show))
        .route("/api/sessions/{id}/turns/{turn}/cancel", post(turns::cancel))
        .route("/api/sessions/{id}/permissions", get(permissions::list))
        .route("/api/sessions/{id}/permissions/{permission}", get(permissions::show).post(permissions::answer))
        .route("/api/credentials", get(credentials::list).post(credentials::create))
        .route("/api/credentials/reseal", post(credentials::reseal))
        .route("/api/credentials/{id}", patch(credentials::change).delete(credentials::delete))
        .route("/api/api-keys", get(keys::list).post(keys::create))
        .route("/api/api-keys/{id}", delete(keys::revoke))
        .route("/api/doctor", get(doctor::show))
        .route("/api/gc", post(gc::run))
        .route("/metrics", get(metrics::show))
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

/// Bodies up to this size are read before their request is handled, also for routes that have no use
/// for them: hyper ends a connection whose request was not read, and the next one on it fails.
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
