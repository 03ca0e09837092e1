//! `/api/api-keys`.

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Json};
use crate::http::problem::Failure;
use crate::store::StoreError;
use crate::wire::KeyId;
use crate::wire::key::{ApiKey, CreateKey, CreatedKey, KeyList};

const LABEL_MAX: usize = 255;
const LABEL_DEFAULT: &str = "dashboard-key";

pub async fn list(State(app): State<App>, caller: Principal) -> Result<JsonBody<KeyList>, Failure> {
    let keys = app.keys.list(&caller.tenant).await?.into_iter().map(|row| ApiKey {
        id: row.id,
        label: row.label,
        key_prefix: format!("{}••••••••", row.prefix),
        created_at: row.created_at,
    });
    Ok(JsonBody(KeyList { keys: keys.collect() }))
}

pub async fn create(
    State(app): State<App>,
    caller: Principal,
    Json(body): Json<CreateKey>,
) -> Result<(StatusCode, JsonBody<CreatedKey>), Failure> {
    let label = body.label.as_deref().unwrap_or(LABEL_DEFAULT);
    if label.chars().count() > LABEL_MAX || label.chars().any(char::is_control) {
        return Err(Failure::field(
            "label",
            format!("has to be at most {LABEL_MAX} characters, none of them a control character"),
        ));
    }
    let (id, key) = app.keys.create(&caller.tenant, label).await?;
    tracing::info!(principal = caller.name, key = %id, "API key created");
    Ok((StatusCode::CREATED, JsonBody(CreatedKey { id, key: key.reveal().to_owned() })))
}

pub async fn revoke(State(app): State<App>, caller: Principal, Id(id): Id<KeyId>) -> Result<JsonBody<Value>, Failure> {
    app.keys.revoke(&caller.tenant, id).await.map_err(|error| match error {
        StoreError::NotFound(_) => Failure::not_found("API key not found"),
        error => error.into(),
    })?;
    tracing::info!(principal = caller.name, key = %id, "API key revoked");
    Ok(JsonBody(json!({"ok": true})))
}
