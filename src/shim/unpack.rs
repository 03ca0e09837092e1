//! Unpacks an archive into the workspace, or a snapshot into that and HOME, inside, with the
//! sandbox's rights.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::inner::{Inner, InnerError};
use super::log;

/// Why the workspace was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A system call failed.
    #[error("make pipes")]
    Pipes(#[source] io::Error),
    /// That the workspace is incomplete can not be remembered.
    #[error("write to the spool folder")]
    Mark(#[source] io::Error),
    /// The program that unpacks could not be started or is gone.
    #[error("start ash-init")]
    Inner(#[from] InnerError),
    /// The archive ended before its end.
    #[error("the archive was cut off")]
    Cut,
    /// It was refused or could not be written.
    #[error("{0}")]
    Failed(String),
}

/// Feeds the chunks to a command of `ash-init`; an empty chunk ends the archive.
pub async fn unpack(inner: &Inner, argv: Vec<String>, mut chunks: mpsc::Receiver<Vec<u8>>) -> Result<(), UnpackError> {
    let (mut stdin, stderr, stdio) = pipes().map_err(UnpackError::Pipes)?;
    let child = inner.spawn(argv, Vec::new(), "/", stdio).await?;
    let said = tokio::spawn(log::lines(stderr, "unpack"));
    loop {
        match chunks.recv().await {
            Some(chunk) if chunk.is_empty() => break,
            // It ended early, and says why.
            Some(chunk) if stdin.write_all(&chunk).await.is_err() => break,
            Some(_) => {}
            None => {
                inner.signal(child.handle, nix::libc::SIGKILL).await;
                return Err(UnpackError::Cut);
            }
        }
    }
    drop(stdin);
    let exit = child.exit.await.map_err(|_| InnerError::Gone)?;
    if exit.code == Some(0) {
        return Ok(());
    }
    let said = said.await.unwrap_or_default();
    let said = said.trim_start_matches("ash-init: ").to_owned();
    Err(UnpackError::Failed(if said.is_empty() { format!("unpack ended with {exit:?}") } else { said }))
}

fn pipes() -> io::Result<(pipe::Sender, pipe::Receiver, [OwnedFd; 3])> {
    let (stdin, to_stdin) = io::pipe()?;
    let (from_stderr, stderr) = io::pipe()?;
    let stdout = stderr.try_clone()?;
    let ours = (pipe::Sender::from_owned_fd(to_stdin.into())?, pipe::Receiver::from_owned_fd(from_stderr.into())?);
    Ok((ours.0, ours.1, [stdin.into(), stdout.into(), stderr.into()]))
}
