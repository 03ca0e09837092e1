//! Callers on TCP, known by an API key.

use std::sync::Arc;

use super::Principal;
use crate::crypt::token;
use crate::store::{KeyRow, Store, StoreError};
use crate::wire::KeyId;

/// Why a caller on TCP is not admitted. The texts are the wire contract's.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyRefused {
    /// There is no header.
    #[error("Missing Authorization header")]
    Missing,
    /// It is not `Bearer <key>`.
    #[error("Invalid Authorization header format")]
    Malformed,
    /// There is no such key.
    #[error("Invalid API key")]
    Unknown,
    /// Keys can not be looked up.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no chance to make it from.
    #[error("make a key")]
    Token(#[from] token::TokenError),
    /// It could not be stored.
    #[error("store the key")]
    Store(#[from] StoreError),
}

/// The API keys of this daemon.
#[derive(Debug, Clone)]
pub struct Keys {
    store: Arc<dyn Store>,
}

impl Keys {
    /// Keys as this store has them.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Decides by the value of the `Authorization` header.
    pub async fn admit(&self, header: Option<&str>) -> Result<Principal, KeyRefused> {
        let header = header.ok_or(KeyRefused::Missing)?;
        let mut parts = header.split(' ');
        let (Some("Bearer"), Some(key), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyRefused::Malformed);
        };
        let row = self.store.find_key(token::hash(key)).await?.ok_or(KeyRefused::Unknown)?;
        Ok(Principal { tenant: row.tenant, name: format!("key:{}", row.id), local: false })
    }

    /// Makes a key. The secret is returned here and nowhere else.
    pub async fn create(&self, tenant: &str, label: &str) -> Result<(KeyId, token::Token), KeyError> {
        let secret = token::Token::generate()?;
        let id = KeyId::new();
        let row = KeyRow {
            id,
            tenant: tenant.to_owned(),
            label: label.to_owned(),
            prefix: secret.prefix().to_owned(),
            hash: secret.hash(),
            created_at: crate::store::now(),
        };
        self.store.create_key(row).await?;
        Ok((id, secret))
    }

    /// The keys of a tenant, oldest first.
    pub async fn list(&self, tenant: &str) -> Result<Vec<KeyRow>, StoreError> {
        self.store.list_keys(tenant).await
    }

    /// Revokes a key of a tenant, at once.
    pub async fn revoke(&self, tenant: &str, id: KeyId) -> Result<(), StoreError> {
        self.store.delete_key(tenant, id).await
    }
}
