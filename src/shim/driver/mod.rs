//! The one owner of a shim's state.
//!
//! Everything that happens comes as an [`Input`], as output of the runtime, or as a deadline; each
//! is taken in full, and then [`Driver::advance`] does what the state now asks for:
//!
//! ```text
//! room     Closed ──▶ Opening ──▶ Open ──▶ Closed (init is gone; opened again by the next turn)
//! process  None ──▶ Starting ──▶ Running ──▶ Ending ──▶ None (started again by the next turn)
//! turn     waiting ──▶ current ──▶ begun ──▶ over
//! ```

mod advance;
mod turn;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::args::Args;
use super::connection::{self, ConnectionId, FromDaemon};
use super::gateway::Gateway;
use super::inner::Inner;
use super::link::Link;
use super::memory::Memory;
use super::process::{FromProcess, Process};
use super::room::{Opened, RoomError};
use super::spool::Spool;
use super::turns::Turns;
use super::unpack::UnpackError;
use crate::link::shim::{FromShim, Op, Room, Setup, ShimState, ToShim};
use crate::report;
use crate::runtime::{Adapter, Event, claude::Claude};
use crate::wire::VERSION;

/// What may wait for the driver. It takes each within microseconds.
const INBOX: usize = 32;
/// How long a shim that is stopped may take in all.
const STOP_DEADLINE: Duration = Duration::from_secs(8);

/// What reaches the driver.
#[derive(Debug)]
pub enum Input {
    /// From the daemon.
    Daemon(FromDaemon),
    /// The sandbox is up, or not.
    Opened(Result<Opened, RoomError>),
    /// The sandbox ended, and how.
    RoomEnded(String),
    /// The runtime was started, or not.
    Started(Result<Process, String>),
    /// What had to be run before the runtime starts again has run.
    Repaired,
    /// The workspace is unpacked, or not.
    Unpacked(Result<(), UnpackError>),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Driver {
    args: Arc<Args>,
    incarnation: Uuid,
    inbox: mpsc::Receiver<Input>,
    to_self: mpsc::Sender<Input>,
    terminate: Signal,
    spool: Spool,
    link: Option<Link>,
    gateway: Gateway,
    memory: Memory,
    unpacked: bool,
    unpacking: Option<Unpacking>,
    room: RoomState,
    /// What the sandbox is made of, from the first `Open` on.
    plan: Option<Room>,
    session: Option<Session>,
    process: ProcessState,
    turns: Turns,
    /// Whether the runtime is to be started without a turn.
    warm: bool,
    /// When the process is killed.
    kill_at: Option<Instant>,
    /// When a shim that is stopped ends at the latest.
    stop_at: Option<Instant>,
}

/// Whose sandbox it is.
#[derive(Debug)]
struct Session {
    setup: Setup,
    adapter: Box<dyn Adapter>,
}

#[derive(Debug)]
enum RoomState {
    Closed,
    Opening(Vec<(ConnectionId, Op)>),
    Open {
        inner: Inner,
        gateway: JoinHandle<()>,
    },
    /// Everything inside was killed.
    Closing,
}

#[derive(Debug)]
enum ProcessState {
    None,
    /// Also while something has to be run before.
    Starting,
    Running(Running),
}

#[derive(Debug)]
struct Running {
    process: Process,
    /// Whether it was asked to exit.
    ending: bool,
    /// Why it is being killed, if that is for its own fault. It is not listened to any more.
    broken: Option<String>,
}

#[derive(Debug)]
struct Unpacking {
    connection: ConnectionId,
    op: Op,
    /// `None` once it has begun.
    chunks: Option<mpsc::Receiver<Vec<u8>>>,
}

enum Next {
    Input(Input),
    Output(FromProcess),
    Permit(mpsc::OwnedPermit<Vec<u8>>),
    Unlinked,
    Deadline,
    Terminate,
}

impl Driver {
    /// A driver, whose connections come from this listener.
    pub fn new(args: Args, listener: UnixListener) -> std::io::Result<Self> {
        let (to_self, inbox) = mpsc::channel(INBOX);
        tokio::spawn(connection::accept(listener, args.daemon_uid, to_self.clone()));
        let memory = Memory::new(&args.state);
        Ok(Self {
            args: Arc::new(args),
            incarnation: Uuid::now_v7(),
            inbox,
            to_self,
            terminate: signal(SignalKind::terminate())?,
            spool: Spool::default(),
            link: None,
            gateway: Gateway::new(),
            unpacked: memory.unpacked(),
            memory,
            unpacking: None,
            room: RoomState::Closed,
            plan: None,
            session: None,
            process: ProcessState::None,
            turns: Turns::default(),
            warm: false,
            kill_at: None,
            stop_at: None,
        })
    }

    /// Works until the shim is stopped.
    pub async fn run(mut self) {
        loop {
            match self.next().await {
                Next::Input(Input::Daemon(message)) => self.hear(message).await,
                Next::Input(Input::Opened(opened)) => self.opened(opened),
                Next::Input(Input::RoomEnded(cause)) => self.room_ended(cause),
                Next::Input(Input::Started(started)) => self.started(started).await,
                Next::Input(Input::Repaired) => self.process = ProcessState::None,
                Next::Input(Input::Unpacked(result)) => self.unpacked(result),
                Next::Output(output) => self.output(output).await,
                Next::Permit(permit) => {
                    if let Some(frame) = self.link.as_mut().and_then(|link| link.next(&self.spool)) {
                        permit.send(frame);
                    }
                }
                // Its reader tells the same; this only keeps the loop from asking again.
                Next::Unlinked => self.link = None,
                Next::Deadline => self.deadline().await,
                Next::Terminate => self.stop().await,
            }
            if self.advance().await {
                return;
            }
        }
    }

    async fn next(&mut self) -> Next {
        let can_read = !self.spool.is_full();
        let deadline = [self.kill_at, self.stop_at].into_iter().flatten().min();
        let out = self.link.as_ref().filter(|link| link.has_work(&self.spool)).map(|link| link.out.clone());
        let process = match &mut self.process {
            ProcessState::Running(running) if can_read => Some(&mut running.process),
            _ => None,
        };
        tokio::select! {
            Some(input) = self.inbox.recv() => Next::Input(input),
            Some(output) = some(process.map(Process::next)) => Next::Output(output),
            Some(permit) = some(out.map(mpsc::Sender::reserve_owned)) => permit.map_or(Next::Unlinked, Next::Permit),
            Some(()) = some(deadline.map(tokio::time::sleep_until)) => Next::Deadline,
            _ = self.terminate.recv() => Next::Terminate,
        }
    }

    async fn hear(&mut self, message: FromDaemon) {
        match message {
            FromDaemon::Connected { id, protocol, out } => {
                let mut link = Link::new(id, out);
                link.answer(&FromShim::Hello(self.state(protocol)));
                self.link = Some(link);
            }
            FromDaemon::Closed(id) => {
                self.link.take_if(|link| link.id == id);
            }
            FromDaemon::Message(id, message) if self.is_link(id) => self.message(id, message).await,
            FromDaemon::Unpack(id, op, chunks) if self.is_link(id) => self.unpack(id, op, chunks).await,
            // An older connection, which the daemon has given up.
            FromDaemon::Message(..) | FromDaemon::Unpack(..) => {}
        }
    }

    async fn message(&mut self, id: ConnectionId, message: ToShim) {
        match message {
            ToShim::Open { op, room } => self.open(id, op, room),
            ToShim::Setup { op, setup } => {
                let result = self.setup(*setup);
                self.reply(id, op, result);
            }
            ToShim::Configure { options } => match &mut self.session {
                Some(session) => session.setup.options = options,
                None => tracing::warn!("options came before the session, ignoring"),
            },
            ToShim::Warm => self.warm = true,
            ToShim::Turn(turn) => self.give(turn),
            ToShim::Interrupt { turn } => self.interrupt(turn).await,
            ToShim::Ack { through } => self.spool.ack(through),
            ToShim::Stop => self.stop().await,
            // Both have been taken by the connection.
            ToShim::Hello { .. } | ToShim::Unpack { .. } => {}
        }
    }

    fn setup(&mut self, setup: Setup) -> Result<(), String> {
        if let Some(session) = &self.session
            && session.setup.session != setup.session
        {
            return Err(format!("the sandbox belongs to session {}", session.setup.session));
        }
        self.gateway.aim(&setup.gateway).map_err(|error| report::chain(&error))?;
        if let Some(session) = &mut self.session {
            session.setup = setup;
            return Ok(());
        }
        let conversation = self.memory.conversation().filter(|_| setup.resume);
        if !setup.resume {
            self.memory.forget_conversation().map_err(|error| format!("write to the spool folder: {error}"))?;
        }
        let adapter = Box::new(Claude::new(setup.session, conversation, setup.resume));
        tracing::info!(session_id = %setup.session, agent = setup.agent, resume = setup.resume, "session set up");
        self.session = Some(Session { setup, adapter });
        Ok(())
    }

    fn state(&self, protocol: u32) -> ShimState {
        let running = self.session.as_ref().and_then(|session| session.adapter.running());
        ShimState {
            protocol,
            version: VERSION.to_owned(),
            sandbox: self.args.sandbox,
            incarnation: self.incarnation,
            session: self.session.as_ref().map(|session| session.setup.session),
            unpacked: self.unpacked,
            turn: self.turns.peek().map(|current| current.turn.id).or(running),
            newest: self.spool.newest(),
        }
    }

    fn is_link(&self, id: ConnectionId) -> bool {
        self.link.as_ref().is_some_and(|link| link.id == id)
    }

    /// Answers a request, if who asked is still there.
    fn reply(&mut self, id: ConnectionId, op: Op, result: Result<(), String>) {
        if let Some(link) = self.link.as_mut().filter(|link| link.id == id) {
            link.answer(&match result {
                Ok(()) => FromShim::Done { op },
                Err(error) => FromShim::Failed { op, error },
            });
        }
    }

    fn record(&mut self, event: Event) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.spool.push(i64::try_from(now.as_millis()).unwrap_or(i64::MAX), event);
    }

    /// Tells the driver something from a task of its own.
    fn later(&self, work: impl Future<Output = Input> + Send + 'static) -> JoinHandle<()> {
        let to_self = self.to_self.clone();
        tokio::spawn(async move {
            let input = work.await;
            // Without a driver there is nobody to tell.
            let _ending = to_self.send(input).await;
        })
    }
}

/// Waits for the future, or for ever if there is none; `select!` then skips the branch.
async fn some<F: Future>(future: Option<F>) -> Option<F::Output> {
    match future {
        Some(future) => Some(future.await),
        None => None,
    }
}
