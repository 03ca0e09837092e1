//! `ashctl webhook`.

use super::confirm::confirm;
use crate::cli::args::{WebhookCommand, WebhookEdit};
use crate::cli::error::CliError;
use crate::cli::output::{ago, now};
use crate::cli::{Context, watch};
use crate::wire::webhook::{ChangeWebhook, CreateWebhook, Delivery, Webhook, WebhookEvent};
use crate::wire::{Timestamp, WebhookId};

pub(super) async fn run(command: WebhookCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        WebhookCommand::Create { url, events, agent, description } => {
            create(&CreateWebhook { url, events, agent, description, enabled: None }, context).await
        }
        WebhookCommand::List(watch) => watch::repeat(watch.every_secs, context, list).await,
        WebhookCommand::Show { id } => show(id, context).await,
        WebhookCommand::Edit(edit) => change(edit, context).await,
        WebhookCommand::Delete { ids, yes } => {
            let what = if let [id] = ids[..] { format!("webhook {id}") } else { format!("{} webhooks", ids.len()) };
            let question = format!("Delete {what}? What was not sent yet is not sent, and the secret is gone.");
            confirm(&question, yes, &mut context.output)?;
            delete(&ids, context).await
        }
        WebhookCommand::Test { id } => {
            let answer = context.client.test_webhook(id).await?;
            sent(&answer.json["delivery"], answer.body.delivery, context)
        }
        WebhookCommand::Deliveries { id, redeliver: Some(delivery), .. } => {
            let answer = context.client.redeliver(id, delivery).await?;
            sent(&answer.json["delivery"], answer.body.delivery, context)
        }
        WebhookCommand::Deliveries { id, limit, before, redeliver: None } => deliveries(id, before, limit, context).await,
    }
}

async fn create(body: &CreateWebhook, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.create_webhook(body).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json);
    }
    output.line(answer.body.secret.as_ref().map_or("", |secret| secret.reveal()))?;
    let id = answer.body.webhook.id;
    output.whisper(format_args!("Keep the secret: it is not shown again. To try it: ashctl webhook test {id}"));
    Ok(())
}

async fn list(context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.webhooks().await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["webhooks"]);
    }
    if answer.body.webhooks.is_empty() {
        output.say("No webhooks yet. Make one: ashctl webhook create https://example.com/hook --events turn.ended");
        return Ok(());
    }
    let rows = answer.body.webhooks.into_iter().map(|webhook| {
        let agent = webhook.agent.clone().unwrap_or_else(|| "any".to_owned());
        [webhook.id.to_string(), state(&webhook).to_owned(), webhook.url, names(&webhook.events), agent]
    });
    output.table(["ID", "STATE", "URL", "EVENTS", "AGENT"], rows.collect())
}

async fn show(id: WebhookId, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.webhook(id).await?;
    if context.output.is_json() {
        return context.output.json(&answer.json["webhook"]);
    }
    context.output.fields(&fields(answer.body.webhook, now()))
}

fn fields(webhook: Webhook, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut fields = vec![("Webhook", webhook.id.to_string()), ("State", state(&webhook).to_owned())];
    fields.extend(webhook.disabled_reason.map(|reason| ("Because", reason)));
    fields.extend(webhook.failing_since.map(|since| ("Failing", format!("since {}", ago(since, now)))));
    fields.extend([("URL", webhook.url), ("Events", names(&webhook.events))]);
    fields.push(("Agent", webhook.agent.unwrap_or_else(|| "any".to_owned())));
    if !webhook.description.is_empty() {
        fields.push(("About", webhook.description));
    }
    fields.extend([("Created", ago(webhook.created_at, now)), ("Changed", ago(webhook.updated_at, now))]);
    fields
}

async fn change(edit: WebhookEdit, context: &mut Context) -> Result<(), CliError> {
    let body = ChangeWebhook {
        url: edit.url,
        events: (!edit.events.is_empty()).then_some(edit.events),
        agent: if edit.all_agents { Some(None) } else { edit.agent.map(Some) },
        description: edit.description,
        enabled: (edit.enable || edit.disable).then_some(edit.enable),
        rotate_secret: edit.rotate_secret,
    };
    let answer = context.client.change_webhook(edit.id, &body).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json);
    }
    match answer.body.secret {
        Some(secret) => {
            output.line(secret.reveal())?;
            output.whisper("Keep the secret: it is not shown again. The old one signs nothing any more.");
            Ok(())
        }
        None => output.line(format_args!("Changed webhook {}", edit.id)),
    }
}

async fn delete(ids: &[WebhookId], context: &mut Context) -> Result<(), CliError> {
    let mut deleted = Vec::new();
    for id in ids {
        let answer = context.client.delete_webhook(*id).await?;
        if context.output.is_json() {
            deleted.push(answer.json);
        } else {
            context.output.line(format_args!("Deleted webhook {id}"))?;
        }
    }
    context.output.documents(deleted)
}

async fn deliveries(id: WebhookId, before: Option<i64>, limit: u32, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.deliveries(id, before, limit).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["deliveries"]);
    }
    if answer.body.deliveries.is_empty() {
        output.say("Nothing was sent yet.");
        return Ok(());
    }
    let now = now();
    let rows = answer.body.deliveries.into_iter().map(|delivery| {
        let outcome = outcome(&delivery);
        let session = delivery.session_id.map(|id| id.to_string()).unwrap_or_default();
        let (number, attempts) = (delivery.id.to_string(), delivery.attempts.to_string());
        [number, ago(delivery.tried_at, now), delivery.r#type, session, delivery.state.as_str().to_owned(), attempts, outcome]
    });
    output.table(["NUMBER", "TRIED", "EVENT", "SESSION", "STATE", "TRIES", "OUTCOME"], rows.collect())
}

fn sent(json: &serde_json::Value, delivery: Delivery, context: &mut Context) -> Result<(), CliError> {
    if context.output.is_json() {
        return context.output.json(json);
    }
    context.output.line(format_args!("{}: {}", delivery.state.as_str(), outcome(&delivery)))
}

fn outcome(delivery: &Delivery) -> String {
    let status = || delivery.status.map(|status| status.to_string());
    delivery.error.clone().or_else(status).unwrap_or_default()
}

const fn state(webhook: &Webhook) -> &'static str {
    match (webhook.enabled, webhook.failing_since) {
        (false, _) => "disabled",
        (true, Some(_)) => "failing",
        (true, None) => "enabled",
    }
}

fn names(events: &[WebhookEvent]) -> String {
    events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(", ")
}
