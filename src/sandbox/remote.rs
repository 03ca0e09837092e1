//! The real backend: asks `ash-launcher`.
//!
//! One connection is kept, and every request has a tag on it, so any number of them is under way
//! at a time. A connection that broke is made again by the next request. A request whose
//! connection broke before the answer is sent once more: nobody knows whether it was carried out,
//! and all of them may be repeated.

use std::collections::HashMap;
use std::io::{Error, ErrorKind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::{LaunchError, Launcher, Limits, Listed, Pending, Spec, Started};
use crate::cgroup::{Cgroup, Figures};
use crate::link::launch::{Answer, Request, Tag, read_line, sandbox_socket, split_tag};
use crate::wire::SandboxId;

/// How long a request may take beside the time that it asks for itself. The launcher has
/// deadlines of its own below this, with better words.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long the removal of a folder may take: it may hold millions of files.
const REMOVE_DEADLINE: Duration = Duration::from_secs(600);

/// Asks `ash-launcher`.
#[derive(Debug)]
pub struct Remote {
    socket: PathBuf,
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

/// Answers of a request that is under way.
type Waiting = Arc<Mutex<Option<HashMap<Tag, UnboundedSender<Answer>>>>>;

/// A connection, and who waits for what on it.
#[derive(Debug)]
struct Connection {
    to: tokio::sync::Mutex<OwnedWriteHalf>,
    next: AtomicU32,
    /// `None` when the connection broke.
    waiting: Waiting,
    reader: JoinHandle<()>,
}

/// Why a request has no answer.
enum Unanswered {
    /// The connection broke; another one may do.
    Broken(Error),
    /// Another one would not do.
    Final(LaunchError),
}

impl Remote {
    /// Will connect to the launcher at this path with the first request.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), connection: tokio::sync::Mutex::new(None) }
    }

    /// Asks, and returns all answers; the last one is that the request is done.
    async fn ask(&self, request: Request, deadline: Duration) -> Result<Vec<Answer>, LaunchError> {
        let ask = async {
            match self.try_ask(&request).await {
                Err(Unanswered::Broken(error)) => {
                    tracing::debug!(request = request.verb(), error = %error, "connection to the launcher broke, asking again");
                    self.try_ask(&request).await
                }
                answered => answered,
            }
        };
        match tokio::time::timeout(deadline, ask).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(Unanswered::Final(error))) => Err(error),
            Ok(Err(Unanswered::Broken(error))) => Err(self.unreachable(error)),
            Err(_) => {
                let what = self.name();
                Err(LaunchError::Failed(format!("{what} did not answer {:?} within {}s", request.verb(), deadline.as_secs())))
            }
        }
    }

    async fn try_ask(&self, request: &Request) -> Result<Vec<Answer>, Unanswered> {
        let connection = self.connect().await.map_err(|error| Unanswered::Final(self.unreachable(error)))?;
        let tag = connection.next.fetch_add(1, Ordering::Relaxed);
        let line = request.encode(tag).map_err(|error| Unanswered::Final(LaunchError::Refused(error.to_string())))?;
        let mut asked = Asked::new(&connection, tag)?;
        connection.send(&line).await?;
        let mut answers = Vec::new();
        loop {
            match asked.answers.recv().await {
                Some(item @ Answer::Item { .. }) => answers.push(item),
                Some(Answer::Refused(why)) => return Err(Unanswered::Final(LaunchError::Refused(why))),
                Some(Answer::Failed(why)) => return Err(Unanswered::Final(LaunchError::Failed(why))),
                Some(last @ (Answer::Done | Answer::Started { .. } | Answer::Host { .. } | Answer::Quota { .. })) => {
                    answers.push(last);
                    return Ok(answers);
                }
                None => return Err(Unanswered::Broken(ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    /// The connection, made anew if it broke.
    async fn connect(&self) -> Result<Arc<Connection>, Error> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|connection| !connection.is_broken()) {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(Connection::new(UnixStream::connect(&self.socket).await?));
        *kept = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Asks for what ends with `ok` alone.
    async fn order(&self, request: Request, deadline: Duration) -> Result<(), LaunchError> {
        let verb = request.verb();
        match self.ask(request, deadline).await?.as_slice() {
            [Answer::Done] => Ok(()),
            other => Err(self.nonsense(verb, other)),
        }
    }

    fn name(&self) -> String {
        format!("ash-launcher at {}", self.socket.display())
    }

    fn unreachable(&self, error: Error) -> LaunchError {
        let hint = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ": is ash-launcher.socket active?",
            ErrorKind::PermissionDenied => ": only root and the user ash may connect",
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                ": it closed the connection, see journalctl -u ash-launcher.service"
            }
            _ => "",
        };
        LaunchError::Unreachable { what: self.name(), source: Error::new(error.kind(), format!("{error}{hint}")) }
    }

    fn nonsense(&self, verb: &str, answers: &[Answer]) -> LaunchError {
        LaunchError::Failed(format!("{} answered {verb:?} with {answers:?}", self.name()))
    }
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        let (from, to) = stream.into_split();
        let waiting = Waiting::new(Mutex::new(Some(HashMap::new())));
        let reader = tokio::spawn(read_answers(from, Arc::clone(&waiting)));
        Self { to: tokio::sync::Mutex::new(to), next: AtomicU32::new(1), waiting, reader }
    }

    fn is_broken(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    async fn send(self: &Arc<Self>, line: &str) -> Result<(), Unanswered> {
        // In a task of its own: a caller that gives up in the middle must not leave half a line.
        let (this, line) = (Arc::clone(self), line.to_owned());
        let sending = tokio::spawn(async move { this.to.lock().await.write_all(line.as_bytes()).await });
        match sending.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                break_off(&self.waiting);
                Err(Unanswered::Broken(error))
            }
            Err(error) => Err(Unanswered::Broken(Error::other(error))),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A request that is under way. Forgotten when dropped; a late answer is then ignored.
struct Asked<'a> {
    connection: &'a Connection,
    tag: Tag,
    answers: UnboundedReceiver<Answer>,
}

impl<'a> Asked<'a> {
    fn new(connection: &'a Connection, tag: Tag) -> Result<Self, Unanswered> {
        let (sender, answers) = unbounded_channel();
        let mut waiting = connection.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = waiting.as_mut().ok_or_else(|| Unanswered::Broken(ErrorKind::BrokenPipe.into()))?;
        waiting.insert(tag, sender);
        Ok(Self { connection, tag, answers })
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.connection.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            waiting.remove(&self.tag);
        }
    }
}

async fn read_answers(from: OwnedReadHalf, waiting: Waiting) {
    let mut from = BufReader::new(from);
    let why = loop {
        let line = match read_line(&mut from).await {
            Ok(Some(line)) => line,
            Ok(None) => break "it was closed".to_owned(),
            Err(error) => break error.to_string(),
        };
        let answer = split_tag(&line).and_then(|(tag, words)| Ok((tag, Answer::parse(words)?)));
        let (tag, answer) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(error = %error, "the launcher does not speak this language");
                break error.to_string();
            }
        };
        if let Some(waiting) = waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
            && let Some(asker) = waiting.get(&tag)
        {
            // Whoever gave up does not listen any more.
            asker.send(answer).ok();
        }
    };
    tracing::debug!(why, "connection to the launcher ended");
    break_off(&waiting);
}

/// Tells everyone who waits, by the end of their channels.
fn break_off(waiting: &Waiting) {
    *waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

impl Launcher for Remote {
    fn start<'a>(&'a self, spec: &'a Spec) -> Pending<'a, Started> {
        Box::pin(async move {
            match self.ask(Request::Start(spec.clone()), DEADLINE).await?.as_slice() {
                [Answer::Started { fresh, running }] => {
                    Ok(Started { socket: sandbox_socket(spec.sandbox), fresh: *fresh, running: *running })
                }
                other => Err(self.nonsense("start", other)),
            }
        })
    }

    fn stop(&self, sandbox: SandboxId, grace: Duration) -> Pending<'_, ()> {
        Box::pin(self.order(Request::stop(sandbox, grace), DEADLINE + grace))
    }

    fn kill(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        Box::pin(self.order(Request::Kill(sandbox), DEADLINE))
    }

    fn freeze(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        Box::pin(self.order(Request::Freeze(sandbox), DEADLINE))
    }

    fn thaw(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        Box::pin(self.order(Request::Thaw(sandbox), DEADLINE))
    }

    fn limit<'a>(&'a self, sandbox: SandboxId, limits: &'a Limits) -> Pending<'a, ()> {
        Box::pin(self.order(Request::Limit(sandbox, *limits), DEADLINE))
    }

    fn list(&self) -> Pending<'_, Vec<Listed>> {
        Box::pin(async move {
            let mut answers = self.ask(Request::List, DEADLINE).await?;
            let Some(Answer::Done) = answers.pop() else { return Err(self.nonsense("list", &answers)) };
            let listed = answers.into_iter().map(|answer| match answer {
                Answer::Item { sandbox, running, ended } => {
                    Ok(Listed { sandbox, running, socket: sandbox_socket(sandbox), ended })
                }
                other => Err(self.nonsense("list", &[other])),
            });
            listed.collect()
        })
    }

    fn remove(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        Box::pin(self.order(Request::Remove(sandbox), REMOVE_DEADLINE))
    }

    fn host_stops(&self) -> Pending<'_, bool> {
        Box::pin(async move {
            match self.ask(Request::Host, DEADLINE).await?.as_slice() {
                [Answer::Host { stopping }] => Ok(*stopping),
                other => Err(self.nonsense("host", other)),
            }
        })
    }

    fn quota(&self, sandbox: Option<SandboxId>) -> Pending<'_, bool> {
        Box::pin(async move {
            let answers = match self.ask(Request::Quota(sandbox), DEADLINE).await {
                // A launcher that is older than the request.
                Err(LaunchError::Refused(_)) => return Ok(false),
                answers => answers?,
            };
            match answers.as_slice() {
                [Answer::Quota { enforced }] => Ok(*enforced),
                other => Err(self.nonsense("quota", other)),
            }
        })
    }

    /// Read here: the files of control groups are everybody's, and the launcher has nothing to add.
    fn usage(&self, sandbox: SandboxId) -> Pending<'_, Option<Figures>> {
        Box::pin(async move { Ok(Cgroup::of(sandbox).map(|cgroup| cgroup.figures())) })
    }

    fn lacks(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::net::UnixListener;

    use super::*;
    use crate::report;
    use crate::sandbox::{Ended, conformance};

    /// Plays the launcher: answers each request of each connection by the given function, which
    /// gets the connection's number. No answer closes the connection.
    fn play(path: &Path, answer: impl Fn(usize, &Request) -> Option<Vec<Answer>> + Send + Sync + 'static) -> JoinHandle<()> {
        let listener = UnixListener::bind(path).expect("binds");
        tokio::spawn(async move {
            for number in 0.. {
                let (from, mut to) = listener.accept().await.expect("accepts").0.into_split();
                let mut from = BufReader::new(from);
                while let Some(line) = read_line(&mut from).await.unwrap_or_default() {
                    let (tag, words) = split_tag(&line).expect("has a tag");
                    let Some(answers) = answer(number, &Request::parse(words).expect("parses")) else { break };
                    for answer in answers {
                        to.write_all(answer.encode(tag).as_bytes()).await.expect("sends");
                    }
                }
            }
        })
    }

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().expect("makes a folder")
    }

    #[tokio::test]
    async fn answers_find_their_requests_in_any_order() {
        let dir = dir();
        let path = dir.path().join("launcher.sock");
        let listener = UnixListener::bind(&path).expect("binds");
        let remote = Remote::new(&path);
        let (kept, lost) = (SandboxId::new(), SandboxId::new());
        let launcher = async {
            let (from, mut to) = listener.accept().await.expect("accepts").0.into_split();
            let mut from = BufReader::new(from);
            let mut tags = HashMap::new();
            while tags.len() < 3 {
                let line = read_line(&mut from).await.expect("reads").expect("is there");
                let (tag, words) = split_tag(&line).expect("has a tag");
                tags.insert(Request::parse(words).expect("parses").verb(), tag);
            }
            let lines = [
                Answer::Item { sandbox: kept, running: true, ended: None }.encode(tags["list"]),
                Answer::Done.encode(9999),
                Answer::Refused("sandbox has processes".to_owned()).encode(tags["remove"]),
                Answer::Item { sandbox: lost, running: false, ended: Some(Ended::Signal { number: 9 }) }.encode(tags["list"]),
                Answer::Done.encode(tags["kill"]),
                Answer::Done.encode(tags["list"]),
            ];
            to.write_all(lines.concat().as_bytes()).await.expect("sends");
            (from, to)
        };
        let (_open, listed, killed, removed) = tokio::join!(launcher, remote.list(), remote.kill(kept), remote.remove(kept));
        let socket = sandbox_socket;
        assert_eq!(
            listed.expect("lists"),
            [
                Listed { sandbox: kept, running: true, socket: socket(kept), ended: None },
                Listed { sandbox: lost, running: false, socket: socket(lost), ended: Some(Ended::Signal { number: 9 }) }
            ]
        );
        killed.expect("kills");
        assert!(matches!(removed, Err(LaunchError::Refused(why)) if why == "sandbox has processes"));
    }

    #[tokio::test]
    async fn a_broken_connection_is_made_again_and_the_request_repeated() {
        let dir = dir();
        let path = dir.path().join("launcher.sock");
        let launcher = play(&path, |_, _| Some(vec![Answer::Done]));
        let remote = Remote::new(&path);
        remote.kill(SandboxId::new()).await.expect("is done on the first");
        launcher.abort();
        assert!(launcher.await.expect_err("was aborted").is_cancelled());
        std::fs::remove_file(&path).expect("removes");
        let launcher = play(&path, |_, _| Some(vec![Answer::Done]));
        remote.kill(SandboxId::new()).await.expect("is done on the next");
        launcher.abort();
        assert!(launcher.await.expect_err("was aborted").is_cancelled());
    }

    #[tokio::test]
    async fn a_request_whose_connection_breaks_is_asked_once_more() {
        let dir = dir();
        let path = dir.path().join("launcher.sock");
        let _launcher = play(&path, |connection, _| (connection % 2 == 1).then(|| vec![Answer::Done]));
        let remote = Remote::new(&path);
        remote.kill(SandboxId::new()).await.expect("is done on the second connection");
        remote.kill(SandboxId::new()).await.expect("which is kept");
    }

    #[tokio::test]
    async fn errors_name_the_socket_and_the_cause() {
        let dir = dir();
        let path = dir.path().join("launcher.sock");
        let remote = Remote::new(&path);
        let name = format!("ash-launcher at {}", path.display());
        let missing = remote.list().await.expect_err("is not there");
        assert_eq!(
            report::chain(&missing),
            format!("{name} can not be reached: No such file or directory (os error 2): is ash-launcher.socket active?")
        );
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        let refused = remote.list().await.expect_err("nobody listens");
        assert!(report::chain(&refused).ends_with("Connection refused (os error 111): is ash-launcher.socket active?"));

        std::fs::remove_file(&path).expect("removes");
        let _launcher = play(&path, |_, _| None);
        let closed = report::chain(&remote.list().await.expect_err("is closed"));
        assert!(closed.starts_with(&name) && closed.contains("journalctl -u ash-launcher.service"), "{closed}");
    }

    #[tokio::test]
    async fn a_launcher_that_knows_no_quotas_has_none() {
        let dir = dir();
        let path = dir.path().join("launcher.sock");
        let _launcher = play(&path, |_, request| {
            Some(vec![match request {
                Request::Quota(None) => Answer::Quota { enforced: true },
                Request::Quota(Some(_)) => Answer::Refused("malformed request: unknown word".to_owned()),
                _ => Answer::Done,
            }])
        });
        let remote = Remote::new(&path);
        assert!(remote.quota(None).await.expect("is asked"));
        assert!(!remote.quota(Some(SandboxId::new())).await.expect("is refused"));
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_ends_by_the_deadline() {
        let dir = dir();
        let path = dir.path().join("launcher.sock");
        let _launcher = play(&path, |_, _| Some(Vec::new()));
        let remote = Remote::new(&path);
        let error = remote.freeze(SandboxId::new()).await.expect_err("has no answer");
        assert!(matches!(&error, LaunchError::Failed(why) if why.ends_with("did not answer \"freeze\" within 60s")), "{error}");
        let waiting = remote.connect().await.expect("is kept").waiting.lock().expect("is fine").as_ref().map(HashMap::len);
        assert_eq!(waiting, Some(0), "nobody waits any more");
    }

    #[tokio::test]
    async fn a_bad_spec_is_refused_before_it_is_sent() {
        let dir = dir();
        let path = dir.path().join("launcher.sock");
        let _launcher = play(&path, |_, _| Some(vec![Answer::Started { fresh: true, running: false }]));
        let remote = Remote::new(&path);
        let mut spec = conformance::spec();
        let started = remote.start(&spec).await.expect("starts");
        assert_eq!(started, Started { socket: sandbox_socket(spec.sandbox), fresh: true, running: false });
        spec.limits.tasks = 1;
        let error = remote.start(&spec).await.expect_err("is out of bounds");
        assert!(matches!(error, LaunchError::Refused(_)), "{error}");
    }

    /// On a machine where the launcher runs and that serves nothing else, as root:
    /// `cargo test --no-run`, then the test program with `--ignored --exact` and this name.
    #[tokio::test]
    #[ignore = "needs ash-launcher, systemd and a shim: runs in a box"]
    async fn the_real_launcher_conforms() {
        let abilities = conformance::Abilities { freezes: true, shim: Path::new("/usr/libexec/ash/ash-shim") };
        conformance::suite(&Remote::new(crate::link::launch::LAUNCHER_SOCKET), abilities).await;
    }
}
