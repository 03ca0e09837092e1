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
//! short is over when it is dropped, and counts as far as it told; under a budget it is read on
//! without its caller, see [`reserve`](super::reserve).
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
    /// What of it is on a bill.
    billed: ModelUsage,
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

    /// A new call whose answer has these headers; `None` if it is in no form that can be read.
    pub fn call(self: &Arc<Self>, headers: &HeaderMap) -> Option<Call> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
        if let Some(coding) = text(header::CONTENT_ENCODING).filter(|coding| coding != "identity") {
            tracing::warn!(coding, "model answers in an encoding that was not asked for, not counting its tokens");
            return None;
        }
        let is_stream = text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream"));
        let reader = if is_stream { Reader::Events(Events::default()) } else { Reader::Object(Object::default()) };
        let mut book = self.book();
        book.newest += 1;
        Some(Call { ledger: Arc::clone(self), number: book.newest, reader })
    }

    fn tell(&self, call: u64, told: &Told) {
        let mut book = self.book();
        let open = book.open.entry(call).or_default();
        if let Some(model) = &told.model {
            open.model = Some(if model.len() <= NAME_MAX { model.clone() } else { OTHER.to_owned() });
        }
        if let Some(counts) = &told.counts {
            counts.put(&mut open.told);
        }
    }

    fn close(&self, call: u64) {
        let mut book = self.book();
        if let Some(mut open) = book.open.remove(&call) {
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
        for call in self.open.values().filter(|call| call.told.calls > 0) {
            put(&mut all, call.name(), &less(&call.told, &call.billed));
        }
        all
    }
}

impl Open {
    /// Puts on a bill what is on none yet.
    fn bill(&mut self, models: &mut BTreeMap<String, ModelUsage>) {
        // A name alone, as an error may have it, is no call that was answered.
        if self.told.calls == 0 {
            return;
        }
        put(models, self.name(), &less(&self.told, &self.billed));
        self.billed = self.told;
    }

    fn name(&self) -> &str {
        self.model.as_deref().unwrap_or(OTHER)
    }
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

/// What one part of an answer tells, or of a request.
#[derive(Debug, Default)]
pub struct Told {
    /// The model's name.
    pub model: Option<String>,
    counts: Option<Counts>,
    /// Tokens that a request allows its answer to have; the largest number for what can not be read.
    pub max_tokens: Option<u64>,
    /// Nothing of it comes any more.
    pub over: bool,
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
}

/// `cache_creation_input_tokens` by how long they are kept.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Creation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

impl Counts {
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
        let Self { ledger, number, reader } = self;
        let mut over = false;
        let mut tell = |told: Told| {
            if told.model.is_some() || told.counts.is_some() {
                ledger.tell(*number, &told);
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
            ledger.close(*number);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.ledger.close(self.number);
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
        }
        #[derive(Deserialize)]
        struct Message {
            model: Option<String>,
            usage: Option<Counts>,
        }
        let Ok(Data { r#type, message, usage }) = serde_json::from_slice(&self.data) else { return };
        tell(match (r#type.as_str(), message) {
            ("message_start", Some(Message { model, usage })) => Told { model, counts: usage, ..Told::default() },
            ("message_delta", _) => Told { counts: usage, ..Told::default() },
            ("message_stop", _) => Told { over: true, ..Told::default() },
            _ => Told::default(),
        });
    }
}

/// Reads the members `model`, `usage` and `max_tokens` of a JSON object, however large the others are.
#[derive(Debug, Default)]
pub struct Object {
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
    /// Reads the next piece of it.
    pub fn read(&mut self, piece: &[u8], tell: &mut impl FnMut(Told)) {
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
                tell(Told { counts: serde_json::from_slice(&part).ok().flatten(), ..Told::default() });
            }
            Ok("max_tokens") => {
                let most = serde_json::from_slice::<f64>(&part).ok().filter(|_| !is_long);
                tell(Told { max_tokens: Some(most.map_or(u64::MAX, |most| most as u64)), ..Told::default() });
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
