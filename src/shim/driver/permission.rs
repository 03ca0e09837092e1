//! Requests for permission: answered by the daemon, or by the clock.

use std::time::Duration;

use tokio::time::Instant;

use super::Driver;
use crate::runtime::AnswerError;
use crate::wire::PermissionId;
use crate::wire::permission::PermissionAnswer;

/// When the requests that wait are answered by themselves. The adapter bounds their number.
///
/// The clock runs on while the sandbox is frozen, so a request whose time was over meanwhile is
/// answered when it thaws.
#[derive(Debug, Default)]
pub struct Deadlines(Vec<(PermissionId, Instant)>);

impl Deadlines {
    /// Remembers a request. One without a timeout, or with one that no clock reaches, waits for ever.
    pub fn add(&mut self, id: PermissionId, timeout: Option<Duration>) {
        let at = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.0.extend(at.map(|at| (id, at)));
    }

    /// Forgets a request.
    pub fn remove(&mut self, id: PermissionId) {
        self.0.retain(|(waiting, _)| *waiting != id);
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().map(|(_, at)| *at).min()
    }

    /// Takes the requests whose time is over, in the order of their deadlines.
    fn due(&mut self, now: Instant) -> Vec<PermissionId> {
        let mut due: Vec<_> = self.0.extract_if(.., |(_, at)| *at <= now).collect();
        due.sort_by_key(|(_, at)| *at);
        due.into_iter().map(|(id, _)| id).collect()
    }
}

impl Driver {
    /// Gives an answer to the runtime. When it returns, the event that tells of it is in the spool.
    pub(super) async fn answer(&mut self, id: PermissionId, answer: &PermissionAnswer) -> Result<(), String> {
        let taken = match &mut self.session {
            Some(session) => session.adapter.answer(id, answer),
            None => Err(AnswerError::NotWaiting),
        };
        let outputs = taken.map_err(|error| error.to_string())?;
        tracing::info!(permission_id = %id, behavior = ?answer.behavior, "request for permission was answered");
        self.perform(outputs).await;
        Ok(())
    }

    /// Tells the runtime of the requests that nobody answered in time.
    pub(super) async fn time_out(&mut self) {
        for id in self.asked.due(Instant::now()) {
            let Some(session) = &mut self.session else { return };
            tracing::info!(permission_id = %id, "nobody answered a request for permission in time");
            let outputs = session.adapter.timed_out(id);
            self.perform(outputs).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_due_once_and_in_order() {
        let mut deadlines = Deadlines::default();
        let [late, early, never, unreachable, gone] = [(); 5].map(|()| PermissionId::new());
        deadlines.add(late, Some(Duration::from_secs(20)));
        deadlines.add(early, Some(Duration::from_secs(10)));
        deadlines.add(never, None);
        deadlines.add(unreachable, Some(Duration::from_millis(u64::MAX)));
        deadlines.add(gone, Some(Duration::from_secs(1)));
        deadlines.remove(gone);
        let start = Instant::now();
        assert_eq!(deadlines.next(), Some(start + Duration::from_secs(10)));
        assert!(deadlines.due(start).is_empty());
        assert_eq!(deadlines.due(start + Duration::from_secs(3600)), [early, late]);
        assert!(deadlines.due(start + Duration::from_secs(7200)).is_empty());
    }
}
