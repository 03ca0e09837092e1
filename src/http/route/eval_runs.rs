//! `/api/agents/{name}/eval-runs` and `eval-results`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json as JsonBody};
use serde::{Deserialize, Serialize};

use super::queue::WaitParams;
use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Ids, Json, Params, in_range, read};
use crate::http::guard::Object;
use crate::http::kept;
use crate::http::list::{self, Source};
use crate::http::places::{Place, Places};
use crate::http::problem::Failure;
use crate::store::eval::{HumanScore, ResultRow, RunRow};
use crate::store::{Store, StoreError};
use crate::wire::eval::{
    ComparedCase, EvalComparison, EvalResult, EvalResultBody, EvalRun, EvalRunBody, ScoreEvalResult, ScoreEvalRun, ScoredBody,
    StartEvalRun,
};
use crate::wire::{EvalResultId, EvalRunId};

/// Runs that one answer lists at most, and when the caller names no limit, and results.
const RUNS_MAX: i64 = 1000;
const RUNS_DEFAULT: i64 = 100;
const RESULTS_MAX: i64 = 1000;
/// Comparisons and scorings of runs at a time, each of which has all results of a run or two in memory.
static WHOLE: Places = Places::new(4);

fn shown(row: RunRow) -> EvalRun {
    EvalRun {
        id: row.id,
        tenant_id: row.tenant,
        agent_name: row.agent,
        version_number: row.version,
        status: row.status,
        total_cases: row.total,
        completed_cases: row.over,
        summary: row.summary,
        created_at: row.created_at,
        started_at: row.started_at,
        completed_at: row.completed_at,
        agent_digest: row.digest,
        judge_agent: row.judge,
        concurrency: row.concurrency,
        pass_threshold: row.threshold,
        cancelling: row.is_cancelling,
    }
}

fn body(row: RunRow) -> JsonBody<EvalRunBody> {
    JsonBody(shown(row).into())
}

fn shown_result(row: ResultRow) -> EvalResult {
    EvalResult {
        id: row.id,
        tenant_id: row.tenant,
        eval_run_id: row.run,
        eval_case_id: row.case,
        agent_response: row.response,
        topic_score: row.topic_score,
        safety_score: row.safety_score,
        llm_judge_score: row.judge_score,
        latency_ms: row.latency_ms,
        status: row.status,
        error: row.error,
        human_score: row.human_score,
        human_notes: row.human_notes,
        created_at: row.created_at,
        completed_at: row.completed_at,
        question: row.content.question,
        passed: row.passed,
        response_truncated: row.is_cut,
        llm_judge_reason: row.judge_reason,
        llm_judge_error: row.judge_error,
        session_id: row.session,
        turn_id: row.turn,
        judge_session_id: row.judge_session,
        cost_usd: row.cost_usd,
        started_at: row.started_at,
    }
}

pub async fn start(
    State(app): State<App>,
    caller: Principal,
    Id(agent): Id<String>,
    Json(request): Json<StartEvalRun>,
) -> Result<(StatusCode, Extension<Object>, JsonBody<EvalRunBody>), Failure> {
    if let (Some(own), Some(judge)) = (&caller.agent, &request.judge_agent)
        && own != judge
    {
        return Err(Failure::forbidden(format!("This API key is for the agent {own} alone, and can not ask {judge}")));
    }
    let run = app.evals.start(&caller.tenant, &agent, request).await?;
    tracing::info!(run = %run.id, agent, cases = run.total, principal = caller.name, "eval run started");
    Ok((StatusCode::CREATED, Extension(Object(run.id.to_string())), body(run)))
}

#[derive(Debug, Deserialize)]
pub struct ListParams {
    before: Option<String>,
    limit: Option<i64>,
}

pub async fn list(
    State(app): State<App>,
    caller: Principal,
    Id(agent): Id<String>,
    Params(params): Params<ListParams>,
) -> Result<Response, Failure> {
    let limit = in_range("limit", params.limit, 1..=RUNS_MAX)?.unwrap_or(RUNS_DEFAULT);
    app.agents.get(&caller.tenant, &agent).await?;
    let before = match read::<EvalRunId>("before", params.before.as_deref())? {
        Some(id) => app.store.get_run(&caller.tenant, &agent, id).await?.place,
        None => i64::MAX,
    };
    list::respond("runs", Runs { store: app.store, tenant: caller.tenant, agent }, -before, limit as usize).await
}

struct Runs {
    store: Arc<dyn Store>,
    tenant: String,
    agent: String,
}

impl Source for Runs {
    type Place = i64;
    type Row = RunRow;
    type Shown = EvalRun;

    async fn read(&self, &after: &i64, limit: usize, _bytes: usize) -> Result<Vec<RunRow>, StoreError> {
        self.store.runs(&self.tenant, &self.agent, -after, limit).await
    }

    fn show(&self, row: &RunRow) -> (i64, Option<EvalRun>) {
        (-row.place, Some(shown(row.clone())))
    }
}

pub async fn show(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, id): Ids<String, EvalRunId>,
    Params(params): Params<WaitParams>,
) -> Result<JsonBody<EvalRunBody>, Failure> {
    Ok(body(app.evals.get(&caller.tenant, &agent, id, params.patience()?).await?))
}

pub async fn cancel(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, id): Ids<String, EvalRunId>,
) -> Result<(StatusCode, JsonBody<EvalRunBody>), Failure> {
    let run = app.evals.cancel(&caller.tenant, &agent, id).await?;
    tracing::info!(run = %id, agent, principal = caller.name, "eval run cancelled");
    let status = if run.status.is_over() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, body(run)))
}

#[derive(Debug, Deserialize)]
pub struct ResultParams {
    after: Option<String>,
    limit: Option<i64>,
}

pub async fn results(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, id): Ids<String, EvalRunId>,
    Params(params): Params<ResultParams>,
) -> Result<Response, Failure> {
    let limit = in_range("limit", params.limit, 1..=RESULTS_MAX)?.unwrap_or(RESULTS_MAX);
    let run = app.store.get_run(&caller.tenant, &agent, id).await?.place;
    let after = match read::<EvalResultId>("after", params.after.as_deref())? {
        Some(id) => app.store.get_result(&caller.tenant, &agent, id).await?.place,
        None => 0,
    };
    list::respond("results", Results { store: app.store, run }, after, limit as usize).await
}

struct Results {
    store: Arc<dyn Store>,
    run: i64,
}

impl Source for Results {
    type Place = i64;
    type Row = ResultRow;
    type Shown = EvalResult;

    async fn read(&self, &after: &i64, limit: usize, bytes: usize) -> Result<Vec<ResultRow>, StoreError> {
        self.store.results(self.run, after, limit, bytes).await
    }

    fn show(&self, row: &ResultRow) -> (i64, Option<EvalResult>) {
        (row.place, Some(shown_result(row.clone())))
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompareParams {
    run_a: Option<String>,
    run_b: Option<String>,
}

pub async fn compare(
    State(app): State<App>,
    caller: Principal,
    Id(agent): Id<String>,
    Params(params): Params<CompareParams>,
) -> Result<Response, Failure> {
    app.agents.get(&caller.tenant, &agent).await?;
    let given = |field: &str, text: Option<String>| {
        read::<EvalRunId>(field, text.as_deref())?.ok_or_else(|| Failure::field(field, "is missing"))
    };
    let runs = [given("runA", params.run_a)?, given("runB", params.run_b)?];
    let place = whole(&caller)?;
    let [(run_a, results_a), (run_b, results_b)] = app.evals.compare(&caller.tenant, &agent, runs).await?;
    let comparison = EvalComparison { run_a: shown(run_a), run_b: shown(run_b), results: side_by_side(results_a, results_b) };
    Ok(kept::json(Twice { comparison: &comparison, fields: &comparison }, place).await)
}

/// An [`EvalComparisonBody`](crate::wire::eval::EvalComparisonBody) that is in memory once.
#[derive(Serialize)]
struct Twice<'a> {
    comparison: &'a EvalComparison,
    #[serde(flatten)]
    fields: &'a EvalComparison,
}

fn whole(caller: &Principal) -> Result<Place, Failure> {
    WHOLE.take(&caller.tenant).ok_or_else(|| Failure::busy("Too many eval runs are being compared or scored; try again"))
}

/// The cases of both, those of the first first.
fn side_by_side(first: Vec<ResultRow>, second: Vec<ResultRow>) -> Vec<ComparedCase> {
    let mut of_second: BTreeMap<_, _> = second.iter().map(|result| (result.case, result)).collect();
    let mut all = Vec::new();
    for result in first {
        let other = of_second.remove(&result.case).cloned();
        let question = other.as_ref().unwrap_or(&result).content.question.clone();
        let (case_id, result_b) = (result.case, other.map(shown_result));
        all.push(ComparedCase { case_id, question, result_a: Some(shown_result(result)), result_b });
    }
    let rest = second.iter().filter(|result| of_second.contains_key(&result.case)).cloned();
    all.extend(rest.map(|result| ComparedCase {
        case_id: result.case,
        question: result.content.question.clone(),
        result_a: None,
        result_b: Some(shown_result(result)),
    }));
    all
}

pub async fn score_run(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, id): Ids<String, EvalRunId>,
    Json(request): Json<ScoreEvalRun>,
) -> Result<Response, Failure> {
    let place = whole(&caller)?;
    let results = app.evals.score_run(&caller.tenant, &agent, id, request).await?;
    tracing::info!(run = %id, agent, results = results.len(), principal = caller.name, "eval results scored");
    let body = ScoredBody { scored: results.len() as u64, results: results.into_iter().map(shown_result).collect() };
    Ok(kept::json(body, place).await)
}

pub async fn score(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, id): Ids<String, EvalResultId>,
    Json(request): Json<ScoreEvalResult>,
) -> Result<JsonBody<EvalResultBody>, Failure> {
    let score = HumanScore { score: request.human_score, notes: request.human_notes };
    let result = app.evals.score(&caller.tenant, &agent, id, score).await?;
    tracing::info!(result = %id, agent, principal = caller.name, "eval result scored");
    Ok(JsonBody(EvalResultBody { result: shown_result(result) }))
}
