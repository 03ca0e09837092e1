//! What every [`Store`] does, whichever database is under it.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::sqlite::Sqlite;
use super::*;
use crate::wire::SandboxId;

/// A database file, and the folder that goes with the test.
fn sqlite() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::tempdir().expect("folder");
    let store = Sqlite::open(&folder.path().join("ash.db")).expect("opens");
    (folder, Arc::new(store))
}

fn session() -> SessionRow {
    SessionRow {
        id: SessionId::new(),
        tenant: "default".to_owned(),
        agent: "hello".to_owned(),
        digest: "sha256:00".to_owned(),
        status: Status::Starting,
        sandbox: SandboxId::new(),
        model: Some("mock-model".to_owned()),
        system_prompt: None,
        extra_env: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
        config: SessionConfig { allowed_tools: Some(vec!["Bash".to_owned()]), ..SessionConfig::default() },
        parent: None,
        conversed: false,
        tail: 0,
        created_at: now(),
        last_active_at: now(),
    }
}

fn event(kind: Kind, turn: Option<TurnId>, data: &str) -> NewEvent {
    NewEvent { at: now(), turn, kind, data: data.to_owned() }
}

fn queue(turn: TurnId) -> Advance {
    Advance {
        events: vec![
            event(Kind::TurnQueued, Some(turn), "{}"),
            event(Kind::TurnStarted, Some(turn), r#"{"kind":"user","content":"hi"}"#),
        ],
        queued: vec![NewTurn { id: turn, content: "\"hi\"".to_owned(), options: TurnOptions::default() }],
        ..Advance::default()
    }
}

fn end(turn: TurnId, state: &str) -> NewEvent {
    event(Kind::TurnEnded, Some(turn), &format!(r#"{{"turnId":"{turn}","state":"{state}","cause":"because"}}"#))
}

#[tokio::test]
async fn sessions_read_back_as_they_were_made() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    assert_eq!(store.get_session("default", made.id).await.expect("found"), made);
    assert!(matches!(store.get_session("other", made.id).await, Err(StoreError::NotFound(_))), "a foreign tenant sees nothing");
    store.forget_session(made.id).await.expect("forgets");
    assert!(matches!(store.get_session("default", made.id).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn a_turn_goes_from_queued_to_over_with_its_events() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let turn = TurnId::new();
    let advanced = store.advance(made.id, queue(turn)).await.expect("stores");
    assert_eq!(advanced, Advanced { tail: 2, first: Some(1) });
    let open = store.open_turns(made.id).await.expect("reads");
    assert_eq!(open.iter().map(|turn| (turn.id, turn.state)).collect::<Vec<_>>(), [(turn, TurnState::Running)]);

    let over = Advance { events: vec![end(turn, "interrupted"), end(turn, "completed")], ..Advance::default() };
    store.advance(made.id, over).await.expect("stores");
    let row = store.get_turn(made.id, turn).await.expect("reads");
    assert_eq!(
        (row.state, row.last_event, row.cause.as_deref()),
        (TurnState::Interrupted, Some(3), Some("because")),
        "the first end counts"
    );
    assert!(store.open_turns(made.id).await.expect("reads").is_empty());
}

#[tokio::test]
async fn what_a_shim_delivers_twice_is_stored_once() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let incarnation = Uuid::now_v7();
    let batch = |incarnation, first: u64, texts: &[&str]| Advance {
        shim: Some(ShimBatch {
            incarnation,
            first,
            events: texts.iter().map(|text| event(Kind::Text, None, &format!("{{\"text\":\"{text}\"}}"))).collect(),
        }),
        ..Advance::default()
    };
    let store_batch = async |change| store.advance(made.id, change).await.map(|advanced| advanced.tail);
    assert_eq!(store_batch(batch(incarnation, 1, &["a", "b"])).await.expect("stores"), 2);
    assert_eq!(store_batch(batch(incarnation, 1, &["a", "b"])).await.expect("ignores"), 2);
    assert_eq!(store_batch(batch(incarnation, 2, &["b", "c"])).await.expect("takes the rest"), 3);
    let gap = store_batch(batch(incarnation, 5, &["e"])).await.expect_err("d is missing").to_string();
    assert!(gap.contains("4 to 4"), "{gap}");
    assert_eq!(store_batch(batch(Uuid::now_v7(), 1, &["a"])).await.expect("another life counts anew"), 4);
    let ids: Vec<_> = store.events(made.id, 0, 100, EventFilter::default()).await.expect("reads").iter().map(|e| e.id).collect();
    assert_eq!(ids, [1, 2, 3, 4], "ids have no gap");
}

#[tokio::test]
async fn messages_are_counted_and_partials_are_none() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let turn = TurnId::new();
    let mut change = queue(turn);
    change.events.extend([
        event(Kind::PartialMessage, Some(turn), r#"{"type":"stream_event"}"#),
        event(Kind::Message, Some(turn), r#"{"subtype":"init","type":"system"}"#),
        event(Kind::Message, Some(turn), r#"{"message":{},"type":"assistant"}"#),
        event(Kind::Message, Some(turn), r#"{"type":"result"}"#),
    ]);
    store.advance(made.id, change).await.expect("stores");
    let messages = store.messages(made.id, 0, 10).await.expect("reads");
    let found: Vec<_> = messages.iter().map(|m| (m.sequence, m.role.as_str())).collect();
    assert_eq!(found, [(1, "user"), (2, "assistant"), (3, "assistant")]);
    assert_eq!(store.messages(made.id, 1, 1).await.expect("reads")[0].sequence, 2, "strictly after, at most the limit");
}

#[tokio::test]
async fn events_are_filtered_by_turn_and_kind() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let (a, b) = (TurnId::new(), TurnId::new());
    for turn in [a, b] {
        store.advance(made.id, queue(turn)).await.expect("stores");
        store.advance(made.id, Advance { events: vec![end(turn, "completed")], ..Advance::default() }).await.expect("stores");
    }
    let of = |turn, kinds| EventFilter { turn, kinds };
    let read =
        async |filter| store.events(made.id, 0, 100, filter).await.expect("reads").iter().map(|e| e.id).collect::<Vec<_>>();
    assert_eq!(read(of(Some(b), Vec::new())).await, [4, 5, 6]);
    assert_eq!(read(of(None, vec![Kind::TurnEnded])).await, [3, 6]);
    assert_eq!(read(of(Some(a), vec![Kind::TurnEnded, Kind::Error])).await, [3]);
}

#[tokio::test]
async fn a_change_that_fails_leaves_nothing_and_harms_no_other() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let without_message = Advance { events: vec![event(Kind::TurnQueued, Some(TurnId::new()), "{}")], ..Advance::default() };
    let text = || Advance { events: vec![event(Kind::Text, None, "{}")], ..Advance::default() };
    let (first, bad, last) =
        tokio::join!(store.advance(made.id, text()), store.advance(made.id, without_message), store.advance(made.id, text()));
    assert!(matches!(bad, Err(StoreError::Conflict(_))), "{bad:?}");
    assert_eq!((first.expect("stores").tail, last.expect("stores").tail), (1, 2));
}

#[tokio::test]
async fn agents_count_deploys_and_keep_their_environment() {
    let (_folder, store) = sqlite();
    let env = BTreeMap::from([("K".to_owned(), "v".to_owned())]);
    let first = store.deploy_agent("default", "hello", "sha256:1", Some(env.clone())).await.expect("deploys");
    let second = store.deploy_agent("default", "hello", "sha256:2", None).await.expect("deploys");
    assert_eq!((first.deploys, second.deploys), (1, 2));
    assert_eq!((first.id, &first.env), (second.id, &env));
    assert_eq!((second.digest.as_str(), &second.env), ("sha256:2", &env));
    assert_eq!(second.created_at, first.created_at);

    let config = serde_json::json!({"a": 1}).as_object().cloned();
    store.patch_agent("default", "hello", None, config).await.expect("patches");
    let config = serde_json::json!({"b": 2}).as_object().cloned();
    let patched = store.patch_agent("default", "hello", Some(BTreeMap::new()), config).await.expect("patches");
    assert_eq!((patched.env.len(), patched.config.len()), (0, 2));

    assert!(store.version_in_use("sha256:2").await.expect("reads"));
    assert!(!store.version_in_use("sha256:1").await.expect("reads"));
    store.delete_agent("default", "hello").await.expect("deletes");
    assert!(matches!(store.delete_agent("default", "hello").await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn sessions_are_listed_newest_first_in_pages() {
    let (_folder, store) = sqlite();
    let mut ids = Vec::new();
    for n in 0..5 {
        let made =
            SessionRow { status: if n == 0 { Status::Ended } else { Status::Active }, created_at: Timestamp(n), ..session() };
        ids.push(made.id);
        store.create_session(made).await.expect("stores");
    }
    let filter = SessionFilter { agent: Some("hello".to_owned()), status: Some(Status::Active), limit: 2, offset: 1 };
    let page = store.list_sessions("default", filter).await.expect("lists");
    assert_eq!(page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [ids[3], ids[2]]);
    assert_eq!(page.total, 4);
    assert_eq!(store.living_sessions().await.expect("lists").len(), 4);
}

#[tokio::test]
async fn keys_are_found_by_hash_and_revoked_by_their_tenant_only() {
    let (_folder, store) = sqlite();
    let key = KeyRow {
        id: KeyId::new(),
        tenant: "a".to_owned(),
        label: "l".to_owned(),
        prefix: "ash_".to_owned(),
        hash: [7; 32],
        created_at: now(),
    };
    store.create_key(key.clone()).await.expect("stores");
    assert_eq!(store.find_key([7; 32]).await.expect("reads"), Some(key.clone()));
    assert_eq!(store.find_key([8; 32]).await.expect("reads"), None);
    assert!(matches!(store.delete_key("b", key.id).await, Err(StoreError::NotFound(_))));
    store.delete_key("a", key.id).await.expect("revokes");
    assert_eq!(store.find_key([7; 32]).await.expect("reads"), None);
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_reopening() {
    let (folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    drop(store);
    let store = Sqlite::open(&folder.path().join("ash.db")).expect("opens again");
    assert_eq!(store.get_session("default", made.id).await.expect("found"), made);
    store.check().await.expect("takes writes");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("ash.db");
    std::fs::write(&path, "x".repeat(4096)).expect("writes");
    let error = Sqlite::open(&path).expect_err("no database").to_string();
    assert!(error.contains("ash.db"), "{error}");
}

#[tokio::test]
async fn a_turn_ends_once_and_only_in_its_session() {
    let (_folder, store) = sqlite();
    let (mine, other) = (session(), session());
    store.create_session(mine.clone()).await.expect("stores");
    store.create_session(other.clone()).await.expect("stores");
    let turn = TurnId::new();
    let queued = store.advance(mine.id, queue(turn)).await.expect("stores");
    let ended = |events| Advance { events, ..Advance::default() };
    let foreign = store.advance(other.id, ended(vec![end(turn, "failed")])).await.expect("stores");
    assert_eq!(foreign, Advanced { tail: 0, first: None }, "another session can not end it");
    let once = ended(vec![end(turn, "interrupted"), end(turn, "completed")]);
    let stored = store.advance(mine.id, once).await.expect("stores");
    assert_eq!(stored.tail, queued.tail + 1);
    assert_eq!(store.get_turn(mine.id, turn).await.expect("found").state, TurnState::Interrupted);
    let again = Advance { events: vec![event(Kind::TurnStarted, Some(turn), r#"{"kind":"runtime"}"#)], ..Advance::default() };
    assert!(matches!(store.advance(mine.id, again).await, Err(StoreError::Conflict(_))), "trying again would not help");
}
