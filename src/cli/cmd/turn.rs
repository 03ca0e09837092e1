//! `ashctl turn`.

use serde_json::Value;

use crate::cli::args::TurnCommand;
use crate::cli::error::CliError;
use crate::cli::output::{ago, now};
use crate::cli::{Context, bill, watch};
use crate::client::Page;
use crate::wire::turn::Turn;
use crate::wire::{SessionId, Timestamp, TurnId};

/// Rows asked for at once: the most that the daemon gives.
const PAGE_ROWS: u32 = 1000;

pub(super) async fn run(command: TurnCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        TurnCommand::List { session, state, watch } => {
            let session = context.session(&session).await?;
            let look = async |context: &mut Context| list(session, state.as_deref(), context).await;
            watch::repeat(watch.every_secs, context, look).await
        }
        TurnCommand::Show { session, turn } => show(context.session(&session).await?, turn, context).await,
        TurnCommand::Cancel { session, turn } => cancel(context.session(&session).await?, turn, context).await,
        TurnCommand::Interrupt { session } => interrupt(context.session(&session).await?, context).await,
    }
}

async fn list(session: SessionId, state: Option<&str>, context: &mut Context) -> Result<(), CliError> {
    let (mut turns, mut json, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let answer = context.client.turns(session, state, Page { after, limit: Some(PAGE_ROWS) }).await?;
        let full = answer.body.turns.len() >= PAGE_ROWS as usize;
        after = answer.body.turns.last().map(|turn| turn.first_event);
        turns.extend(answer.body.turns);
        json.extend(answer.json["turns"].as_array().cloned().unwrap_or_default());
        if !full {
            break;
        }
    }
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&Value::Array(json));
    }
    if turns.is_empty() {
        output.say("No such turns.");
        return Ok(());
    }
    let now = now();
    let rows = turns.into_iter().map(|turn| {
        let bill = turn.usage.as_ref().map(bill::summary).unwrap_or_default();
        let state = turn.queue_position.map_or(turn.state.clone(), |before| format!("{} ({before} before)", turn.state));
        [turn.id.to_string(), state, ago(turn.created_at, now), bill]
    });
    output.table(["ID", "STATE", "SENT", "BILL"], rows.collect())
}

async fn show(session: SessionId, turn: TurnId, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.turn(session, turn).await?;
    if context.output.is_json() {
        return context.output.json(&answer.json["turn"]);
    }
    context.output.fields(&fields(answer.body.turn, now()))
}

fn fields(turn: Turn, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut fields = vec![("Turn", turn.id.to_string()), ("State", turn.state)];
    if turn.kind != "user" {
        fields.push(("Begun by", format!("the {}", turn.kind)));
    }
    fields.extend(turn.cause.map(|cause| ("Cause", cause)));
    fields.extend(turn.queue_position.map(|before| ("Queue", format!("{before} before it"))));
    fields.push(("Sent", ago(turn.created_at, now)));
    if let Some(started) = turn.started_at {
        let waited = u64::try_from(started.millis() - turn.created_at.millis()).unwrap_or(0);
        fields.push(("Started", format!("{} later", bill::time(waited))));
    }
    fields.extend(turn.ended_at.map(|ended| ("Ended", ago(ended, now))));
    let last = turn.last_event.map_or_else(|| "…".into(), |last| last.to_string());
    fields.push(("Events", format!("{} to {last}", turn.first_event)));
    fields.extend(turn.idempotency_key.map(|key| ("Key", key)));
    fields.extend(turn.usage.iter().flat_map(bill::fields));
    fields
}

async fn cancel(session: SessionId, turn: TurnId, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.cancel_turn(session, turn).await?;
    if context.output.is_json() {
        return context.output.json(&answer.json["turn"]);
    }
    // The end of a turn that runs takes the runtime a moment.
    let done = if answer.body.turn.state == "cancelled" { "Cancelled" } else { "Interrupted" };
    context.output.line(format_args!("{done} turn {turn}"))
}

pub(super) async fn interrupt(session: SessionId, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.interrupt(session).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json);
    }
    match answer.body.turn_id {
        Some(turn) => output.line(format_args!("Interrupted turn {turn}")),
        None => output.line("No turn is running"),
    }
}
