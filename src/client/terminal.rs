//! Commands on a WebSocket, with a terminal in the sandbox.

use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use super::error::ConnectCause;
use super::exec::SILENCE_SECS;
use super::{Client, ClientError, Path, Server};
use crate::wire::SessionId;
use crate::wire::exec::{EXEC_SOCKET, ExecQuery, ExecSaid, ExecTold};

/// What is typed. The command is killed when both ends are dropped.
#[derive(Debug)]
pub struct Typed(SplitSink<Socket, Message>);

/// What is shown.
#[derive(Debug)]
pub struct Shown {
    source: SplitStream<Socket>,
    server: Server,
}

/// What comes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalNews {
    /// It wrote this.
    Bytes(bytes::Bytes),
    /// It ended, or could not be seen to its end; the last that comes.
    Told(ExecTold),
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

impl Client {
    /// `GET /api/sessions/{id}/exec`: runs a command on a WebSocket.
    ///
    /// # Errors
    /// See [`Self::health`]; [`ClientError::Foreign`] also where something between does not let WebSockets through.
    pub async fn terminal(&self, id: SessionId, query: &ExecQuery) -> Result<(Typed, Shown), ClientError> {
        let key = generate_key();
        let mut request = self.request(Method::GET, None);
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
        headers.insert("sec-websocket-protocol", HeaderValue::from_static(EXEC_SOCKET));
        headers.insert("sec-websocket-key", HeaderValue::try_from(&key).map_err(|_| ClientError::Key)?);
        let path = Path::new(format!("/api/sessions/{id}/exec"))
            .with("command", query.command.as_ref())
            .with("tty", query.tty)
            .with("rows", query.rows)
            .with("cols", query.cols)
            .with("term", query.term.as_ref())
            .with("timeout", query.timeout);
        let answer = self.exchange(&path.0, request).await?;
        let accept = derive_accept_key(key.as_bytes());
        let is_accepted = answer.headers().get("sec-websocket-accept").is_some_and(|value| value.as_bytes() == accept.as_bytes());
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS || !is_accepted {
            let (server, status) = (self.server().clone(), answer.status());
            return Err(ClientError::Foreign { server, status, text: "not a WebSocket".to_owned() });
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(|error| self.broken(&error))?;
        let socket: Socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        let (sink, source) = socket.split();
        Ok((Typed(sink), Shown { source, server: self.server().clone() }))
    }

    fn broken(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        ClientError::Broken { server: self.server().clone(), cause: ConnectCause::of(error) }
    }
}

impl Typed {
    /// Types bytes. False if the connection is gone, of which [`Shown::next`] says more.
    pub async fn bytes(&mut self, bytes: bytes::Bytes) -> bool {
        self.0.send(Message::Binary(bytes)).await.is_ok()
    }

    /// Says something about the terminal or the input. False as above.
    pub async fn say(&mut self, said: &ExecSaid) -> bool {
        let text = serde_json::to_string(said).unwrap_or_default();
        self.0.send(Message::text(text)).await.is_ok()
    }
}

impl Shown {
    /// What comes next.
    ///
    /// # Errors
    /// [`ClientError::Broken`] or [`ClientError::Silent`] if the connection breaks before the command has ended, which it does then;
    /// [`ClientError::Decode`] if what comes is not of this protocol.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<TerminalNews, ClientError> {
        loop {
            let broken = |cause| ClientError::Broken { server: self.server.clone(), cause };
            let message = timeout(Duration::from_secs(SILENCE_SECS), self.source.next()).await;
            let message = message.map_err(|_| ClientError::Silent { server: self.server.clone(), secs: SILENCE_SECS })?;
            let message = message.ok_or_else(|| broken(ConnectCause::end_of_stream()))?;
            match message.map_err(|error| broken(ConnectCause::of(&error)))? {
                // The byte before says of which stream it is, which are one on a terminal.
                Message::Binary(bytes) if bytes.len() > 1 => return Ok(TerminalNews::Bytes(bytes.slice(1..))),
                Message::Text(text) => {
                    let decode = |source| ClientError::Decode { what: "the WebSocket".to_owned(), source };
                    return Ok(TerminalNews::Told(serde_json::from_str(&text).map_err(decode)?));
                }
                Message::Close(_) => return Err(broken(ConnectCause::end_of_stream())),
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}
