//! `ashctl session`.

use serde_json::Value;

use super::chat;
use super::deploy::environment;
use crate::cli::Context;
use crate::cli::args::{SessionCommand, SessionCreate, SessionList, SessionShow};
use crate::cli::error::CliError;
use crate::cli::output::{BOLD, DIM, ago, clean, columns, now, one_line};
use crate::client::{Page, SessionQuery};
use crate::wire::session::{CreateSession, Session};
use crate::wire::{SessionId, Timestamp};

/// Rows asked for at once where all are wanted: the most that the daemon gives.
const PAGE_ROWS: u32 = 1000;

pub(super) async fn run(command: SessionCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        SessionCommand::Create(args) => create(args, context).await,
        SessionCommand::List(args) => list(args, context).await,
        SessionCommand::Show(args) if args.messages => messages(args.id, context).await,
        SessionCommand::Show(args) if args.events => events(args.id, context).await,
        SessionCommand::Show(args) => show(&args, context).await,
        SessionCommand::Send(args) => chat::send(args, context).await,
        SessionCommand::End { ids } => end(&ids, context).await,
    }
}

async fn create(args: SessionCreate, context: &mut Context) -> Result<(), CliError> {
    let env = environment(None, &args.env)?;
    let body = CreateSession {
        agent: args.agent,
        model: args.model,
        system_prompt: args.system_prompt,
        extra_env: (!env.is_empty()).then_some(env),
        ..CreateSession::default()
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

async fn list(args: SessionList, context: &mut Context) -> Result<(), CliError> {
    let query = SessionQuery {
        agent: args.agent,
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
    let rows = sessions.iter().map(|session| {
        [
            session.id.to_string(),
            session.agent_name.clone(),
            session.status.as_str().to_owned(),
            session.sandbox_state.clone(),
            ago(session.last_active_at, now),
        ]
    });
    context.output.table(["ID", "AGENT", "STATUS", "SANDBOX", "ACTIVE"], rows.collect())
}

async fn show(args: &SessionShow, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.session(args.id).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["session"]);
    }
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
    fields.extend(session.runner_id.map(|runner| ("Runner", runner)));
    fields.extend(session.parent_session_id.map(|parent| ("Forked from", parent)));
    output.fields(&fields)
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

async fn end(ids: &[SessionId], context: &mut Context) -> Result<(), CliError> {
    let mut ended = Vec::new();
    for id in ids {
        let mut answer = context.client.end_session(*id).await?;
        if context.output.is_json() {
            ended.push(answer.json["session"].take());
        } else {
            context.output.line(format_args!("Ended session {id}"))?;
        }
    }
    context.output.documents(ended)
}
