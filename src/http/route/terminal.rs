//! `GET /api/sessions/{id}/exec`: a command on a WebSocket, with a terminal if it is to have one.
//!
//! ```text
//! client ── binary: typed, text: ExecSaid ──▶ hear ──▶ Input
//! client ◀── binary: a byte and what was written, text: ExecTold ── show ◀── Exec
//! ```
//!
//! Whatever goes wrong before the command runs is an ordinary answer. Then the connection belongs to the
//! command: it ends with it, and the command with the connection.

use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::{BufMut, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio::time::{interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as SocketError;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::exec::shown;
use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Params, in_range};
use crate::http::handover::{HandedOver, Handover, Stream as Bytestream};
use crate::http::places::{Place, Places};
use crate::http::problem::Failure;
use crate::link::daemon::Input;
use crate::link::shim::Stream;
use crate::report::chain;
use crate::session::SessionError;
use crate::session::exec::{Command, Exec, Piece};
use crate::wire::SessionId;
use crate::wire::exec::{
    EXEC_SOCKET, ExecQuery, ExecSaid, ExecTold, QUERY_COMMAND_MAX, SHELL, SOCKET_MESSAGE_MAX, SOCKET_TIMEOUT_MAX_MS, STDERR,
    STDOUT,
};
use crate::wire::terminal::{TERM_MAX, Terminal, TerminalSize, is_term};

/// Commands on WebSockets at a time.
static SOCKETS: Places = Places::new(64);
/// What most terminals can be taken for.
const TERM: &str = "xterm-256color";
/// How often the client is asked whether it is there.
const PING: Duration = Duration::from_secs(15);
/// A client of which nothing comes for this long is taken for gone.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes that wait to be sent. More of one piece of output than this there is not.
const UNSENT_MAX: usize = 4 << 20;
/// How long the last words may take to be sent and answered.
const FAREWELL: Duration = Duration::from_secs(5);
/// The header in which a client offers subprotocols, and the server names its choice.
const PROTOCOLS: &str = "sec-websocket-protocol";

type Socket = WebSocketStream<Pin<Box<dyn Bytestream>>>;

/// The command is killed when the connection breaks.
pub async fn open(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Params(query): Params<ExecQuery>,
    Extension(handover): Extension<Handover>,
    request: Request,
) -> Result<Response, Failure> {
    // Also who asks wrongly learns nothing of other people's sessions.
    app.sessions.get(&caller.tenant, id).await?;
    let command = command(query)?;
    let request = request.map(drop);
    let response = create_response_with_body(&request, Body::empty);
    let mut response = response.map_err(|e| Failure::invalid(format!("This route is a WebSocket, RFC 6455: {e}")))?;
    if offers(request.headers()) {
        response.headers_mut().insert(PROTOCOLS, HeaderValue::from_static(EXEC_SOCKET));
    }
    let place = SOCKETS.take(&caller.tenant).ok_or_else(|| Failure::busy("Too many commands are running; try again"))?;
    let exec = app.sessions.exec(&caller.tenant, id, &caller.name, command).await?;
    tracing::info!(session_id = %id, principal = caller.name, "command started");
    let over = app.keys.over(&caller);
    tokio::spawn(run(handover.ask(), exec, place, app.stop, over));
    Ok(response)
}

/// A client that offers none speaks it all the same.
fn offers(headers: &HeaderMap) -> bool {
    let offered = headers.get_all(PROTOCOLS).into_iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).any(|one| one.trim() == EXEC_SOCKET)
}

fn command(query: ExecQuery) -> Result<Command, Failure> {
    let command = query.command.unwrap_or_else(|| SHELL.to_owned());
    if !(1..=QUERY_COMMAND_MAX).contains(&command.len()) || command.contains('\0') {
        return Err(Failure::field("command", format!("has to be 1 to {QUERY_COMMAND_MAX} bytes without NUL")));
    }
    let asked = query.timeout.map(|timeout| i64::try_from(timeout).unwrap_or(i64::MAX));
    let millis = in_range("timeout", asked, 1..=SOCKET_TIMEOUT_MAX_MS as i64)?.map_or(SOCKET_TIMEOUT_MAX_MS, i64::unsigned_abs);
    let default = TerminalSize::default();
    let size = TerminalSize { rows: query.rows.unwrap_or(default.rows), cols: query.cols.unwrap_or(default.cols) };
    for (field, count) in [("rows", size.rows), ("cols", size.cols)] {
        if count == 0 {
            return Err(Failure::field(field, format!("has to be from 1 to {}", u16::MAX)));
        }
    }
    let term = query.term.unwrap_or_else(|| TERM.to_owned());
    if !is_term(&term) {
        return Err(Failure::field("term", format!("has to be 1 to {TERM_MAX} letters, digits and +-._")));
    }
    let terminal = query.tty.unwrap_or(true).then_some(Terminal { size, term });
    Ok(Command { command, timeout: Duration::from_millis(millis), input: true, output_max: None, terminal })
}

/// Speaks with the client to the end of the command, or of the connection.
async fn run(
    asked: oneshot::Receiver<HandedOver>,
    exec: Exec,
    place: Place,
    stop: CancellationToken,
    over: impl Future<Output = ()>,
) {
    // Without its connection the command ends.
    let Ok(HandedOver { stream, read, held }) = asked.await else { return };
    let limits = WebSocketConfig::default()
        .max_message_size(Some(SOCKET_MESSAGE_MAX))
        .max_frame_size(Some(SOCKET_MESSAGE_MAX))
        // Also answers to pings of a client that reads nothing gather there.
        .max_write_buffer_size(UNSENT_MAX);
    let socket: Socket = WebSocketStream::from_partially_read(stream, read.to_vec(), Role::Server, Some(limits)).await;
    let (mut sink, mut source) = socket.split();
    let (input, mut exec) = exec.split();
    let told = tokio::select! {
        told = show(&mut sink, &mut exec) => told,
        told = hear(&mut source, input) => told,
        () = over => Some(ExecTold::Error("The API key is revoked or has expired".to_owned())),
        () = stop.cancelled() => Some(ExecTold::Error(SessionError::Closing.to_string())),
    };
    drop(exec);
    if let Some(told) = told {
        // Whoever does not take it in time is gone.
        let _late = timeout(FAREWELL, part(sink, source, &told)).await;
    }
    drop((held, place));
}

/// Passes on what the command writes. `None` if the client is gone.
async fn show(sink: &mut SplitSink<Socket, Message>, exec: &mut Exec) -> Option<ExecTold> {
    let mut ping = interval(PING);
    loop {
        let message = tokio::select! {
            piece = exec.next() => match piece {
                Some(Piece::Output(stream, bytes)) => {
                    let mut message = BytesMut::with_capacity(bytes.len() + 1);
                    message.put_u8(match stream {
                        Stream::Output => STDOUT,
                        Stream::Error => STDERR,
                    });
                    message.extend_from_slice(&bytes);
                    Message::Binary(message.freeze())
                }
                Some(Piece::Ended(Ok(end))) => return Some(ExecTold::Exit(shown(end))),
                Some(Piece::Ended(Err(error))) => return Some(ExecTold::Error(chain(&error))),
                None => return Some(ExecTold::Error(SessionError::Closing.to_string())),
            },
            _ = ping.tick() => Message::Ping(Default::default()),
        };
        if sink.send(message).await.is_err() {
            return None;
        }
    }
}

/// Takes what the client says, until it is gone (`None`) or says nonsense.
async fn hear(source: &mut SplitStream<Socket>, input: Option<Input>) -> Option<ExecTold> {
    let mut input = input;
    loop {
        let said = match timeout(SILENCE, source.next()).await {
            Ok(Some(Ok(said))) => said,
            Ok(Some(Err(SocketError::Capacity(error)))) => return Some(ExecTold::Error(error.to_string())),
            Ok(Some(Err(_)) | None) | Err(_) => return None,
        };
        match said {
            Message::Binary(bytes) => {
                // Nobody may read it any more, which the end of the command tells.
                if let Some(input) = &input {
                    input.write(&bytes).await;
                }
            }
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(ExecSaid::Resize(size)) if size.is_some() => {
                    if let Some(input) = &input {
                        input.resize(size).await;
                    }
                }
                Ok(ExecSaid::Resize(_)) => {
                    return Some(ExecTold::Error("resize: rows and cols have to be at least 1".to_owned()));
                }
                Ok(ExecSaid::End(_)) => {
                    if let Some(input) = input.take() {
                        input.end().await;
                    }
                }
                Err(error) => return Some(ExecTold::Error(format!("a text message can not be read: {error}"))),
            },
            Message::Close(_) => return None,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// Says the last words and goodbye, and reads to the end of the connection, also what can not be understood: one
/// that is closed with something unread takes the last words with it.
async fn part(mut sink: SplitSink<Socket, Message>, source: SplitStream<Socket>, told: &ExecTold) -> Option<()> {
    let text = serde_json::to_string(told).ok()?;
    sink.send(Message::text(text)).await.ok()?;
    sink.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Default::default() }))).await.ok()?;
    let mut stream = sink.reunite(source).ok()?.into_inner();
    stream.shutdown().await.ok()?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop).ok()
}
