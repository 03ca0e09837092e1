//! The one task that fires what is due.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::plan::{Clock, Time, plan};
use super::{Shared, item, jitter, read};
use crate::fault::{self, Point};
use crate::store::schedules::{Firing, ScheduleRow};
use crate::store::{StoreError, now};
use crate::wire::{ScheduleId, Timestamp};

/// How long it sleeps at most: a clock that is put forward, as after the host slept, is seen that soon.
const LOOK: Duration = Duration::from_secs(30);
/// Wait after the database failed.
const BROKEN: Duration = Duration::from_secs(5);
/// Schedules read at a time.
const PAGE: usize = 100;
/// Wait of a schedule whose calendar can not be read.
const UNREADABLE_MS: i64 = 5 * 60_000;

/// Fires what is due until the daemon stops. What is due then, the next one catches up as it is told to.
pub(super) async fn run(shared: &Arc<Shared>, stop: CancellationToken) {
    let mut clock = Clock::new(now());
    loop {
        let pause = tokio::select! {
            () = stop.cancelled() => return,
            looked = shared.look(&mut clock) => looked.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "schedules can not be read or moved now, retrying in {} s", BROKEN.as_secs());
                BROKEN
            }),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Shared {
    /// Fires what is due now. Returns how long until something is. What can not be fired holds up nothing else.
    async fn look(&self, clock: &mut Clock) -> Result<Duration, StoreError> {
        let (mut broken, mut why) = (HashSet::<ScheduleId>::new(), None);
        loop {
            let at = now();
            clock.look(at);
            let (mut due, next) = self.store.due_schedules(at, PAGE + broken.len()).await?;
            due.retain(|row| !broken.contains(&row.id));
            if due.is_empty() {
                if let Some((schedule, error)) = why {
                    let pause = BROKEN.as_secs();
                    tracing::warn!(%schedule, error = %error, "{} schedules that are due can not be fired, retrying in {pause} s", broken.len());
                    return Ok(BROKEN);
                }
                let until = next.map_or(LOOK, |next| Duration::from_millis((next.millis() - at.millis()).max(1).unsigned_abs()));
                return Ok(until.min(LOOK));
            }
            for row in due {
                let id = row.id;
                if let Err(error) = self.fire(row, *clock).await {
                    broken.insert(id);
                    why = Some((id, error));
                }
            }
        }
    }

    /// Queues what is due of a schedule, and moves it on.
    async fn fire(&self, row: ScheduleRow, clock: Clock) -> Result<(), StoreError> {
        let Some((of, at)) = row.next else { return Ok(()) };
        // Long, after a long absence.
        let (calendar, timezone, jitter, catch_up) = (row.calendar.clone(), row.timezone.clone(), jitter(&row), row.catch_up);
        let look = move || read(&calendar, &timezone).map(|calendar| plan(&calendar, jitter, catch_up, Time { of, at }, clock));
        let planned = tokio::task::spawn_blocking(look).await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let firing = match planned {
            // The clock was put back since it was due.
            Ok(None) => return Ok(()),
            Ok(Some(planned)) => {
                let left_out = || format!("{} times were left out, as the daemon was down or the host slept", planned.missed);
                Firing {
                    items: planned.fire.iter().map(|of| item(&row, Some(*of))).collect(),
                    missed: planned.missed,
                    reason: (planned.missed > 0).then(left_out),
                    next: planned.next.map(|next| (next.of, next.at)),
                    ..self.firing(row, Some(planned.through))
                }
            }
            // It was one when it was made: the time zone may be gone from the host, or its file can not be read for now. Its
            // times are as they were once it can be.
            Err(error) => {
                tracing::warn!(schedule = %row.id, error = %error, "a calendar can not be read, trying again later");
                let next = Some((of, Timestamp(clock.now.millis().saturating_add(UNREADABLE_MS))));
                Firing { reason: Some(error.to_string()), next, ..self.firing(row, None) }
            }
        };
        let (id, agent) = (firing.row.id, firing.row.agent.clone());
        fault::at(Point::ScheduleDue);
        let fired = self.store.fire_schedule(firing, self.queue.room()).await?;
        fault::at(Point::ScheduleFired);
        if let Some(fired) = fired {
            let (items, skipped, reason) = (fired.queued.len(), fired.skipped, fired.reason);
            tracing::info!(schedule = %id, agent, items, skipped, reason, "schedule fired");
            if items > 0 {
                self.queue.wake();
            }
        }
        Ok(())
    }

    /// One that queues nothing.
    fn firing(&self, row: ScheduleRow, through: Option<Timestamp>) -> Firing {
        Firing {
            row,
            items: Vec::new(),
            missed: 0,
            reason: None,
            full: self.queue.full().to_string(),
            overlaps: "the item before it was not over".to_owned(),
            through,
            next: None,
        }
    }
}
