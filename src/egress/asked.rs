//! Reads what the body of a request asks for, as it passes.
//!
//! ```text
//! piece ──▶ Reader (keeps a few members, passes over all else) ──▶ Asked: model, max_tokens, what is to be fetched
//! ```
//!
//! What the model API is asked to fetch is egress, so nothing may get by that it would read in another way
//! than it is read here: only JSON in UTF-8 is taken (RFC 8259), and what two readers may take for different
//! things is refused, such as a member that counts and is there twice. What is kept is bounded, and large
//! texts are passed over many bytes at a time.
//!
//! | in a request | is |
//! | --- | --- |
//! | an object of the type `url`, the value of a `source`, all in `mcp_servers`: their `url` | fetched |
//! | an object whose type begins with `web_fetch`: its `allowed_domains`, or any page | fetched |
//! | what is in `input`, `input_schema`, `input_examples` and `schema` of anything | data that is not looked at |
//! | all else, in texts and in objects of other types | no matter here |

use std::mem;

use super::fetch::Fetches;

/// Tokens that a call may take which can take more than its request tells: more than any budget, so that it
/// runs alone.
pub const ALL: u64 = 1 << 48;
/// Objects and lists in one another. What runtimes send has some ten.
const DEPTH_MAX: usize = 256;
/// Bytes of a name, or of a value that counts, as it is written. The longest name that counts, in escapes, has
/// a hundred.
const NAME_MAX: usize = 512;
const VALUE_MAX: usize = 8 << 10;
/// Bytes of addresses and domains that are kept until the objects which they are in end.
const KEPT_MAX: usize = 64 << 10;
/// Bytes of a text that are looked at together.
const STRIDE: usize = 32;
/// Types of tools that the runtime runs itself, so that they are in the request with all that they take.
const OWN_TOOLS: &[&str] = &["custom", "bash_", "text_editor_", "computer_", "memory_"];
/// How types of tools begin which the model API runs, also where one is added in the middle of a conversation.
const ITS_TOOLS: &[&str] = &["web_search_2", "web_fetch_2", "code_execution_2", "advisor_2", "mcp_toolset"];

/// What a request asks for, as far as it was read.
#[derive(Debug, Default)]
pub struct Asked {
    /// The model's name.
    pub model: String,
    /// Tokens that the answer may have; the largest number for what can not be read.
    pub max_tokens: Option<u64>,
    /// Bytes of the request.
    pub bytes: u64,
    /// What the model API is to fetch.
    pub fetches: Fetches,
    /// Whether it names something that is not in it, as a file or a tool of the model API's own: then what the call
    /// takes can not be told from its size.
    pub is_open: bool,
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is in no form that everybody reads in the same way.
    #[error("it is not JSON in UTF-8")]
    Form,
    /// It ended before its end.
    #[error("it is no whole JSON object")]
    Cut,
    /// It is deeper than what is followed.
    #[error("it has more than {DEPTH_MAX} objects and lists in one another")]
    Depth,
    /// A member that counts is there twice.
    #[error("an object has the member {0:?} twice")]
    Twice(&'static str),
    /// A member that counts has a value that it can not have.
    #[error("the member {0:?} can not be read")]
    Member(&'static str),
    /// There is too much to keep of it.
    #[error("it has more than {} KiB of addresses in one another", KEPT_MAX >> 10)]
    Kept,
}

/// Members that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Other,
    Data,
    Type,
    Url,
    Source,
    Servers,
    Domains,
    File,
    Tools,
    Container,
    Model,
    MaxTokens,
}

/// Where an object or a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Other,
    /// In data that is not looked at.
    Data,
    Source,
    Servers,
    Domains,
    Tools,
}

/// An object or a list that has not ended.
#[derive(Debug)]
struct Frame {
    is_object: bool,
    place: Place,
    /// The member whose value comes.
    key: Key,
    /// Members that were there and may not come again, as bits.
    seen: u8,
    kind: String,
    url: Option<Address>,
    domains: Option<Vec<String>>,
}

#[derive(Debug)]
enum Address {
    Text(String),
    Unread,
}

/// What may come next, outside of texts and other values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Expects {
    #[default]
    Start,
    FirstName,
    Name,
    Colon,
    FirstValue,
    Value,
    Next,
    End,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Token {
    #[default]
    None,
    Text,
    Escape,
    /// A number, `true`, `false` or `null`.
    Bare,
}

/// A value that is over.
enum Value<'a> {
    /// A text with its quotation marks; `None` if it is longer than what is kept.
    Text(Option<&'a [u8]>),
    Bare(Option<&'a [u8]>),
    /// An object or a list begins.
    More,
}

/// Reads a request, which may come in pieces.
#[derive(Debug, Default)]
pub struct Reader {
    asked: Asked,
    frames: Vec<Frame>,
    expects: Expects,
    token: Token,
    /// The text or the bare value, if it counts, as far as it has come.
    part: Vec<u8>,
    is_kept: bool,
    is_long: bool,
    kept: usize,
    /// The beginning of a character whose end comes with the next piece.
    cut: Vec<u8>,
}

impl Key {
    fn of(name: &[u8], is_top: bool) -> Result<Self, Unread> {
        // Names with escapes are rare, and nothing that counts is spelled with them but by who hides it.
        let unescaped =
            if name.contains(&b'\\') { Some(serde_json::from_slice::<String>(name).map_err(|_| Unread::Form)?) } else { None };
        let bare = &name[1..name.len() - 1];
        let name = unescaped.as_ref().map_or(bare, |name| name.as_bytes());
        if !is_top && matches!(name, b"input" | b"input_schema" | b"input_examples" | b"schema") {
            return Ok(Self::Data);
        }
        // Some readers do not mind case.
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        Ok(match name.len() {
            3 if is("url") => Self::Url,
            4 if is("type") => Self::Type,
            5 if is("model") && is_top => Self::Model,
            5 if is("tools") && is_top => Self::Tools,
            6 if is("source") => Self::Source,
            7 if is("file_id") => Self::File,
            9 if is("container") && is_top => Self::Container,
            10 if is("max_tokens") && is_top => Self::MaxTokens,
            11 if is("mcp_servers") => Self::Servers,
            15 if is("allowed_domains") => Self::Domains,
            _ => Self::Other,
        })
    }

    /// Its name and its bit, if it may be there once.
    const fn once(self) -> Option<(&'static str, u8)> {
        match self {
            Self::Type => Some(("type", 1)),
            Self::Url => Some(("url", 2)),
            Self::Source => Some(("source", 4)),
            Self::Servers => Some(("mcp_servers", 8)),
            Self::Domains => Some(("allowed_domains", 16)),
            _ => None,
        }
    }
}

impl Frame {
    /// Whether the text of the value that comes is kept.
    fn wants(&self) -> bool {
        let by_key =
            matches!(self.key, Key::Type | Key::Url | Key::Domains | Key::File | Key::Model | Key::MaxTokens | Key::Container);
        match self.place {
            Place::Data => false,
            Place::Domains if !self.is_object => true,
            _ => self.is_object && by_key,
        }
    }
}

impl Reader {
    /// Reads the next piece. Whether the request is over.
    ///
    /// # Errors
    ///
    /// It is not to be taken. Nothing is read after that.
    pub fn read(&mut self, piece: &[u8]) -> Result<bool, Unread> {
        self.asked.bytes = self.asked.bytes.saturating_add(piece.len() as u64);
        self.check_text(piece)?;
        let mut rest = piece;
        while let Some((&byte, after)) = rest.split_first() {
            match self.token {
                Token::Text => {
                    let mut at = plain(rest);
                    // What is not kept is passed over with what is escaped in it.
                    while !self.is_kept && rest.get(at) == Some(&b'\\') && at + 1 < rest.len() {
                        at += 2;
                        at += plain(&rest[at..]);
                    }
                    self.keep(&rest[..at]);
                    let Some(byte) = rest.get(at) else { break };
                    rest = &rest[at + 1..];
                    self.keep(&[*byte]);
                    match byte {
                        b'"' => self.text()?,
                        b'\\' => self.token = Token::Escape,
                        _ => return Err(Unread::Form),
                    }
                    continue;
                }
                Token::Escape => {
                    self.keep(&[byte]);
                    self.token = Token::Text;
                }
                Token::Bare if is_bare(byte) => self.keep(&[byte]),
                Token::Bare => {
                    self.token = Token::None;
                    let part = mem::take(&mut self.part);
                    let is_whole = self.is_kept && !self.is_long;
                    self.value(&Value::Bare(is_whole.then_some(part.as_slice())))?;
                    self.expects = Expects::Next;
                    continue;
                }
                Token::None => self.structure(byte)?,
            }
            rest = after;
        }
        Ok(self.expects == Expects::End)
    }

    /// What was read, once.
    pub fn take(&mut self) -> Asked {
        mem::take(&mut self.asked)
    }

    /// That all of it is UTF-8.
    fn check_text(&mut self, mut piece: &[u8]) -> Result<(), Unread> {
        while !self.cut.is_empty()
            && let Some((byte, rest)) = piece.split_first()
        {
            self.cut.push(*byte);
            piece = rest;
            match std::str::from_utf8(&self.cut) {
                Ok(_) => self.cut.clear(),
                Err(error) if error.error_len().is_some() => return Err(Unread::Form),
                Err(_) => {}
            }
        }
        if let Err(error) = std::str::from_utf8(piece) {
            if error.error_len().is_some() {
                return Err(Unread::Form);
            }
            self.cut.extend_from_slice(&piece[error.valid_up_to()..]);
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        if !self.is_kept || self.is_long {
            return;
        }
        let most = if matches!(self.expects, Expects::Colon) { NAME_MAX } else { VALUE_MAX };
        if self.part.len() + bytes.len() > most {
            self.is_long = true;
        } else {
            self.part.extend_from_slice(bytes);
        }
    }

    fn begin(&mut self, token: Token, is_kept: bool, byte: u8) {
        (self.token, self.is_kept, self.is_long) = (token, is_kept, false);
        self.part.clear();
        self.keep(&[byte]);
    }

    fn structure(&mut self, byte: u8) -> Result<(), Unread> {
        let is_object = self.frames.last().is_some_and(|frame| frame.is_object);
        match (byte, self.expects) {
            (b' ' | b'\t' | b'\r' | b'\n', _) => {}
            (b'"', Expects::FirstName | Expects::Name) => {
                let is_kept = self.frames.last().is_some_and(|frame| frame.place != Place::Data);
                // What comes behind the name; a text that comes before is the name.
                self.expects = Expects::Colon;
                self.begin(Token::Text, is_kept, byte);
            }
            (b'"', Expects::FirstValue | Expects::Value) => {
                self.expects = Expects::Next;
                let wants = self.frames.last().is_some_and(Frame::wants);
                self.begin(Token::Text, wants, byte);
            }
            (b'{', Expects::Start) => self.open(true)?,
            (b'{' | b'[', Expects::FirstValue | Expects::Value) => {
                self.value(&Value::More)?;
                self.open(byte == b'{')?;
            }
            (b'}', Expects::FirstName | Expects::Next) if is_object => self.close()?,
            (b']', Expects::FirstValue | Expects::Next) if !is_object => self.close()?,
            (b':', Expects::Colon) => self.expects = Expects::Value,
            (b',', Expects::Next) => self.expects = if is_object { Expects::Name } else { Expects::Value },
            (_, Expects::FirstValue | Expects::Value) if is_bare(byte) => {
                let wants = self.frames.last().is_some_and(Frame::wants);
                self.begin(Token::Bare, wants, byte);
            }
            _ => return Err(Unread::Form),
        }
        Ok(())
    }

    /// A text has ended: a name, or a value.
    fn text(&mut self) -> Result<(), Unread> {
        self.token = Token::None;
        let part = mem::take(&mut self.part);
        let is_whole = self.is_kept && !self.is_long;
        if self.expects != Expects::Colon {
            let ended = self.value(&Value::Text(is_whole.then_some(part.as_slice())));
            self.part = part;
            return ended;
        }
        let is_top = self.frames.len() == 1;
        let Some(frame) = self.frames.last_mut() else { return Err(Unread::Form) };
        // A longer name is none that counts.
        frame.key = if is_whole { Key::of(&part, is_top)? } else { Key::Other };
        self.part = part;
        if let Some((name, bit)) = frame.key.once() {
            if frame.seen & bit != 0 {
                return Err(Unread::Twice(name));
            }
            frame.seen |= bit;
        }
        Ok(())
    }

    fn open(&mut self, is_object: bool) -> Result<(), Unread> {
        if self.frames.len() >= DEPTH_MAX {
            return Err(Unread::Depth);
        }
        let place = match self.frames.last() {
            None => Place::Other,
            Some(Frame { place: place @ (Place::Data | Place::Servers), .. }) => *place,
            Some(frame) if !frame.is_object => frame.place,
            Some(frame) => match frame.key {
                Key::Data => Place::Data,
                Key::Source => Place::Source,
                Key::Servers => Place::Servers,
                Key::Domains => Place::Domains,
                Key::Tools => Place::Tools,
                _ => Place::Other,
            },
        };
        let (kind, url, domains) = (String::new(), None, None);
        self.frames.push(Frame { is_object, place, key: Key::Other, seen: 0, kind, url, domains });
        self.expects = if is_object { Expects::FirstName } else { Expects::FirstValue };
        Ok(())
    }

    /// Takes a value, if it counts where it is.
    fn value(&mut self, value: &Value<'_>) -> Result<(), Unread> {
        let Self { frames, asked, kept, .. } = self;
        let Some((frame, above)) = frames.split_last_mut() else { return Err(Unread::Form) };
        let text = || match value {
            Value::Text(Some(text)) => serde_json::from_slice::<String>(text).ok(),
            _ => None,
        };
        let is_null = matches!(value, Value::Bare(Some(b"null")));
        if frame.place == Place::Data {
            return Ok(());
        }
        if !frame.is_object {
            if frame.place == Place::Domains {
                let domain = text().ok_or(Unread::Member("allowed_domains"))?;
                let Some(object) = above.last_mut() else { return Err(Unread::Form) };
                *kept += domain.len() + size_of::<String>();
                object.domains.get_or_insert_default().push(domain);
            }
        } else {
            match frame.key {
                Key::Type if matches!(value, Value::Text(_)) => frame.kind = text().ok_or(Unread::Member("type"))?,
                Key::Url if !is_null => {
                    let url = text();
                    *kept += url.as_ref().map_or(0, String::len);
                    frame.url = Some(url.map_or(Address::Unread, Address::Text));
                }
                Key::Domains if !is_null && !matches!(value, Value::More) => return Err(Unread::Member("allowed_domains")),
                Key::File | Key::Container if !is_null => asked.is_open = true,
                Key::Model => asked.model = text().unwrap_or_else(|| mem::take(&mut asked.model)),
                Key::MaxTokens => {
                    let most = match value {
                        Value::Bare(Some(number)) => serde_json::from_slice::<f64>(number).ok(),
                        _ => None,
                    };
                    // Of several, which no runtime sends, the model API may take any.
                    asked.max_tokens = asked.max_tokens.max(Some(most.map_or(u64::MAX, |most| most as u64)));
                }
                _ => {}
            }
        }
        if *kept > KEPT_MAX { Err(Unread::Kept) } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), Unread> {
        let Some(frame) = self.frames.pop() else { return Err(Unread::Form) };
        self.expects = if self.frames.is_empty() { Expects::End } else { Expects::Next };
        if !frame.is_object || frame.place == Place::Data {
            return Ok(());
        }
        let Frame { place, kind, url, domains, .. } = frame;
        let domain_bytes = |domain: &String| domain.len() + size_of::<String>();
        self.kept -= domains.iter().flatten().map(domain_bytes).sum::<usize>();
        self.kept -= match &url {
            Some(Address::Text(url)) => url.len(),
            _ => 0,
        };
        let Asked { fetches, is_open, .. } = &mut self.asked;
        let kind = kind.to_ascii_lowercase();
        if matches!(place, Place::Source | Place::Servers) || kind == "url" {
            *is_open |= url.is_some();
            match url {
                Some(Address::Text(url)) => fetches.address(&url),
                Some(Address::Unread) => return Err(Unread::Member("url")),
                None => {}
            }
        }
        // What it brought in a conversation has a type that begins so, too.
        if kind.starts_with("web_fetch") && !kind.contains("result") && !kind.contains("error") {
            let domains = domains.unwrap_or_default();
            if domains.is_empty() {
                fetches.anywhere();
            }
            domains.iter().for_each(|domain| fetches.site(domain));
        }
        let is_own = kind.is_empty() || OWN_TOOLS.iter().any(|own| kind.starts_with(own));
        let is_its = ITS_TOOLS.iter().any(|tool| kind.starts_with(tool));
        // A conversation that is to be summed up is read and written twice.
        *is_open |= (place == Place::Tools && !is_own) || is_its || kind.starts_with("compact_");
        Ok(())
    }
}

/// What a block of a message asks to be fetched, wherever it is in a request.
///
/// # Errors
///
/// No request may have it.
pub fn of_block(block: &str) -> Result<Fetches, Unread> {
    let mut reader = Reader::default();
    let parts = ["{\"content\":[", block, "]}"];
    let is_whole = parts.iter().try_fold(false, |_, part| reader.read(part.as_bytes()))?;
    if is_whole { Ok(reader.take().fetches) } else { Err(Unread::Cut) }
}

const fn is_bare(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.')
}

/// How many bytes come before the first that ends a text, or is special in it.
fn plain(text: &[u8]) -> usize {
    let is_special = |byte: u8| byte == b'"' || byte == b'\\' || byte < b' ';
    // Without a branch for each byte, so that several are compared at once.
    let has_special = |stride: &[u8]| stride.iter().fold(false, |any, byte| any | is_special(*byte));
    let skipped = text.chunks_exact(STRIDE).position(has_special).unwrap_or(text.len() / STRIDE) * STRIDE;
    skipped + text[skipped..].iter().position(|byte| is_special(*byte)).unwrap_or(text.len() - skipped)
}

#[cfg(test)]
mod tests;
