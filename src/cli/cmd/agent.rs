//! `ashctl agent`.

use super::confirm::{confirm, is_asked};
use super::prompt_version;
use crate::cli::args::AgentCommand;
use crate::cli::error::CliError;
use crate::cli::output::{ago, now, short_digest};
use crate::cli::{Context, watch};
use crate::client::SessionQuery;

pub(super) async fn run(command: AgentCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        AgentCommand::List(args) => watch::repeat(args.every_secs, context, list).await,
        AgentCommand::Show { name } => show(&name, context).await,
        AgentCommand::Delete { name, yes } => delete(&name, yes, context).await,
        AgentCommand::Version(command) => prompt_version::run(command, context).await,
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
    if is_asked(yes, &context.output) {
        // Asks about what exists only.
        context.client.agent(name).await?;
        let query = SessionQuery { agent: Some(name.to_owned()), limit: Some(1), include_total: true, ..SessionQuery::default() };
        let sessions = match context.client.sessions(&query).await?.body.total {
            Some(0) => "which has no sessions".to_owned(),
            Some(1) => "with its session".to_owned(),
            Some(count) => format!("with its {count} sessions"),
            None => "with all of its sessions".to_owned(),
        };
        confirm(&format!("Delete all versions of agent \"{name}\", {sessions}?"), yes, &mut context.output)?;
    }
    let answer = context.client.delete_agent(name).await?;
    let output = &mut context.output;
    if output.is_json() { output.json(&answer.json) } else { output.line(format_args!("Deleted agent \"{name}\"")) }
}
