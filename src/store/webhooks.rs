//! Webhooks: who is told, how far, and what became of it.
//!
//! The log is what is delivered. Beside it there is a cursor of each webhook and session, and rows of what
//! was tried, so nothing is queued that the log already has.

use super::Pending;
use crate::crypt::master::Sealed;
use crate::wire::webhook::{Delivery, DeliveryState, WebhookEvent};
use crate::wire::{SessionId, Timestamp, WebhookId};

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRow {
    /// The webhook.
    pub id: WebhookId,
    /// The tenant whose it is.
    pub tenant: String,
    /// Where events are sent.
    pub url: String,
    /// What it is told of.
    pub events: Vec<WebhookEvent>,
    /// The one agent of whose sessions it is told.
    pub agent: Option<String>,
    /// What its maker says of it.
    pub description: String,
    /// Whether it is told.
    pub enabled: bool,
    /// Why it was disabled by itself.
    pub disabled_reason: Option<String>,
    /// Since when nothing came through.
    pub failing_since: Option<Timestamp>,
    /// Its secret.
    pub sealed: Sealed,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
}

/// A session in whose log something waits for a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The session.
    pub session: SessionId,
    /// Its agent.
    pub agent: String,
    /// When what failed is tried again.
    pub next_at: Option<Timestamp>,
}

/// How far a webhook is with a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookPlace {
    /// It is done with all events up to this one.
    pub through: i64,
    /// The newest event.
    pub tail: i64,
    /// Since when nothing came through.
    pub failing_since: Option<Timestamp>,
    /// The event that failed and is tried again, how often it was, and since when.
    pub pending: Option<(i64, i64, Timestamp)>,
}

/// What became of an attempt.
#[derive(Debug, Clone)]
pub struct DeliveryNote {
    /// The webhook.
    pub webhook: WebhookId,
    /// The address that was tried; disabling counts for it alone.
    pub url: String,
    /// The session and the event; `None` for a test.
    pub event: Option<(SessionId, i64)>,
    /// What the event is called.
    pub name: String,
    /// When it was sent.
    pub at: Timestamp,
    /// How it stands.
    pub state: DeliveryState,
    /// When it is tried again.
    pub next_at: Option<Timestamp>,
    /// The status that was answered.
    pub status: Option<u16>,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether it was its turn, so that the cursor moves when it is over.
    pub in_order: bool,
    /// Why the webhook is to be disabled.
    pub disable: Option<String>,
    /// Deliveries of the webhook that are kept, beside those that are pending.
    pub keep: u32,
}

/// Webhooks in the database.
pub trait Webhooks: Send + Sync {
    /// Keeps a webhook, which begins at the ends of all logs. `false` if the tenant has `most` already.
    fn create_webhook(&self, row: WebhookRow, most: u32) -> Pending<'_, bool>;

    /// Those of a tenant, oldest first.
    fn list_webhooks<'a>(&'a self, tenant: &'a str) -> Pending<'a, Vec<WebhookRow>>;

    /// Those of all tenants that are enabled.
    fn enabled_webhooks(&self) -> Pending<'_, Vec<WebhookRow>>;

    /// One of a tenant, or [`NotFound`](super::StoreError::NotFound).
    fn get_webhook<'a>(&'a self, tenant: &'a str, id: WebhookId) -> Pending<'a, WebhookRow>;

    /// Stores all that can change of a webhook, unless it changed since it was read as `old` was
    /// ([`Conflict`](super::StoreError::Conflict)). What is pending is tried anew at once. One that was disabled begins at the
    /// ends of all logs, and so do other events or another agent, where nothing waits.
    fn change_webhook(&self, old: WebhookRow, new: WebhookRow) -> Pending<'_, ()>;

    /// Forgets a webhook with all that belongs to it, or [`NotFound`](super::StoreError::NotFound).
    fn delete_webhook<'a>(&'a self, tenant: &'a str, id: WebhookId) -> Pending<'a, ()>;

    /// Sessions after this one, by id, in whose logs something may wait for a webhook.
    fn waiting_for_webhook(&self, row: WebhookRow, after: Option<SessionId>, limit: usize) -> Pending<'_, Vec<Waiting>>;

    /// How far a webhook is with a session, or [`NotFound`](super::StoreError::NotFound).
    fn webhook_place(&self, id: WebhookId, session: SessionId) -> Pending<'_, WebhookPlace>;

    /// Moves the cursor over events that the webhook is not told of.
    fn pass_webhook(&self, id: WebhookId, session: SessionId, through: i64) -> Pending<'_, ()>;

    /// Notes an attempt with all that it implies, or [`NotFound`](super::StoreError::NotFound) if there is no such webhook.
    fn note_delivery(&self, note: DeliveryNote) -> Pending<'_, Delivery>;

    /// Deliveries of a webhook before this one, newest first.
    fn deliveries(&self, id: WebhookId, before: Option<i64>, limit: usize) -> Pending<'_, Vec<Delivery>>;

    /// One of them, or [`NotFound`](super::StoreError::NotFound).
    fn get_delivery(&self, id: WebhookId, delivery: i64) -> Pending<'_, Delivery>;

    /// Some webhooks whose secrets are under another master key.
    fn webhooks_of_other_masters<'a>(&'a self, master: &'a str, limit: usize) -> Pending<'a, Vec<WebhookRow>>;

    /// Stores a secret that was sealed anew, unless it was changed meanwhile.
    fn reseal_webhook(&self, id: WebhookId, old: Sealed, new: Sealed) -> Pending<'_, ()>;
}
