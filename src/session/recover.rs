//! At start: the sandboxes that live are compared with the sessions that should have one.

use std::collections::HashSet;

use super::driver::{Request, rewound};
use super::farewell::{Farewell, Left};
use super::{SessionError, Sessions, open};
use crate::report::chain;
use crate::sandbox::LaunchError;
use crate::snapshot::{SnapshotError, SnapshotId};
use crate::store::{Advance, StoreError};
use crate::wire::session::Status;
use crate::wire::{SandboxId, SessionId};

/// What was found and done at start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Sandboxes that outlived the daemon and are connected again.
    pub attached: usize,
    /// Sessions whose running turn had lost its sandbox.
    pub interrupted: usize,
    /// Sandboxes of sessions that had ended, of which the last snapshot is taken now.
    pub ended: usize,
    /// Sandboxes of no session, which are being removed.
    pub orphans: usize,
    /// Sessions that were being made when the daemon ended, and were removed.
    pub unfinished: usize,
}

#[derive(Debug, thiserror::Error)]
enum CompleteError {
    #[error("look at its snapshots")]
    Snapshot(#[from] SnapshotError),
    #[error("store that it did")]
    Store(#[from] StoreError),
}

/// Why the comparison could not be made. The daemon must not serve then.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The sandboxes can not be listed.
    #[error("list sandboxes")]
    List(#[from] LaunchError),
    /// The sessions can not be listed.
    #[error("list sessions")]
    Store(#[from] StoreError),
    /// The snapshots can not be listed.
    #[error("list snapshots")]
    Snapshots(#[from] SnapshotError),
    /// What is on this host belongs to the sessions of a database that is not this one.
    #[error(
        "{sandboxes} sandboxes and the snapshots of {snapshots} sessions on this host belong to another database than the one \
         that was opened, which knows none of their sessions; nothing was removed. Put the database back, or give them up as \
         ashd(8) says"
    )]
    OtherDatabase {
        /// Sandboxes.
        sandboxes: usize,
        /// Sessions with snapshots.
        snapshots: usize,
    },
}

/// The databases that what is on this host was made with, by their own names; `None` where nobody
/// wrote it down.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    /// Of the sandboxes.
    pub sandboxes: Option<String>,
    /// Of the snapshots.
    pub snapshots: Option<String>,
}

impl Sessions {
    /// Makes sure that this database is the one which the sandboxes and snapshots of this host
    /// belong to, before anything is removed that it does not know. Returns its name.
    ///
    /// # Errors
    ///
    /// [`RecoverError::OtherDatabase`], and what keeps it from finding out.
    pub async fn check_owners(&self, owners: &Owners) -> Result<String, RecoverError> {
        let census = self.context.store.census().await?;
        let is_strange = |owner: &Option<String>| match owner {
            Some(owner) => *owner != census.identity,
            // An earlier version wrote nothing down. A database with nothing in it made nothing.
            None => census.sessions == 0,
        };
        let listed = self.context.launcher.list().await?;
        let with_snapshots = self.context.snapshots.sessions().await?;
        let sandboxes = if is_strange(&owners.sandboxes) { listed.len() } else { 0 };
        let snapshots = if is_strange(&owners.snapshots) { with_snapshots.len() } else { 0 };
        if sandboxes + snapshots > 0 {
            return Err(RecoverError::OtherDatabase { sandboxes, snapshots });
        }
        Ok(census.identity)
    }

    /// Connects what lives, interrupts turns that lost their sandbox, removes what belongs to
    /// nobody. Runs once, before requests are served.
    pub async fn recover(&self) -> Result<Recovered, RecoverError> {
        let context = &self.context;
        let listed = context.launcher.list().await?;
        let sessions = context.store.living_sessions().await?;
        let mut recovered = Recovered::default();
        context.sweeping.knows(sessions.iter().filter(|session| session.status != Status::Starting).count());
        let mut owned = HashSet::new();
        for session in sessions {
            owned.insert(session.sandbox);
            if session.status == Status::Starting {
                recovered.unfinished += 1;
                self.forget(session.id, session.sandbox).await;
                continue;
            }
            if let Err(error) = self.complete_rewind(session.id, session.tail).await {
                tracing::warn!(session_id = %session.id, error = chain(&error), "whether the session went back is not known, ignoring");
            }
            let alive = listed.iter().any(|one| one.sandbox == session.sandbox && one.running);
            if alive {
                recovered.attached += 1;
            } else if !context.store.queue(session.id).await?.is_empty() {
                recovered.interrupted += 1;
            } else if !session.is_up {
                // Its end was told already.
                continue;
            }
            let live = context.live(&context.store.get_session(&session.tenant, session.id).await?);
            let request = if alive { Request::Attach } else { Request::Lost };
            if live.requests.send(request.into()).await.is_err() {
                let error = SessionError::Closing;
                tracing::error!(session_id = %session.id, error = %error, "a session can not be taken up");
            }
        }
        for orphan in listed.iter().filter(|one| !owned.contains(&one.sandbox)) {
            if self.remove_orphan(orphan.sandbox).await? {
                recovered.ended += 1;
            } else {
                recovered.orphans += 1;
            }
        }
        Ok(recovered)
    }

    /// Removes the sandbox of a session that has ended, and says so, or of none. Not waited for: a
    /// folder may hold millions of files, and nobody is served meanwhile.
    pub(super) async fn remove_orphan(&self, sandbox: SandboxId) -> Result<bool, StoreError> {
        let context = &self.context;
        let Some(session) = context.store.find_session_of(sandbox).await? else {
            tracing::warn!(sandbox_id = %sandbox, "sandbox belongs to no session, removing it");
            context.clear_later(sandbox);
            return Ok(false);
        };
        let farewell = Farewell::announce(context.clone(), &session);
        // What can not be read is tried again, by taking another one.
        if context.is_kept(&session).await.unwrap_or(false) {
            // Only its removal was left.
            context.drivers.spawn(farewell.finish(sandbox));
        } else {
            let excludes = open::rules(context, &session).excludes;
            context.drivers.spawn(farewell.run(session, Left::Cold, excludes));
        }
        Ok(true)
    }

    /// Writes down that a session went back to a snapshot, if the daemon ended before it could: the
    /// newest snapshot is a copy of another one of this session, made for the event that is next in its
    /// log. One that is further ahead is of a newer state of the database than this one, and what it
    /// tells of is not the next thing that happened here.
    async fn complete_rewind(&self, session: SessionId, tail: i64) -> Result<(), CompleteError> {
        let Some(event) = self.context.snapshots.newest_event(session).await? else { return Ok(()) };
        if event != tail + 1 {
            return Ok(());
        }
        let listed = self.context.snapshots.list(session).await?;
        let copy = listed.into_iter().find(|one| one.id == SnapshotId { session, event });
        let origin = copy.and_then(|copy| copy.state.ok()).and_then(|manifest| manifest.forked_from);
        if let Some(origin) = origin.filter(|origin| origin.session == session) {
            let events = vec![rewound(origin.event, None)];
            self.context.store.advance(session, Advance { events, ..Advance::default() }).await?;
        }
        Ok(())
    }
}
