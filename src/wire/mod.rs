//! What crosses a socket between Ash and its clients: ids, bodies, events, problems.
//!
//! Data only. Names and shapes are those of the wire contract that existing clients speak; what
//! Ash adds stands beside them in the same style. Fields are added, never renamed or removed.

#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod agent;
pub mod event;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod health;
pub mod id;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod key;
pub mod message;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod problem;
pub mod quantity;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod session;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod time;

pub use id::{KeyId, SandboxId, SessionId, TurnId};
#[cfg(any(feature = "daemon", feature = "cli"))]
pub use time::Timestamp;

/// The version that `/health`, `session_start` and `--version` name.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
