//! `ashctl usage`: what was used, and what it cost.

use crate::cli::args::{Usage, UsageBy};
use crate::cli::error::CliError;
use crate::cli::output::now;
use crate::cli::{Context, bill};
use crate::client::UsageQuery;
use crate::wire::analytics::UsageStats;

/// Lines asked for: the most that the daemon gives.
const GROUPS_MAX: u32 = 1000;

pub(super) async fn run(args: Usage, context: &mut Context) -> Result<(), CliError> {
    let is_narrow = args.agent.is_some() || args.session.is_some();
    let by = args.by.unwrap_or(if is_narrow { UsageBy::Session } else { UsageBy::Agent });
    let now = now();
    let session = match &args.session {
        Some(session) => Some(context.session(session).await?),
        None => None,
    };
    let query = UsageQuery {
        session,
        agent: args.agent,
        after: args.since.map(|since| since.at(now)),
        before: args.until.map(|until| until.at(now)),
        by: Some(if by == UsageBy::Agent { "agent" } else { "session" }),
        limit: Some(GROUPS_MAX),
    };
    let answer = context.client.usage_stats(&query).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json);
    }
    let groups = answer.body.groups.unwrap_or_default();
    if groups.is_empty() {
        output.say("Nothing was used.");
        return Ok(());
    }
    let is_cut = groups.len() >= GROUPS_MAX as usize;
    let mut rows: Vec<_> = groups
        .into_iter()
        .map(|group| line(group.agent_name, group.session_id.map(|id| id.to_string()).unwrap_or_default(), &group.stats))
        .collect();
    rows.push(line("all".to_owned(), String::new(), &answer.body.stats));
    match by {
        UsageBy::Agent => {
            let rows = rows
                .into_iter()
                .map(|[agent, _, messages, tools, read, written, cpu, usd]| [agent, messages, tools, read, written, cpu, usd]);
            output.table(["AGENT", "MESSAGES", "TOOLS", "IN", "OUT", "CPU", "USD"], rows.collect())?;
        }
        UsageBy::Session => {
            output.table(["AGENT", "SESSION", "MESSAGES", "TOOLS", "IN", "OUT", "CPU", "USD"], rows)?;
        }
    }
    if is_cut {
        output.say(format_args!("Only the {GROUPS_MAX} that cost most are shown; the last line is of all."));
    }
    if answer.body.stats.total_unpriced > 0 {
        output.say(format_args!(
            "{} bills name models without a price, and are not in the dollars.",
            answer.body.stats.total_unpriced
        ));
    }
    Ok(())
}

fn line(agent: String, session: String, stats: &UsageStats) -> [String; 8] {
    let read = stats.total_input_tokens + stats.total_cache_read_tokens + stats.total_cache_creation_tokens;
    [
        agent,
        session,
        stats.total_messages.to_string(),
        stats.total_tool_calls.to_string(),
        bill::count(read),
        bill::count(stats.total_output_tokens),
        bill::time((stats.total_compute_seconds * 1000.0) as u64),
        format!("{:.4}", stats.total_cost_usd),
    ]
}
