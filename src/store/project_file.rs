//! Files of a tenant that are of no session. Their bytes are not in the database.

use super::Pending;
use crate::wire::project_file::Ttl;
use crate::wire::{FileId, Timestamp};

/// A file.
#[derive(Clone, PartialEq, Eq)]
pub struct ProjectFileRow {
    /// Where it stands among all: later ones have a higher place. 0 for one that is to be added.
    pub place: i64,
    /// The file.
    pub id: FileId,
    /// Whose it is.
    pub tenant: String,
    /// Its name.
    pub filename: String,
    /// What its caller said it is.
    pub mime_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// How long it is kept.
    pub ttl: Ttl,
    /// With this, links to it are signed.
    pub secret: [u8; 32],
    /// When it came.
    pub created_at: Timestamp,
    /// From when on nobody finds it any more.
    pub expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for ProjectFileRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither what it is called nor how it is signed.
        f.debug_struct("ProjectFileRow").field("id", &self.id).field("size", &self.size).finish_non_exhaustive()
    }
}

/// What the files of one tenant may be together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// So many.
    pub count: u32,
    /// Of so many bytes.
    pub bytes: u64,
}

/// Operations on files of tenants. One that has expired is found by nobody but [`Self::old_files`].
pub trait ProjectFiles: Send + Sync {
    /// Adds one, or says `false` if it would be more than its tenant may have.
    fn add_file(&self, row: ProjectFileRow, limits: FileLimits) -> Pending<'_, bool>;

    /// One of a tenant, or [`NotFound`](super::StoreError::NotFound).
    fn get_file<'a>(&'a self, tenant: &'a str, id: FileId, now: Timestamp) -> Pending<'a, ProjectFileRow>;

    /// One of any tenant, for whoever has a link to it.
    fn find_file(&self, id: FileId, now: Timestamp) -> Pending<'_, Option<ProjectFileRow>>;

    /// Those of a tenant, newest first, from before this place on.
    fn files<'a>(&'a self, tenant: &'a str, before: i64, now: Timestamp, limit: usize) -> Pending<'a, Vec<ProjectFileRow>>;

    /// Whether there is one, whoever's, also if it has expired.
    fn has_file(&self, id: FileId) -> Pending<'_, bool>;

    /// Forgets one, whoever's. `false` if there is none.
    fn forget_file(&self, id: FileId) -> Pending<'_, bool>;

    /// Those of all tenants that have expired.
    fn old_files(&self, now: Timestamp) -> Pending<'_, Vec<FileId>>;

    /// Those of all tenants, also those that have expired, each with its size.
    fn file_ids(&self) -> Pending<'_, Vec<(FileId, u64)>>;
}
