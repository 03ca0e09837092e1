//! Listeners: the control socket and TCP, passed by the service manager or opened here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::{Gid, Group, Uid};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::auth::peer;
use crate::http::Origin;

/// Connections that one listener serves at a time. Each stream is one; the daemon may have 65 536
/// descriptors (`LimitNOFILE=` of its unit).
const CONNECTIONS_MAX: usize = 16_384;
/// How long a client may take to send the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Largest head of a request, and most of a body that is read ahead: what a connection may take of
/// memory before anybody knows who it is.
const HEAD_MAX: usize = 64 << 10;
/// How long to wait after an accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Name under which the service manager passes the control socket (`FileDescriptorName=`).
const CONTROL_NAME: &str = "control";
/// Name under which it passes listeners for programs.
const HTTP_NAME: &str = "http";

/// Why a listener can not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken or not allowed.
    #[error("listen on {address}")]
    Bind {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// What the service manager passed can not be used.
    #[error("socket {name} of the service manager")]
    Passed {
        /// Its name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A listener.
#[derive(Debug)]
pub enum Listener {
    /// The control socket.
    Control(UnixListener, String),
    /// For programs.
    Http(TcpListener, String),
}

/// Takes what the service manager passed, and opens the rest.
pub fn open(control: &Path, addresses: &[SocketAddr]) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = passed()?;
    if !listeners.iter().any(|listener| matches!(listener, Listener::Control(..))) {
        listeners.push(open_control(control)?);
    }
    if !listeners.iter().any(|listener| matches!(listener, Listener::Http(..))) {
        for address in addresses {
            let bind = |source| ListenError::Bind { address: address.to_string(), source };
            let listener = std::net::TcpListener::bind(address).map_err(bind)?;
            listener.set_nonblocking(true).map_err(bind)?;
            listeners.push(http(listener).map_err(bind)?);
        }
    }
    Ok(listeners)
}

fn http(listener: std::net::TcpListener) -> std::io::Result<Listener> {
    let address = listener.local_addr()?;
    Ok(Listener::Http(TcpListener::from_std(listener)?, format!("http://{address}")))
}

fn passed() -> Result<Vec<Listener>, ListenError> {
    let error = |name: &str, source| ListenError::Passed { name: name.to_owned(), source };
    let mut listeners = Vec::new();
    for (descriptor, name) in sd_notify::listen_fds_with_names().map_err(|e| error("list", e))? {
        let descriptor = own(descriptor);
        let listener = match name.as_str() {
            CONTROL_NAME => {
                let listener = std::os::unix::net::UnixListener::from(descriptor);
                listener.set_nonblocking(true).map_err(|e| error(&name, e))?;
                let address = listener.local_addr().ok().and_then(|a| a.as_pathname().map(|p| p.display().to_string()));
                UnixListener::from_std(listener).map(|l| Listener::Control(l, format!("unix:{}", address.unwrap_or_default())))
            }
            HTTP_NAME => {
                let listener = std::net::TcpListener::from(descriptor);
                listener.set_nonblocking(true).and_then(|()| http(listener))
            }
            _ => {
                tracing::warn!(name, "the service manager passed a socket that has no use, ignoring");
                continue;
            }
        };
        listeners.push(listener.map_err(|e| error(&name, e))?);
    }
    Ok(listeners)
}

#[expect(unsafe_code, reason = "descriptors of the service manager come as numbers")]
fn own(descriptor: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: sd_listen_fds(3) says that this descriptor is open and ours; each is taken once.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn open_control(path: &Path) -> Result<Listener, ListenError> {
    let bind = |source| ListenError::Bind { address: format!("unix:{}", path.display()), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(bind)?;
    }
    remove_stale(path).map_err(bind)?;
    let listener = UnixListener::bind(path).map_err(bind)?;
    // Closed to others before anybody is told of it; the group may use it where there is one.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(bind)?;
    if Uid::effective().is_root()
        && let Ok(Some(group)) = Group::from_name(peer::GROUP)
    {
        nix::unistd::chown(path, None, Some(Gid::from_raw(group.gid.as_raw()))).map_err(|e| bind(e.into()))?;
    }
    Ok(Listener::Control(listener, format!("unix:{}", path.display())))
}

/// Removes a socket that a daemon before left. The lock on the state folder says that it is gone.
fn remove_stale(path: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(std::io::Error::new(std::io::ErrorKind::AlreadyExists, "something that is no socket is there")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Listener {
    /// Where it listens, for people.
    pub fn address(&self) -> &str {
        match self {
            Self::Control(_, address) | Self::Http(_, address) => address,
        }
    }

    /// Serves connections until told to stop.
    pub async fn serve(self, router: Router, stop: CancellationToken, tasks: TaskTracker) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = room.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.accept() => accepted,
            };
            let (stream, origin) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = %error, address = self.address(), "a connection can not be accepted, retrying");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (router, stop) = (router.clone(), stop.clone());
            tasks.spawn(async move {
                match stream {
                    Stream::Unix(stream) => serve_connection(stream, origin, router, stop).await,
                    Stream::Tcp(stream) => serve_connection(stream, origin, router, stop).await,
                }
                drop(place);
            });
        }
    }

    async fn accept(&self) -> std::io::Result<(Stream, Origin)> {
        match self {
            Self::Control(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let admitted = peer::admit(Uid::from_raw(credentials.uid()), Gid::from_raw(credentials.gid()));
                Ok((Stream::Unix(stream), Origin::Local(admitted)))
            }
            Self::Http(listener, _) => {
                let (stream, address) = listener.accept().await?;
                // Frames are small and each is waited for.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Origin::Remote(address)))
            }
        }
    }
}

enum Stream {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
}

async fn serve_connection<S>(stream: S, origin: Origin, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(origin.clone());
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request.map(Body::new)).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = crate::report::chain(&error), "a connection ended early, ignoring");
    }
}

async fn answer(router: Router, request: hyper::Request<Body>) -> axum::response::Response {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
