//! The commands, one file for each.

mod agent;
pub mod chat;
mod completion;
mod credential;
pub mod deploy;
pub mod doctor;
mod egress;
mod events;
mod exec;
mod files;
mod gc;
mod key;
mod limits;
mod logs;
mod permission;
mod request;
mod security;
mod session;
mod status;
mod top;
mod turn;
mod workspace;

use super::Context;
use super::args::Command;
use super::error::CliError;

/// Runs a command to its end.
pub(super) async fn run(command: Command, context: &mut Context) -> Result<(), CliError> {
    match command {
        Command::Deploy(args) => deploy::run(args, context).await,
        Command::Chat(args) => chat::run(args, context).await,
        Command::Exec(args) => exec::run(args, context).await,
        Command::Files(command) => files::run(command, context).await,
        Command::Session(command) => session::run(*command, context).await,
        Command::Turn(command) => turn::run(command, context).await,
        Command::Permission(command) => permission::run(command, context).await,
        Command::Agent(command) => agent::run(command, context).await,
        Command::Status => status::run(context).await,
        Command::Top(args) => top::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Security(args) => security::run(args, context).await,
        Command::Doctor => doctor::run(context).await,
        Command::Gc { dry_run } => gc::run(dry_run, context).await,
        Command::Credential(command) => credential::run(command, context).await,
        Command::Key(command) => key::run(command, context).await,
        Command::Completion(args) => completion::run(args, context),
    }
}
