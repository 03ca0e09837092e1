//! The daemon's end of the connection to a shim.
//!
//! Two tasks serve a connection: one reads frames, hands events to the owner and answers to those
//! who asked; one writes what comes through a bounded channel. Both end when either side closes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::frame::{self, Frame, FrameError};
use super::shim::{FromShim, OLDEST_PROTOCOL, Op, PROTOCOL, ShimEvent, ShimState, ToShim};
use crate::wire::VERSION;

/// How long a shim may take from the connection to its `Hello`; on a busy host its unit may only
/// just be starting.
const HELLO_DEADLINE: Duration = Duration::from_secs(20);
/// Frames that may wait for the socket; archive chunks make them large.
const WRITE_QUEUE: usize = 8;
/// Batches of events that may wait for the store. Beyond that the shim is read no further, and
/// then stops reading the runtime.
const EVENT_QUEUE: usize = 8;

/// Why a shim can not be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket does not answer.
    #[error("connect to {path}")]
    Connect {
        /// The socket.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It speaks, but not this language.
    #[error("connection to the sandbox")]
    Frame(#[from] FrameError),
    /// It closed the connection.
    #[error("the sandbox closed the connection")]
    Closed,
    /// It does not answer.
    #[error("the sandbox did not answer within {} seconds", HELLO_DEADLINE.as_secs())]
    Silent,
    /// It speaks a version that this daemon does not.
    #[error("the sandbox speaks protocol {0}, this daemon {OLDEST_PROTOCOL} to {PROTOCOL}")]
    Version(u32),
    /// The archive to unpack can not be read.
    #[error("read the agent's files")]
    Source(#[source] std::io::Error),
    /// It could not do what it was asked.
    #[error("{0}")]
    Failed(String),
}

/// A connection to a shim.
#[derive(Debug)]
pub struct Connection {
    /// What the shim said of itself.
    pub state: ShimState,
    /// Talks to it.
    pub handle: ShimHandle,
    /// What happens in it; ends when the connection does.
    pub events: mpsc::Receiver<Vec<ShimEvent>>,
}

/// Talks to a shim.
#[derive(Debug, Clone)]
pub struct ShimHandle {
    frames: mpsc::Sender<Vec<u8>>,
    pending: Arc<Pending>,
}

type Answer = oneshot::Sender<Result<(), LinkError>>;

#[derive(Debug, Default)]
struct Pending {
    last: AtomicU64,
    /// `None` once the connection is closed.
    waiting: Mutex<Option<HashMap<Op, Answer>>>,
}

impl Pending {
    fn wait_for(&self, op: Op) -> Result<oneshot::Receiver<Result<(), LinkError>>, LinkError> {
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.waiting.lock().map_err(|_| LinkError::Closed)?;
        waiting.as_mut().ok_or(LinkError::Closed)?.insert(op, answer);
        Ok(answered)
    }

    fn answer(&self, op: Op, outcome: Result<(), LinkError>) {
        let waiting = self.waiting.lock().ok().and_then(|mut waiting| waiting.as_mut()?.remove(&op));
        if let Some(answer) = waiting {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(outcome);
        }
    }

    fn close(&self) {
        if let Ok(mut waiting) = self.waiting.lock() {
            // Dropping the senders tells those who wait.
            *waiting = None;
        }
    }
}

/// Connects to the shim that listens at `path`.
///
/// # Errors
///
/// All but [`LinkError::Failed`].
pub async fn connect(path: &Path) -> Result<Connection, LinkError> {
    let stream = UnixStream::connect(path).await;
    let stream = stream.map_err(|source| LinkError::Connect { path: path.display().to_string(), source })?;
    let (mut reader, mut writer) = stream.into_split();
    frame::write(&mut writer, &ToShim::Hello { protocol: PROTOCOL, daemon: VERSION.to_owned() }).await?;
    let hello = tokio::time::timeout(HELLO_DEADLINE, frame::read(&mut reader)).await.map_err(|_| LinkError::Silent)??;
    let Some(Frame::Json(hello)) = hello else { return Err(LinkError::Closed) };
    let FromShim::Hello(state) = serde_json::from_slice(&hello).map_err(FrameError::Json)? else {
        return Err(LinkError::Closed);
    };
    if !(OLDEST_PROTOCOL..=PROTOCOL).contains(&state.protocol) {
        return Err(LinkError::Version(state.protocol));
    }

    let pending = Arc::new(Pending { last: AtomicU64::new(0), waiting: Mutex::new(Some(HashMap::new())) });
    let (frames, mut outgoing) = mpsc::channel::<Vec<u8>>(WRITE_QUEUE);
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Some(frame) = outgoing.recv().await {
            if let Err(e) = writer.write_all(&frame).await {
                tracing::debug!(error = %e, "a sandbox's connection can not be written to");
                return;
            }
        }
    });
    let (to_owner, events) = mpsc::channel(EVENT_QUEUE);
    let answers = pending.clone();
    let sandbox = state.sandbox;
    tokio::spawn(async move {
        if let Err(error) = read_all(&mut reader, &answers, &to_owner).await {
            tracing::warn!(sandbox_id = %sandbox, error = crate::report::chain(&error), "connection to a sandbox broke");
        }
        answers.close();
    });
    Ok(Connection { state, handle: ShimHandle { frames, pending }, events })
}

async fn read_all(
    reader: &mut tokio::net::unix::OwnedReadHalf,
    answers: &Pending,
    to_owner: &mpsc::Sender<Vec<ShimEvent>>,
) -> Result<(), LinkError> {
    while let Some(frame) = frame::read(reader).await? {
        let Frame::Json(message) = frame else { continue };
        match serde_json::from_slice(&message).map_err(FrameError::Json)? {
            FromShim::Done { op } => answers.answer(op, Ok(())),
            FromShim::Failed { op, error } => answers.answer(op, Err(LinkError::Failed(error))),
            FromShim::Hello(_) => {}
            FromShim::Events { events } => {
                if to_owner.send(events).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

impl ShimHandle {
    /// Sends a message that has no answer.
    ///
    /// # Errors
    ///
    /// [`LinkError::Closed`], or [`LinkError::Frame`] if the message is too large.
    pub async fn send(&self, message: &ToShim) -> Result<(), LinkError> {
        self.frames.send(frame::encode(message)?).await.map_err(|_| LinkError::Closed)
    }

    /// Sends a message and waits for its answer.
    ///
    /// # Errors
    ///
    /// [`LinkError::Closed`], [`LinkError::Frame`], [`LinkError::Failed`].
    pub async fn call(&self, message: impl FnOnce(Op) -> ToShim) -> Result<(), LinkError> {
        let op = self.next_op();
        let answered = self.pending.wait_for(op)?;
        self.send(&message(op)).await?;
        answered.await.map_err(|_| LinkError::Closed)?
    }

    /// Unpacks an archive into the workspace; `chunks` gives its bytes.
    ///
    /// # Errors
    ///
    /// As [`Self::call`], and [`LinkError::Source`] if `chunks` brings an error. The shim still
    /// waits for the rest then, and this sandbox is good for nothing.
    pub async fn unpack(&self, mut chunks: mpsc::Receiver<std::io::Result<Vec<u8>>>) -> Result<(), LinkError> {
        let op = self.next_op();
        let answered = self.pending.wait_for(op)?;
        self.send(&ToShim::Unpack { op }).await?;
        while let Some(chunk) = chunks.recv().await {
            for piece in chunk.map_err(LinkError::Source)?.chunks(frame::CHUNK) {
                self.frames.send(frame::encode_chunk(piece)?).await.map_err(|_| LinkError::Closed)?;
            }
        }
        self.frames.send(frame::encode_chunk(&[])?).await.map_err(|_| LinkError::Closed)?;
        answered.await.map_err(|_| LinkError::Closed)?
    }

    fn next_op(&self) -> Op {
        self.pending.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}
