//! A request for permission as a person reads it.
//!
//! Whoever allows something has to see what it is: nothing is left out silently, and letters that a
//! terminal obeys or hides are written out.

use serde_json::{Map, Value};

use super::chat::gist;
use crate::cli::bill;
use crate::cli::output::{BOLD, DIM, YELLOW};
use crate::wire::permission::{Behavior, Permission, PermissionKind, PermissionRequest, PermissionResolved, Resolver, Scope};
use crate::wire::{PermissionId, SessionId};

/// Most lines of an input that are shown unless all are asked for.
const LINES_SHOWN: usize = 30;
/// Most letters of them: a line may be as long as it likes.
const LETTERS_SHOWN: usize = 4000;

/// A request for permission.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) id: PermissionId,
    pub(super) kind: PermissionKind,
    pub(super) tool: String,
    pub(super) input: Value,
    pub(super) rules: Vec<String>,
    description: Option<String>,
    blocked_path: Option<String>,
    timeout_ms: Option<u64>,
}

/// A question of the runtime to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) text: String,
    header: String,
    /// Labels with what they mean.
    pub(super) options: Vec<(String, String)>,
    /// Whether several may be chosen.
    pub(super) many: bool,
}

impl Asked {
    /// The request in the data of a `permission_request` event, if it can be read.
    pub(super) fn parse(data: &str) -> Option<Self> {
        let request: PermissionRequest = serde_json::from_str(data).ok()?;
        Some(Self {
            id: request.id,
            kind: request.kind,
            tool: request.tool_name,
            // What no value can hold (half of a surrogate pair, lists in lists in lists) is shown as
            // the text that it came as, like the daemon lists it.
            input: serde_json::from_str(request.input.get()).unwrap_or_else(|_| request.input.get().into()),
            rules: request.rules,
            description: request.description,
            blocked_path: request.blocked_path,
            timeout_ms: request.timeout_ms,
        })
    }

    /// The request of a list.
    pub(super) fn listed(permission: &Permission) -> Option<Self> {
        Self::parse(&Value::Object(permission.request.clone()).to_string())
    }

    /// What is asked, in few words.
    pub(super) fn gist(&self) -> String {
        match self.questions().first() {
            Some(question) => visible(&question.text),
            None => visible(&gist(&self.input)),
        }
    }

    /// The questions; none if a tool is to be used, or if they can not be read.
    pub(super) fn questions(&self) -> Vec<Question> {
        if self.kind != PermissionKind::Question {
            return Vec::new();
        }
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let questions = self.input["questions"].as_array().into_iter().flatten();
        let questions = questions.map(|question| Question {
            text: text(question, "question"),
            header: text(question, "header"),
            options: question["options"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|option| (text(option, "label"), text(option, "description")))
                .collect(),
            many: question["multiSelect"] == true,
        });
        questions.filter(|question| !question.text.is_empty()).collect()
    }

    /// Whether [`Self::text`] leaves something out.
    pub(super) fn is_long(&self) -> bool {
        shorten(describe(&self.input)).1.is_some()
    }

    /// The request on several lines; with `all`, however long it is.
    pub(super) fn text(&self, all: bool) -> String {
        let tool = visible(&self.tool);
        let mut lines = vec![format!("{YELLOW}?{YELLOW:#} {BOLD}{tool}{BOLD:#} asks for permission")];
        if let Some(description) = &self.description {
            lines.push(format!("  {DIM}{}{DIM:#}", visible(description).replace('\n', " ")));
        }
        let body = describe(&self.input);
        let (body, cut) = if all { (body, None) } else { shorten(body) };
        lines.extend(body.iter().map(|line| format!("  {line}").trim_end().to_owned()));
        lines.extend(cut.map(|cut| format!("  {DIM}… and {cut} letters more{DIM:#}")));
        if let Some(path) = &self.blocked_path {
            lines.push(format!("  {DIM}asked because of {}{DIM:#}", visible(path)));
        }
        if !self.rules.is_empty() {
            lines.push(format!("  {DIM}always would allow: {}{DIM:#}", visible(&self.rules.join(", "))));
        }
        if let Some(timeout) = self.timeout_ms {
            lines.push(format!("  {DIM}waits {} at most{DIM:#}", bill::time(timeout)));
        }
        lines.join("\n")
    }

    /// One line for whoever can not be asked here: what is asked, and what answers it.
    pub(super) fn notice(&self, session: SessionId) -> String {
        let (tool, gist, id) = (visible(&self.tool), self.gist(), self.id);
        let answer = match self.kind {
            PermissionKind::Tool => String::new(),
            PermissionKind::Question => " --answer 'QUESTION=TEXT'".into(),
        };
        let gist = if gist.is_empty() { gist } else { format!(" {}", crate::cli::output::one_line(&gist, 200)) };
        format!("{tool}{gist} waits for permission: ashctl permission allow {session} {id}{answer}")
    }
}

impl Question {
    /// The question with its numbered options.
    pub(super) fn text_with_options(&self) -> String {
        let header = if self.header.is_empty() { String::new() } else { format!("{}: ", visible(&self.header)) };
        let mut lines = vec![format!("{YELLOW}?{YELLOW:#} {header}{BOLD}{}{BOLD:#}", visible(&self.text))];
        for (number, (label, meaning)) in (1..).zip(&self.options) {
            let meaning = if meaning.is_empty() { String::new() } else { format!("  {DIM}{}{DIM:#}", visible(meaning)) };
            lines.push(format!("  {number}. {}{meaning}", visible(label)));
        }
        lines.join("\n")
    }

    /// The answer that was typed: numbers stand for labels, anything else for itself. `None` if it
    /// is empty, or a number that no option has.
    pub(super) fn answer(&self, typed: &str) -> Option<String> {
        let typed = typed.trim();
        if typed.is_empty() {
            return None;
        }
        let numbers: Vec<&str> = match self.many {
            true => typed.split([',', ' ']).filter(|part| !part.is_empty()).collect(),
            false => vec![typed],
        };
        let numbers: Option<Vec<usize>> = numbers.into_iter().map(|number| number.parse().ok()).collect();
        match numbers {
            Some(numbers) if !self.options.is_empty() => {
                let labels: Option<Vec<&str>> =
                    numbers.into_iter().map(|number| Some(self.options.get(number.checked_sub(1)?)?.0.as_str())).collect();
                labels.map(|labels| labels.join(", "))
            }
            _ => Some(typed.to_owned()),
        }
    }
}

/// What came of a request, as a sentence; `who` is whoever answered it through the API.
pub(super) fn outcome(resolved: &PermissionResolved, who: &str) -> String {
    let what = match (resolved.behavior, resolved.scope) {
        (Behavior::Allow, Scope::Once) => "Allowed",
        (Behavior::Allow, Scope::Session) => "Allowed for the session",
        (Behavior::Deny, _) => "Denied",
    };
    match resolved.by {
        Resolver::Caller => format!("{what} by {who}."),
        Resolver::Timeout => format!("{what}: nobody answered in time."),
        Resolver::TurnEnd => "It needs no answer any more.".into(),
    }
}

/// An input on lines: first what people look for, then every other field.
fn describe(input: &Value) -> Vec<String> {
    let Some(fields) = input.as_object() else {
        return input.as_str().map_or_else(|| block(&format!("{input:#}"), ""), |text| block(text, ""));
    };
    let (mut rest, mut lines) = (fields.clone(), Vec::new());
    for (field, prefix) in [
        ("file_path", ""),
        ("notebook_path", ""),
        ("command", ""),
        ("plan", ""),
        ("old_string", "- "),
        ("new_string", "+ "),
        ("content", "+ "),
        ("new_source", "+ "),
    ] {
        lines.extend(take_text(&mut rest, field).iter().flat_map(|text| block(text, prefix)));
    }
    let is_edits = |edits: &[Value]| edits.iter().all(|edit| edit["old_string"].is_string() && edit["new_string"].is_string());
    if let Some(Value::Array(edits)) = rest.get("edits").filter(|edits| edits.as_array().is_some_and(|all| is_edits(all))) {
        lines.extend(edits.iter().flat_map(describe));
        rest.remove("edits");
    }
    for (name, value) in &rest {
        match value.as_str() {
            Some(text) if text.contains('\n') => {
                lines.push(format!("{}:", visible(name)));
                lines.extend(block(text, "  "));
            }
            Some(text) => lines.push(visible(&format!("{name}: {text}"))),
            None => lines.push(visible(&format!("{name}: {value}"))),
        }
    }
    lines
}

fn take_text(fields: &mut Map<String, Value>, name: &str) -> Option<String> {
    let text = fields.get(name)?.as_str()?.to_owned();
    fields.remove(name);
    Some(text)
}

fn block(text: &str, prefix: &str) -> Vec<String> {
    text.lines().map(|line| format!("{prefix}{}", visible(line))).collect()
}

/// As many lines as are shown, and how many letters were cut off.
fn shorten(lines: Vec<String>) -> (Vec<String>, Option<usize>) {
    let letters = |lines: &[String]| lines.iter().map(|line| line.chars().count()).sum::<usize>();
    let whole = letters(&lines);
    let (mut shown, mut room) = (Vec::new(), LETTERS_SHOWN);
    for line in lines.into_iter().take(LINES_SHOWN) {
        let line: String = line.chars().take(room).collect();
        room -= line.chars().count();
        shown.push(line);
        if room == 0 {
            break;
        }
    }
    let cut = whole - letters(&shown);
    (shown, (cut > 0).then_some(cut))
}

/// A text in which nothing moves the cursor, turns the direction of writing or can not be seen:
/// such letters are written as `\u{202e}`.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        let hidden = matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if hidden || letter.is_control() && !matches!(letter, '\n' | '\t') {
            out.extend(letter.escape_unicode());
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn asked(kind: &str, tool: &str, input: Value) -> Asked {
        let id = "0198c0de-0000-7000-8000-0000000000a1";
        let data = json!({
            "id": id, "turnId": id, "kind": kind, "toolName": tool, "input": input, "rules": ["Bash(touch *)"],
            "timeoutMs": 600_000,
        });
        Asked::parse(&data.to_string()).expect("a request")
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn an_input_that_no_value_can_hold_is_shown_as_it_came() {
        let id = "0198c0de-0000-7000-8000-0000000000a1";
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for input in [r#"{"command":"ls \ud800"}"#, &deep] {
            let data = format!(r#"{{"id":"{id}","kind":"tool","toolName":"Tool","input":{input}}}"#);
            let asked = Asked::parse(&data).expect("a request that can be answered");
            assert!(plain(&asked.text(false)).starts_with(&format!("? Tool asks for permission\n  {input}")));
        }
    }

    #[test]
    fn every_field_of_an_input_is_shown() {
        let cases = [
            (
                json!({"command": "touch a\nrm b", "description": "Make a file", "run_in_background": true}),
                "  touch a\n  rm b\n  description: Make a file\n  run_in_background: true",
            ),
            (json!({"file_path": "/work/a", "old_string": "one", "new_string": "two"}), "  /work/a\n  - one\n  + two"),
            (json!({"file_path": "/work/a", "content": "one\n\ntwo\n"}), "  /work/a\n  + one\n  +\n  + two"),
            (
                json!({"file_path": "a", "edits": [{"old_string": "1", "new_string": "2", "replace_all": true}]}),
                "  a\n  - 1\n  + 2\n  replace_all: true",
            ),
            (json!({"plan": "# Plan\n1. Think"}), "  # Plan\n  1. Think"),
            (json!({"n": {"deep": [1]}, "text": "a\nb"}), "  n: {\"deep\":[1]}\n  text:\n    a\n    b"),
            (json!([1]), "  [\n    1\n  ]"),
        ];
        for (input, shown) in cases {
            let text = plain(&asked("tool", "Tool", input.clone()).text(false));
            let expected =
                format!("? Tool asks for permission\n{shown}\n  always would allow: Bash(touch *)\n  waits 10m 0s at most");
            assert_eq!(text, expected, "{input}");
        }
    }

    #[test]
    fn long_inputs_are_cut_with_a_word_about_it() {
        let short = asked("tool", "Bash", json!({"command": "true"}));
        assert!(!short.is_long());
        for command in ["x\n".repeat(31), "x".repeat(4001)] {
            let long = asked("tool", "Bash", json!({ "command": command }));
            assert!(long.is_long());
            assert!(plain(&long.text(false)).contains("… and 1 letters more"), "{command}");
            assert!(!long.text(true).contains('…'));
        }
    }

    #[test]
    fn nothing_hides_in_a_request() {
        let command = "ls \u{202e}txt.sh\u{8}\u{8}\r; rm -rf .\u{1b}[2K\u{200b}";
        let text = plain(&asked("tool", "Ba\u{1b}[2Jsh", json!({ "command": command })).text(false));
        assert!(text.contains(r"ls \u{202e}txt.sh\u{8}\u{8}\u{d}; rm -rf .\u{1b}[2K\u{200b}"), "{text}");
        assert!(text.contains(r"Ba\u{1b}[2Jsh"), "{text}");
    }

    #[test]
    fn questions_are_answered_by_number_or_text() {
        let question = |many: bool| {
            let options = json!([{"label": "blue", "description": "as the sky"}, {"label": "red"}]);
            let question = json!({"question": "Which?", "header": "Colour", "options": options, "multiSelect": many});
            asked("question", "AskUserQuestion", json!({"questions": [question]})).questions().remove(0)
        };
        assert_eq!(plain(&question(false).text_with_options()), "? Colour: Which?\n  1. blue  as the sky\n  2. red");
        for (many, typed, answer) in [
            (false, "1", Some("blue")),
            (false, " 2 ", Some("red")),
            (false, "green", Some("green")),
            (false, "1,2", Some("1,2")),
            (false, "3", None),
            (false, "0", None),
            (false, " ", None),
            (true, "2, 1", Some("red, blue")),
            (true, "1", Some("blue")),
            (true, "1 3", None),
            (true, "1 and green", Some("1 and green")),
        ] {
            assert_eq!(question(many).answer(typed).as_deref(), answer, "{typed}");
        }
    }

    #[test]
    fn a_notice_is_one_line_with_the_command() {
        let session = "0198c0de-0000-7000-8000-000000000001".parse().expect("an id");
        let notice = asked("tool", "Bash", json!({"command": "touch\nx"})).notice(session);
        assert_eq!(
            notice,
            "Bash touch x waits for permission: ashctl permission allow \
             0198c0de-0000-7000-8000-000000000001 0198c0de-0000-7000-8000-0000000000a1"
        );
    }
}
