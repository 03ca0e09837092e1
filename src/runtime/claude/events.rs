//! From a line of the program to the events it stands for: derived ones first, then the message.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::line::{Block, Message, StreamEvent, ToolOutput, TurnResult};
use crate::runtime::{Event, LINE_MAX, Output};
use crate::wire::TurnId;
use crate::wire::event::{Kind, Name};

/// Calls of tools without an answer whose names are remembered. A turn has some ten at a time.
const TOOLS_MAX: usize = 1000;

/// Bytes of a tool's name and of a call's id, as of a request for permission. What is longer is in the event of the
/// call, and not remembered for its answer.
const NAME_MAX: usize = 256;

/// Such a name. Each byte of it has six on the line at most.
fn name_of(raw: Option<&RawValue>) -> Option<String> {
    let raw = raw.filter(|raw| raw.get().len() <= 6 * NAME_MAX + 2)?;
    serde_json::from_str::<String>(raw.get()).ok().filter(|name| name.len() <= NAME_MAX)
}

/// The line itself, as it came.
pub fn message(turn: Option<TurnId>, text: String) -> Result<Event, serde_json::Error> {
    Ok(Event { turn, kind: Kind::Message, data: RawValue::from_string(text)? })
}

fn push<T: Serialize>(out: &mut Vec<Output>, turn: Option<TurnId>, kind: Kind, data: &T) {
    out.push(Output::Event(Event::new(turn, kind, data)));
}

fn null<'a>() -> &'a RawValue {
    RawValue::NULL
}

/// What a `stream_event` adds.
pub fn delta(turn: Option<TurnId>, text: &str, out: &mut Vec<Output>) {
    #[derive(Serialize)]
    struct Delta<'a> {
        delta: &'a RawValue,
    }
    let Ok(line) = serde_json::from_str::<StreamEvent<'_>>(text) else { return };
    let Some(raw) = line.event.delta.filter(|_| line.event.kind == "content_block_delta") else { return };
    let Ok(block) = serde_json::from_str::<Block<'_>>(raw.get()) else { return };
    match (block.kind.as_ref(), block.text, block.thinking) {
        ("text_delta", Some(text), _) => push(out, turn, Kind::TextDelta, &Delta { delta: text }),
        ("thinking_delta", _, Some(thinking)) => push(out, turn, Kind::ThinkingDelta, &Delta { delta: thinking }),
        (other, ..) => {
            if let Some(name) = Name::parse(other) {
                push(out, turn, Kind::OtherDelta(name), &raw);
            }
        }
    }
}

/// The blocks of an `assistant` message.
pub fn assistant(
    turn: Option<TurnId>,
    text: &str,
    tools: &mut HashMap<String, String>,
    out: &mut Vec<Output>,
) -> Result<(), serde_json::Error> {
    #[derive(Serialize)]
    struct ToolUse<'a> {
        id: &'a RawValue,
        name: &'a RawValue,
        input: &'a RawValue,
    }
    // Not as `json!`, which takes raw text apart and panics where that fails: half of a surrogate
    // pair, say, which JavaScript writes when it cuts a text in two.
    #[derive(Serialize)]
    struct Text<'a> {
        text: &'a RawValue,
    }
    #[derive(Serialize)]
    struct Reasoning<'a> {
        thinking: &'a RawValue,
    }
    let line: Message<'_> = serde_json::from_str(text)?;
    for raw in line.message.blocks()? {
        let block: Block<'_> = serde_json::from_str(raw.get())?;
        match (block.kind.as_ref(), block.text, block.thinking) {
            ("text", Some(text), _) => push(out, turn, Kind::Text, &Text { text }),
            ("thinking", _, Some(thinking)) => push(out, turn, Kind::Reasoning, &Reasoning { thinking }),
            ("tool_use", ..) => {
                if let (Some(id), Some(name)) = (name_of(block.id), name_of(block.name))
                    && tools.len() < TOOLS_MAX
                {
                    tools.insert(id, name);
                }
                let [id, name, input] = [block.id, block.name, block.input].map(|raw| raw.unwrap_or_else(null));
                push(out, turn, Kind::ToolUse, &ToolUse { id, name, input });
            }
            (other, ..) => {
                if let Some(name) = Name::parse(other) {
                    push(out, turn, Kind::OtherBlock(name), &raw);
                }
            }
        }
    }
    Ok(())
}

/// The tool results of a `user` message.
pub fn user(
    turn: Option<TurnId>,
    text: &str,
    tools: &mut HashMap<String, String>,
    out: &mut Vec<Output>,
) -> Result<(), serde_json::Error> {
    #[derive(Serialize)]
    struct ToolResult<'a> {
        tool_use_id: &'a RawValue,
        content: &'a RawValue,
        is_error: bool,
        #[serde(rename = "toolName", skip_serializing_if = "Option::is_none")]
        tool_name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stdout: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stderr: Option<&'a RawValue>,
    }
    let line: Message<'_> = serde_json::from_str(text)?;
    let blocks = line.message.blocks()?;
    // What the tool itself put out comes once, so it is told only where it can belong to one result.
    let output = line.tool_use_result.filter(|_| blocks.len() == 1);
    let output = output.and_then(|raw| serde_json::from_str::<ToolOutput<'_>>(raw.get()).ok());
    fn is_text(raw: &&RawValue) -> bool {
        raw.get().starts_with('"')
    }
    let stdout = output.as_ref().and_then(|output| output.stdout).filter(is_text);
    let stderr = output.as_ref().and_then(|output| output.stderr).filter(is_text);
    for raw in blocks {
        let block: Block<'_> = serde_json::from_str(raw.get())?;
        if block.kind != "tool_result" {
            continue;
        }
        let tool_use_id = block.tool_use_id.unwrap_or_else(null);
        let id = name_of(block.tool_use_id);
        let content = stdout.or(block.content).unwrap_or_else(null);
        // The output would stand in one event twice; a huge one stands in it once.
        let twice = content.get().len() + stdout.map_or(0, |raw| raw.get().len()) + stderr.map_or(0, |raw| raw.get().len());
        let fits = twice < LINE_MAX;
        let result = ToolResult {
            tool_use_id,
            content,
            is_error: block.is_error.unwrap_or(false),
            tool_name: id.and_then(|id| tools.remove(&id)),
            stdout: stdout.filter(|_| fits),
            stderr: stderr.filter(|_| fits),
        };
        push(out, turn, Kind::ToolResult, &result);
    }
    Ok(())
}

/// The end of a turn as the program tells it.
pub fn turn_complete(turn: Option<TurnId>, line: &TurnResult<'_>, out: &mut Vec<Output>) {
    #[derive(Serialize)]
    struct TurnComplete<'a> {
        #[serde(rename = "numTurns")]
        num_turns: u64,
        result: &'a RawValue,
    }
    let result = line.result.unwrap_or_else(null);
    push(out, turn, Kind::TurnComplete, &TurnComplete { num_turns: line.num_turns, result });
}
