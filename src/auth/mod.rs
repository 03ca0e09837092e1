//! Who is calling, and what that allows.
//!
//! On the control socket the kernel says who connects ([`peer`]); on TCP an API key does ([`key`]).

pub mod key;
pub mod peer;

/// The tenant of everybody on the control socket, and of keys made there.
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
}
