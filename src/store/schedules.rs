//! Schedules: when what is queued, and how far each is.

use super::Pending;
use super::queue::{ItemRow, NewItem, Room};
use crate::wire::schedule::{CatchUp, Overlap, ScheduleCounts};
use crate::wire::{QueueId, ScheduleId, SessionId, Timestamp};

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRow {
    /// The schedule.
    pub id: ScheduleId,
    /// The tenant whose it is.
    pub tenant: String,
    /// What its maker calls it.
    pub name: String,
    /// Name of its agent.
    pub agent: String,
    /// What the agent is told.
    pub prompt: String,
    /// When, as its maker wrote it.
    pub calendar: String,
    /// The time zone, unless `calendar` names one.
    pub timezone: String,
    /// The session that its messages go into; `None` for one of its own each.
    pub given: Option<SessionId>,
    /// Whether a session of its own stays.
    pub keeps: bool,
    /// Of its items.
    pub priority: i64,
    /// How often an item is tried again at most.
    pub max_retries: i64,
    /// What becomes of missed times.
    pub catch_up: CatchUp,
    /// Seconds by which firings may be late.
    pub jitter: u32,
    /// What becomes of times that come while an item is not over.
    pub overlap: Overlap,
    /// Whether it fires by itself.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
    /// The next time of the calendar, and when it fires.
    pub next: Option<(Timestamp, Timestamp)>,
    /// The newest time of the calendar that is done with.
    pub last_of: Option<Timestamp>,
    /// When it last made an item.
    pub last_at: Option<Timestamp>,
    /// That item.
    pub last_item: Option<QueueId>,
    /// Why it last made none, or why an item failed.
    pub last_error: Option<String>,
    /// Items that failed since one was completed.
    pub failing: i64,
    /// What became of its times.
    pub counts: ScheduleCounts,
    /// Where it stands among those of its tenant; the newest has the highest. Of one that is to be made, nothing.
    pub place: i64,
}

/// What fires.
#[derive(Debug, Clone)]
pub struct Firing {
    /// The schedule as it was when that was decided.
    pub row: ScheduleRow,
    /// The items, oldest first.
    pub items: Vec<NewItem>,
    /// How many times are left out beside them.
    pub missed: u64,
    /// Why.
    pub reason: Option<String>,
    /// What is said where an item does not fit into the queue.
    pub full: String,
    /// What is said where an item is not over, and the schedule waits for that.
    pub overlaps: String,
    /// The newest time that is done with now, if one is.
    pub through: Option<Timestamp>,
    /// What comes then.
    pub next: Option<(Timestamp, Timestamp)>,
}

/// What came of a firing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fired {
    /// Items that are there now.
    pub queued: Vec<QueueId>,
    /// How many times were left out.
    pub skipped: u64,
    /// Why the last of these was.
    pub reason: Option<String>,
}

/// Schedules in the database.
pub trait Schedules: Send + Sync {
    /// Keeps a schedule. `false` if the tenant has `most` already.
    fn create_schedule(&self, row: ScheduleRow, most: u32) -> Pending<'_, bool>;

    /// Those of a tenant that stand before a place, newest first: at most `limit`, and `bytes` of prompts, but one in any
    /// case if there is one.
    fn list_schedules<'a>(&'a self, tenant: &'a str, before: i64, limit: usize, bytes: usize) -> Pending<'a, Vec<ScheduleRow>>;

    /// One of a tenant, or [`NotFound`](super::StoreError::NotFound).
    fn get_schedule<'a>(&'a self, tenant: &'a str, id: ScheduleId) -> Pending<'a, ScheduleRow>;

    /// Stores all that somebody can change of a schedule, and what is next, unless it changed or fired since it was read
    /// as `old` ([`Conflict`](super::StoreError::Conflict)).
    fn change_schedule(&self, old: ScheduleRow, new: ScheduleRow) -> Pending<'_, ()>;

    /// Forgets a schedule, or [`NotFound`](super::StoreError::NotFound). Its items stay.
    fn delete_schedule<'a>(&'a self, tenant: &'a str, id: ScheduleId) -> Pending<'a, ()>;

    /// At most `limit` of those of all tenants that fire now, soonest first; and when the first of all fires.
    fn due_schedules(&self, now: Timestamp, limit: usize) -> Pending<'_, (Vec<ScheduleRow>, Option<Timestamp>)>;

    /// Queues what fires and moves the schedule on, both or nothing. `None`, and nothing is done, if the schedule is not as
    /// it was any more.
    fn fire_schedule(&self, firing: Firing, room: Room) -> Pending<'_, Option<Fired>>;

    /// Queues an item of a schedule by hand. `None` if there is no room for it;
    /// [`NotFound`](super::StoreError::NotFound) if there is no such schedule.
    fn run_schedule(&self, id: ScheduleId, item: NewItem, room: Room) -> Pending<'_, Option<ItemRow>>;
}
