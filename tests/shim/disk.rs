//! The bound of the disk, with the user of a sandbox: what is ended and what is spared. `tests/disk.rs` has the
//! same over the API.

use ash::link::frame::CHUNK;
use ash::link::shim::{FromShim, Job, PACK_CREDIT, Run, RunEnd, SessionOptions, ToShim};
use ash::wire::limits::Reached;

use crate::support::{Daemon, Host};

const LIMIT: u64 = 16 << 20;

async fn run(daemon: &mut Daemon, op: u64, command: &str) -> RunEnd {
    let job = Job::Shell { command: command.to_owned() };
    let run = Box::new(Run { job, input: false, timeout_ms: None, output_max: Some(0), starts: false });
    daemon.send(&ToShim::Run { op, run }).await;
    loop {
        match daemon.next().await.expect("an answer") {
            FromShim::Ended { op: ended, end } if ended == op => return end,
            FromShim::Failed { op: failed, error } if failed == op => panic!("{command}: {error}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_full_disk_ends_what_fills_it_however_that_hides_and_not_what_packs() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, "http://127.0.0.1:1").await;
    let filled = run(&mut daemon, 900, &format!("head -c {} /dev/urandom >big", (3 * PACK_CREDIT as usize) * CHUNK)).await;
    assert_eq!((filled.code, filled.limit), (Some(0), None));
    let options = host.setup("").options;
    let limits = ash::link::shim::RunLimits { disk_bytes: Some(LIMIT), disk_files: Some(1000), ..Default::default() };
    daemon.send(&ToShim::Configure { options: SessionOptions { limits, ..options } }).await;
    daemon.takes = false;
    daemon.begin_pack(&["bomb", "closed", "many"]).await;
    let bombs = [
        "head -c 1G /dev/zero >bomb",
        "rm bomb; exec 3>bomb; rm bomb; head -c 1G /dev/zero >&3",
        "mkdir closed; exec 3>closed/bomb; chmod 0 closed; head -c 1G /dev/zero >&3",
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
