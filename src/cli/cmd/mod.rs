//! The commands, one file for each.

mod agent;
mod api;
mod attachment;
pub mod audit;
pub mod chat;
pub mod completion;
mod confirm;
pub(super) mod context;
mod credential;
pub mod deploy;
pub mod doctor;
mod editor;
mod egress;
mod eval;
mod events;
mod exec;
mod files;
mod gc;
mod key;
mod limits;
mod logs;
mod permission;
mod project_file;
mod prompt_version;
mod queue;
mod request;
mod schedule;
mod security;
mod session;
mod status;
mod top;
mod turn;
mod usage;
mod webhook;
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
        Command::Attachment(command) => attachment::run(command, context).await,
        Command::ProjectFile(command) => project_file::run(command, context).await,
        Command::Session(command) => session::run(*command, context).await,
        Command::Turn(command) => turn::run(command, context).await,
        Command::Eval(command) => eval::run(*command, context).await,
        Command::Queue(command) => queue::run(command, context).await,
        Command::Permission(command) => permission::run(command, context).await,
        Command::Agent(command) => agent::run(command, context).await,
        Command::Status(watch) => status::run(watch, context).await,
        Command::Api(args) => api::run(args, context).await,
        Command::Top(args) => top::run(args, context).await,
        Command::Usage(args) => usage::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Security(args) => security::run(args, context).await,
        Command::Doctor => doctor::run(context).await,
        Command::Gc { dry_run, yes } => gc::run(dry_run, yes, context).await,
        Command::Credential(command) => credential::run(command, context).await,
        Command::Schedule(command) => schedule::run(command, context).await,
        Command::Webhook(command) => webhook::run(command, context).await,
        Command::Audit(args) => audit::run(args, context).await,
        Command::Key(command) => key::run(command, context).await,
        // They need no daemon.
        Command::Context(command) => context::run(command, &mut context.output),
        Command::Completion(args) => completion::run(args, &mut context.output),
    }
}
