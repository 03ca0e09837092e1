//! The stream of one turn, which survives the connection it came on.
//!
//! ```text
//!   POST …/messages ──frames──▶ done
//!          │ connection lost, or silent for too long
//!          ▼
//!   GET …/stream?after=<last id>&turn=<turn>&partials=… ──frames──▶ done
//!          ▲ lost again │
//!          └─ back off ─┘   until RESUME_DEADLINE_SECS have passed without a frame
//! ```
//!
//! The turn belongs to the session, not to the connection, so nothing is lost in between. Frames
//! that come twice are left out by their ids.

use std::collections::VecDeque;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::Client;
use super::error::{ClientError, ConnectCause};
use super::sse::{Frame, Parser};
use crate::wire::{SessionId, TurnId};

/// A stream without a byte for this long is taken for dead. The daemon sends a comment at least
/// every 15 s.
const SILENCE_SECS: u64 = 60;

/// How long a broken stream is tried again before the caller hears of it: a daemon's restart takes
/// far less.
const RESUME_DEADLINE_SECS: u64 = 60;

const RESUME_DELAY_FIRST_MS: u64 = 50;
const RESUME_DELAY_MAX_MS: u64 = 2_000;

/// The frames of a turn, from the message to `done`.
pub struct TurnStream {
    client: Client,
    session: SessionId,
    partials: bool,
    turn: Option<TurnId>,
    last: Option<i64>,
    connection: Option<Connection>,
    ready: VecDeque<Frame>,
    over: bool,
    outage: Option<Outage>,
}

struct Connection {
    body: Incoming,
    parser: Parser,
}

/// A time without connection.
struct Outage {
    since: Instant,
    next_try: Instant,
    delay: Duration,
}

impl TurnStream {
    pub(super) fn new(client: Client, session: SessionId, partials: bool, body: Incoming) -> Self {
        let connection = Some(Connection { body, parser: Parser::default() });
        Self { client, session, partials, turn: None, last: None, connection, ready: VecDeque::new(), over: false, outage: None }
    }

    /// The turn, once the first frame has named it.
    pub fn turn(&self) -> Option<TurnId> {
        self.turn
    }

    /// The next frame; `None` after `done`.
    ///
    /// # Errors
    /// [`ClientError::Cut`] if the stream broke before any frame with an id; the last failure of
    /// taking it up again, if that did not work for a minute; what [`Client`]'s calls return.
    ///
    /// # Cancel safety
    /// Cancel safe: no frame is lost.
    pub async fn next(&mut self) -> Result<Option<Frame>, ClientError> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                if self.admit(&frame) {
                    return Ok(Some(frame));
                }
                continue;
            }
            if self.over {
                return Ok(None);
            }
            match self.read().await {
                Ok(()) => {}
                Err(error) if !error.is_passing() => return Err(error),
                Err(error) => self.back_off(error)?,
            }
        }
    }

    /// Whether the frame is new; notes what it tells about the stream.
    fn admit(&mut self, frame: &Frame) -> bool {
        if let (Some(id), Some(last)) = (frame.id, self.last)
            && id <= last
        {
            return false;
        }
        self.last = frame.id.or(self.last);
        self.outage = None;
        if frame.event == "session_start" {
            self.turn = serde_json::from_str::<Start>(&frame.data).ok().and_then(|start| start.turn_id).or(self.turn);
        }
        if frame.event == "done" {
            self.over = true;
            self.ready.clear();
        }
        true
    }

    /// Reads some bytes, connecting again first where that is needed.
    async fn read(&mut self) -> Result<(), ClientError> {
        if self.connection.is_none() {
            if let Some(outage) = &self.outage {
                tokio::time::sleep_until(outage.next_try).await;
            }
            let (Some(turn), Some(last)) = (self.turn, self.last) else { return Err(ClientError::Cut) };
            let body = self.client.open_stream(self.session, turn, last, self.partials).await?;
            self.connection = Some(Connection { body, parser: Parser::default() });
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let server = self.client.server().clone();
        let piece = match tokio::time::timeout(Duration::from_secs(SILENCE_SECS), connection.body.frame()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => return Err(ClientError::Broken { server, cause: ConnectCause::of(&error) }),
            Ok(None) => return Err(ClientError::Broken { server, cause: ConnectCause::end_of_stream() }),
            Err(_) => return Err(ClientError::Silent { server, secs: SILENCE_SECS }),
        };
        if let Some(bytes) = piece.data_ref() {
            let server = self.client.server().clone();
            let pushed = connection.parser.push(bytes, &mut self.ready);
            pushed.map_err(|error| ClientError::Stream { server, source: error })?;
        }
        Ok(())
    }

    /// Plans the next try after a failure, or passes the failure on.
    fn back_off(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.connection = None;
        if self.last.is_none() || self.turn.is_none() {
            // Without a place to go on from, another stream would be another turn's.
            return Err(if matches!(error, ClientError::Broken { .. }) { ClientError::Cut } else { error });
        }
        let now = Instant::now();
        let first = Duration::from_millis(RESUME_DELAY_FIRST_MS);
        let outage = self.outage.get_or_insert(Outage { since: now, next_try: now, delay: first });
        if now - outage.since > Duration::from_secs(RESUME_DEADLINE_SECS) {
            return Err(error);
        }
        outage.next_try = now + outage.delay;
        outage.delay = (outage.delay * 2).min(Duration::from_millis(RESUME_DELAY_MAX_MS));
        Ok(())
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    turn_id: Option<TurnId>,
}
