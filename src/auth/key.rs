//! Callers on TCP, known by an API key.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Principal;
use crate::crypt::token;
use crate::store::{KEY_USE_STEP_MS, KEYS_MAX, KeyRow, Store, StoreError, now};
use crate::wire::key::CreateKey;
use crate::wire::quantity::TimeSpan;
use crate::wire::scope::Scope;
use crate::wire::{KeyId, Timestamp};

const LABEL_MAX: usize = 255;
const LABEL_DEFAULT: &str = "dashboard-key";
const TENANT_MAX: usize = 64;
/// Seconds that a key can be given to live.
const LIFE_MAX: u64 = 3650 * 86_400;

/// Why a caller on TCP is not admitted. The texts are the wire contract's, but for expired keys.
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
    /// It is over.
    #[error("API key has expired")]
    Expired,
    /// Keys can not be looked up.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A field is wrong.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller may not give it.
    #[error("{0}")]
    Forbidden(String),
    /// The tenant has as many as it may.
    #[error("There are {KEYS_MAX} API keys already; revoke those that nobody uses")]
    TooMany,
    /// There is no chance to make it from.
    #[error("make a key")]
    Token(#[from] token::TokenError),
    /// It could not be stored.
    #[error("store the key")]
    Store(#[source] StoreError),
}

/// The API keys of this daemon.
#[derive(Debug, Clone)]
pub struct Keys {
    store: Arc<dyn Store>,
    /// Tells that some key was revoked.
    revoked: Arc<watch::Sender<()>>,
}

impl Keys {
    /// Keys as this store has them.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, revoked: Arc::new(watch::Sender::new(())) }
    }

    /// Decides by the value of the `Authorization` header.
    pub async fn admit(&self, header: Option<&str>) -> Result<Principal, KeyRefused> {
        let header = header.ok_or(KeyRefused::Missing)?;
        let mut parts = header.split(' ');
        let (Some("Bearer"), Some(key), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyRefused::Malformed);
        };
        let row = self.store.find_key(token::hash(key)).await?.ok_or(KeyRefused::Unknown)?;
        let now = now();
        if row.expires_at.is_some_and(|end| end <= now) {
            return Err(KeyRefused::Expired);
        }
        if row.last_used_at.is_none_or(|noted| noted.millis() + KEY_USE_STEP_MS <= now.millis())
            && let Err(error) = self.store.use_key(row.id, now).await
        {
            tracing::warn!(key = %row.id, error = %error, "when a key was used can not be noted, ignoring");
        }
        Ok(Principal {
            tenant: row.tenant,
            name: format!("key:{}", row.id),
            local: false,
            scopes: row.scopes,
            agent: row.agent,
            key: Some(row.id),
            expires_at: row.expires_at,
        })
    }

    /// Makes a key that allows no more than its maker may. The secret is returned here and nowhere else.
    ///
    /// # Errors
    ///
    /// [`KeyError`] by field if it can not be such, or if there is no room for it.
    pub async fn create(&self, caller: &Principal, body: CreateKey) -> Result<(KeyRow, token::Token), KeyError> {
        let secret = token::Token::generate()?;
        let row = KeyRow { prefix: secret.prefix().to_owned(), hash: secret.hash(), ..checked(caller, body, now())? };
        self.store.create_key(row.clone()).await.map_err(|error| match error {
            StoreError::Conflict(_) => KeyError::TooMany,
            error => KeyError::Store(error),
        })?;
        Ok((row, secret))
    }

    /// The keys of a tenant, oldest first.
    pub async fn list(&self, tenant: &str) -> Result<Vec<KeyRow>, StoreError> {
        self.store.list_keys(tenant).await
    }

    /// Revokes a key of a tenant, at once.
    pub async fn revoke(&self, tenant: &str, id: KeyId) -> Result<(), StoreError> {
        self.store.delete_key(tenant, id).await?;
        self.revoked.send_replace(());
        Ok(())
    }

    /// Waits until the caller's key is useless: revoked, or past its end. For ever without a key. What goes on
    /// for long is ended then.
    pub fn over(&self, caller: &Principal) -> impl Future<Output = ()> + Send + use<> {
        let (store, mut revoked) = (self.store.clone(), self.revoked.subscribe());
        let (key, end) = (caller.key, caller.expires_at);
        async move {
            let Some(key) = key else { return std::future::pending().await };
            let left = end.map(|end| u64::try_from(end.millis() - now().millis()).unwrap_or(0));
            let expired = async {
                match left {
                    Some(left) => tokio::time::sleep(Duration::from_millis(left)).await,
                    None => std::future::pending().await,
                }
            };
            let gone = async {
                // A database that can not tell now does not end what goes on.
                while !matches!(store.has_key(key).await, Ok(false)) {
                    if revoked.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            tokio::select! {
                () = expired => {}
                () = gone => {}
            }
        }
    }
}

/// The tenant that a caller acts for who names one, which only those on the control socket may.
///
/// # Errors
///
/// [`KeyError`] if the caller may not, or it is no name.
pub fn tenant_of(caller: &Principal, named: Option<String>) -> Result<String, KeyError> {
    let Some(named) = named else { return Ok(caller.tenant.clone()) };
    if !caller.local {
        return Err(KeyError::Forbidden("tenant: may be given over the control socket only".to_owned()));
    }
    let is_good = (1..=TENANT_MAX).contains(&named.len())
        && named.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let reason = || format!("has to be 1 to {TENANT_MAX} letters, digits, \".\", \"_\" and \"-\"");
    if is_good { Ok(named) } else { Err(invalid("tenant", reason())) }
}

/// A key as it was asked for, still without its secret.
fn checked(caller: &Principal, body: CreateKey, now: Timestamp) -> Result<KeyRow, KeyError> {
    let label = body.label.unwrap_or_else(|| LABEL_DEFAULT.to_owned());
    if label.chars().count() > LABEL_MAX || label.chars().any(char::is_control) {
        return Err(invalid("label", format!("has to be at most {LABEL_MAX} characters, none of them a control character")));
    }
    let scopes = match body.scopes {
        None if body.agent.is_some() => caller.scopes.without_admin(),
        None => caller.scopes,
        Some(scopes) if scopes.is_empty() => {
            return Err(invalid("scopes", "has to name at least one of read, run, deploy and admin".to_owned()));
        }
        Some(scopes) => scopes,
    };
    if let Some(more) = scopes.each().find(|scope| !caller.scopes.allow(*scope)) {
        return Err(KeyError::Forbidden(format!("scopes: a key without {more} can not make one that has it")));
    }
    if body.agent.is_some() && scopes.each().any(|scope| scope == Scope::Admin) {
        return Err(invalid("scopes", "can not have admin together with agent: admin is for the whole tenant".to_owned()));
    }
    if caller.agent.is_some() && caller.agent != body.agent {
        return Err(KeyError::Forbidden("agent: a key for one agent can not make one for others".to_owned()));
    }
    Ok(KeyRow {
        id: KeyId::new(),
        tenant: tenant_of(caller, body.tenant)?,
        label,
        prefix: String::new(),
        hash: [0; 32],
        created_at: now,
        scopes,
        agent: body.agent,
        expires_at: end_of(caller, body.expires_at, body.expires_in.as_deref(), now)?,
        last_used_at: None,
    })
}

fn end_of(caller: &Principal, at: Option<Timestamp>, span: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, KeyError> {
    let (field, end) = match (at, span) {
        (None, None) => return Ok(caller.expires_at),
        (Some(_), Some(_)) => return Err(invalid("expiresIn", "can not be given together with expiresAt".to_owned())),
        (Some(at), None) => ("expiresAt", at),
        (None, Some(span)) => {
            let span: TimeSpan = span.parse().map_err(|error| invalid("expiresIn", format!("{error}")))?;
            let millis = i64::try_from(span.0.min(LIFE_MAX + 1) * 1000).unwrap_or(i64::MAX);
            ("expiresIn", Timestamp(now.millis() + millis))
        }
    };
    let life = end.millis().saturating_sub(now.millis());
    if life <= 0 || life > LIFE_MAX as i64 * 1000 {
        return Err(invalid(field, "has to be in the future, and within ten years".to_owned()));
    }
    if caller.expires_at.is_some_and(|own| own < end) {
        return Err(KeyError::Forbidden(format!("{field}: a key can not make one that lives longer than itself")));
    }
    Ok(Some(end))
}

fn invalid(field: &'static str, reason: String) -> KeyError {
    KeyError::Invalid { field, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::scope::Scopes;

    fn caller(scopes: &str, expires_at: Option<i64>) -> Principal {
        Principal {
            tenant: "a".to_owned(),
            name: "key:x".to_owned(),
            local: false,
            scopes: scopes.parse().expect("scopes"),
            agent: None,
            key: None,
            expires_at: expires_at.map(Timestamp),
        }
    }

    fn make(caller: &Principal, body: serde_json::Value) -> Result<KeyRow, String> {
        let body = serde_json::from_value(body).expect("a body");
        checked(caller, body, Timestamp(1_000_000)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_never_more_than_its_maker() {
        let run = caller("read,run", Some(2_000_000));
        let child = make(&run, serde_json::json!({})).expect("made");
        assert_eq!(
            (child.scopes.to_string(), child.expires_at, child.tenant.as_str()),
            ("read,run".to_owned(), Some(Timestamp(2_000_000)), "a")
        );
        for (body, field) in [
            (serde_json::json!({"scopes": ["admin"]}), "scopes"),
            (serde_json::json!({"scopes": ["read", "deploy"]}), "scopes"),
            (serde_json::json!({"scopes": []}), "scopes"),
            (serde_json::json!({"expiresIn": "1d"}), "expiresIn"),
            (serde_json::json!({"expiresAt": "2026-01-01T00:00:00Z"}), "expiresAt"),
            (serde_json::json!({"tenant": "b"}), "tenant"),
            (serde_json::json!({"label": "\n"}), "label"),
        ] {
            let error = make(&run, body.clone()).expect_err(field);
            assert!(error.starts_with(field), "{body}: {error}");
        }
        let one = Principal { agent: Some("x".to_owned()), ..run };
        for body in [serde_json::json!({}), serde_json::json!({"agent": "y"})] {
            assert!(make(&one, body).is_err_and(|error| error.starts_with("agent")));
        }
    }

    #[test]
    fn times_are_in_the_future_and_said_once() {
        let admin = caller("admin", None);
        let end = |body| make(&admin, body).map(|row| row.expires_at.map(Timestamp::millis));
        assert_eq!(end(serde_json::json!({})), Ok(None));
        assert_eq!(end(serde_json::json!({"expiresIn": "10s"})), Ok(Some(1_010_000)));
        assert_eq!(end(serde_json::json!({"expiresAt": "1970-01-01T00:20:00Z"})), Ok(Some(1_200_000)));
        for bad in [
            serde_json::json!({"expiresIn": "0s"}),
            serde_json::json!({"expiresIn": "soon"}),
            serde_json::json!({"expiresIn": "99999d"}),
            serde_json::json!({"expiresAt": "1970-01-01T00:00:00Z"}),
            serde_json::json!({"expiresIn": "1d", "expiresAt": "1970-01-01T01:00:00Z"}),
        ] {
            assert!(end(bad.clone()).is_err_and(|error| error.starts_with("expires")), "{bad}");
        }
    }

    #[test]
    fn a_key_for_one_agent_administers_nothing() {
        let admin = caller("admin", None);
        let one = make(&admin, serde_json::json!({"agent": "x"})).expect("made");
        assert_eq!(one.scopes, Scopes::ADMIN.without_admin());
        let error = make(&admin, serde_json::json!({"agent": "x", "scopes": ["admin"]})).expect_err("refused");
        assert!(error.starts_with("scopes"), "{error}");
    }

    #[test]
    fn tenants_are_named_on_the_control_socket_only() {
        let local = Principal { local: true, ..caller("admin", None) };
        assert_eq!(tenant_of(&local, Some("b.c".to_owned())).ok().as_deref(), Some("b.c"));
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(tenant_of(&local, Some(bad.to_owned())).is_err(), "{bad:?}");
        }
    }
}
