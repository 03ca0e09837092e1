//! Expressions of five fields, as crontab(5) has them.

use super::pattern::{Days, Pattern, WEEKDAYS, number_in, span, step};
use super::{CalendarError, cut};

/// Words for whole expressions.
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Whether a text is meant as one of these: five words or more, or a nickname.
pub fn is_meant(text: &str) -> bool {
    text.split_ascii_whitespace().count() >= 5
        || text.strip_prefix('@').is_some_and(|rest| rest.starts_with(|c: char| !c.is_ascii_digit()))
}

/// Reads an expression.
pub fn parse(text: &str) -> Result<Pattern, CalendarError> {
    let text = match NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        Some((_, meaning)) => meaning,
        None if text.starts_with('@') => {
            let names: Vec<_> = NICKNAMES.iter().map(|(name, _)| *name).collect();
            return Err(CalendarError::new(format!("{:?} is none of {}", cut(text), names.join(", "))));
        }
        None => text,
    };
    let fields: Vec<_> = text.split_ascii_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        let count = fields.len();
        let five = "an expression of cron has five: minute, hour, day of the month, month, day of the week";
        return Err(CalendarError::new(format!("has {count} fields; {five}")));
    };
    let weekdays = field("day of the week", weekday, (0, 7), day_number)?;
    Ok(Pattern {
        minutes: field("minute", minute, (0, 59), |_| None)?,
        hours: field("hour", hour, (0, 23), |_| None)?,
        days: Days::OfMonth(field("day of the month", day, (1, 31), |_| None)?),
        months: field("month", month, (1, 12), month_number)?,
        // There Sunday is 0 and 7, here 6.
        weekdays: weekdays >> 1 & span(0, 6) | (weekdays & 1) << 6,
        // A field that begins with a star restricts nothing, as in all crons since Vixie's.
        is_either: !day.starts_with('*') && !weekday.starts_with('*'),
        ..Pattern::DAILY
    })
}

fn day_number(name: &str) -> Option<u16> {
    let found = WEEKDAYS.iter().find(|(short, _, _)| short.eq_ignore_ascii_case(name));
    found.map(|(_, _, day)| (day + 1) % 7)
}

fn month_number(name: &str) -> Option<u16> {
    (1..).zip(MONTHS).find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| number)
}

fn field(what: &str, text: &str, bounds: (u16, u16), named: impl Fn(&str) -> Option<u16>) -> Result<u64, CalendarError> {
    let read = |text: &str| named(text).map_or_else(|| number_in(what, text, bounds), Ok);
    let mut bits = 0;
    for part in text.split(',') {
        let (range, by) = part.split_once('/').map_or((part, None), |(range, by)| (range, Some(by)));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => bounds,
            // A name for Sunday ends a week as well.
            Some((from, to)) => match (read(from)?, read(to)?) {
                (from, 0) if bounds.1 == 7 && from > 0 => (from, 7),
                both => both,
            },
            None if by.is_some() => {
                return Err(CalendarError::new(format!(
                    "{what}: a step needs a range, such as */5 or 10-30/5, not {:?}",
                    cut(part)
                )));
            }
            None => {
                let value = read(range)?;
                (value, value)
            }
        };
        if from > to {
            return Err(CalendarError::new(format!("{what}: {:?} goes backwards", cut(part))));
        }
        let by = by.map_or(Ok(1), |by| step(what, by))?;
        (from..=to).step_by(by).for_each(|value| bits |= 1 << value);
    }
    Ok(bits)
}
