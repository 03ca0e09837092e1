//! What goes to the terminal: results on standard output, talk on standard error.

use std::io::{self, IsTerminal as _, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use comfy_table::Table;
use serde::Serialize;
use serde_json::Value;

use super::args::Format;
use super::error::CliError;
use crate::wire::Timestamp;

/// Less important than what stands around it.
pub const DIM: Style = Style::new().dimmed();
/// What the eye should find.
pub const BOLD: Style = Style::new().bold();
/// Good.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// Not good, not bad.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
/// Bad.
pub const RED: Style = AnsiColor::Red.on_default();

/// Blanks between columns.
const COLUMN_GAP: u16 = 2;
/// Fewest letters to which a column is cut.
const COLUMN_MIN: usize = 8;
/// Width of what is no terminal.
const DEFAULT_COLUMNS: u16 = 100;

/// The two streams, and how to print on them.
pub struct Output {
    /// What the user asked for.
    pub format: Format,
    /// Whether a person reads standard output as it is written.
    pub out_is_terminal: bool,
    /// Whether a person reads standard error as it is written.
    pub talk_is_terminal: bool,
    /// Results. Colours are dropped where they do not belong.
    pub out: Screen,
    /// Talk.
    pub talk: AutoStream<io::Stderr>,
    /// Whether a result is one of many, of which each has a line or a document of its own.
    pub is_stream: bool,
}

impl Output {
    /// The process's own streams.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            out_is_terminal: io::stdout().is_terminal(),
            talk_is_terminal: io::stderr().is_terminal(),
            out: Screen { stream: anstream::stdout(), frame: None },
            talk: anstream::stderr(),
            is_stream: false,
        }
    }

    /// Whether results are the API's own objects, and no text for people.
    pub fn is_json(&self) -> bool {
        self.format != Format::Table
    }

    /// Prints a line of the result.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn line(&mut self, line: impl std::fmt::Display) -> Result<(), CliError> {
        writeln!(self.out, "{line}").and_then(|()| self.out.flush()).map_err(CliError::Output)
    }

    /// Prints an object of the API in the format that is asked for.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn json(&mut self, value: &Value) -> Result<(), CliError> {
        match self.format {
            _ if self.is_stream => self.item(value),
            Format::Yaml => self.line(yaml(value).trim_end()),
            Format::Json | Format::Table => self.line(format_args!("{value:#}")),
        }
    }

    /// Prints one object of a stream.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn item(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        self.line(item(value, self.format).trim_end())
    }

    /// Prints what a command on several things gave: the one, or all in an array. Nothing if the
    /// output is text.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn documents(&mut self, mut values: Vec<Value>) -> Result<(), CliError> {
        match (self.is_json(), values.len()) {
            (false, _) => Ok(()),
            (true, 1) => self.json(&values.remove(0)),
            (true, _) => self.json(&Value::Array(values)),
        }
    }

    /// Says something beside the result. It does not matter if nobody hears.
    pub fn say(&mut self, line: impl std::fmt::Display) {
        match &mut self.out.frame {
            // It would stand in the middle of what is painted.
            Some(frame) if self.talk_is_terminal => drop(writeln!(frame, "{line}")),
            _ => drop(writeln!(self.talk, "{line}")),
        }
    }

    /// Says something that is no news to a program.
    pub fn whisper(&mut self, line: impl std::fmt::Display) {
        if self.talk_is_terminal {
            self.say(format_args!("{DIM}{line}{DIM:#}"));
        }
    }

    /// Prints rows in columns, as wide as the terminal at most.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn table<const N: usize>(&mut self, head: [&str; N], rows: Vec<[String; N]>) -> Result<(), CliError> {
        let width = self.out_is_terminal.then(columns);
        let text = table(head, rows, width);
        self.line(text)
    }

    /// Prints names and values below each other.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn fields(&mut self, fields: &[(&str, String)]) -> Result<(), CliError> {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
        for (name, value) in fields {
            let name = format!("{name}:");
            self.line(format_args!("{DIM}{name:width$}{DIM:#} {}", clean(value)))?;
        }
        Ok(())
    }
}

/// Standard output. While a frame is open, what is written is kept, to be painted as a whole.
pub struct Screen {
    stream: AutoStream<io::Stdout>,
    frame: Option<Vec<u8>>,
}

impl Screen {
    /// Whether colours are written.
    pub fn current_choice(&self) -> ColorChoice {
        self.stream.current_choice()
    }

    /// Makes the terminal empty, for frames.
    ///
    /// # Errors
    /// If it can not be written.
    pub fn clear(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(b"\x1b[2J\x1b[H").and_then(|()| out.flush())
    }

    /// Opens a frame.
    pub fn open_frame(&mut self) {
        self.frame = Some(Vec::new());
    }

    /// Paints the open frame over the one before, at one stroke, as much of it as the terminal has
    /// room for.
    ///
    /// # Errors
    /// If it can not be written.
    pub fn paint(&mut self) -> io::Result<()> {
        let Some(frame) = self.frame.take() else { return Ok(()) };
        let text = String::from_utf8_lossy(&frame);
        let text = match self.current_choice() {
            ColorChoice::Never => anstream::adapter::strip_str(&text).to_string(),
            _ => text.into_owned(),
        };
        let mut out = io::stdout().lock();
        out.write_all(stroke(&text, rows()).as_bytes()).and_then(|()| out.flush())
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.frame {
            Some(frame) => frame.write(bytes),
            None => self.stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// What paints a text over what stands on a terminal with so many rows: from the top left, each line
/// up to the terminal's edge, nothing of what was there before (ECMA-48: CUP, EL, ED; DECAWM).
fn stroke(text: &str, rows: usize) -> String {
    // The last row is for the cursor.
    let lines = text.lines().take(rows.saturating_sub(1));
    // Emptied first: behind a line that ends at the edge, that would take its last letter.
    let lines: String = lines.map(|line| format!("\x1b[K{line}\x1b[0m\r\n")).collect();
    format!("\x1b[?7l\x1b[H{lines}\x1b[J\x1b[?7h")
}

/// An object of a stream as it is printed: a line of JSON, or a document of YAML.
pub fn item(value: &impl Serialize, format: Format) -> String {
    match format {
        Format::Yaml => format!("---\n{}", yaml(value)),
        Format::Json | Format::Table => serde_json::to_string(value).expect("texts and JSON can be written as JSON") + "\n",
    }
}

/// YAML that readers of YAML 1.2 and of 1.1 read alike, with a line feed at its end. Long texts are not
/// folded.
fn yaml(value: &impl Serialize) -> String {
    let mut options = serde_saphyr::SerializerOptions::default();
    options.folded_wrap_chars = usize::MAX;
    serde_saphyr::to_string_with_options(value, options).expect("texts and JSON can be written as YAML")
}

/// The height of the terminal that results go to.
fn rows() -> usize {
    const DEFAULT_ROWS: usize = 24;
    terminal_size::terminal_size_of(io::stdout()).map_or(DEFAULT_ROWS, |(_, height)| height.0.into())
}

/// The width of the terminal that talk goes to.
pub fn columns() -> u16 {
    let found = terminal_size::terminal_size_of(io::stdout()).or_else(|| terminal_size::terminal_size_of(io::stderr()));
    found.map_or(DEFAULT_COLUMNS, |(width, _)| width.0.max(20))
}

fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>, room: Option<u16>) -> String {
    let rows: Vec<[String; N]> = rows.into_iter().map(|row| row.map(|cell| clean(&cell))).collect();
    let widths = room.map_or(vec![usize::MAX; N], |room| widths(&head, &rows, room.into()));
    let cut = |(cell, width): (&str, &usize)| if *width == usize::MAX { cell.to_owned() } else { one_line(cell, *width) };
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(head.into_iter().zip(&widths).map(cut));
    for row in &rows {
        table.add_row(row.iter().map(String::as_str).zip(&widths).map(cut));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, COLUMN_GAP));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// The widths of the columns that have room: those on the left, the widest of which are cut. One that can
/// not have a few letters is left out.
fn widths<const N: usize>(head: &[&str; N], rows: &[[String; N]], room: usize) -> Vec<usize> {
    let longest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..N).map(|column| longest(column).max(head[column].len())).collect();
    let total = |widths: &[usize], most: usize| {
        let gaps = usize::from(COLUMN_GAP) * widths.len().saturating_sub(1);
        widths.iter().map(|width| most.min(*width)).sum::<usize>() + gaps
    };
    while widths.len() > 1 && total(&widths, COLUMN_MIN) > room {
        widths.pop();
    }
    let most = (1..=room).rev().find(|most| total(&widths, *most) <= room).unwrap_or(1);
    widths.into_iter().map(|width| width.min(most)).collect()
}

/// A text without what would move the cursor or colour the screen: agents write what they like, and
/// a terminal obeys what it is sent.
pub fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// A text on one line of at most `width` letters.
pub fn one_line(text: &str, width: usize) -> String {
    let folded = clean(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if folded.chars().count() <= width {
        return folded;
    }
    folded.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// How long ago `then` was, as a person would say it; a date once that says more.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let secs = (now.millis() - then.millis()).div_euclid(1000);
    match secs {
        ..5 => "just now".into(),
        5..MINUTE => format!("{secs}s ago"),
        MINUTE..HOUR => format!("{}m ago", secs / MINUTE),
        HOUR..DAY => format!("{}h ago", secs / HOUR),
        DAY.. if secs < 30 * DAY => format!("{}d ago", secs / DAY),
        _ => then.to_string().chars().take(10).collect(),
    }
}

/// A length of time, as a person would say it.
pub fn duration(secs: i64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, _) => format!("{minutes}m {}s", secs % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// The present.
pub fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

/// The first twelve digits of a digest, as many as a person compares.
pub fn short_digest(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        let now = Timestamp(1_767_225_600_000);
        for (secs, text) in [
            (-3600, "just now"),
            (0, "just now"),
            (59, "59s ago"),
            (60, "1m ago"),
            (3599, "59m ago"),
            (7200, "2h ago"),
            (86_400, "1d ago"),
            (29 * 86_400, "29d ago"),
            (31 * 86_400, "2025-12-01"),
        ] {
            assert_eq!(ago(Timestamp(now.0 - secs * 1000), now), text);
        }
    }

    #[test]
    fn durations_have_two_parts_at_most() {
        for (secs, text) in [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3600, "1h 0m"), (90_000, "1d 1h")] {
            assert_eq!(duration(secs), text);
        }
    }

    #[test]
    fn terminals_get_no_orders_from_agents() {
        assert_eq!(clean("a\u{1b}[2J\u{7}b\tc\nd\u{9b}e"), "a[2Jb\tc\nde");
        assert_eq!(one_line("  two\n lines ", 20), "two lines");
        assert_eq!(one_line("ein Würfelspiel", 6), "ein W…");
    }

    #[test]
    fn yaml_means_what_the_json_meant() {
        use serde_json::json;
        for (value, text) in [
            (
                json!({"a": "no", "b": "on", "c": "null", "d": "~", "e": ""}),
                "a: \"no\"\nb: \"on\"\nc: \"null\"\nd: \"~\"\ne: \"\"\n",
            ),
            (
                json!({"a": "1", "b": "0x1F", "c": "1e3", "d": "0o7", "e": ".inf", "f": "1_000", "g": "12:30:45"}),
                "a: \"1\"\nb: \"0x1F\"\nc: \"1e3\"\nd: \"0o7\"\ne: \".inf\"\nf: \"1_000\"\ng: \"12:30:45\"\n",
            ),
            (json!({"at": "2026-01-31T12:00:00.000Z"}), "at: \"2026-01-31T12:00:00.000Z\"\n"),
            (
                json!({"a": null, "b": true, "c": 1, "d": 0.25, "e": [], "f": {}}),
                "a: null\nb: true\nc: 1\nd: 0.25\ne: []\nf: {}\n",
            ),
            (json!({"a": "two\nlines\n", "b": "no\nend"}), "a: |\n  two\n  lines\nb: |-\n  no\n  end\n"),
            (json!([{"a": 1, "b": [1, 2]}]), "- a: 1\n  b:\n  - 1\n  - 2\n"),
            (json!({"a: b": "c # d", "- e": "@f", "g": "*h"}), ""),
        ] {
            let written = yaml(&value);
            if !text.is_empty() {
                assert_eq!(written, text);
            }
        }
    }

    #[test]
    fn columns_without_room_are_left_out_and_the_widest_are_cut() {
        let row = |id: usize, name: usize, state: usize| ["i".repeat(id), "n".repeat(name), "s".repeat(state)];
        for (room, cells, expected) in [
            (80, row(36, 10, 6), &[36, 10, 6][..]),
            (40, row(36, 10, 6), &[20, 10, 6]),
            (26, row(36, 10, 6), &[8, 8, 6]),
            (25, row(36, 10, 6), &[13, 10]),
            (5, row(36, 10, 6), &[5]),
        ] {
            assert_eq!(widths(&["ID", "NAME", "STATE"], &[cells], room), expected, "{room}");
        }
    }

    #[test]
    fn frames_are_painted_at_one_stroke_within_the_terminal() {
        let painted = stroke("a\nb\nc\n", 3);
        assert_eq!(painted, "\x1b[?7l\x1b[H\x1b[Ka\x1b[0m\r\n\x1b[Kb\x1b[0m\r\n\x1b[J\x1b[?7h");
    }

    #[test]
    fn tables_have_aligned_columns_and_no_blanks_at_the_end() {
        let rows = vec![["a".into(), "1".into()], ["long name".into(), String::new()]];
        assert_eq!(table(["NAME", "N"], rows, None), "NAME       N\na          1\nlong name");
    }

    #[test]
    fn tables_fit_the_terminal_and_are_whole_elsewhere() {
        let rows = || vec![["word ".repeat(30), "x".into()], ["two\nlines".into(), "w".repeat(60)]];
        let text = table(["NAME", "N"], rows(), Some(40));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 3 && lines.iter().all(|line| line.chars().count() <= 40), "{text}");
        assert!(lines[1].contains('…') && lines[2].ends_with('…') && lines[2].starts_with("two lines "), "{text}");
        assert!(table(["NAME", "N"], rows(), None).contains(&"w".repeat(60)));
    }
}
