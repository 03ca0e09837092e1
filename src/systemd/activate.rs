//! Sockets passed by the service manager, see sd_listen_fds(3).
#![expect(unsafe_code, reason = "a descriptor that was inherited has to be taken by its number")]

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Takes the sockets that this process was started with, with the names of
/// `FileDescriptorName=`. Empty when it was not socket-activated, or when they were taken before.
///
/// # Errors
///
/// The variables of the protocol are malformed, or a descriptor that they announce is not open.
pub fn take_sockets() -> std::io::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let announced = sd_notify::listen_fds_with_names()?;
    // SAFETY: The service manager opened these descriptors for this process, which the call above
    // verified by $LISTEN_PID and by setting a flag on each of them. Nobody else owns them: they
    // are inherited, so nothing in this process opened them, and the flag above lets only one
    // caller take them.
    Ok(announced.map(|(number, name)| (name, unsafe { OwnedFd::from_raw_fd(number) })).collect())
}
