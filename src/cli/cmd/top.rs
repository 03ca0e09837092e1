//! `ashctl top`: what sessions take of the host, live.

use std::collections::HashMap;
use std::time::Duration;

use crate::cli::args::{Top, TopSort};
use crate::cli::error::CliError;
use crate::cli::find::short_letters;
use crate::cli::{Context, watch};
use crate::wire::SessionId;
use crate::wire::resources::Resources;

/// How far two looks are apart from which the share of a processor is taken, where only one table is
/// printed.
const GLANCE: Duration = Duration::from_millis(500);

pub(super) async fn run(args: Top, context: &mut Context) -> Result<(), CliError> {
    let once = args.once || !context.output.out_is_terminal;
    let mut before = context.client.resources().await?;
    if context.output.is_json() {
        return context.output.json(&before.json["resources"]);
    }
    let mut first = true;
    let look = async |context: &mut Context| {
        if std::mem::take(&mut first) {
            tokio::time::sleep(GLANCE).await;
        }
        let now = context.client.resources().await?;
        let mut rows = shares(&before.body.resources, &now.body.resources);
        sort(&mut rows, args.sort);
        print(&rows, context)?;
        before = now;
        Ok(())
    };
    watch::repeat((!once).then_some(args.interval), context, look).await
}

/// A session, and the percent of a processor that it took between two looks.
#[derive(Debug, PartialEq)]
struct Row<'a> {
    session: &'a Resources,
    cpu: Option<f64>,
}

fn shares<'a>(before: &[Resources], now: &'a [Resources]) -> Vec<Row<'a>> {
    let before: HashMap<SessionId, &Resources> = before.iter().map(|one| (one.session_id, one)).collect();
    let share = |session: &Resources| {
        let old = before.get(&session.session_id)?;
        let elapsed = session.at.millis() - old.at.millis();
        // In another sandbox it began anew.
        let took = session.cpu_ms?.checked_sub(old.cpu_ms?)?;
        (elapsed > 0).then(|| took as f64 * 100.0 / elapsed as f64)
    };
    now.iter().map(|session| Row { session, cpu: share(session) }).collect()
}

/// The largest first; what is not known last.
fn sort(rows: &mut [Row<'_>], by: TopSort) {
    let key = |row: &Row<'_>| match by {
        TopSort::Cpu => row.cpu,
        TopSort::Memory => row.session.memory_bytes.map(|bytes| bytes as f64),
        TopSort::Tasks => row.session.tasks.map(|tasks| tasks as f64),
        TopSort::Tokens => Some(row.session.spent.tokens as f64),
        TopSort::Cost => row.session.spent.cost_usd,
    };
    rows.sort_by(|a, b| key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal));
}

fn print(rows: &[Row<'_>], context: &mut Context) -> Result<(), CliError> {
    let none = || "-".to_owned();
    let mib = |bytes: Option<u64>| bytes.map_or_else(none, |bytes| format!("{}M", bytes >> 20));
    // Programs get whole ids.
    let letters =
        if context.output.out_is_terminal { short_letters(rows.iter().map(|row| row.session.session_id)) } else { usize::MAX };
    let rows: Vec<_> = rows
        .iter()
        .map(|Row { session, cpu }| {
            [
                session.session_id.to_string().chars().take(letters).collect(),
                session.agent_name.clone(),
                session.sandbox_state.clone(),
                cpu.map_or_else(none, |cpu| format!("{cpu:.0}%")),
                mib(session.memory_bytes),
                session.limits.memory.map_or_else(none, |most| most.to_string()),
                session.tasks.map_or_else(none, |tasks| tasks.to_string()),
                mib(session.io_read_bytes),
                mib(session.io_write_bytes),
                session.spent.tokens.to_string(),
                session.spent.cost_usd.map_or_else(none, |cost| format!("{cost:.4}")),
            ]
        })
        .collect();
    let head = ["ID", "AGENT", "SANDBOX", "CPU", "MEMORY", "OF", "TASKS", "READ", "WRITTEN", "TOKENS", "USD"];
    if rows.is_empty() {
        context.output.say("No session has processes.");
        return Ok(());
    }
    context.output.table(head, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Timestamp;
    use crate::wire::limits::Limits;
    use crate::wire::usage::Spent;

    fn session(id: SessionId, at: i64, cpu_ms: u64, memory: u64, cost: Option<f64>) -> Resources {
        Resources {
            session_id: id,
            agent_name: "a".to_owned(),
            sandbox_state: "running".to_owned(),
            at: Timestamp(at),
            cpu_ms: Some(cpu_ms),
            memory_bytes: Some(memory),
            memory_peak_bytes: None,
            tasks: None,
            io_read_bytes: None,
            io_write_bytes: None,
            spent: Spent { tokens: 0, cost_usd: cost },
            limits: Limits::default(),
        }
    }

    #[test]
    fn shares_are_of_the_time_between_and_the_largest_come_first() {
        let [a, b, c] = [SessionId::new(), SessionId::new(), SessionId::new()];
        let before = [session(a, 1000, 100, 0, None), session(b, 1000, 900, 0, None)];
        let now = [session(a, 2000, 350, 5, None), session(b, 2000, 10, 9, Some(0.5)), session(c, 2000, 1, 7, Some(2.0))];
        let mut rows = shares(&before, &now);
        let cpu: Vec<_> = rows.iter().map(|row| row.cpu).collect();
        assert_eq!(cpu, [Some(25.0), None, None], "one began anew, and one is new");
        let mut order = |by| {
            sort(&mut rows, by);
            rows.iter().map(|row| row.session.session_id).collect::<Vec<_>>()
        };
        assert_eq!(order(TopSort::Memory), [b, c, a]);
        assert_eq!(order(TopSort::Cost), [c, b, a]);
        assert_eq!(order(TopSort::Cpu)[0], a);
    }
}
