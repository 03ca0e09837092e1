//! The daemon's end of the connection to a shim.
//!
//! Two tasks serve a connection: one reads frames, hands events to the owner and answers to those
//! who asked; one writes what comes through a bounded channel. Both end when either side closes.
//!
//! A third carries the chunks of a snapshot from the reader to whoever takes them, and asks the
//! shim for more as they are taken. So the reader never waits for a slow taker: no more chunks are
//! on the way than fit into the channel between them.

mod run;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use self::run::{Input, Output, Running};
use super::frame::{self, Frame, FrameError};
use super::shim::{
    BUNDLE_PROTOCOL, FromShim, GATEWAY_PROTOCOL, LogLine, OLDEST_PROTOCOL, Op, PACK_CREDIT, PROTOCOL, RunEnd, ShimEvent,
    ShimState, ToShim,
};
use crate::wire::VERSION;
use crate::wire::usage::ModelUsage;

/// How long a shim may take from the connection to its `Hello`; on a busy host its unit may only
/// just be starting.
const HELLO_DEADLINE: Duration = Duration::from_secs(20);
/// Frames that may wait for the socket; archive chunks make them large.
const WRITE_QUEUE: usize = 8;
/// Batches of events that may wait for the store. Beyond that the shim is read no further, and
/// then stops reading the runtime.
const EVENT_QUEUE: usize = 8;
/// Batches that are held back while a sandbox is brought up.
const HELD_MAX: usize = 1024;
/// Chunks of a snapshot that wait to be taken, beside those on credit.
const TAKEN_QUEUE: usize = 1;

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
    /// Its shim is of a release that can not do this. It is replaced when its session is resumed
    /// after a stop.
    #[error("the sandbox is of an older release; stop and resume the session")]
    Old,
    /// The shim sends chunks that nobody asked for.
    #[error("the sandbox sends more than was asked for")]
    Flood,
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
    pub events: Events,
}

/// What happens in a sandbox, in batches, in order.
#[derive(Debug)]
pub struct Events {
    held: VecDeque<Vec<ShimEvent>>,
    coming: mpsc::Receiver<Vec<ShimEvent>>,
}

impl Events {
    /// The next batch; `None` when the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn recv(&mut self) -> Option<Vec<ShimEvent>> {
        match self.held.pop_front() {
            Some(batch) => Some(batch),
            None => self.coming.recv().await,
        }
    }

    /// Takes no more.
    pub fn close(&mut self) {
        self.coming.close();
    }

    /// Waits for `work` with the shim, and holds back what happens meanwhile: answers come behind it on the
    /// same connection, and would not be read where nobody took it.
    pub async fn held_during<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        let mut is_over = false;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                batch = self.coming.recv(), if !is_over && self.held.len() < HELD_MAX => match batch {
                    Some(batch) => self.held.push_back(batch),
                    None => is_over = true,
                },
            }
        }
    }
}

/// Talks to a shim.
#[derive(Debug, Clone)]
pub struct ShimHandle {
    protocol: u32,
    frames: mpsc::Sender<Vec<u8>>,
    pending: Arc<Pending>,
}

/// An answer that is on its way.
#[derive(Debug)]
pub struct Answer(oneshot::Receiver<Outcome>);

impl Answer {
    /// Waits for it.
    ///
    /// # Errors
    ///
    /// [`LinkError::Closed`], [`LinkError::Failed`].
    pub async fn came(self) -> Result<(), LinkError> {
        self.0.await.map_err(|_| LinkError::Closed)?.map(drop)
    }
}

/// How a request ended.
type Outcome = Result<Said, LinkError>;

/// What is said at the end of a request.
#[derive(Debug)]
enum Said {
    Done,
    /// Of a packing, the runtime's own id of the conversation.
    Packed(Option<String>),
    /// Of a program.
    Ended(RunEnd),
    /// Lines that were said.
    Logs(Vec<LogLine>),
}

impl Said {
    fn conversation(self) -> Option<String> {
        if let Self::Packed(conversation) = self { conversation } else { None }
    }
}

#[derive(Debug, Default)]
struct Pending {
    last: AtomicU64,
    /// `None` once the connection is closed.
    waiting: Mutex<Option<Waiting>>,
    /// What the last packing told of calls that are on no bill.
    leftover: Mutex<BTreeMap<String, ModelUsage>>,
}

#[derive(Debug, Default)]
struct Waiting {
    answers: HashMap<Op, oneshot::Sender<Outcome>>,
    /// Packings that were asked for, of which the shim carries out the first that it did not answer.
    packings: VecDeque<(Op, mpsc::Sender<Vec<u8>>)>,
    /// Who takes the parts of other archives, and of output.
    exports: HashMap<Op, mpsc::Sender<Vec<u8>>>,
    /// Parts of input that may be sent; closed when nobody reads it any more.
    inputs: HashMap<Op, Arc<Semaphore>>,
}

impl Pending {
    fn set_leftover(&self, models: BTreeMap<String, ModelUsage>) {
        *self.leftover.lock().unwrap_or_else(PoisonError::into_inner) = models;
    }

    fn leftover(&self) -> BTreeMap<String, ModelUsage> {
        self.leftover.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wait_for(&self, op: Op) -> Result<oneshot::Receiver<Outcome>, LinkError> {
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.waiting.lock().map_err(|_| LinkError::Closed)?;
        waiting.as_mut().ok_or(LinkError::Closed)?.answers.insert(op, answer);
        Ok(answered)
    }

    /// Where the chunks of a packing come, or the parts of an export.
    fn chunks_of(&self, op: Op, is_export: bool) -> Result<mpsc::Receiver<Vec<u8>>, LinkError> {
        let (chunks, come) = mpsc::channel(PACK_CREDIT as usize);
        let mut waiting = self.waiting.lock().map_err(|_| LinkError::Closed)?;
        let waiting = waiting.as_mut().ok_or(LinkError::Closed)?;
        if is_export {
            waiting.exports.insert(op, chunks);
        } else {
            waiting.packings.push_back((op, chunks));
        }
        Ok(come)
    }

    /// Hands on a part of the export of this number, or a chunk of the packing.
    fn chunk(&self, export: Option<Op>, chunk: Vec<u8>) -> Result<(), LinkError> {
        let waiting = self.waiting.lock().map_err(|_| LinkError::Closed)?;
        let taker = waiting.as_ref().and_then(|waiting| match export {
            Some(op) => waiting.exports.get(&op),
            None => waiting.packings.front().map(|(_, chunks)| chunks),
        });
        match taker.map(|chunks| chunks.try_send(chunk)) {
            Some(Err(mpsc::error::TrySendError::Full(_))) => Err(LinkError::Flood),
            // Nobody wants them any more, and the shim may not know yet.
            Some(Ok(()) | Err(mpsc::error::TrySendError::Closed(_))) | None => Ok(()),
        }
    }

    fn answer(&self, op: Op, outcome: Outcome) {
        let answer = self.waiting.lock().ok().and_then(|mut waiting| {
            let waiting = waiting.as_mut()?;
            waiting.packings.retain(|(packing, _)| *packing != op);
            waiting.exports.remove(&op);
            if let Some(credit) = waiting.inputs.remove(&op) {
                credit.close();
            }
            waiting.answers.remove(&op)
        });
        if let Some(answer) = answer {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(outcome);
        }
    }

    fn close(&self) {
        if let Ok(mut waiting) = self.waiting.lock() {
            // Dropping the senders tells those who wait.
            let waiting = waiting.take();
            waiting.iter().flat_map(|waiting| waiting.inputs.values()).for_each(|credit| credit.close());
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

    let pending =
        Arc::new(Pending { last: AtomicU64::new(0), waiting: Mutex::new(Some(Waiting::default())), ..Pending::default() });
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
    let (to_owner, coming) = mpsc::channel(EVENT_QUEUE);
    let events = Events { held: VecDeque::new(), coming };
    let answers = pending.clone();
    let sandbox = state.sandbox;
    tokio::spawn(async move {
        if let Err(error) = read_all(&mut reader, &answers, &to_owner).await {
            tracing::warn!(sandbox_id = %sandbox, error = crate::report::chain(&error), "connection to a sandbox broke");
        }
        // The owner first: whoever sees that nothing more is answered finds it knowing.
        drop(to_owner);
        answers.close();
    });
    let protocol = state.protocol;
    Ok(Connection { state, handle: ShimHandle { protocol, frames, pending }, events })
}

async fn read_all(
    reader: &mut tokio::net::unix::OwnedReadHalf,
    answers: &Pending,
    to_owner: &mpsc::Sender<Vec<ShimEvent>>,
) -> Result<(), LinkError> {
    while let Some(frame) = frame::read(reader).await? {
        let message = match frame {
            Frame::Json(message) => message,
            // That it is whole is said by `Packed`.
            Frame::Chunk(chunk) if chunk.is_empty() => continue,
            Frame::Chunk(chunk) => {
                answers.chunk(None, chunk)?;
                continue;
            }
            Frame::Part(op, bytes) => {
                answers.chunk(Some(op), bytes)?;
                continue;
            }
        };
        match serde_json::from_slice(&message).map_err(FrameError::Json)? {
            FromShim::Done { op } => answers.answer(op, Ok(Said::Done)),
            FromShim::Packed { op, conversation, leftover } => {
                answers.set_leftover(leftover);
                answers.answer(op, Ok(Said::Packed(conversation)));
            }
            FromShim::Ended { op, end } => answers.answer(op, Ok(Said::Ended(end))),
            FromShim::Logs { op, lines } => answers.answer(op, Ok(Said::Logs(lines))),
            FromShim::Wants { op, parts } => answers.wants(op, parts),
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
        self.begin(message).await?.came().await
    }

    /// Sends a message whose answer comes later.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub async fn begin(&self, message: impl FnOnce(Op) -> ToShim) -> Result<Answer, LinkError> {
        let op = self.next_op();
        let answered = self.pending.wait_for(op)?;
        self.send(&message(op)).await?;
        Ok(Answer(answered))
    }

    /// Unpacks an archive into the workspace; `chunks` gives its bytes.
    ///
    /// # Errors
    ///
    /// As [`Self::call`], and [`LinkError::Source`] if `chunks` brings an error. The shim still
    /// waits for the rest then, and this sandbox is good for nothing.
    pub async fn unpack(&self, chunks: mpsc::Receiver<std::io::Result<Vec<u8>>>) -> Result<(), LinkError> {
        self.send_archive(|op| ToShim::Unpack { op }, chunks).await
    }

    /// Restores a workspace and a conversation that [`Self::pack`] packed; `chunks` gives the bytes.
    /// `conversation` is the runtime's own id where that is not the session's. With `more` the workspace is
    /// not whole before something is laid over it.
    ///
    /// # Errors
    ///
    /// As [`Self::unpack`].
    pub async fn restore(
        &self,
        conversation: Option<String>,
        more: bool,
        chunks: mpsc::Receiver<std::io::Result<Vec<u8>>>,
    ) -> Result<(), LinkError> {
        self.send_archive(|op| ToShim::Restore { op, conversation, more }, chunks).await
    }

    /// Lays an archive with the root `work/` over the workspace; `chunks` gives its bytes.
    ///
    /// # Errors
    ///
    /// As [`Self::unpack`], and [`LinkError::Old`]. Whatever the error, the workspace may be half of
    /// the one and half of the other, and [`ShimState::unpacked`] of the next connection tells.
    pub async fn lay(&self, replace: bool, chunks: mpsc::Receiver<std::io::Result<Vec<u8>>>) -> Result<(), LinkError> {
        self.knows_bundles()?;
        self.send_archive(|op| ToShim::Lay { op, replace, state: false }, chunks).await
    }

    /// Lays an archive with the root `home/` over what the runtime keeps of its conversation, before it has begun one. The
    /// workspace is not whole before something is unpacked into it, or laid over it.
    ///
    /// # Errors
    ///
    /// As [`Self::lay`].
    pub async fn lay_conversation(&self, chunks: mpsc::Receiver<std::io::Result<Vec<u8>>>) -> Result<(), LinkError> {
        self.knows_bundles()?;
        self.send_archive(|op| ToShim::Lay { op, replace: false, state: true }, chunks).await
    }

    /// Whether it understands [`ToShim::Gateway`].
    pub const fn knows_gateway(&self) -> bool {
        self.protocol >= GATEWAY_PROTOCOL
    }

    const fn knows_bundles(&self) -> Result<(), LinkError> {
        if self.protocol < BUNDLE_PROTOCOL { Err(LinkError::Old) } else { Ok(()) }
    }

    async fn send_archive(
        &self,
        message: impl FnOnce(Op) -> ToShim,
        mut chunks: mpsc::Receiver<std::io::Result<Vec<u8>>>,
    ) -> Result<(), LinkError> {
        let op = self.next_op();
        let answered = self.pending.wait_for(op)?;
        self.send(&message(op)).await?;
        while let Some(chunk) = chunks.recv().await {
            for piece in chunk.map_err(LinkError::Source)?.chunks(frame::CHUNK) {
                self.frames.send(frame::encode_chunk(piece)?).await.map_err(|_| LinkError::Closed)?;
            }
        }
        self.frames.send(frame::encode_chunk(&[])?).await.map_err(|_| LinkError::Closed)?;
        answered.await.map_err(|_| LinkError::Closed)?.map(drop)
    }

    /// Packs the workspace, without what the patterns leave out, and the runtime's own state of the
    /// conversation. Gives the archive's chunks, none larger than [`frame::CHUNK`], and what becomes
    /// of it: the runtime's own id of the conversation where that is not the session's.
    ///
    /// The chunks end in either case, so an archive is whole only if the future says so. A receiver
    /// that is slow holds up the packing, and with it the session's turns, but nothing else; one
    /// that is dropped stops the packing.
    ///
    /// # Errors
    ///
    /// [`LinkError::Closed`], [`LinkError::Frame`]; of the future also [`LinkError::Failed`].
    pub async fn pack(
        &self,
        excludes: Vec<String>,
    ) -> Result<(mpsc::Receiver<Vec<u8>>, impl Future<Output = Result<Option<String>, LinkError>> + Send + use<>), LinkError>
    {
        let op = self.next_op();
        let (chunks, packed) = self.receive_archive(false, op, ToShim::Pack { op, excludes }).await?;
        Ok((chunks, async move { packed.await.map(Said::conversation) }))
    }

    /// What model calls took that was on no bill when the sandbox was packed last.
    pub fn leftover(&self) -> BTreeMap<String, ModelUsage> {
        self.pending.leftover()
    }

    /// Packs the workspace, without what the patterns leave out, whatever else goes on in the sandbox.
    /// Otherwise like [`Self::pack`], except that others are packed at the same time.
    ///
    /// # Errors
    ///
    /// As [`Self::pack`], and [`LinkError::Old`].
    pub async fn export(
        &self,
        excludes: Vec<String>,
    ) -> Result<(mpsc::Receiver<Vec<u8>>, impl Future<Output = Result<Option<String>, LinkError>> + Send + use<>), LinkError>
    {
        self.knows_bundles()?;
        let op = self.next_op();
        let (parts, sent) = self.receive_archive(true, op, ToShim::Export { op, excludes }).await?;
        Ok((parts, async move { sent.await.map(Said::conversation) }))
    }

    async fn receive_archive(
        &self,
        is_export: bool,
        op: Op,
        message: ToShim,
    ) -> Result<(mpsc::Receiver<Vec<u8>>, impl Future<Output = Outcome> + Send + use<>), LinkError> {
        let answered = self.pending.wait_for(op)?;
        let come = self.pending.chunks_of(op, is_export)?;
        self.send(&message).await?;
        let (to_taker, taken) = mpsc::channel(TAKEN_QUEUE);
        tokio::spawn(carry(self.clone(), op, come, to_taker));
        Ok((taken, async move { answered.await.map_err(|_| LinkError::Closed)? }))
    }

    fn next_op(&self) -> Op {
        self.pending.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Carries chunks to whoever takes them, until there are no more or nobody takes them.
async fn carry(shim: ShimHandle, op: Op, mut come: mpsc::Receiver<Vec<u8>>, to_taker: mpsc::Sender<Vec<u8>>) {
    loop {
        let chunk = tokio::select! {
            chunk = come.recv() => chunk,
            () = to_taker.closed() => None,
        };
        let Some(chunk) = chunk else { break };
        if to_taker.send(chunk).await.is_err() || shim.send(&ToShim::PackMore { op, chunks: 1 }).await.is_err() {
            break;
        }
    }
    // Of no effect on a packing that has ended. Without a connection there is none.
    if to_taker.is_closed() {
        let _gone = shim.send(&ToShim::PackStop { op }).await;
    }
}
