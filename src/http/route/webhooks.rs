//! `/api/webhooks`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json as JsonBody};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::agent::name::AgentName;
use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Ids, Json, Params, in_range};
use crate::http::guard::Object;
use crate::http::places::{Place, Places};
use crate::http::problem::Failure;
use crate::webhook::shown;
use crate::wire::WebhookId;
use crate::wire::webhook::{ChangeWebhook, CreateWebhook, DeliveryBody, DeliveryList, WebhookBody, WebhookList};

/// Tests and second deliveries at the same time, each of which may wait as long as a receiver does.
static BY_HAND: Places = Places::new(16);

const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    before: Option<i64>,
    limit: Option<i64>,
}

pub async fn list(State(app): State<App>, caller: Principal) -> Result<JsonBody<WebhookList>, Failure> {
    let webhooks = app.webhooks.list(&caller.tenant).await?.into_iter().map(shown).collect();
    Ok(JsonBody(WebhookList { webhooks }))
}

pub async fn create(
    State(app): State<App>,
    caller: Principal,
    Json(body): Json<CreateWebhook>,
) -> Result<(StatusCode, Extension<Object>, JsonBody<WebhookBody>), Failure> {
    check_agent(body.agent.as_deref())?;
    let (row, secret) = app.webhooks.create(&caller.tenant, body).await?;
    tracing::info!(principal = caller.name, webhook = %row.id, "webhook created");
    let object = Object(row.id.to_string());
    Ok((StatusCode::CREATED, Extension(object), JsonBody(WebhookBody { webhook: shown(row), secret: Some(secret) })))
}

pub async fn show(State(app): State<App>, caller: Principal, Id(id): Id<WebhookId>) -> Result<JsonBody<WebhookBody>, Failure> {
    let row = app.webhooks.get(&caller.tenant, id).await?;
    Ok(JsonBody(WebhookBody { webhook: shown(row), secret: None }))
}

pub async fn change(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<WebhookId>,
    Json(body): Json<ChangeWebhook>,
) -> Result<JsonBody<WebhookBody>, Failure> {
    check_agent(body.agent.as_ref().and_then(Option::as_deref))?;
    let (row, secret) = app.webhooks.change(&caller.tenant, id, body).await?;
    tracing::info!(principal = caller.name, webhook = %id, rotated = secret.is_some(), "webhook changed");
    Ok(JsonBody(WebhookBody { webhook: shown(row), secret }))
}

pub async fn delete(State(app): State<App>, caller: Principal, Id(id): Id<WebhookId>) -> Result<JsonBody<Value>, Failure> {
    app.webhooks.delete(&caller.tenant, id).await?;
    tracing::info!(principal = caller.name, webhook = %id, "webhook deleted");
    Ok(JsonBody(json!({"ok": true})))
}

pub async fn test(State(app): State<App>, caller: Principal, Id(id): Id<WebhookId>) -> Result<JsonBody<DeliveryBody>, Failure> {
    let _place = by_hand(&caller)?;
    let delivery = app.webhooks.test(&caller.tenant, id).await?;
    Ok(JsonBody(DeliveryBody { delivery }))
}

pub async fn deliveries(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<WebhookId>,
    Params(which): Params<Which>,
) -> Result<JsonBody<DeliveryList>, Failure> {
    let before = in_range("before", which.before, 1..=i64::MAX)?;
    let limit = in_range("limit", which.limit, 1..=LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT);
    let deliveries = app.webhooks.deliveries(&caller.tenant, id, before, limit as usize).await?;
    Ok(JsonBody(DeliveryList { deliveries }))
}

pub async fn redeliver(
    State(app): State<App>,
    caller: Principal,
    Ids(id, delivery): Ids<WebhookId, i64>,
) -> Result<JsonBody<DeliveryBody>, Failure> {
    let _place = by_hand(&caller)?;
    let delivery = app.webhooks.redeliver(&caller.tenant, id, delivery).await?;
    Ok(JsonBody(DeliveryBody { delivery }))
}

fn by_hand(caller: &Principal) -> Result<Place, Failure> {
    BY_HAND
        .take(&caller.tenant)
        .ok_or_else(|| Failure::busy("Too many tests and deliveries are sent at the same time; try again"))
}

fn check_agent(agent: Option<&str>) -> Result<(), Failure> {
    let check = |agent: &str| agent.parse::<AgentName>().map(drop).map_err(|error| Failure::field("agent", error.reason));
    agent.map_or(Ok(()), check)
}
