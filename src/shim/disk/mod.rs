//! The bound of the disk: what workspace and HOME take is measured, and what runs inside is ended where
//! it is more than the session may have.
//!
//! ```text
//!                 limit                 more than the limit
//!   no watch ──────────────▶ within ────────────────────────▶ over, how much is not known
//!                              ▲                                        │ measured behind the end
//!                              │  no more than the limit                ▼   of what ran ([`Watch::ended`])
//!                              └──────────────────────────── over, with the least that was measured
//!                                                                       │ more than that
//!                                                                       └─▶ over, how much is not known
//! ```
//!
//! While it is over, turns are refused, and other programs may run as long as they do not take still
//! more: so somebody can make room.
//!
//! Looking through all files is work, of which there is to be little. So the file system is asked first, which
//! knows at once how much all its users together have taken since. Only if that may be too much, and
//! from time to time since others may have freed what this one took, the files are looked through, by a
//! thread of its own ([`Measurer`]) that was there before anything ran inside, and never longer than a
//! part of the time. What can hide from it: a deleted file that no descriptor, but a mapping or a message on its way
//! holds, and what is moved all the time. Where the file system has quotas, the launcher sets one somewhat above
//! the limit, which counts these, too.

mod held;
mod walk;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc as threads;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use self::walk::Taken;
use super::driver::Input;
use crate::wire::limits::Reached;

/// How often the file system is asked while something is at work inside.
const TICK: Duration = Duration::from_millis(100);
/// How often it is asked while nothing seems to be.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// How long after a look the files are looked through at most, while something is at work.
const PATROL: Duration = Duration::from_secs(10);
/// The same while nothing seems to be.
const IDLE_PATROL: Duration = Duration::from_secs(60);
/// The same where the file system does not count files.
const BLIND_PATROL: Duration = Duration::from_secs(1);
/// How long after a look the next one comes at least, in times that it took: where it seems needed, where nobody
/// can know, and otherwise.
const SHARE: u32 = 5;
const BLIND_SHARE: u32 = 10;
const PATROL_SHARE: u32 = 50;
/// What programs may take while it is too much already: a shell writes its history, a deletion an index.
const SLACK: Taken = Taken { bytes: 4 << 20, files: 200 };
/// Looks that do not see all, one after the other, after which somebody is taken to see to that.
const IN_PART_MAX: u32 = 5;
/// What may be taken beyond the limit before commands of callers are refused as well: a part of it, at least so
/// many bytes and files, which a fast disk takes before it is noticed. It grows by what each takes until it is
/// ended.
const FAR_PART: u64 = 2;
const FAR_LEAST: Taken = Taken { bytes: 2 << 30, files: 100_000 };
/// Folders of the sandbox's that can be written inside.
const FOLDERS: [&str; 2] = ["home", "workspace"];

/// What all users of a file system have taken of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filled {
    bytes: u64,
    /// `None` where it does not count them.
    files: Option<u64>,
}

impl Filled {
    /// Asks the file system of a folder.
    pub fn of(folder: &Path) -> Option<Self> {
        let told = statvfs(folder).ok()?;
        let bytes = told.blocks().saturating_sub(told.blocks_free()).saturating_mul(told.fragment_size());
        let files = (told.files() > 0).then(|| told.files().saturating_sub(told.files_free()));
        Some(Self { bytes, files })
    }

    /// The most that one of them took since then, if none freed anything, as far as that is counted.
    fn since(self, then: Self) -> Taken {
        let files = self.files.zip(then.files).map_or(0, |(now, then)| now.saturating_sub(then));
        Taken { bytes: self.bytes.saturating_sub(then.bytes), files }
    }
}

/// What is at work inside, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Programs, or a turn.
    Busy,
    /// Nothing. What a program left running may be all the same.
    Idle,
    /// As [`Self::Idle`], and all of it is packed. A look opens folders that are closed to their owner, and they
    /// would be packed as open: so there is none without need.
    Packing,
}

/// What a look found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// What is taken, or a part of it that is too much already.
    pub taken: Taken,
    /// Whether both folders could be looked through.
    is_whole: bool,
    /// Whether it is all that is taken, and not the part that was too much.
    is_all: bool,
    /// What the file system said before it.
    filled: Option<Filled>,
    began: Instant,
    ended: Instant,
}

/// How much of what is taken a look saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// All of it, which is so much.
    All(Taken),
    /// As much as is too much.
    Part,
    /// Not all, as somebody closes or moves folders.
    Unknown,
}

impl Found {
    /// How much it saw.
    pub const fn seen(&self) -> Seen {
        match (self.is_whole, self.is_all) {
            (false, _) => Seen::Unknown,
            (true, false) => Seen::Part,
            (true, true) => Seen::All(self.taken),
        }
    }
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// What runs inside is to be ended.
    TooMuch,
    /// It is over already, and did not become more. With `true`, turns that wait are to be refused.
    StillOver(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Within,
    /// Over; the least that was measured since, if it was.
    Over(Option<Taken>),
}

/// Decides when to look, and what follows.
#[derive(Debug)]
pub struct Watch {
    measurer: Option<Measurer>,
    limit: Option<Taken>,
    state: State,
    last: Option<Found>,
    asked_at: Option<Instant>,
    is_looking: bool,
    /// Whether what was too much is being ended. How much there is would become more while it is measured.
    is_ending: bool,
    /// Since when somebody waits for a look.
    wanted: Option<Instant>,
    /// Looks one after the other that did not see all.
    in_part: u32,
    /// Whether the next look goes to the end, however much it finds.
    is_to_end: bool,
}

impl Watch {
    /// Watches nothing yet.
    pub const fn new() -> Self {
        let state = State::Within;
        Self {
            measurer: None,
            limit: None,
            state,
            last: None,
            asked_at: None,
            is_looking: false,
            is_ending: false,
            wanted: None,
            in_part: 0,
            is_to_end: false,
        }
    }

    /// Starts the thread that looks through the folders in `state`, if it does not run, before anything runs
    /// inside, which could use up all tasks.
    pub fn begin(&mut self, state: &Path, to: &mpsc::Sender<Input>) -> io::Result<()> {
        if self.measurer.is_none() {
            self.measurer = Some(Measurer::start(state.to_owned(), to.clone())?);
        }
        Ok(())
    }

    /// Sets the limit, which counts at once.
    pub fn limit(&mut self, limit: Option<Taken>) {
        if self.limit != limit {
            self.limit = limit;
            self.asked_at = None;
            match (limit, self.last) {
                (None, _) => self.state = State::Within,
                (Some(limit), Some(last)) if !last.taken.is_beyond(limit) => self.state = State::Within,
                // The next look tells.
                _ => self.last = None,
            }
        }
    }

    /// Forgets what was measured, since all of it is replaced.
    pub const fn forget(&mut self) {
        (self.state, self.last, self.asked_at) = (State::Within, None, None);
    }

    /// Measures anew at once, as something came.
    pub const fn doubt(&mut self) {
        (self.last, self.asked_at) = (None, None);
    }

    /// Whether more was taken than may be, when it was measured last.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    /// Whether so much more was taken that only single files can be removed.
    pub fn is_far_over(&self) -> bool {
        let (State::Over(_), Some(limit), Some(last)) = (self.state, self.limit, self.last) else { return false };
        let part = Taken { bytes: limit.bytes / FAR_PART, files: limit.files / FAR_PART };
        let far = Taken { bytes: part.bytes.max(FAR_LEAST.bytes), files: part.files.max(FAR_LEAST.files) };
        last.taken.is_beyond(limit.and(far))
    }

    /// What may be taken; `None` if that is not limited.
    pub const fn most_allowed(&self) -> Option<Taken> {
        self.limit
    }

    /// When to [`tick`](Self::tick).
    pub fn next(&self, work: Work) -> Option<Instant> {
        if self.is_looking || self.is_ending || self.limit.is_none() || self.measurer.is_none() {
            return None;
        }
        // What fills the disk while it is packed is to be found as soon as what a turn does.
        let every = if work == Work::Idle { IDLE_TICK } else { TICK };
        Some(self.asked_at.map_or_else(Instant::now, |at| at + every))
    }

    /// Asks the file system, and has the files looked through if need be.
    pub fn tick(&mut self, now: Instant, work: Work, filled: Option<Filled>) {
        self.asked_at = Some(now);
        if self.is_due(now, work, filled) {
            self.look();
        }
    }

    /// Has the files looked through for a turn that waits.
    pub fn want(&mut self, now: Instant) {
        self.wanted.get_or_insert(now);
        self.look();
    }

    /// Has all of it measured, also beyond what is too much. False if nobody can.
    pub fn measure(&mut self) -> bool {
        self.is_to_end = true;
        self.look();
        self.is_looking || self.is_ending
    }

    /// What was too much is being ended: nothing is measured until it [has](Self::ended).
    pub const fn ending(&mut self) {
        self.is_ending = true;
    }

    /// It has. Who waits for a look has it now; otherwise the next tick is due.
    pub fn ended(&mut self) {
        self.is_ending = false;
        if self.wanted.is_some() || self.is_to_end {
            self.look();
        }
    }

    fn is_due(&self, now: Instant, work: Work, filled: Option<Filled>) -> bool {
        let (Some(most), Some(last)) = (self.most(), self.last) else { return self.limit.is_some() };
        let cost = last.ended.duration_since(last.began);
        let age = now.duration_since(last.ended);
        let more = filled.and_then(|filled| Some(filled.since(last.filled?)));
        let may_be_over = more.is_some_and(|more| last.taken.and(more).is_beyond(most));
        let patrol = match (work, filled.and_then(|filled| filled.files)) {
            (Work::Packing, _) => None,
            // The file system does not tell how many there are, as btrfs.
            (_, None) => Some(BLIND_PATROL.max(cost * BLIND_SHARE)),
            (Work::Busy, Some(_)) => Some(PATROL.max(cost * PATROL_SHARE)),
            (Work::Idle, Some(_)) => Some(IDLE_PATROL.max(cost * PATROL_SHARE)),
        };
        (may_be_over && age >= cost * SHARE) || patrol.is_some_and(|patrol| age >= patrol)
    }

    /// More than this is too much. `None` where it has to be measured how much there is.
    fn most(&self) -> Option<Taken> {
        match self.state {
            State::Within => self.limit,
            State::Over(least) => least.map(|least| least.and(SLACK)),
        }
    }

    /// Looks, unless it does already or must not yet.
    fn look(&mut self) {
        if self.is_looking || self.is_ending {
            return;
        }
        let most = self.most().filter(|_| !self.is_to_end);
        self.is_to_end = false;
        self.is_looking = self.measurer.as_ref().is_some_and(|measurer| measurer.look(most));
    }

    /// Takes what was found.
    pub fn found(&mut self, found: Found) -> Verdict {
        self.is_looking = false;
        let is_wanted = self.wanted.is_some_and(|since| since <= found.began);
        if is_wanted {
            self.wanted = None;
        }
        let Some(limit) = self.limit else { return Verdict::Fine };
        if !found.is_whole && !found.taken.is_beyond(limit) {
            // Nothing is known that was not known before. Not at once again, as it fails at once.
            self.asked_at = Some(found.ended + IDLE_TICK);
            self.in_part += 1;
            if self.in_part >= IN_PART_MAX {
                self.in_part = 0;
                return Verdict::TooMuch;
            }
            return if self.is_over() { Verdict::StillOver(is_wanted) } else { Verdict::Fine };
        }
        self.in_part = 0;
        self.last = Some(found);
        if !found.taken.is_beyond(limit) {
            self.state = State::Within;
            return Verdict::Fine;
        }
        let least = match self.state {
            State::Within => None,
            State::Over(None) => Some(found.taken),
            State::Over(Some(least)) if found.taken.is_beyond(least.and(SLACK)) => None,
            State::Over(Some(least)) => {
                Some(Taken { bytes: least.bytes.min(found.taken.bytes), files: least.files.min(found.taken.files) })
            }
        };
        self.state = State::Over(least);
        if least.is_some() {
            return Verdict::StillOver(is_wanted);
        }
        // How much it is counts from when nothing runs any more.
        self.last = None;
        self.asked_at = None;
        Verdict::TooMuch
    }

    /// Why turns end, and programs.
    pub fn cause(&self, taken: Taken) -> String {
        let limit = self.limit.unwrap_or_default();
        Reached::Disk.cause(if !taken.is_beyond(limit) {
            "what workspace and HOME take can not be measured".to_owned()
        } else if taken.bytes > limit.bytes {
            format!("workspace and HOME take more than the {} MiB that the session may have", limit.bytes >> 20)
        } else {
            format!("workspace and HOME have more than the {} files that the session may have", limit.files)
        })
    }
}

/// The thread that looks.
#[derive(Debug)]
struct Measurer {
    asks: threads::Sender<Option<Taken>>,
}

impl Measurer {
    fn start(state: PathBuf, to: mpsc::Sender<Input>) -> io::Result<Self> {
        let (asks, asked) = threads::channel();
        std::thread::Builder::new().name("disk".to_owned()).spawn(move || {
            while let Ok(most) = asked.recv() {
                // Without a driver there is nobody to tell.
                if to.blocking_send(Input::Measured(look(&state, most))).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { asks })
    }

    /// Looks, to the end or until it is too much.
    fn look(&self, most: Option<Taken>) -> bool {
        self.asks.send(most).is_ok()
    }
}

/// Looks through the folders of a sandbox.
fn look(state: &Path, most: Option<Taken>) -> Found {
    let began = Instant::now();
    // Before, so that what is taken meanwhile counts as taken since.
    let filled = Filled::of(state);
    let (mut taken, mut is_whole) = (Taken::default(), true);
    for name in FOLDERS {
        if let Err(error) = walk::add(state, name, most, &mut taken) {
            is_whole = false;
            tracing::warn!(folder = name, %error, "what is on the disk can not be measured now, trying again");
        }
    }
    let is_all = !most.is_some_and(|most| taken.is_beyond(most));
    if is_all && let Ok(stat) = nix::sys::stat::stat(state) {
        match held::bytes(stat.st_dev) {
            Some(bytes) => taken.bytes = taken.bytes.saturating_add(bytes),
            None => is_whole = false,
        }
    }
    Found { taken, is_whole, is_all, filled, began, ended: Instant::now() }
}
