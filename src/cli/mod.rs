//! `ashctl`: the command line.
//!
//! | module | job |
//! | --- | --- |
//! | [`args`] | the tree of commands, from which help, manual pages and completions are made |
//! | [`cmd`] | one file for each command |
//! | [`output`] | results on standard output, talk on standard error |
//! | `bill` | what turns took, in units that people read |
//! | [`error`], [`exit`] | what failed, the next step, the exit code |
//!
//! A command parses its arguments, calls [`crate::client`] and prints. It holds no state between
//! calls, and changes nothing on the host.

pub mod args;
mod bill;
pub mod cmd;
pub mod error;
pub mod exit;
pub mod output;

use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Cli, Global};
use self::error::CliError;
use self::output::{BOLD, GREEN, Output, RED};
use crate::client::{Client, Server};
use crate::report;

/// What every command needs.
pub struct Context {
    /// Speaks to the daemon.
    pub client: Client,
    /// Speaks to the user.
    pub output: Output,
}

/// Runs the command that the process's arguments ask for.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new(cli.global.output);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => return report_failure(&mut output, &CliError::Run { program: "the event loop", source }),
    };
    let result = match client(&cli.global) {
        Ok(client) => {
            let mut context = Context { client, output };
            let result = runtime.block_on(cmd::run(cli.command, &mut context));
            output = context.output;
            result
        }
        Err(error) => Err(error),
    };
    // A thread may still wait for a line from the keyboard.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report_failure(&mut output, &error),
    }
}

fn client(global: &Global) -> Result<Client, CliError> {
    let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    let server = given(&global.server).map_or(Ok(Server::default()), |text| text.parse())?;
    Ok(Client::new(server, given(&global.api_key).as_deref())?)
}

fn report_failure(output: &mut Output, error: &CliError) -> ExitCode {
    if !error.is_quiet() {
        let text = output::clean(&report::chain(error));
        output.say(format_args!("{RED}{BOLD}error:{BOLD:#}{RED:#} {text}"));
        if let CliError::Client(error) = error {
            for detail in error.problem().map(|problem| problem.details.as_slice()).unwrap_or_default() {
                output.say(output::clean(&format!("  {}: {}", detail.field, detail.reason)));
            }
        }
        if let Some(hint) = error.hint() {
            output.say(format_args!("{GREEN}hint:{GREEN:#}  {hint}"));
        }
    }
    error.code().into()
}
