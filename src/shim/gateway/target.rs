//! Where calls go, and what is added to them.

use std::time::Duration;

use hyper::Uri;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};

use super::{CREDENTIALS, Error, MESSAGES, X_API_KEY, end_to_end};
use crate::link::shim::{Gateway as Settings, KeyAs};

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is none.
    #[error("model endpoint {0:?} is not an address such as https://api.anthropic.com")]
    Address(String),
    /// The key can not be sent.
    #[error("the model API's key has characters that no key has")]
    Key,
    /// A header can not be sent.
    #[error("header {0:?} for the model API can not be sent")]
    Header(String),
}

/// Where calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub scheme: Scheme,
    pub authority: Authority,
    /// Before the path of a call; empty, or with a slash at its start and none at its end.
    prefix: String,
    /// Paths of the two calls there, where they are others; empty for one that there is not.
    messages: Option<String>,
    count_tokens: Option<String>,
    /// What is added to each call, with the key. Marked sensitive, so that it is never printed.
    headers: HeaderMap,
    /// How long a call is tried again.
    pub patience: Duration,
    /// Why no call leaves.
    pub refusal: Option<String>,
}

impl Target {
    pub fn new(settings: &Settings) -> Result<Self, GatewayError> {
        let refuse = || GatewayError::Address(settings.base_url.clone());
        let parts = settings.base_url.parse::<Uri>().map_err(|_| refuse())?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(refuse()) };
        let has_query = parts.path_and_query.as_ref().is_some_and(|path| path.query().is_some());
        if ![Scheme::HTTP, Scheme::HTTPS].contains(&scheme) || authority.as_str().contains('@') || has_query {
            return Err(refuse());
        }
        let prefix = parts.path_and_query.map(|path| path.path().trim_end_matches('/').to_owned()).unwrap_or_default();
        Ok(Self {
            scheme,
            authority,
            prefix,
            messages: settings.messages_path.clone(),
            count_tokens: settings.count_tokens_path.clone(),
            headers: headers(settings)?,
            patience: Duration::from_millis(settings.retry_ms),
            refusal: settings.refusal.clone(),
        })
    }

    /// The path that a call has there; `None` if there is no such call.
    pub fn path<'a>(&'a self, path: &'a str) -> Option<&'a str> {
        let there = if path == MESSAGES { &self.messages } else { &self.count_tokens };
        Some(there.as_deref().unwrap_or(path)).filter(|path| !path.is_empty())
    }

    /// The address of a call.
    pub fn uri(&self, path: &str, query: Option<&str>) -> Result<Uri, Error> {
        let path = self.path(path).ok_or("there is no such call")?;
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let path: PathAndQuery = format!("{}{path}{query}", self.prefix).parse()?;
        Ok(Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(path).build()?)
    }

    /// The headers of a call as they leave.
    pub fn outgoing(&self, headers: HeaderMap) -> HeaderMap {
        let mut headers = end_to_end(headers);
        // The one that counts is made from the body. A caller may have sent another, beside
        // chunks, for the endpoint to see an end where there is none.
        headers.remove(header::CONTENT_LENGTH);
        // So that nobody reads the body in another way than it was read here.
        headers.remove(header::CONTENT_ENCODING);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for name in CREDENTIALS {
            headers.remove(*name);
        }
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers
    }
}

/// What is added to each call. The key comes last: it has the place of a header with its name.
fn headers(settings: &Settings) -> Result<HeaderMap, GatewayError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        let refuse = || GatewayError::Header(name.clone());
        let header: HeaderName = name.parse().map_err(|_| refuse())?;
        headers.insert(header, HeaderValue::from_str(value).map_err(|_| refuse())?);
    }
    if let Some(key) = settings.api_key.as_deref().map(str::trim) {
        let (name, value) = match settings.auth {
            KeyAs::XApiKey => (HeaderName::from_static(X_API_KEY), HeaderValue::from_str(key)),
            KeyAs::Bearer => (header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}"))),
        };
        headers.insert(name, value.map_err(|_| GatewayError::Key)?);
    }
    headers.values_mut().for_each(|value| value.set_sensitive(true));
    Ok(headers)
}
