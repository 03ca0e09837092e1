//! The queue.

use super::*;
use crate::store::queue::{Added, ItemRow, NewItem, Room, Then, Tried};
use crate::wire::QueueId;
use crate::wire::queue::QueueStatus;

const ROOM: Room = Room { items: 100, bytes: 1000 };

fn new(tenant: &str, prompt: &str, priority: i64) -> NewItem {
    NewItem {
        id: QueueId::new(),
        tenant: tenant.to_owned(),
        agent: "hello".to_owned(),
        prompt: prompt.to_owned(),
        given: None,
        priority,
        max_retries: 3,
        keeps: false,
        created_at: Timestamp(1),
        schedule: None,
        scheduled_for: None,
        key: None,
        trace: Some("a trace".to_owned()),
    }
}

async fn add(store: &Arc<dyn Store>, item: NewItem) -> ItemRow {
    match store.add_item(item, ROOM).await.expect("stores") {
        Added::New(item) => item,
        other => panic!("{other:?}"),
    }
}

fn tried(then: Then, cost_usd: Option<f64>, leaves: Option<SessionId>) -> Tried {
    Tried { at: Timestamp(50), then, cost_usd, leaves }
}

#[tokio::test]
async fn items_wait_within_their_room_and_are_seen_by_their_tenant() {
    let (_folder, store) = sqlite();
    let first = add(&store, new("a", "one", 0)).await;
    assert_eq!((first.status, first.cost_usd, first.session, first.place), (QueueStatus::Pending, Some(0.0), None, 1));
    assert_eq!(first.trace.as_deref(), Some("a trace"));
    let second = add(&store, NewItem { given: Some(SessionId::new()), ..new("a", "two", 5) }).await;
    assert_eq!(second.session, second.given, "it is known from the start");
    let foreign = add(&store, new("b", "three", 0)).await;
    for (room, fits) in [
        (Room { items: 2, bytes: 1000 }, false),
        (Room { items: 3, bytes: 1000 }, true),
        (Room { items: 100, bytes: 14 }, true),
        (Room { items: 100, bytes: 16 }, false),
    ] {
        let added = store.add_item(new("a", "four", 0), room).await.expect("works");
        assert_eq!(matches!(added, Added::New(_)), fits, "{room:?}");
    }
    let long = store.add_item(new("c", "long", 0), Room { items: 1, bytes: 1 }).await.expect("works");
    assert!(matches!(long, Added::New(_)), "one in any case");

    assert_eq!(store.get_item("a", first.id).await.expect("found"), first);
    assert!(matches!(store.get_item("a", foreign.id).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.cancel_item("a", foreign.id, true, now()).await, Err(StoreError::NotFound(_))));
    let listed = |status, before, limit, bytes| {
        let store = store.clone();
        async move {
            let found = store.items("a", status, before, limit, bytes).await.expect("reads");
            found.into_iter().map(|item| item.prompt).collect::<Vec<_>>()
        }
    };
    assert_eq!(listed(None, i64::MAX, 10, 1000).await, ["four", "four", "two", "one"]);
    assert_eq!(listed(None, second.place, 10, 1000).await, ["one"]);
    assert_eq!(listed(None, i64::MAX, 2, 1000).await, ["four", "four"]);
    assert_eq!(listed(None, i64::MAX, 10, 1).await, ["four"]);
    assert!(listed(Some(QueueStatus::Failed), i64::MAX, 10, 1000).await.is_empty());
    assert_eq!(store.count_items("a").await.expect("counts"), [(QueueStatus::Pending, 4)]);
}

#[tokio::test]
async fn the_next_of_each_tenant_is_the_oldest_of_its_highest_priority() {
    let (_folder, store) = sqlite();
    let old = add(&store, new("a", "old", 0)).await;
    let high = add(&store, new("a", "high", 7)).await;
    add(&store, new("a", "later", 7)).await;
    let other = add(&store, new("b", "other", 0)).await;
    let heads = |at| {
        let store = store.clone();
        async move {
            let (heads, later) = store.heads(Timestamp(at)).await.expect("reads");
            (heads.into_iter().map(|head| (head.tenant, head.id, head.priority)).collect::<Vec<_>>(), later)
        }
    };
    let of = |item: &ItemRow| (item.tenant.clone(), item.id, item.priority);
    assert_eq!(heads(10).await, (vec![of(&high), of(&other)], None));
    for id in [high.id, other.id] {
        assert!(store.claim_item(id, SessionId::new(), Timestamp(10)).await.expect("works").is_some());
        assert!(store.claim_item(id, SessionId::new(), Timestamp(10)).await.expect("works").is_none(), "once");
    }
    let again = Then::Again { error: "x".to_owned(), at: Timestamp(100) };
    store.item_tried(other.id, tried(again, None, None)).await.expect("stores");
    let (found, later) = heads(99).await;
    assert!(found.iter().all(|head| head.0 == "a"), "it waits for its time: {found:?}");
    assert_eq!((later, heads(100).await.0.last().cloned()), (Some(Timestamp(100)), Some(of(&other))));
    assert!(heads(100).await.0.iter().all(|head| head.1 != old.id));

    // One that may not go yet, as its session may be busy, is in nobody's way.
    let given = add(&store, NewItem { given: Some(SessionId::new()), ..new("b", "given", 9) }).await;
    let (found, _) = store.heads(Timestamp(100)).await.expect("reads");
    let found: Vec<_> = found.into_iter().filter(|head| head.tenant == "b").map(|head| (head.id, head.is_given)).collect();
    assert_eq!(found, [(other.id, false), (given.id, true)]);
}

#[tokio::test]
async fn an_item_goes_from_try_to_try_and_is_over_once() {
    let (_folder, store) = sqlite();
    let item = add(&store, new("a", "one", 0)).await;
    let (first, second, turn) = (SessionId::new(), SessionId::new(), TurnId::new());
    let claimed = store.claim_item(item.id, first, Timestamp(10)).await.expect("works").expect("it waits");
    assert_eq!(
        (claimed.status, claimed.session, claimed.started_at),
        (QueueStatus::Processing, Some(first), Some(Timestamp(10)))
    );
    assert!(!store.item_posted(item.id, turn).await.expect("stores"));
    assert_eq!(store.open_items().await.expect("reads")[0].turn, Some(turn));

    let again = Then::Again { error: "crash".to_owned(), at: Timestamp(60) };
    store.item_tried(item.id, tried(again, Some(0.25), Some(first))).await.expect("stores");
    assert!(
        store.claim_item(item.id, second, Timestamp(60)).await.expect("works").is_none(),
        "its first session is to be ended first"
    );
    let open = store.open_items().await.expect("reads");
    assert_eq!((open[0].leaves, open[0].status, open[0].retries), (Some(first), QueueStatus::Pending, 1));
    store.item_left(item.id).await.expect("stores");
    assert!(store.open_items().await.expect("reads").is_empty());
    let claimed = store.claim_item(item.id, second, Timestamp(60)).await.expect("works").expect("it waits");
    assert_eq!((claimed.session, claimed.turn, claimed.started_at), (Some(second), None, Some(Timestamp(10))));
    assert_eq!(claimed.error.as_deref(), Some("crash"), "why it is tried again");

    let done = Then::Completed { result: Some("yes".to_owned()), is_cut: true };
    store.item_tried(item.id, tried(done, Some(0.5), None)).await.expect("stores");
    let late = Then::Failed { error: "late".to_owned() };
    store.item_tried(item.id, tried(late, Some(9.0), Some(second))).await.expect("changes nothing");
    let over = store.get_item("a", item.id).await.expect("reads");
    assert_eq!((over.status, over.result.as_deref(), over.is_cut, over.error), (QueueStatus::Completed, Some("yes"), true, None));
    assert_eq!((over.cost_usd, over.completed_at, over.leaves), (Some(0.75), Some(Timestamp(50)), None));
    let listed = store.items("a", None, i64::MAX, 10, 1000).await.expect("reads");
    assert_eq!(listed[0].result, None, "lists have no results");

    assert_eq!(store.forget_items(Timestamp(50), 10).await.expect("works"), 0);
    assert_eq!(store.forget_items(Timestamp(51), 10).await.expect("works"), 1);
    assert!(matches!(store.get_item("a", item.id).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn what_waits_is_cancelled_and_what_is_processed_only_by_force_and_later() {
    let (_folder, store) = sqlite();
    let (waits, works) = (add(&store, new("a", "one", 0)).await, add(&store, new("a", "two", 0)).await);
    store.claim_item(works.id, SessionId::new(), Timestamp(10)).await.expect("works");
    assert_eq!(store.queue_depth().await.expect("works"), [1, 1]);
    let cancel = |id, force| store.cancel_item("a", id, force, Timestamp(20));
    let (item, changed) = cancel(waits.id, false).await.expect("works");
    assert_eq!((item.status, item.completed_at, changed), (QueueStatus::Cancelled, Some(Timestamp(20)), true));
    for force in [false, true] {
        assert!(!cancel(waits.id, force).await.expect("works").1, "it is over");
    }
    let (item, changed) = cancel(works.id, false).await.expect("works");
    assert_eq!((item.status, item.is_cancelling, changed), (QueueStatus::Processing, false, false));
    let (item, changed) = cancel(works.id, true).await.expect("works");
    assert_eq!((item.status, item.is_cancelling, changed), (QueueStatus::Processing, true, true));
    assert!(store.item_posted(works.id, TurnId::new()).await.expect("stores"), "its worker is told");
    store.item_tried(works.id, tried(Then::Cancelled, None, None)).await.expect("stores");
    let item = store.get_item("a", works.id).await.expect("reads");
    assert_eq!(
        (item.status, item.is_cancelling, item.cost_usd),
        (QueueStatus::Cancelled, false, None),
        "what is not known is not guessed"
    );
}

#[tokio::test]
async fn a_try_that_fails_after_its_item_was_cancelled_is_the_last() {
    let (_folder, store) = sqlite();
    let item = add(&store, new("a", "one", 0)).await;
    let session = SessionId::new();
    store.claim_item(item.id, session, Timestamp(10)).await.expect("works");
    assert!(store.cancel_item("a", item.id, true, Timestamp(20)).await.expect("works").1);
    let again = Then::Again { error: "crash".to_owned(), at: Timestamp(60) };
    store.item_tried(item.id, tried(again, Some(0.5), Some(session))).await.expect("stores");
    let over = store.get_item("a", item.id).await.expect("reads");
    assert_eq!((over.status, over.is_cancelling, over.retries, over.error), (QueueStatus::Cancelled, false, 0, None));
    assert_eq!((over.completed_at, over.retry_at), (Some(Timestamp(50)), None));
    assert_eq!((over.cost_usd, over.leaves), (Some(0.5), Some(session)), "its session is still to be ended");
}
