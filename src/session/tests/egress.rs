//! When a change of what may be reached is answered, and with what.

use super::*;
use crate::link::shim::{Egress as Settings, Op};
use crate::wire::egress::{Applied, Egress, EgressBody};

fn changing(world: &World, session: SessionId, entry: &str) -> JoinHandle<Result<EgressBody, SessionError>> {
    let sessions = world.sessions.clone();
    let egress = Egress { allow: List::new(vec![entry.parse().expect(entry)]).expect("few") };
    tokio::spawn(async move { sessions.change_egress("default", session, egress).await })
}

async fn applied(changing: JoinHandle<Result<EgressBody, SessionError>>) -> Option<Applied> {
    soon("the answer", changing).await.expect("no panic").expect("changes").applied
}

impl Shim {
    /// The next list that the shim is told of, other than the one of its setup, which is empty.
    async fn told(&mut self) -> (Op, Settings) {
        loop {
            match self.hear().await {
                ToShim::Egress { op, egress } if !egress.allow.is_empty() => return (op, *egress),
                ToShim::Egress { .. } | ToShim::Gateway { .. } | ToShim::Ack { .. } | ToShim::Configure { .. } => {}
                other => panic!("{other:?} in place of a list"),
            }
        }
    }
}

#[tokio::test]
async fn a_change_is_answered_when_the_sandbox_says_that_it_counts() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let change = changing(&world, session, "a.example");
    let (op, settings) = shim.told().await;
    assert_eq!(settings.allow, ["a.example"]);
    // The driver has gone on meanwhile, and the answer still waits.
    let turn = world.post(session, "first", IfBusy::Queue).await;
    assert_eq!(shim.given().await.id, turn);
    assert!(!change.is_finished());
    shim.say(&FromShim::Done { op }).await;
    assert_eq!(applied(change).await, Some(Applied::Now));
    assert_eq!(world.sessions.egress("default", session).await.expect("reads").applied, None, "nothing was changed");
}

#[tokio::test]
async fn a_change_that_no_sandbox_confirms_is_not_said_to_count() {
    let mut world = World::new().await;
    let (session, mut shim) = world.session().await;
    let change = changing(&world, session, "a.example");
    let (op, _) = shim.told().await;
    shim.say(&FromShim::Failed { op, error: "it can not".to_owned() }).await;
    assert_eq!(applied(change).await, Some(Applied::Pending));
    let change = changing(&world, session, "b.example");
    shim.told().await;
    let incarnation = shim.incarnation;
    drop(shim);
    assert_eq!(applied(change).await, Some(Applied::Pending), "the connection broke before");
    let mut shim = Shim::hello(world.connection().await, incarnation, Some(session)).await;
    assert_eq!(shim.told().await.1.allow, ["b.example"], "and the next one begins with it");
}

#[tokio::test]
async fn a_change_without_a_sandbox_counts() {
    let mut world = World::new().await;
    let (session, shim) = world.session().await;
    world.launcher.end_all();
    drop(shim);
    soon("its end to be told", async {
        while world.sessions.get("default", session).await.expect("reads").sandbox_boot.is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(applied(changing(&world, session, "a.example")).await, Some(Applied::Now));
}
