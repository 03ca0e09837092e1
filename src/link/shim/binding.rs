//! Credentials that are bound to hosts, as the shim is told of them.

use serde::{Deserialize, Serialize};

/// A credential that is put into calls to one host. Its value never enters the sandbox.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Binding {
    /// What it is called inside: the variable with the placeholder, and the first part of its path.
    pub name: String,
    /// The only host that gets it, with its port.
    pub host: String,
    /// Name of the header that is put in.
    pub header: String,
    /// What it says, which holds the secret. `None`: the credential was deleted, and calls are refused.
    pub value: Option<String>,
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.value.is_some() { "set" } else { "none" };
        let mut shown = f.debug_struct("Binding");
        shown.field("name", &self.name).field("host", &self.host).field("header", &self.header).field("value", &value).finish()
    }
}
