//! What is due of a schedule: a pure function of its calendar, of how far it is, and of the time.
//!
//! A time of the calendar is *due* when it has come, with its jitter. The newest one that is due may be *on time*: the
//! daemon was up when it came, and not long ago. All others were *missed*, as the daemon was down or the host slept, and
//! what becomes of them the schedule says. A clock that is put back makes nothing due: what comes next only grows.

use std::collections::VecDeque;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::calendar::Calendar;
use crate::wire::schedule::CatchUp;
use crate::wire::{ScheduleId, Timestamp};

/// Missed times that run at most where all are to run: the newest.
pub const CATCH_UP_MAX: usize = 100;
/// So long after its time a firing is on time: two looks at the clock.
pub const LATE: Duration = Duration::from_secs(60);
/// Times that are counted one by one. Of more, it is known that there were more.
const COUNTED: usize = 10_000;
/// So many are looked at of those at a time, where the newest are looked for.
const NEWEST: usize = 10 * CATCH_UP_MAX;

/// By how much firings are late on purpose.
#[derive(Debug, Clone, Copy)]
pub struct Jitter {
    /// Whose.
    pub schedule: ScheduleId,
    /// At most so many seconds.
    pub secs: u32,
}

/// A time of the calendar, and when it fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// As the calendar has it.
    pub of: Timestamp,
    /// With its jitter.
    pub at: Timestamp,
}

impl Time {
    /// A time of a calendar with its jitter, which is the same whenever it is asked for, and ends before the next time.
    pub fn new(of: Timestamp, calendar: &Calendar, jitter: Jitter) -> Self {
        let room = match jitter.secs {
            0 => 0,
            secs => {
                calendar.next(of).map_or(i64::from(secs), |next| i64::from(secs).min((next.millis() - of.millis()) / 1000 - 1))
            }
        };
        let mut hash = Sha256::new();
        hash.update(jitter.schedule.as_uuid().as_bytes());
        hash.update(of.millis().to_be_bytes());
        let bits = hash.finalize().iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        // Less than a day.
        let late = (bits % (room.max(0).unsigned_abs() + 1)).cast_signed();
        Self { of, at: Timestamp(of.millis().saturating_add(late * 1000)) }
    }

    /// The first after a time.
    pub fn after(after: Timestamp, calendar: &Calendar, jitter: Jitter) -> Option<Self> {
        calendar.next(after).map(|of| Self::new(of, calendar, jitter))
    }
}

/// What to do about a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What fires, oldest first.
    pub fire: Vec<Timestamp>,
    /// How many times are left out; of very many, at least so many.
    pub missed: u64,
    /// The newest time that is done with then.
    pub through: Timestamp,
    /// What comes then, if anything does.
    pub next: Option<Time>,
}

/// When it is, and since when the daemon is up.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Now.
    pub now: Timestamp,
    /// Since then.
    pub up: Timestamp,
}

impl Clock {
    /// The clock of a daemon that comes up.
    pub const fn new(now: Timestamp) -> Self {
        Self { now, up: now }
    }

    /// Another look at it. Where it was put back, the daemon is up since then at the latest: what comes is not missed.
    pub fn look(&mut self, now: Timestamp) {
        *self = Self { now, up: self.up.min(now) };
    }

    fn is_on_time(self, time: Time) -> bool {
        time.at >= self.up && self.now.millis().saturating_sub(time.at.millis()) <= LATE.as_millis() as i64
    }
}

/// What is due of a schedule whose next time is `first`, and what comes then. `None`: nothing is due.
pub fn plan(calendar: &Calendar, jitter: Jitter, catch_up: CatchUp, first: Time, clock: Clock) -> Option<Plan> {
    if first.at > clock.now {
        return None;
    }
    let most = if catch_up == CatchUp::All { CATCH_UP_MAX } else { 1 };
    let walk = |first, bound| walk(first, calendar, jitter, clock.now, most, bound);
    let (mut due, count, mut next) = walk(first, COUNTED);
    if next.is_some_and(|next| next.at <= clock.now) {
        // Too many to look at: only the newest are of interest. From `far` on there are too many, from `near` on too few, and in
        // between is a second from which on there are as many as that: times are whole seconds, each of them once.
        let (mut far, mut near) = (first.of.millis(), clock.now.millis());
        while near - far > 1 {
            let from = Timestamp(far + (near - far) / 2);
            let found = Time::after(from, calendar, jitter).map(|begin| walk(begin, NEWEST));
            if found.as_ref().is_some_and(|(.., next)| next.is_some_and(|next| next.at <= clock.now)) {
                far = from.millis();
                continue;
            }
            near = from.millis();
            if let Some(newest) = found.filter(|(newest, ..)| newest.len() == most) {
                (due, _, next) = newest;
                break;
            }
        }
    }
    let through = due.back().map_or(first.of, |newest| newest.of);
    let keeps_newest = catch_up != CatchUp::None || due.back().is_some_and(|newest| clock.is_on_time(*newest));
    if !keeps_newest {
        due.clear();
    }
    Some(Plan { missed: count - due.len() as u64, through, fire: due.into_iter().map(|time| time.of).collect(), next })
}

/// The newest of what is due from `first` on, how many there are, and the first that is not; so many at most.
fn walk(
    first: Time,
    calendar: &Calendar,
    jitter: Jitter,
    now: Timestamp,
    most: usize,
    bound: usize,
) -> (VecDeque<Time>, u64, Option<Time>) {
    let (mut due, mut count, mut next) = (VecDeque::new(), 0, Some(first));
    while let Some(time) = next.filter(|time| time.at <= now && count < bound) {
        if due.len() == most {
            due.pop_front();
        }
        due.push_back(time);
        count += 1;
        next = Time::after(time.of, calendar, jitter);
    }
    (due, count as u64, next)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn calendar(text: &str) -> Calendar {
        Calendar::parse(text, &TimeZone::UTC).expect(text)
    }

    fn at(text: &str) -> Timestamp {
        format!("2026-12-01T{text}Z").parse().expect(text)
    }

    const NONE: Jitter = Jitter { schedule: ScheduleId::from_uuid(uuid::Uuid::nil()), secs: 0 };

    /// What fires, how many are left out, and what is next.
    fn planned(text: &str, catch_up: CatchUp, first: &str, now: &str, up: &str) -> Option<(Vec<String>, u64, Option<String>)> {
        let time = |time: Timestamp| time.to_string().replace("2026-12-01T", "").replace(".000Z", "");
        let (calendar, clock) = (calendar(text), Clock { now: at(now), up: at(up) });
        let plan = plan(&calendar, NONE, catch_up, Time { of: at(first), at: at(first) }, clock)?;
        Some((plan.fire.into_iter().map(time).collect(), plan.missed, plan.next.map(|next| time(next.of))))
    }

    #[test]
    fn what_is_due_fires_once_and_what_was_missed_as_the_schedule_says() {
        use CatchUp::{All, None as Left, Once};
        type Wanted = Option<(&'static [&'static str], u64, Option<&'static str>)>;
        let cases: &[(&str, CatchUp, &str, &str, &str, Wanted)] = &[
            // Calendar, catch up, next, now, up since.
            ("*:0/10", Once, "10:00:00", "09:59:59", "09:00:00", None),
            ("*:0/10", Once, "10:00:00", "10:00:00", "09:00:00", Some((&["10:00:00"], 0, Some("10:10:00")))),
            ("*:0/10", Left, "10:00:00", "10:00:03", "09:00:00", Some((&["10:00:00"], 0, Some("10:10:00")))),
            ("*:0/10", All, "10:00:00", "10:00:03", "09:00:00", Some((&["10:00:00"], 0, Some("10:10:00")))),
            // The clock was put back: nothing that was done comes again.
            ("*:0/10", Once, "10:10:00", "09:30:00", "09:00:00", None),
            // The daemon was down.
            ("*:0/10", Left, "10:00:00", "10:25:00", "10:24:59", Some((&[], 3, Some("10:30:00")))),
            ("*:0/10", Once, "10:00:00", "10:25:00", "10:24:59", Some((&["10:20:00"], 2, Some("10:30:00")))),
            (
                "*:0/10",
                All,
                "10:00:00",
                "10:25:00",
                "10:24:59",
                Some((&["10:00:00", "10:10:00", "10:20:00"], 0, Some("10:30:00"))),
            ),
            // It came up just after one.
            ("*:0/10", Left, "10:00:00", "10:00:01", "10:00:00.500", Some((&[], 1, Some("10:10:00")))),
            // The host slept, or the database was away, and the newest is not on time.
            ("*:0/10", Left, "10:00:00", "10:25:00", "09:00:00", Some((&[], 3, Some("10:30:00")))),
            // It slept, and the newest is.
            ("*:0/10", Left, "10:00:00", "10:20:05", "09:00:00", Some((&["10:20:00"], 2, Some("10:30:00")))),
            // Several at once of a schedule that is quicker than the desk.
            ("*:*:*", Once, "10:00:00", "10:00:02.500", "09:00:00", Some((&["10:00:02"], 2, Some("10:00:03")))),
            // The last there is.
            ("2026-12-01 10:00", Once, "10:00:00", "10:00:01", "09:00:00", Some((&["10:00:00"], 0, None))),
        ];
        for (text, catch_up, first, now, up, wanted) in cases {
            let wanted = wanted.map(|(fire, missed, next)| {
                (fire.iter().map(|time| (*time).to_owned()).collect::<Vec<_>>(), missed, next.map(str::to_owned))
            });
            assert_eq!(planned(text, *catch_up, first, now, up), wanted, "{text} {catch_up:?} {first} {now}");
        }
    }

    #[test]
    fn a_long_absence_of_a_quick_schedule_is_bounded() {
        let (calendar, first) = (calendar("*:*:*"), Time { of: at("00:00:00"), at: at("00:00:00") });
        let now: Timestamp = "2056-12-01T10:00:00.500Z".parse().expect("a time");
        let clock = Clock { now, up: now };
        let all = plan(&calendar, NONE, CatchUp::All, first, clock).expect("due");
        assert_eq!((all.fire.len(), all.missed), (CATCH_UP_MAX, COUNTED as u64 - CATCH_UP_MAX as u64));
        assert_eq!(all.fire.last().map(|time| now.millis() - time.millis()), Some(500));
        assert_eq!(all.next.map(|next| next.of.millis() - now.millis()), Some(500));
        let once = plan(&calendar, NONE, CatchUp::Once, first, clock).expect("due");
        assert_eq!((once.fire, once.next), (all.fire[CATCH_UP_MAX - 1..].to_vec(), all.next));
        // One that is so on few days only, of which the last is long ago.
        let calendar = Calendar::parse("*-01-01 *:*:*", &TimeZone::UTC).expect("reads");
        let jitter = Jitter { secs: 7, ..NONE };
        let all = plan(&calendar, jitter, CatchUp::All, Time::new(at("00:00:00"), &calendar, jitter), clock).expect("due");
        assert_eq!((all.fire.len(), all.through), (CATCH_UP_MAX, "2056-01-01T23:59:59Z".parse().expect("a time")));
        assert!(all.fire.windows(2).all(|pair| pair[1].millis() == pair[0].millis() + 1000));
        let calendar = Calendar::parse("*-01-01 00:*:*", &TimeZone::UTC).expect("reads");
        let once = plan(&calendar, NONE, CatchUp::Once, first, clock).expect("due");
        assert_eq!(once.fire, ["2056-01-01T00:59:59Z".parse().expect("a time")]);
        assert_eq!(once.next.map(|next| next.of.to_string()).as_deref(), Some("2057-01-01T00:00:00.000Z"));
    }

    #[test]
    fn jitter_is_the_same_each_time_and_ends_before_the_next_one() {
        let calendar = calendar("*:0/10");
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..50_u128 {
            let jitter = Jitter { schedule: ScheduleId::from_uuid(uuid::Uuid::from_u128(number)), secs: 86_400 };
            let time = Time::new(at("10:00:00"), &calendar, jitter);
            let late = (time.at.millis() - time.of.millis()) / 1000;
            assert!((0..600).contains(&late), "{late}");
            assert_eq!(Time::new(at("10:00:00"), &calendar, jitter), time);
            assert_eq!(Time::after(at("09:59:00"), &calendar, jitter), Some(time));
            let short = Time::new(at("10:00:00"), &calendar, Jitter { secs: 5, ..jitter });
            assert!((0..=5000).contains(&(short.at.millis() - short.of.millis())));
            seen.insert(late);
        }
        assert!(seen.len() > 25, "they are spread: {seen:?}");
        // What is due is so by its jitter, not by its time.
        let jitter = Jitter { schedule: ScheduleId::from_uuid(uuid::Uuid::from_u128(1)), secs: 500 };
        let time = Time::new(at("10:00:00"), &calendar, jitter);
        assert!(time.at > time.of, "this one is late");
        let clock = |now| Clock { now, up: at("09:00:00") };
        assert_eq!(plan(&calendar, jitter, CatchUp::Once, time, clock(time.of)), None);
        assert_eq!(plan(&calendar, jitter, CatchUp::Once, time, clock(time.at)).map(|plan| plan.fire), Some(vec![time.of]));
    }

    #[test]
    fn what_comes_after_the_clock_was_put_back_is_on_time() {
        let calendar = calendar("*:0/10");
        let mut clock = Clock::new(at("13:00:00"));
        clock.look(at("13:00:30"));
        assert_eq!(clock.up, at("13:00:00"));
        clock.look(at("11:55:00"));
        clock.look(at("12:00:00"));
        let time = Time { of: at("12:00:00"), at: at("12:00:00") };
        let plan = plan(&calendar, NONE, CatchUp::None, time, clock).expect("due");
        assert_eq!((plan.fire, plan.missed), (vec![time.of], 0));
    }

    proptest::proptest! {
        /// Whenever it is looked, however the clock goes: each time fires at most once, and in order.
        #[test]
        fn no_time_fires_twice_however_the_clock_goes(
            steps in proptest::collection::vec(-4000_i64..4000, 1..60),
            every in 1_u32..59,
            secs in 0_u32..4000,
            catch_up in 0_usize..3,
        ) {
            let calendar = calendar(&format!("*:0/{every}"));
            let jitter = Jitter { schedule: ScheduleId::from_uuid(uuid::Uuid::from_u128(7)), secs };
            let (mut now, mut fired) = (at("10:00:30").millis(), Vec::new());
            let mut next = Time::after(Timestamp(now), &calendar, jitter).expect("there is one");
            for step in steps {
                now += step * 1000;
                let clock = Clock { now: Timestamp(now), up: at("10:00:00") };
                let Some(plan) = plan(&calendar, jitter, CatchUp::ALL[catch_up], next, clock) else { continue };
                proptest::prop_assert!(plan.fire.iter().all(|time| *time <= plan.through && time.millis() <= now));
                fired.extend(plan.fire);
                let then = plan.next.expect("there is always one");
                proptest::prop_assert!(then.of > next.of && then.of > plan.through && then.at.millis() > now);
                next = then;
            }
            proptest::prop_assert!(fired.is_sorted_by(|a, b| a < b), "{fired:?}");
        }
    }
}
