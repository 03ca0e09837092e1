//! What of the network may be reached, changed while the session lives.

use super::sandbox::TELL_DEADLINE;
use super::*;
use crate::session::egress;

/// How long a shim may take to say that a change counts.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);

impl Driver {
    /// Changes it. The answer comes when the sandbox says that the change counts, and says so if it
    /// does not: what is stored will count, but the list before may still do.
    pub(super) async fn change_egress(&mut self, new: Egress, reply: Reply<Applied>) {
        let data = serde_json::json!({"action": "egress", "allow": &new.allow});
        let config = SessionConfig { egress: Some(new), ..self.session.config.clone() };
        let events = vec![event(Kind::Lifecycle, None, data.to_string())];
        let settings = Some((self.session.model.clone(), config.clone()));
        let stored = match self.store(Advance { events, settings, ..Advance::default() }).await {
            Ok(stored) => stored,
            Err(error) => return answer(reply, Err(error)),
        };
        self.session.config = config;
        self.publish(stored);
        if matches!(self.sandbox, Sandbox::Cold) && self.session.sandbox_boot.is_none() {
            // Nothing runs, and what is started next begins with it.
            return answer(reply, Ok(Applied::Now));
        }
        let is_frozen = self.life.state.sandbox == crate::lifecycle::Sandbox::Frozen;
        match self.pass_egress().await {
            Some(counts) if !is_frozen => {
                let session = self.session.id;
                tokio::spawn(async move {
                    let applied = tokio::time::timeout(CHANGE_DEADLINE, counts).await.unwrap_or_else(|_| {
                        tracing::warn!(session_id = %session, "the sandbox does not say that its egress was changed, answering so");
                        Applied::Pending
                    });
                    answer(reply, Ok(applied));
                });
            }
            _ => answer(reply, Ok(Applied::Pending)),
        }
    }

    /// Tells the shim what may be reached; what comes back ends when that counts, or when the
    /// connection does, whose next one begins with it.
    pub(super) async fn pass_egress(&mut self) -> Option<impl Future<Output = Applied> + Send + use<>> {
        let Sandbox::Up(connection) = &self.sandbox else { return None };
        let (shim, egress) = (connection.handle.clone(), Box::new(egress::settings(&self.context, &self.session)));
        let begun = tokio::time::timeout(TELL_DEADLINE, shim.begin(|op| ToShim::Egress { op, egress })).await;
        let session = self.session.id;
        match begun {
            Ok(Ok(answered)) => Some(async move {
                match answered.came().await {
                    Ok(()) => Applied::Now,
                    Err(error) => {
                        tracing::warn!(session_id = %session, error = chain(&error), "egress of the sandbox was not changed, ignoring");
                        Applied::Pending
                    }
                }
            }),
            Ok(Err(error)) => {
                tracing::debug!(session_id = %session, error = chain(&error), "egress was not passed on, ignoring");
                None
            }
            Err(_) => None,
        }
    }
}
