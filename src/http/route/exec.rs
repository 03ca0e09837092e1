//! `/api/sessions/{id}/exec`.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::auth::Principal;
use crate::http::App;
use crate::http::body::Pace;
use crate::http::extract::{Id, JSON_MAX, Json, in_range, parse};
use crate::http::kept;
use crate::http::places::{Place, Places};
use crate::http::problem::Failure;
use crate::link::daemon::Input;
use crate::link::shim::{RunEnd, Stream};
use crate::session::SessionError;
use crate::session::exec::{Command, Exec, Piece, signal_name};
use crate::wire::SessionId;
use crate::wire::exec::{COMMAND_MAX, EXEC_TYPE, ExecBody, ExecEnd, ExecPiece, ExecResult, TIMEOUT_DEFAULT_MS, TIMEOUT_MAX_MS};

/// Bytes of each stream of output in an answer that is no stream.
const OUTPUT_MAX: u64 = 10 << 20;
/// Commands at a time, each of which may hold twice as much in memory until its answer is taken.
static EXECS: Places = Places::new(32);
/// A comment is sent after this long without output, as on other streams.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a command reads.
enum Stdin {
    None,
    Whole(String),
    /// What came behind the first line, and what is still to come.
    Rest(Bytes, BodyDataStream),
}

/// The command is killed when its caller goes away: then this is dropped, or its answer is.
pub async fn run(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    request: Request,
) -> Result<Response, Failure> {
    let (body, stdin) = take(request).await?;
    if !(1..=COMMAND_MAX).contains(&body.command.len()) || body.command.contains('\0') {
        return Err(Failure::field("command", format!("has to be 1 to {COMMAND_MAX} bytes without NUL")));
    }
    let timeout = body.timeout.map(|timeout| i64::try_from(timeout).unwrap_or(i64::MAX));
    let timeout = in_range("timeout", timeout, 1..=TIMEOUT_MAX_MS as i64)?.map_or(TIMEOUT_DEFAULT_MS, i64::unsigned_abs);
    let place = EXECS.take(&caller.tenant).ok_or_else(|| Failure::busy("Too many commands are running; try again"))?;
    let command = Command {
        command: body.command,
        timeout: Duration::from_millis(timeout),
        input: !matches!(stdin, Stdin::None),
        output_max: (!body.stream).then_some(OUTPUT_MAX),
        terminal: None,
    };
    let mut exec = app.sessions.exec(&caller.tenant, id, &caller.name, command).await?;
    tracing::info!(session_id = %id, principal = caller.name, "command started");
    if let Some(input) = exec.input.take() {
        tokio::spawn(feed(stdin, input));
    }
    if body.stream { Ok(stream_of(exec, place, app.stop)) } else { Ok(kept::json(whole(exec).await?, place).await) }
}

/// Takes a request apart.
async fn take(request: Request) -> Result<(ExecBody, Stdin), Failure> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    if !kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(EXEC_TYPE) {
        let Json(mut body) = Json::<ExecBody>::from_request(request, &()).await?;
        let stdin = body.stdin.take().map_or(Stdin::None, Stdin::Whole);
        return Ok((body, stdin));
    }
    let mut stream = request.into_body().into_data_stream();
    let (mut line, mut pace) = (Vec::new(), Pace::begin());
    let rest = loop {
        let piece = match pace.wait(stream.next()).await? {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Err(Failure::invalid(format!("The body could not be read: {error}"))),
            None => break Bytes::new(),
        };
        if let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&piece[..end]);
            break piece.slice(end + 1..);
        }
        pace.came(piece.len());
        line.extend_from_slice(&piece);
        if line.len() > JSON_MAX {
            return Err(Failure::too_large(format!("The first line of the body is larger than {JSON_MAX} bytes")));
        }
    };
    let body: ExecBody = parse(&line)?;
    if body.stdin.is_some() {
        return Err(Failure::field("stdin", "is what follows the first line"));
    }
    Ok((body, Stdin::Rest(rest, stream)))
}

/// Gives a command its input, to the end of that. What a command does not read is thrown away, so that
/// the caller gets to hear how it ended.
async fn feed(stdin: Stdin, input: Input) {
    match stdin {
        Stdin::None => {}
        Stdin::Whole(text) => {
            if input.write(text.as_bytes()).await {
                input.end().await;
            }
        }
        Stdin::Rest(rest, mut stream) => {
            let mut is_read = input.write(&rest).await;
            while let Some(piece) = stream.next().await {
                // Without the caller there is no command either.
                let Ok(piece) = piece else { return };
                is_read = is_read && input.write(&piece).await;
            }
            if is_read {
                input.end().await;
            }
        }
    }
}

async fn whole(mut exec: Exec) -> Result<ExecResult, Failure> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(piece) = exec.next().await {
        match piece {
            Piece::Output(Stream::Output, bytes) => keep(&mut stdout, &bytes),
            Piece::Output(Stream::Error, bytes) => keep(&mut stderr, &bytes),
            Piece::Ended(end) => {
                let end = end?;
                let text = |bytes: Vec<u8>| {
                    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
                };
                return Ok(ExecResult { end: shown(end), stdout: text(stdout), stderr: text(stderr), truncated: end.cut });
            }
        }
    }
    Err(SessionError::Closing.into())
}

/// Adds what there is room for: a shim that keeps to what it was told sends no more.
fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = (OUTPUT_MAX as usize).saturating_sub(kept.len());
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

pub(super) fn shown(end: RunEnd) -> ExecEnd {
    let RunEnd { code, signal, timed_out, limit, .. } = end;
    ExecEnd { exit_code: code.unwrap_or(1), signal: signal.map(signal_name), timed_out, limit }
}

struct Streamed {
    exec: Exec,
    _place: Place,
    stop: CancellationToken,
    /// The first bytes of a character of which the rest is to come, for each stream.
    begun: [Vec<u8>; 2],
    is_over: bool,
}

/// Streams what a command writes, at the pace of its reader.
fn stream_of(exec: Exec, place: Place, stop: CancellationToken) -> Response {
    let streamed = Streamed { exec, _place: place, stop, begun: Default::default(), is_over: false };
    let frames = stream::unfold(streamed, |mut streamed| async move {
        let bytes = streamed.next().await?;
        Some((Ok::<_, Infallible>(bytes), streamed))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Tells nginx not to hold frames back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Streamed {
    async fn next(&mut self) -> Option<Bytes> {
        let mut frames = String::new();
        while frames.is_empty() && !self.is_over {
            let next = tokio::select! {
                () = self.stop.cancelled() => Ok(Some(Piece::Ended(Err(SessionError::Closing)))),
                next = tokio::time::timeout(KEEP_ALIVE, self.exec.next()) => next,
            };
            match next {
                Err(_) => return Some(Bytes::from_static(b": keep-alive\n\n")),
                Ok(Some(Piece::Output(stream, bytes))) => self.piece(&mut frames, stream, bytes),
                Ok(Some(Piece::Ended(end))) => {
                    for stream in [Stream::Output, Stream::Error] {
                        let rest = std::mem::take(&mut self.begun[stream as usize - 1]);
                        if !rest.is_empty() {
                            frame(&mut frames, name(stream), &base64(&rest));
                        }
                    }
                    match end {
                        Ok(end) => frame(&mut frames, "exit", &shown(end)),
                        Err(error) => frame(&mut frames, "error", &serde_json::json!({"error": error.to_string()})),
                    }
                    self.is_over = true;
                }
                Ok(None) => self.is_over = true,
            }
        }
        (!frames.is_empty()).then(|| Bytes::from(frames))
    }

    /// As text if it is text. A character that came in part waits for its rest.
    fn piece(&mut self, frames: &mut String, stream: Stream, bytes: Vec<u8>) {
        let begun = &mut self.begun[stream as usize - 1];
        begun.extend(bytes);
        let whole = match std::str::from_utf8(begun) {
            Ok(_) => begun.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return frame(frames, name(stream), &base64(&std::mem::take(begun))),
        };
        let rest = begun.split_off(whole);
        let text = String::from_utf8(std::mem::replace(begun, rest)).unwrap_or_default();
        if !text.is_empty() {
            frame(frames, name(stream), &ExecPiece { text: Some(text), base64: None });
        }
    }
}

fn base64(bytes: &[u8]) -> ExecPiece {
    ExecPiece { text: None, base64: Some(STANDARD.encode(bytes)) }
}

const fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Output => "stdout",
        Stream::Error => "stderr",
    }
}

fn frame(frames: &mut String, event: &str, data: &impl Serialize) {
    let data = serde_json::to_string(data).unwrap_or_default();
    frames.push_str(&format!("event: {event}\ndata: {data}\n\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_first_line_that_does_not_come_is_not_waited_for() {
        let begin = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{\"command\":"))]).chain(stream::pending());
        let request =
            Request::builder().header(header::CONTENT_TYPE, EXEC_TYPE).body(Body::from_stream(begin)).expect("a request");
        let failure = take(request).await.map(|(body, _)| body.command).expect_err("too late");
        assert!(format!("{failure:?}").contains("did not come in time"), "{failure:?}");
    }
}
