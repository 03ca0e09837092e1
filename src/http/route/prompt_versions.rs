//! `/api/agents/{name}/versions`.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::agent::service::AgentError;
use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Ids, Json, Params, in_range};
use crate::http::list::{self, Source};
use crate::http::problem::Failure;
use crate::store::{PromptVersionRow, Store, StoreError};
use crate::wire::prompt_version::{
    ActivatedBody, AgentVersion, AgentVersionBody, ChangeAgentVersion, CreateAgentVersion, DeactivatedBody, VersionRef,
};

/// Largest body: a prompt of which each character is written with an escape.
const BODY_MAX: usize = 8 << 20;
/// Versions that one answer lists when the caller names no limit: all that an agent may have, as clients
/// of the contract know nothing of pages.
const LIST_DEFAULT: i64 = 1000;

fn shown(row: PromptVersionRow) -> AgentVersion {
    AgentVersion {
        id: row.id,
        agent_name: row.agent,
        version_number: row.number,
        name: row.name,
        is_active: row.is_active,
        created_at: row.created_at,
        updated_at: row.updated_at,
        tenant_id: row.tenant,
        system_prompt: row.system_prompt,
        release_notes: row.release_notes,
        knowledge_files: row.knowledge_files,
        created_by: Some(row.created_by),
    }
}

fn body(row: PromptVersionRow) -> JsonBody<AgentVersionBody> {
    JsonBody(shown(row).into())
}

/// What can name no version names none.
fn named(version: &str) -> Result<VersionRef, Failure> {
    version.parse().map_err(|_| AgentError::NoPromptVersion.into())
}

#[derive(Debug, Deserialize)]
pub struct ListParams {
    before: Option<i64>,
    limit: Option<i64>,
}

pub async fn list(
    State(app): State<App>,
    caller: Principal,
    Id(agent): Id<String>,
    Params(params): Params<ListParams>,
) -> Result<Response, Failure> {
    let limit = in_range("limit", params.limit, 1..=LIST_DEFAULT)?.unwrap_or(LIST_DEFAULT);
    let before = in_range("before", params.before, 1..=i64::MAX)?.unwrap_or(i64::MAX);
    app.agents.get(&caller.tenant, &agent).await?;
    list::respond("versions", Versions { store: app.store, tenant: caller.tenant, agent }, -before, limit as usize).await
}

/// The place of each is its number, counted down.
struct Versions {
    store: Arc<dyn Store>,
    tenant: String,
    agent: String,
}

impl Source for Versions {
    type Place = i64;
    type Row = PromptVersionRow;
    type Shown = AgentVersion;

    async fn read(&self, &after: &i64, limit: usize, bytes: usize) -> Result<Vec<PromptVersionRow>, StoreError> {
        self.store.prompt_versions(&self.tenant, &self.agent, -after, limit, bytes).await
    }

    fn show(&self, row: &PromptVersionRow) -> (i64, Option<AgentVersion>) {
        (-row.number, Some(shown(row.clone())))
    }
}

pub async fn create(
    State(app): State<App>,
    caller: Principal,
    Id(agent): Id<String>,
    Json(request): Json<CreateAgentVersion, BODY_MAX>,
) -> Result<(StatusCode, JsonBody<AgentVersionBody>), Failure> {
    let row = app.agents.create_prompt_version(&caller, &agent, request).await?;
    told(&caller, &row, "created");
    Ok((StatusCode::CREATED, body(row)))
}

fn told(caller: &Principal, row: &PromptVersionRow, change: &str) {
    tracing::info!(agent = row.agent, version = row.number, change, principal = caller.name, "prompt version changed");
}

pub async fn show(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, version): Ids<String, String>,
) -> Result<JsonBody<AgentVersionBody>, Failure> {
    Ok(body(app.agents.prompt_version(&caller.tenant, &agent, named(&version)?).await?))
}

pub async fn change(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, version): Ids<String, String>,
    Json(request): Json<ChangeAgentVersion, BODY_MAX>,
) -> Result<JsonBody<AgentVersionBody>, Failure> {
    let row = app.agents.change_prompt_version(&caller.tenant, &agent, named(&version)?, request).await?;
    told(&caller, &row, "changed");
    Ok(body(row))
}

pub async fn activate(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, version): Ids<String, String>,
) -> Result<JsonBody<ActivatedBody>, Failure> {
    let row = app.agents.activate_prompt_version(&caller.tenant, &agent, named(&version)?, true).await?;
    told(&caller, &row, "activated");
    Ok(JsonBody(ActivatedBody { activated: true, version_number: row.number }))
}

pub async fn deactivate(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, version): Ids<String, String>,
) -> Result<JsonBody<DeactivatedBody>, Failure> {
    let row = app.agents.activate_prompt_version(&caller.tenant, &agent, named(&version)?, false).await?;
    told(&caller, &row, "deactivated");
    Ok(JsonBody(DeactivatedBody { deactivated: true, version_number: row.number }))
}

pub async fn delete(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, version): Ids<String, String>,
) -> Result<JsonBody<Value>, Failure> {
    app.agents.delete_prompt_version(&caller.tenant, &agent, named(&version)?).await?;
    tracing::info!(agent, version, change = "deleted", principal = caller.name, "prompt version changed");
    Ok(JsonBody(json!({"ok": true})))
}
