//! Schedules in SQLite.

use rusqlite::{Connection, Row, params};

use super::queue::{Waiting, add_to, waiting};
use super::rows::{column, optional_column};
use super::{Sqlite, execute, rows, rows_within, sqlite_error};
use crate::store::queue::{ItemRow, NewItem, Room};
use crate::store::schedules::{Fired, Firing, ScheduleRow, Schedules};
use crate::store::{Pending, StoreError, sql};
use crate::wire::schedule::{Overlap, ScheduleCounts};
use crate::wire::{ScheduleId, Timestamp};

const NOT_FOUND: StoreError = StoreError::NotFound("schedule");
/// Where the prompt stands among [`sql::SCHEDULE_COLUMNS`].
const PROMPT: usize = 4;

fn schedules(connection: &Connection, which: &str, values: impl rusqlite::Params) -> Result<Vec<ScheduleRow>, StoreError> {
    rows(connection, &format!("select {} from schedules where {which}", sql::SCHEDULE_COLUMNS), values, schedule_row)
}

fn schedule_row(row: &Row<'_>) -> rusqlite::Result<ScheduleRow> {
    let time = |at: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(Timestamp));
    Ok(ScheduleRow {
        id: column(row, 0)?,
        tenant: row.get(1)?,
        name: row.get(2)?,
        agent: row.get(3)?,
        prompt: row.get(PROMPT)?,
        calendar: row.get(5)?,
        timezone: row.get(6)?,
        given: optional_column(row, 7)?,
        keeps: row.get(8)?,
        priority: row.get(9)?,
        max_retries: row.get(10)?,
        catch_up: column(row, 11)?,
        jitter: row.get(12)?,
        overlap: column(row, 13)?,
        enabled: row.get(14)?,
        created_at: Timestamp(row.get(15)?),
        updated_at: Timestamp(row.get(16)?),
        next: time(17)?.zip(time(18)?),
        last_of: time(19)?,
        last_at: time(20)?,
        last_item: optional_column(row, 21)?,
        last_error: row.get(22)?,
        failing: row.get(23)?,
        counts: ScheduleCounts { queued: row.get(24)?, skipped: row.get(25)?, completed: row.get(26)?, failed: row.get(27)? },
        place: row.get(28)?,
    })
}

/// A pair of times as two columns.
fn times(next: Option<(Timestamp, Timestamp)>) -> (Option<i64>, Option<i64>) {
    next.map(|(of, at)| (of.millis(), at.millis())).unzip()
}

/// Queues what there is room for, and notes it.
fn queue(
    connection: &Connection,
    item: &NewItem,
    id: ScheduleId,
    room: Room,
    waiting: &mut Waiting,
) -> Result<Option<ItemRow>, StoreError> {
    let Some(row) = add_to(connection, item, room, waiting)? else { return Ok(None) };
    let values = params![row.id.to_string(), item.created_at.millis(), item.tenant, id.to_string()];
    if execute(connection, sql::SCHEDULE_QUEUED, values)? == 0 {
        return Err(NOT_FOUND);
    }
    Ok(Some(row))
}

fn has_open_items(connection: &Connection, id: ScheduleId) -> Result<bool, StoreError> {
    Ok(rows(connection, sql::SCHEDULE_HAS_OPEN_ITEMS, params![id.to_string()], |row| row.get::<_, bool>(0))? == [true])
}

fn fire(connection: &Connection, firing: &Firing, room: Room) -> Result<Option<Fired>, StoreError> {
    let id = firing.row.id;
    let (next_of, _) = times(firing.row.next);
    let values = params![id.to_string(), firing.row.updated_at.millis(), next_of];
    let Some(row) = schedules(connection, sql::SCHEDULE_STANDS, values)?.pop() else { return Ok(None) };
    let mut fired = Fired { queued: Vec::new(), skipped: firing.missed, reason: firing.reason.clone() };
    // All of them: those of a catch-up are over in any order, and somebody may have run one by hand.
    if row.overlap == Overlap::Skip && !firing.items.is_empty() && has_open_items(connection, id)? {
        fired.skipped += firing.items.len() as u64;
        fired.reason = Some(firing.overlaps.clone());
    } else if !firing.items.is_empty() {
        let mut waiting = waiting(connection, &row.tenant)?;
        for item in &firing.items {
            match queue(connection, item, id, room, &mut waiting)? {
                Some(item) => fired.queued.push(item.id),
                None => {
                    fired.skipped += 1;
                    fired.reason = Some(firing.full.clone());
                }
            }
        }
    }
    let (next_of, next_at) = times(firing.next);
    let skipped = i64::try_from(fired.skipped).unwrap_or(i64::MAX);
    let values = params![next_of, next_at, firing.through.map(Timestamp::millis), skipped, fired.reason, id.to_string()];
    execute(connection, sql::MOVE_SCHEDULE, values)?;
    Ok(Some(fired))
}

impl Schedules for Sqlite {
    fn create_schedule(&self, row: ScheduleRow, most: u32) -> Pending<'_, bool> {
        self.write(move |connection| {
            let (next_of, next_at) = times(row.next);
            let values = params![
                row.id.to_string(),
                row.tenant,
                row.name,
                row.agent,
                row.prompt,
                row.calendar,
                row.timezone,
                row.given.map(|id| id.to_string()),
                row.keeps,
                row.priority,
                row.max_retries,
                row.catch_up.as_str(),
                row.jitter,
                row.overlap.as_str(),
                row.enabled,
                row.created_at.millis(),
                next_of,
                next_at,
                most,
            ];
            Ok(execute(connection, sql::CREATE_SCHEDULE, values)? > 0)
        })
    }

    fn list_schedules<'a>(&'a self, tenant: &'a str, before: i64, limit: usize, bytes: usize) -> Pending<'a, Vec<ScheduleRow>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let text = format!("select {} from schedules where {}", sql::SCHEDULE_COLUMNS, sql::SCHEDULES_OF_TENANT);
            let mut statement = connection.prepare_cached(&text).map_err(sqlite_error)?;
            let found = statement.query(params![tenant, before, limit as i64]);
            found.and_then(|found| rows_within(found, PROMPT, bytes, schedule_row)).map_err(sqlite_error)
        })
    }

    fn get_schedule<'a>(&'a self, tenant: &'a str, id: ScheduleId) -> Pending<'a, ScheduleRow> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            schedules(connection, sql::SCHEDULE_IS, params![tenant, id.to_string()])?.pop().ok_or(NOT_FOUND)
        })
    }

    fn change_schedule(&self, old: ScheduleRow, new: ScheduleRow) -> Pending<'_, ()> {
        self.write(move |connection| {
            let ((next_of, next_at), (old_of, _)) = (times(new.next), times(old.next));
            let values = params![
                new.name,
                new.agent,
                new.prompt,
                new.calendar,
                new.timezone,
                new.given.map(|id| id.to_string()),
                new.keeps,
                new.priority,
                new.max_retries,
                new.catch_up.as_str(),
                new.jitter,
                new.overlap.as_str(),
                new.enabled,
                new.updated_at.millis(),
                next_of,
                next_at,
                old.id.to_string(),
                old.updated_at.millis(),
                old_of,
            ];
            match execute(connection, sql::CHANGE_SCHEDULE, values)? {
                0 => Err(StoreError::Conflict("the schedule was changed meanwhile".to_owned())),
                _ => Ok(()),
            }
        })
    }

    fn delete_schedule<'a>(&'a self, tenant: &'a str, id: ScheduleId) -> Pending<'a, ()> {
        let tenant = tenant.to_owned();
        self.write(move |connection| match execute(connection, sql::DELETE_SCHEDULE, params![tenant, id.to_string()])? {
            0 => Err(NOT_FOUND),
            _ => Ok(()),
        })
    }

    fn due_schedules(&self, now: Timestamp, limit: usize) -> Pending<'_, (Vec<ScheduleRow>, Option<Timestamp>)> {
        self.read(move |connection| {
            let due = schedules(connection, sql::SCHEDULES_DUE, params![now.millis(), limit as i64])?;
            let next = rows(connection, sql::NEXT_SCHEDULE, [], |row| row.get::<_, Option<i64>>(0))?;
            Ok((due, next.into_iter().flatten().next().map(Timestamp)))
        })
    }

    fn fire_schedule(&self, firing: Firing, room: Room) -> Pending<'_, Option<Fired>> {
        self.write(move |connection| fire(connection, &firing, room))
    }

    fn run_schedule(&self, id: ScheduleId, item: NewItem, room: Room) -> Pending<'_, Option<ItemRow>> {
        self.write(move |connection| {
            let values = params![item.tenant, id.to_string()];
            schedules(connection, sql::SCHEDULE_IS, values)?.pop().ok_or(NOT_FOUND)?;
            queue(connection, &item, id, room, &mut waiting(connection, &item.tenant)?)
        })
    }
}
