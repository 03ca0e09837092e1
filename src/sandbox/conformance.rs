//! The suite that each [`Launcher`] passes. It needs a shim that accepts connections and ends when
//! it is asked to.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::{Ended, LaunchError, Launcher, Limits, Spec};
use crate::wire::quantity::{ByteCount, Percent};
use crate::wire::{SandboxId, SessionId};

/// Plenty for a shim that listens to being asked.
const GRACE: Duration = Duration::from_secs(20);
/// How often to look whether something that the suite did has been noticed.
const POLL: Duration = Duration::from_millis(5);

/// What a backend may lack, and what it starts.
#[derive(Debug, Clone, Copy)]
pub struct Abilities<'a> {
    /// Whether it can freeze.
    pub freezes: bool,
    /// The program of the shim; another one takes its place for a moment.
    pub shim: &'a Path,
}

/// A sandbox that does not exist yet.
pub fn spec() -> Spec {
    let limits = Limits {
        memory: ByteCount(256 << 20),
        memory_high: None,
        swap: ByteCount(0),
        cpu: Percent(100),
        tasks: 64,
        disk: ByteCount(64 << 20),
        io_weight: None,
        io_read: None,
        io_write: None,
    };
    Spec { sandbox: SandboxId::new(), session: SessionId::new(), agent: "conformance".to_owned(), limits }
}

/// Panics on the first thing that is not as the trait promises. Leaves nothing behind then.
pub async fn suite(launcher: &dyn Launcher, abilities: Abilities<'_>) {
    life_and_end(launcher).await;
    a_good_end_leaves_nothing_to_tell(launcher).await;
    a_bad_end_is_told_until_something_is_done(launcher).await;
    a_shim_that_fails_is_told_by_its_status(launcher, abilities).await;
    nothing_to_act_on_is_no_error(launcher).await;
    freezing(launcher, abilities).await;
    several_at_a_time(launcher).await;
    a_bad_spec_is_refused(launcher).await;
}

/// Whether a sandbox is listed, and if so whether as running.
async fn listed(launcher: &dyn Launcher, sandbox: SandboxId) -> Option<bool> {
    let all = launcher.list().await.expect("lists");
    all.iter().find(|listed| listed.sandbox == sandbox).map(|listed| listed.running)
}

async fn life_and_end(launcher: &dyn Launcher) {
    let spec = spec();
    let sandbox = spec.sandbox;
    let started = launcher.start(&spec).await.expect("starts");
    assert!(started.fresh && !started.running, "{started:?}");
    UnixStream::connect(&started.socket).await.expect("can be connected to at once");

    let again = launcher.start(&spec).await.expect("is found");
    assert!(!again.fresh && again.running, "{again:?}");
    assert_eq!(again.socket, started.socket);
    UnixStream::connect(&again.socket).await.expect("is the same socket");
    let all = launcher.list().await.expect("lists");
    let one = all.iter().find(|listed| listed.sandbox == sandbox).expect("is listed");
    assert!(one.running && one.socket == started.socket, "{one:?}");

    let refused = launcher.remove(sandbox).await.expect_err("has processes");
    assert!(matches!(refused, LaunchError::Refused(_)), "{refused}");
    let more = Limits { memory_high: Some(ByteCount(200 << 20)), io_weight: Some(50), tasks: 128, ..spec.limits };
    for limits in [more, spec.limits, Limits { tasks: 23, ..more }] {
        let outcome = launcher.limit(sandbox, &limits).await;
        assert_eq!(outcome.is_ok(), limits.tasks >= 24, "{outcome:?}");
    }

    launcher.stop(sandbox, GRACE).await.expect("stops");
    assert_eq!(listed(launcher, sandbox).await, Some(false), "its folder stays");
    let third = launcher.start(&spec).await.expect("starts on its folder");
    assert!(!third.fresh && !third.running, "{third:?}");
    UnixStream::connect(&third.socket).await.expect("listens again");
    launcher.kill(sandbox).await.expect("kills");
    assert_eq!(listed(launcher, sandbox).await, Some(false));
    launcher.remove(sandbox).await.expect("removes");
    assert_eq!(listed(launcher, sandbox).await, None);
}

/// How a sandbox ended, once its processes are gone.
async fn ended(launcher: &dyn Launcher, sandbox: SandboxId) -> Option<Ended> {
    let deadline = Instant::now() + GRACE;
    loop {
        let all = launcher.list().await.expect("lists");
        let one = all.into_iter().find(|listed| listed.sandbox == sandbox).expect("its folder stays");
        if !one.running {
            return one.ended;
        }
        assert_eq!(one.ended, None, "what runs has not ended");
        assert!(Instant::now() < deadline, "{sandbox} still runs");
        tokio::time::sleep(POLL).await;
    }
}

/// Kills the shim of a sandbox behind the launcher's back.
async fn kill_shim(sandbox: SandboxId) {
    let id = sandbox.to_string();
    let is_shim = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|b| *b == 0).collect();
        words.windows(2).any(|pair| pair == [b"--sandbox", id.as_bytes()])
    };
    let deadline = Instant::now() + GRACE;
    loop {
        let entries = std::fs::read_dir("/proc").expect("reads");
        let found = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).find(is_shim);
        if let Some(pid) = found {
            return kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kills");
        }
        assert!(Instant::now() < deadline, "{sandbox} has no shim");
        tokio::time::sleep(POLL).await;
    }
}

async fn a_good_end_leaves_nothing_to_tell(launcher: &dyn Launcher) {
    let spec = spec();
    for _ in 0..2 {
        launcher.start(&spec).await.expect("starts, also over one that ended");
        launcher.stop(spec.sandbox, GRACE).await.expect("stops");
        assert_eq!(ended(launcher, spec.sandbox).await, None);
    }
    launcher.start(&spec).await.expect("starts");
    launcher.kill(spec.sandbox).await.expect("kills");
    assert_eq!(ended(launcher, spec.sandbox).await, None, "whoever kills knows why");
    launcher.remove(spec.sandbox).await.expect("removes");
}

async fn a_bad_end_is_told_until_something_is_done(launcher: &dyn Launcher) {
    let spec = spec();
    let sandbox = spec.sandbox;
    let killed = Some(Ended::Signal { number: 9 });
    let die = async || {
        launcher.start(&spec).await.expect("starts over it");
        kill_shim(sandbox).await;
        for _ in 0..2 {
            assert_eq!(ended(launcher, sandbox).await, killed, "as often as it is asked");
        }
    };
    die().await;
    let again = launcher.start(&spec).await.expect("starts over it");
    assert!(!again.fresh && !again.running, "{again:?}");
    UnixStream::connect(&again.socket).await.expect("listens again");
    assert_eq!(listed(launcher, sandbox).await, Some(true));
    launcher.stop(sandbox, GRACE).await.expect("stops");
    assert_eq!(ended(launcher, sandbox).await, None);
    die().await;
    launcher.stop(sandbox, GRACE).await.expect("is over already");
    assert_eq!(ended(launcher, sandbox).await, None, "a stop makes it forgotten");
    die().await;
    launcher.kill(sandbox).await.expect("is over already");
    assert_eq!(ended(launcher, sandbox).await, None, "a kill makes it forgotten");
    die().await;
    launcher.remove(sandbox).await.expect("removes");
    assert_eq!(listed(launcher, sandbox).await, None);
}

async fn a_shim_that_fails_is_told_by_its_status(launcher: &dyn Launcher, abilities: Abilities<'_>) {
    let spec = spec();
    let aside = abilities.shim.with_extension("aside");
    std::fs::rename(abilities.shim, &aside).expect("renames");
    install(abilities.shim, "#!/bin/sh\nexit 3\n");
    // A start may be done before the shim's program is read.
    launcher.start(&spec).await.expect("starts");
    let ended = ended(launcher, spec.sandbox).await;
    std::fs::rename(&aside, abilities.shim).expect("renames");
    assert_eq!(ended, Some(Ended::Exited { code: 3 }));
    launcher.start(&spec).await.expect("starts over it");
    launcher.kill(spec.sandbox).await.expect("kills");
    launcher.remove(spec.sandbox).await.expect("removes");
}

/// Makes a program of a script, by another process: one that a fork of this process holds open for writing can not be run.
pub fn install(program: &Path, script: &str) {
    let text = program.with_extension("text");
    std::fs::write(&text, script).expect("writes");
    let installed = std::process::Command::new("install").arg("-m755").args([&*text, program]).status();
    assert!(installed.is_ok_and(|status| status.success()), "install starts");
    std::fs::remove_file(text).expect("removes");
}

async fn nothing_to_act_on_is_no_error(launcher: &dyn Launcher) {
    let sandbox = SandboxId::new();
    launcher.stop(sandbox, GRACE).await.expect("nothing to stop");
    launcher.kill(sandbox).await.expect("nothing to kill");
    launcher.remove(sandbox).await.expect("nothing to remove");
    // These would have an effect that can not be had.
    for result in [launcher.freeze(sandbox).await, launcher.limit(sandbox, &spec().limits).await] {
        assert!(matches!(result, Err(LaunchError::Refused(_))), "{result:?}");
    }
}

async fn freezing(launcher: &dyn Launcher, abilities: Abilities<'_>) {
    let spec = spec();
    let sandbox = spec.sandbox;
    launcher.start(&spec).await.expect("starts");
    if abilities.freezes {
        for _ in 0..2 {
            launcher.freeze(sandbox).await.expect("freezes");
        }
        assert_eq!(listed(launcher, sandbox).await, Some(true), "frozen processes are processes");
        for _ in 0..2 {
            launcher.thaw(sandbox).await.expect("thaws");
        }
        launcher.freeze(sandbox).await.expect("freezes");
        launcher.stop(sandbox, GRACE).await.expect("stops what is frozen");
        launcher.start(&spec).await.expect("starts");
        launcher.freeze(sandbox).await.expect("freezes");
    } else {
        let refused = launcher.freeze(sandbox).await.expect_err("can not");
        assert!(matches!(refused, LaunchError::Refused(_)), "{refused}");
        assert!(!launcher.lacks().is_empty(), "what is missing is said");
        launcher.thaw(sandbox).await.expect("is not frozen");
    }
    launcher.kill(sandbox).await.expect("kills");
    launcher.remove(sandbox).await.expect("removes");
}

async fn several_at_a_time(launcher: &dyn Launcher) {
    let specs = [spec(), spec(), spec()];
    let [a, b, c] = &specs;
    let (first, second, third, same) = tokio::join!(launcher.start(a), launcher.start(b), launcher.start(c), launcher.start(a));
    let (first, same) = (first.expect("starts"), same.expect("starts or is found"));
    assert!(first.fresh != same.fresh && first.running != same.running, "one of two starts: {first:?} {same:?}");
    assert_ne!(second.expect("starts").socket, third.expect("starts").socket);
    let (x, y, z) = tokio::join!(launcher.kill(a.sandbox), launcher.stop(b.sandbox, GRACE), launcher.kill(c.sandbox));
    x.and(y).and(z).expect("all end");
    for spec in &specs {
        assert_eq!(listed(launcher, spec.sandbox).await, Some(false));
        launcher.remove(spec.sandbox).await.expect("removes");
    }
}

async fn a_bad_spec_is_refused(launcher: &dyn Launcher) {
    let mut spec = spec();
    spec.agent = "../../etc".to_owned();
    let refused = launcher.start(&spec).await.expect_err("has a bad name");
    assert!(matches!(refused, LaunchError::Refused(_)), "{refused}");
    assert_eq!(listed(launcher, spec.sandbox).await, None);
}
