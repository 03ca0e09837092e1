//! Who is calling, and what that allows.
//!
//! On the control socket the kernel says who connects ([`peer`]), and everything is allowed; on TCP
//! an API key does ([`key`]), and says what it allows.

pub mod key;
pub mod peer;

use crate::wire::scope::Scopes;
use crate::wire::{KeyId, Timestamp};

/// The tenant of everybody on the control socket, and of keys made there that name no other.
pub const DEFAULT_TENANT: &str = "default";

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant whose things it sees.
    pub tenant: String,
    /// How it is named in the journal: `uid:1000` or `key:<id>`.
    pub name: String,
    /// Whether it came over the control socket.
    pub local: bool,
    /// What it may do.
    pub scopes: Scopes,
    /// The one agent that it knows; `None`: all of its tenant.
    pub agent: Option<String>,
    /// Its API key, if it came with one.
    pub key: Option<KeyId>,
    /// When that key becomes useless.
    pub expires_at: Option<Timestamp>,
}

impl Principal {
    /// Whether it may know of an agent of its tenant.
    pub fn knows(&self, agent: &str) -> bool {
        self.agent.as_deref().is_none_or(|own| own == agent)
    }
}
