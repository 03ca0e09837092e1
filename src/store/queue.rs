//! Messages that wait for a session.

use super::{Pending, TurnKey};
use crate::wire::queue::QueueStatus;
use crate::wire::{QueueId, ScheduleId, SessionId, Timestamp, TurnId};

/// An item to be made.
#[derive(Debug, Clone)]
pub struct NewItem {
    /// The item.
    pub id: QueueId,
    /// The tenant it belongs to.
    pub tenant: String,
    /// Name of its agent.
    pub agent: String,
    /// What the agent is told.
    pub prompt: String,
    /// The session that it is to go into; `None` for one of its own.
    pub given: Option<SessionId>,
    /// The highest goes first.
    pub priority: i64,
    /// How often it is tried again at most.
    pub max_retries: i64,
    /// Whether a session of its own stays when it is over.
    pub keeps: bool,
    /// When it came.
    pub created_at: Timestamp,
    /// The place in a trace of whoever queued it, if that is kept.
    pub trace: Option<String>,
    /// The schedule that it is of.
    pub schedule: Option<ScheduleId>,
    /// The time of the schedule's calendar that it is for.
    pub scheduled_for: Option<Timestamp>,
    /// By what a second try to add it is known.
    pub key: Option<TurnKey>,
}

/// What came of adding an item.
#[derive(Debug, Clone, PartialEq)]
pub enum Added {
    /// It is there now.
    New(ItemRow),
    /// It was there already: the same came with its key before.
    Again(ItemRow),
    /// Another one came with its key before.
    KeyReused,
    /// Too much of its tenant waits.
    Full,
}

/// What may wait of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Items.
    pub items: u32,
    /// Bytes of their prompts together.
    pub bytes: u64,
}

/// An item.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemRow {
    /// Counts items from 1.
    pub place: i64,
    /// The item.
    pub id: QueueId,
    /// The tenant it belongs to.
    pub tenant: String,
    /// Name of its agent.
    pub agent: String,
    /// What the agent is told.
    pub prompt: String,
    /// The session that it is to go into; `None` for one of its own.
    pub given: Option<SessionId>,
    /// The highest goes first.
    pub priority: i64,
    /// How often it is tried again at most.
    pub max_retries: i64,
    /// Whether a session of its own stays when it is over.
    pub keeps: bool,
    /// Where it stands.
    pub status: QueueStatus,
    /// How often it was tried again.
    pub retries: i64,
    /// Not before this time, where it is tried again.
    pub retry_at: Option<Timestamp>,
    /// The session of the present try, or of the last one. One of its own may not be there yet.
    pub session: Option<SessionId>,
    /// The turn in that session, once it is known that it is there.
    pub turn: Option<TurnId>,
    /// Whether it is to be cancelled, though it is being processed.
    pub is_cancelling: bool,
    /// A session of its own that is still to be ended.
    pub leaves: Option<SessionId>,
    /// Why it failed, or why it is tried again.
    pub error: Option<String>,
    /// What the agent answered, where that was asked for.
    pub result: Option<String>,
    /// Whether the answer was longer.
    pub is_cut: bool,
    /// US dollars of all tries; `None` if it is not known.
    pub cost_usd: Option<f64>,
    /// When it came.
    pub created_at: Timestamp,
    /// When it was first tried.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
    /// The place in a trace of whoever queued it, if that is kept.
    pub trace: Option<String>,
    /// The schedule that it is of.
    pub schedule: Option<ScheduleId>,
    /// The time of the schedule's calendar that it is for.
    pub scheduled_for: Option<Timestamp>,
}

/// The item of a tenant that is its next, of those that name a session or of those that do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The tenant.
    pub tenant: String,
    /// The item.
    pub id: QueueId,
    /// Its priority.
    pub priority: i64,
    /// Counts items from 1.
    pub place: i64,
    /// Whether it names a session, which may be busy.
    pub is_given: bool,
}

/// How a try of an item ended.
#[derive(Debug, Clone)]
pub struct Tried {
    /// When.
    pub at: Timestamp,
    /// What becomes of the item.
    pub then: Then,
    /// US dollars of this try; `None` if it is not known.
    pub cost_usd: Option<f64>,
    /// A session of its own that is to be ended.
    pub leaves: Option<SessionId>,
}

/// What becomes of an item that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// It is done.
    Completed {
        /// What the agent answered.
        result: Option<String>,
        /// Whether the answer was longer.
        is_cut: bool,
    },
    /// It is given up.
    Failed {
        /// Why.
        error: String,
    },
    /// It is not wanted any more.
    Cancelled,
    /// It is tried once more.
    Again {
        /// Why.
        error: String,
        /// Not before.
        at: Timestamp,
    },
}

/// The queue.
pub trait Queues: Send + Sync {
    /// Makes an item, unless its key is known or too much of its tenant waits.
    fn add_item(&self, item: NewItem, room: Room) -> Pending<'_, Added>;

    /// The item of a tenant that was added with this key, or [`Added::KeyReused`]. `None`: there is none.
    fn find_item<'a>(&'a self, tenant: &'a str, key: TurnKey) -> Pending<'a, Option<Added>>;

    /// An item of a tenant with its result, or [`StoreError::NotFound`](super::StoreError::NotFound).
    fn get_item<'a>(&'a self, tenant: &'a str, id: QueueId) -> Pending<'a, ItemRow>;

    /// Items of a tenant without their results, newest first: those before a place, at most `limit`, and so many
    /// `bytes` of prompts, which one may exceed.
    fn items<'a>(
        &'a self,
        tenant: &'a str,
        status: Option<QueueStatus>,
        before: i64,
        limit: usize,
        bytes: usize,
    ) -> Pending<'a, Vec<ItemRow>>;

    /// Items of a schedule in the same way.
    fn items_of_schedule<'a>(
        &'a self,
        tenant: &'a str,
        schedule: ScheduleId,
        before: i64,
        limit: usize,
        bytes: usize,
    ) -> Pending<'a, Vec<ItemRow>>;

    /// How many items a tenant has with each status that one has.
    fn count_items<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<(QueueStatus, u64)>>;

    /// Of each tenant the item that is its next, of those that name a session and of those that do not, which need not
    /// wait until later than `now`; and until when the first of the others waits.
    fn heads(&self, now: Timestamp) -> Pending<'_, (Vec<Head>, Option<Timestamp>)>;

    /// Items of all tenants that are being processed, or whose session is to be ended.
    fn open_items(&self) -> Pending<'_, Vec<ItemRow>>;

    /// Has an item processed, in the session that it is for or else in this one. `None` if it does not wait any more.
    fn claim_item(&self, id: QueueId, own: SessionId, at: Timestamp) -> Pending<'_, Option<ItemRow>>;

    /// Notes the turn of an item that is being processed. Says whether it is to be cancelled.
    fn item_posted(&self, id: QueueId, turn: TurnId) -> Pending<'_, bool>;

    /// Ends a try of an item that is being processed, and counts for its schedule what came of it. One that is to be cancelled is cancelled where it would be tried again.
    fn item_tried(&self, id: QueueId, tried: Tried) -> Pending<'_, ()>;

    /// Notes that no session of an item is to be ended any more.
    fn item_left(&self, id: QueueId) -> Pending<'_, ()>;

    /// Cancels an item that waits; with `force`, notes of one that is being processed that it is to be cancelled. Returns
    /// how it stands, and whether something was changed.
    fn cancel_item<'a>(&'a self, tenant: &'a str, id: QueueId, force: bool, at: Timestamp) -> Pending<'a, (ItemRow, bool)>;

    /// How many wait, and how many are being processed, of all tenants.
    fn queue_depth(&self) -> Pending<'_, [u64; 2]>;

    /// Removes at most `limit` items that were over before a time. Returns how many it removed.
    fn forget_items(&self, before: Timestamp, limit: usize) -> Pending<'_, usize>;
}
