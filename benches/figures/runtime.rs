//! The runtime without Ash, and a stand-in for the runtime that is faster than any.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{Session, Turn};
use crate::machine;

/// The program, as the sandboxes have it.
const PROGRAM: &str = "/usr/local/bin/claude";
/// Where it works. Nobody else's.
const FOLDER: &str = "/var/lib/ash-bench";
/// A user of nobody: as root the program refuses to work without asking.
const UID: u32 = 64_999;
/// How the program shows itself inside a sandbox.
const NAME: &str = "claude";

/// A runtime that is spoken to directly.
#[derive(Debug)]
pub struct Direct {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What is common to the runtimes that are started directly: the flags and the environment that
/// Ash gave to one of its own.
#[derive(Debug)]
pub struct Like {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Like {
    /// Looks at the runtime of a session that had a turn.
    pub fn runtime_of(session: &Session, model: &str, key: &str) -> anyhow::Result<Self> {
        let processes = machine::processes_of(&session.sandbox)?;
        let runtime = processes.iter().find(|process| process.name == NAME).context("the sandbox has no runtime")?;
        let arguments = runtime.arguments()?.into_iter().skip(1).filter(|word| !word.starts_with("--session-id=")).collect();
        let home = format!("{FOLDER}/home");
        let environment = runtime.environment()?.into_iter().map(|(name, value)| {
            let value = match name.as_str() {
                "ANTHROPIC_BASE_URL" => model.to_owned(),
                "ANTHROPIC_API_KEY" => key.to_owned(),
                "HOME" => home.clone(),
                _ => value,
            };
            (name, value)
        });
        Ok(Self { arguments, environment: environment.collect() })
    }

    /// Starts one.
    pub fn start(&self) -> anyhow::Result<Direct> {
        let work = format!("{FOLDER}/work");
        for folder in [FOLDER, &work, &format!("{FOLDER}/home")] {
            std::fs::create_dir_all(folder)?;
            std::os::unix::fs::chown(folder, Some(UID), Some(UID))?;
        }
        std::fs::write(Path::new(&work).join("CLAUDE.md"), "You are a test agent.\n")?;
        let mut process = Command::new(PROGRAM)
            .args(&self.arguments)
            .arg(format!("--session-id={}", Uuid::now_v7()))
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&work)
            .uid(UID)
            .gid(UID)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {PROGRAM}"))?;
        let mut input = process.stdin.take().context("piped")?;
        let output = BufReader::new(process.stdout.take().context("piped")?);
        let opening = json!({"type": "control_request", "request_id": "initialize", "request": {"subtype": "initialize"}});
        writeln!(input, "{opening}")?;
        Ok(Direct { process, input, output })
    }
}

impl Direct {
    /// Sends a message and reads what comes to the end of its turn. The times count from before.
    pub fn turn(&mut self, content: &str) -> anyhow::Result<Turn> {
        let message = json!({
            "type": "user", "uuid": Uuid::now_v7(), "session_id": "", "parent_tool_use_id": null,
            "message": {"role": "user", "content": content},
        });
        let mut turn = Turn::default();
        let before = Instant::now();
        writeln!(self.input, "{message}")?;
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(self.output.read_line(&mut line)? > 0, "the runtime ended in a turn");
            let now = before.elapsed();
            if turn.first_event.is_zero() {
                turn.first_event = now;
            }
            if turn.first_delta.is_zero() && line.contains(r#""text_delta""#) {
                turn.first_delta = now;
            }
            turn.events += 1;
            if line.contains(r#""type":"result""#) {
                turn.result = now;
            }
            // The last word about the message comes after its result.
            if !turn.result.is_zero() && line.contains(r#""command_lifecycle""#) && line.contains(r#""completed""#) {
                turn.done = now;
                return Ok(turn);
            }
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether this very program was started in the runtime's place: `None` if not, else to be printed.
pub fn stands_in(arguments: &[String]) -> Option<anyhow::Result<()>> {
    if arguments.iter().any(|argument| argument == "--input-format=stream-json") {
        return Some(stand_in(arguments));
    }
    let asks = arguments.iter().any(|argument| argument == "--version");
    asks.then(|| writeln!(std::io::stdout(), "2.1.330 (Claude Code)").map_err(Into::into))
}

/// The runtime's language, as fast as it can be spoken: `flood: N` is answered with N pieces of text.
fn stand_in(arguments: &[String]) -> anyhow::Result<()> {
    let session = arguments.iter().find_map(|argument| argument.strip_prefix("--session-id=")).unwrap_or_default();
    let mut output = std::io::BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line?)?;
        if message["request"]["subtype"] == "initialize" {
            let response = json!({"subtype": "success", "request_id": message["request_id"], "response": {"claude_code_version": "2.1.330"}});
            writeln!(output, "{}", json!({"type": "control_response", "response": response}))?;
        } else if message["type"] == "user" {
            let (uuid, text) = (&message["uuid"], message["message"]["content"].as_str().unwrap_or_default());
            let count = text.strip_prefix("flood: ").and_then(|count| count.parse().ok()).unwrap_or(1);
            let lifecycle = |state| json!({"type": "command_lifecycle", "command_uuid": uuid, "state": state});
            writeln!(output, "{}\n{}", lifecycle("queued"), lifecycle("started"))?;
            writeln!(output, "{}", json!({"type": "system", "subtype": "init", "session_id": session, "mcp_servers": []}))?;
            let delta = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "12345678"}});
            let piece = json!({
                "type": "stream_event", "event": delta, "session_id": session, "parent_tool_use_id": null, "uuid": Uuid::now_v7(),
            })
            .to_string();
            for _ in 0..count {
                writeln!(output, "{piece}")?;
            }
            let content = json!([{"type": "text", "text": "flooded"}]);
            writeln!(output, "{}", json!({"type": "assistant", "message": {"role": "assistant", "content": content}}))?;
            let result = json!({
                "type": "result", "subtype": "success", "is_error": false, "num_turns": 1, "result": "flooded",
                "user_message_uuids": [uuid],
            });
            writeln!(output, "{result}")?;
            writeln!(output, "{}", lifecycle("completed"))?;
        }
        output.flush()?;
    }
    Ok(())
}
