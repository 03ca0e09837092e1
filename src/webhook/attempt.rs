//! One attempt: find the next event of a lane, send it, note what came of it.

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::due::{Answer, Key, Tried, Verdict, is_success, judge};
use super::send::Message;
use super::url::Url;
use super::{Shared, place, sign};
use crate::fault::{self, Point};
use crate::session::view;
use crate::store::{DeliveryNote, EventFilter, EventRow, StoreError, WebhookRow, now};
use crate::wire::webhook::{Delivery, DeliveryState, Told, ToldEvent, ToldTest, WebhookEvent};
use crate::wire::{SessionId, Timestamp};

/// Events read at a time, and their bytes, which one may exceed.
const BATCH: usize = 16;
const BATCH_BYTES: usize = 256 << 10;
/// Longest data of an event that is sent.
const DATA_MAX: usize = 256 << 10;
/// Longest error that is kept.
const ERROR_MAX: usize = 500;

/// What became of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum After {
    /// There may be more to send.
    More,
    /// There is nothing to send.
    Nothing,
    /// What failed is sent again then.
    Wait(Timestamp),
    /// The webhook is disabled or gone.
    Gone,
    /// The database failed.
    Broken,
}

impl Shared {
    /// Sends the next event of a session to a webhook, if there is one.
    pub(super) async fn attempt(&self, hook: &WebhookRow, session: SessionId, agent: &str) -> After {
        match self.try_next(hook, session, agent).await {
            Ok(after) => after,
            Err(StoreError::NotFound(_)) => After::Nothing,
            Err(error) => {
                tracing::warn!(webhook = %hook.id, session_id = %session, error = %error, "a webhook can not be served now");
                After::Broken
            }
        }
    }

    async fn try_next(&self, hook: &WebhookRow, session: SessionId, agent: &str) -> Result<After, StoreError> {
        let place = self.store.webhook_place(hook.id, session).await?;
        let Some((event, name)) = self.next_event(hook, session, place.through).await? else {
            // So that a wider list of events begins here.
            if place.tail > place.through {
                self.store.pass_webhook(hook.id, session, place.tail).await?;
            }
            return Ok(After::Nothing);
        };
        let before = place.pending.filter(|(pending, ..)| *pending == event.id);
        let (at, begun) = (now(), Instant::now());
        let answer = self
            .post(hook, &message_id((hook.id, session), event.id), at, body(&hook.tenant, session, agent, &event, name))
            .await;
        self.metrics.webhook_attempt_seconds.observe(begun.elapsed().as_secs_f64());
        fault::at(Point::WebhookSent);
        let tried = Tried {
            key: (hook.id, session),
            event: event.id,
            attempts: before.map_or(0, |(_, attempts, _)| attempts) + 1,
            since: before.map_or(at, |(.., since)| since),
            failing_since: place.failing_since.unwrap_or(at),
        };
        let verdict = judge(&answer, tried, now());
        let mut note = self.note(hook, name.as_str(), at, answer);
        note.event = Some((session, event.id));
        note.in_order = true;
        let outcome = match &verdict {
            Verdict::Delivered => "delivered",
            Verdict::Retry(_) => "retried",
            Verdict::GivenUp => "given_up",
            Verdict::Disable(_) => "disabled",
        };
        self.metrics.webhook_attempts.with_label_values(&[outcome]).inc();
        let after = match verdict {
            Verdict::Delivered => After::More,
            Verdict::Retry(next) => {
                (note.state, note.next_at) = (DeliveryState::Pending, Some(next));
                After::Wait(next)
            }
            Verdict::GivenUp => {
                tracing::warn!(webhook = %hook.id, session_id = %session, event = event.id, "an event is given up");
                After::More
            }
            Verdict::Disable(reason) => {
                tracing::warn!(webhook = %hook.id, reason, "a webhook is disabled");
                note.disable = Some(reason);
                After::Gone
            }
        };
        self.store.note_delivery(note).await?;
        fault::at(Point::WebhookNoted);
        Ok(after)
    }

    async fn next_event(
        &self,
        hook: &WebhookRow,
        session: SessionId,
        through: i64,
    ) -> Result<Option<(EventRow, WebhookEvent)>, StoreError> {
        let kinds = WebhookEvent::kinds(&hook.events);
        let mut after = through;
        loop {
            let filter = EventFilter { turn: None, kinds: kinds.clone(), bytes: Some(BATCH_BYTES) };
            let events = self.store.events(session, after, BATCH, filter).await?;
            let Some(last) = events.last() else { return Ok(None) };
            after = last.id;
            let found = events.into_iter().find_map(|event| wanted(hook, &event).map(|name| (event, name)));
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Sends an event once more, out of its order. `None` if it is not in the log any more.
    pub(super) async fn send_again(&self, hook: &WebhookRow, delivery: &Delivery) -> Result<Option<Delivery>, StoreError> {
        let (Some(session), Some(number)) = (delivery.session_id, delivery.event) else {
            return self.send_test(hook).await.map(Some);
        };
        let row = match self.store.get_session(&hook.tenant, session).await {
            Err(StoreError::NotFound(_)) => return Ok(None),
            row => row?,
        };
        let found = self.store.events(session, number - 1, 1, EventFilter::default()).await?.pop();
        let Some(event) = found.filter(|event| event.id == number) else { return Ok(None) };
        let Some(name) = WebhookEvent::of(&event.kind, &event.data) else { return Ok(None) };
        let at = now();
        let body = body(&hook.tenant, session, &row.agent, &event, name);
        let answer = self.post(hook, &message_id((hook.id, session), number), at, body).await;
        let note = DeliveryNote { event: Some((session, number)), ..self.note(hook, name.as_str(), at, answer) };
        self.store.note_delivery(note).await.map(Some)
    }

    /// Sends a test.
    pub(super) async fn send_test(&self, hook: &WebhookRow) -> Result<Delivery, StoreError> {
        let (at, name) = (now(), "webhook.test");
        let told = Told { r#type: name.to_owned(), timestamp: at, data: ToldTest { webhook_id: hook.id } };
        let answer = self.post(hook, &format!("msg_{}", Uuid::now_v7().simple()), at, json(&told)).await;
        self.store.note_delivery(self.note(hook, name, at, answer)).await
    }

    async fn post(&self, hook: &WebhookRow, id: &str, at: Timestamp, body: Bytes) -> Answer {
        let url = Url::parse(&hook.url, self.rules.allow_http)?;
        let secret = match &self.master {
            Some(master) => master.open(place(&hook.tenant, hook.id), &hook.sealed).map_err(|error| error.to_string())?,
            None => return Err("there is no master key, so its secret can not be opened".to_owned()),
        };
        let secret = String::from_utf8(secret).map_err(|_| "its secret is damaged".to_owned())?;
        let signature = sign::signature(&secret, id, at, &body).ok_or_else(|| "its secret is damaged".to_owned())?;
        let message = Message { id: id.to_owned(), seconds: sign::seconds(at), signature, body };
        self.sender.send(&url, message).await
    }

    /// What is noted of an attempt that is not tried again.
    fn note(&self, hook: &WebhookRow, name: &str, at: Timestamp, answer: Answer) -> DeliveryNote {
        let state = if is_success(&answer) { DeliveryState::Delivered } else { DeliveryState::Failed };
        let error = match &answer {
            Ok(_) if state == DeliveryState::Delivered => None,
            Ok(300..=399) => Some("the receiver answered with a redirect, which is not followed".to_owned()),
            Ok(status) => Some(format!("the receiver answered {status}")),
            Err(why) => Some(why.chars().take(ERROR_MAX).collect()),
        };
        DeliveryNote {
            webhook: hook.id,
            url: hook.url.clone(),
            event: None,
            name: name.to_owned(),
            at,
            state,
            next_at: None,
            status: answer.ok(),
            error,
            in_order: false,
            disable: None,
            keep: self.rules.keep_deliveries,
        }
    }
}

/// What an event is called, if the webhook is told of it.
fn wanted(hook: &WebhookRow, event: &EventRow) -> Option<WebhookEvent> {
    let name = WebhookEvent::of(&event.kind, &event.data)?;
    (hook.events.contains(&WebhookEvent::All) || hook.events.contains(&name)).then_some(name)
}

/// The same for each attempt, also after a crash, so that a receiver knows what it has.
fn message_id(key: Key, event: i64) -> String {
    let (webhook, session) = key;
    format!("msg_{}", Uuid::new_v5(&webhook.as_uuid(), format!("{session}/{event}").as_bytes()).simple())
}

fn body(tenant: &str, session: SessionId, agent: &str, event: &EventRow, name: WebhookEvent) -> Bytes {
    let mut shown = view::shown(session, tenant, event);
    shown.data = shown.data.filter(|data| data.len() <= DATA_MAX);
    let data = ToldEvent { event: shown, session_id: session, agent_name: agent.to_owned() };
    json(&Told { r#type: name.as_str().to_owned(), timestamp: event.at, data })
}

fn json(told: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(told).expect("texts and numbers are JSON").into()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::wire::WebhookId;
    use crate::wire::event::Kind;

    #[test]
    fn long_data_is_left_out_and_the_log_has_it() {
        let session = SessionId::new();
        let told = |length| {
            let event = EventRow { id: 7, at: Timestamp(0), turn: None, kind: Kind::TurnStarted, data: "x".repeat(length) };
            let body = body("default", session, "a", &event, WebhookEvent::TurnStarted);
            serde_json::from_slice::<Value>(&body).expect("JSON")["data"]["event"].clone()
        };
        assert_eq!((told(DATA_MAX)["data"].as_str().map(str::len), &told(1)["type"]), (Some(DATA_MAX), &"turn_started".into()));
        assert_eq!((&told(DATA_MAX + 1)["data"], &told(DATA_MAX + 1)["sequence"]), (&Value::Null, &7.into()));
    }

    #[test]
    fn a_message_has_one_id_however_often_it_is_sent() {
        let (webhook, session) = (WebhookId::new(), SessionId::new());
        let id = message_id((webhook, session), 1);
        assert_eq!(id, message_id((webhook, session), 1));
        for other in [((webhook, session), 2), ((webhook, SessionId::new()), 1), ((WebhookId::new(), session), 1)] {
            assert_ne!(id, message_id(other.0, other.1));
        }
        assert!(id.strip_prefix("msg_").is_some_and(|rest| rest.len() == 32), "{id}");
    }
}
