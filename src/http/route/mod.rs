//! The handlers, one file for each resource.

pub mod agent_files;
pub mod agents;
pub mod credentials;
pub mod doctor;
pub mod egress;
pub mod exec;
pub mod files;
pub mod gc;
pub mod health;
pub mod keys;
pub mod limits;
pub mod logs;
pub mod metrics;
pub mod permissions;
pub mod resources;
pub mod security;
pub mod sessions;
pub mod snapshots;
pub mod turns;
pub mod workspace;
