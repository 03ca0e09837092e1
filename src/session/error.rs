//! Why a request about a session was not carried out.

use super::attachments::AttachmentError;
use super::bundle::BundleError;
use super::files::FileError;
use crate::credential::CredentialError;
use crate::crypt::master::SealError;
use crate::store::{StoreError, TurnState};
use crate::wire::TurnId;
use crate::wire::session::Status;

/// Why a request about a session was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no such session for this tenant.
    #[error("Session not found")]
    NotFound,
    /// There is no such agent for this tenant.
    #[error("Agent \"{0}\" not found")]
    NoAgent(String),
    /// The agent's version is not on this host.
    #[error("Agent directory not found at \"{path}\". The agent \"{agent}\" may need to be re-deployed.")]
    NoVersion {
        /// The agent.
        agent: String,
        /// Where it should be.
        path: String,
    },
    /// Its sandbox would lack a wall that is required.
    #[error("sandbox.require is \"strict\", and the sandbox would not be: {0}")]
    Weak(String),
    /// The session's status does not allow it.
    #[error("Session is {}", .0.as_str())]
    Status(Status),
    /// The session's status does not allow this change.
    #[error("Cannot {verb} session with status \"{}\"", .status.as_str())]
    CanNot {
        /// What was asked for.
        verb: &'static str,
        /// The status.
        status: Status,
    },
    /// The session is over and can not be resumed.
    #[error("Session has ended — create a new session")]
    Over,
    /// The session is over, and its last snapshot could not be taken yet.
    #[error("The last snapshot of the session could not be taken yet; try again")]
    NotKept,
    /// The sandbox could not be brought back.
    #[error("Failed to resume session: {0}")]
    Resume(String),
    /// There is no snapshot, or none could be taken or read.
    #[error("Failed to take or read a snapshot: {0}")]
    Snapshot(String),
    /// The snapshot at this event is damaged, or needs a newer release.
    #[error("The snapshot at event {event} can not be used: {reason}")]
    Unusable {
        /// The event.
        event: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// There is neither a sandbox nor a snapshot.
    #[error("No workspace available for this session")]
    NoWorkspace,
    /// The workspace can not be read.
    #[error("Failed to read the workspace: {0}")]
    Download(String),
    /// A command could not be run, or its end is not known.
    #[error("Exec failed: {0}")]
    Exec(String),
    /// As many programs run in the sandbox as may.
    #[error("Exec failed: {0} programs are running in this session already")]
    ExecBusy(usize),
    /// Nothing that could take more of the disk is begun, as too much of it is taken.
    #[error("{0}")]
    DiskFull(String),
    /// A file of the workspace can not be had like this.
    #[error(transparent)]
    File(#[from] FileError),
    /// An attachment is not taken or not had.
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    /// What was uploaded may not come in.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// What was uploaded did not come in.
    #[error("Failed to put the files into the workspace: {0}")]
    Upload(String),
    /// There is no snapshot at this event.
    #[error("There is no snapshot at event {event}; {}", those(.there))]
    NoSnapshot {
        /// The event.
        event: i64,
        /// The events of those that there are.
        there: Vec<i64>,
    },
    /// A turn is running, and the caller did not want to wait.
    #[error("Session is busy with turn {0}")]
    Busy(TurnId),
    /// A field asks for what can not be.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The session can not use its credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// Its environment can not be sealed or opened.
    #[error("the session's environment can not be sealed or opened")]
    Env(#[from] SealError),
    /// The sandbox could not be brought up.
    #[error("Failed to create session: {0}")]
    Open(String),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// Too many messages wait.
    #[error("{0} messages are waiting already")]
    QueueFull(usize),
    /// The idempotency key came with another message before.
    #[error("Idempotency-Key: another message came with this key")]
    KeyReused,
    /// There is no such turn in this session.
    #[error("Turn not found")]
    NoTurn,
    /// The turn can not be ended any more.
    #[error("Turn {turn} is over ({state})")]
    TurnOver {
        /// The turn.
        turn: TurnId,
        /// How it ended.
        state: TurnState,
    },
    /// There is no such request for permission in this session.
    #[error("Permission request not found")]
    NoPermission,
    /// Somebody, or the clock, was faster.
    #[error("The permission request is resolved already")]
    Resolved,
    /// The answer can not be passed on, or makes no sense.
    #[error("The permission request can not be answered: {0}")]
    Unanswerable(String),
    /// The daemon is shutting down.
    #[error("Ash is shutting down")]
    Closing,
}

/// Names snapshots by their events, for an error.
fn those(events: &[i64]) -> String {
    match events {
        [] => "there is none yet".to_owned(),
        [one] => format!("there is one at {one}"),
        many => format!("there are some at {}", many.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")),
    }
}
