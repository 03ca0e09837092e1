//! What the host knows of names and addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

/// Looks up names, each in a thread of its own, a bounded number at the same time.
///
/// tokio's threads for blocking work are started with a panic where none can be started. That is
/// for those inside to bring about, by using up the sandbox's tasks, and would be the end of the
/// shim. Here it is a failed call, which is tried again.
#[derive(Debug, Clone)]
pub struct LookUps {
    /// A resolver that does not answer can not be told to stop, and its thread is one of the
    /// sandbox's tasks. So a place belongs to the thread, not to whoever waits for it.
    places: Arc<Semaphore>,
}

impl LookUps {
    /// At most so many at the same time.
    pub fn new(most: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(most)) }
    }

    /// The addresses of a name, whose ports are 0. Waits for a place first.
    pub fn look_up(&self, name: String) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + use<> {
        self.run(move || (name, 0).to_socket_addrs().map(Iterator::collect))
    }

    fn run<T: Send + 'static, F: FnOnce() -> io::Result<T> + Send + 'static>(
        &self,
        look_up: F,
    ) -> impl Future<Output = io::Result<T>> + Send + use<T, F> {
        let places = Arc::clone(&self.places);
        async move {
            let place = places.acquire_owned().await.map_err(io::Error::other)?;
            let (done, addresses) = oneshot::channel();
            let look_up = move || {
                let found = look_up();
                drop(place);
                // The caller may have gone away meanwhile.
                let _gone = done.send(found);
            };
            std::thread::Builder::new().name("look-up".to_owned()).spawn(look_up)?;
            addresses.await.map_err(io::Error::other)?
        }
    }
}

/// Whether an address is one of the host itself, where what listens expects callers of this host.
///
/// A socket can be bound to own addresses only. Where the host allows others
/// (`net.ipv4.ip_nonlocal_bind`, ip(7)), the route tells: it begins at the address itself.
pub fn is_own(address: IpAddr) -> bool {
    // Without a socket it is not known, and so refused.
    let binds = |address: IpAddr| match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    };
    if !binds(address) {
        return false;
    }
    let (any, foreign): (IpAddr, IpAddr) = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    let begins_at =
        || UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((address, 9)).and_then(|()| socket.local_addr()));
    !binds(foreign) || begins_at().is_ok_and(|from| from.ip() == address)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Reached only by a failing test.
    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_look_up_that_hangs_keeps_its_place_when_nobody_waits_any_more() {
        let look_ups = LookUps::new(1);
        let (free, hung) = mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let hanging = look_ups.run(move || {
            let _gone = begun.send(());
            hung.recv().map_err(io::Error::other)
        });
        tokio::select! {
            _ = hanging => panic!("it hangs"),
            begun = begins => begun.expect("it began"),
        }
        // Nobody waits for it now, and its thread is still there.
        let mut next = Box::pin(look_ups.run(|| Ok(7)));
        tokio::select! {
            biased;
            _ = &mut next => panic!("there was no place"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(look_ups.places.available_permits(), 0);
        free.send(()).expect("it hangs");
        assert_eq!(timeout(DEADLINE, next).await.expect("in time").expect("found"), 7);
    }

    #[tokio::test]
    async fn names_of_the_host_are_found() {
        let found = LookUps::new(1).look_up("localhost".to_owned()).await.expect("found");
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 0) && !found.is_empty());
    }
}
