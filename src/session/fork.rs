//! Forks: other sessions that go on from a snapshot of this one.

use super::driver::Request;
use super::{Context, SessionError, Sessions, farewell, open, snapshot_error};
use crate::fault::{self, Point};
use crate::snapshot::{Manifest, PendingCopy, Reason, SnapshotError, SnapshotId};
use crate::store::{EventFilter, SessionRow};
use crate::wire::event::Kind;
use crate::wire::session::Status;
use crate::wire::{SandboxId, SessionId};

impl Sessions {
    /// Makes another session that goes on from a snapshot of this one: from that at event `at`, or
    /// from a new one. It is paused.
    pub async fn fork(&self, tenant: &str, id: SessionId, at: Option<i64>) -> Result<SessionRow, SessionError> {
        let parent = self.get(tenant, id).await?;
        self.agent(tenant, &parent.agent).await?;
        open::version(&self.context, &parent.agent, &parent.digest)?;
        self.context.last_snapshot(&parent).await?;
        let event = match at {
            Some(event) => event,
            None => self.newest_state(&parent).await?,
        };
        // A turn may have run until then, and begun the conversation.
        let parent = self.get(tenant, id).await?;
        let (now, parent_tail) = (crate::store::now(), parent.tail);
        let mut child = SessionRow {
            id: SessionId::new(),
            sandbox: SandboxId::new(),
            status: Status::Paused,
            parent: Some(id),
            created_at: now,
            last_active_at: now,
            sandbox_boot: None,
            heard: None,
            ..parent.clone()
        };
        let env = open::own_environment(&self.context, &parent)?;
        child.extra_env = self.context.settings.credentials.seal_env(&child.env_owner(), env)?;
        // First, so that a session without its snapshot never exists; a sweep would miss its row.
        let _forking = self.context.sweeping.fork(child.id);
        let copy = self.context.begin_copy(SnapshotId { session: id, event }, child.id).await?;
        // After an older state of the database was put back, it can be ahead of the log.
        let through = event.min(parent_tail);
        copy.publish(through).await.map_err(|error| unusable(event, error))?;
        fault::at(Point::ForkCopied);
        let (child_id, child_sandbox) = (child.id, child.sandbox);
        let forked = async {
            self.copy_attachments(id, child_id, at).await?;
            self.context.store.fork_session(child, id, through).await?;
            // Whoever deletes an agent ends the sessions that are stored by then.
            self.agent(tenant, &parent.agent).await.map(drop)
        };
        if let Err(error) = forked.await {
            self.forget(child_id, child_sandbox).await;
            self.forget_copies(child_id).await;
            if let Err(error) = self.context.snapshots.remove_all(child_id).await {
                tracing::warn!(session_id = %child_id, error = crate::report::chain(&error), "the snapshot of a failed fork stays");
            }
            return Err(error);
        }
        fault::at(Point::ForkStored);
        let child = self.get(tenant, child_id).await?;
        self.context.count_session(&child);
        Ok(child)
    }

    /// The event of a snapshot that has all of a session: a new one, unless it can not have changed
    /// since the last.
    async fn newest_state(&self, session: &SessionRow) -> Result<i64, SessionError> {
        let is_kept = match session.status {
            Status::Ended => {
                self.context.has_all_kept(session).await?;
                true
            }
            // A folder that is there may hold what no snapshot has.
            Status::Stopped => !self.context.has_folder(session.sandbox).await,
            _ => false,
        };
        if is_kept {
            let newest = self.context.snapshots.newest(session.id).await.map_err(snapshot_error)?;
            if let Some(newest) = newest {
                return Ok(newest.event);
            }
        }
        if session.status == Status::Ended {
            return Err(SessionError::Over);
        }
        self.ask(session, |reply| Request::Snapshot { reply }).await.map(|manifest| manifest.event)
    }
}

impl Context {
    /// A checked copy of a snapshot, for this session or another one.
    pub(super) async fn begin_copy(&self, from: SnapshotId, session: SessionId) -> Result<PendingCopy, SessionError> {
        match self.snapshots.begin_copy(from, session).await {
            Ok(copy) => Ok(copy),
            Err(SnapshotError::NotFound(_)) => {
                let listed = self.snapshots.list(from.session).await.map_err(snapshot_error)?;
                let there = listed.iter().map(|one| one.id.event).collect();
                Err(SessionError::NoSnapshot { event: from.event, there })
            }
            Err(error) => Err(unusable(from.event, error)),
        }
    }

    /// Whether a session that has ended has its last snapshot, or its log says that there is none.
    ///
    /// Only one that was taken for the end counts, at the last event: others may have been taken before
    /// something happened that they have not, also where their event is ahead of the log, as after an
    /// older state of the database was put back.
    pub(super) async fn is_kept(&self, session: &SessionRow) -> Result<bool, SessionError> {
        let listed = self.snapshots.list(session.id).await.map_err(snapshot_error)?;
        let is_last = |manifest: &Manifest| manifest.event == session.tail && manifest.reason == Reason::End;
        if listed.iter().any(|one| one.state.as_ref().is_ok_and(is_last)) {
            return Ok(true);
        }
        // The row may have been read before that was stored, which is the one thing by which the log still grows.
        let last = self.store.events(session.id, session.tail - 1, 2, EventFilter::default()).await?;
        Ok(last.iter().any(|event| event.kind == Kind::Lifecycle && farewell::is_failure(&event.data)))
    }

    /// That a session which has ended is in its snapshots as it was. Where it could not be packed and is
    /// tried again, an older snapshot has not all of it.
    pub(super) async fn has_all_kept(&self, session: &SessionRow) -> Result<(), SessionError> {
        if session.status == Status::Ended && !self.is_kept(session).await? && self.has_folder(session.sandbox).await {
            return Err(SessionError::NotKept);
        }
        Ok(())
    }

    /// Waits for the last snapshot of a session that has ended, which may still be under way.
    pub(super) async fn last_snapshot(&self, session: &SessionRow) -> Result<(), SessionError> {
        if session.status == Status::Ended {
            let mut leaving = self.leaving.subscribe();
            // An error says that nobody leaves any more.
            drop(leaving.wait_for(|leaving| leaving.get(&session.id).is_none_or(|one| one.is_kept)).await);
            if self.closing.is_cancelled() {
                // It was given up, and is taken by the next daemon.
                return Err(SessionError::Closing);
            }
        }
        Ok(())
    }
}

/// Why the snapshot of an event that was asked for can not be gone on from.
pub(super) fn unusable(event: i64, error: SnapshotError) -> SessionError {
    match error {
        SnapshotError::Damaged { .. } | SnapshotError::Newer { .. } => {
            SessionError::Unusable { event, reason: crate::report::chain(&error) }
        }
        error => snapshot_error(error),
    }
}
