//! `ashctl completion`.

use std::io::Write as _;

use clap::CommandFactory as _;

use crate::cli::Context;
use crate::cli::args::{Cli, Completion};
use crate::cli::error::CliError;

pub(super) fn run(args: Completion, context: &mut Context) -> Result<(), CliError> {
    // Into memory first, as the generator panics if its output closes.
    let mut script = Vec::new();
    clap_complete::generate(clap_complete::Shell::from(args.shell), &mut Cli::command(), "ashctl", &mut script);
    let out = &mut context.output.out;
    out.write_all(&script).and_then(|()| out.flush()).map_err(CliError::Output)
}
