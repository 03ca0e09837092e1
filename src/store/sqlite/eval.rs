//! Evals: cases, runs, and what came of each case.

use rusqlite::{Connection, Row, params};

use super::rows::{column, json_column, optional_column, optional_json_column, to_json};
use super::{Sqlite, execute, get_agent, rows, rows_within_all, sqlite_error};
use crate::store::eval::{
    Answered, Asked, CaseFilter, CaseRoom, CaseRow, Evals, Frozen, HumanScore, Judged, NewRun, ResultRow, RunHead, RunRow,
    ScoreRow, Started,
};
use crate::store::{Pending, StoreError, sql};
use crate::wire::eval::{CaseContent, ChangeEvalCase, ChatMessage, EvalSummary, RunStatus};
use crate::wire::{EvalCaseId, EvalResultId, EvalRunId, SessionId, Timestamp, TurnId};

/// Where what may be long stands among the columns of a case, and of a result.
const CASE_LONG: [usize; 1] = [4];
const RESULT_LONG: [usize; 2] = [7, 13];

fn time(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp))
}

fn case(row: &Row<'_>) -> rusqlite::Result<CaseRow> {
    Ok(CaseRow {
        place: row.get(0)?,
        id: column(row, 1)?,
        tenant: row.get(2)?,
        agent: row.get(3)?,
        content: json_column(row, 4)?,
        is_active: row.get(5)?,
        created_at: Timestamp(row.get(6)?),
        updated_at: Timestamp(row.get(7)?),
    })
}

fn run(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    Ok(RunRow {
        place: row.get(0)?,
        id: column(row, 1)?,
        tenant: row.get(2)?,
        agent: row.get(3)?,
        digest: row.get(4)?,
        version: row.get(5)?,
        judge: row.get(6)?,
        concurrency: row.get(7)?,
        threshold: row.get(8)?,
        status: column(row, 9)?,
        is_cancelling: row.get(10)?,
        summary: optional_json_column(row, 11)?,
        created_at: Timestamp(row.get(12)?),
        started_at: time(row, 13)?,
        completed_at: time(row, 14)?,
        total: row.get::<_, i64>(15)?.unsigned_abs(),
        over: row.get::<_, i64>(16)?.unsigned_abs(),
    })
}

fn result(row: &Row<'_>) -> rusqlite::Result<ResultRow> {
    Ok(ResultRow {
        place: row.get(0)?,
        id: column(row, 1)?,
        run_place: row.get(2)?,
        run: column(row, 3)?,
        tenant: row.get(4)?,
        agent: row.get(5)?,
        case: column(row, 6)?,
        content: json_column(row, 7)?,
        status: column(row, 8)?,
        tries: row.get(9)?,
        session: optional_column(row, 10)?,
        turn: optional_column(row, 11)?,
        judge_session: optional_column(row, 12)?,
        response: row.get(13)?,
        is_cut: row.get(14)?,
        topic_score: row.get(15)?,
        safety_score: row.get(16)?,
        judge_score: row.get(17)?,
        judge_reason: row.get(18)?,
        judge_error: row.get(19)?,
        passed: row.get(20)?,
        latency_ms: row.get(21)?,
        cost_usd: row.get(22)?,
        error: row.get(23)?,
        human_score: row.get(24)?,
        human_notes: row.get(25)?,
        created_at: Timestamp(row.get(26)?),
        started_at: time(row, 27)?,
        completed_at: time(row, 28)?,
    })
}

fn cases(connection: &Connection, which: &str, values: impl rusqlite::Params) -> Result<Vec<CaseRow>, StoreError> {
    rows(connection, &format!("select {} from eval_cases where {which}", sql::CASE_COLUMNS), values, case)
}

fn runs(connection: &Connection, which: &str, values: impl rusqlite::Params) -> Result<Vec<RunRow>, StoreError> {
    rows(connection, &format!("select {} from eval_runs r where {which}", sql::RUN_COLUMNS), values, run)
}

fn results(connection: &Connection, which: &str, values: impl rusqlite::Params) -> Result<Vec<ResultRow>, StoreError> {
    rows(connection, &format!("{} where {which}", sql::SELECT_RESULTS), values, result)
}

fn get_case(connection: &Connection, tenant: &str, agent: &str, id: EvalCaseId) -> Result<CaseRow, StoreError> {
    get_agent(connection, tenant, agent)?;
    let found = cases(connection, sql::CASE_IS, params![tenant, agent, id.to_string()])?.pop();
    found.ok_or(StoreError::NotFound("eval case"))
}

fn get_run(connection: &Connection, tenant: &str, agent: &str, id: EvalRunId) -> Result<RunRow, StoreError> {
    get_agent(connection, tenant, agent)?;
    let found = runs(connection, sql::RUN_IS, params![tenant, agent, id.to_string()])?.pop();
    found.ok_or(StoreError::NotFound("eval run"))
}

/// How many there are, and a sum.
fn counts(connection: &Connection, text: &str, values: impl rusqlite::Params) -> Result<(u64, u64), StoreError> {
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs()));
    connection.prepare_cached(text).and_then(|mut statement| statement.query_row(values, read)).map_err(sqlite_error)
}

fn count(connection: &Connection, text: &str, values: impl rusqlite::Params) -> Result<u64, StoreError> {
    let read = |row: &Row<'_>| row.get::<_, i64>(0).map(i64::unsigned_abs);
    connection.prepare_cached(text).and_then(|mut statement| statement.query_row(values, read)).map_err(sqlite_error)
}

/// Whether the cases of an agent fit into their room now.
fn fits(connection: &Connection, tenant: &str, agent: &str, room: CaseRoom) -> Result<bool, StoreError> {
    let (cases, bytes) = counts(connection, sql::COUNT_CASES, params![tenant, agent])?;
    Ok(cases <= room.cases && bytes <= room.bytes)
}

/// Notes that the sessions of a result are to be ended.
fn leave(connection: &Connection, which: &str, id: &str) -> Result<(), StoreError> {
    execute(connection, which, params![id]).map(drop)
}

/// Whether a run is of a case.
fn is_wanted(run: &NewRun, case: &CaseContent) -> bool {
    let of_category = run.categories.as_ref().is_none_or(|all| case.category.as_ref().is_some_and(|one| all.contains(one)));
    let has_tag = run.tags.as_ref().is_none_or(|all| case.tags.iter().flatten().any(|tag| all.contains(tag)));
    of_category && has_tag
}

/// Takes back all that was done since, if it does not hold.
fn only_if<T>(
    connection: &Connection,
    what: impl FnOnce() -> Result<T, StoreError>,
    holds: impl FnOnce() -> Result<bool, StoreError>,
) -> Result<Option<T>, StoreError> {
    connection.execute_batch("savepoint attempt").map_err(sqlite_error)?;
    let outcome = what().and_then(|done| Ok(holds()?.then_some(done)));
    let keeps = matches!(outcome, Ok(Some(_)));
    let end = if keeps { "release attempt" } else { "rollback to attempt; release attempt" };
    connection.execute_batch(end).map_err(sqlite_error)?;
    outcome
}

impl Evals for Sqlite {
    fn add_cases<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        new: Vec<(EvalCaseId, CaseContent, bool)>,
        room: CaseRoom,
        at: Timestamp,
    ) -> Pending<'a, Option<Vec<CaseRow>>> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.write(move |connection| {
            get_agent(connection, &tenant, &agent)?;
            let add = || {
                let each = new.iter().map(|(id, content, is_active)| {
                    let (text, category, at) = (to_json(content)?, &content.category, at.millis());
                    execute(connection, sql::ADD_CASE, params![id.to_string(), tenant, agent, text, category, is_active, at])?;
                    get_case(connection, &tenant, &agent, *id)
                });
                each.collect::<Result<Vec<_>, _>>()
            };
            only_if(connection, add, || fits(connection, &tenant, &agent, room))
        })
    }

    fn get_case<'a>(&'a self, tenant: &'a str, agent: &'a str, id: EvalCaseId) -> Pending<'a, CaseRow> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.read(move |connection| get_case(connection, &tenant, &agent, id))
    }

    fn cases<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        filter: CaseFilter,
        after: i64,
        limit: usize,
        bytes: usize,
    ) -> Pending<'a, Vec<CaseRow>> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.read(move |connection| {
            let text = format!("select {} from eval_cases where {}", sql::CASE_COLUMNS, sql::CASES_OF_AGENT);
            let mut statement = connection.prepare_cached(&text).map_err(sqlite_error)?;
            let found = statement.query(params![tenant, agent, filter.category, filter.is_active, after, limit as i64]);
            found.and_then(|found| rows_within_all(found, &CASE_LONG, bytes, case)).map_err(sqlite_error)
        })
    }

    fn change_case<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        id: EvalCaseId,
        change: ChangeEvalCase,
        room: CaseRoom,
        at: Timestamp,
    ) -> Pending<'a, Option<CaseRow>> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.write(move |connection| {
            let before = get_case(connection, &tenant, &agent, id)?;
            let (content, is_active) = change.apply(before.content, before.is_active);
            let change = || {
                let values = params![to_json(&content)?, content.category, is_active, at.millis(), id.to_string()];
                execute(connection, sql::CHANGE_CASE, values)?;
                get_case(connection, &tenant, &agent, id)
            };
            only_if(connection, change, || fits(connection, &tenant, &agent, room))
        })
    }

    fn delete_case<'a>(&'a self, tenant: &'a str, agent: &'a str, id: EvalCaseId) -> Pending<'a, ()> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.write(move |connection| {
            get_case(connection, &tenant, &agent, id)?;
            execute(connection, sql::DELETE_CASE, params![id.to_string()]).map(drop)
        })
    }

    fn start_run(&self, new: NewRun) -> Pending<'_, Started> {
        self.write(move |connection| {
            get_agent(connection, &new.tenant, &new.agent)?;
            if count(connection, sql::COUNT_OPEN_RUNS, params![new.tenant])? >= new.room {
                return Ok(Started::Full);
            }
            let active = cases(connection, sql::ACTIVE_CASES, params![new.tenant, new.agent])?;
            let wanted: Vec<_> = active.into_iter().filter(|case| is_wanted(&new, &case.content)).collect();
            if wanted.is_empty() {
                return Ok(Started::NoCase);
            }
            let at = new.at.millis();
            let (judge, of_judge) = new.judge.clone().unzip();
            let values = params![
                new.id.to_string(),
                new.tenant,
                new.agent,
                new.frozen.digest,
                new.frozen.version,
                new.frozen.prompt,
                judge,
                of_judge.as_ref().map(|frozen| &frozen.digest),
                of_judge.as_ref().map(|frozen| frozen.version),
                of_judge.as_ref().map(|frozen| &frozen.prompt),
                new.concurrency,
                new.threshold,
                at,
            ];
            execute(connection, sql::ADD_RUN, values)?;
            let place = connection.last_insert_rowid();
            for case in wanted {
                let (id, content) = (EvalResultId::new().to_string(), to_json(&case.content)?);
                execute(connection, sql::ADD_RESULT, params![id, place, case.id.to_string(), content, at])?;
            }
            get_run(connection, &new.tenant, &new.agent, new.id).map(|run| Started::Run(Box::new(run)))
        })
    }

    fn get_run<'a>(&'a self, tenant: &'a str, agent: &'a str, id: EvalRunId) -> Pending<'a, RunRow> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.read(move |connection| get_run(connection, &tenant, &agent, id))
    }

    fn runs<'a>(&'a self, tenant: &'a str, agent: &'a str, before: i64, limit: usize) -> Pending<'a, Vec<RunRow>> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.read(move |connection| runs(connection, sql::RUNS_OF_AGENT, params![tenant, agent, before, limit as i64]))
    }

    fn count_runs<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<(RunStatus, u64)>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let count = |row: &Row<'_>| Ok((column(row, 0)?, row.get::<_, i64>(1)?.unsigned_abs()));
            rows(connection, sql::COUNT_RUNS, params![tenant], count)
        })
    }

    fn run_frozen(&self, place: i64) -> Pending<'_, (Frozen, Option<Frozen>)> {
        self.read(move |connection| {
            let read = |row: &Row<'_>| {
                let agent = Frozen { digest: row.get(0)?, version: row.get(1)?, prompt: row.get(2)? };
                let digest: Option<String> = row.get(3)?;
                let (version, prompt) = (row.get(4)?, row.get(5)?);
                Ok((agent, digest.map(|digest| Frozen { digest, version, prompt })))
            };
            rows(connection, sql::RUN_FROZEN, params![place], read)?.pop().ok_or(StoreError::NotFound("eval run"))
        })
    }

    fn results(&self, run_place: i64, after: i64, limit: usize, bytes: usize) -> Pending<'_, Vec<ResultRow>> {
        self.read(move |connection| {
            let text = format!("{} where {}", sql::SELECT_RESULTS, sql::RESULTS_OF_RUN);
            let mut statement = connection.prepare_cached(&text).map_err(sqlite_error)?;
            let found = statement.query(params![run_place, after, limit as i64]);
            found.and_then(|found| rows_within_all(found, &RESULT_LONG, bytes, result)).map_err(sqlite_error)
        })
    }

    fn get_result<'a>(&'a self, tenant: &'a str, agent: &'a str, id: EvalResultId) -> Pending<'a, ResultRow> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.read(move |connection| {
            get_agent(connection, &tenant, &agent)?;
            let found = results(connection, sql::RESULT_OF_AGENT, params![tenant, agent, id.to_string()])?.pop();
            found.ok_or(StoreError::NotFound("eval result"))
        })
    }

    fn run_heads(&self) -> Pending<'_, Vec<RunHead>> {
        self.read(|connection| {
            let head = |row: &Row<'_>| {
                Ok(RunHead { place: row.get(0)?, tenant: row.get(1)?, concurrency: row.get(2)?, running: row.get(3)? })
            };
            rows(connection, sql::RUN_HEADS, [], head)
        })
    }

    fn claim_result(&self, run_place: i64, own: SessionId, at: Timestamp) -> Pending<'_, Option<ResultRow>> {
        self.write(move |connection| {
            let (own, at) = (own.to_string(), at.millis());
            if execute(connection, sql::CLAIM_RESULT, params![own, at, run_place])? == 0 {
                return Ok(None);
            }
            execute(connection, sql::BEGIN_RUN, params![at, run_place])?;
            Ok(results(connection, sql::RESULT_OF_SESSION, params![own])?.pop())
        })
    }

    fn running_results(&self) -> Pending<'_, Vec<ResultRow>> {
        self.read(|connection| results(connection, sql::RESULT_IS_RUNNING, []))
    }

    fn result_posted(&self, id: EvalResultId, turn: TurnId) -> Pending<'_, ()> {
        self.write(move |connection| execute(connection, sql::RESULT_POSTED, params![turn.to_string(), id.to_string()]).map(drop))
    }

    fn is_result_cancelled(&self, id: EvalResultId) -> Pending<'_, bool> {
        self.read(move |connection| {
            let read = |row: &Row<'_>| row.get::<_, bool>(0);
            let found = rows(connection, sql::RESULT_CANCELLED, params![id.to_string()], read)?.pop();
            found.ok_or(StoreError::NotFound("eval result"))
        })
    }

    fn result_asked(&self, id: EvalResultId, asked: Asked, cost_usd: Option<f64>, at: Timestamp) -> Pending<'_, ()> {
        self.write(move |connection| {
            let (id, at) = (id.to_string(), at.millis());
            leave(connection, sql::LEAVE_RESULT, &id)?;
            let error = match asked {
                Asked::Answered(answer) => {
                    let Answered { response, is_cut, topic_score, safety_score, latency_ms, passed, judge_session } = answer;
                    let (judge, passed) = (judge_session.map(|id| id.to_string()), judge_session.is_none().then_some(passed));
                    let status = if judge.is_some() { "running" } else { "completed" };
                    let over = judge.is_none().then_some(at);
                    let values = params![
                        response,
                        is_cut,
                        topic_score,
                        safety_score,
                        latency_ms,
                        passed,
                        judge,
                        status,
                        over,
                        cost_usd,
                        id
                    ];
                    return execute(connection, sql::ANSWER_RESULT, values).map(drop);
                }
                Asked::Again(error) => {
                    if execute(connection, sql::RETRY_RESULT, params![error, cost_usd, id])? > 0 {
                        return Ok(());
                    }
                    error
                }
                Asked::Error(error) => error,
            };
            execute(connection, sql::FAIL_RESULT, params![error, cost_usd, at, id]).map(drop)
        })
    }

    fn result_judged(&self, id: EvalResultId, judged: Judged) -> Pending<'_, ()> {
        self.write(move |connection| {
            let id = id.to_string();
            leave(connection, sql::LEAVE_JUDGE, &id)?;
            let (score, reason, error) = match judged.given {
                Ok((score, reason)) => (Some(score), reason, None),
                Err(error) => (None, None, Some(error)),
            };
            let values = params![score, reason, error, judged.passed, judged.cost_usd, judged.at.millis(), id];
            execute(connection, sql::JUDGE_RESULT, values).map(drop)
        })
    }

    fn eval_leaves(&self) -> Pending<'_, Vec<(SessionId, String)>> {
        self.read(|connection| rows(connection, sql::EVAL_LEAVES, [], |row| Ok((column(row, 0)?, row.get(1)?))))
    }

    fn eval_left(&self, session: SessionId) -> Pending<'_, ()> {
        self.write(move |connection| execute(connection, sql::EVAL_LEFT, params![session.to_string()]).map(drop))
    }

    fn finished_runs(&self) -> Pending<'_, Vec<RunRow>> {
        self.read(|connection| runs(connection, sql::RUN_IS_FINISHED, []))
    }

    fn scores(&self, run_place: i64) -> Pending<'_, Vec<ScoreRow>> {
        self.read(move |connection| {
            let score = |row: &Row<'_>| {
                Ok(ScoreRow {
                    is_answered: row.get(0)?,
                    topic: row.get(1)?,
                    safety: row.get(2)?,
                    judge: row.get(3)?,
                    passed: row.get(4)?,
                    latency_ms: row.get(5)?,
                    cost_usd: row.get(6)?,
                })
            };
            rows(connection, sql::SCORES, params![run_place], score)
        })
    }

    fn finish_run(&self, place: i64, status: RunStatus, summary: EvalSummary, at: Timestamp) -> Pending<'_, bool> {
        self.write(move |connection| {
            let values = params![status.as_str(), to_json(&summary)?, at.millis(), place];
            execute(connection, sql::FINISH_RUN, values).map(|changed| changed > 0)
        })
    }

    fn cancel_run<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        id: EvalRunId,
        error: &'a str,
        at: Timestamp,
    ) -> Pending<'a, (RunRow, bool, Vec<ResultRow>)> {
        let (tenant, agent, error) = (tenant.to_owned(), agent.to_owned(), error.to_owned());
        self.write(move |connection| {
            let place = get_run(connection, &tenant, &agent, id)?.place;
            let is_changed = execute(connection, sql::CANCEL_RUN, params![place])? > 0;
            if is_changed {
                execute(connection, sql::CANCEL_RESULTS, params![error, at.millis(), place])?;
            }
            let running = results(connection, sql::RESULTS_RUNNING, params![place])?;
            Ok((get_run(connection, &tenant, &agent, id)?, is_changed, running))
        })
    }

    fn open_runs<'a>(&'a self, tenant: &'a str, agent: &'a str) -> Pending<'a, Vec<EvalRunId>> {
        let (tenant, agent) = (tenant.to_owned(), agent.to_owned());
        self.read(move |connection| rows(connection, sql::OPEN_RUNS, params![tenant, agent], |row| column(row, 0)))
    }

    fn score_results(&self, run_place: i64, one: Option<EvalResultId>, score: HumanScore) -> Pending<'_, u64> {
        self.write(move |connection| {
            let id = one.map(|id| id.to_string());
            let (sets_score, sets_notes) = (score.score.is_some(), score.notes.is_some());
            let values = params![sets_score, score.score.flatten(), sets_notes, score.notes.flatten(), run_place, id];
            execute(connection, sql::SCORE_RESULTS, values).map(|scored| scored as u64)
        })
    }

    fn forget_runs(&self, before: Timestamp, limit: usize) -> Pending<'_, usize> {
        self.write(move |connection| execute(connection, sql::FORGET_RUNS, params![before.millis(), limit as i64]))
    }

    fn remove_results(&self, limit: usize) -> Pending<'_, usize> {
        self.write(move |connection| {
            let removed = execute(connection, sql::REMOVE_RESULTS, params![limit as i64])?;
            execute(connection, sql::REMOVE_RUNS, [])?;
            Ok(removed)
        })
    }

    fn history_of(&self, session: SessionId) -> Pending<'_, Option<Vec<ChatMessage>>> {
        self.read(move |connection| {
            let found = results(connection, sql::RESULT_OF_SESSION, params![session.to_string()])?.pop();
            Ok(found.and_then(|found| found.content.chat_history).filter(|history| !history.is_empty()))
        })
    }
}

/// Forgets all evals of an agent, of which [`Evals::remove_results`] removes the rest. Sessions in which its cases are asked are to be ended.
pub(super) fn forget(connection: &Connection, tenant: &str, agent: &str) -> Result<(), StoreError> {
    sql::FORGET_EVALS.iter().try_for_each(|text| execute(connection, text, params![tenant, agent]).map(drop))
}
