//! What was used, for those who pay for it: single events, sums, and how many there are of what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::{SessionId, Timestamp};

/// What a [`UsageEvent`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UsageType {
    /// Tokens that the model read, without those of its cache.
    InputTokens,
    /// Tokens that it wrote.
    OutputTokens,
    /// Tokens that it put into its cache.
    CacheCreationTokens,
    /// Tokens that it read from its cache.
    CacheReadTokens,
    /// Tools that the runtime was to run.
    ToolCall,
    /// Messages that the runtime was given.
    Message,
    /// Seconds of processor time of the sandbox.
    ComputeSeconds,
    /// US dollars by the prices of then.
    CostUsd,
    /// A type that this version does not know.
    #[serde(other)]
    Unknown,
}

impl UsageType {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::CacheCreationTokens => "cache_creation_tokens",
            Self::CacheReadTokens => "cache_read_tokens",
            Self::ToolCall => "tool_call",
            Self::Message => "message",
            Self::ComputeSeconds => "compute_seconds",
            Self::CostUsd => "cost_usd",
            Self::Unknown => "unknown",
        }
    }
}

/// One figure of the bill of a turn. What is nothing has no event.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct UsageEvent {
    /// UUID of the event.
    pub id: String,
    /// The session, which may have been removed since.
    pub session_id: SessionId,
    /// Its agent.
    pub agent_name: String,
    /// What is counted.
    pub event_type: UsageType,
    /// How much of it: a whole number, but for seconds and dollars.
    #[cfg_attr(feature = "daemon", schema(value_type = f64))]
    pub value: Number,
    /// When the turn was over.
    pub created_at: Timestamp,
    /// The tenant it belongs to.
    pub tenant_id: String,
}

/// `{"events": […]}`, newest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct UsageList {
    /// The events.
    pub events: Vec<UsageEvent>,
}

/// Sums of bills.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct UsageStats {
    /// Tokens that models read, without those of their caches.
    pub total_input_tokens: u64,
    /// Tokens that they wrote.
    pub total_output_tokens: u64,
    /// Tokens that they put into their caches.
    pub total_cache_creation_tokens: u64,
    /// Tokens that they read from their caches.
    pub total_cache_read_tokens: u64,
    /// Tools that runtimes were to run.
    pub total_tool_calls: u64,
    /// Messages that runtimes were given.
    pub total_messages: u64,
    /// Seconds of processor time, where it was measured.
    pub total_compute_seconds: f64,
    /// US dollars by the prices of then, without what [`Self::total_unpriced`] counts.
    pub total_cost_usd: f64,
    /// Bills with tokens of a model that had no price.
    pub total_unpriced: u64,
}

/// Sums of bills that have something in common.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct UsageGroup {
    /// Their agent.
    pub agent_name: String,
    /// Their session, where they are grouped by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The sums.
    #[serde(flatten)]
    pub stats: UsageStats,
}

/// `{"stats": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct UsageStatsBody {
    /// All of it.
    pub stats: UsageStats,
    /// The same in groups, those that cost most first, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<UsageGroup>>,
}

/// Answer of `GET /api/analytics`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Analytics {
    /// Agents that there are now.
    pub agents: Total,
    /// Sessions that there are now.
    pub sessions: SessionTally,
    /// What was used in the time that was asked for.
    pub usage: UsageStats,
    /// Runs of evals.
    pub evals: EvalTally,
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Total {
    /// So many.
    pub total: u64,
}

/// How many sessions there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SessionTally {
    /// In all.
    pub total: u64,
    /// With each status that one has.
    pub by_status: BTreeMap<String, u64>,
}

/// How many runs of evals there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EvalTally {
    /// In all.
    pub total_runs: u64,
    /// With each status that one has.
    pub by_status: BTreeMap<String, u64>,
}

/// Answer of `GET /api/internal/runners`: hosts beside this one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RunnerList {
    /// Those that registered with this daemon: none, as it runs all sessions on its own host.
    pub runners: Vec<serde_json::Value>,
    /// How many they are.
    pub count: u64,
    /// Whether sessions run on this host.
    pub has_local: bool,
}
