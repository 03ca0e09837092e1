//! What the daemon counts: every family of `GET /metrics`, declared in this one place.
//!
//! Names and labels of the first eight are the wire contract's (section 4.1). Labels have closed
//! sets of values, which are all there from the start, so that a rate is right from the first event
//! on; but for routes, of which most are never asked, and for the names of agents and tenants, which
//! [`Names`] bounds. Counters begin at 0 with each start of the daemon. Gauges are set when they are
//! asked for, but for [`Metrics::snapshot_bytes`].

use std::cell::RefCell;
use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Counter, CounterVec, Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use super::names::{Names, OTHER};

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
pub const LISTENERS: [&str; 3] = ["control", "http", "https"];
/// Kinds of what is removed as nobody needs it.
const REMOVED_KINDS: [&str; 7] =
    ["session", "snapshot", "orphan_snapshots", "agent_version", "audit_entries", "attachment", "project_file"];
/// What is in a sandbox that was started: its folder as it was, a snapshot, or the agent's files.
const START_SOURCES: [&str; 3] = ["folder", "snapshot", "fresh"];
/// Why sandboxes ended, as their events say.
const END_CAUSES: [&str; 6] = ["finished", "out_of_memory", "time", "operator", "host", "crash"];
/// How turns ended, as their events say.
const OUTCOMES: [&str; 4] = ["completed", "failed", "interrupted", "cancelled"];
/// How something that the daemon does from time to time went.
const RUNS: [&str; 2] = ["ok", "failed"];
/// What the launcher is asked for.
const LAUNCHER_REQUESTS: [&str; 11] =
    ["start", "stop", "kill", "freeze", "thaw", "limit", "list", "remove", "host_stops", "usage", "quota"];
/// Why it did not do it.
const LAUNCHER_FAILURES: [&str; 3] = ["unreachable", "refused", "failed"];
/// Why model calls were not answered: by the endpoint's judgement (4xx), its failure, or the gateway's refusal.
const MODEL_FAILURES: [&str; 3] = ["rejected", "failed", "refused"];
/// Tokens, as the model API bills them.
const TOKEN_KINDS: [&str; 5] = ["input", "output", "cache_read", "cache_write", "cache_write_1h"];
/// What became of connections out of sandboxes.
const VERDICTS: [&str; 2] = ["allowed", "denied"];
/// Where items of the queue stand that are not over.
pub const QUEUE_STATES: [&str; 2] = ["pending", "processing"];
/// What came of a try of one.
const TRIES: [&str; 4] = ["completed", "failed", "cancelled", "again"];
/// What came of telling a webhook of an event.
const TELLINGS: [&str; 4] = ["delivered", "retried", "given_up", "disabled"];
/// What sweeps remove.
const SWEPT: [&str; 2] = ["sandbox", "snapshots"];
/// Why spans were not sent: no room, the collector did not take them in time, or it refused them.
const DROPPED: [&str; 3] = ["queue", "collector", "rejected"];

/// Seconds of an answer of the API, from a look-up to a sandbox's start or a command.
const REQUEST_BUCKETS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];
/// Seconds of a turn: of a model's answer, or of work for hours.
const TURN_BUCKETS: &[f64] = &[0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0];
/// Seconds of what a host does: processes, files and disks.
const HOST_BUCKETS: &[f64] = &[0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Bytes, from 64 KiB to 16 GiB.
const BYTES_BUCKETS: &[f64] =
    &[65_536.0, 1_048_576.0, 16_777_216.0, 67_108_864.0, 268_435_456.0, 1_073_741_824.0, 4_294_967_296.0, 17_179_869_184.0];
/// Operations that are stored together, up to as many as the writer takes.
const BATCH_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// All families.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "their help texts stand where they are made")]
pub struct Metrics {
    registry: Registry,
    names: Arc<Names>,
    families: Arc<[Family]>,
    pub up: IntGaugeVec,
    pub uptime_seconds: IntGauge,
    pub active_sessions: IntGauge,
    pub active_sandboxes: IntGauge,
    pub pool_sandboxes: IntGaugeVec,
    pub pool_max_capacity: IntGauge,
    pub connections: IntGaugeVec,
    pub resume: IntCounterVec,
    pub resume_cold: IntCounterVec,
    pub http_request_seconds: HistogramVec,
    pub turns: IntCounterVec,
    pub turn_seconds: HistogramVec,
    pub turn_first_event_seconds: Histogram,
    pub events: IntCounter,
    pub stream_events: IntCounter,
    pub sandbox_start_seconds: HistogramVec,
    pub sandbox_start_failures: IntCounter,
    pub sandbox_ends: IntCounterVec,
    pub launcher_request_seconds: HistogramVec,
    pub launcher_failures: IntCounterVec,
    pub store_commit_seconds: Histogram,
    pub store_commit_operations: Histogram,
    pub store_failures: IntCounter,
    pub snapshots: IntCounterVec,
    pub snapshot_failures: IntCounter,
    pub snapshot_bytes: IntGauge,
    pub snapshot_pack_seconds: Histogram,
    pub snapshot_pack_bytes: Histogram,
    pub snapshot_restore_seconds: Histogram,
    pub model_retries: IntCounter,
    pub model_calls: IntCounter,
    pub model_failures: IntCounterVec,
    pub model_wait_seconds: Counter,
    pub model_tokens: IntCounterVec,
    pub egress_attempts: IntCounterVec,
    pub queue_items: IntGaugeVec,
    pub queue_tries: IntCounterVec,
    pub queue_wait_seconds: Histogram,
    pub webhook_attempts: IntCounterVec,
    pub webhook_attempt_seconds: Histogram,
    pub tls_certificate_expiry: IntGauge,
    pub gc_runs: IntCounterVec,
    pub gc_removed: IntCounterVec,
    pub gc_removed_bytes: IntCounterVec,
    pub sweeps: IntCounterVec,
    pub sweep_removed: IntCounterVec,
    pub trace_spans_exported: IntCounter,
    pub trace_spans_dropped: IntCounterVec,
    pub disk_bytes: IntGauge,
    pub disk_free_bytes: IntGauge,
    pub agent_sessions: IntCounterVec,
    pub agent_turns: IntCounterVec,
    pub agent_tokens: IntCounterVec,
    pub agent_cost: CounterVec,
}

/// Makes families, and registers each.
struct Maker<'a> {
    registry: &'a Registry,
    made: RefCell<Vec<Family>>,
}

/// Names, labels and buckets are constants, and a test makes all of them.
const GOOD: &str = "they are constants";

impl Maker<'_> {
    fn keep<C: Collector + Clone + 'static>(&self, kind: &'static str, made: prometheus::Result<C>) -> C {
        let made = made.expect(GOOD);
        self.registry.register(Box::new(made.clone())).expect(GOOD);
        self.made.borrow_mut().extend(made.desc().into_iter().map(|desc| Family {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        }));
        made
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep("gauge", IntGauge::with_opts(Opts::new(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, label: &str, values: &[&str]) -> IntGaugeVec {
        let gauges = self.keep("gauge", IntGaugeVec::new(Opts::new(name, help), &[label]));
        values.iter().for_each(|value| gauges.with_label_values(&[*value]).set(0));
        gauges
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep("counter", IntCounter::with_opts(Opts::new(name, help)))
    }

    fn seconds(&self, name: &str, help: &str) -> Counter {
        self.keep("counter", Counter::with_opts(Opts::new(name, help)))
    }

    fn counters(&self, name: &str, help: &str, label: &str, values: &[&str]) -> IntCounterVec {
        let counters = self.keep("counter", IntCounterVec::new(Opts::new(name, help), &[label]));
        values.iter().for_each(|value| counters.with_label_values(&[*value]).reset());
        counters
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.keep("histogram", Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        self.keep("histogram", HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
    }

    fn histograms_of(&self, name: &str, help: &str, (label, values): (&str, &[&str]), buckets: &[f64]) -> HistogramVec {
        let histograms = self.histograms(name, help, &[label], buckets);
        values.iter().for_each(|value| drop(histograms.with_label_values(&[*value])));
        histograms
    }

    fn by_agent(&self, name: &str, help: &str) -> IntCounterVec {
        let counters = self.keep("counter", IntCounterVec::new(Opts::new(name, help), &["tenant", "agent"]));
        counters.with_label_values(&[OTHER, OTHER]).reset();
        counters
    }
}

impl Metrics {
    /// All families, at 0.
    ///
    /// # Panics
    ///
    /// Never: names and labels are constants that a test has seen to be good.
    pub fn new(names: Names) -> Self {
        let registry = Registry::new();
        let make = Maker { registry: &registry, made: RefCell::default() };
        let agent_cost = "US dollars of the model by the price table, of turns that ended, by tenant and agent";
        let agent_cost =
            make.keep("counter", CounterVec::new(Opts::new("ash_agent_cost_usd_total", agent_cost), &["tenant", "agent"]));
        agent_cost.with_label_values(&[OTHER, OTHER]).reset();
        Self {
            up: make.gauges("ash_up", "Whether the daemon runs, by its name", "coordinator", &[]),
            uptime_seconds: make.gauge("ash_uptime_seconds", "Seconds since the daemon started"),
            active_sessions: make.gauge("ash_active_sessions", "Sessions of the tenant \"default\" that take messages"),
            active_sandboxes: make.gauge("ash_active_sandboxes", "Sandboxes that have processes"),
            pool_sandboxes: make.gauges("ash_pool_sandboxes", "Sandboxes by state", "state", &SANDBOX_STATES),
            pool_max_capacity: make.gauge("ash_pool_max_capacity", "Sandboxes that there may be at a time, 0 for no bound"),
            connections: make.gauges("ash_http_connections", "Connections of clients that are open", "listener", &LISTENERS),
            resume: make.counters(
                "ash_resume_total",
                "Sessions that were resumed: thawed, or started again",
                "path",
                &RESUME_PATHS,
            ),
            resume_cold: make.counters(
                "ash_resume_cold_total",
                "Sessions that were started again, by where they came from",
                "source",
                &RESUME_SOURCES,
            ),
            http_request_seconds: make.histograms(
                "ash_http_request_seconds",
                "Seconds from the head of a request to that of its answer; of a stream, to its begin",
                &["route", "method", "status"],
                REQUEST_BUCKETS,
            ),
            turns: make.counters("ash_turns_total", "Turns that ended", "outcome", &OUTCOMES),
            turn_seconds: make.histograms_of(
                "ash_turn_seconds",
                "Seconds from a turn's being given to the runtime to its end, where its sandbox told",
                ("outcome", &OUTCOMES),
                TURN_BUCKETS,
            ),
            turn_first_event_seconds: make.histogram(
                "ash_turn_first_event_seconds",
                "Seconds from a message's being taken to the first event of its turn, with the wait for turns before it",
                TURN_BUCKETS,
            ),
            events: make.counter("ash_events_total", "Events written to the logs of sessions"),
            stream_events: make.counter("ash_stream_events_total", "Events sent to readers, once for each reader"),
            sandbox_start_seconds: make.histograms_of(
                "ash_sandbox_start_seconds",
                "Seconds until a sandbox that had no processes takes turns, by what is in it",
                ("source", &START_SOURCES),
                HOST_BUCKETS,
            ),
            sandbox_start_failures: make.counter("ash_sandbox_start_failures_total", "Sandboxes that did not come up"),
            sandbox_ends: make.counters("ash_sandbox_ends_total", "Sandboxes that ended", "cause", &END_CAUSES),
            launcher_request_seconds: make.histograms_of(
                "ash_launcher_request_seconds",
                "Seconds of requests to what starts sandboxes, those that failed too",
                ("request", &LAUNCHER_REQUESTS),
                HOST_BUCKETS,
            ),
            launcher_failures: make.counters(
                "ash_launcher_failures_total",
                "Requests to what starts sandboxes that failed",
                "reason",
                &LAUNCHER_FAILURES,
            ),
            store_commit_seconds: make.histogram(
                "ash_store_commit_seconds",
                "Seconds of a transaction of the database that writes, to its being on disk",
                HOST_BUCKETS,
            ),
            store_commit_operations: make.histogram(
                "ash_store_commit_operations",
                "Operations that were stored in one transaction",
                BATCH_BUCKETS,
            ),
            store_failures: make.counter("ash_store_failures_total", "Transactions that could not be stored"),
            snapshots: make.counters("ash_snapshots_total", "Snapshots taken", "reason", &SNAPSHOT_REASONS),
            snapshot_failures: make.counter("ash_snapshot_failures_total", "Snapshots that could not be taken"),
            snapshot_bytes: make
                .gauge("ash_snapshot_bytes", "Bytes of all snapshots when they were last looked at, which is every hour"),
            snapshot_pack_seconds: make.histogram("ash_snapshot_pack_seconds", "Seconds of taking a snapshot", HOST_BUCKETS),
            snapshot_pack_bytes: make.histogram("ash_snapshot_pack_bytes", "Bytes of a snapshot as it is stored", BYTES_BUCKETS),
            snapshot_restore_seconds: make.histogram(
                "ash_snapshot_restore_seconds",
                "Seconds of bringing a workspace and a conversation back from a snapshot",
                HOST_BUCKETS,
            ),
            model_retries: make
                .counter("ash_model_retries_total", "Model calls that waited to be tried again, as the log tells of them"),
            model_calls: make.counter("ash_model_calls_total", "Model calls that were answered, of turns that ended"),
            model_failures: make.counters(
                "ash_model_failures_total",
                "Model calls that were not answered, of turns that ended",
                "reason",
                &MODEL_FAILURES,
            ),
            model_wait_seconds: make.seconds(
                "ash_model_wait_seconds_total",
                "Seconds from model calls to the heads of their answers, of turns that ended",
            ),
            model_tokens: make.counters(
                "ash_model_tokens_total",
                "Tokens of the model, of turns that ended",
                "kind",
                &TOKEN_KINDS,
            ),
            egress_attempts: make.counters(
                "ash_egress_attempts_total",
                "Connections out of sandboxes, beside those to the model",
                "verdict",
                &VERDICTS,
            ),
            queue_items: make.gauges("ash_queue_items", "Items of the queue that are not over", "status", &QUEUE_STATES),
            queue_tries: make.counters("ash_queue_tries_total", "Tries of items of the queue", "outcome", &TRIES),
            queue_wait_seconds: make.histogram(
                "ash_queue_wait_seconds",
                "Seconds from an item's coming into the queue to its first try",
                TURN_BUCKETS,
            ),
            webhook_attempts: make.counters(
                "ash_webhook_attempts_total",
                "Requests that told webhooks of events, those by hand left out",
                "outcome",
                &TELLINGS,
            ),
            webhook_attempt_seconds: make.histogram(
                "ash_webhook_attempt_seconds",
                "Seconds of requests that told webhooks of events",
                REQUEST_BUCKETS,
            ),
            tls_certificate_expiry: make.gauge(
                "ash_tls_certificate_expiry_timestamp_seconds",
                "When the certificate of the API ends, in seconds since 1970; 0 where there is none",
            ),
            gc_runs: make.counters(
                "ash_gc_runs_total",
                "Looks for what nobody needs, every hour and on request",
                "outcome",
                &RUNS,
            ),
            gc_removed: make.counters("ash_gc_removed_total", "Things removed as nobody needs them", "kind", &REMOVED_KINDS),
            gc_removed_bytes: make.counters(
                "ash_gc_removed_bytes_total",
                "Bytes of what was removed as nobody needs it",
                "kind",
                &REMOVED_KINDS,
            ),
            sweeps: make.counters("ash_sweeps_total", "Comparisons of what runs with what should", "outcome", &RUNS),
            sweep_removed: make.counters(
                "ash_sweep_removed_total",
                "What such a comparison removed, as it is of no session",
                "kind",
                &SWEPT,
            ),
            trace_spans_exported: make.counter("ash_trace_spans_exported_total", "Spans that a collector took"),
            trace_spans_dropped: make.counters(
                "ash_trace_spans_dropped_total",
                "Spans that no collector took",
                "reason",
                &DROPPED,
            ),
            disk_bytes: make.gauge("ash_disk_bytes", "Size of the file system of the state folder in bytes"),
            disk_free_bytes: make.gauge("ash_disk_free_bytes", "Bytes of it that the daemon can still use"),
            agent_sessions: make.by_agent("ash_agent_sessions_total", "Sessions made, by tenant and agent"),
            agent_turns: make.by_agent("ash_agent_turns_total", "Turns that ended, by tenant and agent"),
            agent_tokens: make.by_agent(
                "ash_agent_tokens_total",
                "Tokens of the model of every kind, of turns that ended, by tenant and agent",
            ),
            agent_cost,
            names: Arc::new(names),
            families: make.made.take().into(),
            registry,
        }
    }

    /// The values of the labels `tenant` and `agent` for an agent of a tenant.
    pub fn agent(&self, tenant: &str, agent: &str) -> [String; 2] {
        self.names.labels(tenant, agent)
    }

    /// All of them in the text format.
    ///
    /// # Errors
    ///
    /// Those of the encoder, which writes to memory.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        encode(&self.registry.gather())
    }

    /// What a caller sees who may know of one tenant alone: that the daemon runs, and the series with this
    /// tenant's name. Without any, if it got no label of its own.
    ///
    /// # Errors
    ///
    /// Those of the encoder, which writes to memory.
    pub fn text_of(&self, tenant: &str) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        families.retain_mut(|family| {
            let is_open = ["ash_up", "ash_uptime_seconds"].contains(&family.name());
            if !is_open {
                // What has no tenant is of all of them. `other` is too, also where a tenant has this name.
                let is_own =
                    |label: &prometheus::proto::LabelPair| label.name() == "tenant" && label.value() == tenant && tenant != OTHER;
                family.mut_metric().retain(|metric| metric.get_label().iter().any(is_own));
            }
            !family.get_metric().is_empty()
        });
        encode(&families)
    }

    /// All of them, those without series too.
    pub fn families(&self) -> &[Family] {
        &self.families
    }
}

/// What a family is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// As in the text format. Series of a histogram have the suffixes `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// What is counted.
    pub help: String,
}

fn encode(families: &[MetricFamily]) -> Result<String, prometheus::Error> {
    let mut text = Vec::new();
    TextEncoder::new().encode(families, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Names::default())
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
        assert_eq!(fields.len(), 54);
        for field in fields {
            // With what changes a value, or hands it to who does; a family with labels is written by one of them.
            let writes =
                ["inc", "set", "add", "observe", "start_timer", "with_label_values"].map(|write| format!(".{field}.{write}"));
            let given = format!("metrics.{field}.clone()");
            let squeezed: String = others.split_whitespace().collect();
            assert!(writes.iter().chain([&given]).any(|write| squeezed.contains(write)), "nothing writes {field}");
        }
    }

    #[test]
    fn the_text_has_every_family_with_its_type_and_all_values_of_its_labels() {
        let metrics = Metrics::default();
        metrics.up.with_label_values(&["here-1"]).set(1);
        metrics.resume.with_label_values(&["cold"]).inc();
        metrics.http_request_seconds.with_label_values(&["/health", "GET", "2xx"]).observe(0.002);
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
            "ash_turn_seconds_count{outcome=\"cancelled\"} 0",
            "ash_agent_cost_usd_total{agent=\"other\",tenant=\"other\"} 0",
            "ash_http_request_seconds_bucket{method=\"GET\",route=\"/health\",status=\"2xx\",le=\"0.001\"} 0",
            "ash_http_request_seconds_bucket{method=\"GET\",route=\"/health\",status=\"2xx\",le=\"0.005\"} 1",
        ] {
            assert!(text.lines().any(|is| is == line), "{line}\n{text}");
        }
        assert_eq!(metrics.families().len(), fields().len());
        assert_eq!(text.matches("# TYPE ").count(), fields().len());
        assert_eq!(text.matches("# HELP ").count(), fields().len());
    }

    #[test]
    fn one_tenant_sees_its_own_series_and_none_of_all() {
        let metrics = Metrics::new(Names::new(2, 2));
        metrics.up.with_label_values(&["here-1"]).set(1);
        for (tenant, agent) in [("a", "x"), ("b", "x"), ("c", "secret"), (OTHER, "secret")] {
            metrics.agent_sessions.with_label_values(&metrics.agent(tenant, agent)).inc();
        }
        let all = metrics.text().expect("encodes");
        assert!(
            all.contains("ash_agent_sessions_total{agent=\"other\",tenant=\"other\"} 2\n") && !all.contains("secret"),
            "{all}"
        );
        let own = metrics.text_of("a").expect("encodes");
        let samples: Vec<_> = own.lines().filter(|line| !line.starts_with('#')).collect();
        let wanted =
            ["ash_agent_sessions_total{agent=\"x\",tenant=\"a\"} 1", "ash_up{coordinator=\"here-1\"} 1", "ash_uptime_seconds 0"];
        assert_eq!(samples, wanted);
        for none in ["c", OTHER, ""] {
            let text = metrics.text_of(none).expect("encodes");
            assert!(!text.contains("tenant"), "{none}: {text}");
        }
    }
}
