//! Evals.

use super::*;
use crate::store::eval::{Answered, Asked, CaseFilter, CaseRoom, Frozen, HumanScore, Judged, NewRun, ResultRow, RunRow, Started};
use crate::wire::eval::{CaseContent, ChangeEvalCase, ChatMessage, ChatRole, EvalSummary, ResultStatus, RunStatus};
use crate::wire::{EvalCaseId, EvalRunId};

const ROOM: CaseRoom = CaseRoom { cases: 10, bytes: 10_000 };

fn content(question: &str, category: &str, tags: &[&str]) -> CaseContent {
    CaseContent {
        question: question.to_owned(),
        category: Some(category.to_owned()),
        tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()),
        chat_history: Some(vec![ChatMessage { role: ChatRole::User, content: "before".to_owned() }]),
        ..CaseContent::default()
    }
}

/// A database in which tenants `a` and `b` have an agent `hello`, and the first two cases.
async fn world() -> (tempfile::TempDir, Arc<dyn Store>) {
    let (folder, store) = sqlite();
    for tenant in ["a", "b"] {
        store.deploy_agent(tenant, "hello", "sha256:00", None).await.expect("deploys");
    }
    let cases = vec![
        (EvalCaseId::new(), content("one", "c", &["x", "y"]), true),
        (EvalCaseId::new(), content("two", "d", &["y"]), true),
        (EvalCaseId::new(), content("off", "c", &["x"]), false),
    ];
    assert_eq!(store.add_cases("a", "hello", cases, ROOM, Timestamp(1)).await.expect("stores").map(|made| made.len()), Some(3));
    (folder, store)
}

fn frozen(digest: &str) -> Frozen {
    Frozen { digest: digest.to_owned(), version: Some(3), prompt: Some("p".to_owned()) }
}

fn new_run(judge: bool) -> NewRun {
    NewRun {
        id: EvalRunId::new(),
        tenant: "a".to_owned(),
        agent: "hello".to_owned(),
        frozen: frozen("sha256:01"),
        judge: judge.then(|| ("judge".to_owned(), frozen("sha256:02"))),
        concurrency: 2,
        threshold: 0.5,
        categories: None,
        tags: None,
        room: 2,
        at: Timestamp(5),
    }
}

async fn start(store: &Arc<dyn Store>, run: NewRun) -> RunRow {
    match store.start_run(run).await.expect("works") {
        Started::Run(run) => *run,
        other => panic!("{other:?}"),
    }
}

async fn claim(store: &Arc<dyn Store>, run: &RunRow, session: SessionId) -> ResultRow {
    store.claim_result(run.place, session, Timestamp(10)).await.expect("works").expect("one waits")
}

fn answered(judge_session: Option<SessionId>) -> Asked {
    Asked::Answered(Answered {
        response: Some("r".to_owned()),
        is_cut: false,
        topic_score: 1.0,
        safety_score: 0.5,
        latency_ms: Some(7),
        passed: true,
        judge_session,
    })
}

async fn leaves(store: &Arc<dyn Store>) -> Vec<SessionId> {
    store.eval_leaves().await.expect("reads").into_iter().map(|(session, _)| session).collect()
}

#[tokio::test]
async fn cases_are_kept_within_their_room_and_seen_by_their_tenant() {
    let (_folder, store) = world().await;
    let listed = |filter: CaseFilter, after, limit, bytes| {
        let store = store.clone();
        async move {
            let found = store.cases("a", "hello", filter, after, limit, bytes).await.expect("reads");
            found.into_iter().map(|case| case.content.question).collect::<Vec<_>>()
        }
    };
    let all = CaseFilter::default;
    assert_eq!(listed(all(), 0, 10, 10_000).await, ["one", "two", "off"]);
    assert_eq!(listed(all(), 1, 1, 10_000).await, ["two"]);
    assert_eq!(listed(all(), 0, 10, 1).await, ["one"], "one in any case");
    assert_eq!(listed(CaseFilter { category: Some("c".to_owned()), is_active: None }, 0, 10, 10_000).await, ["one", "off"]);
    assert_eq!(listed(CaseFilter { category: None, is_active: Some(false) }, 0, 10, 10_000).await, ["off"]);
    let first = store.cases("a", "hello", all(), 0, 1, 1).await.expect("reads").remove(0);
    assert_eq!(store.get_case("a", "hello", first.id).await.expect("found"), first);
    assert!(matches!(store.get_case("b", "hello", first.id).await, Err(StoreError::NotFound("eval case"))));
    assert!(matches!(store.get_case("a", "nobody", first.id).await, Err(StoreError::NotFound("agent"))));

    let change = ChangeEvalCase { category: Some(None), question: Some("new".to_owned()), ..ChangeEvalCase::default() };
    let small = CaseRoom { cases: 10, bytes: 10 };
    let refused = store.change_case("a", "hello", first.id, change.clone(), small, Timestamp(2)).await.expect("works");
    assert_eq!(
        (refused, store.get_case("a", "hello", first.id).await.expect("found").content.question),
        (None, "one".to_owned())
    );
    let changed = store.change_case("a", "hello", first.id, change, ROOM, Timestamp(2)).await.expect("works").expect("fits");
    let seen = (changed.content.question.as_str(), changed.content.category, changed.content.tags.map(|tags| tags.len()));
    assert_eq!((seen, changed.updated_at), (("new", None, Some(2)), Timestamp(2)));
    assert_eq!(listed(CaseFilter { category: Some("c".to_owned()), is_active: None }, 0, 10, 10_000).await, ["off"]);

    let more = || (EvalCaseId::new(), content("more", "c", &[]), true);
    let full = CaseRoom { cases: 4, ..ROOM };
    assert!(store.add_cases("a", "hello", vec![more(), more()], full, now()).await.expect("works").is_none(), "all or none");
    assert_eq!(listed(all(), 0, 10, 10_000).await.len(), 3);
    assert!(store.add_cases("a", "hello", vec![more()], full, now()).await.expect("works").is_some());
    assert!(store.add_cases("b", "hello", vec![more()], full, now()).await.expect("works").is_some(), "each agent has its own");
    assert!(matches!(store.delete_case("b", "hello", first.id).await, Err(StoreError::NotFound(_))));
    store.delete_case("a", "hello", first.id).await.expect("deletes");
    assert!(matches!(store.delete_case("a", "hello", first.id).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn a_run_has_a_copy_of_the_active_cases_that_it_is_of() {
    let (_folder, store) = world().await;
    let list = |text: &str| Some(vec![text.to_owned()]);
    assert_eq!(store.start_run(NewRun { tags: list("z"), ..new_run(false) }).await.expect("works"), Started::NoCase);
    let of_c = start(&store, NewRun { categories: list("c"), ..new_run(false) }).await;
    assert_eq!((of_c.total, of_c.over, of_c.status), (1, 0, RunStatus::Pending));
    let of_y = start(&store, NewRun { tags: list("y"), ..new_run(true) }).await;
    assert_eq!(of_y.total, 2);
    assert_eq!(store.start_run(new_run(false)).await.expect("works"), Started::Full);
    assert_eq!(store.run_frozen(of_c.place).await.expect("reads"), (frozen("sha256:01"), None));
    assert_eq!(store.run_frozen(of_y.place).await.expect("reads"), (frozen("sha256:01"), Some(frozen("sha256:02"))));
    assert!(matches!(store.get_run("b", "hello", of_c.id).await, Err(StoreError::NotFound("eval run"))));
    let runs = store.runs("a", "hello", i64::MAX, 10).await.expect("reads");
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [of_y.id, of_c.id]);
    assert_eq!(store.runs("a", "hello", of_y.place, 10).await.expect("reads").len(), 1);
    for digest in ["sha256:01", "sha256:02"] {
        assert!(store.version_in_use(digest).await.expect("reads"), "it is still asked");
        assert!(store.uses().await.expect("reads").current.contains(&digest.to_owned()));
    }

    let case = store.cases("a", "hello", CaseFilter::default(), 0, 1, 1).await.expect("reads").remove(0);
    store.delete_case("a", "hello", case.id).await.expect("deletes");
    let session = SessionId::new();
    let result = claim(&store, &of_c, session).await;
    assert_eq!((result.case, &result.content, result.session), (case.id, &case.content, Some(session)));
    assert_eq!(store.history_of(session).await.expect("reads"), case.content.chat_history);
    assert_eq!(store.history_of(SessionId::new()).await.expect("reads"), None);
    assert!(store.claim_result(of_c.place, SessionId::new(), now()).await.expect("works").is_none(), "once");
    let heads = store.run_heads().await.expect("reads");
    assert_eq!(heads.iter().map(|head| (head.place, head.running, head.concurrency)).collect::<Vec<_>>(), [(of_y.place, 0, 2)]);
    assert_eq!(store.count_runs("a").await.expect("counts"), [(RunStatus::Pending, 1), (RunStatus::Running, 1)]);
    assert_eq!(store.count_runs("b").await.expect("counts"), []);
}

#[tokio::test]
async fn a_case_is_over_once_and_its_sessions_are_to_be_ended() {
    let (_folder, store) = world().await;
    let run = start(&store, new_run(true)).await;
    let [first, second, judge, turn] = [(); 4].map(|()| SessionId::new());
    let turn = TurnId::from_uuid(turn.as_uuid());
    let result = claim(&store, &run, first).await;
    store.result_posted(result.id, turn).await.expect("stores");
    let running = store.running_results().await.expect("reads");
    assert_eq!((running.len(), running[0].turn), (1, Some(turn)));

    store.result_asked(result.id, Asked::Again("crash".to_owned()), Some(0.25), Timestamp(11)).await.expect("stores");
    assert_eq!(leaves(&store).await, [first]);
    store.result_asked(result.id, Asked::Error("late".to_owned()), None, Timestamp(11)).await.expect("works");
    let again = claim(&store, &run, second).await;
    assert_eq!((again.id, again.tries, again.turn, again.started_at), (result.id, 1, None, Some(Timestamp(10))));
    store.result_asked(result.id, answered(Some(judge)), Some(0.5), Timestamp(12)).await.expect("stores");
    let current = store.get_result("a", "hello", result.id).await.expect("found");
    assert_eq!((current.status, current.judge_session, current.passed), (ResultStatus::Running, Some(judge), None));
    store.result_asked(result.id, answered(None), Some(9.0), Timestamp(13)).await.expect("works");
    assert_eq!(leaves(&store).await, [first, second]);
    let judged = Judged { given: Ok((0.9, Some("good".to_owned()))), passed: true, cost_usd: Some(0.25), at: Timestamp(14) };
    store.result_judged(result.id, judged.clone()).await.expect("stores");
    store.result_judged(result.id, Judged { passed: false, ..judged }).await.expect("works");
    let done = store.get_result("a", "hello", result.id).await.expect("found");
    assert_eq!((done.status, done.passed, done.judge_score), (ResultStatus::Completed, Some(true), Some(0.9)));
    assert_eq!((done.cost_usd, done.completed_at, done.error), (Some(1.0), Some(Timestamp(14)), None));
    let mut left = [first, second, judge];
    left.sort_unstable();
    assert_eq!(leaves(&store).await, left);
    for session in left {
        store.eval_left(session).await.expect("stores");
    }
    assert!(leaves(&store).await.is_empty());

    let summary = EvalSummary { pass_rate: 0.5, ..EvalSummary::default() };
    let finish = |status| store.finish_run(run.place, status, summary, Timestamp(20));
    assert!(!finish(RunStatus::Completed).await.expect("works"), "a case is not over");
    assert!(store.finished_runs().await.expect("reads").is_empty());
    let other = claim(&store, &run, SessionId::new()).await;
    store.result_asked(other.id, Asked::Error("why".to_owned()), None, Timestamp(15)).await.expect("stores");
    assert_eq!(store.finished_runs().await.expect("reads").len(), 1);
    let scores = store.scores(run.place).await.expect("reads");
    let seen: Vec<_> = scores.iter().map(|row| (row.is_answered, row.passed, row.judge, row.cost_usd)).collect();
    assert_eq!(seen, [(true, true, Some(0.9), Some(1.0)), (false, false, None, None)]);
    assert!(finish(RunStatus::Completed).await.expect("works"));
    assert!(!finish(RunStatus::Failed).await.expect("works"), "once");
    let over = store.get_run("a", "hello", run.id).await.expect("found");
    assert_eq!((over.status, over.summary, over.over), (RunStatus::Completed, Some(summary), 2));
    assert!(!store.version_in_use("sha256:01").await.expect("reads"));

    let scored = HumanScore { score: Some(Some(4)), notes: Some(Some("n".to_owned())) };
    assert_eq!(store.score_results(run.place, None, scored).await.expect("stores"), 2);
    let one = HumanScore { score: Some(None), notes: None };
    assert_eq!(store.score_results(run.place, Some(other.id), one.clone()).await.expect("stores"), 1);
    assert_eq!(store.score_results(run.place + 1, Some(other.id), one).await.expect("works"), 0);
    let results = store.results(run.place, 0, 10, 10_000).await.expect("reads");
    let given: Vec<_> = results.iter().map(|result| (result.human_score, result.human_notes.as_deref())).collect();
    assert_eq!(given, [(Some(4), Some("n")), (None, Some("n"))]);
    assert_eq!(store.results(run.place, 0, 10, 1).await.expect("reads").len(), 1);

    assert_eq!(store.forget_runs(Timestamp(20), 10).await.expect("works"), 0);
    assert_eq!(store.forget_runs(Timestamp(21), 10).await.expect("works"), 1);
    assert_eq!(store.forget_runs(Timestamp(21), 10).await.expect("works"), 0, "once");
    assert!(matches!(store.get_run("a", "hello", run.id).await, Err(StoreError::NotFound("eval run"))), "it is nobody's");
    assert_eq!(store.remove_results(1).await.expect("works"), 1, "in parts");
    assert_eq!(store.results(run.place, 0, 10, 10_000).await.expect("reads").len(), 1);
    assert_eq!(store.remove_results(10).await.expect("works"), 1);
    assert!(matches!(store.run_frozen(run.place).await, Err(StoreError::NotFound("eval run"))), "nothing is left");
    assert!(store.results(run.place, 0, 10, 10_000).await.expect("reads").is_empty());
}

#[tokio::test]
async fn a_run_that_is_cancelled_tries_nothing_again_and_an_agent_takes_its_evals_along() {
    let (_folder, store) = world().await;
    let run = start(&store, new_run(false)).await;
    let session = SessionId::new();
    let result = claim(&store, &run, session).await;
    assert!(matches!(store.cancel_run("b", "hello", run.id, "x", now()).await, Err(StoreError::NotFound(_))));
    assert!(!store.is_result_cancelled(result.id).await.expect("reads"));
    let (cancelled, is_changed, running) = store.cancel_run("a", "hello", run.id, "x", Timestamp(20)).await.expect("works");
    assert_eq!((cancelled.is_cancelling, is_changed, running.len(), cancelled.over), (true, true, 1, 1));
    assert!(store.is_result_cancelled(result.id).await.expect("reads"));
    store.result_asked(result.id, Asked::Again("crash".to_owned()), Some(0.0), Timestamp(21)).await.expect("stores");
    let results = store.results(run.place, 0, 10, 10_000).await.expect("reads");
    let seen: Vec<_> = results.iter().map(|result| (result.status, result.error.as_deref(), result.passed)).collect();
    assert_eq!(seen, [(ResultStatus::Error, Some("crash"), Some(false)), (ResultStatus::Error, Some("x"), Some(false))]);
    assert!(store.finish_run(run.place, RunStatus::Cancelled, EvalSummary::default(), now()).await.expect("works"));
    assert!(!store.cancel_run("a", "hello", run.id, "x", now()).await.expect("works").1, "it is over");
    assert!(store.open_runs("a", "hello").await.expect("reads").is_empty());

    let open = start(&store, new_run(false)).await;
    assert_eq!(store.open_runs("a", "hello").await.expect("reads"), [open.id]);
    let asked = SessionId::new();
    let result = claim(&store, &open, asked).await;
    store.eval_left(session).await.expect("stores");
    store.delete_agent("a", "hello").await.expect("deletes");
    assert_eq!(leaves(&store).await, [asked]);
    assert!(matches!(store.is_result_cancelled(result.id).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.get_run("a", "hello", open.id).await, Err(StoreError::NotFound("agent"))));
    assert!(store.running_results().await.expect("reads").is_empty() && store.run_heads().await.expect("reads").is_empty());
    assert!(store.finished_runs().await.expect("reads").is_empty() && !store.version_in_use("sha256:01").await.expect("reads"));
    assert_eq!(store.remove_results(10).await.expect("works"), 4, "of both runs");
    store.deploy_agent("a", "hello", "sha256:00", None).await.expect("deploys");
    assert!(store.runs("a", "hello", i64::MAX, 10).await.expect("reads").is_empty());
    assert!(store.cases("a", "hello", CaseFilter::default(), 0, 10, 10).await.expect("reads").is_empty());
}
