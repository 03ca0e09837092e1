//! What a turn took: of the host, and of the model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The bill of a turn. What this host can not measure is `null`, never a guess.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Milliseconds from the turn's being given to the runtime to its end.
    pub wall_ms: u64,
    /// Milliseconds of processor time of all processes of the sandbox, its shim included.
    pub cpu_ms: Option<u64>,
    /// Most memory that the sandbox held during the turn, with its page cache, in bytes. The
    /// kernel keeps this figure for the sandbox's whole life: where a turn did not exceed it, this
    /// is the largest of what was looked up at the turn's start, at its end, and when the runtime
    /// put something out, at most every 100 ms.
    pub memory_peak_bytes: Option<u64>,
    /// Bytes that the sandbox read from block devices.
    pub io_read_bytes: Option<u64>,
    /// Bytes that the sandbox wrote to block devices.
    pub io_write_bytes: Option<u64>,
    /// Tools that the runtime was to run; not those that the model API runs itself.
    pub tool_calls: u64,
    /// What the model gateway counted, by the model's name. A call belongs to the turn that runs
    /// when it is finished, or to the next one if none runs; one that a turn's interruption or
    /// failure cut off belongs to that turn, with what was told of it. What was counted behind the last
    /// turn of a sandbox is added to the last turn of the session when the sandbox ends.
    pub models: BTreeMap<String, ModelUsage>,
    /// What became of calls of the model whose answers began since the turn before, or before the end of this one.
    #[serde(default)]
    pub model_calls: ModelCalls,
    /// All of it in US dollars by the price table; `null` if it has no price for one of the models.
    pub cost_usd: Option<f64>,
}

/// Data of the [`Kind::Lifecycle`](super::event::Kind::Lifecycle) event of a sandbox that ends, in which
/// models were called that are on the bill of no turn.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Leftover {
    /// What they took.
    Usage {
        /// By the model's name.
        models: BTreeMap<String, ModelUsage>,
        /// All of it in US dollars, as in [`Usage`]. A shim says nothing of it.
        #[serde(default, rename = "costUsd")]
        cost_usd: Option<f64>,
    },
}

impl Usage {
    /// Adds calls that are on no bill.
    pub fn add(&mut self, leftover: Leftover) {
        let Leftover::Usage { models, cost_usd } = leftover;
        self.cost_usd = if self.models.is_empty() { cost_usd } else { self.cost_usd.zip(cost_usd).map(|(a, b)| a + b) };
        for (model, usage) in models {
            self.models.entry(model).or_default().add(&usage);
        }
    }
}

/// What became of calls of the model, as the gateway saw them. One whose caller went away before its answer is in no count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ModelCalls {
    /// Calls that were answered, also such as broke off then.
    pub answered: u64,
    /// Calls that the endpoint found fault with (4xx).
    pub rejected: u64,
    /// Calls that the endpoint failed at (5xx), or that could not reach it, after all that was tried.
    pub failed: u64,
    /// Calls that the gateway refused: the budget was spent, there was no key, it was too large or can not be read, it
    /// asked for what the egress policy does not allow, or there were too many of them.
    pub refused: u64,
    /// Milliseconds from all of these calls to the heads of their answers, with the time in which they waited to be
    /// tried again.
    pub wait_ms: u64,
}

/// Calls of one model, as its answers counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ModelUsage {
    /// Calls that were answered.
    pub calls: u64,
    /// Tokens read, without those of the cache.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Tokens read from the cache.
    pub cache_read_tokens: u64,
    /// Tokens written to the cache for five minutes.
    pub cache_write_tokens: u64,
    /// Tokens written to the cache for an hour.
    pub cache_write_1h_tokens: u64,
}

/// What all turns of a session took of the model so far, those that run left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Spent {
    /// Tokens of every kind.
    pub tokens: u64,
    /// US dollars by the price table; `null` if it has no price for one of the models.
    pub cost_usd: Option<f64>,
}

impl ModelUsage {
    /// Tokens of every kind.
    pub const fn tokens(&self) -> u64 {
        let read = self.input_tokens.saturating_add(self.cache_read_tokens);
        let cached = self.cache_write_tokens.saturating_add(self.cache_write_1h_tokens);
        read.saturating_add(cached).saturating_add(self.output_tokens)
    }

    /// Adds what other calls took.
    pub const fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cache_read_tokens = self.cache_read_tokens.saturating_add(other.cache_read_tokens);
        self.cache_write_tokens = self.cache_write_tokens.saturating_add(other.cache_write_tokens);
        self.cache_write_1h_tokens = self.cache_write_1h_tokens.saturating_add(other.cache_write_1h_tokens);
    }
}
