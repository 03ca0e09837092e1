//! Counts the tokens of model calls, from the model API's own answers as they pass.
//!
//! ```text
//! answer ──▶ Counted (hands every piece on as it came) ──▶ caller
//!               │ looks at the piece before
//!               ▼
//!             Call (reads events, or the members of one object) ──▶ Ledger ──▶ a turn's bill
//! ```
//!
//! A call goes into the [`Ledger`] with the first count that its answer tells, and what it tells
//! later replaces that. It is over with the last event of its answer, which is seen before the
//! caller sees it: so a turn which ends upon an answer has it in its bill. An answer that is cut
//! short is over when it is dropped, and counts as far as it told. Under a budget it is read on
//! without its caller, see [`reserve`](super::reserve), and one that ends without its last counts has
//! the [`Estimate`] that was made of it.
//!
//! The answers are looked at in plain text. The gateway asks for that (`accept-encoding:
//! identity`), since to unpack them here would be more code beside the secrets and another place
//! for an answer to wait. Counting is never in the way of a call: what can not be read is not
//! counted, and what is kept of an answer is bounded.

use std::collections::BTreeMap;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderMap};
use serde::Deserialize;

use crate::wire::usage::ModelUsage;

/// Models that are told apart in one bill, and bytes of a name. What is beyond is summed up under
/// [`OTHER`]. A turn has some three.
const MODELS_MAX: usize = 32;
const NAME_MAX: usize = 128;
const OTHER: &str = "other";
/// Bytes of an event, or of a member of an answer in one piece, that are looked at. Those that
/// count have some hundred; longer ones are content.
const PIECE_MAX: usize = 64 << 10;

/// What was counted and is on no bill yet.
#[derive(Debug, Default)]
pub struct Ledger {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// Of calls that are over.
    models: BTreeMap<String, ModelUsage>,
    /// What is on bills already.
    billed: BTreeMap<String, ModelUsage>,
    /// Calls that run and told something, by their number.
    open: BTreeMap<u64, Open>,
    newest: u64,
}

#[derive(Debug, Default)]
struct Open {
    model: Option<String>,
    told: ModelUsage,
    /// What the model API did for the call, one after the other, if it told that.
    parts: Vec<Part>,
    /// What of all that is on a bill.
    billed: BTreeMap<String, ModelUsage>,
}

/// What a call took at most.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// The model's name, in the words of the caller.
    pub model: String,
    /// Its tokens.
    pub usage: ModelUsage,
}

impl Ledger {
    /// Takes what is to be on a bill now: the calls that are over and, with `cut`, also those that
    /// run, as far as they told; the rest of those is for a later bill. For the end of a turn that
    /// breaks its calls off, which the gateway may hear of only afterwards.
    pub fn take(&self, cut: bool) -> BTreeMap<String, ModelUsage> {
        let mut book = self.book();
        let Book { models, billed, open, .. } = &mut *book;
        if cut {
            for call in open.values_mut() {
                call.bill(models);
            }
        }
        for (name, usage) in models.iter() {
            put(billed, name, usage);
        }
        mem::take(models)
    }

    /// All that was told since the gateway is there, whether or not it is on a bill.
    pub fn all(&self) -> BTreeMap<String, ModelUsage> {
        let book = self.book();
        book.unbilled(book.billed.clone())
    }

    /// What was told and is on no bill. It stays so.
    pub fn leftover(&self) -> BTreeMap<String, ModelUsage> {
        let mut all = self.book().unbilled(BTreeMap::new());
        all.retain(|_, usage| *usage != ModelUsage::default());
        all
    }

    /// A new call whose answer has these headers; `None` if it is in no form that can be read. One that does not
    /// end as it should takes what was estimated, if that was.
    pub fn call(self: &Arc<Self>, headers: &HeaderMap, estimate: Option<Estimate>) -> Option<Call> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
        let is_stream = text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream"));
        let reader = match text(header::CONTENT_ENCODING).filter(|coding| coding != "identity") {
            Some(coding) => {
                tracing::warn!(coding, "model answers in an encoding that was not asked for, not counting its tokens");
                Reader::Over
            }
            None if is_stream => Reader::Events(Events::default()),
            None => Reader::Object(Object::default()),
        };
        if matches!(reader, Reader::Over) && estimate.is_none() {
            return None;
        }
        let mut book = self.book();
        book.newest += 1;
        let (has_begun, has_last, has_ended) = (false, false, false);
        Some(Call { ledger: Arc::clone(self), number: book.newest, reader, estimate, has_begun, has_last, has_ended })
    }

    fn tell(&self, call: u64, told: &Told) {
        let mut book = self.book();
        let open = book.open.entry(call).or_default();
        if let Some(model) = &told.model {
            open.model = Some(short(model));
        }
        if let Some(counts) = &told.counts {
            counts.put(&mut open.told);
            if let Some(parts) = counts.parts() {
                open.parts = parts;
            }
        }
    }

    fn close(&self, call: u64, estimate: Option<Estimate>) {
        let mut book = self.book();
        let open = book.open.remove(&call).or_else(|| estimate.is_some().then(Open::default));
        if let Some(mut open) = open {
            if let Some(estimate) = estimate {
                tracing::info!(
                    tokens = estimate.usage.tokens(),
                    "model call ended without its counts, taking the most it may have"
                );
                open.assume(estimate);
            }
            open.bill(&mut book.models);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Adds what is on no bill.
    fn unbilled(&self, mut all: BTreeMap<String, ModelUsage>) -> BTreeMap<String, ModelUsage> {
        for (name, usage) in &self.models {
            put(&mut all, name, usage);
        }
        for call in self.open.values() {
            for (name, usage) in call.all() {
                put(&mut all, &name, &less(&usage, call.billed.get(&name).unwrap_or(&ModelUsage::default())));
            }
        }
        all
    }
}

impl Open {
    /// Puts on a bill what is on none yet.
    fn bill(&mut self, models: &mut BTreeMap<String, ModelUsage>) {
        let all = self.all();
        for (name, usage) in &all {
            put(models, name, &less(usage, self.billed.get(name).unwrap_or(&ModelUsage::default())));
        }
        self.billed = all;
    }

    /// What all of it took, by model.
    ///
    /// The counts of the call itself are those of the messages that its model wrote, and leave out what was done
    /// beside: the summary of a conversation (`compaction`), what another model was asked (`advisor_message`), and
    /// what one that declined had written before. It is not said of all which part is in the counts, so for the
    /// messages the larger of both counts.
    fn all(&self) -> BTreeMap<String, ModelUsage> {
        let mut all = BTreeMap::new();
        // A name alone, as an error may have it, is no call that was answered.
        if self.told.calls == 0 {
            return all;
        }
        let own = self.model.as_deref().unwrap_or(OTHER);
        // The one that wrote the answer in the end, where another has begun it.
        let last = self.parts.iter().rev().find(|part| part.is_message).and_then(|part| part.model.as_deref());
        let name = last.unwrap_or(own);
        let mut messages = ModelUsage::default();
        for part in &self.parts {
            let model = part.model.as_deref().unwrap_or(name);
            if part.is_message && model == name {
                messages.add(&part.usage);
            } else {
                put(&mut all, model, &part.usage);
            }
        }
        put(&mut all, name, &larger(&self.told, &messages));
        all
    }

    /// Takes the most that it may have taken beside what it told.
    fn assume(&mut self, estimate: Estimate) {
        let Estimate { model, usage } = estimate;
        if self.told.calls == 0 {
            self.told = ModelUsage { calls: 1, ..usage };
            self.model.get_or_insert_with(|| short(&model));
        } else {
            self.told.output_tokens = self.told.output_tokens.max(usage.output_tokens);
        }
    }
}

/// A name that is not longer than what is kept.
fn short(model: &str) -> String {
    if model.len() <= NAME_MAX { model.to_owned() } else { OTHER.to_owned() }
}

/// Adds what calls of a model took; beyond so many models, to the rest.
fn put(models: &mut BTreeMap<String, ModelUsage>, name: &str, usage: &ModelUsage) {
    let name = if models.len() < MODELS_MAX || models.contains_key(name) { name } else { OTHER };
    models.entry(name.to_owned()).or_default().add(usage);
}

const fn less(from: &ModelUsage, part: &ModelUsage) -> ModelUsage {
    ModelUsage {
        calls: from.calls.saturating_sub(part.calls),
        input_tokens: from.input_tokens.saturating_sub(part.input_tokens),
        output_tokens: from.output_tokens.saturating_sub(part.output_tokens),
        cache_read_tokens: from.cache_read_tokens.saturating_sub(part.cache_read_tokens),
        cache_write_tokens: from.cache_write_tokens.saturating_sub(part.cache_write_tokens),
        cache_write_1h_tokens: from.cache_write_1h_tokens.saturating_sub(part.cache_write_1h_tokens),
    }
}

/// The larger of both counts of the same calls, kind by kind. What was written to the cache is parted in two kinds
/// by the one that has more of it.
fn larger(a: &ModelUsage, b: &ModelUsage) -> ModelUsage {
    let written = |usage: &ModelUsage| usage.cache_write_tokens.saturating_add(usage.cache_write_1h_tokens);
    let written = if written(a) >= written(b) { a } else { b };
    ModelUsage {
        calls: a.calls.max(b.calls),
        input_tokens: a.input_tokens.max(b.input_tokens),
        output_tokens: a.output_tokens.max(b.output_tokens),
        cache_read_tokens: a.cache_read_tokens.max(b.cache_read_tokens),
        cache_write_tokens: written.cache_write_tokens,
        cache_write_1h_tokens: written.cache_write_1h_tokens,
    }
}

/// What one part of an answer tells.
#[derive(Debug, Default)]
struct Told {
    /// The model's name.
    model: Option<String>,
    counts: Option<Counts>,
    /// Whether these counts, or later ones, are the last.
    is_last: bool,
    /// Whether the model has stopped.
    has_stopped: bool,
    /// Whether it is an error.
    is_error: bool,
    /// Nothing of it comes any more.
    over: bool,
}

/// `usage` in an answer of the model API, version 2023-06-01. All counts are of the whole call so
/// far; the later ones of a stream leave out what has not changed, or say it again.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<Creation>,
    /// A value, so that one which can not be read takes nothing else with it.
    iterations: Option<serde_json::Value>,
}

/// One of `iterations`: what the model API did for a call (beta of 2026).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Iteration {
    r#type: String,
    model: Option<String>,
    #[serde(flatten)]
    counts: Counts,
}

/// What was done for a call.
#[derive(Debug)]
struct Part {
    /// Whether it wrote a part of the answer.
    is_message: bool,
    model: Option<String>,
    usage: ModelUsage,
}

/// `cache_creation_input_tokens` by how long they are kept.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Creation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

impl Counts {
    fn parts(&self) -> Option<Vec<Part>> {
        let parts = self.iterations.as_ref()?.as_array()?;
        let read = |part: &serde_json::Value| {
            let Iteration { r#type, model, counts } = Iteration::deserialize(part).ok()?;
            let mut usage = ModelUsage::default();
            counts.put(&mut usage);
            // They are no calls of their own.
            usage.calls = 0;
            let is_message = ["message", "fallback_message"].contains(&r#type.as_str());
            Some(Part { is_message, model: model.as_deref().map(short), usage })
        };
        Some(parts.iter().filter_map(read).collect())
    }

    fn put(&self, told: &mut ModelUsage) {
        told.calls = 1;
        for (count, slot) in [
            (self.input_tokens, &mut told.input_tokens),
            (self.output_tokens, &mut told.output_tokens),
            (self.cache_read_input_tokens, &mut told.cache_read_tokens),
        ] {
            *slot = count.unwrap_or(*slot);
        }
        let hour = self.cache_creation.as_ref().and_then(|creation| creation.ephemeral_1h_input_tokens);
        let five = self.cache_creation.as_ref().and_then(|creation| creation.ephemeral_5m_input_tokens);
        told.cache_write_1h_tokens = hour.unwrap_or(told.cache_write_1h_tokens);
        // Without the parts, what is new in the sum is taken for the cheaper kind, the usual one.
        match (five, self.cache_creation_input_tokens) {
            (Some(five), _) => told.cache_write_tokens = five,
            (None, Some(sum)) => told.cache_write_tokens = sum.saturating_sub(told.cache_write_1h_tokens),
            (None, None) => {}
        }
    }
}

/// A call that is being answered. Dropping it says that nothing more comes.
#[derive(Debug)]
pub struct Call {
    ledger: Arc<Ledger>,
    number: u64,
    reader: Reader,
    estimate: Option<Estimate>,
    /// Whether it told what it read.
    has_begun: bool,
    /// Whether it told its last counts, or some before them.
    has_last: bool,
    has_ended: bool,
}

#[derive(Debug)]
enum Reader {
    Events(Events),
    Object(Object),
    Over,
}

impl Call {
    /// Looks at the next piece of the answer.
    pub fn look(&mut self, piece: &[u8]) {
        let Self { ledger, number, reader, estimate, has_begun, has_last, has_ended } = self;
        let mut over = false;
        let mut tell = |told: Told| {
            if told.model.is_some() || told.counts.is_some() {
                ledger.tell(*number, &told);
            }
            *has_begun |= told.counts.is_some();
            *has_last |= told.is_last && told.counts.is_some();
            *has_ended |= told.has_stopped || told.over;
            if told.is_error && !*has_begun {
                *estimate = None;
            }
            over |= told.over;
        };
        match reader {
            Reader::Events(events) => events.read(piece, &mut tell),
            Reader::Object(object) => object.read(piece, &mut tell),
            Reader::Over => {}
        }
        if over {
            *reader = Reader::Over;
            self.close();
        }
    }

    fn close(&mut self) {
        let is_told = self.has_last && self.has_ended;
        self.ledger.close(self.number, self.estimate.take().filter(|_| !is_told));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads server-sent events (WHATWG HTML, section 9.2.6), of which only the data count here.
#[derive(Debug, Default)]
struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    /// The event, or a line of it, is longer than what is looked at.
    long: bool,
    /// A carriage return ended the line: a line feed after it belongs to it.
    returned: bool,
}

impl Events {
    fn read(&mut self, piece: &[u8], tell: &mut impl FnMut(Told)) {
        for byte in piece {
            let is_rest = *byte == b'\n' && mem::take(&mut self.returned);
            self.returned = *byte == b'\r';
            match byte {
                b'\n' if is_rest => {}
                b'\n' | b'\r' => self.line(tell),
                _ if self.line.len() < PIECE_MAX => self.line.push(*byte),
                _ => self.long = true,
            }
        }
    }

    fn line(&mut self, tell: &mut impl FnMut(Told)) {
        if self.line.is_empty() {
            if !mem::take(&mut self.long) {
                self.event(tell);
            }
            self.data.clear();
        } else if let Some(data) = self.line.strip_prefix(b"data:")
            && !self.long
        {
            self.data.extend_from_slice(data);
            self.data.push(b'\n');
            self.long = self.data.len() > PIECE_MAX;
        }
        self.line.clear();
    }

    fn event(&self, tell: &mut impl FnMut(Told)) {
        #[derive(Deserialize)]
        struct Data {
            r#type: String,
            message: Option<Message>,
            usage: Option<Counts>,
            delta: Option<Delta>,
        }
        #[derive(Deserialize)]
        struct Delta {
            stop_reason: Option<serde_json::Value>,
        }
        #[derive(Deserialize)]
        struct Message {
            model: Option<String>,
            usage: Option<Counts>,
        }
        let Ok(Data { r#type, message, usage, delta }) = serde_json::from_slice(&self.data) else { return };
        tell(match (r#type.as_str(), message) {
            ("message_start", Some(Message { model, usage })) => Told { model, counts: usage, ..Told::default() },
            ("message_delta", _) => {
                let has_stopped = delta.is_some_and(|delta| delta.stop_reason.is_some());
                Told { counts: usage, is_last: true, has_stopped, ..Told::default() }
            }
            ("error", _) => Told { is_error: true, ..Told::default() },
            ("message_stop", _) => Told { over: true, ..Told::default() },
            _ => Told::default(),
        });
    }
}

/// Reads the members `model` and `usage` of a JSON object, however large the others are.
#[derive(Debug, Default)]
struct Object {
    depth: u64,
    in_text: bool,
    escaped: bool,
    /// The member's name, with its quotation marks, once its value comes.
    name: Vec<u8>,
    /// The name, or the value, as far as it has come.
    part: Vec<u8>,
    long: bool,
}

impl Object {
    fn read(&mut self, piece: &[u8], tell: &mut impl FnMut(Told)) {
        for byte in piece {
            if self.in_text {
                match byte {
                    _ if mem::take(&mut self.escaped) => {}
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_text = true,
                    b'{' | b'[' => {
                        self.depth += 1;
                        if self.depth == 1 {
                            self.part.clear();
                            continue;
                        }
                    }
                    b'}' | b']' => {
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 0 {
                            self.member(tell);
                            return tell(Told { over: true, ..Told::default() });
                        }
                    }
                    b':' if self.depth == 1 => {
                        self.name = mem::take(&mut self.part);
                        self.long = false;
                        continue;
                    }
                    b',' if self.depth == 1 => {
                        self.member(tell);
                        continue;
                    }
                    _ if byte.is_ascii_whitespace() => continue,
                    _ => {}
                }
            }
            if self.part.len() < PIECE_MAX {
                self.part.push(*byte);
            } else {
                self.long = true;
            }
        }
    }

    fn member(&mut self, tell: &mut impl FnMut(Told)) {
        let (name, part) = (mem::take(&mut self.name), mem::take(&mut self.part));
        let is_long = mem::take(&mut self.long);
        // A name may be written with escapes.
        match serde_json::from_slice::<String>(&name).as_deref() {
            Ok("model") if !is_long => tell(Told { model: serde_json::from_slice(&part).ok(), ..Told::default() }),
            Ok("usage") if !is_long => {
                tell(Told { counts: serde_json::from_slice(&part).ok().flatten(), is_last: true, ..Told::default() });
            }
            _ => {}
        }
    }
}

/// A body that is looked at while it passes.
#[derive(Debug)]
pub struct Counted<B> {
    body: B,
    /// `None` for one that is not counted, and at the end.
    call: Option<Call>,
}

impl<B> Counted<B> {
    /// The body of an answer, with its call if it is to be counted.
    pub const fn new(body: B, call: Option<Call>) -> Self {
        Self { body, call }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match (&frame, &mut self.call) {
            (Some(Ok(frame)), Some(call)) => {
                if let Some(piece) = frame.data_ref() {
                    call.look(piece);
                }
            }
            (Some(Ok(_)), None) => {}
            (Some(Err(_)) | None, call) => *call = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
