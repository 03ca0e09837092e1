//! Options of `ashctl queue`.

use clap::{Args, Subcommand};

use super::{SessionRef, Watch};
use crate::cli::complete;
use crate::wire::QueueId;
use crate::wire::queue::QueueStatus;

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum QueueCommand {
    /// Queue a message, and print the id of its item
    ///
    /// It is answered when a worker is free, in a session of its own that is ended then, or in the one that --session
    /// names. What fails in a way that may pass is tried again.
    Add(QueueAdd),
    /// List items, newest first
    #[command(visible_alias = "ls")]
    List {
        /// With this status only
        #[arg(long, short, value_parser = status_parser())]
        status: Option<QueueStatus>,
        /// At most so many
        #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: Option<u32>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show an item
    Show {
        /// The item
        id: QueueId,
        /// Wait until it is over
        #[arg(long, short)]
        wait: bool,
    },
    /// Print what the agent answered
    ///
    /// Fails if the item failed or was cancelled, or is not over yet.
    Result {
        /// The item
        id: QueueId,
        /// Wait until it is over
        #[arg(long, short)]
        wait: bool,
    },
    /// Cancel items that wait
    Cancel {
        /// The items
        #[arg(required = true, value_name = "ID")]
        ids: Vec<QueueId>,
        /// Interrupt those that are being processed
        #[arg(long, short)]
        force: bool,
    },
    /// Show how many items there are
    Stats,
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct QueueAdd {
    /// The agent
    #[arg(add = complete::agents())]
    pub agent: String,
    /// What to say; "-" reads it from standard input
    #[arg(required = true, value_name = "PROMPT")]
    pub prompt: Vec<String>,
    /// The session that the message goes into, behind what waits there
    #[arg(long, short, value_name = "ID", add = complete::sessions())]
    pub session: Option<SessionRef>,
    /// The highest goes first [default: 0]
    #[arg(long, short, value_name = "NUMBER")]
    pub priority: Option<i64>,
    /// How often it is tried again at most [default: 3]
    #[arg(long, value_name = "NUMBER")]
    pub retries: Option<i64>,
    /// Do not end its session when it is over
    #[arg(long, conflicts_with = "session")]
    pub keep_session: bool,
    /// Wait until it is over, and print what the agent answered
    #[arg(long, short)]
    pub wait: bool,
}

fn status_parser() -> impl clap::builder::TypedValueParser<Value = QueueStatus> {
    use clap::builder::{PossibleValuesParser, TypedValueParser as _};
    PossibleValuesParser::new(QueueStatus::ALL.map(QueueStatus::as_str)).map(|word| word.parse().unwrap_or(QueueStatus::Unknown))
}
