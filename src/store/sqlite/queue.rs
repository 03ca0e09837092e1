//! Messages that wait for a session.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::rows::{column, optional_column};
use super::{Sqlite, execute, rows, rows_within, sqlite_error};
use crate::store::queue::{Added, Head, ItemRow, NewItem, Queues, Room, Then, Tried};
use crate::store::{Pending, StoreError, TurnKey, sql};
use crate::wire::queue::QueueStatus;
use crate::wire::{QueueId, ScheduleId, SessionId, Timestamp, TurnId};

/// Where the prompt stands among [`sql::ITEM_COLUMNS`].
const PROMPT: usize = 4;

fn item(row: &Row<'_>) -> rusqlite::Result<ItemRow> {
    let time = |at: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(Timestamp));
    Ok(ItemRow {
        place: row.get(0)?,
        id: column(row, 1)?,
        tenant: row.get(2)?,
        agent: row.get(3)?,
        prompt: row.get(PROMPT)?,
        given: optional_column(row, 5)?,
        priority: row.get(6)?,
        max_retries: row.get(7)?,
        keeps: row.get(8)?,
        status: column(row, 9)?,
        retries: row.get(10)?,
        retry_at: time(11)?,
        session: optional_column(row, 12)?,
        turn: optional_column(row, 13)?,
        is_cancelling: row.get(14)?,
        leaves: optional_column(row, 15)?,
        error: row.get(16)?,
        is_cut: row.get(17)?,
        cost_usd: row.get(18)?,
        created_at: Timestamp(row.get(19)?),
        started_at: time(20)?,
        completed_at: time(21)?,
        schedule: optional_column(row, 22)?,
        scheduled_for: time(23)?,
        trace: row.get(24)?,
        result: row.get(25)?,
    })
}

fn get(connection: &Connection, which: &str, values: impl rusqlite::Params) -> Result<ItemRow, StoreError> {
    let text = format!("select {}, result from queue where {which}", sql::ITEM_COLUMNS);
    rows(connection, &text, values, item)?.pop().ok_or(StoreError::NotFound("queue item"))
}

fn by_id(connection: &Connection, id: QueueId) -> Result<ItemRow, StoreError> {
    get(connection, "id = $1", params![id.to_string()])
}

/// What is there, at most once.
fn one<T>(
    connection: &Connection,
    text: &str,
    values: impl rusqlite::Params,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    let mut statement = connection.prepare_cached(text).map_err(sqlite_error)?;
    statement.query_row(values, read).optional().map_err(sqlite_error)
}

/// The item that was added with a key, if there is one.
fn find(connection: &Connection, tenant: &str, key: &TurnKey) -> Result<Option<Added>, StoreError> {
    let read = |row: &Row<'_>| Ok((column(row, 0)?, row.get::<_, [u8; 32]>(1)?));
    let Some((id, hash)) = one(connection, sql::ITEM_WITH_KEY, params![tenant, key.key], read)? else { return Ok(None) };
    if hash != key.message {
        return Ok(Some(Added::KeyReused));
    }
    by_id(connection, id).map(|item| Some(Added::Again(item)))
}

/// What of a tenant waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    items: u64,
    /// Of their prompts.
    bytes: u64,
}

pub(super) fn waiting(connection: &Connection, tenant: &str) -> Result<Waiting, StoreError> {
    let count =
        |row: &Row<'_>| Ok(Waiting { items: row.get::<_, i64>(0)?.unsigned_abs(), bytes: row.get::<_, i64>(1)?.unsigned_abs() });
    Ok(one(connection, sql::PENDING_ITEMS, params![tenant], count)?.unwrap_or_default())
}

/// Makes an item, if there is room and its key is new.
fn add(connection: &Connection, item: &NewItem, room: Room) -> Result<Added, StoreError> {
    if let Some(key) = &item.key
        && let Some(found) = find(connection, &item.tenant, key)?
    {
        return Ok(found);
    }
    let added = add_to(connection, item, room, &mut waiting(connection, &item.tenant)?)?;
    Ok(added.map_or(Added::Full, Added::New))
}

/// Makes an item beside those that wait, if there is room, and counts it among them.
pub(super) fn add_to(
    connection: &Connection,
    item: &NewItem,
    room: Room,
    waiting: &mut Waiting,
) -> Result<Option<ItemRow>, StoreError> {
    let bytes = waiting.bytes.saturating_add(item.prompt.len() as u64);
    if waiting.items >= u64::from(room.items) || waiting.items > 0 && bytes > room.bytes {
        return Ok(None);
    }
    let text = |id: &dyn std::fmt::Display| id.to_string();
    let values = params![
        item.id.to_string(),
        item.tenant,
        item.agent,
        item.prompt,
        item.given.as_ref().map(|id| text(id)),
        item.priority,
        item.max_retries,
        item.keeps,
        item.created_at.millis(),
        item.schedule.as_ref().map(|id| text(id)),
        item.scheduled_for.map(Timestamp::millis),
        item.key.as_ref().map(|key| &key.key),
        item.key.as_ref().map(|key| key.message),
        item.trace,
    ];
    execute(connection, sql::ADD_ITEM, values)?;
    *waiting = Waiting { items: waiting.items + 1, bytes };
    by_id(connection, item.id).map(Some)
}

/// Items without their results, as far as `bytes` of prompts go.
fn listed(connection: &Connection, which: &str, values: impl rusqlite::Params, bytes: usize) -> Result<Vec<ItemRow>, StoreError> {
    let text = format!("select {}, null from queue where {which}", sql::ITEM_COLUMNS);
    let mut statement = connection.prepare_cached(&text).map_err(sqlite_error)?;
    let found = statement.query(values);
    found.and_then(|found| rows_within(found, PROMPT, bytes, item)).map_err(sqlite_error)
}

impl Queues for Sqlite {
    fn add_item(&self, item: NewItem, room: Room) -> Pending<'_, Added> {
        self.write(move |connection| add(connection, &item, room))
    }

    fn find_item<'a>(&'a self, tenant: &'a str, key: TurnKey) -> Pending<'a, Option<Added>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| find(connection, &tenant, &key))
    }

    fn get_item<'a>(&'a self, tenant: &'a str, id: QueueId) -> Pending<'a, ItemRow> {
        let tenant = tenant.to_owned();
        self.read(move |connection| get(connection, sql::ITEM_IS, params![tenant, id.to_string()]))
    }

    fn items<'a>(
        &'a self,
        tenant: &'a str,
        status: Option<QueueStatus>,
        before: i64,
        limit: usize,
        bytes: usize,
    ) -> Pending<'a, Vec<ItemRow>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let values = params![tenant, status.map(QueueStatus::as_str), before, limit as i64];
            listed(connection, sql::ITEMS_OF_TENANT, values, bytes)
        })
    }

    fn items_of_schedule<'a>(
        &'a self,
        tenant: &'a str,
        schedule: ScheduleId,
        before: i64,
        limit: usize,
        bytes: usize,
    ) -> Pending<'a, Vec<ItemRow>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let values = params![tenant, schedule.to_string(), before, limit as i64];
            listed(connection, sql::ITEMS_OF_SCHEDULE, values, bytes)
        })
    }

    fn count_items<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<(QueueStatus, u64)>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let count = |row: &Row<'_>| Ok((column(row, 0)?, row.get::<_, i64>(1)?.unsigned_abs()));
            rows(connection, sql::COUNT_ITEMS, params![tenant], count)
        })
    }

    fn heads(&self, now: Timestamp) -> Pending<'_, (Vec<Head>, Option<Timestamp>)> {
        self.read(move |connection| {
            let head = |row: &Row<'_>| {
                Ok(Head {
                    tenant: row.get(0)?,
                    id: column(row, 1)?,
                    priority: row.get(2)?,
                    place: row.get(3)?,
                    is_given: row.get(4)?,
                })
            };
            let heads = rows(connection, sql::QUEUE_HEADS, params![now.millis()], head)?;
            let next = one(connection, sql::NEXT_RETRY, params![now.millis()], |row| row.get::<_, Option<i64>>(0))?;
            Ok((heads, next.flatten().map(Timestamp)))
        })
    }

    fn open_items(&self) -> Pending<'_, Vec<ItemRow>> {
        self.read(|connection| {
            let text = format!("select {}, null from queue where {}", sql::ITEM_COLUMNS, sql::ITEM_IS_OPEN);
            rows(connection, &text, [], item)
        })
    }

    fn claim_item(&self, id: QueueId, own: SessionId, at: Timestamp) -> Pending<'_, Option<ItemRow>> {
        self.write(move |connection| {
            match execute(connection, sql::CLAIM_ITEM, params![own.to_string(), at.millis(), id.to_string()])? {
                0 => Ok(None),
                _ => by_id(connection, id).map(Some),
            }
        })
    }

    fn item_posted(&self, id: QueueId, turn: TurnId) -> Pending<'_, bool> {
        self.write(move |connection| {
            execute(connection, sql::ITEM_POSTED, params![turn.to_string(), id.to_string()])?;
            by_id(connection, id).map(|item| item.is_cancelling)
        })
    }

    fn item_tried(&self, id: QueueId, tried: Tried) -> Pending<'_, ()> {
        self.write(move |connection| {
            let (id, at) = (id.to_string(), tried.at.millis());
            let leaves = tried.leaves.map(|session| session.to_string());
            let (status, error, result, is_cut) = match tried.then {
                Then::Again { error, at } => {
                    let values = params![error, at.millis(), tried.cost_usd, leaves, id];
                    if execute(connection, sql::RETRY_ITEM, values)? > 0 {
                        return Ok(());
                    }
                    // It is to be cancelled; or it is over already, and stays as it is.
                    (QueueStatus::Cancelled, None, None, false)
                }
                Then::Completed { result, is_cut } => (QueueStatus::Completed, None, result, is_cut),
                Then::Failed { error } => (QueueStatus::Failed, Some(error), None, false),
                Then::Cancelled => (QueueStatus::Cancelled, None, None, false),
            };
            let values = params![status.as_str(), error, result, is_cut, tried.cost_usd, leaves, at, id];
            if execute(connection, sql::FINISH_ITEM, values)? > 0 {
                match status {
                    QueueStatus::Completed => execute(connection, sql::SCHEDULE_SUCCEEDS, params![id])?,
                    QueueStatus::Failed => execute(connection, sql::SCHEDULE_FAILS, params![error, id])?,
                    _ => 0,
                };
            }
            Ok(())
        })
    }

    fn item_left(&self, id: QueueId) -> Pending<'_, ()> {
        self.write(move |connection| execute(connection, sql::ITEM_LEFT, params![id.to_string()]).map(drop))
    }

    fn cancel_item<'a>(&'a self, tenant: &'a str, id: QueueId, force: bool, at: Timestamp) -> Pending<'a, (ItemRow, bool)> {
        let tenant = tenant.to_owned();
        self.write(move |connection| {
            let which = || params_of(&tenant, id);
            let mut changed = execute(connection, sql::CANCEL_ITEM, params![at.millis(), tenant, id.to_string()])?;
            if changed == 0 && force {
                changed = execute(connection, sql::CANCEL_ITEM_LATER, which())?;
            }
            Ok((get(connection, sql::ITEM_IS, which())?, changed > 0))
        })
    }

    fn queue_depth(&self) -> Pending<'_, [u64; 2]> {
        self.read(|connection| {
            let counts = |row: &Row<'_>| Ok([row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs()]);
            Ok(one(connection, sql::QUEUE_DEPTH, [], counts)?.unwrap_or_default())
        })
    }

    fn forget_items(&self, before: Timestamp, limit: usize) -> Pending<'_, usize> {
        self.write(move |connection| execute(connection, sql::FORGET_ITEMS, params![before.millis(), limit as i64]))
    }
}

fn params_of(tenant: &str, id: QueueId) -> [String; 2] {
    [tenant.to_owned(), id.to_string()]
}

#[cfg(test)]
mod tests {
    use super::super::migrations;
    use super::*;

    /// How a query goes about it.
    fn plan(connection: &Connection, text: &str) -> String {
        let mut statement = connection.prepare(&format!("explain query plan {text}")).expect("prepares");
        for at in 1..=statement.parameter_count() {
            statement.raw_bind_parameter(at, "x").expect("binds");
        }
        let (mut found, mut plan) = (statement.raw_query(), String::new());
        while let Some(row) = found.next().expect("reads") {
            plan.push_str(&row.get::<_, String>(3).expect("a step"));
            plan.push('\n');
        }
        plan
    }

    #[test]
    fn what_is_over_is_not_looked_at_where_something_is_added_or_begun() {
        let mut connection = Connection::open_in_memory().expect("opens");
        migrations::migrations::runner().run(&mut connection).expect("makes the schema");
        for (text, index) in [
            (sql::PENDING_ITEMS, "SEARCH queue USING INDEX queue_pending (tenant=?)"),
            (sql::PENDING_ITEMS, "SEARCH queue USING INDEX queue_leaving (tenant=?)"),
            (sql::SCHEDULE_HAS_OPEN_ITEMS, "INDEX queue_of_schedule_open (schedule=?)"),
            (sql::QUEUE_HEADS, "SCAN queue USING INDEX queue_pending"),
            (sql::NEXT_RETRY, "INDEX queue_retries"),
            (sql::NEXT_SCHEDULE, "INDEX schedules_next"),
        ] {
            let plan = plan(&connection, text);
            assert!(plan.contains(index) && !plan.contains("queue_of_tenant"), "{text}: {plan}");
        }
        let depth = plan(&connection, sql::QUEUE_DEPTH);
        assert!(depth.contains("INDEX queue_open") && !depth.contains("SCAN queue\n"), "{depth}");
        let listed = plan(&connection, &format!("select place from schedules where {}", sql::SCHEDULES_OF_TENANT));
        assert!(listed.contains("INDEX schedules_of_tenant (tenant=? AND place<?)") && !listed.contains("B-TREE"), "{listed}");
    }
}
