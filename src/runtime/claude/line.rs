//! The lines that `claude` writes, as far as they are looked at.
//!
//! Parts that are only passed on stay raw text. Unknown types, subtypes and fields are ignored:
//! their set grows with every release.

use std::borrow::Cow;

use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Entries of a list that is looked at entry by entry, of which the program writes some ten. An empty text takes
/// three bytes on a line and eight times as many as a value.
const LIST_MAX: usize = 1000;

/// The first `MAX` entries of a list; the rest is passed over.
pub struct First<T, const MAX: usize> {
    pub entries: Vec<T>,
    /// Whether those are all.
    pub is_all: bool,
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for First<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Entries<T, MAX> {
            type Value = First<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while entries.len() < MAX {
                    match list.next_element()? {
                        Some(entry) => entries.push(entry),
                        None => return Ok(First { entries, is_all: true }),
                    }
                }
                let mut is_all = true;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    is_all = false;
                }
                Ok(First { entries, is_all })
            }
        }
        deserializer.deserialize_seq(Entries(PhantomData))
    }
}

/// The first entries of a list.
fn first<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    First::<T, LIST_MAX>::deserialize(deserializer).map(|list| list.entries)
}

/// What every line says.
#[derive(Debug, Deserialize)]
pub struct Head<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub subtype: Option<Cow<'a, str>>,
    #[serde(default, rename = "isReplay")]
    pub is_replay: bool,
}

/// `system`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct System<'a> {
    pub session_id: Option<String>,
    pub claude_code_version: Option<String>,
    #[serde(borrow, deserialize_with = "first")]
    pub mcp_servers: Vec<McpServer<'a>>,
    #[serde(deserialize_with = "first")]
    pub user_message_uuids: Vec<String>,
}

/// `background_tasks_changed`: those that run.
#[derive(Debug, Deserialize)]
pub struct BackgroundTasks {
    pub tasks: Vec<IgnoredAny>,
}

/// A row of `mcp_servers`.
#[derive(Debug, Deserialize)]
pub struct McpServer<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    #[serde(default)]
    pub error: Option<String>,
}

/// `command_lifecycle`.
#[derive(Debug, Deserialize)]
pub struct CommandLifecycle<'a> {
    pub command_uuid: String,
    #[serde(borrow)]
    pub state: Cow<'a, str>,
}

/// `stream_event`.
#[derive(Debug, Deserialize)]
pub struct StreamEvent<'a> {
    #[serde(borrow)]
    pub event: StreamPart<'a>,
}

/// Its event.
#[derive(Debug, Deserialize)]
pub struct StreamPart<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub delta: Option<&'a RawValue>,
}

/// A delta, or a content block.
#[derive(Debug, Deserialize)]
pub struct Block<'a> {
    #[serde(borrow, rename = "type", default)]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub tool_use_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub content: Option<&'a RawValue>,
    #[serde(default)]
    pub is_error: Option<bool>,
}

/// `assistant` and `user`.
#[derive(Debug, Deserialize)]
pub struct Message<'a> {
    #[serde(borrow)]
    pub message: Content<'a>,
    #[serde(borrow, default)]
    pub tool_use_result: Option<&'a RawValue>,
}

/// The message of the model API within.
#[derive(Debug, Deserialize)]
pub struct Content<'a> {
    #[serde(borrow)]
    pub content: &'a RawValue,
}

/// Blocks of a message that become events of their own, each of which costs far more than the few bytes that it can
/// have on a line. The program writes one at a time, the model API some ten.
pub const BLOCKS_MAX: usize = 10_000;

impl Content<'_> {
    /// Its blocks; none if the content is a plain text, or more than [`BLOCKS_MAX`].
    pub fn blocks(&self) -> Result<Vec<&RawValue>, serde_json::Error> {
        if !self.content.get().starts_with('[') {
            return Ok(Vec::new());
        }
        let First { entries, is_all } = serde_json::from_str::<First<&RawValue, BLOCKS_MAX>>(self.content.get())?;
        if is_all {
            return Ok(entries);
        }
        tracing::warn!(most = BLOCKS_MAX, "a message of the runtime has too many blocks, passing it on as a whole only");
        Ok(Vec::new())
    }
}

/// A `tool_use_result` that is an object.
#[derive(Debug, Deserialize)]
pub struct ToolOutput<'a> {
    #[serde(borrow, default)]
    pub stdout: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub stderr: Option<&'a RawValue>,
}

/// `result`.
#[derive(Debug, Default, Deserialize)]
pub struct TurnResult<'a> {
    #[serde(borrow, default)]
    pub subtype: Cow<'a, str>,
    #[serde(default)]
    pub is_error: bool,
    #[serde(default)]
    pub num_turns: u64,
    #[serde(borrow, default)]
    pub result: Option<&'a RawValue>,
    #[serde(default)]
    pub terminal_reason: Option<String>,
    #[serde(default)]
    pub api_error_status: Option<u16>,
    #[serde(default, deserialize_with = "first")]
    pub errors: Vec<String>,
    #[serde(default, deserialize_with = "first")]
    pub user_message_uuids: Vec<String>,
}

impl TurnResult<'_> {
    /// Whether somebody ended the turn before its time.
    pub fn is_interrupted(&self) -> bool {
        self.terminal_reason.as_deref().is_some_and(|reason| reason.starts_with("aborted"))
    }

    /// Why the turn failed, as one sentence; `None` if it did not.
    pub fn failure(&self) -> Option<String> {
        if self.is_interrupted() || !(self.is_error || self.subtype.starts_with("error")) {
            return None;
        }
        let text = self.result.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok()).filter(|text| !text.is_empty());
        let cause = if self.errors.is_empty() { text } else { Some(self.errors.join("; ")) };
        let cause = cause.unwrap_or_else(|| format!("the runtime ended the turn with {}", self.subtype));
        Some(match self.api_error_status {
            Some(status) if !cause.contains(&status.to_string()) => format!("{cause} (status {status})"),
            _ => cause,
        })
    }
}

/// `control_response`.
#[derive(Debug, Deserialize)]
pub struct ControlResponse<'a> {
    #[serde(borrow)]
    pub response: ControlOutcome<'a>,
}

/// Its outcome.
#[derive(Debug, Deserialize)]
pub struct ControlOutcome<'a> {
    #[serde(borrow)]
    pub request_id: Cow<'a, str>,
    #[serde(borrow, default)]
    pub response: Option<&'a RawValue>,
    #[serde(default)]
    pub error: Option<String>,
}

/// The answer to `initialize`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Initialized {
    pub claude_code_version: Option<String>,
}

/// `control_request`.
#[derive(Debug, Deserialize)]
pub struct ControlRequest<'a> {
    pub request_id: String,
    #[serde(borrow)]
    pub request: Asked<'a>,
}

/// What is asked.
#[derive(Debug, Deserialize)]
pub struct Asked<'a> {
    #[serde(borrow)]
    pub subtype: Cow<'a, str>,
    #[serde(default)]
    pub tool_name: Option<String>,
    #[serde(default)]
    pub server_name: Option<String>,
    #[serde(borrow, default)]
    pub message: Option<RpcId<'a>>,
}

/// The id of a JSON-RPC message.
#[derive(Debug, Deserialize)]
pub struct RpcId<'a> {
    #[serde(borrow, default)]
    pub id: Option<&'a RawValue>,
}

/// `control_cancel_request`.
#[derive(Debug, Deserialize)]
pub struct ControlCancel<'a> {
    #[serde(borrow)]
    pub request_id: Cow<'a, str>,
}

/// A `control_request` that asks for permission.
#[derive(Debug, Deserialize)]
pub struct ToolLine<'a> {
    #[serde(borrow)]
    pub request: ToolRequest<'a>,
}

/// `can_use_tool`. All raw: a part of another shape must not leave the whole without an answer.
#[derive(Debug, Deserialize)]
pub struct ToolRequest<'a> {
    #[serde(borrow, default)]
    pub tool_name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub tool_use_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub description: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub blocked_path: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub permission_suggestions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub requires_user_interaction: Option<&'a RawValue>,
}

/// One of `permission_suggestions`.
#[derive(Debug, Deserialize)]
pub struct Suggestion<'a> {
    #[serde(borrow, rename = "type", default)]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub behavior: Cow<'a, str>,
    #[serde(default, deserialize_with = "first")]
    pub rules: Vec<Rule>,
}

/// A rule about permission, as the program says it in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    pub tool_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_content: Option<String>,
}

/// The input of `AskUserQuestion`, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub struct Questions {
    pub questions: Vec<Question>,
}

/// One of them.
#[derive(Debug, Deserialize)]
pub struct Question {
    pub question: String,
}
