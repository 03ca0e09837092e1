//! `GET /api/doctor`: what the daemon sees of what it needs.

use axum::Json;
use axum::extract::State;

use crate::auth::Principal;
use crate::http::App;
use crate::wire::health::Checks;

pub async fn show(State(app): State<App>, _: Principal) -> Json<Checks> {
    Json(app.about.doctor.examine(&app.store).await)
}
