//! Credentials of tenants: kept sealed, and opened for the sandbox that is given them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::crypt::env::{EnvOwner, KeptEnv};
use crate::crypt::master::{MasterKeys, Place, SealError};
use crate::store::{CREDENTIALS_MAX, CredentialRow, NewAudit, Store, StoreError, audit};
use crate::wire::audit::{Action, Outcome};
use crate::wire::credential::{ChangeCredential, CreateCredential, CredentialType, Resealed};
use crate::wire::secret::Secret;
use crate::wire::{CredentialId, SessionId};

/// Far above any key; a bedrock object is the longest.
const KEY_MAX: usize = 16 << 10;
const LABEL_MAX: usize = 255;
/// Credentials that are sealed anew between two looks at the database.
const RESEAL_STEP: usize = 100;

/// Why a credential was not kept, found or used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// There is no master key.
    #[error("Credential storage not configured (there is no master key; \"ashctl doctor\" says how to make one)")]
    NoMaster,
    /// A field is wrong.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The tenant has as many as it may.
    #[error("There are {CREDENTIALS_MAX} credentials already; delete those that no session uses")]
    TooMany,
    /// The tenant has no such credential.
    #[error("Credential not found")]
    NotFound,
    /// A session can not use it.
    #[error("Sessions can not use credentials of the type \"{}\" yet", .0.as_str())]
    Unusable(CredentialType),
    /// Its secret can not be sealed or opened.
    #[error("the secret of the credential can not be sealed or opened")]
    Seal(#[from] SealError),
    /// The database failed.
    #[error("the database failed")]
    Store(StoreError),
}

impl From<StoreError> for CredentialError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(_) => Self::NotFound,
            error => Self::Store(error),
        }
    }
}

/// The credentials of this daemon.
#[derive(Debug, Clone)]
pub struct Credentials {
    store: Arc<dyn Store>,
    master: Option<MasterKeys>,
}

impl Credentials {
    /// Credentials as this store has them. Without a master key none can be kept or used.
    pub fn new(store: Arc<dyn Store>, master: Option<MasterKeys>) -> Self {
        Self { store, master }
    }

    /// Keeps a credential.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if a field is wrong or it can not be kept.
    pub async fn create(&self, tenant: &str, new: &CreateCredential) -> Result<CredentialRow, CredentialError> {
        check_key(new.r#type, &new.key)?;
        let label = new.label.clone().unwrap_or_default();
        check_label(&label)?;
        let id = CredentialId::new();
        let row = CredentialRow {
            id,
            tenant: tenant.to_owned(),
            kind: new.r#type,
            label,
            sealed: self.master()?.seal(place(tenant, id), new.key.reveal().as_bytes())?,
            created_at: crate::store::now(),
            last_used_at: None,
        };
        match self.store.create_credential(row.clone()).await {
            Err(StoreError::Conflict(_)) => Err(CredentialError::TooMany),
            created => Ok(created.map(|()| row)?),
        }
    }

    /// The credentials of a tenant, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database failed.
    pub async fn list(&self, tenant: &str) -> Result<Vec<CredentialRow>, StoreError> {
        self.store.list_credentials(tenant).await
    }

    /// One of them.
    ///
    /// # Errors
    ///
    /// [`CredentialError::NotFound`] if there is none.
    pub async fn get(&self, tenant: &str, id: CredentialId) -> Result<CredentialRow, CredentialError> {
        Ok(self.store.get_credential(tenant, id).await?)
    }

    /// Changes label or secret. What is in the environment of a sandbox stays there while its processes live.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if there is none, a field is wrong, or it can not be kept.
    pub async fn change(&self, tenant: &str, id: CredentialId, new: ChangeCredential) -> Result<CredentialRow, CredentialError> {
        let row = self.store.get_credential(tenant, id).await?;
        new.label.as_deref().map_or(Ok(()), check_label)?;
        let sealed = match &new.key {
            Some(key) => {
                check_key(row.kind, key)?;
                Some(self.master()?.seal(place(tenant, id), key.reveal().as_bytes())?)
            }
            None => None,
        };
        self.store.change_credential(tenant, id, new.label, sealed).await?;
        Ok(self.store.get_credential(tenant, id).await?)
    }

    /// Forgets a credential. What is in the environment of a sandbox stays there while its processes live; the
    /// next ones of its session do not start until it is given another one.
    ///
    /// # Errors
    ///
    /// [`CredentialError::NotFound`] if there is none.
    pub async fn delete(&self, tenant: &str, id: CredentialId) -> Result<(), CredentialError> {
        Ok(self.store.delete_credential(tenant, id).await?)
    }

    /// Whether sessions of a tenant can use a credential.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if they can not.
    pub async fn check(&self, tenant: &str, id: &str) -> Result<(), CredentialError> {
        self.open(tenant, id).await.map(drop)
    }

    /// The environment that a credential makes for the sandbox of a session, and notes that it was used. The key of
    /// the model API has its name in it, too; whoever sets up the sandbox takes it out.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if there is none, or it can not be opened or used.
    pub async fn environment(
        &self,
        tenant: &str,
        id: &str,
        user: SessionId,
    ) -> Result<BTreeMap<String, String>, CredentialError> {
        let opened = self.open(tenant, id).await;
        let entry = NewAudit {
            unwritten: 0,
            tenant: tenant.to_owned(),
            principal: format!("session:{user}"),
            action: Action::CredentialUse,
            object: Some(id.to_owned()),
            request_id: None,
            peer: None,
            outcome: match &opened {
                Ok(_) => Outcome::Ok,
                Err(CredentialError::NotFound | CredentialError::Unusable(_)) => Outcome::Refused,
                Err(_) => Outcome::Failed,
            },
        };
        audit::record(&*self.store, entry).await;
        let (row, variable, secret) = opened?;
        self.store.use_credential(row.id, crate::store::now()).await?;
        Ok(BTreeMap::from([(variable.to_owned(), secret)]))
    }

    async fn open(&self, tenant: &str, id: &str) -> Result<(CredentialRow, &'static str, String), CredentialError> {
        let id: CredentialId = id.parse().map_err(|_| CredentialError::NotFound)?;
        let row = self.store.get_credential(tenant, id).await?;
        let variable = match row.kind {
            CredentialType::Anthropic => "ANTHROPIC_API_KEY",
            CredentialType::Openai => "OPENAI_API_KEY",
            CredentialType::Custom => "ASH_CUSTOM_API_KEY",
            CredentialType::Bedrock => return Err(CredentialError::Unusable(row.kind)),
        };
        let secret = self.master()?.open(place(tenant, id), &row.sealed)?;
        let secret = String::from_utf8(secret).map_err(|_| SealError::Damaged)?;
        Ok((row, variable, secret))
    }

    /// Seals all credentials and environments of all tenants that are under an older master key under the
    /// newest one.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if one can not be opened or stored. Those before it are done, and it can be
    /// tried again.
    pub async fn reseal(&self) -> Result<Resealed, CredentialError> {
        let master = self.master()?;
        let mut resealed = 0;
        loop {
            let rows = self.store.credentials_of_other_masters(master.newest(), RESEAL_STEP).await?;
            if rows.is_empty() {
                let environments = self.reseal_envs().await?;
                return Ok(Resealed { master_key: master.newest().to_owned(), resealed, environments, webhooks: 0 });
            }
            for row in rows {
                let place = place(&row.tenant, row.id);
                let new = master.seal(place, &master.open(place, &row.sealed)?)?;
                self.store.reseal_credential(row.id, row.sealed, new).await?;
                resealed += 1;
            }
        }
    }

    /// Makes variables ready to be kept for their owner: sealed, if there is a master key.
    ///
    /// # Errors
    ///
    /// [`SealError`] if they can not be sealed.
    pub fn seal_env(&self, owner: &EnvOwner, env: BTreeMap<String, String>) -> Result<KeptEnv, SealError> {
        KeptEnv::seal(self.master.as_ref(), owner, env)
    }

    /// The variables that are kept for an owner.
    ///
    /// # Errors
    ///
    /// [`SealError`] if they can not be opened.
    pub fn open_env(&self, owner: &EnvOwner, env: &KeptEnv) -> Result<BTreeMap<String, String>, SealError> {
        env.open(self.master.as_ref(), owner)
    }

    /// Seals the environments of agents and sessions that are in the clear, as of older releases and of a
    /// time without a master key, or under an older key. Says how many.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if there is no key, or one can not be opened or stored. The others are done.
    pub async fn reseal_envs(&self) -> Result<usize, CredentialError> {
        let master = self.master()?;
        let (mut resealed, mut left, mut failed) = (0, 0, None);
        loop {
            let found = self.store.envs_of_other_masters(master.newest(), RESEAL_STEP, left).await?;
            if found.is_empty() {
                return failed.map_or(Ok(resealed), |error: SealError| Err(error.into()));
            }
            for (owner, old) in found {
                let new = self.open_env(&owner, &old).and_then(|env| self.seal_env(&owner, env));
                match new {
                    // One that was changed meanwhile is in order, or comes again with the next key.
                    Ok(new) if self.store.reseal_env(&owner, &old, &new).await? => resealed += 1,
                    Ok(_) => left += 1,
                    Err(error) => {
                        left += 1;
                        failed.get_or_insert(error);
                    }
                }
            }
        }
    }

    fn master(&self) -> Result<&MasterKeys, CredentialError> {
        self.master.as_ref().ok_or(CredentialError::NoMaster)
    }
}

fn place(tenant: &str, id: CredentialId) -> Place<'_> {
    Place { what: "credentials.sealed", id: id.as_uuid(), tenant }
}

fn check_label(label: &str) -> Result<(), CredentialError> {
    let is_good = label.chars().count() <= LABEL_MAX && !label.chars().any(char::is_control);
    let reason = || format!("has to be at most {LABEL_MAX} characters, none of them a control character");
    if is_good { Ok(()) } else { Err(CredentialError::Invalid { field: "label", reason: reason() }) }
}

/// A key goes into a header or a variable, so it is one line of visible characters.
fn check_key(kind: CredentialType, key: &Secret) -> Result<(), CredentialError> {
    let invalid = |reason: String| CredentialError::Invalid { field: "key", reason };
    let key = key.reveal();
    if key.is_empty() || key.len() > KEY_MAX {
        return Err(invalid(format!("has to be 1 to {KEY_MAX} bytes")));
    }
    if kind == CredentialType::Bedrock {
        return check_bedrock(key).map_err(invalid);
    }
    if key.bytes().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    Err(invalid("has to be one word of visible ASCII characters".to_owned()))
}

fn check_bedrock(key: &str) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bedrock {
        access_key_id: Secret,
        secret_access_key: Secret,
        region: String,
        #[serde(default)]
        session_token: Option<Secret>,
    }
    let form = "has to be a JSON object with accessKeyId, secretAccessKey, region and, if there is one, sessionToken";
    // What serde says of it could quote the secret.
    let key: Bedrock = serde_json::from_str(key).map_err(|_| form.to_owned())?;
    let secrets = [Some(&key.access_key_id), Some(&key.secret_access_key), key.session_token.as_ref()];
    let is_whole = secrets.into_iter().flatten().all(|secret| !secret.reveal().is_empty()) && !key.region.is_empty();
    if is_whole { Ok(()) } else { Err(format!("{form}, none of them empty")) }
}

#[cfg(test)]
mod tests;
