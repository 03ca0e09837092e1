//! What works in the workspace of a session.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::reference::SessionRef;
use crate::cli::complete;

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Exec {
    /// The session
    #[arg(add = complete::sessions())]
    pub session: SessionRef,
    /// The command and its arguments; with --tty, a shell if there is none
    #[arg(required_unless_present = "tty", last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Give it a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// Pass standard input on also from a terminal; with --tty it always is
    #[arg(long, short)]
    pub interactive: bool,
    /// Seconds after which it is killed, at most 300, with --tty 86400 [default: 30, with --tty 86400]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: Option<u64>,
    /// Pass no standard input on
    #[arg(long, short = 'n', conflicts_with_all = ["tty", "interactive"])]
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
        #[arg(add = complete::sessions())]
        session: SessionRef,
        /// Without caches, virtual environments and temporary files either
        #[arg(long)]
        no_hidden: bool,
    },
    /// Print a file of a session, or save it
    Get {
        /// The session
        #[arg(add = complete::sessions())]
        session: SessionRef,
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
        #[arg(add = complete::sessions())]
        session: SessionRef,
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
    /// Change a file of a session in an editor
    ///
    /// In that of VISUAL or EDITOR. A file that is not there yet is made. One that was changed in the
    /// session meanwhile is left as it is, and what was written is kept here, at a place that is told.
    Edit {
        /// The session
        #[arg(add = complete::sessions())]
        session: SessionRef,
        /// Its path in the workspace
        path: String,
    },
    /// Delete files of a session
    Rm {
        /// The session
        #[arg(add = complete::sessions())]
        session: SessionRef,
        /// Their paths in the workspace
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
}
