//! The command line of `ashctl attachment`.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};

use super::{SessionRef, Watch};
use crate::cli::complete;
use crate::wire::{AttachmentId, FileId};

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum AttachmentCommand {
    /// Give files to a session, and print their ids
    ///
    /// Each lies in the folder attachments of the workspace from then on; where there is one of its name
    /// already, as "name (2).ext". A session without a sandbox has it when the next one comes up.
    Add {
        /// The session
        #[arg(add = complete::sessions())]
        session: SessionRef,
        /// The files
        #[arg(required_unless_present = "copies", value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        /// Also a copy of a file that "ashctl project-file list" shows
        #[arg(long = "copy", value_name = "ID")]
        copies: Vec<FileId>,
        /// What they are [default: as their names end]
        #[arg(long = "type", value_name = "TYPE")]
        mime_type: Option<String>,
    },
    /// List the attachments of a session, oldest first
    #[command(visible_alias = "ls")]
    List {
        /// The session
        #[arg(add = complete::sessions())]
        session: SessionRef,
        #[command(flatten)]
        watch: Watch,
    },
    /// Print an attachment, or save it
    Get {
        /// The id that "ashctl attachment list" shows
        id: AttachmentId,
        /// Where to save it; "-" is standard output, which is what happens without it
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Forget attachments; what lies in the workspace stays there
    Rm {
        /// The ids that "ashctl attachment list" shows
        #[arg(required = true, value_name = "ID")]
        ids: Vec<AttachmentId>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}
