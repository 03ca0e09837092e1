//! The host goes down: what runs is put away, and the next boot goes on.

use super::*;

/// Long enough for everything; whoever needs less is not made to wait.
const LONG: Duration = Duration::from_secs(600);

impl World {
    /// Puts everything away in a task of its own.
    fn put_away(&self, grace: Duration) -> JoinHandle<()> {
        let sessions = self.sessions.clone();
        tokio::spawn(async move { sessions.put_away(grace, LONG).await })
    }

    /// The actions and causes of a session's life, in order.
    async fn life(&self, session: SessionId) -> Vec<String> {
        let filter = EventFilter { kinds: vec![Kind::Lifecycle], ..EventFilter::default() };
        let events = self.store.events(session, 0, 1000, filter).await.expect("reads");
        let data = events.iter().map(|event| serde_json::from_str::<Value>(&event.data).expect("JSON"));
        let word = |data: &Value, name: &str| data[name].as_str().unwrap_or_default().to_owned();
        data.map(|data| [word(&data, "action"), word(&data, "cause")].join(" ").trim().to_owned()).collect()
    }
}

impl Shim {
    /// Is packed, and fails at it.
    async fn fail_to_pack(&mut self) {
        match self.order().await {
            ToShim::Pack { op, .. } => self.say(&FromShim::Failed { op, error: "a test".to_owned() }).await,
            other => panic!("{other:?} in place of packing"),
        }
    }
}

#[tokio::test]
async fn a_turn_is_waited_for_then_interrupted_and_the_next_one_waits_for_the_next_boot() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    let waiting = world.post(session, "b", IfBusy::Queue).await;
    shim.given().await;
    let putting = world.put_away(Duration::from_millis(1));
    match shim.order().await {
        ToShim::Interrupt { turn: Some(interrupted) } => assert_eq!(interrupted, turn),
        other => panic!("{other:?} in place of an interrupt"),
    }
    shim.tell(1, vec![over(turn, "interrupted")]).await;
    shim.fail_to_pack().await;
    soon("all to be put away", putting).await.expect("no panic");
    let events = world.turn(session, turn).await;
    let end: Value = serde_json::from_str(&events.last().expect("an end").data).expect("JSON");
    assert_eq!(
        (&end["state"], &end["cause"]),
        (&json!("interrupted"), &json!("the turn was interrupted (host: the host was shut down)"))
    );
    assert_eq!(world.store.queue(session).await.expect("reads"), [waiting], "it did not begin");
    assert_eq!(world.life(session).await, ["created", "snapshot_failed", "sandbox_ended host"]);
    assert!(world.launcher.all().values().all(Option::is_none), "no processes are left");
    assert!(!world.launcher.all().is_empty(), "without a snapshot the folder stays");

    let refused = world.sessions.create("default", body()).await.expect_err("nothing begins any more");
    assert!(matches!(refused, SessionError::Closing), "{refused:?}");
    let refused = world.try_post(session, "c", IfBusy::Queue).await.expect_err("nor is anything taken");
    assert!(matches!(refused, SessionError::Closing), "{refused:?}");
}

#[tokio::test]
async fn a_turn_that_ends_in_time_is_completed() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let turn = world.post(session, "a", IfBusy::Queue).await;
    shim.given().await;
    let putting = world.put_away(LONG);
    shim.work(1, turn, "whole").await;
    shim.fail_to_pack().await;
    soon("all to be put away", putting).await.expect("no panic");
    assert_eq!(world.ended(session, turn).await, ("completed".to_owned(), texts(&["whole"])));
}

#[tokio::test]
async fn a_sandbox_that_does_not_come_up_on_the_way_down_costs_no_turn() {
    let mut world = World::new().await;
    let row = world.left(Status::Active).await;
    let waiting = world.left_turn(row.id, false).await;
    world.launcher.held.send_replace(true);
    world.sessions.recover().await.expect("recovers");
    soon("it to come up", async {
        while world.sessions.phase(row.id) != Phase::Warming {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let putting = world.put_away(LONG);
    // Whoever connects from here on is turned away.
    world.connections.close();
    world.launcher.held.send_replace(false);
    soon("all to be put away", putting).await.expect("no panic");
    assert_eq!(world.store.queue(row.id).await.expect("reads"), [waiting]);
}
