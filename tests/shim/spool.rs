//! Events that wait on disk: for a daemon that is away, for a shim after this one, for room.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use ash::link::shim::{EndState, ShimEvent, ToShim};
use serde_json::Value;

use crate::support::{Daemon, Host, Shim, until};

const NOWHERE: &str = "http://127.0.0.1:1";

/// Bytes of the events on disk.
fn spooled(host: &Host) -> u64 {
    let Ok(entries) = fs::read_dir(host.path("state/spool/events")) else { return 0 };
    // A file may go while it is looked at.
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}

/// Numbers of the stand-in's lines, in the order in which they came.
fn fillers(events: &[ShimEvent]) -> Vec<u64> {
    let lines = events.iter().filter(|event| event.data.get().contains(r#""filler""#));
    let lines = lines.map(|event| serde_json::from_str::<Value>(event.data.get()).expect("JSON"));
    lines.map(|line| line["i"].as_u64().expect("a number")).collect()
}

async fn kill(mut shim: Shim) {
    shim.child.0.kill().expect("killed");
    shim.ended().await;
}

/// Takes events up to this one.
async fn take(daemon: &mut Daemon, newest: u64) {
    daemon.event("the newest event", |event| event.n == newest).await;
}

#[tokio::test]
async fn a_shim_that_is_killed_leaves_its_events_to_the_next() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.connect().await;
    let incarnation = daemon.hello().await.incarnation;
    daemon.open(&host).await.expect("opened");
    daemon.setup(host.setup(NOWHERE)).await.expect("set up");
    daemon.acks = false;
    let turn = daemon.begin("flood: 100000").await;
    daemon.event("its beginning", |event| event.turn == Some(turn)).await;
    drop(daemon);
    // More than is kept in memory.
    until("events wait on disk", || (spooled(&host) > 3 << 20).then_some(())).await;
    kill(shim).await;

    let shim = host.shim();
    let mut daemon = shim.connect().await;
    let state = daemon.hello().await;
    assert_eq!((state.incarnation, state.session, state.turn), (incarnation, None, None));
    take(&mut daemon, state.newest).await;
    assert_eq!(daemon.events.iter().map(|event| event.n).collect::<Vec<_>>(), (1..=state.newest).collect::<Vec<_>>());
    let lines = fillers(&daemon.events);
    assert_eq!(lines, (0..lines.len() as u64).collect::<Vec<_>>());
    assert!(lines.len() > 40, "{}", lines.len());
    // All is acknowledged, and the next still knows what was said.
    until("the disk is free again", || (spooled(&host) < 100).then_some(())).await;
    kill(shim).await;

    let shim = host.shim();
    let mut daemon = shim.connect().await;
    let again = daemon.hello().await;
    assert_eq!((again.incarnation, again.newest), (incarnation, state.newest));
    daemon.open(&host).await.expect("opened");
    daemon.setup(host.setup(NOWHERE)).await.expect("set up");
    let (turn, end) = daemon.turn("hello").await;
    assert_eq!((end.state, daemon.result(turn).as_str()), (EndState::Completed, "hello"));
    assert_eq!(daemon.events.first().map(|event| event.n), Some(state.newest + 1));
}

#[tokio::test]
async fn a_flood_waits_at_the_bound_of_the_disk_and_nothing_is_lost() {
    let host = Host::new();
    let bound = 8 << 20;
    let shim = host.shim_with(|command| {
        command.args(["--spool-max", &bound.to_string()]);
    });
    let mut daemon = shim.ready(&host, NOWHERE).await;
    daemon.acks = false;
    // Three times what the spool takes.
    let turn = daemon.begin("flood: 384").await;
    until("the spool is full", || (spooled(&host) >= bound).then_some(())).await;
    // Asked after the spool was full, and answered: the shim itself does not wait.
    daemon.open(&host).await.expect("answered");
    assert!(spooled(&host) < bound + (1 << 20), "{}", spooled(&host));
    let under_way: usize = daemon.events.iter().map(|event| event.data.get().len()).sum();
    assert!(under_way < 2 << 20, "{under_way} bytes were sent without an acknowledgement");
    daemon.acks = true;
    let through = daemon.events.last().expect("some").n;
    daemon.send(&ToShim::Ack { through }).await;
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
    assert_eq!(fillers(&daemon.events), (0..384).collect::<Vec<_>>());
    until("the disk is free again", || (spooled(&host) < 100).then_some(())).await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_for_a_while_delays_nothing_and_costs_nothing() {
    let host = Host::new();
    let spool = host.path("state/spool");
    let shim = host.shim();
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o555)).expect("set");
    let mut daemon = shim.connect().await;
    let incarnation = daemon.hello().await.incarnation;
    daemon.open(&host).await.expect("opened");
    daemon.setup(host.setup(NOWHERE)).await.expect("set up");
    assert_eq!(daemon.turn("one").await.1.state, EndState::Completed);
    daemon.acks = false;
    assert_eq!(daemon.turn("two").await.1.state, EndState::Completed);
    let newest = daemon.events.last().expect("some").n;
    assert_eq!(spooled(&host), 0);
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o755)).expect("set");
    until("events are on disk", || shim.log().contains("events can be written to disk again").then_some(())).await;
    for line in ["events can not be written to disk", "events can be written to disk again"] {
        assert_eq!(shim.log().matches(line).count(), 1, "{line}");
    }
    kill(shim).await;
    let shim = host.shim();
    let mut daemon = shim.connect().await;
    let state = daemon.hello().await;
    assert_eq!((state.incarnation, state.newest), (incarnation, newest));
    take(&mut daemon, newest).await;
    assert!(fillers(&daemon.events).is_empty() && daemon.events[0].n > 1, "what was acknowledged is not sent again");
}

#[tokio::test]
async fn a_spool_that_can_not_be_read_stops_nothing() {
    let host = Host::new();
    let events = host.path("state/spool/events");
    fs::create_dir(&events).expect("made");
    fs::write(events.join("1"), "this was something else before it came here, and is long enough").expect("written");
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    let (_, end) = daemon.turn("hello").await;
    assert_eq!((end.state, daemon.events[0].n), (EndState::Completed, 1));
    assert!(host.path("state/spool/damaged/1").exists());
    assert!(shim.log().contains("setting it aside"), "{}", shim.log());
}
