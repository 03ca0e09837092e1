//! Webhooks in SQLite.

use rusqlite::{Connection, Row, params};

use super::rows::{column, json_column, optional_column, to_json};
use super::{Sqlite, execute, rows};
use crate::crypt::master::Sealed;
use crate::store::webhooks::{DeliveryNote, Waiting, WebhookPlace, WebhookRow, Webhooks};
use crate::store::{Pending, StoreError, sql};
use crate::wire::webhook::{Delivery, DeliveryState, WebhookEvent};
use crate::wire::{SessionId, Timestamp, WebhookId};

const NOT_FOUND: StoreError = StoreError::NotFound("webhook");

fn webhooks(connection: &Connection, which: &str, values: impl rusqlite::Params) -> Result<Vec<WebhookRow>, StoreError> {
    rows(connection, &format!("select {} from webhooks where {which}", sql::WEBHOOK_COLUMNS), values, webhook_row)
}

fn webhook_row(row: &Row<'_>) -> rusqlite::Result<WebhookRow> {
    Ok(WebhookRow {
        id: column(row, 0)?,
        tenant: row.get(1)?,
        url: row.get(2)?,
        events: json_column(row, 3)?,
        agent: row.get(4)?,
        description: row.get(5)?,
        enabled: row.get(6)?,
        disabled_reason: row.get(7)?,
        failing_since: time(row, 8)?,
        sealed: Sealed { master: row.get(9)?, bytes: row.get(10)? },
        created_at: Timestamp(row.get(11)?),
        updated_at: Timestamp(row.get(12)?),
    })
}

fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(Timestamp))
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        id: row.get(0)?,
        webhook_id: column(row, 1)?,
        session_id: optional_column(row, 2)?,
        event: row.get(3)?,
        r#type: row.get(4)?,
        state: column(row, 5)?,
        attempts: row.get(6)?,
        created_at: Timestamp(row.get(7)?),
        tried_at: Timestamp(row.get(8)?),
        next_at: time(row, 9)?,
        status: row.get(10)?,
        error: row.get(11)?,
    })
}

fn place(row: &Row<'_>) -> rusqlite::Result<WebhookPlace> {
    let pending = match row.get::<_, Option<i64>>(3)? {
        Some(event) => Some((event, row.get(4)?, Timestamp(row.get(5)?))),
        None => None,
    };
    Ok(WebhookPlace { through: row.get(0)?, tail: row.get(1)?, failing_since: time(row, 2)?, pending })
}

/// Deliveries with ids from `from` to less than `before`.
fn deliveries(connection: &Connection, id: WebhookId, from: i64, before: i64, limit: usize) -> Result<Vec<Delivery>, StoreError> {
    rows(connection, sql::DELIVERIES, params![id.to_string(), from, before, limit as i64], delivery)
}

fn one_delivery(connection: &Connection, id: WebhookId, number: i64) -> Result<Delivery, StoreError> {
    let found = deliveries(connection, id, number, number.saturating_add(1), 1)?.pop();
    found.ok_or(StoreError::NotFound("delivery"))
}

fn waiting(connection: &Connection, row: &WebhookRow, after: Option<SessionId>, limit: i64) -> Result<Vec<Waiting>, StoreError> {
    let kinds = to_json(&WebhookEvent::kinds(&row.events))?;
    let after = after.map(|after| after.to_string()).unwrap_or_default();
    let values = params![row.id.to_string(), row.tenant, row.agent, after, kinds, limit];
    rows(connection, sql::WAITING_FOR_WEBHOOK, values, |row| {
        Ok(Waiting { session: column(row, 0)?, agent: row.get(1)?, next_at: time(row, 2)? })
    })
}

fn note(connection: &Connection, note: DeliveryNote) -> Result<Delivery, StoreError> {
    let DeliveryNote { webhook, url, event, name, at, state, next_at, status, error, in_order, disable, keep } = note;
    let id = webhook.to_string();
    if rows(connection, sql::WEBHOOK_EXISTS, params![id], |row| row.get::<_, bool>(0))? != [true] {
        return Err(NOT_FOUND);
    }
    let (session, event) = event.map(|(session, event)| (session.to_string(), event)).unzip();
    if state == DeliveryState::Delivered {
        // A test, too, shows that the receiver is there again.
        execute(connection, sql::WEBHOOK_SUCCEEDS, params![id, url])?;
    }
    if let (true, Some(session), Some(event)) = (in_order, &session, event) {
        execute(connection, sql::DROP_PENDING, params![id, session, event])?;
        if state != DeliveryState::Delivered {
            execute(connection, sql::WEBHOOK_FAILS, params![at.millis(), id])?;
        }
        if state != DeliveryState::Pending {
            execute(connection, sql::MOVE_WEBHOOK, params![id, event, session])?;
        }
    }
    let values = params![id, session, event, name, state.as_str(), at.millis(), next_at.map(Timestamp::millis), status, error];
    let number = rows(connection, sql::NOTE_DELIVERY, values, |row| row.get::<_, i64>(0))?;
    if let Some(reason) = disable {
        execute(connection, sql::DISABLE_WEBHOOK, params![reason, at.millis(), id, url])?;
    }
    let noted = one_delivery(connection, webhook, number.first().copied().unwrap_or_default())?;
    execute(connection, sql::TRIM_DELIVERIES, params![id, keep])?;
    Ok(noted)
}

impl Webhooks for Sqlite {
    fn create_webhook(&self, row: WebhookRow, most: u32) -> Pending<'_, bool> {
        self.write(move |connection| {
            let id = row.id.to_string();
            let values = params![
                id,
                row.tenant,
                row.url,
                to_json(&row.events)?,
                row.agent,
                row.description,
                row.enabled,
                row.sealed.master,
                row.sealed.bytes,
                row.created_at.millis(),
                most,
            ];
            let is_kept = execute(connection, sql::CREATE_WEBHOOK, values)? > 0;
            if is_kept {
                execute(connection, sql::BEGIN_WEBHOOK, params![id, row.tenant, "[]"])?;
            }
            Ok(is_kept)
        })
    }

    fn list_webhooks<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<WebhookRow>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| webhooks(connection, sql::WEBHOOKS_OF_TENANT, params![tenant]))
    }

    fn enabled_webhooks(&self) -> Pending<'_, Vec<WebhookRow>> {
        self.read(|connection| webhooks(connection, sql::WEBHOOKS_ENABLED, []))
    }

    fn get_webhook<'a>(&'a self, tenant: &'a str, id: WebhookId) -> Pending<'a, WebhookRow> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            webhooks(connection, sql::WEBHOOK_IS, params![tenant, id.to_string()])?.pop().ok_or(NOT_FOUND)
        })
    }

    fn change_webhook(&self, old: WebhookRow, new: WebhookRow) -> Pending<'_, ()> {
        self.write(move |connection| {
            let id = old.id.to_string();
            let values = params![
                new.url,
                to_json(&new.events)?,
                new.agent,
                new.description,
                new.enabled,
                new.disabled_reason,
                new.failing_since.map(Timestamp::millis),
                new.sealed.master,
                new.sealed.bytes,
                new.updated_at.millis(),
                id,
                old.updated_at.millis(),
                old.enabled,
                old.sealed.bytes,
            ];
            if execute(connection, sql::CHANGE_WEBHOOK, values)? == 0 {
                return Err(StoreError::Conflict("the webhook was changed meanwhile".to_owned()));
            }
            execute(connection, sql::RETRY_WEBHOOK, params![id])?;
            // What the old list wants is still told, and the new one counts from here on.
            let is_other = new.events != old.events || new.agent != old.agent;
            if !old.enabled || is_other {
                let left = if old.enabled { waiting(connection, &old, None, i64::MAX)? } else { Vec::new() };
                let left: Vec<_> = left.into_iter().map(|one| one.session).collect();
                execute(connection, sql::BEGIN_WEBHOOK, params![id, old.tenant, to_json(&left)?])?;
            }
            Ok(())
        })
    }

    fn delete_webhook<'a>(&'a self, tenant: &'a str, id: WebhookId) -> Pending<'a, ()> {
        let tenant = tenant.to_owned();
        self.write(move |connection| {
            let id = id.to_string();
            if execute(connection, sql::DELETE_WEBHOOK, params![tenant, id])? == 0 {
                return Err(NOT_FOUND);
            }
            sql::DELETE_WEBHOOK_REST.iter().try_for_each(|text| execute(connection, text, params![id]).map(drop))
        })
    }

    fn waiting_for_webhook(&self, row: WebhookRow, after: Option<SessionId>, limit: usize) -> Pending<'_, Vec<Waiting>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |connection| waiting(connection, &row, after, limit))
    }

    fn webhook_place(&self, id: WebhookId, session: SessionId) -> Pending<'_, WebhookPlace> {
        self.read(move |connection| {
            let values = params![id.to_string(), session.to_string()];
            rows(connection, sql::WEBHOOK_PLACE, values, place)?.pop().ok_or(NOT_FOUND)
        })
    }

    fn pass_webhook(&self, id: WebhookId, session: SessionId, through: i64) -> Pending<'_, ()> {
        self.write(move |connection| {
            execute(connection, sql::MOVE_WEBHOOK, params![id.to_string(), through, session.to_string()]).map(drop)
        })
    }

    fn note_delivery(&self, taken: DeliveryNote) -> Pending<'_, Delivery> {
        self.write(move |connection| note(connection, taken))
    }

    fn deliveries(&self, id: WebhookId, before: Option<i64>, limit: usize) -> Pending<'_, Vec<Delivery>> {
        self.read(move |connection| deliveries(connection, id, 0, before.unwrap_or(i64::MAX), limit))
    }

    fn get_delivery(&self, id: WebhookId, number: i64) -> Pending<'_, Delivery> {
        self.read(move |connection| one_delivery(connection, id, number))
    }

    fn webhooks_of_other_masters<'a>(&'a self, master: &'a str, limit: usize) -> Pending<'a, Vec<WebhookRow>> {
        let master = master.to_owned();
        self.read(move |connection| webhooks(connection, sql::WEBHOOKS_OF_OTHER_MASTERS, params![master, limit as i64]))
    }

    fn reseal_webhook(&self, id: WebhookId, old: Sealed, new: Sealed) -> Pending<'_, ()> {
        self.write(move |connection| {
            let values = params![new.master, new.bytes, id.to_string(), old.bytes];
            execute(connection, sql::RESEAL_WEBHOOK, values).map(drop)
        })
    }
}
