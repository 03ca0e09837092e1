//! `POST /api/gc`, for those on the control socket: it removes things of all tenants.

use axum::Json as JsonBody;
use axum::extract::State;

use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::Json;
use crate::http::problem::Failure;
use crate::wire::gc::{GcBody, GcReport};

pub async fn run(State(app): State<App>, caller: Principal, Json(request): Json<GcBody>) -> Result<JsonBody<GcReport>, Failure> {
    if !caller.local {
        return Err(Failure::forbidden("Only callers on the control socket may do this"));
    }
    // In a task of its own: what was begun is brought to its end, whether or not the caller stays.
    let gc = app.gc.clone();
    let report = tokio::spawn(async move { gc.run(request.dry_run).await }).await;
    let report = report.map_err(|error| Failure::internal(&error))?.map_err(|error| Failure::internal(&error))?;
    tracing::info!(
        dry_run = report.dry_run,
        removals = report.removals.len(),
        bytes = report.bytes,
        principal = caller.name,
        "asked to remove what is not needed"
    );
    Ok(JsonBody(report))
}
