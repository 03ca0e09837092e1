//! The command line of `ashctl agent version`.

use clap::{ArgGroup, Args, Subcommand};

use crate::cli::complete;
use crate::wire::prompt_version::VersionRef;

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum VersionCommand {
    /// List the versions of an agent's prompt, newest first
    #[command(visible_alias = "ls")]
    List {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        /// At most so many
        #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: Option<u32>,
    },
    /// Make a version and print its number
    Create {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        #[command(flatten)]
        content: VersionContent,
        /// The version from which prompt and files are taken that are not given here
        #[arg(long, value_name = "VERSION")]
        from: Option<VersionRef>,
        /// Have new sessions made with it
        #[arg(long)]
        activate: bool,
    },
    /// Show a version with its prompt
    Show {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        /// Its number or id
        version: VersionRef,
    },
    /// Change a version; sessions keep what they were made with
    #[command(group = ArgGroup::new("change").args(["name", "prompt", "notes", "file"]).required(true).multiple(true))]
    Edit {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        /// Its number or id
        version: VersionRef,
        #[command(flatten)]
        content: VersionContent,
    },
    /// Delete versions; of an active one, new sessions have CLAUDE.md again
    Delete {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        /// Their numbers or ids
        #[arg(required = true, value_name = "VERSION")]
        versions: Vec<VersionRef>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Have new sessions made with a version, and with no other
    Activate {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        /// Its number or id
        version: VersionRef,
    },
    /// Have new sessions made with a version no more
    Deactivate {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        /// Its number or id
        version: VersionRef,
    },
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct VersionContent {
    /// What to call it [default: v and its number]
    #[arg(long)]
    pub name: Option<String>,
    /// What takes the place of CLAUDE.md: a text, or @FILE; an empty text is none
    #[arg(long, short, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// What is new in it
    #[arg(long, value_name = "TEXT")]
    pub notes: Option<String>,
    /// The name of a file that belongs to it, which is only noted; can be given more than once
    #[arg(long, value_name = "NAME")]
    pub file: Option<Vec<String>>,
}
