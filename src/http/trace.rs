//! The span of a request, and the trace id of its log lines.
//!
//! It lasts from when its caller is known to the head of the answer; a stream goes on behind it, and what it shows has
//! spans of its own. It says the route, and not the path, which may name files.

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use super::problem::request_id;
use super::{App, Origin};
use crate::telemetry::trace::{Kind, TraceContext, within};

/// A route that is asked again and again by those who watch.
const UNTOLD: &str = "/metrics";

/// Tells of a request, in its caller's trace if it has one.
pub async fn tell(State(app): State<App>, request: Request, next: Next) -> Response {
    let tracer = app.sessions.tracer();
    if !tracer.is_on() {
        return next.run(request).await;
    }
    let route = request.extensions().get::<MatchedPath>().cloned();
    if route.as_ref().is_some_and(|route| route.as_str() == UNTOLD) {
        return next.run(request).await;
    }
    let method = super::measure::method(request.method());
    // As the conventions have it for methods that are none.
    let (method, named) = if method == super::measure::OTHER { ("_OTHER", "HTTP") } else { (method, method) };
    let name = || route.as_ref().map_or_else(|| named.to_owned(), |route| format!("{named} {}", route.as_str()));
    let mut span = tracer.enter(name, Kind::Server, caller(request.headers()).as_ref());
    let place = span.context().cloned();
    if !span.is_kept() {
        return within(place, next.run(request)).await;
    }
    let transport = if matches!(request.extensions().get(), Some(Origin::Remote(_))) { "tcp" } else { "unix" };
    // Its fields are those of every line that is logged meanwhile, errors alone where the filter lets through no more.
    let lines = match &place {
        Some(place) => tracing::error_span!("request", trace_id = %place.trace),
        None => tracing::Span::none(),
    };
    let response = within(place, next.run(request)).instrument(lines).await;
    span.set("http.request.method", method);
    if let Some(route) = &route {
        span.set("http.route", route.as_str());
    }
    let status = response.status();
    span.set("http.response.status_code", status.as_u16());
    span.set("network.transport", transport);
    if let Some(id) = request_id() {
        span.set("ash.request.id", id);
    }
    if status.is_server_error() {
        span.set("error.type", status.as_str());
        span.fail();
    }
    response
}

/// The place in a trace that a caller sent. Two of them are none.
fn caller(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all("traceparent").iter();
    let (parent, more) = (parents.next()?, parents.next());
    if more.is_some() {
        return None;
    }
    // One line that is no text makes all of them none.
    let states: Option<Vec<_>> = headers.get_all("tracestate").iter().map(|state| state.to_str().ok()).collect();
    TraceContext::parse(parent.to_str().ok()?, states.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_caller_has_one_parent_and_any_number_of_states() {
        let headers = |all: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in all {
                headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
            }
            caller(&headers).map(|caller| (caller.parent(), caller.state.map(|state| state.to_string())))
        };
        let good = |state: Option<&str>| Some((PARENT.to_owned(), state.map(str::to_owned)));
        assert_eq!(headers(&[("traceparent", PARENT)]), good(None));
        assert_eq!(headers(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]), good(Some("a=1,b=2")));
        assert_eq!(headers(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=\u{e4}")]), good(None));
        assert_eq!(headers(&[("tracestate", "a=1")]), None);
        assert_eq!(headers(&[("traceparent", PARENT), ("traceparent", PARENT)]), None);
        assert_eq!(headers(&[("traceparent", "\u{e4}")]), None);
    }
}
