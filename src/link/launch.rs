//! What `ashd` asks of `ash-launcher`: lines of ASCII on a Unix stream socket.
//!
//! ```text
//! 7 start 0198…c1 session=0198…a0 agent=hello memory=1073741824 cpu=200 tasks=256 disk=5368709120
//! 7 ok fresh=yes running=no
//! 8 stop 0198…c1 grace_ms=5000
//! 9 list
//! 9 item 0198…c1 running=yes
//! 9 ok
//! 8 err failed ash-sandbox-0198…c1.service: …
//! ```
//!
//! The asker chooses the tag, and answers come in any order. A request has one answer that ends
//! it (`ok` or `err`); `list` has items before it. The end that runs as root reads this, so there
//! is exactly one spelling of each request: fixed words in a fixed order with single spaces,
//! plain decimal numbers within [`bounds`], ids in their one form. Anything else is refused.
//! No path, command or property name can be said in this language.

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
    /// Processor time.
    pub cpu: Percent,
    /// Processes and threads.
    pub tasks: u32,
    /// Workspace and HOME together.
    pub disk: ByteCount,
}

/// The least and the most that a request may say; the launcher refuses what lies outside.
pub mod bounds {
    use std::ops::RangeInclusive;

    pub use crate::wire::quantity::bounds::{CPU, DISK, MEMORY, TASKS};

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
        within("disk", self.disk.0, &bounds::DISK)
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
}

/// What the launcher answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done. Ends all requests but `start`.
    Done,
    /// Done. Ends `start`.
    Started {
        /// Whether the folder was made by this start.
        fresh: bool,
        /// Whether the processes ran already.
        running: bool,
    },
    /// One sandbox of a list.
    Item {
        /// The sandbox.
        sandbox: SandboxId,
        /// Whether it has processes.
        running: bool,
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
            Self::List => None,
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
            Self::Item { sandbox, running } => format!("{tag} item {sandbox} running={}\n", yes_no(*running)),
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
        let mut words = Words::new(text);
        let answer = match words.next("answer")? {
            "ok" => Self::Started { fresh: words.truth("fresh")?, running: words.truth("running")? },
            "item" => Self::Item { sandbox: words.sandbox()?, running: words.truth("running")? },
            _ => return Err(LineError::Word),
        };
        words.end()?;
        Ok(answer)
    }
}

fn limit_fields(Limits { memory, cpu, tasks, disk }: &Limits) -> String {
    format!("memory={} cpu={} tasks={tasks} disk={}", memory.0, cpu.0, disk.0)
}

const fn yes_no(truth: bool) -> &'static str {
    if truth { "yes" } else { "no" }
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

    fn sandbox(&mut self) -> Result<SandboxId, LineError> {
        self.next("sandbox")?.parse().map_err(|_| LineError::Value("sandbox"))
    }

    fn number<N: std::str::FromStr>(&mut self, key: &'static str) -> Result<N, LineError> {
        self.field(key, key, decimal)
    }

    fn truth(&mut self, key: &'static str) -> Result<bool, LineError> {
        self.field(key, key, |text| match text {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        })
    }

    fn limits(&mut self) -> Result<Limits, LineError> {
        Ok(Limits {
            memory: ByteCount(self.number("memory")?),
            cpu: Percent(self.number("cpu")?),
            tasks: self.number("tasks")?,
            disk: ByteCount(self.number("disk")?),
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn sandbox() -> impl Strategy<Value = SandboxId> {
        any::<u128>().prop_map(|bits| SandboxId::from_uuid(Uuid::from_u128(bits)))
    }

    fn limits() -> impl Strategy<Value = Limits> {
        (bounds::MEMORY, bounds::CPU, bounds::TASKS, bounds::DISK).prop_map(|(memory, cpu, tasks, disk)| Limits {
            memory: ByteCount(memory),
            cpu: Percent(cpu),
            tasks,
            disk: ByteCount(disk),
        })
    }

    fn request() -> impl Strategy<Value = Request> {
        prop_oneof![
            (sandbox(), any::<u128>(), "[a-zA-Z0-9_-]{1,255}", limits()).prop_map(|(sandbox, session, agent, limits)| {
                Request::Start(Spec { sandbox, session: SessionId::from_uuid(Uuid::from_u128(session)), agent, limits })
            }),
            (sandbox(), bounds::GRACE_MS).prop_map(|(sandbox, grace_ms)| Request::Stop { sandbox, grace_ms }),
            sandbox().prop_map(Request::Kill),
            sandbox().prop_map(Request::Freeze),
            sandbox().prop_map(Request::Thaw),
            (sandbox(), limits()).prop_map(|(sandbox, limits)| Request::Limit(sandbox, limits)),
            Just(Request::List),
            sandbox().prop_map(Request::Remove),
        ]
    }

    fn answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            Just(Answer::Done),
            any::<(bool, bool)>().prop_map(|(fresh, running)| Answer::Started { fresh, running }),
            (sandbox(), any::<bool>()).prop_map(|(sandbox, running)| Answer::Item { sandbox, running }),
            "[ -~]{0,200}".prop_map(Answer::Refused),
            "[ -~]{0,200}".prop_map(Answer::Failed),
        ]
    }

    fn read(line: &str) -> Result<Request, LineError> {
        Request::parse(split_tag(line.as_bytes())?.1)
    }

    proptest! {
        #[test]
        fn requests_read_back(tag: Tag, request in request()) {
            let line = request.encode(tag).expect("within bounds");
            prop_assert!(line.len() < LINE_MAX / 2, "{} bytes", line.len());
            let (read_tag, words) = split_tag(line.strip_suffix('\n').expect("ends").as_bytes()).expect("has a tag");
            prop_assert_eq!(read_tag, tag);
            prop_assert!(words.starts_with(request.verb()));
            prop_assert_eq!(Request::parse(words), Ok(request));
        }

        #[test]
        fn answers_read_back(tag: Tag, answer in answer()) {
            let line = answer.encode(tag);
            let (read_tag, words) = split_tag(line.strip_suffix('\n').expect("ends").as_bytes()).expect("has a tag");
            prop_assert_eq!(read_tag, tag);
            prop_assert_eq!(Answer::parse(words), Ok(answer));
        }

        #[test]
        fn any_sentence_makes_one_line_that_fits(tag: Tag, why: String) {
            let line = Answer::Failed(why).encode(tag);
            prop_assert!(line.len() <= LINE_MAX);
            let (_, words) = split_tag(line.strip_suffix('\n').expect("ends").as_bytes()).expect("has a tag");
            prop_assert!(matches!(Answer::parse(words), Ok(Answer::Failed(_))));
        }

        #[test]
        fn any_bytes_are_read_or_refused(line: Vec<u8>) {
            if let Ok((_, words)) = split_tag(&line) {
                // What is read has one spelling, so that it is written the same again.
                if let Ok(request) = Request::parse(words) {
                    prop_assert_eq!(request.encode(0).expect("was checked"), format!("0 {words}\n"));
                }
                if let Ok(answer) = Answer::parse(words) {
                    prop_assert_eq!(answer.encode(0), format!("0 {words}\n"));
                }
            }
        }

        #[test]
        fn a_changed_byte_is_refused_or_another_request(request in request(), at: prop::sample::Index, byte in b' '..=b'~') {
            let line = request.encode(1).expect("within bounds");
            let mut bytes = line.trim_end().as_bytes().to_vec();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            if let Ok((tag, words)) = split_tag(&bytes) && let Ok(other) = Request::parse(words) {
                bytes.push(b'\n');
                prop_assert_eq!(other.encode(tag).expect("was checked").into_bytes(), bytes);
            }
        }
    }

    #[test]
    fn only_the_one_spelling_is_taken() {
        let id = "0198c1a5-0000-7000-8000-000000000001";
        let limits = "memory=1073741824 cpu=200 tasks=256 disk=5368709120";
        assert!(read(&format!("1 start {id} session={id} agent=a {limits}")).is_ok());
        let cases = [
            ("", LineError::Tag),
            ("1", LineError::Tag),
            ("01 list", LineError::Tag),
            ("+1 list", LineError::Tag),
            ("4294967296 list", LineError::Tag),
            (" 1 list", LineError::Tag),
            ("1 list\r", LineError::Tag),
            ("1 list\u{e9}", LineError::Tag),
            ("1 ", LineError::Word),
            ("1  list", LineError::Word),
            ("1 LIST", LineError::Word),
            ("1 exec", LineError::Word),
            ("1 list ", LineError::Surplus),
            ("1 kill", LineError::Missing("sandbox")),
            ("1 kill ../../etc", LineError::Value("sandbox")),
            ("1 kill 0198C1A5-0000-7000-8000-000000000001", LineError::Value("sandbox")),
            (&format!("1 kill {id} {id}"), LineError::Surplus),
            (&format!("1 stop {id}"), LineError::Missing("grace_ms")),
            (&format!("1 stop {id} grace_ms=-1"), LineError::Value("grace_ms")),
            (&format!("1 stop {id} grace_ms=007"), LineError::Value("grace_ms")),
            (
                &format!("1 stop {id} grace_ms=60001"),
                LineError::Spec(SpecError::Bound { name: "grace_ms", value: 60_001, least: 0, most: 60_000 }),
            ),
            (&format!("1 start {id} agent=a session={id} {limits}"), LineError::Missing("session")),
            (&format!("1 start {id} session={id} agent= {limits}"), LineError::Spec(SpecError::Agent)),
            (&format!("1 start {id} session={id} agent=a/b {limits}"), LineError::Spec(SpecError::Agent)),
            (&format!("1 start {id} session={id} agent={} {limits}", "a".repeat(256)), LineError::Spec(SpecError::Agent)),
            (&format!("1 start {id} session={id} agent=a {limits} ExecStart=/bin/sh"), LineError::Surplus),
            (
                &format!("1 limit {id} memory=1 cpu=200 tasks=256 disk=5368709120"),
                LineError::Spec(SpecError::Bound { name: "memory", value: 1, least: 128 << 20, most: 1 << 50 }),
            ),
            (&format!("1 limit {id} memory=18446744073709551616 cpu=1 tasks=1 disk=1"), LineError::Value("memory")),
        ];
        for (line, error) in cases {
            assert_eq!(read(line), Err(error), "{line:?}");
        }
    }

    #[test]
    fn a_request_that_would_be_refused_is_not_written() {
        let limits = Limits { memory: ByteCount(1 << 30), cpu: Percent(200), tasks: 256, disk: ByteCount(1 << 30) };
        let mut spec = Spec { sandbox: SandboxId::new(), session: SessionId::new(), agent: "a\n2 kill".to_owned(), limits };
        assert_eq!(Request::Start(spec.clone()).encode(1), Err(SpecError::Agent));
        spec.agent = "a".to_owned();
        spec.limits.tasks = 1;
        assert!(matches!(Request::Start(spec).encode(1), Err(SpecError::Bound { name: "tasks", .. })));
        let stop = Request::stop(SandboxId::new(), Duration::from_secs(3600));
        assert!(stop.encode(1).expect("is cut").ends_with("grace_ms=60000\n"));
    }

    #[tokio::test]
    async fn lines_are_read_one_by_one_and_bounded() {
        let mut from = tokio::io::BufReader::with_capacity(3, &b"1 list\n\n2 list\n"[..]);
        for line in [&b"1 list"[..], b"", b"2 list"] {
            assert_eq!(read_line(&mut from).await.expect("reads").as_deref(), Some(line));
        }
        assert_eq!(read_line(&mut from).await.expect("ends"), None);

        let cut = read_line(&mut &b"1 lis"[..]).await.expect_err("ends inside a line");
        assert_eq!(cut.kind(), std::io::ErrorKind::UnexpectedEof);

        let endless = [b'x'; 4 * LINE_MAX];
        let mut from = tokio::io::BufReader::with_capacity(7, &endless[..]);
        let long = read_line(&mut from).await.expect_err("is too long");
        assert_eq!(long.kind(), std::io::ErrorKind::InvalidData);
        assert!(from.get_ref().len() > 2 * LINE_MAX, "stops reading at the limit");
    }
}
