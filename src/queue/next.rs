//! Which item is next: a pure function of what waits and what is being worked at.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::store::queue::Head;

/// Who has workers, and who had one last.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// Items that are being processed, by tenant.
    running: BTreeMap<String, usize>,
    /// Of these, those that name a session.
    given: BTreeMap<String, usize>,
    /// When each tenant was last given a worker: counts items.
    last: BTreeMap<String, u64>,
    count: u64,
}

impl Served {
    /// A tenant is given a worker, for an item that names a session or for one that does not.
    pub fn begin(&mut self, tenant: &str, is_given: bool) {
        self.count += 1;
        self.last.insert(tenant.to_owned(), self.count);
        for counts in self.counts(is_given) {
            *counts.entry(tenant.to_owned()).or_default() += 1;
        }
    }

    /// A worker of a tenant is free.
    pub fn end(&mut self, tenant: &str, is_given: bool) {
        for counts in self.counts(is_given) {
            if let Some(count) = counts.get_mut(tenant) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(tenant);
                }
            }
        }
    }

    /// In which an item counts.
    fn counts(&mut self, is_given: bool) -> impl Iterator<Item = &mut BTreeMap<String, usize>> {
        std::iter::once(&mut self.running).chain(is_given.then_some(&mut self.given))
    }

    /// Forgets tenants that have nothing to do.
    pub fn forget_all_but(&mut self, heads: &[Head]) {
        let running = &self.running;
        self.last.retain(|tenant, _| running.contains_key(tenant) || heads.iter().any(|head| head.tenant == *tenant));
    }
}

/// The next of the items that are the next of their tenants; `None` if there is none, or no worker for it.
///
/// The highest priority goes first. Of those with the same priority goes that whose tenant waits longest for
/// a worker, and of one tenant the oldest. The last free worker is not for a tenant that has all others,
/// as long as somebody else waits, whatever the priorities. No tenant has all workers for items that name a session, if there
/// is more than one: each may wait there for as long as a turn takes.
pub fn next<'a>(heads: &'a [Head], served: &Served, workers: usize) -> Option<&'a Head> {
    let free = workers.checked_sub(served.running.values().sum()).filter(|free| *free > 0)?;
    let has_all_others = |head: &Head| free == 1 && workers > 1 && served.running.get(&head.tenant) == Some(&(workers - 1));
    let order = |head: &&Head| {
        let last = served.last.get(&head.tenant).copied().unwrap_or(0);
        (has_all_others(head), Reverse(head.priority), last, head.place)
    };
    let may_go = |head: &&Head| {
        let given = served.given.get(&head.tenant).copied().unwrap_or(0);
        !head.is_given || workers == 1 || given < workers - 1
    };
    heads.iter().filter(may_go).min_by_key(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::QueueId;

    fn head(tenant: &str, priority: i64, place: i64) -> Head {
        Head { tenant: tenant.to_owned(), id: QueueId::new(), priority, place, is_given: false }
    }

    fn given(tenant: &str, priority: i64, place: i64) -> Head {
        Head { is_given: true, ..head(tenant, priority, place) }
    }

    fn served(tenants: &[&str]) -> Served {
        let mut served = Served::default();
        tenants.iter().for_each(|tenant| served.begin(tenant, false));
        served
    }

    #[test]
    fn the_next_item_is_chosen_by_priority_then_turn_then_age() {
        let done = |tenants: &[&str]| {
            let mut all = served(tenants);
            tenants.iter().for_each(|tenant| all.end(tenant, false));
            all
        };
        for (what, heads, served, workers, wanted) in [
            ("nothing waits", vec![], served(&[]), 2, None),
            ("no worker is free", vec![head("a", 0, 1)], served(&["b", "c"]), 2, None),
            ("more are at work than there are workers now", vec![head("a", 0, 1)], served(&["b", "c", "d"]), 2, None),
            ("the oldest", vec![head("b", 0, 2), head("a", 0, 1)], served(&[]), 2, Some("a")),
            ("the highest priority", vec![head("a", 0, 1), head("b", 1, 2)], served(&[]), 2, Some("b")),
            ("whoever waits longest", vec![head("a", 0, 1), head("b", 0, 9)], done(&["b", "a"]), 2, Some("b")),
            ("whoever was never served", vec![head("a", 0, 1), head("c", 0, 9)], done(&["b", "a"]), 1, Some("c")),
            ("priority before turn", vec![head("a", 5, 1), head("b", 0, 2)], done(&["b", "a"]), 1, Some("a")),
            ("not the last worker as well", vec![head("a", 5, 1), head("b", 0, 2)], served(&["a"]), 2, Some("b")),
            ("the last worker if nobody else waits", vec![head("a", 5, 1)], served(&["a"]), 2, Some("a")),
            ("not the last", vec![head("a", 5, 1), head("b", 0, 2)], served(&["a"]), 3, Some("a")),
            ("a worker alone goes by priority", vec![head("a", 5, 1), head("b", 0, 2)], done(&["a"]), 1, Some("a")),
        ] {
            let chosen = next(&heads, &served, workers).map(|head| head.tenant.as_str());
            assert_eq!(chosen, wanted, "{what}");
        }
    }

    #[test]
    fn a_tenant_never_has_all_workers_for_items_that_name_a_session() {
        let mut served = Served::default();
        served.begin("a", true);
        for (what, heads, workers, wanted) in [
            ("not the last worker", vec![given("a", 9, 1)], 2, None),
            ("one of its own session instead", vec![given("a", 9, 1), head("a", 0, 2)], 2, Some(2)),
            ("that of somebody else instead", vec![given("a", 9, 1), given("b", 0, 3)], 2, Some(3)),
            ("there are more workers", vec![given("a", 9, 1), head("a", 0, 2)], 3, Some(1)),
        ] {
            assert_eq!(next(&heads, &served, workers).map(|head| head.place), wanted, "{what}");
        }
        served.end("a", true);
        for workers in [1, 2] {
            assert!(next(&[given("a", 0, 1)], &served, workers).is_some(), "one of {workers}");
        }
    }

    #[test]
    fn tenants_take_turns_whatever_they_have_waiting() {
        let (mut served, mut order) = (Served::default(), String::new());
        for place in 0..6 {
            let heads = [head("a", 0, place), head("b", 0, 100 + place), head("c", 0, 200 + place)];
            let tenant = next(&heads, &served, 1).expect("one is next").tenant.clone();
            served.begin(&tenant, false);
            served.end(&tenant, false);
            order += &tenant;
        }
        assert_eq!(order, "abcabc");
        served.forget_all_but(&[head("a", 0, 1)]);
        assert_eq!(served.last.keys().collect::<Vec<_>>(), ["a"]);
    }
}
