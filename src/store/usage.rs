//! What was billed, beyond the life of sessions.

use super::Pending;
use crate::wire::analytics::{UsageGroup, UsageStats};
use crate::wire::session::Status;
use crate::wire::{SessionId, Timestamp};

/// Which bills.
#[derive(Debug, Clone, Default)]
pub struct BillFilter {
    /// Of this session only.
    pub session: Option<SessionId>,
    /// Of this agent only.
    pub agent: Option<String>,
    /// Not before.
    pub after: Option<Timestamp>,
    /// Not later.
    pub before: Option<Timestamp>,
}

/// What bills have in common that are summed up together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BillGroup {
    /// The agent.
    Agent,
    /// The session.
    Session,
}

/// The bill of a turn, or of what a sandbox took behind its last one.
#[derive(Debug, Clone, PartialEq)]
pub struct BillRow {
    /// The session, which may have been removed since.
    pub session: SessionId,
    /// The event of its log that told.
    pub event: i64,
    /// Its agent.
    pub agent: String,
    /// When.
    pub at: Timestamp,
    /// What was taken.
    pub stats: UsageStats,
}

/// How many there are now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Agents.
    pub agents: u64,
    /// Sessions with each status that one has.
    pub sessions: Vec<(Status, u64)>,
}

/// Bills. They come with the end of a turn, in the transaction of [`Store::advance`](super::Store::advance),
/// are never changed, and stay when their session is removed.
pub trait Usages: Send + Sync {
    /// The newest bills of a tenant, newest first, at most `limit`.
    fn bills<'a>(&'a self, tenant: &'a str, filter: BillFilter, limit: usize) -> Pending<'a, Vec<BillRow>>;

    /// The sum of the bills of a tenant.
    fn billed<'a>(&'a self, tenant: &'a str, filter: BillFilter) -> Pending<'a, UsageStats>;

    /// Sums of the bills of a tenant by group, those that cost most first, at most `limit`.
    fn billed_by<'a>(&'a self, tenant: &'a str, filter: BillFilter, by: BillGroup, limit: usize) -> Pending<'a, Vec<UsageGroup>>;

    /// How many agents and sessions a tenant has.
    fn tally<'a>(&'a self, tenant: &'a str) -> Pending<'a, Tally>;
}
