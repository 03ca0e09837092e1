//! Connections that stop speaking HTTP: a request asks for its connection, answers 101, and gets it when the
//! answer is sent.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

/// Bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// A connection that was handed over.
pub struct HandedOver {
    /// The connection. Its place among the connections is free when this is dropped.
    pub stream: Pin<Box<dyn Stream>>,
    /// What came behind the request already.
    pub read: Bytes,
    /// Tells the server of the drop.
    pub held: oneshot::Sender<()>,
}

/// By which the requests of one connection ask for it.
#[derive(Debug, Clone, Default)]
pub struct Handover(Arc<Mutex<Option<oneshot::Sender<HandedOver>>>>);

impl Handover {
    /// Asks for the connection. It comes when the answer to this request is sent, unless it breaks before.
    pub fn ask(&self) -> oneshot::Receiver<HandedOver> {
        let (asked, handed) = oneshot::channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        handed
    }

    /// Hands the connection over, if a request asked for it and still wants it, and waits until it is not held
    /// any more. Otherwise it comes back.
    pub async fn give<S: Stream + 'static>(self, stream: S, read: Bytes) -> Option<S> {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(asked) = asked.filter(|asked| !asked.is_closed()) else { return Some(stream) };
        let (held, dropped) = oneshot::channel();
        // Whoever asked is gone, and the connection with it.
        let _gone = asked.send(HandedOver { stream: Box::pin(stream), read, held });
        // It is an error by design: it is dropped.
        let _over = dropped.await;
        None
    }
}

impl fmt::Debug for HandedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandedOver").field("read", &self.read.len()).finish_non_exhaustive()
    }
}
