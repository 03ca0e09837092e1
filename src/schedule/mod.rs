//! Schedules: messages that are queued at the times of a calendar.
//!
//! ```text
//!  http ──changed──▶ desk (one task): sleeps until the first is due, and looks at the clock every half minute
//!                      │  plan: pure, what fires, what is left out, what is next
//!                      ▼
//!                    Store: items of the queue, and the schedule moved on, one transaction ──▶ queue
//! ```
//!
//! A firing is an item of the queue, and its schedule moves on with it or not at all, so that whoever dies, a time of the
//! calendar is queued once or is noted as left out. What comes next only grows: a clock that is put back brings
//! nothing back.
//!
//! A schedule is never disabled by itself. One whose agent was deleted, or whose session is over, fires, and its items
//! say why they failed; so does the schedule, with how many did in a row.

pub mod calendar;
mod desk;
mod plan;

use std::sync::Arc;

use jiff::tz::TimeZone;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::calendar::{Calendar, zone};
use self::plan::{Jitter, Time};
pub use crate::config::schedules::Schedules as Rules;
use crate::queue::{self, Queue, QueueError};
use crate::store::queue::{ItemRow, NewItem};
use crate::store::schedules::ScheduleRow;
use crate::store::{Store, StoreError, now};
use crate::wire::queue::Enqueue;
use crate::wire::schedule::{ChangeSchedule, CreateSchedule, Schedule, ScheduleCounts};
use crate::wire::{ScheduleId, Timestamp};

/// Longest name, in characters.
const NAME_MAX: usize = 100;
/// Longest prompt, in characters.
const PROMPT_MAX: usize = 20_000;
/// Longest jitter.
const JITTER_MAX_SECS: u32 = 86_400;
/// How often a change is tried again that a firing came before.
const TRIES: usize = 5;
/// A time that is done with and further ahead than this was of a clock that was wrong.
const WRONG_MS: i64 = 24 * 3_600_000;

/// Why something of a schedule was not done.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// A field is wrong.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The tenant has no such schedule.
    #[error("Schedule not found")]
    NotFound,
    /// The tenant has as many as it may.
    #[error("There are {0} schedules, which is the most (schedules.max)")]
    TooMany(u32),
    /// Somebody else changed it at the same time.
    #[error("The schedule was changed meanwhile; try again")]
    Changed,
    /// It can not be queued.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The database failed.
    #[error("the database failed")]
    Store(StoreError),
}

impl From<StoreError> for ScheduleError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(_) => Self::NotFound,
            StoreError::Conflict(_) => Self::Changed,
            error => Self::Store(error),
        }
    }
}

fn invalid(field: &'static str, reason: impl ToString) -> ScheduleError {
    ScheduleError::Invalid { field, reason: reason.to_string() }
}

/// The schedules of this daemon.
#[derive(Debug, Clone)]
pub struct Schedules {
    shared: Arc<Shared>,
}

/// What the service and its task share.
#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    queue: Arc<Queue>,
    rules: Rules,
    /// A schedule is not as it was.
    changed: Notify,
}

impl Schedules {
    /// Schedules as this store has them, for this queue. Nothing fires before [`Self::run`].
    pub fn new(store: Arc<dyn Store>, queue: Arc<Queue>, rules: Rules) -> Self {
        Self { shared: Arc::new(Shared { store, queue, rules, changed: Notify::new() }) }
    }

    /// Fires what is due until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        desk::run(&self.shared, stop).await;
    }

    /// Makes a schedule.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] if a field is wrong or the tenant has too many.
    pub async fn create(&self, tenant: &str, new: CreateSchedule) -> Result<ScheduleRow, ScheduleError> {
        let (shared, at) = (&self.shared, now());
        let mut row = ScheduleRow {
            id: ScheduleId::new(),
            tenant: tenant.to_owned(),
            name: new.name,
            agent: new.agent_name,
            prompt: new.prompt,
            calendar: new.calendar,
            timezone: new.timezone.unwrap_or_else(|| "UTC".to_owned()),
            given: new.session_id,
            keeps: new.keep_session.unwrap_or(false),
            priority: new.priority.unwrap_or(0),
            max_retries: new.max_retries.unwrap_or(queue::RETRIES),
            catch_up: new.catch_up.unwrap_or_default(),
            jitter: new.jitter_seconds.unwrap_or(0),
            overlap: new.overlap.unwrap_or_default(),
            enabled: new.enabled.unwrap_or(true),
            created_at: at,
            updated_at: at,
            next: None,
            last_of: None,
            last_at: None,
            last_item: None,
            last_error: None,
            failing: 0,
            counts: ScheduleCounts::default(),
            place: 0,
        };
        check(&row)?;
        let calendar = shared.calendar(&row, at)?;
        if let Some(session) = row.given {
            shared.queue.check_session(tenant, &row.agent, session).await?;
        }
        if row.enabled {
            row.next = next(&row, &calendar, at);
        }
        if !shared.store.create_schedule(row.clone(), shared.rules.max).await? {
            return Err(ScheduleError::TooMany(shared.rules.max));
        }
        shared.changed.notify_one();
        Ok(row)
    }

    /// One of them.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::NotFound`] if there is none.
    pub async fn get(&self, tenant: &str, id: ScheduleId) -> Result<ScheduleRow, ScheduleError> {
        Ok(self.shared.store.get_schedule(tenant, id).await?)
    }

    /// Changes a schedule. Other times, and those of one that was disabled, count from now on.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] if there is none or a field is wrong.
    pub async fn change(&self, tenant: &str, id: ScheduleId, change: ChangeSchedule) -> Result<ScheduleRow, ScheduleError> {
        for _ in 0..TRIES {
            let old = self.get(tenant, id).await?;
            let new = self.shared.changed(&old, change.clone()).await?;
            match self.shared.store.change_schedule(old, new.clone()).await {
                // It has fired, or somebody else was quicker.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    self.shared.changed.notify_one();
                    return Ok(new);
                }
            }
        }
        Err(ScheduleError::Changed)
    }

    /// Forgets a schedule. Its items stay.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::NotFound`] if there is none.
    pub async fn delete(&self, tenant: &str, id: ScheduleId) -> Result<(), ScheduleError> {
        self.shared.store.delete_schedule(tenant, id).await?;
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Queues an item of a schedule now, whether it is enabled, and whether the one before is over, or not.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] if there is none or the queue is full.
    pub async fn run_now(&self, tenant: &str, id: ScheduleId) -> Result<ItemRow, ScheduleError> {
        let (shared, row) = (&self.shared, self.get(tenant, id).await?);
        let item = NewItem { trace: shared.queue.place(), ..item(&row, None) };
        let item = shared.store.run_schedule(id, item, shared.queue.room()).await?.ok_or_else(|| shared.queue.full())?;
        shared.queue.wake();
        Ok(item)
    }

    /// The next times of an expression, without jitter.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::Invalid`] if it is none, or the time zone is none.
    pub fn preview(&self, calendar: &str, timezone: Option<&str>, count: usize) -> Result<Vec<Timestamp>, ScheduleError> {
        let calendar = read(calendar, timezone.unwrap_or("UTC"))?;
        Ok(std::iter::successors(calendar.next(now()), |time| calendar.next(*time)).take(count).collect())
    }
}

impl Shared {
    /// The calendar of a schedule, if it has times from here on, and none that are too near each other.
    fn calendar(&self, row: &ScheduleRow, at: Timestamp) -> Result<Calendar, ScheduleError> {
        let calendar = read(&row.calendar, &row.timezone)?;
        if calendar.next(at).is_none() {
            return Err(invalid("calendar", "never comes again"));
        }
        let least = i64::try_from(self.rules.min_interval.0).unwrap_or(i64::MAX);
        match calendar.shortest_gap_secs(at) {
            Some(gap) if gap < least => {
                let reason =
                    format!("has times with {gap} s between them, and {least} s are the fewest (schedules.min_interval)");
                Err(invalid("calendar", reason))
            }
            _ => Ok(calendar),
        }
    }

    /// A schedule as it is after a change.
    async fn changed(&self, old: &ScheduleRow, change: ChangeSchedule) -> Result<ScheduleRow, ScheduleError> {
        let mut new = old.clone();
        new.name = change.name.unwrap_or(new.name);
        new.agent = change.agent_name.unwrap_or(new.agent);
        new.prompt = change.prompt.unwrap_or(new.prompt);
        new.calendar = change.calendar.unwrap_or(new.calendar);
        new.timezone = change.timezone.unwrap_or(new.timezone);
        new.given = change.session_id.unwrap_or(new.given);
        new.keeps = change.keep_session.unwrap_or(new.keeps);
        new.priority = change.priority.unwrap_or(new.priority);
        new.max_retries = change.max_retries.unwrap_or(new.max_retries);
        new.catch_up = change.catch_up.unwrap_or(new.catch_up);
        new.jitter = change.jitter_seconds.unwrap_or(new.jitter);
        new.overlap = change.overlap.unwrap_or(new.overlap);
        new.enabled = change.enabled.unwrap_or(new.enabled);
        check(&new)?;
        if let Some(session) = new.given
            && (new.given != old.given || new.agent != old.agent)
        {
            self.queue.check_session(&new.tenant, &new.agent, session).await?;
        }
        let at = now();
        // Never the same twice, as it tells one state from the next.
        new.updated_at = Timestamp(at.millis().max(old.updated_at.millis() + 1));
        let has_other_times = (&new.calendar, &new.timezone) != (&old.calendar, &old.timezone);
        let begins = has_other_times || !old.enabled;
        if has_other_times {
            self.calendar(&new, at)?;
        }
        new.next = match old.next {
            _ if !new.enabled => None,
            Some((of, _)) if !begins && new.jitter != old.jitter => {
                let calendar = read(&new.calendar, &new.timezone)?;
                let time = Time::new(of, &calendar, jitter(&new));
                Some((time.of, time.at))
            }
            next if !begins => next,
            _ => {
                let next = next(&new, &read(&new.calendar, &new.timezone)?, at);
                Some(next.ok_or_else(|| invalid("calendar", "never comes again"))?)
            }
        };
        Ok(new)
    }
}

/// What is shown of a schedule.
pub fn shown(row: ScheduleRow) -> Schedule {
    Schedule {
        id: row.id,
        name: row.name,
        agent_name: row.agent,
        prompt: row.prompt,
        calendar: row.calendar,
        timezone: row.timezone,
        session_id: row.given,
        keep_session: row.keeps,
        priority: row.priority,
        max_retries: row.max_retries,
        catch_up: row.catch_up,
        jitter_seconds: row.jitter,
        overlap: row.overlap,
        enabled: row.enabled,
        created_at: row.created_at,
        updated_at: row.updated_at,
        next_at: row.next.map(|(_, at)| at),
        last_at: row.last_at,
        last_item_id: row.last_item,
        last_error: row.last_error,
        failures_in_row: row.failing,
        counts: row.counts,
    }
}

/// Reads an expression with its time zone.
fn read(calendar: &str, timezone: &str) -> Result<Calendar, ScheduleError> {
    let zone: TimeZone = zone(timezone).map_err(|reason| invalid("timezone", reason))?;
    Calendar::parse(calendar, &zone).map_err(|error| invalid("calendar", error))
}

const fn jitter(row: &ScheduleRow) -> Jitter {
    Jitter { schedule: row.id, secs: row.jitter }
}

/// What comes next, from now on. What is done with never comes again, also where the clock was put back.
fn next(row: &ScheduleRow, calendar: &Calendar, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let done = row.last_of.filter(|done| done.millis() - at.millis() <= WRONG_MS);
    let time = Time::after(done.map_or(at, |done| done.max(at)), calendar, jitter(row))?;
    Some((time.of, time.at))
}

/// A message of a schedule, as somebody would queue it.
fn message(row: &ScheduleRow) -> Enqueue {
    Enqueue {
        agent_name: row.agent.clone(),
        prompt: row.prompt.clone(),
        session_id: row.given,
        priority: Some(row.priority),
        max_retries: Some(row.max_retries),
        keep_session: row.keeps,
    }
}

/// An item for a time of a schedule, or for none.
fn item(row: &ScheduleRow, of: Option<Timestamp>) -> NewItem {
    NewItem { schedule: Some(row.id), scheduled_for: of, ..queue::new_item(&row.tenant, message(row)) }
}

/// Whether all but the calendar can be as it is wanted.
fn check(row: &ScheduleRow) -> Result<(), ScheduleError> {
    if !(1..=NAME_MAX).contains(&row.name.chars().count()) || row.name.chars().any(char::is_control) {
        return Err(invalid("name", format!("has to be 1 to {NAME_MAX} characters, none of them a control character")));
    }
    if !(1..=PROMPT_MAX).contains(&row.prompt.chars().count()) {
        return Err(invalid("prompt", format!("has to be a text of 1 to {PROMPT_MAX} characters")));
    }
    queue::check(&message(row))?;
    if row.jitter > JITTER_MAX_SECS {
        return Err(invalid("jitterSeconds", format!("has to be from 0 to {JITTER_MAX_SECS}")));
    }
    Ok(())
}
