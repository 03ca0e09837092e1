//! What an API key allows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A right. Each route needs one of them. [`Self::Admin`] implies the others; those imply nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Scope {
    /// Look at things.
    Read,
    /// Make sessions and work in them: messages, commands, files, answers to requests for permission.
    Run,
    /// Deploy, change and delete agents.
    Deploy,
    /// Everything, and API keys, credentials, the audit log and the host's own affairs.
    Admin,
}

/// A text that is no [`Scope`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of read, run, deploy and admin")]
pub struct ScopeError(String);

impl Scope {
    /// All that there are.
    pub const ALL: [Self; 4] = [Self::Read, Self::Run, Self::Deploy, Self::Admin];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let refuse = || ScopeError(text.chars().take(32).collect());
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(refuse)
    }
}

/// Some of the scopes; on the wire a list of their words, as text with commas between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// All rights there are.
    pub const ADMIN: Self = Self(Scope::Admin.bit());

    /// Those that are named.
    pub fn each(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }

    /// Whether none is named.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether they allow what needs this one.
    pub const fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Whether they allow all that the others allow.
    pub fn cover(self, others: Self) -> bool {
        others.each().all(|scope| self.allow(scope))
    }

    /// What they allow below [`Scope::Admin`].
    pub fn without_admin(self) -> Self {
        Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin && self.allow(*scope)).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.each().map(Scope::as_str).collect();
        f.pad(&words.join(","))
    }
}

impl FromStr for Scopes {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        text.split(',').filter(|word| !word.is_empty()).map(str::parse).collect()
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.each())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Scope>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_implies_the_others_and_those_imply_nothing() {
        for scope in Scope::ALL {
            assert!(Scopes::ADMIN.allow(scope), "{scope}");
            let alone = Scopes::from_iter([scope]);
            assert_eq!(
                Scope::ALL.into_iter().filter(|other| alone.allow(*other)).count(),
                if scope == Scope::Admin { 4 } else { 1 }
            );
            assert!(Scopes::ADMIN.cover(alone));
            assert_eq!(alone.cover(Scopes::ADMIN), scope == Scope::Admin);
        }
        assert!(!Scopes::default().allow(Scope::Read));
        assert_eq!(Scopes::ADMIN.without_admin().to_string(), "read,run,deploy");
    }

    #[test]
    fn scopes_print_in_order_and_read_back() {
        let scopes: Scopes = "run,read,run".parse().expect("scopes");
        assert_eq!(scopes.to_string(), "read,run");
        assert_eq!(serde_json::to_string(&scopes).ok().as_deref(), Some(r#"["read","run"]"#));
        assert_eq!(serde_json::from_str::<Scopes>(r#"["run","read"]"#).ok(), Some(scopes));
        assert!("read,write".parse::<Scopes>().is_err_and(|error| error.to_string().contains("\"write\"")));
        assert!(serde_json::from_str::<Scopes>(r#"["write"]"#).is_err());
    }
}
