//! Requests for permission, and turns as callers see and end them.

use super::*;
use crate::store::{PermissionFilter, TurnKey, TurnState};
use crate::wire::permission::{PermissionAnswer, Scope};

fn asked(turn: TurnId, id: PermissionId) -> (TurnId, Kind, Value) {
    let data = json!({"id": id, "turnId": turn, "kind": "tool", "toolName": "Bash", "input": {}, "timeoutMs": 1000});
    (turn, Kind::PermissionRequest, data)
}

fn resolved(turn: TurnId, id: PermissionId, by: &str, rules: &[&str]) -> (TurnId, Kind, Value) {
    (turn, Kind::PermissionResolved, json!({"id": id, "behavior": "allow", "by": by, "rules": rules}))
}

fn allow() -> PermissionAnswer {
    PermissionAnswer {
        behavior: Behavior::Allow,
        scope: Scope::Once,
        updated_input: None,
        answers: None,
        message: None,
        interrupt: false,
    }
}

/// A session whose turn waits for an answer.
struct Asking {
    session: SessionId,
    shim: Shim,
    turn: TurnId,
    id: PermissionId,
}

impl World {
    async fn asking(&mut self) -> Asking {
        let (session, mut shim) = self.session().await;
        let (turn, id) = (self.post(session, "a", IfBusy::Queue).await, PermissionId::new());
        shim.given().await;
        shim.tell(1, vec![asked(turn, id)]).await;
        shim.acknowledged(1).await;
        Asking { session, shim, turn, id }
    }
}

async fn pending(world: &World, session: SessionId) -> Vec<PermissionId> {
    let filter = PermissionFilter { after: 0, pending: true, limit: 10, bytes: None };
    world.store.permissions(session, filter).await.expect("reads").iter().map(|row| row.id).collect()
}

fn answering(world: &World, session: SessionId, id: PermissionId) -> JoinHandle<Result<PermissionRow, SessionError>> {
    let sessions = world.sessions.clone();
    tokio::spawn(async move { sessions.answer("default", session, id, allow()).await })
}

#[tokio::test]
async fn an_answer_goes_through_the_shim_and_is_told_when_it_is_in_the_log() {
    let mut world = World::new().await;
    let Asking { session, mut shim, turn, id } = world.asking().await;
    assert_eq!(pending(&world, session).await, [id]);
    let answered = answering(&world, session, id);
    let ToShim::Answer { op, id: meant, answer } = shim.order().await else { panic!("no answer") };
    assert_eq!((meant, answer.behavior), (id, Behavior::Allow));
    shim.say(&FromShim::Done { op }).await;
    shim.tell(2, vec![resolved(turn, id, "caller", &["Bash(ls)"])]).await;
    let row = soon("the answer", answered).await.expect("no panic").expect("answers");
    assert!(row.resolved.is_some_and(|resolved| resolved.contains("caller")));
    assert!(pending(&world, session).await.is_empty());
    let granted = loop {
        if let ToShim::Configure { options } = shim.hear().await {
            break options.granted;
        }
    };
    assert_eq!(granted, ["Bash(ls)"], "the shim is told, for its next life");
    let again = soon("the answer", answering(&world, session, id)).await.expect("no panic").expect_err("resolved");
    assert!(matches!(again, SessionError::Resolved), "{again}");
    let unknown = soon("the answer", answering(&world, session, PermissionId::new())).await.expect("no panic");
    assert!(matches!(unknown, Err(SessionError::NoPermission)), "{unknown:?}");
}

#[tokio::test]
async fn an_answer_that_the_shim_refuses_names_its_reason_and_the_request_waits_on() {
    let mut world = World::new().await;
    let Asking { session, mut shim, id, .. } = world.asking().await;
    let answered = answering(&world, session, id);
    let ToShim::Answer { op, .. } = shim.order().await else { panic!("no answer") };
    shim.say(&FromShim::Failed { op, error: "answers: this is no question".to_owned() }).await;
    let refused = soon("the answer", answered).await.expect("no panic").expect_err("refused");
    assert!(refused.to_string().ends_with("answers: this is no question"), "{refused}");
    assert_eq!(pending(&world, session).await, [id]);
}

#[tokio::test]
async fn an_answer_that_comes_while_the_daemon_reconnects_is_delivered() {
    let mut world = World::new().await;
    let Asking { session, shim, turn, id } = world.asking().await;
    let incarnation = shim.incarnation;
    drop(shim);
    let connection = world.connection().await;
    let answered = answering(&world, session, id);
    let mut shim = Shim::hello_with(connection, incarnation, Some(session), 1).await;
    let op = loop {
        match shim.order().await {
            ToShim::Answer { op, .. } => break op,
            ToShim::Turn(_) => {}
            other => panic!("{other:?} in place of an answer"),
        }
    };
    shim.tell(2, vec![resolved(turn, id, "caller", &[])]).await;
    shim.say(&FromShim::Done { op }).await;
    soon("the answer", answered).await.expect("no panic").expect("answers");
}

#[tokio::test]
async fn requests_of_a_turn_that_lost_its_sandbox_are_resolved_before_its_end() {
    let mut world = World::new().await;
    let Asking { session, shim, turn, .. } = world.asking().await;
    world.launcher.end_all();
    drop(shim);
    let _next = world.fresh_shim().await;
    let events = world.turn(session, turn).await;
    let kinds: Vec<_> = events.iter().rev().take(4).map(|event| event.kind.clone()).collect();
    assert_eq!(kinds, [Kind::TurnEnded, Kind::Error, Kind::PermissionResolved, Kind::PermissionRequest]);
    assert!(pending(&world, session).await.is_empty());
}

/// An answer that nobody can give an answer to yet.
async fn kept_waiting(world: &World, session: SessionId, id: PermissionId) -> JoinHandle<Result<PermissionRow, SessionError>> {
    let mut answered = answering(world, session, id);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut answered).await;
    assert!(early.is_err(), "{early:?}");
    answered
}

#[tokio::test]
async fn an_answer_to_a_sandbox_that_has_ended_is_told_so() {
    let mut world = World::new().await;
    let Asking { session, shim, turn, id } = world.asking().await;
    let incarnation = shim.incarnation;
    world.launcher.held.send_replace(true);
    world.launcher.end_all();
    drop(shim);
    soon("the loss to be seen", async {
        while world.sessions.phase(session) != Phase::Warming {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let before = kept_waiting(&world, session, id).await;
    world.launcher.held.send_replace(false);
    let mut shim = Shim::hello_with(world.connection().await, incarnation, None, 2).await;
    shim.set_up().await;
    let settling = kept_waiting(&world, session, id).await;
    shim.tell(2, vec![said(turn, "last")]).await;
    for answered in [before, settling] {
        let outcome = soon("the answer", answered).await.expect("no panic");
        assert!(matches!(outcome, Err(SessionError::Resolved)), "{outcome:?}");
    }
    assert_eq!(world.ended(session, turn).await.0, "interrupted");
}

#[tokio::test]
async fn an_answer_that_comes_right_after_another_is_told_that_it_is_late() {
    let mut world = World::new().await;
    let Asking { session, mut shim, turn, id } = world.asking().await;
    let answered = answering(&world, session, id);
    let ToShim::Answer { op, .. } = shim.order().await else { panic!("no answer") };
    // It overtakes the event.
    shim.say(&FromShim::Failed { op, error: crate::link::shim::NOT_WAITING.to_owned() }).await;
    shim.tell(2, vec![resolved(turn, id, "timeout", &[])]).await;
    let late = soon("the answer", answered).await.expect("no panic").expect_err("late");
    assert!(matches!(late, SessionError::Resolved), "{late}");
}

#[tokio::test]
async fn requests_are_resolved_also_when_the_database_can_not_be_read_for_a_while() {
    let mut world = World::new().await;
    let Asking { session, shim, turn, .. } = world.asking().await;
    let other = rusqlite::Connection::open(world.folder.path().join("ash.db")).expect("opens");
    other.execute_batch("alter table permissions rename to gone").expect("renames");
    world.launcher.end_all();
    drop(shim);
    let _next = world.fresh_shim().await;
    soon("a request to be refused", async {
        while !matches!(world.try_post(session, "b", IfBusy::Reject).await, Err(SessionError::Store(_))) {}
    })
    .await;
    other.execute_batch("alter table gone rename to permissions").expect("renames");
    assert_eq!(world.ended(session, turn).await.0, "interrupted");
    assert!(pending(&world, session).await.is_empty());
}

#[tokio::test]
async fn a_message_with_a_key_is_one_turn_however_often_it_comes() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let post = async |world: &World, content: &str, message: u8| {
        let content = serde_json::value::to_raw_value(content).expect("JSON");
        let body = MessageBody { content, options: TurnOptions::default(), if_busy: IfBusy::Queue };
        let key = TurnKey { key: "k".to_owned(), message: [message; 32] };
        soon("the message to be taken", world.sessions.post("default", session, body, Some(key))).await
    };
    let first = post(&world, "a", 1).await.expect("takes it");
    assert_eq!(post(&world, "a", 1).await.expect("joins"), first);
    assert!(matches!(post(&world, "b", 2).await, Err(SessionError::KeyReused)));
    assert_eq!(shim.given().await.id, first.turn);
    shim.work(1, first.turn, "done").await;
    assert_eq!(world.ended(session, first.turn).await.0, "completed");
    assert_eq!(post(&world, "a", 1).await.expect("joins what is over"), first);
    world.sessions.end("default", session).await.expect("ends");
    assert_eq!(post(&world, "a", 1).await.expect("joins in a session that is over"), first);
}

#[tokio::test]
async fn a_turn_that_waits_is_cancelled_and_one_that_runs_is_interrupted() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let running = world.post(session, "a", IfBusy::Queue).await;
    let waiting = world.post(session, "b", IfBusy::Queue).await;
    let last = world.post(session, "c", IfBusy::Queue).await;
    shim.given().await;
    world.sessions.cancel("default", session, waiting).await.expect("takes it");
    assert_eq!(world.ended(session, waiting).await.0, "cancelled");
    world.sessions.cancel("default", session, running).await.expect("asks the sandbox");
    assert!(matches!(shim.order().await, ToShim::Interrupt { turn: Some(turn) } if turn == running));
    shim.tell(1, vec![over(running, "interrupted")]).await;
    assert_eq!(shim.given().await.id, last);
    let over = world.sessions.cancel("default", session, waiting).await.expect_err("it is over");
    assert!(matches!(over, SessionError::TurnOver { state: TurnState::Cancelled, .. }), "{over}");
    let unknown = world.sessions.cancel("default", session, TurnId::new()).await.expect_err("there is none");
    assert!(matches!(unknown, SessionError::NoTurn), "{unknown}");
}

#[tokio::test]
async fn a_message_that_interrupts_goes_first_also_after_a_restart() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let running = world.post(session, "a", IfBusy::Queue).await;
    let waiting = world.post(session, "b", IfBusy::Queue).await;
    shim.given().await;
    let urgent = world.post(session, "c", IfBusy::Interrupt).await;
    let open: Vec<_> = world.store.open_turns(session).await.expect("reads").iter().map(|turn| turn.id).collect();
    assert_eq!(open, [running, urgent, waiting]);
}

#[tokio::test]
async fn a_message_that_interrupts_does_so_also_if_the_daemon_dies_in_between() {
    for later in [false, true] {
        let mut world = World::new().await;
        let row = world.left(Status::Active).await;
        let up = Advance { sandbox: Some(Some(crate::sandbox::boot_id())), ..Advance::default() };
        world.store.advance(row.id, up).await.expect("stores");
        let urgent = TurnId::new();
        let jump = Advance {
            events: vec![row_event(Kind::TurnQueued, urgent, "{}".to_owned())],
            queued: vec![NewTurn {
                id: urgent,
                content: "\"urgent\"".to_owned(),
                options: TurnOptions::default(),
                key: None,
                jumps: true,
                trace: None,
            }],
            ..Advance::default()
        };
        if later {
            // What runs came after it, and went before it.
            world.store.advance(row.id, jump.clone()).await.expect("stores");
        }
        let running = world.left_turn(row.id, true).await;
        if !later {
            world.store.advance(row.id, jump).await.expect("stores");
        }
        world.launcher.launch(row.sandbox);
        world.sessions.recover().await.expect("recovers");
        let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), Some(row.id)).await;
        assert_eq!(shim.given().await.id, running);
        if !later {
            assert!(matches!(shim.order().await, ToShim::Interrupt { turn: Some(turn) } if turn == running));
        }
        shim.tell(1, vec![over(running, "interrupted")]).await;
        assert_eq!(shim.given().await.id, urgent);
    }
}
