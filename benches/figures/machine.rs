//! What is read from the machine itself: facts, processes, memory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// The cgroup of all sandboxes.
const SANDBOXES: &str = "/sys/fs/cgroup/ash.slice/ash-sandbox.slice";
/// How long anything is waited for.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        if Instant::now() > end {
            bail!("gave up waiting until {what}");
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
    Ok(())
}

/// Runs a program; gives what it printed, without the line's end.
pub fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The cgroup's folder of a unit among the sandboxes.
pub fn unit_folder(unit: &str) -> PathBuf {
    Path::new(SANDBOXES).join(unit)
}

/// How many sandboxes have processes.
pub fn live_sandboxes() -> usize {
    // Without the folder there never was one.
    let Ok(entries) = std::fs::read_dir(SANDBOXES) else { return 0 };
    entries.filter_map(Result::ok).filter(|entry| entry.file_name().to_string_lossy().starts_with("ash-sandbox-")).count()
}

/// A process.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub id: u32,
    /// Its short name.
    pub name: String,
}

impl Process {
    fn of(id: u32) -> anyhow::Result<Self> {
        let name = std::fs::read_to_string(format!("/proc/{id}/comm"))?.trim().to_owned();
        Ok(Self { id, name })
    }

    fn words(&self, file: &str) -> anyhow::Result<Vec<String>> {
        let text = std::fs::read(format!("/proc/{}/{file}", self.id))?;
        Ok(String::from_utf8_lossy(&text).split_terminator('\0').map(str::to_owned).collect())
    }

    /// Its program and arguments.
    pub fn arguments(&self) -> anyhow::Result<Vec<String>> {
        self.words("cmdline")
    }

    /// Its environment.
    pub fn environment(&self) -> anyhow::Result<Vec<(String, String)>> {
        let words = self.words("environ")?;
        Ok(words
            .iter()
            .filter_map(|word| word.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }

    fn field(&self, file: &str, name: &str) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.id))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{file} has no {name}"))?;
        Ok(line.split_whitespace().next().context("a number")?.parse()?)
    }

    /// Its user.
    pub fn uid(&self) -> anyhow::Result<u64> {
        self.field("status", "Uid:")
    }

    /// Its resident memory: all of it, and its share of what it shares with others. In MiB.
    pub fn memory(&self) -> anyhow::Result<(f64, f64)> {
        let mib = |kib: u64| kib as f64 / 1024.0;
        Ok((mib(self.field("smaps_rollup", "Rss:")?), mib(self.field("smaps_rollup", "Pss:")?)))
    }
}

/// The processes of a sandbox.
pub fn processes_of(sandbox: &str) -> anyhow::Result<Vec<Process>> {
    let file = unit_folder(&format!("ash-sandbox-{sandbox}.service")).join("cgroup.procs");
    let listed = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    // One that ends meanwhile does not count.
    Ok(listed.lines().filter_map(|line| Process::of(line.parse().ok()?).ok()).collect())
}

/// The main process of a service.
pub fn main_process(unit: &str) -> anyhow::Result<Process> {
    Process::of(output("systemctl", &["show", "--property=MainPID", "--value", unit])?.parse()?)
}

/// What a reader has to know to compare figures.
pub fn facts() -> Vec<(&'static str, String)> {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str, by: char| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(by).map(|(_, value)| value.trim().trim_matches('"').to_owned()).unwrap_or_default()
    };
    let said = |program: &str, arguments: &[&str]| {
        let text = output(program, arguments).unwrap_or_else(|error| error.to_string());
        text.lines().next().unwrap_or_default().to_owned()
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        ("processor", format!("{} x {}", processors, field(&file("/proc/cpuinfo"), "model name", ':'))),
        ("kernel", file("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("system", field(&file("/etc/os-release"), "PRETTY_NAME", '=')),
        ("systemd", said("systemctl", &["--version"])),
        ("bubblewrap", said("bwrap", &["--version"])),
        ("runtime", said("claude", &["--version"])),
        ("ash", said("dpkg-query", &["--show", "--showformat=${Version}", "ash"])),
        ("state on", said("stat", &["--file-system", "--format=%T", "/var/lib/ash"])),
        ("load", file("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
    ]
}
