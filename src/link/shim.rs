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
//!   Setup, Unpack + chunks, Turn … ─▶
//!     ◀─────────────── Done | Failed   (to what carries an `op`)
//!     ◀─────────────── Events
//!   Ack {through} ──────────────────▶  (stored: the shim forgets them)
//! ```
//!
//! Both ends speak any version from [`OLDEST_PROTOCOL`] on: the daemon lowers itself to what the
//! shim says, since the shim may be older than the daemon but is never replaced while it runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::wire::event::Kind;
use crate::wire::message::TurnOptions;
use crate::wire::{SandboxId, SessionId, TurnId};

/// The version that this build speaks.
pub const PROTOCOL: u32 = 1;
/// The oldest version that this build understands.
pub const OLDEST_PROTOCOL: u32 = 1;

/// Names a request that is answered by `Done` or `Failed`. Unique in one connection.
pub type Op = u64;

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
    /// Changes what later turns may use.
    Configure {
        /// The new state of all options.
        options: SessionOptions,
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
    /// All events up to this number are stored.
    Ack {
        /// The number.
        through: u64,
    },
    /// Ends the runtime in good order, then everything in the sandbox, then the shim.
    Stop,
}

/// What a sandbox is made of, before it belongs to a session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Room {
    /// The runtime's program on the host; it appears inside as [`RUNTIME_INSIDE`].
    pub runtime: String,
    /// Size of `/tmp` in bytes.
    pub tmp_bytes: u64,
}

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
}

/// Where model calls go. The key never enters the sandbox.
#[derive(Clone, Deserialize, Serialize)]
pub struct Gateway {
    /// Address of the model API, `http://…` or `https://…`, without `/v1`.
    pub base_url: String,
    /// Sent as `x-api-key`; without one, calls go out with none and the model API refuses them.
    pub api_key: Option<String>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = if self.api_key.is_some() { "set" } else { "none" };
        f.debug_struct("Gateway").field("base_url", &self.base_url).field("api_key", &key).finish()
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
    /// Unique to this life of the shim: its events are numbered anew in each.
    pub incarnation: Uuid,
    /// The session it was set up for.
    pub session: Option<SessionId>,
    /// Whether the workspace is unpacked (in this life of the shim or, by a marker, before it).
    pub unpacked: bool,
    /// The turn that runs.
    pub turn: Option<TurnId>,
    /// Number of the newest event; 0 before the first.
    pub newest: u64,
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnEnd {
    /// The turn.
    pub turn_id: TurnId,
    /// How it ended.
    pub state: EndState,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
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
