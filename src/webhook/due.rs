//! What is to be sent now, and what follows from an answer. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::wire::{SessionId, Timestamp, WebhookId};

/// Attempts at the same time: of all webhooks, of those of a tenant, and of one, so that what does not answer leaves room.
pub const BOUNDS: Bounds = Bounds { all: 16, of_tenant: 12, of_one: 4 };

/// First and longest wait before another try, in milliseconds.
const RETRY_FIRST_MS: i64 = 1_000;
const RETRY_LONGEST_MS: i64 = 3_600_000;
/// Waits are longer by up to this part of them, so that what failed at the same time is not tried at the same time.
const JITTER_PART: i64 = 4;
/// After which time an event is given up.
const GIVE_UP_MS: i64 = 86_400_000;
/// After which time without any success a webhook is disabled.
const DISABLE_MS: i64 = 5 * 86_400_000;

/// A webhook and a session: what is sent in order.
pub type Key = (WebhookId, SessionId);

/// How a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// There may be something to send, since then.
    Ready(Timestamp),
    /// Something is being sent.
    Trying,
    /// Something failed and is sent again then.
    Waiting(Timestamp),
}

/// Most attempts at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of all webhooks.
    pub all: usize,
    /// Of all webhooks of a tenant.
    pub of_tenant: usize,
    /// Of one.
    pub of_one: usize,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Lanes to start, those first whose tenant has fewest under way, and of them those that wait longest.
    pub start: Vec<Key>,
    /// When to look again, if nothing happens before.
    pub next: Option<Timestamp>,
}

/// What is to be done now about lanes of tenants.
pub fn due<'a>(lanes: impl IntoIterator<Item = (Key, &'a str, Stage)>, now: Timestamp, bounds: Bounds) -> Due {
    let mut taken = Taken::default();
    let mut ready = BTreeMap::<&str, BTreeSet<(Timestamp, Key)>>::new();
    let mut next = None;
    for (key, tenant, stage) in lanes {
        match stage {
            Stage::Trying => taken.take(key, tenant),
            Stage::Ready(since) => drop(ready.entry(tenant).or_default().insert((since, key))),
            Stage::Waiting(until) if until <= now => drop(ready.entry(tenant).or_default().insert((until, key))),
            Stage::Waiting(until) => next = Some(next.map_or(until, |next: Timestamp| next.min(until))),
        }
    }
    let mut start = Vec::new();
    while taken.all < bounds.all {
        // A tenant whose receivers do not answer has many that wait long, which nobody else is to wait for.
        let first = ready.iter().filter_map(|(tenant, lanes)| {
            let (since, key) = lanes.iter().find(|(_, key)| taken.of_one(*key) < bounds.of_one)?;
            Some((taken.of_tenant(tenant), *since, *key, *tenant))
        });
        let Some((_, since, key, tenant)) = first.filter(|(of_tenant, ..)| *of_tenant < bounds.of_tenant).min() else { break };
        taken.take(key, tenant);
        if let Some(lanes) = ready.get_mut(tenant) {
            lanes.remove(&(since, key));
        }
        start.push(key);
    }
    Due { start, next }
}

/// What is under way.
#[derive(Debug, Default)]
struct Taken<'a> {
    all: usize,
    by_tenant: HashMap<&'a str, usize>,
    by_webhook: HashMap<WebhookId, usize>,
}

impl<'a> Taken<'a> {
    fn take(&mut self, key: Key, tenant: &'a str) {
        self.all += 1;
        *self.by_tenant.entry(tenant).or_default() += 1;
        *self.by_webhook.entry(key.0).or_default() += 1;
    }

    fn of_tenant(&self, tenant: &str) -> usize {
        self.by_tenant.get(tenant).copied().unwrap_or_default()
    }

    fn of_one(&self, key: Key) -> usize {
        self.by_webhook.get(&key.0).copied().unwrap_or_default()
    }
}

/// What came back.
pub type Answer = Result<u16, String>;

/// An event that is being sent.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    /// The lane.
    pub key: Key,
    /// The event.
    pub event: i64,
    /// How often it was sent, this time too.
    pub attempts: i64,
    /// When it was sent first.
    pub since: Timestamp,
    /// Since when the webhook had no success.
    pub failing_since: Timestamp,
}

/// What follows from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken.
    Delivered,
    /// It is sent again then.
    Retry(Timestamp),
    /// It is not sent again.
    GivenUp,
    /// Neither it nor anything else is sent any more.
    Disable(String),
}

/// Whether it was taken.
pub const fn is_success(answer: &Answer) -> bool {
    matches!(answer, Ok(200..=299))
}

/// What follows from an answer.
pub fn judge(answer: &Answer, tried: Tried, now: Timestamp) -> Verdict {
    if is_success(answer) {
        return Verdict::Delivered;
    }
    if *answer == Ok(410) {
        return Verdict::Disable("the receiver answered 410 Gone".to_owned());
    }
    if now.millis() - tried.failing_since.millis() >= DISABLE_MS {
        return Verdict::Disable(format!("nothing came through for {} days", DISABLE_MS / 86_400_000));
    }
    let again = Timestamp(now.millis().saturating_add(wait_ms(tried)));
    // Also where the clock was set back, it ends.
    if again.millis() - tried.since.millis() > GIVE_UP_MS || tried.attempts > 1000 {
        Verdict::GivenUp
    } else {
        Verdict::Retry(again)
    }
}

/// How long to wait after so many attempts.
fn wait_ms(tried: Tried) -> i64 {
    let doubled = u32::try_from(tried.attempts - 1).map_or(0, |times| times.min(30));
    let wait = (RETRY_FIRST_MS << doubled).min(RETRY_LONGEST_MS);
    let mut hasher = DefaultHasher::new();
    (tried.key, tried.event, tried.attempts).hash(&mut hasher);
    wait + (hasher.finish() % (wait / JITTER_PART).unsigned_abs()).cast_signed()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const SMALL: Bounds = Bounds { all: 3, of_tenant: 3, of_one: 2 };

    fn key(webhook: u128, session: u128) -> Key {
        (WebhookId::from_uuid(Uuid::from_u128(webhook)), SessionId::from_uuid(Uuid::from_u128(session)))
    }

    fn at(lanes: &[(u128, u128, Stage)], now: i64) -> (Vec<(u128, u128)>, Option<i64>) {
        let lanes = lanes.iter().map(|(webhook, session, stage)| (key(*webhook, *session), "a", *stage));
        let due = due(lanes, Timestamp(now), SMALL);
        let start = due.start.into_iter().map(|(webhook, session)| (webhook.as_uuid().as_u128(), session.as_uuid().as_u128()));
        (start.collect(), due.next.map(Timestamp::millis))
    }

    #[test]
    fn what_waits_longest_goes_first_within_the_bounds() {
        let ready = |since| Stage::Ready(Timestamp(since));
        let waiting = |until| Stage::Waiting(Timestamp(until));
        for (lanes, now, start, next) in [
            (vec![], 0, vec![], None),
            (vec![(1, 1, ready(5)), (1, 2, ready(3))], 9, vec![(1, 2), (1, 1)], None),
            (vec![(1, 1, waiting(9)), (1, 2, waiting(10))], 9, vec![(1, 1)], Some(10)),
            (vec![(1, 1, waiting(12)), (1, 2, waiting(11))], 9, vec![], Some(11)),
            // One webhook does not take all places, and none is started twice.
            (vec![(1, 1, ready(1)), (1, 2, ready(2)), (1, 3, ready(3)), (2, 1, ready(4))], 9, vec![(1, 1), (1, 2), (2, 1)], None),
            (vec![(1, 1, Stage::Trying), (1, 2, Stage::Trying), (1, 3, ready(1)), (2, 1, ready(2))], 9, vec![(2, 1)], None),
            (vec![(1, 1, Stage::Trying), (2, 1, Stage::Trying), (3, 1, Stage::Trying), (4, 1, ready(1))], 9, vec![], None),
        ] {
            assert_eq!(at(&lanes, now), (start, next), "{lanes:?}");
        }
    }

    #[test]
    fn a_tenant_whose_receivers_do_not_answer_leaves_places_and_its_turn_to_others() {
        let ready = |since| Stage::Ready(Timestamp(since));
        let start = |lanes: &[(u128, u128, &'static str, Stage)]| {
            let lanes = lanes.iter().map(|(webhook, session, tenant, stage)| (key(*webhook, *session), *tenant, *stage));
            let due = due(lanes, Timestamp(9), Bounds { all: 4, of_tenant: 3, of_one: 2 });
            due.start
                .into_iter()
                .map(|(webhook, session)| (webhook.as_uuid().as_u128(), session.as_uuid().as_u128()))
                .collect::<Vec<_>>()
        };
        let slow = [(1, 1, "a", ready(1)), (1, 2, "a", ready(1)), (2, 1, "a", ready(1)), (2, 2, "a", ready(1))];
        assert_eq!(start(&slow), [(1, 1), (1, 2), (2, 1)], "one place is for others");
        let other = [(3, 1, "b", ready(8)), (3, 2, "b", ready(9))];
        assert_eq!(start(&[&slow[..], &other].concat()), [(1, 1), (3, 1), (1, 2), (3, 2)], "they take turns");
        let busy = [(1, 1, "a", Stage::Trying), (1, 2, "a", Stage::Trying), (4, 1, "a", ready(1))];
        assert_eq!(start(&[&busy[..], &other].concat()), [(3, 1), (3, 2)], "who has least goes first");
    }

    fn tried(attempts: i64, since: i64, failing_since: i64) -> Tried {
        let (since, failing_since) = (Timestamp(since), Timestamp(failing_since));
        Tried { key: key(1, 1), event: 1, attempts, since, failing_since }
    }

    #[test]
    fn answers_are_judged() {
        let day = 86_400_000;
        let judge = |answer: Answer, tried, now| judge(&answer, tried, Timestamp(now));
        for status in [200, 204, 299] {
            assert_eq!(judge(Ok(status), tried(1, 0, 0), 9 * day), Verdict::Delivered, "{status}");
        }
        for status in [101, 199, 301, 302, 307, 308, 400, 404, 429, 500, 503] {
            assert!(matches!(judge(Ok(status), tried(1, 0, 0), 0), Verdict::Retry(_)), "{status}");
        }
        assert!(matches!(judge(Err("no route".to_owned()), tried(1, 0, 0), 0), Verdict::Retry(_)));
        assert!(matches!(judge(Ok(410), tried(1, 0, 0), 0), Verdict::Disable(_)));
        assert_eq!(judge(Ok(500), tried(40, 0, 0), day), Verdict::GivenUp);
        assert!(matches!(judge(Ok(500), tried(1, 5 * day, 0), 5 * day), Verdict::Disable(_)));
    }

    #[test]
    fn waits_double_with_jitter_to_an_hour() {
        for attempts in 1..100 {
            let least = (RETRY_FIRST_MS << (attempts - 1).min(30)).min(RETRY_LONGEST_MS);
            let wait = wait_ms(tried(attempts, 0, 0));
            assert!((least..least + least / JITTER_PART).contains(&wait), "{attempts}: {wait}");
        }
        let other = Tried { event: 2, ..tried(12, 0, 0) };
        assert_ne!(wait_ms(tried(12, 0, 0)), wait_ms(other), "they do not come together");
    }

    #[test]
    fn an_event_is_tried_for_a_day() {
        let (mut now, mut attempts) = (0, 1);
        while let Verdict::Retry(next) = judge(&Ok(500), tried(attempts, 0, 0), Timestamp(now)) {
            (now, attempts) = (next.millis(), attempts + 1);
        }
        assert!((GIVE_UP_MS - 2 * RETRY_LONGEST_MS..=GIVE_UP_MS).contains(&now), "{now}");
        assert!(attempts < 50, "{attempts}");
    }
}
