//! Streams of events, which survive the connections they come on.
//!
//! ```text
//!   POST …/messages ──frames──▶ done                 GET …/stream?after=… ──frames──▶ end of the session
//!          │ connection lost, or silent for too long           │
//!          │  before the first id: the POST again              │
//!          ▼  after it:                                        ▼
//!   GET …/stream?after=<last id>&turn=<turn> ──▶ done     GET …/stream?after=<last id> ──▶ …
//!          ▲ lost again │                                      ▲ lost again │
//!          └─ back off ─┘   until RESUME_DEADLINE_SECS have    └─ back off ─┘
//!                           passed without a frame
//! ```
//!
//! A turn belongs to the session, not to the connection, so nothing is lost in between. The POST
//! carries an `Idempotency-Key`, so that the daemon takes the message once, however often it comes.
//! Frames that come twice are left out by their ids.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use tokio::time::Instant;

use super::error::{ClientError, ConnectCause};
use super::sse::{Frame, Parser};
use super::{Client, LogQuery};
use crate::wire::session::Status;
use crate::wire::{SessionId, TurnId};

/// A stream without a byte for this long is taken for dead. The daemon sends a comment at least
/// every 15 s.
const SILENCE_SECS: u64 = 60;

/// How long a broken stream is tried again before the caller hears of it: a daemon's restart takes
/// far less.
const RESUME_DEADLINE_SECS: u64 = 60;

const RESUME_DELAY_FIRST_MS: u64 = 50;
const RESUME_DELAY_MAX_MS: u64 = 2_000;

/// The frames of a turn, from the message to `done`, or those of a session's log.
pub struct EventStream {
    client: Client,
    session: SessionId,
    source: Source,
    last: Option<i64>,
    connection: Option<Connection>,
    ready: VecDeque<Frame>,
    over: bool,
    outage: Option<Outage>,
}

/// What is streamed.
enum Source {
    /// The turn of a message.
    Message {
        content: Bytes,
        /// The `Idempotency-Key` of every try.
        key: HeaderValue,
        partials: bool,
        /// The turn, once the first frame has named it.
        turn: Option<TurnId>,
    },
    /// The log of the session.
    Log {
        query: LogQuery,
        /// Whether the session was over before the present connection was made, so that the end
        /// of the stream is the end of the log.
        ended: bool,
    },
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

impl EventStream {
    /// Sends a message. A try whose answer got lost counts: the message may have been taken.
    pub(super) async fn of_message(
        client: Client,
        session: SessionId,
        content: Bytes,
        partials: bool,
    ) -> Result<Self, ClientError> {
        let key = HeaderValue::from_str(&uuid::Uuid::now_v7().to_string()).expect("a UUID is of letters that headers may hold");
        Self::begin(client, session, Source::Message { content, key, partials, turn: None }, None).await
    }

    /// Follows the log of a session.
    pub(super) async fn of_log(client: Client, session: SessionId, query: LogQuery) -> Result<Self, ClientError> {
        let after = Some(query.after);
        Self::begin(client, session, Source::Log { query, ended: false }, after).await
    }

    async fn begin(client: Client, session: SessionId, source: Source, last: Option<i64>) -> Result<Self, ClientError> {
        let ready = VecDeque::new();
        let mut stream = Self { client, session, source, last, connection: None, ready, over: false, outage: None };
        match stream.connect().await {
            Err(error @ ClientError::Broken { .. }) => stream.back_off(error)?,
            // What surely did nothing is the caller's to repeat.
            connected => connected?,
        }
        Ok(stream)
    }

    /// The turn of the message, once a frame has named it.
    pub const fn turn(&self) -> Option<TurnId> {
        match self.source {
            Source::Message { turn, .. } => turn,
            Source::Log { .. } => None,
        }
    }

    /// The next frame; `None` after a turn's `done`, or the end of a session's log.
    ///
    /// # Errors
    /// The last failure of taking the stream up again, if that did not work for a minute; what
    /// [`Client`]'s calls return.
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
        if let Source::Message { turn, .. } = &mut self.source {
            if frame.event == "session_start" {
                *turn = serde_json::from_str::<Start>(&frame.data).ok().and_then(|start| start.turn_id).or(*turn);
            }
            if frame.event == "done" {
                self.over = true;
                self.ready.clear();
            }
        }
        true
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let body = match &mut self.source {
            Source::Message { content, key, partials, turn } => match (*turn, self.last) {
                (Some(turn), Some(last)) => self.client.open_turn(self.session, turn, last, *partials).await?,
                // Without a place to go on from; the daemon knows the message by its key.
                _ => self.client.post_message(self.session, content.clone(), key).await?,
            },
            Source::Log { query, ended } => {
                if self.outage.is_some() {
                    *ended = self.client.session(self.session).await?.body.session.status == Status::Ended;
                }
                self.client.open_log(self.session, query, self.last.unwrap_or(query.after)).await?
            }
        };
        self.connection = Some(Connection { body, parser: Parser::default() });
        Ok(())
    }

    /// Reads some bytes, connecting again first where that is needed.
    async fn read(&mut self) -> Result<(), ClientError> {
        if self.connection.is_none() {
            if let Some(outage) = &self.outage {
                tokio::time::sleep_until(outage.next_try).await;
            }
            self.connect().await?;
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let server = self.client.server().clone();
        let piece = match tokio::time::timeout(Duration::from_secs(SILENCE_SECS), connection.body.frame()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => return Err(ClientError::Broken { server, cause: ConnectCause::of(&error) }),
            Ok(None) if matches!(self.source, Source::Log { ended: true, .. }) => {
                self.over = true;
                return Ok(());
            }
            Ok(None) => return Err(ClientError::Broken { server, cause: ConnectCause::end_of_stream() }),
            Err(_) => return Err(ClientError::Silent { server, secs: SILENCE_SECS }),
        };
        if let Some(bytes) = piece.data_ref() {
            let pushed = connection.parser.push(bytes, &mut self.ready);
            pushed.map_err(|error| ClientError::Stream { server, source: error })?;
        }
        Ok(())
    }

    /// Plans the next try after a failure, or passes the failure on.
    fn back_off(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.connection = None;
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
