//! Egress: what of the network a sandbox may reach, as people write it and as it is told.
//!
//! A list has entries: a host with an optional port, or the name of a preset. Three lists count
//! for a session: that of its agent, that of the session, which takes the place of the agent's, and
//! the operator's, which bounds both. A target is reached if the first list that there is names it
//! and the operator's covers it.
//!
//! | entry | means |
//! | --- | --- |
//! | `api.example.com` | this name at ports 80 and 443 |
//! | `*.example.com` | every name below it, at any depth, but not `example.com` itself |
//! | `*` | every name that leads to the public network, but no address that is written as a number |
//! | `api.example.com:8443` | at this port alone; `:*` at every port |
//! | `192.0.2.7`, `[2001:db8::7]:22` | this address, where a program asks for it by number |
//! | `pypi` | a [`Preset`] |
//!
//! Names are compared in lower case and without a dot at their end. A name with other letters than
//! those of ASCII is written, and asked for, in its ASCII form (`xn--…`). What looks like an address
//! in another spelling (`0177.0.0.1`, `2130706433`, `127.1`) is no name, and is never interpreted.

pub mod address;
mod host;
mod preset;

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::address::{Range, RangeError};
pub use self::host::{Host, HostError, Target, TargetError};
pub use self::preset::Preset;

/// Entries of one list.
pub const ENTRIES_MAX: usize = 100;
/// Ports of an entry that names none.
pub const WEB: [u16; 2] = [443, 80];

/// Which names a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Every name.
    Any,
    /// Every name below this one, at any depth.
    Below(String),
    /// This name or address alone.
    One(Host),
}

/// Which ports a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// [`WEB`].
    Web,
    /// Every port.
    Any,
    /// This port alone.
    One(u16),
}

/// A host, or a set of them, with its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The names.
    pub names: Names,
    /// The ports.
    pub ports: Ports,
}

/// An entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A set of rules that has a name.
    Preset(Preset),
    /// A rule.
    Rule(Rule),
}

/// A text that is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} can not be allowed: {reason}")]
pub struct EntryError {
    /// The text, or its beginning.
    pub entry: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Ports {
    const fn has(self, port: u16) -> bool {
        match self {
            Self::Web => port == WEB[0] || port == WEB[1],
            Self::Any => true,
            Self::One(one) => one == port,
        }
    }

    const fn covers(self, other: Self) -> bool {
        match other {
            Self::Any => matches!(self, Self::Any),
            Self::Web => self.has(WEB[0]) && self.has(WEB[1]),
            Self::One(port) => self.has(port),
        }
    }
}

impl Rule {
    /// The rule that names this target alone.
    pub fn of(target: &Target) -> Self {
        Self { names: Names::One(target.host.clone()), ports: Ports::One(target.port) }
    }

    /// Whether it names the target. `*` and `*.example.com` name no address.
    pub fn admits(&self, target: &Target) -> bool {
        let names = match (&self.names, &target.host) {
            (Names::Any, Host::Name(_)) => true,
            (Names::Below(above), Host::Name(name)) => is_below(name, above),
            (Names::One(one), host) => one == host,
            (Names::Any | Names::Below(_), Host::Ip(_)) => false,
        };
        names && self.ports.has(target.port)
    }

    /// Whether it says which names it is about. `*` does not, and so counts for nothing but the
    /// public network.
    pub const fn is_named(&self) -> bool {
        !matches!(self.names, Names::Any)
    }

    /// Whether it names everything that the other one does. As a bound, `*` has addresses, too.
    pub fn covers(&self, other: &Self) -> bool {
        let names = match (&self.names, &other.names) {
            (Names::Any, _) => true,
            (Names::Below(above), Names::Below(other)) => other == above || is_below(other, above),
            (Names::Below(above), Names::One(Host::Name(name))) => is_below(name, above),
            (one @ Names::One(_), other) => one == other,
            (Names::Below(_), Names::Any | Names::One(Host::Ip(_))) => false,
        };
        names && self.ports.covers(other.ports)
    }
}

fn is_below(name: &str, above: &str) -> bool {
    name.strip_suffix(above).is_some_and(|head| head.len() > 1 && head.ends_with('.'))
}

impl Entry {
    /// The rules it stands for.
    pub fn rules(&self) -> Vec<Rule> {
        match self {
            Self::Preset(preset) => preset.rules(),
            Self::Rule(rule) => vec![rule.clone()],
        }
    }
}

impl FromStr for Rule {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        let refuse = |reason: String| EntryError { entry: excerpt(text), reason };
        if text.contains("://") || text.contains('/') {
            return Err(refuse("write the host alone, without scheme and path, such as \"api.example.com:8443\"".to_owned()));
        }
        let (host, port) = host::split_port(text).map_err(|error| refuse(error.to_string()))?;
        let ports = match port {
            None => Ports::Web,
            Some("*") => Ports::Any,
            Some(port) => Ports::One(host::port(port).map_err(|error| refuse(error.to_string()))?),
        };
        let names = match host {
            "*" => Names::Any,
            _ => match host.strip_prefix("*.") {
                Some(above) => match Host::parse(above).map_err(|error| refuse(error.to_string()))? {
                    Host::Name(above) => Names::Below(above),
                    Host::Ip(_) => return Err(refuse("there are no names below an address".to_owned())),
                },
                None if host.contains('*') => {
                    return Err(refuse(
                        "\"*\" stands alone or in the place of the first labels, as in \"*.example.com\"".to_owned(),
                    ));
                }
                None => Names::One(Host::parse(host).map_err(|error| refuse(error.to_string()))?),
            },
        };
        Ok(Self { names, ports })
    }
}

impl FromStr for Entry {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        match Preset::find(text) {
            Some(preset) => Ok(Self::Preset(preset)),
            None => text.parse().map(Self::Rule),
        }
    }
}

/// The beginning of a text of others.
fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.names {
            Names::Any => f.write_str("*"),
            Names::Below(above) => write!(f, "*.{above}"),
            Names::One(host) => write!(f, "{host}"),
        }?;
        match self.ports {
            Ports::Web => Ok(()),
            Ports::Any => f.write_str(":*"),
            Ports::One(port) => write!(f, ":{port}"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(preset) => f.write_str(preset.name()),
            Self::Rule(rule) => rule.fmt(f),
        }
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Entries, at most [`ENTRIES_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct List(Vec<Entry>);

/// A list with more than [`ENTRIES_MAX`] entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has {0} entries, at most {ENTRIES_MAX} are allowed")]
pub struct ListError(usize);

impl List {
    /// A list of these.
    ///
    /// # Errors
    ///
    /// If they are too many.
    pub fn new(entries: Vec<Entry>) -> Result<Self, ListError> {
        if entries.len() > ENTRIES_MAX { Err(ListError(entries.len())) } else { Ok(Self(entries)) }
    }

    /// The list that names everything, which bounds nothing.
    pub fn everything() -> Self {
        Self(vec![Entry::Rule(Rule { names: Names::Any, ports: Ports::Any })])
    }

    /// The entries as written.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The rules of all entries.
    pub fn rules(&self) -> Vec<Rule> {
        self.0.iter().flat_map(Entry::rules).collect()
    }

    /// The first entry of another list that this one does not cover, and its place in that.
    pub fn first_beyond<'a>(&self, other: &'a Self) -> Option<(usize, &'a Entry)> {
        let bound = self.rules();
        let covered = |entry: &Entry| entry.rules().iter().all(|rule| bound.iter().any(|bound| bound.covers(rule)));
        other.0.iter().enumerate().find(|(_, entry)| !covered(entry))
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, entry) in self.0.iter().enumerate() {
            write!(f, "{}{entry}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// `egress` of a new session, and body of `PATCH /api/sessions/{id}/egress`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// What may be reached beside the model, in the place of the agent's list. Empty: nothing.
    pub allow: List,
}

/// Answer of `GET` and `PATCH /api/sessions/{id}/egress`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct EgressBody {
    /// What may be reached beside the model, as far as the operator's list covers it.
    pub allow: List,
    /// Whose list that is.
    pub source: Source,
    /// The operator's list.
    pub operator: List,
    /// Whether a change counts already; absent where nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
}

/// Whether a change of what may be reached counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "daemon", schema(as = EgressApplied))]
#[serde(rename_all = "lowercase")]
pub enum Applied {
    /// It does: the sandbox said so, or there is none.
    Now,
    /// It is stored, and the sandbox is told before its next turn. It is frozen, is being started, or
    /// did not say in time that it took it; until then the list before may count.
    Pending,
    /// One that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Whose list counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "daemon", schema(as = EgressSource))]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// That of the session.
    Session,
    /// That of the agent.
    Agent,
    /// Nobody's: nothing may be reached.
    Default,
    /// One that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Data of an `egress` event: attempts of one kind to reach one host. The first is told at once,
/// those of the minute after it in one event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct EgressEvent {
    /// What became of them.
    pub verdict: Verdict,
    /// The host, in its normal form; `*` for those beyond the first that were kept apart.
    pub host: String,
    /// The port; absent for `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How many.
    pub count: u64,
    /// Why it was denied, a sentence; that of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "daemon", schema(as = EgressVerdict))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was let out.
    Allowed,
    /// It was not.
    Denied,
}

#[cfg(test)]
mod tests;
