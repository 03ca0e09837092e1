//! `ash-init`: process 1 inside a sandbox.
//!
//! It starts and signals programs when the shim asks, reaps every process that ends, and opens
//! listeners on the sandbox's loopback, which it hands out. One thread, one loop, no parser of
//! untrusted data: requests come from the shim alone, over the socket that is its standard input.
//! When the shim's end of that socket closes, it kills everything and exits.
//!
//! ```text
//! ash-shim ══ socket pair ══▶ serve ── fork ──▶ runtime, tools
//!                              ▲  └── fork ──▶ ash-init unpack /work
//!                              └── SIGCHLD (signalfd): reap
//! ```
//!
//! `ash-init unpack DIR` is the same program as an ordinary process inside: see [`unpack`].

mod serve;
mod sys;
pub mod unpack;

use std::ffi::OsString;

/// Why init ended.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The arguments are wrong.
    #[error("usage: ash-init serve | ash-init unpack DIR")]
    Usage,
    /// A system call failed.
    #[error("{step}")]
    Sys {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The shim sent what init does not understand.
    #[error("message of the shim can not be read")]
    Message(#[from] serde_json::Error),
    /// The archive could not be unpacked.
    #[error("unpack")]
    Unpack(#[from] unpack::UnpackError),
}

impl InitError {
    fn sys<E: Into<std::io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Sys { step, source: source.into() }
    }
}

/// Runs the program with its arguments (without its name), to its end.
pub fn run(mut args: impl Iterator<Item = OsString>) -> Result<(), InitError> {
    let (Some(command), argument, None) = (args.next(), args.next(), args.next()) else { return Err(InitError::Usage) };
    match (command.to_str(), argument) {
        (Some("serve"), None) => serve::serve(),
        (Some("unpack"), Some(folder)) => Ok(unpack::unpack(std::io::stdin().lock(), folder.as_ref())?),
        _ => Err(InitError::Usage),
    }
}
