//! What model calls cost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::usage::ModelUsage;

/// Prices by how the names of models begin; the longest beginning counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct PriceList(pub BTreeMap<String, Price>);

/// Prices of one model for a million tokens, in millionths of a US dollar: so also the price of one
/// token, in millionths of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens read, without those of the cache.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
    /// Tokens read from the cache.
    pub cache_read: u64,
    /// Tokens written to the cache for five minutes.
    pub cache_write: u64,
    /// Tokens written to the cache for an hour.
    pub cache_write_1h: u64,
}

impl PriceList {
    /// What calls of a model cost, in millionths of millionths of a US dollar; `None` if it has no price.
    pub fn cost(&self, model: &str, usage: &ModelUsage) -> Option<u128> {
        let fitting = self.0.iter().filter(|(name, _)| model.starts_with(name.as_str()));
        let (_, price) = fitting.max_by_key(|(name, _)| name.len())?;
        let parts = [
            (usage.input_tokens, price.input),
            (usage.output_tokens, price.output),
            (usage.cache_read_tokens, price.cache_read),
            (usage.cache_write_tokens, price.cache_write),
            (usage.cache_write_1h_tokens, price.cache_write_1h),
        ];
        Some(parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price)).sum())
    }
}
