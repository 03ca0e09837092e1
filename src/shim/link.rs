//! What the connection that counts still has to send.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::connection::ConnectionId;
use super::spool::{Record, Spool};
use crate::link::frame::{self, FrameError};
use crate::link::shim::FromShim;

/// Bytes of events that go into one frame, about.
const BATCH: usize = 256 << 10;

/// A connection of the daemon. Answers go out before events, and events from the oldest that is
/// not acknowledged. Chunks of a snapshot and batches of events take turns.
#[derive(Debug)]
pub struct Link {
    /// The connection.
    pub id: ConnectionId,
    /// Takes its frames.
    pub out: mpsc::Sender<Vec<u8>>,
    /// Whose events it was told to expect.
    pub incarnation: Uuid,
    answers: VecDeque<Vec<u8>>,
    /// Number of the newest event that was sent.
    sent: u64,
    /// A chunk that waits.
    chunk: Option<Vec<u8>>,
    /// Whether the last frame was a chunk.
    was_chunk: bool,
}

impl Link {
    /// A new connection, to which nothing was sent yet.
    pub const fn new(id: ConnectionId, out: mpsc::Sender<Vec<u8>>, incarnation: Uuid) -> Self {
        Self { id, out, incarnation, answers: VecDeque::new(), sent: 0, chunk: None, was_chunk: false }
    }

    /// Puts an answer in line.
    pub fn answer(&mut self, message: &FromShim) {
        match frame::encode(message) {
            Ok(bytes) => self.answers.push_back(bytes),
            Err(error) => tracing::error!(%error, "answer can not be sent"),
        }
    }

    /// Whether another chunk can be taken.
    pub const fn takes_chunk(&self) -> bool {
        self.chunk.is_none()
    }

    /// Puts a chunk in line, where the one before was sent.
    pub fn chunk(&mut self, chunk: &[u8]) {
        match frame::encode_chunk(chunk) {
            Ok(bytes) => self.chunk = Some(bytes),
            Err(error) => tracing::error!(%error, "chunk can not be sent"),
        }
    }

    /// Ends the chunks of an archive, of which none waits any more.
    pub fn end_chunks(&mut self) {
        self.answers.extend(frame::encode_chunk(&[]));
    }

    /// Whether there is something to send.
    pub fn has_work(&self, spool: &Spool) -> bool {
        !self.answers.is_empty() || self.chunk.is_some() || spool.has_after(self.sent)
    }

    /// The next frame to send.
    pub fn next(&mut self, spool: &mut Spool) -> Option<Vec<u8>> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        if !self.was_chunk || !spool.has_after(self.sent) {
            self.was_chunk = self.chunk.is_some();
            if self.was_chunk {
                return self.chunk.take();
            }
        }
        self.was_chunk = false;
        let events = spool.batch(self.sent, BATCH);
        self.sent = events.last()?.n;
        match encode(&events) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                // Lines and what is made of them are bounded below the size of a frame.
                tracing::error!(%error, event = self.sent, "event can not be sent");
                None
            }
        }
    }
}

/// [`FromShim::Events`] of events that are JSON already.
fn encode(events: &[&Record]) -> Result<Vec<u8>, FrameError> {
    let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * events.len() + 1);
    for event in events {
        parts.push(if parts.is_empty() { br#"{"events":{"events":["# } else { b"," });
        parts.push(event.body());
    }
    parts.push(b"]}}");
    frame::encode_parts(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::frame::Frame;
    use crate::runtime::Event;
    use crate::shim::spool::FULL;
    use crate::wire::event::Kind;

    async fn read(bytes: &[u8]) -> FromShim {
        let mut bytes = bytes;
        let Some(Frame::Json(body)) = frame::read(&mut bytes).await.expect("a frame") else { panic!("no message") };
        serde_json::from_slice(&body).expect("a message")
    }

    #[tokio::test]
    async fn answers_go_first_and_events_once_in_a_connection() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut spool = Spool::open(dir.path(), FULL);
        for _ in 0..3 {
            spool.push(7, Event::new(None, Kind::Text, &"x"));
        }
        let mut link = Link::new(1, mpsc::channel(1).0, spool.incarnation());
        link.answer(&FromShim::Done { op: 5 });
        assert!(matches!(read(&link.next(&mut spool).expect("a frame")).await, FromShim::Done { op: 5 }));
        let FromShim::Events { events } = read(&link.next(&mut spool).expect("a frame")).await else { panic!("no events") };
        assert_eq!(events.iter().map(|event| event.n).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(!link.has_work(&spool) && link.next(&mut spool).is_none());
        spool.ack(2);
        let mut again = Link::new(2, mpsc::channel(1).0, spool.incarnation());
        let FromShim::Events { events } = read(&again.next(&mut spool).expect("a frame")).await else { panic!("no events") };
        assert_eq!(events.iter().map(|event| event.n).collect::<Vec<_>>(), [3]);
    }
}
