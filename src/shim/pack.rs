//! Packs the workspace and the runtime's state, inside, with the sandbox's rights.
//!
//! A task reads what `ash-init pack` writes and hands over one chunk after the other. While nobody
//! takes them, it does not read, and the packing waits. When whoever takes them is gone, it closes
//! its end of the socket, at which the packing gives folders that it opened their mode back and
//! ends; one that does not is killed.
//!
//! It is a socket, not a pipe, for the same reason as a runtime's output
//! ([`process`](super::process)).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::inner::{Inner, InnerError};
use super::log;
use crate::link::frame::CHUNK;

/// Chunks that wait to be sent.
const CHUNKS: usize = 2;
/// How long a packing that nobody wants any more may take to end.
const END_DEADLINE: Duration = Duration::from_secs(2);

/// What comes of a packing.
#[derive(Debug)]
pub enum FromPack {
    /// A piece of the archive. Never empty.
    Chunk(Vec<u8>),
    /// It is over; the last that comes.
    Ended(Result<(), PackError>),
}

impl FromPack {
    /// What comes of a packing that ended without a word.
    pub const fn lost() -> Self {
        Self::Ended(Err(PackError::Inner(InnerError::Gone)))
    }
}

/// Why nothing was packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A system call failed.
    #[error("make pipes")]
    Pipes(#[source] io::Error),
    /// The program that packs could not be started or is gone.
    #[error("start ash-init")]
    Inner(#[from] InnerError),
    /// The archive can not be read.
    #[error("read the archive")]
    Read(#[source] io::Error),
    /// Something can not be packed.
    #[error("{0}")]
    Failed(String),
}

/// Begins to pack with a command of `ash-init`. Dropping the receiver ends it.
pub fn start(inner: Inner, argv: Vec<String>) -> mpsc::Receiver<FromPack> {
    let (to, from) = mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        let ended = pack(&inner, argv, &to).await;
        // Nobody may want to know any more.
        let _gone = to.send(FromPack::Ended(ended)).await;
    });
    from
}

async fn pack(inner: &Inner, argv: Vec<String>, to: &mpsc::Sender<FromPack>) -> Result<(), PackError> {
    let (mut stdout, stderr, stdio) = pipes().map_err(PackError::Pipes)?;
    let mut child = inner.spawn_packing(argv, stdio).await?;
    let said = tokio::spawn(log::lines(stderr, "pack"));
    let read = tokio::select! {
        read = read(&mut stdout, to) => read,
        () = to.closed() => Ok(()),
    };
    drop(stdout);
    let mut exit = tokio::time::timeout(END_DEADLINE, &mut child.exit).await;
    if exit.is_err() {
        inner.signal(child.handle, nix::libc::SIGKILL).await;
        exit = Ok(child.exit.await);
    }
    read.map_err(PackError::Read)?;
    let exit = exit.ok().and_then(Result::ok).ok_or(InnerError::Gone)?;
    if exit.code == Some(0) {
        return Ok(());
    }
    let said = said.await.unwrap_or_default();
    let said = said.trim_start_matches("ash-init: ").to_owned();
    Err(PackError::Failed(if said.is_empty() { format!("pack ended with {exit:?}") } else { said }))
}

/// Hands over chunks to the end of the output, or as long as somebody takes them.
async fn read(from: &mut UnixStream, to: &mpsc::Sender<FromPack>) -> io::Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        from.take(CHUNK as u64).read_to_end(&mut chunk).await?;
        if chunk.is_empty() || to.send(FromPack::Chunk(chunk)).await.is_err() {
            return Ok(());
        }
    }
}

type Pipes = (UnixStream, pipe::Receiver, [OwnedFd; 3]);

fn pipes() -> io::Result<Pipes> {
    let (stdin, _) = io::pipe()?;
    let (from_stdout, stdout) = Socket::pair()?;
    let (from_stderr, stderr) = io::pipe()?;
    from_stdout.set_nonblocking(true)?;
    let ours = (UnixStream::from_std(from_stdout)?, pipe::Receiver::from_owned_fd(from_stderr.into())?);
    Ok((ours.0, ours.1, [stdin.into(), stdout.into(), stderr.into()]))
}
