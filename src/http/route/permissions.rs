//! `/api/sessions/{id}/permissions`.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Ids, Json, Params, page};
use crate::http::list::{self, Source};
use crate::http::problem::Failure;
use crate::session::view;
use crate::store::{PermissionFilter, PermissionRow, Store, StoreError};
use crate::wire::permission::{Permission, PermissionAnswer, PermissionBody};
use crate::wire::{PermissionId, SessionId};

/// Largest answer: the changed input of a tool that writes a file.
const ANSWER_MAX: usize = 4 << 20;

#[derive(Debug, Deserialize)]
pub struct ListParams {
    limit: Option<i64>,
    after: Option<i64>,
    state: Option<String>,
}

pub async fn list(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Params(params): Params<ListParams>,
) -> Result<Response, Failure> {
    let (after, limit) = page(params.after, params.limit, 100)?;
    let pending = match params.state.as_deref() {
        None => false,
        Some("pending") => true,
        Some(_) => return Err(Failure::field("state", "has to be pending, or left out")),
    };
    app.sessions.get(&caller.tenant, id).await?;
    list::respond("permissions", Permissions { store: app.store, id, pending }, after, limit).await
}

struct Permissions {
    store: Arc<dyn Store>,
    id: SessionId,
    pending: bool,
}

impl Source for Permissions {
    type Place = i64;
    type Row = PermissionRow;
    type Shown = Permission;

    async fn read(&self, &after: &i64, limit: usize, bytes: usize) -> Result<Vec<PermissionRow>, StoreError> {
        let filter = PermissionFilter { after, pending: self.pending, limit, bytes: Some(bytes) };
        self.store.permissions(self.id, filter).await
    }

    fn show(&self, row: &PermissionRow) -> (i64, Option<Permission>) {
        (row.event, Some(view::permission(row)))
    }
}

pub async fn show(
    State(app): State<App>,
    caller: Principal,
    Ids(id, permission): Ids<SessionId, PermissionId>,
) -> Result<JsonBody<PermissionBody>, Failure> {
    let row = app.sessions.permission(&caller.tenant, id, permission).await?;
    Ok(JsonBody(PermissionBody { permission: view::permission(&row) }))
}

pub async fn answer(
    State(app): State<App>,
    caller: Principal,
    Ids(id, permission): Ids<SessionId, PermissionId>,
    Json(request): Json<PermissionAnswer, ANSWER_MAX>,
) -> Result<JsonBody<PermissionBody>, Failure> {
    let row = app.sessions.answer(&caller.tenant, id, permission, request).await?;
    tracing::info!(session_id = %id, permission = %permission, principal = caller.name, "permission request answered");
    Ok(JsonBody(PermissionBody { permission: view::permission(&row) }))
}
