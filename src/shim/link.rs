//! What the connection that counts still has to send.

use std::collections::VecDeque;

use serde::Serialize;
use tokio::sync::mpsc;

use super::connection::ConnectionId;
use super::spool::Spool;
use crate::link::frame;
use crate::link::shim::{FromShim, ShimEvent};

/// Bytes of events that go into one frame, about.
const BATCH: usize = 256 << 10;

/// A connection of the daemon. Answers go out before events, and events from the oldest that is
/// not acknowledged.
#[derive(Debug)]
pub struct Link {
    /// The connection.
    pub id: ConnectionId,
    /// Takes its frames.
    pub out: mpsc::Sender<Vec<u8>>,
    answers: VecDeque<Vec<u8>>,
    /// Number of the newest event that was sent.
    sent: u64,
}

/// [`FromShim::Events`] without owning the events.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Batch<'a> {
    Events { events: Vec<&'a ShimEvent> },
}

impl Link {
    /// A new connection, to which nothing was sent yet.
    pub const fn new(id: ConnectionId, out: mpsc::Sender<Vec<u8>>) -> Self {
        Self { id, out, answers: VecDeque::new(), sent: 0 }
    }

    /// Puts an answer in line.
    pub fn answer(&mut self, message: &FromShim) {
        match frame::encode(message) {
            Ok(bytes) => self.answers.push_back(bytes),
            Err(error) => tracing::error!(%error, "answer can not be sent"),
        }
    }

    /// Whether there is something to send.
    pub fn has_work(&self, spool: &Spool) -> bool {
        !self.answers.is_empty() || spool.after(self.sent).next().is_some()
    }

    /// The next frame to send.
    pub fn next(&mut self, spool: &Spool) -> Option<Vec<u8>> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        let events = spool.batch(self.sent, BATCH);
        self.sent = events.last()?.n;
        match frame::encode(&Batch::Events { events }) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                // Lines and what is made of them are bounded below the size of a frame.
                tracing::error!(%error, event = self.sent, "event can not be sent");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::frame::Frame;
    use crate::runtime::Event;
    use crate::wire::event::Kind;

    async fn read(bytes: &[u8]) -> FromShim {
        let mut bytes = bytes;
        let Some(Frame::Json(body)) = frame::read(&mut bytes).await.expect("a frame") else { panic!("no message") };
        serde_json::from_slice(&body).expect("a message")
    }

    #[tokio::test]
    async fn answers_go_first_and_events_once_in_a_connection() {
        let mut spool = Spool::default();
        for _ in 0..3 {
            spool.push(7, Event::new(None, Kind::Text, &"x"));
        }
        let mut link = Link::new(1, mpsc::channel(1).0);
        link.answer(&FromShim::Done { op: 5 });
        assert!(matches!(read(&link.next(&spool).expect("a frame")).await, FromShim::Done { op: 5 }));
        let FromShim::Events { events } = read(&link.next(&spool).expect("a frame")).await else { panic!("no events") };
        assert_eq!(events.iter().map(|event| event.n).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(!link.has_work(&spool) && link.next(&spool).is_none());
        spool.ack(2);
        let mut again = Link::new(2, mpsc::channel(1).0);
        let FromShim::Events { events } = read(&again.next(&spool).expect("a frame")).await else { panic!("no events") };
        assert_eq!(events.iter().map(|event| event.n).collect::<Vec<_>>(), [3]);
    }
}
