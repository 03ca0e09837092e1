//! Where model calls of a session go, and whose key they have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::driver::Request;
use super::open::{KEY_VARIABLE, OpenError, own_environment, version};
use super::{Context, Live, Sessions, binding};
use crate::credential::CredentialError;
use crate::link::shim::Gateway;
use crate::store::SessionRow;
use crate::wire::CredentialId;
use crate::wire::credential::CredentialType;
use crate::wire::session::Status;

/// How long all sandboxes may take to say that a new key counts.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);
/// What a model call is told whose key is gone.
const GONE: &str = "the credential of this session was deleted, so no call of the model leaves (PATCH …/config gives the session \
                    another credentialId, or \"\" for none)";

/// A secret that has changed.
#[derive(Debug, Clone)]
pub(super) enum Changed {
    /// The host's key of the model API.
    Host,
    /// A credential of a tenant.
    Credential {
        /// The tenant.
        tenant: String,
        /// Which.
        id: CredentialId,
        /// Whether it is being deleted.
        is_gone: bool,
        /// Whether it is a key of the model API.
        is_model_key: bool,
    },
}

impl Sessions {
    /// A credential has another secret. Comes back when the next call of each session that has it uses that, or when a sandbox does not say so in time.
    pub async fn credential_changed(&self, tenant: &str, id: CredentialId) {
        self.tell(&Changed::Credential { tenant: tenant.to_owned(), id, is_gone: false, is_model_key: false }).await;
    }

    /// A credential is about to be deleted: no call leaves with it any more, and no model call of a session
    /// whose key it is. To be told before, so that none is left that has it.
    pub async fn credential_goes(&self, tenant: &str, id: CredentialId, kind: CredentialType) {
        let is_model_key = kind == CredentialType::Anthropic;
        self.tell(&Changed::Credential { tenant: tenant.to_owned(), id, is_gone: true, is_model_key }).await;
    }

    /// Takes another key of the model API for sessions that have none of their own; says whether it is another
    /// one.
    pub async fn change_host_key(&self, key: Option<String>) -> bool {
        let old = std::mem::replace(&mut *lock(&self.context), key.clone());
        if old == key {
            return false;
        }
        self.tell(&Changed::Host).await;
        true
    }

    async fn tell(&self, changed: &Changed) {
        let is_meant = |live: &Live| match changed {
            Changed::Host => true,
            Changed::Credential { tenant, .. } => *live.tenant == **tenant,
        };
        let drivers: Vec<_> = {
            let hub = self.context.lock_hub();
            hub.values().filter(|live| is_meant(live)).map(|live| live.requests.clone()).collect()
        };
        let mut told = JoinSet::new();
        for requests in drivers {
            let (reply, answer) = oneshot::channel();
            let changed = changed.clone();
            told.spawn(async move {
                // One that is leaving has no sandbox.
                if requests.send(Request::Rekey { changed, reply }.into()).await.is_ok() {
                    let _left = answer.await;
                }
            });
        }
        let all = async { while told.join_next().await.is_some() {} };
        if tokio::time::timeout(CHANGE_DEADLINE, all).await.is_err() {
            // They have it in their queues, and get it before anything that comes later.
            told.detach_all();
            tracing::warn!("not all sandboxes say that the new key counts, answering so long");
        }
    }
}

fn lock(context: &Context) -> std::sync::MutexGuard<'_, Option<String>> {
    context.host_key.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Where model calls go, by the environment that the sandbox would have, out of which the key is taken.
pub(super) fn of(context: &Context, env: &mut BTreeMap<String, String>) -> Gateway {
    let own = env.remove(KEY_VARIABLE).filter(|key| !key.is_empty());
    let api_key = own.or_else(|| lock(context).clone());
    Gateway { api_key, ..context.settings.gateway.clone() }
}

/// Where model calls of a session go that has a sandbox, and what is bound to hosts. With `is_gone`, its own
/// credential is being deleted, and of those that are bound the ones that are `gone` are.
pub(super) async fn current(
    context: &Context,
    session: &SessionRow,
    mut is_gone: bool,
    gone: &BTreeSet<String>,
) -> Result<Gateway, OpenError> {
    let version = version(context, &session.agent, &session.digest).map_err(Box::new)?;
    let credential = session.config.credential_id.as_ref().filter(|_| session.status != Status::Ended && !is_gone);
    let kept = match credential {
        Some(id) => match context.settings.credentials.environment(&session.tenant, id, session.id).await {
            // Deleted while nobody could tell the sandbox, which may have its key. Of which type it was is not
            // known any more, so it is taken for one of the model; and what is bound has to be told all the same.
            Err(CredentialError::NotFound) => {
                is_gone = true;
                BTreeMap::new()
            }
            kept => kept?,
        },
        None => BTreeMap::new(),
    };
    let mut env = super::open::environment(context, session, version.definition()?.env, kept).await?;
    // What the session says itself comes before its credential.
    let is_own = own_environment(context, session)?.get(KEY_VARIABLE).is_some_and(|key| !key.is_empty());
    let bindings = binding::of(context, session, gone).await?;
    let gateway = Gateway { bindings, ..of(context, &mut env) };
    if is_gone && !is_own {
        return Ok(Gateway { api_key: None, refusal: Some(GONE.to_owned()), ..gateway });
    }
    Ok(gateway)
}
