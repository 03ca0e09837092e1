//! `[model]`: where model calls go, and what a gateway of the operator's wants of them.

use std::collections::BTreeMap;

use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// Headers that are added to calls, and bytes of one value.
const HEADERS_MAX: usize = 20;
const VALUE_MAX: usize = 4096;
/// Bytes of a path.
const PATH_MAX: usize = 1024;
/// Headers that belong to a connection, or that Ash makes for each call.
const NOT_FIXED: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// How a call says whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Auth {
    /// With the header `x-api-key`, as at Anthropic.
    #[serde(rename = "x-api-key")]
    XApiKey,
    /// With `authorization: Bearer`.
    #[serde(rename = "bearer")]
    Bearer,
}

/// An address of the model API, without a slash at its end.
pub(super) fn base_url(text: &str) -> Result<String, String> {
    let refuse = || format!("{text:?} is not an address such as \"https://api.anthropic.com\"");
    let url: hyper::Uri = text.parse().map_err(|_| refuse())?;
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    if !matches!(url.scheme_str(), Some("http" | "https")) || host.is_empty() {
        return Err(refuse());
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) || url.query().is_some() || text.contains('#') {
        return Err(format!("{text:?} has more than scheme, host, port and path"));
    }
    if let Some(other) = other_language(&host) {
        return Err(format!("{other}, which Ash does not speak; name a gateway that takes the calls of the Anthropic API"));
    }
    let bare = text.trim_end_matches('/');
    if bare.ends_with("/v1") {
        return Err("leave out \"/v1\", the runtime adds it".to_owned());
    }
    Ok(bare.to_owned())
}

/// Providers whose calls are others, though the models are the same.
fn other_language(host: &str) -> Option<&'static str> {
    let is_amazon = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") || host.ends_with(".api.aws");
    if host.starts_with("bedrock") && is_amazon {
        return Some("Amazon Bedrock wants calls that are signed (SigV4) and name the model in their path");
    }
    let is_vertex = host == "aiplatform.googleapis.com" || host.ends_with("-aiplatform.googleapis.com");
    is_vertex.then_some("Vertex AI wants access tokens that expire, and the model in the path")
}

/// The path of a call below the address, such as `/v1/messages`.
pub(super) fn path(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'?' | b'#' | b'\\' | b'%'));
    let has_dots = text.split('/').any(|part| matches!(part, "." | ".."));
    let is_path = text.starts_with('/') && text.len() <= PATH_MAX && is_plain && !has_dots && !text.contains("//");
    if is_path { Ok(text.to_owned()) } else { Err(format!("{text:?} is not a path such as \"/v1/messages\"")) }
}

/// The same, or an empty text for a call that there is not.
pub(super) fn path_or_none(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { path(text) }
}

/// Headers that every call has. What they say may be a secret, so it is not repeated.
pub(super) fn headers(headers: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    if headers.len() > HEADERS_MAX {
        return Err(format!("has more than {HEADERS_MAX} headers"));
    }
    let mut good = BTreeMap::new();
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        if HeaderName::from_bytes(lower.as_bytes()).is_err() {
            return Err(format!("{name:?} is not the name of a header"));
        }
        if NOT_FIXED.contains(&lower.as_str()) {
            return Err(format!("{name:?} is made by Ash for each call"));
        }
        let is_value = !value.is_empty() && value.len() <= VALUE_MAX && value.bytes().all(|c| matches!(c, b' '..=b'~'));
        if !is_value || HeaderValue::from_str(value).is_err() {
            return Err(format!("the value of {name:?} is not 1 to {VALUE_MAX} visible ASCII characters and spaces"));
        }
        if good.insert(lower, value.clone()).is_some() {
            return Err(format!("{name:?} is there twice"));
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_other_languages_refused_by_name() {
        assert_eq!(base_url("http://127.0.0.1:8080/"), Ok("http://127.0.0.1:8080".to_owned()));
        assert_eq!(base_url("https://gate.example/models"), Ok("https://gate.example/models".to_owned()));
        for bad in [
            "",
            "api.anthropic.com",
            "ftp://x",
            "https://",
            "https://u:p@x",
            "https://x/?a=1",
            "https://x/v1",
            "https://x/v1/",
            "/x",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
        for (url, named) in [
            ("https://bedrock-runtime.eu-west-1.amazonaws.com", "Amazon Bedrock"),
            ("https://BEDROCK-runtime-fips.us-east-1.amazonaws.com/anthropic", "Amazon Bedrock"),
            ("https://europe-west1-aiplatform.googleapis.com/v1", "Vertex AI"),
        ] {
            assert!(base_url(url).is_err_and(|reason| reason.starts_with(named)), "{url}");
        }
        assert!(base_url("https://bedrock.example.com").is_ok());
    }

    #[test]
    fn paths_and_headers_are_such_as_can_be_sent() {
        for good in ["/v1/messages", "/anthropic/messages", "/m"] {
            assert_eq!(path(good), Ok(good.to_owned()));
        }
        for bad in ["", "v1/messages", "/v1/../x", "/v1//x", "/a b", "/a?b", "/a#b", "/%2e%2e/x", "/\u{e4}"] {
            assert!(path(bad).is_err(), "{bad}");
        }
        assert_eq!(path_or_none(""), Ok(String::new()));
        let of =
            |all: &[(&str, &str)]| headers(&all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        assert_eq!(of(&[("X-Org", "a b")]), Ok([("x-org".to_owned(), "a b".to_owned())].into()));
        for (bad, named) in [
            (&[("x y", "1")][..], "x y"),
            (&[("Host", "h")], "Host"),
            (&[("content-length", "1")], "content-length"),
            (&[("x-a", "s3cret\r\nx-b: 1")], "x-a"),
            (&[("x-a", "")], "x-a"),
            (&[("x-a", "1"), ("X-A", "2")], "x-a"),
        ] {
            let reason = of(bad).expect_err(named);
            assert!(reason.contains(named) && !reason.contains("s3cret"), "{reason}");
        }
        let many = (0..=HEADERS_MAX).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
        assert!(headers(&many).is_err());
    }
}
