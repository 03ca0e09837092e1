//! The bound of the disk, with the user of a sandbox: what is ended and what is spared. `tests/disk.rs` has the
//! same over the API.

use ash::link::frame::CHUNK;
use ash::link::shim::{DISK_FULL, EndState, FromShim, Job, PACK_CREDIT, Run, RunEnd, SessionOptions, ToShim};
use ash::wire::limits::Reached;

use ash::wire::event::Kind;

use crate::support::{Daemon, Host, until};

const LIMIT: u64 = 16 << 20;

async fn run(daemon: &mut Daemon, op: u64, command: &str) -> RunEnd {
    let job = Job::Shell { command: command.to_owned() };
    let run = Box::new(Run { job, input: false, timeout_ms: None, output_max: Some(0), starts: false, terminal: None });
    daemon.send(&ToShim::Run { op, run }).await;
    loop {
        match daemon.next().await.expect("an answer") {
            FromShim::Ended { op: ended, end } if ended == op => return end,
            FromShim::Failed { op: failed, error } if failed == op => panic!("{command}: {error}"),
            _ => {}
        }
    }
}

/// Sets what workspace and HOME may take.
async fn limit(daemon: &mut Daemon, host: &Host) {
    let options = host.setup("").options;
    let limits = ash::link::shim::RunLimits { disk_bytes: Some(LIMIT), disk_files: Some(1000), ..Default::default() };
    daemon.send(&ToShim::Configure { options: SessionOptions { limits, ..options } }).await;
}

#[tokio::test]
async fn a_bundle_that_becomes_too_much_is_told_from_one_that_failed() {
    const OP: u64 = 900;
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, "http://127.0.0.1:1").await;
    limit(&mut daemon, &host).await;
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2 * LIMIT);
    header.set_mode(0o644);
    let large = std::io::Read::take(std::io::repeat(7), 2 * LIMIT);
    archive.append_data(&mut header, "work/large", large).expect("appended");
    let archive = archive.into_inner().expect("whole");
    daemon.send(&ToShim::Lay { op: OP, replace: false, state: false }).await;
    daemon.set_op(OP);
    // All but its end, which it waits for.
    let (most, end) = archive.split_at(archive.len() - 512);
    for chunk in most.chunks(CHUNK) {
        daemon.send_chunk(chunk).await;
    }
    let is_told = |events: &[ash::link::shim::ShimEvent]| {
        events.iter().any(|event| event.kind == Kind::Lifecycle && event.data.get().contains(r#""limit":"disk""#))
    };
    while !matches!(daemon.next().await.expect("an answer"), FromShim::Events { events } if is_told(&events)) {}
    daemon.send_chunk(end).await;
    daemon.send_chunk(b"").await;
    assert_eq!(daemon.answer().await, Err(DISK_FULL.to_owned()));
}

#[tokio::test]
async fn a_full_disk_ends_what_fills_it_however_that_hides_and_not_what_packs() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, "http://127.0.0.1:1").await;
    let filled = run(&mut daemon, 900, &format!("head -c {} /dev/urandom >big", (3 * PACK_CREDIT as usize) * CHUNK)).await;
    assert_eq!((filled.code, filled.limit), (Some(0), None));
    limit(&mut daemon, &host).await;
    daemon.takes = false;
    daemon.begin_pack(&["bomb", "closed", "many"]).await;
    let bombs = [
        "head -c 16G /dev/zero >bomb",
        "rm bomb; exec 3>bomb; rm bomb; head -c 16G /dev/zero >&3",
        "mkdir closed; exec 3>closed/bomb; chmod 0 closed; head -c 16G /dev/zero >&3",
        "chmod 700 closed; rm -r closed; mkdir many; cd many; seq 2000 | xargs touch",
    ];
    for (op, bomb) in (901..).zip(bombs) {
        let end = run(&mut daemon, op, &format!("{bomb}; tail -f /dev/null")).await;
        assert_eq!((end.signal, end.limit), (Some(9), Some(Reached::Disk)), "{bomb}");
    }
    let end = run(&mut daemon, 950, "rm -r many").await;
    assert_eq!((end.code, end.limit), (Some(0), None));
    daemon.takes = true;
    daemon.take(PACK_CREDIT).await;
    let archive = daemon.packed().await.expect("packed");
    assert!(archive.len() > 3 * PACK_CREDIT as usize * CHUNK, "{}", archive.len());
}

/// Packs while whatever `meanwhile` does with what came so far happens.
async fn pack_while(host: &Host, daemon: &mut Daemon, mut meanwhile: impl FnMut(&[u8])) -> Result<usize, String> {
    const OP: u64 = 960;
    daemon.begin_pack(&[]).await;
    loop {
        // It is answered at once, and so tells how far the chunks are.
        daemon.send(&ToShim::Open { op: OP, room: host.room() }).await;
        loop {
            match daemon.next().await.expect("an answer") {
                FromShim::Packed { op, .. } if op == daemon.op() => return Ok(daemon.archive.len()),
                FromShim::Failed { op, error } if op == daemon.op() => return Err(error),
                FromShim::Done { op: OP } => break,
                _ => {}
            }
        }
        meanwhile(&daemon.archive);
    }
}

#[tokio::test]
async fn what_is_moved_while_it_is_packed_does_not_make_an_archive_without_end() {
    const FOLDERS: usize = 100;
    const FILE: usize = 8 << 20;
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, "http://127.0.0.1:1").await;
    let made = format!("for n in $(seq 100 {}); do mkdir $n; done; head -c {FILE} /dev/urandom >100/file", 99 + FOLDERS);
    assert_eq!(run(&mut daemon, 900, &made).await.code, Some(0));
    limit(&mut daemon, &host).await;
    let (mut at, mut searched) = (0, 0);
    let path = |at: usize| format!("{}/file", 100 + at);
    // As what was left running inside would, which waits until a file is opened.
    let moves = |archive: &[u8]| {
        let blocks = archive[searched..].chunks_exact(512);
        searched += blocks.len() * 512;
        if blocks.into_iter().any(|block| block.starts_with(format!("work/{}", path(at)).as_bytes())) {
            let [from, to] = [path(at), path(at + 1)].map(|path| host.path("state/workspace").join(path));
            std::fs::rename(from, to).expect("moved");
            at += 1;
        }
    };
    let error = pack_while(&host, &mut daemon, moves).await.expect_err("stopped");
    let wanted =
        "disk: more than 87 MiB were packed, and workspace and HOME do not make as much: they change while they are packed";
    assert_eq!(error, wanted);
    assert!(daemon.archive.len() < 89 << 20, "{} bytes", daemon.archive.len());
    assert!(at * FILE > LIMIT as usize, "it was packed {at} times");
    // What has no more than it may is packed, and so is what has more and stays as it is.
    assert!(daemon.pack(&[]).await.expect("packed").len() > FILE);
    daemon.send(&ToShim::Configure { options: host.setup("").options }).await;
    let large = 100 << 20;
    assert_eq!(run(&mut daemon, 901, &format!("head -c {large} /dev/urandom >large")).await.code, Some(0));
    limit(&mut daemon, &host).await;
    assert!(daemon.pack(&[]).await.expect("packed").len() > FILE + large);
}

#[tokio::test]
async fn what_a_program_left_running_is_ended_where_it_fills_the_disk_while_it_is_packed() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, "http://127.0.0.1:1").await;
    limit(&mut daemon, &host).await;
    let left = "until [ -e go ]; do sleep 0.1; done; head -c 1G /dev/zero >bomb; tail -f /dev/null";
    let filled = format!("head -c {} /dev/urandom >big", 3 * PACK_CREDIT as usize * CHUNK);
    let begun = format!("{filled}; setsid sh -c '{left}' </dev/null >/dev/null 2>&1 & test -s big");
    assert_eq!(run(&mut daemon, 900, &begun).await.code, Some(0));
    daemon.takes = false;
    daemon.begin_pack(&["bomb"]).await;
    std::fs::write(host.path("state/workspace/go"), "").expect("written");
    let is_told = |events: &[ash::link::shim::ShimEvent]| {
        events.iter().any(|event| event.kind == Kind::Lifecycle && event.data.get().contains(r#""limit":"disk""#))
    };
    while !matches!(daemon.next().await.expect("an answer"), FromShim::Events { events } if is_told(&events)) {}
    let size = || std::fs::metadata(host.path("state/workspace/bomb")).expect("there").len();
    let mut before = size();
    until("it has ended", || (std::mem::replace(&mut before, size()) == size()).then_some(())).await;
    daemon.takes = true;
    daemon.take(PACK_CREDIT).await;
    assert!(daemon.packed().await.expect("packed").len() > 3 * PACK_CREDIT as usize * CHUNK);
}

#[tokio::test]
async fn a_runtime_that_says_too_much_is_ended_by_name_and_the_next_turn_runs() {
    let host = Host::new();
    let shim = host.shim_with(|command| {
        command.args(["--said-max", &(4 << 20).to_string()]);
    });
    let mut daemon = shim.ready(&host, "http://127.0.0.1:1").await;
    // Each has more than half of it.
    for _ in 0..2 {
        let (_, end) = daemon.turn("flood: 40").await;
        assert_eq!(end.state, EndState::Completed, "{end:?}");
    }
    let before = daemon.events.len();
    let (turn, end) = daemon.turn("flood: 100000").await;
    let cause = "disk: the runtime has said more than 4 MiB since the last message";
    assert_eq!((end.state, end.cause.as_deref()), (EndState::Interrupted, Some(cause)));
    let events = &daemon.events[before..];
    let said: usize = events.iter().map(|event| event.data.get().len()).sum();
    assert!(said < 5 << 20, "{said} bytes");
    let is_told = |data: &str| data.contains(r#""limit":"disk""#) && data.contains("the runtime has said more");
    assert!(events.iter().any(|event| event.turn == Some(turn) && event.kind == Kind::Lifecycle && is_told(event.data.get())));
    let (turn, end) = daemon.turn("hello").await;
    assert_eq!((end.state, daemon.result(turn).as_str()), (EndState::Completed, "hello"));
}
