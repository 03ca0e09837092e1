//! The loop of process 1.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getsid};

use super::{InitError, sys};
use crate::link::datagram;
use crate::link::inner::{DATAGRAM_MAX, FromInit, Handle, ToInit};
use crate::report;
use crate::wire::terminal::TerminalSize;

/// So many looks one after the other that find nobody to kill tell that nobody is left: what starts another process and
/// ends at once can be there in none of them only by chance.
const QUIET_LOOKS: u32 = 3;
/// Looks for processes to kill, in all. What ends stays in the list until process 1 reaps it, which it does not meanwhile: so
/// what starts others without end comes to the end of its tasks before.
const LOOKS_MAX: u32 = 10_000;

/// Serves the shim on standard input until it closes its end.
pub fn serve() -> Result<(), InitError> {
    nix::sys::prctl::set_dumpable(false).map_err(InitError::sys("prctl(PR_SET_DUMPABLE)"))?;
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(InitError::sys("take the socket"))?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(InitError::sys("open /dev/null"))?;
    nix::unistd::dup2_stdin(&null).map_err(InitError::sys("dup2"))?;
    nix::unistd::dup2_stdout(&null).map_err(InitError::sys("dup2"))?;
    sys::close_inherited_on_exec().map_err(InitError::sys("close_range"))?;
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    ends.thread_block().map_err(InitError::sys("block SIGCHLD"))?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&ends, flags).map_err(InitError::sys("signalfd"))?;
    let mut init = Init { socket, started: HashMap::new(), on_terminals: HashSet::new(), going: Vec::new() };
    init.tell(&FromInit::Ready, None)?;
    let served = init.serve(&signals);
    init.kill_all();
    served
}

struct Init {
    socket: OwnedFd,
    /// The programs that run, by process number.
    started: HashMap<i32, Handle>,
    /// Those of them that have a terminal.
    on_terminals: HashSet<i32>,
    /// What was killed and is not gone, and the request. Until then it may write, and holds its files.
    going: Vec<(Handle, Vec<Process>)>,
}

/// A number, and when its process started, which tells it from another one that has the number later.
type Process = (i32, u64);

impl Init {
    fn serve(&mut self, signals: &SignalFd) -> Result<(), InitError> {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let mut waiting =
                [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(InitError::sys("poll")(error)),
            }
            let [request, ended] = waiting.map(|fd| fd.any().unwrap_or(false));
            if ended {
                while signals.read_signal().map_err(InitError::sys("read signalfd"))?.is_some() {}
                self.reap()?;
            }
            if request {
                match datagram::receive(self.socket.as_fd(), &mut buffer).map_err(InitError::sys("receive"))? {
                    Some((length, descriptors)) => self.take(serde_json::from_slice(&buffer[..length])?, descriptors)?,
                    None => return Ok(()),
                }
            }
        }
    }

    fn take(&mut self, request: ToInit, descriptors: Vec<OwnedFd>) -> Result<(), InitError> {
        match request {
            ToInit::Spawn { handle, argv, env, cwd, terminal } => match spawn(&argv, env, &cwd, terminal, descriptors) {
                Ok((pid, terminal)) => {
                    self.started.insert(pid, handle);
                    if terminal.is_some() {
                        self.on_terminals.insert(pid);
                    }
                    self.tell(&FromInit::Spawned { handle, pid }, terminal.as_ref().map(AsFd::as_fd))
                }
                Err(error) => {
                    let program = argv.first().map_or("", String::as_str);
                    self.tell(&FromInit::Failed { handle, error: format!("{program}: {}", report::chain(&error)) }, None)
                }
            },
            ToInit::Signal { handle, signal, group } => {
                // A program that has just ended can not be signalled, and that is no failure: its
                // end has been told.
                let Some((&pid, _)) = self.started.iter().find(|(_, known)| **known == handle) else { return Ok(()) };
                let sent = Signal::try_from(signal).and_then(|signal| {
                    // A shell on a terminal gives each job a process group of its own.
                    if group && signal == Signal::SIGKILL && self.on_terminals.contains(&pid) {
                        kill_those(|session| session == Some(pid));
                        return Ok(());
                    }
                    let pid = Pid::from_raw(pid);
                    if group { killpg(pid, signal) } else { kill(pid, signal) }
                });
                match sent {
                    Ok(()) => Ok(()),
                    Err(error) => self.tell(&FromInit::Failed { handle, error: format!("signal {signal}: {error}") }, None),
                }
            }
            ToInit::KillAll { handle, spare } => {
                let spared: Vec<_> =
                    self.started.iter().filter(|(_, handle)| spare.contains(handle)).map(|(pid, _)| *pid).collect();
                if spared.is_empty() {
                    self.kill_all();
                } else {
                    kill_others(&spared);
                }
                self.going.extend(handle.map(|handle| (handle, killed(&spared))));
                self.tell_gone()
            }
            ToInit::Listen { handle, port } => match listen(port) {
                Ok((listener, port)) => self.tell(&FromInit::Listening { handle, port }, Some(listener.as_fd())),
                Err(error) => self.tell(&FromInit::Failed { handle, error: format!("listen on port {port}: {error}") }, None),
            },
        }
    }

    fn reap(&mut self) -> Result<(), InitError> {
        while let Some(ended) = sys::reap() {
            // The others are orphans that process 1 inherited.
            self.on_terminals.remove(&ended.pid);
            if let Some(handle) = self.started.remove(&ended.pid) {
                self.tell(&FromInit::Exited { handle, code: ended.code, signal: ended.signal }, None)?;
            }
        }
        self.tell_gone()
    }

    /// Answers those who wait for the end of what was killed. Each is reaped here, as its parent was killed, too, but for
    /// what a spared program started and moved to a session of its own.
    fn tell_gone(&mut self) -> Result<(), InitError> {
        for (_, going) in &mut self.going {
            // No further than to one that is left, as there may be many.
            while going.pop_if(|(pid, started)| since(*pid) != Some(*started)).is_some() {}
        }
        for (handle, _) in self.going.extract_if(.., |(_, going)| going.is_empty()).collect::<Vec<_>>() {
            self.tell(&FromInit::Killed { handle }, None)?;
        }
        Ok(())
    }

    /// Kills every process but this one, if this one is process 1: elsewhere the same call would
    /// reach processes that are none of ours.
    fn kill_all(&self) {
        if std::process::id() == 1 {
            // Fails only with ESRCH, when nobody is left.
            let _nobody = kill(Pid::from_raw(-1), Signal::SIGKILL);
        }
    }

    fn tell(&self, message: &FromInit, descriptor: Option<BorrowedFd<'_>>) -> Result<(), InitError> {
        let body = serde_json::to_vec(message)?;
        datagram::send(self.socket.as_fd(), &body, descriptor.as_slice()).map_err(InitError::sys("send"))
    }
}

/// What was killed of all but the spared sessions, if this one is process 1: what was killed starts nothing more, and what was
/// spared is in its session.
fn killed(spared: &[i32]) -> Vec<Process> {
    let is_spared = |pid| getsid(Some(Pid::from_raw(pid))).is_ok_and(|session| spared.contains(&session.as_raw()));
    match std::process::id() {
        1 => processes().filter(|pid| !is_spared(*pid)).filter_map(|pid| Some((pid, since(pid)?))).collect(),
        _ => Vec::new(),
    }
}

/// All processes but this one; none where they can not be listed.
fn processes() -> impl Iterator<Item = i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(1);
    let listed = fs::read_dir("/proc").into_iter().flatten();
    listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(move |pid| *pid != own)
}

/// Kills every process but this one and those in these sessions, each named by its leader, if this one is
/// process 1. What starts another process while it is looked for is found by the next look.
fn kill_others(spared: &[i32]) {
    if std::process::id() == 1 {
        kill_those(|session| !session.is_some_and(|session| spared.contains(&session)));
    }
}

/// Kills the processes whose session is one of those, but for this one. One that has ended has none any more.
fn kill_those(is_one: impl Fn(Option<i32>) -> bool) {
    let mut killed = HashSet::new();
    // Each look to the end, whoever is found first.
    look_until_quiet(|| processes().fold(false, |is_new, pid| is_new | is_new_to(&mut killed, pid, &is_one)));
}

/// Looks for processes to kill until there are none for a while; a look tells whether there was a new one.
fn look_until_quiet(mut look: impl FnMut() -> bool) {
    let mut quiet = 0;
    for _ in 0..LOOKS_MAX {
        quiet = if look() { 0 } else { quiet + 1 };
        if quiet == QUIET_LOOKS {
            return;
        }
    }
}

/// Kills a process that was listed, if it is one of those; says whether that may be news, and there may be more. What was
/// killed starts no other process, and may be listed for long. But one that went by itself since it was listed may have
/// started another one before, whose number was not there yet.
fn is_new_to(killed: &mut HashSet<Process>, pid: i32, is_one: impl Fn(Option<i32>) -> bool) -> bool {
    let number = Pid::from_raw(pid);
    let Some(since) = since(pid) else { return true };
    let session = getsid(Some(number)).ok().map(Pid::as_raw);
    is_one(session) && (kill(number, Signal::SIGKILL).is_err() || killed.insert((pid, since)))
}

/// When a process started (proc_pid_stat(5), field 22).
fn since(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name may have any signs.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The number of the process, and the master of its terminal, if it has one.
fn spawn(
    argv: &[String],
    env: Vec<(String, String)>,
    cwd: &str,
    terminal: Option<TerminalSize>,
    descriptors: Vec<OwnedFd>,
) -> io::Result<(i32, Option<OwnedFd>)> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    let (program, arguments) = argv.split_first().ok_or_else(|| invalid("no program is named"))?;
    let (master, stdio) = match terminal {
        Some(size) => {
            let (master, slave) = open_terminal(size)?;
            (Some(master), vec![slave.try_clone()?, slave.try_clone()?, slave])
        }
        None => (None, descriptors),
    };
    let [stdin, stdout, stderr] =
        <[OwnedFd; 3]>::try_from(stdio).map_err(|_| invalid("three descriptors have to come with it"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(env).current_dir(cwd);
    command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    let child = sys::lead_session(&mut command, master.is_some()).spawn()?;
    Ok((i32::try_from(child.id()).map_err(io::Error::other)?, master))
}

/// A terminal of the sandbox's own: master and slave. Neither reaches another program that is started.
fn open_terminal(size: TerminalSize) -> io::Result<(OwnedFd, OwnedFd)> {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    let OpenptyResult { master, slave } = openpty(Some(&size), None)?;
    for end in [&master, &slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok((master, slave))
}

fn listen(port: u16) -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

#[cfg(test)]
mod tests;
