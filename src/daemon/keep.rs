//! Listeners that outlive the daemon: systemd holds a copy of each in its descriptor store.
//!
//! A listener is named after the address of the configuration that it was opened for. It is handed
//! over when it is opened, and comes back under its name at the next start, be it after a restart,
//! an upgrade or a crash; what connects meanwhile waits in its backlog. A stop empties the store,
//! so that nobody waits for a daemon that will not come. Without a service manager nothing is kept.
//!
//! See sd_notify(3) and `FileDescriptorStoreMax=` in systemd.service(5), both v252.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};

use libsystemd::daemon::{NotifyState, notify, notify_with_fds};
use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt};

/// What the names of listeners in the store begin with.
const PREFIX: &str = "tcp-";

/// The name of the listener for this address. A colon may not stand in one; no address has a `_`.
pub fn name(address: SocketAddr) -> String {
    format!("{PREFIX}{address}").replace(':', "_")
}

/// Whether a descriptor of this name comes from the store.
pub fn is_name(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Whether it can still take connections.
pub fn is_open(listener: &TcpListener) -> bool {
    getsockopt(&listener.as_fd(), sockopt::AcceptConn).unwrap_or(false)
}

/// Hands a copy of a listener to the store.
pub fn keep(name: &str, listener: &impl AsFd) {
    let states = [NotifyState::Fdstore, NotifyState::Fdname(name.to_owned())];
    if let Err(error) = notify_with_fds(false, &states, &[listener.as_fd().as_raw_fd()]) {
        tracing::warn!(name, error = %error, "the service manager does not keep a listener over restarts, ignoring");
    }
}

/// Closes a listener for good, also the copy in the store. Returns when its address is free.
pub fn forget(name: &str, listener: TcpListener) {
    // systemd closes its copy some time later, and until then the address would be in use. The
    // kernel ends the listening of all copies at once.
    if let Err(error) = shutdown(listener.as_raw_fd(), Shutdown::Both) {
        tracing::debug!(name, error = %error, "a listener was closed already");
    }
    drop(listener);
    if let Err(error) = notify(false, &[NotifyState::FdstoreRemove, NotifyState::Fdname(name.to_owned())]) {
        tracing::warn!(name, error = %error, "the service manager was not told to forget a listener, ignoring");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_that_the_service_manager_takes_and_tell_addresses_apart() {
        let addresses = ["127.0.0.1:4100", "127.0.0.1:0", "[::]:4100", "[::1]:4100", "[fe80::1%2]:4100", "0.0.0.0:4100"];
        let mut names: Vec<_> = addresses.iter().map(|address| name(address.parse().expect("is an address"))).collect();
        for name in &names {
            assert!(is_name(name) && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic() && b != b':'), "{name}");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), addresses.len());
    }

    #[test]
    fn a_forgotten_address_is_free_though_a_copy_is_still_held() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("has one").port();
        let copy = listener.try_clone().expect("clones");
        assert!(is_open(&copy));
        TcpListener::bind(("0.0.0.0", port)).expect_err("is in use");
        forget("tcp-a", listener);
        assert!(!is_open(&copy));
        TcpListener::bind(("0.0.0.0", port)).expect("is free");
    }
}
