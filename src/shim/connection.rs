//! Connections of the daemon: accepts them, reads their frames, writes what the driver has to say.
//!
//! Two tasks serve a connection. The reader waits for the daemon's `Hello`, announces the
//! connection to the driver, and hands over message by message. The chunks of an archive go
//! straight to whoever unpacks it, through a bounded channel; while that is full, the connection
//! is not read. The writer writes frames that the driver made. A connection that never says
//! `Hello` does not take the place of the one that counts.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::driver::Input;
use crate::link::frame::{self, Frame, FrameError};
use crate::link::shim::{OLDEST_PROTOCOL, Op, PROTOCOL, ToShim};
use crate::report;

/// How long a connection may take to say `Hello`.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// Frames that may wait for the daemon to read them. Events wait in the spool instead.
const FRAMES: usize = 2;
/// Chunks of an archive that may wait to be unpacked.
const CHUNKS: usize = 4;

/// Names a connection.
pub type ConnectionId = u64;

/// What comes over connections.
#[derive(Debug)]
pub enum FromDaemon {
    /// The daemon said `Hello`; from here on this connection counts.
    Connected {
        /// The connection.
        id: ConnectionId,
        /// The version that both ends speak.
        protocol: u32,
        /// Takes frames for it.
        out: mpsc::Sender<Vec<u8>>,
    },
    /// A message.
    Message(ConnectionId, Box<ToShim>),
    /// An archive to unpack, and its chunks.
    Unpack(ConnectionId, Op, Archive, mpsc::Receiver<Vec<u8>>),
    /// A part of the input of a program; an empty one ends it.
    Input(ConnectionId, Op, Vec<u8>),
    /// The connection ended.
    Closed(ConnectionId),
}

/// What an archive holds.
#[derive(Debug)]
pub enum Archive {
    /// The files of an agent.
    Agent,
    /// What was packed before.
    Snapshot {
        /// The runtime's own id of the conversation in it.
        conversation: Option<String>,
        /// Whether something is laid over it before it is whole.
        more: bool,
    },
    /// What is laid over the workspace, after that was emptied or not.
    Bundle {
        /// Whether the workspace is emptied before.
        replace: bool,
        /// Whether there is a conversation in it, and something else makes the workspace whole.
        state: bool,
    },
}

impl Archive {
    /// Whether the workspace is whole with it.
    pub const fn is_last(&self) -> bool {
        !matches!(self, Self::Snapshot { more: true, .. } | Self::Bundle { state: true, .. })
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("frame")]
    Frame(#[from] FrameError),
    #[error("message can not be read")]
    Message(#[from] serde_json::Error),
    #[error("no Hello within {} seconds", HELLO_DEADLINE.as_secs())]
    Silent,
    #[error("first message is not Hello")]
    NoHello,
    #[error("daemon speaks protocol {0}, the oldest known here is {OLDEST_PROTOCOL}")]
    Protocol(u32),
    #[error("chunk of no archive")]
    Chunk,
    #[error("the shim is ending")]
    Ending,
}

/// Accepts connections from `daemon_uid` and from root.
pub async fn accept(listener: UnixListener, daemon_uid: u32, inbox: mpsc::Sender<Input>) {
    let mut id = 0;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "can not accept a connection, retrying in a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == daemon_uid || peer.uid() == 0 => {
                id += 1;
                tokio::spawn(serve(id, stream, inbox.clone()));
            }
            Ok(peer) => tracing::warn!(uid = peer.uid(), "connection from a stranger, ignoring"),
            Err(error) => tracing::warn!(%error, "connection from an unknown user, ignoring"),
        }
    }
}

async fn serve(id: ConnectionId, stream: UnixStream, inbox: mpsc::Sender<Input>) {
    let (mut from, to) = stream.into_split();
    let hello = match tokio::time::timeout(HELLO_DEADLINE, hello(&mut from)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => return tracing::warn!(error = report::chain(&error), "connection refused"),
        Err(_) => return tracing::warn!(error = %ConnectionError::Silent, "connection refused"),
    };
    let Some(protocol) = hello else { return };
    let (out, frames) = mpsc::channel(FRAMES);
    tokio::spawn(write(to, frames));
    let connected = Input::Daemon(FromDaemon::Connected { id, protocol, out });
    if inbox.send(connected).await.is_ok() {
        if let Err(error) = read(id, from, &inbox).await {
            tracing::warn!(error = report::chain(&error), "connection of the daemon broke");
        }
        // Without a driver there is nobody to tell.
        let _ending = inbox.send(Input::Daemon(FromDaemon::Closed(id))).await;
    }
}

/// The version that both ends speak; `None` if the connection ended without a word, as that of
/// somebody who only wants to know whether the shim lives.
async fn hello(from: &mut OwnedReadHalf) -> Result<Option<u32>, ConnectionError> {
    let Some(frame) = frame::read(from).await? else { return Ok(None) };
    let Frame::Json(body) = frame else { return Err(ConnectionError::NoHello) };
    let ToShim::Hello { protocol, daemon } = serde_json::from_slice(&body)? else { return Err(ConnectionError::NoHello) };
    if protocol < OLDEST_PROTOCOL {
        return Err(ConnectionError::Protocol(protocol));
    }
    tracing::info!(daemon, protocol, "daemon connected");
    Ok(Some(protocol.min(PROTOCOL)))
}

async fn read(id: ConnectionId, mut from: OwnedReadHalf, inbox: &mpsc::Sender<Input>) -> Result<(), ConnectionError> {
    let mut archive: Option<mpsc::Sender<Vec<u8>>> = None;
    while let Some(frame) = frame::read(&mut from).await? {
        let input = match frame {
            Frame::Chunk(chunk) => {
                let is_end = chunk.is_empty();
                let chunks = archive.as_ref().ok_or(ConnectionError::Chunk)?;
                // If unpacking failed, the rest of the archive is read and thrown away.
                let _thrown_away = chunks.send(chunk).await;
                if is_end {
                    archive = None;
                }
                continue;
            }
            Frame::Json(body) => match serde_json::from_slice(&body)? {
                ToShim::Unpack { op } => FromDaemon::Unpack(id, op, Archive::Agent, chunks_of(&mut archive)),
                ToShim::Restore { op, conversation, more } => {
                    FromDaemon::Unpack(id, op, Archive::Snapshot { conversation, more }, chunks_of(&mut archive))
                }
                ToShim::Lay { op, replace, state } => {
                    FromDaemon::Unpack(id, op, Archive::Bundle { replace, state }, chunks_of(&mut archive))
                }
                message => FromDaemon::Message(id, Box::new(message)),
            },
            Frame::Part(op, bytes) => FromDaemon::Input(id, op, bytes),
        };
        inbox.send(Input::Daemon(input)).await.map_err(|_| ConnectionError::Ending)?;
    }
    Ok(())
}

/// Where the chunks come that follow.
fn chunks_of(archive: &mut Option<mpsc::Sender<Vec<u8>>>) -> mpsc::Receiver<Vec<u8>> {
    let (chunks, unpacked) = mpsc::channel(CHUNKS);
    *archive = Some(chunks);
    unpacked
}

async fn write(mut to: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if to.write_all(&frame).await.is_err() {
            // The reader sees that it broke, and tells.
            return;
        }
    }
}
