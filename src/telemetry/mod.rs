//! What the programs of Ash tell about themselves.

pub mod log;
#[cfg(feature = "daemon")]
pub mod metrics;
