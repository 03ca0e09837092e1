//! Which run has its next case asked: a pure function.

use std::collections::BTreeMap;

use crate::store::eval::RunHead;

/// When each tenant last had a worker begin: counts cases.
pub type Served = BTreeMap<String, u64>;

/// The run whose next case is asked, if one may be. Of those that do not ask as many as they may already, that of the tenant
/// goes that waits longest, and of one tenant the oldest.
pub fn next<'a>(heads: &'a [RunHead], served: &Served) -> Option<&'a RunHead> {
    let may_go = heads.iter().filter(|head| head.running < head.concurrency);
    may_go.min_by_key(|head| (served.get(&head.tenant).copied().unwrap_or(0), head.place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_take_turns_and_runs_keep_to_their_concurrency() {
        let head = |place, tenant: &str, concurrency, running| RunHead { place, tenant: tenant.to_owned(), concurrency, running };
        let served = |all: &[(&str, u64)]| all.iter().map(|(tenant, at)| ((*tenant).to_owned(), *at)).collect::<Served>();
        for (heads, served, wanted) in [
            (vec![], served(&[]), None),
            (vec![head(1, "a", 2, 0), head(2, "b", 2, 0)], served(&[]), Some(1)),
            (vec![head(1, "a", 2, 0), head(2, "b", 2, 0)], served(&[("a", 1)]), Some(2)),
            (vec![head(1, "a", 2, 0), head(2, "b", 2, 0)], served(&[("a", 1), ("b", 2)]), Some(1)),
            (vec![head(1, "a", 1, 1), head(3, "a", 1, 0)], served(&[("a", 1)]), Some(3)),
            (vec![head(1, "a", 1, 1), head(2, "b", 2, 2)], served(&[]), None),
        ] {
            assert_eq!(next(&heads, &served).map(|head| head.place), wanted, "{heads:?} {served:?}");
        }
    }
}
