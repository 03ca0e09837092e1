//! What works in the workspace of a session.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use crate::wire::SessionId;

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Exec {
    /// The session
    pub session: SessionId,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Seconds after which it is killed
    #[arg(long, short, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub timeout: u64,
    /// Pass no standard input on
    #[arg(long, short = 'n')]
    pub no_stdin: bool,
}

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum FilesCommand {
    /// List the files of a session
    ///
    /// Those in folders named node_modules, .git and __pycache__ are not listed.
    #[command(visible_alias = "list")]
    Ls {
        /// The session
        session: SessionId,
        /// Without caches, virtual environments and temporary files either
        #[arg(long)]
        no_hidden: bool,
    },
    /// Print a file of a session, or save it
    Get {
        /// The session
        session: SessionId,
        /// Its path in the workspace
        path: String,
        /// Where to save it; "-" is standard output, which is what happens without it
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Put files into the workspace of a session
    ///
    /// Each is whole under its name, or what was there before stays. One has at most 50 MiB, all together
    /// 100 MiB.
    Put {
        /// The session
        session: SessionId,
        /// The files; "-" is standard input, and needs --as
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        /// The folder of the workspace they are put into
        #[arg(long, value_name = "FOLDER", conflicts_with = "as_path")]
        to: Option<String>,
        /// The path in the workspace, of one file
        #[arg(long = "as", value_name = "PATH")]
        as_path: Option<String>,
    },
    /// Delete files of a session
    Rm {
        /// The session
        session: SessionId,
        /// Their paths in the workspace
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
}
