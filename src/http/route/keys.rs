//! `/api/api-keys`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json as JsonBody};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::agent::name::AgentName;
use crate::auth::Principal;
use crate::auth::key::tenant_of;
use crate::http::App;
use crate::http::extract::{Id, Json, Params};
use crate::http::guard::{Object, OfTenant};
use crate::http::problem::Failure;
use crate::store::StoreError;
use crate::wire::KeyId;
use crate::wire::key::{ApiKey, CreateKey, CreatedKey, KeyList};

/// Whose keys; over the control socket only.
#[derive(Debug, Deserialize)]
pub struct Whose {
    tenant: Option<String>,
}

pub async fn list(State(app): State<App>, caller: Principal, Params(whose): Params<Whose>) -> Result<JsonBody<KeyList>, Failure> {
    let keys = app.keys.list(&tenant_of(&caller, whose.tenant)?).await?.into_iter().map(|row| ApiKey {
        id: row.id,
        label: row.label,
        key_prefix: format!("{}••••••••", row.prefix),
        created_at: row.created_at,
        tenant: row.tenant,
        scopes: row.scopes,
        agent: row.agent,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
    });
    Ok(JsonBody(KeyList { keys: keys.collect() }))
}

pub async fn create(
    State(app): State<App>,
    caller: Principal,
    Json(body): Json<CreateKey>,
) -> Result<(StatusCode, Extension<Object>, Extension<OfTenant>, JsonBody<CreatedKey>), Failure> {
    if let Some(agent) = &body.agent {
        agent.parse::<AgentName>().map_err(|error| Failure::field("agent", error.reason))?;
    }
    let (row, secret) = app.keys.create(&caller, body).await?;
    tracing::info!(principal = caller.name, key = %row.id, tenant = row.tenant, scopes = %row.scopes, "API key created");
    let (object, tenant) = (Object(row.id.to_string()), OfTenant(row.tenant));
    Ok((
        StatusCode::CREATED,
        Extension(object),
        Extension(tenant),
        JsonBody(CreatedKey { id: row.id, key: secret.reveal().to_owned() }),
    ))
}

pub async fn revoke(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<KeyId>,
    Params(whose): Params<Whose>,
) -> Result<(Extension<OfTenant>, JsonBody<Value>), Failure> {
    let tenant = tenant_of(&caller, whose.tenant)?;
    app.keys.revoke(&tenant, id).await.map_err(|error| match error {
        StoreError::NotFound(_) => Failure::not_found("API key not found"),
        error => error.into(),
    })?;
    tracing::info!(principal = caller.name, key = %id, tenant, "API key revoked");
    Ok((Extension(OfTenant(tenant)), JsonBody(json!({"ok": true}))))
}
