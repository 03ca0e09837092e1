//! `/api/schedules`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json as JsonBody};
use serde::Deserialize;
use serde_json::{Value, json};

use super::queue::{Items, Of, body as item_body};
use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Json, Params, in_range};
use crate::http::guard::Object;
use crate::http::list::{self, Source};
use crate::http::problem::Failure;
use crate::schedule::shown;
use crate::store::schedules::ScheduleRow;
use crate::store::{Store, StoreError};
use crate::wire::queue::QueueItemBody;
use crate::wire::schedule::{ChangeSchedule, CreateSchedule, Schedule, ScheduleBody, SchedulePreview};
use crate::wire::{QueueId, ScheduleId};

const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 500;
/// Times of a preview when the caller names no number, and most of them.
const COUNT_DEFAULT: i64 = 5;
const COUNT_MAX: i64 = 100;

fn body(row: ScheduleRow) -> JsonBody<ScheduleBody> {
    JsonBody(ScheduleBody { schedule: shown(row) })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    before: Option<ScheduleId>,
    limit: Option<i64>,
}

pub async fn list(State(app): State<App>, caller: Principal, Params(which): Params<Listed>) -> Result<Response, Failure> {
    let limit = in_range("limit", which.limit, 1..=LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT) as usize;
    // The newest has the highest place.
    let after = match which.before {
        Some(id) => -app.schedules.get(&caller.tenant, id).await?.place,
        None => -i64::MAX,
    };
    list::respond("schedules", Rows { store: app.store, tenant: caller.tenant }, after, limit).await
}

/// The schedules of a tenant, newest first.
struct Rows {
    store: Arc<dyn Store>,
    tenant: String,
}

impl Source for Rows {
    type Place = i64;
    type Row = ScheduleRow;
    type Shown = Schedule;

    async fn read(&self, &after: &i64, limit: usize, bytes: usize) -> Result<Vec<ScheduleRow>, StoreError> {
        self.store.list_schedules(&self.tenant, -after, limit, bytes).await
    }

    fn show(&self, row: &ScheduleRow) -> (i64, Option<Schedule>) {
        (-row.place, Some(shown(row.clone())))
    }
}

pub async fn create(
    State(app): State<App>,
    caller: Principal,
    Json(new): Json<CreateSchedule>,
) -> Result<(StatusCode, Extension<Object>, JsonBody<ScheduleBody>), Failure> {
    let row = app.schedules.create(&caller.tenant, new).await?;
    tracing::info!(principal = caller.name, schedule = %row.id, agent = row.agent, "schedule created");
    Ok((StatusCode::CREATED, Extension(Object(row.id.to_string())), body(row)))
}

pub async fn show(State(app): State<App>, caller: Principal, Id(id): Id<ScheduleId>) -> Result<JsonBody<ScheduleBody>, Failure> {
    Ok(body(app.schedules.get(&caller.tenant, id).await?))
}

pub async fn change(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<ScheduleId>,
    Json(change): Json<ChangeSchedule>,
) -> Result<JsonBody<ScheduleBody>, Failure> {
    let row = app.schedules.change(&caller.tenant, id, change).await?;
    tracing::info!(principal = caller.name, schedule = %id, enabled = row.enabled, "schedule changed");
    Ok(body(row))
}

pub async fn delete(State(app): State<App>, caller: Principal, Id(id): Id<ScheduleId>) -> Result<JsonBody<Value>, Failure> {
    app.schedules.delete(&caller.tenant, id).await?;
    tracing::info!(principal = caller.name, schedule = %id, "schedule deleted");
    Ok(JsonBody(json!({"ok": true})))
}

pub async fn run(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<ScheduleId>,
) -> Result<(StatusCode, JsonBody<QueueItemBody>), Failure> {
    let item = app.schedules.run_now(&caller.tenant, id).await?;
    tracing::info!(principal = caller.name, schedule = %id, item = %item.id, "schedule run by hand");
    Ok((StatusCode::CREATED, item_body(item)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    before: Option<QueueId>,
    limit: Option<i64>,
}

pub async fn runs(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<ScheduleId>,
    Params(which): Params<Which>,
) -> Result<Response, Failure> {
    let limit = in_range("limit", which.limit, 1..=LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT) as usize;
    app.schedules.get(&caller.tenant, id).await?;
    // The newest has the highest place.
    let after = match which.before {
        Some(item) => -app.store.get_item(&caller.tenant, item).await?.place,
        None => -i64::MAX,
    };
    list::respond("items", Items { store: app.store, tenant: caller.tenant, of: Of::Schedule(id) }, after, limit).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previewed {
    calendar: String,
    timezone: Option<String>,
    count: Option<i64>,
}

pub async fn preview(
    State(app): State<App>,
    _caller: Principal,
    Params(wanted): Params<Previewed>,
) -> Result<JsonBody<SchedulePreview>, Failure> {
    let count = in_range("count", wanted.count, 1..=COUNT_MAX)?.unwrap_or(COUNT_DEFAULT) as usize;
    let times = app.schedules.preview(&wanted.calendar, wanted.timezone.as_deref(), count)?;
    Ok(JsonBody(SchedulePreview { times }))
}
