//! What of a session's log is counted. An event that a shim delivers again is counted again, which only
//! happens after a connection broke.

use super::*;
use crate::link::shim::ShimEvent;
use crate::wire::egress::{EgressEvent, Verdict};
use crate::wire::usage::Usage;

/// How a turn ended, in a word.
pub(super) const fn outcome(state: EndState) -> &'static str {
    match state {
        EndState::Completed => "completed",
        EndState::Failed => "failed",
        EndState::Interrupted => "interrupted",
        EndState::Cancelled => "cancelled",
    }
}

impl Driver {
    /// Notes the first event of the turn that runs.
    pub(super) fn note_first(&mut self, event: &ShimEvent) {
        if let Some(turn) = self.running.as_mut().filter(|turn| event.turn == Some(turn.id))
            && let Some(taken) = turn.taken.take()
        {
            self.context.metrics.turn_first_event_seconds.observe(taken.elapsed().as_secs_f64());
        }
    }

    /// Counts the end of a turn, with its bill.
    pub(super) fn count_end(&self, state: EndState, usage: Option<&Usage>) {
        let metrics = &self.context.metrics;
        let outcome = outcome(state);
        metrics.turns.with_label_values(&[outcome]).inc();
        metrics.agent_turns.with_label_values(&self.names()).inc();
        if let Some(usage) = usage {
            metrics.turn_seconds.with_label_values(&[outcome]).observe(Duration::from_millis(usage.wall_ms).as_secs_f64());
            self.count_models(&usage.models, usage.cost_usd);
            let calls = &usage.model_calls;
            for (reason, count) in [("rejected", calls.rejected), ("failed", calls.failed), ("refused", calls.refused)] {
                metrics.model_failures.with_label_values(&[reason]).inc_by(count);
            }
            metrics.model_wait_seconds.inc_by(Duration::from_millis(calls.wait_ms).as_secs_f64());
        }
    }

    /// Counts what model calls took. Without a price no cost.
    pub(super) fn count_models(&self, models: &BTreeMap<String, ModelUsage>, cost_usd: Option<f64>) {
        let (metrics, names) = (&self.context.metrics, self.names());
        let mut all = ModelUsage::default();
        models.values().for_each(|usage| all.add(usage));
        metrics.model_calls.inc_by(all.calls);
        for (kind, tokens) in [
            ("input", all.input_tokens),
            ("output", all.output_tokens),
            ("cache_read", all.cache_read_tokens),
            ("cache_write", all.cache_write_tokens),
            ("cache_write_1h", all.cache_write_1h_tokens),
        ] {
            metrics.model_tokens.with_label_values(&[kind]).inc_by(tokens);
        }
        metrics.agent_tokens.with_label_values(&names).inc_by(all.tokens());
        metrics.agent_cost.with_label_values(&names).inc_by(cost_usd.unwrap_or(0.0).max(0.0));
    }

    /// Counts attempts to reach out.
    pub(super) fn count_egress(&self, data: &str) {
        let Ok(EgressEvent { verdict, count, .. }) = serde_json::from_str(data) else { return };
        let verdict = match verdict {
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
        };
        self.context.metrics.egress_attempts.with_label_values(&[verdict]).inc_by(count);
    }

    fn names(&self) -> [String; 2] {
        self.context.metrics.agent(&self.session.tenant, &self.session.agent)
    }
}
