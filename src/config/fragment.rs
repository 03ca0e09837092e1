//! The keys of one configuration file, exactly as an administrator writes them.
//!
//! Everything may be left out. What a value means and its default stand at
//! [`Settings`](super::Settings), where they are checked.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::limits::Written;
use super::model::Auth;
use super::prices::Price;
use super::settings::{Require, SnapshotPolicy};
use super::text::{Table, Whole};
use crate::wire::permission::Behavior;
use crate::wire::quantity::{ByteCount, TimeSpan};

/// A value and where it stands in its file; `None` when the file does not say.
pub(super) type Entry<T> = Option<Spanned<T>>;

/// Every key there is. The keys below `prices` are names of models.
pub(super) const KEYS: &[&str] = &[
    "agents.max_bytes",
    "agents.max_files",
    "agents.path_roots",
    "agents.remote_paths",
    "egress.allow",
    "egress.allow_private",
    "egress.connections",
    "egress.idle",
    "egress.rate",
    "egress.total",
    "evals.runs",
    "evals.workers",
    "files.max",
    "files.max_bytes",
    "http.attachment_bytes",
    "http.connections",
    "http.cors_origins",
    "http.create_burst",
    "http.create_limit",
    "http.docs",
    "http.failure_limit",
    "http.head_timeout",
    "http.idle_timeout",
    "http.listen",
    "http.public_url",
    "http.rate_burst",
    "http.rate_limit",
    "http.tls_cert",
    "http.tls_key",
    "http.tls_listen",
    "http.upload_bytes",
    "http.write_timeout",
    "limits.cost",
    "limits.cpu",
    "limits.disk",
    "limits.file_size",
    "limits.io_read",
    "limits.io_weight",
    "limits.io_write",
    "limits.lifetime",
    "limits.memory",
    "limits.memory_high",
    "limits.open_files",
    "limits.output_rate",
    "limits.swap",
    "limits.tasks",
    "limits.tokens",
    "limits.turn",
    "log.keep_deltas",
    "max_limits.cost",
    "max_limits.cpu",
    "max_limits.disk",
    "max_limits.file_size",
    "max_limits.io_read",
    "max_limits.io_weight",
    "max_limits.io_write",
    "max_limits.lifetime",
    "max_limits.memory",
    "max_limits.memory_high",
    "max_limits.open_files",
    "max_limits.output_rate",
    "max_limits.swap",
    "max_limits.tasks",
    "max_limits.tokens",
    "max_limits.turn",
    "metrics.agents",
    "metrics.tenants",
    "model.auth",
    "model.base_url",
    "model.count_tokens_path",
    "model.headers",
    "model.messages_path",
    "model.retry_for",
    "permissions.on_timeout",
    "permissions.timeout",
    "prices",
    "queue.pending",
    "queue.workers",
    "retention.agent_versions",
    "retention.audit_after",
    "retention.ended_after",
    "retention.snapshot_bytes",
    "runtime.claude.path",
    "sandbox.accept",
    "sandbox.launcher",
    "sandbox.ptrace",
    "sandbox.require",
    "sandbox.tmp",
    "schedules.max",
    "schedules.min_interval",
    "sessions.freeze_after",
    "sessions.park_after",
    "sessions.shutdown_grace",
    "sessions.sweep_every",
    "snapshots.keep",
    "snapshots.policy",
    "snapshots.url",
    "store.url",
    "telemetry.endpoint",
    "telemetry.sample_ratio",
    "telemetry.service_name",
    "webhooks.allow_http",
    "webhooks.allow_private",
    "webhooks.keep_deliveries",
    "webhooks.max",
];

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Fragment {
    pub(super) agents: Table<Agents>,
    pub(super) egress: Table<Egress>,
    pub(super) files: Table<Files>,
    pub(super) evals: Table<Evals>,
    pub(super) http: Table<Http>,
    pub(super) limits: Table<Written>,
    pub(super) log: Table<Log>,
    pub(super) max_limits: Table<Written>,
    pub(super) metrics: Table<Metrics>,
    pub(super) model: Table<Model>,
    pub(super) permissions: Table<Permissions>,
    pub(super) prices: Entry<Table<BTreeMap<String, Table<Price>>>>,
    pub(super) queue: Table<Queue>,
    pub(super) retention: Table<Retention>,
    pub(super) runtime: Table<Runtime>,
    pub(super) sandbox: Table<Sandbox>,
    pub(super) schedules: Table<Schedules>,
    pub(super) sessions: Table<Sessions>,
    pub(super) snapshots: Table<Snapshots>,
    pub(super) store: Table<Store>,
    pub(super) telemetry: Table<Telemetry>,
    pub(super) webhooks: Table<Webhooks>,
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
pub(super) struct Egress {
    pub(super) allow: Entry<Vec<String>>,
    pub(super) allow_private: Entry<Vec<String>>,
    pub(super) connections: Entry<Whole>,
    pub(super) idle: Entry<TimeSpan>,
    pub(super) rate: Entry<ByteCount>,
    pub(super) total: Entry<ByteCount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Files {
    pub(super) max: Entry<Whole>,
    pub(super) max_bytes: Entry<ByteCount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http {
    pub(super) connections: Entry<Whole>,
    pub(super) create_burst: Entry<Whole>,
    pub(super) create_limit: Entry<String>,
    pub(super) failure_limit: Entry<String>,
    pub(super) head_timeout: Entry<TimeSpan>,
    pub(super) idle_timeout: Entry<TimeSpan>,
    pub(super) rate_burst: Entry<Whole>,
    pub(super) rate_limit: Entry<String>,
    pub(super) tls_cert: Entry<String>,
    pub(super) tls_key: Entry<String>,
    pub(super) tls_listen: Entry<OneOrMany>,
    pub(super) cors_origins: Entry<OneOrMany>,
    pub(super) docs: Entry<bool>,
    pub(super) listen: Entry<OneOrMany>,
    pub(super) public_url: Entry<String>,
    pub(super) write_timeout: Entry<TimeSpan>,
    pub(super) upload_bytes: Entry<ByteCount>,
    pub(super) attachment_bytes: Entry<ByteCount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub(super) keep_deltas: Entry<TimeSpan>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Permissions {
    pub(super) on_timeout: Entry<Behavior>,
    pub(super) timeout: Entry<TimeSpan>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) agents: Entry<Whole>,
    pub(super) tenants: Entry<Whole>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Model {
    pub(super) auth: Entry<Auth>,
    pub(super) base_url: Entry<String>,
    pub(super) count_tokens_path: Entry<String>,
    pub(super) headers: Entry<Headers>,
    pub(super) messages_path: Entry<String>,
    pub(super) retry_for: Entry<TimeSpan>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Evals {
    pub(super) runs: Entry<Whole>,
    pub(super) workers: Entry<Whole>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Queue {
    pub(super) pending: Entry<Whole>,
    pub(super) workers: Entry<Whole>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Retention {
    pub(super) agent_versions: Entry<Whole>,
    pub(super) audit_after: Entry<String>,
    pub(super) ended_after: Entry<String>,
    pub(super) snapshot_bytes: Entry<String>,
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
    pub(super) accept: Entry<Vec<String>>,
    pub(super) launcher: Entry<String>,
    pub(super) ptrace: Entry<bool>,
    pub(super) require: Entry<Require>,
    pub(super) tmp: Entry<ByteCount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sessions {
    pub(super) freeze_after: Entry<TimeSpan>,
    pub(super) park_after: Entry<TimeSpan>,
    pub(super) shutdown_grace: Entry<TimeSpan>,
    pub(super) sweep_every: Entry<TimeSpan>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Snapshots {
    pub(super) keep: Entry<Whole>,
    pub(super) policy: Entry<SnapshotPolicy>,
    pub(super) url: Entry<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Store {
    pub(super) url: Entry<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Schedules {
    pub(super) max: Entry<Whole>,
    pub(super) min_interval: Entry<TimeSpan>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Telemetry {
    pub(super) endpoint: Entry<String>,
    pub(super) sample_ratio: Entry<f64>,
    pub(super) service_name: Entry<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Webhooks {
    pub(super) allow_http: Entry<bool>,
    pub(super) allow_private: Entry<Vec<String>>,
    pub(super) keep_deliveries: Entry<Whole>,
    pub(super) max: Entry<Whole>,
}

/// A table of texts. A date, which the parser shows as a table of one text, is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Headers(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let headers = BTreeMap::<String, String>::deserialize(deserializer)?;
        if headers.keys().any(|name| name.starts_with("$__toml")) {
            return Err(serde::de::Error::custom("is no table of headers"));
        }
        Ok(Self(headers))
    }
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
    use crate::config::text::{Fault, documented, parse};

    /// Values of several types; every key takes one of them.
    const SAMPLES: &[&str] =
        &["\"1M\"", "\"1m\"", "\"deny\"", "\"idle\"", "\"strict\"", "\"bearer\"", "\"1%\"", "1", "true", "[]", "{}"];

    #[test]
    fn the_list_of_keys_is_what_a_file_may_say() {
        for key in KEYS {
            let taken = SAMPLES.iter().any(|sample| parse::<Fragment>(&format!("{key} = {sample}"), KEYS).is_ok());
            assert!(taken, "{key}");
        }
        assert!(KEYS.is_sorted());
    }

    #[test]
    fn the_manual_page_describes_every_key_and_no_other() {
        // Said in one sentence for all of them.
        let mut keys: Vec<&str> =
            KEYS.iter().map(|key| if key.starts_with("max_limits.") { "max_limits" } else { key }).collect();
        keys.dedup();
        assert_eq!(documented(include_str!("../../man/ash.toml.5.scd")), keys);
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
