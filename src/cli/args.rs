//! The command line as a tree. Help, manual pages and completions are made from it.

use std::path::PathBuf;

use clap::builder::Styles;
use clap::builder::styling::{AnsiColor, Effects};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::wire::session::Status;
use crate::wire::{KeyId, SessionId};

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
/// the daemon and an API key.
#[derive(Debug, Parser)]
#[command(name = "ashctl", version, styles = STYLES, subcommand_required = true, arg_required_else_help = true)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
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
    /// The API key for a daemon on the network; better in the environment, as others see arguments
    #[arg(long, global = true, value_name = "KEY", env = "ASH_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text and tables for people
    #[default]
    Table,
    /// The API's own objects, as one JSON document; a stream as one JSON object a line
    Json,
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
    Chat(Chat),
    /// Sessions: conversations with an agent
    #[command(subcommand, arg_required_else_help = true)]
    Session(SessionCommand),
    /// Agents: folders that were deployed
    #[command(subcommand, arg_required_else_help = true)]
    Agent(AgentCommand),
    /// Show how the daemon is doing, and its sessions
    Status,
    /// Show the journal of Ash, or of one session
    ///
    /// Runs journalctl(1) on this host: the daemon and the launcher, or everything that belongs to
    /// one session, its sandbox included.
    Logs(Logs),
    /// Check that this host has what Ash needs, and say what mends what is missing
    Doctor,
    /// API keys, with which programs call Ash over the network
    #[command(subcommand, arg_required_else_help = true)]
    Key(KeyCommand),
    /// Print the completions for a shell
    ///
    /// The Debian package installs them. Elsewhere, for bash:
    ///
    ///   ashctl completion bash > ~/.local/share/bash-completion/completions/ashctl
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
    pub agent: Option<String>,
    /// What to say; "-" reads it from standard input
    #[arg(value_name = "PROMPT")]
    pub prompt: Vec<String>,
    /// Continue this session
    #[arg(long, short, value_name = "ID", conflicts_with = "last")]
    pub session: Option<SessionId>,
    /// Continue the session that was active last
    #[arg(long, short)]
    pub last: bool,
    /// The model that answers [default: the agent's]
    #[arg(long, short)]
    pub model: Option<String>,
    /// End the session afterwards
    #[arg(long)]
    pub end: bool,
    /// Print the stream of events as it comes
    #[arg(long)]
    pub raw: bool,
}

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
    /// Send one message and print the answer
    Send(SessionSend),
    /// End sessions for good
    End {
        /// The sessions
        #[arg(required = true, value_name = "ID")]
        ids: Vec<SessionId>,
    },
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct SessionCreate {
    /// The agent
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
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct SessionList {
    /// Of this agent only
    #[arg(long, short)]
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
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct SessionShow {
    /// The session
    pub id: SessionId,
    /// What was said, instead
    #[arg(long, short, conflicts_with = "events")]
    pub messages: bool,
    /// What happened, instead
    #[arg(long, short)]
    pub events: bool,
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct SessionSend {
    /// The session
    pub id: SessionId,
    /// What to say; "-" or nothing reads it from standard input
    #[arg(value_name = "PROMPT")]
    pub prompt: Vec<String>,
    /// The model that answers this message [default: the session's]
    #[arg(long, short)]
    pub model: Option<String>,
    /// Print the stream of events as it comes
    #[arg(long)]
    pub raw: bool,
}

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum AgentCommand {
    /// List agents
    #[command(visible_alias = "ls")]
    List,
    /// Show an agent
    Show {
        /// The agent
        #[arg(value_name = "AGENT")]
        name: String,
    },
    /// Delete an agent with its sessions
    Delete {
        /// The agent
        #[arg(value_name = "AGENT")]
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Logs {
    /// Only what belongs to this session
    #[arg(value_name = "SESSION")]
    pub session: Option<SessionId>,
    /// Go on printing what comes
    #[arg(long, short)]
    pub follow: bool,
    /// Only the newest lines
    #[arg(long, short = 'n', value_name = "N")]
    pub lines: Option<u32>,
}

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum KeyCommand {
    /// Make an API key and print it; it is shown only this once
    Create {
        /// What to call it
        #[arg(long, short)]
        label: Option<String>,
    },
    /// List API keys, without their secrets
    #[command(visible_alias = "ls")]
    List,
    /// Make API keys useless at once
    Revoke {
        /// The ids that "ashctl key list" shows
        #[arg(required = true, value_name = "ID")]
        ids: Vec<KeyId>,
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

impl From<Shell> for clap_complete::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Bash,
            Shell::Zsh => Self::Zsh,
            Shell::Fish => Self::Fish,
        }
    }
}

fn status_parser() -> impl clap::builder::TypedValueParser<Value = Status> {
    use clap::builder::TypedValueParser as _;
    const ALL: [Status; 6] = [Status::Starting, Status::Active, Status::Paused, Status::Stopped, Status::Ended, Status::Error];
    clap::builder::PossibleValuesParser::new(ALL.map(Status::as_str))
        .map(|word| ALL.into_iter().find(|status| status.as_str() == word).unwrap_or(Status::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.kind())
    }

    #[test]
    fn every_command_parses() {
        let id = SessionId::new();
        for line in [
            "ashctl deploy .".to_owned(),
            "ashctl deploy dir --name qa-bot -e A=1 -e B --output json".to_owned(),
            "ashctl chat hello".to_owned(),
            "ashctl chat hello what is this -m opus --end".to_owned(),
            format!("ashctl chat --session {id} go on"),
            "ashctl chat --last --raw".to_owned(),
            "ashctl session create hello -e A=1".to_owned(),
            "ashctl session ls --status active -n 3".to_owned(),
            format!("ashctl session show {id} --messages"),
            format!("ashctl session send {id} hi"),
            format!("ashctl session end {id} {id}"),
            "ashctl agent list -o json".to_owned(),
            "ashctl agent delete hello -y".to_owned(),
            "ashctl --server http://host:1 --api-key k status".to_owned(),
            "ashctl logs -f -n 20".to_owned(),
            format!("ashctl logs {id}"),
            "ashctl doctor".to_owned(),
            "ashctl key create --label ci".to_owned(),
            format!("ashctl key revoke {id}"),
            "ashctl completion zsh".to_owned(),
        ] {
            assert!(parse(&line).is_ok(), "{line}");
        }
    }

    #[test]
    fn mistakes_are_found_before_anything_is_sent() {
        for (line, kind) in [
            ("ashctl frobnicate", ErrorKind::InvalidSubcommand),
            ("ashctl chat --session x", ErrorKind::ValueValidation),
            ("ashctl session show", ErrorKind::MissingRequiredArgument),
            ("ashctl session end", ErrorKind::MissingRequiredArgument),
            ("ashctl session list --status sleepy", ErrorKind::InvalidValue),
            ("ashctl session list -n 0", ErrorKind::ValueValidation),
            ("ashctl --output yaml status", ErrorKind::InvalidValue),
            ("ashctl logs _UID=0", ErrorKind::ValueValidation),
            ("ashctl completion tcsh", ErrorKind::InvalidValue),
            ("ashctl key revoke ../..", ErrorKind::ValueValidation),
        ] {
            assert_eq!(parse(line).err(), Some(kind), "{line}");
        }
    }
}
