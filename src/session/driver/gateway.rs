//! Where model calls of the sandbox go, and with which key, changed while it lives.

use super::sandbox::TELL_DEADLINE;
use super::*;
use crate::session::gateway::{self, Changed};

impl Driver {
    /// A secret has changed. If it is one of this session, its sandbox is told, and the answer comes when
    /// that counts; what is frozen reads it before it goes on.
    pub(super) async fn rekey(&mut self, changed: Changed, reply: Reply<()>) {
        let own = self.session.config.credential_id.as_deref();
        let is_meant = match &changed {
            Changed::Host => true,
            Changed::Credential { tenant, id, .. } => *tenant == self.session.tenant && own == Some(&id.to_string()),
        };
        if !is_meant {
            return answer(reply, Ok(()));
        }
        if let Changed::Credential { is_gone, .. } = changed {
            self.key.is_gone = is_gone;
        }
        // What is being brought up may have read the old one.
        self.key.is_stale = !matches!(self.sandbox, Sandbox::Cold);
        let is_frozen = self.life.state.sandbox == crate::lifecycle::Sandbox::Frozen;
        let Some(counts) = self.pass_gateway().await.filter(|_| !is_frozen) else { return answer(reply, Ok(())) };
        tokio::spawn(async move {
            counts.await;
            answer(reply, Ok(()));
        });
    }

    /// Tells the shim where model calls go; what comes back ends when that counts, or when the connection
    /// does, whose next one begins with it.
    pub(super) async fn pass_gateway(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let Sandbox::Up(connection) = &self.sandbox else { return None };
        let (shim, session) = (connection.handle.clone(), self.session.id);
        if !shim.knows_gateway() {
            tracing::info!(session_id = %session, "the sandbox is of an older release, it keeps its key until the session is stopped");
            return None;
        }
        let gateway = match gateway::current(&self.context, &self.session, self.key.is_gone).await {
            Ok(gateway) => gateway,
            Err(error) => {
                tracing::warn!(session_id = %session, error = chain(&error), "the key of the session can not be told to its sandbox, trying again with its next connection");
                self.key.is_stale = true;
                return None;
            }
        };
        let begun = tokio::time::timeout(TELL_DEADLINE, shim.begin(|op| ToShim::Gateway { op, gateway })).await;
        self.key.is_stale = !matches!(begun, Ok(Ok(_)));
        let Ok(Ok(answered)) = begun else { return None };
        Some(async move {
            if let Err(error) = answered.came().await {
                tracing::warn!(session_id = %session, error = chain(&error), "the sandbox did not take its key, ignoring");
            }
        })
    }

    /// The same, where nobody waits for it: what comes after it is read after it.
    pub(super) async fn pass_gateway_on(&mut self) {
        if let Some(counts) = self.pass_gateway().await {
            tokio::spawn(counts);
        }
    }
}
