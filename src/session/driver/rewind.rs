//! Back to an earlier snapshot: the session itself, with its workspace and its conversation.
//!
//! Whoever asks has a copy of the wanted snapshot, all of which was read and found whole: what is
//! damaged is refused before anything is touched. A snapshot of how the session is now is taken, so that
//! nothing is lost. Then its processes end and its folder goes, in a task of its own, since a folder may
//! hold millions of files; meanwhile messages wait. In the end the copy becomes the newest snapshot, and
//! an event tells of it. The next sandbox is restored from the newest snapshot, as after a stop.
//!
//! The copy has the id of that event. If the daemon ends in between, the newest snapshot is ahead of
//! the log, and the next start writes the event ([`Sessions::recover`](crate::session::Sessions)).
//! Before the copy has its name, the newest snapshot is that of how it was: the session goes on as if
//! nobody had asked.

use std::time::Duration;

use super::*;
use crate::lifecycle::{Admission, Effect, Sandbox as Processes, admit};
use crate::session::fork::unusable;
use crate::session::open::STOP_GRACE;
use crate::session::snapshot_error;
use crate::snapshot::{PendingCopy, SnapshotId};
use crate::wire::SandboxId;

/// How often the removal of a folder is tried, and the pause in between.
const REMOVE_TRIES: u32 = 5;
const REMOVE_PAUSE: Duration = Duration::from_millis(200);
/// Snapshots that are kept at least: what the session goes on with, and how it was before.
const KEPT: usize = 2;

/// Somebody wants a session to go back.
#[derive(Debug)]
pub(in crate::session) struct Rewind {
    /// The event of the snapshot.
    pub event: i64,
    /// A copy of that, until it is used.
    pub copy: Option<Box<PendingCopy>>,
    /// Whether a turn that runs is interrupted for it.
    pub interrupt: bool,
    /// Told when it is so.
    pub reply: Reply<()>,
}

/// The event that tells of it.
pub(in crate::session) fn rewound(to: i64, saved: Option<i64>) -> NewEvent {
    let mut data = serde_json::json!({"action": "rewound", "eventId": to});
    if let Some(saved) = saved {
        data["savedEventId"] = saved.into();
    }
    event(Kind::Lifecycle, None, data.to_string())
}

/// The event that tells that it was not done.
fn not_rewound(to: i64, error: &SessionError) -> NewEvent {
    let data = serde_json::json!({"action": "rewind_failed", "eventId": to, "error": chain(error)});
    event(Kind::Lifecycle, None, data.to_string())
}

impl Driver {
    /// Goes back; or keeps the request until the change under way is done.
    pub(super) async fn rewind(&mut self, mut rewind: Rewind) {
        match admit(&self.life.state, Verb::Rewind) {
            Admission::Wait => {
                // What is under way may wait for the turn.
                let begun = self.begun().next();
                if let Some(turn) = begun {
                    if !rewind.interrupt {
                        return answer(rewind.reply, Err(SessionError::Busy(turn)));
                    }
                    self.perform(Effect::Interrupt).await;
                }
                return self.life.deferred.push_back(Request::Rewind(rewind));
            }
            Admission::Deny(Status::Ended) => return answer(rewind.reply, Err(SessionError::Over)),
            Admission::Deny(status) => {
                return answer(rewind.reply, Err(SessionError::CanNot { verb: life::word(Verb::Rewind), status }));
            }
            Admission::Accept | Admission::Already => {}
        }
        if let Some(turn) = self.begun().next().filter(|_| !rewind.interrupt) {
            return answer(rewind.reply, Err(SessionError::Busy(turn)));
        }
        if self.life.state.sandbox == Processes::Cold && !self.context.has_folder(self.session.sandbox).await {
            // The newest snapshot is how it is now.
            let saved = self.adopt_newest(rewind.event).await;
            let outcome = self.begin_with(rewind.event, rewind.copy.take(), saved).await;
            self.tell_rewound(rewind.event, &outcome).await;
            return answer(rewind.reply, outcome);
        }
        self.life.askers.push(Asker::Rewind(rewind));
        self.life.packed = None;
        self.live(Input::Begin(Change::Rewind)).await;
    }

    /// The way back that is under way.
    pub(super) fn way_back(&mut self) -> Option<&mut Rewind> {
        self.life.askers.iter_mut().find_map(|asker| if let Asker::Rewind(rewind) = asker { Some(rewind) } else { None })
    }

    /// Ends the processes and removes the folder, which [`Self::returned`] goes on from.
    pub(super) async fn go_back(&mut self) {
        self.part_from_sandbox(true).await;
        let (done, returning) = tokio::sync::oneshot::channel();
        self.life.returning = Some(returning);
        let (context, sandbox) = (self.context.clone(), self.session.sandbox);
        tokio::spawn(async move {
            // If the driver is gone, so is its interest.
            let _ = done.send(remove_folder(&context, sandbox).await);
        });
    }

    /// Has the next sandbox begin with the snapshot that was asked for, if nothing is left of the last
    /// one.
    pub(super) async fn returned(&mut self, is_removed: bool) {
        self.life.returning = None;
        let wanted = self.way_back().map(|rewind| (rewind.event, rewind.copy.take()));
        if let Some((event, copy)) = wanted {
            let saved = self.life.packed.as_ref().and_then(|packed| packed.as_ref().ok()).map(|manifest| manifest.event);
            self.life.rewound = Some(if is_removed {
                self.begin_with(event, copy, saved).await
            } else {
                // The next sandbox goes on in it.
                Err(SessionError::Snapshot("the folder of the sandbox can not be removed now".to_owned()))
            });
        }
        self.live(Input::Returned).await;
    }

    /// Gives the newest snapshot an event of this log, if it is of a newer state of the database than the
    /// one that was put back: how the session is now would be lost with it. Says which.
    async fn adopt_newest(&mut self, wanted: i64) -> Option<i64> {
        let session = self.session.id;
        let newest = self.context.snapshots.newest_event(session).await.ok().flatten()?;
        if newest <= *self.tail.borrow() || newest == wanted {
            return None;
        }
        let copied = match self.context.begin_copy(SnapshotId { session, event: newest }, session).await {
            Ok(copy) => self.begin_with(newest, Some(Box::new(copy)), None).await,
            Err(error) => Err(error),
        };
        match copied {
            Ok(()) => Some(*self.tail.borrow()),
            Err(error) => {
                tracing::warn!(session_id = %session, event = newest, error = chain(&error), "a snapshot that is newer than the log can not be kept, ignoring");
                None
            }
        }
    }

    async fn begin_with(&mut self, event: i64, copy: Option<Box<PendingCopy>>, saved: Option<i64>) -> Result<(), SessionError> {
        let session = self.session.id;
        let copy = copy.ok_or_else(|| SessionError::Snapshot("its copy was used already".to_owned()))?;
        let id = SnapshotId { session, event: *self.tail.borrow() + 1 };
        copy.publish(id.event).await.map_err(|error| unusable(event, error))?;
        fault::at(Point::RewindCopied);
        let stored = match life::remove_newer(&self.context, id).await {
            // It has happened: a database that is away is waited for.
            Ok(()) => {
                let events = vec![rewound(event, saved)];
                self.advance_patiently(Advance { events, ..Advance::default() }).await.map_err(SessionError::from)
            }
            Err(error) => Err(snapshot_error(error)),
        };
        if let Err(error) = stored {
            if let Err(error) = self.context.snapshots.remove(id).await {
                tracing::warn!(session_id = %session, error = chain(&error), "a snapshot stays that the log does not know");
            }
            return Err(error);
        }
        fault::at(Point::RewindStored);
        tracing::info!(session_id = %session, agent = self.session.agent, event, "session went back to a snapshot");
        let context = self.context.clone();
        // Not waited for: it reads all of the newest one.
        tokio::spawn(async move {
            let keep = context.settings.snapshots.keep.max(KEPT);
            if let Err(error) = context.snapshots.prune(session, keep, &[]).await {
                tracing::warn!(session_id = %session, error = chain(&error), "old snapshots can not be removed now");
            }
        });
        Ok(())
    }

    /// Writes down that a way back which was begun came to nothing.
    pub(super) async fn tell_rewound(&mut self, event: i64, outcome: &Result<(), SessionError>) {
        let Err(error) = outcome else { return };
        tracing::warn!(session_id = %self.session.id, event, error = chain(error), "session did not go back to a snapshot");
        let events = vec![not_rewound(event, error)];
        self.advance_or_log(Advance { events, ..Advance::default() }).await;
    }
}

/// Sees to it that nothing of a sandbox is left.
async fn remove_folder(context: &Context, sandbox: SandboxId) -> bool {
    for _ in 0..REMOVE_TRIES {
        let stopped = context.launcher.stop(sandbox, STOP_GRACE).await;
        fault::at(Point::RewindStopped);
        let removed = match stopped {
            Ok(()) => context.launcher.remove(sandbox).await,
            Err(error) => Err(error),
        };
        let Err(error) = removed else {
            fault::at(Point::RewindRemoved);
            return true;
        };
        tracing::warn!(sandbox_id = %sandbox, error = chain(&error), "the sandbox of a session that goes back can not be removed now");
        tokio::time::sleep(REMOVE_PAUSE).await;
    }
    context.sweeping.ask_for_one();
    false
}
