//! The audit log.

use super::{Answer, Client, ClientError, Path};
use crate::wire::Timestamp;
use crate::wire::audit::{Action, AuditList};

/// Which entries of the audit log are wanted; `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Of this kind.
    pub action: Option<Action>,
    /// By them.
    pub principal: Option<String>,
    /// To this thing.
    pub object: Option<String>,
    /// Not older.
    pub since: Option<Timestamp>,
    /// At most so many; the daemon's default is 100.
    pub limit: Option<u32>,
    /// Of this tenant, over the control socket.
    pub tenant: Option<String>,
}

impl Client {
    /// `GET /api/audit`: the newest entries of the audit log.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<Answer<AuditList>, ClientError> {
        let path = Path::new("/api/audit")
            .with("action", query.action)
            .with("principal", query.principal.as_ref())
            .with("object", query.object.as_ref())
            .with("since", query.since)
            .with("limit", query.limit)
            .with("tenant", query.tenant.as_ref());
        self.get(&path.0).await
    }
}
