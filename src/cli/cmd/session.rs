//! `ashctl session`.

use std::time::Duration;

use serde_json::Value;

use super::confirm::confirm;
use super::deploy::environment;
use super::{chat, egress, events as log, limits, workspace};
use crate::cli::args::{SessionCommand, SessionCreate, SessionList};
use crate::cli::error::CliError;
use crate::cli::find::short_letters;
use crate::cli::output::{BOLD, DIM, ago, clean, columns, now, one_line};
use crate::cli::{Context, watch};
use crate::client::{Answer, Page, SessionQuery};
use crate::wire::egress::{Egress, List};
use crate::wire::limits::Limits;
use crate::wire::session::{CreateSession, Session, SessionConfig};
use crate::wire::snapshot::{ForkSession, RewindIfBusy, RewindSession};
use crate::wire::turn::TurnList;
use crate::wire::{SessionId, Timestamp};

/// How often it is looked for more lines.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);
/// Rows asked for at once where all are wanted: the most that the daemon gives.
const PAGE_ROWS: u32 = 1000;

pub(super) async fn run(command: SessionCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        SessionCommand::Create(args) => create(args, context).await,
        SessionCommand::List(args) => {
            watch::repeat(args.watch.every_secs, context, async |context: &mut Context| list(&args, context).await).await
        }
        SessionCommand::Show(args) => {
            let id = context.session(&args.id).await?;
            let look = async |context: &mut Context| match &args {
                args if args.messages => messages(id, context).await,
                args if args.events => events(id, context).await,
                _ => show(id, context).await,
            };
            watch::repeat(args.watch.every_secs, context, look).await
        }
        SessionCommand::Events(args) => log::run(args, context).await,
        SessionCommand::Send(args) => chat::send(args, context).await,
        SessionCommand::Pause { ids } => each(context.sessions(&ids).await?, "Paused", Change::Pause, context).await,
        SessionCommand::Stop { ids } => each(context.sessions(&ids).await?, "Stopped", Change::Stop, context).await,
        SessionCommand::Resume { ids } => each(context.sessions(&ids).await?, "Resumed", Change::Resume, context).await,
        SessionCommand::Fork { id, at } => fork(context.session(&id).await?, at, context).await,
        SessionCommand::Rewind { id, to, interrupt } => rewind(context.session(&id).await?, to, interrupt, context).await,
        SessionCommand::Download { id, file, all } => workspace::download(context.session(&id).await?, file, all, context).await,
        SessionCommand::Upload { id, source, replace, yes } => {
            let id = context.session(&id).await?;
            if replace {
                let question = format!("Remove what is in the workspace of session {id}? Only its snapshots keep it.");
                confirm(&question, yes, &mut context.output)?;
            }
            workspace::upload(id, &source, replace, context).await
        }
        SessionCommand::Logs { id, follow } => logs(context.session(&id).await?, follow, context).await,
        SessionCommand::Snapshots { id, take } => snapshots(context.session(&id).await?, take, context).await,
        SessionCommand::Egress(args) => egress::run(args, context).await,
        SessionCommand::Limits(args) => limits::run(args, context).await,
        SessionCommand::End { ids, yes } => {
            let ids = context.sessions(&ids).await?;
            let what = if let [id] = ids[..] { format!("session {id}") } else { format!("{} sessions", ids.len()) };
            let kept = "Its log and a last snapshot stay, from which it can be forked.";
            confirm(&format!("End {what} for good? {kept}"), yes, &mut context.output)?;
            each(ids, "Ended", Change::End, context).await
        }
    }
}

async fn create(args: SessionCreate, context: &mut Context) -> Result<(), CliError> {
    let env = environment(None, &args.env)?;
    let allow = List::new(args.allow)
        .map_err(|error| CliError::usage(format!("--allow {error}"), "\"*.example.com\" is one entry for all names below one"))?;
    let egress = (!allow.entries().is_empty()).then_some(Egress { allow });
    let limits = limits::asked(&args.limits)?;
    let limits = (limits != Limits::default()).then_some(limits);
    let body = CreateSession {
        agent: args.agent,
        model: args.model,
        system_prompt: args.system_prompt,
        extra_env: (!env.is_empty()).then_some(env),
        config: SessionConfig {
            permission_mode: args.permission_mode,
            egress,
            limits,
            credential_id: args.credential.map(|id| id.to_string()),
            bindings: (!args.bind.is_empty()).then(|| args.bind.into_iter().collect()),
            ..SessionConfig::default()
        },
    };
    let answer = context.client.create_session(&body).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["session"]);
    }
    output.line(answer.body.session.id)?;
    output.whisper(format_args!("Talk to it: ashctl chat --session {}", answer.body.session.id));
    Ok(())
}

async fn list(args: &SessionList, context: &mut Context) -> Result<(), CliError> {
    let query = SessionQuery {
        agent: args.agent.clone(),
        status: args.status,
        limit: Some(args.limit),
        offset: (args.offset > 0).then_some(args.offset),
        include_total: true,
    };
    let answer = context.client.sessions(&query).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["sessions"]);
    }
    let sessions = &answer.body.sessions;
    if sessions.is_empty() {
        output.say("No such sessions. Start one: ashctl chat AGENT");
        return Ok(());
    }
    table(sessions, context)?;
    let shown = i64::from(args.offset) + i64::try_from(sessions.len()).unwrap_or(i64::MAX);
    if let Some(more) = answer.body.total.map(|total| total - shown).filter(|more| *more > 0) {
        context.output.whisper(format_args!("{more} more: --offset {shown}, or --limit"));
    }
    Ok(())
}

/// Prints sessions as a table.
pub(super) fn table(sessions: &[Session], context: &mut Context) -> Result<(), CliError> {
    let now = now();
    // Programs get whole ids.
    let letters = if context.output.out_is_terminal { short_letters(sessions.iter().map(|one| one.id)) } else { usize::MAX };
    let rows = sessions.iter().map(|session| {
        [
            session.id.to_string().chars().take(letters).collect(),
            session.agent_name.clone(),
            session.status.as_str().to_owned(),
            session.sandbox_state.clone(),
            ago(session.last_active_at, now),
        ]
    });
    context.output.table(["ID", "AGENT", "STATUS", "SANDBOX", "ACTIVE"], rows.collect())
}

pub(super) async fn show(id: SessionId, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.session(id).await?;
    if context.output.is_json() {
        return context.output.json(&answer.json["session"]);
    }
    let turns = open_turns(id, context).await;
    let (session, now) = (answer.body.session, now());
    let mut fields = vec![
        ("Session", session.id.to_string()),
        ("Agent", format!("{} ({})", session.agent_name, session.agent_version)),
        ("Status", session.status.as_str().to_owned()),
        ("Sandbox", format!("{} ({})", session.sandbox_id, session.sandbox_state)),
        ("Model", session.model.unwrap_or_else(|| "the agent's".into())),
        ("Active", ago(session.last_active_at, now)),
        ("Created", ago(session.created_at, now)),
    ];
    fields.extend(turns.map(|turns| ("Turns", turns)));
    fields.extend(session.runner_id.map(|runner| ("Runner", runner)));
    fields.extend(session.parent_session_id.map(|parent| ("Forked from", parent)));
    context.output.fields(&fields)
}

/// How many turns run and wait, if any do. Beside the point enough that a failure is passed over.
async fn open_turns(id: SessionId, context: &Context) -> Option<String> {
    let page = Page { after: None, limit: Some(PAGE_ROWS) };
    let (running, queued) =
        tokio::join!(context.client.turns(id, Some("running"), page), context.client.turns(id, Some("queued"), page));
    let count = |turns: Option<Answer<TurnList>>, what| {
        let count = turns.map_or(0, |answer| answer.body.turns.len());
        (count > 0).then(|| format!("{count} {what}"))
    };
    let parts: Vec<_> = [count(running.ok(), "running"), count(queued.ok(), "queued")].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

async fn messages(id: SessionId, context: &mut Context) -> Result<(), CliError> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let answer = context.client.messages(id, Page { after, limit: Some(PAGE_ROWS) }).await?;
        let rows = &answer.body.messages;
        after = rows.last().map(|row| row.sequence);
        if context.output.is_json() {
            all.extend(answer.json["messages"].as_array().cloned().unwrap_or_default());
        } else {
            for row in rows {
                message(&row.role, &row.content, row.created_at, context)?;
            }
        }
        if after.is_none() || rows.len() < PAGE_ROWS as usize {
            break;
        }
    }
    if context.output.is_json() { context.output.json(&Value::Array(all)) } else { Ok(()) }
}

/// Prints who said what; messages without text, such as the runtime's results, are passed over.
fn message(role: &str, content: &str, at: Timestamp, context: &mut Context) -> Result<(), CliError> {
    let value: Value = serde_json::from_str(content).unwrap_or_default();
    let said = chat::said(&value);
    if said.is_empty() {
        return Ok(());
    }
    let when = ago(at, now());
    context.output.line(format_args!("{BOLD}{role}{BOLD:#} {DIM}{when}{DIM:#}\n{}\n", clean(said.trim_end())))
}

async fn events(id: SessionId, context: &mut Context) -> Result<(), CliError> {
    let (mut all, mut after) = (Vec::new(), None);
    let width = if context.output.out_is_terminal { usize::from(columns()) } else { usize::MAX };
    loop {
        let answer = context.client.events(id, Page { after, limit: Some(PAGE_ROWS) }).await?;
        let rows = &answer.body.events;
        after = rows.last().map(|row| row.sequence);
        if context.output.is_json() {
            all.extend(answer.json["events"].as_array().cloned().unwrap_or_default());
        } else {
            for row in rows {
                let head = format!("{:>5}  {}  {:13} ", row.sequence, row.created_at, row.r#type);
                let data = one_line(row.data.as_deref().unwrap_or_default(), width.saturating_sub(head.len()).max(20));
                context.output.line(format_args!("{DIM}{head}{DIM:#}{data}"))?;
            }
        }
        if after.is_none() || rows.len() < PAGE_ROWS as usize {
            break;
        }
    }
    if context.output.is_json() { context.output.json(&Value::Array(all)) } else { Ok(()) }
}

/// What is done to each of several sessions.
#[derive(Debug, Clone, Copy)]
enum Change {
    Pause,
    Stop,
    Resume,
    End,
}

async fn each(ids: Vec<SessionId>, done: &str, change: Change, context: &mut Context) -> Result<(), CliError> {
    let mut changed = Vec::new();
    for id in ids {
        let client = &context.client;
        let mut answer = match change {
            Change::Pause => client.pause_session(id).await,
            Change::Stop => client.stop_session(id).await,
            Change::Resume => client.resume_session(id).await,
            Change::End => client.end_session(id).await,
        }?;
        if context.output.is_json() {
            changed.push(answer.json["session"].take());
        } else {
            context.output.line(format_args!("{done} session {id}"))?;
        }
    }
    context.output.documents(changed)
}

async fn fork(id: SessionId, at: Option<i64>, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.fork_session(id, &ForkSession { event_id: at }).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["session"]);
    }
    let fork = answer.body.session.id;
    output.line(fork)?;
    output.whisper(format_args!("It is paused: ashctl session resume {fork}"));
    Ok(())
}

async fn rewind(id: SessionId, to: i64, interrupt: bool, context: &mut Context) -> Result<(), CliError> {
    let if_busy = if interrupt { RewindIfBusy::Interrupt } else { RewindIfBusy::Reject };
    let answer = context.client.rewind_session(id, &RewindSession { event_id: to, if_busy }).await?;
    let output = &mut context.output;
    if output.is_json() {
        output.json(&answer.json["session"])
    } else {
        output.line(format_args!("Took session {id} back to event {to}"))
    }
}

async fn logs(id: SessionId, follow: bool, context: &mut Context) -> Result<(), CliError> {
    // Only the first look wakes it.
    let (mut after, mut wake) = (None, true);
    loop {
        let answer = context.client.logs(id, after, std::mem::take(&mut wake)).await?;
        for (line, json) in answer.body.logs.iter().zip(answer.json["logs"].as_array().into_iter().flatten()) {
            after = Some(line.index);
            if context.output.is_json() {
                context.output.item(json)?;
            } else {
                context.output.line(format_args!("{DIM}{} {:6}{DIM:#} {}", line.ts, line.level, clean(&line.text)))?;
            }
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_PAUSE).await;
    }
}

pub(super) async fn snapshots(id: SessionId, take: bool, context: &mut Context) -> Result<(), CliError> {
    let (listed, json) = if take {
        let mut answer = context.client.take_snapshot(id).await?;
        (vec![answer.body.snapshot], answer.json["snapshot"].take())
    } else {
        let mut answer = context.client.snapshots(id).await?;
        (answer.body.snapshots, answer.json["snapshots"].take())
    };
    if context.output.is_json() {
        return context.output.json(&json);
    }
    if listed.is_empty() {
        context.output.whisper("There is none yet. One is taken when the session is paused, stopped or parked.");
    }
    for one in listed {
        let (event, when) = (one.event_id, one.created_at.map(|at| ago(at, now())).unwrap_or_default());
        let what = match (&one.damage, one.stored_bytes) {
            (Some(damage), _) => format!("damaged: {}", clean(damage)),
            (None, bytes) => format!("{} bytes  {}", bytes.unwrap_or_default(), one.reason.as_deref().unwrap_or_default()),
        };
        context.output.line(format_args!("event {event:>6}  {DIM}{when}{DIM:#}  {what}"))?;
    }
    Ok(())
}
