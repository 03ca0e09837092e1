//! The API: the same routes on the control socket and on TCP.
//!
//! Handlers take a request apart, call one service method and put the answer together; what may
//! be done in which state is decided below them. Every request has an id, which the answer's
//! `x-request-id`, the error body and the journal carry.

mod body;
pub mod cors;
pub mod extract;
mod field;
mod guard;
pub mod handover;
mod kept;
mod list;
mod measure;
mod media_type;
pub mod openapi;
mod places;
pub mod problem;
pub mod rate;
mod route;
mod sse;
mod trace;
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
use futures_util::StreamExt;
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::agent::service::Agents;
use crate::auth::Principal;
use crate::auth::key::Keys;
use crate::auth::peer::PeerRefused;
use crate::credential::Credentials;
use crate::doctor::Doctor;
use crate::eval::Evals;
use crate::gc::Gc;
use crate::project_file::ProjectFiles;
use crate::queue::Queue;
use crate::schedule::Schedules;
use crate::session::Sessions;
use crate::store::Store;
use crate::webhook::Webhooks;
use crate::wire::audit::Action;
use crate::wire::problem::Code;
use crate::wire::scope::Scope;
pub use guard::Route;
use guard::{Guard, Methods, Table, delete, get, patch, post, put};
use problem::{Failure, REQUEST_ID};
use rate::Limits;

/// Where a connection came from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The control socket; decided once for the connection.
    Local(Result<Principal, PeerRefused>),
    /// TCP.
    Remote(SocketAddr),
}

/// How a connection is spoken on: `http` or `https`.
#[derive(Debug, Clone, Copy)]
pub struct Scheme(pub &'static str);

/// What the handlers share.
#[derive(Debug, Clone)]
pub struct App {
    /// Sessions.
    pub sessions: Sessions,
    /// Agents.
    pub agents: Agents,
    /// Messages that wait for a session.
    pub queue: Arc<Queue>,
    /// Files of tenants.
    pub files: ProjectFiles,
    /// Questions that agents are asked again and again.
    pub evals: Arc<Evals>,
    /// Removal of what is not needed any more.
    pub gc: Arc<Gc>,
    /// API keys.
    pub keys: Keys,
    /// Secrets that are kept for sessions.
    pub credentials: Credentials,
    /// Who is told of events.
    pub webhooks: Webhooks,
    /// What is queued at the times of a calendar.
    pub schedules: Schedules,
    /// The database, for checks.
    pub store: Arc<dyn Store>,
    /// What the daemon says of itself.
    pub about: Arc<About>,
    /// How often callers may ask.
    pub limits: Arc<Limits>,
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
    /// The state folder.
    pub data: std::path::PathBuf,
    /// What the launcher does not enforce.
    pub lacks: Vec<String>,
    /// Where others reach the listener for programs, if that is known.
    pub public_url: Option<String>,
    /// Whether `/docs` is there.
    pub docs: bool,
    /// The checks of `GET /api/doctor` that need the daemon's eyes.
    pub doctor: Doctor,
}

/// All routes that need somebody known, and what each needs of whom.
fn table() -> Table {
    use Action::{
        AgentChange, AgentDelete, AgentDeploy, CredentialChange, CredentialCreate, CredentialDelete, CredentialReseal,
        EvalCancel, EvalChange, EvalScore, EvalStart, FileDelete, FileLink, FileUpload, GcRun, KeyCreate, KeyRevoke, QueueAdd,
        ScheduleChange, ScheduleCreate, ScheduleDelete, ScheduleRun, SessionCreate, SessionEgress, SessionEnd, SessionFork,
        SessionLimits, WebhookChange, WebhookCreate, WebhookDelete, WebhookSend,
    };
    use Scope::{Admin, Deploy, Read, Run};
    use route::{
        agent_files, agents, analytics, attachments, audit, credentials, doctor, egress, eval_runs, evals, exec, files, gc, keys,
        limits, logs, metrics, permissions, project_files, prompt_versions, queue, resources, schedules, security, sessions,
        snapshots, terminal, turns, usage, webhooks, workspace,
    };
    Table::default()
        .route_of_one("/api/agents", Deploy, get(agents::list).post(agents::deploy).audited(AgentDeploy))
        .route(
            "/api/agents/{name}",
            Deploy,
            get(agents::show).patch(agents::patch).audited(AgentChange).delete(agents::delete).audited(AgentDelete),
        )
        .route("/api/agents/{name}/archive", Deploy, put(agents::deploy_archive).audited(AgentDeploy))
        .route("/api/agents/{name}/config", Deploy, get(agent_files::config).patch(agent_files::configure).audited(AgentChange))
        .route("/api/agents/{name}/files", Deploy, get(agent_files::list).post(agent_files::write).audited(AgentChange))
        .route("/api/agents/{name}/files/", Deploy, get(agent_files::no_path).delete(agent_files::no_path))
        .route(
            "/api/agents/{name}/files/{*path}",
            Deploy,
            get(agent_files::read).delete(agent_files::delete).audited(AgentChange),
        )
        .route(
            "/api/agents/{name}/versions",
            Deploy,
            get(prompt_versions::list).post(prompt_versions::create).audited(AgentChange),
        )
        .route(
            "/api/agents/{name}/versions/{version}",
            Deploy,
            get(prompt_versions::show)
                .patch(prompt_versions::change)
                .audited(AgentChange)
                .delete(prompt_versions::delete)
                .audited(AgentChange),
        )
        .route("/api/agents/{name}/versions/{version}/activate", Deploy, post(prompt_versions::activate).audited(AgentChange))
        .route("/api/agents/{name}/versions/{version}/deactivate", Deploy, post(prompt_versions::deactivate).audited(AgentChange))
        .route("/api/agents/{name}/eval-cases", Deploy, get(evals::list).post(evals::create).audited(EvalChange))
        .route("/api/agents/{name}/eval-cases/import", Deploy, post(evals::import).audited(EvalChange))
        .route("/api/agents/{name}/eval-cases/export", Deploy, get(evals::export))
        .route(
            "/api/agents/{name}/eval-cases/{case}",
            Deploy,
            get(evals::show).patch(evals::change).audited(EvalChange).delete(evals::delete).audited(EvalChange),
        )
        .route("/api/agents/{name}/eval-runs", Run, get(eval_runs::list).post(eval_runs::start).audited(EvalStart))
        .route("/api/agents/{name}/eval-runs/compare", Run, get(eval_runs::compare))
        .route("/api/agents/{name}/eval-runs/{run}", Run, get(eval_runs::show))
        .route("/api/agents/{name}/eval-runs/{run}/cancel", Run, post(eval_runs::cancel).audited(EvalCancel))
        .route("/api/agents/{name}/eval-runs/{run}/results", Run, get(eval_runs::results))
        .route("/api/agents/{name}/eval-runs/{run}/score", Run, post(eval_runs::score_run).audited(EvalScore))
        .route("/api/agents/{name}/eval-results/{result}", Run, patch(eval_runs::score).audited(EvalScore))
        .route_of_one("/api/sessions", Run, get(sessions::list).post(sessions::create).audited(SessionCreate))
        .route("/api/sessions/{id}", Run, get(sessions::show).delete(sessions::end).audited(SessionEnd))
        .route("/api/sessions/{id}/config", Run, patch(sessions::configure))
        .route("/api/sessions/{id}/messages", Run, get(sessions::messages).post(sessions::post_message))
        .route("/api/sessions/{id}/events", Run, get(sessions::events))
        .route("/api/sessions/{id}/stream", Run, get(sessions::stream))
        .route("/api/sessions/{id}/interrupt", Run, post(sessions::interrupt))
        .route("/api/sessions/{id}/pause", Run, post(snapshots::pause))
        .route("/api/sessions/{id}/resume", Run, post(snapshots::resume))
        .route("/api/sessions/{id}/stop", Run, post(snapshots::stop))
        .route("/api/sessions/{id}/fork", Run, post(snapshots::fork).audited(SessionFork))
        .route("/api/sessions/{id}/rewind", Run, post(snapshots::rewind))
        .route("/api/sessions/{id}/workspace", Run, get(workspace::download).post(workspace::upload))
        .route("/api/sessions/{id}/logs", Run, get(logs::list))
        .route("/api/sessions/{id}/exec", Run, post(exec::run).get_to_act(terminal::open))
        .route("/api/sessions/{id}/files", Run, get(files::list).post(files::write))
        .route("/api/sessions/{id}/files/", Run, get(files::no_path).delete(files::no_path))
        .route("/api/sessions/{id}/files/{*path}", Run, get(files::read).delete(files::delete))
        .route("/api/sessions/{id}/attachments", Run, get(attachments::list).post(attachments::create))
        .route_of_one("/api/attachments/{id}", Run, get(attachments::read).delete(attachments::delete))
        .route("/api/sessions/{id}/snapshots", Run, get(snapshots::list).post(snapshots::take))
        .route("/api/sessions/{id}/egress", Run, get(egress::show).patch(egress::change).audited(SessionEgress))
        .route("/api/sessions/{id}/security", Run, get(security::show))
        .route_of_one("/api/resources", Read, get(resources::list))
        .route("/api/sessions/{id}/resources", Run, get(resources::show))
        .route("/api/sessions/{id}/limits", Run, get(limits::show).patch(limits::change).audited(SessionLimits))
        .route("/api/sessions/{id}/turns", Run, get(turns::list))
        .route("/api/sessions/{id}/turns/{turn}", Run, get(turns::show))
        .route("/api/sessions/{id}/turns/{turn}/cancel", Run, post(turns::cancel))
        .route("/api/sessions/{id}/permissions", Run, get(permissions::list))
        .route("/api/sessions/{id}/permissions/{permission}", Run, get(permissions::show).post(permissions::answer))
        .route("/api/files", Run, get(project_files::list).post(project_files::upload).audited(FileUpload))
        .route("/api/files/{id}", Run, get(project_files::show).delete(project_files::delete).audited(FileDelete))
        .route("/api/files/{id}/content", Run, get(project_files::read))
        .route("/api/files/{id}/url", Run, Methods::default().get_to_act(project_files::link).audited(FileLink))
        .route("/api/queue", Run, get(queue::list).post(queue::add).audited(QueueAdd))
        .route("/api/queue/stats", Run, get(queue::stats))
        .route("/api/queue/{id}", Run, get(queue::show).delete(queue::cancel))
        .route("/api/queue/{id}/result", Run, get(queue::result))
        .route("/api/queue/{id}/session", Run, get(queue::session))
        .route("/api/schedules", Run, get(schedules::list).post(schedules::create).audited(ScheduleCreate))
        .route("/api/schedules/preview", Run, get(schedules::preview))
        .route(
            "/api/schedules/{id}",
            Run,
            get(schedules::show)
                .patch(schedules::change)
                .audited(ScheduleChange)
                .delete(schedules::delete)
                .audited(ScheduleDelete),
        )
        .route("/api/schedules/{id}/run", Run, post(schedules::run).audited(ScheduleRun))
        .route("/api/schedules/{id}/runs", Run, get(schedules::runs))
        .route("/api/usage", Read, get(usage::list))
        .route("/api/usage/stats", Read, get(usage::stats))
        .route("/api/analytics", Read, get(analytics::show))
        .route("/api/internal/runners", Admin, get(analytics::runners))
        .route("/api/credentials", Admin, get(credentials::list).post(credentials::create).audited(CredentialCreate))
        .route("/api/credentials/reseal", Admin, post(credentials::reseal).audited(CredentialReseal))
        .route(
            "/api/credentials/{id}",
            Admin,
            patch(credentials::change).audited(CredentialChange).delete(credentials::delete).audited(CredentialDelete),
        )
        .route("/api/api-keys", Admin, get(keys::list).post(keys::create).audited(KeyCreate))
        .route("/api/api-keys/{id}", Admin, delete(keys::revoke).audited(KeyRevoke))
        .route("/api/webhooks", Admin, get(webhooks::list).post(webhooks::create).audited(WebhookCreate))
        .route(
            "/api/webhooks/{id}",
            Admin,
            get(webhooks::show).patch(webhooks::change).audited(WebhookChange).delete(webhooks::delete).audited(WebhookDelete),
        )
        .route("/api/webhooks/{id}/test", Admin, post(webhooks::test).audited(WebhookSend))
        .route("/api/webhooks/{id}/deliveries", Admin, get(webhooks::deliveries))
        .route("/api/webhooks/{id}/deliveries/{delivery}/redeliver", Admin, post(webhooks::redeliver).audited(WebhookSend))
        .route("/api/audit", Admin, get(audit::list))
        .route("/api/doctor", Admin, get(doctor::show))
        .route("/api/gc", Admin, post(gc::run).audited(GcRun))
        .route("/metrics", Read, get(metrics::show))
}

/// The routes that need a key over TCP.
pub fn routes() -> Vec<Route> {
    table().into_parts().1.into_values().collect()
}

/// All routes.
pub fn router(app: App) -> Router {
    let (api, routes) = table().into_parts();
    let guard = Guard { app: app.clone(), routes: Arc::new(routes) };
    let known = from_fn_with_state(guard.clone(), authenticate);
    // Only of those who got in: strangers could have all that they like written into traces.
    let told = from_fn_with_state(app.clone(), trace::tell);
    let api = api.layer(from_fn_with_state(guard, guard::check)).fallback(no_route).layer(told).layer(known);
    let docs = if app.about.docs { openapi::ui::routes() } else { Router::new() };
    Router::new()
        .route("/health", axum::routing::get(route::health::show))
        // Whoever has a link needs no key.
        .route("/api/files/{id}/download", axum::routing::get(route::project_files::read_linked))
        .merge(docs)
        .merge(api)
        .method_not_allowed_fallback(no_method)
        // Bodies are limited where they are read, each route by its own measure.
        .layer(axum::extract::DefaultBodyLimit::disable())
        .layer(from_fn_with_state(app.clone(), measure::time))
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

/// Longest id of a request that is taken from its sender.
const REQUEST_ID_MAX: usize = 64;

/// The id that its sender gave a request, if it is one: letters, digits, `.`, `_` and `-`.
fn given_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    ((1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(is_id)).then(|| id.to_owned())
}

/// Gives the request an id, unless it has a good one, and the answer its header.
async fn identify(request: Request, next: Next) -> Response {
    let id = given_id(request.headers()).unwrap_or_else(|| Uuid::now_v7().to_string());
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

/// Ends a stream of events when the key with which it was asked for is over.
fn until(over: Option<impl Future<Output = ()> + Send + 'static>, response: Response) -> Response {
    let is_stream = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"text/event-stream");
    match over {
        Some(over) if is_stream => response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(over)))),
        _ => response,
    }
}

/// Finds out who is calling, or refuses; also who calls too often.
async fn authenticate(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let origin = request.extensions().get::<Origin>().cloned();
    let address = match &origin {
        Some(Origin::Remote(address)) => Some(address.ip()),
        _ => None,
    };
    let limits = guard.app.limits.clone();
    let (verdict, mut response) = match principal(&guard.app, origin, request.headers().clone()).await {
        Ok(principal) => {
            tracing::debug!(principal = principal.name, method = %request.method(), path = request.uri().path(), "request");
            let action = request.extensions().get().and_then(|path| guard.action(path, request.method()));
            let verdict = principal.key.and_then(|key| limits.count(key, action));
            let over = principal.key.map(|_| guard.app.keys.over(&principal));
            request.extensions_mut().insert(principal);
            match verdict.and_then(|verdict| verdict.wait()) {
                Some(wait) => (verdict, Failure::too_often(wait).into_response()),
                None => (verdict, until(over, next.run(request).await)),
            }
        }
        Err(failure) if failure.status() == StatusCode::UNAUTHORIZED => {
            let verdict = address.and_then(|address| limits.count_failure(address));
            let refusal = verdict.and_then(|verdict| verdict.wait()).map_or(failure, Failure::too_often);
            (verdict, refusal.into_response())
        }
        Err(failure) => (None, failure.into_response()),
    };
    if let Some(verdict) = verdict {
        verdict.tell(response.headers_mut());
    }
    response
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
