//! The task that owns a session.
//!
//! ```text
//!          open                  opened                    a turn is given
//!  Cold ─────────▶ Opening ─────────────────▶ Up, waiting ───────────────▶ Up, running
//!   ▲                 │ failed: its turns fail      │ ▲                        │
//!   └─────────────────┴─────────────────────────────┘ └───── turn ended ───────┘
//!                 connection lost and no process left: the turn is interrupted
//! ```
//!
//! When a sandbox ended while turns ran, another one is started before they are called interrupted:
//! the shim keeps its events in the sandbox's folder, so the next shim there still has what the last
//! one could not deliver ([`sandbox`] settles it).
//!
//! A turn that the runtime begins by itself is not given to it and waits for nothing; it is only
//! remembered, so that it ends when its sandbox does. A driver that has been cold and unasked for
//! [`IDLE`] goes; the next request starts another one from what is stored.
//!
//! Order of every change: check the request, store events and state, then act on it, then answer.
//! A turn that is stored as running but did not reach the shim is given to it again on the next
//! connection; the shim ignores one it has seen.

mod bundle;
mod compare;
mod egress;
mod gateway;
mod life;
mod limits;
mod log;
mod measure;
mod permissions;
mod rewind;
mod sandbox;
mod trace;
mod turns;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

pub(super) use self::bundle::{Filled, Purpose, Visit};
use self::life::{Asker, Life};
pub(super) use self::life::{PackError, Packed, about, pack, write};
pub(super) use self::rewind::{Rewind, rewound};
use self::sandbox::{Cause, Sandbox, Settling};
pub(super) use self::trace::Asked;
pub(super) use self::turns::joined;
use super::bundle::{Bundle, Placed};
use super::farewell::{Farewell, Left};
use super::open::{OpenError, current_options, rules};
use super::{Context, Host, Phase, PhaseCell, Posted, Reply, SessionError};
use crate::fault::{self, Point};
use crate::lifecycle::{Change, Input, Verb};
use crate::link::daemon::ShimHandle;
use crate::link::shim::{EndState, ToShim, Turn, TurnEnd};
use crate::report::chain;
use crate::session::gateway::Changed;
use crate::session::security::Made;
use crate::snapshot::Manifest;
use crate::store::{Advance, NewEvent, PermissionRow, SessionRow, StoreError, TurnKey, TurnRow, TurnState, now};
use crate::telemetry::trace::TraceContext;
use crate::wire::egress::{Applied, Egress};
use crate::wire::event::Kind;
use crate::wire::message::{MessageBody, TurnOptions};
use crate::wire::permission::PermissionAnswer;
use crate::wire::session::{SessionConfig, Status};
use crate::wire::usage::ModelUsage;
use crate::wire::{PermissionId, TurnId};

/// How long a driver without sandbox, turns and listeners stays.
const IDLE: Duration = Duration::from_secs(60);

/// The kind of a turn that the runtime began by itself.
const OWN: &str = "runtime";

/// What a driver is asked to do.
#[derive(Debug)]
pub(super) enum Request {
    /// Bring up the sandbox of a session that was just made.
    Open {
        /// Told when it is up.
        reply: Reply<()>,
    },
    /// Connect to a sandbox that outlived the daemon.
    Attach,
    /// The sandbox did not outlive the daemon.
    Lost,
    /// What the log says of the sandbox may not be what the host has.
    Compare,
    /// Take a message.
    Post {
        /// The message.
        body: Box<MessageBody>,
        /// By what a second try of it is known.
        key: Option<TurnKey>,
        /// Told when it is stored.
        reply: Reply<Posted>,
    },
    /// End the running turn.
    Interrupt {
        /// Told which it was.
        reply: Reply<Option<TurnId>>,
    },
    /// End a turn that runs, or take one from the queue.
    Cancel {
        /// The turn.
        turn: TurnId,
        /// Told when that is stored, or the sandbox is asked.
        reply: Reply<()>,
    },
    /// Answer a request for permission.
    Answer {
        /// The request.
        id: PermissionId,
        /// The answer.
        answer: Box<PermissionAnswer>,
        /// Told when it is stored what came of it.
        reply: Reply<PermissionRow>,
    },
    /// Change what later turns use.
    Configure {
        /// New model; `None` keeps it.
        model: Option<String>,
        /// New configuration, field by field; `None` keeps a field.
        config: Box<SessionConfig>,
        /// Told when it is stored.
        reply: Reply<()>,
    },
    /// Change what of the network may be reached.
    Egress {
        /// The new list.
        egress: Egress,
        /// Told whether it counts, when that is known.
        reply: Reply<Applied>,
    },
    /// A secret has changed, perhaps one of the session.
    Rekey {
        /// Which.
        changed: Changed,
        /// Told when the new one counts.
        reply: Reply<()>,
    },
    /// Say what is known of how its sandbox is confined.
    Made {
        /// Told; `None` where none has processes.
        reply: Reply<Option<Made>>,
    },
    /// Change what it may use.
    Limits {
        /// The new fields; `null` takes one back.
        change: Map<String, Value>,
        /// Told which of them do not count yet.
        reply: Reply<Vec<String>>,
    },
    /// Keep it as it is, without processor time.
    Pause {
        /// Told when it is.
        reply: Reply<()>,
    },
    /// Keep it without processes.
    Stop {
        /// Told when it is.
        reply: Reply<()>,
    },
    /// Make it take messages again.
    Resume {
        /// Told when its sandbox is up.
        reply: Reply<()>,
    },
    /// Take a snapshot.
    Snapshot {
        /// Told what it is.
        reply: Reply<Manifest>,
    },
    /// Go back to an earlier snapshot.
    Rewind(Rewind),
    /// Bring up the sandbox for somebody who reads the workspace, or works in it.
    Visit {
        /// What for.
        purpose: Purpose,
        /// Told when it is up.
        reply: Reply<Visit>,
    },
    /// Look into a sandbox that is up, without keeping it awake.
    Peek {
        /// Told its shim; `None` if it is frozen or not there.
        reply: Reply<Option<ShimHandle>>,
    },
    /// Say whether there is no sandbox, and none is coming up.
    IsCold {
        /// Told.
        reply: Reply<bool>,
    },
    /// Write into the log what somebody did in the workspace.
    Note {
        /// Data of an event of the kind lifecycle.
        data: String,
        /// Told when it is stored.
        reply: Reply<()>,
    },
    /// Put files into the workspace.
    Upload {
        /// The files.
        bundle: Arc<Bundle>,
        /// Told where they are.
        reply: Reply<Placed>,
    },
    /// End the session.
    End {
        /// Told when it is stored.
        reply: Reply<()>,
    },
}

/// A turn that waits.
#[derive(Debug)]
struct Waiting {
    id: TurnId,
    content: Box<RawValue>,
    options: TurnOptions,
    /// Whether an earlier driver took it.
    is_found: bool,
    /// When it was taken; `None` after its first event, and if an earlier driver took it.
    taken: Option<tokio::time::Instant>,
}

/// Owner of one session.
#[derive(Debug)]
pub(super) struct Driver {
    context: Arc<Context>,
    session: SessionRow,
    requests: mpsc::Receiver<Asked>,
    tail: watch::Sender<i64>,
    phase: Arc<PhaseCell>,
    host: watch::Receiver<Host>,
    sandbox: Sandbox,
    running: Option<Waiting>,
    /// Whether the running turn is to end. Kept, since the sandbox may not be connected when it is
    /// asked for.
    interrupting: bool,
    /// Turns that the runtime began by itself.
    own: Vec<TurnId>,
    queue: VecDeque<Waiting>,
    /// A sandbox that came up in the place of one that ended, whose last events still come.
    settling: Option<Settling>,
    /// Where what is in the sandbox came from, until that is told.
    source: Option<crate::session::open::Source>,
    /// The event of the script that was run in the sandbox, until it is stored.
    started: Option<NewEvent>,
    /// How the last sandbox ended, for the turns that it had.
    end_cause: Option<String>,
    /// Answers to requests for permission that came while no sandbox was connected.
    answers: Vec<permissions::Pending>,
    /// Told when the first sandbox is up.
    creating: Option<Reply<()>>,
    /// Connections lost since events came.
    fruitless: u32,
    /// When waiting for the launcher began.
    waiting_since: Option<tokio::time::Instant>,
    /// How the session stands as a whole.
    life: Life,
    /// What is left to be done, once this driver has ended the session.
    farewell: Option<Farewell>,
    /// Tasks that the runtime runs in the background: it is not idle, though no turn runs. Not
    /// known after a restart until it tells of a change, if its shim is too old to tell by itself.
    background: usize,
    /// Whether nothing came over the connection yet.
    unheard: bool,
    /// Since when the sandbox lives; `None` without one.
    up_since: Option<tokio::time::Instant>,
    /// Whether limits were changed since the sandbox is being started.
    limits_changed: bool,
    key: Key,
    /// Turns that are told of in traces.
    traces: trace::Traces,
    /// The place in a trace of what is asked now.
    asked_in: Option<TraceContext>,
}

/// How the credentials of the session stand.
#[derive(Debug, Default)]
struct Key {
    /// Whether its key of the model API was deleted.
    is_gone: bool,
    /// Credentials that were deleted, or are being deleted, of those that are bound to hosts.
    gone: BTreeSet<String>,
    /// Whether its sandbox may have an old one.
    is_stale: bool,
}

impl Driver {
    pub(super) fn new(
        context: Arc<Context>,
        session: SessionRow,
        requests: mpsc::Receiver<Asked>,
        tail: watch::Sender<i64>,
        phase: Arc<PhaseCell>,
    ) -> Self {
        let life = Life::new(session.status, rules(&context, &session));
        Self {
            life,
            background: 0,
            farewell: None,
            host: context.host.subscribe(),
            unheard: true,
            up_since: None,
            limits_changed: false,
            key: Key::default(),
            context,
            session,
            requests,
            tail,
            phase,
            sandbox: Sandbox::Cold,
            running: None,
            interrupting: false,
            own: Vec::new(),
            queue: VecDeque::new(),
            settling: None,
            source: None,
            started: None,
            end_cause: None,
            answers: Vec::new(),
            creating: None,
            fruitless: 0,
            waiting_since: None,
            traces: trace::Traces::default(),
            asked_in: None,
        }
    }

    pub(super) async fn run(mut self) {
        if let Err(error) = self.load().await {
            tracing::error!(session_id = %self.session.id, error = %error, "a session can not be loaded");
            self.leave(|| error.clone().into());
            return;
        }
        self.heed_host().await;
        while self.session.status != Status::Ended {
            if self.life.state.is_put_away() {
                return self.leave(|| SessionError::Closing);
            }
            if let Some(request) = self.life.next_deferred() {
                self.handle(request).await;
                self.sync().await;
                continue;
            }
            self.show_phase();
            let closing = self.context.closing.clone();
            let (idle, expires) = (self.life.deadline(), self.expires());
            tokio::select! {
                biased;
                () = closing.cancelled() => return self.leave(|| SessionError::Closing),
                Ok(()) = self.host.changed() => self.heed_host().await,
                request = self.requests.recv() => match request {
                    Some(Asked { request, trace }) => {
                        self.asked_in = trace;
                        self.handle(request).await;
                    }
                    None => return,
                },
                news = sandbox::news(&mut self.sandbox, self.settling.as_ref()) => self.hear(news).await,
                packed = some(self.life.packing.as_mut()) => self.packed(packed.unwrap_or(Err(PackError::Broken))).await,
                filled = some(self.life.filling.as_mut()) => self.filled(filled.unwrap_or(Err(PackError::Broken))).await,
                removed = some(self.life.returning.as_mut()) => self.returned(removed.unwrap_or(false)).await,
                () = self.life.guests.closed(), if self.life.has_only_guests() => self.live(Input::GuestsLeft).await,
                () = at(expires) => self.expire().await,
                input = at(idle) => self.rest(input).await,
                () = tokio::time::sleep(IDLE), if self.is_idle() => if self.leave_idle() {
                    return;
                },
            }
            self.sync().await;
            self.asked_in = None;
        }
        self.leave(|| SessionError::Status(Status::Ended));
        if let Some(farewell) = self.farewell.take() {
            let turns = self.begun().count();
            let left = match std::mem::replace(&mut self.sandbox, Sandbox::Cold) {
                Sandbox::Cold => self.life.returning.take().map_or(Left::Cold, Left::Leaving),
                // Not given up: it would bring the sandbox back after it was removed.
                Sandbox::Opening(opened) => Left::Opening(opened),
                Sandbox::Up(connection) => {
                    let (packing, filling) = (self.life.packing.take(), self.life.filling.take());
                    Left::Up { connection, turns, packing, filling }
                }
            };
            // In a task of its own: readers of the log wait for the end of this one.
            self.context.drivers.spawn(farewell.run(self.session, left, self.life.rules.excludes));
        }
    }

    /// Goes, if nobody has anything to ask and nobody listens. Whoever is about to ask holds a copy
    /// of what is in the hub, which is a listener.
    fn leave_idle(&self) -> bool {
        self.context.drop_live_if(self.session.id, || self.requests.is_empty() && self.tail.receiver_count() <= 1)
    }

    fn is_idle(&self) -> bool {
        matches!(self.sandbox, Sandbox::Cold)
            && self.life.state.is_quiet()
            && self.running.is_none()
            && self.own.is_empty()
            && self.queue.is_empty()
    }

    /// Makes room for the next driver of this session, and answers those who asked this one.
    fn leave(&mut self, error: impl Fn() -> SessionError) {
        self.context.drop_live(self.session.id);
        self.requests.close();
        while let Ok(Asked { request, .. }) = self.requests.try_recv() {
            request.refuse(error());
        }
        for pending in self.answers.drain(..) {
            answer(pending.reply, Err(error()));
        }
        if let Some(reply) = self.creating.take() {
            answer(reply, Err(error()));
        }
        self.life.refuse_all(&error);
    }

    fn show_phase(&self) {
        let runs = self.running.is_some() || !self.own.is_empty();
        self.phase.set(match &self.sandbox {
            _ if self.session.status == Status::Ended => Phase::Cold,
            Sandbox::Cold => Phase::Cold,
            Sandbox::Opening(_) => Phase::Warming,
            Sandbox::Up(_) if self.life.state.sandbox == crate::lifecycle::Sandbox::Frozen => Phase::Frozen,
            Sandbox::Up(_) if runs => Phase::Running,
            Sandbox::Up(_) => Phase::Waiting,
        });
    }

    /// Takes up what an earlier daemon or driver left: the running turn and those that wait. The
    /// session is read again, since it may have changed after whoever asked looked at it.
    async fn load(&mut self) -> Result<(), StoreError> {
        self.session = match self.context.store.get_session(&self.session.tenant, self.session.id).await {
            Ok(session) => session,
            Err(StoreError::NotFound(_)) => {
                self.session.status = Status::Ended;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.tail.send_replace(self.session.tail);
        self.life.state.status = self.session.status;
        let turns = self.context.store.open_turns(self.session.id).await?;
        // A message that goes before all that wait, and waits itself, came to end what runs.
        let jumps = turns.iter().filter(|turn| turn.jumps && turn.state == TurnState::Queued).map(|turn| turn.first_event).max();
        for turn in turns {
            self.follow_found(&turn).await;
            match (turn.state, turn.kind.as_str()) {
                (_, OWN) => self.own.push(turn.id),
                (TurnState::Running, _) => {
                    self.interrupting = jumps > Some(turn.first_event);
                    self.running = Some(waiting(turn));
                }
                _ => self.queue.push_back(waiting(turn)),
            }
        }
        Ok(())
    }

    async fn handle(&mut self, request: Request) {
        match request {
            Request::Open { reply } => {
                self.creating = Some(reply);
                self.open();
            }
            Request::Attach => self.open(),
            Request::Lost => self.lost().await,
            Request::Compare => self.compare().await,
            Request::Post { body, key, reply } => {
                let outcome = self.take_message(*body, key).await;
                answer(reply, outcome);
            }
            Request::Interrupt { reply } => {
                let interrupted = self.interrupt().await;
                answer(reply, Ok(interrupted));
            }
            Request::Cancel { turn, reply } => {
                let outcome = self.cancel(turn).await;
                answer(reply, outcome);
            }
            Request::Answer { id, answer, reply } => self.answer(permissions::Pending { id, answer: *answer, reply }).await,
            Request::Configure { model, config, reply } => {
                let outcome = self.configure(model, *config).await;
                answer(reply, outcome);
            }
            Request::Egress { egress, reply } => self.change_egress(egress, reply).await,
            Request::Rekey { changed, reply } => self.rekey(changed, reply).await,
            Request::Made { reply } => answer(reply, Ok(self.made())),
            Request::Limits { change, reply } => {
                let outcome = self.change_limits(change).await;
                answer(reply, outcome);
            }
            Request::Pause { reply } => self.ask(Verb::Pause, Asker::Change(Change::Pause, reply)).await,
            Request::Stop { reply } => self.ask(Verb::Stop, Asker::Change(Change::Stop, reply)).await,
            Request::Resume { reply } => self.resume(reply).await,
            Request::Snapshot { reply } => self.ask(Verb::Snapshot, Asker::Snapshot(reply)).await,
            Request::Rewind(rewind) => self.rewind(rewind).await,
            Request::Visit { purpose, reply } => self.visit(purpose, reply).await,
            Request::Peek { reply } => answer(reply, Ok(self.peek())),
            Request::IsCold { reply } => answer(reply, Ok(matches!(self.sandbox, Sandbox::Cold))),
            Request::Note { data, reply } => {
                let outcome = self.note(data).await;
                answer(reply, outcome);
            }
            Request::Upload { bundle, reply } => self.ask(Verb::Upload, Asker::Upload(bundle, reply)).await,
            Request::End { reply } => {
                let outcome = self.end().await;
                answer(reply, outcome);
            }
        }
    }

    async fn configure(&mut self, model: Option<String>, new: SessionConfig) -> Result<(), SessionError> {
        let old = self.session.config.clone();
        let config = SessionConfig {
            allowed_tools: new.allowed_tools.or_else(|| old.allowed_tools.clone()),
            disallowed_tools: new.disallowed_tools.or_else(|| old.disallowed_tools.clone()),
            betas: new.betas.or_else(|| old.betas.clone()),
            subagents: new.subagents.or_else(|| old.subagents.clone()),
            initial_agent: new.initial_agent.or_else(|| old.initial_agent.clone()),
            mcp_servers: old.mcp_servers.clone(),
            permission_mode: new.permission_mode.or(old.permission_mode),
            egress: old.egress.clone(),
            credential_id: new.credential_id.or_else(|| old.credential_id.clone()).filter(|id| !id.is_empty()),
            bindings: new.bindings.or_else(|| old.bindings.clone()).filter(|bindings| !bindings.is_empty()),
            limits: old.limits,
        };
        super::config::check(&config, Some(&old))?;
        let model = model.or_else(|| self.session.model.clone());
        let invalid = |e: OpenError| SessionError::Invalid { field: "config".to_owned(), reason: chain(&e) };
        let changed = SessionRow { model: model.clone(), config: config.clone(), ..self.session.clone() };
        let options = current_options(&self.context, &changed).map_err(invalid)?;
        let has_new_key = config.credential_id != old.credential_id;
        let has_other_bindings = config.bindings != old.bindings;
        let stored = self.store(Advance { settings: Some((model, config)), ..Advance::default() }).await?;
        self.session = changed;
        self.publish(stored);
        self.tell(ToShim::Configure { options }).await;
        if has_new_key {
            self.key.is_gone = false;
        }
        if has_new_key || has_other_bindings {
            self.key.is_stale = !matches!(self.sandbox, Sandbox::Cold);
            self.pass_gateway_on().await;
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), SessionError> {
        let end = |turn: TurnId, state| {
            let end = TurnEnd { turn_id: turn, state, cause: Some("the session was ended".to_owned()), usage: None };
            event(Kind::TurnEnded, Some(turn), self.end_data(&end))
        };
        let begun = self.begun().map(|turn| end(turn, EndState::Interrupted));
        let mut events = self.unanswered().await?;
        events.extend(begun.chain(self.queue.iter().map(|turn| end(turn.id, EndState::Cancelled))));
        let sandbox = self.sandbox_ended(Cause::Finished, "the session was ended", None);
        events.extend(sandbox.clone());
        events.push(event(Kind::Lifecycle, None, r#"{"action":"ended"}"#.to_owned()));
        let change = Advance { events, status: Some(Status::Ended), sandbox: sandbox.map(|_| None), ..Advance::default() };
        // First, so that nobody finds it ended without knowing that its last snapshot is to come.
        let farewell = Farewell::announce(self.context.clone(), &self.session);
        fault::at(Point::EndBegun);
        let stored = self.store(change).await?;
        fault::at(Point::EndStored);
        (self.session.status, self.session.tail, self.farewell) = (Status::Ended, stored.tail, Some(farewell));
        // As in the store. From now on it counts how long its last snapshot is tried.
        self.session.last_active_at = now();
        self.live(Input::Ended).await;
        self.publish(stored);
        Ok(())
    }
}

impl Request {
    /// Answers with an error what was not begun.
    fn refuse(self, error: SessionError) {
        match self {
            Self::Attach | Self::Lost | Self::Compare => {}
            Self::Open { reply }
            | Self::Configure { reply, .. }
            | Self::Cancel { reply, .. }
            | Self::Pause { reply }
            | Self::Stop { reply }
            | Self::Resume { reply }
            | Self::Note { reply, .. }
            | Self::Rekey { reply, .. }
            | Self::Rewind(Rewind { reply, .. })
            | Self::End { reply } => answer(reply, Err(error)),
            Self::Egress { reply, .. } => answer(reply, Err(error)),
            Self::Made { reply } => answer(reply, Err(error)),
            Self::Snapshot { reply } => answer(reply, Err(error)),
            Self::Peek { reply } => answer(reply, Err(error)),
            Self::IsCold { reply } => answer(reply, Err(error)),
            Self::Visit { reply, .. } => answer(reply, Err(error)),
            Self::Upload { reply, .. } => answer(reply, Err(error)),
            Self::Answer { reply, .. } => answer(reply, Err(error)),
            Self::Limits { reply, .. } => answer(reply, Err(error)),
            Self::Post { reply, .. } => answer(reply, Err(error)),
            Self::Interrupt { reply } => answer(reply, Err(error)),
        }
    }
}

impl Waiting {
    /// The message as the runtime is given it.
    async fn to_shim(&self, context: &Context, session: crate::wire::SessionId) -> ToShim {
        let content = super::attachments::expand(context, session, &self.content).await;
        ToShim::Turn(Turn { id: self.id, content, options: self.options.clone() })
    }
}

fn waiting(turn: TurnRow) -> Waiting {
    let content =
        turn.content.and_then(|content| RawValue::from_string(content).ok()).unwrap_or_else(|| RawValue::NULL.to_owned());
    Waiting { id: turn.id, content, options: turn.options, is_found: true, taken: None }
}

fn event(kind: Kind, turn: Option<TurnId>, data: String) -> NewEvent {
    NewEvent { at: now(), turn, kind, data }
}

fn started(turn: &Waiting) -> NewEvent {
    let data = format!(r#"{{"turnId":"{}","kind":"user","content":{}}}"#, turn.id, turn.content.get());
    event(Kind::TurnStarted, Some(turn.id), data)
}

fn answer<T>(reply: Reply<T>, outcome: Result<T, SessionError>) {
    // A caller that went away needs no answer; what it asked for is done.
    let _ = reply.send(outcome);
}

/// Waits for it, or for ever if there is none.
async fn some<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Waits until then, or for ever.
async fn at<T>(deadline: Option<(tokio::time::Instant, T)>) -> T {
    match deadline {
        Some((at, what)) => {
            tokio::time::sleep_until(at).await;
            what
        }
        None => std::future::pending().await,
    }
}
