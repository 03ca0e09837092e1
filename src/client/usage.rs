//! What was used.

use super::{Answer, Client, ClientError, Path};
use crate::wire::analytics::UsageStatsBody;
use crate::wire::{SessionId, Timestamp};

/// Whose usage is summed up. The default is all.
#[derive(Debug, Clone, Default)]
pub struct UsageQuery {
    /// Of this session only.
    pub session: Option<SessionId>,
    /// Of this agent only.
    pub agent: Option<String>,
    /// Of turns that were not over before.
    pub after: Option<Timestamp>,
    /// Of turns that were not over later.
    pub before: Option<Timestamp>,
    /// By what the sums are grouped: `agent` or `session`.
    pub by: Option<&'static str>,
    /// At most so many groups.
    pub limit: Option<u32>,
}

impl Client {
    /// `GET /api/usage/stats`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn usage_stats(&self, query: &UsageQuery) -> Result<Answer<UsageStatsBody>, ClientError> {
        let path = Path::new("/api/usage/stats")
            .with("sessionId", query.session)
            .with("agentName", query.agent.as_ref())
            .with("after", query.after)
            .with("before", query.before)
            .with("by", query.by)
            .with("limit", query.limit);
        self.get(&path.0).await
    }
}
