//! What was billed.

use super::*;
use crate::store::usage::{BillFilter, BillGroup, Tally};
use crate::wire::analytics::UsageStats;

/// Ends a turn with a bill of this many tokens, read and written, and a price.
async fn turn(store: &Arc<dyn Store>, session: SessionId, at: i64, tokens: (u64, u64), cost: Option<f64>) -> TurnId {
    let turn = TurnId::new();
    store.advance(session, queue(turn)).await.expect("stores");
    let models = serde_json::json!({"m": {"calls": 1, "inputTokens": tokens.0, "outputTokens": tokens.1, "cacheReadTokens": 3,
        "cacheWriteTokens": 4, "cacheWrite1hTokens": 5}});
    let usage = serde_json::json!({"wallMs": 9, "cpuMs": 1500, "toolCalls": 2, "models": models, "costUsd": cost});
    let data = serde_json::json!({"turnId": turn, "state": "completed", "usage": usage}).to_string();
    let end = NewEvent { at: Timestamp(at), turn: Some(turn), kind: Kind::TurnEnded, data };
    // What comes twice is billed once.
    store.advance(session, Advance { events: vec![end.clone(), end], ..Advance::default() }).await.expect("stores");
    turn
}

fn sums(turns: u64, input: u64, output: u64, cost: f64) -> UsageStats {
    UsageStats {
        total_input_tokens: input,
        total_output_tokens: output,
        total_cache_creation_tokens: 9 * turns,
        total_cache_read_tokens: 3 * turns,
        total_tool_calls: 2 * turns,
        total_messages: turns,
        total_compute_seconds: 1.5 * turns as f64,
        total_cost_usd: cost,
        total_unpriced: 0,
    }
}

#[tokio::test]
async fn turns_are_billed_once_and_bills_are_filtered_and_summed_up() {
    let (_folder, store) = sqlite();
    let (first, second) = (session(), SessionRow { agent: "other".to_owned(), ..session() });
    let foreign = SessionRow { tenant: "foreign".to_owned(), ..session() };
    for row in [&first, &second, &foreign] {
        store.create_session(row.clone()).await.expect("stores");
    }
    turn(&store, first.id, 1000, (10, 1), Some(0.25)).await;
    turn(&store, second.id, 2000, (20, 2), Some(0.5)).await;
    turn(&store, first.id, 3000, (30, 3), Some(0.25)).await;
    turn(&store, foreign.id, 2000, (1000, 1000), Some(9.0)).await;
    let cancelled = TurnId::new();
    let mut queued = queue(cancelled);
    queued.events.truncate(1);
    store.advance(first.id, queued).await.expect("stores");
    let ended = vec![end(cancelled, "cancelled")];
    store.advance(first.id, Advance { events: ended, ..Advance::default() }).await.expect("stores");

    let all = BillFilter::default();
    let bills = store.bills("default", all.clone(), 10).await.expect("reads");
    let seen: Vec<_> = bills.iter().map(|bill| (bill.at.millis(), bill.session, bill.stats.total_input_tokens)).collect();
    assert_eq!(seen, [(3000, first.id, 30), (2000, second.id, 20), (1000, first.id, 10)], "what was not begun costs nothing");
    assert_eq!(store.bills("default", all.clone(), 1).await.expect("reads"), bills[..1]);
    assert_eq!(store.billed("default", all.clone()).await.expect("sums"), sums(3, 60, 6, 1.0));
    let of_session = BillFilter { session: Some(first.id), ..all.clone() };
    let of_agent = BillFilter { agent: Some("other".to_owned()), ..all.clone() };
    let of_time = BillFilter { after: Some(Timestamp(1000)), before: Some(Timestamp(2000)), ..all.clone() };
    let early = BillFilter { before: Some(Timestamp(999)), ..of_session.clone() };
    for (filter, wanted) in [
        (of_session, sums(2, 40, 4, 0.5)),
        (of_agent, sums(1, 20, 2, 0.5)),
        (of_time, sums(2, 30, 3, 0.75)),
        (early, UsageStats::default()),
        (BillFilter { session: Some(foreign.id), ..all.clone() }, UsageStats::default()),
    ] {
        assert_eq!(store.billed("default", filter.clone()).await.expect("sums"), wanted, "{filter:?}");
    }
    let groups = store.billed_by("default", all.clone(), BillGroup::Agent, 10).await.expect("sums");
    let seen: Vec<_> = groups.iter().map(|group| (group.agent_name.as_str(), group.session_id, group.stats)).collect();
    assert_eq!(seen, [("hello", None, sums(2, 40, 4, 0.5)), ("other", None, sums(1, 20, 2, 0.5))]);
    let groups = store.billed_by("default", all, BillGroup::Session, 1).await.expect("sums");
    assert_eq!((groups.len(), groups[0].session_id), (1, Some(first.id)));
}

#[tokio::test]
async fn what_a_sandbox_took_behind_its_last_turn_is_billed_and_no_price_is_no_guess() {
    let (_folder, store) = sqlite();
    let made = session();
    store.create_session(made.clone()).await.expect("stores");
    let leftover = || {
        let data = r#"{"action":"usage","models":{"m":{"calls":1,"inputTokens":7}},"costUsd":null}"#;
        Advance { events: vec![event(Kind::Lifecycle, None, data)], ..Advance::default() }
    };
    store.advance(made.id, leftover()).await.expect("before any turn is over");
    turn(&store, made.id, 1000, (10, 1), Some(0.25)).await;
    store.advance(made.id, leftover()).await.expect("behind a turn");
    let billed = store.billed("default", BillFilter::default()).await.expect("sums");
    assert_eq!(billed, UsageStats { total_unpriced: 2, ..sums(1, 24, 1, 0.25) });
    let spent: u64 = store.spent(made.id).await.expect("reads").values().map(|model| model.tokens()).sum();
    let tokens = billed.total_input_tokens + billed.total_output_tokens;
    assert_eq!(spent, tokens + billed.total_cache_creation_tokens + billed.total_cache_read_tokens, "the session says the same");
}

#[tokio::test]
async fn bills_outlive_their_session_and_what_is_there_is_counted() {
    let (_folder, store) = sqlite();
    store.deploy_agent("default", "hello", "sha256:00", None).await.expect("deploys");
    let (ended, active) = (SessionRow { status: Status::Ended, ..session() }, SessionRow { status: Status::Active, ..session() });
    for row in [&ended, &active] {
        store.create_session(row.clone()).await.expect("stores");
    }
    turn(&store, ended.id, 1000, (10, 1), None).await;
    let tally = store.tally("default").await.expect("counts");
    assert_eq!(tally, Tally { agents: 1, sessions: vec![(Status::Active, 1), (Status::Ended, 1)] });
    assert_eq!(store.tally("other").await.expect("counts"), Tally::default());

    store.disown_session(ended.id).await.expect("takes it away");
    while store.remove_session(ended.id, 1, 1000).await.expect("removes") {}
    let billed = store.billed("default", BillFilter { session: Some(ended.id), ..BillFilter::default() }).await.expect("sums");
    assert_eq!(billed, UsageStats { total_unpriced: 1, ..sums(1, 10, 1, 0.0) });
    assert_eq!(store.tally("default").await.expect("counts").sessions, [(Status::Active, 1)]);
}
