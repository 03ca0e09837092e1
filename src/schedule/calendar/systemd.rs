//! Calendar events as systemd writes them: systemd.time(7), "Calendar Events", v252.

use jiff::tz::TimeZone;

use super::pattern::{Days, Pattern, WEEKDAYS, YEARS, Years, number, number_in, span, step};
use super::{CalendarError, cut, zone};

/// Words for whole expressions, and what they stand for.
const SHORTHANDS: [(&str, &str); 12] = [
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("semi-annually", "*-01,07-01 00:00:00"),
    ("biannually", "*-01,07-01 00:00:00"),
    ("bi-annually", "*-01,07-01 00:00:00"),
];

/// Reads an expression, and the time zone that it names.
pub fn parse(text: &str) -> Result<(Pattern, Option<TimeZone>), CalendarError> {
    let mut words: Vec<_> = text.split_ascii_whitespace().collect();
    if let [seconds] = words[..]
        && let Some(seconds) = seconds.strip_prefix('@')
    {
        return moment(seconds).map(|pattern| (pattern, Some(TimeZone::UTC)));
    }
    let mut named = None;
    if let [.., last] = words[..]
        && words.len() > 1
        && last.starts_with(|first: char| first.is_ascii_alphabetic())
    {
        named = Some(zone(last).map_err(CalendarError::new)?);
        words.pop();
    }
    let shorthand = match words[..] {
        [word] => SHORTHANDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)),
        _ => None,
    };
    if let Some((_, meaning)) = shorthand {
        words = meaning.split(' ').collect();
    }
    let mut pattern = Pattern::DAILY;
    let mut rest = &words[..];
    if let [first, after @ ..] = rest
        && first.starts_with(|first: char| first.is_ascii_alphabetic())
    {
        (pattern.weekdays, rest) = (weekdays(first)?, after);
    }
    if let [first, after @ ..] = rest
        && !first.contains(':')
    {
        date(first, &mut pattern)?;
        rest = after;
    }
    if let [first, after @ ..] = rest {
        time(first, &mut pattern)?;
        rest = after;
    }
    match rest {
        [] => Ok((pattern, named)),
        [word, ..] => Err(CalendarError::new(format!("{:?} is one word too many", cut(word)))),
    }
}

/// One second, as seconds since 1970.
fn moment(text: &str) -> Result<Pattern, CalendarError> {
    let refuse = || CalendarError::new(format!("{:?} are no seconds since 1970", cut(text)));
    let time = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let time = time.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()).ok_or_else(refuse)?;
    let time = TimeZone::UTC.to_datetime(time);
    let mut years = Years::NONE;
    years.insert(time.year().unsigned_abs());
    Ok(Pattern {
        seconds: 1 << time.second(),
        minutes: 1 << time.minute(),
        hours: 1 << time.hour(),
        days: Days::OfMonth(1 << time.day()),
        months: 1 << time.month(),
        years,
        ..Pattern::DAILY
    })
}

/// Days of the week: names in lists and ranges.
fn weekdays(text: &str) -> Result<u64, CalendarError> {
    let day = |name: &str| {
        let is = |(short, long, _): &&(&str, &str, u16)| short.eq_ignore_ascii_case(name) || long.eq_ignore_ascii_case(name);
        let found = WEEKDAYS.iter().find(is).map(|(_, _, day)| *day);
        found.ok_or_else(|| CalendarError::new(format!("{:?} is neither a day of the week nor a word such as daily", cut(name))))
    };
    let mut bits = 0;
    for part in text.strip_suffix(',').unwrap_or(text).split(',') {
        let (from, to) = part.split_once("..").or_else(|| part.split_once('-')).unwrap_or((part, part));
        let (from, to) = (day(from)?, day(to)?);
        if from > to {
            return Err(CalendarError::new(format!("days of the week: {:?} goes backwards; a week begins on Monday", cut(part))));
        }
        bits |= span(from, to);
    }
    Ok(bits)
}

/// Year, month and day; or month and day.
fn date(text: &str, pattern: &mut Pattern) -> Result<(), CalendarError> {
    let refuse = || {
        let form = "a date, such as *-*-01 or 2030-12-24 (the last day of a month is *-*~01), nor a time, such as 09:00";
        CalendarError::new(format!("{:?} is neither {form}", cut(text)))
    };
    let (front, day, is_from_end) = match text.rsplit_once(['-', '~']) {
        Some((front, day)) => (front, day, text.as_bytes().get(front.len()) == Some(&b'~')),
        None => return Err(refuse()),
    };
    let (year, month) = front.split_once('-').map_or((None, front), |(year, month)| (Some(year), month));
    if month.contains(['-', '~']) {
        return Err(refuse());
    }
    if let Some(year) = year.filter(|year| *year != "*") {
        let mut years = Years::NONE;
        each("year", year, |text| in_full(number("year", text)?), *YEARS.end(), |year| years.insert(year))?;
        pattern.years = years;
    }
    pattern.months = chain("month", month, (1, 12))?;
    let days = if is_from_end { from_end(day)? } else { chain("day", day, (1, 31))? };
    pattern.days = if is_from_end { Days::FromEnd(days) } else { Days::OfMonth(days) };
    Ok(())
}

/// A year, of which two digits are enough.
fn in_full(year: u16) -> Result<u16, CalendarError> {
    let year = match year {
        0..=69 => year + 2000,
        70..=99 => year + 1900,
        _ => year,
    };
    if YEARS.contains(&year) {
        Ok(year)
    } else {
        Err(CalendarError::new(format!("year: {year} is not from {} to {}", YEARS.start(), YEARS.end())))
    }
}

/// Hours, minutes and, if they are there, seconds.
fn time(text: &str, pattern: &mut Pattern) -> Result<(), CalendarError> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(hours), Some(minutes), seconds, None) => (hours, minutes, seconds),
        _ => return Err(CalendarError::new(format!("{:?} is no time, such as 09:00 or 09:00:30", cut(text)))),
    };
    pattern.hours = chain("hour", hours, (0, 23))?;
    pattern.minutes = chain("minute", minutes, (0, 59))?;
    pattern.seconds = seconds.map_or(Ok(1), |seconds| chain("second", seconds, (0, 59)))?;
    Ok(())
}

/// A list of values, ranges and steps, or all.
fn chain(what: &'static str, text: &str, bounds: (u16, u16)) -> Result<u64, CalendarError> {
    if text == "*" {
        return Ok(span(bounds.0, bounds.1));
    }
    let mut bits = 0;
    each(what, text, |text| number_in(what, text, bounds), bounds.1, |value| bits |= 1 << value)?;
    Ok(bits)
}

/// Days counted from the last. Steps go towards it.
fn from_end(text: &str) -> Result<u64, CalendarError> {
    if text == "*" {
        return Ok(span(1, 31));
    }
    let mut bits = 0;
    for part in text.split(',') {
        let (range, by) = part.split_once('/').map_or((part, None), |(range, by)| (range, Some(by)));
        let (near, far) = range.split_once("..").map_or((None, range), |(near, far)| (Some(near), far));
        let far = number_in("day", far, (1, 31))?;
        let near = match (near, by) {
            (Some(near), _) => number_in("day", near, (1, 31))?,
            (None, Some(_)) => 1,
            (None, None) => far,
        };
        if near > far {
            return Err(CalendarError::new(format!("day: {:?} goes backwards", cut(part))));
        }
        let by = by.map_or(Ok(1), |by| step("day", by))?;
        (near..=far).rev().step_by(by).for_each(|day| bits |= 1 << day);
    }
    Ok(bits)
}

/// Goes through the values of a list.
fn each(
    what: &'static str,
    text: &str,
    read: impl Fn(&str) -> Result<u16, CalendarError>,
    most: u16,
    mut insert: impl FnMut(u16),
) -> Result<(), CalendarError> {
    for part in text.split(',') {
        let (range, by) = part.split_once('/').map_or((part, None), |(range, by)| (range, Some(by)));
        let (from, to) = range.split_once("..").map_or((range, None), |(from, to)| (from, Some(to)));
        if from.contains('.') || to.is_some_and(|to| to.contains('.')) {
            return Err(CalendarError::new(format!("{what}: {:?} is no whole number; times are whole seconds", cut(part))));
        }
        let from = read(from)?;
        let to = match (to, by) {
            (Some(to), _) => read(to)?,
            (None, Some(_)) => most,
            (None, None) => from,
        };
        if from > to {
            return Err(CalendarError::new(format!("{what}: {:?} goes backwards", cut(part))));
        }
        let is_open = by.is_some() && !range.contains("..");
        let by = by.map_or(Ok(1), |by| step(what, by))?;
        if is_open && usize::from(to - from) < by {
            return Err(CalendarError::new(format!("{what}: the step of {:?} leads beyond {to}", cut(part))));
        }
        (from..=to).step_by(by).for_each(&mut insert);
    }
    Ok(())
}
