//! `[files]`: files of tenants that are of no session.

use std::ops::RangeInclusive;

use crate::wire::quantity::ByteCount;

/// What [`Files::max`] can be.
pub(super) const MAX: RangeInclusive<u32> = 0..=1_000_000;

/// `[files]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    /// Files of one tenant. Default: 1000.
    pub max: u32,
    /// Bytes of the files of one tenant together. Default: 1 GiB.
    pub max_bytes: ByteCount,
}

impl Default for Files {
    fn default() -> Self {
        Self { max: 1000, max_bytes: ByteCount(1 << 30) }
    }
}
