//! Events that the daemon has not stored yet, in the order of their numbers.
//!
//! ```text
//! acknowledged │ window (memory and disk) │ disk only │ tail (memory, not on disk yet) │
//!            acked                                 written                          newest
//!              └──── what a link may send ┘
//! ```
//!
//! Every event is written to a file before it can be sent, so it survives the death of the shim:
//! the next shim on the same folder goes on with the same incarnation and numbers, from the oldest
//! event that is not acknowledged. Nothing is synced to the disk. The page cache survives the
//! death of a process, and what has to survive the death of the host is in the daemon's database,
//! which is told soon.
//!
//! Memory holds the oldest events only, and each acknowledgement makes room for those after them.
//! So a link has at most a window of events under way, and a daemon that is away for long costs
//! disk, not memory. Beyond the bound of the disk, the spool's owner stops taking output from the
//! runtime. What must be said nevertheless (that a turn ended) still goes in, so nothing is ever
//! dropped.
//!
//! While the disk takes nothing, events are kept in memory, in a smaller bound, and are sent from
//! there; they are written when it takes something again. A shim that is killed in that time
//! leaves files that may end before what the daemon stored. That is why an acknowledgement beyond
//! the newest event of a shim that has said nothing new is believed: numbers go on after it.
//!
//! When a file can not be read when a shim starts, a new incarnation begins. When it can not be
//! read back later, the same happens as soon as all events before the damage are acknowledged;
//! until then, what comes stays in memory.

mod disk;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::Path;

use uuid::Uuid;

use self::disk::Disk;
pub use self::segment::Record;
use crate::link::shim::ShimEvent;
use crate::report;
use crate::runtime::Event;

/// Bytes of unacknowledged events on disk beyond which the runtime is not read.
pub const FULL: u64 = 256 << 20;
/// What a record takes in memory beside its bytes, about.
const OVERHEAD: usize = 64;

/// Bounds in bytes.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Of all files; beyond it the runtime is not read.
    full: u64,
    /// Of a file, after which a new one is begun.
    segment: u64,
    /// Of the oldest events, kept in memory to be sent.
    window: usize,
    /// Of events that wait to be written.
    unflushed: usize,
    /// Of events that can not be written; beyond it the runtime is not read.
    unwritten: usize,
}

impl Limits {
    fn of(full: u64) -> Self {
        Self { full, segment: (full / 8).min(4 << 20), window: 1 << 20, unflushed: 1 << 20, unwritten: 32 << 20 }
    }
}

/// The unacknowledged events. See the module's documentation.
#[derive(Debug)]
pub struct Spool {
    disk: Disk,
    limits: Limits,
    /// The oldest events, without gaps from `acked` on.
    window: VecDeque<Record>,
    window_bytes: usize,
    /// The newest events, without gaps up to `newest`, as far as they are not in the window.
    tail: VecDeque<Record>,
    acked: u64,
    /// Number of the newest event that is on disk or need not be any more.
    written: u64,
    unwritten_bytes: usize,
    /// Number of the newest event ever; 0 before the first.
    newest: u64,
    /// Newest number that an earlier life of the shim left; `None` once there are newer ones.
    found: Option<u64>,
    /// Whether the disk takes nothing.
    is_failing: bool,
    /// Whether what is only on disk can not be read.
    is_broken: bool,
}

impl Spool {
    /// Goes on with what an earlier life of the shim left in this folder, or begins anew. Beyond
    /// `full` bytes on disk the runtime is not to be read.
    pub fn open(folder: &Path, full: u64) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let boot = boot.and_then(|id| Uuid::try_parse(id.trim()).ok()).unwrap_or_default();
        Self::open_with(folder, Limits::of(full), boot)
    }

    fn open_with(folder: &Path, limits: Limits, boot: Uuid) -> Self {
        let disk = Disk::open(folder, limits.segment, boot);
        let (first, next) = disk.range();
        let mut spool = Self {
            disk,
            limits,
            window: VecDeque::new(),
            window_bytes: 0,
            tail: VecDeque::new(),
            acked: first - 1,
            written: next - 1,
            unwritten_bytes: 0,
            newest: next - 1,
            found: (next > 1).then_some(next - 1),
            is_failing: false,
            is_broken: false,
        };
        if let Some(newest) = spool.found {
            let waiting = newest - spool.acked;
            tracing::info!(incarnation = %spool.incarnation(), newest, waiting, "going on with the events of an earlier shim");
        }
        spool.refill();
        spool
    }

    /// Whose events these are: the life of the shim, and those before it whose numbers it goes on
    /// with. It changes when events are found to be lost; a daemon then has to hear `Hello` anew.
    pub const fn incarnation(&self) -> Uuid {
        self.disk.incarnation()
    }

    /// Numbers an event and keeps it. `at` is the time in milliseconds since 1970. Where very many come before
    /// the next [`Spool::flush`], they are written as they come.
    pub fn push(&mut self, at: i64, event: Event) {
        let Event { turn, kind, data } = event;
        self.keep(ShimEvent { n: self.newest + 1, at, turn, kind, data });
        if self.unwritten_bytes >= self.limits.unflushed {
            self.flush();
        }
    }

    fn keep(&mut self, event: ShimEvent) {
        let record = match Record::new(event.n, |to| serde_json::to_writer(to, &event)) {
            Ok(record) => record,
            // Fails only for what is no JSON, which an event can not be.
            Err(error) => return tracing::error!(%error, "event can not be written down"),
        };
        self.newest = record.n;
        self.found = None;
        self.unwritten_bytes += cost(&record);
        if self.window_end() + 1 == record.n && self.window_bytes < self.limits.window {
            self.window_bytes += cost(&record);
            self.window.push_back(record);
        } else {
            self.tail.push_back(record);
        }
    }

    /// Writes what was pushed to disk. Costs nothing if it is there already.
    pub fn flush(&mut self) {
        if !self.is_failing && !self.is_broken {
            let written = self.write();
            self.note(written);
        }
    }

    /// Whether the disk takes nothing, so that [`Spool::retry`] is to be called now and then.
    pub const fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Tries to write again, after the disk took nothing.
    pub fn retry(&mut self) {
        if !self.is_failing || self.is_broken {
            return;
        }
        let is_idle = self.written == self.newest;
        let mut tried = self.disk.forget(self.acked).and_then(|()| self.write());
        if is_idle && tried.is_ok() {
            // There is nothing to write, and still it is to be known.
            tried = self.disk.probe(self.newest + 1);
        }
        match tried {
            Ok(()) => {
                self.is_failing = false;
                tracing::info!("events can be written to disk again");
            }
            Err(error) => tracing::debug!(%error, "disk takes no events yet"),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.written == self.newest {
            return Ok(());
        }
        let in_window = index(self.written - self.acked).min(self.window.len());
        let records: Vec<_> = self.window.range(in_window..).chain(&self.tail).collect();
        let (count, result) = self.disk.append(&records);
        self.unwritten_bytes -= records[..count].iter().map(|record| cost(record)).sum::<usize>();
        self.written += count as u64;
        while self.tail.pop_front_if(|record| record.n <= self.written).is_some() {}
        if self.tail.is_empty() {
            self.tail.shrink_to_fit();
        }
        result
    }

    /// Takes note of what became of a change on disk.
    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result
            && !self.is_failing
        {
            tracing::error!(%error, "events can not be written to disk, keeping them in memory and trying again");
            self.is_failing = true;
        }
    }

    /// Forgets the events up to this number.
    pub fn ack(&mut self, mut through: u64) {
        if through > self.newest {
            if self.found.take().is_some() {
                tracing::warn!(through, newest = self.newest, "daemon has events that the spool lost, going on after them");
                self.newest = through;
            } else {
                tracing::warn!(through, newest = self.newest, "acknowledgement of events that never were, ignoring");
                through = self.newest;
            }
        }
        if through <= self.acked {
            return;
        }
        let mut unwritten = 0;
        while let Some(record) = self.window.pop_front_if(|record| record.n <= through) {
            self.window_bytes -= cost(&record);
            unwritten += if record.n > self.written { cost(&record) } else { 0 };
        }
        while let Some(record) = self.tail.pop_front_if(|record| record.n <= through) {
            unwritten += cost(&record);
        }
        self.unwritten_bytes -= unwritten;
        (self.acked, self.written) = (through, self.written.max(through));
        if !self.is_broken {
            let forgotten = self.disk.forget(through);
            self.note(forgotten);
        }
        self.refill();
        if self.window.is_empty() {
            // A large turn must not leave its memory behind in an idle shim.
            self.window.shrink_to_fit();
        }
    }

    /// Takes events into the window that are behind it, once there is room for many.
    fn refill(&mut self) {
        if self.window_bytes > self.limits.window / 2 {
            return;
        }
        while self.window_bytes < self.limits.window && self.window_end() < self.newest {
            let next = self.window_end() + 1;
            let records = match self.tail.pop_front_if(|record| record.n == next) {
                Some(record) => vec![record],
                None if self.is_broken => break,
                None => match self.disk.read(next, self.limits.window - self.window_bytes) {
                    Ok(records) => records,
                    Err(error) => {
                        tracing::error!(error = report::chain(&error), event = next, "events can not be read back from disk");
                        self.is_broken = true;
                        break;
                    }
                },
            };
            for record in records {
                self.window_bytes += cost(&record);
                self.window.push_back(record);
            }
        }
        if self.is_broken && self.window.is_empty() {
            self.begin_anew();
        }
    }

    /// Gives up what can not be read back. What came since gets numbers of a new incarnation.
    fn begin_anew(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        let lost = tail.front().map_or(self.newest, |record| record.n - 1) - self.acked;
        self.disk.begin_anew();
        tracing::error!(lost, incarnation = %self.incarnation(), "events are lost, beginning anew");
        (self.acked, self.written, self.newest, self.unwritten_bytes) = (0, 0, 0, 0);
        self.is_broken = false;
        for record in tail {
            match serde_json::from_slice::<ShimEvent>(record.body()) {
                Ok(event) => self.keep(ShimEvent { n: self.newest + 1, ..event }),
                Err(error) => tracing::error!(%error, event = record.n, "event can not be numbered anew"),
            }
        }
        self.flush();
    }

    /// Number of the newest event in the window, or of the one before it.
    fn window_end(&self) -> u64 {
        self.acked + self.window.len() as u64
    }

    /// Whether there is something to send after number `n` now.
    pub fn has_after(&self, n: u64) -> bool {
        !self.window.is_empty() && self.window_end() > n
    }

    /// The events to send after number `n`, of about `bytes` together; at least one if there is
    /// one. They are written before.
    pub fn batch(&mut self, n: u64, bytes: usize) -> Vec<&Record> {
        self.flush();
        let mut room = bytes;
        let mut batch = Vec::new();
        for record in self.window.range(index(n.saturating_sub(self.acked)).min(self.window.len())..) {
            if !batch.is_empty() && cost(record) > room {
                break;
            }
            room = room.saturating_sub(cost(record));
            batch.push(record);
        }
        batch
    }

    /// Whether the runtime is not to be read now.
    pub fn is_full(&self) -> bool {
        self.disk.bytes() >= self.limits.full || self.unwritten_bytes >= self.limits.unwritten
    }

    /// Whether all events are acknowledged.
    pub const fn is_empty(&self) -> bool {
        self.acked == self.newest
    }

    /// Number of the newest event that was acknowledged; 0 before the first.
    pub const fn acked(&self) -> u64 {
        self.acked
    }

    /// Number of the newest event; 0 before the first.
    pub const fn newest(&self) -> u64 {
        self.newest
    }
}

fn cost(record: &Record) -> usize {
    record.size() + OVERHEAD
}

/// A distance of numbers as an index.
fn index(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}
