//! Schedules, and items that are added once.

use super::*;
use crate::store::queue::{Added, NewItem, Room, Then, Tried};
use crate::store::schedules::{Fired, Firing, ScheduleRow};
use crate::wire::queue::QueueStatus;
use crate::wire::schedule::{CatchUp, Overlap, ScheduleCounts};
use crate::wire::{QueueId, ScheduleId};

const ROOM: Room = Room { items: 3, bytes: 1000 };

fn schedule(tenant: &str, next: Option<i64>) -> ScheduleRow {
    ScheduleRow {
        id: ScheduleId::new(),
        tenant: tenant.to_owned(),
        name: "report".to_owned(),
        agent: "hello".to_owned(),
        prompt: "say it".to_owned(),
        calendar: "hourly".to_owned(),
        timezone: "UTC".to_owned(),
        given: None,
        keeps: true,
        priority: 4,
        max_retries: 2,
        catch_up: CatchUp::All,
        jitter: 9,
        overlap: Overlap::Skip,
        enabled: true,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
        next: next.map(|next| (Timestamp(next), Timestamp(next + 5))),
        last_of: None,
        last_at: None,
        last_item: None,
        last_error: None,
        failing: 0,
        counts: ScheduleCounts::default(),
        place: 1,
    }
}

fn item(row: &ScheduleRow, of: i64) -> NewItem {
    NewItem {
        id: QueueId::new(),
        tenant: row.tenant.clone(),
        agent: row.agent.clone(),
        prompt: row.prompt.clone(),
        given: row.given,
        priority: row.priority,
        max_retries: row.max_retries,
        keeps: row.keeps,
        created_at: Timestamp(of + 6),
        schedule: Some(row.id),
        scheduled_for: Some(Timestamp(of)),
        key: None,
        trace: None,
    }
}

fn firing(row: &ScheduleRow, of: &[i64], next: Option<i64>) -> Firing {
    Firing {
        row: row.clone(),
        items: of.iter().map(|of| item(row, *of)).collect(),
        missed: 0,
        reason: None,
        full: "full".to_owned(),
        overlaps: "not over".to_owned(),
        through: of.last().copied().map(Timestamp),
        next: next.map(|next| (Timestamp(next), Timestamp(next + 5))),
    }
}

async fn fire(store: &Arc<dyn Store>, firing: Firing) -> Fired {
    store.fire_schedule(firing, ROOM).await.expect("works").expect("it is as it was")
}

/// Takes an item to its end.
async fn finish(store: &Arc<dyn Store>, id: QueueId, then: Then) {
    store.claim_item(id, SessionId::new(), Timestamp(50)).await.expect("works").expect("it waits");
    store.item_tried(id, Tried { at: Timestamp(60), then, cost_usd: None, leaves: None }).await.expect("works");
}

#[tokio::test]
async fn schedules_read_back_within_their_number_and_are_seen_by_their_tenant() {
    let (_folder, store) = sqlite();
    let first = schedule("a", Some(100));
    let second = ScheduleRow { given: Some(SessionId::new()), place: 2, ..schedule("a", None) };
    assert!(store.create_schedule(first.clone(), 2).await.expect("works"));
    assert!(store.create_schedule(second.clone(), 2).await.expect("works"));
    assert!(!store.create_schedule(schedule("a", None), 2).await.expect("works"), "there are as many as may be");
    assert!(store.create_schedule(schedule("b", Some(50)), 2).await.expect("works"));
    let list = async |before, limit, bytes| store.list_schedules("a", before, limit, bytes).await.expect("reads");
    let all = [second.clone(), first.clone()];
    assert_eq!(list(i64::MAX, 10, 1000).await, all);
    assert_eq!((list(i64::MAX, 1, 1000).await, list(i64::MAX, 10, 1).await), (all[..1].to_vec(), all[..1].to_vec()));
    assert_eq!((list(2, 10, 1000).await, list(1, 10, 1000).await), (all[1..].to_vec(), Vec::new()));
    assert_eq!(store.get_schedule("a", second.id).await.expect("found"), second);
    assert!(matches!(store.get_schedule("b", first.id).await, Err(StoreError::NotFound("schedule"))));
    assert!(matches!(store.delete_schedule("b", first.id).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.run_schedule(first.id, item(&schedule("b", None), 1), ROOM).await, Err(StoreError::NotFound(_))));

    let (due, next) = store.due_schedules(Timestamp(104), 10).await.expect("reads");
    assert_eq!((due.len(), next), (1, Some(Timestamp(55))), "the first is due at 105");
    let (due, _) = store.due_schedules(Timestamp(105), 10).await.expect("reads");
    assert_eq!(due.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(store.due_schedules(Timestamp(105), 1).await.expect("reads").0.len(), 1);

    let changed = ScheduleRow { enabled: false, name: "other".to_owned(), updated_at: Timestamp(2), next: None, ..first.clone() };
    store.change_schedule(first.clone(), changed.clone()).await.expect("changes");
    assert_eq!(store.get_schedule("a", first.id).await.expect("found"), changed);
    assert!(matches!(store.change_schedule(first.clone(), changed.clone()).await, Err(StoreError::Conflict(_))), "it changed");
    assert!(store.due_schedules(Timestamp(500), 10).await.expect("reads").0.iter().all(|row| row.tenant == "b"));
    store.delete_schedule("a", first.id).await.expect("deletes");
    assert_eq!(list(i64::MAX, 10, 1000).await, [second]);
    let third = ScheduleRow { place: 3, ..schedule("a", None) };
    assert!(store.create_schedule(third.clone(), 2).await.expect("works"));
    assert_eq!(list(3, 10, 1000).await.len(), 1);
    assert_eq!(store.get_schedule("a", third.id).await.expect("found"), third);
}

#[tokio::test]
async fn a_firing_queues_and_moves_on_or_does_nothing() {
    let (_folder, store) = sqlite();
    let row = schedule("a", Some(100));
    store.create_schedule(row.clone(), 9).await.expect("works");
    let fired = fire(&store, firing(&row, &[100], Some(200))).await;
    assert_eq!((fired.queued.len(), fired.skipped, fired.reason), (1, 0, None));
    let queued = store.get_item("a", fired.queued[0]).await.expect("found");
    assert_eq!(
        (queued.schedule, queued.scheduled_for, queued.status),
        (Some(row.id), Some(Timestamp(100)), QueueStatus::Pending)
    );
    assert_eq!((queued.priority, queued.max_retries, queued.keeps, queued.prompt.as_str()), (4, 2, true, "say it"));
    // Whoever comes second finds it done.
    assert_eq!(store.fire_schedule(firing(&row, &[100], Some(200)), ROOM).await.expect("works"), None);
    assert_eq!(store.count_items("a").await.expect("counts"), [(QueueStatus::Pending, 1)]);
    let moved = store.get_schedule("a", row.id).await.expect("found");
    assert_eq!(moved.next, Some((Timestamp(200), Timestamp(205))));
    assert_eq!((moved.last_of, moved.last_at, moved.last_item), (Some(Timestamp(100)), Some(Timestamp(106)), Some(queued.id)));
    assert!(matches!(store.change_schedule(row, moved.clone()).await, Err(StoreError::Conflict(_))), "it fired meanwhile");
    // Its last item waits still.
    let fired = fire(&store, Firing { missed: 2, reason: Some("down".to_owned()), ..firing(&moved, &[200], Some(300)) }).await;
    assert_eq!((fired.queued.len(), fired.skipped, fired.reason.as_deref()), (0, 3, Some("not over")));
    let skipped = store.get_schedule("a", moved.id).await.expect("found");
    assert_eq!((skipped.last_item, skipped.last_error.as_deref()), (Some(queued.id), Some("not over")));
    assert_eq!((skipped.last_of, skipped.counts.queued, skipped.counts.skipped), (Some(Timestamp(200)), 1, 3));
    // Once it is over, as many are queued together as there is room for.
    finish(&store, queued.id, Then::Completed { result: None, is_cut: false }).await;
    let fired = fire(&store, firing(&skipped, &[300, 400, 500, 600, 700], None)).await;
    assert_eq!((fired.queued.len(), fired.skipped, fired.reason.as_deref()), (3, 2, Some("full")));
    let over = store.get_schedule("a", skipped.id).await.expect("found");
    assert_eq!((over.next, over.last_of, over.counts.queued), (None, Some(Timestamp(700)), 4));
    let runs = store.items_of_schedule("a", over.id, i64::MAX, 10, 1000).await.expect("reads");
    let times: Vec<_> = runs.iter().filter_map(|item| item.scheduled_for).map(Timestamp::millis).collect();
    assert_eq!(times, [500, 400, 300, 100]);
    assert_eq!(store.items_of_schedule("a", over.id, runs[1].place, 1, 1000).await.expect("reads"), runs[2..3]);
    assert!(store.items_of_schedule("b", over.id, i64::MAX, 10, 1000).await.expect("reads").is_empty());
    // By hand there is no room either; disabled or not, nothing of it fires.
    assert_eq!(store.run_schedule(over.id, item(&over, 1), ROOM).await.expect("works"), None);
    let room = Room { items: 10, ..ROOM };
    let run = NewItem { scheduled_for: None, ..item(&over, 800) };
    let by_hand = store.run_schedule(over.id, run, room).await.expect("works").expect("there is room");
    let over = store.get_schedule("a", over.id).await.expect("found");
    assert_eq!((over.last_item, over.counts.queued, over.last_of), (Some(by_hand.id), 5, Some(Timestamp(700))));
    store.delete_schedule("a", over.id).await.expect("deletes");
    assert_eq!(store.get_item("a", by_hand.id).await.expect("it stays").schedule, Some(over.id));
}

#[tokio::test]
async fn a_schedule_waits_for_all_its_items_and_not_for_the_newest_alone() {
    let (_folder, store) = sqlite();
    let row = schedule("a", Some(100));
    store.create_schedule(row.clone(), 9).await.expect("works");
    let now = async || store.get_schedule("a", row.id).await.expect("found");
    let done = Then::Completed { result: None, is_cut: false };
    let caught_up = fire(&store, firing(&row, &[100, 200], Some(300))).await.queued;
    finish(&store, caught_up[1], done.clone()).await;
    let fired = fire(&store, firing(&now().await, &[300], Some(400))).await;
    assert_eq!((fired.queued.len(), fired.reason.as_deref()), (0, Some("not over")), "the first of the catch-up waits still");
    let run = NewItem { scheduled_for: None, ..item(&row, 350) };
    let by_hand = store.run_schedule(row.id, run, ROOM).await.expect("works").expect("there is room");
    finish(&store, by_hand.id, done.clone()).await;
    assert_eq!(
        fire(&store, firing(&now().await, &[400], Some(500))).await.queued,
        [],
        "it hides behind none that was run by hand"
    );
    finish(&store, caught_up[0], done).await;
    assert_eq!(fire(&store, firing(&now().await, &[500], Some(600))).await.queued.len(), 1);
}

#[tokio::test]
async fn a_firing_that_can_not_be_decided_is_put_off_and_no_time_is_done_with() {
    let (_folder, store) = sqlite();
    let row = schedule("a", Some(100));
    store.create_schedule(row.clone(), 9).await.expect("works");
    let next = Some((Timestamp(100), Timestamp(900)));
    let put_off = Firing { reason: Some("no zone".to_owned()), next, ..firing(&row, &[], None) };
    assert_eq!(fire(&store, put_off.clone()).await.queued, []);
    let put = store.get_schedule("a", row.id).await.expect("found");
    assert_eq!((put.next, put.last_of, put.last_error.as_deref(), put.counts.skipped), (next, None, Some("no zone"), 0));
    fire(&store, firing(&put, &[100], Some(200))).await;
    let fired = store.get_schedule("a", row.id).await.expect("found");
    assert_eq!((fired.last_of, fired.counts.queued), (Some(Timestamp(100)), 1));
    fire(&store, Firing { row: fired, ..put_off }).await;
    assert_eq!(store.get_schedule("a", row.id).await.expect("found").last_of, Some(Timestamp(100)), "it stays");
}

#[tokio::test]
async fn a_schedule_that_was_disabled_or_changed_meanwhile_does_not_fire() {
    let (_folder, store) = sqlite();
    let row = ScheduleRow { overlap: Overlap::Queue, ..schedule("a", Some(100)) };
    store.create_schedule(row.clone(), 9).await.expect("works");
    let changed = ScheduleRow { prompt: "other".to_owned(), updated_at: Timestamp(2), ..row.clone() };
    store.change_schedule(row.clone(), changed.clone()).await.expect("changes");
    assert_eq!(store.fire_schedule(firing(&row, &[100], Some(200)), ROOM).await.expect("works"), None);
    fire(&store, firing(&changed, &[100], Some(200))).await;
    let row = store.get_schedule("a", row.id).await.expect("found");
    fire(&store, firing(&row, &[200], Some(300))).await;
    let row = store.get_schedule("a", row.id).await.expect("found");
    assert_eq!(row.counts.queued, 2, "it does not wait for the first");
    let disabled = ScheduleRow { enabled: false, updated_at: Timestamp(3), ..row.clone() };
    store.change_schedule(row, disabled.clone()).await.expect("changes");
    assert_eq!(store.fire_schedule(firing(&disabled, &[300], None), ROOM).await.expect("works"), None);
}

#[tokio::test]
async fn a_schedule_counts_what_becomes_of_its_items() {
    let (_folder, store) = sqlite();
    let row = ScheduleRow { overlap: Overlap::Queue, ..schedule("a", Some(100)) };
    store.create_schedule(row.clone(), 9).await.expect("works");
    let queued = fire(&store, firing(&row, &[100, 200, 300], Some(400))).await.queued;
    let now = |store: Arc<dyn Store>| async move {
        let row = store.get_schedule("a", row.id).await.expect("found");
        (row.counts.completed, row.counts.failed, row.failing, row.last_error)
    };
    let failed = Then::Failed { error: "no agent".to_owned() };
    finish(&store, queued[0], failed.clone()).await;
    assert_eq!(now(store.clone()).await, (0, 1, 1, Some("no agent".to_owned())));
    // Told again, it counts once.
    let again = Tried { at: Timestamp(61), then: failed, cost_usd: None, leaves: None };
    store.item_tried(queued[0], again).await.expect("works");
    assert_eq!(now(store.clone()).await.2, 1);
    store.cancel_item("a", queued[1], false, Timestamp(70)).await.expect("cancels");
    assert_eq!(now(store.clone()).await, (0, 1, 1, Some("no agent".to_owned())));
    finish(&store, queued[2], Then::Completed { result: None, is_cut: false }).await;
    assert_eq!(now(store.clone()).await, (1, 1, 0, None));
}

#[tokio::test]
async fn an_item_that_comes_again_with_its_key_is_the_first() {
    let (_folder, store) = sqlite();
    let row = schedule("a", None);
    let with = |tenant: &str, key: &str, message: u8| NewItem {
        tenant: tenant.to_owned(),
        schedule: None,
        scheduled_for: None,
        key: Some(TurnKey { key: key.to_owned(), message: [message; 32] }),
        ..item(&row, 1)
    };
    let Added::New(first) = store.add_item(with("a", "k", 1), ROOM).await.expect("works") else { panic!("it is new") };
    assert_eq!(store.add_item(with("a", "k", 1), ROOM).await.expect("works"), Added::Again(first.clone()));
    assert_eq!(store.add_item(with("a", "k", 2), ROOM).await.expect("works"), Added::KeyReused);
    assert!(matches!(store.add_item(with("b", "k", 2), ROOM).await.expect("works"), Added::New(_)), "keys are of a tenant");
    assert!(matches!(store.add_item(with("a", "other", 1), ROOM).await.expect("works"), Added::New(_)));
    let find = |tenant: &'static str, key: &str, message: u8| {
        let (store, key) = (store.clone(), TurnKey { key: key.to_owned(), message: [message; 32] });
        async move { store.find_item(tenant, key).await.expect("reads") }
    };
    assert_eq!(find("a", "k", 1).await, Some(Added::Again(first.clone())));
    assert_eq!((find("a", "k", 2).await, find("c", "k", 1).await), (Some(Added::KeyReused), None));
    // A full queue does not matter to it, nor that it is over.
    let full = Room { items: 0, bytes: 0 };
    finish(&store, first.id, Then::Completed { result: Some("done".to_owned()), is_cut: false }).await;
    let Added::Again(over) = store.add_item(with("a", "k", 1), full).await.expect("works") else { panic!("it is the first") };
    assert_eq!((over.id, over.status), (first.id, QueueStatus::Completed));
    // It is known as long as its item is there.
    assert_eq!(store.forget_items(Timestamp(61), 10).await.expect("works"), 1);
    assert!(matches!(store.add_item(with("a", "k", 2), ROOM).await.expect("works"), Added::New(_)));
}
