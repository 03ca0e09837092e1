//! `/api/credentials`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json as JsonBody};
use serde_json::{Value, json};

use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Json};
use crate::http::guard::Object;
use crate::http::problem::Failure;
use crate::session::SessionError;
use crate::store::CredentialRow;
use crate::wire::CredentialId;
use crate::wire::credential::{ChangeCredential, CreateCredential, Credential, CredentialBody, CredentialList, Resealed};

fn shown(row: CredentialRow) -> Credential {
    Credential {
        id: row.id,
        r#type: row.kind,
        label: row.label,
        active: true,
        created_at: row.created_at,
        last_used_at: row.last_used_at,
    }
}

pub async fn list(State(app): State<App>, caller: Principal) -> Result<JsonBody<CredentialList>, Failure> {
    let credentials = app.credentials.list(&caller.tenant).await?.into_iter().map(shown).collect();
    Ok(JsonBody(CredentialList { credentials }))
}

pub async fn create(
    State(app): State<App>,
    caller: Principal,
    Json(body): Json<CreateCredential>,
) -> Result<(StatusCode, Extension<Object>, JsonBody<CredentialBody>), Failure> {
    let row = app.credentials.create(&caller.tenant, &body).await?;
    tracing::info!(principal = caller.name, credential = %row.id, kind = row.kind.as_str(), "credential created");
    let object = Object(row.id.to_string());
    Ok((StatusCode::CREATED, Extension(object), JsonBody(CredentialBody { credential: shown(row) })))
}

pub async fn change(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<CredentialId>,
    Json(body): Json<ChangeCredential>,
) -> Result<JsonBody<CredentialBody>, Failure> {
    let is_rotated = body.key.is_some();
    let changing = async move {
        let row = app.credentials.change(&caller.tenant, id, body).await?;
        if is_rotated {
            app.sessions.credential_changed(&caller.tenant, id).await;
        }
        tracing::info!(principal = caller.name, credential = %id, rotated = is_rotated, "credential changed");
        Ok(JsonBody(CredentialBody { credential: shown(row) }))
    };
    whole(changing).await
}

/// Carries out a change to its end, also when who asked goes away: sandboxes must not have another secret
/// than the database.
async fn whole<T: Send + 'static>(change: impl Future<Output = Result<T, Failure>> + Send + 'static) -> Result<T, Failure> {
    tokio::spawn(change).await.unwrap_or_else(|_| Err(SessionError::Closing.into()))
}

pub async fn delete(State(app): State<App>, caller: Principal, Id(id): Id<CredentialId>) -> Result<JsonBody<Value>, Failure> {
    let row = app.credentials.get(&caller.tenant, id).await?;
    let deleting = async move {
        app.sessions.credential_goes(&caller.tenant, id, row.kind).await;
        if let Err(error) = app.credentials.delete(&caller.tenant, id).await {
            app.sessions.credential_changed(&caller.tenant, id).await;
            return Err(error.into());
        }
        // Sessions that were taken up meanwhile may have read it.
        app.sessions.credential_goes(&caller.tenant, id, row.kind).await;
        tracing::info!(principal = caller.name, credential = %id, "credential deleted");
        Ok(JsonBody(json!({"ok": true})))
    };
    whole(deleting).await
}

/// For the operator: it touches the credentials of all tenants.
pub async fn reseal(State(app): State<App>, caller: Principal) -> Result<JsonBody<Resealed>, Failure> {
    if !caller.local {
        return Err(Failure::forbidden("Credentials are sealed anew over the control socket only"));
    }
    let mut resealed = app.credentials.reseal().await?;
    resealed.webhooks = app.webhooks.reseal().await?;
    tracing::info!(principal = caller.name, master = resealed.master_key, count = resealed.resealed, "credentials sealed anew");
    Ok(JsonBody(resealed))
}
