//! `ashctl key`.

use super::confirm::confirm;
use crate::cli::Context;
use crate::cli::args::KeyCommand;
use crate::cli::error::CliError;
use crate::cli::output::{ago, now};
use crate::wire::KeyId;
use crate::wire::key::CreateKey;

pub(super) async fn run(command: KeyCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        KeyCommand::Create { label, scopes, expires, agent, tenant } => {
            let scopes = (!scopes.is_empty()).then(|| scopes.into_iter().collect());
            let (expires_at, expires_in) = match expires.map(|text| text.parse().map_err(|_| text)) {
                Some(Ok(at)) => (Some(at), None),
                Some(Err(span)) => (None, Some(span)),
                None => (None, None),
            };
            create(&CreateKey { label, scopes, agent, expires_at, expires_in, tenant }, context).await
        }
        KeyCommand::List { tenant } => list(tenant.as_deref(), context).await,
        KeyCommand::Revoke { ids, tenant, yes } => {
            let what = if let [id] = ids[..] { format!("API key {id}") } else { format!("{} API keys", ids.len()) };
            let question = format!("Revoke {what}? Programs that use it are refused at once, and it can not be taken back.");
            confirm(&question, yes, &mut context.output)?;
            revoke(&ids, tenant.as_deref(), context).await
        }
    }
}

async fn create(body: &CreateKey, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.create_key(body).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json);
    }
    output.line(&answer.body.key)?;
    let tenant = body.tenant.as_ref().map(|tenant| format!(" --tenant {tenant}")).unwrap_or_default();
    output.whisper(format_args!("Keep it: it is not shown again. To revoke it: ashctl key revoke {}{tenant}", answer.body.id));
    Ok(())
}

async fn list(tenant: Option<&str>, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.keys(tenant).await?;
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
    let rows = rows.map(|key| {
        let used = key.last_used_at.map_or_else(|| "never".to_owned(), |at| ago(at, now));
        let expires = match key.expires_at {
            None => "never".to_owned(),
            Some(at) if at <= now => "expired".to_owned(),
            Some(at) => at.to_string(),
        };
        let agent = key.agent.unwrap_or_else(|| "any".to_owned());
        [key.id.to_string(), key.label, key.key_prefix, key.scopes.to_string(), agent, ago(key.created_at, now), used, expires]
    });
    output.table(["ID", "LABEL", "KEY", "SCOPES", "AGENT", "CREATED", "USED", "EXPIRES"], rows.collect())
}

async fn revoke(ids: &[KeyId], tenant: Option<&str>, context: &mut Context) -> Result<(), CliError> {
    let mut revoked = Vec::new();
    for id in ids {
        let answer = context.client.revoke_key(*id, tenant).await?;
        if context.output.is_json() {
            revoked.push(answer.json);
        } else {
            context.output.line(format_args!("Revoked API key {id}"))?;
        }
    }
    context.output.documents(revoked)
}
