//! The conversation of daemon and shim: requests, events, turns, ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use ash::link::shim::{EndState, ToShim};
use ash::wire::TurnId;
use ash::wire::event::Kind;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::support::{DEADLINE, Host, children, processes, until};

const NOWHERE: &str = "http://127.0.0.1:1";

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).expect("appended");
    }
    builder.into_inner().expect("finished")
}

#[tokio::test]
async fn a_turn_tells_its_events_in_order() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.connect().await;
    let state = daemon.hello().await;
    assert_eq!((state.sandbox, state.session, state.unpacked, state.turn, state.newest), (shim.sandbox, None, false, None, 0));
    daemon.open(&host).await.expect("opened");
    daemon.open(&host).await.expect("opened before");
    daemon.setup(host.setup(NOWHERE)).await.expect("set up");
    let (turn, end) = daemon.turn("hello").await;
    assert_eq!((end.state, end.cause, end.turn_id), (EndState::Completed, None, turn));
    let kinds: Vec<_> = daemon.events.iter().map(|event| (event.n, event.turn, event.kind.clone())).collect();
    let wanted = [
        (1, None, Kind::Lifecycle),
        (2, Some(turn), Kind::Message),
        (3, Some(turn), Kind::Text),
        (4, Some(turn), Kind::Message),
        (5, Some(turn), Kind::TurnComplete),
        (6, Some(turn), Kind::Message),
        (7, Some(turn), Kind::TurnEnded),
    ];
    assert_eq!(kinds, wanted);
    assert!(daemon.events.iter().all(|event| event.at > 1_700_000_000_000));
}

#[tokio::test]
async fn a_turn_given_twice_runs_once_and_turns_wait_for_each_other() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    let content = serde_json::value::to_raw_value("one").expect("raw");
    let turn = ash::link::shim::Turn { id: TurnId::new(), content, options: Default::default() };
    daemon.send(&ToShim::Turn(turn.clone())).await;
    daemon.send(&ToShim::Turn(turn.clone())).await;
    let second = daemon.begin("two").await;
    daemon.end(second).await;
    daemon.send(&ToShim::Turn(turn.clone())).await;
    let (third, _) = daemon.turn("three").await;
    let ends: Vec<_> = daemon.events.iter().filter(|event| event.kind == Kind::TurnEnded).map(|event| event.turn).collect();
    // Whoever gives a turn that is over does not know of its end.
    assert_eq!(ends, [Some(turn.id), Some(second), Some(turn.id), Some(third)]);
    assert_eq!(daemon.starts(), 1);
}

#[tokio::test]
async fn events_are_sent_again_until_they_are_acknowledged() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    daemon.acks = false;
    let (turn, _) = daemon.turn("hello").await;
    daemon.send(&ToShim::Ack { through: 3 }).await;
    let incarnation = {
        let mut second = shim.connect().await;
        second.acks = false;
        let state = second.hello().await;
        assert_eq!((state.session, state.turn), (Some(host.session), None));
        second.end(turn).await;
        // The acknowledgement may or may not have overtaken the connection.
        let numbers: Vec<_> = second.events.iter().map(|event| event.n).collect();
        assert!(numbers == [1, 2, 3, 4, 5, 6, 7] || numbers == [4, 5, 6, 7], "{numbers:?}");
        let old: Vec<_> = daemon.events.iter().map(|event| event.data.get()).collect();
        let new: Vec<_> = second.events.iter().map(|event| event.data.get()).collect();
        assert!(old.ends_with(&new));
        second.send(&ToShim::Ack { through: 6 }).await;
        second.open(&host).await.expect("answered, so the acknowledgement was taken");
        state.incarnation
    };
    let mut third = shim.connect().await;
    assert_eq!(third.hello().await.incarnation, incarnation);
    third.end(turn).await;
    assert_eq!(third.events.iter().map(|event| event.n).collect::<Vec<_>>(), [7]);
    // The newest connection counts: the first one has been closed.
    while daemon.next().await.is_some() {}
}

#[tokio::test]
async fn a_turn_goes_on_without_a_daemon() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    let turn = daemon.begin("run: until [ -e /work/go ]; do read -t 0.05 _ <> <(:); done").await;
    daemon.event("its beginning", |event| event.turn == Some(turn)).await;
    drop(daemon);
    fs::write(host.path("state/workspace/go"), "").expect("written");
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
}

#[tokio::test]
async fn strangers_are_not_listened_to() {
    if !nix::unistd::geteuid().is_root() {
        // Without root there is no second user to connect as. The other way round is tested instead.
        let host = Host::new();
        let shim = host.shim_with(|command| {
            command.args(["--daemon-uid", "1"]);
        });
        let mut stream = UnixStream::connect(&shim.socket).await.expect("connected");
        assert_eq!(stream.read(&mut [0]).await.expect("closed"), 0);
        return;
    }
    let host = Host::new();
    let shim = host.shim();
    let mut command = tokio::process::Command::new("/usr/bin/python3");
    let connect =
        "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(60); print(s.recv(1))";
    command.args(["-c", connect]).arg(&shim.socket).uid(30_000).gid(30_000);
    let output = command.output().await.expect("ran");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "b''\n", "{}", String::from_utf8_lossy(&output.stderr));
    until("it is logged", || shim.log().contains("connection from a stranger").then_some(())).await;
    shim.ready(&host, NOWHERE).await;
}

#[tokio::test]
async fn the_workspace_is_replaced_and_remembered() {
    let host = Host::new();
    fs::write(host.path("state/workspace/old"), "").expect("written");
    {
        let shim = host.shim();
        let mut daemon = shim.connect().await;
        daemon.hello().await;
        assert_eq!(daemon.unpack(&archive(&[])).await, Err("the sandbox is not open".to_owned()));
        daemon.open(&host).await.expect("opened");
        daemon.unpack(&archive(&[("CLAUDE.md", "Be kind."), ("a/b/c", &"x".repeat(1 << 20))])).await.expect("unpacked");
        assert!(!host.path("state/workspace/old").exists());
        assert_eq!(fs::read_to_string(host.path("state/workspace/CLAUDE.md")).expect("there"), "Be kind.");
        assert_eq!(fs::metadata(host.path("state/workspace/a/b/c")).expect("there").len(), 1 << 20);
    }
    let shim = host.shim();
    let mut daemon = shim.connect().await;
    assert!(daemon.hello().await.unpacked, "another shim on the same folder knows");
    daemon.open(&host).await.expect("opened");
    let error = daemon.unpack(&archive(&[("ok", ""), ("../out", "x")])).await.expect_err("hostile");
    assert_eq!(error, "unpack: entry \"../out\" climbs out with '..'");
    assert!(!host.path("state/out").exists());
    daemon.setup(host.setup(NOWHERE)).await.expect("set up");
    assert_eq!(daemon.turn("hello").await.1.state, EndState::Completed, "it is usable all the same");
    let mut daemon = shim.connect().await;
    assert!(!daemon.hello().await.unpacked);
}

#[tokio::test]
async fn an_archive_that_is_cut_off_is_no_workspace() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    daemon.open(&host).await.expect("opened");
    daemon.begin_unpack().await;
    daemon.send_chunk(&archive(&[("a", "x")])).await;
    drop(daemon);
    until("it is noticed", || shim.log().contains("workspace was not unpacked").then_some(())).await;
    let mut daemon = shim.connect().await;
    assert!(!daemon.hello().await.unpacked);
    daemon.unpack(&archive(&[("b", "x")])).await.expect("unpacked");
    assert!(host.path("state/workspace/b").exists() && !host.path("state/workspace/a").exists());
}

#[tokio::test]
async fn a_sandbox_that_can_not_be_made_says_why() {
    let host = Host { runtime: "/nonexistent/claude".into(), ..Host::new() };
    let shim = host.shim();
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    let error = daemon.open(&host).await.expect_err("no runtime");
    assert!(error.contains("/nonexistent/claude") && error.contains("No such file"), "{error}");

    let host = Host::new();
    let shim = host.shim_with(|command| {
        command.args(["--init", "/etc/passwd"]);
    });
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    let error = daemon.open(&host).await.expect_err("no init");
    assert!(error.contains("/opt/ash/ash-init") && error.contains("Permission denied"), "{error}");

    let host = Host::new();
    let shim = host.shim_with(|command| {
        command.args(["--bwrap", "/nonexistent/bwrap"]);
    });
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    let error = daemon.open(&host).await.expect_err("no bubblewrap");
    assert!(error.starts_with("start /nonexistent/bwrap: No such file"), "{error}");
    daemon.setup(host.setup(NOWHERE)).await.expect("set up");
    let (turn, end) = daemon.turn("hello").await;
    assert_eq!(end.state, EndState::Failed);
    assert_eq!(daemon.data(turn, &Kind::Error).len(), 1);
}

#[tokio::test]
async fn a_turn_without_its_preparations_fails_by_name() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    let (_, end) = daemon.turn("hello").await;
    assert_eq!((end.state, end.cause.as_deref()), (EndState::Failed, Some("no session is set up in the sandbox")));
    daemon.setup(host.setup(NOWHERE)).await.expect("set up");
    let (_, end) = daemon.turn("hello").await;
    assert_eq!((end.state, end.cause.as_deref()), (EndState::Failed, Some("the sandbox was not opened")));
    let mut other = host.setup(NOWHERE);
    other.session = ash::wire::SessionId::new();
    let error = daemon.setup(other).await.expect_err("another session");
    assert_eq!(error, format!("the sandbox belongs to session {}", host.session));
    let error = daemon.setup(host.setup("nowhere")).await.expect_err("no address");
    assert!(error.contains("\"nowhere\" is not an address"), "{error}");
}

#[tokio::test]
async fn every_way_to_die_ends_the_turn_with_one_error_and_the_next_works() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    let cases = [
        ("die: 3", "runtime ended: exit status 3: cannot go on"),
        ("kill:", "runtime ended: signal 9"),
        ("garbage:", "runtime ended: runtime wrote a line that is not its protocol: \"garbage\""),
    ];
    for (text, cause) in cases {
        let (turn, end) = daemon.turn(text).await;
        assert_eq!((end.state, end.cause.as_deref()), (EndState::Failed, Some(cause)), "{text}");
        assert_eq!(daemon.data(turn, &Kind::Error), [json!({"error": cause})], "{text}");
        let (turn, end) = daemon.turn("hello").await;
        assert_eq!((end.state, daemon.result(turn).as_str()), (EndState::Completed, "hello"), "after {text}");
    }
}

#[tokio::test]
async fn a_runtime_that_can_not_start_is_told_with_its_own_words() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    fs::write(host.path("state/workspace/no-start"), "").expect("written");
    let (turn, end) = daemon.turn("hello").await;
    let cause = "runtime could not be started: exit status 1: error: unknown option '--nonsense'";
    assert_eq!((end.state, end.cause.as_deref()), (EndState::Failed, Some(cause)));
    assert_eq!(daemon.data(turn, &Kind::Error).len(), 1);
    fs::remove_file(host.path("state/workspace/no-start")).expect("removed");
    assert_eq!(daemon.turn("hello").await.1.state, EndState::Completed);

    let host = Host::new();
    fs::set_permissions(&host.runtime, fs::Permissions::from_mode(0o644)).expect("set");
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    let (turn, end) = daemon.turn("hello").await;
    let cause = "runtime could not be started: /opt/claude/claude: Permission denied (os error 13)";
    assert_eq!((end.state, end.cause.as_deref()), (EndState::Failed, Some(cause)));
    assert_eq!(daemon.data(turn, &Kind::Error).len(), 1);
    fs::set_permissions(&host.runtime, fs::Permissions::from_mode(0o755)).expect("set");
    assert_eq!(daemon.turn("hello").await.1.state, EndState::Completed);
}

#[tokio::test]
async fn an_interrupt_that_is_not_heard_ends_the_process() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    let turn = daemon.begin("deaf:").await;
    daemon.event("its beginning", |event| event.turn == Some(turn)).await;
    let waiting = daemon.begin("waits").await;
    daemon.send(&ToShim::Interrupt { turn: Some(waiting) }).await;
    assert_eq!(daemon.end(waiting).await.state, EndState::Cancelled);
    daemon.send(&ToShim::Interrupt { turn: Some(TurnId::new()) }).await;
    daemon.send(&ToShim::Interrupt { turn: Some(turn) }).await;
    assert_eq!(daemon.end(turn).await.state, EndState::Interrupted);
    assert!(daemon.data(turn, &Kind::Error).is_empty());
    assert_eq!(daemon.turn("hello").await.1.state, EndState::Completed);
}

#[tokio::test]
async fn a_sandbox_that_ended_by_itself_is_made_again() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    let (_, end) = daemon.turn("hello").await;
    assert_eq!(end.state, EndState::Completed);
    let turn = daemon.begin("deaf:").await;
    daemon.event("its beginning", |event| event.turn == Some(turn)).await;
    let shim_pid = i32::try_from(shim.child.0.id()).expect("a pid");
    let [bwrap] = children(shim_pid)[..] else { panic!("one bubblewrap") };
    let [init] = children(bwrap)[..] else { panic!("one init") };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL).expect("killed");
    let end = daemon.end(turn).await;
    assert_eq!(end.state, EndState::Failed);
    assert!(end.cause.as_deref().is_some_and(|cause| cause.contains("sandbox ended")), "{end:?}");
    let (turn, end) = daemon.turn("again").await;
    assert_eq!((end.state, daemon.result(turn).as_str()), (EndState::Completed, "again"));
}

#[tokio::test]
async fn a_stop_ends_everything_in_good_order() {
    let host = Host::new();
    let mut shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    let turn = daemon.begin("deaf:").await;
    daemon.event("its beginning", |event| event.turn == Some(turn)).await;
    let waiting = daemon.begin("waits").await;
    let session = host.session.to_string();
    assert!(!processes(&session).is_empty());
    daemon.send(&ToShim::Stop).await;
    assert_eq!(daemon.end(waiting).await.state, EndState::Cancelled);
    assert_eq!(daemon.end(turn).await.state, EndState::Interrupted);
    while daemon.next().await.is_some() {}
    assert_eq!(shim.ended().await.code(), Some(0));
    assert!(processes(&session).is_empty());
}

#[tokio::test]
async fn a_shim_that_is_terminated_ends_its_sandbox() {
    let host = Host::new();
    let mut shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    daemon.turn("hello").await;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(shim.child.0.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("sent");
    assert_eq!(shim.ended().await.code(), Some(0));
    let session = host.session.to_string();
    assert!(processes(&session).is_empty());
}

#[tokio::test]
async fn nothing_survives_a_shim_that_is_killed() {
    let host = Host::new();
    let mut shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    let turn = daemon.begin("deaf:").await;
    daemon.event("its beginning", |event| event.turn == Some(turn)).await;
    let session = host.session.to_string();
    assert!(!processes(&session).is_empty());
    shim.child.0.kill().expect("killed");
    assert_eq!(shim.ended().await.signal(), Some(9));
    until("everything inside is gone", || processes(&session).is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_wrong_start_is_refused_by_name() {
    let host = Host::new();
    let mut shim = host.shim_with(|command| {
        command.stdin(std::process::Stdio::null());
    });
    assert_eq!(shim.ended().await.code(), Some(1));
    assert!(shim.log().contains("standard input is not a listening Unix socket"), "{}", shim.log());
    let mut shim = host.shim_with(|command| {
        command.arg("--nonsense");
    });
    assert_eq!(shim.ended().await.code(), Some(1));
    assert!(shim.log().contains("unknown option \"--nonsense\""), "{}", shim.log());
}

#[tokio::test]
async fn a_connection_that_is_no_daemon_does_no_harm() {
    use tokio::io::AsyncWriteExt;
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    // Somebody who only looks whether the shim lives, and somebody who speaks another language.
    drop(UnixStream::connect(&shim.socket).await.expect("connected"));
    let mut other = UnixStream::connect(&shim.socket).await.expect("connected");
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let closed = tokio::time::timeout(DEADLINE, other.read(&mut [0])).await.expect("in time");
    assert!(matches!(closed, Ok(0) | Err(_)));
    assert_eq!(daemon.turn("hello").await.1.state, EndState::Completed);
}
