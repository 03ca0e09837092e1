//! `/api/agents`.

use axum::Json as JsonBody;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use crate::agent::ContentError;
use crate::agent::name::check_env;
use crate::auth::Principal;
use crate::fault::{self, Point};
use crate::http::App;
use crate::http::extract::{DEPLOY_MAX, Id, Json};
use crate::http::problem::Failure;
use crate::http::upload::Upload;
use crate::store::SessionFilter;
use crate::wire::agent::{AgentBody, AgentList, AgentPatch, DeployBody};
use crate::wire::problem::Code;

const PROMPT_MAX: usize = 1_000_000;

pub async fn deploy(
    State(app): State<App>,
    caller: Principal,
    Json(body): Json<DeployBody, DEPLOY_MAX>,
) -> Result<(StatusCode, JsonBody<AgentBody>), Failure> {
    if body.system_prompt.as_ref().is_some_and(|prompt| prompt.len() > PROMPT_MAX) {
        return Err(Failure::field("systemPrompt", format!("has to be at most {PROMPT_MAX} bytes")));
    }
    let row = app.agents.deploy(&caller, body).await?;
    tracing::info!(agent = row.name, version = row.deploys, digest = row.digest, principal = caller.name, "agent deployed");
    Ok((StatusCode::CREATED, JsonBody(AgentBody { agent: app.agents.shown(row) })))
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

pub async fn list(State(app): State<App>, caller: Principal) -> Result<JsonBody<AgentList>, Failure> {
    let rows = app.agents.list(&caller.tenant).await?;
    Ok(JsonBody(AgentList { agents: rows.into_iter().map(|row| app.agents.shown(row)).collect() }))
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
    app.agents.get(&caller.tenant, &name).await?;
    let mut offset = 0;
    loop {
        let filter = SessionFilter { agent: Some(name.clone()), status: None, limit: 100, offset };
        let (rows, _) = app.sessions.list(&caller.tenant, filter).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            app.sessions.end(&caller.tenant, row.id).await?;
        }
        offset += rows.len() as i64;
    }
    fault::at(Point::DeleteEnded);
    app.agents.delete(&caller.tenant, &name).await?;
    fault::at(Point::DeleteStored);
    tracing::info!(agent = name, principal = caller.name, "agent deleted");
    Ok(JsonBody(json!({"ok": true})))
}
