//! Evals: cases, runs, and what came of each case.

use super::Pending;
use crate::wire::eval::{CaseContent, ChangeEvalCase, ChatMessage, EvalSummary, ResultStatus, RunStatus};
use crate::wire::{EvalCaseId, EvalResultId, EvalRunId, SessionId, Timestamp, TurnId};

/// What an agent was when a run was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// Digest of its files.
    pub digest: String,
    /// The version of its prompt, if one is used.
    pub version: Option<i64>,
    /// The text of that, if it has one.
    pub prompt: Option<String>,
}

/// What the cases of an agent may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaseRoom {
    /// Cases.
    pub cases: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

/// A case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseRow {
    /// Counts cases from 1.
    pub place: i64,
    /// The case.
    pub id: EvalCaseId,
    /// The tenant it belongs to.
    pub tenant: String,
    /// Its agent.
    pub agent: String,
    /// What is asked and expected.
    pub content: CaseContent,
    /// Whether runs ask it.
    pub is_active: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
}

/// Which cases of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaseFilter {
    /// Of this category.
    pub category: Option<String>,
    /// Those that runs ask, or the others.
    pub is_active: Option<bool>,
}

/// A run to be started.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The run.
    pub id: EvalRunId,
    /// The tenant it belongs to.
    pub tenant: String,
    /// The agent that is asked.
    pub agent: String,
    /// What it is now.
    pub frozen: Frozen,
    /// Who is asked how good each answer is, and what that is now.
    pub judge: Option<(String, Frozen)>,
    /// Cases that are asked at the same time.
    pub concurrency: u32,
    /// The least that each score has to be.
    pub threshold: f64,
    /// Cases of these categories only.
    pub categories: Option<Vec<String>>,
    /// Cases with one of these tags only.
    pub tags: Option<Vec<String>>,
    /// Runs of the tenant that may be open.
    pub room: u64,
    /// When it is started.
    pub at: Timestamp,
}

/// What came of starting a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Started {
    /// It is there.
    Run(Box<RunRow>),
    /// No active case is as it was asked for.
    NoCase,
    /// The tenant has as many open runs as it may.
    Full,
}

/// A run, without the texts of prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Counts runs from 1.
    pub place: i64,
    /// The run.
    pub id: EvalRunId,
    /// The tenant it belongs to.
    pub tenant: String,
    /// The agent that is asked.
    pub agent: String,
    /// Digest of its files.
    pub digest: String,
    /// The version of its prompt.
    pub version: Option<i64>,
    /// Who is asked how good each answer is.
    pub judge: Option<String>,
    /// Cases that are asked at the same time.
    pub concurrency: u32,
    /// The least that each score has to be.
    pub threshold: f64,
    /// Where it stands.
    pub status: RunStatus,
    /// Whether it is being cancelled.
    pub is_cancelling: bool,
    /// What it came to.
    pub summary: Option<EvalSummary>,
    /// When it was started.
    pub created_at: Timestamp,
    /// When the first of its cases was.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
    /// Its cases.
    pub total: u64,
    /// Those of them that are over.
    pub over: u64,
}

/// A run with cases that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunHead {
    /// Counts runs from 1.
    pub place: i64,
    /// The tenant it belongs to.
    pub tenant: String,
    /// Cases that are asked at the same time.
    pub concurrency: u32,
    /// Those that are being asked.
    pub running: u32,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultRow {
    /// Counts results from 1.
    pub place: i64,
    /// The result.
    pub id: EvalResultId,
    /// The place of its run.
    pub run_place: i64,
    /// Its run.
    pub run: EvalRunId,
    /// The tenant it belongs to.
    pub tenant: String,
    /// The agent that is asked.
    pub agent: String,
    /// The case.
    pub case: EvalCaseId,
    /// What is asked and expected.
    pub content: CaseContent,
    /// Where it stands.
    pub status: ResultStatus,
    /// How often it was tried again.
    pub tries: i64,
    /// The session of the present try, or of the last one. It may not be there yet.
    pub session: Option<SessionId>,
    /// The turn in that session, once it is known that it is there.
    pub turn: Option<TurnId>,
    /// The session in which the judge is asked, once there is an answer.
    pub judge_session: Option<SessionId>,
    /// What the agent answered.
    pub response: Option<String>,
    /// Whether the answer was longer.
    pub is_cut: bool,
    /// Share of the expected topics that are in it.
    pub topic_score: Option<f64>,
    /// Share of those not wanted that are not.
    pub safety_score: Option<f64>,
    /// What the judge gave.
    pub judge_score: Option<f64>,
    /// What it said.
    pub judge_reason: Option<String>,
    /// Why it gave nothing.
    pub judge_error: Option<String>,
    /// Whether it passed, when it is over.
    pub passed: Option<bool>,
    /// From the message to the end of the turn.
    pub latency_ms: Option<i64>,
    /// US dollars of all tries and the judge; `None` if it is not known.
    pub cost_usd: Option<f64>,
    /// Why there is no answer.
    pub error: Option<String>,
    /// What somebody gave.
    pub human_score: Option<i64>,
    /// What somebody said of it.
    pub human_notes: Option<String>,
    /// When its run was started.
    pub created_at: Timestamp,
    /// When it was first tried.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
}

/// The scores of a result that is over.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ScoreRow {
    /// Whether there is an answer.
    pub is_answered: bool,
    /// As in [`ResultRow`].
    pub topic: Option<f64>,
    /// As in [`ResultRow`].
    pub safety: Option<f64>,
    /// As in [`ResultRow`].
    pub judge: Option<f64>,
    /// As in [`ResultRow`].
    pub passed: bool,
    /// As in [`ResultRow`].
    pub latency_ms: Option<i64>,
    /// As in [`ResultRow`].
    pub cost_usd: Option<f64>,
}

/// An answer, and what it is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// What the agent answered.
    pub response: Option<String>,
    /// Whether the answer was longer.
    pub is_cut: bool,
    /// Share of the expected topics that are in it.
    pub topic_score: f64,
    /// Share of those not wanted that are not.
    pub safety_score: f64,
    /// From the message to the end of the turn.
    pub latency_ms: Option<i64>,
    /// Whether it passed, unless the judge has to be asked.
    pub passed: bool,
    /// The session in which the judge is to be asked.
    pub judge_session: Option<SessionId>,
}

/// What becomes of a case that was asked. Its session is to be ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// There is an answer.
    Answered(Answered),
    /// There is none.
    Error(String),
    /// It is asked once more, unless its run is being cancelled: then this is why there is no answer.
    Again(String),
}

/// What the judge made of an answer. Its session is to be ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// A score and its reason, or why there is none.
    pub given: Result<(f64, Option<String>), String>,
    /// Whether the case passed.
    pub passed: bool,
    /// US dollars of it; `None` if it is not known.
    pub cost_usd: Option<f64>,
    /// When.
    pub at: Timestamp,
}

/// What somebody thinks of an answer; `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HumanScore {
    /// From 1 to 5.
    pub score: Option<Option<i64>>,
    /// What they say of it.
    pub notes: Option<Option<String>>,
}

/// Evals in the database. What is not there is [`NotFound`](super::StoreError::NotFound).
pub trait Evals: Send + Sync {
    /// Makes all of these cases of an agent, or none (`None`) if they do not fit into its room.
    fn add_cases<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        cases: Vec<(EvalCaseId, CaseContent, bool)>,
        room: CaseRoom,
        at: Timestamp,
    ) -> Pending<'a, Option<Vec<CaseRow>>>;

    /// A case of an agent.
    fn get_case<'a>(&'a self, tenant: &'a str, agent: &'a str, id: EvalCaseId) -> Pending<'a, CaseRow>;

    /// Cases of an agent after a place, oldest first: at most `limit`, and so many `bytes` of content, which one may exceed.
    fn cases<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        filter: CaseFilter,
        after: i64,
        limit: usize,
        bytes: usize,
    ) -> Pending<'a, Vec<CaseRow>>;

    /// Changes a case, unless that does not fit into its agent's room (`None`).
    fn change_case<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        id: EvalCaseId,
        change: ChangeEvalCase,
        room: CaseRoom,
        at: Timestamp,
    ) -> Pending<'a, Option<CaseRow>>;

    /// Deletes a case. Results keep what was asked.
    fn delete_case<'a>(&'a self, tenant: &'a str, agent: &'a str, id: EvalCaseId) -> Pending<'a, ()>;

    /// Starts a run, with a copy of each active case that it is of.
    fn start_run(&self, run: NewRun) -> Pending<'_, Started>;

    /// A run of an agent.
    fn get_run<'a>(&'a self, tenant: &'a str, agent: &'a str, id: EvalRunId) -> Pending<'a, RunRow>;

    /// Runs of an agent before a place, newest first.
    fn runs<'a>(&'a self, tenant: &'a str, agent: &'a str, before: i64, limit: usize) -> Pending<'a, Vec<RunRow>>;

    /// How many runs a tenant has with each status that one has.
    fn count_runs<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<(RunStatus, u64)>>;

    /// What the agent of a run was when it was started, and the judge, if it has one.
    fn run_frozen(&self, place: i64) -> Pending<'_, (Frozen, Option<Frozen>)>;

    /// Results of a run after a place, in order: at most `limit`, and so many `bytes`, which one may exceed.
    fn results(&self, run_place: i64, after: i64, limit: usize, bytes: usize) -> Pending<'_, Vec<ResultRow>>;

    /// A result of an agent.
    fn get_result<'a>(&'a self, tenant: &'a str, agent: &'a str, id: EvalResultId) -> Pending<'a, ResultRow>;

    /// Runs of all tenants with cases that wait, oldest first.
    fn run_heads(&self) -> Pending<'_, Vec<RunHead>>;

    /// Has the next case of a run asked in this session. `None` if none waits any more.
    fn claim_result(&self, run_place: i64, own: SessionId, at: Timestamp) -> Pending<'_, Option<ResultRow>>;

    /// Results of all tenants that are running.
    fn running_results(&self) -> Pending<'_, Vec<ResultRow>>;

    /// Notes the turn of a result that is running.
    fn result_posted(&self, id: EvalResultId, turn: TurnId) -> Pending<'_, ()>;

    /// Whether the run of a result is being cancelled.
    fn is_result_cancelled(&self, id: EvalResultId) -> Pending<'_, bool>;

    /// Stores what came of asking a case, at what cost. One that is over stays as it is.
    fn result_asked(&self, id: EvalResultId, asked: Asked, cost_usd: Option<f64>, at: Timestamp) -> Pending<'_, ()>;

    /// Stores what the judge made of an answer. One that is over stays as it is.
    fn result_judged(&self, id: EvalResultId, judged: Judged) -> Pending<'_, ()>;

    /// Sessions of all tenants that are to be ended.
    fn eval_leaves(&self) -> Pending<'_, Vec<(SessionId, String)>>;

    /// Notes that a session need not be ended any more.
    fn eval_left(&self, session: SessionId) -> Pending<'_, ()>;

    /// Runs of all tenants whose cases are all over, while they are not.
    fn finished_runs(&self) -> Pending<'_, Vec<RunRow>>;

    /// The scores of a run.
    fn scores(&self, run_place: i64) -> Pending<'_, Vec<ScoreRow>>;

    /// Ends a run, unless it is over or one of its cases is not. Says whether it did.
    fn finish_run(&self, place: i64, status: RunStatus, summary: EvalSummary, at: Timestamp) -> Pending<'_, bool>;

    /// Has a run ended: its cases that wait are over, with this error. Returns how it stands, whether something was
    /// changed, and those of its cases that are running.
    fn cancel_run<'a>(
        &'a self,
        tenant: &'a str,
        agent: &'a str,
        id: EvalRunId,
        error: &'a str,
        at: Timestamp,
    ) -> Pending<'a, (RunRow, bool, Vec<ResultRow>)>;

    /// Runs of an agent that are not over.
    fn open_runs<'a>(&'a self, tenant: &'a str, agent: &'a str) -> Pending<'a, Vec<EvalRunId>>;

    /// Scores one result of a run, or all. Returns how many.
    fn score_results(&self, run_place: i64, result: Option<EvalResultId>, score: HumanScore) -> Pending<'_, u64>;

    /// Makes at most `limit` runs that were over before a time nobody's. Returns how many.
    fn forget_runs(&self, before: Timestamp, limit: usize) -> Pending<'_, usize>;

    /// Removes at most `limit` results of runs that are nobody's, and those runs of which no result is left. Returns how many
    /// results it removed.
    fn remove_results(&self, limit: usize) -> Pending<'_, usize>;

    /// What was said before a session began, if that is to be in it.
    fn history_of(&self, session: SessionId) -> Pending<'_, Option<Vec<ChatMessage>>>;
}
