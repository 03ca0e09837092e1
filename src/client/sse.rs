//! Server-sent events from bytes, in whatever pieces the bytes come.
//!
//! Follows the HTML standard, section 9.2.6 "Interpreting an event stream", but for two things:
//! ids are numbers here, and an id holds for its own frame only.

/// Longest frame that is taken. The daemon's longest are messages with pictures.
pub const MAX_FRAME_BYTES: usize = 128 << 20;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its id in the session's log, the cursor to go on from.
    pub id: Option<i64>,
    /// What it is; `message` if the stream does not say.
    pub event: String,
    /// Its lines of data, joined by line feeds.
    pub data: String,
}

/// A stream that holds a frame longer than [`MAX_FRAME_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of the stream is longer than {MAX_FRAME_BYTES} bytes")]
pub struct TooLong;

/// Turns bytes into frames.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The line before ended in CR, so an LF now belongs to it.
    after_cr: bool,
    begun: bool,
    id: Option<i64>,
    event: String,
    data: Option<String>,
}

impl Parser {
    /// Takes the next bytes of the stream and appends the frames that they complete to `out`.
    ///
    /// # Errors
    /// [`TooLong`]; the parser is of no use after that.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut impl Extend<Frame>) -> Result<(), TooLong> {
        while let Some((&first, rest)) = bytes.split_first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = rest;
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
            self.line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > MAX_FRAME_BYTES {
                return Err(TooLong);
            }
            let Some(end) = end else { return Ok(()) };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            out.extend(self.line(&line));
        }
        Ok(())
    }

    fn line(&mut self, mut line: &[u8]) -> Option<Frame> {
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            let (id, event) = (self.id.take(), std::mem::take(&mut self.event));
            let event = if event.is_empty() { "message".into() } else { event };
            return self.data.take().map(|data| Frame { id, event, data });
        }
        let text = String::from_utf8_lossy(line);
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event = value.to_owned(),
            "id" => self.id = value.parse().ok(),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments keep the connection alive; `retry` is the daemon's wish for browsers.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(chunks: &[&[u8]]) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut parser = Parser::default();
        for chunk in chunks {
            parser.push(chunk, &mut frames).expect("short frames");
        }
        frames
    }

    fn frame(id: Option<i64>, event: &str, data: &str) -> Frame {
        Frame { id, event: event.into(), data: data.into() }
    }

    #[test]
    fn frames_read_as_the_standard_says() {
        let cases: &[(&str, &[Frame])] = &[
            ("", &[]),
            ("event: done\ndata: {}\n\n", &[frame(None, "done", "{}")]),
            ("id: 7\nevent: done\ndata: {}\n\n", &[frame(Some(7), "done", "{}")]),
            ("id:7\nevent:done\ndata:{}\n\n", &[frame(Some(7), "done", "{}")]),
            ("data: a\n\n", &[frame(None, "message", "a")]),
            ("data:  a \n\n", &[frame(None, "message", " a ")]),
            ("data: a\ndata: b\ndata\n\n", &[frame(None, "message", "a\nb\n")]),
            ("data: {\"a\": \"b:c\"}\n\n", &[frame(None, "message", "{\"a\": \"b:c\"}")]),
            ("event: x\r\ndata: a\r\n\r\ndata: b\r\n\r\n", &[frame(None, "x", "a"), frame(None, "message", "b")]),
            ("event: x\rdata: a\r\rdata: b\r\r", &[frame(None, "x", "a"), frame(None, "message", "b")]),
            (": keep-alive\n\ndata: a\n\n: again\n\n", &[frame(None, "message", "a")]),
            ("event: x\n\ndata: a\n\n", &[frame(None, "message", "a")]),
            ("id: 1\ndata: a\n\ndata: b\n\n", &[frame(Some(1), "message", "a"), frame(None, "message", "b")]),
            ("id: x\nretry: 10\nfoo: bar\ndata: a\n\n", &[frame(None, "message", "a")]),
            ("data\n\n", &[frame(None, "message", "")]),
            ("data: cut", &[]),
            ("data: cut\n", &[]),
            ("\u{feff}data: a\n\n", &[frame(None, "message", "a")]),
        ];
        for (text, frames) in cases {
            assert_eq!(parse(&[text.as_bytes()]), *frames, "{text:?}");
        }
    }

    proptest! {
        /// Where the network cuts the stream changes nothing, also within a CRLF and a letter.
        #[test]
        fn any_cutting_gives_the_same_frames(
            lines in prop::collection::vec("(|:[ä ]*|id: ?[0-9]{1,3}|event: [a-z]{1,4}|data: ?[aä€😀:]{0,6}|data)(\n|\r\n|\r)", 0..40),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let text = lines.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
            prop_assert_eq!(parse(&chunks), parse(&[text.as_bytes()]));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&[&bytes]);
        }
    }
}
