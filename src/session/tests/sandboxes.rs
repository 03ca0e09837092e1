//! Sandboxes that end: the one event that tells of it, and what the next shim still has to say.

use super::*;

/// What its log tells of it as a whole, where `is_wanted` of the action holds.
async fn told(world: &World, session: SessionId, is_wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    let filter = EventFilter { kinds: vec![Kind::Lifecycle], ..EventFilter::default() };
    let events = world.store.events(session, 0, 1000, filter).await.expect("reads");
    let data = events.iter().map(|event| serde_json::from_str::<Value>(&event.data).expect("JSON"));
    data.filter(|data| data["action"].as_str().is_some_and(&is_wanted)).collect()
}

/// The causes of all ends of sandboxes that the log tells of.
async fn causes(world: &World, session: SessionId) -> Vec<String> {
    let ends = told(world, session, |action| action == "sandbox_ended").await;
    ends.iter().map(|data| data["cause"].as_str().expect("a cause").to_owned()).collect()
}

async fn wait_for_cause(world: &World, session: SessionId) -> Vec<String> {
    soon("the end to be told", async {
        loop {
            let causes = causes(world, session).await;
            if !causes.is_empty() {
                return causes;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn what_a_dead_shim_left_is_stored_before_its_turn_is_interrupted() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    let waiting = world.post(session, "b", IfBusy::Queue).await;
    shim.given().await;
    shim.tell(1, vec![said(turn, "one")]).await;
    shim.acknowledged(1).await;
    let incarnation = shim.incarnation;
    world.launcher.end_all();
    drop(shim);
    let mut shim = Shim::hello_with(world.connection().await, incarnation, None, 3).await;
    shim.set_up().await;
    shim.tell(2, vec![said(turn, "two")]).await;
    shim.acknowledged(2).await;
    assert_eq!(world.store.get_turn(session, turn).await.expect("reads").last_event, None, "the third is not there yet");
    shim.tell(3, vec![said(turn, "three")]).await;
    assert_eq!(world.ended(session, turn).await, ("interrupted".to_owned(), texts(&["one", "two", "three"])));
    assert_eq!(shim.given().await.id, waiting, "and only now");
    assert_eq!(causes(&world, session).await, ["operator"]);
}

#[tokio::test]
async fn who_waits_while_a_session_is_stopped_has_the_next_sandbox_and_no_command_runs_in_it() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let sessions = world.sessions.clone();
    let stopping = tokio::spawn(async move { sessions.stop("default", session).await });
    let op = shim.packing().await;
    let (row, sessions) = (world.sessions.get("default", session).await.expect("found"), world.sessions.clone());
    let visit = |purpose| sessions.ask(&row, move |reply| Request::Visit { purpose, reply });
    let mut command = pin!(visit(driver::Purpose::Exec));
    let mut writer = pin!(visit(driver::Purpose::Write));
    waits(&mut command).await;
    waits(&mut writer).await;
    shim.is_packed(op).await;
    let refused = soon("the command", command).await.expect_err("it is stopped");
    assert!(matches!(refused, SessionError::Status(Status::Stopped)), "{refused}");
    let _shim = world.fresh_shim().await;
    soon("the writer", writer).await.expect("is let in");
    assert_eq!(soon("the stop", stopping).await.expect("no panic").expect("stops").status, Status::Stopped);
}

#[tokio::test]
async fn a_turn_that_was_over_in_the_dead_shim_is_completed() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    shim.given().await;
    let incarnation = shim.incarnation;
    world.launcher.end_all();
    drop(shim);
    let mut shim = Shim::hello_with(world.connection().await, incarnation, None, 2).await;
    shim.set_up().await;
    shim.work(1, turn, "whole").await;
    assert_eq!(world.ended(session, turn).await, ("completed".to_owned(), texts(&["whole"])));
    let next = world.post(session, "b", IfBusy::Queue).await;
    assert_eq!(shim.given().await.id, next);
}

#[tokio::test]
async fn a_turn_is_not_repeated_when_the_daemon_dies_while_it_settles() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    let running = world.left_turn(row.id, true).await;
    // A sandbox that was started in the place of one that died, and not taken up for the log.
    world.launcher.launch(row.sandbox);
    world.sessions.recover().await.expect("recovers");
    let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), Some(row.id)).await;
    assert_eq!(world.ended(row.id, running).await.0, "interrupted");
    let next = world.post(row.id, "b", IfBusy::Queue).await;
    assert_eq!(shim.given().await.id, next);
}

#[tokio::test]
async fn each_end_of_a_sandbox_is_told_once_with_its_cause() {
    for (ended, cause) in [
        (Some(Ended::OutOfMemory), "out_of_memory"),
        (Some(Ended::Timeout), "time"),
        (Some(Ended::Exited { code: 1 }), "crash"),
        (Some(Ended::Signal { number: 9 }), "crash"),
        (None, "operator"),
    ] {
        let mut world = World::new().await;
        let (session, shim) = world.session().await;
        *world.launcher.ended.lock().expect("not poisoned") = ended;
        world.launcher.end_all();
        drop(shim);
        assert_eq!(wait_for_cause(&world, session).await, [cause]);
        world.sessions.end("default", session).await.expect("ends");
        // Its folder is still to be packed, for which it comes up once more; or not, and goes then.
        for _ in 0..3 {
            drop(world.connection().await);
        }
        world.launcher.is_empty().await;
        assert_eq!(causes(&world, session).await, [cause], "it has no sandbox any more whose end could be told");
    }
}

#[tokio::test]
async fn the_end_of_a_session_is_the_end_of_its_sandbox() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    world.sessions.end("default", session).await.expect("ends");
    shim.pack().await;
    world.launcher.is_empty().await;
    assert_eq!(causes(&world, session).await, ["finished"]);
}

#[tokio::test]
async fn a_sandbox_of_an_earlier_boot_was_ended_by_the_host() {
    let world = World::new().await;
    let row = world.left(Status::Active).await;
    let earlier = Advance { sandbox: Some(Some("an earlier one".to_owned())), ..Advance::default() };
    world.store.advance(row.id, earlier).await.expect("stores");
    world.sessions.recover().await.expect("recovers");
    assert_eq!(wait_for_cause(&world, row.id).await, ["host"]);
}

#[tokio::test]
async fn the_end_of_a_sandbox_is_told_also_when_its_place_was_taken_at_once() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    shim.given().await;
    let sandbox = world.sessions.get("default", session).await.expect("found").sandbox;
    world.launcher.end(sandbox);
    world.launcher.launch(sandbox);
    drop(shim);
    let mut shim = world.fresh_shim().await;
    assert_eq!(world.ended(session, turn).await.0, "interrupted");
    assert_eq!(causes(&world, session).await, ["crash"]);
    let next = world.post(session, "b", IfBusy::Queue).await;
    assert_eq!(shim.given().await.id, next);
    world.sessions.end("default", session).await.expect("ends");
    assert_eq!(causes(&world, session).await, ["crash", "finished"], "one for each");
}

#[tokio::test]
async fn no_end_is_told_of_a_sandbox_that_may_live() {
    let mut world = World::new().await;
    let (session, shim) = world.session().await;
    let incarnation = shim.incarnation;
    world.launcher.down.store(true, Ordering::SeqCst);
    drop(shim);
    soon("the loss to be seen", async {
        while world.sessions.phase(session) != Phase::Cold {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.launcher.down.store(false, Ordering::SeqCst);
    let turn = world.post(session, "a", IfBusy::Queue).await;
    let mut shim = Shim::hello(world.connection().await, incarnation, Some(session)).await;
    assert_eq!(shim.given().await.id, turn);
    shim.work(1, turn, "done").await;
    assert_eq!(world.ended(session, turn).await.0, "completed");
    assert_eq!(causes(&world, session).await, [""; 0]);
}

#[tokio::test]
async fn a_sandbox_of_an_earlier_version_is_known_to_be_of_this_boot_once_it_is_connected() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    // As the migration leaves it.
    let unknown = Advance { sandbox: Some(Some(String::new())), ..Advance::default() };
    world.store.advance(row.id, unknown).await.expect("stores");
    world.launcher.launch(row.sandbox);
    world.sessions.recover().await.expect("recovers");
    let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), Some(row.id)).await;
    let turn = world.post(row.id, "a", IfBusy::Queue).await;
    assert_eq!(shim.given().await.id, turn);
    world.launcher.end_all();
    drop(shim);
    assert_eq!(wait_for_cause(&world, row.id).await, ["operator"], "and not the host");
}

#[tokio::test]
async fn what_can_never_be_stored_costs_its_turn_and_no_later_message() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    shim.given().await;
    let incarnation = shim.incarnation;
    shim.tell(5, vec![said(turn, "four are missing")]).await;
    assert_eq!(world.ended(session, turn).await.0, "interrupted");
    let next = world.post(session, "b", IfBusy::Queue).await;
    // The spool of the last shim is found by the next.
    let mut shim = Shim::hello_with(world.connection().await, incarnation, None, 5).await;
    shim.set_up().await;
    shim.tell(5, vec![said(turn, "four are missing")]).await;
    shim.acknowledged(5).await;
    assert_eq!(shim.given().await.id, next);
    shim.work(6, next, "on").await;
    assert_eq!(world.ended(session, next).await, ("completed".to_owned(), texts(&["on"])));
    assert_eq!(causes(&world, session).await, ["crash"]);
}

/// What its log says of resumes.
async fn resumes(world: &World, session: SessionId) -> Vec<Value> {
    told(world, session, |action| action.starts_with("resume")).await
}

#[tokio::test]
async fn who_resumes_a_session_while_it_is_taken_up_after_a_restart_is_answered() {
    let mut world = World::new().await;
    let row = world.left(Status::Paused).await;
    let boot = Some(Some(crate::sandbox::boot_id()));
    world.store.advance(row.id, Advance { sandbox: boot, ..Advance::default() }).await.expect("stores");
    world.launcher.launch(row.sandbox);
    world.launcher.held.send_replace(true);
    assert_eq!(world.sessions.recover().await.expect("recovers").attached, 1);
    let (sessions, id) = (world.sessions.clone(), row.id);
    let resuming = tokio::spawn(async move { sessions.resume("default", id).await });
    soon("it to be active", async {
        while world.store.get_session("default", id).await.expect("reads").status != Status::Active {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.launcher.held.send_replace(false);
    let _shim = Shim::hello(world.connection().await, Uuid::now_v7(), Some(id)).await;
    soon("the answer", resuming).await.expect("no panic").expect("resumes");
    assert_eq!(resumes(&world, id).await, [json!({"action": "resumed", "path": "warm"})]);
}

#[tokio::test]
async fn a_session_whose_sandbox_stays_frozen_is_resumed_with_another_one() {
    let mut world = World::new().await;
    let (id, mut shim) = world.session().await;
    let sessions = world.sessions.clone();
    let pausing = tokio::spawn(async move { sessions.pause("default", id).await });
    let ToShim::Pack { op, .. } = shim.order().await else { panic!("no packing") };
    shim.say(&FromShim::Failed { op, error: "no".to_owned() }).await;
    soon("the pause", pausing).await.expect("no panic").expect("pauses");
    assert_eq!(world.sessions.phase(id), Phase::Frozen);
    world.launcher.stuck.store(true, Ordering::SeqCst);
    let sessions = world.sessions.clone();
    let resuming = tokio::spawn(async move { sessions.resume("default", id).await });
    let _other = world.fresh_shim().await;
    soon("the answer", resuming).await.expect("no panic").expect("resumes");
    assert_eq!(resumes(&world, id).await, [json!({"action": "resumed", "path": "cold", "source": "fresh"})]);
}

#[tokio::test]
async fn a_session_that_can_not_be_resumed_is_what_it_was_and_says_why() {
    let mut world = World::new().await;
    let row = world.left(Status::Stopped).await;
    let turn = world.left_turn(row.id, false).await;
    for round in 1..=2 {
        let (sessions, id) = (world.sessions.clone(), row.id);
        let resuming = tokio::spawn(async move { sessions.resume("default", id).await });
        drop(world.connection().await);
        let error = soon("the answer", resuming).await.expect("no panic").expect_err("no sandbox");
        assert!(error.to_string().starts_with("Failed to resume session: "), "{error}");
        let told = resumes(&world, row.id).await;
        assert!(told.len() == round && told.iter().all(|one| one["action"] == "resume_failed"), "{told:?}");
        assert_eq!(world.store.get_session("default", row.id).await.expect("reads").status, Status::Stopped);
    }
    assert_eq!(world.store.queue(row.id).await.expect("reads"), [turn], "what waits goes on waiting");
}

#[tokio::test]
async fn what_is_written_when_a_session_is_stopped_is_in_its_snapshot() {
    let mut world = World::new().await;
    let (id, mut shim) = world.session().await;
    let sessions = world.sessions.clone();
    let writing = tokio::spawn(async move { sessions.delete_file("default", id, "a test", "a").await });
    let ToShim::Run { op, .. } = shim.order().await else { panic!("no program") };
    let sessions = world.sessions.clone();
    let stopping = tokio::spawn(async move { sessions.stop("default", id).await });
    let early = tokio::time::timeout(Duration::from_millis(200), shim.order()).await;
    assert!(early.is_err(), "packed while a file is written: {early:?}");
    shim.say(&FromShim::Ended { op, end: RunEnd { code: Some(0), ..RunEnd::default() } }).await;
    soon("the writing", writing).await.expect("no panic").expect("is written");
    shim.pack().await;
    soon("the stop", stopping).await.expect("no panic").expect("stops");
}

#[tokio::test]
async fn a_sweep_tells_the_end_of_a_sandbox_that_nobody_saw_end() {
    let mut world = World::new().await;
    let (session, shim) = world.session().await;
    world.launcher.down.store(true, Ordering::SeqCst);
    world.launcher.end_all();
    drop(shim);
    soon("the driver to lose it", async {
        while world.sessions.phase(session) != Phase::Cold {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(world.sessions.sweep().await, Err(SweepError::List(_))), "nothing can be compared");
    assert!(causes(&world, session).await.is_empty(), "it may live");
    world.launcher.down.store(false, Ordering::SeqCst);
    assert_eq!(world.sessions.sweep().await.expect("sweeps").differing, 1);
    assert_eq!(wait_for_cause(&world, session).await, ["operator"]);
    assert_eq!(world.sessions.sweep().await.expect("sweeps"), Swept::default());
}

#[tokio::test]
async fn a_sweep_ends_what_was_left_running_and_takes_up_what_lives() {
    let mut world = World::new().await;
    let (left, lost) = (world.left(Status::Stopped).await, world.left(Status::Active).await);
    let boot = Advance { sandbox: Some(Some(crate::sandbox::boot_id())), ..Advance::default() };
    world.store.advance(lost.id, boot).await.expect("stores");
    world.launcher.launch(left.sandbox);
    world.launcher.launch(lost.sandbox);
    let stranger = SandboxId::new();
    world.launcher.launch(stranger);
    let swept = world.sessions.sweep().await.expect("sweeps");
    assert_eq!(swept, Swept { orphans: 1, differing: 2, snapshots: 0 });
    let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), Some(lost.id)).await;
    let turn = world.post(lost.id, "a", IfBusy::Queue).await;
    assert_eq!(shim.given().await.id, turn);
    let mut changes = world.launcher.changes.subscribe();
    let runs = |sandbox| matches!(world.launcher.all().get(&sandbox), Some(Some(_)));
    soon("the others to end", changes.wait_for(|_| !runs(left.sandbox) && !runs(stranger))).await.expect("lives");
    assert!(runs(lost.sandbox));
}

/// A session whose log says that snapshot 2 took the place of its folder, which is there.
async fn left_over(world: &World) -> SessionRow {
    let row = world.left(Status::Stopped).await;
    world.folder_of(row.sandbox);
    world.snapshot(SnapshotId { session: row.id, event: 1 }, Reason::Request).await;
    world.snapshot(SnapshotId { session: row.id, event: 2 }, Reason::Stop).await;
    let ended = json!({"action": "sandbox_ended", "cause": "finished", "snapshot": 2});
    world.log(row.id, &[json!({"action": "created"}), json!({"action": "snapshot"}), ended]).await;
    row
}

/// Whether a sweep leaves the folder of a sandbox.
async fn stays(world: &World, row: &SessionRow) -> bool {
    // Its driver does what there is to do before it answers anybody.
    let swept = world.sessions.sweep().await.expect("sweeps");
    assert_eq!(world.sessions.interrupt("default", row.id).await.expect("answers"), None);
    let is_there = world.launcher.all().contains_key(&row.sandbox);
    assert_eq!(swept.differing, usize::from(!is_there));
    is_there
}

#[tokio::test]
async fn a_folder_goes_with_a_sweep_when_the_snapshot_that_took_its_place_is_whole() {
    let world = World::new().await;
    let row = left_over(&world).await;
    // What does not touch the workspace changes nothing.
    world.log(row.id, &[json!({"action": "egress"})]).await;
    assert!(!stays(&world, &row).await);
}

#[tokio::test]
async fn a_folder_stays_whose_snapshot_is_damaged_also_if_another_one_is_whole() {
    let world = World::new().await;
    let row = left_over(&world).await;
    let data = world.folder.path().join(format!("snapshots/{}/{:019}/data.tar.zst", row.id, 2));
    let mut bytes = std::fs::read(&data).expect("reads");
    bytes[10] ^= 1;
    std::fs::write(&data, bytes).expect("writes");
    assert!(stays(&world, &row).await, "it has what the older one has not");
    world.sessions.context.snapshots.remove(SnapshotId { session: row.id, event: 2 }).await.expect("removes");
    assert!(stays(&world, &row).await);
}

#[tokio::test]
async fn a_folder_stays_that_was_worked_in_since() {
    let world = World::new().await;
    let row = left_over(&world).await;
    // By a daemon with a newer state of the database, which is put back.
    let ended = world.store.events(row.id, 2, 1, EventFilter::default()).await.expect("reads")[0].at;
    // Files have the time of the last tick.
    let made = || std::fs::metadata(world.launcher.socket(row.sandbox)).and_then(|socket| socket.modified());
    while Timestamp::from_system(made().expect("is there")) <= ended {
        world.folder_of(row.sandbox);
        tokio::task::yield_now().await;
    }
    assert!(stays(&world, &row).await);
    let world = World::new().await;
    let row = left_over(&world).await;
    let other = json!({"action": "sandbox_ended", "cause": "crash"});
    world.log(row.id, &[json!({"action": "resumed"}), other]).await;
    assert!(stays(&world, &row).await, "its last sandbox left no snapshot");
    let world = World::new().await;
    let row = left_over(&world).await;
    std::fs::remove_file(world.launcher.socket(row.sandbox)).expect("removes");
    assert!(stays(&world, &row).await, "who knows");
}

#[tokio::test]
async fn a_store_that_forgot_all_it_knew_is_not_believed() {
    let mut world = World::new().await;
    let (session, _shim) = world.session().await;
    world.sessions.sweep().await.expect("sweeps");
    world.store.forget_session(session).await.expect("forgets");
    let error = world.sessions.sweep().await.expect_err("removes nothing");
    assert!(matches!(error, SweepError::Forgotten { knew: 1, sandboxes: 1 }), "{error}");
    assert_eq!(world.launcher.all().len(), 1);
}

#[tokio::test]
async fn what_belongs_to_another_database_is_left_alone() {
    let world = World::new().await;
    let own = world.sessions.check_owners(&Owners::default()).await.expect("nothing is there yet");
    world.launcher.launch(SandboxId::new());
    let strange = |owner: Option<&str>| Owners { sandboxes: owner.map(str::to_owned), snapshots: None };
    for owner in [None, Some("another")] {
        let error = world.sessions.check_owners(&strange(owner)).await.expect_err("is refused");
        assert!(matches!(error, RecoverError::OtherDatabase { sandboxes: 1, snapshots: 0 }), "{error}");
    }
    assert_eq!(world.sessions.check_owners(&strange(Some(&own))).await.expect("is ours"), own);
    // An earlier version wrote nothing down, and its database knows sessions.
    world.left(Status::Active).await;
    world.sessions.check_owners(&strange(None)).await.expect("is taken for ours");
}

#[tokio::test]
async fn an_older_database_ends_its_open_turns_and_goes_on_after_what_it_lost() {
    for acked in [Some(7), None] {
        let mut world = World::new().await;
        let row = world.left(Status::Active).await;
        let boot = Advance { sandbox: Some(Some(crate::sandbox::boot_id())), ..Advance::default() };
        world.store.advance(row.id, boot).await.expect("stores");
        let (running, waiting) = (world.left_turn(row.id, true).await, world.left_turn(row.id, false).await);
        world.launcher.launch(row.sandbox);
        world.sessions.recover().await.expect("recovers");
        let incarnation = Uuid::now_v7();
        let mut shim = Shim::hello_after(world.connection().await, incarnation, Some(row.id), 9, acked).await;
        // Turns of the newer state are not known here.
        let unknown = TurnId::new();
        shim.work(8, unknown, "of the newer state").await;
        shim.acknowledged(9).await;
        for turn in [running, waiting] {
            assert_eq!(world.ended(row.id, turn).await.0, "interrupted");
        }
        let next = world.post(row.id, "b", IfBusy::Queue).await;
        let given = loop {
            // Without its number, the gap shows only after the running turn was given again.
            match shim.given().await.id {
                turn if turn == running && acked.is_none() => {}
                turn => break turn,
            }
        };
        assert_eq!(given, next);
        shim.work(10, next, "on").await;
        assert_eq!(world.ended(row.id, next).await, ("completed".to_owned(), texts(&["on"])));
        let log = world.store.events(row.id, 0, 1000, EventFilter::default()).await.expect("reads");
        let lost: Vec<_> = log.iter().filter(|event| event.data.contains("events_lost")).collect();
        assert_eq!(lost.len(), 1, "{log:?}");
        assert!(lost[0].data.contains(r#""from":1"#) && lost[0].data.contains(r#""through":7"#), "{lost:?}");
        assert_eq!(log.iter().filter(|event| event.data.contains("of the newer state")).count(), 1);
        assert!(log.iter().zip(1..).all(|(event, id)| event.id == id), "ids have no gap");
    }
}

#[tokio::test]
async fn what_an_ended_sandbox_left_and_nobody_can_store_is_set_aside() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    shim.given().await;
    let incarnation = shim.incarnation;
    world.launcher.end_all();
    drop(shim);
    let mut shim = Shim::hello_with(world.connection().await, incarnation, None, 2).await;
    shim.set_up().await;
    shim.tell(1, vec![(turn, Kind::TurnEnded, json!({"state": "no end"})), said(turn, "x")]).await;
    shim.acknowledged(2).await;
    assert_eq!(world.ended(session, turn).await.0, "interrupted");
    let next = world.post(session, "b", IfBusy::Queue).await;
    assert_eq!(shim.given().await.id, next, "the session goes on in this sandbox");
    let log = world.store.events(session, 0, 1000, EventFilter::default()).await.expect("reads");
    assert_eq!(log.iter().filter(|event| event.data.contains("events_lost")).count(), 1);
}
