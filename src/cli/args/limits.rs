//! Options for limits of sessions.

use clap::{Args, ValueEnum};

use super::reference::SessionRef;
use crate::cli::complete;
use crate::wire::quantity::{ByteCount, Dollars, Percent, TimeSpan};

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct SessionLimits {
    /// The session
    #[arg(add = complete::sessions())]
    pub id: SessionRef,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Take back what the session says of a limit, by its name: memory, cpu, tokens and so on
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub reset: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Limits")]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct LimitArgs {
    /// Memory of all processes, such as 2G
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteCount>,
    /// Memory above which processes are slowed down
    #[arg(long, value_name = "SIZE")]
    pub memory_high: Option<ByteCount>,
    /// Swap beside the memory
    #[arg(long, value_name = "SIZE")]
    pub swap: Option<ByteCount>,
    /// Processor time, such as 150%
    #[arg(long, value_name = "PERCENT")]
    pub cpu: Option<Percent>,
    /// Processes and threads
    #[arg(long, value_name = "NUMBER")]
    pub tasks: Option<u32>,
    /// Workspace and home together
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<ByteCount>,
    /// Share of the disk's time beside others, from 1 to 10000
    #[arg(long, value_name = "NUMBER")]
    pub io_weight: Option<u32>,
    /// Bytes read from the disk in a second
    #[arg(long, value_name = "SIZE")]
    pub io_read: Option<ByteCount>,
    /// Bytes written to the disk in a second
    #[arg(long, value_name = "SIZE")]
    pub io_write: Option<ByteCount>,
    /// Open files of one process
    #[arg(long, value_name = "NUMBER")]
    pub open_files: Option<u32>,
    /// Size of one file
    #[arg(long, value_name = "SIZE")]
    pub file_size: Option<ByteCount>,
    /// Bytes that the runtime writes in a second
    #[arg(long, value_name = "SIZE")]
    pub output_rate: Option<ByteCount>,
    /// How long a sandbox may live, such as 8h
    #[arg(long, value_name = "TIME")]
    pub lifetime: Option<TimeSpan>,
    /// How long a sandbox is idle before its processes end
    #[arg(long, value_name = "TIME")]
    pub idle: Option<TimeSpan>,
    /// How long a turn may take, such as 10m
    #[arg(long, value_name = "TIME")]
    pub turn: Option<TimeSpan>,
    /// Tokens of all turns together
    #[arg(long, value_name = "NUMBER")]
    pub tokens: Option<u64>,
    /// US dollars of all turns together, such as 2.5
    #[arg(long, value_name = "DOLLARS")]
    pub cost: Option<Dollars>,
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Top {
    /// What the largest has most of
    #[arg(long, short, value_enum, default_value_t, value_name = "COLUMN")]
    pub sort: TopSort,
    /// Print it once
    #[arg(long)]
    pub once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
}

/// By what sessions are sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TopSort {
    /// Processor time between two looks
    #[default]
    Cpu,
    /// Memory
    Memory,
    /// Processes and threads
    Tasks,
    /// Tokens
    Tokens,
    /// US dollars
    Cost,
}
