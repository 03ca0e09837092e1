//! What was said in the sandbox of a session.

use super::driver::{Purpose, Request};
use super::{Phase, SessionError, Sessions};
use crate::link::shim::LogLine;
use crate::report::chain;
use crate::wire::SessionId;
use crate::wire::session::Status;

impl Sessions {
    /// The last lines that were said in the sandbox of a session, behind the one of this index. None are
    /// known of a sandbox that is gone, nor of one that is frozen, unless it is thawed for this with `wake`;
    /// those who look again and again do not keep it from being frozen.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotFound`], and those of the store.
    pub async fn logs(&self, tenant: &str, id: SessionId, after: Option<u64>, wake: bool) -> Result<Vec<LogLine>, SessionError> {
        let row = self.get(tenant, id).await?;
        if row.status == Status::Ended || self.phase(id) == Phase::Cold {
            return Ok(Vec::new());
        }
        let (shim, _visit) = if wake && self.phase(id) == Phase::Frozen {
            let visit = self.ask(&row, |reply| Request::Visit { purpose: Purpose::Read, reply }).await.ok();
            (visit.as_ref().map(|visit| visit.shim.clone()), visit)
        } else {
            (self.ask(&row, |reply| Request::Peek { reply }).await.ok().flatten(), None)
        };
        let Some(shim) = shim else { return Ok(Vec::new()) };
        match shim.logs(after).await {
            Ok(lines) => Ok(lines),
            // It is no error that it is gone, or of an older release.
            Err(error) => {
                tracing::debug!(session_id = %id, error = chain(&error), "what was said in a sandbox is not known");
                Ok(Vec::new())
            }
        }
    }
}
