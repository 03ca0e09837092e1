//! Spans as messages of OTLP 1.x (opentelemetry-proto, `trace.proto`).

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValueOf;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

use super::{Finished, Kind, Value};
use crate::wire::VERSION;

/// The flags of a span that is kept, as in `traceparent`.
const SAMPLED: u32 = 1;

/// What all spans are of, as a message.
pub(super) fn resource(attributes: &[(String, String)]) -> Resource {
    let attributes = attributes.iter().map(|(name, value)| pair(name, Value::Text(value.clone()))).collect();
    Resource { attributes, ..Resource::default() }
}

/// A request that tells of these spans.
pub(super) fn request(resource: &Resource, spans: Vec<Finished>) -> Vec<u8> {
    let scope = InstrumentationScope { name: "ash".to_owned(), version: VERSION.to_owned(), ..InstrumentationScope::default() };
    let spans = ScopeSpans { scope: Some(scope), spans: spans.into_iter().map(span).collect(), ..ScopeSpans::default() };
    let spans = ResourceSpans { resource: Some(resource.clone()), scope_spans: vec![spans], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }.encode_to_vec()
}

/// How many spans a good answer says were refused, and why. One that can not be read refuses none.
pub(super) fn rejected(answer: &[u8]) -> (u64, String) {
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let partial = answer.partial_success.unwrap_or_default();
    (u64::try_from(partial.rejected_spans).unwrap_or(0), partial.error_message)
}

fn span(finished: Finished) -> Span {
    let Finished { context, parent, name, kind, start, end, attributes, events, is_failed } = finished;
    Span {
        trace_id: context.trace.0.to_vec(),
        span_id: context.span.0.to_vec(),
        trace_state: context.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
        flags: SAMPLED,
        name,
        kind: match kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
        }
        .into(),
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        attributes: attributes.into_iter().map(|(name, value)| pair(name, value)).collect(),
        events: events
            .into_iter()
            .map(|(name, at)| Event { time_unix_nano: at, name: name.to_owned(), ..Event::default() })
            .collect(),
        // What did not fail is left unset: to call it good is for who reads it.
        status: is_failed.then(|| Status { code: StatusCode::Error.into(), message: String::new() }),
        ..Span::default()
    }
}

fn pair(name: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => AnyValueOf::StringValue(text),
        Value::Whole(count) => AnyValueOf::IntValue(count),
        Value::Real(measure) => AnyValueOf::DoubleValue(measure),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
