//! What to run, and how it ended: pure data, checked.
//!
//! It stands with the language that carries it to the launcher, as the privileged half must not
//! know anything above that.

pub use crate::link::launch::{Ended, Limits, Spec, SpecError, bounds};
