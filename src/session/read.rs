//! Reading a session's log as it grows.

use std::sync::Arc;

use prometheus::IntCounter;
use tokio::sync::watch;

use crate::store::{EventFilter, EventRow, Store, StoreError};
use crate::wire::SessionId;

/// Events read at a time, and their bytes, which one event may exceed. Both bound what a slow client
/// holds in memory: a tool result may have 20 MB.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 128 << 10;

/// A place in a session's log.
#[derive(Debug)]
pub struct Cursor {
    store: Arc<dyn Store>,
    session: SessionId,
    after: i64,
    filter: EventFilter,
    /// Newest event id; `None` once no more can come.
    tail: Option<watch::Receiver<i64>>,
    /// Events that were read.
    read: IntCounter,
}

impl Cursor {
    pub(super) fn new(
        store: Arc<dyn Store>,
        session: SessionId,
        after: i64,
        filter: EventFilter,
        tail: Option<watch::Receiver<i64>>,
        read: IntCounter,
    ) -> Self {
        Self { store, session, after, filter: EventFilter { bytes: Some(BATCH_BYTES), ..filter }, tail, read }
    }

    /// Leaves out what comes before this event and the event itself.
    pub fn skip_to(&mut self, event: i64) {
        self.after = self.after.max(event);
    }

    /// Takes the log as it is now for whole: nothing that is wanted can come any more.
    pub fn end_at_tail(&mut self) {
        self.tail = None;
    }

    /// The next events, waiting until there are some; empty when the log has ended.
    ///
    /// # Errors
    ///
    /// The store's; the cursor stays where it was.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the cursor moves only when events are returned.
    pub async fn next(&mut self) -> Result<Vec<EventRow>, StoreError> {
        loop {
            // Taken before reading: what comes after is noticed by `changed` below.
            let newest = self.tail.as_mut().map(|tail| *tail.borrow_and_update());
            let events = self.store.events(self.session, self.after, BATCH, self.filter.clone()).await?;
            if let Some(last) = events.last() {
                self.after = last.id;
                self.read.inc_by(events.len() as u64);
                return Ok(events);
            }
            let Some(tail) = &mut self.tail else { return Ok(events) };
            // None of the events up to here is wanted.
            self.after = self.after.max(newest.unwrap_or(self.after));
            if tail.changed().await.is_err() {
                // The driver has ended; one more look finds what it wrote last.
                self.tail = None;
            }
        }
    }
}
