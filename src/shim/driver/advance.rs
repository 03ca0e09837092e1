//! What the state asks for: the sandbox opened, the workspace unpacked, the runtime started, the
//! next turn begun, the shim ended.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::limits::ProcessLimits;
use super::snapshot::{Packing, refuse_conversation, snapshot_argv, state_options};
use super::{Driver, Input, ProcessState, RoomState, Running, STOP_DEADLINE, Unpacking};
use crate::link::shim::{DISK_FULL, EndState, HOME_INSIDE, LogLevel, Op, Room, WORKSPACE_INSIDE};
use crate::report;
use crate::runtime::ProcessEnd;
use crate::shim::bwrap::INIT_INSIDE;
use crate::shim::connection::{Archive, ConnectionId};
use crate::shim::env::{environment, with_bindings};
use crate::shim::inner::Inner;
use crate::shim::process::Process;
use crate::shim::room::{self, Opened, RoomError};
use crate::shim::unpack::{self, UnpackError};
use crate::wire::message::TurnOptions;

/// How long the runtime may take to exit once it was asked to; it is some 0.2 s.
const EXIT_DEADLINE: Duration = Duration::from_secs(4);
/// How long a program that is run before the runtime may take.
const REPAIR_DEADLINE: Duration = Duration::from_secs(5);

impl Driver {
    /// Does what the state asks for. True when the shim is to end.
    pub(super) async fn advance(&mut self) -> bool {
        if self.stop_at.is_some() {
            return self.advance_stop().await;
        }
        if self.unpacking.is_some() {
            self.advance_unpack();
        } else if self.packing.is_none() {
            self.advance_turn().await;
        }
        false
    }

    async fn advance_turn(&mut self) {
        let Some(session) = &self.session else {
            if self.turns.current().is_some() {
                self.fail_turn("no session is set up in the sandbox");
            }
            return;
        };
        let options = match self.turns.current() {
            Some(current) if current.begun => return,
            Some(current) => Some(current.turn.options.clone()),
            None if self.warm => None,
            None => return,
        };
        if options.is_some() && self.disk.is_over() {
            // What comes of a look that begins now lets it begin, or refuses it.
            return self.disk.want(Instant::now());
        }
        match (&self.room, &self.plan) {
            (RoomState::Closed, Some(plan)) => return self.open_room(plan.clone(), Vec::new()),
            (RoomState::Closed, None) => return self.fail_turn("the sandbox was not opened"),
            (RoomState::Opening(_) | RoomState::Closing, _) => return,
            // That it ended is about to be heard, and then there is another one.
            (RoomState::Open { inner, .. }, _) if inner.is_over() => return,
            (RoomState::Open { .. }, _) => {}
        }
        match &self.process {
            ProcessState::None => self.start_process(&options.unwrap_or_default()),
            ProcessState::Starting => {}
            ProcessState::Running(_) if options.is_none() => self.warm = false,
            // It ends, or it is in a turn of its own, which is not disturbed.
            ProcessState::Running(running) if running.ending || running.broken.is_some() => {}
            ProcessState::Running(_) if session.adapter.running().is_some() => {}
            ProcessState::Running(_) => {
                let fits = ProcessLimits::of(&session.setup.options.limits) == self.process_limits;
                if fits && session.adapter.serves(&session.setup.options, &options.unwrap_or_default()) {
                    self.begin().await;
                } else {
                    self.end_process();
                }
            }
        }
    }

    async fn begin(&mut self) {
        if let (Some(session), Some(current)) = (&mut self.session, self.turns.current()) {
            let bytes = session.adapter.begin(&session.setup.options, &current.turn);
            current.begun = true;
            self.bills.begin(current.turn.id);
            // Not for one that the runtime is given once more.
            if self.said.0 != Some(current.turn.id) {
                self.said = (Some(current.turn.id), 0);
            }
            tracing::debug!(turn_id = %current.turn.id, "turn begins");
            self.write(bytes).await;
        }
    }

    fn start_process(&mut self, options: &TurnOptions) {
        let (Some(session), RoomState::Open { inner, .. }) = (&mut self.session, &self.room) else { return };
        let mut launch = session.adapter.launch(&session.setup.options, options);
        self.process_limits = ProcessLimits::of(&session.setup.options.limits);
        launch.argv = self.process_limits.wrap(launch.argv);
        let (env, refused) = environment(launch.env.clone(), &with_bindings(&session.setup.env, &session.setup.gateway.bindings));
        if !refused.is_empty() {
            tracing::warn!(names = refused.join(" "), "environment has names that a session can not set, ignoring them");
        }
        let (inner, book, rate) = (inner.clone(), self.book.clone(), self.output.clone());
        self.warm = false;
        self.process = ProcessState::Starting;
        self.later(async move { Input::Started(Process::start(&inner, launch, env, book, rate).await) });
    }

    pub(super) async fn started(&mut self, started: Result<Process, String>) {
        match started {
            Ok(process) => {
                self.book.add(LogLevel::System, "runtime started");
                self.process = ProcessState::Running(Running { process, ending: false, broken: None });
            }
            Err(reason) => {
                self.book.add(LogLevel::System, &format!("runtime could not be started: {reason}"));
                self.process = ProcessState::None;
                // The adapter knows only of turns that it was given.
                let is_told = self.session.as_ref().is_some_and(|session| session.adapter.running().is_some());
                self.process_ended(ProcessEnd { reason: Some(reason.clone()), ..ProcessEnd::default() }).await;
                if !is_told {
                    self.fail_turn(&format!("runtime could not be started: {reason}"));
                }
            }
        }
    }

    /// Asks the process to exit.
    fn end_process(&mut self) {
        if let ProcessState::Running(running) = &mut self.process
            && !running.ending
        {
            running.ending = true;
            running.process.close();
            self.kill_at = Some(Instant::now() + EXIT_DEADLINE);
        }
    }

    pub(super) fn open(&mut self, id: ConnectionId, op: Op, plan: Room) {
        match &mut self.room {
            RoomState::Open { .. } => self.reply(id, op, Ok(())),
            RoomState::Opening(waiting) => waiting.push((id, op)),
            RoomState::Closing => self.reply(id, op, Err("the sandbox is being stopped".to_owned())),
            RoomState::Closed => self.open_room(plan, vec![(id, op)]),
        }
    }

    fn open_room(&mut self, plan: Room, waiting: Vec<(ConnectionId, Op)>) {
        self.room = RoomState::Opening(waiting);
        self.plan = Some(plan.clone());
        let (args, oom) = (Arc::clone(&self.args), Arc::clone(&self.oom));
        self.later(async move { Input::Opened(room::open(&args, &oom, &plan).await.map(Box::new)) });
    }

    pub(super) fn opened(&mut self, opened: Result<Box<Opened>, RoomError>) {
        let RoomState::Opening(waiting) = std::mem::replace(&mut self.room, RoomState::Closed) else { return };
        let result = match opened {
            Ok(opened) => {
                let Opened { inner, model, network, mut bwrap } = *opened;
                tracing::info!("sandbox is open");
                self.book.add(LogLevel::System, "sandbox is open");
                let gateway = tokio::spawn(self.gateway.clone().serve(model));
                let egress = tokio::spawn(self.egress.clone().serve(network));
                self.room = RoomState::Open { inner, servers: [gateway, egress] };
                self.later(async move { Input::RoomEnded(bwrap.ended().await) });
                Ok(())
            }
            Err(error) => {
                let cause = report::chain(&error);
                tracing::error!(error = cause, "sandbox can not be opened");
                self.turns.current();
                self.fail_turn(&cause);
                self.warm = false;
                Err(cause)
            }
        };
        for (id, op) in waiting {
            self.reply(id, op, result.clone());
        }
    }

    pub(super) fn room_ended(&mut self, cause: String) {
        match &self.room {
            RoomState::Open { servers, .. } => {
                tracing::error!(cause, "sandbox ended by itself");
                servers.iter().for_each(JoinHandle::abort);
            }
            RoomState::Closed | RoomState::Opening(_) | RoomState::Closing => tracing::debug!(cause, "sandbox ended"),
        }
        self.room = RoomState::Closed;
        if let ProcessState::Running(running) = &mut self.process {
            running.broken.get_or_insert(self.bills.shortage().unwrap_or(format!("the sandbox ended: {cause}")));
        }
    }

    pub(super) fn inner(&self) -> Option<Inner> {
        if let RoomState::Open { inner, .. } = &self.room { Some(inner.clone()) } else { None }
    }

    pub(super) async fn unpack(&mut self, connection: ConnectionId, op: Op, archive: Archive, chunks: mpsc::Receiver<Vec<u8>>) {
        let has_turn = self.has_turn();
        let bad_id = match &archive {
            Archive::Snapshot { conversation: Some(id), .. } => refuse_conversation(id),
            Archive::Agent | Archive::Snapshot { conversation: None, .. } | Archive::Bundle { .. } => None,
        };
        let refusal = match () {
            () if self.unpacking.is_some() => "the workspace is being unpacked",
            () if self.packing.is_some() => "the sandbox is being packed",
            () if self.stop_at.is_some() => "the sandbox is being stopped",
            () if has_turn => "a turn is running",
            () if self.inner().is_none() => "the sandbox is not open",
            () if matches!(archive, Archive::Bundle { replace: false, .. }) && self.disk.is_over() => DISK_FULL,
            () => bad_id.unwrap_or(""),
        };
        if !refusal.is_empty() {
            return self.reply(connection, op, Err(refusal.to_owned()));
        }
        if !matches!(archive, Archive::Bundle { .. }) {
            // It has read the files that now go away.
            self.end_process();
        }
        self.unpacking = Some(Unpacking { connection, op, archive, chunks: Some(chunks), is_too_much: false });
    }

    fn advance_unpack(&mut self) {
        let lies_over = self.unpacking.as_ref().is_some_and(|unpacking| matches!(unpacking.archive, Archive::Bundle { .. }));
        if !lies_over && !matches!(self.process, ProcessState::None) {
            // One that was starting when the archive came.
            return self.end_process();
        }
        let inner = self.inner();
        let Some(unpacking) = &mut self.unpacking else { return };
        let Some(chunks) = unpacking.chunks.take() else { return };
        // Before anything is touched: a shim after this one would take for whole what is not.
        if let Err(error) = self.memory.set_unpacked(false) {
            return self.unpacked(Err(UnpackError::Mark(error)));
        }
        let argv = match &unpacking.archive {
            Archive::Agent => [INIT_INSIDE, "unpack", WORKSPACE_INSIDE].map(str::to_owned).into(),
            Archive::Snapshot { .. } => snapshot_argv("restore"),
            Archive::Bundle { replace, state } => {
                let over = (!replace).then_some("--over");
                let argv = [INIT_INSIDE, "restore", WORKSPACE_INSIDE, HOME_INSIDE].into_iter().chain(over);
                argv.map(str::to_owned).chain(state.then(state_options).into_iter().flatten()).collect()
            }
        };
        self.unpacked = false;
        self.later(async move {
            Input::Unpacked(match inner {
                Some(inner) => {
                    if !lies_over {
                        // What a runtime left behind would race with the unpacking, and would go on
                        // working in files that are not its session's any more.
                        inner.end_all().await;
                    }
                    unpack::unpack(&inner, argv, chunks).await
                }
                None => Err(UnpackError::Failed("the sandbox has ended".to_owned())),
            })
        });
    }

    pub(super) fn unpacked(&mut self, result: Result<(), UnpackError>) {
        let Some(Unpacking { connection, op, archive, is_too_much, .. }) = self.unpacking.take() else { return };
        let is_added = matches!(archive, Archive::Bundle { replace: false, .. });
        // A daemon after this one would take for whole what lacks a part.
        let is_last = archive.is_last();
        let result = result
            .map_err(|error| if is_too_much { DISK_FULL.to_owned() } else { report::chain(&error) })
            // It came to its end before it was ended. It is told as too much all the same.
            .and_then(|()| if is_too_much { Err(DISK_FULL.to_owned()) } else { Ok(()) })
            .and_then(|()| match archive {
                Archive::Agent | Archive::Bundle { .. } => Ok(()),
                Archive::Snapshot { conversation, .. } => self.adopt(conversation),
            })
            .and_then(|()| self.memory.set_unpacked(is_last).map_err(|error| format!("write to the spool folder: {error}")));
        self.unpacked = result.is_ok() && is_last;
        if let Err(error) = &result {
            tracing::warn!(error, "workspace was not unpacked");
        }
        if is_added {
            self.disk.doubt();
        } else {
            self.disk.forget();
        }
        self.reply(connection, op, result);
    }

    pub(super) async fn deadline(&mut self) {
        self.time_out().await;
        self.end_slow_turns().await;
        self.look_at_disk();
        let egress = self.egress_told.due(Instant::now());
        self.record_egress(egress);
        if self.spool_retry_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.spool.retry();
        }
        if self.tab_at.is_some_and(|at| at <= Instant::now()) {
            self.keep_tab();
        }
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill_at = None;
            if let (ProcessState::Running(running), Some(inner)) = (&self.process, self.inner()) {
                tracing::warn!("runtime did not do as asked in time, killing it");
                inner.signal(running.process.handle(), nix::libc::SIGKILL).await;
            }
        }
    }

    /// Begins to end the shim.
    pub(super) async fn stop(&mut self) {
        if self.stop_at.is_some() {
            return;
        }
        tracing::info!("shim is asked to stop");
        self.stop_at = Some(Instant::now() + STOP_DEADLINE);
        if let Some(op) = self.packing.as_ref().map(Packing::op) {
            self.pack_stop(op, "the sandbox is being stopped");
        }
        for turn in self.turns.cancel_all() {
            self.end_turn(turn, EndState::Cancelled, Some("the sandbox was stopped"));
        }
        self.interrupt(None).await;
        self.end_process();
    }

    async fn advance_stop(&mut self) -> bool {
        if self.stop_at.is_some_and(|at| at <= Instant::now()) {
            tracing::warn!("shim did not stop in good order in time, ending all the same");
            return true;
        }
        match (&self.process, &self.room) {
            (ProcessState::Running(_), _) => {
                self.end_process();
                return false;
            }
            (ProcessState::Starting, _) | (_, RoomState::Opening(_) | RoomState::Closing) => return false,
            (ProcessState::None, RoomState::Closed) => {}
            (ProcessState::None, RoomState::Open { .. }) => {
                if let RoomState::Open { inner, servers } = std::mem::replace(&mut self.room, RoomState::Closing) {
                    servers.iter().for_each(JoinHandle::abort);
                    // Nobody asks init any more, so it ends.
                    inner.kill_all().await;
                }
                return false;
            }
        }
        let egress = self.egress_told.finish(Instant::now());
        self.record_egress(egress);
        self.record_leftover();
        // What happened last is to be stored, if somebody is there to store it.
        self.link.as_ref().is_none_or(|link| self.spool.is_empty() && !link.has_work(&self.spool))
    }
}

/// Runs a program inside to its end, without its output.
pub(super) async fn run_quietly(inner: &Inner, argv: Vec<String>) {
    let null = || io::pipe().map(|(_, writer)| writer.into());
    let (Ok(stdin), Ok(stdout), Ok(stderr)) = (null(), null(), null()) else { return };
    if let Ok(child) = inner.spawn(argv, Vec::new(), "/", [stdin, stdout, stderr]).await {
        // The runtime itself says so if it did not help.
        let _ended = tokio::time::timeout(REPAIR_DEADLINE, child.exit).await;
    }
}
