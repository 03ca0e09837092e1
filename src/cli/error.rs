//! Errors as a person at a terminal meets them: what failed, the next step, the exit code.

use std::io;
use std::path::PathBuf;

use super::cmd::deploy::{ArchiveError, DotenvError};
use super::exit::Exit;
use crate::client::{ClientError, ServerError};

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The daemon was not reached, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// `--server` or `ASH_SERVER_URL` names nothing.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Standard output can not be written.
    #[error("can not write to standard output")]
    Output(#[source] io::Error),
    /// Standard input can not be read.
    #[error("can not read standard input")]
    Input(#[source] io::Error),
    /// Arguments that do not fit together, beyond what the parser of the command line sees.
    #[error("{problem}")]
    Usage {
        /// What does not fit.
        problem: String,
        /// How to say it right.
        hint: Option<String>,
    },
    /// The folder to deploy can not be.
    #[error("{path}: {problem}", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        problem: &'static str,
        /// How to make it one.
        hint: Option<String>,
    },
    /// A file with environment variables is wrong.
    #[error(transparent)]
    Dotenv(#[from] DotenvError),
    /// The folder to deploy can not be read whole.
    #[error("can not pack the folder")]
    Archive(#[from] ArchiveError),
    /// There is no session to go on with.
    #[error("there is no session to continue")]
    NoSession,
    /// The agent's turn did not complete.
    #[error("the turn {state}{}", .cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default())]
    Turn {
        /// What became of it, as a verb: `failed`.
        state: String,
        /// Why.
        cause: Option<String>,
    },
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The user answered no.
    #[error("nothing was changed")]
    Declined,
    /// Another program can not be run.
    #[error("can not run {program}")]
    Run {
        /// The program.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A check of `doctor` failed; it has been shown.
    #[error("{0}")]
    Unwell(String),
}

impl CliError {
    /// A mistake on the command line.
    pub(super) fn usage(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { problem: problem.into(), hint: Some(hint.into()) }
    }

    /// The next step, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Client(error) => error.hint(),
            Self::Usage { hint, .. } | Self::Folder { hint, .. } => hint.clone(),
            Self::Archive(error) => error.hint(),
            Self::NoSession => Some("start one: ashctl chat AGENT".into()),
            Self::Run { program: "journalctl", .. } => Some("ashctl logs needs the journal of systemd".into()),
            _ => None,
        }
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Client(error) => client_exit(error),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::OutputClosed,
            Self::Archive(ArchiveError::Special { .. }) => Exit::Usage,
            Self::Server(_) | Self::Usage { .. } | Self::Folder { .. } | Self::Dotenv(_) => Exit::Usage,
            Self::NoSession => Exit::NotFound,
            Self::Interrupted => Exit::Interrupted,
            Self::Output(_)
            | Self::Input(_)
            | Self::Archive(_)
            | Self::Turn { .. }
            | Self::Declined
            | Self::Run { .. }
            | Self::Unwell(_) => Exit::Failed,
        }
    }

    /// Whether the user knows already, so that nothing is to be said.
    pub fn is_quiet(&self) -> bool {
        matches!(self.exit(), Exit::OutputClosed | Exit::Interrupted)
    }
}

fn client_exit(error: &ClientError) -> Exit {
    match error {
        ClientError::Connect { .. } | ClientError::Broken { .. } | ClientError::Silent { .. } | ClientError::Cut => {
            Exit::NoConnection
        }
        ClientError::Problem(problem) => match problem.status_code {
            401 | 403 => Exit::Denied,
            404 => Exit::NotFound,
            429 | 502 | 503 | 504 => Exit::Unavailable,
            _ => Exit::Failed,
        },
        ClientError::Foreign { status, .. } if matches!(status.as_u16(), 502..=504) => Exit::Unavailable,
        ClientError::Key => Exit::Usage,
        ClientError::Foreign { .. }
        | ClientError::Decode { .. }
        | ClientError::Encode(_)
        | ClientError::Path(_)
        | ClientError::Roots(_)
        | ClientError::Stream { .. } => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::problem::{Code, Problem};

    fn problem(status_code: u16) -> CliError {
        let problem = Problem { error: "No.".into(), status_code, code: Code::Unknown, request_id: None, details: vec![] };
        CliError::Client(ClientError::Problem(Box::new(problem)))
    }

    #[test]
    fn statuses_have_their_exit_codes() {
        for (status, exit) in [
            (400, Exit::Failed),
            (401, Exit::Denied),
            (403, Exit::Denied),
            (404, Exit::NotFound),
            (409, Exit::Failed),
            (429, Exit::Unavailable),
            (500, Exit::Failed),
            (503, Exit::Unavailable),
        ] {
            assert_eq!(problem(status).exit(), exit, "{status}");
        }
    }

    #[test]
    fn sentences_become_fragments() {
        assert_eq!(problem(400).to_string(), "No");
    }
}
