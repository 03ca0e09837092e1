//! Attachments.

use rusqlite::{Connection, Row, params};

use super::rows::{column, optional_column};
use super::{Sqlite, execute, rows};
use crate::store::attachment::{AttachmentLimits, AttachmentRow, Attachments, NewAttachment};
use crate::store::{Pending, StoreError, now, sql};
use crate::wire::attachment::FOLDER;
use crate::wire::{AttachmentId, SessionId, Timestamp};

/// Longest name in a folder, as in Linux's file systems (`NAME_MAX`).
const NAME_MAX: usize = 255;
/// What is longer is no extension.
const EXTENSION_MAX: usize = 32;

fn attachment_row(row: &Row<'_>) -> rusqlite::Result<AttachmentRow> {
    Ok(AttachmentRow {
        id: column(row, 0)?,
        session: column(row, 1)?,
        filename: row.get(2)?,
        path: row.get(3)?,
        mime_type: row.get(4)?,
        size: row.get::<_, i64>(5)?.unsigned_abs(),
        message: optional_column(row, 6)?,
        added: row.get(7)?,
        placed: row.get(8)?,
        created_at: Timestamp(row.get(9)?),
    })
}

fn selected(which: &str) -> String {
    format!("select {} from attachments where {which}", sql::ATTACHMENT_COLUMNS)
}

fn insert(connection: &Connection, row: &AttachmentRow) -> Result<(), StoreError> {
    let values = params![
        row.id.to_string(),
        row.session.to_string(),
        row.filename,
        row.path,
        row.mime_type,
        i64::try_from(row.size).unwrap_or(i64::MAX),
        row.message.map(|message| message.to_string()),
        row.added,
        row.placed,
        row.created_at.millis(),
    ];
    execute(connection, sql::ADD_ATTACHMENT, values).map(drop)
}

/// A path that none of these has: the name itself, or with the first number before its extension that makes
/// it another one.
fn free_path(filename: &str, taken: &[AttachmentRow]) -> String {
    let (stem, extension) = match filename.rfind('.') {
        Some(at) if at > 0 && filename.len() - at <= EXTENSION_MAX => filename.split_at(at),
        _ => (filename, ""),
    };
    let named = |number: usize| {
        let tail = if number > 1 { format!(" ({number}){extension}") } else { extension.to_owned() };
        let room = NAME_MAX.saturating_sub(tail.len());
        format!("{FOLDER}/{}{tail}", &stem[..stem.floor_char_boundary(room)])
    };
    // One of them is free, as there are more than are taken.
    let mut paths = (1..=taken.len() + 1).map(named);
    paths.find(|path| taken.iter().all(|row| row.path != *path)).unwrap_or_default()
}

impl Attachments for Sqlite {
    fn add_attachment<'a>(&'a self, tenant: &'a str, new: NewAttachment, limits: AttachmentLimits) -> Pending<'a, AttachmentRow> {
        let tenant = tenant.to_owned();
        self.write(move |connection| {
            let session = new.session.to_string();
            let tail = rows(connection, sql::TAIL_OF_SESSION, params![session, tenant], |row| row.get(0))?.pop();
            let added = tail.ok_or(StoreError::NotFound("session"))?;
            let all = rows(connection, &selected(sql::ATTACHMENTS_OF_SESSION), params![session], attachment_row)?;
            let bytes = all.iter().map(|row| row.size).fold(new.size, u64::saturating_add);
            if all.len() >= limits.count || bytes > limits.bytes {
                let AttachmentLimits { count, bytes } = limits;
                return Err(StoreError::Conflict(format!("a session has at most {count} attachments of {bytes} bytes")));
            }
            let path = free_path(&new.filename, &all);
            let NewAttachment { id, session, filename, mime_type, size, message } = new;
            let row =
                AttachmentRow { id, session, filename, path, mime_type, size, message, added, placed: None, created_at: now() };
            insert(connection, &row)?;
            Ok(row)
        })
    }

    fn attachments(&self, session: SessionId) -> Pending<'_, Vec<AttachmentRow>> {
        self.read(move |connection| {
            rows(connection, &selected(sql::ATTACHMENTS_OF_SESSION), params![session.to_string()], attachment_row)
        })
    }

    fn get_attachment<'a>(&'a self, tenant: &'a str, id: AttachmentId) -> Pending<'a, AttachmentRow> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let found = rows(connection, &selected(sql::ATTACHMENT_IS), params![id.to_string(), tenant], attachment_row)?.pop();
            found.ok_or(StoreError::NotFound("attachment"))
        })
    }

    fn forget_attachment(&self, id: AttachmentId) -> Pending<'_, bool> {
        self.write(move |connection| Ok(execute(connection, sql::FORGET_ATTACHMENT, params![id.to_string()])? > 0))
    }

    fn place_attachments(&self, session: SessionId, ids: Vec<AttachmentId>) -> Pending<'_, ()> {
        self.write(move |connection| {
            ids.iter().try_for_each(|id| {
                execute(connection, sql::PLACE_ATTACHMENT, params![session.to_string(), id.to_string()]).map(drop)
            })
        })
    }

    fn copy_attachments(&self, copies: Vec<AttachmentRow>) -> Pending<'_, ()> {
        self.write(move |connection| copies.iter().try_for_each(|copy| insert(connection, copy)))
    }

    fn attachment_ids(&self) -> Pending<'_, Vec<(SessionId, AttachmentId)>> {
        self.read(|connection| rows(connection, sql::ATTACHMENT_IDS, [], |row| Ok((column(row, 0)?, column(row, 1)?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_twice_is_two_paths() {
        let row = |path: &str| AttachmentRow {
            id: AttachmentId::new(),
            session: SessionId::new(),
            filename: String::new(),
            path: format!("{FOLDER}/{path}"),
            mime_type: String::new(),
            size: 0,
            message: None,
            added: 0,
            placed: None,
            created_at: now(),
        };
        for (filename, taken, path) in [
            ("a.txt", vec![], "a.txt"),
            ("a.txt", vec!["a.txt"], "a (2).txt"),
            ("a.txt", vec!["a.txt", "a (2).txt"], "a (3).txt"),
            ("a.txt", vec!["b.txt", "a (2).txt"], "a.txt"),
            ("a (2).txt", vec!["a.txt", "a (2).txt"], "a (2) (2).txt"),
            (".env", vec![".env"], ".env (2)"),
            ("a.tar.gz", vec!["a.tar.gz"], "a.tar (2).gz"),
            ("a", vec!["a"], "a (2)"),
            ("a. ", vec!["a. "], "a (2). "),
        ] {
            let taken: Vec<_> = taken.into_iter().map(row).collect();
            assert_eq!(free_path(filename, &taken), format!("{FOLDER}/{path}"), "{filename}");
        }
        let long = format!("{}.txt", "ä".repeat(200));
        let first = free_path(&long, &[]);
        let second = free_path(&long, &[row(first.strip_prefix("attachments/").expect("in the folder"))]);
        for (path, end) in [(&first, "ä.txt"), (&second, "ä (2).txt")] {
            assert!(path.ends_with(end) && path.len() <= FOLDER.len() + 1 + NAME_MAX, "{path}");
        }
    }
}
