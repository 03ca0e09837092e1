//! Places for requests that hold memory, threads or sandboxes while they last.
//!
//! All tenants share them. One alone gets three quarters, so that there is room for the others.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

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
