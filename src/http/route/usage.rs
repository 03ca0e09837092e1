//! `/api/usage`.

use axum::Json as JsonBody;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Number;
use uuid::Uuid;

use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Params, in_range, read};
use crate::http::problem::Failure;
use crate::store::usage::{BillFilter, BillGroup, BillRow};
use crate::wire::analytics::{UsageEvent, UsageList, UsageStatsBody, UsageType};

/// Events or groups that are listed when the caller names no limit.
const LIST_DEFAULT: i64 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageParams {
    session_id: Option<String>,
    agent_name: Option<String>,
    after: Option<String>,
    before: Option<String>,
    limit: Option<i64>,
    by: Option<String>,
}

impl UsageParams {
    /// Which bills they mean.
    pub fn filter(&self) -> Result<BillFilter, Failure> {
        Ok(BillFilter {
            session: read("sessionId", self.session_id.as_deref())?,
            agent: self.agent_name.clone(),
            after: read("after", self.after.as_deref())?,
            before: read("before", self.before.as_deref())?,
        })
    }

    fn limit(&self) -> Result<usize, Failure> {
        Ok(in_range("limit", self.limit, 1..=1000)?.unwrap_or(LIST_DEFAULT) as usize)
    }

    fn group(&self) -> Result<Option<BillGroup>, Failure> {
        match self.by.as_deref() {
            None => Ok(None),
            Some("agent") => Ok(Some(BillGroup::Agent)),
            Some("session") => Ok(Some(BillGroup::Session)),
            Some(_) => Err(Failure::field("by", "has to be agent or session")),
        }
    }
}

pub async fn list(
    State(app): State<App>,
    caller: Principal,
    Params(params): Params<UsageParams>,
) -> Result<JsonBody<UsageList>, Failure> {
    let (filter, limit) = (params.filter()?, params.limit()?);
    // Each bill has an event at least.
    let bills = app.store.bills(&caller.tenant, filter, limit).await?;
    let events = bills.iter().flat_map(|bill| events(&caller.tenant, bill)).take(limit).collect();
    Ok(JsonBody(UsageList { events }))
}

pub async fn stats(
    State(app): State<App>,
    caller: Principal,
    Params(params): Params<UsageParams>,
) -> Result<JsonBody<UsageStatsBody>, Failure> {
    let (filter, limit) = (params.filter()?, params.limit()?);
    let groups = match params.group()? {
        Some(by) => Some(app.store.billed_by(&caller.tenant, filter.clone(), by, limit).await?),
        None => None,
    };
    Ok(JsonBody(UsageStatsBody { stats: app.store.billed(&caller.tenant, filter).await?, groups }))
}

/// What stands on a bill. Ids are always the same for the same figure.
fn events(tenant: &str, bill: &BillRow) -> Vec<UsageEvent> {
    let stats = &bill.stats;
    let fraction = |value: f64| Number::from_f64(value).filter(|_| value > 0.0);
    let whole = |value: u64| Some(Number::from(value)).filter(|_| value > 0);
    [
        (UsageType::InputTokens, whole(stats.total_input_tokens)),
        (UsageType::OutputTokens, whole(stats.total_output_tokens)),
        (UsageType::CacheCreationTokens, whole(stats.total_cache_creation_tokens)),
        (UsageType::CacheReadTokens, whole(stats.total_cache_read_tokens)),
        (UsageType::ToolCall, whole(stats.total_tool_calls)),
        (UsageType::Message, whole(stats.total_messages)),
        (UsageType::ComputeSeconds, fraction(stats.total_compute_seconds)),
        (UsageType::CostUsd, fraction(stats.total_cost_usd)),
    ]
    .into_iter()
    .filter_map(|(event_type, value)| {
        let name = format!("usage/{}/{}", bill.event, event_type.as_str());
        Some(UsageEvent {
            id: Uuid::new_v5(&bill.session.as_uuid(), name.as_bytes()).to_string(),
            session_id: bill.session,
            agent_name: bill.agent.clone(),
            event_type,
            value: value?,
            created_at: bill.at,
            tenant_id: tenant.to_owned(),
        })
    })
    .collect()
}
