//! `[schedules]`: how many, and how often.

use std::ops::RangeInclusive;

use crate::wire::quantity::TimeSpan;

/// What [`Schedules::max`] can be.
pub(super) const MAX: RangeInclusive<u32> = 0..=1000;
/// What [`Schedules::min_interval`] can be.
pub(super) const MIN_INTERVAL: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(7 * 86_400);

/// `[schedules]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedules {
    /// Schedules of one tenant. Default: 100.
    pub max: u32,
    /// The least time from one time of a schedule to the next, without their jitter. Default: 1m.
    pub min_interval: TimeSpan,
}

impl Default for Schedules {
    fn default() -> Self {
        Self { max: 100, min_interval: TimeSpan(60) }
    }
}
