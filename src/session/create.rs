//! Making sessions.

use super::driver::Request;
use super::{Host, SessionError, Sessions, binding, config, egress, limits, open, security};
use crate::crypt::env::EnvOwner;
use crate::fault::{self, Point};
use crate::store::eval::Frozen;
use crate::store::{AgentRow, SessionRow, StoreError};
use crate::wire::session::{CreateSession, Status};
use crate::wire::{SandboxId, SessionId};

impl Sessions {
    /// Makes a session and brings up its sandbox.
    pub async fn create(&self, tenant: &str, body: CreateSession) -> Result<SessionRow, SessionError> {
        self.create_as(tenant, SessionId::new(), body).await
    }

    /// Makes a session of which somebody knows the id before. No other may have it.
    pub async fn create_as(&self, tenant: &str, id: SessionId, body: CreateSession) -> Result<SessionRow, SessionError> {
        self.create_of(tenant, id, body, None).await
    }

    pub(super) async fn agent(&self, tenant: &str, name: &str) -> Result<AgentRow, SessionError> {
        match self.context.store.get_agent(tenant, name).await {
            Err(StoreError::NotFound(_)) => Err(SessionError::NoAgent(name.to_owned())),
            found => Ok(found?),
        }
    }

    pub(super) async fn create_of(
        &self,
        tenant: &str,
        id: SessionId,
        body: CreateSession,
        frozen: Option<Frozen>,
    ) -> Result<SessionRow, SessionError> {
        // In a task of its own: a caller that goes away must not leave half a session.
        let (sessions, tenant) = (self.clone(), tenant.to_owned());
        let span = self.span("ash.session.create", id);
        let creating = tokio::spawn(span.around(async move { sessions.create_whole(&tenant, id, body, frozen).await }));
        creating.await.map_err(|_| SessionError::Closing)?
    }

    async fn create_whole(
        &self,
        tenant: &str,
        id: SessionId,
        body: CreateSession,
        frozen: Option<Frozen>,
    ) -> Result<SessionRow, SessionError> {
        if *self.context.host.borrow() != Host::Stays {
            return Err(SessionError::Closing);
        }
        let agent = self.agent(tenant, &body.agent).await?;
        let digest = frozen.as_ref().map_or(agent.digest, |frozen| frozen.digest.clone());
        open::version(&self.context, &agent.name, &digest)?;
        if let Some(credential) = &body.config.credential_id {
            self.context.settings.credentials.check(tenant, credential).await?;
        }
        if let Some(bindings) = &body.config.bindings {
            binding::check(&self.context, tenant, bindings).await?;
        }
        if let Some(egress) = &body.config.egress {
            egress::check(&self.context.settings.egress, "egress.allow", &egress.allow)?;
        }
        config::check(&body.config, None)?;
        if let Some(limits) = &body.config.limits {
            limits::check(&self.context, "limits.", limits)?;
        }
        // What comes with the request wins; later versions are for later sessions.
        let (prompt_version, prompt) = match (&body.system_prompt, frozen) {
            (Some(_), _) => (None, None),
            (None, Some(frozen)) => (frozen.version, frozen.prompt),
            (None, None) => {
                let active = self.context.store.active_prompt_version(tenant, &agent.name).await?;
                active.map_or((None, None), |version| (Some(version.number), version.system_prompt))
            }
        };
        let now = crate::store::now();
        let owner = EnvOwner::Session { tenant: tenant.to_owned(), id: id.as_uuid() };
        let row = SessionRow {
            id,
            tenant: tenant.to_owned(),
            agent: agent.name,
            digest,
            status: Status::Starting,
            sandbox: SandboxId::new(),
            model: body.model,
            system_prompt: body.system_prompt.or(prompt),
            prompt_version,
            extra_env: self.context.settings.credentials.seal_env(&owner, body.extra_env.unwrap_or_default())?,
            config: body.config,
            parent: None,
            conversed: false,
            tail: 0,
            created_at: now,
            last_active_at: now,
            granted: Vec::new(),
            sandbox_boot: None,
            heard: None,
        };
        security::admit(&self.context, &row).await?;
        fault::at(Point::CreateBegun);
        self.context.store.create_session(row.clone()).await?;
        fault::at(Point::CreateStored);
        let opened = match self.agent(tenant, &row.agent).await {
            Ok(_) => self.ask(&row, |reply| Request::Open { reply }).await,
            // Whoever deletes an agent ends the sessions that are stored by then.
            Err(error) => Err(error),
        };
        if let Err(error) = opened {
            // Nobody has been told of it, so it leaves nothing behind.
            self.forget(row.id, row.sandbox).await;
            return Err(error);
        }
        self.context.count_session(&row);
        self.get(tenant, row.id).await
    }

    pub(super) async fn forget(&self, id: SessionId, sandbox: SandboxId) {
        self.context.drop_live(id);
        self.context.clear_later(sandbox);
        if let Err(error) = self.context.store.forget_session(id).await {
            tracing::warn!(session_id = %id, error = %error, "a session that failed to start stays in the database, ignoring");
        }
    }
}
