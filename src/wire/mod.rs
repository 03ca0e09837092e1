//! What crosses a socket between Ash and its clients: ids, bodies, events, problems.
//!
//! Data only. Names and shapes are those of the wire contract that existing clients speak; what
//! Ash adds stands beside them in the same style. Fields are added, never renamed or removed.

#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod agent;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod analytics;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod attachment;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod audit;
#[cfg(any(feature = "daemon", feature = "cli", feature = "shim"))]
pub mod binding;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod credential;
#[cfg(any(feature = "daemon", feature = "cli", feature = "shim"))]
pub mod egress;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod eval;
pub mod event;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod exec;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod file;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod gc;
pub mod health;
pub mod id;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod key;
#[cfg(any(feature = "daemon", feature = "cli", feature = "shim"))]
pub mod limits;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod log;
pub mod message;
pub mod permission;
#[cfg(any(feature = "daemon", feature = "shim"))]
pub mod price;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod problem;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod project_file;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod prompt_version;
pub mod quantity;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod queue;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod resources;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod schedule;
#[cfg(feature = "daemon")]
mod schema;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod scope;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod secret;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod security;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod session;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod snapshot;
#[cfg(any(feature = "daemon", feature = "cli", feature = "shim", feature = "init"))]
pub mod terminal;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod time;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod turn;
pub mod usage;
#[cfg(any(feature = "daemon", feature = "cli", feature = "shim"))]
pub mod weakness;
#[cfg(any(feature = "daemon", feature = "cli"))]
pub mod webhook;

pub use id::{
    AttachmentId, CredentialId, EvalCaseId, EvalResultId, EvalRunId, FileId, KeyId, PermissionId, PromptVersionId, QueueId,
    SandboxId, ScheduleId, SessionId, TurnId, WebhookId,
};
#[cfg(any(feature = "daemon", feature = "cli"))]
pub use time::Timestamp;

/// The version that `/health`, `session_start` and `--version` name.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
