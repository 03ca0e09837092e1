//! `/api/resources` and `/api/sessions/{id}/resources`.

use axum::Json as JsonBody;
use axum::extract::State;

use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::Id;
use crate::http::problem::Failure;
use crate::wire::SessionId;
use crate::wire::resources::{ResourcesBody, ResourcesList};

pub async fn list(State(app): State<App>, caller: Principal) -> Result<JsonBody<ResourcesList>, Failure> {
    let mut resources = app.sessions.all_resources(&caller.tenant).await?;
    resources.retain(|one| caller.knows(&one.agent_name));
    Ok(JsonBody(ResourcesList { resources }))
}

pub async fn show(State(app): State<App>, caller: Principal, Id(id): Id<SessionId>) -> Result<JsonBody<ResourcesBody>, Failure> {
    let resources = app.sessions.resources(&caller.tenant, id).await?;
    Ok(JsonBody(ResourcesBody { resources }))
}
