//! The list of cases: what is tried from inside, and what it is to be refused with. Data alone, since the
//! suite in `main.rs`, the machine in `tests/box_torture.rs` and the table of the README go by it.

/// Who tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The agent's own tool call: a probe of `tests/torture/probes` with arguments. Words in braces are
    /// filled in by `stage.rs`.
    Tool(&'static str),
    /// Nobody: the host looks for what a sandbox may have left.
    Host,
    /// The agent's own tool call in a machine whose kernel enforces every limit (`machine.py`), under this name.
    Machine(&'static str),
}

/// One attack.
#[derive(Debug)]
pub struct Case {
    /// What it is aimed at.
    pub group: &'static str,
    /// Its name, unique in its group.
    pub name: &'static str,
    /// What is tried.
    pub tried: &'static str,
    /// What every attempt is to be refused with. Anything else is a finding.
    pub refused: &'static str,
    /// Who tries.
    pub by: By,
}

const fn case(group: &'static str, name: &'static str, tried: &'static str, refused: &'static str, by: By) -> Case {
    Case { group, name, tried, refused, by }
}

const fn tool(group: &'static str, name: &'static str, tried: &'static str, refused: &'static str, probe: &'static str) -> Case {
    case(group, name, tried, refused, By::Tool(probe))
}

const fn machine(name: &'static str, tried: &'static str, refused: &'static str, probe: &'static str) -> Case {
    case("bombs without a bound", name, tried, refused, By::Machine(probe))
}

const FILES: &str = "files";
const PROCESSES: &str = "processes";
const SOCKETS: &str = "sockets";
const CALLS: &str = "system calls";
const NAMESPACES: &str = "namespaces and mounts";
const BOMBS: &str = "bombs";
const BESIDE: &str = "init and shim";
const EGRESS: &str = "egress";
const CANARY: &str = "canary";

/// All of them, by group, in the order in which they are tried.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    tool(FILES, "of the host", "its accounts, keys, logs, services, modules", "ENOENT", "files.py of_the_host"),
    tool(FILES, "of the daemon", "database, key, log, snapshots, configuration, sockets", "ENOENT", "files.py of_the_daemon {data}"),
    tool(FILES, "of another sandbox", "its workspace, HOME and spool, from every root in `/proc`", "EACCES, ENOENT", "files.py of_another_sandbox {other}"),
    tool(FILES, "through /proc", "`root`, `cwd`, `exe`, `fd`, `maps`, `mem` of init and of all others", "EACCES, ENOENT", "files.py of_other_processes {data}"),
    tool(FILES, "hard links", "to files of the host that are shown, by path and by descriptor", "EXDEV", "files.py by_hard_link"),
    tool(FILES, "inherited descriptors", "up from every folder that is open, in this process and those above", "EACCES, all lead to this root", "files.py by_descriptors"),
    tool(FILES, "file handles", "`open_by_handle_at`, which knows no mounts", "EPERM", "files.py by_handle"),
    tool(FILES, "devices", "disks, memory, kernel messages, and devices of one's own", "ENOENT, EPERM, EROFS", "files.py devices"),
    tool(FILES, "writing outside", "`/usr`, `/etc`, the policy of the runtime, the root", "EACCES, ENOENT, EROFS", "files.py written_outside"),
    tool(FILES, "setuid programs", "one's own and the host's; other users, groups, owners", "EINVAL, EPERM", "files.py setuid_programs"),
    tool(FILES, "links for the host", "links, pipes and sockets where the host reads, writes and deletes; live and in the snapshot", "400, 404", "files.py links_for_the_host {data} {other}"),

    tool(PROCESSES, "seen", "daemon, shims, other sandboxes, threads of the kernel", "none is seen", "processes.py seen {marker}"),
    tool(PROCESSES, "signals", "to daemon, shims and others by the host's numbers, `kill` and `pidfd_open`", "ESRCH", "processes.py signalled {pids}"),
    tool(PROCESSES, "tracing", "runtime, init, and what has a number on the host", "EPERM", "processes.py traced {pids}"),
    tool(PROCESSES, "memory of the runtime", "`process_vm_readv`, `process_vm_writev`, `/proc/*/mem`", "EACCES, EPERM, EROFS", "processes.py memory_of_the_runtime"),
    tool(PROCESSES, "descriptors of the runtime", "`pidfd_getfd`", "EPERM", "processes.py descriptors_of_the_runtime"),
    tool(PROCESSES, "priorities", "nice, real time, the last place when memory runs out", "EACCES, EPERM, EROFS", "processes.py priorities"),
    tool(PROCESSES, "core patterns", "core pattern, module loader, SysRq, uevent helper, release agent", "ENOENT, EROFS", "processes.py core_patterns"),
    tool(PROCESSES, "left behind", "processes that leave group, terminal and parent, and ignore signals", "gone with the session", "processes.py kept_after_the_turn {marker}"),

    tool(SOCKETS, "of services", "D-Bus, systemd, the journal, Docker, containerd, X11", "ENOENT", "sockets.py of_services"),
    tool(SOCKETS, "of Ash", "control socket, launcher, shims of this and other sandboxes", "ENOENT", "sockets.py of_ash {sockets}"),
    tool(SOCKETS, "abstract", "one that the host listens at, and well-known names", "ECONNREFUSED", "sockets.py abstract {abstract}"),
    tool(SOCKETS, "of the host's loopback", "the API, the model, usual services", "ECONNREFUSED", "sockets.py of_the_hosts_loopback {ports}"),
    tool(SOCKETS, "of another sandbox", "its port, abstract socket, System V memory, files in memory", "ECONNREFUSED, ENOENT", "sockets.py of_another_sandbox 4242 of-the-other 4242"),
    tool(SOCKETS, "raw", "raw, packet, XDP, ping", "EAFNOSUPPORT, EPERM", "sockets.py raw"),
    tool(SOCKETS, "rare families", "vsock, ciphers, Bluetooth, CAN, TIPC, RDS, and others", "EAFNOSUPPORT", "sockets.py rare"),
    tool(SOCKETS, "netlink", "every protocol but that of routes", "EAFNOSUPPORT", "sockets.py netlink"),
    tool(SOCKETS, "routes", "a link, an address, a route, a neighbour, a rule", "EPERM", "sockets.py routes"),

    tool(CALLS, "io_uring", "`io_uring_setup`, `_enter`, `_register`", "ENOSYS", "calls.py io_uring_setup io_uring_enter io_uring_register"),
    tool(CALLS, "keyrings", "`add_key`, `request_key`, `keyctl`", "ENOSYS", "calls.py add_key request_key keyctl"),
    tool(CALLS, "programs in the kernel", "`bpf`, `perf_event_open`", "EPERM", "calls.py bpf perf_event_open"),
    tool(CALLS, "page faults of one's own", "`userfaultfd`", "ENOSYS", "calls.py userfaultfd"),
    tool(CALLS, "typing into terminals", "`TIOCSTI`, `TIOCLINUX`, `TIOCSETD`, also with more than 32 bits", "EPERM", "'calls.py' 'ioctl TIOCSTI' 'ioctl TIOCLINUX' 'ioctl TIOCSETD'"),
    tool(CALLS, "clone flags", "`clone3`, `clone` with new namespaces", "ENOSYS, EPERM", "'calls.py' clone3 'clone NEWUSER' 'clone NEWNS'"),
    tool(CALLS, "modules and kernels", "modules, `kexec_load`, `reboot`, swap, quotas, accounting", "EPERM", "calls.py init_module finit_module delete_module kexec_load reboot swapon quotactl acct"),
    tool(CALLS, "clocks", "`settimeofday`, `clock_settime`, `adjtimex`", "EPERM", "calls.py settimeofday clock_settime clock_adjtime adjtimex"),
    tool(CALLS, "watching", "`fanotify_init`, `kcmp`, `syslog`, `process_madvise`", "EPERM", "calls.py fanotify_init kcmp syslog process_madvise"),
    tool(CALLS, "the processor", "ports, `personality`, segments", "ENOSYS, EPERM", "calls.py ioperm iopl personality modify_ldt"),
    tool(CALLS, "other languages of the kernel", "numbers of x32, and calls of 32 bits", "ENOSYS, signal 31", "'calls.py' 'x32 getpid' '32-bit call'"),
    tool(CALLS, "calls to come", "a number that no kernel has yet", "ENOSYS", "'calls.py' 'a call to come'"),

    tool(NAMESPACES, "new namespaces", "each kind, alone and in a user namespace, also by programs", "EPERM", "namespaces.py made"),
    tool(NAMESPACES, "other namespaces", "those of init, the runtime and one's own", "EACCES, EPERM", "namespaces.py entered"),
    tool(NAMESPACES, "mounts", "remounts, new ones, what hides parts of `/proc`, `chroot`, `pivot_root`", "EPERM", "namespaces.py mounts"),
    tool(NAMESPACES, "mounts by descriptor", "`open_tree`, `move_mount`, `fsopen`, `mount_setattr`", "ENOSYS", "namespaces.py by_descriptor"),
    tool(NAMESPACES, "names and maps", "the host's name, maps of users, more namespaces", "EPERM, EROFS", "namespaces.py names_and_maps"),
    tool(NAMESPACES, "control groups", "the limits of the sandbox", "ENOENT", "namespaces.py control_groups"),

    tool(BOMBS, "forks", "300 processes at once", "300 were made, and ended", "bombs.py forks 300"),
    tool(BOMBS, "memory", "256 MB of which every page is used", "256 MB were held, and given back", "bombs.py memory 256"),
    tool(BOMBS, "descriptors", "100000 open files, and a higher limit", "EMFILE, EPERM", "bombs.py descriptors"),
    tool(BOMBS, "a large file", "more than a file may have", "EFBIG", "bombs.py file_size 40"),
    tool(BOMBS, "files in memory", "`/tmp`, `/dev/shm`, `/dev`, the root", "ENOSPC, EROFS", "bombs.py memory_as_files 2000"),
    tool(BOMBS, "words", "40 MB on standard output and error", "cut short, and the turn completes", "bombs.py words 20"),
    tool(BOMBS, "the processor", "four processes that turn round", "4 burnt for 2 s, and ended", "bombs.py processor 2 4"),
    tool(BOMBS, "zombies", "600 children that nobody waits for", "init took them all", "bombs.py zombies 300"),
    tool(BOMBS, "a full disk", "files until something ends it", "disk, and the session goes on", "bombs.py full_disk 200"),
    tool(BOMBS, "very many files", "empty ones, until something ends it", "disk, and the session goes on", "bombs.py many_files 400000"),
    tool(BOMBS, "sleep for ever", "a tool that does not end", "turn_time, and the session goes on", "bombs.py asleep"),

    tool(BESIDE, "init ended or stopped", "every signal there is, to number 1", "init goes on", "beside.py init_ended"),
    tool(BESIDE, "the runtime stopped", "SIGSTOP, so that the turn never ends", "turn_time, and the session goes on", "beside.py runtime_stopped"),
    tool(BESIDE, "the runtime killed", "SIGKILL, in its turn", "the turn fails, and the session goes on", "beside.py runtime_ended"),
    tool(BESIDE, "all killed", "every process that can be signalled", "the turn fails, and the session goes on", "processes.py all_of_them"),
    tool(BESIDE, "events in the runtime's voice", "its descriptors and init's, standard output and error", "EACCES, ENXIO", "beside.py its_voice"),
    tool(BESIDE, "events in its transcript", "the files by which it remembers", "the log has none of it", "beside.py its_transcript"),
    tool(BESIDE, "init imitated", "its sockets, and listeners beside its own", "EACCES, EADDRINUSE, ENOENT, ENXIO", "beside.py imitated"),
    tool(BESIDE, "other calls of the model's API", "models, batches, files, keys, other spellings of the path", "404", "beside.py other_calls"),
    tool(BESIDE, "requests smuggled to the model", "two lengths, odd encodings, broken lines", "400", "beside.py smuggled_to_the_model"),
    tool(BESIDE, "huge heads", "4 MiB of one header, one path, ten thousand headers; gateway and proxy", "431", "beside.py huge_heads"),
    tool(BESIDE, "a huge body", "one that says it has a tebibyte", "413", "beside.py huge_body"),
    tool(BESIDE, "ten thousand connections", "that say nothing, to gateway and proxy", "all of 10000 were opened; then the proxy answers 403", "beside.py many_connections 10000 silent"),
    tool(BESIDE, "slow heads", "two thousand connections that never finish theirs", "all of 2000 were opened; then the proxy answers 403", "beside.py many_connections 2000 slow"),

    tool(EGRESS, "what is allowed", "the way is open, so that the rest is refused for its own sake", "200", "egress.py allowed"),
    tool(EGRESS, "without the proxy", "TCP and UDP to any address", "ENETUNREACH", "egress.py without_the_proxy"),
    tool(EGRESS, "data in names", "names that somebody would look up, and resolvers", "403, no resolver, socks 2", "egress.py names_looked_up"),
    tool(EGRESS, "names off the list", "neighbours of the allowed names, user parts, wild cards", "403, socks 2", "egress.py names_off_the_list"),
    tool(EGRESS, "case and trailing dot", "one name in other letters is the same target", "200", "egress.py one_name_in_other_letters"),
    tool(EGRESS, "ports off the list", "22, 25, 53, 8080, and what is no port", "403", "egress.py ports_off_the_list"),
    tool(EGRESS, "null bytes", "in names of HTTP and SOCKS", "400, socks 2", "egress.py null_bytes"),
    tool(EGRESS, "CR and LF", "in names, lines and headers", "400, socks 2", "egress.py line_ends"),
    tool(EGRESS, "relayed CONNECT", "a tunnel in a tunnel, and back to the proxy", "400, 403, closed", "egress.py relayed_connect"),
    tool(EGRESS, "names of inner addresses", "private, loopback, link-local, carrier, multicast, metadata, mapped, NAT64, the host's own", "403", "egress.py private_addresses"),
    tool(EGRESS, "spellings of addresses", "short, octal, hexadecimal, one number, IPv6 with IPv4 in it, zones", "403", "egress.py spellings_of_addresses"),
    tool(EGRESS, "rebinding", "a name whose answer changes", "200, then 403", "egress.py rebinding"),
    tool(EGRESS, "two kinds of answers", "public and loopback in one", "200", "egress.py both_kinds_of_answers"),
    tool(EGRESS, "redirects", "an allowed server that sends elsewhere", "302, 403", "egress.py redirects"),
    tool(EGRESS, "another name in TLS", "none, another, one below, a damaged one; at 443 and 80", "alert 49", "egress.py names_in_tls"),
    tool(EGRESS, "other protocols at 443", "HTTP, SSH, SMTP, SSL 2", "closed", "egress.py other_protocols_at_443"),
    tool(EGRESS, "WebSocket", "a change of protocol, behind which nobody looks", "200, 403", "egress.py websocket"),
    tool(EGRESS, "HTTP/2 authority", "a host that stands in a frame", "closed", "egress.py http2_authority"),
    tool(EGRESS, "requests smuggled", "lengths, encodings, hosts that differ", "400, 403, 502", "egress.py smuggled_requests"),
    tool(EGRESS, "requests behind a body", "both lengths at once", "200", "egress.py smuggled_behind_a_body"),
    tool(EGRESS, "huge heads", "a mebibyte of one header, also in a tunnel", "431", "egress.py huge_heads"),
    tool(EGRESS, "half-open connections", "300 that begin and do not go on", "200", "egress.py half_open"),
    tool(EGRESS, "other commands of SOCKS", "BIND, UDP, unknown kinds, inner addresses, no name", "socks 2, socks 7, socks 8", "egress.py other_commands_of_socks"),

    tool(CANARY, "in environments", "and arguments, of all processes inside", "not there", "canary.py in_environments {head} {tail}"),
    tool(CANARY, "in files", "all that can be read inside", "not there", "canary.py in_files {head} {tail}"),
    tool(CANARY, "in memory", "of all processes that can be read", "not there", "canary.py in_memory {head} {tail}"),
    case(CANARY, "on the host", "database, spools, workspaces, snapshots, journal, answers of the API", "not there", By::Host),

    machine("forks", "until the kernel refuses, and again", "EAGAIN", "forks"),
    machine("memory", "more than there is", "killed for memory", "memory"),
    machine("descriptors", "in every process there may be", "EMFILE", "descriptors"),
    machine("words", "200 MB on standard output", "cut short, and the turn completes", "words"),
    machine("the processor", "as many processes as there may be", "throttled", "processor"),
    machine("zombies", "hundreds of children that nobody waits for", "init took them all", "zombies"),
    machine("canary in the journal and the units", "and in the database, as root of the host", "not there", "canary"),
];
