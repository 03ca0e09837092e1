//! Attempts folded into events: the first of a kind at once, those of the minute after it in one.
//!
//! Pure: time is passed in. What is kept apart is bounded, as names come from inside: beyond
//! [`KEPT_MAX`] kinds in a minute, attempts are counted under the host `*`.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::egress::fetch::Note;
use crate::wire::egress::{EgressEvent, Verdict};

/// How long attempts of one kind are folded.
const WINDOW: Duration = Duration::from_secs(60);
/// Kinds that are kept apart.
const KEPT_MAX: usize = 64;
/// The host of those beyond.
const OTHERS: &str = "*";

type Key = (Verdict, String, Option<u16>);

/// What was told lately.
#[derive(Debug, Default)]
pub struct Fold(HashMap<Key, Window>);

#[derive(Debug)]
struct Window {
    until: Instant,
    /// Since the last event.
    count: u64,
    reason: Option<String>,
}

impl Fold {
    /// Takes an attempt; the event that it makes, if it is the first of its kind.
    pub fn take(&mut self, note: Note, now: Instant) -> Option<EgressEvent> {
        let Note { verdict, host, port, reason } = note;
        let mut key = (verdict, host, port);
        if !self.0.contains_key(&key) && self.0.len() >= KEPT_MAX {
            self.0.retain(|_, window| window.until > now || window.count > 0);
            if self.0.len() >= KEPT_MAX {
                key = (verdict, OTHERS.to_owned(), None);
            }
        }
        match self.0.get_mut(&key) {
            Some(window) if window.until > now || window.count > 0 => {
                window.count += 1;
                window.reason = reason;
                None
            }
            _ => {
                self.0.insert(key.clone(), Window { until: now + WINDOW, count: 0, reason: None });
                Some(event(key, 1, reason))
            }
        }
    }

    /// When [`Self::due`] has something.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().filter(|window| window.count > 0).map(|window| window.until).min()
    }

    /// The events of the minutes that are over.
    pub fn due(&mut self, now: Instant) -> Vec<EgressEvent> {
        self.events(|window| window.until <= now, now)
    }

    /// The events of all that is left.
    pub fn finish(&mut self, now: Instant) -> Vec<EgressEvent> {
        self.events(|_| true, now)
    }

    fn events(&mut self, is_over: impl Fn(&Window) -> bool, now: Instant) -> Vec<EgressEvent> {
        let mut events = Vec::new();
        self.0.retain(|key, window| {
            if !is_over(window) {
                return true;
            }
            if window.count == 0 {
                return false;
            }
            events.push(event(key.clone(), window.count, window.reason.take()));
            *window = Window { until: now + WINDOW, count: 0, reason: None };
            true
        });
        events.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        events
    }
}

fn event((verdict, host, port): Key, count: u64, reason: Option<String>) -> EgressEvent {
    EgressEvent { verdict, host, port, count, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(verdict: Verdict, host: &str) -> Note {
        let reason = (verdict == Verdict::Denied).then(|| format!("not {host}"));
        Note { verdict, host: host.to_owned(), port: Some(443), reason }
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_one_event_for_a_host_and_a_minute_and_none_is_lost() {
        let (mut fold, start) = (Fold::default(), Instant::now());
        let denied = || note(Verdict::Denied, "a");
        let first = fold.take(denied(), start).expect("the first is told at once");
        assert_eq!((first.count, first.reason.as_deref()), (1, Some("not a")));
        assert_eq!(fold.next(), None);
        for _ in 0..9 {
            assert_eq!(fold.take(denied(), start), None);
        }
        assert!(fold.take(note(Verdict::Allowed, "a"), start).is_some(), "another kind");
        assert_eq!(fold.next(), Some(start + WINDOW));
        assert_eq!(fold.due(start + WINDOW - Duration::from_millis(1)), []);
        let due = fold.due(start + WINDOW);
        assert_eq!((due.len(), due[0].count, due[0].verdict), (1, 9, Verdict::Denied));
        // Another minute begins with the event.
        assert_eq!(fold.take(denied(), start + WINDOW), None);
        assert_eq!(fold.due(start + 2 * WINDOW)[0].count, 1);
        assert_eq!(fold.due(start + 3 * WINDOW), []);
        assert_eq!(fold.take(denied(), start + 4 * WINDOW).map(|event| event.count), Some(1), "a quiet minute ends it");
        fold.take(denied(), start + 4 * WINDOW);
        assert_eq!(fold.finish(start + 4 * WINDOW)[0].count, 1);
        assert_eq!(fold.finish(start + 4 * WINDOW), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_names_is_bounded_and_counted() {
        let (mut fold, start) = (Fold::default(), Instant::now());
        let mut told: u64 = 0;
        for n in 0..100_000u64 {
            let now = start + Duration::from_millis(n);
            told += fold.take(note(Verdict::Denied, &format!("host-{n}")), now).map_or(0, |event| event.count);
            if fold.next().is_some_and(|at| at <= now) {
                told += fold.due(now).iter().map(|event| event.count).sum::<u64>();
            }
            assert!(fold.0.len() <= KEPT_MAX + 2);
        }
        told += fold.finish(start).iter().map(|event| event.count).sum::<u64>();
        assert_eq!(told, 100_000);
    }
}
