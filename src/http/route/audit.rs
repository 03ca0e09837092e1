//! `GET /api/audit`.

use axum::Json as JsonBody;
use axum::extract::State;
use serde::Deserialize;

use crate::auth::Principal;
use crate::auth::key::tenant_of;
use crate::http::App;
use crate::http::extract::{Params, in_range, read};
use crate::http::problem::Failure;
use crate::store::AuditFilter;
use crate::wire::audit::AuditList;

const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    action: Option<String>,
    principal: Option<String>,
    object: Option<String>,
    since: Option<String>,
    until: Option<String>,
    before: Option<i64>,
    limit: Option<i64>,
    /// Over the control socket only.
    tenant: Option<String>,
}

pub async fn list(
    State(app): State<App>,
    caller: Principal,
    Params(which): Params<Which>,
) -> Result<JsonBody<AuditList>, Failure> {
    let filter = AuditFilter {
        action: read("action", which.action.as_deref())?,
        principal: which.principal,
        object: which.object,
        since: read("since", which.since.as_deref())?,
        until: read("until", which.until.as_deref())?,
        before: in_range("before", which.before, 1..=i64::MAX)?,
        limit: in_range("limit", which.limit, 1..=LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT) as usize,
    };
    let entries = app.store.audit(&tenant_of(&caller, which.tenant)?, filter).await?;
    Ok(JsonBody(AuditList { entries }))
}
