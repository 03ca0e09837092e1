//! Trace contexts, as the W3C recommendation "Trace Context" (2021-11-23) has them in the headers `traceparent` and
//! `tracestate`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Members of `tracestate` that are taken (section 3.3.1.1).
const MEMBERS_MAX: usize = 32;
/// Characters of it that are passed on (section 3.3.1.5); beyond that, members longer than [`LONG`] go first, then the
/// last ones.
const STATE_MAX: usize = 512;
const LONG: usize = 128;

/// Id of a trace, never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Id of a span, never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place in a trace: that of a span, whose children are put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether it is kept.
    pub is_sampled: bool,
    /// What systems on the way said of it, as `tracestate`.
    pub state: Option<Arc<str>>,
}

impl TraceContext {
    /// Reads the headers. What is no `traceparent` is none; a `tracestate` that is none is left out.
    pub fn parse<'a>(parent: &str, state: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let (version, rest) = parent.split_once('-')?;
        let version = hex::<1>(version).filter(|version| version[0] != 0xff)?[0];
        // A later version may have more behind the flags, after another dash.
        let (known, more) = rest.split_at_checked(32 + 1 + 16 + 1 + 2)?;
        let is_whole = more.is_empty() || version > 0 && more.starts_with('-');
        let mut parts = known.splitn(3, '-');
        let (trace, span, flags) = (hex::<16>(parts.next()?)?, hex::<8>(parts.next()?)?, hex::<1>(parts.next()?)?);
        let is_good = is_whole && trace != [0; 16] && span != [0; 8];
        is_good.then(|| Self {
            trace: TraceId(trace),
            span: SpanId(span),
            is_sampled: flags[0] & 1 == 1,
            state: read_state(state),
        })
    }

    /// The header `traceparent`.
    pub fn parent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }

    /// As it is stored, on one line.
    pub fn to_text(&self) -> String {
        let state = self.state.as_deref().unwrap_or_default();
        format!("{} {state}", self.parent()).trim_end().to_owned()
    }

    /// Reads what [`Self::to_text`] made.
    pub fn from_text(text: &str) -> Option<Self> {
        let (parent, state) = text.split_once(' ').unwrap_or((text, ""));
        Self::parse(parent, Some(state).filter(|state| !state.is_empty()))
    }
}

/// Lower-case digits of exactly so many bytes.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hex = text.len() == 2 * N && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    is_hex.then_some(bytes)
}

/// The lines of `tracestate` as one, if all of it is as it should be.
fn read_state<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Arc<str>> {
    let mut keys = BTreeSet::new();
    let mut members = Vec::new();
    for member in lines.into_iter().flat_map(|line| line.split(',')) {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        if !is_key(key) || !is_value(value) || !keys.insert(key) || members.len() == MEMBERS_MAX {
            return None;
        }
        members.push(member);
    }
    let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1);
    if length(&members) > STATE_MAX {
        members.retain(|member| member.len() <= LONG);
    }
    while length(&members) > STATE_MAX {
        members.pop();
    }
    (!members.is_empty()).then(|| members.join(",").into())
}

fn is_key(key: &str) -> bool {
    let is_part = |part: &str, most: usize| {
        (1..=most).contains(&part.len())
            && part.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
            && part.as_bytes()[0].is_ascii_alphanumeric()
    };
    match key.split_once('@') {
        None => is_part(key, 256),
        Some((tenant, system)) => is_part(tenant, 241) && is_part(system, 14),
    }
}

fn is_value(value: &str) -> bool {
    let is_text = value.bytes().all(|c| matches!(c, b' '..=b'~') && !matches!(c, b',' | b'='));
    is_text && (1..=256).contains(&value.len()) && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn parse(parent: &str) -> Option<TraceContext> {
        TraceContext::parse(parent, [])
    }

    #[test]
    fn good_parents_are_read_and_written() {
        for (parent, sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("00-{TRACE}-{SPAN}-fe"), false),
            (format!("00-{TRACE}-{SPAN}-03"), true),
            // What a later version adds is passed over.
            (format!("cc-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what-the-future"), true),
            (format!("01-{TRACE}-{SPAN}-01-"), true),
        ] {
            let context = parse(&parent).unwrap_or_else(|| panic!("{parent}"));
            assert_eq!((context.trace.to_string(), context.span.to_string()), (TRACE.to_owned(), SPAN.to_owned()));
            assert_eq!(context.is_sampled, sampled, "{parent}");
            assert_eq!(context.parent(), format!("00-{TRACE}-{SPAN}-{:02x}", u8::from(sampled)));
        }
    }

    #[test]
    fn bad_parents_are_none() {
        for bad in [
            String::new(),
            "00".to_owned(),
            TRACE.to_owned(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("000-{TRACE}-{SPAN}-01"),
            format!("0g-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00_{TRACE}_{SPAN}_01"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!("00-{TRACE}-{SPAN}-\u{e4}"),
            "\u{e4}".repeat(30),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn states_are_taken_whole_or_not_at_all() {
        let many = (0..MEMBERS_MAX).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        for (lines, state) in [
            (&["a=1"][..], Some("a=1")),
            (&["a=1,b@c=2 3", " , d/e*_-=x\t"], Some("a=1,b@c=2 3,d/e*_-=x")),
            (&[&many], Some(&many)),
            (&[], None),
            (&[""], None),
            (&["a"], None),
            (&["a="], None),
            (&["=1"], None),
            (&["A=1"], None),
            (&["_a=1"], None),
            (&["a=1=2"], None),
            (&["a=\u{e4}"], None),
            (&["a=1", "a=2"], None),
            (&["a@b@c=1"], None),
            (&[&many, "one=more"], None),
        ] {
            assert_eq!(read_state(lines.iter().copied()).as_deref(), state, "{lines:?}");
        }
        let (long, short) = (format!("l={}", "x".repeat(LONG)), format!("s={}", "x".repeat(100)));
        let state: Vec<_> = [&long].into_iter().chain(std::iter::repeat_n(&short, 5)).enumerate().collect();
        let state: Vec<_> = state.into_iter().map(|(n, member)| format!("k{n}{member}")).collect();
        let kept = read_state([state.join(",").as_str()]).expect("kept in part");
        assert_eq!(&*kept, state[1..5].join(","), "the long one goes, and then the last");
    }

    #[test]
    fn contexts_are_stored_on_one_line() {
        for state in [None, Some("a=1,b=2 3")] {
            let context = TraceContext { state: state.map(Into::into), ..parse(&format!("00-{TRACE}-{SPAN}-01")).expect("good") };
            assert_eq!(TraceContext::from_text(&context.to_text()), Some(context));
        }
        assert_eq!(TraceContext::from_text(""), None);
    }
}
