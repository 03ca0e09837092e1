//! The shim's end of the conversation with init.
//!
//! One task owns the socket. Everybody else holds an [`Inner`] and asks through a bounded channel;
//! answers come back through one-shot channels. When the last [`Inner`] is gone, or init is, the
//! task ends; the socket closes, and init ends everything inside.
//!
//! Init is not trusted: an answer to nothing is ignored, and a message that can not be read ends
//! the conversation.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::{mpsc, oneshot};

use crate::link::datagram;
use crate::link::inner::{DATAGRAM_MAX, FromInit, Handle, ToInit};
use crate::wire::terminal::TerminalSize;

/// Requests that may wait for init, which answers within microseconds.
const QUEUE: usize = 16;
/// How long to wait for what was killed, which goes within milliseconds.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// Why init did not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InnerError {
    /// Init is gone, and with it everything inside.
    #[error("the sandbox has ended")]
    Gone,
    /// Init could not do it.
    #[error("{0}")]
    Failed(String),
    /// The request is larger than a datagram.
    #[error("arguments and environment of {0} bytes are too large, at most {DATAGRAM_MAX} are allowed")]
    TooLarge(usize),
}

/// How a program inside ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
}

/// A program inside.
#[derive(Debug)]
pub struct Child {
    /// Names it.
    pub handle: Handle,
    /// How it ends; an error if the sandbox ends first.
    pub exit: oneshot::Receiver<Exit>,
    /// The master of its terminal, if it has one.
    terminal: Option<OwnedFd>,
}

/// Asks init. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inner {
    requests: mpsc::Sender<Request>,
}

/// What a program has to do with the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It ends with it.
    Beside,
    /// Nothing.
    Apart,
    /// Nothing, and it writes nothing: it only packs.
    Packing,
}

/// What a program reads and writes.
#[derive(Debug)]
enum Stdio {
    Given([OwnedFd; 3]),
    Terminal(TerminalSize),
}

/// Processes that have been killed, and may not be gone: until then they can write, and hold their files.
#[derive(Debug)]
pub struct Killing(oneshot::Receiver<Result<(), InnerError>>);

impl Killing {
    /// Waits until they are gone, with the sandbox or in it. Not for ever: what waits for a disk does not go at once.
    pub async fn done(self) {
        if tokio::time::timeout(KILL_PATIENCE, self.0).await.is_err() {
            tracing::warn!("what was killed inside is not gone after {} s, going on", KILL_PATIENCE.as_secs());
        }
    }
}

#[derive(Debug)]
enum Request {
    Spawn {
        argv: Vec<String>,
        env: Vec<(String, String)>,
        cwd: &'static str,
        stdio: Stdio,
        standing: Standing,
        reply: Reply<Child>,
    },
    Listen {
        port: u16,
        reply: Reply<TcpListener>,
    },
    Signal {
        handle: Handle,
        signal: i32,
    },
    KillAll {
        /// Those that have this or a higher standing are spared.
        spare: Option<Standing>,
        /// Who waits until they are gone.
        reply: Option<Reply<()>>,
    },
}

type Reply<T> = oneshot::Sender<Result<T, InnerError>>;

/// The socket pair: ours, and the one to give to init as its standard input.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours, theirs))
}

impl Inner {
    /// Begins the conversation. The receiver hears when init is ready, or an error if it ends
    /// before that.
    pub fn start(socket: OwnedFd) -> io::Result<(Self, oneshot::Receiver<()>)> {
        // The event loop has no type for sockets of our kind, and this one fits.
        let socket = UnixDatagram::from_std(std::os::unix::net::UnixDatagram::from(socket))?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let (ready, is_ready) = oneshot::channel();
        tokio::spawn(async move {
            let mut talk = Talk {
                socket,
                next: 0,
                ready: Some(ready),
                asked: HashMap::new(),
                running: HashMap::new(),
                apart: HashMap::new(),
            };
            if let Err(error) = talk.run(queue).await {
                tracing::warn!(%error, "conversation with init broke, ending the sandbox");
            }
        });
        Ok((Self { requests }, is_ready))
    }

    /// Whether init is gone.
    pub fn is_over(&self) -> bool {
        self.requests.is_closed()
    }

    /// Starts a program with its standard input, output and error.
    pub async fn spawn(
        &self,
        argv: Vec<String>,
        env: Vec<(String, String)>,
        cwd: &'static str,
        stdio: [OwnedFd; 3],
    ) -> Result<Child, InnerError> {
        let (stdio, standing) = (Stdio::Given(stdio), Standing::Beside);
        self.ask(|reply| Request::Spawn { argv, env, cwd, stdio, standing, reply }).await
    }

    /// Starts a program that has nothing to do with the runtime, and does not end with it.
    pub async fn spawn_apart(
        &self,
        argv: Vec<String>,
        env: Vec<(String, String)>,
        cwd: &'static str,
        stdio: [OwnedFd; 3],
    ) -> Result<Child, InnerError> {
        let (stdio, standing) = (Stdio::Given(stdio), Standing::Apart);
        self.ask(|reply| Request::Spawn { argv, env, cwd, stdio, standing, reply }).await
    }

    /// Starts a program of Ash that packs what is there. It is spared where others have written too much.
    pub async fn spawn_packing(&self, argv: Vec<String>, stdio: [OwnedFd; 3]) -> Result<Child, InnerError> {
        let (stdio, standing) = (Stdio::Given(stdio), Standing::Packing);
        self.ask(|reply| Request::Spawn { argv, env: Vec::new(), cwd: "/", stdio, standing, reply }).await
    }

    /// The same with a new terminal of the sandbox, whose master is returned.
    pub async fn spawn_on_terminal(
        &self,
        argv: Vec<String>,
        env: Vec<(String, String)>,
        cwd: &'static str,
        size: TerminalSize,
    ) -> Result<(Child, OwnedFd), InnerError> {
        let standing = Standing::Apart;
        let stdio = Stdio::Terminal(size);
        let mut child = self.ask(|reply| Request::Spawn { argv, env, cwd, stdio, standing, reply }).await?;
        let missing = || InnerError::Failed("no terminal came with the program".to_owned());
        let master = child.terminal.take().ok_or_else(missing)?;
        Ok((child, master))
    }

    /// Opens a listener on the inner loopback.
    pub async fn listen(&self, port: u16) -> Result<TcpListener, InnerError> {
        self.ask(|reply| Request::Listen { port, reply }).await
    }

    /// Sends a signal to a program and its process group.
    pub async fn signal(&self, handle: Handle, signal: i32) {
        // Without init there is no program either.
        let _gone = self.requests.send(Request::Signal { handle, signal }).await;
    }

    /// Kills everything inside but init.
    pub async fn kill_all(&self) {
        self.kill(None, None).await;
    }

    /// Kills everything inside but init, and waits until it is gone.
    pub async fn end_all(&self) {
        let (reply, gone) = oneshot::channel();
        self.kill(None, Some(reply)).await;
        Killing(gone).done().await;
    }

    /// Kills everything inside but init and what was started apart.
    pub async fn kill_left_overs(&self) {
        self.kill(Some(Standing::Apart), None).await;
    }

    /// Kills everything inside but init and what packs.
    pub async fn kill_all_but_packing(&self) -> Killing {
        let (reply, gone) = oneshot::channel();
        self.kill(Some(Standing::Packing), Some(reply)).await;
        Killing(gone)
    }

    async fn kill(&self, spare: Option<Standing>, reply: Option<Reply<()>>) {
        // Without init nothing runs either, and `reply` is gone, too.
        let _gone = self.requests.send(Request::KillAll { spare, reply }).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, InnerError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| InnerError::Gone)?;
        answer.await.map_err(|_| InnerError::Gone)?
    }
}

/// What was asked and is not answered.
#[derive(Debug)]
enum Asked {
    Spawn(Reply<Child>),
    Listen(Reply<TcpListener>),
    Kill(Reply<()>),
}

/// A request on its way.
struct Outgoing {
    handle: Handle,
    body: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

struct Talk {
    socket: UnixDatagram,
    next: Handle,
    ready: Option<oneshot::Sender<()>>,
    asked: HashMap<Handle, Asked>,
    running: HashMap<Handle, oneshot::Sender<Exit>>,
    /// Programs that were started apart or to pack, and have not ended.
    apart: HashMap<Handle, Standing>,
}

impl Talk {
    async fn run(&mut self, mut queue: mpsc::Receiver<Request>) -> io::Result<()> {
        let mut outgoing: VecDeque<Outgoing> = VecDeque::new();
        let mut buffer = vec![0; 8 << 10];
        loop {
            tokio::select! {
                readable = self.socket.readable() => {
                    readable?;
                    let socket = &self.socket;
                    match socket.try_io(Interest::READABLE, || datagram::receive(socket.as_fd(), &mut buffer)) {
                        Ok(Some((length, descriptors))) => {
                            let message = serde_json::from_slice(&buffer[..length])?;
                            self.hear(message, descriptors);
                        }
                        Ok(None) => return Ok(()),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                writable = self.socket.writable(), if !outgoing.is_empty() => {
                    writable?;
                    let Some(Outgoing { handle, body, descriptors }) = outgoing.front() else { continue };
                    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                    let socket = &self.socket;
                    let sent = socket.try_io(Interest::WRITABLE, || datagram::send(socket.as_fd(), body, &descriptors));
                    if self.is_sent(*handle, sent)? {
                        drop(outgoing.pop_front());
                    }
                }
                request = queue.recv(), if outgoing.len() < QUEUE => match request {
                    Some(request) => outgoing.extend(self.encode(request)?),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Whether a request is done with after this outcome of sending it.
    fn is_sent(&mut self, handle: Handle, sent: io::Result<()>) -> io::Result<bool> {
        match sent {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            // Too many descriptors of the user are on their way in sockets (unix(7)): other requests have none, or
            // come when there are fewer.
            Err(error) if error.raw_os_error() == Some(nix::libc::ETOOMANYREFS) => {
                self.fail(handle, InnerError::Failed(format!("descriptors can not be sent to init: {error}")));
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn fail(&mut self, handle: Handle, error: InnerError) {
        self.apart.remove(&handle);
        if let Some(asked) = self.asked.remove(&handle) {
            asked.fail(error);
        }
    }

    fn encode(&mut self, request: Request) -> io::Result<Option<Outgoing>> {
        self.next += 1;
        let handle = self.next;
        let (message, descriptors, asked) = match request {
            Request::Spawn { argv, env, cwd, stdio, standing, reply } => {
                if standing > Standing::Beside {
                    self.apart.insert(handle, standing);
                }
                let (terminal, descriptors) = match stdio {
                    Stdio::Given(descriptors) => (None, Vec::from(descriptors)),
                    Stdio::Terminal(size) => (Some(size), Vec::new()),
                };
                let message = ToInit::Spawn { handle, argv, env, cwd: cwd.to_owned(), terminal };
                (message, descriptors, Some(Asked::Spawn(reply)))
            }
            Request::Listen { port, reply } => (ToInit::Listen { handle, port }, Vec::new(), Some(Asked::Listen(reply))),
            Request::Signal { handle, signal } => (ToInit::Signal { handle, signal, group: true }, Vec::new(), None),
            Request::KillAll { spare, reply } => {
                let is_spared = |standing: &Standing| spare.is_some_and(|least| *standing >= least);
                let spare = self.apart.iter().filter(|(_, standing)| is_spared(standing)).map(|(handle, _)| *handle).collect();
                let answered = reply.is_some().then_some(handle);
                (ToInit::KillAll { handle: answered, spare }, Vec::new(), reply.map(Asked::Kill))
            }
        };
        let body = serde_json::to_vec(&message)?;
        if body.len() > DATAGRAM_MAX {
            self.apart.remove(&handle);
            if let Some(asked) = asked {
                asked.fail(InnerError::TooLarge(body.len()));
            }
            return Ok(None);
        }
        self.asked.extend(asked.map(|asked| (handle, asked)));
        Ok(Some(Outgoing { handle, body, descriptors }))
    }

    fn hear(&mut self, message: FromInit, mut descriptors: Vec<OwnedFd>) {
        match message {
            FromInit::Ready => {
                if let Some(ready) = self.ready.take() {
                    // Nobody waits for it after a deadline.
                    let _late = ready.send(());
                }
            }
            FromInit::Spawned { handle, .. } => {
                if let Some(Asked::Spawn(reply)) = self.asked.remove(&handle) {
                    let (ended, exit) = oneshot::channel();
                    self.running.insert(handle, ended);
                    // Who does not wait for the start does not mind the end.
                    let _gone = reply.send(Ok(Child { handle, exit, terminal: descriptors.pop() }));
                }
            }
            FromInit::Listening { handle, .. } => {
                if let (Some(Asked::Listen(reply)), Some(listener)) = (self.asked.remove(&handle), descriptors.pop()) {
                    // As above.
                    let _gone = reply.send(Ok(TcpListener::from(listener)));
                }
            }
            FromInit::Killed { handle } => {
                if let Some(Asked::Kill(reply)) = self.asked.remove(&handle) {
                    // As above.
                    let _gone = reply.send(Ok(()));
                }
            }
            FromInit::Failed { handle, error } => match self.asked.remove(&handle) {
                Some(asked) => {
                    self.apart.remove(&handle);
                    asked.fail(InnerError::Failed(error));
                }
                None => tracing::debug!(%error, "init could not do something, ignoring"),
            },
            FromInit::Exited { handle, code, signal } => {
                self.apart.remove(&handle);
                if let Some(ended) = self.running.remove(&handle) {
                    // As above.
                    let _gone = ended.send(Exit { code, signal });
                }
            }
        }
    }
}

impl Asked {
    fn fail(self, error: InnerError) {
        // Who does not wait any more does not mind.
        let _gone = match self {
            Self::Spawn(reply) => reply.send(Err(error)).is_err(),
            Self::Listen(reply) => reply.send(Err(error)).is_err(),
            Self::Kill(reply) => reply.send(Err(error)).is_err(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_whose_descriptors_can_not_be_sent_fails_alone() {
        let (ours, _theirs) = pair().expect("a pair");
        let socket = UnixDatagram::from_std(std::os::unix::net::UnixDatagram::from(ours)).expect("a socket");
        let (asked, running, apart) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut talk = Talk { socket, next: 0, ready: None, asked, running, apart };
        let (argv, env, cwd) = (vec!["true".to_owned()], Vec::new(), "/");
        let stdio = Stdio::Given(std::array::from_fn(|_| io::pipe().expect("a pipe").0.into()));
        let (reply, mut answer) = oneshot::channel();
        let spawn = Request::Spawn { argv, env, cwd, stdio, standing: Standing::Apart, reply };
        let handle = talk.encode(spawn).expect("encoded").expect("of a fitting size").handle;
        let outcome = |code| Err(io::Error::from_raw_os_error(code));
        assert!(!talk.is_sent(handle, outcome(nix::libc::EAGAIN)).expect("it waits"));
        assert!(answer.try_recv().is_err());
        assert!(talk.is_sent(handle, outcome(nix::libc::ETOOMANYREFS)).expect("the others go on"));
        assert!(matches!(answer.try_recv(), Ok(Err(InnerError::Failed(why))) if why.contains("descriptors")));
        assert!(talk.apart.is_empty() && talk.asked.is_empty());
        assert!(talk.is_sent(handle, outcome(nix::libc::EPIPE)).is_err(), "init is gone");
    }
}
