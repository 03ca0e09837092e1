//! Limits of turns that the shim itself holds them to: their time, and the files of the runtime.
//!
//! A turn that reached a limit is interrupted, and its end names the limit, whatever the runtime calls it.

use std::time::Duration;

use tokio::time::Instant;

use super::Driver;
use crate::link::shim::{EndState, RunLimits, TurnEnd};
use crate::wire::TurnId;
use crate::wire::limits::Reached;

/// Sets limits of a process and becomes another program. Part of util-linux, which is essential in Debian.
const PRLIMIT: &str = "/usr/bin/prlimit";

/// Limits of the runtime's process and all that it starts, which can not be changed while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ProcessLimits {
    open_files: Option<u32>,
    file_bytes: Option<u64>,
}

impl ProcessLimits {
    pub(super) const fn of(limits: &RunLimits) -> Self {
        Self { open_files: limits.open_files, file_bytes: limits.file_bytes }
    }

    /// The command that starts a program under them. They are hard ones, so nothing inside can raise them.
    pub(super) fn wrap(self, argv: Vec<String>) -> Vec<String> {
        let files = self.open_files.map(|count| format!("--nofile={count}:{count}"));
        let size = self.file_bytes.map(|bytes| format!("--fsize={bytes}:{bytes}"));
        let set: Vec<String> = files.into_iter().chain(size).collect();
        if set.is_empty() {
            return argv;
        }
        [PRLIMIT.to_owned()].into_iter().chain(set).chain(["--".to_owned()]).chain(argv).collect()
    }
}

impl Driver {
    pub(super) fn limits(&self) -> Option<&RunLimits> {
        self.session.as_ref().map(|session| &session.setup.options.limits)
    }

    /// Takes up what the session's options say now.
    pub(super) fn apply_limits(&mut self) {
        if let Some(session) = &self.session {
            let limits = &session.setup.options.limits;
            self.gateway.budget(&limits.budget);
            self.output.set(limits.output_rate.unwrap_or(u64::MAX), u64::MAX, Instant::now());
        }
        self.apply_disk_limit();
    }

    /// When the next turn has taken as long as it may.
    pub(super) fn turn_deadline(&self) -> Option<Instant> {
        let most = Duration::from_millis(self.limits()?.turn_ms?);
        let runs = self.bills.running().filter(|(turn, _)| self.reached.iter().all(|(reached, _)| reached != turn));
        runs.map(|(_, begun)| Instant::from_std(begun) + most).min()
    }

    /// Interrupts turns that have taken as long as they may.
    pub(super) async fn end_slow_turns(&mut self) {
        let Some(most) = self.limits().and_then(|limits| limits.turn_ms).map(Duration::from_millis) else { return };
        let now = Instant::now();
        let is_over = |begun: std::time::Instant| Instant::from_std(begun) + most <= now;
        let over: Vec<TurnId> = self.bills.running().filter(|(_, begun)| is_over(*begun)).map(|(turn, _)| turn).collect();
        for turn in over {
            self.reach(turn, Reached::TurnTime, &format!("the turn has run for {} s, as long as it may", most.as_secs())).await;
        }
    }

    /// Interrupts a turn for a limit that it reached.
    pub(super) async fn reach(&mut self, turn: TurnId, limit: Reached, detail: &str) {
        if self.reached.iter().any(|(reached, _)| *reached == turn) {
            return;
        }
        tracing::warn!(turn_id = %turn, limit = limit.prefix(), detail, "turn reached a limit, interrupting it");
        self.reached.push((turn, limit.cause(detail)));
        self.interrupt(Some(turn)).await;
    }

    /// Names the limit at the end of a turn that it ended.
    pub(super) fn name_limit(&mut self, end: &mut TurnEnd) {
        let place = self.reached.iter().position(|(turn, _)| *turn == end.turn_id);
        let reached = place.map(|place| self.reached.swap_remove(place).1);
        let refused = self.gateway.take_refusal().map(|why| Reached::Budget.cause(why));
        if end.state == EndState::Completed {
            return;
        }
        if let Some(cause) = reached {
            (end.state, end.cause) = (EndState::Interrupted, Some(cause));
        } else if let Some(cause) = refused {
            end.cause = Some(cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_wrapped_only_where_something_is_limited() {
        let argv = vec!["/opt/claude/claude".to_owned(), "--print".to_owned()];
        assert_eq!(ProcessLimits::default().wrap(argv.clone()), argv);
        let limits = ProcessLimits::of(&RunLimits { open_files: Some(1024), file_bytes: Some(1 << 20), ..RunLimits::default() });
        let wrapped = limits.wrap(argv).join(" ");
        assert_eq!(wrapped, "/usr/bin/prlimit --nofile=1024:1024 --fsize=1048576:1048576 -- /opt/claude/claude --print");
    }
}
