//! Calls that are tried again while the model API fails for a while.
//!
//! ```text
//! caller's body ──▶ Replay (keeps the pieces) ──▶ Attempt 1 ──▶ endpoint: 529, nobody there …
//!                       │        wait, longer each time
//!                       └──────────────────────▶ Attempt 2 ──▶ endpoint: its answer passes on
//! ```
//!
//! Only what failed before a byte of an answer was passed on is tried again, and only as long as the
//! configuration says. A caller that goes ends the wait. What a call sent has to be kept for that, which
//! is bounded for all calls together: one that has no room is tried once.

use std::error::Error as StdError;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderMap};
use tokio::time::Instant;

use super::{Error, Outgoing};
use crate::report;

/// First and longest wait, where the endpoint asks for no other.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// Bytes of requests that are kept for another attempt, of all calls together. A request has at most 32 MB,
/// and they count against the memory of the sandbox.
pub const KEPT_MAX: usize = 64 << 20;
/// Says to runtimes whether another attempt makes sense. Not documented; the model API's own libraries
/// heed it, and so does Claude Code 2.1.330.
pub const SHOULD_RETRY: &str = "x-should-retry";

/// A failure that may pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// The status that the endpoint answered with, if it did.
    pub status: Option<StatusCode>,
    /// What happened.
    pub reason: String,
    /// How long the endpoint asks to be left alone.
    after: Option<Duration>,
}

impl Fault {
    /// The failure that an answer tells of; `None` where it tells of none that passes.
    pub fn of_answer(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let says_no = headers.get(SHOULD_RETRY).is_some_and(|value| value == "false");
        let passes = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
        (passes && !says_no).then(|| Self {
            status: Some(status),
            reason: format!("the model API answered {}", status.as_u16()),
            after: headers.get(header::RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now())),
        })
    }

    /// The failure of a call without an answer; `None` where it will be the same with the next one.
    pub fn of_error(error: &(dyn StdError + 'static)) -> Option<Self> {
        // Whoever is there is not the model API.
        if is_tls(error) {
            return None;
        }
        Some(Self { status: None, reason: format!("the model API can not be reached: {}", report::chain(error)), after: None })
    }
}

fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    // An error of I/O names as its source what comes behind the one that it is made of.
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let inner = inner.map(|inner| inner as &(dyn StdError + 'static));
    error.is::<rustls::Error>() || inner.or_else(|| error.source()).is_some_and(is_tls)
}

/// What `Retry-After` asks for (RFC 9110 section 10.2.3): seconds, or a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    match text.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub struct Attempts {
    patience: Duration,
    until: Instant,
    /// Those that failed.
    pub failed: u32,
}

impl Attempts {
    /// Attempts of a call that began now and may be tried again for so long.
    pub fn new(patience: Duration) -> Self {
        Self { patience, until: Instant::now() + patience, failed: 0 }
    }

    /// The first of them was made then, for whatever the call waited before.
    pub fn began(&mut self, at: Instant) {
        if self.failed == 0 {
            self.until = at + self.patience;
        }
    }

    /// How long to wait before the next attempt; `None` if there is no time for one.
    pub fn wait(&mut self, fault: &Fault, random: u64) -> Option<Duration> {
        let longest = LONGEST.min(FIRST.saturating_mul(1 << self.failed.min(16)));
        self.failed += 1;
        // At least half of it, so that those that failed together do not come back together.
        let part = |of: Duration| of.mul_f64(random as f64 / u64::MAX as f64);
        let wait = longest / 2 + part(longest / 2);
        let wait = fault.after.map_or(wait, |asked| wait.max(asked.saturating_add(part(FIRST))));
        (wait <= self.until.saturating_duration_since(Instant::now())).then_some(wait)
    }
}

/// Any number. No secret depends on it.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What a piece takes beside its bytes, which may be one: itself, and its place among the others.
const PIECE_COST: usize = 128;

/// How many bytes of all calls are kept.
#[derive(Debug, Default)]
pub struct Room(AtomicUsize);

impl Room {
    fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|all| *all <= KEPT_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The body of a call, which can be sent several times.
#[derive(Debug)]
pub struct Replay(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    source: Outgoing,
    pieces: Vec<Bytes>,
    bytes: usize,
    /// Whether all of the source is in the pieces.
    is_whole: bool,
    /// Whether something is missing in the pieces, so that this attempt is the last.
    is_lost: bool,
    /// Number of the attempt that reads.
    attempt: u32,
    /// `None`: nothing is kept.
    room: Option<Arc<Room>>,
}

impl Kept {
    /// Keeps a piece, and says whether it did.
    fn keep(&mut self, piece: &Bytes) -> bool {
        let cost = piece.len() + PIECE_COST;
        if !self.is_lost && self.room.as_ref().is_some_and(|room| room.take(cost)) {
            self.bytes += cost;
            // A copy, as a piece can keep alive the whole of a buffer of which it is a few bytes.
            self.pieces.push(Bytes::copy_from_slice(piece));
            return true;
        }
        self.lose();
        false
    }

    fn lose(&mut self) {
        self.is_lost = true;
        self.pieces = Vec::new();
        if let Some(room) = &self.room {
            room.give(std::mem::take(&mut self.bytes));
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.lose();
    }
}

impl Replay {
    /// The body, of which in this room is kept what was sent; without one it is sent once.
    pub fn new(source: Outgoing, room: Option<Arc<Room>>) -> Self {
        let (pieces, bytes) = (Vec::new(), 0);
        Self(Arc::new(Mutex::new(Kept { source, pieces, bytes, is_whole: false, is_lost: false, attempt: 0, room })))
    }

    /// The body for another attempt, from its beginning; the one before gets no more of it. `None` if that is
    /// not there any more.
    pub fn attempt(&self) -> Option<Attempt> {
        let mut kept = lock(&self.0);
        (!kept.is_lost).then(|| {
            kept.attempt += 1;
            Attempt { kept: Arc::clone(&self.0), number: kept.attempt, at: 0 }
        })
    }

    /// Whether there can be another attempt.
    pub fn is_there(&self) -> bool {
        !lock(&self.0).is_lost
    }
}

/// The body of one attempt.
#[derive(Debug)]
pub struct Attempt {
    kept: Arc<Mutex<Kept>>,
    number: u32,
    /// The next of the pieces that were kept.
    at: usize,
}

/// Another attempt has taken the place of this one.
#[derive(Debug, thiserror::Error)]
#[error("the call is tried again")]
struct Replaced;

impl Body for Attempt {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let mut kept = lock(&this.kept);
        if kept.attempt != this.number {
            return Poll::Ready(Some(Err(Replaced.into())));
        }
        if let Some(piece) = kept.pieces.get(this.at) {
            this.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if kept.is_whole {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut kept.source).poll_frame(context));
        match &frame {
            None => kept.is_whole = true,
            Some(Ok(frame)) => match frame.data_ref() {
                Some(piece) => this.at += usize::from(kept.keep(piece)),
                None => kept.lose(),
            },
            // It is the caller's, or the budget's, and the same for every attempt.
            Some(Err(_)) => kept.lose(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let kept = lock(&self.kept);
        kept.attempt == self.number && self.at >= kept.pieces.len() && (kept.is_whole || kept.source.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let kept = lock(&self.kept);
        let ahead = kept.pieces.iter().skip(self.at).map(|piece| piece.len() as u64).sum();
        let rest = if kept.is_whole { SizeHint::with_exact(0) } else { kept.source.size_hint() };
        longer(&rest, ahead)
    }
}

/// The size of what comes after so many bytes, together with them.
pub fn longer(rest: &SizeHint, ahead: u64) -> SizeHint {
    let mut size = SizeHint::new();
    size.set_lower(rest.lower().saturating_add(ahead));
    if let Some(upper) = rest.upper() {
        size.set_upper(upper.saturating_add(ahead));
    }
    size
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn fault(after: Option<u64>) -> Fault {
        Fault { status: None, reason: String::new(), after: after.map(Duration::from_secs) }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_up_to_a_bound_and_never_beyond_the_time_there_is() {
        let mut attempts = Attempts::new(Duration::from_secs(3600));
        for (least, most) in [(250, 500), (500, 1000), (1000, 2000), (2000, 4000), (4000, 8000), (8000, 16000), (15000, 30000)] {
            let mut other = Attempts { patience: attempts.patience, until: attempts.until, failed: attempts.failed };
            assert_eq!(other.wait(&fault(None), 0), Some(Duration::from_millis(least)));
            assert_eq!(attempts.wait(&fault(None), u64::MAX), Some(Duration::from_millis(most)));
        }
        attempts.failed = u32::MAX - 1;
        assert_eq!(attempts.wait(&fault(None), 0), Some(LONGEST / 2));
        // Asked for more, it is not less; a little more, so that not all come at once.
        for (asked, wanted) in [(0, 0.25), (7, 7.0), (3600, 3600.0)] {
            let mut attempts = Attempts::new(Duration::from_secs(3600));
            assert_eq!(attempts.wait(&fault(Some(asked)), 0), Some(Duration::from_secs_f64(wanted)));
        }
        assert_eq!(Attempts::new(Duration::from_secs(60)).wait(&fault(Some(61)), 0), None);
        assert_eq!(Attempts::new(Duration::from_secs(60)).wait(&fault(Some(u64::MAX)), u64::MAX), None);
        assert_eq!(Attempts::new(Duration::ZERO).wait(&fault(None), 0), None);
        // What a call waits before it is taken is not time for attempts, and what comes after the first is.
        let mut attempts = Attempts::new(Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(600)).await;
        attempts.began(Instant::now());
        assert!(attempts.wait(&fault(None), 0).is_some());
        tokio::time::advance(Duration::from_secs(600)).await;
        attempts.began(Instant::now());
        assert_eq!(attempts.wait(&fault(None), 0), None);
        let mut attempts = Attempts::new(Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(attempts.wait(&fault(None), 0), None);
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        let headers = |all: &[(&'static str, &str)]| {
            all.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().expect("a value"))).collect()
        };
        for (status, retried) in [
            (200, false),
            (400, false),
            (401, false),
            (404, false),
            (413, false),
            (429, true),
            (500, true),
            (503, true),
            (529, true),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Fault::of_answer(status, &HeaderMap::new()).is_some(), retried, "{status}");
            assert_eq!(Fault::of_answer(status, &headers(&[("x-should-retry", "false")])), None, "{status}");
        }
        let busy = StatusCode::from_u16(529).expect("a status");
        let told = Fault::of_answer(busy, &headers(&[("retry-after", "12")])).expect("passes");
        assert_eq!((told.after, told.reason.as_str()), (Some(Duration::from_secs(12)), "the model API answered 529"));
        let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:30 GMT").expect("a date");
        for (text, wanted) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(29)),
            ("Fri, 31 Dec 1999 23:59:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), wanted.map(Duration::from_secs), "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_the_same_in_every_attempt_as_far_as_there_is_room() {
        let room = Arc::new(Room::default());
        let source = || Full::new(Bytes::from_static(b"all of it")).map_err(|never| match never {}).boxed_unsync();
        let replay = Replay::new(source(), Some(Arc::clone(&room)));
        for _ in 0..2 {
            let attempt = replay.attempt().expect("kept");
            assert_eq!((attempt.size_hint().exact(), attempt.is_end_stream()), (Some(9), false));
            assert_eq!(attempt.collect().await.expect("whole").to_bytes(), "all of it");
        }
        let mut old = replay.attempt().expect("kept");
        let new = replay.attempt().expect("kept");
        assert!(old.frame().await.expect("a frame").is_err(), "the one before gets no more");
        assert_eq!(new.collect().await.expect("whole").to_bytes(), "all of it");
        assert!(room.take(KEPT_MAX - 9 - PIECE_COST) && !room.take(1), "what keeps a piece counts, too");
        let late = Replay::new(source(), Some(Arc::clone(&room)));
        assert_eq!(late.attempt().expect("the first").collect().await.expect("whole").to_bytes(), "all of it");
        assert!(!late.is_there() && late.attempt().is_none(), "there was no room");
        drop((old, replay, late));
        assert_eq!(room.0.load(Ordering::Relaxed), KEPT_MAX - 9 - PIECE_COST, "room is given back");
        let once = Replay::new(source(), None);
        assert_eq!(once.attempt().expect("the first").collect().await.expect("whole").to_bytes(), "all of it");
        assert!(once.attempt().is_none());
    }
}
