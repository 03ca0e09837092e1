//! What `ashd` and a sandbox's shim say to each other.
//!
//! The shim listens on a socket which its launcher made; `ashd` connects, and connects again
//! after a restart of its own. Both begin with `Hello`. One connection counts at a time: a newer
//! one replaces the older.
//!
//! ```text
//! ashd                              shim
//!   Hello {protocol} ───────────────▶
//!     ◀─────────────── Hello {protocol, what it has, what it is doing}
//!     ◀─────────────── Events (those not acknowledged yet, from the oldest)
//!   Setup, Unpack + chunks, Turn, Answer … ─▶
//!     ◀─────────────── Done | Failed   (to what carries an `op`)
//!     ◀─────────────── Events
//!   Ack {through} ──────────────────▶  (stored: the shim forgets them)
//!   Pack ───────────────────────────▶
//!     ◀─────────────── chunks, as many as were asked for; Events and answers between them
//!   PackMore ───────────────────────▶
//!     ◀─────────────── an empty chunk, Packed
//!   Export ─────────────────────────▶
//!     ◀─────────────── parts with its number, as many as were asked for; others between them
//!   PackMore ───────────────────────▶
//!     ◀─────────────── Done
//!   Run, parts of its input ────────▶  (as many as it has credit for)
//!     ◀─────────────── parts of its output, as many as were asked for
//!     ◀─────────────── Wants           (more parts of its input)
//!   PackMore ───────────────────────▶
//!     ◀─────────────── Ended
//! ```
//!
//! Chunks of a snapshot are sent on credit: a receiver that falls behind asks for no more, the
//! packing waits on its pipe, and all else on the connection goes on.
//!
//! Both ends speak any version from [`OLDEST_PROTOCOL`] on: the daemon lowers itself to what the
//! shim says, since the shim may be older than the daemon but is never replaced while it runs.

mod binding;
mod run;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

pub use self::binding::Binding;
pub use self::run::{Job, Run, RunEnd, Stream};
use crate::wire::event::Kind;
use crate::wire::message::TurnOptions;
use crate::wire::permission::{Behavior, PermissionAnswer};
use crate::wire::price::PriceList;
use crate::wire::terminal::TerminalSize;
use crate::wire::usage::{ModelUsage, Usage};
use crate::wire::weakness::Weakness;
use crate::wire::{PermissionId, SandboxId, SessionId, TurnId};

/// The version that this build speaks.
pub const PROTOCOL: u32 = 5;
/// The version in which [`ToShim::Export`] and [`ToShim::Lay`] came.
pub const BUNDLE_PROTOCOL: u32 = 2;
/// The version in which [`ToShim::Run`] and [`ToShim::Logs`] came.
pub const RUN_PROTOCOL: u32 = 3;
/// The version in which [`ToShim::Gateway`] came.
pub const GATEWAY_PROTOCOL: u32 = 4;
/// The version in which [`Run::terminal`] and [`ToShim::Resize`] came.
pub const TERMINAL_PROTOCOL: u32 = 5;
/// The oldest version that this build understands.
pub const OLDEST_PROTOCOL: u32 = 1;

/// Names a request that is answered by `Done`, `Packed`, `Ended`, `Logs` or `Failed`. Unique in one connection.
pub type Op = u64;

/// Chunks of a snapshot that the shim may send before it is asked for more.
pub const PACK_CREDIT: u32 = 8;
/// `Export`s at a time.
pub const EXPORTS_MAX: usize = 4;
/// `Run`s at a time: so many commands, and so many others.
pub const RUNS_MAX: usize = 8;
/// Parts of the input of a `Run` that the daemon may send before the shim `Wants` more.
pub const INPUT_CREDIT: u32 = 4;
/// Patterns of one `Pack`.
pub const EXCLUDES_MAX: usize = 1000;
/// Bytes of all patterns of one `Pack`.
pub const EXCLUDES_BYTES_MAX: usize = 64 << 10;

/// From `ashd` to the shim.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToShim {
    /// First on each connection.
    Hello {
        /// Newest version that the daemon speaks.
        protocol: u32,
        /// Version of the daemon, for the journal.
        daemon: String,
    },
    /// Brings up bubblewrap and init. Done at once if they are up.
    Open {
        /// Answered under this number.
        op: Op,
        /// What the sandbox is made of.
        room: Room,
    },
    /// Tells whose sandbox this is, and all that the session needs. Holds secrets.
    Setup {
        /// Answered under this number.
        op: Op,
        /// The session.
        setup: Box<Setup>,
    },
    /// Empties the workspace and unpacks a tar archive into it; binary frames with its bytes
    /// follow, and an empty one ends it.
    Unpack {
        /// Answered under this number, when all is written.
        op: Op,
    },
    /// Packs the workspace and the runtime's own state of the conversation into a tar archive with
    /// the roots `work/` and `home/`. Refused while a turn runs or waits, while the workspace is
    /// unpacked, and while the sandbox is not open; a turn that comes meanwhile waits. Chunks follow,
    /// at first [`PACK_CREDIT`]; after an empty one, `Packed`. `Failed` may come instead at any time,
    /// and then what came is good for nothing.
    Pack {
        /// Answered under this number.
        op: Op,
        /// What of the workspace is left out: patterns like those of a `.gitignore`, as
        /// `archive::exclude` says; at most [`EXCLUDES_MAX`] of [`EXCLUDES_BYTES_MAX`] in all.
        excludes: Vec<String>,
    },
    /// Packs the workspace alone, into an archive with the root `work/`, whatever else goes on: files
    /// that change meanwhile are as they are when their turn comes. Parts follow, at first
    /// [`PACK_CREDIT`]; then `Done`. `Failed` may come instead at any time, and then what came is good
    /// for nothing. At most [`EXPORTS_MAX`] at a time. From protocol 2 on.
    Export {
        /// Answered under this number.
        op: Op,
        /// What is left out, as for `Pack`.
        excludes: Vec<String>,
    },
    /// Lays an archive with the root `work/` over the workspace; chunks follow as for `Unpack`. What
    /// has the place of one of its entries goes; all else stays, or goes as well with `replace`. The
    /// runtime and what it started go on. Until it is done the workspace counts as not unpacked, so
    /// whoever breaks off has to restore it. Refused as `Pack` is. From protocol 2 on.
    ///
    /// With `state` it has the root `home/` as well, with what the runtime keeps of a conversation; only for a sandbox in
    /// which nothing runs yet, and whose workspace counts as not unpacked before something else comes as well.
    Lay {
        /// Answered under this number, when all is written.
        op: Op,
        /// Whether the workspace is emptied before.
        replace: bool,
        /// Whether there is a conversation in it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        state: bool,
    },
    /// Asks for more chunks of the archive that is being packed, or more parts of one, or of the output of
    /// a program.
    PackMore {
        /// The packing; one that is over is not minded.
        op: Op,
        /// How many more.
        chunks: u32,
    },
    /// Nobody wants the archive, or the output, any more. The packing ends with `Failed`, if it has not
    /// ended; of a program the process group is killed, and it ends with `Ended`.
    PackStop {
        /// The packing.
        op: Op,
    },
    /// Asks for the last lines that were said in the sandbox. From protocol 3 on.
    Logs {
        /// Answered under this number, by `Logs`.
        op: Op,
        /// Only those behind the one of this index.
        after: Option<u64>,
    },
    /// Runs a program inside, beside the runtime, in the workspace and with the environment of the
    /// session's tools. Parts of its output follow, at first [`PACK_CREDIT`], each with a byte before it
    /// that names its [`Stream`]; then `Ended`. With `input`, parts with the number of the request are its
    /// standard input, at first [`INPUT_CREDIT`], and an empty one ends it. `Failed` if it could not be
    /// started. Its process group is killed when its time is over, when nobody wants its output, and when
    /// the connection breaks. At most [`RUNS_MAX`] at a time. From protocol 3 on.
    Run {
        /// Answered under this number.
        op: Op,
        /// What to run.
        run: Box<Run>,
    },
    /// Changes the size of the terminal of a `Run`. From protocol 5 on.
    Resize {
        /// The number of the `Run`. One that has ended has no size.
        op: Op,
        /// The new size.
        size: TerminalSize,
    },
    /// Empties the workspace and the runtime's own state, and unpacks into them what `Pack` packed;
    /// chunks follow as for `Unpack`. A `Setup` with `resume` then goes on with the conversation.
    Restore {
        /// Answered under this number, when all is written.
        op: Op,
        /// The runtime's own id of the conversation; `None` where it is the session's. So for a
        /// session that goes on with the conversation of another one, the id of that one.
        conversation: Option<String>,
        /// Whether a `Lay` follows, before which the workspace counts as not unpacked.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        more: bool,
    },
    /// Changes what later turns may use.
    Configure {
        /// The new state of all options.
        options: SessionOptions,
    },
    /// Changes what of the network may be reached. Done when it counts, and when the connections that
    /// are not allowed any more are cut.
    Egress {
        /// Answered under this number.
        op: Op,
        /// The new state of all of it.
        egress: Box<Egress>,
    },
    /// Changes where model calls go, and with which key. Done when the next call goes there; those under way
    /// go on. Holds a secret. From protocol 4 on.
    Gateway {
        /// Answered under this number.
        op: Op,
        /// The new state of all of it.
        gateway: Gateway,
    },
    /// Starts the runtime ahead of the first turn.
    Warm,
    /// A message to the agent. A turn id that the shim has seen is ignored.
    Turn(Turn),
    /// Ends the running turn, if it is this one (or whichever it is, for `None`).
    Interrupt {
        /// The turn.
        turn: Option<TurnId>,
    },
    /// Answers a request for permission. Done when the event that tells of it is in the spool;
    /// failed if nothing of this name waits for an answer, or, as `field: reason`, if the answer
    /// makes no sense for what was asked. Then the request goes on waiting.
    Answer {
        /// Answered under this number.
        op: Op,
        /// The request.
        id: PermissionId,
        /// The answer.
        answer: PermissionAnswer,
    },
    /// All events up to this number are stored. Said at the start of a connection about an
    /// incarnation that the daemon knows, it also tells a new life of the shim of events which its
    /// predecessor sent and could not keep, so that their numbers are not used again.
    Ack {
        /// The number.
        through: u64,
    },
    /// Ends the runtime in good order, then everything in the sandbox, then the shim.
    Stop,
}

/// A line that was said in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct LogLine {
    /// Counts up in one life of the shim, from the millisecond in which it began; from 0 in older ones.
    pub index: u64,
    /// Who said it.
    pub level: LogLevel,
    /// What was said, some 1000 characters at most.
    pub text: String,
    /// When, in milliseconds since 1970.
    pub at: i64,
}

/// Who said a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// The runtime, on its standard output.
    Stdout,
    /// The runtime, on its standard error.
    Stderr,
    /// The shim.
    System,
}

/// What a sandbox is made of, before it belongs to a session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Room {
    /// The runtime's program on the host; it appears inside as [`RUNTIME_INSIDE`].
    pub runtime: String,
    /// Size of `/tmp` in bytes.
    pub tmp_bytes: u64,
    /// What of its walls is left out, as the operator accepts it.
    #[serde(default)]
    pub weaknesses: Vec<Weakness>,
}

/// The error of an answer to a request for permission that was answered before, was withdrawn, or
/// never was.
pub const NOT_WAITING: &str = "nothing of this name waits for an answer";
/// The error of a [`ToShim::Run`] beyond [`RUNS_MAX`].
pub const TOO_MANY_RUN: &str = "too many programs are running";
/// The error of a [`ToShim::Run`] where far too much of the disk is taken already, and of a [`ToShim::Lay`] where it is too
/// much, or becomes so.
pub const DISK_FULL: &str =
    "disk: workspace and HOME take more than the session may have; delete files (DELETE …/files), or give it more";
/// Where the runtime's program appears inside a sandbox.
pub const RUNTIME_INSIDE: &str = "/opt/claude/claude";
/// The workspace inside a sandbox.
pub const WORKSPACE_INSIDE: &str = "/work";
/// HOME inside a sandbox.
pub const HOME_INSIDE: &str = "/home/agent";

/// A session as its shim needs to know it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Setup {
    /// The session; also the runtime's own id of the conversation.
    pub session: SessionId,
    /// Name of the agent.
    pub agent: String,
    /// Environment of the runtime beside what Ash sets.
    pub env: BTreeMap<String, String>,
    /// Where model calls go.
    pub gateway: Gateway,
    /// What the turns may use.
    pub options: SessionOptions,
    /// Whether the runtime has a conversation of this session to go on with, in HOME.
    pub resume: bool,
    /// What of the network may be reached. Default: nothing.
    #[serde(default)]
    pub egress: Egress,
}

/// What of the network may be reached beside the model.
///
/// Rules travel as text, in the form of [`wire::egress::Rule`](crate::wire::egress::Rule) and without
/// presets, so that a shim which is older than the daemon knows them all. One that it can not read
/// allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Egress {
    /// The rules, one of which has to name a target.
    pub allow: Vec<String>,
    /// The operator's rules, one of which has to cover it, too.
    pub bound: Vec<String>,
    /// The list of the first rules as people wrote it, for what is said inside.
    pub said: String,
    /// Ranges of addresses that may be reached although they are not public.
    pub private: Vec<String>,
    /// What may be used.
    pub limits: EgressLimits,
}

/// What a sandbox may use of the network beside the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct EgressLimits {
    /// Connections at the same time; more wait.
    pub connections: u32,
    /// Milliseconds without a byte, after which a connection is closed.
    pub idle_ms: u64,
    /// Bytes in a second, of all connections and both directions together.
    pub bytes_per_second: u64,
    /// Bytes in the life of the sandbox, likewise.
    pub bytes: u64,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self { connections: 128, idle_ms: 300_000, bytes_per_second: 64 << 20, bytes: 100 << 30 }
    }
}

/// Where model calls go. The key never enters the sandbox.
#[derive(Clone, Default, Deserialize, Serialize)]
pub struct Gateway {
    /// Address of the model API, `http://…` or `https://…`, without `/v1`.
    pub base_url: String,
    /// Sent as [`Self::auth`] says; without one, calls go out with none and the model API refuses them.
    pub api_key: Option<String>,
    /// How the key is sent.
    #[serde(default)]
    pub auth: KeyAs,
    /// Headers that every call has, over those of the caller.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Path of the call that costs something; `None`: that of the Anthropic API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_path: Option<String>,
    /// Path of the call that counts tokens, likewise; empty where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_tokens_path: Option<String>,
    /// Milliseconds for which a call is tried again while the model API fails. 0: not at all, as before there
    /// was this.
    #[serde(default)]
    pub retry_ms: u64,
    /// Why no call leaves at all; each is answered 401 with this sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Credentials that are bound to hosts. A shim that does not know them leaves them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<Binding>,
}

/// How the key of the model API is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyAs {
    /// As the header `x-api-key`.
    #[default]
    XApiKey,
    /// As `authorization: Bearer`.
    Bearer,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = if self.api_key.is_some() { "set" } else { "none" };
        // What the headers say may be a secret.
        let headers: Vec<_> = self.headers.keys().collect();
        let mut shown = f.debug_struct("Gateway");
        shown
            .field("base_url", &self.base_url)
            .field("api_key", &key)
            .field("auth", &self.auth)
            .field("headers", &headers)
            .field("messages_path", &self.messages_path)
            .field("count_tokens_path", &self.count_tokens_path)
            .field("retry_ms", &self.retry_ms)
            .field("refusal", &self.refusal)
            .field("bindings", &self.bindings)
            .finish()
    }
}

/// What a session's turns may use.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
pub struct SessionOptions {
    /// Model of turns that name none.
    pub model: Option<String>,
    /// The runtime's own word for its permission mode, such as `bypassPermissions`.
    pub permission_mode: String,
    /// Tools that need no permission.
    pub allowed_tools: Vec<String>,
    /// Tools that are taken away.
    pub disallowed_tools: Vec<String>,
    /// Beta features of the model API.
    pub betas: Vec<String>,
    /// Definitions of subagents, a JSON object.
    pub subagents: Option<Box<RawValueEq>>,
    /// The subagent that leads.
    pub initial_agent: Option<String>,
    /// Whether somebody can be asked for permission, and for how long; `None`: what would be asked
    /// is refused.
    #[serde(default)]
    pub ask: Option<Ask>,
    /// Rules that were granted for the session when it asked, oldest first. A runtime that runs has
    /// them already; a shim remembers those granted through it.
    #[serde(default)]
    pub granted: Vec<String>,
    /// What the turns may take.
    #[serde(default)]
    pub limits: RunLimits,
}

/// What turns may take, as far as the shim holds them to it. What is not there is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct RunLimits {
    /// Milliseconds of one turn.
    pub turn_ms: Option<u64>,
    /// Open files of one process. Counts for the next process of the runtime, before the next turn.
    pub open_files: Option<u32>,
    /// Bytes of one file, likewise.
    pub file_bytes: Option<u64>,
    /// Bytes that are read of the runtime in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_rate: Option<u64>,
    /// Tokens and money.
    pub budget: Budget,
    /// Bytes of workspace and HOME.
    pub disk_bytes: Option<u64>,
    /// Files and folders of both, where their bytes are limited.
    pub disk_files: Option<u64>,
}

/// What all turns of a session together may take of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Budget {
    /// Tokens of every kind.
    pub tokens: Option<u64>,
    /// Millionths of a US dollar.
    pub cost: Option<u64>,
    /// Prices, where money is limited.
    pub prices: PriceList,
    /// What turns took before this life of the shim; `None`: what was said last.
    pub before: Option<BTreeMap<String, ModelUsage>>,
}

/// How requests for permission are put to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ask {
    /// Milliseconds after which the answer below is given; `None`: never.
    pub timeout_ms: Option<u64>,
    /// The answer when nobody gave one.
    pub on_timeout: Behavior,
}

/// JSON that is passed on as it came; equal when the bytes are.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(transparent)]
pub struct RawValueEq(pub Box<RawValue>);

impl PartialEq for RawValueEq {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// A message to the agent.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Turn {
    /// The turn.
    pub id: TurnId,
    /// Text or content blocks, exactly as the caller sent them.
    pub content: Box<RawValue>,
    /// What the turn asks for beside its text.
    pub options: TurnOptions,
}

/// From the shim to `ashd`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FromShim {
    /// First on each connection, in answer to the daemon's.
    Hello(ShimState),
    /// A request was carried out.
    Done {
        /// Its number.
        op: Op,
    },
    /// A request was not carried out.
    Failed {
        /// Its number.
        op: Op,
        /// Why, as a fragment that fits after "failed: ".
        error: String,
    },
    /// The archive has been sent, and is whole.
    Packed {
        /// The packing.
        op: Op,
        /// The runtime's own id of the conversation in it, where that is not the session's.
        conversation: Option<String>,
        /// What model calls took that is on the bill of no turn yet. It counts if the sandbox is left
        /// now, together with what the shim still has to tell.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        leftover: BTreeMap<String, ModelUsage>,
    },
    /// A program that was run has ended, and all of its output was sent. From protocol 3 on.
    Ended {
        /// Its number.
        op: Op,
        /// How it ended.
        end: RunEnd,
    },
    /// Lines that were said in the sandbox, oldest first. From protocol 3 on.
    Logs {
        /// Who asked.
        op: Op,
        /// The lines, of which a shim keeps some thousand.
        lines: Vec<LogLine>,
    },
    /// More parts of the input of a program are taken. From protocol 3 on.
    Wants {
        /// Its number.
        op: Op,
        /// How many more.
        parts: u32,
    },
    /// What happened, in order, without gaps.
    Events {
        /// The events.
        events: Vec<ShimEvent>,
    },
}

/// What a shim has and does.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct ShimState {
    /// The version that both ends now speak.
    pub protocol: u32,
    /// Version of the shim.
    pub version: String,
    /// The sandbox.
    pub sandbox: SandboxId,
    /// Whose events follow. A shim that finds the spool of one before it goes on with its numbers
    /// and its incarnation, and says `session: None` with `newest` above 0; otherwise a new one.
    pub incarnation: Uuid,
    /// The session it was set up for.
    pub session: Option<SessionId>,
    /// Whether the workspace is unpacked (in this life of the shim or, by a marker, before it).
    pub unpacked: bool,
    /// The turn that runs.
    pub turn: Option<TurnId>,
    /// Number of the newest event; 0 before the first.
    pub newest: u64,
    /// Number of the newest event that was acknowledged, which it has no more. `None`: a shim that
    /// does not say it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acked: Option<u64>,
    /// Tasks that the runtime has in the background, while no turn needs to run. `None`: a shim that
    /// does not say it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<u32>,
    /// How the sandbox is confined. `None`: a shim that does not say it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confined: Option<Box<Confined>>,
    /// Milliseconds since it started. `None`: a shim that does not say it yet, and knows no [`RunLimits`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Whether a program that `starts` has ended in its life, and not with a connection. `None`: a shim that does not say it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<bool>,
}

/// How a sandbox is confined. But for the first field it is what the kernel says of its shim, of which
/// what is inside has no more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Confined {
    /// What of its walls it was made without; `None` before it is made.
    pub without: Option<Vec<Weakness>>,
    /// Its user; the lowest, if it has several.
    pub uid: u32,
    /// Its capabilities, those included which a program that it starts could get, as bits by the
    /// kernel's numbers.
    pub capabilities: u64,
    /// Whether no program that it starts gains rights.
    pub no_new_privileges: bool,
    /// Whether its system calls are filtered.
    pub seccomp: bool,
    /// The AppArmor profile that it is under.
    pub apparmor: Option<String>,
    /// Whether its shim holds it to the limit of its disk.
    #[serde(default)]
    pub counts_disk: bool,
}

/// Something that happened in the sandbox.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct ShimEvent {
    /// Counts from 1 in one incarnation, without gaps.
    pub n: u64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The turn it belongs to.
    pub turn: Option<TurnId>,
    /// What it is.
    pub kind: Kind,
    /// Its data as one line of JSON, in the shape that [`Kind`] says.
    pub data: Box<RawValue>,
}

/// Data of [`Kind::TurnEnded`] as the shim sends it; `ashd` adds the session.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnEnd {
    /// The turn.
    pub turn_id: TurnId,
    /// How it ended.
    pub state: EndState,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What it took, without its price; `None` for a turn that never began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndState {
    /// With an answer.
    Completed,
    /// The model or the runtime reported an error.
    Failed,
    /// It was interrupted, or its processes ended.
    Interrupted,
    /// It was taken from the queue before it began.
    Cancelled,
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    /// Messages are not tagged within, as serde can not read raw JSON from such a message.
    #[test]
    fn raw_json_travels_as_it_is() {
        let content = RawValue::from_string(r#"[{"n": 1e1000, "text":"\u00e4"}]"#.to_owned()).expect("JSON");
        let turn = Turn { id: TurnId::new(), content, options: TurnOptions::default() };
        let bytes = serde_json::to_vec(&ToShim::Turn(turn.clone())).expect("written");
        let Ok(ToShim::Turn(read)) = serde_json::from_slice(&bytes) else { panic!("{}", String::from_utf8_lossy(&bytes)) };
        assert_eq!((read.id, read.content.get()), (turn.id, turn.content.get()));

        let data = to_raw_value(&[1, 2]).expect("raw");
        let event = ShimEvent { n: 1, at: 2, turn: None, kind: Kind::Text, data };
        let bytes = serde_json::to_vec(&FromShim::Events { events: vec![event] }).expect("written");
        let Ok(FromShim::Events { events }) = serde_json::from_slice(&bytes) else {
            panic!("{}", String::from_utf8_lossy(&bytes))
        };
        assert_eq!((events[0].n, events[0].data.get()), (1, "[1,2]"));

        let options = SessionOptions {
            subagents: Some(Box::new(RawValueEq(to_raw_value(&serde_json::json!({"a": {}})).expect("raw")))),
            ..SessionOptions::default()
        };
        let bytes = serde_json::to_vec(&ToShim::Configure { options: options.clone() }).expect("written");
        let Ok(ToShim::Configure { options: read }) = serde_json::from_slice(&bytes) else { panic!("can not be read") };
        assert_eq!(read, options);
    }
}
