//! The dialogue about one request for permission, apart from the terminal it happens on.
//!
//! ```text
//!   tool:      choice ──y, a, n──▶ answer          question: 1 ──▶ 2 ──▶ … ──▶ answer
//!              │ N ──▶ reason ──▶ answer
//!              │ e ──▶ editor ──▶ answer
//!              └ v, anything else ──▶ choice
//! ```

use serde_json::{Map, Value};

use crate::cli::cmd::permission::{input_of, plain};
use crate::cli::cmd::request::{Asked, Question};
use crate::wire::permission::{Behavior, PermissionAnswer, Scope};

/// A request that somebody at the terminal is to answer.
pub(super) struct Dialogue {
    pub(super) asked: Asked,
    questions: Vec<Question>,
    stage: Stage,
}

enum Stage {
    Choice,
    Reason,
    /// Asks the first question that has no answer yet.
    Questions(Map<String, Value>),
}

/// What follows from a line that was typed.
#[derive(Debug)]
pub(super) enum Step {
    /// Say this, then ask again; nothing if it is empty.
    Ask(String),
    /// Let the user edit this, and call [`Dialogue::edited`].
    Edit(String),
    /// Done.
    Answer(PermissionAnswer),
}

impl Dialogue {
    pub(super) fn new(asked: Asked) -> Self {
        let questions = asked.questions();
        let stage = if questions.is_empty() { Stage::Choice } else { Stage::Questions(Map::new()) };
        Self { asked, questions, stage }
    }

    /// What is asked.
    pub(super) fn opening(&self) -> String {
        match self.question() {
            Some(question) => question.text_with_options(),
            None => self.asked.text(false),
        }
    }

    /// Where the answer is typed.
    pub(super) fn prompt(&self) -> String {
        match (&self.stage, self.question()) {
            (Stage::Reason, _) => "Why not? › ".into(),
            (_, Some(question)) if question.many && !question.options.is_empty() => "Numbers with commas, or text › ".into(),
            (_, Some(question)) if question.options.is_empty() => "Answer › ".into(),
            (_, Some(_)) => "Number, or text › ".into(),
            (_, None) => {
                let always = if self.asked.rules.is_empty() { "" } else { "[a]lways in this session, " };
                let all = if self.asked.is_long() { ", [v]iew all" } else { "" };
                format!("Allow? [y]es, {always}[n]o, [N]o and say why, [e]dit{all} › ")
            }
        }
    }

    /// Takes a line.
    pub(super) fn line(&mut self, line: &str) -> Step {
        let line = line.trim();
        match &mut self.stage {
            Stage::Reason => {
                let message = (!line.is_empty()).then(|| line.to_owned());
                Step::Answer(PermissionAnswer { message, ..plain(Behavior::Deny) })
            }
            Stage::Questions(answers) => {
                let Some(question) = self.questions.get(answers.len()) else { return Step::Ask(String::new()) };
                let Some(answer) = question.answer(line) else {
                    return Step::Ask("Type a number of the list, or an answer in your own words.".into());
                };
                answers.insert(question.text.clone(), answer.into());
                match self.questions.get(answers.len()) {
                    Some(next) => Step::Ask(next.text_with_options()),
                    None => {
                        let answers = Some(std::mem::take(answers));
                        Step::Answer(PermissionAnswer { answers, ..plain(Behavior::Allow) })
                    }
                }
            }
            Stage::Choice => self.choice(line),
        }
    }

    fn choice(&mut self, line: &str) -> Step {
        match line {
            "N" => {
                self.stage = Stage::Reason;
                return Step::Ask(String::new());
            }
            "e" | "E" => return Step::Edit(format!("{:#}\n", self.asked.input)),
            _ => {}
        }
        match line.to_lowercase().as_str() {
            "y" | "yes" => Step::Answer(plain(Behavior::Allow)),
            "a" | "always" if !self.asked.rules.is_empty() => {
                Step::Answer(PermissionAnswer { scope: Scope::Session, ..plain(Behavior::Allow) })
            }
            "n" | "no" => Step::Answer(plain(Behavior::Deny)),
            "edit" => Step::Edit(format!("{:#}\n", self.asked.input)),
            "v" | "view" => Step::Ask(self.asked.text(true)),
            "" => Step::Ask(String::new()),
            _ => Step::Ask("Type one of the letters.".into()),
        }
    }

    /// Takes the input that the user has edited.
    pub(super) fn edited(&mut self, text: &str) -> Step {
        match input_of(text) {
            Ok(input) => Step::Answer(PermissionAnswer { updated_input: Some(input), ..plain(Behavior::Allow) }),
            Err(problem) => Step::Ask(format!("Nothing was sent: what you wrote {problem}")),
        }
    }

    fn question(&self) -> Option<&Question> {
        match &self.stage {
            Stage::Questions(answers) => self.questions.get(answers.len()),
            Stage::Choice | Stage::Reason => None,
        }
    }

    /// Begins again, after an answer that was not taken.
    pub(super) fn restart(&mut self) {
        self.stage = if self.questions.is_empty() { Stage::Choice } else { Stage::Questions(Map::new()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(kind: &str, input: Value, rules: &[&str]) -> Asked {
        let id = "0198c0de-0000-7000-8000-0000000000a1";
        let data =
            json!({"id": id, "turnId": id, "kind": kind, "toolName": "T", "input": input, "rules": rules, "timeoutMs": null});
        Asked::parse(&data.to_string()).expect("a request")
    }

    fn answer(step: Step) -> Value {
        match step {
            Step::Answer(answer) => serde_json::to_value(answer).expect("JSON"),
            other => panic!("{other:?} is no answer"),
        }
    }

    fn tool(lines: &[&str], rules: &[&str]) -> Step {
        let mut dialogue = Dialogue::new(asked("tool", json!({"command": "ls"}), rules));
        let mut step = Step::Ask(String::new());
        for line in lines {
            assert!(matches!(step, Step::Ask(_)), "{step:?} before {line}");
            step = dialogue.line(line);
        }
        step
    }

    #[test]
    fn letters_are_answers() {
        let rules = &["Bash(ls *)"][..];
        for (lines, expected) in [
            (&["y"][..], json!({"behavior": "allow", "scope": "once"})),
            (&[" YES "], json!({"behavior": "allow", "scope": "once"})),
            (&["a"], json!({"behavior": "allow", "scope": "session"})),
            (&["n"], json!({"behavior": "deny", "scope": "once"})),
            (&["N", " not on a Friday "], json!({"behavior": "deny", "scope": "once", "message": "not on a Friday"})),
            (&["N", ""], json!({"behavior": "deny", "scope": "once"})),
            (&["", "what?", "v", "no"], json!({"behavior": "deny", "scope": "once"})),
        ] {
            assert_eq!(answer(tool(lines, rules)), expected, "{lines:?}");
        }
        assert!(matches!(tool(&["a"], &[]), Step::Ask(text) if !text.is_empty()), "there is nothing to allow for good");
    }

    #[test]
    fn only_what_is_possible_is_offered() {
        let prompt = |rules: &[&str], command: &str| Dialogue::new(asked("tool", json!({ "command": command }), rules)).prompt();
        assert_eq!(prompt(&[], "ls"), "Allow? [y]es, [n]o, [N]o and say why, [e]dit › ");
        let long = prompt(&["Bash"], &"ls\n".repeat(50));
        assert_eq!(long, "Allow? [y]es, [a]lways in this session, [n]o, [N]o and say why, [e]dit, [v]iew all › ");
    }

    #[test]
    fn an_input_that_was_edited_is_what_runs() {
        let mut dialogue = Dialogue::new(asked("tool", json!({"command": "ls"}), &[]));
        assert!(matches!(dialogue.line("e"), Step::Edit(text) if text == "{\n  \"command\": \"ls\"\n}\n"));
        assert!(matches!(dialogue.edited("{"), Step::Ask(text) if text.contains("no JSON")));
        let expected = json!({"behavior": "allow", "scope": "once", "updatedInput": {"command": "pwd"}});
        assert_eq!(answer(dialogue.edited("{\"command\": \"pwd\"}")), expected);
    }

    #[test]
    fn questions_are_asked_one_after_the_other() {
        let options = json!([{"label": "blue"}, {"label": "red"}]);
        let questions = json!([
            {"question": "Which?", "options": options},
            {"question": "And which?", "options": options, "multiSelect": true},
            {"question": "Why?"},
        ]);
        let mut dialogue = Dialogue::new(asked("question", json!({ "questions": questions }), &[]));
        assert!(dialogue.opening().contains("Which?"));
        assert_eq!(dialogue.prompt(), "Number, or text › ");
        assert!(matches!(dialogue.line("7"), Step::Ask(text) if text.contains("number")));
        assert!(matches!(dialogue.line("2"), Step::Ask(text) if text.contains("And which?")));
        assert_eq!(dialogue.prompt(), "Numbers with commas, or text › ");
        assert!(matches!(dialogue.line("1,2"), Step::Ask(text) if text.contains("Why?")));
        assert_eq!(dialogue.prompt(), "Answer › ");
        let expected = json!({"Which?": "red", "And which?": "blue, red", "Why?": "because"});
        assert_eq!(answer(dialogue.line("because"))["answers"], expected);
        dialogue.restart();
        assert!(dialogue.opening().contains("Which?"), "an answer that was not taken is asked for again");
    }
}
