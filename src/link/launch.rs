//! What `ashd` asks of `ash-launcher`: lines of ASCII on a Unix stream socket.
//!
//! ```text
//! 7 start 0198…c1 session=0198…a0 agent=hello memory=1073741824 cpu=200 tasks=256 disk=5368709120
//! 7 ok fresh=yes running=no
//! 8 stop 0198…c1 grace_ms=5000
//! 9 list
//! 9 item 0198…c1 running=yes
//! 9 item 0198…c2 running=no ended=signal:9
//! 9 ok
//! 10 host
//! 10 ok stopping=no
//! 11 quota 0198…c1
//! 11 ok quota=yes
//! 8 err failed ash-sandbox-0198…c1.service: …
//! ```
//!
//! The asker chooses the tag, and answers come in any order. A request has one answer that ends
//! it (`ok` or `err`); `list` has items before it. The end that runs as root reads this, so there
//! is exactly one spelling of each request: fixed words in a fixed order with single spaces,
//! plain decimal numbers within [`bounds`], ids in their one form. Anything else is refused. Limits that
//! few sandboxes have stand behind the others, in their order, and are left out by those who have none.
//! No path, command or property name can be said in this language.
//!
//! `quota` is younger than the others: a launcher that was not restarted since refuses it as an unknown word.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use crate::wire::quantity::{ByteCount, Percent};
use crate::wire::{SandboxId, SessionId};

/// Where `ash-launcher` listens.
pub const LAUNCHER_SOCKET: &str = "/run/ash/launcher.sock";
/// Where the sockets of the sandboxes are.
pub const SANDBOX_SOCKETS: &str = "/run/ash/sandboxes";
/// Where their folders are.
pub const SANDBOX_FOLDERS: &str = "/var/lib/ash/sandboxes";
/// Bytes of a line with its newline. The longest request, a `start` for an agent with a name of
/// 255 characters, has less than half of that.
pub const LINE_MAX: usize = 1024;
/// Characters in the name of an agent.
pub const AGENT_NAME_MAX: usize = 255;

/// Where the shim of a sandbox listens.
pub fn sandbox_socket(sandbox: SandboxId) -> PathBuf {
    PathBuf::from(format!("{SANDBOX_SOCKETS}/{sandbox}.sock"))
}

/// Names a request on its connection.
pub type Tag = u32;

/// A sandbox to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The sandbox. Its folder, uid and unit derive from this.
    pub sandbox: SandboxId,
    /// The session, for the journal.
    pub session: SessionId,
    /// Name of the agent, for the journal: 1 to 255 of `a-zA-Z0-9_-`.
    pub agent: String,
    /// What it may use of the host.
    pub limits: Limits,
}

/// What a sandbox may use of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of all its processes with their page cache. Over it the kernel kills.
    pub memory: ByteCount,
    /// Memory over which the kernel takes back what it can; `None`: nothing before the end.
    pub memory_high: Option<ByteCount>,
    /// Swap beside the memory.
    pub swap: ByteCount,
    /// Processor time.
    pub cpu: Percent,
    /// Processes and threads.
    pub tasks: u32,
    /// Workspace and HOME together.
    pub disk: ByteCount,
    /// Share of the disk's time; `None`: the usual one.
    pub io_weight: Option<u32>,
    /// Bytes read from the disk in a second; `None`: as many as it gives.
    pub io_read: Option<ByteCount>,
    /// Bytes written to the disk in a second, likewise.
    pub io_write: Option<ByteCount>,
}

/// Files and folders on so much disk: twice as many as a file system usually has room for (ext4 makes one for
/// each 16 KiB), and enough for the packages of a program on a small one.
pub fn files_of(disk: ByteCount) -> u64 {
    (disk.0 / FILE_BYTES).max(FILES_LEAST)
}

const FILE_BYTES: u64 = 8 << 10;
const FILES_LEAST: u64 = 16_384;

/// The least and the most that a request may say; the launcher refuses what lies outside.
pub mod bounds {
    use std::ops::RangeInclusive;

    pub use crate::wire::quantity::bounds::{CPU, DISK, IO_RATE, IO_WEIGHT, MEMORY, MEMORY_HIGH, SWAP, TASKS};

    /// Milliseconds between asking and killing. Below the 90 s after which systemd kills by
    /// itself (`DefaultTimeoutStopSec=`, systemd-system.conf(5)).
    pub const GRACE_MS: RangeInclusive<u32> = 0..=60_000;
}

/// Why a sandbox can not be described in this language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The agent's name would not fit into a line or a unit.
    #[error("the name of the agent is not 1 to {AGENT_NAME_MAX} of a-z, A-Z, 0-9, _ and -")]
    Agent,
    /// A number is out of its bounds.
    #[error("{name}={value} is outside of {least} to {most}")]
    Bound {
        /// Which one.
        name: &'static str,
        /// What it says.
        value: u64,
        /// The least that is allowed.
        least: u64,
        /// The most that is allowed.
        most: u64,
    },
}

fn within<N: Copy + Into<u64>>(name: &'static str, value: N, bounds: &RangeInclusive<N>) -> Result<(), SpecError> {
    let (value, least, most) = (value.into(), (*bounds.start()).into(), (*bounds.end()).into());
    if (least..=most).contains(&value) { Ok(()) } else { Err(SpecError::Bound { name, value, least, most }) }
}

impl Spec {
    /// Checks name and limits.
    ///
    /// # Errors
    ///
    /// [`SpecError`] names what is wrong.
    pub fn check(&self) -> Result<(), SpecError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if self.agent.is_empty() || self.agent.len() > AGENT_NAME_MAX || !self.agent.bytes().all(plain) {
            return Err(SpecError::Agent);
        }
        self.limits.check()
    }
}

impl Limits {
    /// Checks each limit against its bounds.
    ///
    /// # Errors
    ///
    /// [`SpecError::Bound`] names the first that lies outside.
    pub fn check(&self) -> Result<(), SpecError> {
        within("memory", self.memory.0, &bounds::MEMORY)?;
        within("cpu", self.cpu.0, &bounds::CPU)?;
        within("tasks", self.tasks, &bounds::TASKS)?;
        within("disk", self.disk.0, &bounds::DISK)?;
        if let Some(high) = self.memory_high {
            within("high", high.0, &bounds::MEMORY_HIGH)?;
        }
        within("swap", self.swap.0, &bounds::SWAP)?;
        if let Some(weight) = self.io_weight {
            within("io_weight", weight, &bounds::IO_WEIGHT)?;
        }
        if let Some(rate) = self.io_read {
            within("io_read", rate.0, &bounds::IO_RATE)?;
        }
        if let Some(rate) = self.io_write {
            within("io_write", rate.0, &bounds::IO_RATE)?;
        }
        Ok(())
    }
}

/// What the launcher is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Starts the processes of a sandbox, or finds them running.
    Start(Spec),
    /// Asks them to end, and kills them after a while.
    Stop {
        /// Whose.
        sandbox: SandboxId,
        /// Milliseconds they get.
        grace_ms: u32,
    },
    /// Kills them.
    Kill(SandboxId),
    /// Stops scheduling them.
    Freeze(SandboxId),
    /// Schedules them again.
    Thaw(SandboxId),
    /// Changes the limits of a running sandbox.
    Limit(SandboxId, Limits),
    /// Every sandbox that has processes or a folder.
    List,
    /// Removes the folder of a sandbox without processes.
    Remove(SandboxId),
    /// Whether the host is going down.
    Host,
    /// Whether the file system holds a sandbox to its disk, or those that are to be made.
    Quota(Option<SandboxId>),
}

/// How the processes of a sandbox ended, if not in good order.
///
/// In a line it is one word: `exited:CODE`, `signal:NUMBER`, `out-of-memory`, `timeout` or
/// `failed:RESULT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The shim exited with this status.
    Exited {
        /// 1 to 255.
        code: u8,
    },
    /// A signal ended the shim. SIGKILL is also what the kernel ends a process with when the
    /// sandbox is out of memory and no other process of it is larger.
    Signal {
        /// Its number, see signal(7).
        number: u8,
    },
    /// The host ended all of them for want of memory.
    OutOfMemory,
    /// They ran, or took to end, longer than they may.
    Timeout,
    /// Another failure.
    Failed {
        /// What systemd calls it, such as `resources`: 1 to [`RESULT_MAX`] of `a-z` and `-`. All
        /// else is left out of the line.
        result: String,
    },
}

/// Characters of the [`Failed`](Ended::Failed) result. The longest of systemd 257 has 17.
pub const RESULT_MAX: usize = 32;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited:{code}"),
            Self::Signal { number } => write!(f, "signal:{number}"),
            Self::OutOfMemory => f.write_str("out-of-memory"),
            Self::Timeout => f.write_str("timeout"),
            Self::Failed { result } => {
                let result: String = result.chars().filter(is_of_result).take(RESULT_MAX).collect();
                write!(f, "failed:{}", if result.is_empty() { "unknown" } else { &result })
            }
        }
    }
}

impl Ended {
    fn parse(word: &str) -> Option<Self> {
        let Some((kind, value)) = word.split_once(':') else {
            return match word {
                "out-of-memory" => Some(Self::OutOfMemory),
                "timeout" => Some(Self::Timeout),
                _ => None,
            };
        };
        match kind {
            "exited" => decimal(value).filter(|code| *code > 0).map(|code| Self::Exited { code }),
            "signal" => decimal(value).filter(|number| *number > 0).map(|number| Self::Signal { number }),
            "failed" => {
                let plain = (1..=RESULT_MAX).contains(&value.len()) && value.chars().all(|c| is_of_result(&c));
                plain.then(|| Self::Failed { result: value.to_owned() })
            }
            _ => None,
        }
    }
}

fn is_of_result(c: &char) -> bool {
    c.is_ascii_lowercase() || *c == '-'
}

/// What the launcher answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done. Ends all requests but `start`, `host` and `quota`.
    Done,
    /// Done. Ends `start`.
    Started {
        /// Whether the folder was made by this start.
        fresh: bool,
        /// Whether the processes ran already.
        running: bool,
    },
    /// How it stands with the host. Ends `host`.
    Host {
        /// Whether it is going down: everything that runs on it is being ended.
        stopping: bool,
    },
    /// How it stands with the disk. Ends `quota`.
    Quota {
        /// Whether the file system refuses what is beyond, and not the shim's accounting alone.
        enforced: bool,
    },
    /// One sandbox of a list.
    Item {
        /// The sandbox.
        sandbox: SandboxId,
        /// Whether it has processes.
        running: bool,
        /// If it has none: how they ended, where that was not in good order and is still known.
        ended: Option<Ended>,
    },
    /// Not done, and it would be the same again; a sentence says why.
    Refused(String),
    /// Not done, as the host could not; a sentence says why.
    Failed(String),
}

/// Why a line can not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It has no tag, so that it can not even be answered.
    #[error("line without a tag")]
    Tag,
    /// It ends where a word should stand.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// It goes on after its end.
    #[error("unexpected word after the end")]
    Surplus,
    /// It asks or answers something unknown.
    #[error("unknown word")]
    Word,
    /// A value is not of its kind.
    #[error("{0} is malformed")]
    Value(&'static str),
    /// A value is out of its bounds.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// Splits a line into its tag and the words after it.
///
/// # Errors
///
/// [`LineError::Tag`] when there is none, or when the line is not printable ASCII.
pub fn split_tag(line: &[u8]) -> Result<(Tag, &str), LineError> {
    let text =
        std::str::from_utf8(line).ok().filter(|text| text.bytes().all(|b| matches!(b, b' '..=b'~'))).ok_or(LineError::Tag)?;
    let (tag, words) = text.split_once(' ').ok_or(LineError::Tag)?;
    Ok((decimal(tag).ok_or(LineError::Tag)?, words))
}

impl Request {
    /// The line, with its newline.
    ///
    /// # Errors
    ///
    /// [`SpecError`] when the other end would refuse a value in it.
    pub fn encode(&self, tag: Tag) -> Result<String, SpecError> {
        Ok(match self {
            Self::Start(spec) => {
                spec.check()?;
                let Spec { sandbox, session, agent, limits } = spec;
                format!("{tag} start {sandbox} session={session} agent={agent} {}\n", limit_fields(limits))
            }
            Self::Stop { sandbox, grace_ms } => {
                within("grace_ms", *grace_ms, &bounds::GRACE_MS)?;
                format!("{tag} stop {sandbox} grace_ms={grace_ms}\n")
            }
            Self::Kill(sandbox) => format!("{tag} kill {sandbox}\n"),
            Self::Freeze(sandbox) => format!("{tag} freeze {sandbox}\n"),
            Self::Thaw(sandbox) => format!("{tag} thaw {sandbox}\n"),
            Self::Limit(sandbox, limits) => {
                limits.check()?;
                format!("{tag} limit {sandbox} {}\n", limit_fields(limits))
            }
            Self::List => format!("{tag} list\n"),
            Self::Remove(sandbox) => format!("{tag} remove {sandbox}\n"),
            Self::Host => format!("{tag} host\n"),
            Self::Quota(None) => format!("{tag} quota\n"),
            Self::Quota(Some(sandbox)) => format!("{tag} quota {sandbox}\n"),
        })
    }

    /// Reads the words after the tag.
    ///
    /// # Errors
    ///
    /// [`LineError`] for all that [`encode`](Self::encode) does not write.
    pub fn parse(words: &str) -> Result<Self, LineError> {
        let mut words = Words::new(words);
        let request = match words.next("request")? {
            "start" => {
                let spec = Spec {
                    sandbox: words.sandbox()?,
                    session: words.field("session", "session", |text| text.parse().ok())?,
                    agent: words.field("agent", "agent", |text| Some(text.to_owned()))?,
                    limits: words.limits()?,
                };
                spec.check()?;
                Self::Start(spec)
            }
            "stop" => {
                let (sandbox, grace_ms) = (words.sandbox()?, words.number("grace_ms")?);
                within("grace_ms", grace_ms, &bounds::GRACE_MS)?;
                Self::Stop { sandbox, grace_ms }
            }
            "kill" => Self::Kill(words.sandbox()?),
            "freeze" => Self::Freeze(words.sandbox()?),
            "thaw" => Self::Thaw(words.sandbox()?),
            "limit" => {
                let (sandbox, limits) = (words.sandbox()?, words.limits()?);
                limits.check()?;
                Self::Limit(sandbox, limits)
            }
            "list" => Self::List,
            "remove" => Self::Remove(words.sandbox()?),
            "host" => Self::Host,
            "quota" => Self::Quota(if words.is_over() { None } else { Some(words.sandbox()?) }),
            _ => return Err(LineError::Word),
        };
        words.end()?;
        Ok(request)
    }

    /// The word that names the request.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Stop { .. } => "stop",
            Self::Kill(_) => "kill",
            Self::Freeze(_) => "freeze",
            Self::Thaw(_) => "thaw",
            Self::Limit(..) => "limit",
            Self::List => "list",
            Self::Remove(_) => "remove",
            Self::Host => "host",
            Self::Quota(_) => "quota",
        }
    }

    /// The sandbox it is about, if it is about one.
    pub const fn sandbox(&self) -> Option<SandboxId> {
        match self {
            Self::Start(spec) => Some(spec.sandbox),
            Self::Stop { sandbox, .. }
            | Self::Kill(sandbox)
            | Self::Freeze(sandbox)
            | Self::Thaw(sandbox)
            | Self::Limit(sandbox, _)
            | Self::Remove(sandbox) => Some(*sandbox),
            Self::Quota(sandbox) => *sandbox,
            Self::List | Self::Host => None,
        }
    }

    /// A stop whose grace is cut to what the language can say.
    pub fn stop(sandbox: SandboxId, grace: Duration) -> Self {
        let most = *bounds::GRACE_MS.end();
        Self::Stop { sandbox, grace_ms: u32::try_from(grace.as_millis()).map_or(most, |ms| ms.min(most)) }
    }
}

impl Answer {
    /// The line, with its newline. What does not fit of a sentence is cut, and what is not
    /// printable ASCII is replaced.
    pub fn encode(&self, tag: Tag) -> String {
        match self {
            Self::Done => format!("{tag} ok\n"),
            Self::Started { fresh, running } => format!("{tag} ok fresh={} running={}\n", yes_no(*fresh), yes_no(*running)),
            Self::Host { stopping } => format!("{tag} ok stopping={}\n", yes_no(*stopping)),
            Self::Quota { enforced } => format!("{tag} ok quota={}\n", yes_no(*enforced)),
            Self::Item { sandbox, running: false, ended: Some(ended) } => {
                format!("{tag} item {sandbox} running=no ended={ended}\n")
            }
            Self::Item { sandbox, running, .. } => format!("{tag} item {sandbox} running={}\n", yes_no(*running)),
            Self::Refused(why) => sentence(format!("{tag} err refused "), why),
            Self::Failed(why) => sentence(format!("{tag} err failed "), why),
        }
    }

    /// Reads the words after the tag.
    ///
    /// # Errors
    ///
    /// [`LineError`] for all that [`encode`](Self::encode) does not write.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        if let Some(why) = text.strip_prefix("err refused ") {
            return Ok(Self::Refused(why.to_owned()));
        }
        if let Some(why) = text.strip_prefix("err failed ") {
            return Ok(Self::Failed(why.to_owned()));
        }
        if text == "ok" {
            return Ok(Self::Done);
        }
        if let Some(stopping) = text.strip_prefix("ok stopping=") {
            return truth(stopping).map(|stopping| Self::Host { stopping }).ok_or(LineError::Value("stopping"));
        }
        if let Some(enforced) = text.strip_prefix("ok quota=") {
            return truth(enforced).map(|enforced| Self::Quota { enforced }).ok_or(LineError::Value("quota"));
        }
        let mut words = Words::new(text);
        let answer = match words.next("answer")? {
            "ok" => Self::Started { fresh: words.truth("fresh")?, running: words.truth("running")? },
            "item" => {
                let (sandbox, running) = (words.sandbox()?, words.truth("running")?);
                let ended = if running { None } else { words.last("ended", Ended::parse)? };
                Self::Item { sandbox, running, ended }
            }
            _ => return Err(LineError::Word),
        };
        words.end()?;
        Ok(answer)
    }
}

fn limit_fields(limits: &Limits) -> String {
    let Limits { memory, memory_high, swap, cpu, tasks, disk, io_weight, io_read, io_write } = limits;
    let mut fields = format!("memory={} cpu={} tasks={tasks} disk={}", memory.0, cpu.0, disk.0);
    let more = [
        ("high", memory_high.map(|size| size.0)),
        ("swap", (swap.0 > 0).then_some(swap.0)),
        ("io_weight", io_weight.map(u64::from)),
        ("io_read", io_read.map(|rate| rate.0)),
        ("io_write", io_write.map(|rate| rate.0)),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            fields.push_str(&format!(" {name}={value}"));
        }
    }
    fields
}

const fn yes_no(truth: bool) -> &'static str {
    if truth { "yes" } else { "no" }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn sentence(mut line: String, why: &str) -> String {
    let room = LINE_MAX - line.len() - 1;
    line.extend(why.chars().take(room).map(|c| match c {
        ' '..='~' => c,
        c if c.is_whitespace() => ' ',
        _ => '?',
    }));
    line.push('\n');
    line
}

/// A number in its one spelling: digits, no sign, no leading zero.
fn decimal<N: std::str::FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// The words of a line that were not read yet.
struct Words<'a>(std::str::Split<'a, char>);

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        Self(text.split(' '))
    }

    fn next(&mut self, what: &'static str) -> Result<&'a str, LineError> {
        self.0.next().ok_or(LineError::Missing(what))
    }

    fn field<T>(&mut self, key: &str, what: &'static str, read: impl Fn(&'a str) -> Option<T>) -> Result<T, LineError> {
        let value = self.next(what)?.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')).ok_or(LineError::Missing(what))?;
        read(value).ok_or(LineError::Value(what))
    }

    /// A number that may be missing, and then what comes next is of another name.
    fn optional<N: std::str::FromStr>(&mut self, key: &'static str) -> Result<Option<N>, LineError> {
        let is_next = |word: &str| word.strip_prefix(key).is_some_and(|rest| rest.starts_with('='));
        if self.0.clone().next().is_some_and(is_next) { self.number(key).map(Some) } else { Ok(None) }
    }

    fn is_over(&self) -> bool {
        self.0.clone().next().is_none()
    }

    /// A field that may be missing at the end.
    fn last<T>(&mut self, key: &'static str, read: impl Fn(&'a str) -> Option<T>) -> Result<Option<T>, LineError> {
        if self.is_over() {
            return Ok(None);
        }
        self.field(key, key, read).map(Some)
    }

    fn sandbox(&mut self) -> Result<SandboxId, LineError> {
        self.next("sandbox")?.parse().map_err(|_| LineError::Value("sandbox"))
    }

    fn number<N: std::str::FromStr>(&mut self, key: &'static str) -> Result<N, LineError> {
        self.field(key, key, decimal)
    }

    fn truth(&mut self, key: &'static str) -> Result<bool, LineError> {
        self.field(key, key, truth)
    }

    fn limits(&mut self) -> Result<Limits, LineError> {
        Ok(Limits {
            memory: ByteCount(self.number("memory")?),
            cpu: Percent(self.number("cpu")?),
            tasks: self.number("tasks")?,
            disk: ByteCount(self.number("disk")?),
            memory_high: self.optional("high")?.map(ByteCount),
            swap: match self.optional("swap")? {
                // None is said by leaving it out.
                Some(0) => return Err(LineError::Value("swap")),
                swap => ByteCount(swap.unwrap_or(0)),
            },
            io_weight: self.optional("io_weight")?,
            io_read: self.optional("io_read")?.map(ByteCount),
            io_write: self.optional("io_write")?.map(ByteCount),
        })
    }

    fn end(mut self) -> Result<(), LineError> {
        self.0.next().map_or(Ok(()), |_| Err(LineError::Surplus))
    }
}

/// Reads the next line without its newline; `None` when the other end closed the connection
/// between lines.
///
/// # Errors
///
/// What the connection says, [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) inside a line,
/// [`InvalidData`](std::io::ErrorKind::InvalidData) when it is longer than [`LINE_MAX`].
///
/// # Cancel safety
///
/// Not cancel safe: a task of its own should read.
pub async fn read_line<R: AsyncBufRead + Unpin>(from: &mut R) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let buffer = from.fill_buf().await?;
        if buffer.is_empty() {
            return if line.is_empty() { Ok(None) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) };
        }
        let newline = buffer.iter().position(|&b| b == b'\n');
        let part = newline.unwrap_or(buffer.len());
        if line.len() + part >= LINE_MAX {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "line is too long"));
        }
        line.extend_from_slice(&buffer[..part]);
        from.consume(newline.map_or(part, |at| at + 1));
        if newline.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests;
