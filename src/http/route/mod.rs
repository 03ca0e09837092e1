//! The handlers, one file for each resource.

pub mod agents;
pub mod doctor;
pub mod health;
pub mod keys;
pub mod sessions;
