//! A program inside whose input and output are those of somebody outside.
//!
//! ```text
//! parts of input ──▶ feed ──▶ stdin ┐
//! out ◀── on credit ── pump ◀── stdout │ program, leader of a process group
//! out ◀── on credit ── pump ◀── stderr ┘
//! ```
//!
//! They are pipes, as programs expect that can not open a socket by `/dev/stdout`, or a terminal of the
//! sandbox, whose two directions are one descriptor. When the program has
//! exited, what it left running may hold them; that is read on only as long as it is not silent.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::inner::{Inner, InnerError};
use super::terminal;
use crate::link::frame;
use crate::link::shim::{FromShim, Op, RunEnd, Stream, WORKSPACE_INSIDE};
use crate::wire::terminal::TerminalSize;

/// Silence after the end of the program, after which what still holds its output is not waited for.
const DRAIN: Duration = Duration::from_millis(500);
/// What Ctrl-D types, the character VEOF of a new terminal, termios(3).
const END_OF_INPUT: u8 = 4;
/// Between two of them.
const END_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of output that are read at once: what a pipe holds, pipe(7).
const PIECE: usize = 64 << 10;

/// Why a program did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A system call failed.
    #[error("make pipes")]
    Pipes(#[source] io::Error),
    /// It could not be started, or the sandbox ended before it.
    #[error(transparent)]
    Inner(#[from] InnerError),
}

/// What to run.
#[derive(Debug)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Milliseconds after which it is killed.
    pub timeout_ms: Option<u64>,
    /// Bytes of each stream that are sent; the rest is thrown away.
    pub output_max: Option<u64>,
    /// The size of its terminal; `None`: it has none, and gets pipes.
    pub terminal: watch::Receiver<Option<TerminalSize>>,
}

/// Where its output goes.
#[derive(Debug)]
pub struct Outgoing {
    /// The request.
    pub op: Op,
    /// Takes frames.
    pub out: mpsc::Sender<Vec<u8>>,
    /// Parts that may be sent; closed when nobody wants them.
    pub credit: Arc<Semaphore>,
}

/// Runs a program to its end, and the end of its output. It is killed, with its process group, when its
/// time is over, or when the sender of `unwanted` is gone.
pub async fn run(
    inner: Inner,
    program: Program,
    input: mpsc::Receiver<Vec<u8>>,
    to: Outgoing,
    mut unwanted: oneshot::Receiver<()>,
) -> Result<RunEnd, RunError> {
    let mut terminal = program.terminal;
    let size = *terminal.borrow_and_update();
    let (mut child, stdin, stdout, stderr, master) = match size {
        Some(size) => {
            let (child, master) = inner.spawn_on_terminal(program.argv, program.env, WORKSPACE_INSIDE, size).await?;
            let (stdin, stdout) = terminal::ends(&master).map_err(RunError::Pipes)?;
            (child, stdin, stdout, None, Some(master))
        }
        None => {
            let (stdin, stdout, stderr, stdio) = pipes().map_err(RunError::Pipes)?;
            let child = inner.spawn_apart(program.argv, program.env, WORKSPACE_INSIDE, stdio).await?;
            (child, stdin, stdout, Some(stderr), None)
        }
    };
    let deadline = program.timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
    let (over, is_over) = watch::channel(false);
    let cut = AtomicBool::new(false);
    let max = program.output_max;
    let pumps = async {
        tokio::join!(pump(stdout, Stream::Output, max, &to, is_over.clone(), &cut), async {
            if let Some(stderr) = stderr {
                pump(stderr, Stream::Error, max, &to, is_over.clone(), &cut).await;
            }
        },)
    };
    let feed = feed(stdin, input, &to, master.is_some());
    tokio::pin!(pumps, feed);
    let (mut exit, mut is_drained, mut is_fed, mut is_late, mut is_unwanted) = (None, false, false, false, false);
    // When what a killed one left behind has written for long enough.
    let mut enough = None;
    while exit.is_none() || !is_drained {
        tokio::select! {
            ended = &mut child.exit, if exit.is_none() => {
                exit = Some(ended.map_err(|_| InnerError::Gone)?);
                over.send_replace(true);
                enough = (is_late || is_unwanted).then(|| Instant::now() + DRAIN);
            }
            () = until(enough) => break,
            _ = &mut pumps, if !is_drained => is_drained = true,
            () = &mut feed, if !is_fed => is_fed = true,
            Ok(()) = terminal.changed(), if master.is_some() => {
                let size = *terminal.borrow_and_update();
                if let (Some(master), Some(size)) = (&master, size)
                    && let Err(error) = terminal::resize(master, size)
                {
                    tracing::debug!(%error, "a terminal keeps its size");
                }
            }
            () = until(deadline), if !is_late => {
                is_late = true;
                if exit.is_some() {
                    break;
                }
                inner.signal(child.handle, nix::libc::SIGKILL).await;
            }
            _ = &mut unwanted, if !is_unwanted => {
                is_unwanted = true;
                if exit.is_some() {
                    break;
                }
                inner.signal(child.handle, nix::libc::SIGKILL).await;
            }
        }
    }
    let (code, signal) = exit.map_or((None, None), |exit| (exit.code, exit.signal));
    // One that ended by itself just before it was killed was in time.
    let timed_out = is_late && signal == Some(nix::libc::SIGKILL);
    Ok(RunEnd { code, signal, timed_out, cut: cut.load(Ordering::Relaxed), limit: None })
}

/// Sends what comes, to its end or as long as somebody wants it.
async fn pump(
    mut from: pipe::Receiver,
    stream: Stream,
    max: Option<u64>,
    to: &Outgoing,
    mut is_over: watch::Receiver<bool>,
    cut: &AtomicBool,
) {
    let mut piece = vec![0; PIECE];
    let mut left = max.unwrap_or(u64::MAX);
    loop {
        let read = tokio::select! {
            biased;
            read = from.read(&mut piece) => Some(read),
            _ = is_over.wait_for(|over| *over) => None,
        };
        let read = match read {
            Some(read) => read,
            None => match tokio::time::timeout(DRAIN, from.read(&mut piece)).await {
                Ok(read) => read,
                Err(_) => return,
            },
        };
        let Ok(count @ 1..) = read else { return };
        let kept = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        left -= kept as u64;
        cut.fetch_or(kept < count, Ordering::Relaxed);
        if kept > 0 && !to.part(stream, &piece[..kept]).await {
            return;
        }
    }
}

impl Outgoing {
    /// Sends a part. False if nobody wants it.
    async fn part(&self, stream: Stream, bytes: &[u8]) -> bool {
        let Ok(permit) = self.credit.acquire().await else { return false };
        permit.forget();
        let mut part = Vec::with_capacity(bytes.len() + 1);
        part.push(stream as u8);
        part.extend_from_slice(bytes);
        match frame::encode_part(self.op, &part) {
            Ok(part) => self.out.send(part).await.is_ok(),
            Err(_) => false,
        }
    }
}

/// Writes input as it comes and tells that more is wanted, until it ends or nobody reads it. A terminal can not
/// be closed for reading alone; there the end is typed.
async fn feed(mut stdin: pipe::Sender, mut input: mpsc::Receiver<Vec<u8>>, to: &Outgoing, is_terminal: bool) {
    while let Some(part) = input.recv().await {
        if part.is_empty() && is_terminal {
            // Each program that reads is to find it, and one that comes while the mode of the terminal changes
            // is lost: so it is typed again and again, as the end of a pipe is read again and again.
            while stdin.write_all(&[END_OF_INPUT]).await.is_ok() {
                tokio::time::sleep(END_AGAIN).await;
            }
        }
        if part.is_empty() || stdin.write_all(&part).await.is_err() {
            return;
        }
        let Ok(wants) = frame::encode(&FromShim::Wants { op: to.op, parts: 1 }) else { return };
        if to.out.send(wants).await.is_err() {
            return;
        }
    }
}

/// Waits until then, or for ever.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

type Pipes = (pipe::Sender, pipe::Receiver, pipe::Receiver, [OwnedFd; 3]);

/// Our ends of standard input, output and error, and theirs.
fn pipes() -> io::Result<Pipes> {
    let (stdin, to_stdin) = io::pipe()?;
    let (from_stdout, stdout) = io::pipe()?;
    let (from_stderr, stderr) = io::pipe()?;
    let to_stdin = pipe::Sender::from_owned_fd(to_stdin.into())?;
    let from_stdout = pipe::Receiver::from_owned_fd(from_stdout.into())?;
    let from_stderr = pipe::Receiver::from_owned_fd(from_stderr.into())?;
    Ok((to_stdin, from_stdout, from_stderr, [stdin.into(), stdout.into(), stderr.into()]))
}
