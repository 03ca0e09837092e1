//! Webhooks: who is told of which events, and what became of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::event::{Kind, SessionEvent};
use super::secret::Secret;
use super::{SessionId, Timestamp, WebhookId};

/// Actions of [`Kind::Lifecycle`] after which a session has another status.
const STATUSES: &[&str] = &["created", "paused", "stopped", "resumed", "restored", "resume_failed", "ended"];

macro_rules! events {
    ($($(#[$of:meta])* $variant:ident = $word:literal,)*) => {
        /// What a webhook can be told of. The list is closed: programs may match on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
        pub enum WebhookEvent {
            $($(#[$of])* #[serde(rename = $word)] $variant,)*
        }

        impl WebhookEvent {
            /// All that there are.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

events! {
    /// A message came in and waits for its turn.
    TurnQueued = "turn.queued",
    /// A message was given to the runtime.
    TurnStarted = "turn.started",
    /// The runtime's result of a turn.
    TurnResult = "turn.result",
    /// Something failed in a turn.
    TurnError = "turn.error",
    /// A turn is over, whatever came of it.
    TurnEnded = "turn.ended",
    /// The runtime asks for permission, or asks a question.
    PermissionRequested = "permission.requested",
    /// A request was answered, or needs no answer any more.
    PermissionResolved = "permission.resolved",
    /// A session was made, paused, stopped, resumed or ended.
    SessionStatus = "session.status",
    /// A session reached a limit.
    SessionLimit = "session.limit",
    /// The processes of a session ended.
    SandboxEnded = "sandbox.ended",
    /// All of these, and those of later versions.
    All = "*",
}

impl WebhookEvent {
    /// The kind of event in the log; of [`Self::All`], none.
    pub const fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::TurnQueued => Kind::TurnQueued,
            Self::TurnStarted => Kind::TurnStarted,
            Self::TurnResult => Kind::TurnComplete,
            Self::TurnError => Kind::Error,
            Self::TurnEnded => Kind::TurnEnded,
            Self::PermissionRequested => Kind::PermissionRequest,
            Self::PermissionResolved => Kind::PermissionResolved,
            Self::SessionStatus | Self::SessionLimit | Self::SandboxEnded => Kind::Lifecycle,
            Self::All => return None,
        })
    }

    /// The kinds of event in the log that these names may stand for.
    pub fn kinds(events: &[Self]) -> Vec<Kind> {
        let events = if events.contains(&Self::All) { Self::ALL } else { events };
        let mut kinds = Vec::new();
        for kind in events.iter().filter_map(|event| event.kind()) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// What an event of the log is called, if webhooks can be told of it.
    pub fn of(kind: &Kind, data: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Change {
            action: String,
        }
        if *kind != Kind::Lifecycle {
            return Self::ALL.iter().copied().find(|event| event.kind().as_ref() == Some(kind));
        }
        match serde_json::from_str::<Change>(data).ok()?.action.as_str() {
            "sandbox_ended" => Some(Self::SandboxEnded),
            "limit" => Some(Self::SessionLimit),
            action => STATUSES.contains(&action).then_some(Self::SessionStatus),
        }
    }
}

impl fmt::Display for WebhookEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no [`WebhookEvent`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an event that webhooks are told of, such as turn.ended or *")]
pub struct WebhookEventError(String);

impl FromStr for WebhookEvent {
    type Err = WebhookEventError;

    fn from_str(text: &str) -> Result<Self, WebhookEventError> {
        let refuse = || WebhookEventError(text.chars().take(32).collect());
        Self::ALL.iter().find(|event| event.as_str() == text).copied().ok_or_else(refuse)
    }
}

/// A webhook without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// The webhook.
    pub id: WebhookId,
    /// Where events are sent.
    pub url: String,
    /// What it is told of.
    pub events: Vec<WebhookEvent>,
    /// The one agent of whose sessions it is told; `null`: of all.
    pub agent: Option<String>,
    /// What its maker says of it; may be empty.
    pub description: String,
    /// Whether it is told.
    pub enabled: bool,
    /// Why Ash disabled it, if it did.
    pub disabled_reason: Option<String>,
    /// Since when nothing came through; `null` after a success.
    pub failing_since: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
}

/// Body of `POST /api/webhooks`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateWebhook {
    /// `https://…`, or `http://…` where the operator allows it; at most 2048 characters.
    pub url: String,
    /// 1 to 20 of [`WebhookEvent`].
    pub events: Vec<WebhookEvent>,
    /// Default: all agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// At most 255 characters; default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Default: yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Body of `PATCH /api/webhooks/{id}`. What is left out stays.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeWebhook {
    /// The new address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The new list of events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<WebhookEvent>>,
    /// The new agent; `null`: all.
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub agent: Option<Option<String>>,
    /// The new description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it is told from now on. What happened while it was not is not told later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Makes a new secret, which the answer shows; the old one signs nothing any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rotate_secret: bool,
}

/// Tells `null` from a field that is left out.
pub(super) fn told<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `{"webhook": …}`, with the secret where it is new.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct WebhookBody {
    /// The webhook.
    pub webhook: Webhook,
    /// Its secret, which is not shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
}

/// `{"webhooks": […]}`, oldest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct WebhookList {
    /// The webhooks.
    pub webhooks: Vec<Webhook>,
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It failed and is tried again.
    Pending,
    /// It was taken.
    Delivered,
    /// It failed and is not tried again.
    Failed,
}

impl DeliveryState {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for DeliveryState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::Pending, Self::Delivered, Self::Failed].into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not how a delivery stands"))
    }
}

/// What became of one event, or of a test.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Grows with each delivery of the daemon.
    pub id: i64,
    /// The webhook.
    pub webhook_id: WebhookId,
    /// The session; `null` for a test.
    pub session_id: Option<SessionId>,
    /// The event's id in the session's log; `null` for a test.
    pub event: Option<i64>,
    /// A word of [`WebhookEvent`], or `webhook.test`.
    pub r#type: String,
    /// How it stands.
    pub state: DeliveryState,
    /// How often it was sent.
    pub attempts: i64,
    /// When it was sent first.
    pub created_at: Timestamp,
    /// When it was sent last.
    pub tried_at: Timestamp,
    /// When it is sent again, if it is.
    pub next_at: Option<Timestamp>,
    /// The HTTP status that was answered last, if there was one.
    pub status: Option<u16>,
    /// Why it failed last, if it did.
    pub error: Option<String>,
}

/// `{"delivery": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct DeliveryBody {
    /// The delivery.
    pub delivery: Delivery,
}

/// `{"deliveries": […]}`, newest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct DeliveryList {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
}

/// What is sent.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Told<T> {
    /// A word of [`WebhookEvent`], or `webhook.test`.
    pub r#type: String,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What happened.
    pub data: T,
}

/// What is sent of an event.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ToldEvent {
    /// The event as `GET /api/sessions/{id}/events` shows it. Its `data` is `null` where that is longer than
    /// 256 KiB.
    pub event: SessionEvent,
    /// The session.
    pub session_id: SessionId,
    /// Its agent.
    pub agent_name: String,
}

/// What a test sends.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ToldTest {
    /// The webhook.
    pub webhook_id: WebhookId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_no_other_is_one() {
        for event in WebhookEvent::ALL {
            assert_eq!(event.as_str().parse().as_ref(), Ok(event));
            assert_eq!(serde_json::to_value(event).ok(), Some(event.as_str().into()));
        }
        assert!("turn.stolen".parse::<WebhookEvent>().is_err());
        assert!(serde_json::from_value::<WebhookEvent>("turn.stolen".into()).is_err());
    }

    #[test]
    fn events_of_the_log_have_one_name_or_none() {
        let named = |kind, data| WebhookEvent::of(&kind, data).map(WebhookEvent::as_str);
        assert_eq!(named(Kind::TurnEnded, "{}"), Some("turn.ended"));
        assert_eq!(named(Kind::TextDelta, "{}"), None);
        assert_eq!(named(Kind::Lifecycle, r#"{"action":"ended"}"#), Some("session.status"));
        assert_eq!(named(Kind::Lifecycle, r#"{"action":"sandbox_ended"}"#), Some("sandbox.ended"));
        assert_eq!(named(Kind::Lifecycle, r#"{"action":"snapshot"}"#), None);
        assert_eq!(named(Kind::Lifecycle, "broken"), None);
        assert_eq!(WebhookEvent::kinds(&[WebhookEvent::SessionStatus, WebhookEvent::SandboxEnded]), [Kind::Lifecycle]);
        assert_eq!(WebhookEvent::kinds(&[WebhookEvent::All]).len(), 8);
    }

    #[test]
    fn a_change_tells_null_from_nothing() {
        let read = |text| serde_json::from_str::<ChangeWebhook>(text).expect(text).agent;
        assert_eq!(read("{}"), None);
        assert_eq!(read(r#"{"agent":null}"#), Some(None));
        assert_eq!(read(r#"{"agent":"a"}"#), Some(Some("a".to_owned())));
        assert!(serde_json::from_str::<ChangeWebhook>(r#"{"uri":""}"#).is_err());
    }
}
