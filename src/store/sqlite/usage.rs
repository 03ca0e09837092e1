//! Bills: written with the end of a turn, summed up when somebody asks.

use rusqlite::{Connection, Row, ToSql, params};

use super::rows::{column, optional_column, status};
use super::{Sqlite, execute, rows, sqlite_error};
use crate::link::shim::TurnEnd;
use crate::store::row::NewEvent;
use crate::store::usage::{BillFilter, BillGroup, BillRow, Tally, Usages};
use crate::store::{Pending, StoreError, sql};
use crate::wire::analytics::{UsageGroup, UsageStats};
use crate::wire::usage::{Leftover, Usage};
use crate::wire::{Timestamp, TurnId};

/// Bills a turn that has just ended with an event.
pub fn bill_turn(connection: &Connection, session: &str, turn: TurnId, event: &NewEvent, id: i64) -> Result<(), StoreError> {
    let Ok(TurnEnd { usage, .. }) = serde_json::from_str(&event.data) else { return Ok(()) };
    bill(connection, session, event, id, &usage.unwrap_or_default(), Some(turn))
}

/// Bills what a sandbox took behind its last turn, if an event tells of that.
pub fn bill_leftover(connection: &Connection, session: &str, event: &NewEvent, id: i64) -> Result<(), StoreError> {
    let Ok(Leftover::Usage { models, cost_usd }) = serde_json::from_str(&event.data) else { return Ok(()) };
    bill(connection, session, event, id, &Usage { models, cost_usd, ..Usage::default() }, None)
}

fn bill(
    connection: &Connection,
    session: &str,
    event: &NewEvent,
    id: i64,
    usage: &Usage,
    turn: Option<TurnId>,
) -> Result<(), StoreError> {
    let sum = |tokens: fn(&crate::wire::usage::ModelUsage) -> u64| {
        usage.models.values().map(tokens).fold(0_u64, u64::saturating_add).min(i64::MAX as u64) as i64
    };
    let written = sum(|model| model.cache_write_tokens.saturating_add(model.cache_write_1h_tokens));
    let (input, output, cached) = (sum(|m| m.input_tokens), sum(|m| m.output_tokens), sum(|m| m.cache_read_tokens));
    let values = params![
        session,
        id,
        event.at.millis(),
        input,
        output,
        written,
        cached,
        usage.tool_calls.min(i64::MAX as u64) as i64,
        usage.cpu_ms.map(|ms| ms.min(i64::MAX as u64) as i64),
        usage.cost_usd,
        turn.map(|turn| turn.to_string()),
    ];
    execute(connection, sql::ADD_BILL, values).map(drop)
}

fn stats(row: &Row<'_>, from: usize) -> rusqlite::Result<UsageStats> {
    let count = |at: usize| Ok::<_, rusqlite::Error>(row.get::<_, i64>(from + at)?.unsigned_abs());
    Ok(UsageStats {
        total_input_tokens: count(0)?,
        total_output_tokens: count(1)?,
        total_cache_creation_tokens: count(2)?,
        total_cache_read_tokens: count(3)?,
        total_tool_calls: count(4)?,
        total_messages: count(5)?,
        total_compute_seconds: row.get::<_, f64>(from + 6)? / 1000.0,
        total_cost_usd: row.get(from + 7)?,
        total_unpriced: count(8)?,
    })
}

/// Which bills, as a condition and its values.
fn matches(tenant: String, filter: BillFilter) -> (&'static str, Vec<Box<dyn ToSql>>) {
    let after = filter.after.map_or(i64::MIN, Timestamp::millis);
    let before = filter.before.map_or(i64::MAX, Timestamp::millis);
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(tenant), Box::new(filter.agent), Box::new(after), Box::new(before)];
    match filter.session {
        None => (sql::BILL_OF_TENANT, values),
        Some(session) => {
            values.push(Box::new(session.to_string()));
            (sql::BILL_OF_SESSION, values)
        }
    }
}

impl Usages for Sqlite {
    fn bills<'a>(&'a self, tenant: &'a str, filter: BillFilter, limit: usize) -> Pending<'a, Vec<BillRow>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let (which, values) = matches(tenant, filter);
            let text = format!("select {} from bills where {which}{} limit {limit}", sql::BILL_COLUMNS, sql::BILL_ORDER);
            rows(connection, &text, rusqlite::params_from_iter(values), |row| {
                let (session, event, agent) = (column(row, 0)?, row.get(1)?, row.get(2)?);
                Ok(BillRow { session, event, agent, at: Timestamp(row.get(3)?), stats: stats(row, 4)? })
            })
        })
    }

    fn billed<'a>(&'a self, tenant: &'a str, filter: BillFilter) -> Pending<'a, UsageStats> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let (which, values) = matches(tenant, filter);
            let text = format!("select {} from bills where {which}", sql::BILL_SUMS);
            connection.query_row(&text, rusqlite::params_from_iter(values), |row| stats(row, 0)).map_err(sqlite_error)
        })
    }

    fn billed_by<'a>(&'a self, tenant: &'a str, filter: BillFilter, by: BillGroup, limit: usize) -> Pending<'a, Vec<UsageGroup>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let (which, values) = matches(tenant, filter);
            let (session, keys) = match by {
                BillGroup::Agent => ("null", "agent"),
                BillGroup::Session => ("session", "agent, session"),
            };
            let (sums, order) = (sql::BILL_SUMS, sql::BILL_GROUP_ORDER);
            let text = format!("select agent, {session}, {sums} from bills where {which} group by {keys}{order} limit {limit}");
            rows(connection, &text, rusqlite::params_from_iter(values), |row| {
                let session_id = optional_column(row, 1)?;
                Ok(UsageGroup { agent_name: row.get(0)?, session_id, stats: stats(row, 2)? })
            })
        })
    }

    fn tally<'a>(&'a self, tenant: &'a str) -> Pending<'a, Tally> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let agents: i64 = connection.query_row(sql::COUNT_AGENTS, params![tenant], |row| row.get(0)).map_err(sqlite_error)?;
            let counted = |row: &Row<'_>| Ok((status(row, 0)?, row.get::<_, i64>(1)?.unsigned_abs()));
            let sessions = rows(connection, sql::SESSIONS_BY_STATUS, params![tenant], counted)?;
            Ok(Tally { agents: agents.unsigned_abs(), sessions })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store as _;
    use crate::wire::SessionId;

    /// Sessions of the release before bills: one with turns of each kind, one that called a model before any turn was
    /// over, and one that is being removed.
    const BEFORE: &str = r#"
        insert into sessions (id, tenant, agent, digest, status, sandbox, extra_env, config, created_at, last_active_at)
        select id, tenant, 'a', 'd', 'active', id, '{}', '{}', 1, 2 from (
            select '01980000-0000-7000-8000-000000000001' as id, 'default' as tenant
            union all select '01980000-0000-7000-8000-000000000002', 'default'
            union all select '01980000-0000-7000-8000-000000000003', '');
        insert into turns (id, session, state, kind, options, first_event, last_event, created_at, started_at, ended_at, usage)
        select 't' || n, '01980000-0000-7000-8000-00000000000' || s, 'completed', kind, '{}', n, n + 5, 1, started, ended, usage
        from (
            select 1 as n, 1 as s, 'user' as kind, 2 as started, 10 as ended, '{"wallMs":1,"cpuMs":250,"toolCalls":3,"costUsd":0.5,
                "models":{"m":{"inputTokens":1,"outputTokens":2,"cacheReadTokens":3,"cacheWriteTokens":4,"cacheWrite1hTokens":5},
                "n":{"inputTokens":10}}}' as usage
            union all select 2, 1, 'user', 2, 11, null
            union all select 3, 1, 'user', null, 12, null
            union all select 4, 1, 'runtime', 2, 13, '{"toolCalls":1,"models":{}}'
            union all select 5, 1, 'user', 2, null, null
            union all select 6, 3, 'user', 2, 14, '{"toolCalls":1,"models":{}}');
        insert into events (session, id, turn, kind, at, data)
        select '01980000-0000-7000-8000-00000000000' || s, n, null, 'lifecycle', 20,
            '{"action":"usage","models":{"m":{"inputTokens":100}},"costUsd":0.25}'
        from (select 1 as s, 3 as n union all select 1, 7 union all select 2, 1);
        update events set data = '{"action":"created"}' where id = 3;
    "#;

    #[tokio::test]
    async fn what_was_used_before_there_were_bills_is_billed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ash.db");
        let mut connection = Connection::open(&path).expect("opens");
        let before = super::super::migrations::migrations::runner().set_target(refinery::Target::Version(4));
        before.run(&mut connection).expect("makes the schema");
        connection.execute_batch(BEFORE).expect("writes");
        drop(connection);

        let store = Sqlite::open(&path).expect("brings it up to date");
        let [first, second]: [SessionId; 2] =
            [1, 2].map(|n| format!("01980000-0000-7000-8000-00000000000{n}").parse().expect("an id"));
        let bills = store.bills("default", BillFilter::default(), 10).await.expect("reads");
        let seen: Vec<_> = bills.iter().map(|bill| (bill.session, bill.event, bill.at.millis())).collect();
        assert_eq!(seen, [(second, 1, 20), (first, 9, 13), (first, 7, 11), (first, 6, 10)]);
        let wanted = UsageStats {
            total_input_tokens: 11,
            total_output_tokens: 2,
            total_cache_creation_tokens: 9,
            total_cache_read_tokens: 3,
            total_tool_calls: 4,
            total_messages: 2,
            total_compute_seconds: 0.25,
            total_cost_usd: 0.5,
            total_unpriced: 0,
        };
        let of_first = BillFilter { session: Some(first), ..BillFilter::default() };
        assert_eq!(
            store.billed("default", of_first).await.expect("sums"),
            wanted,
            "a leftover on a turn's bill is there already"
        );
        let spent = store.spent(second).await.expect("reads")["m"].input_tokens;
        assert_eq!((spent, bills[0].stats.total_input_tokens, bills[0].stats.total_cost_usd), (100, 100, 0.25));
        assert_eq!(store.billed("", BillFilter::default()).await.expect("sums"), UsageStats::default());
    }
}
