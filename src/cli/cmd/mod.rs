//! The commands, one file for each.

mod agent;
pub mod chat;
mod completion;
pub mod deploy;
pub mod doctor;
mod key;
mod logs;
mod session;
mod status;

use super::Context;
use super::args::Command;
use super::error::CliError;

/// Runs a command to its end.
pub(super) async fn run(command: Command, context: &mut Context) -> Result<(), CliError> {
    match command {
        Command::Deploy(args) => deploy::run(args, context).await,
        Command::Chat(args) => chat::run(args, context).await,
        Command::Session(command) => session::run(command, context).await,
        Command::Agent(command) => agent::run(command, context).await,
        Command::Status => status::run(context).await,
        Command::Logs(args) => logs::run(args, context),
        Command::Doctor => doctor::run(context).await,
        Command::Key(command) => key::run(command, context).await,
        Command::Completion(args) => completion::run(args, context),
    }
}
