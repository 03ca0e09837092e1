//! What a turn took stands on its end: as the model says it, for every kind of turn.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use ash::link::shim::{EndState, ToShim, TurnEnd};
use ash::wire::event::Kind;
use ash::wire::message::TurnOptions;
use ash::wire::usage::{ModelUsage, Usage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Host, Model, only_process, until};

/// A model that is not there.
const NOWHERE: &str = "http://127.0.0.1:1";

macro_rules! host_or_skip {
    () => {
        match Host::with_claude() {
            Some(host) => host,
            None => return,
        }
    };
}

/// Sum over the calls that the model answered from the `from`th request on, and their number.
fn answered(model: &Model, from: usize) -> (ModelUsage, usize) {
    let mut stream = TcpStream::connect(model.url.strip_prefix("http://").expect("an address")).expect("connected");
    stream.write_all(b"GET /__mock/requests HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    let requests: Vec<Value> = serde_json::from_str(answer.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    let mut sum = ModelUsage::default();
    for usage in requests[from..].iter().map(|request| &request["usage"]).filter(|usage| usage.is_object()) {
        let count = |name: &str| usage[name].as_u64().expect("a number");
        let (input_tokens, output_tokens) = (count("input_tokens"), count("output_tokens"));
        sum.add(&ModelUsage { calls: 1, input_tokens, output_tokens, ..ModelUsage::default() });
    }
    (sum, requests.len())
}

fn usage(end: &TurnEnd) -> &Usage {
    end.usage.as_ref().expect("it began")
}

fn tokens(end: &TurnEnd) -> ModelUsage {
    let mut sum = ModelUsage::default();
    usage(end).models.values().for_each(|usage| sum.add(usage));
    sum
}

#[tokio::test]
async fn tokens_are_those_that_the_model_told_and_tools_are_counted() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    let mut seen = 0;
    for (text, calls, tools) in [
        ("usage: 12345 678", 1, 0),
        ("say: short", 1, 0),
        ("bash: echo 1\nwrite: /work/x|y\nsay: done", 3, 2),
        ("par: bash: echo 1 ;; bash: echo 2 ;; read: /nowhere", 2, 3),
        ("big: 300", 1, 0),
        ("fail: 529 2", 1, 0),
    ] {
        let (_, end) = daemon.turn(text).await;
        assert_eq!(end.state, EndState::Completed, "{text}");
        let (wanted, requests) = answered(&model, seen);
        seen = requests;
        assert_eq!((tokens(&end), usage(&end).tool_calls), (wanted, tools), "{text}: {end:?}");
        assert!(wanted.calls >= calls, "{text}: {wanted:?}");
        assert!(usage(&end).models.keys().all(|name| name.starts_with("claude-")), "{end:?}");
        assert_eq!((usage(&end).cpu_ms, usage(&end).cost_usd), (None, None), "it is in the control group of this test");
    }
    let options = TurnOptions { model: Some("claude-haiku-4-5".to_owned()), ..TurnOptions::default() };
    let turn = daemon.begin_with("usage: 5 6", options).await;
    let end = daemon.end(turn).await;
    let haiku = usage(&end).models["claude-haiku-4-5"];
    assert!(haiku.input_tokens >= 5 && haiku.output_tokens >= 6, "{end:?}");
}

#[tokio::test]
async fn what_broke_off_is_billed_as_far_as_it_came() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    for is_killed in [false, true] {
        let (_, seen) = answered(&model, 0);
        let options = TurnOptions { include_partial_messages: true, ..TurnOptions::default() };
        let turn = daemon.begin_with("bash: echo 1\nslow: 60", options).await;
        daemon.event("a delta", |event| event.turn == Some(turn) && event.kind == Kind::TextDelta).await;
        if is_killed {
            let pid = only_process(&host.session.to_string()).await;
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
        } else {
            daemon.send(&ToShim::Interrupt { turn: Some(turn) }).await;
        }
        let end = daemon.end(turn).await;
        assert_eq!(end.state, if is_killed { EndState::Failed } else { EndState::Interrupted });
        let (told, wanted) = (tokens(&end), answered(&model, seen).0);
        assert_eq!((told.calls, told.input_tokens), (wanted.calls, wanted.input_tokens), "both calls: {end:?}");
        assert!(told.output_tokens > 1 && told.output_tokens < wanted.output_tokens, "the second was cut short: {end:?}");
        assert_eq!(usage(&end).tool_calls, 1);
        // Nothing of it is on the next bill.
        let (_, seen) = answered(&model, 0);
        let (_, end) = daemon.turn("usage: 20 30").await;
        assert_eq!(tokens(&end), answered(&model, seen).0, "{end:?}");
    }
}

#[tokio::test]
async fn a_turn_that_the_runtime_began_by_itself_has_its_own_bill() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    let call =
        r#"tool: Bash {"command": "while [ ! -e /work/go ]; do :; done", "description": "waits", "run_in_background": true}"#;
    let (turn, end) = daemon.turn(call).await;
    let (wanted, seen) = answered(&model, 0);
    assert_eq!((tokens(&end), usage(&end).tool_calls), (wanted, 1), "{end:?}");
    std::fs::write(host.path("state/workspace/go"), "").expect("written");
    let own = daemon.event("a turn of its own", |event| event.kind == Kind::TurnStarted).await.turn.expect("a turn");
    assert_ne!(own, turn);
    let end = daemon.end(own).await;
    assert_eq!((end.state, tokens(&end)), (EndState::Completed, answered(&model, seen).0), "{end:?}");
    assert!(tokens(&end).calls >= 1, "{end:?}");
}

/// The budget of a session counts on it: what can be killed from inside would begin anew with each shim.
#[tokio::test]
async fn what_a_shim_had_counted_that_is_killed_in_a_turn_is_told_by_the_next_and_once() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let mut shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    let (_, end) = daemon.turn("usage: 20 30").await;
    assert_eq!(tokens(&end), answered(&model, 0).0);
    let (_, seen) = answered(&model, 0);
    daemon.begin("bash: while [ ! -e /work/go ]; do :; done\nsay: done").await;
    let began = daemon.events.len();
    daemon.event("a tool", |event| event.kind == Kind::ToolUse).await;
    assert!(daemon.events.len() > began);
    let (wanted, _) = answered(&model, seen);
    let sum = |models: &Value| {
        let models: BTreeMap<String, ModelUsage> = serde_json::from_value(models.clone()).expect("models");
        let mut sum = ModelUsage::default();
        models.values().for_each(|usage| sum.add(usage));
        sum
    };
    until("it is written down", || {
        let page: Value = serde_json::from_slice(&std::fs::read(host.path("state/spool/tab")).ok()?).ok()?;
        (sum(&page["models"]) == wanted && page["billed_by"].is_null()).then_some(())
    })
    .await;
    drop(daemon);
    shim.child.0.kill().expect("killed");
    shim.ended().await;

    let mut shim = host.shim();
    let mut daemon = shim.connect().await;
    let state = daemon.hello().await;
    let event = daemon.event("what it took", |event| event.n == state.newest).await;
    let data: Value = serde_json::from_str(event.data.get()).expect("JSON");
    assert_eq!((event.turn, &event.kind, &data["action"]), (None, &Kind::Lifecycle, &Value::from("usage")));
    assert_eq!(sum(&data["models"]), wanted, "and not what the turn before has on its bill");
    drop(daemon);
    shim.child.0.kill().expect("killed");
    shim.ended().await;

    let shim = host.shim();
    assert_eq!(shim.connect().await.hello().await.newest, state.newest, "nothing is told twice");
}

#[tokio::test]
async fn a_turn_that_never_began_has_no_bill() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    let running = daemon.begin("deaf:").await;
    let waiting = daemon.begin("two").await;
    daemon.send(&ToShim::Interrupt { turn: Some(waiting) }).await;
    let end = daemon.end(waiting).await;
    assert_eq!((end.state, end.usage), (EndState::Cancelled, None));
    std::fs::write(host.path("state/workspace/hear"), "").expect("written");
    let end = daemon.end(running).await;
    let took = usage(&end);
    assert_eq!(*took, Usage { wall_ms: took.wall_ms, ..Usage::default() });
}
