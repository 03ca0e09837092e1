//! How long requests take.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::App;

/// What is told of paths that are no route's, and of methods that no route takes.
pub(super) const OTHER: &str = "other";

/// Counts a request and the time until the head of its answer, by route, method and kind of status.
/// One whose sender goes away before that is not counted.
pub async fn time(State(app): State<App>, request: Request, next: Next) -> Response {
    // A route's own text, so the paths that callers make up can not become labels.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = method(request.method());
    let began = tokio::time::Instant::now();
    let response = next.run(request).await;
    let labels = [route.as_ref().map_or(OTHER, MatchedPath::as_str), method, class(response.status())];
    app.sessions.metrics().http_request_seconds.with_label_values(&labels).observe(began.elapsed().as_secs_f64());
    response
}

pub(super) fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => OTHER,
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}
