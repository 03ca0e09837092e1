//! The end of what runs inside when it has taken more of the disk than it may ([`disk`](crate::shim::disk)).

use serde_json::json;
use tokio::time::Instant;

use super::{Archive, Driver, ProcessState, RoomState};
use crate::link::shim::{LogLevel, RunLimits};
use crate::runtime::Event;
use crate::shim::disk::{Filled, Found, Taken, Verdict};
use crate::wire::TurnId;
use crate::wire::event::Kind;
use crate::wire::limits::Reached;

impl Driver {
    /// Takes up the limit that the session's options say now.
    pub(super) fn apply_disk_limit(&mut self) {
        let limit = self.limits().and_then(most);
        self.disk.limit(limit);
    }

    /// Whether something can write, and that is not Ash itself.
    fn is_watched(&self) -> bool {
        // While a bundle is laid over the workspace, what runs goes on. A look would change modes that are packed.
        let is_replaced = self.unpacking.as_ref().is_some_and(|unpacking| !matches!(unpacking.archive, Archive::Bundle { .. }));
        let is_still = is_replaced || (self.packing.is_some() && !self.is_busy());
        matches!(self.room, RoomState::Open { .. }) && !is_still && self.stop_at.is_none()
    }

    fn is_busy(&self) -> bool {
        !self.programs.is_empty() || self.bills.running().next().is_some() || matches!(self.process, ProcessState::Starting)
    }

    pub(super) fn disk_deadline(&self) -> Option<Instant> {
        self.is_watched().then(|| self.disk.next(self.is_busy())).flatten()
    }

    pub(super) fn look_at_disk(&mut self) {
        // Before the clock, as one that is due at once is due now.
        let due = self.disk_deadline();
        let now = Instant::now();
        if due.is_some_and(|at| at <= now) {
            let filled = Filled::of(&self.args.state);
            self.disk.tick(now, self.is_busy(), filled);
        }
    }

    /// Takes what was found on the disk.
    pub(super) async fn measured(&mut self, found: Found) {
        let verdict = self.disk.found(found);
        if self.unpacking.as_ref().is_some_and(|unpacking| !matches!(unpacking.archive, Archive::Bundle { .. })) {
            // It is about what goes away.
            return self.disk.forget();
        }
        let cause = self.disk.cause(found.taken);
        match verdict {
            Verdict::Fine => {}
            Verdict::TooMuch => self.end_inside(cause).await,
            Verdict::StillOver(refuse) => {
                if refuse {
                    self.refuse_turn(&cause);
                }
            }
        }
    }

    /// Ends the turn that is about to begin. The runtime does not have it, so its end says nothing of it.
    fn refuse_turn(&mut self, cause: &str) {
        if self.turns.current().is_some_and(|current| !current.begun) {
            self.fail_turn(cause);
        }
    }

    /// Ends all that runs inside but what packs for a snapshot. The sandbox stays.
    async fn end_inside(&mut self, cause: String) {
        tracing::warn!(cause, "ending what runs inside");
        self.book.add(LogLevel::System, &cause);
        let turns: Vec<TurnId> = self.bills.running().map(|(turn, _)| turn).collect();
        let detail = cause.strip_prefix(Reached::Disk.prefix()).map_or("", |rest| rest.trim_start_matches([':', ' ']));
        let data = json!({"action": "limit", "limit": Reached::Disk, "detail": detail});
        self.record(Event::new(turns.first().copied(), Kind::Lifecycle, &data));
        self.reached.retain(|(turn, _)| !turns.contains(turn));
        self.reached.extend(turns.into_iter().map(|turn| (turn, cause.clone())));
        self.programs.iter_mut().for_each(super::run::Program::reach_disk);
        if let ProcessState::Running(running) = &mut self.process {
            running.broken.get_or_insert(cause.clone());
        }
        if let Some(inner) = self.inner() {
            inner.kill_all_but_packing().await;
        }
        self.refuse_turn(&cause);
    }
}

/// What the session may have.
fn most(limits: &RunLimits) -> Option<Taken> {
    let bytes = limits.disk_bytes?;
    Some(Taken { bytes, files: limits.disk_files.unwrap_or(u64::MAX) })
}
