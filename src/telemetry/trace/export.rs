//! Sends spans to a collector: one task, one request at a time, OTLP over HTTP with protobuf.
//!
//! A batch that the collector can not take now is tried again, as the specification has it; meanwhile spans wait in the
//! queue, and what has no room there is dropped by who tells of it. So a collector that is slow or gone costs spans, and
//! nothing else.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prometheus::{IntCounter, IntCounterVec};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::setup::Rules;
use super::{Finished, TraceError, otlp};
use crate::report::chain;
use crate::telemetry::metrics::Metrics;
use crate::wire::VERSION;

/// Spans of one request.
const BATCH: usize = 512;
/// How long the first of them waits for others: not long, since those of a daemon that dies are lost.
const DELAY: Duration = Duration::from_secs(1);
/// How often a batch is sent, and the first and the longest wait in between.
const TRIES: u32 = 4;
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_LONGEST: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read. It says how many spans were refused, in one sentence.
const ANSWER_MAX: usize = 64 << 10;
/// Characters of it that are told.
const WHY_MAX: usize = 200;
/// How long a connection is kept that is not used.
const IDLE: Duration = Duration::from_secs(60);

/// Sends what comes until it is told to end, and then what is there.
pub(super) fn spawn(
    rules: Rules,
    spans: mpsc::Receiver<Finished>,
    metrics: &Metrics,
    closing: CancellationToken,
) -> Result<JoinHandle<()>, TraceError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(rules.timeout));
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
    let client = if rules.url.scheme_str() == Some("https") {
        let https = HttpsConnectorBuilder::new().with_provider_and_native_roots(rustls::crypto::ring::default_provider());
        Pool::Tls(builder.build(https.map_err(TraceError::Roots)?.https_only().enable_http1().wrap_connector(tcp)))
    } else {
        Pool::Plain(builder.build(tcp))
    };
    let exporter = Exporter {
        resource: otlp::resource(&rules.resource),
        rules,
        client,
        exported: metrics.trace_spans_exported.clone(),
        dropped: metrics.trace_spans_dropped.clone(),
        is_failing: false,
        is_refused: false,
        closing,
    };
    Ok(tokio::spawn(exporter.run(spans)))
}

#[derive(Debug)]
enum Pool {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

#[derive(Debug)]
struct Exporter {
    rules: Rules,
    resource: Resource,
    client: Pool,
    exported: IntCounter,
    dropped: IntCounterVec,
    /// Whether the last batch did not get there, so that this is told once.
    is_failing: bool,
    /// Whether spans of the last batch that got there were refused, so that this is told once.
    is_refused: bool,
    closing: CancellationToken,
}

/// Why a batch did not get there.
#[derive(Debug)]
struct Refused {
    why: String,
    /// After which time it may be sent again, if at all; `None` in it where the collector says nothing of it.
    again: Option<Option<Duration>>,
}

impl Exporter {
    async fn run(mut self, mut spans: mpsc::Receiver<Finished>) {
        let closing = self.closing.clone();
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                count = spans.recv_many(&mut batch, BATCH) => if count == 0 { return },
            }
            let full = async {
                while batch.len() < BATCH {
                    let room = BATCH - batch.len();
                    if spans.recv_many(&mut batch, room).await == 0 {
                        break;
                    }
                }
            };
            tokio::select! {
                biased;
                () = full => {}
                () = closing.cancelled() => {}
                () = tokio::time::sleep(DELAY) => {}
            }
            self.send(std::mem::take(&mut batch)).await;
        }
        spans.close();
        while spans.recv_many(&mut batch, BATCH).await > 0 {
            self.send(std::mem::take(&mut batch)).await;
        }
    }

    async fn send(&mut self, spans: Vec<Finished>) {
        let count = spans.len() as u64;
        let body = Bytes::from(otlp::request(&self.resource, spans));
        let mut wait = WAIT_FIRST;
        for last in (1..=TRIES).map(|number| number == TRIES) {
            let Refused { why, again } = match self.post(body.clone()).await {
                Ok((refused, why)) => return self.sent(count, refused.min(count), &why),
                Err(refused) => refused,
            };
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::warn!(error = why, "spans can not be sent to the collector, dropping what has no room meanwhile");
            }
            let Some(asked) = again.filter(|_| !last && !self.closing.is_cancelled()) else { break };
            let pause = asked.unwrap_or(wait).min(WAIT_LONGEST);
            wait *= 2;
            // Whoever stops wants it tried now, for the last time.
            let _ = tokio::time::timeout(pause, self.closing.cancelled()).await;
        }
        self.dropped.with_label_values(&["collector"]).inc_by(count);
    }

    fn sent(&mut self, count: u64, refused: u64, why: &str) {
        self.exported.inc_by(count - refused);
        self.dropped.with_label_values(&["rejected"]).inc_by(refused);
        if refused > 0 && !self.is_refused {
            let why: String = why.chars().take(WHY_MAX).collect();
            tracing::warn!(refused, error = why, "the collector refused spans, dropping them, and what else it refuses");
        }
        self.is_refused = refused > 0;
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("spans are sent to the collector again");
        }
    }

    /// Sends a batch once. Returns how many spans of it were refused, and why.
    async fn post(&self, body: Bytes) -> Result<(u64, String), Refused> {
        let again = |why: String| Refused { why, again: Some(None) };
        let mut request =
            Request::post(self.rules.url.clone()).body(Full::new(body)).map_err(|error| again(error.to_string()))?;
        let headers = request.headers_mut();
        headers.extend(self.rules.headers.iter().cloned());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if let Ok(agent) = HeaderValue::from_str(&format!("Ash/{VERSION}")) {
            headers.insert(USER_AGENT, agent);
        }
        let exchange = async {
            let answer = match &self.client {
                Pool::Plain(client) => client.request(request).await,
                Pool::Tls(client) => client.request(request).await,
            };
            let (head, body) = answer.map_err(|error| again(chain(&error)))?.into_parts();
            if !head.status.is_success() {
                return Err(refusal(head.status, &head.headers));
            }
            // The spans are there, whatever else is said.
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            Ok(body.map_or_else(|_| (0, String::new()), |body| otlp::rejected(&body.to_bytes())))
        };
        let timeout = self.rules.timeout;
        let answer = tokio::time::timeout(timeout, exchange).await;
        answer.unwrap_or_else(|_| Err(again(format!("there was no answer in {} ms", timeout.as_millis()))))
    }
}

/// What a status other than good says ("OTLP/HTTP response", OTLP 1.x).
fn refusal(status: StatusCode, headers: &HeaderMap) -> Refused {
    let is_retryable = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    let after = headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    Refused { why: format!("it answered {status}"), again: is_retryable.then_some(after) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let after: HeaderMap = [(RETRY_AFTER, HeaderValue::from_static("7"))].into_iter().collect();
        for (status, again) in [
            (400, None),
            (401, None),
            (404, None),
            (413, None),
            (500, None),
            (301, None),
            (429, Some(Some(Duration::from_secs(7)))),
            (502, Some(Some(Duration::from_secs(7)))),
            (503, Some(Some(Duration::from_secs(7)))),
            (504, Some(Some(Duration::from_secs(7)))),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(refusal(status, &after).again, again, "{status}");
        }
        assert_eq!(refusal(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new()).again, Some(None));
    }
}
