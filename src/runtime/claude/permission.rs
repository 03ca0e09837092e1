//! What the program asks for and nobody has answered yet, and what was granted.
//!
//! ```text
//! can_use_tool ──▶ asked ──▶ answer, timed_out ──────────▶ event, then the answer is written
//!                    │  └──▶ turn_over ──────────────────▶ event, then a refusal is written
//!                    └─────▶ withdrawn, process_over ────▶ event
//! ```
//!
//! The program waits for ever and tells of no limit, so what waits is bounded here: in number, and
//! in what is kept of each. What exceeds that is refused at once, in words for the model.
//!
//! Of the updates that the program suggests for "always", only rules that allow are granted, and
//! only for its session: the others would change its mode, or write into the agent's folder. A new
//! process does not know them and is told by [`super::launch::grants`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::launch;
use super::line::{First, Questions, Rule, Suggestion, ToolRequest};
use crate::link::shim::Ask;
use crate::runtime::{AnswerError, Event, Output};
use crate::wire::event::Kind;
use crate::wire::permission::{
    Behavior, PermissionAnswer, PermissionKind, PermissionRequest, PermissionResolved, Resolver, Scope,
};
use crate::wire::{PermissionId, TurnId};

/// Requests that may wait. Tools that are called together ask one after the other; more wait only
/// where subagents run.
const WAITING_MAX: usize = 64;
/// Bytes of a tool's input that is shown to somebody who is to decide about it.
const INPUT_MAX: usize = 4 << 20;
/// Bytes of the program's own name of a request; it is a UUID.
const REQUEST_ID_MAX: usize = 1000;
/// Characters of a tool's name and of a call's id, of a description, and of a path.
const NAME_MAX: usize = 256;
const DESCRIPTION_MAX: usize = 4000;
const PATH_MAX: usize = 4096;
/// Bytes of the input of a question, which is kept to be given back.
const QUESTION_MAX: usize = 64 << 10;
/// Rules of one request, and bytes of each. The program suggests five at most.
const RULES_MAX: usize = 16;
const RULE_MAX: usize = 1000;
/// Bytes of an answer's message: it stands in an event, which has to fit into a frame.
const MESSAGE_MAX: usize = 64 << 10;
/// Bytes of the rules that a new process is told, as JSON. Escaped once more, and beside all other
/// arguments and the environment, they have to fit into [`crate::link::inner::DATAGRAM_MAX`]. What
/// does not fit is asked for again, and that is the oldest.
const GRANTED_MAX: usize = 16 << 10;

/// The tool that is a question to the user.
const QUESTION: &str = "AskUserQuestion";

/// The requests that wait, and the rules that were granted. See the module's documentation.
#[derive(Debug, Default)]
pub struct Permissions {
    waiting: Vec<Waiting>,
    /// In the program's language, oldest first.
    granted: Vec<String>,
}

#[derive(Debug)]
struct Waiting {
    id: PermissionId,
    turn: Option<TurnId>,
    /// The program's own name of it.
    request_id: String,
    tool: String,
    question: Option<Asked>,
    rules: Vec<Rule>,
    /// The answer when nobody gives one.
    on_timeout: Behavior,
}

/// A question to the user.
#[derive(Debug)]
struct Asked {
    input: BTreeMap<String, Box<RawValue>>,
    texts: Vec<String>,
}

/// What the program is told.
#[derive(Debug, Serialize)]
#[serde(tag = "behavior", rename_all = "lowercase")]
enum Answer<'a> {
    #[serde(rename_all = "camelCase")]
    Allow {
        #[serde(skip_serializing_if = "Option::is_none")]
        updated_input: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        updated_permissions: &'a [Update<'a>],
    },
    Deny {
        message: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        interrupt: bool,
    },
}

impl<'a> Answer<'a> {
    const ALLOW: Self = Self::Allow { updated_input: None, updated_permissions: &[] };

    const fn deny(message: &'a str) -> Self {
        Self::Deny { message, interrupt: false }
    }

    /// The line that says it.
    fn line(&self, request_id: &str) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'a> {
            r#type: &'static str,
            response: Response<'a>,
        }
        #[derive(Serialize)]
        struct Response<'a> {
            subtype: &'static str,
            request_id: &'a str,
            response: &'a Answer<'a>,
        }
        let response = Response { subtype: "success", request_id, response: self };
        launch::raw_line(&Line { r#type: "control_response", response })
    }
}

/// A change of the rules of the program's session.
#[derive(Debug, Serialize)]
struct Update<'a> {
    r#type: &'static str,
    rules: &'a [Rule],
    behavior: &'static str,
    destination: &'static str,
}

impl Permissions {
    /// Takes a request. One that can not be put to anybody is refused.
    pub fn ask(&mut self, request_id: String, request: &ToolRequest<'_>, ask: Ask, turn: Option<TurnId>, out: &mut Vec<Output>) {
        if request_id.len() > REQUEST_ID_MAX {
            tracing::warn!(bytes = request_id.len(), "runtime asks at too great a length, ignoring");
            return;
        }
        let mut refuse = |message: &str| out.push(Output::Write(Answer::deny(message).line(&request_id)));
        if self.waiting.len() >= WAITING_MAX {
            return refuse("Too many requests for permission wait for an answer already. Try again when some were answered.");
        }
        if request.input.is_some_and(|input| input.get().len() > INPUT_MAX) {
            return refuse("This input is too long to be put to anybody. Do it in smaller steps.");
        }
        let tool = text(request.tool_name).map_or_else(|| "unknown".to_owned(), |name| cut(&name, NAME_MAX));
        let mut question = None;
        if tool == QUESTION {
            question = request.input.and_then(Asked::new);
            if question.is_none() {
                return refuse("This question is too long to be put to anybody, or has another shape than is known here.");
            }
        }
        let rules = request.permission_suggestions.map(suggested).unwrap_or_default();
        let id = PermissionId::new();
        let data = PermissionRequest {
            id,
            turn_id: turn,
            kind: if question.is_some() { PermissionKind::Question } else { PermissionKind::Tool },
            tool_name: tool.clone(),
            input: request.input.unwrap_or(RawValue::NULL).to_owned(),
            tool_use_id: text(request.tool_use_id).filter(|id| id.len() <= NAME_MAX),
            description: text(request.description).map(|text| cut(&text, DESCRIPTION_MAX)),
            blocked_path: text(request.blocked_path).filter(|path| path.len() <= PATH_MAX),
            rules: rules.iter().map(rule_text).collect(),
            timeout_ms: ask.timeout_ms,
        };
        out.push(Output::Event(Event::new(turn, Kind::PermissionRequest, &data)));
        out.push(Output::Asked { id, timeout: ask.timeout_ms.map(Duration::from_millis) });
        // What asks for a person is never allowed by the clock; a question could not be, without
        // its answers.
        let in_person = request.requires_user_interaction.is_some_and(|raw| raw.get() == "true");
        let on_timeout = if in_person || question.is_some() { Behavior::Deny } else { ask.on_timeout };
        self.waiting.push(Waiting { id, turn, request_id, tool, question, rules, on_timeout });
    }

    /// Takes the answer to a request, which goes on waiting if the answer makes no sense.
    pub fn answer(&mut self, id: PermissionId, answer: &PermissionAnswer) -> Result<Vec<Output>, AnswerError> {
        let at = self.waiting.iter().position(|waiting| waiting.id == id).ok_or(AnswerError::NotWaiting)?;
        self.waiting[at].check(answer)?;
        let waiting = self.waiting.remove(at);
        let mut resolved = waiting.resolved(answer.behavior, Resolver::Caller);
        let mut out = Vec::new();
        match answer.behavior {
            Behavior::Allow => {
                let with_answers = answer.answers.as_ref().and_then(|answers| waiting.question.as_ref()?.answered(answers));
                let updated_input = with_answers.as_deref().or(answer.updated_input.as_deref());
                let updates = [Update { r#type: "addRules", rules: &waiting.rules, behavior: "allow", destination: "session" }];
                let is_session = answer.scope == Scope::Session;
                if is_session {
                    resolved.scope = Scope::Session;
                    resolved.rules = waiting.rules.iter().map(rule_text).collect();
                    self.grant(&resolved.rules);
                }
                let updated_permissions = if is_session { &updates[..] } else { &[] };
                waiting.settle(&resolved, Some(Answer::Allow { updated_input, updated_permissions }), &mut out);
            }
            Behavior::Deny => {
                let message = answer.message.clone().unwrap_or_else(|| waiting.refusal());
                resolved.message = Some(message.clone());
                waiting.settle(&resolved, Some(Answer::Deny { message: &message, interrupt: answer.interrupt }), &mut out);
            }
        }
        Ok(out)
    }

    /// Nobody answered a request in time.
    pub fn timed_out(&mut self, id: PermissionId) -> Vec<Output> {
        let mut out = Vec::new();
        let Some(at) = self.waiting.iter().position(|waiting| waiting.id == id) else { return out };
        let waiting = self.waiting.remove(at);
        let mut resolved = waiting.resolved(waiting.on_timeout, Resolver::Timeout);
        match waiting.on_timeout {
            Behavior::Allow => waiting.settle(&resolved, Some(Answer::ALLOW), &mut out),
            Behavior::Deny => {
                let message = waiting.silence();
                resolved.message = Some(message.clone());
                waiting.settle(&resolved, Some(Answer::deny(&message)), &mut out);
            }
        }
        out
    }

    /// The program took a request back.
    pub fn withdrawn(&mut self, request_id: &str, out: &mut Vec<Output>) {
        self.end(|waiting| waiting.request_id == request_id, None, out);
    }

    /// A turn ends. The program should have taken its requests back; one that a subagent goes on
    /// waiting with is refused.
    pub fn turn_over(&mut self, turn: TurnId, out: &mut Vec<Output>) {
        self.end(|waiting| waiting.turn == Some(turn), Some("The turn in which this was asked is over."), out);
    }

    /// The process ended, so nobody waits any more.
    pub fn process_over(&mut self, out: &mut Vec<Output>) {
        self.end(|_| true, None, out);
    }

    /// The rules to tell a new process: these, and those granted since, oldest first.
    pub fn rules(&self, granted: &[String]) -> Vec<String> {
        let mut rules: Vec<String> = Vec::new();
        let mut room = GRANTED_MAX;
        for rule in granted.iter().chain(&self.granted).rev() {
            let cost = Value::from(rule.as_str()).to_string().len() + 1;
            if !rules.contains(rule) && cost <= room {
                room -= cost;
                rules.push(rule.clone());
            }
        }
        rules.reverse();
        rules
    }

    fn grant(&mut self, rules: &[String]) {
        self.granted.retain(|rule| !rules.contains(rule));
        self.granted.extend_from_slice(rules);
        self.granted = self.rules(&[]);
    }

    /// Ends the requests that are meant. `message` is what the program is told, if it still waits.
    fn end(&mut self, is_meant: impl Fn(&Waiting) -> bool, message: Option<&str>, out: &mut Vec<Output>) {
        for waiting in self.waiting.extract_if(.., |waiting| is_meant(waiting)) {
            let resolved = waiting.resolved(Behavior::Deny, Resolver::TurnEnd);
            waiting.settle(&resolved, message.map(Answer::deny), out);
        }
    }
}

impl Waiting {
    /// Whether an answer makes sense for what was asked.
    fn check(&self, answer: &PermissionAnswer) -> Result<(), AnswerError> {
        let senseless = |field: &'static str, reason: &str| Err(AnswerError::Senseless { field, reason: reason.to_owned() });
        match answer.behavior {
            Behavior::Deny => {
                let too_long = answer.message.as_ref().is_some_and(|message| message.len() > MESSAGE_MAX);
                match () {
                    () if answer.scope == Scope::Session => senseless("scope", "a refusal holds once"),
                    () if answer.updated_input.is_some() => senseless("updatedInput", "the tool is refused"),
                    () if answer.answers.is_some() => senseless("answers", "the question is refused"),
                    () if too_long => senseless("message", &format!("it has more than {MESSAGE_MAX} bytes")),
                    () => Ok(()),
                }
            }
            Behavior::Allow if answer.message.is_some() => senseless("message", "the model is told only of a refusal"),
            Behavior::Allow if answer.interrupt => senseless("interrupt", "only a refusal can end the turn"),
            Behavior::Allow if answer.scope == Scope::Session && self.rules.is_empty() => {
                senseless("scope", "the request has no rule that could hold for the session")
            }
            Behavior::Allow => match &self.question {
                Some(_) if answer.updated_input.is_some() => senseless("updatedInput", "a question is answered with answers"),
                Some(question) => question.check(answer.answers.as_ref()),
                None if answer.answers.is_some() => senseless("answers", "no question was asked"),
                None if answer.updated_input.as_ref().is_some_and(|input| !input.get().starts_with('{')) => {
                    senseless("updatedInput", "it is not an object")
                }
                None => Ok(()),
            },
        }
    }

    const fn resolved(&self, behavior: Behavior, by: Resolver) -> PermissionResolved {
        PermissionResolved { id: self.id, behavior, scope: Scope::Once, by, message: None, rules: Vec::new() }
    }

    /// Tells what came of the request: first the log, then the program.
    fn settle(&self, resolved: &PermissionResolved, answer: Option<Answer<'_>>, out: &mut Vec<Output>) {
        out.push(Output::Event(Event::new(self.turn, Kind::PermissionResolved, resolved)));
        out.push(Output::Settled(self.id));
        out.extend(answer.map(|answer| Output::Write(answer.line(&self.request_id))));
    }

    /// What the model is told where whoever refused gave no reason.
    fn refusal(&self) -> String {
        match self.question {
            Some(_) => "The user does not answer this question. Go on without an answer.".to_owned(),
            None => format!(
                "The user refused this use of {}. Do not try the same in another way: go on without it, or say why it is needed.",
                self.tool
            ),
        }
    }

    /// What the model is told when nobody answered.
    fn silence(&self) -> String {
        match self.question {
            Some(_) => "Nobody answered this question in time. Go on with what seems best, and say what you assumed.".to_owned(),
            None => format!(
                "Nobody answered the request for permission in time, so this use of {} is refused. Go on without it.",
                self.tool
            ),
        }
    }
}

impl Asked {
    /// The question of an input; `None` if that is too long, or is none.
    fn new(input: &RawValue) -> Option<Self> {
        if input.get().len() > QUESTION_MAX {
            return None;
        }
        let questions: Questions = serde_json::from_str(input.get()).ok()?;
        let input = serde_json::from_str(input.get()).ok()?;
        Some(Self { input, texts: questions.questions.into_iter().map(|question| question.question).collect() })
    }

    /// Whether the answers are ones to these questions. A question may stay without an answer; the
    /// program tells the model so.
    fn check(&self, answers: Option<&serde_json::Map<String, Value>>) -> Result<(), AnswerError> {
        let senseless = |reason: String| Err(AnswerError::Senseless { field: "answers", reason });
        let Some(answers) = answers.filter(|answers| !answers.is_empty()) else {
            return senseless("a question is allowed with answers to it".to_owned());
        };
        for (text, answer) in answers {
            if !self.texts.contains(text) {
                return senseless(format!("nobody asked {:?}", cut(text, 100)));
            }
            let is_answer = match answer {
                Value::String(_) => true,
                Value::Array(choices) => !choices.is_empty() && choices.iter().all(Value::is_string),
                _ => false,
            };
            if !is_answer {
                return senseless(format!("the one to {:?} is neither a text nor a list of texts", cut(text, 100)));
            }
        }
        Ok(())
    }

    /// The input with answers.
    fn answered(&self, answers: &serde_json::Map<String, Value>) -> Option<Box<RawValue>> {
        // Fails for nothing that has been read as JSON.
        let answers = to_raw_value(answers).ok()?;
        let mut input = self.input.clone();
        input.insert("answers".to_owned(), answers);
        to_raw_value(&input).ok()
    }
}

/// The rules that an answer for the session may grant.
fn suggested(suggestions: &RawValue) -> Vec<Rule> {
    let suggestions = serde_json::from_str::<First<&RawValue, RULES_MAX>>(suggestions.get());
    let suggestions = suggestions.map(|first| first.entries).unwrap_or_default();
    let mut rules = Vec::new();
    for suggestion in suggestions {
        let Ok(suggestion) = serde_json::from_str::<Suggestion<'_>>(suggestion.get()) else { continue };
        if suggestion.kind == "addRules" && suggestion.behavior == "allow" {
            rules.extend(suggestion.rules.into_iter().filter(can_be_said));
        }
    }
    rules.truncate(RULES_MAX);
    rules
}

/// Whether a rule can be said as text, at a fair length.
fn can_be_said(rule: &Rule) -> bool {
    let is_name = !rule.tool_name.is_empty() && rule.tool_name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    is_name && rule.tool_name.len() + rule.rule_content.as_ref().map_or(0, String::len) <= RULE_MAX
}

/// A rule in the program's language, where a backslash takes the meaning from parentheses and from
/// itself.
fn rule_text(rule: &Rule) -> String {
    let mut text = rule.tool_name.clone();
    if let Some(content) = &rule.rule_content {
        text.push('(');
        for c in content.chars() {
            if matches!(c, '\\' | '(' | ')') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push(')');
    }
    text
}

fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}
