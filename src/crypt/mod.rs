//! Secrets: how they are made, kept and compared.

pub mod env;
pub mod master;
pub mod token;
