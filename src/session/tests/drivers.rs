//! Turns and sandboxes in the usual order and out of it.

use super::*;

#[tokio::test]
async fn a_shim_that_dies_in_open_fails_the_creation_and_leaves_nothing() {
    let mut world = World::new().await;
    let sessions = world.sessions.clone();
    let creating = tokio::spawn(async move { sessions.create("default", body()).await });
    let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), None).await;
    assert!(matches!(shim.order().await, ToShim::Open { .. }));
    drop(shim);
    let error = soon("the answer", creating).await.expect("no panic").expect_err("no sandbox");
    assert!(error.to_string().starts_with("Failed to create session: "), "{error}");
    world.launcher.is_empty().await;
    assert!(world.store.living_sessions().await.expect("reads").is_empty());
}

#[tokio::test]
async fn a_creation_whose_caller_went_away_leaves_nothing_when_it_fails() {
    let mut world = World::new().await;
    let sessions = world.sessions.clone();
    let creating = tokio::spawn(async move { sessions.create("default", body()).await });
    let shim = Shim::hello(world.connection().await, Uuid::now_v7(), None).await;
    creating.abort();
    assert!(creating.await.is_err_and(|error| error.is_cancelled()));
    drop(shim);
    world.launcher.is_empty().await;
    soon("the session to be forgotten", async {
        while !world.store.living_sessions().await.expect("reads").is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_shim_that_dies_in_a_turn_ends_it_once_and_the_next_message_works() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "first", IfBusy::Queue).await;
    assert_eq!(shim.given().await.id, turn);
    shim.tell(1, vec![said(turn, "begun")]).await;
    shim.acknowledged(1).await;
    world.launcher.end_all();
    drop(shim);
    let mut shim = world.fresh_shim().await;
    assert_eq!(world.ended(session, turn).await, ("interrupted".to_owned(), texts(&["begun"])));
    let next = world.post(session, "second", IfBusy::Queue).await;
    let given = shim.given().await;
    assert_eq!((given.id, given.content.get()), (next, "\"second\""));
    shim.work(1, next, "done").await;
    assert_eq!(world.ended(session, next).await, ("completed".to_owned(), texts(&["done"])));
}

#[tokio::test]
async fn what_is_delivered_again_after_a_reconnect_is_stored_once() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "first", IfBusy::Queue).await;
    shim.given().await;
    shim.tell(1, vec![said(turn, "one"), said(turn, "two")]).await;
    shim.acknowledged(2).await;
    let incarnation = shim.incarnation;
    drop(shim);
    let mut shim = Shim::hello(world.connection().await, incarnation, Some(session)).await;
    assert_eq!(shim.given().await.id, turn, "the shim ignores it, if it has it");
    shim.tell(1, vec![said(turn, "one"), said(turn, "two"), said(turn, "three"), over(turn, "completed")]).await;
    assert_eq!(world.ended(session, turn).await, ("completed".to_owned(), texts(&["one", "two", "three"])));
}

#[tokio::test]
async fn a_lost_connection_interrupts_nothing_while_the_launcher_is_away() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "first", IfBusy::Queue).await;
    shim.given().await;
    let incarnation = shim.incarnation;
    world.launcher.down.store(true, Ordering::SeqCst);
    drop(shim);
    soon("the loss to be seen", async {
        while world.sessions.phase(session) == Phase::Running {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.launcher.down.store(false, Ordering::SeqCst);
    let mut shim = Shim::hello(world.connection().await, incarnation, Some(session)).await;
    shim.given().await;
    shim.work(1, turn, "whole").await;
    assert_eq!(world.ended(session, turn).await, ("completed".to_owned(), texts(&["whole"])));
}

#[tokio::test]
async fn turns_run_in_the_order_of_their_messages() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let mut turns = Vec::new();
    for content in ["a", "b", "c"] {
        turns.push(world.post(session, content, IfBusy::Queue).await);
    }
    let busy = world.try_post(session, "d", IfBusy::Reject).await.expect_err("busy");
    assert!(matches!(busy, SessionError::Busy(turn) if turn == turns[0]), "{busy}");
    for (first, turn) in [1, 3, 5].into_iter().zip(&turns) {
        assert_eq!(shim.given().await.id, *turn);
        shim.work(first, *turn, "done").await;
    }
    for turn in turns {
        assert_eq!(world.ended(session, turn).await.0, "completed");
    }
}

#[tokio::test]
async fn a_message_that_interrupts_goes_before_those_that_wait() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let running = world.post(session, "a", IfBusy::Queue).await;
    let waiting = world.post(session, "b", IfBusy::Queue).await;
    shim.given().await;
    let urgent = world.post(session, "c", IfBusy::Interrupt).await;
    assert!(matches!(shim.order().await, ToShim::Interrupt { turn: Some(turn) } if turn == running));
    shim.tell(1, vec![over(running, "interrupted")]).await;
    assert_eq!(shim.given().await.id, urgent);
    shim.work(2, urgent, "at once").await;
    assert_eq!(shim.given().await.id, waiting);
    assert_eq!(world.ended(session, running).await.0, "interrupted");
}

#[tokio::test]
async fn an_interrupt_without_a_connection_is_delivered_with_the_next() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    shim.given().await;
    let incarnation = shim.incarnation;
    drop(shim);
    let connection = world.connection().await;
    let interrupted = soon("the answer", world.sessions.interrupt("default", session)).await.expect("takes it");
    assert_eq!(interrupted, Some(turn));
    let mut shim = Shim::hello(connection, incarnation, Some(session)).await;
    assert_eq!(shim.given().await.id, turn);
    assert!(matches!(shim.order().await, ToShim::Interrupt { turn: Some(meant) } if meant == turn));
}

#[tokio::test]
async fn a_session_that_ends_while_its_sandbox_opens_leaves_none() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    world.launcher.held.send_replace(true);
    let turn = world.post(row.id, "a", IfBusy::Queue).await;
    let ended = soon("the end", world.sessions.end("default", row.id)).await.expect("ends");
    assert_eq!(ended.status, Status::Ended);
    world.launcher.held.send_replace(false);
    // Whether or not it still came up, and another one in its folder, it goes.
    for _ in 0..3 {
        drop(world.connection().await);
    }
    world.launcher.is_empty().await;
    assert_eq!(world.ended(row.id, turn).await.0, "cancelled");
}

#[tokio::test]
async fn a_stale_look_at_an_ended_session_does_not_bring_it_back() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let stale = world.sessions.get("default", session).await.expect("found");
    world.sessions.end("default", session).await.expect("ends");
    shim.pack().await;
    let body = |reply| {
        let content = serde_json::value::to_raw_value("x").expect("JSON");
        let body = MessageBody { content, options: TurnOptions::default(), if_busy: IfBusy::Queue };
        Request::Post { body: Box::new(body), key: None, reply }
    };
    let refused = soon("the answer", world.sessions.ask(&stale, body)).await.expect_err("ended");
    assert!(matches!(refused, SessionError::Status(Status::Ended)), "{refused}");
    world.launcher.is_empty().await;
}

#[tokio::test]
async fn settings_that_change_keep_the_agents_model() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let setup = shim.setup.take().expect("set up");
    assert_eq!(setup.options.model.as_deref(), Some(MODEL));
    let config = SessionConfig { allowed_tools: Some(vec!["Bash".to_owned()]), ..SessionConfig::default() };
    world.sessions.configure("default", session, None, config).await.expect("takes it");
    let options = loop {
        if let ToShim::Configure { options } = shim.hear().await
            && !options.allowed_tools.is_empty()
        {
            break options;
        }
    };
    assert_eq!(options.model.as_deref(), Some(MODEL));
}

#[tokio::test]
async fn settings_that_change_while_the_sandbox_opens_reach_it() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    world.post(row.id, "a", IfBusy::Queue).await;
    let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), None).await;
    let ToShim::Open { op, .. } = shim.order().await else { panic!("no open") };
    shim.say(&FromShim::Done { op }).await;
    let ToShim::Setup { op, .. } = shim.order().await else { panic!("no setup") };
    world.sessions.configure("default", row.id, Some("later".to_owned()), SessionConfig::default()).await.expect("takes it");
    shim.say(&FromShim::Done { op }).await;
    shim.set_up().await;
    let ToShim::Configure { options } = shim.hear().await else { panic!("the turn comes with old settings") };
    assert_eq!(options.model.as_deref(), Some("later"));
}

#[tokio::test]
async fn events_that_can_not_be_stored_end_the_turn_and_the_sandbox() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    shim.given().await;
    shim.tell(5, vec![said(turn, "four are missing")]).await;
    assert_eq!(world.ended(session, turn).await, ("interrupted".to_owned(), Vec::new()));
    assert!(world.launcher.list().await.expect("lists").iter().all(|one| !one.running));
    // What was started is not started again.
    let next = world.post(session, "b", IfBusy::Queue).await;
    let mut shim = world.fresh_shim().await;
    shim.given().await;
    shim.tell(1, vec![(next, Kind::TurnStarted, json!({"turnId": next, "kind": "runtime"}))]).await;
    assert_eq!(world.ended(session, next).await.0, "interrupted");
}

#[tokio::test]
async fn a_turn_of_the_runtimes_own_ends_with_its_sandbox() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let own = TurnId::new();
    shim.tell(1, vec![(own, Kind::TurnStarted, json!({"turnId": own, "kind": "runtime"})), said(own, "by myself")]).await;
    shim.acknowledged(2).await;
    assert_eq!(world.sessions.phase(session), Phase::Running);
    world.launcher.end_all();
    drop(shim);
    let _next = world.fresh_shim().await;
    assert_eq!(world.ended(session, own).await, ("interrupted".to_owned(), texts(&["by myself"])));
}

#[tokio::test]
async fn recovery_gives_a_running_turn_again_to_a_sandbox_that_lives() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    let own = TurnId::new();
    let data = json!({"turnId": own, "kind": "runtime"}).to_string();
    let events = vec![row_event(Kind::TurnStarted, own, data)];
    let boot = Some(Some(crate::sandbox::boot_id()));
    world.store.advance(row.id, Advance { events, sandbox: boot, ..Advance::default() }).await.expect("stores");
    let running = world.left_turn(row.id, true).await;
    let waiting = world.left_turn(row.id, false).await;
    world.launcher.launch(row.sandbox);
    let recovered = world.sessions.recover().await.expect("recovers");
    assert_eq!(recovered, Recovered { attached: 1, ..Recovered::default() });
    let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), Some(row.id)).await;
    assert_eq!(shim.given().await.id, running, "and not the one that the runtime began itself");
    shim.tell(1, vec![over(own, "completed"), over(running, "completed")]).await;
    assert_eq!(shim.given().await.id, waiting);
    assert_eq!(world.ended(row.id, own).await.0, "completed");
}

#[tokio::test]
async fn recovery_interrupts_what_lost_its_sandbox_and_runs_what_waited() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    let running = world.left_turn(row.id, true).await;
    let waiting = world.left_turn(row.id, false).await;
    let recovered = world.sessions.recover().await.expect("recovers");
    assert_eq!(recovered, Recovered { interrupted: 1, ..Recovered::default() });
    let mut shim = world.fresh_shim().await;
    assert_eq!(world.ended(row.id, running).await.0, "interrupted");
    assert_eq!(shim.given().await.id, waiting);
    shim.work(1, waiting, "done").await;
    assert_eq!(world.ended(row.id, waiting).await.0, "completed");
}

#[tokio::test]
async fn recovery_removes_what_was_being_made_and_what_belongs_to_nobody() {
    let world = World::new().await;
    let row = world.left(Status::Starting).await;
    world.launcher.launch(row.sandbox);
    world.launcher.launch(SandboxId::new());
    let recovered = world.sessions.recover().await.expect("recovers");
    assert_eq!((recovered.unfinished, recovered.orphans), (1, 1));
    world.launcher.is_empty().await;
    assert!(world.store.living_sessions().await.expect("reads").is_empty());
}

#[tokio::test]
async fn a_cursor_beyond_the_end_is_refused() {
    let mut world = World::new().await;
    let (session, _shim) = world.session().await;
    let tail = world.sessions.get("default", session).await.expect("found").tail;
    world.sessions.cursor("default", session, tail, EventFilter::default()).await.expect("the last id seen is good");
    let refused = world.sessions.cursor("default", session, tail + 1, EventFilter::default()).await.expect_err("beyond");
    assert!(matches!(&refused, SessionError::Invalid { field, .. } if field == "after"), "{refused}");
}

#[tokio::test]
async fn a_cursor_holds_a_bounded_number_of_bytes() {
    let mut world = World::new().await;
    let (session, _shim) = world.session().await;
    let tail = world.sessions.get("default", session).await.expect("found").tail;
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(700_000));
    let large = NewEvent { at: crate::store::now(), turn: None, kind: Kind::Text, data };
    let change = Advance { events: vec![large; 3], ..Advance::default() };
    world.store.advance(session, change).await.expect("stores");
    let mut cursor = world.sessions.cursor("default", session, tail, EventFilter::default()).await.expect("a cursor");
    for wanted in 1..=3 {
        let ids: Vec<_> = cursor.next().await.expect("reads").iter().map(|event| event.id).collect();
        assert_eq!(ids, [tail + wanted]);
    }
}

#[tokio::test]
async fn requests_are_answered_while_the_database_is_locked_and_nothing_is_lost() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    shim.given().await;
    let other = rusqlite::Connection::open(world.folder.path().join("ash.db")).expect("opens");
    other.execute_batch("begin immediate").expect("locks");
    shim.work(1, turn, "kept").await;
    let refused = world.try_post(session, "b", IfBusy::Queue).await.expect_err("locked");
    assert!(matches!(refused, SessionError::Store(StoreError::Unavailable(_))), "{refused}");
    other.execute_batch("rollback").expect("unlocks");
    assert_eq!(world.ended(session, turn).await, ("completed".to_owned(), texts(&["kept"])));
}

#[tokio::test]
async fn a_cold_driver_goes_when_nobody_listens_and_comes_back() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    let cursor = world.sessions.cursor("default", row.id, 0, EventFilter::default()).await.expect("a cursor");
    let is_live = |world: &World| world.sessions.context.lock_hub().contains_key(&row.id);
    // The driver reads its session before time stands still for it.
    world.sessions.interrupt("default", row.id).await.expect("answers");
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(is_live(&world), "somebody listens");
    drop(cursor);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(!is_live(&world));
    tokio::time::resume();
    let turn = world.post(row.id, "a", IfBusy::Queue).await;
    assert_eq!(world.fresh_shim().await.given().await.id, turn);
}
