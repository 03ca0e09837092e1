//! From a state and what happened to the next state and what is to be done. Total: what can not
//! happen in a state changes nothing.

use super::{Change, Effect, Sandbox, Stage, State};
use crate::wire::session::Status;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A change was asked for, and admitted.
    Begin(Change),
    /// The session is to take messages again, which was admitted.
    Resume,
    /// Its sandbox is wanted though no turn waits.
    Wanted,
    /// The session is over.
    Ended,
    /// Its first sandbox is up.
    Created,
    /// A turn waits to begin.
    Queued,
    /// No turn waits any more.
    Emptied,
    /// A turn began: one that waited, or one of the runtime's own.
    TurnBegan,
    /// No turn runs any more.
    TurnsEnded,
    /// The sandbox is up.
    Opened,
    /// It could not be brought up.
    NotOpened,
    /// It could not be brought up for a session that was to be resumed, which is stored as this again.
    NotResumed(Status),
    /// It has no processes any more.
    Lost,
    /// It was frozen; or not, and goes on.
    Froze(bool),
    /// It was thawed; or not, and its processes have to go.
    Thawed(bool),
    /// The workspace was packed into a whole snapshot; or it was not.
    Packed(bool),
    /// The files are in the workspace; or they are not, and it is being brought back.
    Filled(bool),
    /// The session went back to an earlier snapshot; or it did not, and is as it was.
    Returned,
    /// Somebody wants to read the workspace.
    GuestCame,
    /// Nobody reads it any more.
    GuestsLeft,
    /// Nothing happened for long enough to freeze it.
    Idle,
    /// Nothing happened for long enough to end its processes.
    IdleLong,
    /// The host goes down.
    HostStops,
    /// It does not wait for turns any longer.
    HostPresses,
}

impl State {
    /// Takes in what happened; what is to be done comes back, in order.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        if self.status == Status::Ended {
            return out;
        }
        match input {
            Input::Begin(change) => self.begin(change, &mut out),
            Input::Resume => self.store(Status::Active, &mut out),
            Input::HostStops => self.closing = true,
            Input::HostPresses if self.closing && self.busy => out.push(Effect::Interrupt),
            Input::Wanted if self.closing => {}
            Input::Wanted if self.sandbox == Sandbox::Cold => self.open(&mut out),
            Input::Wanted if self.sandbox == Sandbox::Frozen => self.thaw(&mut out),
            Input::Ended => (self.status, self.change) = (Status::Ended, None),
            Input::Created => (self.status, self.sandbox) = (Status::Active, Sandbox::Up),
            Input::Queued => self.waiting = true,
            Input::Emptied => self.waiting = false,
            Input::TurnBegan => self.busy = true,
            Input::TurnsEnded => self.busy = false,
            Input::Opened => self.sandbox = Sandbox::Up,
            Input::NotOpened | Input::Lost => self.lose(&mut out),
            Input::NotResumed(was) => {
                self.status = was;
                self.lose(&mut out);
            }
            Input::Froze(true) if self.sandbox == Sandbox::Freezing => self.sandbox = Sandbox::Frozen,
            Input::Froze(_) if self.sandbox == Sandbox::Freezing => {
                self.sandbox = Sandbox::Up;
                if self.status == Status::Paused {
                    // It would be tried for ever. The folder keeps what the memory can not.
                    self.leave(false, &mut out);
                }
            }
            Input::Thawed(true) if self.sandbox == Sandbox::Thawing => self.sandbox = Sandbox::Up,
            Input::Thawed(_) if self.sandbox == Sandbox::Thawing => {
                out.push(Effect::Leave { remove: false });
                self.lose(&mut out);
            }
            Input::Packed(packed) => match self.change {
                // The runtime began a turn by itself meanwhile; the files come when it is over.
                Some((Change::Upload, Stage::Pack)) if packed && self.busy => {
                    self.change = Some((Change::Upload, Stage::Quiesce));
                }
                Some((Change::Upload, Stage::Pack)) if packed => {
                    self.change = Some((Change::Upload, Stage::Fill));
                    out.push(Effect::Fill);
                }
                Some((change, Stage::Pack | Stage::Save)) => self.finish(change, packed, &mut out),
                _ => {}
            },
            Input::Filled(filled) => {
                if let Some((Change::Upload, Stage::Fill)) = self.change {
                    if filled && self.status != Status::Active {
                        self.change = Some((Change::Upload, Stage::Save));
                        out.push(Effect::Pack(Change::Upload));
                    } else {
                        self.finish(Change::Upload, false, &mut out);
                    }
                }
            }
            Input::Returned => {
                if let Some((change @ Change::Rewind, Stage::Return)) = self.change {
                    self.change = None;
                    out.push(Effect::Done { change, packed: true });
                }
            }
            Input::GuestCame => self.guests = true,
            Input::GuestsLeft => self.guests = false,
            Input::Idle if self.sandbox == Sandbox::Up && self.is_quiet() => self.freeze(&mut out),
            Input::IdleLong if matches!(self.sandbox, Sandbox::Up | Sandbox::Frozen) && self.is_quiet() => {
                self.begin(Change::Park, &mut out);
            }
            Input::Wanted | Input::Froze(_) | Input::Thawed(_) | Input::Idle | Input::IdleLong | Input::HostPresses => {}
        }
        self.settle(&mut out);
        // Who asked is told last, when everything is as it was asked for.
        out.sort_by_key(|effect| matches!(effect, Effect::Done { .. }));
        out
    }

    fn begin(&mut self, change: Change, out: &mut Vec<Effect>) {
        if self.change.is_none() {
            self.change = Some((change, Stage::Quiesce));
            if self.busy && change.interrupts() {
                out.push(Effect::Interrupt);
            }
        }
    }

    fn store(&mut self, status: Status, out: &mut Vec<Effect>) {
        if self.status != status {
            self.status = status;
            out.push(Effect::Store(status));
        }
    }

    fn freeze(&mut self, out: &mut Vec<Effect>) {
        self.sandbox = Sandbox::Freezing;
        out.push(Effect::Freeze);
    }

    /// The processes are gone. A change goes on without them, and without a new snapshot: the
    /// folder is as they left it.
    fn lose(&mut self, out: &mut Vec<Effect>) {
        (self.sandbox, self.busy, self.guests) = (Sandbox::Cold, false, false);
        match self.change {
            Some((change, Stage::Pack | Stage::Fill | Stage::Save)) => self.finish(change, false, out),
            // One that came up for this change alone, and did not: it would be tried for ever.
            Some((change, Stage::Quiesce)) if change.wants_workspace() => self.finish(change, false, out),
            _ => {}
        }
    }

    fn finish(&mut self, change: Change, packed: bool, out: &mut Vec<Effect>) {
        if self.busy && change.ends_work() && (packed || change != Change::Rewind) {
            // The runtime began a turn by itself while it was packed, and what that does is in no
            // snapshot.
            self.change = Some((change, Stage::Quiesce));
            if change.interrupts() {
                out.push(Effect::Interrupt);
            }
            return;
        }
        self.change = None;
        match change {
            Change::Pause => self.store(Status::Paused, out),
            Change::Stop => {
                self.store(Status::Stopped, out);
                self.leave(packed, out);
            }
            // Somebody wants it after all.
            Change::Park if self.waiting || self.busy || self.guests => {}
            Change::Park | Change::Shutdown | Change::Expire => self.leave(packed, out),
            // It came up for this alone.
            Change::Snapshot | Change::Upload if self.status == Status::Stopped => self.leave(packed, out),
            Change::Snapshot | Change::Upload => {}
            Change::Rewind if packed => {
                (self.sandbox, self.busy, self.guests) = (Sandbox::Cold, false, false);
                self.change = Some((change, Stage::Return));
                return out.push(Effect::Rewind);
            }
            // Without a snapshot of how it is now, that would be lost.
            Change::Rewind => {}
        }
        out.push(Effect::Done { change, packed });
    }

    fn leave(&mut self, packed: bool, out: &mut Vec<Effect>) {
        if self.sandbox != Sandbox::Cold {
            (self.sandbox, self.busy, self.guests) = (Sandbox::Cold, false, false);
            out.push(Effect::Leave { remove: packed });
        }
    }

    /// Does what the state asks for. Everything above only says what is.
    fn settle(&mut self, out: &mut Vec<Effect>) {
        if self.status == Status::Ended {
            return;
        }
        match self.change {
            Some((_, Stage::Pack | Stage::Fill | Stage::Save | Stage::Return)) => {}
            Some((_, Stage::Quiesce)) if self.busy => {}
            Some((change, Stage::Quiesce)) => match self.sandbox {
                Sandbox::Cold if change.wants_workspace() => self.open(out),
                Sandbox::Cold => {
                    self.finish(change, false, out);
                    self.settle(out);
                }
                Sandbox::Frozen => self.thaw(out),
                Sandbox::Up => {
                    self.change = Some((change, Stage::Pack));
                    out.push(Effect::Pack(change));
                }
                Sandbox::Opening | Sandbox::Freezing | Sandbox::Thawing => {}
            },
            None if self.closing => {
                if matches!(self.sandbox, Sandbox::Up | Sandbox::Frozen) {
                    self.begin(Change::Shutdown, out);
                    self.settle(out);
                }
            }
            None if self.status == Status::Active && self.waiting && !self.busy => match self.sandbox {
                Sandbox::Cold => self.open(out),
                Sandbox::Frozen => self.thaw(out),
                Sandbox::Up => out.push(Effect::Begin),
                Sandbox::Opening | Sandbox::Freezing | Sandbox::Thawing => {}
            },
            None if self.guests => match self.sandbox {
                Sandbox::Cold => self.open(out),
                Sandbox::Frozen => self.thaw(out),
                Sandbox::Up | Sandbox::Opening | Sandbox::Freezing | Sandbox::Thawing => {}
            },
            None if self.status == Status::Paused && self.sandbox == Sandbox::Up && !self.busy => self.freeze(out),
            // A restart came between the status and the end of the processes.
            None if self.status == Status::Stopped && self.sandbox == Sandbox::Up => self.leave(false, out),
            None => {}
        }
    }

    fn open(&mut self, out: &mut Vec<Effect>) {
        self.sandbox = Sandbox::Opening;
        out.push(Effect::Open);
    }

    fn thaw(&mut self, out: &mut Vec<Effect>) {
        self.sandbox = Sandbox::Thawing;
        out.push(Effect::Thaw);
    }
}
