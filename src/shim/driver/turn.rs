//! Turns: given, interrupted, and what the runtime makes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Driver, Input, ProcessState};
use crate::link::shim::{EndState, LogLevel, Turn, TurnEnd};
use crate::runtime::{Ended, Event, Output, ProcessEnd};
use crate::shim::process::FromProcess;
use crate::shim::turns::Given;
use crate::wire::TurnId;
use crate::wire::event::Kind;
use crate::wire::limits::Reached;
use crate::wire::usage::{Leftover, ModelUsage};

/// How long the runtime may take to end a turn that was interrupted; it is some 30 ms.
const INTERRUPT_DEADLINE: Duration = Duration::from_secs(10);

impl Driver {
    pub(super) fn give(&mut self, turn: Turn) {
        let id = turn.id;
        if self.stop_at.is_some() {
            return self.end_turn(id, EndState::Cancelled, Some("the sandbox is being stopped"));
        }
        match self.turns.give(turn) {
            Given::Waits => {}
            Given::Seen => tracing::debug!(turn_id = %id, "turn was given before, ignoring"),
            // Its end waits before this one, which then has no effect; or it was lost with a part of
            // the spool, and without this the daemon would wait for ever.
            Given::Over => {
                let cause = Some("how the turn ended was lost".to_owned());
                let end = TurnEnd { turn_id: id, state: EndState::Interrupted, cause, usage: None };
                self.record(Event::new(Some(id), Kind::TurnEnded, &end));
            }
            Given::TooMany => self.end_turn(id, EndState::Cancelled, Some("too many turns are waiting")),
        }
    }

    pub(super) async fn interrupt(&mut self, turn: Option<TurnId>) {
        if let Some(id) = turn
            && self.turns.cancel(id)
        {
            return self.end_turn(id, EndState::Cancelled, Some("cancelled before it began"));
        }
        let is_meant = |id: TurnId| turn.is_none_or(|wanted| wanted == id);
        let running = self.session.as_ref().and_then(|session| session.adapter.running());
        match self.turns.peek().map(|current| (current.turn.id, current.begun)) {
            // It waits for the runtime to start, or to end a turn of its own.
            Some((id, false)) if is_meant(id) && (running.is_none() || turn.is_some()) => {
                self.end_turn(id, EndState::Interrupted, Some("interrupted"));
            }
            current => {
                let begun = current.filter(|(_, begun)| *begun).map(|(id, _)| id);
                if let Some(session) = &mut self.session
                    && running.into_iter().chain(begun).any(is_meant)
                {
                    let bytes = session.adapter.interrupt();
                    self.kill_at = Some(Instant::now() + INTERRUPT_DEADLINE);
                    self.write(bytes).await;
                }
            }
        }
    }

    /// Takes output of the runtime.
    pub(super) async fn output(&mut self, output: FromProcess) {
        let ProcessState::Running(running) = &mut self.process else { return };
        match output {
            FromProcess::Line(_) if running.broken.is_some() => {}
            FromProcess::Line(line) => {
                self.bills.sample();
                if let Some(cause) = self.count_said(line.len()) {
                    self.note_full(&cause);
                    return self.break_process(cause).await;
                }
                let Some(session) = &mut self.session else { return };
                match session.adapter.read(line) {
                    Ok(outputs) => self.perform(outputs).await,
                    Err(error) => self.break_process(error.to_string()).await,
                }
            }
            FromProcess::Ended(end) => {
                let reason = running.broken.take().or(end.reason);
                self.process = ProcessState::None;
                self.process_ended(ProcessEnd { reason, ..end }).await;
            }
        }
    }

    /// The process is gone, or never came.
    pub(super) async fn process_ended(&mut self, mut end: ProcessEnd) {
        self.kill_at = None;
        // Without a signal it went down together with init, which may be what was killed.
        if end.reason.is_none() && end.code.is_none() && end.signal.is_none_or(|signal| signal == nix::libc::SIGKILL) {
            end.reason = self.bills.shortage();
        }
        tracing::info!(cause = %end, "runtime ended");
        self.book.add(LogLevel::System, &format!("runtime ended: {end}"));
        // What it started would go on working on the files, beside a runtime that knows nothing of it.
        if self.unpacking.is_none()
            && let Some(inner) = self.inner()
        {
            inner.kill_left_overs().await;
        }
        let Some(session) = &mut self.session else { return };
        match session.adapter.ended(&end) {
            Ended::Over(outputs) => self.perform(outputs).await,
            Ended::Again { outputs, repair } => {
                self.perform(outputs).await;
                tracing::info!(repair = repair.is_some(), "starting the runtime once more for the same turn");
                self.turns.rewind();
                if let (Some(argv), Some(inner)) = (repair, self.inner()) {
                    self.process = ProcessState::Starting;
                    self.later(async move {
                        super::advance::run_quietly(&inner, argv).await;
                        Input::Repaired
                    });
                }
            }
        }
    }

    pub(super) async fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Event(event) => {
                    self.bills.hear(&event);
                    self.record(event);
                }
                Output::Write(bytes) => self.write(bytes).await,
                Output::Ready { version } => {
                    let runtime = self.session.as_ref().map_or("", |session| session.adapter.name());
                    tracing::info!(runtime, version, "runtime is ready");
                }
                Output::TurnOver(end) => {
                    self.turn_over(end);
                    if !matches!(&self.process, ProcessState::Running(running) if running.ending) {
                        self.kill_at = None;
                    }
                }
                Output::Conversation(id) => {
                    if let Err(error) = self.memory.set_conversation(&id) {
                        tracing::warn!(%error, "id of the conversation can not be remembered, ignoring");
                    }
                }
                Output::Asked { id, timeout } => self.asked.add(id, timeout),
                Output::Settled(id) => self.asked.remove(id),
            }
        }
    }

    pub(super) async fn write(&mut self, bytes: Vec<u8>) {
        if let ProcessState::Running(running) = &self.process
            && !running.process.write(bytes)
        {
            self.break_process("runtime does not read its input".to_owned()).await;
        }
    }

    /// Kills the process for its own fault.
    async fn break_process(&mut self, reason: String) {
        let inner = self.inner();
        if let ProcessState::Running(running) = &mut self.process {
            tracing::warn!(reason, "runtime is broken, killing it");
            running.broken = Some(reason);
            if let Some(inner) = inner {
                inner.signal(running.process.handle(), nix::libc::SIGKILL).await;
            }
        }
    }

    /// Ends a turn that the runtime does not have.
    pub(super) fn end_turn(&mut self, turn: TurnId, state: EndState, cause: Option<&str>) {
        self.turn_over(TurnEnd { turn_id: turn, state, cause: cause.map(str::to_owned), usage: None });
    }

    /// Records the end of a turn, with its bill.
    fn turn_over(&mut self, mut end: TurnEnd) {
        let turn = end.turn_id;
        // A tool may be what was killed, for which the runtime then had another word.
        if end.state == EndState::Failed
            && let Some(cause) = &mut end.cause
            && let Some(shortage) = self.bills.shortage_in(turn).filter(|shortage| !cause.contains(shortage))
        {
            *cause = format!("{cause}; {shortage}");
        }
        self.name_limit(&mut end);
        self.tell_shortage(&end);
        let is_cut = end.state != EndState::Completed;
        end.usage = self.bills.end(turn, || self.gateway.take(is_cut));
        if let Some(usage) = &mut end.usage {
            usage.model_calls = self.gateway.take_calls();
        }
        if end.usage.is_some() {
            self.tab.billed(&self.spool);
        }
        self.record(Event::new(Some(turn), Kind::TurnEnded, &end));
        self.turns.over(turn);
    }

    /// Tells of a tool that was killed for want of memory in a turn which went on all the same.
    fn tell_shortage(&mut self, end: &TurnEnd) {
        if end.state == EndState::Completed
            && let Some(shortage) = self.bills.shortage_in(end.turn_id)
        {
            let data = json!({"action": "limit", "limit": Reached::OutOfMemory, "detail": shortage});
            self.record(Event::new(Some(end.turn_id), Kind::Lifecycle, &data));
        }
    }

    /// Tells what model calls took behind the last turn, as no bill has it.
    pub(super) fn record_leftover(&mut self) {
        let mut models = self.gateway.take(true);
        // A call that was billed as far as it told has nothing more.
        models.retain(|_, usage| *usage != ModelUsage::default());
        self.record_usage(models);
    }

    /// Tells of what is on no bill.
    pub(super) fn record_usage(&mut self, models: BTreeMap<String, ModelUsage>) {
        if !models.is_empty() {
            self.tab.billed(&self.spool);
            self.record(Event::new(None, Kind::Lifecycle, &Leftover::Usage { models, cost_usd: None }));
        }
    }

    /// Writes down what is on no bill yet, for the next shim if this one is killed.
    pub(super) fn keep_tab(&mut self) {
        self.tab_at = None;
        self.tab.keep(self.gateway.leftover(), &self.spool);
    }

    /// Ends the current turn, which can not begin.
    pub(super) fn fail_turn(&mut self, cause: &str) {
        if let Some(turn) = self.turns.peek().map(|current| current.turn.id) {
            self.record(Event::new(Some(turn), Kind::Error, &json!({"error": cause})));
            self.end_turn(turn, EndState::Failed, Some(cause));
        }
    }
}
