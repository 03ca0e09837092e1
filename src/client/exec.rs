//! Commands in the workspace of a session, and what they write as it comes.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::Method;
use hyper::body::Frame as BodyFrame;

use super::error::ConnectCause;
use super::sse::{Frame, Parser};
use super::{Body, Client, ClientError, Download};
use crate::wire::SessionId;
use crate::wire::exec::{EXEC_TYPE, ExecBody, ExecEnd, ExecPiece};

/// A stream without a byte for this long is taken for dead. The daemon sends a comment at least every
/// 15 s.
pub(super) const SILENCE_SECS: u64 = 60;

/// A command that runs. It is killed when this is dropped.
pub struct ExecStream {
    body: Download,
    parser: Parser,
    ready: VecDeque<Frame>,
}

/// What comes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecNews {
    /// It wrote this to its standard output.
    Stdout(Vec<u8>),
    /// It wrote this to its standard error.
    Stderr(Vec<u8>),
    /// It ended; the last that comes.
    Exit(ExecEnd),
    /// It could not be seen to its end; the last that comes.
    Failed(String),
}

impl Client {
    /// `POST /api/sessions/{id}/exec`: runs a command, with what `stdin` brings as its standard input.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn exec(&self, id: SessionId, body: &ExecBody, stdin: Body) -> Result<ExecStream, ClientError> {
        let mut line = serde_json::to_vec(&ExecBody { stream: true, ..body.clone() }).map_err(ClientError::Encode)?;
        line.push(b'\n');
        let head = stream::once(async move { Ok(BodyFrame::data(Bytes::from(line))) });
        let rest = BodyStream::new(stdin);
        let whole = BodyExt::boxed(StreamBody::new(head.chain(rest)));
        let request = self.request(Method::POST, Some((EXEC_TYPE, whole)));
        let answer = self.exchange(&format!("/api/sessions/{id}/exec"), request).await?;
        let body = Download { body: answer.into_body(), server: self.server().clone() };
        Ok(ExecStream { body, parser: Parser::default(), ready: VecDeque::new() })
    }
}

impl ExecStream {
    /// What comes next.
    ///
    /// # Errors
    /// [`ClientError::Broken`] or [`ClientError::Silent`] if the connection breaks before the command has ended; the
    /// command ends then. [`ClientError::Stream`] if what comes is no such stream.
    pub async fn next(&mut self) -> Result<ExecNews, ClientError> {
        loop {
            while let Some(frame) = self.ready.pop_front() {
                let decode = |source| ClientError::Decode { what: format!("the event {}", frame.event), source };
                if let Some(news) = read(&frame).map_err(decode)? {
                    return Ok(news);
                }
            }
            let bytes = tokio::time::timeout(Duration::from_secs(SILENCE_SECS), self.body.next()).await;
            let server = || self.body.server.clone();
            let bytes = bytes.map_err(|_| ClientError::Silent { server: server(), secs: SILENCE_SECS })??;
            let Some(bytes) = bytes else {
                return Err(ClientError::Broken { server: server(), cause: ConnectCause::end_of_stream() });
            };
            let pushed = self.parser.push(&bytes, &mut self.ready);
            pushed.map_err(|source| ClientError::Stream { server: self.body.server.clone(), source })?;
        }
    }
}

/// `None` for what this version does not know.
fn read(frame: &Frame) -> Result<Option<ExecNews>, serde_json::Error> {
    Ok(Some(match frame.event.as_str() {
        "stdout" => ExecNews::Stdout(bytes(&frame.data)?),
        "stderr" => ExecNews::Stderr(bytes(&frame.data)?),
        "exit" => ExecNews::Exit(serde_json::from_str(&frame.data)?),
        "error" => {
            let data: serde_json::Value = serde_json::from_str(&frame.data)?;
            ExecNews::Failed(data["error"].as_str().unwrap_or_default().to_owned())
        }
        _ => return Ok(None),
    }))
}

fn bytes(data: &str) -> Result<Vec<u8>, serde_json::Error> {
    let piece: ExecPiece = serde_json::from_str(data)?;
    match piece.base64 {
        Some(base64) => STANDARD.decode(base64).map_err(serde::de::Error::custom),
        None => Ok(piece.text.unwrap_or_default().into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_text_or_any_bytes_and_what_is_unknown_is_passed_over() {
        let frame = |event: &str, data: &str| read(&Frame { id: None, event: event.to_owned(), data: data.to_owned() });
        let wrote = |news: Result<Option<ExecNews>, serde_json::Error>| news.expect("reads").expect("known");
        assert_eq!(wrote(frame("stdout", r#"{"text":"\u00e4\n"}"#)), ExecNews::Stdout("ä\n".as_bytes().to_vec()));
        assert_eq!(wrote(frame("stderr", r#"{"base64":"/wA="}"#)), ExecNews::Stderr(vec![0xff, 0]));
        let end = ExecEnd { exit_code: 1, signal: Some("SIGKILL".to_owned()), timed_out: true, limit: None };
        assert_eq!(wrote(frame("exit", r#"{"exitCode":1,"signal":"SIGKILL","timedOut":true,"later":1}"#)), ExecNews::Exit(end));
        assert_eq!(wrote(frame("error", r#"{"error":"x"}"#)), ExecNews::Failed("x".to_owned()));
        assert!(frame("later", "{}").expect("reads").is_none());
        assert!(frame("stdout", r#"{"base64":"?"}"#).is_err());
    }
}
