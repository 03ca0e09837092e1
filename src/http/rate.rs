//! How often callers over TCP may ask: a bucket for each API key, another for what it makes, and one for each
//! address from which nobody gets in.
//!
//! A bucket holds so many requests, its burst, and fills up again at its rate. It is kept as one number, the
//! time at which it is full again (the generic cell rate algorithm, ITU-T I.371 annex A). Full buckets are
//! forgotten, and there are 65 536 at most; beyond that all others share one.
//!
//! Who presents a good key is never held up by those who fail from the same address: it may be that of a proxy.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::config::rate::Rate;
use crate::wire::KeyId;
use crate::wire::audit::Action;

/// Buckets of one kind that are in memory; each takes less than 64 bytes.
const BUCKETS_MAX: usize = 65_536;
/// Refused acts of a key and a kind that are written down: more than somebody makes who mistypes.
const REFUSALS: (Rate, u32) = (Rate { times: 10, seconds: 60 }, 50);
/// How often full buckets are looked for while there is no room for another.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// Requests that the caller's bucket holds.
pub const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
/// Those that are left.
pub const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
/// Seconds until it is full again.
pub const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// For all requests of a key, with the burst.
    pub requests: Option<(Rate, u32)>,
    /// For those that make sessions, or have them made, and versions of agents.
    pub creations: Option<(Rate, u32)>,
    /// For requests of an address that do not get in.
    pub failures: Option<(Rate, u32)>,
}

/// All buckets.
#[derive(Debug)]
pub struct Limits {
    requests: Option<Buckets<KeyId>>,
    creations: Option<Buckets<KeyId>>,
    failures: Option<Buckets<IpAddr>>,
    refusals: Buckets<(KeyId, Action)>,
    /// Refused acts of a key and a kind that were not written down since one was.
    unwritten: Mutex<HashMap<(KeyId, Action), u64>>,
}

/// What a bucket says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Requests that the bucket holds.
    limit: u32,
    /// Those that are left.
    remaining: u32,
    /// Until it is full again.
    reset: Duration,
    /// Until it has one again, if this was one too many.
    wait: Option<Duration>,
}

impl Limits {
    /// Goes by these rules from now on.
    pub fn new(rules: Rules) -> Self {
        let now = Instant::now();
        let buckets = |(rate, burst)| Shape::new(rate, burst);
        Self {
            requests: rules.requests.map(|rule| Buckets::new(buckets(rule), now)),
            creations: rules.creations.map(|rule| Buckets::new(buckets(rule), now)),
            failures: rules.failures.map(|rule| Buckets::new(buckets(rule), now)),
            refusals: Buckets::new(buckets(REFUSALS), now),
            unwritten: Mutex::default(),
        }
    }

    /// Counts a request of a key, and says how it stands. A request that makes something is counted as such, too.
    pub fn count(&self, key: KeyId, action: Option<Action>) -> Option<Verdict> {
        let now = Instant::now();
        let requests = self.requests.as_ref().map(|buckets| buckets.take(key, now));
        let makes = matches!(
            action,
            Some(
                Action::SessionCreate
                    | Action::QueueAdd
                    | Action::ScheduleCreate
                    | Action::ScheduleChange
                    | Action::ScheduleRun
                    | Action::EvalStart
                    | Action::SessionFork
                    | Action::AgentDeploy
            )
        );
        if !makes || requests.is_some_and(|verdict| verdict.wait.is_some()) {
            return requests;
        }
        self.creations.as_ref().map(|buckets| buckets.take(key, now)).or(requests)
    }

    /// Counts a refused act of a key. Says whether it is written down, and then how many of its kind before it were
    /// not: a key that may do nothing must not fill the audit log of its tenant, and what it is refused again and
    /// again must not hide what else it tries.
    pub fn count_refusal(&self, key: KeyId, action: Action) -> Option<u64> {
        let key = (key, action);
        let wait = self.refusals.take(key, Instant::now()).wait;
        // Numbers alone are in there.
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        if wait.is_none() {
            return Some(unwritten.remove(&key).unwrap_or_default());
        }
        if unwritten.len() < BUCKETS_MAX || unwritten.contains_key(&key) {
            *unwritten.entry(key).or_default() += 1;
        }
        None
    }

    /// Counts a request that did not get in. Says something only if there were too many.
    pub fn count_failure(&self, address: IpAddr) -> Option<Verdict> {
        let verdict = self.failures.as_ref()?.take(network(address), Instant::now());
        verdict.wait.is_some().then_some(verdict)
    }
}

/// A host has all addresses of its /64 (RFC 6177 §2).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

impl Verdict {
    /// How long to wait, if this was one too many.
    pub const fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// Tells a client how it stands, in the headers of the wire contract.
    pub fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, HeaderValue::from(self.limit));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, HeaderValue::from(seconds(self.reset)));
    }
}

/// Whole seconds after which it is so, at the latest.
pub fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// What buckets are like.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Until one request more is in it.
    step: Duration,
    burst: u32,
}

impl Shape {
    fn new(rate: Rate, burst: u32) -> Self {
        Self { step: Duration::from_secs(rate.seconds.into()) / rate.times, burst }
    }

    fn whole(self) -> Duration {
        self.step * self.burst
    }
}

#[derive(Debug)]
struct Buckets<K> {
    shape: Shape,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    /// When each is full again.
    full_at: HashMap<K, Instant>,
    /// That of all for which there is no room.
    shared: Instant,
    swept: Instant,
}

impl<K: Eq + Hash> Buckets<K> {
    fn new(shape: Shape, now: Instant) -> Self {
        Self { shape, state: Mutex::new(State { full_at: HashMap::new(), shared: now, swept: now }) }
    }

    fn take(&self, key: K, now: Instant) -> Verdict {
        // Numbers alone are in there: whoever panicked has left nothing half done.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if state.full_at.len() >= BUCKETS_MAX && !state.full_at.contains_key(&key) && now >= state.swept + SWEEP_PAUSE {
            state.full_at.retain(|_, full_at| *full_at > now);
            state.swept = now;
        }
        let has_room = state.full_at.len() < BUCKETS_MAX || state.full_at.contains_key(&key);
        let full_at = if has_room { state.full_at.entry(key).or_insert(now) } else { &mut state.shared };
        let (limit, next) = (self.shape.burst, (*full_at).max(now) + self.shape.step);
        let missing = next - now;
        if missing > self.shape.whole() {
            let reset = *full_at - now;
            return Verdict { limit, remaining: 0, reset, wait: Some(missing - self.shape.whole()) };
        }
        *full_at = next;
        let left = (self.shape.whole() - missing).as_nanos() / self.shape.step.as_nanos().max(1);
        Verdict { limit, remaining: u32::try_from(left).unwrap_or(limit).min(limit), reset: missing, wait: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(rate: &str, burst: u32) -> (Buckets<u32>, Instant) {
        let now = Instant::now();
        (Buckets::new(Shape::new(rate.parse().expect("a rate"), burst), now), now)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_counts() {
        let (buckets, now) = buckets("60/min", 3);
        let left: Vec<_> = (0..3).map(|_| buckets.take(1, now).remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = buckets.take(1, now);
        assert_eq!((refused.wait, refused.remaining, refused.reset), (Some(Duration::from_secs(1)), 0, Duration::from_secs(3)));
        assert_eq!(buckets.take(2, now).remaining, 2, "another key has another bucket");
        assert!(buckets.take(1, now + Duration::from_millis(999)).wait.is_some(), "what was refused costs nothing");
        assert_eq!(buckets.take(1, now + Duration::from_secs(1)).wait, None);
        assert!(buckets.take(1, now + Duration::from_secs(1)).wait.is_some());
        assert_eq!(buckets.take(1, now + Duration::from_secs(60)).remaining, 2, "it is full again, and no fuller");
    }

    #[test]
    fn memory_is_bounded_and_who_has_no_room_shares_it() {
        let (buckets, now) = buckets("1/h", 1);
        let max = u32::try_from(BUCKETS_MAX).expect("small");
        for key in 0..max {
            assert_eq!(buckets.take(key, now).wait, None);
        }
        assert_eq!(buckets.take(max, now).wait, None);
        assert!(buckets.take(max + 1, now).wait.is_some(), "those beyond share one bucket");
        assert!(buckets.take(0, now).wait.is_some(), "those within keep theirs");
        assert_eq!(buckets.state.lock().expect("whole").full_at.len(), BUCKETS_MAX);
        let later = now + Duration::from_secs(3600);
        assert_eq!(buckets.take(max + 1, later).wait, None, "full ones made room");
        assert_eq!(buckets.state.lock().expect("whole").full_at.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_acts_are_written_down_at_a_bounded_rate_and_the_others_counted() {
        let limits = Limits::new(Rules { requests: None, creations: None, failures: None });
        let (key, other) = (KeyId::new(), KeyId::new());
        let refuse = |key| limits.count_refusal(key, Action::KeyCreate);
        let burst: Vec<_> = (0..REFUSALS.1).map(|_| refuse(key)).collect();
        assert!(burst.iter().all(|told| *told == Some(0)));
        assert_eq!([(); 3].map(|()| refuse(key)), [None; 3]);
        assert_eq!(refuse(other), Some(0), "another key has a bucket of its own");
        assert_eq!(limits.count_refusal(key, Action::KeyRevoke), Some(0), "and another kind");
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!([refuse(key), refuse(key)], [Some(3), None]);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(refuse(key), Some(1));
    }

    #[test]
    fn what_makes_something_or_has_it_made_is_counted_as_such() {
        let rule = |burst| Some(("1/h".parse().expect("a rate"), burst));
        let limits = Limits::new(Rules { requests: rule(1000), creations: rule(1), failures: None });
        let makes = |action| {
            let key = KeyId::new();
            limits.count(key, action);
            limits.count(key, action).is_some_and(|verdict| verdict.wait.is_some())
        };
        let counted: Vec<_> = Action::ALL.iter().filter(|action| makes(Some(**action))).map(|action| action.as_str()).collect();
        let wanted = [
            "agent.deploy",
            "session.create",
            "queue.add",
            "eval.start",
            "session.fork",
            "schedule.create",
            "schedule.change",
            "schedule.run",
        ];
        assert_eq!(counted, wanted);
        assert!(!makes(None));
    }

    #[test]
    fn an_address_is_that_of_a_host() {
        let same = |one: &str, other: &str| network(one.parse().expect(one)) == network(other.parse().expect(other));
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
