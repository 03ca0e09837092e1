//! Calls of a session that has a budget: what those under way may still take, and their answers to the end.
//!
//! The model API tells what a call took at the end of its answer. So a call [`Reserved`] what it may take
//! at most before the end of its request leaves, and another for which that leaves nothing waits there
//! until one is over. An answer whose caller goes is read on, since what is not read is not told. One that ends
//! without having told takes what was reserved.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::count::{Counted, Estimate};
use super::retry::longer;
use crate::egress::asked::{ALL, Asked, Reader, Unread};
use crate::egress::fetch::Fetches;
use crate::wire::usage::ModelUsage;

/// Bytes of a request that have one token at most, nearly always: texts have one in three or four.
const BYTES_PER_TOKEN: u64 = 2;
/// Tokens that no model reads more of in one call: the largest context window (Claude models with a beta of 2025).
const INPUT_MAX: u64 = 1_000_000;
/// Tokens that no model writes more of in one call.
const OUTPUT_MAX: u64 = 128_000;
/// How long an answer is read on without its caller. The longest take some minutes.
const READ_ON: Duration = Duration::from_mins(10);

/// What calls under way may take at most.
#[derive(Debug, Default)]
pub struct Reserves {
    book: Mutex<Book>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Book {
    calls: BTreeMap<u64, (String, ModelUsage)>,
    newest: u64,
}

impl Reserves {
    /// Reserves what a call may take, if there are no others or it fits beside what they reserved.
    pub fn take(self: &Arc<Self>, asked: &Asked, fits: impl FnOnce(&BTreeMap<String, ModelUsage>) -> bool) -> Option<Reserved> {
        let mut book = self.book();
        let mut others = BTreeMap::<String, ModelUsage>::new();
        for (model, usage) in book.calls.values() {
            others.entry(model.clone()).or_default().add(usage);
        }
        (others.is_empty() || fits(&others)).then(|| {
            book.newest += 1;
            let number = book.newest;
            book.calls.insert(number, (asked.model.clone(), asked.most()));
            Reserved { reserves: Arc::clone(self), number, estimate: asked.estimate() }
        })
    }

    /// Waits for a change from when it is enabled.
    pub fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Lets those that wait look again.
    pub fn look_again(&self) {
        self.freed.notify_waiters();
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    /// What the call may take at most. What it reads may all be written to the cache, which costs most.
    fn most(&self) -> ModelUsage {
        ModelUsage {
            cache_write_1h_tokens: (self.bytes / BYTES_PER_TOKEN).min(INPUT_MAX),
            output_tokens: self.max_tokens.filter(|_| !self.is_open).unwrap_or(ALL).min(ALL),
            ..ModelUsage::default()
        }
    }

    /// What is taken for its use where it is not told.
    fn estimate(&self) -> Estimate {
        let output_tokens = self.max_tokens.filter(|most| *most < ALL).unwrap_or(OUTPUT_MAX);
        Estimate { model: self.model.clone(), usage: ModelUsage { output_tokens, ..self.most() } }
    }
}

/// What one call may take, until this is dropped.
#[derive(Debug)]
pub struct Reserved {
    reserves: Arc<Reserves>,
    number: u64,
    estimate: Estimate,
}

impl Reserved {
    /// What the call takes if it does not tell.
    pub fn estimate(&self) -> Estimate {
        self.estimate.clone()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.reserves.book().calls.remove(&self.number);
        self.reserves.look_again();
    }
}

/// Why a call is not taken.
#[derive(Debug)]
pub enum Refused {
    /// The budget has nothing left for it.
    Budget(String),
    /// The model API is asked to fetch what the session may not reach.
    Egress(String),
    /// Its body can not be read.
    Unread(Unread),
}

/// A call that is taken.
#[derive(Debug)]
pub struct Taken {
    /// What it may take, if there is a budget.
    pub reserved: Option<Reserved>,
    /// What the model API is to fetch for it.
    pub fetches: Arc<Fetches>,
    /// Since when it is.
    pub since: Instant,
}

/// Whether a call is taken; nothing before the end of its request.
pub type Place = Arc<Mutex<Option<Result<Taken, Refused>>>>;

/// Takes a call, or says why not.
pub type Admission = Pin<Box<dyn Future<Output = Result<Taken, Refused>> + Send>>;

/// The call is not taken. Why is in the [`Place`].
#[derive(Debug, thiserror::Error)]
#[error("the call is refused")]
pub struct NotTaken;

/// The body of a request, whose end waits until the call is taken.
pub struct Admitted<B, F> {
    body: B,
    reader: Reader,
    place: Place,
    state: State<F>,
}

enum State<F> {
    Reading(F),
    Waits(Option<Frame<Bytes>>, Admission),
    Passed,
    /// It is refused, and the rest is thrown away: a caller that is cut off while it sends would take that for a
    /// fault of the connection.
    Refused,
}

impl<B, F> Admitted<B, F> {
    /// The body, with who admits it, and where that is left.
    pub fn new(body: B, place: Place, admit: F) -> Self {
        Self { body, reader: Reader::default(), place, state: State::Reading(admit) }
    }

    fn leave(&self, taken: Result<Taken, Refused>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
    }
}

impl<B, F> Body for Admitted<B, F>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<super::Error>,
    F: FnOnce(Asked) -> Admission + Unpin,
{
    type Data = Bytes;
    type Error = super::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, super::Error>>> {
        let this = &mut *self;
        loop {
            if let State::Waits(frame, admission) = &mut this.state {
                let taken = ready!(admission.as_mut().poll(context));
                let (is_taken, frame) = (taken.is_ok(), frame.take());
                this.leave(taken);
                if is_taken {
                    this.state = State::Passed;
                    return Poll::Ready(frame.map(Ok));
                }
                this.state = State::Refused;
            }
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)).transpose() {
                Ok(frame) => frame,
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            };
            if matches!(this.state, State::Refused) {
                match frame {
                    Some(_) => continue,
                    None => return Poll::Ready(Some(Err(NotTaken.into()))),
                }
            }
            let piece = frame.as_ref().and_then(Frame::data_ref);
            let read = this.reader.read(piece.map_or(&[], |piece| piece));
            let is_end = frame.is_none() || this.body.is_end_stream();
            let is_over = match read {
                Ok(is_over) if is_over || !is_end => is_over,
                // What follows an object that was whole can not be a part of it.
                read => {
                    this.leave(Err(Refused::Unread(read.err().unwrap_or(Unread::Cut))));
                    this.state = State::Refused;
                    if is_end {
                        return Poll::Ready(Some(Err(NotTaken.into())));
                    }
                    continue;
                }
            };
            match std::mem::replace(&mut this.state, State::Passed) {
                State::Reading(admit) if is_over => this.state = State::Waits(frame, admit(this.reader.take())),
                state => {
                    this.state = state;
                    return Poll::Ready(frame.map(Ok));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Passed) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What waits has left the body already.
        let waits = match &self.state {
            State::Waits(Some(frame), _) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        longer(&self.body.size_hint(), waits as u64)
    }
}

/// What a call holds until its answer was read to the end.
#[derive(Debug)]
pub struct Held {
    place: Place,
    _slot: Arc<OwnedSemaphorePermit>,
}

impl Held {
    /// Its reservation, and the slot of its connection, so that calls without a caller are bounded as well.
    pub const fn new(place: Place, slot: Arc<OwnedSemaphorePermit>) -> Self {
        Self { place, _slot: slot }
    }

    /// What the call takes if its answer does not tell.
    pub fn estimate(&self) -> Option<Estimate> {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        match &*place {
            Some(Ok(Taken { reserved: Some(reserved), .. })) => Some(reserved.estimate()),
            _ => None,
        }
    }
}

/// An answer that is read to its end, whether or not the caller stays for it.
#[derive(Debug)]
pub struct Whole {
    /// `None` at the end.
    answer: Option<(Counted<Incoming>, Held)>,
}

impl Whole {
    /// The answer, with what its call holds.
    pub const fn new(answer: Counted<Incoming>, held: Held) -> Self {
        Self { answer: Some((answer, held)) }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((answer, _)) = &mut self.answer else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(answer).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.answer = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.as_ref().is_none_or(|(answer, _)| answer.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.as_ref().map_or_else(|| SizeHint::with_exact(0), |(answer, _)| answer.size_hint())
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        let Some((mut answer, held)) = self.answer.take().filter(|(answer, _)| !answer.is_end_stream()) else { return };
        // Without a runtime the shim is ending.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let rest = async { while let Some(Ok(_)) = answer.frame().await {} };
            if tokio::time::timeout(READ_ON, rest).await.is_err() {
                tracing::warn!("a model call whose caller has gone does not end, breaking it off");
            }
            // Counted before others may take its place.
            drop(answer);
            drop(held);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_does_not_tell_is_reserved_as_all_there_is() {
        let asked = |max_tokens, is_open| Asked { bytes: 1000, max_tokens, is_open, ..Asked::default() };
        let most = asked(Some(90), false).most();
        assert_eq!((most.cache_write_1h_tokens, most.output_tokens, most.tokens()), (500, 90, 590));
        for asked in [asked(None, false), asked(Some(u64::MAX), false), asked(Some(90), true)] {
            assert_eq!(asked.most().output_tokens, ALL, "{asked:?}");
        }
        let large = Asked { bytes: 64 << 20, max_tokens: Some(90), ..Asked::default() };
        assert_eq!(
            (large.most().tokens(), large.estimate().usage.tokens()),
            (INPUT_MAX + 90, INPUT_MAX + 90),
            "no model reads more"
        );
    }

    #[test]
    fn what_is_reserved_counts_until_the_call_is_over() {
        let reserves = Arc::new(Reserves::default());
        let asked = |max_tokens| Asked { model: "m".to_owned(), max_tokens: Some(max_tokens), ..Asked::default() };
        let output = |others: &BTreeMap<String, ModelUsage>| others.get("m").map_or(0, |usage| usage.output_tokens);
        let first = reserves.take(&asked(60), BTreeMap::is_empty).expect("nobody else");
        let second = reserves.take(&asked(30), |others| output(others) == 60).expect("beside the first");
        assert!(reserves.take(&asked(1), |others| output(others) < 90).is_none());
        drop(first);
        assert!(reserves.take(&asked(1), |others| output(others) == 30).is_some());
        drop(second);
        assert!(reserves.take(&asked(1), BTreeMap::is_empty).is_some());
    }
}
