//! Environment variables at rest: names in the clear, as they are shown, values sealed where there is a
//! master key.
//!
//! As JSON, values in the clear are an object, as every release wrote them; sealed ones are the array
//! `[master key, nonce and ciphertext in base64url, [name, …]]`, which seals the whole object.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::master::{MasterKeys, Place, SealError, Sealed};

/// Variables as the database has them. Printing them for debugging shows their names only.
#[derive(Clone, PartialEq, Eq)]
pub enum KeptEnv {
    /// With their values, where there was no master key, or there are none.
    Clear(BTreeMap<String, String>),
    /// Sealed for their place.
    Sealed {
        /// The names, in order.
        names: Vec<String>,
        /// All of them with their values.
        sealed: Sealed,
    },
}

/// Whose variables they are, and so where they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvOwner {
    /// An agent.
    Agent {
        /// The tenant.
        tenant: String,
        /// The agent's name.
        name: String,
    },
    /// A session.
    Session {
        /// The tenant.
        tenant: String,
        /// The session.
        id: Uuid,
    },
}

/// What the names of agents are made ids under. Made once, at random.
const AGENTS: Uuid = Uuid::from_u128(0x3b1f_52c6_7d0e_4f83_9a44_c1e0_86f5_2d97);

impl EnvOwner {
    fn place(&self) -> Place<'_> {
        match self {
            // The row has no id before it is there.
            Self::Agent { tenant, name } => Place { what: "agents.env", id: Uuid::new_v5(&AGENTS, name.as_bytes()), tenant },
            Self::Session { tenant, id } => Place { what: "sessions.extra_env", id: *id, tenant },
        }
    }
}

impl KeptEnv {
    /// Makes variables ready to be kept: sealed for their owner, if there is a key and anything to seal.
    ///
    /// # Errors
    ///
    /// [`SealError`] if they can not be sealed.
    pub fn seal(master: Option<&MasterKeys>, owner: &EnvOwner, env: BTreeMap<String, String>) -> Result<Self, SealError> {
        let Some(master) = master.filter(|_| !env.is_empty()) else { return Ok(Self::Clear(env)) };
        let text = serde_json::to_vec(&env).map_err(|_| SealError::Damaged)?;
        let sealed = master.seal(owner.place(), &text)?;
        Ok(Self::Sealed { names: env.into_keys().collect(), sealed })
    }

    /// The variables with their values.
    ///
    /// # Errors
    ///
    /// [`SealError`] if their master key is not there, or they are not this owner's.
    pub fn open(&self, master: Option<&MasterKeys>, owner: &EnvOwner) -> Result<BTreeMap<String, String>, SealError> {
        match self {
            Self::Clear(env) => Ok(env.clone()),
            Self::Sealed { sealed, .. } => {
                let master = master.ok_or_else(|| SealError::NoMaster(sealed.master.clone()))?;
                let text = master.open(owner.place(), sealed)?;
                serde_json::from_slice(&text).map_err(|_| SealError::Damaged)
            }
        }
    }

    /// The names, in order.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Clear(env) => env.keys().map(String::as_str).collect(),
            Self::Sealed { names, .. } => names.iter().map(String::as_str).collect(),
        }
    }
}

impl Default for KeptEnv {
    fn default() -> Self {
        Self::Clear(BTreeMap::new())
    }
}

impl fmt::Debug for KeptEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Serialize for KeptEnv {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Clear(env) => env.serialize(serializer),
            Self::Sealed { names, sealed } => {
                (&sealed.master, URL_SAFE_NO_PAD.encode(&sealed.bytes), names).serialize(serializer)
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Clear(BTreeMap<String, String>),
    Sealed(String, String, Vec<String>),
}

impl<'de> Deserialize<'de> for KeptEnv {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Clear(env) => Ok(Self::Clear(env)),
            Written::Sealed(master, bytes, names) => {
                let bytes = URL_SAFE_NO_PAD.decode(bytes).map_err(de::Error::custom)?;
                Ok(Self::Sealed { names, sealed: Sealed { master, bytes } })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(byte: u8) -> MasterKeys {
        let line = URL_SAFE_NO_PAD.encode([byte; 32]);
        MasterKeys::parse(std::path::Path::new("f"), &line).expect("good").expect("some")
    }

    fn agent(tenant: &str, name: &str) -> EnvOwner {
        EnvOwner::Agent { tenant: tenant.to_owned(), name: name.to_owned() }
    }

    fn env() -> BTreeMap<String, String> {
        [("A", "canary-1"), ("Bü", "canary-2")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn sealed_variables_show_their_names_and_open_for_their_owner_alone() {
        let (master, other, owner) = (keys(1), keys(2), agent("t", "a"));
        let kept = KeptEnv::seal(Some(&master), &owner, env()).expect("seals");
        let text = serde_json::to_string(&kept).expect("writes");
        assert!(!text.contains("canary") && !format!("{kept:?}").contains("canary"), "{text}");
        let read: KeptEnv = serde_json::from_str(&text).expect("reads");
        assert_eq!((&read, read.names()), (&kept, vec!["A", "Bü"]));
        assert_eq!(read.open(Some(&master), &owner).expect("opens"), env());
        let session = EnvOwner::Session { tenant: "t".to_owned(), id: Uuid::new_v5(&AGENTS, b"a") };
        for wrong in [agent("t", "b"), agent("u", "a"), session] {
            assert!(matches!(read.open(Some(&master), &wrong), Err(SealError::Damaged)), "{wrong:?}");
        }
        for wrong in [None, Some(&other)] {
            assert!(matches!(read.open(wrong, &owner), Err(SealError::NoMaster(_))));
        }
    }

    #[test]
    fn without_a_key_and_from_older_releases_values_are_in_the_clear() {
        let owner = agent("t", "a");
        let kept = KeptEnv::seal(None, &owner, env()).expect("keeps");
        assert!(!format!("{kept:?}").contains("canary"));
        let text = serde_json::to_string(&kept).expect("writes");
        assert_eq!(text, serde_json::to_string(&env()).expect("writes"));
        let read: KeptEnv = serde_json::from_str(&text).expect("reads");
        assert_eq!(read.open(Some(&keys(1)), &owner).expect("opens"), env());
        let none = KeptEnv::seal(Some(&keys(1)), &owner, BTreeMap::new()).expect("keeps");
        assert_eq!(serde_json::to_string(&none).expect("writes"), "{}");
    }

    #[test]
    fn what_is_damaged_is_not_read() {
        for bad in [r#"["m","*",["A"]]"#, r#"["m","AA"]"#, "[]", "1", r#"{"A":1}"#] {
            assert!(serde_json::from_str::<KeptEnv>(bad).is_err(), "{bad}");
        }
        let short: KeptEnv = serde_json::from_str(&format!(r#"["{}","AA",["A"]]"#, keys(1).newest())).expect("reads");
        assert!(matches!(short.open(Some(&keys(1)), &agent("t", "a")), Err(SealError::Damaged)));
    }
}
