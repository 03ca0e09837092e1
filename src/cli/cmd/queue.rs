//! `ashctl queue`.

use std::io::Read as _;

use crate::cli::args::{QueueAdd, QueueCommand};
use crate::cli::error::CliError;
use crate::cli::output::{ago, now, one_line};
use crate::cli::patience::Patience;
use crate::cli::{Context, watch};
use crate::client::Answer;
use crate::wire::queue::{Enqueue, QueueItem, QueueItemBody, QueueStatus};
use crate::wire::{QueueId, Timestamp};

/// Seconds that the daemon is asked to wait at a time.
const WAIT: u32 = 30;
/// Letters of a prompt in a list.
const PROMPT_SHOWN: usize = 40;

pub(super) async fn run(command: QueueCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        QueueCommand::Add(args) => add(args, context).await,
        QueueCommand::List { status, limit, watch } => {
            let look = async |context: &mut Context| list(status, limit, context).await;
            watch::repeat(watch.every_secs, context, look).await
        }
        QueueCommand::Show { id, wait } => show(id, wait, context).await,
        QueueCommand::Result { id, wait } => result(id, wait, context).await,
        QueueCommand::Cancel { ids, force } => cancel(&ids, force, context).await,
        QueueCommand::Stats => stats(context).await,
    }
}

/// What is to be said: these words, or what comes on standard input.
pub(super) fn prompt(words: &[String]) -> Result<String, CliError> {
    match words {
        [dash] if dash == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(CliError::Input)?;
            Ok(text.trim_end().to_owned())
        }
        words => Ok(words.join(" ")),
    }
}

async fn add(args: QueueAdd, context: &mut Context) -> Result<(), CliError> {
    let prompt = prompt(&args.prompt)?;
    let session_id = match &args.session {
        Some(session) => Some(context.session(session).await?),
        None => None,
    };
    let body = Enqueue {
        agent_name: args.agent,
        prompt,
        session_id,
        priority: args.priority,
        max_retries: args.retries,
        keep_session: args.keep_session,
    };
    let answer = context.client.enqueue(&body).await?;
    added(&answer, args.wait, context).await
}

/// Tells of a new item, or waits for it and prints its answer.
pub(super) async fn added(answer: &Answer<QueueItemBody>, wait: bool, context: &mut Context) -> Result<(), CliError> {
    let id = answer.body.item.id;
    if wait {
        context.output.whisper(format_args!("Waiting for {id}"));
        return result(id, true, context).await;
    }
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["item"]);
    }
    output.line(id)?;
    output.whisper(format_args!("The answer: ashctl queue result --wait {id}"));
    Ok(())
}

async fn list(status: Option<QueueStatus>, limit: Option<u32>, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.queue(status, limit).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["items"]);
    }
    if answer.body.items.is_empty() {
        output.say("No such items.");
        return Ok(());
    }
    let now = now();
    let rows = answer.body.items.into_iter().map(|item| {
        let prompt = one_line(&item.prompt, PROMPT_SHOWN);
        [
            item.id.to_string(),
            item.agent_name.clone(),
            standing(&item),
            item.priority.to_string(),
            ago(item.created_at, now),
            prompt,
        ]
    });
    output.table(["ID", "AGENT", "STATUS", "PRIORITY", "CREATED", "PROMPT"], rows.collect())
}

/// Where an item stands, and how often it was tried again.
pub(super) fn standing(item: &QueueItem) -> String {
    match (item.status, item.retry_count) {
        (QueueStatus::Processing, _) if item.cancelling => "cancelling".to_owned(),
        (status, 0) => status.as_str().to_owned(),
        (status, retries) => format!("{} (retry {retries} of {})", status.as_str(), item.max_retries),
    }
}

/// An item, when it is over if that is wanted.
async fn item(id: QueueId, wait: bool, context: &Context) -> Result<Answer<QueueItemBody>, CliError> {
    let mut answer = context.client.queue_item(id, None).await?;
    let mut patience = Patience::default();
    while wait && !answer.body.item.status.is_over() {
        let next = context.client.queue_item(id, Some(WAIT)).await;
        answer = patience.bear(next).await?.unwrap_or(answer);
    }
    Ok(answer)
}

async fn show(id: QueueId, wait: bool, context: &mut Context) -> Result<(), CliError> {
    let answer = item(id, wait, context).await?;
    if context.output.is_json() {
        return context.output.json(&answer.json["item"]);
    }
    context.output.fields(&fields(answer.body.item, now()))
}

fn fields(item: QueueItem, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut fields = vec![("Item", item.id.to_string()), ("Agent", item.agent_name.clone()), ("Status", standing(&item))];
    fields.extend(item.error.map(|error| ("Error", error)));
    fields.push(("Priority", item.priority.to_string()));
    fields.push(("Created", ago(item.created_at, now)));
    fields.extend(item.started_at.map(|at| ("Started", ago(at, now))));
    fields.extend(item.retry_at.map(|at| ("Next try", at.to_string())));
    fields.extend(item.completed_at.map(|at| ("Over", ago(at, now))));
    fields.extend(item.session_id.map(|id| ("Session", id.to_string())));
    fields.extend(item.turn_id.map(|id| ("Turn", id.to_string())));
    fields.extend(item.schedule_id.map(|id| ("Schedule", id.to_string())));
    fields.extend(item.scheduled_for.map(|time| ("For", time.to_string())));
    fields.extend(item.cost_usd.filter(|cost| *cost > 0.0).map(|cost| ("Price", crate::cli::bill::price(cost))));
    fields.push(("Prompt", item.prompt));
    fields.extend(item.result.map(|result| ("Answer", result)));
    fields
}

async fn result(id: QueueId, wait: bool, context: &mut Context) -> Result<(), CliError> {
    if wait {
        item(id, true, context).await?;
    }
    let answer = context.client.queue_result(id).await?;
    if context.output.is_json() {
        context.output.json(&answer.json)?;
    } else if let Some(text) = &answer.body.result {
        context.output.line(crate::cli::output::clean(text))?;
    }
    match answer.body.status {
        QueueStatus::Completed => Ok(()),
        status => Err(CliError::Item { status, error: answer.body.error }),
    }
}

async fn cancel(ids: &[QueueId], force: bool, context: &mut Context) -> Result<(), CliError> {
    let mut cancelled = Vec::new();
    for id in ids {
        let answer = context.client.cancel_item(*id, force).await?;
        if context.output.is_json() {
            cancelled.push(answer.json["item"].clone());
        } else {
            let done = if answer.body.item.status.is_over() { "Cancelled" } else { "Interrupting" };
            context.output.line(format_args!("{done} item {id}"))?;
        }
    }
    context.output.documents(cancelled)
}

async fn stats(context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.queue_stats().await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["stats"]);
    }
    let stats = answer.body.stats;
    output.fields(&[
        ("Pending", stats.pending.to_string()),
        ("Processing", stats.processing.to_string()),
        ("Completed", stats.completed.to_string()),
        ("Failed", stats.failed.to_string()),
        ("Cancelled", stats.cancelled.to_string()),
    ])
}
