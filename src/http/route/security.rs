//! `GET /api/sessions/{id}/security`.

use axum::Json;
use axum::extract::State;

use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::Id;
use crate::http::problem::Failure;
use crate::wire::SessionId;
use crate::wire::security::SecurityBody;

pub async fn show(State(app): State<App>, caller: Principal, Id(id): Id<SessionId>) -> Result<Json<SecurityBody>, Failure> {
    Ok(Json(app.sessions.security(&caller.tenant, id).await?))
}
