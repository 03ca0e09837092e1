//! The command line and environment of the `claude` program.

use serde_json::json;

use crate::link::shim::{RUNTIME_INSIDE, SessionOptions};
use crate::wire::message::{Effort, TurnOptions};

/// Tools that can not work in a sandbox whose one way out is the model. `WebSearch` would leave by
/// that way, past every egress rule, so it has to be asked for.
const OFFLINE: &[&str] = &["WebFetch", "WebSearch"];

/// Environment that makes the program quiet and predictable.
pub const ENV: &[(&str, &str)] = &[
    ("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "1"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS", "1"),
    ("CLAUDE_CODE_MAX_RETRIES", "2"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("DISABLE_ERROR_REPORTING", "1"),
    ("DISABLE_TELEMETRY", "1"),
];

/// The options that are flags: a process has those it was started with.
#[derive(Debug, Clone, PartialEq)]
pub struct Flags {
    permission_mode: String,
    /// Whether somebody can be asked; without, the program refuses by itself what it would ask.
    asks: bool,
    allowed_tools: Vec<String>,
    disallowed_tools: Vec<String>,
    betas: Vec<String>,
    subagents: Option<String>,
    initial_agent: Option<String>,
    effort: Option<Effort>,
    max_turns: Option<u32>,
    /// Counted by the program over its whole life, so a process with a budget serves one turn.
    pub max_budget_usd: Option<f64>,
    schema: Option<String>,
}

impl Flags {
    pub fn new(session: &SessionOptions, turn: &TurnOptions) -> Self {
        let mut disallowed_tools = session.disallowed_tools.clone();
        for tool in OFFLINE {
            let named = |list: &[String]| list.iter().any(|name| name == tool);
            if !named(&session.allowed_tools) && !named(&disallowed_tools) {
                disallowed_tools.push((*tool).to_owned());
            }
        }
        Self {
            permission_mode: session.permission_mode.clone(),
            asks: session.ask.is_some(),
            allowed_tools: session.allowed_tools.clone(),
            disallowed_tools,
            betas: session.betas.clone(),
            subagents: session.subagents.as_ref().map(|raw| raw.0.get().to_owned()),
            initial_agent: session.initial_agent.clone(),
            effort: turn.effort,
            max_turns: turn.max_turns,
            max_budget_usd: turn.max_budget_usd,
            schema: turn.output_format.as_ref().map(|format| format.schema.to_string()),
        }
    }
}

/// Where a process begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A conversation that does not exist yet.
    Fresh,
    /// The one that exists.
    Resume,
}

/// Program and arguments. Values that callers choose stand behind a `=`, so that none of them can
/// be taken for a flag.
pub fn argv(flags: &Flags, model: Option<&str>, start: Start, conversation: &str) -> Vec<String> {
    let mut argv: Vec<String> = [
        RUNTIME_INSIDE,
        "--input-format=stream-json",
        "--output-format=stream-json",
        "--verbose",
        "--include-partial-messages",
        "--setting-sources=project,local",
    ]
    .map(str::to_owned)
    .into();
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            argv.push(format!("--{name}={value}"));
        }
    };
    match start {
        Start::Fresh => add("session-id", conversation),
        Start::Resume => add("resume", conversation),
    }
    add("permission-mode", &flags.permission_mode);
    add("permission-prompt-tool", if flags.asks { "stdio" } else { "" });
    add("model", model.unwrap_or_default());
    add("allowedTools", &flags.allowed_tools.join(","));
    add("disallowedTools", &flags.disallowed_tools.join(","));
    add("betas", &flags.betas.join(","));
    add("agents", flags.subagents.as_deref().unwrap_or_default());
    add("agent", flags.initial_agent.as_deref().unwrap_or_default());
    add("effort", flags.effort.map_or("", Effort::as_str));
    add("max-turns", &flags.max_turns.map(|n| n.to_string()).unwrap_or_default());
    add("max-budget-usd", &flags.max_budget_usd.map(|n| n.to_string()).unwrap_or_default());
    add("json-schema", flags.schema.as_deref().unwrap_or_default());
    argv
}

/// The flag that brings rules granted in earlier processes. They are no part of [`Flags`]: the
/// process that granted one has it already.
///
/// As JSON, and not with `--allowedTools`, which is taken apart at commas and parentheses without
/// regard to what stands escaped: a rule about a command that the model chose could become two, one
/// of which nobody granted.
pub fn grants(rules: &[String]) -> Option<String> {
    (!rules.is_empty()).then(|| format!("--settings={}", json!({"permissions": {"allow": rules}})))
}

/// A line on the program's standard input, which may hold JSON as it came from elsewhere.
pub fn raw_line<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // Fails only for maps with keys that are no text, of which there are none here.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    // In JSON these can only be white space between its parts.
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line.push(b'\n');
    line
}

/// A line on the program's standard input.
pub fn line(value: &serde_json::Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The line with which every process begins.
pub fn opening() -> Vec<u8> {
    line(&json!({"type": "control_request", "request_id": super::INITIALIZE, "request": {"subtype": "initialize"}}))
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;
    use crate::link::shim::{Ask, RawValueEq};
    use crate::wire::message::OutputFormat;
    use crate::wire::permission::Behavior;

    fn session() -> SessionOptions {
        SessionOptions { permission_mode: "bypassPermissions".into(), ..SessionOptions::default() }
    }

    #[test]
    fn a_plain_turn_has_a_short_command_line() {
        let flags = Flags::new(&session(), &TurnOptions::default());
        let argv = argv(&flags, None, Start::Fresh, "c-1");
        let rest: Vec<_> = argv.iter().skip(6).map(String::as_str).collect();
        let wanted = ["--session-id=c-1", "--permission-mode=bypassPermissions", "--disallowedTools=WebFetch,WebSearch"];
        assert_eq!(rest, wanted);
    }

    #[test]
    fn every_option_has_its_flag_and_none_can_be_mistaken_for_one() {
        let session = SessionOptions {
            model: None,
            permission_mode: "default".into(),
            allowed_tools: vec!["Read".into(), "WebSearch".into()],
            disallowed_tools: vec!["Bash(rm *)".into()],
            betas: vec!["b-1".into()],
            subagents: Some(Box::new(RawValueEq(to_raw_value(&json!({"boss": {}})).expect("raw")))),
            initial_agent: Some("boss".into()),
            ask: Some(Ask { timeout_ms: None, on_timeout: Behavior::Deny }),
            ..SessionOptions::default()
        };
        let turn = TurnOptions {
            effort: Some(Effort::High),
            max_turns: Some(3),
            max_budget_usd: Some(0.5),
            output_format: Some(OutputFormat { r#type: "json_schema".into(), schema: json!({"type": "object"}) }),
            ..TurnOptions::default()
        };
        let argv = argv(&Flags::new(&session, &turn), Some("--dangerous"), Start::Resume, "c-1");
        let rest: Vec<_> = argv.iter().skip(6).map(String::as_str).collect();
        let wanted = [
            "--resume=c-1",
            "--permission-mode=default",
            "--permission-prompt-tool=stdio",
            "--model=--dangerous",
            "--allowedTools=Read,WebSearch",
            "--disallowedTools=Bash(rm *),WebFetch",
            "--betas=b-1",
            "--agents={\"boss\":{}}",
            "--agent=boss",
            "--effort=high",
            "--max-turns=3",
            "--max-budget-usd=0.5",
            "--json-schema={\"type\":\"object\"}",
        ];
        assert_eq!(rest, wanted);
    }
}
