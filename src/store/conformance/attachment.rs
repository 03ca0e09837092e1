//! Attachments.

use super::*;

const LIMITS: AttachmentLimits = AttachmentLimits { count: 3, bytes: 100 };

fn new(session: SessionId, filename: &str, size: u64) -> NewAttachment {
    NewAttachment {
        id: AttachmentId::new(),
        session,
        filename: filename.to_owned(),
        mime_type: "text/plain".to_owned(),
        size,
        message: Some(Uuid::now_v7()),
    }
}

#[tokio::test]
async fn attachments_belong_to_a_session_of_a_tenant_that_has_not_ended() {
    let (_folder, store) = sqlite();
    let made = session();
    let early = store.add_attachment("default", new(made.id, "a", 1), LIMITS).await;
    assert!(matches!(early, Err(StoreError::NotFound("session"))), "{early:?}");
    store.create_session(made.clone()).await.expect("stores");
    let foreign = store.add_attachment("other", new(made.id, "a", 1), LIMITS).await;
    assert!(matches!(foreign, Err(StoreError::NotFound("session"))), "{foreign:?}");

    let row = store.add_attachment("default", new(made.id, "a", 1), LIMITS).await.expect("adds");
    assert_eq!(store.get_attachment("default", row.id).await.expect("reads"), row);
    assert!(matches!(store.get_attachment("other", row.id).await, Err(StoreError::NotFound("attachment"))));
    assert_eq!(store.attachments(made.id).await.expect("reads"), std::slice::from_ref(&row));
    assert_eq!(store.attachment_ids().await.expect("reads"), [(made.id, row.id)]);

    store.advance(made.id, Advance { status: Some(Status::Ended), ..Advance::default() }).await.expect("ends");
    let late = store.add_attachment("default", new(made.id, "b", 1), LIMITS).await;
    assert!(matches!(late, Err(StoreError::NotFound("session"))), "{late:?}");
    store.disown_session(made.id).await.expect("disowns");
    assert!(matches!(store.get_attachment("default", row.id).await, Err(StoreError::NotFound("attachment"))));
    while store.remove_session(made.id, 1, 1).await.expect("removes") {}
    assert_eq!(store.attachment_ids().await.expect("reads"), []);
}

#[tokio::test]
async fn attachments_are_bounded_and_have_paths_of_their_own() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let first = store.add_attachment("default", new(made.id, "a.txt", 60), LIMITS).await.expect("adds");
    let large = store.add_attachment("default", new(made.id, "a.txt", 41), LIMITS).await;
    assert!(matches!(large, Err(StoreError::Conflict(_))), "{large:?}");
    for path in ["attachments/a (2).txt", "attachments/a (3).txt"] {
        assert_eq!(store.add_attachment("default", new(made.id, "a.txt", 1), LIMITS).await.expect("adds").path, path);
    }
    let many = store.add_attachment("default", new(made.id, "a.txt", 1), LIMITS).await;
    assert!(matches!(many, Err(StoreError::Conflict(_))), "{many:?}");
    assert!(store.forget_attachment(first.id).await.expect("forgets"));
    assert!(!store.forget_attachment(first.id).await.expect("works"));
    assert_eq!(store.add_attachment("default", new(made.id, "a.txt", 1), LIMITS).await.expect("adds").path, "attachments/a.txt");
}

#[tokio::test]
async fn an_attachment_is_placed_from_the_next_event_on_and_copied_as_it_is() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let row = store.add_attachment("default", new(made.id, "a", 1), LIMITS).await.expect("adds");
    assert_eq!((row.added, row.placed), (0, None));
    let events = vec![event(Kind::Text, None, "{}"), event(Kind::Text, None, "{}")];
    store.advance(made.id, Advance { events, ..Advance::default() }).await.expect("stores");
    store.place_attachments(made.id, vec![row.id]).await.expect("places");
    let placed = store.get_attachment("default", row.id).await.expect("reads");
    assert_eq!(placed.placed, Some(3));
    assert_eq!(store.add_attachment("default", new(made.id, "b", 1), LIMITS).await.expect("adds").added, 2);

    let child = session();
    let copy = AttachmentRow { id: AttachmentId::new(), session: child.id, ..placed };
    store.copy_attachments(vec![copy.clone()]).await.expect("copies");
    assert!(store.get_attachment("default", copy.id).await.is_err(), "not before its session is there");
    store.create_session(child).await.expect("stores");
    assert_eq!(store.get_attachment("default", copy.id).await.expect("reads"), copy);
}
