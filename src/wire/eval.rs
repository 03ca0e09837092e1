//! Evals: questions with what is expected of the answers, runs in which an agent is asked them, and what came of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::webhook::told;
use super::{EvalCaseId, EvalResultId, EvalRunId, SessionId, Timestamp, TurnId};

/// Who said something in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ChatRole {
    /// Whoever talks to the agent.
    User,
    /// The agent.
    Assistant,
}

impl ChatRole {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// Something that was said before the question.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ChatMessage {
    /// By whom.
    pub role: ChatRole,
    /// What.
    pub content: String,
}

/// What an agent is asked in a case, and what is expected of its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct CaseContent {
    /// What the agent is told.
    pub question: String,
    /// Texts that are to be in the answer, in upper or lower case.
    #[serde(default)]
    pub expected_topics: Option<Vec<String>>,
    /// Texts that are not to be in it.
    #[serde(default)]
    pub expected_not_topics: Option<Vec<String>>,
    /// A good answer, which a judge is shown.
    #[serde(default)]
    pub reference_answer: Option<String>,
    /// What kind of question it is; a run can be of some kinds.
    #[serde(default)]
    pub category: Option<String>,
    /// Words about it; a run can be of some words.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// What was said before.
    #[serde(default)]
    pub chat_history: Option<Vec<ChatMessage>>,
}

/// A case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EvalCase {
    /// The case.
    pub id: EvalCaseId,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// Its agent.
    pub agent_name: String,
    /// What is asked and expected.
    #[serde(flatten)]
    pub content: CaseContent,
    /// Whether runs ask it.
    pub is_active: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
}

/// Body of `POST /api/agents/{name}/eval-cases`, and each of those of an import. Unknown fields are ignored, as existing
/// clients send some, and so are those of a case that was exported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct CreateEvalCase {
    /// What the agent is told, 1 to 100 000 characters.
    pub question: String,
    /// Texts that are to be in the answer, in upper or lower case: at most 100 of 1 to 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_topics: Option<Vec<String>>,
    /// Texts that are not to be in it: as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_not_topics: Option<Vec<String>>,
    /// A good answer, which a judge is shown: at most 100 000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_answer: Option<String>,
    /// What kind of question it is, at most 255 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Words about it: at most 50 of 1 to 255 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// What was said before: at most 200 messages of 1 to 100 000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_history: Option<Vec<ChatMessage>>,
    /// Whether runs ask it. Default: yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_active: Option<bool>,
}

impl CreateEvalCase {
    /// What is asked and expected, and whether runs ask it.
    pub fn into_parts(self) -> (CaseContent, bool) {
        let content = CaseContent {
            question: self.question,
            expected_topics: self.expected_topics,
            expected_not_topics: self.expected_not_topics,
            reference_answer: self.reference_answer,
            category: self.category,
            tags: self.tags,
            chat_history: self.chat_history,
        };
        (content, self.is_active.unwrap_or(true))
    }
}

/// Body of `PATCH /api/agents/{name}/eval-cases/{id}`. What is left out stays; `null` takes away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChangeEvalCase {
    /// As in [`CreateEvalCase`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// As in [`CreateEvalCase`].
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub expected_topics: Option<Option<Vec<String>>>,
    /// As in [`CreateEvalCase`].
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub expected_not_topics: Option<Option<Vec<String>>>,
    /// As in [`CreateEvalCase`].
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub reference_answer: Option<Option<String>>,
    /// As in [`CreateEvalCase`].
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub category: Option<Option<String>>,
    /// As in [`CreateEvalCase`].
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub tags: Option<Option<Vec<String>>>,
    /// As in [`CreateEvalCase`].
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub chat_history: Option<Option<Vec<ChatMessage>>>,
    /// Whether runs ask it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_active: Option<bool>,
}

impl ChangeEvalCase {
    /// What a case is after it.
    pub fn apply(self, mut content: CaseContent, is_active: bool) -> (CaseContent, bool) {
        content.question = self.question.unwrap_or(content.question);
        content.expected_topics = self.expected_topics.unwrap_or(content.expected_topics);
        content.expected_not_topics = self.expected_not_topics.unwrap_or(content.expected_not_topics);
        content.reference_answer = self.reference_answer.unwrap_or(content.reference_answer);
        content.category = self.category.unwrap_or(content.category);
        content.tags = self.tags.unwrap_or(content.tags);
        content.chat_history = self.chat_history.unwrap_or(content.chat_history);
        (content, self.is_active.unwrap_or(is_active))
    }
}

/// `{"case": …}`, and its fields beside it: clients of the contract read one or the other.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct EvalCaseBody {
    /// The case.
    pub case: EvalCase,
    /// The same.
    #[serde(flatten)]
    pub fields: EvalCase,
}

impl From<EvalCase> for EvalCaseBody {
    fn from(case: EvalCase) -> Self {
        Self { fields: case.clone(), case }
    }
}

/// `{"cases": […]}`, oldest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct EvalCaseList {
    /// The cases.
    pub cases: Vec<EvalCase>,
}

/// Body of `POST /api/agents/{name}/eval-cases/import`: all of them, or none.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ImportEvalCases {
    /// The cases.
    pub cases: Vec<CreateEvalCase>,
}

/// How many cases were imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ImportedBody {
    /// So many.
    pub imported: u64,
}

/// Body of `POST /api/agents/{name}/eval-runs`. Unknown fields are ignored, as existing clients send some.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct StartEvalRun {
    /// The version of the prompt that is asked. Default: the active one, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<i64>,
    /// Cases of these categories only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<String>>,
    /// Cases with one of these tags only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// An agent that is asked how good each answer is, in a session of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_agent: Option<String>,
    /// Cases that are asked at the same time, as many as the operator allows at most, which is also the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// The least that each score of a case has to be, for the case to pass: 0 to 1. Default: 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_threshold: Option<f64>,
}

macro_rules! statuses {
    ($(#[$doc:meta])* $name:ident, $error:ident, $sentence:literal: $($(#[$about:meta])* $variant:ident $word:literal,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
        #[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$about])* $variant,)*
            /// A status that this version does not know.
            #[serde(other)]
            Unknown,
        }

        impl $name {
            /// Those that there are.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Unknown => "unknown",
                }
            }
        }

        #[doc = concat!("A text that names no [`", stringify!($name), "`].")]
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[error($sentence)]
        pub struct $error;

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                Self::ALL.iter().copied().find(|status| status.as_str() == text).ok_or($error)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

statuses! {
    /// Where a run stands.
    RunStatus, RunStatusError, "has to be pending, running, completed, failed or cancelled":
    /// None of its cases has a worker yet.
    Pending "pending",
    /// Its cases are asked.
    Running "running",
    /// It is over.
    Completed "completed",
    /// It is over, and none of its cases was answered.
    Failed "failed",
    /// Somebody cancelled it.
    Cancelled "cancelled",
}

impl RunStatus {
    /// Whether it can change no more.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

statuses! {
    /// Where a case of a run stands.
    ResultStatus, ResultStatusError, "has to be pending, running, completed or error":
    /// It waits.
    Pending "pending",
    /// The agent is asked, or the judge.
    Running "running",
    /// The agent has answered.
    Completed "completed",
    /// It did not; `error` says why.
    Error "error",
}

impl ResultStatus {
    /// Whether it can change no more.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Error)
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EvalSummary {
    /// Mean of the cases that were answered; `null` if none was.
    pub avg_topic_score: Option<f64>,
    /// As much.
    pub avg_safety_score: Option<f64>,
    /// Mean of what the judge gave; `null` if it gave nothing.
    pub avg_llm_judge_score: Option<f64>,
    /// Mean of the cases that were answered; `null` if none was.
    pub avg_latency_ms: Option<f64>,
    /// Share of all cases that passed, from 0 to 1. One without an answer has not.
    pub pass_rate: f64,
    /// How many passed.
    #[serde(default)]
    pub passed: u64,
    /// How many had no answer.
    #[serde(default)]
    pub errors: u64,
    /// US dollars of all sessions; `null` if it is not known.
    #[serde(default)]
    pub cost_usd: Option<f64>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EvalRun {
    /// The run.
    pub id: EvalRunId,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// The agent that is asked.
    pub agent_name: String,
    /// The version of its prompt that is asked; `null`: that of its files.
    pub version_number: Option<i64>,
    /// Where it stands.
    pub status: RunStatus,
    /// Cases that it has.
    pub total_cases: u64,
    /// Those that are over.
    pub completed_cases: u64,
    /// What it came to, when it is over.
    pub summary: Option<EvalSummary>,
    /// When it was started.
    pub created_at: Timestamp,
    /// When the first of its cases was.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
    /// Digest of the agent's files as they are asked.
    #[serde(default)]
    pub agent_digest: String,
    /// Who is asked how good each answer is.
    #[serde(default)]
    pub judge_agent: Option<String>,
    /// Cases that are asked at the same time.
    #[serde(default)]
    pub concurrency: u32,
    /// The least that each score of a case has to be.
    #[serde(default)]
    pub pass_threshold: f64,
    /// Whether it is being cancelled.
    #[serde(default)]
    pub cancelling: bool,
}

/// `{"run": …}`, and its fields beside it: clients of the contract read one or the other.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct EvalRunBody {
    /// The run.
    pub run: EvalRun,
    /// The same.
    #[serde(flatten)]
    pub fields: EvalRun,
}

impl From<EvalRun> for EvalRunBody {
    fn from(run: EvalRun) -> Self {
        Self { fields: run.clone(), run }
    }
}

/// `{"runs": […]}`, newest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct EvalRunList {
    /// The runs.
    pub runs: Vec<EvalRun>,
}

/// What a case came to in a run.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EvalResult {
    /// The result.
    pub id: EvalResultId,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// Its run.
    pub eval_run_id: EvalRunId,
    /// Its case, which may have been changed or deleted since.
    pub eval_case_id: EvalCaseId,
    /// What the agent answered.
    pub agent_response: Option<String>,
    /// Share of the expected topics that are in the answer, from 0 to 1.
    pub topic_score: Option<f64>,
    /// Share of those not wanted that are not in it.
    pub safety_score: Option<f64>,
    /// What the judge gave, from 0 to 1.
    pub llm_judge_score: Option<f64>,
    /// From the message to the end of the agent's turn.
    pub latency_ms: Option<i64>,
    /// Where it stands.
    pub status: ResultStatus,
    /// Why there is no answer.
    pub error: Option<String>,
    /// What somebody gave, from 1 to 5.
    pub human_score: Option<i64>,
    /// What somebody said of it.
    pub human_notes: Option<String>,
    /// When its run was started.
    pub created_at: Timestamp,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
    /// What the agent was asked.
    #[serde(default)]
    pub question: String,
    /// Whether it passed; `null` as long as it is not over.
    #[serde(default)]
    pub passed: Option<bool>,
    /// Whether the answer was longer than what is kept of it, 1 MiB.
    #[serde(default)]
    pub response_truncated: bool,
    /// What the judge said of it.
    #[serde(default)]
    pub llm_judge_reason: Option<String>,
    /// Why the judge gave nothing, where it was asked.
    #[serde(default)]
    pub llm_judge_error: Option<String>,
    /// The session in which the agent was asked, which may have been removed since.
    #[serde(default)]
    pub session_id: Option<SessionId>,
    /// Its turn.
    #[serde(default)]
    pub turn_id: Option<TurnId>,
    /// The session in which the judge was asked.
    #[serde(default)]
    pub judge_session_id: Option<SessionId>,
    /// US dollars of both; `null` if it is not known.
    #[serde(default)]
    pub cost_usd: Option<f64>,
    /// When the agent was first asked.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
}

/// `{"results": […]}`, in the order of the cases.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct EvalResultList {
    /// The results.
    pub results: Vec<EvalResult>,
}

/// `{"result": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct EvalResultBody {
    /// The result.
    pub result: EvalResult,
}

/// Body of `PATCH /api/agents/{name}/eval-results/{id}`: what somebody thinks of an answer. What is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ScoreEvalResult {
    /// From 1 to 5; `null` takes it away.
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub human_score: Option<Option<i64>>,
    /// At most 10 000 characters; `null` takes them away.
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub human_notes: Option<Option<String>>,
}

/// Body of `POST /api/agents/{name}/eval-runs/{id}/score`: the same for one result of a run, or for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ScoreEvalRun {
    /// The one. Default: all of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_id: Option<EvalResultId>,
    /// From 1 to 5; `null` takes it away.
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub human_score: Option<Option<i64>>,
    /// At most 10 000 characters; `null` takes them away.
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub human_notes: Option<Option<String>>,
}

/// What was scored.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ScoredBody {
    /// How many results.
    pub scored: u64,
    /// They, as they are now.
    pub results: Vec<EvalResult>,
}

/// A case in two runs.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ComparedCase {
    /// The case.
    pub case_id: EvalCaseId,
    /// What was asked, in the second run if it was in both.
    pub question: String,
    /// What it came to in the first.
    pub result_a: Option<EvalResult>,
    /// What it came to in the second.
    pub result_b: Option<EvalResult>,
}

/// Two runs side by side.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EvalComparison {
    /// The first.
    pub run_a: EvalRun,
    /// The second.
    pub run_b: EvalRun,
    /// Every case of either.
    pub results: Vec<ComparedCase>,
}

/// `{"comparison": …}`, and its fields beside it: clients of the contract read one or the other.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct EvalComparisonBody {
    /// The comparison.
    pub comparison: EvalComparison,
    /// The same.
    #[serde(flatten)]
    pub fields: EvalComparison,
}

impl From<EvalComparison> for EvalComparisonBody {
    fn from(comparison: EvalComparison) -> Self {
        Self { fields: comparison.clone(), comparison }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_takes_away_with_null_and_leaves_what_it_does_not_name() {
        let content = CaseContent {
            question: "q".to_owned(),
            category: Some("c".to_owned()),
            tags: Some(vec!["t".to_owned()]),
            ..CaseContent::default()
        };
        let change: ChangeEvalCase =
            serde_json::from_value(json!({"category": null, "referenceAnswer": "r", "isActive": false})).expect("reads");
        let (changed, is_active) = change.apply(content.clone(), true);
        let wanted = CaseContent { category: None, reference_answer: Some("r".to_owned()), ..content };
        assert_eq!((changed, is_active), (wanted, false));
    }

    #[test]
    fn what_is_exported_can_be_imported() {
        let (content, is_active) = (CaseContent { question: "q".to_owned(), ..CaseContent::default() }, false);
        let case = EvalCase {
            id: EvalCaseId::new(),
            tenant_id: "default".to_owned(),
            agent_name: "a".to_owned(),
            content: content.clone(),
            is_active,
            created_at: Timestamp(1),
            updated_at: Timestamp(2),
        };
        let exported = serde_json::to_value(EvalCaseList { cases: vec![case] }).expect("writes");
        let imported: ImportEvalCases = serde_json::from_value(exported).expect("reads");
        assert_eq!(imported.cases[0].clone().into_parts(), (content, is_active));
    }
}
