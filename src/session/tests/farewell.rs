//! The end of a session whose sandbox does not play along.

use super::*;

impl World {
    async fn end(&self, session: SessionId) {
        soon("the end", self.sessions.end("default", session)).await.expect("ends");
    }

    /// Reasons and events of a session's snapshots.
    async fn taken(&self, session: SessionId) -> Vec<(Reason, i64)> {
        let listed = self.sessions.snapshots("default", session).await.expect("lists");
        listed.into_iter().map(|one| one.state.expect("whole")).map(|manifest| (manifest.reason, manifest.event)).collect()
    }

    /// The last event of a session's life.
    async fn last(&self, session: SessionId) -> (i64, Value) {
        let log = self.store.events(session, 0, 1000, EventFilter::default()).await.expect("reads");
        let last = log.last().expect("an event");
        (last.id, serde_json::from_str(&last.data).expect("JSON"))
    }
}

#[tokio::test]
async fn a_sandbox_whose_connection_breaks_is_packed_by_another_one_in_its_folder() {
    // Before it is packed, and while it is.
    for is_packing in [false, true] {
        let mut world = World::new().await;
        let (session, mut shim) = world.session().await;
        if is_packing {
            world.end(session).await;
            assert!(matches!(shim.order().await, ToShim::Pack { .. }));
        } else {
            let turn = world.post(session, "a", IfBusy::Queue).await;
            assert_eq!(shim.given().await.id, turn);
            world.end(session).await;
            assert!(matches!(shim.order().await, ToShim::Interrupt { .. }));
        }
        drop(shim);
        let mut other = world.fresh_shim().await;
        other.pack().await;
        world.launcher.is_empty().await;
        let (last, data) = world.last(session).await;
        assert_eq!(data["action"], "ended", "nothing failed, so nothing is told");
        assert_eq!(world.taken(session).await, [(Reason::End, last)]);
    }
}

#[tokio::test]
async fn a_sandbox_that_dies_while_it_waits_is_packed_from_its_folder() {
    let mut world = World::new().await;
    let (session, shim) = world.session().await;
    let turns = world.sessions.context.farewells.acquire_many(FAREWELLS as u32).await.expect("open");
    world.end(session).await;
    world.launcher.end_all();
    drop(shim);
    drop(turns);
    world.fresh_shim().await.pack().await;
    world.launcher.is_empty().await;
    assert_eq!(world.taken(session).await.len(), 1);
}

#[tokio::test]
async fn the_time_for_further_tries_begins_with_the_end_however_long_a_session_rested() {
    let mut world = World::new().await;
    let row = world.left_at(Status::Active, Timestamp(crate::store::now().millis() - 2 * 60 * 60 * 1000)).await;
    world.folder_of(row.sandbox);
    // It is loaded, and knows how long it has rested.
    assert_eq!(world.sessions.interrupt("default", row.id).await.expect("answers"), None);
    world.launcher.down.store(true, Ordering::SeqCst);
    world.end(row.id).await;
    soon("the first try", async {
        while !world.sessions.leaving().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(world.last(row.id).await.1["action"], "ended", "it is not given up");
    let refused = world.sessions.download("default", row.id, true).await.expect_err("an older state would be no answer");
    assert!(matches!(refused, SessionError::NotKept), "{refused}");

    world.launcher.down.store(false, Ordering::SeqCst);
    world.sessions.recover().await.expect("recovers");
    world.fresh_shim().await.pack().await;
    world.launcher.is_empty().await;
    assert_eq!(world.taken(row.id).await.len(), 1);
}

#[tokio::test]
async fn an_end_without_a_snapshot_is_told_by_the_log_and_leaves_nothing() {
    let mut world = World::new().await;
    let (session, shim) = world.session().await;
    world.end(session).await;
    drop(shim);
    for _ in 0..2 {
        drop(world.connection().await);
    }
    world.launcher.is_empty().await;
    let (last, data) = world.last(session).await;
    assert_eq!(data["action"], "snapshot_failed");
    assert!(data["error"].as_str().is_some_and(|error| error.starts_with("bring the sandbox up")), "{data}");
    assert_eq!(world.taken(session).await, []);
    assert!(world.connections.try_recv().is_err(), "it is not tried for ever");

    // Its folder is there again, as if it could not have been removed: nothing more is to be packed.
    let row = world.sessions.get("default", session).await.expect("found");
    world.folder_of(row.sandbox);
    assert_eq!(world.sessions.recover().await.expect("recovers").ended, 1);
    world.launcher.is_empty().await;
    assert!(world.connections.try_recv().is_err());
    assert_eq!(world.last(session).await.0, last);
}

#[tokio::test]
async fn a_fork_waits_for_the_last_snapshot_and_not_for_the_folder_to_go() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    world.launcher.kept.send_replace(true);
    world.end(session).await;
    let sessions = world.sessions.clone();
    let forking = tokio::spawn(async move { sessions.fork("default", session, None).await });
    shim.pack().await;
    let fork = soon("the fork", forking).await.expect("no panic").expect("forks");
    assert_eq!(fork.parent, Some(session));
    assert_eq!(world.sessions.leaving(), [session], "and nobody else removes it");
    world.launcher.kept.send_replace(false);
    world.launcher.is_empty().await;
}

#[tokio::test]
async fn a_snapshot_of_another_state_of_the_database_is_not_taken_for_the_last_one() {
    let mut world = World::new().await;
    let row = world.left(Status::Ended).await;
    world.log(row.id, &[json!({"action": "created"}), json!({"action": "ended"})]).await;
    let id = SnapshotId { session: row.id, event: 2 };
    // One for another reason, and one of a log that was longer.
    world.snapshot(id, Reason::Request).await;
    world.snapshot(SnapshotId { event: 9, ..id }, Reason::End).await;
    world.folder_of(row.sandbox);
    let refused = world.sessions.fork("default", row.id, None).await.expect_err("of an older state");
    assert!(matches!(refused, SessionError::NotKept), "{refused}");
    world.sessions.recover().await.expect("recovers");
    let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), None).await;
    shim.set_up().await;
    shim.pack().await;
    world.launcher.is_empty().await;
    assert_eq!(world.taken(row.id).await, [(Reason::End, 2)]);
    world.sessions.fork("default", row.id, None).await.expect("forks");
}
