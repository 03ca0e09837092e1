//! Traces: what was done for a request, as spans that an OpenTelemetry collector is sent.
//!
//! ```text
//! http ── Tracer::enter ──▶ Span ── within ──▶ services: Tracer::child, current()
//!                             │ ends
//!                             ▼
//!                     queue of QUEUE spans ──▶ export: batches, OTLP over HTTP ──▶ collector
//!                         full: dropped, counted
//! ```
//!
//! Every trace begins with a request to the API, or goes on with that of its caller ([`TraceContext`]); whether it is
//! kept is decided there, once ([`Sampler`]), and what has no trace makes no spans. A [`Span`] of a trace that is not kept
//! has its context alone, and one of a tracer that is off has nothing. Nobody waits for the collector: a span that ends goes
//! into a queue, or is dropped and counted.
//!
//! What spans say is a closed set: names and ids that Ash gives, names of agents, models and tools, numbers, and words of
//! Ash's own. No prompts, answers, paths, queries, headers or keys, and no sentence of an error, which might quote them.
//!
//! Spans, ids and sampling are here, and not those of the OpenTelemetry SDK, since a turn's span ends in another task than it
//! began in, and perhaps in another daemon: it is made of what is stored ([`Finished`]). Of OpenTelemetry's crates there
//! are the messages of the protocol alone. `docs/tracing.md` names the spans.

mod context;
mod sample;
pub mod setup;

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod export;
#[cfg(feature = "otel")]
mod otlp;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[cfg(not(feature = "otel"))]
use absent::spawn;
pub use context::{SpanId, TraceContext, TraceId};
#[cfg(feature = "otel")]
use export::spawn;
pub use sample::{Ratio, Sampler};

use self::setup::Rules;
use super::metrics::Metrics;

/// Whether this build can send traces.
pub const IS_BUILT_IN: bool = cfg!(feature = "otel");
/// Spans that wait to be sent: those of some hundred turns, about 2 MiB.
const QUEUE: usize = 2048;
/// How long the last spans may take when the daemon stops.
const FLUSH_DEADLINE: Duration = Duration::from_secs(3);

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Where what is done now belongs, if it is traced.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Does something at this place of a trace.
pub async fn within<F: Future>(context: Option<TraceContext>, work: F) -> F::Output {
    match context {
        Some(context) => CURRENT.scope(context, work).await,
        None => work.await,
    }
}

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// This build has no code for it.
    #[error("this build of ashd can send no traces (Cargo feature \"otel\")")]
    NotBuiltIn,
    /// Whom the host trusts is not known.
    #[error("read the host's certificates")]
    Roots(#[source] std::io::Error),
}

/// Makes spans. Cheap to clone; one that is off makes none.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    sampler: Sampler,
    finished: mpsc::Sender<Finished>,
    dropped: IntCounter,
    closing: CancellationToken,
    exporter: Mutex<Option<JoinHandle<()>>>,
}

/// Who is on the other side of what a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody: it is work of the daemon.
    Internal,
    /// A caller of the API.
    Server,
}

/// What a span says of itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A word.
    Text(String),
    /// A count.
    Whole(i64),
    /// A measure.
    Real(f64),
}

macro_rules! values {
    ($($from:ty => $make:expr),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                $make(value)
            }
        })*
    };
}

values! {
    &str => |text: &str| Self::Text(text.to_owned()),
    String => Self::Text,
    i64 => Self::Whole,
    u16 => |count| Self::Whole(i64::from(count)),
    u64 => |count: u64| Self::Whole(i64::try_from(count).unwrap_or(i64::MAX)),
    f64 => Self::Real,
}

/// What spans say, by name.
pub type Attributes = Vec<(&'static str, Value)>;

/// A span that is over, with all that is told of it. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Its place in its trace.
    pub context: TraceContext,
    /// The span that it is a part of.
    pub parent: Option<SpanId>,
    /// What was done.
    pub name: String,
    /// With whom.
    pub kind: Kind,
    /// When it began.
    pub start: u64,
    /// When it was over.
    pub end: u64,
    /// What is told of it.
    pub attributes: Attributes,
    /// What happened meanwhile, and when.
    pub events: Vec<(&'static str, u64)>,
    /// Whether it failed.
    pub is_failed: bool,
}

impl Tracer {
    /// Sends what this says where it says.
    ///
    /// # Errors
    ///
    /// [`TraceError`]: this build can not, or TLS can not be spoken.
    pub fn open(rules: Rules, metrics: &Metrics) -> Result<Self, TraceError> {
        let (finished, waiting) = mpsc::channel(QUEUE);
        let (sampler, closing) = (rules.sampler, CancellationToken::new());
        let exporter = Mutex::new(Some(spawn(rules, waiting, metrics, closing.clone())?));
        let dropped = metrics.trace_spans_dropped.with_label_values(&["queue"]);
        Ok(Self(Some(Arc::new(Inner { sampler, finished, dropped, closing, exporter }))))
    }

    /// Whether it makes any spans.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the first span of a request, in the trace of its caller or in a new one.
    pub fn enter(&self, name: impl FnOnce() -> String, kind: Kind, caller: Option<&TraceContext>) -> Span {
        let Some(inner) = &self.0 else { return Span::default() };
        let Some(trace) = caller.map(|caller| caller.trace).or_else(|| random().map(TraceId)) else { return Span::default() };
        let is_sampled = inner.sampler.keeps(trace, caller.map(|caller| caller.is_sampled));
        let parent = caller.map(|caller| caller.span);
        let state = caller.and_then(|caller| caller.state.clone());
        inner.begin(TraceContext { trace, span: SpanId([0; 8]), is_sampled, state }, parent, name, kind)
    }

    /// Begins a span below another one. Without one, there is nothing to be told.
    pub fn child(&self, name: &'static str, parent: Option<&TraceContext>) -> Span {
        match (&self.0, parent) {
            (Some(inner), Some(parent)) if parent.is_sampled => {
                inner.begin(parent.clone(), Some(parent.span), || name.to_owned(), Kind::Internal)
            }
            // What is done below it must not begin a trace of its own.
            (Some(_), Some(parent)) => Span { context: Some(parent.clone()), open: None },
            _ => Span::default(),
        }
    }

    /// Begins a span below what is done now.
    pub fn here(&self, name: &'static str) -> Span {
        if self.is_on() { self.child(name, current().as_ref()) } else { Span::default() }
    }

    /// A place below another one, for a span that is told when it is over. `None` if the trace is not kept.
    pub fn place_below(&self, parent: Option<&TraceContext>) -> Option<TraceContext> {
        let parent = parent.filter(|parent| self.is_on() && parent.is_sampled)?;
        Some(TraceContext { span: SpanId(random()?), ..parent.clone() })
    }

    /// Tells of a span.
    pub fn tell(&self, finished: Finished) {
        if let Some(inner) = &self.0 {
            inner.tell(finished);
        }
    }

    /// Sends what waits, and no more after that.
    pub async fn close(&self) {
        let Some(inner) = &self.0 else { return };
        inner.closing.cancel();
        // A panic can not have left it half taken.
        let exporter = inner.exporter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(exporter) = exporter
            && tokio::time::timeout(FLUSH_DEADLINE, exporter).await.is_err()
        {
            tracing::info!("the last spans could not be sent in time");
        }
    }
}

impl Inner {
    fn begin(self: &Arc<Self>, place: TraceContext, parent: Option<SpanId>, name: impl FnOnce() -> String, kind: Kind) -> Span {
        let Some(span) = random().map(SpanId) else { return Span::default() };
        let context = TraceContext { span, ..place };
        let open = context.is_sampled.then(|| {
            let finished = Finished {
                context: context.clone(),
                parent,
                name: name(),
                kind,
                start: nanos(SystemTime::now()),
                end: 0,
                attributes: Vec::new(),
                events: Vec::new(),
                is_failed: false,
            };
            Box::new(Open { finished: Some(finished), tracer: self.clone() })
        });
        Span { context: Some(context), open }
    }

    fn tell(&self, finished: Finished) {
        if self.finished.try_send(finished).is_err() {
            self.dropped.inc();
        }
    }
}

/// Something under way. It is over when it is dropped.
#[derive(Debug, Default)]
pub struct Span {
    context: Option<TraceContext>,
    open: Option<Box<Open>>,
}

#[derive(Debug)]
struct Open {
    /// Always there until it is dropped.
    finished: Option<Finished>,
    tracer: Arc<Inner>,
}

impl Span {
    /// Its place in its trace, if there is one.
    pub const fn context(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }

    /// Whether it is told of, so that it is worth while to say something.
    pub const fn is_kept(&self) -> bool {
        self.open.is_some()
    }

    /// Says something of it.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(finished) = self.finished() {
            finished.attributes.push((name, value.into()));
        }
    }

    /// It failed.
    pub fn fail(&mut self) {
        if let Some(finished) = self.finished() {
            finished.is_failed = true;
        }
    }

    /// Takes in whether it failed.
    pub fn heed<T, E>(&mut self, outcome: &Result<T, E>) {
        if outcome.is_err() {
            self.fail();
        }
    }

    /// Does something as a part of it, which is over when this is.
    pub async fn around<T, E>(mut self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let outcome = within(self.context.clone(), work).await;
        self.heed(&outcome);
        outcome
    }

    fn finished(&mut self) -> Option<&mut Finished> {
        self.open.as_mut()?.finished.as_mut()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(mut finished) = self.finished.take() {
            finished.end = nanos(SystemTime::now()).max(finished.start);
            self.tracer.tell(finished);
        }
    }
}

/// Nanoseconds since 1970.
pub fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Bytes of an id. Without randomness there is none; all zeros, which no id may be, come once in 2^64 times.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    (bytes != [0; N]).then_some(bytes)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A tracer whose spans are read here, with room for so many.
    pub fn tracer(sampler: Sampler, room: usize) -> (Tracer, mpsc::Receiver<Finished>, IntCounter) {
        let (finished, read) = mpsc::channel(room);
        let dropped = IntCounter::new("dropped", "for a test").expect("a counter");
        let inner =
            Inner { sampler, finished, dropped: dropped.clone(), closing: CancellationToken::new(), exporter: Mutex::new(None) };
        (Tracer(Some(Arc::new(inner))), read, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> String {
        "GET /x".to_owned()
    }

    #[tokio::test]
    async fn spans_hang_below_each_other_and_say_what_was_set() {
        let (tracer, mut read, _) = testing::tracer(Sampler::default(), 2);
        let caller = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ["a=1"]).expect("good");
        let mut server = tracer.enter(name, Kind::Server, Some(&caller));
        server.set("http.route", "/x");
        let place = server.context().cloned();
        let outcome: Result<(), ()> = within(place.clone(), async { tracer.here("below").around(async { Err(()) }).await }).await;
        assert_eq!((outcome, current()), (Err(()), None));
        let below = read.try_recv().expect("told");
        assert_eq!((below.name.as_str(), below.is_failed, below.parent), ("below", true, place.map(|place| place.span)));
        assert!(below.start > 0 && below.end >= below.start);
        drop(server);
        let server = read.try_recv().expect("told");
        assert_eq!((server.name.as_str(), server.parent, server.kind), ("GET /x", Some(caller.span), Kind::Server));
        assert_eq!((server.context.trace, server.context.state.as_deref()), (caller.trace, Some("a=1")));
        assert_eq!(server.attributes, [("http.route", Value::Text("/x".to_owned()))]);
    }

    #[tokio::test]
    async fn what_is_not_kept_has_a_place_and_tells_nothing() {
        let (tracer, mut read, _) = testing::tracer(Sampler { parent_based: true, ratio: Ratio::NONE }, 2);
        let mut span = tracer.enter(|| unreachable!("its name is not asked for"), Kind::Server, None);
        span.set("x", 1_i64);
        let place = span.context().cloned();
        assert!(place.as_ref().is_some_and(|place| !place.is_sampled));
        assert_eq!(tracer.place_below(place.as_ref()), None);
        let below = within(place.clone(), async { tracer.here("below") }).await;
        assert_eq!(below.context().map(|below| below.trace), place.map(|place| place.trace));
        drop((span, below));
        assert!(read.try_recv().is_err());
        assert!(tracer.here("of no trace").context().is_none());
        let off = Tracer::default();
        assert!(!off.is_on() && off.enter(name, Kind::Server, None).context().is_none());
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_counted() {
        let (tracer, _read, dropped) = testing::tracer(Sampler::default(), 2);
        for _ in 0..5 {
            drop(tracer.enter(name, Kind::Server, None));
        }
        assert_eq!(dropped.get(), 3, "two have room");
    }

    /// What it costs, to be read: `cargo test --release --lib costs -- --ignored --nocapture`.
    #[tokio::test]
    #[ignore = "measures"]
    async fn costs_of_a_request_and_of_an_event() {
        let all = Sampler::default();
        let none = Sampler { parent_based: true, ratio: Ratio::NONE };
        for (what, tracer) in [
            ("off", Tracer::default()),
            ("unsampled", testing::tracer(none, 2).0),
            ("sampled, dropped", testing::tracer(all, 2).0),
        ] {
            const TIMES: u32 = 1_000_000;
            let began = tokio::time::Instant::now();
            for _ in 0..TIMES {
                let mut server = tracer.enter(name, Kind::Server, None);
                server.set("http.route", "/x");
                let work = async { tracer.here("ash.session.message").around(async { Ok::<_, ()>(()) }).await };
                std::hint::black_box(within(server.context().cloned(), work).await).expect("good");
            }
            println!("{what}: {} ns for a request with one span below", began.elapsed().as_nanos() / u128::from(TIMES));
        }
    }
}
