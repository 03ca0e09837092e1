//! What the kernel does for those inside: `tests/torture/probes/calls.py` makes the calls.

use std::collections::BTreeMap;

use ash::link::shim::{EndState, Room};
use ash::wire::weakness::Weakness;

use crate::support::{Host, KEY, Model, Shim, descendants, until};

const NOWHERE: &str = "http://127.0.0.1:1";
const EPERM: &str = "EPERM";
const ENOSYS: &str = "ENOSYS";
const EAFNOSUPPORT: &str = "EAFNOSUPPORT";

/// What is refused inside, with the answer.
const REFUSED: &[(&str, &[&str])] = &[
    (
        EPERM,
        &[
            "acct",
            "adjtimex",
            "bpf",
            "chroot",
            "clock_adjtime",
            "clock_settime",
            "clone NEWNS",
            "clone NEWUSER",
            "delete_module",
            "fanotify_init",
            "finit_module",
            "init_module",
            "ioctl TIOCLINUX + 0",
            "ioctl TIOCLINUX + 0x100000000",
            "ioctl TIOCLINUX + 0xffffffff00000000",
            "ioctl TIOCSETD + 0",
            "ioctl TIOCSETD + 0x100000000",
            "ioctl TIOCSETD + 0xffffffff00000000",
            "ioctl TIOCSTI + 0",
            "ioctl TIOCSTI + 0x100000000",
            "ioctl TIOCSTI + 0xffffffff00000000",
            "ioperm",
            "iopl",
            "kcmp",
            "kexec_load",
            "mount",
            "name_to_handle_at",
            "open_by_handle_at",
            "perf_event_open",
            "personality",
            "pidfd_getfd",
            "pivot_root",
            "process_madvise",
            "process_vm_readv",
            "process_vm_writev",
            "ptrace",
            "quotactl",
            "reboot",
            "setdomainname",
            "sethostname",
            "setns",
            "settimeofday",
            "swapon",
            "syslog",
            "umount2",
            "unshare",
            "unshare nothing",
            "vhangup",
        ],
    ),
    (
        ENOSYS,
        &[
            "a call to come",
            "add_key",
            "clone3",
            "fsmount",
            "fsopen",
            "io_uring_enter",
            "io_uring_register",
            "io_uring_setup",
            "keyctl",
            "lookup_dcookie",
            "modify_ldt",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "request_key",
            "userfaultfd",
            "x32 getpid",
        ],
    ),
    (
        EAFNOSUPPORT,
        &[
            "socket alg",
            "socket bluetooth",
            "socket can",
            "socket inet dccp",
            "socket inet icmp",
            "socket inet sctp",
            "socket inet seqpacket",
            "socket inet6 dccp",
            "socket netlink audit",
            "socket netlink kobject",
            "socket netlink netfilter",
            "socket packet",
            "socket tipc",
            "socket vsock",
            "socket xdp",
        ],
    ),
    ("EACCES", &["write /proc/sys/kernel/hostname"]),
    ("EROFS", &["write /proc/self/mem"]),
    // SIGSYS.
    ("signal 31", &["32-bit call"]),
];
/// What is not.
const ALLOWED: &[&str] = &[
    "ioctl TIOCGWINSZ + 0",
    "ioctl TIOCGWINSZ + 0x100000000",
    "ioctl TIOCGWINSZ + 0xffffffff00000000",
    "personality of now",
    "socket inet",
    "socket inet udp",
    "socket inet6",
    "socket netlink route",
    "socket unix",
];

/// Opens a sandbox that lacks what is accepted, runs a command in it, and gives back what it said.
async fn run(host: &Host, shim: &Shim, weaknesses: &[Weakness], command: &str) -> String {
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    let room = Room { weaknesses: weaknesses.to_vec(), ..host.room() };
    daemon.open_with(room).await.expect("opened");
    daemon.setup(host.setup(NOWHERE)).await.expect("set up");
    std::fs::write(host.path("state/workspace/commands"), command).expect("written");
    let (_, end) = daemon.turn("run: bash /work/commands").await;
    assert_eq!(end.state, EndState::Completed, "{end:?}");
    host.out()
}

async fn probe(weaknesses: &[Weakness]) -> BTreeMap<String, String> {
    let host = Host::new();
    let shim = host.shim();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture/probes/calls.py");
    std::fs::copy(script, host.path("state/workspace/probe.py")).expect("copied");
    let said = run(&host, &shim, weaknesses, "/usr/bin/python3 /work/probe.py 2>&1").await;
    said.lines()
        .map(|line| line.rsplit_once(": ").map(|(name, answer)| (name.to_owned(), answer.to_owned())).expect(&said))
        .collect()
}

/// What is to be said of each call.
fn wanted() -> BTreeMap<String, String> {
    let refused = REFUSED.iter().flat_map(|(answer, names)| names.iter().map(|name| (*name, *answer)));
    let all = refused.chain(ALLOWED.iter().map(|name| (*name, "ok")));
    let intel_only = ["32-bit call", "ioperm", "iopl", "modify_ldt", "x32 getpid"];
    all.filter(|(name, _)| cfg!(target_arch = "x86_64") || !intel_only.contains(name))
        .map(|(name, answer)| (name.to_owned(), answer.to_owned()))
        .collect()
}

#[tokio::test]
async fn calls_that_no_agent_needs_are_refused_and_all_else_works() {
    assert_eq!(probe(&[]).await, wanted());
}

/// That the probe tells a filter from none, and that a weakness is what its name says.
#[tokio::test]
async fn a_sandbox_that_was_accepted_without_filters_has_none() {
    let (without, with) = (probe(&[Weakness::NoSeccomp]).await, wanted());
    for name in [
        "clone3",
        "ioctl TIOCGWINSZ + 0",
        "ioctl TIOCSTI + 0x100000000",
        "open_tree",
        "ptrace",
        "socket vsock",
        "unshare nothing",
    ] {
        let is_told = if with[name] == "ok" { without[name] == "ok" } else { without[name] != with[name] };
        assert!(is_told, "{name}: {}", without[name]);
    }
    // The shim's own filter is below it in any case.
    for name in ["add_key", "bpf", "io_uring_setup", "kexec_load", "keyctl", "perf_event_open", "userfaultfd"] {
        assert_eq!(without[name], EPERM, "{name}");
    }
}

#[tokio::test]
async fn debuggers_work_where_that_was_accepted_and_nothing_else_opens() {
    let answers = probe(&[Weakness::Ptrace]).await;
    let mut wanted = wanted();
    for (name, answer) in [
        ("kcmp", "ok"),
        ("pidfd_getfd", "EBADF"),
        ("process_madvise", "EBADF"),
        ("process_vm_readv", "ok"),
        ("process_vm_writev", "ok"),
        ("ptrace", "ok"),
        ("write /proc/self/mem", "ok"),
    ] {
        wanted.insert(name.to_owned(), answer.to_owned());
    }
    assert_eq!(answers, wanted);
}

/// What is on the host and must not be seen, or not be opened, inside.
#[tokio::test]
async fn what_is_about_the_host_is_not_there_or_closed() {
    let host = Host::new();
    let shim = host.shim();
    let script = "for p in /sys /root /home/agent/.. /var /run/systemd /run/dbus /boot /mnt /srv /media /proc/acpi /proc/scsi; do \
                  echo $p $(ls -A $p 2>/dev/null | wc -l); done; \
                  for p in /proc/kcore /proc/keys /proc/key-users /proc/cmdline /proc/timer_list /proc/kallsyms /proc/sysrq-trigger \
                           /proc/latency_stats /proc/interrupts /proc/modules; do head -c 1 $p >/dev/null 2>&1 && echo reads $p; done; \
                  findmnt --noheadings --list --output TARGET,OPTIONS | grep -v nosuid; \
                  ls -A /dev | tr '\\n' ' '; echo; cat /proc/self/oom_score_adj; cat /proc/1/oom_score_adj";
    let said = run(&host, &shim, &[], script).await;
    let mut lines: Vec<_> = said.lines().collect();
    let (inits, own) = (lines.pop().expect("a score"), lines.pop().expect("a score"));
    let devices = lines.pop().expect("devices");
    assert_eq!(
        lines,
        [
            "/sys 0",
            "/root 0",
            "/home/agent/.. 1",
            "/var 0",
            "/run/systemd 0",
            "/run/dbus 0",
            "/boot 0",
            "/mnt 0",
            "/srv 0",
            "/media 0",
            "/proc/acpi 0",
            "/proc/scsi 0"
        ],
        "{said}"
    );
    let wanted = "console core fd full null ptmx pts random shm stderr stdin stdout tty urandom zero";
    let devices: Vec<_> = devices.split_whitespace().filter(|name| *name != "console").collect();
    assert_eq!(devices, wanted.split(' ').filter(|name| *name != "console").collect::<Vec<_>>());
    let shims = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", shim.child.0.id())).expect("a score");
    let score = |text: &str| text.trim().parse::<i32>().expect("a number");
    assert!(score(&shims) < 1000 && (score(own), score(inits)) == (1000, 1000), "{own} {inits} {shims}");
}

/// All below the shim go before it when memory runs out, and none of them can change that.
#[tokio::test]
async fn a_process_inside_can_not_take_the_shims_place_when_memory_runs_out() {
    let host = Host::new();
    let shim = host.shim();
    let said = run(&host, &shim, &[], "echo -1000 >/proc/self/oom_score_adj; echo 0 >/proc/self/oom_score_adj; echo tried").await;
    assert!(said.ends_with("tried\n") && said.contains("Read-only file system"), "{said}");
    let pid = i32::try_from(shim.child.0.id()).expect("a pid");
    let score = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse::<i32>().ok();
    let own = score(pid).expect("the shim lives");
    let below: Vec<_> = until("there is somebody", || Some(descendants(pid)).filter(|pids| pids.len() >= 3)).await;
    assert!(own < 1000 && below.iter().filter_map(|pid| score(*pid)).all(|score| score == 1000), "{own}");
}

#[tokio::test]
async fn what_runs_inside_is_nicer_than_the_shim_and_can_not_change_that() {
    let host = Host::new();
    let shim = host.shim();
    let script = r#"/usr/bin/python3 - <<'PYTHON'
import os
tried = []
for name, attempt in {
    "less nice": lambda: os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 1),
    "real time": lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)),
}.items():
    try:
        attempt()
        tried.append(name)
    except PermissionError:
        pass
print("nice", os.getpriority(os.PRIO_PROCESS, 0), "done", tried)
PYTHON"#;
    let said = run(&host, &shim, &[], script).await;
    let pid = i32::try_from(shim.child.0.id()).expect("a pid");
    let own = until("the shim lives", || niceness(pid)).await;
    assert_eq!(said, format!("nice {} done []\n", (own + 10).min(19)));
    // Bubblewrap and init, which kills.
    let made: Vec<_> = descendants(pid).into_iter().filter_map(niceness).collect();
    assert!(made.len() >= 2 && made.iter().filter(|nice| **nice == own).count() >= 2, "{own}: {made:?}");
}

/// How nice a process is (proc_pid_stat(5)).
fn niceness(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
}

#[tokio::test]
async fn the_shim_and_bubblewrap_can_gain_no_rights_and_are_filtered_too() {
    let host = Host::new();
    let shim = host.shim();
    run(&host, &shim, &[], "true").await;
    let pid = i32::try_from(shim.child.0.id()).expect("a pid");
    for pid in descendants(pid).into_iter().chain([pid]) {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{pid}: {status}");
    }
}

/// What work needs: languages, threads, pipes, sockets, terminals, files that are watched.
#[tokio::test]
async fn what_agents_work_with_works() {
    let host = Host::new();
    let shim = host.shim();
    let script = r#"set -e
cd /work && git init -q repo && cd repo && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one && git log --oneline | wc -l
/usr/bin/python3 - <<'PYTHON'
import concurrent.futures, multiprocessing, os, pty, select, socket, subprocess, tempfile, threading
def square(n):
    return n * n
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(sum(pool.map(square, range(100))))
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(sum(pool.map(square, range(100))))
for family, address in (socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, "/tmp/socket"):
    with socket.socket(family) as listener, socket.socket(family) as client:
        listener.bind(address); listener.listen(); client.connect(listener.getsockname())
        peer, _ = listener.accept(); client.sendall(b"x"); print(peer.recv(1))
print(socket.socket(16, 3, 0).bind((0, 0)), len(socket.if_nameindex()))
pid, master = pty.fork()
if pid == 0:
    os.execvp("stty", ["stty", "-a"])
print(b"baud" in os.read(master, 4096)); os.waitpid(pid, 0)
poll = select.epoll(); print(poll.poll(0))
print(subprocess.run(["sh", "-c", "echo a | cat"], capture_output=True, text=True).stdout.strip())
with tempfile.TemporaryFile() as file:
    file.write(b"x"); os.sendfile(1, file.fileno(), 0, 0)
PYTHON
if [ -x /usr/bin/node ]; then node -e 'new (require("worker_threads").Worker)("1", {eval: true}).on("exit", () => require("fs").watch("/work").close())'; fi
sleep 0.01 & wait
echo done"#;
    let said = run(&host, &shim, &[], script).await;
    assert_eq!(said, "1\n328350\n328350\nb'x'\nb'x'\nNone 1\nTrue\n[]\na\ndone\n");
}

/// A tool can write the runtime's settings in the workspace, but not lead the runtime elsewhere by them.
#[tokio::test]
async fn settings_in_the_workspace_do_not_lead_the_runtime_past_the_gateway() {
    let Some(host) = Host::with_claude() else { return };
    let model = Model::start(&["--require-key", KEY]);
    let shim = host.shim();
    let settings = host.path("state/workspace/.claude");
    std::fs::create_dir(&settings).expect("made");
    let text = r#"{"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "DISABLE_TELEMETRY": "0", "MINE_TOO": "yes",
        "HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "", "NO_PROXY": "*", "NODE_USE_ENV_PROXY": "0"}}"#;
    std::fs::write(settings.join("settings.json"), text).expect("written");
    let mut daemon = shim.ready(&host, &model.url).await;
    let asked =
        "bash: echo $ANTHROPIC_BASE_URL $DISABLE_TELEMETRY $MINE_TOO $HTTPS_PROXY $https_proxy $NO_PROXY $NODE_USE_ENV_PROXY";
    let (turn, end) = daemon.turn(asked).await;
    let proxy = "http://127.0.0.1:4001";
    let wanted = format!("result: http://127.0.0.1:4000 1 yes {proxy} {proxy} 127.0.0.1,localhost,::1 1");
    assert_eq!((end.state, daemon.result(turn)), (EndState::Completed, wanted));
}
