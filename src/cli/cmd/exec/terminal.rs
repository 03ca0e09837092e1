//! `ashctl exec --tty`: the terminal here becomes that of a program there.
//!
//! While it runs, this terminal passes on every key, Ctrl-C too, and shows what comes as it is. It is set back
//! however this ends, but by SIGKILL.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use bytes::Bytes;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::Context;
use crate::cli::args::Exec;
use crate::cli::error::CliError;
use crate::client::terminal::{Shown, TerminalNews, Typed};
use crate::wire::exec::{ExecEnd, ExecQuery, ExecSaid, ExecTold};
use crate::wire::terminal::{TerminalSize, is_term};

/// Runs it to its end.
pub(super) async fn run(args: &Exec, command: Option<String>, context: &mut Context) -> Result<ExecEnd, CliError> {
    if context.output.is_json() {
        return Err(CliError::usage("what a terminal shows can not be printed as JSON", "leave --tty or --output json out"));
    }
    let size = size();
    let term = std::env::var("TERM").ok().filter(|term| is_term(term));
    let (rows, cols) = size.map(|size| (size.rows, size.cols)).unzip();
    let timeout = args.timeout.map(|seconds| seconds.saturating_mul(1000));
    let query = ExecQuery { command, tty: Some(true), rows, cols, term, timeout };
    let session = context.session(&args.session).await?;
    let (typed, shown) = context.client.terminal(session, &query).await?;
    // Before the mode changes: they would end this program with the terminal as it is.
    let ending = Ending::listen().map_err(CliError::Input)?;
    let raw = Raw::begin().map_err(CliError::Input)?;
    let (sender, receiver) = mpsc::channel(super::PIECES_AHEAD);
    // Nobody waits for its end: whoever types may go on when the command has ended.
    std::thread::spawn(move || super::read(&sender));
    let told = tokio::select! {
        told = show(shown) => told,
        told = pass_on(typed, receiver) => told,
        () = ending.comes() => Err(CliError::Interrupted),
    };
    drop(raw);
    match told? {
        ExecTold::Exit(end) => Ok(end),
        ExecTold::Error(error) => Err(CliError::Exec(error)),
    }
}

/// Shows what comes, as it is.
async fn show(mut shown: Shown) -> Result<ExecTold, CliError> {
    loop {
        match shown.next().await? {
            TerminalNews::Bytes(bytes) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&bytes).and_then(|()| stdout.flush()).map_err(CliError::Output)?;
            }
            TerminalNews::Told(told) => return Ok(told),
        }
    }
}

/// Signals that end this program.
struct Ending([Signal; 4]);

impl Ending {
    fn listen() -> io::Result<Self> {
        let kinds = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];
        let [hangup, interrupt, quit, terminate] = kinds.map(signal);
        Ok(Self([hangup?, interrupt?, quit?, terminate?]))
    }

    async fn comes(mut self) {
        let [hangup, interrupt, quit, terminate] = &mut self.0;
        tokio::select! {
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

/// Passes on what is typed and how large the terminal is.
async fn pass_on(mut typed: Typed, mut pieces: mpsc::Receiver<io::Result<Bytes>>) -> Result<ExecTold, CliError> {
    let mut resized = signal(SignalKind::window_change()).map_err(CliError::Input)?;
    let mut is_over = false;
    loop {
        let is_taken = tokio::select! {
            piece = pieces.recv(), if !is_over => match piece {
                Some(Ok(bytes)) => typed.bytes(bytes).await,
                Some(Err(_)) | None => {
                    is_over = true;
                    typed.say(&ExecSaid::End(true)).await
                }
            },
            _ = resized.recv() => match size() {
                Some(size) => typed.say(&ExecSaid::Resize(size)).await,
                None => true,
            },
        };
        if !is_taken {
            // Whoever shows what comes finds out why.
            std::future::pending::<()>().await;
        }
    }
}

/// The size of the terminal on standard output.
fn size() -> Option<TerminalSize> {
    let (cols, rows) = terminal_size::terminal_size_of(io::stdout())?;
    Some(TerminalSize { rows: rows.0, cols: cols.0 }).filter(|size| size.is_some())
}

/// Holds the terminal on standard input in raw mode, if there is one.
struct Raw(Option<Termios>);

impl Raw {
    fn begin() -> io::Result<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin.as_fd(), SetArg::TCSADRAIN, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Where it fails the terminal is gone.
            tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, before).unwrap_or_default();
        }
    }
}
