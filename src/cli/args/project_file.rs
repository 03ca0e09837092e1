//! The command line of `ashctl project-file`.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};

use super::Watch;
use crate::wire::FileId;
use crate::wire::project_file::Ttl;
use crate::wire::quantity::TimeSpan;

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum ProjectFileCommand {
    /// Keep files, and print their ids
    ///
    /// "ashctl attachment add SESSION --copy ID" gives a session a copy of one.
    Add {
        /// The files
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        /// What they are [default: as their names end]
        #[arg(long = "type", value_name = "TYPE")]
        mime_type: Option<String>,
        /// How long they are kept [default: permanent]
        #[arg(long, value_parser = ttl_parser())]
        ttl: Option<Ttl>,
    },
    /// List files, newest first
    #[command(visible_alias = "ls")]
    List {
        /// At most so many
        #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Only those that are older than this one
        #[arg(long, value_name = "ID")]
        before: Option<FileId>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Print a file, or save it
    Get {
        /// The id that "ashctl project-file list" shows
        id: FileId,
        /// Where to save it; "-" is standard output, which is what happens without it
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Print a link with which anybody can read a file without an API key
    Url {
        /// The id that "ashctl project-file list" shows
        id: FileId,
        /// How long it is good, such as 10m; at most 7d [default: 1h]
        #[arg(long, value_name = "TIME")]
        expires: Option<TimeSpan>,
    },
    /// Delete files, and with them their links
    Rm {
        /// The ids that "ashctl project-file list" shows
        #[arg(required = true, value_name = "ID")]
        ids: Vec<FileId>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

fn ttl_parser() -> impl clap::builder::TypedValueParser<Value = Ttl> {
    use clap::builder::TypedValueParser;
    clap::builder::PossibleValuesParser::new(Ttl::ALL.map(Ttl::as_str)).try_map(|text| text.parse::<Ttl>())
}
