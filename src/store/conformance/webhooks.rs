//! Webhooks.

use super::*;
use crate::crypt::master::Sealed;
use crate::store::webhooks::Waiting;
use crate::wire::WebhookId;
use crate::wire::webhook::{DeliveryState, WebhookEvent};

fn hook(tenant: &str) -> WebhookRow {
    WebhookRow {
        id: WebhookId::new(),
        tenant: tenant.to_owned(),
        url: "https://example.com/".to_owned(),
        events: vec![WebhookEvent::TurnEnded],
        agent: None,
        description: "a test".to_owned(),
        enabled: true,
        disabled_reason: None,
        failing_since: None,
        sealed: Sealed { master: "m".to_owned(), bytes: vec![1, 2] },
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    }
}

fn note(hook: &WebhookRow, session: SessionId, event: i64, state: DeliveryState) -> DeliveryNote {
    DeliveryNote {
        webhook: hook.id,
        url: hook.url.clone(),
        event: Some((session, event)),
        name: "turn.ended".to_owned(),
        at: Timestamp(10),
        state,
        next_at: (state == DeliveryState::Pending).then_some(Timestamp(20)),
        status: Some(500),
        error: Some("because".to_owned()),
        in_order: true,
        disable: None,
        keep: 2,
    }
}

/// A session with a turn that is over, whose end is the event 3.
async fn ended_turn(store: &Arc<dyn Store>, row: &SessionRow) {
    let turn = TurnId::new();
    store.advance(row.id, queue(turn)).await.expect("stores");
    store.advance(row.id, Advance { events: vec![end(turn, "completed")], ..Advance::default() }).await.expect("stores");
}

async fn waiting(store: &Arc<dyn Store>, hook: &WebhookRow) -> Vec<Waiting> {
    store.waiting_for_webhook(hook.clone(), None, 10).await.expect("reads")
}

#[tokio::test]
async fn webhooks_read_back_for_their_tenant_alone_and_are_bounded() {
    let (_folder, store) = sqlite();
    let (mine, other) = (hook("a"), WebhookRow { agent: Some("x".to_owned()), enabled: false, ..hook("b") });
    assert!(store.create_webhook(mine.clone(), 1).await.expect("stores"));
    assert!(store.create_webhook(other.clone(), 1).await.expect("stores"));
    assert!(!store.create_webhook(hook("a"), 1).await.expect("counts"), "one is all that may be");
    assert_eq!(store.list_webhooks("a").await.expect("reads"), std::slice::from_ref(&mine));
    assert_eq!(store.get_webhook("b", other.id).await.expect("reads"), other);
    assert!(matches!(store.get_webhook("a", other.id).await, Err(StoreError::NotFound(_))));
    assert_eq!(store.enabled_webhooks().await.expect("reads"), std::slice::from_ref(&mine));
    let changed = WebhookRow { url: "https://example.org/".to_owned(), updated_at: Timestamp(2), ..mine.clone() };
    store.change_webhook(mine.clone(), changed.clone()).await.expect("changes");
    assert_eq!(store.get_webhook("a", mine.id).await.expect("reads"), changed);
    assert!(matches!(store.change_webhook(mine.clone(), changed.clone()).await, Err(StoreError::Conflict(_))));
    assert!(matches!(store.delete_webhook("b", mine.id).await, Err(StoreError::NotFound(_))));
    store.delete_webhook("a", mine.id).await.expect("deletes");
    assert_eq!(store.list_webhooks("a").await.expect("reads"), []);
}

#[tokio::test]
async fn a_webhook_begins_where_the_logs_end_and_its_cursor_moves_with_what_is_over() {
    let (_folder, store) = sqlite();
    let (old, new) = (session(), session());
    store.create_session(old.clone()).await.expect("stores");
    ended_turn(&store, &old).await;
    let hook = hook("default");
    store.create_webhook(hook.clone(), 9).await.expect("stores");
    assert_eq!(waiting(&store, &hook).await, [], "what was before is not told");
    store.create_session(new.clone()).await.expect("stores");
    ended_turn(&store, &new).await;
    assert_eq!(waiting(&store, &hook).await, [Waiting { session: new.id, agent: "hello".to_owned(), next_at: None }]);
    let foreign = WebhookRow { tenant: "other".to_owned(), ..hook.clone() };
    assert_eq!(waiting(&store, &foreign).await, []);
    let of_another = WebhookRow { agent: Some("another".to_owned()), ..hook.clone() };
    assert_eq!(waiting(&store, &of_another).await, []);

    let failed = store.note_delivery(note(&hook, new.id, 3, DeliveryState::Pending)).await.expect("notes");
    let place = store.webhook_place(hook.id, new.id).await.expect("reads");
    assert_eq!((place.through, place.tail, place.pending), (0, 3, Some((3, 1, Timestamp(10)))));
    assert_eq!(place.failing_since, Some(Timestamp(10)));
    assert_eq!(waiting(&store, &hook).await[0].next_at, Some(Timestamp(20)));

    let taken = store.note_delivery(note(&hook, new.id, 3, DeliveryState::Delivered)).await.expect("notes");
    assert_eq!((taken.id, taken.attempts, taken.state), (failed.id, 2, DeliveryState::Delivered), "one row of one event");
    let place = store.webhook_place(hook.id, new.id).await.expect("reads");
    assert_eq!((place.through, place.pending, place.failing_since), (3, None, None));
    assert_eq!(waiting(&store, &hook).await, []);

    // Whatever comes through shows that the receiver is there again, but not at an address that it had before.
    store.note_delivery(note(&hook, new.id, 3, DeliveryState::Pending)).await.expect("notes");
    let test = DeliveryNote { event: None, in_order: false, ..note(&hook, new.id, 3, DeliveryState::Delivered) };
    store.note_delivery(DeliveryNote { url: "https://elsewhere.example/".to_owned(), ..test.clone() }).await.expect("notes");
    let failing = async || store.webhook_place(hook.id, new.id).await.expect("reads").failing_since;
    assert_eq!(failing().await, Some(Timestamp(10)));
    store.note_delivery(test).await.expect("notes");
    assert_eq!(failing().await, None);

    let child = SessionRow { parent: Some(new.id), ..session() };
    store.fork_session(child.clone(), new.id, 3).await.expect("forks");
    assert_eq!(waiting(&store, &hook).await, [], "what is copied was told already");
    ended_turn(&store, &child).await;
    assert_eq!(waiting(&store, &hook).await.len(), 1);
    store.forget_session(child.id).await.expect("forgets");
    assert!(matches!(store.webhook_place(hook.id, child.id).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn deliveries_are_kept_in_a_number_and_what_is_pending_ends_with_a_change() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let hook = hook("default");
    store.create_webhook(hook.clone(), 9).await.expect("stores");
    for event in 1..=4 {
        store.note_delivery(note(&hook, made.id, event, DeliveryState::Delivered)).await.expect("notes");
    }
    let test = DeliveryNote { event: None, ..note(&hook, made.id, 0, DeliveryState::Failed) };
    let test = store.note_delivery(test).await.expect("notes");
    let kept = store.deliveries(hook.id, None, 10).await.expect("reads");
    assert_eq!(kept.iter().map(|one| one.event).collect::<Vec<_>>(), [None, Some(4)]);
    assert_eq!(store.deliveries(hook.id, Some(test.id), 10).await.expect("reads").len(), 1);
    assert!(matches!(store.get_delivery(WebhookId::new(), test.id).await, Err(StoreError::NotFound("delivery"))));

    store.note_delivery(note(&hook, made.id, 5, DeliveryState::Pending)).await.expect("notes");
    let known = store.get_webhook("default", hook.id).await.expect("reads");
    let changed = WebhookRow { enabled: false, updated_at: Timestamp(2), ..known.clone() };
    store.change_webhook(known, changed.clone()).await.expect("changes");
    assert_eq!(store.webhook_place(hook.id, made.id).await.expect("reads").pending, None);
    ended_turn(&store, &made).await;
    let enabled = WebhookRow { enabled: true, updated_at: Timestamp(3), ..changed.clone() };
    store.change_webhook(changed, enabled.clone()).await.expect("changes");
    assert_eq!(waiting(&store, &enabled).await, [], "what happened meanwhile is not told");

    let wrong = DeliveryNote {
        url: "https://old.example/".to_owned(),
        disable: Some("gone".to_owned()),
        ..note(&hook, made.id, 9, DeliveryState::Failed)
    };
    store.note_delivery(wrong.clone()).await.expect("notes");
    assert!(store.get_webhook("default", hook.id).await.expect("reads").enabled, "an answer of another address disables nothing");
    store.note_delivery(DeliveryNote { url: hook.url.clone(), ..wrong.clone() }).await.expect("notes");
    assert_eq!(store.get_webhook("default", hook.id).await.expect("reads").disabled_reason.as_deref(), Some("gone"));
    store.delete_webhook("default", hook.id).await.expect("deletes");
    assert!(matches!(store.note_delivery(wrong).await, Err(StoreError::NotFound(_))), "nothing is left of it");
}

#[tokio::test]
async fn another_list_of_events_counts_from_its_making_on_and_loses_nothing_of_the_old_one() {
    let (_folder, store) = sqlite();
    let hook = WebhookRow { events: vec![WebhookEvent::PermissionResolved], ..hook("default") };
    store.create_webhook(hook.clone(), 9).await.expect("stores");
    let (done, waits) = (session(), session());
    for row in [&done, &waits] {
        store.create_session(row.clone()).await.expect("stores");
        ended_turn(&store, row).await;
    }
    assert_eq!(waiting(&store, &hook).await, []);
    let ends = WebhookRow { events: vec![WebhookEvent::TurnEnded], updated_at: Timestamp(2), ..hook.clone() };
    store.change_webhook(hook, ends.clone()).await.expect("changes");
    assert_eq!(waiting(&store, &ends).await, [], "what was before is not told");
    ended_turn(&store, &waits).await;
    let all = WebhookRow { events: vec![WebhookEvent::All], updated_at: Timestamp(3), ..ends.clone() };
    store.change_webhook(ends, all.clone()).await.expect("changes");
    assert_eq!(waiting(&store, &all).await.iter().map(|one| one.session).collect::<Vec<_>>(), [waits.id]);
}

#[tokio::test]
async fn nothing_is_left_of_a_session_that_is_removed() {
    let (_folder, store) = sqlite();
    let (hook, made) = (hook("default"), session());
    store.create_webhook(hook.clone(), 9).await.expect("stores");
    store.create_session(made.clone()).await.expect("stores");
    ended_turn(&store, &made).await;
    store.note_delivery(note(&hook, made.id, 3, DeliveryState::Pending)).await.expect("notes");
    store.advance(made.id, Advance { status: Some(Status::Ended), ..Advance::default() }).await.expect("ends");
    store.disown_session(made.id).await.expect("disowns");
    assert_eq!(waiting(&store, &hook).await, []);
    assert!(matches!(store.webhook_place(hook.id, made.id).await, Err(StoreError::NotFound(_))), "it is told nothing more");
    while store.remove_session(made.id, 100, u64::MAX).await.expect("removes") {}
    assert_eq!(store.deliveries(hook.id, None, 10).await.expect("reads"), []);
}

#[tokio::test]
async fn secrets_are_sealed_anew_unless_they_changed() {
    let (_folder, store) = sqlite();
    let hook = hook("default");
    store.create_webhook(hook.clone(), 9).await.expect("stores");
    assert_eq!(store.webhooks_of_other_masters("m", 9).await.expect("reads"), []);
    assert_eq!(store.webhooks_of_other_masters("n", 9).await.expect("reads").len(), 1);
    let new = Sealed { master: "n".to_owned(), bytes: vec![3] };
    store.reseal_webhook(hook.id, Sealed { bytes: vec![9], ..new.clone() }, new.clone()).await.expect("leaves it");
    assert_eq!(store.get_webhook("default", hook.id).await.expect("reads").sealed, hook.sealed);
    store.reseal_webhook(hook.id, hook.sealed.clone(), new.clone()).await.expect("stores");
    assert_eq!(store.get_webhook("default", hook.id).await.expect("reads").sealed, new);
}
