//! Listeners: the control socket and TCP, passed by the service manager or opened here. Those for
//! TCP that were opened here are kept over restarts, see [`keep`].

use std::convert::Infallible;
use std::future::poll_fn;
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
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::{Gid, Group, Uid};
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::keep;
use super::stall::Watched;
use super::tls::Tls;
use crate::auth::peer;
use crate::http::handover::Handover;
use crate::http::{Origin, Scheme};

/// How long a connection without a request is kept after a stop was asked for: whoever has just
/// connected is about to send one. Less than the daemon's own drain deadline.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(2);
/// How long a connection is read on after its answer was sent, in all and without hearing anything.
/// A socket that is closed with bytes unread resets the connection, and what the other end had not
/// read of its answer by then is lost to it: that of a refused upload, which it was still sending.
const LINGER_DEADLINE: Duration = Duration::from_secs(30);
const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// Largest head of a request, and most of a body that is read ahead: what a connection may take of
/// memory before anybody knows who it is.
const HEAD_MAX: usize = 64 << 10;
/// Connections that wait to be accepted: all that come while the daemon restarts. The kernel cuts
/// it to `net.core.somaxconn`, which is the same (4096 since Linux 5.4).
const BACKLOG: u32 = 4096;
/// How long to wait after an accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Name under which the service manager passes the control socket (`FileDescriptorName=`).
const CONTROL_NAME: &str = "control";
/// Name under which it passes listeners for programs.
const HTTP_NAME: &str = "http";
/// What those are called that speak TLS, which it does not pass.
const HTTPS_NAME: &str = "https";

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
    /// For programs that speak TLS.
    Https(TcpListener, Tls, String),
}

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long a client may take for the head of its first request.
    pub head: Duration,
    /// How long after an answer until the head of the next request is there.
    pub idle: Duration,
    /// How long a client may read nothing of what there is for it.
    pub write: Duration,
    /// Those that one listener serves at a time. Each stream is one. More wait to be accepted.
    pub connections: usize,
}

/// What a listener does with connections.
#[derive(Debug, Clone)]
pub struct Service {
    /// Answers.
    pub router: Router,
    /// What connections may take.
    pub bounds: Bounds,
    /// Counts what is open.
    pub open: IntGauge,
    /// Ends it.
    pub stop: CancellationToken,
    /// Where connections run.
    pub tasks: TaskTracker,
}

/// Counts one connection while it is there.
#[derive(Debug)]
struct Counted(IntGauge);

impl Counted {
    fn new(open: &IntGauge) -> Self {
        open.inc();
        Self(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What the service manager passed.
#[derive(Debug, Default)]
struct Passed {
    /// Of its socket units.
    listeners: Vec<Listener>,
    /// Of its descriptor store, by name.
    kept: Vec<(String, std::net::TcpListener)>,
}

/// Takes what the service manager passed, and opens the rest.
pub fn open(control: &Path, plain: &[SocketAddr], tls: Option<(&[SocketAddr], &Tls)>) -> Result<Vec<Listener>, ListenError> {
    let Passed { mut listeners, kept } = passed()?;
    if !listeners.iter().any(|listener| matches!(listener, Listener::Control(..))) {
        listeners.push(open_control(control)?);
    }
    // Socket units take the place of the configuration.
    let units = listeners.iter().any(|listener| matches!(listener, Listener::Http(..)));
    let plain = if units { &[] } else { plain };
    let (secure, tls) = tls.unzip();
    let opened = open_http(&[plain, secure.unwrap_or_default()].concat(), kept)?;
    let opened = opened.into_iter().enumerate().map(|(at, listener)| match tls {
        Some(tls) if at >= plain.len() => listener.over(tls),
        _ => listener,
    });
    listeners.extend(opened);
    Ok(listeners)
}

/// Takes those kept listeners whose address is still wanted, closes the others, and opens and
/// keeps what is missing.
fn open_http(addresses: &[SocketAddr], mut kept: Vec<(String, std::net::TcpListener)>) -> Result<Vec<Listener>, ListenError> {
    let mut take = |name: String| {
        let at = kept.iter().position(|(kept, listener)| *kept == name && keep::is_open(listener))?;
        Some(kept.swap_remove(at).1)
    };
    let wanted: Vec<_> = addresses.iter().map(|address| (*address, take(keep::name(*address)))).collect();
    // First, as what is opened next may be in conflict with it: 0.0.0.0 with 127.0.0.1.
    for (name, listener) in kept {
        tracing::info!(name, "a listener that was kept is not wanted any more");
        keep::forget(&name, listener);
    }
    let listener = |(address, kept): (SocketAddr, Option<std::net::TcpListener>)| match kept {
        Some(listener) => listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)).and_then(http),
        None => {
            let listener = bind(address)?;
            keep::keep(&keep::name(address), &listener);
            http(listener)
        }
    };
    let opened = wanted.into_iter().map(|wanted| {
        let address = wanted.0;
        listener(wanted).map_err(|source| ListenError::Bind { address: address.to_string(), source })
    });
    opened.collect()
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a daemon before may still linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn http(listener: TcpListener) -> std::io::Result<Listener> {
    let address = listener.local_addr()?;
    Ok(Listener::Http(listener, format!("http://{address}")))
}

fn passed() -> Result<Passed, ListenError> {
    let error = |name: &str, source| ListenError::Passed { name: name.to_owned(), source };
    let mut passed = Passed::default();
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
                listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)).and_then(http)
            }
            kept if keep::is_name(kept) => {
                passed.kept.push((name, descriptor.into()));
                continue;
            }
            _ => {
                tracing::warn!(name, "the service manager passed a socket that has no use, ignoring");
                continue;
            }
        };
        passed.listeners.push(listener.map_err(|e| error(&name, e))?);
    }
    Ok(passed)
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
    /// The same, for programs that speak TLS.
    fn over(self, tls: &Tls) -> Self {
        match self {
            Self::Http(listener, address) => Self::Https(listener, tls.clone(), address.replacen("http", "https", 1)),
            other => other,
        }
    }

    /// Where it listens, for people.
    pub fn address(&self) -> &str {
        match self {
            Self::Control(_, address) | Self::Http(_, address) | Self::Https(_, _, address) => address,
        }
    }

    /// Which of [`LISTENERS`](crate::telemetry::metrics::LISTENERS) it is.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Control(..) => CONTROL_NAME,
            Self::Http(..) => HTTP_NAME,
            Self::Https(..) => HTTPS_NAME,
        }
    }

    /// Serves connections until told to stop.
    pub async fn serve(self, service: Service) {
        let scheme = Scheme(if matches!(self, Self::Https(..)) { "https" } else { "http" });
        let room = Arc::new(Semaphore::new(service.bounds.connections));
        loop {
            let place = tokio::select! {
                () = service.stop.cancelled() => return,
                place = room.clone().acquire_owned() => place,
            };
            let Ok(place) = place else { return };
            let accepted = tokio::select! {
                () = service.stop.cancelled() => return,
                accepted = self.accept(service.bounds.write) => accepted,
            };
            let (stream, origin) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = %error, address = self.address(), "a connection can not be accepted, retrying");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (counted, serving) = (Counted::new(&service.open), service.clone());
            service.tasks.spawn(async move {
                match stream {
                    Stream::Unix(stream) => serve_connection(stream, (origin, scheme), serving).await,
                    Stream::Tcp(stream, None) => serve_connection(stream, (origin, scheme), serving).await,
                    Stream::Tcp(stream, Some(tls)) => {
                        let (stop, head) = (serving.stop.clone(), serving.bounds.head);
                        let secured = tokio::select! {
                            // It has asked for nothing yet.
                            () = stop.cancelled() => return,
                            secured = tokio::time::timeout(head, tls.accept(stream)) => secured,
                        };
                        match secured {
                            Ok(Ok(stream)) => serve_connection(stream, (origin, scheme), serving).await,
                            Ok(Err(error)) => tracing::debug!(error = %error, "no TLS with a client, ignoring"),
                            Err(_) => tracing::debug!("a client did not bring TLS about in time, ignoring"),
                        }
                    }
                }
                drop((place, counted));
            });
        }
    }

    async fn accept(&self, write_timeout: Duration) -> std::io::Result<(Stream, Origin)> {
        match self {
            Self::Control(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let admitted = peer::admit(Uid::from_raw(credentials.uid()), Gid::from_raw(credentials.gid()));
                Ok((Stream::Unix(stream), Origin::Local(admitted)))
            }
            Self::Http(listener, _) | Self::Https(listener, ..) => {
                let (stream, address) = listener.accept().await?;
                // Frames are small and each is waited for.
                stream.set_nodelay(true)?;
                // What the kernel has taken and can not get rid of, also of a machine that is gone
                // (tcp(7)). Behind it the socket's buffer fills up, which `Watched` sees.
                let millis = u32::try_from(write_timeout.as_millis()).unwrap_or(u32::MAX);
                setsockopt(&stream, sockopt::TcpUserTimeout, &millis)?;
                let tls = if let Self::Https(_, tls, _) = self { Some(tls.clone()) } else { None };
                Ok((Stream::Tcp(stream, tls), Origin::Remote(address)))
            }
        }
    }
}

enum Stream {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream, Option<Tls>),
}

async fn serve_connection<S>(stream: S, (origin, scheme): (Origin, Scheme), service: Service)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Service { router, bounds, stop, .. } = service;
    let stream = Watched::new(stream, bounds.write);
    let asked = CancellationToken::new();
    let (first, handover) = (asked.clone(), Handover::default());
    let asking = handover.clone();
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        first.cancel();
        request.extensions_mut().insert(origin.clone());
        request.extensions_mut().insert(scheme);
        request.extensions_mut().insert(asking.clone());
        let router = router.clone();
        Box::pin(async move { Ok::<_, Infallible>(answer(router, request.map(Body::new)).await) })
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // From the answer before, or from the start.
        .header_read_timeout(bounds.idle)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let silent = async {
        if tokio::time::timeout(bounds.head, asked.cancelled()).await.is_ok() {
            std::future::pending().await
        }
    };
    let served = tokio::select! {
        // What has come counts before the time that is over.
        biased;
        served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => served,
        // Nobody waits for an answer.
        () = silent => return,
        () = async {
            stop.cancelled().await;
            // hyper would close a connection without a request at once, and its client sees an
            // accepted request fail.
            let _asked_or_idle = tokio::time::timeout(FIRST_REQUEST_GRACE, asked.cancelled()).await;
        } => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = crate::report::chain(&error), "a connection ended early, ignoring");
    }
    let parts = connection.into_parts();
    let Some(stream) = handover.give(parts.io.into_inner(), parts.read_buf).await else { return };
    tokio::select! {
        // Nothing is owed to whoever is still sending then.
        () = async { stop.cancelled().await; tokio::time::sleep(LINGER_SILENCE).await } => {}
        _over = tokio::time::timeout(LINGER_DEADLINE, linger(stream)) => {}
    }
}

/// Says that nothing more comes, and reads until the other end says the same or falls silent.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut unread = vec![0; 16 << 10];
    while let Ok(Ok(1..)) = tokio::time::timeout(LINGER_SILENCE, stream.read(&mut unread)).await {}
}

async fn answer(router: Router, request: hyper::Request<Body>) -> axum::response::Response {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};

    use super::*;

    /// Opens these, and hands back what systemd would pass at the next start: copies.
    fn opened(
        addresses: &[SocketAddr],
        kept: Vec<(String, std::net::TcpListener)>,
    ) -> (Vec<SocketAddr>, Vec<(String, std::net::TcpListener)>) {
        let listeners = open_http(addresses, kept).expect("opens");
        let copies = listeners.iter().zip(addresses).map(|(listener, address)| {
            let Listener::Http(listener, _) = listener else { panic!("{listener:?} is not for programs") };
            let copy = listener.as_fd().try_clone_to_owned().expect("clones");
            (keep::name(*address), std::net::TcpListener::from(copy))
        });
        let copies: Vec<_> = copies.collect();
        (copies.iter().map(|(_, copy)| copy.local_addr().expect("has one")).collect(), copies)
    }

    /// Sends a request on a connection, and reads what comes until its end.
    async fn ask(stream: &mut tokio::net::TcpStream) -> String {
        let mut text = String::new();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("sends");
        stream.read_to_string(&mut text).await.expect("reads");
        text
    }

    const BOUNDS: Bounds =
        Bounds { head: Duration::from_secs(60), idle: Duration::from_secs(60), write: Duration::from_secs(60), connections: 100 };

    /// A listener that answers whoever asks for `/`.
    struct Served {
        address: SocketAddr,
        stop: CancellationToken,
        serving: tokio::task::JoinHandle<()>,
        tasks: TaskTracker,
    }

    impl Served {
        fn new(answer: &'static str) -> Self {
            Self::within(answer, BOUNDS)
        }

        fn within(answer: &'static str, bounds: Bounds) -> Self {
            let (addresses, mut kept) = opened(&[any([127, 0, 0, 1])], Vec::new());
            let listener = kept.remove(0).1;
            listener.set_nonblocking(true).expect("sets");
            let listener = http(TcpListener::from_std(listener).expect("is one")).expect("has an address");
            let service = Service { bounds, ..service(axum::routing::get(async move || answer), BOUNDS.write) };
            let (stop, tasks) = (service.stop.clone(), service.tasks.clone());
            let serving = tokio::spawn(listener.serve(service));
            Self { address: addresses[0], stop, serving, tasks }
        }

        async fn connect(&self) -> tokio::net::TcpStream {
            tokio::net::TcpStream::connect(self.address).await.expect("connects")
        }

        /// Accepts no more.
        async fn stop(&mut self) {
            self.stop.cancel();
            (&mut self.serving).await.expect("ends");
        }

        /// Waits until every connection is over.
        async fn drain(self) {
            self.tasks.close();
            self.tasks.wait().await;
        }
    }

    #[tokio::test]
    async fn who_was_accepted_before_a_stop_is_answered_after_it() {
        let mut served = Served::new("here");
        let mut quiet = served.connect().await;
        // It is accepted when a later one was answered.
        assert!(ask(&mut served.connect().await).await.ends_with("here"));
        served.stop().await;
        assert!(ask(&mut quiet).await.ends_with("here"));
        served.drain().await;
    }

    #[tokio::test]
    async fn who_sends_no_whole_head_and_who_asks_nothing_more_is_let_go() {
        let soon = Duration::from_millis(50);
        let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        for (bounds, sent, answer) in [
            (Bounds { head: soon, ..BOUNDS }, "", ""),
            (Bounds { head: soon, ..BOUNDS }, "GET / HTTP/1.1\r\nhost: ", ""),
            (Bounds { idle: soon, ..BOUNDS }, "GET / HTTP/1.1\r\nhost: ", ""),
            (Bounds { idle: soon, ..BOUNDS }, request, "here"),
            (Bounds { idle: soon, ..BOUNDS }, &format!("{request}GET / HTT"), "here"),
        ] {
            let mut served = Served::within("here", bounds);
            let mut client = served.connect().await;
            client.write_all(sent.as_bytes()).await.expect("sends");
            let mut text = String::new();
            client.read_to_string(&mut text).await.expect("is let go");
            assert!(text.ends_with(answer) && text.is_empty() == answer.is_empty(), "{sent:?}: {text}");
            drop(client);
            served.stop().await;
            served.drain().await;
        }
    }

    #[tokio::test]
    async fn who_asks_within_the_time_keeps_its_connection() {
        let mut served = Served::within("here", Bounds { head: Duration::from_millis(200), ..BOUNDS });
        let mut client = served.connect().await;
        let mut answer = [0; 1024];
        // The time for the first head is over by the second, which has another one.
        for _ in 0..2 {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sends");
            let count = client.read(&mut answer).await.expect("reads");
            assert!(String::from_utf8_lossy(&answer[..count]).ends_with("here"));
            // Another one waits as long for nothing, and is gone.
            let mut other = served.connect().await;
            assert_eq!(other.read(&mut [0]).await.expect("reads"), 0);
        }
        drop(client);
        served.stop().await;
        served.drain().await;
    }

    #[tokio::test]
    async fn those_beyond_the_bound_wait_until_one_goes() {
        let mut served = Served::within("here", Bounds { connections: 1, ..BOUNDS });
        let mut first = served.connect().await;
        first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sends");
        first.read_u8().await.expect("is served");
        let mut second = served.connect().await;
        let asked = tokio::time::timeout(Duration::from_millis(100), ask(&mut second)).await;
        assert!(asked.is_err(), "it is not served yet: {asked:?}");
        drop(first);
        let mut text = String::new();
        second.read_to_string(&mut text).await.expect("reads");
        assert!(text.ends_with("here"), "{text}");
        drop(second);
        served.stop().await;
        served.drain().await;
    }

    #[tokio::test]
    async fn who_sends_more_than_is_read_gets_the_answer_after_it() {
        let mut served = Served::new("refused");
        let mut sender = served.connect().await;
        // More than the buffers of both ends can hold.
        let body = vec![0; 64 << 20];
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
        sender.write_all(head.as_bytes()).await.expect("sends");
        sender.write_all(&body).await.expect("is taken, though nobody wants it");
        let mut text = String::new();
        sender.read_to_string(&mut text).await.expect("reads");
        assert!(text.ends_with("refused"), "{text}");
        drop(sender);
        served.stop().await;
        served.drain().await;
    }

    /// Lets a client ask for what has no end, and read nothing of it.
    async fn is_let_go(listener: Listener, mut client: impl AsyncRead + AsyncWrite + Unpin) {
        let endless = || async {
            let zeros = || futures_util::future::ready(Some((Ok::<_, Infallible>(vec![0; 64 << 10]), ())));
            Body::from_stream(futures_util::stream::unfold((), move |()| zeros()))
        };
        let service = service(axum::routing::get(endless), Duration::from_millis(100));
        let (open, stop, tasks) = (service.open.clone(), service.stop.clone(), service.tasks.clone());
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sends");
        let serving = tokio::spawn(listener.serve(service));
        client.read_u8().await.expect("it is answered");
        assert_eq!(open.get(), 1);
        tasks.close();
        tokio::time::timeout(Duration::from_secs(20), tasks.wait()).await.expect("it is let go");
        assert_eq!(open.get(), 0);
        // What was on its way is followed by the end.
        let mut unread = vec![0; 64 << 10];
        while let Ok(1..) = client.read(&mut unread).await {}
        stop.cancel();
        serving.await.expect("ends");
    }

    #[tokio::test]
    async fn who_reads_nothing_is_let_go() {
        let listener = bind(any([127, 0, 0, 1])).and_then(http).expect("binds");
        let Listener::Http(socket, _) = &listener else { panic!("it is for programs") };
        let client = tokio::net::TcpStream::connect(socket.local_addr().expect("has one")).await.expect("connects");
        is_let_go(listener, client).await;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("sock");
        let listener = open_control(&path).expect("binds");
        let client = tokio::net::UnixStream::connect(&path).await.expect("connects");
        is_let_go(listener, client).await;
    }

    fn service(route: axum::routing::MethodRouter, write_timeout: Duration) -> Service {
        Service {
            router: Router::new().route("/", route),
            bounds: Bounds { write: write_timeout, ..BOUNDS },
            open: IntGauge::new("open", "what is open").expect("a name"),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    fn any(ip: [u8; 4]) -> SocketAddr {
        SocketAddr::from((ip, 0))
    }

    #[tokio::test]
    async fn what_connects_between_two_daemons_is_served_by_the_second() {
        let (first, kept) = opened(&[any([127, 0, 0, 1]), any([127, 0, 0, 2])], Vec::new());
        let waiting = std::net::TcpStream::connect(first[1]).expect("is queued though nobody serves");
        let (second, kept) = opened(&[any([127, 0, 0, 2]), any([127, 0, 0, 1])], kept);
        assert_eq!(second, [first[1], first[0]], "in whatever order they are configured");
        kept[0].1.set_nonblocking(false).expect("sets");
        let (_, from) = kept[0].1.accept().expect("waits there");
        assert_eq!(from, waiting.local_addr().expect("has one"));
    }

    #[tokio::test]
    async fn a_listener_whose_address_changed_makes_room_for_the_next() {
        let (first, kept) = opened(&[any([127, 0, 0, 1])], Vec::new());
        let copy = kept[0].1.try_clone().expect("clones");
        let all = SocketAddr::from(([0, 0, 0, 0], first[0].port()));
        let (second, kept) = opened(&[all], kept);
        assert_eq!(second, [all]);
        assert!(!keep::is_open(&copy), "whoever holds a copy holds nothing");
        // One that was closed behind our back is opened anew.
        nix::sys::socket::shutdown(kept[0].1.as_raw_fd(), nix::sys::socket::Shutdown::Both).expect("closes");
        assert!(keep::is_open(&opened(&[all], kept).1[0].1));
    }

    #[tokio::test]
    async fn none_is_kept_when_none_is_configured() {
        let (first, kept) = opened(&[any([127, 0, 0, 1])], Vec::new());
        assert!(opened(&[], kept).0.is_empty());
        std::net::TcpStream::connect(first[0]).expect_err("nobody listens");
    }
}
