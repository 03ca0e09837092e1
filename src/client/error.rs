//! What can go wrong between a client and the daemon, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use hyper::StatusCode;

use super::Server;
use super::sse::TooLong;
use crate::wire::problem::Problem;

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("can not connect to {server}")]
    Connect {
        /// Where.
        server: Server,
        /// Why.
        #[source]
        cause: ConnectCause,
    },
    /// The connection ended, or spoke no HTTP, before the answer was whole.
    #[error("lost the connection to {server}")]
    Broken {
        /// Where.
        server: Server,
        /// Why.
        #[source]
        cause: ConnectCause,
    },
    /// Nothing came for too long.
    #[error("no answer from {server} within {secs} s")]
    Silent {
        /// Where.
        server: Server,
        /// How long was waited.
        secs: u64,
    },
    /// The daemon refused, and says why.
    #[error("{}", sentence(&.0.error))]
    Problem(Box<Problem>),
    /// An answer that no daemon of Ash gives.
    #[error("{server} answered {status}, but not as ash does: {text:?}")]
    Foreign {
        /// Where.
        server: Server,
        /// The HTTP status.
        status: StatusCode,
        /// How the body begins.
        text: String,
    },
    /// The answer's status is good, its body is not.
    #[error("can not read the answer to {what}")]
    Decode {
        /// The request.
        what: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// The request's own body can not be written.
    #[error("can not write the request")]
    Encode(#[source] serde_json::Error),
    /// The path of a request is malformed.
    #[error("can not form the address")]
    Path(#[source] hyper::http::uri::InvalidUri),
    /// The API key holds characters that no header may hold.
    #[error("the API key is not one: it holds spaces or control characters")]
    Key,
    /// The certificates that this host trusts can not be read.
    #[error("can not read this host's certificates")]
    Roots(#[source] io::Error),
    /// The certificates that are to be trusted can not be read.
    #[error("can not trust the certificates in {}: {reason}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The stream can not be read.
    #[error("can not read the stream from {server}")]
    Stream {
        /// Where it came from.
        server: Server,
        /// Why.
        source: TooLong,
    },
}

/// Why there is no connection.
#[derive(Debug, Clone)]
pub struct ConnectCause {
    /// What the operating system calls it, where it was asked.
    pub kind: Option<io::ErrorKind>,
    text: String,
}

impl Error for ConnectCause {}

impl fmt::Display for ConnectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ConnectCause {
    pub(super) fn end_of_stream() -> Self {
        Self { kind: Some(io::ErrorKind::UnexpectedEof), text: "it was closed".into() }
    }

    /// Finds the innermost cause: what lies around it names only the libraries it came through.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut kind = None;
        let mut inner = error;
        while let Some(source) = inner.source() {
            inner = source;
            kind = inner.downcast_ref::<io::Error>().map(io::Error::kind).or(kind);
        }
        // An `io::Error` made from another error prints that one, and is not its parent.
        let text = match kind {
            Some(io::ErrorKind::NotFound) => "there is no such socket".into(),
            Some(io::ErrorKind::PermissionDenied) => "permission denied".into(),
            Some(io::ErrorKind::ConnectionRefused) => "connection refused".into(),
            Some(io::ErrorKind::TimedOut) => "it took too long".into(),
            _ => inner.to_string(),
        };
        Self { kind, text }
    }
}

impl ClientError {
    /// The daemon's own words, if it spoke.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether the same call may succeed a moment later, as while a daemon restarts.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } | Self::Silent { .. } => true,
            Self::Problem(problem) => matches!(problem.status_code, 429 | 502 | 503 | 504),
            Self::Foreign { status, .. } => matches!(status.as_u16(), 502..=504),
            _ => false,
        }
    }

    /// The next step for a person, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Connect { server, cause } => Some(connect_hint(server, cause)),
            Self::Broken { .. } | Self::Silent { .. } => {
                Some("the daemon may have restarted; what it does in the background goes on: ashctl status".into())
            }
            Self::Problem(problem) => problem_hint(problem),
            Self::Foreign { .. } => Some("is this the address of ash, or of something before it?".into()),
            Self::Decode { .. } => Some("client and daemon may be of different versions: ashctl --version, ashctl status".into()),
            Self::Key => Some("a key looks like ash_ and 43 letters; make one on the server: ashctl key create".into()),
            Self::Ca { .. } => Some("name a file of certificates in PEM, which begin with -----BEGIN CERTIFICATE-----".into()),
            Self::Roots(_) => Some("sudo apt install ca-certificates, or name a file: SSL_CERT_FILE=/path/to/ca.pem".into()),
            Self::Encode(_) | Self::Path(_) | Self::Stream { .. } => None,
        }
    }
}

fn connect_hint(server: &Server, cause: &ConnectCause) -> String {
    match (server, cause.kind) {
        (Server::Unix(_), Some(io::ErrorKind::PermissionDenied)) => {
            "your user is not in group ash: sudo usermod -aG ash $USER, then log in again".into()
        }
        (Server::Unix(_), _) => {
            "is ash running? sudo systemctl start ash (or name another server: --server, ASH_SERVER_URL)".into()
        }
        (Server::Http { tls: true, .. }, Some(io::ErrorKind::InvalidData | io::ErrorKind::Other) | None) => {
            "is the name right, and its certificate known here? A private authority: SSL_CERT_FILE=/path/to/ca.pem".into()
        }
        (Server::Http { .. }, _) if server.is_local() => {
            "is ash running? sudo systemctl start ash; it listens where [http] listen in /etc/ash/ash.toml says".into()
        }
        (Server::Http { .. }, _) => {
            "is ash running there? It listens on 127.0.0.1 only, unless [http] listen in /etc/ash/ash.toml says more".into()
        }
    }
}

fn problem_hint(problem: &Problem) -> Option<String> {
    let hint = match problem.status_code {
        401 => "set ASH_API_KEY or pass --api-key; make a key on the server: ashctl key create --label NAME",
        403 => "this key, or this user, may not do that",
        404 if problem.error.starts_with("Agent") => "see what is deployed: ashctl agent list",
        404 if problem.error.starts_with("Session") => "see what there is: ashctl session list",
        404 if problem.error.starts_with("API key") => "see what there is: ashctl key list",
        404 if problem.error.starts_with("Turn") => "see what there is: ashctl turn list SESSION",
        404 if problem.error.starts_with("Permission request") => "see what there is: ashctl permission list SESSION --all",
        404 if problem.error.starts_with("Schedule ") => "see what there is: ashctl schedule list",
        404 if problem.error.starts_with("Eval case") => "see what there is: ashctl eval case list AGENT",
        404 if problem.error.starts_with("Eval run") => "see what there is: ashctl eval run list AGENT",
        404 if problem.error.starts_with("Queue item") => "see what there is: ashctl queue list",
        409 if problem.error.starts_with("The item is") => "wait for it: ashctl queue result --wait ID",
        409 if problem.error.starts_with("The permission request") => "see what came of it: ashctl permission list SESSION --all",
        410 => "start a new session: ashctl chat AGENT",
        // The contract's words for a message to a session that takes none.
        400 if problem.error == "Session is ended" => "start a new session: ashctl chat AGENT",
        429 | 503 => "try again in a moment",
        500.. => {
            let id = problem.request_id.as_ref();
            return Some(id.map_or("the journal of the server has the details: ashctl logs".into(), |id| {
                format!("the journal of the server has the details: journalctl ASH_REQUEST_ID={id}")
            }));
        }
        _ => return None,
    };
    Some(hint.into())
}

/// A sentence of the daemon as the middle of one of ours: without its full stop.
fn sentence(text: &str) -> &str {
    text.trim_end().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(server: &str, kind: io::ErrorKind) -> ClientError {
        let cause = ConnectCause { kind: Some(kind), text: String::new() };
        ClientError::Connect { server: server.parse().expect("a server"), cause }
    }

    #[test]
    fn who_can_not_connect_is_told_the_command() {
        for (server, kind, words) in [
            ("unix:/run/ash/ash.sock", io::ErrorKind::NotFound, "systemctl start ash"),
            ("unix:/run/ash/ash.sock", io::ErrorKind::ConnectionRefused, "systemctl start ash"),
            ("unix:/run/ash/ash.sock", io::ErrorKind::PermissionDenied, "usermod -aG ash"),
            ("http://127.0.0.1:4100", io::ErrorKind::ConnectionRefused, "systemctl start ash"),
            ("http://10.0.0.1:4100", io::ErrorKind::TimedOut, "[http] listen"),
            ("https://ash.example.com", io::ErrorKind::InvalidData, "SSL_CERT_FILE"),
        ] {
            let hint = connect(server, kind).hint().expect("a hint");
            assert!(hint.contains(words), "{server} {kind:?}: {hint}");
        }
    }

    #[test]
    fn the_innermost_cause_is_what_counts() {
        #[derive(Debug, thiserror::Error)]
        #[error("client error (Connect)")]
        struct Outer(#[source] io::Error);
        let cause = ConnectCause::of(&Outer(io::Error::from(io::ErrorKind::PermissionDenied)));
        assert_eq!((cause.kind, cause.to_string().as_str()), (Some(io::ErrorKind::PermissionDenied), "permission denied"));
    }
}
