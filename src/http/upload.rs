//! Bodies that are read as they come, on a thread that may wait.

use std::io::{self, Read};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::places::{Place, Places};
use super::problem::Failure;

/// Uploads at a time. Each holds a thread until it has come, and others need threads as well.
static UPLOADS: Places = Places::new(64);
/// How long an upload may bring nothing.
const PIECE_DEADLINE: Duration = Duration::from_secs(30);
/// Pieces of an upload that wait between the connection and its reader.
const PIECES: usize = 4;

/// A body, to be read where blocking is allowed. It is given up when dropped.
#[derive(Debug)]
pub struct Upload {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    receiving: JoinHandle<()>,
    _place: Place,
}

impl Upload {
    /// Begins to receive a body, if there is room for one more.
    pub fn begin(tenant: &str, body: Body) -> Result<Self, Failure> {
        let place = UPLOADS.take(tenant).ok_or_else(|| Failure::busy("Too many uploads are under way; try again"))?;
        let (sender, pieces) = mpsc::channel(PIECES);
        let receiving = tokio::spawn(receive(body, sender));
        Ok(Self { pieces, piece: Bytes::new(), receiving, _place: place })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

/// Hands the body's pieces on; stops when nobody takes them any more.
async fn receive(mut body: Body, pieces: mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let piece = match tokio::time::timeout(PIECE_DEADLINE, body.frame()).await {
            Ok(None) => return,
            Ok(Some(Ok(frame))) => frame.into_data().map_err(|_| io::ErrorKind::InvalidData.into()),
            Ok(Some(Err(error))) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

impl Read for Upload {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let taken = self.piece.len().min(into.len());
        into[..taken].copy_from_slice(&self.piece.split_to(taken));
        Ok(taken)
    }
}
