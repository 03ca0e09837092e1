//! The loop of process 1.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getsid};

use super::{InitError, sys};
use crate::link::datagram;
use crate::link::inner::{DATAGRAM_MAX, FromInit, Handle, ToInit};
use crate::report;

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
    let mut init = Init { socket, started: HashMap::new() };
    init.tell(&FromInit::Ready, None)?;
    let served = init.serve(&signals);
    init.kill_all();
    served
}

struct Init {
    socket: OwnedFd,
    /// The programs that run, by process number.
    started: HashMap<i32, Handle>,
}

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
            ToInit::Spawn { handle, argv, env, cwd } => match spawn(&argv, env, &cwd, descriptors) {
                Ok(pid) => {
                    self.started.insert(pid, handle);
                    self.tell(&FromInit::Spawned { handle, pid }, None)
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
                    let pid = Pid::from_raw(pid);
                    if group { killpg(pid, signal) } else { kill(pid, signal) }
                });
                match sent {
                    Ok(()) => Ok(()),
                    Err(error) => self.tell(&FromInit::Failed { handle, error: format!("signal {signal}: {error}") }, None),
                }
            }
            ToInit::KillAll { spare } => {
                let spared: Vec<_> =
                    self.started.iter().filter(|(_, handle)| spare.contains(handle)).map(|(pid, _)| *pid).collect();
                if spared.is_empty() {
                    self.kill_all();
                } else {
                    kill_others(&spared);
                }
                Ok(())
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
            if let Some(handle) = self.started.remove(&ended.pid) {
                self.tell(&FromInit::Exited { handle, code: ended.code, signal: ended.signal }, None)?;
            }
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

/// Kills every process but this one and those in these sessions, each named by its leader, if this one is
/// process 1. What starts another process while it is looked for is found by the next look.
fn kill_others(spared: &[i32]) {
    if std::process::id() != 1 {
        return;
    }
    let mut killed = HashSet::new();
    loop {
        let Ok(processes) = std::fs::read_dir("/proc") else { return };
        let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let mut is_new = false;
        for pid in numbers.filter(|pid| *pid != 1) {
            let number = Pid::from_raw(pid);
            // One that has ended has no session any more.
            let is_spared = getsid(Some(number)).is_ok_and(|session| spared.contains(&session.as_raw()));
            is_new |= !is_spared && kill(number, Signal::SIGKILL).is_ok() && killed.insert(pid);
        }
        if !is_new {
            return;
        }
    }
}

fn spawn(argv: &[String], env: Vec<(String, String)>, cwd: &str, descriptors: Vec<OwnedFd>) -> io::Result<i32> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    let (program, arguments) = argv.split_first().ok_or_else(|| invalid("no program is named"))?;
    let [stdin, stdout, stderr] =
        <[OwnedFd; 3]>::try_from(descriptors).map_err(|_| invalid("three descriptors have to come with it"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(env).current_dir(cwd);
    command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    let child = sys::lead_session(&mut command).spawn()?;
    i32::try_from(child.id()).map_err(io::Error::other)
}

fn listen(port: u16) -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}
