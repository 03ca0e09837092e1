//! The service manager: what it hands to a program, and how it is asked over D-Bus.
//!
//! The D-Bus half is narrow on purpose: only what `ash-launcher` calls, with types of its own, so
//! that all that root can be made to ask for is read in three short files.

pub mod activate;
#[cfg(feature = "launcher")]
pub mod job;
#[cfg(feature = "launcher")]
pub mod property;
#[cfg(feature = "launcher")]
pub mod proxy;
