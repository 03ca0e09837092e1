//! A sandbox that is not what the log says, and events that are not what the log has.

use super::*;
use crate::link::shim::ShimState;
use crate::session::open::STOP_GRACE;
use crate::session::sweep;

impl Driver {
    /// Makes the host and the log agree, where nobody is at work on that: a sandbox that is up is
    /// connected to, one whose end was told is ended, the end of one that is gone is told, and a
    /// folder whose snapshot took its place is removed.
    pub(super) async fn compare(&mut self) {
        if !matches!(self.sandbox, Sandbox::Cold) || self.life.state.change.is_some() || self.session.status == Status::Starting {
            return;
        }
        let sandbox = self.session.sandbox;
        let found = match self.context.launcher.list().await {
            Ok(all) => all.into_iter().find(|one| one.sandbox == sandbox),
            Err(error) => {
                tracing::warn!(session_id = %self.session.id, error = chain(&error), "the sandbox can not be looked for, leaving it to the next sweep");
                return;
            }
        };
        let runs = found.as_ref().is_some_and(|one| one.running);
        let is_up = self.session.sandbox_boot.is_some();
        let mended = match (runs, is_up) {
            (true, true) => {
                self.open();
                return;
            }
            (false, true) => return self.lost().await,
            (true, false) => self.context.launcher.stop(sandbox, STOP_GRACE).await,
            (false, false) => {
                let Some(found) = found else { return };
                match sweep::is_left_over(&self.context, &self.session.living(), &found).await {
                    Ok(true) => self.context.launcher.remove(sandbox).await,
                    Ok(false) => return,
                    Err(error) => {
                        tracing::warn!(session_id = %self.session.id, error = chain(&error), "whether a folder is needed can not be found out, leaving it");
                        return;
                    }
                }
            }
        };
        match mended {
            Ok(()) => {
                tracing::warn!(session_id = %self.session.id, sandbox_id = %sandbox, runs, "removed what was left of a sandbox")
            }
            Err(error) => {
                tracing::warn!(session_id = %self.session.id, sandbox_id = %sandbox, error = chain(&error), "what is left of a sandbox can not be removed now");
            }
        }
    }

    /// Number of the newest event of this life of a shim that is stored.
    pub(super) fn heard_of(&self, incarnation: uuid::Uuid) -> i64 {
        self.session.heard.filter(|(life, _)| *life == incarnation).map_or(0, |(_, through)| through)
    }

    /// The shim has no events up to number `acked` any more, since a daemon acknowledged them, and
    /// this database has not got all of them: it is an older state of the one that has. They are
    /// lost. The log says so, and goes on after them; turns that are open here may have been over
    /// there, so that they end instead of being given again. The one that the shim works at stays.
    pub(super) async fn pass_over_lost(&mut self, shim: &ShimState, acked: u64) {
        let (have, acked) = (self.heard_of(shim.incarnation), acked.cast_signed());
        if acked <= have {
            return;
        }
        let (from, kept) = (have + 1, shim.turn);
        tracing::error!(
            session_id = %self.session.id, from, through = acked,
            "the sandbox had handed over events that the database does not have, going on without them; was an older state of it restored?"
        );
        let data = serde_json::json!({
            "action": "events_lost", "from": from, "through": acked,
            "detail": "the sandbox had handed them over to a newer state of the database",
        });
        let mut events = vec![event(Kind::Lifecycle, None, data.to_string())];
        let cause = "the database was put back to an earlier state, in which this turn was not over";
        // What was asked for since can not have been over there.
        let is_over = |turn: &Waiting| turn.is_found && Some(turn.id) != kept;
        if kept.is_none() {
            events.extend(self.unanswered_patiently().await);
        }
        let (own_over, own): (Vec<_>, Vec<_>) = std::mem::take(&mut self.own).into_iter().partition(|turn| Some(*turn) != kept);
        let (queue_over, queue): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.queue).into_iter().partition(is_over);
        let ended = self.running.take_if(|turn| is_over(turn)).into_iter().chain(queue_over).map(|turn| turn.id).chain(own_over);
        (self.own, self.queue) = (own, queue);
        self.interrupting &= self.running.is_some();
        events.extend(ended.flat_map(|turn| self.failure(turn, EndState::Interrupted, cause)));
        let skipped = Some((shim.incarnation, acked));
        self.advance_or_log(Advance { events, skipped, ..Advance::default() }).await;
        self.session.heard = skipped;
        self.refuse_answers();
    }

    /// A dead shim left events that this database will never take: they are set aside, and what
    /// comes after them goes on. Otherwise each sandbox of the session would find them again.
    pub(super) async fn set_aside(&mut self, incarnation: uuid::Uuid, (first, last): (i64, i64), error: &StoreError) {
        tracing::error!(
            session_id = %self.session.id, first, last, error = %error,
            "events that an ended sandbox left can not be stored, going on without them"
        );
        let data = serde_json::json!({
            "action": "events_lost", "from": first, "through": last, "detail": format!("they can not be stored: {error}"),
        });
        let events = vec![event(Kind::Lifecycle, None, data.to_string())];
        self.advance_or_log(Advance { events, skipped: Some((incarnation, last)), ..Advance::default() }).await;
        // The turns are as the store knows them.
        (self.running, self.interrupting) = (None, false);
        self.own.clear();
        self.queue.clear();
        if let Err(error) = self.load().await {
            tracing::error!(session_id = %self.session.id, error = %error, "a session can not be loaded again");
        }
    }
}
