//! `/api/sessions/{id}/egress`.

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;

use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Json};
use crate::http::problem::Failure;
use crate::wire::SessionId;
use crate::wire::egress::{Applied, Egress, EgressBody};

pub async fn show(State(app): State<App>, caller: Principal, Id(id): Id<SessionId>) -> Result<JsonBody<EgressBody>, Failure> {
    Ok(JsonBody(app.sessions.egress(&caller.tenant, id).await?))
}

pub async fn change(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Json(request): Json<Egress>,
) -> Result<(StatusCode, JsonBody<EgressBody>), Failure> {
    let body = app.sessions.change_egress(&caller.tenant, id, request).await?;
    tracing::info!(session_id = %id, allow = %body.allow, applied = ?body.applied, principal = caller.name, "egress of a session changed");
    let status = if body.applied == Some(Applied::Now) { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, JsonBody(body)))
}
