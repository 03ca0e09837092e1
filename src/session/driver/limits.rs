//! What the session may use, changed while it lives, and the end of sandboxes that lived long enough.

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::*;
use crate::lifecycle::{Effect, Sandbox as Kept};
use crate::session::limits;
use crate::wire::limits::{AT_NEXT_TURN, Limits, Reached};

impl Driver {
    /// Changes what the session may use. The answer names what of it does not count yet.
    pub(super) async fn change_limits(&mut self, change: Map<String, Value>) -> Result<Vec<String>, SessionError> {
        let old = self.session.config.limits.unwrap_or_default();
        let new = old.changed(change).map_err(|fault| limits::invalid("", fault))?;
        limits::check(&self.context, "", &new)?;
        let before = limits::of(&self.context, &self.session);
        let own = (new != Limits::default()).then_some(new);
        let config = SessionConfig { limits: own, ..self.session.config.clone() };
        let data = serde_json::json!({"action": "limits", "limits": new});
        let events = vec![event(Kind::Lifecycle, None, data.to_string())];
        let settings = Some((self.session.model.clone(), config.clone()));
        let stored = self.store(Advance { events, settings, ..Advance::default() }).await?;
        self.session.config = config;
        self.publish(stored);
        self.life.rules = rules(&self.context, &self.session);
        let after = limits::of(&self.context, &self.session);
        let (said_before, said_after) = (before.said(), after.said());
        let changed = |name: &&str| said_before.get(*name) != said_after.get(*name);
        let mut pending = Vec::new();
        if matches!(self.sandbox, Sandbox::Up(_)) {
            pending.extend(AT_NEXT_TURN.iter().filter(|name| changed(name)).map(|name| (*name).to_owned()));
        }
        if limits::of_unit(&before) != limits::of_unit(&after) && !self.limit_unit().await {
            pending.extend(OF_UNIT.iter().filter(|name| changed(name)).map(|name| (*name).to_owned()));
        }
        self.pass_settings().await;
        Ok(pending)
    }

    /// Puts the limits on the unit of a sandbox that is up. Says whether they count, which they also do
    /// where the next one begins with them.
    async fn limit_unit(&mut self) -> bool {
        match &self.sandbox {
            Sandbox::Cold => return true,
            Sandbox::Opening(_) => {
                self.limits_changed = true;
                return true;
            }
            Sandbox::Up(_) => {}
        }
        self.limits_changed = false;
        let limits = limits::of_unit(&limits::of(&self.context, &self.session));
        match self.context.launcher.limit(self.session.sandbox, &limits).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(session_id = %self.session.id, error = chain(&error), "limits of a sandbox can not be changed now, ignoring");
                false
            }
        }
    }

    /// Catches up with a change that came while the sandbox was being started.
    pub(super) async fn catch_up_limits(&mut self) {
        if self.limits_changed {
            self.limit_unit().await;
        }
    }

    /// When the sandbox has lived as long as it may, if there is one and nothing else is under way but what
    /// waits for a turn.
    pub(super) fn expires(&self) -> Option<(Instant, ())> {
        let is_there = matches!(self.life.state.sandbox, Kept::Up | Kept::Frozen);
        let may = match self.life.state.change {
            None => is_there,
            Some((change, _)) => is_there && !change.interrupts() && !self.life.expired && self.begun().next().is_some(),
        };
        let may = may && !self.life.state.closing;
        let since = self.up_since.filter(|_| may)?;
        let lifetime = self.life.rules.lifetime?;
        Some((since + Duration::from_secs(lifetime.0), ()))
    }

    /// Ends a sandbox that has lived as long as it may: its turn is interrupted, and a snapshot is taken.
    pub(super) async fn expire(&mut self) {
        tracing::info!(session_id = %self.session.id, "the sandbox has lived as long as it may, ending it");
        self.life.expired = true;
        if self.life.state.change.is_some() {
            // It is ended when that is done, which now does not wait for the turn any more.
            self.perform(Effect::Interrupt).await;
        } else {
            self.live(Input::Begin(Change::Expire)).await;
        }
    }

    /// The cause of turns that end with such a sandbox.
    pub(super) fn expiry(&self) -> Option<String> {
        self.life.expired.then(|| Reached::Lifetime.cause(EXPIRED))
    }
}

/// What is told of a sandbox that has lived as long as it may.
pub(super) const EXPIRED: &str = "the sandbox has lived as long as it may";

/// The fields that the launcher puts into effect. That of the disk counts in the shim all the same, but what a
/// quota of the file system refuses may be less.
const OF_UNIT: [&str; 9] = [
    "memoryMb",
    "memoryHighMb",
    "swapMb",
    "cpuPercent",
    "maxProcesses",
    "diskMb",
    "ioWeight",
    "ioReadMbPerSecond",
    "ioWriteMbPerSecond",
];
