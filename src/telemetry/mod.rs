//! What the programs of Ash tell about themselves.

pub mod log;
#[cfg(feature = "daemon")]
pub mod metrics;
#[cfg(feature = "daemon")]
pub mod names;
#[cfg(feature = "daemon")]
pub mod trace;
