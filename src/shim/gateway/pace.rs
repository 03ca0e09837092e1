//! How often the model API is called: what is inside shares its limit of requests with all sessions of the host,
//! and calls that fail, or count tokens, cost nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two calls, where more than [`BURST`] come one after the other.
const EVERY: Duration = Duration::from_millis(100);
/// Calls at once. A runtime with many agents beside it has some ten.
const BURST: u32 = 60;
/// How long a call waits for its turn at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pace of all calls of a session.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Waits until another call may go.
    ///
    /// # Errors
    ///
    /// When it may be tried again, if that is later than it waits.
    ///
    /// # Cancel safety
    ///
    /// One that does not wait to the end has had its turn all the same.
    pub async fn keep(&self) -> Result<(), Duration> {
        let wait = self.take(Instant::now())?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// How long a call waits that comes now.
    pub(super) fn take(&self, now: Instant) -> Result<Duration, Duration> {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // When all calls so far would be over, one every so often.
        let even = due.filter(|due| *due > now).unwrap_or(now);
        let wait = (even - now).saturating_sub(EVERY * (BURST - 1));
        if wait > PATIENCE {
            return Err(wait);
        }
        *due = Some(even + EVERY);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_an_even_pace_is_kept() {
        let (pace, start) = (Pace::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(pace.take(start), Ok(Duration::ZERO));
        }
        for n in 1..=20 {
            assert_eq!(pace.take(start), Ok(n * EVERY));
        }
        assert_eq!(pace.take(start), Err(PATIENCE + EVERY), "one that is refused takes no turn");
        assert_eq!(pace.take(start), Err(PATIENCE + EVERY));
        assert_eq!(pace.take(start + EVERY), Ok(PATIENCE));
        let later = start + Duration::from_secs(3600);
        for _ in 0..BURST {
            assert_eq!(pace.take(later), Ok(Duration::ZERO), "what was not used is not more than a burst");
        }
        assert_eq!(pace.take(later), Ok(EVERY));
        let pace = Pace::default();
        for _ in 0..=BURST {
            pace.keep().await.expect("it waits");
        }
        assert_eq!(start.elapsed(), EVERY);
    }
}
