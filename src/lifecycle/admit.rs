//! May a request be taken in this state?

use super::State;
use crate::wire::session::Status;

/// What somebody asks of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Take a message.
    Message,
    /// Keep it as it is, without processor time.
    Pause,
    /// Keep it, without processes.
    Stop,
    /// Make it take messages again.
    Resume,
    /// Take a snapshot, for itself or for another session to begin with.
    Snapshot,
    /// Go back to an earlier snapshot.
    Rewind,
    /// Put files into the workspace.
    Upload,
    /// End it for good.
    End,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may be taken.
    Accept,
    /// It is so already.
    Already,
    /// Another change is under way: it is to be asked again when that is done.
    Wait,
    /// The status forbids it.
    Deny(Status),
}

/// Whether a request may be taken now.
pub const fn admit(state: &State, verb: Verb) -> Admission {
    use Status::{Active, Ended, Error, Paused, Starting, Stopped, Unknown};
    match (verb, state.status) {
        (Verb::End, Ended) => Admission::Already,
        (Verb::End, _) => Admission::Accept,
        (_, status @ (Ended | Unknown)) => Admission::Deny(status),
        // It waits its turn, whatever is under way, and begins if the session is active then.
        (Verb::Message, Active) => Admission::Accept,
        (Verb::Message, status) => Admission::Deny(status),
        _ if state.change.is_some() => Admission::Wait,
        (Verb::Resume, Active | Starting) => Admission::Already,
        (Verb::Resume, Paused | Stopped | Error) => Admission::Accept,
        (Verb::Pause | Verb::Stop, Active) => Admission::Accept,
        (Verb::Snapshot | Verb::Rewind | Verb::Upload, Active | Paused | Stopped | Error) => Admission::Accept,
        (Verb::Pause | Verb::Stop | Verb::Snapshot | Verb::Rewind | Verb::Upload, status) => Admission::Deny(status),
    }
}
