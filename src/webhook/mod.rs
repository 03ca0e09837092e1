//! Webhooks: tenants are told of events by requests that are signed, tried again, and in order.
//!
//! ```text
//!  drivers ──Moved (which logs grew)──▶ desk (one task): lanes of webhook × session
//!  http ────changed──────────────────▶   │  due: pure, what is sent now
//!                                        ▼
//!                       attempts (bounded): Store (cursor, next event) ──▶ receiver
//!                                        └──▶ Store (delivery and cursor, one transaction) ──▶ desk
//! ```
//!
//! The log is what is delivered: an event is read from it when it is its turn, and nothing is queued twice. A
//! cursor of each webhook and session moves when an event was taken or given up, so that a crash neither loses one
//! nor changes the order; what was sent just before is sent again, with the same `webhook-id`. One session that
//! waits for its next try does not hold up others.

mod attempt;
mod desk;
mod due;
mod send;
mod sign;
mod url;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::send::{Sender, Unreachable};
use self::url::Url;
pub use crate::config::webhooks::Webhooks as Rules;
use crate::crypt::master::{MasterKeys, Place, SealError};
use crate::session::Moved;
use crate::store::{Store, StoreError, WebhookRow, now};
use crate::telemetry::metrics::Metrics;
use crate::wire::secret::Secret;
use crate::wire::webhook::{ChangeWebhook, CreateWebhook, Delivery, DeliveryState, Webhook, WebhookEvent};
use crate::wire::{Timestamp, WebhookId};

/// Longest description, in characters.
const DESCRIPTION_MAX: usize = 255;
/// Names in a list of events.
const EVENTS_MAX: usize = 20;
/// How long somebody who makes a webhook waits for its name to be looked up.
const LOOK_UP_DEADLINE: Duration = Duration::from_secs(5);
/// Secrets that are sealed anew between two looks at the database.
const RESEAL_STEP: usize = 100;

/// Why something of a webhook was not done.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// There is no master key.
    #[error("Secrets of webhooks can not be kept (there is no master key; \"ashctl doctor\" says how to make one)")]
    NoMaster,
    /// A field is wrong.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The tenant has no such webhook.
    #[error("Webhook not found")]
    NotFound,
    /// The webhook has no such delivery.
    #[error("Delivery not found")]
    NoDelivery,
    /// The event is not in the log any more.
    #[error("The event of this delivery is not in the log any more")]
    NoEvent,
    /// It is tried again by itself.
    #[error("This delivery is pending, and is tried again by itself")]
    Pending,
    /// The tenant has as many as it may.
    #[error("There are {0} webhooks, which is the most (webhooks.max)")]
    TooMany(u32),
    /// Somebody else changed it at the same time.
    #[error("The webhook was changed meanwhile; try again")]
    Changed,
    /// The kernel gave no random bytes.
    #[error("no random bytes from the kernel")]
    Random(#[from] getrandom::Error),
    /// The secret can not be sealed or opened.
    #[error("the secret of the webhook can not be sealed or opened")]
    Seal(#[from] SealError),
    /// The database failed.
    #[error("the database failed")]
    Store(StoreError),
}

impl From<StoreError> for WebhookError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound("delivery") => Self::NoDelivery,
            StoreError::NotFound(_) => Self::NotFound,
            StoreError::Conflict(_) => Self::Changed,
            error => Self::Store(error),
        }
    }
}

/// The webhooks of this daemon.
#[derive(Debug, Clone)]
pub struct Webhooks {
    shared: Arc<Shared>,
}

/// What attempts share.
#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    master: Option<MasterKeys>,
    rules: Rules,
    metrics: Metrics,
    sender: Sender,
    /// A webhook is not as it was.
    changed: Notify,
}

impl Webhooks {
    /// Webhooks as this store has them. Without a master key none can be made.
    pub fn new(store: Arc<dyn Store>, master: Option<MasterKeys>, rules: Rules, metrics: Metrics) -> Self {
        let sender = Sender::new(rules.allow_private.clone());
        Self { shared: Arc::new(Shared { store, master, rules, metrics, sender, changed: Notify::new() }) }
    }

    /// Tells what there is to tell until `stop`.
    pub async fn run(self, moved: Arc<Moved>, stop: CancellationToken) {
        desk::run(self.shared, moved, stop).await;
    }

    /// Makes a webhook, and its secret.
    ///
    /// # Errors
    ///
    /// [`WebhookError`] if a field is wrong or it can not be kept.
    pub async fn create(&self, tenant: &str, new: CreateWebhook) -> Result<(WebhookRow, Secret), WebhookError> {
        let shared = &self.shared;
        let (events, description) = (check_events(new.events)?, new.description.unwrap_or_default());
        check_description(&description)?;
        let url = self.check_url(&new.url).await?;
        let (id, at) = (WebhookId::new(), now());
        let secret = Secret::new(sign::new_secret()?);
        let row = WebhookRow {
            id,
            tenant: tenant.to_owned(),
            url,
            events,
            agent: new.agent,
            description,
            enabled: new.enabled.unwrap_or(true),
            disabled_reason: None,
            failing_since: None,
            sealed: shared.master()?.seal(place(tenant, id), secret.reveal().as_bytes())?,
            created_at: at,
            updated_at: at,
        };
        if !shared.store.create_webhook(row.clone(), shared.rules.max).await? {
            return Err(WebhookError::TooMany(shared.rules.max));
        }
        shared.changed.notify_one();
        Ok((row, secret))
    }

    /// Those of a tenant, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database failed.
    pub async fn list(&self, tenant: &str) -> Result<Vec<WebhookRow>, StoreError> {
        self.shared.store.list_webhooks(tenant).await
    }

    /// One of them.
    ///
    /// # Errors
    ///
    /// [`WebhookError::NotFound`] if there is none.
    pub async fn get(&self, tenant: &str, id: WebhookId) -> Result<WebhookRow, WebhookError> {
        Ok(self.shared.store.get_webhook(tenant, id).await?)
    }

    /// Changes a webhook; with the new secret, if there is one. What is pending is tried anew at once.
    ///
    /// # Errors
    ///
    /// [`WebhookError`] if there is none, a field is wrong, or it can not be kept.
    pub async fn change(
        &self,
        tenant: &str,
        id: WebhookId,
        change: ChangeWebhook,
    ) -> Result<(WebhookRow, Option<Secret>), WebhookError> {
        let old = self.get(tenant, id).await?;
        let mut new = old.clone();
        if let Some(url) = change.url {
            new.url = self.check_url(&url).await?;
        }
        if let Some(events) = change.events {
            new.events = check_events(events)?;
        }
        if let Some(description) = change.description {
            check_description(&description)?;
            new.description = description;
        }
        new.agent = change.agent.unwrap_or(new.agent);
        new.enabled = change.enabled.unwrap_or(new.enabled);
        if change.enabled == Some(true) {
            (new.disabled_reason, new.failing_since) = (None, None);
        }
        let secret = if change.rotate_secret { Some(Secret::new(sign::new_secret()?)) } else { None };
        if let Some(secret) = &secret {
            new.sealed = self.shared.master()?.seal(place(tenant, id), secret.reveal().as_bytes())?;
        }
        // Never the same twice, as it tells one state from the next.
        new.updated_at = Timestamp(now().millis().max(old.updated_at.millis() + 1));
        self.shared.store.change_webhook(old, new.clone()).await?;
        self.shared.changed.notify_one();
        Ok((new, secret))
    }

    /// Forgets a webhook with its deliveries. What is on its way may still arrive.
    ///
    /// # Errors
    ///
    /// [`WebhookError::NotFound`] if there is none.
    pub async fn delete(&self, tenant: &str, id: WebhookId) -> Result<(), WebhookError> {
        self.shared.store.delete_webhook(tenant, id).await?;
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Sends a test, once, whether the webhook is enabled or not.
    ///
    /// # Errors
    ///
    /// [`WebhookError`] if there is none. A receiver that does not take it is no error.
    pub async fn test(&self, tenant: &str, id: WebhookId) -> Result<Delivery, WebhookError> {
        let hook = self.get(tenant, id).await?;
        Ok(self.shared.send_test(&hook).await?)
    }

    /// Deliveries of a webhook before this one, newest first.
    ///
    /// # Errors
    ///
    /// [`WebhookError::NotFound`] if there is no such webhook.
    pub async fn deliveries(
        &self,
        tenant: &str,
        id: WebhookId,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Delivery>, WebhookError> {
        self.get(tenant, id).await?;
        Ok(self.shared.store.deliveries(id, before, limit).await?)
    }

    /// Sends what was delivered or given up once more, out of its order.
    ///
    /// # Errors
    ///
    /// [`WebhookError`] if there is none, or it is tried again anyway. A receiver that does not take it is no error.
    pub async fn redeliver(&self, tenant: &str, id: WebhookId, delivery: i64) -> Result<Delivery, WebhookError> {
        let hook = self.get(tenant, id).await?;
        let delivery = self.shared.store.get_delivery(id, delivery).await?;
        if delivery.state == DeliveryState::Pending {
            return Err(WebhookError::Pending);
        }
        self.shared.send_again(&hook, &delivery).await?.ok_or(WebhookError::NoEvent)
    }

    /// Seals the secrets of all tenants that are under an older master key under the newest one. Says how many.
    ///
    /// # Errors
    ///
    /// [`WebhookError`] if one can not be opened or stored. Those before it are done.
    pub async fn reseal(&self) -> Result<usize, WebhookError> {
        let master = self.shared.master()?;
        let mut resealed = 0;
        loop {
            let rows = self.shared.store.webhooks_of_other_masters(master.newest(), RESEAL_STEP).await?;
            if rows.is_empty() {
                return Ok(resealed);
            }
            for row in rows {
                let place = place(&row.tenant, row.id);
                let new = master.seal(place, &master.open(place, &row.sealed)?)?;
                self.shared.store.reseal_webhook(row.id, row.sealed, new).await?;
                resealed += 1;
            }
        }
    }

    /// The address in its normal form. One that leads nowhere now may lead somewhere later.
    async fn check_url(&self, text: &str) -> Result<String, WebhookError> {
        let invalid = |reason| WebhookError::Invalid { field: "url", reason };
        let url = Url::parse(text, self.shared.rules.allow_http).map_err(invalid)?;
        match tokio::time::timeout(LOOK_UP_DEADLINE, self.shared.sender.addresses(&url)).await {
            Ok(Err(Unreachable::Refused(reason))) => Err(invalid(reason)),
            Ok(Ok(_) | Err(Unreachable::Unknown(_))) | Err(_) => Ok(url.to_string()),
        }
    }
}

impl Shared {
    fn master(&self) -> Result<&MasterKeys, WebhookError> {
        self.master.as_ref().ok_or(WebhookError::NoMaster)
    }
}

/// What is shown of a webhook.
pub fn shown(row: WebhookRow) -> Webhook {
    Webhook {
        id: row.id,
        url: row.url,
        events: row.events,
        agent: row.agent,
        description: row.description,
        enabled: row.enabled,
        disabled_reason: row.disabled_reason,
        failing_since: row.failing_since,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

fn place(tenant: &str, id: WebhookId) -> Place<'_> {
    Place { what: "webhooks.sealed", id: id.as_uuid(), tenant }
}

/// The names, each once.
fn check_events(mut events: Vec<WebhookEvent>) -> Result<Vec<WebhookEvent>, WebhookError> {
    if events.is_empty() || events.len() > EVENTS_MAX {
        let reason = format!("has to have 1 to {EVENTS_MAX} names; \"*\" is all");
        return Err(WebhookError::Invalid { field: "events", reason });
    }
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

fn check_description(text: &str) -> Result<(), WebhookError> {
    let is_good = text.chars().count() <= DESCRIPTION_MAX && !text.chars().any(char::is_control);
    let reason = || format!("has to be at most {DESCRIPTION_MAX} characters, none of them a control character");
    if is_good { Ok(()) } else { Err(WebhookError::Invalid { field: "description", reason: reason() }) }
}
