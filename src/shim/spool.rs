//! Events that the daemon has not stored yet, in the order of their numbers.
//!
//! Bounded by the bytes it holds: when it is full, its owner stops taking output from the
//! runtime. What must be said nevertheless (that a turn ended) still goes in, so nothing is ever
//! dropped. It lives in memory; events that a daemon left unread for long belong on disk, and
//! this is the place for that.

use std::collections::VecDeque;

use serde_json::value::RawValue;

use crate::link::shim::ShimEvent;
use crate::runtime::Event;

/// Bytes of unacknowledged events beyond which the runtime is not read.
pub const FULL: usize = 32 << 20;
/// What an event takes beside its data, about.
const OVERHEAD: usize = 160;

/// The unacknowledged events. See the module's documentation.
#[derive(Debug, Default)]
pub struct Spool {
    events: VecDeque<ShimEvent>,
    /// Number of the newest event ever; 0 before the first.
    newest: u64,
    bytes: usize,
}

impl Spool {
    /// Numbers an event and keeps it. `at` is the time in milliseconds since 1970.
    pub fn push(&mut self, at: i64, event: Event) {
        self.newest += 1;
        self.bytes += cost(&event.data);
        let Event { turn, kind, data } = event;
        self.events.push_back(ShimEvent { n: self.newest, at, turn, kind, data });
    }

    /// Forgets the events up to this number.
    pub fn ack(&mut self, through: u64) {
        while let Some(event) = self.events.pop_front_if(|event| event.n <= through) {
            self.bytes -= cost(&event.data);
        }
        if self.events.is_empty() {
            // A large turn must not leave its memory behind in an idle shim.
            self.events.shrink_to_fit();
        }
    }

    /// The events after this number, from the oldest.
    pub fn after(&self, n: u64) -> impl Iterator<Item = &ShimEvent> {
        let first = self.events.front().map_or(0, |event| event.n);
        let skip = usize::try_from((n + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.events.iter().skip(skip)
    }

    /// The events to send after number `n`, of about `bytes` together; at least one if there is one.
    pub fn batch(&self, n: u64, bytes: usize) -> Vec<&ShimEvent> {
        let mut room = bytes;
        let mut batch = Vec::new();
        for event in self.after(n) {
            let cost = cost(&event.data);
            if !batch.is_empty() && cost > room {
                break;
            }
            room = room.saturating_sub(cost);
            batch.push(event);
        }
        batch
    }

    /// Whether the runtime is not to be read now.
    pub const fn is_full(&self) -> bool {
        self.bytes >= FULL
    }

    /// Whether all events are acknowledged.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Number of the newest event; 0 before the first.
    pub const fn newest(&self) -> u64 {
        self.newest
    }
}

fn cost(data: &RawValue) -> usize {
    data.get().len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Kind;

    fn event(bytes: usize) -> Event {
        Event::new(None, Kind::Text, &"x".repeat(bytes))
    }

    fn numbers<'a>(events: impl IntoIterator<Item = &'a ShimEvent>) -> Vec<u64> {
        events.into_iter().map(|event| event.n).collect()
    }

    #[test]
    fn events_are_numbered_without_gaps_and_kept_until_acknowledged() {
        let mut spool = Spool::default();
        for _ in 0..5 {
            spool.push(0, event(1));
        }
        assert_eq!(numbers(spool.after(0)), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(spool.after(3)), [4, 5]);
        spool.ack(2);
        assert_eq!(numbers(spool.after(0)), [3, 4, 5]);
        assert_eq!(numbers(spool.after(4)), [5]);
        spool.ack(1);
        spool.ack(99);
        assert!(spool.is_empty());
        assert_eq!(numbers(spool.after(0)), [0; 0]);
        spool.push(0, event(1));
        assert_eq!((numbers(spool.after(5)), spool.newest()), (vec![6], 6));
    }

    #[test]
    fn a_batch_is_bounded_but_never_empty() {
        let mut spool = Spool::default();
        for bytes in [1000, 10, 10, 10] {
            spool.push(0, event(bytes));
        }
        assert_eq!(numbers(spool.batch(0, 100)), [1]);
        assert_eq!(numbers(spool.batch(1, 400)), [2, 3]);
        assert_eq!(numbers(spool.batch(3, 1 << 20)), [4]);
        assert!(spool.batch(4, 100).is_empty());
    }

    #[test]
    fn it_is_full_at_its_bound_and_free_again_when_acknowledged() {
        let mut spool = Spool::default();
        while !spool.is_full() {
            spool.push(0, event(1 << 20));
        }
        assert_eq!(spool.newest(), 32);
        spool.ack(1);
        assert!(!spool.is_full());
        spool.ack(32);
        assert_eq!(spool.bytes, 0);
    }
}
