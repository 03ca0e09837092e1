//! `/api/agents`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::{Extension, Json as JsonBody};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::agent::ContentError;
use crate::agent::name::check_env;
use crate::agent::service::AgentError;
use crate::auth::Principal;
use crate::fault::{self, Point};
use crate::http::App;
use crate::http::extract::{DEPLOY_MAX, Id, Json};
use crate::http::guard::Object;
use crate::http::list::{self, Source};
use crate::http::problem::Failure;
use crate::http::upload::Upload;
use crate::session::SessionError;
use crate::store::{AgentRow, SessionFilter, SessionPage, StoreError, now};
use crate::wire::SessionId;
use crate::wire::agent::{Agent, AgentBody, AgentPatch, DeployBody};
use crate::wire::problem::Code;
use crate::wire::session::Status;

const PROMPT_MAX: usize = 1_000_000;
/// Bytes of configurations of an agent's sessions that are read at a time.
const LIST_BYTES: usize = 1 << 20;

pub async fn deploy(
    State(app): State<App>,
    caller: Principal,
    Json(body): Json<DeployBody, DEPLOY_MAX>,
) -> Result<(StatusCode, Extension<Object>, JsonBody<AgentBody>), Failure> {
    if body.system_prompt.as_ref().is_some_and(|prompt| prompt.len() > PROMPT_MAX) {
        return Err(Failure::field("systemPrompt", format!("has to be at most {PROMPT_MAX} bytes")));
    }
    if !caller.knows(&body.name) {
        return Err(AgentError::NotFound.into());
    }
    let row = app.agents.deploy(&caller, body).await?;
    tracing::info!(agent = row.name, version = row.deploys, digest = row.digest, principal = caller.name, "agent deployed");
    let object = Object(row.name.clone());
    Ok((StatusCode::CREATED, Extension(object), JsonBody(AgentBody { agent: app.agents.shown(row) })))
}

pub async fn deploy_archive(
    State(app): State<App>,
    caller: Principal,
    Id(name): Id<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, JsonBody<AgentBody>), Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    if kind != "application/x-tar" {
        let sentence = "The body has to be a tar archive, with Content-Type: application/x-tar";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::UnsupportedMediaType, sentence));
    }
    let upload = Upload::begin(&caller.tenant, body)?;
    let row = app.agents.deploy_archive(&caller, &name, upload).await?;
    tracing::info!(agent = row.name, version = row.deploys, digest = row.digest, principal = caller.name, "agent deployed");
    Ok((StatusCode::CREATED, JsonBody(AgentBody { agent: app.agents.shown(row) })))
}

pub async fn list(State(app): State<App>, caller: Principal) -> Result<Response, Failure> {
    list::respond("agents", Listed { app, caller }, String::new(), usize::MAX).await
}

struct Listed {
    app: App,
    caller: Principal,
}

impl Source for Listed {
    type Place = String;
    type Row = AgentRow;
    type Shown = Agent;

    async fn read(&self, after: &String, limit: usize, bytes: usize) -> Result<Vec<AgentRow>, StoreError> {
        self.app.store.list_agents(&self.caller.tenant, after, limit, bytes).await
    }

    fn show(&self, row: &AgentRow) -> (String, Option<Agent>) {
        (row.name.clone(), self.caller.knows(&row.name).then(|| self.app.agents.shown(row.clone())))
    }
}

pub async fn show(State(app): State<App>, caller: Principal, Id(name): Id<String>) -> Result<JsonBody<AgentBody>, Failure> {
    let row = app.agents.get(&caller.tenant, &name).await?;
    Ok(JsonBody(AgentBody { agent: app.agents.shown(row) }))
}

pub async fn patch(
    State(app): State<App>,
    caller: Principal,
    Id(name): Id<String>,
    Json(body): Json<AgentPatch>,
) -> Result<JsonBody<AgentBody>, Failure> {
    if let Some(env) = &body.env {
        check_env("env", env).map_err(ContentError::from)?;
    }
    let row = app.agents.patch(&caller.tenant, &name, body.env, body.config).await?;
    Ok(JsonBody(AgentBody { agent: app.agents.shown(row) }))
}

/// Ends the agent's sessions first: none may go on without it.
pub async fn delete(State(app): State<App>, caller: Principal, Id(name): Id<String>) -> Result<JsonBody<Value>, Failure> {
    if let Err(error) = app.agents.get(&caller.tenant, &name).await {
        // Whoever deleted it may not have come to the end.
        end_sessions(&app, &caller.tenant, &name).await?;
        return Err(error.into());
    }
    // Before the sessions, as they make some.
    app.evals.cancel_all(&caller.tenant, &name).await?;
    end_sessions(&app, &caller.tenant, &name).await?;
    fault::at(Point::DeleteEnded);
    app.agents.delete(&caller.tenant, &name).await?;
    fault::at(Point::DeleteStored);
    // Those that were made meanwhile. One that is made now finds that its agent has gone.
    end_sessions(&app, &caller.tenant, &name).await?;
    tracing::info!(agent = name, principal = caller.name, "agent deleted");
    Ok(JsonBody(json!({"ok": true})))
}

/// Ends all sessions of an agent that have not ended, but for those that are made from now on: they may be of another agent
/// of its name.
async fn end_sessions(app: &App, tenant: &str, agent: &str) -> Result<(), Failure> {
    let mut after = Some((now(), SessionId::from_uuid(Uuid::max())));
    loop {
        let filter = SessionFilter { agent: Some(agent.to_owned()), status: None };
        let page = SessionPage { after, limit: 100, offset: 0, bytes: LIST_BYTES };
        let rows = app.sessions.list(tenant, filter, page).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some((last.created_at, last.id));
        for row in rows.iter().filter(|row| row.status != Status::Ended) {
            match app.sessions.end(tenant, row.id).await {
                // Somebody else took it away meanwhile, as one that is being made finds no agent.
                Ok(_) | Err(SessionError::NotFound | SessionError::Store(StoreError::NotFound(_))) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
