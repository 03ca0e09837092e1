//! Removal of what is not needed any more: ended sessions after their time, snapshots beyond their
//! bound, versions of agents that nobody runs, old entries of the audit log, files of tenants that have
//! expired, and files of which no row knows.
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

mod files;
pub mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use self::plan::{GRACE, Inventory, Item, OneSnapshot, Plan, Rules, SessionFacts, SnapshotFacts, Stage, VersionFacts};
use crate::agent::{ContentError, Versions};
use crate::fault::{self, Point};
use crate::project_file::ProjectFiles;
use crate::report::chain;
use crate::session::Sessions;
use crate::session::attachments::AttachmentError;
use crate::snapshot::{SnapshotError, Snapshots};
use crate::store::{Pending, Store, StoreError, now};
use crate::wire::gc::{GcKind, GcRemoval, GcReport};
use crate::wire::quantity::TimeSpan;
use crate::wire::session::Status;
use crate::wire::{SessionId, Timestamp};

/// How long from one run to the next.
const PAUSE: Duration = Duration::from_secs(3600);
/// What is removed in one transaction at most, so that the database's one writer is not held up: rows,
/// and bytes that they have together, since some are tool results of megabytes. One row goes in any case.
const ROWS: usize = 500;
const BYTES: u64 = 8 << 20;
/// Results of evals that are removed at once: each may have megabytes.
const RESULTS: usize = 50;

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
    /// Attachments can not be read or removed.
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    /// A task was broken off.
    #[error("the work was broken off")]
    Broken(#[from] tokio::task::JoinError),
    /// It is needed after all.
    #[error("it is needed now")]
    Needed,
}

/// What is told of a removal: kind, name, reason and bytes, and why it failed.
fn removal((kind, name, reason, bytes): (GcKind, String, String, u64), error: Option<String>) -> GcRemoval {
    GcRemoval { kind, name, reason, bytes, error }
}

/// Removes what is not needed any more.
#[derive(Debug)]
pub struct Gc {
    store: Arc<dyn Store>,
    snapshots: Snapshots,
    versions: Arc<Versions>,
    sessions: Sessions,
    files: ProjectFiles,
    rules: Rules,
    running: Mutex<()>,
}

impl Gc {
    /// Goes by these rules.
    pub fn new(
        store: Arc<dyn Store>,
        snapshots: Snapshots,
        versions: Arc<Versions>,
        sessions: Sessions,
        files: ProjectFiles,
        rules: Rules,
    ) -> Self {
        Self { store, snapshots, versions, sessions, files, rules, running: Mutex::new(()) }
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
        let outcome = self.run_alone(dry).await;
        if !dry {
            let word = if outcome.is_ok() { "ok" } else { "failed" };
            self.sessions.metrics().gc_runs.with_label_values(&[word]).inc();
        }
        outcome
    }

    async fn run_alone(&self, dry: bool) -> Result<GcReport, GcError> {
        let inventory = self.inventory().await?;
        let Plan { removals, over_bytes } = plan::plan(&inventory, &self.rules);
        let metrics = self.sessions.metrics();
        let mut held: u64 = inventory.snapshots.values().map(|facts| facts.bytes).sum();
        let mut report = GcReport { dry_run: dry, removals: Vec::new(), bytes: 0, over_bytes };
        for removal in removals {
            let (kind, name) = (removal.item.kind(), removal.item.name());
            let outcome = if dry { Ok(()) } else { self.remove(removal.item).await };
            let error = outcome.err().map(|error| chain(&error));
            if error.is_none() && !dry {
                held -= if matches!(removal.item, Item::Version(_) | Item::Attachment(..)) { 0 } else { removal.bytes.min(held) };
            }
            self.note(&mut report, self::removal((kind, name, removal.reason, removal.bytes), error));
        }
        self.files(&mut report).await;
        self.audit(&mut report).await;
        if !dry && let Err(error) = self.sessions.remove_old_layers().await {
            tracing::warn!(
                error = chain(&error),
                "what was installed for versions that are gone can not be removed now, ignoring"
            );
        }
        if !dry {
            self.forget_items(inventory.now).await;
        }
        metrics.snapshot_bytes.set(i64::try_from(held).unwrap_or(i64::MAX));
        if over_bytes > 0 {
            tracing::warn!(over_bytes, "snapshots that are needed have more bytes than retention.snapshot_bytes");
        }
        Ok(report)
    }

    /// Takes what was removed, or would be, into the report.
    fn note(&self, report: &mut GcReport, removal: GcRemoval) {
        let GcRemoval { kind, name, reason, bytes, error } = &removal;
        match error {
            Some(error) => {
                tracing::warn!(kind = kind.as_str(), name, error, "what is not needed can not be removed now, ignoring")
            }
            None => report.bytes += bytes,
        }
        if error.is_none() && !report.dry_run {
            let metrics = self.sessions.metrics();
            tracing::info!(kind = kind.as_str(), name, bytes, reason, "removed");
            metrics.gc_removed.with_label_values(&[kind.as_str()]).inc();
            metrics.gc_removed_bytes.with_label_values(&[kind.as_str()]).inc_by(*bytes);
        }
        report.removals.push(removal);
    }

    /// Removes what is old of the audit log; or, dry, tells how much would be.
    async fn audit(&self, report: &mut GcReport) {
        let Some(kept) = self.rules.audit_after else { return };
        let before = Timestamp(now().millis().saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)));
        let outcome = if report.dry_run { self.store.count_audit(before).await } else { self.remove_audit(before).await };
        let (entries, error) = match outcome {
            Ok(0) => return,
            Ok(entries) => (entries, None),
            Err(error) => {
                tracing::warn!(error = chain(&error), "old entries of the audit log can not be removed now, ignoring");
                (0, Some(chain(&error)))
            }
        };
        let reason = format!("older than retention.audit_after, {}", TimeSpan(kept.as_secs()));
        if error.is_none() && !report.dry_run {
            tracing::info!(entries, reason, "entries of the audit log removed");
            self.sessions.metrics().gc_removed.with_label_values(&[GcKind::AuditEntries.as_str()]).inc_by(entries);
        }
        report.removals.push(GcRemoval {
            kind: GcKind::AuditEntries,
            name: format!("{entries} entries"),
            reason,
            bytes: 0,
            error,
        });
    }

    async fn remove_audit(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            match self.store.remove_audit(before, ROWS).await? {
                0 => return Ok(removed),
                some => removed += some as u64,
            }
        }
    }

    /// Removes items of the queue and runs of evals that were over so long ago as sessions are kept, and what is left of
    /// runs whose agent was deleted.
    async fn forget_items(&self, now: Timestamp) {
        self.forget_old(now).await;
        if let Err(error) = all(RESULTS, || self.store.remove_results(RESULTS)).await {
            tracing::warn!(error = chain(&error), "results of evals can not be removed now, ignoring");
        }
    }

    async fn forget_old(&self, now: Timestamp) {
        let Some(kept) = self.rules.ended_after else { return };
        let before = Timestamp(now.millis().saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)));
        if let Err(error) = all(ROWS, || self.store.forget_items(before, ROWS)).await {
            tracing::warn!(error = chain(&error), "items of the queue can not be removed now, ignoring");
        }
        if let Err(error) = all(ROWS, || self.store.forget_runs(before, ROWS)).await {
            tracing::warn!(error = chain(&error), "runs of evals can not be removed now, ignoring");
        }
    }

    async fn inventory(&self) -> Result<Inventory, GcError> {
        // Rows before files, which are written first: one that is known has its file then.
        let attachments = self.store.attachment_ids().await?.into_iter().collect();
        let attachment_files = self.sessions.attachment_files().await?;
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
            attachments,
            attachment_files,
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
                self.sessions.remove_attachment_files(id, None).await?;
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
            Item::Attachment(session, id) => {
                let known = self.store.attachments(session).await?.iter().any(|row| row.id == id);
                let is_whole = known && self.sessions.has_attachment_file(session, id).await?;
                if is_whole && self.store.knows_session(session).await? {
                    return Err(GcError::Needed);
                }
                self.store.forget_attachment(id).await?;
                self.sessions.remove_attachment_files(session, Some(id)).await?;
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

/// Removes so many at a time until there are no more.
async fn all<'a>(step: usize, remove: impl Fn() -> Pending<'a, usize>) -> Result<(), StoreError> {
    while remove().await? >= step {}
    Ok(())
}
