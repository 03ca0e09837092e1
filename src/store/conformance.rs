//! What every [`Store`] does, whichever database is under it.

mod audit;
mod eval;
mod queue;
mod schedules;
mod usage;
mod webhooks;

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::sqlite::Sqlite;
use super::*;
use crate::wire::credential::CredentialType;
use crate::wire::scope::{Scope, Scopes};
use crate::wire::{AttachmentId, SandboxId};

mod attachment;
mod project_file;
mod prompt_version;

/// A database file, and the folder that goes with the test.
fn sqlite() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::tempdir().expect("folder");
    let store = Sqlite::open(&folder.path().join("ash.db")).expect("opens");
    (folder, Arc::new(store))
}

fn session() -> SessionRow {
    let at = now();
    SessionRow {
        id: SessionId::new(),
        tenant: "default".to_owned(),
        agent: "hello".to_owned(),
        digest: "sha256:00".to_owned(),
        status: Status::Starting,
        sandbox: SandboxId::new(),
        model: Some("mock-model".to_owned()),
        system_prompt: None,
        prompt_version: None,
        extra_env: KeptEnv::Clear(BTreeMap::from([("A".to_owned(), "1".to_owned())])),
        config: SessionConfig { allowed_tools: Some(vec!["Bash".to_owned()]), ..SessionConfig::default() },
        parent: None,
        conversed: false,
        tail: 0,
        created_at: at,
        last_active_at: at,
        granted: Vec::new(),
        sandbox_boot: None,
        heard: None,
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
        queued: vec![NewTurn {
            id: turn,
            content: "\"hi\"".to_owned(),
            options: TurnOptions::default(),
            key: None,
            jumps: false,
            trace: Some("a trace".to_owned()),
        }],
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
    assert_eq!(advanced, Advanced { tail: 2, first: Some(1), is_told: true });
    let open = store.open_turns(made.id).await.expect("reads");
    let found: Vec<_> = open.iter().map(|turn| (turn.id, turn.state, turn.trace.as_deref())).collect();
    assert_eq!(found, [(turn, TurnState::Running, Some("a trace"))]);

    let over = Advance { events: vec![end(turn, "interrupted"), end(turn, "completed")], ..Advance::default() };
    store.advance(made.id, over).await.expect("stores");
    let row = store.get_turn(made.id, turn).await.expect("reads");
    assert_eq!(
        (row.state, row.last_event, row.cause.as_deref()),
        (TurnState::Interrupted, Some(3), Some("because")),
        "the first end counts"
    );
    assert!(store.open_turns(made.id).await.expect("reads").is_empty());

    let late = vec![event(Kind::Text, Some(turn), "{}"), event(Kind::Text, None, "{}")];
    let batch = ShimBatch { incarnation: Uuid::now_v7(), first: 1, events: late };
    store.advance(made.id, Advance { shim: Some(batch), ..Advance::default() }).await.expect("stores");
    let after = store.events(made.id, 3, 10, EventFilter::default()).await.expect("reads");
    assert_eq!(after.iter().map(|event| event.turn).collect::<Vec<_>>(), [None, None], "the end of a turn is its last event");
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
    let messages = store.messages(made.id, 0, 10, usize::MAX).await.expect("reads");
    let found: Vec<_> = messages.iter().map(|m| (m.sequence, m.role.as_str())).collect();
    assert_eq!(found, [(1, "user"), (2, "assistant"), (3, "assistant")]);
    let after = store.messages(made.id, 1, 1, usize::MAX).await.expect("reads");
    assert_eq!(after[0].sequence, 2, "strictly after, at most the limit");
    assert_eq!(store.messages(made.id, 0, 10, 1).await.expect("reads").len(), 1, "bounded by bytes, but one always comes");
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
    let of = |turn, kinds| EventFilter { turn, kinds, bytes: None };
    let read =
        async |filter| store.events(made.id, 0, 100, filter).await.expect("reads").iter().map(|e| e.id).collect::<Vec<_>>();
    assert_eq!(read(of(Some(b), Vec::new())).await, [4, 5, 6]);
    assert_eq!(read(of(None, vec![Kind::TurnEnded])).await, [3, 6]);
    assert_eq!(read(of(Some(a), vec![Kind::TurnEnded, Kind::Error])).await, [3]);
}

#[tokio::test]
async fn events_are_bounded_by_bytes_but_one_always_comes() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let sized = |bytes: usize| event(Kind::Text, None, &format!("{{\"text\":\"{}\"}}", "x".repeat(bytes - 11)));
    let events = [40, 40, 300, 40].map(sized).to_vec();
    store.advance(made.id, Advance { events, ..Advance::default() }).await.expect("stores");
    let read = async |after, limit, bytes| {
        let filter = EventFilter { bytes, ..EventFilter::default() };
        store.events(made.id, after, limit, filter).await.expect("reads").iter().map(|e| e.id).collect::<Vec<_>>()
    };
    assert_eq!(read(0, 100, Some(100)).await, [1, 2]);
    assert_eq!(read(0, 100, Some(80)).await, [1, 2], "the bound itself is allowed");
    assert_eq!(read(2, 100, Some(100)).await, [3], "larger than the bound, and not left out");
    assert_eq!(read(3, 100, Some(100)).await, [4]);
    assert_eq!(read(0, 1, Some(100)).await, [1]);
    assert_eq!(read(0, 100, None).await, [1, 2, 3, 4]);
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
    let env = KeptEnv::Clear(BTreeMap::from([("K".to_owned(), "v".to_owned())]));
    let first = store.deploy_agent("default", "hello", "sha256:1", Some(env.clone())).await.expect("deploys");
    let second = store.deploy_agent("default", "hello", "sha256:2", None).await.expect("deploys");
    assert_eq!((first.deploys, second.deploys), (1, 2));
    assert_eq!((first.id, &first.env), (second.id, &env));
    assert_eq!((second.digest.as_str(), &second.env), ("sha256:2", &env));
    assert_eq!(second.created_at, first.created_at);

    let config = serde_json::json!({"a": 1}).as_object().cloned();
    store.patch_agent("default", "hello", None, config).await.expect("patches");
    let config = serde_json::json!({"b": 2}).as_object().cloned();
    let patched = store.patch_agent("default", "hello", Some(KeptEnv::default()), config).await.expect("patches");
    assert_eq!((patched.env.names().len(), patched.config.len()), (0, 2));

    assert!(store.version_in_use("sha256:2").await.expect("reads"));
    assert!(!store.version_in_use("sha256:1").await.expect("reads"));
    store.create_session(SessionRow { status: Status::Ended, digest: "sha256:1".to_owned(), ..session() }).await.expect("stores");
    assert!(store.version_in_use("sha256:1").await.expect("reads"), "one that has ended can be forked");
    let uses = store.uses().await.expect("reads");
    let mut deployed: Vec<_> = uses.deploys.iter().map(|deploy| deploy.digest.as_str()).collect();
    deployed.sort_unstable();
    assert_eq!((uses.current, deployed), (vec!["sha256:2".to_owned()], vec!["sha256:1", "sha256:2"]));
    store.delete_agent("default", "hello").await.expect("deletes");
    assert!(matches!(store.delete_agent("default", "hello").await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn the_configuration_of_an_agent_does_not_grow_without_end() {
    let (_folder, store) = sqlite();
    store.deploy_agent("default", "hello", "sha256:1", None).await.expect("deploys");
    let of = |name: &str, bytes: usize| Map::from_iter([(name.to_owned(), Value::String("x".repeat(bytes)))]);
    // {"a":"…"} has 8 bytes beside its text.
    store.patch_agent("default", "hello", None, Some(of("a", AGENT_CONFIG_MAX - 8))).await.expect("as large as it may be");
    let env = KeptEnv::Clear(BTreeMap::from([("K".to_owned(), "v".to_owned())]));
    let refused = store.patch_agent("default", "hello", Some(env), Some(of("b", 1))).await.expect_err("too large").to_string();
    assert!(refused.contains("1048576 bytes"), "{refused}");
    let agent = store.get_agent("default", "hello").await.expect("reads");
    assert_eq!((agent.config.len(), agent.env), (1, KeptEnv::default()), "nothing of it counts");
    store.patch_agent("default", "hello", None, Some(of("a", 1))).await.expect("shrinks");
    store.patch_agent("default", "hello", None, Some(of("b", 1))).await.expect("there is room again");
}

#[tokio::test]
async fn agents_are_listed_by_name_within_a_bound_of_bytes() {
    let (_folder, store) = sqlite();
    for (name, bytes) in [("c", 10), ("a", 10), ("d", 5000), ("b", 10), ("e", 10)] {
        let env = KeptEnv::Clear(BTreeMap::from([("K".to_owned(), "v".repeat(bytes))]));
        store.deploy_agent("default", name, "sha256:1", Some(env)).await.expect("deploys");
    }
    let config = Map::from_iter([("large".to_owned(), Value::String("x".repeat(10_000)))]);
    store.patch_agent("default", "b", None, Some(config)).await.expect("patches");
    let read = async |after, limit, bytes| {
        let rows = store.list_agents("default", after, limit, bytes).await.expect("lists");
        assert!(rows.iter().all(|row| row.config.is_empty()));
        rows.iter().map(|row| row.name.as_str()).collect::<String>()
    };
    assert_eq!(read("", 10, 1000).await, "abc");
    assert_eq!(read("c", 10, 1000).await, "d", "larger than the bound, and not left out");
    assert_eq!(read("d", 10, 1000).await, "e");
    assert_eq!(read("a", 2, usize::MAX).await, "bc");
}

#[tokio::test]
async fn a_session_is_removed_in_steps_and_found_by_nobody_meanwhile() {
    let (_folder, store) = sqlite();
    let (kept, gone) = (session(), session());
    for row in [&kept, &gone] {
        store.create_session(row.clone()).await.expect("stores");
        for _ in 0..3 {
            let turn = TurnId::new();
            store.advance(row.id, queue(turn)).await.expect("stores");
            store.advance(row.id, Advance { events: vec![end(turn, "completed")], ..Advance::default() }).await.expect("stores");
        }
    }
    assert!(matches!(store.disown_session(gone.id).await, Err(StoreError::NotFound(_))), "it has not ended");
    store.advance(gone.id, Advance { status: Some(Status::Ended), ..Advance::default() }).await.expect("stores");
    store.disown_session(gone.id).await.expect("disowns");
    assert!(matches!(store.get_session("default", gone.id).await, Err(StoreError::NotFound(_))));
    assert!(store.find_session_of(gone.sandbox).await.expect("reads").is_none());
    let child = SessionRow { status: Status::Paused, parent: Some(gone.id), ..session() };
    assert!(matches!(store.fork_session(child, gone.id, 5).await, Err(StoreError::NotFound(_))), "of a half log");
    assert!(store.uses().await.expect("reads").sessions.iter().any(|one| one.id == gone.id && one.is_disowned));

    let mut steps = 1;
    while store.remove_session(gone.id, 2, u64::MAX).await.expect("removes") {
        steps += 1;
    }
    assert!(steps > 3, "{steps}");
    assert!(!store.knows_session(gone.id).await.expect("reads"));
    assert!(store.events(gone.id, 0, 100, EventFilter::default()).await.expect("reads").is_empty());
    assert!(store.messages(gone.id, 0, 100, usize::MAX).await.expect("reads").is_empty());
    assert_eq!(store.get_session("default", kept.id).await.expect("found").tail, 9);
    assert_eq!(store.events(kept.id, 0, 100, EventFilter::default()).await.expect("reads").len(), 9);
    assert!(
        matches!(store.remove_session(kept.id, 100, u64::MAX).await, Err(StoreError::NotFound(_))),
        "one with an owner stays"
    );
    assert_eq!(store.events(kept.id, 0, 100, EventFilter::default()).await.expect("reads").len(), 9);
}

#[tokio::test]
async fn a_session_with_large_events_is_removed_by_their_bytes_one_at_a_time_if_need_be() {
    let (_folder, store) = sqlite();
    let gone = session();
    store.create_session(gone.clone()).await.expect("stores");
    // With umlauts, which have more bytes than letters.
    let large = |letters: usize| NewEvent { at: now(), turn: None, kind: Kind::Lifecycle, data: "ö".repeat(letters) };
    let events = [10, 10, 500, 10, 10, 500, 500, 10].map(large).to_vec();
    store.advance(gone.id, Advance { events, status: Some(Status::Ended), ..Advance::default() }).await.expect("stores");
    store.disown_session(gone.id).await.expect("disowns");
    let mut left = vec![8];
    while store.remove_session(gone.id, 100, 60).await.expect("removes") {
        left.push(store.events(gone.id, 0, 100, EventFilter::default()).await.expect("reads").len());
    }
    assert_eq!(left, [8, 6, 5, 3, 2, 1], "20 bytes each fit in twos and threes, and 1000 go alone");
    assert!(!store.knows_session(gone.id).await.expect("reads"));
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
    let filter = SessionFilter { agent: Some("hello".to_owned()), status: Some(Status::Active) };
    let all = SessionPage { after: None, limit: 10, offset: 0, bytes: usize::MAX };
    let read = async |page| {
        let rows = store.list_sessions("default", filter.clone(), page).await.expect("lists");
        rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(read(SessionPage { limit: 2, offset: 1, ..all }).await, [ids[3], ids[2]]);
    assert_eq!(read(SessionPage { after: Some((Timestamp(3), ids[3])), ..all }).await, [ids[2], ids[1]]);
    assert_eq!(store.count_sessions("default", filter.clone()).await.expect("counts"), 4);
    store.create_session(SessionRow { tenant: "other".to_owned(), status: Status::Active, ..session() }).await.expect("stores");
    assert_eq!(store.count_active().await.expect("counts"), 5);
    assert_eq!(store.living_sessions().await.expect("lists").len(), 5);
}

#[tokio::test]
async fn a_list_of_sessions_is_bounded_by_bytes_and_has_each_of_them_once() {
    let (_folder, store) = sqlite();
    // Two were made in the same moment.
    for (made, bytes) in [(1, 10), (2, 3000), (2, 10), (3, 10), (4, 800)] {
        let config = SessionConfig { initial_agent: Some("x".repeat(bytes)), ..SessionConfig::default() };
        let system_prompt = Some("x".repeat(100_000));
        let row = SessionRow { config, system_prompt, created_at: Timestamp(made), status: Status::Active, ..session() };
        store.create_session(row).await.expect("stores");
    }
    let (mut after, mut steps, mut found) = (None, Vec::new(), Vec::new());
    loop {
        let page = SessionPage { after, limit: 10, offset: 0, bytes: 1000 };
        let rows = store.list_sessions("default", SessionFilter::default(), page).await.expect("lists");
        let Some(last) = rows.last() else { break };
        after = Some((last.created_at, last.id));
        assert!(rows.iter().all(|row| row.system_prompt.is_none() && row.extra_env == KeptEnv::default()), "no list shows them");
        steps.push(rows.len());
        found.extend(rows.into_iter().map(|row| (row.created_at.0, row.id)));
    }
    assert!(steps.len() > 1 && steps.iter().sum::<usize>() == 5, "{steps:?}");
    let mut sorted = found.clone();
    sorted.sort_by(|a, b| b.cmp(a));
    assert_eq!(found, sorted);
}

#[tokio::test]
async fn what_sandboxes_are_compared_with_is_all_that_is_read_of_living_sessions() {
    let (_folder, store) = sqlite();
    let made = SessionRow { status: Status::Active, ..session() };
    store.create_session(made.clone()).await.expect("stores");
    let up = Advance { sandbox: Some(Some("boot".to_owned())), ..Advance::default() };
    store.advance(made.id, up).await.expect("stores");
    let row = store.get_session("default", made.id).await.expect("reads");
    let living = store.living_sessions().await.expect("reads");
    assert_eq!(living, [row.living()]);
    assert!(living[0].is_up && living[0].sandbox == made.sandbox);
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
        scopes: Scopes::from_iter([Scope::Read, Scope::Run]),
        agent: Some("one".to_owned()),
        expires_at: Some(Timestamp(1)),
        last_used_at: None,
    };
    store.create_key(key.clone()).await.expect("stores");
    assert_eq!(store.find_key([7; 32]).await.expect("reads"), Some(key.clone()));
    assert_eq!(store.find_key([8; 32]).await.expect("reads"), None);
    for (at, noted) in [(100_000, 100_000), (100_001, 100_000), (160_000, 160_000)] {
        store.use_key(key.id, Timestamp(at)).await.expect("notes");
        let used = store.find_key([7; 32]).await.expect("reads").and_then(|key| key.last_used_at);
        assert_eq!(used, Some(Timestamp(noted)), "once a minute");
    }
    assert!(matches!(store.delete_key("b", key.id).await, Err(StoreError::NotFound(_))));
    store.delete_key("a", key.id).await.expect("revokes");
    assert_eq!(store.find_key([7; 32]).await.expect("reads"), None);
}

#[tokio::test]
async fn a_tenant_has_so_many_keys_and_no_more() {
    let (_folder, store) = sqlite();
    let key = |tenant: &str, number: u32| KeyRow {
        id: KeyId::new(),
        tenant: tenant.to_owned(),
        label: String::new(),
        prefix: String::new(),
        hash: std::array::from_fn(|at| number.to_le_bytes()[at % 4]),
        created_at: now(),
        scopes: Scopes::ADMIN,
        agent: None,
        expires_at: None,
        last_used_at: None,
    };
    let made = futures_util::future::join_all((0..=KEYS_MAX).map(|number| store.create_key(key("a", number)))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), KEYS_MAX as usize);
    assert!(matches!(made.last(), Some(Err(StoreError::Conflict(_)))), "{made:?}");
    store.create_key(key("b", KEYS_MAX + 1)).await.expect("another tenant has room");
}

#[tokio::test]
async fn a_tenant_has_so_many_credentials_and_no_more() {
    let (_folder, store) = sqlite();
    let credential = |tenant: &str| CredentialRow {
        id: CredentialId::new(),
        tenant: tenant.to_owned(),
        kind: CredentialType::Custom,
        label: String::new(),
        sealed: Sealed { master: "m".to_owned(), bytes: vec![1] },
        created_at: now(),
        last_used_at: None,
    };
    let made = futures_util::future::join_all((0..=CREDENTIALS_MAX).map(|_| store.create_credential(credential("a")))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), CREDENTIALS_MAX as usize);
    assert!(matches!(made.last(), Some(Err(StoreError::Conflict(_)))), "{made:?}");
    store.create_credential(credential("b")).await.expect("another tenant has room");
    let first = store.list_credentials("a").await.expect("lists")[0].id;
    store.delete_credential("a", first).await.expect("deletes");
    store.create_credential(credential("a")).await.expect("there is room again");
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
    assert_eq!(foreign, Advanced { tail: 0, first: None, is_told: false }, "another session can not end it");
    let once = ended(vec![end(turn, "interrupted"), end(turn, "completed")]);
    let stored = store.advance(mine.id, once).await.expect("stores");
    assert_eq!(stored.tail, queued.tail + 1);
    assert_eq!(store.get_turn(mine.id, turn).await.expect("found").state, TurnState::Interrupted);
    let again = Advance { events: vec![event(Kind::TurnStarted, Some(turn), r#"{"kind":"runtime"}"#)], ..Advance::default() };
    assert!(matches!(store.advance(mine.id, again).await, Err(StoreError::Conflict(_))), "trying again would not help");
}

#[tokio::test]
async fn a_turn_is_found_by_its_key_and_shows_its_bill() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let turn = TurnId::new();
    let mut change = queue(turn);
    let key = TurnKey { key: "k-1".to_owned(), message: [7; 32] };
    change.queued[0].key = Some(key.clone());
    store.advance(made.id, change).await.expect("stores");
    let found = store.find_turn(made.id, "k-1".to_owned()).await.expect("reads").expect("found");
    assert_eq!((found.id, found.message_hash, found.usage), (turn, Some(vec![7; 32]), None));
    assert!(store.find_turn(made.id, "k-2".to_owned()).await.expect("reads").is_none());
    assert!(store.find_turn(SessionId::new(), "k-1".to_owned()).await.expect("reads").is_none(), "keys belong to a session");
    let mut again = queue(TurnId::new());
    again.queued[0].key = Some(key);
    assert!(matches!(store.advance(made.id, again).await, Err(StoreError::Conflict(_))));

    // What was called before any turn was over is on no bill, and spent all the same.
    let early = r#"{"action":"usage","models":{"m":{"inputTokens":100}}}"#;
    store
        .advance(made.id, Advance { events: vec![event(Kind::Lifecycle, None, early)], ..Advance::default() })
        .await
        .expect("stores");
    assert_eq!(store.spent(made.id).await.expect("reads")["m"].tokens(), 100);
    let bill = r#"{"wallMs":5,"cpuMs":null,"toolCalls":1,"models":{"m":{"inputTokens":3}}}"#;
    let data = format!(r#"{{"turnId":"{turn}","state":"completed","usage":{bill}}}"#);
    let events = vec![event(Kind::TurnEnded, Some(turn), &data)];
    store.advance(made.id, Advance { events, ..Advance::default() }).await.expect("stores");
    let usage = store.get_turn(made.id, turn).await.expect("reads").usage.expect("a bill");
    assert_eq!((usage.wall_ms, usage.cpu_ms, usage.models["m"].input_tokens), (5, None, 3));

    // What its sandbox leaves behind is added to it, and not to one that is not over; a fork does not take it over.
    store.advance(made.id, queue(TurnId::new())).await.expect("stores");
    let leftover = r#"{"action":"usage","models":{"m":{"inputTokens":4},"n":{"outputTokens":1}}}"#;
    for data in [leftover, r#"{"action":"snapshot"}"#] {
        let events = vec![event(Kind::Lifecycle, None, data)];
        store.advance(made.id, Advance { events, ..Advance::default() }).await.expect("stores");
    }
    let usage = store.get_turn(made.id, turn).await.expect("reads").usage.expect("a bill");
    assert_eq!((usage.wall_ms, usage.models["m"].input_tokens, usage.models["n"].output_tokens), (5, 7, 1));
    let spent = store.spent(made.id).await.expect("reads");
    assert_eq!(spent.values().map(ModelUsage::tokens).sum::<u64>(), 108);
    let filter = TurnFilter { after: 0, state: Some(TurnState::Completed), limit: 10 };
    assert_eq!(store.turns(made.id, filter.clone()).await.expect("reads").len(), 1);
    let filter = TurnFilter { after: 1, ..filter };
    assert!(store.turns(made.id, filter).await.expect("reads").is_empty(), "after its first event");
}

#[tokio::test]
async fn a_request_for_permission_is_resolved_once() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let (turn, id) = (TurnId::new(), PermissionId::new());
    store.advance(made.id, queue(turn)).await.expect("stores");
    let resolved =
        |by: &str| event(Kind::PermissionResolved, Some(turn), &format!(r#"{{"id":"{id}","behavior":"deny","by":"{by}"}}"#));
    let events = vec![event(Kind::PermissionRequest, Some(turn), &format!(r#"{{"id":"{id}","toolName":"Bash"}}"#))];
    store.advance(made.id, Advance { events, ..Advance::default() }).await.expect("stores");
    let filter = PermissionFilter { after: 0, pending: true, limit: 10, bytes: None };
    let pending = store.permissions(made.id, filter.clone()).await.expect("reads");
    assert_eq!(pending.iter().map(|row| (row.id, row.event, row.turn)).collect::<Vec<_>>(), [(id, 3, Some(turn))]);
    let events = vec![resolved("timeout"), resolved("caller")];
    let advanced = store.advance(made.id, Advance { events, ..Advance::default() }).await.expect("stores");
    assert_eq!(advanced.tail, 4, "the second comes too late");
    assert!(store.permissions(made.id, filter).await.expect("reads").is_empty());
    let row = store.get_permission(made.id, id).await.expect("reads");
    assert!(row.resolved.is_some_and(|resolved| resolved.contains("timeout")));
    assert!(matches!(store.get_permission(SessionId::new(), id).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn deltas_of_turns_that_are_over_go_and_ids_stay() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let (over, runs) = (TurnId::new(), TurnId::new());
    for turn in [over, runs] {
        let mut change = queue(turn);
        change.events.extend((0..10).map(|_| event(Kind::TextDelta, Some(turn), r#"{"delta":"x"}"#)));
        change.events.push(event(Kind::Text, Some(turn), r#"{"text":"xxxxxxxxxx"}"#));
        store.advance(made.id, change).await.expect("stores");
    }
    store.advance(made.id, Advance { events: vec![end(over, "completed")], ..Advance::default() }).await.expect("stores");
    let later = Timestamp(now().millis() + 1000);
    assert_eq!(store.compact(Timestamp(0), 100).await.expect("works"), (0, false), "it is not over for long enough");
    assert_eq!(store.compact(later, 4).await.expect("works"), (4, true));
    assert_eq!(store.compact(later, 100).await.expect("works"), (6, false));
    assert_eq!(store.compact(later, 100).await.expect("works"), (0, false));
    let left = store.events(made.id, 5, 100, EventFilter::default()).await.expect("reads");
    let of_over: Vec<_> = left.iter().filter(|event| event.turn == Some(over)).map(|event| event.id).collect();
    assert_eq!(of_over, [13, 27], "a cursor within the deltas goes on behind them");
    assert_eq!(left.iter().filter(|event| event.kind.is_partial()).count(), 10, "the turn that runs keeps its own");
}

#[tokio::test]
async fn a_look_for_deltas_is_bounded_also_where_turns_have_none() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    for _ in 0..20 {
        let turn = TurnId::new();
        let mut change = queue(turn);
        change.events.push(end(turn, "completed"));
        store.advance(made.id, change).await.expect("stores");
    }
    let later = Timestamp(now().millis() + 1000);
    assert_eq!(store.compact(later, 100).await.expect("works"), (0, true), "others may write in between");
    assert_eq!(store.compact(later, 1000).await.expect("works"), (0, false));
}

#[tokio::test]
async fn what_is_known_of_the_sandbox_reads_back() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let incarnation = Uuid::now_v7();
    let shim = Some(ShimBatch { incarnation, first: 1, events: vec![event(Kind::Lifecycle, None, "{}")] });
    let change = Advance {
        shim,
        granted: Some(vec!["Bash(ls)".to_owned()]),
        sandbox: Some(Some("boot".to_owned())),
        ..Advance::default()
    };
    store.advance(made.id, change).await.expect("stores");
    let row = store.get_session("default", made.id).await.expect("reads");
    assert_eq!(
        (row.heard, row.granted, row.sandbox_boot.as_deref()),
        (Some((incarnation, 1)), vec!["Bash(ls)".to_owned()], Some("boot"))
    );
    store.advance(made.id, Advance { sandbox: Some(None), ..Advance::default() }).await.expect("stores");
    assert_eq!(store.get_session("default", made.id).await.expect("reads").sandbox_boot, None);
}

#[tokio::test]
async fn events_that_are_gone_can_be_passed_over() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let incarnation = Uuid::now_v7();
    let batch = |first| Some(ShimBatch { incarnation, first, events: vec![event(Kind::Text, None, r#"{"text":"a"}"#)] });
    store.advance(made.id, Advance { shim: batch(1), ..Advance::default() }).await.expect("stores");
    let skip = |through| Advance { skipped: Some((incarnation, through)), ..Advance::default() };
    store.advance(made.id, skip(4)).await.expect("stores");
    store.advance(made.id, skip(3)).await.expect("goes no step back");
    assert_eq!(store.get_session("default", made.id).await.expect("reads").heard, Some((incarnation, 4)));
    let tail = store.advance(made.id, Advance { shim: batch(5), ..Advance::default() }).await.expect("goes on").tail;
    assert_eq!(tail, 2, "ids of the log have no gap");
}

#[tokio::test]
async fn a_database_knows_its_name_and_who_is_missing() {
    let (folder, store) = sqlite();
    let first = store.census().await.expect("reads");
    assert_eq!(first.sessions, 0);
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let strange = SessionId::new();
    assert_eq!(store.missing_sessions(vec![made.id, strange]).await.expect("reads"), [strange]);
    drop(store);
    let again = Sqlite::open(&folder.path().join("ash.db")).expect("opens").census().await.expect("reads");
    assert_eq!(again, Census { sessions: 1, ..first.clone() });
    let (_folder, other) = sqlite();
    assert_ne!(other.census().await.expect("reads").identity, first.identity);
}

#[tokio::test]
async fn a_file_that_is_deleted_or_replaced_is_noticed() {
    let (folder, store) = sqlite();
    let (path, away) = (folder.path().join("ash.db"), folder.path().join("away"));
    store.check().await.expect("works");
    std::fs::rename(&path, &away).expect("moves");
    let deleted = store.check().await.expect_err("is gone").to_string();
    assert!(deleted.contains("ash.db was deleted while it is open"), "{deleted}");
    std::fs::write(&path, "").expect("writes");
    let replaced = store.misplaced().expect("is another");
    assert!(replaced.contains("was replaced by another file"), "{replaced}");
    std::fs::rename(&away, &path).expect("moves");
    store.check().await.expect("is back");
}
