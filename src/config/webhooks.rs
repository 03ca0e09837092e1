//! `[webhooks]`: who can be told of events.

use std::ops::RangeInclusive;

use crate::wire::egress::Range;

/// What [`Webhooks::max`] can be.
pub(super) const MAX: RangeInclusive<u32> = 0..=1000;
/// What [`Webhooks::keep_deliveries`] can be.
pub(super) const KEEP: RangeInclusive<u32> = 1..=100_000;

/// `[webhooks]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhooks {
    /// Ranges that may be told although they are not public. An address of this host has to be named by itself.
    /// Default: none.
    pub allow_private: Vec<Range>,
    /// Whether events may be sent without TLS. Default: no.
    pub allow_http: bool,
    /// Webhooks of one tenant. Default: 20.
    pub max: u32,
    /// Deliveries of one webhook that are kept for reading. Default: 1000.
    pub keep_deliveries: u32,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self { allow_private: Vec::new(), allow_http: false, max: 20, keep_deliveries: 1000 }
    }
}
