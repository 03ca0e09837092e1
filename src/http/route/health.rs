//! `GET /health`, open to everybody.

use axum::Json;
use axum::extract::State;

use crate::auth::DEFAULT_TENANT;
use crate::http::App;
use crate::http::problem::Failure;
use crate::store::SessionFilter;
use crate::wire::VERSION;
use crate::wire::health::{Health, PoolStats};
use crate::wire::session::Status;

pub async fn show(State(app): State<App>) -> Result<Json<Health>, Failure> {
    of(&app).await.map(Json)
}

/// How the daemon is doing.
pub async fn of(app: &App) -> Result<Health, Failure> {
    let active = SessionFilter { agent: None, status: Some(Status::Active) };
    let active_sessions = app.store.count_sessions(DEFAULT_TENANT, active).await?;
    let (all_active, phases) = (app.store.count_active().await?, app.sessions.phases());
    let count = |phase| phases.get(phase).copied().unwrap_or(0);
    let (warming, waiting, running) = (count("warming"), count("waiting"), count("running"));
    let frozen = count("frozen");
    let resumed = |path| i64::try_from(app.sessions.metrics().resume.with_label_values(&[path]).get()).unwrap_or(i64::MAX);
    let active_sandboxes = warming + waiting + running + frozen;
    let uptime = app.about.started.elapsed().map_or(0, |elapsed| elapsed.as_secs());
    Ok(Health {
        status: if app.store.misplaced().is_some() { "degraded" } else { "ok" }.to_owned(),
        active_sessions,
        active_sandboxes,
        uptime: i64::try_from(uptime).unwrap_or(i64::MAX),
        pool: PoolStats {
            total: active_sandboxes,
            // Like the others, of all tenants.
            cold: (all_active - active_sandboxes).max(0),
            warming,
            waiting,
            running,
            frozen,
            resume_warm_hits: resumed("warm"),
            resume_cold_hits: resumed("cold"),
            ..PoolStats::default()
        },
        version: VERSION.to_owned(),
        coordinator_id: app.about.coordinator_id.clone(),
        remote_runners: 0,
    })
}
