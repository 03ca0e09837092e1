//! The command line of `ashctl session`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::egress::SessionEgress;
use super::limits::{LimitArgs, SessionLimits};
use super::reference::SessionRef;
use super::watch::Watch;
use super::{HOSTS, MODES, mode_parser, status_parser};
use crate::cli::complete;
use crate::wire::CredentialId;
use crate::wire::binding::{Binding, check_name};
use crate::wire::egress::Entry;
use crate::wire::session::{PermissionMode, Status};

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum SessionCommand {
    /// Start a session and print its id
    Create(SessionCreate),
    /// List sessions, newest first
    #[command(visible_alias = "ls")]
    List(SessionList),
    /// Show a session
    Show(SessionShow),
    /// Print the log of a session, an event a line
    ///
    /// What the API streams, from the first event to the present, or with --follow for as long as
    /// the session lives. A connection that breaks is taken up again where it broke. The number
    /// before each event is its id.
    Events(SessionEvents),
    /// Send one message and print the answer
    Send(SessionSend),
    /// Keep sessions as they are, in memory but without processor time
    ///
    /// A turn that runs is interrupted, and a snapshot is taken. Messages are refused until the
    /// session is resumed, which takes milliseconds.
    Pause {
        /// The sessions
        #[arg(required = true, value_name = "ID", add = complete::sessions())]
        ids: Vec<SessionRef>,
    },
    /// Keep sessions without processes
    ///
    /// A turn that runs is interrupted, a snapshot of workspace and conversation is taken, and the
    /// sandbox ends.
    Stop {
        /// The sessions
        #[arg(required = true, value_name = "ID", add = complete::sessions())]
        ids: Vec<SessionRef>,
    },
    /// Make sessions that were paused or stopped take messages again
    Resume {
        /// The sessions
        #[arg(required = true, value_name = "ID", add = complete::sessions())]
        ids: Vec<SessionRef>,
    },
    /// Make another session that goes on from here, and print its id
    ///
    /// It has the workspace and the conversation of the session as it is now, or as it was in one of
    /// its snapshots, and is paused.
    Fork {
        /// The session
        #[arg(add = complete::sessions())]
        id: SessionRef,
        /// The snapshot to go on from, as "ashctl session snapshots" lists it
        #[arg(long, value_name = "EVENT")]
        at: Option<i64>,
    },
    /// Take a session back to one of its snapshots
    ///
    /// Workspace and conversation are then as they were in that snapshot; what was said since is in
    /// the log, but not known to the agent. How the session was before is kept in another snapshot.
    Rewind {
        /// The session
        #[arg(add = complete::sessions())]
        id: SessionRef,
        /// The snapshot to go back to, as "ashctl session snapshots" lists it
        #[arg(long, value_name = "EVENT", value_parser = clap::value_parser!(i64).range(0..))]
        to: i64,
        /// Interrupt a turn that runs
        #[arg(long)]
        interrupt: bool,
    },
    /// Save the workspace of a session as a tar.gz
    ///
    /// Left out is what is made again by installing or may be secret (node_modules, .git, .venv, .env
    /// and the like), and links that lead out of the workspace; --all leaves nothing out.
    Download {
        /// The session
        #[arg(add = complete::sessions())]
        id: SessionRef,
        /// The file to write; "-" is standard output [default: ID.tar.gz]
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// Leave nothing out
        #[arg(long)]
        all: bool,
    },
    /// Put files into the workspace of a session
    ///
    /// They replace those of the same names, and all else stays, unless --replace is given. The
    /// archive is looked at as a whole before anything is touched, and if the upload fails the
    /// workspace is as it was. It waits until no turn runs. Of a folder, folders named .git and the
    /// files .env and .env.local at its top stay here.
    Upload {
        /// The session
        #[arg(add = complete::sessions())]
        id: SessionRef,
        /// A folder, or a tar.gz; "-" reads one from standard input
        #[arg(value_hint = ValueHint::AnyPath)]
        source: PathBuf,
        /// Remove what is in the workspace
        #[arg(long)]
        replace: bool,
        /// Do not ask before anything is removed
        #[arg(long, short)]
        yes: bool,
    },
    /// Show what the runtime of a session said, and what became of it
    ///
    /// The last lines that its sandbox keeps in memory; they are gone when it is. The journal has
    /// more: "ashctl logs ID".
    Logs {
        /// The session
        #[arg(add = complete::sessions())]
        id: SessionRef,
        /// Go on printing what comes
        #[arg(long, short)]
        follow: bool,
    },
    /// List the snapshots of a session, or take one
    Snapshots {
        /// The session
        #[arg(add = complete::sessions())]
        id: SessionRef,
        /// Take one now, when no turn runs
        #[arg(long)]
        take: bool,
    },
    /// Show or change what of the network a session may reach
    ///
    /// Without --allow and --none it is shown. A change counts once the sandbox has taken it, which is
    /// said if it is not so yet: connections to what is not allowed any more are cut.
    Egress(SessionEgress),
    /// Show or change what a session may use, and what it has spent
    ///
    /// Without options it is shown. A change counts at once, but for open files and the size of files,
    /// which count from the next turn on. What the operator allows at most is the column AT MOST; what
    /// nobody limits is "-".
    Limits(SessionLimits),
    /// End sessions for good
    ///
    /// A turn that runs is interrupted. A last snapshot is taken of a session that has a sandbox, from
    /// which it can be forked.
    End {
        /// The sessions
        #[arg(required = true, value_name = "ID", add = complete::sessions())]
        ids: Vec<SessionRef>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct SessionCreate {
    /// The agent
    #[arg(add = complete::agents())]
    pub agent: String,
    /// The model that answers [default: the agent's]
    #[arg(long, short)]
    pub model: Option<String>,
    /// A variable for this session, before those of the agent; without a value it is taken from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Text that takes the place of the agent's CLAUDE.md
    #[arg(long, value_name = "TEXT")]
    pub system_prompt: Option<String>,
    /// What the agent may do without being allowed to
    #[arg(long, value_name = "MODE", value_parser = mode_parser(), hide_possible_values = true, long_help = MODES)]
    pub permission_mode: Option<PermissionMode>,
    /// A host that may be reached, beside the others and in the place of the agent's list
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',', long_help = HOSTS)]
    pub allow: Vec<Entry>,
    /// A credential that its sandboxes are given, as "ashctl credential list" shows it
    #[arg(long, value_name = "ID", add = complete::credentials())]
    pub credential: Option<CredentialId>,
    /// A credential that one host gets, and that is a placeholder inside
    ///
    /// Inside, the variable NAME has a placeholder, and NAME_URL an address on the loopback: what is asked for
    /// below it is asked of HOST over TLS, with "authorization: Bearer" and the credential. Can be given several
    /// times.
    #[arg(long, value_name = "NAME=CREDENTIAL@HOST[:PORT]", value_parser = binding)]
    pub bind: Vec<(String, Binding)>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

fn binding(text: &str) -> Result<(String, Binding), String> {
    let parts = text.split_once('=').and_then(|(name, rest)| Some((name, rest.split_once('@')?)));
    let Some((name, (credential, host))) = parts else { return Err("has to be NAME=CREDENTIAL@HOST".to_owned()) };
    check_name(name)?;
    let id: CredentialId = credential.parse().map_err(|_| format!("{credential:?} is no id of a credential"))?;
    let binding = Binding { credential_id: id.to_string(), host: host.to_owned(), header: None };
    binding.target().map_err(|reason| format!("{host:?} {reason}"))?;
    Ok((name.to_owned(), binding))
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct SessionList {
    /// Of this agent only
    #[arg(long, short, add = complete::agents())]
    pub agent: Option<String>,
    /// With this status only
    #[arg(long, short, value_parser = status_parser())]
    pub status: Option<Status>,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Without the first so many
    #[arg(long, default_value_t = 0)]
    pub offset: u32,
    #[command(flatten)]
    pub watch: Watch,
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct SessionShow {
    /// The session
    #[arg(add = complete::sessions())]
    pub id: SessionRef,
    /// What was said, instead
    #[arg(long, short, conflicts_with = "events")]
    pub messages: bool,
    /// What happened, instead
    #[arg(long, short)]
    pub events: bool,
    #[command(flatten)]
    pub watch: Watch,
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct SessionSend {
    /// The session
    #[arg(add = complete::sessions())]
    pub id: SessionRef,
    /// What to say; "-" or nothing reads it from standard input
    #[arg(value_name = "PROMPT")]
    pub prompt: Vec<String>,
    /// A file that goes with the message, and stays with the session; can be given more than once
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub attach: Vec<PathBuf>,
    /// The model that answers this message [default: the session's]
    #[arg(long, short)]
    pub model: Option<String>,
    /// Print the stream of events as it comes
    #[arg(long)]
    pub raw: bool,
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct SessionEvents {
    /// The session
    #[arg(add = complete::sessions())]
    pub id: SessionRef,
    /// Go on printing what comes
    #[arg(long, short)]
    pub follow: bool,
    /// Only events after the one with this id
    #[arg(long, short, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i64).range(0..))]
    pub after: i64,
    /// Only these types, separated by commas: message,tool_use,done
    #[arg(long, short, value_name = "TYPES", value_delimiter = ',')]
    pub types: Vec<String>,
    /// Leave out what only previews a message that comes whole
    #[arg(long)]
    pub no_deltas: bool,
}
