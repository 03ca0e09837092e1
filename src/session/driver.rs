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
//! Order of every change: check the request, store events and state, then act on it, then answer.
//! A turn that is stored as running but did not reach the shim is given to it again on the next
//! connection; the shim ignores one it has seen.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};

use super::open::{OpenError, open, options};
use super::{Context, Phase, PhaseCell, Posted, Reply, SessionError};
use crate::link::daemon::{Connection, ShimHandle};
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
/// First and longest wait before a failed write of a sandbox's events is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

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
    queue: VecDeque<Waiting>,
    /// Told when the first sandbox is up.
    creating: Option<Reply<()>>,
}

impl Driver {
    pub(super) fn new(
        context: Arc<Context>,
        session: SessionRow,
        requests: mpsc::Receiver<Request>,
        tail: watch::Sender<i64>,
        phase: Arc<PhaseCell>,
    ) -> Self {
        let (running, queue, creating) = (None, VecDeque::new(), None);
        Self { context, session, requests, tail, phase, sandbox: Sandbox::Cold, running, queue, creating }
    }

    pub(super) async fn run(mut self) {
        if let Err(error) = self.load().await {
            tracing::error!(session_id = %self.session.id, error = %error, "a session can not be loaded");
            self.context.drop_live(self.session.id);
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
            }
        }
        self.context.drop_live(self.session.id);
        self.context.clear_sandbox(self.session.sandbox).await;
    }

    fn show_phase(&self) {
        self.phase.set(match (&self.sandbox, &self.running) {
            (Sandbox::Cold, _) => Phase::Cold,
            (Sandbox::Opening(_), _) => Phase::Warming,
            (Sandbox::Up(_), None) => Phase::Waiting,
            (Sandbox::Up(_), Some(_)) => Phase::Running,
        });
    }

    /// Takes up what an earlier daemon left: the running turn and those that wait.
    async fn load(&mut self) -> Result<(), StoreError> {
        for turn in self.context.store.open_turns(self.session.id).await? {
            let state = turn.state;
            let waiting = waiting(turn);
            if state == TurnState::Running { self.running = Some(waiting) } else { self.queue.push_back(waiting) }
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
                let running = self.running.as_ref().map(|turn| turn.id);
                self.interrupt().await;
                answer(reply, Ok(running));
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
        if matches!(self.sandbox, Sandbox::Cold) {
            let (done, opened) = oneshot::channel();
            let (context, session) = (self.context.clone(), self.session.clone());
            tokio::spawn(async move {
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
                if let Some(reply) = self.creating.take() {
                    answer(reply, Err(SessionError::Open(reason)));
                } else {
                    self.fail_turns(&reason).await;
                }
            }
        }
    }

    async fn created(&mut self) -> Result<(), SessionError> {
        let mut data = serde_json::json!({"action": "created", "agentName": self.session.agent});
        if let Some(model) = &self.session.model {
            data["model"] = model.as_str().into();
        }
        let events = vec![event(Kind::Lifecycle, None, data.to_string())];
        self.advance(Advance { events, status: Some(Status::Active), ..Advance::default() }).await?;
        self.session.status = Status::Active;
        Ok(())
    }

    /// After a connection: the running turn may be over, or unknown to the shim.
    async fn take_up_turn(&mut self) {
        let Sandbox::Up(connection) = &self.sandbox else { return };
        let Some(turn) = &self.running else { return self.next_turn(None).await };
        // A shim which was set up only now is not the one that ran the turn, and a turn is never
        // silently repeated. Any other may be given it again, since it ignores one it has seen.
        if connection.state.session.is_none() {
            let id = turn.id;
            self.end_running(id, EndState::Interrupted, "the sandbox ended while the turn ran").await;
        } else {
            let message = ToShim::Turn(Turn { id: turn.id, content: turn.content.clone(), options: turn.options.clone() });
            self.tell(message).await;
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
        if let (IfBusy::Reject, Some(turn)) = (body.if_busy, &self.running) {
            return Err(SessionError::Busy(turn.id));
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
        let stored = self.advance(Advance { events, queued, ..Advance::default() }).await?;
        let posted = Posted { turn: turn.id, first_event: stored.first.unwrap_or(stored.tail) };
        if goes_now {
            self.give(turn).await;
            return Ok(posted);
        }
        if body.if_busy == IfBusy::Interrupt {
            self.queue.push_front(turn);
            self.interrupt().await;
        } else {
            self.queue.push_back(turn);
        }
        self.open();
        Ok(posted)
    }

    async fn give(&mut self, turn: Waiting) {
        let message = ToShim::Turn(Turn { id: turn.id, content: turn.content.clone(), options: turn.options.clone() });
        self.running = Some(turn);
        self.tell(message).await;
    }

    /// Starts the next waiting turn, in one transaction with a shim's events if there are some.
    async fn next_turn(&mut self, shim: Option<ShimBatch>) {
        let next = if self.running.is_none() && matches!(self.sandbox, Sandbox::Up(_)) { self.queue.pop_front() } else { None };
        if shim.is_none() && next.is_none() {
            return;
        }
        let conversed =
            !self.session.conversed && shim.as_ref().is_some_and(|batch| batch.events.iter().any(|e| e.kind == Kind::Message));
        self.session.conversed |= conversed;
        let events = next.iter().map(started).collect();
        self.advance_patiently(Advance { shim, events, conversed, ..Advance::default() }).await;
        if let Some(turn) = next {
            self.give(turn).await;
        }
    }

    async fn store_events(&mut self, events: Vec<ShimEvent>) {
        let (Sandbox::Up(connection), Some(first), Some(last)) = (&self.sandbox, events.first(), events.last()) else { return };
        let (first, through) = (first.n, last.n);
        let (incarnation, shim) = (connection.state.incarnation, connection.handle.clone());
        let events = events.into_iter().map(|event| self.take_event(event)).collect();
        self.next_turn(Some(ShimBatch { incarnation, first, events })).await;
        self.tell_shim(&shim, &ToShim::Ack { through }).await;
    }

    /// Makes an event of the log from one of the shim, and follows the turn it belongs to.
    fn take_event(&mut self, event: ShimEvent) -> NewEvent {
        let mut data = event.data.get().to_owned();
        if event.kind == Kind::TurnEnded {
            if self.running.as_ref().map(|turn| turn.id) == event.turn {
                self.running = None;
            }
            if let Ok(end) = serde_json::from_str::<TurnEnd>(&data) {
                data = self.end_data(&end);
            }
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

    async fn interrupt(&mut self) {
        if let Some(turn) = self.running.as_ref().map(|turn| turn.id) {
            self.tell(ToShim::Interrupt { turn: Some(turn) }).await;
        }
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
        let options = options(model.clone(), &config).map_err(invalid)?;
        self.advance(Advance { settings: Some((model.clone(), config.clone())), ..Advance::default() }).await?;
        (self.session.model, self.session.config) = (model, config);
        self.tell(ToShim::Configure { options }).await;
        Ok(())
    }

    async fn end(&mut self) -> Result<(), SessionError> {
        let mut events = Vec::new();
        let mut end = |turn: &Waiting, state, cause: &str| {
            let end = TurnEnd { turn_id: turn.id, state, cause: Some(cause.to_owned()) };
            events.push((turn.id, end));
        };
        self.running.iter().for_each(|turn| end(turn, EndState::Interrupted, "the session was ended"));
        self.queue.iter().for_each(|turn| end(turn, EndState::Cancelled, "the session was ended"));
        let mut events: Vec<_> =
            events.iter().map(|(turn, end)| event(Kind::TurnEnded, Some(*turn), self.end_data(end))).collect();
        events.push(event(Kind::Lifecycle, None, r#"{"action":"ended"}"#.to_owned()));
        self.advance(Advance { events, status: Some(Status::Ended), ..Advance::default() }).await?;
        self.session.status = Status::Ended;
        Ok(())
    }

    /// The connection ended. Either the shim replaced it, or its processes are gone.
    async fn lost(&mut self) {
        self.sandbox = Sandbox::Cold;
        let listed = self.context.launcher.list().await;
        let alive = listed.is_ok_and(|all| all.iter().any(|one| one.sandbox == self.session.sandbox && one.running));
        if alive {
            tracing::warn!(session_id = %self.session.id, "connection to the sandbox was lost, connecting again");
            return self.open();
        }
        tracing::warn!(session_id = %self.session.id, agent = self.session.agent, sandbox_id = %self.session.sandbox, "sandbox ended");
        if let Some(turn) = self.running.as_ref().map(|turn| turn.id) {
            self.end_running(turn, EndState::Interrupted, "the sandbox ended while the turn ran").await;
        }
        if !self.queue.is_empty() {
            self.open();
        }
    }

    async fn end_running(&mut self, turn: TurnId, state: EndState, cause: &str) {
        self.running = None;
        let events = self.failure(turn, state, cause);
        self.advance_patiently(Advance { events: events.into(), ..Advance::default() }).await;
        if matches!(self.sandbox, Sandbox::Up(_)) {
            Box::pin(self.next_turn(None)).await;
        }
    }

    /// The sandbox can not be brought up, so no turn can run.
    async fn fail_turns(&mut self, reason: &str) {
        let running = self.running.take().map(|turn| self.failure(turn.id, EndState::Interrupted, reason));
        let waiting: Vec<_> = self.queue.drain(..).map(|turn| turn.id).collect();
        let waiting = waiting.into_iter().map(|turn| self.failure(turn, EndState::Failed, reason));
        let events: Vec<_> = running.into_iter().chain(waiting).flatten().collect();
        if !events.is_empty() {
            self.advance_patiently(Advance { events, ..Advance::default() }).await;
        }
    }

    fn failure(&self, turn: TurnId, state: EndState, cause: &str) -> [NewEvent; 2] {
        let error = serde_json::json!({"error": cause}).to_string();
        let end = TurnEnd { turn_id: turn, state, cause: Some(cause.to_owned()) };
        [event(Kind::Error, Some(turn), error), event(Kind::TurnEnded, Some(turn), self.end_data(&end))]
    }

    /// Stores a change, then lets readers see it.
    async fn advance(&mut self, change: Advance) -> Result<Advanced, SessionError> {
        let stored = self.context.store.advance(self.session.id, change).await?;
        self.tail.send_replace(stored.tail);
        Ok(stored)
    }

    /// Stores what can not be refused, since it has happened: tries until the database takes it.
    /// Meanwhile the shim is not acknowledged, and in the end does not read its runtime.
    async fn advance_patiently(&mut self, change: Advance) {
        let mut wait = RETRY_FIRST;
        let mut change = change;
        loop {
            let again = copy(&change);
            match self.context.store.advance(self.session.id, change).await {
                Ok(stored) => {
                    self.tail.send_replace(stored.tail);
                    return;
                }
                Err(error @ (StoreError::NotFound(_) | StoreError::Conflict(_) | StoreError::Corrupt(_))) => {
                    tracing::error!(session_id = %self.session.id, error = %error, "events of a sandbox can not be stored");
                    return;
                }
                Err(error) => {
                    tracing::warn!(
                        session_id = %self.session.id, error = %error,
                        "events can not be stored now, retrying in {} ms", wait.as_millis()
                    );
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_LONGEST);
                    change = again;
                }
            }
        }
    }

    async fn tell(&self, message: ToShim) {
        if let Sandbox::Up(connection) = &self.sandbox {
            let shim = connection.handle.clone();
            self.tell_shim(&shim, &message).await;
        }
    }

    /// A message that does not arrive is no loss: the connection has ended, the driver sees that
    /// next, and the next connection begins with what is stored.
    async fn tell_shim(&self, shim: &ShimHandle, message: &ToShim) {
        match tokio::time::timeout(TELL_DEADLINE, shim.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(session_id = %self.session.id, error = chain(&error), "a message to the sandbox was not sent, ignoring");
            }
            Err(_) => tracing::warn!(session_id = %self.session.id, "the sandbox does not read its messages, ignoring"),
        }
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
