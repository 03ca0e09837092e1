//! The life of a session and of its sandbox, as a pure machine: no I/O, no clock.
//!
//! ```text
//!              create              pause                       stop, pause        end
//!  starting ──────────▶ active ◀──────────▶ paused     active ────────▶ stopped   any ────▶ ended
//!                         ▲       resume                  ▲     resume     │
//!                         └──────────────────────────────┴────────────────┘
//!
//!            open              opened                    idle for long, stop
//!  Cold ───────────▶ Opening ──────────▶ Up ──────────────────────────────────────┐
//!   ▲                   │ failed          │ ▲                                     │
//!   ├───────────────────┘   idle, pause   ▼ │ a message, resume, a snapshot       │
//!   │                                Frozen                                       │
//!   └──────────────────────── processes end, the snapshot stays ◀─────────────────┘
//! ```
//!
//! What changes a session while it may work (pause, stop, park, snapshot, rewind, upload) is a [`Change`]: no turn
//! begins while one is under way, it waits until the sandbox is [quiet](Stage::Quiesce), has the
//! workspace [packed](Stage::Pack), and then takes effect. Whoever owns a session keeps its
//! [`State`], asks [`admit`] whether a request may be taken, feeds what happened to
//! [`State::step`], and performs the [`Effect`]s that come back. A restart forgets the change that
//! was under way and nothing else ([`State::after_restart`]).
//!
//! Of an upload the snapshot is one of what was, to go back to if [filling](Stage::Fill) the
//! workspace fails; of a session that is not active another one is packed [after it](Stage::Save).
//! A way back is packed too, and then [returns](Stage::Return): that may take as long as a folder has
//! files, and whatever comes meanwhile waits. Who reads the workspace, writes files
//! into it or runs a command there is a guest: the sandbox comes up for guests and is neither frozen nor parked under them.
//!
//! When the host goes down ([`Input::HostStops`]) no turn begins any more, in any state. A turn that
//! runs may end by itself until time is short ([`Input::HostPresses`]); then what there is of a sandbox
//! is packed and ends ([`Change::Shutdown`]). Statuses and turns that wait stay as they are stored.

mod admit;
mod step;
#[cfg(test)]
mod tests;

pub use admit::{Admission, Verb, admit};
pub use step::Input;

use crate::wire::session::Status;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The status on the wire.
    pub status: Status,
    /// Its sandbox.
    pub sandbox: Sandbox,
    /// Whether the runtime works on a turn.
    pub busy: bool,
    /// Whether a turn waits to begin.
    pub waiting: bool,
    /// What is under way.
    pub change: Option<(Change, Stage)>,
    /// Whether the host goes down.
    pub closing: bool,
    /// Whether somebody is at work in the workspace beside its turns, or waits to be.
    pub guests: bool,
}

/// What there is of a session's sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// No processes.
    Cold,
    /// Coming up.
    Opening,
    /// Up.
    Up,
    /// Being frozen.
    Freezing,
    /// Kept in memory, without processor time.
    Frozen,
    /// Being thawed.
    Thawing,
}

/// Something that is done to a session as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is paused by request.
    Pause,
    /// It is stopped by request.
    Stop,
    /// Its processes end since nothing happened for long.
    Park,
    /// A snapshot is taken and nothing else changes.
    Snapshot,
    /// It goes back to an earlier snapshot.
    Rewind,
    /// Its processes end since the host goes down.
    Shutdown,
    /// Files are put into the workspace.
    Upload,
    /// Its processes end since they have lived as long as they may.
    Expire,
}

impl Change {
    /// Whether a running turn is interrupted for it, and not waited for.
    pub const fn interrupts(self) -> bool {
        matches!(self, Self::Pause | Self::Stop | Self::Rewind | Self::Expire)
    }

    /// Whether no turn goes on behind it, so that one which the runtime began meanwhile has to end.
    const fn ends_work(self) -> bool {
        self.interrupts() || matches!(self, Self::Shutdown)
    }

    /// Whether a cold sandbox has to come up for it, as its workspace is wanted.
    const fn wants_workspace(self) -> bool {
        matches!(self, Self::Snapshot | Self::Rewind | Self::Upload)
    }
}

/// How far a [`Change`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waits until the sandbox is up and no turn runs.
    Quiesce,
    /// The workspace is being packed.
    Pack,
    /// The workspace is being filled.
    Fill,
    /// The workspace is being packed once more, filled.
    Save,
    /// The processes and the folder go, and an earlier snapshot takes their place.
    Return,
}

/// What the owner of a session has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Bring the sandbox up.
    Open,
    /// Give it processor time again.
    Thaw,
    /// Take its processor time.
    Freeze,
    /// End the running turn.
    Interrupt,
    /// Pack the workspace into a snapshot.
    Pack(Change),
    /// Put the files into the workspace.
    Fill,
    /// End the processes. With `remove`, a whole snapshot takes the place of the folder.
    Leave {
        /// Whether the folder goes.
        remove: bool,
    },
    /// End the processes, remove the folder, and make an earlier snapshot the one that the next sandbox
    /// begins with. A whole snapshot has how it was.
    Rewind,
    /// Store this status.
    Store(Status),
    /// A change is over; who asked for it is told.
    Done {
        /// The change.
        change: Change,
        /// Whether there is a new snapshot.
        packed: bool,
    },
    /// The next turn that waits may begin.
    Begin,
}

impl State {
    /// A session as it is found: the status is stored, and of the sandbox it is known whether it
    /// has processes. One that was frozen is thawed when it is connected to.
    pub const fn found(status: Status, waiting: bool) -> Self {
        Self { status, sandbox: Sandbox::Cold, busy: false, waiting, change: None, closing: false, guests: false }
    }

    /// What a restart leaves of it.
    #[must_use]
    pub const fn after_restart(self) -> Self {
        Self::found(self.status, self.waiting || self.busy)
    }

    /// Whether the host may go down as far as this session is concerned.
    pub const fn is_put_away(&self) -> bool {
        self.closing && self.change.is_none() && matches!(self.sandbox, Sandbox::Cold)
    }

    /// Whether nothing happens in it and nothing is to: its sandbox costs memory for nothing.
    pub const fn is_quiet(&self) -> bool {
        !self.busy && !self.waiting && !self.guests && self.change.is_none()
    }
}
