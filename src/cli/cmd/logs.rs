//! `ashctl logs`: the journal, with the right matches.
//!
//! No format of journalctl(1) shows the fields that say what a line is about. So it is asked for
//! JSON, and the lines are written here:
//!
//! ```text
//!   Jan 31 12:00:00 ashd[123]: sandbox is up session=0198… agent=hello
//! ```

use std::io::{self, BufRead as _, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anstream::AutoStream;
use anstyle::Style;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Context;
use crate::cli::args::{Format, Logs};
use crate::cli::error::CliError;
use crate::cli::output::{DIM, RED, YELLOW, item, one_line};
use crate::wire::SessionId;

/// What runs as Ash, apart from sandboxes.
const UNITS: [&str; 2] = ["ash.service", "ash-launcher.service"];

/// How far back the pager goes; as `journalctl --pager-end` does.
const PAGER_LINES: u32 = 1000;

/// The first of the usual pagers that is installed, for a shell.
const DEFAULT_PAGER: &str = "$(command -v pager || command -v less || command -v more || echo cat)";

/// The session of an entry: the field of the daemon's lines, and of all that its sandbox prints.
const SESSION_FIELD: &str = "ASH_SESSION_ID";

pub(super) async fn run(args: Logs, context: &mut Context) -> Result<(), CliError> {
    let server = context.client.server();
    if !server.is_local() {
        let problem = format!("logs reads the journal of this host, but the daemon is {server}");
        return Err(CliError::usage(problem, "run it there: ssh HOST ashctl logs"));
    }
    let session = match &args.session {
        Some(named) => Some(context.session(named).await?),
        None => None,
    };
    let mut journal = Command::new("journalctl");
    let failed = |source| CliError::Run { program: "journalctl", source };
    if context.output.format == Format::Json {
        // In place of this process, so that signals and exit status are journalctl's own.
        return Err(failed(journal.args(arguments(&args, session, args.lines)).exec()));
    }
    let format = context.output.format;
    let paged = context.output.out_is_terminal && !args.follow && args.lines.is_none();
    journal.args(arguments(&args, session, args.lines.or(paged.then_some(PAGER_LINES)))).arg("--all");
    let mut journal = journal.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let pager = if paged { Pager::start() } else { None };
    let whole = match pager {
        Some(mut pager) => {
            // Ctrl-C is for the pager, which would be left behind.
            let kept = signal(SignalKind::interrupt()).map_err(|source| CliError::Run { program: "a signal handler", source })?;
            let whole = {
                // Colours as on the terminal, which the pager writes to.
                let colours = context.output.out.current_choice();
                let pipe = pager.0.stdin.take().map(|pipe| AutoStream::new(Box::new(pipe) as Box<dyn Write>, colours));
                copy(&mut journal, format, args.session.is_some(), pipe)
            };
            // It has the rest, and is ended by the user.
            drop(pager.0.wait());
            drop(kept);
            whole
        }
        None => copy(&mut journal, format, args.session.is_some(), Some(&mut context.output.out)),
    };
    if whole.is_err() {
        // It is at its end, or waits for a reader that is gone.
        drop(journal.kill());
    }
    let status = journal.wait().map_err(failed)?;
    match whole {
        // The user has seen enough.
        Err(error) if paged && error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CliError::Output(error)),
        Ok(()) if status.success() => Ok(()),
        Ok(()) => Err(CliError::Program { program: "journalctl", status }),
    }
}

fn arguments(args: &Logs, session: Option<SessionId>, lines: Option<u32>) -> Vec<String> {
    let mut arguments = vec!["--output=json".to_owned()];
    if args.follow {
        arguments.push("--follow".into());
    }
    arguments.extend(lines.map(|lines| format!("--lines={lines}")));
    match session {
        Some(id) => arguments.push(format!("{SESSION_FIELD}={id}")),
        None => arguments.extend(UNITS.map(|unit| format!("--unit={unit}"))),
    }
    arguments
}

/// Writes the journal's entries as lines, or as documents of YAML, then closes `out`. With `of_one` they are all of one
/// session, which then need not be named.
fn copy(journal: &mut Child, format: Format, of_one: bool, out: Option<impl Write>) -> io::Result<()> {
    let (Some(entries), Some(mut out)) = (journal.stdout.take(), out) else { return Ok(()) };
    let zone = TimeZone::system();
    let mut entries = BufReader::new(entries);
    let mut entry = Vec::new();
    while entries.read_until(b'\n', &mut entry)? > 0 {
        if let Ok(fields) = serde_json::from_slice(&entry) {
            match format {
                Format::Yaml => write!(out, "{}", item(&fields, format))?,
                Format::Table | Format::Json => writeln!(out, "{}", line(&fields, &zone, of_one))?,
            }
        }
        entry.clear();
        // A reader who follows sees each line as it comes; others need not wait for each.
        if entries.buffer().is_empty() {
            out.flush()?;
        }
    }
    out.flush()
}

/// An entry of `journalctl --output=json` as a line.
fn line(fields: &Map<String, Value>, zone: &TimeZone, of_one: bool) -> String {
    let field = |name: &str| fields.get(name).map(text).unwrap_or_default();
    let time = field("__REALTIME_TIMESTAMP").parse().ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    let time = time.unwrap_or_default().to_zoned(zone.clone()).strftime("%b %d %H:%M:%S").to_string();
    let name = ["SYSLOG_IDENTIFIER", "_COMM"].map(&field).into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| "?".into());
    let pid = ["_PID", "SYSLOG_PID"].map(&field).into_iter().find(|pid| !pid.is_empty());
    let pid = pid.map(|pid| format!("[{pid}]")).unwrap_or_default();
    // Levels of syslog: up to 3 are errors, 4 is a warning.
    let style = match field("PRIORITY").parse() {
        Ok(0..=3) => RED,
        Ok(4) => YELLOW,
        _ => Style::new(),
    };
    let message = one_line(&field("MESSAGE"), usize::MAX);
    let mut facts = String::new();
    let own = fields.keys().filter_map(|key| Some((key, key.strip_prefix("ASH_")?)));
    let mut own: Vec<_> = own.filter(|(key, _)| !(of_one && key.as_str() == SESSION_FIELD)).collect();
    own.sort_by_key(|(key, _)| key.as_str() != SESSION_FIELD);
    for (key, short) in own {
        let short = if key == SESSION_FIELD { "session".into() } else { short.to_lowercase() };
        let value = one_line(&field(key), usize::MAX);
        let value = if value.contains(' ') || value.is_empty() { format!("{value:?}") } else { value };
        facts.push_str(&format!(" {short}={value}"));
    }
    let head = one_line(&format!("{time} {name}{pid}:"), usize::MAX);
    format!("{DIM}{head}{DIM:#} {style}{message}{style:#}{DIM}{facts}{DIM:#}")
}

/// The value of a field: a text, an array of bytes if it is not one, or an array of values if the
/// entry has the field more than once (journalctl(1), `--output=json`).
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) if values.iter().all(Value::is_number) => {
            let bytes: Vec<u8> = values.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Value::Array(values) => {
            let mut texts: Vec<String> = values.iter().map(text).collect();
            texts.dedup();
            texts.join(",")
        }
        _ => String::new(),
    }
}

/// The program that shows what is longer than the terminal.
struct Pager(Child);

impl Pager {
    /// Starts the one that the user chose; `None` if they want none, or it can not be run.
    fn start() -> Option<Self> {
        // As journalctl(1) looks for it.
        let chosen = ["SYSTEMD_PAGER", "PAGER"].into_iter().find_map(|name| std::env::var(name).ok());
        let program = chosen.unwrap_or_else(|| DEFAULT_PAGER.into());
        if program.is_empty() || program == "cat" {
            return None;
        }
        let mut command = Command::new("sh");
        // Quit if it fits the screen, keep colours, show bad characters, leave the text on the
        // screen, begin at the end; and start no other programs, as Ash's journal may be read by root.
        command.args(["-c", &format!("exec {program}")]).env("LESS", "FRXMK +G").env("LESSSECURE", "1");
        command.stdin(Stdio::piped()).spawn().ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journalctl_is_asked_for_the_units_or_the_session() {
        let id = SessionId::new();
        let session = format!("ASH_SESSION_ID={id}");
        let cases: &[(Logs, Option<SessionId>, &[&str])] = &[
            (
                Logs { session: None, follow: false, lines: None },
                None,
                &["--output=json", "--unit=ash.service", "--unit=ash-launcher.service"],
            ),
            (
                Logs { session: None, follow: true, lines: Some(5) },
                Some(id),
                &["--output=json", "--follow", "--lines=5", &session],
            ),
        ];
        for (args, session, expected) in cases {
            assert_eq!(arguments(args, *session, args.lines), *expected);
        }
    }

    fn shown(entry: &Value, of_one: bool) -> String {
        let fields = entry.as_object().expect("an entry");
        anstream::adapter::strip_str(&line(fields, &TimeZone::UTC, of_one)).to_string()
    }

    #[test]
    fn lines_say_what_they_are_about() {
        let entry = serde_json::json!({
            "__REALTIME_TIMESTAMP": "1769860800000000", "SYSLOG_IDENTIFIER": "ashd", "_PID": "123", "PRIORITY": "6",
            "MESSAGE": "sandbox is up", "_SYSTEMD_UNIT": "ash.service",
            "ASH_SESSION_ID": ["0198", "0198"], "ASH_AGENT": "hello", "ASH_ERROR": "no such file",
        });
        let head = "Jan 31 12:00:00 ashd[123]: sandbox is up";
        assert_eq!(shown(&entry, false), format!("{head} session=0198 agent=hello error=\"no such file\""));
        assert_eq!(shown(&entry, true), format!("{head} agent=hello error=\"no such file\""));
    }

    #[test]
    fn entries_of_any_shape_are_one_harmless_line() {
        let binary = Vec::from("a\u{1b}[2Jb\nc");
        let entry = serde_json::json!({"MESSAGE": binary, "_COMM": "x\u{7}", "ASH_A": null, "ASH_B": "\u{1b}]0;t\u{7}"});
        assert_eq!(shown(&entry, false), "Jan 01 00:00:00 x: a[2Jb c a=\"\" b=]0;t");
        assert_eq!(shown(&serde_json::json!({}), false), "Jan 01 00:00:00 ?: ");
    }
}
