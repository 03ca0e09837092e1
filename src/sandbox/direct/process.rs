//! Processes that may not be our children: who they are, what they started, whether they live.

use std::collections::HashSet;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Figures;

/// A process by its number and the time it started, which name it for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    pid: i32,
    /// Clock ticks since boot, see proc_pid_stat(5).
    started: u64,
}

struct Stat {
    state: char,
    parent: i32,
    session: i32,
    started: u64,
    /// Of its own processor time, and that of children it has waited for.
    ticks: u64,
}

/// Microseconds of a tick in `/proc`, which are hundredths of a second on all kinds of processors (time(7)).
const TICK_US: u64 = 10_000;

impl Process {
    /// The living process of this number.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = stat(pid)?;
        (!is_over(stat.state)).then_some(Self { pid, started: stat.started })
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.pid)
    }

    /// Whether it has not ended. One that ended and was not waited for is not alive.
    pub fn is_alive(&self) -> bool {
        Self::find(self.pid).as_ref() == Some(self)
    }

    /// Whether these stand in its command line, one after the other.
    pub fn has_arguments(&self, wanted: &[&str]) -> bool {
        let Ok(line) = fs::read(format!("/proc/{}/cmdline", self.pid)) else { return false };
        let arguments: Vec<&[u8]> = line.split(|&b| b == 0).collect();
        arguments.windows(wanted.len()).any(|window| window.iter().zip(wanted).all(|(a, b)| *a == b.as_bytes()))
    }

    /// Sends it a signal, unless it ended.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive()
            && let Err(error) = kill(self.pid(), signal)
        {
            tracing::debug!(pid = self.pid, %signal, error = %error, "signal was not sent");
        }
    }
}

/// What these processes started, and what those started, and so on; and everyone in the session
/// of this leader, as whoever lost its parent keeps its session.
pub fn family(of: &HashSet<Process>, leader: Process) -> Vec<Process> {
    let mut parents: HashSet<i32> = of.iter().filter(|process| process.is_alive()).map(|process| process.pid).collect();
    let mut others: Vec<(i32, Stat)> = all().filter(|(_, stat)| !is_over(stat.state)).collect();
    let mut found = Vec::new();
    loop {
        let belongs = |stat: &Stat| parents.contains(&stat.parent) || stat.session == leader.pid;
        let (members, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|(_, stat)| belongs(stat));
        if members.is_empty() {
            return found;
        }
        parents = members.iter().map(|(pid, _)| *pid).collect();
        found.extend(members.into_iter().map(|(pid, stat)| Process { pid, started: stat.started }));
        others = rest;
    }
}

/// What a shim and all that it started take now, as far as it has not ended.
pub fn figures(shim: Process) -> Figures {
    let others = family(&HashSet::from([shim]), shim);
    let mut sum = Figures { cpu_us: Some(0), memory: Some(0), tasks: Some(0), ..Figures::default() };
    for process in [shim].into_iter().chain(others.into_iter().filter(|other| *other != shim)) {
        let add = |to: &mut Option<u64>, more: Option<u64>| *to = to.zip(more).map(|(to, more)| to.saturating_add(more)).or(*to);
        add(&mut sum.cpu_us, stat(process.pid).map(|stat| stat.ticks * TICK_US));
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
        let number = |name: &str| -> Option<u64> {
            status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        };
        add(&mut sum.memory, number("VmRSS:").map(|kib| kib << 10));
        add(&mut sum.tasks, number("Threads:"));
    }
    sum
}

fn all() -> impl Iterator<Item = (i32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, stat(pid)?))
    })
}

fn is_over(state: char) -> bool {
    matches!(state, 'Z' | 'X')
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads the fields 3, 4, 6, 14 to 17 and 22. The second one is a name in brackets that may hold anything.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    // Fields 14 to 17.
    let mut ticks = 0_u64;
    for skipped in [7, 0, 0, 0] {
        ticks = ticks.saturating_add(fields.nth(skipped)?.parse().ok()?);
    }
    let started = fields.nth(4)?.parse().ok()?;
    Some(Stat { state, parent, session, started, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_confuse() {
        let line = "7 (a) Z 1 (b) c) S 42 7 6 0 -1 4194560 1 0 0 0 1 2 3 4 20 0 1 0 987654 1 1 1";
        let stat = parse_stat(line).expect("reads");
        assert_eq!((stat.state, stat.parent, stat.session, stat.started, stat.ticks), ('S', 42, 6, 987_654, 10));
        for line in ["", "7 (a", "7 (a) ", "7 (a) S", "7 (a) S x"] {
            assert!(parse_stat(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_process_knows_itself_and_its_children() {
        let pid = i32::try_from(std::process::id()).expect("fits");
        let me = Process::find(pid).expect("lives");
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("starts");
        let number = i32::try_from(child.id()).expect("fits");
        let sleep = Process::find(number).expect("lives");
        assert!(family(&HashSet::from([me]), me).contains(&sleep));
        assert!(!Process { started: sleep.started + 1, ..sleep }.is_alive(), "another one had this number");
        sleep.signal(Signal::SIGKILL);
        child.wait().expect("ends");
        assert!(!sleep.is_alive());
    }
}
