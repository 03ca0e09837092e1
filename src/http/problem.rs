//! From what went wrong to the one error body. All statuses are decided here.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::agent::service::AgentError;
use crate::agent::{Blame, ContentError};
use crate::auth::key::{KeyError, KeyRefused};
use crate::credential::CredentialError;
use crate::eval::EvalError;
use crate::link::files::Refusal;
use crate::project_file::ProjectFileError;
use crate::queue::QueueError;
use crate::report::chain;
use crate::schedule::ScheduleError;
use crate::session::SessionError;
use crate::session::attachments::AttachmentError;
use crate::session::bundle::BundleError;
use crate::session::files::FileError;
use crate::store::StoreError;
use crate::webhook::WebhookError;
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

    /// What is wrong, with the field at fault if there is one.
    pub fn detail(self) -> Detail {
        self.details.into_iter().next().unwrap_or(Detail { field: String::new(), reason: self.error })
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

    /// 429: too often.
    pub fn too_often(wait: std::time::Duration) -> Self {
        let seconds = super::rate::seconds(wait);
        let sentence = format!("Rate limit exceeded, retry in {seconds} {}", if seconds == 1 { "second" } else { "seconds" });
        Self { retry_after: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, sentence) }
    }

    /// The status that it is answered with.
    pub const fn status(&self) -> StatusCode {
        self.status
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

/// The id of the present request.
pub fn request_id() -> Option<String> {
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
            SessionError::File(FileError::NoRoom) => Self::busy(sentence),
            SessionError::File(_) => Self::invalid(sentence),
            SessionError::Attachment(error) => error.into(),
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
            SessionError::Env(_) => Self::internal(&error),
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

impl From<ProjectFileError> for Failure {
    fn from(error: ProjectFileError) -> Self {
        let sentence = error.to_string();
        match error {
            ProjectFileError::NotFound | ProjectFileError::NoBytes => Self::not_found(sentence),
            ProjectFileError::Full(_) => Self::new(StatusCode::CONFLICT, Code::Conflict, sentence),
            ProjectFileError::Host(_) | ProjectFileError::Random(_) => Self::internal(&error),
            ProjectFileError::Store(error) => error.into(),
        }
    }
}

impl From<AttachmentError> for Failure {
    fn from(error: AttachmentError) -> Self {
        let sentence = error.to_string();
        match error {
            AttachmentError::NotFound | AttachmentError::NoFile => Self::not_found(sentence),
            AttachmentError::Full => Self::new(StatusCode::CONFLICT, Code::Conflict, sentence),
            AttachmentError::Host(_) => Self::internal(&error),
            AttachmentError::Store(error) => error.into(),
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
            KeyError::Invalid { field, reason } => Self::field(field, reason),
            KeyError::Forbidden(sentence) => Self::forbidden(sentence),
            KeyError::TooMany => Self::new(StatusCode::CONFLICT, Code::Conflict, error.to_string()),
            KeyError::Store(error) => error.into(),
            KeyError::Token(_) => Self::internal(&error),
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
            CredentialError::TooMany => Self::new(StatusCode::CONFLICT, Code::Conflict, sentence),
            CredentialError::Unusable(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Unprocessable, sentence),
            CredentialError::Seal(_) => Self::internal(&error),
            CredentialError::Store(error) => error.into(),
        }
    }
}

impl From<WebhookError> for Failure {
    fn from(error: WebhookError) -> Self {
        let sentence = error.to_string();
        match error {
            WebhookError::NoMaster => Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Unprocessable, sentence),
            WebhookError::Invalid { field, reason } => Self::field(field, reason),
            WebhookError::NotFound | WebhookError::NoDelivery => Self::not_found(sentence),
            WebhookError::NoEvent => Self::new(StatusCode::GONE, Code::Gone, sentence),
            WebhookError::Pending | WebhookError::TooMany(_) | WebhookError::Changed => {
                Self::new(StatusCode::CONFLICT, Code::Conflict, sentence)
            }
            WebhookError::Random(_) | WebhookError::Seal(_) => Self::internal(&error),
            WebhookError::Store(error) => error.into(),
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
            AgentError::NoFolder | AgentError::NoFile | AgentError::NoPromptVersion => Self::not_found(error.to_string()),
            AgentError::Invalid { field, reason } => Self::field(field, reason),
            AgentError::NoSource(_) => Self::invalid(error.to_string()),
            AgentError::PromptVersionsFull(_) => Self::new(StatusCode::CONFLICT, Code::Conflict, error.to_string()),
            AgentError::NoPath
            | AgentError::Path
            | AgentError::Escapes(_)
            | AgentError::NotFile
            | AgentError::FileTooLarge { .. } => Self::invalid(error.to_string()),
            AgentError::Seal(_) | AgentError::Broken(_) => Self::internal(&error),
        }
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        let sentence = error.to_string();
        match error {
            QueueError::NotFound | QueueError::NoSession => Self::not_found(sentence),
            QueueError::Invalid { field, reason } => Self::field(field, reason),
            QueueError::KeyReused => Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Unprocessable, sentence),
            QueueError::Full(_) => {
                let failure = Self::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, sentence);
                Self { retry_after: Some(5), ..failure }
            }
            // The contract's status.
            QueueError::CanNot(_) => Self::new(StatusCode::BAD_REQUEST, Code::Conflict, sentence),
            QueueError::NotOver(_) => Self::new(StatusCode::CONFLICT, Code::Conflict, sentence),
            QueueError::Session(error) => error.into(),
            QueueError::Store(error) => error.into(),
        }
    }
}

impl From<ScheduleError> for Failure {
    fn from(error: ScheduleError) -> Self {
        let sentence = error.to_string();
        match error {
            ScheduleError::NotFound => Self::not_found(sentence),
            ScheduleError::Invalid { field, reason } => Self::field(field, reason),
            ScheduleError::TooMany(_) | ScheduleError::Changed => Self::new(StatusCode::CONFLICT, Code::Conflict, sentence),
            ScheduleError::Queue(error) => error.into(),
            ScheduleError::Store(error) => error.into(),
        }
    }
}

impl From<EvalError> for Failure {
    fn from(error: EvalError) -> Self {
        let sentence = error.to_string();
        match error {
            EvalError::NoAgent
            | EvalError::NoCase
            | EvalError::NoRun
            | EvalError::NoSide(_)
            | EvalError::NoResult
            | EvalError::NotInRun
            | EvalError::NoVersion(_) => Self::not_found(sentence),
            EvalError::Invalid { field, reason } => Self::field(field, reason),
            EvalError::Import(details) => Self { details, ..Self::invalid(sentence) },
            EvalError::NoScore => Self::invalid(sentence),
            EvalError::NoRoom | EvalError::CanNot(_) => Self::new(StatusCode::CONFLICT, Code::Conflict, sentence),
            EvalError::Nothing => Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Unprocessable, sentence),
            EvalError::Full(_) => {
                let failure = Self::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, sentence);
                Self { retry_after: Some(30), ..failure }
            }
            EvalError::Session(error) => error.into(),
            EvalError::Store(error) => error.into(),
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
