//! What is told of turns in traces, and when.

use super::*;
use crate::telemetry::trace::{Finished, Sampler, TraceContext, Value as Told, testing, within};

/// Room for all that one of these tests makes.
const ROOM: usize = 2000;

type Read = mpsc::Receiver<Finished>;

async fn world() -> (World, Read) {
    let (tracer, read, _) = testing::tracer(Sampler::default(), ROOM);
    (World::with(tracer).await, read)
}

fn asker() -> TraceContext {
    TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", []).expect("good")
}

/// Posts a message in a trace.
async fn post(world: &World, session: SessionId, read: &mut Read) -> TurnId {
    let turn = within(Some(asker()), world.post(session, "a", IfBusy::Queue)).await;
    assert_eq!(next(read).await.name, "ash.session.message");
    turn
}

async fn next(read: &mut Read) -> Finished {
    soon("a span", read.recv()).await.expect("lives")
}

fn says(span: &Finished, name: &str) -> Option<Told> {
    span.attributes.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone())
}

fn word(text: &str) -> Option<Told> {
    Some(text.into())
}

fn uses(turn: TurnId, call: &str) -> (TurnId, Kind, Value) {
    (turn, Kind::ToolUse, json!({"id": call, "name": "Bash", "input": {}}))
}

fn result(turn: TurnId, call: &str, content: &str) -> (TurnId, Kind, Value) {
    (turn, Kind::ToolResult, json!({"tool_use_id": call, "content": content}))
}

/// Nanoseconds since 1970 at which a turn ended, as its log has it.
async fn end(world: &World, session: SessionId, turn: TurnId) -> u64 {
    let events = world.turn(session, turn).await;
    u64::try_from(events.last().expect("an end").at.millis()).expect("after 1970") * 1_000_000
}

#[tokio::test]
async fn the_end_of_a_turn_is_told_when_it_is_stored_with_the_time_that_it_was() {
    let (mut world, mut read) = world().await;
    let (session, mut shim) = world.session().await;
    let turn = post(&world, session, &mut read).await;
    shim.given().await;
    let other = rusqlite::Connection::open(world.folder.path().join("ash.db")).expect("opens");
    other.execute_batch("begin immediate").expect("locks");
    shim.tell(1, vec![uses(turn, "a"), over(turn, "completed")]).await;
    let refused = world.try_post(session, "b", IfBusy::Queue).await.expect_err("locked");
    assert!(matches!(refused, SessionError::Store(StoreError::Unavailable(_))), "{refused}");
    assert!(read.try_recv().is_err(), "it may come to nothing");
    other.execute_batch("rollback").expect("unlocks");
    let end = end(&world, session, turn).await;
    let (tool, told) = (next(&mut read).await, next(&mut read).await);
    assert_eq!((tool.name.as_str(), says(&tool, "ash.tool.outcome"), tool.end), ("ash.tool.use", word("unfinished"), end));
    assert_eq!((told.name.as_str(), says(&told, "ash.turn.outcome"), told.end), ("ash.agent.turn", word("completed"), end));
}

#[tokio::test]
async fn an_end_that_is_never_stored_is_not_told() {
    let (mut world, mut read) = world().await;
    let (session, mut shim) = world.session().await;
    let turn = post(&world, session, &mut read).await;
    shim.given().await;
    shim.tell(5, vec![over(turn, "completed")]).await;
    assert_eq!(world.ended(session, turn).await.0, "interrupted");
    assert_eq!(says(&next(&mut read).await, "ash.turn.outcome"), word("interrupted"));
    assert!(read.try_recv().is_err(), "once");
}

#[tokio::test]
async fn a_turn_tells_of_so_many_tools_and_counts_the_rest() {
    let (mut world, mut read) = world().await;
    let (session, mut shim) = world.session().await;
    let turn = post(&world, session, &mut read).await;
    shim.given().await;
    let mut events: Vec<_> = (0..1003)
        .flat_map(|number| {
            let call = number.to_string();
            [uses(turn, &call), result(turn, &call, "x")]
        })
        .collect();
    events.push(over(turn, "completed"));
    shim.tell(1, events).await;
    for number in 0..1000 {
        assert_eq!(says(&next(&mut read).await, "gen_ai.tool.call.id"), word(&number.to_string()));
    }
    let told = next(&mut read).await;
    assert_eq!((told.name.as_str(), says(&told, "ash.turn.tools_untold")), ("ash.agent.turn", Some(Told::Whole(3))));
}

#[tokio::test]
async fn a_tool_that_runs_over_a_restart_is_found_behind_results_of_any_size() {
    let (mut world, mut read) = world().await;
    let row = world.left(Status::Active).await;
    let turn = TurnId::new();
    let began = Timestamp(crate::store::now().millis() - 60_000);
    let place = format!("{} {}", asker().parent(), asker().to_text());
    let large = "x".repeat(700 << 10);
    let happened = [uses(turn, "runs"), uses(turn, "a"), result(turn, "a", &large), uses(turn, "b"), result(turn, "b", &large)];
    let mut events = vec![
        row_event(Kind::TurnQueued, turn, "{}".to_owned()),
        row_event(Kind::TurnStarted, turn, json!({"turnId": turn, "kind": "user", "content": "left"}).to_string()),
    ];
    events.extend(happened.map(|(turn, kind, data)| NewEvent { at: began, ..row_event(kind, turn, data.to_string()) }));
    let queued = vec![NewTurn {
        id: turn,
        content: "\"left\"".to_owned(),
        options: TurnOptions::default(),
        key: None,
        jumps: false,
        trace: Some(place),
    }];
    let sandbox = Some(Some(crate::sandbox::boot_id()));
    world.store.advance(row.id, Advance { events, queued, sandbox, ..Advance::default() }).await.expect("stores");
    world.launcher.launch(row.sandbox);
    world.sessions.recover().await.expect("recovers");
    let mut shim = Shim::hello(world.connection().await, Uuid::now_v7(), Some(row.id)).await;
    assert_eq!(shim.given().await.id, turn);
    shim.tell(1, vec![result(turn, "runs", "x"), over(turn, "completed")]).await;
    // That the sandbox is taken up again is told before.
    let tool = loop {
        match next(&mut read).await {
            span if span.name == "ash.tool.use" => break span,
            span => assert!(span.name.starts_with("ash.sandbox."), "what was over before was told of before: {span:?}"),
        }
    };
    let told = next(&mut read).await;
    assert_eq!((says(&tool, "gen_ai.tool.call.id"), says(&tool, "ash.tool.outcome")), (word("runs"), word("completed")));
    assert_eq!(i64::try_from(tool.start).expect("a time"), began.millis() * 1_000_000);
    assert_eq!((told.name.as_str(), says(&told, "ash.turn.tools_untold")), ("ash.agent.turn", None));
}
