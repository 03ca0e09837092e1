//! `ashctl session events`: the log of a session, live.

use serde_json::Value;

use super::chat::{Shown, gist, said};
use super::request::Asked;
use crate::cli::args::SessionEvents;
use crate::cli::error::CliError;
use crate::cli::output::{DIM, columns, one_line};
use crate::cli::{Context, bill};
use crate::client::sse::Frame;
use crate::client::{Client, ClientError, LogQuery, Page};
use crate::wire::SessionId;
use crate::wire::usage::Usage;

/// Rows asked for at once: the most that the daemon gives.
const PAGE_ROWS: u32 = 1000;

/// Width of the column of types; those of the runtime may be longer.
const TYPE_LETTERS: usize = 18;

pub(super) async fn run(args: SessionEvents, context: &mut Context) -> Result<(), CliError> {
    let id = context.session(&args.id).await?;
    let mut query = LogQuery { after: args.after, partials: !args.no_deltas, types: args.types.clone() };
    let end = if args.follow {
        None
    } else {
        // The last event may be of a type that is not wanted, so all come and are sorted out here.
        query.types.clear();
        Some(newest(&context.client, id, args.after).await?)
    };
    if end.is_some_and(|end| end <= args.after) {
        return Ok(());
    }
    let wanted = |frame: &Frame| args.types.is_empty() || args.types.contains(&frame.event);
    let width = if context.output.out_is_terminal { usize::from(columns()) } else { usize::MAX };
    let mut stream = context.client.follow(id, query).await?;
    while let Some(frame) = stream.next().await? {
        if wanted(&frame) {
            print(&frame, width, context)?;
        }
        if frame.id.zip(end).is_some_and(|(id, end)| id >= end) {
            break;
        }
    }
    Ok(())
}

/// The id of an event that the log has already, as new as can be: the end of what is printed of a
/// log that grows. It is none of a delta, which may be removed before it is read.
async fn newest(client: &Client, id: SessionId, after: i64) -> Result<i64, ClientError> {
    let (mut known, mut page) = (0, Page { after: None, limit: Some(PAGE_ROWS) });
    loop {
        let turns = client.turns(id, None, page).await?.body.turns;
        let Some(last) = turns.last() else { break };
        known = last.last_event.unwrap_or(last.first_event);
        page.after = Some(last.first_event);
        if turns.len() < PAGE_ROWS as usize {
            break;
        }
    }
    page.after = Some(known.max(after));
    loop {
        let events = client.events(id, page).await?.body.events;
        let Some(last) = events.last() else { break };
        known = last.sequence;
        page.after = Some(known);
        if events.len() < PAGE_ROWS as usize {
            break;
        }
    }
    Ok(known)
}

fn print(frame: &Frame, width: usize, context: &mut Context) -> Result<(), CliError> {
    if context.output.is_json() {
        return context.output.item(&Shown::of(frame));
    }
    let id = frame.id.unwrap_or_default();
    let head = format!("{id:>5}  {:TYPE_LETTERS$} ", one_line(&frame.event, 64));
    let data = one_line(&brief(frame), width.saturating_sub(head.len()).max(20));
    let line = format!("{DIM}{head}{DIM:#}{data}");
    context.output.line(line.trim_end())
}

/// What a person wants to know of an event; its data where nothing better is known.
fn brief(frame: &Frame) -> String {
    let Ok(data) = serde_json::from_str::<Value>(&frame.data) else { return frame.data.clone() };
    let text = |field: &str| data[field].as_str().map(str::to_owned);
    let brief = match frame.event.as_str() {
        "text_delta" | "thinking_delta" => text("delta"),
        "text" => text("text"),
        "message" => {
            let said = Some(said(&data)).filter(|said| !said.is_empty());
            let kind = text("type").map(|kind| text("subtype").map_or(kind.clone(), |subtype| format!("{kind} {subtype}")));
            said.or(kind)
        }
        "tool_use" => text("name").map(|name| format!("{name} {}", gist(&data["input"]))),
        "tool_result" => text("content"),
        "permission_request" => Asked::parse(&frame.data).map(|asked| format!("{} {}", asked.tool, asked.gist())),
        "permission_resolved" => text("behavior").zip(text("by")).map(|(behavior, by)| format!("{behavior} by {by}")),
        "turn_started" => Some(said(&data)).filter(|said| !said.is_empty()),
        "turn_complete" => text("result"),
        "error" => text("error"),
        "done" => text("state").map(|state| {
            let usage = serde_json::from_value::<Usage>(data["usage"].clone()).ok();
            let cause = text("cause").filter(|cause| *cause != state);
            let parts = [Some(state), cause, usage.as_ref().map(bill::summary)];
            parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
        }),
        _ => None,
    };
    brief.unwrap_or_else(|| frame.data.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_say_the_most_in_few_words() {
        let usage = json!({"wallMs": 1200, "toolCalls": 1});
        for (event, data, shown) in [
            ("text_delta", json!({"delta": "Hi"}), "Hi"),
            ("message", json!({"message": {"content": [{"type": "text", "text": "Hi"}]}}), "Hi"),
            ("message", json!({"type": "system", "subtype": "init", "tools": []}), "system init"),
            ("done", json!({"state": "interrupted", "cause": "interrupted"}), "interrupted"),
            ("turn_started", json!({"turnId": "t", "content": "hello"}), "hello"),
            ("tool_use", json!({"name": "Bash", "input": {"command": "ls"}}), "Bash ls"),
            ("permission_resolved", json!({"id": "p", "behavior": "deny", "by": "timeout"}), "deny by timeout"),
            ("done", json!({"state": "failed", "cause": "x", "usage": usage}), "failed · x · 1.2 s · 1 tool"),
            ("done", json!({"state": "completed"}), "completed"),
            ("lifecycle", json!({"action": "created"}), "{\"action\":\"created\"}"),
        ] {
            let frame = Frame { id: Some(1), event: event.into(), data: data.to_string() };
            assert_eq!(brief(&frame), shown, "{event}");
        }
        let frame = Frame { id: None, event: "tomorrow".into(), data: "no JSON".into() };
        assert_eq!(brief(&frame), "no JSON");
    }
}
