//! The same with the real runtime and the scripted model.

use std::fs;

use ash::link::shim::{EndState, SessionOptions, ToShim};
use ash::wire::event::Kind;
use ash::wire::message::TurnOptions;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::{Host, KEY, KEY_PATTERN, Model, descendants, memory_has, only_process};

macro_rules! host_or_skip {
    () => {
        match Host::with_claude() {
            Some(host) => host,
            None => return,
        }
    };
}

/// The runtime's process on the host.
#[tokio::test]
async fn text_tools_and_files_in_one_process() {
    let host = host_or_skip!();
    let model = Model::start(&["--require-key", KEY]);
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;

    let options = TurnOptions { include_partial_messages: true, ..TurnOptions::default() };
    let turn = daemon.begin_with("say: hello there my friend", options).await;
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
    let deltas: String =
        daemon.data(turn, &Kind::TextDelta).iter().map(|data| data["delta"].as_str().expect("text").to_owned()).collect();
    assert_eq!((deltas.as_str(), daemon.result(turn).as_str()), ("hello there my friend", "hello there my friend"));

    let (turn, end) = daemon.turn("bash: id -u; pwd; echo $MINE; echo $HOME").await;
    assert_eq!(end.state, EndState::Completed);
    assert_eq!(daemon.result(turn), "result: 1000\n/work\nyes\n/home/agent");
    assert_eq!(daemon.data(turn, &Kind::ToolResult)[0]["toolName"], "Bash");

    let (turn, end) = daemon.turn("write: /work/notes.txt|remember the milk\nread: /work/notes.txt").await;
    assert_eq!(end.state, EndState::Completed);
    assert!(daemon.result(turn).contains("remember the milk"), "{}", daemon.result(turn));
    assert_eq!(fs::read_to_string(host.path("state/workspace/notes.txt")).expect("there"), "remember the milk");

    assert_eq!(daemon.starts(), 1, "one process served all turns");
    let started = daemon.events.iter().find(|event| event.kind == Kind::Lifecycle).expect("one");
    assert!(started.data.get().contains("\"runtime\":\"claude\""), "{}", started.data.get());

    // The key is in no process and in no file inside.
    let search = format!(
        "bash: grep -rl {KEY_PATTERN} /work /home /tmp /dev/shm; \
         cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -ac {KEY_PATTERN}; true"
    );
    let (turn, _) = daemon.turn(&search).await;
    assert_eq!(daemon.result(turn), "result: 0");
    let inside = descendants(i32::try_from(shim.child.0.id()).expect("a pid"));
    assert!(inside.len() >= 3, "bubblewrap, init, the runtime");
    assert!(!inside.iter().any(|pid| memory_has(*pid, KEY)), "nor in their memory");
    if nix::unistd::geteuid().is_root() {
        assert!(inside.iter().any(|pid| memory_has(*pid, "remember the milk")), "where it would be found");
    }
}

#[tokio::test]
async fn an_interrupted_turn_leaves_the_process_usable() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    let options = TurnOptions { include_partial_messages: true, ..TurnOptions::default() };
    let turn = daemon.begin_with("slow: 60", options).await;
    daemon.event("a delta", |event| event.turn == Some(turn) && event.kind == Kind::TextDelta).await;
    daemon.send(&ToShim::Interrupt { turn: Some(turn) }).await;
    assert_eq!(daemon.end(turn).await.state, EndState::Interrupted);
    assert!(daemon.data(turn, &Kind::Error).is_empty());
    // At once, before the runtime has looked at the message.
    let turn = daemon.begin("slow: 60").await;
    daemon.send(&ToShim::Interrupt { turn: None }).await;
    assert_eq!(daemon.end(turn).await.state, EndState::Interrupted);
    let turn = daemon.begin("bash: while true; do echo x >/work/x; done").await;
    daemon.event("a tool call", |event| event.turn == Some(turn) && event.kind == Kind::ToolUse).await;
    daemon.send(&ToShim::Interrupt { turn: Some(turn) }).await;
    assert_eq!(daemon.end(turn).await.state, EndState::Interrupted);
    let (turn, _) = daemon.turn("say: still here").await;
    assert_eq!((daemon.result(turn).as_str(), daemon.starts()), ("still here", 1));
}

#[tokio::test]
async fn an_interrupt_while_the_runtime_starts_is_heard() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    for _ in 0..3 {
        let turn = daemon.begin("slow: 60").await;
        daemon.send(&ToShim::Interrupt { turn: Some(turn) }).await;
        assert_eq!(daemon.end(turn).await.state, EndState::Interrupted);
    }
    let (turn, _) = daemon.turn("say: here").await;
    assert_eq!(daemon.result(turn), "here");
}

#[tokio::test]
async fn a_killed_runtime_ends_its_turn_and_the_conversation_goes_on() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    daemon.turn("say: first").await;
    let options = TurnOptions { include_partial_messages: true, ..TurnOptions::default() };
    let turn = daemon.begin_with("slow: 60", options).await;
    daemon.event("a delta", |event| event.turn == Some(turn) && event.kind == Kind::TextDelta).await;
    let pid = Pid::from_raw(only_process(&host.session.to_string()).await);
    kill(pid, Signal::SIGKILL).expect("killed");
    let end = daemon.end(turn).await;
    assert_eq!((end.state, end.cause.as_deref()), (EndState::Failed, Some("runtime ended: signal 9")));
    assert_eq!(daemon.data(turn, &Kind::Error), [json!({"error": "runtime ended: signal 9"})]);
    let (turn, end) = daemon.turn("remember?").await;
    assert_eq!(end.state, EndState::Completed);
    assert!(daemon.result(turn).contains("say: first"), "{}", daemon.result(turn));
    // Between turns it is replaced without a word.
    let pid = Pid::from_raw(only_process(&host.session.to_string()).await);
    kill(pid, Signal::SIGKILL).expect("killed");
    let (turn, end) = daemon.turn("say: back").await;
    assert_eq!((end.state, daemon.result(turn).as_str()), (EndState::Completed, "back"));
}

#[tokio::test]
async fn a_killed_first_turn_does_not_spoil_the_session() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    let turn = daemon.begin("stall: 60").await;
    daemon.event("its beginning", |event| event.turn == Some(turn)).await;
    let pid = Pid::from_raw(only_process(&host.session.to_string()).await);
    kill(pid, Signal::SIGKILL).expect("killed");
    assert_eq!(daemon.end(turn).await.state, EndState::Failed);
    let (turn, end) = daemon.turn("say: fine").await;
    assert_eq!((end.state, daemon.result(turn).as_str()), (EndState::Completed, "fine"), "{end:?}");
}

#[tokio::test]
async fn another_shim_goes_on_with_the_conversation() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    {
        let mut shim = host.shim();
        let mut daemon = shim.ready(&host, &model.url).await;
        daemon.turn("say: first").await;
        daemon.send(&ToShim::Stop).await;
        while daemon.next().await.is_some() {}
        assert_eq!(shim.ended().await.code(), Some(0));
    }
    for resume in [true, false] {
        // Also when the daemon does not know that there is one.
        let shim = host.shim();
        let mut daemon = shim.connect().await;
        daemon.hello().await;
        daemon.open(&host).await.expect("opened");
        daemon.setup(ash::link::shim::Setup { resume, ..host.setup(&model.url) }).await.expect("set up");
        let (turn, _) = daemon.turn("remember?").await;
        assert!(daemon.result(turn).contains("say: first"), "resume {resume}: {}", daemon.result(turn));
    }
}

#[tokio::test]
async fn a_conversation_that_is_gone_is_begun_anew() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    daemon.open(&host).await.expect("opened");
    daemon.setup(ash::link::shim::Setup { resume: true, ..host.setup(&model.url) }).await.expect("set up");
    let (turn, end) = daemon.turn("say: anew").await;
    assert_eq!((end.state, daemon.result(turn).as_str()), (EndState::Completed, "anew"), "{end:?}");
}

#[tokio::test]
async fn a_torn_file_of_the_runtime_is_mended() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    fs::write(host.path("state/home/.claude.json"), "{\"a\":").expect("written");
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(host.path("state/home/.claude.json"), Some(20_000), Some(20_000)).expect("owned");
    }
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    let (turn, end) = daemon.turn("say: mended").await;
    assert_eq!((end.state, daemon.result(turn).as_str()), (EndState::Completed, "mended"), "{end:?}");
}

#[tokio::test]
async fn options_take_effect_and_the_conversation_stays() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    daemon.send(&ToShim::Warm).await;
    daemon.event("the runtime", |event| event.kind == Kind::Lifecycle).await;
    daemon.turn("say: first").await;
    assert_eq!(daemon.starts(), 1, "it was started ahead");

    let options = TurnOptions { model: Some("claude-haiku-4-5".to_owned()), ..TurnOptions::default() };
    let turn = daemon.begin_with("whoami", options).await;
    daemon.end(turn).await;
    assert!(daemon.result(turn).starts_with("model=claude-haiku-4-5 "), "{}", daemon.result(turn));
    let (turn, _) = daemon.turn("whoami").await;
    assert!(!daemon.result(turn).contains("haiku"), "for one turn only: {}", daemon.result(turn));
    assert_eq!(daemon.starts(), 1, "the model needs no other process");

    let options = TurnOptions { max_turns: Some(2), ..TurnOptions::default() };
    let turn = daemon.begin_with("loop: 4", options).await;
    let end = daemon.end(turn).await;
    assert_eq!((end.state, end.cause.as_deref()), (EndState::Failed, Some("Reached maximum number of turns (2)")));
    assert_eq!(daemon.starts(), 2);

    let options = SessionOptions {
        permission_mode: "bypassPermissions".to_owned(),
        disallowed_tools: vec!["Bash".to_owned()],
        ..SessionOptions::default()
    };
    daemon.send(&ToShim::Configure { options }).await;
    let (turn, _) = daemon.turn("tools?").await;
    assert!(!daemon.result(turn).contains("Bash"), "{}", daemon.result(turn));
    let (turn, _) = daemon.turn("remember?").await;
    assert!(daemon.result(turn).contains("say: first"), "{}", daemon.result(turn));
    assert_eq!(daemon.starts(), 3);
}

#[tokio::test]
async fn trouble_with_the_model_ends_the_turn_with_one_error() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    for (text, part) in [("fail: 401", "401"), ("fail: 429", "429"), ("fail: 529", "529"), ("fail: 400", "400")] {
        let (turn, end) = daemon.turn(text).await;
        assert_eq!(end.state, EndState::Failed, "{text}");
        let [error] = &daemon.data(turn, &Kind::Error)[..] else { panic!("{text}: one error") };
        assert!(error["error"].as_str().is_some_and(|error| error.contains(part)), "{text}: {error}");
    }
    // The runtime mends a cut stream by asking again.
    let (turn, end) = daemon.turn("cut:").await;
    assert_eq!((end.state, daemon.result(turn).as_str()), (EndState::Completed, "this reply is cut short in the middle"));
    drop(model);
    let (turn, end) = daemon.turn("say: x").await;
    assert_eq!(end.state, EndState::Failed);
    let error = daemon.data(turn, &Kind::Error)[0]["error"].as_str().expect("text").to_owned();
    assert!(error.contains("can not be reached") && error.contains("Connection refused"), "{error}");
    let model = Model::start(&[]);
    daemon.setup(host.setup(&model.url)).await.expect("set up again");
    let (turn, _) = daemon.turn("say: back").await;
    assert_eq!((daemon.result(turn).as_str(), daemon.starts()), ("back", 1));
}

#[tokio::test]
async fn the_folder_of_the_agent_is_in_effect() {
    let host = host_or_skip!();
    let model = Model::start(&[]);
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    let mut builder = tar::Builder::new(Vec::new());
    let files = [
        ("CLAUDE.md", "Always be kind to MILLIE."),
        (".claude/skills/greeter/SKILL.md", "---\nname: greeter\ndescription: greets people\n---\nSay good day.\n"),
        (".claude/settings.json", "{\"permissions\": {\"deny\": [\"Write\"]}}"),
        (".mcp.json", "{\"mcpServers\": {\"broken\": {\"command\": \"/nonexistent/server\"}}}"),
    ];
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content.as_bytes()).expect("appended");
    }
    daemon.unpack(&builder.into_inner().expect("finished")).await.expect("unpacked");
    let (turn, _) = daemon.turn("sysgrep: MILLIE\nskill: greeter").await;
    let texts: Vec<_> = daemon.data(turn, &Kind::Text).iter().map(|data| data["text"].clone()).collect();
    assert_eq!(texts[0], "system: False, messages: True");
    let [status] = &daemon.data(turn, &Kind::McpStatus)[..] else { panic!("one status") };
    assert_eq!((&status["action"], &status["server"]), (&json!("error"), &json!("broken")));
    let (turn, _) = daemon.turn("skill: greeter").await;
    assert_eq!(daemon.data(turn, &Kind::ToolResult)[0]["content"], "Launching skill: greeter");
    let (turn, _) = daemon.turn("tools?").await;
    assert!(!daemon.result(turn).contains("Write"), "{}", daemon.result(turn));
}
