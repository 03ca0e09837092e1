//! What runs inside turns on the shim. What an agent can try by its tools alone is in `tests/torture`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use ash::link::shim::EndState;
use ash::wire::event::Kind;

use crate::support::{Host, KEY, Model, Shim, UID, is_root};

const NOWHERE: &str = "http://127.0.0.1:1";

/// Calls the model from inside; a file, so that nothing has to be escaped on its way.
const CALL: &str = r#"exec 3<>/dev/tcp/127.0.0.1/4000
b='{"model":"m","messages":[{"role":"user","content":"auth?"}]}'
printf 'POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %s\r\n\r\n%s' ${#b} "$b" >&3
head -n 1 <&3
"#;

fn write(host: &Host, name: &str, text: &str) {
    fs::write(host.path("state/workspace").join(name), text).expect("written");
}

#[tokio::test]
async fn what_a_runtime_left_behind_is_gone_before_the_workspace_is_unpacked_again() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    write(
        &host,
        "commands",
        r#"ln -s /home/agent /work/linked; ln -s /etc/passwd /work/CLAUDE.md; mkdir -p /work/d/e; chmod 0 /work/d
setsid bash -c 'trap "" TERM HUP; while :; do : >/work/again; : >/home/agent/alive; done' >/dev/null 2>&1 </dev/null &
until [ -e /home/agent/alive ]; do :; done; echo started
"#,
    );
    daemon.turn("run: bash /work/commands").await;
    assert_eq!(host.out(), "started\n");
    let mut builder = tar::Builder::new(Vec::new());
    for path in ["CLAUDE.md", "linked/inner", "d/e/f"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, &b"new"[..]).expect("appended");
    }
    daemon.unpack(&builder.into_inner().expect("finished")).await.expect("unpacked");
    let work = host.path("state/workspace");
    let mut names: Vec<_> = fs::read_dir(&work).expect("read").map(|entry| entry.expect("one").file_name()).collect();
    names.sort();
    assert_eq!(names, ["CLAUDE.md", "d", "linked"]);
    assert!(!work.join("linked").is_symlink() && !host.path("state/home/inner").exists());
    let (_, end) = daemon.turn("run: pgrep -f [a]live || echo gone").await;
    assert_eq!((end.state, host.out().as_str()), (EndState::Completed, "gone\n"));
}

fn limit_tasks(shim: &Shim, limit: &str) {
    let mut prlimit = Command::new("prlimit");
    if is_root() {
        // Whose process it is may always lower and raise the soft limit.
        prlimit.uid(UID).gid(UID);
    }
    let pid = shim.child.0.id().to_string();
    assert!(prlimit.args(["--pid", &pid, &format!("--nproc={limit}:")]).status().expect("prlimit starts").success());
}

#[tokio::test]
async fn a_shim_that_can_start_no_thread_lives_on() {
    let host = Host::new();
    let model = Model::start(&["--require-key", KEY]);
    // A name, which has to be looked up.
    let url = model.url.replace("127.0.0.1", "localhost");
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &url).await;
    write(&host, "commands", CALL);
    daemon.turn("hello").await;
    limit_tasks(&shim, "1");
    let (_, end) = daemon.turn("run: bash /work/commands").await;
    assert_eq!((end.state, host.out().trim()), (EndState::Completed, "HTTP/1.1 502 Bad Gateway"));
    limit_tasks(&shim, "10000");
    let (_, end) = daemon.turn("run: bash /work/commands").await;
    assert_eq!((end.state, host.out().trim()), (EndState::Completed, "HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn memory_that_is_a_file_system_has_a_size() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    write(
        &host,
        "commands",
        "for p in /dev /dev/shm /dev/pts /dev/mqueue /tmp; do touch $p/probe 2>/dev/null && df --output=size -B1 $p | tail -n 1; done; \
         echo x >/dev/null && head -c 4 /dev/urandom | wc -c\n",
    );
    daemon.turn("run: bash /work/commands").await;
    let size = (64 << 20).to_string();
    let out = host.out();
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), [&size, &size, "4"], "{out}");
}

#[tokio::test]
async fn connections_to_the_gateway_without_end_leave_the_session_usable() {
    let host = Host::new();
    let model = Model::start(&["--require-key", KEY]);
    let shim = host.shim();
    let mut daemon = shim.ready(&host, &model.url).await;
    let flood = r#"ulimit -n 4096
for ((i = 0; i < 2000; i++)); do exec {fd}<>/dev/tcp/127.0.0.1/4000 || break; printf 'POST /v1/messages HTTP/1.1\r\nx: ' >&$fd; done 2>/dev/null
echo flooded
"#;
    write(&host, "flood", flood);
    write(&host, "commands", &format!("timeout 10 bash /work/flood; {CALL}"));
    let (_, end) = daemon.turn("run: bash /work/commands").await;
    assert_eq!(end.state, EndState::Completed, "{end:?}");
    assert!(host.out().ends_with("HTTP/1.1 200 OK\r\n"), "{}", host.out());
    let (_, end) = daemon.turn("hello").await;
    assert_eq!(end.state, EndState::Completed);
    assert!(daemon.events.iter().any(|event| event.kind == Kind::TurnEnded));
}
