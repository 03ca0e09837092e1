//! `ashctl agent`.

use std::io::{self, IsTerminal as _, Write as _};

use crate::cli::Context;
use crate::cli::args::AgentCommand;
use crate::cli::error::CliError;
use crate::cli::output::{ago, now, short_digest};

pub(super) async fn run(command: AgentCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        AgentCommand::List => list(context).await,
        AgentCommand::Show { name } => show(&name, context).await,
        AgentCommand::Delete { name, yes } => delete(&name, yes, context).await,
    }
}

async fn list(context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.agents().await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["agents"]);
    }
    if answer.body.agents.is_empty() {
        output.say("No agents yet. Deploy a folder that has a CLAUDE.md: ashctl deploy DIR");
        return Ok(());
    }
    let now = now();
    let row = |agent: &crate::wire::agent::Agent| {
        [agent.name.clone(), format!("v{}", agent.version), short_digest(&agent.digest), ago(agent.updated_at, now)]
    };
    output.table(["NAME", "VERSION", "DIGEST", "UPDATED"], answer.body.agents.iter().map(row).collect())
}

async fn show(name: &str, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.agent(name).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["agent"]);
    }
    let (agent, now) = (answer.body.agent, now());
    let mut fields = vec![
        ("Name", agent.name),
        ("Version", format!("v{}", agent.version)),
        ("Digest", agent.digest),
        ("Folder", agent.path),
        ("Deployed", ago(agent.updated_at, now)),
        ("Created", ago(agent.created_at, now)),
    ];
    if !agent.env.is_empty() {
        fields.push(("Environment", agent.env.into_keys().collect::<Vec<_>>().join(", ")));
    }
    output.fields(&fields)
}

async fn delete(name: &str, yes: bool, context: &mut Context) -> Result<(), CliError> {
    if !yes && io::stdin().is_terminal() && context.output.talk_is_terminal {
        // Asks about what exists only.
        context.client.agent(name).await?;
        confirm(&format!("Delete agent \"{name}\" and all of its sessions?"), context)?;
    }
    let answer = context.client.delete_agent(name).await?;
    let output = &mut context.output;
    if output.is_json() { output.json(&answer.json) } else { output.line(format_args!("Deleted agent \"{name}\"")) }
}

fn confirm(question: &str, context: &mut Context) -> Result<(), CliError> {
    let talk = &mut context.output.talk;
    write!(talk, "{question} [y/N] ").and_then(|()| talk.flush()).map_err(CliError::Output)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(CliError::Input)?;
    let yes = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    yes.then_some(()).ok_or(CliError::Declined)
}
