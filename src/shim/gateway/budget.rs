//! The budget of a session: whether another model call may begin.
//!
//! What a call takes is known when it is over, so calls which began within the budget are finished, and
//! the next one is refused. What the model API told of calls that still run counts already, and what they
//! may take beside it lets others wait, see [`reserve`](super::reserve).

use std::collections::BTreeMap;

use crate::link::shim::Budget as Settings;
use crate::wire::price::PriceList;
use crate::wire::quantity::Dollars;
use crate::wire::usage::ModelUsage;

/// Millionths of a millionth, the parts that prices are counted in, in a millionth of a dollar.
const PARTS: u128 = 1_000_000;

/// What all turns of the session together may take.
#[derive(Debug, Default)]
pub struct Budget {
    tokens: Option<u64>,
    cost: Option<Dollars>,
    prices: PriceList,
    /// What turns took before this life of the shim.
    before: BTreeMap<String, ModelUsage>,
}

impl Budget {
    /// Takes what is said now. What turns took before is said once.
    pub fn set(&mut self, settings: &Settings) {
        (self.tokens, self.cost) = (settings.tokens, settings.cost.map(Dollars));
        self.prices.clone_from(&settings.prices);
        if let Some(before) = &settings.before {
            self.before.clone_from(before);
        }
    }

    /// Whether there is one.
    pub const fn is_set(&self) -> bool {
        self.tokens.is_some() || self.cost.is_some()
    }

    /// The model by whose price a call is reserved and estimated that asks for this one: the dearest where it has none, as
    /// a name of the endpoint's own that its answers do not have. Nothing could be called any more after an estimate without a price.
    pub fn priced(&self, model: String) -> String {
        if self.cost.is_none() || self.prices.cost(&model, &ModelUsage::default()).is_some() {
            return model;
        }
        self.prices.0.iter().max_by_key(|(_, price)| price.output).map_or(model, |(name, _)| name.clone())
    }

    /// Why no other call may begin after those of this life of the shim took so much.
    pub fn refusal(&self, now: &BTreeMap<String, ModelUsage>) -> Option<String> {
        let all = || self.before.iter().chain(now);
        if let Some(most) = self.tokens {
            let tokens = all().map(|(_, usage)| usage.tokens()).fold(0, u64::saturating_add);
            if tokens >= most {
                return Some(format!("the session has {most} tokens, and {tokens} are spent"));
            }
        }
        let most = self.cost?;
        let mut parts = 0_u128;
        for (model, usage) in all() {
            match self.prices.cost(model, usage) {
                Some(cost) => parts = parts.saturating_add(cost),
                // It could be any sum.
                None => return Some(format!("the session has {most} US dollars, and there is no price for the model {model:?}")),
            }
        }
        let spent = Dollars(u64::try_from(parts / PARTS).unwrap_or(u64::MAX));
        (parts >= u128::from(most.0) * PARTS).then(|| format!("the session has {most} US dollars, and {spent} are spent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::price::Price;

    fn models(all: &[(&str, u64)]) -> BTreeMap<String, ModelUsage> {
        let usage = |tokens: u64| ModelUsage { calls: 1, input_tokens: tokens, ..ModelUsage::default() };
        all.iter().map(|(name, tokens)| ((*name).to_owned(), usage(*tokens))).collect()
    }

    fn prices() -> PriceList {
        let price = Price { input: 3_000_000, output: 0, cache_read: 0, cache_write: 0, cache_write_1h: 0 };
        PriceList([("m".to_owned(), price)].into())
    }

    #[test]
    fn tokens_of_this_life_and_of_those_before_count_together() {
        let mut budget = Budget::default();
        assert_eq!(budget.refusal(&models(&[("m", u64::MAX)])), None, "without a budget");
        budget.set(&Settings { tokens: Some(100), before: Some(models(&[("m", 60)])), ..Settings::default() });
        assert_eq!(budget.refusal(&models(&[("m", 39)])), None);
        let said = budget.refusal(&models(&[("m", 39), ("n", 1)]));
        assert_eq!(said.as_deref(), Some("the session has 100 tokens, and 100 are spent"));
        budget.set(&Settings { tokens: Some(101), ..Settings::default() });
        assert_eq!(budget.refusal(&models(&[("m", 40)])), None, "raised, and what was before is still known");
        budget.set(&Settings { tokens: Some(0), before: Some(BTreeMap::new()), ..Settings::default() });
        assert!(budget.refusal(&BTreeMap::new()).is_some(), "nothing may be spent");
    }

    #[test]
    fn what_has_no_price_is_estimated_at_the_dearest() {
        let mut budget = Budget::default();
        let dear = Price { output: 9, ..prices().0["m"] };
        let prices = PriceList([("dear".to_owned(), dear)].into_iter().chain(prices().0).collect());
        let priced = |budget: &Budget, model: &str| budget.priced(model.to_owned());
        budget.set(&Settings { tokens: Some(6), prices: prices.clone(), ..Settings::default() });
        assert_eq!(priced(&budget, "alias"), "alias", "where no money counts, no price is needed");
        budget.set(&Settings { cost: Some(6), prices, ..Settings::default() });
        assert_eq!(["alias", "m-1", "dearest"].map(|model| priced(&budget, model)), ["dear", "m-1", "dearest"]);
        budget.set(&Settings { cost: Some(6), ..Settings::default() });
        assert_eq!(priced(&budget, "alias"), "alias", "nothing has one");
    }

    #[test]
    fn money_counts_by_the_prices_and_a_model_without_one_is_not_guessed() {
        let mut budget = Budget::default();
        budget.set(&Settings { cost: Some(6), prices: prices(), ..Settings::default() });
        assert_eq!(budget.refusal(&models(&[("m", 1)])), None);
        let said = budget.refusal(&models(&[("m", 2)]));
        assert_eq!(said.as_deref(), Some("the session has 0.000006 US dollars, and 0.000006 are spent"));
        let said = budget.refusal(&models(&[("x", 1)])).expect("refused");
        assert!(said.contains("no price for the model \"x\""), "{said}");
    }
}
