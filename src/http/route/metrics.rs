//! `GET /metrics`, in the Prometheus text format.
//!
//! What is of all tenants is for operators: the control socket, and keys of the tenant `default` with
//! `admin`. Other keys see that the daemon runs, and the series of their own tenant.

use std::path::Path;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::health;
use crate::auth::{DEFAULT_TENANT, Principal};
use crate::http::App;
use crate::http::problem::Failure;
use crate::telemetry::metrics::{CONTENT_TYPE, Metrics, QUEUE_STATES};
use crate::wire::scope::Scope;

pub async fn show(State(app): State<App>, caller: Principal) -> Result<impl IntoResponse, Failure> {
    let (metrics, health) = (app.sessions.metrics(), health::of(&app).await?);
    metrics.up.with_label_values(&[health.coordinator_id.as_str()]).set(1);
    metrics.uptime_seconds.set(health.uptime);
    metrics.active_sessions.set(health.active_sessions);
    metrics.active_sandboxes.set(health.active_sandboxes);
    let pool = health.pool;
    for (state, count) in [
        ("cold", pool.cold),
        ("warming", pool.warming),
        ("warm", pool.warm),
        ("waiting", pool.waiting),
        ("running", pool.running),
        ("frozen", pool.frozen),
    ] {
        metrics.pool_sandboxes.with_label_values(&[state]).set(count);
    }
    for (status, count) in QUEUE_STATES.into_iter().zip(app.store.queue_depth().await?) {
        metrics.queue_items.with_label_values(&[status]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    metrics.pool_max_capacity.set(pool.max_capacity);
    measure_disk(metrics, &app.about.data);
    let is_operator = caller.local || (caller.tenant == DEFAULT_TENANT && caller.scopes.allow(Scope::Admin));
    let text = if is_operator { metrics.text() } else { metrics.text_of(&caller.tenant) };
    let text = text.map_err(|error| Failure::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

/// One that can not be asked keeps the figures that it had; `GET /api/doctor` says why.
fn measure_disk(metrics: &Metrics, data: &Path) {
    let Ok(disk) = nix::sys::statvfs::statvfs(data) else { return };
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.fragment_size())).unwrap_or(i64::MAX);
    metrics.disk_bytes.set(bytes(disk.blocks()));
    metrics.disk_free_bytes.set(bytes(disk.blocks_available()));
}
