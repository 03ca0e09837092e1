//! Writing the session's log.

use std::time::Duration;

use super::sandbox::HOST_STOPS;
use super::*;
use crate::link::shim::ShimEvent;
use crate::store::{Advanced, ShimBatch};
use crate::wire::Timestamp;
use crate::wire::limits::Reached;
use crate::wire::permission::PermissionResolved;
use crate::wire::usage::{Leftover, ModelUsage, Usage};

/// First and longest wait before a failed write of a sandbox's events is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// Rules that may be granted in one session. A person grants some ten.
const GRANTED_MAX: usize = 1000;

impl Driver {
    pub(super) async fn store_events(&mut self, events: Vec<ShimEvent>) {
        let (Sandbox::Up(connection), Some(first), Some(last)) = (&self.sandbox, events.first(), events.last()) else { return };
        let (first, through, incarnation) = (first.n, last.n, connection.state.incarnation);
        self.fruitless = 0;
        let is_old = connection.state.acked.is_none() && first <= connection.state.newest;
        if std::mem::take(&mut self.unheard) && is_old && first as i64 > self.heard_of(incarnation) + 1 {
            // It was acknowledged before, and the shim is too old to say so.
            let state = connection.state.clone();
            self.pass_over_lost(&state, first - 1).await;
        }
        let events = events.into_iter().map(|event| self.take_event(event)).collect();
        self.next_turn(Some(ShimBatch { incarnation, first, events })).await;
        fault::at(Point::EventsStored);
        self.tell(ToShim::Ack { through }).await;
        if self.settling.as_ref().is_some_and(|settling| settling.through <= through as i64) {
            self.settled().await;
        }
    }

    /// All rules that are granted, if these events grant some.
    pub(super) fn newly_granted(&self, batch: &ShimBatch) -> Option<Vec<String>> {
        let mut granted = self.session.granted.clone();
        for event in batch.events.iter().filter(|event| event.kind == Kind::PermissionResolved) {
            let Ok(resolved) = serde_json::from_str::<PermissionResolved>(&event.data) else { continue };
            for rule in resolved.rules {
                if !granted.contains(&rule) && granted.len() < GRANTED_MAX {
                    granted.push(rule);
                }
            }
        }
        (granted.len() > self.session.granted.len()).then_some(granted)
    }

    /// What the sandbox said can not be stored, now or later, so nothing it does can be believed.
    /// Its turn ends, as the store knows it, and the next message begins with a new sandbox.
    pub(super) async fn give_up(&mut self, error: &StoreError) {
        let why = format!("what the sandbox said can not be stored: {error}");
        let was_settling = self.settling.is_some();
        Box::pin(self.kill(&why)).await;
        (self.running, self.interrupting) = (None, false);
        self.own.clear();
        self.queue.clear();
        if let Err(error) = self.load().await {
            tracing::error!(session_id = %self.session.id, error = %error, "a session can not be loaded again");
        }
        if was_settling {
            // The next sandbox would find the same in the folder, and end as this one did.
            Box::pin(self.fail_turns(&why)).await;
            Box::pin(self.live(Input::Emptied)).await;
            return Box::pin(self.live(Input::Lost)).await;
        }
        let events = self.end_of_begun(&why).await;
        Box::pin(self.advance_or_log(Advance { events, ..Advance::default() })).await;
        self.refuse_answers();
        Box::pin(self.live(Input::Lost)).await;
        if self.has_work() {
            self.open();
        }
    }

    /// Makes an event of the log from one of the shim, and follows the turn it belongs to.
    fn take_event(&mut self, event: ShimEvent) -> NewEvent {
        // Data is one line in the log and on streams. A line break in JSON is white space only.
        let mut data = event.data.get().replace(['\n', '\r'], " ");
        if event.kind == Kind::Message
            && let Some(tasks) = background_tasks(&data)
        {
            self.background = tasks;
        }
        if event.kind == Kind::Lifecycle && data.contains("\"runtime_started\"") {
            // What the last one had in the background ended with it.
            self.background = 0;
        }
        if event.kind == Kind::Lifecycle && data.contains("\"model_retry\"") {
            self.context.metrics.model_retries.inc();
        }
        self.note_first(&event);
        self.trace_event(&event);
        match (&event.kind, event.turn) {
            (Kind::TurnStarted, Some(turn)) if !self.own.contains(&turn) => self.own.push(turn),
            (Kind::TurnEnded, turn) => {
                if self.running.as_ref().map(|turn| turn.id) == turn {
                    (self.running, self.interrupting) = (None, false);
                }
                self.own.retain(|own| Some(*own) != turn);
                if let Ok(mut end) = serde_json::from_str::<TurnEnd>(&data) {
                    self.name_host(&mut end);
                    data = self.end_data(&end);
                }
            }
            (Kind::Egress, _) => self.count_egress(&data),
            (Kind::Lifecycle, None) => {
                if let Ok(Leftover::Usage { models, .. }) = serde_json::from_str(&data) {
                    data = self.leftover_data(models);
                }
            }
            _ => {}
        }
        NewEvent { at: Timestamp(event.at), turn: event.turn, kind: event.kind, data }
    }

    /// A shim that is asked to interrupt or to stop does not know that it is for the host.
    fn name_host(&self, end: &mut TurnEnd) {
        let cause = match &self.end_cause {
            Some(cause) if self.settling.is_some() => Some(cause.clone()),
            _ if self.life.pressed => Some(format!("the turn was interrupted ({}: {})", Cause::Host.as_str(), HOST_STOPS)),
            _ => self.expiry(),
        };
        let is_cut = matches!(end.state, EndState::Interrupted | EndState::Cancelled);
        if let Some(cause) = cause.filter(|_| is_cut) {
            (end.state, end.cause) = (EndState::Interrupted, Some(cause));
        }
    }

    pub(super) fn end_data(&self, end: &TurnEnd) -> String {
        let mut data = serde_json::json!({"sessionId": self.session.id, "turnId": end.turn_id, "state": end.state});
        if let Some(cause) = &end.cause {
            data["cause"] = cause.as_str().into();
            if let Some(limit) = Reached::of_cause(cause) {
                data["limit"] = serde_json::json!(limit);
            }
        }
        let usage = end.usage.as_ref().map(|usage| self.priced(usage));
        self.count_end(end.state, usage.as_ref());
        let trace_id = self.traces.context(end.turn_id).map(|place| place.trace.to_string());
        if let Some(usage) = usage {
            data["usage"] = serde_json::to_value(usage).unwrap_or_default();
        }
        tracing::info!(session_id = %self.session.id, turn_id = %end.turn_id, state = ?end.state, cause = end.cause, trace_id, "turn ended");
        data.to_string()
    }

    /// What a sandbox left behind, with its price.
    pub(super) fn leftover_data(&self, models: BTreeMap<String, ModelUsage>) -> String {
        let cost_usd = self.context.settings.prices.sum(&models);
        self.count_models(&models, cost_usd);
        serde_json::json!(Leftover::Usage { models, cost_usd }).to_string()
    }

    /// A bill with its price.
    fn priced(&self, usage: &Usage) -> Usage {
        Usage { cost_usd: self.context.settings.prices.total(usage), ..usage.clone() }
    }

    /// The events that end the turns which the runtime had, as it has them no more.
    pub(super) async fn end_of_begun(&mut self, cause: &str) -> Vec<NewEvent> {
        let mut events = self.unanswered_patiently().await;
        events.extend(self.begun().flat_map(|turn| self.failure(turn, EndState::Interrupted, cause)));
        (self.running, self.interrupting) = (None, false);
        self.own.clear();
        events
    }

    /// The sandbox can not be brought up, so no turn can run. Those that wait in a session which is put
    /// away wait on.
    pub(super) async fn fail_turns(&mut self, reason: &str) {
        let cause = self.end_cause.take().unwrap_or_else(|| reason.to_owned());
        let mut events = self.end_of_begun(&cause).await;
        if self.session.status == Status::Active {
            events.extend(self.queue.iter().flat_map(|turn| self.failure(turn.id, EndState::Failed, reason)));
            self.queue.clear();
        }
        self.advance_or_log(Advance { events, ..Advance::default() }).await;
        self.refuse_answers();
    }

    pub(super) fn failure(&self, turn: TurnId, state: EndState, cause: &str) -> [NewEvent; 2] {
        let error = serde_json::json!({"error": cause}).to_string();
        let end = TurnEnd { turn_id: turn, state, cause: Some(cause.to_owned()), usage: None };
        [event(Kind::Error, Some(turn), error), event(Kind::TurnEnded, Some(turn), self.end_data(&end))]
    }

    /// Stores a change. Readers see it with [`Self::publish`], which comes when the state that it
    /// implies is in place.
    pub(super) async fn store(&self, change: Advance) -> Result<Advanced, SessionError> {
        Ok(self.commit(change).await?)
    }

    /// Stores a change, and tells then of the turns that it ends.
    async fn commit(&self, change: Advance) -> Result<Advanced, StoreError> {
        let ends = self.traces.ends(&change);
        let stored = self.context.store.advance(self.session.id, change).await?;
        self.tell_ends(ends);
        Ok(stored)
    }

    pub(super) fn publish(&self, stored: Advanced) {
        self.show_phase();
        let before = self.tail.send_replace(stored.tail);
        self.context.metrics.events.inc_by(u64::try_from(stored.tail - before).unwrap_or(0));
        if stored.is_told {
            self.context.moved.note(&self.session);
        }
    }

    pub(super) async fn advance_or_log(&mut self, change: Advance) {
        let is_empty = change.events.is_empty() && change.sandbox.is_none() && change.skipped.is_none();
        if !is_empty && let Err(error) = self.advance_patiently(change).await {
            tracing::error!(session_id = %self.session.id, error = %error, "the end of turns can not be stored");
        }
    }

    /// Stores what can not be refused, since it has happened: tries until the database takes it, or
    /// says that it never will. Meanwhile the shim is not acknowledged, and in the end does not read
    /// its runtime; requests are told that the database is away.
    pub(super) async fn advance_patiently(&mut self, change: Advance) -> Result<(), StoreError> {
        let mut wait = RETRY_FIRST;
        let mut change = change;
        loop {
            let again = change.clone();
            let error = match self.commit(change).await {
                Ok(stored) => {
                    self.publish(stored);
                    return Ok(());
                }
                Err(error @ StoreError::Unavailable(_)) => error,
                Err(error) => return Err(error),
            };
            tracing::warn!(
                session_id = %self.session.id, error = %error, "events can not be stored now, retrying in {} ms", wait.as_millis()
            );
            self.refuse_for(wait, &error).await;
            wait = (wait * 2).min(RETRY_LONGEST);
            change = again;
        }
    }

    /// [`Self::unanswered`] of what has ended, so that no request is left waiting for nobody: tries
    /// until the database can be read.
    pub(super) async fn unanswered_patiently(&mut self) -> Vec<NewEvent> {
        let mut wait = RETRY_FIRST;
        loop {
            let error = match self.unanswered().await {
                Ok(events) => return events,
                Err(error) => error,
            };
            if !matches!(error, StoreError::Unavailable(_)) {
                tracing::error!(session_id = %self.session.id, error = %error, "requests for permission can not be listed, leaving them");
                return Vec::new();
            }
            tracing::warn!(
                session_id = %self.session.id, error = %error, "requests for permission can not be listed now, retrying in {} ms", wait.as_millis()
            );
            self.refuse_for(wait, &error).await;
            wait = (wait * 2).min(RETRY_LONGEST);
        }
    }

    /// Tells those who ask meanwhile that the database is away.
    async fn refuse_for(&mut self, wait: Duration, error: &StoreError) {
        let pause = tokio::time::sleep(wait);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                Some(Asked { request, .. }) = self.requests.recv() => request.refuse(error.clone().into()),
            }
        }
    }
}

/// How many tasks run in the background, if the runtime's message says so.
fn background_tasks(message: &str) -> Option<usize> {
    const SUBTYPE: &str = "background_tasks_changed";
    #[derive(serde::Deserialize)]
    struct Changed<'a> {
        #[serde(borrow, default)]
        subtype: std::borrow::Cow<'a, str>,
        #[serde(default)]
        tasks: Vec<serde::de::IgnoredAny>,
    }
    // Most messages are something else, and some are large.
    let changed: Changed<'_> = message.contains(SUBTYPE).then(|| serde_json::from_str(message).ok()).flatten()?;
    (changed.subtype == SUBTYPE).then_some(changed.tasks.len())
}
