//! Schedules on the command line.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand};

use super::{ScheduleRef, SessionRef, Watch};
use crate::cli::complete;
use crate::wire::QueueId;
use crate::wire::schedule::{CatchUp, Overlap};

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum ScheduleCommand {
    /// Have a message queued at the times of a calendar, and print the id of the schedule
    ///
    /// The calendar is an expression of systemd, such as "Mon..Fri 09:00", "*-*-01 00:00" or "hourly" (systemd.time(7),
    /// "Calendar Events"), or of cron, such as "0 9 * * 1-5" or "@daily". "ashctl schedule preview" shows its times.
    Create(Box<ScheduleCreate>),
    /// List schedules, oldest first
    #[command(visible_alias = "ls")]
    List(Watch),
    /// Show a schedule
    Show {
        /// The schedule: its id, the beginning of it, or @last
        #[arg(value_name = "ID", add = complete::schedules())]
        id: ScheduleRef,
    },
    /// Change a schedule
    Edit(Box<ScheduleEdit>),
    /// Have schedules fire again, from now on
    Enable {
        /// The schedules
        #[arg(required = true, value_name = "ID", add = complete::schedules())]
        ids: Vec<ScheduleRef>,
    },
    /// Have schedules not fire any more; what comes meanwhile is not caught up
    Disable {
        /// The schedules
        #[arg(required = true, value_name = "ID", add = complete::schedules())]
        ids: Vec<ScheduleRef>,
    },
    /// Delete schedules; their items stay in the queue
    Delete {
        /// The schedules
        #[arg(required = true, value_name = "ID", add = complete::schedules())]
        ids: Vec<ScheduleRef>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Queue an item of a schedule now, and print its id
    Run {
        /// The schedule
        #[arg(value_name = "ID", add = complete::schedules())]
        id: ScheduleRef,
        /// Wait until it is over, and print what the agent answered
        #[arg(long, short)]
        wait: bool,
    },
    /// List the items of a schedule, newest first
    Runs {
        /// The schedule
        #[arg(value_name = "ID", add = complete::schedules())]
        id: ScheduleRef,
        /// At most so many
        #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: Option<u32>,
        /// Only those before this item
        #[arg(long, value_name = "ITEM")]
        before: Option<QueueId>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show the next times of an expression, without making anything
    Preview {
        /// An expression of systemd or of cron
        calendar: String,
        /// The time zone of its times, unless it names one [default: UTC]
        #[arg(long, short = 'z', value_name = "ZONE")]
        timezone: Option<String>,
        /// So many of them
        #[arg(long, short = 'n', value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
        count: u32,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").multiple(true))]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct ScheduleCreate {
    /// The agent
    #[arg(add = complete::agents())]
    pub agent: String,
    /// What to say; "-" reads it from standard input
    #[arg(required = true, value_name = "PROMPT")]
    pub prompt: Vec<String>,
    /// When, an expression of systemd or of cron
    #[arg(long, short, value_name = "EXPRESSION")]
    pub calendar: String,
    /// What to call it [default: the beginning of the prompt]
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// The time zone of its times, unless the calendar names one [default: UTC]
    #[arg(long, short = 'z', value_name = "ZONE")]
    pub timezone: Option<String>,
    /// The session that the messages go into
    #[arg(long, short, value_name = "ID", add = complete::sessions())]
    pub session: Option<SessionRef>,
    /// Do not end a session of its own when it is over
    #[arg(long, conflicts_with = "session")]
    pub keep_session: bool,
    #[command(flatten)]
    pub rules: ScheduleRules,
    /// Do not let it fire yet
    #[arg(long)]
    pub disabled: bool,
}

/// How the items of a schedule are queued.
#[derive(Debug, Args)]
pub struct ScheduleRules {
    /// The highest goes first in the queue [default: 0]
    #[arg(long, short, value_name = "NUMBER", group = "change")]
    pub priority: Option<i64>,
    /// How often an item is tried again at most [default: 3]
    #[arg(long, value_name = "NUMBER", group = "change")]
    pub retries: Option<i64>,
    /// What becomes of times that come while the daemon is down [default: once]
    #[arg(long, value_name = "WORD", value_parser = words::<CatchUp>(CatchUp::ALL.iter().map(|word| word.as_str())), group = "change")]
    pub catch_up: Option<CatchUp>,
    /// Be late by up to so many seconds, each time by another number [default: 0]
    #[arg(long, value_name = "SECONDS", group = "change")]
    pub jitter: Option<u32>,
    /// What becomes of times that come before the last item is over [default: skip]
    #[arg(long, value_name = "WORD", value_parser = words::<Overlap>(Overlap::ALL.iter().map(|word| word.as_str())), group = "change")]
    pub overlap: Option<Overlap>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct ScheduleEdit {
    /// The schedule: its id, the beginning of it, or @last
    #[arg(value_name = "ID", add = complete::schedules())]
    pub id: ScheduleRef,
    /// When, from now on
    #[arg(long, short, value_name = "EXPRESSION", group = "change")]
    pub calendar: Option<String>,
    /// The time zone of its times
    #[arg(long, short = 'z', value_name = "ZONE", group = "change")]
    pub timezone: Option<String>,
    /// What to call it
    #[arg(long, value_name = "TEXT", group = "change")]
    pub name: Option<String>,
    /// The agent
    #[arg(long, value_name = "NAME", group = "change", add = complete::agents())]
    pub agent: Option<String>,
    /// What to say
    #[arg(long, value_name = "TEXT", group = "change")]
    pub prompt: Option<String>,
    /// The session that the messages go into
    #[arg(long, short, value_name = "ID", group = "change", add = complete::sessions())]
    pub session: Option<SessionRef>,
    /// Have a session for each message
    #[arg(long, group = "change", conflicts_with = "session")]
    pub own_sessions: bool,
    /// Do not end a session of its own when it is over
    #[arg(long, group = "change")]
    pub keep_session: bool,
    /// End a session of its own when it is over
    #[arg(long, group = "change", conflicts_with = "keep_session")]
    pub end_session: bool,
    #[command(flatten)]
    pub rules: ScheduleRules,
}

/// One of these words, with its type.
fn words<T: std::str::FromStr + Clone + Send + Sync + 'static>(
    words: impl Iterator<Item = &'static str>,
) -> impl TypedValueParser<Value = T>
where
    T::Err: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    PossibleValuesParser::new(words.collect::<Vec<_>>()).try_map(|word| word.parse::<T>())
}
