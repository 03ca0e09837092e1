//! Programs that the daemon has run inside, beside the runtime.
//!
//! Each is a task, which sends output as parts with the number of its request, no more of them than
//! were asked for, and feeds the program what comes as its input. What a program does to the workspace
//! while that is packed is in the snapshot or not, like what the runtime's background tasks do.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{Driver, Input};
use crate::link::shim::{
    DISK_FULL, FromShim, INPUT_CREDIT, Job, Op, PACK_CREDIT, RUNS_MAX, Run, RunEnd, TOO_MANY_RUN, WORKSPACE_INSIDE,
};
use crate::report;
use crate::shim::bwrap::INIT_INSIDE;
use crate::shim::connection::ConnectionId;
use crate::shim::env::{environment, with_bindings};
use crate::shim::run::{self, Outgoing, RunError};
use crate::wire::limits::Reached;
use crate::wire::terminal::TerminalSize;

/// The shell of commands: the one that every system has.
const SHELL: &str = "/bin/sh";

/// The variable that names the kind of terminal.
const TERM: &str = "TERM";

/// A program that is running.
#[derive(Debug)]
pub struct Program {
    connection: ConnectionId,
    op: Op,
    /// Whether it is a command of a caller, and not one of Ash's own. Neither takes the other's place.
    is_command: bool,
    /// Whether the sandbox counts as started when it has ended.
    starts: bool,
    /// Parts of output that may be sent.
    credit: Arc<Semaphore>,
    /// Takes its input; `None` once that has ended, or if there is none.
    input: Option<mpsc::Sender<Vec<u8>>>,
    /// The size of its terminal, if it has one.
    size: watch::Sender<Option<TerminalSize>>,
    /// Dropped, it ends the program.
    wanted: Option<oneshot::Sender<()>>,
    /// The limit for which it is being ended.
    reached: Option<Reached>,
}

impl Program {
    /// Ends it, and its output at once.
    fn stop(&mut self) {
        self.credit.close();
        self.wanted = None;
    }

    /// Says why it is being ended.
    pub(super) const fn reach_disk(&mut self) {
        self.reached = Some(Reached::Disk);
    }
}

impl Driver {
    pub(super) fn run_program(&mut self, connection: ConnectionId, op: Op, run: Run) {
        let is_command = matches!(run.job, Job::Shell { .. });
        let beside = self.programs.iter().filter(|program| program.is_command == is_command).count();
        let refusal = match () {
            () if self.unpacking.is_some() => Some("the workspace is being unpacked"),
            () if self.stop_at.is_some() => Some("the sandbox is being stopped"),
            () if beside >= RUNS_MAX => Some(TOO_MANY_RUN),
            () if self.session.is_none() => Some("no session is set up in the sandbox"),
            () if is_command && self.disk.is_far_over() => Some(DISK_FULL),
            () => None,
        };
        let out = self.link.as_ref().filter(|link| link.id == connection).map(|link| link.out.clone());
        let (Some(inner), Some(out), Some(session), None) = (self.inner(), out, &self.session, refusal) else {
            return self.reply(connection, op, Err(refusal.unwrap_or("the sandbox is not open").to_owned()));
        };
        let (size, sizes) = watch::channel(run.terminal.as_ref().map(|terminal| terminal.size));
        // Names in it that a session can not set were told of when the runtime was started.
        let env = if is_command {
            let term = run.terminal.map(|terminal| (TERM.to_owned(), terminal.term));
            let session = with_bindings(&session.setup.env, &session.setup.gateway.bindings);
            environment(term.into_iter().collect(), &session).0
        } else {
            Vec::new()
        };
        let starts = run.starts;
        let argv = argv(run.job);
        let program = run::Program { argv, env, timeout_ms: run.timeout_ms, output_max: run.output_max, terminal: sizes };
        let credit = Arc::new(Semaphore::new(PACK_CREDIT as usize));
        // One more, for the end of the input.
        let (input, parts) = mpsc::channel(INPUT_CREDIT as usize + 1);
        let (wanted, unwanted) = oneshot::channel();
        let input = run.input.then_some(input);
        let program_of_it = Program {
            connection,
            op,
            is_command,
            starts,
            credit: credit.clone(),
            input,
            size,
            wanted: Some(wanted),
            reached: None,
        };
        self.programs.push(program_of_it);
        let outgoing = Outgoing { op, out, credit };
        self.later(async move { Input::Ran(connection, op, run::run(inner, program, parts, outgoing, unwanted).await) });
    }

    pub(super) fn run_input(&mut self, op: Op, bytes: Vec<u8>) {
        let Some(program) = self.programs.iter_mut().find(|program| program.op == op) else { return };
        let is_end = bytes.is_empty();
        match program.input.as_ref().map(|input| input.try_send(bytes)) {
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                tracing::warn!("more input came than was asked for, ending its program");
                program.stop();
            }
            // It reads no more, which its end will tell.
            Some(Ok(()) | Err(mpsc::error::TrySendError::Closed(_))) | None => {}
        }
        if is_end {
            program.input = None;
        }
    }

    pub(super) fn run_resize(&self, op: Op, size: TerminalSize) {
        if let Some(program) = self.programs.iter().find(|program| program.op == op && program.size.borrow().is_some()) {
            program.size.send_replace(Some(size));
        }
    }

    pub(super) fn run_more(&self, op: Op, parts: u32) {
        if let Some(program) = self.programs.iter().find(|program| program.op == op) {
            // One that asks for more than it can need gets no more than the semaphore holds.
            let room = Semaphore::MAX_PERMITS - program.credit.available_permits();
            program.credit.add_permits(room.min(parts as usize));
        }
    }

    pub(super) fn run_stop(&mut self, op: Op) {
        self.programs.iter_mut().filter(|program| program.op == op).for_each(Program::stop);
    }

    /// Ends programs whose connection is not the one that counts any more.
    pub(super) fn run_unlinked(&mut self) {
        let link = self.link.as_ref().map(|link| link.id);
        self.programs.iter_mut().filter(|program| link != Some(program.connection)).for_each(Program::stop);
    }

    /// A program has ended, and what it had to say was sent.
    pub(super) fn ran(&mut self, connection: ConnectionId, op: Op, result: Result<RunEnd, RunError>) {
        let place = self.programs.iter().position(|program| (program.connection, program.op) == (connection, op));
        let program = place.map(|place| self.programs.swap_remove(place));
        let reached = program.as_ref().and_then(|program| program.reached);
        match result {
            Ok(mut end) => {
                // One that ended by itself just before was not ended for it.
                end.limit = reached.filter(|_| end.signal == Some(nix::libc::SIGKILL));
                // One that was broken off is run again by the next who connects.
                let is_over = |program: Program| program.starts && (program.wanted.is_some() || program.reached.is_some());
                self.started |= program.is_some_and(is_over);
                if let Some(link) = self.link.as_mut().filter(|link| link.id == connection) {
                    link.answer(&FromShim::Ended { op, end });
                }
            }
            Err(error) => self.reply(connection, op, Err(report::chain(&error))),
        }
    }
}

fn argv(job: Job) -> Vec<String> {
    let files = |command: &str| [INIT_INSIDE, "files", command, WORKSPACE_INSIDE].map(str::to_owned).to_vec();
    match job {
        Job::Shell { command } => vec![SHELL.to_owned(), "-c".to_owned(), command],
        Job::List { excludes, max } => {
            let excludes = excludes.into_iter().flat_map(|pattern| ["--exclude".to_owned(), pattern]);
            files("list").into_iter().chain([max.to_string()]).chain(excludes).collect()
        }
        Job::Read { path, max } => [files("read"), vec![max.to_string(), path]].concat(),
        Job::Write { path } => [files("write"), vec![path]].concat(),
        Job::Delete { path } => [files("delete"), vec![path]].concat(),
    }
}
