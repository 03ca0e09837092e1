//! `ashctl agent version`.

use super::confirm::confirm;
use crate::cli::Context;
use crate::cli::args::{VersionCommand, VersionContent};
use crate::cli::error::CliError;
use crate::cli::output::{ago, clean, now, one_line};
use crate::wire::prompt_version::{AgentVersion, ChangeAgentVersion, CreateAgentVersion, VersionRef};

/// Letters of the notes in a table.
const NOTES_WIDTH: usize = 40;

pub(super) async fn run(command: VersionCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        VersionCommand::List { agent, limit } => list(&agent, limit, context).await,
        VersionCommand::Create { agent, content, from, activate } => create(&agent, content, from, activate, context).await,
        VersionCommand::Show { agent, version } => show(&agent, version, context).await,
        VersionCommand::Edit { agent, version, content } => edit(&agent, version, content, context).await,
        VersionCommand::Delete { agent, versions, yes } => {
            let what =
                if let [version] = versions[..] { format!("version {version}") } else { format!("{} versions", versions.len()) };
            let question = format!("Delete {what} of agent \"{agent}\"? Sessions keep what they were made with.");
            confirm(&question, yes, &mut context.output)?;
            delete(&agent, &versions, context).await
        }
        VersionCommand::Activate { agent, version } => activate(&agent, version, context).await,
        VersionCommand::Deactivate { agent, version } => deactivate(&agent, version, context).await,
    }
}

async fn list(agent: &str, limit: Option<u32>, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.agent_versions(agent, limit).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["versions"]);
    }
    if answer.body.versions.is_empty() {
        output.say(format_args!("No versions yet: sessions have the CLAUDE.md of \"{agent}\""));
        return Ok(());
    }
    let now = now();
    let row = |version: &AgentVersion| {
        let active = if version.is_active { "yes" } else { "" };
        let notes = one_line(version.release_notes.as_deref().unwrap_or_default(), NOTES_WIDTH);
        [version.version_number.to_string(), version.name.clone(), active.to_owned(), ago(version.updated_at, now), notes]
    };
    output.table(["VERSION", "NAME", "ACTIVE", "UPDATED", "NOTES"], answer.body.versions.iter().map(row).collect())
}

async fn create(
    agent: &str,
    content: VersionContent,
    clone_from: Option<VersionRef>,
    activate: bool,
    context: &mut Context,
) -> Result<(), CliError> {
    let VersionContent { name, prompt, notes: release_notes, file: knowledge_files } = content;
    let system_prompt = prompt.map(text).transpose()?;
    let body = CreateAgentVersion { name, system_prompt, release_notes, knowledge_files, clone_from };
    let answer = context.client.create_agent_version(agent, &body).await?;
    let (mut version, number) = (answer.json["version"].clone(), answer.body.version.version_number);
    if activate {
        context.client.activate_agent_version(agent, VersionRef::Id(answer.body.version.id)).await?;
        version["isActive"] = true.into();
    }
    if context.output.is_json() { context.output.json(&version) } else { context.output.line(number) }
}

async fn show(agent: &str, version: VersionRef, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.agent_version(agent, version).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["version"]);
    }
    let (version, now) = (answer.body.version, now());
    let mut fields = vec![
        ("Version", version.version_number.to_string()),
        ("Name", version.name),
        ("Active", if version.is_active { "yes" } else { "no" }.to_owned()),
        ("Created", ago(version.created_at, now)),
        ("Updated", ago(version.updated_at, now)),
    ];
    fields.extend(version.created_by.map(|by| ("By", by)));
    fields.extend(version.knowledge_files.map(|files| ("Files", files.join(", "))));
    fields.extend(version.release_notes.map(|notes| ("Notes", notes)));
    if version.system_prompt.is_none() {
        fields.push(("Prompt", "that of CLAUDE.md".to_owned()));
    }
    output.fields(&fields)?;
    version.system_prompt.map_or(Ok(()), |prompt| output.line(format_args!("\n{}", clean(&prompt))))
}

async fn edit(agent: &str, version: VersionRef, content: VersionContent, context: &mut Context) -> Result<(), CliError> {
    let VersionContent { name, prompt, notes: release_notes, file: knowledge_files } = content;
    let system_prompt = prompt.map(text).transpose()?;
    let body = ChangeAgentVersion { name, system_prompt, release_notes, knowledge_files };
    let answer = context.client.change_agent_version(agent, version, &body).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["version"]);
    }
    output.line(format_args!("Changed version {} of \"{agent}\"", answer.body.version.version_number))
}

async fn delete(agent: &str, versions: &[VersionRef], context: &mut Context) -> Result<(), CliError> {
    let mut deleted = Vec::new();
    for version in versions {
        let answer = context.client.delete_agent_version(agent, *version).await?;
        if context.output.is_json() {
            deleted.push(answer.json);
        } else {
            context.output.line(format_args!("Deleted version {version} of \"{agent}\""))?;
        }
    }
    context.output.documents(deleted)
}

async fn activate(agent: &str, version: VersionRef, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.activate_agent_version(agent, version).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json);
    }
    output.line(format_args!("New sessions of \"{agent}\" are made with version {}", answer.body.version_number))
}

async fn deactivate(agent: &str, version: VersionRef, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.deactivate_agent_version(agent, version).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json);
    }
    output.line(format_args!("New sessions of \"{agent}\" are made with version {} no more", answer.body.version_number))
}

/// A text from the command line, or of a file that it names.
fn text(given: String) -> Result<String, CliError> {
    let Some(path) = given.strip_prefix('@') else { return Ok(given) };
    let unreadable =
        |error| CliError::usage(format!("{path}: {error}"), "write --prompt @FILE with a file that can be read as UTF-8");
    std::fs::read_to_string(path).map_err(unreadable)
}
