//! What the service manager is told. Without one, nothing is.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::session::Sessions;

/// How often `STATUS=` is brought up to date.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// Every listener takes connections.
pub fn ready(sessions: &Sessions) {
    tell(&[NotifyState::Ready, NotifyState::Status(&status(sessions))]);
}

/// A stop was asked for.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Keeps the status current, and the watchdog quiet as long as this runtime runs tasks.
pub async fn keep_up(sessions: Sessions) {
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(STATUS_EVERY, |deadline| (deadline / 3).min(STATUS_EVERY));
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Status(&status(&sessions))]);
        if watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn status(sessions: &Sessions) -> String {
    let phases = sessions.phases();
    let count = |phase| phases.get(phase).copied().unwrap_or(0);
    format!(
        "{} sandboxes: {} running, {} waiting, {} warming",
        count("running") + count("waiting") + count("warming"),
        count("running"),
        count("waiting"),
        count("warming")
    )
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(error = %error, "the service manager was not told, ignoring");
    }
}
