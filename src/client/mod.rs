//! The client of the HTTP API: one method for each operation, over a Unix socket or the network.
//!
//! | module | job |
//! | --- | --- |
//! | [`connect`] | where the daemon is; connections to it |
//! | [`sse`] | server-sent events from bytes |
//! | [`stream`] | the stream of a turn, taken up again when its connection breaks |
//! | [`error`] | what can go wrong, and the hint that helps |
//!
//! A [`Client`] is cheap to clone and holds no state but its connections. It never repeats a
//! request by itself, except to go on reading a stream.

pub mod connect;
pub mod error;
pub mod sse;
pub mod stream;

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::connect::{Body, Server, ServerError};
pub use self::error::ClientError;
use self::error::ConnectCause;
pub use self::stream::TurnStream;
use crate::wire::agent::{AgentBody, AgentList, AgentPatch, DeployBody};
use crate::wire::health::{Checks, Health};
use crate::wire::key::{CreateKey, CreatedKey, KeyList};
use crate::wire::message::MessageBody;
use crate::wire::problem::Problem;
use crate::wire::session::{CreateSession, EventList, InterruptBody, MessageList, SessionBody, SessionList, Status};
use crate::wire::{KeyId, SessionId, TurnId};

/// Longest answer that is read whole.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// How long a request that only asks may take. One that changes something may take as long as the
/// change does, such as the installation of an agent.
const ASK_TIMEOUT_SECS: u64 = 60;

/// An answer: what this version understands of it, and all of it.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// As this version understands it.
    pub body: T,
    /// As the daemon sent it.
    pub json: serde_json::Value,
}

/// `{"ok": true}`.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
pub struct Done {
    /// Always true.
    pub ok: bool,
}

/// Which sessions to list. The default is all, newest first, as many as the daemon gives at once.
#[derive(Debug, Clone, Default)]
pub struct SessionQuery {
    /// Of this agent only.
    pub agent: Option<String>,
    /// With this status only.
    pub status: Option<Status>,
    /// At most so many.
    pub limit: Option<u32>,
    /// Without the first so many.
    pub offset: Option<u32>,
    /// Whether the answer says how many there are in all.
    pub include_total: bool,
}

/// Which rows of a list that grows: those after `after`, at most `limit`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page {
    /// The `sequence` of the last row that is known.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// Speaks to one daemon.
#[derive(Clone)]
pub struct Client {
    link: connect::Link,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// A client of `server`. The key is sent over the network only: on a control socket the kernel
    /// says who calls.
    ///
    /// # Errors
    /// [`ClientError::Key`] if the key can not be a header, [`ClientError::Roots`] if TLS is
    /// wanted and this host's certificates can not be read.
    pub fn new(server: Server, api_key: Option<&str>) -> Result<Self, ClientError> {
        let key = api_key.filter(|_| matches!(server, Server::Http { .. }));
        let authorization = match key {
            Some(key) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| ClientError::Key)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self { link: connect::Link::new(server)?, authorization })
    }

    /// Where the daemon is.
    pub fn server(&self) -> &Server {
        self.link.server()
    }

    /// `GET /health`; needs no key.
    ///
    /// # Errors
    /// As all calls: [`ClientError::Connect`], [`ClientError::Broken`] and [`ClientError::Silent`]
    /// if there is no daemon to talk to, [`ClientError::Problem`] if it refuses,
    /// [`ClientError::Foreign`] and [`ClientError::Decode`] if the answer makes no sense.
    pub async fn health(&self) -> Result<Answer<Health>, ClientError> {
        self.get("/health").await
    }

    /// `GET /api/doctor`: the daemon's own checks.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn doctor(&self) -> Result<Answer<Checks>, ClientError> {
        self.get("/api/doctor").await
    }

    /// `PUT /api/agents/{name}/archive`: deploys what the tar stream holds.
    ///
    /// # Errors
    /// See [`Self::health`]; [`ClientError::Broken`] also if `archive` fails.
    pub async fn deploy_archive(&self, name: &str, archive: Body) -> Result<Answer<AgentBody>, ClientError> {
        let path = format!("/api/agents/{}/archive", segment(name));
        self.call(Method::PUT, &path, Some(("application/x-tar", archive))).await
    }

    /// `POST /api/agents`: deploys from a folder on the server, or from files in the body.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn deploy(&self, body: &DeployBody) -> Result<Answer<AgentBody>, ClientError> {
        self.send(Method::POST, "/api/agents", body).await
    }

    /// `GET /api/agents`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn agents(&self) -> Result<Answer<AgentList>, ClientError> {
        self.get("/api/agents").await
    }

    /// `GET /api/agents/{name}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn agent(&self, name: &str) -> Result<Answer<AgentBody>, ClientError> {
        self.get(&format!("/api/agents/{}", segment(name))).await
    }

    /// `PATCH /api/agents/{name}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn patch_agent(&self, name: &str, patch: &AgentPatch) -> Result<Answer<AgentBody>, ClientError> {
        self.send(Method::PATCH, &format!("/api/agents/{}", segment(name)), patch).await
    }

    /// `DELETE /api/agents/{name}`: the agent and its sessions.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn delete_agent(&self, name: &str) -> Result<Answer<Done>, ClientError> {
        self.call(Method::DELETE, &format!("/api/agents/{}", segment(name)), None).await
    }

    /// `POST /api/sessions`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn create_session(&self, body: &CreateSession) -> Result<Answer<SessionBody>, ClientError> {
        self.send(Method::POST, "/api/sessions", body).await
    }

    /// `GET /api/sessions`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn sessions(&self, query: &SessionQuery) -> Result<Answer<SessionList>, ClientError> {
        let path = Path::new("/api/sessions")
            .with("agent", query.agent.as_deref())
            .with("status", query.status.map(Status::as_str))
            .with("limit", query.limit)
            .with("offset", query.offset)
            .with("includeTotal", query.include_total.then_some(true));
        self.get(&path.0).await
    }

    /// `GET /api/sessions/{id}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn session(&self, id: SessionId) -> Result<Answer<SessionBody>, ClientError> {
        self.get(&format!("/api/sessions/{id}")).await
    }

    /// `DELETE /api/sessions/{id}`: ends it for good; may be repeated.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn end_session(&self, id: SessionId) -> Result<Answer<SessionBody>, ClientError> {
        self.call(Method::DELETE, &format!("/api/sessions/{id}"), None).await
    }

    /// `POST /api/sessions/{id}/messages`: begins a turn and follows it.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn send_message(&self, id: SessionId, body: &MessageBody) -> Result<TurnStream, ClientError> {
        let content = serde_json::to_vec(body).map_err(ClientError::Encode)?;
        let path = format!("/api/sessions/{id}/messages");
        let answer = self.answer(Method::POST, &path, Some((JSON, connect::whole(content)))).await?;
        Ok(TurnStream::new(self.clone(), id, body.options.include_partial_messages, answer.into_body()))
    }

    /// `GET /api/sessions/{id}/stream`: the frames of a turn after `after`.
    pub(in crate::client) async fn open_stream(
        &self,
        id: SessionId,
        turn: TurnId,
        after: i64,
        partials: bool,
    ) -> Result<Incoming, ClientError> {
        let path = Path::new(format!("/api/sessions/{id}/stream"));
        let path = path.with("after", Some(after)).with("turn", Some(turn)).with("partials", Some(partials));
        self.in_time(self.answer(Method::GET, &path.0, None)).await.map(Response::into_body)
    }

    /// `POST /api/sessions/{id}/interrupt`: ends the running turn, if there is one.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn interrupt(&self, id: SessionId) -> Result<Answer<InterruptBody>, ClientError> {
        self.call(Method::POST, &format!("/api/sessions/{id}/interrupt"), None).await
    }

    /// `GET /api/sessions/{id}/messages`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn messages(&self, id: SessionId, page: Page) -> Result<Answer<MessageList>, ClientError> {
        let path = Path::new(format!("/api/sessions/{id}/messages")).with("after", page.after).with("limit", page.limit);
        self.get(&path.0).await
    }

    /// `GET /api/sessions/{id}/events`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn events(&self, id: SessionId, page: Page) -> Result<Answer<EventList>, ClientError> {
        let path = Path::new(format!("/api/sessions/{id}/events")).with("after", page.after).with("limit", page.limit);
        self.get(&path.0).await
    }

    /// `POST /api/api-keys`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn create_key(&self, body: &CreateKey) -> Result<Answer<CreatedKey>, ClientError> {
        self.send(Method::POST, "/api/api-keys", body).await
    }

    /// `GET /api/api-keys`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn keys(&self) -> Result<Answer<KeyList>, ClientError> {
        self.get("/api/api-keys").await
    }

    /// `DELETE /api/api-keys/{id}`; effective at once.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn revoke_key(&self, id: KeyId) -> Result<Answer<Done>, ClientError> {
        self.call(Method::DELETE, &format!("/api/api-keys/{id}"), None).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, ClientError> {
        self.in_time(self.call(Method::GET, path, None)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer<T>, ClientError> {
        let content = serde_json::to_vec(body).map_err(ClientError::Encode)?;
        self.call(method, path, Some((JSON, connect::whole(content)))).await
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let limit = Duration::from_secs(ASK_TIMEOUT_SECS);
        let late = || ClientError::Silent { server: self.server().clone(), secs: ASK_TIMEOUT_SECS };
        tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(late()))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Body)>,
    ) -> Result<Answer<T>, ClientError> {
        let what = format!("{method} {path}");
        let answer = self.answer(method, path, body).await?;
        let bytes = self.read(answer).await?;
        let decode = |source| ClientError::Decode { what: what.clone(), source };
        let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(decode)?;
        let body = T::deserialize(&json).map_err(decode)?;
        Ok(Answer { body, json })
    }

    /// Sends a request and returns the answer if it is a success.
    async fn answer(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Body)>,
    ) -> Result<Response<Incoming>, ClientError> {
        let (kind, body) = body.unzip();
        let mut request = Request::new(body.unwrap_or_else(|| connect::whole("")));
        *request.method_mut() = method;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("ashctl/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let answer = self.link.send(path, request).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let bytes = self.read(answer).await?;
        Err(match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(_) => {
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).trim().chars().take(200).collect();
                ClientError::Foreign { server: self.server().clone(), status, text }
            }
        })
    }

    async fn read(&self, answer: Response<Incoming>) -> Result<bytes::Bytes, ClientError> {
        let whole = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let broken = |error: Box<dyn std::error::Error + Send + Sync>| ClientError::Broken {
            server: self.server().clone(),
            cause: ConnectCause::of(&*error),
        };
        whole.map(http_body_util::Collected::to_bytes).map_err(broken)
    }
}

const JSON: &str = "application/json";

/// A path with its query.
struct Path(String);

impl Path {
    fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    fn with(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.contains('?') { '&' } else { '?' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&segment(&value.to_string()));
        }
        self
    }
}

/// A text as one segment of a path, or as a value of a query (RFC 3986 §2.3: unreserved letters
/// stay, all else is written in percent).
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            b'.' if text.bytes().any(|b| b != b'.') => out.push('.'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_segment() {
        for (text, path) in
            [("qa-bot_1", "qa-bot_1"), ("a/b", "a%2Fb"), ("..", "%2E%2E"), ("a.b", "a.b"), ("ä ?#%", "%C3%A4%20%3F%23%25")]
        {
            assert_eq!(segment(text), path);
        }
    }

    #[test]
    fn queries_hold_only_what_is_asked() {
        let path = Path::new("/x").with("a", None::<u32>).with("b", Some(1)).with("c", Some("d&e"));
        assert_eq!(path.0, "/x?b=1&c=d%26e");
    }
}
