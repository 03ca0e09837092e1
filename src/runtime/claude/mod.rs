//! The `claude` program, spoken to in stream-json.
//!
//! What is known of it was found by running version 2.1.330. The points that shape this module:
//!
//! - Results can not be counted: messages coalesce, turns begin unasked. A turn is recognised by
//!   the uuid of its message, which is the turn's id. `command_lifecycle` says when the program
//!   takes a message up (`started`) and when it is done with it; only then is the message's turn
//!   the running one. A turn that begins otherwise is the runtime's own and gets a fresh id.
//! - Should the program take a message up in the middle of a turn of its own, the own turn ends
//!   there and the rest belongs to the message's turn.
//! - `subtype: success` may be a failure, and an interrupted turn is no failure.
//! - Some control requests come before the answer to `initialize`, so they are answered always.
//! - A request for permission waits for ever, and belongs to the turn that runs when it comes. The
//!   program takes it back when it is interrupted, and not always when its turn ends.
//!
//! Not events for clients: `control_*`, `keep_alive`, `command_lifecycle`, replays of messages, and
//! `session_state_changed`, whose `idle` only serves as the end of a turn that had no result.
//! Deltas become events in turns that ask for them.
//!
//! `client_composed` is not set on messages, so that slash commands work as they do for users of
//! the program itself.

mod events;
mod launch;
mod line;
mod permission;
#[cfg(feature = "daemon")]
pub mod transcript;

use std::collections::{HashMap, HashSet};

use serde_json::json;
use serde_json::value::RawValue;

pub use self::launch::ENV;
use self::launch::{Flags, Start};
use self::line::{
    BackgroundTasks, CommandLifecycle, ControlCancel, ControlRequest, ControlResponse, Head, Initialized, System, ToolLine,
    TurnResult,
};
use self::permission::Permissions;
use super::{Adapter, AnswerError, BadLine, Ended, Event, Launch, Output, ProcessEnd};
use crate::link::shim::{Ask, EndState, HOME_INSIDE, SessionOptions, Turn, TurnEnd};
use crate::wire::event::Kind;
use crate::wire::message::TurnOptions;
use crate::wire::permission::PermissionAnswer;
use crate::wire::{PermissionId, SessionId, TurnId};

/// Id of the first control request.
const INITIALIZE: &str = "initialize";
/// How often one turn may be tried before it began.
const TRIES: u32 = 3;
/// Bytes of an answer to a control request; usual are some hundred.
const ANSWER_MAX: usize = 64 << 10;
/// MCP servers whose failure is reported, and characters of their names and reasons.
const SERVERS_MAX: usize = 100;
const SERVER_NAME_MAX: usize = 200;
const SERVER_ERROR_MAX: usize = 2000;

/// The adapter. See the module's documentation.
#[derive(Debug)]
pub struct Claude {
    /// The program's own id of the conversation. Differs from the session's after `/clear`.
    conversation: String,
    /// Whether the program has stored something of it.
    exists: bool,
    process: Process,
    /// The turn that was given and is not over.
    given: Option<Given>,
    /// The turn that the runtime began by itself.
    own: Option<TurnId>,
    /// Whether deltas become events.
    partials: bool,
    permissions: Permissions,
}

/// What is known of the process that runs.
#[derive(Debug)]
struct Process {
    flags: Option<Flags>,
    start: Start,
    model: Option<String>,
    thinking: Option<u32>,
    /// How what it asks is put to somebody; `None`: it is refused.
    ask: Option<Ask>,
    /// Whether it answered `initialize`.
    ready: bool,
    /// Whether it tells of messages with `command_lifecycle`.
    tells: bool,
    /// Turns given to it.
    turns: u32,
    /// Control requests sent to it.
    requests: u32,
    /// MCP servers whose failure was reported.
    failed_servers: HashSet<String>,
    /// Names of the tools that were called and have not answered, by the id of the call.
    tools: HashMap<String, String>,
    /// Tasks in the background.
    background: u32,
    /// Why it could not start, in its own words.
    failure: Option<String>,
}

impl Process {
    fn new(start: Start) -> Self {
        Self {
            flags: None,
            start,
            model: None,
            thinking: None,
            ask: None,
            ready: false,
            tells: false,
            turns: 0,
            requests: 0,
            failed_servers: HashSet::new(),
            tools: HashMap::new(),
            background: 0,
            failure: None,
        }
    }
}

#[derive(Debug)]
struct Given {
    id: TurnId,
    /// How far the program has come with its message.
    state: Taken,
    interrupted: bool,
    /// Whether the process was up before the turn was given to it.
    was_ready: bool,
    tries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Nothing was heard of it.
    No,
    /// The program has read it.
    Queued,
    /// The program works on it.
    Yes,
}

impl Claude {
    /// An adapter for a session. `conversation` is the program's id of the conversation where that
    /// is not the session's; `exists` says whether there is one to go on with.
    pub fn new(session: SessionId, conversation: Option<String>, exists: bool) -> Self {
        Self {
            conversation: conversation.unwrap_or_else(|| session.to_string()),
            exists,
            process: Process::new(Start::Fresh),
            given: None,
            own: None,
            partials: false,
            permissions: Permissions::default(),
        }
    }

    fn is_given(&self, uuid: &str) -> bool {
        self.given.as_ref().is_some_and(|given| given.id.to_string() == uuid)
    }

    fn control(&mut self, request: serde_json::Value) -> Vec<u8> {
        self.process.requests += 1;
        let id = format!("ash-{}", self.process.requests);
        launch::line(&json!({"type": "control_request", "request_id": id, "request": request}))
    }

    /// The program took up the given message: from here on its turn runs.
    fn take(&mut self, out: &mut Vec<Output>) {
        if let Some(own) = self.own.take() {
            self.permissions.turn_over(own, out);
            end(out, own, EndState::Completed, None);
        }
        if let Some(given) = &mut self.given {
            given.state = Taken::Yes;
        }
    }

    /// A turn begins. If it can not be that of the given message, it is the runtime's own.
    fn start(&mut self, out: &mut Vec<Output>) {
        match &self.given {
            _ if self.running().is_some() => {}
            Some(given) if given.state == Taken::No && !self.process.tells => self.take(out),
            _ => {
                let turn = TurnId::new();
                self.own = Some(turn);
                let data = json!({"turnId": turn, "kind": "runtime"});
                out.push(Output::Event(Event::new(Some(turn), Kind::TurnStarted, &data)));
            }
        }
    }

    /// Ends the running turn, if one runs.
    fn finish(&mut self, out: &mut Vec<Output>, state: EndState, cause: Option<String>) {
        if let Some(turn) = self.running() {
            if self.own.take().is_none() {
                self.given = None;
            }
            self.permissions.turn_over(turn, out);
            end(out, turn, state, cause);
        }
    }

    fn lifecycle(&mut self, line: &CommandLifecycle<'_>, out: &mut Vec<Output>) {
        self.process.tells = true;
        if !self.is_given(&line.command_uuid) {
            return;
        }
        match (line.state.as_ref(), &mut self.given) {
            ("queued", Some(given)) if given.state == Taken::No => given.state = Taken::Queued,
            ("started", _) => self.take(out),
            // Where there is a result, it came before these.
            ("completed", _) => {
                self.take(out);
                self.finish(out, EndState::Completed, None);
            }
            ("cancelled", _) => {
                self.take(out);
                self.finish(out, EndState::Interrupted, Some("interrupted".to_owned()));
            }
            _ => {}
        }
    }

    fn system(&mut self, subtype: &str, line: &System<'_>, out: &mut Vec<Output>) {
        if line.user_message_uuids.iter().any(|uuid| self.is_given(uuid)) && self.running() != self.given.as_ref().map(|g| g.id) {
            self.take(out);
        }
        if subtype != "init" {
            return;
        }
        self.start(out);
        self.exists = true;
        if let Some(id) = line.session_id.as_ref().filter(|id| **id != self.conversation) {
            self.conversation.clone_from(id);
            out.push(Output::Conversation(id.clone()));
        }
        let turn = self.running();
        for server in line.mcp_servers.iter().filter(|server| server.status == "failed") {
            let name: String = server.name.chars().take(SERVER_NAME_MAX).collect();
            if self.process.failed_servers.len() < SERVERS_MAX && self.process.failed_servers.insert(name.clone()) {
                let reason = server.error.as_deref().unwrap_or("it could not be started or reached");
                let reason: String = reason.chars().take(SERVER_ERROR_MAX).collect();
                let error = format!("MCP server {name:?} failed: {reason}");
                let data = json!({"action": "error", "server": name, "error": error});
                out.push(Output::Event(Event::new(turn, Kind::McpStatus, &data)));
            }
        }
    }

    /// What a result says, around its message.
    fn result(&mut self, line: &TurnResult<'_>, text: String, out: &mut Vec<Output>) -> Result<(), serde_json::Error> {
        let of_given = line.user_message_uuids.iter().any(|uuid| self.is_given(uuid));
        if of_given || (self.running().is_none() && line.user_message_uuids.is_empty()) {
            self.take(out);
        }
        let turn = self.running();
        events::turn_complete(turn, line, out);
        let failure = line.failure();
        let state = match (&failure, line.is_interrupted()) {
            (Some(_), _) => EndState::Failed,
            (None, true) => EndState::Interrupted,
            (None, false) => EndState::Completed,
        };
        let cause = failure.clone().or_else(|| (state == EndState::Interrupted).then(|| "interrupted".to_owned()));
        out.push(Output::Event(events::message(turn, text)?));
        if let Some(error) = failure.filter(|_| turn.is_some()) {
            out.push(Output::Event(Event::new(turn, Kind::Error, &json!({"error": error}))));
        }
        self.finish(out, state, cause);
        self.process.tools.clear();
        Ok(())
    }

    fn answered(&mut self, line: &ControlResponse<'_>, out: &mut Vec<Output>) {
        let response = &line.response;
        if let Some(error) = &response.error {
            tracing::warn!(request = %response.request_id, %error, "runtime refused a control request, ignoring");
        }
        if response.request_id == INITIALIZE && !self.process.ready {
            self.process.ready = true;
            let said = response.response.and_then(|raw| serde_json::from_str::<Initialized>(raw.get()).ok()).unwrap_or_default();
            let version = said.claude_code_version.unwrap_or_else(|| "unknown".to_owned());
            let data = json!({"action": "runtime_started", "runtime": self.name(), "version": version});
            out.push(Output::Event(Event::new(self.running(), Kind::Lifecycle, &data)));
            out.push(Output::Ready { version });
        }
    }

    fn line(&mut self, text: String, out: &mut Vec<Output>) -> Result<(), serde_json::Error> {
        let head: Head<'_> = serde_json::from_str(&text)?;
        let parsed = |error: serde_json::Error| tracing::warn!(%error, "line of the runtime has another shape, passing it on");
        match head.kind.as_ref() {
            "control_response" => {
                if let Ok(line) = serde_json::from_str(&text).map_err(parsed) {
                    self.answered(&line, out);
                }
            }
            "control_request" => {
                if let Ok(line) = serde_json::from_str::<ControlRequest<'_>>(&text).map_err(parsed) {
                    if let Some(ask) = self.process.ask.filter(|_| line.request.subtype == "can_use_tool")
                        && let Ok(asked) = serde_json::from_str::<ToolLine<'_>>(&text).map_err(parsed)
                    {
                        let turn = self.running();
                        self.permissions.ask(line.request_id, &asked.request, ask, turn, out);
                        return Ok(());
                    }
                    let answer = answer(&line);
                    // It repeats parts of the request, and may wait to be read beside many others.
                    if answer.len() <= ANSWER_MAX {
                        out.push(Output::Write(answer));
                    } else {
                        tracing::warn!(bytes = answer.len(), "runtime asks at too great a length, ignoring");
                    }
                }
            }
            "control_cancel_request" => {
                if let Ok(line) = serde_json::from_str::<ControlCancel<'_>>(&text).map_err(parsed) {
                    self.permissions.withdrawn(&line.request_id, out);
                }
            }
            "keep_alive" => {}
            "command_lifecycle" => {
                if let Ok(line) = serde_json::from_str(&text).map_err(parsed) {
                    self.lifecycle(&line, out);
                }
            }
            "result" if !self.process.ready => {
                let line: TurnResult<'_> = serde_json::from_str(&text).map_err(parsed).unwrap_or_default();
                self.process.failure = line.failure();
            }
            "result" => {
                // `text` is given away, and the result still borrows it.
                let copy = text.clone();
                let line: TurnResult<'_> = serde_json::from_str(&copy).map_err(parsed).unwrap_or_default();
                self.result(&line, text, out)?;
            }
            "system" if head.subtype.as_deref() == Some("session_state_changed") => {
                if text.contains("\"state\":\"idle\"") {
                    self.finish(out, EndState::Completed, None);
                }
            }
            "system" => {
                if head.subtype.as_deref() == Some("background_tasks_changed")
                    && let Ok(line) = serde_json::from_str::<BackgroundTasks>(&text).map_err(parsed)
                {
                    self.process.background = u32::try_from(line.tasks.len()).unwrap_or(u32::MAX);
                }
                let line: System<'_> = serde_json::from_str(&text).map_err(parsed).unwrap_or_default();
                self.system(head.subtype.as_deref().unwrap_or_default(), &line, out);
                out.push(Output::Event(events::message(self.running(), text)?));
            }
            "stream_event" => {
                if self.partials {
                    let turn = self.running();
                    events::delta(turn, &text, out);
                    let event = events::message(turn, text)?;
                    out.push(Output::Event(Event { kind: Kind::PartialMessage, ..event }));
                }
            }
            "user" if head.is_replay => {}
            kind => {
                let turn = self.running();
                let derived = match kind {
                    "assistant" => events::assistant(turn, &text, &mut self.process.tools, out),
                    "user" => events::user(turn, &text, &mut self.process.tools, out),
                    _ => Ok(()),
                };
                // The message itself is whole in any case.
                let _logged = derived.map_err(parsed);
                out.push(Output::Event(events::message(turn, text)?));
            }
        }
        Ok(())
    }

    /// Whether the turn that was given can be given to another process, since this one never
    /// began it.
    fn again(&mut self, end: &ProcessEnd, said: &str) -> Option<Again> {
        let missing = said.contains("No conversation found");
        let taken = said.contains("is already in use");
        let torn = said.contains(".claude.json") && (said.contains("is corrupted") || said.contains("Configuration error"));
        if missing && self.process.start == Start::Resume {
            self.exists = false;
        }
        if taken && self.process.start == Start::Fresh {
            self.exists = true;
        }
        let given = self.given.as_mut()?;
        if given.state != Taken::No || given.interrupted || given.tries >= TRIES || end.reason.is_some() {
            return None;
        }
        let repair = torn.then(|| ["/usr/bin/rm", "-f", &format!("{HOME_INSIDE}/.claude.json")].map(str::to_owned).to_vec());
        (missing || taken || torn || given.was_ready).then_some(Again { repair })
    }
}

/// The turn that was given can be given to another process.
struct Again {
    /// What has to be run before.
    repair: Option<Vec<String>>,
}

/// Ends a turn.
fn end(out: &mut Vec<Output>, turn: TurnId, state: EndState, cause: Option<String>) {
    out.push(Output::TurnOver(TurnEnd { turn_id: turn, state, cause, usage: None }));
}

/// The answer to a control request that is answered here. Where nobody is there to be asked,
/// permission is refused in words that the model can act on.
fn answer(line: &ControlRequest<'_>) -> Vec<u8> {
    let asked = &line.request;
    let response = match asked.subtype.as_ref() {
        "can_use_tool" => {
            let tool = asked.tool_name.as_deref().unwrap_or("this tool");
            let message = format!("Nobody can be asked for permission here, and the permission mode does not allow {tool}.");
            Ok(json!({"behavior": "deny", "message": message}))
        }
        "hook_callback" => Ok(json!({})),
        "mcp_message" => {
            let id = asked.message.as_ref().and_then(|message| message.id).map(RawValue::get);
            let id: serde_json::Value = id.and_then(|id| serde_json::from_str(id).ok()).unwrap_or_default();
            let server = asked.server_name.as_deref().unwrap_or_default();
            let error = json!({"code": -32601, "message": format!("there is no MCP server {server:?} on the host")});
            Ok(json!({"mcp_response": {"jsonrpc": "2.0", "id": id, "error": error}}))
        }
        other => Err(format!("request {other:?} is not supported")),
    };
    let response = match response {
        Ok(response) => json!({"subtype": "success", "request_id": line.request_id, "response": response}),
        Err(error) => json!({"subtype": "error", "request_id": line.request_id, "error": error}),
    };
    launch::line(&json!({"type": "control_response", "response": response}))
}

/// The program's word for what a turn asks of thinking: a number of tokens, or its default.
fn thinking(turn: &TurnOptions) -> Option<u32> {
    let thinking = turn.thinking.as_ref()?;
    match thinking.r#type.as_str() {
        "disabled" => Some(0),
        "enabled" => thinking.budget_tokens,
        _ => None,
    }
}

impl Adapter for Claude {
    /// Transcripts with those of subagents, tool results that the model is shown by their path, and
    /// the memory that the program keeps for a working directory.
    fn state() -> &'static [&'static str] {
        &[".claude/projects"]
    }

    fn name(&self) -> &'static str {
        "claude"
    }

    fn launch(&mut self, session: &SessionOptions, turn: &TurnOptions) -> Launch {
        let start = if self.exists { Start::Resume } else { Start::Fresh };
        let flags = Flags::new(session, turn);
        let model = turn.model.clone().or_else(|| session.model.clone());
        let mut argv = launch::argv(&flags, model.as_deref(), start, &self.conversation);
        argv.extend(launch::grants(&self.permissions.rules(&session.granted)));
        self.process = Process { flags: Some(flags), model, ask: session.ask, ..Process::new(start) };
        let env = ENV.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Launch { argv, env, opening: launch::opening() }
    }

    fn serves(&self, session: &SessionOptions, turn: &TurnOptions) -> bool {
        let fits = self.process.flags.as_ref() == Some(&Flags::new(session, turn));
        fits && (turn.max_budget_usd.is_none() || self.process.turns == 0)
    }

    fn begin(&mut self, session: &SessionOptions, turn: &Turn) -> Vec<u8> {
        let mut bytes = Vec::new();
        let model = turn.options.model.clone().or_else(|| session.model.clone());
        // A resumed conversation remembers the model it had, also if that was for one turn only.
        let remembered = self.process.turns == 0 && self.process.start == Start::Resume && model.is_none();
        if model != self.process.model || remembered {
            let mut request = json!({"subtype": "set_model"});
            if let Some(model) = &model {
                request["model"] = json!(model);
            }
            bytes.extend(self.control(request));
            self.process.model = model;
        }
        let thinking = thinking(&turn.options);
        if thinking != self.process.thinking {
            bytes.extend(self.control(json!({"subtype": "set_max_thinking_tokens", "max_thinking_tokens": thinking})));
            self.process.thinking = thinking;
        }
        let head = format!(
            r#"{{"type":"user","uuid":"{}","session_id":"","parent_tool_use_id":null,"message":{{"role":"user","content":"#,
            turn.id
        );
        bytes.extend(head.as_bytes());
        // A line break in JSON can only be white space between its parts.
        bytes.extend(turn.content.get().bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }));
        bytes.extend(b"}}\n");
        let tries = self.given.as_ref().filter(|given| given.id == turn.id).map_or(0, |given| given.tries) + 1;
        let was_ready = self.process.ready;
        self.given = Some(Given { id: turn.id, state: Taken::No, interrupted: false, was_ready, tries });
        self.partials = turn.options.include_partial_messages;
        self.process.ask = session.ask;
        self.process.turns += 1;
        bytes
    }

    fn interrupt(&mut self) -> Vec<u8> {
        if let Some(given) = &mut self.given {
            given.interrupted = true;
        }
        // Without `cancel_queued` a message that was not taken up yet would run all the same.
        self.control(json!({"subtype": "interrupt", "cancel_queued": true}))
    }

    fn read(&mut self, line: Vec<u8>) -> Result<Vec<Output>, BadLine> {
        let mut out = Vec::new();
        // In JSON it can only be white space between parts, but in a stream of server-sent events
        // it ends a line, so that a message would arrive in pieces.
        let line = line.into_iter().map(|b| if b == b'\r' { b' ' } else { b }).collect();
        let text = match String::from_utf8(line) {
            Ok(text) => text,
            Err(error) => {
                let excerpt = excerpt(&String::from_utf8_lossy(error.as_bytes()));
                return Err(BadLine { excerpt, source: serde::de::Error::custom("it is not UTF-8") });
            }
        };
        if text.trim().is_empty() {
            return Ok(out);
        }
        let start = excerpt(&text);
        self.line(text, &mut out).map_err(|source| BadLine { excerpt: start, source })?;
        Ok(out)
    }

    fn answer(&mut self, id: PermissionId, answer: &PermissionAnswer) -> Result<Vec<Output>, AnswerError> {
        self.permissions.answer(id, answer)
    }

    fn timed_out(&mut self, id: PermissionId) -> Vec<Output> {
        self.permissions.timed_out(id)
    }

    fn ended(&mut self, end: &ProcessEnd) -> Ended {
        let said = format!("{}\n{}", self.process.failure.as_deref().unwrap_or_default(), end.stderr);
        let again = self.again(end, &said);
        let step = if self.process.ready { "runtime ended" } else { "runtime could not be started" };
        let mut cause = format!("{step}: {end}");
        if let Some(failure) = self.process.failure.as_deref().filter(|failure| !cause.contains(*failure)) {
            cause = format!("{cause}: {failure}");
        }
        let mut out = Vec::new();
        self.permissions.process_over(&mut out);
        let own = self.own.take();
        let given = self.given.take_if(|_| again.is_none());
        let interrupted = given.as_ref().is_some_and(|given| given.interrupted);
        for turn in own.into_iter().chain(given.map(|given| given.id)) {
            let state = if interrupted { EndState::Interrupted } else { EndState::Failed };
            if !interrupted {
                out.push(Output::Event(Event::new(Some(turn), Kind::Error, &json!({"error": cause}))));
            }
            self::end(&mut out, turn, state, Some(if interrupted { "interrupted".to_owned() } else { cause.clone() }));
        }
        self.process = Process::new(Start::Fresh);
        match again {
            Some(Again { repair }) => Ended::Again { outputs: out, repair },
            None => Ended::Over(out),
        }
    }

    fn running(&self) -> Option<TurnId> {
        self.own.or_else(|| self.given.as_ref().filter(|given| given.state == Taken::Yes).map(|given| given.id))
    }

    fn background(&self) -> u32 {
        self.process.background
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
