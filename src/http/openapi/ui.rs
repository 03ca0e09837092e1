//! `/docs`: the document, and Swagger UI to read and try it. Open to everybody, as by the wire contract.
//!
//! All that the page loads comes with the daemon. What it may load, and whom it may call, is said to
//! the browser as well, so that a fault in it could not send a key elsewhere.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use utoipa_swagger_ui::{Config, serve};

use crate::http::App;
use crate::http::problem::Failure;

/// The page's own styles are in its files; those that Swagger UI writes on elements are inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static JSON: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", super::document()));
static YAML: LazyLock<String> = LazyLock::new(|| super::yaml(&super::document()));
static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    // Without that, it asks a server of its makers whether the document is valid.
    let config = Config::new(["/docs/json"]).validator_url("none").use_base_layout();
    Arc::new(config.doc_expansion("none").filter(true).display_request_duration(true).deep_linking(true))
});

/// Its routes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(async || file("index.html")))
        .route("/docs/json", get(async || ([(header::CONTENT_TYPE, "application/json")], JSON.as_str())))
        // RFC 9512.
        .route("/docs/yaml", get(async || ([(header::CONTENT_TYPE, "application/yaml")], YAML.as_str())))
        .route("/docs/{*file}", get(async |Path(name): Path<String>| file(&name)))
}

fn file(name: &str) -> Response {
    let found = match serve(name, CONFIG.clone()) {
        Ok(found) => found,
        Err(error) => return Failure::internal(&*error).into_response(),
    };
    let Some(found) = found else { return Failure::not_found(format!("Route GET:/docs/{name} not found")).into_response() };
    let headers = [
        (header::CONTENT_TYPE, found.content_type.as_str()),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (StatusCode::OK, headers, found.bytes.into_owned()).into_response()
}
