//! Turns: given, interrupted, and what the runtime makes of them.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Driver, Input, ProcessState};
use crate::link::shim::{EndState, Turn, TurnEnd};
use crate::runtime::{Ended, Event, Output, ProcessEnd};
use crate::shim::process::FromProcess;
use crate::shim::turns::Given;
use crate::wire::TurnId;
use crate::wire::event::Kind;

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
    pub(super) async fn process_ended(&mut self, end: ProcessEnd) {
        self.kill_at = None;
        tracing::info!(cause = %end, "runtime ended");
        // What it started would go on working on the files, beside a runtime that knows nothing of it.
        if self.unpacking.is_none()
            && let Some(inner) = self.inner()
        {
            inner.kill_all().await;
        }
        let Some(session) = &mut self.session else { return };
        match session.adapter.ended(&end) {
            Ended::Over(outputs) => self.perform(outputs).await,
            Ended::Again { repair } => {
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

    async fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Event(event) => self.record(event),
                Output::Write(bytes) => self.write(bytes).await,
                Output::Ready { version } => {
                    let runtime = self.session.as_ref().map_or("", |session| session.adapter.name());
                    tracing::info!(runtime, version, "runtime is ready");
                }
                Output::TurnOver(id) => {
                    self.turns.over(id);
                    if !matches!(&self.process, ProcessState::Running(running) if running.ending) {
                        self.kill_at = None;
                    }
                }
                Output::Conversation(id) => {
                    if let Err(error) = self.memory.set_conversation(&id) {
                        tracing::warn!(%error, "id of the conversation can not be remembered, ignoring");
                    }
                }
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
        let end = TurnEnd { turn_id: turn, state, cause: cause.map(str::to_owned) };
        self.record(Event::new(Some(turn), Kind::TurnEnded, &end));
        self.turns.over(turn);
    }

    /// Ends the current turn, which can not begin.
    pub(super) fn fail_turn(&mut self, cause: &str) {
        if let Some(turn) = self.turns.peek().map(|current| current.turn.id) {
            self.record(Event::new(Some(turn), Kind::Error, &json!({"error": cause})));
            self.end_turn(turn, EndState::Failed, Some(cause));
        }
    }
}
