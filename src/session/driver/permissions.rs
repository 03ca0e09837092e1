//! Requests for permission: answered through the shim, which has them.
//!
//! The shim decides which answer comes first (a caller's, or the configured one when time is up)
//! and tells of it with an event. So an answer is passed on to it, and whoever gave it hears how
//! the request stands in the log when that event is stored.

use std::time::Duration;

use super::*;
use crate::link::daemon::{LinkError, ShimHandle};
use crate::link::shim::NOT_WAITING;
use crate::store::PermissionFilter;
use crate::wire::permission::{Behavior, PermissionResolved, Resolver, Scope};

/// How long an answer may take from the shim to the log.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Requests that one turn can have waiting, and more.
const UNANSWERED_MAX: usize = 1000;

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: PermissionId,
    pub(super) answer: PermissionAnswer,
    pub(super) reply: Reply<PermissionRow>,
}

impl Driver {
    pub(super) async fn answer(&mut self, pending: Pending) {
        let row = match self.context.store.get_permission(self.session.id, pending.id).await {
            Ok(row) => row,
            Err(StoreError::NotFound(_)) => return answer(pending.reply, Err(SessionError::NoPermission)),
            Err(error) => return answer(pending.reply, Err(error.into())),
        };
        if row.resolved.is_some() {
            return answer(pending.reply, Err(SessionError::Resolved));
        }
        self.answers.push(pending);
        self.send_answers();
    }

    /// Passes on what waits, if there is somebody to pass it to.
    pub(super) fn send_answers(&mut self) {
        match &self.sandbox {
            Sandbox::Up(connection) if self.settling.is_none() => {
                for pending in self.answers.drain(..) {
                    let log = (self.context.clone(), self.session.id, self.tail.subscribe());
                    tokio::spawn(pass_on(connection.handle.clone(), pending, log));
                }
            }
            Sandbox::Up(_) | Sandbox::Opening(_) => {}
            Sandbox::Cold => self.fail_answers("the sandbox has ended"),
        }
    }

    pub(super) fn fail_answers(&mut self, why: &str) {
        for pending in self.answers.drain(..) {
            answer(pending.reply, Err(SessionError::Unanswerable(why.to_owned())));
        }
    }

    /// Answers that were kept for a sandbox whose requests are resolved now.
    pub(super) fn refuse_answers(&mut self) {
        for pending in self.answers.drain(..) {
            answer(pending.reply, Err(SessionError::Resolved));
        }
    }

    /// The events that end the requests nobody will answer any more.
    pub(super) async fn unanswered(&self) -> Result<Vec<NewEvent>, StoreError> {
        let filter = PermissionFilter { after: 0, pending: true, limit: UNANSWERED_MAX, bytes: None };
        let rows = self.context.store.permissions(self.session.id, filter).await?;
        let resolved = |row: PermissionRow| {
            let by = Resolver::TurnEnd;
            let data = PermissionResolved {
                id: row.id,
                behavior: Behavior::Deny,
                scope: Scope::Once,
                by,
                message: None,
                rules: Vec::new(),
            };
            event(Kind::PermissionResolved, row.turn, serde_json::to_string(&data).unwrap_or_default())
        };
        Ok(rows.into_iter().map(resolved).collect())
    }
}

type Log = (Arc<Context>, crate::wire::SessionId, watch::Receiver<i64>);

/// Gives an answer to the shim, and waits until the log knows what came of it.
async fn pass_on(shim: ShimHandle, pending: Pending, log: Log) {
    let Pending { id, answer: body, reply } = pending;
    let passed = shim.call(|op| ToShim::Answer { op, id, answer: body }).await;
    let outcome = match passed {
        Ok(()) => tokio::time::timeout(ANSWER_DEADLINE, resolved(log, id)).await.unwrap_or(Err(SessionError::Closing)),
        // Somebody or the clock was faster, and the event that tells of it is on its way.
        Err(LinkError::Failed(reason)) if reason == NOT_WAITING => {
            let known = tokio::time::timeout(ANSWER_DEADLINE, resolved(log, id)).await;
            Err(known.unwrap_or(Err(SessionError::Unanswerable(reason))).map_or_else(|error| error, |_| SessionError::Resolved))
        }
        Err(LinkError::Failed(reason)) => Err(SessionError::Unanswerable(reason)),
        Err(error) => Err(SessionError::Unanswerable(chain(&error))),
    };
    answer(reply, outcome);
}

async fn resolved((context, session, mut tail): Log, id: PermissionId) -> Result<PermissionRow, SessionError> {
    loop {
        tail.borrow_and_update();
        let row = context.store.get_permission(session, id).await?;
        if row.resolved.is_some() {
            return Ok(row);
        }
        tail.changed().await.map_err(|_| SessionError::Closing)?;
    }
}
