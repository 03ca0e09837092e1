//! What the daemon counts: every family of `GET /metrics`, declared in this one place.
//!
//! Names and labels of the first eight are the wire contract's (section 4.1). Labels have closed
//! sets of values, which are all there from the start, so that a rate is right from the first event
//! on. Counters begin at 0 with each start of the daemon. Gauges are set when they are asked for,
//! but for [`Metrics::snapshot_bytes`].

use prometheus::{Encoder as _, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// The content type of [`Metrics::text`]: the Prometheus text format, version 0.0.4.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// States of sandboxes, as in `GET /health`.
pub const SANDBOX_STATES: [&str; 6] = ["cold", "warming", "warm", "waiting", "running", "frozen"];
/// How sessions came back. `prewarm` is the contract's, for claims of sandboxes that were started
/// before they were wanted, of which there are none.
const RESUME_PATHS: [&str; 3] = ["warm", "cold", "prewarm"];
/// From where a session without processes came back: what is on this host, a remote store, or nothing.
const RESUME_SOURCES: [&str; 3] = ["local", "cloud", "fresh"];
/// Why a snapshot was taken.
const SNAPSHOT_REASONS: [&str; 9] = ["pause", "stop", "end", "turn", "idle", "rewind", "shutdown", "request", "fork"];
/// Listeners of the daemon: the control socket, and those for programs.
pub const LISTENERS: [&str; 2] = ["control", "http"];
/// Kinds of what is removed as nobody needs it.
const REMOVED_KINDS: [&str; 4] = ["session", "snapshot", "orphan_snapshots", "agent_version"];

/// All families.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "their help texts stand where they are made")]
pub struct Metrics {
    registry: Registry,
    pub up: IntGaugeVec,
    pub uptime_seconds: IntGauge,
    pub active_sessions: IntGauge,
    pub active_sandboxes: IntGauge,
    pub pool_sandboxes: IntGaugeVec,
    pub pool_max_capacity: IntGauge,
    pub connections: IntGaugeVec,
    pub resume: IntCounterVec,
    pub resume_cold: IntCounterVec,
    pub gc_removed: IntCounterVec,
    pub gc_removed_bytes: IntCounterVec,
    pub snapshots: IntCounterVec,
    pub snapshot_failures: IntCounter,
    pub snapshot_bytes: IntGauge,
    pub model_retries: IntCounter,
}

impl Metrics {
    /// All families, at 0.
    ///
    /// # Panics
    ///
    /// Never: names and labels are constants that a test has seen to be good.
    pub fn new() -> Self {
        let registry = Registry::new();
        let good = "names and labels are constants";
        let gauge = |name, help| {
            let gauge = IntGauge::with_opts(Opts::new(name, help)).expect(good);
            registry.register(Box::new(gauge.clone())).expect(good);
            gauge
        };
        let gauges = |name, help, label, values: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &[label]).expect(good);
            registry.register(Box::new(gauges.clone())).expect(good);
            values.iter().for_each(|value| gauges.with_label_values(&[*value]).set(0));
            gauges
        };
        let counters = |name, help, label, values: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label]).expect(good);
            registry.register(Box::new(counters.clone())).expect(good);
            values.iter().for_each(|value| counters.with_label_values(&[*value]).reset());
            counters
        };
        let counter = |name, help| {
            let counter = IntCounter::with_opts(Opts::new(name, help)).expect(good);
            registry.register(Box::new(counter.clone())).expect(good);
            counter
        };
        Self {
            up: gauges("ash_up", "Whether the daemon runs, by its name", "coordinator", &[]),
            uptime_seconds: gauge("ash_uptime_seconds", "Seconds since the daemon started"),
            active_sessions: gauge("ash_active_sessions", "Sessions of the tenant \"default\" that take messages"),
            active_sandboxes: gauge("ash_active_sandboxes", "Sandboxes that have processes"),
            pool_sandboxes: gauges("ash_pool_sandboxes", "Sandboxes by state", "state", &SANDBOX_STATES),
            pool_max_capacity: gauge("ash_pool_max_capacity", "Sandboxes that there may be at a time, 0 for no bound"),
            connections: gauges("ash_http_connections", "Connections of clients that are open", "listener", &LISTENERS),
            resume: counters("ash_resume_total", "Sessions that were resumed: thawed, or started again", "path", &RESUME_PATHS),
            resume_cold: counters(
                "ash_resume_cold_total",
                "Sessions that were started again, by where they came from",
                "source",
                &RESUME_SOURCES,
            ),
            gc_removed: counters("ash_gc_removed_total", "Things removed as nobody needs them", "kind", &REMOVED_KINDS),
            gc_removed_bytes: counters(
                "ash_gc_removed_bytes_total",
                "Bytes of what was removed as nobody needs it",
                "kind",
                &REMOVED_KINDS,
            ),
            snapshots: counters("ash_snapshots_total", "Snapshots taken", "reason", &SNAPSHOT_REASONS),
            snapshot_failures: counter("ash_snapshot_failures_total", "Snapshots that could not be taken"),
            snapshot_bytes: gauge(
                "ash_snapshot_bytes",
                "Bytes of all snapshots when they were last looked at, which is every hour",
            ),
            model_retries: counter(
                "ash_model_retries_total",
                "Model calls that waited to be tried again, as the log tells of them",
            ),
            registry,
        }
    }

    /// All of them in the text format.
    ///
    /// # Errors
    ///
    /// Those of the encoder, which writes to memory.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(folder).expect("reads").map(|entry| entry.expect("reads").path()) {
            if path.is_dir() { sources(&path, found) } else { found.push(path) }
        }
    }

    /// The fields of [`Metrics`], as its source says.
    fn fields() -> Vec<String> {
        let text = include_str!("metrics.rs");
        let of = text.split("pub struct Metrics {").nth(1).and_then(|rest| rest.split('}').next()).expect("is declared");
        of.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next().map(str::to_owned)).collect()
    }

    #[test]
    fn every_family_is_written_somewhere() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let others: String = files.into_iter().filter(|path| !path.ends_with("telemetry/metrics.rs")).map(read).collect();
        let fields = fields();
        assert_eq!(fields.len(), 15);
        for field in fields {
            // With what changes a value; a family with labels is written by one of them.
            let writes = ["inc", "set", "add", "with_label_values"].map(|write| format!(".{field}.{write}"));
            let squeezed: String = others.split_whitespace().collect();
            assert!(writes.iter().any(|write| squeezed.contains(write)), "nothing writes {field}");
        }
    }

    #[test]
    fn the_text_has_every_family_with_its_type_and_all_values_of_its_labels() {
        let metrics = Metrics::new();
        metrics.up.with_label_values(&["here-1"]).set(1);
        metrics.resume.with_label_values(&["cold"]).inc();
        let text = metrics.text().expect("encodes");
        for line in [
            "# TYPE ash_up gauge",
            "ash_up{coordinator=\"here-1\"} 1",
            "# TYPE ash_resume_total counter",
            "ash_resume_total{path=\"cold\"} 1",
            "ash_resume_total{path=\"prewarm\"} 0",
            "ash_pool_sandboxes{state=\"frozen\"} 0",
            "ash_gc_removed_bytes_total{kind=\"agent_version\"} 0",
            "ash_snapshots_total{reason=\"end\"} 0",
            "ash_snapshot_failures_total 0",
            "ash_snapshot_bytes 0",
            "ash_model_retries_total 0",
        ] {
            assert!(text.lines().any(|is| is == line), "{line}\n{text}");
        }
        assert_eq!(text.matches("# TYPE ").count(), fields().len());
        assert_eq!(text.matches("# HELP ").count(), fields().len());
    }
}
