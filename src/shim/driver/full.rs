//! The end of what runs inside when it has taken more of the disk than it may ([`disk`](crate::shim::disk)), and of a
//! runtime that says so much that the log would fill the host's: that is of no sandbox's disk.

use serde_json::json;
use tokio::time::Instant;

use super::{Archive, Driver, Input, ProcessState, RoomState};
use crate::link::shim::{LogLevel, RunLimits};
use crate::runtime::Event;
use crate::shim::disk::{Filled, Found, Taken, Verdict, Work};
use crate::wire::TurnId;
use crate::wire::event::Kind;
use crate::wire::limits::Reached;

/// Bytes that the runtime may say from one message on to the next, also in turns of its own. All of it is kept in the
/// session's log. What it says of a turn of some hours with everything in parts is some hundred megabytes.
pub const SAID_MAX: u64 = 2 << 30;

impl Driver {
    /// Takes up the limit that the session's options say now.
    pub(super) fn apply_disk_limit(&mut self) {
        let limit = self.limits().and_then(most);
        self.disk.limit(limit);
    }

    /// Whether something can write, and that is not Ash itself.
    fn is_watched(&self) -> bool {
        // While a bundle is laid over the workspace, what runs goes on.
        let is_replaced = self.unpacking.as_ref().is_some_and(|unpacking| !matches!(unpacking.archive, Archive::Bundle { .. }));
        matches!(self.room, RoomState::Open { .. }) && !is_replaced && self.stop_at.is_none()
    }

    /// What turns and programs left running is not known of: while all is packed it may be at work, too.
    fn work(&self) -> Work {
        match self.is_busy() {
            true => Work::Busy,
            false if self.packing.is_some() => Work::Packing,
            false => Work::Idle,
        }
    }

    fn is_busy(&self) -> bool {
        !self.programs.is_empty() || self.bills.running().next().is_some() || matches!(self.process, ProcessState::Starting)
    }

    pub(super) fn disk_deadline(&self) -> Option<Instant> {
        self.is_watched().then(|| self.disk.next(self.work())).flatten()
    }

    pub(super) fn look_at_disk(&mut self) {
        // Before the clock, as one that is due at once is due now.
        let due = self.disk_deadline();
        let now = Instant::now();
        if due.is_some_and(|at| at <= now) {
            let filled = Filled::of(&self.args.state);
            self.disk.tick(now, self.work(), filled);
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
        // Behind that: what it has measured once more is measured when what runs has ended.
        self.weigh_packing(&found);
    }

    /// Ends the turn that is about to begin. The runtime does not have it, so its end says nothing of it.
    fn refuse_turn(&mut self, cause: &str) {
        if self.turns.current().is_some_and(|current| !current.begun) {
            self.fail_turn(cause);
        }
    }

    /// Ends all that runs inside but what packs for a snapshot. The sandbox stays.
    async fn end_inside(&mut self, cause: String) {
        self.note_full(&cause);
        self.programs.iter_mut().for_each(super::run::Program::reach_disk);
        if let ProcessState::Running(running) = &mut self.process {
            running.broken.get_or_insert(cause.clone());
        }
        if let Some(unpacking) = self.unpacking.as_mut().filter(|unpacking| unpacking.chunks.is_none()) {
            unpacking.is_too_much = true;
        }
        if let Some(inner) = self.inner() {
            self.disk.ending();
            let killed = inner.kill_all_but_packing().await;
            self.later(async move {
                killed.done().await;
                Input::Killed
            });
        }
        self.refuse_turn(&cause);
    }

    /// Counts what the runtime says; why it is to be ended, if that is too much.
    pub(super) fn count_said(&mut self, bytes: usize) -> Option<String> {
        let most = self.args.said_max;
        self.said.1 = self.said.1.saturating_add(bytes as u64);
        let is_too_much = self.said.1 > most;
        is_too_much
            .then(|| Reached::Disk.cause(format!("the runtime has said more than {} MiB since the last message", most >> 20)))
    }

    /// Tells that what runs is ended for the disk; turns that run end with this cause.
    pub(super) fn note_full(&mut self, cause: &str) {
        tracing::warn!(cause, "ending what runs inside");
        self.book.add(LogLevel::System, cause);
        let turns: Vec<TurnId> = self.bills.running().map(|(turn, _)| turn).collect();
        let detail = cause.strip_prefix(Reached::Disk.prefix()).map_or("", |rest| rest.trim_start_matches([':', ' ']));
        let data = json!({"action": "limit", "limit": Reached::Disk, "detail": detail});
        self.record(Event::new(turns.first().copied(), Kind::Lifecycle, &data));
        self.reached.retain(|(turn, _)| !turns.contains(turn));
        self.reached.extend(turns.into_iter().map(|turn| (turn, cause.to_owned())));
    }
}

/// What the session may have.
fn most(limits: &RunLimits) -> Option<Taken> {
    let bytes = limits.disk_bytes?;
    Some(Taken { bytes, files: limits.disk_files.unwrap_or(u64::MAX) })
}
