//! Calendar expressions: those of systemd.time(7) and those of crontab(5), told apart by their form. Pure: the time is
//! passed in.
//!
//! Both become a pattern of the civil calendar, and that becomes moments in a time zone. Each civil time that is
//! meant is one moment, also where the clocks change: one that is there twice is the first of the two, and one that is
//! not there is as much later as the clocks were put forward, which is where it would have been without that (so RFC
//! 5545, section 3.3.5). systemd leaves the latter out.

mod cron;
mod pattern;
mod systemd;
#[cfg(test)]
mod tests;

use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

use self::pattern::Pattern;
use crate::wire::Timestamp;

/// Longest expression, in characters.
pub const EXPRESSION_MAX: usize = 255;
/// Letters of a wrong word that are told again.
const TOLD_MAX: usize = 32;
/// More than any two civil times for one moment differ.
const APART_SECS: i64 = 48 * 3600;

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CalendarError {
    reason: String,
}

impl CalendarError {
    fn new(reason: String) -> Self {
        Self { reason }
    }
}

/// The beginning of what somebody wrote.
fn cut(text: &str) -> String {
    text.chars().take(TOLD_MAX).collect()
}

/// A time zone by its name in the IANA database. The reason says what else it is.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    if name.eq_ignore_ascii_case("UTC") {
        return Ok(TimeZone::UTC);
    }
    find(name, jiff::tz::db()).ok_or_else(|| format!("{:?} is no time zone, such as Europe/Berlin or UTC", cut(name)))
}

/// A time zone as the host has it, else as Ash brings it along: hosts leave out old names, and a file may not be readable for once.
fn find(name: &str, host: &TimeZoneDatabase) -> Option<TimeZone> {
    host.get(name).or_else(|_| TimeZoneDatabase::bundled().get(name)).ok()
}

/// What an expression means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    pattern: Pattern,
    zone: TimeZone,
}

impl Calendar {
    /// Reads an expression, whose times are in `zone` unless it names one.
    ///
    /// # Errors
    ///
    /// [`CalendarError`] with what is wrong with it.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, CalendarError> {
        if text.chars().count() > EXPRESSION_MAX {
            return Err(CalendarError::new(format!("has to be at most {EXPRESSION_MAX} characters")));
        }
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(CalendarError::new("has to be an expression, such as \"Mon..Fri 09:00\" or \"0 9 * * 1-5\"".to_owned()));
        }
        let (pattern, named) = if cron::is_meant(text) { (cron::parse(text)?, None) } else { systemd::parse(text)? };
        Ok(Self { pattern, zone: named.unwrap_or_else(|| zone.clone()) })
    }

    /// The first time after this one. `None`: there is none any more, up to the year 2199.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = jiff::Timestamp::from_second(after.millis().div_euclid(1000) + 1).ok()?;
        loop {
            // From one change of the clocks to the next, civil times and moments go together.
            let offset = self.zone.to_offset(from);
            let begin = self.zone.preceding(from + jiff::SignedDuration::from_nanos(1)).next().map(|change| change.timestamp());
            let before = match begin {
                Some(begin) => self.zone.to_offset(begin - jiff::SignedDuration::from_secs(1)),
                None => offset,
            };
            let end = self.zone.following(from).next().map(|change| change.timestamp());
            let usual = self.usual(from, begin, before, offset);
            let found = [usual, self.left_out(from, begin, before, offset)].into_iter().flatten().min()?;
            match end {
                Some(end) if found >= end => {
                    // Before it nothing is meant, wherever the clocks stand.
                    let near = found.as_second().saturating_sub(APART_SECS);
                    from = end.max(jiff::Timestamp::from_second(near).ok()?);
                }
                _ => return Some(Timestamp(found.as_millisecond())),
            }
        }
    }

    /// The first time from `from` on by the clocks as they are, that was not there before they were put back.
    fn usual(
        &self,
        from: jiff::Timestamp,
        begin: Option<jiff::Timestamp>,
        before: Offset,
        offset: Offset,
    ) -> Option<jiff::Timestamp> {
        let mut civil = offset.to_datetime(from);
        if let Some(begin) = begin
            && before > offset
        {
            civil = civil.max(before.to_datetime(begin));
        }
        offset.to_timestamp(self.pattern.at_or_after(civil)?).ok()
    }

    /// The first time from `from` on by the clocks as they were, that was left out as they were put forward.
    fn left_out(
        &self,
        from: jiff::Timestamp,
        begin: Option<jiff::Timestamp>,
        before: Offset,
        offset: Offset,
    ) -> Option<jiff::Timestamp> {
        let begin = begin.filter(|_| before < offset)?;
        let civil = self.pattern.at_or_after(before.to_datetime(from))?;
        if civil < offset.to_datetime(begin) { before.to_timestamp(civil).ok() } else { None }
    }

    /// Seconds between two times by the clock on the wall, the fewest of many from now on. `None`: there is no second one.
    pub fn shortest_gap_secs(&self, now: Timestamp) -> Option<i64> {
        let now = jiff::Timestamp::from_millisecond(now.millis()).ok()?;
        self.pattern.shortest_gap(self.zone.to_datetime(now))
    }
}
