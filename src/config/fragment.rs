//! The keys of one configuration file, exactly as an administrator writes them.
//!
//! Everything may be left out. What a value means and its default stand at
//! [`Settings`](super::Settings), where they are checked.

use serde::Deserialize;
use toml::Spanned;

use super::text::{Table, Whole};
use crate::wire::quantity::{ByteCount, Percent};

/// A value and where it stands in its file; `None` when the file does not say.
pub(super) type Entry<T> = Option<Spanned<T>>;

/// Every key there is.
pub(super) const KEYS: &[&str] = &[
    "agents.max_bytes",
    "agents.max_files",
    "agents.path_roots",
    "agents.remote_paths",
    "http.listen",
    "limits.cpu",
    "limits.disk",
    "limits.memory",
    "limits.tasks",
    "model.base_url",
    "runtime.claude.path",
    "sandbox.launcher",
    "sandbox.tmp",
    "snapshots.url",
    "store.url",
];

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Fragment {
    pub(super) agents: Table<Agents>,
    pub(super) http: Table<Http>,
    pub(super) limits: Table<Limits>,
    pub(super) model: Table<Model>,
    pub(super) runtime: Table<Runtime>,
    pub(super) sandbox: Table<Sandbox>,
    pub(super) snapshots: Table<Snapshots>,
    pub(super) store: Table<Store>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Agents {
    pub(super) max_bytes: Entry<ByteCount>,
    pub(super) max_files: Entry<Whole>,
    pub(super) path_roots: Entry<Vec<String>>,
    pub(super) remote_paths: Entry<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http {
    pub(super) listen: Entry<OneOrMany>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) cpu: Entry<Percent>,
    pub(super) disk: Entry<ByteCount>,
    pub(super) memory: Entry<ByteCount>,
    pub(super) tasks: Entry<Whole>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Model {
    pub(super) base_url: Entry<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Runtime {
    pub(super) claude: Table<Claude>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Claude {
    pub(super) path: Entry<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sandbox {
    pub(super) launcher: Entry<String>,
    pub(super) tmp: Entry<ByteCount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Snapshots {
    pub(super) url: Entry<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Store {
    pub(super) url: Entry<String>,
}

/// A text, or a list of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OneOrMany(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> serde::de::Visitor<'de> for Texts {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string, or a list of strings")
            }
            fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq)).map(OneOrMany)
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text::{Fault, parse};

    /// Values of four types; every key takes one of them.
    const SAMPLES: &[&str] = &["\"1M\"", "\"1%\"", "1", "true", "[]"];

    #[test]
    fn the_list_of_keys_is_what_a_file_may_say() {
        for key in KEYS {
            let taken = SAMPLES.iter().any(|sample| parse::<Fragment>(&format!("{key} = {sample}"), KEYS).is_ok());
            assert!(taken, "{key}");
        }
        assert!(KEYS.is_sorted());
    }

    /// A key that exists but is not in the list would be called unknown where its value is wrong.
    #[test]
    fn every_key_with_a_wrong_value_is_a_bad_value() {
        for key in KEYS {
            let error = parse::<Fragment>(&format!("{key} = 1979-05-27"), KEYS).expect_err(key);
            assert!(matches!(&error.fault, Fault::BadValue { key: named, .. } if named == key), "{key}: {error:?}");
        }
        let fields = format!("{:?}", Fragment::default()).matches("None").count();
        assert_eq!(fields, KEYS.len(), "one of them is missing in KEYS");
    }
}
