//! A plain HTTP/1.1 client that shows bytes as they came, so that framing can be compared.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// Where to connect.
#[derive(Debug, Clone)]
pub enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// Its status; 0 if there was no answer.
    pub status: u16,
    /// Its head.
    pub head: String,
    /// Its body, chunks joined.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether there was an answer with status 200.
    pub fn ok_status(&self) -> bool {
        self.status == 200
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// A connection.
pub trait Stream: Read + Write + Send {
    /// Another handle of it, for another thread.
    fn again(&self) -> std::io::Result<Box<dyn Stream>>;
    /// Ends it in both directions.
    fn cut(&self);
}

impl Stream for TcpStream {
    fn again(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn cut(&self) {
        // It may have ended by itself.
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Stream for UnixStream {
    fn again(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn cut(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// Connects.
pub fn connect(target: &Target) -> std::io::Result<Box<dyn Stream>> {
    // Longer than any turn of a test; only a hang is cut by it.
    let limit = Some(Duration::from_secs(120));
    match target {
        Target::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(limit)?;
            Ok(Box::new(stream))
        }
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(limit)?;
            Ok(Box::new(stream))
        }
    }
}

/// An answer whose body is still coming.
pub struct Open {
    /// Its head.
    pub head: String,
    reader: BufReader<Box<dyn Stream>>,
    chunked: bool,
    /// Bytes of the present chunk that have not come yet; `None` before the first chunk.
    left: Option<usize>,
}

/// Sends a request and reads the head of its answer.
pub fn open(target: &Target, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> std::io::Result<Open> {
    let mut stream = connect(target)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    // A server that refuses a body early may close before it has all of it.
    let _ = body.map(|body| stream.write_all(body));
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok(Open { head, reader, chunked, left: None })
}

impl Open {
    /// What has come of the body by now, also a part of a chunk; empty at its end.
    pub fn piece(&mut self) -> std::io::Result<Vec<u8>> {
        if !self.chunked {
            let mut bytes = Vec::new();
            self.reader.read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
        if self.left.unwrap_or(0) == 0 {
            if self.left.is_some() {
                self.line()?;
            }
            let line = self.line()?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            self.left = Some(size);
            if size == 0 {
                return Ok(Vec::new());
            }
        }
        let (come, left) = (self.reader.fill_buf()?, self.left.unwrap_or(0));
        if come.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = come[..come.len().min(left)].to_vec();
        self.reader.consume(bytes.len());
        self.left = Some(left - bytes.len());
        Ok(bytes)
    }

    /// A whole line of the framing.
    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        if line.ends_with('\n') { Ok(line) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }

    /// The next chunk of the body; empty at its end.
    pub fn chunk(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = self.piece()?;
        while self.left.unwrap_or(0) > 0 {
            bytes.extend(self.piece()?);
        }
        Ok(bytes)
    }

    /// Reads on until what came contains `text`, and returns all that came.
    pub fn until(&mut self, text: &str) -> String {
        let mut all = Vec::new();
        loop {
            let chunk = self.chunk().unwrap_or_else(|e| panic!("the stream broke before {text:?}: {e}"));
            assert!(!chunk.is_empty(), "the stream ended before {text:?}: {}", String::from_utf8_lossy(&all));
            all.extend(chunk);
            if String::from_utf8_lossy(&all).contains(text) {
                return String::from_utf8_lossy(&all).into_owned();
            }
        }
    }

    /// The whole answer.
    pub fn finish(mut self) -> Response {
        let status = self.head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut body = Vec::new();
        while let Ok(chunk) = self.chunk() {
            if chunk.is_empty() {
                break;
            }
            body.extend(chunk);
        }
        Response { status, head: self.head, body }
    }
}

/// Sends a request and reads its whole answer. Without an answer the status is 0.
pub fn request(target: &Target, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Response {
    match open(target, method, path, headers, body) {
        Ok(open) => open.finish(),
        Err(error) => Response { status: 0, head: error.to_string(), body: Vec::new() },
    }
}

/// A frame of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: Value,
}

/// Reads frames as the strictest published client does: `event: ` and `data: ` with the space, data
/// on one line, and an empty line after.
pub fn events(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for frame in text.split_terminator("\n\n") {
        let line = |start: &str| frame.lines().find_map(|line| line.strip_prefix(start));
        if frame.starts_with(':') || frame.starts_with("retry: ") {
            continue;
        }
        let (id, name, data) = (line("id: ").expect(frame), line("event: ").expect(frame), line("data: ").expect(frame));
        assert_eq!(frame.lines().count(), 3, "{frame}");
        let data = serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"));
        events.push(Event { id: id.parse().expect(id), name: name.to_owned(), data });
    }
    events
}

/// Puts frames together from what comes in pieces. What is cut off in mid frame is no event.
#[derive(Debug, Default)]
pub struct Frames {
    rest: Vec<u8>,
}

impl Frames {
    /// The events that are whole now.
    pub fn take(&mut self, piece: &[u8]) -> Vec<Event> {
        // The end of a frame may have come half before.
        let known = self.rest.len().saturating_sub(1);
        self.rest.extend_from_slice(piece);
        let Some(end) = self.rest[known..].windows(2).rposition(|end| end == b"\n\n") else { return Vec::new() };
        let whole: Vec<u8> = self.rest.drain(..known + end + 2).collect();
        events(&String::from_utf8_lossy(&whole))
    }
}

/// The names of events.
pub fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

/// The text of the answer: what the result says.
pub fn result(events: &[Event]) -> String {
    let complete = events.iter().find(|event| event.name == "turn_complete");
    complete.and_then(|event| event.data["result"].as_str()).unwrap_or_default().to_owned()
}
