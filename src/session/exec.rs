//! Commands that callers run in the sandbox of a session, beside its agent.
//!
//! A task carries what a command writes to whoever asked, sees to its end when that goes away, and
//! writes down how it ended. The sandbox is brought up for it as for a message, and kept awake.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::driver::{Purpose, Request, Visit};
use super::{SessionError, Sessions};
use crate::link::daemon::{Input, LinkError, Output};
use crate::link::shim::{DISK_FULL, Job, RUNS_MAX, Run, RunEnd, Stream, TOO_MANY_RUN};
use crate::report::chain;
use crate::store::SessionRow;
use crate::wire::SessionId;
use crate::wire::terminal::Terminal;

/// Pieces that wait to be taken.
const PIECES: usize = 2;
/// Characters of a command that are written down.
const NOTED_MAX: usize = 1000;
/// What a shim may take beyond a command's time, for its end and again to tell of it. One that takes
/// more is not what it should be.
const OVERTIME: Duration = Duration::from_secs(30);

/// A command to run.
#[derive(Debug, Clone)]
pub struct Command {
    /// What the shell is given.
    pub command: String,
    /// After what time it is killed.
    pub timeout: Duration,
    /// Whether it gets input.
    pub input: bool,
    /// Bytes of each stream of output that are kept; `None`: all.
    pub output_max: Option<u64>,
    /// The terminal that it runs on, if any.
    pub terminal: Option<Terminal>,
}

/// A command that runs. It is killed, with its process group, when this is dropped.
#[derive(Debug)]
pub struct Exec {
    /// Its input, if it has one.
    pub input: Option<Input>,
    pieces: mpsc::Receiver<Piece>,
}

/// What comes of a command.
#[derive(Debug)]
pub enum Piece {
    /// Something that it wrote.
    Output(Stream, Vec<u8>),
    /// How it ended; the last that comes.
    Ended(Result<RunEnd, SessionError>),
}

impl Exec {
    /// Its input, and the rest of it.
    pub fn split(mut self) -> (Option<Input>, Self) {
        (self.input.take(), self)
    }

    /// The next piece; `None` after the end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Piece> {
        self.pieces.recv().await
    }
}

impl Sessions {
    /// Runs a command in the workspace of an active session, whose sandbox is brought up for it if need
    /// be; `by` is who asked. When the last piece comes, the log has an event about it.
    ///
    /// # Errors
    ///
    /// [`SessionError::Status`] if the session is not active, [`SessionError::ExecBusy`], [`SessionError::DiskFull`],
    /// [`SessionError::Exec`].
    pub async fn exec(&self, tenant: &str, id: SessionId, by: &str, command: Command) -> Result<Exec, SessionError> {
        let row = self.get(tenant, id).await?;
        let visit = self.ask(&row, |reply| Request::Visit { purpose: Purpose::Exec, reply }).await?;
        let job = Job::Shell { command: command.command.clone() };
        let timeout_ms = Some(u64::try_from(command.timeout.as_millis()).unwrap_or(u64::MAX));
        let Command { input, output_max, terminal, .. } = command;
        let run = Run { job, input, timeout_ms, output_max, starts: false, terminal };
        let running = visit.shim.run(run).await.map_err(failed)?;
        let (to, pieces) = mpsc::channel(PIECES);
        let noted = Noted { command: command.command, by: by.to_owned(), started: Instant::now(), timeout: command.timeout };
        let sessions = self.clone();
        self.context.drivers.spawn(carry(sessions, row, visit, noted, running.output, running.end, to));
        Ok(Exec { input: running.input, pieces })
    }
}

/// What is written down of a command.
struct Noted {
    command: String,
    by: String,
    started: Instant,
    timeout: Duration,
}

impl Noted {
    fn data(self, end: &Result<RunEnd, SessionError>) -> String {
        let command: String = self.command.chars().take(NOTED_MAX).collect();
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut data = serde_json::json!({"action": "exec", "command": command, "by": self.by, "durationMs": millis});
        match end {
            Ok(end) => {
                data["exitCode"] = end.code.into();
                if let Some(signal) = end.signal {
                    data["signal"] = signal_name(signal).into();
                }
                if end.timed_out {
                    data["timedOut"] = true.into();
                }
                if let Some(limit) = end.limit {
                    data["limit"] = serde_json::json!(limit);
                }
            }
            Err(error) => data["error"] = error.to_string().into(),
        }
        data.to_string()
    }
}

async fn carry(
    sessions: Sessions,
    row: SessionRow,
    visit: Visit,
    noted: Noted,
    mut output: Output,
    end: impl Future<Output = Result<RunEnd, LinkError>>,
    to: mpsc::Sender<Piece>,
) {
    let closing = &sessions.context.closing;
    let deadline = noted.started + noted.timeout + OVERTIME;
    loop {
        let piece = tokio::select! {
            piece = output.next() => piece,
            () = to.closed() => None,
            () = tokio::time::sleep_until(deadline) => None,
            () = closing.cancelled() => return,
        };
        let Some((stream, bytes)) = piece else { break };
        let sent = tokio::time::timeout_at(deadline, to.send(Piece::Output(stream, bytes))).await;
        if !matches!(sent, Ok(Ok(()))) {
            break;
        }
    }
    // If it has not ended, this ends it.
    drop(output);
    let end = tokio::select! {
        end = end => end.map_err(failed),
        () = tokio::time::sleep_until(deadline + OVERTIME) => {
            Err(SessionError::Exec("the sandbox does not say how it ended".to_owned()))
        }
        () = closing.cancelled() => return,
    };
    let data = noted.data(&end);
    match sessions.ask(&row, |reply| Request::Note { data, reply }).await {
        // The log of a session that has ended does not grow.
        Ok(()) | Err(SessionError::Status(_)) => {}
        Err(error) => {
            tracing::warn!(session_id = %row.id, error = chain(&error), "that a command was run is not in the log, ignoring")
        }
    }
    drop(visit);
    // Whoever asked may be gone.
    let _ = to.send(Piece::Ended(end)).await;
}

fn failed(error: LinkError) -> SessionError {
    match error {
        LinkError::Failed(reason) if reason == TOO_MANY_RUN => SessionError::ExecBusy(RUNS_MAX),
        LinkError::Failed(reason) if reason == DISK_FULL => SessionError::DiskFull(reason),
        error => SessionError::Exec(chain(&error)),
    }
}

/// The name of a signal, as `SIGKILL`.
pub fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number).map_or_else(|_| format!("SIG{number}"), |signal| signal.as_str().to_owned())
}
