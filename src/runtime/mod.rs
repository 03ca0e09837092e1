//! Agent runtimes: the programs that are the agents.
//!
//! An [`Adapter`] knows one runtime's command line and its language on standard input and output.
//! It does no I/O and starts nothing: its owner (the shim) runs the process, gives each line to
//! [`Adapter::read`] and performs the [`Output`]s that come back. So adapters are tested on
//! recorded lines.
//!
//! One adapter serves one session over all processes of its runtime:
//!
//! ```text
//!            launch ──▶ process runs ──▶ begin(turn) ──▶ read(line)* ──▶ Output::TurnOver
//!              ▲                            ▲                                   │
//!              │                            └───────── next turn, same process ─┤
//!              └── ended ◀── process ended, or does not serve the next turn ◀───┘
//! ```
//!
//! A runtime that asks for permission waits in [`Output::Asked`], with an event that says what for.
//! Its owner gives the answer ([`Adapter::answer`]) or says that nobody gave one
//! ([`Adapter::timed_out`]); where neither is needed any more, [`Output::Settled`] says so. Each
//! event that asks is followed by exactly one that says what came of it.
//!
//! `claude` is the only runtime yet; the Agent Client Protocol is the second one planned.

pub mod claude;

use std::fmt;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::link::shim::{SessionOptions, Turn, TurnEnd};
use crate::wire::event::Kind;
use crate::wire::message::TurnOptions;
use crate::wire::permission::PermissionAnswer;
use crate::wire::{PermissionId, TurnId};

/// Longest line that a runtime may write. Together with what is put around it, it has to fit
/// into one frame.
pub const LINE_MAX: usize = crate::link::frame::BODY_MAX - (64 << 10);

/// One runtime, for one session. See the module's documentation.
pub trait Adapter: Send + fmt::Debug {
    /// Paths below HOME in which the runtime keeps conversations. They are part of a snapshot, and
    /// all of HOME that is. Asked before there is a session.
    fn state() -> &'static [&'static str]
    where
        Self: Sized;

    /// The name under which the runtime is reported.
    fn name(&self) -> &'static str;

    /// How to start a process that can serve a turn with these options. From here on, the adapter
    /// speaks with that process.
    fn launch(&mut self, session: &SessionOptions, turn: &TurnOptions) -> Launch;

    /// Whether the process that runs can serve a turn with these options.
    fn serves(&self, session: &SessionOptions, turn: &TurnOptions) -> bool;

    /// Gives a turn to the process: what to write to it. One turn is given at a time.
    fn begin(&mut self, session: &SessionOptions, turn: &Turn) -> Vec<u8>;

    /// Asks the process to end the running turn: what to write to it.
    fn interrupt(&mut self) -> Vec<u8>;

    /// Reads a line that the process wrote, without its end.
    fn read(&mut self, line: Vec<u8>) -> Result<Vec<Output>, BadLine>;

    /// Takes the answer to a request for permission. After an error the request goes on waiting, if
    /// it did.
    fn answer(&mut self, id: PermissionId, answer: &PermissionAnswer) -> Result<Vec<Output>, AnswerError>;

    /// Hears that nobody answered a request for permission in time; nothing comes of one that does
    /// not wait.
    fn timed_out(&mut self, id: PermissionId) -> Vec<Output>;

    /// Hears that the process ended, or could not be started.
    fn ended(&mut self, end: &ProcessEnd) -> Ended;

    /// The turn that runs in the process: the one given, or one that the runtime began by itself.
    fn running(&self) -> Option<TurnId>;

    /// Tasks that the process has in the background, which go on when no turn runs.
    fn background(&self) -> u32;
}

/// How to start a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment that this runtime needs, beside what every runtime gets.
    pub env: Vec<(String, String)>,
    /// What to write to it first.
    pub opening: Vec<u8>,
}

/// What an adapter wants done.
#[derive(Debug)]
pub enum Output {
    /// Something happened.
    Event(Event),
    /// The process is to read this.
    Write(Vec<u8>),
    /// The process is ready; its runtime has this version.
    Ready {
        /// As the runtime says it.
        version: String,
    },
    /// The turn is over, and how. Its end is the last event of it, which the owner makes of this
    /// after it has put the turn's bill in.
    TurnOver(TurnEnd),
    /// The conversation goes on under another id from here.
    Conversation(String),
    /// A request for permission waits, whose event was put out before.
    Asked {
        /// The request.
        id: PermissionId,
        /// After this time, the adapter is to hear that nobody answered; `None`: never.
        timeout: Option<Duration>,
    },
    /// A request for permission does not wait any more.
    Settled(PermissionId),
}

/// An event before it is numbered.
#[derive(Debug, Clone)]
pub struct Event {
    /// The turn it belongs to.
    pub turn: Option<TurnId>,
    /// What it is.
    pub kind: Kind,
    /// Its data, one line of JSON.
    pub data: Box<RawValue>,
}

impl Event {
    /// An event whose data are made here.
    pub fn new<T: serde::Serialize>(turn: Option<TurnId>, kind: Kind, data: &T) -> Self {
        // Fails only for maps with keys that are no text and for types that refuse, of which
        // there are none here.
        let data = serde_json::value::to_raw_value(data).unwrap_or_default();
        Self { turn, kind, data }
    }
}

/// What a process of a runtime does next, after one ended.
#[derive(Debug)]
pub enum Ended {
    /// Nothing of it is left to tell.
    Over(Vec<Output>),
    /// The turn never began; it can begin in a new process.
    Again {
        /// What is left to tell of others.
        outputs: Vec<Output>,
        /// A program to run inside before that.
        repair: Option<Vec<String>>,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessEnd {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// Why it was ended or not started, if that was the shim's doing.
    pub reason: Option<String>,
    /// The last lines of its standard error.
    pub stderr: String,
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.reason, self.signal, self.code) {
            (Some(reason), _, _) => f.write_str(reason),
            (None, Some(signal), _) => write!(f, "signal {signal}"),
            (None, None, Some(code)) => write!(f, "exit status {code}"),
            (None, None, None) => f.write_str("the sandbox ended"),
        }?;
        let said = self.stderr.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ");
        if self.reason.is_none() && !said.is_empty() { write!(f, ": {said}") } else { Ok(()) }
    }
}

/// Why an answer to a request for permission was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It was answered before, was withdrawn, or never was.
    #[error("{}", crate::link::shim::NOT_WAITING)]
    NotWaiting,
    /// The answer makes no sense for what was asked.
    #[error("{field}: {reason}")]
    Senseless {
        /// The field of [`PermissionAnswer`] at fault, as in JSON.
        field: &'static str,
        /// Why.
        reason: String,
    },
}

/// A line that is not the runtime's language.
#[derive(Debug, thiserror::Error)]
#[error("runtime wrote a line that is not its protocol: {excerpt:?}")]
pub struct BadLine {
    /// The start of the line.
    pub excerpt: String,
    /// Why.
    pub source: serde_json::Error,
}
