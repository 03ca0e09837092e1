//! `GET /metrics`, in the Prometheus text format.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::health;
use crate::http::App;
use crate::http::problem::Failure;
use crate::telemetry::metrics::CONTENT_TYPE;

pub async fn show(State(app): State<App>) -> Result<impl IntoResponse, Failure> {
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
    metrics.pool_max_capacity.set(pool.max_capacity);
    let text = metrics.text().map_err(|error| Failure::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}
