//! `/api/sessions/{id}/pause`, `resume`, `stop`, `fork`, `rewind` and `snapshots`.

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;

use super::sessions::body;
use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Json};
use crate::http::problem::Failure;
use crate::session::view;
use crate::wire::SessionId;
use crate::wire::session::SessionBody;
use crate::wire::snapshot::{ForkSession, RewindIfBusy, RewindSession, SnapshotBody, SnapshotList};

pub async fn pause(State(app): State<App>, caller: Principal, Id(id): Id<SessionId>) -> Result<JsonBody<SessionBody>, Failure> {
    let row = app.sessions.pause(&caller.tenant, id).await?;
    Ok(body(&app, row))
}

pub async fn stop(State(app): State<App>, caller: Principal, Id(id): Id<SessionId>) -> Result<JsonBody<SessionBody>, Failure> {
    let row = app.sessions.stop(&caller.tenant, id).await?;
    Ok(body(&app, row))
}

pub async fn resume(State(app): State<App>, caller: Principal, Id(id): Id<SessionId>) -> Result<JsonBody<SessionBody>, Failure> {
    let row = app.sessions.resume(&caller.tenant, id).await?;
    tracing::info!(session_id = %id, agent = row.agent, principal = caller.name, "session resumed");
    Ok(body(&app, row))
}

pub async fn fork(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Json(request): Json<ForkSession>,
) -> Result<(StatusCode, JsonBody<SessionBody>), Failure> {
    if request.event_id.is_some_and(|event| event < 0) {
        return Err(Failure::field("eventId", "has to be at least 0"));
    }
    let row = app.sessions.fork(&caller.tenant, id, request.event_id).await?;
    tracing::info!(session_id = %row.id, parent = %id, agent = row.agent, principal = caller.name, "session forked");
    Ok((StatusCode::CREATED, body(&app, row)))
}

pub async fn rewind(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Json(request): Json<RewindSession>,
) -> Result<JsonBody<SessionBody>, Failure> {
    if request.event_id < 0 {
        return Err(Failure::field("eventId", "has to be at least 0"));
    }
    let interrupt = request.if_busy == RewindIfBusy::Interrupt;
    let row = app.sessions.rewind(&caller.tenant, id, request.event_id, interrupt).await?;
    tracing::info!(session_id = %id, agent = row.agent, event = request.event_id, principal = caller.name, "session rewound");
    Ok(body(&app, row))
}

pub async fn list(State(app): State<App>, caller: Principal, Id(id): Id<SessionId>) -> Result<JsonBody<SnapshotList>, Failure> {
    let listed = app.sessions.snapshots(&caller.tenant, id).await?;
    Ok(JsonBody(SnapshotList { snapshots: listed.iter().map(view::snapshot).collect() }))
}

pub async fn take(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
) -> Result<(StatusCode, JsonBody<SnapshotBody>), Failure> {
    let manifest = app.sessions.snapshot(&caller.tenant, id).await?;
    Ok((StatusCode::CREATED, JsonBody(SnapshotBody { snapshot: view::manifest(&manifest) })))
}
