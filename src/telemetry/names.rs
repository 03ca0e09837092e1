//! Names of tenants and agents as values of labels, within bounds.
//!
//! Whoever deploys can make names without end, and each is a series for ever. So the first that are
//! counted keep their names for the daemon's life, and all others are [`OTHER`] together. An agent's
//! name is one within its tenant; beyond the bound of agents the tenant is still told, so that the sum
//! of a tenant's series is the tenant's.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// What is told of those without a label of their own, also of one that is called so.
pub const OTHER: &str = "other";

/// Who has a label.
#[derive(Debug)]
pub struct Names {
    agents_max: usize,
    tenants_max: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    tenants: HashSet<String>,
    agents: HashSet<[String; 2]>,
}

/// Whether it has a place, or gets one.
fn has_place<T: Eq + std::hash::Hash>(all: &mut HashSet<T>, max: usize, one: T) -> bool {
    all.contains(&one) || (all.len() < max && all.insert(one))
}

impl Names {
    /// At most so many of each.
    pub fn new(agents_max: u32, tenants_max: u32) -> Self {
        Self { agents_max: agents_max as usize, tenants_max: tenants_max as usize, known: Mutex::default() }
    }

    /// The values of the labels `tenant` and `agent`.
    pub fn labels(&self, tenant: &str, agent: &str) -> [String; 2] {
        // A set is whole after a panic between two of its operations.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if tenant == OTHER || !has_place(&mut known.tenants, self.tenants_max, tenant.to_owned()) {
            return [OTHER, OTHER].map(str::to_owned);
        }
        let names = [tenant, agent].map(str::to_owned);
        let is_named = agent != OTHER && has_place(&mut known.agents, self.agents_max, names.clone());
        if is_named { names } else { [tenant, OTHER].map(str::to_owned) }
    }
}

/// As many as the configuration has by default.
impl Default for Names {
    fn default() -> Self {
        Self::new(50, 50)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_keep_their_names_and_the_rest_are_counted_together() {
        let names = Names::new(2, 2);
        let of = |tenant: &str, agent: &str| names.labels(tenant, agent).join("/");
        for _ in 0..2 {
            assert_eq!(of("a", "x"), "a/x");
            assert_eq!(of("b", "x"), "b/x", "another agent than that of a");
            assert_eq!(of("a", "y"), "a/other");
            assert_eq!(of("c", "x"), "other/other");
            assert_eq!(of(OTHER, "x"), "other/other");
        }
        assert_eq!(Names::new(0, 1).labels("a", "x").join("/"), "a/other");
        assert_eq!(Names::new(1, 0).labels("a", "x").join("/"), "other/other");
    }
}
