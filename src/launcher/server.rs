//! Takes connections and hands requests to [`Sandboxes`].
//!
//! One task accepts, one reads each connection, one carries out each request, so that a slow
//! removal holds up nothing. A request that was read is carried out even if its asker goes away.

use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::sandboxes::Sandboxes;
use crate::link::launch::{Answer, LineError, Request, Tag, read_line, split_tag};
use crate::report;

/// Requests that are carried out at a time; more wait in their sockets. A burst of sandboxes is
/// some hundred, and each request under way holds a few KiB.
const REQUESTS_MAX: u32 = 512;
/// Connections at a time. There is one `ashd`, and an administrator's tools.
const CONNECTIONS_MAX: usize = 16;
/// Answers that wait for a slow reader before its requests wait, too.
const ANSWERS_MAX: usize = 64;
/// Requests of one connection whose answers have not been handed over. More wait in the socket, so
/// that somebody who asks and never reads costs a bounded amount of memory.
const UNANSWERED_MAX: usize = REQUESTS_MAX as usize;
/// How long requests may take to end when the launcher is stopped. Afterwards systemd goes on
/// with what it was asked, and whoever asked finds out by asking again.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// Serves until `stop` is ready or systemd is lost; then waits for requests under way.
///
/// # Errors
///
/// The listener can not be used.
pub async fn serve(
    listener: StdListener,
    sandboxes: Arc<Sandboxes>,
    daemon_uid: u32,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let requests = Arc::new(Semaphore::new(REQUESTS_MAX as usize));
    let accept = async {
        loop {
            // A semaphore that is never closed gives its permits.
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) if is_allowed(&stream, daemon_uid) => {
                    let (sandboxes, requests) = (Arc::clone(&sandboxes), Arc::clone(&requests));
                    tokio::spawn(async move {
                        converse(stream, sandboxes, requests).await;
                        drop(permit);
                    });
                }
                Ok(_) => (),
                Err(error) => {
                    // Out of descriptors, say. Accepting again at once would spin.
                    tracing::warn!(error = %error, "no connection accepted, retrying in 1 s");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => (),
        () = stop => (),
        () = sandboxes.lost() => (),
    }
    if tokio::time::timeout(DRAIN_DEADLINE, requests.acquire_many(REQUESTS_MAX)).await.is_err() {
        tracing::warn!("requests are still under way at the end, ignoring");
    }
    Ok(())
}

/// Whether the other end is root or the daemon. The socket's mode says so already, but a mode can
/// be changed by mistake.
fn is_allowed(stream: &UnixStream, daemon_uid: u32) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == daemon_uid => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), pid = peer.pid(), "connection refused: only root and the daemon may ask");
            false
        }
        Err(error) => {
            tracing::warn!(error = %error, "connection refused: the kernel does not tell whose it is");
            false
        }
    }
}

async fn converse(stream: UnixStream, sandboxes: Arc<Sandboxes>, requests: Arc<Semaphore>) {
    let (from, mut to) = stream.into_split();
    let (answers, mut waiting) = mpsc::channel::<String>(ANSWERS_MAX);
    let writer = tokio::spawn(async move {
        while let Some(lines) = waiting.recv().await {
            if let Err(error) = to.write_all(lines.as_bytes()).await {
                tracing::debug!(error = %error, "an answer was not taken");
                return;
            }
        }
    });
    if let Err(error) = read_requests(from, sandboxes, requests, answers).await {
        tracing::warn!(error = report::chain(&error), "connection closed");
    }
    // Ends when the last request of this connection has answered.
    if let Err(error) = writer.await {
        tracing::error!(error = %error, "answers were not written");
    }
}

#[derive(Debug, thiserror::Error)]
enum ConversationError {
    #[error("read a request")]
    Read(#[from] std::io::Error),
    #[error("the other end does not speak this language")]
    Language(#[from] LineError),
}

async fn read_requests(
    from: OwnedReadHalf,
    sandboxes: Arc<Sandboxes>,
    requests: Arc<Semaphore>,
    answers: mpsc::Sender<String>,
) -> Result<(), ConversationError> {
    let mut from = BufReader::new(from);
    let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
    while let Some(line) = read_line(&mut from).await? {
        let (tag, words) = split_tag(&line)?;
        let answers = answers.clone();
        let request = match Request::parse(words) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(error = %error, "malformed request");
                // A closed channel means that nobody reads any more.
                answers.send(Answer::Refused(format!("malformed request: {error}")).encode(tag)).await.ok();
                continue;
            }
        };
        let Ok(place) = Arc::clone(&unanswered).acquire_owned().await else { return Ok(()) };
        let Ok(permit) = Arc::clone(&requests).acquire_owned().await else { return Ok(()) };
        let sandboxes = Arc::clone(&sandboxes);
        tokio::spawn(async move {
            let lines = carry_out(&sandboxes, tag, request).await;
            drop(permit);
            // As above.
            answers.send(lines).await.ok();
            drop(place);
        });
    }
    Ok(())
}

async fn carry_out(sandboxes: &Arc<Sandboxes>, tag: Tag, request: Request) -> String {
    let (verb, sandbox) = (request.verb(), request.sandbox());
    let sandbox = sandbox.map(tracing::field::display);
    let begun = Instant::now();
    match sandboxes.perform(request).await {
        Ok(answers) => {
            let elapsed_ms = begun.elapsed().as_secs_f64() * 1e3;
            tracing::debug!(request = verb, sandbox_id = sandbox, elapsed_ms, "request done");
            answers.iter().map(|answer| answer.encode(tag)).collect()
        }
        Err(error) => {
            let answer = error.to_answer();
            let error = report::chain(&error);
            match answer {
                // What a caller can bring about by asking is no news for the journal.
                Answer::Refused(_) => tracing::debug!(request = verb, sandbox_id = sandbox, error, "request refused"),
                _ => tracing::warn!(request = verb, sandbox_id = sandbox, error, "request failed"),
            }
            answer.encode(tag)
        }
    }
}
