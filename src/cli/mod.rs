//! `ashctl`: the command line.
//!
//! | module | job |
//! | --- | --- |
//! | [`args`] | the tree of commands, from which help, manual pages and completions are made |
//! | [`cmd`] | one file for each command |
//! | [`output`] | results on standard output, talk on standard error |
//! | [`contexts`] | daemons that have a name here |
//! | `find` | which session is meant |
//! | `target` | which daemon is meant |
//! | `complete` | what a shell offers for names and ids |
//! | `watch` | a result again and again |
//! | `bill` | what turns took, in units that people read |
//! | [`error`], [`exit`] | what failed, the next step, the exit code |
//!
//! A command parses its arguments, calls [`crate::client`] and prints. Between calls it keeps contexts
//! and what was said in chats, and changes nothing else on the host.

pub mod args;
mod bill;
pub mod cmd;
mod complete;
pub mod contexts;
pub mod error;
pub mod exit;
mod find;
pub mod output;
mod patience;
mod target;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use self::args::{Cli, Command};
use self::error::CliError;
use self::output::{BOLD, GREEN, Output, RED};
use self::target::KeyCommands;
use crate::client::Client;
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
    complete::answer();
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut output = Output::new(cli.global.output);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => return report_failure(&mut output, &CliError::Run { program: "the event loop", source }),
    };
    let result = match cli.command {
        Command::Context(command) => cmd::context::run(command, &mut output),
        Command::Completion(args) => cmd::completion::run(args, &mut output),
        command => match target::client(&cli.global, &matches, KeyCommands::Run) {
            Ok(client) => {
                let mut context = Context { client, output };
                let result = runtime.block_on(cmd::run(command, &mut context));
                output = context.output;
                result
            }
            Err(error) => Err(error),
        },
    };
    // A thread may still wait for a line from the keyboard.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report_failure(&mut output, &error),
    }
}

fn report_failure(output: &mut Output, error: &CliError) -> ExitCode {
    if !error.is_quiet() {
        let text = output::clean(&report::chain(error));
        output.say(format_args!("{RED}{BOLD}error:{BOLD:#}{RED:#} {text}"));
        if let CliError::Client(error) = error {
            for detail in error.problem().map(|problem| problem.details.as_slice()).unwrap_or_default() {
                let detail = format!("{}: {}", detail.field, detail.reason);
                // The one fault is the sentence itself.
                if detail != text {
                    output.say(output::clean(&format!("  {detail}")));
                }
            }
        }
        if let Some(hint) = error.hint() {
            output.say(format_args!("{GREEN}hint:{GREEN:#}  {hint}"));
        }
    }
    error.code().into()
}
