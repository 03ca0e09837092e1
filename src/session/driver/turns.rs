//! Turns: taken, queued, begun, interrupted, cancelled.

use super::trace::Place;
use super::*;
use crate::store::{NewTurn, ShimBatch};
use crate::wire::VERSION;
use crate::wire::message::IfBusy;

/// Turns that may wait in one session. A person types ahead by a few; a program that is further
/// ahead should wait for answers.
const QUEUE_MAX: usize = 100;
/// Bytes of their messages together. One message may have any length that the API takes.
const QUEUE_BYTES_MAX: usize = 64 << 20;

impl Driver {
    pub(super) async fn take_message(&mut self, body: MessageBody, key: Option<TurnKey>) -> Result<Posted, SessionError> {
        if let Some(key) = &key
            && let Some(turn) = self.context.store.find_turn(self.session.id, key.key.clone()).await?
        {
            return joined(&turn, key);
        }
        if self.session.status != Status::Active {
            return Err(SessionError::Status(self.session.status));
        }
        let busy = self.current().or_else(|| self.queue.front().map(|turn| turn.id));
        if let (IfBusy::Reject, Some(turn)) = (body.if_busy, busy) {
            return Err(SessionError::Busy(turn));
        }
        if self.queue.len() >= QUEUE_MAX {
            return Err(SessionError::QueueFull(QUEUE_MAX));
        }
        let waiting: usize = self.queue.iter().map(|turn| turn.content.get().len()).sum();
        if waiting + body.content.get().len() > QUEUE_BYTES_MAX && !self.queue.is_empty() {
            return Err(SessionError::QueueFull(self.queue.len()));
        }
        let taken = Some(tokio::time::Instant::now());
        let turn = Waiting { id: TurnId::new(), content: body.content, options: body.options, is_found: false, taken };
        let data = format!(r#"{{"sessionId":"{}","version":"{VERSION}","turnId":"{}"}}"#, self.session.id, turn.id);
        let mut events = vec![event(Kind::TurnQueued, Some(turn.id), data)];
        let goes_now = self.takes_turns() && self.running.is_none() && self.queue.is_empty();
        let jumps = !goes_now && body.if_busy == IfBusy::Interrupt;
        if goes_now {
            events.push(started(&turn));
        }
        let place = Place::below(&self.context.settings.tracer, self.asked_in.as_ref());
        let trace = place.as_ref().map(Place::to_text);
        let new =
            NewTurn { id: turn.id, content: turn.content.get().to_owned(), options: turn.options.clone(), key, jumps, trace };
        let (queued_at, model) = (events[0].at, self.model_of(&turn.options));
        let queued = vec![new];
        let stored = self.store(Advance { events, queued, ..Advance::default() }).await?;
        fault::at(Point::TurnStored);
        self.traces.follow(turn.id, place, queued_at, model);
        let posted = Posted { turn: turn.id, first_event: stored.first.unwrap_or(stored.tail) };
        let current = self.current();
        let message = if goes_now { Some(turn.to_shim(&self.context, self.session.id).await) } else { None };
        if goes_now {
            self.begin(turn);
        } else if jumps {
            self.queue.push_front(turn);
        } else {
            self.queue.push_back(turn);
        }
        self.publish(stored);
        if let (IfBusy::Interrupt, Some(current)) = (body.if_busy, current) {
            self.interrupt_turn(current).await;
        }
        // Otherwise the machine brings up what it needs.
        if let Some(message) = message {
            self.tell(message).await;
        }
        Ok(posted)
    }

    /// Whether the sandbox can be given a turn now.
    fn takes_turns(&self) -> bool {
        let state = &self.life.state;
        let is_up = matches!(self.sandbox, Sandbox::Up(_)) && state.sandbox == crate::lifecycle::Sandbox::Up;
        is_up && self.settling.is_none() && state.change.is_none() && state.status == Status::Active
    }

    fn begin(&mut self, turn: Waiting) {
        self.traces.started(turn.id, now());
        (self.running, self.interrupting) = (Some(turn), false);
    }

    /// The turn that the runtime works at, or is about to.
    fn current(&self) -> Option<TurnId> {
        self.running.as_ref().map(|turn| turn.id).or_else(|| self.own.first().copied())
    }

    /// Starts the next waiting turn, in one transaction with a shim's events if there are some.
    pub(super) async fn next_turn(&mut self, shim: Option<ShimBatch>) {
        let next = if self.running.is_none() && self.takes_turns() { self.queue.pop_front() } else { None };
        if shim.is_none() && next.is_none() {
            return;
        }
        let conversed =
            !self.session.conversed && shim.as_ref().is_some_and(|batch| batch.events.iter().any(|e| e.kind == Kind::Message));
        let events = next.iter().map(started).collect();
        let message = match &next {
            Some(turn) => Some(turn.to_shim(&self.context, self.session.id).await),
            None => None,
        };
        if let Some(turn) = next {
            self.begin(turn);
        }
        let heard = shim.as_ref().map(|batch| (batch.incarnation, batch.first as i64 + batch.events.len() as i64 - 1));
        let range = heard.zip(shim.as_ref()).map(|((incarnation, last), batch)| (incarnation, (batch.first as i64, last)));
        let granted = shim.as_ref().and_then(|batch| self.newly_granted(batch));
        let change = Advance { shim, events, conversed, granted: granted.clone(), ..Advance::default() };
        if let Err(error) = self.advance_patiently(change).await {
            return match range {
                Some((incarnation, range)) if self.settling.is_some() && matches!(error, StoreError::Conflict(_)) => {
                    self.set_aside(incarnation, range, &error).await;
                }
                _ => self.give_up(&error).await,
            };
        }
        self.session.conversed |= conversed;
        self.session.heard = heard.or(self.session.heard);
        if let Some(granted) = granted {
            self.session.granted = granted;
            self.pass_settings().await;
        }
        if let Some(message) = message {
            self.tell(message).await;
        }
    }

    /// Ends the running turn, or while the sandbox is coming up the one that would be.
    pub(super) async fn interrupt(&mut self) -> Option<TurnId> {
        if let Some(turn) = self.current() {
            self.interrupt_turn(turn).await;
            return Some(turn);
        }
        let turn = self.queue.pop_front()?.id;
        let events = vec![self.cancelled(turn)];
        self.advance_or_log(Advance { events, ..Advance::default() }).await;
        Some(turn)
    }

    fn cancelled(&self, turn: TurnId) -> NewEvent {
        let cause = Some("cancelled before it began".to_owned());
        let end = TurnEnd { turn_id: turn, state: EndState::Cancelled, cause, usage: None };
        event(Kind::TurnEnded, Some(turn), self.end_data(&end))
    }

    /// Ends one turn: takes it from the queue, or interrupts it.
    pub(super) async fn cancel(&mut self, turn: TurnId) -> Result<(), SessionError> {
        if self.begun().any(|begun| begun == turn) {
            self.interrupt_turn(turn).await;
            return Ok(());
        }
        if let Some(at) = self.queue.iter().position(|waiting| waiting.id == turn) {
            let events = vec![self.cancelled(turn)];
            let stored = self.store(Advance { events, ..Advance::default() }).await?;
            self.queue.remove(at);
            self.publish(stored);
            return Ok(());
        }
        match self.context.store.get_turn(self.session.id, turn).await {
            Ok(row) => Err(SessionError::TurnOver { turn, state: row.state }),
            Err(StoreError::NotFound(_)) => Err(SessionError::NoTurn),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn interrupt_turn(&mut self, turn: TurnId) {
        self.interrupting |= self.running.as_ref().is_some_and(|running| running.id == turn);
        self.tell(ToShim::Interrupt { turn: Some(turn) }).await;
    }

    /// Turns that the runtime has, or may have.
    pub(super) fn begun(&self) -> impl Iterator<Item = TurnId> {
        self.running.iter().map(|turn| turn.id).chain(self.own.iter().copied())
    }
}

/// The turn that the first try of a message made.
pub(in crate::session) fn joined(turn: &TurnRow, key: &TurnKey) -> Result<Posted, SessionError> {
    if turn.message_hash.as_deref() != Some(&key.message[..]) {
        return Err(SessionError::KeyReused);
    }
    Ok(Posted { turn: turn.id, first_event: turn.first_event })
}
