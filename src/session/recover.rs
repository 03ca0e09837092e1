//! At start: the sandboxes that live are compared with the sessions that should have one.

use std::collections::HashSet;

use super::driver::Request;
use super::{SessionError, Sessions};
use crate::sandbox::LaunchError;
use crate::store::StoreError;
use crate::wire::session::Status;

/// What was found and done at start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Sandboxes that outlived the daemon and are connected again.
    pub attached: usize,
    /// Sessions whose running turn had lost its sandbox.
    pub interrupted: usize,
    /// Sandboxes of no session, which are being removed.
    pub orphans: usize,
    /// Sessions that were being made when the daemon ended, and were removed.
    pub unfinished: usize,
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
}

impl Sessions {
    /// Connects what lives, interrupts turns that lost their sandbox, removes what belongs to
    /// nobody. Runs once, before requests are served.
    pub async fn recover(&self) -> Result<Recovered, RecoverError> {
        let context = &self.context;
        let listed = context.launcher.list().await?;
        let sessions = context.store.living_sessions().await?;
        let mut recovered = Recovered::default();
        let mut owned = HashSet::new();
        for session in sessions {
            owned.insert(session.sandbox);
            if session.status == Status::Starting {
                recovered.unfinished += 1;
                self.forget(&session).await;
                continue;
            }
            let alive = listed.iter().any(|one| one.sandbox == session.sandbox && one.running);
            let turns = context.store.open_turns(session.id).await?;
            if alive {
                recovered.attached += 1;
            } else if turns.is_empty() {
                continue;
            } else {
                recovered.interrupted += 1;
            }
            let live = context.live(&session);
            let request = if alive { Request::Attach } else { Request::Lost };
            if live.requests.send(request).await.is_err() {
                let error = SessionError::Closing;
                tracing::error!(session_id = %session.id, error = %error, "a session can not be taken up");
            }
        }
        for orphan in listed.iter().filter(|one| !owned.contains(&one.sandbox)) {
            recovered.orphans += 1;
            tracing::warn!(sandbox_id = %orphan.sandbox, "sandbox belongs to no session, removing it");
            // Not waited for: a folder may hold millions of files, and nobody is served meanwhile.
            context.clear_later(orphan.sandbox);
        }
        Ok(recovered)
    }
}
