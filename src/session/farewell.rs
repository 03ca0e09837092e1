//! What is left of a session that was ended: its last snapshot, and then the end of its sandbox.
//!
//! Who ends a session does not wait for this. The status is stored first, so from then on nothing
//! is asked of the session; what its sandbox still says is not of the log any more. Then
//!
//! 1. a turn that runs is interrupted, and waited for;
//! 2. an upload under way is waited for: where it breaks off, the snapshot of what was before it is
//!    the last one, since what is there now is neither;
//! 3. the sandbox is packed, also one that has only its folder left, which is started for it: that
//!    takes some 30 ms, without the runtime, and the files are there nowhere else. Where the sandbox
//!    dies or can not be spoken to, another one in its folder is packed;
//! 4. its processes end, and its folder is removed, with or without a snapshot. That there is none is
//!    the one thing that the log is told after its end.
//!
//! A daemon that ends meanwhile leaves the sandbox to the next one, which finds that it belongs to a
//! session that has ended, and begins anew ([`Sessions::recover`](super::Sessions::recover)). Few
//! are packed at a time, and each has a deadline: none can outlive its session by being slow.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::driver::{Filled, PackError, Packed, about, pack};
use super::open::{self, OpenError, Opened};
use super::{Context, Host, Leaving};
use crate::link::daemon::Connection;
use crate::link::shim::{ShimEvent, ToShim};
use crate::report::chain;
use crate::sandbox::LaunchError;
use crate::snapshot::{Manifest, Reason, SnapshotError};
use crate::store::{Advance, NewEvent, SessionRow, now};
use crate::wire::event::Kind;
use crate::wire::{SandboxId, SessionId};

/// How long a sandbox may take from when it is its turn: for 5 GiB at the speed of a slow disk.
const DEADLINE: Duration = Duration::from_secs(300);
/// How long turns that were interrupted may take to end; the shim kills a runtime that does not heed
/// it sooner.
const TURN_DEADLINE: Duration = Duration::from_secs(20);
/// How long after its end a session that can not be packed keeps its sandbox's folder.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How often a sandbox is asked to pack. The runtime may begin a turn by itself at any time.
const TRIES: u32 = 3;
/// How many sandboxes are packed, one after the other, if those before do not do it.
const LIVES: u32 = 3;
/// The action of the event that says that there is no snapshot.
const FAILED: &str = "snapshot_failed";

/// What a session that was ended left on the host.
#[derive(Debug)]
pub(super) enum Left {
    /// No processes. Whether there is a folder is to be seen.
    Cold,
    /// A sandbox whose folder is being removed, since a snapshot has taken its place.
    Leaving(oneshot::Receiver<bool>),
    /// A sandbox that is coming up.
    Opening(oneshot::Receiver<Result<Opened, OpenError>>),
    /// A sandbox.
    Up {
        /// The connection to it.
        connection: Box<Connection>,
        /// Turns that run.
        turns: usize,
        /// A snapshot that is being taken.
        packing: Option<oneshot::Receiver<Packed>>,
        /// An upload that is being written.
        filling: Option<oneshot::Receiver<Filled>>,
    },
}

/// Why a session that was ended has no last snapshot.
#[derive(Debug, thiserror::Error)]
enum FarewellError {
    #[error("look for the sandbox")]
    Launch(#[from] LaunchError),
    #[error("bring the sandbox up")]
    Open(#[from] OpenError),
    #[error("the sandbox ended")]
    Gone,
    #[error("thaw the sandbox")]
    Thaw(#[source] LaunchError),
    #[error("an upload broke off; the snapshot from before it is the last one")]
    Upload,
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error("it took longer than {} seconds", DEADLINE.as_secs())]
    Slow,
}

impl FarewellError {
    /// Whether the sandbox is as it was, and may be packed later: when the launcher is back, or the
    /// runtime, a wall of the host, or the agent's files are there again.
    fn may_pass(&self) -> bool {
        let of_host = |error: &OpenError| {
            matches!(
                error,
                OpenError::Launch(_)
                    | OpenError::Runtime(_)
                    | OpenError::Store(_)
                    | OpenError::Walls(_)
                    | OpenError::Session(_)
                    | OpenError::Content(_)
            )
        };
        match self {
            Self::Launch(_) => true,
            Self::Open(error) => of_host(error),
            _ => self.wants_room(),
        }
    }

    /// Whether it is the place of the snapshots that can not take one now.
    const fn wants_room(&self) -> bool {
        matches!(self, Self::Pack(PackError::Snapshot(SnapshotError::Full { .. } | SnapshotError::Unavailable { .. })))
    }

    /// Whether it was this sandbox that failed, so that another one in its folder may do better.
    const fn is_of_sandbox(&self) -> bool {
        match self {
            Self::Gone | Self::Thaw(_) | Self::Open(OpenError::Link(_) | OpenError::Slow) => true,
            Self::Pack(error) => matches!(error, PackError::Link(_) | PackError::Broken | PackError::Stalled),
            Self::Launch(_) | Self::Open(_) | Self::Upload | Self::Slow => false,
        }
    }
}

/// Whether the data of an event of the life of a session say that there is no snapshot.
pub(super) fn is_failure(data: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(data).is_ok_and(|data| data["action"] == FAILED)
}

/// How long ago a session was ended.
fn since(session: &SessionRow) -> Duration {
    let millis = now().millis().saturating_sub(session.last_active_at.millis());
    Duration::from_millis(millis.unsigned_abs())
}

/// The sandbox of a session that was ended, which nobody else may remove.
#[derive(Debug)]
pub(super) struct Farewell {
    context: Arc<Context>,
    session: SessionId,
}

impl Farewell {
    /// From here on it is known that the session's last snapshot is still to come.
    pub(super) fn announce(context: Arc<Context>, session: &SessionRow) -> Self {
        context.leaving.send_modify(|leaving| {
            leaving.insert(session.id, Leaving { sandbox: session.sandbox, is_kept: false });
        });
        Self { context, session: session.id }
    }

    /// Takes the last snapshot, and removes the sandbox.
    pub(super) async fn run(self, session: SessionRow, left: Left, excludes: Vec<String>) {
        let context = &self.context;
        let kept = tokio::select! {
            biased;
            () = context.closing.cancelled() => return,
            kept = self.keep(&session, left, &excludes) => kept,
        };
        if context.closing.is_cancelled() || *context.host.borrow() != Host::Stays {
            // It is the daemon that ends, or the host, and with it the tasks that would know better.
            return;
        }
        match kept {
            Ok(None) => {}
            Ok(Some(manifest)) => tracing::info!(
                session_id = %session.id, event = manifest.event, bytes = manifest.stored_bytes, reason = ?manifest.reason,
                "snapshot taken"
            ),
            Err(error) if error.may_pass() && since(&session) < PATIENCE => {
                tracing::warn!(session_id = %session.id, error = chain(&error), "an ended session can not be packed now, trying again");
                // What is over does nothing meanwhile; its files are in the folder. Where the launcher can not
                // be reached, the next try finds it running.
                drop(context.launcher.stop(session.sandbox, open::STOP_GRACE).await);
                // To pack it all for nothing again and again would be much; that is left to the sweeps
                // that come by themselves.
                if !error.wants_room() {
                    context.sweeping.ask_for_one();
                }
                return;
            }
            Err(error) => self.tell_failed(&session, &error).await,
        }
        self.finish(session.sandbox).await;
    }

    /// Removes the sandbox. Nobody has to wait for that.
    pub(super) async fn finish(self, sandbox: SandboxId) {
        self.context.leaving.send_modify(|leaving| {
            leaving.entry(self.session).and_modify(|leaving| leaving.is_kept = true);
        });
        self.context.clear_sandbox(sandbox).await;
    }

    /// There is no last snapshot and will be none.
    async fn tell_failed(&self, session: &SessionRow, error: &FarewellError) {
        let reason = chain(error);
        tracing::warn!(session_id = %session.id, error = reason, "no snapshot was taken of an ended session");
        let data = serde_json::json!({"action": FAILED, "error": reason}).to_string();
        let event = NewEvent { at: now(), turn: None, kind: Kind::Lifecycle, data };
        let told = self.context.store.advance(session.id, Advance { events: vec![event], ..Advance::default() }).await;
        if let Err(error) = told {
            tracing::warn!(session_id = %session.id, error = %error, "that can not be stored, ignoring");
        }
    }

    /// Packs what is left, in another sandbox if this one fails at it.
    async fn keep(&self, session: &SessionRow, mut left: Left, excludes: &[String]) -> Result<Option<Manifest>, FarewellError> {
        let context = &self.context;
        for life in 1.. {
            let error = match self.keep_once(session, left, excludes.to_vec()).await {
                Err(error) if error.is_of_sandbox() && life < LIVES => error,
                outcome => return outcome,
            };
            if !context.has_folder(session.sandbox).await {
                return Err(error);
            }
            tracing::warn!(
                session_id = %session.id, error = chain(&error),
                "the sandbox of an ended session can not be packed, starting another one in its folder"
            );
            // What can not be spoken to must not work beside it.
            context.launcher.kill(session.sandbox).await?;
            left = Left::Cold;
        }
        Err(FarewellError::Gone)
    }

    async fn keep_once(
        &self,
        session: &SessionRow,
        left: Left,
        excludes: Vec<String>,
    ) -> Result<Option<Manifest>, FarewellError> {
        let context = &self.context;
        let (mut connection, turns, packing, filling) = match left {
            Left::Leaving(removal) => {
                // Either way the snapshot has all of it.
                drop(removal.await);
                return Ok(None);
            }
            Left::Cold if !context.launcher.list().await?.iter().any(|one| one.sandbox == session.sandbox) => return Ok(None),
            Left::Cold => {
                let _turn = context.farewells.acquire().await;
                let Opened { connection, .. } = open::open(context.clone(), session.clone(), None).await?;
                let turns = usize::from(connection.state.turn.is_some());
                (connection, turns, None, None)
            }
            Left::Opening(opened) => {
                let Opened { connection, .. } = opened.await.unwrap_or(Err(OpenError::Slow))?;
                let turns = usize::from(connection.state.turn.is_some());
                (connection, turns, None, None)
            }
            Left::Up { connection, turns, packing, filling } => (*connection, turns, packing, filling),
        };
        // Many may end at once, and packing is work for the disk and the processors. What belongs to
        // nobody any more does nothing until it is its turn.
        let _turn = match context.farewells.try_acquire() {
            Ok(turn) => turn,
            Err(_) => {
                // One that can not be frozen is no worse off than before.
                drop(context.launcher.freeze(session.sandbox).await);
                context.farewells.acquire().await.map_err(|_| FarewellError::Gone)?
            }
        };
        match context.launcher.thaw(session.sandbox).await {
            Err(error @ (LaunchError::Refused(_) | LaunchError::Failed(_))) => return Err(FarewellError::Thaw(error)),
            thawed => thawed?,
        }
        if turns > 0 {
            // That it does not arrive is seen by what follows.
            drop(connection.handle.send(&ToShim::Interrupt { turn: None }).await);
        }
        let last = async {
            if let Some(filling) = filling
                && !matches!(listening(&mut connection, filling).await, Ok(Ok(())))
            {
                return Err(FarewellError::Upload);
            }
            self.pack(session, connection, turns, packing, excludes).await
        };
        tokio::time::timeout(DEADLINE, last).await.unwrap_or(Err(FarewellError::Slow)).map(Some)
    }

    async fn pack(
        &self,
        session: &SessionRow,
        mut connection: Connection,
        mut turns: usize,
        packing: Option<oneshot::Receiver<Packed>>,
        excludes: Vec<String>,
    ) -> Result<Manifest, FarewellError> {
        let context = &self.context;
        if let Some(packing) = packing {
            // What comes of it is told by who began it: nobody any more.
            drop(listening(&mut connection, packing).await);
        }
        for tries in 1.. {
            // The runtime may not end: then it can be packed no better later.
            while turns > 0 {
                match tokio::time::timeout(TURN_DEADLINE, connection.events.recv()).await {
                    Ok(Some(events)) => turns = turns.saturating_sub(hear(&connection, &events).await),
                    Ok(None) => return Err(FarewellError::Gone),
                    Err(_) => break,
                }
            }
            let about = about(context, session, session.tail, excludes.clone(), Reason::End);
            let packing = Box::pin(pack(context, connection.handle.clone(), about, Vec::new()));
            match listening(&mut connection, packing).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) if tries < TRIES && error.is_refusal() => turns = 1,
                Err(error) => return Err(error.into()),
            }
        }
        Err(FarewellError::Gone)
    }
}

/// Waits for `work` and takes what the sandbox says meanwhile, as it would stop otherwise.
pub(super) async fn listening<F: Future>(connection: &mut Connection, work: F) -> F::Output {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(events) = connection.events.recv() => drop(hear(connection, &events).await),
        }
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.context.leaving.send_modify(|leaving| {
            leaving.remove(&self.session);
        });
    }
}

/// Takes events that are of no log. Says how many turns ended with them.
async fn hear(connection: &Connection, events: &[ShimEvent]) -> usize {
    if let Some(last) = events.last() {
        // That it does not arrive is seen by whoever waits for more.
        drop(connection.handle.send(&ToShim::Ack { through: last.n }).await);
    }
    events.iter().filter(|event| event.kind == Kind::TurnEnded).count()
}
