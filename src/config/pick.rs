//! Values out of the files: checked, within their bounds, and with where they stood.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::fragment::{Entry, Fragment, KEYS};
use super::limits::{Said, Written};
use super::merge::{Layers, fault};
use super::prices::Prices;
use super::rate::{TIMES_MAX, rate};
use super::settings::{CorsOrigins, Origin, Settings, StoreUrl};
use super::text::{Fault, count_in, line_of, size_in, within};
use super::{ConfigError, files, model, schedules, telemetry, webhooks};
use crate::wire::egress::{EntryError, List, Range, RangeError};
use crate::wire::limits::Limits;
use crate::wire::quantity::{ByteCount, TimeSpan, bounds};
use crate::wire::weakness::Weakness;

const UPLOAD_BYTES: RangeInclusive<u64> = (1 << 20)..=(1 << 40);
/// One is in memory while it comes and goes.
const FILES_BYTES: RangeInclusive<u64> = (1 << 20)..=(1 << 50);
const ATTACHMENT_BYTES: RangeInclusive<u64> = (1 << 10)..=(100 << 20);
/// At least one small file has to fit.
const AGENT_BYTES: RangeInclusive<u64> = (1 << 10)..=(1 << 40);
const AGENT_FILES: RangeInclusive<u32> = 1..=1_000_000;
/// Each name is some series of every scrape.
const METRIC_NAMES: RangeInclusive<u32> = 0..=1000;
/// What a host may lack.
const ACCEPTABLE: [Weakness; 3] = [Weakness::NoSeccomp, Weakness::NoCgroupNamespace, Weakness::NoUsernsLimit];
const BURST: RangeInclusive<u32> = 1..=TIMES_MAX;
const HTTP_TIMEOUT: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(3600);
/// The daemon may have 65 536 descriptors (`LimitNOFILE=` of its unit).
const CONNECTIONS: RangeInclusive<u32> = 1..=32_768;
const WRITE_TIMEOUT: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(86_400);
/// Less than the ten minutes after which the runtime gives up a call that is not answered.
const RETRY_FOR: RangeInclusive<TimeSpan> = TimeSpan(0)..=TimeSpan(540);
const SWEEP: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(86_400);
/// Each connection takes some 50 KiB of the sandbox's memory.
const EGRESS_CONNECTIONS: RangeInclusive<u32> = 1..=4096;
const EGRESS_IDLE: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(86_400);
const EGRESS_RATE: RangeInclusive<u64> = (1 << 10)..=(1 << 40);
const EGRESS_TOTAL: RangeInclusive<u64> = 0..=(1 << 60);
const RANGES_MAX: usize = 100;
const PERMISSION_TIMEOUT: RangeInclusive<TimeSpan> = TimeSpan(1)..=TimeSpan(30 * 86_400);
/// At most so long that what comes after it fits into `TimeoutStopSec=` of ash.service, too.
const SHUTDOWN_GRACE: RangeInclusive<TimeSpan> = TimeSpan(0)..=TimeSpan(60);
/// Each is a sandbox that runs.
const QUEUE_WORKERS: RangeInclusive<u32> = 1..=64;
const QUEUE_PENDING: RangeInclusive<u32> = 1..=100_000;
/// Each is a sandbox that runs.
const EVAL_WORKERS: RangeInclusive<u32> = 1..=64;
const EVAL_RUNS: RangeInclusive<u32> = 1..=10_000;
const KEEP_SNAPSHOTS: RangeInclusive<u32> = 1..=1000;
const KEEP_VERSIONS: RangeInclusive<u32> = 1..=100_000;
const KEEP_ENDED: RangeInclusive<TimeSpan> = TimeSpan(0)..=TimeSpan(3650 * 86_400);
/// Below a megabyte not one snapshot of a used session fits.
const SNAPSHOT_BYTES: RangeInclusive<u64> = (1 << 20)..=(1 << 60);
const KEEP_DELTAS: RangeInclusive<TimeSpan> = TimeSpan(0)..=TimeSpan(3650 * 86_400);
/// Below a megabyte the runtime can not keep its own temporary files.
const TMP_BYTES: RangeInclusive<u64> = (1 << 20)..=(1 << 40);

/// What the files say, and the defaults where they say nothing.
///
/// # Errors
///
/// The first fault found, by file, line and key.
pub(super) fn settings(layers: &Layers) -> Result<Settings, ConfigError> {
    Picker { layers, origins: Vec::new() }.settings()
}

/// Takes values out of the files and notes where they stood.
struct Picker<'a> {
    layers: &'a Layers,
    origins: Vec<Origin>,
}

impl Picker<'_> {
    fn settings(mut self) -> Result<Settings, ConfigError> {
        let mut to = Settings::default();
        self.pick(
            "http.listen",
            |f| &f.http.0.listen,
            &mut to.http.listen,
            |texts| texts.0.iter().map(|t| address(t)).collect(),
        )?;
        self.pick(
            "http.tls_listen",
            |f| &f.http.0.tls_listen,
            &mut to.http.tls_listen,
            |texts| texts.0.iter().map(|t| address(t)).collect(),
        )?;
        let (cert, key) = (&mut to.http.tls_cert, &mut to.http.tls_key);
        self.pick("http.tls_cert", |f| &f.http.0.tls_cert, cert, |text| absolute(text).map(Some))?;
        self.pick("http.tls_key", |f| &f.http.0.tls_key, key, |text| absolute(text).map(Some))?;
        let origins = &mut to.http.cors_origins;
        self.pick("http.cors_origins", |f| &f.http.0.cors_origins, origins, |texts| cors_origins(&texts.0))?;
        self.pick("http.docs", |f| &f.http.0.docs, &mut to.http.docs, |yes| Ok(*yes))?;
        let write = &mut to.http.write_timeout;
        self.pick("http.write_timeout", |f| &f.http.0.write_timeout, write, |time| within(*time, WRITE_TIMEOUT))?;
        let uploads = &mut to.http.upload_bytes;
        self.pick("http.upload_bytes", |f| &f.http.0.upload_bytes, uploads, |size| size_in(*size, UPLOAD_BYTES))?;
        let attachments = &mut to.http.attachment_bytes;
        self.pick("http.attachment_bytes", |f| &f.http.0.attachment_bytes, attachments, |size| size_in(*size, ATTACHMENT_BYTES))?;
        let public = &mut to.http.public_url;
        self.pick("http.public_url", |f| &f.http.0.public_url, public, |text| public_url(text).map(Some))?;
        self.pick("files.max", |f| &f.files.0.max, &mut to.files.max, |count| count_in(*count, files::MAX))?;
        self.pick("files.max_bytes", |f| &f.files.0.max_bytes, &mut to.files.max_bytes, |size| size_in(*size, FILES_BYTES))?;
        let (limit, burst) = (&mut to.http.rate_limit, &mut to.http.rate_burst);
        self.pick("http.rate_limit", |f| &f.http.0.rate_limit, limit, |text| rate(text))?;
        self.pick("http.rate_burst", |f| &f.http.0.rate_burst, burst, |count| count_in(*count, BURST))?;
        let (limit, burst) = (&mut to.http.create_limit, &mut to.http.create_burst);
        self.pick("http.create_limit", |f| &f.http.0.create_limit, limit, |text| rate(text))?;
        self.pick("http.create_burst", |f| &f.http.0.create_burst, burst, |count| count_in(*count, BURST))?;
        let failures = &mut to.http.failure_limit;
        self.pick("http.failure_limit", |f| &f.http.0.failure_limit, failures, |text| rate(text))?;
        let (head, idle) = (&mut to.http.head_timeout, &mut to.http.idle_timeout);
        self.pick("http.head_timeout", |f| &f.http.0.head_timeout, head, |time| within(*time, HTTP_TIMEOUT))?;
        self.pick("http.idle_timeout", |f| &f.http.0.idle_timeout, idle, |time| within(*time, HTTP_TIMEOUT))?;
        let connections = &mut to.http.connections;
        self.pick("http.connections", |f| &f.http.0.connections, connections, |count| count_in(*count, CONNECTIONS))?;
        self.pick("model.base_url", |f| &f.model.0.base_url, &mut to.model.base_url, |text| model::base_url(text))?;
        self.pick("model.auth", |f| &f.model.0.auth, &mut to.model.auth, |auth| Ok(*auth))?;
        let (messages, count) = (&mut to.model.messages_path, &mut to.model.count_tokens_path);
        self.pick("model.messages_path", |f| &f.model.0.messages_path, messages, |text| model::path(text))?;
        self.pick("model.count_tokens_path", |f| &f.model.0.count_tokens_path, count, |text| model::path_or_none(text))?;
        self.pick("model.headers", |f| &f.model.0.headers, &mut to.model.headers, |table| model::headers(&table.0))?;
        let retry = &mut to.model.retry_for;
        self.pick("model.retry_for", |f| &f.model.0.retry_for, retry, |time| within(*time, RETRY_FOR))?;
        self.prices(&mut to.prices);
        self.pick(
            "runtime.claude.path",
            |f| &f.runtime.0.claude.0.path,
            &mut to.runtime.claude,
            |text| absolute(text).map(Some),
        )?;
        self.pick("store.url", |f| &f.store.0.url, &mut to.store, |text| store_url(text))?;
        self.pick("snapshots.url", |f| &f.snapshots.0.url, &mut to.snapshots.url, |text| snapshots_url(text))?;
        let (keep, policy) = (&mut to.snapshots.keep, &mut to.snapshots.policy);
        self.pick("snapshots.keep", |f| &f.snapshots.0.keep, keep, |count| count_in(*count, KEEP_SNAPSHOTS))?;
        self.pick("snapshots.policy", |f| &f.snapshots.0.policy, policy, |policy| Ok(*policy))?;
        let (workers, pending) = (&mut to.queue.workers, &mut to.queue.pending);
        self.pick("queue.workers", |f| &f.queue.0.workers, workers, |count| count_in(*count, QUEUE_WORKERS))?;
        self.pick("queue.pending", |f| &f.queue.0.pending, pending, |count| count_in(*count, QUEUE_PENDING))?;
        let (workers, runs) = (&mut to.evals.workers, &mut to.evals.runs);
        self.pick("evals.workers", |f| &f.evals.0.workers, workers, |count| count_in(*count, EVAL_WORKERS))?;
        self.pick("evals.runs", |f| &f.evals.0.runs, runs, |count| count_in(*count, EVAL_RUNS))?;
        let kept = &mut to.retention;
        self.pick("retention.ended_after", |f| &f.retention.0.ended_after, &mut kept.ended_after, |text| kept_for(text))?;
        self.pick("retention.snapshot_bytes", |f| &f.retention.0.snapshot_bytes, &mut kept.snapshot_bytes, |text| bound(text))?;
        self.pick("retention.audit_after", |f| &f.retention.0.audit_after, &mut kept.audit_after, |text| kept_for(text))?;
        self.pick(
            "retention.agent_versions",
            |f| &f.retention.0.agent_versions,
            &mut kept.agent_versions,
            |count| count_in(*count, KEEP_VERSIONS),
        )?;
        let (freeze, park) = (&mut to.sessions.freeze_after, &mut to.sessions.park_after);
        let sweep = &mut to.sessions.sweep_every;
        self.pick("sessions.sweep_every", |f| &f.sessions.0.sweep_every, sweep, |time| within(*time, SWEEP))?;
        self.pick("sessions.freeze_after", |f| &f.sessions.0.freeze_after, freeze, |time| within(*time, bounds::IDLE))?;
        self.pick("sessions.park_after", |f| &f.sessions.0.park_after, park, |time| within(*time, bounds::IDLE))?;
        let grace = &mut to.sessions.shutdown_grace;
        self.pick("sessions.shutdown_grace", |f| &f.sessions.0.shutdown_grace, grace, |time| within(*time, SHUTDOWN_GRACE))?;

        to.limits = self.limits("limits.", |fragment| &fragment.limits.0)?.or(to.limits);
        to.max_limits = self.limits("max_limits.", |fragment| &fragment.max_limits.0)?.or(to.limits);

        self.pick(
            "agents.path_roots",
            |f| &f.agents.0.path_roots,
            &mut to.agents.path_roots,
            |texts| texts.iter().map(|text| absolute(text)).collect(),
        )?;
        self.pick("agents.remote_paths", |f| &f.agents.0.remote_paths, &mut to.agents.remote_paths, |yes| Ok(*yes))?;
        self.pick("agents.max_bytes", |f| &f.agents.0.max_bytes, &mut to.agents.max_bytes, |size| size_in(*size, AGENT_BYTES))?;
        self.pick("metrics.agents", |f| &f.metrics.0.agents, &mut to.metrics.agents, |count| count_in(*count, METRIC_NAMES))?;
        self.pick("metrics.tenants", |f| &f.metrics.0.tenants, &mut to.metrics.tenants, |count| count_in(*count, METRIC_NAMES))?;
        self.pick(
            "agents.max_files",
            |f| &f.agents.0.max_files,
            &mut to.agents.max_files,
            |count| count_in(*count, AGENT_FILES),
        )?;

        let (allow, private) = (&mut to.egress.allow, &mut to.egress.allow_private);
        self.pick("egress.allow", |f| &f.egress.0.allow, allow, |texts| egress_list(texts))?;
        self.pick("egress.allow_private", |f| &f.egress.0.allow_private, private, |texts| ranges(texts))?;
        let connections = &mut to.egress.connections;
        self.pick("egress.connections", |f| &f.egress.0.connections, connections, |count| count_in(*count, EGRESS_CONNECTIONS))?;
        self.pick("egress.idle", |f| &f.egress.0.idle, &mut to.egress.idle, |time| within(*time, EGRESS_IDLE))?;
        self.pick("egress.rate", |f| &f.egress.0.rate, &mut to.egress.rate, |size| size_in(*size, EGRESS_RATE))?;
        self.pick("egress.total", |f| &f.egress.0.total, &mut to.egress.total, |size| size_in(*size, EGRESS_TOTAL))?;
        self.pick("sandbox.tmp", |f| &f.sandbox.0.tmp, &mut to.sandbox.tmp, |size| size_in(*size, TMP_BYTES))?;
        self.pick("sandbox.launcher", |f| &f.sandbox.0.launcher, &mut to.sandbox.launcher, |text| absolute(text))?;
        let (accept, ptrace) = (&mut to.sandbox.accept, &mut to.sandbox.ptrace);
        self.pick("sandbox.accept", |f| &f.sandbox.0.accept, accept, |names| names.iter().map(|name| weakness(name)).collect())?;
        self.pick("sandbox.ptrace", |f| &f.sandbox.0.ptrace, ptrace, |yes| Ok(*yes))?;
        self.pick("sandbox.require", |f| &f.sandbox.0.require, &mut to.sandbox.require, |require| Ok(*require))?;
        self.pick(
            "permissions.timeout",
            |f| &f.permissions.0.timeout,
            &mut to.permissions.timeout,
            |time| within(*time, PERMISSION_TIMEOUT),
        )?;
        self.pick(
            "permissions.on_timeout",
            |f| &f.permissions.0.on_timeout,
            &mut to.permissions.on_timeout,
            |answer| Ok(*answer),
        )?;
        self.pick("log.keep_deltas", |f| &f.log.0.keep_deltas, &mut to.log.keep_deltas, |time| within(*time, KEEP_DELTAS))?;
        let plans = &mut to.schedules;
        self.pick("schedules.max", |f| &f.schedules.0.max, &mut plans.max, |count| count_in(*count, schedules::MAX))?;
        let least = &mut plans.min_interval;
        self.pick(
            "schedules.min_interval",
            |f| &f.schedules.0.min_interval,
            least,
            |time| within(*time, schedules::MIN_INTERVAL),
        )?;
        let traces = &mut to.telemetry;
        self.pick(
            "telemetry.endpoint",
            |f| &f.telemetry.0.endpoint,
            &mut traces.endpoint,
            |text| telemetry::endpoint(text).map(Some),
        )?;
        self.pick(
            "telemetry.sample_ratio",
            |f| &f.telemetry.0.sample_ratio,
            &mut traces.sample_ratio,
            |number| telemetry::share(*number).map(Some),
        )?;
        self.pick(
            "telemetry.service_name",
            |f| &f.telemetry.0.service_name,
            &mut traces.service_name,
            |text| telemetry::service_name(text).map(Some),
        )?;
        let hooks = &mut to.webhooks;
        self.pick("webhooks.allow_http", |f| &f.webhooks.0.allow_http, &mut hooks.allow_http, |yes| Ok(*yes))?;
        self.pick("webhooks.allow_private", |f| &f.webhooks.0.allow_private, &mut hooks.allow_private, |texts| ranges(texts))?;
        self.pick("webhooks.max", |f| &f.webhooks.0.max, &mut hooks.max, |count| count_in(*count, webhooks::MAX))?;
        let keep = &mut hooks.keep_deliveries;
        self.pick("webhooks.keep_deliveries", |f| &f.webhooks.0.keep_deliveries, keep, |count| count_in(*count, webhooks::KEEP))?;
        to.origins = self.origins;
        Ok(to)
    }

    /// Overrides single prices, where the strongest file that has one counts.
    fn prices(&mut self, to: &mut Prices) {
        for table in self.layers.0.iter().rev().filter_map(|layer| layer.fragment.prices.as_ref()) {
            to.override_by(table.get_ref());
        }
        if let Some(found) = self.layers.find(|f| &f.prices) {
            self.origins.push(Origin { key: "prices", path: found.path.to_owned(), line: found.line });
        }
    }

    /// A table of limits, of whose values the strongest file that has one counts.
    fn limits(&mut self, table: &str, of: impl Fn(&Fragment) -> &Written) -> Result<Limits, ConfigError> {
        let mut counts = Limits::default();
        for layer in &self.layers.0 {
            let (limits, said) = of(&layer.fragment).read();
            for Said { name, at, fault: reason } in said {
                // Each is one of them, which have to live as long as the program.
                let Some(key) = KEYS.iter().find(|key| key.strip_prefix(table) == Some(name)) else { continue };
                if self.origins.iter().any(|origin| origin.key == *key) {
                    continue;
                }
                let line = line_of(&layer.text, at);
                if let Some(reason) = reason {
                    return Err(fault(&layer.path, line, Fault::BadValue { key: (*key).to_owned(), reason }));
                }
                self.origins.push(Origin { key, path: layer.path.clone(), line });
            }
            counts = counts.or(limits);
        }
        Ok(counts)
    }

    /// Sets `to` if any file has the key, by `check`, whose error is the reason of the refusal.
    fn pick<'a, T: 'a, U>(
        &mut self,
        key: &'static str,
        get: impl Fn(&'a Fragment) -> &'a Entry<T>,
        to: &mut U,
        check: impl FnOnce(&T) -> Result<U, String>,
    ) -> Result<(), ConfigError>
    where
        Self: 'a,
    {
        let Some(found) = self.layers.find(get) else { return Ok(()) };
        *to = check(found.value)
            .map_err(|reason| fault(found.path, found.line, Fault::BadValue { key: key.to_owned(), reason }))?;
        self.origins.push(Origin { key, path: found.path.to_owned(), line: found.line });
        Ok(())
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address with a port, such as \"127.0.0.1:4100\" or \"[::1]:4100\""))
}

fn cors_origins(texts: &[String]) -> Result<CorsOrigins, String> {
    match texts {
        [any] if any == "*" => Ok(CorsOrigins::Any),
        texts => texts.iter().map(|text| cors_origin(text)).collect::<Result<_, _>>().map(CorsOrigins::These),
    }
}

/// An origin as browsers send it (RFC 6454 section 6.2); they compare it byte by byte.
fn cors_origin(text: &str) -> Result<String, String> {
    let refuse = || format!("{text:?} is not an origin such as \"https://app.example\", nor \"*\" alone");
    let url: hyper::Uri = text.parse().map_err(|_| refuse())?;
    let authority = url.authority().map(|authority| authority.as_str()).filter(|authority| !authority.contains('@'));
    match (url.scheme_str(), authority) {
        (Some(scheme), Some(authority)) if text == format!("{scheme}://{authority}") && text == text.to_lowercase() => {
            Ok(text.to_owned())
        }
        _ => Err(refuse()),
    }
}

/// Where others reach a listener, without a slash at the end.
fn public_url(text: &str) -> Result<String, String> {
    let refuse = || format!("{text:?} is not an address such as \"https://ash.example\"");
    let url: hyper::Uri = text.parse().map_err(|_| refuse())?;
    let is_web = matches!(url.scheme_str(), Some("http" | "https"));
    let has_host = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if is_web && has_host && !text.contains(['?', '#']) { Ok(text.trim_end_matches('/').to_owned()) } else { Err(refuse()) }
}

fn kept_for(text: &str) -> Result<Option<TimeSpan>, String> {
    match text {
        "never" => Ok(None),
        text => {
            let span =
                text.parse().map_err(|_| format!("{text:?} is neither \"never\" nor a length of time, such as \"30d\""))?;
            within(span, KEEP_ENDED).map(Some)
        }
    }
}

fn bound(text: &str) -> Result<Option<ByteCount>, String> {
    match text {
        "unlimited" => Ok(None),
        text => {
            let size = text.parse().map_err(|_| format!("{text:?} is neither \"unlimited\" nor a size, such as \"50G\""))?;
            size_in(size, SNAPSHOT_BYTES).map(Some)
        }
    }
}

fn egress_list(texts: &[String]) -> Result<List, String> {
    let entries = texts.iter().map(|text| text.parse()).collect::<Result<_, EntryError>>();
    entries.map_err(|error| error.to_string()).and_then(|entries| List::new(entries).map_err(|error| error.to_string()))
}

fn ranges(texts: &[String]) -> Result<Vec<Range>, String> {
    if texts.len() > RANGES_MAX {
        return Err(format!("has more than {RANGES_MAX} ranges"));
    }
    texts.iter().map(|text| text.parse().map_err(|error: RangeError| error.to_string())).collect()
}

/// What a host may lack, by its name.
fn weakness(name: &str) -> Result<Weakness, String> {
    let names: Vec<_> = ACCEPTABLE.iter().map(|known| format!("{:?}", known.as_str())).collect();
    let known = ACCEPTABLE.iter().find(|known| known.as_str() == name);
    known.copied().ok_or_else(|| format!("{name:?} is none of {}", names.join(", ")))
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() || text.contains('\0') {
        return Err(format!("{text:?} is not an absolute path"));
    }
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(format!("{text:?} has \"..\" in it"));
    }
    Ok(path.to_owned())
}

fn store_url(text: &str) -> Result<StoreUrl, String> {
    if let Some(path) = text.strip_prefix("sqlite://") {
        return match absolute(path) {
            Ok(path) if path.file_name().is_some() => Ok(StoreUrl::Sqlite(path)),
            _ => Err(format!("{text:?} names no file by an absolute path, such as \"sqlite:///var/lib/ash/ash.db\"")),
        };
    }
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(StoreUrl::Postgres(text.to_owned()));
    }
    // The text is not repeated: it may be a PostgreSQL address with a password and a typing error.
    Err("it begins with neither \"sqlite://\" nor \"postgres://\"".to_owned())
}

fn snapshots_url(text: &str) -> Result<String, String> {
    if let Some(path) = text.strip_prefix("file://") {
        return absolute(path).map(|_| text.to_owned()).map_err(|reason| format!("after \"file://\", {reason}"));
    }
    let bucket = text.strip_prefix("s3://").or_else(|| text.strip_prefix("gs://"));
    match bucket {
        Some(name) if !name.is_empty() && !name.starts_with('/') => Ok(text.to_owned()),
        Some(_) => Err(format!("{text:?} names no bucket")),
        None => Err(format!("{text:?} begins with none of \"file://\", \"s3://\" and \"gs://\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_checked() {
        assert_eq!(store_url("sqlite:///a/b.db"), Ok(StoreUrl::Sqlite("/a/b.db".into())));
        assert!(matches!(store_url("postgres://u:secret@h/d"), Ok(StoreUrl::Postgres(_))));
        for bad in ["", "mysql://x", "sqlite://a.db", "sqlite:///", "sqlite:///a/../b", "/var/lib/ash.db"] {
            assert!(store_url(bad).is_err(), "{bad}");
        }
        for good in ["file:///var/x", "s3://bucket/prefix", "gs://bucket"] {
            assert_eq!(snapshots_url(good), Ok(good.to_owned()));
        }
        for bad in ["", "file://x", "s3://", "s3:///x", "http://x"] {
            assert!(snapshots_url(bad).is_err(), "{bad}");
        }
        assert_eq!((kept_for("never"), kept_for("30d")), (Ok(None), Ok(Some(TimeSpan(30 * 86_400)))));
        assert_eq!((bound("unlimited"), bound("50G")), (Ok(None), Ok(Some(ByteCount(50 << 30)))));
        for bad in ["", "30", "Never", "-1d", "99999d"] {
            assert!(kept_for(bad).is_err(), "{bad}");
        }
        for bad in ["", "0", "1K", "lots", "50GB"] {
            assert!(bound(bad).is_err(), "{bad}");
        }
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            egress_list(&texts(&["pypi", "*.example.com"])).map(|list| list.to_string()),
            Ok("pypi, *.example.com".to_owned())
        );
        assert!(egress_list(&texts(&["pypi", "a b"])).is_err_and(|reason| reason.contains("\"a b\"")));
        assert!(ranges(&texts(&["127.0.0.1/32"])).is_ok_and(|ranges| ranges.len() == 1));
        assert!(ranges(&texts(&["127.0.0.1"])).is_err_and(|reason| reason.contains("\"127.0.0.1\"")));
        for bad in ["", "x", "./x", "/a/../b", "/a\0"] {
            assert!(absolute(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "4100", "localhost:4100", "127.0.0.1", "127.0.0.1:99999", "::1:4100x"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_are_such_as_browsers_send() {
        let origins = |texts: &[&str]| cors_origins(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(origins(&["*"]), Ok(CorsOrigins::Any));
        assert_eq!(origins(&[]), Ok(CorsOrigins::These(Vec::new())));
        for good in ["https://app.example", "http://localhost:3000", "http://[::1]:3000", "app://desktop"] {
            assert_eq!(origins(&[good]), Ok(CorsOrigins::These(vec![good.to_owned()])));
        }
        for bad in ["", "app.example", "https://app.example/", "https://App.example", "https://u@x", "https://*.x/y", "null"] {
            assert!(origins(&[bad]).is_err(), "{bad}");
        }
        assert!(origins(&["*", "https://app.example"]).is_err(), "either any or these");
    }

    #[test]
    fn a_public_url_is_where_something_listens() {
        for good in ["https://ash.example", "http://192.0.2.1:4100", "https://ash.example/below"] {
            assert_eq!(public_url(good), Ok(good.to_owned()));
            assert_eq!(public_url(&format!("{good}/")), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "ash.example",
            "/x",
            "ftp://ash.example",
            "https://u:p@ash.example",
            "https://ash.example/?x",
            "https://ash.example/#x",
            "https://",
        ] {
            assert!(public_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let url = store_url("postgres://u:secret@h/d").expect("good");
        assert!(!format!("{url:?}").contains("secret"));
        assert!(!store_url("postgre://u:secret@h/d").expect_err("bad").contains("secret"));
    }
}
