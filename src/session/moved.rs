//! Which sessions have something to tell webhooks since somebody looked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::store::SessionRow;
use crate::wire::SessionId;

/// A session whose log has grown by an event that webhooks are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grown {
    /// Whose it is.
    pub tenant: String,
    /// Its agent.
    pub agent: String,
}

/// Sessions whose logs have grown so; each counts once, however much was written, so that it takes no more
/// room than there are sessions.
#[derive(Debug, Default)]
pub struct Moved {
    sessions: Mutex<HashMap<SessionId, Grown>>,
    some: Notify,
}

impl Moved {
    /// Something was stored in the log of a session that webhooks are told of.
    pub(super) fn note(&self, session: &SessionRow) {
        let grown = || Grown { tenant: session.tenant.clone(), agent: session.agent.clone() };
        // A panic in one of the short sections leaves the map whole.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).entry(session.id).or_insert_with(grown);
        self.some.notify_one();
    }

    /// Those that have grown since the last call, waiting until there are some. For one caller.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: they are taken when they are returned.
    pub async fn take(&self) -> HashMap<SessionId, Grown> {
        loop {
            let grown = std::mem::take(&mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner));
            if !grown.is_empty() {
                return grown;
            }
            self.some.notified().await;
        }
    }
}
