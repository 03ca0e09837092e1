//! The audit log.

use super::{Pending, StoreError};
use crate::wire::Timestamp;
use crate::wire::audit::{Action, AuditEntry, Outcome};

/// An entry that is to be written; it gets its number and its time with that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAudit {
    /// Of whose things.
    pub tenant: String,
    /// Who did it.
    pub principal: String,
    /// What was done.
    pub action: Action,
    /// To what.
    pub object: Option<String>,
    /// By which request.
    pub request_id: Option<String>,
    /// From where.
    pub peer: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// How many refused acts of the same principal before it were not written down.
    pub unwritten: u64,
}

/// Which entries are wanted; `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of this kind.
    pub action: Option<Action>,
    /// By them.
    pub principal: Option<String>,
    /// To this thing.
    pub object: Option<String>,
    /// Not older.
    pub since: Option<Timestamp>,
    /// Older.
    pub until: Option<Timestamp>,
    /// With a lower number.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

/// The audit log of all tenants: entries are added, read, and removed when they are old.
pub trait Audit: Send + Sync {
    /// Adds an entry.
    fn record(&self, entry: NewAudit) -> Pending<'_, ()>;

    /// Entries of a tenant, newest first.
    fn audit<'a>(&'a self, tenant: &'a str, filter: AuditFilter) -> Pending<'a, Vec<AuditEntry>>;

    /// How many entries of all tenants are not younger.
    fn count_audit(&self, before: Timestamp) -> Pending<'_, u64>;

    /// Removes at most `limit` entries that are not younger, and says how many.
    fn remove_audit(&self, before: Timestamp, limit: usize) -> Pending<'_, usize>;
}

/// Adds an entry for what is done already, so that the act stands whatever becomes of the entry. One that can
/// not be written is in the journal.
pub async fn record(store: &dyn super::Store, entry: NewAudit) {
    let lost = entry.clone();
    if let Err(error) = store.record(entry).await {
        tell(&lost, &error);
    }
}

fn tell(lost: &NewAudit, error: &StoreError) {
    tracing::error!(
        error = %error,
        tenant = lost.tenant,
        principal = lost.principal,
        action = lost.action.as_str(),
        object = lost.object,
        request_id = lost.request_id,
        outcome = lost.outcome.as_str(),
        "an entry of the audit log can not be written, ignoring"
    );
}
