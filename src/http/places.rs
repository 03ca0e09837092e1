//! Places for requests that hold memory, threads or sandboxes while they last.
//!
//! All tenants share them. One alone gets three quarters, so that there is room for the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places of one kind.
#[derive(Debug)]
pub struct Places {
    all: u32,
    taken: Mutex<BTreeMap<String, u32>>,
}

/// Places that are taken until this is dropped.
#[derive(Debug)]
pub struct Place {
    of: &'static Places,
    tenant: String,
    count: u32,
}

impl Places {
    /// So many of them, more than one.
    pub const fn new(all: u32) -> Self {
        Self { all, taken: Mutex::new(BTreeMap::new()) }
    }

    /// Takes a place for a tenant, if there is one.
    pub fn take(&'static self, tenant: &str) -> Option<Place> {
        self.take_many(tenant, 1)
    }

    /// Takes so many places for a tenant, all or none.
    pub fn take_many(&'static self, tenant: &str, count: u32) -> Option<Place> {
        let mut taken = self.lock();
        let of_all: u32 = taken.values().sum();
        let own = taken.get(tenant).copied().unwrap_or(0);
        let fits = of_all.checked_add(count)? <= self.all && own + count <= self.all / 4 * 3;
        fits.then(|| {
            taken.insert(tenant.to_owned(), own + count);
            Place { of: self, tenant: tenant.to_owned(), count }
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        // Counts are whole after a panic between two changes.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Places of one request, of which it takes more as it grows. Copies are the same; the places are taken until the
/// last of them is dropped.
#[derive(Debug, Clone)]
pub struct Growing {
    of: &'static Places,
    tenant: Arc<str>,
    taken: Arc<Mutex<Vec<Place>>>,
}

impl Growing {
    /// None yet.
    pub fn new(of: &'static Places, tenant: &str) -> Self {
        Self { of, tenant: tenant.into(), taken: Arc::default() }
    }

    /// Sees to it that there are so many in all. Says whether there are; if not, it has those that it had.
    pub fn hold(&self, count: u32) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let more = count.saturating_sub(taken.iter().map(|place| place.count).sum());
        if more > 0 {
            let Some(place) = self.of.take_many(&self.tenant, more) else { return false };
            taken.push(place);
        }
        true
    }
}

/// How many MiB have room for so many bytes.
pub fn mib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX)
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        if let Some(own) = taken.get_mut(&self.tenant) {
            *own -= self.count;
            if *own == 0 {
                // Names of tenants that have gone do not gather.
                taken.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_grows_has_what_it_took_until_its_last_copy_is_dropped() {
        static PLACES: Places = Places::new(8);
        let growing = Growing::new(&PLACES, "a");
        assert!(growing.hold(0) && growing.hold(2) && growing.hold(1) && growing.hold(5));
        assert!(!growing.hold(7), "more than one tenant gets");
        assert!(PLACES.take_many("a", 2).is_none() && PLACES.take_many("a", 1).is_some(), "it has five");
        let copy = growing.clone();
        drop(growing);
        assert!(copy.hold(6) && PLACES.take("a").is_none(), "the copy goes on with them");
        drop(copy);
        assert!(PLACES.lock().is_empty());
    }

    #[test]
    fn one_tenant_leaves_a_quarter_to_the_others_and_all_of_them_have_no_more_than_there_is() {
        static PLACES: Places = Places::new(8);
        let mut own: Vec<_> = (0..6).map(|_| PLACES.take("a").expect("a place")).collect();
        assert!(PLACES.take("a").is_none(), "the rest is for others");
        let other = PLACES.take_many("b", 2).expect("two places");
        assert!(PLACES.take("c").is_none() && PLACES.take_many("c", u32::MAX).is_none(), "all are taken");
        own.pop();
        assert!(PLACES.take_many("c", 2).is_none(), "all or none");
        let more = PLACES.take("c").expect("the place that was given back");
        drop((own, other, more));
        assert!(PLACES.lock().is_empty(), "nothing is remembered");
        assert!(PLACES.take_many("a", 6).is_some());
    }
}
