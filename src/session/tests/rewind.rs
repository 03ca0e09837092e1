//! Going back to a snapshot, where the daemon ends in between. `tests/rewind.rs` has the rest.

use super::*;

/// What its log tells of ways back.
async fn ways(world: &World, session: SessionId) -> Vec<Value> {
    let log = world.store.events(session, 0, 1000, EventFilter::default()).await.expect("reads");
    let data = log.iter().map(|event| serde_json::from_str::<Value>(&event.data).expect("JSON"));
    data.filter(|data| data["action"].as_str().is_some_and(|action| action.starts_with("rew"))).collect()
}

impl World {
    fn rewind(&self, session: SessionId, event: i64) -> JoinHandle<Result<SessionRow, SessionError>> {
        let sessions = self.sessions.clone();
        tokio::spawn(async move { sessions.rewind("default", session, event, false).await })
    }

    /// Takes a snapshot of a session that is up; returns its event.
    async fn keep(&self, session: SessionId, shim: &mut Shim) -> i64 {
        let sessions = self.sessions.clone();
        let taking = tokio::spawn(async move { sessions.snapshot("default", session).await });
        shim.pack().await;
        soon("the snapshot", taking).await.expect("no panic").expect("is taken").event
    }
}

#[tokio::test]
async fn a_way_back_that_was_not_written_down_is_in_the_log_after_a_restart() {
    let world = World::new().await;
    let row = world.left(Status::Stopped).await;
    world.log(row.id, &[json!({}), json!({})]).await;
    let id = SnapshotId { session: row.id, event: 1 };
    world.snapshot(id, Reason::Stop).await;
    world.sessions.recover().await.expect("recovers");
    assert_eq!(world.sessions.get("default", row.id).await.expect("found").tail, 2, "nothing is ahead of the log");

    // The copy was made, and then the daemon ended.
    world.sessions.context.snapshots.copy(id, SnapshotId { event: 3, ..id }).await.expect("copies");
    for _ in 0..2 {
        world.sessions.recover().await.expect("recovers");
        let events = world.store.events(row.id, 2, 10, EventFilter::default()).await.expect("reads");
        let told: Vec<_> = events.iter().map(|event| (event.id, event.data.as_str())).collect();
        assert_eq!(told, [(3, r#"{"action":"rewound","eventId":1}"#)]);
    }
}

#[tokio::test]
async fn a_copy_of_a_newer_state_of_the_database_is_not_taken_for_the_next_event() {
    let world = World::new().await;
    let row = world.left(Status::Stopped).await;
    world.log(row.id, &[json!({}), json!({})]).await;
    let id = SnapshotId { session: row.id, event: 1 };
    world.snapshot(id, Reason::Stop).await;
    // In the log that this one was put back from, the way back is event 7.
    world.sessions.context.snapshots.copy(id, SnapshotId { event: 7, ..id }).await.expect("copies");
    for _ in 0..2 {
        world.sessions.recover().await.expect("recovers");
        assert_eq!(world.sessions.get("default", row.id).await.expect("found").tail, 2, "nothing is written down");
    }
}

#[tokio::test]
async fn what_comes_while_a_folder_is_removed_is_taken_and_waits() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let first = world.keep(session, &mut shim).await;
    world.launcher.kept.send_replace(true);
    let going = world.rewind(session, first);
    shim.pack().await;
    world.launcher.is_removing().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    let cancelled = world.post(session, "b", IfBusy::Queue).await;
    soon("the answer", world.sessions.cancel("default", session, cancelled)).await.expect("is cancelled");
    assert!(!going.is_finished() && world.sessions.phase(session) == Phase::Cold);
    world.launcher.kept.send_replace(false);
    soon("the way back", going).await.expect("no panic").expect("goes back");
    let mut shim = world.fresh_shim().await;
    assert_eq!(shim.given().await.id, turn);
    let told = ways(&world, session).await;
    assert_eq!((told.len(), &told[0]["action"], &told[0]["eventId"]), (1, &json!("rewound"), &json!(first)), "{told:?}");
}

#[tokio::test]
async fn who_wants_in_while_it_goes_back_is_let_in_behind_it() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let first = world.keep(session, &mut shim).await;
    world.launcher.kept.send_replace(true);
    let going = world.rewind(session, first);
    let op = shim.packing().await;
    let row = world.sessions.get("default", session).await.expect("found");
    let sessions = world.sessions.clone();
    let mut visit = pin!(sessions.ask(&row, |reply| Request::Visit { purpose: driver::Purpose::Exec, reply }));
    waits(&mut visit).await;
    shim.is_packed(op).await;
    world.launcher.is_removing().await;
    world.launcher.kept.send_replace(false);
    soon("the way back", going).await.expect("no panic").expect("goes back");
    let _shim = world.fresh_shim().await;
    soon("the visit", visit).await.expect("is let in");
}

#[tokio::test]
async fn a_session_that_is_ended_while_it_goes_back_is_not_started_again() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let first = world.keep(session, &mut shim).await;
    world.launcher.kept.send_replace(true);
    let going = world.rewind(session, first);
    shim.pack().await;
    world.launcher.is_removing().await;
    soon("the end", world.sessions.end("default", session)).await.expect("ends");
    let refused = soon("the answer", going).await.expect("no panic").expect_err("it is over");
    assert!(matches!(refused, SessionError::Over), "{refused}");
    world.launcher.kept.send_replace(false);
    world.launcher.is_empty().await;
    assert!(world.connections.try_recv().is_err(), "what it was is in a snapshot already");
    assert_eq!(ways(&world, session).await, [Value::Null; 0]);
}

#[tokio::test]
async fn a_way_back_that_comes_to_nothing_is_told_and_the_session_goes_on_as_it_was() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let first = world.keep(session, &mut shim).await;
    // It can not be packed.
    let going = world.rewind(session, first);
    let ToShim::Pack { op, .. } = shim.order().await else { panic!("no packing") };
    shim.say(&FromShim::Failed { op, error: "a test".to_owned() }).await;
    soon("the answer", going).await.expect("no panic").expect_err("it did not");
    let turn = world.post(session, "a", IfBusy::Queue).await;
    assert_eq!(shim.given().await.id, turn, "its sandbox is as it was");
    shim.work(1, turn, "on").await;
    assert_eq!(world.ended(session, turn).await.0, "completed");
    // Its folder can not be removed.
    world.launcher.sticky.store(true, Ordering::SeqCst);
    let going = world.rewind(session, first);
    shim.pack().await;
    let refused = soon("the answer", going).await.expect("no panic").expect_err("it did not");
    assert!(refused.to_string().contains("can not be removed"), "{refused}");
    let told = ways(&world, session).await;
    let reason = |number: usize| told[number]["error"].as_str().expect("a reason").to_owned();
    assert!(told.len() == 2 && told.iter().all(|one| one["action"] == "rewind_failed" && one["eventId"] == first), "{told:?}");
    assert!(reason(0).contains("a test") && reason(1).contains("can not be removed"), "{told:?}");
    let turn = world.post(session, "b", IfBusy::Queue).await;
    assert_eq!(world.fresh_shim().await.given().await.id, turn);
}

#[tokio::test]
async fn a_session_goes_back_also_from_a_snapshot_that_is_ahead_of_an_older_database() {
    let world = World::new().await;
    let row = world.left(Status::Stopped).await;
    world.log(row.id, &[json!({}), json!({})]).await;
    let id = SnapshotId { session: row.id, event: 1 };
    world.snapshot(id, Reason::Stop).await;
    world.snapshot(SnapshotId { event: 9, ..id }, Reason::Stop).await;
    soon("the way back", world.rewind(row.id, 1)).await.expect("no panic").expect("goes back");
    let told = [json!({"action": "rewound", "eventId": 9}), json!({"action": "rewound", "eventId": 1, "savedEventId": 3})];
    assert_eq!(ways(&world, row.id).await, told);
    let listed = world.sessions.snapshots("default", row.id).await.expect("lists");
    let origin = |one: &crate::snapshot::Listed| one.state.as_ref().expect("whole").forked_from.map(|origin| origin.event);
    let listed: Vec<_> = listed.iter().map(|one| (one.id.event, origin(one))).collect();
    assert_eq!(listed, [(1, None), (3, Some(9)), (4, Some(1))], "how it was is kept, and not the newest any more");
}

#[tokio::test]
async fn a_fork_of_a_snapshot_that_is_ahead_of_an_older_database_has_a_log_without_a_gap() {
    let world = World::new().await;
    let row = world.left(Status::Stopped).await;
    world.log(row.id, &[json!({}), json!({})]).await;
    world.snapshot(SnapshotId { session: row.id, event: 9 }, Reason::Stop).await;
    let child = world.sessions.fork("default", row.id, None).await.expect("forks");
    assert_eq!(child.tail, 2);
    let listed = world.sessions.snapshots("default", child.id).await.expect("lists");
    assert_eq!(listed.iter().map(|one| one.id.event).collect::<Vec<_>>(), [2]);
}
