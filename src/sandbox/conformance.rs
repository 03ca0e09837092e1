//! The suite that each [`Launcher`] passes. It needs a shim that accepts connections and ends when
//! it is asked to.

use std::time::Duration;

use tokio::net::UnixStream;

use super::{LaunchError, Launcher, Limits, Spec};
use crate::wire::quantity::{ByteCount, Percent};
use crate::wire::{SandboxId, SessionId};

/// Plenty for a shim that listens to being asked.
const GRACE: Duration = Duration::from_secs(20);

/// What a backend may lack.
#[derive(Debug, Clone, Copy)]
pub struct Abilities {
    /// Whether it can freeze.
    pub freezes: bool,
}

/// A sandbox that does not exist yet.
pub fn spec() -> Spec {
    let limits = Limits { memory: ByteCount(256 << 20), cpu: Percent(100), tasks: 64, disk: ByteCount(64 << 20) };
    Spec { sandbox: SandboxId::new(), session: SessionId::new(), agent: "conformance".to_owned(), limits }
}

/// Panics on the first thing that is not as the trait promises. Leaves nothing behind then.
pub async fn suite(launcher: &dyn Launcher, abilities: Abilities) {
    life_and_end(launcher).await;
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
    launcher.limit(sandbox, &Limits { tasks: 128, ..spec.limits }).await.expect("takes new limits");

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

async fn freezing(launcher: &dyn Launcher, abilities: Abilities) {
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
