//! What turns take of the host: measured between a turn's begin and its end.
//!
//! ```text
//! begin ──▶ (hear: tools called │ sample: memory now)* ──▶ end ──▶ Usage
//! ```
//!
//! There is no timer, so that a sandbox in which nothing happens costs nothing. The kernel itself
//! keeps the most memory that the sandbox ever held. A turn that did not raise that figure is told
//! the largest of what was seen at its start and end and when the runtime put something out.
//!
//! Two turns can be open at once, one that the runtime began by itself and the one that waits for
//! it: time and figures of the sandbox that both cover are then on both bills. Calls of models and
//! tools never are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cgroup::{Cgroup, Figures};
use crate::runtime::Event;
use crate::wire::TurnId;
use crate::wire::event::Kind;
use crate::wire::limits::Reached;
use crate::wire::usage::{ModelCalls, ModelUsage, Usage};

/// How often the memory is looked up at most while the runtime puts something out.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// The bills of turns that run.
#[derive(Debug)]
pub struct Bills {
    /// `None` where the sandbox has no control group of its own.
    cgroup: Option<Cgroup>,
    open: Vec<Bill>,
    sampled_at: Option<Instant>,
}

#[derive(Debug)]
struct Bill {
    turn: TurnId,
    begun: Instant,
    before: Figures,
    /// Most memory that was seen.
    memory: Option<u64>,
    tool_calls: u64,
}

impl Bills {
    /// No bills yet.
    pub const fn new(cgroup: Option<Cgroup>) -> Self {
        Self { cgroup, open: Vec::new(), sampled_at: None }
    }

    /// A turn begins. One that begins anew, in another process, goes on.
    pub fn begin(&mut self, turn: TurnId) {
        if self.open.iter().all(|bill| bill.turn != turn) {
            let before = self.cgroup.as_ref().map(Cgroup::figures).unwrap_or_default();
            self.open.push(Bill { turn, begun: Instant::now(), before, memory: before.memory, tool_calls: 0 });
        }
    }

    /// The turns that run, and when each began.
    pub fn running(&self) -> impl Iterator<Item = (TurnId, Instant)> {
        self.open.iter().map(|bill| (bill.turn, bill.begun))
    }

    /// Hears what the runtime's output stands for.
    pub fn hear(&mut self, event: &Event) {
        let Some(turn) = event.turn else { return };
        match event.kind {
            // Only the runtime's own turns begin with what it puts out.
            Kind::TurnStarted => self.begin(turn),
            Kind::ToolUse => {
                if let Some(bill) = self.open.iter_mut().find(|bill| bill.turn == turn) {
                    bill.tool_calls += 1;
                }
            }
            _ => {}
        }
    }

    /// Looks the memory up, if a turn runs and it was not looked up lately.
    pub fn sample(&mut self) {
        let Some(cgroup) = self.cgroup.as_ref().filter(|_| !self.open.is_empty()) else { return };
        let now = Instant::now();
        if self.sampled_at.is_some_and(|at| now.duration_since(at) < SAMPLE_EVERY) {
            return;
        }
        self.sampled_at = Some(now);
        let memory = cgroup.memory();
        for bill in &mut self.open {
            bill.memory = bill.memory.max(memory);
        }
    }

    /// A turn ends: what it took, with what `models` says. `None` if it never began.
    pub fn end(&mut self, turn: TurnId, models: impl FnOnce() -> BTreeMap<String, ModelUsage>) -> Option<Usage> {
        let place = self.open.iter().position(|bill| bill.turn == turn)?;
        let bill = self.open.swap_remove(place);
        let Bill { begun, before, tool_calls, .. } = bill;
        let after = self.cgroup.as_ref().map(Cgroup::figures).unwrap_or_default();
        let more = |before: Option<u64>, after: Option<u64>| Some(after?.saturating_sub(before?));
        let risen = after.memory_peak.filter(|peak| before.memory_peak.is_some_and(|before| before < *peak));
        Some(Usage {
            wall_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            cpu_ms: more(before.cpu_us, after.cpu_us).map(|us| us / 1000),
            memory_peak_bytes: risen.or_else(|| bill.memory.max(after.memory)),
            io_read_bytes: more(before.read, after.read),
            io_write_bytes: more(before.written, after.written),
            tool_calls,
            models: models(),
            model_calls: ModelCalls::default(),
            cost_usd: None,
        })
    }

    /// Why processes were killed while a turn ran, if that was for want of memory.
    pub fn shortage(&self) -> Option<String> {
        self.open.iter().find_map(|bill| self.shortage_since(bill))
    }

    /// [`Self::shortage`], in one turn.
    pub fn shortage_in(&self, turn: TurnId) -> Option<String> {
        self.open.iter().find(|bill| bill.turn == turn).and_then(|bill| self.shortage_since(bill))
    }

    fn shortage_since(&self, bill: &Bill) -> Option<String> {
        let cgroup = self.cgroup.as_ref()?;
        let (before, now) = (bill.before.kills, cgroup.kills());
        if now.killed <= before.killed {
            return None;
        }
        Some(match cgroup.memory_max() {
            Some(max) if now.own > before.own => {
                Reached::OutOfMemory.cause(format_args!("the sandbox's memory limit of {} MiB was reached", max >> 20))
            }
            _ => Reached::OutOfMemory.cause("the host had none left for the sandbox"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::cgroup::tests::fixture;

    fn event(turn: TurnId, kind: Kind) -> Event {
        Event::new(Some(turn), kind, &json!({}))
    }

    const START: &[(&str, &str)] = &[
        ("cpu.stat", "usage_usec 1000000\n"),
        ("io.stat", "8:0 rbytes=100 wbytes=1000 rios=1 wios=1\n"),
        ("memory.current", "5000\n"),
        ("memory.peak", "9000\n"),
        ("memory.max", "268435456\n"),
        ("memory.events", "oom 1\noom_kill 1\n"),
    ];

    #[test]
    fn a_bill_is_the_difference_between_begin_and_end() {
        let (folder, cgroup) = fixture(START);
        let set = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        let mut bills = Bills::new(Some(cgroup));
        let turn = TurnId::new();
        bills.begin(turn);
        set("cpu.stat", "usage_usec 1002999\n");
        set("io.stat", "8:0 rbytes=150 wbytes=1000\n8:16 rbytes=1 wbytes=5\n");
        bills.begin(turn);
        set("memory.current", "7000\n");
        bills.sample();
        set("memory.current", "8000\n");
        bills.sample();
        set("memory.current", "6000\n");
        for kind in [Kind::ToolUse, Kind::ToolResult, Kind::ToolUse, Kind::Text] {
            bills.hear(&event(turn, kind));
        }
        bills.hear(&event(TurnId::new(), Kind::ToolUse));
        let models: BTreeMap<_, _> = [("m".to_owned(), ModelUsage { calls: 1, ..ModelUsage::default() })].into();
        let usage = bills.end(turn, || models.clone()).expect("it began");
        let wanted = Usage {
            wall_ms: usage.wall_ms,
            cpu_ms: Some(2),
            memory_peak_bytes: Some(7000),
            io_read_bytes: Some(51),
            io_write_bytes: Some(5),
            tool_calls: 2,
            models,
            model_calls: ModelCalls::default(),
            cost_usd: None,
        };
        assert_eq!(usage, wanted, "the second sample came too early, and the peak is of an earlier turn");
        assert_eq!(bills.end(turn, BTreeMap::new), None, "it is over");

        bills.begin(turn);
        set("memory.peak", "9500\n");
        assert_eq!(bills.end(turn, BTreeMap::new).and_then(|usage| usage.memory_peak_bytes), Some(9500));
    }

    #[test]
    fn without_figures_time_and_calls_remain() {
        let mut bills = Bills::new(None);
        let (given, own) = (TurnId::new(), TurnId::new());
        assert_eq!(bills.end(given, || panic!("nothing is taken for a turn that never began")), None);
        bills.begin(given);
        bills.hear(&event(own, Kind::TurnStarted));
        bills.hear(&event(own, Kind::ToolUse));
        bills.sample();
        let usage = bills.end(own, BTreeMap::new).expect("it began");
        assert_eq!(usage, Usage { wall_ms: usage.wall_ms, tool_calls: 1, ..Usage::default() });
        assert_eq!(bills.end(given, BTreeMap::new).map(|usage| usage.tool_calls), Some(0));
        assert_eq!(bills.shortage(), None);
    }

    #[test]
    fn a_shortage_of_memory_is_told_with_its_limit() {
        let (folder, cgroup) = fixture(START);
        let set = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        let mut bills = Bills::new(Some(cgroup));
        let (first, second) = (TurnId::new(), TurnId::new());
        bills.begin(first);
        assert_eq!(bills.shortage(), None, "that was before");
        set("memory.events", "oom 1\noom_kill 2\n");
        let host = "out of memory: the host had none left for the sandbox";
        assert_eq!(bills.shortage().as_deref(), Some(host));
        set("memory.events", "oom 2\noom_kill 2\n");
        let own = "out of memory: the sandbox's memory limit of 256 MiB was reached";
        assert_eq!((bills.shortage().as_deref(), bills.shortage_in(first).as_deref()), (Some(own), Some(own)));
        bills.begin(second);
        assert_eq!((bills.shortage_in(second), bills.shortage_in(TurnId::new())), (None, None));
        bills.end(first, BTreeMap::new);
        assert_eq!(bills.shortage(), None);
    }
}
