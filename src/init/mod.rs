//! `ash-init`: process 1 inside a sandbox.
//!
//! It starts and signals programs when the shim asks, reaps every process that ends, and opens
//! listeners on the sandbox's loopback, which it hands out. One thread, one loop, no parser of
//! untrusted data: requests come from the shim alone, over the socket that is its standard input.
//! When the shim's end of that socket closes, it kills everything and exits.
//!
//! ```text
//! ash-shim ══ socket pair ══▶ serve ── fork ──▶ runtime, tools
//!                              ▲  └── fork ──▶ ash-init unpack /work, pack …, restore …
//!                              └── SIGCHLD (signalfd): reap
//! ```
//!
//! `ash-init unpack DIR` is the same program as an ordinary process inside: see [`unpack`]. So are
//! `ash-init pack` and `ash-init restore`, which take a snapshot's bytes out and in: [`pack`],
//! [`restore`]. `ash-init files` works on single files of the workspace: [`files`].

pub mod files;
pub mod pack;
mod place;
pub mod restore;
mod serve;
mod sys;
pub mod unpack;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::BufReader;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Names a path below HOME to `pack` and to `restore`.
const STATE: &str = "--state";
/// Names a pattern of what is not packed.
const EXCLUDE: &str = "--exclude";
/// Has `restore` leave what is there, where the archive has nothing else.
const OVER: &str = "--over";
/// Bytes of an archive that are read at once.
const BUFFER: usize = 256 << 10;

/// Why init ended.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The arguments are wrong.
    #[error(
        "usage: ash-init serve | ash-init unpack DIR | ash-init pack WORK HOME [--state PATH | --exclude PATTERN]... | \
         ash-init restore WORK HOME [--over] [--state PATH]... | ash-init files list WORK MAX [--exclude PATTERN]... | \
         ash-init files read WORK MAX PATH | ash-init files write WORK PATH | ash-init files delete WORK PATH"
    )]
    Usage,
    /// A system call failed.
    #[error("{step}")]
    Sys {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The shim sent what init does not understand.
    #[error("message of the shim can not be read")]
    Message(#[from] serde_json::Error),
    /// The archive could not be unpacked.
    #[error("unpack")]
    Unpack(#[from] unpack::UnpackError),
    /// The sandbox could not be packed.
    #[error("pack")]
    Pack(#[from] pack::PackError),
    /// The snapshot could not be restored.
    #[error("restore")]
    Restore(#[from] restore::RestoreError),
    /// A file could not be listed, read, written or deleted.
    #[error(transparent)]
    Files(#[from] files::FilesError),
}

impl InitError {
    fn sys<E: Into<std::io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Sys { step, source: source.into() }
    }

    /// The exit code that says it.
    pub const fn code(&self) -> u8 {
        if let Self::Files(error) = self { error.code() } else { 1 }
    }
}

/// Runs the program with its arguments (without its name), to its end.
pub fn run(args: impl Iterator<Item = OsString>) -> Result<(), InitError> {
    let args: Vec<_> = args.collect();
    let (command, rest) = args.split_first().ok_or(InitError::Usage)?;
    match (command.to_str(), rest) {
        (Some("serve"), []) => serve::serve(),
        (Some("unpack"), [folder]) => Ok(unpack::unpack(std::io::stdin().lock(), folder.as_ref())?),
        (Some("pack"), [work, home, options @ ..]) => pack(work.as_ref(), home.as_ref(), options),
        (Some("restore"), [work, home, over, options @ ..]) if over == OVER => {
            restore(work.as_ref(), home.as_ref(), true, options)
        }
        (Some("restore"), [work, home, options @ ..]) => restore(work.as_ref(), home.as_ref(), false, options),
        (Some("files"), [command, work, rest @ ..]) => files(command, work.as_ref(), rest),
        _ => Err(InitError::Usage),
    }
}

fn files(command: &OsStr, work: &Path, rest: &[OsString]) -> Result<(), InitError> {
    let number = |text: &OsStr| text.to_str().and_then(|text| text.parse().ok()).ok_or(InitError::Usage);
    alone()?;
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().map_err(InitError::sys("take standard output"))?;
    match (command.to_str(), rest) {
        (Some("list"), [max, options @ ..]) => {
            let (state, excludes) = read(options)?;
            if !state.is_empty() {
                return Err(InitError::Usage);
            }
            let excludes = crate::archive::exclude::Excludes::new(excludes.iter().map(|pattern| pattern.as_bytes()));
            Ok(files::list(work, &excludes, number(max)?, File::from(stdout))?)
        }
        (Some("read"), [max, path]) => Ok(files::read(work, path.as_ref(), number(max)?, File::from(stdout))?),
        (Some("write"), [path]) => Ok(files::write(work, path.as_ref(), std::io::stdin().lock())?),
        (Some("delete"), [path]) => Ok(files::delete(work, path.as_ref())?),
        _ => Err(InitError::Usage),
    }
}

fn pack(work: &Path, home: &Path, options: &[OsString]) -> Result<(), InitError> {
    let (state, excludes) = read(options)?;
    alone()?;
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().map_err(InitError::sys("take standard output"))?;
    let excludes = crate::archive::exclude::Excludes::new(excludes.iter().map(|pattern| pattern.as_bytes()));
    let left_out = pack::pack(&pack::Plan { work, home, state: &state, excludes: &excludes }, File::from(stdout))?;
    if left_out.special > 0 {
        say(&format!("{} sockets, pipes and devices were left out", left_out.special));
    }
    if left_out.attributes > 0 {
        say(&format!("{} attributes of files were left out", left_out.attributes));
    }
    Ok(())
}

fn restore(work: &Path, home: &Path, over: bool, options: &[OsString]) -> Result<(), InitError> {
    let (state, excludes) = read(options)?;
    if !excludes.is_empty() {
        return Err(InitError::Usage);
    }
    alone()?;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(InitError::sys("take standard input"))?;
    let archive = BufReader::with_capacity(BUFFER, File::from(stdin));
    let left_out = restore::restore(&restore::Plan { work, home, state: &state, over }, archive)?;
    if left_out > 0 {
        say(&format!("{left_out} attributes of files were left out"));
    }
    Ok(())
}

/// Paths below HOME, and patterns.
fn read(options: &[OsString]) -> Result<(Vec<PathBuf>, Vec<OsString>), InitError> {
    let (mut state, mut excludes) = (Vec::new(), Vec::new());
    for pair in options.chunks(2) {
        match pair {
            [option, path] if option == STATE => state.push(path.into()),
            [option, pattern] if option == EXCLUDE => excludes.push(pattern.clone()),
            _ => return Err(InitError::Usage),
        }
    }
    Ok((state, excludes))
}

/// Others inside have the same user. They are not to look into what goes in and out, or change it.
fn alone() -> Result<(), InitError> {
    nix::sys::prctl::set_dumpable(false).map_err(InitError::sys("prctl(PR_SET_DUMPABLE)"))
}

/// Says something on standard error, which the shim reads.
fn say(text: &str) {
    use std::io::Write;
    // Nobody may listen.
    let _unheard = writeln!(std::io::stderr(), "{text}");
}
