//! From time to time: what the host has is compared with what the store knows, and what belongs to
//! nobody is removed.
//!
//! Nothing here takes a lock against the rest. What makes it safe is the order in which things are
//! looked at, which is the opposite of the order in which they are made: a session is stored before
//! its sandbox is started, so the sandboxes are listed before the sessions are read. What is in
//! that list and has no session by then never gets one. A fork has its snapshot before its row,
//! so [`Sweeping`] knows the forks under way. What is to be done to a sandbox whose session lives
//! is done by its driver ([`Request::Compare`]), which knows whether somebody is at work on it.
//!
//! A store that does not know what it knew before is believed in nothing: rather than removing all
//! that it forgot, a sweep then ends with an error, and so does the start of a daemon.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::driver::Request;
use super::{Context, Phase, Sessions};
use crate::sandbox::{LaunchError, Listed};
use crate::snapshot::{SnapshotError, SnapshotId};
use crate::store::{EventFilter, LivingRow, StoreError};
use crate::wire::event::Kind;
use crate::wire::session::Status;
use crate::wire::{SandboxId, SessionId, Timestamp};

/// How long after something could not be removed a sweep tries again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// How often the file of the database is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Events of a session without a sandbox, at the end of its log, in which the end of its last one is
/// looked for.
const LATEST: u16 = 16;

/// What a sweep found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sandboxes of no session, which are being removed.
    pub orphans: usize,
    /// Sessions whose sandbox is not what the log says, as far as could be seen without their drivers.
    pub differing: usize,
    /// Sessions that do not exist and had snapshots, which were removed.
    pub snapshots: usize,
}

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The sandboxes can not be listed.
    #[error("list sandboxes")]
    List(#[from] LaunchError),
    /// The store can not be asked, or is not the one that a next daemon will find.
    #[error("ask the database")]
    Store(#[from] StoreError),
    /// The snapshots can not be listed or removed.
    #[error("list or remove snapshots")]
    Snapshots(#[from] SnapshotError),
    /// The store has lost all that it knew.
    #[error("the database knows no session any more, and knew {knew} before; {sandboxes} sandboxes are left alone")]
    Forgotten {
        /// Sessions that were not over at the last sweep.
        knew: usize,
        /// Sandboxes on this host.
        sandboxes: usize,
    },
}

/// What sweeps have to leave alone, and what they are told.
#[derive(Debug, Default)]
pub(super) struct Sweeping {
    /// Forks that are being made.
    forking: Mutex<HashSet<SessionId>>,
    /// Sandboxes that are being removed.
    clearing: Mutex<HashSet<SandboxId>>,
    /// Sandboxes in which layers are made.
    installing: Mutex<HashSet<SandboxId>>,
    /// Sessions that were not over when they were last counted.
    knew: AtomicUsize,
    again: Notify,
}

/// Somebody is at work on it until this is dropped.
pub(super) struct Busy<'a, T: Eq + Hash + Copy> {
    all: &'a Mutex<HashSet<T>>,
    one: T,
}

fn lock<T>(all: &Mutex<HashSet<T>>) -> MutexGuard<'_, HashSet<T>> {
    // A set is whole after a panic between two of its operations.
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Eq + Hash + Copy> Drop for Busy<'_, T> {
    fn drop(&mut self) {
        lock(self.all).remove(&self.one);
    }
}

impl Sweeping {
    /// A fork is being made.
    pub(super) fn fork(&self, child: SessionId) -> Busy<'_, SessionId> {
        lock(&self.forking).insert(child);
        Busy { all: &self.forking, one: child }
    }

    /// A sandbox is being removed; `None` if somebody does that already.
    pub(super) fn clear(&self, sandbox: SandboxId) -> Option<Busy<'_, SandboxId>> {
        let is_first = lock(&self.clearing).insert(sandbox);
        // Made and dropped for nothing, it would take the first one's place away, and the lock while it is held.
        is_first.then(|| Busy { all: &self.clearing, one: sandbox })
    }

    /// A layer is being made in a sandbox.
    pub(super) fn install(&self, sandbox: SandboxId) -> Busy<'_, SandboxId> {
        lock(&self.installing).insert(sandbox);
        Busy { all: &self.installing, one: sandbox }
    }

    /// Something could not be removed.
    pub(super) fn ask_for_one(&self) {
        self.again.notify_one();
    }

    /// Notes how many sessions there are that are not over.
    pub(super) fn knows(&self, living: usize) {
        self.knew.store(living, Ordering::Relaxed);
    }
}

/// Whether the folder of a sandbox was to go when a crash or a failure came between, and nothing is lost
/// with it:
///
/// - the log tells of the end of the last sandbox, and names the snapshot that takes the place of its
///   folder;
/// - the processes of the folder were not started since. They would have been, by a newer state of the
///   database that was put back to this one, and what they did is in no snapshot that this log knows;
/// - all of that snapshot is there. Another one will not do, as it has not what this folder has.
///
/// Where one of these can not be seen, the folder stays, and the session goes on in it.
pub(super) async fn is_left_over(context: &Context, session: &LivingRow, found: &Listed) -> Result<bool, SweepError> {
    let filter = EventFilter { kinds: vec![Kind::Lifecycle], ..EventFilter::default() };
    let latest = context.store.events(session.id, (session.tail - i64::from(LATEST)).max(0), usize::from(LATEST), filter).await?;
    let ended = latest.iter().rev().find_map(|event| {
        let data = serde_json::from_str::<serde_json::Value>(&event.data).ok()?;
        (data["action"] == "sandbox_ended").then_some((event.at, data["snapshot"].as_i64()))
    });
    let Some((at, Some(event))) = ended.filter(|_| !session.is_up) else { return Ok(false) };
    // Each start makes its socket anew.
    let started = std::fs::metadata(&found.socket).and_then(|socket| socket.modified()).map(Timestamp::from_system);
    if !started.is_ok_and(|started| started <= at) {
        return Ok(false);
    }
    match context.snapshots.check(SnapshotId { session: session.id, event }).await {
        Ok(_) => Ok(true),
        Err(SnapshotError::NotFound(_) | SnapshotError::Damaged { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Sessions {
    /// Sweeps again and again, at first at once, and tells when the database is not where it was.
    pub async fn keep_swept(self, every: Duration) {
        let context = &self.context;
        loop {
            let outcome = match self.sweep().await {
                // What was removed is told one by one, and so is what a driver mended.
                Ok(swept) => {
                    tracing::debug!(?swept, "swept");
                    let removed = [("sandbox", swept.orphans), ("snapshots", swept.snapshots)];
                    for (kind, count) in removed {
                        context.metrics.sweep_removed.with_label_values(&[kind]).inc_by(count as u64);
                    }
                    "ok"
                }
                Err(error) => {
                    tracing::error!(error = crate::report::chain(&error), "nothing is swept");
                    "failed"
                }
            };
            context.metrics.sweeps.with_label_values(&[outcome]).inc();
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = async {
                    context.sweeping.again.notified().await;
                    tokio::time::sleep(AGAIN_AFTER).await;
                } => {}
            }
        }
    }

    /// Looks whether the file of the database is where it was, and says when it is not.
    pub async fn watch_store(self) {
        let mut told: Option<String> = None;
        loop {
            let found = self.context.store.misplaced();
            if found != told {
                match &found {
                    Some(why) => tracing::error!(error = why, "the database is lost; put it back and restart ashd"),
                    None => tracing::info!("the database is where it was"),
                }
                told = found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Compares once.
    pub async fn sweep(&self) -> Result<Swept, SweepError> {
        let context = &self.context;
        context.store.check().await?;
        // The order is explained above.
        let listed = context.launcher.list().await?;
        let with_snapshots = context.snapshots.sessions().await?;
        let forking = lock(&context.sweeping.forking).clone();
        let sessions = context.store.living_sessions().await?;
        let missing = context.store.missing_sessions(with_snapshots).await?;
        let census = context.store.census().await?;
        let knew = context.sweeping.knew.load(Ordering::Relaxed);
        if census.sessions == 0 && knew > 0 && !(listed.is_empty() && missing.is_empty()) {
            return Err(SweepError::Forgotten { knew, sandboxes: listed.len() });
        }
        context.sweeping.knows(sessions.iter().filter(|session| session.status != Status::Starting).count());

        let mut swept = Swept::default();
        let owned: HashSet<_> = sessions.iter().map(|session| session.sandbox).collect();
        for orphan in listed.iter().filter(|one| !owned.contains(&one.sandbox)) {
            let is_cleared = lock(&context.sweeping.clearing).contains(&orphan.sandbox);
            // A session is stored as ended after it is known that its last snapshot is to come.
            let is_leaving = context.leaving.borrow().values().any(|leaving| leaving.sandbox == orphan.sandbox);
            let is_installing = lock(&context.sweeping.installing).contains(&orphan.sandbox);
            if !is_cleared && !is_leaving && !is_installing {
                swept.orphans += 1;
                self.remove_orphan(orphan.sandbox).await?;
            }
        }
        for session in sessions.iter().filter(|session| session.status != Status::Starting) {
            let found = listed.iter().find(|one| one.sandbox == session.sandbox);
            let runs = found.is_some_and(|one| one.running);
            // What can not be read of one session must not keep all others from being swept.
            let is_left_over = match found {
                Some(found) if !runs && !session.is_up => is_left_over(context, session, found).await.unwrap_or(false),
                _ => false,
            };
            let is_unheard = runs && session.is_up && self.phase(session.id) == Phase::Cold;
            if runs == session.is_up && !is_unheard && !is_left_over {
                continue;
            }
            let row = match context.store.get_session(&session.tenant, session.id).await {
                Err(StoreError::NotFound(_)) => continue,
                row => row?,
            };
            // A driver that has much to do has its sandbox in hand.
            if row.status != Status::Ended && context.live(&row).requests.try_send(Request::Compare.into()).is_ok() {
                swept.differing += 1;
            }
        }
        for session in missing.into_iter().filter(|session| !forking.contains(session)) {
            tracing::warn!(session_id = %session, "snapshots belong to no session, removing them");
            match context.snapshots.remove_all(session).await {
                Ok(()) => swept.snapshots += 1,
                Err(error) => {
                    tracing::warn!(session_id = %session, error = crate::report::chain(&error), "they can not be removed now, leaving them to the next sweep");
                }
            }
        }
        context.snapshots.sweep().await?;
        Ok(swept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_removed_by_one_at_a_time() {
        let sweeping = Sweeping::default();
        let sandbox = SandboxId::new();
        let first = sweeping.clear(sandbox).expect("nobody else does");
        assert!(sweeping.clear(sandbox).is_none());
        assert!(sweeping.clear(sandbox).is_none(), "the first still does");
        drop(first);
        assert!(sweeping.clear(sandbox).is_some());
    }
}
