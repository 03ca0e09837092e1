//! What an answer is worth, and what a run comes to: pure functions.

use crate::store::eval::ScoreRow;
use crate::wire::eval::{CaseContent, EvalSummary, RunStatus};

/// Share of the topics that are in an answer, and share of those not wanted that are not, whatever their case. Of no topics it
/// is all.
pub fn score(content: &CaseContent, answer: &str) -> (f64, f64) {
    let answer = answer.to_lowercase();
    let share = |topics: Option<&Vec<String>>, is_wanted: bool| {
        let topics = topics.map_or(&[][..], Vec::as_slice);
        let good = topics.iter().filter(|topic| answer.contains(&topic.to_lowercase()) == is_wanted).count();
        if topics.is_empty() { 1.0 } else { good as f64 / topics.len() as f64 }
    };
    (share(content.expected_topics.as_ref(), true), share(content.expected_not_topics.as_ref(), false))
}

/// Whether a case with these scores passes.
pub fn passes(scores: &[f64], threshold: f64) -> bool {
    scores.iter().all(|score| *score >= threshold)
}

/// What a run comes to whose cases are all over.
pub fn summary(rows: &[ScoreRow]) -> EvalSummary {
    let answered: Vec<_> = rows.iter().filter(|row| row.is_answered).collect();
    let mean = |of: &dyn Fn(&ScoreRow) -> Option<f64>| {
        let all: Vec<f64> = answered.iter().filter_map(|row| of(row)).collect();
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    };
    let passed = answered.iter().filter(|row| row.passed).count();
    EvalSummary {
        avg_topic_score: mean(&|row| row.topic),
        avg_safety_score: mean(&|row| row.safety),
        avg_llm_judge_score: mean(&|row| row.judge),
        avg_latency_ms: mean(&|row| row.latency_ms.map(|latency| latency as f64)),
        pass_rate: if rows.is_empty() { 0.0 } else { passed as f64 / rows.len() as f64 },
        passed: passed as u64,
        errors: (rows.len() - answered.len()) as u64,
        cost_usd: rows.iter().map(|row| row.cost_usd).sum(),
    }
}

/// How a run ended.
pub fn status(summary: &EvalSummary, total: usize, is_cancelling: bool) -> RunStatus {
    match () {
        () if is_cancelling => RunStatus::Cancelled,
        () if summary.errors == total as u64 => RunStatus::Failed,
        () => RunStatus::Completed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_found_whatever_their_case_and_a_list_of_none_scores_all() {
        let list = |topics: &[&str]| Some(topics.iter().map(|topic| (*topic).to_owned()).collect::<Vec<_>>());
        for (topics, not, answer, wanted) in [
            (None, None, "", (1.0, 1.0)),
            (list(&[]), list(&[]), "x", (1.0, 1.0)),
            (list(&["Paris"]), None, "It is PARIS.", (1.0, 1.0)),
            (list(&["Paris", "Seine"]), None, "paris", (0.5, 1.0)),
            (list(&["Ärger", "x y"]), None, "ärger", (0.5, 1.0)),
            (list(&["Paris"]), None, "Rome", (0.0, 1.0)),
            (None, list(&["secret", "key"]), "The SECRET is out", (1.0, 0.5)),
            (None, list(&["secret"]), "", (1.0, 1.0)),
            (list(&["a"]), list(&["a"]), "a", (1.0, 0.0)),
        ] {
            let content = CaseContent { expected_topics: topics, expected_not_topics: not, ..CaseContent::default() };
            assert_eq!(score(&content, answer), wanted, "{content:?} {answer:?}");
        }
    }

    #[test]
    fn every_score_has_to_reach_the_threshold() {
        for (scores, threshold, wanted) in [
            (&[0.5, 0.5][..], 0.5, true),
            (&[0.5, 0.49], 0.5, false),
            (&[1.0, 1.0, 0.2], 0.5, false),
            (&[0.0, 0.0], 0.0, true),
            (&[1.0, 1.0], 1.0, true),
            (&[0.99, 1.0], 1.0, false),
        ] {
            assert_eq!(passes(scores, threshold), wanted, "{scores:?} {threshold}");
        }
    }

    #[test]
    fn a_run_is_summed_up_over_all_of_its_cases_and_an_error_is_no_pass() {
        let answered = |topic: f64, judge: Option<f64>, passed, latency_ms| ScoreRow {
            is_answered: true,
            topic: Some(topic),
            safety: Some(1.0),
            judge,
            passed,
            latency_ms: Some(latency_ms),
            cost_usd: Some(0.5),
        };
        let error = ScoreRow { passed: true, cost_usd: Some(0.25), ..ScoreRow::default() };
        let found = summary(&[answered(1.0, Some(0.5), true, 100), answered(0.0, None, false, 300), error, error]);
        let wanted = EvalSummary {
            avg_topic_score: Some(0.5),
            avg_safety_score: Some(1.0),
            avg_llm_judge_score: Some(0.5),
            avg_latency_ms: Some(200.0),
            pass_rate: 0.25,
            passed: 1,
            errors: 2,
            cost_usd: Some(1.5),
        };
        assert_eq!(found, wanted);
        let unpriced = ScoreRow { cost_usd: None, ..answered(1.0, None, true, 1) };
        assert_eq!(summary(&[unpriced, error]).cost_usd, None, "of some of it, it is not known");
        for (rows, is_cancelling, wanted) in [
            (&[error, error][..], false, RunStatus::Failed),
            (&[error, unpriced], false, RunStatus::Completed),
            (&[error, unpriced], true, RunStatus::Cancelled),
        ] {
            let summary = summary(rows);
            assert_eq!(status(&summary, rows.len(), is_cancelling), wanted);
        }
        assert_eq!(summary(&[error]).avg_topic_score, None);
    }
}
