//! Bodies that are kept in memory as a whole: what they may take of it, and how long they may take to come.
//!
//! The first MiB of a body is free, so that small ones never wait for another. What is beyond takes places in MiB,
//! all of them before it comes where the request says its length, and as it comes where it does not. They are taken
//! until the handler has answered; an answer that is a stream keeps none, as the body is stored or gone by then.

use std::pin::pin;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header;
use bytes::BytesMut;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::Instant;

use super::places::{Growing, Places, mib};
use super::problem::Failure;

/// MiB of all bodies beyond the first of each.
static MIB: Places = Places::new(512);
/// Bytes that take no place.
const FREE: usize = 1 << 20;
/// In this time, so many bytes of a body come at least: a slow line does more, and who sends one byte a minute, or
/// stops, keeps a place from others.
const WINDOW: Duration = Duration::from_secs(30);
const WINDOW_BYTES: usize = 30 * (8 << 10);

/// The places of a request's body, which stand in its extensions.
#[derive(Debug, Clone)]
pub struct Room(Growing);

impl Room {
    /// Room for a request of this tenant.
    pub fn of(tenant: &str) -> Self {
        Self(Growing::new(&MIB, tenant))
    }

    fn make(&self, bytes: usize) -> Result<(), Failure> {
        let is_made = self.0.hold(mib(bytes.saturating_sub(FREE)));
        is_made.then_some(()).ok_or_else(|| Failure::busy("Too many large bodies are on their way; try again"))
    }
}

/// Ends the waiting for who does not send.
#[derive(Debug)]
pub struct Pace {
    until: Instant,
    bytes: usize,
}

impl Pace {
    /// It counts from now.
    pub fn begin() -> Self {
        Self { until: Instant::now() + WINDOW, bytes: 0 }
    }

    /// So many bytes came.
    pub const fn came(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Waits for more.
    ///
    /// # Errors
    ///
    /// Too little came in time.
    pub async fn wait<T>(&mut self, more: impl Future<Output = T>) -> Result<T, Failure> {
        let mut more = pin!(more);
        loop {
            match tokio::time::timeout_at(self.until, &mut more).await {
                Ok(more) => return Ok(more),
                Err(_) if self.bytes >= WINDOW_BYTES => *self = Self::begin(),
                Err(_) => return Err(Failure::invalid("The body did not come in time")),
            }
        }
    }
}

/// Reads a body of at most so many bytes. Without a room for it, its caller has seen to that.
pub async fn read(request: Request, max: usize, room: Option<&Room>) -> Result<Bytes, Failure> {
    let too_large = || Failure::too_large(format!("The body is larger than {max} bytes"));
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    if let (Some(room), Some(length)) = (room, length) {
        room.make(length)?;
    }
    let (mut body, mut pace, mut bytes) = (Limited::new(request.into_body(), max), Pace::begin(), BytesMut::new());
    loop {
        match pace.wait(body.frame()).await? {
            None => return Ok(bytes.freeze()),
            Some(Ok(frame)) => {
                let piece = frame.into_data().unwrap_or_default();
                pace.came(piece.len());
                room.map_or(Ok(()), |room| room.make(bytes.len() + piece.len()))?;
                bytes.extend_from_slice(&piece);
            }
            Some(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
            Some(Err(error)) => return Err(Failure::invalid(format!("The body could not be read: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use futures_util::{StreamExt, stream};

    use super::*;

    /// A body of pieces of so many bytes, each after such a time.
    fn body(pieces: usize, bytes: usize, every: Duration) -> Body {
        Body::from_stream(stream::unfold(0, move |sent| async move {
            tokio::time::sleep(every).await;
            (sent < pieces).then(|| (Ok::<_, Infallible>(Bytes::from(vec![b'x'; bytes])), sent + 1))
        }))
    }

    async fn come(body: Body, room: Option<&Room>) -> Result<usize, String> {
        let read = read(Request::new(body), 16 << 20, room).await;
        read.map(|bytes| bytes.len()).map_err(|failure| format!("{failure:?}"))
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_too_little_is_ended_however_much_came_before() {
        let steady = body(700, 16 << 10, Duration::from_secs(1));
        assert_eq!(come(steady, None).await, Ok(700 << 14), "twice as fast as it has to be");
        for (what, pieces, bytes, every) in [
            ("nothing", 1, 1, 3600),
            ("a byte a second", 10_000, 1, 1),
            ("much, and a long pause", 2, 8 << 20, 61),
            ("half of what has to come", 10_000, 4 << 10, 1),
        ] {
            let begun = Instant::now();
            let error = come(body(pieces, bytes, Duration::from_secs(every)), None).await.expect_err(what);
            assert!(error.contains("did not come in time"), "{what}: {error}");
            assert!(begun.elapsed() <= Duration::from_secs(61) + 2 * WINDOW, "{what}: {:?}", begun.elapsed());
        }
        let quick =
            Body::from_stream(stream::iter([Ok::<_, Infallible>(Bytes::from(vec![0; 8 << 20]))]).chain(stream::pending()));
        let begun = Instant::now();
        come(quick, None).await.expect_err("the rest never comes");
        assert!(begun.elapsed() <= 2 * WINDOW, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn what_is_beyond_the_first_mib_takes_places_whether_or_not_its_length_is_said() {
        static PLACES: Places = Places::new(8);
        let room = |tenant: &str| Room(Growing::new(&PLACES, tenant));
        let now = Duration::ZERO;
        let (first, second) = (room("a"), room("a"));
        assert_eq!(come(body(4, 1 << 20, now), Some(&first)).await, Ok(4 << 20));
        let refused = come(body(5, 1 << 20, now), Some(&second)).await.expect_err("one tenant has six, of which three are left");
        assert!(refused.contains("503") && refused.contains("retry_after: Some"), "{refused}");
        drop(second);
        let small = room("a");
        assert_eq!(come(body(1, FREE, now), Some(&small)).await, Ok(FREE));
        let other = room("b");
        assert_eq!(come(body(3, 1 << 20, now), Some(&other)).await, Ok(3 << 20), "others have theirs");
        drop(first);
        assert_eq!(come(body(5, 1 << 20, now), Some(&small)).await, Ok(5 << 20));

        let said = |length: usize| {
            let request = Request::builder().header(header::CONTENT_LENGTH, length);
            request.body(Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())).expect("a request")
        };
        let failure = format!("{:?}", read(said(12 << 20), 16 << 20, Some(&room("c"))).await.expect_err("nothing is waited for"));
        assert!(failure.contains("503"), "{failure}");
        let failure = format!("{:?}", read(said((16 << 20) + 1), 16 << 20, Some(&room("c"))).await.expect_err("nor here"));
        assert!(failure.contains("413"), "{failure}");
    }
}
