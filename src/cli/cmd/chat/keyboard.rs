//! Answers typed on the terminal while a turn goes on.
//!
//! The terminal edits the line and gives it whole, as outside of rustyline's prompt it always does.
//! A thread waits until the kernel has a line, or nobody wants one any more; only then is it read,
//! by whoever wants it. So a prompt that is not needed any more leaves no reader behind which would
//! eat what is typed next.

use std::io;
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{FlushArg, tcflush};
use nix::unistd::read;

/// Longest line of a terminal: `N_TTY_BUF_SIZE` of Linux.
const LINE_BYTES: usize = 4096;

/// The terminal on standard input.
#[derive(Debug, Default)]
pub(super) struct Keyboard {
    typed: Vec<u8>,
}

impl Keyboard {
    /// Forgets what was typed and not read. What was typed before a question is no answer to it,
    /// and an answer that came too late is no message.
    pub(super) fn forget(&mut self) {
        self.typed.clear();
        // Where it fails the terminal is gone, and reading says so.
        tcflush(io::stdin(), FlushArg::TCIFLUSH).unwrap_or_default();
    }

    /// The next line, without its end; `None` after Ctrl-D.
    ///
    /// # Cancel safety
    /// Cancel safe: what was read of a line is kept.
    pub(super) async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.typed.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.typed.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            readable().await?;
            let mut bytes = [0; LINE_BYTES];
            let count = read(io::stdin(), &mut bytes)?;
            if count == 0 {
                return Ok(None);
            }
            self.typed.extend_from_slice(&bytes[..count]);
        }
    }
}

/// Waits until reading would return at once.
async fn readable() -> io::Result<()> {
    let (gone, here) = io::pipe()?;
    let waiting = tokio::task::spawn_blocking(move || {
        let stdin = io::stdin();
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        loop {
            match poll(&mut [watch(stdin.as_fd()), watch(gone.as_fd())], PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                done => return done.map(drop),
            }
        }
    });
    let done = waiting.await;
    // Closed earlier if nobody waits here any more, and then the thread wakes up.
    drop(here);
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())).map_err(io::Error::from)
}
