//! The master of a terminal inside, as input and output of a program.
#![expect(unsafe_code, reason = "the request that sets the size of a terminal has no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use tokio::net::unix::pipe;

use crate::wire::terminal::TerminalSize;

nix::ioctl_write_ptr_bad!(
    /// TIOCSWINSZ of ioctl_tty(2): programs on the terminal are told (`SIGWINCH`).
    set_size,
    libc::TIOCSWINSZ,
    libc::winsize
);

/// Its two directions: what is typed, and what is shown. They are read and written like pipes.
pub fn ends(master: &OwnedFd) -> io::Result<(pipe::Sender, pipe::Receiver)> {
    // Of both, as they share one open file.
    fcntl(master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_RDWR))?;
    let typed = pipe::Sender::from_owned_fd_unchecked(master.try_clone()?)?;
    let shown = pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
    Ok((typed, shown))
}

/// Changes its size.
pub fn resize(master: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the size outlives the call, which reads it.
    unsafe { set_size(master.as_fd().as_raw_fd(), &raw const size) }?;
    Ok(())
}
