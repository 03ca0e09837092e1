//! How much may pass: a rate, and a budget for the life of the sandbox.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Counts what passes, over all connections.
#[derive(Debug)]
pub struct Meter(Mutex<Account>);

#[derive(Debug)]
struct Account {
    /// Bytes in a second.
    rate: u64,
    budget: u64,
    spent: u64,
    /// Bytes that may pass at once. Below 0, what passed is paid off before more does.
    credit: i64,
    at: Instant,
}

/// The budget is used up: so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this sandbox has used up its {0} bytes")]
pub struct Spent(pub u64);

impl Meter {
    /// A meter with these bounds, of which nothing is used.
    pub fn new(rate: u64, budget: u64, now: Instant) -> Self {
        let rate = rate.max(1);
        Self(Mutex::new(Account { rate, budget, spent: 0, credit: whole(rate), at: now }))
    }

    /// Changes the bounds. What was used stays used.
    pub fn set(&self, rate: u64, budget: u64, now: Instant) {
        let mut account = self.lock();
        account.refill(now);
        account.rate = rate.max(1);
        account.budget = budget;
        account.credit = account.credit.min(whole(account.rate));
    }

    /// Whether something may pass at all.
    pub fn check(&self) -> Result<(), Spent> {
        let account = self.lock();
        if account.spent < account.budget { Ok(()) } else { Err(Spent(account.budget)) }
    }

    /// Notes what passed; how long it takes until more may.
    pub fn pass(&self, bytes: usize, now: Instant) -> Duration {
        let mut account = self.lock();
        account.refill(now);
        account.spent = account.spent.saturating_add(bytes as u64);
        account.credit = account.credit.saturating_sub_unsigned(bytes as u64);
        let debt = account.credit.min(0).unsigned_abs();
        Duration::from_secs_f64(debt as f64 / account.rate as f64)
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        // A panic in one of the short sections here leaves whole numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// Credit grows with time, up to what passes in a second.
    fn refill(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.rate as f64;
        if earned >= 1.0 {
            self.credit = self.credit.saturating_add(earned as i64).min(whole(self.rate));
            self.at = now;
        }
    }
}

fn whole(rate: u64) -> i64 {
    i64::try_from(rate).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_held_over_any_pieces() {
        let start = Instant::now();
        let meter = Meter::new(1000, u64::MAX, start);
        assert_eq!(meter.pass(1000, start), Duration::ZERO, "a second's worth at once");
        assert_eq!(meter.pass(500, start), Duration::from_millis(500));
        assert_eq!(meter.pass(500, start), Duration::from_secs(1), "others wait for the same credit");
        let later = start + Duration::from_secs(1);
        assert_eq!(meter.pass(0, later), Duration::ZERO);
        assert_eq!(meter.pass(100, later + Duration::from_secs(3600)), Duration::ZERO);
        assert_eq!(meter.pass(1000, later + Duration::from_secs(3600)), Duration::from_millis(100), "no hoard");
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_ends() {
        let now = Instant::now();
        let meter = Meter::new(1000, 10, now);
        assert_eq!(meter.check(), Ok(()));
        meter.pass(10, now);
        assert_eq!(meter.check(), Err(Spent(10)));
        meter.set(1000, 20, now);
        assert_eq!(meter.check(), Ok(()), "a larger one goes on");
    }
}
