//! Sizes as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes. Text form: digits with an optional `K`, `M`, `G` or `T` (powers of 1024,
/// as in systemd.resource-control(5)); printed with the largest suffix that loses nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ByteCount(pub u64);

/// A text that is not a [`ByteCount`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size: write digits with an optional K, M, G or T, such as \"512M\"")]
pub struct ByteCountError(String);

impl FromStr for ByteCount {
    type Err = ByteCountError;

    fn from_str(text: &str) -> Result<Self, ByteCountError> {
        let refuse = || ByteCountError(text.chars().take(32).collect());
        let (digits, shift) = match text.bytes().last() {
            Some(b'K') => (&text[..text.len() - 1], 10),
            Some(b'M') => (&text[..text.len() - 1], 20),
            Some(b'G') => (&text[..text.len() - 1], 30),
            Some(b'T') => (&text[..text.len() - 1], 40),
            _ => (text, 0),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse());
        }
        let count: u64 = digits.parse().map_err(|_| refuse())?;
        count.checked_mul(1 << shift).map(Self).ok_or_else(refuse)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, suffix) in [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{suffix}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Serialize for ByteCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A share of processor time in percent of one processor. Text form: digits and `%`, as in
/// `CPUQuota=` of systemd.resource-control(5); `200%` is two whole processors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Percent(pub u32);

/// A text that is not a [`Percent`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a share of processor time: write digits and a percent sign, such as \"200%\"")]
pub struct PercentError(String);

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let refuse = || PercentError(text.chars().take(32).collect());
        let digits = text.strip_suffix('%').ok_or_else(refuse)?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse());
        }
        digits.parse().map(Self).map_err(|_| refuse())
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A length of time in whole seconds. Text form: digits and `s`, `m`, `h` or `d`; printed with the
/// largest unit that loses nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimeSpan(pub u64);

/// A text that is not a [`TimeSpan`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time: write digits and s, m, h or d, such as \"10m\"")]
pub struct TimeSpanError(String);

const TIME_UNITS: [(u64, char); 4] = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];

impl FromStr for TimeSpan {
    type Err = TimeSpanError;

    fn from_str(text: &str) -> Result<Self, TimeSpanError> {
        let refuse = || TimeSpanError(text.chars().take(32).collect());
        let unit = TIME_UNITS.iter().find(|(_, unit)| text.ends_with(*unit)).ok_or_else(refuse)?;
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse());
        }
        let count: u64 = digits.parse().map_err(|_| refuse())?;
        count.checked_mul(unit.0).map(Self).ok_or_else(refuse)
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = TIME_UNITS.iter().find(|(seconds, _)| self.0 != 0 && self.0.is_multiple_of(*seconds)).unwrap_or(&(1, 's'));
        write!(f, "{}{}", self.0 / unit.0, unit.1)
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// US dollars, in millionths. In JSON and in configuration a number of dollars.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Dollars(pub u64);

impl Dollars {
    /// The most that can be said.
    const MOST: f64 = 1e9;
    const PARTS: f64 = 1e6;

    /// As a number of dollars.
    pub const fn as_f64(self) -> f64 {
        self.0 as f64 / Self::PARTS
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_f64())
    }
}

/// A text that is not [`Dollars`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a number of US dollars from 0 to {most}, such as \"2.5\"", most = Dollars::MOST)]
pub struct DollarsError(String);

impl FromStr for Dollars {
    type Err = DollarsError;

    fn from_str(text: &str) -> Result<Self, DollarsError> {
        let number = text.parse().ok().filter(|number| (0.0..=Self::MOST).contains(number));
        let dollars = number.map(|number: f64| Self((number * Self::PARTS).round() as u64));
        dollars.ok_or_else(|| DollarsError(text.chars().take(32).collect()))
    }
}

impl Serialize for Dollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl serde::de::Visitor<'_> for Number {
            type Value = Dollars;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "US dollars, a number from 0 to {}", Dollars::MOST)
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Dollars, E> {
                let refuse = || E::invalid_value(serde::de::Unexpected::Float(number), &self);
                let is_price = (0.0..=Dollars::MOST).contains(&number);
                is_price.then(|| Dollars((number * Dollars::PARTS).round() as u64)).ok_or_else(refuse)
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Dollars, E> {
                self.visit_f64(number as f64)
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Dollars, E> {
                self.visit_f64(number as f64)
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// The least and the most that a limit may say; the configuration refuses what
/// lies outside, and so does the launcher.
pub mod bounds {
    use std::ops::RangeInclusive;

    use super::TimeSpan;

    /// Bytes of memory. The runtime does not start below 128 MiB.
    pub const MEMORY: RangeInclusive<u64> = (128 << 20)..=(1 << 50);
    /// Percent of one processor.
    pub const CPU: RangeInclusive<u32> = 1..=100_000;
    /// Processes and threads. The runtime, bubblewrap, shim and init need 24.
    pub const TASKS: RangeInclusive<u32> = 24..=4_000_000;
    /// Bytes of disk.
    pub const DISK: RangeInclusive<u64> = (16 << 20)..=(1 << 55);
    /// Bytes above which memory is taken back.
    pub const MEMORY_HIGH: RangeInclusive<u64> = (64 << 20)..=(1 << 50);
    /// Bytes of swap.
    pub const SWAP: RangeInclusive<u64> = 0..=(1 << 50);
    /// Shares of the disk's time, see `IOWeight=` in systemd.resource-control(5).
    pub const IO_WEIGHT: RangeInclusive<u32> = 1..=10_000;
    /// Bytes read or written in a second.
    pub const IO_RATE: RangeInclusive<u64> = (1 << 20)..=(1 << 40);
    /// Open files of one process. The most is that of the unit; the runtime needs some hundred.
    pub const OPEN_FILES: RangeInclusive<u32> = 256..=16_384;
    /// Bytes of one file. The runtime's own record of a conversation is one.
    pub const FILE_SIZE: RangeInclusive<u64> = (16 << 20)..=(1 << 55);
    /// How long a sandbox may live.
    pub const LIFETIME: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(3650 * 86_400);
    /// How long a turn may take.
    pub const TURN: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(365 * 86_400);
    /// How long a script of an agent may take.
    pub const SCRIPT: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(3600);
    /// How long a sandbox is idle before something is done about it; 0 is at once.
    pub const IDLE: RangeInclusive<TimeSpan> = TimeSpan(0)..=TimeSpan(3650 * 86_400);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read_as_systemd_reads_them() {
        for (text, bytes) in [("0", 0), ("1", 1), ("512M", 512 << 20), ("1G", 1 << 30), ("1024K", 1 << 20)] {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)), "{text}");
        }
        for text in ["", "M", "1.5G", "-1", "1 G", "1g", "99999999999999999999", "99999999T"] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
    }

    #[test]
    fn shares_need_their_sign() {
        assert_eq!("200%".parse(), Ok(Percent(200)));
        for text in ["", "%", "200", "2e2%", "-5%"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_of_time_need_their_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("10m", 600), ("1h", 3600), ("30d", 2_592_000)] {
            assert_eq!(text.parse(), Ok(TimeSpan(seconds)), "{text}");
        }
        for text in ["", "m", "10", "1.5h", "-1s", "1 h", "1H", "99999999999999999999s", "999999999999999999d"] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text}");
        }
        assert_eq!(TimeSpan(5400).to_string(), "90m");
    }

    proptest! {
        #[test]
        fn printing_and_reading_agree(bytes: u64) {
            prop_assert_eq!(ByteCount(bytes).to_string().parse(), Ok(ByteCount(bytes)));
            prop_assert_eq!(TimeSpan(bytes).to_string().parse(), Ok(TimeSpan(bytes)));
        }
    }
}
