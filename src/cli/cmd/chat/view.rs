//! A turn as a person, or a pipe, sees it.
//!
//! The answer goes to standard output: pieces of text as they come, then the complete message,
//! which is the truth where the pieces differ. Everything else is talk: a line for each tool, and
//! a sign of life while nothing comes.

use std::collections::HashMap;
use std::io::{self, Write};

use serde_json::Value;

use super::spinner::Spinner;
use crate::cli::output::{DIM, RED, clean, columns, one_line};
use crate::client::sse::Frame;
use crate::wire::usage::Usage;

/// Longest line about a tool where there is no terminal to fit.
const TOOL_LINE_LETTERS: usize = 120;

const INTERRUPTING: &str = "interrupting; Ctrl-C again leaves";

/// How a turn ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ending {
    /// `completed`, `failed`, `interrupted` or `cancelled`; empty if the stream did not say.
    pub(super) state: String,
    /// What failed, in the words of the stream.
    pub(super) cause: Option<String>,
    /// What the turn took, if the stream said.
    pub(super) usage: Option<Box<Usage>>,
}

impl Ending {
    pub(super) fn is_good(&self) -> bool {
        self.state == "completed" || self.state.is_empty() && self.cause.is_none()
    }
}

/// Prints a turn's frames.
pub(super) struct TurnView<O, T> {
    out: O,
    talk: T,
    /// Whether the answer goes to a terminal, which must not obey what is in it.
    guard: bool,
    /// The width of a line about a tool.
    width: usize,
    spinner: Option<Spinner<io::Stderr>>,
    /// Whether the user interrupts, and nothing else is of interest.
    wait_for_end: bool,
    /// What was printed of the message that is still coming.
    preview: String,
    /// Whether the last thing on standard output was a line feed, or nothing.
    at_line_start: bool,
    /// Whether a paragraph has to be put between what was printed and what comes.
    gap: bool,
    said_anything: bool,
    tools: HashMap<String, String>,
    /// The runtime's own last word.
    result: Option<String>,
    error: Option<String>,
}

impl<O: Write, T: Write> TurnView<O, T> {
    pub(super) fn new(out: O, talk: T) -> Self {
        Self {
            out,
            talk,
            guard: false,
            width: TOOL_LINE_LETTERS,
            spinner: None,
            wait_for_end: false,
            preview: String::new(),
            at_line_start: true,
            gap: false,
            said_anything: false,
            tools: HashMap::new(),
            result: None,
            error: None,
        }
    }

    /// For an answer that a person reads as it comes.
    pub(super) fn on_terminal(mut self) -> Self {
        self.guard = true;
        self
    }

    /// For talk that a person reads as it comes.
    pub(super) fn with_signs_of_life(mut self) -> Self {
        self.width = usize::from(columns());
        self.spinner = Some(Spinner::new(io::stderr(), columns()));
        self
    }

    /// Shows that the agent is at work with `what`.
    pub(super) fn working(&mut self, what: &str) {
        if let Some(spinner) = self.spinner.as_mut().filter(|_| self.at_line_start) {
            spinner.show(if self.wait_for_end { INTERRUPTING } else { what });
        }
    }

    /// Shows until the end that the user's wish is on its way.
    pub(super) fn interrupting(&mut self) {
        self.wait_for_end = true;
        self.working(INTERRUPTING);
    }

    /// Whether [`Self::tick`] wants to be called from time to time.
    pub(super) fn is_moving(&self) -> bool {
        self.spinner.as_ref().is_some_and(Spinner::is_shown)
    }

    /// Moves the sign of life.
    pub(super) fn tick(&mut self) {
        if let Some(spinner) = &mut self.spinner {
            spinner.draw();
        }
    }

    /// Takes the sign of life away, so that something can be printed.
    fn quiet(&mut self) {
        if let Some(spinner) = &mut self.spinner {
            spinner.hide();
        }
    }

    /// Shows a frame; returns how the turn ended once it has.
    pub(super) fn frame(&mut self, frame: &Frame) -> io::Result<Option<Ending>> {
        let data: Value = serde_json::from_str(&frame.data).unwrap_or_default();
        match frame.event.as_str() {
            "session_start" => self.working("thinking"),
            "text_delta" => {
                let delta = data["delta"].as_str().unwrap_or_default();
                self.preview.push_str(delta);
                self.print(delta)?;
            }
            "message" => self.message(&data)?,
            "tool_use" => self.tool_use(&data)?,
            "tool_result" => self.tool_result(&data)?,
            "turn_complete" => self.result = data["result"].as_str().map(str::to_owned),
            _ => {}
        }
        let ending = self.ending(frame, &data);
        if let Some(ending) = &ending {
            // Commands of the runtime answer without a message of the model.
            let result = self.result.take().filter(|_| ending.is_good() && !self.said_anything);
            self.print(&result.unwrap_or_default())?;
            self.end()?;
        }
        Ok(ending)
    }

    /// Prints `text`, which stands for the frame; returns how the turn ended once it has.
    pub(super) fn pass(&mut self, text: &str, frame: &Frame) -> io::Result<Option<Ending>> {
        self.print(text)?;
        Ok(self.ending(frame, &serde_json::from_str(&frame.data).unwrap_or_default()))
    }

    fn ending(&mut self, frame: &Frame, data: &Value) -> Option<Ending> {
        let text = |field: &str| data[field].as_str().map(str::to_owned);
        match frame.event.as_str() {
            "error" => {
                self.error = text("error").or_else(|| Some(frame.data.clone()));
                None
            }
            "done" => Some(Ending {
                state: text("state").unwrap_or_default(),
                cause: self.error.take().or_else(|| text("cause")),
                usage: serde_json::from_value(data["usage"].clone()).ok(),
            }),
            _ => None,
        }
    }

    /// Ends the line and the sign of life, also where the stream has no `done`.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.quiet();
        self.end_line()
    }

    /// Prints what a complete message has beyond its preview.
    fn message(&mut self, message: &Value) -> io::Result<()> {
        // What a subagent says goes to the agent that called it.
        if message["type"] != "assistant" || !message["parent_tool_use_id"].is_null() {
            return Ok(());
        }
        // In place of an answer the runtime may say that there is none; the turn's end says it too.
        if message["error"].is_string() {
            return Ok(());
        }
        let said = said(message);
        if said.is_empty() {
            return Ok(());
        }
        let preview = std::mem::take(&mut self.preview);
        match said.strip_prefix(preview.as_str()) {
            Some(rest) => self.print(rest)?,
            None => {
                self.end_line()?;
                self.print(&said)?;
            }
        }
        self.gap = true;
        Ok(())
    }

    fn tool_use(&mut self, data: &Value) -> io::Result<()> {
        let name = data["name"].as_str().unwrap_or("tool");
        if let Some(id) = data["id"].as_str() {
            self.tools.insert(id.to_owned(), name.to_owned());
        }
        let line = format!("{name} {}", gist(&data["input"]));
        self.preview.clear();
        self.talk_line(format_args!("{DIM}● {}{DIM:#}", one_line(&line, self.width.saturating_sub(2))))?;
        self.working(&format!("running {name}"));
        Ok(())
    }

    fn tool_result(&mut self, data: &Value) -> io::Result<()> {
        let name = data["tool_use_id"].as_str().and_then(|id| self.tools.remove(id));
        // Who interrupts knows why the call failed; the runtime's text about it is meant for the model.
        if data["is_error"] == true && !self.wait_for_end {
            let text = data["content"].as_str().map_or_else(|| text_of(&data["content"]), str::to_owned);
            let text = text.replace("<tool_use_error>", "").replace("</tool_use_error>", "");
            let line = format!("{}: {text}", name.as_deref().unwrap_or("tool"));
            self.talk_line(format_args!("{RED}✗{RED:#} {DIM}{}{DIM:#}", one_line(&line, self.width.saturating_sub(2))))?;
        }
        self.working("thinking");
        Ok(())
    }

    /// Says something in passing.
    pub(super) fn note(&mut self, line: &str) -> io::Result<()> {
        self.talk_line(format_args!("{DIM}{line}{DIM:#}"))
    }

    /// Says something that has its own colours, on lines of its own.
    pub(super) fn block(&mut self, text: &str) -> io::Result<()> {
        self.talk_line(format_args!("{text}"))
    }

    /// Leaves the cursor behind `text`, for an answer to be typed.
    pub(super) fn prompt(&mut self, text: &str) {
        self.quiet();
        drop(write!(self.talk, "{text}").and_then(|()| self.talk.flush()));
    }

    fn talk_line(&mut self, line: std::fmt::Arguments<'_>) -> io::Result<()> {
        self.quiet();
        self.end_line()?;
        // Talk that nobody hears is no reason to lose the answer.
        drop(writeln!(self.talk, "{line}"));
        Ok(())
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.quiet();
        if std::mem::take(&mut self.gap) {
            self.end_line()?;
            self.out.write_all(b"\n")?;
        }
        let text = if self.guard { clean(text) } else { text.to_owned() };
        self.out.write_all(text.as_bytes())?;
        self.out.flush()?;
        self.at_line_start = text.ends_with('\n');
        self.said_anything = true;
        Ok(())
    }

    fn end_line(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.at_line_start, true) {
            self.out.write_all(b"\n")?;
            self.out.flush()?;
            self.gap = true;
        }
        Ok(())
    }
}

/// The text of a message: of the runtime's, or of a user's.
pub(in crate::cli::cmd) fn said(message: &Value) -> String {
    let content = message.get("message").map_or(&message["content"], |message| &message["content"]);
    content.as_str().map_or_else(|| text_of(content), str::to_owned)
}

/// The text blocks of a list of content blocks.
fn text_of(content: &Value) -> String {
    let blocks = content.as_array().into_iter().flatten();
    blocks.filter(|block| block["type"] == "text").filter_map(|block| block["text"].as_str()).collect()
}

/// What says most about a call: the one field that people look for, else all.
pub(in crate::cli::cmd) fn gist(input: &Value) -> String {
    const TELLING: [&str; 9] = ["command", "file_path", "path", "pattern", "url", "query", "skill", "description", "prompt"];
    let telling = TELLING.iter().find_map(|field| input[field].as_str());
    match (telling, input.as_object()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(fields)) if fields.is_empty() => String::new(),
        (None, None) if input.is_null() => String::new(),
        _ => input.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Shows frames, and returns what is on standard output, on standard error, and the ending.
    fn show(frames: &[(&str, Value)]) -> (String, String, Option<Ending>) {
        let (mut out, mut talk, mut ending) = (Vec::new(), Vec::new(), None);
        let mut view = TurnView::new(&mut out, anstream::StripStream::new(&mut talk));
        for (event, data) in frames {
            let frame = Frame { id: None, event: (*event).into(), data: data.to_string() };
            ending = view.frame(&frame).expect("written").or(ending);
        }
        view.end().expect("written");
        drop(view);
        (String::from_utf8(out).expect("text"), String::from_utf8(talk).expect("text"), ending)
    }

    fn answer(text: &str) -> (&'static str, Value) {
        let content = json!([{"type": "text", "text": text}]);
        (
            "message",
            json!({"type": "assistant", "message": {"role": "assistant", "content": content}, "parent_tool_use_id": null}),
        )
    }

    fn delta(text: &str) -> (&'static str, Value) {
        ("text_delta", json!({"delta": text}))
    }

    #[test]
    fn an_answer_is_printed_once_with_or_without_preview() {
        let done = ("done", json!({"sessionId": "s", "state": "completed"}));
        for frames in [
            vec![answer("Hello there."), done.clone()],
            vec![delta("Hello "), delta("there."), answer("Hello there."), done.clone()],
            vec![delta("Hello "), answer("Hello there."), done.clone()],
            vec![answer("Hello there.\n"), ("turn_complete", json!({"numTurns": 1, "result": "Hello there."})), done.clone()],
            vec![("turn_complete", json!({"numTurns": 1, "result": "Hello there."})), done],
        ] {
            let (out, talk, ending) = show(&frames);
            assert_eq!((out.as_str(), talk.as_str()), ("Hello there.\n", ""), "{frames:?}");
            assert!(ending.is_some_and(|ending| ending.is_good()));
        }
    }

    #[test]
    fn a_preview_that_was_wrong_is_followed_by_the_truth() {
        let (out, ..) = show(&[delta("Helpo"), answer("Hello.")]);
        assert_eq!(out, "Helpo\n\nHello.\n");
    }

    #[test]
    fn tools_are_talk_and_part_the_text() {
        let (out, talk, _) = show(&[
            delta("Let me look."),
            answer("Let me look."),
            ("tool_use", json!({"id": "t1", "name": "Bash", "input": {"command": "ls\n -la", "description": "x"}})),
            ("tool_result", json!({"tool_use_id": "t1", "content": "CLAUDE.md", "is_error": false})),
            ("tool_use", json!({"id": "t2", "name": "mcp__db__ask", "input": {"n": 1}})),
            ("tool_result", json!({"tool_use_id": "t2", "content": "no\ntable", "is_error": true})),
            answer("There is one file."),
        ]);
        assert_eq!(out, "Let me look.\n\nThere is one file.\n");
        assert_eq!(talk, "● Bash ls -la\n● mcp__db__ask {\"n\":1}\n✗ mcp__db__ask: no table\n");
    }

    #[test]
    fn failed_calls_are_told_to_people_and_not_to_models() {
        let call = ("tool_use", json!({"id": "t1", "name": "Bash", "input": {"command": "sleep 30"}}));
        let failed =
            ("tool_result", json!({"tool_use_id": "t1", "content": "<tool_use_error>no</tool_use_error>", "is_error": true}));
        let (_, talk, _) = show(&[call, failed.clone()]);
        assert_eq!(talk, "● Bash sleep 30\n✗ Bash: no\n");

        let mut talk = Vec::new();
        let mut view = TurnView::new(io::sink(), anstream::StripStream::new(&mut talk));
        view.interrupting();
        view.frame(&Frame { id: None, event: failed.0.into(), data: failed.1.to_string() }).expect("written");
        drop(view);
        assert_eq!(talk, b"", "the user, who interrupted the call, is not told that it was");
    }

    #[test]
    fn what_subagents_say_is_not_the_answer() {
        let (kind, mut message) = answer("inner");
        message["parent_tool_use_id"] = json!("t1");
        let (out, ..) = show(&[(kind, message), answer("outer")]);
        assert_eq!(out, "outer\n");
    }

    #[test]
    fn endings_say_what_went_wrong() {
        let done = |data| ("done", data);
        let error = ("error", json!({"error": "the model is overloaded"}));
        for (frames, good, cause) in [
            (vec![done(json!({"sessionId": "s"}))], true, None),
            (vec![error.clone(), done(json!({"sessionId": "s"}))], false, Some("the model is overloaded")),
            (vec![error, done(json!({"state": "failed", "cause": "x"}))], false, Some("the model is overloaded")),
            (vec![done(json!({"state": "interrupted", "cause": "host"}))], false, Some("host")),
        ] {
            let (_, _, ending) = show(&frames);
            let ending = ending.expect("an ending");
            assert_eq!((ending.is_good(), ending.cause.as_deref()), (good, cause), "{frames:?}");
        }
    }

    #[test]
    fn an_error_in_place_of_an_answer_is_not_the_answer() {
        let (kind, mut message) = answer("API Error: 529");
        message["error"] = json!("overloaded");
        let (out, _, ending) = show(&[
            (kind, message),
            ("turn_complete", json!({"numTurns": 1, "result": "API Error: 529"})),
            ("error", json!({"error": "API Error: 529"})),
            ("done", json!({"state": "failed", "cause": "API Error: 529"})),
        ]);
        assert_eq!(out, "");
        assert!(ending.is_some_and(|ending| ending.cause.as_deref() == Some("API Error: 529")));
    }

    #[test]
    fn terminals_are_guarded() {
        let mut out = Vec::new();
        let mut view = TurnView::new(&mut out, io::sink()).on_terminal();
        let (event, data) = answer("a\u{1b}]0;title\u{7}b");
        view.frame(&Frame { id: None, event: event.into(), data: data.to_string() }).expect("written");
        drop(view);
        assert_eq!(out, b"a]0;titleb");
    }
}
