//! Streams that end by themselves, and streams whose first bytes were read before.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Entry;
use super::meter::Meter;

/// A stream that breaks when it is idle for too long, and, where that is set, when it is cut or the
/// budget is used up. Its bytes pass no faster than the meter lets them.
///
/// Idle counts from the last byte in either direction. So a peer that does not read holds a
/// connection no longer than one that does not write.
#[derive(Debug)]
pub struct Guarded<S> {
    inner: S,
    idle: Duration,
    idle_at: Pin<Box<Sleep>>,
    outside: Option<Outer>,
}

#[derive(Debug)]
struct Outer {
    meter: Arc<Meter>,
    /// `None` once it was cut.
    cut: Option<oneshot::Receiver<()>>,
    /// Set while nothing more may pass.
    pause: Option<Pin<Box<Sleep>>>,
    _entry: Entry,
}

impl<S> Guarded<S> {
    /// A stream of somebody inside.
    pub fn inside(inner: S, idle: Duration) -> Self {
        Self { inner, idle, idle_at: Box::pin(sleep_until(Instant::now() + idle)), outside: None }
    }

    /// A stream to the outside, which is cut when the other end of `cut` is dropped.
    pub fn outside(inner: S, idle: Duration, meter: Arc<Meter>, cut: oneshot::Receiver<()>, entry: Entry) -> Self {
        Self { outside: Some(Outer { meter, cut: Some(cut), pause: None, _entry: entry }), ..Self::inside(inner, idle) }
    }

    /// What goes before each operation: an error if the stream is over.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(outside) = &mut self.outside {
            outside.cut.take_if(|cut| Pin::new(cut).poll(cx).is_ready());
            if outside.cut.is_none() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "not allowed any more")));
            }
            outside.meter.check().map_err(io::Error::other)?;
            if let Some(pause) = &mut outside.pause {
                ready!(pause.as_mut().poll(cx));
                outside.pause = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What goes after each operation that did not end at once.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.idle_at.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, format!("nothing passed for {} s", self.idle.as_secs_f32())))
    }

    fn passed(&mut self, bytes: usize) {
        let now = Instant::now();
        self.idle_at.as_mut().reset(now + self.idle);
        if let Some(outside) = &mut self.outside {
            let pause = outside.meter.pass(bytes, now);
            if !pause.is_zero() {
                outside.pause = Some(Box::pin(sleep_until(now + pause)));
                // The time of the meter is no idle time.
                self.idle_at.as_mut().reset(now + pause + self.idle);
            }
        }
    }
}

/// What is put around it for TLS asks for this (hyper-rustls).
impl Connection for Guarded<TcpStream> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_ready(cx))?;
        let before = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buffer) {
            Poll::Ready(read) => {
                read?;
                this.passed(buffer.filled().len() - before);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => this.poll_idle(cx).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_ready(cx))?;
        match Pin::new(&mut this.inner).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                let written = written?;
                this.passed(written);
                Poll::Ready(Ok(written))
            }
            Poll::Pending => this.poll_idle(cx).map(Err),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// A stream of which the first bytes were read before.
pub struct Rewound<S> {
    head: Bytes,
    inner: S,
}

impl<S> Rewound<S> {
    /// The stream with those bytes before it.
    pub fn new(head: impl Into<Bytes>, inner: S) -> Self {
        Self { head: head.into(), inner }
    }
}

impl<S> fmt::Debug for Rewound<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewound").field("head", &self.head.len()).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.head.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buffer);
        }
        let count = this.head.len().min(buffer.remaining());
        buffer.put_slice(&this.head[..count]);
        this.head.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
