//! What sessions take of the host now.

use super::{Context, Live, Phase, SessionError, Sessions, limits};
use crate::cgroup::Figures;
use crate::store::SessionRow;
use crate::wire::SessionId;
use crate::wire::resources::Resources;

impl Sessions {
    /// What a session takes now.
    pub async fn resources(&self, tenant: &str, id: SessionId) -> Result<Resources, SessionError> {
        let row = self.get(tenant, id).await?;
        self.resources_of(row).await
    }

    /// What each session of a tenant takes that has processes.
    pub async fn all_resources(&self, tenant: &str) -> Result<Vec<Resources>, SessionError> {
        let living: Vec<SessionId> = {
            let hub = self.context.lock_hub();
            let is_wanted = |live: &Live| &*live.tenant == tenant && live.phase.get() != Phase::Cold;
            hub.iter().filter(|(_, live)| is_wanted(live)).map(|(id, _)| *id).collect()
        };
        let mut all = Vec::with_capacity(living.len());
        for id in living {
            match self.get(tenant, id).await {
                Ok(row) => all.push(self.resources_of(row).await?),
                // It was removed since.
                Err(SessionError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        all.sort_by_key(|one| one.session_id.as_uuid());
        Ok(all)
    }

    async fn resources_of(&self, row: SessionRow) -> Result<Resources, SessionError> {
        let phase = self.phase(row.id);
        let figures = if phase == Phase::Cold { Figures::default() } else { measure(&self.context, &row).await };
        Ok(Resources {
            sandbox_state: phase.as_str().to_owned(),
            at: crate::store::now(),
            cpu_ms: figures.cpu_us.map(|us| us / 1000),
            memory_bytes: figures.memory,
            memory_peak_bytes: figures.memory_peak,
            tasks: figures.tasks,
            io_read_bytes: figures.read,
            io_write_bytes: figures.written,
            spent: self.spent(row.id).await?,
            limits: limits::of(&self.context, &row),
            session_id: row.id,
            agent_name: row.agent,
        })
    }
}

/// What can not be measured now has no figure; whoever asks, asks again.
async fn measure(context: &Context, row: &SessionRow) -> Figures {
    match context.launcher.usage(row.sandbox).await {
        Ok(figures) => figures.unwrap_or_default(),
        Err(error) => {
            tracing::debug!(session_id = %row.id, error = crate::report::chain(&error), "a sandbox can not be measured, ignoring");
            Figures::default()
        }
    }
}
