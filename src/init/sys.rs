//! The system calls that have no safe wrapper.
#![expect(unsafe_code, reason = "pre_exec, nice, waitpid for every signal number, close_range, extended attributes")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;

/// A process that ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Reaped {
    pub pid: i32,
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

/// How much nicer than this process what it starts is, so that the shim, which measures the disk and
/// carries events, and init, which kills, come first however busy the sandbox is. At 10 a thread weighs
/// a ninth of one at 0 (1.25 for each step, sched(7)), and programs have nine steps left for what they
/// themselves want less. Beside other sandboxes it changes nothing: those are other control groups.
const NICER: libc::c_int = 10;

/// Makes the program the leader of a session of its own, which its standard input controls if that is a
/// `terminal`, and [nicer](NICER). The standard library itself empties the signal mask and restores SIGPIPE
/// in the child, and exec resets handlers.
pub fn lead_session(command: &mut Command, terminal: bool) -> &mut Command {
    let prepare = move || {
        nix::unistd::setsid()?;
        if terminal {
            // SAFETY: takes a number. Standard input is in place, since closures run after that.
            Errno::result(unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) })?;
        }
        // SAFETY: takes no pointer. It can not fail: everybody may become nicer, and the kernel stops at 19.
        unsafe { libc::nice(NICER) };
        Ok(())
    };
    // SAFETY: setsid(2), ioctl(2) and nice(2) are bare system calls, and the closure touches no memory of the parent.
    unsafe { command.pre_exec(prepare) }
}

/// Takes the status of one child that has ended; `None` if none has.
///
/// nix's `waitpid` loses the process if a real-time signal ended it, since it has no name for those.
pub fn reap() -> Option<Reaped> {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid > 0 {
            let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
            return Some(Reaped { pid, code, signal });
        }
        if pid == 0 || Errno::last() != Errno::EINTR {
            return None;
        }
    }
}

/// Sees to it that no descriptor but the standard ones reaches a started program.
pub fn close_inherited_on_exec() -> io::Result<()> {
    // SAFETY: takes no pointers; it only sets a flag on descriptors.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// The names of a file's extended attributes, each with a NUL at its end, put into `into`; how many
/// bytes they are.
pub fn list_attributes(file: impl AsFd, into: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer outlives the call, which writes no more than its length.
    let length = unsafe { libc::flistxattr(file.as_fd().as_raw_fd(), into.as_mut_ptr().cast(), into.len()) };
    Errno::result(length).map(|length| usize::try_from(length).unwrap_or_default())
}

/// The value of an extended attribute, put into `into`; how many bytes it is.
pub fn get_attribute(file: impl AsFd, name: &CStr, into: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the name ends in NUL, the buffer outlives the call, which writes no more than its
    // length.
    let length = unsafe { libc::fgetxattr(file.as_fd().as_raw_fd(), name.as_ptr(), into.as_mut_ptr().cast(), into.len()) };
    Errno::result(length).map(|length| usize::try_from(length).unwrap_or_default())
}

/// Sets an extended attribute.
pub fn set_attribute(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: the name ends in NUL, the value outlives the call, which reads no more than its
    // length.
    let result = unsafe { libc::fsetxattr(file.as_fd().as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(result).map(drop)
}
