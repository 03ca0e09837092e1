//! Evals: questions that an agent is asked, and what its answers are worth.
//!
//! ```text
//!  http ──▶ Evals ──▶ Store: a run is there, with a copy of each of its cases, before its caller hears of it
//!                       │
//!  run ── heads ──next──┴─ claim ──▶ a worker each: session, turn, scores, the judge's session, its turn ──▶ Store
//! ```
//!
//! One task ([`Evals::run`]) gives cases to few workers of its own, so that neither sessions of people nor the queue wait for
//! them. Which run is next, what an answer is worth and what a judge says are pure functions (`next`, `score`, `judge`).
//!
//! A run asks what was there when it was started: the digest of the agent's files, the version of its prompt, and each case
//! are stored with it. A case counts once, whoever dies, in the way of the queue: its session's id is stored
//! before that session is made, its message has the result's id as its key, and what came of it is stored together with the
//! session that is to be ended.

mod check;
mod judge;
mod next;
mod score;
mod work;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::next::{Served, next};
use crate::fault::{self, Point};
use crate::session::errand::{Wait, patiently};
use crate::session::{SessionError, Sessions};
use crate::store::eval::{CaseRoom, CaseRow, HumanScore, NewRun, ResultRow, RunRow, Started};
use crate::store::{Store, StoreError, now};
use crate::wire::eval::{CaseContent, ChangeEvalCase, CreateEvalCase, RunStatus, ScoreEvalRun, StartEvalRun};
use crate::wire::problem::Detail;
use crate::wire::{EvalCaseId, EvalResultId, EvalRunId, SessionId};

/// What the cases of one agent may take together.
pub const ROOM: CaseRoom = CaseRoom { cases: 1000, bytes: 16 << 20 };
/// The least that each score of a case has to be, where nothing is said.
const THRESHOLD: f64 = 0.5;
/// Categories, and tags, that a run can be of.
const FILTER_MAX: usize = 100;
/// What somebody gives an answer.
const HUMAN_SCORES: std::ops::RangeInclusive<i64> = 1..=5;
/// Longest notes in characters.
const NOTES_MAX: usize = 10_000;
/// Bytes of a text where many are shown at once.
const SHOWN_MAX: usize = 8 << 10;
/// Results that are read at once, and their bytes.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 4 << 20;
/// How long until the database is asked again that could not be.
const PAUSE: Duration = Duration::from_secs(1);
/// Why a case of a run that was cancelled has no answer.
const CANCELLED: &str = "the run was cancelled";

/// What the operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvalRules {
    /// Cases that are asked at the same time.
    pub workers: u32,
    /// Runs of one tenant that may be open.
    pub runs: u32,
}

/// Why a request about evals was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// There is no such agent for this tenant.
    #[error("Agent not found")]
    NoAgent,
    /// It has no such case.
    #[error("Eval case not found")]
    NoCase,
    /// It has no such run.
    #[error("Eval run not found")]
    NoRun,
    /// One of two runs that are to be compared is not there.
    #[error("Eval run {0} not found")]
    NoSide(char),
    /// It has no such result.
    #[error("Eval result not found")]
    NoResult,
    /// The run has no such result.
    #[error("Eval result not found in this run")]
    NotInRun,
    /// It has no such version of its prompt.
    #[error("Agent version {0} not found")]
    NoVersion(i64),
    /// A field asks for what can not be.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Some of the cases of an import are wrong.
    #[error("No case was imported: {}", said(.0))]
    Import(Vec<Detail>),
    /// There would be too much of it.
    #[error("An agent has at most {cases} eval cases, of {mib} MiB together", cases = ROOM.cases, mib = ROOM.bytes >> 20)]
    NoRoom,
    /// As many runs are open as may be.
    #[error("As many eval runs are open as may be: {0}")]
    Full(u32),
    /// A run of nothing says nothing.
    #[error("No active eval case of the agent is of these categories and tags")]
    Nothing,
    /// It is too late.
    #[error("Cannot cancel an eval run with status \"{0}\"")]
    CanNot(RunStatus),
    /// It was not said how an answer is.
    #[error("Provide humanScore and/or humanNotes")]
    NoScore,
    /// The agent can not be asked.
    #[error(transparent)]
    Session(SessionError),
    /// The database failed.
    #[error("the database failed")]
    Store(StoreError),
}

/// The first of them, and how many more there are.
fn said(details: &[Detail]) -> String {
    const SAID: usize = 5;
    let mut said: Vec<_> = details.iter().take(SAID).map(|Detail { field, reason }| format!("{field}: {reason}")).collect();
    if details.len() > SAID {
        said.push(format!("and {} more", details.len() - SAID));
    }
    said.join("; ")
}

impl From<StoreError> for EvalError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound("agent") => Self::NoAgent,
            StoreError::NotFound("eval case") => Self::NoCase,
            StoreError::NotFound("eval run") => Self::NoRun,
            StoreError::NotFound("eval result") => Self::NoResult,
            error => Self::Store(error),
        }
    }
}

impl From<SessionError> for EvalError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Store(error) => error.into(),
            SessionError::NoAgent(_) => Self::NoAgent,
            error => Self::Session(error),
        }
    }
}

/// The evals of all tenants.
#[derive(Debug)]
pub struct Evals {
    store: Arc<dyn Store>,
    sessions: Sessions,
    rules: EvalRules,
    /// There may be something to do.
    wake: Notify,
    /// A run may be over.
    over: watch::Sender<()>,
    /// Cancelled when the daemon stops.
    stop: CancellationToken,
}

fn invalid<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::Invalid { field: field.into(), reason: reason.into() })
}

fn checked(content: CaseContent) -> Result<CaseContent, EvalError> {
    check::check(content).map_err(|(field, reason)| EvalError::Invalid { field, reason })
}

impl Evals {
    /// Goes by these rules until it is told to stop. Nothing is asked before [`Self::run`].
    pub fn new(store: Arc<dyn Store>, sessions: Sessions, rules: EvalRules, stop: CancellationToken) -> Self {
        Self { store, sessions, rules, wake: Notify::new(), over: watch::Sender::new(()), stop }
    }

    /// Makes a case.
    pub async fn create_case(&self, tenant: &str, agent: &str, case: CreateEvalCase) -> Result<CaseRow, EvalError> {
        let (content, is_active) = case.into_parts();
        let mut made = self.add(tenant, agent, vec![(EvalCaseId::new(), checked(content)?, is_active)]).await?;
        made.pop().ok_or(EvalError::NoRoom)
    }

    /// Makes all of these cases, or none. Those that could not even be read say why.
    pub async fn import(
        &self,
        tenant: &str,
        agent: &str,
        cases: Vec<Result<CreateEvalCase, Detail>>,
    ) -> Result<usize, EvalError> {
        let (mut good, mut wrong) = (Vec::new(), Vec::new());
        for (index, case) in cases.into_iter().enumerate() {
            let place =
                |field: String| if field.is_empty() { format!("cases[{index}]") } else { format!("cases[{index}].{field}") };
            let case = case.map_err(|detail| (detail.field, detail.reason));
            let case = case.and_then(|case| {
                let (content, is_active) = case.into_parts();
                Ok((EvalCaseId::new(), check::check(content)?, is_active))
            });
            match case {
                Ok(case) => good.push(case),
                Err((field, reason)) => wrong.push(Detail { field: place(field), reason }),
            }
        }
        if wrong.is_empty() { Ok(self.add(tenant, agent, good).await?.len()) } else { Err(EvalError::Import(wrong)) }
    }

    async fn add(
        &self,
        tenant: &str,
        agent: &str,
        cases: Vec<(EvalCaseId, CaseContent, bool)>,
    ) -> Result<Vec<CaseRow>, EvalError> {
        self.store.add_cases(tenant, agent, cases, ROOM, now()).await?.ok_or(EvalError::NoRoom)
    }

    /// A case.
    pub async fn case(&self, tenant: &str, agent: &str, id: EvalCaseId) -> Result<CaseRow, EvalError> {
        Ok(self.store.get_case(tenant, agent, id).await?)
    }

    /// Changes a case. Runs that have begun ask what it was.
    pub async fn change_case(
        &self,
        tenant: &str,
        agent: &str,
        id: EvalCaseId,
        mut change: ChangeEvalCase,
    ) -> Result<CaseRow, EvalError> {
        // Each field is judged alone, so in a case in which all others are good.
        let blank = CaseContent { question: "?".to_owned(), ..CaseContent::default() };
        let good = checked(change.clone().apply(blank, true).0)?;
        change.category = change.category.map(|_| good.category);
        change.reference_answer = change.reference_answer.map(|_| good.reference_answer);
        self.store.change_case(tenant, agent, id, change, ROOM, now()).await?.ok_or(EvalError::NoRoom)
    }

    /// Deletes a case. Results keep what was asked.
    pub async fn delete_case(&self, tenant: &str, agent: &str, id: EvalCaseId) -> Result<(), EvalError> {
        Ok(self.store.delete_case(tenant, agent, id).await?)
    }

    /// Starts a run.
    pub async fn start(&self, tenant: &str, agent: &str, start: StartEvalRun) -> Result<RunRow, EvalError> {
        let most = self.rules.workers;
        let concurrency = start.concurrency.unwrap_or(most);
        if !(1..=most).contains(&concurrency) {
            return invalid(
                "concurrency",
                format!("has to be from 1 to {most}, as many cases as this host asks at the same time"),
            );
        }
        let threshold = start.pass_threshold.unwrap_or(THRESHOLD);
        if !(0.0..=1.0).contains(&threshold) {
            return invalid("passThreshold", "has to be from 0 to 1");
        }
        for (field, list) in [("categories", &start.categories), ("tags", &start.tags)] {
            let list = list.as_deref().unwrap_or_default();
            if list.len() > FILTER_MAX || list.iter().any(|text| text.chars().count() > check::NAME_MAX) {
                return invalid(field, format!("has to be at most {FILTER_MAX} texts of at most {} characters", check::NAME_MAX));
            }
        }
        let frozen = self.sessions.freeze(tenant, agent, start.version_number).await.map_err(|error| match error {
            SessionError::Store(StoreError::NotFound("version")) => {
                EvalError::NoVersion(start.version_number.unwrap_or_default())
            }
            error => error.into(),
        })?;
        let judge = match start.judge_agent {
            None => None,
            Some(judge) => match self.sessions.freeze(tenant, &judge, None).await {
                Ok(frozen) => Some((judge, frozen)),
                Err(SessionError::NoAgent(_)) => return invalid("judgeAgent", format!("there is no agent {judge:?}")),
                Err(error) => return Err(error.into()),
            },
        };
        // A list of nothing restricts nothing, as clients send one.
        let given = |list: Option<Vec<String>>| list.filter(|list| !list.is_empty());
        let new = NewRun {
            id: EvalRunId::new(),
            tenant: tenant.to_owned(),
            agent: agent.to_owned(),
            frozen,
            judge,
            concurrency,
            threshold,
            categories: given(start.categories),
            tags: given(start.tags),
            room: self.rules.runs.into(),
            at: now(),
        };
        match self.store.start_run(new).await? {
            Started::NoCase => Err(EvalError::Nothing),
            Started::Full => Err(EvalError::Full(self.rules.runs)),
            Started::Run(run) => {
                fault::at(Point::EvalStored);
                self.wake.notify_one();
                Ok(*run)
            }
        }
    }

    /// A run, as soon as it is over, or after `patience`, or when the daemon stops, as it is then.
    pub async fn get(&self, tenant: &str, agent: &str, id: EvalRunId, patience: Duration) -> Result<RunRow, EvalError> {
        let mut wait = Wait::new(&self.over, &self.stop, patience);
        loop {
            let run = self.store.get_run(tenant, agent, id).await?;
            if run.status.is_over() || !wait.goes_on().await {
                return Ok(run);
            }
        }
    }

    /// Cancels a run: cases that wait are not asked, and those that are being asked are interrupted.
    pub async fn cancel(&self, tenant: &str, agent: &str, id: EvalRunId) -> Result<RunRow, EvalError> {
        let (run, is_changed, running) = self.store.cancel_run(tenant, agent, id, CANCELLED, now()).await?;
        if !is_changed {
            return Err(EvalError::CanNot(run.status));
        }
        for result in &running {
            self.interrupt(result).await?;
        }
        self.settle().await?;
        // Where cases are interrupted, it is over when they are, and not with the request, however soon they are.
        if running.is_empty() { Ok(self.store.get_run(tenant, agent, id).await?) } else { Ok(run) }
    }

    /// Cancels all runs of an agent that is to be deleted.
    pub async fn cancel_all(&self, tenant: &str, agent: &str) -> Result<(), EvalError> {
        for id in self.store.open_runs(tenant, agent).await? {
            match self.cancel(tenant, agent, id).await {
                Ok(_) | Err(EvalError::CanNot(_) | EvalError::NoRun | EvalError::NoAgent) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A result, scored by somebody.
    pub async fn score(&self, tenant: &str, agent: &str, id: EvalResultId, score: HumanScore) -> Result<ResultRow, EvalError> {
        let score = checked_score(score)?;
        let result = self.store.get_result(tenant, agent, id).await?;
        self.store.score_results(result.run_place, Some(id), score).await?;
        Ok(self.store.get_result(tenant, agent, id).await?)
    }

    /// One result of a run, or all of them, scored by somebody.
    pub async fn score_run(
        &self,
        tenant: &str,
        agent: &str,
        id: EvalRunId,
        score: ScoreEvalRun,
    ) -> Result<Vec<ResultRow>, EvalError> {
        let run = self.store.get_run(tenant, agent, id).await?;
        let human = checked_score(HumanScore { score: score.human_score, notes: score.human_notes })?;
        if self.store.score_results(run.place, score.result_id, human).await? == 0 {
            return Err(EvalError::NotInRun);
        }
        match score.result_id {
            Some(id) => Ok(vec![self.store.get_result(tenant, agent, id).await?]),
            None => Ok(self.all_results(run.place).await?),
        }
    }

    /// Two runs with all of their results.
    pub async fn compare(
        &self,
        tenant: &str,
        agent: &str,
        runs: [EvalRunId; 2],
    ) -> Result<[(RunRow, Vec<ResultRow>); 2], EvalError> {
        Ok([self.side(tenant, agent, runs[0], 'A').await?, self.side(tenant, agent, runs[1], 'B').await?])
    }

    async fn side(&self, tenant: &str, agent: &str, id: EvalRunId, name: char) -> Result<(RunRow, Vec<ResultRow>), EvalError> {
        match self.store.get_run(tenant, agent, id).await {
            Err(StoreError::NotFound("eval run")) => Err(EvalError::NoSide(name)),
            found => {
                let run = found?;
                let results = self.all_results(run.place).await?;
                Ok((run, results))
            }
        }
    }

    /// All results of a run. Of long texts there is the beginning.
    async fn all_results(&self, run_place: i64) -> Result<Vec<ResultRow>, StoreError> {
        let (mut all, mut after) = (Vec::<ResultRow>::new(), 0);
        loop {
            let batch = self.store.results(run_place, after, BATCH, BATCH_BYTES).await?;
            let Some(last) = batch.last() else { return Ok(all) };
            after = last.place;
            all.extend(batch.into_iter().map(shortened));
        }
    }

    /// Ends the turn of a result that is running, if it has one. Otherwise its worker sees it before it begins one.
    async fn interrupt(&self, result: &ResultRow) -> Result<(), SessionError> {
        let Some(session) = result.judge_session.or(result.session) else { return Ok(()) };
        match self.store.find_turn(session, result.id.to_string()).await? {
            Some(turn) => self.sessions.end_turn(&result.tenant, session, turn.id).await,
            None => Ok(()),
        }
    }

    /// Ends runs whose cases are all over.
    async fn settle(&self) -> Result<(), StoreError> {
        for run in self.store.finished_runs().await? {
            let scores = self.store.scores(run.place).await?;
            let summary = score::summary(&scores);
            let status = score::status(&summary, scores.len(), run.is_cancelling);
            if self.store.finish_run(run.place, status, summary, now()).await? {
                tracing::info!(run = %run.id, agent = run.agent, status = status.as_str(), pass_rate = summary.pass_rate, "eval run is over");
            }
        }
        self.over.send_replace(());
        Ok(())
    }

    /// Asks cases until it is told to stop. What is being asked then, the next daemon goes on with.
    pub async fn run(self: Arc<Self>) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            // Workers end with it, wherever they are: what they are at is stored.
            () = self.process() => {}
        }
    }

    async fn process(self: &Arc<Self>) {
        let mut staff = Staff::default();
        let running = patiently("evals", || self.store.running_results()).await.unwrap_or_default();
        // What is being asked has its worker, who ends its sessions.
        let theirs: BTreeSet<_> = running.iter().filter_map(|result| result.session).collect();
        for (session, tenant) in patiently("evals", || self.store.eval_leaves()).await.unwrap_or_default() {
            if !theirs.contains(&session) {
                let evals = self.clone();
                staff.leavers.spawn(async move { evals.leave(&tenant, session).await });
            }
        }
        for result in running {
            staff.begin(self.clone(), result);
        }
        let _settled = patiently("evals", || Box::pin(self.settle())).await;
        loop {
            let pause = self.fill(&mut staff).await.err().map(|error| {
                tracing::warn!(error = %error, "evals can not be read now, retrying in {} s", PAUSE.as_secs());
                PAUSE
            });
            tokio::select! {
                () = staff.free() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    /// Gives cases to all workers that are free.
    async fn fill(self: &Arc<Self>, staff: &mut Staff) -> Result<(), StoreError> {
        while staff.workers.len() < self.rules.workers as usize {
            let heads = self.store.run_heads().await?;
            staff.forget_all_but(heads.iter().map(|head| head.tenant.as_str()));
            let Some(head) = next(&heads, &staff.served) else { return Ok(()) };
            // Somebody may have cancelled it.
            if let Some(result) = self.store.claim_result(head.place, SessionId::new(), now()).await? {
                fault::at(Point::EvalClaimed);
                tracing::debug!(result = %result.id, run = %result.run, agent = result.agent, "eval case is asked");
                staff.begin(self.clone(), result);
            }
        }
        Ok(())
    }

    /// Ends a session in which somebody was asked.
    async fn leave(&self, tenant: &str, session: SessionId) {
        self.sessions.end_surely(tenant, session).await;
        fault::at(Point::EvalLeft);
        patiently("evals", || self.store.eval_left(session)).await;
    }
}

/// Fewer bytes of what the agent answered, of what it was asked, and of what somebody said of it.
fn shortened(mut result: ResultRow) -> ResultRow {
    if let Some(response) = &mut result.response
        && response.len() > SHOWN_MAX
    {
        response.truncate(response.floor_char_boundary(SHOWN_MAX));
        result.is_cut = true;
    }
    let begin = |text: &mut String| text.truncate(text.floor_char_boundary(SHOWN_MAX));
    begin(&mut result.content.question);
    result.human_notes.iter_mut().for_each(begin);
    result.content = CaseContent { question: result.content.question, ..CaseContent::default() };
    result
}

fn checked_score(score: HumanScore) -> Result<HumanScore, EvalError> {
    if score == HumanScore::default() {
        return Err(EvalError::NoScore);
    }
    if score.score.flatten().is_some_and(|score| !HUMAN_SCORES.contains(&score)) {
        return invalid("humanScore", format!("has to be from {} to {}", HUMAN_SCORES.start(), HUMAN_SCORES.end()));
    }
    if score.notes.as_ref().is_some_and(|notes| notes.as_ref().is_some_and(|notes| notes.chars().count() > NOTES_MAX)) {
        return invalid("humanNotes", format!("has to be at most {NOTES_MAX} characters"));
    }
    Ok(score)
}

/// The workers, and for whom they work. They end with it.
#[derive(Debug, Default)]
struct Staff {
    workers: JoinSet<()>,
    /// Those that end sessions which daemons before this one left.
    leavers: JoinSet<()>,
    tenants: HashMap<tokio::task::Id, String>,
    served: Served,
    count: u64,
}

impl Staff {
    fn begin(&mut self, evals: Arc<Evals>, result: ResultRow) {
        self.count += 1;
        self.served.insert(result.tenant.clone(), self.count);
        let tenant = result.tenant.clone();
        let worker = self.workers.spawn(work::process(evals, result));
        self.tenants.insert(worker.id(), tenant);
    }

    /// Forgets tenants that have nothing to do.
    fn forget_all_but<'a>(&mut self, tenants: impl Iterator<Item = &'a str>) {
        let waiting: BTreeSet<_> = tenants.collect();
        let working: BTreeSet<_> = self.tenants.values().collect();
        self.served.retain(|tenant, _| waiting.contains(tenant.as_str()) || working.contains(tenant));
    }

    /// Waits until a worker is free that was not; for ever if none works.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a worker that is not waited for to the end is the next time.
    async fn free(&mut self) {
        let Some(done) = self.workers.join_next_with_id().await else { return std::future::pending().await };
        let id = done.map_or_else(
            |error| {
                tracing::error!(error = %error, "a worker of evals broke, leaving its case to the next daemon");
                error.id()
            },
            |(id, ())| id,
        );
        self.tenants.remove(&id);
    }
}
