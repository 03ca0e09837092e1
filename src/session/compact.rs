//! Deltas are a preview of a message that comes whole. Some time after their turn they are removed
//! from the log: ids stay as they are, so that where deltas were there is a stretch without events.
//! A cursor inside of it goes on with the first event behind it, and misses nothing but previews.

use std::time::Duration;

use super::Sessions;
use crate::store::now;
use crate::wire::Timestamp;

/// Events that are removed in one transaction: some 20 ms of the database's one writer.
const BATCH: usize = 5000;
/// Shortest and longest pause between two looks.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

impl Sessions {
    /// Removes the deltas of turns that are over for longer than `keep`, for ever.
    pub async fn keep_compact(self, keep: Duration) {
        let pause = (keep / 2).clamp(*PAUSE.start(), *PAUSE.end());
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        loop {
            tokio::time::sleep(pause).await;
            let cutoff = Timestamp(now().millis().saturating_sub(keep));
            loop {
                match self.context.store.compact(cutoff, BATCH).await {
                    Ok((removed, more)) => {
                        if removed > 0 {
                            tracing::debug!(removed, "deltas of finished turns removed");
                        }
                        if !more {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(error = %error, "deltas can not be removed now, trying again later");
                        break;
                    }
                }
            }
        }
    }
}
