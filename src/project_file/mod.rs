//! Files of a tenant that are of no session: put here once, attached to sessions, and read by link.
//!
//! ```text
//! upload ──▶ file, row ──▶ GET …/content, an attachment of a session, or whoever has a link
//! ```
//!
//! The file is written first and the row last, so a row has its file; what a crash leaves without the other is removed
//! by `gc`, and so is what has expired, which nobody finds before. A link is signed with a secret of the file's own
//! row ([`link`]), so that it ends with the file, and needs no key of the host.

mod disk;
pub mod link;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use self::disk::storage_path;
use self::disk::{Disk, Found};
use crate::store::project_file::{FileLimits, ProjectFileRow};
use crate::store::{Store, StoreError, now};
use crate::wire::project_file::Ttl;
use crate::wire::{FileId, Timestamp};

/// Why a file is not taken or not had.
#[derive(Debug, thiserror::Error)]
pub enum ProjectFileError {
    /// There is no such file for this tenant, or it has expired, or the link is no good.
    #[error("File not found")]
    NotFound,
    /// Its bytes are not where they should be.
    #[error("The bytes of the file are not on the disk")]
    NoBytes,
    /// The tenant has as many as it may have.
    #[error("The tenant has {} files or {} bytes of them, the most that one may have (files.max, files.max_bytes); delete some", .0.count, .0.bytes)]
    Full(FileLimits),
    /// The host can not read or write it.
    #[error("read or write a file")]
    Host(#[source] io::Error),
    /// The kernel has no random bytes to give.
    #[error("make the secret of a file")]
    Random(#[source] getrandom::Error),
    /// The database failed.
    #[error("the database failed")]
    Store(#[source] StoreError),
}

impl From<StoreError> for ProjectFileError {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::NotFound(_)) { Self::NotFound } else { Self::Store(error) }
    }
}

impl From<io::Error> for ProjectFileError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::NoBytes } else { Self::Host(error) }
    }
}

/// A file that comes.
#[derive(Debug)]
pub struct NewFile {
    /// Its name.
    pub filename: String,
    /// What its caller says it is.
    pub mime_type: String,
    /// How long it is kept.
    pub ttl: Ttl,
}

/// A file that nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unneeded {
    /// The file.
    pub id: FileId,
    /// Why.
    pub why: Why,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// Why nobody needs a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its time is over.
    Expired,
    /// There are bytes, and no row.
    Stray,
}

impl Why {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "it has expired",
            Self::Stray => "it belongs to nobody",
        }
    }
}

/// The files of all tenants.
#[derive(Debug, Clone)]
pub struct ProjectFiles {
    store: Arc<dyn Store>,
    disk: Disk,
    limits: FileLimits,
}

impl ProjectFiles {
    /// Those below this state folder, so many of a tenant.
    pub fn new(store: Arc<dyn Store>, data: &Path, limits: FileLimits) -> Self {
        Self { store, disk: Disk::new(data), limits }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ProjectFileError> {
        let disk = self.disk.clone();
        let done = tokio::task::spawn_blocking(move || work(&disk)).await;
        Ok(done.unwrap_or_else(|broken| Err(io::Error::other(broken)))?)
    }

    /// Keeps a file. What is `held` is dropped when it is done, also if nobody waits for that.
    ///
    /// # Errors
    ///
    /// [`ProjectFileError::Full`], [`ProjectFileError::Host`], [`ProjectFileError::Store`].
    pub async fn add(
        &self,
        tenant: &str,
        new: NewFile,
        bytes: Vec<u8>,
        held: impl Send + 'static,
    ) -> Result<ProjectFileRow, ProjectFileError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(ProjectFileError::Random)?;
        let created_at = now();
        let row = ProjectFileRow {
            place: 0,
            id: FileId::new(),
            tenant: tenant.to_owned(),
            filename: new.filename,
            mime_type: new.mime_type,
            size: bytes.len() as u64,
            ttl: new.ttl,
            secret,
            created_at,
            expires_at: new.ttl.seconds().map(|seconds| Timestamp(created_at.millis() + seconds * 1000)),
        };
        // In a task of its own: a caller that goes away must not leave half of it.
        let files = self.clone();
        let adding = tokio::spawn(async move {
            let added = files.add_whole(row, bytes).await;
            drop(held);
            added
        });
        adding.await.unwrap_or_else(|broken| Err(ProjectFileError::Host(io::Error::other(broken))))
    }

    async fn add_whole(&self, row: ProjectFileRow, bytes: Vec<u8>) -> Result<ProjectFileRow, ProjectFileError> {
        let id = row.id;
        self.blocking(move |disk| disk.write(id, &bytes)).await?;
        let added = self.store.add_file(row.clone(), self.limits).await;
        if !matches!(added, Ok(true))
            && let Err(error) = self.blocking(move |disk| disk.remove(id)).await
        {
            tracing::warn!(file = %id, error = crate::report::chain(&error), "a file that has no row stays, ignoring");
        }
        if added? { Ok(row) } else { Err(ProjectFileError::Full(self.limits)) }
    }

    /// A file of a tenant.
    ///
    /// # Errors
    ///
    /// [`ProjectFileError::NotFound`], [`ProjectFileError::Store`].
    pub async fn get(&self, tenant: &str, id: FileId) -> Result<ProjectFileRow, ProjectFileError> {
        Ok(self.store.get_file(tenant, id, now()).await?)
    }

    /// The file that a link is for, if that is good.
    ///
    /// # Errors
    ///
    /// [`ProjectFileError::NotFound`], [`ProjectFileError::Store`].
    pub async fn linked(&self, id: FileId, end: i64, signature: &str) -> Result<ProjectFileRow, ProjectFileError> {
        let now = now();
        let row = self.store.find_file(id, now).await?;
        row.filter(|row| link::is_good(&row.secret, id, end, signature, now)).ok_or(ProjectFileError::NotFound)
    }

    /// The bytes of a file.
    ///
    /// # Errors
    ///
    /// [`ProjectFileError::NoBytes`], [`ProjectFileError::Host`].
    pub async fn read(&self, id: FileId) -> Result<Vec<u8>, ProjectFileError> {
        self.blocking(move |disk| disk.read(id)).await
    }

    /// A file, open to be read.
    ///
    /// # Errors
    ///
    /// [`ProjectFileError::NoBytes`], [`ProjectFileError::Host`].
    pub async fn open(&self, id: FileId) -> Result<std::fs::File, ProjectFileError> {
        self.blocking(move |disk| disk.open(id)).await
    }

    /// Forgets a file. What was attached to sessions stays there.
    ///
    /// # Errors
    ///
    /// [`ProjectFileError::NotFound`], [`ProjectFileError::Host`], [`ProjectFileError::Store`].
    pub async fn remove(&self, tenant: &str, id: FileId) -> Result<(), ProjectFileError> {
        self.get(tenant, id).await?;
        self.forget(id).await
    }

    async fn forget(&self, id: FileId) -> Result<(), ProjectFileError> {
        self.store.forget_file(id).await?;
        self.blocking(move |disk| disk.remove(id)).await
    }

    /// Removes a file that nobody needs. Says `false` if somebody does by now.
    ///
    /// # Errors
    ///
    /// [`ProjectFileError::Host`], [`ProjectFileError::Store`].
    pub async fn discard(&self, file: Unneeded) -> Result<bool, ProjectFileError> {
        let id = file.id;
        let is_needed = match file.why {
            // An end is never moved.
            Why::Expired => false,
            Why::Stray => self.store.has_file(id).await?,
        };
        if !is_needed {
            self.forget(id).await?;
        }
        Ok(!is_needed)
    }

    /// What nobody needs. A file without a row counts when it is older than `grace` milliseconds, as its row may be
    /// about to come. A row whose bytes are missing stays: they may be on a disk that is not there now.
    ///
    /// # Errors
    ///
    /// [`ProjectFileError::Host`], [`ProjectFileError::Store`].
    pub async fn unneeded(&self, grace: i64) -> Result<Vec<Unneeded>, ProjectFileError> {
        // Rows before files, which are written first: one that is known has its file then.
        let known: BTreeMap<_, _> = self.store.file_ids().await?.into_iter().collect();
        let now = now();
        let old = self.store.old_files(now).await?;
        let mut unneeded: Vec<_> = old
            .into_iter()
            .map(|id| Unneeded { id, why: Why::Expired, bytes: known.get(&id).copied().unwrap_or_default() })
            .collect();
        let found = self.blocking(Disk::list).await?;
        let is_stray = |file: &&Found| !known.contains_key(&file.id) && file.at.millis().saturating_add(grace) <= now.millis();
        let strays = found.iter().filter(is_stray);
        unneeded.extend(strays.map(|file| Unneeded { id: file.id, why: Why::Stray, bytes: file.bytes }));
        Ok(unneeded)
    }
}
