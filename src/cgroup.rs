//! What the kernel counted for the sandbox, from the files of its control group (cgroup-v2).
//!
//! The control group is that of the sandbox's unit, in which the shim itself is; the daemon looks at it
//! from outside. A shim that some
//! other launcher started is in somebody else's, whose figures say nothing about the sandbox.
//! What a host does not count (a controller that is not there, an older kernel) has no figure.

use std::fs;
use std::path::{Path, PathBuf};

use crate::wire::SandboxId;

/// Where systemd mounts cgroup-v2 (file-hierarchy(7)).
const MOUNT: &str = "/sys/fs/cgroup";

/// Where the units of sandboxes are below that, as `ash-sandbox.slice` lies in `ash.slice`.
const SLICE: &str = "ash.slice/ash-sandbox.slice";

/// The control group of a sandbox.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
}

/// What it counted since it was made, and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Microseconds of processor time.
    pub cpu_us: Option<u64>,
    /// Bytes that it holds in memory.
    pub memory: Option<u64>,
    /// The most bytes that it ever held. Linux 5.19.
    pub memory_peak: Option<u64>,
    /// Bytes read from block devices.
    pub read: Option<u64>,
    /// Bytes written to block devices.
    pub written: Option<u64>,
    /// Processes and threads that there are.
    pub tasks: Option<u64>,
    /// Processes killed for want of memory.
    pub kills: Kills,
}

/// How often memory was short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kills {
    /// Processes of the sandbox that were killed, for whatever limit.
    pub killed: u64,
    /// Times that the sandbox's own limit was what could not be kept otherwise.
    pub own: u64,
}

impl Cgroup {
    /// That of this process, if it is the sandbox's.
    pub fn own(sandbox: SandboxId) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let folder = folder_of(&own, &format!("ash-sandbox-{sandbox}.service"))?;
        Some(Self { folder: Path::new(MOUNT).join(folder) })
    }

    /// That of a sandbox's unit, if it has processes. Everybody may read it.
    pub fn of(sandbox: SandboxId) -> Option<Self> {
        let folder = Path::new(MOUNT).join(SLICE).join(format!("ash-sandbox-{sandbox}.service"));
        folder.is_dir().then_some(Self { folder })
    }

    /// All figures of now.
    pub fn figures(&self) -> Figures {
        let io = self.read("io.stat");
        Figures {
            cpu_us: self.read("cpu.stat").and_then(|text| value_of(&text, "usage_usec")),
            memory: self.memory(),
            memory_peak: self.number("memory.peak"),
            read: io.as_deref().map(|text| sum_of(text, "rbytes=")),
            written: io.as_deref().map(|text| sum_of(text, "wbytes=")),
            tasks: self.number("pids.current"),
            kills: self.kills(),
        }
    }

    /// Bytes that it holds in memory now.
    pub fn memory(&self) -> Option<u64> {
        self.number("memory.current")
    }

    /// How often memory was short.
    pub fn kills(&self) -> Kills {
        let text = self.read("memory.events").unwrap_or_default();
        let count = |name| value_of(&text, name).unwrap_or(0);
        Kills { killed: count("oom_kill"), own: count("oom") }
    }

    /// Bytes that it may hold in memory, if that is limited.
    pub fn memory_max(&self) -> Option<u64> {
        self.number("memory.max")
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.read(file)?.trim().parse().ok()
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(file)).ok()
    }
}

/// The folder of the unit below the mount, by what `/proc/self/cgroup` says: the process's own, or
/// one above it.
fn folder_of(text: &str, unit: &str) -> Option<PathBuf> {
    let path = Path::new(text.lines().find_map(|line| line.strip_prefix("0::/"))?);
    path.ancestors().find(|above| above.file_name().is_some_and(|name| name == unit)).map(Path::to_owned)
}

/// The number in a line of `NAME NUMBER`.
fn value_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The sum of `NAME=NUMBER` over the lines of all devices.
fn sum_of(text: &str, name: &str) -> u64 {
    let numbers = text.split_whitespace().filter_map(|word| word.strip_prefix(name)?.parse().ok());
    numbers.fold(0, u64::saturating_add)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder with files as the kernel writes them.
    pub fn fixture(files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroup) {
        let folder = tempfile::tempdir().expect("folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("written");
        }
        let cgroup = Cgroup { folder: folder.path().to_owned() };
        (folder, cgroup)
    }

    #[test]
    fn only_the_sandboxs_own_unit_counts() {
        let unit = "ash-sandbox-0190a0b0-0000-7000-8000-000000000001.service";
        let slice = "ash.slice/ash-sandbox.slice";
        let cases = [
            (format!("0::/{slice}/{unit}\n"), Some(format!("{slice}/{unit}"))),
            (format!("1:name=systemd:/x\n0::/{slice}/{unit}/below/it\n"), Some(format!("{slice}/{unit}"))),
            (format!("0::/{unit}\n"), Some(unit.to_owned())),
            (format!("0::/{slice}\n"), None),
            (format!("0::/{slice}/x{unit}\n"), None),
            (format!("5:memory:/{slice}/{unit}\n"), None),
            ("0::/user.slice/user-0.slice/session-1.scope\n".to_owned(), None),
            ("0::/\n".to_owned(), None),
            (String::new(), None),
        ];
        for (text, folder) in cases {
            assert_eq!(folder_of(&text, unit), folder.map(PathBuf::from), "{text}");
        }
        assert!(Cgroup::own(SandboxId::new()).is_none(), "a test is in no sandbox's");
    }

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        let (_folder, cgroup) = fixture(&[
            ("cpu.stat", "usage_usec 2500123\nuser_usec 2000000\nsystem_usec 500123\nnr_periods 0\n"),
            ("memory.current", "123456\n"),
            ("memory.peak", "234567\n"),
            ("memory.max", "268435456\n"),
            ("pids.current", "7\n"),
            ("memory.events", "low 0\nhigh 0\nmax 12\noom 2\noom_kill 3\noom_group_kill 0\n"),
            (
                "io.stat",
                "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=7 dios=0\n259:0 \n8:0 rbytes=1 wbytes=2 rios=0 wios=0\n",
            ),
        ]);
        let figures = Figures {
            cpu_us: Some(2_500_123),
            memory: Some(123_456),
            memory_peak: Some(234_567),
            read: Some(4097),
            written: Some(8194),
            tasks: Some(7),
            kills: Kills { killed: 3, own: 2 },
        };
        assert_eq!((cgroup.figures(), cgroup.memory_max()), (figures, Some(256 << 20)));
    }

    #[test]
    fn what_is_not_there_has_no_figure() {
        let (_folder, cgroup) = fixture(&[]);
        assert_eq!((cgroup.figures(), cgroup.memory_max()), (Figures::default(), None));
        let (_folder, cgroup) = fixture(&[
            ("cpu.stat", "user_usec 1\n"),
            ("memory.max", "max\n"),
            ("memory.current", "-1\n"),
            ("memory.events", "low\n"),
            ("io.stat", ""),
        ]);
        let figures = Figures { read: Some(0), written: Some(0), ..Figures::default() };
        assert_eq!((cgroup.figures(), cgroup.memory_max()), (figures, None));
    }
}
