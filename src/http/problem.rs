//! From what went wrong to the one error body. All statuses are decided here.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::agent::service::AgentError;
use crate::agent::{Blame, ContentError};
use crate::auth::key::{KeyError, KeyRefused};
use crate::credential::CredentialError;
use crate::link::files::Refusal;
use crate::report::chain;
use crate::session::SessionError;
use crate::session::bundle::BundleError;
use crate::session::files::FileError;
use crate::store::StoreError;
use crate::wire::problem::{Code, Detail, Problem};

tokio::task_local! {
    /// Id of the request that the present task answers.
    pub static REQUEST_ID: String;
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    status: StatusCode,
    code: Code,
    error: String,
    details: Vec<Detail>,
    /// Seconds after which another try may help.
    retry_after: Option<u32>,
}

impl Failure {
    /// A failure with this status and sentence.
    pub fn new(status: StatusCode, code: Code, error: impl Into<String>) -> Self {
        Self { status, code, error: error.into(), details: Vec::new(), retry_after: None }
    }

    /// 400: the request is wrong.
    pub fn invalid(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidRequest, error)
    }

    /// 400: a field of the request is wrong.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let (field, reason) = (field.into(), reason.into());
        let mut failure = Self::invalid(format!("{field}: {reason}"));
        failure.details.push(Detail { field, reason });
        failure
    }

    /// 404: there is no such thing.
    pub fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, error)
    }

    /// 401: no good key.
    pub fn unauthorized(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, error)
    }

    /// 403: known, but not allowed.
    pub fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, Code::Forbidden, error)
    }

    /// 413: too large.
    pub fn too_large(error: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge, error)
    }

    /// 500: the details go to the journal, under the request's id.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let request_id = request_id().unwrap_or_default();
        tracing::error!(request_id, error = chain(error), "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Internal,
            "Internal error; the journal has the details under this request id",
        )
    }

    /// 503: no room right now.
    pub fn busy(error: impl Into<String>) -> Self {
        let failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, error);
        Self { retry_after: Some(2), ..failure }
    }

    fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        let request_id = request_id().unwrap_or_default();
        tracing::warn!(request_id, error = chain(error), "a request can not be served now");
        let mut failure =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "The database is not available; try again");
        failure.retry_after = Some(2);
        failure
    }
}

fn request_id() -> Option<String> {
    REQUEST_ID.try_with(Clone::clone).ok()
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = Problem {
            error: self.error,
            status_code: self.status.as_u16(),
            code: self.code,
            request_id: request_id(),
            details: self.details,
        };
        let mut response = (self.status, axum::Json(problem)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => Self::not_found(format!("{}{} not found", what[..1].to_uppercase(), &what[1..])),
            StoreError::Conflict(_) | StoreError::Corrupt(_) => Self::internal(&error),
            StoreError::Unavailable(_) => Self::unavailable(&error),
        }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let sentence = error.to_string();
        match error {
            SessionError::NotFound | SessionError::NoAgent(_) | SessionError::NoTurn | SessionError::NoPermission => {
                Self::not_found(sentence)
            }
            SessionError::NoVersion { .. } | SessionError::Weak(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Unprocessable, sentence)
            }
            SessionError::CanNot { .. } => Self::new(StatusCode::BAD_REQUEST, Code::Conflict, sentence),
            SessionError::Over => Self::new(StatusCode::GONE, Code::Gone, sentence),
            SessionError::NoSnapshot { .. } | SessionError::NoWorkspace => Self::not_found(sentence),
            SessionError::File(FileError::Refused(Refusal::Missing)) => Self::not_found(sentence),
            SessionError::File(_) => Self::invalid(sentence),
            SessionError::Bundle(BundleError::Host(_)) => Self::internal(&error),
            SessionError::Bundle(BundleError::TooLarge(_) | BundleError::TooMany) => Self::too_large(sentence),
            SessionError::Bundle(_) => Self::invalid(sentence),
            SessionError::Resume(_)
            | SessionError::Snapshot(_)
            | SessionError::Download(_)
            | SessionError::Upload(_)
            | SessionError::Exec(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, sentence),
            SessionError::Status(_) => Self::new(StatusCode::BAD_REQUEST, Code::Conflict, sentence),
            SessionError::Busy(_) | SessionError::DiskFull(_) | SessionError::TurnOver { .. } | SessionError::Resolved => {
                Self::new(StatusCode::CONFLICT, Code::Conflict, sentence)
            }
            SessionError::Unanswerable(_) | SessionError::KeyReused | SessionError::Unusable { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Unprocessable, sentence)
            }
            SessionError::QueueFull(_) | SessionError::ExecBusy(_) => {
                let mut failure = Self::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, sentence);
                failure.retry_after = Some(5);
                failure
            }
            SessionError::NotKept => {
                let mut failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, sentence);
                failure.retry_after = Some(30);
                failure
            }
            SessionError::Invalid { field, reason } => Self::field(field, reason),
            // The contract's sentence, which does not tell whether somebody else has it.
            SessionError::Credential(CredentialError::NotFound) => Self::invalid("Invalid or inaccessible credential"),
            SessionError::Credential(error) => error.into(),
            SessionError::Open(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, sentence),
            SessionError::Store(error) => error.into(),
            SessionError::Closing => {
                let mut failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, sentence);
                failure.retry_after = Some(1);
                failure
            }
        }
    }
}

impl From<KeyRefused> for Failure {
    fn from(refused: KeyRefused) -> Self {
        match refused {
            KeyRefused::Store(error) => error.into(),
            refused => Self::unauthorized(refused.to_string()),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        let sentence = error.to_string();
        match error {
            // The contract's status.
            CredentialError::NoMaster => Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, sentence),
            CredentialError::Invalid { field, reason } => Self::field(field, reason),
            CredentialError::NotFound => Self::not_found(sentence),
            CredentialError::Unusable(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Unprocessable, sentence),
            CredentialError::Seal(_) => Self::internal(&error),
            CredentialError::Store(error) => error.into(),
        }
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::NotFound => Self::not_found("Agent not found"),
            AgentError::PathRefused(_) => Self::forbidden(error.to_string()),
            AgentError::Content(error) => error.into(),
            AgentError::Store(error) => error.into(),
            AgentError::NoFolder | AgentError::NoFile => Self::not_found(error.to_string()),
            AgentError::NoPath
            | AgentError::Path
            | AgentError::Escapes(_)
            | AgentError::NotFile
            | AgentError::FileTooLarge { .. } => Self::invalid(error.to_string()),
            AgentError::Broken(error) => Self::internal(&error),
        }
    }
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        let sentence = error.to_string();
        let mut failure = match error.blame() {
            Blame::Content | Blame::Sender => Self::invalid(sentence.clone()),
            Blame::TooLarge => Self::too_large(sentence.clone()),
            Blame::Host => return Self::internal(&error),
        };
        failure.details.extend(error.field().map(|field| Detail { field, reason: sentence }));
        failure
    }
}
