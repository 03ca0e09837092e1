//! Files of tenants.

use rusqlite::{Connection, Row, params};

use super::rows::column;
use super::{Sqlite, execute, rows};
use crate::store::project_file::{FileLimits, ProjectFileRow, ProjectFiles};
use crate::store::{Pending, StoreError, sql};
use crate::wire::{FileId, Timestamp};

fn file(row: &Row<'_>) -> rusqlite::Result<ProjectFileRow> {
    Ok(ProjectFileRow {
        place: row.get(0)?,
        id: column(row, 1)?,
        tenant: row.get(2)?,
        filename: row.get(3)?,
        mime_type: row.get(4)?,
        size: row.get::<_, i64>(5)?.unsigned_abs(),
        ttl: column(row, 6)?,
        secret: row.get(7)?,
        created_at: Timestamp(row.get(8)?),
        expires_at: row.get::<_, Option<i64>>(9)?.map(Timestamp),
    })
}

fn files(connection: &Connection, which: &str, values: impl rusqlite::Params) -> Result<Vec<ProjectFileRow>, StoreError> {
    rows(connection, &format!("select {} from project_files where {which}", sql::FILE_COLUMNS), values, file)
}

impl ProjectFiles for Sqlite {
    fn add_file(&self, row: ProjectFileRow, limits: FileLimits) -> Pending<'_, bool> {
        self.write(move |connection| {
            let size = i64::try_from(row.size).unwrap_or(i64::MAX);
            let values = params![
                row.id.to_string(),
                row.tenant,
                row.filename,
                row.mime_type,
                size,
                row.ttl.as_str(),
                row.secret,
                row.created_at.millis(),
                row.expires_at.map(Timestamp::millis),
                limits.count,
                i64::try_from(limits.bytes).unwrap_or(i64::MAX),
            ];
            Ok(execute(connection, sql::ADD_FILE, values)? > 0)
        })
    }

    fn get_file<'a>(&'a self, tenant: &'a str, id: FileId, now: Timestamp) -> Pending<'a, ProjectFileRow> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let found = files(connection, sql::FILE_OF_TENANT, params![tenant, id.to_string(), now.millis()])?.pop();
            found.ok_or(StoreError::NotFound("file"))
        })
    }

    fn find_file(&self, id: FileId, now: Timestamp) -> Pending<'_, Option<ProjectFileRow>> {
        self.read(move |connection| Ok(files(connection, sql::FILE_IS, params![id.to_string(), now.millis()])?.pop()))
    }

    fn files<'a>(&'a self, tenant: &'a str, before: i64, now: Timestamp, limit: usize) -> Pending<'a, Vec<ProjectFileRow>> {
        let tenant = tenant.to_owned();
        self.read(move |connection| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            files(connection, sql::FILES_OF_TENANT, params![tenant, before, now.millis(), limit])
        })
    }

    fn has_file(&self, id: FileId) -> Pending<'_, bool> {
        self.read(move |connection| Ok(!rows(connection, sql::HAS_FILE, params![id.to_string()], |_| Ok(()))?.is_empty()))
    }

    fn forget_file(&self, id: FileId) -> Pending<'_, bool> {
        self.write(move |connection| Ok(execute(connection, sql::FORGET_FILE, params![id.to_string()])? > 0))
    }

    fn old_files(&self, now: Timestamp) -> Pending<'_, Vec<FileId>> {
        self.read(move |connection| rows(connection, sql::OLD_FILES, params![now.millis()], |row| column(row, 0)))
    }

    fn file_ids(&self) -> Pending<'_, Vec<(FileId, u64)>> {
        self.read(|connection| {
            rows(connection, sql::FILE_IDS, [], |row| Ok((column(row, 0)?, row.get::<_, i64>(1)?.unsigned_abs())))
        })
    }
}
