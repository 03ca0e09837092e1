//! A runtime's process: its standard input, output and error, and its end.
//!
//! ```text
//! driver ── bytes ──▶ writer ──▶ stdin ┐
//! driver ◀── Line, Ended ── reader ◀── stdout │ process inside
//! journal ◀── log::lines ◀──────────── stderr ┘
//! ```
//!
//! The reader hands over one line at a time and waits until it is taken. So when the driver stops
//! taking, the socket fills and the runtime waits; nothing piles up here, and nothing is lost.
//!
//! All three are sockets, not pipes: everything inside has the runtime's user, and could open a
//! pipe through `/proc/<pid>/fd` to write lines in the runtime's name, or take away those meant for
//! it. A socket can not be opened like that (`ENXIO`). What it says on standard error is told as the
//! reason of its end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::egress::Meter;
use super::inner::{Child, Exit, Inner, InnerError};
use super::log;
use super::logbook::Logbook;
use crate::link::inner::Handle;
use crate::link::shim::WORKSPACE_INSIDE;
use crate::runtime::{LINE_MAX, Launch, ProcessEnd};

/// Writes that may wait for the runtime to read. A turn takes a handful; a runtime that asks
/// without reading the answers is broken.
const WRITES: usize = 256;
/// Silence after the end of the process, after which what still holds its output is not waited for.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a process may live on without its output, or without the input it was written to.
const LINGER: Duration = Duration::from_secs(5);
/// How long its last words on standard error are waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What comes from a process.
#[derive(Debug)]
pub enum FromProcess {
    /// A line, without its end.
    Line(Vec<u8>),
    /// It ended; the last that comes.
    Ended(ProcessEnd),
}

/// A runtime that was started.
#[derive(Debug)]
pub struct Process {
    handle: Handle,
    /// `None` once its input was closed.
    input: Option<mpsc::Sender<Vec<u8>>>,
    output: mpsc::Receiver<FromProcess>,
}

impl Process {
    /// Starts a runtime. `env` is all of its environment; `book` takes what it says on standard error, and
    /// `rate` bounds how fast its output is read.
    pub async fn start(
        inner: &Inner,
        launch: Launch,
        env: Vec<(String, String)>,
        book: Logbook,
        rate: Arc<Meter>,
    ) -> Result<Self, String> {
        let ([stdin, stdout, stderr], theirs) = sockets().map_err(|error| format!("make sockets: {error}"))?;
        let child = inner.spawn(launch.argv, env, WORKSPACE_INSIDE, theirs).await.map_err(|error| match error {
            InnerError::Failed(reason) => reason,
            other => other.to_string(),
        })?;
        let handle = child.handle;
        let (input, writes) = mpsc::channel(WRITES);
        let (lines, output) = mpsc::channel(1);
        let (failed, deaf) = oneshot::channel();
        // A fresh channel has room.
        let _first = input.try_send(launch.opening);
        tokio::spawn(write(stdin, writes, failed));
        let stderr = tokio::spawn(log::noted_lines(stderr, "runtime", Some(book)));
        tokio::spawn(read(stdout, deaf, stderr, child, inner.clone(), lines, rate));
        Ok(Self { handle, input: Some(input), output })
    }

    /// Writes to the process. False if it does not read what it was sent before; one whose input
    /// is closed, or that has ended, is not to read any more.
    pub fn write(&self, bytes: Vec<u8>) -> bool {
        let is_full = |input: &mpsc::Sender<_>| matches!(input.try_send(bytes), Err(mpsc::error::TrySendError::Full(_)));
        !self.input.as_ref().is_some_and(is_full)
    }

    /// Closes its input, which asks it to finish and exit.
    pub fn close(&mut self) {
        self.input = None;
    }

    /// Names it to init.
    pub const fn handle(&self) -> Handle {
        self.handle
    }

    /// The next of its output.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> FromProcess {
        self.output.recv().await.unwrap_or_else(|| FromProcess::Ended(ProcessEnd::default()))
    }
}

/// Our ends of standard input, output and error, and theirs.
fn sockets() -> io::Result<([UnixStream; 3], [OwnedFd; 3])> {
    let pair = || {
        let (ours, theirs) = Socket::pair()?;
        ours.set_nonblocking(true)?;
        Ok::<_, io::Error>((UnixStream::from_std(ours)?, OwnedFd::from(theirs)))
    };
    let ((stdin, input), (stdout, output), (stderr, error)) = (pair()?, pair()?, pair()?);
    Ok(([stdin, stdout, stderr], [input, output, error]))
}

async fn write(mut stdin: UnixStream, mut writes: mpsc::Receiver<Vec<u8>>, failed: oneshot::Sender<()>) {
    while let Some(bytes) = writes.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            // It closed its input or ended; the reader tells which, if it still listens.
            let _ = failed.send(());
            return;
        }
    }
}

async fn read(
    stdout: UnixStream,
    deaf: oneshot::Receiver<()>,
    stderr: JoinHandle<String>,
    child: Child,
    inner: Inner,
    lines: mpsc::Sender<FromProcess>,
    rate: Arc<Meter>,
) {
    let Child { handle, mut exit, .. } = child;
    let mut end = None;
    let reason = read_lines(stdout, deaf, &mut exit, &mut end, &lines, &rate).await.err();
    let exit = match end {
        Some(exit) => exit,
        None => {
            let lingered = if reason.is_none() { tokio::time::timeout(LINGER, &mut exit).await.ok() } else { None };
            match lingered {
                Some(exit) => exit.ok(),
                None => {
                    inner.signal(handle, nix::libc::SIGKILL).await;
                    exit.await.ok()
                }
            }
        }
    };
    let stderr = tokio::time::timeout(LAST_WORDS, stderr).await.ok().and_then(Result::ok).unwrap_or_default();
    let (code, signal) = exit.map_or((None, None), |exit| (exit.code, exit.signal));
    // Who does not listen any more does not mind.
    let _gone = lines.send(FromProcess::Ended(ProcessEnd { code, signal, reason, stderr })).await;
}

/// Hands over lines until the end of the output. `Err` says what is wrong with it, or with the
/// process: one that closed its input and lives on would never answer what is written to it.
async fn read_lines(
    stdout: UnixStream,
    deaf: oneshot::Receiver<()>,
    exit: &mut oneshot::Receiver<Exit>,
    end: &mut Option<Option<Exit>>,
    lines: &mpsc::Sender<FromProcess>,
    rate: &Meter,
) -> Result<(), String> {
    let mut stdout = BufReader::with_capacity(64 << 10, stdout);
    let mut line = Vec::new();
    let deaf = async {
        // A writer that ended in good order says nothing.
        match deaf.await {
            Ok(()) => tokio::time::sleep(LINGER).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::pin!(deaf);
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = stdout.fill_buf() => chunk.unwrap_or_default(),
            ended = &mut *exit, if end.is_none() => {
                *end = Some(ended.ok());
                continue;
            }
            () = tokio::time::sleep(DRAIN), if end.is_some() => return Ok(()),
            () = &mut deaf, if end.is_none() => return Err("runtime closed its input".to_owned()),
        };
        if chunk.is_empty() {
            // A last line without an end was cut off.
            return Ok(());
        }
        let stop = chunk.iter().position(|b| *b == b'\n');
        line.extend_from_slice(&chunk[..stop.unwrap_or(chunk.len())]);
        let used = stop.map_or(chunk.len(), |stop| stop + 1);
        stdout.consume(used);
        if line.len() > LINE_MAX {
            return Err(format!("runtime wrote a line of more than {} MiB", LINE_MAX >> 20));
        }
        if stop.is_some() && lines.send(FromProcess::Line(std::mem::take(&mut line))).await.is_err() {
            return Err("nobody reads it".to_owned());
        }
        let wait = rate.pass(used, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn output_is_read_no_faster_than_it_may_be_and_whole() {
        let (ours, mut theirs) = UnixStream::pair().expect("makes sockets");
        let (_writer, deaf) = oneshot::channel();
        let (_process, mut exit) = oneshot::channel();
        let (lines, mut read) = mpsc::channel(1);
        let rate = Meter::new(MIB, u64::MAX, Instant::now());
        let begun = Instant::now();
        let reading = tokio::spawn(async move { read_lines(ours, deaf, &mut exit, &mut None, &lines, &rate).await });
        let counting = tokio::spawn(async move {
            let mut bytes = 0;
            while let Some(FromProcess::Line(line)) = read.recv().await {
                bytes += line.len() as u64 + 1;
            }
            bytes
        });
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..4 * MIB / 1024 {
            theirs.write_all(&line).await.expect("writes");
        }
        drop(theirs);
        assert_eq!(reading.await.expect("no panic"), Ok(()));
        assert_eq!(counting.await.expect("no panic"), 4 * MIB);
        // By the clock of the test, which moves only when all wait: the first second's worth is free.
        assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}
