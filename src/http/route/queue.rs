//! `/api/queue`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::sessions;
use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, IdempotencyKey, Json, Params, in_range, read};
use crate::http::list::{self, Source};
use crate::http::problem::Failure;
use crate::store::queue::ItemRow;
use crate::store::{Store, StoreError};
use crate::wire::queue::{Enqueue, QueueItem, QueueItemBody, QueueResult, QueueStatsBody, QueueStatus};
use crate::wire::session::SessionBody;
use crate::wire::{QueueId, ScheduleId};

/// Largest body of a new item: a prompt of four bytes for each letter, with room for escapes.
const ADD_MAX: usize = 4 << 20;
/// Items that are listed when the caller names no limit, and most of them.
const LIST_DEFAULT: i64 = 50;
const LIST_MAX: i64 = 500;
/// Longest wait for the end of an item, in seconds.
const WAIT_MAX: i64 = 60;

fn shown(row: ItemRow) -> QueueItem {
    QueueItem {
        id: row.id,
        agent_name: row.agent,
        prompt: row.prompt,
        status: row.status,
        priority: row.priority,
        retry_count: row.retries,
        max_retries: row.max_retries,
        created_at: row.created_at,
        tenant_id: row.tenant,
        session_id: row.session,
        error: row.error,
        started_at: row.started_at,
        completed_at: row.completed_at,
        turn_id: row.turn,
        retry_at: row.retry_at,
        result: row.result,
        result_truncated: row.is_cut,
        cost_usd: row.cost_usd,
        keep_session: row.keeps,
        cancelling: row.is_cancelling,
        schedule_id: row.schedule,
        scheduled_for: row.scheduled_for,
    }
}

pub(super) fn body(row: ItemRow) -> JsonBody<QueueItemBody> {
    JsonBody(QueueItemBody { item: shown(row) })
}

pub async fn add(
    State(app): State<App>,
    caller: Principal,
    key: IdempotencyKey,
    Json(request): Json<Enqueue, ADD_MAX>,
) -> Result<(StatusCode, JsonBody<QueueItemBody>), Failure> {
    let key = key.of(&request);
    let item = app.queue.add(&caller.tenant, request, key).await?;
    tracing::info!(item = %item.id, agent = item.agent, principal = caller.name, "queue item added");
    Ok((StatusCode::CREATED, body(item)))
}

#[derive(Debug, Deserialize)]
pub struct ListParams {
    status: Option<String>,
    limit: Option<i64>,
}

pub async fn list(State(app): State<App>, caller: Principal, Params(params): Params<ListParams>) -> Result<Response, Failure> {
    let status = read("status", params.status.as_deref())?;
    let limit = in_range("limit", params.limit, 1..=LIST_MAX)?.unwrap_or(LIST_DEFAULT) as usize;
    // The newest has the highest place.
    list::respond("items", Items { store: app.store, tenant: caller.tenant, of: Of::Status(status) }, -i64::MAX, limit).await
}

/// Which items are listed.
pub(super) enum Of {
    /// Those with this status, or all.
    Status(Option<QueueStatus>),
    /// Those of this schedule.
    Schedule(ScheduleId),
}

/// A list of items, newest first.
pub(super) struct Items {
    pub(super) store: Arc<dyn Store>,
    pub(super) tenant: String,
    pub(super) of: Of,
}

impl Source for Items {
    type Place = i64;
    type Row = ItemRow;
    type Shown = QueueItem;

    async fn read(&self, &after: &i64, limit: usize, bytes: usize) -> Result<Vec<ItemRow>, StoreError> {
        match self.of {
            Of::Status(status) => self.store.items(&self.tenant, status, -after, limit, bytes).await,
            Of::Schedule(id) => self.store.items_of_schedule(&self.tenant, id, -after, limit, bytes).await,
        }
    }

    fn show(&self, row: &ItemRow) -> (i64, Option<QueueItem>) {
        (-row.place, Some(shown(row.clone())))
    }
}

pub async fn stats(State(app): State<App>, caller: Principal) -> Result<JsonBody<QueueStatsBody>, Failure> {
    Ok(JsonBody(QueueStatsBody { stats: app.queue.stats(&caller.tenant).await? }))
}

#[derive(Debug, Deserialize)]
pub struct WaitParams {
    wait: Option<i64>,
}

impl WaitParams {
    pub fn patience(&self) -> Result<Duration, Failure> {
        let seconds = in_range("wait", self.wait, 0..=WAIT_MAX)?.unwrap_or(0);
        Ok(Duration::from_secs(seconds.unsigned_abs()))
    }
}

pub async fn show(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<QueueId>,
    Params(params): Params<WaitParams>,
) -> Result<JsonBody<QueueItemBody>, Failure> {
    Ok(body(app.queue.get(&caller.tenant, id, params.patience()?).await?))
}

pub async fn result(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<QueueId>,
    Params(params): Params<WaitParams>,
) -> Result<JsonBody<QueueResult>, Failure> {
    let item = app.queue.result(&caller.tenant, id, params.patience()?).await?;
    Ok(JsonBody(QueueResult {
        status: item.status,
        result: item.result,
        result_truncated: item.is_cut,
        error: item.error,
        session_id: item.session,
        turn_id: item.turn,
        cost_usd: item.cost_usd,
    }))
}

pub async fn session(State(app): State<App>, caller: Principal, Id(id): Id<QueueId>) -> Result<JsonBody<SessionBody>, Failure> {
    let session = app.queue.session(&caller.tenant, id).await?;
    sessions::show(State(app), caller, Id(session)).await
}

#[derive(Debug, Deserialize)]
pub struct CancelParams {
    #[serde(default)]
    force: bool,
}

pub async fn cancel(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<QueueId>,
    Params(params): Params<CancelParams>,
) -> Result<(StatusCode, JsonBody<QueueItemBody>), Failure> {
    let item = app.queue.cancel(&caller.tenant, id, params.force).await?;
    tracing::info!(item = %id, principal = caller.name, force = params.force, "queue item cancelled");
    let status = if item.status.is_over() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, body(item)))
}
