//! Requests for permission, with the real runtime and the scripted model.

use std::time::{Duration, Instant};

use ash::link::shim::{Ask, EndState, SessionOptions, Setup, ShimEvent, ToShim};
use ash::wire::event::Kind;
use ash::wire::message::TurnOptions;
use ash::wire::permission::{Behavior, PermissionKind, PermissionRequest, PermissionResolved, Resolver, Scope};
use ash::wire::{PermissionId, TurnId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{Daemon, Host, Model, Shim, children, only_process, until};

macro_rules! host_or_skip {
    () => {
        match Host::with_claude() {
            Some(host) => host,
            None => return,
        }
    };
}

/// Somebody can be asked, and never stops thinking.
const PATIENT: Ask = Ask { timeout_ms: None, on_timeout: Behavior::Deny };

fn options(ask: Ask) -> SessionOptions {
    SessionOptions { permission_mode: "default".to_owned(), ask: Some(ask), ..SessionOptions::default() }
}

/// A connection to a shim whose session asks.
async fn asking(shim: &Shim, host: &Host, model: &Model, ask: Ask) -> Daemon {
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    daemon.open(host).await.expect("opened");
    daemon.setup(Setup { options: options(ask), ..host.setup(&model.url) }).await.expect("set up");
    daemon
}

/// Begins a turn and waits for what it asks.
async fn ask(daemon: &mut Daemon, text: &str) -> (TurnId, PermissionRequest) {
    let turn = daemon.begin(text).await;
    (turn, asked(daemon, turn).await)
}

async fn asked(daemon: &mut Daemon, turn: TurnId) -> PermissionRequest {
    let event = daemon.event("a request", |event| event.turn == Some(turn) && event.kind == Kind::PermissionRequest).await;
    serde_json::from_str(event.data.get()).expect("a request")
}

async fn resolved(daemon: &mut Daemon, id: PermissionId) -> PermissionResolved {
    let is_it = format!("\"id\":\"{id}\"");
    let event = daemon
        .event("what came of a request", |event| event.kind == Kind::PermissionResolved && event.data.get().contains(&is_it))
        .await;
    serde_json::from_str(event.data.get()).expect("what came of it")
}

/// Names of the last events of a turn.
fn tail(daemon: &Daemon, turn: TurnId, n: usize) -> Vec<String> {
    let kinds: Vec<_> =
        daemon.events.iter().filter(|event| event.turn == Some(turn)).map(|event| event.kind.to_string()).collect();
    kinds[kinds.len() - n..].to_vec()
}

#[tokio::test]
async fn a_tool_waits_for_its_answer() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = asking(&shim, &host, &model, PATIENT).await;

    let (turn, request) = ask(&mut daemon, "bash: touch a.txt").await;
    assert_eq!((request.kind, request.turn_id, request.tool_name.as_str()), (PermissionKind::Tool, Some(turn), "Bash"));
    assert_eq!(request.rules, ["Bash(touch a.txt)"]);
    assert!(!host.path("state/workspace/a.txt").exists());
    let error = daemon.permit(request.id, json!({"behavior": "allow", "answers": {"x": "y"}})).await.expect_err("no sense");
    assert_eq!(error, "answers: no question was asked");
    daemon.permit(request.id, json!({"behavior": "allow"})).await.expect("taken");
    let late = daemon.permit(request.id, json!({"behavior": "deny"})).await.expect_err("answered");
    assert_eq!(late, "nothing of this name waits for an answer");
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
    assert!(host.path("state/workspace/a.txt").exists());
    assert_eq!(
        daemon.data(turn, &Kind::PermissionResolved),
        [json!({"id": request.id, "behavior": "allow", "scope": "once", "by": "caller"})]
    );

    let (turn, request) = ask(&mut daemon, "bash: touch b.txt").await;
    daemon.permit(request.id, json!({"behavior": "allow", "updatedInput": {"command": "touch c.txt"}})).await.expect("taken");
    daemon.end(turn).await;
    assert!(host.path("state/workspace/c.txt").exists() && !host.path("state/workspace/b.txt").exists());

    let (turn, request) = ask(&mut daemon, "write: /work/d.txt|x").await;
    daemon.permit(request.id, json!({"behavior": "deny", "message": "not\ntoday"})).await.expect("taken");
    assert_eq!((daemon.end(turn).await.state, daemon.result(turn).as_str()), (EndState::Completed, "error: not\ntoday"));
    assert!(!host.path("state/workspace/d.txt").exists());

    let (turn, request) = ask(&mut daemon, "bash: touch e.txt\nsay: never").await;
    daemon.permit(request.id, json!({"behavior": "deny", "interrupt": true})).await.expect("taken");
    assert_eq!(daemon.end(turn).await.state, EndState::Interrupted);
    let (turn, _) = daemon.turn("say: still here").await;
    assert_eq!((daemon.result(turn).as_str(), daemon.starts()), ("still here", 1));
}

#[tokio::test]
async fn what_is_granted_holds_for_the_session() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    // One that can not be told in a list of names.
    let touch = "bash: touch 'a),(b'";
    let granted = {
        let mut shim = host.shim();
        let mut daemon = asking(&shim, &host, &model, PATIENT).await;
        let (turn, request) = ask(&mut daemon, touch).await;
        daemon.permit(request.id, json!({"behavior": "allow", "scope": "session"})).await.expect("taken");
        daemon.end(turn).await;
        let one = resolved(&mut daemon, request.id).await;
        assert_eq!((one.scope, one.rules.clone()), (Scope::Session, request.rules));
        let (turn, _) = daemon.turn(touch).await;
        assert!(daemon.data(turn, &Kind::PermissionRequest).is_empty(), "the same is not asked again");
        daemon.send(&ToShim::Configure { options: SessionOptions { granted: one.rules.clone(), ..options(PATIENT) } }).await;
        daemon.turn(touch).await;
        assert_eq!(daemon.starts(), 1, "the process knows its own rules");
        daemon.send(&ToShim::Configure { options: options(PATIENT) }).await;
        let turn = daemon.begin_with(touch, TurnOptions { max_turns: Some(5), ..TurnOptions::default() }).await;
        assert_eq!(daemon.end(turn).await.state, EndState::Completed);
        assert!(daemon.data(turn, &Kind::PermissionRequest).is_empty());
        assert_eq!(daemon.starts(), 2, "the shim remembers for a new process");
        assert!(!host.path("state/workspace/.claude").exists(), "nothing is written into the agent's folder");
        daemon.send(&ToShim::Stop).await;
        while daemon.next().await.is_some() {}
        shim.ended().await;
        one.rules
    };
    let shim = host.shim();
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    daemon.open(&host).await.expect("opened");
    let options = SessionOptions { granted, ..options(PATIENT) };
    daemon.setup(Setup { options, resume: true, ..host.setup(&model.url) }).await.expect("set up");
    let (turn, _) = daemon.turn(touch).await;
    assert!(daemon.data(turn, &Kind::PermissionRequest).is_empty(), "another shim was told");
    let (turn, request) = ask(&mut daemon, "bash: touch other").await;
    daemon.permit(request.id, json!({"behavior": "deny"})).await.expect("taken");
    daemon.end(turn).await;
}

#[tokio::test]
async fn a_question_is_answered() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = asking(&shim, &host, &model, PATIENT).await;
    for mode in ["default", "bypassPermissions"] {
        let options = SessionOptions { permission_mode: mode.to_owned(), ..options(PATIENT) };
        daemon.send(&ToShim::Configure { options }).await;
        let (turn, request) = ask(&mut daemon, "ask: Which colour?|red|blue").await;
        assert_eq!(request.kind, PermissionKind::Question);
        let input: Value = serde_json::from_str(request.input.get()).expect("JSON");
        assert_eq!(input["questions"][0]["options"][1]["label"], "blue");
        daemon.permit(request.id, json!({"behavior": "allow", "answers": {"Which colour?": "blue"}})).await.expect("taken");
        daemon.end(turn).await;
        assert!(daemon.result(turn).contains("\"Which colour?\"=\"blue\""), "{}", daemon.result(turn));
    }
    // Where nobody can be asked, nothing is asked.
    daemon.send(&ToShim::Configure { options: SessionOptions { ask: None, ..options(PATIENT) } }).await;
    for text in ["ask: Which colour?|red|blue", "bash: touch a.txt"] {
        let (turn, end) = daemon.turn(text).await;
        assert_eq!((end.state, daemon.data(turn, &Kind::PermissionRequest).len()), (EndState::Completed, 0), "{text}");
        assert!(daemon.result(turn).starts_with("error: "), "{text}: {}", daemon.result(turn));
    }
}

#[tokio::test]
async fn nobody_in_time_is_answered_as_configured() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = asking(&shim, &host, &model, PATIENT).await;
    let cases = [
        ("bash: touch a.txt", Behavior::Deny, Behavior::Deny),
        ("bash: touch b.txt", Behavior::Allow, Behavior::Allow),
        ("ask: Which colour?|red|blue", Behavior::Allow, Behavior::Deny),
    ];
    for (text, on_timeout, behavior) in cases {
        daemon.send(&ToShim::Configure { options: options(Ask { timeout_ms: Some(200), on_timeout }) }).await;
        let (turn, request) = ask(&mut daemon, text).await;
        let one = resolved(&mut daemon, request.id).await;
        assert_eq!((one.behavior, one.by), (behavior, Resolver::Timeout), "{text}");
        assert!(daemon.permit(request.id, json!({"behavior": "allow"})).await.is_err());
        assert_eq!(daemon.end(turn).await.state, EndState::Completed);
        let said = daemon.result(turn).contains("Nobody answered");
        assert_eq!(said, behavior == Behavior::Deny, "{text}: {}", daemon.result(turn));
    }
    assert!(host.path("state/workspace/b.txt").exists() && !host.path("state/workspace/a.txt").exists());
    assert_eq!(daemon.starts(), 1, "another patience needs no other process");
}

#[tokio::test]
async fn a_request_outlives_the_connection_and_is_answered_on_another() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = asking(&shim, &host, &model, PATIENT).await;
    daemon.acks = false;
    let (turn, request) = ask(&mut daemon, "bash: touch a.txt").await;
    drop(daemon);
    let mut daemon = shim.connect().await;
    assert_eq!(daemon.hello().await.turn, Some(turn));
    assert_eq!(asked(&mut daemon, turn).await.id, request.id, "it is told again");
    daemon.permit(request.id, json!({"behavior": "allow"})).await.expect("taken");
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
    assert!(host.path("state/workspace/a.txt").exists());

    // Nor does its time wait for a daemon.
    daemon.send(&ToShim::Configure { options: options(Ask { timeout_ms: Some(300), on_timeout: Behavior::Allow }) }).await;
    let (turn, request) = ask(&mut daemon, "bash: touch b.txt").await;
    drop(daemon);
    until("the tool has run", || host.path("state/workspace/b.txt").exists().then_some(())).await;
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    assert_eq!(resolved(&mut daemon, request.id).await.by, Resolver::Timeout);
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
}

#[tokio::test]
async fn the_time_of_a_request_runs_on_while_everything_is_frozen() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let patience = Duration::from_secs(2);
    let ask_for = Ask { timeout_ms: Some(2000), on_timeout: Behavior::Deny };
    let mut daemon = asking(&shim, &host, &model, ask_for).await;
    let (turn, request) = ask(&mut daemon, "bash: touch a.txt").await;
    let pid = Pid::from_raw(i32::try_from(shim.child.0.id()).expect("a pid"));
    kill(pid, Signal::SIGSTOP).expect("stopped");
    let stopped = Instant::now();
    until("the time is over", || (stopped.elapsed() > patience).then_some(())).await;
    kill(pid, Signal::SIGCONT).expect("continued");
    assert_eq!(resolved(&mut daemon, request.id).await.by, Resolver::Timeout);
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
}

#[tokio::test]
async fn a_turn_that_waits_can_be_interrupted() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = asking(&shim, &host, &model, PATIENT).await;
    for text in ["bash: touch a.txt", "ask: Which colour?|red|blue"] {
        let (turn, request) = ask(&mut daemon, text).await;
        daemon.send(&ToShim::Interrupt { turn: Some(turn) }).await;
        assert_eq!(daemon.end(turn).await.state, EndState::Interrupted);
        let one = resolved(&mut daemon, request.id).await;
        assert_eq!((one.behavior, one.by), (Behavior::Deny, Resolver::TurnEnd));
        assert!(daemon.permit(request.id, json!({"behavior": "allow"})).await.is_err());
        assert_eq!(tail(&daemon, turn, 1), ["turn_ended"], "and nothing after it");
    }
    let (turn, _) = daemon.turn("say: still here").await;
    assert_eq!((daemon.result(turn).as_str(), daemon.starts()), ("still here", 1));
}

#[tokio::test]
async fn the_end_of_the_processes_is_the_end_of_their_requests() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let mut shim = host.shim();
    let mut daemon = asking(&shim, &host, &model, PATIENT).await;
    let shim_pid = i32::try_from(shim.child.0.id()).expect("a pid");
    for is_runtime in [true, false] {
        let (turn, request) = ask(&mut daemon, "bash: touch a.txt").await;
        let pid = if is_runtime {
            only_process(&host.session.to_string()).await
        } else {
            let [pid] = children(shim_pid)[..] else { panic!("one process") };
            pid
        };
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
        assert_eq!(daemon.end(turn).await.state, EndState::Failed);
        let one = resolved(&mut daemon, request.id).await;
        assert_eq!((one.behavior, one.by), (Behavior::Deny, Resolver::TurnEnd));
        assert_eq!(tail(&daemon, turn, 3), ["permission_resolved", "error", "turn_ended"]);
        assert!(daemon.permit(request.id, json!({"behavior": "allow"})).await.is_err());
    }
    let (turn, request) = ask(&mut daemon, "bash: touch a.txt").await;
    daemon.permit(request.id, json!({"behavior": "allow"})).await.expect("taken");
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);

    let (turn, request) = ask(&mut daemon, "bash: touch b.txt").await;
    daemon.send(&ToShim::Stop).await;
    assert_eq!(daemon.end(turn).await.state, EndState::Interrupted);
    assert_eq!(resolved(&mut daemon, request.id).await.by, Resolver::TurnEnd);
    while daemon.next().await.is_some() {}
    assert_eq!(shim.ended().await.code(), Some(0));
    let count = |kind: &Kind| daemon.events.iter().filter(|event| event.kind == *kind).count();
    assert_eq!((count(&Kind::PermissionRequest), count(&Kind::PermissionResolved)), (4, 4));
}

#[tokio::test]
async fn a_request_that_outlives_its_turn_is_refused_with_it() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = asking(&shim, &host, &model, PATIENT).await;
    let task = json!({"description": "d", "prompt": "bash: touch sub.txt", "subagent_type": "general-purpose", "run_in_background": true});
    let turn = daemon.begin(&format!("tool: Agent {task}\nbash: touch main.txt")).await;
    let mut requests = Vec::new();
    for file in ["sub.txt", "main.txt"] {
        let event = daemon
            .event(file, |event| event.kind == Kind::PermissionRequest && event.data.get().contains(&format!("touch {file}\"")))
            .await;
        assert_eq!(event.turn, Some(turn));
        requests.push(serde_json::from_str::<PermissionRequest>(event.data.get()).expect("a request"));
    }
    daemon.permit(requests[1].id, json!({"behavior": "allow"})).await.expect("taken");
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
    assert_eq!(tail(&daemon, turn, 2), ["permission_resolved", "turn_ended"]);
    assert_eq!(resolved(&mut daemon, requests[0].id).await.by, Resolver::TurnEnd);
    // The subagent hears of it, and what it says to that begins a turn of its own.
    let is_own = |event: &ShimEvent| event.kind == Kind::TurnEnded && event.turn.is_some_and(|of| of != turn);
    daemon.event("a turn of the runtime's own", is_own).await;
    assert!(host.path("state/workspace/main.txt").exists() && !host.path("state/workspace/sub.txt").exists());
}
