//! Attachments: files that callers give to a session, whether it has a sandbox or not.
//!
//! ```text
//! upload ──▶ file, row ──▶ sandbox is there: written into the workspace, inside
//!                     └──▶ it is not: laid into it when it comes up, before anything runs there
//! ```
//!
//! The file is written first and the row last, so a row has its file; what a crash leaves without the other is
//! removed by `gc`. A row notes the event from which on the workspace has it: of a snapshot that is older,
//! it is laid again.

mod content;
mod files;

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

pub(super) use self::content::{check, expand};
pub use self::files::{Files, Found};
use super::driver::{Purpose, Request};
use super::files::tool;
use super::open::Source;
use super::{Context, SessionError, Sessions};
use crate::link::daemon::ShimHandle;
use crate::report::chain;
use crate::store::{AttachmentLimits, AttachmentRow, NewAttachment, SessionRow, StoreError};
use crate::wire::{AttachmentId, SessionId};

/// What one session may have: as many as a person looks through, and what is below the least disk of one.
pub const LIMITS: AttachmentLimits = AttachmentLimits { count: 200, bytes: 512 << 20 };

/// Why an attachment is not taken or not had.
#[derive(Debug, thiserror::Error)]
pub enum AttachmentError {
    /// The tenant has none of this id.
    #[error("Attachment not found")]
    NotFound,
    /// Its bytes are gone.
    #[error("Attachment file not found on disk")]
    NoFile,
    /// The session has as many as it may have.
    #[error("The session has {} attachments or {} bytes of them, the most that one may have; delete some", LIMITS.count, LIMITS.bytes)]
    Full,
    /// The host can not read or write it.
    #[error("read or write an attachment")]
    Host(#[source] io::Error),
    /// The database failed.
    #[error("the database failed")]
    Store(#[source] StoreError),
}

impl From<StoreError> for AttachmentError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(_) => Self::NotFound,
            StoreError::Conflict(_) => Self::Full,
            error => Self::Store(error),
        }
    }
}

impl From<io::Error> for AttachmentError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::NoFile } else { Self::Host(error) }
    }
}

/// Works on files where that may block.
async fn blocking<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce(&Files) -> io::Result<T> + Send + 'static,
) -> Result<T, AttachmentError> {
    let files = context.settings.attachments.clone();
    let done = tokio::task::spawn_blocking(move || work(&files)).await;
    Ok(done.unwrap_or_else(|broken| Err(io::Error::other(broken)))?)
}

/// The bytes of an attachment.
async fn read(context: &Context, row: &AttachmentRow) -> Result<Vec<u8>, AttachmentError> {
    let (session, id) = (row.session, row.id);
    blocking(context, move |files| files.read(session, id)).await
}

impl Sessions {
    /// Largest attachment that is taken, in bytes.
    pub fn attachment_bytes(&self) -> u64 {
        self.context.settings.attachment_bytes.0
    }

    /// Gives a session a file. It is in the workspace afterwards if there is one, and otherwise before anything
    /// runs there. `by` is who asked. What is `held` is dropped when it is done, also if nobody waits for that.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotFound`], [`SessionError::Over`], [`SessionError::Attachment`].
    pub async fn attach(
        &self,
        tenant: &str,
        by: &str,
        new: NewAttachment,
        bytes: Vec<u8>,
        held: impl Send + 'static,
    ) -> Result<AttachmentRow, SessionError> {
        let session = self.changeable(tenant, new.session).await?;
        // In a task of its own: a caller that goes away must not leave half of it.
        let (sessions, by) = (self.clone(), by.to_owned());
        let attaching = tokio::spawn(async move {
            let attached = sessions.attach_whole(session, &by, new, bytes).await;
            drop(held);
            attached
        });
        attaching.await.map_err(|_| SessionError::Closing)?
    }

    async fn attach_whole(
        &self,
        session: SessionRow,
        by: &str,
        new: NewAttachment,
        bytes: Vec<u8>,
    ) -> Result<AttachmentRow, SessionError> {
        let (context, id) = (&self.context, new.id);
        blocking(context, move |files| files.write(session.id, id, &bytes)).await?;
        if let Err(error) = context.store.add_attachment(&session.tenant, new, LIMITS).await {
            if let Err(error) = blocking(context, move |files| files.remove(session.id, id)).await {
                tracing::warn!(session_id = %session.id, error = chain(&error), "a file that is no attachment stays, ignoring");
            }
            return Err(match error {
                // It ended in between.
                StoreError::NotFound(_) => SessionError::Over,
                error => AttachmentError::from(error).into(),
            });
        }
        if let Err(error) = self.place(&session, id, by).await {
            tracing::warn!(session_id = %session.id, error = chain(&error), "an attachment was not put into the workspace now, ignoring");
        }
        Ok(self.attachment(&session.tenant, id).await?)
    }

    /// Puts an attachment into the workspace if the session has a sandbox.
    async fn place(&self, session: &SessionRow, id: AttachmentId, by: &str) -> Result<(), SessionError> {
        // One that comes up from now on finds the row.
        if self.ask(session, |reply| Request::IsCold { reply }).await? {
            return Ok(());
        }
        let mut visit = self.visit(session, Purpose::Write).await?;
        let row = self.attachment(&session.tenant, id).await?;
        if row.placed.is_some() {
            // One that came up meanwhile has found it already.
            return Ok(());
        }
        tool::write(&visit, row.path.clone(), &read(&self.context, &row).await?).await?;
        // First, so that no snapshot is taken of it that it seems to be missing in.
        self.context.store.place_attachments(row.session, vec![row.id]).await?;
        visit.is_done_writing();
        let data = serde_json::json!({"action": "attached", "path": row.path, "bytes": row.size, "by": by});
        self.changed(session, data).await?;
        drop(visit);
        Ok(())
    }

    /// The attachments of a session, oldest first.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotFound`].
    pub async fn attachments(&self, tenant: &str, id: SessionId) -> Result<Vec<AttachmentRow>, SessionError> {
        self.get(tenant, id).await?;
        Ok(self.context.store.attachments(id).await?)
    }

    /// An attachment.
    ///
    /// # Errors
    ///
    /// [`AttachmentError`].
    pub async fn attachment(&self, tenant: &str, id: AttachmentId) -> Result<AttachmentRow, AttachmentError> {
        Ok(self.context.store.get_attachment(tenant, id).await?)
    }

    /// The bytes of an attachment.
    ///
    /// # Errors
    ///
    /// [`AttachmentError::NoFile`], [`AttachmentError::Host`].
    pub async fn read_attachment(&self, row: &AttachmentRow) -> Result<Vec<u8>, AttachmentError> {
        read(&self.context, row).await
    }

    /// Forgets an attachment. What lies in the workspace stays there.
    ///
    /// # Errors
    ///
    /// [`AttachmentError`].
    pub async fn detach(&self, tenant: &str, id: AttachmentId) -> Result<AttachmentRow, AttachmentError> {
        let row = self.attachment(tenant, id).await?;
        self.context.store.forget_attachment(id).await?;
        let session = row.session;
        blocking(&self.context, move |files| files.remove(session, id)).await?;
        Ok(row)
    }

    /// All files of attachments that there are.
    ///
    /// # Errors
    ///
    /// [`AttachmentError::Host`].
    pub async fn attachment_files(&self) -> Result<Vec<Found>, AttachmentError> {
        blocking(&self.context, Files::list).await
    }

    /// Whether an attachment has its file.
    ///
    /// # Errors
    ///
    /// [`AttachmentError::Host`].
    pub async fn has_attachment_file(&self, session: SessionId, id: AttachmentId) -> Result<bool, AttachmentError> {
        blocking(&self.context, move |files| files.has(session, id)).await
    }

    /// Removes the file of an attachment, or with `None` those of all of a session.
    ///
    /// # Errors
    ///
    /// [`AttachmentError::Host`].
    pub async fn remove_attachment_files(&self, session: SessionId, id: Option<AttachmentId>) -> Result<(), AttachmentError> {
        let remove = move |files: &Files| id.map_or_else(|| files.remove_all(session), |id| files.remove(session, id));
        blocking(&self.context, remove).await
    }

    /// Gives a session that is to be made those of its parent: all, or those that had come by an event.
    pub(super) async fn copy_attachments(
        &self,
        parent: SessionId,
        child: SessionId,
        by: Option<i64>,
    ) -> Result<(), SessionError> {
        let rows = self.context.store.attachments(parent).await?;
        let rows: Vec<_> = rows.into_iter().filter(|row| by.is_none_or(|event| row.added <= event)).collect();
        let ids: Vec<_> = rows.iter().map(|row| (row.id, AttachmentId::new())).collect();
        let copies = rows.into_iter().zip(&ids).map(|(row, (_, id))| AttachmentRow { id: *id, session: child, ..row });
        let copies = copies.collect();
        blocking(&self.context, move |files| files.copy(parent, child, &ids)).await?;
        Ok(self.context.store.copy_attachments(copies).await?)
    }

    /// Takes back what [`Self::copy_attachments`] gave to a session that was not made.
    pub(super) async fn forget_copies(&self, child: SessionId) {
        let forgotten = async {
            for row in self.context.store.attachments(child).await? {
                self.context.store.forget_attachment(row.id).await?;
            }
            self.remove_attachment_files(child, None).await
        };
        if let Err(error) = forgotten.await {
            tracing::warn!(session_id = %child, error = chain(&error), "the attachments of a failed fork stay, ignoring");
        }
    }
}

/// Lays into a workspace what it has not, before anything of the session's runs in it. What can not be laid
/// keeps no session from going on. It `moves` with each.
pub(super) async fn lay(
    context: &Arc<Context>,
    session: &SessionRow,
    shim: &ShimHandle,
    source: &Source,
    moves: &watch::Sender<()>,
) {
    let warn = |error: &(dyn std::error::Error + 'static)| {
        tracing::warn!(session_id = %session.id, error = chain(error), "an attachment can not be put into the workspace, ignoring");
    };
    let rows = match context.store.attachments(session.id).await {
        Ok(rows) => rows,
        Err(error) => return warn(&error),
    };
    let mut placed = Vec::new();
    for row in rows.into_iter().filter(|row| is_missing(row, source)) {
        let laid = async {
            let bytes = read(context, &row).await?;
            tool::write_in(shim, row.path.clone(), &bytes).await
        };
        match laid.await {
            Ok(()) => placed.push(row.id),
            Err(error) => warn(&error),
        }
        moves.send_replace(());
    }
    if !placed.is_empty()
        && let Err(error) = context.store.place_attachments(session.id, placed).await
    {
        // They are laid again.
        warn(&error);
    }
}

/// Whether a workspace from there has not what belongs into it.
fn is_missing(row: &AttachmentRow, source: &Source) -> bool {
    match (row.placed, source) {
        (None, _) | (_, Source::Fresh { .. }) => true,
        (Some(placed), Source::Snapshot { content, .. }) => *content < placed,
        (Some(_), Source::Alive | Source::Folder) => false,
    }
}
