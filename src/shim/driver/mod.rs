//! The one owner of a shim's state.
//!
//! Everything that happens comes as an [`Input`], as output of the runtime, or as a deadline; each
//! is taken in full, and then [`Driver::advance`] does what the state now asks for:
//!
//! ```text
//! room     Closed ──▶ Opening ──▶ Open ──▶ Closed (init is gone; opened again by the next turn)
//! process  None ──▶ Starting ──▶ Running ──▶ Ending ──▶ None (started again by the next turn)
//! turn     waiting ──▶ current ──▶ begun ──▶ over
//! packing  None ──▶ Some (turns wait; ended by its archive, its connection, a stop) ──▶ None
//! exports  some at a time, each in a task of its own; nothing waits for them
//! runs     programs for the daemon, the same
//! ```
//!
//! A request for permission waits in the adapter, and its deadline here. So it outlives every
//! connection of the daemon, and is answered in time while there is none.

mod advance;

mod export;
mod full;
mod limits;
mod permission;
mod run;
mod snapshot;
mod turn;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::export::Export;
pub use self::full::SAID_MAX;
use self::limits::ProcessLimits;
use self::permission::Deadlines;
use self::run::Program;
use self::snapshot::Packing;
use super::args::Args;
use super::bill::Bills;
use super::confined;
use super::connection::{self, Archive, ConnectionId, FromDaemon};
use super::disk;
use super::egress::{self, Egress, Meter};
use super::gateway::{Gateway, Wait};
use super::inner::Inner;
use super::link::Link;
use super::logbook::Logbook;
use super::memory::Memory;
use super::oom::OomScore;
use super::pack::{FromPack, PackError};
use super::process::{FromProcess, Process};
use super::room::{Opened, RoomError};
use super::run::RunError;
use super::spool::Spool;
use super::tab::{self, Tab};
use super::turns::Turns;
use super::unpack::UnpackError;
use crate::cgroup::Cgroup;
use crate::egress::fetch::Note;
use crate::link::shim::{FromShim, Op, Room, RunEnd, Setup, ShimState, ToShim};
use crate::report;
use crate::runtime::{Adapter, Event, claude::Claude};
use crate::wire::egress::EgressEvent;
use crate::wire::event::Kind;
use crate::wire::{TurnId, VERSION};

/// What may wait for the driver. It takes each within microseconds.
const INBOX: usize = 32;
/// How long a shim that is stopped may take in all.
const STOP_DEADLINE: Duration = Duration::from_secs(8);
/// How often a disk that took no events is tried again.
const SPOOL_RETRY: Duration = Duration::from_secs(1);

/// What reaches the driver.
#[derive(Debug)]
pub enum Input {
    /// From the daemon.
    Daemon(FromDaemon),
    /// The sandbox is up, or not.
    Opened(Result<Box<Opened>, RoomError>),
    /// The sandbox ended, and how.
    RoomEnded(String),
    /// The runtime was started, or not.
    Started(Result<Process, String>),
    /// What had to be run before the runtime starts again has run.
    Repaired,
    /// The workspace is unpacked, or not.
    Unpacked(Result<(), UnpackError>),
    /// All parts of an export were sent, or not.
    Exported(ConnectionId, Op, Result<(), PackError>),
    /// What is on the disk was measured.
    Measured(disk::Found),
    /// What had taken too much of it is gone, or was waited for long enough.
    Killed,
    /// A program has ended, and its output was sent; or it was not started.
    Ran(ConnectionId, Op, Result<RunEnd, RunError>),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Driver {
    args: Arc<Args>,
    oom: Arc<OomScore>,
    inbox: mpsc::Receiver<Input>,
    to_self: mpsc::Sender<Input>,
    terminate: Signal,
    spool: Spool,
    tab: Tab,
    link: Option<Link>,
    gateway: Gateway,
    /// Bounds how fast the output of the runtime is read.
    output: Arc<Meter>,
    /// Model calls that wait, as the model API fails.
    gateway_waits: mpsc::Receiver<Wait>,
    egress: Egress,
    /// What was reached, or not, as it happens.
    egress_notes: mpsc::Receiver<Note>,
    egress_told: egress::Fold,
    memory: Memory,
    unpacked: bool,
    /// Whether a program that starts the sandbox has ended.
    started: bool,
    unpacking: Option<Unpacking>,
    packing: Option<Packing>,
    exports: Vec<Export>,
    programs: Vec<Program>,
    book: Logbook,
    room: RoomState,
    /// What the sandbox is made of, from the first `Open` on.
    plan: Option<Room>,
    session: Option<Session>,
    process: ProcessState,
    turns: Turns,
    /// When the requests for permission that wait are answered by themselves.
    asked: Deadlines,
    bills: Bills,
    /// The turn that was given to the runtime last, and the bytes that it said since.
    said: (Option<TurnId>, u64),
    /// Turns that reached a limit and are being ended, each with its cause.
    reached: Vec<(TurnId, String)>,
    /// Those of the process that runs, or is being started.
    process_limits: ProcessLimits,
    disk: disk::Watch,
    /// When the shim started.
    since: Instant,
    /// Whether the runtime is to be started without a turn.
    warm: bool,
    /// When the process is killed.
    kill_at: Option<Instant>,
    /// When a shim that is stopped ends at the latest.
    stop_at: Option<Instant>,
    /// When a disk that took no events is tried again.
    spool_retry_at: Option<Instant>,
    /// When it is looked again for what model calls took.
    tab_at: Option<Instant>,
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
        /// What serves the listeners inside.
        servers: [JoinHandle<()>; 2],
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
    archive: Archive,
    /// `None` once it has begun.
    chunks: Option<mpsc::Receiver<Vec<u8>>>,
    /// Whether it was ended, since there is too much on the disk.
    is_too_much: bool,
}

enum Next {
    Input(Box<Input>),
    Output(FromProcess),
    Permit(mpsc::OwnedPermit<Vec<u8>>),
    Packed(FromPack),
    Egress(Note),
    Waits(Wait),
    Unlinked,
    Deadline,
    Terminate,
}

impl Driver {
    /// A driver, whose connections come from this listener.
    pub fn new(args: Args, oom: OomScore, listener: UnixListener) -> std::io::Result<Self> {
        let (to_self, inbox) = mpsc::channel(INBOX);
        tokio::spawn(connection::accept(listener, args.daemon_uid, to_self.clone()));
        let memory = Memory::new(&args.state);
        let bills = Bills::new(Cgroup::own(args.sandbox));
        let spool = Spool::open(memory.folder(), args.spool_max);
        let (tab, left) = Tab::open(memory.folder(), &spool);
        let (egress, egress_notes) = Egress::new();
        let (gateway, gateway_waits) = Gateway::new(egress.clone());
        let mut driver = Self {
            args: Arc::new(args),
            oom: Arc::new(oom),
            inbox,
            to_self,
            terminate: signal(SignalKind::terminate())?,
            spool,
            tab,
            link: None,
            gateway,
            gateway_waits,
            output: Arc::new(Meter::new(u64::MAX, u64::MAX, Instant::now())),
            egress,
            egress_notes,
            egress_told: egress::Fold::default(),
            unpacked: memory.unpacked(),
            started: false,
            memory,
            unpacking: None,
            packing: None,
            exports: Vec::new(),
            programs: Vec::new(),
            book: Logbook::new(),
            room: RoomState::Closed,
            plan: None,
            session: None,
            process: ProcessState::None,
            turns: Turns::default(),
            asked: Deadlines::default(),
            bills,
            said: (None, 0),
            reached: Vec::new(),
            process_limits: ProcessLimits::default(),
            disk: disk::Watch::new(),
            since: Instant::now(),
            warm: false,
            kill_at: None,
            stop_at: None,
            spool_retry_at: None,
            tab_at: None,
        };
        // Before a daemon hears how many events there are.
        driver.record_usage(left);
        driver.spool.flush();
        Ok(driver)
    }

    /// Works until the shim is stopped.
    pub async fn run(mut self) {
        loop {
            match self.next().await {
                Next::Input(input) => self.take(*input).await,
                Next::Output(output) => self.output(output).await,
                Next::Permit(permit) => {
                    if let Some(frame) = self.link.as_mut().and_then(|link| link.next(&mut self.spool)) {
                        permit.send(frame);
                    }
                }
                Next::Packed(came) => self.packed(came),
                Next::Egress(note) => self.egress(note),
                Next::Waits(wait) => self.model_waits(&wait),
                // Its reader tells the same; this only keeps the loop from asking again.
                Next::Unlinked => self.link = None,
                Next::Deadline => self.deadline().await,
                Next::Terminate => self.stop().await,
            }
            let is_over = self.advance().await;
            self.spool.flush();
            if is_over {
                return;
            }
            // The daemon learns of a new incarnation when it connects again.
            self.link.take_if(|link| link.incarnation != self.spool.incarnation());
            self.pack_unlinked();
            self.export_unlinked();
            self.run_unlinked();
        }
    }

    async fn next(&mut self) -> Next {
        let can_read = !self.spool.is_full();
        if self.spool.is_failing() {
            self.spool_retry_at.get_or_insert_with(|| Instant::now() + SPOOL_RETRY);
        }
        let (asked, told, slow) = (self.asked.next(), self.egress_told.next(), self.turn_deadline());
        // Calls come from what runs inside only, whether or not a turn runs.
        self.tab_at = match &self.room {
            RoomState::Open { .. } => Some(self.tab_at.unwrap_or_else(|| Instant::now() + tab::LOOK_EVERY)),
            _ => None,
        };
        let deadlines = [self.kill_at, self.stop_at, asked, self.spool_retry_at, told, slow, self.disk_deadline(), self.tab_at];
        let deadline = deadlines.into_iter().flatten().min();
        let out = self.link.as_ref().filter(|link| link.has_work(&self.spool)).map(|link| link.out.clone());
        let takes_chunk = self.link.as_ref().is_some_and(Link::takes_chunk);
        let packing = self.packing.as_mut().filter(|_| takes_chunk).and_then(Packing::sendable);
        let process = match &mut self.process {
            ProcessState::Running(running) if can_read => Some(&mut running.process),
            _ => None,
        };
        tokio::select! {
            Some(input) = self.inbox.recv() => Next::Input(Box::new(input)),
            Some(output) = some(process.map(Process::next)) => Next::Output(output),
            Some(permit) = some(out.map(mpsc::Sender::reserve_owned)) => permit.map_or(Next::Unlinked, Next::Permit),
            Some(note) = self.egress_notes.recv() => Next::Egress(note),
            Some(wait) = self.gateway_waits.recv() => Next::Waits(wait),
            Some(came) = some(packing.map(mpsc::Receiver::recv)) => Next::Packed(came.unwrap_or_else(FromPack::lost)),
            Some(()) = some(deadline.map(tokio::time::sleep_until)) => Next::Deadline,
            _ = self.terminate.recv() => Next::Terminate,
        }
    }

    async fn take(&mut self, input: Input) {
        match input {
            Input::Daemon(message) => self.hear(message).await,
            Input::Opened(opened) => self.opened(opened),
            Input::RoomEnded(cause) => self.room_ended(cause),
            Input::Started(started) => self.started(started).await,
            Input::Repaired => self.process = ProcessState::None,
            Input::Unpacked(result) => self.unpacked(result),
            Input::Exported(id, op, result) => self.exported(id, op, result),
            Input::Measured(found) => self.measured(found).await,
            Input::Killed => self.disk.ended(),
            Input::Ran(id, op, result) => self.ran(id, op, result),
        }
    }

    async fn hear(&mut self, message: FromDaemon) {
        match message {
            FromDaemon::Connected { id, protocol, out } => {
                let mut link = Link::new(id, out, self.spool.incarnation());
                link.answer(&FromShim::Hello(self.state(protocol)));
                self.link = Some(link);
            }
            FromDaemon::Closed(id) => {
                self.link.take_if(|link| link.id == id);
            }
            FromDaemon::Message(id, message) if self.is_link(id) => self.message(id, *message).await,
            FromDaemon::Unpack(id, op, archive, chunks) if self.is_link(id) => self.unpack(id, op, archive, chunks).await,
            FromDaemon::Input(id, op, bytes) if self.is_link(id) => self.run_input(op, bytes),
            // An older connection, which the daemon has given up.
            FromDaemon::Message(..) | FromDaemon::Unpack(..) | FromDaemon::Input(..) => {}
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
                Some(session) => {
                    session.setup.options = options;
                    self.apply_limits();
                }
                None => tracing::warn!("options came before the session, ignoring"),
            },
            ToShim::Egress { op, egress } => {
                self.egress.apply(&egress);
                self.reply(id, op, Ok(()));
            }
            ToShim::Gateway { op, gateway } => {
                let result = self.gateway.aim(&gateway).map_err(|error| report::chain(&error));
                self.egress.bind(&gateway.bindings);
                if let Some(session) = self.session.as_mut().filter(|_| result.is_ok()) {
                    session.setup.gateway = gateway;
                }
                self.reply(id, op, result);
            }
            ToShim::Warm => self.warm = true,
            ToShim::Turn(turn) => self.give(turn),
            ToShim::Interrupt { turn } => self.interrupt(turn).await,
            ToShim::Answer { op, id: request, answer } => {
                let result = self.answer(request, &answer).await;
                self.reply(id, op, result);
            }
            ToShim::Ack { through } => self.spool.ack(through),
            ToShim::Pack { op, excludes } => self.pack(id, op, &excludes),
            ToShim::Export { op, excludes } => self.export(id, op, &excludes),
            ToShim::PackMore { op, chunks } => {
                self.pack_more(op, chunks);
                self.export_more(op, chunks);
                self.run_more(op, chunks);
            }
            ToShim::PackStop { op } => {
                self.pack_stop(op, "nobody wants it any more");
                self.export_stop(op);
                self.run_stop(op);
            }
            ToShim::Logs { op, after } => {
                let lines = self.book.after(after);
                if let Some(link) = self.link.as_mut().filter(|link| link.id == id) {
                    link.answer(&FromShim::Logs { op, lines });
                }
            }
            ToShim::Run { op, run } => self.run_program(id, op, *run),
            ToShim::Resize { op, size } => self.run_resize(op, size),
            ToShim::Stop => self.stop().await,
            // They have been taken by the connection.
            ToShim::Hello { .. } | ToShim::Unpack { .. } | ToShim::Restore { .. } | ToShim::Lay { .. } => {}
        }
    }

    fn setup(&mut self, setup: Setup) -> Result<(), String> {
        if let Some(session) = &self.session
            && session.setup.session != setup.session
        {
            return Err(format!("the sandbox belongs to session {}", session.setup.session));
        }
        self.gateway.aim(&setup.gateway).map_err(|error| report::chain(&error))?;
        // A session whose disk can not be bounded is none.
        self.disk.begin(&self.args.state, &self.to_self).map_err(|error| format!("start a thread: {error}"))?;
        self.egress.apply(&setup.egress);
        self.egress.bind(&setup.gateway.bindings);
        if let Some(session) = &mut self.session {
            session.setup = setup;
            self.apply_limits();
            return Ok(());
        }
        let conversation = self.memory.conversation().filter(|_| setup.resume);
        if !setup.resume {
            self.memory.forget_conversation().map_err(|error| format!("write to the spool folder: {error}"))?;
        }
        let adapter = Box::new(Claude::new(setup.session, conversation, setup.resume));
        tracing::info!(session_id = %setup.session, agent = setup.agent, resume = setup.resume, "session set up");
        self.session = Some(Session { setup, adapter });
        self.apply_limits();
        Ok(())
    }

    fn state(&self, protocol: u32) -> ShimState {
        let running = self.session.as_ref().and_then(|session| session.adapter.running());
        ShimState {
            protocol,
            version: VERSION.to_owned(),
            sandbox: self.args.sandbox,
            incarnation: self.spool.incarnation(),
            session: self.session.as_ref().map(|session| session.setup.session),
            unpacked: self.unpacked,
            turn: self.turns.peek().map(|current| current.turn.id).or(running),
            newest: self.spool.newest(),
            acked: Some(self.spool.acked()),
            background: Some(self.session.as_ref().map_or(0, |session| session.adapter.background())),
            confined: confined::own(self.plan.as_ref().map(|room| room.weaknesses.clone())).map(Box::new),
            age_ms: Some(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)),
            started: Some(self.started),
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

    /// Takes an attempt to reach something.
    fn egress(&mut self, note: Note) {
        let event = self.egress_told.take(note, Instant::now());
        self.record_egress(event);
    }

    fn record_egress(&mut self, events: impl IntoIterator<Item = EgressEvent>) {
        let turn = self.turn_that_runs();
        for event in events {
            self.record(Event::new(turn, Kind::Egress, &event));
        }
    }

    /// Tells of a model call that waits: otherwise a turn would stand still for no reason that anybody sees.
    fn model_waits(&mut self, wait: &Wait) {
        let data = json!({
            "action": "model_retry", "failed": wait.failed, "waitMs": wait.wait.as_millis() as u64, "status": wait.status,
            "reason": wait.reason,
        });
        self.record(Event::new(self.turn_that_runs(), Kind::Lifecycle, &data));
    }

    fn turn_that_runs(&self) -> Option<TurnId> {
        let running = self.session.as_ref().and_then(|session| session.adapter.running());
        running.or_else(|| self.turns.peek().filter(|current| current.begun).map(|current| current.turn.id))
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
