//! Pause, stop, park, resume and snapshots: performs what the machine of [`lifecycle`](crate::lifecycle)
//! asks for.
//!
//! The machine is told of turns level by level ([`Driver::sync`], after every step of the driver),
//! and of everything else when it happens. Packing runs in a task of its own; meanwhile the driver
//! takes messages, which wait.

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::bundle::{Filled, Purpose};
use super::limits::EXPIRED;
use super::rewind::Rewind;
use super::sandbox::{Cause, HOST_STOPS};
use super::*;
use crate::config::settings::SnapshotPolicy as Policy;
use crate::lifecycle::{Admission, Change, Effect, Input, State, Verb, admit};
use crate::link::shim::DISK_FULL;
use crate::session::open::{Rules, STOP_GRACE, Source};
use crate::snapshot::{About, Manifest, Reason, SnapshotError, SnapshotId, Snapshots};

/// What became of a snapshot that was being taken.
pub(in crate::session) type Packed = Result<Manifest, PackError>;

/// How long the packing of a sandbox may bring nothing: a hundred thousand files that are left out take
/// a second to pass over.
const PACK_SILENCE: Duration = Duration::from_secs(60);
/// How long a packing waits for those who write files. A file is some megabytes, and its writer is killed
/// after five minutes.
const WRITERS_PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no new snapshot.
#[derive(Debug, thiserror::Error)]
pub(in crate::session) enum PackError {
    /// The sandbox could not be packed.
    #[error("pack the sandbox")]
    Link(#[from] crate::link::daemon::LinkError),
    /// It could not be stored.
    #[error("store the snapshot")]
    Snapshot(#[from] SnapshotError),
    /// The task that did it broke.
    #[error("the task that packs has ended")]
    Broken,
    /// Nothing came of it for a while. What packs runs beside what it packs, which may have stopped it.
    #[error("nothing came of it for {} seconds", PACK_SILENCE.as_secs())]
    Stalled,
}

impl PackError {
    /// Whether the sandbox could be packed, but not now.
    pub(in crate::session) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Link(crate::link::daemon::LinkError::Failed(_)))
    }
}

/// Somebody who waits for a change.
#[derive(Debug)]
pub(super) enum Asker {
    /// For the session as it is then.
    Change(Change, Reply<()>),
    /// For the snapshot.
    Snapshot(Reply<Manifest>),
    /// For the session as it was at this event.
    Rewind(Rewind),
    /// For the files to be in the workspace.
    Upload(Arc<Bundle>, Reply<Placed>),
}

/// The part of a driver that is about the session as a whole.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) state: State,
    pub(super) askers: Vec<Asker>,
    /// Requests that wait for the change under way.
    pub(super) deferred: VecDeque<Request>,
    /// Told when the sandbox is up again.
    resuming: Vec<Reply<()>>,
    /// What the session was before it was resumed.
    was: Status,
    /// The snapshot that is being taken.
    pub(super) packing: Option<oneshot::Receiver<Packed>>,
    /// The upload that is being written.
    pub(super) filling: Option<oneshot::Receiver<Filled>>,
    /// What became of the one of the change under way.
    pub(super) filled: Option<Result<(), String>>,
    /// Those who read the workspace have a receiver each.
    pub(super) guests: watch::Sender<()>,
    /// Those who write files have another one each.
    pub(super) writers: watch::Sender<()>,
    /// Those who wait to read it, or to work in it.
    pub(super) visitors: Vec<(Purpose, Reply<Visit>)>,
    /// The newest snapshot that was taken since the change under way began.
    pub(super) packed: Option<Result<Manifest, String>>,
    /// The removal of the sandbox of a session that goes back: whether nothing is left of it.
    pub(super) returning: Option<oneshot::Receiver<bool>>,
    /// What became of going back.
    pub(super) rewound: Option<Result<(), SessionError>>,
    /// Since when nothing happens.
    quiet_since: Option<Instant>,
    /// Whether turns were interrupted since the host goes down.
    pub(super) pressed: bool,
    /// Whether the sandbox is being ended for its age.
    pub(super) expired: bool,
    /// Whether a turn ended or files came since the last snapshot that was due for being idle.
    pub(super) changed: bool,
    pub(super) rules: Rules,
}

impl Life {
    pub(super) fn new(status: Status, rules: Rules) -> Self {
        Self {
            state: State::found(status, false),
            askers: Vec::new(),
            deferred: VecDeque::new(),
            resuming: Vec::new(),
            was: status,
            packing: None,
            filling: None,
            filled: None,
            guests: watch::Sender::new(()),
            writers: watch::Sender::new(()),
            visitors: Vec::new(),
            packed: None,
            returning: None,
            rewound: None,
            quiet_since: None,
            changed: false,
            pressed: false,
            expired: false,
            rules,
        }
    }

    /// What is to be packed is not there; whoever asked for it is told.
    pub(super) fn not_packed(&mut self, reason: &str) {
        self.packed = Some(Err(reason.to_owned()));
    }

    /// Whether somebody waits for the session to be up again.
    pub(super) fn is_resuming(&self) -> bool {
        !self.resuming.is_empty()
    }

    /// A request that waited, if nothing keeps it any more.
    pub(super) fn next_deferred(&mut self) -> Option<Request> {
        if self.state.change.is_none() { self.deferred.pop_front() } else { None }
    }

    /// Whether somebody reads the workspace, and nobody waits to.
    pub(super) fn has_only_guests(&self) -> bool {
        self.state.guests && self.visitors.is_empty()
    }

    /// The files of the upload under way.
    pub(super) fn bundle(&self) -> Option<Arc<Bundle>> {
        self.askers.iter().find_map(|asker| if let Asker::Upload(bundle, _) = asker { Some(bundle.clone()) } else { None })
    }

    /// When something is to be done since nothing happens.
    pub(super) fn deadline(&self) -> Option<(Instant, Input)> {
        use crate::lifecycle::Sandbox::{Frozen, Up};
        let (since, times) = (self.quiet_since?, self.rules.times);
        let freeze = times.freeze_after < times.park_after;
        match self.state.sandbox {
            Up if freeze => Some((since + times.freeze_after, Input::Idle)),
            Up | Frozen => Some((since + times.park_after, Input::IdleLong)),
            _ => None,
        }
    }

    /// Everybody who waits is told that the driver goes.
    pub(super) fn refuse_all(&mut self, error: &impl Fn() -> SessionError) {
        for asker in self.askers.drain(..) {
            asker.answer(Err(error()));
        }
        for (_, reply) in self.visitors.drain(..) {
            answer(reply, Err(error()));
        }
        for reply in self.resuming.drain(..) {
            answer(reply, Err(error()));
        }
        for request in self.deferred.drain(..) {
            request.refuse(error());
        }
    }
}

impl Asker {
    fn answer(self, outcome: Result<Option<Manifest>, SessionError>) {
        match self {
            Self::Change(_, reply) | Self::Rewind(Rewind { reply, .. }) => answer(reply, outcome.map(|_| ())),
            // An upload that has no other answer had its reason not to begin.
            Self::Upload(_, reply) => {
                let none = || SessionError::Upload("the session has ended".to_owned());
                answer(reply, outcome.and_then(|_| Err(none())));
            }
            Self::Snapshot(reply) => {
                let none = || SessionError::Snapshot("no snapshot was taken".to_owned());
                answer(reply, outcome.and_then(|manifest| manifest.ok_or_else(none)));
            }
        }
    }

    const fn change(&self) -> Change {
        match self {
            Self::Change(change, _) => *change,
            Self::Snapshot(_) => Change::Snapshot,
            Self::Rewind(_) => Change::Rewind,
            Self::Upload(..) => Change::Upload,
        }
    }
}

impl Driver {
    /// Takes a change that somebody asked for; or keeps the request until the one under way is done.
    pub(super) async fn ask(&mut self, verb: Verb, asker: Asker) {
        match admit(&self.life.state, verb) {
            Admission::Accept => {
                let change = asker.change();
                self.life.askers.push(asker);
                (self.life.packed, self.life.filled) = (None, None);
                self.live(Input::Begin(change)).await;
            }
            Admission::Wait => {
                if asker.change().interrupts() {
                    // What is under way may be waiting for a turn that is not to be waited for.
                    self.perform(Effect::Interrupt).await;
                }
                self.life.deferred.push_back(asker.into());
            }
            Admission::Already => asker.answer(Ok(None)),
            Admission::Deny(status) => asker.answer(Err(SessionError::CanNot { verb: word(verb), status })),
        }
    }

    /// Makes the session take messages again, and brings its sandbox back.
    pub(super) async fn resume(&mut self, reply: Reply<()>) {
        match admit(&self.life.state, Verb::Resume) {
            // Somebody was faster, and it is not up yet.
            Admission::Already if self.life.is_resuming() => self.life.resuming.push(reply),
            Admission::Already => answer(reply, Ok(())),
            Admission::Wait => self.life.deferred.push_back(Request::Resume { reply }),
            Admission::Deny(Status::Ended) => answer(reply, Err(SessionError::Over)),
            Admission::Deny(status) => answer(reply, Err(SessionError::CanNot { verb: "resume", status })),
            Admission::Accept => {
                // The event comes when the sandbox is up, and what is in it is known.
                match self.store(Advance { status: Some(Status::Active), ..Advance::default() }).await {
                    Ok(stored) => {
                        fault::at(Point::ResumeStored);
                        self.life.was = std::mem::replace(&mut self.session.status, Status::Active);
                        self.publish(stored);
                    }
                    Err(error) => return answer(reply, Err(error)),
                }
                self.life.resuming.push(reply);
                self.live(Input::Resume).await;
                self.live(Input::Wanted).await;
                match self.life.state.sandbox {
                    crate::lifecycle::Sandbox::Up => self.tell_source(&Source::Alive).await,
                    // It could not be thawed.
                    crate::lifecycle::Sandbox::Cold => self.live(Input::Wanted).await,
                    _ => {}
                }
                self.tell_resuming(None);
            }
        }
    }

    /// Tells of a sandbox that is up what is in it: to those who resumed the session, and wherever
    /// it is not what its last processes left.
    pub(super) async fn tell_source(&mut self, source: &Source) {
        if self.life.is_resuming() {
            let metrics = &self.context.metrics;
            metrics.resume.with_label_values(&[source.path()]).inc();
            if let Some(source) = source.cold_source() {
                metrics.resume_cold.with_label_values(&[source]).inc();
            }
        }
        let is_told = self.life.is_resuming() || matches!(source, Source::Snapshot { .. } | Source::Fresh { .. });
        // A sandbox may also come up for a snapshot alone.
        let action = if self.session.status == Status::Active { "resumed" } else { "restored" };
        let told = is_told.then(|| event(Kind::Lifecycle, None, source.describe(action).to_string()));
        let events: Vec<_> = told.into_iter().chain(self.started.take()).collect();
        if !events.is_empty() {
            self.advance_or_log(Advance { events, ..Advance::default() }).await;
        }
    }

    /// The session could not be resumed, and is again what it was.
    pub(super) async fn not_resumed(&mut self, reason: &str) {
        let was = self.life.was;
        // What waits goes on waiting, as before.
        self.session.status = was;
        self.fail_turns(reason).await;
        let data = serde_json::json!({"action": "resume_failed", "error": reason});
        let events = vec![event(Kind::Lifecycle, None, data.to_string())];
        self.advance_or_log(Advance { events, status: Some(was), ..Advance::default() }).await;
        self.live(Input::NotResumed(was)).await;
        self.tell_resuming(Some(reason));
    }

    /// Tells those who wait for the sandbox, if it is up; or why it is not.
    pub(super) fn tell_resuming(&mut self, failure: Option<&str>) {
        let is_up = self.life.state.sandbox == crate::lifecycle::Sandbox::Up;
        if is_up || failure.is_some() {
            for reply in self.life.resuming.drain(..) {
                let failed = |reason: &str| Err(SessionError::Resume(reason.to_owned()));
                answer(reply, failure.map_or(Ok(()), failed));
            }
        }
    }

    /// Tells the machine how it stands with turns, and notes since when nothing happens.
    pub(super) async fn sync(&mut self) {
        let busy = self.running.is_some() || !self.own.is_empty();
        if busy != self.life.state.busy {
            self.live(if busy { Input::TurnBegan } else { Input::TurnsEnded }).await;
            self.life.changed |= !busy;
            let is_up = self.life.state.sandbox == crate::lifecycle::Sandbox::Up;
            if !busy && is_up && self.queue.is_empty() && self.life.rules.policy == Policy::EveryTurn {
                self.live(Input::Begin(Change::Snapshot)).await;
            }
        }
        let waiting = !self.queue.is_empty();
        if waiting != self.life.state.waiting {
            self.live(if waiting { Input::Queued } else { Input::Emptied }).await;
        }
        self.receive_guests();
        if !self.life.state.is_quiet() || self.background > 0 {
            self.life.quiet_since = None;
        } else if self.life.quiet_since.is_none() {
            self.life.quiet_since = Some(Instant::now());
        }
    }

    /// Takes in whether the host goes down.
    pub(super) async fn heed_host(&mut self) {
        let host = *self.host.borrow_and_update();
        if host != Host::Stays {
            self.live(Input::HostStops).await;
        }
        if host == Host::Presses {
            self.life.pressed = true;
            self.live(Input::HostPresses).await;
        }
    }

    /// Feeds the machine, and performs what it asks for.
    pub(super) async fn live(&mut self, input: Input) {
        let mut effects: VecDeque<Effect> = self.life.state.step(input).into();
        while let Some(effect) = effects.pop_front() {
            if let Some(input) = Box::pin(self.perform(effect)).await {
                // Before what is left: who asked is told last.
                let next = self.life.state.step(input);
                next.into_iter().rev().for_each(|effect| effects.push_front(effect));
            }
        }
    }

    pub(super) async fn perform(&mut self, effect: Effect) -> Option<Input> {
        let sandbox = self.session.sandbox;
        match effect {
            Effect::Open => self.open(),
            Effect::Begin => self.next_turn(None).await,
            Effect::Freeze => {
                let frozen = self.context.launcher.freeze(sandbox).await;
                if let Err(error) = &frozen {
                    tracing::debug!(session_id = %self.session.id, error = chain(error), "a sandbox can not be frozen");
                    // It is not tried again at once.
                    self.life.quiet_since = Some(Instant::now());
                }
                return Some(Input::Froze(frozen.is_ok()));
            }
            Effect::Thaw => {
                let thawed = self.context.launcher.thaw(sandbox).await;
                if let Err(error) = &thawed {
                    tracing::warn!(session_id = %self.session.id, error = chain(error), "a sandbox can not be thawed, ending it");
                }
                return Some(Input::Thawed(thawed.is_ok()));
            }
            Effect::Interrupt => {
                for turn in self.begun().collect::<Vec<_>>() {
                    self.interrupt_turn(turn).await;
                }
            }
            Effect::Pack(change) => {
                self.pack(self.reason(change));
            }
            Effect::Fill => self.fill(),
            Effect::Leave { remove } => {
                self.leave_sandbox(remove).await;
                return self.guests_wait();
            }
            Effect::Rewind => {
                self.go_back().await;
                return self.guests_wait();
            }
            Effect::Store(status) => self.store_status(status).await,
            Effect::Done { change, .. } => self.done(change).await,
        }
        None
    }

    /// Goes on in a session in which nothing happens: to a snapshot, if one is due, or into the cold.
    pub(super) async fn rest(&mut self, input: Input) {
        let is_due = input == Input::Idle && self.life.rules.policy == Policy::Idle;
        if is_due && std::mem::take(&mut self.life.changed) {
            return self.live(Input::Begin(Change::Snapshot)).await;
        }
        self.live(input).await;
    }

    fn reason(&self, change: Change) -> Reason {
        match change {
            Change::Pause => Reason::Pause,
            Change::Stop => Reason::Stop,
            Change::Park => Reason::Idle,
            Change::Rewind => Reason::Rewind,
            Change::Shutdown => Reason::Shutdown,
            Change::Expire => Reason::Stop,
            Change::Upload => Reason::Upload,
            Change::Snapshot if !self.life.askers.is_empty() => Reason::Request,
            Change::Snapshot if self.life.rules.policy == Policy::EveryTurn => Reason::Turn,
            Change::Snapshot => Reason::Idle,
        }
    }

    /// Packs the sandbox in a task of its own, when those who write files are done: what they are answered
    /// is to be in the snapshot. No more of them are let in meanwhile.
    pub(super) fn pack(&mut self, reason: Reason) {
        let (done, packing) = oneshot::channel();
        self.life.packing = Some(packing);
        let Sandbox::Up(connection) = &self.sandbox else { return };
        let about = about(&self.context, &self.session, *self.tail.borrow(), self.life.rules.excludes.clone(), reason);
        let (context, shim) = (self.context.clone(), connection.handle.clone());
        let writers = self.life.writers.clone();
        let spared = self.way_back().map(|rewind| rewind.event).into_iter().collect();
        tokio::spawn(async move {
            let _place = match reason {
                Reason::Shutdown => context.packers.acquire().await.ok(),
                _ => None,
            };
            if tokio::time::timeout(WRITERS_PATIENCE, writers.closed()).await.is_err() {
                tracing::warn!(session_id = %about.id.session, "a file is being written for too long, and may be in the snapshot in part");
            }
            // If the driver is gone, so is its interest.
            let _ = done.send(pack(&context, shim, about, spared).await);
        });
    }

    pub(super) async fn packed(&mut self, packed: Packed) {
        self.life.packing = None;
        let data = match &packed {
            Ok(manifest) => {
                tracing::info!(
                    session_id = %self.session.id, event = manifest.event, bytes = manifest.stored_bytes, reason = ?manifest.reason,
                    "snapshot taken"
                );
                serde_json::json!({
                    "action": "snapshot", "event": manifest.event, "reason": manifest.reason, "bytes": manifest.stored_bytes,
                })
            }
            Err(error) => {
                let reason = chain(error);
                tracing::warn!(session_id = %self.session.id, error = reason, "no snapshot was taken");
                serde_json::json!({"action": "snapshot_failed", "error": reason})
            }
        };
        let events = vec![event(Kind::Lifecycle, None, data.to_string())];
        fault::at(Point::SnapshotFinished);
        self.advance_or_log(Advance { events, ..Advance::default() }).await;
        fault::at(Point::SnapshotLogged);
        let is_good = packed.is_ok();
        self.life.packed = Some(packed.map_err(|error| chain(&error)));
        self.live(Input::Packed(is_good)).await;
    }

    async fn store_status(&mut self, status: Status) {
        let action = match status {
            Status::Paused => "paused",
            Status::Stopped => "stopped",
            // Resuming stores its own.
            _ => return,
        };
        let events = vec![event(Kind::Lifecycle, None, format!(r#"{{"action":"{action}"}}"#))];
        self.session.status = status;
        fault::at(Point::StatusBegun);
        self.advance_or_log(Advance { events, status: Some(status), ..Advance::default() }).await;
        fault::at(Point::StatusStored);
        tracing::info!(session_id = %self.session.id, agent = self.session.agent, action, "session changed");
    }

    /// Ends the processes. With `remove`, a snapshot takes the place of the folder.
    async fn leave_sandbox(&mut self, remove: bool) {
        self.part_from_sandbox(remove).await;
        let sandbox = self.session.sandbox;
        let mut left = self.context.launcher.stop(sandbox, STOP_GRACE).await;
        fault::at(Point::LeaveStopped);
        if left.is_ok() && remove {
            left = self.context.launcher.remove(sandbox).await;
        }
        fault::at(Point::LeaveDone);
        if let Err(error) = left {
            tracing::warn!(session_id = %self.session.id, sandbox_id = %sandbox, error = chain(&error), "a sandbox can not be ended now");
            self.context.sweeping.ask_for_one();
        }
    }

    /// From here on the log has no sandbox, and what ran in it is over. With `replaced`, the snapshot
    /// that was taken just now takes the place of its folder.
    pub(super) async fn part_from_sandbox(&mut self, replaced: bool) {
        fault::at(Point::LeaveBegun);
        // Where its folder stays, the next shim tells what this one adds to it at its end.
        let leftover = match &self.sandbox {
            Sandbox::Up(connection) if replaced => connection.handle.leftover(),
            _ => BTreeMap::new(),
        };
        self.sandbox = Sandbox::Cold;
        self.fail_answers("the sandbox has ended");
        let (cause, detail) = match (self.life.state.closing, replaced) {
            (true, _) => (Cause::Host, HOST_STOPS),
            (false, _) if self.life.expired => (Cause::Time, EXPIRED),
            (false, true) => (Cause::Finished, "a snapshot was taken of it"),
            (false, false) => (Cause::Finished, "it was stopped"),
        };
        let packed = self.life.packed.as_ref().and_then(|packed| packed.as_ref().ok());
        let snapshot = packed.filter(|_| replaced).map(|manifest| manifest.event);
        self.record_end_with(cause, detail, snapshot, leftover).await;
        if self.begun().next().is_some() {
            let cause = self.end_cause.take().unwrap_or_else(|| detail.to_owned());
            let events = self.end_of_begun(&cause).await;
            self.advance_or_log(Advance { events, ..Advance::default() }).await;
        }
        fault::at(Point::LeaveLogged);
        (self.end_cause, self.life.expired) = (None, false);
    }

    async fn done(&mut self, change: Change) {
        if change == Change::Expire {
            // Also where its sandbox died before it was left.
            self.life.expired = false;
        }
        let packed = self.life.packed.take();
        let rewound = self.life.rewound.take();
        let placed = self.placed(packed.as_ref());
        let (mine, others) = std::mem::take(&mut self.life.askers).into_iter().partition(|asker| asker.change() == change);
        self.life.askers = others;
        let outcome = match &packed {
            Some(Ok(manifest)) => Ok(Some(manifest.clone())),
            Some(Err(reason)) if matches!(change, Change::Snapshot | Change::Rewind) => Err(reason.clone()),
            None if change == Change::Rewind => Err("the sandbox ended before it was packed".to_owned()),
            // The session is as it was wanted; only the snapshot is missing, and the log says so.
            _ => Ok(None),
        };
        let snapshot = || outcome.clone().map_err(SessionError::Snapshot);
        let mut rewound = Some(rewound.unwrap_or_else(|| snapshot().map(drop)));
        for asker in mine {
            match asker {
                Asker::Upload(_, reply) => answer(reply, placed.clone().map_err(not_placed)),
                Asker::Rewind(Rewind { event, reply, .. }) => {
                    let outcome = rewound.take().unwrap_or(Ok(()));
                    self.tell_rewound(event, &outcome).await;
                    answer(reply, outcome);
                }
                asker => asker.answer(snapshot()),
            }
        }
    }
}

/// What the kernel calls the end of a quota (EDQUOT), in the words of whoever unpacks.
const OVER_QUOTA: &str = "Disk quota exceeded";

fn not_placed(reason: String) -> SessionError {
    let is_full = [DISK_FULL, OVER_QUOTA].iter().any(|words| reason.contains(words));
    if is_full { SessionError::DiskFull(reason) } else { SessionError::Upload(reason) }
}

impl From<Asker> for Request {
    fn from(asker: Asker) -> Self {
        match asker {
            Asker::Change(Change::Stop, reply) => Self::Stop { reply },
            Asker::Change(_, reply) => Self::Pause { reply },
            Asker::Snapshot(reply) => Self::Snapshot { reply },
            Asker::Rewind(rewind) => Self::Rewind(rewind),
            Asker::Upload(bundle, reply) => Self::Upload { bundle, reply },
        }
    }
}

pub(super) const fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Message => "message",
        Verb::Pause => "pause",
        Verb::Stop => "stop",
        Verb::Resume => "resume",
        Verb::Snapshot => "take a snapshot of",
        Verb::Rewind => "rewind",
        Verb::Upload => "upload to",
        Verb::End => "end",
    }
}

/// What is known of a snapshot of a session that is to be taken.
pub(in crate::session) fn about(
    context: &Context,
    session: &SessionRow,
    event: i64,
    excludes: Vec<String>,
    reason: Reason,
) -> About {
    About {
        id: SnapshotId { session: session.id, event },
        agent_name: session.agent.clone(),
        agent_version: session.digest.clone(),
        runtime: "claude".to_owned(),
        runtime_version: context.runtime.version(),
        excludes,
        reason,
    }
}

/// Takes a snapshot, and lets old ones go, but for those of the events that are `spared`.
pub(in crate::session) async fn pack(context: &Context, shim: ShimHandle, about: About, spared: Vec<i64>) -> Packed {
    let (id, reason) = (about.id, about.reason);
    // Not those that come while this one is packed, which are right.
    let stale = newer(context, id).await;
    let began = Instant::now();
    let packed = write(&context.snapshots, shim, about).await;
    match &packed {
        Ok(manifest) => {
            context.metrics.snapshot_pack_seconds.observe(began.elapsed().as_secs_f64());
            context.metrics.snapshot_pack_bytes.observe(manifest.stored_bytes as f64);
            context.metrics.snapshots.with_label_values(&[reason.as_str()]).inc();
        }
        Err(_) => context.metrics.snapshot_failures.inc(),
    }
    if packed.is_ok()
        && let Err(error) = prune(context, id, stale, &spared).await
    {
        tracing::warn!(session_id = %id.session, error = chain(&error), "old snapshots can not be removed now");
    }
    packed
}

/// What is newer than a new snapshot. It is of a log that was put back to an older state since: the next
/// sandbox must not begin with it.
async fn newer(context: &Context, new: SnapshotId) -> Result<Vec<SnapshotId>, SnapshotError> {
    let listed = context.snapshots.list(new.session).await?;
    Ok(listed.iter().map(|listed| listed.id).filter(|id| id.event > new.event).collect())
}

/// Removes what is newer than a new snapshot.
pub(super) async fn remove_newer(context: &Context, new: SnapshotId) -> Result<(), SnapshotError> {
    remove_all(context, newer(context, new).await?).await
}

async fn remove_all(context: &Context, stale: Vec<SnapshotId>) -> Result<(), SnapshotError> {
    for id in stale {
        tracing::warn!(session_id = %id.session, event = id.event, "a snapshot is newer than the log, removing it");
        context.snapshots.remove(id).await?;
    }
    Ok(())
}

/// Lets go what a new snapshot makes superfluous, and what was newer when it was begun.
async fn prune(
    context: &Context,
    new: SnapshotId,
    stale: Result<Vec<SnapshotId>, SnapshotError>,
    spared: &[i64],
) -> Result<(), SnapshotError> {
    remove_all(context, stale?).await?;
    context.snapshots.prune(new.session, context.settings.snapshots.keep, spared).await.map(drop)
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, PackError> {
    tokio::time::timeout(PACK_SILENCE, work).await.map_err(|_| PackError::Stalled)
}

/// Packs a sandbox.
pub(in crate::session) async fn write(to: &Snapshots, shim: ShimHandle, about: About) -> Packed {
    let (mut chunks, packing) = shim.pack(about.excludes.clone()).await?;
    let mut writer = to.begin(about).await?;
    fault::at(Point::SnapshotBegun);
    while let Some(chunk) = in_time(chunks.recv()).await? {
        writer.chunk(chunk).await?;
        fault::at(Point::SnapshotPacking);
    }
    // The chunks end in any case; only this says that they were all.
    let conversation = in_time(packing).await??;
    fault::at(Point::SnapshotPacked);
    Ok(writer.finish(conversation).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_session_has_no_room_for_is_told_from_what_failed() {
        let over = nix::errno::Errno::EDQUOT;
        let over = format!("restore: write \"work/large\": {}; …", std::io::Error::from(over));
        for full in [DISK_FULL.to_owned(), over] {
            assert!(matches!(not_placed(full.clone()), SessionError::DiskFull(reason) if reason == full));
        }
        assert!(matches!(not_placed("the archive was cut off".to_owned()), SessionError::Upload(_)));
    }
}
