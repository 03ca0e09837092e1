//! Calls of a session that has a budget: what those under way may still take, and their answers to the end.
//!
//! The model API tells what a call took at the end of its answer. So a call [`Reserved`] what it may take
//! at most before the end of its request leaves, and another for which that leaves nothing waits there
//! until one is over. An answer whose caller goes is read on, since what is not read is not told.

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

use super::count::{Counted, Object, Told};
use super::retry::longer;
use crate::wire::usage::ModelUsage;

/// Tokens that are reserved for a call which does not say in a readable way how many it may write: more
/// than any budget, so that it runs alone.
const ALL: u64 = 1 << 48;
/// Bytes of a request that have one token at least, nearly always.
const BYTES_PER_TOKEN: u64 = 4;
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
            book.calls.insert(number, (asked.model.clone(), asked.usage()));
            Reserved { reserves: Arc::clone(self), number }
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

/// What one call may take, until this is dropped.
#[derive(Debug)]
pub struct Reserved {
    reserves: Arc<Reserves>,
    number: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.reserves.book().calls.remove(&self.number);
        self.reserves.look_again();
    }
}

/// What a request asks for, as far as it was read.
#[derive(Debug, Default)]
pub struct Asked {
    model: String,
    max_tokens: Option<u64>,
    bytes: u64,
    over: bool,
}

impl Asked {
    fn read(&mut self, reader: &mut Object, piece: &[u8]) {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        reader.read(piece, &mut |told: Told| {
            if let Some(model) = told.model {
                self.model = model;
            }
            // Of several, which no runtime sends, the model API may take any.
            self.max_tokens = self.max_tokens.max(told.max_tokens);
            self.over |= told.over;
        });
    }

    fn usage(&self) -> ModelUsage {
        ModelUsage {
            input_tokens: self.bytes / BYTES_PER_TOKEN,
            output_tokens: self.max_tokens.unwrap_or(ALL).min(ALL),
            ..ModelUsage::default()
        }
    }
}

/// A call's reservation, or why it got none; nothing before the end of its request.
pub type Place = Arc<Mutex<Option<Result<Reserved, String>>>>;

/// Reserves for a call, or says why nothing is left for it.
pub type Admission = Pin<Box<dyn Future<Output = Result<Reserved, String>> + Send>>;

/// The budget has nothing left. Why is in the [`Place`].
#[derive(Debug, thiserror::Error)]
#[error("the budget is spent")]
pub struct OverBudget;

/// The body of a request, whose end waits for its reservation.
pub struct Admitted<B, F> {
    body: B,
    reader: Object,
    asked: Asked,
    state: State<F>,
}

enum State<F> {
    Reading(Place, F),
    Waits(Place, Option<Frame<Bytes>>, Admission),
    Passed,
}

impl<B, F> Admitted<B, F> {
    /// The body, with who admits it, and where that is left.
    pub fn new(body: B, place: Place, admit: F) -> Self {
        Self { body, reader: Object::default(), asked: Asked::default(), state: State::Reading(place, admit) }
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
        if !matches!(this.state, State::Waits(..)) {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(context)).transpose().map_err(Into::into);
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            if let Some(piece) = frame.as_ref().and_then(Frame::data_ref)
                && !this.asked.over
            {
                this.asked.read(&mut this.reader, piece);
            }
            let is_end = frame.is_none() || this.asked.over || this.body.is_end_stream();
            match std::mem::replace(&mut this.state, State::Passed) {
                State::Reading(place, admit) if is_end => {
                    let admission = admit(std::mem::take(&mut this.asked));
                    this.asked.over = true;
                    this.state = State::Waits(place, frame, admission);
                }
                state => {
                    this.state = state;
                    return Poll::Ready(frame.map(Ok));
                }
            }
        }
        let State::Waits(place, frame, admission) = &mut this.state else { return Poll::Ready(None) };
        let admitted = ready!(admission.as_mut().poll(context));
        let is_refused = admitted.is_err();
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(admitted);
        let frame = frame.take();
        this.state = State::Passed;
        Poll::Ready(if is_refused { Some(Err(OverBudget.into())) } else { frame.map(Ok) })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Passed) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What waits has left the body already.
        let waits = match &self.state {
            State::Waits(_, Some(frame), _) => frame.data_ref().map_or(0, Bytes::len),
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

    /// Where its reservation is left.
    pub fn place(&self) -> Place {
        Arc::clone(&self.place)
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
    fn the_most_that_a_request_may_write_is_read_as_a_parser_would() {
        let long = format!(r#"{{"max_tokens":1,{}"max_tokens":{}90}}"#, " ".repeat(1 << 17), "\n".repeat(1 << 17));
        let digits = format!(r#"{{"max_tokens":1,"max_tokens":9{}}}"#, "0".repeat(1 << 17));
        for (request, wanted) in [
            (r#"{"model":"m","max_tokens":90,"stream":true}"#, 90),
            (r#"{"messages":[{"max_tokens":1}],"max_tokens":90}"#, 90),
            (r#"{"max\u005ftokens" : 90.0}"#, 90),
            (r#"{"max_tokens":90,"max_tokens":1}"#, 90),
            (long.as_str(), 90),
            // What can not be read may be any number.
            (digits.as_str(), ALL),
            (r#"{"max_tokens":1,"max_tokens":"90"}"#, ALL),
            (r#"{"max_tokens":1e300}"#, ALL),
            (r#"{"model":"m"}"#, ALL),
            ("\u{1f}\u{8b}", ALL),
            ("", ALL),
        ] {
            let (mut asked, mut reader) = (Asked::default(), Object::default());
            asked.read(&mut reader, request.as_bytes());
            assert_eq!(asked.usage().output_tokens, wanted, "{request:.60}");
            assert_eq!(asked.usage().input_tokens, request.len() as u64 / 4);
        }
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
