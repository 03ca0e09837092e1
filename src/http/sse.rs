//! Server-sent events: the frames of the wire contract, with an id each and keep-alive comments.

use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use crate::session::Cursor;
use crate::session::view::{Frame, FrameFilter, frame};
use crate::store::EventRow;
use crate::wire::TurnId;
use crate::wire::event::Kind;

/// A comment is sent after this long without an event. Proxies commonly cut a connection that is
/// silent for 60 s (nginx, proxy_read_timeout).
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// First frame of a stream: clients that know the field wait this long before they reconnect.
const RETRY: &str = "retry: 1000\n\n";

/// What a stream brings, and when it ends.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Which frames.
    pub filter: FrameFilter,
    /// Ends after this turn.
    pub until: Option<TurnId>,
}

struct Reader {
    cursor: Cursor,
    wanted: Wanted,
    over: bool,
    /// The daemon is stopping. The client goes on from its cursor with the next one.
    stop: CancellationToken,
}

/// Streams events from a cursor. The client's pace is the stream's pace: nothing is read from the
/// store before the last batch is on its way.
pub fn respond(cursor: Cursor, wanted: Wanted, stop: CancellationToken) -> Response {
    let reader = Reader { cursor, wanted, over: false, stop };
    let frames = stream::unfold(reader, |mut reader| async move {
        let bytes = reader.next().await?;
        Some((Ok::<_, Infallible>(bytes), reader))
    });
    let head = stream::once(async { Ok(Bytes::from_static(RETRY.as_bytes())) });
    let mut response = Response::new(Body::from_stream(stream::StreamExt::chain(head, frames)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    // Tells nginx not to hold frames back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.over {
            let next = tokio::select! {
                () = self.stop.cancelled() => return None,
                next = tokio::time::timeout(KEEP_ALIVE, self.cursor.next()) => next,
            };
            let mut events = match next {
                Err(_) => return Some(Bytes::from_static(b": keep-alive\n\n")),
                Ok(Ok(events)) => events,
                Ok(Err(error)) => {
                    // The client reconnects with its last id and goes on where it was.
                    tracing::warn!(error = %error, "a stream was cut, as events can not be read");
                    return None;
                }
            };
            let end = events.iter().position(|event| self.ends(event));
            self.over = events.is_empty() || end.is_some();
            // The end is the last frame, whatever came late.
            events.truncate(end.map_or(events.len(), |end| end + 1));
            let text = render(&events, self.wanted.filter);
            if !text.is_empty() {
                return Some(Bytes::from(text));
            }
        }
        None
    }

    fn ends(&self, event: &EventRow) -> bool {
        event.kind == Kind::TurnEnded && self.wanted.until.is_some() && event.turn == self.wanted.until
    }
}

fn render(events: &[EventRow], filter: FrameFilter) -> String {
    let mut text = String::new();
    for Frame { id, name, data } in events.iter().filter_map(|event| frame(event, filter)) {
        // Writing to a string does not fail.
        let _ = write!(text, "id: {id}\nevent: {name}\ndata: {data}\n\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Timestamp;

    #[test]
    fn frames_are_the_contracts_with_an_id_before() {
        let event = |id, kind, data: &str| EventRow { id, at: Timestamp(0), turn: None, kind, data: data.to_owned() };
        let events = [
            event(1, Kind::TurnQueued, r#"{"sessionId":"s","version":"1"}"#),
            event(2, Kind::TurnStarted, "{}"),
            event(3, Kind::TextDelta, r#"{"delta":"x"}"#),
            event(4, Kind::TurnEnded, r#"{"sessionId":"s"}"#),
        ];
        let text = render(&events, FrameFilter { partials: false, whole_log: false });
        let wanted = "id: 1\nevent: session_start\ndata: {\"sessionId\":\"s\",\"version\":\"1\"}\n\n\
                      id: 4\nevent: done\ndata: {\"sessionId\":\"s\"}\n\n";
        assert_eq!(text, wanted);
    }
}
