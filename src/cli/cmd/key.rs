//! `ashctl key`.

use crate::cli::Context;
use crate::cli::args::KeyCommand;
use crate::cli::error::CliError;
use crate::cli::output::{ago, now};
use crate::wire::KeyId;
use crate::wire::key::CreateKey;

pub(super) async fn run(command: KeyCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        KeyCommand::Create { label } => create(label, context).await,
        KeyCommand::List => list(context).await,
        KeyCommand::Revoke { ids } => revoke(&ids, context).await,
    }
}

async fn create(label: Option<String>, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.create_key(&CreateKey { label }).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json);
    }
    output.line(&answer.body.key)?;
    output.whisper(format_args!("Keep it: it is not shown again. To revoke it: ashctl key revoke {}", answer.body.id));
    Ok(())
}

async fn list(context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.keys().await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["keys"]);
    }
    if answer.body.keys.is_empty() {
        output.say("No API keys yet. Make one: ashctl key create --label NAME");
        return Ok(());
    }
    let now = now();
    let rows = answer.body.keys.into_iter();
    let rows = rows.map(|key| [key.id.to_string(), key.label, key.key_prefix, ago(key.created_at, now)]);
    output.table(["ID", "LABEL", "KEY", "CREATED"], rows.collect())
}

async fn revoke(ids: &[KeyId], context: &mut Context) -> Result<(), CliError> {
    let mut revoked = Vec::new();
    for id in ids {
        let answer = context.client.revoke_key(*id).await?;
        if context.output.is_json() {
            revoked.push(answer.json);
        } else {
            context.output.line(format_args!("Revoked API key {id}"))?;
        }
    }
    context.output.documents(revoked)
}
