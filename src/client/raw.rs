//! Any request, and its answer as it comes.

use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use super::{Body, Client, ClientError, Download, Path, segment};

/// A request that is written by hand.
#[derive(Debug)]
pub struct RawRequest {
    /// What to do.
    pub method: Method,
    /// On what: a path with its query, if it has one. A slash before it may be left out.
    pub path: String,
    /// Fields that are added to the query.
    pub query: Vec<(String, String)>,
    /// Headers beside those that every request has, or in their place.
    pub headers: HeaderMap<HeaderValue>,
    /// Its body.
    pub body: Option<Body>,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct RawAnswer {
    /// How it went.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap<HeaderValue>,
    /// The body, which may be a stream without an end.
    pub body: Download,
}

impl Client {
    /// Sends a request as it is, with this client's key.
    ///
    /// # Errors
    /// [`ClientError::Path`], [`ClientError::Connect`] and [`ClientError::Broken`]. An answer that refuses
    /// is none.
    pub async fn raw(&self, request: RawRequest) -> Result<RawAnswer, ClientError> {
        let mut path = Path::new(format!("/{}", request.path.trim_start_matches('/')));
        for (name, value) in request.query {
            path = path.with(&segment(&name), Some(value));
        }
        let mut sent = self.request(request.method, request.body.map(|body| ("application/json", body)));
        sent.headers_mut().extend(request.headers);
        let (head, body) = self.link.send(&path.0, sent).await?.into_parts();
        let body = Download { body, server: self.server().clone() };
        Ok(RawAnswer { status: head.status, headers: head.headers, body })
    }
}
