//! The command line of `ashctl context`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use crate::cli::complete;

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum ContextCommand {
    /// List contexts; the one in use has a "*"
    #[command(visible_alias = "ls")]
    List,
    /// Keep a daemon and its API key under a name
    Add(ContextAdd),
    /// Use a context from now on
    Use {
        /// The context
        #[arg(value_name = "CONTEXT", required_unless_present = "none", add = complete::contexts())]
        name: Option<String>,
        /// Use none: the control socket of this host again
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
    /// Show a context, without its key
    Show {
        /// The context [default: the one in use]
        #[arg(value_name = "CONTEXT", add = complete::contexts())]
        name: Option<String>,
    },
    /// Forget a context, and the key that is stored with it
    #[command(visible_alias = "rm")]
    Delete {
        /// The context
        #[arg(value_name = "CONTEXT", add = complete::contexts())]
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct ContextAdd {
    /// What to call it: letters, digits, -, _ and .
    #[arg(value_name = "CONTEXT")]
    pub name: String,
    /// The daemon: http://HOST:PORT, https://HOST or unix:/PATH
    #[arg(value_name = "URL", value_hint = ValueHint::Url)]
    pub address: String,
    /// Read the API key from standard input, and store it in the file of contexts
    #[arg(long, group = "secret")]
    pub key: bool,
    /// The file that holds the API key
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, group = "secret")]
    pub key_file: Option<PathBuf>,
    /// A command of the shell that prints the API key, each time that it is needed
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString, group = "secret")]
    pub key_command: Option<String>,
    /// Use it from now on
    #[arg(long = "use")]
    pub in_use: bool,
    /// In the place of the context of this name
    #[arg(long)]
    pub replace: bool,
}
