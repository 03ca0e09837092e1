//! A worker: takes one case of a run from where it stands to its end.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{CANCELLED, Evals, judge, score};
use crate::fault::{self, Point};
use crate::session::SessionError;
use crate::session::errand::{self, Answer, Verdict, cut, patiently};
use crate::store::eval::{Answered, Asked, Frozen, Judged, ResultRow, RunRow};
use crate::store::{Pending, StoreError, TurnKey, TurnRow, now};
use crate::wire::SessionId;
use crate::wire::eval::ResultStatus;

/// How long until a case is looked at again of whose turn nothing could be learnt.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a case is tried again after a failure that may pass.
const RETRIES: i64 = 1;

/// A message that is taken to its end in a session of its own.
struct Errand<'a> {
    result: &'a ResultRow,
    session: SessionId,
    agent: &'a str,
    frozen: &'a Frozen,
    text: &'a str,
}

/// Who is asked.
enum Who<'a> {
    /// The agent of the run.
    Agent,
    /// Its judge.
    Judge { run: &'a RunRow, session: SessionId, text: &'a str },
}

/// What came of one.
struct Done {
    verdict: Verdict,
    turn: Option<TurnRow>,
    answer: Answer,
}

impl From<Verdict> for Done {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, turn: None, answer: Answer::default() }
    }
}

impl Done {
    /// US dollars. A try whose turn did not begin cost nothing.
    fn cost_usd(&self) -> Option<f64> {
        let begun = self.turn.as_ref().filter(|turn| turn.started_at.is_some());
        begun.map_or(Some(0.0), |turn| turn.usage.as_ref().and_then(|usage| usage.cost_usd))
    }

    /// From the message to the end of the turn.
    fn latency_ms(&self) -> Option<i64> {
        let turn = self.turn.as_ref()?;
        Some(turn.ended_at?.millis().saturating_sub(turn.created_at.millis()).max(0))
    }
}

/// Takes a case to the end of its present try, has its answer judged where that is wanted, and ends its sessions.
pub(super) async fn process(evals: Arc<Evals>, result: ResultRow) {
    if result.judge_session.is_none() {
        evals.ask(&result).await;
    }
    if let Some(session) = result.session {
        evals.leave(&result.tenant, session).await;
    }
    // Another worker may be at its next try by now, and it may be gone with its agent.
    let answered = evals.current(&result).await.filter(|now_is| now_is.session == result.session);
    if let Some((answered, session)) = answered.and_then(|answered| answered.judge_session.map(|session| (answered, session))) {
        if answered.status == ResultStatus::Running {
            evals.have_judged(&answered, session).await;
        }
        evals.leave(&result.tenant, session).await;
    }
    patiently("evals", || Box::pin(evals.settle())).await;
    evals.wake.notify_one();
}

impl Evals {
    /// How a result stands now; `None` if there is none any more.
    async fn current(&self, result: &ResultRow) -> Option<ResultRow> {
        find(|| self.store.get_result(&result.tenant, &result.agent, result.id)).await
    }

    /// Asks a case, and stores what came of it.
    async fn ask(&self, result: &ResultRow) {
        let done = self.to_the_end(result, &Who::Agent).await;
        let (cost_usd, at) = (done.cost_usd(), now());
        let asked = match self.current_run(result).await {
            Some(run) => asked(result, &run, &done),
            // It is gone, with all that could be stored of it.
            None => return,
        };
        patiently("evals", || self.store.result_asked(result.id, asked.clone(), cost_usd, at)).await;
        fault::at(Point::EvalAsked);
        self.over.send_replace(());
    }

    /// Has an answer judged, and stores what came of it.
    async fn have_judged(&self, result: &ResultRow, session: SessionId) {
        let Some(run) = self.current_run(result).await else { return };
        let text = judge::message(&result.content, result.response.as_deref().unwrap_or_default(), &result.id.to_string());
        let done = self.to_the_end(result, &Who::Judge { run: &run, session, text: &text }).await;
        let given = match &done.verdict {
            Verdict::Completed => judge::read(done.answer.result.as_deref().unwrap_or_default()),
            Verdict::Cancelled => Err(CANCELLED.to_owned()),
            Verdict::Failed(why) | Verdict::Again(why) => Err(why.clone()),
            Verdict::Unknown => Err("the end of the judge's turn is not known".to_owned()),
        };
        let scores = [result.topic_score, result.safety_score, given.as_ref().ok().map(|(score, _)| *score)];
        // What the judge did not say is not known to be good.
        let passed = scores.iter().all(|score| score.is_some_and(|score| score::passes(&[score], run.threshold)));
        let judged = Judged { given, passed, cost_usd: done.cost_usd(), at: now() };
        patiently("evals", || self.store.result_judged(result.id, judged.clone())).await;
        fault::at(Point::EvalJudged);
        self.over.send_replace(());
    }

    /// The run of a result; `None` if there is none any more.
    async fn current_run(&self, result: &ResultRow) -> Option<RunRow> {
        find(|| self.store.get_run(&result.tenant, &result.agent, result.run)).await
    }

    /// Tries until something is known of the end.
    async fn to_the_end(&self, result: &ResultRow, who: &Who<'_>) -> Done {
        loop {
            let done = self.have_answer(result, who).await.unwrap_or_else(|error| errand::of_error(&error).into());
            if done.verdict != Verdict::Unknown {
                return done;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn have_answer(&self, result: &ResultRow, who: &Who<'_>) -> Result<Done, SessionError> {
        let (frozen, of_judge) = self.store.run_frozen(result.run_place).await?;
        let errand = match who {
            Who::Agent => result.session.map(|session| {
                let (agent, text) = (result.agent.as_str(), result.content.question.as_str());
                Errand { result, session, agent, frozen: &frozen, text }
            }),
            Who::Judge { run, session, text } => of_judge.as_ref().zip(run.judge.as_deref()).map(|(frozen, agent)| Errand {
                result,
                session: *session,
                agent,
                frozen,
                text,
            }),
        };
        match errand {
            Some(errand) => self.carry_out(errand).await,
            None => Err(SessionError::NotFound),
        }
    }

    /// Goes as far with an errand as it goes.
    async fn carry_out(&self, errand: Errand<'_>) -> Result<Done, SessionError> {
        let Errand { result, session, agent, frozen, text } = errand;
        let tenant = result.tenant.as_str();
        let key = TurnKey { key: result.id.to_string(), message: Sha256::digest(text).into() };
        // The daemon before this one may have gone further than it could tell.
        let is_posted = self.store.find_turn(session, key.key.clone()).await?.is_some();
        if !is_posted && self.is_cancelled(result).await? {
            return Ok(Verdict::Cancelled.into());
        }
        if !is_posted {
            match self.sessions.get(tenant, session).await {
                Err(SessionError::NotFound) => {
                    self.sessions.create_frozen(tenant, session, errand::body(agent), frozen.clone()).await?;
                    fault::at(Point::EvalMade);
                }
                found => drop(found?),
            }
        }
        let posted = self.sessions.post(tenant, session, errand::message(text)?, Some(key)).await?;
        fault::at(Point::EvalPosted);
        if result.judge_session.is_none() {
            self.store.result_posted(result.id, posted.turn).await?;
        }
        if self.is_cancelled(result).await? {
            // Whoever cancelled it may not have found the turn.
            self.sessions.end_turn(tenant, session, posted.turn).await?;
        }
        fault::at(Point::EvalJoined);
        let answer = self.sessions.see_through(tenant, session, &posted).await?;
        let turn = self.sessions.turn(tenant, session, posted.turn).await?;
        let is_cancelled = self.is_cancelled(result).await?;
        let verdict = errand::of_turn(turn.state, turn.cause.as_deref(), is_cancelled, answer.rests);
        Ok(Done { verdict, turn: Some(turn), answer })
    }

    /// Whether nobody wants to know any more.
    async fn is_cancelled(&self, result: &ResultRow) -> Result<bool, StoreError> {
        match self.store.is_result_cancelled(result.id).await {
            Err(StoreError::NotFound(_)) => Ok(true),
            found => found,
        }
    }
}

/// What may be gone, however long the database is away.
async fn find<'a, T: Send + 'a>(what: impl Fn() -> Pending<'a, T>) -> Option<T> {
    let find = || -> Pending<'a, Option<T>> {
        let found = what();
        Box::pin(async move {
            match found.await {
                Err(StoreError::NotFound(_)) => Ok(None),
                found => found.map(Some),
            }
        })
    };
    patiently("evals", find).await.flatten()
}

/// What becomes of a case.
fn asked(result: &ResultRow, run: &RunRow, done: &Done) -> Asked {
    match &done.verdict {
        Verdict::Completed => {
            let (topic_score, safety_score) = score::score(&result.content, done.answer.result.as_deref().unwrap_or_default());
            let (response, is_cut) = done.answer.result.clone().map_or((None, false), cut);
            Asked::Answered(Answered {
                response,
                is_cut,
                topic_score,
                safety_score,
                latency_ms: done.latency_ms(),
                passed: score::passes(&[topic_score, safety_score], run.threshold),
                judge_session: run.judge.is_some().then(SessionId::new),
            })
        }
        Verdict::Cancelled => Asked::Error(CANCELLED.to_owned()),
        Verdict::Again(error) if result.tries < RETRIES => Asked::Again(error.clone()),
        Verdict::Failed(error) | Verdict::Again(error) => Asked::Error(error.clone()),
        Verdict::Unknown => Asked::Error("the end of the turn is not known".to_owned()),
    }
}
