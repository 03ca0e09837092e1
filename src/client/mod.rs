//! The client of the HTTP API: one method for each operation, over a Unix socket or the network.
//!
//! | module | job |
//! | --- | --- |
//! | [`connect`] | where the daemon is; connections to it |
//! | [`sse`] | server-sent events from bytes |
//! | [`stream`] | the stream of a turn or a session, taken up again when its connection breaks |
//! | `attachment` | files that are given to a session |
//! | [`exec`] | commands in the workspace of a session |
//! | [`terminal`] | the same with a terminal, on a WebSocket |
//! | `file` | files of the workspace of a session |
//! | `prompt_version` | versions of an agent's prompt |
//! | `eval` | questions that agents are asked again and again |
//! | `queue` | messages that wait for a session |
//! | `usage` | what was used |
//! | [`raw`] | any request, and its answer as it comes |
//! | [`error`] | what can go wrong, and the hint that helps |
//!
//! A [`Client`] is cheap to clone and holds no state but its connections. It never repeats a
//! request by itself, except to go on reading a stream; a message has a key by which the daemon
//! knows it again.

mod attachment;
mod audit;
pub mod connect;
pub mod error;
mod eval;
pub mod exec;
mod file;
mod path;
mod project_file;
mod prompt_version;
mod queue;
pub mod raw;
mod schedule;
pub mod sse;
pub mod stream;
pub mod terminal;
mod usage;
mod webhook;

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::audit::AuditQuery;
pub use self::connect::{Body, Server, ServerError};
pub use self::error::ClientError;
use self::error::ConnectCause;
pub use self::file::NewFile;
use self::path::{Path, segment};
pub use self::stream::EventStream;
pub use self::usage::UsageQuery;
use crate::wire::agent::{AgentBody, AgentList, AgentPatch, DeployBody};
use crate::wire::credential::{ChangeCredential, CreateCredential, CredentialBody, CredentialList, Resealed};
use crate::wire::egress::{Egress, EgressBody};
use crate::wire::gc::{GcBody, GcReport};
use crate::wire::health::{Checks, Health};
use crate::wire::key::{CreateKey, CreatedKey, KeyList};
use crate::wire::limits::LimitsBody;
use crate::wire::message::MessageBody;
use crate::wire::permission::{PermissionAnswer, PermissionBody, PermissionList};
use crate::wire::problem::Problem;
use crate::wire::resources::ResourcesList;
use crate::wire::security::SecurityBody;
use crate::wire::session::{CreateSession, EventList, InterruptBody, MessageList, SessionBody, SessionList, Status};
use crate::wire::snapshot::{ForkSession, RewindSession, SnapshotBody, SnapshotList, UploadedBody};
use crate::wire::turn::{TurnBody, TurnList};
use crate::wire::{CredentialId, KeyId, PermissionId, SessionId, TurnId};

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

/// Which events of a session's log to follow. The default is all, from the first.
#[derive(Debug, Clone)]
pub struct LogQuery {
    /// Those after this id.
    pub after: i64,
    /// Token deltas and partial messages too.
    pub partials: bool,
    /// Only those with frames of these names; all if it is empty.
    pub types: Vec<String>,
}

impl Default for LogQuery {
    fn default() -> Self {
        Self { after: 0, partials: true, types: Vec::new() }
    }
}

/// Speaks to one daemon.
#[derive(Clone)]
pub struct Client {
    link: connect::Link,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// A client of `server`, which over TLS has to have a certificate under one in the file `ca` (PEM), if that
    /// is given, else under one that this host trusts. The key is sent over the network only: on a control socket the kernel
    /// says who calls.
    ///
    /// # Errors
    /// [`ClientError::Key`] if the key can not be a header, [`ClientError::Roots`] or [`ClientError::Ca`] if
    /// TLS is wanted and the certificates that are to be trusted can not be read.
    pub fn new(server: Server, api_key: Option<&str>, ca: Option<&std::path::Path>) -> Result<Self, ClientError> {
        let key = api_key.filter(|_| matches!(server, Server::Http { .. }));
        let authorization = match key {
            Some(key) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| ClientError::Key)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self { link: connect::Link::new(server, ca)?, authorization })
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

    /// `POST /api/gc`: removes what is not needed any more. Only on a control socket.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn gc(&self, dry_run: bool) -> Result<Answer<GcReport>, ClientError> {
        self.send(Method::POST, "/api/gc", &GcBody { dry_run }).await
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

    /// `POST /api/sessions/{id}/pause`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn pause_session(&self, id: SessionId) -> Result<Answer<SessionBody>, ClientError> {
        self.call(Method::POST, &format!("/api/sessions/{id}/pause"), None).await
    }

    /// `POST /api/sessions/{id}/stop`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn stop_session(&self, id: SessionId) -> Result<Answer<SessionBody>, ClientError> {
        self.call(Method::POST, &format!("/api/sessions/{id}/stop"), None).await
    }

    /// `POST /api/sessions/{id}/resume`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn resume_session(&self, id: SessionId) -> Result<Answer<SessionBody>, ClientError> {
        self.call(Method::POST, &format!("/api/sessions/{id}/resume"), None).await
    }

    /// `POST /api/sessions/{id}/fork`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn fork_session(&self, id: SessionId, body: &ForkSession) -> Result<Answer<SessionBody>, ClientError> {
        self.send(Method::POST, &format!("/api/sessions/{id}/fork"), body).await
    }

    /// `POST /api/sessions/{id}/rewind`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn rewind_session(&self, id: SessionId, body: &RewindSession) -> Result<Answer<SessionBody>, ClientError> {
        self.send(Method::POST, &format!("/api/sessions/{id}/rewind"), body).await
    }

    /// `GET /api/sessions/{id}/egress`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn egress(&self, id: SessionId) -> Result<Answer<EgressBody>, ClientError> {
        self.get(&format!("/api/sessions/{id}/egress")).await
    }

    /// `PATCH /api/sessions/{id}/egress`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn change_egress(&self, id: SessionId, body: &Egress) -> Result<Answer<EgressBody>, ClientError> {
        self.send(Method::PATCH, &format!("/api/sessions/{id}/egress"), body).await
    }

    /// `GET /api/sessions/{id}/security`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn security(&self, id: SessionId) -> Result<Answer<SecurityBody>, ClientError> {
        self.get(&format!("/api/sessions/{id}/security")).await
    }

    /// `GET /api/resources`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn resources(&self) -> Result<Answer<ResourcesList>, ClientError> {
        self.get("/api/resources").await
    }

    /// `GET /api/sessions/{id}/limits`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn limits(&self, id: SessionId) -> Result<Answer<LimitsBody>, ClientError> {
        self.get(&format!("/api/sessions/{id}/limits")).await
    }

    /// `PATCH /api/sessions/{id}/limits`: the fields that change, of which `null` takes one back.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn change_limits(
        &self,
        id: SessionId,
        change: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Answer<LimitsBody>, ClientError> {
        self.send(Method::PATCH, &format!("/api/sessions/{id}/limits"), change).await
    }

    /// `GET /api/sessions/{id}/snapshots`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn snapshots(&self, id: SessionId) -> Result<Answer<SnapshotList>, ClientError> {
        self.get(&format!("/api/sessions/{id}/snapshots")).await
    }

    /// `POST /api/sessions/{id}/snapshots`: takes one.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn take_snapshot(&self, id: SessionId) -> Result<Answer<SnapshotBody>, ClientError> {
        self.call(Method::POST, &format!("/api/sessions/{id}/snapshots"), None).await
    }

    /// `GET /api/sessions/{id}/workspace`: a `tar.gz`, which is whole if its body comes to its end.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn download_workspace(&self, id: SessionId, all: bool) -> Result<Download, ClientError> {
        let path = Path::new(format!("/api/sessions/{id}/workspace")).with("all", all.then_some(true));
        let answer = self.exchange(&path.0, self.request(Method::GET, None)).await?;
        Ok(Download { body: answer.into_body(), server: self.server().clone() })
    }

    /// `POST /api/sessions/{id}/workspace`: puts the files of a `tar.gz` into the workspace.
    ///
    /// # Errors
    /// See [`Self::health`]; [`ClientError::Broken`] also if `bundle` fails.
    pub async fn upload_workspace(
        &self,
        id: SessionId,
        replace: bool,
        bundle: Body,
    ) -> Result<Answer<UploadedBody>, ClientError> {
        let path = Path::new(format!("/api/sessions/{id}/workspace")).with("replace", replace.then_some(true));
        self.call(Method::POST, &path.0, Some(("application/gzip", bundle))).await
    }

    /// `POST /api/sessions/{id}/messages`: begins a turn and follows it. If the connection breaks
    /// the stream sees to it that the message is taken, once.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn send_message(&self, id: SessionId, body: &MessageBody) -> Result<EventStream, ClientError> {
        let content = serde_json::to_vec(body).map_err(ClientError::Encode)?;
        EventStream::of_message(self.clone(), id, content.into(), body.options.include_partial_messages).await
    }

    /// `GET /api/sessions/{id}/stream`: the log of the session, until the session has ended.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn follow(&self, id: SessionId, query: LogQuery) -> Result<EventStream, ClientError> {
        EventStream::of_log(self.clone(), id, query).await
    }

    /// One try of a message. `key` makes it the same message as other tries.
    pub(in crate::client) async fn post_message(
        &self,
        id: SessionId,
        content: bytes::Bytes,
        key: &HeaderValue,
    ) -> Result<Incoming, ClientError> {
        let mut request = self.request(Method::POST, Some((JSON, connect::whole(content))));
        request.headers_mut().insert(IDEMPOTENCY_KEY, key.clone());
        let answer = self.exchange(&format!("/api/sessions/{id}/messages"), request).await?;
        Ok(answer.into_body())
    }

    /// The frames of a turn after `after`.
    pub(in crate::client) async fn open_turn(
        &self,
        id: SessionId,
        turn: TurnId,
        after: i64,
        partials: bool,
    ) -> Result<Incoming, ClientError> {
        let path = Path::new(format!("/api/sessions/{id}/stream"));
        let path = path.with("after", Some(after)).with("turn", Some(turn)).with("partials", Some(partials));
        self.open_stream(&path).await
    }

    /// The frames of a session after `after`.
    pub(in crate::client) async fn open_log(&self, id: SessionId, query: &LogQuery, after: i64) -> Result<Incoming, ClientError> {
        let types = (!query.types.is_empty()).then(|| query.types.join(","));
        let path = Path::new(format!("/api/sessions/{id}/stream"));
        let path = path.with("after", Some(after)).with("partials", Some(query.partials)).with("types", types);
        self.open_stream(&path).await
    }

    async fn open_stream(&self, path: &Path) -> Result<Incoming, ClientError> {
        let request = self.request(Method::GET, None);
        self.in_time(self.exchange(&path.0, request)).await.map(Response::into_body)
    }

    /// `POST /api/sessions/{id}/interrupt`: ends the running turn, if there is one.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn interrupt(&self, id: SessionId) -> Result<Answer<InterruptBody>, ClientError> {
        self.call(Method::POST, &format!("/api/sessions/{id}/interrupt"), None).await
    }

    /// `GET /api/sessions/{id}/turns`: oldest first. `page.after` is the `first_event` of the last
    /// one that is known.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn turns(&self, id: SessionId, state: Option<&str>, page: Page) -> Result<Answer<TurnList>, ClientError> {
        let path = Path::new(format!("/api/sessions/{id}/turns"));
        let path = path.with("state", state).with("after", page.after).with("limit", page.limit);
        self.get(&path.0).await
    }

    /// `GET /api/sessions/{id}/turns/{turn}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn turn(&self, id: SessionId, turn: TurnId) -> Result<Answer<TurnBody>, ClientError> {
        self.get(&format!("/api/sessions/{id}/turns/{turn}")).await
    }

    /// `POST /api/sessions/{id}/turns/{turn}/cancel`: takes it from the queue, or interrupts it.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn cancel_turn(&self, id: SessionId, turn: TurnId) -> Result<Answer<TurnBody>, ClientError> {
        self.call(Method::POST, &format!("/api/sessions/{id}/turns/{turn}/cancel"), None).await
    }

    /// `GET /api/sessions/{id}/permissions`: oldest first, all or those that wait for an answer.
    /// `page.after` is the `event_id` of the last one that is known.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn permissions(&self, id: SessionId, pending: bool, page: Page) -> Result<Answer<PermissionList>, ClientError> {
        let path = Path::new(format!("/api/sessions/{id}/permissions"));
        let path = path.with("state", pending.then_some("pending")).with("after", page.after).with("limit", page.limit);
        self.get(&path.0).await
    }

    /// `GET /api/sessions/{id}/permissions/{permission}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn permission(&self, id: SessionId, permission: PermissionId) -> Result<Answer<PermissionBody>, ClientError> {
        self.get(&format!("/api/sessions/{id}/permissions/{permission}")).await
    }

    /// `POST /api/sessions/{id}/permissions/{permission}`: answers a request. The first answer
    /// counts.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn answer_permission(
        &self,
        id: SessionId,
        permission: PermissionId,
        answer: &PermissionAnswer,
    ) -> Result<Answer<PermissionBody>, ClientError> {
        self.send(Method::POST, &format!("/api/sessions/{id}/permissions/{permission}"), answer).await
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

    /// `POST /api/credentials`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn create_credential(&self, body: &CreateCredential) -> Result<Answer<CredentialBody>, ClientError> {
        self.send(Method::POST, "/api/credentials", body).await
    }

    /// `GET /api/credentials`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn credentials(&self) -> Result<Answer<CredentialList>, ClientError> {
        self.get("/api/credentials").await
    }

    /// `PATCH /api/credentials/{id}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn change_credential(
        &self,
        id: CredentialId,
        body: &ChangeCredential,
    ) -> Result<Answer<CredentialBody>, ClientError> {
        self.send(Method::PATCH, &format!("/api/credentials/{id}"), body).await
    }

    /// `DELETE /api/credentials/{id}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn delete_credential(&self, id: CredentialId) -> Result<Answer<Done>, ClientError> {
        self.call(Method::DELETE, &format!("/api/credentials/{id}"), None).await
    }

    /// `POST /api/credentials/reseal`: seals those under an older master key anew.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn reseal_credentials(&self) -> Result<Answer<Resealed>, ClientError> {
        self.call(Method::POST, "/api/credentials/reseal", None).await
    }

    /// `POST /api/api-keys`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn create_key(&self, body: &CreateKey) -> Result<Answer<CreatedKey>, ClientError> {
        self.send(Method::POST, "/api/api-keys", body).await
    }

    /// `GET /api/api-keys`, of a tenant over the control socket.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn keys(&self, tenant: Option<&str>) -> Result<Answer<KeyList>, ClientError> {
        self.get(&Path::new("/api/api-keys").with("tenant", tenant).0).await
    }

    /// `DELETE /api/api-keys/{id}`; effective at once.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn revoke_key(&self, id: KeyId, tenant: Option<&str>) -> Result<Answer<Done>, ClientError> {
        let path = Path::new(format!("/api/api-keys/{id}")).with("tenant", tenant);
        self.call(Method::DELETE, &path.0, None).await
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
        let request = self.request(method, body);
        let answer = self.exchange(path, request).await?;
        let bytes = self.read(answer).await?;
        let decode = |source| ClientError::Decode { what: what.clone(), source };
        let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(decode)?;
        let body = T::deserialize(&json).map_err(decode)?;
        Ok(Answer { body, json })
    }

    /// A request with what all have in common.
    fn request(&self, method: Method, body: Option<(&'static str, Body)>) -> Request<Body> {
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
        request
    }

    /// Sends a request and returns the answer if it is a success.
    async fn exchange(&self, path: &str, request: Request<Body>) -> Result<Response<Incoming>, ClientError> {
        let answer = self.link.send(path, request).await?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
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

/// Bytes of an answer that is not kept.
#[derive(Debug)]
pub struct Download {
    body: Incoming,
    server: Server,
}

impl Download {
    /// The next bytes; `None` at the end of what is whole.
    ///
    /// # Errors
    /// [`ClientError::Broken`] if it breaks off.
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>, ClientError> {
        loop {
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let broken =
                |error: hyper::Error| ClientError::Broken { server: self.server.clone(), cause: ConnectCause::of(&error) };
            if let Ok(bytes) = frame.map_err(broken)?.into_data() {
                return Ok(Some(bytes));
            }
        }
    }
}

const JSON: &str = "application/json";

/// draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
