//! `[prices]`: what model calls cost.
//!
//! The defaults are `packaging/prices.toml`, in the same form as in a configuration file, and
//! compiled in: a daemon always has the table that it was tested with.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::fragment::{Fragment, KEYS};
use super::text::{Table, parse};
use crate::wire::price::{self, PriceList};
use crate::wire::usage::{ModelUsage, Usage};

const DEFAULTS: &str = include_str!("../../packaging/prices.toml");
/// Dollars for a million tokens that a price may be at most. Above it is a typing error.
const DOLLARS_MAX: f64 = 100_000.0;
/// The parts of a dollar that prices are counted in. A price for a million tokens, in them, is the
/// price of one token in millionths of them.
const PARTS: f64 = 1e6;

/// Prices by how the names of models begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices(PriceList);

/// Prices of one model, for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    input: Dollars,
    output: Dollars,
    cache_read: Dollars,
    cache_write: Dollars,
    cache_write_1h: Dollars,
}

/// US dollars, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Dollars(u64);

impl Prices {
    /// The prices alone.
    pub const fn list(&self) -> &PriceList {
        &self.0
    }

    /// What calls of a model cost in US dollars; `None` if it has no price.
    pub fn cost(&self, model: &str, usage: &ModelUsage) -> Option<f64> {
        self.0.cost(model, usage).map(|parts| parts as f64 / (PARTS * 1e6))
    }

    /// What calls of some models cost in US dollars; `None` if one of them has no price.
    pub fn sum(&self, models: &BTreeMap<String, ModelUsage>) -> Option<f64> {
        // Not `sum`: that of nothing is -0.0.
        models.iter().try_fold(0.0, |total, (model, usage)| Some(total + self.cost(model, usage)?))
    }

    /// What all model calls of a turn cost in US dollars; `None` if one of the models has no price.
    pub fn total(&self, usage: &Usage) -> Option<f64> {
        self.sum(&usage.models)
    }

    /// Adds the prices of a file, over those that are there.
    pub(super) fn override_by(&mut self, table: &Table<BTreeMap<String, Table<Price>>>) {
        self.0.0.extend(table.0.iter().map(|(name, price)| (name.clone(), price.0.into())));
    }
}

impl From<Price> for price::Price {
    fn from(price: Price) -> Self {
        Self {
            input: price.input.0,
            output: price.output.0,
            cache_read: price.cache_read.0,
            cache_write: price.cache_write.0,
            cache_write_1h: price.cache_write_1h.0,
        }
    }
}

impl Default for Prices {
    /// Those of `packaging/prices.toml`, which a test reads.
    fn default() -> Self {
        let mut prices = Self(PriceList::default());
        if let Some(table) = parse::<Fragment>(DEFAULTS, KEYS).ok().and_then(|fragment| fragment.prices) {
            prices.override_by(table.get_ref());
        }
        prices
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl serde::de::Visitor<'_> for Number {
            type Value = Dollars;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "US dollars for a million tokens, a number from 0 to {DOLLARS_MAX}")
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Dollars, E> {
                let refuse = || E::invalid_value(serde::de::Unexpected::Float(number), &self);
                let is_price = (0.0..=DOLLARS_MAX).contains(&number);
                is_price.then(|| Dollars((number * PARTS).round() as u64)).ok_or_else(refuse)
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Dollars, E> {
                self.visit_f64(number as f64)
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(tokens: [u64; 5]) -> ModelUsage {
        let [input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens] = tokens;
        ModelUsage { calls: 1, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens }
    }

    fn prices(text: &str) -> Prices {
        let mut prices = Prices::default();
        let fragment = parse::<Fragment>(text, KEYS).expect(text);
        prices.override_by(fragment.prices.expect("said").get_ref());
        prices
    }

    #[test]
    fn the_table_that_is_compiled_in_reads_and_has_the_usual_proportions() {
        let fragment = parse::<Fragment>(DEFAULTS, KEYS).expect("good");
        let Prices(PriceList(table)) = Prices::default();
        assert_eq!(table.len(), fragment.prices.expect("some").get_ref().0.len());
        for (name, price) in table {
            assert!(price.output >= 4 * price.input, "{name}");
            assert!(price.cache_read * 5 < price.input, "{name}");
            assert!(price.input < price.cache_write && price.cache_write < price.cache_write_1h, "{name}");
            assert_eq!(price.cache_write_1h, 2 * price.input, "{name}");
        }
    }

    #[test]
    fn every_kind_of_token_has_its_price() {
        let prices = Prices::default();
        let cost = |tokens| prices.cost("claude-sonnet-4-5-20250929", &usage(tokens));
        for (tokens, dollars) in [
            ([0; 5], 0.0),
            ([1_000_000, 0, 0, 0, 0], 3.0),
            ([0, 1_000_000, 0, 0, 0], 15.0),
            ([0, 0, 1_000_000, 0, 0], 0.3),
            ([0, 0, 0, 1_000_000, 0], 3.75),
            ([0, 0, 0, 0, 1_000_000], 6.0),
            ([1, 1, 1, 1, 1], 0.000_028_05),
        ] {
            assert_eq!(cost(tokens), Some(dollars), "{tokens:?}");
        }
        assert!(cost([u64::MAX; 5]).is_some_and(f64::is_finite));
    }

    #[test]
    fn the_longest_beginning_of_a_name_counts() {
        let prices = prices(
            "[prices]\n\
             my = { input = 1, output = 1, cache_read = 1, cache_write = 1, cache_write_1h = 1 }\n\
             my-own = { input = 2, output = 1, cache_read = 1, cache_write = 1, cache_write_1h = 1 }\n\
             \"my-own.x\" = { input = 3.5, output = 1, cache_read = 1, cache_write = 1, cache_write_1h = 1 }\n\
             claude-opus-4-1 = { input = 9, output = 1, cache_read = 1, cache_write = 1, cache_write_1h = 1 }",
        );
        for (model, dollars) in [
            ("my", Some(1.0)),
            ("my-ow", Some(1.0)),
            ("my-own", Some(2.0)),
            ("my-own-z", Some(2.0)),
            ("my-own.xy", Some(3.5)),
            ("m", None),
            ("a-my", None),
            ("", None),
            ("claude-opus-4-1-20250805", Some(9.0)),
            ("claude-opus-4-20250514", Some(15.0)),
            ("claude-opus-4-5-20251101", Some(5.0)),
            ("claude-3-5-haiku-20241022", Some(0.8)),
            ("other", None),
        ] {
            assert_eq!(prices.cost(model, &usage([1_000_000, 0, 0, 0, 0])), dollars, "{model}");
        }
    }

    #[test]
    fn a_turn_has_no_price_if_one_of_its_models_has_none() {
        let prices = Prices::default();
        let turn = |models: &[&str]| {
            let models = models.iter().map(|model| ((*model).to_owned(), usage([1_000_000, 0, 0, 0, 0]))).collect();
            prices.total(&Usage { models, ..Usage::default() })
        };
        assert_eq!(turn(&[]).map(f64::to_bits), Some(0), "nothing is not below nothing");
        assert_eq!(turn(&["claude-haiku-4-5", "claude-sonnet-4-5"]), Some(4.0));
        assert_eq!(turn(&["claude-haiku-4-5", "unheard-of"]), None);
    }
}
