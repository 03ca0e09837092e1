//! What earlier releases wrote, and how the database finds things.

use super::*;
use crate::store::TurnState;

/// The rows of a session that runs, one that has ended, and a turn that is over, as the first
/// release wrote them.
const FIRST: &str = r#"
    insert into sessions (id, tenant, agent, digest, status, sandbox, extra_env, config, conversed, tail, messages,
        incarnation, stored_through, created_at, last_active_at)
    select id, 'default', 'a', 'd', status, id, '{}', '{}', 1, 4, 1, '01980000-0000-7000-8000-00000000000c', 7, 1, 2
    from (select '01980000-0000-7000-8000-000000000001' as id, 'active' as status
        union all select '01980000-0000-7000-8000-000000000002', 'ended');
    insert into turns values ('01980000-0000-7000-8000-00000000000a', '01980000-0000-7000-8000-000000000001',
        'completed', 'user', '"hello"', '{}', null, 1, 4, 1, 1, 2);
    insert into events values
        ('01980000-0000-7000-8000-000000000001', 1, '01980000-0000-7000-8000-00000000000a', 'turn_queued', 1, '{}'),
        ('01980000-0000-7000-8000-000000000001', 2, '01980000-0000-7000-8000-00000000000a', 'turn_started', 1,
            '{"kind":"user","content":"hello"}'),
        ('01980000-0000-7000-8000-000000000001', 3, '01980000-0000-7000-8000-00000000000a', 'text_delta', 1, '{"delta":"x"}'),
        ('01980000-0000-7000-8000-000000000001', 4, '01980000-0000-7000-8000-00000000000a', 'turn_ended', 2, '{}');
    insert into messages values ('01980000-0000-7000-8000-000000000001', 1, 2, 'user');
"#;

#[tokio::test]
async fn what_the_first_release_wrote_is_read() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("ash.db");
    let mut connection = Connection::open(&path).expect("opens");
    prepare(&connection).expect("prepares");
    let first = migrations::migrations::runner().set_target(refinery::Target::Version(1));
    first.run(&mut connection).expect("makes the first schema");
    connection.execute_batch(FIRST).expect("writes");
    drop(connection);

    // Also when it is opened once more.
    drop(Sqlite::open(&path).expect("brings it up to date"));
    let store = Sqlite::open(&path).expect("opens");
    let (runs, over) = ("01980000-0000-7000-8000-000000000001", "01980000-0000-7000-8000-000000000002");
    let [runs, over]: [SessionId; 2] = [runs, over].map(|id| id.parse().expect("an id"));
    let row = store.get_session("default", runs).await.expect("reads");
    assert_eq!((row.tail, row.conversed, row.heard.map(|(_, through)| through)), (4, true, Some(7)));
    assert_eq!((row.granted, row.sandbox_boot.as_deref()), (Vec::new(), Some("")), "whether it has a sandbox is not known");
    assert_eq!(store.get_session("default", over).await.expect("reads").sandbox_boot, None);
    let turn = "01980000-0000-7000-8000-00000000000a".parse().expect("an id");
    let turn = store.get_turn(runs, turn).await.expect("reads");
    assert_eq!((turn.state, turn.usage, turn.idempotency_key), (TurnState::Completed, None, None));
    assert_eq!(store.messages(runs, 0, 10, usize::MAX).await.expect("reads").len(), 1);
    assert_eq!(store.compact(Timestamp(3), 100).await.expect("works"), (1, false));
    let left = store.events(runs, 0, 10, EventFilter::default()).await.expect("reads");
    assert_eq!(left.iter().map(|event| event.id).collect::<Vec<_>>(), [1, 2, 4]);
}

#[test]
fn a_page_of_sessions_is_sought_and_not_read_up_to() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("ash.db");
    drop(Sqlite::open(&path).expect("opens"));
    let connection = Connection::open(&path).expect("opens");
    let plan = |page: &str| -> String {
        let text = format!("explain query plan select id from sessions where {}{page}", sql::SESSION_MATCHES);
        let mut statement = connection.prepare(&text).expect("prepares");
        let none = vec![rusqlite::types::Null; statement.parameter_count()];
        let steps = statement.query_map(rusqlite::params_from_iter(none), |row| row.get::<_, String>(3)).expect("asks");
        steps.map(|step| step.expect("a step")).collect::<Vec<_>>().join("; ")
    };
    let (first, after) = (plan(sql::SESSION_PAGE), plan(sql::SESSION_PAGE_AFTER));
    assert!(after.contains("sessions_by_tenant") && after.contains("created_at"), "{after}");
    assert!(
        [&first, &after].iter().all(|plan| !plan.contains("TEMP B-TREE") && !plan.contains("SCAN sessions")),
        "{first} / {after}"
    );
}
