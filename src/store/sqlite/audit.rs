//! The audit log in SQLite.

use rusqlite::{Row, params};

use super::rows::column;
use super::{Sqlite, execute, rows, sqlite_error};
use crate::store::audit::{Audit, AuditFilter, NewAudit};
use crate::store::{Pending, now, sql};
use crate::wire::Timestamp;
use crate::wire::audit::{Action, AuditEntry, Outcome};

impl Audit for Sqlite {
    fn record(&self, entry: NewAudit) -> Pending<'_, ()> {
        self.write(move |connection| {
            let NewAudit { tenant, principal, action, object, request_id, peer, outcome, unwritten } = entry;
            let (at, action, outcome) = (now().millis(), action.as_str(), outcome.as_str());
            let values = params![
                at,
                tenant,
                principal,
                action,
                object,
                request_id,
                peer,
                outcome,
                i64::try_from(unwritten).unwrap_or(i64::MAX)
            ];
            execute(connection, sql::RECORD_AUDIT, values).map(drop)
        })
    }

    fn audit<'a>(&'a self, tenant: &'a str, filter: AuditFilter) -> Pending<'a, Vec<AuditEntry>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let AuditFilter { action, principal, object, since, until, before, limit } = filter;
            let (action, limit) = (action.map(Action::as_str), i64::try_from(limit).unwrap_or(i64::MAX));
            let (since, until) = (since.map_or(i64::MIN, Timestamp::millis), until.map_or(i64::MAX, Timestamp::millis));
            let values = params![tenant, before.unwrap_or(i64::MAX), action, principal, object, since, until, limit];
            rows(connection, sql::AUDIT, values, entry)
        })
    }

    fn count_audit(&self, before: Timestamp) -> Pending<'_, u64> {
        self.read(move |connection| {
            let counted = connection.query_row(sql::COUNT_AUDIT, params![before.millis()], |row| row.get::<_, i64>(0));
            counted.map(i64::cast_unsigned).map_err(sqlite_error)
        })
    }

    fn remove_audit(&self, before: Timestamp, limit: usize) -> Pending<'_, usize> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.write(move |connection| execute(connection, sql::REMOVE_AUDIT, params![before.millis(), limit]))
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    let outcome: String = row.get(8)?;
    Ok(AuditEntry {
        id: row.get(0)?,
        at: Timestamp(row.get(1)?),
        tenant: row.get(2)?,
        principal: row.get(3)?,
        action: column(row, 4).unwrap_or(Action::Unknown),
        object: row.get(5)?,
        request_id: row.get(6)?,
        peer: row.get(7)?,
        outcome: Outcome::ALL.iter().find(|known| known.as_str() == outcome).copied().unwrap_or(Outcome::Unknown),
        unwritten: row.get::<_, i64>(9)?.unsigned_abs(),
    })
}
