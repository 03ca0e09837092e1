//! `/api/analytics`, and `/api/internal/runners`.

use axum::Json as JsonBody;
use axum::extract::State;

use super::usage::UsageParams;
use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::Params;
use crate::http::problem::Failure;
use crate::store::usage::BillFilter;
use crate::wire::analytics::{Analytics, EvalTally, RunnerList, SessionTally, Total};

pub async fn show(
    State(app): State<App>,
    caller: Principal,
    Params(params): Params<UsageParams>,
) -> Result<JsonBody<Analytics>, Failure> {
    // The time alone is asked for.
    let filter = BillFilter { session: None, agent: None, ..params.filter()? };
    let usage = app.store.billed(&caller.tenant, filter).await?;
    let tally = app.store.tally(&caller.tenant).await?;
    let sessions = SessionTally {
        total: tally.sessions.iter().map(|(_, count)| count).sum(),
        by_status: tally.sessions.iter().map(|(status, count)| (status.as_str().to_owned(), *count)).collect(),
    };
    let runs = app.store.count_runs(&caller.tenant).await?;
    let evals = EvalTally {
        total_runs: runs.iter().map(|(_, count)| count).sum(),
        by_status: runs.iter().map(|(status, count)| (status.as_str().to_owned(), *count)).collect(),
    };
    Ok(JsonBody(Analytics { agents: Total { total: tally.agents }, sessions, usage, evals }))
}

/// There is this host and no other.
pub async fn runners(_: Principal) -> JsonBody<RunnerList> {
    JsonBody(RunnerList { runners: Vec::new(), count: 0, has_local: true })
}
