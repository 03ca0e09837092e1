//! Removal of what is not needed any more: ended sessions after their time, snapshots beyond their
//! bound, versions of agents that nobody runs, and files of which no row knows.
//!
//! ```text
//!  store, snapshots, agents ──▶ Inventory ──plan──▶ Plan ──▶ carried out, one by one ──▶ report
//! ```
//!
//! The [`mod@plan`] is a pure function of what there is, so a dry run tells what the next run
//! removes. What has changed in between is looked at once more before each removal. It runs at the
//! start of the daemon, every hour, and when it is asked for; one at a time.
//!
//! Sandboxes are not its business, and neither is what a crash left half written: that goes when
//! snapshots and versions are opened.

pub mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use self::plan::{GRACE, Inventory, Item, OneSnapshot, Plan, Rules, SessionFacts, SnapshotFacts, Stage, VersionFacts};
use crate::agent::{ContentError, Versions};
use crate::fault::{self, Point};
use crate::report::chain;
use crate::session::Sessions;
use crate::snapshot::{SnapshotError, Snapshots};
use crate::store::{Store, StoreError, now};
use crate::wire::gc::{GcRemoval, GcReport};
use crate::wire::session::Status;
use crate::wire::{SessionId, Timestamp};

/// How long from one run to the next.
const PAUSE: Duration = Duration::from_secs(3600);
/// What is removed in one transaction at most, so that the database's one writer is not held up: rows,
/// and bytes that they have together, since some are tool results of megabytes. One row goes in any case.
const ROWS: usize = 500;
const BYTES: u64 = 8 << 20;

/// Why it could not be seen what there is, or something could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// Snapshots can not be read or removed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Versions of agents can not be read or removed.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A task was broken off.
    #[error("the work was broken off")]
    Broken(#[from] tokio::task::JoinError),
    /// It is needed after all.
    #[error("it is needed now")]
    Needed,
}

/// Removes what is not needed any more.
#[derive(Debug)]
pub struct Gc {
    store: Arc<dyn Store>,
    snapshots: Snapshots,
    versions: Arc<Versions>,
    sessions: Sessions,
    rules: Rules,
    running: Mutex<()>,
}

impl Gc {
    /// Goes by these rules.
    pub fn new(store: Arc<dyn Store>, snapshots: Snapshots, versions: Arc<Versions>, sessions: Sessions, rules: Rules) -> Self {
        Self { store, snapshots, versions, sessions, rules, running: Mutex::new(()) }
    }

    /// Runs now and every hour, for ever.
    pub async fn keep_running(self: Arc<Self>) {
        loop {
            if let Err(error) = self.run(false).await {
                tracing::warn!(error = chain(&error), "it can not be seen what is not needed any more, trying again in an hour");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Removes what can go; or, `dry`, only tells what would. What could not be removed is told in the
    /// report, and does not keep the rest.
    ///
    /// # Errors
    ///
    /// What keeps it from seeing what there is. Nothing is removed then.
    pub async fn run(&self, dry: bool) -> Result<GcReport, GcError> {
        let _one_at_a_time = self.running.lock().await;
        let inventory = self.inventory().await?;
        let Plan { removals, over_bytes } = plan::plan(&inventory, &self.rules);
        let metrics = self.sessions.metrics();
        let mut held: u64 = inventory.snapshots.values().map(|facts| facts.bytes).sum();
        let mut report = GcReport { dry_run: dry, removals: Vec::new(), bytes: 0, over_bytes };
        for removal in removals {
            let (kind, name) = (removal.item.kind(), removal.item.name());
            let outcome = if dry { Ok(()) } else { self.remove(removal.item).await };
            let error = outcome.err().map(|error| chain(&error));
            match &error {
                Some(error) => {
                    tracing::warn!(kind = kind.as_str(), name, error, "what is not needed can not be removed now, ignoring")
                }
                None => report.bytes += removal.bytes,
            }
            if error.is_none() && !dry {
                tracing::info!(kind = kind.as_str(), name, bytes = removal.bytes, reason = removal.reason, "removed");
                metrics.gc_removed.with_label_values(&[kind.as_str()]).inc();
                metrics.gc_removed_bytes.with_label_values(&[kind.as_str()]).inc_by(removal.bytes);
                held -= if matches!(removal.item, Item::Version(_)) { 0 } else { removal.bytes.min(held) };
            }
            report.removals.push(GcRemoval { kind, name, reason: removal.reason, bytes: removal.bytes, error });
        }
        if !dry && let Err(error) = self.sessions.remove_old_layers().await {
            tracing::warn!(
                error = chain(&error),
                "what was installed for versions that are gone can not be removed now, ignoring"
            );
        }
        metrics.snapshot_bytes.set(i64::try_from(held).unwrap_or(i64::MAX));
        if over_bytes > 0 {
            tracing::warn!(over_bytes, "snapshots that are needed have more bytes than retention.snapshot_bytes");
        }
        Ok(report)
    }

    async fn inventory(&self) -> Result<Inventory, GcError> {
        // Files before rows: what gets its row in between is known then.
        let mut snapshots = BTreeMap::new();
        for id in self.snapshots.sessions().await? {
            snapshots.insert(id, self.snapshots_of(id).await?);
        }
        let versions = self.versions.clone();
        let versions = tokio::task::spawn_blocking(move || versions.list()).await??;
        let uses = self.store.uses().await?;
        // After the rows: a session is leaving before its row says that it has ended.
        let leaving: BTreeSet<_> = self.sessions.leaving().into_iter().collect();
        let sessions = uses.sessions.into_iter().map(|session| {
            let stage = match session.status {
                _ if session.is_disowned => Stage::Disowned,
                Status::Ended if leaving.contains(&session.id) => Stage::Leaving,
                Status::Ended => Stage::Ended { at: session.last_active_at },
                _ => Stage::Alive,
            };
            SessionFacts { id: session.id, digest: session.digest, stage }
        });
        Ok(Inventory {
            now: now(),
            sessions: sessions.collect(),
            snapshots,
            versions: versions
                .into_iter()
                .map(|found| VersionFacts {
                    digest: found.digest,
                    bytes: found.bytes,
                    deployed_at: Timestamp::from_system(found.deployed_at),
                })
                .collect(),
            current: uses.current.into_iter().collect(),
            deploys: uses.deploys,
        })
    }

    async fn snapshots_of(&self, id: SessionId) -> Result<SnapshotFacts, SnapshotError> {
        let each = self.snapshots.list(id).await?.into_iter().map(|one| {
            let found = one.state.ok();
            OneSnapshot {
                event: one.id.event,
                created_at: found.as_ref().map(|manifest| manifest.created_at),
                bytes: found.map_or(0, |manifest| manifest.stored_bytes),
            }
        });
        Ok(SnapshotFacts { each: each.collect(), bytes: self.snapshots.usage(id).await? })
    }

    async fn remove(&self, item: Item) -> Result<(), GcError> {
        match item {
            Item::Session(id) => {
                // From here on nobody finds it, and the next run goes on where this one ends.
                self.store.disown_session(id).await?;
                fault::at(Point::GcDisowned);
                self.snapshots.remove_all(id).await?;
                fault::at(Point::GcEmptied);
                while self.store.remove_session(id, ROWS, BYTES).await? {
                    fault::at(Point::GcPart);
                }
                fault::at(Point::GcGone);
            }
            Item::Orphans(id) => {
                if self.store.knows_session(id).await? {
                    return Err(GcError::Needed);
                }
                self.snapshots.remove_all(id).await?;
            }
            Item::Snapshot { id, needs_newer } => {
                // All bytes of it are read: its manifest alone does not tell that it is whole.
                let newest = if needs_newer { self.snapshots.newest(id.session).await? } else { None };
                if needs_newer && newest.is_none_or(|newest| newest.event <= id.event) {
                    return Err(GcError::Needed);
                }
                self.snapshots.remove(id).await?;
                fault::at(Point::GcSnapshot);
            }
            Item::Version(digest) => {
                if self.store.version_in_use(&digest.to_string()).await? {
                    return Err(GcError::Needed);
                }
                let versions = self.versions.clone();
                let removed = tokio::task::spawn_blocking(move || versions.remove_older(&digest, GRACE)).await??;
                if !removed {
                    return Err(GcError::Needed);
                }
            }
        }
        Ok(())
    }
}
