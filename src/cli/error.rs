//! Errors as a person at a terminal meets them: what failed, the next step, the exit code.

use std::io;
use std::path::PathBuf;

use hyper::StatusCode;

use super::cmd::deploy::{ArchiveError, DotenvError};
use super::contexts::ContextsError;
use super::exit::Exit;
use crate::client::{ClientError, ServerError};
use crate::wire::queue::QueueStatus;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The daemon was not reached, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// `--server` or `ASH_SERVER_URL` names nothing.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The context that names the daemon, or the file it is in, is of no use.
    #[error(transparent)]
    Contexts(#[from] ContextsError),
    /// Standard output can not be written.
    #[error("can not write to standard output")]
    Output(#[source] io::Error),
    /// Standard input can not be read.
    #[error("can not read standard input")]
    Input(#[source] io::Error),
    /// A file can not be read or written.
    #[error("can not {step} {path}", path = .path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
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
    /// No session has an id that begins so.
    #[error("no session begins with {0}")]
    NoSuch(String),
    /// No schedule is meant.
    #[error("no schedule {0}")]
    NoSchedule(String),
    /// Several have ids that begin so.
    #[error("{prefix} is the beginning of {count} {what}:\n{list}", count = .candidates.len(), list = list(.candidates))]
    Ambiguous {
        /// What they are.
        what: &'static str,
        /// The beginning.
        prefix: String,
        /// They, a line for each.
        candidates: Vec<String>,
    },
    /// The agent's turn did not complete.
    #[error("the turn {state}{}", .cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default())]
    Turn {
        /// What became of it, as a verb: `failed`.
        state: String,
        /// Why.
        cause: Option<String>,
    },
    /// An item of the queue is over without an answer.
    #[error("the item is {}{}", .status.as_str(), .error.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
    Item {
        /// What became of it.
        status: QueueStatus,
        /// Why.
        error: Option<String>,
    },
    /// A run of evals did not come to what it should have.
    #[error("{0}")]
    Eval(String),
    /// There is no such part of an agent's evals.
    #[error("{problem}")]
    NoEval {
        /// What was not found.
        problem: String,
        /// The command that shows what there is.
        list: String,
    },
    /// Another program did not do its work, and has said why.
    #[error("{program} failed ({status})")]
    Program {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// A command in a session ended so; it has said why.
    #[error("the command ended with exit code {0}")]
    Command(u8),
    /// A command in a session was not seen to its end.
    #[error("{0}")]
    Exec(String),
    /// Some files were not written; it has been said which.
    #[error("{0} not written")]
    Files(String),
    /// A file was changed by somebody else while it was edited.
    #[error("{0} was changed meanwhile, and is left as it is now")]
    Changed(String),
    /// The answer to a request by hand refuses; it has been printed.
    #[error("the server answered {0}")]
    Status(StatusCode),
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
    /// A check of `doctor` or `security` failed; it has been shown.
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
            Self::Contexts(error) => error.hint(),
            Self::NoSuch(_) => Some("see what there is: ashctl session list".into()),
            Self::NoSchedule(_) => Some("see what there is: ashctl schedule list".into()),
            Self::Ambiguous { .. } => Some("give more of it".into()),
            Self::NoEval { list, .. } => Some(format!("see what there is: {list}")),
            Self::NoSession => Some("start one: ashctl chat AGENT".into()),
            Self::Turn { cause: Some(cause), .. } => model_key_hint(cause).map(str::to_owned),
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
            Self::Server(_) | Self::Contexts(_) | Self::Usage { .. } | Self::Folder { .. } | Self::Dotenv(_) => Exit::Usage,
            Self::Status(status) => status_exit(status.as_u16()),
            Self::NoSession | Self::NoSuch(_) | Self::NoSchedule(_) | Self::NoEval { .. } => Exit::NotFound,
            Self::Ambiguous { .. } => Exit::Usage,
            Self::Interrupted => Exit::Interrupted,
            Self::Output(_)
            | Self::Input(_)
            | Self::File { .. }
            | Self::Archive(_)
            | Self::Turn { .. }
            | Self::Item { .. }
            | Self::Eval(_)
            | Self::Declined
            | Self::Run { .. }
            | Self::Program { .. }
            | Self::Command(_)
            | Self::Exec(_)
            | Self::Files(_)
            | Self::Changed(_)
            | Self::Unwell(_) => Exit::Failed,
        }
    }

    /// The number with which the program ends.
    pub fn code(&self) -> u8 {
        if let Self::Command(code) = self { *code } else { self.exit().code() }
    }

    /// Whether the user knows already, so that nothing is to be said.
    pub fn is_quiet(&self) -> bool {
        matches!(self, Self::Command(_)) || matches!(self.exit(), Exit::OutputClosed | Exit::Interrupted)
    }
}

/// The next step where a turn failed, as `cause` tells, because the model takes no key from here.
pub(super) fn model_key_hint(cause: &str) -> Option<&'static str> {
    let words = ["Invalid API key", "Not logged in", "authentication"];
    let refused = words.iter().any(|word| cause.contains(word))
        // The status, and no other number that has it in it.
        || cause.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "401");
    refused.then_some("the model's key is missing or not a good one: ashctl doctor, on the host of the daemon, says what to do")
}

/// The first lines, and how many more there are.
fn list(lines: &[String]) -> String {
    const LINES_SHOWN: usize = 10;
    let shown = lines.iter().take(LINES_SHOWN).map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
    match lines.len().saturating_sub(LINES_SHOWN) {
        0 => shown,
        more => format!("{shown}\n  … and {more} more"),
    }
}

/// The exit code for an answer that refuses.
fn status_exit(status: u16) -> Exit {
    match status {
        401 | 403 => Exit::Denied,
        404 => Exit::NotFound,
        429 | 502 | 503 | 504 => Exit::Unavailable,
        _ => Exit::Failed,
    }
}

fn client_exit(error: &ClientError) -> Exit {
    match error {
        ClientError::Connect { .. } | ClientError::Broken { .. } | ClientError::Silent { .. } => Exit::NoConnection,
        ClientError::Problem(problem) => status_exit(problem.status_code),
        ClientError::Foreign { status, .. } if matches!(status.as_u16(), 502..=504) => Exit::Unavailable,
        ClientError::Key | ClientError::Ca { .. } => Exit::Usage,
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
    fn refused_model_keys_are_told_from_other_failures() {
        for (cause, hinted) in [
            ("API Error: 401 {\"type\":\"error\"}", true),
            ("Invalid API key · Fix external API key", true),
            ("Not logged in · Please run /login", true),
            ("authentication_error: invalid x-api-key", true),
            ("the model endpoint answered 529: overloaded", false),
            ("line 1401 is too long", false),
        ] {
            let error = CliError::Turn { state: "failed".into(), cause: Some(cause.into()) };
            assert_eq!(error.hint().is_some(), hinted, "{cause}");
        }
    }

    #[test]
    fn sentences_become_fragments() {
        assert_eq!(problem(400).to_string(), "No");
    }
}
