//! The command line as a tree. Help, manual pages and completions are made from it.

mod api;
mod attachment;
mod context;
mod egress;
mod eval;
mod limits;
mod project_file;
mod prompt_version;
mod queue;
mod reference;
mod schedule;
mod session;
#[cfg(test)]
mod tests;
mod usage;
mod watch;
mod webhook;
mod workspace;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Effects};
use clap::builder::{StyledStr, Styles};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

pub use self::api::Api;
pub use self::attachment::AttachmentCommand;
pub use self::context::{ContextAdd, ContextCommand};
pub use self::egress::SessionEgress;
pub use self::eval::{
    CaseCommand, CaseContentArgs, CaseCreate, CaseEdit, CaseField, EvalCommand, Gate, RunCommand, RunStart, WhichRun,
};
pub use self::limits::{LimitArgs, SessionLimits, Top, TopSort};
pub use self::project_file::ProjectFileCommand;
pub use self::prompt_version::{VersionCommand, VersionContent};
pub use self::queue::{QueueAdd, QueueCommand};
pub use self::reference::{CaseRef, Ref, ResultRef, RunRef, ScheduleRef, SessionRef};
pub use self::schedule::{ScheduleCommand, ScheduleCreate, ScheduleEdit};
pub use self::session::{SessionCommand, SessionCreate, SessionEvents, SessionList, SessionSend, SessionShow};
pub use self::usage::{Since, Usage, UsageBy};
pub use self::watch::Watch;
pub use self::webhook::{WebhookCommand, WebhookEdit};
pub use self::workspace::{Exec, FilesCommand};
use super::complete;
use super::exit::Exit;
use crate::wire::audit::Action;
use crate::wire::credential::CredentialType;
use crate::wire::scope::Scope;
use crate::wire::session::{PermissionMode, Status};
use crate::wire::{CredentialId, KeyId, PermissionId, TurnId};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default().effects(Effects::BOLD))
    .placeholder(AnsiColor::Cyan.on_default());

/// Run AI agents in sandboxes: deploy a folder, talk to it, look after the host
///
/// ashctl is the command line of Ash. A folder with a CLAUDE.md becomes an agent with "ashctl
/// deploy", and "ashctl chat" talks to it. On the host of the daemon it uses the control socket and
/// needs no key: root and the members of group ash may use it. Elsewhere it takes the address of
/// the daemon and an API key, or a context that has both.
///
/// A session is named by its id, by the beginning of it, or as "@last": the one that was active last,
/// of those that have not ended. Before something is lost it is asked, on a terminal and without
/// --yes.
#[derive(Debug, Parser)]
#[command(name = "ashctl", version, styles = STYLES, subcommand_required = true, arg_required_else_help = true)]
#[command(disable_help_subcommand = true, max_term_width = 100, after_long_help = exit_codes())]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Global {
    /// How to print: for people, or the API's own objects
    #[arg(long, short, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]
    #[arg(long, global = true, value_name = "URL", env = "ASH_SERVER_URL", hide_env_values = true, value_hint = ValueHint::Url)]
    pub server: Option<String>,
    /// A daemon by the name that "ashctl context add" gave it [default: the one in use]
    #[arg(long, global = true, value_name = "CONTEXT", env = "ASH_CONTEXT", hide_env_values = true, add = complete::contexts())]
    pub context: Option<String>,
    /// The API key for a daemon on the network; better in the environment, as others see arguments
    #[arg(long, global = true, value_name = "KEY", env = "ASH_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Certificates (PEM) that a daemon at https:// has to have its own under, in the place of those that
    /// this host trusts
    #[arg(long, global = true, value_name = "FILE", env = "ASH_CA_FILE", hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub ca: Option<PathBuf>,
}

/// The exit codes, as a section of the help.
fn exit_codes() -> StyledStr {
    let header = STYLES.get_header();
    let lines: String = Exit::TABLE.iter().map(|(exit, text)| format!("\n  {:>3}  {text}", exit.code())).collect();
    format!("{header}Exit codes:{header:#}{lines}").into()
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text and tables for people
    #[default]
    Table,
    /// The API's own objects, as one JSON document; a stream as one JSON object a line
    Json,
    /// The API's own objects as YAML 1.2, each of a stream a document
    Yaml,
}

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum Command {
    /// Make a folder an agent, or a new version of one
    ///
    /// Uploads the folder, which needs a CLAUDE.md. Left out are folders named .git. The variables
    /// of the files .env and .env.local become the environment of the agent's sessions; the files
    /// themselves stay here. Links are uploaded as links and never followed. The same content
    /// again has the same digest.
    Deploy(Deploy),
    /// Talk to an agent
    ///
    /// With a prompt, or with one on standard input, prints the answer on standard output and ends.
    /// On a terminal without a prompt it is a conversation: Ctrl-C interrupts the agent's turn,
    /// Ctrl-D leaves. The session stays, and --session or --last continues it.
    ///
    /// Where the session's permission mode asks, a terminal shows what the agent wants to do, and
    /// takes the answer. Elsewhere the request is named on standard error, and the turn waits for
    /// "ashctl permission".
    Chat(Chat),
    /// Run a command in the workspace of a session
    ///
    /// It runs in the session's sandbox, beside the agent and with what its tools have: the same user, files,
    /// variables and network. Its output comes as it is written, standard input is passed on unless that is
    /// a terminal, and its exit code is that of ashctl; 124 says that its time was over, 128 and more that a
    /// signal ended it. A session that is frozen or parked is brought back first. Whatever interrupts ashctl
    /// ends the command as well.
    ///
    /// One argument after "--" is a command of the shell; of more, each is passed on as it is.
    ///
    /// "ashctl exec -it SESSION" opens a shell on a terminal in the sandbox.
    Exec(Exec),
    /// Files of the workspace of a session
    ///
    /// They are read and written in the session's sandbox, and read from its newest snapshot where there is
    /// no sandbox. For whole workspaces there are "ashctl session download" and "upload".
    #[command(subcommand, arg_required_else_help = true)]
    Files(FilesCommand),
    /// Attachments: files that are given to a session, and can be named in messages
    #[command(subcommand, arg_required_else_help = true)]
    Attachment(AttachmentCommand),
    /// Files that are of no session, to attach to many and to link to
    #[command(subcommand, arg_required_else_help = true)]
    ProjectFile(ProjectFileCommand),
    /// Sessions: conversations with an agent
    #[command(subcommand, arg_required_else_help = true)]
    Session(Box<SessionCommand>),
    /// Turns: messages and what became of them
    #[command(subcommand, arg_required_else_help = true)]
    Turn(TurnCommand),
    /// The queue: messages that are answered when there is time
    #[command(subcommand, arg_required_else_help = true)]
    Queue(QueueCommand),
    /// Evals: questions that an agent is asked, and what its answers are worth
    #[command(subcommand, arg_required_else_help = true)]
    Eval(Box<EvalCommand>),
    /// Requests of agents for permission, and their questions
    #[command(subcommand, arg_required_else_help = true)]
    Permission(PermissionCommand),
    /// Agents: folders that were deployed
    #[command(subcommand, arg_required_else_help = true)]
    Agent(AgentCommand),
    /// Show how the daemon is doing, and its sessions
    Status(Watch),
    /// Show what sessions take of the host, live
    ///
    /// Sessions whose sandbox has processes, the largest first. On a terminal it is shown again and again
    /// until Ctrl-C; elsewhere, and with --once, it is printed once. Tokens and dollars are of turns that
    /// are over.
    Top(Top),
    /// Show what was used, and what it cost
    ///
    /// Sums of turns that are over, by agent or by session, also of sessions that were removed since: messages,
    /// tools, tokens that models read (with those of their caches) and wrote, processor time, US dollars by the
    /// prices of then. What costs most comes first, and all of it together last.
    Usage(Usage),
    /// Show the journal of Ash, or of one session
    ///
    /// Runs journalctl(1) on this host: the daemon and the launcher, or everything that belongs to
    /// one session, its sandbox included. Each line ends with the fields that say what it is about:
    /// session, agent, error. --output json prints the journal's own entries.
    Logs(Logs),
    /// Show what confines a session, and what does not
    ///
    /// One line for each wall: "ok", "weak" or "off", and a sentence. Of a sandbox that has processes it
    /// is what they say, of another one what it would be made with.
    Security(Security),
    /// Check that this host has what Ash needs, and say what mends what is missing
    Doctor,
    /// Remove what is not needed any more
    ///
    /// Ended sessions after their time, snapshots beyond their bound, versions of agents that nobody
    /// runs, as the section "retention" of ash.toml(5) says, and files of which nobody knows. The
    /// daemon does it by itself every hour. Only those who may use the control socket may ask for it.
    Gc {
        /// Only show what would be removed
        #[arg(long, short = 'n')]
        dry_run: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Credentials: secrets that are kept for sessions
    #[command(subcommand, arg_required_else_help = true)]
    Credential(CredentialCommand),
    /// Schedules: messages that are queued at the times of a calendar
    #[command(subcommand, arg_required_else_help = true)]
    Schedule(ScheduleCommand),
    /// Webhooks: who is told of events, over the network
    #[command(subcommand, arg_required_else_help = true)]
    Webhook(WebhookCommand),
    /// Who did what: keys, credentials, agents, sessions
    Audit(Audit),
    /// API keys, with which programs call Ash over the network
    #[command(subcommand, arg_required_else_help = true)]
    Key(KeyCommand),
    /// Send a request of the API by hand, and print the answer
    ///
    /// With the daemon and the key that other commands use. The answer is printed as it comes, which a
    /// stream does line by line, whatever --output says; where it refuses, the exit code is that of its
    /// status.
    Api(Api),
    /// Contexts: daemons under a name, each with its API key
    ///
    /// They are in ~/.config/ash/contexts.toml, or the file that ASHCTL_CONFIG names, which only
    /// its owner can read. Which daemon is meant: what --server or --context says, else
    /// ASH_SERVER_URL, else ASH_CONTEXT, else the context in use, else the control socket of this
    /// host. --api-key and ASH_API_KEY go before the key of a context, but for one that --context
    /// names.
    #[command(subcommand, arg_required_else_help = true)]
    Context(ContextCommand),
    /// Print the completions for a shell
    ///
    /// The shell asks ashctl, and so knows agents, sessions, credentials and contexts, too. The Debian
    /// package installs them. Elsewhere:
    ///
    ///   source <(ashctl completion bash)    in ~/.bashrc
    ///   source <(ashctl completion zsh)     in ~/.zshrc, after compinit
    ///   ashctl completion fish | source     in ~/.config/fish/config.fish
    #[command(verbatim_doc_comment)]
    Completion(Completion),
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Deploy {
    /// The agent's folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// The agent's name: letters, digits, - and _ [default: the folder's name]
    #[arg(long, short)]
    pub name: Option<String>,
    /// A variable for the agent's sessions, before those of .env; without a value it is taken from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
}

#[derive(Debug, Args)]
#[command(override_usage = "ashctl chat [OPTIONS] AGENT [PROMPT]...\n       \
    ashctl chat [OPTIONS] --session ID [PROMPT]...\n       \
    ashctl chat [OPTIONS] --last [PROMPT]...")]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Chat {
    /// The agent to start a session with; not with --session or --last
    #[arg(add = complete::agents())]
    pub agent: Option<String>,
    /// What to say; "-" reads it from standard input
    #[arg(value_name = "PROMPT")]
    pub prompt: Vec<String>,
    /// Continue this session
    #[arg(long, short, value_name = "ID", conflicts_with = "last", add = complete::sessions())]
    pub session: Option<SessionRef>,
    /// Continue the session that was active last
    #[arg(long, short)]
    pub last: bool,
    /// A file that goes with the first message, and stays with the session; can be given more than once
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub attach: Vec<PathBuf>,
    /// The model that answers [default: the agent's]
    #[arg(long, short)]
    pub model: Option<String>,
    /// What the new session's agent may do without being allowed to
    #[arg(long, value_name = "MODE", value_parser = mode_parser(), hide_possible_values = true, conflicts_with_all = ["session", "last"], long_help = MODES)]
    pub permission_mode: Option<PermissionMode>,
    /// End the session afterwards
    #[arg(long)]
    pub end: bool,
    /// Print the stream of events as it comes
    #[arg(long)]
    pub raw: bool,
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Security {
    /// The session
    #[arg(add = complete::sessions())]
    pub id: SessionRef,
    /// Fail unless it is confined so
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub require: Option<Required>,
}

/// How much a session has to be confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Required {
    /// By every wall
    Strict,
}

/// How hosts are written.
const HOSTS: &str = "A host that may be reached, beside the others and in the place of the list so far: a name, \
\"*.example.com\" for all names below one, \"*\" for all names, an address, or a preset (crates, debian, github, \
npm, pypi). Without a port, 80 and 443. Can be given more than once, or several with commas between them.";

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum TurnCommand {
    /// List the turns of a session, oldest first
    #[command(visible_alias = "ls")]
    List {
        /// The session
        #[arg(add = complete::sessions())]
        session: SessionRef,
        /// In this state only
        #[arg(long, short, value_parser = ["queued", "running", "completed", "failed", "interrupted", "cancelled"])]
        state: Option<String>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show a turn: its state, its times and what it took
    Show {
        /// The session
        #[arg(add = complete::sessions())]
        session: SessionRef,
        /// The turn
        turn: TurnId,
    },
    /// Take a turn from the queue, or interrupt it
    Cancel {
        /// The session
        #[arg(add = complete::sessions())]
        session: SessionRef,
        /// The turn
        turn: TurnId,
    },
    /// Interrupt the turn that is running
    Interrupt {
        /// The session
        #[arg(add = complete::sessions())]
        session: SessionRef,
    },
}

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum PermissionCommand {
    /// List what waits for an answer, oldest first
    #[command(visible_alias = "ls")]
    List {
        /// The session
        #[arg(add = complete::sessions())]
        session: SessionRef,
        /// What was answered too
        #[arg(long, short)]
        all: bool,
    },
    /// Show a request whole
    Show {
        /// The session
        #[arg(add = complete::sessions())]
        session: SessionRef,
        /// The request
        id: PermissionId,
    },
    /// Allow it, or answer a question
    Allow(PermissionAllow),
    /// Deny it; the agent goes on without
    Deny {
        /// The session
        #[arg(add = complete::sessions())]
        session: SessionRef,
        /// The request
        id: PermissionId,
        /// What the agent is told
        #[arg(long, short, value_name = "TEXT")]
        message: Option<String>,
        /// End the turn too
        #[arg(long)]
        interrupt: bool,
    },
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct PermissionAllow {
    /// The session
    #[arg(add = complete::sessions())]
    pub session: SessionRef,
    /// The request
    pub id: PermissionId,
    /// For the rest of the session: everything that the request's rules cover
    #[arg(long = "session", short = 's')]
    pub for_session: bool,
    /// What the tool gets in place of what it asked with: JSON, or @FILE
    #[arg(long, short, value_name = "JSON", conflicts_with = "answer")]
    pub input: Option<String>,
    /// The answer to a question
    #[arg(long, short, value_name = "QUESTION=TEXT")]
    pub answer: Vec<String>,
}

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum AgentCommand {
    /// List agents
    #[command(visible_alias = "ls")]
    List(Watch),
    /// Show an agent
    Show {
        /// The agent
        #[arg(value_name = "AGENT", add = complete::agents())]
        name: String,
    },
    /// Delete an agent with its sessions
    Delete {
        /// The agent
        #[arg(value_name = "AGENT", add = complete::agents())]
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Versions of an agent's prompt, of which new sessions are made with the active one
    ///
    /// The prompt of the active version takes the place of CLAUDE.md in sessions that are made from then on.
    /// What is deployed does not change, and sessions keep what they were made with.
    #[command(subcommand, arg_required_else_help = true)]
    Version(VersionCommand),
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Logs {
    /// Only what belongs to this session
    #[arg(value_name = "SESSION", add = complete::sessions())]
    pub session: Option<SessionRef>,
    /// Go on printing what comes
    #[arg(long, short)]
    pub follow: bool,
    /// Only the newest lines
    #[arg(long, short = 'n', value_name = "N")]
    pub lines: Option<u32>,
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Audit {
    /// Only this action, such as key.create
    #[arg(long, value_name = "ACTION")]
    pub action: Option<Action>,
    /// Only what they did: uid:NUMBER, key:ID or session:ID
    #[arg(long, value_name = "WHO")]
    pub by: Option<String>,
    /// Only what was done to this id or name
    #[arg(long, value_name = "THING")]
    pub object: Option<String>,
    /// Only what is not older, such as 2h or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// At most so many entries, the newest
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Of this tenant (on the host of the daemon)
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
}

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum KeyCommand {
    /// Make an API key and print it; it is shown only this once
    Create {
        /// What to call it
        #[arg(long, short)]
        label: Option<String>,
        /// What it allows: read, run (sessions), deploy (agents), or admin, which is everything.
        /// Default: all that you may
        #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
        scopes: Vec<Scope>,
        /// After what time it is useless, such as 30d, or when, such as 2027-01-31T12:00:00Z
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// The one agent that it knows
        #[arg(long, value_name = "NAME")]
        agent: Option<String>,
        /// The tenant that it speaks for (on the host of the daemon)
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
    },
    /// List API keys, without their secrets
    #[command(visible_alias = "ls")]
    List {
        /// Those of this tenant (on the host of the daemon)
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
    },
    /// Make API keys useless at once
    Revoke {
        /// The ids that "ashctl key list" shows
        #[arg(required = true, value_name = "ID", add = complete::keys())]
        ids: Vec<KeyId>,
        /// The tenant that they speak for (on the host of the daemon)
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum CredentialCommand {
    /// Keep a secret from standard input, and print the id under which sessions are given it
    ///
    /// The key of the model API (anthropic) never enters a sandbox. Those of other types are in the
    /// environment of what runs inside: OPENAI_API_KEY (openai) or ASH_CUSTOM_API_KEY (custom).
    Create {
        /// What it is for: anthropic, openai, custom or bedrock
        #[arg(value_name = "TYPE")]
        kind: CredentialType,
        /// What to call it
        #[arg(long, short)]
        label: Option<String>,
    },
    /// List credentials, without their secrets
    #[command(visible_alias = "ls")]
    List,
    /// Change a credential
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Update {
        /// The id that "ashctl credential list" shows
        #[arg(add = complete::credentials())]
        id: CredentialId,
        /// What to call it
        #[arg(long, short, group = "change")]
        label: Option<String>,
        /// Read another secret from standard input; of a key of the model, or where it is bound, it counts with
        /// the next call, otherwise in sandboxes that start from then on
        #[arg(long, group = "change")]
        key: bool,
    },
    /// Forget credentials
    ///
    /// A key of the model, and one that is bound to a host, is taken from running sandboxes at once; what
    /// is in an environment stays there while its processes live. Sessions that name it do not start
    /// again before they are given another one.
    Delete {
        /// The ids that "ashctl credential list" shows
        #[arg(required = true, value_name = "ID", add = complete::credentials())]
        ids: Vec<CredentialId>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Make a new master key, and seal all credentials under it
    ///
    /// As root, on the host of the daemon, which is restarted. Sandboxes do not notice. If it breaks
    /// off, run it again.
    RotateMaster {
        /// The file of the master key
        #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, default_value = "/etc/ash/credentials/master_key")]
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Completion {
    /// The shell
    #[arg(value_enum, action = ArgAction::Set)]
    pub shell: Shell,
}

/// Shells that Debian's users have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

fn status_parser() -> impl clap::builder::TypedValueParser<Value = Status> {
    use clap::builder::TypedValueParser as _;
    const ALL: [Status; 6] = [Status::Starting, Status::Active, Status::Paused, Status::Stopped, Status::Ended, Status::Error];
    clap::builder::PossibleValuesParser::new(ALL.map(Status::as_str))
        .map(|word| ALL.into_iter().find(|status| status.as_str() == word).unwrap_or(Status::Unknown))
}

const MODES: &str = "\
What the agent may do without being allowed to

bypassPermissions:  everything; the sandbox is the limit [default]
permissionsByAgent: what its own settings allow; nobody is asked about the rest
default:            what the runtime allows; nobody is asked about the rest
ask:                what the runtime allows; you are asked about the rest
acceptEdits:        the same, and edits of files in the workspace
plan:               nothing but making a plan, which you are asked to accept";

/// Reads the modes as on the wire, and as options are written otherwise: `accept-edits`.
fn mode_parser() -> impl clap::builder::TypedValueParser<Value = PermissionMode> {
    use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
    const ALL: [(&str, &str, PermissionMode); 6] = [
        ("bypassPermissions", "bypass-permissions", PermissionMode::BypassPermissions),
        ("permissionsByAgent", "permissions-by-agent", PermissionMode::PermissionsByAgent),
        ("default", "default", PermissionMode::Default),
        ("ask", "ask", PermissionMode::Ask),
        ("acceptEdits", "accept-edits", PermissionMode::AcceptEdits),
        ("plan", "plan", PermissionMode::Plan),
    ];
    PossibleValuesParser::new(ALL.map(|(wire, other, _)| PossibleValue::new(wire).alias(other))).try_map(|word| {
        let found = ALL.into_iter().find(|(wire, other, _)| [*wire, *other].contains(&word.as_str()));
        found.map(|(.., mode)| mode).ok_or("is no permission mode")
    })
}
