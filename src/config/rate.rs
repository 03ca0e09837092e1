//! How often something may be done: `600/min`, or `off`.

use std::fmt;
use std::str::FromStr;

/// So many times in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How often, from 1 to [`TIMES_MAX`].
    pub times: u32,
    /// Within so many seconds: 1, 60 or 3600.
    pub seconds: u32,
}

/// The most that can be said.
pub const TIMES_MAX: u32 = 1_000_000;
const UNITS: [(&str, u32); 3] = [("s", 1), ("min", 60), ("h", 3600)];

/// A text that is no [`Rate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither \"off\" nor a rate such as \"600/min\": 1 to {TIMES_MAX}, and s, min or h")]
pub struct RateError(String);

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let refuse = || RateError(text.chars().take(32).collect());
        let (times, unit) = text.split_once('/').ok_or_else(refuse)?;
        let (_, seconds) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
        let is_number = times.bytes().all(|byte| byte.is_ascii_digit());
        let times = times.parse().ok().filter(|times| is_number && (1..=TIMES_MAX).contains(times)).ok_or_else(refuse)?;
        Ok(Self { times, seconds })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, seconds)| *seconds == self.seconds).map_or("s", |(name, _)| name);
        write!(f, "{}/{unit}", self.times)
    }
}

/// Reads a rate; `None` for `off`.
///
/// # Errors
///
/// The reason why it is neither.
pub fn rate(text: &str) -> Result<Option<Rate>, String> {
    if text == "off" { Ok(None) } else { text.parse().map(Some).map_err(|error: RateError| error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_back_as_they_print() {
        for (text, times, seconds) in [("600/min", 600, 60), ("1/s", 1, 1), ("1000000/h", 1_000_000, 3600)] {
            assert_eq!(text.parse(), Ok(Rate { times, seconds }));
            assert_eq!(Rate { times, seconds }.to_string(), text);
        }
        for bad in ["", "600", "0/s", "1000001/s", "-1/s", "+1/s", "1/m", "1/d", "1.5/s", "/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        assert_eq!(rate("off"), Ok(None));
    }
}
