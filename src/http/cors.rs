//! Calls of web pages: which origins may make them, said to browsers on every answer, streams too.
//!
//! It protects no one from programs, which need not ask; what protects is the API key.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

use super::rate;
use crate::config::settings::CorsOrigins;

/// The methods that routes have.
const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::POST, Method::DELETE];
/// Headers of answers that pages may read, beside those that browsers show anyway.
const EXPOSED: [HeaderName; 6] = [
    HeaderName::from_static("x-request-id"),
    header::CONTENT_DISPOSITION,
    header::RETRY_AFTER,
    rate::LIMIT,
    rate::REMAINING,
    rate::RESET,
];
/// How long a browser may go by an answer to a preflight request. Chromium takes 2 hours at most.
const MAX_AGE: Duration = Duration::from_secs(7200);

/// The layer that says so; `None` where no page may call.
pub fn layer(origins: &CorsOrigins) -> Option<CorsLayer> {
    let layer = CorsLayer::new()
        .allow_methods(METHODS)
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(ExposeHeaders::list(EXPOSED))
        .max_age(MAX_AGE);
    match origins {
        CorsOrigins::Any => Some(layer.allow_origin(AllowOrigin::any())),
        CorsOrigins::These(origins) if origins.is_empty() => None,
        CorsOrigins::These(origins) => {
            // The configuration has checked that each can stand in a header.
            let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
            Some(layer.allow_origin(AllowOrigin::list(origins)).allow_credentials(true))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::{Request, Response, StatusCode};
    use tower::ServiceExt;

    use super::*;

    async fn ask(origins: &CorsOrigins, method: Method, origin: &str) -> Response<Body> {
        let router = Router::new().fallback(async || StatusCode::UNAUTHORIZED);
        let router = layer(origins).map_or(router.clone(), |layer| router.layer(layer));
        let request = Request::builder().method(method).uri("/api/sessions").header(header::ORIGIN, origin);
        let request = request.header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST");
        let request = request.header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,idempotency-key");
        router.oneshot(request.body(Body::empty()).expect("a request")).await.expect("answers")
    }

    fn said<'a>(response: &'a Response<Body>, header: &str) -> Option<&'a str> {
        response.headers().get(header).and_then(|value| value.to_str().ok())
    }

    #[tokio::test]
    async fn pages_of_any_origin_may_call_without_credentials_by_default() {
        let preflight = ask(&CorsOrigins::Any, Method::OPTIONS, "https://a.example").await;
        assert_eq!(preflight.status(), StatusCode::OK, "before anybody asks for a key");
        assert_eq!(said(&preflight, "access-control-allow-origin"), Some("*"));
        assert_eq!(said(&preflight, "access-control-allow-headers"), Some("authorization,idempotency-key"));
        assert!(said(&preflight, "access-control-allow-methods").is_some_and(|methods| methods.contains("PATCH")));
        let refused = ask(&CorsOrigins::Any, Method::POST, "https://a.example").await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(said(&refused, "access-control-allow-origin"), Some("*"), "a page can read why it was refused");
        assert_eq!(said(&refused, "access-control-allow-credentials"), None);
        assert!(said(&refused, "access-control-expose-headers").is_some_and(|headers| headers.contains("x-request-id")));
    }

    #[tokio::test]
    async fn only_those_that_are_named_may_call_with_credentials() {
        let these = CorsOrigins::These(vec!["https://a.example".to_owned(), "http://localhost:3000".to_owned()]);
        let named = ask(&these, Method::GET, "http://localhost:3000").await;
        assert_eq!(said(&named, "access-control-allow-origin"), Some("http://localhost:3000"));
        assert_eq!(said(&named, "access-control-allow-credentials"), Some("true"));
        assert!(said(&named, "vary").is_some_and(|vary| vary.contains("origin")), "no cache mixes them up");
        let other = ask(&these, Method::GET, "https://a.example.evil").await;
        assert_eq!(said(&other, "access-control-allow-origin"), None);
    }

    #[tokio::test]
    async fn where_none_may_call_nothing_is_said() {
        let answer = ask(&CorsOrigins::These(Vec::new()), Method::OPTIONS, "https://a.example").await;
        assert_eq!((answer.status(), said(&answer, "access-control-allow-origin")), (StatusCode::UNAUTHORIZED, None));
    }
}
