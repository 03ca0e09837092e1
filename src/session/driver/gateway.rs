//! Where model calls of the sandbox go, and with which key, changed while it lives.

use super::sandbox::TELL_DEADLINE;
use super::*;
use crate::session::gateway::{self, Changed};

impl Driver {
    /// A secret has changed. If it is one of this session, its sandbox is told, and the answer comes when
    /// that counts; what is frozen reads it before it goes on.
    pub(super) async fn rekey(&mut self, changed: Changed, reply: Reply<()>) {
        if !self.is_meant(&changed) {
            return answer(reply, Ok(()));
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

    /// Whether a secret that has changed is one of this session; notes what becomes of it.
    fn is_meant(&mut self, changed: &Changed) -> bool {
        let Changed::Credential { tenant, id, is_gone, is_model_key } = changed else { return true };
        let (config, id) = (&self.session.config, id.to_string());
        let is_own = config.credential_id.as_ref() == Some(&id) && (*is_model_key || !is_gone);
        let is_bound = config.bindings.iter().flatten().any(|(_, binding)| binding.credential_id == id);
        if *tenant != self.session.tenant || !(is_own || is_bound) {
            return false;
        }
        if is_own {
            self.key.is_gone = *is_gone;
        }
        match is_gone {
            true => self.key.gone.insert(id),
            false => self.key.gone.remove(&id),
        };
        true
    }

    /// Tells the shim where model calls go, and what is bound to hosts; what comes back ends when that counts, or when the connection
    /// does, whose next one begins with it.
    pub(super) async fn pass_gateway(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let Sandbox::Up(connection) = &self.sandbox else { return None };
        let (shim, session) = (connection.handle.clone(), self.session.id);
        if !shim.knows_gateway() {
            tracing::info!(session_id = %session, "the sandbox is of an older release, it keeps its key and has no bound credentials until the session is stopped and resumed");
            return None;
        }
        let gateway = match gateway::current(&self.context, &self.session, self.key.is_gone, &self.key.gone).await {
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
