//! One long text out of a body of JSON, without keeping it.

use std::io::{self, BufReader, Read};

use serde::Deserialize;

/// Bytes of the body beside the text.
const REST_MAX: usize = 64 << 10;
/// Bytes of the body that are read at once.
const BUFFER: usize = 64 << 10;

/// Why a body is not what it should be. The texts are whole sentences without a full stop.
#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    /// It does not come.
    #[error("The body could not be read: {0}")]
    Read(#[from] io::Error),
    /// It is no JSON, or has not the one field once.
    #[error("The body is not what this route takes: {0}")]
    Json(#[from] serde_json::Error),
    /// What stands in its place is no text.
    #[error("bundle: {0}")]
    NoText(serde_json::Error),
    /// There is much beside the text.
    #[error("The body has more than {REST_MAX} bytes beside \"bundle\"")]
    Rest,
    /// The text has an escape in it that base64 has no need of.
    #[error("bundle: is not base64")]
    Escape,
}

/// The text of the field `bundle`: what is read from this is its characters. Everything else of the
/// body is kept, to be looked at when the text has come: with an empty text in its place it has to be
/// the JSON that is wanted.
#[derive(Debug)]
pub struct Bundle<R> {
    body: BufReader<R>,
    /// The body without the text.
    rest: Vec<u8>,
    state: State,
    failure: Option<FieldError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    Within,
    After,
}

/// What the body is but for the text.
#[derive(Debug, Deserialize)]
struct Shape {
    bundle: String,
}

impl<R: Read> Bundle<R> {
    /// Reads from the beginning of a body.
    pub fn new(body: R) -> Self {
        Self { body: BufReader::with_capacity(BUFFER, body), rest: Vec::new(), state: State::Before, failure: None }
    }

    /// Reads what follows the text, and says whether the body was what it should be. `read` tells what
    /// came of reading the text; where that failed here, what failed is said.
    pub fn finish(mut self, read: io::Result<u64>) -> Result<u64, FieldError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let read = read?;
        if self.state == State::Within {
            return Err(FieldError::Escape);
        }
        while let Some(byte) = self.byte()? {
            self.keep(byte)?;
        }
        let mut rest = serde_json::Deserializer::from_slice(&self.rest);
        let shape: Shape =
            serde_path_to_error::deserialize(&mut rest).map_err(|error| match error.path().to_string().as_str() {
                "bundle" => FieldError::NoText(error.into_inner()),
                _ => FieldError::Json(error.into_inner()),
            })?;
        rest.end()?;
        // One that was written so that it was not seen, with escapes in the name.
        if shape.bundle.is_empty() { Ok(read) } else { Err(FieldError::Escape) }
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        loop {
            match self.body.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(byte[0])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn keep(&mut self, byte: u8) -> Result<(), FieldError> {
        if self.rest.len() >= REST_MAX {
            return Err(FieldError::Rest);
        }
        self.rest.push(byte);
        Ok(())
    }

    /// Goes to the beginning of the text, or to the end of a body without it. What is no JSON may
    /// mislead this, and is found out in the end.
    fn seek(&mut self) -> Result<(), FieldError> {
        const NAME: &[u8] = b"\"bundle\"";
        let (mut depth, mut name_from, mut is_name) = (0_u32, 0, false);
        while let Some(byte) = self.byte()? {
            self.keep(byte)?;
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b'"' if is_name && depth == 1 => {
                    self.state = State::Within;
                    return Ok(());
                }
                b'"' => {
                    name_from = self.rest.len() - 1;
                    self.string()?;
                }
                b':' => {
                    is_name = self.rest[name_from..].starts_with(NAME);
                    continue;
                }
                byte if byte.is_ascii_whitespace() => continue,
                _ => {}
            }
            is_name = false;
        }
        self.state = State::After;
        Ok(())
    }

    /// Keeps the rest of a text.
    fn string(&mut self) -> Result<(), FieldError> {
        let mut is_escaped = false;
        while let Some(byte) = self.byte()? {
            self.keep(byte)?;
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<usize, FieldError> {
        if self.state == State::Before {
            self.seek()?;
        }
        let mut count = 0;
        while count < into.len() && self.state == State::Within {
            match self.byte()? {
                Some(b'"') => {
                    self.keep(b'"')?;
                    self.state = State::After;
                }
                // Some writers escape the slash, which base64 has.
                Some(b'\\') => match self.byte()? {
                    Some(b'/') => {
                        into[count] = b'/';
                        count += 1;
                    }
                    _ => return Err(FieldError::Escape),
                },
                Some(byte) => {
                    into[count] = byte;
                    count += 1;
                }
                None => self.state = State::After,
            }
        }
        Ok(count)
    }
}

impl<R: Read> Read for Bundle<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.fill(into).map_err(|error| {
            self.failure = Some(error);
            io::ErrorKind::InvalidData.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<String, String> {
        let mut field = Bundle::new(body.as_bytes());
        let mut text = String::new();
        let outcome = field.read_to_string(&mut text).map(|count| count as u64);
        field.finish(outcome).map(|_| text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_text_comes_out_wherever_it_stands() {
        for body in [
            r#"{"bundle":"a/b+c="}"#,
            r#" { "x" : {"bundle": "no", "y": ["bundle", ":"]}, "bundle"  :  "a\/b+c=" , "z": 1 } "#,
            r#"{"text":"\"bundle\":\"no\"","bundle":"a/b+c="}"#,
        ] {
            assert_eq!(read(body).as_deref(), Ok("a/b+c="), "{body}");
        }
        let long = "A".repeat(1 << 20);
        assert_eq!(read(&format!("{{\"bundle\":\"{long}\"}}")), Ok(long), "it does not count as the rest");
    }

    #[test]
    fn what_is_not_such_a_body_is_refused() {
        for (body, reason) in [
            ("", "EOF"),
            ("{}", "missing field `bundle`"),
            (r#"{"bundle":1}"#, "bundle: invalid type"),
            (r#"{"bundle":"a""#, "EOF"),
            (r#"{"bundle":"a"#, "EOF"),
            (r#"{"bundle":"a"} x"#, "trailing"),
            (r#"{"bundle":"a","bundle":"b"}"#, "duplicate field"),
            (r#"{"bundle":"a\u0041"}"#, "bundle: is not base64"),
            (r#"{"bu\u006edle":"a"}"#, "bundle: is not base64"),
            (r#"["bundle":"a"]"#, "trailing"),
        ] {
            let said = read(body).expect_err(body);
            assert!(said.contains(reason), "{body}: {said}");
        }
        let long = format!("{{\"x\":\"{}\"}}", "A".repeat(1 << 20));
        assert!(read(&long).expect_err("too long").contains("beside"));
    }
}
