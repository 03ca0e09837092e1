//! Which seconds of a civil calendar are meant. What a pattern takes is bounded by the calendar, not by how it was written.

use jiff::civil::{Date, DateTime, Time};

use super::CalendarError;

/// The years that there are for an expression, those of systemd.
pub const YEARS: std::ops::RangeInclusive<u16> = 1970..=2199;
/// Years of [`YEARS`], as bits.
const YEAR_WORDS: usize = 4;
/// Times that are looked at for the shortest time between two: more than a day has minutes.
const SAMPLE: usize = 1500;

/// Years as bits from the first of [`YEARS`] on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Years([u64; YEAR_WORDS]);

impl Years {
    /// All.
    pub const ALL: Self = Self([u64::MAX; YEAR_WORDS]);
    /// None.
    pub const NONE: Self = Self([0; YEAR_WORDS]);

    /// Adds a year, if it is one.
    pub fn insert(&mut self, year: u16) {
        if YEARS.contains(&year) {
            let at = usize::from(year - YEARS.start());
            self.0[at / 64] |= 1 << (at % 64);
        }
    }

    fn contains(self, year: u16) -> bool {
        let at = usize::from(year.wrapping_sub(*YEARS.start()));
        YEARS.contains(&year) && self.0[at / 64] & 1 << (at % 64) != 0
    }
}

/// Days of a month, the first at bit 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Days {
    /// Counted from the first.
    OfMonth(u64),
    /// Counted from the last, which is 1.
    FromEnd(u64),
}

/// Which seconds are meant: those that are in all of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// From 0 to 59.
    pub seconds: u64,
    /// From 0 to 59.
    pub minutes: u64,
    /// From 0 to 23.
    pub hours: u64,
    /// Of the month.
    pub days: Days,
    /// From 1 to 12.
    pub months: u64,
    /// The years.
    pub years: Years,
    /// From 0 (Monday) to 6.
    pub weekdays: u64,
    /// Whether a day is meant that is in either `days` or `weekdays`, as cron has it where both are restricted.
    pub is_either: bool,
}

/// Values from `from` to `to`.
pub const fn span(from: u16, to: u16) -> u64 {
    (u64::MAX >> (63 - to)) >> from << from
}

impl Pattern {
    /// Midnight of each day.
    pub const DAILY: Self = Self {
        seconds: 1,
        minutes: 1,
        hours: 1,
        days: Days::OfMonth(span(1, 31)),
        months: span(1, 12),
        years: Years::ALL,
        weekdays: span(0, 6),
        is_either: false,
    };

    /// The first second that is meant from this one on.
    pub fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        let day = self.day_at_or_after(from.date())?;
        if day == from.date()
            && let Some(time) = self.time_at_or_after(from.time())
        {
            return Some(day.to_datetime(time));
        }
        let day = if day == from.date() { self.day_at_or_after(day.tomorrow().ok()?)? } else { day };
        self.time_at_or_after(Time::midnight()).map(|time| day.to_datetime(time))
    }

    /// Seconds of the civil calendar from one that is meant to the next, the fewest of many from here on. `None`: there is no
    /// second one.
    pub fn shortest_gap(&self, from: DateTime) -> Option<i64> {
        let (mut last, mut shortest) = (self.at_or_after(from)?, None);
        for _ in 0..SAMPLE {
            let Some(next) = last.checked_add(jiff::Span::new().seconds(1)).ok().and_then(|from| self.at_or_after(from)) else {
                break;
            };
            let gap = next.duration_since(last).as_secs();
            shortest = Some(shortest.map_or(gap, |shortest: i64| shortest.min(gap)));
            last = next;
        }
        shortest
    }

    fn time_at_or_after(&self, from: Time) -> Option<Time> {
        let (hour, minute, second) = (from.hour().unsigned_abs(), from.minute().unsigned_abs(), from.second().unsigned_abs());
        let whole = |hour: Option<u8>, minute: Option<u8>, second: Option<u8>| {
            Time::new(hour?.cast_signed(), minute?.cast_signed(), second?.cast_signed(), 0).ok()
        };
        let (first_minute, first_second) = (first(self.minutes, 0), first(self.seconds, 0));
        if first(self.hours, hour) != Some(hour) {
            return whole(first(self.hours, hour), first_minute, first_second);
        }
        if first(self.minutes, minute) == Some(minute)
            && let Some(second) = first(self.seconds, second)
        {
            return whole(Some(hour), Some(minute), Some(second));
        }
        if let Some(minute) = first(self.minutes, minute + 1) {
            return whole(Some(hour), Some(minute), first_second);
        }
        whole(first(self.hours, hour + 1), first_minute, first_second)
    }

    fn day_at_or_after(&self, from: Date) -> Option<Date> {
        let (mut month, mut day) = (from.month().unsigned_abs(), from.day().unsigned_abs());
        for year in from.year().unsigned_abs().max(*YEARS.start())..=*YEARS.end() {
            if self.years.contains(year) {
                while let Some(found) = first(self.months, month).filter(|month| *month <= 12) {
                    if found != month {
                        (month, day) = (found, 1);
                    }
                    let start = Date::new(year.cast_signed(), month.cast_signed(), 1).ok()?;
                    if let Some(day) = first(self.days_in(start), day) {
                        return Date::new(year.cast_signed(), month.cast_signed(), day.cast_signed()).ok();
                    }
                    (month, day) = (month + 1, 1);
                }
            }
            (month, day) = (1, 1);
        }
        None
    }

    /// The days that are meant of the month that begins here.
    fn days_in(&self, start: Date) -> u64 {
        let length = start.days_in_month().unsigned_abs();
        let in_month = match self.days {
            Days::OfMonth(days) => days & span(1, length.into()),
            Days::FromEnd(days) => (1..=length).filter(|n| days & 1 << n != 0).fold(0, |bits, n| bits | 1 << (length + 1 - n)),
        };
        let begins = start.weekday().to_monday_zero_offset().unsigned_abs();
        let in_week =
            (1..=length).filter(|day| self.weekdays & 1 << ((begins + day - 1) % 7) != 0).fold(0, |bits, day| bits | 1 << day);
        if self.is_either { in_month | in_week } else { in_month & in_week }
    }
}

/// The lowest bit from `from` on.
fn first(bits: u64, from: u8) -> Option<u8> {
    let rest = bits.checked_shr(from.into())?.checked_shl(from.into())?;
    // At most 63.
    (rest != 0).then(|| rest.trailing_zeros() as u8)
}

/// Names of the days of the week, Monday first, as bit numbers.
pub const WEEKDAYS: [(&str, &str, u16); 7] = [
    ("mon", "monday", 0),
    ("tue", "tuesday", 1),
    ("wed", "wednesday", 2),
    ("thu", "thursday", 3),
    ("fri", "friday", 4),
    ("sat", "saturday", 5),
    ("sun", "sunday", 6),
];

/// A number of at most four digits, and nothing else.
pub fn number(what: &str, text: &str) -> Result<u16, CalendarError> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let refuse = || CalendarError::new(format!("{what}: {:?} is no number", super::cut(text)));
    is_number.then(|| text.parse().ok()).flatten().ok_or_else(refuse)
}

/// A number within its bounds.
pub fn number_in(what: &str, text: &str, (least, most): (u16, u16)) -> Result<u16, CalendarError> {
    let number = number(what, text)?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(CalendarError::new(format!("{what}: {number} is not from {least} to {most}")))
    }
}

/// How far apart the values of a range are.
pub fn step(what: &str, text: &str) -> Result<usize, CalendarError> {
    match number(what, text)? {
        0 => Err(CalendarError::new(format!("{what}: a step of 0 leads nowhere"))),
        step => Ok(step.into()),
    }
}

/// Bit of a day of the week.
#[cfg(test)]
pub fn bit(weekday: jiff::civil::Weekday) -> u64 {
    1 << weekday.to_monday_zero_offset()
}
