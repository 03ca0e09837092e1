//! Limits that change while sandboxes come up and run.

use serde_json::Map;

use super::*;
use crate::link::shim::RunLimits;
use crate::wire::usage::ModelUsage;

fn change(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

impl World {
    fn limited(&self) -> Vec<UnitLimits> {
        self.launcher.limited.lock().expect("not poisoned").clone()
    }
}

impl Shim {
    /// The next limits that it is told.
    async fn limits(&mut self) -> RunLimits {
        loop {
            if let ToShim::Configure { options } = self.hear().await {
                return options.limits;
            }
        }
    }
}

#[tokio::test]
async fn a_change_is_on_the_unit_and_with_the_shim_when_it_is_answered() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let first = shim.limits().await;
    assert_eq!((first.turn_ms, first.budget.before.is_none()), (None, true));
    let asked = change(json!({"memoryMb": 512, "maxProcesses": 100, "turnSeconds": 5, "maxTokens": 7}));
    let body = soon("the answer", world.sessions.change_limits("default", session, asked)).await.expect("changes");
    assert_eq!((body.pending, body.limits.tasks), (Vec::<String>::new(), Some(100)));
    let [started, changed] = world.limited()[..] else { panic!("{:?}", world.limited()) };
    assert_eq!((changed.memory, changed.tasks, changed.cpu), (ByteCount(512 << 20), 100, started.cpu));
    let told = shim.limits().await;
    assert_eq!((told.turn_ms, told.budget.tokens), (Some(5000), Some(7)));
    // What the unit has already is not set again.
    let asked = change(json!({"turnSeconds": null}));
    soon("the answer", world.sessions.change_limits("default", session, asked)).await.expect("changes");
    assert_eq!((shim.limits().await.turn_ms, world.limited().len()), (None, 2));
}

#[tokio::test]
async fn what_the_launcher_does_not_take_is_named_and_kept_for_the_next_sandbox() {
    let mut world = World::new().await;
    let (session, shim) = world.session().await;
    world.launcher.down.store(true, Ordering::SeqCst);
    let asked = change(json!({"memoryMb": 512, "turnSeconds": 5}));
    let body = soon("the answer", world.sessions.change_limits("default", session, asked)).await.expect("changes");
    assert_eq!((body.pending, body.session.memory), (vec!["memoryMb".to_owned()], Some(ByteCount(512 << 20))));
    world.launcher.down.store(false, Ordering::SeqCst);
    world.launcher.end_all();
    drop(shim);
    world.post(session, "again", IfBusy::Queue).await;
    world.fresh_shim().await;
    assert_eq!(world.limited().last().map(|limits| limits.memory), Some(ByteCount(512 << 20)));
}

#[tokio::test]
async fn a_change_while_the_sandbox_comes_up_counts_in_it() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    world.post(row.id, "first", IfBusy::Queue).await;
    let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), None).await;
    let asked = change(json!({"memoryMb": 256, "maxTokens": 7}));
    soon("the answer", world.sessions.change_limits("default", row.id, asked)).await.expect("changes");
    assert_eq!(world.limited().len(), 1, "it was started with the old ones");
    shim.set_up().await;
    assert_eq!(shim.limits().await.budget.tokens, Some(7));
    shim.given().await;
    assert_eq!(world.limited().last().map(|limits| limits.memory), Some(ByteCount(256 << 20)));
}

#[tokio::test]
async fn what_was_packed_comes_back_whole_and_a_quota_counts_from_then_on() {
    const LEAST: u64 = 16 << 20;
    // What so much of an archive could be on the disk is more than the limit, or is not.
    for (quota, kib, lifted) in [(true, 1025, true), (true, 1024, false), (false, 1025, false)] {
        let mut world = World::new().await;
        world.launcher.quota.store(quota, Ordering::SeqCst);
        let row = world.left(Status::Active).await;
        world.snapshot_of(SnapshotId { session: row.id, event: 1 }, Reason::Stop, kib).await;
        let asked = change(json!({"diskMb": 16}));
        soon("the answer", world.sessions.change_limits("default", row.id, asked)).await.expect("changes");
        world.post(row.id, "first", IfBusy::Queue).await;
        let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), None).await;
        shim.set_up().await;
        shim.given().await;
        let disks: Vec<u64> = world.limited().iter().map(|limits| limits.disk.0).collect();
        let wanted = if lifted { &[LEAST, 1025 << 14, LEAST][..] } else { &[LEAST] };
        assert_eq!(disks, wanted, "{quota} {kib}");
    }
}

/// The end of a turn that took so many tokens of a model.
fn billed(turn: TurnId, tokens: u64) -> Value {
    let models = json!({"m": {"calls": 1, "inputTokens": tokens}});
    json!({"turnId": turn, "state": "failed", "usage": {"models": models}})
}

fn input_tokens(before: Option<&BTreeMap<String, ModelUsage>>) -> Option<u64> {
    before.map(|models| models.values().map(|usage| usage.input_tokens).sum())
}

#[tokio::test]
async fn what_turns_took_counts_in_a_session_without_a_conversation() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    let turn = world.left_turn(row.id, true).await;
    let events = vec![row_event(Kind::TurnEnded, turn, billed(turn, 70).to_string())];
    world.store.advance(row.id, Advance { events, ..Advance::default() }).await.expect("stores");
    world.post(row.id, "on", IfBusy::Queue).await;
    let shim = world.fresh_shim().await;
    let setup = shim.setup.expect("set up");
    assert!(!setup.resume, "nothing was said");
    assert_eq!(input_tokens(setup.options.limits.budget.before.as_ref()), Some(70));
}

#[tokio::test]
async fn no_turn_begins_before_the_shim_knows_what_those_before_took() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let paid = world.post(session, "a", IfBusy::Queue).await;
    shim.given().await;
    shim.tell(1, vec![(paid, Kind::TurnEnded, billed(paid, 70))]).await;
    shim.acknowledged(1).await;
    let cut = world.post(session, "b", IfBusy::Queue).await;
    shim.given().await;
    let incarnation = shim.incarnation;
    world.launcher.end_all();
    drop(shim);
    let next = world.post(session, "c", IfBusy::Queue).await;
    let mut shim = Shim::hello_with(world.connection().await, incarnation, None, 2).await;
    shim.set_up().await;
    let database = rusqlite::Connection::open(world.folder.path().join("ash.db")).expect("opens");
    let write_bill = |bill: &str| {
        let count = database.execute("update turns set usage = ?1 where id = ?2", rusqlite::params![bill, paid.to_string()]);
        assert_eq!(count.expect("writes"), 1);
    };
    write_bill("unreadable");
    shim.tell(2, vec![said(cut, "cut off")]).await;
    shim.acknowledged(2).await;
    // The driver takes this up after it has failed to read the bills.
    let asked = change(json!({"turnSeconds": 7}));
    assert!(soon("the answer", world.sessions.change_limits("default", session, asked)).await.is_err(), "it has them as well");
    write_bill(&billed(paid, 70)["usage"].to_string());
    loop {
        match shim.hear().await {
            ToShim::Configure { options } if options.limits.budget.before.is_some() => {
                assert_eq!(input_tokens(options.limits.budget.before.as_ref()), Some(70));
                break;
            }
            ToShim::Turn(turn) => panic!("{turn:?} began"),
            _ => {}
        }
    }
    assert_eq!(shim.given().await.id, next);
}
