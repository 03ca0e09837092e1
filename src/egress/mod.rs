//! What a sandbox may reach, decided from what is said of it: nothing is connected to here.
//!
//! The shim holds what runs inside to it, and the daemon what callers put into conversations.

pub mod asked;
pub mod fetch;
pub mod policy;
