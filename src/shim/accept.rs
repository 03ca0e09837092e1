//! Accepts connections from inside for as long as the sandbox lives.

use std::io;
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream};

/// How long it waits for what the host lacks.
const RETRY: Duration = Duration::from_millis(200);

/// The next connection; `None` if there will be none. `who` is told in the log.
pub async fn accept(listener: &TcpListener, who: &'static str) -> Option<TcpStream> {
    next(|| listener.accept(), who).await.map(|(stream, _)| stream)
}

async fn next<T, F: Future<Output = io::Result<T>>>(mut accept: impl FnMut() -> F, who: &'static str) -> Option<T> {
    loop {
        match accept().await {
            Ok(accepted) => return Some(accepted),
            Err(error) if passes(&error) => {
                tracing::warn!(%error, who, "can not accept a connection, retrying in {} ms", RETRY.as_millis());
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => {
                tracing::warn!(%error, who, "can not accept connections, ending it");
                return None;
            }
        }
    }
}

/// Whether the next connection may be accepted all the same: one is gone already, or there are too few descriptors,
/// too little memory or too few watches of epoll (accept(2), epoll_ctl(2)).
fn passes(error: &io::Error) -> bool {
    const PASSING: &[Errno] = &[
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::ENOBUFS,
        Errno::ENOMEM,
        Errno::ENOSPC,
        Errno::ECONNABORTED,
        Errno::EINTR,
        Errno::EPROTO,
    ];
    error.raw_os_error().is_some_and(|code| PASSING.contains(&Errno::from_raw(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_the_host_lacks_for_a_while_ends_nothing() {
        let errors = [Errno::EMFILE, Errno::ENOSPC, Errno::ENOBUFS, Errno::ECONNABORTED];
        let mut outcomes = errors.map(Err).into_iter().chain([Ok(7), Err(Errno::EINVAL)]);
        let mut accept = || std::future::ready(outcomes.next().expect("asked no more").map_err(io::Error::from));
        assert_eq!(next(&mut accept, "test").await, Some(7));
        assert_eq!(next(&mut accept, "test").await, None, "the listener is none");
    }
}
