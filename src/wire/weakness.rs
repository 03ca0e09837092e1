//! Walls that sandboxes are without.

use serde::{Deserialize, Serialize};

/// A wall that the sandboxes of a host are without, by the operator's will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Weakness {
    /// The kernel can not filter system calls, so everything inside may make all of them.
    NoSeccomp,
    /// The kernel has no cgroup namespaces: the sandbox sees where it stands among the host's units.
    NoCgroupNamespace,
    /// Bubblewrap can not forbid further user namespaces. The filter of system calls does.
    NoUsernsLimit,
    /// Debuggers work. With what they use, a tool can change what the runtime says.
    Ptrace,
    /// A weakness that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Weakness {
    /// The word on the wire and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSeccomp => "no-seccomp",
            Self::NoCgroupNamespace => "no-cgroup-namespace",
            Self::NoUsernsLimit => "no-userns-limit",
            Self::Ptrace => "ptrace",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Weakness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
