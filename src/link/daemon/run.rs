//! Programs that a shim runs for the daemon.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::{LinkError, Pending, Said, ShimHandle};
use crate::link::frame;
use crate::link::shim::{INPUT_CREDIT, LogLine, Op, RUN_PROTOCOL, Run, RunEnd, Stream, TERMINAL_PROTOCOL, ToShim};
use crate::wire::terminal::TerminalSize;

/// A program that runs inside. Its process group is killed when `output` is dropped before its end.
#[derive(Debug)]
pub struct Running<E> {
    /// Its output as it comes.
    pub output: Output,
    /// Its input, if it has one; dropped, the input ends.
    pub input: Option<Input>,
    /// How it ends. Comes after its output.
    pub end: E,
}

/// What a program writes.
#[derive(Debug)]
pub struct Output(mpsc::Receiver<Vec<u8>>);

/// What a program reads. Without a word it goes on as if more were to come.
#[derive(Debug)]
pub struct Input {
    shim: ShimHandle,
    op: Op,
    credit: Arc<Semaphore>,
}

impl Output {
    /// The next piece of its output, which is not empty; `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<(Stream, Vec<u8>)> {
        loop {
            let mut part = self.0.recv().await?;
            // One without a name is of a shim that is newer than this daemon.
            if let Some(stream) = part.first().copied().and_then(Stream::named) {
                part.remove(0);
                return Some((stream, part));
            }
        }
    }
}

impl Input {
    /// Sends bytes, and waits while the program does not read. False if nobody reads it any more.
    pub async fn write(&self, bytes: &[u8]) -> bool {
        for piece in bytes.chunks(frame::CHUNK) {
            if !self.part(piece).await {
                return false;
            }
        }
        true
    }

    /// Changes the size of the terminal, if the program has one.
    pub async fn resize(&self, size: TerminalSize) {
        // One that is gone has none.
        let _gone = self.shim.send(&ToShim::Resize { op: self.op, size }).await;
    }

    /// Ends the input.
    pub async fn end(self) {
        // One that nobody reads needs no end.
        let _gone = self.part(&[]).await;
    }

    async fn part(&self, bytes: &[u8]) -> bool {
        let Ok(permit) = self.credit.acquire().await else { return false };
        permit.forget();
        match frame::encode_part(self.op, bytes) {
            Ok(part) => self.shim.frames.send(part).await.is_ok(),
            Err(_) => false,
        }
    }
}

impl Pending {
    pub(super) fn wants(&self, op: Op, parts: u32) {
        let Ok(waiting) = self.waiting.lock() else { return };
        if let Some(credit) = waiting.as_ref().and_then(|waiting| waiting.inputs.get(&op)) {
            // One that asks for more than it can take gets no more than the semaphore holds.
            let room = Semaphore::MAX_PERMITS - credit.available_permits();
            credit.add_permits(room.min(parts as usize));
        }
    }

    fn input_of(&self, op: Op) -> Result<Arc<Semaphore>, LinkError> {
        let credit = Arc::new(Semaphore::new(INPUT_CREDIT as usize));
        let mut waiting = self.waiting.lock().map_err(|_| LinkError::Closed)?;
        waiting.as_mut().ok_or(LinkError::Closed)?.inputs.insert(op, credit.clone());
        Ok(credit)
    }
}

impl ShimHandle {
    /// The last lines that were said in the sandbox, those behind the one of this index.
    ///
    /// # Errors
    ///
    /// [`LinkError::Old`], [`LinkError::Closed`], [`LinkError::Frame`].
    pub async fn logs(&self, after: Option<u64>) -> Result<Vec<LogLine>, LinkError> {
        if self.protocol < RUN_PROTOCOL {
            return Err(LinkError::Old);
        }
        match self.begin(|op| ToShim::Logs { op, after }).await?.0.await.map_err(|_| LinkError::Closed)?? {
            Said::Logs(lines) => Ok(lines),
            Said::Done | Said::Packed(_) | Said::Ended(_) => Err(LinkError::Closed),
        }
    }

    /// Runs a program inside. Its output ends in any case; how it ended is said by [`Running::end`]. A
    /// taker that is slow holds up the program, and nothing else.
    ///
    /// # Errors
    ///
    /// [`LinkError::Old`], [`LinkError::Closed`], [`LinkError::Frame`]; of the end also [`LinkError::Failed`].
    pub async fn run(
        &self,
        run: Run,
    ) -> Result<Running<impl Future<Output = Result<RunEnd, LinkError>> + Send + use<>>, LinkError> {
        let needed = if run.terminal.is_some() { TERMINAL_PROTOCOL } else { RUN_PROTOCOL };
        if self.protocol < needed {
            return Err(LinkError::Old);
        }
        let op = self.next_op();
        let credit = if run.input { Some(self.pending.input_of(op)?) } else { None };
        let (parts, said) = self.receive_archive(true, op, ToShim::Run { op, run: Box::new(run) }).await?;
        let input = credit.map(|credit| Input { shim: self.clone(), op, credit });
        let end = async move {
            match said.await? {
                Said::Ended(end) => Ok(end),
                Said::Done | Said::Packed(_) | Said::Logs(_) => Err(LinkError::Closed),
            }
        };
        Ok(Running { output: Output(parts), input, end })
    }
}
