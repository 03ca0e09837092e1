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
//! A turn that the runtime begins by itself is not given to it and waits for nothing; it is only
//! remembered, so that it ends when its sandbox does. A driver that has been cold and unasked for
//! [`IDLE`] goes; the next request starts another one from what is stored.
//!
//! Order of every change: check the request, store events and state, then act on it, then answer.
//! A turn that is stored as running but did not reach the shim is given to it again on the next
//! connection; the shim ignores one it has seen.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};

use super::open::{OpenError, current_options, open};
use super::{Context, Phase, PhaseCell, Posted, Reply, SessionError};
use crate::link::daemon::Connection;
use crate::link::shim::{EndState, ShimEvent, ToShim, Turn, TurnEnd};
use crate::report::chain;
use crate::store::{Advance, Advanced, NewEvent, NewTurn, SessionRow, ShimBatch, StoreError, TurnRow, TurnState, now};
use crate::wire::event::Kind;
use crate::wire::message::{IfBusy, MessageBody, TurnOptions};
use crate::wire::session::{SessionConfig, Status};
use crate::wire::{Timestamp, TurnId, VERSION};

/// Turns that may wait in one session. A person types ahead by a few; a program that is further
/// ahead should wait for answers.
const QUEUE_MAX: usize = 100;
/// How long a shim may leave a message unread. One that is frozen from outside must not keep its
/// driver from ending the session.
const TELL_DEADLINE: Duration = Duration::from_secs(30);
/// How long a driver without sandbox, turns and listeners stays.
const IDLE: Duration = Duration::from_secs(60);
/// How often in a row a connection may be lost before anything came over it. Beyond that the
/// sandbox says what this daemon can not read, and would say it again for ever.
const FRUITLESS_MAX: u32 = 5;
/// How long a running turn waits for a launcher that can not be asked whether its sandbox lives.
const LAUNCHER_PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait before the launcher is asked again.
const LAUNCHER_PAUSE: Duration = Duration::from_millis(500);
/// First and longest wait before a failed write of a sandbox's events is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

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
    /// Take a message.
    Post {
        /// The message.
        body: Box<MessageBody>,
        /// Told when it is stored.
        reply: Reply<Posted>,
    },
    /// End the running turn.
    Interrupt {
        /// Told which it was.
        reply: Reply<Option<TurnId>>,
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
    /// End the session.
    End {
        /// Told when it is stored.
        reply: Reply<()>,
    },
}

#[derive(Debug)]
enum Sandbox {
    Cold,
    Opening(oneshot::Receiver<Result<Connection, OpenError>>),
    Up(Connection),
}

/// A turn that waits.
#[derive(Debug)]
struct Waiting {
    id: TurnId,
    content: Box<RawValue>,
    options: TurnOptions,
}

/// Owner of one session.
#[derive(Debug)]
pub(super) struct Driver {
    context: Arc<Context>,
    session: SessionRow,
    requests: mpsc::Receiver<Request>,
    tail: watch::Sender<i64>,
    phase: Arc<PhaseCell>,
    sandbox: Sandbox,
    running: Option<Waiting>,
    /// Whether the running turn is to end. Kept, since the sandbox may not be connected when it is
    /// asked for.
    interrupting: bool,
    /// Turns that the runtime began by itself.
    own: Vec<TurnId>,
    queue: VecDeque<Waiting>,
    /// Told when the first sandbox is up.
    creating: Option<Reply<()>>,
    /// Connections lost since events came.
    fruitless: u32,
    /// When waiting for the launcher began.
    waiting_since: Option<tokio::time::Instant>,
}

impl Driver {
    pub(super) fn new(
        context: Arc<Context>,
        session: SessionRow,
        requests: mpsc::Receiver<Request>,
        tail: watch::Sender<i64>,
        phase: Arc<PhaseCell>,
    ) -> Self {
        Self {
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
            creating: None,
            fruitless: 0,
            waiting_since: None,
        }
    }

    pub(super) async fn run(mut self) {
        if let Err(error) = self.load().await {
            tracing::error!(session_id = %self.session.id, error = %error, "a session can not be loaded");
            self.leave(|| error.clone().into());
            return;
        }
        while self.session.status != Status::Ended {
            self.show_phase();
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => self.handle(request).await,
                    None => return,
                },
                news = news(&mut self.sandbox) => match news {
                    News::Opened(opened) => self.opened(*opened).await,
                    News::Events(events) => self.store_events(events).await,
                    News::Lost => self.lost().await,
                },
                () = tokio::time::sleep(IDLE), if self.is_idle() => if self.leave_idle() {
                    return;
                },
            }
        }
        self.leave(|| SessionError::Status(Status::Ended));
        // A start that is under way would bring the sandbox back after it was removed. It has a
        // deadline; what it says does not matter, and without a connection the shim ends at once.
        if let Sandbox::Opening(opened) = std::mem::replace(&mut self.sandbox, Sandbox::Cold) {
            drop(opened.await);
        }
        self.context.clear_sandbox(self.session.sandbox).await;
    }

    /// Goes, if nobody has anything to ask and nobody listens. Whoever is about to ask holds a copy
    /// of what is in the hub, which is a listener.
    fn leave_idle(&self) -> bool {
        self.context.drop_live_if(self.session.id, || self.requests.is_empty() && self.tail.receiver_count() <= 1)
    }

    fn is_idle(&self) -> bool {
        matches!(self.sandbox, Sandbox::Cold) && self.running.is_none() && self.own.is_empty() && self.queue.is_empty()
    }

    /// Makes room for the next driver of this session, and answers those who asked this one.
    fn leave(&mut self, error: impl Fn() -> SessionError) {
        self.context.drop_live(self.session.id);
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            request.refuse(error());
        }
        if let Some(reply) = self.creating.take() {
            answer(reply, Err(error()));
        }
    }

    fn show_phase(&self) {
        let runs = self.running.is_some() || !self.own.is_empty();
        self.phase.set(match &self.sandbox {
            _ if self.session.status == Status::Ended => Phase::Cold,
            Sandbox::Cold => Phase::Cold,
            Sandbox::Opening(_) => Phase::Warming,
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
        for turn in self.context.store.open_turns(self.session.id).await? {
            match (turn.state, turn.kind.as_str()) {
                (_, OWN) => self.own.push(turn.id),
                (TurnState::Running, _) => self.running = Some(waiting(turn)),
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
            Request::Post { body, reply } => self.post(*body, reply).await,
            Request::Interrupt { reply } => {
                let interrupted = self.interrupt().await;
                answer(reply, Ok(interrupted));
            }
            Request::Configure { model, config, reply } => {
                let outcome = self.configure(model, *config).await;
                answer(reply, outcome);
            }
            Request::End { reply } => {
                let outcome = self.end().await;
                answer(reply, outcome);
            }
        }
    }

    fn open(&mut self) {
        self.open_after(Duration::ZERO);
    }

    fn open_after(&mut self, pause: Duration) {
        if matches!(self.sandbox, Sandbox::Cold) {
            let (done, opened) = oneshot::channel();
            let (context, session) = (self.context.clone(), self.session.clone());
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                // If the driver is gone, so is its interest.
                let _ = done.send(open(context, session).await);
            });
            self.sandbox = Sandbox::Opening(opened);
        }
    }

    async fn opened(&mut self, outcome: Result<Connection, OpenError>) {
        match outcome {
            Ok(connection) => {
                tracing::info!(
                    session_id = %self.session.id, agent = self.session.agent, sandbox_id = %self.session.sandbox,
                    shim = connection.state.version, "sandbox is up"
                );
                self.sandbox = Sandbox::Up(connection);
                self.waiting_since = None;
                if let Some(reply) = self.creating.take() {
                    let created = self.created().await;
                    answer(reply, created);
                }
                self.take_up_turn().await;
            }
            Err(error) => {
                let reason = chain(&error);
                tracing::warn!(session_id = %self.session.id, agent = self.session.agent, error = reason, "sandbox did not come up");
                self.sandbox = Sandbox::Cold;
                if matches!(error, OpenError::Launch(_)) && self.has_patience() {
                    return self.open_after(LAUNCHER_PAUSE);
                }
                self.waiting_since = None;
                if matches!(error, OpenError::Link(_) | OpenError::Slow) {
                    // What can not be spoken to now can not be later, and must not go on with a
                    // turn that is about to be called interrupted.
                    self.kill().await;
                }
                if let Some(reply) = self.creating.take() {
                    answer(reply, Err(SessionError::Open(reason)));
                } else {
                    self.fail_turns(&reason).await;
                }
            }
        }
    }

    /// Whether a turn runs that may still run when the launcher is back.
    fn has_patience(&mut self) -> bool {
        if self.running.is_none() && self.own.is_empty() {
            return false;
        }
        self.waiting_since.get_or_insert_with(tokio::time::Instant::now).elapsed() < LAUNCHER_PATIENCE
    }

    async fn kill(&mut self) {
        self.sandbox = Sandbox::Cold;
        if let Err(error) = self.context.launcher.kill(self.session.sandbox).await {
            tracing::warn!(session_id = %self.session.id, error = chain(&error), "a broken sandbox can not be killed, ignoring");
        }
    }

    async fn created(&mut self) -> Result<(), SessionError> {
        let mut data = serde_json::json!({"action": "created", "agentName": self.session.agent});
        if let Some(model) = &self.session.model {
            data["model"] = model.as_str().into();
        }
        let events = vec![event(Kind::Lifecycle, None, data.to_string())];
        let stored = self.store(Advance { events, status: Some(Status::Active), ..Advance::default() }).await?;
        self.session.status = Status::Active;
        self.publish(stored);
        Ok(())
    }

    /// After a connection: the running turn may be over, or unknown to the shim.
    async fn take_up_turn(&mut self) {
        let Sandbox::Up(connection) = &self.sandbox else { return };
        // A shim which was set up only now is not the one that ran the turn, and a turn is never
        // silently repeated. Any other may be given it again, since it ignores one it has seen.
        let is_new = connection.state.session.is_none();
        // They may have changed while it opened, or before a message about them was sent.
        match current_options(&self.context, &self.session) {
            Ok(options) => self.tell(ToShim::Configure { options }).await,
            Err(error) => {
                tracing::warn!(session_id = %self.session.id, error = chain(&error), "settings can not be passed on, ignoring")
            }
        }
        if is_new {
            self.end_running("the sandbox ended while the turn ran").await;
        }
        let Some(turn) = &self.running else { return self.next_turn(None).await };
        let (id, message) = (turn.id, turn.to_shim());
        self.tell(message).await;
        if self.interrupting {
            self.tell(ToShim::Interrupt { turn: Some(id) }).await;
        }
    }

    async fn post(&mut self, body: MessageBody, reply: Reply<Posted>) {
        let outcome = self.take_message(body).await;
        answer(reply, outcome);
    }

    async fn take_message(&mut self, body: MessageBody) -> Result<Posted, SessionError> {
        if self.session.status != Status::Active {
            return Err(SessionError::Status(self.session.status));
        }
        let busy = self.current().or_else(|| self.queue.front().map(|turn| turn.id));
        if let (IfBusy::Reject, Some(turn)) = (body.if_busy, busy) {
            return Err(SessionError::Busy(turn));
        }
        if self.queue.len() >= QUEUE_MAX {
            return Err(SessionError::Invalid {
                field: "content".to_owned(),
                reason: format!("{QUEUE_MAX} messages are waiting already"),
            });
        }
        let turn = Waiting { id: TurnId::new(), content: body.content, options: body.options };
        let data = format!(r#"{{"sessionId":"{}","version":"{VERSION}","turnId":"{}"}}"#, self.session.id, turn.id);
        let mut events = vec![event(Kind::TurnQueued, Some(turn.id), data)];
        let goes_now = matches!(self.sandbox, Sandbox::Up(_)) && self.running.is_none() && self.queue.is_empty();
        if goes_now {
            events.push(started(&turn));
        }
        let queued = vec![NewTurn { id: turn.id, content: turn.content.get().to_owned(), options: turn.options.clone() }];
        let stored = self.store(Advance { events, queued, ..Advance::default() }).await?;
        let posted = Posted { turn: turn.id, first_event: stored.first.unwrap_or(stored.tail) };
        let (message, current) = (goes_now.then(|| turn.to_shim()), self.current());
        if goes_now {
            self.begin(turn);
        } else if body.if_busy == IfBusy::Interrupt {
            self.queue.push_front(turn);
        } else {
            self.queue.push_back(turn);
        }
        self.publish(stored);
        if let (IfBusy::Interrupt, Some(current)) = (body.if_busy, current) {
            self.interrupt_turn(current).await;
        }
        match message {
            Some(message) => self.tell(message).await,
            None => self.open(),
        }
        Ok(posted)
    }

    fn begin(&mut self, turn: Waiting) {
        (self.running, self.interrupting) = (Some(turn), false);
    }

    /// The turn that the runtime works at, or is about to.
    fn current(&self) -> Option<TurnId> {
        self.running.as_ref().map(|turn| turn.id).or_else(|| self.own.first().copied())
    }

    /// Starts the next waiting turn, in one transaction with a shim's events if there are some.
    async fn next_turn(&mut self, shim: Option<ShimBatch>) {
        let next = if self.running.is_none() && matches!(self.sandbox, Sandbox::Up(_)) { self.queue.pop_front() } else { None };
        if shim.is_none() && next.is_none() {
            return;
        }
        let conversed =
            !self.session.conversed && shim.as_ref().is_some_and(|batch| batch.events.iter().any(|e| e.kind == Kind::Message));
        let (events, message) = (next.iter().map(started).collect(), next.as_ref().map(Waiting::to_shim));
        if let Some(turn) = next {
            self.begin(turn);
        }
        if let Err(error) = self.advance_patiently(Advance { shim, events, conversed, ..Advance::default() }).await {
            return self.give_up(&error).await;
        }
        self.session.conversed |= conversed;
        if let Some(message) = message {
            self.tell(message).await;
        }
    }

    async fn store_events(&mut self, events: Vec<ShimEvent>) {
        let (Sandbox::Up(connection), Some(first), Some(last)) = (&self.sandbox, events.first(), events.last()) else { return };
        let (first, through, incarnation) = (first.n, last.n, connection.state.incarnation);
        self.fruitless = 0;
        let events = events.into_iter().map(|event| self.take_event(event)).collect();
        self.next_turn(Some(ShimBatch { incarnation, first, events })).await;
        self.tell(ToShim::Ack { through }).await;
    }

    /// What the sandbox said can not be stored, now or later, so nothing it does can be believed.
    /// Its turn ends, as the store knows it, and the next message begins with a new sandbox.
    async fn give_up(&mut self, error: &StoreError) {
        self.kill().await;
        (self.running, self.interrupting) = (None, false);
        self.own.clear();
        self.queue.clear();
        if let Err(error) = self.load().await {
            tracing::error!(session_id = %self.session.id, error = %error, "a session can not be loaded again");
        }
        Box::pin(self.end_running(&format!("what the sandbox said can not be stored: {error}"))).await;
        if !self.queue.is_empty() {
            self.open();
        }
    }

    /// Makes an event of the log from one of the shim, and follows the turn it belongs to.
    fn take_event(&mut self, event: ShimEvent) -> NewEvent {
        // Data is one line in the log and on streams. A line break in JSON is white space only.
        let mut data = event.data.get().replace(['\n', '\r'], " ");
        match (&event.kind, event.turn) {
            (Kind::TurnStarted, Some(turn)) if !self.own.contains(&turn) => self.own.push(turn),
            (Kind::TurnEnded, turn) => {
                if self.running.as_ref().map(|turn| turn.id) == turn {
                    (self.running, self.interrupting) = (None, false);
                }
                self.own.retain(|own| Some(*own) != turn);
                if let Ok(end) = serde_json::from_str::<TurnEnd>(&data) {
                    data = self.end_data(&end);
                }
            }
            _ => {}
        }
        NewEvent { at: Timestamp(event.at), turn: event.turn, kind: event.kind, data }
    }

    fn end_data(&self, end: &TurnEnd) -> String {
        let mut data = serde_json::json!({"sessionId": self.session.id, "turnId": end.turn_id, "state": end.state});
        if let Some(cause) = &end.cause {
            data["cause"] = cause.as_str().into();
        }
        data.to_string()
    }

    /// Ends the running turn, or while the sandbox is coming up the one that would be.
    async fn interrupt(&mut self) -> Option<TurnId> {
        if let Some(turn) = self.current() {
            self.interrupt_turn(turn).await;
            return Some(turn);
        }
        let turn = self.queue.pop_front()?.id;
        let end = TurnEnd { turn_id: turn, state: EndState::Cancelled, cause: Some("cancelled before it began".to_owned()) };
        let events = vec![event(Kind::TurnEnded, Some(turn), self.end_data(&end))];
        self.advance_or_log(events).await;
        Some(turn)
    }

    async fn interrupt_turn(&mut self, turn: TurnId) {
        self.interrupting |= self.running.as_ref().is_some_and(|running| running.id == turn);
        self.tell(ToShim::Interrupt { turn: Some(turn) }).await;
    }

    async fn configure(&mut self, model: Option<String>, new: SessionConfig) -> Result<(), SessionError> {
        let old = self.session.config.clone();
        let config = SessionConfig {
            allowed_tools: new.allowed_tools.or(old.allowed_tools),
            disallowed_tools: new.disallowed_tools.or(old.disallowed_tools),
            betas: new.betas.or(old.betas),
            subagents: new.subagents.or(old.subagents),
            initial_agent: new.initial_agent.or(old.initial_agent),
            mcp_servers: old.mcp_servers,
            permission_mode: old.permission_mode,
        };
        let model = model.or_else(|| self.session.model.clone());
        let invalid = |e: OpenError| SessionError::Invalid { field: "config".to_owned(), reason: chain(&e) };
        let changed = SessionRow { model: model.clone(), config: config.clone(), ..self.session.clone() };
        let options = current_options(&self.context, &changed).map_err(invalid)?;
        let stored = self.store(Advance { settings: Some((model, config)), ..Advance::default() }).await?;
        self.session = changed;
        self.publish(stored);
        self.tell(ToShim::Configure { options }).await;
        Ok(())
    }

    async fn end(&mut self) -> Result<(), SessionError> {
        let end = |turn: TurnId, state| {
            let end = TurnEnd { turn_id: turn, state, cause: Some("the session was ended".to_owned()) };
            event(Kind::TurnEnded, Some(turn), self.end_data(&end))
        };
        let begun = self.begun().map(|turn| end(turn, EndState::Interrupted));
        let mut events: Vec<_> = begun.chain(self.queue.iter().map(|turn| end(turn.id, EndState::Cancelled))).collect();
        events.push(event(Kind::Lifecycle, None, r#"{"action":"ended"}"#.to_owned()));
        let stored = self.store(Advance { events, status: Some(Status::Ended), ..Advance::default() }).await?;
        self.session.status = Status::Ended;
        self.publish(stored);
        Ok(())
    }

    /// Turns that the runtime has, or may have.
    fn begun(&self) -> impl Iterator<Item = TurnId> {
        self.running.iter().map(|turn| turn.id).chain(self.own.iter().copied())
    }

    /// The connection ended. Either the shim replaced it, or its processes are gone.
    async fn lost(&mut self) {
        self.sandbox = Sandbox::Cold;
        let alive = match self.context.launcher.list().await {
            Ok(all) => all.iter().any(|one| one.sandbox == self.session.sandbox && one.running),
            Err(error) if self.has_patience() => {
                tracing::warn!(session_id = %self.session.id, error = chain(&error), "whether the sandbox lives can not be asked, asking again");
                return self.open_after(LAUNCHER_PAUSE);
            }
            Err(_) => false,
        };
        self.fruitless += 1;
        if alive && self.fruitless <= FRUITLESS_MAX {
            tracing::warn!(session_id = %self.session.id, "connection to the sandbox was lost, connecting again");
            return self.open_after(LAUNCHER_PAUSE * (self.fruitless - 1));
        }
        if alive {
            tracing::error!(session_id = %self.session.id, "connections to the sandbox break again and again, ending it");
            self.kill().await;
        }
        self.fruitless = 0;
        tracing::warn!(session_id = %self.session.id, agent = self.session.agent, sandbox_id = %self.session.sandbox, "sandbox ended");
        self.end_running("the sandbox ended while the turn ran").await;
        if !self.queue.is_empty() {
            self.open();
        }
    }

    /// Ends the turns that the runtime had, as it has them no more.
    async fn end_running(&mut self, cause: &str) {
        let events: Vec<_> = self.begun().flat_map(|turn| self.failure(turn, EndState::Interrupted, cause)).collect();
        (self.running, self.interrupting) = (None, false);
        self.own.clear();
        self.advance_or_log(events).await;
    }

    /// The sandbox can not be brought up, so no turn can run.
    async fn fail_turns(&mut self, reason: &str) {
        let running = self.begun().flat_map(|turn| self.failure(turn, EndState::Interrupted, reason));
        let waiting = self.queue.iter().flat_map(|turn| self.failure(turn.id, EndState::Failed, reason));
        let events: Vec<_> = running.chain(waiting).collect();
        (self.running, self.interrupting) = (None, false);
        self.own.clear();
        self.queue.clear();
        self.advance_or_log(events).await;
    }

    fn failure(&self, turn: TurnId, state: EndState, cause: &str) -> [NewEvent; 2] {
        let error = serde_json::json!({"error": cause}).to_string();
        let end = TurnEnd { turn_id: turn, state, cause: Some(cause.to_owned()) };
        [event(Kind::Error, Some(turn), error), event(Kind::TurnEnded, Some(turn), self.end_data(&end))]
    }

    /// Stores a change. Readers see it with [`Self::publish`], which comes when the state that it
    /// implies is in place.
    async fn store(&self, change: Advance) -> Result<Advanced, SessionError> {
        Ok(self.context.store.advance(self.session.id, change).await?)
    }

    fn publish(&self, stored: Advanced) {
        self.show_phase();
        self.tail.send_replace(stored.tail);
    }

    async fn advance_or_log(&mut self, events: Vec<NewEvent>) {
        if !events.is_empty()
            && let Err(error) = self.advance_patiently(Advance { events, ..Advance::default() }).await
        {
            tracing::error!(session_id = %self.session.id, error = %error, "the end of turns can not be stored");
        }
    }

    /// Stores what can not be refused, since it has happened: tries until the database takes it, or
    /// says that it never will. Meanwhile the shim is not acknowledged, and in the end does not read
    /// its runtime; requests are told that the database is away.
    async fn advance_patiently(&mut self, change: Advance) -> Result<(), StoreError> {
        let mut wait = RETRY_FIRST;
        let mut change = change;
        loop {
            let again = copy(&change);
            let error = match self.context.store.advance(self.session.id, change).await {
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
            let pause = tokio::time::sleep(wait);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some(request) = self.requests.recv() => request.refuse(error.clone().into()),
                }
            }
            wait = (wait * 2).min(RETRY_LONGEST);
            change = again;
        }
    }

    /// A message that does not arrive is no loss: the connection has ended or is ended here, the
    /// driver sees that next, and the next connection begins with what is stored.
    async fn tell(&mut self, message: ToShim) {
        let Sandbox::Up(connection) = &mut self.sandbox else { return };
        match tokio::time::timeout(TELL_DEADLINE, connection.handle.send(&message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(session_id = %self.session.id, error = chain(&error), "a message to the sandbox was not sent, ignoring");
            }
            Err(_) => {
                tracing::warn!(session_id = %self.session.id, "the sandbox does not read its messages, connecting again");
                connection.events.close();
            }
        }
    }
}

impl Request {
    /// Answers with an error what was not begun.
    fn refuse(self, error: SessionError) {
        match self {
            Self::Attach | Self::Lost => {}
            Self::Open { reply } | Self::Configure { reply, .. } | Self::End { reply } => answer(reply, Err(error)),
            Self::Post { reply, .. } => answer(reply, Err(error)),
            Self::Interrupt { reply } => answer(reply, Err(error)),
        }
    }
}

impl Waiting {
    fn to_shim(&self) -> ToShim {
        ToShim::Turn(Turn { id: self.id, content: self.content.clone(), options: self.options.clone() })
    }
}

fn waiting(turn: TurnRow) -> Waiting {
    let content =
        turn.content.and_then(|content| RawValue::from_string(content).ok()).unwrap_or_else(|| RawValue::NULL.to_owned());
    Waiting { id: turn.id, content, options: turn.options }
}

fn event(kind: Kind, turn: Option<TurnId>, data: String) -> NewEvent {
    NewEvent { at: now(), turn, kind, data }
}

fn started(turn: &Waiting) -> NewEvent {
    let data = format!(r#"{{"turnId":"{}","kind":"user","content":{}}}"#, turn.id, turn.content.get());
    event(Kind::TurnStarted, Some(turn.id), data)
}

fn copy(change: &Advance) -> Advance {
    let shim = change.shim.as_ref().map(|batch| ShimBatch {
        incarnation: batch.incarnation,
        first: batch.first,
        events: batch.events.clone(),
    });
    Advance {
        shim,
        events: change.events.clone(),
        queued: change.queued.clone(),
        status: change.status,
        conversed: change.conversed,
        settings: change.settings.clone(),
    }
}

fn answer<T>(reply: Reply<T>, outcome: Result<T, SessionError>) {
    // A caller that went away needs no answer; what it asked for is done.
    let _ = reply.send(outcome);
}

/// What a sandbox has to say.
enum News {
    Opened(Box<Result<Connection, OpenError>>),
    Events(Vec<ShimEvent>),
    Lost,
}

/// Waits for it; for ever while there is no sandbox.
async fn news(sandbox: &mut Sandbox) -> News {
    match sandbox {
        Sandbox::Cold => std::future::pending().await,
        // The task that opens always says how it ended, unless it panicked.
        Sandbox::Opening(opened) => News::Opened(Box::new(opened.await.unwrap_or(Err(OpenError::Slow)))),
        Sandbox::Up(connection) => connection.events.recv().await.map_or(News::Lost, News::Events),
    }
}
