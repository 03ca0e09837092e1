//! Evals.

use hyper::Method;

use super::{Answer, Client, ClientError, Done, Path, segment};
use crate::wire::eval::{
    ChangeEvalCase, CreateEvalCase, EvalCaseBody, EvalCaseList, EvalComparisonBody, EvalResultBody, EvalResultList, EvalRunBody,
    EvalRunList, ImportedBody, ScoreEvalResult, ScoreEvalRun, ScoredBody, StartEvalRun,
};
use crate::wire::{EvalCaseId, EvalResultId, EvalRunId};

fn path(agent: &str, rest: impl std::fmt::Display) -> String {
    format!("/api/agents/{}/eval-{rest}", segment(agent))
}

impl Client {
    /// `GET /api/agents/{name}/eval-cases`: all of them, oldest first.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn eval_cases(
        &self,
        agent: &str,
        category: Option<&str>,
        is_active: Option<bool>,
    ) -> Result<Answer<EvalCaseList>, ClientError> {
        self.get(&Path::new(path(agent, "cases")).with("category", category).with("isActive", is_active).0).await
    }

    /// `GET /api/agents/{name}/eval-cases/export`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn export_eval_cases(&self, agent: &str) -> Result<Answer<EvalCaseList>, ClientError> {
        self.get(&path(agent, "cases/export")).await
    }

    /// `POST /api/agents/{name}/eval-cases/import`: `body` is as it was read, so that the daemon says what is wrong with it.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn import_eval_cases(&self, agent: &str, body: &serde_json::Value) -> Result<Answer<ImportedBody>, ClientError> {
        self.send(Method::POST, &path(agent, "cases/import"), body).await
    }

    /// `POST /api/agents/{name}/eval-cases`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn create_eval_case(&self, agent: &str, body: &CreateEvalCase) -> Result<Answer<EvalCaseBody>, ClientError> {
        self.send(Method::POST, &path(agent, "cases"), body).await
    }

    /// `GET /api/agents/{name}/eval-cases/{case}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn eval_case(&self, agent: &str, id: EvalCaseId) -> Result<Answer<EvalCaseBody>, ClientError> {
        self.get(&path(agent, format_args!("cases/{id}"))).await
    }

    /// `PATCH /api/agents/{name}/eval-cases/{case}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn change_eval_case(
        &self,
        agent: &str,
        id: EvalCaseId,
        body: &ChangeEvalCase,
    ) -> Result<Answer<EvalCaseBody>, ClientError> {
        self.send(Method::PATCH, &path(agent, format_args!("cases/{id}")), body).await
    }

    /// `DELETE /api/agents/{name}/eval-cases/{case}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn delete_eval_case(&self, agent: &str, id: EvalCaseId) -> Result<Answer<Done>, ClientError> {
        self.call(Method::DELETE, &path(agent, format_args!("cases/{id}")), None).await
    }

    /// `POST /api/agents/{name}/eval-runs`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn start_eval_run(&self, agent: &str, body: &StartEvalRun) -> Result<Answer<EvalRunBody>, ClientError> {
        self.send(Method::POST, &path(agent, "runs"), body).await
    }

    /// `GET /api/agents/{name}/eval-runs`: newest first.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn eval_runs(&self, agent: &str, limit: Option<u32>) -> Result<Answer<EvalRunList>, ClientError> {
        self.get(&Path::new(path(agent, "runs")).with("limit", limit).0).await
    }

    /// `GET /api/agents/{name}/eval-runs/{run}`: as soon as it is over, or after so many seconds as it is then.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn eval_run(&self, agent: &str, id: EvalRunId, wait: Option<u32>) -> Result<Answer<EvalRunBody>, ClientError> {
        self.get(&Path::new(path(agent, format_args!("runs/{id}"))).with("wait", wait).0).await
    }

    /// `GET /api/agents/{name}/eval-runs/{run}/results`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn eval_results(&self, agent: &str, id: EvalRunId) -> Result<Answer<EvalResultList>, ClientError> {
        self.get(&path(agent, format_args!("runs/{id}/results"))).await
    }

    /// `GET /api/agents/{name}/eval-runs/compare`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn compare_eval_runs(&self, agent: &str, runs: [EvalRunId; 2]) -> Result<Answer<EvalComparisonBody>, ClientError> {
        let [first, second] = runs;
        self.get(&path(agent, format_args!("runs/compare?runA={first}&runB={second}"))).await
    }

    /// `POST /api/agents/{name}/eval-runs/{run}/score`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn score_eval_run(
        &self,
        agent: &str,
        id: EvalRunId,
        body: &ScoreEvalRun,
    ) -> Result<Answer<ScoredBody>, ClientError> {
        self.send(Method::POST, &path(agent, format_args!("runs/{id}/score")), body).await
    }

    /// `PATCH /api/agents/{name}/eval-results/{result}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn score_eval_result(
        &self,
        agent: &str,
        id: EvalResultId,
        body: &ScoreEvalResult,
    ) -> Result<Answer<EvalResultBody>, ClientError> {
        self.send(Method::PATCH, &path(agent, format_args!("results/{id}")), body).await
    }

    /// `POST /api/agents/{name}/eval-runs/{run}/cancel`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn cancel_eval_run(&self, agent: &str, id: EvalRunId) -> Result<Answer<EvalRunBody>, ClientError> {
        self.call(Method::POST, &path(agent, format_args!("runs/{id}/cancel")), None).await
    }
}
