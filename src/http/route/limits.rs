//! `/api/sessions/{id}/limits`.

use axum::Json as JsonBody;
use axum::extract::State;
use serde_json::{Map, Value};

use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Json};
use crate::http::problem::Failure;
use crate::wire::SessionId;
use crate::wire::limits::LimitsBody;

pub async fn show(State(app): State<App>, caller: Principal, Id(id): Id<SessionId>) -> Result<JsonBody<LimitsBody>, Failure> {
    Ok(JsonBody(app.sessions.limits(&caller.tenant, id).await?))
}

pub async fn change(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Json(change): Json<Map<String, Value>>,
) -> Result<JsonBody<LimitsBody>, Failure> {
    let fields = change.keys().cloned().collect::<Vec<_>>().join(" ");
    let body = app.sessions.change_limits(&caller.tenant, id, change).await?;
    tracing::info!(session_id = %id, fields, principal = caller.name, "limits of a session changed");
    Ok(JsonBody(body))
}
